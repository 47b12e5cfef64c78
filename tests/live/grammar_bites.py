#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the judge of stories finds what it is for: a legal story passes, each kind of mistake in it is found."""

import copy
import sys

from kit.grammar import judge
from kit.recorder import EVENT_SIGNATURE, Message

CONNECTION = '/org/vireo1/connection/c'
DOMAIN = f'{CONNECTION}/domain/_1'
POOL = f'{CONNECTION}/pool/_1'
NOW = 1_700_000_000_000_000


class Teller:
    """Tells a legal story, as a list of messages."""

    def __init__(self):
        self.messages = []
        self.version = 0
        self.objects = {}

    def say(self, path, interface, member, *body, signature='(?)'):
        self.messages.append(Message(':1.1', path, interface, member, signature, body))

    def tell(self, path, kind, event, reason='', details=None, **changes):
        self.version += 1
        old = self.objects.get(path, {})
        new = dict(old, **changes, Version=self.version)
        if event == 'Added' and kind not in ('Connection', 'Job'):
            new['Incarnation'] = self.version
        interface = f'org.vireo1.{kind}'
        previous = old.get('Version', 0)
        if event == 'Added':
            self.say('/org/vireo1', 'org.freedesktop.DBus.ObjectManager', 'InterfacesAdded', path, {interface: new})
        elif event != 'Removed':
            changed = {k: v for k, v in new.items() if old.get(k) != v}
            self.say(path, 'org.freedesktop.DBus.Properties', 'PropertiesChanged', interface, changed, [])
        self.say(path, interface, event, self.version, previous, reason, new, {'timestamp': NOW, **(details or {})},
                 signature=EVENT_SIGNATURE)
        self.objects[path] = new
        if event == 'Removed':
            del self.objects[path]
            self.say('/org/vireo1', 'org.freedesktop.DBus.ObjectManager', 'InterfacesRemoved', path, [interface])

    def domain(self, event, reason='', **changes):
        self.tell(DOMAIN, 'Domain', event, reason, **changes)

    def begin(self):
        self.tell(CONNECTION, 'Connection', 'Added', URI='x:///', Driver='x', State='connecting', Hostname='',
                  HypervisorVersion='', SupportedEvents=[], SupportedOperations=[], SameAs=[], Error='')
        self.tell(CONNECTION, 'Connection', 'Connected', State='connected')
        self.tell(CONNECTION, 'Connection', 'Synced')
        return self

    def added(self):
        self.domain('Added', Name='d', UUID='1', Title='', Description='', OSType='hvm', ID=-1, Connection=CONNECTION,
                    State='shutoff', Reason='unknown', Active=False, Persistent=False, Autostart=False,
                    HasManagedSave=False, MaxMemory=1, Memory=1, VCPUs=1, Jobs=[])
        return self

    def defined(self):
        self.added().domain('Defined', 'added', Persistent=True)
        return self

    def started(self):
        self.defined().domain('Started', 'booted', Active=True, State='running', ID=1)
        return self

    def stopped(self):
        self.domain('Stopped', 'destroyed', Active=False, State='shutoff', ID=-1)
        return self

    def removed(self):
        self.domain('Undefined', 'removed', Persistent=False)
        self.domain('Removed')
        return self


def teller():
    return Teller().begin()


def legal():
    """A long and legal story."""
    t = teller().started()
    t.domain('Suspended', 'paused', State='paused')
    t.domain('Updated', Reason='user')
    t.domain('Resumed', 'unpaused', State='running')
    t.domain('PMSuspended', 'memory', State='pmsuspended')
    t.domain('Resumed', 'wakeup', State='running')
    t.domain('Rebooted')
    t.domain('Defined', 'updated')
    t.domain('Defined', 'renamed', Name='e')
    t.domain('Undefined', 'removed', Persistent=False)
    t.domain('Defined', 'added', Persistent=True)
    t.domain('Crashed', 'panicked', State='crashed')
    t.domain('Resumed', 'unpaused', State='running')
    t.domain('Shutdown', 'host', State='shutdown')
    t.stopped().removed()
    t.added().domain('Started', 'booted', Active=True, State='paused', ID=2)
    t.stopped().domain('Removed')
    t.tell(POOL, 'StoragePool', 'Added', Name='p', UUID='1', Type='dir', Connection=CONNECTION, State='inactive',
           Active=False, Persistent=False, Autostart=False, Capacity=0, Allocation=0, Available=0, Jobs=[])
    t.tell(POOL, 'StoragePool', 'Defined', 'added', Persistent=True)
    t.tell(POOL, 'StoragePool', 'Started', Active=True, State='running')
    t.tell(POOL, 'StoragePool', 'Refreshed', Capacity=5)
    job = f'/org/vireo1/job/_{t.version + 1}'
    t.tell(job, 'Job', 'Added', Object=POOL, Operation='stop', Type='unbounded', State='running', RunningTime=0,
           RemainingTime=0, Percent=0.0, BytesTotal=0, BytesDone=0, Ready=False, Cancellable=False,
           CancelRequested=False, StartedBy=0, Error=('', ''))
    t.tell(POOL, 'StoragePool', 'Stopped', Active=False, State='inactive')
    t.tell(job, 'Job', 'Finished', State='completed')
    t.say('/org/vireo1', 'org.vireo1.Manager', 'Bookmark', t.version, signature='(t)')
    t.tell(POOL, 'StoragePool', 'Updated', 'job', Jobs=[job])
    t.tell(CONNECTION, 'Connection', 'Disconnected', State='disconnected', Error='gone')
    t.tell(POOL, 'StoragePool', 'Updated', 'job', Jobs=[])
    t.tell(CONNECTION, 'Connection', 'Connected', State='connected', Error='')
    t.tell(POOL, 'StoragePool', 'Started', Active=True, State='running', details={'inferred': True})
    t.tell(CONNECTION, 'Connection', 'Synced')
    return t.messages


