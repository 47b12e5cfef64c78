#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The broker under valgrind: a life with changes, refusals and a plain end, on libvirt's test driver, on the simulated one,
and with a connection that does not come about. No memory is misused, none is lost, and it ends with 0.
"""

import shutil

from gi.repository import GLib

from kit import program
from kit.vireod import BusError, busctl

WRAPPER = ['valgrind', '--quiet', '--error-exitcode=99', '--leak-check=full', '--errors-for-leak-kinds=definite',
           '--show-leak-kinds=definite', '--child-silent-after-fork=yes']
DOMAIN = ("<domain type='test'><name>from valgrind</name><uuid>11111111-2222-3333-4444-555555555555</uuid>"
          "<memory>8192</memory><os><type>hvm</type></os></domain>")


def live(test, vireod, connection):
    """A little of everything."""
    path = vireod.call(connection, 'org.vireo1.Connection', 'DefineDomain', '(sa{sv})', DOMAIN, {})[0]
    for method in ('Start', 'Suspend', 'Resume', 'Reboot', 'Destroy', 'Undefine'):
        vireod.call(path, 'org.vireo1.Domain', method, '(a{sv})', {}, limit=120)
    domain = vireod.lookup('test')
    vireod.call(domain, 'org.vireo1.Domain', 'GetXML', '(a{sv})', {})
    vireod.call(vireod.lookup('default-pool', 'Pool'), 'org.vireo1.StoragePool', 'ListVolumes', '(a{sv})', {})
    for path, interface, method, signature, *arguments in (
            (domain, 'Domain', 'Start', '(a{sv})', {}),
            (domain, 'Domain', 'Start', '(a{sv})', {'no-such-key': GLib.Variant('b', True)}),
            (connection, 'Connection', 'DefineDomain', '(sa{sv})', '<domain><name>half', {}),
            ('/org/vireo1', 'Manager', 'LookupDomain', '(s)', 'nobody'),
            ('/org/vireo1', 'Manager', 'Open', '(sa{sv})', 'nonsense:///', {}),
            ('/org/vireo1/connection/none', 'Connection', 'Resync', '(a{sv})', {})):
        try:
            vireod.call(path, f'org.vireo1.{interface}', method, signature, *arguments, limit=120)
            test.fail(f'{method}{arguments} was not refused')
        except BusError:
            pass
    vireod.call(connection, 'org.vireo1.Connection', 'Resync', '(a{sv})', {}, limit=120)
    vireod.sync(limit=120)
    vireod.snapshot(xml=GLib.Variant('b', True))
    vireod.managed_objects()
    busctl(vireod.bus, 'tree', 'org.vireo1', limit=120)
    opened = vireod.manager('Open', '(sa{sv})', 'sim:///demo', {}, limit=120)
    vireod.manager('Close', '(o)', opened, limit=120)


def main(test):
    program.needs(lambda: None if shutil.which('valgrind') else 'valgrind is not installed')
    # the third is a socket that is not there: it retries, and has to give up at the end
    vireod = test.vireod('test:///default', 'none=qemu:///system?socket=/nonexistent/libvirt-sock', wrapper=WRAPPER,
                         start=False)
    vireod.start(limit=120)
    connection = '/org/vireo1/connection/test_default'
    vireod.wait_connected(path=connection, limit=120)
    with test.case('a life'):
        live(test, vireod, connection)
    with test.case('a plain end'):
        status = vireod.stop(limit=120)
        test.equal(status, 0, 'exit status (99: valgrind found something)')
        test.check('== ' not in vireod.log(), 'valgrind has something to say')


if __name__ == '__main__':
    program.run(main)
