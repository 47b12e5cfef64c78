#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tools that people have read it without complaint, and GDBus keeps a true copy of it."""

import json
import os
import shutil
import signal
import subprocess
import unittest

from support import BusCase, GLib, Gio, MANAGER, NAME, main

from kit.loop import wait_for
from kit.vireod import busctl

DOMAIN_XML = '''<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>65536</memory>
<vcpu>1</vcpu><os><type>hvm</type></os></domain>'''
UUID = '5c6f0a3e-3b52-4b05-9d0a-0d5f3f1e7b01'


class Tools(BusCase):
    def story(self):
        """Define, start, stop and undefine a domain; return its path."""
        path, _ = self.vireod.call(self.connection, f'{NAME}.Connection', 'DefineDomain', '(sa{sv})',
                                   DOMAIN_XML.format(uuid=UUID, name='watched'), {})
        for method in ('Start', 'Suspend', 'Resume', 'Destroy', 'Undefine'):
            self.vireod.call(path, f'{NAME}.Domain', method, '(a{sv})', {})
        return path

    def test_busctl_tree(self):
        tree = busctl(self.bus, 'tree', '--list', NAME).split()
        for path in self.vireod.snapshot()[2]:
            self.assertIn(path, tree)
        self.assertEqual(len(tree), len(set(tree)))

    def test_busctl_introspect(self):
        for path, (kind, _) in self.vireod.snapshot()[2].items():
            text = busctl(self.bus, 'introspect', NAME, path)
            self.assertIn(f'{NAME}.{kind}', text)

    def test_busctl_json(self):
        reply = json.loads(busctl(self.bus, '--json=short', 'call', NAME, MANAGER, f'{NAME}.Manager', 'GetSnapshot', 'a{sv}',
                                  '1', 'xml', 'b', 'true'))
        self.assertEqual(reply['type'], 'sta(osa{sv})')
        domain = self.some('Domain')
        name = json.loads(busctl(self.bus, '--json=short', 'get-property', NAME, domain, f'{NAME}.Domain', 'Name'))
        self.assertEqual(name['data'], self.objects('Domain')[domain]['Name'])

    def heard_by(self, argv, wanted, ready):
        """Run a listening tool through a story; return what it printed once every word of `wanted` is there."""
        # the tools write to a pipe in blocks; a file of ours shows what came so far
        log = self.scope.directory() / f'{argv[0]}.log'
        with log.open('w') as out:
            process = self.scope.spawn(['stdbuf', '-oL', *argv], stdout=out, stderr=subprocess.STDOUT)
        wait_for(lambda: ready in log.read_text(), poll=0.05, what=lambda: f'{argv} is ready: {log.read_text()}')
        self.story()
        wait_for(lambda: all(w in log.read_text() for w in wanted), poll=0.05,
                 what=lambda: f'{argv} shows {wanted}: {log.read_text()}')
        self.assertIsNone(process.poll(), log.read_text())
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        return log.read_text()

    def test_busctl_monitor(self):
        text = self.heard_by(['busctl', f'--address={self.bus.address}', '--no-pager', 'monitor', NAME],
                             ['Member=Added', 'Member=InterfacesAdded', 'Member=Started', 'Member=Suspended',
                              'Member=PropertiesChanged', 'Member=Undefined', 'Member=Removed', 'Member=InterfacesRemoved',
                              'Member=Bookmark'], 'Monitoring')
        self.assertNotIn('Failed', text)

    @unittest.skipUnless(shutil.which('gdbus'), 'gdbus is not installed')
    def test_gdbus(self):
        address = ['--address', self.bus.address, '--dest', NAME]
        done = subprocess.run(['gdbus', 'introspect', *address, '--object-path', MANAGER, '--recurse'], capture_output=True,
                              text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        for path in self.vireod.snapshot()[2]:
            self.assertIn(f'node {path} ', done.stdout)
        done = subprocess.run(['gdbus', 'call', *address, '--object-path', MANAGER, '--method', f'{NAME}.Manager.LookupDomain',
                               self.objects('Domain')[self.some('Domain')]['Name']], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertIn(self.some('Domain').rsplit('/', 1)[0], done.stdout)
        text = self.heard_by(['gdbus', 'monitor', *address],
                             ['Domain.Added', 'Domain.Started', 'Domain.Removed', 'InterfacesRemoved'], 'is owned by')
        self.assertNotIn('WARNING', text)

    def test_object_manager_client(self):
        """Gio.DBusObjectManagerClient, which knows nothing of versions, holds what a snapshot holds at the end."""
        connection = self.bus.connect()
        manager = Gio.DBusObjectManagerClient.new_sync(connection, Gio.DBusObjectManagerClientFlags.NONE, NAME, MANAGER, None,
                                                       None, None)
        came, went = [], []
        manager.connect('object-added', lambda _, o: came.append(o.get_object_path()))
        manager.connect('object-removed', lambda _, o: went.append(o.get_object_path()))
        path = self.story()
        wait_for(lambda: path in went, what='the object is removed')
        self.assertIn(path, came)
        version = 0

        def same():
            nonlocal version
            _, version, objects = self.vireod.snapshot()
            copy = {}
            for o in manager.get_objects():
                for proxy in o.get_interfaces():
                    names = proxy.get_cached_property_names() or []
                    copy[o.get_object_path()] = (proxy.get_interface_name().removeprefix(f'{NAME}.'),
                                                 {n: proxy.get_cached_property(n).unpack() for n in names})
            return copy == objects
        wait_for(same, what='the copy of GDBus equals a snapshot', poll=0.1)
        self.assertIsNone(manager.get_object(path))


if __name__ == '__main__':
    os.environ['LC_ALL'] = 'C'
    main()
