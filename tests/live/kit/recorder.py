# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything that the broker said on the bus, in order."""

import dataclasses
import json

from gi.repository import Gio, GLib

from .loop import wait_for

NAME = 'org.vireo1'
ROOT = '/org/vireo1'
EVENT_SIGNATURE = '(ttsa{sv}a{sv})'
EVENT_INTERFACES = {f'{NAME}.{kind}' for kind in ('Connection', 'Domain', 'StoragePool', 'Network', 'Job')}
UNKNOWN = 2**64 - 1


@dataclasses.dataclass
class Message:
    """One signal as it came."""
    sender: str
    path: str
    interface: str
    member: str
    signature: str
    body: tuple

    def __str__(self):
        return f'{self.path} {self.interface}.{self.member} {self.signature} {self.body}'


@dataclasses.dataclass
class Event:
    """One event of the broker, as it came in a signal (or, later, from history or a stream)."""
    path: str
    kind: str
    event: str
    version: int
    previous: int
    reason: str
    properties: dict
    details: dict

    @property
    def inferred(self):
        return self.details.get('inferred', False)

    @property
    def name(self):
        return self.properties.get('Name', self.path)

    def __str__(self):
        state = f"[{self.properties['State']}]" if 'State' in self.properties else ''
        return (f"{self.version:>5} < {self.previous:<5} {self.kind} {self.name!r} {self.event}"
                f"{f' ({self.reason})' if self.reason else ''}{state}{' inferred' if self.inferred else ''}")


def event_of(message):
    """Return the Event that a Message carries, or None."""
    if message.interface not in EVENT_INTERFACES or message.signature != EVENT_SIGNATURE:
        return None
    return Event(message.path, message.interface.rsplit('.', 1)[1], message.member, *message.body)


class Recorder:
    """Listens on a connection of its own to all that is said on a (private) bus.

    `messages` has everything from org.vireo1, and NameOwnerChanged of that name, in order; `events` the events alone.
    """

    def __init__(self, bus):
        self.messages = []
        self.events = []
        self.bookmark = 0
        self.watchers = []  # called with each event
        self._connection = bus.connect()
        self._connection.set_exit_on_close(False)
        self._subscription = self._connection.signal_subscribe(
            None, None, None, None, None, Gio.DBusSignalFlags.NO_MATCH_RULE, self._heard)
        # by hand, to know that the bus has them when this returns
        self._match('AddMatch', f"type='signal',sender='{NAME}'")
        self._match('AddMatch', f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{NAME}'")

    def _match(self, method, rule):
        self._connection.call_sync('org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', method,
                                   GLib.Variant('(s)', (rule,)), None, Gio.DBusCallFlags.NONE, 10000, None)

    def ignore_events(self):
        """From now on hear only who has the name: where there is too much to hear."""
        self._match('RemoveMatch', f"type='signal',sender='{NAME}'")

    def close(self):
        self._connection.signal_unsubscribe(self._subscription)
        self._connection.close_sync()

    def _heard(self, _connection, sender, path, interface, member, parameters):
        if member in ('NameAcquired', 'NameLost'):
            return
        message = Message(sender, path, interface, member, parameters.get_type_string(), parameters.unpack())
        self.messages.append(message)
        if interface == f'{NAME}.Manager' and member == 'Bookmark':
            self.bookmark = message.body[0]
        event = event_of(message)
        if event is not None:
            self.events.append(event)
            for watcher in self.watchers:
                watcher(event)

    # What was heard

    def of(self, path=None, kind=None, name=None, after=0):
        """Return the events of a path, a kind, a name (as it was at that event), in order."""
        return [e for e in self.events
                if e.version > after and (path is None or e.path == path) and (kind is None or e.kind == kind)
                and (name is None or e.properties.get('Name') == name)]

    def wait(self, event, path=None, name=None, after=0, limit=60):
        """Wait for an event of that name; return it."""
        def found():
            return next((e for e in self.of(path=path, name=name, after=after) if e.event == event), None)
        return wait_for(found, limit, lambda: f'{event} of {name or path or "anything"}; heard:\n{self.text(after)}')

    def wait_version(self, version, limit=60):
        """Wait until all signals up to a version are here (a Bookmark says so)."""
        wait_for(lambda: self.bookmark >= version or (self.events and self.events[-1].version >= version), limit,
                 lambda: f'version {version}; at {self.events[-1].version if self.events else 0}, '
                         f'bookmark {self.bookmark}')

    def text(self, after=0):
        return '\n'.join(str(e) for e in self.events if e.version > after)

    def save(self, path):
        """Write all messages, one JSON array a line, for reading and for the grammar's own tests."""
        with open(path, 'w', encoding='utf-8') as out:
            for m in self.messages:
                json.dump([m.sender, m.path, m.interface, m.member, m.signature, m.body], out, default=repr)
                out.write('\n')
