#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vireoctl: the verbs that change something, and jobs."""

import signal

import support
from support import (AMBIGUOUS, CANCELLED, DISCONNECTED, FAILED, LEFT_RUNNING, NOT_FOUND, NOT_SUPPORTED, STATE, USAGE,
                     UUID)

XML = '''<domain type="test"><name>{name}</name><uuid>{uuid}</uuid><memory unit="KiB">8192</memory>
<os><type>hvm</type></os></domain>'''


class Domains(support.House):
    CONNECT = ('test=test:///default',)

    def test_life(self):
        self.assertEqual(self.ctl('start', 'build').out, 'build: started\n')
        self.assertEqual(self.state('build'), 'running')
        self.assertEqual(self.ctl('suspend', 'build').out, 'build: suspended\n')
        self.assertEqual(self.state('build'), 'paused')
        self.assertEqual(self.ctl('resume', 'house/build', '--quiet').out, '')
        self.assertEqual(self.ctl('reboot', 'build').out, 'build: reboot requested\n')
        self.ctl('reset', 'build')
        self.ctl('shutdown', 'build', '--wait')
        self.assertEqual(self.state('build'), 'shutoff')
        self.ctl('start', 'build', '--paused')
        self.assertEqual(self.state('build'), 'paused')
        self.ctl('destroy', 'build', '--graceful')
        self.assertEqual(self.state('build'), 'shutoff')

    def test_refusals(self):
        err = self.ctl('start', 'web', status=STATE).err
        self.assertIn('cannot start “web”', err)
        self.ctl('resume', 'web', status=STATE)
        self.ctl('start', 'nosuch', status=NOT_FOUND)
        self.ctl('save', 'build', '/tmp/x', status=STATE)
        self.ctl('net', 'start', 'default', status=AMBIGUOUS)

    def test_memory_comes_in_kib(self):
        self.ctl('setmem', 'web', '1GB')
        self.assertEqual(self.ctl('show', 'web', '-j').json_lines[0]['Memory'], 1000000512)
        self.assertIn('multiple of 1024', self.ctl('setmem', 'web', '1000000000', status=2).err)
        self.ctl('setmem', 'web', '2G')

    def test_several(self):
        self.assertEqual(self.ctl('suspend', 'web', 'db').lines, ['web: suspended', 'db: suspended'])
        # one that fails stops no other, and its status is the tool's
        result = self.ctl('resume', 'web', 'nosuch', 'db', status=NOT_FOUND)
        self.assertEqual(result.lines, ['web: resumed', 'db: resumed'])

    def test_only_at_a_version(self):
        version = self.vireod.get(self.vireod.lookup('web'), 'Domain', 'Version')
        self.ctl('suspend', 'web', f'--if-version={version - 1}', status=STATE)
        self.ctl('suspend', 'web', f'--if-version={version}')
        self.ctl('resume', 'web')

    def test_without_waiting(self):
        out = self.ctl('suspend', 'web', '--async').out
        self.assertRegex(out, r'^\d+\n$')
        self.ctl('wait', out.strip())
        self.assertEqual(self.state('web'), 'paused')
        self.assertEqual(self.ctl('resume', 'web', '--no-wait').out, '')
        self.ctl('sync')

    def test_json(self):
        answer = self.ctl('suspend', 'web', '-j').json
        self.assertEqual(answer['object'], self.vireod.lookup('web'))
        self.assertEqual(answer['State'], 'completed')
        # at which the effect is visible
        self.assertGreaterEqual(answer['Version'], self.vireod.get(answer['object'], 'Domain', 'Version'))
        answer = self.ctl('resume', 'web', '--async', '-j').json
        self.assertIn('/job/_', answer['job'])
        self.ctl('sync')

    def test_define(self):
        xml = XML.format(name='new &lt;one>', uuid=UUID + '71')
        self.assertEqual(self.ctl('define', '-', '--connection=test', stdin=xml).out, 'new <one>: defined\n')
        self.assertEqual(self.ctl('show', 'new <one>', '-p', 'Persistent', '--value').out, 'yes\n')
        err = self.ctl('define', '-', stdin=xml, status=AMBIGUOUS).err
        self.assertIn('--connection', err)
        self.assertEqual(self.ctl('rename', 'new <one>', 'newer').out, 'new <one>: renamed\n')
        self.assertEqual(self.ctl('undefine', 'newer').out, 'newer: undefined\n')
        self.ctl('show', 'newer', status=NOT_FOUND)
        err = self.ctl('define', '-', '--connection=test', stdin='<domain>', status=USAGE).err
        self.assertRegex(err, r'line \d+')
        self.assertIn('empty', self.ctl('define', '-', '--connection=test', stdin='', status=USAGE).err)
        path = self.scope.directory() / 'binary'
        path.write_bytes(b'a\0b')
        self.assertIn('text', self.ctl('define', str(path), '--connection=test', status=USAGE).err)

    def test_create(self):
        xml = XML.format(name='passing', uuid=UUID + '72')
        out = self.ctl('create', '-', '--connection=test', stdin=xml).out
        self.assertEqual(out, 'passing: created\n')
        self.assertEqual(self.state('passing'), 'running')
        self.ctl('destroy', 'passing')
        self.ctl('sync')
        self.ctl('show', 'passing', status=NOT_FOUND)

    def test_autostart(self):
        self.assertEqual(self.ctl('autostart', 'build').out, 'build: autostart set\n')
        self.ctl('sync')
        self.assertEqual(self.ctl('show', 'build', '-p', 'Autostart', '--value').out, 'yes\n')
        self.assertEqual(self.ctl('autostart', 'build', '--disable').out, 'build: autostart unset\n')
        self.ctl('sync')
        self.assertEqual(self.ctl('show', 'build', '-p', 'Autostart', '--value').out, 'no\n')

    def test_pools_and_networks(self):
        self.assertEqual(self.ctl('pool', 'start', 'backup').out, 'backup: started\n')
        self.assertEqual(self.ctl('pool', 'refresh', 'backup').out, 'backup: refreshed\n')
        self.assertEqual(self.ctl('pool', 'stop', 'backup').out, 'backup: stopped\n')
        self.assertIn('storage pool “backup”', self.ctl('pool', 'stop', 'backup', status=STATE).err)
        self.assertEqual(self.ctl('net', 'stop', 'house/default').out, 'house/default: stopped\n')
        self.assertEqual(self.ctl('net', 'start', 'house/default').out, 'house/default: started\n')
        xml = '<network><name>more</name><bridge name="virbr9"/></network>'
        self.assertEqual(self.ctl('net', 'define', '-', '--connection=test', stdin=xml).out, 'more: defined\n')
        self.assertEqual(self.ctl('net', 'undefine', 'more').out, 'more: undefined\n')

    def test_what_the_hypervisor_cannot(self):
        supported = self.vireod.get('/org/vireo1/connection/test', 'Connection', 'SupportedOperations')
        self.assertNotIn('Domain.Migrate', supported)
        self.ctl('migrate', 'test', 'test:///default', status=NOT_SUPPORTED)


