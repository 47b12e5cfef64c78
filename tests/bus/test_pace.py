#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readers that stop, or read one byte a second, for the length of 100,000 events; listeners that stop; no descriptors left."""

import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

from support import BusCase, Client, ERROR, GLib, Gio, MANAGER, NAME, Bus, main, memory_means_something

from kit.loop import PATIENCE, wait_for
from test_limits import memory

MIB = 1 << 20

# A client of its own, which is stopped when it has asked and before it has read the answers.
ASKER = '''
import sys
from gi.repository import Gio, GLib
address, epoch, after, calls = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
bus = Gio.DBusConnection.new_for_address_sync(address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
                                              Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
loop, left = GLib.MainLoop(), [calls]

def answered(connection, result):
    version, more, events = connection.call_finish(result).unpack()
    versions = [e[0] for e in events]
    assert more and versions == list(range(after + 1, version + 1)), (after, version, versions[:3])
    left[0] -= 1
    if not left[0]:
        loop.quit()

for _ in range(calls):
    bus.call('org.vireo1', '/org/vireo1', 'org.vireo1.Manager', 'GetEvents',
             GLib.Variant('(stuta{sv})', (epoch, after, 0, 0, {})), None, 0, 600000, None, answered)
bus.flush_sync(None)
print('asked', flush=True)
GLib.timeout_add_seconds(600, loop.quit)
loop.run()
print('answered', calls - left[0], flush=True)
'''


class Raw:
    """A stream that is not parsed: numbers and versions of its lines, as they come."""

    LINE = re.compile(rb'"data":\{"sequence":(\d+),"version":(\d+),"previous"')

    def __init__(self, client, epoch, after):
        options = {'epoch': GLib.Variant('s', epoch), 'after': GLib.Variant('t', after)}
        reply, fds = client.connection.call_with_unix_fd_list_sync(
            NAME, MANAGER, f'{NAME}.Manager', 'Watch', GLib.Variant('(a{sv})', (options,)), None, Gio.DBusCallFlags.NONE, 30000,
            None, None)
        self.client = client  # the stream ends with it
        self.socket = socket.socket(fileno=fds.steal_fds()[reply.unpack()[0]])
        self.socket.setblocking(False)
        self.version, self.lines, self._rest = after, 0, b''

    def read(self, most=MIB):
        """Take what is there."""
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return
        assert data, f'the stream ended at {self.version}'
        whole, newline, self._rest = (self._rest + data).rpartition(b'\n')
        if not newline:
            return
        for sequence, version in self.LINE.findall(whole):
            assert int(sequence) == self.lines + 1, f'line {int(sequence)} after {self.lines}'
            assert int(version) == self.version + 1, f'version {int(version)} after {self.version}'
            self.lines += 1
            self.version = int(version)

    def until(self, version, limit=120):
        """Read on up to a version."""
        deadline = time.monotonic() + limit * PATIENCE
        while self.version < version:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.socket], [], [], left)[0], f'not within {limit} s: version {version}; ' \
                                                                                f'it is at {self.version}'
            self.read()


class Flooded(BusCase):
    """One whose hypervisor can be told to flood."""

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory(prefix='vireo-')
        cls.addClassCleanup(directory.cleanup)
        cls.path = pathlib.Path(directory.name) / 'control'
        cls.CONNECT = (f'sim:///empty?domains=50&running=1&control={cls.path}',)
        super().setUpClass()

    def setUp(self):
        self.control = socket.socket(socket.AF_UNIX)
        self.control.connect(str(self.path))
        self.addCleanup(self.control.close)
        self.epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')

    def flood(self, count, meanwhile=lambda: None):
        """Let so much happen, as fast as it can; return the version behind it."""
        start = self.vireod.get(MANAGER, 'Manager', 'Version')
        self.control.sendall(json.dumps({'run': [{'do': 'flood', 'count': count}, {'do': 'wait-idle'}]}).encode() + b'\n')
        deadline = time.monotonic() + 300 * PATIENCE
        while not select.select([self.control], [], [], 0.01)[0]:
            self.assertLess(time.monotonic(), deadline, f'a flood of {count}; version '
                                                        f'{self.vireod.get(MANAGER, "Manager", "Version")}')
            meanwhile()
        self.assertIn(b'"ok":true', self.control.recv(4096))
        end = self.vireod.sync()
        self.assertGreaterEqual(end - start, count * 0.9)
        return end


