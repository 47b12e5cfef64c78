#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command under the system call filter of a unit, as systemd would set it up: UNIT COMMAND…"""

import errno
import os
import pathlib
import subprocess
import sys

import seccomp


def group(name):
    """Return the system calls of a group of systemd's, or the one."""
    if not name.startswith('@'):
        return {name}
    text = subprocess.run(['systemd-analyze', 'syscall-filter', '--no-pager', name], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, check=True, text=True).stdout
    calls = set()
    for line in text.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith('#'):
            calls |= group(word)
    return calls


def main():
    allowed = set()
    for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
        if line.startswith('SystemCallFilter='):
            value = line.partition('=')[2]
            named = set().union(*(group(n) for n in value.lstrip('~').split()))
            # what systemd lets through in any case, to begin the command at all
            allowed = allowed - named if value.startswith('~') else allowed | named | group('@default') | {'execve'}
    assert len(allowed) > 200, 'the unit has no filter'
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in sorted(allowed):
        try:
            rules.add_rule(seccomp.ALLOW, name)
        except RuntimeError:
            pass  # not of this machine's architecture
    rules.load()
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == '__main__':
    main()
