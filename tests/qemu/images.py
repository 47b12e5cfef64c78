# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disk images with something in them, and what a guest would read from them."""

import hashlib
import pathlib
import subprocess


def checksum(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def contents(path):
    """The checksum of what a guest would read from an image."""
    raw = pathlib.Path(f'{path}.raw')
    subprocess.run(['qemu-img', 'convert', '-U', '-O', 'raw', path, raw], check=True)
    try:
        return checksum(raw)
    finally:
        raw.unlink()


def image(path, size, backing=None, data=None, seed=0):
    """A qcow2 that holds `data` bytes that do not compress."""
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', *(['-b', backing, '-F', 'qcow2'] if backing else []), path,
                    str(size)], check=True)
    if data:
        raw = pathlib.Path(f'{path}.data')
        block = hashlib.shake_128(str(seed).encode()).digest(1 << 20)
        with raw.open('wb') as f:
            for i in range(data >> 20):
                f.write(block[i % 1000:] + block[:i % 1000])
        offset = 0
        subprocess.run(['qemu-io', '-f', 'qcow2', '-c', f'write -q -s {raw} {offset} {data}', path], check=True,
                       stdout=subprocess.PIPE)
        raw.unlink()
    return path
