#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vireoctl: the verbs that only look."""

import re
import subprocess
import xml.etree.ElementTree as ElementTree

import support
from support import AMBIGUOUS, HISTORY, NO_BROKER, NOT_FOUND, STATE, USAGE, UUID


class List(support.House):
    CONNECT = ('test=test:///default',)

    def test_table(self):
        out = self.ctl('list').lines
        self.assertRegex(out[0], r'^NAME +STATE +REASON +ID +VCPUS +MEMORY +PERSISTENT +AUTOSTART +CONNECTION')
        web = next(line for line in out if line.startswith('web '))
        self.assertRegex(web, r'^web +running +booted +\d+ +2 +2 GiB +yes +yes +house +The web server$')
        self.assertRegex(next(line for line in out if line.startswith('build ')), r'^build +shutoff +- +8 +4 GiB')
        self.assertEqual(out[-1], '10 domains')
        for line in out:
            self.assertEqual(line, line.rstrip())

    def test_columns_stand_below_each_other(self):
        out = self.ctl('list', '--no-legend').lines
        self.assertEqual(len(out), 10)
        widths = {line.index('running') for line in out if 'running' in line and '日本語' not in line}
        self.assertEqual(len(widths), 1)
        # three characters, six columns
        self.assertEqual(next(line.index('running') for line in out if '日本語' in line), widths.pop() - 3)

    def test_nothing_in_a_name_reaches_the_terminal(self):
        for verb in (('list',), ('list', '--names'), ('show', UUID + '07'), ('events',), ('timeline',)):
            out = self.ctl(*verb).out
            self.assertNotIn('\x1b', out, verb)
        self.assertIn('evil\\x1b[31m\\x0aname', self.ctl('list').out)

    def test_filters(self):
        active = self.ctl('list', '--active', '--names').lines
        inactive = self.ctl('list', '--inactive', '--names').lines
        self.assertIn('web', active)
        self.assertIn('build', inactive)
        self.assertFalse(set(active) & set(inactive))
        self.assertEqual(sorted(active + inactive), sorted(self.ctl('list', '--names').lines))
        self.assertEqual(self.ctl('list', '--state=paused', '--names').lines, ['old desktop'])
        self.assertEqual(self.ctl('list', '--names', '[wd]?*b', 'db').lines, ['db', 'web'])
        self.assertEqual(self.ctl('list', '--names', '--connection=test').lines, ['test'])
        self.assertEqual(self.ctl('list', '--names', '--connection=test:///default').lines, ['test'])
        self.ctl('list', 'nosuch', status=NOT_FOUND)
        self.assertEqual(self.ctl('list', 'nosuch*', '--names').out, '')

    def test_json(self):
        objects = self.ctl('list', '--json=short').json
        self.assertEqual(len(objects), 10)
        web = next(o for o in objects if o['Name'] == 'web')
        self.assertEqual(web['kind'], 'domain')
        self.assertEqual(web['object'], self.vireod.lookup('web'))
        self.assertEqual(web['MaxMemory'], 2 << 30)
        self.assertIs(web['Autostart'], True)
        self.assertEqual({k: v for k, v in web.items() if k not in ('kind', 'object')},
                         self.vireod.get_all(web['object'], 'Domain'))
        self.assertEqual(self.ctl('--json=pretty', 'list').json, objects)
        self.assertGreater(len(self.ctl('--json=pretty', 'list').lines), 100)
        self.assertEqual(self.ctl('list', '-j').json, objects)
        self.assertEqual(self.ctl('list', '--json').json, objects)
        names = [o['Name'] for o in objects if 'evil' in o['Name']]
        self.assertEqual(names, ['evil\x1b[31m\nname'])

    def test_is_what_one_gets_without_a_verb(self):
        self.assertEqual(self.ctl().out, self.ctl('list').out)
        self.assertEqual(self.ctl('pool').out, self.ctl('pools').out)

    def test_others(self):
        self.assertRegex(self.ctl('pools').out, r'images +running +dir +500 GiB')
        self.assertRegex(self.ctl('networks').out, r'default +running +nat +virbr0')
        self.assertRegex(self.ctl('connections').out, r'house +connected +sim +sim:/\S+ +house.example +1.0.0 +reported')
        self.assertRegex(self.ctl('volumes', 'images').out, r'web.qcow2 +file +qcow2 +20 GiB +3 GiB')
        self.assertEqual(self.ctl('volumes', 'images', '--names').lines, ['db.raw', 'web.qcow2'])
        self.assertEqual([v['name'] for v in self.ctl('vol', 'list', 'images', '-j').json], ['db.raw', 'web.qcow2'])
        self.assertEqual(self.ctl('connections', '--names').lines, ['house', 'test'])
        self.ctl('volumes', 'backup', status=STATE)
        # names that both hypervisors have are told apart, and are understood so
        self.assertEqual(self.ctl('networks', '--names').lines, ['house/default', 'test/default'])
        self.assertIn('house', self.ctl('net', 'show', 'house/default').out)

    def test_narrow_terminal(self):
        for line in self.ctl('list', COLUMNS='60').lines:
            self.assertLessEqual(support_width(line), 60, line)
        self.assertNotIn('AUTOSTART', self.ctl('list', COLUMNS='60').out)
        self.assertIn('…', self.ctl('list', COLUMNS='40').out)
        self.assertEqual(self.ctl('list', '--full', COLUMNS='60').out, self.ctl('list').out)


