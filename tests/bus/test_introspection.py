#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The live tree and the interface files say the same: every name, signature, argument and annotation, both ways.

And what the files describe in prose for a reader (the options of each method) is what the broker accepts.
"""

import re
import xml.etree.ElementTree as ET

from support import BusCase, BusError, GLib, KINDS, MANAGER, NAME, ROOT, main

STANDARD = {'org.freedesktop.DBus.Peer', 'org.freedesktop.DBus.Introspectable', 'org.freedesktop.DBus.Properties',
            'org.freedesktop.DBus.ObjectManager', 'org.freedesktop.LogControl1'}
CHANGED = 'org.freedesktop.DBus.Property.EmitsChangedSignal'
# A value of each type that an option may have, for calling with
VALUES = {'b': GLib.Variant('b', False), 's': GLib.Variant('s', 'x'), 't': GLib.Variant('t', 1),
          'u': GLib.Variant('u', 1), 'as': GLib.Variant('as', ['x']), 'o': GLib.Variant('o', '/x'),
          'ao': GLib.Variant('ao', ['/x'])}
ARGUMENTS = {'s': '/nowhere', 't': 1024, 'u': 1, 'b': True}


def annotations(element):
    return {(a.get('name'), a.get('value')) for a in element.findall('annotation')}


def describe(interface):
    """Return everything that an <interface> says, as a set of facts."""
    facts = set()
    for method in interface.findall('method'):
        facts.add(('method', method.get('name')))
        for i, arg in enumerate(method.findall('arg')):
            facts.add(('method', method.get('name'), i, arg.get('name'), arg.get('type'), arg.get('direction', 'in')))
        facts.update(('method', method.get('name'), *a) for a in annotations(method))
    for signal in interface.findall('signal'):
        facts.add(('signal', signal.get('name')))
        for i, arg in enumerate(signal.findall('arg')):
            facts.add(('signal', signal.get('name'), i, arg.get('name'), arg.get('type')))
        facts.update(('signal', signal.get('name'), *a) for a in annotations(signal))
    for prop in interface.findall('property'):
        facts.add(('property', prop.get('name'), prop.get('type'), prop.get('access')))
        # no annotation means true
        facts.update(('property', prop.get('name'), *a) for a in annotations(prop) if a != (CHANGED, 'true'))
    facts.update(('interface', *a) for a in annotations(interface))
    return facts


def from_files():
    """Return {interface: (facts, text of the file)}."""
    found = {}
    for path in sorted((ROOT / 'introspection').glob('org.vireo1.*.xml')):
        for interface in ET.parse(path).getroot().findall('interface'):
            found[interface.get('name')] = (describe(interface), path.read_text())
    return found


class Introspection(BusCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = from_files()
        # so that there is a job to look at
        path, active = next((p, o['Active']) for p, (k, o) in cls.vireod.snapshot()[2].items()
                            if k == 'Domain' and o['Persistent'])
        cls.vireod.call(path, f'{NAME}.Domain', 'Destroy' if active else 'Start', '(a{sv})', {})
        cls.tree = {}
        cls.walk('/')

    @classmethod
    def walk(cls, path):
        text = cls.vireod.call(path, 'org.freedesktop.DBus.Introspectable', 'Introspect')
        node = ET.fromstring(text)
        cls.tree[path] = {i.get('name'): describe(i) for i in node.findall('interface')}
        names = [child.get('name') for child in node.findall('node')]
        assert len(names) == len(set(names)), f'{path} names a child twice: {names}'
        for name in names:
            assert '/' not in name, f'{path} has a child of a child: {name}'
            cls.walk(path.rstrip('/') + '/' + name)

    def test_files_are_the_live_tree(self):
        for path, interfaces in self.tree.items():
            for name, facts in interfaces.items():
                if name in STANDARD:
                    continue
                self.assertIn(name, self.files, f'{path} has an interface that no file describes')
                documented = self.files[name][0]
                self.assertEqual(facts - documented, set(), f'{path}: live, but not in the file of {name}')
                self.assertEqual(documented - facts, set(), f'{path}: in the file of {name}, but not live')

    def test_every_file_is_alive(self):
        alive = {name for interfaces in self.tree.values() for name in interfaces}
        self.assertEqual(set(self.files) - alive, set())

    def test_tree_has_what_the_snapshot_has(self):
        objects = self.vireod.snapshot()[2]
        walked = {path for path, interfaces in self.tree.items()
                  if any(name.removeprefix(f'{NAME}.') in KINDS for name in interfaces)}
        self.assertEqual(walked, set(objects))
        for path, (kind, _) in objects.items():
            self.assertIn(f'{NAME}.{kind}', self.tree[path])

    def test_standard_interfaces(self):
        self.assertIn('org.freedesktop.DBus.ObjectManager', self.tree[MANAGER])
        self.assertIn('org.freedesktop.LogControl1', self.tree[MANAGER])
        self.assertIn('org.freedesktop.LogControl1', self.tree['/org/freedesktop/LogControl1'])
        for path, interfaces in self.tree.items():
            if any(name.startswith(NAME) for name in interfaces):
                self.assertIn('org.freedesktop.DBus.Properties', interfaces, path)
                self.assertIn('org.freedesktop.DBus.Introspectable', interfaces, path)

    def test_nothing_at_other_paths(self):
        for path in ('/org/vireo1/connection/nope', f'{self.connection}/domain/_nope', '/org/vireo1/job/_0',
                     '/org/vireo1/nope', '/org/vireo1/connectionx'):
            for interface, method in (('org.freedesktop.DBus.Introspectable', 'Introspect'), (f'{NAME}.Domain', 'GetXML')):
                with self.assertRaises(BusError) as caught:
                    self.vireod.call(path, interface, method, '()' if method == 'Introspect' else '(a{sv})',
                                     *(() if method == 'Introspect' else ({},)))
                self.assertIn(caught.exception.short, ('UnknownObject', 'UnknownMethod', 'UnknownInterface'))

    # Options, by what the broker says when it is asked for one that does not exist, or of another type

    def documented_options(self, interface, method):
        text = self.files[interface][1]
        head = re.search(r'<!--\s+' + interface.replace('.', r'\.') + r':(.*?)-->', text, re.S).group(1)
        body = re.search(r'<!--\s+' + method + r':\n((?:(?!-->).)*)-->\s*<method name="' + method + '"', text, re.S).group(1)
        options = dict(re.findall(r'Option ([\w-]+) \((\w+)\)', body))
        if 'Common options' in body:
            common = dict(re.findall(r'Option ([\w-]+) \((\w+)\)', head))
            self.assertEqual(set(common), set(re.findall(r'([\w-]+) \(\w\)', re.search(
                r'Common options: (.*?)\.\n', body).group(1))))
            options.update(common)
        return options

    def methods_with_options(self):
        for interface, (facts, _) in self.files.items():
            for fact in sorted(f for f in facts if f[0] == 'method' and len(f) == 6):
                if fact[4] == 'a{sv}' and fact[5] == 'in':
                    before = sorted((f[2], f[4]) for f in facts
                                    if f[:2] == fact[:2] and len(f) == 6 and f[5] == 'in' and f[2] < fact[2])
                    yield interface, fact[1], ''.join(t for _, t in before)

    def call_with(self, interface, method, signature, options):
        kind = interface.removeprefix(f'{NAME}.')
        path = MANAGER if kind == 'Manager' else next(p for p in sorted(self.tree) if interface in self.tree[p])
        if 'h' in signature:
            return None
        arguments = [ARGUMENTS[c] for c in signature]
        if method == 'GetEvents':
            arguments = ['0' * 32, 0, 0, 0]
        with self.assertRaises(BusError) as caught:
            self.vireod.call(path, interface, method, f'({signature}a{{sv}})', *arguments, options)
        return caught.exception

    def test_options_are_those_of_the_files(self):
        n = 0
        for interface, method, signature in self.methods_with_options():
            with self.subTest(f'{interface}.{method}'):
                documented = self.documented_options(interface, method)
                error = self.call_with(interface, method, signature, {'no-such-option': GLib.Variant('b', True)})
                if error is None or error.short == 'NotSupported' and method == 'Watch':
                    continue
                self.assertEqual(error.name, 'org.vireo1.Error.InvalidOption', error.message)
                self.assertIn('no-such-option', error.message)
                accepted = re.search(r'there are: (.*)$', error.message)
                self.assertEqual(set(accepted.group(1).split(', ')) if accepted else set(), set(documented))
                for key, kind in documented.items():
                    error = self.call_with(interface, method, signature, {key: GLib.Variant('y', 1)})
                    self.assertEqual(error.name, 'org.vireo1.Error.InvalidOption', error.message)
                    self.assertIn(f'“{key}”', error.message)
                    self.assertIn(f'must be “{kind}”', error.message)
                n += 1
        self.assertGreater(n, 50)


if __name__ == '__main__':
    main()
