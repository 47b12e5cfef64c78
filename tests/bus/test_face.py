#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The face of the broker: reads, calls, errors, signals, as any client on the bus meets them."""

import os
import random
import re
import xml.etree.ElementTree as ET

from support import BusCase, BusError, Client, ERROR, GLib, Gio, KINDS, MANAGER, NAME, PROPERTIES, ROOT, main

from kit.loop import settle, wait_for
from kit.recorder import EVENT_INTERFACES

DOMAIN_XML = '''<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>65536</memory>
<vcpu>1</vcpu><os><type>hvm</type></os></domain>'''
MAX = 20_000_000


def documented_properties():
    """Return {kind: {property: type}} of the interface files."""
    found = {}
    for kind in KINDS:
        interface = ET.parse(ROOT / 'introspection' / f'{NAME}.{kind}.xml').getroot().find('interface')
        found[kind] = {p.get('name'): p.get('type') for p in interface.findall('property')}
    return found


class Reading(BusCase):
    def raw(self, path, interface, method, signature, *arguments):
        return self.vireod.connection.call_sync(NAME, path, interface, method, GLib.Variant(signature, arguments), None,
                                                Gio.DBusCallFlags.NONE, 30000, None)

    def test_properties_have_their_documented_types(self):
        documented = documented_properties()
        seen = set()
        for path, (kind, properties) in self.vireod.snapshot()[2].items():
            self.assertEqual(set(properties), set(documented[kind]), path)
            reply = self.raw(path, PROPERTIES, 'GetAll', '(s)', f'{NAME}.{kind}').get_child_value(0)
            types = {reply.get_child_value(i).get_child_value(0).get_string():
                     reply.get_child_value(i).get_child_value(1).get_variant().get_type_string()
                     for i in range(reply.n_children())}
            self.assertEqual(types, documented[kind], path)
            for name in properties:
                self.assertEqual(self.vireod.get(path, kind, name), properties[name])
            seen.add(kind)
        self.assertGreaterEqual(seen, {'Connection', 'Domain', 'StoragePool', 'Network'})

    def test_three_ways_of_reading_agree(self):
        objects = self.vireod.snapshot()[2]
        managed = self.vireod.managed_objects()
        self.assertEqual({path: {f'{NAME}.{kind}': properties} for path, (kind, properties) in objects.items()}, managed)
        for path, (kind, properties) in objects.items():
            self.assertEqual(self.vireod.get_all(path, kind), properties)

    def test_manager(self):
        epoch, version, objects = self.vireod.snapshot()
        properties = self.vireod.get_all(MANAGER, 'Manager')
        self.assertRegex(properties['Epoch'], '^[0-9a-f]{32}$')
        self.assertEqual(properties['Epoch'], epoch)
        self.assertGreaterEqual(properties['Version'], version)
        self.assertLessEqual(properties['OldestVersion'], version)
        self.assertEqual(properties['Connections'], sorted(p for p, (k, _) in objects.items() if k == 'Connection'))
        self.assertLessEqual(max(p['Version'] for _, p in objects.values()), version)

    def test_unknown_property_and_writing(self):
        path = self.some('Domain')
        with self.assertRaises(BusError) as caught:
            self.vireod.get(path, 'Domain', 'Nonsense')
        self.assertEqual(caught.exception.short, 'UnknownProperty')
        with self.assertRaises(BusError) as caught:
            self.vireod.call(path, PROPERTIES, 'Set', '(ssv)', f'{NAME}.Domain', 'Name', GLib.Variant('s', 'x'))
        self.assertEqual(caught.exception.short, 'PropertyReadOnly')

    def test_snapshot_filters(self):
        everything = self.vireod.snapshot()[2]
        for kind, word in zip(KINDS, ('connection', 'domain', 'pool', 'network', 'job')):
            part = self.vireod.snapshot(kinds=GLib.Variant('as', [word]))[2]
            self.assertEqual(part, {p: o for p, o in everything.items() if o[0] == kind})
        path = self.some('Domain')
        self.assertEqual(set(self.vireod.snapshot(objects=GLib.Variant('ao', [path, f'{MANAGER}/nothing']))[2]), {path})
        self.assertEqual(self.vireod.snapshot(connections=GLib.Variant('ao', [self.connection]))[2], everything)
        self.assertEqual(self.vireod.snapshot(
            connections=GLib.Variant('ao', ['/org/vireo1/connection/other']))[2], {})
        both = self.vireod.snapshot(kinds=GLib.Variant('as', ['pool']), objects=GLib.Variant('ao', [path]))[2]
        self.assertEqual(both, {})

    def test_snapshot_xml(self):
        for path, (kind, properties) in self.vireod.snapshot(xml=GLib.Variant('b', True))[2].items():
            if kind in ('Domain', 'StoragePool', 'Network'):
                ET.fromstring(properties['XML'])
                version, xml = self.vireod.call(path, f'{NAME}.{kind}', 'GetXML', '(a{sv})', {})
                self.assertEqual((version, xml), (properties['Version'], properties['XML']))
            else:
                self.assertNotIn('XML', properties)

    def test_get_xml(self):
        path = self.some('Domain', Persistent=True)
        version, xml = self.vireod.call(path, f'{NAME}.Domain', 'GetXML', '(a{sv})', {'inactive': GLib.Variant('b', True)})
        self.assertEqual(version, self.vireod.get(path, 'Domain', 'Version'))
        self.assertIn(self.vireod.get(path, 'Domain', 'UUID'), xml)
        self.refused('InvalidOption', path, f'{NAME}.Domain', 'GetXML', '(a{sv})', {'secret': GLib.Variant('b', True)})

    def test_lookups(self):
        for kind, method in (('Domain', 'LookupDomain'), ('StoragePool', 'LookupPool'), ('Network', 'LookupNetwork')):
            path = self.some(kind)
            properties = self.objects(kind)[path]
            self.assertEqual(self.vireod.manager(method, '(s)', properties['Name']), path)
            self.assertEqual(self.vireod.manager(method, '(s)', properties['UUID']), path)
            self.assertIn('no-such', self.manager_refused('NotFound', method, '(s)', 'no-such'))
            self.manager_refused('NotFound', method, '(s)', '')

    def test_list_volumes(self):
        path = self.some('StoragePool', Active=True)
        volumes = self.vireod.call(path, f'{NAME}.StoragePool', 'ListVolumes', '(a{sv})', {})
        self.assertEqual([v[0] for v in volumes], sorted(v[0] for v in volumes))

    def test_digest(self):
        text = (ROOT / 'doc' / 'digest.md').read_text()
        example = {}
        exec(re.search(r'```python\n(.*?)```', text, re.S).group(1), example)  # what the manual tells people to do
        _, version, objects = self.vireod.manager('GetSnapshot', '(a{sv})', {})
        self.assertEqual(self.vireod.manager('Digest', '(a{sv})', {}), (version, example['digest'](objects)))
        only = {'kinds': GLib.Variant('as', ['domain'])}
        _, version, objects = self.vireod.manager('GetSnapshot', '(a{sv})', only)
        self.assertEqual(self.vireod.manager('Digest', '(a{sv})', only), (version, example['digest'](objects)))

    def test_filters_that_name_nothing(self):
        for option, value in (('kinds', GLib.Variant('as', ['domains'])), ('kinds', GLib.Variant('as', [])),
                              ('objects', GLib.Variant('ao', ['/org/vireo2'])), ('objects', GLib.Variant('ao', []))):
            self.assertIn(option, self.manager_refused('InvalidOption', 'GetSnapshot', '(a{sv})', {option: value}))

    def test_long_lists(self):
        """Each is found, however many there are beside it; too many are refused."""
        domains = sorted(self.objects('Domain'))
        others = [f'{path}_' for path in domains] + [path[:-1] for path in domains]
        others += [f'{self.connection}/domain/_{i:x}' for i in range(10000 - len(others) - 2 * len(domains))]
        paths = others + 2 * domains
        random.shuffle(paths)
        self.assertEqual(sorted(self.vireod.snapshot(objects=GLib.Variant('ao', paths))[2]), domains)
        self.assertEqual(self.vireod.snapshot(objects=GLib.Variant('ao', others))[2], {})
        for name in ('objects', 'connections'):
            message = self.manager_refused('InvalidOption', 'GetSnapshot', '(a{sv})',
                                           {name: GLib.Variant('ao', paths + [self.connection])})
            self.assertIn(name, message)
            self.assertIn('10000', message)
        names = [f'{self.connection}{i}' for i in range(20)] + [self.connection[:-1], self.connection] * 2
        random.shuffle(names)
        everything = self.vireod.snapshot()[2]
        self.assertEqual(set(self.vireod.snapshot(connections=GLib.Variant('ao', names))[2]), set(everything))

    def test_log_control(self):
        interface = 'org.freedesktop.LogControl1'
        for path in (MANAGER, '/org/freedesktop/LogControl1'):
            before = self.vireod.call(path, PROPERTIES, 'Get', '(ss)', interface, 'LogLevel')
            self.vireod.call(path, PROPERTIES, 'Set', '(ssv)', interface, 'LogLevel', GLib.Variant('s', 'debug'))
            self.assertEqual(self.vireod.call(path, PROPERTIES, 'Get', '(ss)', interface, 'LogLevel'), 'debug')
            message = self.refused('org.freedesktop.DBus.Error.InvalidArgs', path, PROPERTIES, 'Set', '(ssv)', interface,
                                   'LogLevel', GLib.Variant('s', 'loud'))
            self.assertIn('loud', message)
            self.vireod.call(path, PROPERTIES, 'Set', '(ssv)', interface, 'LogLevel', GLib.Variant('s', before))
            self.assertEqual(self.vireod.call(path, PROPERTIES, 'Get', '(ss)', interface, 'SyslogIdentifier'), 'vireod')


