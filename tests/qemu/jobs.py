#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What lasts: saving and restoring memory, dumps, block jobs. On real memory and real disks, compared by checksum, and
cancelled half-way.
"""

import os
import signal
import subprocess

import qemukit
from house import House, job_state, progressed, refused, wait_job
from images import checksum, contents, image
from qemukit import Qemu, qemus_of, story_of

from kit import guests, program
from kit.loop import wait_for
from gi.repository import GLib


def told(house, path, after):
    """A story without what QEMU says of its migrations."""
    return [w for w in story_of(house.recorder, path, after) if not w.startswith(('MonitorEvent', 'MigrationIteration'))]


def start_job(house, path, method, *arguments, **options):
    """Begin, and return the job's path while it runs."""
    job = house(path, method, *arguments, **{'async': GLib.Variant('b', True)}, **options)[0]
    return job


def memory(test, house):
    filled = guests.fill_image(house.images, 0x0f000000)

    with test.case('save and restore'):
        file = house.images / 'a, saved "file"'
        path = house.define(guests.domain_xml('keeper', filled, memory=256))
        house(path, 'Start')
        begun = house.mark()
        house(path, 'Save', str(file))
        p = house.properties(path)
        test.equal((p['Active'], p['Reason']), (False, 'saved'), 'it is off')
        house.mark()
        test.equal(told(house, path, begun), ['Suspended(paused)', 'Stopped(saved)'], 'the story of a save')
        test.check(not os.path.exists(f'{file}.part'), 'the file beside it is gone')
        begun = house.mark()
        house.vireod.call(house.connection, 'org.vireo1.Connection', 'RestoreDomain', '(sa{sv})', str(file), {}, limit=60)
        p = house.properties(path)
        test.equal((p['State'], p['Reason']), ('running', 'restored'), 'it runs again')
        house.mark()
        test.equal(told(house, path, begun), ['Started(restored)', 'Resumed(from-snapshot)'], 'the story of a restore')
        # paused when it is saved, paused when it is restored; and running when one says so
        house(path, 'Suspend')
        house(path, 'Save', str(file))
        house.vireod.call(house.connection, 'org.vireo1.Connection', 'RestoreDomain', '(sa{sv})', str(file), {}, limit=60)
        test.equal(house.properties(path)['State'], 'paused', 'it was paused')
        house(path, 'Destroy')
        house.vireod.call(house.connection, 'org.vireo1.Connection', 'RestoreDomain', '(sa{sv})', str(file),
                          {'running': GLib.Variant('b', True)}, limit=60)
        test.equal(house.properties(path)['State'], 'running', 'it was told to run')
        house(path, 'Destroy')

    with test.case('what is restored is what was saved, byte by byte'):
        only_memory = {'memory-only': GLib.Variant('b', True)}
        house(path, 'Start')
        begun = [house.images / f'memory-{i}' for i in range(3)]
        house(path, 'Suspend')
        house(path, 'Dump', str(begun[0]), **only_memory)
        house(path, 'Resume')
        house(path, 'Suspend')
        house(path, 'Dump', str(begun[1]), **only_memory)
        test.check(checksum(begun[0]) != checksum(begun[1]), 'a guest that ran has other memory: this test can tell')
        house(path, 'Save', str(file))
        house.vireod.call(house.connection, 'org.vireo1.Connection', 'RestoreDomain', '(sa{sv})', str(file), {}, limit=60)
        house(path, 'Dump', str(begun[2]), **only_memory)
        test.equal(checksum(begun[2]), checksum(begun[1]), 'its memory, and its processor')
        house(path, 'Destroy')
        for f in begun:
            f.unlink()

    with test.case('a damaged file, one that is none, one that is missing'):
        for text, damage in (('half', lambda b: b[:len(b) // 2]), ('none', lambda b: b'nothing'),
                             ('unfinished', lambda b: b'Vireo-part-1\r\n\0\0' + b[16:])):
            bad = house.images / f'bad-{text}'
            bad.write_bytes(damage(file.read_bytes()))
            refused(test, lambda: house.vireod.call(house.connection, 'org.vireo1.Connection', 'RestoreDomain', '(sa{sv})',
                                                    str(bad), {}, limit=60), 'OperationFailed', text)
            test.equal(house.properties(path)['Active'], False, f'{text}: it is off')
            test.check(not qemus_of(house.directory), f'{text}: no process')
        refused(test, lambda: house.vireod.call(house.connection, 'org.vireo1.Connection', 'RestoreDomain', '(sa{sv})',
                                                '/nowhere/x', {}), 'NotFound', 'missing')

    with test.case('a managed save'):
        house(path, 'Start')
        house(path, 'ManagedSave')
        p = house.properties(path)
        test.equal((p['Active'], p['HasManagedSave']), (False, True), 'it is kept')
        refused(test, lambda: house(path, 'Undefine'), 'InvalidState', 'undefining what has one')
        house.vireod.restart()
        house.restarted()
        test.equal(house.properties(path), p, 'a restart of the broker changes nothing')
        begun = house.mark()
        house(path, 'Start')
        p = house.properties(path)
        test.equal((p['State'], p['Reason'], p['HasManagedSave']), ('running', 'restored', False), 'it went on')
        house.mark()
        test.equal(told(house, path, begun), ['Started(restored)', 'Resumed(from-snapshot)'], 'the story')
        house(path, 'ManagedSave')
        house(path, 'ManagedSaveRemove')
        test.equal(house.properties(path)['HasManagedSave'], False, 'removed')
        house(path, 'Start')
        test.equal(house.properties(path)['Reason'], 'booted', 'it booted')
        house(path, 'Destroy')

    with test.case('a dump of memory has the memory'):
        # the guest stands still: two dumps of it are the same
        house(path, 'Start', paused=GLib.Variant('b', True))
        option = {'memory-only': GLib.Variant('b', True)}
        one, two = house.images / 'core-1', house.images / 'core-2'
        house(path, 'Dump', str(one), **option)
        house(path, 'Dump', str(two), **option)
        test.equal(one.read_bytes()[:4], b'\x7fELF', 'a file for debuggers')
        test.check(one.stat().st_size >= 256 << 20, 'all of the memory')
        test.equal(checksum(one), checksum(two), 'the same memory')
        test.equal(house.properties(path)['State'], 'paused', 'as it was')
        house(path, 'Resume')
        begun = house.mark()
        house(path, 'Dump', str(one), **option)
        house.mark()
        test.equal(told(house, path, begun), ['Suspended(paused)', 'Resumed(unpaused)'], 'the story of a dump')
        house(path, 'Dump', str(two), live=GLib.Variant('b', True))
        test.equal(house.properties(path)['State'], 'running', 'behind a live one')
        house(path, 'Destroy')
        house(path, 'Undefine')
        for f in (one, two, file):
            f.unlink()

    with test.case('a save is cancelled half-way'):
        big = house.define(guests.domain_xml('big', guests.fill_image(house.images, 0x7f000000), memory=2048))
        house(big, 'Start')
        # its memory fills while it runs
        file = house.images / 'big.save'

        def resident():
            pid, = qemus_of(house.directory)
            with open(f'/proc/{pid}/statm', encoding='ascii') as f:
                return int(f.read().split()[1]) * 4096
        wait_for(lambda: resident() > 1800 << 20, 120, 'the guest fills its memory', poll=0.1)
        begun = house.mark()
        job = start_job(house, big, 'Save', str(file))
        p = progressed(house, job, 1)
        test.equal(p['State'], 'running', 'caught while it runs')
        test.check(p['Cancellable'] and p['Type'] == 'bounded' and p['BytesTotal'] >= 2 << 30, f'what it tells: {p}')
        house.vireod.call(job, 'org.vireo1.Job', 'Cancel', '(a{sv})', {'wait': GLib.Variant('b', True)}, limit=60)
        test.equal(wait_job(house, job), 'cancelled', 'how it ended')
        test.check(not file.exists() and not os.path.exists(f'{file}.part'), 'no file is left')
        test.equal(house.properties(big)['State'], 'running', 'it goes on')
        house.mark()
        test.equal(told(house, big, begun), ['Suspended(paused)', 'Resumed(unpaused)'], 'the story')

    with test.case('a dump is cancelled half-way'):
        job = start_job(house, big, 'Dump', str(file))
        test.equal(progressed(house, job, 1)['State'], 'running', 'caught while it runs')
        house.vireod.call(job, 'org.vireo1.Job', 'Cancel', '(a{sv})', {'wait': GLib.Variant('b', True)}, limit=60)
        test.equal(wait_job(house, job), 'cancelled', 'how it ended')
        test.check(not file.exists() and not os.path.exists(f'{file}.part'), 'no file is left')
        test.equal(house.properties(big)['State'], 'running', 'it goes on')

    with test.case('QEMU dies in the middle of a save'):
        job = start_job(house, big, 'Save', str(file))
        progressed(house, job)
        for pid in qemus_of(house.directory):
            os.kill(pid, signal.SIGKILL)
        test.equal(wait_job(house, job), 'failed', 'how it ended')
        test.check(not file.exists() and not os.path.exists(f'{file}.part'), 'no file is left')
        wait_for(lambda: not house.properties(big)['Active'], 20, 'it is off', poll=0.05)
        house(big, 'Undefine')


def disks(test, house):
    size = 64 << 20
    base = image(house.images / 'base.qcow2', size, data=24 << 20, seed=1)
    top = image(house.images / 'top.qcow2', size, backing=base, data=8 << 20, seed=2)
    wanted = contents(top)

    def domain(name, disk):
        return house.define(guests.domain_xml(name, disk, disk_format='qcow2', memory=32))

    def cancelled(path, method, *arguments, **options):
        """Begin a slow job of a disk, and cancel it half-way."""
        job = start_job(house, path, method, 'vda', *arguments, bandwidth=GLib.Variant('t', 1 << 20), **options)
        p = progressed(house, job)
        test.equal((p['State'], p['Cancellable'], p['Percent'] < 100), ('running', True, True), 'half-way')
        house.vireod.call(job, 'org.vireo1.Job', 'Cancel', '(a{sv})', {'wait': GLib.Variant('b', True)}, limit=60)
        test.equal(wait_job(house, job), 'cancelled', 'how it ended')

    with test.case('pull, cancelled half-way and then to its end'):
        path = domain('pull', top)
        house(path, 'Start')
        cancelled(path, 'BlockPull')
        house(path, 'Destroy')
        test.equal(contents(top), wanted, 'what the guest reads behind half a pull')
        house(path, 'Start')
        begun = house.mark()
        house(path, 'BlockPull', 'vda')
        house.mark()
        test.check('BlockJob(completed)' in story_of(house.recorder, path, begun), 'the event')
        refused(test, lambda: house(path, 'BlockPull', 'vdz'), 'NotFound', 'no such disk')
        house(path, 'Destroy')
        info = subprocess.run(['qemu-img', 'info', top], check=True, stdout=subprocess.PIPE, text=True).stdout
        test.check('backing file' not in info, f'it stands by itself: {info}')
        test.equal(contents(top), wanted, 'what the guest reads')
        house(path, 'Undefine')

    with test.case('copy, and pivot when ready'):
        copy = house.images / 'copy, of "it".qcow2'
        path = domain('copy', top)
        house(path, 'Start')
        xml = f"<disk type='file'><driver type='qcow2'/><source file='{str(copy).replace(chr(34), '&quot;')}'/></disk>"
        begun = house.mark()
        job = start_job(house, path, 'BlockCopy', 'vda', xml)
        wait_for(lambda: house.vireod.get(job, 'Job', 'Ready'), 60, 'it is ready', poll=0.05)
        test.equal(job_state(house, job), 'running', 'it goes on until it is told')
        house.vireod.call(job, 'org.vireo1.Job', 'Complete', '(a{sv})', {'wait': GLib.Variant('b', True)}, limit=60)
        test.equal(wait_job(house, job), 'completed', 'how it ended')
        house.mark()
        story = [w for w in story_of(house.recorder, path, begun) if w.startswith('BlockJob')]
        test.equal(story, ['BlockJob(ready)', 'BlockJob(completed)'], 'the story')
        live = house(path, 'GetXML')[1]
        test.check('copy, of' in live, f'the run has another disk: {live}')
        house(path, 'Destroy')
        test.equal(contents(copy), wanted, 'what was copied')
        test.equal(contents(top), wanted, 'what it was copied from')

    with test.case('a copy is cancelled half-way, slowly'):
        house(path, 'Start')
        other = house.images / 'other.qcow2'
        xml = f"<disk type='file'><driver type='qcow2'/><source file='{other}'/></disk>"
        cancelled(path, 'BlockCopy', xml)
        refused(test, lambda: house(path, 'BlockCopy', 'vda', xml), 'AlreadyExists', 'over a file that is there')
        refused(test, lambda: house(path, 'BlockCopy', 'vda', '<disk><auth/></disk>'), 'InvalidXML', 'what is not understood')
        house(path, 'Destroy')
        test.equal(contents(top), wanted, 'what the guest reads behind half a copy')
        house(path, 'Undefine')

    with test.case('commit of the active layer, cancelled half-way and then to its end'):
        over = image(house.images / 'over.qcow2', size, backing=top, data=48 << 20, seed=3)
        wanted_over = contents(over)
        path = domain('commit', over)
        house(path, 'Start')
        cancelled(path, 'BlockCommit', active=GLib.Variant('b', True))
        house(path, 'Destroy')
        test.equal(contents(over), wanted_over, 'what the guest reads behind half a commit')
        house(path, 'Start')
        house(path, 'BlockCommit', 'vda', pivot=GLib.Variant('b', True), active=GLib.Variant('b', True))
        house(path, 'Destroy')
        test.equal(contents(top), wanted_over, 'the lower one has all of it')
        house(path, 'Undefine')


def attached(test):
    with test.case('jobs of a QEMU that somebody else started'):
        directory = test.scope.directory('vms')
        images = test.scope.directory('vm-images')
        base = image(images / 'a.qcow2', 32 << 20, data=16 << 20, seed=4)
        wanted = contents(base)
        vireod = test.vireod(f'qmp://{directory}', state=test.scope.directory('state-qmp'))
        vireod.wait_connected()
        Qemu(test.scope, directory, 'a.qmp', '-drive', f'file={base},format=qcow2,if=virtio,id=disk0', name='theirs')
        vireod.recorder.wait('Started', name='theirs')
        path = vireod.lookup('theirs')
        copy = images / 'copy.qcow2'
        xml = f"<disk type='file'><driver type='qcow2'/><source file='{copy}'/></disk>"
        job, _ = vireod.call(path, 'org.vireo1.Domain', 'BlockCopy', '(ssa{sv})', 'disk0', xml,
                             {'pivot': GLib.Variant('b', True)}, limit=60)
        test.equal(vireod.get(job, 'Job', 'State'), 'completed', 'how it ended')
        core = images / 'core'
        vireod.call(path, 'org.vireo1.Domain', 'Dump', '(sa{sv})', str(core), {'memory-only': GLib.Variant('b', True)}, limit=60)
        test.equal(core.read_bytes()[:4], b'\x7fELF', 'the dump')
        vireod.call(path, 'org.vireo1.Domain', 'Destroy', '(a{sv})', {})
        test.equal(contents(copy), wanted, 'what was copied')
        test.judge(vireod, 'the story of theirs')


def main(test):
    program.needs(qemukit.missing)
    house = House(test)
    disks(test, house)
    memory(test, house)
    test.judge(house.vireod)
    house.finish()
    attached(test)


if __name__ == '__main__':
    program.run(main)