class Show(support.House):
    CONNECT = ('test=test:///default',)

    def test_properties(self):
        out = self.ctl('show', 'web').out
        self.assertRegex(out, r'(?m)^ +MaxMemory: 2 GiB$')
        self.assertRegex(out, r'(?m)^ +Autostart: yes$')
        self.assertEqual(len({line.index(':') for line in out.splitlines()}), 1)
        self.assertEqual(self.ctl('show', 'web', '--property=State', '--value').out, 'running\n')
        self.assertEqual(self.ctl('show', 'web', '-p', 'MaxMemory,VCPUs', '--value').lines, [str(2 << 30), '2'])
        self.assertIn('Sate', self.ctl('show', 'web', '--property=Sate', status=NOT_FOUND).err)
        self.assertEqual(self.ctl('show', 'web', '-j').json['Name'], 'web')
        self.assertEqual([o['Name'] for o in self.ctl('show', 'web', 'db', '-j').json], ['web', 'db'])
        self.assertIn('sim', self.ctl('show', 'house').out)

    def test_names(self):
        path = self.vireod.lookup('web')
        for name in ('web', UUID + '01', (UUID + '01').replace('-', ''), (UUID + '01').upper(), 'house/web', path,
                     'house/' + UUID + '01'):
            self.assertEqual(self.ctl('show', name, '-j').json['object'], path, name)
        self.assertEqual(self.ctl('show', 'a/b', '-p', 'Name', '--value').out, 'a/b\n')
        self.assertEqual(self.ctl('show', 'house/a/b', '-p', 'Name', '--value').out, 'a/b\n')
        # a domain, a network here and a network there are called so: a name alone is the domain
        self.assertEqual(self.ctl('show', 'default', '-j').json['kind'], 'domain')

    def test_ambiguity_is_explained(self):
        err = self.ctl('net', 'show', 'default', status=AMBIGUOUS).err
        self.assertIn('house/default', err)
        self.assertIn('test/default', err)
        self.assertIn(UUID + '21', err)
        self.assertEqual(self.ctl('net', 'show', 'default', '--connection=test', '-j').json['Name'], 'default')

    def test_not_found(self):
        self.assertIn('did you mean “build”', self.ctl('start', 'biuld', status=NOT_FOUND).err)
        self.assertNotIn('did you mean', self.ctl('xml', 'quite-another', status=NOT_FOUND).err)
        self.ctl('pool', 'show', 'web', status=NOT_FOUND)
        err = self.ctl('list', '--connection=nosuch', status=NOT_FOUND).err
        self.assertIn('test:///default', err)
        self.ctl('show', '', status=USAGE)

    def test_xml(self):
        root = ElementTree.fromstring(self.ctl('xml', 'web').out)
        self.assertEqual(root.find('name').text, 'web')
        self.assertEqual(ElementTree.fromstring(self.ctl('pool', 'xml', 'images').out).tag, 'pool')
        self.assertEqual(ElementTree.fromstring(self.ctl('net', 'xml', 'house/default').out).tag, 'network')
        answer = self.ctl('xml', 'web', '-j').json
        self.assertEqual(answer['object'], self.vireod.lookup('web'))
        self.assertIn('<name>web</name>', answer['xml'])
        self.ctl('xml', 'build', '--inactive')
        self.assertIn('connection', self.ctl('xml', 'house', status=USAGE).err)


