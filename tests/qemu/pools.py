#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A directory as a storage pool, without libvirt: what others put there is seen without a refresh, volumes are made, cloned,
resized, wiped and deleted, and compared by checksum.
"""

import hashlib
import os
import pathlib
import select
import shutil
import subprocess

import qemukit
from house import House, progressed, refused, wait_job
from qemukit import history_of, story_of

from kit import program
from kit.loop import wait_for
from gi.repository import Gio, GLib

POOL = "<pool type='dir'><name>{}</name><target><path>{}</path></target></pool>"


class Pool:
    def __init__(self, house, path):
        self.house = house
        self.vireod = house.vireod
        self.path = path

    def __call__(self, method, signature='(a{sv})', *arguments):
        return self.vireod.call(self.path, 'org.vireo1.StoragePool', method, signature, *(arguments or ({},)), limit=60)

    def properties(self):
        return self.vireod.get_all(self.path, 'StoragePool')

    def volumes(self):
        return dict(self('ListVolumes'))

    def create(self, name, capacity, form='raw', extra='', **options):
        xml = (f"<volume><name>{name}</name><capacity unit='bytes'>{capacity}</capacity>"
               f"<target><format type='{form}'/></target>{extra}</volume>")
        return self('CreateVolume', '(sa{sv})', xml, options)

    def transfer(self, method, volume, fd, **options):
        """A call with a descriptor."""
        reply, _ = self.vireod.connection.call_with_unix_fd_list_sync(
            'org.vireo1', self.path, 'org.vireo1.StoragePool', method, GLib.Variant('(sha{sv})', (volume, 0, options)), None,
            Gio.DBusCallFlags.NONE, 60000, Gio.UnixFDList.new_from_array([os.dup(fd)]), None)
        return reply.unpack()


def checksum(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def main(test):
    program.needs(qemukit.missing)
    house = House(test)
    directory = test.scope.directory('pool')

    def define(xml, create=False):
        return Pool(house, house.vireod.call(house.connection, 'org.vireo1.Connection',
                                             'CreatePool' if create else 'DefinePool', '(sa{sv})', xml, {})[0])

    with test.case('the life of a pool'):
        after = house.mark()
        pool = define(POOL.format('one', directory))
        p = pool.properties()
        test.equal((p['Name'], p['Type'], p['Active'], p['Persistent'], p['Capacity']), ('one', 'dir', False, True, 0), 'defined')
        refused(test, lambda: pool('ListVolumes'), 'InvalidState', 'volumes of an inactive pool')
        pool('Start')
        p = pool.properties()
        test.check(p['Active'] and p['Capacity'] > 0 and p['Capacity'] >= p['Available'], f'started: {p}')
        refused(test, lambda: pool('Start'), 'InvalidState', 'starting twice')
        refused(test, lambda: pool('Undefine'), 'InvalidState', 'undefining an active one')
        pool('SetAutostart', '(ba{sv})', True, {})
        house.mark()
        test.equal([w for w in story_of(house.recorder, pool.path, after)],
                   ['Added', 'Defined(added)', 'Started', 'Updated?'], 'the story')
        for xml, word in (('<pool type="logical"/>', 'logical'), (POOL.format('x', 'relative'), 'relative'),
                          ("<pool type='dir'><name>x</name></pool>", 'target'),
                          (POOL.format('x', '/x').replace('<target>', '<target><permissions/>'), 'permissions')):
            refused(test, lambda: define(xml), 'InvalidXML', xml, word)
        refused(test, lambda: define(POOL.format('one', '/elsewhere')), 'AlreadyExists', 'the same name')

    with test.case('what others do is seen'):
        begun = house.mark()
        (directory / 'by hand.raw').write_bytes(b'x' * 4096)
        house.recorder.wait('Refreshed', path=pool.path, after=begun)
        test.equal(pool.volumes()['by hand.raw']['capacity'], 4096, 'its size')
        begun = house.mark()
        (directory / 'by hand.raw').unlink()
        (directory / '.hidden').write_bytes(b'x')
        house.recorder.wait('Refreshed', path=pool.path, after=begun)
        test.equal(pool.volumes(), {}, 'nothing is left')

    with test.case('volumes'):
        test.equal(pool.create('a.raw', 1 << 20)[0], 'a.raw', 'the name')
        pool.create('b, "c".qcow2'.replace('"', '&quot;'), 64 << 20, 'qcow2')
        pool.create('over', 64 << 20, 'qcow2', f"<backingStore><path>{directory}/b, &quot;c&quot;.qcow2</path>"
                                               "<format type='qcow2'/></backingStore>")
        found = pool.volumes()
        test.equal({n: (v['format'], v['capacity']) for n, v in found.items()},
                   {'a.raw': ('raw', 1 << 20), 'b, "c".qcow2': ('qcow2', 64 << 20), 'over': ('qcow2', 64 << 20)}, 'the list')
        info = subprocess.run(['qemu-img', 'info', directory / 'over'], check=True, stdout=subprocess.PIPE, text=True).stdout
        test.check('backing file: ' in info and 'b, "c"' in info, info)
        refused(test, lambda: pool.create('a.raw', 1), 'AlreadyExists', 'the same name')
        for name in '../x', '.x', 'a/b', '':
            refused(test, lambda: pool.create(name, 1), 'InvalidArgs', f'the name {name!r}')
        refused(test, lambda: pool('CreateVolume', '(sa{sv})', "<volume><name>x</name><encryption/></volume>", {}),
                'InvalidXML', 'what is not understood', 'line 1: <encryption>')
        refused(test, lambda: pool('ResizeVolume', '(sta{sv})', 'nothing', 1, {}), 'NotFound', 'no such volume')
        pool('ResizeVolume', '(sta{sv})', 'over', 128 << 20, {})
        test.equal(pool.volumes()['over']['capacity'], 128 << 20, 'bigger')
        refused(test, lambda: pool('ResizeVolume', '(sta{sv})', 'over', 1 << 20, {}), 'InvalidArgs', 'smaller')
        pool('ResizeVolume', '(sta{sv})', 'over', 32 << 20, {'shrink': GLib.Variant('b', True)})
        pool('DeleteVolume', '(sa{sv})', 'over', {})
        test.check('over' not in pool.volumes(), 'deleted')

    data = os.urandom(8 << 20)
    with test.case('contents'):
        pool.create('data', 8 << 20)
        source = test.scope.directory() / 'data'
        source.write_bytes(data)
        with source.open('rb') as f:
            pool.transfer('UploadVolume', 'data', f.fileno())
        test.equal(checksum(directory / 'data'), checksum(source), 'uploaded')
        target = test.scope.directory() / 'down'
        with target.open('wb') as f:
            pool.transfer('DownloadVolume', 'data', f.fileno(), offset=GLib.Variant('t', 4096), length=GLib.Variant('t', 65536))
        test.equal(target.read_bytes(), data[4096:4096 + 65536], 'downloaded')
        pool('CloneVolume', '(ssa{sv})', 'data', 'copy', {})
        test.equal(checksum(directory / 'copy'), checksum(source), 'cloned')
        pool('CloneVolume', '(ssa{sv})', 'data', 'copy.qcow2', {'xml': GLib.Variant(
            's', "<volume><name>copy.qcow2</name><target><format type='qcow2'/></target></volume>")})
        subprocess.run(['qemu-img', 'compare', '-q', directory / 'copy.qcow2', source], check=True)
        pool('WipeVolume', '(sa{sv})', 'copy', {})
        test.equal((directory / 'copy').read_bytes(), bytes(8 << 20), 'wiped')
        pool('DeleteVolume', '(sa{sv})', 'data', {'zeroed': GLib.Variant('b', True)})
        test.check(not (directory / 'data').exists(), 'deleted')

    with test.case('a clone is cancelled half-way'):
        big = directory / 'big'
        with big.open('wb') as f:
            for _ in range(64):
                f.write(data)
            for _ in range(64):
                f.write(data[::-1])
        house.mark()
        job, _ = pool('CloneVolume', '(ssa{sv})', 'big', 'big copy', {'async': GLib.Variant('b', True)})
        p = progressed(house, job)
        refused(test, lambda: pool('WipeVolume', '(sa{sv})', 'big copy', {}), 'NotFound', 'a volume that is not there yet')
        if p['State'] == 'running':
            house.vireod.call(job, 'org.vireo1.Job', 'Cancel', '(a{sv})', {'wait': GLib.Variant('b', True)}, limit=60)
        test.equal(wait_job(house, job), 'cancelled', 'how it ended')
        test.check(not (directory / 'big copy').exists(), 'no volume')
        test.equal([f for f in os.listdir(directory) if f.endswith('.part')], [], 'nothing is left beside it')
        pool('DeleteVolume', '(sa{sv})', 'big', {})

    with test.case('restarts of the broker'):
        # in the middle of a download that nobody reads, whose process shall hold neither name nor locks
        pool.create('stuck', 1 << 20)
        reader, writer = os.pipe()
        pool.transfer('DownloadVolume', 'stuck', writer, **{'async': GLib.Variant('b', True)})
        wait_for(lambda: select.select([reader], [], [], 0)[0], 30, 'it has begun', poll=0.05)
        before = pool.properties()
        house.vireod.kill()
        house.vireod.start()
        os.close(writer)
        os.close(reader)
        house.restarted()
        after = pool.properties()
        passing = 'Available', 'Allocation', 'Version', 'Jobs'
        test.equal({k: v for k, v in after.items() if k not in passing},
                   {k: v for k, v in before.items() if k not in passing}, 'it is as it was')
        pool('Stop')
        house.vireod.stop()
        (house.directory / 'boot-id').write_text('00000000000000000000000000000000')
        house.vireod.start()
        house.restarted()
        wait_for(lambda: pool.properties()['Active'], 30, 'it is started with the machine', poll=0.05)

    with test.case('another description for the next start'):
        first, second = test.scope.directory('first'), test.scope.directory('second')
        moved = define(POOL.format('moved', first))
        moved('Start')
        uuid = moved.properties()['UUID']
        define(POOL.format('moved', second).replace('<target>', f'<uuid>{uuid}</uuid><target>'))
        test.equal(moved.volumes(), {}, 'it is where it was')
        house.vireod.stop()
        shutil.rmtree(first)
        house.vireod.start()
        house.restarted()
        test.check(not moved.properties()['Active'], 'it cannot go on')
        (second / 'here').write_text('x')
        moved('Start')
        test.equal(list(moved.volumes()), ['here'], 'it is where its description says')
        moved('Stop')
        moved('Undefine')

    with test.case('the directory goes away'):
        begun = house.mark()
        shutil.rmtree(directory)
        event = house.recorder.wait('Stopped', path=pool.path, after=begun)
        test.equal(event.reason, 'refresh-failed', 'why it stopped')
        refused(test, lambda: pool('Start'), 'OperationFailed', 'starting it')
        pool('Build')
        pool('Start')
        pool('Stop')
        pool('Delete')
        test.check(not directory.exists(), 'the directory was removed')
        pool('Undefine')
        test.equal(history_of(house.vireod, pool.path, begun)[-3:], ['Deleted', 'Undefined', 'Removed'], 'the end of the story')
        directory.mkdir()
        transient = define(POOL.format('transient', directory), create=True)
        transient('Stop')
        test.equal([p for k, p in house.vireod.snapshot()[2].values() if k == 'StoragePool'], [], 'none is left')

    with test.case('a connection is closed in the middle of a download'):
        other = house.vireod.manager('Open', '(sa{sv})', f'vireo://{test.scope.directory("other")}', {})
        house.vireod.wait_connected(path=other)
        pool = Pool(house, house.vireod.call(other, 'org.vireo1.Connection', 'CreatePool', '(sa{sv})',
                                             POOL.format('passing', directory), {})[0])
        pool.create('stuck', 1 << 20)
        reader, writer = os.pipe()
        pool.transfer('DownloadVolume', 'stuck', writer, **{'async': GLib.Variant('b', True)})
        wait_for(lambda: select.select([reader], [], [], 0)[0], 30, 'it has begun', poll=0.05)
        house.vireod.manager('Close', '(o)', other)
        children = pathlib.Path(f'/proc/{house.vireod.process.pid}/task/{house.vireod.process.pid}/children')
        wait_for(lambda: not children.read_text().split(), 20, lambda: f'no child is left, dead or alive: {children.read_text()}',
                 poll=0.05)
        os.close(writer)
        os.close(reader)
    test.judge(house.vireod)
    house.finish()


if __name__ == '__main__':
    program.run(main)
