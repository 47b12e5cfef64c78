# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMUs that a test starts itself, and what it does to them from outside."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'live'))

from gi.repository import GLib  # noqa: E402

from kit import guests  # noqa: E402
from kit.loop import wait_exit, wait_for  # noqa: E402

ACCEL = 'kvm' if guests.kvm() else 'tcg'


class Outside:
    """A QMP client of a test's own, on a second monitor: the first is the broker's."""

    def __init__(self, path, limit=30):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(limit)

        def connect():
            try:
                self.socket.connect(str(path))
            except OSError:
                return False
            return True
        wait_for(connect, limit, f'{path} listens', poll=0.02)
        self.file = self.socket.makefile('rw', encoding='utf-8')
        self.greeting = json.loads(self.file.readline())
        self('qmp_capabilities')

    def __call__(self, command, **arguments):
        self.file.write(json.dumps({'execute': command, 'arguments': arguments}) + '\n')
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if 'error' in answer:
                raise AssertionError(f'{command}: {answer["error"]}')
            if 'return' in answer:
                return answer['return']

    def close(self):
        self.file.close()
        self.socket.close()


class Qemu:
    """One QEMU, with a monitor for the broker in `directory` and one for the test beside it."""

    def __init__(self, scope, directory, file, *arguments, name=None, uuid=None, memory=32, paused=False, disk=None):
        self.path = pathlib.Path(directory) / file
        self.outside_path = self.path.with_suffix('.outside')
        argv = ['qemu-system-x86_64', '-machine', f'pc,accel={ACCEL}', '-m', str(memory), '-display', 'none',
                '-nodefaults', '-qmp', f'unix:{self.path},server=on,wait=off',
                '-qmp', f'unix:{self.outside_path},server=on,wait=off', *arguments]
        if name:
            argv += ['-name', f'guest={name.replace(",", ",,")}']
        if uuid:
            argv += ['-uuid', uuid]
        if paused:
            argv += ['-S']
        if disk:
            argv += ['-drive', f'file={disk},format=raw,if=virtio']
        self.log = scope.directory() / 'qemu.log'
        with self.log.open('wb') as log:
            self.process = scope.spawn(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._outside = None

    @property
    def outside(self):
        if self._outside is None:
            self._outside = Outside(self.outside_path)
        return self._outside

    def kill(self):
        self.process.kill()
        wait_exit(self.process)

    def signal(self, number):
        self.process.send_signal(number)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: self._state() == 'T', 10, 'QEMU is stopped', poll=0.01)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def _state(self):
        with open(f'/proc/{self.process.pid}/stat', encoding='ascii', errors='replace') as f:
            return f.read().rsplit(')', 1)[1].split()[0]

    def wait(self, limit=30):
        return wait_exit(self.process, limit)


def story_of(recorder, path, after=0):
    """What happened to a domain, in words: 'Started(booted)'; inferred ones with a question mark."""
    words = []
    for e in recorder.of(path, after=after):
        if (e.event, e.reason) == ('Updated', 'job'):
            continue  # its list of jobs, which is not the hypervisor's
        words.append(f'{e.event}{f"({e.reason})" if e.reason else ""}{"?" if e.inferred else ""}')
    return words


def history_of(vireod, path, after=0):
    """The same from the broker's history, which has also what nobody could hear: of before it had its name."""
    epoch = vireod.get('/org/vireo1', 'Manager', 'Epoch')
    words = []
    while True:
        version, more, events = vireod.manager('GetEvents', '(stuta{sv})', epoch, after, 0, 0,
                                               {'objects': GLib.Variant('ao', [path])})
        for event in events:
            reason, inferred = event[5], event[8].get('inferred', False)
            if (event[4], reason) == ('Updated', 'job'):
                continue
            words.append(f'{event[4]}{f"({reason})" if reason else ""}{"?" if inferred else ""}')
        after = version
        if not more:
            return words


class Untouched:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(8)
        self.socket.setblocking(False)

    def touched(self):
        try:
            self.socket.accept()
        except BlockingIOError:
            return False
        return True


def qemus_of(directory):
    """Return the processes whose command line names that directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as f:
                if os.fsencode(f'{directory}/') in f.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def missing():
    return guests.missing()

