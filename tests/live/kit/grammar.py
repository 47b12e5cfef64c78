# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Whether what the broker said is a legal story: promises P1, P4, P7 to P12 and the order of messages, as doc/contract.md
has them. Written from the contract alone, knowing nothing of the broker's code; what is not forbidden there passes.
"""

import dataclasses

from .loop import settle
from .recorder import NAME, ROOT, UNKNOWN, event_of

PROPERTIES = {
    'Connection': {'URI', 'Driver', 'State', 'Hostname', 'HypervisorVersion', 'SupportedEvents', 'SupportedOperations',
                   'SameAs', 'Error', 'Version'},
    'Domain': {'Name', 'UUID', 'Title', 'Description', 'OSType', 'ID', 'Connection', 'State', 'Reason', 'Active',
               'Persistent', 'Autostart', 'HasManagedSave', 'MaxMemory', 'Memory', 'VCPUs', 'Jobs', 'Incarnation',
               'Version'},
    'StoragePool': {'Name', 'UUID', 'Type', 'Connection', 'State', 'Active', 'Persistent', 'Autostart', 'Capacity',
                    'Allocation', 'Available', 'Jobs', 'Incarnation', 'Version'},
    'Network': {'Name', 'UUID', 'Type', 'Connection', 'State', 'Active', 'Persistent', 'Autostart', 'Bridge', 'Jobs',
                'Incarnation', 'Version'},
    'Job': {'Object', 'Operation', 'Type', 'State', 'RunningTime', 'RemainingTime', 'Percent', 'BytesTotal',
            'BytesDone', 'Ready', 'Cancellable', 'CancelRequested', 'StartedBy', 'Error', 'Version'},
}
PROGRESS = {'RunningTime', 'RemainingTime', 'Percent', 'BytesTotal', 'BytesDone'}
LIVES = {'Domain', 'StoragePool', 'Network'}
NOT_RUNNING = {'paused', 'pmsuspended', 'crashed', 'shutdown', 'shutoff'}
ACTIVE_ONLY = {'Suspended', 'Resumed', 'PMSuspended', 'Crashed', 'Shutdown', 'Stopped'}
JOB_ENDS = {'completed', 'failed', 'cancelled'}
MINUTE = 60_000_000


@dataclasses.dataclass
class Known:
    """What a client that listened knows of an object."""
    kind: str
    version: int
    properties: dict
    last: str = ''      # its last event; '' when it is only known from a snapshot
    limbo: bool = False  # it may not stay as it is: its next event has to be of the same turn
    ended: int = 0      # when a job finished, by its own time stamp


class Story:
    """Follows the story of a whole broker, message by message; `violations` says what was illegal in it."""

    def __init__(self, snapshot=None, epoch=None):
        self.violations = []
        self.known = {}
        self.last_version = 0
        self.events = 0
        self.epoch = epoch
        self.gone = set()
        self.seeded = False
        self._added = {}    # path -> properties of an InterfacesAdded whose Added is still to come
        self._changed = {}  # path -> changed properties whose event is still to come
        self._removed = {}  # path -> version of a Removed whose InterfacesRemoved is still to come
        self._bookmark = 0
        self._silent = True  # since the broker took its name, no event was said
        self._down = set()  # connections that are not connected
        if snapshot is not None:
            self.seed(snapshot)

    def seed(self, snapshot):
        """Begin from what GetSnapshot said: (epoch, version, {path: (kind, properties)})."""
        self.epoch, self.last_version, objects = snapshot
        self.seeded = True
        for path, (kind, properties) in objects.items():
            self.known[path] = Known(kind, properties['Version'], dict(properties))
            if kind == 'Connection' and properties['State'] != 'connected':
                self._down.add(path)

    def wrong(self, promise, where, text):
        self.violations.append(f'{promise}: {where}: {text}')

    # Messages

    def message(self, m):
        """Judge the next message."""
        if m.member == 'NameOwnerChanged' and m.body[0] == NAME:
            self._owner_changed(m.body[2])
        elif m.interface == 'org.freedesktop.DBus.ObjectManager':
            if m.path != ROOT:
                self.wrong('section 3', m, f'an ObjectManager\'s signal from {m.path}')
            (self._interfaces_added if m.member == 'InterfacesAdded' else self._interfaces_removed)(*m.body)
        elif m.interface == 'org.freedesktop.DBus.Properties':
            self._properties_changed(m.path, *m.body)
        elif m.interface == f'{NAME}.Manager' and m.member == 'Bookmark':
            self._bookmark_at(m.body[0])
        else:
            event = event_of(m)
            if event is not None:
                self.event(event)
            elif m.interface.startswith(NAME + '.'):
                self.wrong('Signals', m.path, f'{m.interface}.{m.member} has the signature {m.signature}')

    def messages(self, messages, history=()):
        """
        Judge all messages. `history` has all events, by GetEvents: from there comes what was never said on the bus,
        because the broker had no name on it (yet), or was killed before it could. What was said must be in there.
        """
        kept = {e.version: e for e in history}
        unsaid = sorted(kept)  # not told to this story yet
        for m in messages:
            e = event_of(m)
            if e is not None and kept:
                self._same(e, kept.get(e.version))
            # nothing of the present life of the broker on the bus is left out
            begins = self._silent and (e.version if e else _version_in(m))
            while begins and unsaid and unsaid[0] < begins:
                self.event(kept[unsaid.pop(0)], signalled=False)
            self.message(m)
            if e is not None:
                self._silent = False
                while unsaid and unsaid[0] <= e.version:
                    left = unsaid.pop(0)
                    if left != e.version:
                        self.wrong('P6', kept[left].path, f'{kept[left].event} at {left} is in history, but no signal '
                                                          f'said it before {e.version}')
        for version in unsaid:
            if not self._silent:
                self.wrong('P6', kept[version].path, f'{kept[version].event} at {version} is in history, but no signal '
                                                     'ever said it')
            self.event(kept[version], signalled=False)
        return self

    def _same(self, said, kept):
        """P1, P4: what a signal said is what history keeps."""
        where = f'{said.path} {said.event} at {said.version}'
        if kept is None:
            self.wrong('P1', where, 'was said, but is not in history')
            return
        for field in ('path', 'kind', 'event', 'previous', 'reason', 'properties'):
            if getattr(said, field) != getattr(kept, field):
                self.wrong('P4', where, f'{field} differs (signal, history): {getattr(said, field)}, '
                                        f'{getattr(kept, field)}')
        # history may tell its authorised reader more
        less = {k: v for k, v in said.details.items() if kept.details.get(k) != v}
        if less:
            self.wrong('P4', where, f'details differ (signal, history): {less}, {kept.details}')

    def _owner_changed(self, owner):
        # What a broker that was killed had begun to say stays half said; its next life goes on from its history
        self._added.clear()
        self._changed.clear()
        self._removed.clear()
        self._silent = True
        if owner:
            self._bookmark = 0

    def _interfaces_added(self, path, interfaces):
        ours = [i for i in interfaces if i.startswith(NAME + '.')]
        if not ours:
            return
        if len(ours) != 1 or ours[0].rsplit('.', 1)[1] not in PROPERTIES:
            self.wrong('Signals', path, f'InterfacesAdded with {ours}')
            return
        if path in self._added:
            self.wrong('Signals', path, 'InterfacesAdded twice, without an Added between')
        if path in self._removed:
            self.wrong('Signals', path, 'InterfacesAdded before the InterfacesRemoved of the life before')
        self._added[path] = interfaces[ours[0]]

    def _interfaces_removed(self, path, interfaces):
        if not any(i.startswith(NAME + '.') for i in interfaces):
            self.wrong('Signals', path, f'InterfacesRemoved without an interface of ours: {interfaces}')
        if self._removed.pop(path, None) is None:
            self.wrong('Signals', path, 'InterfacesRemoved without a Removed before')

    def _properties_changed(self, path, interface, changed, invalidated):
        if not interface.startswith(NAME + '.'):
            return
        if invalidated:
            self.wrong('Signals', path, f'PropertiesChanged without values: {invalidated}')
        if interface == f'{NAME}.Manager':
            return
        if not changed:
            self.wrong('Signals', path, 'PropertiesChanged of nothing')
        known = self.known.get(path)
        if 'Version' not in changed:
            if not (interface == f'{NAME}.Job' and set(changed) <= PROGRESS):
                self.wrong('P2', path, f'{sorted(changed)} changed without Version')
            elif known is not None:
                known.properties.update(changed)
            return
        if path in self._changed:
            self.wrong('Signals', path, f'two PropertiesChanged (at {self._changed[path]["Version"]} and '
                                        f'{changed["Version"]}) without an event between')
        if known is not None:
            same = [k for k, v in changed.items() if k in known.properties and known.properties[k] == v]
            if same and self.seeded:
                self.wrong('Signals', path, f'PropertiesChanged with what did not change: {same}')
        self._changed[path] = changed

    def _bookmark_at(self, version):
        if version < self._bookmark:
            self.wrong('Bookmark', ROOT, f'{version} after {self._bookmark}')
        if version < self.last_version:
            self.wrong('Bookmark', ROOT, f'{version}, though {self.last_version} had been sent')
        self._bookmark = version

    # Events

    def event(self, e, signalled=True):
        """Judge the next event; one that is only known from history has no messages around it."""
        self.events += 1
        where = f'{e.path} {e.event} at {e.version}'
        if e.kind not in PROPERTIES:
            self.wrong('section 3', where, f'no such kind: {e.kind}')
            return
        # P1
        if e.version <= self.last_version:
            self.wrong('P1', where, f'comes after {self.last_version}')
        if signalled and e.version <= self._bookmark:
            self.wrong('Bookmark', where, f'comes after the bookmark {self._bookmark}')
        if not 0 < e.version < 2**53:
            self.wrong('P1', where, 'is out of range')
        self.last_version = max(self.last_version, e.version)

        # P4
        known = self.known.get(e.path)
        if e.event == 'Added':
            if e.previous != 0:
                self.wrong('P4', where, f'an Added whose previous is {e.previous}')
        elif known is None:
            if self.seeded or e.path in self.gone:
                self.wrong('P8', where, 'of an object that does not exist')
        elif e.previous != known.version:
            self.wrong('P4', where, f'previous is {e.previous}, but the last was {known.version} ({known.last})')
        if e.properties.get('Version') != e.version:
            self.wrong('P4', where, f'its property Version is {e.properties.get("Version")}')
        missing = PROPERTIES[e.kind] - set(e.properties)
        if missing:
            self.wrong('P4', where, f'the property set lacks {sorted(missing)}')
        if not isinstance(e.details.get('timestamp'), int) or not 10**15 < e.details['timestamp'] < UNKNOWN:
            self.wrong('Signals', where, f'timestamp is {e.details.get("timestamp")}')
        if 'inferred' in e.details and e.details['inferred'] is not True:
            self.wrong('P7', where, f'inferred is {e.details["inferred"]}')

        if signalled:
            self._order(e, where, known)
        if not missing:
            if e.kind in LIVES:
                self._life(e, where, known)
            elif e.kind == 'Connection':
                self._connection(e, where, known)
            else:
                self._job(e, where, known)
        self._remember(e, known)

    def _order(self, e, where, known):
        """The order of InterfacesAdded, PropertiesChanged and the event."""
        if e.path in self._removed:
            self.wrong('Signals', where, 'before the InterfacesRemoved of the life before')
        if e.event == 'Added':
            shown = self._added.pop(e.path, None)
            if shown is None:
                self.wrong('Signals', where, 'no InterfacesAdded before')
            elif shown != e.properties:
                self.wrong('Signals', where, f'InterfacesAdded differs: {_difference(shown, e.properties)}')
            return
        if e.path in self._added:
            self.wrong('Signals', where, 'between InterfacesAdded and Added')
        changed = self._changed.pop(e.path, None)
        if e.event == 'Removed':
            self._removed[e.path] = e.version
            if changed is None:
                return
        if changed is None:
            self.wrong('Signals', where, 'no PropertiesChanged before')
            return
        wrong = {k: (v, e.properties.get(k)) for k, v in changed.items() if e.properties.get(k) != v}
        if wrong:
            self.wrong('Signals', where, f'PropertiesChanged says otherwise (there, here): {wrong}')
        if known is not None:
            untold = {k for k, v in e.properties.items() if known.properties.get(k) != v and k not in changed}
            if untold - (PROGRESS if e.kind == 'Job' else set()):
                self.wrong('Signals', where, f'PropertiesChanged did not tell {sorted(untold)}')

    def _life(self, e, where, known):
        """The grammar of domains, pools and networks: P8 to P11."""
        p = e.properties
        active, persistent, state = p['Active'], p['Persistent'], p['State']
        if e.event == 'Added':
            if known is not None:
                self.wrong('P8', where, f'it exists already, since {known.properties.get("Incarnation")}')
            if active or persistent:
                self.wrong('P8', where, f'Active {active}, Persistent {persistent}')
            if p['Incarnation'] != e.version:
                self.wrong('P8', where, f'Incarnation is {p["Incarnation"]}')
            self._consistent(e, where)
            return
        before = known.properties if known and PROPERTIES[e.kind] <= set(known.properties) else None
        if before and p['Incarnation'] != before['Incarnation']:
            self.wrong('P8', where, f'Incarnation went from {before["Incarnation"]} to {p["Incarnation"]}')
        if before and (p['UUID'] != before['UUID'] or p['Connection'] != before['Connection']):
            self.wrong('P8', where, 'UUID or Connection changed')
        was_active = before['Active'] if before else None
        was_persistent = before['Persistent'] if before else None
        was_state = before['State'] if before else None
        limbo = known is not None and known.limbo

        # jobs are the broker's own: those that a lost hypervisor carried out have ended
        jobs_ended = e.event == 'Updated' and before and \
            {k for k in p if before.get(k) != p[k]} <= {'Jobs', 'Version'} and set(p['Jobs']) <= set(before['Jobs'])
        if p['Connection'] in self._down and not e.inferred and e.event != 'Removed' and not jobs_ended:
            self.wrong('P18', where, 'its connection is not connected')
        if e.event == 'Removed':
            if e.reason != 'closed' and (active or persistent):
                self.wrong('P8', where, f'({e.reason}) while Active {active}, Persistent {persistent}')
            changed = [k for k in p if before and k not in ('Version', 'Jobs') and p[k] != before[k]]
            if changed:
                self.wrong('P8', where, f'Removed changed {changed}')
            return
        if limbo:
            expected = {'Added': {'Defined', 'Started'}}.get(known.last, set())
            if e.event not in expected:
                self.wrong('P11', where, f'after {known.last} it was inactive and not persistent; that needs '
                                         f'{" or ".join(sorted(expected)) or "Removed"}')
        self._consistent(e, where)

        if e.event == 'Defined':
            self._defined(e, where, was_active, was_persistent)
        elif e.event == 'Undefined':
            if was_persistent is False:
                self.wrong('P9', where, 'it was not persistent')
            if persistent or (was_active is not None and active != was_active):
                self.wrong('P9', where, f'Persistent {persistent}, Active {was_active} -> {active}')
        elif e.event == 'Started':
            if was_active:
                self.wrong('P10', where, f'it was active ({was_state})')
            if not active:
                self.wrong('P10', where, 'it is not active')
            if was_persistent is not None and persistent != was_persistent:
                self.wrong('P10', where, 'Persistent changed')
        elif e.event in ACTIVE_ONLY and (e.kind == 'Domain' or e.event == 'Stopped'):
            if was_active is False:
                self.wrong('P10', where, 'it was not active')
            if active != (e.event != 'Stopped'):
                self.wrong('P10', where, f'Active is {active}')
            if was_persistent is not None and persistent != was_persistent:
                self.wrong('P10', where, 'Persistent changed')
            if e.kind == 'Domain':
                self._active_state(e, where, was_state, state)
        else:
            # Updated, and what else a hypervisor has: no transition hides in there
            if before and (active, persistent) != (was_active, was_persistent):
                self.wrong('P10', where, f'Active {was_active} -> {active}, Persistent {was_persistent} -> {persistent}')
            if before and state != was_state and not {state, was_state} <= {'running', 'blocked', 'nostate'} \
                    and e.kind == 'Domain':
                self.wrong('P10', where, f'State went from {was_state} to {state}')

    def _defined(self, e, where, was_active, was_persistent):
        if not e.properties['Persistent']:
            self.wrong('P9', where, 'it is not persistent')
        if was_active is not None and e.properties['Active'] != was_active:
            self.wrong('P9', where, 'Active changed')
        if was_persistent is False and e.reason != 'added':
            self.wrong('P9', where, f'it became persistent, but the reason is {e.reason!r}')
        if was_persistent and e.kind == 'Domain' and e.reason not in ('updated', 'renamed', 'from-snapshot'):
            self.wrong('P9', where, f'it was persistent, but the reason is {e.reason!r}')
        if was_persistent and e.kind != 'Domain' and e.reason == 'added':
            self.wrong('P9', where, 'it was persistent already')

    def _active_state(self, e, where, was, state):
        if e.event == 'Suspended':
            if was == 'paused':
                self.wrong('P10', where, 'it was paused')
            if state != 'paused':
                self.wrong('P10', where, f'its State is {state}')
        elif e.event == 'Resumed':
            if was is not None and was not in NOT_RUNNING:
                self.wrong('P10', where, f'it was {was}')
            if state in NOT_RUNNING:
                self.wrong('P10', where, f'its State is {state}')
        elif e.event == 'PMSuspended':
            if was == 'pmsuspended' or state != 'pmsuspended':
                self.wrong('P10', where, f'its State went from {was} to {state}')
        elif e.event == 'Shutdown':
            if was == 'shutdown' or state != 'shutdown':
                self.wrong('P10', where, f'its State went from {was} to {state}')

    def _consistent(self, e, where):
        if e.kind != 'Domain':
            return
        p = e.properties
        if p['Active']:
            if p['State'] == 'shutoff':
                self.wrong('P4', where, f'active, but {p["State"]}')
        elif p['State'] not in ('shutoff', 'crashed', 'nostate') or p['ID'] != -1:
            self.wrong('P4', where, f'inactive, but State is {p["State"]}, ID {p["ID"]}')

    def _connection(self, e, where, known):
        """P18: Disconnected, then Connected, then what is different, then Synced."""
        state = e.properties['State']
        was = known.properties['State'] if known else None
        if e.event == 'Added' and known is not None:
            self.wrong('P8', where, 'it exists already')
        if e.event == 'Connected' and (was == 'connected' or state != 'connected'):
            self.wrong('P18', where, f'its State went from {was} to {state}')
        if e.event == 'Disconnected' and (was == 'disconnected' and known.last != 'Added' or state == 'connected'):
            self.wrong('P18', where, f'its State went from {was} to {state}')
        if e.event == 'Synced' and state != 'connected':
            self.wrong('P18', where, f'its State is {state}')
        if e.event not in ('Added', 'Connected', 'Disconnected') and was is not None and \
                (was == 'connected') != (state == 'connected') and e.event != 'Removed':
            self.wrong('P18', where, f'its State went from {was} to {state}')
        if state == 'connected':
            self._down.discard(e.path)
        else:
            self._down.add(e.path)

    def _job(self, e, where, known):
        """P20: running, then exactly one of the ends, once."""
        state = e.properties['State']
        was = known.properties['State'] if known else None
        if e.event == 'Added':
            if known is not None:
                self.wrong('P20', where, 'it exists already')
            if state != 'running':
                self.wrong('P20', where, f'it begins as {state}')
            if e.path.rsplit('_', 1)[1] != str(e.version):
                self.wrong('section 3', where, 'its number is not the version of its Added')
        elif e.event == 'Finished':
            if was not in (None, 'running') or state not in JOB_ENDS:
                self.wrong('P20', where, f'its State went from {was} to {state}')
            if (state == 'failed') != bool(e.properties['Error'][0]):
                self.wrong('P20', where, f'{state}, with the error {e.properties["Error"]}')
        elif e.event == 'Removed':
            if state not in JOB_ENDS:
                self.wrong('P20', where, f'while {state}')
            if known and known.ended and e.details.get('timestamp', 0) - known.ended < MINUTE:
                self.wrong('P20', where, 'readable for less than a minute after its end')
        elif was is not None and state != was:
            self.wrong('P20', where, f'its State went from {was} to {state}')

    def _remember(self, e, known):
        if e.event == 'Removed':
            self.known.pop(e.path, None)
            self.gone.add(e.path)
            return
        self.gone.discard(e.path)
        p = e.properties
        ended = known.ended if known else 0
        if e.kind == 'Job' and e.event == 'Finished':
            ended = e.details.get('timestamp', 0)
        limbo = e.kind in LIVES and p.get('Active') is False and p.get('Persistent') is False
        # what an event left out, against P4, is taken to be as it was, so that one mistake is told once
        properties = {**known.properties, **p} if known else dict(p)
        self.known[e.path] = Known(e.kind, e.version, properties, e.event, limbo, ended)

    # The end

    def finish(self, quiet=True):
        """Judge what is left: nothing may be half said. Returns the violations."""
        if quiet:
            for path in self._added:
                self.wrong('Signals', path, 'InterfacesAdded without an Added')
            for path, changed in self._changed.items():
                self.wrong('Signals', path, f'PropertiesChanged without an event: {changed}')
            for path, version in self._removed.items():
                self.wrong('Signals', path, f'Removed at {version} without InterfacesRemoved')
            for path, known in self.known.items():
                if known.limbo:
                    self.wrong('P11', path, f'inactive, not persistent, and still there after {known.last}')
        return self.violations

    def compare(self, snapshot):
        """P13: what was followed has to be what a snapshot at the same version says."""
        epoch, version, objects = snapshot
        if self.epoch and epoch != self.epoch:
            self.wrong('P3', ROOT, f'the epoch went from {self.epoch} to {epoch}')
        if version != self.last_version and version < self.last_version:
            self.wrong('P13', ROOT, f'a snapshot at {version}, after an event at {self.last_version}')
        for path in sorted(set(objects) | set(self.known)):
            if path not in objects:
                self.wrong('P13', path, 'in the story, not in the snapshot')
            elif path not in self.known:
                if self.seeded:
                    self.wrong('P13', path, 'in the snapshot, not in the story')
            else:
                kind, properties = objects[path]
                known = self.known[path]
                ignored = PROGRESS if kind == 'Job' else set()
                told = {k: v for k, v in known.properties.items() if k not in ignored}
                held = {k: v for k, v in properties.items() if k not in ignored and k != 'XML'}
                if told != held:
                    self.wrong('P13', path, f'differs (story, snapshot): {_difference(told, held)}')
        return self.violations


def _difference(a, b):
    return {k: (a.get(k), b.get(k)) for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)}


def _version_in(message):
    """Return the version that a message other than an event is about, or None."""
    if message.member == 'PropertiesChanged':
        return message.body[1].get('Version')
    if message.member == 'InterfacesAdded':
        return next((p.get('Version') for i, p in message.body[1].items() if i.startswith(NAME + '.')), None)
    return None


def judge(messages, history=(), last=None):
    """Judge a whole record from the very first word on, ended at the snapshot `last`; return the story."""
    story = Story()
    story.seeded = True
    story.messages(messages, history)
    story.finish()
    if last is not None:
        story.compare(last)
    return story


def judge_broker(client, recorder):
    """
    Judge all that a broker ever said: it has to be legal, to be in history, and to add up to what a snapshot says.
    `recorder` has listened from before the broker's first word.
    """
    version = None
    while version is None or version != client.get(ROOT, 'Manager', 'Version'):
        # until nothing came between: history, record and snapshot are then of the same version
        version = client.get(ROOT, 'Manager', 'Version')
        history = client.history()
        last = client.snapshot()
        # not every version is said (some came before the broker had its name), so there is none to wait for
        settle(0.4, changed=lambda: len(recorder.messages))
    return judge(recorder.messages, history, last)
