# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A libvirtd of one's own: in its own mount, UTS, network, IPC and PID namespaces, so that it sees none of the
machine's domains, nobody sees its own, and nothing of it (QEMU, dnsmasq) outlives the test.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import uuid as uuids

from gi.repository import GLib

from . import namespaces
from .loop import wait_for, wait_gone
from .throttle import Throttle
from .virsh import Virsh

# The places that a libvirtd has for itself, and what stands behind each in its directory
PLACES = {'run': '/run/libvirt', 'etc': '/etc/libvirt', 'lib': '/var/lib/libvirt', 'log': '/var/log/libvirt',
          'cache': '/var/cache/libvirt'}


def missing():
    """Return why no private libvirtd can run here, or None."""
    for tool in ('libvirtd', 'virsh'):
        if not shutil.which(tool):
            return f'{tool} is not installed'
    return namespaces.missing()


class Libvirtd:
    """A private libvirtd, started at once. `name` is its host name; with an `address` it listens on TCP, too (see wire)."""

    def __init__(self, scope, name='vireo-one', autostart=True, address=None):
        self.name = name
        self.address = address
        self.tcp_uri = f'qemu+tcp://{address}/system'
        self.directory = scope.directory(name)
        self.socket = self.directory / 'run' / 'libvirt-sock'
        self.uri = f'qemu:///system?socket={self.socket}'
        self.virsh = Virsh(scope, self.uri)
        self.host_uuid = str(uuids.uuid4())
        self.pid = None  # libvirtd's, as seen from outside
        self.images = self.directory / 'img'
        self._prepare()
        self._throttle = Throttle(self.directory)
        self.write_rate = self._throttle.set
        self._inside = namespaces.Namespaces(scope, name, {
            **self._throttle.places,
            '/etc/passwd': self.directory / 'passwd', '/etc/group': self.directory / 'group',
            **{path: self.directory / place for place, path in PLACES.items()}})
        self.run = self._inside.run
        self.namespace = self._inside.pid
        if autostart:
            self.start()

    def _prepare(self):
        d = self.directory
        for place in PLACES:
            (d / place).mkdir(exist_ok=True)
        for sub in ('qemu', 'dnsmasq', 'network', 'images'):
            (d / 'lib' / sub).mkdir(exist_ok=True)
        (d / 'log' / 'qemu').mkdir(exist_ok=True)
        self.images.mkdir(exist_ok=True)
        (d / 'etc' / 'libvirtd.conf').write_text(
            f'auth_unix_rw = "none"\nauth_unix_ro = "none"\nunix_sock_group = "root"\nhost_uuid = "{self.host_uuid}"\n'
            f'log_outputs = "2:file:{d}/libvirtd.log"\nlog_filters = "4:util.netdev 3:object 3:event 3:rpc"\n')
        if self.address:
            with (d / 'etc' / 'libvirtd.conf').open('a') as conf:
                conf.write('listen_tls = 0\nlisten_tcp = 1\nauth_tcp = "none"\nlisten_addr = "0.0.0.0"\n')
        (d / 'etc' / 'qemu.conf').write_text(
            'stdio_handler = "file"\nsecurity_driver = "none"\nuser = "root"\ngroup = "root"\n'
            'cgroup_controllers = []\nauto_dump_path = "/var/lib/libvirt/qemu"\n')
        # libvirt looks its default user up before it reads that it shall not use it
        (d / 'passwd').write_text(namespaces.account_file(
            'passwd', 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin'))
        (d / 'group').write_text(namespaces.account_file('group', 'libvirt-qemu:x:64055:'))

    # Life of the daemon

    def start(self):
        """Start libvirtd and wait until it says that it serves."""
        assert self.pid is None, 'libvirtd runs already'
        path = self.directory / 'notify'
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(path))
            self.run(f'NOTIFY_SOCKET={path} exec setsid libvirtd {"--listen" if self.address else ""} -p {self.directory}/pid '
                     f'>>{self.directory}/libvirtd.out 2>&1 &')
            notify.setblocking(False)
            heard = []

            def read(*_):
                try:
                    heard.append(notify.recv(4096))
                except BlockingIOError:
                    pass
                return True
            source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, notify.fileno(), GLib.IOCondition.IN, read)
            try:
                wait_for(lambda: any(b'READY=1' in message for message in heard), 30, self._why_not)
            finally:
                GLib.source_remove(source)
        path.unlink()
        inner = int((self.directory / 'pid').read_text())
        self.pid = self._inside.outer_pid(inner)

    def _why_not(self):
        log = self.directory / 'libvirtd.out'
        return f'{self.name} ready: {log.read_text() if log.exists() else ""}'

    def stop(self, number=signal.SIGTERM):
        """End libvirtd (its guests go on) and wait until it has."""
        fd = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(fd, number)
            wait_gone(fd, 60, f'the end of {self.name}')
        finally:
            os.close(fd)
        self.pid = None

    def kill(self):
        """End libvirtd without a word."""
        self.stop(signal.SIGKILL)

    def restart(self, number=signal.SIGTERM):
        """End libvirtd and start it again."""
        self.stop(number)
        self.start()

    def freeze(self):
        """Stop libvirtd (SIGSTOP): it keeps its sockets, and answers nobody."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self):
        """Let a frozen libvirtd go on."""
        os.kill(self.pid, signal.SIGCONT)

    # What runs inside

    def qemu_pid(self, domain):
        """Return the process id of a running domain's QEMU."""
        return self._inside.outer_pid(int((self.directory / 'run' / 'qemu' / f'{domain}.pid').read_text()))

    def shrink(self, name, size):
        """Mount a file system of `size` (as of mount -o size=) that only this libvirtd sees; return its path."""
        path = self.directory / name
        path.mkdir(exist_ok=True)
        self.run(f'mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(path))}')
        return path

    def monitor(self, domain, command):
        """Send a human monitor command to a domain's QEMU."""
        return self.virsh('qemu-monitor-command', domain, '--hmp', command)


def wire(one, other):
    """Join the networks of two libvirtds, which have addresses, so that they can speak with each other."""
    subprocess.run(['ip', 'link', 'add', 'wire0', 'netns', str(one.namespace), 'type', 'veth', 'peer', 'name', 'wire0',
                    'netns', str(other.namespace)], check=True)
    for daemon in (one, other):
        daemon.run(f'ip address add {daemon.address}/24 dev wire0 && ip link set wire0 up')
