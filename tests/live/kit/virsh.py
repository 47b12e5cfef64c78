# SPDX-License-Identifier: LGPL-2.1-or-later
"""virsh: acting from outside, and hearing what libvirt itself reports."""

import os
import re
import subprocess
import uuid as uuids

from gi.repository import GLib

from .loop import wait_for


class VirshError(AssertionError):
    """virsh failed where it should not have."""


class Virsh:
    """virsh on one URI: call it with a command and its arguments; it returns the output."""

    def __init__(self, scope, uri):
        self.uri = uri
        self._scope = scope
        self._files = 0

    def argv(self, *args):
        return ['virsh', '-q', '-c', self.uri, *map(str, args)]

    def __call__(self, *args, check=True, limit=120):
        done = subprocess.run(self.argv(*args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=limit, check=False, text=True,
                              env=dict(os.environ, LC_ALL='C.UTF-8'))
        if check and done.returncode != 0:
            raise VirshError(f'virsh {" ".join(map(str, args))}: {done.stdout.strip()}')
        return done.stdout

    def fails(self, *args, limit=120):
        """Run a command that has to fail; return what it said."""
        done = subprocess.run(self.argv(*args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=limit, check=False, text=True)
        if done.returncode == 0:
            raise VirshError(f'virsh {" ".join(map(str, args))} should have failed')
        return done.stdout

    def script(self, commands, limit=120):
        """Run many commands by one virsh, whatever becomes of each; return what they printed."""
        done = subprocess.run(self.argv(), input=''.join(f'{c}\n' for c in commands), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=limit, check=False, text=True)
        return done.stdout

    def xml(self, command, xml, *args, **options):
        """Run a command that takes a file with XML: define, create, pool-define, net-create …"""
        self._files += 1
        path = self._scope.directory('xml') / f'{os.getpid()}-{id(self):x}-{self._files}.xml'
        path.write_text(xml, encoding='utf-8')
        return (self.fails if options.pop('fails', False) else self)(command, path, *args, **options)

    def define(self, xml):
        return self.xml('define', xml)

    def create(self, xml, *args, **options):
        return self.xml('create', xml, *args, **options)

    def events(self, scope, command=('event', '--all', '--loop')):
        """Start listening to what libvirt reports."""
        return VirshEvents(scope, self, command)


class VirshEvents:
    """What `virsh event` (or pool-event, net-event) printed: a list of (name, event, detail)."""

    # event 'lifecycle' for domain 'g1': Started Booted / event 'reboot' for domain 'g1'
    LINE = re.compile(r"^event '(?P<event>[^']*)' for (?:domain|storage pool|network) '?(?P<name>.*?)'?"
                      r"(?:: (?P<detail>.*))?$")

    def __init__(self, scope, virsh, command):
        self._virsh = virsh
        self.seen = []
        self._rest = b''
        # virsh writes through stdio, which would otherwise keep lines back
        self._process = scope.spawn(['stdbuf', '-oL', *virsh.argv(*command)], stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT)
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._out, False)
        self._source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, self._out, GLib.IOCondition.IN | GLib.IOCondition.HUP,
                                             self._read)

    def _read(self, *_):
        try:
            data = os.read(self._out, 65536)
        except BlockingIOError:
            return True
        if not data:
            return False
        *lines, self._rest = (self._rest + data).split(b'\n')
        for line in lines:
            match = self.LINE.match(line.decode(errors='replace').strip())
            if match:
                self.seen.append((match['name'], match['event'], match['detail'] or ''))
        return True

    def ready(self, limit=30):
        """Wait until libvirt's reports really come: virsh does not say when it has begun to listen."""
        marker = f'marker-{uuids.uuid4()}'

        def marked():
            if not any(name == marker for name, _, _ in self.seen):
                self._virsh.define(f"<domain type='qemu'><name>{marker}</name><memory>1024</memory>"
                                   "<os><type>hvm</type></os></domain>")
                self._virsh('undefine', marker)
                return False
            return True
        wait_for(marked, limit, 'virsh event hears something', poll=0.1)

    def of(self, name, events=('lifecycle', 'reboot')):
        """Return what was reported of one object, as 'Started Booted' or 'reboot'."""
        return [detail if event == 'lifecycle' else event
                for seen, event, detail in self.seen if seen == name and event in events]

    def expect(self, name, wanted, limit=60):
        """Wait until as many lifecycle events of `name` came as wanted; return them."""
        wait_for(lambda: len(self.of(name)) >= len(wanted), limit,
                 lambda: f'libvirt reported {wanted} of {name}; it did {self.of(name)}')
        return self.of(name)
