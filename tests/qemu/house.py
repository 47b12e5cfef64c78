# SPDX-License-Identifier: LGPL-2.1-or-later
"""A directory of domains that Vireo itself keeps, the broker that follows it, and calling both."""

import contextlib
import os
import pathlib
import signal
import subprocess

from qemukit import Outside, qemus_of

from kit import guests
from kit.loop import wait_for
from kit.vireod import BusError


class House:
    """A directory of domains, and the broker that keeps it."""

    def __init__(self, test, **options):
        """Options are those of the broker."""
        self.test = test
        self.directory = test.scope.directory('domains')
        self.images = test.scope.directory('images')
        self.vireod = test.vireod(f'vireo://{self.directory}', **options)
        self.vireod.wait_connected()
        self.recorder = self.vireod.recorder
        self.connection = self.vireod.connection_path()
        self.silent = self.vireod.sync()
        test.scope.defer(self.kill_all)

    def button(self):
        """Return the disk of a guest that switches itself off when its power button is pressed."""
        source = pathlib.Path(__file__).resolve().parent / 'button.S'
        output = self.images / f'{len(os.listdir(self.images))}.img'
        # preprocessed for its comments only
        text = subprocess.run(['cc', '-E', '-P', source], check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(['as', '--32', '-o', f'{output}.o', '-'], check=True, input=text)
        subprocess.run(['ld', '-m', 'elf_i386', '-Ttext', '0x7c00', '--oformat', 'binary', '-o', output, f'{output}.o'],
                       check=True, stderr=subprocess.PIPE)
        os.truncate(output, 1 << 20)
        return output

    def finish(self):
        """End the broker in order, and see that it had nothing to complain of itself."""
        end_broker(self.test, self.vireod)

    @contextlib.contextmanager
    def monitor(self, path):
        """QEMU's own word: the monitor of a domain, which serves one at a time, while the broker is dead."""
        uuid = self.properties(path)['UUID']
        self.vireod.kill()
        outside = Outside(self.directory / uuid / 'monitor')
        try:
            yield outside
        finally:
            outside.close()
            self.vireod.start()
            self.restarted()

    def empty(self, text):
        """No domain has files any more: they are removed behind its end, by somebody who may have to wait for the disk."""
        wait_for(lambda: not [f for f in os.listdir(self.directory) if len(f) == 36], 20,
                 lambda: f'{text}: {os.listdir(self.directory)}', poll=0.05)

    def kill_all(self):
        for pid in qemus_of(self.directory):
            os.kill(pid, signal.SIGKILL)

    def restarted(self):
        self.vireod.wait_connected()
        self.silent = self.vireod.sync()
        return self.silent

    def mark(self):
        version = self.vireod.sync()
        if version > self.silent:
            self.recorder.wait_version(version)
        return version

    def define(self, xml):
        return self.vireod.call(self.connection, 'org.vireo1.Connection', 'DefineDomain', '(sa{sv})', xml, {})[0]

    def create(self, xml, **options):
        return self.vireod.call(self.connection, 'org.vireo1.Connection', 'CreateDomain', '(sa{sv})', xml, options)[0]

    def __call__(self, path, method, *arguments, **options):
        """Call a method of a domain: arguments are strings, numbers or booleans."""
        letters = {bool: 'b', str: 's', int: 't'}
        signature = ''.join(letters[type(a)] for a in arguments)
        if method == 'SetVCPUs':
            signature = 'u'
        return self.vireod.call(path, 'org.vireo1.Domain', method, f'({signature}a{{sv}})', *arguments, options, limit=60)

    def properties(self, path):
        return self.vireod.get_all(path, 'Domain')

    def domains(self):
        return {p['Name']: p for kind, p in self.vireod.snapshot()[2].values() if kind == 'Domain'}

    def xml(self, name, act=guests.IDLE, wait=0.5, **options):
        return guests.domain_xml(name, guests.image(self.images, act, wait=wait), **options)


def end_broker(test, vireod):
    status = vireod.stop()
    words = [line for line in vireod.log().splitlines() if 'Sanitizer' in line or 'runtime error' in line]
    test.equal((status, words), (0, []), 'how the broker ended')


def refused(test, call, short, text, *words):
    try:
        call()
    except BusError as error:
        test.equal(error.short, short, f'{text}: name of the error ({error.message})')
        for word in words:
            test.check(word in error.message, f'{text}: "{word}" is not in "{error.message}"')
        return
    test.fail(f'{text} was not refused')


def job_state(house, path):
    return house.vireod.get(path, 'Job', 'State')


def wait_job(house, job, limit=120):
    wait_for(lambda: house.vireod.call(job, 'org.vireo1.Job', 'Wait', '(t)', 1000000, limit=30) != 'running', limit,
             f'{job} ends', poll=0.05)
    return job_state(house, job)


def progressed(house, job, least=0.0, limit=60):
    """Wait until a job tells how far it is."""
    def far():
        p = house.vireod.get_all(job, 'Job')
        return p if p['BytesTotal'] > 0 and p['Percent'] > least or p['State'] != 'running' else None
    return wait_for(far, limit, lambda: f'progress of {job}: {house.vireod.get_all(job, "Job")}', poll=0.02)
