# SPDX-License-Identifier: LGPL-2.1-or-later
"""What makes a test program of a function: checks, skips, a verdict."""

import contextlib
import sys
import time
import traceback

from . import guests, libvirtd, vireod
from .bus import Bus
from .grammar import judge_broker
from .scope import Scope
from .vireod import Vireod

SKIP = 77


class Skip(Exception):
    """This test can't run here; says why."""


def needs(*reasons):
    """Skip unless all of these functions answer None."""
    for reason in reasons:
        text = reason()
        if text:
            raise Skip(text)


def needs_vireod():
    path = vireod.executable()
    return None if path.exists() else f'{path} is not built'


class Test:
    """Hands out what a test is made of, and counts what failed."""

    def __init__(self, scope):
        self.scope = scope
        self.failures = []
        self._vireods = []

    def check(self, condition, text):
        if not condition:
            self.fail(text)
        return condition

    def equal(self, got, wanted, text):
        return self.check(got == wanted, f'{text}:\n    got    {got}\n    wanted {wanted}')

    def fail(self, text):
        self.failures.append(text)
        print(f'  FAILED: {text}')

    @contextlib.contextmanager
    def case(self, name):
        """One named part of the test: its failure does not keep the next from being tried."""
        before, began = len(self.failures), time.monotonic()
        try:
            yield
        except Skip as skip:
            print(f'skipped {name}: {skip}')
            return
        except Exception as error:  # pylint: disable=broad-except
            self.fail(f'{type(error).__name__}: {error}')
            if not isinstance(error, AssertionError):
                traceback.print_exc(file=sys.stdout)
        good = len(self.failures) == before
        print(f'{"ok" if good else "NOT OK"} {name} ({time.monotonic() - began:.1f} s)')

    # Fixtures

    def libvirtd(self, name='vireo-one', broker=True, **options):
        """Start a private libvirtd, or skip; with `broker`, only when there is a vireod to talk to it."""
        needs(libvirtd.missing, guests.missing, *([needs_vireod] if broker else []))
        daemon = libvirtd.Libvirtd(self.scope, name, **options)
        if not guests.kvm():
            print('no /dev/kvm here: the guests run by TCG')
        return daemon

    def vireod(self, *connections, bus=None, **options):
        """Start a vireod on a private bus, or skip."""
        needs(needs_vireod)
        daemon = Vireod(self.scope, bus or Bus(self.scope), *connections, **options)
        self._vireods.append(daemon)
        return daemon

    def judge(self, daemon, what='the story'):
        """Check that all that this vireod ever said is legal, is in history, and adds up to what a snapshot says."""
        story = judge_broker(daemon, daemon.recorder)
        for violation in story.violations[:50]:
            print(f'    {violation}')
        self.check(not story.violations, f'{what}: {len(story.violations)} violations in {story.events} events')
        self.check(story.events, f'{what}: there were no events at all')
        print(f'{what}: {story.events} events, {len(daemon.recorder.events)} said, {len(story.violations)} violations')
        return story

    def print_logs(self):
        for daemon in self._vireods:
            lines = daemon.log().splitlines()
            if daemon.process is not None and not daemon.alive():
                print(f'-- vireod ended with {daemon.process.returncode}')
            print(f'-- the last of {len(lines)} lines of vireod\'s log:')
            print('\n'.join(lines[-40:]))


def run(function):
    """Run function(test) as a program: exit status 0, 1, or 77 with a reason."""
    sys.stdout.reconfigure(line_buffering=True)
    status = 1
    with Scope() as scope:
        test = Test(scope)
        try:
            function(test)
            status = 1 if test.failures else 0
        except Skip as skip:
            print(f'SKIP: {skip}')
            status = 1 if test.failures else SKIP
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc(file=sys.stdout)
            test.failures.append('an exception')
        if status == 1:
            test.print_logs()
            print(f'{len(test.failures)} failed')
    sys.exit(status)
