#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Operations that last and that others began (virsh), seen, cancelled and completed through the bus; and what becomes of
operations when the broker or libvirt is killed, restarted or stopped in the middle of them.

    jobs_others.py [CASE…]
"""

import os
import signal
import subprocess
import sys
import time
import uuid as uuids

from kit import program
from kit.loop import PATIENCE, wait_exit, wait_for
from kit.operations import MIB, Guest, pair
from kit.vireod import BusError

# How much memory is filled, and how fast it is written: slow enough to be caught half-way on any machine
FILL = 64
SLOW = 24 * MIB
COPY = "<disk type='file'><driver type='qcow2'/><source file='{file}'/></disk>"
POOL = "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid><target><path>{target}</path></target></pool>"
VOLUME = "<volume><name>{name}</name><capacity unit='MiB'>{size}</capacity></volume>"


def run_virsh(here, *arguments):
    """Begin what virsh shall do meanwhile."""
    return here.test.scope.spawn(here.virsh.argv(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def block_jobs(test, here, _there):
    g = Guest(here, 'disks', data=48)
    images = here.libvirtd.images
    mark = here.now()
    here.virsh('blockcopy', g.name, 'vdb', images / 'foreign.qcow2', '--transient-job', '--bytes', '--bandwidth', 8 * MIB)
    job = here.wait_foreign('block-copy', g.target, mark)
    job.wait_values(3)
    # it keeps nobody out: what libvirt refuses, it refuses itself
    g.refused('InvalidState', 'BlockCopy', 'vdb', COPY.format(file=images / 'second.qcow2'), transient=True)
    g.do('Suspend')
    g.do('Resume')
    job.cancel()
    job.wait('cancelled')
    job.check_rising('a foreign copy')
    test.check('No current block job' in here.virsh('blockjob', g.name, 'vdb') or not here.virsh('blockjob', g.name, 'vdb'),
               'virsh sees the copy that was cancelled')
    test.check(str(g.data) in here.virsh('domblklist', g.name), 'a foreign copy that was cancelled was pivoted to')

    # one that is ready can be completed
    mark = here.now()
    here.virsh('blockcopy', g.name, 'vdb', images / 'completed.qcow2', '--transient-job')
    job = here.wait_foreign('block-copy', g.target, mark)
    job.wait_told('Ready')
    job.complete()
    job.wait()
    test.check('completed.qcow2' in here.virsh('domblklist', g.name), 'the domain does not use the foreign copy')

    # and one that somebody else cancels, or completes, is over here too
    mark = here.now()
    here.virsh('blockcopy', g.name, 'vdb', images / 'third.qcow2', '--transient-job', '--bytes', '--bandwidth', 8 * MIB)
    job = here.wait_foreign('block-copy', g.target, mark)
    job.wait_percent(1)
    here.virsh('blockjob', g.name, 'vdb', '--abort')
    job.wait('cancelled')
    mark = here.now()
    here.virsh('blockcopy', g.name, 'vdb', images / 'fourth.qcow2', '--transient-job', '--wait', '--pivot',
               '--bytes', '--bandwidth', 24 * MIB)
    here.wait_foreign('block-copy', g.target, mark).wait()

    # a commit and a pull are seen as what they are
    here.virsh('snapshot-create-as', g.name, 'layer', '--disk-only', '--no-metadata', '--diskspec', 'vda,snapshot=no',
               '--diskspec', f'vdb,file={images}/layer')
    mark = here.now()
    here.virsh('blockcommit', g.name, 'vdb', '--active')
    job = here.wait_foreign('block-commit', g.target, mark)
    wait_for(lambda: job.get('Ready'), 60, lambda: f'a foreign commit is ready: {job.text()}', poll=0.1)
    job.complete()
    job.wait()
    test.check('fourth.qcow2' in here.virsh('domblklist', g.name), 'a foreign commit that was completed did not pivot')
    here.virsh('snapshot-create-as', g.name, 'again', '--disk-only', '--no-metadata', '--diskspec', 'vda,snapshot=no',
               '--diskspec', f'vdb,file={images}/again')
    mark = here.now()
    here.virsh('blockpull', g.name, 'vdb', '--bytes', '--bandwidth', 8 * MIB)
    here.wait_foreign('block-pull', g.target, mark).wait()

    # one of the broker's own that virsh cancels
    job = g.begin('BlockCopy', 'vdb', COPY.format(file=images / 'fifth.qcow2'), transient=True, bandwidth=8 * MIB)
    job.wait_percent(1)
    here.virsh('blockjob', g.name, 'vdb', '--abort')
    job.wait('cancelled')
    test.check('again' in here.virsh('domblklist', g.name), 'the disk after all of that')
    g.end()


def memory(test, here, there):
    g = Guest(here, 'filled', fill=FILL)
    images = here.libvirtd.images
    here.libvirtd.write_rate(SLOW)

    for operation, arguments in (('save', ('save', g.name, images / 'save')), ('dump', ('dump', g.name, images / 'core'))):
        mark = here.now()
        virsh = run_virsh(here, *arguments)
        job = here.wait_foreign(operation, g.target, mark)
        job.wait_percent(20)
        job.cancel()
        job.wait('cancelled')
        test.check(wait_exit(virsh, 60) != 0, f'virsh {operation} succeeded, though it was cancelled')
        g.check('running', f'after a foreign {operation} that was cancelled')

    mark = here.now()
    virsh = run_virsh(here, 'dump', g.name, images / 'memory', '--memory-only')
    job = here.wait_foreign('dump', g.target, mark)
    job.wait_percent(20)
    try:
        job.cancel()
        test.fail('a dump of memory alone cannot be cancelled in QEMU, and was said to be')
    except BusError as error:
        test.equal(error.short, 'NotCancellable', 'cancelling a foreign dump of memory')
    job.wait()
    job.check_rising('a foreign dump')
    test.equal(wait_exit(virsh, 60), 0, 'virsh dump')

    mark = here.now()
    virsh = run_virsh(here, 'managedsave', g.name)
    job = here.wait_foreign('save', g.target, mark)
    job.wait()
    job.check_rising('a foreign save')
    test.equal(wait_exit(virsh, 60), 0, 'virsh managedsave')
    g.check('shutoff', 'after a foreign save')
    here.libvirtd.write_rate(0)
    g.do('Start')
    # an operation of the broker's own is nobody else's
    mark = here.now()
    g.do('ManagedSave')
    here.client.recorder.wait_version(here.client.sync())
    begun = [e.properties['StartedBy'] for e in here.client.recorder.of(kind='Job', after=mark) if e.event == 'Added']
    test.equal(begun, [os.getuid()], 'whose a save of the broker\'s is')
    g.do('Start')

    def migrate(number, *more):
        mark = here.now()
        virsh = run_virsh(here, 'migrate', g.name, there.libvirtd.uri, '--live', '--unsafe', '--migrateuri',
                          f'unix://{images}/foreign-migration{number}', '--bandwidth', 20, *more)
        return virsh, here.wait_foreign('migrate', g.target, mark)

    virsh, job = migrate(1)
    job.wait_percent(20)
    job.cancel()
    job.wait('cancelled')
    test.check(wait_exit(virsh, 60) != 0, 'virsh migrate succeeded, though it was cancelled')
    g.check('running', 'after a foreign migration that was cancelled')
    virsh, job = migrate(2, '--undefinesource', '--persistent')
    job.wait()
    test.equal(wait_exit(virsh, 60), 0, 'virsh migrate')
    job.check_rising('a foreign migration')
    there.client.sync()
    g.hypervisor, g.target = there, (there.object('domain', g.uuid), 'Domain')
    test.equal(g.get('State'), 'running', 'the domain after a foreign migration')
    g.end()


def crowd(test, here, _there):
    """More operations than libvirtd serves at a time on one connection: others go on, and so does Cancel."""
    guests = [Guest(here, f'crowd{i}', fill=16, data=1) for i in range(7)]
    *saved, other = guests
    here.libvirtd.write_rate(MIB // 2)
    jobs = [g.begin('Save', str(here.libvirtd.images / f'{g.name}.save')) for g in saved]
    for job in jobs[:4]:
        job.wait_percent(3)
    other.do('Suspend')
    other.do('Resume')
    test.equal([job.get('State') for job in jobs], ['running'] * len(jobs), 'the saves while another domain is changed')
    # one that waits for its turn can be cancelled as well, at once
    for job in (jobs[5], jobs[1]):
        wait_for(lambda job=job: job.get('Cancellable'), 30, f'{job.path} can be cancelled', poll=0.1)
        began = time.monotonic()
        job.cancel()
        job.wait('cancelled')
        test.check(time.monotonic() - began < 10 * PATIENCE, f'Cancel took {time.monotonic() - began:.1f} s beside others')
    # and what waits takes the place that became free
    jobs[4].wait_percent(3)
    rest = [job for job in jobs if job not in (jobs[1], jobs[5])]
    test.equal([job.get('State') for job in rest], ['running'] * len(rest), 'the other saves')
    for job in reversed(rest):
        job.cancel()
    for g, job in zip(saved, jobs):
        job.wait('cancelled')
        g.check('running', 'after saves that were cancelled')
    here.libvirtd.write_rate(0)
    for g in guests:
        g.end()


class Long:
    """Three operations that last: a copy, a save and an upload, all of them half-way."""

    def __init__(self, here):
        self.here = here
        number = uuids.uuid4().hex[:6]
        images = here.libvirtd.images
        self.disk, self.filled = Guest(here, f'disk-{number}', data=64), Guest(here, f'filled-{number}', fill=FILL)
        directory, uuid = images / f'pool-{number}', str(uuids.uuid4())
        directory.mkdir()
        self.pool = here.object('pool', uuid), 'StoragePool'
        here.do((here.path, 'Connection'), 'DefinePool', POOL.format(name=f'pool-{number}', uuid=uuid, target=directory))
        here.do(self.pool, 'Start')
        here.do(self.pool, 'CreateVolume', VOLUME.format(name='v', size=64))

        self.copy = self.disk.begin('BlockCopy', 'vdb', COPY.format(file=images / f'{number}.qcow2'), transient=True,
                                    bandwidth=6 * MIB)
        # whoever dies has time to come back
        here.libvirtd.write_rate(SLOW // 8)
        self.save = self.filled.begin('Save', str(images / f'{number}.save'))
        reader, self._writer = os.pipe()
        self.upload = here.begin(self.pool, 'UploadVolume', 'v', fd=reader, length=64 * MIB)
        os.close(reader)
        os.write(self._writer, bytes(60000))
        for job in (self.copy, self.save):
            job.wait_percent(2)
        self.upload.wait_told('Type', 'bounded')
        self.jobs = (self.copy, self.save, self.upload)

    def wait_named(self, guest, job):
        """Wait until the domain names its job: only those are that last."""
        wait_for(lambda: job.path in guest.get('Jobs'), 30, lambda: f'{guest.name} names {job.path}: {guest.get("Jobs")}', poll=0.1)

    def end(self):
        os.close(self._writer)
        self.here.libvirtd.write_rate(0)
        self.disk.end()
        self.filled.end()
        self.here.do(self.pool, 'Stop')
        self.here.do(self.pool, 'Undefine')


def ready_before(test, here, _there):
    """Copies that are ready before the broker hears of them: they can be completed all the same."""
    g = Guest(here, 'early', data=4)
    images = here.libvirtd.images
    mark = here.now()
    here.client.stop()
    here.virsh('blockcopy', g.name, 'vdb', images / 'early.qcow2', '--transient-job', '--wait')
    here.client.start()
    here.client.wait_connected(path=here.path)
    job = here.wait_foreign('block-copy', g.target, mark)
    wait_for(lambda: job.get('Ready'), 30, lambda: f'{job.path} is ready: {job.text()}', poll=0.1)
    job.complete()
    job.wait()
    test.check('early.qcow2' in here.virsh('domblklist', g.name), 'the domain does not use the copy')
    g.end()


def vireod_dies(test, here, _there):
    """Killed, and told to end: its jobs are closed as failed, and what goes on in libvirt is found again."""
    vireod = here.client
    for number in (signal.SIGKILL, signal.SIGTERM):
        long = Long(here)
        long.wait_named(long.disk, long.copy)
        mark = here.now()
        vireod.stop(number)
        vireod.start()
        vireod.wait_connected(path=here.path)
        for job in long.jobs:
            test.equal((job.get('State'), job.get('Error')[0]), ('failed', 'org.vireo1.Error.OutcomeUnknown'),
                       f'{job.get("Operation")} of a broker that ended by {number.name}')
        copy = here.wait_foreign('block-copy', long.disk.target, mark)
        save = here.wait_foreign('save', long.filled.target, mark)
        test.check({copy.path, save.path}.isdisjoint(j.path for j in long.jobs), 'a job that has ended is found running')
        long.wait_named(long.disk, copy)
        copy.wait_percent(1)
        copy.cancel()
        copy.wait('cancelled')
        here.libvirtd.write_rate(0)
        save.wait()
        long.disk.check('running', 'after its broker died')
        long.filled.check('shutoff', 'saved while its broker was dead')
        here.refused('NotFound', long.pool, 'DeleteVolume', 'nothing')
        here.check_truth()
        long.end()


def mover_dies(test, here, there):
    """The broker is killed during a migration: what it led is given up by libvirt, what libvirtds do by themselves goes on."""
    vireod = here.client
    g = Guest(here, 'orphan', fill=FILL)
    for p2p in (False, True):
        job = g.begin('Migrate', there.libvirtd.tcp_uri if p2p else there.libvirtd.uri, live=True, unsafe=True, p2p=p2p,
                      bandwidth=3 * MIB, migrate_uri=f'unix://{here.libvirtd.images}/migration-orphan-{p2p}')
        job.wait_percent(5)
        mark = here.now()
        vireod.kill()
        vireod.start()
        for hypervisor in (here, there):
            vireod.wait_connected(path=hypervisor.path)
        test.equal((job.get('State'), job.get('Error')[0]), ('failed', 'org.vireo1.Error.OutcomeUnknown'),
                   'a migration of a broker that was killed')
        if p2p:
            again = here.wait_foreign('migrate', g.target, mark)
            again.wait_percent(10)
            again.cancel()
            again.wait('cancelled')
        g.check('running', 'after its broker was killed while it moved')
        wait_for(lambda: not there.virsh('list', '--all', '--name').split(), 60, 'the target is given up', poll=0.2)
        here.check_truth()
        there.check_truth()
    g.end()


def libvirtd_dies(test, here, _there):
    vireod = here.client
    long = Long(here)
    mark = here.now()
    here.libvirtd.kill()
    for job in long.jobs:
        job.wait_failed('Disconnected', f'{job.get("Operation")} when libvirtd died')
    long.disk.refused('Disconnected', 'Suspend')
    here.libvirtd.start()
    vireod.wait_connected(path=here.path)
    again = here.wait_foreign('block-copy', long.disk.target, mark)
    again.cancel()
    again.wait('cancelled')
    long.disk.check('running', 'after its libvirtd died')
    # libvirt gives the save up when it comes back, and lets the domain go on
    wait_for(lambda: long.filled.get('State') == 'running', 60,
             lambda: f'the domain goes on: {vireod.recorder.text(mark)}', poll=0.5)
    here.check_truth()
    long.end()


def frozen(test, here, _there):
    """libvirtd is stopped: it keeps its sockets, and answers nobody."""
    vireod = here.client
    g, still = Guest(here, 'frozen', data=48), Guest(here, 'still')
    copy = COPY.format(file=here.libvirtd.images / 'frozen.qcow2')
    job = g.begin('BlockCopy', 'vdb', copy, transient=True, bandwidth=2 * MIB)
    job.wait_percent(1)
    mark = here.now()
    here.libvirtd.freeze()
    try:
        began = time.monotonic()
        test.equal(g.get('State'), 'running', 'reading from memory while libvirtd is frozen')
        test.equal(vireod.get_all(*still.target)['Name'], 'still', 'reading everything of it')
        test.check(g.target[0] in vireod.snapshot()[2] and g.target[0] in vireod.managed_objects(), 'listing')
        test.check(vireod.history(mark - 1), 'history')
        test.check(time.monotonic() - began < 5 * PATIENCE, f'reading took {time.monotonic() - began:.1f} s')
        began = time.monotonic()
        message = still.refused('Disconnected', 'Suspend')
        test.check(message and time.monotonic() - began < 60 * PATIENCE, f'{message!r} after {time.monotonic() - began:.1f} s')
        print(f'    after {time.monotonic() - began:.1f} s: {message}')
        job.wait_failed('Disconnected', 'a copy when libvirtd was stopped')
        began = time.monotonic()
        still.refused('Disconnected', 'Suspend')
        test.check(time.monotonic() - began < 5 * PATIENCE, 'what is known to be gone is refused only after a while')
    finally:
        here.libvirtd.thaw()
    vireod.wait_connected(path=here.path)
    again = here.wait_foreign('block-copy', g.target, mark)
    again.cancel()
    again.wait('cancelled')
    here.client.sync()
    # what was asked of a libvirtd that stood still may yet have been done, and then is known
    here.check_truth()
    g.end()
    still.end()


CASES = (block_jobs, memory, crowd, ready_before, vireod_dies, mover_dies, libvirtd_dies, frozen)


def main(test):
    here, there = pair(test)
    here.run_cases(CASES, sys.argv[1:], here, there)


if __name__ == '__main__':
    program.run(main)
