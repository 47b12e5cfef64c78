#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every method by somebody who may not, who may, and who may after a password; polkit stopped, hung, killed."""

import contextlib
import re
import signal
import xml.etree.ElementTree as ET

from support import ALICE, BOB, CAROL, DENIED, ERROR, INTERACTIVE, LIBVIRT, MANAGER, NAME, OPERATORS, ROOT, PROPERTIES, \
    BusError, GLib, PolicyCase, main, permissions, settle, wait_for

VIEW, XML, SECURE, CONTROL, MANAGE, STORAGE, CANCEL, CONNECTIONS = (f'org.vireo1.{a}' for a in (
    'view', 'read-xml', 'read-secure', 'control', 'manage', 'storage', 'jobs.cancel', 'connections'))
VALUES = {'h': 0, 't': 1048576, 'u': 1, 'b': False, 'a{sv}': {}}


def methods():
    """Yield (kind, method, signature) of the interface files."""
    for file in sorted((ROOT / 'introspection').glob('org.vireo1.*.xml')):
        for interface in ET.parse(file).iter('interface'):
            for method in interface.findall('method'):
                yield (interface.get('name').rsplit('.', 1)[1], method.get('name'),
                       [a.get('type') for a in method.findall('arg') if a.get('direction', 'in') == 'in'])


def allow(action, condition='true'):
    return f'polkit.addRule(function(action, subject) {{ if (action.id == "{action}" && ({condition})) return "yes"; }});'


def deny(action, condition='true'):
    return f'polkit.addRule(function(action, subject) {{ if (action.id == "{action}" && ({condition})) return "no"; }});'


LOG = '''polkit.addRule(function(action, subject) {
    polkit.log("ASKED " + action.id + " " + ["connection", "driver", "kind", "uuid", "name", "operation"].map(
        function(key) { return key + "=" + action.lookup(key); }).join(" "));
});'''
NOTHING = 'polkit.addRule(function(action, subject) { if (action.id.indexOf("org.vireo1.") == 0) return "no"; });'


def arguments(case, method, signature, epoch):
    """Return some arguments of these types that are good enough to be asked about."""
    values = []
    for letter in signature:
        if letter == 's':
            value = {'GetEvents': epoch, 'Open': 'sim:///other', 'Save': '/nowhere/x', 'Dump': '/nowhere/x',
                     'RestoreDomain': '/nowhere/x', 'Rename': 'renamed'}.get(method, 'x')
        elif letter == 'o':
            value = case.connection
        else:
            value = VALUES[letter]
        values.append(value)
    if method == 'GetEvents':
        values[1:4] = [case.version(), 0, 0]
    return values


