# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the benchmarks share."""

import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'live'))

from kit import vireod  # noqa: E402  pylint: disable=wrong-import-position
from kit.loop import wait_for  # noqa: E402  pylint: disable=wrong-import-position


def median(values):
    return sorted(values)[len(values) // 2]


def say(what, value):
    print(f'  {what:<72} {value}', flush=True)


def status(pid, key):
    """Return a number of /proc/PID/status."""
    for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith(key + ':'):
            return int(line.split()[1])
    raise KeyError(key)


def resident(pid):
    return status(pid, 'VmRSS') * 1024


def cpu_seconds(pid):
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(') ', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


class Broker:
    """A vireod without anybody who listens."""

    def __init__(self, where, bus, uri, state=None, environment=None, prefix=()):
        state = where.directory(state or 'state-' + str(abs(hash(uri))))
        before = time.monotonic()
        self.process = where.spawn([*prefix, vireod.executable(), f'--address={bus.address}', f'--state-directory={state}',
                                    f'--connect={uri}', '--config=/dev/null'], stderr=subprocess.DEVNULL,
                                   env={**os.environ, **(environment or {})})
        self.pid = self.process.pid
        self.client = vireod.Client(bus)
        wait_for(lambda: self.client.owner() is not None, 120, 'the name', poll=0.01)
        self.start = (time.monotonic() - before) * 1000
        self.state = state

    def wait_domains(self, n):
        wait_for(lambda: len(self.client.snapshot()[2]) >= n, 120, 'all domains', poll=0.1)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Simulation:
    """A vireo-sim with so many domains: the simulated truth is not in the broker's memory."""

    def __init__(self, where, executable, domains, more=''):
        self.path = where.directory() / f'sim-{domains}'
        self.process = where.spawn([executable, f'--socket={self.path}', f'sim:///empty?domains={domains}{more}'],
                                   stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b'ready\n'
        self.uri = f'sim:{self.path}'

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def do(self, **step):
        control(self.path, **step)


def control(path, **step):
    """Send one step to a control socket; return when it is done."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(json.dumps(step).encode() + b'\n')
        answer = json.loads(connection.makefile().readline())
    assert answer.get('ok'), answer


class Listener:
    """A client that counts events from now on."""

    def __init__(self, where, executable, bus, mode, events):
        self.process = where.spawn([executable, bus.address, mode, str(events)], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b'ready\n'

    def seconds(self):
        """Wait until it has heard them; return how long after the first one that was."""
        return json.loads(self.process.stdout.readline())['ms'][0] / 1000

    def cpu_seconds(self):
        """Wait for its end; return what it took in all."""
        _pid, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime


class Turns:
    """How much processor time the main loop takes in one go (turns.c, preloaded into a program)."""

    FORMAT = '32Q'

    def __init__(self, where, library):
        self.path = where.directory('turns') / 'turns'
        self.path.write_bytes(bytes(struct.calcsize(self.FORMAT)))
        self.environment = {'LD_PRELOAD': str(library), 'VIREO_TURNS': str(self.path)}

    def take(self):
        """Return how many there were since the last time, below how many ms 99 of 100 stayed, and the longest in ms."""
        with self.path.open('r+b') as file:
            n, longest, *below = struct.unpack(self.FORMAT, file.read())
            file.seek(0)
            file.write(bytes(struct.calcsize(self.FORMAT)))
        seen = 0
        for i, many in enumerate(below):
            seen += many
            if seen >= n * 0.99:
                return n, 2 ** (i + 1) / 1000, longest / 1e6
        return n, 0, 0
