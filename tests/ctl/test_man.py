#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The man pages: well-formed, and complete, against what the programs and the interface files themselves say."""

import os
import pathlib
import re
import shutil
import subprocess
import unittest
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = pathlib.Path(os.environ.get('VIREO_MAN', ROOT / 'build' / 'doc' / 'man'))
VIREOCTL = os.environ.get('VIREOCTL', str(ROOT / 'build' / 'ctl' / 'vireoctl'))
VIREOD = os.environ.get('VIREOD', str(ROOT / 'build' / 'vireod'))
NAMES = ('vireoctl.1', 'vireod.8', 'vireo.conf.5', 'org.vireo1.5')


def run(*argv, **env):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
                          env={**os.environ, 'LC_ALL': 'C.UTF-8', **env})


def source(name):
    return (PAGES / name).read_text()


class Form(unittest.TestCase):
    @unittest.skipUnless(shutil.which('mandoc'), 'mandoc is not installed')
    def test_mandoc_finds_nothing(self):
        for name in NAMES:
            self.assertEqual(run('mandoc', '-Tlint', '-Wwarning', str(PAGES / name)).stdout, '')

    @unittest.skipUnless(shutil.which('man'), 'man is not installed')
    def test_man_finds_nothing(self):
        for name in NAMES:
            done = subprocess.run(['man', '--warnings', '-l', str(PAGES / name)], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, check=False,
                                  env={**os.environ, 'LC_ALL': 'C.UTF-8', 'MANWIDTH': '80'})
            self.assertEqual((done.returncode, done.stderr), (0, ''), name)
            self.assertIn('DESCRIPTION', done.stdout)

    def test_nothing_was_left_to_be_filled_in(self):
        for name in NAMES:
            self.assertNotRegex(source(name), r'@[a-zA-Z]+@')


class Vireoctl(unittest.TestCase):
    def setUp(self):
        self.page = source('vireoctl.1')
        self.help = run(VIREOCTL, '--no-pager', '--help').stdout

    def test_verbs_and_their_options(self):
        verbs = re.findall(r'(?m)^  ((?:pool |vol |net )?[a-z][a-z-]*)', self.help)
        self.assertGreater(len(verbs), 60)
        for verb in verbs:
            words = verb.split()
            item = '.It Cm ' + ' Cm '.join(words)
            found = re.search(rf'(?ms)^{re.escape(item)}( Ar.*?| Op.*?)?\n(.*?)(?=^\.It Cm|^\.Ss|^\.Sh)', self.page)
            self.assertTrue(found, f'{verb} is not in vireoctl(1)')
            own = run(VIREOCTL, *words, '--help').stdout.partition('\nOptions:\n')[2].partition('\nOptions of')[0]
            text = self.page[found.start():]
            # another form of the same verb stands above its text
            text = re.split(rf'(?m)^\.It Cm (?!{re.escape(" Cm ".join(words))}\b)|^\.S[sh]', text)[0]
            for option in re.findall(r'(?m)^  --([a-z0-9-]+)', own):
                self.assertRegex(text, rf'(?m)^\.It Fl -{option}( |$)', f'{verb} --{option} is not in vireoctl(1)')
            for option in re.findall(r'(?m)^\.It Fl -([a-z0-9-]+)', text):
                self.assertRegex(own, rf'(?m)^  --{option}\b', f'vireoctl(1) has {verb} --{option}')

    def test_global_options(self):
        for option in re.findall(r'(?m)^  --([a-z0-9-]+)', self.help.partition('\nOptions:')[2]):
            self.assertRegex(self.page, rf'(?m)^\.It Fl -{option}\b')

    def test_exit_status(self):
        header = (ROOT / 'ctl' / 'ctl.h').read_text()
        values = re.findall(r'EXIT_[A-Z_]+ = (\d+)', header)
        self.assertEqual(re.findall(r'(?m)^\.It (\d+)$', self.page), values)


class Vireod(unittest.TestCase):
    def test_options(self):
        page = source('vireod.8')
        for option in re.findall(r'--([a-z0-9-]+)', run(VIREOD, '--help').stdout.partition('\n\n')[2].partition('\n\n')[0]):
            self.assertRegex(page, rf'(?m)^\.It .*Fl -{option}\b')

    def test_configuration(self):
        page = source('vireo.conf.5')
        code = (ROOT / 'broker' / 'config.c').read_text()
        # compared one by one, or rows of a table
        keys = set(re.findall(r'strcmp\(name, "(\w+)"\)|\{"(\w+)", &c->|\[KIND_\w+\] = "(\w+)"', code))
        keys = {key for found in keys for key in found if key}
        self.assertGreater(len(keys), 6)
        self.assertEqual(set(re.findall(r'(?m)^\.It Sy (\w+) Ns =', page)), keys)

    @unittest.skipUnless(os.path.exists(VIREOD), 'vireod is not built')
    def test_the_example_is_understood(self):
        import tempfile
        example = re.search(r'(?ms)^\.Bd -literal\n(.*?)^\.Ed', source('vireo.conf.5'))[1]
        with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
            file.write(example)
            file.flush()
            # it gets as far as the bus
            said = run(VIREOD, '--address=unix:path=/nonexistent', f'--config={file.name}',
                       f'--state-directory={tempfile.gettempdir()}/vireo-man-{os.getpid()}').stdout
            shutil.rmtree(f'{tempfile.gettempdir()}/vireo-man-{os.getpid()}', ignore_errors=True)
            self.assertIn('cannot connect to the bus', said)
            file.write('Nonsense=1\n')
            file.flush()
            self.assertIn('Nonsense', run(VIREOD, '--address=unix:path=/nonexistent', f'--config={file.name}').stdout)


class Interface(unittest.TestCase):
    def test_everything_is_there(self):
        page = source('org.vireo1.5')
        for path in sorted((ROOT / 'introspection').glob('org.vireo1.*.xml')):
            interface = ElementTree.parse(path).getroot().find('interface')
            part = page.partition(f'.Sh {interface.get("name").upper()}\n')[2].partition('\n.Sh ')[0]
            for tag, macro in (('property', 'Va'), ('method', 'Fn'), ('signal', 'Sy')):
                for element in interface.findall(tag):
                    self.assertRegex(part, rf'(?m)^\.It {macro} {element.get("name")}( |$)', path.name)
            options = set(re.findall(r'(?m)^ *Option ([a-z0-9-]+) \(', path.read_text()))
            self.assertEqual(options - set(re.findall(r'(?m)^\.It Sy ([a-z0-9-]+) Pq', part)), set())


if __name__ == '__main__':
    unittest.main(verbosity=2)