class Methods(PolicyCase):
    def setUp(self):
        self.polkit_log = self.polkit.top / 'polkitd.log'

    def target(self, kind):
        if kind == 'Manager':
            return MANAGER
        if kind == 'Job':
            return self.job
        return sorted(self.objects(kind))[0]

    def make_job(self):
        path = next(p for p, v in sorted(self.objects('Domain').items()) if v['Persistent'] and not v['Active'])
        self.job = self.vireod.call(path, f'{NAME}.Domain', 'SetAutostart', '(ba{sv})', True, {})[0]

    def test_every_method_is_denied_and_has_no_effect(self):
        # the table of doc/permissions.md
        wanted = {key: f'org.vireo1.{action}' for key, action in permissions.actions().items()}
        self.make_job()
        epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        self.rules(NOTHING)
        bob = self.caller(BOB)
        before, seen = self.vireod.snapshot()[1:], 0
        for kind, method, signature in methods():
            with self.subTest(f'{kind}.{method}'):
                self.assertIn((kind, method), wanted, 'no action is documented for it')
                values = arguments(self, method, signature, epoch)
                name, words = bob.send(self.target(kind), f'{NAME}.{kind}', method, f'({"".join(signature)})', *values).error()
                self.assertEqual(name, DENIED, words)
                self.assertIn(wanted[kind, method], words)
                seen += 1
        self.assertGreater(seen, 60)
        self.assertEqual(self.vireod.snapshot()[1:], before, 'nothing that was denied has had an effect')

    def test_secure_xml_and_bulk_xml(self):
        domain = sorted(self.objects('Domain'))[0]
        alice = self.caller(ALICE)
        yes = GLib.Variant('b', True)
        self.rules(allow(VIEW) + allow(XML, 'action.lookup("kind") == "domain"') + NOTHING)
        self.assertIn('<domain', alice.domain(domain, 'GetXML').get()[1])
        self.assertIn('read-secure', alice.domain(domain, 'GetXML', '(a{sv})', {'secure': yes}).error()[1])
        # of one domain is not of all
        self.assertIn('read-xml', alice.manager('GetSnapshot', '(a{sv})', {'xml': yes}).error()[1])
        self.assertTrue(alice.manager('GetSnapshot', '(a{sv})', {}).get()[2])
        self.rules(allow(VIEW) + allow(XML) + allow(SECURE) + NOTHING)
        self.assertIn('<domain', alice.domain(domain, 'GetXML', '(a{sv})', {'secure': yes}).get()[1])
        self.assertTrue(any('XML' in o[2] for o in alice.manager('GetSnapshot', '(a{sv})', {'xml': yes}).get()[2]))

    def test_one_domain_by_name_and_by_uuid(self):
        domains = {p: v for p, v in self.objects('Domain').items() if v['Persistent']}
        (one, first), (two, second), (three, _third) = sorted(domains.items())[:3]
        alice = self.caller(ALICE)
        self.rules(allow(CONTROL, f'action.lookup("name") == "{first["Name"]}"') +
                   allow(CONTROL, f'action.lookup("uuid") == "{second["UUID"]}"') + NOTHING)
        for path in (one, two):
            active = self.vireod.get(path, 'Domain', 'Active')
            alice.domain(path, 'Destroy' if active else 'Start').get()
            self.assertEqual(self.vireod.get(path, 'Domain', 'Active'), not active)
        self.assertEqual(alice.domain(three, 'Start').error()[0], DENIED)

    def test_details(self):
        path, values = sorted(self.objects('Domain').items())[0]
        alice = self.caller(ALICE)
        self.rules(LOG + NOTHING)
        start = len(self.polkit_log.read_text())
        alice.domain(path, 'Shutdown').error()
        label = self.connection.rsplit('/', 1)[1]
        self.assertIn(f'ASKED {CONTROL} connection={label} driver=sim kind=domain uuid={values["UUID"]} name={values["Name"]} '
                      'operation=Shutdown', self.polkit_log.read_text()[start:])

    def test_view_is_asked_once(self):
        """Once for each caller, as long as polkit does not say that it has changed: of one new file it says so twice at times."""
        changed = []
        listener = self.vireod.connection.signal_subscribe(
            'org.freedesktop.PolicyKit1', 'org.freedesktop.PolicyKit1.Authority', 'Changed', None, None, 0,
            lambda *_: changed.append(True))
        self.addCleanup(self.vireod.connection.signal_unsubscribe, listener)
        self.rules(LOG + allow(VIEW) + NOTHING)
        for _ in range(10):
            before, start = len(changed), len(self.polkit_log.read_text())
            one = self.caller(ALICE)
            for _ in range(5):
                one.manager('GetSnapshot', '(a{sv})', {}).get()
            # another caller, another question
            self.caller(ALICE).manager('GetSnapshot', '(a{sv})', {}).get()
            settle(quiet=0.3, changed=lambda: len(changed))
            asked = re.findall(f'ASKED {VIEW} ', self.polkit_log.read_text()[start:])
            if len(changed) == before:
                self.assertEqual(len(asked), 2)
                return
        self.fail('polkit does not stop changing')

    def test_shipped_rule(self):
        self.rules('')
        self.assertTrue(self.caller(CAROL, LIBVIRT).manager('GetSnapshot', '(a{sv})', {}).get()[2])
        self.assertEqual(self.caller(BOB).manager('GetSnapshot', '(a{sv})', {}).error()[0], INTERACTIVE)

    def test_examples(self):
        rules = (ROOT / 'policy/examples/50-vireo-operators.rules').read_text()
        web = next((p for p, v in self.objects('Domain').items() if v['Name'].startswith('web-')), None)
        other = next(p for p, v in self.objects('Domain').items() if not v['Name'].startswith('web-'))
        self.rules(rules.replace('web-operators', 'operators'))
        alice = self.caller(ALICE, OPERATORS)
        self.assertTrue(web)
        if web:
            active = self.vireod.get(web, 'Domain', 'Active')
            alice.domain(web, 'Destroy' if active else 'Start').get()
        self.assertTrue(alice.manager('GetSnapshot', '(a{sv})', {}).get()[2])
        self.assertEqual(alice.domain(other, 'Destroy').error()[0], INTERACTIVE)
        for file in sorted((ROOT / 'policy/examples').glob('*.rules')):
            start = len(self.polkit_log.read_text())
            self.rules(file.read_text())
            self.assertNotIn('rror', self.polkit_log.read_text()[start:], file)


