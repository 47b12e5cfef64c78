#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Streams: the whole story, once, in order, at the reader's pace, and their ends."""

import json
import os
import random
import re
import socket
import threading
import time
import unittest

from support import BusCase, BusError, Client, ERROR, GLib, Gio, MANAGER, NAME, main

from kit.loop import PATIENCE, settle, wait_for

LIMIT = 60 * PATIENCE


class Stream:
    """One end of a stream, read in a thread or by hand."""

    def __init__(self, client, **options):
        self.client = client  # the stream ends with it
        reply, fds = client.connection.call_with_unix_fd_list_sync(
            NAME, MANAGER, f'{NAME}.Manager', 'Watch', GLib.Variant('(a{sv})', (options,)), None, Gio.DBusCallFlags.NONE, 30000,
            None, None)
        fd = fds.steal_fds()[reply.unpack()[0]]
        self.socket = socket.socket(fileno=fd)
        self.socket.settimeout(LIMIT)
        self._rest = b''
        self.lines = []

    def line(self):
        """Return the next line, parsed and checked; None at the end."""
        while b'\n' not in self._rest:
            got = self.socket.recv(1 << 16)
            if not got:
                assert not self._rest, f'the stream ends in the middle of a line: {self._rest}'
                return None
            self._rest += got
        text, self._rest = self._rest.split(b'\n', 1)
        line = json.loads(text.decode())
        assert {'specversion', 'id', 'source', 'type', 'time', 'data'} <= set(line) <= {
            'specversion', 'id', 'source', 'type', 'subject', 'time', 'datacontenttype', 'data'}, line
        assert line['specversion'] == '1.0'
        assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z', line['time']), line['time']
        assert line['data']['sequence'] == len(self.lines) + 1, line
        self.lines.append(line)
        return line

    def until(self, condition):
        """Read on until a line for which condition(line); return it."""
        while True:
            line = self.line()
            assert line is not None, f'the stream ended: {self.lines[-3:]}'
            if condition(line):
                return line

    def until_version(self, version):
        return self.until(lambda line: line['data']['version'] >= version and not line['type'].endswith('.Snapshot'))

    def events(self):
        return [x for x in self.lines if 'previous' in x['data']]

    def close(self):
        self.socket.close()


def replay(lines, xml=False):
    """Apply the lines of a stream with "initial"; return {path: (kind, properties)}."""
    state = {}
    for line in lines:
        words = line['type'].split('.')
        if len(words) == 4 and words[3] == 'Removed':
            # gone before it was listed, the first one hears of it is this
            state.pop(line['subject'], None)
        elif len(words) == 4:
            state[line['subject']] = (words[2], line['data']['properties'])
    return state


UNKNOWN = 2**64 - 1
PROGRESS = {'RunningTime', 'RemainingTime', 'Percent', 'BytesTotal', 'BytesDone'}


def comparable(objects):
    """What JSON and D-Bus both have: no progress."""
    return {path: (kind, {n: list(v) if isinstance(v, tuple) else v for n, v in properties.items()
                          if kind != 'Job' or n not in PROGRESS}) for path, (kind, properties) in objects.items()}


