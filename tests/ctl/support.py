# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of vireoctl share: a broker on a private bus, a quiet simulated house, and running the tool."""

import json
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'live'))

from kit.bus import Bus  # noqa: E402
from kit.loop import PATIENCE, wait_for  # noqa: E402,F401
from kit.scope import Scope  # noqa: E402
from kit.vireod import BusError, Vireod, executable  # noqa: E402,F401

VIREOCTL = os.environ.get('VIREOCTL', str(ROOT / 'build' / 'ctl' / 'vireoctl'))
UUID = '5f2a3c1e-0000-4000-8000-0000000000'

# exit status, as in vireoctl(1)
FAILED, USAGE, NOT_FOUND, AMBIGUOUS, DENIED, STATE, NO_BROKER, DISCONNECTED, HISTORY, NOT_SUPPORTED, CANCELLED = range(1, 12)
LEFT_RUNNING = 130

SCENARIO = {
    'hostname': 'house.example', 'version': '1.0.0', 'seed': 1,
    'domains': [
        {'name': 'web', 'uuid': UUID + '01', 'state': 'running', 'autostart': True, 'memory': 2 << 30, 'vcpus': 2,
         'title': 'The web server'},
        {'name': 'db', 'uuid': UUID + '02', 'state': 'running', 'memory': 3 << 29, 'vcpus': 4},
        {'name': 'build', 'uuid': UUID + '03', 'memory': 4 << 30, 'vcpus': 8},
        {'name': 'old desktop', 'uuid': UUID + '04', 'state': 'paused', 'reason': 'user'},
        {'name': 'slow', 'uuid': UUID + '05'},
        {'name': 'a/b', 'uuid': UUID + '06'},
        {'name': 'evil\x1b[31m\nname', 'uuid': UUID + '07'},
        {'name': '日本語', 'uuid': UUID + '08', 'state': 'running'},
        {'name': 'default', 'uuid': UUID + '09'},
    ],
    'pools': [
        {'name': 'images', 'uuid': UUID + '11', 'active': True, 'capacity': 500 << 30, 'allocation': 0, 'volumes': [
            {'name': 'web.qcow2', 'format': 'qcow2', 'capacity': 20 << 30, 'allocation': 3 << 30},
            {'name': 'db.raw', 'format': 'raw', 'capacity': 100 << 30, 'allocation': 60 << 30}]},
        {'name': 'backup', 'uuid': UUID + '12', 'type': 'netfs'},
    ],
    'networks': [{'name': 'default', 'uuid': UUID + '21', 'active': True, 'bridge': 'virbr0'}],
}


def has_libvirt():
    """Whether the vireod under test has the libvirt driver."""
    out = subprocess.run([executable(), '--list-drivers'], capture_output=True, text=True, check=True).stdout
    return any(line.startswith('libvirt:') for line in out.splitlines())


class Result:
    """What the tool did."""

    def __init__(self, status, out, err=''):
        self.status = status
        self.out = out
        self.err = err

    @property
    def lines(self):
        return self.out.splitlines()

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def json_lines(self):
        return [json.loads(line) for line in self.lines]

    def __repr__(self):
        return f'status {self.status}\n--- out\n{self.out}\n--- err\n{self.err}'


