#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit: how exposed systemd finds it, and that what it forbids is not needed."""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'live'))

from kit.bus import Bus  # noqa: E402
from kit.scope import Scope  # noqa: E402
from kit.vireod import Vireod, executable  # noqa: E402

TEMPLATE = ROOT / 'data/vireod.system.service.in'
FILTER = pathlib.Path(__file__).with_name('under_filter.py')
EXPOSURE_MAX = 1.5


def run(*argv, **options):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)


class Service(unittest.TestCase):
    def setUp(self):
        if not shutil.which('systemd-analyze'):
            self.skipTest('systemd-analyze is not installed')
        self.scope = self.enterContext(Scope())
        self.unit = self.scope.directory() / 'vireod.service'
        self.unit.write_text(TEMPLATE.read_text().replace('@vireod@', str(executable())))

    def analyze(self, unit):
        return run('systemd-analyze', 'security', '--offline=true', '--no-pager', f'--threshold={int(EXPOSURE_MAX * 10)}', unit)

    def test_exposure(self):
        done = self.analyze(self.unit)
        self.assertEqual(done.returncode, 0, done.stdout)
        # and it would be noticed
        worse = self.unit.with_name('worse.service')
        worse.write_text(''.join(line for line in self.unit.read_text().splitlines(True) if 'SystemCallFilter' not in line))
        self.assertNotEqual(self.analyze(worse).returncode, 0)

    def test_verify(self):
        done = run('systemd-analyze', 'verify', '--man=no', self.unit)
        self.assertEqual([line for line in done.stdout.splitlines() if 'vireod.service' in line], [], done.stdout)

    def filtered(self):
        probe = run('/usr/bin/python3', '-c', 'import seccomp')
        if probe.returncode != 0:
            self.skipTest('python3-seccomp is not installed')
        return ['/usr/bin/python3', '-B', FILTER, self.unit]

    def test_the_filter_bites(self):
        done = run(*self.filtered(), 'chroot', '/', 'true')
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('not permitted', done.stdout)

    def test_vireod_under_the_filter(self):
        prefix = self.filtered()
        bus = Bus(self.scope)
        # both drivers that need nothing installed; libvirt's with its threads and event loop
        # a leak check stops the process by ptrace when it ends, which the filter rightly forbids; other tests look for leaks
        options = ':'.join(filter(None, [os.environ.get('ASAN_OPTIONS'), 'detect_leaks=0']))
        vireod = Vireod(self.scope, bus, 'a=test:///default', 'b=sim:///20', start=False,
                        environment={'ASAN_OPTIONS': options})
        vireod._argv = [*prefix, *vireod._argv]  # pylint: disable=protected-access
        vireod.start()
        for label in 'ab':
            vireod.wait_connected(path=f'/org/vireo1/connection/{label}')
        path = vireod.lookup('test')
        for method in ('Suspend', 'Resume', 'Destroy', 'Start'):
            vireod.call(path, 'org.vireo1.Domain', method, '(a{sv})', {})
        self.assertTrue(vireod.get(path, 'Domain', 'Active'))
        vireod.sync()
        self.assertEqual(vireod.stop(), 0, vireod.log())
        # its history could be written
        self.assertTrue(list(vireod.state.iterdir()))
        self.assertNotIn('error', vireod.log())

    def test_ssh_under_the_filter(self):
        if not shutil.which('ssh'):
            self.skipTest('ssh is not installed')
        done = run(*self.filtered(), 'ssh', '-F', 'none', '-o', 'BatchMode=yes', 'nobody.invalid', 'true', timeout=60,
                   env=dict(os.environ, LC_ALL='C'))
        # it got as far as looking for the host
        self.assertIn('resolve', done.stdout)

    def test_ssh_of_libvirt_under_the_filter(self):
        """Which drops all capabilities first, whether there are any or not."""
        if not shutil.which('ssh') or not shutil.which('virsh'):
            self.skipTest('ssh or virsh is not installed')
        done = run(*self.filtered(), 'virsh', '-c', 'qemu+ssh://nobody.invalid/system', 'list', timeout=60,
                   env=dict(os.environ, LC_ALL='C'))
        self.assertIn('resolve', done.stdout)


if __name__ == '__main__':
    unittest.main(verbosity=2)
