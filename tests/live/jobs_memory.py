#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Saves, dumps and migrations of guests whose memory is really filled, by D-Bus alone, on real libvirtds with real QEMU: how far
they are, how they end, cancelled half-way and failed, and that the memory is afterwards what it was.

    jobs_memory.py [CASE…]
"""

import os
import signal
import struct
import sys

from kit import program
from kit.operations import MIB, Guest, pair, sha256
from kit.vireod import BusError

# How much memory is filled, and how fast it is written: slow enough to be caught half-way on any machine
FILL = 128
SLOW = 40 * MIB


def save(_test, here, _there):
    g = Guest(here, 'saved', fill=FILL)
    file = here.libvirtd.images / 'saved.save'
    memory = g.memory()

    here.libvirtd.write_rate(SLOW)
    job = g.begin('Save', str(file), bypass_cache=True)
    job.wait_percent(30)
    assert (job.get('Type'), job.get('Operation'), job.get('Cancellable')) == ('bounded', 'save', True), job.text()
    g.refused('Busy', 'Suspend', says=job.path)
    g.refused('Busy', 'SetAutostart', True, says=job.path)
    job.cancel()
    assert job.get('CancelRequested'), 'CancelRequested after Cancel'
    job.wait('cancelled')
    g.check('running', 'after a cancelled save')
    assert g.memory() == memory, 'after a cancelled save the memory is not what it was'
    assert not file.exists(), 'a cancelled save has left its file'

    mark = here.now()
    job = g.begin('Save', str(file))
    job.wait_completed('a save')
    job.check_rising('a save', least=4)
    g.check('shutoff', 'after a save')
    assert file.stat().st_size > (FILL - 1) * MIB, f'the file of the save has {file.stat().st_size} bytes'
    here.expect_story(g.target, 'Suspended (paused)', 'Stopped (saved)', after=mark)
    here.libvirtd.write_rate(0)

    mark = here.now()
    restored = here.do((here.path, 'Connection'), 'RestoreDomain', str(file))
    assert restored['domain'] == g.target[0], f'RestoreDomain names {restored}'
    g.check('running', 'after a restore')
    here.expect_story(g.target, 'Started (restored)', 'Resumed (from-snapshot)', after=mark)
    assert g.memory() == memory, 'the memory of a restored guest is not what it was'

    g.do('ManagedSave')
    assert g.get('HasManagedSave') and not g.get('Active'), 'after a managed save'
    g.do('Start')
    assert g.memory() == memory, 'the memory after a managed save is not what it was'

    # it may be cut off by destroying the domain
    here.libvirtd.write_rate(SLOW)
    job = g.begin('ManagedSave')
    job.wait_percent(5)
    g.do('Destroy')
    job.wait_failed('OperationFailed', 'a save of a domain that was destroyed')
    g.check('shutoff', 'destroyed during a save')
    assert not g.get('HasManagedSave'), 'a save that was cut off counts as one'
    here.libvirtd.write_rate(0)

    # what cannot be
    here.refused('NotFound', (here.path, 'Connection'), 'RestoreDomain', '/no/such/file', says='/no/such/file')
    g.refused('InvalidState', 'Save', str(file))
    g.do('Start')
    g.refused('OperationFailed', 'Save', '/proc/cannot/be', says='/proc/cannot/be')
    g.refused('InvalidArgs', 'Save', 'relative')
    g.end()


def dump(test, here, _there):
    g = Guest(here, 'dumped', fill=FILL)
    core = here.libvirtd.images / 'core'
    memory = g.memory()
    here.libvirtd.write_rate(SLOW)
    mark = here.now()
    job = g.begin('Dump', str(core))
    job.wait_percent(30)
    g.refused('Busy', 'Save', str(core), says=job.path)
    job.cancel()
    job.wait('cancelled')
    g.check('running', 'after a cancelled dump')
    assert not core.exists(), 'a cancelled dump has left its file'

    job = g.begin('Dump', str(core), memory_only=True)
    job.wait_percent(20)
    try:
        job.cancel()
        test.fail('a dump of memory alone cannot be cancelled in QEMU, and was said to be')
    except BusError as error:
        test.equal(error.short, 'NotCancellable', 'cancelling a dump of memory')
    job.wait_completed('a dump')
    job.check_rising('a dump', least=4)
    g.check('running', 'after a dump')
    test.equal(core_memory(core), memory, 'the memory in a dump, against the guest\'s')
    story = here.story(g.target, mark)
    test.equal([e for e in story if e.startswith(('St', 'Cr', 'Sh'))], [], 'a dump stopped the domain')
    core.unlink()
    here.libvirtd.write_rate(0)
    test.equal(g.memory(), memory, 'the memory after a dump')
    g.end()


def core_memory(core):
    """Return the checksum of what a core says of the memory from 1 MiB up to FILL."""
    with core.open('rb') as file:
        header = file.read(64)
        assert header[:5] == b'\x7fELF\x02', f'a dump begins with {header[:5]}'
        offset, size, count = (*struct.unpack_from('<Q', header, 32), *struct.unpack_from('<HH', header, 54))
        for i in range(count):
            file.seek(offset + i * size)
            kind, _, at, _, physical, length = struct.unpack_from('<IIQQQQ', file.read(size))
            if kind == 1 and physical <= MIB and physical + length >= FILL * MIB:
                return sha256(core, at + MIB - physical, (FILL - 1) * MIB)
    raise AssertionError('the dump does not have the memory')


def no_space(test, here, _there):
    g = Guest(here, 'squeezed', fill=48)
    memory = g.memory()
    small = here.libvirtd.shrink('small', '16m')

    def left():
        return here.libvirtd.run(f'ls {small}').split()

    for method, file, words in (('Save', 'save', {}), ('Dump', 'core', {}), ('Dump', 'memory', {'memory_only': True})):
        message = g.begin(method, str(small / file), **words).wait_failed('OperationFailed', f'{method} without space')
        test.check(message, f'{method} without space says nothing')
        g.check('running', f'after {method} without space')
        test.equal(left(), [], f'what {method} without space has left')
    test.equal(g.memory(), memory, 'the memory after saves and dumps without space')
    g.end()


class Mover:
    """Migrates guests from here to there, by a socket of its own each time."""

    def __init__(self, here, there):
        self.here, self.there = here, there
        self.number = 0

    def begin(self, guest, **words):
        self.number += 1
        path = self.here.libvirtd.images / f'migration{self.number}'
        return guest.begin('Migrate', self.there.libvirtd.uri, live=True, unsafe=True, migrate_uri=f'unix://{path}', **words)


def migration(test, here, there):
    move = Mover(here, there)
    g = Guest(here, 'moves', fill=FILL)
    elsewhere = there.object('domain', g.uuid), 'Domain'
    memory = g.memory()

    job = move.begin(g, bandwidth=20 * MIB)
    job.wait_percent(20)
    g.refused('Busy', 'Resume', says=job.path)
    g.do('Suspend')
    test.equal(g.get('State'), 'paused', 'State, suspended during a migration')
    job.cancel()
    job.wait('cancelled')
    job.check_rising('a migration', least=2)
    # libvirt puts back the state that it had when the migration began
    g.check('running', 'after a cancelled migration')
    test.equal(there.virsh('list', '--all', '--name').split(), [], 'what a cancelled migration left')
    test.equal(g.memory(), memory, 'the memory after a cancelled migration')

    # one that is suspended on its way runs again where it arrives: so libvirt helps what does not converge
    mark = here.now()
    job = move.begin(g, bandwidth=40 * MIB, persistent=True, undefine_source=True)
    job.wait_percent(10)
    g.do('Suspend')
    job.wait_completed('a live migration')
    job.check_rising('a live migration', least=3)
    here.client.sync()
    test.equal(there.virsh('domstate', g.uuid).strip(), 'running', 'the domain where it is')
    test.check(here.virsh.fails('domstate', g.uuid), 'the domain is still where it was')
    story = here.story(g.target, mark)
    test.equal((story[0].split()[0], story[-3:]), ('Suspended', ['Stopped (migrated)', 'Undefined', 'Removed']),
               f'the story of a domain that moved: {story}')
    test.equal((there.get(elsewhere, 'State'), there.get(elsewhere, 'Persistent')), ('running', True),
               'the broker on the domain where it is')
    g.hypervisor, g.target = there, elsewhere
    test.equal(g.memory(), memory, 'the memory after a migration')
    there.check_truth()
    g.end()

    # from libvirtd to libvirtd, without the broker between them; and in a tunnel
    g = Guest(here, 'walks', fill=32)
    memory, path = g.memory(), here.libvirtd.images / 'migration-p2p'
    for source, target, how in ((here, there, {'p2p': True, 'migrate_uri': f'unix://{path}'}),
                                (there, here, {'p2p': True, 'tunnelled': True})):
        g.hypervisor, g.target = source, (source.object('domain', g.uuid), 'Domain')
        job = g.begin('Migrate', target.libvirtd.tcp_uri, live=True, unsafe=True, persistent=True, undefine_source=True,
                      bandwidth=40 * MIB, **how)
        job.wait_completed(f'a migration by {how}')
        source.client.sync()
        g.hypervisor, g.target = target, (target.object('domain', g.uuid), 'Domain')
        test.equal(g.get('State'), 'running', f'the domain after a migration by {how}')
        test.equal(source.virsh('list', '--all', '--name').split(), [], f'what a migration by {how} left')
        test.equal(g.memory(), memory, f'the memory after a migration by {how}')
    g.end()

    # a guest that dirties its memory for ever: without post-copy this would not end
    g = Guest(here, 'restless', fill=FILL, loop=True)
    elsewhere = there.object('domain', g.uuid), 'Domain'
    move.begin(g, postcopy=True, undefine_source=True, persistent=True).wait_completed('a post-copy migration')
    here.client.sync()
    test.equal(there.get(elsewhere, 'State'), 'running', 'the domain after post-copy')
    test.equal(here.virsh('list', '--all', '--name').split(), [], 'what post-copy left behind')
    g.hypervisor, g.target = there, elsewhere
    g.end()


def migration_fails(test, here, there):
    move = Mover(here, there)
    g = Guest(here, 'stays', fill=FILL)
    memory = g.memory()
    message = g.begin('Migrate', 'qemu:///system?socket=/nobody/here', live=True).wait_failed('OperationFailed', 'to nowhere')
    test.check('/nobody/here' in message, f'a migration to nowhere says {message}')

    there.virsh.define(f"<domain type='qemu'><name>{g.name}</name><memory>1024</memory><os><type>hvm</type></os></domain>")
    move.begin(g).wait('failed')
    g.check('running', 'after a migration to where the name is taken')
    there.virsh('undefine', g.name)

    job = move.begin(g, bandwidth=30 * MIB)
    job.wait_percent(15)
    os.kill(there.libvirtd.qemu_pid(g.name), signal.SIGKILL)
    job.wait_failed('OperationFailed', 'a migration whose target died')
    g.check('running', 'after a migration whose target died')

    # the other libvirtd goes, and its QEMU stays: the transfer may get to its end, and then nobody takes over
    job = move.begin(g, bandwidth=60 * MIB)
    job.wait_percent(15)
    there.libvirtd.kill()
    job.wait('failed')
    g.check('running', 'after a migration to a libvirtd that died')
    there.libvirtd.start()
    here.client.wait_connected(path=there.path)
    here.client.sync()
    test.equal(there.virsh('list', '--all', '--name').split(), [], 'what migrations that failed have left')
    test.equal(g.memory(), memory, 'the memory after migrations that failed')
    there.check_truth()
    here.check_truth()
    g.end()


CASES = (save, dump, no_space, migration, migration_fails)


def main(test):
    here, there = pair(test)
    here.run_cases(CASES, sys.argv[1:], here, there)


if __name__ == '__main__':
    program.run(main)