class Jobs(support.House):
    OPERATIONS = {
        'Domain.Start': {'duration': 60000, 'total': 1 << 30, 'progress': 20},
        'Domain.Reboot': {'error': 'OperationFailed', 'message': 'the guest said no'},
        'Domain.Suspend': {'duration': 1500},
        'Domain.Reset': {'duration': 60000, 'cancellable': False},
    }

    def begin(self):
        return self.ctl('start', 'slow', '--async').out.strip()

    def end(self, number):
        self.ctl('cancel', number, '--wait')
        self.ctl('wait', number, status=CANCELLED)

    def test_listed_and_cancelled(self):
        number = self.begin()
        self.assertRegex(self.ctl('jobs').out, rf'(?m)^ *{number} +start +slow +running ')
        self.assertEqual(self.ctl('jobs', '--running', '-j').json[0]['object'], f'/org/vireo1/job/_{number}')
        self.assertEqual(self.ctl('show', number, '-p', 'Operation', '--value').out, 'start\n')
        support.wait_for(lambda: ' start ' in self.ctl('list', 'slow').out, poll=0.05)
        self.assertRegex(self.ctl('list', 'slow').out, r'(?m)^slow .* start \d+%')
        err = self.ctl('start', 'slow', status=STATE).err
        self.assertIn(number, err)
        self.assertIn('vireoctl jobs', err)
        self.assertEqual(self.ctl('cancel', 'slow').out, f'job {number}: cancel requested\n')
        self.ctl('wait', number, status=CANCELLED)
        self.assertEqual(self.state('slow'), 'shutoff')
        self.ctl('cancel', number, status=STATE)
        self.ctl('cancel', 'slow', status=NOT_FOUND)
        self.assertIn('web', self.ctl('cancel', 'web', status=NOT_FOUND).err)
        self.ctl('cancel', '999999', status=NOT_FOUND)
        self.ctl('complete', number, status=STATE)

    def test_waiting(self):
        number = self.begin()
        waiting = self.started('wait', number)
        self.ctl('cancel', number)
        self.assertEqual(waiting.process.wait(30), CANCELLED)
        waiting = self.started('suspend', 'db')
        self.assertEqual(waiting.line(), 'db: suspended')
        self.assertEqual(waiting.process.wait(30), 0)

    def test_a_failure_says_what_the_hypervisor_said(self):
        err = self.ctl('reboot', 'web', status=FAILED).err
        self.assertIn('cannot reboot “web”', err)
        self.assertIn('the guest said no', err)

    def test_not_cancellable(self):
        number = self.ctl('reset', 'web', '--async').out.strip()
        self.ctl('cancel', number, status=STATE)
        self.assertIn('cancellable', self.ctl('cancel', 'web', status=STATE).err)

    def test_interrupted_without_a_terminal(self):
        waiting = self.started('start', 'slow')
        support.wait_for(lambda: self.ctl('jobs', '--running', '-j').json, poll=0.05)
        waiting.process.send_signal(signal.SIGINT)
        self.assertEqual(waiting.process.wait(30), LEFT_RUNNING)
        number = next(j['object'].rsplit('_', 1)[1] for j in self.ctl('jobs', '--running', '-j').json
                      if j['Operation'] == 'start')
        self.assertIn(f'vireoctl cancel {number}', waiting.process.stderr.read().decode())
        self.end(number)

    # ---- on a terminal

    def test_bar(self):
        terminal = support.Terminal(self, 'start', 'slow')
        seen = terminal.until('GiB', limit=20)
        seen += terminal.until('%')
        self.assertIn('slow: start', seen)
        self.assertRegex(seen, r'MiB of 1 GiB')
        terminal.until('/s')
        self.ctl('cancel', 'slow')
        self.assertEqual(terminal.rest(), CANCELLED)
        self.assertIn('was cancelled', terminal.seen)

    def test_bar_of_what_nobody_can_foresee(self):
        terminal = support.Terminal(self, 'suspend', 'web')
        terminal.until('remaining time unknown')
        self.assertEqual(terminal.rest(), 0)
        self.assertIn('web: suspended', terminal.seen)
        self.ctl('resume', 'web')

    def test_no_bar_for_the_quiet(self):
        terminal = support.Terminal(self, 'suspend', 'web', '--quiet')
        self.assertEqual(terminal.rest(), 0)
        self.assertEqual(terminal.seen, '')
        self.ctl('resume', 'web')

    def test_ctrl_c_cancels(self):
        terminal = support.Terminal(self, 'start', 'slow')
        terminal.until('%', limit=20)
        terminal.type('\x03')
        terminal.until('Cancel it (c)')
        terminal.type('c\n')
        self.assertEqual(terminal.rest(), CANCELLED)
        self.assertEqual(self.state('slow'), 'shutoff')

    def test_ctrl_c_leaves_it_running(self):
        for answer in ('l\n', '\x03'):
            terminal = support.Terminal(self, 'start', 'slow')
            terminal.until('%', limit=20)
            terminal.type('\x03')
            terminal.until('(w)? ')
            terminal.type(answer)
            self.assertEqual(terminal.rest(), LEFT_RUNNING)
            self.assertIn('goes on as job', terminal.seen)
            self.end(next(j['object'].rsplit('_', 1)[1] for j in self.ctl('jobs', '--running', '-j').json
                          if j['Operation'] == 'start'))

    def test_ctrl_c_goes_on(self):
        terminal = support.Terminal(self, 'start', 'slow')
        terminal.until('%', limit=20)
        terminal.type('\x03')
        terminal.until('(w)? ')
        terminal.type('x\n')
        terminal.until('c, l or w? ')
        terminal.type('w\n')
        terminal.until('%')
        self.ctl('cancel', 'slow')
        self.assertEqual(terminal.rest(), CANCELLED)

    def test_it_ends_while_the_question_stands(self):
        terminal = support.Terminal(self, 'start', 'slow')
        terminal.until('%', limit=20)
        terminal.type('\x03')
        terminal.until('(w)? ')
        self.ctl('cancel', 'slow')
        self.assertEqual(terminal.rest(), CANCELLED)


