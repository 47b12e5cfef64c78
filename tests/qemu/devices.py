#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What is more than a command line: firmware with variables, interfaces of the host, a spice socket, a floppy. Each guest
runs with it, and QEMU itself is asked whether it has it. All by TCG: the KVM of a machine that is itself virtual may not be
able to run all firmware.
"""

import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess

import qemukit
from house import House, refused
from images import checksum
from qemukit import qemus_of, story_of

from kit import guests, program
from kit.loop import wait_for
from gi.repository import GLib

YES = GLib.Variant('b', True)
CORNER = """
set -e
mount --make-rprivate /
cp -a /etc "$0/etc"
mkdir -p "$0/etc/qemu"
echo "allow vireo-br" >"$0/etc/qemu/bridge.conf"
mount --bind "$0/etc" /etc
ip link set lo up
ip link add vireo-br type bridge
ip link set vireo-br up
ip tuntap add dev vireo-tap mode tap
ip link set vireo-tap up
echo ready
exec sleep infinity
"""


def domain(name, devices='', *, machine='q35', firmware='', boot='', memory=128, general=''):
    return f"""<domain type='qemu'><name>{name}</name><memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
  <os{firmware}><type arch='x86_64' machine='{machine}'>hvm</type>{boot}</os>{general}
  <features><acpi/></features><devices><memballoon model='none'/>{devices}</devices></domain>"""


def efi(test, house):
    if not pathlib.Path('/usr/share/OVMF/OVMF_VARS_4M.fd').exists():
        raise program.Skip('there is no EFI firmware here (package ovmf)')
    template = pathlib.Path('/usr/share/OVMF/OVMF_VARS_4M.fd')
    path = house.define(domain('efi', firmware=" firmware='efi'"))
    house(path, 'Start')
    own = house.directory / house.properties(path)['UUID'] / 'nvram.fd'
    test.equal(own.stat().st_size, template.stat().st_size, 'variables as big as the template')
    wait_for(lambda: checksum(own) != checksum(template), 120, 'the firmware runs, and writes its variables', poll=0.2)
    with house.monitor(path) as monitor:
        nodes = {n['node-name']: n['file'] for n in monitor('query-named-block-nodes')}
        test.equal((nodes.get('flash0'), nodes.get('flash1')), ('/usr/share/OVMF/OVMF_CODE_4M.fd', str(own)), 'what QEMU has')
    house(path, 'Destroy')
    kept = checksum(own)
    house(path, 'Start', paused=YES)
    test.equal(checksum(own), kept, 'what was written is kept')
    house(path, 'Destroy')
    refused(test, lambda: house(path, 'Undefine'), 'InvalidState', 'undefining what has variables', 'nvram')
    refused(test, lambda: house(path, 'Undefine', **{'keep-nvram': YES}), 'NotSupported', 'keeping them')
    house(path, 'Start', paused=YES, **{'reset-nvram': YES})
    test.equal(checksum(own), checksum(template), 'begun anew')
    house(path, 'Destroy')
    house(path, 'Undefine', nvram=YES)
    test.check(not own.exists(), 'they are gone')

    # at a place of the administrator's, from a template of his
    own, mine = house.images / 'my, variables.fd', house.images / 'template.fd'
    mine.write_bytes(template.read_bytes())
    xml = domain('efi-2', boot=f"<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
                               f"<nvram template='{mine}'>{own}</nvram>")
    path = house.define(xml)
    house(path, 'Start', paused=YES)
    test.equal(checksum(own), checksum(mine), 'from that template')
    house(path, 'Destroy')
    refused(test, lambda: house(path, 'Undefine'), 'InvalidState', 'undefining what has variables elsewhere', 'nvram')
    house(path, 'Undefine', **{'keep-nvram': YES})
    test.check(own.exists(), 'they are kept')
    path = house.define(xml)
    house(path, 'Undefine', nvram=YES)
    test.check(not own.exists(), 'and removed')
    path = house.define(xml.replace('template.fd', 'nowhere.fd'))
    refused(test, lambda: house(path, 'Start'), 'OperationFailed', 'a template that is not there', 'nowhere.fd')
    test.check(not own.exists(), 'nothing is left of it')
    house(path, 'Undefine')


def interfaces(test, house, corner):
    def counted(device):
        text = subprocess.run([*corner, 'cat', '/proc/self/net/dev'], check=True, stdout=subprocess.PIPE, text=True).stdout
        return next(int(line.split()[2]) for line in text.splitlines() if line.strip().startswith(f'{device}:'))
    nets = {
        'vireo-br': ("<interface type='bridge'><mac address='52:54:00:12:34:01'/><source bridge='vireo-br'/><model type='virtio'/>"
                     "</interface>", ['helper=', 'br=vireo-br']),
        'vireo-tap': ("<interface type='ethernet'><mac address='52:54:00:12:34:02'/><target dev='vireo-tap' managed='no'/>"
                      "<model type='e1000'/></interface>", ['ifname=vireo-tap', 'model=e1000']),
    }
    paths = {device: house.define(domain(device, xml, boot="<boot dev='network'/>")) for device, (xml, _) in nets.items()}
    before = {device: counted(device) for device in nets}
    for path in paths.values():
        house(path, 'Start')
    ports = subprocess.run([*corner, 'ip', '-o', 'link', 'show', 'master', 'vireo-br'], check=True, stdout=subprocess.PIPE,
                           text=True).stdout
    test.equal(len(ports.splitlines()), 1, 'the bridge has a port')
    for device in nets:
        # its firmware asks for an address
        wait_for(lambda: counted(device) > before[device], 120, f'a guest speaks on {device}', poll=0.2)  # pylint: disable=cell-var-from-loop
    for device, (_, words) in nets.items():
        with house.monitor(paths[device]) as monitor:
            text = monitor('human-monitor-command', **{'command-line': 'info network'})
            test.equal([w for w in words if w not in text], [], f'what QEMU has: {text}')
        house(paths[device], 'Destroy')
        house(paths[device], 'Undefine')
    path = house.define(domain('no-bridge', "<interface type='bridge'><source bridge='vireo-none'/></interface>"))
    refused(test, lambda: house(path, 'Start'), 'OperationFailed', 'a bridge that is not there')
    house(path, 'Undefine')


def spice(test, house):
    path = house.define(domain('spice', f"<graphics type='spice' socket='{house.images}/sp, ice.sock'/><video><model type='qxl'/></video>"))
    house(path, 'Start')
    begun = house.mark()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(f'{house.images}/sp, ice.sock')
        # a link message for the main channel, version 2.2, without capabilities
        s.sendall(struct.pack('<4sIII', b'REDQ', 2, 2, 18) + struct.pack('<IBBIII', 0, 1, 0, 0, 0, 18))
        test.equal(s.recv(4), b'REDQ', 'somebody speaks spice there')
        house.recorder.wait('Graphics', path=path, after=begun)
    with house.monitor(path) as monitor:
        answer = monitor('query-spice')
        test.check(answer['enabled'], f'what QEMU has: {answer}')
    house(path, 'Destroy')
    house(path, 'Undefine')


def floppy(test, house, machine):
    disk = guests.image(house.images, guests.IDLE, wait=0.3, size=1474560)
    devices = (f"<disk type='file' device='floppy'><source file='{disk}'/><target dev='fda' bus='fdc'/></disk>"
               "<disk type='file' device='floppy'><target dev='fdb' bus='fdc'/></disk>")
    path = house.define(domain(f'floppy-{machine}', devices, machine=machine, boot="<boot dev='fd'/>"))
    house(path, 'Start', paused=YES)
    with house.monitor(path) as monitor:
        drives = {b['qdev'].split('/')[-1]: b.get('inserted', {}).get('file') for b in monitor('query-block') if 'qdev' in b}
        test.equal((drives.get('fda'), drives.get('fdb', '')), (str(disk), None), f'what QEMU has: {drives}')
    house(path, 'Destroy')
    house(path, 'Undefine')
    if machine == 'pc':
        # from which it boots, and switches itself off
        disk = guests.image(house.images, guests.POWEROFF, wait=0.3, size=1474560)
        path = house.define(domain('boots', f"<disk type='file' device='floppy'><source file='{disk}'/>"
                                   "<target dev='fda' bus='fdc'/></disk>", machine=machine, boot="<boot dev='fd'/>"))
        begun = house.mark()
        house(path, 'Start')
        wait_for(lambda: 'Stopped(shutdown)' in story_of(house.recorder, path, begun), 60, 'it booted, and ended', poll=0.1)
        house(path, 'Undefine')


def tpms_of(directory):
    """Return the processes that are the TPM of a domain there."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/comm', encoding='ascii', errors='replace') as f:
                name = f.read().strip()
            with open(f'/proc/{pid}/environ', 'rb') as f:
                if name == 'swtpm' and f'TPM_PATH={directory}/'.encode() in f.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def tpm(test, house):
    if not shutil.which('swtpm'):
        raise program.Skip('swtpm is not installed')

    def gone(text):
        wait_for(lambda: not tpms_of(house.directory) and not qemus_of(house.directory), 30, text, poll=0.05)

    for model, version in ('tpm-crb', '2.0'), ('tpm-tis', '1.2'):
        disk = guests.image(house.images, guests.IDLE)
        xml = domain(f'{model}, {version}', f"<disk type='file'><source file='{disk}'/><target dev='vda'/></disk>"
                     f"<tpm model='{model}'><backend type='emulator' version='{version}'/></tpm>")
        path = house.define(xml)
        house(path, 'Start')
        own = house.directory / house.properties(path)['UUID']
        before = tpms_of(house.directory), qemus_of(house.directory)
        test.equal((len(before[0]), len(before[1])), (1, 1), 'a TPM, a QEMU')
        # firmware of the guest begins to use it
        state = own / ('tpm2-00.permall' if version == '2.0' else 'tpm-00.permall')
        wait_for(state.exists, 30, 'its state is kept', poll=0.1)
        with house.monitor(path) as monitor:
            answer, = monitor('query-tpm')
            test.equal((answer['model'], answer['options']['type']), (model, 'emulator'), 'what QEMU has')
        test.equal((tpms_of(house.directory), qemus_of(house.directory)), before, 'both outlived the broker')
        house(path, 'ManagedSave')
        gone('both end with a save')
        house(path, 'Start')
        test.equal(house.properties(path)['Reason'], 'restored', 'with all that the TPM holds')
        for pid in qemus_of(house.directory):
            os.kill(pid, signal.SIGKILL)
        gone('the TPM ends with a QEMU that is killed')
        wait_for(lambda: not house.properties(path)['Active'], 20, 'it is off', poll=0.05)
        house(path, 'Start')
        hangs, = tpms_of(house.directory)
        os.kill(hangs, signal.SIGSTOP)
        house(path, 'Destroy')
        house(path, 'Start')
        test.check(hangs not in tpms_of(house.directory), 'one that hangs is got rid of')
        # the same while nobody looks
        (hangs,), (pid,) = tpms_of(house.directory), qemus_of(house.directory)
        house.vireod.kill()
        os.kill(hangs, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        house.vireod.start()
        house.restarted()
        wait_for(lambda: not house.properties(path)['Active'], 30, 'it is found that it has ended', poll=0.05)
        gone('and the TPM that hangs')
        house(path, 'Start')
        house(path, 'Destroy')
        gone('both are destroyed')
        refused(test, lambda: house(path, 'Undefine'), 'InvalidState', 'undefining what has a TPM', 'tpm')
        refused(test, lambda: house(path, 'Undefine', **{'keep-tpm': YES}), 'NotSupported', 'keeping it')
        house(path, 'Undefine', tpm=YES)
        test.check(not own.exists(), 'nothing is left')
        path = house.define(xml.replace('.img', '.missing'))
        refused(test, lambda: house(path, 'Start'), 'OperationFailed', 'a missing disk')
        gone('no TPM is left of a start that fails')
        house(path, 'Undefine', tpm=YES)
    refused(test, lambda: house.define(domain('x', "<tpm><backend type='emulator' version='3'/></tpm>")), 'InvalidXML', 'a version',
            '<backend>', 'version')
    refused(test, lambda: house.define(domain('x', "<tpm><backend type='emulator'><encryption secret='x'/></backend></tpm>")),
            'InvalidXML', 'encryption', '<encryption>')


def main(test):
    program.needs(qemukit.missing)
    corner = []
    if os.geteuid() == 0 and shutil.which('ip') and shutil.which('unshare') and os.path.exists('/dev/net/tun'):
        holder = test.scope.spawn(['unshare', '-n', '-m', 'sh', '-c', CORNER, test.scope.directory('corner')],
                                  stdout=subprocess.PIPE, text=True)
        if holder.stdout.readline() == 'ready\n':
            corner = ['nsenter', '-t', str(holder.pid), '-n', '-m', '--']
    house = House(test, wrapper=corner)
    with test.case('EFI'):
        efi(test, house)
    with test.case('a bridge and a tap'):
        if not corner:
            raise program.Skip('a network of its own needs root, ip, unshare and /dev/net/tun')
        interfaces(test, house, corner)
    with test.case('a TPM'):
        tpm(test, house)
    with test.case('spice'):
        spice(test, house)
    for machine in 'pc', 'q35':
        with test.case(f'floppies, on {machine}'):
            floppy(test, house, machine)
    test.judge(house.vireod)
    house.finish()


program.run(main)
