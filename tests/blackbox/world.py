# SPDX-License-Identifier: LGPL-2.1-or-later
"""The broker under test, which is stopped and killed, and all who follow it."""

import ctypes
import errno
import os
import pathlib
import random
import signal
import subprocess

from gi.repository import Gio, GLib

import followers
from kit.loop import TimedOut, wait_exit, wait_for
from kit.vireod import Client, executable
from story import Filter, Record
from tasks import Asker, Bell, Task

NAME, ROOT = followers.NAME, followers.ROOT
WAYS = (followers.Poller, followers.Stream, followers.Listener)


class World:
    """What clients share: who has the name, how far the story is, and when it ends."""

    def __init__(self, scope, bus, uris, seed, history):
        self.scope, self.bus, self.seed = scope, bus, seed
        self.random = random.Random(f'{seed}/world')
        self.bell = Bell()
        self.owner = None
        self.round = self.heard = 0
        self.latest = {}  # epoch -> the highest version that anybody has heard of
        self.final = None  # (epoch, version) at which nothing more happens
        self.mischief = 1.0
        self.patience = 600
        self.filters = []
        self.opened = None  # LABEL=URI of a hypervisor that clients open and close
        self.records, self.clients, self.tasks = [], [], []
        self.epochs_lost = set()
        self.deaths = {'SIGTERM': 0, 'SIGKILL': 0, 'store lost': 0}
        self.state = scope.directory('state')
        self.log_path = scope.directory() / 'vireod.log'
        config = scope.directory() / 'vireo.conf'
        config.write_text('[history]\n' + ''.join(f'{key}={value}\n' for key, value in history.items()))
        self._argv = [executable(), f'--address={bus.address}', f'--state-directory={self.state}', f'--config={config}',
                      *(f'--connect={uri}' for uri in uris)]
        self.process = None
        self.control = Client(bus)
        self.control.connection.signal_subscribe(
            'org.freedesktop.DBus', 'org.freedesktop.DBus', 'NameOwnerChanged', '/org/freedesktop/DBus', NAME,
            Gio.DBusSignalFlags.NONE, self._owner_changed)

    def _owner_changed(self, _connection, _sender, _path, _interface, _member, body):
        self.owner = body.unpack()[2] or None
        self.bell.ring()

    def record(self, name, wanted):
        record = Record(name, wanted)
        self.records.append(record)
        return record

    def saw(self, epoch, version, count):
        """Somebody heard something new."""
        self.latest[epoch] = max(self.latest.get(epoch, 0), version)
        self.heard += count
        self.bell.ring()

    # The broker

    def try_start(self):
        """Start it on a full disk: it may find that it cannot keep its promises there, and must say so."""
        self.spawn()
        wait_for(lambda: self.owner or self.process.poll() is not None, 60, lambda: f'vireod has its name\n{self.log()}')
        if self.process.poll() is None:
            return True
        assert self.process.returncode == 1 and 'Is there space left' in self.log(), \
            f'vireod ended with {self.process.returncode}:\n{self.log()}'
        return False

    def start(self):
        self.spawn()
        wait_for(lambda: self.owner or self.process.poll() is not None, 60, lambda: f'vireod has its name\n{self.log()}')
        assert self.process.poll() is None, f'vireod ended with {self.process.returncode}:\n{self.log()}'

    def spawn(self):
        environment = {k: v for k, v in os.environ.items() if k != 'NOTIFY_SOCKET'}
        with self.log_path.open('ab') as log:
            self.process = self.scope.spawn(self._argv, stdout=log, stderr=log, env=environment)

    def stop(self, number=signal.SIGTERM):
        """End the broker, by a signal."""
        assert self.process.poll() is None, f'vireod ended by itself, with {self.process.returncode}:\n{self.log()}'
        self.deaths[signal.Signals(number).name] += 1
        self.process.send_signal(number)
        status = wait_exit(self.process, 60)
        assert status == (0 if number == signal.SIGTERM else -number), f'vireod ended with {status}:\n{self.log()}'
        wait_for(lambda: not self.owner, 30, 'vireod loses its name')

    def kill(self):
        self.stop(signal.SIGKILL)

    def lose_store(self):
        """As if somebody had removed it."""
        self.epochs_lost.add(self.control.get(ROOT, 'Manager', 'Epoch'))
        self.stop()
        for path in self.state.iterdir():
            path.unlink()
        self.deaths['store lost'] += 1

    def small_disk(self, size):
        """Put the store on a file system of its own, which nobody else sees."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x20000) < 0:  # CLONE_NEWNS
            raise OSError(ctypes.get_errno(), 'a mount namespace')
        subprocess.run(['mount', '--make-rprivate', '/'], check=True)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'vireo', self.state], check=True)
        self.scope.defer(lambda: subprocess.run(['umount', '-l', self.state], check=False))

    def fill_disk(self):
        with (self.state / 'filler').open('wb', buffering=0) as filler:
            try:
                while filler.write(bytes(1 << 16)) == 1 << 16:
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC, error

    def free_disk(self):
        (self.state / 'filler').unlink()

    def log(self):
        text = self.log_path.read_text(errors='replace') if self.log_path.exists() else ''
        return '\n'.join(text.splitlines()[-60:])

    # Those who follow

    def spread(self, count):
        """Begin to follow, in all ways, with all kinds of filters; two that never leave see everything."""
        _, _, objects = self.control.snapshot()
        connections = sorted(p for p, (k, _) in objects.items() if k == 'Connection')
        domains = sorted((p for p, (k, _) in objects.items() if k == 'Domain'), key=lambda p: objects[p][1]['Name'])
        some = tuple(self.random.sample(domains, min(3, len(domains))))
        one = (self.random.choice(connections),)
        self.filters = [
            Filter(), Filter(xml=True), Filter(kinds=('domain',)), Filter(kinds=('domain', 'pool'), xml=True),
            Filter(kinds=('job',)), Filter(connections=one), Filter(objects=some, xml=True),
            Filter(kinds=('domain', 'network'), connections=one), Filter(kinds=('connection', 'pool', 'network')),
            Filter(events=('Started', 'Stopped')), Filter(connections=one, xml=True),
            Filter(kinds=('domain', 'job'), events=('Domain.Suspended', 'Added', 'Job.Finished', 'MonitorEvent')),
        ]
        for name, way in (('steady poller', followers.Poller), ('steady stream', followers.Stream)):
            self._add(way(self, name, Filter(xml=True), random.Random(f'{self.seed}/{name}'), steady=True))
        # listings of all that is there are the longest, and most can happen meanwhile
        self._add(followers.Stream(self, 'stream (xml)', Filter(xml=True), random.Random(f'{self.seed}/stream'),
                                   forgetful=True))
        offset = self.random.randrange(len(self.filters))
        for i in range(count):
            way = WAYS[i % len(WAYS)]
            # every way meets every filter, from one seed to the next
            wanted = self.filters[(offset + i + i // len(WAYS)) % len(self.filters)]
            if way is followers.Listener:
                # signals have no XML, and a job's path does not say to which connection it belongs
                wanted = Filter(wanted.kinds or (('connection', 'domain', 'pool', 'network') if wanted.connections else ()),
                                wanted.connections, wanted.objects, wanted.events)
            name = f'{way.__name__.lower()} {i} ({wanted})'
            self._add(way(self, name, wanted, random.Random(f'{self.seed}/{name}')))
        for name, way in (('auditor', followers.Auditor), ('actor', followers.Actor)):
            self._add(way(self, name, Filter(), random.Random(f'{self.seed}/{name}')))

    def _add(self, client):
        self.clients.append(client)
        self.tasks.append(Task(client.name, client.run()))

    @property
    def steady(self):
        return [c for c in self.clients if getattr(c, 'steady', False)]

    @property
    def domains(self):
        return sorted(p for p, o in self.steady[0].objects.items() if o.kind == 'Domain')

    def wait(self, predicate, what, limit=60):
        """Wait, unless somebody who follows, or the broker, comes to grief."""
        def troubled():
            return any(t.error for t in self.tasks) or self.process.poll() is not None
        try:
            wait_for(lambda: troubled() or predicate(), limit, what)
        except TimedOut as error:
            raise TimedOut(f'{error}; now\n{self.text()}\n{self.log()}') from None
        for task in self.tasks:
            if task.error:
                raise AssertionError(f'{task.name}: {type(task.error).__name__}: {task.error}\n{self.log()}') from task.error
        assert self.process.poll() is None, f'vireod ended with {self.process.returncode}:\n{self.log()}'

    def text(self):
        return '\n'.join(f'    {t.name}: {"over" if t.over else t.waits}' for t in self.tasks)

    def next_round(self):
        """Those who never leave have to have come up; then those who sleep may wake up."""
        version = self.control.get(ROOT, 'Manager', 'Version')
        self.wait(lambda: all(c.epoch and c.cursor >= version for c in self.steady), f'version {version} comes to all', 120)
        self.round += 1
        self.bell.ring()

    def finish(self):
        """Nothing more happens: let everybody come to the end."""
        paths = self.control.get(ROOT, 'Manager', 'Connections')
        for path in paths:
            wait_for(lambda p=path: self.control.get(p, 'Connection', 'State') == 'connected', 90, f'{path} is connected', poll=0.2)
        self.control.sync(limit=60)
        epoch, version, _ = self.control.snapshot(kinds=GLib.Variant('as', ['job']))
        self.final = epoch, version
        self.bell.ring()
        self.wait(lambda: all(t.over for t in self.tasks), 'everybody comes to the end', 120)
        self.stop()


class Sim:
    """A simulated hypervisor in a process of its own, which survives the broker."""

    def __init__(self, scope, label, seed, domains, xml_size=0):
        path = scope.directory() / f'{label}.socket'
        build = pathlib.Path(os.environ.get('VIREO_BUILD', pathlib.Path(__file__).resolve().parents[2] / 'build'))
        self.uri = f'{label}=sim:{path}'
        self.process = scope.spawn([build / 'drivers/vireo-sim', f'--socket={path}', '--die-with-parent',
                                    f'sim:///empty?domains={domains}&pools=2&networks=2&seed={seed}&xml-size={xml_size}'], stdout=-1)
        assert self.process.stdout.readline().strip() == b'ready'
        self._asker = Asker(path)
        self._storms = Asker(path)
        self.storm = None

    def do(self, what, limit=60, **more):
        """Have it carry out a step; return its answer."""
        task = Task(what, self._asker.ask({'do': what, **more}, limit))
        wait_for(lambda: task.over, limit + 5, f'{what} of {self.uri}')
        if task.error:
            raise task.error
        return None

    def blow(self, **more):
        """Begin a storm."""
        self.storm = Task('storm', self._storms.ask({'do': 'storm', **more}, 120))

    def calm(self):
        """Whether it is over."""
        if self.storm and self.storm.error:
            raise self.storm.error
        return not self.storm or self.storm.over
