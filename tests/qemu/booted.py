#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Under a real systemd: a QEMU, and its TPM, are services of their own. The broker is killed, stopped and started again; they go
on, and are found again.
"""

import pathlib
import shutil
import sys

import qemukit

from kit import guests, program, vireod
from kit.loop import wait_for
from kit.recorder import Recorder
from kit.vireod import BusError, Client

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'package'))

from container import CannotBoot, Container, missing  # noqa: E402

HOME = '/var/lib/vireo-test'
UNIT = f'''[Service]
Type=notify
ExecStart=/usr/local/bin/vireod --system --state-directory={HOME}/state --connect=vireo://{HOME}/domains
Restart=on-failure
RestartSec=100ms
'''


def boot(test):
    """Return a machine that runs a vireod as root, as nothing but that."""
    try:
        machine = Container(test.scope, 'vireo-qemu')
        binary = vireod.executable()
        machine.prepare(
            f'set -e; mkdir -p $ROOT/usr/local/bin $ROOT{HOME}/domains $ROOT{HOME}/state; cp {binary} $ROOT/usr/local/bin/vireod; '
            f'cp {ROOT}/policy/org.vireo1.conf $ROOT/usr/share/dbus-1/system.d/; '
            # a user that its policy names
            'chroot $ROOT getent passwd vireo >/dev/null || chroot $ROOT useradd -r vireo; '
            'rm -f $ROOT/etc/systemd/system/vireod.service* $ROOT/usr/share/dbus-1/system-services/org.vireo1.service')
        (machine.root / 'etc/systemd/system/vireo-test.service').write_text(UNIT)
        machine.boot()
    except CannotBoot as reason:
        raise program.Skip(str(reason)) from None
    return machine


def main(test):
    program.needs(qemukit.missing, missing, program.needs_vireod)
    machine = boot(test)
    machine.run('systemctl', 'start', 'vireo-test')
    client = Client(machine)
    recorder = Recorder(machine)
    connection = client.get('/org/vireo1', 'Manager', 'Connections')[0]

    def connected():
        try:
            return client.get(connection, 'Connection', 'State') == 'connected'
        except BusError:
            return False

    def again():
        wait_for(connected, 60, 'the broker follows its directory again', poll=0.1)
        client.sync()

    def call(path, method, signature='(a{sv})', *arguments):
        return client.call(path, 'org.vireo1.Domain', method, signature, *(arguments or ({},)), limit=90)

    def define(name, act, devices='', wait=0.5):
        disk = guests.image(test.scope.directory('images'), act, wait=wait)
        shutil.copy(disk, machine.file(f'{HOME}/{name}.img'))
        # no /dev/kvm in there
        xml = guests.domain_xml(name, f'{HOME}/{name}.img', kind='qemu', extra_devices=devices)
        return client.call(connection, 'org.vireo1.Connection', 'DefineDomain', '(sa{sv})', xml, {}, limit=60)[0]

    def units():
        said = machine.run('systemctl', 'list-units', '--plain', '--no-legend', '--no-pager', 'vireo-*-*.service')
        return sorted(line.split()[0] for line in said.splitlines())

    def state(path):
        return client.get(path, 'Domain', 'State')

    again()
    tpm = shutil.which('swtpm')
    with test.case('services of their own'):
        path = define('first', guests.IDLE, "<tpm model='tpm-crb'><backend type='emulator'/></tpm>" if tpm else '')
        call(path, 'Start')
        test.equal(state(path), 'running', 'it runs')
        uuid, run = client.get(path, 'Domain', 'UUID'), client.get(path, 'Domain', 'ID')
        name = f'vireo-{uuid}-{run}'
        test.equal(units(), sorted([f'{name}.service', *([f'{name}-tpm.service'] if tpm else [])]), 'the units')
        shown = machine.show(f'{name}.service', 'ActiveState', 'Description', 'Slice', 'Transient', 'MainPID')
        qemu = shown.pop('MainPID')
        test.equal(shown, {'ActiveState': 'active', 'Description': 'first', 'Slice': 'machine.slice', 'Transient': 'yes'}, 'as what')
        test.check('qemu-system' in machine.run('cat', f'/proc/{qemu}/cmdline'), 'it is QEMU')
        test.check(f'machine.slice/{name}.service' in machine.run('cat', f'/proc/{qemu}/cgroup'), 'in a control group of its own')

    def pids():
        return {unit: machine.show(unit, 'MainPID')['MainPID'] for unit in units()}

    with test.case('the broker killed'):
        before, was = client.get_all(path, 'Domain'), pids()
        broker = machine.show('vireo-test', 'MainPID')['MainPID']
        machine.run('kill', '-KILL', broker)
        wait_for(lambda: machine.show('vireo-test', 'MainPID', 'ActiveState') not in (
            {'MainPID': broker, 'ActiveState': 'active'}, {'MainPID': '0', 'ActiveState': 'activating'}), 60, 'it is started anew', poll=0.2)
        again()
        test.equal(client.get_all(path, 'Domain'), before, 'nothing has changed, the version neither')
        test.equal(pids(), was, 'the same processes')
        try:
            call(path, 'Start')
            test.fail('it was started twice')
        except BusError as error:
            test.equal(error.short, 'InvalidState', 'starting it again')

    with test.case('the broker stopped, and started'):
        machine.run('systemctl', 'stop', 'vireo-test')
        test.equal(pids(), was, 'they go on')
        machine.run('systemctl', 'start', 'vireo-test')
        again()
        test.equal(state(path), 'running', 'found again')
        call(path, 'Suspend')
        test.equal(state(path), 'paused', 'and obeys')
        call(path, 'Resume')

    with test.case('destroyed'):
        call(path, 'Destroy')
        wait_for(lambda: not units(), 30, lambda: f'no unit is left: {units()}', poll=0.2)
        test.equal(machine.run('systemctl', '--failed', '--plain', '--no-legend', '--no-pager').strip(), '', 'none has failed')
        call(path, 'Start')
        pid = machine.show(next(u for u in units() if 'tpm' not in u), 'MainPID')['MainPID']
        machine.run('kill', '-KILL', pid)
        wait_for(lambda: state(path) == 'shutoff', 30, 'killed from outside', poll=0.1)
        wait_for(lambda: not units(), 30, lambda: f'no unit is left: {units()}', poll=0.2)

    with test.case('a guest switches itself off while the broker is away'):
        off = define('off', guests.POWEROFF, wait=1)
        call(off, 'Start')
        machine.run('systemctl', 'stop', 'vireo-test')
        wait_for(lambda: not units(), 120, 'its service ends', poll=0.5)
        machine.run('systemctl', 'start', 'vireo-test')
        again()
        test.equal(state(off), 'shutoff', 'and that is found')

    with test.case('one that does not start'):
        machine.file(f'{HOME}/off.img').unlink()
        try:
            call(off, 'Start')
            test.fail('it started')
        except BusError as error:
            test.check(error.short == 'OperationFailed' and 'No such file' in error.message, f'{error}')
        wait_for(lambda: not units(), 30, lambda: f'no unit is left: {units()}', poll=0.2)
    test.check(any(e.event == 'Started' for e in recorder.events), 'it was heard on the bus of the system')
    if test.failures:
        print(machine.run('journalctl', '--no-pager', '-o', 'cat', '-n', '60', check=False))


program.run(main)