class Opening(BusCase):
    def test_open_and_close(self):
        before = self.vireod.get(MANAGER, 'Manager', 'Connections')
        path = self.vireod.manager('Open', '(sa{sv})', 'sim:///7', {'label': GLib.Variant('s', 'second')})
        self.assertEqual(path, '/org/vireo1/connection/second')
        # it answers once it was listed
        self.assertEqual(self.vireod.get(path, 'Connection', 'State'), 'connected')
        self.assertEqual(self.vireod.get(MANAGER, 'Manager', 'Connections'), sorted(before + [path]))
        self.assertEqual(self.vireod.manager('Open', '(sa{sv})', 'sim:///7', {}), path)
        self.manager_refused('AlreadyExists', 'Open', '(sa{sv})', 'sim:///7', {'label': GLib.Variant('s', 'third')})
        self.manager_refused('AlreadyExists', 'Open', '(sa{sv})', 'sim:///empty', {'label': GLib.Variant('s', 'second')})
        self.vireod.manager('Close', '(o)', path)
        self.assertEqual(self.vireod.get(MANAGER, 'Manager', 'Connections'), before)
        self.assertEqual([p for p in self.vireod.snapshot()[2] if p.startswith(path)], [])
        self.manager_refused('NotFound', 'Close', '(o)', path)
        self.vireod.recorder.wait('Removed', path=path)
        changes = [m.body[1]['Connections'] for m in self.vireod.recorder.messages
                   if m.member == 'PropertiesChanged' and m.path == MANAGER]
        wait_for(lambda: [m.body[1]['Connections'] for m in self.vireod.recorder.messages
                          if m.member == 'PropertiesChanged' and m.path == MANAGER][-2:] == [sorted(before + [path]), before],
                 what=lambda: f'Connections is announced: {changes}')

    def test_resync_gets_a_lost_one_back(self):
        """Refused seven times, it would take a minute by itself; each Resync tries at once."""
        scenario = self.scope.directory() / 'refusing.json'
        scenario.write_text('{"refuse": 7, "domains": [{"name": "behind", "state": "running"}]}')
        path = self.vireod.manager('Open', '(sa{sv})', f'sim:{scenario}', {'label': GLib.Variant('s', 'refusing')})
        self.assertEqual(self.vireod.get(path, 'Connection', 'State'), 'disconnected')
        self.assertEqual(self.vireod.get(path, 'Connection', 'Error'), ERROR + 'Disconnected')
        self.manager_refused('Disconnected', 'Sync', '(a{sv})', {'connections': GLib.Variant('ao', [path])})
        refused = 0
        while True:
            try:
                version = self.vireod.call(path, f'{NAME}.Connection', 'Resync', '(a{sv})', {})
                break
            except BusError as error:
                self.assertEqual(error.short, 'Disconnected')
                refused += 1
                self.assertLess(refused, 8)
        self.assertGreater(refused, 3)
        self.assertEqual(self.vireod.get(path, 'Connection', 'State'), 'connected')
        behind = self.vireod.lookup('behind')
        self.assertLessEqual(self.vireod.get(behind, 'Domain', 'Version'), version)
        self.vireod.manager('Close', '(o)', path)

    def test_close_takes_the_manager_for_no_connection(self):
        self.manager_refused('NotFound', 'Close', '(o)', MANAGER)
        self.manager_refused('NotFound', 'Close', '(o)', self.some('Domain'))

    def test_uris_that_clients_may_not_open(self):
        before = self.vireod.get(MANAGER, 'Manager', 'Connections')
        for uri in ('qemu+ext:///system?command=/bin/true', 'qemu+ssh://host/system?netcat=/bin/true',
                    'qemu+ssh://host/system?no_tty=1;KEYFILE=/x', 'qemu+libssh://h/?%6beyfile=/x', 'nonsense:///', '',
                    'qemu+ssh://-oProxyCommand=true/system'):
            self.manager_refused('InvalidURI', 'Open', '(sa{sv})', uri, {})
        self.assertEqual(self.vireod.get(MANAGER, 'Manager', 'Connections'), before)

    def test_bad_label(self):
        for label in ('', 'a/b', 'ä', 'a-b', 'x' * 300):
            self.assertIn('label', self.manager_refused('InvalidOption', 'Open', '(sa{sv})', 'sim:///8',
                                                        {'label': GLib.Variant('s', label)}))


