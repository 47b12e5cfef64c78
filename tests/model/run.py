#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Check watch.pml with SPIN: the protocol holds, and without any one of its rules it does not.

Usage: run.py watch.pml
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HOLDS = {
    'signals': [],
    'signals, filtered': ['FILTERED=1'],
    'stream or GetEvents': ['STREAM=1'],
    'stream, filtered': ['STREAM=1', 'FILTERED=1'],
    'signals, two held back, no crash': ['DROPS=2', 'RESTARTS=0', 'LOSSES=0', 'CHANGES=4'],
}
# Each takes one rule away; the search must then find a client that is wrong for good.
BREAKS = {
    'versions are not compared': ['VERSIONS=0'],
    'snapshot first, subscription second': ['SUBSCRIBE_FIRST=0'],
    'the epoch is not compared': ['EPOCH=0'],
    'a cursor that history no longer reaches is not refused': ['OLDEST=0'],
    'the client takes the highest version it heard for completeness': ['GAPS=0'],
}


def check(model, switches):
    """Return (errors, states) of an exhaustive search."""
    with tempfile.TemporaryDirectory() as where:
        shutil.copy(model, where)
        defines = ['-D' + s for s in switches]
        subprocess.run(['spin', '-a', *defines, os.path.basename(model)], cwd=where, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(['cc', '-O2', '-w', '-DSAFETY', '-DVECTORSZ=2048', '-o', 'pan', 'pan.c'], cwd=where, check=True)
        # -E: both processes wait for ever in the end, and that is right
        out = subprocess.run(['./pan', '-E', '-m2000000'], cwd=where, check=False, capture_output=True, text=True).stdout
    errors = re.search(r'errors: (\d+)', out)
    states = re.search(r'(\d+) states, stored', out)
    if not errors or not states or 'max search depth too small' in out:
        sys.exit(f'the search did not run to its end:\n{out}')
    return int(errors.group(1)), int(states.group(1)), out


def main():
    if not shutil.which('spin'):
        print('skipped: spin is not installed')
        return 77
    failed = 0
    for name, switches in HOLDS.items():
        errors, states, out = check(sys.argv[1], switches)
        complete = 'Search not completed' not in out
        good = errors == 0 and complete
        failed += not good
        print(f'{"ok" if good else "FAILED"}: {name}: holds in all of {states} states')
        if not good:
            print(out)
    for name, switches in BREAKS.items():
        errors, states, _ = check(sys.argv[1], switches)
        failed += errors == 0
        print(f'{"ok" if errors else "FAILED"}: {name}: {"found after " + str(states) + " states" if errors else "not noticed"}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
