# SPDX-License-Identifier: LGPL-2.1-or-later
"""Changing things through the broker's methods, and the jobs that become of them."""

import functools
import hashlib
import os
import pathlib
import subprocess
import uuid as uuids
import xml.etree.ElementTree as elements

from gi.repository import Gio, GLib

from . import guests, libvirtd, truth
from .loop import wait_for
from .recorder import NAME
from .vireod import BusError

INTERFACES = pathlib.Path(__file__).resolve().parents[3] / 'introspection'

# Options that are neither b nor s
OPTION_TYPES = {'bandwidth': 't', 'if-version': 't', 'offset': 't', 'length': 't', 'granularity': 'u', 'parallel': 'u',
                'mode': 'as', 'disks': 'as', 'pool': 'o'}

MIB = 1 << 20

UNKNOWN = 2**64 - 1

# What may come at any time between the events of a life
ASIDE = {'Updated', 'MigrationIteration', 'JobCompleted', 'BlockJob'}


@functools.cache
def signature(kind, method):
    """Return (types of what goes in, names of what comes out), as the interface file has them."""
    root = elements.parse(INTERFACES / f'{NAME}.{kind}.xml').getroot()
    arguments = root.find(f'.//method[@name="{method}"]').findall('arg')
    return ([a.get('type') for a in arguments if a.get('direction', 'in') == 'in'],
            [a.get('name') for a in arguments if a.get('direction') == 'out'])


def options(words):
    """Python's words as options: if_version=3 is if-version, a t."""
    names = {name.replace('_', '-'): value for name, value in words.items()}
    return {name: GLib.Variant(OPTION_TYPES.get(name, 'b' if isinstance(value, bool) else 's'), value)
            for name, value in names.items()}


class Job:
    """A job of the broker's, by its path."""

    def __init__(self, client, path):
        self.client = client
        self.path = path

    def get(self, name):
        return self.client.get(self.path, 'Job', name)

    def changes(self):
        """Return what PropertiesChanged has told of it, in order."""
        return [m.body[1] for m in self.client.recorder.messages if m.path == self.path and m.member == 'PropertiesChanged']

    def told(self, name):
        """Return the values of a property as they were told while it ran."""
        return [c[name] for c in self.changes() if name in c and c.get('State', 'running') == 'running']

    def wait_percent(self, above, limit=120):
        """Wait until it is beyond so many percent; it must not have ended before."""
        def passed():
            return self.finished() or any(p > above for p in self.told('Percent'))
        wait_for(passed, limit, lambda: f'{self.path} beyond {above} %: {self.text()}')
        assert not self.finished(), f'{self.path} ended before it could be caught: {self.text()}'

    def wait_values(self, count, limit=120):
        """Wait until so many different percentages were told, before its end."""
        wait_for(lambda: len(set(self.told('Percent'))) >= count or self.finished(), limit,
                 lambda: f'{count} values of Percent: {self.text()}')
        assert not self.finished(), f'{self.path} ended before it could be caught: {self.text()}'

    def wait_told(self, name, value=True, limit=120):
        wait_for(lambda: value in self.told(name) or self.finished(), limit, lambda: f'{name} {value}: {self.text()}')
        assert not self.finished(), f'{self.path} ended before {name} was {value}: {self.text()}'

    def finished(self):
        return next((e for e in self.client.recorder.of(path=self.path) if e.event == 'Finished'), None)

    def wait(self, state='completed', limit=180):
        """Wait for its end, which must be this one; return the event."""
        event = wait_for(self.finished, limit, lambda: f'the end of {self.path}: {self.text()}')
        assert event.reason == state == event.properties['State'], \
            f'{self.path} is {event.reason}, not {state}: {event.properties["Error"]} {event.details}'
        assert sum(e.event == 'Finished' for e in self.client.recorder.of(path=self.path)) == 1, 'Finished twice'
        return event

    def cancel(self, **words):
        self.client.call(self.path, f'{NAME}.Job', 'Cancel', '(a{sv})', options(words))

    def complete(self):
        self.client.call(self.path, f'{NAME}.Job', 'Complete', '(a{sv})', {})

    def check_rising(self, what, least=3):
        """Its percentage must have been told, more than once, and never have fallen; and what remained, when it was known."""
        percents = self.told('Percent')
        assert len(set(percents)) >= least, f'{what}: Percent was told only as {percents}'
        assert percents == sorted(percents), f'{what}: Percent fell: {percents}'
        assert all(0 <= p <= 100 for p in percents), f'{what}: Percent is out of bounds: {percents}'
        assert any(self.told('BytesTotal')), f'{what}: no BytesTotal was told'
        remaining = self.told('RemainingTime')
        assert any(r != UNKNOWN for r in remaining), f'{what}: no RemainingTime was told: {remaining}'
        early = [c for c in self.changes() if c.get('RemainingTime') == 0 and c.get('Percent', 100) < 99.9]
        assert not early, f'{what}: RemainingTime was 0 while something remained: {early}'

    def wait_completed(self, what, limit=180):
        """Wait for its good end, and check all that is left of it."""
        p = self.wait('completed', limit).properties
        left = (p['State'], p['Percent'], p['Cancellable'], p['Ready'], p['Error'], p['StartedBy'])
        assert left == ('completed', 100.0, False, False, ('', ''), os.getuid()), f'{what}: what is left of the job is {p}'

    def wait_failed(self, error, what, limit=180):
        """Wait for its bad end, with this error; return what the hypervisor said of it, which signals don't tell."""
        event = self.wait('failed', limit)
        name = event.properties['Error'][0]
        assert name == f'{NAME}.Error.{error}', f'{what} failed with {name}, not {error}'
        assert 'message' not in event.details, f'{what}: a signal tells everybody {event.details}'
        return self.client.history(event.version - 1)[0].details.get('message', '')

    def text(self):
        changes = self.changes()
        return f'{len(changes)} changes, the last {changes[-3:]}'