class Changing(BusCase):
    def setUp(self):
        self.domain = self.some('Domain', Persistent=True)
        if self.vireod.get(self.domain, 'Domain', 'Active'):
            self.change('Destroy')

    def change(self, method, **options):
        return self.vireod.call(self.domain, f'{NAME}.Domain', method, '(a{sv})', options)

    def test_answer_comes_with_the_effect(self):
        job, version = self.change('Start')
        properties = self.vireod.get_all(self.domain, 'Domain')
        self.assertTrue(properties['Active'])
        # what the job did is told at or before the version it answered
        self.assertLessEqual(properties['Version'], version)
        self.assertEqual(self.vireod.get(job, 'Job', 'State'), 'completed')
        self.assertEqual(self.vireod.get(job, 'Job', 'Object'), self.domain)
        self.assertEqual(self.vireod.get(job, 'Job', 'Operation'), 'start')
        self.assertEqual(self.vireod.get(job, 'Job', 'StartedBy'), 0 if GLib.get_user_name() == 'root' else None)
        self.assertEqual(job, f"/org/vireo1/job/_{self.vireod.recorder.wait('Added', path=job).version}")

    def test_refusals_change_nothing(self):
        version = self.vireod.get(self.domain, 'Domain', 'Version')
        self.assertIn(str(version), self.refused(
            'VersionMismatch', self.domain, f'{NAME}.Domain', 'Start', '(a{sv})', {'if-version': GLib.Variant('t', version + 1)}))
        self.refused('InvalidOption', self.domain, f'{NAME}.Domain', 'Start', '(a{sv})', {'pauesd': GLib.Variant('b', True)})
        self.refused('InvalidOption', self.domain, f'{NAME}.Domain', 'Start', '(a{sv})', {'paused': GLib.Variant('s', 'yes')})
        self.refused('org.freedesktop.DBus.Error.InvalidArgs', self.domain, f'{NAME}.Domain', 'Save', '(sa{sv})', 'relative', {})
        self.refused('org.freedesktop.DBus.Error.InvalidArgs', self.domain, f'{NAME}.Domain', 'SetMemory', '(ta{sv})', 1000, {})
        self.refused('org.freedesktop.DBus.Error.InvalidArgs', self.domain, f'{NAME}.Domain', 'SetVCPUs', '(ua{sv})', 0, {})
        self.refused('org.freedesktop.DBus.Error.InvalidArgs', self.domain, f'{NAME}.Domain', 'Start', '(s)', 'x')
        self.assertEqual(self.vireod.get(self.domain, 'Domain', 'Version'), version)

    def test_descriptors(self):
        """One that cannot be read or written is refused before anything is begun."""
        pool = self.some('StoragePool')
        for method, mode, says in (('UploadVolume', os.O_WRONLY, 'reading'), ('DownloadVolume', os.O_RDONLY, 'writing'),
                                   ('UploadVolume', os.O_PATH, 'reading'), ('DownloadVolume', os.O_PATH, 'writing')):
            descriptors = Gio.UnixFDList.new_from_array([os.open('/dev/null', mode | os.O_CLOEXEC)])
            with self.assertRaises(GLib.Error) as caught:
                self.vireod.connection.call_with_unix_fd_list_sync(
                    NAME, pool, f'{NAME}.StoragePool', method, GLib.Variant('(sha{sv})', ('v', 0, {})), None,
                    Gio.DBusCallFlags.NONE, 30000, descriptors, None)
            self.assertEqual(Gio.DBusError.get_remote_error(caught.exception), 'org.freedesktop.DBus.Error.InvalidArgs')
            self.assertIn(f'the descriptor is not open for {says}', caught.exception.message)

    def test_repeated_key(self):
        """A Python dictionary can't have it, so this message is made by hand."""
        arguments = GLib.Variant.parse(GLib.VariantType('(a{sv})'), "([{'paused', <true>}, {'paused', <true>}],)", None, None)
        with self.assertRaises(GLib.Error) as caught:
            self.vireod.connection.call_sync(NAME, self.domain, f'{NAME}.Domain', 'Start', arguments, None,
                                             Gio.DBusCallFlags.NONE, 30000, None)
        self.assertEqual(Gio.DBusError.get_remote_error(caught.exception), ERROR + 'InvalidOption')
        self.assertIn('“paused” is given twice', caught.exception.message)

    def test_if_version(self):
        version = self.vireod.get(self.domain, 'Domain', 'Version')
        self.change('Start', **{'if-version': GLib.Variant('t', version)})
        self.assertTrue(self.vireod.get(self.domain, 'Domain', 'Active'))

    def test_failure_is_the_answer(self):
        self.refused('InvalidState', self.domain, f'{NAME}.Domain', 'Resume', '(a{sv})', {})
        job = max(self.objects('Job').items(), key=lambda j: j[1]['Version'])[1]
        self.assertEqual((job['State'], job['Error'][0]), ('failed', ERROR + 'InvalidState'))

    def test_async(self):
        job, version = self.change('Start', **{'async': GLib.Variant('b', True)})
        self.assertEqual(version, 0)
        state = self.vireod.call(job, f'{NAME}.Job', 'Wait', '(t)', MAX)
        self.assertEqual(state, 'completed')
        self.assertTrue(self.vireod.get(self.domain, 'Domain', 'Active'))
        # of one that has ended, at once
        self.assertEqual(self.vireod.call(job, f'{NAME}.Job', 'Wait', '(t)', MAX), 'completed')
        self.assertEqual(self.vireod.call(job, f'{NAME}.Job', 'Wait', '(t)', 0), 'completed')
        self.refused('NotCancellable', job, f'{NAME}.Job', 'Cancel', '(a{sv})', {})
        self.refused('org.freedesktop.DBus.Error.InvalidArgs', job, f'{NAME}.Job', 'Wait', '(t)', MAX + 1)

    def test_define_and_undefine(self):
        uuid = '5c6f0a3e-3b52-4b05-9d0a-0d5f3f1e7a01'
        name = 'odd “name” \'&<>'
        xml = DOMAIN_XML.format(uuid=uuid, name=GLib.markup_escape_text(name))
        path, version = self.vireod.call(self.connection, f'{NAME}.Connection', 'DefineDomain', '(sa{sv})', xml, {})
        self.assertEqual(path, f'{self.connection}/domain/_{uuid.replace("-", "_")}')
        self.assertEqual(self.vireod.get(path, 'Domain', 'Name'), name)
        self.assertLessEqual(self.vireod.get(path, 'Domain', 'Version'), version)
        self.assertEqual(self.vireod.lookup(name), path)
        self.vireod.call(path, f'{NAME}.Domain', 'Undefine', '(a{sv})', {})
        self.manager_refused('NotFound', 'LookupDomain', '(s)', name)
        with self.assertRaises(BusError) as caught:
            self.vireod.get(path, 'Domain', 'Name')
        self.assertEqual(caught.exception.short, 'UnknownObject')

    def test_bad_xml_says_where(self):
        message = self.refused('InvalidXML', self.connection, f'{NAME}.Connection', 'DefineDomain', '(sa{sv})',
                               '<domain>\n<name>x</nam></domain>', {})
        self.assertRegex(message, 'line 2')

    def test_create(self):
        uuid = '5c6f0a3e-3b52-4b05-9d0a-0d5f3f1e7a02'
        path, job, version = self.vireod.call(
            self.connection, f'{NAME}.Connection', 'CreateDomain', '(sa{sv})', DOMAIN_XML.format(uuid=uuid, name='fleeting'), {})
        self.assertEqual(self.vireod.get(path, 'Domain', 'UUID'), uuid)
        self.assertFalse(self.vireod.get(path, 'Domain', 'Persistent'))
        self.assertEqual(self.vireod.get(job, 'Job', 'Object'), self.connection)
        self.refused('InvalidState', path, f'{NAME}.Domain', 'GetXML', '(a{sv})', {'inactive': GLib.Variant('b', True)})
        _, end = self.vireod.call(path, f'{NAME}.Domain', 'Destroy', '(a{sv})', {})
        self.assertGreater(end, version)
        self.assertNotIn(path, self.objects('Domain'))

    def test_caller_that_leaves(self):
        """Whatever was begun goes on, nobody else notices, and nothing waits for who has left."""
        for _ in range(20):
            leaving = Client(self.bus)
            for path, interface, method, signature in (
                    (self.domain, 'Domain', 'Start', '(a{sv})'), (MANAGER, 'Manager', 'Sync', '(a{sv})'),
                    (MANAGER, 'Manager', 'GetSnapshot', '(a{sv})')):
                leaving.connection.call(NAME, path, f'{NAME}.{interface}', method, GLib.Variant(signature, ({},)), None,
                                        Gio.DBusCallFlags.NONE, 30000, None, None)
            leaving.connection.flush_sync()
            leaving.connection.close_sync()
        self.vireod.sync()
        started = [j for j in self.objects('Job').values() if j['Object'] == self.domain and j['State'] == 'running']
        self.assertEqual(started, [])

    def test_subscribe_is_harmless(self):
        self.vireod.manager('Subscribe', '(a{sv})', {})
        self.vireod.manager('Subscribe', '(a{sv})', {'kinds': GLib.Variant('as', ['domain'])})
        self.vireod.manager('Unsubscribe')
        self.vireod.manager('Unsubscribe')
        self.manager_refused('InvalidOption', 'Subscribe', '(a{sv})', {'xml': GLib.Variant('b', True)})


