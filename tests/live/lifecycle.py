#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Every sequence that a domain can go through, on a real libvirtd and QEMU: the broker's story has to be exactly the one
that the contract's grammar makes of it.

    lifecycle.py [--facts] [SCENARIO]...

With --facts only libvirt is asked: whether it still reports what this test takes it to.
"""

import sys

import scenarios
from kit import program, truth
from kit.vireod import BusError


class Reader:
    """P5: when an event is seen, its object can be read, and is at least as new as the event; after Removed it is gone."""

    def __init__(self, vireod):
        self.vireod = vireod
        self.reads = 0
        self.wrong = []
        vireod.recorder.watchers.append(self.seen)

    def seen(self, event):
        self.reads += 1
        try:
            version = self.vireod.get(event.path, event.kind, 'Version')
        except BusError as error:
            # it may have gone since, but then that was said, or is about to be
            if event.event != 'Removed':
                self.wrong.append((event, error))
            return
        if event.event == 'Removed' and version <= event.version:
            self.wrong.append((event, f'is still there, at {version}'))
        elif version < event.version:
            self.wrong.append((event, f'is read at {version}'))

    def judge(self, test):
        for event, what in self.wrong:
            gone = any(e.path == event.path and e.event == 'Removed' and e.version > event.version
                       for e in self.vireod.recorder.events)
            test.check(gone and isinstance(what, BusError), f'P5: {event}: {what}')
        test.check(self.reads, 'P5: nothing was read')


def main(test):
    facts = '--facts' in sys.argv
    wanted = [a for a in sys.argv[1:] if not a.startswith('--')]
    libvirtd = test.libvirtd(broker=not facts)
    vireod = None if facts else test.vireod(libvirtd.uri)
    reader = None
    if vireod:
        vireod.wait_connected()
        reader = Reader(vireod)
    events = libvirtd.virsh.events(test.scope)
    events.ready()
    for scenario in scenarios.SCENARIOS:
        name = scenario.__name__
        if wanted and name not in wanted:
            continue
        stage = scenarios.Stage(libvirtd, events, name.replace('_', '-'), vireod and vireod.recorder)
        with test.case(name):
            try:
                scenario(stage)
                stage.end()
                if vireod:
                    vireod.sync()
                    for wrong in truth.compare(libvirtd.virsh, vireod, vireod.connection_path()):
                        test.fail(wrong)
            finally:
                stage.clean()
    if vireod:
        reader.judge(test)
        test.judge(vireod)


if __name__ == '__main__':
    program.run(main)
