#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Every method that changes something, through the bus, on a real libvirtd: what it does as virsh sees it, and what it answers
in the wrong state, to wrong XML, for a name that is taken, a file that is missing, a disk that is full.
"""

import subprocess
import sys
import uuid as uuids

from gi.repository import GLib

from kit import guests, program
from kit.recorder import NAME
from kit.vireod import BusError

POOL = "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid><target><path>{target}</path></target></pool>"
VOLUME = "<volume><name>{name}</name><capacity unit='MiB'>{size}</capacity></volume>"
NETWORK = ("<network><name>{name}</name><uuid>{uuid}</uuid><forward mode='open'/><bridge name='{bridge}'/>"
           "<ip address='192.168.{octet}.1' netmask='255.255.255.0'/></network>")
DISK = ("<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/>"
        "<target dev='{dev}' bus='{bus}'/></disk>")


def options(**given):
    kinds = {bool: 'b', str: 's', int: 't', list: 'as'}
    return {key.replace('_', '-'): GLib.Variant(kinds[type(value)], value) for key, value in given.items()}


class Thing:
    """An object on the bus, and calls of its methods."""

    def __init__(self, test, vireod, path, kind):
        self.test, self.vireod, self.path, self.kind = test, vireod, path, kind

    def __call__(self, method, signature='', *arguments, **given):
        """Call a method: its own arguments, and options by name."""
        return self.vireod.call(self.path, f'{NAME}.{self.kind}', method, f'({signature}a{{sv}})', *arguments,
                                options(**given), limit=60)

    def refuses(self, error, method, signature='', *arguments, says='', **given):
        """Call what has to fail with this error, and a message that says something."""
        try:
            result = self(method, signature, *arguments, **given)
        except BusError as failure:
            self.test.check(failure.short == error and says in failure.message,
                            f'{method} should be {error} “{says}”; it was {failure}')
            return
        self.test.fail(f'{method} should be {error}; it returned {result}')

    def get(self, name):
        return self.vireod.get(self.path, self.kind, name)

    def is_(self, **properties):
        got = {name: self.get(name) for name in properties}
        self.test.equal(got, properties, f'{self.path}')


class House:
    """The connection, and making things on it."""

    def __init__(self, test, libvirtd, vireod):
        self.test, self.libvirtd, self.vireod = test, libvirtd, vireod
        self.connection = Thing(test, vireod, vireod.connection_path(), 'Connection')
        self.virsh = libvirtd.virsh

    def thing(self, path, kind):
        return Thing(self.test, self.vireod, path, kind)

    def xml(self, name, **more):
        more.setdefault('disk', guests.image(self.libvirtd.images, guests.IDLE))
        return guests.domain_xml(name, more.pop('disk'), **more)

    def define(self, name, **more):
        path, version = self.connection('DefineDomain', 's', self.xml(name, **more))
        self.test.check(version > 0, 'DefineDomain returned no version')
        return self.thing(path, 'Domain')


def connection(test, house):
    c = house.connection
    c.refuses('InvalidXML', 'DefineDomain', 's', '<domain>\n <name>x</nam>\n</domain>', says='line 2, column ')
    c.refuses('InvalidXML', 'DefineDomain', 's', '<domain/>')
    c.refuses('InvalidXML', 'DefineDomain', 's', "<network><name>x</name></network>", says='network')
    c.refuses('InvalidXML', 'DefineDomain', 's', house.xml('x').replace('<vcpu>', '<nonsense/><vcpu>'), validate=True)
    one = house.define('one')
    c.refuses('AlreadyExists', 'DefineDomain', 's', house.xml('one'))
    c.refuses('InvalidXML', 'DefineDomain', 's', house.xml('x', machine='no-such-machine'))
    path, job, version = c('CreateDomain', 's', house.xml('two'), paused=True)
    two = house.thing(path, 'Domain')
    test.check(job != '/' and version > 0, f'CreateDomain: {job} {version}')
    two.is_(Persistent=False, State='paused', Active=True)
    c.refuses('InvalidState', 'CreateDomain', 's', house.xml('two', uuid=two.get('UUID')))
    c.refuses('OperationFailed', 'CreateDomain', 's', house.xml('three', disk='/no/such/disk'), says='/no/such/disk')
    c.refuses('InvalidOption', 'CreateDomain', 's', house.xml('three'), pawsed=True, says='pawsed')
    test.equal(house.virsh('list', '--all', '--name').split(), ['two', 'one'], 'what virsh lists')
    two('Destroy')
    one('Undefine')


def domain(test, house):
    d = house.define('basic')
    for method in ('Shutdown', 'Reboot', 'Reset', 'Destroy', 'Suspend', 'Resume', 'PMWakeup', 'ManagedSave'):
        d.refuses('InvalidState', method)
    d('Start', paused=True)
    d.is_(State='paused', Active=True)
    d('Resume')
    d.is_(State='running')
    d.refuses('InvalidState', 'Start')
    d('Suspend')
    d('Reset')
    d.is_(State='paused')
    d('Resume')
    # the guest has no operating system that would hear it: accepted is all there is
    d('Shutdown', mode=['acpi'])
    d.refuses('InvalidOption', 'Shutdown', mode=['telepathy'], says='telepathy')
    d('SetAutostart', 'b', True)
    d.is_(Autostart=True)
    test.check('enable' in house.virsh('dominfo', 'basic').split('Autostart:')[1].split('\n')[0], 'virsh on Autostart')
    d('SetAutostart', 'b', False)
    d.is_(Autostart=False)
    d('Undefine')
    d.is_(Persistent=False, Active=True)
    d.refuses('InvalidState', 'SetAutostart', 'b', True)
    d.refuses('InvalidState', 'Undefine')
    d('Destroy', graceful=True)
    test.check(not house.virsh('list', '--all', '--name').split(), 'a domain is left')


def saved(test, house):
    d = house.define('saved')
    d('Start')
    d('ManagedSave')
    d.is_(HasManagedSave=True, Active=False)
    d.refuses('InvalidState', 'Undefine')
    d('ManagedSaveRemove')
    d.is_(HasManagedSave=False)
    d('Start')
    d('ManagedSave', paused=True)
    d('Start')
    d.is_(State='paused', HasManagedSave=False)
    d('Destroy')
    d('Start')
    d('ManagedSave')
    d('Undefine', managed_save=True)
    test.check(not house.virsh('list', '--all', '--name').split(), 'a domain is left')


def names(_test, house):
    a, b = house.define('name a'), house.define('name b')
    a.refuses('AlreadyExists', 'Rename', 's', 'name b')
    a.refuses('InvalidXML', 'Rename', 's', 'with/slash')
    a('Start')
    a.refuses('InvalidState', 'Rename', 's', 'c')
    a('Destroy')
    a('Rename', 's', 'ä "quoted" & <odd> name')
    a.is_(Name='ä "quoted" & <odd> name', Persistent=True)
    house.virsh('domuuid', 'ä "quoted" & <odd> name')
    a('Undefine')
    b('Undefine')


def sizes(_test, house):
    d = house.define('sizes', memory=64, vcpus=2)
    d('SetMemory', 't', 48 << 20, config=True)
    d.is_(Memory=48 << 20, MaxMemory=64 << 20)
    d('SetMemory', 't', 128 << 20, config=True, maximum=True)
    d.is_(MaxMemory=128 << 20)
    d.refuses('InvalidArgs', 'SetMemory', 't', 1000, says='1024')
    d.refuses('InvalidArgs', 'SetMemory', 't', 256 << 20, config=True)
    d.refuses('InvalidState', 'SetMemory', 't', 48 << 20, live=True)
    d('SetVCPUs', 'u', 1, config=True)
    d.is_(VCPUs=1)
    d('SetVCPUs', 'u', 4, config=True, maximum=True)
    d.refuses('InvalidArgs', 'SetVCPUs', 'u', 5, config=True)
    d.refuses('InvalidArgs', 'SetVCPUs', 'u', 0, config=True)
    d('SetVCPUs', 'u', 3)
    d.is_(VCPUs=3)
    d('Undefine')


def devices(test, house):
    d = house.define('devices')
    disk = house.libvirtd.images / 'extra.img'
    disk.write_bytes(bytes(1 << 20))
    xml = DISK.format(file=disk, dev='vdx', bus='virtio')
    d.refuses('InvalidXML', 'AttachDevice', 's', '<disk', says='line 1, column ')
    d.refuses('InvalidState', 'AttachDevice', 's', xml, live=True)
    d('AttachDevice', 's', xml, config=True)
    test.check('vdx' in house.virsh('domblklist', 'devices', '--inactive'), 'the disk is not in the configuration')
    d('DetachDevice', 's', xml, config=True)
    d('Start')
    d('AttachDevice', 's', xml)
    test.check('vdx' in house.virsh('domblklist', 'devices'), 'the disk was not attached')
    test.check('vdx' in d('GetXML')[1], 'GetXML does not have the disk')
    d.refuses('OperationFailed', 'AttachDevice', 's', DISK.format(file='/no/such/disk', dev='vdy', bus='virtio'))
    d('Destroy')
    d('Undefine')


def descriptions(test, house):
    secret = "<graphics type='vnc' port='-1' passwd='s3cret'/>"
    d = house.define('described', extra_devices=secret)
    test.check('s3cret' not in d('GetXML')[1], 'GetXML tells a password without being asked')
    test.check('s3cret' in d('GetXML', secure=True)[1], 'GetXML does not tell a password when asked')
    d('Start')
    test.check("id='" in d('GetXML')[1].split('\n')[0], 'the present description has no ID')
    test.check("id='" not in d('GetXML', inactive=True)[1].split('\n')[0], 'the persistent description has an ID')
    d('Destroy')
    d('Undefine')


def pools(test, house):
    uuid, target = str(uuids.uuid4()), house.libvirtd.images / 'pool'
    path, version = house.connection('DefinePool', 's', POOL.format(name='p', uuid=uuid, target=target))
    p = house.thing(path, 'StoragePool')
    test.check(version > 0, 'DefinePool returned no version')
    house.connection.refuses('AlreadyExists', 'DefinePool', 's', POOL.format(name='p', uuid=uuids.uuid4(), target='/x'))
    house.connection.refuses('InvalidXML', 'DefinePool', 's', '<pool>', says='line 1, column ')
    p.refuses('OperationFailed', 'Start', says=str(target))
    for method in ('Stop', 'Refresh'):
        p.refuses('InvalidState', method)
    p('Build')
    p('SetAutostart', 'b', True)
    p.is_(Autostart=True)
    p('Start')
    p.is_(State='running', Active=True, Type='dir')
    test.check(p.get('Capacity') > 0, 'a running pool has no size')
    for method in ('Start', 'Build', 'Undefine', 'Delete'):
        p.refuses('InvalidState', method)
    p('CreateVolume', 's', VOLUME.format(name='v', size=1))
    p.refuses('InvalidXML', 'CreateVolume', 's', '<volume>', says='line 1, column ')
    p.refuses('NotFound', 'ResizeVolume', 'st', 'nope', 1 << 20)
    p.refuses('InvalidOption', 'WipeVolume', 's', 'v', algorithm='hammer', says='hammer')
    p('DeleteVolume', 's', 'v')
    p('Stop')
    p('Delete')
    test.check(not target.exists(), 'a deleted pool is still there')
    p('Undefine')

    full = house.libvirtd.shrink('full', '4m')
    path, _, _ = house.connection('CreatePool', 's', POOL.format(name='full', uuid=uuids.uuid4(), target=full))
    p = house.thing(path, 'StoragePool')
    p.refuses('OperationFailed', 'CreateVolume', 's',
              VOLUME.format(name='v', size=64).replace('</capacity>', "</capacity><allocation unit='MiB'>64</allocation>"))
    test.equal(p('ListVolumes'), [], 'what is left of a volume that did not fit')
    p('Stop')


def networks(test, house):
    uuid = str(uuids.uuid4())
    path, _ = house.connection('DefineNetwork', 's', NETWORK.format(name='n', uuid=uuid, bridge='vbrm1', octet=81))
    n = house.thing(path, 'Network')
    taken = NETWORK.format(name='n', uuid=uuids.uuid4(), bridge='vbrm2', octet=82)
    house.connection.refuses('AlreadyExists', 'DefineNetwork', 's', taken)
    house.connection.refuses('InvalidXML', 'DefineNetwork', 's', '<network><name>m</name>\n<bridge</network>', says='line 2, column ')
    n.refuses('InvalidState', 'Stop')
    n('Start')
    n.is_(Active=True, Bridge='vbrm1', Type='open')
    n.refuses('InvalidState', 'Start')
    n('SetAutostart', 'b', True)
    n.is_(Autostart=True)
    n('Undefine')
    n.is_(Persistent=False, Active=True)
    n('Stop')
    test.check(uuid not in house.virsh('net-list', '--all', '--uuid'), 'a network is left')
    path, _, _ = house.connection('CreateNetwork', 's', NETWORK.format(name='t', uuid=uuids.uuid4(), bridge='vbrm3', octet=83))
    house.thing(path, 'Network')('Stop')


def conditions(test, house):
    d = house.define('conditions')
    version = d.get('Version')
    d.refuses('VersionMismatch', 'Start', if_version=version - 1, says=str(version))
    d('Start', if_version=version)
    test.check(d.get('Version') > version, 'Start did not change the version')
    d('Destroy')
    d('Undefine')


def main(test):
    libvirtd = test.libvirtd()
    vireod = test.vireod(libvirtd.uri)
    vireod.wait_connected()
    subprocess.run(libvirtd.virsh.argv('net-undefine', 'default'), check=False, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    house = House(test, libvirtd, vireod)
    chosen = sys.argv[1:]
    for part in (connection, domain, saved, names, sizes, devices, descriptions, pools, networks, conditions):
        if not chosen or part.__name__ in chosen:
            with test.case(part.__name__):
                part(test, house)
    vireod.sync()
    test.judge(vireod)


if __name__ == '__main__':
    program.run(main)
