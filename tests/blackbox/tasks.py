# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Many clients in one program: coroutines on GLib's main loop.

Whatever a coroutine awaits has a limit and a name, so that nothing waits for ever and one can read for what.
"""

import json
import socket

from gi.repository import Gio, GLib

from kit.loop import PATIENCE, TimedOut

ERROR = 'org.vireo1.Error.'


class Lost(Exception):
    """The broker that was asked, or the bus, is gone."""


class Refusal(Exception):
    """The broker answered by a named error of its own."""

    def __init__(self, name, message):
        super().__init__(f'{name}: {message}')
        self.name = name.rsplit('.', 1)[1]
        self.message = message


class Task:
    """A coroutine that runs."""

    def __init__(self, name, coroutine):
        self.name = name
        self.over = False
        self.error = None
        self.waits = None  # for what
        self._coroutine = coroutine
        self._step(None, None)

    def _step(self, value, error):
        while True:
            self.waits = None
            try:
                wait = self._coroutine.throw(error) if error else self._coroutine.send(value)
            except StopIteration:
                self.over = True
                return
            except Exception as failure:  # pylint: disable=broad-except
                self.over, self.error = True, failure
                return
            self.waits = wait.what
            if not wait.begin(self._step):
                return
            value, error = wait.value, wait.error


class Wait:
    """Something to be awaited. What it stands for calls finish()."""

    def __init__(self, what, limit):
        self.what = what
        self.value = self.error = None
        self._limit = limit * PATIENCE
        self._timer = 0
        self._wake = None
        self.over = False

    def __await__(self):
        return (yield self)

    def begin(self, wake):
        """Start it. Return True when it is over already."""
        self._timer = GLib.timeout_add(int(self._limit * 1000), self._too_late)
        self.start()
        if not self.over:
            self._wake = wake
        return self.over

    def start(self):
        """Overridden: arrange for finish()."""

    def stop(self):
        """Overridden: undo that."""

    def finish(self, value=None, error=None):
        if self.over:
            return
        self.over = True
        if self._timer:
            GLib.source_remove(self._timer)
        self.stop()
        self.value, self.error = value, error
        if self._wake:
            self._wake(value, error)

    def _too_late(self):
        self._timer = 0
        self.finish(error=TimedOut(f'not within {self._limit:g} s: {self.what}'))
        return False


class Call(Wait):
    """A call of a method: its results as a tuple, with the descriptors that came along."""

    def __init__(self, connection, destination, path, interface, method, arguments, limit=30):
        super().__init__(f'the answer to {method}{arguments}'[:200], limit + 5)
        self._connection, self._destination = connection, destination
        self._address = path, interface, method
        self._arguments = arguments
        self._timeout = int(limit * PATIENCE * 1000)

    def start(self):
        # by its unique name: who answers is who was meant, and nobody is started
        self._connection.call_with_unix_fd_list(
            self._destination, *self._address, self._arguments, None, Gio.DBusCallFlags.NO_AUTO_START, self._timeout, None,
            None, self._answered)

    def _answered(self, connection, result):
        try:
            reply, descriptors = connection.call_with_unix_fd_list_finish(result)
        except GLib.Error as error:
            remote = Gio.DBusError.get_remote_error(error)
            if remote in LOST or error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CLOSED):
                self.finish(error=Lost(f'{self.what}: {error.message}'))
            elif remote:
                self.finish(error=Refusal(remote, error.message.removeprefix(f'GDBus.Error:{remote}: ')))
            else:
                self.finish(error=TimedOut(f'{self.what}: {error.message}'))
            return
        self.finish((reply.unpack(), descriptors.steal_fds() if descriptors else []))


LOST = {'org.freedesktop.DBus.Error.' + name for name in ('NoReply', 'ServiceUnknown', 'NameHasNoOwner', 'Disconnected')}


class Bell:
    """Rung whenever something that somebody may wait for has happened."""

    def __init__(self):
        self._waits = []

    def ring(self):
        for wait in list(self._waits):
            wait.look()

    def until(self, predicate, what, limit=60):
        """Await this until a predicate is true; it is looked at whenever the bell rings."""
        return Until(self._waits, predicate, what, limit)


class Until(Wait):
    def __init__(self, waits, predicate, what, limit):
        super().__init__(what, limit)
        self._waits, self._predicate = waits, predicate

    def start(self):
        self._waits.append(self)
        self.look()

    def stop(self):
        self._waits.remove(self)

    def look(self):
        if self.over:
            return
        value = self._predicate()
        if value:
            self.finish(value)


class Readable(Wait):
    """A descriptor has something to read, or its other end is gone."""

    def __init__(self, fd, what, limit):
        super().__init__(what, limit)
        self._fd, self._source = fd, 0

    def start(self):
        self._source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, self._fd, GLib.IOCondition.IN | GLib.IOCondition.HUP,
                                             lambda *_: (self.finish(), False)[1])

    def stop(self):
        GLib.source_remove(self._source)


class Lines:
    """Lines from a socket."""

    def __init__(self, sock):
        self.socket = sock
        self.socket.setblocking(False)
        self.most = 1 << 16  # bytes taken at a time
        self._rest = b''
        self._lines = []

    async def next(self, what, limit=30):
        """Return the next line, parsed; None at the end."""
        while not self._lines:
            await Readable(self.socket.fileno(), what, limit)
            try:
                data = self.socket.recv(self.most)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return None
            if not data:
                return None
            *lines, self._rest = (self._rest + data).split(b'\n')
            self._lines = lines[::-1]
        return json.loads(self._lines.pop().decode('utf-8'))

    def close(self):
        self.socket.close()


class Asker:
    """A conversation over a socket: a JSON line there, a JSON line back."""

    def __init__(self, path):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(path))
        self._lines = Lines(sock)

    async def ask(self, question, limit=60):
        text = json.dumps(question)
        self._lines.socket.setblocking(True)
        self._lines.socket.sendall(text.encode() + b'\n')
        self._lines.socket.setblocking(False)
        answer = await self._lines.next(f'the answer to {text[:200]}', limit)
        assert answer is not None and answer.get('ok'), f'{text}: {answer}'
        return answer.get('answer')
