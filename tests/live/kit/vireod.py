# SPDX-License-Identifier: LGPL-2.1-or-later
"""The broker under test, and calling it."""

import os
import pathlib
import signal
import subprocess

from gi.repository import Gio, GLib

from .loop import PATIENCE, wait_exit, wait_for
from .recorder import NAME, ROOT, Event, Recorder

# GetEvents' words
KINDS = {'connection': 'Connection', 'domain': 'Domain', 'pool': 'StoragePool', 'network': 'Network', 'job': 'Job'}


def executable():
    """Return the path of the vireod to test."""
    if 'VIREOD' in os.environ:
        return pathlib.Path(os.environ['VIREOD'])
    build = pathlib.Path(os.environ.get('VIREO_BUILD', pathlib.Path(__file__).resolve().parents[3] / 'build'))
    return next((p for p in (build / 'vireod', build / 'broker' / 'vireod') if p.exists()), build / 'vireod')


class BusError(Exception):
    """A method call that was answered by an error: `name` is the error's on the bus."""

    def __init__(self, name, message):
        super().__init__(f'{name}: {message}')
        self.name = name
        self.message = message

    @property
    def short(self):
        return self.name.rsplit('.', 1)[1]


class Client:
    """Calls methods of the broker over a connection of its own."""

    def __init__(self, bus):
        self.connection = bus.connect()
        self.connection.set_exit_on_close(False)

    def call(self, path, interface, method, signature='()', *arguments, limit=30, name=NAME):
        """Call a method; return its results as a tuple (of one: the value itself; of none: None)."""
        try:
            reply = self.connection.call_sync(
                name, path, interface, method, GLib.Variant(signature, arguments), None, Gio.DBusCallFlags.NONE,
                int(limit * PATIENCE * 1000), None)
        except GLib.Error as error:
            remote = Gio.DBusError.get_remote_error(error)
            if not remote:
                raise
            raise BusError(remote, error.message.removeprefix(f'GDBus.Error:{remote}: ')) from None
        values = reply.unpack()
        return None if not values else values[0] if len(values) == 1 else values

    def manager(self, method, signature='()', *arguments, **options):
        return self.call(ROOT, f'{NAME}.Manager', method, signature, *arguments, **options)

    def get(self, path, kind, name):
        return self.call(path, 'org.freedesktop.DBus.Properties', 'Get', '(ss)', f'{NAME}.{kind}', name)

    def get_all(self, path, kind):
        return self.call(path, 'org.freedesktop.DBus.Properties', 'GetAll', '(s)', f'{NAME}.{kind}')

    def snapshot(self, **options):
        """Return (epoch, version, {path: (kind, properties)}). Options as GLib.Variants."""
        epoch, version, objects = self.manager('GetSnapshot', '(a{sv})', options)
        return epoch, version, {path: (interface.rsplit('.', 1)[1], properties)
                                for path, interface, properties in objects}

    def history(self, after=0, epoch=None):
        """Return all Events above a version, by GetEvents."""
        epoch = epoch or self.get(ROOT, 'Manager', 'Epoch')
        events, more = [], True
        while more:
            after, more, some = self.manager('GetEvents', '(stuta{sv})', epoch, after, 0, 0, {}, limit=60)
            for version, previous, kind, path, event, reason, timestamp, properties, details in some:
                events.append(Event(path, KINDS[kind], event, version, previous, reason, properties,
                                    {'timestamp': timestamp, **details}))
        return events

    def managed_objects(self):
        return self.call(ROOT, 'org.freedesktop.DBus.ObjectManager', 'GetManagedObjects')

    def sync(self, limit=60, **options):
        return self.manager('Sync', '(a{sv})', options, limit=limit)

    def lookup(self, name, kind='Domain'):
        return self.manager(f'Lookup{kind}', '(s)', name)

    def domain(self, name, method, signature='(a{sv})', *arguments, **options):
        """Call a method of the domain of that name."""
        return self.call(self.lookup(name), f'{NAME}.Domain', method, signature, *(arguments or ({},)), **options)

    def owner(self):
        """Return the unique name of the broker, or None."""
        try:
            return self.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetNameOwner', '(s)', NAME,
                             name='org.freedesktop.DBus')
        except BusError:
            return None


class Vireod(Client):
    """A vireod on a private bus, recorded from before its first word."""

    def __init__(self, scope, bus, *connections, state=None, arguments=(), start=True, environment=None,
                 wrapper=()):
        super().__init__(bus)
        self._scope = scope
        self.bus = bus
        self.state = state or scope.directory('state')
        self.log_path = scope.directory() / 'vireod.log'
        self._argv = [*wrapper, executable(), f'--address={bus.address}', f'--state-directory={self.state}',
                      *(f'--connect={uri}' for uri in connections), *arguments]
        self._environment = dict(os.environ, **(environment or {}))
        self._environment.pop('NOTIFY_SOCKET', None)
        self.recorder = Recorder(bus)
        self.process = None
        if start:
            self.start()

    def start(self, limit=30):
        """Start vireod and wait until it has its name."""
        with self.log_path.open('ab') as log:
            self.process = self._scope.spawn(self._argv, stdout=log, stderr=log, env=self._environment)
        wait_for(lambda: self._owns() or self.process.poll() is not None, limit,
                 lambda: f'vireod owns its name; it said:\n{self.log()}')
        if self.process.poll() is not None:
            raise AssertionError(f'vireod ended with {self.process.returncode}:\n{self.log()}')
        return self

    def _owns(self):
        # the recorder heard the name change hands; the last word counts
        owner = next((m.body[2] for m in reversed(self.recorder.messages) if m.member == 'NameOwnerChanged'), '')
        return owner != ''

    def stop(self, number=signal.SIGTERM, limit=30):
        """End vireod by a signal; wait until it and its name have gone; return its status."""
        self.process.send_signal(number)
        status = wait_exit(self.process, limit)
        wait_for(lambda: not self._owns(), limit, 'vireod loses its name')
        return status

    def kill(self):
        """End vireod without a word."""
        return self.stop(signal.SIGKILL)

    def restart(self, number=signal.SIGTERM):
        self.stop(number)
        return self.start()

    def alive(self):
        return self.process.poll() is None

    def log(self):
        try:
            return self.log_path.read_text(errors='replace')
        except OSError:
            return ''

    def connection_path(self):
        """Return the path of the first connection."""
        return self.get(ROOT, 'Manager', 'Connections')[0]

    def wait_connected(self, state='connected', path=None, limit=90):
        """Wait until a connection says that it is in a state."""
        path = path or self.connection_path()
        # what was heard wakes us, what is read decides
        wait_for(lambda: self.get(path, 'Connection', 'State') == state, limit,
                 lambda: f'{path} {state}: {self.get_all(path, "Connection")}\n{self.log()}', poll=1)


def busctl(bus, *arguments, check=True, limit=60):
    """Run busctl on a private bus, as somebody at a shell would; return what it printed."""
    done = subprocess.run(['busctl', f'--address={bus.address}', '--no-pager', *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit, check=False, text=True)
    if check and done.returncode != 0:
        raise AssertionError(f'busctl {" ".join(arguments)}: {done.stdout.strip()}')
    return done.stdout
