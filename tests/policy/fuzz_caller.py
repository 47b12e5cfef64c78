#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Somebody who calls whatever there is, with whatever comes to his mind: ADDRESS PATHS SEED COUNT AVOID,… [HIDDEN].

What is below HIDDEN he may not see; he says where he did.
"""

import collections
import json
import random
import sys
import xml.etree.ElementTree as ET

from gi.repository import Gio, GLib

NAME = 'org.vireo1'
STRINGS = ['', 'x', '/', '/nowhere', '../../etc/passwd', '%s%n%x', '\x01\x7f', '\u202e\U0001f4a9', 'a' * 4096, 'web-1', '0',
           '-1', '18446744073709551615', '<domain>', '<domain type="test"><name>fuzz</name></domain>',
           '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/shadow">]><domain>&a;</domain>', 'qemu+ext:///?command=touch', 'sim:///fuzz',
           '00000000-0000-0000-0000-000000000000', 'org.vireo1.Domain', 'org.vireo1.Manager', 'Name', 'Version', 'LogLevel', 'debug',
           "'; drop table events; --", 'domain', 'connection', 'Started', 'if-version', 'async', 'xml', 'kinds']
KEYS = ['if-version', 'async', 'xml', 'kinds', 'connections', 'objects', 'events', 'timeout', 'epoch', 'after', 'initial',
        'heartbeat', 'label', 'secure', 'inactive', 'wait', 'mode', 'bandwidth', 'pool', 'offset', 'length', '', 'nonsense',
        'live', 'config', 'format', 'algorithm']
NUMBERS = [0, 1, 2, 3, 255, 256, 1 << 15, (1 << 31) - 1]


class Fuzz:
    def __init__(self, address, paths, seed, hidden=None):
        self.hidden = hidden
        self.random = random.Random(seed)
        self.bus = Gio.DBusConnection.new_for_address_sync(
            address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
            Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        self.bus.set_exit_on_close(False)
        self.paths = paths
        self.members = self.introspect(paths)
        self.said = collections.Counter()
        self.waiting = 0

    @staticmethod
    def kind(path):
        return path.split('/')[3:6:2]

    def introspect(self, paths):
        found = []
        for path in paths:
            if self.hidden and path.startswith(self.hidden):
                # as if somebody had told him
                found += [(path, *rest) for rest in sorted({m[1:] for m in found if self.kind(m[0]) == self.kind(path)})]
                continue
            xml, = self.bus.call_sync(NAME, path, 'org.freedesktop.DBus.Introspectable', 'Introspect', None, None, 0, 30000,
                                      None).unpack()
            for interface in ET.fromstring(xml).findall('interface'):
                for method in interface.findall('method'):
                    found.append((path, interface.get('name'), method.get('name'), ''.join(
                        a.get('type') for a in method.findall('arg') if a.get('direction', 'in') == 'in')))
        return found

    def value(self, signature, depth=0):
        r = self.random
        kind = signature[0]
        if kind == 's':
            return GLib.Variant('s', r.choice(STRINGS))
        if kind == 'o':
            return GLib.Variant('o', r.choice([*self.paths, '/', '/org/vireo1/connection/none', '/x/y']))
        if kind == 'g':
            return GLib.Variant('g', r.choice(['', 's', 'a{sv}', '(ii)']))
        if kind == 'b':
            return GLib.Variant('b', r.random() < 0.5)
        if kind == 'd':
            return GLib.Variant('d', r.choice([0.0, -1.5, float('inf'), float('nan')]))
        if kind == 'h':
            return GLib.Variant('h', r.choice([0, 1, 7]))
        if kind == 'v':
            if depth > 3:
                return GLib.Variant('v', GLib.Variant('s', 'deep'))
            return GLib.Variant('v', self.value(r.choice(['s', 'b', 'u', 't', 'as', 'ao', 'i', 'a{sv}', 'v', 'd', 'ay', '(ss)']),
                                                depth + 1))
        if kind in 'ynqiuxt':
            top = {'y': 8, 'n': 15, 'q': 16, 'i': 31, 'u': 32, 'x': 63, 't': 64}[kind]
            choices = [n for n in NUMBERS if n < 1 << top] + [(1 << top) - 1]
            if kind in 'nix':
                choices.append(-1)
            return GLib.Variant(kind, r.choice(choices))
        if kind == '(':
            return self.tuple(signature[1:-1], depth + 1)
        if signature == 'a{sv}':
            builder = GLib.VariantBuilder.new(GLib.VariantType(signature))
            for _ in range(r.choice([0, 0, 1, 1, 2, 5])):
                builder.add_value(GLib.Variant.new_dict_entry(GLib.Variant('s', r.choice(KEYS)), self.value('v', depth + 1)))
            return builder.end()
        if kind == 'a':
            return GLib.Variant.new_array(GLib.VariantType(signature[1:]),
                                          [self.value(signature[1:], depth + 1) for _ in range(r.choice([0, 1, 3]))])
        raise ValueError(signature)

    @staticmethod
    def split(signature):
        parts = []
        while signature:
            n = 1
            while not GLib.VariantType.string_is_valid(signature[:n]):
                n += 1
            parts.append(signature[:n])
            signature = signature[n:]
        return parts

    def tuple(self, signature, depth=0):
        return GLib.Variant.new_tuple(*(self.value(s, depth) for s in self.split(signature)))

    def one(self, avoid):
        r = self.random
        path, interface, method, signature = r.choice(self.members)
        if method in avoid:
            return
        if r.random() < 0.1:
            signature = ''.join(r.choice(['s', 't', 'a{sv}', 'v', 'as', 'o', 'b', '(sv)', 'aav']) for _ in range(r.randrange(5)))
        if r.random() < 0.05:
            path = r.choice([*self.paths, '/', '/org', '/org/vireo1/job/_999999', '/org/vireo1/connection/one/domain/_x'])
        if r.random() < 0.05:
            method = r.choice(['Nonsense', 'Get', 'Set', 'Introspect', 'X' * 200])
        if r.random() < 0.05:
            interface = r.choice([None, 'a.b', 'org.freedesktop.DBus.Properties', 'org.vireo1.Domain'])
        message = Gio.DBusMessage.new_method_call(NAME, path, interface, method)
        message.set_body(self.tuple(signature))
        if 'h' in signature and r.random() < 0.9:
            fds = Gio.UnixFDList()
            with open('/dev/null', 'r+b') as null:
                for _ in range(r.choice([1, 2, 8])):
                    fds.append(null.fileno())
            message.set_unix_fd_list(fds)
        if r.random() < 0.2:
            message.set_flags(Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION)
        if r.random() < 0.05:
            message.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
            self.bus.send_message(message, Gio.DBusSendMessageFlags.NONE)
            return
        self.waiting += 1
        self.bus.send_message_with_reply(message, Gio.DBusSendMessageFlags.NONE, 60000, None, self.done, message)

    def leaks(self, call, reply):
        """Is this an answer about what is hidden?"""
        if not self.hidden or reply.get_error_name() or call.get_interface() == 'org.freedesktop.DBus.Peer':
            return False
        body = reply.get_body()
        return call.get_path().startswith(self.hidden) or (body is not None and self.hidden in body.print_(False))

    def done(self, bus, result, call):
        self.waiting -= 1
        try:
            reply = bus.send_message_with_reply_finish(result)
            self.said[reply.get_error_name() or 'answered'] += 1
            if self.leaks(call, reply):
                self.said[f'leak: {call.get_interface()}.{call.get_member()} of {call.get_path()}'] += 1
        except GLib.Error as error:
            self.said[f'local: {error.message}'] += 1


def main():
    address, paths, seed, count, avoid = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5].split(',')
    fuzz = Fuzz(address, paths, seed, *sys.argv[6:7])
    context = GLib.MainContext.default()
    for _ in range(count):
        fuzz.one(avoid)
        while fuzz.waiting >= 60 or (fuzz.waiting and context.pending()):
            context.iteration(True)
    while fuzz.waiting:
        context.iteration(True)
    print(json.dumps(fuzz.said))


if __name__ == '__main__':
    main()
