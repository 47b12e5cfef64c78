#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What many streams cost, measured: prints numbers and judges nothing.

1,000 streams over a few connections to the bus: descriptors, memory and processor time that they need, and how long one event
takes to reach all of them; what a call takes meanwhile; and a burst to all.

Usage: streams.py VIREO-SIM
"""
import os
import resource
import select
import socket
import sys
import time

from gi.repository import Gio, GLib

from rig import Broker, Simulation, cpu_seconds, median, resident, say
from kit import scope, vireod
from kit.bus import Bus

SIM = sys.argv[1]
STREAMS = int(os.environ.get('VIREO_BENCH_STREAMS', '1000'))
CONNECTIONS = int(os.environ.get('VIREO_BENCH_CONNECTIONS', '10'))
BURST = int(os.environ.get('VIREO_BENCH_BURST', '200'))
ROUNDS = 20


def descriptors(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def watch(client):
    reply, fds = client.connection.call_with_unix_fd_list_sync(
        'org.vireo1', '/org/vireo1', 'org.vireo1.Manager', 'Watch', GLib.Variant('(a{sv})', ({},)),
        GLib.VariantType('(h)'), Gio.DBusCallFlags.NONE, 30000, None, None)
    return socket.socket(fileno=fds.get(reply.unpack()[0]))


class Readers:
    """All streams, read by one loop."""

    def __init__(self, streams):
        self.poll = select.epoll()
        self.streams = {s.fileno(): s for s in streams}
        for fd in self.streams:
            self.poll.register(fd, select.EPOLLIN)

    def until(self, lines):
        """Read until each stream has brought so many lines; return when the first and the last had."""
        missing = dict.fromkeys(self.streams, lines)
        times = []
        while missing:
            for fd, _events in self.poll.poll(60):
                data = self.streams[fd].recv(1 << 20)
                assert data, 'a stream has ended'
                if fd not in missing:
                    continue
                missing[fd] -= data.count(b'\n')
                if missing[fd] <= 0:
                    assert missing[fd] == 0, 'more lines than events'
                    del missing[fd]
                    times.append(time.monotonic())
        return times[0], times[-1]


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with scope.Scope() as where:
        bus = Bus(where)
        simulation = Simulation(where, SIM, 100)
        # what a service is given; that it needs more, and takes it, is its own business
        broker = Broker(where, bus, simulation.uri, prefix=('prlimit', '--nofile=1024:'))
        broker.client.sync()
        clients = [vireod.Client(bus) for _ in range(CONNECTIONS)]
        fds, memory = descriptors(broker.pid), resident(broker.pid)
        before = time.monotonic()
        streams = [watch(clients[i % CONNECTIONS]) for i in range(STREAMS)]
        print(f'{STREAMS} streams over {CONNECTIONS} connections')
        say('to open one', f'{(time.monotonic() - before) / STREAMS * 1e6:.0f} µs')
        say('descriptors of vireod each', f'{(descriptors(broker.pid) - fds) / STREAMS:.2f}')
        soft = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)[0]
        say('descriptors of vireod in all, and how many it may have', f'{descriptors(broker.pid)}, {soft}')
        say('resident memory each', f'{(resident(broker.pid) - memory) / STREAMS / 1024:.2f} KiB')
        readers = Readers(streams)
        delays, spans, cpu = [], [], cpu_seconds(broker.pid)
        for _ in range(ROUNDS):
            before = time.monotonic()
            simulation.do(do='flood', count=1)
            first, last = readers.until(1)
            delays.append((last - before) * 1000)
            spans.append((last - first) * 1000)
        say('an event: until the last of them has it (median, worst)', f'{median(delays):.1f} ms, {max(delays):.1f} ms')
        say('of that, from the first to the last (median)', f'{median(spans):.1f} ms')
        say("vireod's own CPU time an event", f'{(cpu_seconds(broker.pid) - cpu) / ROUNDS * 1000:.1f} ms')
        memory = resident(broker.pid)
        before, cpu = time.monotonic(), cpu_seconds(broker.pid)
        simulation.do(do='flood', count=BURST)
        _first, last = readers.until(BURST)
        say(f'a burst of {BURST} events to all', f'{STREAMS * BURST / (last - before):.0f} lines a second, '
            f'{(cpu_seconds(broker.pid) - cpu) / STREAMS / BURST * 1e6:.1f} µs of CPU time a line')
        # nobody reads now: what do the streams hold, and does anybody else notice?
        simulation.do(do='flood', count=2 * BURST)
        answers = []
        for _ in range(50):
            before = time.monotonic()
            broker.client.call('/org/vireo1', 'org.freedesktop.DBus.Peer', 'Ping')
            answers.append((time.monotonic() - before) * 1000)
        broker.client.sync()
        say('none of them reads: a Ping meanwhile (median, worst)', f'{median(answers):.1f} ms, {max(answers):.1f} ms')
        say('and memory each, besides what the sockets hold',
            f'{(resident(broker.pid) - memory) / STREAMS / 1024:.1f} KiB')
        for s in streams:
            s.close()
        broker.client.sync()
        broker.stop()


if __name__ == '__main__':
    main()
