#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Whether the judge of many clients finds what it is for: what honest clients wrote down of a legal story passes, each kind of
mistake in it is found. And whether the documented digest is one that tells things apart.
"""

import dataclasses
import sys

from judge import Judge
from story import (Asked, Digested, Event, Filter, Heard, Listed, Mark, Object, Record, Refused, Run, Viewed, apply, documented_digest)

EPOCH = 'e' * 32
DIGEST = documented_digest()
CONNECTION = '/org/vireo1/connection/c'
ONE, TWO = f'{CONNECTION}/domain/_1', f'{CONNECTION}/domain/_2'
POOL = f'{CONNECTION}/pool/_1'
KEPT = 10


def story():
    """A legal story of some 30 events, with a domain that goes and comes back."""
    events, versions = [], {}

    def tell(path, name, reason='', kind='Domain', **properties):
        version = len(events) + 1
        properties |= {'Name': path[-1], 'Version': version}
        texts = (f'<{path} {version}/>', None) if kind == 'Domain' else (None, None)
        events.append(Event(version, versions.get(path, 0), kind, path, name, reason, 1000 + version, name == 'Stopped',
                            properties, {'detail': version, 'secret': 'x'}, texts))
        versions[path] = version
        if name == 'Removed':
            del versions[path]
    tell(CONNECTION, 'Added', kind='Connection', State='connected')
    for i in range(4):
        for path in (ONE, TWO):
            tell(path, 'Added', Active=False)
            tell(path, 'Started', 'booted', Active=True)
        tell(POOL, 'Updated' if i else 'Added', kind='StoragePool', Capacity=i)
        for path in (ONE, TWO):
            tell(path, 'Stopped', Active=False)
            if path == ONE or i < 3:
                tell(path, 'Removed', Active=False)
    return events


EVENTS = story()
LAST = EVENTS[-1].version


def at(version, wanted=Filter()):
    """What there is at a version, as one with that filter sees it."""
    objects = {}
    for event in EVENTS[:version]:
        apply(objects, event)
    return {p: o if wanted.xml else dataclasses.replace(o, texts=(None, None)) for p, o in objects.items()
            if wanted.wants_object(p, o)}


def sha(version, wanted):
    return DIGEST([(p, f'org.vireo1.{o.kind}', o.properties) for p, o in at(version, wanted).items()])


def seen(event, wanted, public=False):
    """An event as one with that filter is told it."""
    if public:
        return dataclasses.replace(event, texts=(None, None), public=True, details={'detail': event.version})
    return event if wanted.xml else dataclasses.replace(event, texts=(None, None))


def follow(record, run, after, upto):
    """Write down what an honest broker sends."""
    for event in EVENTS[after:upto]:
        if record.filter.wants(event):
            record.heard(run, seen(event, record.filter, run.way == 'signals'))


def client(name, wanted, way='poll', steps=((3, 12), (12, 20), (20, LAST))):
    """One that lists, follows, and goes on where it was."""
    record = Record(name, wanted)
    if way == 'initial':
        run = record.begin('stream', EPOCH)
        follow(record, run, 3, 6)
        record.listed(EPOCH, 6, at(6, wanted))
        record.mark(run, 6)
        follow(record, run, 6, LAST)
        record.mark(run, LAST)
    else:
        record.listed(EPOCH, steps[0][0], at(steps[0][0], wanted))
        for after, upto in steps:
            run = record.begin(way, EPOCH, None if way == 'signals' else after)
            if way == 'signals':
                record.since(run, after)
            follow(record, run, after, upto)
            record.mark(run, upto)
            if way == 'signals':
                run = record.begin('poll', EPOCH, after)
                follow(record, run, after, upto)
                record.mark(run, upto)
    record.viewed(EPOCH, LAST, at(LAST, wanted))
    record.log.append(Digested(EPOCH, 15, sha(15, wanted), wanted))
    return record


def legal():
    """What honest clients wrote down, by their names."""
    domains = Filter(kinds=('domain',))
    auditor = Record('auditor', Filter())
    for version in (5, 14, LAST):
        auditor.log.append(Asked(EPOCH, version, at(version, domains), domains))
        auditor.log.append(Digested(EPOCH, version, sha(version, domains), domains))
    late = client('late', Filter(), steps=((3, 4),))
    late.log.insert(-2, Refused('GetEvents', EPOCH, 4, 'Gone', 15, LAST, EPOCH))
    late.log = late.log[:-2]
    late.listed(EPOCH, 22, at(22))
    return {r.name: r for r in (
        client('whole', Filter(xml=True), 'stream', ((1, 12), (12, LAST))), client('other', Filter(xml=True)),
        client('initial', Filter(xml=True), 'initial'), client('domains', domains, 'stream'), client('listener', domains, 'signals'),
        client('starts', Filter(events=('Started',))), client('pools', Filter(objects=(POOL,))), auditor, late)}


def judge(records, **more):
    return Judge(list(records.values()), DIGEST, KEPT, **more)


def nth(record, kind, n=0):
    return [i for i, e in enumerate(record.log) if type(e) is kind][n]  # pylint: disable=unidiomatic-typecheck


def changed(who, kind, n=0, /, **values):
    """The legal records, with one entry's fields changed."""
    def make():
        records = legal()
        log = records[who].log
        i = nth(records[who], kind, n)
        if kind is Heard:
            log[i] = Heard(log[i].run, dataclasses.replace(log[i].event, **{
                k: v(getattr(log[i].event, k)) if callable(v) else v for k, v in values.items()}))
        else:
            for k, v in values.items():
                setattr(log[i], k, v(getattr(log[i], k)) if callable(v) else v)
        return records
    return make


