#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long answers take while operations hang or events pour, measured: prints numbers and judges nothing.

First a simulated hypervisor does one thing after the other as fast as it can, with nobody who listens, with one subscriber and
with one stream: how long a Ping takes, and how much processor time the main loop takes in one go, which says what vireod itself
adds to that. The same while 10,000 domains are listed, and when all of them go. Then four operations of a simulated hypervisor hang; then a real libvirtd is stopped (SIGSTOP), in the middle of four calls. Beside
them the same answers when nothing hangs, and those of a service that does nothing (the bus itself), because what a machine
that is never quiet adds is in all of them.

Usage: latency.py VIREO-SIM TURNS CLIENT|- [--sim]
"""
import os
import sys
import threading
import time

from gi.repository import GLib

from rig import Broker, Listener, Simulation, Turns, control, say
from kit import guests, libvirtd, scope, vireod
from kit.bus import Bus
from kit.loop import wait_for
from kit.vireod import BusError

SIM, TURNS, CLIENT = sys.argv[1:4]
ROUNDS = int(os.environ.get('VIREO_BENCH_ROUNDS', '300'))
EVENTS = int(os.environ.get('VIREO_BENCH_EVENTS', '20000'))
NAME, ROOT = 'org.vireo1', '/org/vireo1'
HOUR = 3600000
ASYNC = {'async': GLib.Variant('b', True)}


def timed(function, *arguments, **options):
    before = time.monotonic()
    function(*arguments, **options)
    return (time.monotonic() - before) * 1000


def tell(what, times):
    times = sorted(times)
    say(what, f'{times[len(times) // 2]:.1f} ms, {times[len(times) * 99 // 100]:.1f} ms')


class Answers:
    """The same questions, whatever hangs."""

    def __init__(self, broker):
        self.client = broker.client
        _epoch, _version, objects = self.client.snapshot()
        self.domains = sorted(path for path, (kind, _p) in objects.items() if kind == 'Domain')

    def call(self, path, method, options=None):
        return self.client.call(path, f'{NAME}.Domain', method, '(a{sv})', options or {}, limit=60)

    def reads(self):
        ping = ('org.freedesktop.DBus.Peer', 'Ping')
        bus = {'name': 'org.freedesktop.DBus'}
        times = {'the bus itself, GetId': [], 'Ping': [], 'GetAll of a domain': [], 'GetSnapshot of one domain': []}
        one = GLib.Variant('ao', self.domains[:1])
        for _ in range(ROUNDS):
            times['the bus itself, GetId'].append(timed(
                self.client.call, '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetId', **bus))
            times['Ping'].append(timed(self.client.call, ROOT, *ping))
            times['GetAll of a domain'].append(timed(self.client.get_all, self.domains[0], 'Domain'))
            times['GetSnapshot of one domain'].append(timed(self.client.snapshot, objects=one))
        for what, list_ in times.items():
            tell(f'{what} (median, 99th percentile)', list_)

    def changes(self, path):
        times = []
        for _ in range(ROUNDS // 2):
            times.append(timed(self.call, path, 'Destroy'))
            times.append(timed(self.call, path, 'Start'))
        tell('Start and Destroy of another domain', times)

    def cancels(self, path, rounds):
        times = []
        for _ in range(rounds):
            job = self.call(path, 'ManagedSave', ASYNC)[0]
            wait_for(lambda j=job: self.client.get(j, 'Job', 'Cancellable'), 30, 'a job that can be cancelled')
            before = time.monotonic()
            self.client.call(job, f'{NAME}.Job', 'Cancel', '(a{sv})', {})
            while self.client.get(job, 'Job', 'State') == 'running':
                pass
            times.append((time.monotonic() - before) * 1000)
        tell('Cancel, until the job has ended', times)


class Pings:
    """One Ping after the other, from a thread and a connection of its own, until it is left."""

    def __init__(self, bus, name, path):
        self.client = vireod.Client(bus)
        self.name, self.path = name, path
        self.times = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(0.002):
            self.times.append(timed(self.client.call, self.path, 'org.freedesktop.DBus.Peer', 'Ping', name=self.name, limit=60))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_exception):
        self.over.set()
        self.thread.join()
        times = sorted(self.times) or [float('nan')]
        say(f'Ping of {self.name}, {len(times)} times (median, 99th percentile, worst)',
            f'{times[len(times) // 2]:.1f} ms, {times[len(times) * 99 // 100]:.1f} ms, {times[-1]:.1f} ms')


def tell_turns(turns):
    n, most, longest = turns.take()
    say('turns of the main loop (how many; 99 of 100 below; the longest; processor time)',
        f'{n}, {most:.1f} ms, {longest:.1f} ms')


def flooded(where):
    bus = Bus(where)
    turns = Turns(where, TURNS)
    path = where.directory() / 'control'
    broker = Broker(where, bus, f'sim:///empty?domains=100&control={path}', environment=turns.environment)
    for mode in ('none', 'signals', 'stream') if CLIENT != '-' else ('none',):
        print(f'a flood of {EVENTS} events of 100 domains, to ' + {'none': 'nobody', 'signals': 'one subscriber', 'stream':
                                                                   'one stream'}[mode])
        broker.client.sync()
        turns.take()
        listener = Listener(where, CLIENT, bus, mode, EVENTS) if mode != 'none' else None
        with Pings(bus, NAME, ROOT), Pings(bus, 'org.freedesktop.DBus', '/org/freedesktop/DBus'):
            control(path, do='flood', count=EVENTS)
            if listener:
                listener.seconds()
            broker.client.sync()
        tell_turns(turns)
    broker.stop()


def large(where):
    bus = Bus(where)
    turns = Turns(where, TURNS)
    broker = Broker(where, bus, 'sim:///empty', environment=turns.environment)
    broker.client.sync()
    turns.take()
    print('10,000 domains are listed')
    with Pings(bus, NAME, ROOT):
        connection = broker.client.manager('Open', '(sa{sv})', 'sim:///10000', {}, limit=120)
        broker.wait_domains(10000)
    tell_turns(turns)
    for what, call in (('are asked for (GetSnapshot)', lambda: broker.client.snapshot()),
                       ('are hashed (Digest)', lambda: broker.client.manager('Digest', '(a{sv})', {}, limit=60)),
                       ('are listed again (Sync)', broker.client.sync),
                       ('go with their connection (Close)',
                        lambda: broker.client.manager('Close', '(o)', connection, limit=120))):
        print(f'10,000 domains {what}')
        call()
        tell_turns(turns)
    broker.stop()


def simulated(where):
    bus = Bus(where)
    simulation = Simulation(where, SIM, 100, '&running=1')
    broker = Broker(where, bus, simulation.uri)
    broker.client.sync()
    answers = Answers(broker)
    stuck, other = answers.domains[1:5], answers.domains[-1]
    simulation.do(do='operations', operations={'Domain.ManagedSave': {'duration': HOUR, 'progress': 10, 'total': 1 << 30}})
    for hangs in (False, True):
        print('100 simulated domains, ' + ('four operations hang' if hangs else 'nothing hangs'))
        if hangs:
            simulation.do(do='faults', hang=['operation'], **{'hang-time': HOUR})
            for path in stuck:
                answers.call(path, 'Suspend', ASYNC)
            broker.client.sync()
            simulation.do(do='faults', reset=True)
        answers.reads()
        answers.changes(other)
        answers.cancels(answers.domains[-2], 30)
    broker.stop()


def real(where):
    daemon = libvirtd.Libvirtd(where, name='vireo-one')
    commands = []
    for i in range(8):
        path = where.directory('xml') / f'{i}.xml'
        path.write_text(guests.domain_xml(f'bench-{i}'))
        commands.append(f'define {path}')
    daemon.virsh.script(commands, limit=60)
    bus = Bus(where)
    broker = Broker(where, bus, daemon.uri)
    broker.wait_domains(8)
    answers = Answers(broker)
    domains = answers.domains
    print('8 libvirt domains, libvirtd stopped in the middle of four calls')
    ends = []

    def change(path):
        # a bus connection of its own, so that nothing is waited for in turn
        client = Answers(broker)
        before = time.monotonic()
        try:
            client.client.call(path, f'{NAME}.Domain', 'SetAutostart', '(ba{sv})', True, {}, limit=60)
            ends.append((time.monotonic() - before, 'no error'))
        except BusError as error:
            ends.append((time.monotonic() - before, error.name.rsplit('.', 1)[1]))

    daemon.freeze()
    threads = [threading.Thread(target=change, args=(path,)) for path in domains[:4]]
    for thread in threads:
        thread.start()
    answers.reads()
    for thread in threads:
        thread.join()
    daemon.thaw()
    say('a changing call ends after, with', '; '.join(sorted(f'{t:.1f} s {e}' for t, e in ends)))
    broker.stop()


def main():
    for part in (flooded, large, simulated):
        with scope.Scope() as where:
            part(where)
    if '--sim' not in sys.argv:
        with scope.Scope() as where:
            real(where)


if __name__ == '__main__':
    main()
