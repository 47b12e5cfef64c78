#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Broadcast=no: who may not see a thing learns nothing of it, by whatever way; and rights that change."""

import json
import re

from support import ALICE, BOB, CAROL, DENIED, ERROR, MANAGER, NAME, PROPERTIES, WATCHERS, GLib, PolicyCase, main, settle, \
    wait_for

OBJECT_MANAGER = 'org.freedesktop.DBus.ObjectManager'
INTROSPECTABLE = 'org.freedesktop.DBus.Introspectable'
VIEW = 'org.vireo1.view'
ONE, TWO = '/org/vireo1/connection/one', '/org/vireo1/connection/two'


def view(who, connection):
    return (f'polkit.addRule(function(action, subject) {{ if (action.id == "{VIEW}" && subject.user == "{who}" && '
            f'action.lookup("connection") == "{connection}") return "yes"; }});')


def allow(action, who):
    return (f'polkit.addRule(function(action, subject) {{ if (action.id == "{action}" && subject.user == "{who}") '
            'return "yes"; });')


NO = 'polkit.addRule(function(action, subject) { if (action.id.indexOf("org.vireo1.") == 0) return "no"; });'


class Private(PolicyCase):
    CONNECT = ('one', 'two')
    CONFIG = '[broker]\nBroadcast=no\n[view watchers]\nConnections=one\nDomains=web-*\n'

    def everything(self, caller, secrets):
        """Ask in every way there is; return all that was said."""
        epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        oldest = self.vireod.get(MANAGER, 'Manager', 'OldestVersion')
        said = []

        def ask(*call, **options):
            said.append(json.dumps(caller.send(*call, **options).raw()))

        def objects(key, values):
            return {key: GLib.Variant('ao', values)}
        manager = f'{NAME}.Manager'
        ask(MANAGER, OBJECT_MANAGER, 'GetManagedObjects')
        ask(MANAGER, PROPERTIES, 'GetAll', '(s)', manager)
        ask(MANAGER, PROPERTIES, 'GetAll', '(s)', '')
        ask(MANAGER, PROPERTIES, 'Get', '(ss)', manager, 'Connections')
        for options in ({}, objects('connections', secrets['connections']), objects('objects', secrets['paths']),
                        {'kinds': GLib.Variant('as', ['domain', 'job'])}):
            ask(MANAGER, manager, 'GetSnapshot', '(a{sv})', options)
            ask(MANAGER, manager, 'Digest', '(a{sv})', options)
            ask(MANAGER, manager, 'GetEvents', '(stuta{sv})', epoch, oldest, 0, 0, options)
        for path in secrets['connections']:
            ask(MANAGER, manager, 'Sync', '(a{sv})', objects('connections', [path]))
        ask(MANAGER, manager, 'Sync', '(a{sv})', {})
        for kind in ('Domain', 'Pool', 'Network'):
            for name in secrets['names'] + secrets['uuids']:
                error = caller.manager(f'Lookup{kind}', '(s)', name).error()
                self.assertIn(error[0], (f'{ERROR}NotFound', DENIED))
                said.append(error[1].replace(name, '…'))  # what he said himself is no secret
        for path in ['/', '/org', MANAGER, '/org/vireo1/connection', '/org/vireo1/job', ONE, f'{ONE}/domain']:
            ask(path, INTROSPECTABLE, 'Introspect')
        # what he said himself is no news to him
        return re.sub(r"Unknown object \'[^\']*\'|there is no connection [\w/]*", '', '\n'.join(said))

    def silent_about(self, said, secrets):
        for secret in secrets:
            at = said.find(secret)
            self.assertEqual(at, -1, f'{secret} is in …{said[max(0, at - 100):at + 100]}…')

    def no_sign(self, caller, paths):
        """What is hidden answers to every call as what does not exist."""
        for path in paths:
            nowhere = re.sub(r'[0-9a-f](?=[0-9a-f_]*$)', 'f', path) if '_' in path.rsplit('/', 1)[1] else path + 'x'
            if nowhere == path:
                nowhere = path[:-1] + 'e'
            kind = 'Domain' if '/domain/' in path else 'StoragePool' if '/pool/' in path else \
                'Network' if '/network/' in path else 'Job' if '/job/' in path else 'Connection'
            calls = [('org.freedesktop.DBus.Introspectable', 'Introspect', '()', ()),
                     (PROPERTIES, 'GetAll', '(s)', (f'{NAME}.{kind}',)), (PROPERTIES, 'Get', '(ss)', (f'{NAME}.{kind}', 'Version')),
                     (PROPERTIES, 'Set', '(ssv)', (f'{NAME}.{kind}', 'Name', GLib.Variant('s', 'x'))),
                     (OBJECT_MANAGER, 'GetManagedObjects', '()', ()), (f'{NAME}.{kind}', 'GetXML', '(a{sv})', ({},)),
                     (f'{NAME}.{kind}', 'Start', '(a{sv})', ({},)), (f'{NAME}.{kind}', 'Start', '(s)', ('x',)),
                     (f'{NAME}.{kind}', 'Resync', '(a{sv})', ({},)), (f'{NAME}.{kind}', 'Nonsense', '()', ()),
                     (f'{NAME}.{kind}', 'Cancel', '(a{sv})', ({},)), (f'{NAME}.{kind}', 'Wait', '(t)', (0,))]
            for interface, method, signature, arguments in calls:
                with self.subTest(f'{path} {method}{signature}'):
                    here = caller.send(path, interface, method, signature, *arguments).raw()
                    there = caller.send(nowhere, interface, method, signature, *arguments).raw()
                    self.assertEqual(*(json.dumps({k: v for k, v in a.items() if k != 'number'}).replace(p, 'PATH')
                                       for a, p in ((here, path), (there, nowhere))))

    def secrets(self, hidden):
        """What must not be heard: of all that `hidden(path, properties)` says is hidden."""
        found = {'paths': [], 'names': [], 'uuids': [], 'connections': []}
        for path, (kind, properties) in self.vireod.snapshot()[2].items():
            if not hidden(path, properties):
                continue
            found['paths'].append(path)
            if kind == 'Connection':
                found['connections'].append(path)
            if 'UUID' in properties:
                found['names'].append(properties['Name'])
                found['uuids'].append(properties['UUID'])
        return found

    def toggle(self, path):
        active = self.vireod.get(path, 'Domain', 'Active')
        return self.vireod.call(path, f'{NAME}.Domain', 'Destroy' if active else 'Start', '(a{sv})', {})[1]

    def domain(self, connection, name):
        return next(p for p, v in self.objects('Domain').items() if v['Name'] == name and p.startswith(connection + '/'))

    def test_one_of_two_connections(self):
        self.rules(view('alice', 'one') + NO)
        alice = self.caller(ALICE)
        self.toggle(self.domain(TWO, 'db-2'))
        secrets = self.secrets(lambda path, p: path.startswith(TWO) or str(p.get('Object', '')).startswith(TWO))
        said = self.everything(alice, {**secrets, 'names': [], 'uuids': []})
        self.assertTrue(ONE + '/domain/' in said)
        self.silent_about(said, secrets['paths'])
        self.no_sign(alice, secrets['paths'])
        # names are ambiguous only among what he sees
        self.assertTrue(alice.manager('LookupDomain', '(s)', 'web-1').get().startswith(ONE))
        # count and digest are those of what he sees
        version, digest = alice.manager('Digest', '(a{sv})', {}).get()
        mine = self.vireod.manager('Digest', '(a{sv})', {'connections': GLib.Variant('ao', [ONE])})
        self.assertEqual((version, digest), mine)

    def test_nothing_at_all(self):
        self.rules(NO)
        bob = self.caller(BOB)
        secrets = self.secrets(lambda path, p: True)
        said = self.everything(bob, secrets)
        self.silent_about(said, secrets['paths'] + secrets['names'] + secrets['uuids'])
        self.no_sign(bob, secrets['paths'])
        for method, signature, arguments in (('GetSnapshot', '(a{sv})', ({},)), ('Watch', '(a{sv})', ({},)),
                                             ('Subscribe', '(a{sv})', ({},)), ('Sync', '(a{sv})', ({},))):
            self.assertEqual(bob.manager(method, signature, *arguments).error()[0], DENIED)
        self.assertEqual(bob.get(MANAGER, 'Manager', 'Connections').get(), [])

    def test_a_list_of_names(self):
        self.rules(NO)
        carol = self.caller(CAROL, WATCHERS)
        shown = [self.domain(ONE, 'web-1'), self.domain(ONE, 'web-2')]
        self.toggle(self.domain(ONE, 'db-2'))
        secrets = self.secrets(lambda path, p: path not in [*shown, ONE] and str(p.get('Object', '')) not in shown)
        secrets['names'] = [n for n in secrets['names'] if not n.startswith('web-')]
        two = [u for u in secrets['uuids'] if u.endswith(('01', '02'))]  # the same are shown in the other connection
        secrets['uuids'] = [u for u in secrets['uuids'] if u not in two]
        said = self.everything(carol, secrets)
        self.assertTrue(shown[0] in said)
        self.silent_about(said, secrets['paths'] + secrets['names'] + secrets['uuids'])
        self.no_sign(carol, secrets['paths'])
        self.assertEqual({o[0] for o in carol.manager('GetSnapshot', '(a{sv})', {}).get()[2] if '/job/' not in o[0]},
                         {ONE, *shown})
        # who is not a member sees nothing
        self.assertEqual(self.caller(CAROL).manager('GetSnapshot', '(a{sv})', {}).error()[0], DENIED)

    def test_signals(self):
        self.rules(view('alice', 'one') + view('bob', 'two') + NO)
        alice, bob, carol = self.caller(ALICE), self.caller(BOB), self.caller(CAROL, WATCHERS)
        everyone = (alice, bob, carol)
        for caller in everyone:
            caller.listen()
            caller.manager('Subscribe', '(a{sv})', {}).get()
        silent = self.caller(ALICE)
        silent.listen()
        hidden, shown = self.domain(TWO, 'db-2'), self.domain(ONE, 'web-2')
        self.toggle(hidden)
        version = self.toggle(shown)
        for caller in everyone:
            wait_for(lambda c=caller: any(s[2] == 'Bookmark' and s[3][0] >= version for s in c.signals), 30, 'a Bookmark')
        heard = {caller: json.dumps([s for s in caller.signals if s[2] != 'Bookmark'], default=str) for caller in everyone}
        self.assertIn(shown, heard[alice])
        self.assertNotIn(TWO, heard[alice])
        self.assertIn(hidden, heard[bob])
        self.assertNotIn(ONE, heard[bob])
        self.assertIn(shown, heard[carol])
        self.assertNotIn(TWO, heard[carol])
        other = self.domain(ONE, 'db-2')
        before = len(carol.signals)
        version = self.toggle(other)
        wait_for(lambda: any(s[2] == 'Bookmark' and s[3][0] >= version for s in carol.signals), 30, 'a Bookmark')
        self.assertEqual([s for s in carol.signals[before:] if s[2] != 'Bookmark'], [])
        self.assertEqual([s for s in silent.signals if s[0].startswith(MANAGER)], [])

    def test_rights_withdrawn(self):
        self.rules(view('alice', 'one') + view('alice', 'two') + NO)
        alice = self.caller(ALICE)
        alice.listen()
        alice.manager('Subscribe', '(a{sv})', {}).get()
        epoch, version = alice.manager('GetSnapshot', '(a{sv})', {}).get()[:2]
        lines = alice.read(alice.manager('Watch', '(a{sv})', {}))
        poll = alice.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 20000000, {})
        # a change of rules that changes nothing for alice ends nothing
        self.rules(view('alice', 'one') + view('alice', 'two') + view('bob', 'one') + NO)
        settle(quiet=0.5, changed=lambda: len(alice.answers))
        self.assertFalse(poll.there)
        self.rules(view('alice', 'one') + NO)
        self.assertEqual(poll.error()[0], f'{ERROR}AccessChanged')
        wait_for(lambda: lines and lines[-1] is None, 30, 'the end of the stream')
        self.assertEqual(json.loads(lines[-2])['type'], 'org.vireo1.AccessChanged')
        goes = self.domain(TWO, 'web-1')
        wait_for(lambda: any(s[2] == 'InterfacesRemoved' and s[3][0] == goes for s in alice.signals), 30, 'it goes')
        removed = [s[3][0] for s in alice.signals if s[2] == 'InterfacesRemoved']
        self.assertTrue(all(p.startswith(TWO) or '/job/' in p for p in removed))
        # and from then on
        before = len(alice.signals)
        version = self.toggle(self.domain(TWO, 'web-2'))
        wait_for(lambda: any(s[2] == 'Bookmark' and s[3][0] >= version for s in alice.signals), 30, 'a Bookmark')
        self.assertNotIn(TWO, json.dumps([s for s in alice.signals[before:]], default=str))
        self.assertNotIn(TWO, json.dumps(alice.manager('GetSnapshot', '(a{sv})', {}).get(), default=str))

    def test_membership_withdrawn(self):
        """polkit's rules ask for groups, but polkit does not say when those change."""
        member = f'polkit.addRule(function(a, s) {{ if (a.id == "{VIEW}" && s.isInGroup("operators")) return "yes"; }});'
        self.rules(member + NO)
        alice = self.caller(ALICE)
        epoch, version = alice.manager('GetSnapshot', '(a{sv})', {}).get()[:2]
        poll = alice.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 20000000, {})
        group = self.polkit.top / 'group'
        text = group.read_text()
        wait_for(lambda: poll.caller.process.poll() is None and not poll.there, 5)
        # as it is mounted, in place
        with group.open('r+') as file:
            file.write(text.replace('operators:x:64090:alice', 'operators:x:64090:     '))
        try:
            self.assertEqual(poll.error()[0], f'{ERROR}AccessChanged')
            self.assertEqual(alice.manager('GetSnapshot', '(a{sv})', {}).error()[0], DENIED)
        finally:
            with group.open('r+') as file:
                file.write(text)

    def test_rights_given(self):
        self.rules(view('alice', 'one') + NO)
        alice = self.caller(ALICE)
        alice.listen()
        alice.manager('Subscribe', '(a{sv})', {}).get()
        epoch, version = alice.manager('GetSnapshot', '(a{sv})', {}).get()[:2]
        poll = alice.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 20000000, {})
        lines = alice.read(alice.manager('Watch', '(a{sv})', {'initial': GLib.Variant('b', True)}))
        wait_for(lambda: any('Bookmark' in line for line in lines), 30, 'the bookmark')
        self.assertNotIn(TWO, '\n'.join(lines))
        self.rules(view('alice', 'one') + view('alice', 'two') + NO)
        self.assertEqual(poll.error()[0], f'{ERROR}AccessChanged')
        wait_for(lambda: lines[-1] is None, 30, 'the end of the stream')
        appears = self.domain(TWO, 'web-1')
        wait_for(lambda: any(s[2] == 'InterfacesAdded' and s[3][0] == appears for s in alice.signals), 30, 'it appears')

    def test_rights_changed_between_two_polls(self):
        self.rules(view('alice', 'one') + view('alice', 'two') + NO)
        alice = self.caller(ALICE)
        epoch, version = alice.manager('GetSnapshot', '(a{sv})', {}).get()[:2]
        self.assertEqual(alice.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 0, {}).get()[2], [])
        self.rules(view('alice', 'one') + NO)
        error = alice.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 0, {}).error()
        self.assertEqual(error[0], f'{ERROR}AccessChanged')
        version = alice.manager('GetSnapshot', '(a{sv})', {}).get()[1]
        self.assertEqual(alice.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 0, {}).get()[2], [])

    def test_a_name_that_changes(self):
        self.rules(NO)
        carol = self.caller(CAROL, WATCHERS)
        carol.listen()
        carol.manager('Subscribe', '(a{sv})', {}).get()
        epoch, version = carol.manager('GetSnapshot', '(a{sv})', {}).get()[:2]
        path = self.domain(ONE, 'mail-x7')
        poll = carol.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 20000000, {})
        self.vireod.call(path, f'{NAME}.Domain', 'Rename', '(sa{sv})', 'web-mail-x7', {})
        self.assertEqual(poll.error()[0], f'{ERROR}AccessChanged')
        version, shown = carol.manager('GetSnapshot', '(a{sv})', {}).get()[1:]
        self.assertIn(path, [o[0] for o in shown])
        wait_for(lambda: any(s[2] == 'InterfacesAdded' and s[3][0] == path for s in carol.signals), 30, 'it appears')
        poll = carol.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 20000000, {})
        self.vireod.call(path, f'{NAME}.Domain', 'Rename', '(sa{sv})', 'mail-x7', {})
        self.assertEqual(poll.error()[0], f'{ERROR}AccessChanged')
        self.assertEqual(carol.domain(path, 'GetXML').error()[0], 'org.freedesktop.DBus.Error.UnknownObject')

    def test_hidden_things_as_arguments(self):
        """What is hidden is, as an argument, what does not exist; whatever else this caller may do."""
        self.rules(view('alice', 'one') + ''.join(allow(f'org.vireo1.{a}', 'alice') for a in (
            'read-xml', 'control', 'manage', 'storage', 'jobs.cancel', 'connections')) + NO)
        alice = self.caller(ALICE)
        epoch, version = alice.manager('GetSnapshot', '(a{sv})', {}).get()[:2]
        pool = next(p for p, (kind, v) in self.vireod.snapshot()[2].items() if kind == 'StoragePool' and p.startswith(ONE))
        domain = self.domain(TWO, 'web-1')
        self.toggle(domain)
        job = next(p for p, (kind, v) in self.vireod.snapshot()[2].items() if kind == 'Job' and v['Object'].startswith(TWO))

        def answers(top):
            def paths(key, *values):
                return {key: GLib.Variant('ao', [v.replace(TWO, top) for v in values])}
            manager, late = f'{NAME}.Manager', {'timeout': GLib.Variant('t', 1000000)}
            nobody = job if top == TWO else '/org/vireo1/job/_999999999'
            some = [paths('connections', TWO), paths('objects', TWO, domain), paths('objects', nobody),
                    paths('connections', TWO, ONE)]
            calls = [(MANAGER, manager, method, '(a{sv})', o) for method in ('GetSnapshot', 'Digest', 'Subscribe') for o in some]
            calls += [(MANAGER, manager, 'GetEvents', '(stuta{sv})', epoch, version, 0, 0, o) for o in some]
            calls += [(MANAGER, manager, 'Sync', '(a{sv})', {**o, **late}) for o in (some[0], some[3])]
            calls += [(MANAGER, manager, 'Close', '(o)', path.replace(TWO, top)) for path in (TWO, domain)]
            calls += [(pool, f'{NAME}.StoragePool', 'CloneVolume', '(ssa{sv})', 'a', 'b',
                       {'pool': GLib.Variant('o', pool.replace(ONE, top))})]
            calls += [(domain.replace(TWO, top), f'{NAME}.Domain', method, '(a{sv})', {}) for method in ('Start', 'GetXML')]
            calls += [(nobody, f'{NAME}.Job', 'Cancel', '(a{sv})', {}), (nobody, f'{NAME}.Job', 'Wait', '(t)', 0)]
            for call in calls:
                answer = alice.send(*call).raw()
                answer.pop('number')
                # versions go on, which may be seen
                yield call[2], re.sub(r'uint64 \d+|\b\d{2,}\b', '#', json.dumps(answer).replace(top, 'TOP').replace(nobody, 'JOB'))
        before = self.vireod.get(TWO, 'Connection', 'State')
        for (method, hidden), (_, nothing) in zip(answers(TWO), answers('/org/vireo1/connection/zwo')):
            with self.subTest(method):
                self.assertEqual(hidden, nothing)
        self.assertEqual(self.vireod.get(TWO, 'Connection', 'State'), before)

    def test_who_listens_in(self):
        """What is sent to one is not for others, by whatever rule they ask for it."""
        self.rules(view('alice', 'one') + NO)
        alice, bob = self.caller(ALICE), self.caller(BOB)
        alice.listen()
        alice.manager('Subscribe', '(a{sv})', {}).get()
        for rule in ("eavesdrop='true',sender='org.vireo1'", "eavesdrop='true',type='signal',path_namespace='/org/vireo1'",
                     f"eavesdrop='true',destination='{alice.name}'", "eavesdrop='true'"):
            bob.spy(rule).raw()
        become = bob.send('/org/freedesktop/DBus', 'org.freedesktop.DBus.Monitoring', 'BecomeMonitor', '(asu)', [], 0,
                          name='org.freedesktop.DBus')
        self.assertEqual(become.error()[0], DENIED)
        version = self.toggle(self.domain(ONE, 'web-2'))
        wait_for(lambda: any(s[2] == 'Bookmark' and s[3][0] >= version for s in alice.signals), 30, 'a Bookmark')
        # what was sent to him before is there now
        bob.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetId', name='org.freedesktop.DBus')
        self.assertTrue([s for s in alice.signals if s[0].startswith(MANAGER)])
        self.assertEqual([s for s in bob.signals if s[0].startswith(MANAGER)], [])

    def test_what_it_was_called_before(self):
        """Who sees by name does not learn under which names he did not see it."""
        self.rules(NO)
        carol = self.caller(CAROL, WATCHERS)
        carol.listen()
        carol.manager('Subscribe', '(a{sv})', {}).get()
        carol.manager('GetSnapshot', '(a{sv})', {}).get()
        epoch, version = carol.manager('GetSnapshot', '(a{sv})', {}).get()[:2]
        path = self.domain(ONE, 'mail-x7')
        names = ['mail-x7', 'web-mx', 'web-my', 'mail-x7']
        self.toggle(path)
        self.toggle(path)
        for new in names[1:]:
            if new == names[-1]:
                # another caller, to whom nothing was said yet
                late = self.caller(CAROL, WATCHERS)
                events = late.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 0, {}).get()[2]
                lines = late.read(late.manager('Watch', '(a{sv})', {'epoch': GLib.Variant('s', epoch), 'after': GLib.Variant('t', version)}))
                wait_for(lambda: any('"web-my"' in line for line in lines), 30, 'the present name')
            self.vireod.call(path, f'{NAME}.Domain', 'Rename', '(sa{sv})', new, {})
            if new == 'web-mx':
                version_mx = self.vireod.get(path, 'Domain', 'Version')
        mine = [e for e in events if e[3] == path]
        # from one name that she may see to another: nothing is kept from her
        self.assertEqual([(e[4], e[7]['Name'], e[8].get('old-name')) for e in mine], [('Defined', 'web-my', 'web-mx')])
        self.assertEqual(mine[0][1], version_mx)
        version = self.toggle(self.domain(ONE, 'web-2'))
        wait_for(lambda: any(s[2] == 'Bookmark' and s[3][0] >= version for s in carol.signals), 30, 'a Bookmark')
        self.assertNotIn('mail-x7', json.dumps(events) + '\n'.join(filter(None, lines)) + json.dumps(carol.signals, default=str))
        appeared = [s for s in carol.signals if s[2] == 'InterfacesAdded' and s[3][0] == path]
        self.assertEqual([s[3][1][f'{NAME}.Domain']['Name'] for s in appeared], ['web-mx'])
        self.assertEqual([s[2] for s in carol.signals if s[2] == 'InterfacesRemoved' and s[3][0] == path], ['InterfacesRemoved'])

    def test_a_new_connection(self):
        self.rules(view('alice', 'one') + view('alice', 'third') + NO)
        alice = self.caller(ALICE)
        alice.listen()
        alice.manager('Subscribe', '(a{sv})', {}).get()
        before = alice.get(MANAGER, 'Manager', 'Connections').get()
        for label in ('third', 'fourth'):
            self.vireod.manager('Open', '(sa{sv})', f'sim:///3?seed={len(label)}', {'label': GLib.Variant('s', label)})
        third = '/org/vireo1/connection/third'
        wait_for(lambda: any(s[2] == 'InterfacesAdded' and s[3][0] == third for s in alice.signals), 30, 'the third appears')
        self.assertEqual(alice.get(MANAGER, 'Manager', 'Connections').get(), [*before, third])
        for label in ('third', 'fourth'):
            self.vireod.manager('Close', '(o)', f'/org/vireo1/connection/{label}')
        wait_for(lambda: any(s[2] == 'InterfacesRemoved' and s[3][0] == third for s in alice.signals), 30, 'it goes')
        self.assertNotIn('fourth', json.dumps(alice.signals, default=str))

    def test_another_connection_of_the_same_label(self):
        """What polkit said of a hypervisor is not said of the next that is called so."""
        self.rules(f'polkit.addRule(function(action, subject) {{ if (action.id == "{VIEW}" && subject.user == "alice" && '
                   'action.lookup("driver") == "sim") return "yes"; });' + NO)
        alice = self.caller(ALICE)
        alice.listen()
        alice.manager('Subscribe', '(a{sv})', {}).get()
        label, path = {'label': GLib.Variant('s', 'same')}, '/org/vireo1/connection/same'
        self.vireod.manager('Open', '(sa{sv})', 'sim:///3?seed=4', label)
        wait_for(lambda: any(s[2] == 'InterfacesAdded' and s[3][0] == path for s in alice.signals), 30, 'it appears')
        self.assertEqual(alice.get(path, 'Connection', 'Driver').get(), 'sim')
        self.vireod.manager('Close', '(o)', path)
        wait_for(lambda: any(s[2] == 'InterfacesRemoved' and s[3][0] == path for s in alice.signals), 30, 'it goes')
        before = len(alice.signals)
        self.vireod.manager('Open', '(sa{sv})', 'test:///default', label)
        self.addCleanup(self.vireod.manager, 'Close', '(o)', path)
        self.assertEqual(alice.get(path, 'Connection', 'Driver').error()[0], 'org.freedesktop.DBus.Error.UnknownObject')
        self.assertNotIn(path, json.dumps(alice.manager('GetSnapshot', '(a{sv})', {}).get(), default=str))
        version = self.toggle(self.domain(ONE, 'web-2'))
        wait_for(lambda: any(s[2] == 'Bookmark' and s[3][0] >= version for s in alice.signals), 30, 'a Bookmark')
        self.assertNotIn(path, json.dumps(alice.signals[before:], default=str))

    def test_a_hidden_connection_comes_and_goes(self):
        """Without a sign: that the list of connections changes is one, even where the list looks the same."""
        self.rules(view('alice', 'one') + NO)
        alice = self.caller(ALICE)
        alice.listen()
        alice.manager('Subscribe', '(a{sv})', {}).get()
        alice.manager('GetSnapshot', '(a{sv})', {}).get()
        before = len(alice.signals)
        self.vireod.manager('Open', '(sa{sv})', 'sim:///3?seed=9', {'label': GLib.Variant('s', 'fifth')})
        self.vireod.manager('Close', '(o)', '/org/vireo1/connection/fifth')
        version = self.toggle(self.domain(ONE, 'web-2'))
        wait_for(lambda: any(s[2] == 'Bookmark' and s[3][0] >= version for s in alice.signals), 30, 'a Bookmark')
        news = [s for s in alice.signals[before:] if s[2] not in ('Bookmark', 'NameOwnerChanged')]
        self.assertTrue(news)
        for path, _interface, member, body in news:
            self.assertTrue(path.startswith((ONE + '/', '/org/vireo1/job/')) or 'Interfaces' in member, (path, member, body))
            self.assertNotEqual(body[0], f'{NAME}.Manager')

    def test_parents_of_hidden_objects(self):
        self.rules(view('alice', 'one') + NO)
        alice = self.caller(ALICE)
        for place in ('', '/domain', '/pool', '/network', '/nothing', '/domain/_x'):
            for interface, method, signature, arguments in (
                    (INTROSPECTABLE, 'Introspect', '()', ()), (OBJECT_MANAGER, 'GetManagedObjects', '()', ()),
                    (PROPERTIES, 'GetAll', '(s)', ('',)), (PROPERTIES, 'GetAll', '(s)', (f'{NAME}.Domain',)),
                    (f'{NAME}.Connection', 'Resync', '(a{sv})', ({},)),
                    (f'{NAME}.Connection', 'DefineDomain', '(sa{sv})', ('<x/>', {}))):
                with self.subTest(f'{place} {method}'):
                    here, there = (alice.send(f'/org/vireo1/connection/{label}{place}', interface, method, signature, *arguments).raw()
                                   for label in ('two', 'zwo'))
                    for answer in (here, there):
                        answer.pop('number')
                    self.assertEqual(json.dumps(here).replace('/two', '/zwo'), json.dumps(there))


if __name__ == '__main__':
    main()
