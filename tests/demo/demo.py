#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Vireo at work, for whoever sees it for the first time: a private bus, vireod activated by it, things made to happen, and
the story that it tells of them. Ends by itself; exit status 0 only if the story was right.

    demo.py --build DIR [--kvm | --qemu]

Without --kvm: on libvirt's own test driver, in process; nothing needs to be installed or allowed for that.
With --kvm: on a private libvirtd with real QEMU guests, and virsh acts from outside.
With --qemu: on QEMU itself, without libvirt.
"""

import argparse
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import textwrap

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'live'))

import without_libvirt  # noqa: E402
from kit import guests, libvirtd  # noqa: E402
from kit.bus import Bus  # noqa: E402
from kit.grammar import judge_broker  # noqa: E402
from kit.loop import TimedOut, settle, wait_for  # noqa: E402
from kit.recorder import NAME, ROOT, Recorder  # noqa: E402
from kit.scope import Scope  # noqa: E402
from kit.vireod import Client  # noqa: E402

COLOUR = sys.stdout.isatty() and os.environ.get('TERM', 'dumb') != 'dumb' and 'NO_COLOR' not in os.environ


def paint(code, text):
    return f'\033[{code}m{text}\033[0m' if COLOUR else text


class Demo:
    """The bus, the broker on it, and what is shown of both."""

    def __init__(self, scope, build, uri):
        self.scope = scope
        self.failures = []
        self.label = uri.split('=', 1)[0]
        services = scope.directory('services')
        self.state = scope.directory('state')
        self.log = scope.directory() / 'vireod.log'
        vireod = next((p for p in (build / 'vireod', build / 'broker' / 'vireod') if p.exists()), build / 'vireod')
        # the bus does not let a service's output through, so a shell puts it where the demo finds it
        starter = scope.directory() / 'start-vireod'
        starter.write_text(f'#!/bin/sh\nexec {shlex.quote(str(vireod.resolve()))} '
                           f'--address="$DBUS_STARTER_ADDRESS" --state-directory={shlex.quote(str(self.state))} '
                           f'{shlex.quote("--connect=" + uri)} >>{shlex.quote(str(self.log))} 2>&1\n')
        starter.chmod(0o755)
        (services / f'{NAME}.service').write_text(f'[D-BUS Service]\nName={NAME}\nExec={starter}\n')
        self.bus = Bus(scope, services=services)
        self.client = Client(self.bus)
        self.recorder = Recorder(self.bus)
        self.recorder.watchers.append(self.show)
        scope.defer(self.end_vireod)
        self.variables = {}
        self.seen = {}

    # What is shown

    @staticmethod
    def title(text):
        print(f'\n{paint("1;36", text)}')

    @staticmethod
    def say(text):
        print(textwrap.fill(text, 100, initial_indent='  ', subsequent_indent='  '))

    @staticmethod
    def show(event):
        """Print an event, as it comes."""
        if event.kind == 'Job':
            text = f'{event.properties["Operation"]}: {event.properties["State"]}'
        else:
            text = event.properties.get('Name') or event.path.rsplit('/', 1)[1]
        reason = f' ({event.reason})' if event.reason else ''
        state = event.properties.get('State', '') if event.kind != 'Job' else ''
        previous = f'after {event.previous}' if event.previous else 'new'
        print(f'  {paint("33", f"{event.version:>6}")} {previous:<11} {event.kind:<11} '
              f'{text:<24} {paint("1;32", event.event)}{reason}'
              f'{f" → {state}" if state else ""}{paint("35", "  inferred") if event.inferred else ""}')

    def let(self, name, value):
        """Give a long word a short name, as at a shell; commands are shown with that."""
        plain = re.fullmatch(r'[\w/]+', value)
        self.variables[value] = f'${name}' if plain else f'"${name}"'
        print(f'  {paint("1", "$ " + name)}={value if plain else chr(34) + value + chr(34)}')

    def shown(self, argument):
        return self.variables.get(argument) or (argument if re.fullmatch(r'[\w@%+=:,./$-]+', argument)
                                                else shlex.quote(argument))

    def command(self, *argv, fails=False):
        """Show a command and run it; return what it printed."""
        print(f'  {paint("1", "$ " + " ".join(map(self.shown, argv)))}')
        environment = dict(os.environ, LC_ALL='C.UTF-8')
        if argv[0] == 'busctl':
            argv = ['busctl', f'--address={self.bus.address}', '--no-pager', *argv[1:]]
            # the only way to have busctl tell the name of an error
            environment['SYSTEMD_LOG_LEVEL'] = 'debug' if fails else 'info'
        elif argv[0] == 'virsh':
            argv = self.virsh.argv(*argv[1:])
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=120, check=False, env=environment)
        if (done.returncode != 0) != fails:
            self.fail(f'{" ".join(argv)} ended with {done.returncode}: {done.stdout}')
        names = re.findall(r'type=error .*error-name=(\S+)', done.stdout)
        lines = [line for line in done.stdout.splitlines()
                 if line.strip() and not (fails and re.match(r'(Bus |Got |Sent |sd-bus: )', line))]
        for line in lines:
            print(f'    {line.rstrip()}')
        if fails and argv[0] == 'busctl':
            print(f'    {paint("31", names[-1] if names else "no name")}')
            if not names or not names[-1].startswith(f'{NAME}.Error.'):
                self.fail(f'the error has the name {names}')

    def call(self, path, interface, method, signature='a{sv}', *arguments, **options):
        """Call a method by busctl, as somebody at a shell would. Options (a{sv}) at the end stay empty."""
        self.command('busctl', 'call', NAME, path, f'{NAME}.{interface}', method, signature, *arguments, '0', **options)

    def fail(self, text):
        self.failures.append(text)
        print(f'  {paint("1;31", "WRONG")}: {text}')

    # What has to come

    def expect(self, path, *events, limit=60):
        """Wait until these events of an object have come, one after the other; others may be between them."""
        found = []

        def come():
            found[:] = []
            rest = iter(e for e in self.recorder.of(path=path, after=self.seen.get(path, 0)))
            for wanted in events:
                event = next((e for e in rest if e.event == wanted), None)
                if event is None:
                    return False
                found.append(event)
            return True
        try:
            wait_for(come, limit)
            self.seen[path] = found[-1].version
        except TimedOut:
            heard = [e.event for e in self.recorder.of(path=path, after=self.seen.get(path, 0))]
            self.fail(f'{path}: {", ".join(events)} should have come; there came {", ".join(heard) or "nothing"}')
        return found

    def owner_pid(self):
        return self.client.call('/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetConnectionUnixProcessID', '(s)',
                                NAME, name='org.freedesktop.DBus')

    def end_vireod(self):
        owner = self.client.owner()
        if owner:
            os.kill(self.owner_pid(), signal.SIGTERM)
            wait_for(lambda: not self.client.owner(), 30, 'the end of vireod', poll=0.05)

    def kill_vireod(self):
        pid = self.owner_pid()
        print(f'  {paint("1", f"$ kill -9 {pid}")}')
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.recorder.messages[-1].member == 'NameOwnerChanged', 30, 'the end of vireod')

    # Parts that both demos share

    def activate(self, what):
        self.title('1. The first call starts the broker')
        self.say(f'A private bus was started, and told how to start vireod on {what}. Nothing runs yet: '
                 'the bus activates it for the first client. Each command below is busctl --address=$BUS …, or virsh -c '
                 '$URI …, shown without that. To look on from another terminal:')
        print(f'    BUS={self.bus.address}\n    busctl --address=$BUS monitor {NAME}\n')
        self.command('busctl', 'tree', NAME)
        self.connection = f'{ROOT}/connection/{self.label}'
        self.settled()

    def settled(self):
        settle(0.2, limit=30, changed=lambda: len(self.recorder.events))

    def versions(self):
        manager = f'{NAME}.Manager'
        self.title('2. Every object and every change has a version')
        self.command('busctl', 'get-property', NAME, ROOT, manager, 'Epoch', 'Version', 'Features')

    def judge(self):
        self.title('The story, judged')
        self.settled()
        story = judge_broker(self.client, self.recorder)
        for violation in story.violations[:20]:
            self.fail(violation)
        lives = len({e.path for e in self.recorder.events})
        if not story.violations:
            self.say(f'{story.events} events of {lives} objects: versions only rose, each event followed its '
                     'object\'s last one, no transition was impossible, and who had only listened now knows exactly '
                     'what a fresh snapshot says.')

    def restart(self, why):
        self.title('The broker is killed')
        self.say(why)
        epoch = self.client.get(ROOT, 'Manager', 'Epoch')
        before = self.recorder.events[-1].version
        self.kill_vireod()
        self.command('busctl', 'get-property', NAME, ROOT, f'{NAME}.Manager', 'Epoch', 'Version')
        self.settled()
        if self.client.get(ROOT, 'Manager', 'Epoch') != epoch:
            self.fail('the epoch changed')
        after = [e.version for e in self.recorder.events if e.version > before]
        if self.client.get(ROOT, 'Manager', 'Version') < before:
            self.fail('the version went back')
        self.say(f'The bus has started it again; the epoch is the same, and versions went on above {before}'
                 f'{f", with {after[0]}" if after else ""}.')


TEST_DOMAIN = ("<domain type='test'><name>from the demo</name><uuid>11111111-2222-3333-4444-555555555555</uuid>"
               "<memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type>hvm</type></os></domain>")
TEST_POOL = ("<pool type='dir'><name>images</name><uuid>99999999-2222-3333-4444-555555555555</uuid>"
             "<target><path>/nowhere/at/all</path></target></pool>")


def on_test_driver(demo):
    demo.activate('test:///default, libvirt\'s own test driver')
    demo.versions()
    c = demo.connection
    test = demo.client.lookup('test')
    demo.command('busctl', 'call', NAME, ROOT, f'{NAME}.Manager', 'LookupDomain', 's', 'test')
    demo.let('TEST', test)
    demo.command('busctl', 'get-property', NAME, test, f'{NAME}.Domain', 'Name', 'State', 'Reason', 'Persistent',
                 'Memory', 'Version')

    demo.title('3. Signals, live: version, the version before, object, what happened')
    demo.call(test, 'Domain', 'Suspend')
    demo.expect(test, 'Suspended')
    demo.call(test, 'Domain', 'Resume')
    demo.expect(test, 'Resumed')
    demo.call(test, 'Domain', 'Destroy')
    demo.expect(test, 'Stopped')
    demo.call(test, 'Domain', 'Start')
    demo.expect(test, 'Started')

    demo.title('4. A domain\'s whole life')
    path = f'{c}/domain/_11111111_2222_3333_4444_555555555555'
    demo.let('CONNECTION', c)
    demo.let('XML', TEST_DOMAIN)
    demo.call(c, 'Connection', 'DefineDomain', 'sa{sv}', TEST_DOMAIN)
    demo.expect(path, 'Added', 'Defined')
    demo.let('DOMAIN', path)
    demo.call(path, 'Domain', 'Start')
    demo.expect(path, 'Started')
    demo.call(path, 'Domain', 'Undefine')
    demo.expect(path, 'Undefined')
    demo.say('It runs on without a definition; when it stops, it is gone:')
    demo.call(path, 'Domain', 'Destroy')
    demo.expect(path, 'Stopped', 'Removed')

    demo.title('5. Storage pools')
    pool = f'{c}/pool/_99999999_2222_3333_4444_555555555555'
    demo.let('XML', TEST_POOL)
    demo.call(c, 'Connection', 'DefinePool', 'sa{sv}', TEST_POOL)
    demo.expect(pool, 'Added', 'Defined')
    demo.let('POOL', pool)
    demo.call(pool, 'StoragePool', 'Start')
    demo.expect(pool, 'Started')
    demo.call(pool, 'StoragePool', 'Refresh')
    demo.expect(pool, 'Refreshed')
    demo.call(pool, 'StoragePool', 'Stop')
    demo.expect(pool, 'Stopped')
    demo.call(pool, 'StoragePool', 'Undefine')
    demo.expect(pool, 'Undefined', 'Removed')

    demo.title('6. Mistakes have names')
    demo.call(test, 'Domain', 'Start', fails=True)
    demo.call(c, 'Connection', 'DefineDomain', 'sa{sv}', '<domain><name>half', fails=True)
    demo.command('busctl', 'call', NAME, test, f'{NAME}.Domain', 'Suspend', 'a{sv}', '1', 'if-version', 't', '1',
                 fails=True)
    demo.command('busctl', 'call', NAME, ROOT, f'{NAME}.Manager', 'LookupDomain', 's', 'nobody', fails=True)

    demo.judge()
    demo.restart('No signal handler runs, nothing can be written. The next call makes the bus start it anew.')


def on_kvm(demo, daemon):
    demo.virsh = daemon.virsh
    demo.activate(f'a private libvirtd, {daemon.uri}')
    demo.versions()
    kind = 'KVM' if guests.kvm() else 'TCG (no /dev/kvm here)'
    c = demo.connection
    directory = demo.scope.directory()

    def xml(name, uuid, act, **options):
        path = directory / f'{name}.xml'
        path.write_text(guests.domain_xml(name, guests.image(daemon.images, act, options.pop('wait', 0.5)), uuid=uuid,
                                          **options))
        return str(path)

    demo.title(f'3. virsh acts from outside, on real QEMU guests, by {kind}')
    uuid = '11111111-2222-3333-4444-555555555555'
    one = f'{c}/domain/_{uuid.replace("-", "_")}'
    demo.command('virsh', 'define', xml('one', uuid, guests.IDLE))
    demo.expect(one, 'Added', 'Defined')
    demo.command('virsh', 'start', 'one')
    demo.expect(one, 'Started')
    demo.say('libvirt reported Resumed before Started; an ordinary boot is exactly one Started here.')
    demo.command('virsh', 'suspend', 'one')
    demo.expect(one, 'Suspended')
    demo.command('virsh', 'resume', 'one')
    demo.expect(one, 'Resumed')
    demo.command('virsh', 'domrename', 'one', 'uno', fails=True)
    demo.let('ONE', one)
    demo.command('busctl', 'get-property', NAME, one, f'{NAME}.Domain', 'Name', 'State', 'Reason', 'ID', 'Version')

    demo.title('4. A guest that switches itself off, and one that panics')
    for name, number, act, options, events in (
            ('off', '2', guests.POWEROFF, {}, ('Added', 'Started', 'Shutdown', 'Stopped', 'Removed')),
            ('panic', '3', guests.PANIC, {'panic': True}, ('Added', 'Started', 'Crashed', 'Stopped', 'Removed'))):
        uuid = f'{number * 8}-2222-3333-4444-555555555555'
        demo.command('virsh', 'create', xml(name, uuid, act, **options))
        demo.expect(f'{c}/domain/_{uuid.replace("-", "_")}', *events)

    demo.title('5. Through the bus, as busctl would')
    demo.call(one, 'Domain', 'Suspend')
    demo.expect(one, 'Suspended')
    demo.call(one, 'Domain', 'Resume')
    demo.expect(one, 'Resumed')
    (daemon.directory / 'pool').mkdir()
    pool = f'{c}/pool/_99999999_2222_3333_4444_555555555555'
    xml_of_pool = TEST_POOL.replace('/nowhere/at/all', str(daemon.directory / 'pool'))
    demo.let('CONNECTION', c)
    demo.let('XML', xml_of_pool)
    demo.call(c, 'Connection', 'DefinePool', 'sa{sv}', xml_of_pool)
    demo.expect(pool, 'Added', 'Defined')
    demo.let('POOL', pool)
    demo.call(pool, 'StoragePool', 'Start')
    demo.expect(pool, 'Started')
    demo.command('virsh', 'pool-destroy', 'images')
    demo.expect(pool, 'Stopped')

    demo.title('6. libvirtd is killed; a guest changes meanwhile; libvirtd comes back')
    print(f'  {paint("1", "$ kill -9 $(pidof libvirtd)")}')
    daemon.kill()
    demo.expect(c, 'Disconnected')
    qemu = daemon.qemu_pid('one')
    print(f'  {paint("1", f"$ kill -9 {qemu}")}      # the guest\'s QEMU: libvirt will tell nobody')
    os.kill(qemu, signal.SIGKILL)
    print(f'  {paint("1", "$ libvirtd -d")}')
    daemon.start()
    demo.expect(c, 'Connected', 'Synced', limit=120)
    demo.expect(one, 'Stopped')
    demo.command('virsh', 'undefine', 'one')
    demo.expect(one, 'Undefined', 'Removed')

    demo.judge()
    demo.restart('The hypervisor goes on; what it is like now is compared with what was known.')
    demo.judge()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--build', type=pathlib.Path, required=True)
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--kvm', action='store_true')
    what.add_argument('--qemu', action='store_true')
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    with Scope() as scope:
        daemon = None
        uri = 'test_default=test:///default'
        if options.kvm:
            reason = libvirtd.missing() or guests.missing()
            if reason:
                print(f'SKIP: this demo can\'t be shown here: {reason}')
                return 77
            daemon = libvirtd.Libvirtd(scope, 'demo')
            uri = f'kvm={daemon.uri}'
        elif options.qemu:
            reason = guests.missing()
            if reason:
                print(f'SKIP: this demo can\'t be shown here: {reason}')
                return 77
            domains = scope.directory('domains')
            uri = f'vireo=vireo://{domains}'
        demo = Demo(scope, options.build, uri)
        print(paint('1', 'Vireo: one consistent, versioned, complete story of what happens at a hypervisor'))
        try:
            if daemon:
                on_kvm(demo, daemon)
            elif options.qemu:
                without_libvirt.show(demo, domains)
            else:
                on_test_driver(demo)
        except Exception as error:  # pylint: disable=broad-except
            demo.fail(f'{type(error).__name__}: {error}')
        if demo.failures:
            print(f'\n{paint("1;31", f"{len(demo.failures)} things were wrong.")} The last words of vireod:')
            if demo.log.exists():
                print(textwrap.indent('\n'.join(demo.log.read_text(errors='replace').splitlines()[-30:]), '    '))
            return 1
        print(f'\n{paint("1;32", "All of it was as it should be.")}')
        return 0


if __name__ == '__main__':
    sys.exit(main())
