# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Clients that follow the broker, each in its own way, by what doc/following.md tells them, and write down all that they are told.

They leave and come back at random moments, read slowly or not at all for a while, and lose the broker whenever it dies.
"""

import re
import socket
import time

from gi.repository import Gio, GLib

from story import (KINDS, Asked, Digested, Filter, Object, Refused, apply, object_of, of_get_events, of_line, of_signal, texts_of)
from tasks import Call, Lines, Lost, Refusal

NAME = 'org.vireo1'
ROOT = '/org/vireo1'
TYPES = {'kinds': 'as', 'connections': 'ao', 'objects': 'ao', 'events': 'as'}


class Away(Exception):
    """The client has had enough for now."""


def options(wanted, **more):
    """Return the options of a call that asks for what a Filter says."""
    given = {key: GLib.Variant(signature, list(getattr(wanted, key))) for key, signature in TYPES.items()
             if getattr(wanted, key)}
    if wanted.xml:
        given['xml'] = GLib.Variant('b', True)
    return given | more


def without(given, *keys):
    return {k: v for k, v in given.items() if k not in keys}


class Client:
    """A connection to the bus, and calls to the broker that had the name when it was made."""

    def __init__(self, world, name, wanted, random):
        self.world, self.name, self.filter, self.random = world, name, wanted, random
        self.record = world.record(name, wanted)
        self.connection = self.owner = None
        self.done = False

    async def run(self):
        """Live until there is nothing more to follow."""
        owner = None
        while not self.done:
            lost = owner
            await self.world.bell.until(lambda l=lost: self.world.owner and self.world.owner != l,
                                        f'{self.name}: a broker, other than {lost}', 180)
            owner = self.open()
            try:
                await self.live()
                owner = None
            except Lost:
                pass
            except Away:
                owner = None
                self.close()
                await self.nap()
            finally:
                self.close()

    def open(self):
        self.owner = self.world.owner
        self.connection = self.world.bus.connect()
        self.connection.set_exit_on_close(False)
        return self.owner

    def close(self):
        if self.connection is not None:
            self.connection.close(None, None)
            self.connection = None

    async def live(self):
        """Overridden."""
        raise NotImplementedError

    async def call(self, method, signature='(a{sv})', *arguments, path=ROOT, interface='Manager', limit=60):
        """Call a method; return its results and the descriptors that came with them."""
        interface = interface if '.' in interface else f'{NAME}.{interface}'
        return await Call(self.connection, self.owner, path, interface, method, GLib.Variant(signature, arguments), limit)

    async def ask(self, *arguments, **more):
        """Call a method; return its results: of one, the value itself."""
        values, _ = await self.call(*arguments, **more)
        return None if not values else values[0] if len(values) == 1 else values

    async def get(self, name):
        return await self.ask('Get', '(ss)', f'{NAME}.Manager', name, interface='org.freedesktop.DBus.Properties')

    async def nap(self, most=5):
        """Sleep for some rounds; mostly for none."""
        world, until = self.world, self.world.round + min(most, self.random.choice((0, 0, 1, 1, 2, 3, 5)))
        await world.bell.until(lambda: world.round >= until or world.final, f'{self.name}: round {until}', world.patience)

    def leaves(self, chance):
        """Whether it goes now: never at the end, when all have to come to the end."""
        return not self.world.final and self.random.random() < chance * self.world.mischief

    async def snapshot(self, wanted):
        """Return (epoch, version, {path: Object})."""
        epoch, version, rows = await self.ask('GetSnapshot', '(a{sv})', without(options(wanted), 'events'))
        return epoch, version, {path: object_of(interface.rsplit('.', 1)[1], p) for path, interface, p in rows}

    async def digest(self, wanted):
        version, sha = await self.ask('Digest', '(a{sv})', without(options(wanted), 'events', 'xml'))
        self.record.log.append(Digested(await self.get('Epoch'), version, sha, wanted))
        return version


class Follower(Client):
    """Has a copy of what it asked for, and keeps it right."""

    def __init__(self, *arguments, steady=False, forgetful=False):
        super().__init__(*arguments)
        self.steady = steady  # never leaves by itself
        self.forgetful = forgetful  # always lists anew
        self.epoch, self.cursor, self.objects = None, 0, {}

    def leaves(self, chance):
        return not self.steady and super().leaves(chance)

    async def nap(self, most=5):
        await super().nap(most)
        if self.connection is None and (self.forgetful or self.leaves(0.2)):
            self.epoch = None  # what it had is forgotten

    async def list(self):
        self.epoch, self.cursor, self.objects = await self.snapshot(self.filter)
        self.record.listed(self.epoch, self.cursor, dict(self.objects))
        self.world.saw(self.epoch, self.cursor, 0)

    def hear(self, run, event):
        """Write an event down, and apply it unless it is known already."""
        self.record.heard(run, event)
        known = self.objects.get(event.path)
        if known is None or event.version > known.version:
            apply(self.objects, event)
        self.world.saw(run.epoch, event.version, 1 if self.steady else 0)

    async def refused(self, call, refusal, oldest=0, epoch=None):
        """Going on was refused: write down why, and list anew."""
        numbers = re.findall(r'\d+', refusal.message)
        self.record.log.append(Refused(call, epoch or self.epoch, self.cursor, refusal.name, oldest or int(numbers[-1] if numbers else 0),
                                       await self.get('Version'), await self.get('Epoch')))
        self.epoch = None

    def at_end(self):
        final = self.world.final
        return final and self.epoch == final[0] and self.cursor >= final[1]

    async def prove(self):
        """Nothing more will happen: what it has must be what there is."""
        if not self.filter.events:
            self.record.viewed(self.epoch, self.cursor, dict(self.objects))
            await self.digest(self.filter)
        self.done = True


class Poller(Follower):
    """Follows by GetEvents."""

    async def live(self):
        if self.epoch is None:
            await self.list()
        run = self.record.begin('poll', self.epoch, self.cursor)
        while not self.done:
            try:
                if not await self.poll(run):
                    return
            except Refusal as refusal:
                await self.refused('GetEvents', refusal)
                return
            if self.at_end():
                await self.prove()
            elif not self.filter.events and self.leaves(0.05):
                await self.digest(self.filter)
            if self.leaves(0.05):
                raise Away

    async def poll(self, run):
        """Ask once. Return whether this run goes on."""
        most = self.random.choice((0, 0, 1, 7, 100))
        timeout = self.random.choice((0, 10_000, 300_000, 1_000_000)) if not self.steady else 1_000_000
        arguments = ('(stuta{sv})', self.epoch, self.cursor, most, timeout, options(self.filter))
        if self.leaves(0.02):
            # gone before the answer
            self.connection.call(self.owner, ROOT, f'{NAME}.Manager', 'GetEvents', GLib.Variant(arguments[0], arguments[1:]),
                                 None, Gio.DBusCallFlags.NONE, 30000, None, None)
            raise Away
        began, known = time.monotonic(), self.world.latest.get(self.epoch, 0)
        version, more, rows = await self.ask('GetEvents', *arguments)
        waited = (time.monotonic() - began) * 1e6
        assert not most or len(rows) <= most, f'{self.name}: {len(rows)} events, but {most} at most were asked for'
        assert rows or not more, f'{self.name}: there are more events, but it got none'
        assert more or version >= known, f'{self.name}: no more behind {version}, but {known} was known before it asked'
        assert rows or waited >= timeout, f'{self.name}: nothing, after {waited:.0f} of {timeout} µs'
        part = self.random.randrange(len(rows)) if rows and self.leaves(0.03) else None
        for row in rows[:part]:
            event = of_get_events(row)
            self.hear(run, event)
            self.cursor = event.version
        if part is not None:
            raise Away  # in the middle of them
        self.cursor = version
        self.record.mark(run, version)
        return True


class Stream(Follower):
    """Follows by Watch."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self._lines = None
        self._ids = set()

    def close(self):
        super().close()
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    async def live(self):
        heartbeat = GLib.Variant('t', self.random.choice((100_000, 250_000, 700_000)))
        if self.epoch is None and self.random.random() < 0.3:
            await self.list()
        initial = self.epoch is None
        where = {'initial': GLib.Variant('b', True)} if initial else \
            {'epoch': GLib.Variant('s', self.epoch), 'after': GLib.Variant('t', self.cursor)}
        if initial and self.filter.events:
            # a snapshot and some of the events make no copy
            where = {}
        try:
            handles, descriptors = await self.call('Watch', '(a{sv})', options(self.filter, heartbeat=heartbeat, **where))
        except Refusal as refusal:
            await self.refused('Watch', refusal)
            return
        self._lines = Lines(socket.socket(fileno=descriptors[handles[0]]))
        run = self.record.begin('stream', self.epoch, None if self.epoch is None else self.cursor)
        if initial:
            self.objects, self.cursor = {}, 0
        await self.read(run, initial and bool(where))

    async def read(self, run, initial):
        sequence, ids = 0, set()
        while not self.done:
            line = await self._lines.next(f'{self.name}: a line of its stream, which has a heartbeat')
            if line is None:
                raise Lost
            sequence += 1
            assert line['data']['sequence'] == sequence, f'{self.name}: line {sequence} has number {line["data"]["sequence"]}'
            assert line['id'] not in ids, f'{self.name}: two lines have the id {line["id"]}'
            ids.add(line['id'])
            epoch = line['source'].rsplit(':', 1)[1]
            assert run.epoch in (None, epoch), f'{self.name}: a line of epoch {epoch} in a stream of {run.epoch}'
            run.epoch = epoch
            if line['type'] == f'{NAME}.Gone':
                await self.refused('the stream', Refusal('org.vireo1.Error.Gone', ''), line['data']['oldest'],
                                   epoch)
                return
            initial = self.take(run, line, initial)
            if self.at_end():
                await self.prove()
            elif self.epoch and not self.filter.events and self.leaves(0.002):
                await self.digest(self.filter)
            await self.dawdle(initial)

    def take(self, run, line, initial):
        """One line. Return whether this is still the listing."""
        kind, _, what = line['type'].removeprefix(f'{NAME}.').partition('.')
        data = line['data']
        if what == 'Snapshot':
            assert initial, f'{self.name}: {line} behind the first bookmark'
            thing = object_of(kind, data['properties'])
            self.objects[line['subject']] = Object(kind, thing.properties, texts_of(data.get('xml'), data.get('xmlInactive')))
        elif kind == 'Bookmark':
            self.cursor = data['version']
            if initial:
                self.epoch = run.epoch
                self.record.listed(self.epoch, self.cursor, dict(self.objects))
            elif self.epoch is None:
                self.epoch = run.epoch  # a stream without a beginning can be resumed from here
            self.record.mark(run, self.cursor)
            self.world.saw(run.epoch, self.cursor, 0)
            return False
        else:
            event = of_line(line)
            assert line['id'] == str(event.version), f'{self.name}: the id of {event} is {line["id"]}'
            self.hear(run, event)
            if not initial and self.epoch is not None:
                self.cursor = event.version
        return initial

    async def dawdle(self, initial):
        """Leave, or read slowly for a while, or not at all."""
        if self.leaves(0.006):
            raise Away
        if initial and self.leaves(0.1 if self.forgetful else 0.03):
            # the story goes on in the middle of the listing
            await self.nap(1)
        if self.leaves(0.01):
            self._lines.most = self.random.choice((3, 100, 4096))
        elif self._lines.most < 1 << 16 and self.leaves(0.1) or self.world.final:
            self._lines.most = 1 << 16
        if self.leaves(0.004):
            await self.nap()


