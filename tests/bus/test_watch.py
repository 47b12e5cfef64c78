#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Watch: streams of CloudEvents, at the reader's own pace."""

import datetime
import json
import os
import pathlib
import re
import socket

from support import BusCase, Client, Gio, GLib, MANAGER, NAME, main

from kit.loop import wait_for


class Reader:
    """One end of a stream. Reads when it is told to, and checks what every line has to hold."""

    def __init__(self, client, **options):
        known = {'kinds': 'as', 'connections': 'ao', 'objects': 'ao', 'events': 'as', 'xml': 'b', 'epoch': 's',
                 'after': 't', 'initial': 'b', 'heartbeat': 't'}
        arguments = GLib.Variant('(a{sv})', ({k: GLib.Variant(known[k], v) for k, v in options.items()},))
        reply, descriptors = client.connection.call_with_unix_fd_list_sync(
            NAME, MANAGER, f'{NAME}.Manager', 'Watch', arguments, GLib.VariantType('(h)'), Gio.DBusCallFlags.NONE, 30000,
            None, None)
        self.socket = socket.socket(fileno=descriptors.get(reply.unpack()[0]))
        self.socket.setblocking(False)
        self.rest = b''
        self.lines, self.sequence, self.version = [], 0, 0
        self.ended = False

    def read(self, most=1 << 20):
        """Take what is there; return how many lines came."""
        before = len(self.lines)
        try:
            data = self.socket.recv(most)
            if not data:
                self.ended = True
            self.rest += data
        except BlockingIOError:
            pass
        while b'\n' in self.rest:
            line, self.rest = self.rest.split(b'\n', 1)
            self._take(json.loads(line.decode('utf-8')))
        return len(self.lines) - before

    def _take(self, line):
        data = line['data']
        assert line['specversion'] == '1.0' and line['id'] and line['datacontenttype'] == 'application/json', line
        assert re.fullmatch(r'urn:vireo:[0-9a-f]{32}:[0-9a-f]{32}', line['source']), line
        datetime.datetime.fromisoformat(line['time'].replace('Z', '+00:00'))
        self.sequence += 1
        assert data['sequence'] == self.sequence, f'{data["sequence"]} after {self.sequence - 1}'
        kind = line['type'].removeprefix('org.vireo1.')
        if '.' in kind and not kind.endswith('.Snapshot'):
            assert data['version'] > self.version, f'{line} at or below {self.version}'
            assert line['id'] == str(data['version'])
            self.version = data['version']
        if kind == 'Bookmark':
            assert data['version'] >= self.version, line
            self.version = data['version']
        self.lines.append(line)

    def until(self, predicate, limit=60, what=None):
        """Read on until predicate() is true."""
        channel = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, self.socket.fileno(), GLib.IOCondition.IN,
                                        lambda *_: not self.ended and (self.read(), True)[1])
        try:
            wait_for(lambda: predicate() or self.ended, limit, what or (lambda: f'{self.lines[-3:]}'))
        finally:
            GLib.source_remove(channel) if not self.ended else None
        assert predicate(), f'the stream ended: {self.lines[-1:]}'

    def types(self):
        return [line['type'].removeprefix('org.vireo1.') for line in self.lines]

    def bookmark(self, limit=60):
        """Read to the first bookmark; return its version."""
        self.until(lambda: 'Bookmark' in self.types(), limit)
        return next(line['data']['version'] for line in self.lines if line['type'] == 'org.vireo1.Bookmark')

    def close(self):
        self.socket.close()


def state_of(lines):
    """What a replica holds that applies these lines."""
    state = {}
    for line in lines:
        kind, _, event = line['type'].removeprefix('org.vireo1.').partition('.')
        if event == 'Removed':
            state.pop(line['subject'], None)
        elif event:
            state[line['subject']] = (kind, line['data']['properties'])
    return state


def comparable(state):
    """Properties as JSON has them, without progress."""
    progress = {'RunningTime', 'RemainingTime', 'Percent', 'BytesTotal', 'BytesDone'}

    def value(v):
        return None if v == 2**64 - 1 else list(v) if isinstance(v, tuple) else v
    return {path: (kind, {k: value(v) for k, v in properties.items() if k not in progress})
            for path, (kind, properties) in state.items()}