class Hypervisor:
    """One libvirtd as the broker reaches it: `path` is its connection's."""

    def __init__(self, test, client, daemon, label):
        self.test = test
        self.client = client
        self.libvirtd = daemon
        self.virsh = daemon.virsh
        self.path = f'/org/vireo1/connection/{label}'

    def object(self, kind, uuid):
        return f'{self.path}/{kind}/_{uuid.replace("-", "_")}'

    def call(self, target, method, *arguments, fd=None, **words):
        """Call a method that changes something; return its results by their names."""
        path, kind = target
        types, names = signature(kind, method)
        descriptors = None
        if fd is not None:
            descriptors = Gio.UnixFDList.new()
            arguments = (*arguments, descriptors.append(fd))
        values = GLib.Variant.new_tuple(*map(GLib.Variant, types, (*arguments, options(words))))
        try:
            reply, _ = self.client.connection.call_with_unix_fd_list_sync(
                NAME, path, f'{NAME}.{kind}', method, values, None, Gio.DBusCallFlags.NONE, 120000, descriptors, None)
        except GLib.Error as error:
            remote = Gio.DBusError.get_remote_error(error)
            if not remote:
                raise
            raise BusError(remote, error.message.removeprefix(f'GDBus.Error:{remote}: ')) from None
        return dict(zip(names, reply.unpack()))

    def begin(self, target, method, *arguments, **words):
        """Begin an operation, without waiting for its end; return its job."""
        return Job(self.client, self.call(target, method, *arguments, **{'async': True}, **words)['job'])

    def do(self, target, method, *arguments, **words):
        """Do it, and wait for its end, however long that takes; return the results."""
        results = self.call(target, method, *arguments, **words)
        if results.get('version') == 0:
            Job(self.client, results['job']).wait()
        return results

    def refused(self, wanted, target, method, *arguments, says='', **words):
        """It must be answered by this error, which says this."""
        try:
            results = self.call(target, method, *arguments, **words)
        except BusError as error:
            self.test.check(error.short == wanted and says in error.message,
                            f'{method} {arguments}: {error}; wanted {wanted} with {says!r}')
            return error.message
        self.test.fail(f'{method} {arguments} should be refused with {wanted}; it returned {results}')
        return ''

    def get(self, target, name):
        return self.client.get(*target, name)

    def story(self, target, after=0):
        """Return what was said of an object above a version: 'Started (booted)' and the like."""
        events = [f'{e.event} ({e.reason})' if e.reason else e.event
                  for e in self.client.recorder.of(path=target[0], after=after) if e.event not in ASIDE]
        # QEMU may have the time to say that it was told to end, or not
        return [e for e, following in zip(events, [*events[1:], ''])
                if (e, following) != ('Shutdown (host)', 'Stopped (destroyed)')]

    def expect_story(self, target, *wanted, after=0, what=''):
        """Exactly this must be said of the object; all that has been said up to now is waited for."""
        self.client.recorder.wait_version(self.client.sync())
        self.test.equal(self.story(target, after), list(wanted), what or f'the story of {target[0]}')

    def check_truth(self, *ignored):
        """The broker must say what virsh says."""
        self.client.sync()
        for sentence in truth.compare(self.virsh, self.client, self.path, ignored):
            self.test.fail(sentence)

    def wait_foreign(self, operation, target, after):
        """Wait for a job that somebody else began; one that the broker found before it had its name is in its snapshot."""
        def found():
            said = ((e.path, e.properties) for e in self.client.recorder.of(kind='Job', after=after) if e.event == 'Added')
            known = ((path, p) for path, (kind, p) in self.client.snapshot()[2].items()
                     if kind == 'Job' and p['State'] == 'running')
            return next(((path, p) for path, p in (*said, *known)
                         if (p['Operation'], p['Object']) == (operation, target[0])), None)
        path, properties = wait_for(found, 60, lambda: f'a job {operation}; heard:\n{self.client.recorder.text(after)}')
        self.test.equal(properties['StartedBy'], 2**32 - 1, f'StartedBy of a foreign {operation}')
        return Job(self.client, path)

    def run_cases(self, cases, chosen, *arguments):
        """Run the cases that were chosen (none: all), each case(test, *arguments); then judge the story of all of them."""
        for case in cases:
            if not chosen or case.__name__ in chosen:
                with self.test.case(case.__name__):
                    case(self.test, *arguments)
                self.libvirtd.write_rate(0)
        with self.test.case('the story'):
            self.client.sync()
            jobs = [p for kind, p in self.client.snapshot()[2].values() if kind == 'Job']
            self.test.equal([p for p in jobs if p['State'] == 'running'], [], 'jobs that are left running')
            finished = [e.path for e in self.client.recorder.events if e.event == 'Finished']
            self.test.equal(len(finished), len(set(finished)), 'Finished, once a job')
            self.test.judge(self.client, 'the story of all jobs')

    def now(self):
        """Return the version that the broker is at."""
        return self.client.get('/org/vireo1', 'Manager', 'Version')


