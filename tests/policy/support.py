# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of policy share: a system bus with a real polkitd, a vireod that runs as its own user, and callers."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / 'tests' / 'live'), str(ROOT / 'policy')]

from gi.repository import GLib  # noqa: E402

import permissions  # noqa: E402,F401
from kit import namespaces  # noqa: E402
from kit.bus import Bus  # noqa: E402
from kit.loop import settle, wait_for  # noqa: E402,F401
from kit.scope import Scope  # noqa: E402
from kit.vireod import BusError, Client, Vireod, executable  # noqa: E402

NAME, MANAGER = 'org.vireo1', '/org/vireo1'
ERROR = f'{NAME}.Error.'
DENIED = 'org.freedesktop.DBus.Error.AccessDenied'
INTERACTIVE = 'org.freedesktop.DBus.Error.InteractiveAuthorizationRequired'
PROPERTIES = 'org.freedesktop.DBus.Properties'
POLKITD = next((p for p in map(pathlib.Path, ('/usr/lib/polkit-1/polkitd', '/usr/libexec/polkitd')) if p.exists()), None)

VIREO, ALICE, BOB, CAROL = 64078, 64081, 64082, 64083
OPERATORS, WATCHERS, LIBVIRT = 64090, 64091, 64077


def missing():
    """Return why there can be no such bus here, or None."""
    if os.geteuid() != 0:
        return 'other users are played, which needs root'
    if POLKITD is None:
        return 'polkitd is not installed'
    for tool in ('dbus-daemon', 'setpriv', 'unshare'):
        if not shutil.which(tool):
            return f'{tool} is not installed'
    return namespaces.missing()