class Watching(BusCase):
    def setUp(self):
        self.epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        self.domain = self.some('Domain', Persistent=True)

    def version(self):
        return self.vireod.get(MANAGER, 'Manager', 'Version')

    def toggle(self, path=None):
        path = path or self.domain
        method = 'Destroy' if self.vireod.get(path, 'Domain', 'Active') else 'Start'
        return self.vireod.call(path, f'{NAME}.Domain', method, '(a{sv})', {})[1]

    def stream(self, **options):
        stream = Stream(self.vireod, **options)
        self.addCleanup(stream.close)
        return stream

    def resume(self, after, **options):
        return self.stream(epoch=GLib.Variant('s', self.epoch), after=GLib.Variant('t', after), **options)

    def test_initial_is_a_snapshot(self):
        stream = self.stream(initial=GLib.Variant('b', True))
        bookmark = stream.until(lambda x: x['type'] == 'org.vireo1.Bookmark')
        _, version, objects = self.vireod.snapshot()
        self.assertEqual(bookmark['data']['version'], version)
        self.assertEqual(comparable(replay(stream.lines)), comparable(objects))
        self.assertEqual(len(stream.lines), len(objects) + 1)
        self.assertTrue(all(x['type'].endswith('.Snapshot') for x in stream.lines[:-1]))
        self.assertTrue(stream.lines[0]['source'].startswith('urn:vireo:'))
        self.assertTrue(stream.lines[0]['source'].endswith(':' + self.epoch))
        self.assertEqual(len({x['id'] for x in stream.lines}), len(stream.lines))

    def test_follows_like_get_events(self):
        stream = self.stream()
        start = self.version()
        self.toggle()
        end = self.toggle()
        stream.until_version(end)
        events = self.vireod.manager('GetEvents', '(stuta{sv})', self.epoch, start, 0, 0, {})[2]
        words = {'connection': 'Connection', 'domain': 'Domain', 'pool': 'StoragePool', 'network': 'Network', 'job': 'Job'}
        for event, line in zip(events, stream.lines):
            version, previous, kind, path, name, reason, timestamp, properties, details = event
            self.assertEqual(line['id'], str(version))
            self.assertEqual(line['type'], f'org.vireo1.{words[kind]}.{name}')
            self.assertEqual(line['subject'], path)
            data = line['data']
            self.assertEqual((data['version'], data['previous'], data['reason'], data['inferred']),
                             (version, previous, reason, details.pop('inferred', False)))
            self.assertEqual(data['details'], details)
            self.assertEqual(comparable({path: (words[kind], data['properties'])}),
                             comparable({path: (words[kind], properties)}))
            self.assertEqual(int(line['time'][20:26]), timestamp % 1000000)
            if kind == 'job' and properties['RemainingTime'] == UNKNOWN:
                self.assertIsNone(data['properties']['RemainingTime'])
        self.assertGreater(len(stream.lines), 4)

    def test_resume_anywhere(self):
        start = self.version()
        for _ in range(4):
            end = self.toggle()
        whole = self.resume(start)
        whole.until_version(end)
        versions = [x['data']['version'] for x in whole.lines]
        self.assertEqual(versions, list(range(start + 1, versions[-1] + 1)))
        for after in (start, start + 1, versions[-1] - 1, random.choice(versions[:-1])):
            part = self.resume(after)
            part.until_version(versions[-1])
            self.assertEqual([x['id'] for x in part.lines], [str(v) for v in versions if v > after])

    def test_filters_and_xml(self):
        start = self.version()
        end = self.toggle()
        everything = self.resume(start)
        everything.until_version(end)
        for options, wanted in (
                ({'kinds': GLib.Variant('as', ['job'])}, lambda x: '.Job.' in x['type']),
                ({'objects': GLib.Variant('ao', [self.domain])}, lambda x: x['subject'] == self.domain),
                ({'events': GLib.Variant('as', ['Domain.Started', 'Domain.Stopped'])},
                 lambda x: x['type'] in ('org.vireo1.Domain.Started', 'org.vireo1.Domain.Stopped'))):
            wanted_ids = [x['id'] for x in everything.lines if wanted(x)]
            stream = self.resume(start, heartbeat=GLib.Variant('t', 100000), **options)
            stream.until(lambda x: x['type'] == 'org.vireo1.Bookmark' and x['data']['version'] >= end)
            self.assertEqual([x['id'] for x in stream.events()], wanted_ids)
        stream = self.resume(start, xml=GLib.Variant('b', True), objects=GLib.Variant('ao', [self.domain]))
        line = stream.line()
        self.assertIn(self.vireod.get(self.domain, 'Domain', 'UUID'), line['data']['xml'])

    def test_heartbeat(self):
        stream = self.stream(heartbeat=GLib.Variant('t', 100000))
        for _ in range(3):
            self.assertEqual(stream.line()['type'], 'org.vireo1.Bookmark')
        end = self.toggle()
        bookmark = stream.until(lambda x: x['type'] == 'org.vireo1.Bookmark' and x['data']['version'] >= end)
        # nothing at or below a bookmark behind it
        self.toggle()
        event = stream.until(lambda x: 'previous' in x['data'])
        self.assertGreater(event['data']['version'], bookmark['data']['version'])

    def test_refusals(self):
        now = self.version()
        for error, options in (
                ('InvalidOption', {'epoch': GLib.Variant('s', self.epoch)}),
                ('InvalidOption', {'after': GLib.Variant('t', 1)}),
                ('InvalidOption', {'epoch': GLib.Variant('s', self.epoch), 'after': GLib.Variant('t', now),
                                   'initial': GLib.Variant('b', True)}),
                ('InvalidOption', {'heartbeat': GLib.Variant('t', 1)}),
                ('InvalidOption', {'kinds': GLib.Variant('as', ['nothing'])}),
                ('EpochChanged', {'epoch': GLib.Variant('s', '0' * 32), 'after': GLib.Variant('t', now)}),
                ('FutureVersion', {'epoch': GLib.Variant('s', self.epoch), 'after': GLib.Variant('t', now + 1)})):
            with self.assertRaises(GLib.Error) as caught:
                self.stream(**options)
            self.assertEqual(Gio.DBusError.get_remote_error(caught.exception), ERROR + error)
        with self.assertRaises(GLib.Error) as caught:
            self.stream(epoch=GLib.Variant('s', ''), after=GLib.Variant('t', now))
        self.assertEqual(Gio.DBusError.get_remote_error(caught.exception), 'org.freedesktop.DBus.Error.InvalidArgs')

    def descriptors(self):
        """How many sockets the broker has open; files of its store come and go."""
        directory = f'/proc/{self.vireod.process.pid}/fd'
        n = 0
        for name in os.listdir(directory):
            try:
                n += os.readlink(f'{directory}/{name}').startswith('socket:')
            except OSError:
                pass
        return n

    def settled_descriptors(self):
        """Streams of the tests before may be on their way out."""
        settle(quiet=0.3, changed=self.descriptors)
        return self.descriptors()

    def test_ends_with_its_creator(self):
        before = self.settled_descriptors()
        client = Client(self.bus)
        streams = [Stream(client) for _ in range(5)]
        wait_for(lambda: self.descriptors() == before + 5, poll=0.05, what='one for each stream')
        client.connection.close_sync()
        for stream in streams:
            self.assertIsNone(stream.line())
        wait_for(lambda: self.descriptors() <= before, poll=0.05, what='descriptors are closed')

    def test_reader_that_goes_is_noticed(self):
        before = self.settled_descriptors()
        for half in (False, True):
            stream = self.stream(initial=GLib.Variant('b', True))
            stream.line()
            if half:
                stream.socket.shutdown(socket.SHUT_RDWR)
            stream.close()
        wait_for(lambda: self.descriptors() <= before, poll=0.05, what='descriptors are closed')

    def test_writing_into_it_does_nothing(self):
        stream = self.stream(heartbeat=GLib.Variant('t', 100000))
        try:
            stream.socket.sendall(b'x' * 1000)
        except BrokenPipeError:
            pass
        stream.until(lambda x: x['type'] == 'org.vireo1.Bookmark')

    def test_too_many(self):
        client = Client(self.bus)
        n = 0
        with self.assertRaises(GLib.Error) as caught:
            while True:
                Stream(client).socket.detach()  # kept open; the broker ends them all when the client leaves
                n += 1
        # ours may be the first to run out of descriptors
        self.assertIn(Gio.DBusError.get_remote_error(caught.exception) or 'too many open files',
                      (ERROR + 'LimitsExceeded', 'too many open files'))
        self.assertGreater(n, 100)
        client.connection.close_sync()


