#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""conformance.py PROGRAM: what holds for every driver, of those that speak QMP, with real QEMU. Nothing may be left behind."""

import re
import subprocess
import sys

import qemukit
from qemukit import Outside, Qemu, qemus_of

from kit import guests, program


def conformance(test, *arguments):
    done = subprocess.run([sys.argv[1], *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=280, check=False)
    test.check(done.returncode == 0, f'conformance {arguments}: {done.returncode}\n{done.stdout}')
    print(f'{arguments[0]}: {" ".join(re.findall("PASSED.*|[0-9]+ observations.*|storm of.*", done.stdout))}')


def main(test):
    program.needs(qemukit.missing)
    directory = test.scope.directory('domains')
    for kind in ['kvm'] * guests.kvm() + ['qemu']:
        with test.case(f'vireo, {kind}'):
            conformance(test, f'vireo://{directory}', kind)
            # what its last run left in the directory of a domain that is no more goes when the next one opens it
            test.equal([f.name for f in directory.iterdir() if (f / 'domain.xml').exists()], [], 'left behind')
            test.equal(qemus_of(directory), [], 'processes left behind')

    with test.case('qmp'):
        directory = test.scope.directory('monitors')
        for i in range(3):
            qemu = Qemu(test.scope, directory, f'{i}.qmp', name=f'domain-{i}', paused=i == 2)
            Outside(qemu.outside_path).close()
        conformance(test, f'qmp://{directory}')


program.run(main)
