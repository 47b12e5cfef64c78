#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What others change without libvirt saying so (autostart, memory and processors in the definition, managed saves, volumes):
Resync and Sync find it, tell it as inferred, and say nothing when there is nothing.
"""

import glob
import json
import os
import socket

from kit import guests, program, truth
from kit.loop import settle, wait_for
from pools_networks import NET, POOL, Thing


def changes(test, libvirtd, vireod):
    """Yield (what, a function that changes it silently, a function that says whether an object shows it)."""
    virsh = libvirtd.virsh
    idle = guests.domain_xml('idle', guests.image(libvirtd.images, guests.IDLE), memory=64)
    virsh.define(idle)
    virsh('start', 'idle')
    virsh.define(guests.domain_xml('off', guests.image(libvirtd.images, guests.IDLE), memory=64))
    virsh('start', 'off')
    virsh('managedsave', 'off')
    (libvirtd.directory / 'pool').mkdir()
    virsh.xml('pool-define', POOL.format(name='pool', uuid=Thing(vireod, 'pool').uuid,
                                         target=libvirtd.directory / 'pool'))
    virsh('pool-start', 'pool')
    virsh.xml('net-define', NET.format(name='net', uuid=Thing(vireod, 'network').uuid, bridge='vbr3', octet=73))

    yield 'domain Autostart', ('autostart', 'idle'), 'idle', {'Autostart': True}
    yield 'domain Autostart off', ('autostart', 'idle', '--disable'), 'idle', {'Autostart': False}
    yield 'pool Autostart', ('pool-autostart', 'pool'), 'pool', {'Autostart': True}
    yield 'network Autostart', ('net-autostart', 'net'), 'net', {'Autostart': True}
    yield 'HasManagedSave', ('managedsave-remove', 'off'), 'off', {'HasManagedSave': False}
    yield 'memory in the definition', ('setmem', 'off', '32M', '--config'), 'off', {'Memory': 32 << 20}
    yield 'maximum memory', ('setmaxmem', 'off', '48M', '--config'), 'off', {'MaxMemory': 48 << 20}
    yield 'processors', ('setvcpus', 'off', '2', '--config', '--maximum'), 'off', {}
    yield 'a volume', ('vol-create-as', 'pool', 'v', '1M', '--allocation', '1M'), 'pool', {}


def main(test):
    libvirtd = test.libvirtd()
    vireod = test.vireod(libvirtd.uri)
    vireod.wait_connected()
    connection = vireod.connection_path()
    recorder = vireod.recorder

    def resync():
        return vireod.call(connection, 'org.vireo1.Connection', 'Resync', '(a{sv})', {}, limit=60)

    with test.case('nothing changed, nothing said'):
        for call in (resync, vireod.sync, resync):
            before = call()
        settle(0.3, changed=lambda: len(recorder.events))
        count = len(recorder.events)
        for call in (resync, vireod.sync, resync):
            after = call()
            test.check(after >= before, f'the version went from {before} to {after}')
        settle(0.3, changed=lambda: len(recorder.events))
        said = [str(e) for e in recorder.events[count:] if e.kind != 'Connection']
        test.equal(said, [], 'events of a resync that found nothing')

    for index, (what, command, name, wanted) in enumerate(changes(test, libvirtd, vireod)):
        with test.case(what):
            vireod.sync()
            resync()  # what came before is known
            after = vireod.get('/org/vireo1', 'Manager', 'Version')
            libvirtd.virsh(*command)
            version = resync() if index % 2 else vireod.sync()
            objects = [p for k, p in vireod.snapshot()[2].values() if p.get('Name') == name and k != 'Connection']
            if wanted:
                test.equal({k: objects[0][k] for k in wanted}, wanted, f'{name} at version {version}')
                recorder.wait_version(objects[0]['Version'])
                said = recorder.of(name=name, after=after)
                test.equal([(e.event, e.inferred) for e in said], [('Updated', True)], 'what was said')
            for wrong in truth.compare(libvirtd.virsh, vireod, connection, ignored=('Allocation', 'Available')):
                test.fail(wrong)

    with test.case('Sync covers what completed before the call'):
        xml = guests.domain_xml('quick', None)
        for _ in range(30):
            libvirtd.virsh.define(xml)
            version = vireod.sync()
            _, at, objects = vireod.snapshot()
            test.check(at >= version, f'the snapshot is at {at}, Sync said {version}')
            there = [p for k, p in objects.values() if p.get('Name') == 'quick']
            test.check(there and there[0]['Version'] <= version, f'defined before Sync, not there at {version}')
            libvirtd.virsh('undefine', 'quick')
            version = vireod.sync()
            _, at, objects = vireod.snapshot()
            test.check(not any(p.get('Name') == 'quick' for k, p in objects.values()), f'undefined, still there at {at}')

    with test.case('a guest paused while libvirtd was away'):
        libvirtd.stop()
        vireod.wait_connected('disconnected')
        idle = next(path for path, (k, p) in vireod.snapshot()[2].items() if p.get('Name') == 'idle')
        test.equal(vireod.get(idle, 'Domain', 'State'), 'running', 'the state is kept as last known')
        pause_by_monitor(libvirtd, 'idle')
        libvirtd.start()
        vireod.wait_connected()
        paused = recorder.wait('Suspended', path=idle)
        test.check(paused.inferred, 'the pause is not said to be inferred')
        wait_for(lambda: recorder.events[-1].event == 'Synced' or any(
            e.event == 'Synced' and e.version > paused.version for e in recorder.events), 30, 'Synced')

    test.judge(vireod)


def pause_by_monitor(libvirtd, domain):
    """Pause a guest behind libvirtd's back, through the monitor socket that a libvirtd that ended left open."""
    path = glob.glob(f'{libvirtd.directory}/lib/qemu/domain-*-{domain}/monitor.sock')[0]
    # the path may be too long for a socket's address; the directory can be named by its descriptor
    directory = os.open(os.path.dirname(path), os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
            monitor.settimeout(30)
            monitor.connect(f'/proc/self/fd/{directory}/monitor.sock')
            stream = monitor.makefile('rw', encoding='utf-8')
            json.loads(stream.readline())
            for command in ('qmp_capabilities', 'stop'):
                stream.write(json.dumps({'execute': command}) + '\n')
                stream.flush()
                while 'return' not in json.loads(stream.readline()):
                    pass
    finally:
        os.close(directory)


if __name__ == '__main__':
    program.run(main)