class Storm(BusCase):
    """Under a storm, with readers of every pace."""

    CONNECT = ('sim:///300?storm=100&churn=0.2&seed=5',)

    def read_initial(self, pause):
        client = Client(self.bus)
        stream = Stream(client, initial=GLib.Variant('b', True))
        while True:
            line = stream.line()
            if line['type'] == 'org.vireo1.Bookmark':
                return client, stream
            if pause:
                time.sleep(pause)

    def test_initial_is_exact_at_its_bookmark(self):
        """Listed while things happen, by quick and slow readers: with what follows it is what a snapshot says."""
        for pause in (0, 0, 0.001, 0.001):
            client, stream = self.read_initial(pause)
            listed = len(stream.lines)
            self.assertGreater(listed, 300)
            _, version, objects = self.vireod.snapshot()
            self.assertGreaterEqual(version, stream.lines[-1]['data']['version'])
            stream.until_version(version + 1)
            upto = [x for i, x in enumerate(stream.lines) if i < listed or x['data']['version'] <= version]
            self.assertEqual(comparable(replay(upto)), comparable(objects))
            client.connection.close_sync()

    def test_heartbeat_of_a_filter_that_nothing_passes(self):
        """Bookmarks come although things happen all the time, for they are not this reader's."""
        client = Client(self.bus)
        stream = Stream(client, heartbeat=GLib.Variant('t', 200000), events=GLib.Variant('as', ['MonitorEvent']))
        marks = [stream.line()['data']['version'] for _ in range(4)]
        self.assertEqual(marks, sorted(set(marks)))
        client.connection.close_sync()

    def test_slow_reader_gets_everything_and_costs_nothing(self):
        """One that stops reading, one that reads a little now and then, one that keeps up: all see the same."""
        epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        start = self.vireod.get(MANAGER, 'Manager', 'Version')
        clients = [Client(self.bus) for _ in range(3)]
        stopped, slow, quick = (Stream(c, epoch=GLib.Variant('s', epoch), after=GLib.Variant('t', start)) for c in clients)
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        over = threading.Event()

        def crawl():
            while not over.is_set():
                slow.line()
                time.sleep(0.01)
        reader = threading.Thread(target=crawl)
        reader.start()
        quick.until_version(start + 1500)
        over.set()
        reader.join()
        self.assertLess(len(slow.lines), len(quick.lines))
        for late in (stopped, slow):
            late.until_version(start + 1500)
            n = min(len(late.lines), len(quick.lines))
            self.assertEqual([x['id'] for x in late.lines[:n]], [x['id'] for x in quick.lines[:n]])
        self.assertEqual([x['data']['version'] for x in quick.lines],
                         list(range(start + 1, start + 1 + len(quick.lines))))


