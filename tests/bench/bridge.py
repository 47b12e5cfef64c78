#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the bridge costs, measured: prints numbers and judges nothing.

10,000 simulated domains: from the start to the name on the bus, memory, wake-ups when idle, GetSnapshot.
1,000 libvirt domains (a private libvirtd): the plain sequential loop over libvirt, vireod's start, GetSnapshot with XML, the
same knowledge through libvirt-dbus, and a service that does nothing but send the same bytes.

Usage: bridge.py CLIENT BARE VIREO-SIM [--real]     (--real: without the simulated ones)
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from rig import Broker, Simulation, median, resident, say
from kit import guests, libvirtd, scope, vireod
from kit.bus import Bus
from kit.loop import wait_for

CLIENT, BARE, SIM = sys.argv[1:4]
DOMAINS = int(os.environ.get('VIREO_BENCH_DOMAINS', '1000'))
SIM_DOMAINS = int(os.environ.get('VIREO_BENCH_SIM_DOMAINS', '10000'))


# What an ordinary guest has; of a bare one libvirt says 1.5 KiB, of this 4
DEVICES = '''
<disk type='file' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk>
<serial type='pty'/><console type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<input type='mouse' bus='ps2'/><graphics type='vnc' autoport='yes' listen='127.0.0.1'/><video><model type='vga'/></video>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>'''


