#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A storm of virsh on a real libvirtd, which is restarted, frozen and killed in the middle of it: at the end each property
is what virsh says, and the whole story that was told meanwhile is legal.

    storm.py [SEED]
"""

import random
import subprocess
import sys
import time

from kit import guests, program, truth
from kit.loop import settle, wait_for
from pools_networks import NET, POOL

DOMAINS = 6
ROUNDS = 20  # commands of each script


class Storm:
    """One virsh for each of some domains, pools and networks, each doing what comes to its mind."""

    def __init__(self, test, libvirtd, seed):
        self.test = test
        self.libvirtd = libvirtd
        self.random = random.Random(seed)
        self.xml = {}
        self.running = []
        directory = test.scope.directory('storm')
        for i in range(DOMAINS):
            name = f'd{i}'
            act = guests.IDLE if i % 3 else guests.POWEROFF
            path = directory / f'{name}.xml'
            # what KVM does is the same to libvirt; where it is itself emulated, six of its guests are a machine's whole time
            kind = None if i < 2 else 'qemu'
            path.write_text(guests.domain_xml(name, guests.image(libvirtd.images, act, wait=0.1), kind=kind))
            self.xml[name] = path
        for name in ('p0', 'p1'):
            (libvirtd.directory / name).mkdir()
            self.xml[name] = directory / f'{name}.xml'
            self.xml[name].write_text(POOL.format(name=name, uuid=f'00000000-0000-4000-8000-00000000000{name[1]}',
                                                  target=libvirtd.directory / name))
        self.xml['n0'] = directory / 'n0.xml'
        self.xml['n0'].write_text(NET.format(name='n0', uuid='00000000-0000-4000-8000-0000000000f0', bridge='vbr0',
                                             octet=80))

    def script(self, name, length):
        """Make up commands for one object; most of them make sense at the time, some don't."""
        xml = self.xml[name]
        if name[0] == 'd':
            choices = [f'define {xml}', f'create {xml}', f'create {xml} --paused', f'start {name}', f'start {name}',
                       f'start {name} --paused', f'destroy {name}', f'destroy {name}', f'suspend {name}',
                       f'resume {name}', f'resume {name}', f'reset {name}', f'undefine {name} --managed-save',
                       f'managedsave {name}', f'autostart {name}', f'autostart {name} --disable',
                       f'setmem {name} 24M --config', f'reboot {name}', f'shutdown {name}']
        elif name[0] == 'p':
            choices = [f'pool-define {xml}', f'pool-create {xml}', f'pool-start {name}', f'pool-destroy {name}',
                       f'pool-refresh {name}', f'pool-undefine {name}', f'pool-autostart {name}',
                       f'vol-create-as {name} v 64K', f'vol-delete v --pool {name}']
        else:
            choices = [f'net-define {xml}', f'net-create {xml}', f'net-start {name}', f'net-destroy {name}',
                       f'net-undefine {name}', f'net-autostart {name}']
        return [self.random.choice(choices) for _ in range(length)]

    def blow(self, length=ROUNDS):
        """Start a virsh for each object."""
        for name in self.xml:
            script = self.test.scope.directory('storm') / f'{name}.script'
            script.write_text('\n'.join(self.script(name, length)) + '\n')
            with script.open() as stdin:
                self.running.append(self.test.scope.spawn(self.libvirtd.virsh.argv(), stdin=stdin,
                                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def calm(self, limit=60):
        """Wait until every virsh has ended."""
        try:
            wait_for(lambda: all(p.poll() is not None for p in self.running), limit, poll=0.1)
        except AssertionError:
            # one that lost its libvirtd in the middle of a call may wait for an answer for ever
            print(f'  {sum(p.poll() is None for p in self.running)} virsh had to be ended')
        for process in self.running:
            process.kill()
            process.wait()
        self.running.clear()

    def some(self, recorder, count, limit=60):
        """Wait until some more has happened."""
        at = len(recorder.events) + count
        wait_for(lambda: len(recorder.events) >= at or all(p.poll() is not None for p in self.running), limit,
                 f'{count} more events')


def main(test):
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(10**6)
    print(f'seed {seed}')
    libvirtd = test.libvirtd()
    vireod = test.vireod(libvirtd.uri)
    vireod.wait_connected()
    recorder = vireod.recorder
    connection = vireod.connection_path()
    storm = Storm(test, libvirtd, seed)

    def converged(what):
        vireod.wait_connected()
        vireod.sync(limit=120)
        # a guest that powers itself off does so when it likes: nothing may move while virsh looks
        libvirt = truth.domains(libvirtd.virsh)
        for _ in range(20):
            settle(0.5, changed=lambda: len(recorder.events))
            now = truth.domains(libvirtd.virsh)
            if now == libvirt and not any(p['Active'] and p['State'] == 'running' and int(p['Name'][1:]) % 3 == 0
                                          for p in now.values()):
                break
            libvirt = now
        for _ in range(3):
            # libvirtd still carries out calls of a virsh that had to be ended, silent ones too, while we compare
            vireod.sync(limit=120)
            vireod.call(connection, 'org.vireo1.Connection', 'Resync', '(a{sv})', {}, limit=120)
            wrong = truth.compare(libvirtd.virsh, vireod, connection, ignored=('Allocation', 'Available'))
            if not wrong:
                break
        for text in wrong:
            test.fail(f'{what}: {text}')
        print(f'{what}: {len(recorder.events)} events so far')

    def middle(what, act, limit=60):
        with test.case(what):
            storm.blow()
            storm.some(recorder, 20)
            act()
            storm.blow(ROUNDS // 2)  # it comes back into the storm
            storm.calm(limit)
            converged(what)

    def frozen():
        libvirtd.freeze()
        try:
            # whatever the hypervisor does, the broker answers
            slowest = 0
            end = time.monotonic() + 3
            while time.monotonic() < end:
                began = time.monotonic()
                vireod.call('/org/vireo1', 'org.freedesktop.DBus.Peer', 'Ping', limit=10)
                slowest = max(slowest, time.monotonic() - began)
                settle(0.02, changed=lambda: None)
            print(f'  slowest Ping while libvirtd was frozen: {slowest * 1000:.0f} ms')
            test.check(slowest < 1, f'a Ping took {slowest:.1f} s while libvirtd was frozen')
        finally:
            libvirtd.thaw()

    def frozen_long():
        libvirtd.freeze()
        try:
            vireod.wait_connected('disconnected', limit=120)
        finally:
            libvirtd.thaw()

    middle('nothing but a storm', lambda: None)
    middle('libvirtd restarted', libvirtd.restart)
    middle('libvirtd frozen for a moment', frozen)
    middle('libvirtd killed', lambda: (libvirtd.kill(), libvirtd.start()))
    # libvirtd's other clients lose it too, in the middle of a call
    middle('libvirtd frozen until the broker gives it up', frozen_long, 10)
    middle('libvirtd killed twice', lambda: (libvirtd.kill(), libvirtd.start(), storm.some(recorder, 5),
                                             libvirtd.kill(), libvirtd.start()))
    test.check(vireod.alive(), f'vireod has ended, with {vireod.process.returncode}')
    test.check(any(e.event == 'Disconnected' for e in recorder.events), 'it never noticed a loss')
    story = test.judge(vireod, f'the storm of seed {seed}')
    test.check(story.events > 200, f'not much of a storm: {story.events} events')


if __name__ == '__main__':
    program.run(main)
