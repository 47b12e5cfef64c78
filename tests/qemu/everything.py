#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""All that can be described at once, on both of QEMU's PCs: it runs, is saved, restored and destroyed."""

import qemukit
from house import House

from kit import guests, program

EVERYTHING = """
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' discard='unmap' error_policy='stop'/>
      <source file='{disk}'/><target dev='vda' bus='virtio'/><serial>S,1</serial></disk>
    <disk type='file'><driver type='qcow2' cache='writeback'/><source file='{other}'/><target dev='sda' bus='scsi'/></disk>
    <disk type='file'><source file='{third}'/><target dev='sdb' bus='scsi'/><readonly/></disk>
    <disk type='file'><source file='{fourth}'/><target dev='sdc' bus='usb'/></disk>
    <disk type='file'><source file='{fifth}'/><target dev='sdf' bus='sata'/></disk>
    <disk type='file' device='cdrom'><source file='{third}'/><target dev='hdc' bus='ide'/></disk>
    <disk type='file' device='cdrom'><target dev='sdd' bus='scsi'/></disk>
    <interface type='user'><mac address='52:54:00:12:34:56'/><model type='virtio'/></interface>
    <interface type='user'><model type='e1000'/></interface>
    <serial type='pty'><target type='isa-serial' port='0'><model name='isa-serial'/></target></serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <console type='unix'><source mode='bind' path='{directory}/con, sole.sock'/><target type='virtio'/></console>
    <serial type='file'><source path='{directory}/serial, log' append='on'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' socket='{directory}/v, nc.sock'/>
    <video><model type='virtio' primary='yes'/></video>
    <input type='tablet' bus='usb'/><input type='keyboard' bus='virtio'/><input type='keyboard' bus='ps2'/>
    <controller type='usb' model='qemu-xhci'/><controller type='pci' index='0' model='pci{express}-root'/>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <watchdog model='i6300esb' action='pause'/>{panic}
"""
GENERAL = """<domain type='{kind}'><name>{name}</name><metadata><x:y xmlns:x='urn:x'/></metadata>
  <memory unit='MiB'>128</memory><currentMemory unit='MiB'>64</currentMemory><vcpu placement='static'>4</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type><boot dev='cdrom'/><boot dev='hd'/><bootmenu enable='no'/></os>
  <features><acpi/><apic/><pae/></features>
  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model><topology sockets='2' cores='2' threads='1'/></cpu>
  <clock offset='localtime'><timer name='rtc' tickpolicy='catchup'/><timer name='hpet' present='no'/></clock>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>
  <devices>{devices}</devices></domain>"""


def everything(test, house):
    for machine, express in ('pc', ''), ('q35', 'e'):
        with test.case(f'all that can be described, on {machine}'):
            directory = test.scope.directory(f'run, {machine}')
            images = [guests.image(house.images, guests.IDLE) for _ in range(4)]
            other = guests.to_qcow2(images[1])
            devices = EVERYTHING.format(disk=images[0], other=other, third=images[1], fourth=images[2], fifth=images[3], directory=directory,
                                        express=express, panic="<panic model='isa'/>")
            if machine == 'q35':
                devices = devices.replace("dev='hdc' bus='ide'", "dev='sde' bus='sata'")
            path = house.define(GENERAL.format(kind='kvm' if guests.kvm() else 'qemu', name=f'all-{machine}', machine=machine,
                                               devices=devices))
            house(path, 'Start')
            p = house.properties(path)
            test.equal((p['State'], p['VCPUs'], p['MaxMemory']), ('running', 4, 128 << 20), 'it runs')
            test.check((directory / 'v, nc.sock').exists() and (directory / 'con, sole.sock').exists(), 'its sockets are there')
            test.check((directory / 'serial, log').exists(), 'its file is there')
            house(path, 'Suspend')
            house(path, 'ManagedSave')
            house(path, 'Start')
            test.equal(house.properties(path)['State'], 'paused', 'it was paused when it was saved')
            house(path, 'Destroy')
            house(path, 'Undefine')


def main(test):
    program.needs(qemukit.missing)
    house = House(test)
    everything(test, house)
    test.judge(house.vireod)
    house.finish()


program.run(main)