def client(*arguments):
    out = subprocess.run([CLIENT, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)


def paired(one, other, rounds=9):
    """Measure two things in turn, because a machine's speed drifts; return the median of each and of the ratios."""
    pairs = [(median(client(*one)['ms']), median(client(*other)['ms'])) for _ in range(rounds)]
    return median([a for a, _ in pairs]), median([b for _, b in pairs]), median([a / b for a, b in pairs])


def switches(pid):
    """Voluntary context switches of each thread: how often it woke up and went to sleep again."""
    found = {}
    for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
        for line in (task / 'status').read_text().splitlines():
            if line.startswith('voluntary_ctxt_switches:'):
                found[task.name] = int(line.split()[1])
    return found


def idle_wake_ups(pid):
    """Count the wake-ups in 20 s: this is a measurement of how little happens in a time, so here we do sleep."""
    before = switches(pid)
    time.sleep(20)
    after = switches(pid)
    return sum(after[t] - before.get(t, 0) for t in after)


def xml_bytes(bus):
    plain, full = client(bus.address, 'snapshot'), client(bus.address, 'snapshot', 'xml')
    return plain, full


def simulated_memory(where, bus, n):
    simulation = Simulation(where, SIM, n)
    broker = Broker(where, bus, simulation.uri)
    broker.wait_domains(n)
    memory = resident(broker.pid)
    broker.stop()
    simulation.stop()
    return memory


def simulated(where):
    print(f'{SIM_DOMAINS} simulated domains, in a process of their own')
    bus = Bus(where)
    nothing = simulated_memory(where, bus, 0)
    twice = simulated_memory(where, bus, 2 * SIM_DOMAINS)
    broker = Broker(where, bus, Simulation(where, SIM, SIM_DOMAINS).uri)
    say('start to name on the bus', f'{broker.start:.0f} ms')
    broker.wait_domains(SIM_DOMAINS)
    pid = broker.process.pid
    memory = resident(pid)
    plain, full = xml_bytes(bus)
    say('GetSnapshot', f'{median(plain["ms"]):.1f} ms, {plain["values"]} values')
    say('GetSnapshot with XML', f'{median(full["ms"]):.1f} ms, {full["bytes"] >> 10} KiB')
    xml = (full['bytes'] - plain['bytes']) / SIM_DOMAINS
    say('resident memory: without any domain; with all; with twice as many',
        f'{nothing >> 20} MiB; {memory >> 20} MiB; {twice >> 20} MiB')
    each = (twice - memory) / SIM_DOMAINS
    say('of which each domain needs, besides its XML',
        f'{(each - xml) / 1024:.2f} KiB (and {xml / 1024:.2f} KiB of XML)')
    say('and what does not grow with them: caches, newest events', f'{(memory - nothing - each * SIM_DOMAINS) / 2**20:.1f} MiB')
    say('wake-ups of all threads in 20 idle seconds', idle_wake_ups(pid))
    broker.stop()


def real(where):
    for why in (libvirtd.missing(), guests.missing()):
        if why:
            print(f'libvirt: left out: {why}')
            return
    print(f'{DOMAINS} libvirt domains')
    daemon = libvirtd.Libvirtd(where)
    commands = []
    for i in range(DOMAINS):
        path = where.directory('xml') / f'{i}.xml'
        path.write_text(guests.domain_xml(f'bench-{i}', disk=f'/var/lib/libvirt/images/{i}.img',
                                          extra_devices=DEVICES))
        commands.append(f'define {path}')
    # libvirtd looks at each QEMU once after an update, for a second or more, and keeps what it found on disk: not ours
    daemon.virsh.script([*commands, 'capabilities', 'version'], limit=600)
    bus = Bus(where)
    empty = Broker(where, bus, libvirtd.Libvirtd(where, name='vireo-empty').uri)
    nothing = resident(empty.pid)
    empty.stop()
    pairs = []
    for i in range(5):
        if i > 0:
            broker.stop()
        loop = median(client(daemon.uri, 'loop')['ms'])
        # each time with an empty state: nothing is known from before
        broker = Broker(where, bus, daemon.uri, state=f'start-{i}')
        pairs.append((broker.start, loop))
    say('the plain sequential loop over libvirt (list, then 6 calls a domain)', f'{median([b for _, b in pairs]):.0f} ms')
    say('vireod: start to name on the bus, everything listed',
        f'{median([a for a, _ in pairs]):.0f} ms, {median([a / b for a, b in pairs]):.2f} times that')
    broker.wait_domains(DOMAINS)
    memory = resident(broker.pid)
    plain, full = xml_bytes(bus)
    xml = full['bytes'] - plain['bytes']
    say('vireod: resident memory: without any domain; with all',
        f'{nothing >> 20} MiB; {memory >> 20} MiB: {(memory - nothing - xml) / DOMAINS / 1024:.2f} KiB a domain besides its XML, '
        'with what does not grow')
    bare = where.spawn([BARE, bus.address, str(DOMAINS), str(full['bytes'] // DOMAINS)], stdout=subprocess.PIPE)
    assert bare.stdout.readline() == b'ready\n'
    ours, alone, ratio = paired((bus.address, 'snapshot', 'xml'), (bus.address, 'bare'))
    say('vireod: GetSnapshot with XML', f'{ours:.1f} ms, {full["bytes"] >> 10} KiB, of which {xml >> 10} are XML')
    say('a bare service: the same bytes as a(oss)', f'{alone:.1f} ms')
    say('GetSnapshot against the bare service', f'{ratio:.2f} times its time')
    bare.terminate()
    broker.stop()
    if not shutil.which('libvirt-dbus') and not pathlib.Path('/usr/sbin/libvirt-dbus').exists():
        print('  libvirt-dbus is not installed: left out')
        return
    other = Bus(where)
    executable = shutil.which('libvirt-dbus') or '/usr/sbin/libvirt-dbus'
    # it knows fixed URIs only, so it has to see this libvirtd where the system's would be
    daemon.run(f'DBUS_SESSION_BUS_ADDRESS={other.address} exec setsid {executable} --session >/dev/null 2>&1 &')
    watcher = vireod.Client(other)
    wait_for(lambda: watcher.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'NameHasOwner', '(s)', 'org.libvirt',
                                  name='org.freedesktop.DBus'), 60, 'libvirt-dbus', poll=0.1)
    theirs = median(client(other.address, 'libvirt-dbus', '/org/libvirt/QEMU')['ms'])
    say('libvirt-dbus: GetAll, GetXMLDesc, GetState, 40 domains at once', f'{theirs:.0f} ms')
    say('vireod against libvirt-dbus', f'{theirs / ours:.0f} times as fast')


def main():
    if "--real" in sys.argv:
        with scope.Scope() as where:
            real(where)
        return
    with scope.Scope() as where:
        simulated(where)
    with scope.Scope() as where:
        real(where)


if __name__ == '__main__':
    main()
