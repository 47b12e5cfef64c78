# SPDX-License-Identifier: LGPL-2.1-or-later
"""What clients are told, in one form however it came: by a signal, by GetEvents, or as a line of a stream."""

import calendar
import dataclasses
import pathlib
import re
import time

UNKNOWN = 2**64 - 1
PROGRESS = {'RunningTime', 'RemainingTime', 'Percent', 'BytesTotal', 'BytesDone'}
KINDS = {'connection': 'Connection', 'domain': 'Domain', 'pool': 'StoragePool', 'network': 'Network', 'job': 'Job'}
ROOT = pathlib.Path(__file__).resolve().parents[2]


def documented_digest():
    """Return the function that doc/digest.md shows to those who write clients."""
    text = (ROOT / 'doc/digest.md').read_text(encoding='utf-8')
    names = {}
    exec(re.search(r'```python\n(.*?)```', text, re.S)[1], names)  # pylint: disable=exec-used
    return names['digest']


@dataclasses.dataclass(frozen=True)
class Object:
    """One object as it was listed, or as its last event left it. `texts`: XML and inactive XML, where asked for."""
    kind: str
    properties: dict
    texts: tuple = (None, None)

    @property
    def version(self):
        return self.properties.get('Version', 0)


@dataclasses.dataclass(frozen=True)
class Event:
    """One event. `public`: it came by a signal, which holds back what is not for everybody."""
    version: int
    previous: int
    kind: str
    path: str
    name: str
    reason: str
    timestamp: int
    inferred: bool
    properties: dict
    details: dict
    texts: tuple = (None, None)
    public: bool = False

    @property
    def object(self):
        return Object(self.kind, self.properties, self.texts)

    def core(self):
        """What every telling of it has to have."""
        return (self.version, self.previous, self.kind, self.path, self.name, self.reason, self.timestamp, self.inferred,
                self.properties)

    def __str__(self):
        return f'{self.version} < {self.previous} {self.kind}.{self.name} ({self.reason}) of {self.path}'


_texts = {}


def texts_of(live, inactive):
    """The same text, however often it comes, is kept once."""
    return tuple(t and _texts.setdefault(t, t) for t in (live, inactive))


def plain(value):
    """A value as JSON has it."""
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    return None if value == UNKNOWN else value


def object_of(kind, properties):
    """Make an Object of what D-Bus or JSON has."""
    properties = dict(properties)
    texts = texts_of(properties.pop('XML', None), properties.pop('XMLInactive', None))
    return Object(kind, {k: plain(v) for k, v in properties.items() if kind != 'Job' or k not in PROGRESS}, texts)


def of_get_events(row):
    """Make an Event of a row of GetEvents."""
    version, previous, kind, path, name, reason, timestamp, properties, details = row
    thing = object_of(KINDS[kind], properties)
    details = {k: plain(v) for k, v in details.items()}
    return Event(version, previous, thing.kind, path, name, reason, timestamp, details.pop('inferred', False),
                 thing.properties, details, thing.texts)


def of_signal(path, interface, name, body):
    """Make an Event of a signal."""
    version, previous, reason, properties, details = body
    thing = object_of(interface.rsplit('.', 1)[1], properties)
    details = {k: plain(v) for k, v in details.items()}
    timestamp, inferred = details.pop('timestamp', None), details.pop('inferred', False)
    return Event(version, previous, thing.kind, path, name, reason, timestamp, inferred, thing.properties, details,
                 thing.texts, True)


def microseconds(text):
    """Make µs since 1970 of a CloudEvents time."""
    seconds, fraction = text.removesuffix('Z').split('.')
    return calendar.timegm(time.strptime(seconds, '%Y-%m-%dT%H:%M:%S')) * 10**6 + int(fraction)