def dropped(who, n, kind=Heard):
    """… with one entry left out."""
    def make():
        records = legal()
        del records[who].log[nth(records[who], kind, n)]
        return records
    return make


def everywhere(version, **values):
    """… with one event told otherwise, to everybody alike."""
    def make():
        records = legal()
        for record in records.values():
            for entry in record.log:
                if isinstance(entry, Heard) and entry.event.version == version:
                    entry.event = dataclasses.replace(entry.event, **values)
        return records
    return make


def nowhere(version):
    """… with one event told to nobody."""
    def make():
        records = legal()
        for record in records.values():
            record.log = [e for e in record.log if not (isinstance(e, Heard) and e.event.version == version)]
        return records
    return make


def twice(who, n, later=1):
    """… with one event that comes again."""
    def make():
        records = legal()
        log = records[who].log
        i = nth(records[who], Heard, n)
        log.insert(i + later, log[i])
        return records
    return make


def swapped(who, n):
    def make():
        records = legal()
        log = records[who].log
        i = nth(records[who], Heard, n)
        log[i], log[i + 1] = log[i + 1], log[i]
        return records
    return make


def marked_early(who, n):
    """… with a bookmark before the last event that it promises to have been sent."""
    def make():
        records = legal()
        log = records[who].log
        i = nth(records[who], Mark, n)
        log[i - 1], log[i] = log[i], log[i - 1]
        return records
    return make


def added(who, *entries):
    def make():
        records = legal()
        records[who].log.extend(entries)
        return records
    return make


def without_object(objects):
    return {p: o for p, o in objects.items() if p != ONE}


def other_property(objects):
    return dict(objects, **{ONE: dataclasses.replace(objects[ONE], properties=dict(objects[ONE].properties, Name='other'))})


def other_text(objects):
    return {p: dataclasses.replace(o, texts=('<other/>', None)) for p, o in objects.items()}


