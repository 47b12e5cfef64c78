#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""vireoctl on real QEMU through a private libvirtd: what lasts, watched on a terminal, cancelled, and its result verified."""

import hashlib
import os
import re
import subprocess
import sys
import unittest

import support
from support import CANCELLED, FAILED, LEFT_RUNNING, NOT_FOUND, STATE

from kit import guests, libvirtd


class Live(support.House):
    @classmethod
    def setUpClass(cls):
        cls.scope = support.Scope()
        cls.scope.__enter__()
        cls.addClassCleanup(cls.scope.__exit__, None, None, None)
        cls.libvirtd = libvirtd.Libvirtd(cls.scope)
        cls.bus = support.Bus(cls.scope)
        cls.vireod = support.Vireod(cls.scope, cls.bus, f'here={cls.libvirtd.uri}')
        cls.vireod.wait_connected()
        cls.virsh = cls.libvirtd.virsh

    def guest(self, name, disk=None, memory=32, rom=None):
        """Define a guest through the tool; it ends with the test."""
        disk = disk or guests.image(self.libvirtd.images, guests.IDLE)
        xml = guests.domain_xml(name, disk, memory=memory, rom=rom)
        self.assertEqual(self.ctl('define', '-', stdin=xml).out, f'{name}: defined\n')
        self.addCleanup(self.virsh, 'undefine', name, '--managed-save', check=False)
        self.addCleanup(self.virsh, 'destroy', name, check=False)
        return name

    def xml_state(self, name):
        return self.virsh('domstate', name).strip()


class Domains(Live):
    def test_life(self):
        self.guest('one')
        self.assertEqual(self.ctl('start', 'one').out, 'one: started\n')
        self.assertEqual(self.xml_state('one'), 'running')
        self.ctl('suspend', 'one')
        self.assertEqual(self.xml_state('one'), 'paused')
        self.ctl('resume', 'one')
        self.ctl('reset', 'one')
        self.ctl('autostart', 'one')
        self.assertIn('enable', self.virsh('dominfo', 'one'))
        self.ctl('destroy', 'one')
        self.assertEqual(self.xml_state('one'), 'shut off')
        self.ctl('rename', 'one', 'uno')
        self.ctl('rename', 'uno', 'one')
        self.ctl('setvcpus', 'one', '2', '--config', '--maximum')
        self.assertRegex(self.virsh('dumpxml', 'one', '--inactive'), "<vcpu [^>]*>2</vcpu>")
        self.ctl('setmem', 'one', '24M', '--config')
        self.assertIn("<currentMemory unit='KiB'>24576</currentMemory>", self.virsh('dumpxml', 'one', '--inactive'))
        self.assertEqual(self.ctl('undefine', 'one').out, 'one: undefined\n')
        self.ctl('show', 'one', status=NOT_FOUND)

    def filled(self, name, fill=48):
        """Start a guest with memory that is filled, and a disk that is slow: what saves it lasts."""
        self.guest(name, memory=fill + 32, rom=guests.fill_rom(self.libvirtd.images, fill << 20))
        self.ctl('start', name)
        support.wait_for(lambda: int(self.libvirtd.monitor(name, f'xp /1wx {(fill << 20) - 4096:#x}').split()[-1], 16),
                         limit=60, poll=0.2, what='the guest fills its memory')
        self.libvirtd.write_rate(16 << 20)
        self.addCleanup(self.libvirtd.write_rate, 0)
        return self.libvirtd.directory / f'{name}.save'

    def percents(self, seen):
        return [float(p) for p in re.findall(r'([0-9.]+)%', seen)]

    def jobs(self, operation, *arguments):
        return [j for j in self.ctl('jobs', '-j', *arguments).json if j['Operation'] == operation]

    def test_save_and_restore_with_a_bar(self):
        file = self.filled('full')
        terminal = support.Terminal(self, 'save', 'full', str(file))
        terminal.until(' left', limit=60)
        self.assertEqual(terminal.rest(120), 0, terminal.seen)
        self.assertIn('full: saved', terminal.seen)
        self.assertRegex(terminal.seen, r'full: save +[^%]*%  [0-9.]+ MiB of [0-9.]+ MiB  [0-9.]+ MiB/s  [0-9.]+ m?s left')
        percents = self.percents(terminal.seen)
        self.assertGreaterEqual(len(set(percents)), 4, percents)
        self.assertEqual(percents, sorted(percents))
        self.assertGreater(file.stat().st_size, 47 << 20)
        self.assertEqual(self.xml_state('full'), 'shut off')
        self.assertEqual(self.jobs('save')[-1]['State'], 'completed')
        self.libvirtd.write_rate(0)
        terminal = support.Terminal(self, 'restore', str(file))
        self.assertEqual(terminal.rest(120), 0, terminal.seen)
        self.assertEqual(self.xml_state('full'), 'running')
        self.ctl('managedsave', 'full')
        self.assertEqual(self.ctl('show', 'full', '-p', 'HasManagedSave', '--value').out, 'yes\n')
        self.assertIn('managed', self.ctl('undefine', 'full', status=None).err)
        self.ctl('managedsave-remove', 'full')
        dump = self.libvirtd.directory / 'full.dump'
        self.ctl('start', 'full')
        self.ctl('dump', 'full', str(dump), '--memory-only')
        with dump.open('rb') as f:
            self.assertEqual(f.read(4), b'\x7fELF')

    def test_save_interrupted(self):
        file = self.filled('hasty')
        terminal = support.Terminal(self, 'save', 'hasty', str(file))
        terminal.until('MiB/s', limit=60)
        terminal.type('\x03')
        terminal.until('Cancel it (c)')
        terminal.type('c\n')
        self.assertEqual(terminal.rest(60), CANCELLED, terminal.seen)
        self.assertEqual(self.xml_state('hasty'), 'running')
        self.assertFalse(file.exists())
        # left to itself, it comes to its end
        terminal = support.Terminal(self, 'save', 'hasty', str(file))
        terminal.until('MiB/s', limit=60)
        terminal.type('\x03')
        terminal.until('(w)? ')
        terminal.type('l\n')
        self.assertEqual(terminal.rest(60), LEFT_RUNNING, terminal.seen)
        number = re.search(r'goes on as job (\d+)', terminal.seen)[1]
        self.assertEqual(self.jobs('save', '--running')[0]['object'], f'/org/vireo1/job/_{number}')
        self.ctl('wait', number)
        self.assertEqual(self.xml_state('hasty'), 'shut off')

    def test_save_without_waiting(self):
        file = self.filled('patient')
        number = self.ctl('save', 'patient', str(file), '--async').out.strip()
        self.assertRegex(self.ctl('jobs', '--running').out, rf'(?m)^ *{number} +save +patient +running ')
        support.wait_for(lambda: self.jobs('save', '--running')[0]['Cancellable'], poll=0.1)
        self.ctl('cancel', number, '--wait')
        self.ctl('wait', number, status=CANCELLED)
        self.assertEqual(self.ctl('save', 'patient', str(file), '--no-wait').out, '')
        job = self.jobs('save', '--running')[0]
        self.assertEqual(job['State'], 'running')
        self.ctl('wait', job['object'].rsplit('_', 1)[1])
        self.assertEqual(self.xml_state('patient'), 'shut off')

    def test_save_without_space(self):
        self.filled('squeezed')
        small = self.libvirtd.shrink('small', '8m')
        err = self.ctl('save', 'squeezed', str(small / 'save'), status=FAILED).err
        self.assertIn('cannot save “squeezed”', err)
        self.assertEqual(self.xml_state('squeezed'), 'running')

    def test_errors_are_the_hypervisors_own(self):
        self.guest('broken', disk=self.libvirtd.images / 'not-there.img')
        err = self.ctl('start', 'broken', status=None).err
        self.assertIn('cannot start “broken”', err)
        self.assertIn('not-there.img', err)
        err = self.ctl('define', '-', stdin='<domain type="kvm"><name>x</name></domain>', status=None).err
        self.assertIn('cannot define', err)


