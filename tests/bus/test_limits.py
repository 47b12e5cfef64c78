#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is too much: messages, a bus that is stuck; and signals in private mode."""

import pathlib
import re
import select
import signal
import subprocess

from support import BusCase, Client, GLib, MANAGER, NAME, main, memory_means_something

from test_streams import Stream

from kit.bus import Bus
from kit.grammar import judge_broker
from kit.loop import settle, wait_exit, wait_for
from kit.recorder import Recorder

MIB = 1 << 20


def memory(process):
    """Return the resident bytes of a process."""
    for line in pathlib.Path(f'/proc/{process.pid}/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024
    return 0


class Quiet:
    """Whether a process has used next to no processor time for three times of asking."""

    def __init__(self, process):
        self.process, self.last, self.n = process, -1, 0

    def __call__(self):
        fields = pathlib.Path(f'/proc/{self.process.pid}/stat').read_text().rsplit(')', 1)[1].split()
        ticks = int(fields[11]) + int(fields[12])
        self.n = self.n + 1 if ticks - self.last < 2 else 0
        self.last = ticks
        return self.n >= 3


class Large(BusCase):
    """More than fits into a message."""

    CONNECT = ('sim:///1500?xml-size=20000',)

    def test_snapshot_with_xml(self):
        message = self.manager_refused('LimitsExceeded', 'GetSnapshot', '(a{sv})', {'xml': GLib.Variant('b', True)})
        self.assertIn('Watch', message)
        # what fits is answered, as ever
        self.assertGreaterEqual(len(self.vireod.snapshot()[2]), 1500)
        some = [p for p in self.objects('Domain')][:100]
        part = self.vireod.snapshot(xml=GLib.Variant('b', True), objects=GLib.Variant('ao', some))[2]
        self.assertEqual(len(part), 100)

    def test_events_with_xml_come_in_pages(self):
        epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        cursor, pages, versions = self.vireod.get(MANAGER, 'Manager', 'OldestVersion'), 0, []
        more = True
        while more:
            cursor, more, events = self.vireod.manager('GetEvents', '(stuta{sv})', epoch, cursor, 0, 0,
                                                       {'xml': GLib.Variant('b', True)})
            versions += [e[0] for e in events]
            pages += 1
        self.assertGreater(pages, 2)
        self.assertEqual(versions, sorted(set(versions)))
        self.assertEqual(versions, list(range(versions[0], versions[-1] + 1)))
        self.assertEqual(cursor, self.vireod.get(MANAGER, 'Manager', 'Version'))


class LargeLines(BusCase):
    """Lines of streams that are much larger than most."""

    CONNECT = ('sim:///80?xml-size=1000000',)

    def test_they_are_not_kept(self):
        before = memory(self.vireod.process)
        stream = Stream(self.vireod, xml=GLib.Variant('b', True), heartbeat=GLib.Variant('t', 100000),
                        epoch=GLib.Variant('s', self.vireod.get(MANAGER, 'Manager', 'Epoch')),
                        after=GLib.Variant('t', self.vireod.get(MANAGER, 'Manager', 'OldestVersion')))
        self.addCleanup(stream.close)
        stream.until(lambda line: line['type'] == 'org.vireo1.Bookmark')
        grown = memory(self.vireod.process) - before
        large = sum(len(line['data'].get('xml', '')) > MIB * 0.9 for line in stream.lines)
        self.assertGreaterEqual(large, 80)
        if memory_means_something(self.vireod.process):
            self.assertLess(grown, 40 * MIB)


class Stuck(BusCase):
    """A bus that takes nothing for a while: signals wait in history, memory is bounded, nothing is lost."""

    CONNECT = ('sim:///200',)
    ACTIONS = 20000

    def test_signals_are_held_and_sent_later(self):
        start = self.vireod.get(MANAGER, 'Manager', 'Version')
        before = memory(self.vireod.process)
        self.vireod.manager('Open', '(sa{sv})', f'sim:///50?flood=0&count={self.ACTIONS}', {'async': GLib.Variant('b', True)})
        self.bus.process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: 'held back' in self.vireod.log(), poll=0.1, what='it says so')
            quiet = Quiet(self.vireod.process)
            wait_for(quiet, poll=1, limit=120, what='it has nothing left to do')
            grown = memory(self.vireod.process) - before
        finally:
            self.bus.process.send_signal(signal.SIGCONT)
        wait_for(Quiet(self.vireod.process), poll=1, limit=120, what='all of it has happened')
        end = self.vireod.get(MANAGER, 'Manager', 'Version')
        self.assertGreater(end - start, self.ACTIONS // 4)
        self.vireod.recorder.wait_version(end, limit=120)
        versions = [e.version for e in self.vireod.recorder.of(after=start)]
        self.assertEqual(versions, list(range(start + 1, versions[-1] + 1)), 'every one, once, in order')
        wait_for(lambda: self.vireod.recorder.bookmark >= end, what='a bookmark')
        self.assertIn('takes signals again', self.vireod.log())
        # all that was waiting in its queue at most, and what SQLite keeps at hand
        if memory_means_something(self.vireod.process):
            self.assertLess(grown, 100 * MIB)
        # what was read from history again was told as exactly as ever, PropertiesChanged too
        story = judge_broker(self.vireod, self.vireod.recorder)
        self.assertEqual(story.violations[:10], [])
        # signals of the run after are as complete as ever
        last = {e.path: e for e in self.vireod.recorder.events}
        for path, (kind, properties) in self.vireod.snapshot()[2].items():
            if path in last and kind != 'Job':
                self.assertEqual(last[path].properties, properties)


class TightBus(Bus):
    """A dbus-daemon that stops reading from who has 1 MB under way, instead of 127."""

    def _config(self, services, include):
        text = super()._config(services, include)
        return re.sub(r'(<limit name="max_incoming_bytes">)\d+', r'\g<1>1000000', text)


class StuckReader(BusCase):
    """One listener stops reading: dbus-daemon then takes nothing more from us, for anybody. Streams go on all the same."""

    CONNECT = ('sim:///100',)
    bus_class = TightBus

    def listener(self):
        """Start one that listens, and return it when it has heard something."""
        listener = self.scope.spawn(['gdbus', 'monitor', '--address', self.bus.address, '--dest', NAME],
                                    stdout=subprocess.PIPE)
        listener.stdout.readline()
        listener.stdout.readline()
        domain = self.some('Domain')
        while not select.select([listener.stdout], [], [], 0.1)[0]:
            autostart = self.vireod.get(domain, 'Domain', 'Autostart')
            self.vireod.call(domain, f'{NAME}.Domain', 'SetAutostart', '(ba{sv})', not autostart, {})
        return listener

    def test_streams_go_on_and_signals_catch_up(self):
        listener = self.listener()
        before = self.vireod.log().count('held back')
        stream = Stream(self.vireod)
        start = self.vireod.sync()
        listener.send_signal(signal.SIGSTOP)
        self.vireod.manager('Open', '(sa{sv})', 'sim:///50?storm=2000&count=20000', {'async': GLib.Variant('b', True)})
        # what comes by the stream goes on, when what comes by signals has stopped
        stream.until(lambda line: self.vireod.log().count('held back') > before)
        settle(quiet=0.3, changed=lambda: len(self.vireod.recorder.messages))
        heard = self.vireod.recorder.events[-1].version
        stream.until_version(heard + 2500)
        settle(quiet=0.3, changed=lambda: len(self.vireod.recorder.messages))
        self.assertEqual(self.vireod.recorder.events[-1].version, heard)
        listener.kill()
        wait_for(lambda: 'takes signals again' in self.vireod.log(), limit=120, poll=0.2, what='it recovers')
        end = self.vireod.get(MANAGER, 'Manager', 'Version')
        self.vireod.recorder.wait_version(end, limit=120)
        versions = [e.version for e in self.vireod.recorder.of(after=start)]
        self.assertEqual(versions, list(range(start + 1, versions[-1] + 1)), 'every one, once, in order')
        stream.close()


    def test_it_can_be_stopped_all_the_same(self):
        listener = self.listener()
        listener.send_signal(signal.SIGSTOP)
        before = self.vireod.log().count('held back')
        self.vireod.manager('Open', '(sa{sv})', 'sim:///40?storm=2000&count=20000', {'async': GLib.Variant('b', True)})
        wait_for(lambda: self.vireod.log().count('held back') > before, limit=120, poll=0.2, what='it is held back')
        self.vireod.process.send_signal(signal.SIGTERM)
        self.assertEqual(wait_exit(self.vireod.process, limit=15), 0)
        listener.kill()
        self.assertEqual(self.vireod.stop(), 0)  # it has ended; this waits until the recorder has heard so
        self.vireod.start()


class Private(BusCase):
    """Broadcast=no: nothing for those who did not subscribe; all for those who did."""

    @classmethod
    def setUpClass(cls):
        config = pathlib.Path('/tmp') / f'vireo-private-{GLib.uuid_string_random()}.conf'
        config.write_text('[broker]\nBroadcast=no\n')
        cls.ARGUMENTS = (f'--config={config}',)
        cls.addClassCleanup(config.unlink)
        super().setUpClass()

    def toggle(self):
        path = self.some('Domain', Persistent=True)
        method = 'Destroy' if self.vireod.get(path, 'Domain', 'Active') else 'Start'
        return path, self.vireod.call(path, f'{NAME}.Domain', method, '(a{sv})', {})[1]

    def test_only_subscribers_hear(self):
        self.assertIn('private', self.vireod.get(MANAGER, 'Manager', 'Features'))

        class Subscriber(Recorder):
            def subscribe(self, **options):
                self._connection.call_sync(NAME, MANAGER, f'{NAME}.Manager', 'Subscribe', GLib.Variant('(a{sv})', (options,)),
                                           None, 0, 10000, None)

            def unsubscribe(self):
                self._connection.call_sync(NAME, MANAGER, f'{NAME}.Manager', 'Unsubscribe', None, None, 0, 10000, None)

        everything, jobs, gone = Subscriber(self.bus), Subscriber(self.bus), Subscriber(self.bus)
        everything.subscribe()
        jobs.subscribe(kinds=GLib.Variant('as', ['job']))
        gone.subscribe()
        gone.unsubscribe()
        start = self.vireod.get(MANAGER, 'Manager', 'Version')
        path, version = self.toggle()
        everything.wait_version(version)
        wait_for(lambda: everything.bookmark >= version and jobs.bookmark >= version, what='bookmarks')
        self.assertEqual([e.version for e in everything.events], list(range(start + 1, everything.events[-1].version + 1)))
        self.assertEqual({e.kind for e in jobs.events}, {'Job'})
        self.assertEqual([e.version for e in jobs.events], [e.version for e in everything.events if e.kind == 'Job'])
        settle(quiet=0.3, changed=lambda: len(gone.messages))
        self.assertEqual(gone.messages, [])
        self.assertEqual(self.vireod.recorder.events, [])
        self.assertIn(path, {e.path for e in everything.events})
        for recorder in (everything, jobs, gone):
            recorder.close()
        # who has left is forgotten
        self.toggle()
        self.assertEqual(Client(self.bus).get(MANAGER, 'Manager', 'Epoch'), self.vireod.get(MANAGER, 'Manager', 'Epoch'))


if __name__ == '__main__':
    main()
