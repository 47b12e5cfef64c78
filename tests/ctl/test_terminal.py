#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vireoctl on a terminal: colours, pager, and the completion of real shells."""

import os
import pathlib
import shutil
import unittest

import support


class Colours(support.House):
    def test_only_on_a_terminal(self):
        self.assertNotIn('\x1b', self.ctl('list').out)
        terminal = support.Terminal(self, '--no-pager', 'list')
        terminal.rest()
        self.assertIn('\x1b[32mrunning', terminal.seen)
        terminal = support.Terminal(self, '--no-pager', 'list', NO_COLOR='1')
        terminal.rest()
        self.assertNotIn('\x1b', terminal.seen)
        self.assertIn('running', terminal.seen)
        # as with systemd's tools it decides alone
        self.assertIn('\x1b[32mrunning', self.ctl('list', SYSTEMD_COLORS='1', NO_COLOR='1').out)
        terminal = support.Terminal(self, '--no-pager', 'list', SYSTEMD_COLORS='0')
        terminal.rest()
        self.assertNotIn('\x1b', terminal.seen)

    def test_json_has_none(self):
        terminal = support.Terminal(self, '--no-pager', 'status', '-j')
        terminal.rest()
        self.assertNotIn('\x1b', terminal.seen)

    def test_as_wide_as_the_terminal(self):
        terminal = support.Terminal(self, '--no-pager', 'list', columns=60, NO_COLOR='1')
        terminal.rest()
        self.assertNotIn('AUTOSTART', terminal.seen)
        for line in terminal.seen.splitlines():
            self.assertLessEqual(len(line), 60)

    def test_timeline(self):
        terminal = support.Terminal(self, '--no-pager', 'timeline')
        self.assertEqual(terminal.rest(), 0)
        self.assertIn('\x1b[32m▅', terminal.seen)


class Pager(support.House):
    def test_it_is_used(self):
        directory = self.scope.directory()
        mark = directory / 'seen'
        terminal = support.Terminal(self, 'list', SYSTEMD_PAGER=f'cat >{mark}; echo "$LESS" >>{mark}')
        self.assertEqual(terminal.rest(), 0)
        self.assertEqual(terminal.seen, '')
        text = mark.read_text()
        self.assertIn('old desktop', text)
        # colours are for the pager as well
        self.assertIn('\x1b[32m', text)
        self.assertTrue(text.endswith('FRSXMK\n'))

    def test_it_is_not_wanted(self):
        for arguments, env in ((['--no-pager', 'list'], {'SYSTEMD_PAGER': 'false'}), (['list'], {'SYSTEMD_PAGER': ''}),
                               (['list'], {'PAGER': 'cat'}), (['list', '-j'], {'SYSTEMD_PAGER': 'false'})):
            terminal = support.Terminal(self, *arguments, **env)
            self.assertEqual(terminal.rest(), 0)
            self.assertIn('web', terminal.seen, (arguments, env))

    def test_it_leaves_early(self):
        terminal = support.Terminal(self, 'list', SYSTEMD_PAGER='true')
        self.assertEqual(terminal.rest(), 0)

    def test_not_with_the_rights_of_others(self):
        """Under sudo, a pager that can start a shell would be a shell for root."""
        terminal = support.Terminal(self, 'list', SYSTEMD_PAGER='touch /tmp/vireo-never', SUDO_UID='1000', rows=100)
        self.assertEqual(terminal.rest(), 0)
        self.assertIn('old desktop', terminal.seen)
        self.assertFalse(os.path.exists('/tmp/vireo-never'))


