#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sum up the test runs of meson: what failed, why what was skipped, and one last line of three numbers."""

import json
import pathlib
import re
import sys

PASSED = {'OK', 'EXPECTEDFAIL'}
SKIPPED = {'SKIP', 'IGNORED'}


def reason(entry):
    """Return the last line that a skipped test printed: it says why."""
    for stream in ('stdout', 'stderr'):
        lines = [line.strip() for line in (entry.get(stream) or '').splitlines() if line.strip()]
        for line in reversed(lines):
            if line.lower().startswith('skip'):
                return line
        if lines:
            return lines[-1]
    return 'no reason given'


def parts(entry):
    """Return the lines by which a test that passed says that it left a part of itself out, and why."""
    lines = [line.strip() for stream in ('stdout', 'stderr') for line in (entry.get(stream) or '').splitlines()]
    return [line for line in lines if line.startswith('skipped ') or re.search(r" \.\.\. skipped ['\"]", line)]


def main(logs):
    passed = failed = skipped = 0
    for log in map(pathlib.Path, logs):
        build = log.parent.parent.name
        try:
            entries = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            # A run that left no readable log must never look like a run without failures
            print(f'FAILED   {build}: no readable test log: {error}')
            failed += 1
            continue
        if not entries:
            print(f'FAILED   {build}: no test ran')
            failed += 1
        for entry in entries:
            name = f'{build}: {entry["name"]}'
            if entry['result'] in PASSED:
                passed += 1
                for part in parts(entry):
                    skipped += 1
                    print(f'skipped  {name}: {part}')
            elif entry['result'] in SKIPPED:
                skipped += 1
                print(f'skipped  {name}: {reason(entry)}')
            else:
                failed += 1
                print(f'FAILED   {name}: {entry["result"].lower()}')
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