class Passwords(PolicyCase):
    """An agent played by the test."""

    def setUp(self):
        self.path = next(p for p, v in sorted(self.objects('Domain').items()) if v['Persistent'] and not v['Active'])

    def tearDown(self):
        if self.vireod.get(self.path, 'Domain', 'Active'):
            self.vireod.call(self.path, f'{NAME}.Domain', 'Destroy', '(a{sv})', {})

    def begin(self, uid=ALICE, method='Start'):
        alice = self.caller(uid)
        alice.register_agent()
        reply = alice.domain(self.path, method, interactive=True)
        wait_for(lambda: alice.dialogs() or reply.there, 30, 'a dialog')
        self.assertFalse(reply.there, reply.there and reply.raw())
        return alice, reply, alice.dialogs()[-1]

    def test_a_password(self):
        self.rules('')
        alice, reply, dialog = self.begin()
        self.assertEqual(dialog['action'], CONTROL)
        # the person has to see for what
        self.assertIn(f'“{self.vireod.get(self.path, "Domain", "Name")}”: Start', dialog['message'])
        self.polkit.authenticate(dialog['cookie'], 0, ALICE)
        alice.finish(dialog['cookie'])
        reply.get()
        self.assertTrue(self.vireod.get(self.path, 'Domain', 'Active'))
        # once is once
        self.assertEqual(alice.domain(self.path, 'Destroy').error()[0], INTERACTIVE)
        self.assertTrue(self.vireod.get(self.path, 'Domain', 'Active'))

    def test_not_asked_unless_the_message_allows_it(self):
        self.rules('')
        alice = self.caller(ALICE)
        alice.register_agent()
        self.assertEqual(alice.domain(self.path, 'Start').error()[0], INTERACTIVE)
        self.assertEqual(alice.dialogs(), [])

    def test_dismissed(self):
        self.rules('')
        alice, reply, dialog = self.begin()
        alice.dismiss(dialog['cookie'])
        self.assertIn(reply.error()[0], (DENIED, INTERACTIVE))
        self.assertFalse(self.vireod.get(self.path, 'Domain', 'Active'))

    def test_caller_leaves(self):
        """Then the dialog is closed, and what it was for does not happen."""
        self.rules('')
        alice, agent = self.caller(ALICE), self.caller(ALICE)
        agent.register_agent(alice)
        alice.domain(self.path, 'Start', interactive=True)
        wait_for(agent.dialogs, 30, 'a dialog')
        cookie = agent.dialogs()[0]['cookie']
        alice.leave()
        wait_for(lambda: any(m['agent'] == 'cancel' and m['cookie'] == cookie for m in agent.agent), 30, 'the dialog is closed')
        # until the agent has said that it is done, polkit takes a password all the same; nobody is there to be told
        with contextlib.suppress(BusError):
            self.polkit.authenticate(cookie, 0, ALICE)
        self.vireod.sync()
        self.assertFalse(self.vireod.get(self.path, 'Domain', 'Active'))

    def test_renamed_while_the_password_is_typed(self):
        self.rules('')
        name = self.vireod.get(self.path, 'Domain', 'Name')
        alice, reply, dialog = self.begin()
        self.vireod.call(self.path, f'{NAME}.Domain', 'Rename', '(sa{sv})', 'something-else', {})
        self.polkit.authenticate(dialog['cookie'], 0, ALICE)
        alice.finish(dialog['cookie'])
        error, words = reply.error()
        self.assertEqual(error, DENIED)
        self.assertNotIn('something-else', words)
        self.assertFalse(self.vireod.get(self.path, 'Domain', 'Active'))
        self.vireod.call(self.path, f'{NAME}.Domain', 'Rename', '(sa{sv})', name, {})

    def test_opened_while_the_password_for_closing_is_typed(self):
        """What was not there when polkit was asked is not what it was asked about."""
        self.rules('')
        alice = self.caller(ALICE)
        alice.register_agent()
        path = '/org/vireo1/connection/late'
        reply = alice.manager('Close', '(o)', path, interactive=True)
        wait_for(lambda: alice.dialogs() or reply.there, 30, 'a dialog')
        self.vireod.manager('Open', '(sa{sv})', 'sim:///2', {'label': GLib.Variant('s', 'late')})
        self.addCleanup(self.vireod.manager, 'Close', '(o)', path)
        cookie = alice.dialogs()[-1]['cookie']
        self.polkit.authenticate(cookie, 0, ALICE)
        alice.finish(cookie)
        self.assertEqual(reply.error()[0], f'{ERROR}NotFound')
        self.assertIn(path, self.vireod.get(MANAGER, 'Manager', 'Connections'))

    def test_gone_while_the_password_is_typed(self):
        self.rules('')
        xml = self.vireod.call(self.path, f'{NAME}.Domain', 'GetXML', '(a{sv})', {})[1]
        alice, reply, dialog = self.begin()
        self.vireod.call(self.path, f'{NAME}.Domain', 'Undefine', '(a{sv})', {})
        self.vireod.call(self.connection, f'{NAME}.Connection', 'DefineDomain', '(sa{sv})', xml, {})
        self.polkit.authenticate(dialog['cookie'], 0, ALICE)
        alice.finish(dialog['cookie'])
        self.assertEqual(reply.error()[0], DENIED)
        self.assertFalse(self.vireod.get(self.path, 'Domain', 'Active'))


    def test_the_first_of_two_changes_while_the_password_for_the_second_is_typed(self):
        """A volume copied from one pool into another needs both to be allowed, and both to be what they were."""
        pools = {v['Name']: p for p, v in self.objects('StoragePool').items()}
        into, source = pools['hidden-pool'], pools['images-x7']
        self.vireod.call(into, f'{NAME}.StoragePool', 'Start', '(a{sv})', {})
        xml = self.vireod.call(into, f'{NAME}.StoragePool', 'GetXML', '(a{sv})', {})[1]
        for change in (False, True):
            self.rules(allow(STORAGE, 'action.lookup("name") == "hidden-pool"'))
            alice = self.caller(ALICE)
            alice.register_agent()
            reply = alice.send(into, f'{NAME}.StoragePool', 'CloneVolume', '(ssa{sv})', 'web.qcow2', f'copy-{change}',
                               {'pool': GLib.Variant('o', source)}, interactive=True)
            wait_for(lambda: alice.dialogs() or reply.there, 30, 'a dialog')
            dialog = alice.dialogs()[-1]
            self.assertIn('“images-x7”: CloneVolume', dialog['message'])
            if change:
                for method in ('Stop', 'Undefine'):
                    self.vireod.call(into, f'{NAME}.StoragePool', method, '(a{sv})', {})
                again = self.vireod.call(self.connection, f'{NAME}.Connection', 'DefinePool', '(sa{sv})', xml, {})[0]
                self.assertEqual(again, into)
                self.vireod.call(into, f'{NAME}.StoragePool', 'Start', '(a{sv})', {})
            self.polkit.authenticate(dialog['cookie'], 0, ALICE)
            alice.finish(dialog['cookie'])
            if change:
                self.assertEqual(reply.error()[0], DENIED)
            else:
                reply.get()
            volumes = self.vireod.call(into, f'{NAME}.StoragePool', 'ListVolumes', '(a{sv})', {})
            self.assertEqual(f'copy-{change}' in [v[0] for v in volumes], not change)


