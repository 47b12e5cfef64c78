#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can happen to storage pools and networks, by virsh, on a real libvirtd: the story has to be exactly this one."""

import shutil
import uuid as uuids

from kit import program, truth
from kit.loop import settle, wait_for

NET = """<network><name>{name}</name><uuid>{uuid}</uuid><forward mode='open'/><bridge name='{bridge}'/>
<ip address='192.168.{octet}.1' netmask='255.255.255.0'/></network>"""
POOL = "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid><target><path>{target}</path></target></pool>"

# What may come between the events of a life
ASIDE = {'Updated'}


class Thing:
    """A pool or network, and the story that was told of it."""

    def __init__(self, vireod, kind):
        self.uuid = str(uuids.uuid4())
        self.vireod = vireod
        self.suffix = f'/{kind}/_' + self.uuid.replace('-', '_')
        self.wanted = []

    def story(self):
        return [e for e in self.vireod.recorder.events if e.path.endswith(self.suffix) and e.event not in ASIDE]

    def expect(self, *events):
        self.wanted += events
        wait_for(lambda: len(self.story()) >= len(self.wanted), 30, self.text)
        self.compare()
        return self.story()[-1]

    def compare(self):
        assert [e.event for e in self.story()] == self.wanted, self.text()

    def done(self):
        settle(0.3, changed=lambda: len(self.story()))
        self.compare()

    def text(self):
        return f'the story should be {self.wanted}; it is\n' + '\n'.join(f'    {e}' for e in self.story())


def pool_life(test, virsh, vireod, directory):
    p = Thing(vireod, 'pool')
    virsh.xml('pool-define', POOL.format(name='one', uuid=p.uuid, target=directory))
    p.expect('Added', 'Defined')
    virsh('pool-build', 'one')
    p.expect('Built')
    virsh('pool-start', 'one')
    started = p.expect('Started')
    virsh('vol-create-as', 'one', 'volume', '1M')
    virsh('pool-refresh', 'one')
    p.expect('Refreshed')
    test.check(started.properties['Capacity'] > 0 or p.story()[-1].properties['Capacity'] > 0, 'a started pool has no size')
    volumes = vireod.call(p.story()[-1].path, 'org.vireo1.StoragePool', 'ListVolumes', '(a{sv})', {})
    test.equal([name for name, _ in volumes], ['volume'], 'ListVolumes')
    test.check(volumes and volumes[0][1].get('capacity') == 1 << 20, f'the volume\'s capacity: {volumes}')
    virsh.fails('pool-undefine', 'one')
    virsh('vol-delete', 'volume', '--pool', 'one')
    virsh('pool-destroy', 'one')
    p.expect('Stopped')
    virsh('pool-delete', 'one')
    p.expect('Deleted')
    virsh('pool-undefine', 'one')
    p.expect('Undefined', 'Removed')
    p.done()


def transient_pool(test, virsh, vireod, directory):
    directory.mkdir(exist_ok=True)
    p = Thing(vireod, 'pool')
    virsh.xml('pool-create', POOL.format(name='two', uuid=p.uuid, target=directory))
    p.expect('Added', 'Started')
    virsh('pool-destroy', 'two')
    p.expect('Stopped', 'Removed')
    p.done()


def failed_refresh(test, virsh, vireod, directory):
    directory.mkdir(exist_ok=True)
    p = Thing(vireod, 'pool')
    virsh.xml('pool-define', POOL.format(name='three', uuid=p.uuid, target=directory))
    virsh('pool-start', 'three')
    p.expect('Added', 'Defined', 'Started')
    shutil.rmtree(directory)
    virsh.fails('pool-refresh', 'three')
    p.expect('Stopped')
    virsh('pool-undefine', 'three')
    p.expect('Undefined', 'Removed')
    p.done()


def network_life(test, virsh, vireod, _directory):
    n = Thing(vireod, 'network')
    xml = NET.format(name='one', uuid=n.uuid, bridge='vbr1', octet=71)
    virsh.xml('net-define', xml)
    n.expect('Added', 'Defined')
    virsh('net-start', 'one')
    started = n.expect('Started')
    test.equal(started.properties['Bridge'], 'vbr1', 'Bridge')
    virsh('net-undefine', 'one')
    n.expect('Undefined')
    virsh.xml('net-define', xml)
    n.expect('Defined')
    virsh('net-destroy', 'one')
    n.expect('Stopped')
    virsh('net-undefine', 'one')
    n.expect('Undefined', 'Removed')
    n.done()


def transient_network(test, virsh, vireod, _directory):
    n = Thing(vireod, 'network')
    xml = NET.format(name='two', uuid=n.uuid, bridge='vbr2', octet=72)
    virsh.xml('net-create', xml)
    n.expect('Added', 'Started')
    virsh.xml('net-define', xml)
    n.expect('Defined')
    virsh('net-destroy', 'two')
    n.expect('Stopped')
    virsh('net-undefine', 'two')
    n.expect('Undefined', 'Removed')
    virsh.xml('net-create', xml)
    n.expect('Added', 'Started')
    virsh('net-destroy', 'two')
    n.expect('Stopped', 'Removed')
    n.done()


def main(test):
    libvirtd = test.libvirtd()
    vireod = test.vireod(libvirtd.uri)
    vireod.wait_connected()
    for part in (pool_life, transient_pool, failed_refresh, network_life, transient_network):
        with test.case(part.__name__):
            part(test, libvirtd.virsh, vireod, libvirtd.directory / part.__name__)
            vireod.sync()
            for wrong in truth.compare(libvirtd.virsh, vireod, vireod.connection_path()):
                test.fail(wrong)
    test.judge(vireod)


if __name__ == '__main__':
    program.run(main)
