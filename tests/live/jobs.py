#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Long operations as objects, through the bus, on a real libvirtd with real QEMU: save and restore, dump, block copy and commit,
migration, volumes; how far they are, how they are cancelled half-way, what is in their way, and what others began.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import uuid as uuids

from gi.repository import Gio, GLib

from kit import guests, libvirtd as daemons, program
from kit.loop import PATIENCE, wait_for
from kit.recorder import NAME, ROOT
from kit.vireod import BusError

NOBODY = 0xffffffff
ASYNC = {'async': GLib.Variant('b', True)}

POOL = "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid><target><path>{target}</path></target></pool>"
VOLUME = "<volume><name>{name}</name><capacity unit='MiB'>{size}</capacity>{format}</volume>"
COPY = "<disk type='file'><driver type='qcow2'/><source file='{file}'/></disk>"


def options(**given):
    """Options of a method: Python's own types, names with _ for -."""
    kinds = {bool: 'b', str: 's', int: 't', list: 'as'}
    return {key.replace('_', '-'): GLib.Variant(kinds[type(value)], value) for key, value in given.items()}


class Job:
    """A job's object, and what was heard of it."""

    def __init__(self, vireod, path):
        self.vireod = vireod
        self.path = path

    def get(self, name):
        return self.vireod.get(self.path, 'Job', name)

    def all(self):
        return self.vireod.get_all(self.path, 'Job')

    def cancel(self):
        self.vireod.call(self.path, f'{NAME}.Job', 'Cancel', '(a{sv})', {})

    def finished(self, limit=120):
        """Wait until it has ended; return its State."""
        self.vireod.recorder.wait('Finished', path=self.path, limit=limit)
        return self.get('State')

    def percents(self):
        """Every Percent that PropertiesChanged brought, in order."""
        return [m.body[1]['Percent'] for m in self.vireod.recorder.messages
                if m.path == self.path and m.member == 'PropertiesChanged' and 'Percent' in m.body[1]]

    def wait_percent(self, percent, limit=60):
        wait_for(lambda: any(p >= percent for p in self.percents()), limit,
                 lambda: f'{percent} % of {self.path}: {self.percents()} {self.all()}')


class Guest:
    """A domain with memory that is filled and a disk vdb that has data."""

    def __init__(self, test, libvirtd, vireod, name, fill=0, memory=64, loop=False):
        self.uuid = str(uuids.uuid4())
        self.name, self.vireod = name, vireod
        self.data = libvirtd.images / f'{name}-data.qcow2'
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.data, '96M'], check=True)
        subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -q -P 7 0 96M', self.data], check=True)
        boot = guests.fill_image(libvirtd.images, fill << 20, loop) if fill else guests.image(libvirtd.images, guests.IDLE)
        disk = (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{self.data}'/>"
                f"<target dev='vdb' bus='virtio'/></disk>")
        xml = guests.domain_xml(name, boot, uuid=self.uuid, memory=memory, extra_devices=disk)
        self.path, version = vireod.call(vireod.connection_path(), f'{NAME}.Connection', 'DefineDomain', '(sa{sv})', xml, {})
        test.check(version > 0, 'DefineDomain returned no version')
        self.call('Start')
        if fill:
            pid, page = libvirtd.qemu_pid(name), os.sysconf('SC_PAGE_SIZE')
            wait_for(lambda: int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1]) * page > fill * 0.9 * (1 << 20),
                     120, 'the guest to fill its memory', poll=0.2)

    def call(self, method, signature='(a{sv})', *arguments, limit=60):
        """Call a method; return its results."""
        return self.vireod.call(self.path, f'{NAME}.Domain', method, signature, *(arguments or ({},)), limit=limit)

    def begin(self, method, signature, *arguments):
        """Call a method with async; return its Job."""
        *arguments, given = arguments
        path, version = self.call(method, signature, *arguments, dict(given, **ASYNC))
        assert version == 0, f'{method} with async returned version {version}'
        return Job(self.vireod, path)

    def get(self, name):
        return self.vireod.get(self.path, 'Domain', name)

    def end(self):
        for method, given in (('Destroy', {}), ('Undefine', options(managed_save=True))):
            try:
                self.call(method, '(a{sv})', given)
            except BusError as error:
                if error.short not in ('NotFound', 'InvalidState', 'UnknownObject', 'UnknownMethod', 'UnknownInterface'):
                    raise


def refused(call, *arguments, **more):
    """Call what has to fail; return (error's short name, message)."""
    try:
        call(*arguments, **more)
    except BusError as error:
        return error.short, error.message
    return 'no error', ''