def told(function):
    """A story that a function makes wrong at its end."""
    t = teller()
    function(t)
    return t.messages


def event_at(messages, member, n=0):
    return [i for i, m in enumerate(messages) if m.member == member and m.signature == EVENT_SIGNATURE][n]


def with_body(member, index, value, n=0):
    """The legal story, with one argument of one event changed."""
    messages = legal()
    i = event_at(messages, member, n)
    body = list(messages[i].body)
    body[index] = value(copy.deepcopy(body[index])) if callable(value) else value
    messages[i].body = tuple(body)
    return messages


def without(member, signature=None, n=0):
    """The legal story, with one message missing."""
    messages = legal()
    where = [i for i, m in enumerate(messages) if m.member == member and signature in (None, m.signature)]
    del messages[where[n]]
    return messages


def swapped(member, n=0):
    """The legal story, with an event before the message in front of it."""
    messages = legal()
    i = event_at(messages, member, n)
    messages[i - 1], messages[i] = messages[i], messages[i - 1]
    return messages


def removed_first():
    messages = legal()
    i = event_at(messages, 'Removed')
    messages[i], messages[i + 1] = messages[i + 1], messages[i]
    return messages


def bookmark_early():
    messages = legal()
    i = event_at(messages, 'Stopped', 1)
    messages.insert(i - 1, Message(':1.1', '/org/vireo1', 'org.vireo1.Manager', 'Bookmark', '(t)', (10**6,)))
    return messages


JOB = dict(Object=DOMAIN, Operation='start', Type='unbounded', State='running', RunningTime=0, RemainingTime=0,
           Percent=0.0, BytesTotal=0, BytesDone=0, Ready=False, Cancellable=False, CancelRequested=False, StartedBy=0,
           Error=('', ''))


def job(*states):
    def tell(t):
        path = f'/org/vireo1/job/_{t.version + 1}'
        t.tell(path, 'Job', 'Added', **JOB)
        for event, state in states:
            t.tell(path, 'Job', event, State=state, Error=('x', 'y') if state == 'failed' else ('', ''))
    return told(tell)


