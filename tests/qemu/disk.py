#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
disk.py LIBRARY: a disk that hangs holds up what is done on it, and nothing else. Nothing is synced, renamed or listed as long as
a file exists; meanwhile calls, other domains and the bus go on, and when it is gone, everything comes to its end.
"""

import sys
import time

import qemukit
from house import House, job_state, wait_job
from images import image
from qemukit import story_of

from kit import program
from kit.loop import wait_for
from gi.repository import GLib

ASYNC = {'async': GLib.Variant('b', True)}


def main(test):
    program.needs(qemukit.missing)
    hang = test.scope.directory() / 'hangs'
    house = House(test, environment={'LD_PRELOAD': sys.argv[1], 'VIREO_TEST_HANG': str(hang)})
    vireod, connection = house.vireod, house.connection
    images = test.scope.directory('pool')
    image(images / 'there.qcow2', 1 << 20)

    def call(path, kind, method, signature, *arguments):
        return vireod.call(path, f'org.vireo1.{kind}', method, signature, *arguments, limit=20)

    pool = call(connection, 'Connection', 'DefinePool', '(sa{sv})',
                f"<pool type='dir'><name>images</name><target><path>{images}</path></target></pool>", {})[0]

    def goes_on(what):
        """The bus is served, and at once: a loop that waits for this disk would never answer."""
        slowest = 0
        for _ in range(20):
            began = time.monotonic()
            vireod.call('/org/vireo1', 'org.freedesktop.DBus.Peer', 'Ping', limit=10)
            slowest = max(slowest, time.monotonic() - began)
        print(f'{what}: the slowest Ping took {slowest * 1000:.1f} ms')
        test.check(slowest < 2, f'{what}: a Ping took {slowest} s')

    other = house.define(house.xml('other'))
    house(other, 'SetAutostart', True)
    house(other, 'SetAutostart', False)

    # what is begun while the disk hangs: the object of its job, and how
    cases = {
        'define': lambda: call(connection, 'Connection', 'DefineDomain', '(sa{sv})', house.xml('new'), ASYNC),
        'autostart': lambda: house(other, 'SetAutostart', True, **ASYNC),
        'rename': lambda: house(other, 'Rename', 'another', **ASYNC),
        'undefine': lambda: house(other, 'Undefine', **ASYNC),
        'pool start': lambda: call(pool, 'StoragePool', 'Start', '(a{sv})', ASYNC),
        'pool refresh': lambda: call(pool, 'StoragePool', 'Refresh', '(a{sv})', ASYNC),
        'pool autostart': lambda: call(pool, 'StoragePool', 'SetAutostart', '(ba{sv})', True, ASYNC),
        'make a volume': lambda: call(pool, 'StoragePool', 'CreateVolume', '(sa{sv})',
                                      "<volume><name>made</name><capacity unit='MiB'>1</capacity></volume>", ASYNC),
        'delete a volume': lambda: call(pool, 'StoragePool', 'DeleteVolume', '(sa{sv})', 'made', ASYNC),
        'pool stop': lambda: call(pool, 'StoragePool', 'Stop', '(a{sv})', ASYNC),
        'pool undefine': lambda: call(pool, 'StoragePool', 'Undefine', '(a{sv})', ASYNC),
    }
    running = house.define(house.xml('running'))
    house(running, 'Start')

    def running_jobs():
        return [path for path, (kind, p) in vireod.snapshot(kinds=GLib.Variant('as', ['job']))[2].items()
                if p['State'] == 'running']

    for name, begin in cases.items():
        with test.case(name):
            hang.touch()
            begin()
            jobs = running_jobs()
            test.equal(len(jobs), 1, 'it waits for the disk')
            goes_on(name)
            # somebody else's domain lives on
            house(running, 'Suspend')
            house(running, 'Resume')
            test.equal(job_state(house, jobs[0]), 'running', 'it waits still')
            hang.unlink()
            test.equal(wait_job(house, jobs[0]), 'completed', 'how it ended')

    with test.case('a listing of volumes that nobody waits for'):
        pool = call(connection, 'Connection', 'CreatePool', '(sa{sv})',
                    f"<pool type='dir'><name>again</name><target><path>{images}</path></target></pool>", {})[0]
        hang.touch()
        answers = []
        client = vireod.connection
        client.call('org.vireo1', pool, 'org.vireo1.StoragePool', 'ListVolumes', GLib.Variant('(a{sv})', ({},)), None, 0, 60000,
                    None, lambda c, result: answers.append(c.call_finish(result).unpack()))
        goes_on('list')
        test.equal(answers, [], 'not yet')
        hang.unlink()
        wait_for(lambda: answers, 30, 'the answer', poll=0.05)
        test.equal([v[0] for v in answers[0][0]], ['there.qcow2'], 'what there is')
        call(pool, 'StoragePool', 'Stop', '(a{sv})', {})

    with test.case('the broker is killed while the disk hangs'):
        hang.touch()
        call(connection, 'Connection', 'DefineDomain', '(sa{sv})', house.xml('lost'), ASYNC)
        house(running, 'SetAutostart', True, **ASYNC)
        vireod.kill()
        hang.unlink()
        vireod.start()
        house.restarted()
        known = house.domains()
        test.check(set(known) in ({'new', 'running'}, {'new', 'running', 'lost'}), f'what there is: {sorted(known)}')
        test.equal(known['running']['State'], 'running', 'it runs on')
        house(running, 'Destroy')
        house(running, 'Undefine')

    with test.case('the broker ends while the disk hangs'):
        hang.touch()
        call(connection, 'Connection', 'DefineDomain', '(sa{sv})', house.xml('late'), ASYNC)
        vireod.stop()
        hang.unlink()
        vireod.start()
        house.restarted()
        test.check('new' in house.domains(), 'what was there before is there')
    test.equal(story_of(house.recorder, other)[:2], ['Added', 'Defined(added)'], 'the story')
    test.judge(vireod)
    house.finish()


program.run(main)
