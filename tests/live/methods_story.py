#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Every method that changes something, on a real libvirtd: its effect is there when it returns (virsh sees it too), the story
is exactly this one, and what cannot be done is refused by its own error and leaves no trace. What lasts is in jobs_*.py.

    methods_story.py [CASE…]
"""

import sys
import uuid as uuids

from kit import guests, program
from kit.operations import MIB, Hypervisor, make_qcow2
from kit.vireod import BusError

BROKEN = '<{root}>\n  <name>broken</nam>\n</{root}>'
DISK = ("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{file}'/>"
        "<target dev='{target}' bus='virtio'/></disk>")
CDROM = "<disk type='file' device='cdrom'>{source}<target dev='hdc' bus='ide'/><readonly/></disk>"
POOL = "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid><target><path>{target}</path></target></pool>"
VOLUME = "<volume><name>{name}</name><capacity unit='MiB'>{size}</capacity></volume>"
NET = """<network><name>{name}</name><uuid>{uuid}</uuid><forward mode='open'/><bridge name='{bridge}'/>
<ip address='192.168.{octet}.1' netmask='255.255.255.0'/></network>"""


class Changes:
    """One object, and changing it with an eye on the story."""

    def __init__(self, here, kind, interface):
        self.here = here
        self.uuid = str(uuids.uuid4())
        self.target = here.object(kind, self.uuid), interface

    def do(self, method, *arguments, story=(), on=None, now=(), **words):
        """Do it; the properties `now` hold at once, at the version that was returned, and `story` is what was said."""
        test, here = self.here.test, self.here
        mark = here.now()
        results = here.call(on or self.target, method, *arguments, **words)
        test.check(results['version'] > 0, f'{method} returned version {results["version"]}')
        if now:
            properties = here.client.get_all(*self.target)
            test.equal({k: properties.get(k) for k in dict(now)}, dict(now), f'P15: after {method}')
            test.check(properties['Version'] <= results['version'],
                       f'P15: {method} returned {results["version"]}, but its effect is of {properties["Version"]}')
        here.expect_story(self.target, *story, after=mark, what=f'the story of {method}')
        return results

    def refused(self, wanted, method, *arguments, on=None, **words):
        """It is refused, and nothing is said of the object."""
        mark = self.here.now()
        message = self.here.refused(wanted, on or self.target, method, *arguments, **words)
        try:
            self.here.client.get(*self.target, 'Version')
        except BusError:
            return message
        self.here.expect_story(self.target, after=mark, what=f'the story of a refused {method}')
        return message


def refuse_xml(here, target, method, root):
    """What is no XML is refused by line and column; what is of another kind too."""
    here.refused('InvalidXML', target, method, BROKEN.format(root=root), says='line 2, column ')
    here.refused('InvalidXML', target, method, '')
    here.refused('InvalidXML', target, method, '<other/>')
    here.refused('InvalidXML', target, method, f'<!DOCTYPE x [<!ENTITY e "e">]><{root}><name>&e;</name></{root}>')


def life(test, here):
    d, connection = Changes(here, 'domain', 'Domain'), (here.path, 'Connection')
    disk = guests.image(here.libvirtd.images, guests.IDLE)
    xml = guests.domain_xml('alive', disk, uuid=d.uuid)

    for method in ('DefineDomain', 'CreateDomain'):
        refuse_xml(here, connection, method, 'domain')
    d.do('DefineDomain', xml, on=connection, story=['Added', 'Defined (added)'],
         now={'Persistent': True, 'Active': False, 'Name': 'alive', 'State': 'shutoff'})
    d.do('DefineDomain', xml.replace('<vcpu>1<', '<vcpu>2<'), on=connection, story=['Defined (updated)'], now={'VCPUs': 2})
    d.refused('AlreadyExists', 'DefineDomain', guests.domain_xml('alive', disk), on=connection, says='alive')
    d.refused('AlreadyExists', 'DefineDomain', guests.domain_xml('other', disk, uuid=d.uuid), on=connection, says='alive')
    test.equal(here.virsh('list', '--all', '--name').split(), ['alive'], 'what refused definitions left')

    for method in ('Shutdown', 'Reboot', 'Reset', 'Destroy', 'Suspend', 'Resume', 'PMWakeup', 'ManagedSave'):
        d.refused('InvalidState', method)
    d.refused('InvalidState', 'Save', str(here.libvirtd.images / 'x'))
    d.refused('InvalidState', 'Dump', str(here.libvirtd.images / 'x'))
    d.refused('InvalidState', 'Migrate', 'qemu:///system?socket=' + str(here.libvirtd.socket), live=True)
    d.refused('InvalidState', 'BlockPull', 'vda')
    d.refused('InvalidState', 'ManagedSaveRemove', says='managed save')
    d.refused('InvalidArgs', 'BlockCommit', 'vda')  # libvirt misses the base first
    d.refused('InvalidState', 'BlockCopy', 'vda', "<disk type='file'><source file='/tmp/x'/></disk>", transient=True)

    d.do('Start', story=['Started (booted)'], now={'Active': True, 'State': 'running'})
    d.refused('InvalidState', 'Start', says='already')
    d.refused('InvalidState', 'Resume', says='already')
    d.refused('NotFound', 'BlockPull', 'vdz', says='vdz')
    d.refused('InvalidURI', 'Migrate', 'nonsense', says='nonsense')
    d.refused('InvalidState', 'Rename', 'another')
    d.do('Suspend', story=['Suspended (paused)'], now={'State': 'paused'})
    d.do('Resume', story=['Resumed (unpaused)'], now={'State': 'running'})
    d.do('Reset', story=['Rebooted'])
    # this guest hears no button: the request is accepted, and that is all
    d.do('Shutdown', now={'State': 'running'})
    d.do('Reboot', mode=['acpi'], now={'State': 'running'})
    d.refused('NotSupported', 'Shutdown', mode=['agent'])
    d.refused('InvalidOption', 'Shutdown', mode=['hammer'], says='hammer')
    d.refused('InvalidOption', 'Destroy', bogus=True, says='bogus')
    d.refused('VersionMismatch', 'Destroy', if_version=1)
    d.do('Destroy', if_version=here.get(d.target, 'Version'), story=['Stopped (destroyed)'], now={'State': 'shutoff', 'ID': -1})

    d.do('Start', paused=True, story=['Started (booted)'], now={'State': 'paused'})
    d.do('ManagedSave', running=True, story=['Stopped (saved)'], now={'HasManagedSave': True, 'Active': False})
    d.refused('InvalidState', 'Undefine', says='managed save')
    d.do('ManagedSaveRemove', now={'HasManagedSave': False})
    d.do('Start', story=['Started (booted)'])
    d.do('Undefine', story=['Undefined (removed)'], now={'Persistent': False, 'Active': True})
    d.refused('InvalidState', 'SetAutostart', True)
    d.do('Destroy', story=['Stopped (destroyed)', 'Removed'])
    here.refused('UnknownObject', d.target, 'Start')
    test.equal(here.virsh('list', '--all', '--name').split(), [], 'what is left')

    # transient
    d = Changes(here, 'domain', 'Domain')
    created = d.do('CreateDomain', guests.domain_xml('moment', disk, uuid=d.uuid), on=connection, paused=True,
                   story=['Added', 'Started (booted)'], now={'State': 'paused', 'Persistent': False})
    test.equal(created['domain'], d.target[0], 'the domain that CreateDomain names')
    d.refused('InvalidState', 'ManagedSave')
    d.do('Destroy', story=['Stopped (destroyed)', 'Removed'])


def failures(test, here):
    """What fails at its start leaves no trace."""
    d, connection = Changes(here, 'domain', 'Domain'), (here.path, 'Connection')
    missing = here.libvirtd.images / 'missing.img'
    xml = guests.domain_xml('missing', missing, uuid=d.uuid)
    d.do('DefineDomain', xml, on=connection, story=['Added', 'Defined (added)'])
    d.refused('OperationFailed', 'Start', says='missing.img')
    d.do('Undefine', story=['Undefined (removed)', 'Removed'])
    here.refused('OperationFailed', connection, 'CreateDomain', xml, says='missing.img')
    here.refused('NotFound', connection, 'RestoreDomain', str(missing), says='missing.img')
    here.refused('InvalidArgs', connection, 'RestoreDomain', 'relative', says='relative')
    here.refused('InvalidOption', connection, 'RestoreDomain', str(missing), paused=True, running=True)
    small = here.libvirtd.shrink('tiny', '4m')
    d = Changes(here, 'domain', 'Domain')
    disk = guests.image(here.libvirtd.images, guests.IDLE)
    d.do('CreateDomain', guests.domain_xml('large', disk, uuid=d.uuid, memory=64), on=connection,
         story=['Added', 'Started (booted)'])
    # a core of 64 MiB does not fit; the domain goes on
    here.refused('OperationFailed', d.target, 'Dump', str(small / 'core'), memory_only=True)
    test.equal(here.virsh('domstate', 'large').strip(), 'running', 'after a dump that found no space')
    # it is paused, and goes on: said as it was
    here.refused('OperationFailed', d.target, 'Save', '/no/such/directory/file', says='/no/such/directory/file')
    d.do('Destroy', story=['Stopped (destroyed)', 'Removed'])
    test.equal(here.virsh('list', '--all', '--name').split(), [], 'what is left')


def wakeup(_test, here):
    d, connection = Changes(here, 'domain', 'Domain'), (here.path, 'Connection')
    disk = guests.image(here.libvirtd.images, guests.SUSPEND_MEMORY)
    mark = here.now()
    here.do(connection, 'CreateDomain', guests.domain_xml('sleeps', disk, uuid=d.uuid))
    here.client.recorder.wait('PMSuspended', path=d.target[0], after=mark)
    d.refused('InvalidState', 'Suspend')
    mark = here.now()
    here.do(d.target, 'PMWakeup')
    here.client.recorder.wait('Resumed', path=d.target[0], after=mark)
    here.test.equal(here.story(d.target, mark)[0], 'Resumed (wakeup)', 'the story of PMWakeup')
    here.do(d.target, 'Destroy')


def configuration(test, here):
    d, connection = Changes(here, 'domain', 'Domain'), (here.path, 'Connection')
    images = here.libvirtd.images
    disk = guests.image(images, guests.IDLE)
    d.do('DefineDomain', guests.domain_xml('shape', disk, uuid=d.uuid), on=connection, story=['Added', 'Defined (added)'])

    def described(words, what):
        test.check(words in here.virsh('dumpxml', '--inactive', d.uuid), f'{what} is not in the description')

    d.do('SetMemory', 64 * MIB, maximum=True, now={'MaxMemory': 64 * MIB})
    d.do('SetMemory', 16 * MIB, now={'Memory': 16 * MIB})
    d.refused('InvalidArgs', 'SetMemory', 1000, says='1000')
    d.refused('InvalidArgs', 'SetMemory', 128 * MIB)
    d.do('SetVCPUs', 4, maximum=True, config=True)
    d.do('SetVCPUs', 3, now={'VCPUs': 3})
    described("<vcpu placement='static' current='3'>4</vcpu>", 'SetVCPUs')
    d.refused('InvalidArgs', 'SetVCPUs', 5)
    d.refused('InvalidArgs', 'SetVCPUs', 0)
    d.do('SetAutostart', True, now={'Autostart': True})
    test.check('enable' in here.virsh('dominfo', d.uuid), 'virsh sees no autostart')
    d.do('SetAutostart', False, now={'Autostart': False})
    d.do('Rename', 'form', story=['Defined (renamed)'], now={'Name': 'form'})
    other = Changes(here, 'domain', 'Domain')
    other.do('DefineDomain', guests.domain_xml('other', disk, uuid=other.uuid), on=connection,
             story=['Added', 'Defined (added)'])
    d.refused('AlreadyExists', 'Rename', 'other', says='other')
    other.do('Undefine', story=['Undefined (removed)', 'Removed'])

    for method in ('AttachDevice', 'DetachDevice', 'UpdateDevice'):
        d.refused('InvalidXML', method, "<disk type='file'>\n<source/>\n</dis>", says='line 3, column ')
        d.refused('NotSupported', method, '<nonsense/>', says='nonsense')
    data = images / 'attached.qcow2'
    make_qcow2(data, 1)
    d.do('AttachDevice', CDROM.format(source=''), config=True)
    d.do('UpdateDevice', CDROM.format(source=f"<source file='{disk}'/>"), config=True)
    test.equal(here.virsh('domblklist', d.uuid).count(str(disk)), 2, 'drives that hold the medium')
    d.do('DetachDevice', CDROM.format(source=''), config=True)
    test.check('hdc' not in here.virsh('domblklist', d.uuid), 'the drive is still there')
    d.refused('NotFound', 'DetachDevice', CDROM.format(source=''), config=True)
    d.refused('InvalidState', 'AttachDevice', DISK.format(file=data, target='vdb'), live=True)

    d.do('Start', story=['Started (booted)'])
    d.do('AttachDevice', DISK.format(file=data, target='vdb'), story=['DeviceAdded'])
    test.check(str(data) in here.virsh('domblklist', d.uuid), 'virsh sees no new disk')
    d.refused('InvalidXML', 'AttachDevice', DISK.format(file=data, target='vdb'), says='vdb')
    d.refused('OperationFailed', 'AttachDevice', DISK.format(file=images / 'none.qcow2', target='vdc'), says='none.qcow2')
    # the guest has to let it go, and has no mind to: asked for is all
    d.do('DetachDevice', DISK.format(file=data, target='vdb'))
    xml = here.call(d.target, 'GetXML')['xml']
    test.check('<name>form</name>' in xml and "id='" in xml, 'GetXML of a running domain')
    d.do('Destroy', story=['Stopped (destroyed)'])
    d.do('Undefine', story=['Undefined (removed)', 'Removed'])


def pools(test, here):
    p, connection = Changes(here, 'pool', 'StoragePool'), (here.path, 'Connection')
    directory = here.libvirtd.images / 'store'
    xml = POOL.format(name='store', uuid=p.uuid, target=directory)
    for method in ('DefinePool', 'CreatePool'):
        refuse_xml(here, connection, method, 'pool')
    p.do('DefinePool', xml, on=connection, story=['Added', 'Defined (added)'], now={'Persistent': True, 'Active': False})
    here.refused('AlreadyExists', connection, 'DefinePool',
                 POOL.format(name='store', uuid=uuids.uuid4(), target=here.libvirtd.images / 'elsewhere'))
    p.refused('InvalidState', 'Stop')
    p.refused('InvalidState', 'Refresh')
    p.refused('InvalidState', 'CreateVolume', VOLUME.format(name='v', size=1))
    p.refused('OperationFailed', 'Start', says=str(directory))  # not built
    p.do('Build', story=['Built'])
    test.check(directory.is_dir(), 'Build made no directory')
    p.do('Start', story=['Started'], now={'Active': True})
    test.check(here.get(p.target, 'Capacity') > 0, 'a started pool has no size')
    p.refused('InvalidState', 'Start')
    p.refused('InvalidState', 'Undefine')
    p.refused('InvalidState', 'Delete')
    p.do('SetAutostart', True, now={'Autostart': True})
    p.do('SetAutostart', False, now={'Autostart': False})

    refuse_xml(here, p.target, 'CreateVolume', 'volume')
    test.equal(p.do('CreateVolume', VOLUME.format(name='v', size=4))['name'], 'v', 'the name that CreateVolume returns')
    p.refused('AlreadyExists', 'CreateVolume', VOLUME.format(name='v', size=4), says='v')
    p.do('CloneVolume', 'v', 'w')
    p.refused('AlreadyExists', 'CloneVolume', 'v', 'w')
    p.refused('NotFound', 'CloneVolume', 'none', 'x', says='none')
    p.do('ResizeVolume', 'w', 8 * MIB)
    p.refused('InvalidArgs', 'ResizeVolume', 'w', 1 * MIB)
    p.refused('NotFound', 'ResizeVolume', 'none', 8 * MIB)
    volumes = dict(here.call(p.target, 'ListVolumes')['volumes'])
    test.equal({name: v['capacity'] for name, v in volumes.items()}, {'v': 4 * MIB, 'w': 8 * MIB}, 'ListVolumes')
    test.equal((directory / 'w').stat().st_size, 8 * MIB, 'the size of a resized volume')
    (directory / 'found').write_bytes(bytes(MIB))
    p.do('Refresh', story=['Refreshed'])
    test.check('found' in dict(here.call(p.target, 'ListVolumes')['volumes']), 'Refresh did not find a file')
    p.refused('InvalidOption', 'WipeVolume', 'v', algorithm='fire', says='fire')
    for name in ('v', 'w', 'found'):
        p.do('DeleteVolume', name)
        test.check(not (directory / name).exists(), f'the volume {name} is still there')
    p.refused('NotFound', 'DeleteVolume', 'v', says='v')
    test.check('<name>store</name>' in here.call(p.target, 'GetXML')['xml'], 'GetXML of a pool')
    p.do('Stop', story=['Stopped'], now={'Active': False})
    p.do('Delete', story=['Deleted'])
    test.check(not directory.exists(), 'Delete left the directory')
    p.do('Undefine', story=['Undefined', 'Removed'])

    p = Changes(here, 'pool', 'StoragePool')
    xml = POOL.format(name='moment', uuid=p.uuid, target=directory)
    here.refused('OperationFailed', connection, 'CreatePool', xml, says=str(directory))
    p.do('CreatePool', xml, on=connection, build=True, story=['Added', 'Started'], now={'Persistent': False})
    p.do('Stop', story=['Stopped', 'Removed'])


def networks(test, here):
    n, connection = Changes(here, 'network', 'Network'), (here.path, 'Connection')
    xml = NET.format(name='wires', uuid=n.uuid, bridge='vrbr1', octet=211)
    for method in ('DefineNetwork', 'CreateNetwork'):
        refuse_xml(here, connection, method, 'network')
    n.do('DefineNetwork', xml, on=connection, story=['Added', 'Defined (added)'], now={'Persistent': True, 'Bridge': 'vrbr1'})
    here.refused('AlreadyExists', connection, 'DefineNetwork',
                 NET.format(name='wires', uuid=uuids.uuid4(), bridge='vrbr2', octet=212))
    n.refused('InvalidState', 'Stop')
    n.do('SetAutostart', True, now={'Autostart': True})
    n.do('SetAutostart', False, now={'Autostart': False})
    n.do('Start', story=['Started'], now={'Active': True})
    n.refused('InvalidState', 'Start')
    test.check('wires' in here.virsh('net-list', '--name'), 'virsh sees no network')
    test.check('<name>wires</name>' in here.call(n.target, 'GetXML')['xml'], 'GetXML of a network')
    n.do('Undefine', story=['Undefined'], now={'Persistent': False, 'Active': True})
    n.do('Stop', story=['Stopped', 'Removed'])
    n = Changes(here, 'network', 'Network')
    n.do('CreateNetwork', NET.format(name='moment', uuid=n.uuid, bridge='vrbr3', octet=213), on=connection,
         story=['Added', 'Started'], now={'Persistent': False})
    n.do('Stop', story=['Stopped', 'Removed'])


CASES = (life, failures, wakeup, configuration, pools, networks)


def main(test):
    libvirtd = test.libvirtd()
    vireod = test.vireod(f'one={libvirtd.uri}')
    here = Hypervisor(test, vireod, libvirtd, 'one')
    vireod.wait_connected(path=here.path)
    chosen = sys.argv[1:]
    for case in CASES:
        if not chosen or case.__name__ in chosen:
            with test.case(case.__name__):
                case(test, here)
                here.check_truth('Allocation', 'Available')
    with test.case('the story'):
        test.judge(vireod, 'the story of all methods')


if __name__ == '__main__':
    program.run(main)
