#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Operations that last, through the bus, on the simulated hypervisor: their way, their end, what is in their way, and others'."""

import hashlib
import json
import os
import pathlib
import socket
import tempfile
import types
import xml.etree.ElementTree as elements

from support import BusCase, BusError, NAME, ROOT, main

from kit.loop import PATIENCE, wait_for
from kit.operations import Hypervisor

MIB = 1 << 20
COPY = "<disk type='file'><source file='/copies/{}'/></disk>"
NOT_JOBS = {'GetXML', 'ListVolumes', 'Resync'}
DIRECTORY = tempfile.TemporaryDirectory(prefix='vireo-')
CONTROL = pathlib.Path(DIRECTORY.name) / 'control'


class Checks:
    """What kit.operations says of its findings, as unittest does."""

    def __init__(self, case):
        self.check = lambda condition, text: case.assertTrue(condition, text)
        self.equal = case.assertEqual
        self.fail = case.fail


class Jobs(BusCase):
    CONNECT = (f'here=sim:///empty?domains=8&running=1&pools=1&control={CONTROL}', 'there=sim:///empty?world=there')

    def setUp(self):
        self.here = self.hypervisor('here')
        self.there = self.hypervisor('there')
        self.do(do='operations', operations={f'Domain.{method}': {} for method in (
            'Save', 'ManagedSave', 'Dump', 'Migrate', 'BlockCopy', 'BlockPull')})

    def hypervisor(self, label):
        h = Hypervisor(Checks(self), self.vireod, types.SimpleNamespace(virsh=None), label)
        self.vireod.wait_connected(path=h.path)
        return h

    def do(self, **step):
        """Have the simulated hypervisor do something; return its answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30 * PATIENCE)
            connection.connect(str(CONTROL))
            connection.sendall(json.dumps(step).encode() + b'\n')
            answer = json.loads(connection.makefile().readline())
        self.assertTrue(answer.get('ok'), answer)
        return answer.get('answer')

    def lasts(self, method, **rule):
        self.do(do='operations', operations={method: {'duration': 3600000, 'progress': 20, **rule}})

    def domain(self, number):
        """A domain of its own for each test: running."""
        return self.vireod.lookup(f'vm-{number}'), 'Domain'

    def pool(self):
        return self.vireod.lookup('pool-0', 'Pool'), 'StoragePool'

    def state(self, target):
        self.vireod.sync()
        return self.here.get(target, 'State'), self.here.get(target, 'Jobs')

    def test_every_method_is_there(self):
        wanted = set()
        for kind in ('Connection', 'Domain', 'StoragePool', 'Network'):
            tree = elements.parse(ROOT / 'introspection' / f'{NAME}.{kind}.xml')
            wanted |= {f'{kind}.{m.get("name")}' for m in tree.iter('method') if m.get('name') not in NOT_JOBS}
        supported = set(self.vireod.get(self.here.path, 'Connection', 'SupportedOperations'))
        self.assertEqual(wanted - supported, set())

    def test_save(self):
        d = self.domain(0)
        self.lasts('Domain.Save', duration=1000)
        mark = self.here.now()
        results = self.here.call(d, 'Save', '/saved/0', **{'async': True})
        self.assertEqual(results['version'], 0)
        job = results['job']
        wait_for(lambda: self.vireod.get(job, 'Job', 'Percent') > 20, 30, 'a fifth of it')
        now = self.vireod.get_all(job, 'Job')
        self.assertEqual((now['State'], now['Type'], now['Operation'], now['Cancellable']), ('running', 'bounded', 'save', True))
        self.assertEqual(now['BytesTotal'], self.here.get(d, 'Memory'))
        self.assertTrue(0 < now['RemainingTime'] <= 1000000 and 0 < now['BytesDone'] < now['BytesTotal'], now)
        # P21: it keeps the others out, and is named; reading goes on
        self.assertIn(job, self.here.refused('Busy', d, 'Suspend'))
        self.assertEqual(self.here.get(d, 'State'), 'paused')
        event = wait_for(lambda: next((e for e in self.vireod.recorder.of(path=job) if e.event == 'Finished'), None), 30, 'its end')
        self.assertEqual(event.reason, 'completed')
        self.here.expect_story(d, 'Suspended (paused)', 'Stopped (saved)', after=mark)
        told = [m.body[1]['Percent'] for m in self.vireod.recorder.messages
                if m.path == job and m.member == 'PropertiesChanged' and 'Percent' in m.body[1]]
        self.assertEqual(told, sorted(told))
        self.assertGreater(len(set(told)), 2)
        results = self.here.call((self.here.path, 'Connection'), 'RestoreDomain', '/saved/0')
        self.assertEqual(results['domain'], d[0])
        self.assertGreater(results['version'], 0)
        self.assertEqual(self.here.get(d, 'State'), 'running')

    def test_cancelled_half_way(self):
        d = self.domain(1)
        for method, arguments, story in (
                ('Save', ['/saved/1'], ['Suspended (paused)', 'Resumed (unpaused)']),
                ('ManagedSave', [], ['Suspended (paused)', 'Resumed (unpaused)']),
                ('Dump', ['/core'], ['Suspended (paused)', 'Resumed (unpaused)']),
                ('BlockPull', ['vda'], []),
                ('BlockCopy', ['vda', COPY.format('1')], []),
                ('Migrate', ['sim:///empty?world=there'], [])):
            with self.subTest(method):
                self.lasts(f'Domain.{method}')
                mark = self.here.now()
                job = self.here.begin(d, method, *arguments)
                job.wait_percent(-1)
                wait_for(lambda: job.get('Cancellable'), 30, 'it can be cancelled')  # pylint: disable=cell-var-from-loop
                job.cancel()
                job.wait('cancelled')
                self.here.expect_story(d, *story, after=mark)
                wait_for(lambda: self.state(d) == ('running', []), 30, lambda: f'it goes on: {self.state(d)}', poll=0.1)
        self.vireod.sync()
        with self.assertRaises(BusError):
            self.vireod.get(self.there.object('domain', self.here.get(d, 'UUID')), 'Domain', 'State')

    def test_conditions(self):
        d = self.domain(2)
        version = self.here.get(d, 'Version')
        self.here.refused('VersionMismatch', d, 'Save', '/saved/2', if_version=version - 1)
        self.here.refused('InvalidArgs', d, 'Save', 'relative', says='relative')
        self.here.refused('InvalidXML', d, 'BlockCopy', 'vda', '<disk>\n</dis>', says='line 2, column ')
        self.here.refused('NotFound', d, 'BlockPull', 'vdz', says='vdz')
        self.here.refused('NotFound', (self.here.path, 'Connection'), 'RestoreDomain', '/none', says='/none')
        self.here.refused('InvalidURI', d, 'Migrate', 'sim:///nowhere')
        self.do(do='missing', path='/gone')
        self.here.refused('OperationFailed', d, 'Save', '/gone/x', says='/gone/x')
        self.do(do='faults', space=False)
        self.here.refused('OperationFailed', d, 'Dump', '/x', says='No space left')
        self.do(do='faults', reset=True)
        version = self.here.get(d, 'Version')
        self.assertGreater(self.here.call(d, 'ManagedSave', if_version=version)['version'], version)
        self.here.call(d, 'Start')

    def test_copy(self):
        d = self.domain(3)
        job = self.here.begin(d, 'BlockCopy', 'vda', COPY.format('3'))
        wait_for(lambda: job.get('Ready'), 30, 'ready')
        # a block job excludes only what the hypervisor refuses
        self.here.call(d, 'Suspend')
        self.here.call(d, 'Resume')
        self.assertIn(job.path, self.here.refused('Busy', d, 'BlockPull', 'vda'))
        self.here.refused('Busy', d, 'Save', '/saved/3')
        job.complete()
        job.wait()
        self.assertIn('/copies/3', self.here.call(d, 'GetXML')['xml'])
        self.here.refused('InvalidState', (job.path, 'Job'), 'Complete')

    def test_somebody_else(self):
        d = self.domain(4)
        mark = self.here.now()
        self.do(do='begin', domain='vm-4', operation='Domain.BlockCopy', text='vda', text2=COPY.format('4'), duration=100)
        job = self.here.wait_foreign('block-copy', d, mark)
        wait_for(lambda: job.get('Ready'), 30, 'ready')
        job.complete()
        job.wait()
        self.do(do='begin', domain='vm-4', operation='Domain.Dump', text='/core', total=1000)
        job = self.here.wait_foreign('dump', d, mark)
        # it keeps nobody out but as the hypervisor does
        self.here.refused('Busy', d, 'Suspend')
        job.cancel()
        job.wait('cancelled')
        self.do(do='begin', domain='vm-4', operation='Domain.Dump', text='/core')
        mark = self.here.now()
        job = self.here.wait_foreign('dump', d, mark - 1)
        self.do(do='end', domain='vm-4', how='vanish')
        event = job.wait('failed')
        self.assertEqual(event.properties['Error'][0], f'{NAME}.Error.OutcomeUnknown')
        self.assertEqual(self.state(d), ('running', []))

    def test_found_again(self):
        """The connection is lost in the middle: failed for who began it, and found again as somebody else's."""
        d = self.domain(5)
        self.lasts('Domain.Save')
        job = self.here.begin(d, 'Save', '/saved/5')
        job.wait_percent(-1)
        mark = self.here.now()
        self.do(do='disconnect')
        event = job.wait('failed')
        self.assertEqual(event.properties['Error'][0], f'{NAME}.Error.Disconnected')
        self.vireod.wait_connected(path=self.here.path)
        again = self.here.wait_foreign('save', d, mark)
        self.assertNotEqual(again.path, job.path)
        again.cancel()
        again.wait('cancelled')
        self.assertEqual(self.state(d), ('running', []))

    def test_migrate(self):
        d = self.domain(6)
        uuid = self.here.get(d, 'UUID')
        mark = self.here.now()
        self.assertGreater(self.here.call(d, 'Migrate', 'sim:///empty?world=there', live=True, persistent=True)['version'], 0)
        self.here.expect_story(d, 'Suspended (migrated)', 'Stopped (migrated)', after=mark)
        arrived = self.there.object('domain', uuid), 'Domain'
        self.there.expect_story(arrived, 'Added', 'Started (migrated)', 'Defined (added)', 'Resumed (migrated)', after=mark)
        self.assertEqual(self.there.get(arrived, 'State'), 'running')
        # the other one has it already
        self.here.call(d, 'Start')
        self.here.refused('AlreadyExists', d, 'Migrate', 'sim:///empty?world=there')
        self.assertEqual(self.state(d), ('running', []))

    def test_transfers(self):
        p = self.pool()
        if not self.here.get(p, 'Active'):
            self.here.call(p, 'Start')
        self.here.call(p, 'CreateVolume', "<volume><name>v</name><capacity unit='MiB'>16</capacity></volume>")
        data = os.urandom(16 * MIB)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(data)
            source.flush()
            source.seek(0)
            self.here.call(p, 'UploadVolume', 'v', fd=source.fileno())
            self.here.call(p, 'CloneVolume', 'v', 'w')
            self.here.call(p, 'WipeVolume', 'v')
            self.here.call(p, 'DownloadVolume', 'w', fd=target.fileno())
            target.seek(0)
            self.assertEqual(hashlib.sha256(target.read()).digest(), hashlib.sha256(data).digest())
            self.here.refused('InvalidArgs', p, 'ResizeVolume', 'w', MIB)
            self.here.call(p, 'ResizeVolume', 'w', MIB, shrink=True)
        volumes = dict(self.here.call(p, 'ListVolumes')['volumes'])
        self.assertEqual({name: v['capacity'] for name, v in volumes.items()}, {'v': 16 * MIB, 'w': MIB})
        # a client that never reads
        reader, writer = os.pipe()
        job = self.here.begin(p, 'DownloadVolume', 'v', fd=writer)
        wait_for(lambda: job.get('Cancellable'), 30, 'it can be cancelled')
        # a volume job keeps out only its volume
        self.assertIn(job.path, self.here.refused('Busy', p, 'DeleteVolume', 'v'))
        self.here.call(p, 'DeleteVolume', 'w')
        job.cancel()
        job.wait('cancelled')
        os.close(reader)
        os.close(writer)


if __name__ == '__main__':
    main()
