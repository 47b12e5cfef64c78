#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Block jobs and volumes, by D-Bus alone, on a real libvirtd with real QEMU: how far they are, how they end, cancelled half-way
and without space, and that the data is afterwards what it was.

    jobs_disks.py [CASE…]
"""

import os
import socket
import sys
import uuid as uuids

from kit import program
from kit.operations import MIB, Guest, Hypervisor, make_qcow2, same_content, sha256, write_qcow2
from kit.vireod import BusError

COPY = "<disk type='file'><driver type='qcow2'/><source file='{file}'/></disk>"
POOL = "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid><target><path>{target}</path></target></pool>"
VOLUME = ("<volume><name>{name}</name><capacity unit='MiB'>{size}</capacity><allocation>0</allocation>"
          "<target><format type='{format}'/></target></volume>")


def refused(test, wanted, function, what):
    try:
        function()
    except BusError as error:
        test.equal(error.short, wanted, what)
        return
    test.fail(f'{what} was not refused')


def block_copy(test, here):
    g = Guest(here, 'copied', data=48)
    images = here.libvirtd.images
    reference = images / 'copied-reference.qcow2'
    make_qcow2(reference, 48)

    def copy(name, **words):
        return g.begin('BlockCopy', 'vdb', COPY.format(file=images / name), transient=True, **words)

    def uses(name):
        return name in here.virsh('domblklist', g.name)

    job = copy('cancelled.qcow2', bandwidth=8 * MIB)
    job.wait_values(3)
    g.refused('Busy', 'BlockPull', 'vdb', says=job.path)
    g.refused('Busy', 'Save', str(images / 'no.save'), says=job.path)
    # what libvirt allows beside a block job is not refused
    g.do('Suspend')
    g.do('Resume')
    g.do('SetAutostart', True)
    g.do('SetAutostart', False)
    job.cancel()
    job.wait('cancelled')
    g.check('running', 'after a cancelled copy')
    job.check_rising('a copy')
    test.equal(job.get('Error'), ('', ''), 'Error of a copy that was cancelled')
    test.check(uses(g.data.name) and g.holds(g.data, reference), 'after a cancelled copy the disk is another, or holds other data')

    job = copy('pivoted.qcow2', bandwidth=16 * MIB)
    refused(test, 'InvalidState', job.complete, 'Complete of a copy that is not ready')
    job.wait_told('Ready')
    job.check_rising('a copy to its end', least=3)
    job.complete()
    job.wait_completed('a copy')
    g.check('running', 'after a copy')
    test.check(uses('pivoted.qcow2'), 'the domain does not use the copy')
    test.check('pivoted.qcow2' in here.call(g.target, 'GetXML')['xml'], 'GetXML does not have the copy')
    test.check(g.holds(images / 'pivoted.qcow2', reference), 'the copy holds something else')

    # one that is ready and then cancelled stays where it was; the disk is called by the file behind it
    mark = here.now()
    job = g.begin('BlockCopy', str(images / 'pivoted.qcow2'), COPY.format(file=images / 'ready.qcow2'), transient=True)
    job.wait_told('Ready')
    job.cancel(wait=True)
    test.equal(job.get('State'), 'cancelled', 'State when Cancel has answered that was told to wait')
    job.wait('cancelled')
    test.check(uses('pivoted.qcow2'), 'a cancelled copy was pivoted to')
    jobs = [e.path for e in here.client.recorder.of(kind='Job', after=mark) if e.event == 'Added']
    test.equal(jobs, [job.path], 'the jobs that one copy is')
    for disk in ('vdz', '/no/such/file'):
        g.refused('NotFound', 'BlockCopy', disk, COPY.format(file=images / 'x.qcow2'), says=disk)
        g.refused('NotFound', 'BlockPull', disk, says=disk)
        g.refused('NotFound', 'BlockCommit', disk, says=disk)

    # no space for it
    small = here.libvirtd.shrink('small', '8m')
    job = g.begin('BlockCopy', 'vdb', COPY.format(file=small / 'full.qcow2'), transient=True)
    job.wait_failed('OperationFailed', 'a copy without space')
    g.check('running', 'after a copy that found no space')
    test.check(uses('pivoted.qcow2'), 'a failed copy was pivoted to')
    test.check(g.holds(images / 'pivoted.qcow2', reference), 'after a copy without space the disk holds something else')

    # the domain goes, and the copy with it
    job = copy('destroyed.qcow2', bandwidth=4 * MIB)
    job.wait_percent(1)
    g.do('Destroy')
    job.wait_failed('OperationFailed', 'a copy of a domain that was destroyed')
    xml = COPY.format(file=images / 'inactive.qcow2')
    g.refused('InvalidState', 'BlockCopy', 'vdb', xml)
    g.refused('InvalidXML', 'BlockCopy', 'vdb', '<disk>\n<nonsense', says='line 2, column')
    g.end()


def commit_pull(test, here):
    g = Guest(here, 'layers', data=48)
    images = here.libvirtd.images
    below, above = images / 'layers-below.qcow2', images / 'layers-above.qcow2'
    make_qcow2(below, 48)
    make_qcow2(above, 48, pattern=9)

    def snapshot(name):
        here.virsh('snapshot-create-as', g.name, name, '--disk-only', '--no-metadata', '--diskspec', 'vda,snapshot=no',
                   '--diskspec', f'vdb,file={images / name}')

    def write_layer(name):
        """A new layer on top, full of other data: written while the domain is off."""
        g.do('Destroy')
        snapshot(name)
        write_qcow2(images / name, 48, 9)
        g.do('Start')

    def source():
        return here.virsh('domblklist', g.name)

    # pull: cancelled half-way, then to its end
    snapshot('layer1')
    job = g.begin('BlockPull', 'vdb', bandwidth=16 * MIB)
    job.wait_percent(30)
    job.cancel()
    job.wait('cancelled')
    g.check('running', 'after a cancelled pull')
    test.check(g.holds(images / 'layer1', below), 'after a cancelled pull the disk holds something else')
    job = g.begin('BlockPull', 'vdb', bandwidth=16 * MIB)
    job.wait_completed('a pull')
    job.check_rising('a pull', least=2)
    xml = here.virsh('dumpxml', g.name)
    end = xml.index("<target dev='vdb'")
    test.check('backingStore type' not in xml[xml.rindex('<disk', 0, end):end], 'after a pull there is a backing file still')
    test.check(g.holds(images / 'layer1', below), 'after a pull the disk holds something else')

    # commit of the active layer, with data of its own in it
    write_layer('layer2')
    job = g.begin('BlockCommit', 'vdb', bandwidth=12 * MIB, active=True)
    job.wait_percent(30)
    job.cancel()
    job.wait('cancelled')
    g.check('running', 'after a cancelled commit')
    test.check('layer2' in source() and g.holds(images / 'layer2', above), 'a cancelled commit has changed what the disk holds')
    job = g.begin('BlockCommit', 'vdb', bandwidth=16 * MIB, active=True)
    job.wait_told('Ready')
    job.check_rising('a commit', least=3)
    job.complete()
    job.wait_completed('a commit')
    test.check('layer1' in source(), 'after a commit the domain does not use the layer below')
    test.check(g.holds(images / 'layer1', above), 'after a commit the disk holds something else')
    # one that completes by itself
    snapshot('layer3')
    g.begin('BlockCommit', 'vdb', pivot=True).wait_completed('a commit with pivot')
    test.check('layer1' in source(), 'a commit with pivot did not pivot')
    g.check('running', 'after a commit')
    here.check_truth()
    g.end()


class Pool:
    """A directory as a storage pool, made through the broker."""

    def __init__(self, here, name, directory):
        self.here, self.directory = here, directory
        uuid = str(uuids.uuid4())
        self.target = here.object('pool', uuid), 'StoragePool'
        here.do((here.path, 'Connection'), 'CreatePool', POOL.format(name=name, uuid=uuid, target=directory))

    def do(self, method, *arguments, **words):
        return self.here.do(self.target, method, *arguments, **words)

    def begin(self, method, *arguments, **words):
        return self.here.begin(self.target, method, *arguments, **words)

    def refused(self, wanted, method, *arguments, **words):
        return self.here.refused(wanted, self.target, method, *arguments, **words)

    def create(self, name, size, image_format='raw'):
        self.do('CreateVolume', VOLUME.format(name=name, size=size, format=image_format))

    def volumes(self):
        return dict(self.here.client.call(self.target[0], 'org.vireo1.StoragePool', 'ListVolumes', '(a{sv})', {}))


def transfers(test, here):
    directory = here.libvirtd.images / 'transfers'
    directory.mkdir()
    pool = Pool(here, 'transfers', directory)
    sent, received = here.libvirtd.images / 'sent', here.libvirtd.images / 'received'
    sent.write_bytes(os.urandom(256 * MIB))
    checksum = sha256(sent)
    pool.create('one', 256)
    pool.create('other', 1)
    pool.refused('AlreadyExists', 'CreateVolume', VOLUME.format(name='one', size=1, format='raw'))

    # through pipes, so that it is we who say how fast: cancelled half-way, then to the end
    for ending in ('cancelled', 'completed'):
        reader, writer = os.pipe()
        job = pool.begin('UploadVolume', 'one', fd=reader, length=256 * MIB)
        os.close(reader)
        with open(sent, 'rb') as source, os.fdopen(writer, 'wb') as pipe:
            for quarter in (1, 2, 3):
                feed(pipe, source, 64 * MIB)
                job.wait_percent(quarter * 25 - 1)
                if quarter == 2 and ending == 'cancelled':
                    break
            test.equal(job.get('Type'), 'bounded', 'Type of an upload whose length was said')
            pool.refused('Busy', 'DeleteVolume', 'one', says=job.path)
            pool.refused('Busy', 'Stop', says=job.path)
            pool.do('ResizeVolume', 'other', (2 if ending == 'cancelled' else 3) * MIB)
            if ending == 'cancelled':
                job.cancel()
                job.wait('cancelled')
                continue
            feed(pipe, source, 64 * MIB)
        job.wait_completed('an upload')
        job.check_rising('an upload')
        test.equal(job.get('BytesDone'), 256 * MIB, 'BytesDone of an upload')
        test.equal(sha256(directory / 'one'), checksum, 'the checksum of what was uploaded')
    test.equal(pool.volumes()['other']['capacity'], 3 * MIB, 'a volume that was resized while another was written')

    for ending in ('cancelled', 'completed'):
        reader, writer = os.pipe()
        job = pool.begin('DownloadVolume', 'one', fd=writer)
        os.close(writer)
        with open(received, 'wb') as target, os.fdopen(reader, 'rb') as pipe:
            for quarter in (1, 2):
                feed(target, pipe, 64 * MIB)
                job.wait_percent(quarter * 25 - 1)
            if ending == 'cancelled':
                job.cancel()
                job.wait('cancelled')
                continue
            feed(target, pipe, 128 * MIB)
            test.equal(pipe.read(1), b'', 'what comes behind the end of a download')
        job.wait_completed('a download')
        job.check_rising('a download')
        test.equal(sha256(received), checksum, 'the checksum of what was downloaded')
    received.unlink()
    test.equal(sha256(directory / 'one'), checksum, 'the volume after a download that was cancelled')

    # a reader that does not read
    ours, theirs = socket.socketpair()
    job = pool.begin('DownloadVolume', 'one', fd=theirs.fileno())
    theirs.close()
    job.wait_told('Type', 'bounded')
    job.cancel()
    job.wait('cancelled')
    ours.close()

    # nobody reads it; and from file to file
    reader, writer = os.pipe()
    job = pool.begin('DownloadVolume', 'one', fd=writer)
    os.close(writer)
    os.close(reader)
    job.wait_failed('OperationFailed', 'a download that nobody reads')
    with sent.open('rb') as file:
        pool.do('UploadVolume', 'other', fd=file.fileno(), length=3 * MIB, offset=0)
    test.equal(sha256(directory / 'other'), sha256(sent, 0, 3 * MIB), 'the checksum of a part that was uploaded')

    # less than was promised
    reader, writer = os.pipe()
    job = pool.begin('UploadVolume', 'other', fd=reader, length=3 * MIB)
    os.close(reader)
    os.write(writer, bytes(1000))
    os.close(writer)
    message = job.wait_failed('OperationFailed', 'an upload that ended early')
    test.check(f'{3 * MIB - 1000} bytes early' in message, f'an upload that ended early says {message}')

    # no space left
    small = Pool(here, 'full', here.libvirtd.shrink('full', '8m'))
    small.create('v', 64)
    with sent.open('rb') as file:
        small.refused('OperationFailed', 'UploadVolume', 'v', fd=file.fileno(), length=64 * MIB, says='No space left')
    full = VOLUME.format(name='w', size=64, format='raw').replace('<allocation>0', '<allocation unit="MiB">64')
    small.refused('OperationFailed', 'CreateVolume', full)
    test.equal(set(small.volumes()), {'v'}, 'the volumes of a pool that is full')
    here.check_truth('Allocation', 'Available', 'Capacity')
    small.do('Stop')
    sent.unlink()
    pool.do('Stop')


def feed(target, source, size):
    """Copy so many bytes from file to file."""
    while size > 0:
        block = source.read(min(size, MIB))
        assert block, f'{size} bytes are missing'
        target.write(block)
        size -= len(block)
    target.flush()


def clone_wipe(test, here):
    directory = here.libvirtd.images / 'clones'
    directory.mkdir()
    pool = Pool(here, 'clones', directory)
    make_qcow2(directory / 'data.qcow2', 64)
    pool.do('Refresh')

    # a clone of a qcow2 shows how it grows
    here.libvirtd.write_rate(24 * MIB)
    job = pool.begin('CloneVolume', 'data.qcow2', 'clone.qcow2')
    job.wait_percent(30)
    test.equal(job.get('Type'), 'bounded', 'Type of a clone of a qcow2')
    # libvirt has no way to end it
    refused(test, 'NotCancellable', job.cancel, 'cancelling a clone')
    pool.refused('Busy', 'DeleteVolume', 'data.qcow2', says=job.path)
    job.wait_completed('a clone')
    job.check_rising('a clone', least=4)
    here.libvirtd.write_rate(0)
    test.check(same_content(directory / 'data.qcow2', directory / 'clone.qcow2'), 'a clone holds something else')
    test.check('clone.qcow2' in pool.volumes(), 'the clone is not listed')
    pool.refused('AlreadyExists', 'CloneVolume', 'data.qcow2', 'clone.qcow2')

    # a wipe shows nothing, and says so
    (directory / 'raw').write_bytes(os.urandom(256 * MIB))
    pool.do('Refresh')
    job = pool.begin('WipeVolume', 'raw')
    job.wait()
    unknown_until_end(test, job, 'a wipe')
    with (directory / 'raw').open('rb') as file:
        test.check(not any(any(block) for block in iter(lambda: file.read(MIB), b'')), 'a wiped volume is not zero')
    job = pool.begin('CloneVolume', 'raw', 'raw2')
    job.wait()
    unknown_until_end(test, job, 'a clone of a raw volume')
    test.equal(sha256(directory / 'raw2'), sha256(directory / 'raw'), 'a clone of a raw volume')
    pool.refused('NotFound', 'WipeVolume', 'none', says='none')
    pool.refused('NotFound', 'CloneVolume', 'none', 'nothing', says='none')
    pool.do('DeleteVolume', 'raw2')
    pool.refused('NotFound', 'DeleteVolume', 'raw2', says='raw2')
    here.client.sync()
    pool.do('Stop')


def unknown_until_end(test, job, what):
    """It may not claim to know how far it is, nor that it can be cancelled."""
    added = next(e for e in job.client.recorder.of(path=job.path) if e.event == 'Added').properties
    told = {name: {added[name], *job.told(name)} for name in ('Type', 'Percent', 'BytesTotal', 'Cancellable', 'RemainingTime')}
    test.equal(told, {'Type': {'unbounded'}, 'Percent': {0.0}, 'BytesTotal': {0}, 'Cancellable': {False},
                      'RemainingTime': {2**64 - 1}}, f'what {what} claimed to know')


def main(test):
    libvirtd = test.libvirtd('vireo-one')
    vireod = test.vireod(f'one={libvirtd.uri}')
    here = Hypervisor(test, vireod, libvirtd, 'one')
    vireod.wait_connected(path=here.path)
    here.run_cases((block_copy, commit_pull, transfers, clone_wipe), sys.argv[1:], here)


if __name__ == '__main__':
    program.run(main)
