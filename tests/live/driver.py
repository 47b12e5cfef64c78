#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The libvirt driver by itself, without a broker, on a real libvirtd with real QEMU: the conformance suite, operations that last
with their progress and their ends, jobs that others began, and a hypervisor that goes away.
"""

import hashlib
import os
import pathlib
import re
import subprocess
import sys
import uuid as uuids

from gi.repository import GLib

from kit import guests, libvirtd as daemons, program
from kit.loop import wait_for

BUILD = pathlib.Path(os.environ.get('VIREO_BUILD', 'build')) / 'tests/driver'

POOL = "<pool type='dir'><name>jobs</name><uuid>{uuid}</uuid><target><path>{target}</path></target></pool>"
VOLUME = "<volume><name>{name}</name><capacity unit='MiB'>64</capacity></volume>"
COPY = "<disk type='file'><driver type='qcow2'/><source file='{file}'/></disk>"

PROGRESS = re.compile(r'PROGRESS (\d+) (\d+)/(\d+)( cancellable)?( ready)?')
RESULT = re.compile(r'RESULT (\d+) (\S+) *(.*)')
FOREIGN = re.compile(r'FOREIGN ([0-9a-f]+) (\S+) *(\S*) *(.*)')


class Observer:
    """tests/driver/observe, and every line that it has printed."""

    def __init__(self, test, uri):
        self.lines = []
        self._rest = b''
        self._token = 0
        self._files = 0
        self._directory = test.scope.directory('observe')
        self.process = test.scope.spawn([BUILD / 'observe', uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        GLib.io_add_watch(self.process.stdout.fileno(), GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, self._read)

    def _read(self, fd, _condition):
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return True
        *lines, self._rest = (self._rest + data).split(b'\n')
        self.lines += [line[9:].decode() for line in lines]
        return bool(data)

    def say(self, line):
        self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()

    def file(self, text):
        """A file with this text, as an argument."""
        self._files += 1
        path = self._directory / f'{id(self):x}-{self._files}'
        path.write_text(text)
        return f'@{path}'

    def ask(self, operation, uuid='-', *words):
        """Begin an operation; return its token."""
        self._token += 1
        self.say(' '.join(['do', operation, str(uuid), *map(str, words)]))
        return self._token

    def text(self):
        return 'the last reports:\n' + '\n'.join(f'    {line[:200]}' for line in self.lines[-30:])

    def wait(self, pattern, limit=60, after=0):
        """Wait for a line that matches; return the match."""
        def found():
            return next((m for m in map(re.compile(pattern).search, self.lines[after:]) if m), None)
        return wait_for(found, limit, lambda: f'{pattern}; {self.text()}')

    def result(self, token, limit=120):
        """Wait for the end of an operation; return ('ok' or the error's name, the message)."""
        m = self.wait(rf'RESULT {token} (\S+) *(.*)', limit)
        return m[1].removeprefix('org.vireo1.Error.').rstrip(':'), m[2].strip()

    def do(self, operation, uuid='-', *words):
        token = self.ask(operation, uuid, *words)
        end, message = self.result(token)
        assert end == 'ok', f'{operation}: {end} {message}'

    def progress(self, token):
        """What was told of an operation: [(done, total, cancellable, ready)]."""
        found = [m for m in map(PROGRESS.search, self.lines) if m and int(m[1]) == token]
        return [(int(m[2]), int(m[3]), bool(m[4]), bool(m[5])) for m in found]

    def wait_progress(self, token, share=0.0, limit=60):
        """Wait until so much has been done."""
        wait_for(lambda: any(total and done > share * total for done, total, *_ in self.progress(token)), limit,
                 lambda: f'progress of {token}; {self.text()}')


class Guest:
    """A running domain with a disk vdb that has data, and memory that is filled."""

    def __init__(self, test, libvirtd, observer, name, fill=0, memory=64, loop=False):
        self.uuid = str(uuids.uuid4())
        self.name = name
        self.data = libvirtd.images / f'{name}-data.qcow2'
        self.observer = observer
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.data, '96M'], check=True)
        subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -q -P 7 0 96M', self.data], check=True)
        rom = guests.fill_rom(libvirtd.images, fill << 20, loop) if fill else None
        disk = (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{self.data}'/>"
                f"<target dev='vdb' bus='virtio'/></disk>")
        xml = guests.domain_xml(name, guests.image(libvirtd.images, guests.IDLE), rom=rom, uuid=self.uuid, memory=memory,
                                extra_devices=disk)
        observer.do('Connection.DefineDomain', '-', observer.file(xml))
        observer.do('Domain.Start', self.uuid)
        if fill:
            pid = libvirtd.qemu_pid(name)
            page = os.sysconf('SC_PAGE_SIZE')
            wait_for(lambda: int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1]) * page > fill * 0.9 * (1 << 20),
                     120, 'the guest to fill its memory', poll=0.2)

    def state(self):
        """As a settled look has it: 'running (booted)' and the like."""
        before = len(self.observer.lines)
        self.observer.say(f'look {self.uuid}')
        m = self.observer.wait(rf'domain {self.uuid[:8]} - \| settled (GONE|SEEN .*)', after=before)
        return re.search(r'GONE|id=-?\d+ (\w+ \([^)]*\))', m[1])[0].split(' ', 1)[-1]

    def end(self):
        self.observer.result(self.observer.ask('Domain.Destroy', self.uuid))
        self.observer.result(self.observer.ask('Domain.Undefine', self.uuid, 'managed-save=true'))


