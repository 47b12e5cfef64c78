#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Domains that Vireo itself defines, keeps and starts: real QEMU, real guests, a real bus. Whatever is killed, nothing is
started twice and nothing is lost.
"""

import os
import random
import re
import signal
import time

import qemukit
from house import House, refused
from qemukit import history_of, qemus_of, story_of

from kit import guests, program
from kit.loop import wait_for
from kit.vireod import BusError
from gi.repository import GLib


def lifecycle(test, house):
    with test.case('the life of one'):
        after = house.mark()
        path = house.define(house.xml('one', memory=64, vcpus=2, title='The "first" & only'))
        p = house.properties(path)
        test.equal((p['Active'], p['Persistent'], p['State'], p['ID'], p['MaxMemory'], p['VCPUs'], p['Title']),
                   (False, True, 'shutoff', -1, 64 << 20, 2, 'The "first" & only'), 'as it was defined')
        house(path, 'Start')
        p = house.properties(path)
        test.equal((p['Active'], p['State'], p['Reason']), (True, 'running', 'booted'), 'as it was started')
        test.check(p['ID'] > 0, 'the run has a number')
        house(path, 'Suspend')
        test.equal(house.properties(path)['State'], 'paused', 'suspended')
        house(path, 'Resume')
        house(path, 'SetAutostart', True)
        test.check(house.properties(path)['Autostart'], 'autostart')
        house(path, 'Undefine')
        test.equal((house.properties(path)['Persistent'], house.properties(path)['Active']), (False, True), 'undefined')
        house(path, 'Destroy')
        house.mark()
        test.equal(story_of(house.recorder, path, after),
                   ['Added', 'Defined(added)', 'Started(booted)', 'Suspended(paused)', 'Resumed(unpaused)', 'Updated?',
                    'Undefined(removed)', 'Shutdown(host)', 'Stopped(destroyed)', 'Removed'], 'the story')
        test.equal(qemus_of(house.directory), [], 'no process is left')
        house.empty('no file is left')

    with test.case('transient, paused'):
        after = house.mark()
        path = house.create(house.xml('two'), paused=GLib.Variant('b', True))
        test.equal(house.properties(path)['State'], 'paused', 'left paused')
        refused(test, lambda: house(path, 'SetAutostart', True), 'InvalidState', 'autostart of a transient domain')
        house(path, 'Resume')
        house(path, 'Destroy')
        house.mark()
        test.equal(story_of(house.recorder, path, after),
                   ['Added', 'Started(booted)', 'Resumed(unpaused)', 'Shutdown(host)', 'Stopped(destroyed)', 'Removed'],
                   'the story')


def guest_acts(test, house):
    cases = [
        ('powers itself off', guests.POWEROFF, {}, ['Started(booted)', 'Shutdown(guest)', 'Stopped(shutdown)']),
        ('panics', guests.PANIC, {'panic': True}, ['Started(booted)', 'Crashed(panicked)', 'Stopped(crashed)']),
        ('panics and is kept', guests.PANIC, {'panic': True, 'on_crash': 'preserve'}, ['Started(booted)', 'Crashed(panicked)']),
        ('powers off and is kept', guests.POWEROFF, {'on_poweroff': 'preserve'}, ['Started(booted)', 'Shutdown(guest)']),
        ('resets, which ends it', guests.RESET, {'on_reboot': 'destroy'},
         ['Started(booted)', 'Shutdown(guest)', 'Stopped(shutdown)']),
        ('sleeps', guests.SUSPEND_MEMORY, {}, ['Started(booted)', 'PMSuspended(memory)']),
        ('hibernates', guests.SUSPEND_DISK, {},
         ['Started(booted)', 'PMSuspended(disk)', 'Shutdown(guest)', 'Stopped(shutdown)']),
    ]
    for name, act, options, wanted in cases:
        with test.case(name):
            after = house.mark()
            path = house.define(house.xml(name, act, wait=0.3, **options))
            begun = house.mark()
            house(path, 'Start')
            wait_for(lambda: len(story_of(house.recorder, path, begun)) >= len(wanted), 60,
                     lambda: f'{wanted}; heard {story_of(house.recorder, path, begun)}')
            house.mark()
            test.equal(story_of(house.recorder, path, begun), wanted, 'the story')
            if house.properties(path)['Active']:
                house(path, 'Destroy')
            house(path, 'Undefine')
            test.check(after < begun, 'versions')

    with test.case('powers off and is restarted'):
        path = house.define(house.xml('again', guests.POWEROFF, wait=0.3, on_poweroff='restart'))
        begun = house.mark()
        house(path, 'Start')
        wait_for(lambda: story_of(house.recorder, path, begun).count('Rebooted') >= 2, 60, 'a second time')
        test.equal(story_of(house.recorder, path, begun)[:3], ['Started(booted)', 'Rebooted', 'Rebooted'], 'the story')
        house(path, 'Destroy')
        house(path, 'Undefine')

    with test.case('asked by its power button'):
        path = house.define(guests.domain_xml('button', house.button()))
        house(path, 'Start')
        begun = house.mark()

        pressed = 0

        def press(method):
            # a guest that does not look yet does not hear; and each signal wakes the wait
            nonlocal pressed
            if time.monotonic() < pressed + 1:
                return
            pressed = time.monotonic()
            try:
                house(path, method)
            except BusError as error:
                test.equal(error.short, 'InvalidState', f'it is just ending: {error.message}')

        def rebooted(count):
            press('Reboot')
            return story_of(house.recorder, path, begun).count('Rebooted') >= count
        for count in 1, 2:
            wait_for(lambda: rebooted(count), 60, 'it reboots', poll=0.2)  # pylint: disable=cell-var-from-loop
        test.equal(house.properties(path)['State'], 'running', 'behind a reboot')

        def off():
            if house.properties(path)['Active']:
                press('Shutdown')
            return not house.properties(path)['Active']
        wait_for(off, 60, 'it is off', poll=0.2)
        house.mark()
        story = [w for w in story_of(house.recorder, path, begun) if not w.startswith('MonitorEvent')]
        test.equal((set(story[:-2]), story[-2:]), ({'Rebooted'}, ['Shutdown(guest)', 'Stopped(shutdown)']), 'the story')
        house(path, 'Undefine')

    with test.case('the broker killed while a guest is asked to reboot'):
        path = house.define(guests.domain_xml('button', house.button()))
        house(path, 'Start')
        pid, = qemus_of(house.directory)
        # long before the guest looks; it switches itself off while nobody is there to start it anew
        house(path, 'Suspend')
        house(path, 'Resume')
        begun = house.mark()

        def reboots():
            try:
                house(path, 'Reboot')
            except BusError as error:
                # it has heard the last one: switched off, and not started anew yet
                if error.short != 'InvalidState':
                    raise
            house.vireod.kill()
            house.vireod.start()
            house.restarted()
            return 'Rebooted' in history_of(house.vireod, path, begun)
        # not so often that the guest, which has to boot first, gets no processor for all the brokers
        wait_for(reboots, 120, 'it reboots all the same', poll=2)
        test.equal(qemus_of(house.directory), [pid], 'the same process')
        house(path, 'Destroy')
        house(path, 'Undefine')


def bad_input(test, house):
    good = house.xml('bad')

    def insert(text, where='<emulator>'):
        return good.replace(where, text + where)

    cases = [
        ('<domain', ['line']),
        (good.replace("type='kvm'", "type='xen'").replace("type='qemu'", "type='xen'", 1), ['line 1', 'xen']),
        (insert("<hostdev mode='subsystem'/>"), ['line', '<hostdev>', 'not understood']),
        (insert("<filesystem type='mount'/>"), ['<filesystem>']),
        (insert("<interface type='network'><source network='default'/></interface>"), ['<interface>', 'network']),
        (insert("<disk type='network' device='disk'/>"), ['<disk>', 'network']),
        (insert("<disk type='file' device='disk'><target dev='vdb' bus='virtio'/></disk>"), ['<disk>', 'no <source>']),
        (insert("<disk type='file'><source file='rel'/><target dev='vdb'/></disk>"), ['<source>', "'rel'"]),
        (insert("<disk type='file'><source file='/x'/><target dev='vda'/></disk>"), ['vda']),
        (insert("<disk type='file'><driver type='vmdk'/><source file='/x'/><target dev='vdb'/></disk>"), ['vmdk']),
        (insert("<disk type='file'><driver iothread='1'/><source file='/x'/><target dev='vdb'/></disk>"), ['iothread']),
        (insert("<interface type='bridge'><source bridge='a b'/></interface>"), ['a b']),
        (insert("<graphics type='vnc' port='5900'/>"), ['port']),
        (insert("<disk type='file'><source file='/x'/><target dev='hdb' bus='ide'/><readonly/></disk>"), ['read-only']),
        (insert('<memoryBacking/>', '<devices>'), ['<memoryBacking>']),
        (insert("<cpu mode='custom'><model>a,b=c</model></cpu>", '<devices>'), ['<model>']),
        (insert("<vcpu>0</vcpu>", '<vcpu>1'), ['<vcpu>']),
        (good.replace('<name>bad</name>', '<name>a\nb</name>'), ['line', 'control character']),
        (good.replace('<name>bad</name>', ''), ['no <name>']),
        (re.sub('<memory.*</memory>', "<memory unit='parsec'>1</memory>", good), ['parsec']),
        (re.sub('<uuid>.*</uuid>', '<uuid>0</uuid>', good), ['<uuid>']),
        ('<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + good.replace('bad', '&x;'), ['document type']),
    ]
    with test.case('descriptions that are refused'):
        before = house.domains()
        for xml, words in cases:
            refused(test, lambda: house.define(xml), 'InvalidXML', xml[:60], *words)
        lines = good.splitlines()
        number = next(i for i, line in enumerate(lines, 1) if '<emulator>' in line)
        lines.insert(number - 1, '    <sound model="ich9"/>')
        refused(test, lambda: house.define('\n'.join(lines)), 'InvalidXML', 'the line', f'line {number}: <sound>')
        test.equal(house.domains(), before, 'nothing was changed')
        house.empty('no file was made')

    with test.case('a start that fails leaves no trace'):
        path = house.define(house.xml('nodisk').replace('.img', '.missing'))
        before = house.mark()
        refused(test, lambda: house(path, 'Start'), 'OperationFailed', 'a missing disk', 'No such file')
        words = [w for w in history_of(house.vireod, path, before)]
        test.equal(words, [], 'what is told')
        refused(test, lambda: house.create(house.xml('nodisk-2').replace('.img', '.missing')), 'OperationFailed', 'transient')
        test.check('nodisk-2' not in house.domains(), 'it does not exist')
        house(path, 'Undefine')
        house.empty('no file is left')

    with test.case('names and paths with everything in them'):
        odd = 'a,b=c "d" <e> \'f\' $(g) ü;h/../i'
        disk = guests.image(house.images, guests.POWEROFF, wait=0.3, name='disk, with="all" $(touch x);')
        path = house.define(guests.domain_xml(odd, disk))
        begun = house.mark()
        house(path, 'Start')
        wait_for(lambda: 'Stopped(shutdown)' in story_of(house.recorder, path, begun), 60, 'it ran, and ended')
        test.equal(house.properties(path)['Name'], odd, 'the name')
        house(path, 'Rename', '-version')
        house(path, 'Start')
        house(path, 'Destroy')
        refused(test, lambda: house(path, 'Rename', ''), 'InvalidArgs', 'an empty name')
        house(path, 'Undefine')

    with test.case('who is who'):
        xml = house.xml('twice')
        path = house.define(xml)
        refused(test, lambda: house.define(house.xml('twice')), 'AlreadyExists', 'the same name')
        refused(test, lambda: house.define(xml.replace('twice', 'thrice')), 'AlreadyExists', 'the same UUID')
        refused(test, lambda: house(path, 'Destroy'), 'InvalidState', 'destroying what is off')
        house(path, 'SetMemory', 16 << 20)
        house(path, 'SetVCPUs', 3)
        p = house.properties(path)
        test.equal((p['Memory'], p['MaxMemory'], p['VCPUs']), (16 << 20, 32 << 20, 3), 'the description changed')
        house(path, 'Start')
        # the balloon was asked for as much; a guest without a driver for it keeps what it has
        test.equal(house.properties(path)['VCPUs'], 3, 'and is used')
        house(path, 'Destroy')
        house(path, 'Undefine')


def not_there(test, house):
    with test.case('what this driver cannot do'):
        path = house.define(house.xml('plain'))
        house(path, 'Start')
        offered = set(house.vireod.get(house.connection, 'Connection', 'SupportedOperations'))
        test.check({'Domain.Start', 'Domain.BlockCopy', 'StoragePool.CloneVolume'} <= offered, f'what it offers: {offered}')
        for method, arguments in (('Migrate', ['qemu:///system']), ('AttachDevice', ['<disk/>']), ('DetachDevice', ['<disk/>']),
                                  ('UpdateDevice', ['<disk/>'])):
            test.check(f'Domain.{method}' not in offered, f'{method} is not offered')
            refused(test, lambda: house(path, method, *arguments), 'NotSupported', method)  # pylint: disable=cell-var-from-loop
        for method in 'DefineNetwork', 'CreateNetwork':
            test.check(f'Connection.{method}' not in offered, f'{method} is not offered')
            refused(test, lambda: house.vireod.call(house.connection, 'org.vireo1.Connection', method, '(sa{sv})',  # pylint: disable=cell-var-from-loop
                                                    '<network/>', {}), 'NotSupported', method)
        refused(test, lambda: house(path, 'SetVCPUs', 2), 'NotSupported', 'CPUs of a running domain')
        refused(test, lambda: house(path, 'SetMemory', 1 << 30, live=GLib.Variant('b', True), maximum=GLib.Variant('b', True)),
                'NotSupported', 'more memory than it began with')
        test.equal(house.properties(path)['State'], 'running', 'it runs on')
        house(path, 'Destroy')
        house(path, 'Undefine')


def killed(test, house):
    with test.case('QEMU killed'):
        path = house.define(house.xml('victim'))
        begun = house.mark()
        house(path, 'Start')
        pid, = qemus_of(house.directory)
        os.kill(pid, signal.SIGKILL)
        house.recorder.wait('Stopped', path=path, after=begun)
        test.equal(story_of(house.recorder, path, begun), ['Started(booted)', 'Stopped(failed)'], 'the story')
        house(path, 'Start')
        house(path, 'Destroy')

    with test.case('QEMU hangs'):
        house(path, 'Start')
        pid, = qemus_of(house.directory)
        os.kill(pid, signal.SIGSTOP)
        refused(test, lambda: house(path, 'Suspend'), 'Timeout', 'a call to a QEMU that hangs')
        house(path, 'Destroy')
        test.equal(qemus_of(house.directory), [], 'it is dead')

    with test.case('the broker killed'):
        house(path, 'Start')
        house(path, 'Suspend')
        house(path, 'Resume')
        before = house.properties(path)
        pids = qemus_of(house.directory)
        house.vireod.kill()
        test.equal(qemus_of(house.directory), pids, 'QEMU goes on')
        house.vireod.start()
        house.restarted()
        test.equal(house.properties(path), before, 'nothing changed, the version neither')
        refused(test, lambda: house(path, 'Start'), 'InvalidState', 'starting it again')
        test.equal(qemus_of(house.directory), pids, 'it is the same one')

    with test.case('paused by others meanwhile, and both killed'):
        house.vireod.kill()
        house.vireod.start()
        mark = house.restarted()
        house.vireod.kill()
        os.kill(pids[0], signal.SIGKILL)
        house.vireod.start()
        house.restarted()
        test.equal((house.properties(path)['Active'], house.properties(path)['Persistent']), (False, True), 'it is off')
        test.equal(history_of(house.vireod, path, mark), ['Stopped?'], 'and that was told')
        house(path, 'Start')
        house(path, 'Destroy')
        house(path, 'Undefine')

    with test.case('two brokers, one directory'):
        other = test.vireod(f'vireo://{house.directory}', state=test.scope.directory('state-other'))
        connection = other.get('/org/vireo1', 'Manager', 'Connections')[0]
        wait_for(lambda: other.get(connection, 'Connection', 'State') == 'disconnected', 20, 'it is refused', poll=0.1)
        events = other.manager('GetEvents', '(stuta{sv})', other.get('/org/vireo1', 'Manager', 'Epoch'), 0, 0, 0, {})[2]
        messages = [e[8].get('message', '') for e in events]
        test.check(any('another broker' in m for m in messages), f'and told why: {messages}')
        other.stop()


def killed_in_a_storm(test, house):
    with test.case('the broker killed at random moments'):
        rng = random.Random(int(os.environ.get('VIREO_TEST_SEED', '0')) or os.getpid())
        paths = [house.define(house.xml(f'storm-{i}')) for i in range(4)]
        mark = house.mark()
        for _ in range(12):
            for path in paths:
                method = rng.choice(['Start', 'Start', 'Destroy', 'Suspend', 'Resume'])
                try:
                    house(path, method, **{'async': GLib.Variant('b', True)})
                except BusError:
                    pass
            wait = rng.random() * 0.5
            GLib.timeout_add(int(wait * 1000) + 1, lambda: False)
            deadline = GLib.get_monotonic_time() + wait * 1e6
            wait_for(lambda: GLib.get_monotonic_time() >= deadline, 5, 'a random moment', poll=0.01)
            house.vireod.kill()
            counts = {}
            for pid in qemus_of(house.directory):
                with open(f'/proc/{pid}/cmdline', 'rb') as f:
                    key = re.search(rb'guest=([^,]*)', f.read())
                counts[key.group(1)] = counts.get(key.group(1), 0) + 1
            test.check(all(n == 1 for n in counts.values()), f'a domain runs twice: {counts}')
            house.vireod.start()
            house.restarted()
        known = house.domains()
        running = set()
        for pid in qemus_of(house.directory):
            with open(f'/proc/{pid}/cmdline', 'rb') as f:
                running.add(re.search(rb'guest=([^,]*)', f.read()).group(1).decode())
        test.equal({n for n, p in known.items() if p['Active']}, running, 'who runs')
        for path in paths:
            if house.properties(path)['Active']:
                house(path, 'Destroy')
            house(path, 'Undefine')
        test.check(house.mark() > mark, 'versions go on')
        test.equal(qemus_of(house.directory), [], 'no process is left')
        house.empty('no file is left')


def many(test, house):
    with test.case('ten at once'):
        paths = [house.define(house.xml(f'many-{i}', guests.POWEROFF if i % 2 else guests.IDLE, wait=1)) for i in range(10)]
        begun = house.mark()
        for path in paths:
            house(path, 'Start', **{'async': GLib.Variant('b', True)})
        for path in paths:
            house.recorder.wait('Started', path=path, after=begun)
        for i, path in enumerate(paths):
            if i % 2 == 0:
                house(path, 'Destroy', **{'async': GLib.Variant('b', True)})
        for path in paths:
            house.recorder.wait('Stopped', path=path, after=begun)
        for i, path in enumerate(paths):
            test.equal(story_of(house.recorder, path, begun),
                       ['Started(booted)', 'Shutdown(guest)', 'Stopped(shutdown)'] if i % 2 else
                       ['Started(booted)', 'Shutdown(host)', 'Stopped(destroyed)'], f'the story of {i}')
            house(path, 'Undefine')


def autostart(test, house):
    with test.case('autostart'):
        path = house.define(house.xml('auto'))
        house(path, 'SetAutostart', True)
        other = house.define(house.xml('manual'))
        house.vireod.stop()
        house.vireod.start()
        house.restarted()
        test.equal(house.properties(path)['Active'], False, 'not when only the broker restarts')
        house.vireod.stop()
        (house.directory / 'boot-id').write_text('00000000000000000000000000000000')
        house.vireod.start()
        house.restarted()
        wait_for(lambda: house.properties(path)['Active'], 30, 'started with the machine', poll=0.1)
        test.equal(house.properties(other)['Active'], False, 'and only that one')
        house(path, 'Destroy')
        house(path, 'Undefine')
        house(other, 'Undefine')


def main(test):
    program.needs(qemukit.missing)
    house = House(test)
    lifecycle(test, house)
    guest_acts(test, house)
    bad_input(test, house)
    not_there(test, house)
    many(test, house)
    test.judge(house.vireod)
    killed(test, house)
    autostart(test, house)
    killed_in_a_storm(test, house)
    test.judge(house.vireod, 'the story with broker killed')
    house.finish()


program.run(main)