ILLEGAL = [
    ('P1', 'a version twice', lambda: with_body('Suspended', 0, lambda v: v - 1)),
    ('P4', 'a wrong previous', lambda: with_body('Suspended', 1, lambda v: v - 1)),
    ('P4', 'an Added with a previous', lambda: with_body('Added', 1, 3, n=1)),
    ('P4', 'properties are missing', lambda: with_body('Suspended', 3, lambda p: {'Version': p['Version']})),
    ('P4', 'another Version among the properties', lambda: with_body('Suspended', 3, lambda p: dict(p, Version=1))),
    ('P7', 'inferred is not true', lambda: with_body('Suspended', 4, lambda d: dict(d, inferred=False))),
    ('Signals', 'no time stamp', lambda: with_body('Suspended', 4, {})),
    ('Signals', 'no InterfacesAdded', lambda: without('InterfacesAdded', n=1)),
    ('Signals', 'no PropertiesChanged', lambda: without('PropertiesChanged', n=4)),
    ('Signals', 'no InterfacesRemoved', lambda: without('InterfacesRemoved')),
    ('Signals', 'no event for a change', lambda: without('Rebooted')),
    ('Signals', 'Added before InterfacesAdded', lambda: swapped('Added', 1)),
    ('Signals', 'an event before PropertiesChanged', lambda: swapped('Suspended')),
    ('Signals', 'InterfacesRemoved before Removed', removed_first),
    ('Signals', 'an event says otherwise than PropertiesChanged',
     lambda: with_body('Suspended', 3, lambda p: dict(p, State='running'))),
    ('Signals', 'an event knows more than PropertiesChanged',
     lambda: with_body('Suspended', 3, lambda p: dict(p, Title='other'))),
    ('Bookmark', 'a bookmark that promises too much', bookmark_early),
    ('P8', 'added twice', lambda: told(lambda t: t.defined().added())),
    ('P8', 'added active', lambda: told(lambda t: (t.added(), t.messages[-1].body[3].update(Active=True)))),
    ('P8', 'removed while persistent', lambda: told(lambda t: t.defined().domain('Removed'))),
    ('P8', 'of an object that does not exist', lambda: told(lambda t: t.defined().removed().domain('Updated', Name='x'))),
    ('P8', 'Incarnation changes', lambda: told(lambda t: t.defined().domain('Updated', Incarnation=1))),
    ('P9', 'Undefined when not persistent',
     lambda: told(lambda t: (t.added(), t.domain('Started', Active=True, State='running', ID=1),
                             t.domain('Undefined')))),
    ('P9', 'Defined (updated) when it becomes persistent',
     lambda: told(lambda t: t.added().domain('Defined', 'updated', Persistent=True))),
    ('P9', 'Defined (added) again', lambda: told(lambda t: t.defined().domain('Defined', 'added'))),
    ('P9', 'Defined starts it', lambda: told(lambda t: t.defined().domain('Defined', 'updated', Active=True, ID=1,
                                                                          State='running'))),
    ('P10', 'Started twice', lambda: told(lambda t: t.started().domain('Started'))),
    ('P10', 'Stopped when inactive', lambda: told(lambda t: t.defined().stopped())),
    ('P10', 'Suspended when paused',
     lambda: told(lambda t: (t.started().domain('Suspended', State='paused'), t.domain('Suspended')))),
    ('P10', 'Resumed when running', lambda: told(lambda t: t.started().domain('Resumed'))),
    ('P10', 'Shutdown twice',
     lambda: told(lambda t: (t.started().domain('Shutdown', State='shutdown'), t.domain('Shutdown')))),
    ('P10', 'Updated hides a stop',
     lambda: told(lambda t: t.started().domain('Updated', Active=False, State='shutoff', ID=-1))),
    ('P10', 'Updated hides a pause', lambda: told(lambda t: t.started().domain('Updated', State='paused'))),
    ('P10', 'Suspended, but running', lambda: told(lambda t: t.started().domain('Suspended'))),
    ('P11', 'left inactive and not persistent', lambda: told(lambda t: t.added())),
    ('P11', 'Undefined when inactive, and it stays',
     lambda: told(lambda t: (t.defined().domain('Undefined', 'removed', Persistent=False), t.domain('Updated')))),
    ('P11', 'a transient stops, and starts again',
     lambda: told(lambda t: (t.added(), t.domain('Started', Active=True, State='running', ID=1), t.stopped(),
                             t.domain('Started', Active=True, State='running', ID=2)))),
    ('P4', 'inactive, with an ID', lambda: told(lambda t: t.defined().domain('Updated', ID=7))),
    ('P18', 'something happens while disconnected',
     lambda: told(lambda t: (t.defined(), t.tell(CONNECTION, 'Connection', 'Disconnected', State='disconnected'),
                             t.domain('Updated', Title='x')))),
    ('P18', 'a job begins while disconnected',
     lambda: told(lambda t: (t.defined(), t.tell(CONNECTION, 'Connection', 'Disconnected', State='disconnected'),
                             t.domain('Updated', 'job', Jobs=['/org/vireo1/job/_9'])))),
    ('P18', 'Connected twice', lambda: told(lambda t: t.tell(CONNECTION, 'Connection', 'Connected', Error='x'))),
    ('P20', 'a job that ends twice', lambda: job(('Finished', 'completed'), ('Finished', 'failed'))),
    ('P20', 'a job that runs again', lambda: job(('Finished', 'completed'), ('Updated', 'running'))),
    ('P20', 'a job that goes while it runs', lambda: job(('Removed', 'running'))),
    ('P20', 'a job that goes at once', lambda: job(('Finished', 'completed'), ('Removed', 'completed'))),
    ('P20', 'a job that ends running', lambda: job(('Finished', 'running'))),
]


def main():
    wrong = 0
    violations = judge(legal()).violations
    if violations:
        wrong += 1
        print('FAILED: the legal story was found illegal:', *violations, sep='\n    ')
    for promise, what, make in ILLEGAL:
        violations = judge(make()).violations
        if not any(v.startswith(promise + ':') for v in violations):
            wrong += 1
            print(f'FAILED: not found: {what} ({promise}); found: {violations}')
    print(f'{len(ILLEGAL) + 1 - wrong} of {len(ILLEGAL) + 1} stories were judged rightly')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
