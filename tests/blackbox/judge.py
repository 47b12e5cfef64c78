# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Whether what many clients were told is one and the same story, of which none of them missed anything that it asked for.

Written from doc/contract.md alone. It takes what clients wrote down (story.Record) and knows neither the bus nor the broker.
"""

import bisect
import collections
import dataclasses

from story import (Asked, Digested, Event, Filter, Heard, Listed, Mark, Refused, Run, Since, Viewed, apply)


@dataclasses.dataclass
class Told:
    """All tellings of one version: the first that had everything, the first signal, the first that had XML."""
    full: Event = None
    said: Event = None
    texts: tuple = None
    by: str = ''

    @property
    def event(self):
        return self.full or self.said


@dataclasses.dataclass(eq=False)
class Segment:
    """What one client knew from a listing on, up to where it had to list anew."""
    who: str
    filter: Filter
    base: Listed
    events: dict = dataclasses.field(default_factory=dict)
    complete: int = 0

    def after(self):
        return [self.events[v] for v in sorted(self.events) if v > self.base.version]

    def fold(self, version):
        """Return what there was at a version, by this client's own knowledge."""
        objects = dict(self.base.objects)
        for event in self.after():
            if event.version > version:
                break
            apply(objects, event)
        return objects


def differences(got, wanted, texts):
    """Say how two {path: Object} differ, in a few words; None: they don't."""
    for path in sorted(set(got) | set(wanted)):
        if path not in got:
            return f'{path} is missing ({len(got)} objects, {len(wanted)} are wanted)'
        if path not in wanted:
            return f'{path} does not exist, but is there ({len(got)} objects, {len(wanted)} are wanted)'
        a, b = got[path], wanted[path]
        if a.kind != b.kind:
            return f'{path} is a {a.kind}, not a {b.kind}'
        for key in sorted(set(a.properties) | set(b.properties)):
            if a.properties.get(key) != b.properties.get(key):
                return f'{key} of {path} is {a.properties.get(key)!r}, not {b.properties.get(key)!r}'
        if texts and a.texts != b.texts:
            return f'the XML of {path} is another: {a.texts}, not {b.texts}'
    return None


