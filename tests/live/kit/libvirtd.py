# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A libvirtd of one's own: in its own mount, UTS, network, IPC and PID namespaces, so that it sees none of the
machine's domains, nobody sees its own, and nothing of it (QEMU, dnsmasq) outlives the test.
"""

import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import uuid as uuids

from gi.repository import GLib

from .loop import wait_for, wait_gone
from .virsh import Virsh

# The places that a libvirtd has for itself, and what stands behind each in its directory
PLACES = {'run': '/run/libvirt', 'etc': '/etc/libvirt', 'lib': '/var/lib/libvirt', 'log': '/var/log/libvirt',
          'cache': '/var/cache/libvirt'}

# Runs as process 1 of the namespaces: lives until its standard input ends, which is when the test does, however that
# ends. It runs the commands that it reads, each in a shell of its own, and reaps what libvirtd leaves behind.
HOLDER = r'''
set -e
mount --make-rprivate /
ip link set lo up 2>/dev/null || true
hostname "$NAME"
mount --bind "$D/passwd" /etc/passwd
mount --bind "$D/group" /etc/group
# the parents may be missing too, or be on something read-only: then the failing mkdir says so
for pair in $PLACES; do
    mkdir -p "${pair#*=}"
    mount --bind "$D/${pair%%=*}" "${pair#*=}"
done
set +e
echo ready
while IFS= read -r line; do
    (eval "$line") </dev/null
    echo "done $?"
done
'''


def missing():
    """Return why no private libvirtd can run here, or None."""
    if os.geteuid() != 0:
        return 'a private libvirtd needs root, for its namespaces'
    for tool in ('libvirtd', 'virsh', 'unshare', 'ip'):
        if not shutil.which(tool):
            return f'{tool} is not installed'
    probe = subprocess.run(['unshare', '-m', '-u', '-n', '-i', '-p', '--fork', '--mount-proc',
                            'mount', '--make-rprivate', '/'],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if probe.returncode != 0:
        return f'namespaces are not allowed here: {probe.stdout.decode(errors="replace").strip()}'
    return None


class Libvirtd:
    """A private libvirtd, started at once. `name` is its host name."""

    def __init__(self, scope, name='vireo-one', autostart=True):
        self.name = name
        self.directory = scope.directory(name)
        self.socket = self.directory / 'run' / 'libvirt-sock'
        self.uri = f'qemu:///system?socket={self.socket}'
        self.virsh = Virsh(scope, self.uri)
        self.host_uuid = str(uuids.uuid4())
        self.pid = None  # libvirtd's, as seen from outside
        self.images = self.directory / 'img'
        self._prepare()
        self._hold(scope)
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
        (d / 'etc' / 'qemu.conf').write_text(
            'stdio_handler = "file"\nsecurity_driver = "none"\nuser = "root"\ngroup = "root"\n'
            'cgroup_controllers = []\nauto_dump_path = "/var/lib/libvirt/qemu"\n')
        # libvirt looks its default user up before it reads that it shall not use it
        for database, line in (('passwd', 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n'),
                               ('group', 'libvirt-qemu:x:64055:\n')):
            text = pathlib.Path('/etc', database).read_text()
            if not text.endswith('\n'):
                text += '\n'
            (d / database).write_text(text + ('' if '\nlibvirt-qemu:' in text else line))

    def _hold(self, scope):
        environment = dict(os.environ, D=str(self.directory), NAME=self.name,
                           PLACES=' '.join(f'{k}={v}' for k, v in PLACES.items()))
        environment.pop('NOTIFY_SOCKET', None)
        self._holder = scope.spawn(
            ['unshare', '-m', '-u', '-n', '-i', '-p', '--fork', '--kill-child', '--mount-proc', 'bash', '-c', HOLDER],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            bufsize=1)
        self._expect('ready')
        self._namespace = next(link for pid, link in _pid_namespaces() if _parent(pid) == self._holder.pid)

    def _expect(self, word):
        """Read the holder's output up to a line that begins with `word`; return (its rest, the lines before)."""
        lines = []
        for line in self._holder.stdout:
            if line.startswith(word):
                return line[len(word):].strip(), ''.join(lines)
            lines.append(line)
        raise RuntimeError(f'{self.name}: the holder of the namespaces ended: {"".join(lines)}')

    def run(self, command, check=True):
        """Run a shell command inside the namespaces, as root; return what it printed."""
        self._holder.stdin.write(command.replace('\n', ' ') + '\n')
        self._holder.stdin.flush()
        status, output = self._expect('done ')
        if check and status != '0':
            raise RuntimeError(f'{self.name}: {command!r} ended with {status}: {output}')
        return output

    # Life of the daemon

    def start(self):
        """Start libvirtd and wait until it says that it serves."""
        assert self.pid is None, 'libvirtd runs already'
        path = self.directory / 'notify'
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(path))
            self.run(f'NOTIFY_SOCKET={path} exec setsid libvirtd -p {self.directory}/pid '
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
        self.pid = self.outer_pid(inner)

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

    def outer_pid(self, inner):
        """Return the process id, as seen from outside, of a process inside."""
        for pid, link in _pid_namespaces():
            if link == self._namespace and _inner_pid(pid) == inner:
                return pid
        raise ProcessLookupError(f'{self.name}: no process {inner} inside')

    def qemu_pid(self, domain):
        """Return the process id of a running domain's QEMU."""
        return self.outer_pid(int((self.directory / 'run' / 'qemu' / f'{domain}.pid').read_text()))

    def shrink(self, name, size):
        """Mount a file system of `size` (as of mount -o size=) that only this libvirtd sees; return its path."""
        path = self.directory / name
        path.mkdir(exist_ok=True)
        self.run(f'mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(path))}')
        return path

    def monitor(self, domain, command):
        """Send a human monitor command to a domain's QEMU."""
        return self.virsh('qemu-monitor-command', domain, '--hmp', command)


def _pid_namespaces():
    """Yield (pid, name of its pid namespace) of every process that can be seen."""
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                yield int(entry), os.readlink(f'/proc/{entry}/ns/pid')
            except OSError:
                continue


def _status(pid, field):
    try:
        with open(f'/proc/{pid}/status', encoding='utf-8', errors='replace') as status:
            for line in status:
                if line.startswith(field + ':'):
                    return line.split()[1:]
    except OSError:
        pass
    return []


def _parent(pid):
    values = _status(pid, 'PPid')
    return int(values[0]) if values else None


def _inner_pid(pid):
    values = _status(pid, 'NSpid')
    return int(values[-1]) if values else None