class EveryMethod(PolicyCase):
    """Each, in an order in which there is something left to call."""

    # what ends something comes last
    LAST = ('Destroy', 'Stop', 'Delete', 'DeleteVolume', 'Undefine', 'Close')

    def last(self, method):
        return self.LAST.index(method) if method in self.LAST else -1

    def calls(self):
        epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        for kind, method, signature in sorted(methods(), key=lambda m: self.last(m[1])):
            yield kind, method, signature, arguments(self, method, signature, epoch)

    def target(self, kind):
        if kind == 'Manager':
            return MANAGER
        if kind == 'Job':
            # one that was there when this began may have gone
            domain = sorted(self.objects('Domain'))[-1]
            return self.vireod.call(domain, f'{NAME}.Domain', 'Reset', '(a{sv})', {'async': GLib.Variant('b', True)})[0]
        return sorted(self.objects(kind))[0]

    def setUp(self):
        self.wanted = {key: f'org.vireo1.{action}' for key, action in permissions.actions().items()}


class Allowed(EveryMethod):
    """By somebody who may do this alone."""

    def test_allowed(self):
        current, alice, seen = None, None, 0
        for (kind, method, signature, values) in sorted(
                self.calls(), key=lambda c: (self.last(c[1]), self.wanted[c[0], c[1]])):
            action = self.wanted[kind, method]
            if action != current:
                self.rules(allow(action) + NOTHING)
                alice, current = self.caller(ALICE), action
            with self.subTest(f'{kind}.{method}'):
                answer = alice.send(self.target(kind), f'{NAME}.{kind}', method, f'({"".join(signature)})', *values).raw()
                # the hypervisor may refuse it; polkit did not
                self.assertNotIn(answer.get('error', [''])[0], (DENIED, INTERACTIVE), answer)
                seen += 'error' not in answer
        self.assertGreater(seen, 25)


