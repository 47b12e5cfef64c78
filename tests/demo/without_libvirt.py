# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demo's part without libvirt: QEMU by its own protocol."""

import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'live'))

from kit import guests  # noqa: E402
from kit.loop import wait_for  # noqa: E402
from kit.recorder import NAME, ROOT  # noqa: E402

UUID = '11111111-2222-3333-4444-555555555555'
THEIRS = '22222222-2222-3333-4444-555555555555'


def processes(directory):
    """Return the QEMUs whose command line names that directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as f:
                line = f.read()
        except OSError:
            continue
        if b'qemu-system' in line and os.fsencode(f'{directory}/') in line:
            found.append(int(pid))
    return found


def end_all(*directories):
    for directory in directories:
        for pid in processes(directory):
            os.kill(pid, signal.SIGKILL)


def description(disk):
    return (f"<domain type='{'kvm' if guests.kvm() else 'qemu'}'><name>one</name><uuid>{UUID}</uuid><memory unit='MiB'>32</memory>"
            f"<os><type machine='pc'>hvm</type></os><devices><disk type='file'><source file='{disk}'/>"
            "<target dev='vda'/></disk></devices></domain>")


def show(demo, domains):
    """`domains`: the directory that the broker was told to keep."""
    monitors = demo.scope.directory('vms')
    images = demo.scope.directory('images')
    demo.scope.defer(end_all, domains, monitors)
    demo.activate('a directory of its own, vireo://…, with QEMU and without libvirt')
    demo.versions()
    accel = 'kvm' if guests.kvm() else 'tcg'
    c = demo.connection
    one = f'{c}/domain/_{UUID.replace("-", "_")}'

    demo.title('3. QEMUs that somebody else starts')
    demo.say('A directory is watched; whatever monitor appears there is a domain. Nothing is polled.')
    demo.call(ROOT, 'Manager', 'Open', 'sa{sv}', f'qmp://{monitors}')
    other = next(p for p in demo.client.get(ROOT, 'Manager', 'Connections') if p != c)
    theirs = f'{other}/domain/_{THEIRS.replace("-", "_")}'
    argv = ['qemu-system-x86_64', '-machine', f'pc,accel={accel}', '-m', '32', '-nodefaults', '-display', 'none', '-name', 'theirs',
            '-uuid', THEIRS, '-qmp', f'unix:{monitors}/theirs.qmp,server=on,wait=off']
    print(f'  $ {" ".join(argv)} &')
    process = demo.scope.spawn(argv, stdout=subprocess.DEVNULL)
    demo.expect(theirs, 'Added', 'Started')
    demo.call(theirs, 'Domain', 'Suspend')
    demo.expect(theirs, 'Suspended')
    print(f'  $ kill -9 {process.pid}')
    process.kill()
    demo.expect(theirs, 'Stopped', 'Removed')

    demo.title('4. A domain of our own, by libvirt\'s domain XML')
    xml = description(guests.image(images, guests.POWEROFF, 0.5, name='off'))
    bad = xml.replace('<devices>', "<devices><hostdev mode='subsystem' type='usb'/>")
    demo.let('CONNECTION', c)
    demo.let('BAD', bad)
    demo.call(c, 'Connection', 'DefineDomain', 'sa{sv}', bad, fails=True)
    demo.say('What cannot be carried out is refused, with its line; nothing is ignored.')
    demo.let('XML', xml)
    demo.call(c, 'Connection', 'DefineDomain', 'sa{sv}', xml)
    demo.expect(one, 'Added', 'Defined')
    demo.let('ONE', one)
    demo.call(one, 'Domain', 'Start')
    demo.say('The guest switches itself off.')
    demo.expect(one, 'Started', 'Shutdown', 'Stopped')

    demo.title('5. Saved, and gone on with')
    idle = description(guests.image(images, guests.IDLE, name='idle'))
    demo.let('XML', idle)
    demo.call(c, 'Connection', 'DefineDomain', 'sa{sv}', idle)
    demo.expect(one, 'Defined')
    demo.call(one, 'Domain', 'Start')
    demo.expect(one, 'Started')
    demo.call(one, 'Domain', 'ManagedSave')
    demo.expect(one, 'Suspended', 'Stopped')
    demo.call(one, 'Domain', 'Start')
    demo.expect(one, 'Started')

    demo.judge()
    before = processes(domains)
    demo.restart('QEMU is nobody\'s child: it goes on, and is found again by the lock that it holds.')
    wait_for(lambda: demo.client.get(c, 'Connection', 'State') == 'connected', 30, 'the domains are found again', poll=0.1)
    demo.command('busctl', 'get-property', NAME, one, f'{NAME}.Domain', 'Name', 'State', 'Reason', 'ID', 'Version')
    if processes(domains) != before or len(before) != 1:
        demo.fail(f'there were {before}, there are {processes(domains)}')
    demo.call(one, 'Domain', 'Destroy')
    demo.expect(one, 'Stopped')
    demo.call(one, 'Domain', 'Undefine')
    demo.expect(one, 'Undefined', 'Removed')
    demo.judge()
