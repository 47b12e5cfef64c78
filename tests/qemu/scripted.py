#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Something that says it is QEMU, and misbehaves, before a whole broker: every event that the installed QEMU has, with and without
what belongs to it; bytes one by one; hostile words; garbage, silence and death at every point; a flood.
"""

import json
import os
import socket
import subprocess
import threading
import time

import qemukit
from house import end_broker
from qemukit import story_of

from kit import program
from kit.loop import wait_for

GREETING = {'QMP': {'version': {'qemu': {'micro': 22, 'minor': 2, 'major': 7}, 'package': ''}, 'capabilities': ['oob']}}
ANSWERS = {
    'qmp_capabilities': {}, 'query-uuid': {'UUID': '00000000-0000-0000-0000-000000000000'}, 'query-name': {},
    'query-target': {'arch': 'x86_64'}, 'query-kvm': {'enabled': True, 'present': True}, 'qom-get': 'pc-i440fx-7.2-machine',
    'query-cpus-fast': [{}], 'query-memory-size-summary': {'base-memory': 1 << 25}, 'query-block': [], 'query-vnc': {},
    'query-spice': {}, 'query-chardev': [], 'query-status': {'status': 'running', 'running': True},
}


class Peer:
    """A monitor. `answers` may hold values, functions of the command, or None: silence."""

    def __init__(self, path, answers=None, part=0, greeting=GREETING, hidden=False):
        self.answers = {**ANSWERS, **(answers or {})}
        self.part = part
        self.greeting = greeting
        self.commands = []
        self.client = None
        self.lock = threading.Lock()
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path) + '.new')
        self.server.listen(1)
        self.path = path
        if not hidden:
            self.show()

    def show(self):
        # listening before it can be seen
        os.rename(str(self.path) + '.new', self.path)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            self.client, _ = self.server.accept()
            if self.greeting is not None:
                self.say(self.greeting)
            for line in self.client.makefile('r', encoding='utf-8', errors='replace'):
                command = json.loads(line)
                self.commands.append(command['execute'])
                self.answer(command)
        except (OSError, ValueError):
            pass

    def answer(self, command):
        name = command['execute']
        if name not in self.answers:
            self.say({'id': command['id'], 'error': {'class': 'CommandNotFound', 'desc': f'no {name}'}})
            return
        value = self.answers[name]
        if callable(value):
            value = value(command)
        if value is not None:
            self.say({'return': value, 'id': command['id']})

    def say(self, thing):
        self.raw((thing if isinstance(thing, bytes) else json.dumps(thing).encode()) + b'\r\n')

    def raw(self, data):
        with self.lock:
            if not self.part:
                self.client.sendall(data)
                return
            for i in range(0, len(data), self.part):
                self.client.sendall(data[i:i + self.part])

    def event(self, name, data=None):
        self.say({'timestamp': {'seconds': 1, 'microseconds': 2}, 'event': name, **({} if data is None else {'data': data})})

    def end(self):
        for s in self.client, self.server:
            if s:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


def events_of_qemu():
    """Return {event: members that are strings, numbers, booleans} by the installed QEMU's own word."""
    said = subprocess.run(['qemu-system-x86_64', '-machine', 'none', '-display', 'none', '-nodefaults', '-qmp', 'stdio'],
                          input='{"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}{"execute":"quit"}', text=True,
                          stdout=subprocess.PIPE, check=True, timeout=60).stdout
    schema = next(v['return'] for v in map(json.loads, said.splitlines()) if isinstance(v.get('return'), list))
    types = {t['name']: t for t in schema}

    def sample(name):
        kind = types[name]
        meta = kind['meta-type']
        if meta == 'object':
            return {m['name']: sample(m['type']) for m in kind.get('members', [])}
        if meta == 'enum':
            return kind['values'][0]
        if meta == 'array':
            return []
        if meta == 'alternate':
            return None
        return {'str': 'word', 'int': 7, 'bool': True, 'number': 1.5}.get(name, 7)
    return {t['name']: sample(t['arg-type']) for t in schema if t['meta-type'] == 'event'}