class Telling(BusCase):
    """Signals: their order, and that they are the whole story."""

    def churn(self, rounds=3):
        """Make things happen to domains; return the version by which they have."""
        domains = [p for p, o in sorted(self.objects('Domain').items()) if o['Persistent']][:4]
        version = 0
        for _ in range(rounds):
            for path in domains:
                methods = ('Destroy',) if self.vireod.get(path, 'Domain', 'Active') else ('Start', 'Suspend', 'Resume')
                for method in methods:
                    _, version = self.vireod.call(path, f'{NAME}.Domain', method, '(a{sv})', {})
        return version

    def test_order_of_messages(self):
        uuid = '5c6f0a3e-3b52-4b05-9d0a-0d5f3f1e7a03'
        self.churn(1)
        path, _ = self.vireod.call(self.connection, f'{NAME}.Connection', 'DefineDomain', '(sa{sv})',
                                   DOMAIN_XML.format(uuid=uuid, name='told'), {})
        _, version = self.vireod.call(path, f'{NAME}.Domain', 'Undefine', '(a{sv})', {})
        self.vireod.recorder.wait_version(version)
        messages = self.vireod.recorder.messages
        n, last = 0, 0
        known = {}
        for i, m in enumerate(messages):
            if m.interface not in EVENT_INTERFACES:
                continue
            event_version, previous, _, properties, details = m.body
            self.assertGreater(event_version, last, m)
            last = event_version
            self.assertEqual(properties['Version'], event_version)
            self.assertGreater(details['timestamp'], 0)
            if m.member == 'Added':
                before = messages[i - 1]
                self.assertEqual((before.member, before.path), ('InterfacesAdded', MANAGER), m)
                self.assertEqual(before.body, (m.path, {m.interface: properties}))
                self.assertEqual(previous, 0)
            elif m.member == 'Removed':
                after = messages[i + 1]
                self.assertEqual((after.member, after.path, after.body), ('InterfacesRemoved', MANAGER, (m.path, [m.interface])))
            else:
                before = messages[i - 1]
                self.assertEqual((before.member, before.path, before.interface), ('PropertiesChanged', m.path, PROPERTIES), m)
                interface, changed, invalidated = before.body
                self.assertEqual((interface, invalidated), (m.interface, []))
                self.assertEqual(changed['Version'], event_version)
                if m.path in known:
                    # exactly what differs, from the version that the event says it had
                    self.assertEqual(known[m.path]['Version'], previous)
                    self.assertEqual({k: v for k, v in properties.items() if v != known[m.path][k]}, changed)
            known[m.path] = properties
            n += 1
        self.assertGreater(n, 10)
        # every PropertiesChanged has a version with it, unless it is progress or the Manager's
        for m in messages:
            if m.member == 'PropertiesChanged' and m.body[0] not in (f'{NAME}.Job', f'{NAME}.Manager'):
                self.assertIn('Version', m.body[1])

    def test_visible_before_told(self):
        """P5: whoever hears of an event and looks finds the object at that version or a later one."""
        looked = []

        def look(event):
            if event.kind == 'Domain' and event.event != 'Removed':
                looked.append((event.version, self.vireod.get(event.path, 'Domain', 'Version')))
        self.vireod.recorder.watchers.append(look)
        try:
            self.vireod.recorder.wait_version(self.churn(1))
        finally:
            self.vireod.recorder.watchers.remove(look)
        self.assertTrue(looked)
        for told, found in looked:
            self.assertGreaterEqual(found, told)

    def test_bookmark(self):
        version = self.churn(1)
        wait_for(lambda: self.vireod.recorder.bookmark >= version, what='a bookmark')
        settle(quiet=0.5, changed=lambda: len(self.vireod.recorder.messages))
        bookmarks = [m.body[0] for m in self.vireod.recorder.messages if m.member == 'Bookmark']
        self.assertEqual(bookmarks, sorted(set(bookmarks)))
        self.assertEqual(bookmarks[-1], self.vireod.get(MANAGER, 'Manager', 'Version'))

    def test_snapshot_and_events_make_the_next_snapshot(self):
        """P13, with snapshots taken in the middle of what happens."""
        snapshots = [self.vireod.snapshot()]

        def snap(event):
            if event.version % 3 == 0:
                snapshots.append(self.vireod.snapshot())
        self.vireod.recorder.watchers.append(snap)
        try:
            self.vireod.recorder.wait_version(self.churn(2))
        finally:
            self.vireod.recorder.watchers.remove(snap)
        snapshots.append(self.vireod.snapshot())
        self.vireod.recorder.wait_version(snapshots[-1][1])
        progress = {'RunningTime', 'RemainingTime', 'Percent', 'BytesTotal', 'BytesDone'}

        def versioned(objects):
            return {p: (k, {n: v for n, v in o.items() if n not in progress}) for p, (k, o) in objects.items()}
        self.assertGreater(len(snapshots), 4)
        for epoch, version, objects in snapshots[:-1]:
            state = versioned(objects)
            for event in self.vireod.recorder.of(after=version):
                if event.version > snapshots[-1][1]:
                    break
                if event.event == 'Removed':
                    del state[event.path]
                else:
                    state[event.path] = (event.kind, versioned({'': (event.kind, event.properties)})[''][1])
            self.assertEqual(state, versioned(snapshots[-1][2]), f'from {version}')


