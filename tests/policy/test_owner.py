#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private address: the owner and root may do everything, others nothing."""

from support import BOB, DENIED, MANAGER, NAME, PROPERTIES, VIREO, GLib, PolicyCase, SystemVireod, main


class OwnerVireod(SystemVireod):
    """One that is told the address of its bus."""

    def start(self, limit=30):
        self._argv = [f'--address={self.bus.address}' if a == '--system' else a for a in self._argv]
        return super().start(limit)


class Owner(PolicyCase):
    RULES = 'polkit.addRule(function(action, subject) { return "yes"; });'  # who asks nobody hears no yes
    vireod_class = OwnerVireod

    def test_others(self):
        bob = self.caller(BOB)
        domain = sorted(self.objects('Domain'))[0]
        before = self.vireod.snapshot()[1:]
        calls = [(MANAGER, f'{NAME}.Manager', 'GetSnapshot', '(a{sv})', {}), (MANAGER, f'{NAME}.Manager', 'Watch', '(a{sv})', {}),
                 (MANAGER, f'{NAME}.Manager', 'Open', '(sa{sv})', 'sim:///x', {}),
                 (MANAGER, PROPERTIES, 'GetAll', '(s)', f'{NAME}.Manager'), (domain, PROPERTIES, 'GetAll', '(s)', f'{NAME}.Domain'),
                 (domain, PROPERTIES, 'Get', '(ss)', f'{NAME}.Domain', 'Name'),
                 (MANAGER, PROPERTIES, 'Set', '(ssv)', 'org.freedesktop.LogControl1', 'LogLevel', GLib.Variant('s', 'debug')),
                 (MANAGER, 'org.freedesktop.DBus.ObjectManager', 'GetManagedObjects', '()'),
                 (MANAGER, 'org.freedesktop.DBus.Introspectable', 'Introspect', '()'), ('/nowhere', 'a.b', 'C', '()'),
                 (domain, f'{NAME}.Domain', 'Start', '(a{sv})', {}), (domain, f'{NAME}.Domain', 'GetXML', '(a{sv})', {}),
                 (domain, f'{NAME}.Domain', 'Nonsense', '()')]
        for call in calls:
            with self.subTest(call[2]):
                self.assertEqual(bob.send(*call).error()[0], DENIED)
        bob.call(MANAGER, 'org.freedesktop.DBus.Peer', 'Ping')
        self.assertEqual(self.vireod.snapshot()[1:], before)

    def test_owner(self):
        owner = self.caller(VIREO)
        domain = next(p for p, v in self.objects('Domain').items() if v['Persistent'] and not v['Active'])
        owner.domain(domain, 'Start').get()
        self.assertTrue(owner.get(domain, 'Domain', 'Active').get())
        self.assertTrue(owner.manager('GetSnapshot', '(a{sv})', {}).get()[2])
        self.assertNotIn('polkit', owner.get(MANAGER, 'Manager', 'Features').get())


class System(PolicyCase):
    def test_it_says_so(self):
        self.assertIn('polkit', self.vireod.get(MANAGER, 'Manager', 'Features'))
        # the service's own user needs no asking here, either
        self.polkit.write('polkit.addRule(function(action, subject) { return "no"; });')
        owner = self.caller(VIREO)
        domain = sorted(self.objects('Domain'))[0]
        self.assertIn('<domain', owner.domain(domain, 'GetXML').get()[1])


if __name__ == '__main__':
    main()
