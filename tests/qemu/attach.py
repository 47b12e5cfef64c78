#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
QEMUs that somebody else starts, followed by their monitor sockets: real QEMU, a real bus, no libvirt. Every story that
is told here is judged by the grammar.
"""

import os
import re
import signal
import socket
import subprocess

import qemukit
from house import end_broker
from qemukit import Outside, Qemu, Untouched, history_of, story_of

from kit import guests, program
from kit.loop import wait_for
from kit.vireod import BusError
from gi.repository import GLib

NULL = '00000000-0000-0000-0000-000000000000'


def version_of():
    """What the installed QEMU says of itself."""
    said = subprocess.run(['qemu-system-x86_64', '--version'], check=True, stdout=subprocess.PIPE, text=True).stdout
    return f"QEMU {re.search('version ([0-9.]+)', said).group(1)}"


class Place:
    """A directory of monitors, and a broker that follows it."""

    def __init__(self, test):
        self.test = test
        self.scope = test.scope
        self.directory = test.scope.directory('vms')
        self.images = test.scope.directory('images')
        self.vireod = None

    def start(self):
        self.vireod = self.test.vireod(f'qmp://{self.directory}')
        self.vireod.wait_connected()
        self.recorder = self.vireod.recorder
        self.connection = self.vireod.connection_path()
        self.silent = self.vireod.sync()

    def qemu(self, file, *arguments, **options):
        return Qemu(self.scope, self.directory, file, *arguments, **options)

    def mark(self):
        """Return a version that everything so far is not above."""
        version = self.vireod.sync()
        # what was there when it took its name was told to nobody
        if version > self.silent:
            self.recorder.wait_version(version)
        return version

    def domain(self, name, method, signature='(a{sv})', *arguments):
        path = self.vireod.lookup(name)
        return self.vireod.call(path, 'org.vireo1.Domain', method, signature, *(arguments or ({},)))

    def domains(self):
        return {p['Name']: p for kind, p in self.vireod.snapshot()[2].values() if kind == 'Domain'}


def refused(test, call, short, text):
    try:
        call()
    except BusError as error:
        test.equal(error.short, short, f'{text}: name of the error')
        test.check(len(error.message) > 10, f'{text}: no explanation')
        return
    test.fail(f'{text} was not refused')


def stories(test, place):
    """What happens to one guest, and what is told of it."""
    acts = [
        ('poweroff', guests.POWEROFF, [], ['Added', 'Started(booted)', 'Shutdown(guest)', 'Stopped(shutdown)', 'Removed']),
        ('panic', guests.PANIC, ['-device', 'pvpanic'],
         ['Added', 'Started(booted)', 'Crashed(panicked)', 'Stopped(crashed)', 'Removed']),
        ('hibernate', guests.SUSPEND_DISK, [],
         ['Added', 'Started(booted)', 'PMSuspended(disk)', 'Shutdown(guest)', 'Stopped(shutdown)', 'Removed']),
    ]
    for name, act, arguments, wanted in acts:
        with test.case(name):
            after = place.mark()
            disk = guests.image(place.images, act, wait=0.5)
            qemu = place.qemu(f'{name}.qmp', *arguments, name=name, disk=disk)
            place.recorder.wait('Removed', name=name, after=after)
            path = place.recorder.of(name=name, after=after)[0].path
            test.equal(story_of(place.recorder, path, after), wanted, f'the story of {name}')
            qemu.wait()

    with test.case('reset by the guest'):
        after = place.mark()
        qemu = place.qemu('reset.qmp', name='reset', disk=guests.image(place.images, guests.RESET, wait=0.3))
        event = place.recorder.wait('Rebooted', name='reset', after=after)
        qemu.kill()
        place.recorder.wait('Removed', name='reset', after=after)
        story = story_of(place.recorder, event.path, after)
        test.equal(story[:2], ['Added', 'Started(booted)'], 'the beginning')
        test.equal(story[-2:], ['Stopped(failed)', 'Removed'], 'the end')
        test.equal(set(story[2:-2]), {'Rebooted'}, 'between')

    with test.case('asleep and awake'):
        after = place.mark()
        qemu = place.qemu('sleep.qmp', name='sleep', disk=guests.image(place.images, guests.SUSPEND_MEMORY, wait=0.5))
        event = place.recorder.wait('PMSuspended', name='sleep', after=after)
        test.equal(place.domains()['sleep']['State'], 'pmsuspended', 'the state')
        refused(test, lambda: place.domain('sleep', 'Resume'), 'InvalidState', 'resuming what its guest suspended')
        place.domain('sleep', 'PMWakeup')
        place.recorder.wait('Resumed', path=event.path, after=event.version)
        qemu.signal(signal.SIGTERM)
        place.recorder.wait('Removed', path=event.path, after=after)
        story = [w for w in story_of(place.recorder, event.path, after) if not w.startswith('Rebooted')]
        test.equal(story[:4], ['Added', 'Started(booted)', 'PMSuspended(memory)', 'Resumed(wakeup)'], 'the beginning')
        test.equal(story[-3:], ['Shutdown(host)', 'Stopped(destroyed)', 'Removed'], 'the end')

    with test.case('stopped and continued from outside'):
        after = place.mark()
        qemu = place.qemu('outside.qmp', name='outside')
        event = place.recorder.wait('Started', name='outside', after=after)
        for _ in range(20):
            qemu.outside('stop')
            qemu.outside('cont')
        place.mark()
        # the story has every one of them, in order
        test.equal(story_of(place.recorder, event.path, event.version),
                   ['Suspended(paused)', 'Resumed(unpaused)'] * 20, 'the story')
        qemu.kill()

    with test.case('started paused'):
        after = place.mark()
        qemu = place.qemu('paused.qmp', name='paused', paused=True)
        event = place.recorder.wait('Started', name='paused', after=after)
        test.equal(event.properties['State'], 'paused', 'the state')
        place.domain('paused', 'Resume')
        test.equal(place.domains()['paused']['State'], 'running', 'the state behind Resume')
        place.domain('paused', 'Destroy')
        place.mark()
        test.equal(story_of(place.recorder, event.path, after),
                   ['Added', 'Started(booted)', 'Resumed(unpaused)', 'Shutdown(host)', 'Stopped(destroyed)', 'Removed'],
                   'the story')
        qemu.wait()


def identity(test, place):
    with test.case('who is who'):
        after = place.mark()
        odd = 'a "b", <c>/d&e'
        one = place.qemu('one.qmp', name=odd, uuid='5f0e7c3a-1111-4222-8333-444455556666', memory=48)
        two = place.qemu('two, three.qmp'.replace(', ', '-'), memory=32)
        place.recorder.wait('Started', name=odd, after=after)
        place.recorder.wait('Started', name='two-three', after=after)
        known = place.domains()
        test.equal(known[odd]['UUID'], '5f0e7c3a-1111-4222-8333-444455556666', 'the UUID that QEMU says')
        test.equal((known[odd]['Memory'], known[odd]['MaxMemory'], known[odd]['VCPUs']), (48 << 20, 48 << 20, 1), 'memory')
        made = known['two-three']['UUID']
        test.check(made != NULL, 'a UUID was made where there is none')
        test.equal((known[odd]['Persistent'], known[odd]['ID']), (False, one.process.pid), 'a transient run')
        xml = place.domain(odd, 'GetXML')[1]
        test.check('<uuid>5f0e7c3a' in xml and 'a "b", &lt;c&gt;/d&amp;e' in xml, f'the XML: {xml}')

        two.kill()
        place.recorder.wait('Removed', name='two-three', after=after)
        again = place.mark()
        two = place.qemu('two-three.qmp', memory=32)
        event = place.recorder.wait('Added', name='two-three', after=again)
        test.equal(event.properties['UUID'], made, 'the UUID made from machine and path')
        test.equal(event.properties['Incarnation'], event.version, 'a new incarnation')

        # one UUID twice: both are there, under paths of their own
        twin = place.qemu('twin.qmp', name='twin', uuid='5f0e7c3a-1111-4222-8333-444455556666')
        place.recorder.wait('Started', name='twin', after=again)
        test.check(place.domains()['twin']['UUID'] != known[odd]['UUID'], 'one path for two objects')
        for q in one, two, twin:
            q.kill()
        for name in odd, 'two-three', 'twin':
            place.recorder.wait('Removed', name=name, after=again)

    with test.case('replaced behind the same path'):
        after = place.mark()
        first = place.qemu('same.qmp', name='same', uuid='5f0e7c3a-1111-4222-8333-000000000001')
        place.recorder.wait('Started', name='same', after=after)
        first.kill()
        second = place.qemu('same.qmp', name='same', uuid='5f0e7c3a-1111-4222-8333-000000000001')
        place.recorder.wait('Removed', name='same', after=after)
        path = place.recorder.of(name='same', after=after)[0].path
        wait_for(lambda: story_of(place.recorder, path, after).count('Started(booted)') == 2, 30,
                 lambda: f'the second life; heard {story_of(place.recorder, path, after)}')
        test.equal(story_of(place.recorder, path, after),
                   ['Added', 'Started(booted)', 'Stopped(failed)', 'Removed', 'Added', 'Started(booted)'], 'the story')
        second.kill()
        wait_for(lambda: story_of(place.recorder, path, after).count('Removed') == 2, 30, 'the end')


def hands_off(test, place):
    with test.case('busy monitors, other sockets, no sockets'):
        after = place.mark()
        serial = Untouched(place.directory / 'serial.sock')
        hidden = Untouched(place.directory / '.hidden.qmp')
        (place.directory / 'file.qmp').write_text('no socket')
        os.symlink('/run/libvirt/x', place.directory / 'dangling.qmp')
        silent = Untouched(place.directory / 'silent.qmp')

        # somebody has the monitor before we come: made under another name, taken, renamed
        qemu = place.qemu('busy.hidden', name='busy')
        theirs = Outside(qemu.path)
        os.rename(qemu.path, place.directory / 'busy.qmp')
        wait_for(lambda: re.search(r'busy\.qmp: .*let go', place.vireod.log()), 20, 'the busy one is let go', poll=0.1)
        place.mark()
        test.check('busy' not in place.domains(), 'a busy monitor is no domain')
        # what was let go is not inherited: its owner leaves, somebody else takes it
        theirs.close()
        again = Outside(place.directory / 'busy.qmp')
        test.equal(again('query-status')['status'], 'running', 'the monitor works for the next')
        again.close()
        place.vireod.call(place.connection, 'org.vireo1.Connection', 'Resync', '(a{sv})', {})
        place.recorder.wait('Started', name='busy', after=after)
        test.check(not serial.touched() and not hidden.touched(), 'a socket was touched that is no monitor of ours')
        test.check(silent.touched(), 'and this test can tell')
        qemu.kill()
        place.recorder.wait('Removed', name='busy', after=after)
        for file in 'file.qmp', 'silent.qmp', 'dangling.qmp', 'busy.qmp':
            os.unlink(place.directory / file)

    with test.case('something that is no QMP'):
        path = place.directory / 'other.qmp'
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(path))
            s.listen(8)
            s.settimeout(20)
            c, _ = s.accept()
            c.sendall(b'220 mail.example.org ESMTP\r\n')
            c.settimeout(20)
            test.equal(c.recv(1), b'', 'it hung up')
            place.mark()
            place.mark()
            s.setblocking(False)
            try:
                s.accept()
                test.fail('it came back')
            except BlockingIOError:
                pass
        os.unlink(path)

    with test.case('libvirt is left alone'):
        for uri in ('qmp:///var/lib/libvirt/qemu', 'qmp:///run/libvirt', 'qmp:/var/lib/libvirt/qemu/domain-1/monitor.sock',
                    'qmp:relative', 'qmp://host/run', 'qmp:///a/../run', 'qmp:///run?x', 'qmp:', 'qmp:/run/'):
            refused(test, lambda: place.vireod.manager('Open', '(sa{sv})', uri, {}), 'InvalidURI', uri)


def hanging(test, place):
    with test.case('a QEMU that hangs'):
        after = place.mark()
        qemu = place.qemu('hang.qmp', name='hang')
        event = place.recorder.wait('Started', name='hang', after=after)
        qemu.freeze()
        refused(test, lambda: place.domain('hang', 'Suspend'), 'Timeout', 'a call to a QEMU that hangs')
        place.recorder.wait('ControlError', path=event.path, after=after)
        test.equal(place.domains()['hang']['State'], 'running', 'what is known stays')
        place.vireod.call('/org/vireo1', 'org.freedesktop.DBus.Peer', 'Ping')
        qemu.thaw()
        wait_for(lambda: 'answers again' in place.vireod.log(), 20, 'it answers again', poll=0.1)
        place.domain('hang', 'Suspend')
        test.equal(place.domains()['hang']['State'], 'paused', 'it obeys again')
        qemu.freeze()
        # it has to be killed: only a process that is surely this one
        place.domain('hang', 'Destroy')
        place.recorder.wait('Removed', path=event.path, after=after)
        test.equal(qemu.wait(), -signal.SIGKILL, 'how it ended')


def operations(test, place):
    with test.case('operations'):
        after = place.mark()
        qemu = place.qemu('ops.qmp', '-device', 'virtio-balloon', name='ops', memory=64)
        event = place.recorder.wait('Started', name='ops', after=after)
        place.domain('ops', 'Suspend')
        test.equal(qemu.outside('query-status')['status'], 'paused', 'QEMU paused')
        refused(test, lambda: place.domain('ops', 'Suspend'), 'InvalidState', 'suspending twice')
        place.domain('ops', 'Resume')
        refused(test, lambda: place.domain('ops', 'Resume'), 'InvalidState', 'resuming twice')
        refused(test, lambda: place.domain('ops', 'PMWakeup'), 'InvalidState', 'waking what is awake')
        refused(test, lambda: place.domain('ops', 'Start'), 'NotSupported', 'starting')
        refused(test, lambda: place.domain('ops', 'SetMemory', '(ta{sv})', 128 << 20, {}), 'InvalidArgs', 'too much memory')
        place.domain('ops', 'Reset')
        place.domain('ops', 'Shutdown')
        place.domain('ops', 'Shutdown', '(a{sv})', {'mode': GLib.Variant('as', ['acpi'])})
        refused(test, lambda: place.domain('ops', 'Shutdown', '(a{sv})', {'mode': GLib.Variant('as', ['agent'])}),
                'NotSupported', 'no agent')
        place.domain('ops', 'Destroy', '(a{sv})', {'graceful': GLib.Variant('b', True)})
        place.mark()
        story = story_of(place.recorder, event.path, after)
        test.equal(story, ['Added', 'Started(booted)', 'Suspended(paused)', 'Resumed(unpaused)', 'Rebooted',
                           'MonitorEvent(powerdown)', 'MonitorEvent(powerdown)', 'Shutdown(host)', 'Stopped(destroyed)',
                           'Removed'], 'the story')


def many(test, place):
    with test.case('ten at once, and the broker killed'):
        after = place.mark()
        names = [f'many-{i}' for i in range(10)]
        qemus = {n: place.qemu(f'{n}.qmp', name=n) for n in names}
        for n in names:
            place.recorder.wait('Started', name=n, after=after)
        place.mark()
        before = place.domains()
        place.vireod.kill()
        # while nobody looks: two end, one is paused
        qemus['many-3'].kill()
        qemus['many-4'].kill()
        qemus['many-5'].outside('stop')
        place.vireod.start()
        place.vireod.wait_connected()
        mark = place.silent = place.vireod.sync()
        now = place.domains()
        test.equal(sorted(now), sorted(set(names) - {'many-3', 'many-4'}), 'who is left')
        for n in sorted(set(now) - {'many-5'}):
            test.equal(now[n], before[n], f'{n}, that nothing happened to')
        heard = {n: history_of(place.vireod, place.recorder.of(name=n)[0].path, before[n]['Version']) for n in names}
        test.equal(heard['many-3'], ['Stopped?', 'Removed?'], 'of one that ended')
        test.equal(heard['many-5'], ['Suspended(paused)?'], 'of one that was paused')
        for q in qemus.values():
            q.process.kill()
        for n in sorted(now):
            place.recorder.wait('Removed', name=n, after=mark)
        test.equal(place.domains(), {}, 'all gone')


def main(test):
    program.needs(qemukit.missing)
    place = Place(test)
    with test.case('there before the broker'):
        early = place.qemu('early.qmp', name='early')
        Outside(early.outside_path).close()
        place.start()
        path = place.vireod.lookup('early')
        test.equal(history_of(place.vireod, path), ['Added?', 'Started?'], 'nobody saw it start')
        test.equal(place.vireod.get(place.connection, 'Connection', 'Driver'), 'qmp', 'the driver')
        test.equal(place.vireod.get(place.connection, 'Connection', 'HypervisorVersion'), version_of(), 'the version')
        early.kill()
        place.recorder.wait('Removed', name='early')
    stories(test, place)
    identity(test, place)
    hands_off(test, place)
    hanging(test, place)
    operations(test, place)
    many(test, place)
    test.judge(place.vireod)
    end_broker(test, place.vireod)

    with test.case('one socket, and its directory gone'):
        directory = test.scope.directory('single')
        one = test.vireod(f'qmp:{directory}/only.socket', state=test.scope.directory('state-2'))
        one.wait_connected()
        Qemu(test.scope, directory, 'other.socket', name='other')
        qemu = Qemu(test.scope, directory, 'only.socket', name='only')
        one.recorder.wait('Started', name='only')
        one.sync()
        names = [p['Name'] for kind, p in one.snapshot()[2].values() if kind == 'Domain']
        test.equal(names, ['only'], 'only one is followed')
        qemu.kill()
        one.recorder.wait('Removed', name='only')
        for f in directory.iterdir():
            f.unlink()
        directory.rmdir()
        one.recorder.wait('Disconnected')
        directory.mkdir()
        one.wait_connected()
        test.judge(one, 'the story of one')



program.run(main)
