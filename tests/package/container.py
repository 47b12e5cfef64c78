# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A machine that is booted: a real systemd in a container, over a copy of this machine's file system that nobody else sees,
with mounts, processes, network and control groups of its own.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess

from gi.repository import Gio, GLib

from kit import namespaces
from kit.loop import TimedOut, wait_for

# Not what this machine would start, but what a bus and a service need
TARGET = 'vireo-test.target'
TARGET_UNIT = '''[Unit]
Requires=sysinit.target dbus.socket
After=sysinit.target dbus.socket
AllowIsolate=yes
'''
# What any hardened service needs of systemd and of this machine's kernel, whatever the unit under test asks for
SANDBOX = ('PrivateUsers=yes', 'PrivateDevices=yes', 'PrivateTmp=yes', 'ProtectSystem=strict', 'ProtectProc=invisible',
           'ProtectKernelTunables=yes', 'ProtectHostname=yes', 'RestrictNamespaces=yes', 'DevicePolicy=closed', 'User=nobody')
# Generators make units of these
EMPTY = ('etc/fstab', 'etc/crypttab')


class CannotBoot(Exception):
    """Not here; says why."""


def missing():
    """Return why nothing can be booted here, or None."""
    for tool in ('systemd-nspawn', 'nsenter', 'setpriv', 'mount'):
        if not shutil.which(tool):
            return f'{tool} is not installed'
    if not any(pathlib.Path(p).exists() for p in ('/usr/lib/systemd/systemd', '/lib/systemd/systemd')):
        return 'there is no systemd to boot'
    probe = subprocess.run(['chroot', '/', 'true'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, check=False)
    return f'not allowed here: {probe.stdout.strip()}' if probe.returncode else namespaces.missing()


def remove_tree(group):
    """Remove a control group with those below it, as far as nothing runs there."""
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            pass


class ControlGroups:
    """A control group for one process and what it starts, in each hierarchy that systemd uses."""

    def __init__(self, scope, name):
        self.paths = []
        for line in pathlib.Path('/proc/self/cgroup').read_text().splitlines():
            _number, controllers, path = line.split(':', 2)
            if controllers not in ('', 'name=systemd'):
                continue
            tops = ['/sys/fs/cgroup/systemd'] if controllers else ['/sys/fs/cgroup/unified', '/sys/fs/cgroup']
            for top in map(pathlib.Path, tops):
                # what the path is relative to may be mounted deeper than that
                parent = next((p for p in (top / path.lstrip('/'), top) if (p / 'cgroup.procs').exists()), None)
                if parent is not None:
                    self._make(parent / name)
                    break
        if not self.paths:
            raise CannotBoot('no control groups of systemd’s are mounted')
        scope.defer(self.remove)

    def _make(self, path):
        # of a test that was killed
        for left in path.parent.glob(f'{path.name}-*'):
            if not pathlib.Path('/proc', left.name.rsplit('-', 1)[1]).exists():
                remove_tree(left)
        path = path.with_name(f'{path.name}-{os.getpid()}')
        try:
            path.mkdir()
        except OSError as error:
            self.remove()
            raise CannotBoot(f'no control group can be made: {error}') from None
        self.paths.append(path)

    def enter(self, pid):
        for path in self.paths:
            try:
                (path / 'cgroup.procs').write_text(str(pid))
            except OSError as error:
                raise CannotBoot(f'no process can be moved to {path}: {error}') from None

    def remove(self):
        """Remove them with all that was made below; nothing runs there any more."""
        for path in self.paths:
            remove_tree(path)
        self.paths = []


class Container:
    """
    prepare() it, write into `root`, boot() it, call in.

    `root` is its file system as seen from here. An absolute symbolic link in there leads out of it.
    """

    def __init__(self, scope, name):
        self._scope, self.name = scope, name
        self._top = scope.directory('top')
        # before the namespaces, so that it goes after them
        self._groups = ControlGroups(scope, name)
        self._holder = namespaces.Namespaces(scope, name, {})
        top = self._top
        try:
            self._holder.run(
                f'set -e; mount -t tmpfs -o mode=755 tmpfs {top}; mkdir {top}/upper {top}/work {top}/root; '
                f'mount -t overlay overlay -o lowerdir=/,upperdir={top}/upper,workdir={top}/work {top}/root; '
                # nspawn keeps notes there, of which the machine is to have none
                'mkdir -p /run/systemd; mount -t tmpfs -o mode=755 tmpfs /run/systemd')
        except RuntimeError as error:
            raise CannotBoot(f'no overlay mounts here: {error}') from None
        if 'UP' not in self._holder.run('ip -o link show lo').partition('>')[0]:
            raise CannotBoot('no network of its own can be set up')
        self.root = pathlib.Path(f'/proc/{self._holder.pid}/root', *top.parts[1:], 'root')
        for name_ in EMPTY:
            (self.root / name_).write_text('')
        (self.root / f'etc/systemd/system/{TARGET}').write_text(TARGET_UNIT)
        (self.root / 'etc/hosts').write_text(f'127.0.0.1 localhost {name}\n')
        (self.root / 'etc/hostname').write_text(f'{name}\n')
        self.console = scope.directory() / 'console'
        self.leader = None

    def prepare(self, command):
        """Run a shell command as root where `$ROOT` is the container's, before it is booted."""
        return self._holder.run(f'export ROOT={self._top}/root; {command}')

    def boot(self, limit=90):
        """Start its systemd; wait until that has reached its target."""
        path = self._scope.directory() / 'notify'
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self.console.open('wb') as console:
            notify.bind(str(path))
            notify.setblocking(False)
            argv = self._holder.enter(
                'systemd-nspawn', '--quiet', '-D', f'{self._top}/root', f'--machine={self.name}', '--register=no', '--keep-unit',
                '--settings=no', '--link-journal=no', '--resolv-conf=off', '--timezone=off', '--console=read-only',
                '--notify-ready=yes', '--kill-signal=SIGRTMIN+4', '--boot', f'systemd.unit={TARGET}', 'systemd.show_status=yes')
            read, write = os.pipe()
            # it waits until it is where it belongs
            process = self._scope.spawn(['sh', '-c', 'read _; exec "$@"', 'sh', *argv], stdin=read, stdout=console,
                                        stderr=console, env=dict(os.environ, NOTIFY_SOCKET=str(path)))
            os.close(read)
            with os.fdopen(write, 'w') as go:
                self._groups.enter(process.pid)
                go.write('\n')
            self._wait(notify, process, limit)
        self._scope.defer(self.stop, process)
        try:
            self.run('systemd-run', '--wait', '--quiet', '--collect', *(f'--property={p}' for p in SANDBOX), 'true')
        except AssertionError as error:
            said = self.run('journalctl', '--no-pager', '-o', 'cat', '-n', '10', check=False)
            raise CannotBoot(f'systemd cannot shut a service in here: {error}\n{said}') from None

    def _wait(self, notify, process, limit):
        heard = {}

        def readable(*_):
            try:
                heard.update(line.partition('=')[::2] for line in notify.recv(4096).decode(errors='replace').splitlines())
            except BlockingIOError:
                pass
            return True
        source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, notify.fileno(), GLib.IOCondition.IN, readable)
        try:
            wait_for(lambda: 'READY' in heard or process.poll() is not None, limit, 'the container says that it is ready', poll=0.5)
        except TimedOut:
            pass
        finally:
            GLib.source_remove(source)
        if 'READY' not in heard:
            said = self.console.read_text(errors='replace').strip().splitlines()[-15:]
            raise CannotBoot('systemd does not boot in a container here: ' + '\n    '.join(
                [f'systemd-nspawn ended with {process.poll()}' if process.poll() is not None else 'no end to it', *said]))
        self.leader = self._find_leader(heard['X_NSPAWN_LEADER_PID'])

    def _find_leader(self, inner):
        """Return its process 1, which the namespaces know by this number, as numbered here."""
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                status = pathlib.Path(f'/proc/{pid}/status').read_text()
                if next(line for line in status.splitlines() if line.startswith('NSpid:')).split()[-2:] == [inner, '1']:
                    return int(pid)
            except (OSError, StopIteration):
                continue
        raise CannotBoot('its process 1 is not to be seen')

    def stop(self, process):
        """Let it power off; then what is left goes with the namespaces."""
        if process.poll() is None:
            os.kill(self.leader, signal.SIGRTMIN + 4)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                pass

    # Inside

    def run(self, *argv, user=None, groups=(), check=True, limit=120):
        """Run a command inside, as root or as a user by number; return what it printed."""
        who = ['setpriv', f'--reuid={user}', f'--regid={user}',
               f'--groups={",".join(map(str, groups))}' if groups else '--clear-groups', '--'] if user else []
        done = subprocess.run(
            ['nsenter', '-t', str(self.leader), '-m', '-p', '-u', '-i', '-n', '-C', '--', 'env', '-i', 'LC_ALL=C.UTF-8', 'HOME=/',
             'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', *who, *map(str, argv)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace',
            check=False, timeout=limit)
        if check and done.returncode != 0:
            raise AssertionError(f'{" ".join(map(str, argv))} ended with {done.returncode}: {done.stdout}')
        return done.stdout

    def show(self, unit, *properties):
        """Return what systemd says of a unit: {property: value}."""
        return dict(line.partition('=')[::2] for line in
                    self.run('systemctl', 'show', *(f'--property={p}' for p in properties), unit).splitlines())

    def file(self, path):
        """Return a path inside, as it is to be found from here now that it is booted."""
        return pathlib.Path(f'/proc/{self.leader}/root', path.lstrip('/'))

    def connect(self):
        """Return a connection to its system bus, as root."""
        return Gio.DBusConnection.new_for_address_sync(
            f'unix:path={self.file("/run/dbus/system_bus_socket")}', Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
            Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
