#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of policy/: valid, complete, and of one mind with the code."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'policy'))
sys.dont_write_bytecode = True

import permissions  # noqa: E402

POLICY, BUS = ROOT / 'policy/org.vireo1.policy', ROOT / 'policy/org.vireo1.conf'
POLICY_DTD = pathlib.Path('/usr/share/polkit-1/policyconfig-1.dtd')
BUS_DTD = pathlib.Path('/usr/share/xml/dbus-1/busconfig.dtd')


def words():
    """Return {ACTION_…: "org.vireo1.…"} of the code."""
    text = (ROOT / 'introspection/authorize.c').read_text()
    return dict(re.findall(r'\[(ACTION_\w+)\] = "(org\.vireo1\.[\w.-]+)"', text))


class Files(unittest.TestCase):
    def xmllint(self, file, dtd):
        if not shutil.which('xmllint'):
            self.skipTest('xmllint is not installed')
        arguments = ['--dtdvalid', dtd] if dtd.exists() else []
        done = subprocess.run(['xmllint', '--nonet', '--noout', *arguments, file], stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        if not arguments:
            self.skipTest(f'{dtd} is not installed: only well-formed')

    def test_polkit_dtd(self):
        self.xmllint(POLICY, POLICY_DTD)

    def test_bus_dtd(self):
        if not BUS_DTD.exists():
            self.xmllint(BUS, BUS_DTD)
        # what comes with D-Bus knows only the attributes of its first years: those of dbus-daemon(1) are added
        attributes = ' '.join(f'{way}_{what} CDATA #IMPLIED' for way in ('send', 'receive') for what in (
            'interface', 'member', 'error', 'path', 'type', 'sender', 'destination', 'requested_reply', 'broadcast'))
        with tempfile.TemporaryDirectory() as directory:
            dtd = pathlib.Path(directory, 'busconfig.dtd')
            dtd.write_text(BUS_DTD.read_text() + ''.join(
                f'<!ATTLIST {element} {attributes} own_prefix CDATA #IMPLIED eavesdrop (true|false) #IMPLIED log (true|false) #IMPLIED>\n'
                for element in ('allow', 'deny')))
            self.xmllint(BUS, dtd)

    def test_actions_are_those_of_the_code(self):
        actions = {a.get('id') for a in ET.parse(POLICY).iter('action')}
        self.assertEqual(actions, set(words().values()))

    def test_each_action(self):
        for action in ET.parse(POLICY).iter('action'):
            with self.subTest(action.get('id')):
                annotations = {a.get('key'): a.text for a in action.iter('annotate')}
                self.assertEqual(annotations.get('org.freedesktop.policykit.owner'), 'unix-user:vireo')
                for kind in ('description', 'message'):
                    texts = action.findall(kind)
                    self.assertEqual([t.get('gettext-domain') for t in texts], ['vireo'])
                    self.assertTrue(texts[0].text.strip())
                defaults = {d.tag: d.text for d in action.find('defaults')}
                self.assertEqual(set(defaults), {'allow_any', 'allow_inactive', 'allow_active'})
                # what polkit keeps it keeps for all objects
                self.assertFalse([d for d in defaults.values() if 'keep' in d])
                if action.get('id') == 'org.vireo1.view':
                    self.assertEqual(defaults, {'allow_any': 'auth_admin', 'allow_inactive': 'yes', 'allow_active': 'yes'})
                else:
                    self.assertEqual(set(defaults.values()), {'auth_admin'})

    def test_bus_policy(self):
        policies = {(p.get('context') or f"user {p.get('user')}"): [(r.tag, dict(r.attrib)) for r in p]
                    for p in ET.parse(BUS).iter('policy')}
        self.assertEqual(set(policies), {'default', 'user vireo', 'user root'})
        self.assertIn(('deny', {'own': 'org.vireo1'}), policies['default'])
        self.assertIn(('deny', {'receive_sender': 'org.vireo1', 'eavesdrop': 'true'}), policies['default'])
        self.assertIn(('allow', {'send_destination': 'org.vireo1'}), policies['default'])
        for user in ('user vireo', 'user root'):
            self.assertEqual(policies[user], [('allow', {'own': 'org.vireo1'})])

    def test_permissions(self):
        """Each method has its action, and the table is up to date."""
        self.assertEqual(permissions.check(permissions.actions()), [])
        self.assertEqual(permissions.TABLE.read_text(), permissions.table())

    def test_a_method_without_an_action_is_noticed(self):
        found = permissions.actions()
        lacking = {k: v for k, v in found.items() if k != ('Domain', 'Start')}
        self.assertEqual(permissions.check(lacking), ['Domain.Start has no action'])
        self.assertEqual(permissions.check({**found, ('Domain', 'Start'): 'nonsense'}),
                         ['Domain.Start: polkit knows no action nonsense'])

    def test_rules_are_javascript(self):
        # polkitd itself reads them in test_methods; here, that what they name is there
        actions = set(words().values())
        files = [ROOT / 'policy/org.vireo1.rules', *sorted((ROOT / 'policy/examples').glob('*.rules'))]
        self.assertGreater(len(files), 3)
        for file in files:
            for name in re.findall(r'"(org\.vireo1\.[\w.-]+[\w])"', file.read_text()):
                self.assertIn(name, actions, file)


if __name__ == '__main__':
    if not words():
        sys.exit('no actions found in the code')
    unittest.main(verbosity=2)