class Following(BusCase):
    """GetEvents."""

    def setUp(self):
        self.epoch = self.vireod.get(MANAGER, 'Manager', 'Epoch')
        self.domain = self.some('Domain', Persistent=True)

    def events(self, after, most=0, timeout=0, client=None, **options):
        return (client or self.vireod).manager('GetEvents', '(stuta{sv})', self.epoch, after, most, timeout, options)

    def toggle(self, **options):
        method = 'Destroy' if self.vireod.get(self.domain, 'Domain', 'Active') else 'Start'
        return self.vireod.call(self.domain, f'{NAME}.Domain', method, '(a{sv})', options)[1]

    def version(self):
        return self.vireod.get(MANAGER, 'Manager', 'Version')

    def test_the_same_as_signals(self):
        start = self.version()
        self.toggle()
        end = self.toggle()
        version, more, events = self.events(start)
        self.assertGreaterEqual(version, end)
        self.assertFalse(more)
        self.vireod.recorder.wait_version(version)
        words = {'connection': 'Connection', 'domain': 'Domain', 'pool': 'StoragePool', 'network': 'Network', 'job': 'Job'}
        heard = [e for e in self.vireod.recorder.of(after=start) if e.version <= version]
        self.assertEqual([(e[0], e[1], words[e[2]], e[3], e[4], e[5]) for e in events],
                         [(e.version, e.previous, e.kind, e.path, e.event, e.reason) for e in heard])
        for e, h in zip(events, heard):
            self.assertEqual(e[7], h.properties)
            self.assertEqual(e[6], h.details['timestamp'])
            self.assertGreaterEqual({**e[8], 'timestamp': e[6]}.items(), h.details.items())

    def test_pages(self):
        start = self.version()
        for _ in range(3):
            self.toggle()
        version, more, everything = self.events(start)
        self.assertFalse(more)
        paged, cursor = [], start
        while True:
            cursor, more, events = self.events(cursor, 2)
            self.assertLessEqual(len(events), 2)
            paged += events
            if not more:
                break
            self.assertEqual(cursor, events[-1][0])
        self.assertEqual(paged, everything)
        # from any version in between
        for e in everything:
            self.assertEqual(self.events(e[0])[2], [x for x in everything if x[0] > e[0]])

    def test_exactly_as_many_is_not_more(self):
        start = self.version()
        self.toggle()
        n = len(self.events(start)[2])
        self.assertFalse(self.events(start, n)[1])
        self.assertTrue(self.events(start, n - 1)[1])

    def test_filters(self):
        start = self.version()
        self.toggle()
        everything = self.events(start)[2]
        for options, wanted in (
                ({'kinds': GLib.Variant('as', ['job'])}, lambda e: e[2] == 'job'),
                ({'objects': GLib.Variant('ao', [self.domain])}, lambda e: e[3] == self.domain),
                ({'connections': GLib.Variant('ao', [self.connection])}, lambda e: True),
                ({'connections': GLib.Variant('ao', ['/org/vireo1/connection/nobody'])}, lambda e: False),
                ({'events': GLib.Variant('as', ['Added', 'Finished'])}, lambda e: e[4] in ('Added', 'Finished')),
                ({'events': GLib.Variant('as', ['Job.Added'])}, lambda e: (e[2], e[4]) == ('job', 'Added')),
                ({'events': GLib.Variant('as', ['org.vireo1.Job.Added'])}, lambda e: (e[2], e[4]) == ('job', 'Added')),
                ({'events': GLib.Variant('as', ['IOError'])}, lambda e: False)):
            version, more, events = self.events(start, **options)
            self.assertEqual(events, [e for e in everything if wanted(e)], options)
            # an answer without events is a bookmark at the end all the same
            self.assertGreaterEqual(version, everything[-1][0])
            self.assertFalse(more)

    def test_xml(self):
        start = self.version()
        self.toggle()
        for e in self.events(start, xml=GLib.Variant('b', True))[2]:
            self.assertEqual('XML' in e[7], e[2] == 'domain')
        for e in self.events(start)[2]:
            self.assertNotIn('XML', e[7])

    def waiting(self, after, timeout=MAX, client=None, **options):
        """Begin a long poll; return a list that the answer will be put into."""
        answers = []

        def done(connection, result):
            try:
                answers.append(connection.call_finish(result).unpack())
            except GLib.Error as error:
                answers.append(error)
        (client or self.vireod).connection.call(
            NAME, MANAGER, f'{NAME}.Manager', 'GetEvents',
            GLib.Variant('(stuta{sv})', (self.epoch, after, 0, timeout, options)), None, Gio.DBusCallFlags.NONE, 60000, None,
            done)
        (client or self.vireod).connection.flush_sync()
        return answers

    def test_long_poll_wakes(self):
        settle(quiet=0.3, changed=self.version)
        start = self.version()
        answers = self.waiting(start, objects=GLib.Variant('ao', [self.domain]))
        other = self.waiting(start, kinds=GLib.Variant('as', ['pool']))
        settle(quiet=0.2, changed=lambda: len(answers))
        self.assertEqual(answers, [])
        self.toggle()
        wait_for(lambda: answers, what='the poll answers')
        version, more, events = answers[0]
        self.assertTrue(events)
        self.assertEqual({e[3] for e in events}, {self.domain})
        self.assertEqual(other, [])

    def test_long_poll_times_out_as_a_bookmark(self):
        start = self.version()
        answers = self.waiting(start, timeout=300000, events=GLib.Variant('as', ['MonitorEvent']))
        self.toggle()
        wait_for(lambda: answers, what='the poll times out')
        version, more, events = answers[0]
        self.assertEqual((more, events), (False, []))
        self.assertGreater(version, start)
        self.assertLessEqual(version, self.version())

    def test_cursors(self):
        now, oldest = self.version(), self.vireod.get(MANAGER, 'Manager', 'OldestVersion')
        self.assertEqual(self.events(now), (now, False, []))
        self.assertTrue(self.events(oldest)[2])
        self.assertIn(str(now), self.manager_refused('FutureVersion', 'GetEvents', '(stuta{sv})', self.epoch, now + 1, 0, 0, {}))
        self.manager_refused('FutureVersion', 'GetEvents', '(stuta{sv})', self.epoch, 2**64 - 1, 0, 0, {})
        if oldest > 0:
            self.assertIn(str(oldest), self.manager_refused('Gone', 'GetEvents', '(stuta{sv})', self.epoch, oldest - 1, 0, 0, {}))

    def test_bad_arguments(self):
        for epoch in ('', 'x', '0' * 31, '0' * 33, 'g' * 32):
            self.manager_refused('org.freedesktop.DBus.Error.InvalidArgs', 'GetEvents', '(stuta{sv})', epoch, 0, 0, 0, {})
        self.assertIn(self.epoch, self.manager_refused('EpochChanged', 'GetEvents', '(stuta{sv})', '0' * 32, 0, 0, 0, {}))
        self.manager_refused('org.freedesktop.DBus.Error.InvalidArgs', 'GetEvents', '(stuta{sv})', self.epoch, 0, 0, MAX + 1, {})
        self.manager_refused('InvalidOption', 'GetEvents', '(stuta{sv})', self.epoch, 0, 0, 0, {'kind': GLib.Variant('s', 'x')})

    def test_too_many_waiting(self):
        client = Client(self.bus)
        polls = [self.waiting(self.version(), client=client, events=GLib.Variant('as', ['MonitorEvent'])) for _ in range(140)]
        wait_for(lambda: sum(1 for p in polls if p) >= 12, what='some are refused')
        refused = [p[0] for p in polls if p]
        self.assertEqual({Gio.DBusError.get_remote_error(e) for e in refused}, {ERROR + 'LimitsExceeded'})
        # somebody else is not affected, and leaving sets all free
        answers = self.waiting(self.version(), objects=GLib.Variant('ao', [self.domain]))
        client.connection.close_sync()
        self.toggle()
        wait_for(lambda: answers, what='another one is answered')
        again = Client(self.bus)
        self.assertEqual(self.events(self.version(), client=again)[2], [])


if __name__ == '__main__':
    main()