def of_line(line):
    """Make an Event of an event's line of a stream."""
    data = line['data']
    _, _, kind, name = line['type'].split('.')
    thing = object_of(kind, data['properties'])
    return Event(data['version'], data['previous'], kind, line['subject'], name, data['reason'],
                 microseconds(line['time']), data['inferred'], thing.properties,
                 {k: plain(v) for k, v in data['details'].items()}, texts_of(data.get('xml'), data.get('xmlInactive')))


def apply(objects, event):
    """Make an event's change to {path: Object}."""
    if event.name == 'Removed':
        objects.pop(event.path, None)
    else:
        objects[event.path] = event.object


def connection_of(path, properties, kind):
    """Return the path of the connection that an object belongs to."""
    if kind == 'Job':
        path = properties['Object']
    match = re.match(r'/org/vireo1/connection/[^/]*', path)
    return match[0] if match else ''


@dataclasses.dataclass(frozen=True)
class Filter:
    """What a client asked for. Empty: everything."""
    kinds: tuple = ()
    connections: tuple = ()
    objects: tuple = ()
    events: tuple = ()
    xml: bool = False

    def wants_object(self, path, thing):
        """Whether an object passes."""
        words = {KINDS[k] for k in self.kinds}
        return ((not words or thing.kind in words) and (not self.objects or path in self.objects) and
                (not self.connections or connection_of(path, thing.properties, thing.kind) in self.connections))

    def wants(self, event):
        """Whether an event passes."""
        return (self.wants_object(event.path, event) and
                (not self.events or event.name in self.events or f'{event.kind}.{event.name}' in self.events))

    @property
    def everything(self):
        return not (self.kinds or self.connections or self.objects or self.events)

    def __str__(self):
        words = [f'{f.name}={",".join(map(str, getattr(self, f.name)))}' for f in dataclasses.fields(self)
                 if f.name != 'xml' and getattr(self, f.name)]
        return ' '.join(words + ['xml'] * self.xml) or 'everything'


# What a client writes down while it follows, in order. Runs are written down too: one is a number of events that came one
# after the other in one way, which promises to be all that matched above `after` (None: from wherever it began).

@dataclasses.dataclass(eq=False)
class Run:
    epoch: str
    way: str  # signals, poll, stream
    after: int = None
    last: int = 0
    complete: int = 0  # up to here, says a bookmark
    heard: set = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Heard:
    run: Run
    event: Event


@dataclasses.dataclass
class Mark:
    """Everything up to `version` has come."""
    run: Run
    version: int


@dataclasses.dataclass
class Since:
    """From here on, a run whose beginning was not known is complete."""
    run: Run
    version: int


@dataclasses.dataclass
class Listed:
    """What GetSnapshot said, or a stream up to its first bookmark: the client begins anew from it."""
    epoch: str
    version: int
    objects: dict


@dataclasses.dataclass
class Asked(Listed):
    """What GetSnapshot said to somebody with other filters than his own, who does not begin anew from it."""
    filter: Filter = None


@dataclasses.dataclass
class Viewed(Listed):
    """What the client's own copy looked like."""


@dataclasses.dataclass
class Digested:
    epoch: str
    version: int
    sha: str
    filter: Filter


@dataclasses.dataclass
class Refused:
    """A call that went on from `after` was answered by an error; `oldest` is what it named, `now` the version then."""
    call: str
    epoch: str
    after: int
    error: str
    oldest: int = 0
    now: int = 0
    epoch_now: str = ''


@dataclasses.dataclass
class Record:
    """All that one client wrote down."""
    name: str
    filter: Filter
    log: list = dataclasses.field(default_factory=list)

    def begin(self, way, epoch, after=None):
        """Begin a run; return it."""
        run = Run(epoch, way, after)
        self.log.append(run)
        return run

    def heard(self, run, event):
        self.log.append(Heard(run, event))

    def mark(self, run, version):
        self.log.append(Mark(run, version))

    def since(self, run, version):
        self.log.append(Since(run, version))

    def listed(self, epoch, version, objects):
        self.log.append(Listed(epoch, version, objects))

    def viewed(self, epoch, version, objects):
        self.log.append(Viewed(epoch, version, objects))