def main(test):
    program.needs(qemukit.missing, program.needs_vireod)
    directory = test.scope.directory('monitors')
    vireod = test.vireod(f'qmp://{directory}')
    vireod.wait_connected()
    recorder = vireod.recorder

    def appear(name, **options):
        peer = Peer(directory / f'{name}.qmp', **options)
        event = recorder.wait('Started', name=name, limit=20)
        return peer, event.path

    with test.case('every event that QEMU has'):
        peer, path = appear('events')
        events = events_of_qemu()
        test.check(len(events) > 40 and 'STOP' in events, f'{len(events)} events')
        # these move the domain, and are in other tests; here they would hide each other
        movers = {'STOP', 'RESUME', 'SHUTDOWN', 'SUSPEND', 'SUSPEND_DISK', 'WAKEUP', 'GUEST_PANICKED', 'GUEST_CRASHLOADED'}
        before = len(recorder.of(path))
        for data in (None, {}, 'sample'):
            for name, sample in sorted(events.items()):
                if name not in movers:
                    peer.event(name, sample if data == 'sample' else data)
        told = 3 * (len(events) - len(movers))
        wait_for(lambda: len(recorder.of(path)) >= before + told, 30, lambda: f'{told} events; {len(recorder.of(path)) - before}')
        test.equal(len(recorder.of(path)) - before, told, 'each is told, once')
        unknown = [w for w in story_of(recorder, path) if w == 'MonitorEvent(other)']
        test.equal(unknown, [], 'none is nameless')
        peer.event('SOMETHING_NEW', {'a': 'b'})
        wait_for(lambda: 'MonitorEvent(other)' in story_of(recorder, path), 20, 'one that is new is told too')
        for name in sorted(movers):
            peer.event(name)
            peer.event(name, {'reason': 5, 'action': {}, 'guest': 'yes'})
        peer.event('SHUTDOWN', {'guest': True, 'reason': 'guest-shutdown'})
        peer.end()
        recorder.wait('Removed', path=path)

    with test.case('two versions'):
        connection = vireod.connection_path()
        test.equal(vireod.get(connection, 'Connection', 'HypervisorVersion'), 'QEMU 7.2.22', 'of the first')
        other = {'QMP': {'version': {'qemu': {'micro': 1, 'minor': 0, 'major': 10}, 'package': ''}, 'capabilities': []}}
        first, _ = appear('first')
        peer, path = appear('other', greeting=other)
        test.equal(vireod.get(connection, 'Connection', 'HypervisorVersion'), 'QEMU 10.0.1, QEMU 7.2.22', 'of both')
        for p in first, peer:
            p.end()
        recorder.wait('Removed', path=path)

    with test.case('byte by byte'):
        peer, path = appear('bytes', part=1)
        peer.event('RTC_CHANGE', {'offset': -5})
        event = recorder.wait('RTCChanged', path=path)
        test.equal(event.details['offset'], -5, 'what it brings')
        peer.end()
        recorder.wait('Removed', path=path)

    with test.case('hostile words'):
        nasty = b'{"return": {"name": "\xff\xfe\xc0\x80 \\ud800 \\u0007 \xef\xbf\xbe <&>"}, "id": %d}'
        peer = Peer(directory / 'nasty.qmp', hidden=True)
        peer.answers['query-name'] = lambda c: peer.say(nasty % c['id'])
        peer.answers['query-block'] = [{'device': '\x00\x01', 'qdev': '\ufffe', 'inserted': {'file': 7, 'drv': [], 'image': 'x'}}, 5, None,
                                       {'inserted': {'node-name': '"><x y="', 'file': ']]>'}, 'device': 'd'}]
        peer.answers['query-memory-size-summary'] = {'base-memory': -1, 'plugged-memory': 'much'}
        peer.answers['query-cpus-fast'] = {'no': 'list'}
        peer.show()
        event = wait_for(lambda: next((e for e in recorder.events if e.event == 'Started' and '<&>' in e.name), None), 20, 'it appears')
        _, xml = vireod.call(event.path, 'org.vireo1.Domain', 'GetXML', '(a{sv})', {})
        test.check(xml.startswith('<domain') and '&lt;&amp;&gt;' in xml, f'the XML: {xml}')
        peer.end()
        recorder.wait('Removed', path=event.path)

    with test.case('an end at every point'):
        for n, name in enumerate(['query-uuid', 'query-target', 'qom-get', 'query-cpus-fast', 'query-status']):
            file = directory / f'dies-{n}.qmp'
            peer = Peer(file, hidden=True)
            peer.answers[name] = lambda c, p=peer: p.raw(b'{"return": {"ha') or p.end()
            peer.show()
            wait_for(lambda: name in peer.commands, 20, f'{name} is asked', poll=0.02)  # pylint: disable=cell-var-from-loop
        for n, words in enumerate([b'garbage', b'[]', b'{"return": {}}', b'{"return": 1, "id": 99}', b'{"a"' * 100000, b'\x00']):
            peer = Peer(directory / f'talks-{n}.qmp', hidden=True)
            peer.answers['query-status'] = lambda c, p=peer, w=words: p.say(w)
            peer.show()
            wait_for(lambda: 'query-status' in peer.commands, 20, 'it is asked', poll=0.02)  # pylint: disable=cell-var-from-loop
        vireod.sync()
        names = [p['Name'] for k, p in vireod.snapshot()[2].values() if k == 'Domain']
        test.equal([n for n in names if n.startswith(('dies', 'talks'))], [], 'none of them ever was a domain')

    with test.case('garbage in the middle of a life'):
        peer, path = appear('liar')
        peer.say(b'now for something else')
        recorder.wait('Removed', path=path)
        test.equal(story_of(recorder, path)[-2:], ['Stopped(failed)', 'Removed'], 'it cannot be followed any more')

    with test.case('jobs without end'):
        def more_jobs(command):
            return [{'id': f'{command["id"]}-{n}', 'type': 'mirror', 'status': 'running', 'current-progress': 1, 'total-progress': 2}
                    for n in range(20000)]
        asked = []
        peer, path = appear('jobs', answers={'query-jobs': lambda c: asked.append(c) or more_jobs(c)})
        slowest = 0
        # the second answer is a proof that the first has been dealt with
        while len(asked) < 2 or slowest == 0:
            began = time.monotonic()
            vireod.call('/org/vireo1', 'org.freedesktop.DBus.Peer', 'Ping', limit=60)
            slowest = max(slowest, time.monotonic() - began)
        print(f'the slowest Ping took {slowest * 1000:.1f} ms')
        jobs = [e for e in vireod.history() if e.kind == 'Job' and e.event == 'Added' and e.properties['Object'] == path]
        test.check(0 < len(jobs) <= 64 * len(asked), f'{len(jobs)} jobs of {len(asked)} answers')
        peer.end()
        recorder.wait('Removed', path=path, limit=60)

    with test.case('a flood'):
        peer, path = appear('flood')
        line = json.dumps({'event': 'RTC_CHANGE', 'data': {'offset': 1}}).encode() + b'\r\n'
        count = 20000
        threading.Thread(target=peer.raw, args=(line * count,), daemon=True).start()
        slowest = 0
        for _ in range(50):
            began = time.monotonic()
            vireod.call('/org/vireo1', 'org.freedesktop.DBus.Peer', 'Ping')
            slowest = max(slowest, time.monotonic() - began)
        print(f'the slowest Ping took {slowest * 1000:.1f} ms')
        wait_for(lambda: sum(e.event == 'RTCChanged' for e in recorder.of(path)) >= count, 120,
                 lambda: f'{count}; {len(recorder.of(path))}')
        peer.end()
        recorder.wait('Removed', path=path)
    test.judge(vireod)
    end_broker(test, vireod)


program.run(main)
