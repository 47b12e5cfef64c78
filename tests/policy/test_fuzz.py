#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Garbage. Ten thousand calls by somebody who may look but not touch: no crash, no effect, nothing left behind; as many by
somebody from whom half of it is hidden: no answer about that half; and as many again by somebody who may do everything, at
which at least nothing crashes. In a build with sanitizers those judge, too: what has leaked when vireod ends fails the test.
"""

import json
import os
import random
import shutil
import subprocess

from support import ALICE, BOB, MANAGER, PolicyCase, main, pathlib

COUNT = int(os.environ.get('VIREO_TEST_FUZZ', '10000'))
SEED = int(os.environ.get('VIREO_TEST_SEED', '0')) or random.randrange(1, 1 << 32)


def rule(who, condition):
    return f'polkit.addRule(function(action, subject) {{ if (subject.user == "{who}") return {condition} ? "yes" : "no"; }});'


class Fuzz(PolicyCase):
    CONNECT = ('one',)
    RULES = rule('bob', 'action.id == "org.vireo1.view"') + rule('alice', 'true')

    def paths(self):
        snapshot = self.vireod.snapshot()[2]
        some = {}
        for path, (kind, _) in snapshot.items():
            some.setdefault((kind, path.split('/')[4]), []).append(path)
        return [MANAGER, *(p for paths in some.values() for p in paths[:2])]

    def fuzz(self, uid, avoid=(), hidden=()):
        script = self.scope.directory('bin') / 'fuzz_caller.py'
        shutil.copy(pathlib.Path(__file__).with_name('fuzz_caller.py'), script)
        script.chmod(0o644)
        print(f'VIREO_TEST_SEED={SEED}', flush=True)
        done = subprocess.run(
            ['setpriv', f'--reuid={uid}', f'--regid={uid}', '--clear-groups', '--', '/usr/bin/python3', '-B', '-I', script,
             self.polkit.address, json.dumps(self.paths()), str(SEED), str(COUNT), ','.join(avoid) or '-', *hidden],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=1500)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        said = json.loads(done.stdout)
        print(json.dumps(dict(sorted(said.items(), key=lambda kv: -kv[1])), indent=1), flush=True)
        self.assertTrue(self.vireod.alive(), self.vireod.log())
        self.assertEqual([e for e in said if e.startswith('local')], [])
        self.assertEqual([e for e in said if e.startswith('leak')], [])
        # everything has a name that a client can do something with
        for error in said:
            self.assertRegex(error, r'^(answered$|org\.vireo1\.Error\.|org\.freedesktop\.DBus\.Error\.)')
        self.assertNotIn('org.freedesktop.DBus.Error.Failed', said)
        self.assertNotIn('org.freedesktop.DBus.Error.NoReply', said)
        return said

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.vireod.process.pid}/fd'))

    def test_without_rights(self):
        before, fds = self.vireod.snapshot()[1:], self.descriptors()
        said = self.fuzz(BOB)
        self.assertGreater(said['org.freedesktop.DBus.Error.AccessDenied'], COUNT // 50)
        self.assertGreater(said['answered'], COUNT // 50)
        # no effect: not even a version
        self.assertEqual(self.vireod.snapshot()[1:], before)
        self.assertLessEqual(self.descriptors(), fds + 2)

    def test_with_all_rights(self):
        # else there would soon be nothing left to call
        self.fuzz(ALICE, avoid=('Undefine', 'Close'))
        self.vireod.sync()
        self.assertTrue(self.vireod.get(MANAGER, 'Manager', 'Epoch'))


class PrivateFuzz(Fuzz):
    """Of two connections bob may view the first; he knows the paths of the other one, too."""
    CONNECT = ('one', 'two')
    CONFIG = '[broker]\nBroadcast=no\n'
    RULES = rule('bob', 'action.id == "org.vireo1.view" && action.lookup("connection") == "one"')
    HIDDEN = '/org/vireo1/connection/two'

    def test_without_rights(self):
        before, fds = self.vireod.snapshot()[1:], self.descriptors()
        self.assertTrue(any(p.startswith(self.HIDDEN + '/domain') for p in self.paths()))
        said = self.fuzz(BOB, hidden=(self.HIDDEN,))
        self.assertGreater(said['org.freedesktop.DBus.Error.UnknownObject'], COUNT // 20)
        self.assertGreater(said['answered'], COUNT // 50)
        self.assertEqual(self.vireod.snapshot()[1:], before)
        self.assertLessEqual(self.descriptors(), fds + 2)

    test_with_all_rights = None


if __name__ == '__main__':
    main()