class Broker(support.House):
    def test_status(self):
        out = self.ctl('status').out
        self.assertIn(self.epoch(), out)
        self.assertRegex(out, r'Domains: 9, 4 active')
        self.assertRegex(out, r'house +connected')
        answer = self.ctl('status', '-j').json
        self.assertEqual(answer['Epoch'], self.epoch())
        self.assertEqual(answer['Connections'][0]['State'], 'connected')

    def test_digest(self):
        version, sha = self.vireod.manager('Digest', '(a{sv})', {})
        self.assertEqual(self.ctl('digest').out, f'{sha}  version {version}\n')
        self.assertIn('verified', self.ctl('digest', '--verify').out)
        answer = self.ctl('digest', '--verify', '--kind=domain,pool', '-j').json
        self.assertEqual(answer['sha256'], answer['computed'])
        self.assertNotEqual(answer['sha256'], sha)

    def test_digest_while_things_change(self):
        for _ in range(10):
            busy = self.started('suspend', 'web', '--quiet')
            self.ctl('digest', '--verify')
            busy.process.wait(30)
            self.ctl('resume', 'web')

    def test_sync_and_log_level(self):
        self.assertGreaterEqual(int(self.ctl('sync').out), 1)
        self.assertEqual(self.ctl('sync', '-q').out, '')
        before = self.ctl('log-level').out.strip()
        self.ctl('log-level', 'debug')
        self.assertEqual(self.ctl('log-level').out, 'debug\n')
        self.ctl('log-level', before)
        self.assertIn('loud', self.ctl('log-level', 'loud', status=None).err)

    def test_connections_come_and_go(self):
        self.assertEqual(self.ctl('open', 'sim:///3?seed=5', '--label=three').out, 'three: connected\n')
        self.assertEqual(len(self.ctl('list', '--connection=three', '--names').lines), 3)
        self.assertGreaterEqual(int(self.ctl('resync', 'three').out), 1)
        self.assertIn('three', self.ctl('resync', status=AMBIGUOUS).err)
        self.assertEqual(self.ctl('close', 'three').out, 'three: closed\n')
        self.ctl('close', 'three', status=NOT_FOUND)
        self.ctl('open', 'nosuch://x', status=USAGE)


class Usage(support.House):
    def test_mistakes(self):
        for arguments, word in (
                (('frob',), 'frob'), (('list', '--frob'), '--frob'), (('pool', 'frob'), 'pool frob'),
                (('--frob', 'list'), '--frob'), (('list', '--json=x'), 'pretty'), (('show',), 'too few'),
                (('xml', 'a', 'b'), 'too many'), (('list', '--active=1'), 'no value'), (('list', '--state'), 'needs a value'),
                (('vol',), 'too few'), (('setmem', 'web', 'lots'), 'lots'), (('setmem', 'web', '-1'), '-1'),
                (('setvcpus', 'web', '2.5'), '2.5'), (('start', 'web', '--if-version=x'), 'if-version'),
                (('watch', '--since=whenever'), 'whenever'), (('watch', '--kind=cat'), 'cat'),
                (('events', '--lines=0'), '--lines'), (('list', '-z'), '-z'), (('timeline', '--width=3'), '--width'),
                (('list', '--session', '--address=x'), 'only one'), (('define', '/nonexistent'), '/nonexistent'),
                (('list', '--i=3'), '--i')):
            result = self.ctl(*arguments, status=USAGE)
            self.assertIn(word, result.err, arguments)
            self.assertEqual(result.out, '', arguments)

    def test_beginnings_of_options(self):
        self.assertEqual(self.ctl('list', '--act', '--nam').out, self.ctl('list', '--active', '--names').out)
        self.assertIn('several', self.ctl('list', '--no', status=USAGE).err)

    def test_options_anywhere_and_none_behind_two_dashes(self):
        self.assertEqual(self.ctl('--no-legend', 'list').out, self.ctl('list', '--no-legend').out)
        self.ctl('show', '--', '--value', status=NOT_FOUND)

    def test_help(self):
        out = self.ctl('--help').out
        for verb in ('list', 'watch', 'timeline', 'migrate', 'blockcopy', 'cancel', 'pool start', 'vol upload', 'net define'):
            self.assertRegex(out, rf'(?m)^  {verb} ')
        self.assertRegex(self.ctl('save', '--help').out, r'--bypass-cache')
        self.assertEqual(self.ctl('help', 'save').out, self.ctl('save', '--help').out)
        self.assertEqual(self.ctl('help', 'pool', 'build').out, self.ctl('pool', 'build', '--help').out)
        self.ctl('help', 'pool', 'frob', status=USAGE)
        self.assertRegex(self.ctl('--version').out, r'^vireoctl \d')
        # every verb has its own, and it never needs a broker
        for line in re.findall(r'(?m)^  ((?:pool |vol |net )?[a-z-]+)', out.split('Options:')[0]):
            self.assertIn('Usage: vireoctl ' + line, self.ctl(*line.split(), '--help', bus=False).out)

    def test_no_bus_and_no_broker(self):
        err = self.ctl('--address=unix:path=/nonexistent', 'list', bus=False, status=NO_BROKER).err
        self.assertIn('/nonexistent', err)
        with support.Scope() as scope:
            empty = support.Bus(scope)
            err = self.ctl(f'--address={empty.address}', 'list', bus=False, status=NO_BROKER).err
            self.assertIn('vireod', err)

    def test_bus_from_the_environment(self):
        self.assertEqual(self.ctl('list', '--names', bus=False, VIREO_BUS=self.bus.address).out,
                         self.ctl('list', '--names').out)

    def test_a_pipe_that_closes(self):
        done = subprocess.run(f'{support.VIREOCTL} --address={self.bus.address} list | head -1', shell=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment(), check=False)
        self.assertEqual(done.stderr, b'')

    def test_a_full_disk(self):
        with open('/dev/full', 'w') as full:
            done = subprocess.run([support.VIREOCTL, f'--address={self.bus.address}', 'list'], stdout=full,
                                  stderr=subprocess.PIPE, env=self.environment(), check=False)
        self.assertEqual(done.returncode, support.FAILED)
        self.assertIn(b'No space left', done.stderr)


