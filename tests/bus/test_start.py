#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vireod that cannot start says what is wrong and what to do; one that can takes its name."""

import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

from support import Bus, Client, Scope, Vireod, main

from kit import vireod
from kit.loop import settle, wait_exit, wait_for, wait_gone


class Start(unittest.TestCase):

    def setUp(self):
        self.scope = Scope()
        self.scope.__enter__()
        self.addCleanup(self.scope.__exit__, None, None, None)
        self.state = self.scope.directory('own-state')
        self.bus = Bus(self.scope)

    def fails(self, *arguments, says, status=1, **options):
        """Start vireod, which has to end by itself; check what it said."""
        env = dict(os.environ, **options.pop('env', {}))
        env.pop('NOTIFY_SOCKET', None)
        done = subprocess.run([vireod.executable(), *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, check=False, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        for part in says if isinstance(says, tuple) else (says,):
            self.assertIn(part, done.stderr)
        return done.stderr

    def serve(self, *arguments):
        return [f'--address={self.bus.address}', f'--state-directory={self.state}', *arguments]

    def test_bus(self):
        self.fails('--session', f'--state-directory={self.state}', '--connect=sim:///demo',
                   env={'DBUS_SESSION_BUS_ADDRESS': 'unix:path=/nonexistent/bus'}, says=('cannot connect to the bus', 'dbus-run-session'))
        self.fails('--system', f'--state-directory={self.state}', '--connect=sim:///demo',
                   env={'DBUS_SYSTEM_BUS_ADDRESS': 'unix:path=/nonexistent/bus'}, says=('cannot connect to the bus', 'system bus'))
        self.fails('--address=nonsense', f'--state-directory={self.state}', '--connect=sim:///demo', says='cannot connect to the bus')

    def test_uri(self):
        self.fails(*self.serve('--connect=nonsense:///x'), says=("No driver takes the URI 'nonsense:///x'", 'sim:'))
        self.fails(*self.serve('--connect=sim:///nosuch'), says="'nosuch' is not built in")
        self.fails(*self.serve('--connect=a-b=sim:///demo'), says='“a-b” cannot be a connection\'s label')
        self.fails(*self.serve('--connect=sim:///demo', '--connect=sim:///demo'), says='is open already')
        self.fails(*self.serve('--connect='), says='--connect wants [LABEL=]URI')

    def test_state_directory(self):
        with tempfile.NamedTemporaryFile() as file:
            self.fails(f'--address={self.bus.address}', f'--state-directory={file.name}/x', '--connect=sim:///demo',
                       says=('Not a directory', '--state-directory'))
        other = self.scope.directory('closed')
        other.chmod(0o500)
        if os.geteuid() == 0:
            os.chown(other, 65534, 65534)
            # another user needs the way to the executable, which a checkout below /root does not give
            reach = subprocess.run(['setpriv', '--reuid=65534', '--clear-groups', 'test', '-x', vireod.executable()], check=False)
            if reach.returncode == 0:
                self.scope.directory().chmod(0o755)
                self.fails_as_nobody(other)
        else:
            self.fails(f'--address={self.bus.address}', f'--state-directory={other}/x', '--connect=sim:///demo',
                       says=('Permission denied', '--state-directory'))

    def fails_as_nobody(self, directory):
        done = subprocess.run(['setpriv', '--reuid=65534', '--clear-groups', vireod.executable(), f'--address={self.bus.address}',
                               f'--state-directory={directory}/x', '--connect=sim:///demo'], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn('Permission denied', done.stderr)
        self.assertIn('--state-directory', done.stderr)

    def test_full_disk(self):
        where = self.scope.directory('full')
        script = (f'mount -t tmpfs -o size=64k none {where} && dd if=/dev/zero of={where}/x bs=1k count=64 status=none; '
                  f'exec {vireod.executable()} --address={self.bus.address} --state-directory={where} --connect=sim:///demo')
        done = subprocess.run(['unshare', '-m', 'sh', '-c', script], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, check=False)
        if 'unshare:' in done.stderr or 'mount:' in done.stderr:
            self.skipTest(done.stderr.strip())
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn('No space left on device', done.stderr)
        self.assertIn('Free some space', done.stderr)

    def test_twice(self):
        first = Vireod(self.scope, self.bus, 'sim:///demo', state=self.state)
        self.fails(*self.serve('--connect=sim:///demo'), says=('another vireod uses the state directory', '--state-directory'))
        second = self.scope.directory('second-state')
        self.fails(f'--address={self.bus.address}', f'--state-directory={second}', '--connect=sim:///demo',
                   says=('another vireod serves org.vireo1', '--address'))
        # and the first has not noticed
        self.assertTrue(first.alive())
        first.sync()
        self.assertEqual(first.stop(), 0)

    def test_command_line(self):
        self.fails('--session', '--system', says='only one of --system, --session and --address', status=64)
        self.fails('something', says='takes options only', status=64)
        self.fails('--log-level=loud', says='no log level', status=64)
        self.fails('--session', '--config=/nonexistent/vireo.conf', says='cannot read /nonexistent/vireo.conf')
        for option in ('--help', '--version', '--list-drivers'):
            done = subprocess.run([vireod.executable(), option], capture_output=True, text=True, timeout=60, check=True)
            self.assertTrue(done.stdout)
        self.assertIn('sim:///demo', done.stdout)
        self.assertIn('Domain events', done.stdout)

    def test_configuration(self):
        path = pathlib.Path(self.scope.directory('etc')) / 'vireo.conf'
        path.write_text('[broker]\nStateDirectory=' + str(self.state) + '\n[connection lab]\nURI=sim:///demo\n')
        broker = Vireod(self.scope, self.bus, arguments=(f'--config={path}',))
        self.assertEqual(broker.connection_path(), '/org/vireo1/connection/lab')
        self.assertEqual(broker.stop(), 0)
        path.write_text('[broker]\nBroadcast=perhaps\n')
        self.fails(*self.serve(f'--config={path}'), says=f'{path}:2: Broadcast=perhaps is not understood: expected yes or no')

    def test_comma(self):
        """Numbers are the same everywhere, also where half is written 0,5; or neither configuration nor history could be read."""
        where = self.scope.directory('locales')
        source = where / 'source'
        source.write_text('LC_NUMERIC\ndecimal_point ","\nthousands_sep ""\ngrouping -1\nEND LC_NUMERIC\n')
        # it complains about all that is missing, and makes it all the same
        made = subprocess.run(['localedef', '-c', '-i', source, '-f', 'ANSI_X3.4-1968', where / 'xx_XX'], capture_output=True,
                              text=True, timeout=60, check=False)
        env = dict(os.environ, LOCPATH=str(where), LC_ALL='xx_XX')
        half = subprocess.run(['/usr/bin/printf', '%.1f', '0,5'], env=env, capture_output=True, text=True, timeout=60, check=False)
        if half.stdout != '0,5':
            self.skipTest(f'no such locale can be made here: {made.stderr}')
        path = self.scope.directory('etc') / 'vireo.conf'
        path.write_text('[history]\nMaxAge=1.5h\n')
        broker = Vireod(self.scope, self.bus, 'sim:///demo', state=self.state, arguments=(f'--config={path}',),
                        # the C library forgets to free what it made of LOCPATH
                        environment={'LOCPATH': str(where), 'LC_ALL': 'xx_XX', 'ASAN_OPTIONS': 'detect_leaks=0'})
        self.assertEqual(broker.stop(), 0)

    def test_a_bus_that_goes_and_comes_back(self):
        """The hypervisor is followed on, and the name is taken again."""
        broker = Vireod(self.scope, self.bus, 'sim:///demo', state=self.state)
        before = broker.sync()
        address = pathlib.Path(self.bus.address.removeprefix('unix:path='))
        self.bus.process.terminate()
        self.bus.process.wait()
        self.assertTrue(broker.alive())
        address.unlink(missing_ok=True)
        config = self.bus.directory / 'bus.conf'
        again = self.scope.spawn(['dbus-daemon', f'--config-file={config}', '--nofork', '--nosyslog'])
        wait_for(address.exists, 30, 'the bus is back', poll=0.1)

        def named():
            try:
                return Client(self.bus).owner()
            except Exception:  # pylint: disable=broad-except  # the new bus may not accept anybody yet
                return None
        wait_for(named, 60, 'the name is taken again', poll=0.2)
        client = Client(self.bus)
        self.assertGreaterEqual(client.sync(), before)
        self.assertIsNone(again.poll())
        broker.process.terminate()
        self.assertEqual(broker.process.wait(30), 0)

    def test_a_session_that_is_over(self):
        """What a session bus has started ends with it, and leaves the state directory to the next session."""
        services = self.scope.directory('services')
        (services / 'org.vireo1.service').write_text(
            f'[D-BUS Service]\nName=org.vireo1\nExec={vireod.executable()} --session --state-directory={self.state} '
            '--connect=sim:///demo\n')
        bus = Bus(self.scope, services=services)
        client = Client(bus)
        self.assertTrue(client.sync())
        activated = client.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetConnectionUnixProcessID', '(s)',
                                'org.vireo1', name='org.freedesktop.DBus')
        pidfd = os.pidfd_open(activated)
        self.addCleanup(os.close, pidfd)
        bus.process.terminate()
        wait_gone(pidfd, 30, 'the end of what the bus has started')

        # One that somebody else has started gives the bus some time to come back.
        bus = Bus(self.scope)
        log = self.scope.directory() / 'session.log'
        with log.open('w') as file:
            process = self.scope.spawn([vireod.executable(), '--session', f'--state-directory={self.state}', '--connect=sim:///demo'],
                                       env=dict(os.environ, DBUS_SESSION_BUS_ADDRESS=bus.address), stderr=file)
        client = Client(bus)
        wait_for(client.owner, 30, 'the name', poll=0.1)
        bus.process.terminate()
        self.assertEqual(wait_exit(process, 60), 0)
        self.assertIn('is gone, and with it the session', log.read_text())

    def activated(self, configuration):
        """Return a bus that starts vireod when it is called."""
        path = pathlib.Path(self.scope.directory('etc')) / 'vireo.conf'
        path.write_text(configuration)
        services = self.scope.directory('services')
        (services / 'org.vireo1.service').write_text(
            f'[D-BUS Service]\nName=org.vireo1\nExec={vireod.executable()} --session --state-directory={self.state} '
            f'--config={path} --connect=sim:///3\n')
        return Bus(self.scope, services=services)

    @staticmethod
    def pid(client):
        return client.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetConnectionUnixProcessID', '(s)', 'org.vireo1',
                           name='org.freedesktop.DBus')

    def test_idle(self):
        """It ends when nobody has called for so long, not a moment after somebody did."""
        client = Client(self.activated('[broker]\nIdleExit=1s\n'))
        client.sync()
        first = self.pid(client)
        pidfd = os.pidfd_open(first)
        self.addCleanup(os.close, pidfd)
        began = last = time.monotonic()
        while time.monotonic() - began < 3:
            client.sync()
            last = time.monotonic()
            settle(0.1, changed=lambda: None)
        self.assertEqual(self.pid(client), first)
        wait_gone(pidfd, 30, 'the end of an idle vireod')
        self.assertGreater(time.monotonic() - last, 0.9)

    def test_calls_while_it_ends(self):
        """Each is answered, by the vireod that ends or by the one that the bus starts."""
        client = Client(self.activated('[broker]\nIdleExit=20ms\n'))
        seen, call = set(), 0
        began = time.monotonic()
        while len(seen) < 8 and time.monotonic() - began < 60:
            client.sync()
            seen |= {client.owner()} - {None}
            # before, while and after it ends
            settle((10 + call % 40) / 1000, changed=lambda: None)
            call += 1
        self.assertGreaterEqual(len(seen), 8, f'in {call} calls')

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            broker = Vireod(self.scope, self.bus, 'sim:///demo', state=self.state)
            broker.process.send_signal(number)
            self.assertEqual(wait_exit(broker.process), 0, number)
        broker = Vireod(self.scope, self.bus, 'sim:///demo', state=self.state)
        self.assertNotIn('without closing its history', broker.log())
        self.assertEqual(broker.stop(), 0)


if __name__ == '__main__':
    main()