class Disks(Live):
    SIZE = 96 << 20

    def source(self, name):
        """Start a guest with a disk that holds data; return the disk."""
        disk = guests.image(self.libvirtd.images, guests.IDLE, size=self.SIZE, name=name)
        with disk.open('r+b') as f:
            f.seek(1 << 20)
            f.write(os.urandom(self.SIZE - (2 << 20)))
        self.guest(name, disk)
        self.ctl('start', name)
        return disk

    def test_copy_with_a_bar_and_pivot(self):
        disk = self.source('copied')
        target = self.libvirtd.images / 'copied-to.qcow2'
        # 20 MiB a second: slow enough to be seen
        terminal = support.Terminal(self, 'blockcopy', 'copied', 'vda', str(target), '--format=qcow2', '--bandwidth=20M',
                                    '--transient', '--pivot')
        seen = terminal.until('%', limit=60)
        seen += terminal.until('/s', limit=60)
        self.assertIn('copied: block-copy', seen)
        self.assertRegex(seen, r'MiB of 96 MiB')
        self.assertEqual(terminal.rest(120), 0, terminal.seen)
        self.assertIn(str(target), self.virsh('domblklist', 'copied'))
        # what is there is what was there
        self.ctl('destroy', 'copied')
        subprocess.run(['qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', disk, target], check=True,
                       stdout=subprocess.DEVNULL)

    def test_copy_that_is_ready_and_then_dropped(self):
        self.source('ready')
        target = self.libvirtd.images / 'ready-to.img'
        out = self.ctl('blockcopy', 'ready', 'vda', str(target), '--transient').out
        self.assertIn('ready: ready', out)
        self.assertRegex(self.ctl('jobs', '--running').out, 'ready')
        self.ctl('cancel', 'ready', '--wait')
        self.assertNotIn(str(target), self.virsh('domblklist', 'ready'))
        self.assertEqual(self.xml_state('ready'), 'running')
        out = self.ctl('blockcopy', 'ready', 'vda', str(target) + '2', '--transient').out
        self.ctl('complete', 'ready', '--wait')
        self.assertIn(str(target) + '2', self.virsh('domblklist', 'ready'))

    def test_ctrl_c(self):
        self.source('stopped')
        target = self.libvirtd.images / 'stopped-to.img'
        terminal = support.Terminal(self, 'blockcopy', 'stopped', 'vda', str(target), '--bandwidth=4M', '--transient')
        terminal.until('%', limit=60)
        terminal.type('\x03')
        terminal.until('Cancel it (c)')
        terminal.type('c\n')
        self.assertEqual(terminal.rest(60), CANCELLED, terminal.seen)
        self.assertNotIn('Block Copy', self.virsh('blockjob', 'stopped', 'vda'))
        self.assertEqual(self.xml_state('stopped'), 'running')

    def test_a_job_of_virsh_is_seen_and_cancelled(self):
        self.source('foreign')
        target = self.libvirtd.images / 'foreign-to.img'
        self.virsh('blockcopy', 'foreign', 'vda', str(target), '4', '--transient-job')

        def seen():
            return [j for j in self.ctl('jobs', '--running', '-j').json if j['StartedBy'] == 2**32 - 1]

        support.wait_for(seen, limit=30, poll=0.2, what='the job that virsh began')
        self.assertRegex(self.ctl('jobs').out, r'foreign +running .* others')
        self.ctl('cancel', 'foreign', '--wait')
        self.assertNotIn('Block Copy', self.virsh('blockjob', 'foreign', 'vda'))


