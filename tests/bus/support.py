# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of the bus face share: a broker on a private bus with the simulated hypervisor."""

import os
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'live'))

from gi.repository import Gio, GLib  # noqa: E402,F401

from kit.bus import Bus, BrokerBus, broker_missing  # noqa: E402
from kit.scope import Scope  # noqa: E402
from kit.vireod import BusError, Client, Vireod  # noqa: E402,F401

NAME = 'org.vireo1'
MANAGER = '/org/vireo1'
ERROR = 'org.vireo1.Error.'
KINDS = ('Connection', 'Domain', 'StoragePool', 'Network', 'Job')
PROPERTIES = 'org.freedesktop.DBus.Properties'
OBJECT_MANAGER = 'org.freedesktop.DBus.ObjectManager'


class BusCase(unittest.TestCase):
    """One broker for all tests of the class."""

    CONNECT = (os.environ.get('VIREO_TEST_URI', f"sim:{pathlib.Path(__file__).with_name('calm.json')}"),)
    ARGUMENTS = ()
    bus_class = BrokerBus if os.environ.get('VIREO_TEST_BUS') == 'dbus-broker' else Bus

    @classmethod
    def setUpClass(cls):
        cls.scope = Scope()
        cls.scope.__enter__()
        cls.addClassCleanup(cls.scope.__exit__, None, None, None)
        cls.bus = cls.bus_class(cls.scope)
        cls.vireod = Vireod(cls.scope, cls.bus, *cls.CONNECT, arguments=cls.ARGUMENTS)
        cls.connection = cls.vireod.connection_path()
        cls.vireod.wait_connected()
        cls.vireod.sync()

    @classmethod
    def tearDownClass(cls):
        # it must still be there, whatever the tests did to it, and leave in order (a sanitizer speaks up then)
        alive = cls.vireod.alive()
        log = cls.vireod.log()
        status = cls.vireod.stop() if alive else cls.vireod.process.poll()
        assert alive and status == 0, f'vireod ended with {status}:\n{log}\n{cls.vireod.log()}'

    def objects(self, kind):
        """Return {path: properties} of a kind, from a snapshot."""
        return {path: properties for path, (k, properties) in self.vireod.snapshot()[2].items() if k == kind}

    def some(self, kind, **wanted):
        """Return the path of some object with these properties."""
        for path, properties in sorted(self.objects(kind).items()):
            if all(properties[k] == v for k, v in wanted.items()):
                return path
        self.fail(f'no {kind} with {wanted} in {self.objects(kind)}')

    def refused(self, error, *call, **options):
        """Call a method and expect an error; return its message."""
        with self.assertRaises(BusError) as caught:
            self.vireod.call(*call, **options)
        full = error if '.' in error else ERROR + error
        self.assertEqual(caught.exception.name, full, caught.exception.message)
        self.assertTrue(caught.exception.message)
        return caught.exception.message

    def manager_refused(self, error, method, signature, *arguments):
        return self.refused(error, MANAGER, f'{NAME}.Manager', method, signature, *arguments)


def memory_means_something(process):
    """Whether the size of a process is its own, and not that of a sanitizer, which keeps what was freed."""
    return 'asan' not in pathlib.Path(f'/proc/{process.pid}/maps').read_text()


def main():
    if os.environ.get('VIREO_TEST_BUS') == 'dbus-broker' and broker_missing():
        print(broker_missing())
        sys.exit(77)
    unittest.main(verbosity=2)