class Polkit:
    """A system bus and a real polkitd with rules of the test's own."""

    def __init__(self, scope, rules=''):
        self.scope = scope
        self.top = scope.directory('polkit')
        scope.directory().chmod(0o711)
        self.rules = scope.directory('polkit/rules.d')
        actions = scope.directory('polkit/actions')
        shipped = scope.directory('polkit/shipped')
        for directory in (self.top, self.rules, actions, shipped):
            directory.chmod(0o755)
        shutil.copy(ROOT / 'policy/org.vireo1.policy', actions)
        shutil.copy(ROOT / 'policy/org.vireo1.rules', shipped)
        (self.top / 'passwd').write_text(namespaces.account_file(
            'passwd', *(f'{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin' for name, uid in (
                ('vireo', VIREO), ('alice', ALICE), ('bob', BOB), ('carol', CAROL)))))
        groups = [line for line in namespaces.account_file('group').splitlines() if line.split(':')[0] != 'libvirt']
        (self.top / 'group').write_text('\n'.join([
            *groups, f'vireo:x:{VIREO}:', f'operators:x:{OPERATORS}:alice', f'watchers:x:{WATCHERS}:carol',
            f'libvirt:x:{LIBVIRT}:carol', f'alice:x:{ALICE}:', f'bob:x:{BOB}:', f'carol:x:{CAROL}:']) + '\n')
        for name in ('passwd', 'group'):
            (self.top / name).chmod(0o644)
        self.inside = self._inside()
        self.bus = Bus(scope, 'system', include=self._bus_policy(), prefix=self.inside)
        self.bus.directory.chmod(0o755)
        self.address = self.bus.address
        self.process = None
        self.write(rules)
        self.start()

    def _inside(self):
        """Return what runs a command where there are these users, actions and rules."""
        places = {'/etc/polkit-1/rules.d': self.rules, '/usr/share/polkit-1/rules.d': self.top / 'shipped',
                  '/usr/share/polkit-1/actions': self.top / 'actions', '/etc/passwd': self.top / 'passwd',
                  '/etc/group': self.top / 'group'}
        script = 'set -e; mount --make-rprivate /; ' + ''.join(
            f'mount --bind {what} {place}; ' for place, what in places.items()) + 'exec "$@"'
        return ['unshare', '-m', 'bash', '-c', script, 'inside']

    def _bus_policy(self):
        """One file with the policies of Vireo and of polkit."""
        both = self.top / 'both.conf'
        both.write_text(f'<busconfig><include>{ROOT}/policy/org.vireo1.conf</include><include>/usr/share/dbus-1/system.d/'
                        'org.freedesktop.PolicyKit1.conf</include></busconfig>')
        return both

    def write(self, rules, name='10-test.rules'):
        """Replace the rules, as an administrator does: polkitd notices by itself."""
        new = self.top / 'new'
        new.write_text(rules)
        new.chmod(0o644)
        os.replace(new, self.rules / name)

    def start(self):
        with (self.top / 'polkitd.log').open('ab') as log:
            self.process = self.scope.spawn([*self.inside, POLKITD], stdout=log, stderr=log,
                                            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=self.address))
        watcher = Client(self.bus)
        wait_for(lambda: self.owner(watcher) or self.process.poll() is not None, 30, 'polkitd has its name', poll=0.05)
        if self.process.poll() is not None:
            raise AssertionError(f'polkitd: {(self.top / "polkitd.log").read_text()}')

    @staticmethod
    def owner(client):
        return client.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'NameHasOwner', '(s)', 'org.freedesktop.PolicyKit1',
                           name='org.freedesktop.DBus')

    def stop(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait()

    def authenticate(self, cookie, user, uid):
        """Say that this user has given the right password: what polkit's setuid helper does, as root."""
        identity = ('unix-user', {'uid': GLib.Variant('u', user)})
        Client(self.bus).call('/org/freedesktop/PolicyKit1/Authority', 'org.freedesktop.PolicyKit1.Authority',
                              'AuthenticationAgentResponse2', '(us(sa{sv}))', uid, cookie, identity,
                              name='org.freedesktop.PolicyKit1')


class SystemVireod(Vireod):
    """A vireod on a system bus, as the user that it has there."""

    def __init__(self, scope, bus, *connections, user=VIREO, inside=(), **options):
        state = scope.directory('state')
        os.chown(state, user, user)
        binary = scope.directory('bin') / 'vireod'
        binary.parent.chmod(0o755)
        shutil.copy(executable(), binary)
        self._user = user
        super().__init__(scope, bus, *connections, state=state, start=False,
                         environment={'DBUS_SYSTEM_BUS_ADDRESS': bus.address}, **options)
        rest = [a for a in self._argv[1:] if not str(a).startswith('--address=')]
        self._argv = [*inside, 'setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups', '--', binary, '--system', *rest]
        self.start()


class Reply:
    """What a call gave, or will give."""

    def __init__(self, caller, number):
        self.caller, self.number = caller, number

    @property
    def there(self):
        return self.number in self.caller.answers

    def raw(self, limit=60):
        wait_for(lambda: self.there or self.caller.gone, limit, f'an answer to call {self.number}')
        if not self.there:
            raise AssertionError('the caller has gone')
        return self.caller.answers[self.number]

    def get(self, limit=60):
        answer = self.raw(limit)
        if 'error' in answer:
            raise BusError(*answer['error'])
        values = GLib.Variant.parse(GLib.VariantType(answer['signature']), answer['body'], None, None).unpack()
        return None if not values else values[0] if len(values) == 1 else values

    def error(self, limit=60):
        """Return (name, message) of the error that it has to be."""
        answer = self.raw(limit)
        if 'error' not in answer:
            raise AssertionError(f'it was answered: {answer["body"][:300]}')
        return tuple(answer['error'])


class Caller:
    """A process on the bus, as some user."""

    def __init__(self, scope, bus, uid, groups=()):
        script = scope.directory('bin') / 'caller.py'
        script.parent.chmod(0o755)
        if not script.exists():
            shutil.copy(pathlib.Path(__file__).with_name('caller.py'), script)
            script.chmod(0o644)
        self.uid = uid
        self.answers, self.signals, self.agent, self.lines = {}, [], [], {}
        self.gone = False
        self._number = 0
        self._rest = b''
        self.process = scope.spawn(
            ['setpriv', f'--reuid={uid}', f'--regid={uid}',
             f'--groups={",".join(map(str, groups))}' if groups else '--clear-groups', '--',
             '/usr/bin/python3', '-B', '-I', script, bus.address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self._hello = None
        GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, self.process.stdout.fileno(), GLib.IOCondition.IN | GLib.IOCondition.HUP,
                              self._readable)
        wait_for(lambda: self._hello or self.gone, 30, 'the caller is on the bus')
        self.name = self._hello['name']

    def _readable(self, fd, _condition):
        try:
            data = os.read(fd, 1 << 20)
        except BlockingIOError:
            return True
        if not data:
            self.gone = True
            return False
        lines = (self._rest + data).split(b'\n')
        self._rest = lines.pop()
        for line in lines:
            message = json.loads(line)
            if 'number' in message:
                self.answers[message['number']] = message
            elif 'signal' in message:
                path, interface, member, body, signature = message['signal']
                self.signals.append((path, interface, member,
                                     GLib.Variant.parse(GLib.VariantType(signature), body, None, None).unpack()))
            elif 'agent' in message:
                self.agent.append(message)
            elif 'stream' in message:
                self.lines.setdefault(message['stream'], []).append(message['line'])
            else:
                self._hello = message
        return True

    def _do(self, what, **arguments):
        self.process.stdin.write(json.dumps({'do': what, **arguments}).encode() + b'\n')
        self.process.stdin.flush()

    def _next(self):
        self._number += 1
        return self._number

    def send(self, path, interface, method, signature='()', *arguments, interactive=False, limit=60, name=NAME, anew=False):
        """Call a method, on a new connection to the bus if `anew`; return the Reply to come."""
        number = self._next()
        body = GLib.Variant(signature, arguments).print_(True)
        self._do('call', number=number, destination=name, path=path, interface=interface, method=method, signature=signature,
                 arguments=body, interactive=interactive, limit=limit, anew=anew)
        return Reply(self, number)

    def call(self, *arguments, **options):
        return self.send(*arguments, **options).get()

    def domain(self, path, method, signature='(a{sv})', *arguments, **options):
        return self.send(path, f'{NAME}.Domain', method, signature, *(arguments or ({},)), **options)

    def manager(self, method, signature='()', *arguments, **options):
        return self.send(MANAGER, f'{NAME}.Manager', method, signature, *arguments, **options)

    def get(self, path, kind, name):
        return self.send(path, PROPERTIES, 'Get', '(ss)', f'{NAME}.{kind}', name)

    def listen(self, sender=NAME):
        number = self._next()
        self._do('listen', number=number, sender=sender)
        Reply(self, number).get()

    def spy(self, rule):
        number = self._next()
        self._do('spy', number=number, rule=rule)
        return Reply(self, number)

    def register_agent(self, of=None):
        """Show the dialogs of a caller, by default of this one."""
        number = self._next()
        self._do('agent', number=number, pid=(of or self).process.pid)
        Reply(self, number).get()

    def dialogs(self):
        return [m for m in self.agent if m['agent'] == 'begin']

    def finish(self, cookie):
        self._do('finish', cookie=cookie)

    def dismiss(self, cookie):
        self._do('dismiss', cookie=cookie)

    def read(self, reply):
        """Read the stream that this Reply has brought; return its lines, to which more will be added."""
        reply.get()
        number = self._next()
        self.lines[reply.number] = []
        self._do('read', number=number, stream=reply.number)
        Reply(self, number).get()
        return self.lines[reply.number]

    def leave(self):
        self.process.kill()
        self.process.wait()


# Nothing happens in it by itself
WORLD = {
    'hostname': 'policy.example', 'version': '1.0.0', 'seed': 1, 'guest-delay': 60000,
    'domains': [{'name': name, 'uuid': f'5f2a3c1e-0000-4000-8000-{number:012}', 'state': state} for number, (name, state) in
                enumerate([('web-1', 'running'), ('web-2', 'shutoff'), ('db-1', 'running'), ('db-2', 'shutoff'),
                           ('mail-x7', 'shutoff'), ('desktop-x7', 'running')], 1)],
    'pools': [{'name': 'images-x7', 'uuid': '5f2a3c1e-0000-4000-8000-000000000011', 'active': True, 'capacity': 1 << 39,
               'volumes': [{'name': 'web.qcow2', 'format': 'qcow2', 'capacity': 1 << 34, 'allocation': 1 << 30}]},
              {'name': 'hidden-pool', 'uuid': '5f2a3c1e-0000-4000-8000-000000000012'}],
    'networks': [{'name': 'net-x7', 'uuid': '5f2a3c1e-0000-4000-8000-000000000021', 'active': True, 'bridge': 'virbr0'}],
}


class PolicyCase(unittest.TestCase):
    """One bus, polkitd and broker for all tests of the class; each test writes its own rules."""

    CONNECT = ('one', )  # labels, each of a hypervisor with the WORLD
    CONFIG = ''
    RULES = ''
    vireod_class = SystemVireod

    @classmethod
    def setUpClass(cls):
        cls.scope = Scope()
        cls.scope.__enter__()
        cls.addClassCleanup(cls.scope.__exit__, None, None, None)
        cls.polkit = Polkit(cls.scope, cls.RULES)
        config = cls.polkit.top / 'vireo.conf'
        config.write_text(cls.CONFIG)
        config.chmod(0o644)
        connections = []
        for label in cls.CONNECT:
            world = cls.polkit.top / f'{label}.json'
            world.write_text(json.dumps(WORLD))
            world.chmod(0o644)
            connections.append(f'{label}=sim://{world}')
        cls.vireod = cls.vireod_class(cls.scope, cls.polkit.bus, *connections, arguments=(f'--config={config}',), inside=cls.polkit.inside)
        cls.connection = f'/org/vireo1/connection/{cls.CONNECT[0]}'
        for label in cls.CONNECT:
            cls.vireod.wait_connected(path=f'/org/vireo1/connection/{label}')
        cls.vireod.sync()

    @classmethod
    def tearDownClass(cls):
        alive = cls.vireod.alive()
        log = cls.vireod.log()
        status = cls.vireod.stop() if alive else cls.vireod.process.poll()
        assert alive and status == 0, f'vireod ended with {status}:\n{log}\n{cls.vireod.log()}'

    def caller(self, uid, *groups):
        caller = Caller(self.scope, self.polkit.bus, uid, groups)
        self.addCleanup(caller.leave)
        return caller

    def rules(self, text):
        """Write rules and wait until polkitd says that it has read them."""
        heard = []
        client = Client(self.polkit.bus)
        client.connection.signal_subscribe('org.freedesktop.PolicyKit1', 'org.freedesktop.PolicyKit1.Authority', 'Changed',
                                           None, None, 0, lambda *_: heard.append(True))
        client.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetId', name='org.freedesktop.DBus')
        self.polkit.write(text)
        wait_for(lambda: heard, 30, 'polkitd has read the rules')

    def objects(self, kind):
        return {path: p for path, (k, p) in self.vireod.snapshot()[2].items() if k == kind}

    def version(self):
        return self.vireod.get(MANAGER, 'Manager', 'Version')

    def by_name(self, name):
        return self.vireod.lookup(name)


def main():
    reason = missing()
    if reason:
        print(f'SKIP: {reason}')
        sys.exit(77)
    unittest.main(verbosity=2)
