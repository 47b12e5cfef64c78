# SPDX-License-Identifier: LGPL-2.1-or-later
"""What virsh says that is, in the broker's words, and whether the broker says the same."""

import re

from .virsh import VirshError

STATES = {'running': 'running', 'idle': 'blocked', 'paused': 'paused', 'in shutdown': 'shutdown',
          'shut off': 'shutoff', 'crashed': 'crashed', 'pmsuspended': 'pmsuspended', 'no state': 'nostate'}


def _fields(text):
    return {m[1].strip(): m[2].strip() for m in re.finditer(r'^([^:\n]+):[ \t]*(.*)$', text, re.M)}


def _kib(text):
    return int(text.split()[0]) * 1024


def domains(virsh):
    """Return {uuid: properties} of all domains."""
    for _ in range(10):
        try:
            return _domains(virsh)
        except VirshError:
            continue  # one went between two questions
    return _domains(virsh)


def _domains(virsh):
    truth = {}
    for uuid in virsh('list', '--all', '--uuid').split():
        info = _fields(virsh('dominfo', uuid))
        state = re.match(r'(.*?)(?: \((.*)\))?$', virsh('domstate', '--reason', uuid).strip())
        truth[uuid] = {
            'Name': info['Name'], 'UUID': uuid, 'OSType': info['OS Type'],
            'ID': -1 if info['Id'] == '-' else int(info['Id']),
            'State': STATES[state[1]], 'Reason': state[2] or 'unknown', 'Active': info['Id'] != '-',
            'Persistent': info['Persistent'] == 'yes', 'Autostart': info['Autostart'] == 'enable',
            'HasManagedSave': info['Managed save'] == 'yes',
            'VCPUs': int(info['CPU(s)']), 'MaxMemory': _kib(info['Max memory']), 'Memory': _kib(info['Used memory']),
        }
        if state[2] == 'starting up':
            # not started yet, by the contract; a libvirtd that is killed just then leaves one so for good
            if not truth[uuid]['Persistent']:
                del truth[uuid]
                continue
            truth[uuid].update(ID=-1, State='shutoff', Active=False)
            for key in ('Reason', 'Memory', 'MaxMemory', 'VCPUs'):
                del truth[uuid][key]
    return truth


def pools(virsh):
    truth = {}
    for uuid in virsh('pool-list', '--all', '--uuid').split():
        info = _fields(virsh('pool-info', '--bytes', uuid))
        truth[uuid] = {
            'Name': info['Name'], 'UUID': uuid, 'Active': info['State'] != 'inactive',
            'Persistent': info['Persistent'] == 'yes', 'Autostart': info['Autostart'] == 'yes',
        }
        if 'Capacity' in info:
            truth[uuid].update({k: int(info[k].split()[0]) for k in ('Capacity', 'Allocation', 'Available')})
    return truth


def networks(virsh):
    truth = {}
    for uuid in virsh('net-list', '--all', '--uuid').split():
        info = _fields(virsh('net-info', uuid))
        truth[uuid] = {
            'Name': info['Name'], 'UUID': uuid, 'Active': info['Active'] == 'yes',
            'Persistent': info['Persistent'] == 'yes', 'Autostart': info['Autostart'] == 'yes',
            'Bridge': info.get('Bridge', ''),
        }
    return truth


def compare(virsh, client, connection, ignored=()):
    """Return what the broker says otherwise than virsh: a list of sentences."""
    _, version, objects = client.snapshot()
    wrong = []
    for kind, truth in (('Domain', domains(virsh)), ('StoragePool', pools(virsh)), ('Network', networks(virsh))):
        told = {p['UUID']: p for path, (k, p) in objects.items()
                if k == kind and path.startswith(connection + '/')}
        for uuid in sorted(set(truth) | set(told)):
            if uuid not in told:
                wrong.append(f'{kind} {truth[uuid]["Name"]} is missing at {version}')
            elif uuid not in truth:
                wrong.append(f'{kind} {told[uuid]["Name"]} does not exist, but is there at {version}')
            else:
                for key, value in truth[uuid].items():
                    if key not in ignored and told[uuid].get(key) != value:
                        wrong.append(f'{kind} {truth[uuid]["Name"]}: {key} is {value!r}, '
                                     f'but {told[uuid].get(key)!r} at {version}')
    return wrong