class Private(support.House):
    """Signals go only to those who asked for them: progress is seen all the same."""

    CONFIG = '[broker]\nBroadcast=no\n'
    OPERATIONS = {'Domain.Start': {'duration': 60000, 'total': 1 << 30, 'progress': 20}}

    def test_bar(self):
        self.assertIn('private', self.ctl('status').out)
        terminal = support.Terminal(self, 'start', 'slow')
        terminal.until('/s', limit=20)
        self.ctl('cancel', 'slow')
        self.assertEqual(terminal.rest(), CANCELLED)


class BrokerGoes(support.House):
    OPERATIONS = {'Domain.Start': {'duration': 60000, 'total': 1 << 30, 'progress': 20}}

    def test_a_job_is_asked_for_again(self):
        """The broker is killed in the middle: what it says of the job when it is back is what the user hears."""
        waiting = self.started('start', 'slow')
        support.wait_for(lambda: self.ctl('jobs', '--running', '-j').json, poll=0.05)
        self.vireod.kill()
        self.vireod.start()
        status = waiting.process.wait(60)
        err = waiting.process.stderr.read().decode()
        self.assertIn('the broker is gone', err)
        self.assertEqual(status, DISCONNECTED, err)

    def test_it_does_not_come_back(self):
        waiting = self.started('start', 'slow')
        support.wait_for(lambda: self.ctl('jobs', '--running', '-j').json, poll=0.05)
        self.vireod.stop()
        try:
            self.assertEqual(waiting.process.wait(60), support.NO_BROKER)
        finally:
            self.vireod.start()


if __name__ == '__main__':
    support.main()
