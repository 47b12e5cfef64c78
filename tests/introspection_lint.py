#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Check the interface files of introspection/ and tabulate them.

    introspection_lint.py              check the files, and that doc/methods.md is what --write would make
    introspection_lint.py --write      write doc/methods.md
    introspection_lint.py --bites      break copies of the files on purpose; every mistake must be found

A comment stands before each interface, method, property and signal:

    Name:
    @argument: what it is (each argument of a method; of an event only @reason, for the others are always the same)

    Prose, in paragraphs.

    Common options: if-version (t), async (b).      described at the interface
    Option key (type): ...                          of the argument "options"
    Key key (type): ...                             of another dictionary
    Value word: ...                                 of an enumeration
    Detail key (type): ...                          of an event's "details"
    Private detail key (type): ...                  the same, in no signal
    Error Name: ...                                 org.vireo1.Error.Name, or a full name

A line indented deeper continues the one above. The lists of names in doc/contract.md, section 3, are read too: what is named
there has to be here, with the signature given there, and nothing else.
"""

import argparse
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parent.parent
KINDS = ('Manager', 'Connection', 'Domain', 'StoragePool', 'Network', 'Job')
CHANGED = 'org.freedesktop.DBus.Property.EmitsChangedSignal'
EVENT = [('version', 't'), ('previous', 't'), ('reason', 's'), ('properties', 'a{sv}'), ('details', 'a{sv}')]
# Details and options travel in dictionaries of these types (broker/util/vdict.h) and paths.
VALUE_TYPES = {'s', 'b', 'i', 'u', 'x', 't', 'd', 'as', 'o', 'ao'}
# A network can't be refreshed, built or deleted: libvirt has no such call, so "events as a pool's" leaves them out.
NOT_OF_NETWORKS = {'Refreshed', 'Built', 'Deleted'}
SIZES = {'Capacity', 'Allocation', 'Available'}
READS = {('Domain', 'GetXML'), ('StoragePool', 'GetXML'), ('StoragePool', 'ListVolumes'), ('Network', 'GetXML')}

# What each element may hold and bear, as in the introspection DTD: attribute -> allowed values (None: any), required.
DTD_CHILDREN = {
    'node': {'node', 'interface'},
    'interface': {'method', 'signal', 'property', 'annotation'},
    'method': {'arg', 'annotation'},
    'signal': {'arg', 'annotation'},
    'property': {'annotation'},
    'arg': {'annotation'},
    'annotation': set(),
}
DTD_ATTRIBUTES = {
    'node': {'name': (None, False)},
    'interface': {'name': (None, True)},
    'method': {'name': (None, True)},
    'signal': {'name': (None, True)},
    'property': {'name': (None, True), 'type': (None, True), 'access': ({'read', 'write', 'readwrite'}, True)},
    'arg': {'name': (None, False), 'type': (None, True), 'direction': ({'in', 'out'}, False)},
    'annotation': {'name': (None, True), 'value': (None, True)},
}


def skip_type(sig, at, arrays=0, structs=0):
    """Index behind the single complete type that begins at sig[at]; ValueError if there is none."""
    if at >= len(sig):
        raise ValueError('ends too early')
    c = sig[at]
    if c in 'ybnqiuxtdhsogv':
        return at + 1
    if c == 'a':
        if arrays == 32:
            raise ValueError('arrays too deep')
        if sig[at + 1:at + 2] != '{':
            return skip_type(sig, at + 1, arrays + 1, structs)
        if sig[at + 2:at + 3] not in tuple('ybnqiuxtdhsog'):
            raise ValueError('the key of a dictionary has to be of a basic type')
        end = skip_type(sig, at + 3, arrays + 1, structs)
        if sig[end:end + 1] != '}':
            raise ValueError('a dictionary has one key and one value')
        return end + 1
    if c == '(':
        if structs == 32:
            raise ValueError('structures too deep')
        at = skip_type(sig, at + 1, arrays, structs + 1)
        while sig[at:at + 1] != ')':
            at = skip_type(sig, at, arrays, structs + 1)
        return at + 1
    raise ValueError(f'"{c}" is no type')


def type_error(sig):
    """What is wrong with sig as one complete type; None if nothing is."""
    try:
        if len(sig) > 255:
            return 'too long'
        end = skip_type(sig, 0)
        return None if end == len(sig) else f'more than one type: "{sig[end:]}" is left over'
    except ValueError as e:
        return str(e)


class Doc:
    """One structured comment."""

    TAG = re.compile(r'^(Option|Key|Detail|Private detail) (\S+) \((\S+)\): (.+)$|^(Value|Error) (\S+): (.+)$')

    def __init__(self, text, complain):
        self.name, self.args, self.prose, self.common = '', {}, [], {}
        self.tags = {t: {} for t in ('Option', 'Key', 'Detail', 'Private detail', 'Value', 'Error')}
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        if not lines:
            complain('empty comment')
            return
        margin = min(len(line) - len(line.lstrip()) for line in lines)
        logical = []
        for line in text.splitlines():
            line = line.rstrip()[margin:]
            if line.startswith(' ') and logical and logical[-1]:
                logical[-1] += ' ' + line.strip()
            else:
                logical.append(line)
        while logical and not logical[0]:
            logical.pop(0)
        head = logical.pop(0)
        if not re.fullmatch(r'[\w.]+:', head):
            complain(f'the comment begins with "{head}", not with a name and a colon')
            return
        self.name = head[:-1]
        paragraph = []
        for line in logical + ['']:
            arg = re.match(r'@(\w+):\s+(\S.*)$', line)
            tag = self.TAG.match(line)
            common = re.match(r'Common options: (.*)\.$', line)
            if arg:
                if arg[1] in self.args:
                    complain(f'@{arg[1]} is described twice')
                self.args[arg[1]] = arg[2]
            elif common:
                for item in common[1].split(', '):
                    m = re.fullmatch(r'(\S+) \((\S+)\)', item)
                    if m:
                        self.common[m[1]] = m[2]
                    else:
                        complain(f'common option not understood: {item}')
            elif tag:
                kind, key = tag[1] or tag[5], tag[2] or tag[6]
                if key in self.tags[kind]:
                    complain(f'{kind} {key} is described twice')
                self.tags[kind][key] = (tag[3], tag[4]) if tag[1] else (None, tag[7])
                if tag[1] and tag[3] not in VALUE_TYPES:
                    complain(f'{kind} {key}: type "{tag[3]}" is none of {" ".join(sorted(VALUE_TYPES))}')
            elif re.match(r'@|(Options?|Keys?|Details?|Private details?|Values?|Errors?|Common options?)\b[^.]*:', line):
                complain(f'line not understood: {line}')
            elif line:
                paragraph.append(line)
            elif paragraph:
                self.prose.append(' '.join(paragraph))
                paragraph = []
        if not self.prose:
            complain('says nothing')


class Element:
    """A method, property or signal with its comment."""

    def __init__(self, node, doc):
        self.kind, self.name, self.doc = node.tag, node.get('name', ''), doc
        self.type = node.get('type')
        args = [(a.get('name', ''), a.get('type', ''), a.get('direction')) for a in node.findall('arg')]
        self.ins = [(n, t) for n, t, d in args if node.tag == 'method' and d != 'out']
        self.outs = [(n, t) for n, t, d in args if node.tag == 'signal' or d == 'out']
        self.directions = [d for _, _, d in args]
        self.annotations = {a.get('name'): a.get('value') for a in node.findall('annotation')}


class Interface:
    def __init__(self, short, text, errors):
        self.short, self.doc, self.elements = short, None, []
        where = f'org.vireo1.{short}.xml'

        def complain(what):
            errors.append(f'{where}: {what}')

        try:
            parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
            root = ET.fromstring(text, parser)
        except ET.ParseError as e:
            complain(f'not well-formed: {e}')
            return
        if root.tag != 'node':
            complain(f'the root is <{root.tag}>, not <node>')
            return
        self.check_dtd(root, complain)
        interfaces = root.findall('interface')
        if [i.get('name') for i in interfaces] != [f'org.vireo1.{short}']:
            complain(f'has to describe org.vireo1.{short} and nothing else')
            return
        self.doc = self.comment_before(root, interfaces[0], f'org.vireo1.{short}', complain)
        seen = set()
        for node in interfaces[0]:
            if node.tag is ET.Comment or node.tag == 'annotation':
                continue
            name = node.get('name', '')
            # A method and a signal may share a name (Shutdown of a domain).
            if (node.tag, name) in seen:
                complain(f'the {node.tag} {name} is there twice')
            seen.add((node.tag, name))
            element = Element(node, self.comment_before(interfaces[0], node, name, complain))
            self.check(element, lambda what, name=name: complain(f'{name}: {what}'))
            self.elements.append(element)

    def check_dtd(self, node, complain):
        attributes = DTD_ATTRIBUTES.get(node.tag, {})
        label = f'<{node.tag} name="{node.get("name", "")}">'
        for key, value in node.attrib.items():
            if key not in attributes:
                complain(f'{label}: attribute {key} is unknown')
            elif attributes[key][0] and value not in attributes[key][0]:
                complain(f'{label}: {key}="{value}" is none of {" ".join(sorted(attributes[key][0]))}')
        for key, (_, required) in attributes.items():
            if required and not node.get(key):
                complain(f'{label}: attribute {key} is missing')
        if (node.text or '').strip() or any((c.tail or '').strip() for c in node):
            complain(f'{label}: text between elements')
        for child in node:
            if child.tag is ET.Comment:
                continue
            if child.tag not in DTD_CHILDREN.get(node.tag, set()):
                complain(f'{label}: may not contain <{child.tag}>')
            else:
                self.check_dtd(child, complain)

    def comment_before(self, parent, node, name, complain):
        children = list(parent)
        at = children.index(node)
        if at == 0 or children[at - 1].tag is not ET.Comment:
            complain(f'{name}: no comment before it')
            return None
        doc = Doc(children[at - 1].text, lambda what: complain(f'{name}: {what}'))
        if doc.name != name:
            complain(f'{name}: the comment before it is about "{doc.name}"')
        return doc

    def check(self, e, complain):
        if not re.fullmatch(r'[A-Z][A-Za-z0-9]{0,254}', e.name):
            complain('the name is not in CamelCase')
        for key, value in e.annotations.items():
            if key != CHANGED:
                complain(f'annotation {key} is not used here')
            elif e.kind != 'property' or value not in ('true', 'invalidates', 'const', 'false'):
                complain(f'annotation {key}="{value}" has no meaning here')
        if e.kind == 'property':
            bad = type_error(e.type or '')
            if bad:
                complain(f'type "{e.type}": {bad}')
        args = e.ins + e.outs
        for n, t in args:
            if not re.fullmatch(r'[a-z][a-z0-9_]*', n):
                complain(f'argument "{n}": not a name in small letters')
            if type_error(t):
                complain(f'argument {n}, type "{t}": {type_error(t)}')
        if len({n for n, _ in args}) != len(args):
            complain('two arguments have the same name')
        if e.kind == 'method':
            if None in e.directions:
                complain('an argument without direction')
            if 'out' in e.directions and 'in' in e.directions[e.directions.index('out'):]:
                complain('an in argument behind an out argument')
            if ('options', 'a{sv}') in e.ins[:-1] or any(t == 'a{sv}' and n != 'options' for n, t in e.ins):
                complain('options have to be called so and to come last')
        elif e.kind == 'signal' and 'in' in e.directions:
            complain('a signal has no in arguments')
        if e.doc:
            self.check_doc(e, complain)

    def check_doc(self, e, complain):
        doc, event = e.doc, e.kind == 'signal' and e.outs == EVENT
        wanted = ['reason'] if event else [n for n, _ in e.ins + e.outs]
        for n in wanted:
            if n not in doc.args:
                complain(f'@{n} is not described')
        for n in doc.args:
            if n not in wanted:
                complain(f'@{n} is described and is no argument' if not event else f'@{n}: only @reason is described')
        if e.kind == 'signal' and not event and (self.short, e.name) != ('Manager', 'Bookmark'):
            complain('an event has the arguments ' + ', '.join(f'{t} {n}' for n, t in EVENT))
        allowed = {
            'method': {'Option', 'Key', 'Error'},
            'property': {'Value'},
            'signal': {'Detail', 'Private detail'} if event else set(),
        }[e.kind]
        for tag, found in doc.tags.items():
            if found and tag not in allowed:
                complain(f'"{tag}" has no meaning at a {e.kind}')
        takes = ('options', 'a{sv}') in e.ins
        if (doc.tags['Option'] or doc.common) and not takes:
            complain('has Option lines and takes no options')
        if doc.tags['Key'] and not any('a{sv}' in t for _, t in e.outs):
            complain('has Key lines and answers no dictionary')
        for key in list(doc.tags['Option']) + list(doc.common):
            if not re.fullmatch(r'[a-z][a-z0-9-]*', key):
                complain(f'option {key}: not in small letters and dashes')
        for key, kind in doc.common.items():
            defined = self.doc and self.doc.tags['Option'].get(key)
            if not defined or defined[0] != kind:
                complain(f'common option {key} ({kind}) is not described at the interface')
            if key in doc.tags['Option']:
                complain(f'option {key} is common and special')
        if e.kind == 'method' and self.short in ('Domain', 'StoragePool', 'Network'):
            changing = (self.short, e.name) not in READS
            if changing and e.outs[-2:] != [('job', 'o'), ('version', 't')]:
                complain('what may last answers "o job, t version"')
            if changing != (doc.common == {'if-version': 't', 'async': 'b'}):
                complain('if-version and async are options of every changing method, and of no other')

    def names(self, kind):
        return {e.name for e in self.elements if e.kind == kind}

    def signature(self, kind, name):
        e = next((e for e in self.elements if (e.kind, e.name) == (kind, name)), None)
        return e and (e.type or (''.join(t for _, t in e.ins), ''.join(t for _, t in e.outs)))


class Contract:
    """The lists of names in section 3 of the contract."""

    def __init__(self, text, errors):
        self.members = {k: {'property': {}, 'method': {}, 'signal': {}} for k in KINDS}
        self.errors = set()
        section = re.search(r'^## 3\. .*?(?=^## 4\. )', text, re.M | re.S)
        if not section:
            errors.append('contract.md: there is no section 3')
            return
        parts = re.split(r'^### (.*)$', section[0], flags=re.M)
        for title, body in zip(parts[1::2], parts[2::2]):
            short = title.strip().removeprefix('org.vireo1.')
            if short == 'Manager':
                self.read_table(body)
            elif short in KINDS:
                self.read_lists(short, body)
            elif short == 'Errors':
                self.read_errors(body)
        for short in KINDS:
            for kind, found in self.members[short].items():
                if not found:
                    errors.append(f'contract.md: no {kind} of {short} found; did the form of the page change?')
        if not self.errors:
            errors.append('contract.md: no names of errors found')

    @staticmethod
    def types(args):
        """'s xml, a{sv}' -> 'sa{sv}'; None when no types are given."""
        words = [a.split()[0] for a in args.split(',') if a.split()]
        return ''.join(words) if all(type_error(w) is None for w in words) else None

    def add_method(self, short, group, arrow=None):
        m = re.match(r'(\w+)(?:\((.*?)\))?(?: → (.*))?$', group)
        ins = self.types(m[2]) if m[2] is not None else None
        outs = self.types(arrow or m[3]) if arrow or m[3] else None
        self.members[short]['method'][m[1]] = (ins, outs)

    def read_table(self, body):
        for line in body.splitlines():
            cells = [c.strip() for c in line.replace('\\|', '').strip('|').split('|')]
            groups = re.findall(r'`([A-Z][^`]*)`', cells[0])
            if not line.startswith('| `') or not groups:
                continue
            signature = cells[1].replace('`', '').strip()
            if 'signal' in signature:
                self.members['Manager']['signal'][groups[0].split('(')[0]] = re.search(r'signal (\S+)|(\S+)$', cells[1].replace('`', ''))[0].split()[-1]
            elif '(' not in cells[0] and 'name or' not in signature:
                types = signature.split(' ')
                self.members['Manager']['property'].update(zip(groups, types))
            else:
                # "s a{sv} → o", "o": one for each name; else one for all, with names among the types.
                pairs = re.findall(r'`([^`]*)`', cells[1])
                for n, group in enumerate(groups):
                    pair = pairs[min(n, len(pairs) - 1)]
                    ins, _, outs = pair.partition(' → ')
                    name, _, given = group.partition('(')
                    ins = ''.join(w for w in ins.split() if type_error(w) is None)
                    if given == ')':
                        ins = ''
                    self.members['Manager']['method'][name] = (ins, self.types(outs) if outs else '')

    def read_lists(self, short, body):
        props, _, rest = body.partition('Methods')
        methods, _, events = rest.partition('Events')
        if short == 'Job':
            events, _, _ = events.partition('Progress:')
        if props.strip().startswith('Properties as a pool'):
            pool = self.members['StoragePool']['property']
            self.members[short]['property'] = {n: t for n, t in pool.items() if n not in SIZES}
        for group in re.findall(r'`([^`]*)`', props):
            *names, kind = group.split()
            if names and all(re.fullmatch(r'[A-Z]\w*', n) for n in names) and type_error(kind) is None:
                self.members[short]['property'].update({n: kind for n in names})
        methods = re.split(r'^Options of every changing method', methods, flags=re.M)[0]
        for m in re.finditer(r'`([A-Z][^`]*)`', methods):
            if m[1] == 'Object':
                continue
            if re.search(r'[(→]', m[1]):
                self.add_method(short, m[1])
            else:
                for name in m[1].split():
                    self.add_method(short, name)
        if events.lstrip(': ').startswith("as a pool's"):
            self.members[short]['signal'] = {n: None for n in self.members['StoragePool']['signal'] if n not in NOT_OF_NETWORKS}
        for group in re.findall(r'`([^`]*)`', events):
            for name in group.split():
                if re.fullmatch(r'[A-Z]\w*', name):
                    self.members[short]['signal'][name] = None
        if short == 'Network':
            self.members[short]['signal'] = {n: None for n in self.members['StoragePool']['signal'] if n not in NOT_OF_NETWORKS}

    def read_errors(self, body):
        groups = re.findall(r'`([^`]*)`', body)
        for group in groups:
            self.errors.update(n for n in group.split() if re.fullmatch(r'[A-Z]\w+', n))

    def compare(self, interfaces, errors):
        for short in KINDS:
            interface, has = interfaces[short], self.members[short]
            for kind, found in has.items():
                where = f'org.vireo1.{short}.xml'
                for name, signature in found.items():
                    real = interface.signature(kind, name)
                    if name not in interface.names(kind):
                        errors.append(f'{where}: the contract names the {kind} {name}')
                    elif kind == 'property' and real != signature:
                        errors.append(f'{where}: {name}: type {real}, in the contract {signature}')
                    elif kind == 'method':
                        for direction, want, is_ in zip(('in', 'out'), signature, real):
                            if want is not None and want != is_:
                                errors.append(f'{where}: {name}: {direction} "{is_}", in the contract "{want}"')
                    elif kind == 'signal' and signature and real[1] != signature:
                        errors.append(f'{where}: {name}: arguments "{real[1]}", in the contract "{signature}"')
                # A domain has "every other event that the hypervisor has" besides those named.
                if (short, kind) != ('Domain', 'signal'):
                    for name in sorted(interface.names(kind) - set(found)):
                        errors.append(f'{where}: the contract has no {kind} {name}')
        used = set()
        for short, interface in interfaces.items():
            for doc in [interface.doc] + [e.doc for e in interface.elements]:
                for name in doc.tags['Error'] if doc else ():
                    used.add(name.removeprefix('org.freedesktop.DBus.Error.'))
                    if name.removeprefix('org.freedesktop.DBus.Error.') not in self.errors:
                        errors.append(f'org.vireo1.{short}.xml: {doc.name}: the contract has no error {name}')
        for name in sorted(self.errors - used):
            errors.append(f'introspection: no file says when the error {name} comes')


def table(interfaces):
    """doc/methods.md"""
    def cell(text):
        return text.replace('|', '\\|')

    def args(pairs):
        return ', '.join(f'`{t}` {n}' for n, t in pairs) or '–'

    def keys(found):
        return '; '.join(f'`{k} {t}` {cell(text)}' for k, (t, text) in found.items())

    out = ['<!-- Made by tests/introspection_lint.py --write from introspection/*.xml: change those. -->', '',
           '# Methods and events, at a glance', '',
           'What each method of the bus takes and answers, and what each event brings. The full description is in the',
           'interface files (`introspection/`, installed in `dbus-1/interfaces`). Every dictionary `options` may be empty; a key',
           'that is unknown or repeated is refused by name. An error without a dot is `org.vireo1.Error.`*name*.', '',
           'Every event is a signal `(t version, t previous, s reason, a{sv} properties, a{sv} details)`. A *private* detail',
           'is in `GetEvents` and streams, and in no signal.']
    for short in KINDS:
        i = interfaces[short]
        out += ['', f'## org.vireo1.{short}', '']
        common = i.doc.tags['Option']
        if common:
            out += [f'*common* options: {keys(common)}.', '']
        if i.doc.tags['Error']:
            every = 'Every method of every interface' if short == 'Manager' else 'Every changing method' if common else 'Every method'
            out += [f'{every} can also fail with ' + ', '.join(f'`{n}`' for n in i.doc.tags['Error']) + '.', '']
        out += ['| method | takes | options | answers | errors |', '|---|---|---|---|---|']
        for e in i.elements:
            if e.kind != 'method':
                continue
            takes = [(n, t) for n, t in e.ins if n != 'options']
            has = ('options', 'a{sv}') in e.ins
            options = [keys(e.doc.tags['Option'])] if e.doc.tags['Option'] else []
            if e.doc.common:
                options.insert(0, '*common*')
            failures = '; '.join(f'`{n}` {cell(text)}' for n, (_, text) in e.doc.tags['Error'].items())
            row = (f'`{e.name}`', args(takes), '; '.join(options) or ('none yet' if has else 'takes none'), args(e.outs), failures or '–')
            out.append('| ' + ' | '.join(row) + ' |')
        details = i.doc.tags['Detail']
        if details:
            out += ['', 'Details that can be in each event: ' + keys(details) + '.', '']
        else:
            out += ['']
        events = [e for e in i.elements if e.kind == 'signal']
        out += ['| event | reasons | details |', '|---|---|---|']
        for e in events:
            parts = [keys(e.doc.tags['Detail'])] if e.doc.tags['Detail'] else []
            parts += [f'*private* {keys(e.doc.tags["Private detail"])}'] if e.doc.tags['Private detail'] else []
            reason = e.doc.args['reason'] if 'reason' in e.doc.args else args(e.outs)
            out.append(f'| `{e.name}` | {cell(reason)} | {"; ".join(parts) or "–"} |')
    return '\n'.join(out) + '\n'


def lint(texts, contract):
    """(interfaces, errors) of the files given as {short name: text}."""
    errors = []
    interfaces = {short: Interface(short, texts[short], errors) for short in KINDS}
    Contract(contract, errors).compare(interfaces, errors)
    return interfaces, errors


def compare_sources(root, text):
    """The tables in the sources that repeat names of the contract."""
    contract, errors = Contract(text, []), []
    table = (root / 'broker/util/error.c').read_text('utf-8')
    names = set(re.findall(r'= (?:OURS|BUS) "(\w+)"', table)) - {'NoMemory'}
    errors += [f'broker/util/error.c: no {n}' for n in sorted(contract.errors - names)]
    errors += [f'broker/util/error.c: {n} is not in the contract' for n in sorted(names - contract.errors)]
    names = set(re.findall(r'"org\.vireo1\.(\w+)"', (root / 'introspection/names.h').read_text('utf-8')))
    errors += [f'introspection/names.h: {n} is too much, or missing' for n in sorted(names ^ set(KINDS))]
    # Each property with its type, in the order of the interface file.
    table = (root / 'broker/props.c').read_text('utf-8')
    for short, name in (('Connection', 'connection'), ('Domain', 'domain'), ('StoragePool', 'pool'), ('Network', 'network'), ('Job', 'job')):
        schema = re.search(rf'{name}_schema\[\] = \{{(.*?)\n\}};', table, re.S)
        found = re.findall(r'= \{"(\w+)", "([^"]+)"', schema[1]) if schema else []
        interface = Interface(short, (root / f'introspection/org.vireo1.{short}.xml').read_text('utf-8'), [])
        wanted = [(e.name, e.type) for e in interface.elements if e.kind == 'property']
        if found != wanted:
            errors.append(f'broker/props.c: properties of {short}: {found}, in the interface file {wanted}')
    table = (root / 'drivers/driver.c').read_text('utf-8')
    found = re.findall(r'\{ON_(\w+), \.method = "(\w+)"', table)
    shorts = {'CONNECTION': 'Connection', 'DOMAIN': 'Domain', 'POOL': 'StoragePool', 'NETWORK': 'Network'}
    found = {(shorts[kind], method) for kind, method in found}
    # Resync is no operation of a driver: the broker lists.
    wanted = {(k, m) for k in shorts.values() for m in contract.members[k]['method']} - {('Connection', 'Resync')}
    errors += [f'drivers/driver.c: operation {k}.{m} is too much, or missing' for k, m in sorted(found ^ wanted)]
    return errors


# One mistake each: file, what is replaced (once) by what, and a word that the complaint has to contain.
MISTAKES = (
    ('Job', '</interface>', '', 'not well-formed'),
    ('Job', '<method name="Cancel">', '<method name="cancel">', 'CamelCase'),
    ('Job', '<method name="Cancel">', '<method>', 'attribute name is missing'),
    ('Job', '<method name="Cancel">', '<method name="Cancel" type="s">', 'attribute type is unknown'),
    ('Job', '<method name="Cancel">', '<method name="Cancel"><property name="X" type="s" access="read"/>', 'may not contain'),
    ('Job', 'name="timeout" type="t" direction="in"', 'name="timeout" type="t" direction="inout"', 'direction'),
    ('Job', 'name="timeout" type="t" direction="in"', 'name="timeout" type="t"', 'without direction'),
    ('Job', 'name="timeout" type="t"', 'name="timeout" type="u"', 'in the contract'),
    ('Job', 'name="timeout" type="t"', 'name="timeout" type="a{vs}"', 'basic type'),
    ('Job', '@timeout:', '@time:', 'not described'),
    ('Job', 'type="(ss)"', 'type="(ss"', 'ends too early'),
    ('Job', 'type="(ss)"', 'type="ss"', 'more than one type'),
    ('Job', 'name="Percent" type="d"', 'name="Percent" type="u"', 'in the contract'),
    ('Job', 'access="read"', 'access="peek"', 'access'),
    ('Job', 'Error NotCancellable:', 'Error NotCancelable:', 'no error NotCancelable'),
    ('Job', 'Value bounded:', 'Values bounded:', 'not understood'),
    ('Job', 'value="const"', 'value="constant"', 'no meaning'),
    ('Job', '<signal name="Finished">', '<signal name="Ended">', 'the contract names the signal Finished'),
    ('Job', '<signal name="Finished">', '<!-- more --><signal name="Finished">', 'begins with'),
    ('Domain', '<arg name="version" type="t"/>', '', 'an event has the arguments'),
    ('Domain', '@reason:', '@why:', '@reason is not described'),
    ('Domain', 'Option paused (b):', 'Option paused (y):', 'type "y"'),
    ('Domain', 'Common options: if-version (t), async (b).', 'Common options: if-version (t).', 'every changing method'),
    ('Domain', '<arg name="job" type="o" direction="out"/>', '', 'may last answers'),
    ('Domain', '<property name="Reason" type="s" access="read"/>', '', 'the contract names the property Reason'),
    ('Network', '<signal name="Updated">', '<signal name="Refreshed">', 'the contract has no signal Refreshed'),
    ('Network', '<node>', '<node>text', 'text between'),
    ('Network', 'name="org.vireo1.Network"', 'name="org.vireo1.Net"', 'nothing else'),
    ('Manager', '<arg name="stream" type="h"', '<arg name="stream" type="s"', 'in the contract'),
    ('Manager', '<signal name="Bookmark">', '<signal name="Mark">', 'the contract names the signal Bookmark'),
    ('Manager', '<method name="LookupPool">', '<method name="LookupNetwork">', 'twice'),
    ('Connection', '<method name="Resync">', '<method name="Refresh">', 'the contract names the method Resync'),
)


def bites(texts, contract):
    missed = 0
    for short, old, new, word in MISTAKES:
        if old not in texts[short]:
            print(f'{short}: "{old}" is not there to be broken', file=sys.stderr)
            missed += 1
            continue
        broken = dict(texts)
        broken[short] = texts[short].replace(old, new, 1)
        _, errors = lint(broken, contract)
        if not any(word in e and f'org.vireo1.{short}.xml' in e for e in errors):
            print(f'{short}: "{old}" made "{new}" was not found; only: {errors}', file=sys.stderr)
            missed += 1
    print(f'{len(MISTAKES) - missed} of {len(MISTAKES)} mistakes found')
    return missed == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=pathlib.Path, default=ROOT, help='top of the source tree')
    parser.add_argument('--write', action='store_true', help='write doc/methods.md')
    parser.add_argument('--bites', action='store_true', help='check that mistakes are found')
    options = parser.parse_args()
    texts = {k: (options.root / f'introspection/org.vireo1.{k}.xml').read_text('utf-8') for k in KINDS}
    contract = (options.root / 'doc/contract.md').read_text('utf-8')
    interfaces, errors = lint(texts, contract)
    present = {p.name for p in (options.root / 'introspection').glob('*.xml')}
    errors += [f'{n}: not checked by this script' for n in sorted(present - {f'org.vireo1.{k}.xml' for k in KINDS})]
    errors += compare_sources(options.root, contract)
    if not errors and options.bites:
        return 0 if bites(texts, contract) else 1
    if not errors:
        methods = options.root / 'doc/methods.md'
        if options.write:
            methods.write_text(table(interfaces), 'utf-8')
        elif not methods.exists() or methods.read_text('utf-8') != table(interfaces):
            errors.append('doc/methods.md is not what the interface files say: run tests/introspection_lint.py --write')
    for e in errors:
        print(e, file=sys.stderr)
    if not errors:
        count = sum(len(i.elements) for i in interfaces.values())
        print(f'{len(interfaces)} interfaces, {count} members: well')
    return 1 if errors else 0


if __name__ == '__main__':
    sys.exit(main())
