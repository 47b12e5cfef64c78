#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Where systemd runs the machine, a QEMU becomes a service of its own. There is none here to do it, so something that takes
the same call stands in for it, and does with descriptors and arguments what systemd does: what is shown is what the driver
asks for, and how it goes on from there.
"""

import os
import re
import shutil
import signal
import threading

import qemukit
from house import House, refused
from qemukit import qemus_of, story_of

from kit import program, vireod
from kit.bus import Bus
from kit.loop import wait_for
from gi.repository import Gio, GLib

XML = """<node><interface name='org.freedesktop.systemd1.Manager'>
<method name='StartTransientUnit'><arg type='s' direction='in'/><arg type='s' direction='in'/>
<arg type='a(sv)' direction='in'/><arg type='a(sa(sv))' direction='in'/><arg type='o' direction='out'/></method>
<method name='KillUnit'><arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='i' direction='in'/></method>
<method name='StopUnit'><arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='o' direction='out'/></method>
</interface></node>"""


class Systemd:
    """Stands in for systemd's manager."""

    def __init__(self, scope, bus):
        self.scope = scope
        self.units = {}
        self.properties = {}
        self.mode = 'run'
        self.held = []
        # on a thread of its own: the test waits for answers that need this one first
        self.context = GLib.MainContext()
        ready = threading.Event()
        threading.Thread(target=self.serve, args=(bus, ready), daemon=True).start()
        ready.wait(20)

    def serve(self, bus, ready):
        self.context.push_thread_default()
        self.connection = bus.connect()
        self.connection.set_exit_on_close(False)
        node = Gio.DBusNodeInfo.new_for_xml(XML)
        self.connection.register_object('/org/freedesktop/systemd1', node.interfaces[0], self.called, None, None)
        self.connection.call_sync('org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'RequestName',
                                  GLib.Variant('(su)', ('org.freedesktop.systemd1', 4)), None, 0, 10000, None)
        ready.set()
        GLib.MainLoop(self.context).run()

    def called(self, _connection, _sender, _path, _interface, method, arguments, invocation):
        if method == 'StartTransientUnit':
            if self.mode == 'refuse':
                for fd in invocation.get_message().get_unix_fd_list().steal_fds():
                    os.close(fd)
                invocation.return_dbus_error('org.freedesktop.systemd1.Error', 'not today')
            elif self.mode == 'hold':
                self.held.append((arguments, invocation))
            else:
                self.run(arguments, invocation)
        else:
            process = self.units.get(arguments.unpack()[0])
            if process and method == 'KillUnit':
                process.kill()
            invocation.return_value(GLib.Variant('(o)', ('/job/2',)) if method == 'StopUnit' else None)

    def run(self, arguments, invocation):
        name = arguments.unpack()[0]
        properties = dict(arguments.unpack()[2])
        fds = invocation.get_message().get_unix_fd_list().steal_fds()
        self.properties[name] = properties
        (path, argv, flags), = properties['ExecStartEx']
        assert 'no-env-expand' in flags
        variables = [e.split('=', 1)[0] for e in properties['Environment']]
        if len(set(variables)) < len(variables):
            for fd in fds:
                os.close(fd)
            invocation.return_dbus_error('org.freedesktop.DBus.Error.InvalidArgs', 'Invalid environment block.')
            return
        # the descriptors become 0, 1 and 2, and nothing else is passed on
        self.units[name] = self.scope.spawn(
            [path, *argv[1:]], stdin=fds[properties['StandardInputFileDescriptor']],
            stdout=fds[properties['StandardOutputFileDescriptor']], stderr=fds[properties['StandardErrorFileDescriptor']],
            env=dict(e.split('=', 1) for e in properties['Environment']))
        for fd in fds:
            os.close(fd)
        invocation.return_value(GLib.Variant('(o)', ('/job/1',)))