@unittest.skipUnless(os.geteuid() == 0 and shutil.which('setpriv'), 'needs to become another user')
class Agent(unittest.TestCase):
    """Somebody who is not root and has no desktop is asked for a password on the terminal: by polkit's own agent."""

    environment = support.House.environment

    def test_it_is_there_for_the_call(self):
        scope = support.Scope()
        self.enterContext(scope)
        # it can be looked at by others
        scope.directory().chmod(0o755)
        self.bus = support.Bus(scope, kind='system', include=support.ROOT / 'policy' / 'org.vireo1.conf')
        mark = scope.directory('marks')
        mark.chmod(0o777)
        agent = scope.directory('bin') / 'pkttyagent'
        agent.write_text(f"""#!/bin/sh
echo "$@" >{mark}/arguments
child=
trap 'echo ended >{mark}/end; kill $child; exit' TERM
eval "exec $2>&-"
sleep infinity &
child=$!
wait
""")
        agent.chmod(0o755)
        path = f'{agent.parent}:{os.environ["PATH"]}'
        for binary in (support.VIREOCTL,):
            copy = scope.directory('bin') / 'vireoctl'
            shutil.copy(binary, copy)
        env = {'PATH': path, 'DBUS_SYSTEM_BUS_ADDRESS': self.bus.address}

        def run(*arguments):
            terminal = support.Terminal(self, argv=['setpriv', '--reuid=65534', '--clear-groups', str(copy), *arguments], **env)
            status = terminal.rest()
            return status, terminal.seen

        # looking asks nobody
        run('--system', 'close', 'x')
        self.assertFalse((mark / 'arguments').exists())
        status, seen = run('--system', 'open', 'test:///default')
        self.assertIn(status, (support.NO_BROKER, support.DENIED), seen)
        self.assertRegex((mark / 'arguments').read_text(), r'^--notify-fd \d+ --fallback$')
        # it is gone before we are
        self.assertTrue((mark / 'end').exists())