def conformance(test, libvirtd, _observer):
    kind = 'kvm' if guests.kvm() else 'qemu'
    done = subprocess.run([BUILD / 'conformance', libvirtd.uri, kind], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=600)
    test.check(done.returncode == 0, done.stdout)


def stories(test, libvirtd, _observer):
    kind = 'kvm' if guests.kvm() else 'qemu'
    directory = libvirtd.images / 'stories'
    directory.mkdir()
    for name, backing in (('base', None), ('disk', 'base'), ('more', None)):
        over = ['-b', directory / f'{backing}.qcow2', '-F', 'qcow2'] if backing else []
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', *over, directory / f'{name}.qcow2', '1M'], check=True)
    other = daemons.Libvirtd(test.scope, 'vireo-far')
    done = subprocess.run([BUILD / 'stories', libvirtd.uri, kind, directory, other.uri, f'unix://{directory}/migration'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    test.check(done.returncode == 0, done.stdout)


def save(test, libvirtd, observer):
    g = Guest(test, libvirtd, observer, 'saved', fill=96, memory=128)
    file = libvirtd.images / 'saved.save'

    # slow enough to be caught half-way
    libvirtd.write_rate(40 << 20)
    token = observer.ask('Domain.Save', g.uuid, file, 'bypass-cache=true')
    observer.wait_progress(token)
    observer.say(f'cancel {token}')
    test.equal(observer.result(token)[0], 'cancelled', 'a save that was cancelled half-way')
    test.equal(g.state().split()[0], 'running', 'the domain after a cancelled save')

    token = observer.ask('Domain.Save', g.uuid, file)
    test.equal(observer.result(token)[0], 'ok', 'a save')
    told = [p for p in observer.progress(token) if p[1]]
    test.check(len(told) >= 3, f'a save told its progress {len(told)} times')
    test.check(all(a[0] <= b[0] for a, b in zip(told, told[1:])), f'the progress of a save fell: {told}')
    test.check(all(p[2] for p in told), 'a save could not be cancelled')
    test.equal(g.state(), 'shutoff (saved)', 'the domain after a save')
    libvirtd.write_rate(0)
    observer.do('Connection.RestoreDomain', '-', file)
    test.equal(g.state(), 'running (restored)', 'the domain after a restore')
    end, message = observer.result(observer.ask('Domain.Save', g.uuid, '/proc/cannot/be'))
    test.check(end == 'OperationFailed' and 'libvirt domain' in message, f'a save to nowhere: {end} {message}')
    observer.do('Domain.Dump', g.uuid, libvirtd.images / 'core', 'memory-only=true')
    test.equal(g.state().split()[0], 'running', 'the domain after a dump')
    g.end()


def block_jobs(test, libvirtd, observer):
    g = Guest(test, libvirtd, observer, 'blocks')

    def copy(name, *options):
        xml = observer.file(COPY.format(file=libvirtd.images / name))
        return observer.ask('Domain.BlockCopy', g.uuid, 'vdb', xml, 'transient=true', *options)

    token = copy('cancelled.qcow2', 'bandwidth=20000000')
    observer.wait_progress(token)
    observer.say(f'cancel {token}')
    test.equal(observer.result(token)[0], 'cancelled', 'a copy that was cancelled')

    token = copy('pivoted.qcow2')
    observer.wait(rf'PROGRESS {token} \d+/\d+ cancellable ready')
    observer.say(f'complete {token}')
    test.equal(observer.result(token)[0], 'ok', 'a copy that was completed')
    test.check('pivoted.qcow2' in libvirtd.virsh('domblklist', 'blocks'), 'the domain does not use the copy')
    same = subprocess.run(['qemu-img', 'compare', '-q', '-U', g.data, libvirtd.images / 'pivoted.qcow2'], check=False)
    test.equal(same.returncode, 0, 'qemu-img compare')

    libvirtd.virsh('snapshot-create-as', 'blocks', 's', '--disk-only', '--no-metadata', '--diskspec', 'vda,snapshot=no')
    token = observer.ask('Domain.BlockCommit', g.uuid, 'vdb', 'pivot=true')
    test.equal(observer.result(token)[0], 'ok', 'a commit of the active layer that completes by itself')
    test.check('pivoted.qcow2' in libvirtd.virsh('domblklist', 'blocks'), 'the domain still uses the snapshot')

    token = copy('destroyed.qcow2', 'bandwidth=5000000')
    observer.wait_progress(token)
    observer.do('Domain.Destroy', g.uuid)
    end, message = observer.result(token)
    test.check(end == 'OperationFailed' and 'stopped' in message, f'a copy of a destroyed domain: {end} {message}')
    end, _ = observer.result(copy('inactive.qcow2'))
    test.equal(end, 'InvalidState', 'a copy of an inactive domain')
    g.end()


def volumes(test, libvirtd, observer):
    pool, target = str(uuids.uuid4()), libvirtd.images / 'pool'
    sent, received = libvirtd.images / 'sent', libvirtd.images / 'received'
    target.mkdir()
    sent.write_bytes(os.urandom(64 << 20))
    observer.do('Connection.CreatePool', '-', observer.file(POOL.format(uuid=pool, target=target)))
    observer.do('StoragePool.CreateVolume', pool, observer.file(VOLUME.format(name='one')))
    test.equal(observer.result(observer.ask('StoragePool.CreateVolume', pool, observer.file(VOLUME.format(name='one'))))[0],
               'AlreadyExists', 'a name that is taken')
    observer.do('StoragePool.UploadVolume', pool, 'one', f'fd={sent}')
    observer.do('StoragePool.CloneVolume', pool, 'one', 'two')
    observer.do('StoragePool.DownloadVolume', pool, 'two', f'fd={received}')
    test.equal(hashlib.sha256(received.read_bytes()).hexdigest(), hashlib.sha256(sent.read_bytes()).hexdigest(),
               'uploaded, cloned and downloaded')
    observer.do('StoragePool.ResizeVolume', pool, 'two', f'number={80 << 20}')
    token = observer.ask('StoragePool.WipeVolume', pool, 'one')
    test.equal(observer.result(token)[0], 'ok', 'a wipe')
    test.check(not any(p[1] or p[2] for p in observer.progress(token)), 'a wipe said how far it was, or could be cancelled')
    test.check(not any((target / 'one').read_bytes()), 'a wiped volume is not zero')
    # a descriptor that never gives anything: the transfer waits, and can be cancelled
    pipe = libvirtd.images / 'pipe'
    os.mkfifo(pipe)
    token = observer.ask('StoragePool.UploadVolume', pool, 'one', f'fd={pipe}')
    observer.wait(rf'PROGRESS {token} 0/0 cancellable')
    observer.say(f'cancel {token}')
    test.equal(observer.result(token)[0], 'cancelled', 'an upload that was cancelled')
    before = len(observer.lines)
    observer.do('StoragePool.ListVolumes', pool)
    observer.wait(rf'volume two file raw \d+/{80 << 20} ', after=before)
    observer.do('StoragePool.DeleteVolume', pool, 'one')
    test.equal(observer.result(observer.ask('StoragePool.DeleteVolume', pool, 'one'))[0], 'NotFound', 'a volume that is gone')
    observer.do('StoragePool.Stop', pool)


def foreign(test, libvirtd, observer):
    g = Guest(test, libvirtd, observer, 'others', fill=64, memory=96)

    def begun(operation, subject=''):
        after = len(observer.lines)
        return lambda: observer.wait(rf'FOREIGN ([0-9a-f]+) {operation} {subject}', after=after)[1]

    wait_begun = begun('block-copy', 'vdb')
    libvirtd.virsh('blockcopy', 'others', 'vdb', libvirtd.images / 'foreign.qcow2', '--transient-job', '--bytes',
                   '--bandwidth', '10000000')
    token = wait_begun()
    # one that was there before is found too
    other = Observer(test, libvirtd.uri)
    other.wait(r'FOREIGN [0-9a-f]+ block-copy vdb')
    observer.wait_progress(int(token, 16))
    observer.say(f'cancel {int(token, 16)}')
    observer.wait(rf'FOREIGN {token} ended +It was cancelled')
    other.wait(r'FOREIGN [0-9a-f]+ ended +It was cancelled')
    other.say('quit')

    wait_begun = begun('save')
    libvirtd.write_rate(24 << 20)
    virsh = test.scope.spawn(libvirtd.virsh.argv('save', 'others', libvirtd.images / 'foreign.save'))
    token = wait_begun()
    observer.wait_progress(int(token, 16), 0.3)
    observer.wait(rf'FOREIGN {token} ended *$')
    test.equal(virsh.wait(60), 0, 'virsh save')
    libvirtd.write_rate(0)
    libvirtd.virsh('restore', libvirtd.images / 'foreign.save')
    # an operation of the driver's own is nobody else's
    after = len(observer.lines)
    observer.do('Domain.ManagedSave', g.uuid)
    test.check(not any(map(FOREIGN.search, observer.lines[after:])), f'an own save was taken for a foreign one; {observer.text()}')
    g.end()


def migration(test, libvirtd, observer):
    other = daemons.Libvirtd(test.scope, 'vireo-two')
    there = Observer(test, other.uri)
    there.wait('LISTED')
    g = Guest(test, libvirtd, observer, 'moves', fill=96, memory=128, loop=True)
    socket = libvirtd.images / 'migration'

    def migrate(*options):
        return observer.ask('Domain.Migrate', g.uuid, other.uri, 'live=true', 'unsafe=true', f'migrate-uri=unix://{socket}',
                            *options)

    token = migrate('bandwidth=20000000')
    observer.wait_progress(token)
    observer.say(f'cancel {token}')
    test.equal(observer.result(token)[0], 'cancelled', 'a migration that was cancelled')
    test.equal(g.state().split()[0], 'running', 'the domain after a cancelled migration')
    socket.unlink(missing_ok=True)

    end, message = observer.result(observer.ask('Domain.Migrate', g.uuid, 'qemu:///system?socket=/nobody/here', 'live=true'))
    test.check(end == 'OperationFailed' and '/nobody/here' in message, f'a migration to nowhere: {end} {message}')

    # the guest dirties memory for ever: without post-copy this would not end
    token = migrate('postcopy=true', 'undefine-source=true', 'persistent=true')
    test.equal(observer.result(token), ('ok', ''), 'a post-copy migration')
    test.equal(g.state(), 'GONE', 'the domain where it was')
    there.wait(rf'domain {g.uuid[:8]} moves Resumed\((migrated|postcopy)\)')
    g.observer = there
    test.equal(g.state().split()[0], 'running', 'the domain where it is')
    g.end()


def lost(test, libvirtd, observer):
    g = Guest(test, libvirtd, observer, 'lost', fill=64, memory=96)
    libvirtd.write_rate(12 << 20)
    token = observer.ask('Domain.Save', g.uuid, libvirtd.images / 'lost.save')
    observer.wait_progress(token)
    libvirtd.kill()
    test.equal(observer.result(token)[0], 'Disconnected', 'a save when libvirtd was killed')
    observer.wait('GOODBYE')
    test.equal(observer.process.wait(30), 0, 'the end of observe')
    test.equal(sum('GOODBYE' in line for line in observer.lines), 1, 'times GOODBYE was said')
    libvirtd.write_rate(0)
    libvirtd.start()

    again = Observer(test, libvirtd.uri)
    again.wait(rf'domain {g.uuid[:8]} - \| settled SEEN')
    libvirtd.freeze()
    try:
        again.say('list')
        # closing never waits for libvirtd; what hangs is left behind
        stuck = Observer(test, libvirtd.uri)
        stuck.process.stdin.close()
        test.equal(stuck.process.wait(30), 0, 'observe, told to end while it hung in opening')
        again.wait('GOODBYE no answer for too long', 60)
        test.check(any('LISTED [2] domains=0' in line for line in again.lines), 'the listing was not answered')
    finally:
        libvirtd.thaw()
    libvirtd.virsh('destroy', 'lost')


def main(test):
    libvirtd = test.libvirtd(broker=False)
    chosen = sys.argv[1:]
    for part in (conformance, stories, save, block_jobs, volumes, foreign, migration, lost):
        if chosen and part.__name__ not in chosen:
            continue
        observer = Observer(test, libvirtd.uri)
        observer.wait('LISTED')
        with test.case(part.__name__):
            part(test, libvirtd, observer)
        if observer.process.poll() is None:
            observer.process.stdin.close()


if __name__ == '__main__':
    program.run(main)