class Listener(Follower):
    """Follows by signals, and by GetEvents where they leave a doubt."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self._run = self._subscription = None
        self._calling = self._doubt = self._gone = False

    def rules(self):
        """Return the match rules that say what the filter says."""
        base = f"type='signal',sender='{NAME}'"
        paths = [f"path='{p}'" for p in self.filter.objects] + [f"path_namespace='{p}'" for p in self.filter.connections]
        yield f"{base},interface='{NAME}.Manager',member='Bookmark'"
        yield f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{NAME}'"
        for kind in self.filter.kinds or KINDS:
            words = [event.rpartition('.') for event in self.filter.events]
            members = [f"member='{member}'" for of, _, member in words if of in ('', KINDS[kind])]
            for member in members or ([] if words else [None]):
                for path in paths or [None]:
                    yield ','.join(filter(None, [base, f"interface='{NAME}.{KINDS[kind]}'", path, member]))

    def close(self):
        if self.connection is not None and self._subscription:
            self.connection.signal_unsubscribe(self._subscription)
        self._subscription = self._run = None
        super().close()

    async def live(self):
        # subscribe first, then list
        self._calling, self._gone = True, False
        self._subscription = self.connection.signal_subscribe(None, None, None, None, None, Gio.DBusSignalFlags.NO_MATCH_RULE,
                                                              self.signalled)
        for rule in self.rules():
            await Call(self.connection, 'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'AddMatch',
                       GLib.Variant('(s)', (rule,)))
        if self.world.owner != self.owner:
            raise Lost
        if self.epoch is None:
            await self.list()
        elif not await self.repair():
            return
        self._run = self.record.begin('signals', self.epoch, self.cursor)
        self._calling = self._doubt = False
        await self.listen()

    async def listen(self):
        world = self.world
        while not self.done:
            heard, upto = world.heard, self.random.randrange(400)
            await world.bell.until(lambda: self._doubt or self._gone or world.final or world.heard > heard + upto,
                                   f'{self.name}: signals', world.patience)
            if self._gone:
                raise Lost
            if self.leaves(0.1):
                raise Away
            if not (self._doubt or world.final or self.leaves(0.1)):
                continue
            if not await self.repair():
                return
            if self.at_end():
                await self.prove()
            elif not self.filter.events and self.leaves(0.2):
                await self.digest(self.filter)

    async def repair(self):
        """Ask for everything since it was last known to be complete. Return False when it has to list anew."""
        self._calling, self._doubt = True, False
        try:
            run, more = self.record.begin('poll', self.epoch, self.cursor), True
            while more:
                version, more, rows = await self.ask('GetEvents', '(stuta{sv})', self.epoch, self.cursor, 0, 0,
                                                     options(self.filter))
                for row in rows:
                    self.hear(run, of_get_events(row))
                self.cursor = version
                self.record.mark(run, version)
        except Refusal as refusal:
            await self.refused('GetEvents', refusal)
            return False
        finally:
            self._calling = False
        return True

    def signalled(self, _connection, sender, path, interface, member, body):
        if member == 'NameOwnerChanged':
            if body.unpack()[2] != self.owner:
                self._gone = True
                self.world.bell.ring()
            return
        if sender != self.owner or self._run is None or not interface.startswith(f'{NAME}.'):
            return
        if member == 'Bookmark':
            version, = body.unpack()
            self.record.mark(self._run, version)
            doubt = version > self.cursor
        else:
            event = of_signal(path, interface, member, body.unpack())
            self.record.heard(self._run, event)
            doubt = not self.knows(event)
        # what comes while a call is on its way is in the answer
        if doubt and not self._calling:
            self._doubt = True
            self.world.bell.ring()

    def knows(self, event):
        """Apply an event that comes by a signal. Return False when something before it is missing."""
        known = self.objects.get(event.path)
        if self._calling or event.version <= max(self.cursor, known.version if known else 0):
            return True
        if event.previous != (known.version if known else 0):
            return bool(self.filter.events)
        # a signal has no XML: what wants it has to ask
        if self.filter.xml:
            return False
        apply(self.objects, event)
        return True


class Auditor(Client):
    """Lists whatever comes to its mind, has digests made, and asks for what has to be refused."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._probes = 0
        self.probed = 0

    async def live(self):
        world = self.world
        while not self.done:
            await self.random.choice((self.look, self.look, self.hash, self.probe))()
            heard, upto = world.heard, self.random.randrange(10, 150)
            await world.bell.until(lambda: world.owner != self.owner or world.final or world.heard > heard + upto,
                                   f'{self.name}: events', world.patience)
            if world.owner != self.owner:
                raise Lost
            if world.final:
                for act in (self.look, self.hash, self.probe):
                    await act()
                self.done = True

    async def look(self):
        wanted = self.random.choice(self.world.filters)
        self.record.log.append(Asked(*await self.snapshot(wanted), wanted))

    async def hash(self):
        await self.digest(self.random.choice(self.world.filters))

    async def probe(self):
        """Go on from where one can just do so, and from where one just can't."""
        epoch, now = await self.get('Epoch'), await self.get('Version')
        oldest = await self.get('OldestVersion')
        if oldest > 0:
            await self.expect('Gone', epoch, oldest - 1)
        await self.expect('FutureVersion', epoch, now + 1, lambda at: at > now)
        await self.expect('FutureVersion', epoch, 2**53)
        await self.expect('EpochChanged', '%032x' % (int(epoch, 16) ^ 1), now)
        await self.expect('', epoch, now, lambda at: at > now)
        await self.read_from(epoch, oldest)

    async def expect(self, wanted, epoch, after, unless=None):
        """Follow from there, both ways; both must be refused in this way, or not at all. `unless` it has moved on."""
        for method, signature, arguments in (
                ('GetEvents', '(stuta{sv})', (epoch, after, 1, 0, {})),
                ('Watch', '(a{sv})', ({'epoch': GLib.Variant('s', epoch), 'after': GLib.Variant('t', after)},))):
            name = ''
            try:
                _, descriptors = await self.call(method, signature, *arguments)
                for fd in descriptors:
                    socket.socket(fileno=fd).close()
            except Refusal as refusal:
                name = refusal.name
            self.probed += 1
            if name != wanted and not (unless and unless(await self.get('Version'))):
                raise AssertionError(f'{method} from {after} of {epoch}: {name or "no error"}, not {wanted or "none"}')

    async def read_from(self, epoch, oldest):
        """From the oldest version that can be followed everything comes, or it has just gone."""
        wanted = self.random.choice([f for f in self.world.filters if not f.everything])
        self._probes += 1
        record = self.world.record(f'{self.name}, from {oldest}', wanted)
        run, more, cursor = record.begin('poll', epoch, oldest), True, oldest
        try:
            while more:
                cursor, more, rows = await self.ask('GetEvents', '(stuta{sv})', epoch, cursor, 0, 0, options(wanted))
                for row in rows:
                    record.heard(run, of_get_events(row))
                record.mark(run, cursor)
        except Refusal as refusal:
            if refusal.name != 'Gone' or await self.get('OldestVersion') <= cursor:
                raise AssertionError(f'{cursor} of {epoch}, the oldest of all: {refusal}') from None