def save(test, libvirtd, vireod, _other):
    g = Guest(test, libvirtd, vireod, 'saved', fill=900, memory=960)
    file = str(libvirtd.images / 'saved.save')

    job = g.begin('Save', '(sa{sv})', file, options(bypass_cache=True))
    job.wait_percent(1)
    test.equal((job.get('State'), job.get('Type'), job.get('Cancellable'), job.get('Operation')),
               ('running', 'bounded', True, 'save'), 'a running save')
    test.equal(g.get('Jobs'), [job.path], 'Jobs of the domain')
    # what would change the domain is refused, naming the job; reading goes on
    name, message = refused(g.call, 'Suspend')
    test.check(name == 'Busy' and job.path in message, f'Suspend during a save: {name} {message}')
    test.check(job.get('BytesTotal') > 900 << 20, f'BytesTotal {job.get("BytesTotal")}')
    job.cancel()
    test.equal(job.finished(), 'cancelled', 'a save that was cancelled half-way')
    vireod.sync()
    test.equal((g.get('State'), g.get('Jobs')), ('running', []), 'the domain after a cancelled save')

    job = g.begin('Save', '(sa{sv})', file, {})
    test.equal(job.finished(), 'completed', 'a save')
    percents = job.percents()
    test.check(len(percents) >= 2 and percents == sorted(percents), f'Percent of a save: {percents}')
    test.equal((g.get('State'), g.get('Reason'), g.get('Active')), ('shutoff', 'saved', False), 'the domain after a save')
    path, _, version = vireod.call(vireod.connection_path(), f'{NAME}.Connection', 'RestoreDomain', '(sa{sv})', file, {},
                                   limit=60)
    test.check(path == g.path and version > 0, f'RestoreDomain: {path} {version}')
    test.equal((g.get('State'), g.get('Active')), ('running', True), 'the domain after a restore')

    name, message = refused(g.call, 'Save', '(sa{sv})', '/proc/cannot/be', {})
    test.check(name == 'OperationFailed' and 'libvirt domain' in message, f'a save to nowhere: {name} {message}')
    test.equal(refused(g.call, 'Save', '(sa{sv})', 'relative', {})[0], 'InvalidArgs', 'a save to a relative path')
    job = g.begin('Dump', '(sa{sv})', str(libvirtd.images / 'core'), options(memory_only=True))
    wait_for(lambda: job.get('Type') == 'bounded', 60, 'the total of a dump', poll=0.1)
    test.equal(refused(job.cancel)[0], 'NotCancellable', 'cancelling a dump of memory')
    test.equal(job.finished(), 'completed', 'a dump')
    with open(libvirtd.images / 'core', 'rb') as core:
        test.equal(core.read(4), b'\x7fELF', 'what a dump begins with')
    test.equal(g.get('State'), 'running', 'the domain after a dump')
    g.end()


def block_jobs(test, libvirtd, vireod, _other):
    g = Guest(test, libvirtd, vireod, 'blocks')

    def copy(name, **given):
        xml = COPY.format(file=libvirtd.images / name)
        return g.begin('BlockCopy', '(ssa{sv})', 'vdb', xml, options(transient=True, **given))

    job = copy('cancelled.qcow2', bandwidth=20000000)
    job.wait_percent(1)
    # a block job excludes only what the hypervisor refuses
    g.call('Suspend')
    g.call('Resume')
    job.cancel()
    test.equal(job.finished(), 'cancelled', 'a copy that was cancelled')
    test.equal(job.all()['Error'][0], '', 'the error of a cancelled job')

    job = copy('pivoted.qcow2')
    wait_for(lambda: any(e.properties['Ready'] for e in vireod.recorder.of(path=job.path)), 60, 'Updated, ready')
    vireod.call(job.path, f'{NAME}.Job', 'Complete', '(a{sv})', {})
    test.equal(job.finished(), 'completed', 'a copy that was completed')
    test.check('pivoted.qcow2' in libvirtd.virsh('domblklist', 'blocks'), 'the domain does not use the copy')
    same = subprocess.run(['qemu-img', 'compare', '-q', '-U', g.data, libvirtd.images / 'pivoted.qcow2'], check=False)
    test.equal(same.returncode, 0, 'qemu-img compare')
    g.call('GetXML')
    test.check('pivoted.qcow2' in g.call('GetXML')[1], 'GetXML has the old disk')

    libvirtd.virsh('snapshot-create-as', 'blocks', 's', '--disk-only', '--no-metadata', '--diskspec', 'vda,snapshot=no')
    job = g.begin('BlockCommit', '(sa{sv})', 'vdb', options(pivot=True))
    test.equal(job.finished(), 'completed', 'a commit of the active layer that completes by itself')
    test.check('pivoted.qcow2' in libvirtd.virsh('domblklist', 'blocks'), 'the domain still uses the snapshot')

    job = copy('destroyed.qcow2', bandwidth=5000000)
    job.wait_percent(1)
    g.call('Destroy')
    test.equal((job.finished(), job.all()['Error'][0]), ('failed', f'{NAME}.Error.OperationFailed'),
               'a copy of a destroyed domain')
    xml = COPY.format(file=libvirtd.images / 'inactive.qcow2')
    test.equal(refused(g.call, 'BlockCopy', '(ssa{sv})', 'vdb', xml, {})[0], 'InvalidState', 'a copy of an inactive domain')
    test.equal(refused(g.call, 'BlockCopy', '(ssa{sv})', 'vdb', '<disk>', {})[0], 'InvalidXML', 'a copy to broken XML')
    g.end()


