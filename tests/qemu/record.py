#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""record.py BASENAME: hold a conversation with the installed QEMU and write it down, for tests that replay it.

BASENAME.qmp has all of it; BASENAME.rest what comes behind the negotiation. Lines: "> COMMAND" and "< ANSWER".
"""

import json
import subprocess
import sys

COMMANDS = [
    ('query-uuid', None), ('query-name', None), ('query-target', None), ('query-kvm', None),
    ('qom-get', {'path': '/machine', 'property': 'type'}), ('query-cpus-fast', None),
    ('query-memory-size-summary', None), ('query-balloon', None), ('query-block', None), ('query-vnc', None),
    ('query-chardev', None), ('query-status', None), ('stop', None), ('cont', None), ('query-status', None),
    ('no-such-command', None), ('system_reset', None), ('query-qmp-schema', None), ('quit', None),
]


def main(base):
    qemu = subprocess.Popen(
        ['qemu-system-x86_64', '-machine', 'pc,accel=tcg', '-m', '32', '-display', 'none', '-nodefaults', '-uuid',
         '01234567-89ab-4cde-8f01-23456789abcd', '-name', 'recorded', '-qmp', 'stdio'],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = [('<', json.loads(qemu.stdout.readline()))]
    number = 0
    for command, arguments in [('qmp_capabilities', None), *COMMANDS]:
        number += 1
        line = {'execute': command, 'id': number}
        if arguments:
            line['arguments'] = arguments
        said.append(('>', line))
        qemu.stdin.write(json.dumps(line) + '\n')
        qemu.stdin.flush()
        while True:
            answer = json.loads(qemu.stdout.readline())
            said.append(('<', answer))
            if 'id' in answer:
                break
    for line in qemu.stdout:
        said.append(('<', json.loads(line)))
    qemu.wait()
    for suffix, part in (('qmp', said), ('rest', said[3:])):
        with open(f'{base}.{suffix}', 'w', encoding='utf-8') as f:
            for who, line in part:
                # the schema is half a megabyte: a part of it is as good
                if isinstance(line.get('return'), list) and len(line['return']) > 100:
                    line = {**line, 'return': line['return'][:100]}
                f.write(f'{who} {json.dumps(line)}\n')


main(sys.argv[1])