class House(unittest.TestCase):
    """One broker for all tests of the class."""

    OPERATIONS = {}
    # a second hypervisor, where names are there twice
    CONNECT = ()
    CONFIG = ''

    @classmethod
    def setUpClass(cls):
        if any('test:///' in uri for uri in cls.CONNECT) and not has_libvirt():
            raise unittest.SkipTest('this vireod was built without libvirt')
        cls.scope = Scope()
        cls.scope.__enter__()
        cls.addClassCleanup(cls.scope.__exit__, None, None, None)
        cls.bus = Bus(cls.scope)
        scenario = cls.scope.directory() / 'house.json'
        scenario.write_text(json.dumps({**SCENARIO, 'operations': cls.OPERATIONS}))
        config = cls.scope.directory() / 'vireo.conf'
        config.write_text(cls.CONFIG)
        cls.vireod = Vireod(cls.scope, cls.bus, f'house=sim:{scenario}', *cls.CONNECT, arguments=[f'--config={config}'])
        for path in cls.vireod.get('/org/vireo1', 'Manager', 'Connections'):
            cls.vireod.wait_connected(path=path)
        cls.vireod.sync()

    @classmethod
    def tearDownClass(cls):
        status = cls.vireod.stop()
        assert status == 0, f'vireod ended with {status}:\n{cls.vireod.log()}'

    @classmethod
    def environment(cls, **more):
        env = {k: v for k, v in os.environ.items()
               if k not in ('NO_COLOR', 'SYSTEMD_COLORS', 'PAGER', 'SYSTEMD_PAGER', 'COLUMNS', 'VIREO_BUS', 'TERM')}
        return {**env, 'LC_ALL': 'C.UTF-8', 'TZ': 'UTC', **more}

    def ctl(self, *arguments, status=0, stdin=None, bus=True, **env):
        """Run vireoctl to its end; check how it ended."""
        address = [f'--address={self.bus.address}'] if bus else []
        done = subprocess.run([VIREOCTL, *address, *arguments], input=stdin, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=self.environment(**env), timeout=60 * PATIENCE, check=False,
                              **({} if stdin is not None else {'stdin': subprocess.DEVNULL}),
                              **({'encoding': 'utf-8'}))
        result = Result(done.returncode, done.stdout, done.stderr)
        if status is not None:
            self.assertEqual(result.status, status, f'{arguments}: {result}')
        if status:
            # every failure says why, and nothing else
            self.assertTrue(result.err.startswith('vireoctl: '), result)
        return result

    def version(self):
        return self.vireod.get('/org/vireo1', 'Manager', 'Version')

    def epoch(self):
        return self.vireod.get('/org/vireo1', 'Manager', 'Epoch')

    def state(self, name):
        return self.vireod.get(self.vireod.lookup(name), 'Domain', 'State')

    def started(self, *arguments, **env):
        """Start vireoctl and leave it running; its lines are to be read by line()."""
        return Running(self, [VIREOCTL, f'--address={self.bus.address}', *arguments], self.environment(**env))


class Running:
    """A vireoctl that goes on, on pipes."""

    def __init__(self, case, argv, env):
        self.process = case.scope.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        self._rest = b''

    def line(self, limit=30):
        """Return the next line of its output."""
        return _read_until(self.process.stdout.fileno(), self, lambda data: data.find(b'\n') + 1, limit).decode()[:-1]

    def until(self, text, limit=30):
        """Return lines until one that contains a text."""
        lines = []
        while not lines or text not in lines[-1]:
            lines.append(self.line(limit))
        return lines

    def end(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30 * PATIENCE)


class Terminal:
    """A vireoctl on a terminal of its own."""

    def __init__(self, case, *arguments, columns=100, rows=40, argv=None, **env):
        import fcntl
        import struct
        import termios
        self._rest = b''
        self.seen = ''
        self.fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

        def controlling():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        env = case.environment(TERM='xterm-256color', **env)
        self.process = subprocess.Popen(argv or [VIREOCTL, f'--address={case.bus.address}', *arguments], stdin=slave,
                                        stdout=slave, stderr=slave, env=env, preexec_fn=controlling)
        os.close(slave)
        case.addCleanup(self.close)

    def until(self, text, limit=30):
        """Read until a text was seen; return what was read."""
        wanted = text.encode()
        part = _read_until(self.fd, self, lambda data: data.find(wanted) + len(wanted) if wanted in data else 0, limit)
        self.seen += part.decode(errors='replace')
        return part.decode(errors='replace')

    def rest(self, limit=30):
        """Read to the end; return the exit status."""
        try:
            _read_until(self.fd, self, lambda data: 0, limit)
        except EOFError as end:
            self.seen += end.args[0].decode(errors='replace')
        return self.process.wait(limit * PATIENCE)

    def type(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.fd)


def _read_until(fd, keeper, find, limit):
    """Read a descriptor until find(data) says how much is wanted; what is beyond is kept for the next time."""
    deadline = time.monotonic() + limit * PATIENCE
    data = keeper._rest
    while True:
        n = find(data)
        if n:
            keeper._rest = data[n:]
            return data[:n]
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise AssertionError(f'not within {limit} s; there was {data!r}')
        try:
            more = os.read(fd, 65536)
        except OSError:
            more = b''
        if not more:
            keeper._rest = b''
            raise EOFError(data)
        data += more


def main():
    unittest.main(verbosity=2)