class Actor(Client):
    """Has operations carried out, so that there are jobs; what becomes of them does not matter to it."""

    METHODS = ('Start', 'Destroy', 'Suspend', 'Resume', 'Shutdown', 'ManagedSave', 'SetAutostart')

    async def live(self):
        world = self.world
        while not world.final:
            if self.random.random() < 0.05:
                await self.open_or_close()
            path = self.random.choice(world.domains or [f'{ROOT}/connection/none'])
            method = self.random.choice(self.METHODS)
            given = {'async': GLib.Variant('b', True)} if self.random.random() < 0.3 else {}
            arguments = ('(ba{sv})', self.random.random() < 0.5, given) if method == 'SetAutostart' else ('(a{sv})', given)
            try:
                _, version = await self.ask(method, *arguments, path=path, interface='Domain')
                now = await self.get('Version')
                assert version <= now, f'{method} of {path} is visible at {version}, but the version is {now}'
            except Refusal:
                pass
            heard, upto = world.heard, self.random.randrange(5, 60)
            await world.bell.until(lambda: world.owner != self.owner or world.final or world.heard > heard + upto,
                                   f'{self.name}: events', world.patience)
            if world.owner != self.owner:
                raise Lost
        self.done = True

    async def open_or_close(self):
        """Open a further hypervisor, or close it."""
        label, _, uri = self.world.opened.partition('=')
        path = f'{ROOT}/connection/{label}'
        try:
            if path in await self.get('Connections'):
                await self.ask('Close', '(o)', path)
            else:
                opened = await self.ask('Open', '(sa{sv})', uri, {'label': GLib.Variant('s', label),
                                                                 'async': GLib.Variant('b', self.random.random() < 0.5)})
                assert opened == path, f'{uri} was opened as {opened}, not {path}'
        except Refusal as refusal:
            raise AssertionError(f'{path}: {refusal}') from None