def volumes(test, libvirtd, vireod, _other):
    uuid, target = str(uuids.uuid4()), libvirtd.images / 'pool'
    sent, received = libvirtd.images / 'sent', libvirtd.images / 'received'
    target.mkdir()
    digest = hashlib.sha256()
    with open(sent, 'wb') as f:
        for _ in range(256):
            block = os.urandom(1 << 20)
            digest.update(block)
            f.write(block)
    pool = vireod.call(vireod.connection_path(), f'{NAME}.Connection', 'CreatePool', '(sa{sv})',
                       POOL.format(name='jobs', uuid=uuid, target=target), {})[0]

    def call(method, signature, *arguments, limit=60):
        return vireod.call(pool, f'{NAME}.StoragePool', method, signature, *arguments, limit=limit)

    def transfer(method, volume, path, flags):
        fd = os.open(path, flags, 0o600)
        try:
            fds = Gio.UnixFDList.new_from_array([fd])
            reply, _ = vireod.connection.call_with_unix_fd_list_sync(
                NAME, pool, f'{NAME}.StoragePool', method, GLib.Variant('(sha{sv})', (volume, 0, {})), None,
                Gio.DBusCallFlags.NONE, int(60000 * PATIENCE), fds, None)
        finally:
            pass  # the list closes it
        return reply.unpack()

    call('CreateVolume', '(sa{sv})', VOLUME.format(name='one', size=256, format=''), {})
    test.equal(refused(call, 'CreateVolume', '(sa{sv})', VOLUME.format(name='one', size=1, format=''), {})[0],
               'AlreadyExists', 'a name that is taken')
    job, version = transfer('UploadVolume', 'one', sent, os.O_RDONLY)
    test.check(version > 0, 'UploadVolume returned no version')
    test.equal(Job(vireod, job).get('BytesDone'), 256 << 20, 'BytesDone of an upload')
    call('CloneVolume', '(ssa{sv})', 'one', 'two', {})
    transfer('DownloadVolume', 'two', received, os.O_WRONLY | os.O_CREAT)
    test.equal(hashlib.sha256(received.read_bytes()).hexdigest(), digest.hexdigest(), 'uploaded, cloned and downloaded')

    job, _ = call('WipeVolume', '(sa{sv})', 'one', ASYNC)
    job = Job(vireod, job)
    test.equal(job.finished(), 'completed', 'a wipe')
    test.check(job.get('Type') == 'unbounded' and set(job.percents()) <= {0, 100}, f'a wipe told how far it was: {job.all()}')
    call('ResizeVolume', '(sta{sv})', 'two', 300 << 20, {})
    test.equal(dict(call('ListVolumes', '(a{sv})', {}))['two']['capacity'], 300 << 20, 'the capacity of a resized volume')
    call('DeleteVolume', '(sa{sv})', 'one', {})
    test.equal(refused(call, 'DeleteVolume', '(sa{sv})', 'one', {})[0], 'NotFound', 'a volume that is gone')

    # a qcow2 with data: its clone shows how far it is, or was too quick to be asked
    subprocess.run(['qemu-img', 'convert', '-q', '-f', 'raw', '-O', 'qcow2', sent, target / 'q.qcow2'], check=True)
    call('Refresh', '(a{sv})', {})
    job, _ = call('CloneVolume', '(ssa{sv})', 'q.qcow2', 'r.qcow2', ASYNC)
    job = Job(vireod, job)
    test.equal(job.finished(), 'completed', 'a clone of a qcow2 volume')
    same = subprocess.run(['qemu-img', 'compare', '-q', target / 'q.qcow2', target / 'r.qcow2'], check=False)
    test.equal(same.returncode, 0, 'qemu-img compare of a clone')
    print(f'    a clone of 256 MiB told {job.percents()}')
    call('Stop', '(a{sv})', {})


