#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Make org.vireo1(5) of its frame and of the comments in the interface files.

    interface.py org.vireo1.5.in INTERFACE.xml... >org.vireo1.5

How the comments are written is described in tests/introspection_lint.py, which checks them.
"""

import re
import sys
import xml.etree.ElementTree as ET

ENTRY = re.compile(r'(Option|Key|Value|Detail|Private detail|Error) ([^ :]+)(?: \(([^)]*)\))?: (.*)', re.DOTALL)
EVENT = ('version', 'previous', 'reason', 'properties', 'details')


class Comment:
    """What stands before an element: prose in paragraphs, what is said of arguments, and entries of lists."""

    def __init__(self, text):
        self.arguments = {}
        self.paragraphs = []
        self.entries = []  # (what, key, type, text)
        self.common = False
        paragraph = []
        for line in logical_lines(text):
            match = ENTRY.fullmatch(line)
            argument = re.fullmatch(r'@(\w+): *(.*)', line, re.DOTALL)
            if not line or match or argument or line.startswith('Common options:'):
                if paragraph:
                    self.paragraphs.append(' '.join(paragraph))
                paragraph = []
            if match:
                self.entries.append(match.groups())
            elif argument:
                self.arguments[argument[1]] = argument[2]
            elif line.startswith('Common options:'):
                self.common = True
            elif line:
                paragraph.append(line)
        if paragraph:
            self.paragraphs.append(' '.join(paragraph))


def logical_lines(text):
    """Yield lines without their indentation; what is indented deeper goes on with the line above."""
    lines = text.expandtabs().rstrip().split('\n')
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    base = min(indents) if indents else 0
    held = None
    first = True
    for line in lines:
        if first and (not line.strip() or line.strip().endswith(':')):
            # the name of what follows
            first = not line.strip()
            continue
        deeper = line.strip() and len(line) - len(line.lstrip()) > base
        if deeper and held is not None:
            held += ' ' + line.strip()
            continue
        if held is not None:
            yield held
        held = line.strip()
    if held is not None:
        yield held


def read(path):
    """Yield (kind, element, comment) of an interface file, the interface itself first."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.parse(path, parser).getroot()
    comment = None
    interface = None
    for node in root:
        if node.tag is ET.Comment:
            comment = node.text
        else:
            interface = node
    yield 'interface', interface, Comment(comment)
    comment = None
    for node in interface:
        if node.tag is ET.Comment:
            comment = node.text
        else:
            yield node.tag, node, Comment(comment)


# ---- mdoc

def text(s):
    """Prose, a sentence a line, and nothing in it a macro."""
    s = re.sub(r'\s+', ' ', s).strip().replace('\\', '\\e')
    lines = re.sub(r'([.;]) (?=[A-Z"])', r'\1\n', s).split('\n')
    return '\n'.join('\\&' + line if line[:1] in '.\'' else line for line in lines)


def quoted(s):
    return '"' + s.replace('\\', '\\e').replace('"', '\\(dq') + '"'


def entries(comment, what, title):
    found = [e for e in comment.entries if e[0] in what]
    if not found:
        return
    print(f'.Pp\n{title}:\n.Bl -tag -width Ds -compact')
    for kind, key, signature, words in found:
        mark = ' \\(em private' if kind == 'Private detail' else ''
        # a type is never to be taken for a macro
        print(f'.It Sy {key}' + (f' Pq \\&{signature}' if signature else '') + mark)
        print(text(words))
    print('.El')


def show_interface(element, comment):
    print(f'.Sh {element.get("name").upper()}')
    for i, paragraph in enumerate(comment.paragraphs):
        print('.Pp' if i else '', text(paragraph), sep='\n' if i else '')
    entries(comment, ('Option',), 'Options of every method that changes something')
    entries(comment, ('Detail', 'Private detail'), 'Details of every event')
    entries(comment, ('Error',), 'Errors of every method')


def show_property(element, comment):
    print(f'.It Va {element.get("name")} Pq \\&{element.get("type")}')
    print(text(' '.join(comment.paragraphs)))
    values = [e for e in comment.entries if e[0] == 'Value']
    if values:
        print('.Bl -tag -width Ds -compact')
        for _, key, _, words in values:
            print(f'.It Ql {key}\n{text(words)}')
        print('.El')


def show_method(element, comment):
    ins = [a for a in element.findall('arg') if a.get('direction') == 'in']
    outs = [a for a in element.findall('arg') if a.get('direction') == 'out']
    takes = ' '.join(quoted(f'{a.get("type")} {a.get("name")}') for a in ins)
    print(f'.It Fn {element.get("name")} {takes}'.rstrip()
          + (' No \\(-> ' + quoted(', '.join(f'{a.get("type")} {a.get("name")}' for a in outs)) if outs else ''))
    for i, paragraph in enumerate(comment.paragraphs):
        print('.Pp' if i else '', text(paragraph), sep='\n' if i else '')
    told = [(name, words) for name, words in comment.arguments.items() if name != 'options']
    if told:
        print('.Pp\n.Bl -tag -width Ds -compact')
        for name, words in told:
            print(f'.It Fa {name}\n{text(words)}')
        print('.El')
    entries(comment, ('Option',), 'Options' + (', beside the common ones' if comment.common else ''))
    entries(comment, ('Key',), 'Keys')
    entries(comment, ('Error',), 'Errors')


def show_event(element, comment):
    own = [a.get('name') for a in element.findall('arg')]
    print(f'.It Sy {element.get("name")}' + ('' if tuple(own) == EVENT else ' ' + ' '.join(own)))
    print(text(' '.join(comment.paragraphs)))
    reason = comment.arguments.get('reason', '')
    if reason and reason != 'empty':
        print(f'Reason: {text(reason)}.'.replace('..', '.'))
    entries(comment, ('Detail', 'Private detail'), 'Details')


def show(path):
    parts = {'property': [], 'method': [], 'signal': []}
    for kind, element, comment in read(path):
        if kind == 'interface':
            show_interface(element, comment)
        else:
            parts[kind].append((element, comment))
    for kind, title, function in (('property', 'Properties', show_property), ('method', 'Methods', show_method),
                                  ('signal', 'Events', show_event)):
        if parts[kind]:
            print(f'.Ss {title}\n.Bl -tag -width Ds')
            for element, comment in parts[kind]:
                function(element, comment)
            print('.El')


def main():
    with open(sys.argv[1], encoding='utf-8') as frame:
        for line in frame:
            if line.rstrip() == '@INTERFACES@':
                for path in sys.argv[2:]:
                    show(path)
            else:
                print(line, end='')


if __name__ == '__main__':
    sys.stdout.reconfigure(encoding='utf-8')
    main()