ILLEGAL = [
    ('P1', 'an event comes twice, one after the other', twice('other', 4)),
    ('P1', 'an event comes again, later', twice('whole', 4, 3)),
    ('P1', 'events in the wrong order', swapped('domains', 3)),
    ('P1', 'signals in the wrong order', swapped('listener', 3)),
    ('P1', 'a version that tells two clients two things', changed('other', Heard, 5, reason='other')),
    ('P1', 'a version at two times', changed('domains', Heard, 5, timestamp=1)),
    ('P1', 'other properties', changed('other', Heard, 5, properties=lambda p: dict(p, Active='perhaps'))),
    ('P1', 'other details', changed('other', Heard, 5, details={})),
    ('P1', 'another object', changed('other', Heard, 5, path=f'{CONNECTION}/domain/_3')),
    ('P4', 'another XML', changed('other', Heard, 5, texts=('<other/>', None))),
    ('P4', 'a signal that says otherwise', changed('listener', Heard, 2, reason='other')),
    ('P4', 'a signal with a detail that nobody else has', changed('listener', Heard, 2, details={'more': 1})),
    ('P4', 'the wrong previous, for all', everywhere(14, previous=5)),
    ('P4', 'no previous', everywhere(14, previous=0)),
    ('P4', 'a previous from the future', everywhere(14, previous=20)),
    ('P4', 'an Added with a previous', everywhere(11, previous=7)),
    ('P4', 'a Version that is not its own', everywhere(13, properties=dict(EVENTS[12].properties, Version=12))),
    ('P8', 'Added twice', everywhere(14, name='Added')),
    ('P24', 'XML in a signal', changed('listener', Heard, 2, texts=('<x/>', None))),
    ('P14', 'XML that was not asked for', changed('domains', Heard, 2, texts=('<x/>', None))),
    ('P14', 'an event is left out of a stream', dropped('whole', 5)),
    ('P14', 'an event is left out of an answer', dropped('other', 5)),
    ('P14', 'an event is left out behind a first bookmark', dropped('initial', 6)),
    ('P14', 'the first event after a resumption is left out', dropped('domains', 8)),
    ('P14', 'the last event is left out', dropped('other', -1)),
    ('P14', 'an event is left out of what is filtered by name', dropped('starts', 3)),
    ('P14', 'an event is left out of what is filtered by object', dropped('pools', 1)),
    ('P14', 'a signal is left out, though bookmarks come', dropped('listener', 3)),
    ('P14', 'an event that was not asked for', changed('domains', Heard, 3, kind='Network')),
    ('P14', 'an event of another name', changed('starts', Heard, 1, name='Stopped')),
    ('P14', 'what one goes on from comes again', changed('domains', Run, 1, after=lambda v: v + 1)),
    ('P1', 'an event at or below a bookmark, after it', marked_early('whole', 0)),
    ('P14', 'a bookmark that goes back', changed('other', Mark, 1, version=13)),
    ('P14', 'a bookmark that promises what has not come', changed('domains', Mark, 0, version=20)),
    ('P4', 'an event that nobody is told, with an event after it', nowhere(13)),
    ('P13', 'an event that nobody is told, the last of its object', nowhere(LAST)),
    ('P13', 'an object is missing in a listing', changed('auditor', Asked, 1, objects=without_object)),
    ('P13', 'a property is another in a listing', changed('auditor', Asked, 1, objects=other_property)),
    ('P13', 'a removed object is still listed',
     changed('auditor', Asked, 1, objects=lambda o: dict(o, **{f'{ONE}0': Object('Domain', {'Version': 3})}))),
    ('P13', 'a listing says that it is of another version', changed('auditor', Asked, 1, version=12)),
    ('P13', 'the XML is another in a listing', changed('other', Listed, 0, objects=other_text)),
    ('P13', 'a copy that is not what there is', changed('other', Viewed, 0, objects=other_text)),
    ('P13', 'a listing from the past', added('other', Listed(EPOCH, 5, at(5, Filter(xml=True))))),
    ('P17', 'a digest of something else', changed('auditor', Digested, 1, sha='0' * 64)),
    ('P17', 'a digest of another version', changed('domains', Digested, 0, version=16)),
    ('P14', 'Gone, of what is there', added('late', Refused('GetEvents', EPOCH, 20, 'Gone', 15, LAST, EPOCH))),
    ('P14', 'Gone, when history was cut too early', added('late', Refused('Watch', EPOCH, 20, 'Gone', LAST - 5, LAST, EPOCH))),
    ('P14', 'Gone, when nobody knows what was kept, but it cannot be enough',
     added('late', Refused('Watch', EPOCH, 20, 'Gone', 100, 105, EPOCH))),
    ('P14', 'FutureVersion, of what was heard', added('late', Refused('Watch', EPOCH, LAST, 'FutureVersion', 0, 9, EPOCH))),
    ('P3', 'EpochChanged, while nothing was lost', added('late', Refused('Watch', EPOCH, 4, 'EpochChanged', 0, 9, 'f' * 32))),
    ('P14', 'an error that has no place there', added('late', Refused('Watch', EPOCH, 4, 'AccessChanged', 0, 9, EPOCH))),
]


def main():
    wrong = 0
    honest = judge(legal())
    if honest.violations:
        wrong += 1
        print('FAILED: the legal story was found illegal:', *honest.violations, sep='\n    ')
    for what in ('listings', 'views', 'digests', 'digests of own copies', 'runs', 'Gone'):
        if not honest.counts[what]:
            wrong += 1
            print(f'FAILED: no {what} were judged')
    if judge(added('late', Refused('Watch', EPOCH, 4, 'EpochChanged', 0, 9, 'f' * 32))(), epochs_lost=[EPOCH]).violations:
        wrong += 1
        print('FAILED: EpochChanged was found illegal though the store was lost')
    for promise, what, make in ILLEGAL:
        violations = judge(make()).violations
        if not any(v.startswith(promise + ':') for v in violations):
            wrong += 1
            print(f'FAILED: not found: {what} ({promise}); found: {violations}')
    print(f'{len(ILLEGAL)} mistakes, {wrong} things wrong')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
