#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many events a second reach a client, measured: prints numbers and judges nothing.

A simulated hypervisor (a process of its own) does one thing after the other as fast as it can. One subscriber hears the two
signals of each event, or one stream brings it, history on; against a service that does nothing but send the same two messages.

Usage: flood.py CLIENT BARE VIREO-SIM
"""
import os
import subprocess
import sys
import threading

from rig import Broker, Listener, Simulation, control, cpu_seconds, median, resident, say
from kit import scope, vireod
from kit.bus import Bus

CLIENT, BARE, SIM = sys.argv[1:4]
EVENTS = int(os.environ.get('VIREO_BENCH_EVENTS', '30000'))
DOMAINS = int(os.environ.get('VIREO_BENCH_DOMAINS', '100'))
ROUNDS = int(os.environ.get('VIREO_BENCH_ROUNDS', '3'))


def one_bare(where, bus):
    listener = Listener(where, CLIENT, bus, 'signals', EVENTS)
    caller = vireod.Client(bus)
    thread = threading.Thread(target=caller.call, args=('/bench', 'org.vireo1.bench', 'Flood', '(u)', EVENTS),
                              kwargs={'name': 'org.vireo1.bench', 'limit': 600})
    thread.start()
    seconds = listener.seconds()
    thread.join()
    return EVENTS / seconds


def one_flood(where, bus, flood, broker, others, mode):
    """Return events a second, and in µs of CPU time an event: the broker's, and that of all that has a hand in it."""
    listener = Listener(where, CLIENT, bus, mode, EVENTS)
    version = broker.client.sync()
    before = [cpu_seconds(pid) for pid in (broker.pid, bus.process.pid, *others)]
    # Some things that are done are two events; none is less than one.
    flood(EVENTS)
    seconds = listener.seconds()
    events = broker.client.sync() - version
    took = [cpu_seconds(pid) - was for pid, was in zip((broker.pid, bus.process.pid, *others), before)]
    return EVENTS / seconds, took[0] / events * 1e6, sum(took) / events * 1e6 + listener.cpu_seconds() / EVENTS * 1e6


def measure(where, bus, what, flood, broker, others=()):
    rates = {'bare': [], 'signals': [], 'stream': []}
    costs = {'signals': [], 'stream': []}
    totals = {'signals': [], 'stream': []}
    for _ in range(ROUNDS):
        # in turn, because a machine's speed drifts
        rates['bare'].append(one_bare(where, bus))
        for mode in ('signals', 'stream'):
            rate, cost, total = one_flood(where, bus, flood, broker, others, mode)
            rates[mode].append(rate)
            costs[mode].append(cost)
            totals[mode].append(total)
    print(f'{EVENTS} events of {DOMAINS} domains, {what}')
    say('a bare service that sends two messages an event', f'{median(rates["bare"]):.0f} events a second')
    for mode, words in (('signals', 'one subscriber'), ('stream', 'one stream')):
        ratio = median([a / b for a, b in zip(rates[mode], rates['bare'])])
        say(f'vireod, history on: to {words}', f'{median(rates[mode]):.0f} events a second, {ratio:.2f} of that rate')
        say("  CPU time: vireod's own; and with the bus's, the simulator's and the reader's",
            f'{median(costs[mode]):.0f}; {median(totals[mode]):.0f} µs an event')
    ratio = median([a / b for a, b in zip(rates['stream'], rates['signals'])])
    say('to one stream, against to one subscriber', f'{ratio:.2f} of that rate')
    say('resident memory afterwards', f'{resident(broker.pid) >> 20} MiB')


def main():
    with scope.Scope() as where:
        bus = Bus(where)
        bare = where.spawn([BARE, bus.address, '1', '1'], stdout=subprocess.PIPE)
        bare.stdout.readline()
        simulation = Simulation(where, SIM, DOMAINS)
        broker = Broker(where, bus, simulation.uri)
        measure(where, bus, 'simulated in a process of their own',
                lambda n: simulation.do(do='flood', count=n), broker, (simulation.process.pid,))
        broker.stop()
        simulation.stop()
        path = where.directory() / 'control'
        broker = Broker(where, bus, f'sim:///empty?domains={DOMAINS}&control={path}')
        measure(where, bus, "simulated on a thread of vireod's own",
                lambda n: control(path, do='flood', count=n), broker)
        broker.stop()


if __name__ == '__main__':
    main()