class Restarted(BusCase):
    """A broker that was started again lists what it kept, and streams go on where they were."""

    CONNECT = ('sim:///40?storm=50&churn=0.3&seed=3',)

    def test_initial_and_resume_after_restart(self):
        epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        stream = Stream(Client(self.bus), initial=GLib.Variant('b', True))
        stream.until_version(self.vireod.get(MANAGER, 'Manager', 'Version') + 100)
        last = stream.lines[-1]['data']['version']
        self.vireod.restart()
        self.vireod.wait_connected()
        self.assertEqual(self.vireod.get(MANAGER, 'Manager', 'Epoch'), epoch)
        resumed = Stream(Client(self.bus), epoch=GLib.Variant('s', epoch), after=GLib.Variant('t', last))
        again = Stream(Client(self.bus), initial=GLib.Variant('b', True))
        again.until(lambda x: x['type'] == 'org.vireo1.Bookmark')
        listed = len(again.lines)
        _, version, objects = self.vireod.snapshot()
        for stream_ in (resumed, again):
            stream_.until_version(version + 1)
        upto = [x for i, x in enumerate(again.lines) if i < listed or x['data']['version'] <= version]
        self.assertEqual(comparable(replay(upto)), comparable(objects))
        self.assertEqual([x['data']['version'] for x in resumed.lines],
                         list(range(last + 1, last + 1 + len(resumed.lines))))
        upto = stream.lines + [x for x in resumed.lines if x['data']['version'] <= version]
        self.assertEqual(comparable(replay(upto)), comparable(objects))


class Gone(BusCase):
    """A reader that stops for longer than history reaches is told so."""

    @classmethod
    def setUpClass(cls):
        config = f'/tmp/vireo-gone-{GLib.uuid_string_random()}.conf'
        with open(config, 'w') as out:
            out.write('[history]\nMaxEvents=500\n')
        cls.addClassCleanup(os.unlink, config)
        cls.ARGUMENTS = (f'--config={config}',)
        cls.CONNECT = ('sim:///300',)
        super().setUpClass()

    def test_gone(self):
        client = Client(self.bus)
        stream = Stream(client)
        start = self.vireod.get(MANAGER, 'Manager', 'Version')
        self.vireod.manager('Open', '(sa{sv})', 'sim:///20?flood=0&count=20000', {'async': GLib.Variant('b', True)})
        wait_for(lambda: self.vireod.get(MANAGER, 'Manager', 'OldestVersion') > start + 4000, poll=0.2, limit=120,
                 what='history moves on')
        lines = []
        while (line := stream.line()) is not None:
            lines.append(line)
        self.assertEqual(lines[-1]['type'], 'org.vireo1.Gone')
        self.assertGreater(lines[-1]['data']['oldest'], lines[-2]['data']['version'])
        self.assertLessEqual(lines[-1]['data']['oldest'], self.vireod.get(MANAGER, 'Manager', 'OldestVersion'))
        versions = [x['data']['version'] for x in lines[:-1]]
        self.assertEqual(versions, list(range(start + 1, start + 1 + len(versions))))
        with self.assertRaises(BusError) as caught:
            self.vireod.manager('GetEvents', '(stuta{sv})', self.vireod.get(MANAGER, 'Manager', 'Epoch'), start, 0, 0, {})
        self.assertEqual(caught.exception.short, 'Gone')
        oldest = self.vireod.get(MANAGER, 'Manager', 'OldestVersion')
        self.assertIn(str(oldest), caught.exception.message)


if __name__ == '__main__':
    unittest.TestCase.maxDiff = 2000
    main()