class Streams(BusCase):
    """What is in the lines, and where they begin."""

    def events(self, n=1):
        """Make at least n events happen."""
        path = self.some('Domain', Active=True)
        for _ in range(n):
            for method in ('Suspend', 'Resume'):
                if self.vireod.get(path, 'Domain', 'State') == ('running' if method == 'Suspend' else 'paused'):
                    self.vireod.call(path, f'{NAME}.Domain', method, '(a{sv})', {})
        return path

    def test_initial_is_the_snapshot(self):
        reader = Reader(self.vireod, initial=True)
        version = reader.bookmark()
        first = reader.types().index('Bookmark')
        lines = reader.lines[:first]
        epoch, now, objects = self.vireod.snapshot()
        self.assertEqual(now, version)
        self.assertEqual(comparable(state_of(lines)), comparable(objects))
        self.assertTrue(all(line['type'].endswith('.Snapshot') for line in lines))
        self.assertTrue(lines[0]['source'].endswith(epoch))
        self.assertEqual(len({line['id'] for line in reader.lines}), len(reader.lines))
        reader.close()

    def test_events_follow_and_equal_signals(self):
        reader = Reader(self.vireod, initial=True)
        reader.bookmark()
        self.vireod.recorder.messages.clear()
        self.events(3)
        version = self.vireod.sync()
        reader.until(lambda: reader.version >= version)
        self.assertEqual(comparable(state_of(reader.lines)), comparable(self.vireod.snapshot()[2]))
        self.assertIn('Domain.Suspended', reader.types())
        line = next(line for line in reader.lines if line['type'] == 'org.vireo1.Domain.Suspended')
        self.assertFalse(line['data']['inferred'])
        self.assertIsInstance(line['data']['details'], dict)
        self.assertEqual(line['data']['properties']['State'], 'paused')
        reader.close()

    def test_resume_is_exact(self):
        epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        start = self.vireod.sync()
        whole = Reader(self.vireod, epoch=epoch, after=start)
        self.events(4)
        end = self.vireod.sync()
        whole.until(lambda: whole.version >= end)
        versions = [line['data']['version'] for line in whole.lines]
        for after in (start, versions[0], versions[len(versions) // 2], end - 1):
            part = Reader(self.vireod, epoch=epoch, after=after)
            part.until(lambda p=part: p.version >= end)
            self.assertEqual([line['data']['version'] for line in part.lines], [v for v in versions if v > after])
            part.close()
        whole.close()

    def test_filters_and_heartbeat(self):
        reader = Reader(self.vireod, kinds=['domain'], events=['Domain.Suspended'], heartbeat=100000)
        self.events(2)
        version = self.vireod.sync()
        reader.until(lambda: reader.version >= version)
        self.assertEqual(set(reader.types()) - {'Bookmark'}, {'Domain.Suspended'})
        # when nothing happens a bookmark comes all the same
        n = reader.types().count('Bookmark')
        reader.until(lambda: reader.types().count('Bookmark') >= n + 3)
        reader.close()

    def test_xml(self):
        reader = Reader(self.vireod, initial=True, xml=True, kinds=['domain'])
        reader.bookmark()
        for line in reader.lines[:-1]:
            self.assertIn('<domain', line['data']['xml'])
        reader.close()

    def test_what_is_refused(self):
        epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        v = GLib.Variant
        for error, options in (
                ('InvalidOption', {'epoch': v('s', epoch)}),
                ('InvalidOption', {'after': v('t', 5)}),
                ('InvalidOption', {'initial': v('b', True), 'epoch': v('s', epoch), 'after': v('t', 5)}),
                ('InvalidOption', {'heartbeat': v('t', 5)}),
                ('InvalidOption', {'unknown': v('b', True)}),
                ('InvalidOption', {'xml': v('s', 'yes')}),
                ('InvalidOption', {'kinds': v('as', ['planet'])}),
                ('EpochChanged', {'epoch': v('s', '0' * 32), 'after': v('t', 5)}),
                ('FutureVersion', {'epoch': v('s', epoch), 'after': v('t', 2**53)}),
                ('org.freedesktop.DBus.Error.InvalidArgs', {'epoch': v('s', ''), 'after': v('t', 5)}),
                ('org.freedesktop.DBus.Error.InvalidArgs', {'epoch': v('s', 'x'), 'after': v('t', 5)})):
            with self.subTest(error=error, options=sorted(options)):
                self.manager_refused(error, 'Watch', '(a{sv})', options)

    def test_a_stream_ends_with_its_creator(self):
        client = Client(self.bus)
        reader = Reader(client, initial=True)
        reader.bookmark()
        client.connection.close_sync(None)
        reader.until(lambda: reader.ended)
        reader.close()

    def test_a_reader_that_closes_in_the_middle_of_a_line(self):
        descriptors = pathlib.Path(f'/proc/{self.vireod.process.pid}/fd')
        before = len(os.listdir(descriptors))
        readers = [Reader(self.vireod, initial=True) for _ in range(20)]
        for reader in readers:
            reader.socket.setblocking(True)
            self.assertEqual(len(reader.socket.recv(10)), 10)
            reader.close()
        self.events(2)
        wait_for(lambda: len(os.listdir(descriptors)) <= before, 30, 'the descriptors are given back', poll=0.2)


if __name__ == '__main__':
    main()