class Judge:
    """Judges at once; `violations` says what was wrong, `counts` how much was looked at."""

    def __init__(self, records, digest, max_events=0, epochs_lost=()):
        self.violations = []
        self.counts = collections.Counter()
        self.records = records
        self._digest = digest
        self._max_events = max_events
        self._lost = set(epochs_lost)
        self._book = collections.defaultdict(dict)  # epoch -> version -> Told
        self._versions = {}  # epoch -> sorted versions
        self._segments = []
        for record in records:
            self._read(record)
        self._versions = {epoch: sorted(told) for epoch, told in self._book.items()}
        self.counts['events'] = sum(map(len, self._versions.values()))
        self._check_tellings()
        for record in records:
            self._check_runs(record)
        for segment in self._segments:
            self._check_chain(segment)
        self._check_cuts()
        self._check_refusals()

    def whole(self, who=None):
        """Return the segments of those who heard everything, or of one of them."""
        return [s for s in self._segments if s.filter.everything and s.filter.xml and who in (None, s.who)]

    def _wrong(self, promise, who, text):
        self.violations.append(f'{promise}: {who}: {text}')

    # What each one wrote down, in its order

    def _read(self, record):
        who, segment = record.name, None
        seen = collections.Counter()  # epoch -> the highest version that this client knows to be past
        for entry in record.log:
            if isinstance(entry, Heard):
                self._take(record, entry.run, entry.event)
                if segment and segment.base.epoch == entry.run.epoch:
                    segment.events.setdefault(entry.event.version, entry.event)
                self._reach(segment, entry.run, entry.event.version)
            elif isinstance(entry, Mark):
                self._mark(who, entry.run, entry.version)
                self._reach(segment, entry.run, entry.version)
                if entry.run.way != 'signals':
                    seen[entry.run.epoch] = max(seen[entry.run.epoch], entry.version)
            elif isinstance(entry, Since):
                if entry.run.after is None:
                    entry.run.after = entry.version
            elif type(entry) is Listed:  # pylint: disable=unidiomatic-typecheck
                if entry.version < seen[entry.epoch]:
                    self._wrong('P13', who, f'a listing at {entry.version}, after version {seen[entry.epoch]} was known')
                seen[entry.epoch] = max(seen[entry.epoch], entry.version)
                segment = Segment(who, record.filter, entry, complete=entry.version)
                self._segments.append(segment)

    @staticmethod
    def _reach(segment, run, version):
        """Up to there nothing is missing: what is read is in order. (Signals promise no more than their bookmarks.)"""
        if run.way == 'signals' or run.after is None:
            return
        run.complete = max(run.complete, version)
        if segment and segment.base.epoch == run.epoch and run.after <= segment.complete:
            segment.complete = max(segment.complete, version)

    def _take(self, record, run, event):
        """One event came."""
        who = f'{record.name} ({run.way})'
        if event.version <= run.last:
            self._wrong('P1', who, f'{event} comes after version {run.last}')
        elif run.after is not None and event.version <= run.after:
            self._wrong('P14', who, f'{event} comes, but was followed from {run.after}')
        run.last = max(run.last, event.version)
        run.heard.add(event.version)
        if event.previous >= event.version:
            self._wrong('P4', who, f'{event}: the version before it is not below')
        if event.properties.get('Version') != event.version:
            self._wrong('P4', who, f'{event}: its Version is {event.properties.get("Version")}')
        if not record.filter.wants(event):
            self._wrong('P14', who, f'{event} is not what it asked for ({record.filter})')
        if event.texts != (None, None) and (event.public or not record.filter.xml):
            self._wrong('P24' if event.public else 'P14', who, f'{event} has XML, which was not asked for')
        told = self._book[run.epoch].setdefault(event.version, Told(by=who))
        slot = 'said' if event.public else 'full'
        first = getattr(told, slot)
        if first is None:
            setattr(told, slot, event)
        elif first.core() != event.core() or first.details != event.details:
            self._wrong('P1', who, f'{event} is told otherwise than to {told.by}: {first} '
                                   f'{self._how(first, event)}')
        if record.filter.xml and not event.public:
            if told.texts is None:
                told.texts = event.texts
            elif told.texts != event.texts:
                self._wrong('P4', who, f'{event} comes with another XML than to {told.by}: {event.texts}, not {told.texts}')

    @staticmethod
    def _how(a, b):
        for key in ('timestamp', 'inferred', 'details'):
            if getattr(a, key) != getattr(b, key):
                return f'({key}: {getattr(a, key)}, {getattr(b, key)})'
        for key in sorted(set(a.properties) | set(b.properties)):
            if a.properties.get(key) != b.properties.get(key):
                return f'({key}: {a.properties.get(key)!r}, {b.properties.get(key)!r})'
        return ''

    def _mark(self, who, run, version):
        if version < run.last:
            self._wrong('P14', f'{who} ({run.way})', f'a bookmark at {version}, after version {run.last}')
        run.last = max(run.last, version)
        run.complete = max(run.complete, version)
        if run.after is None:
            run.after = version

    # Against each other

    def _between(self, epoch, after, upto):
        versions = self._versions.get(epoch, [])
        return versions[bisect.bisect_right(versions, after):bisect.bisect_right(versions, upto)]

    def _check_tellings(self):
        for told in (t for book in self._book.values() for t in book.values()):
            if told.full and told.said:
                if told.full.core() != told.said.core():
                    self._wrong('P4', told.by, f'{told.full} is otherwise as a signal: {told.said} '
                                               f'{self._how(told.full, told.said)}')
                elif not told.said.details.items() <= told.full.details.items():
                    self._wrong('P4', told.by, f'{told.full}: the signal\'s details {told.said.details} are not among '
                                               f'{told.full.details}')

    def _check_runs(self, record):
        """Everything that anybody heard, and that matches, has come."""
        for run in (e for e in record.log if isinstance(e, Run)):
            if run.after is None or run.complete <= run.after:
                continue
            self.counts['runs'] += 1
            book = self._book[run.epoch]
            missing = [v for v in self._between(run.epoch, run.after, run.complete)
                       if v not in run.heard and record.filter.wants(book[v].event)]
            for version in missing[:3]:
                self._wrong('P14', f'{record.name} ({run.way})',
                            f'{book[version].event} never came, which {book[version].by} heard; it followed {record.filter} '
                            f'from {run.after} to {run.complete} ({len(missing)} missing)')

    def _check_chain(self, segment):
        """Each event says which version the client must know of that object."""
        if segment.filter.events:
            return
        known = {path: o.version for path, o in segment.base.objects.items()}
        for event in segment.after():
            # what came ahead by signals, beyond what is known to be complete, may have holes before it
            if event.version > segment.complete:
                break
            wanted = known.get(event.path, 0)
            if event.previous != wanted:
                self._wrong('P4', segment.who, f'{event}: but {wanted or "nothing"} was known of it')
            if (event.name == 'Added') != (wanted == 0):
                self._wrong('P8', segment.who, f'{event}: {"it is there already" if wanted else "it was never added"}')
            if event.name == 'Removed':
                known.pop(event.path, None)
            else:
                known[event.path] = event.version

    # Snapshots, replicas and digests: what is there at a version

    def _check_cuts(self):
        checks = []
        for record in self.records:
            for entry in record.log:
                if isinstance(entry, Listed):
                    checks.append((entry, record.name, entry.filter if isinstance(entry, Asked) else record.filter))
                elif isinstance(entry, Digested):
                    checks.append((entry, record.name, entry.filter))
        whole = self.whole()
        groups = collections.defaultdict(list)
        for check in checks:
            entry = check[0]
            covering = [s for s in whole if s.base.epoch == entry.epoch and s.base.version <= entry.version <= s.complete]
            if not covering:
                self.counts['cuts beyond what is known'] += 1
            # not against itself alone, where somebody else knows it too
            for segment in covering[:3]:
                groups[id(segment)].append((segment, *check))
        for group in groups.values():
            self._walk(group[0][0], sorted(((e, w, f) for _, e, w, f in group), key=lambda c: c[0].version))
        self._check_own_digests()

    def _walk(self, segment, checks):
        objects, events = dict(segment.base.objects), iter(segment.after())
        event = next(events, None)
        for entry, who, wanted in checks:
            while event and event.version <= entry.version:
                apply(objects, event)
                event = next(events, None)
            there = {p: o for p, o in objects.items() if wanted.wants_object(p, o)}
            if isinstance(entry, Digested):
                self.counts['digests'] += 1
                self._compare_digest(entry, who, there, f'{segment.who} knows')
                continue
            self.counts['views' if isinstance(entry, Viewed) else 'listings'] += 1
            text = differences(entry.objects, there, wanted.xml)
            if text:
                self._wrong('P13', who, f'{"its copy" if isinstance(entry, Viewed) else "its listing"} at {entry.version} '
                                        f'is not what {segment.who} knows from {segment.base.version} on: {text}')

    def _compare_digest(self, entry, who, objects, what):
        sha = self._digest([(p, f'org.vireo1.{o.kind}', o.properties) for p, o in objects.items()])
        if sha != entry.sha:
            self._wrong('P17', who, f'the digest of {entry.filter} at {entry.version} is {entry.sha}, but of what {what} '
                                    f'it is {sha}')

    def _check_own_digests(self):
        for record in self.records:
            own = [s for s in self._segments if s.who == record.name]
            for entry in record.log:
                if not isinstance(entry, Digested) or entry.filter != record.filter or record.filter.events:
                    continue
                for segment in own:
                    if segment.base.epoch == entry.epoch and segment.base.version <= entry.version <= segment.complete:
                        self.counts['digests of own copies'] += 1
                        self._compare_digest(entry, record.name, segment.fold(entry.version), 'it holds itself')

    # Errors

    def _check_refusals(self):
        for record in self.records:
            for entry in record.log:
                if isinstance(entry, Refused):
                    self.counts[entry.error] += 1
                    self._check_refusal(record.name, entry)

    def _check_refusal(self, who, entry):
        what = f'{entry.call} from {entry.after} was refused with {entry.error}'
        if entry.error == 'Gone':
            if entry.after >= entry.oldest:
                self._wrong('P14', who, f'{what}, though {entry.oldest} is the oldest')
            kept = self._between(entry.epoch, entry.oldest, entry.now)
            covered = any(s.filter.everything and s.base.epoch == entry.epoch and s.base.version <= entry.oldest and
                          s.complete >= entry.now for s in self._segments)
            # what nobody heard had a version of its own
            most = len(kept) if covered else entry.now - entry.oldest
            if entry.epoch_now == entry.epoch and most < self._max_events:
                self._wrong('P14', who, f'{what}, when only {most} events are kept, from {entry.oldest} to {entry.now}')
        elif entry.error == 'EpochChanged':
            if entry.epoch not in self._lost:
                self._wrong('P3', who, f'{what}, though the store of {entry.epoch} was never lost')
        else:
            # what it goes on from, it was told
            self._wrong('P14', who, f'{what}, which it had been told')