class History(support.House):
    def test_events(self):
        before = self.version()
        self.ctl('suspend', 'web')
        self.ctl('resume', 'web')
        events = self.ctl('events', f'--since={before}', 'web', '-j').json_lines
        self.assertEqual([(e['kind'], e['event']) for e in events if e['kind'] == 'domain' and e['event'] != 'Updated'],
                         [('domain', 'Suspended'), ('domain', 'Resumed')])
        self.assertEqual([e['version'] for e in events], sorted({e['version'] for e in events}))
        self.assertTrue(all(e['version'] > before for e in events))
        # the jobs of what was named are among them
        self.assertEqual([e['event'] for e in events if e['kind'] == 'job'], ['Added', 'Finished'] * 2)
        self.assertEqual(events[0]['epoch'], self.epoch())
        out = self.ctl('events', f'--since={self.epoch()}:{before}', 'web').out
        self.assertRegex(out, r'(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  web +Suspended +paused +paused$')
        self.assertRegex(out, r'web +job suspend +completed +#\d+')
        self.assertEqual(self.ctl('events', f'--since={before}', 'db').out, '')
        self.assertIn('“typo”', self.ctl('events', 'typo', status=3).err)
        self.assertEqual(self.ctl('events', 'typo*').out, '')
        self.assertIn('there is no event “Stoped”', self.ctl('events', '--event=Started,Stoped', status=2).err)
        self.assertIn('there is no event “Stoped”', self.ctl('watch', '--event=Stoped', status=2).err)

    def test_filters(self):
        before = self.version()
        self.ctl('suspend', 'db')
        self.ctl('resume', 'db')
        events = self.ctl('events', f'--since={before}', '--event=Resumed', '-j').json_lines
        self.assertEqual([e['event'] for e in events], ['Resumed'])
        kinds = {e['kind'] for e in self.ctl('events', f'--since={before}', '--kind=job', '-j').json_lines}
        self.assertEqual(kinds, {'job'})
        middle = events[0]['version']
        upto = self.ctl('events', f'--since={before}', f'--until={middle}', '-j').json_lines
        self.assertEqual(upto[-1]['version'], middle)
        self.assertEqual([e['version'] for e in self.ctl('events', '-n', '2', '-j').json_lines],
                         [e['version'] for e in self.ctl('events', '-j').json_lines[-2:]])

    def test_times(self):
        self.ctl('suspend', 'db')
        everything = self.ctl('events', '-j').json_lines
        self.ctl('resume', 'db')
        last = everything[-1]['timestamp']
        later = self.ctl('events', f'--since=@{last // 10**6 + 3600}', '-j').json_lines
        self.assertEqual(later, [])
        self.assertEqual(len(self.ctl('events', '--since=today', '-j').json_lines) >= len(everything), True)
        for since in ('1h ago', '-1h', 'oldest', 'yesterday', '2020-01-01', '2020-01-01 12:00', '@5'):
            self.assertEqual(self.ctl('events', f'--since={since}', '-j').json_lines[0], everything[0], since)
        self.assertEqual(self.ctl('events', '--until=2020-01-01', '-j').out, '')
        # by time, to the event
        times = [e['timestamp'] for e in everything]
        cut = next(i for i in range(1, len(times)) if times[i] // 1000 > times[i - 1] // 1000)
        stamp = times[cut] - times[cut] % 1000
        text = self.at(stamp)
        found = self.ctl('events', f'--since={text}', '-j').json_lines
        self.assertEqual(found[0]['version'], next(e['version'] for e in everything if e['timestamp'] >= stamp))

    @staticmethod
    def at(stamp):
        import datetime
        when = datetime.datetime.fromtimestamp(stamp // 10**6, datetime.timezone.utc)
        return when.strftime('%Y-%m-%d %H:%M:%S') + f'.{stamp % 10**6 // 1000:03d}'

    def test_refusals(self):
        err = self.ctl('events', f'--since={"0" * 32}:5', status=HISTORY).err
        self.assertIn(self.epoch(), err)
        self.ctl('events', f'--since={self.version() + 1000}', status=HISTORY)
        self.ctl('events', '--since=' + 'f' * 32 + ':x', status=USAGE)

    def test_an_update_says_what_changed(self):
        before = self.version()
        self.ctl('autostart', 'build')
        self.ctl('sync')
        out = self.ctl('events', f'--since={before}', 'build', '--kind=domain').out
        self.assertIn('Autostart: no → yes', out)
        self.ctl('autostart', 'build', '--disable')


class Timeline(support.House):
    def test_in_the_terminal(self):
        self.ctl('suspend', 'web')
        self.ctl('resume', 'web')
        out = self.ctl('timeline', COLUMNS='100').out
        self.assertRegex(out, r'(?m)^ *web  .*█')
        self.assertRegex(out, r'(?m)^ +old desktop  .*▒')
        self.assertIn('running', out)
        for line in out.splitlines():
            self.assertLessEqual(support_width(line), 100, line)
        only = self.ctl('timeline', 'web', COLUMNS='100').out
        self.assertNotIn('old desktop', only)
        plain = self.ctl('timeline', COLUMNS='100', LC_ALL='C').out
        self.assertRegex(plain, r'(?m)^ *web  .*#')
        plain.replace('日本語', '').replace('–', '').encode('ascii')
        self.ctl('timeline', 'nosuch', status=NOT_FOUND)
        self.ctl('timeline', '--since=now', '--until=yesterday', status=USAGE)
        self.ctl('timeline', '-j', status=USAGE)

    def test_picture(self):
        out = self.ctl('timeline', '--svg=-').out
        root = ElementTree.fromstring(out)
        space = '{http://www.w3.org/2000/svg}'
        self.assertEqual(root.tag, space + 'svg')
        texts = [''.join(t.itertext()) for t in root.iter(space + 'text')]
        for name in ('web', 'old desktop', '日本語', 'a/b', 'evil\\x1b[31m\\x0aname'):
            self.assertIn(name, texts)
        classes = {e.get('class') for e in root.iter(space + 'rect')}
        self.assertTrue({'running', 'paused', 'off'} <= classes, classes)
        # nothing stands outside
        width, height = float(root.get('width')), float(root.get('height'))
        for rect in root.iter(space + 'rect'):
            if rect.get('x'):
                self.assertGreaterEqual(float(rect.get('x')), 0)
                self.assertLessEqual(float(rect.get('x')) + float(rect.get('width')), width + 1)
                self.assertLessEqual(float(rect.get('y')) + float(rect.get('height')), height)
        path = self.scope.directory() / 't.svg'
        self.ctl('timeline', f'--svg={path}', '--width=800')
        self.assertEqual(ElementTree.parse(path).getroot().get('width'), '800')
        self.ctl('timeline', '--svg=/nonexistent/x.svg', status=support.FAILED)

    def test_a_life_is_drawn_as_it_was(self):
        """What is drawn is what the events said: of a domain that was started and destroyed."""
        self.ctl('start', 'build')
        self.ctl('destroy', 'build')
        root = ElementTree.fromstring(self.ctl('timeline', 'build', '--svg=-').out)
        space = '{http://www.w3.org/2000/svg}'
        drawn = [(r.get('class'), ''.join(r.itertext())) for r in root.iter(space + 'rect') if list(r)]
        lives = [c for c, text in drawn if c in ('off', 'running', 'paused', 'crashed', 'unknown')]
        self.assertEqual(lives, ['off', 'running', 'off'], drawn)


def support_width(line):
    """Columns of a line: East Asian wide characters take two."""
    import unicodedata
    return sum(2 if unicodedata.east_asian_width(c) in 'WF' else 1 for c in line)


if __name__ == '__main__':
    support.main()