class Pace(Flooded):
    EVENTS = int(os.environ.get('VIREO_TEST_EVENTS', '100000'))

    def test_readers_that_stop(self):
        # so many signals are not what this is about
        self.vireod.recorder.ignore_events()
        self.flood(10000)  # what it has at hand from now on
        start = self.vireod.sync()
        quick = Raw(self.vireod, self.epoch, start)
        stopped = [Raw(Client(self.bus), self.epoch, start) for _ in range(3)]
        drip = Raw(Client(self.bus), self.epoch, start)
        before = memory(self.vireod.process)
        asker = self.scope.spawn([sys.executable, '-c', ASKER, self.bus.address, self.epoch, str(start - 5000), '10'],
                                 stdout=subprocess.PIPE, text=True)
        self.assertEqual(asker.stdout.readline(), 'asked\n')
        asker.send_signal(signal.SIGSTOP)

        slowest, dripped = 0, time.monotonic()

        def meanwhile():
            nonlocal slowest, dripped
            began = time.monotonic()
            self.vireod.call(MANAGER, 'org.freedesktop.DBus.Peer', 'Ping')
            slowest = max(slowest, time.monotonic() - began)
            for _ in range(20):
                quick.read()
            if began - dripped >= 1:
                dripped = began
                drip.read(1)
        end = self.flood(self.EVENTS, meanwhile)
        grown = memory(self.vireod.process) - before
        print(f'\n  {end - start} events; {grown / MIB:.1f} MiB more; the slowest Ping took {slowest * 1000:.0f} ms', file=sys.stderr)
        self.assertLess(slowest, 2 * PATIENCE, 'somebody else had to wait')
        if memory_means_something(self.vireod.process):
            self.assertLess(grown, 24 * MIB)
        # while they still don't read, who reads is told
        quick.until(end)
        domain = self.some('Domain')
        version = self.vireod.call(domain, f'{NAME}.Domain', 'SetAutostart', '(ba{sv})',
                                   not self.vireod.get(domain, 'Domain', 'Autostart'), {})[1]
        quick.until(version, 10)
        self.assertTrue(all(r.lines == 0 for r in [*stopped, drip]))
        # and when they read on they have missed nothing
        for reader in [*stopped, drip]:
            reader.until(version)
            reader.socket.close()
        asker.send_signal(signal.SIGCONT)
        self.assertEqual(asker.stdout.readline(), 'answered 10\n')
        quick.socket.close()


class AdvisedBus(Bus):
    """One that freezes once 8 MB are under way, but for the limit that vireod(8) names, lowered as it advises."""

    OUTGOING = 4000000

    def _config(self, services, include):
        text = re.sub(r'(<limit name="max_incoming_bytes">)\d+', r'\g<1>8000000', super()._config(services, include))
        return re.sub(r'(<limit name="max_outgoing_bytes">)\d+', rf'\g<1>{self.OUTGOING}', text)


class Advised(Flooded):
    """One listener stops reading, on a bus that is set up for that: nobody else notices."""

    bus_class = AdvisedBus

    def test_nothing_is_held_back(self):
        listener = self.scope.spawn(['gdbus', 'monitor', '--address', self.bus.address, '--dest', NAME], stdout=subprocess.PIPE)
        listener.stdout.readline()
        listener.stdout.readline()
        domain = self.some('Domain')
        while not select.select([listener.stdout], [], [], 0.1)[0]:
            autostart = self.vireod.get(domain, 'Domain', 'Autostart')
            self.vireod.call(domain, f'{NAME}.Domain', 'SetAutostart', '(ba{sv})', not autostart, {})
        listener.send_signal(signal.SIGSTOP)
        start = self.vireod.sync()
        # some 16 MB of signals; who listens has them before there are more
        for _ in range(16):
            self.vireod.recorder.wait_version(self.flood(500))
        versions = [e.version for e in self.vireod.recorder.of(after=start)]
        self.assertEqual(versions, list(range(start + 1, versions[-1] + 1)), 'every one, once, in order')
        self.assertNotIn('held back', self.vireod.log())
        # it has lost some, but is still there
        listener.send_signal(signal.SIGCONT)
        self.assertIsNone(listener.poll())
        listener.kill()


class Descriptors(BusCase):
    """The limit of descriptors is reached."""

    CONNECT = ('sim:///5',)
    LIMIT = 100

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.vireod.stop()
        # its own raising of the limit goes no further than the hard one
        cls.vireod._argv[:0] = ['prlimit', f'--nofile={cls.LIMIT}:{cls.LIMIT}', '--']  # pylint: disable=protected-access
        cls.vireod.start()
        cls.vireod.wait_connected()

    def watch(self, client):
        reply, fds = client.connection.call_with_unix_fd_list_sync(
            NAME, MANAGER, f'{NAME}.Manager', 'Watch', GLib.Variant('(a{sv})', ({},)), None, Gio.DBusCallFlags.NONE, 30000, None,
            None)
        return socket.socket(fileno=fds.steal_fds()[reply.unpack()[0]])

    def test_streams_up_to_the_limit(self):
        client, streams = Client(self.bus), []
        domain = self.some('Domain')
        with self.assertRaises(GLib.Error) as caught:
            while len(streams) < 2 * self.LIMIT:
                streams.append(self.watch(client))
        self.assertEqual(Gio.DBusError.get_remote_error(caught.exception), ERROR + 'LimitsExceeded', caught.exception.message)
        self.assertIn('descriptor', caught.exception.message)
        self.assertGreater(len(streams), self.LIMIT // 2)
        # nobody else is affected, nor who has a stream
        for autostart in (True, False, True):
            version = self.vireod.call(domain, f'{NAME}.Domain', 'SetAutostart', '(ba{sv})', autostart, {})[1]
            self.assertGreater(version, 0)
        self.vireod.sync()
        self.assertEqual(self.vireod.snapshot()[1], self.vireod.get(MANAGER, 'Manager', 'Version'))
        for stream in streams:
            stream.settimeout(30 * PATIENCE)
            self.assertTrue(stream.recv(100))
        # those that go make room
        for stream in streams[:10]:
            stream.close()

        def again():
            try:
                return self.watch(client)
            except GLib.Error:
                return None
        wait_for(again, 30, 'there is room again', poll=0.1).close()
        client.connection.close_sync()
        self.assertNotIn('critical', self.vireod.log().lower())


if __name__ == '__main__':
    main()
