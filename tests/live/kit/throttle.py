# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A disk that is as slow as a test wants it to be, so that what is written to it can be caught half-way on any machine: libvirt
writes saves and dumps through its iohelper and clones qcow2 by qemu-img, and a private libvirtd gets these two with a brake.

As a program it is the braked iohelper: throttle.py RATE-FILE IOHELPER PATH FD.
"""

import fcntl
import os
import pathlib
import shlex
import subprocess
import sys
import time

# Where distributions have it
IOHELPERS = ('/usr/lib/libvirt/libvirt_iohelper', '/usr/libexec/libvirt_iohelper', '/usr/lib64/libvirt/libvirt_iohelper')

BRAKED_IOHELPER = """#!/bin/sh
[ -s {rate} ] || exec {real} "$@"
exec {python} -I {throttle} {rate} {real} "$@"
"""
BRAKED_QEMU_IMG = """#!/bin/sh
[ -s {rate} ] && [ "$1" = convert ] || exec {real} "$@"
shift
exec {real} convert -r "$(cat {rate})" "$@"
"""


class Throttle:
    """The helpers of one libvirtd. `places` is what has to be bound over what in its namespace."""

    def __init__(self, directory):
        self._rate = directory / 'rate'
        self.places = {}
        for tool, script in ((next(filter(os.path.exists, IOHELPERS), None), BRAKED_IOHELPER),
                             ('/usr/bin/qemu-img', BRAKED_QEMU_IMG)):
            if not tool or not os.path.exists(tool):
                continue
            real, braked = directory / f'{os.path.basename(tool)}.real', directory / os.path.basename(tool)
            # the same program at another place: what is bound over it hides it from who looks where it was
            real.write_bytes(pathlib.Path(tool).read_bytes())
            words = {'rate': self._rate, 'real': real, 'python': sys.executable, 'throttle': pathlib.Path(__file__).resolve()}
            braked.write_text(script.format(**{key: shlex.quote(str(value)) for key, value in words.items()}))
            real.chmod(0o755)
            braked.chmod(0o755)
            self.places[tool] = braked

    def set(self, rate):
        """From now on write at most so many bytes a second; 0: as fast as it goes. What runs already hears it too."""
        text = str(rate) if rate else ''
        replacement = self._rate.with_suffix('.new')
        replacement.write_text(text)
        replacement.replace(self._rate)


def main(rate_file, real, path, fd):
    number = int(fd)
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY:
        os.execv(real, [real, path, fd])
    reader, writer = os.pipe()
    with subprocess.Popen([real, path, fd], stdin=reader, pass_fds=[number]) as helper:
        os.close(reader)
        try:
            while data := os.read(0, 65536):
                size = len(data)
                while data:
                    data = data[os.write(writer, data):]
                with open(rate_file, encoding='ascii') as file:
                    rate = int(file.read() or 0)
                if rate:
                    time.sleep(size / rate)
        except BrokenPipeError:
            pass  # it has said why
        os.close(writer)
    return helper.returncode


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