def main(test):
    program.needs(qemukit.missing)
    if os.geteuid() != 0 or not shutil.which('unshare'):
        raise program.Skip('a machine that looks as if systemd ran it needs root and unshare')
    bus = Bus(test.scope)
    systemd = Systemd(test.scope, bus)
    # only this broker sees a directory that says that systemd runs the machine
    wrapper = test.scope.directory() / 'vireod'
    fake = test.scope.directory('run')
    (fake / 'systemd' / 'system').mkdir(parents=True)
    wrapper.write_text('#!/bin/sh\nexport DBUS_SYSTEM_BUS_ADDRESS\n'
                       f'DBUS_SYSTEM_BUS_ADDRESS="{bus.address}"\n'
                       f'exec unshare -m sh -c \'mount --make-rprivate / && mount --bind "{fake}" /run && '
                       f'exec "{vireod.executable()}" "$@"\' vireod "$@"\n')
    wrapper.chmod(0o755)
    os.environ['VIREOD'] = str(wrapper)
    house = House(test)

    with test.case('as a service'):
        name = 'with $HOME, %n and "quotes"'
        after = house.mark()
        path = house.define(house.xml(name))
        house(path, 'Start')
        test.equal(house.properties(path)['State'], 'running', 'it runs')
        unit, = systemd.units
        test.check(re.fullmatch(r'vireo-[0-9a-f-]{36}-[0-9]+\.service', unit), unit)
        with open(f'/proc/{systemd.units[unit].pid}/cmdline', 'rb') as f:
            argv = f.read().split(b'\0')
        test.check(b'guest=with $HOME,, %n and "quotes",debug-threads=on' in argv, f'the name arrived as it is: {argv[:4]}')
        test.equal(systemd.properties[unit]['CollectMode'], 'inactive-or-failed', 'it is forgotten when it ends')
        test.equal(qemus_of(house.directory), [systemd.units[unit].pid], 'there is one, and it is no child of the broker')
        house.vireod.kill()
        house.vireod.start()
        house.restarted()
        test.equal(house.properties(path)['State'], 'running', 'found again')
        refused(test, lambda: house(path, 'Start'), 'InvalidState', 'starting it twice')
        os.kill(systemd.units[unit].pid, signal.SIGSTOP)
        house(path, 'Destroy')
        test.equal(qemus_of(house.directory), [], 'one that hangs is killed')
        house(path, 'Start')
        test.equal(len(systemd.units), 2, 'each run is a service of its own')
        house(path, 'Destroy')
        test.check('Started(booted)' in story_of(house.recorder, path, after), 'the story')

    with test.case('with a TPM, which is another'):
        if not shutil.which('swtpm'):
            raise program.Skip('swtpm is not installed')
        known = set(systemd.units)
        secure = house.define(house.xml('secure', extra_devices="<tpm model='tpm-crb'><backend type='emulator'/></tpm>"))
        house(secure, 'Start')
        new = sorted(set(systemd.units) - known)
        test.equal([n.endswith('-tpm.service') for n in new], [True, False], f'two services: {new}')
        test.equal(qemus_of(house.directory), [systemd.units[new[1]].pid], 'it runs as a service')
        house(secure, 'Destroy')
        wait_for(lambda: systemd.units[new[0]].poll() is not None, 20, 'the TPM has ended', poll=0.05)
        house(secure, 'Undefine', tpm=GLib.Variant('b', True))

    with test.case('a service that fails'):
        broken = house.define(house.xml('nodisk').replace('.img', '.missing'))
        refused(test, lambda: house(broken, 'Start'), 'OperationFailed', 'a missing disk', 'No such file')
        house(broken, 'Undefine')

    with test.case('destroyed before systemd has answered'):
        systemd.mode = 'hold'
        job = house(path, 'Start', **{'async': GLib.Variant('b', True)})[0]
        wait_for(lambda: systemd.held, 20, 'systemd is asked', poll=0.05)
        destroyed = house(path, 'Destroy', **{'async': GLib.Variant('b', True)})[0]
        systemd.run(*systemd.held.pop())
        for j, state in (job, 'failed'), (destroyed, 'completed'):
            wait_for(lambda: house.vireod.get(j, 'Job', 'State') == state, 30,  # pylint: disable=cell-var-from-loop
                     lambda: f'{j} {state}: {house.vireod.get_all(j, "Job")}', poll=0.1)  # pylint: disable=cell-var-from-loop
        wait_for(lambda: not qemus_of(house.directory), 20, 'no process is left', poll=0.05)

    with test.case('systemd refuses'):
        systemd.mode = 'refuse'
        count = len(systemd.units)
        house(path, 'Start')
        test.equal(house.properties(path)['State'], 'running', 'it runs all the same')
        test.equal(len(systemd.units), count, 'as a process')
        test.check('systemd does not run domain' in house.vireod.log(), 'and that is said')
        house(path, 'Destroy')
        house(path, 'Undefine')
    test.judge(house.vireod)
    house.finish()


program.run(main)