class AfterAPassword(EveryMethod):
    """By somebody who gives a password for it."""

    def test_allowed_after_a_password(self):
        self.rules('')
        alice = self.caller(ALICE)
        alice.register_agent()
        asked = []
        for kind, method, signature, values in self.calls():
            with self.subTest(f'{kind}.{method}'):
                before = len(alice.dialogs())
                reply = alice.send(self.target(kind), f'{NAME}.{kind}', method, f'({"".join(signature)})', *values,
                                   interactive=True)
                while not reply.there:
                    wait_for(lambda n=before, r=reply: r.there or len(alice.dialogs()) > n, 30, 'a dialog or an answer')
                    for dialog in alice.dialogs()[before:]:
                        self.assertEqual(dialog['action'], self.wanted[kind, method])
                        asked.append((kind, method))
                        self.polkit.authenticate(dialog['cookie'], 0, ALICE)
                        alice.finish(dialog['cookie'])
                        before += 1
                self.assertNotIn(reply.raw().get('error', [''])[0], (DENIED, INTERACTIVE), reply.raw())
        # view once, everything else each time
        views = sum(action == VIEW for action in self.wanted.values())
        self.assertEqual(len(asked), len(self.wanted) - views + 1, asked)


class Polkitless(PolicyCase):
    """polkit hung, killed half-way, not there at all: denied, and nobody waits for ever."""

    def setUp(self):
        if self.polkit.process.poll() is not None:
            self.polkit.start()
        self.rules(allow(VIEW) + allow(CONTROL))
        self.path = next(p for p, v in sorted(self.objects('Domain').items()) if v['Persistent'] and not v['Active'])

    def test_hung(self):
        alice = self.caller(ALICE)
        self.polkit.process.send_signal(signal.SIGSTOP)
        try:
            replies = [alice.domain(self.path, 'Start') for _ in range(5)]  # four at once, and one
            # the others go on
            self.vireod.call(MANAGER, 'org.freedesktop.DBus.Peer', 'Ping', limit=5)
            self.assertFalse(any(r.there for r in replies))
            for reply in replies:
                self.assertEqual(reply.error(limit=90)[0], DENIED)
        finally:
            self.polkit.process.send_signal(signal.SIGCONT)
        self.assertFalse(self.vireod.get(self.path, 'Domain', 'Active'))
        wait_for(lambda: 'body' in alice.domain(self.path, 'Start').raw(), 30, 'it works again')
        self.vireod.call(self.path, f'{NAME}.Domain', 'Destroy', '(a{sv})', {})

    def test_killed_half_way(self):
        alice = self.caller(ALICE)
        self.polkit.process.send_signal(signal.SIGSTOP)
        reply = alice.domain(self.path, 'Start')
        view = alice.manager('GetSnapshot', '(a{sv})', {})
        settle(quiet=0.2, changed=lambda: len(alice.answers))
        self.polkit.stop()
        self.assertEqual(reply.error()[0], DENIED)
        self.assertEqual(view.error()[0], DENIED)
        self.assertFalse(self.vireod.get(self.path, 'Domain', 'Active'))

    def test_not_there(self):
        alice = self.caller(ALICE)
        alice.manager('GetSnapshot', '(a{sv})', {}).get()
        self.polkit.stop()
        self.assertEqual(alice.domain(self.path, 'Start').error()[0], DENIED)
        self.assertEqual(self.caller(BOB).manager('GetSnapshot', '(a{sv})', {}).error()[0], DENIED)
        # root needs nobody
        self.vireod.manager('GetSnapshot', '(a{sv})', {})

    def test_caller_gone_half_way(self):
        alice = self.caller(ALICE)
        self.polkit.process.send_signal(signal.SIGSTOP)
        try:
            alice.domain(self.path, 'Start')
            settle(quiet=0.2, changed=lambda: 0)
            alice.leave()
        finally:
            self.polkit.process.send_signal(signal.SIGCONT)
        bob = self.caller(BOB)
        bob.manager('GetSnapshot', '(a{sv})', {}).get()
        self.assertFalse(self.vireod.get(self.path, 'Domain', 'Active'))

    def test_a_stranger_cannot_say_who_left(self):
        """A signal that looks like the bus's own must not end anybody's calls."""
        alice, bob = self.caller(ALICE), self.caller(BOB)
        version, epoch = self.version(), self.vireod.get(MANAGER, 'Manager', 'Epoch')
        reply = alice.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 3000000, {})
        wait_for(lambda: bob.manager('GetSnapshot', '(a{sv})', {}).get(), 30)
        self.vireod.connection.emit_signal(self.vireod.owner(), '/org/freedesktop/DBus', 'org.freedesktop.DBus',
                                           'NameOwnerChanged', GLib.Variant('(sss)', (alice.name, alice.name, '')))
        self.assertEqual(reply.get(limit=30)[0], self.version())


