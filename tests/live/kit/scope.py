# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes and directories that can't outlive the test that made them."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _in_child():
    """Run in a new child: leave with the parent, even when that gets killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Scope:
    """Owns whatever a test starts. Leaving it ends all of that, newest first."""

    def __init__(self):
        self._stack = contextlib.ExitStack()
        self._directory = None

    def __enter__(self):
        # A test that is told to end (by meson's timeout, say) still has to clean up
        signal.signal(signal.SIGTERM, _raise_exit)
        signal.signal(signal.SIGHUP, _raise_exit)
        return self

    def __exit__(self, *exc):
        return self._stack.__exit__(*exc)

    def defer(self, function, *args):
        """Call function(*args) at the end."""
        self._stack.callback(function, *args)

    def directory(self, name=''):
        """Return a directory of this test, which goes with it. Short: socket paths have 107 bytes."""
        if self._directory is None:
            self._directory = pathlib.Path(tempfile.mkdtemp(prefix='vireo-'))
            # removed last, when nobody writes to it any more
            self._stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        path = self._directory / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def spawn(self, argv, **options):
        """Start a process that is ended with the scope, with everything in its process group."""
        options.setdefault('stdin', subprocess.DEVNULL)
        process = subprocess.Popen([os.fspath(a) for a in argv], start_new_session=True, preexec_fn=_in_child,
                                   **options)
        self.defer(end, process)
        return process


def _raise_exit(number, _frame):
    raise SystemExit(128 + number)


def end(process, patience=5):
    """End a process started by Scope.spawn(): politely, then not. The rest of its group goes with it."""
    if process.stdin is not None:
        # who reads commands ends by itself when there are no more
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            # a stopped process would not hear SIGTERM
            os.killpg(process.pid, signal.SIGCONT)
            process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
