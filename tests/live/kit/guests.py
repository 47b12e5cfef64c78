# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests without an operating system, and the XML of the domains that run them."""

import os
import pathlib
import platform
import shutil
import subprocess
import uuid as uuids
from xml.sax.saxutils import escape, quoteattr

SOURCES = pathlib.Path(__file__).resolve().parent.parent / 'guests'

IDLE, POWEROFF, SUSPEND_MEMORY, RESET, PANIC, CRASHLOADED, SUSPEND_DISK, WRITE = range(8)

TICKS = 18.2  # of a PC's clock, a second


def missing():
    """Return why guests can't be built or run here, or None."""
    if platform.machine() not in ('x86_64', 'i686'):
        return f'the guests are for x86, this is {platform.machine()}'
    for tool in ('cc', 'as', 'ld', 'qemu-img', 'qemu-system-x86_64'):
        if not shutil.which(tool):
            return f'{tool} is not installed'
    return None


def kvm():
    """Whether guests can be run by KVM here."""
    try:
        os.close(os.open('/dev/kvm', os.O_RDWR))
    except OSError:
        return False
    return True


def _assemble(source, output, size, address='0x7c00', **defines):
    flags = [f'-D{key}={value}' for key, value in defines.items()]
    text = subprocess.run(['cc', '-E', '-P', *flags, SOURCES / source], check=True, stdout=subprocess.PIPE).stdout
    object_file = output.with_suffix('.o')
    subprocess.run(['as', '--32', '-o', object_file, '-'], check=True, input=text)
    subprocess.run(['ld', '-m', 'elf_i386', '-Ttext', address, '--oformat', 'binary', '-o', output, object_file],
                   check=True, stderr=subprocess.PIPE)
    object_file.unlink()
    os.chmod(output, 0o666)
    os.truncate(output, size)
    return output


def image(directory, act, wait=0.5, size=1 << 20, name=None):
    """Build the disk of a guest that does `act` after `wait` seconds. Each domain needs a disk of its own."""
    output = pathlib.Path(directory) / f'{name or uuids.uuid4().hex}.img'
    return _assemble('guest.S', output, size, WAIT=max(1, round(wait * TICKS)), ACT=act)


def fill_image(directory, top, loop=False, name=None):
    """Build the disk of a guest that fills its memory up to `top`; with `loop`, over and over."""
    output = pathlib.Path(directory) / f'{name or uuids.uuid4().hex}.img'
    return _assemble('fill.S', output, 1 << 20, TOP=hex(top), **({'LOOP': 1} if loop else {}))


def fill_rom(directory, top, loop=False):
    """The same as what a machine has in the place of a BIOS: it begins at once, which a BIOS that looks for disks does not."""
    output = pathlib.Path(directory) / f'{uuids.uuid4().hex}.rom'
    return _assemble('fill.S', output, 1 << 16, address='0xf0000', ROM=1, TOP=hex(top), **({'LOOP': 1} if loop else {}))


def to_qcow2(path):
    """Make a qcow2 of a raw image, for what needs one (internal snapshots); return its path."""
    output = pathlib.Path(path).with_suffix('.qcow2')
    subprocess.run(['qemu-img', 'convert', '-q', '-f', 'raw', '-O', 'qcow2', path, output], check=True)
    os.chmod(output, 0o666)
    return output


def domain_xml(name, disk=None, *, uuid=None, kind=None, memory=32, vcpus=1, disk_format=None, on_poweroff='destroy',
               on_reboot='restart', on_crash='destroy', panic=False, title=None, extra_devices='', error_policy=None,
               pm=True, machine='pc', disk_bus='virtio', rom=None):
    """Return the XML of a domain that boots `disk`, or that begins with `rom`."""
    kind = kind or ('kvm' if kvm() else 'qemu')
    uuid = uuid or str(uuids.uuid4())
    devices = []
    if disk is not None:
        disk = pathlib.Path(disk)
        disk_format = disk_format or ('qcow2' if disk.suffix == '.qcow2' else 'raw')
        policy = f' error_policy={quoteattr(error_policy)}' if error_policy else ''
        target = 'vda' if disk_bus == 'virtio' else 'hda'
        devices.append(f"<disk type='file' device='disk'><driver name='qemu' type='{disk_format}'{policy}/>"
                       f"<source file={quoteattr(str(disk))}/><target dev='{target}' bus='{disk_bus}'/></disk>")
    loader = f"<loader type='rom'>{escape(str(rom))}</loader>" if rom else ''
    if panic:
        devices.append("<panic model='isa'/>")
    devices.append(extra_devices)
    return f"""<domain type='{kind}'>
  <name>{escape(name)}</name>
  <uuid>{uuid}</uuid>
  {f'<title>{escape(title)}</title>' if title else ''}
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type>{loader}</os>
  <features><acpi/></features>
  <on_poweroff>{on_poweroff}</on_poweroff>
  <on_reboot>{on_reboot}</on_reboot>
  <on_crash>{on_crash}</on_crash>
  {"<pm><suspend-to-mem enabled='yes'/><suspend-to-disk enabled='yes'/></pm>" if pm else ''}
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {' '.join(devices)}
  </devices>
</domain>
"""
