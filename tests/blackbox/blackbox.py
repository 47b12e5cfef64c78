#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Many clients follow a broker that is stopped and killed while hypervisors storm; afterwards all that each of them was told is held
against all that the others were told. It speaks D-Bus only, and what it judges by is doc/contract.md.

    blackbox.py sim|libvirt [--seed=N] [--clients=N] [--rounds=N | --seconds=N] …
"""

import argparse
import faulthandler
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'live'))

from kit.grammar import Story  # noqa: E402  pylint: disable=wrong-import-position
from kit.recorder import Event  # noqa: E402  pylint: disable=wrong-import-position
from kit import guests, program  # noqa: E402  pylint: disable=wrong-import-position
from kit.loop import TimedOut  # noqa: E402  pylint: disable=wrong-import-position
from kit.bus import Bus, BrokerBus  # noqa: E402  pylint: disable=wrong-import-position
from judge import Judge  # noqa: E402  pylint: disable=wrong-import-position
from story import PROGRESS, documented_digest  # noqa: E402  pylint: disable=wrong-import-position
from world import Sim, World  # noqa: E402  pylint: disable=wrong-import-position

FAULTS = ({}, {'reorder': 20}, {'repeat': 0.1}, {'drop': 0.1}, {'reorder': 8, 'repeat': 0.05, 'drop': 0.05}, {'ahead': 0.05},
          {'behind': 0.1}, {'look-none': 0.1, 'look-fail': 0.05}, {'list-fail': 0.3, 'list-partial': 0.1},
          {'hang': ['look', 'operation'], 'hang-time': 200}, {'hang': ['all'], 'hang-time': 300})


class Simulated:
    """Two simulated hypervisors at their worst."""

    def __init__(self, test, seed, storm):
        self.random = random.Random(f'{seed}/sim')
        self.storm = storm
        # so much XML that a listing does not fit into a socket at once
        self.hosts = [Sim(test.scope, 'a', seed, 40, 16000), Sim(test.scope, 'b', seed + 1, 6)]
        self.uris = [host.uri for host in self.hosts]
        # one that clients open and close
        self.third = Sim(test.scope, 'c', seed + 2, 4)
        self.opened = self.third.uri

    def blow(self):
        for host, count in zip([*self.hosts, self.third], (self.storm, self.storm // 4, self.storm // 4)):
            host.do('faults', reset=True, **self.random.choice(FAULTS))
            host.blow(count=self.random.randrange(count // 2, count), rate=self.random.choice((0, 300, 600)),
                      churn=0.15, seed=self.random.randrange(1 << 30))

    def calm(self):
        return all(host.calm() for host in [*self.hosts, self.third])

    def mishap(self):
        """Something happens to a hypervisor."""
        self.random.choice(self.hosts).do('disconnect', error='it fell over', refuse=self.random.choice((0, 0, 1)))

    def settle(self):
        for host in [*self.hosts, self.third]:
            host.do('faults', reset=True)
            host.do('release')
            host.do('wait-guests')
            host.do('wait-idle')


class Real:
    """A private libvirtd with QEMU, and a virsh for each of its objects."""

    def __init__(self, test, seed, _storm):
        from storm import Storm  # pylint: disable=import-outside-toplevel
        self.random = random.Random(f'{seed}/libvirt')
        self.libvirtd = test.libvirtd()
        self.storm = Storm(test, self.libvirtd, seed)
        self.uris = [self.libvirtd.uri, 'test:///default']
        self.opened = Sim(test.scope, 'c', seed, 4).uri
        for name in ('d1', 'd2', 'd4'):
            self.libvirtd.virsh('define', self.storm.xml[name])
        # what costs libvirt little, so that enough happens for history to be cut
        directory = test.scope.directory('drizzle')
        self.drizzle = []
        for i in range(4):
            path = directory / f'{i}.xml'
            path.write_text(guests.domain_xml('drizzle', uuid='00000000-0000-4000-8000-0000000000d0', title=f'title {i}'))
            self.drizzle.append(f'define {path}')
        (self.libvirtd.directory / 'pool').mkdir()
        self.libvirtd.virsh('pool-create-as', 'drizzle', 'dir', '--target', self.libvirtd.directory / 'pool')
        self.drizzle += ['pool-refresh drizzle', 'undefine drizzle', 'setvcpus drizzle 1 --config']

    def blow(self):
        self.storm.blow(8)
        done = self.storm.test.scope.spawn(self.libvirtd.virsh.argv(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL, text=True)
        done.stdin.write(''.join(f'{self.random.choice(self.drizzle)}\n' for _ in range(150)))
        done.stdin.close()
        self.storm.running.append(done)

    def calm(self):
        if any(p.poll() is None for p in self.storm.running):
            return False
        self.storm.calm()
        return True

    def mishap(self):
        self.libvirtd.restart()

    def settle(self):
        self.storm.calm(20)


class Course:
    """What happens, in rounds: a storm each, and something in the middle of it."""

    WHAT = ('', '', 'kill', 'kill', 'stop', 'kill twice', 'mishap', 'freeze')
    FULL = ('disk full', 'disk full', 'disk full, killed')

    def __init__(self, world, hypervisors, seed, full):
        self.world, self.hypervisors = world, hypervisors
        self.what = self.WHAT + self.FULL if full else self.WHAT
        self.random = random.Random(f'{seed}/course')

    def round(self, what):
        world, hypervisors = self.world, self.hypervisors
        at = world.heard + self.random.randrange(120)
        hypervisors.blow()
        # or fewer come, when faults swallow them
        world.wait(lambda: world.heard >= at or hypervisors.calm(), 'the middle of a storm', 60)
        if what == 'mishap':
            hypervisors.mishap()
        elif what == 'freeze':
            world.process.send_signal(signal.SIGSTOP)
            try:
                world.wait(hypervisors.calm, 'the end of a storm that the broker does not see', 3)
            except TimedOut:
                pass  # it has seen enough of not seeing anything
            finally:
                world.process.send_signal(signal.SIGCONT)
        elif what in ('disk full', 'disk full, killed'):
            world.fill_disk()
            world.wait(hypervisors.calm, 'the end of a storm that nobody can keep', 120)
            world.next_round()
            hypervisors.blow()
            world.wait(hypervisors.calm, 'the end of another', 120)
            if what == 'disk full, killed':
                world.kill()
                if not world.try_start():
                    world.free_disk()
                    world.start()
                else:
                    world.free_disk()
            else:
                world.free_disk()
            hypervisors.blow()
        elif what == 'store lost':
            world.lose_store()
            world.start()
        elif what == 'kill twice':
            world.kill()
            world.start()
            world.kill()
            world.start()
        elif what:
            getattr(world, what)()
            world.start()
        world.wait(hypervisors.calm, 'the end of a storm', 120)
        world.next_round()

    def plan(self, rounds):
        """Yield what happens in each round: each of these soon, and all of them again and again."""
        lost = self.random.randrange(rounds // 2, rounds)
        bag = []
        for i in range(rounds):
            bag = bag or self.random.sample(self.what, len(self.what))
            what = bag.pop()
            yield 'store lost' if i == lost else what


def check_stories(test, judge, cut_short):
    """What was told in each epoch must be legal, too: by the judge of stories, which wants a job's progress as well."""
    def whole(kind, properties):
        return dict.fromkeys(PROGRESS, 0) | properties if kind == 'Job' else properties

    events = 0
    for segment in judge.whole('steady poller'):
        story = Story((segment.base.epoch, segment.base.version,
                       {p: (o.kind, whole(o.kind, o.properties)) for p, o in segment.base.objects.items()}))
        for e in segment.after():
            story.event(Event(e.path, e.kind, e.name, e.version, e.previous, e.reason, whole(e.kind, e.properties),
                              {**e.details, 'timestamp': e.timestamp, **({'inferred': True} if e.inferred else {})}), False)
        # the end of an epoch may come in the middle of anything
        for violation in (story.violations if segment.base.epoch in cut_short else story.finish())[:20]:
            print(f'    {violation}, among')
            at = re.search(r' at (\d+):', violation)
            known = {}
            for e in segment.after():
                changed = {k: v for k, v in e.properties.items() if known.get(e.path, {}).get(k) != v} if e.path in known else ''
                known[e.path] = e.properties
                if at and abs(e.version - int(at[1])) < 10:
                    print(f'        {e}{" inferred" if e.inferred else ""} {changed}')
        test.check(not story.violations, f'{len(story.violations)} violations of the grammar from {segment.base.version} on')
        events += story.events
    return events


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument('hypervisors', choices=('sim', 'libvirt'))
    parser.add_argument('--seed', type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument('--clients', type=int, default=12)
    parser.add_argument('--rounds', type=int, default=12)
    parser.add_argument('--seconds', type=float, default=0, help='go on for so long')
    parser.add_argument('--storm', type=int, default=250, help='simulated: as many actions as that in a round, at most')
    parser.add_argument('--full-disk', action='store_true', help='at times the disk is full, too; needs root')
    parser.add_argument('--bus', choices=('dbus-daemon', 'dbus-broker'), default='dbus-daemon')
    parser.add_argument('--max-events', type=int, default=300, help='how many history keeps')
    parser.add_argument('--max-bytes', help='how large its database may be, as in vireo.conf')
    return parser.parse_args()


def main(test):
    asked = arguments()
    print(f'seed {asked.seed}')
    # for whatever has no limit of its own
    faulthandler.dump_traceback_later(max(900, asked.seconds * 3), exit=True)
    hypervisors = (Simulated if asked.hypervisors == 'sim' else Real)(test, asked.seed, asked.storm)
    world = World(test.scope, (BrokerBus if asked.bus == 'dbus-broker' else Bus)(test.scope), hypervisors.uris, asked.seed,
                  {'MaxEvents': asked.max_events, **({'MaxBytes': asked.max_bytes} if asked.max_bytes else {})})
    world.patience = max(600, asked.seconds * 2)
    began = time.monotonic()
    if asked.full_disk:
        world.small_disk('48M')
    world.opened = hypervisors.opened
    world.start()
    world.spread(asked.clients)
    course, rounds = Course(world, hypervisors, asked.seed, asked.full_disk), 0
    while rounds == 0 or time.monotonic() - began < asked.seconds:
        for what in course.plan(asked.rounds):
            course.round(what)
            rounds += 1
    hypervisors.settle()
    world.finish()
    print(f'{rounds} rounds, {time.monotonic() - began:.1f} s; the broker died: {world.deaths}')
    began = time.monotonic()
    judge = Judge(world.records, documented_digest(),
                  # what could not be written may be gone before its time
                  0 if asked.full_disk else 256 if asked.max_bytes else asked.max_events, world.epochs_lost)
    for violation in judge.violations[:40]:
        print(f'    {violation[:2000]}')
    test.check(not judge.violations, f'{len(judge.violations)} violations')
    print(', '.join(f'{count} {what}' for what, count in sorted(judge.counts.items())), f'({time.monotonic() - began:.1f} s)')
    print(f'{check_stories(test, judge, world.epochs_lost)} of them in whole stories')
    # whether it was the run that it is meant to be
    for what, least in (('events', 30 * rounds), ('Gone', 1), ('EpochChanged', 1), ('listings', rounds), ('views', 5),
                        ('digests', rounds), ('digests of own copies', 5), ('runs', rounds)):
        test.check(judge.counts[what] >= least, f'only {judge.counts[what]} {what}: this run shows nothing')


if __name__ == '__main__':
    program.run(main)
