# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waiting for something to become true, woken by what happens rather than by the clock."""

import os
import time

from gi.repository import GLib

# How slow a machine may be: limits are there to end a test that hangs, not to measure
PATIENCE = float(os.environ.get('VIREO_TEST_PATIENCE', '1'))


class TimedOut(AssertionError):
    """What was waited for did not happen."""


def wait_for(predicate, limit=30, what=None, poll=None):
    """
    Run the main loop until predicate() is true; return what it returned.

    Signals, children and file descriptors wake it. `poll` (seconds) is only for what announces itself to nobody, such
    as a property that is only to be had from virsh. `what` is what the failure says (a string, or a function).
    """
    context = GLib.MainContext.default()
    deadline = time.monotonic() + limit * PATIENCE
    while True:
        result = predicate()
        if result:
            return result
        left = deadline - time.monotonic()
        if left <= 0:
            text = what() if callable(what) else what
            raise TimedOut(f'not within {limit * PATIENCE:g} s: {text or getattr(predicate, "__name__", predicate)}')
        interval = min(left, poll) if poll else left
        timer = GLib.timeout_add(max(1, int(interval * 1000)), lambda: True)
        try:
            context.iteration(True)
            # what is there already, before the predicate is asked (it may be dear); but not for ever
            for _ in range(200):
                if not context.iteration(False):
                    break
        finally:
            GLib.source_remove(timer)


def settle(quiet=0.3, limit=30, changed=None):
    """
    Run the main loop until nothing came for `quiet` seconds: only to show that something does *not* happen.

    `changed()` returns anything that compares unequal when something came.
    """
    context = GLib.MainContext.default()
    deadline = time.monotonic() + limit * PATIENCE
    last, since = changed(), time.monotonic()
    while True:
        now = time.monotonic()
        if now - since >= quiet:
            return
        if now > deadline:
            raise TimedOut(f'no {quiet} s of quiet within {limit * PATIENCE:g} s')
        timer = GLib.timeout_add(max(1, int((quiet - (now - since)) * 1000) + 1), lambda: True)
        try:
            context.iteration(True)
        finally:
            GLib.source_remove(timer)
        current = changed()
        if current != last:
            last, since = current, time.monotonic()


def wait_gone(pidfd, limit=30, what='the end of a process'):
    """Wait for the process behind a pidfd to end."""
    ended = []

    def note(*_):
        ended.append(True)
        return False
    source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, pidfd, GLib.IOCondition.IN, note)
    try:
        wait_for(lambda: ended, limit, what)
    finally:
        if not ended:
            GLib.source_remove(source)


def wait_exit(process, limit=30):
    """Wait for a subprocess to end; return its status."""
    if process.poll() is None:
        fd = os.pidfd_open(process.pid)
        try:
            wait_gone(fd, limit, f'the end of {process.args[0]}')
        finally:
            os.close(fd)
    return process.wait()