class Volumes(Live):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.target = cls.libvirtd.directory / 'pool'
        cls.target.mkdir()

    def test_pool_and_volumes(self):
        xml = f'<pool type="dir"><name>store</name><target><path>{self.target}</path></target></pool>'
        self.assertEqual(self.ctl('pool', 'define', '-', stdin=xml).out, 'store: defined\n')
        self.ctl('pool', 'start', 'store')
        self.assertEqual(self.ctl('vol', 'create', 'store', 'a & b.qcow2', '64M', '--format=qcow2').out, 'a & b.qcow2: created\n')
        self.assertRegex(self.ctl('volumes', 'store').out, r'a & b.qcow2 +file +qcow2 +64 MiB')
        self.ctl('vol', 'create', 'store', 'a & b.qcow2', '64M', status=STATE)

        size = 48 << 20
        data = os.urandom(size)
        there = self.scope.directory() / 'there'
        there.write_bytes(data)
        self.ctl('vol', 'create', 'store', 'raw', str(size), '--format=raw')
        terminal = support.Terminal(self, 'vol', 'upload', 'store', 'raw', str(there))
        self.assertEqual(terminal.rest(120), 0, terminal.seen)
        self.assertIn('raw: uploaded', terminal.seen)
        back = self.scope.directory() / 'back'
        self.ctl('vol', 'download', 'store', 'raw', str(back))
        self.assertEqual(hashlib.sha256(back.read_bytes()).digest(), hashlib.sha256(data).digest())
        # through pipes, and a part only
        done = subprocess.run([support.VIREOCTL, f'--address={self.bus.address}', 'vol', 'download', 'store', 'raw', '-',
                               '--offset=1M', '--length=4096'], stdout=subprocess.PIPE, check=True)
        self.assertEqual(done.stdout, data[1 << 20:(1 << 20) + 4096])
        with there.open('rb') as pipe:
            subprocess.run([support.VIREOCTL, f'--address={self.bus.address}', '-q', 'vol', 'upload', 'store', 'raw', '-',
                            '--length=1M'], stdin=pipe, check=True)

        self.assertEqual(self.ctl('vol', 'clone', 'store', 'raw', 'twin').out, 'raw: cloned\n')
        self.assertEqual((self.target / 'twin').read_bytes(), data)
        self.ctl('vol', 'resize', 'store', 'twin', str(size * 2))
        self.assertEqual((self.target / 'twin').stat().st_size, size * 2)
        self.ctl('vol', 'wipe', 'store', 'twin')
        self.assertFalse(any((self.target / 'twin').read_bytes()))
        self.ctl('vol', 'delete', 'store', 'twin')
        self.assertFalse((self.target / 'twin').exists())
        self.assertIn('twin', self.ctl('vol', 'delete', 'store', 'twin', status=NOT_FOUND).err)
        for name in ('raw', 'a & b.qcow2'):
            self.ctl('vol', 'delete', 'store', name)
        self.assertEqual(self.ctl('volumes', 'store', '--names').out, '')
        self.ctl('pool', 'stop', 'store')
        self.ctl('pool', 'undefine', 'store')


if __name__ == '__main__':
    why = guests.missing() or libvirtd.missing()
    if why:
        print(why)
        sys.exit(77)
    assert unittest
    support.main()
