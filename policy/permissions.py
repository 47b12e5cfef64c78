#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Makes doc/permissions.md, the table of every method and property with the action that guards it: from the interface
files, the tables of the code, and, for what is not an operation of a driver, the list below.

    policy/permissions.py           write it
    policy/permissions.py --check   say whether it is up to date

That the service does ask for what stands here is the business of tests/policy/test_methods.py, which calls each.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLE = ROOT / 'doc/permissions.md'
PREFIX = 'org.vireo1.'

# What is no operation of a driver; the others have their action in introspection/call-options.c
OTHERS = {
    'Manager': {
        'view': 'GetSnapshot GetEvents Watch Sync Digest Subscribe Unsubscribe LookupDomain LookupPool LookupNetwork',
        'connections': 'Open Close',
    },
    'Connection': {'view': 'Resync'},
    'Domain': {'read-xml': 'GetXML'},
    'StoragePool': {'read-xml': 'GetXML', 'storage': 'ListVolumes'},
    'Network': {'read-xml': 'GetXML'},
    'Job': {'jobs.cancel': 'Cancel Complete', 'view': 'Wait'},
}
# Options that need another action, or one more
OPTIONS = {
    ('Manager', 'GetSnapshot'): 'with `xml` also `read-xml`, of each connection',
    ('Manager', 'GetEvents'): 'with `xml` also `read-xml`, of each connection',
    ('Manager', 'Watch'): 'with `xml` also `read-xml`, of each connection',
    ('Domain', 'GetXML'): 'with `secure`: `read-secure`',
    ('StoragePool', 'GetXML'): 'with `secure`: `read-secure`',
    ('StoragePool', 'CloneVolume'): 'with `pool` of that pool, too',
}

HEAD = '''# Who may call what

Made by `policy/permissions.py`; do not edit. The actions and what they are for are described in
`policy/org.vireo1.policy`; their full names begin with `org.vireo1.`.

- On the system bus polkit decides, about the caller's bus name, with the details `connection`, `driver`, `kind`, `uuid`,
  `name` and `operation` (the method). Root and the user that vireod runs as are not asked about.
- On a session bus, or a bus given by `--address`, root and that user may do everything, and nobody else anything.
- No polkit, no answer within 10 s (5 minutes where a person is asked), or an error: `AccessDenied`. A person is asked only
  if the message allows it; else the answer is `InteractiveAuthorizationRequired`.
- `view` is asked once for each caller and connection, and again when polkit says that it has changed. What a caller may
  not view is left out of what lists or follows all; a connection that it names is refused, or, with `Broadcast=no`, does
  not exist. Everything else is asked for each call, and what was allowed is done only if the object is still the same.
- With `Broadcast=yes` properties, `GetManagedObjects` and `Introspect` may be read by everybody, for they hold what is
  broadcast anyway. With `Broadcast=no` these show only what the caller may view.
'''


def interfaces():
    """Yield (short name, methods, properties) of the interface files, in the order of the contract."""
    for name in ('Manager', 'Connection', 'Domain', 'StoragePool', 'Network', 'Job'):
        tree = ET.parse(ROOT / f'introspection/{PREFIX}{name}.xml')
        interface = next(i for i in tree.iter('interface') if i.get('name') == PREFIX + name)
        yield (name, [m.get('name') for m in interface.findall('method')],
               [(p.get('name'), p.get('access')) for p in interface.findall('property')])


def operations():
    """Return {(interface, method): action} of the drivers' operations, from the code."""
    driver = (ROOT / 'drivers/driver.c').read_text()
    where = {'ON_CONNECTION': 'Connection', 'ON_DOMAIN': 'Domain', 'ON_POOL': 'StoragePool', 'ON_NETWORK': 'Network'}
    methods = {op: (where[on], method) for op, on, method in
               re.findall(r'\[(OP_\w+)\] = \{(ON_\w+), \.method = "(\w+)"', driver)}
    actions = dict(re.findall(r'\[(OP_\w+)\] = \{ACTION_(\w+)', (ROOT / 'introspection/call-options.c').read_text()))
    return {methods[op]: action.lower().replace('jobs_', 'jobs.').replace('_', '-') for op, action in actions.items()}


def actions():
    """Return {(interface, method): action without prefix}."""
    found = {(interface, method): action for interface, groups in OTHERS.items() for action, names in groups.items()
             for method in names.split()}
    for key, action in operations().items():
        if key in found:
            raise SystemExit(f'{key} is guarded twice')
        found[key] = action
    return found


def policy_actions():
    return {a.get('id').removeprefix(PREFIX) for a in ET.parse(ROOT / 'policy/org.vireo1.policy').iter('action')}


def check(found):
    """Return what is wrong: methods without an action, actions without a method or that polkit doesn't know."""
    methods = {(name, method) for name, names, _ in interfaces() for method in names}
    known = policy_actions()
    return [*(f'{i}.{m} has no action' for i, m in sorted(methods - set(found))),
            *(f'{i}.{m} has an action, but is no method' for i, m in sorted(set(found) - methods)),
            *(f'{i}.{m}: polkit knows no action {a}' for (i, m), a in sorted(found.items()) if a not in known),
            *(f'{a} guards nothing' for a in sorted(known - set(found.values()) - {'read-secure'})),
            *(f'{name}.{p} can be written' for name, _, properties in interfaces() for p, access in properties if access != 'read')]


def table():
    found = actions()
    wrong = check(found)
    if wrong:
        raise SystemExit('\n'.join(wrong))
    text = HEAD
    for name, methods, properties in interfaces():
        text += f'\n## {PREFIX}{name}\n\n| member | action | |\n|---|---|---|\n'
        for method in methods:
            text += f'| `{method}()` | `{found[name, method]}` | {OPTIONS.get((name, method), "")} |\n'
        for prop, _access in properties:
            text += f'| `{prop}` | `view` | asked only with `Broadcast=no` |\n' if name != 'Manager' or prop == 'Connections' else \
                f'| `{prop}` | none | tells nothing of any object |\n'
    text += '''
## Of every object

| member | action | |
|---|---|---|
| `org.freedesktop.DBus.Properties` `Get()` `GetAll()` | `view` | asked only with `Broadcast=no` |
| `org.freedesktop.DBus.Properties` `Set()` | none | nothing of Vireo's can be written |
| `org.freedesktop.DBus.Introspectable` `Introspect()` | `view` | asked only with `Broadcast=no` |
| `org.freedesktop.DBus.ObjectManager` `GetManagedObjects()` | `view` | asked only with `Broadcast=no` |
| `org.freedesktop.DBus.Peer` `Ping()` `GetMachineId()` | none | |
| `org.freedesktop.LogControl1` `LogLevel` `LogTarget` `SyslogIdentifier` | none | writing: root and the service's own user only |
'''
    return text


if __name__ == '__main__':
    TEXT = table()
    if sys.argv[1:] == ['--check']:
        sys.exit(0 if TABLE.exists() and TABLE.read_text() == TEXT else f'{TABLE} is out of date: run policy/permissions.py')
    TABLE.write_text(TEXT)
