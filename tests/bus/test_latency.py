#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Operations that hang hold nobody else up: P21, P25. (How long answers take meanwhile is what tests/bench/latency.py prints.)"""

import json
import pathlib
import socket
import tempfile

from support import BusCase, Gio, GLib, MANAGER, NAME, main

from kit.loop import PATIENCE, wait_for

HANGING, LASTING = 16, 4
HOUR = 3600000
ASYNC = {'async': GLib.Variant('b', True)}


class Latency(BusCase):
    DIRECTORY = tempfile.TemporaryDirectory(prefix='vireo-')
    CONTROL = pathlib.Path(DIRECTORY.name) / 'control'
    CONNECT = (f'sim:///empty?domains={HANGING + LASTING + 2}&running=1&control={CONTROL}',)

    def do(self, **step):
        """Have the simulated hypervisor do something; return when it is done."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30 * PATIENCE)
            connection.connect(str(self.CONTROL))
            connection.sendall(json.dumps(step).encode() + b'\n')
            answer = json.loads(connection.makefile().readline())
        self.assertTrue(answer.get('ok'), answer)

    def state(self, job):
        return self.vireod.get(job, 'Job', 'State')

    def call(self, path, method, options=None):
        return self.vireod.call(path, f'{NAME}.Domain', method, '(a{sv})', options or {})

    def test_while_operations_hang(self):
        domains = sorted(self.objects('Domain'))
        stuck, lasting = domains[:HANGING], domains[HANGING:-2]
        other, waited = domains[-2:]
        # these hang; what comes behind them does not
        self.do(do='faults', hang=['operation'], **{'hang-time': HOUR})
        jobs = [self.call(path, 'Suspend', ASYNC)[0] for path in stuck]
        # one whose caller waits for it
        waits = self.begin(waited, 'Suspend')
        wait_for(lambda: self.vireod.get(waited, 'Domain', 'Jobs'), 30, 'a job of who waits')
        self.do(do='faults', reset=True)
        # these do something, for as long
        self.do(do='operations', operations={'Domain.ManagedSave': {'duration': HOUR, 'progress': 20, 'total': 1 << 30}})
        saves = [self.call(path, 'ManagedSave', ASYNC)[0] for path in lasting]
        wait_for(lambda: all(self.vireod.get(job, 'Job', 'Cancellable') for job in saves), 30, 'they can be cancelled')

        for path in (MANAGER, stuck[0], jobs[0]):
            self.vireod.call(path, 'org.freedesktop.DBus.Peer', 'Ping')
        self.assertEqual(self.vireod.get(stuck[0], 'Domain', 'State'), 'running')
        self.assertEqual(len(self.objects('Domain')), len(domains))
        self.assertIn('<domain', self.vireod.call(stuck[1], f'{NAME}.Domain', 'GetXML', '(a{sv})', {})[1])
        self.vireod.sync()
        # another domain is nobody's business
        for method, state in (('Destroy', 'shutoff'), ('Start', 'running'), ('Suspend', 'paused')):
            version = self.call(other, method)[1]
            self.assertGreater(version, 0, f'{method} was not done in time')
            self.assertEqual(self.vireod.get(other, 'Domain', 'State'), state, method)
        # the object itself: not before that has ended, except to destroy it
        message = self.refused('Busy', stuck[2], f'{NAME}.Domain', 'SetAutostart', '(ba{sv})', True, {})
        self.assertIn(jobs[2], message)
        # cancelling gets through
        for job in saves:
            self.vireod.call(job, f'{NAME}.Job', 'Cancel', '(a{sv})', {})
        wait_for(lambda: all(self.state(job) == 'cancelled' for job in saves), 30, 'they were cancelled')
        self.assertEqual({self.state(job) for job in jobs}, {'running'})
        self.assertGreater(self.call(lasting[0], 'Suspend')[1], 0)
        self.assertGreater(self.call(stuck[3], 'Destroy')[1], 0)
        # who waits is answered after 20 s, with the job
        wait_for(lambda: 'answer' in waits, 60, 'an answer to who waits')
        job, version = waits['answer']
        self.assertEqual((self.state(job), version), ('running', 0))

    def begin(self, path, method):
        """Call a method without waiting; the dictionary has its answer once there is one."""
        result = {}

        def answered(connection, reply):
            result['answer'] = connection.call_finish(reply).unpack()

        self.vireod.connection.call(NAME, path, f'{NAME}.Domain', method, GLib.Variant('(a{sv})', ({},)), None,
                                    Gio.DBusCallFlags.NONE, int(120000 * PATIENCE), None, answered)
        return result


if __name__ == '__main__':
    main()
