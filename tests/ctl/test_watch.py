#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vireoctl watch: live, and through everything that can happen to a broker and its bus."""

import json
import shutil
import subprocess

import support


class Watch(support.House):
    def watching(self, *arguments):
        """Start watching; return when it is sure to have begun."""
        watch = self.started('watch', f'--since={self.version()}', *arguments)
        return watch

    def test_lines(self):
        watch = self.watching('web')
        self.ctl('suspend', 'web')
        self.assertRegex(watch.until('Suspended')[-1],
                         r'^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  web +Suspended +paused +paused$')
        self.assertRegex(watch.until('completed')[-1], r'web +job suspend +completed  #\d+$')
        self.ctl('suspend', 'db')
        self.ctl('resume', 'web')
        self.assertFalse([line for line in watch.until('Resumed') if ' db ' in line])
        self.ctl('resume', 'db')
        self.assertEqual(watch.end(), -2)

    def test_json(self):
        watch = self.watching('-j', '--kind=domain', '--event=Suspended,Resumed')
        self.ctl('suspend', 'web')
        self.ctl('resume', 'web')
        one, two = json.loads(watch.line()), json.loads(watch.line())
        self.assertEqual((one['event'], one['name'], one['inferred']), ('Suspended', 'web', False))
        self.assertEqual(two['event'], 'Resumed')
        self.assertEqual(two['previous'], one['version'])
        self.assertEqual(two['properties']['State'], 'running')

    def test_so_many(self):
        watch = self.watching('-n', '3', '-j')
        self.ctl('suspend', 'web')
        self.ctl('resume', 'web')
        self.assertEqual(watch.process.wait(30), 0)
        self.assertEqual(len(watch.process.stdout.read().splitlines()), 3)

    def test_something_that_is_not_there_yet(self):
        watch = self.watching('later*', 'typo')
        self.assertIn('no “typo” now', self.err_line(watch))
        self.ctl('rename', 'build', 'later on')
        self.assertIn('later on', watch.line())
        self.ctl('rename', 'later on', 'build')

    @staticmethod
    def err_line(watch):
        return watch.process.stderr.readline().decode()

    def test_a_new_domain_is_told_of(self):
        watch = self.watching('-j', '--kind=domain,connection')
        self.ctl('open', 'sim:///2?seed=9', '--label=two')
        added = [json.loads(line) for line in watch.until('"Synced"')]
        self.assertEqual([e['event'] for e in added if e['kind'] == 'domain'].count('Added'), 2)
        self.ctl('close', 'two')
        self.assertEqual([json.loads(line)['reason'] for line in watch.until('"kind":"connection"')[-1:]], ['closed'])


class Restart(support.House):
    def test_nothing_is_missed_over_a_restart(self):
        """Told before, during and after: the versions are those of history, each once."""
        begin = self.version()
        watch = self.started('watch', f'--since={begin}', '-j')
        self.ctl('suspend', 'web')
        watch.until('"Finished"')
        self.vireod.stop()
        lost = json.loads(watch.until('"notice"')[-1])
        self.assertEqual(lost['notice'], 'lost')
        # it must not be started by the watch itself, nor spin: only its return wakes it
        self.vireod.start()
        lines = watch.until('"back"')
        # the house was built anew: web runs
        self.ctl('suspend', 'web')
        lines += watch.until('"Finished"')
        self.assertNotIn('relisted', ''.join(lines))
        events = [json.loads(line) for line in lines if '"notice"' not in line]
        history = self.ctl('events', f'--since={begin}', '-j').json_lines
        wanted = [e['version'] for e in history if e['version'] > lost['version']]
        self.assertEqual([e['version'] for e in events], wanted[:len(events)])
        self.assertGreater(len(events), 4)
        self.assertEqual(events[-1]['version'], wanted[-1])

    def test_killed(self):
        watch = self.started('watch', f'--since={self.version()}', 'db')
        self.ctl('suspend', 'db')
        self.ctl('resume', 'db')
        watch.until('Resumed')
        self.vireod.kill()
        watch.until('the broker is gone')
        self.vireod.start()
        watch.until('the broker is back')
        self.ctl('suspend', 'db')
        self.assertIn('db', watch.until('Suspended')[-1])
        self.ctl('resume', 'db')

    def test_history_is_lost(self):
        """Another epoch: it says so, lists again, and says what is different."""
        watch = self.started('watch', f'--since={self.version()}')
        machine = self.started('watch', f'--since={self.version()}', '-j')
        self.ctl('suspend', 'db')
        watch.until('completed')
        machine.until('"Finished"')
        self.vireod.stop()
        watch.until('gone')
        machine.until('"lost"')
        shutil.rmtree(self.vireod.state)
        self.vireod.state.mkdir()
        self.vireod.start()
        text = watch.until('listed again')[-1]
        self.assertIn('new epoch', text)
        notice = json.loads(machine.until('"relisted"')[-1])
        self.assertEqual(notice['reason'], 'epoch-changed')
        self.assertEqual(notice['epoch'], self.epoch())
        # the house was built anew as well: there db runs
        self.assertRegex(watch.until('db')[-1], r'db  changed  running')
        self.ctl('suspend', 'web')
        self.assertRegex(watch.until('Suspended')[-1], 'web')
        self.ctl('resume', 'web')

    def test_the_bus_goes(self):
        """Its own bus, as it has to end."""
        with support.Scope() as scope:
            bus = support.Bus(scope)
            scope.spawn([support.executable(), f'--address={bus.address}', '--connect=sim:///3?seed=5',
                         f'--state-directory={scope.directory("state")}'], stderr=subprocess.DEVNULL)
            status = [support.VIREOCTL, f'--address={bus.address}', 'status']
            support.wait_for(lambda: subprocess.run(status, capture_output=True, check=False).returncode == 0, poll=0.1)
            case = type('Case', (), {'scope': scope})
            watch = support.Running(case, [support.VIREOCTL, f'--address={bus.address}', 'watch', '--since=oldest'],
                                    self.environment())
            watch.until('Synced')
            # one at the same address follows it
            bus.process.terminate()
            bus.process.wait()
            watch.until('the broker is gone')
            (bus.directory / 'socket').unlink(missing_ok=True)
            again = scope.spawn(['dbus-daemon', f'--config-file={bus.directory}/bus.conf', '--nofork', '--nosyslog'])
            watch.until('the broker is back', limit=60)
            self.assertIsNone(again.poll())
            self.assertIsNone(watch.process.poll())


if __name__ == '__main__':
    support.main()
