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


def main(test):
    facts = '--facts' in sys.argv
    wanted = [a for a in sys.argv[1:] if not a.startswith('--')]
    libvirtd = test.libvirtd(broker=not facts)
    vireod = None if facts else test.vireod(libvirtd.uri)
    if vireod:
        vireod.wait_connected()
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
        test.judge(vireod)


if __name__ == '__main__':
    program.run(main)
