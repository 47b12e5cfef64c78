#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Installed, as on a machine without systemd: the system bus starts the broker as its own user; anybody may call and hear it,
but there is no polkit here, so that only root is listed anything; only its user and root may be it.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

from kit import namespaces, program
from kit.loop import wait_for
from kit.recorder import NAME, ROOT, Recorder
from kit.vireod import Client

USER, GROUP, NOBODY = 64078, 64077, 65534
BUILD = pathlib.Path(os.environ.get('VIREO_BUILD', pathlib.Path(__file__).resolve().parents[2] / 'build'))
SERVICE = ('busctl', 'get-property', NAME, ROOT, f'{NAME}.Manager', 'Epoch')

# Counts the signals that somebody hears, until a line comes
LISTENER = r'''
import sys
from gi.repository import Gio, GLib
bus = Gio.DBusConnection.new_for_address_sync(sys.argv[1], Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
                                              Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
heard = []
bus.signal_subscribe(None, None, None, None, None, Gio.DBusSignalFlags.NO_MATCH_RULE,
                     lambda c, sender, path, interface, member, body: interface.startswith('org.vireo1') and
                     heard.append(member))
def call(method, arguments=None):
    bus.call_sync('org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', method, arguments, None, 0,
                  30000, None)
call('AddMatch', GLib.Variant('(s)', ("type='signal',sender='org.vireo1'",)))
print('ready', flush=True)
sys.stdin.readline()
call('GetId')   # whatever was sent to us before is here now
while GLib.MainContext.default().iteration(False):
    pass
print(len(heard), flush=True)
'''


class Machine:
    """A corner of this machine in which Vireo is installed, with a system bus."""

    def __init__(self, test):
        scope = test.scope
        top = scope.directory()
        top.chmod(0o711)  # others than root have to reach the bus
        destination = scope.directory('destination')
        subprocess.run(['meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', '--destdir', destination],
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        options = json.loads(subprocess.run(['meson', 'introspect', '--buildoptions', BUILD], check=True,
                                            stdout=subprocess.PIPE).stdout)
        self.prefix = pathlib.Path(next(o['value'] for o in options if o['name'] == 'prefix'))
        self.installed = destination / self.prefix.relative_to('/')
        state, run = scope.directory('lib-vireo'), scope.directory('run-dbus')
        os.chown(state, USER, USER)
        run.chmod(0o755)
        (top / 'passwd').write_text(namespaces.account_file(
            'passwd', f'vireo:x:{USER}:{USER}::/var/lib/vireo:/usr/sbin/nologin'))
        groups = [line for line in namespaces.account_file('group').splitlines()
                  if line.split(':')[0] not in ('vireo', 'libvirt')]
        (top / 'group').write_text('\n'.join([*groups, f'vireo:x:{USER}:', f'libvirt:x:{GROUP}:vireo']) + '\n')
        self.inside = namespaces.Namespaces(scope, 'installed', {
            '/etc/passwd': top / 'passwd', '/etc/group': top / 'group', '/run/dbus': run,
            '/var/lib/vireo': state, '/etc/dbus-1/system.d': self.installed / 'share/dbus-1/system.d'})
        try:
            self.inside.run(f'mount -t overlay overlay -o lowerdir={self.installed}:{self.prefix} {self.prefix}')
        except RuntimeError as error:
            raise program.Skip(f'no overlay mounts here: {error}') from None
        self.address = f'unix:path={run}/system_bus_socket'
        self.log = (top / 'bus.log').open('w+')
        self.bus = scope.spawn(self.inside.enter('dbus-daemon', '--system', '--nofork', '--nopidfile', '--nosyslog',
                                                 '--print-address=1'), stdout=subprocess.PIPE, stderr=self.log)
        if not self.bus.stdout.readline():
            raise AssertionError(f'the system bus did not start: {(top / "bus.log").read_text()}')

    def connect(self):
        from gi.repository import Gio
        return Gio.DBusConnection.new_for_address_sync(
            self.address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
            Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)

    def somebody(self, uid, group=None):
        """Return what makes a command run as another user."""
        return ['setpriv', f'--reuid={uid}', f'--regid={uid}',
                f'--groups={group}' if group else '--clear-groups', '--']

    def busctl(self, who, *arguments):
        return subprocess.run([*who, 'busctl', f'--address={self.address}', *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)


def missing():
    for tool in ('dbus-daemon', 'busctl', 'setpriv', 'meson'):
        if not shutil.which(tool):
            return f'{tool} is not installed'
    return namespaces.missing()


def main(test):
    program.needs(missing, program.needs_vireod)
    machine = Machine(test)
    nobody, member = machine.somebody(NOBODY), machine.somebody(NOBODY, GROUP)

    with test.case('the bus starts it, as its own user'):
        root = Client(machine)
        epoch = root.get(ROOT, 'Manager', 'Epoch')
        test.check(len(epoch) == 32, f'the epoch is {epoch!r}')
        user = root.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetConnectionUnixUser', '(s)', NAME,
                         name='org.freedesktop.DBus')
        test.equal(user, USER, 'the user of the broker')

    with test.case('who may call'):
        for who in (nobody, member):
            got = machine.busctl(who, *SERVICE[1:])
            test.check(got.returncode == 0 and epoch in got.stdout, f'what is broadcast may be read: {got.stdout}')
            got = machine.busctl(who, 'call', NAME, ROOT, f'{NAME}.Manager', 'GetSnapshot', 'a{sv}', '0')
            test.check(got.returncode != 0 and 'ccess denied' in got.stdout, f'without polkit: {got.stdout}')

    with test.case('who may be it'):
        for who in (nobody, member):
            got = machine.busctl(who, 'call', 'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus',
                                 'RequestName', 'su', NAME, '4')
            test.check(got.returncode != 0 and 'denied' in got.stdout, f'asking for the name gave: {got.stdout}')

    with test.case('who hears it'):
        listeners = [test.scope.spawn([*who, sys.executable, '-B', '-c', LISTENER, machine.address], text=True,
                                      bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                     for who in (nobody, member)]
        for listener in listeners:
            test.equal(listener.stdout.readline().strip(), 'ready', 'a listener')
        recorder = Recorder(machine)
        root.manager('Open', '(sa{sv})', 'test:///default', {})
        recorder.wait('Started', name='test')
        wait_for(lambda: recorder.bookmark >= recorder.events[-1].version, 30, 'a Bookmark')
        heard = []
        for listener in listeners:
            listener.stdin.write('enough\n')
            heard.append(int(listener.stdout.readline()))
        ours = sum(m.interface.startswith(NAME) for m in recorder.messages)
        for count in heard:
            test.check(count >= ours > 0, f'somebody heard {count} signals, root {ours}')
        root.connection.set_exit_on_close(False)

    with test.case('what systemd thinks of it'):
        unit = machine.prefix / 'lib/systemd/system/vireod.service'
        output = machine.inside.run(f'systemd-analyze verify {unit} 2>&1', check=False)
        test.check(not [line for line in output.splitlines() if 'vireod' in line], f'systemd-analyze: {output}')
        output = machine.inside.run(
            f'systemd-sysusers --dry-run {machine.prefix}/lib/sysusers.d/vireo.conf 2>&1', check=False)
        test.check('rror' not in output and 'ailed' not in output, f'systemd-sysusers: {output}')


if __name__ == '__main__':
    program.run(main)
