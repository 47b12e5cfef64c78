# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A corner of the machine with mounts, processes, network and host name of its own. What runs in there can't outlive the
test, and what is mounted in there is seen by nobody else.
"""

import os
import pathlib
import shutil
import subprocess

# Runs as process 1 of the namespaces: lives until its standard input ends, which is when the test does, however that
# ends. It runs the commands that it reads, each in a shell of its own, and reaps what they leave behind.
HOLDER = r'''
set -e
mount --make-rprivate /
ip link set lo up 2>/dev/null || true
hostname "$NAME"
# the parents of a place may be missing too, or be on something read-only: then the failing command says so
while IFS= read -r place && [ -n "$place" ]; do
    IFS= read -r what
    if [ -d "$what" ]; then mkdir -p "$place"; fi
    mount --bind "$what" "$place"
done
set +e
echo ready
while IFS= read -r line; do
    (eval "$line") </dev/null
    echo "done $?"
done
'''
UNSHARE = ['unshare', '-m', '-u', '-n', '-i', '-p', '--fork', '--kill-child', '--mount-proc']


def missing():
    """Return why there can be no such corner here, or None."""
    if os.geteuid() != 0:
        return 'namespaces need root'
    for tool in ('unshare', 'ip', 'bash'):
        if not shutil.which(tool):
            return f'{tool} is not installed'
    probe = subprocess.run([*UNSHARE, 'mount', '--make-rprivate', '/'], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if probe.returncode != 0:
        return f'namespaces are not allowed here: {probe.stdout.decode(errors="replace").strip()}'
    return None


def account_file(database, *lines):
    """Return /etc/passwd or /etc/group with lines added, for names that it does not have yet."""
    text = pathlib.Path('/etc', database).read_text()
    if not text.endswith('\n'):
        text += '\n'
    have = {line.split(':')[0] for line in text.splitlines()}
    return text + ''.join(f'{line}\n' for line in lines if line.split(':')[0] not in have)


class Namespaces:
    """Holds the namespaces open. `places`: {path inside: what is bound there}."""

    def __init__(self, scope, name, places):
        self.name = name
        environment = dict(os.environ, NAME=name)
        environment.pop('NOTIFY_SOCKET', None)
        self._holder = scope.spawn([*UNSHARE, 'bash', '-c', HOLDER], env=environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
        self._holder.stdin.write(''.join(f'{place}\n{what}\n' for place, what in places.items()) + '\n')
        self._expect('ready')
        # process 1 inside, from which others can enter
        self.pid, self._namespace = next((pid, link) for pid, link in _pid_namespaces()
                                         if _parent(pid) == self._holder.pid)

    def _expect(self, word):
        """Read the holder's output up to a line that begins with `word`; return (its rest, the lines before)."""
        lines = []
        for line in self._holder.stdout:
            if line.startswith(word):
                return line[len(word):].strip(), ''.join(lines)
            lines.append(line)
        raise RuntimeError(f'{self.name}: the holder of the namespaces ended: {"".join(lines)}')

    def run(self, command, check=True):
        """Run a shell command inside, as root; return what it printed."""
        self._holder.stdin.write(command.replace('\n', ' ') + '\n')
        self._holder.stdin.flush()
        status, output = self._expect('done ')
        if check and status != '0':
            raise RuntimeError(f'{self.name}: {command!r} ended with {status}: {output}')
        return output

    def enter(self, *argv):
        """Return the command line that runs argv inside."""
        return ['nsenter', '-t', str(self.pid), '-m', '-u', '-n', '-i', '-p', '--', *argv]

    def outer_pid(self, inner):
        """Return the process id, as seen from outside, of a process inside."""
        for pid, link in _pid_namespaces():
            if link == self._namespace and _inner_pid(pid) == inner:
                return pid
        raise ProcessLookupError(f'{self.name}: no process {inner} inside')


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
