#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Somebody on the bus: a process of its own, as whatever user it was started. Does what it is told, a line of JSON each,
and answers each with a line. Answers of calls may come in any order; they have the number of their command.
"""

import json
import os
import sys

from gi.repository import Gio, GLib

AGENT = '''<node><interface name="org.freedesktop.PolicyKit1.AuthenticationAgent">
<method name="BeginAuthentication"><arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="s" direction="in"/>
<arg type="a{ss}" direction="in"/><arg type="s" direction="in"/><arg type="a(sa{sv})" direction="in"/></method>
<method name="CancelAuthentication"><arg type="s" direction="in"/></method></interface></node>'''


def say(**message):
    sys.stdout.write(json.dumps(message) + '\n')
    sys.stdout.flush()


class Caller:
    def __init__(self, address):
        self.address = address
        self.bus = self.connect()
        self.more = []
        self.waiting = {}  # cookie: the agent's invocation
        self.fds = {}
        say(name=self.bus.get_unique_name(), pid=os.getpid())

    def connect(self):
        bus = Gio.DBusConnection.new_for_address_sync(
            self.address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
            Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        bus.set_exit_on_close(False)
        return bus

    def call(self, number, destination, path, interface, method, signature, arguments, interactive, limit, anew=False):
        if anew:
            self.more.append(self.connect())
        message = Gio.DBusMessage.new_method_call(destination, path, interface, method)
        body = GLib.Variant.parse(GLib.VariantType(signature), arguments, None, None)
        message.set_body(body)
        if 'h' in signature:
            fds = Gio.UnixFDList()
            with open('/dev/null', 'r+b') as null:
                fds.append(null.fileno())
            message.set_unix_fd_list(fds)
        if interactive:
            message.set_flags(message.get_flags() | Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION)

        def done(bus, result):
            try:
                reply = bus.send_message_with_reply_finish(result)
            except GLib.Error as error:
                say(number=number, error=['local', error.message])
                return
            if reply.get_message_type() == Gio.DBusMessageType.ERROR:
                words = reply.get_body()
                say(number=number, error=[reply.get_error_name(), words.unpack()[0] if words and words.n_children() else ''])
                return
            fds = reply.get_unix_fd_list()
            if fds is not None and fds.get_length():
                self.fds[number] = fds.steal_fds()[0]
            body = reply.get_body()
            say(number=number, body=body.print_(True) if body else '()', signature=body.get_type_string() if body else '()')
        (self.more[-1] if anew else self.bus).send_message_with_reply(
            message, Gio.DBusSendMessageFlags.NONE, int(limit * 1000), None, done)

    def listen(self, number, sender):
        self.bus.signal_subscribe(
            sender, None, None, None, None, Gio.DBusSignalFlags.NONE,
            lambda _bus, _sender, path, interface, member, body: say(
                signal=[path, interface, member, body.print_(True), body.get_type_string()]))
        # behind the match on its way to the bus
        self.call(number, 'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'GetId', '()', '()', False,
                  30)

    def spy(self, number, rule):
        """Hear whatever the bus lets through by this rule, whoever it is for."""
        self.bus.signal_subscribe(
            None, None, None, None, None, Gio.DBusSignalFlags.NO_MATCH_RULE,
            lambda _bus, _sender, path, interface, member, body: say(
                signal=[path, interface, member, body.print_(True), body.get_type_string()]))
        self.call(number, 'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'AddMatch', '(s)',
                  GLib.Variant('(s)', (rule,)).print_(True), False, 30)

    def agent(self, number, pid):
        """Be the agent of that process: the one that shows dialogs for it."""
        def called(_bus, _sender, _path, _interface, method, parameters, invocation):
            if method == 'BeginAuthentication':
                action, message, _icon, details, cookie, identities = parameters.unpack()
                self.waiting[cookie] = invocation
                say(agent='begin', action=action, message=message, details=details, cookie=cookie, identities=identities)
            else:
                cookie, = parameters.unpack()
                say(agent='cancel', cookie=cookie)
                invocation.return_value(None)
                begun = self.waiting.pop(cookie, None)
                if begun is not None:
                    begun.return_dbus_error('org.freedesktop.PolicyKit1.Error.Cancelled', 'cancelled')
        self.bus.register_object('/agent', Gio.DBusNodeInfo.new_for_xml(AGENT).interfaces[0], called, None, None)
        with open(f'/proc/{pid}/stat', encoding='utf-8') as stat:
            began = int(stat.read().rsplit(')', 1)[1].split()[19])
        subject = {'pid': GLib.Variant('u', pid), 'start-time': GLib.Variant('t', began),
                   'uid': GLib.Variant('i', os.getuid())}
        self.call(number, 'org.freedesktop.PolicyKit1', '/org/freedesktop/PolicyKit1/Authority',
                  'org.freedesktop.PolicyKit1.Authority', 'RegisterAuthenticationAgent', '((sa{sv})ss)',
                  GLib.Variant('((sa{sv})ss)', (('unix-process', subject), 'C', '/agent')).print_(True), False, 30)

    def dismiss(self, cookie):
        self.waiting.pop(cookie).return_dbus_error('org.freedesktop.PolicyKit1.Error.Cancelled', 'dismissed')

    def finish(self, cookie):
        self.waiting.pop(cookie).return_value(None)

    def read(self, number, stream):
        """Read lines of the stream that call `stream` returned, as they come."""
        channel = GLib.IOChannel.unix_new(self.fds[stream])
        channel.set_flags(GLib.IOFlags.NONBLOCK)
        rest = [b'']

        def readable(_channel, _condition):
            data = b''
            try:
                data = os.read(self.fds[stream], 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                say(stream=stream, line=None)
                return False
            lines = (rest[0] + data).split(b'\n')
            rest[0] = lines.pop()
            for line in lines:
                say(stream=stream, line=line.decode())
            return True
        GLib.io_add_watch(channel, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, readable)
        say(number=number, body='()', signature='()')


def main():
    caller = Caller(sys.argv[1])
    loop = GLib.MainLoop()
    rest = [b'']

    def commanded(_fd, _condition):
        data = os.read(0, 1 << 16)
        if not data:
            loop.quit()
            return False
        lines = (rest[0] + data).split(b'\n')
        rest[0] = lines.pop()
        for line in lines:
            command = json.loads(line)
            getattr(caller, command.pop('do'))(**command)
        return True
    GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, 0, GLib.IOCondition.IN | GLib.IOCondition.HUP, commanded)
    loop.run()


if __name__ == '__main__':
    main()
