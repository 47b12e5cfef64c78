#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Jobs that others begin, by a monitor of their own beside the broker's: seen, followed, cancelled and completed, and their end
told. On real disks, compared by checksum.
"""

import qemukit
from house import end_broker
from images import contents, image
from qemukit import Qemu

from kit import program
from kit.loop import wait_for
from gi.repository import GLib


def jobs_of(vireod, path):
    return [(job, p) for job, (kind, p) in vireod.snapshot(kinds=GLib.Variant('as', ['job']))[2].items() if p['Object'] == path]


def main(test):
    program.needs(qemukit.missing)
    directory = test.scope.directory('others')
    images = test.scope.directory('others-images')
    size = 32 << 20
    disk = image(images / 'disk.qcow2', size, data=size, seed=5)
    wanted = contents(disk)
    vireod = test.vireod(f'qmp://{directory}', state=test.scope.directory('state-others'))
    vireod.wait_connected()
    qemu = Qemu(test.scope, directory, 'o.qmp', '-drive', f'file={disk},format=qcow2,if=none,id=disk0', '-device',
                'virtio-blk-pci,drive=disk0', name='others', memory=64)
    vireod.recorder.wait('Started', name='others')
    path = vireod.lookup('others')
    known = set()

    def begun(operation):
        """Return the job that is new, and running."""
        def new():
            return next(((job, p) for job, p in jobs_of(vireod, path) if job not in known), None)
        job, p = wait_for(new, 30, f'a job {operation} appears', poll=0.05)
        known.add(job)
        test.equal((p['Operation'], p['State'], p['StartedBy'], p['Cancellable']), (operation, 'running', 0xffffffff, True),
                   'what it is')
        return job

    def ended(job, state, error=''):
        wait_for(lambda: vireod.get(job, 'Job', 'State') != 'running', 60, f'{job} ends', poll=0.05)
        p = vireod.get_all(job, 'Job')
        test.equal((p['State'], p['Error'][0].rsplit('.', 1)[-1]), (state, error), f'how {job} ended')
        return p

    def half_way(job):
        def far():
            p = vireod.get_all(job, 'Job')
            return p if 0 < p['Percent'] < 100 else None
        return wait_for(far, 60, lambda: f'progress of {job}: {vireod.get_all(job, "Job")}', poll=0.02)

    with test.case('a backup of somebody else, to its end'):
        target = images / 'backup.qcow2'
        qemu.outside('drive-backup', device='disk0', target=str(target), format='qcow2', sync='full', speed=16 << 20)
        job = begun('backup')
        p = half_way(job)
        test.equal((p['BytesTotal'], p['Type']), (size, 'bounded'), 'how much there is to do')
        added = vireod.recorder.wait('Added', path=job)
        test.equal(added.details.get('disk'), 'disk0', 'the disk')
        ended(job, 'completed')
        test.equal(contents(target), wanted, 'what was written')

    with test.case('a backup of somebody else, cancelled by us, then by them'):
        node = image(images / 'backup-2.qcow2', size)
        qemu.outside('blockdev-add', driver='qcow2', **{'node-name': 'target'}, file={'driver': 'file', 'filename': str(node)})
        qemu.outside('blockdev-backup', device='disk0', target='target', sync='full', speed=1 << 20, **{'job-id': 'theirs'})
        job = begun('backup')
        half_way(job)
        vireod.call(job, 'org.vireo1.Job', 'Cancel', '(a{sv})', {'wait': GLib.Variant('b', True)}, limit=60)
        ended(job, 'cancelled')
        test.equal(qemu.outside('query-jobs'), [], 'QEMU has none any more')
        qemu.outside('blockdev-backup', device='disk0', target='target', sync='full', speed=1 << 20, **{'job-id': 'theirs'})
        job = begun('backup')
        half_way(job)
        qemu.outside('job-cancel', id='theirs')
        ended(job, 'cancelled')

    with test.case('a copy of somebody else is ready, and completed by us'):
        target = images / 'mirror.qcow2'
        qemu.outside('drive-mirror', device='disk0', target=str(target), format='qcow2', sync='full', **{'job-id': 'mirror'})
        job = begun('block-copy')
        wait_for(lambda: vireod.get(job, 'Job', 'Ready'), 60, 'it is ready', poll=0.05)
        vireod.call(job, 'org.vireo1.Job', 'Complete', '(a{sv})', {'wait': GLib.Variant('b', True)}, limit=60)
        ended(job, 'completed')

    with test.case('a migration of somebody else'):
        qemu.outside('migrate-set-parameters', **{'max-bandwidth': 4096})
        qemu.outside('migrate', uri=f'exec:cat > {images}/state')
        job = begun('migrate')
        vireod.call(job, 'org.vireo1.Job', 'Cancel', '(a{sv})', {'wait': GLib.Variant('b', True)}, limit=60)
        ended(job, 'cancelled')
        qemu.outside('migrate-set-parameters', **{'max-bandwidth': 1 << 40})

    with test.case('what ran when the broker came'):
        target = images / 'backup-3.qcow2'
        vireod.stop()
        qemu.outside('drive-backup', device='disk0', target=str(target), format='qcow2', sync='full', speed=1 << 20)
        vireod.start()
        vireod.wait_connected()
        job = begun('backup')
        half_way(job)
        vireod.kill()
        vireod.start()
        vireod.wait_connected()
        test.equal(vireod.get(job, 'Job', 'Error')[0].rsplit('.', 1)[-1], 'OutcomeUnknown', 'the broker was killed')
        job = begun('backup')
        half_way(job)
        qemu.kill()
        ended(job, 'failed', 'OutcomeUnknown')
    test.judge(vireod, 'the story of jobs of others')
    end_broker(test, vireod)


program.run(main)