def pair(test):
    """Return two libvirtds behind one broker, as Hypervisors: here and there. They reach each other by TCP."""
    one = test.libvirtd('vireo-one', address='10.77.0.1')
    two = libvirtd.Libvirtd(test.scope, 'vireo-two', address='10.77.0.2')
    libvirtd.wire(one, two)
    vireod = test.vireod(f'one={one.uri}', f'two={two.uri}')
    both = Hypervisor(test, vireod, one, 'one'), Hypervisor(test, vireod, two, 'two')
    for hypervisor in both:
        vireod.wait_connected(path=hypervisor.path)
    return both


class Guest:
    """A domain that was defined and started through the broker, with a disk vdb that holds data.

    `fill` is how many MiB of its memory it fills with what does not compress; with `loop` it goes on doing so.
    """

    def __init__(self, hypervisor, name, fill=0, loop=False, data=16):
        self.hypervisor = hypervisor
        self.uuid = str(uuids.uuid4())
        self.name = name
        self.target = hypervisor.object('domain', self.uuid), 'Domain'
        images = hypervisor.libvirtd.images
        self.fill = fill
        self.data = images / f'{name}-data.qcow2'
        make_qcow2(self.data, data)
        rom = guests.fill_rom(images, fill * MIB, loop) if fill else None
        disk = (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{self.data}'/>"
                "<target dev='vdb' bus='virtio'/></disk>")
        xml = guests.domain_xml(name, guests.image(images, guests.IDLE), rom=rom, uuid=self.uuid, memory=fill + 32 if fill else 32, extra_devices=disk)
        hypervisor.do((hypervisor.path, 'Connection'), 'DefineDomain', xml)
        self.do('Start')
        if fill:
            # its last page has something in it
            wait_for(lambda: int(hypervisor.libvirtd.monitor(name, f'xp /1wx {fill * MIB - 4096:#x}').split()[-1], 16),
                     120, f'{name} to fill its memory', poll=0.2)

    def do(self, method, *arguments, **words):
        return self.hypervisor.do(self.target, method, *arguments, **words)

    def begin(self, method, *arguments, **words):
        return self.hypervisor.begin(self.target, method, *arguments, **words)

    def refused(self, wanted, method, *arguments, **words):
        return self.hypervisor.refused(wanted, self.target, method, *arguments, **words)

    def get(self, name):
        return self.hypervisor.get(self.target, name)

    def check(self, state, what):
        """virsh and the broker must both say that it is in this state, and no job may be left on it."""
        self.hypervisor.client.sync()
        test, virsh = self.hypervisor.test, self.hypervisor.virsh
        test.equal(self.get('State'), state, f'State {what}')
        test.equal(virsh('domstate', self.uuid).strip(), {'shutoff': 'shut off'}.get(state, state), f'virsh domstate {what}')
        wait_for(lambda: not self.get('Jobs'), 30, f'{self.name} has no job any more {what}', poll=0.1)

    def holds(self, image, reference):
        """Whether an image that it uses holds what another one does. It is paused for that: then all is written."""
        self.do('Suspend')
        same = same_content(image, reference)
        self.do('Resume')
        return same

    def memory(self):
        """Return a checksum of all the memory that it has filled, and does not touch any more."""
        file = self.hypervisor.libvirtd.images / f'{self.name}.memory'
        self.hypervisor.libvirtd.monitor(self.name, f'pmemsave {MIB} {(self.fill - 1) * MIB} "{file}"')
        digest = sha256(file)
        assert file.stat().st_size == (self.fill - 1) * MIB, f'the memory of {self.name} has {file.stat().st_size} bytes'
        file.unlink()
        return digest

    def end(self):
        if self.get('Active'):
            self.do('Destroy')
        self.do('Undefine', managed_save=True)


def sha256(path, offset=0, length=None):
    """Return the checksum of a file, or of a part of it."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        file.seek(offset)
        left = length if length is not None else os.fstat(file.fileno()).st_size - offset
        while left > 0 and (block := file.read(min(left, MIB))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def make_qcow2(path, mebibytes, pattern=7):
    """Make a qcow2 that is full of data."""
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, f'{mebibytes}M'], check=True)
    write_qcow2(path, mebibytes, pattern)


def write_qcow2(path, mebibytes, pattern):
    """Write one and the same byte all over an image that nobody uses."""
    subprocess.run(['qemu-io', '-f', 'qcow2', '-c', f'write -q -P {pattern} 0 {mebibytes}M', path], check=True,
                   stdout=subprocess.DEVNULL)


def same_content(one, other):
    """Whether two images hold the same, as a guest sees it."""
    return subprocess.run(['qemu-img', 'compare', '-q', '-U', one, other], check=False).returncode == 0