class Limits(PolicyCase):
    CONFIG = '[limits]\nBytes=2M\nJobs=2\n'

    def test_questions(self):
        alice = self.caller(ALICE)
        self.rules(allow(CONTROL))
        path = sorted(self.objects('Domain'))[0]
        self.polkit.process.send_signal(signal.SIGSTOP)
        try:
            replies = [alice.domain(path, 'Reset') for _ in range(200)]
            wait_for(lambda: sum(r.there for r in replies) >= 100, 30, 'those that are too many')
            said = [r.error() for r in replies if r.there]
        finally:
            self.polkit.process.send_signal(signal.SIGCONT)
        self.assertEqual({name for name, _ in said}, {f'{ERROR}LimitsExceeded'})
        self.assertTrue({w.split(':')[0] for _, w in said} <= {'questions', 'calls'}, said[0])
        # who is not alice does not notice
        self.vireod.manager('GetSnapshot', '(a{sv})', {})

    def test_polls(self):
        alice = self.caller(ALICE)
        self.rules(allow(VIEW))
        epoch, version = self.vireod.get(MANAGER, 'Manager', 'Epoch'), self.version()
        replies = [alice.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 5000000, {}) for _ in range(40)]
        wait_for(lambda: sum(r.there for r in replies) >= 8, 30, 'those that are too many')
        for name, words in (r.error() for r in replies if r.there):
            self.assertEqual(name, f'{ERROR}LimitsExceeded')
            self.assertTrue(words.startswith('polls:'), words)

    def test_streams(self):
        alice = self.caller(ALICE)
        self.rules(allow(VIEW))
        errors = []
        for _ in range(130):
            try:
                alice.manager('Watch', '(a{sv})', {}).get()
            except BusError as error:
                errors.append(error)
        self.assertEqual(len(errors), 2)
        for error in errors:
            self.assertEqual(error.short, 'LimitsExceeded')
            self.assertTrue(error.message.startswith('streams:'), error.message)

    def test_streams_of_a_user(self):
        """Whoever has many connections to the bus leaves some to others."""
        self.rules(allow(VIEW))
        for _ in range(8):
            alice = self.caller(ALICE)
            for reply in [alice.manager('Watch', '(a{sv})', {}) for _ in range(128)]:
                reply.get()
        name, words = self.caller(ALICE).manager('Watch', '(a{sv})', {}).error()
        self.assertEqual(name, f'{ERROR}LimitsExceeded')
        self.assertTrue(words.startswith('streams: this user'), words)
        self.caller(BOB).manager('Watch', '(a{sv})', {}).get()

    def test_listings_in_turn(self):
        """Whoever asks for hundreds of them does not keep the loop from others: not from a Ping, not from one listing."""
        self.rules(allow(VIEW))
        path = '/org/vireo1/connection/many'
        self.vireod.manager('Open', '(sa{sv})', 'sim:///1000', {'label': GLib.Variant('s', 'many')}, limit=60)
        self.addCleanup(self.vireod.manager, 'Close', '(o)', path)
        self.vireod.wait_connected(path=path)
        epoch, oldest = self.vireod.get(MANAGER, 'Manager', 'Epoch'), self.vireod.get(MANAGER, 'Manager', 'OldestVersion')
        bob = self.caller(BOB)
        for call in ((f'{NAME}.Manager', 'GetSnapshot', '(a{sv})', {}), (f'{NAME}.Manager', 'Digest', '(a{sv})', {}),
                     (f'{NAME}.Manager', 'GetEvents', '(stuta{sv})', epoch, oldest, 0, 0, {}),
                     ('org.freedesktop.DBus.ObjectManager', 'GetManagedObjects', '()')):
            with self.subTest(call[1]):
                alice = self.caller(ALICE)
                alice.manager('Sync', '(a{sv})', {}).get()
                replies = [alice.send(MANAGER, *call) for _ in range(400)]
                # so many are read, while few have been made
                wait_for(lambda r=replies, a=alice: any('error' in a.answers.get(x.number, {}) for x in r), 60, 'what is too much')
                said = [r.raw() for r in replies if r.there]
                errors = [s['error'] for s in said if 'error' in s]
                self.assertLess(len(said) - len(errors), 200)
                for name, words in errors:
                    self.assertEqual(name, f'{ERROR}LimitsExceeded')
                    self.assertTrue(words.startswith('calls:'), words)
                self.vireod.call(MANAGER, 'org.freedesktop.DBus.Peer', 'Ping')
                bob.send(MANAGER, *call).get()
                self.assertTrue(any(not r.there for r in replies))
                # what was not made yet is not made any more
                alice.leave()

    def test_polls_of_a_user(self):
        self.rules(allow(VIEW))
        epoch, version = self.vireod.get(MANAGER, 'Manager', 'Epoch'), self.version()
        callers = [self.caller(ALICE) for _ in range(9)]
        replies = [c.manager('GetEvents', '(stuta{sv})', epoch, version, 0, 20000000, {}) for c in callers for _ in range(32)]
        wait_for(lambda: sum(r.there for r in replies) >= 32, 30, 'those that are too many')
        said = [r.error() for r in replies if r.there]
        self.assertEqual(len(said), 32)
        for name, words in said:
            self.assertEqual(name, f'{ERROR}LimitsExceeded')
            self.assertRegex(words, '^polls: 256 calls of GetEvents by this user')
        self.assertFalse(self.caller(BOB).manager('GetEvents', '(stuta{sv})', epoch, version, 0, 0, {}).get()[2])

    def test_subscribers_of_a_user(self):
        self.rules(allow(VIEW))
        alice = self.caller(ALICE)
        for reply in [alice.manager('Subscribe', '(a{sv})', {}, anew=True) for _ in range(64)]:
            reply.get()
        name, words = alice.manager('Subscribe', '(a{sv})', {}).error()
        self.assertEqual(name, f'{ERROR}LimitsExceeded')
        self.assertRegex(words, '^subscribers: this user')
        self.caller(BOB).manager('Subscribe', '(a{sv})', {}).get()

    def test_jobs(self):
        """Of a user, whatever connections to the bus he has."""
        self.rules(allow(CONTROL))
        guests = [p for p, v in sorted(self.objects('Domain').items()) if v['Active']]
        self.assertGreaterEqual(len(guests), 3)
        later = {'async': GLib.Variant('b', True), 'wait': GLib.Variant('b', True)}
        jobs = [self.caller(ALICE).domain(path, 'Shutdown', '(a{sv})', later).get()[0] for path in guests[:2]]
        name, words = self.caller(ALICE).domain(guests[2], 'Reset').error()
        self.assertEqual(name, f'{ERROR}LimitsExceeded')
        self.assertTrue(words.startswith('jobs:'), words)
        # others have their own
        self.caller(BOB).domain(guests[2], 'Reset').get()
        for path, job in zip(guests, jobs):
            self.vireod.call(path, f'{NAME}.Domain', 'Destroy', '(a{sv})', {})
            self.vireod.call(job, f'{NAME}.Job', 'Wait', '(t)', 20000000)
        self.caller(ALICE).domain(guests[2], 'Reset').get()

    def test_bytes(self):
        alice = self.caller(ALICE)
        self.rules(NOTHING)
        self.polkit.process.send_signal(signal.SIGSTOP)
        try:
            replies = [alice.send(self.connection, f'{NAME}.Connection', 'DefineDomain', '(sa{sv})', ' ' * (300 << 10), {})
                       for _ in range(9)]
            wait_for(lambda: any(r.there for r in replies), 60, 'one that is too much')
            name, words = next(r for r in replies if r.there).error()
        finally:
            self.polkit.process.send_signal(signal.SIGCONT)
        self.assertEqual(name, f'{ERROR}LimitsExceeded')
        self.assertTrue(words.startswith('bytes:'), words)


if __name__ == '__main__':
    main()
