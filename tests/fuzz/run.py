#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
run.py NAME SECONDS BUILD: build the fuzz target NAME by clang with libFuzzer and sanitizers, and let it run. Skipped
(77) where there is no clang, or no libFuzzer. What it finds is written beside the build; it belongs into corpus/NAME.
"""

import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCES = {
    'qmp': ['drivers/qemu/qmp.c', 'drivers/qemu/parser.c'],
    'vm': ['drivers/qemu/vm-parse.c', 'drivers/qemu/vm-devices.c', 'drivers/qemu/command.c', 'drivers/qemu/firmware.c', 'drivers/qemu/xml.c'],
}
PACKAGES = ['libsystemd', 'libxml-2.0', 'json-c', 'libmd']


def main(name, seconds, build):
    clang = shutil.which('clang')
    if not clang:
        print('SKIP: clang is not installed')
        return 77
    work = pathlib.Path(build) / f'fuzz-{name}'
    work.mkdir(exist_ok=True)
    flags = subprocess.run(['pkg-config', '--cflags', '--libs', *PACKAGES], check=True, stdout=subprocess.PIPE,
                           text=True).stdout.split()
    program = work / 'target'
    compiled = subprocess.run(
        [clang, '-g', '-O1', '-std=gnu11', '-D_GNU_SOURCE', '-fsanitize=fuzzer,address,undefined',
         '-fno-sanitize-recover=undefined', '-I', ROOT, '-I', ROOT / 'broker', '-I', pathlib.Path(build), '-I', HERE,
         HERE / f'fuzz-{name}.c', *(ROOT / s for s in SOURCES[name]), *sorted((ROOT / 'broker/util').glob('*.c')), '-o',
         program, *flags, '-lm', '-lpthread'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if compiled.returncode != 0:
        if 'libclang_rt.fuzzer' in compiled.stdout:
            print('SKIP: clang has no libFuzzer here (libclang-rt-*-dev)')
            return 77
        print(compiled.stdout)
        return 1
    found = work / 'found'
    found.mkdir(exist_ok=True)
    return subprocess.run(
        [program, found, HERE / 'corpus' / name, f'-max_total_time={seconds}', '-timeout=20', '-rss_limit_mb=2048',
         '-max_len=8192', '-error_exitcode=1', '-timeout_exitcode=1',  # libFuzzer's own 77 and 70 mean something else to meson
         f'-artifact_prefix={work}/', '-print_final_stats=1',
         *([f'-dict={HERE}/{name}.dict'] if (HERE / f'{name}.dict').exists() else [])],
        stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