def foreign(test, libvirtd, vireod, _other):
    g = Guest(test, libvirtd, vireod, 'others', fill=360, memory=384)

    def begun(operation):
        after = len(vireod.recorder.events)

        def found():
            return next((e for e in vireod.recorder.events[after:] if e.event == 'Added' and '/job/' in e.path and
                         e.properties['Operation'] == operation and e.properties['StartedBy'] == NOBODY), None)
        return lambda: Job(vireod, wait_for(found, 60, lambda: f'a job {operation}: {vireod.recorder.text()}').path)

    wait_begun = begun('block-copy')
    libvirtd.virsh('blockcopy', 'others', 'vdb', libvirtd.images / 'foreign.qcow2', '--transient-job', '--bytes',
                   '--bandwidth', '10000000')
    job = wait_begun()
    job.wait_percent(1)
    test.equal(job.get('Object'), g.path, 'Object of a job of virsh\'s')
    job.cancel()
    test.equal(job.finished(), 'cancelled', 'a copy of virsh\'s, cancelled through the bus')
    test.check('Copy' not in libvirtd.virsh('blockjob', 'others', 'vdb'), 'virsh still sees its copy')

    wait_begun = begun('save')
    virsh = test.scope.spawn(libvirtd.virsh.argv('save', 'others', libvirtd.images / 'foreign.save'))
    job = wait_begun()
    job.wait_percent(20)
    test.equal(job.finished(), 'completed', 'a save of virsh\'s')
    test.equal(virsh.wait(60), 0, 'virsh save')
    libvirtd.virsh('restore', libvirtd.images / 'foreign.save')
    vireod.sync()
    g.end()


def migration(test, libvirtd, vireod, other):
    there = next(path for path in vireod.get(ROOT, 'Manager', 'Connections') if path != vireod.connection_path())
    vireod.wait_connected(path=there)
    g = Guest(test, libvirtd, vireod, 'moves', fill=360, memory=384, loop=True)
    socket = libvirtd.images / 'migration'

    def migrate(**given):
        return g.begin('Migrate', '(sa{sv})', other.uri,
                       options(live=True, unsafe=True, migrate_uri=f'unix://{socket}', **given))

    job = migrate(bandwidth=20000000)
    job.wait_percent(1)
    job.cancel()
    test.equal(job.finished(), 'cancelled', 'a migration that was cancelled')
    vireod.sync()
    test.equal(g.get('State'), 'running', 'the domain after a cancelled migration')
    socket.unlink(missing_ok=True)
    name, message = refused(g.call, 'Migrate', '(sa{sv})', 'qemu:///system?socket=/nobody/here', options(live=True))
    test.check(name == 'OperationFailed' and '/nobody/here' in message, f'a migration to nowhere: {name} {message}')

    # the guest dirties memory for ever: without post-copy this would not end
    job = migrate(postcopy=True, undefine_source=True, persistent=True)
    test.equal(job.finished(), 'completed', 'a post-copy migration')
    vireod.sync()
    gone = refused(g.get, 'State')[0]
    test.check(gone != 'no error', 'the domain is still where it was')
    path = there + g.path[g.path.index('/domain/'):]
    test.equal(vireod.get(path, 'Domain', 'State'), 'running', 'the domain where it is')
    g.path = path
    g.end()


def frozen(test, libvirtd, vireod, _other):
    g = Guest(test, libvirtd, vireod, 'frozen')
    libvirtd.freeze()
    try:
        test.equal(g.get('State'), 'running', 'reading from memory while libvirtd is frozen')
        name, message = refused(g.call, 'Suspend')
        test.check(name == 'Disconnected', f'Suspend while libvirtd is frozen: {name} {message}')
    finally:
        libvirtd.thaw()
    vireod.wait_connected()
    # a job that runs when its hypervisor is lost is never left running
    job = g.begin('BlockCopy', '(ssa{sv})', 'vdb', COPY.format(file=libvirtd.images / 'lost.qcow2'),
                  options(transient=True, bandwidth=5000000))
    job.wait_percent(1)
    libvirtd.kill()
    test.equal((job.finished(), job.all()['Error'][0]), ('failed', f'{NAME}.Error.Disconnected'),
               'a copy when libvirtd was killed')
    libvirtd.start()
    vireod.wait_connected()
    vireod.sync()
    g.end()


def main(test):
    libvirtd = test.libvirtd()
    other = daemons.Libvirtd(test.scope, 'vireo-two')
    vireod = test.vireod(f'one={libvirtd.uri}', f'two={other.uri}')
    vireod.wait_connected()
    chosen = sys.argv[1:]
    for part in (save, block_jobs, volumes, foreign, migration, frozen):
        if not chosen or part.__name__ in chosen:
            with test.case(part.__name__):
                part(test, libvirtd, vireod, other)
    vireod.sync()
    jobs = [properties for kind, properties in vireod.snapshot()[2].values() if kind == 'Job']
    test.equal([job for job in jobs if job['State'] == 'running'], [], 'jobs that are left running')
    finished = [e for e in vireod.recorder.events if e.event == 'Finished']
    test.equal(len(finished), len({e.path for e in finished}), 'Finished, once a job')
    test.judge(vireod)


if __name__ == '__main__':
    program.run(main)
