#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The broker killed without a word a hundred times, at random moments of a storm: no version is used twice, the epoch is
kept, history is never behind what was seen, and the state converges.

    vireod_kill.py [SEED]
"""

import random
import sys
import uuid as uuids

from gi.repository import Gio, GLib

from kit import program
from kit.loop import settle, wait_for
from kit.recorder import NAME

KILLS = 100
DOMAIN = "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>8192</memory><os><type>hvm</type></os></domain>"


class Storm:
    """Calls that change things, many at a time, without waiting for their answers."""

    def __init__(self, vireod, seed):
        self.vireod = vireod
        self.waiting = 0
        self.random = random.Random(seed)
        self.uuids = [str(uuids.UUID(int=0x4000_8000_0000_0000_0000 + i)) for i in range(8)]

    def blow(self, count):
        connection = f'/org/vireo1/connection/{self.label}'
        for _ in range(count):
            uuid = self.random.choice(self.uuids)
            path = f'{connection}/domain/_' + uuid.replace('-', '_')
            options = GLib.Variant('(a{sv})', ({},))
            action = self.random.choice(['define', 'define', 'create', 'Start', 'Start', 'Destroy', 'Suspend', 'Resume',
                                         'Undefine'])
            if action in ('define', 'create'):
                xml = DOMAIN.format(name=f'd-{uuid[-2:]}', uuid=uuid)
                self._send(connection, 'Connection', 'DefineDomain' if action == 'define' else 'CreateDomain',
                           GLib.Variant('(sa{sv})', (xml, {})))
            else:
                self._send(path, 'Domain', action, options)

    def _send(self, path, interface, method, arguments):
        self.waiting += 1
        self.vireod.connection.call(NAME, path, f'{NAME}.{interface}', method, arguments, None,
                                    Gio.DBusCallFlags.NO_AUTO_START, 20000, None, self._answered)

    def _answered(self, connection, result):
        self.waiting -= 1
        try:
            connection.call_finish(result)
        except GLib.Error:
            pass  # refused, or the broker is dead: a storm does not mind

    @property
    def label(self):
        return 'test_default'


def main(test):
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(10**6)
    print(f'seed {seed}')
    vireod = test.vireod('test:///default')
    vireod.wait_connected()
    recorder = vireod.recorder
    epoch = vireod.get('/org/vireo1', 'Manager', 'Epoch')
    storm = Storm(vireod, seed)
    moment = random.Random(seed + 1)
    for kill in range(KILLS):
        at = len(recorder.events) + moment.randrange(0, 40)
        storm.blow(60)
        wait_for(lambda: len(recorder.events) >= at or not storm.waiting, 30, f'a storm before kill {kill}')
        vireod.kill()
        # everything that it had sent is here: its name went behind it
        seen = recorder.events[-1].version if recorder.events else 0
        vireod.start()
        test.equal(vireod.get('/org/vireo1', 'Manager', 'Epoch'), epoch, f'the epoch after kill {kill}')
        version = vireod.get('/org/vireo1', 'Manager', 'Version')
        test.check(version >= seen, f'after kill {kill} the version is {version}, but {seen} had been seen')
        if test.failures:
            break
    vireod.wait_connected()
    vireod.sync()
    with test.case('no version twice'):
        versions = [e.version for e in recorder.events]
        test.equal(versions, sorted(set(versions)), f'the versions of {len(versions)} events')
        print(f'{len(versions)} events, up to version {versions[-1]}, {KILLS} kills')
    with test.case('the state converges'):
        # test:///default begins anew with its process: one domain, one pool, one network
        settle(0.3, changed=lambda: len(recorder.events))
        kinds = sorted((kind, p['Name'], p['Active'], p['Persistent'])
                       for kind, p in vireod.snapshot()[2].values() if kind not in ('Connection', 'Job'))
        test.equal(kinds, [('Domain', 'test', True, True), ('Network', 'default', True, True),
                           ('StoragePool', 'default-pool', True, True)], 'what is there')
    # what a kill left unsaid is in history, and so is all that was said
    test.judge(vireod, f'the story of {KILLS + 1} lives')


if __name__ == '__main__':
    program.run(main)
