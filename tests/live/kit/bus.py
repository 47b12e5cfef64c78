# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message bus of one's own."""

import os
import pathlib
import shutil
import socket
from xml.sax.saxutils import escape

from gi.repository import Gio, GLib

CONFIG = '''<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>{type}</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  {services}
  {policy}
  {include}
  <limit name="max_incoming_bytes">1000000000</limit>
  <limit name="max_outgoing_bytes">1000000000</limit>
  <limit name="max_message_size">1000000000</limit>
  <limit name="service_start_timeout">60000</limit>
  <limit name="max_replies_per_connection">50000</limit>
</busconfig>
'''

OPEN = '''<policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>'''

# What the system bus of Debian says for everybody; a service's own file then opens what it offers
CLOSED = '''<policy context="default">
    <allow user="*"/>
    <deny own="*"/><deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"
          send_member="UpdateActivationEnvironment"/>
  </policy>'''


class Bus:
    """A private dbus-daemon. `kind`: session or system; `services`: a directory of D-Bus service files.

    A bus of kind system has the policy of a system bus, to which `include` adds a file of policy; the helper that it
    needs to activate services is then the plain one of dbus-daemon, for it runs as root. `prefix` begins the command line.
    """

    def __init__(self, scope, kind='session', services=None, include=None, environment=None, prefix=()):
        self.kind = kind
        self.directory = scope.directory(f'bus{len(list(scope.directory().glob("bus*")))}')
        self.address = f'unix:path={self.directory}/socket'
        config = self.directory / 'bus.conf'
        config.write_text(self._config(services, include))
        self._read, write = os.pipe()
        with (self.directory / 'log').open('w') as log:
            self.process = scope.spawn(
                [*prefix, 'dbus-daemon', f'--config-file={config}', '--nofork', '--nosyslog',
                 f'--print-address={write}'],
                pass_fds=[write], stderr=log, env=environment)
        os.close(write)
        with os.fdopen(self._read) as ready:
            if not ready.readline():
                raise RuntimeError(f'dbus-daemon: {(self.directory / "log").read_text()}')

    def _config(self, services, include):
        return CONFIG.format(
            # of type system, dbus-daemon would activate through its setuid helper only, by the system's own files
            type='session' if services and self.kind == 'session' else self.kind,
            socket=escape(str(self.directory / 'socket')),
            services=f'<servicedir>{escape(str(services))}</servicedir>' if services else '',
            policy=OPEN if self.kind == 'session' else CLOSED,
            include=f'<include>{escape(str(include))}</include>' if include else '')

    def connect(self):
        """Return a new connection to this bus."""
        return Gio.DBusConnection.new_for_address_sync(
            self.address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
            Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)


class BrokerBus:
    """A private dbus-broker, which allows everything. Its usual launcher would want systemd, so we are its controller;
    it activates no services."""

    kind = 'session'

    def __init__(self, scope):
        self.directory = scope.directory(f'broker{len(list(scope.directory().glob("broker*")))}')
        path = self.directory / 'socket'
        self.address = f'unix:path={path}'
        ours, its = socket.socketpair()
        with its, (self.directory / 'log').open('w') as log:
            self.process = scope.spawn(
                ['dbus-broker', '--controller', str(its.fileno()), '--machine-id', _machine_id(),
                 '--max-bytes', str(1 << 30), '--max-objects', str(1 << 20), '--max-matches', str(1 << 16)],
                pass_fds=[its.fileno()], stderr=log)
        stream = Gio.Socket.new_from_fd(ours.detach()).connection_factory_create_connection()
        self._controller = Gio.DBusConnection.new_sync(
            stream, None, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT, None, None)
        # its end is the end of the bus, not of the test
        self._controller.set_exit_on_close(False)
        self._listen(path)

    def _listen(self, path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
            listener.bind(str(path))
            listener.listen(128)
            error = None
            # one more string since version 33: the kind of bus
            for tail, values in (('bs', (False, 'session')), ('b', (False,)), ('', ())):
                descriptors = Gio.UnixFDList.new()
                handle = descriptors.append(listener.fileno())
                arguments = GLib.Variant.new_tuple(
                    GLib.Variant('o', '/org/bus1/DBus/Listener/0'), GLib.Variant('h', handle),
                    GLib.Variant('v', self._everything_allowed(tail, values)))
                try:
                    self._controller.call_with_unix_fd_list_sync(
                        None, '/org/bus1/DBus/Broker', 'org.bus1.DBus.Broker', 'AddListener', arguments, None,
                        Gio.DBusCallFlags.NONE, 10000, descriptors, None)
                    return
                except GLib.Error as failure:
                    error = failure
            raise RuntimeError(f'dbus-broker takes none of the policies that we know to write: {error}')

    @staticmethod
    def _everything_allowed(tail, values):
        batch = 'bta(btbs)a(btssssuutt)a(btssssuutt)'
        anything = (True, 1, '', '', '', '', 0, 0, 0, 2**64 - 1)
        everybody = (2**32 - 1, (True, 1, [(True, 1, True, '')], [anything], [anything]))
        return GLib.Variant(f'(a(u({batch}))a(buu({batch}))a(ss){tail})', ([everybody], [], [], *values))

    connect = Bus.connect


def _machine_id():
    try:
        return pathlib.Path('/etc/machine-id').read_text().strip() or '0' * 32
    except OSError:
        return '0' * 32


def broker_missing():
    """Return why dbus-broker can't run here, or None."""
    if not shutil.which('dbus-broker'):
        return 'dbus-broker is not installed'
    return None