class Completion(support.House):
    CONNECT = ('test=test:///default',)

    def complete(self, *words):
        return [line.split('\t')[0] for line in self.ctl('_complete', *words, bus=False, VIREO_BUS=self.bus.address).lines]

    def test_words(self):
        self.assertIn('timeline', self.complete(''))
        self.assertNotIn('_complete', self.complete('_'))
        self.assertEqual(self.complete('susp'), ['suspend'])
        self.assertIn('refresh', self.complete('pool', ''))
        self.assertIn('web', self.complete('start', ''))
        self.assertEqual(self.complete('start', 'web', 'ol'), ['old desktop'])
        self.assertEqual(self.complete('show', 'house/w'), ['house/web'])
        self.assertEqual(self.complete('vol', 'delete', 'images', 'w'), ['web.qcow2'])
        self.assertEqual(self.complete('resync', ''), ['house', 'test'])
        self.assertEqual(self.complete('--connection=test', 'start', ''), ['test'])
        self.assertEqual(self.complete('--connection', 'test', 'start', ''), ['test'])
        self.assertEqual(self.complete('define', ''), ['@files'])
        self.assertEqual(self.complete('save', 'web', ''), ['@files'])
        self.assertEqual(self.complete('xml', 'web', ''), [])
        # what could not be typed is not offered
        self.assertFalse([w for w in self.complete('start', '') if 'evil' in w])

    def test_options(self):
        self.assertEqual(self.complete('list', '--ac'), ['--active'])
        self.assertIn('--json=', self.complete('--'))
        self.assertIn('--bypass-cache', self.complete('save', '--'))
        self.assertIn('--if-version=', self.complete('save', '--'))
        self.assertEqual(self.complete('list', '--json='), ['--json=short', '--json=pretty', '--json=off'])
        self.assertEqual(self.complete('list', '--state', 'pau'), ['paused'])
        self.assertEqual(self.complete('watch', '--kind=domain,jo'), ['--kind=domain,job'])
        self.assertEqual(self.complete('vol', 'clone', '--from-pool', 'i'), ['images'])

    def test_silent_without_a_broker(self):
        result = self.ctl('_complete', 'start', '', bus=False, VIREO_BUS='unix:path=/nonexistent')
        self.assertEqual((result.out, result.err), ('', ''))

    # ---- in the shells themselves

    def shell(self, argv, setup, ready):
        path = f'{pathlib.Path(support.VIREOCTL).parent}:{os.environ["PATH"]}'
        shell = support.Terminal(self, argv=argv, PATH=path, VIREO_BUS=self.bus.address, HOME=str(self.scope.directory()),
                                 HISTFILE='/dev/null')
        shell.type(setup)
        shell.until(ready)
        return shell

    def test_bash(self):
        script = support.ROOT / 'data' / 'completions' / 'vireoctl.bash'
        shell = self.shell(['bash', '--norc', '--noprofile', '-i'],
                           f'bind "set enable-bracketed-paste off"; PS1="> "; source {script}; echo re"ady"\n', 'ready\r\n')
        shell.until('> ')
        for typed, expected in (
                ('vireoctl susp', 'suspend '), ('vireoctl suspend ol', 'old\\ desktop '),
                ('vireoctl show "old', '"old desktop" '), ('vireoctl list --jso', '--json='),
                ('vireoctl list --json=pr', '--json=pretty '), ('vireoctl pool refr', 'refresh '),
                ('vireoctl show house/we', 'house/web '), ('vireoctl list --state=paus', '--state=paused '),
                ('vireoctl define /etc/hostn', '/etc/hostname '), ('vireoctl suspend old\\ d', 'old\\ desktop ')):
            shell.type(typed + '\t')
            shell.until(expected)
            # take the line away again
            shell.type('\x15echo cl"ear"\n')
            shell.until('clear\r\n')
        # nothing that stands in the line is ever run
        mark = self.scope.directory() / 'run'
        for word in (f'$(touch {mark})', f'`touch {mark}`', f'"$(touch {mark})"', f'$(touch {mark}'):
            shell.type(f'vireoctl start {word} we\t\x15echo cl"ear"\n')
            shell.until('clear\r\n')
            shell.type(f'vireoctl start {word}\t\x15echo cl"ear"\n')
            shell.until('clear\r\n')
        shell.type('exit\n')
        shell.rest()
        self.assertFalse(mark.exists())

    @unittest.skipUnless(shutil.which('zsh'), 'zsh is not installed')
    def test_zsh(self):
        directory = support.ROOT / 'data' / 'completions'
        shell = self.shell(['zsh', '-f', '-i'],
                           f'PS1="> "; fpath=({directory} $fpath); autoload -U compinit; compinit -u -D; echo re"ady"\n',
                           'ready\r\n')
        for typed, expected in (('vireoctl susp', 'suspend'), ('vireoctl suspend ol', 'old\\ desktop'),
                                ('vireoctl list --jso', '--json='), ('vireoctl pool refr', 'refresh'),
                                ('vireoctl define /etc/hostn', '/etc/hostname')):
            shell.type(typed + '\t')
            shell.until(expected)
            shell.type('\x15\x0becho cl"ear"\n')
            shell.until('clear\r\n')

    @unittest.skipUnless(shutil.which('fish'), 'fish is not installed')
    def test_fish(self):
        import subprocess
        script = support.ROOT / 'data' / 'completions' / 'vireoctl.fish'
        env = self.environment(PATH=f'{pathlib.Path(support.VIREOCTL).parent}:{os.environ["PATH"]}',
                               VIREO_BUS=self.bus.address, HOME=str(self.scope.directory()))
        for typed, expected in (('vireoctl susp', 'suspend\tPause domains'), ('vireoctl suspend ol', 'old desktop\tdomain, paused'),
                                ('vireoctl list --json=p', '--json=pretty'), ('vireoctl define /etc/hostn', '/etc/hostname')):
            done = subprocess.run(['fish', '--no-config', '-c', f'source {script}; complete -C "{typed}"'], env=env,
                                  stdout=subprocess.PIPE, text=True, check=True, timeout=60)
            self.assertIn(expected, [line.rstrip('\t') for line in done.stdout.splitlines()], typed)


if __name__ == '__main__':
    support.main()
