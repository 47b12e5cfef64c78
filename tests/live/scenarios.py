# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What can happen to a domain: how it is made to happen, what libvirt then reports, and what the broker has to make of it.

A scenario is a function that gets a Stage. It acts through virsh or the guest itself, and says at each step what has to
have come by then: `libvirt`, in virsh's words, and `story`, as 'Event', 'Event (reason)' or 'Event (reason)[state]'.
"""

import os
import re
import signal
import subprocess
import uuid as uuids

from kit import guests
from kit.loop import settle, wait_for

SCENARIOS = []

# Events that belong to the story of a life; others (Updated, BlockJob …) may come between them
LIFE = {'Added', 'Defined', 'Started', 'Suspended', 'Resumed', 'PMSuspended', 'Crashed', 'Shutdown', 'Stopped',
        'Undefined', 'Removed', 'Rebooted', 'IOError'}

DESTROYED = ['Shutdown Finished after host request', 'Stopped Destroyed']


def scenario(function):
    """Register a scenario."""
    SCENARIOS.append(function)
    return function


def told(pattern, event):
    """Whether an event is what a pattern such as 'Started (booted)[paused]' says."""
    match = re.fullmatch(r'(\w+)(?: \(([^)]*)\))?(?:\[(\w+)\])?( inferred)?', pattern)
    name, reason, state, inferred = match.groups()
    return (event.event == name and (reason is None or event.reason == reason)
            and (state is None or event.properties['State'] == state)
            and (inferred is None or event.inferred))


class Stage:
    """One domain's stage: a name of its own, and everything that was reported of it."""

    def __init__(self, libvirtd, events, name, recorder=None):
        self.libvirtd = libvirtd
        self.virsh = libvirtd.virsh
        self.events = events
        self.recorder = recorder
        self.name = name
        self.uuid = str(uuids.uuid4())
        self.files = []
        self._libvirt = []
        self._story = []

    # Acting

    def disk(self, act=guests.IDLE, wait=0.5, **options):
        path = guests.image(self.libvirtd.images, act, wait, **options)
        self.files.append(path)
        return path

    def xml(self, disk, **options):
        return guests.domain_xml(self.name, disk, uuid=self.uuid, **options)

    def create(self, act=guests.IDLE, *args, wait=0.5, **options):
        """Create a transient domain whose guest does `act`."""
        self.virsh.create(self.xml(self.disk(act, wait), **options), *args)

    def define(self, act=guests.IDLE, wait=0.5, disk=None, **options):
        self.virsh.define(self.xml(disk or self.disk(act, wait), **options))

    def __call__(self, command, *args, **options):
        """Run a virsh command on this domain."""
        return self.virsh(command, self.name, *args, **options)

    # Expecting

    def expect(self, libvirt=(), story=(), limit=60):
        """Wait until all this has come, after what came before, and nothing else."""
        self._libvirt += libvirt
        self._story += story
        got = self.events.expect(self.name, self._libvirt, limit)
        if got != self._libvirt and self._paused_before_it_crashed(got):
            got = self.events.expect(self.name, self._libvirt, limit)
        assert got == self._libvirt, f'libvirt reported\n    {got}\n  instead of\n    {self._libvirt}'
        if self.recorder is not None and story:
            wait_for(lambda: len(self.story()) >= len(self._story), limit,
                     lambda: f'the broker said {self._story};\n{self._text()}')
            self._compare()

    def _paused_before_it_crashed(self, got):
        """QEMU pauses a guest that panics; on a busy machine libvirt hears of that first, and reports both."""
        at = self._libvirt.index('Crashed Panicked') if 'Crashed Panicked' in self._libvirt else None
        if at is None or got[at] != 'Suspended Paused':
            return False
        self._libvirt.insert(at, 'Suspended Paused')
        self._story.insert(next(i for i, e in enumerate(self._story) if e.startswith('Crashed (panicked)')),
                           'Suspended (paused)[paused]')
        return True

    def _compare(self):
        got = self.story()
        assert len(got) == len(self._story) and all(map(told, self._story, got)), (
            f'the broker said\n{self._text()}\n  instead of\n    {self._story}')

    def story(self):
        path = '/domain/_' + self.uuid.replace('-', '_')
        return [e for e in self.recorder.events if e.path.endswith(path) and e.event in LIFE]

    def _text(self):
        path = '/domain/_' + self.uuid.replace('-', '_')
        return '\n'.join(f'    {e}' for e in self.recorder.events if e.path.endswith(path))

    def end(self):
        """Nothing more may come, of what was expected; then the domain goes."""
        if self.recorder is not None and self._story:
            settle(0.5, changed=lambda: len(self.story()))
            self._compare()

    def clean(self):
        for command in (('destroy', self.name), ('managedsave-remove', self.name),
                        ('undefine', self.name, '--snapshots-metadata', '--managed-save')):
            self.virsh(*command, check=False)
        self.libvirtd.run(f'umount {self.libvirtd.directory}/small-{self.name} 2>/dev/null', check=False)
        for path in self.files:
            path.unlink(missing_ok=True)


# Starting and stopping

STARTED = ['Resumed Unpaused', 'Started Booted']
BOOT = ['Added', 'Started (booted)[running]']
DESTROY = ['Shutdown (host)', 'Stopped (destroyed)[shutoff]']


@scenario
def transient_boot_and_destroy(s):
    s.create()
    s.expect(STARTED, BOOT)
    s('destroy')
    s.expect(DESTROYED, DESTROY + ['Removed'])


@scenario
def persistent_life(s):
    s.define()
    s.expect(['Defined Added'], ['Added', 'Defined (added)[shutoff]'])
    s('start')
    s.expect(STARTED, BOOT[1:])
    s('suspend')
    s.expect(['Suspended Paused'], ['Suspended (paused)[paused]'])
    s('resume')
    s.expect(['Resumed Unpaused'], ['Resumed (unpaused)[running]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY)
    s('undefine')
    s.expect(['Undefined Removed'], ['Undefined (removed)', 'Removed'])


@scenario
def paused_start(s):
    s.define()
    s('start', '--paused')
    s.expect(['Defined Added', 'Started Booted', 'Suspended Paused'],
             ['Added', 'Defined (added)', 'Started (booted)[paused]'])
    s('resume')
    s.expect(['Resumed Unpaused'], ['Resumed (unpaused)[running]'])
    s('suspend')
    s.expect(['Suspended Paused'], ['Suspended (paused)[paused]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY)


@scenario
def paused_create(s):
    s.create(guests.IDLE, '--paused')
    s.expect(['Started Booted', 'Suspended Paused'], ['Added', 'Started (booted)[paused]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY + ['Removed'])


@scenario
def autodestroy(s):
    # it goes with the connection that created it: a virsh that is ended once it runs
    path = s.libvirtd.directory / f'{s.name}.xml'
    path.write_text(s.xml(s.disk()))
    s.files.append(path)
    with subprocess.Popen(s.virsh.argv(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as virsh:
        virsh.stdin.write(f'create {path} --autodestroy\n')
        virsh.stdin.flush()
        s.expect(STARTED, BOOT)
        virsh.stdin.close()
        s.expect(DESTROYED, DESTROY + ['Removed'])


@scenario
def autodestroy_at_once(s):
    # gone before anybody can look: who does not know it and does not find it may be silent, but not say half of it
    s.create(guests.IDLE, '--autodestroy')
    s.expect(STARTED + DESTROYED)
    if s.recorder is not None:
        settle(1, changed=lambda: len(s.story()))
        if s.story():
            s.expect([], BOOT[:1] + ['Started (booted)'] + DESTROY + ['Removed'])


@scenario
def guest_powers_off(s):
    s.create(guests.POWEROFF)
    s.expect(STARTED + ['Shutdown Finished after guest request', 'Stopped Shutdown'],
             BOOT + ['Shutdown (guest)[shutdown]', 'Stopped (shutdown)', 'Removed'])


@scenario
def guest_resets(s):
    s.create(guests.RESET, wait=2)
    s.expect(STARTED + ['reboot'], BOOT + ['Rebooted[running]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY + ['Removed'])


@scenario
def reset_by_virsh(s):
    s.create()
    s.expect(STARTED, BOOT)
    s('reset')
    s.expect(['reboot'], ['Rebooted[running]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY + ['Removed'])


@scenario
def powers_off_and_restarts(s):
    s.create(guests.POWEROFF, wait=3, on_poweroff='restart')
    s.expect(STARTED + ['reboot', 'reboot'], BOOT + ['Rebooted', 'Rebooted'])


@scenario
def qemu_killed(s):
    s.define()
    s('start')
    s.expect(['Defined Added'] + STARTED, ['Added', 'Defined (added)', 'Started (booted)[running]'])
    os.kill(s.libvirtd.qemu_pid(s.name), signal.SIGKILL)
    s.expect(['Stopped Failed'], ['Stopped (failed)[shutoff]'])


@scenario
def create_fails(s):
    xml = s.xml(s.disk(), extra_devices="<serial type='file'><source path='/nowhere/at/all'/></serial>")
    s.virsh.xml('create', xml, fails=True)
    s.virsh.define(xml)
    s.expect(['Defined Added'], ['Added', 'Defined (added)'])
    s.virsh.fails('start', s.name)
    s('undefine')
    s.expect(['Undefined Removed'], ['Undefined (removed)', 'Removed'])


# Panics

CRASHED = ['Crashed Panicked']


@scenario
def panic_destroy(s):
    s.create(guests.PANIC, panic=True)
    s.expect(STARTED + CRASHED + ['Stopped Crashed'],
             BOOT + ['Crashed (panicked)[crashed]', 'Stopped (crashed)', 'Removed'])


@scenario
def panic_preserve(s):
    s.create(guests.PANIC, panic=True, on_crash='preserve')
    s.expect(STARTED + CRASHED, BOOT + ['Crashed (panicked)[crashed]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY + ['Removed'])


@scenario
def panic_restart(s):
    s.create(guests.PANIC, panic=True, on_crash='restart', wait=3)
    s.expect(STARTED + CRASHED + ['reboot', 'Resumed Unpaused', 'reboot'],
             BOOT + ['Crashed (panicked)[crashed]', 'Rebooted', 'Resumed (unpaused)[running]', 'Rebooted'])


@scenario
def panic_coredump_destroy(s):
    s.create(guests.PANIC, panic=True, on_crash='coredump-destroy')
    s.expect(STARTED + CRASHED + ['Stopped Crashed'],
             BOOT + ['Crashed (panicked)[crashed]', 'Stopped (crashed)', 'Removed'])


@scenario
def panic_crashloaded(s):
    s.create(guests.CRASHLOADED, panic=True)
    s.expect(STARTED + ['Crashed Crashloaded'], BOOT + ['Crashed (crashloaded)[running]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY + ['Removed'])


# Power management

@scenario
def suspend_to_memory_and_wake_up(s):
    s.create(guests.SUSPEND_MEMORY, wait=1)
    s.expect(STARTED + ['PMSuspended Memory'], BOOT + ['PMSuspended (memory)[pmsuspended]'])
    s('dompmwakeup')
    # what wakes up has no operating system: it boots, and sleeps again
    s.expect(['Started Event wakeup', 'reboot'], ['Resumed (wakeup)[running]', 'Rebooted'])
    s('destroy')
    s.expect(DESTROYED, DESTROY + ['Removed'])


@scenario
def save_while_suspended_to_memory(s):
    s.define(guests.SUSPEND_MEMORY, wait=1)
    s('start')
    s.expect(['Defined Added'] + STARTED + ['PMSuspended Memory'],
             ['Added', 'Defined (added)', BOOT[1], 'PMSuspended (memory)[pmsuspended]'])
    s('managedsave')
    s.expect(['Started Event wakeup', 'Stopped Saved'], ['Resumed (wakeup)', 'Stopped (saved)'])


@scenario
def suspend_to_disk(s):
    s.create(guests.SUSPEND_DISK, wait=1)
    s.expect(STARTED + ['PMSuspended Disk', 'Shutdown Finished after guest request', 'Stopped Shutdown'],
             BOOT + ['PMSuspended (disk)', 'Shutdown', 'Stopped', 'Removed'])


# Saving

@scenario
def save_and_restore(s):
    file = s.libvirtd.images / f'{s.name}.save'
    s.files.append(file)
    s.define()
    s('start')
    s.expect(['Defined Added'] + STARTED, ['Added', 'Defined (added)', BOOT[1]])
    s('save', file)
    s.expect(['Suspended Paused', 'Stopped Saved'], ['Suspended (paused)[paused]', 'Stopped (saved)[shutoff]'])
    s.virsh('restore', file)
    s.expect(['Started Restored', 'Resumed Snapshot'], ['Started (restored)[paused]', 'Resumed (from-snapshot)[running]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY)
    s.virsh('restore', file, '--paused')
    s.expect(['Started Restored', 'Suspended Restored'], ['Started (restored)[paused]'])


@scenario
def managed_save(s):
    s.define()
    s('start')
    s.expect(['Defined Added'] + STARTED, ['Added', 'Defined (added)', BOOT[1]])
    s('managedsave')
    s.expect(['Suspended Paused', 'Stopped Saved'], ['Suspended (paused)', 'Stopped (saved)[shutoff]'])
    s('start')
    s.expect(['Started Restored', 'Resumed Snapshot'], ['Started (restored)[paused]', 'Resumed (from-snapshot)'])


@scenario
def dump_live(s):
    file = s.libvirtd.images / f'{s.name}.dump'
    s.files.append(file)
    s.create()
    s.expect(STARTED, BOOT)
    s('dump', file, '--live')
    s.expect(['Suspended Paused', 'Resumed Unpaused'], ['Suspended (paused)', 'Resumed (unpaused)'])


# Snapshots

def _snapshot_disk(s):
    disk = guests.to_qcow2(s.disk())
    s.files.append(disk)
    return disk


@scenario
def revert_running(s):
    s.define(disk=_snapshot_disk(s))
    s('start')
    s.expect(['Defined Added'] + STARTED, ['Added', 'Defined (added)', BOOT[1]])
    s('snapshot-create-as', 'one')
    s.expect(['Suspended Paused', 'Resumed Unpaused'], ['Suspended (paused)', 'Resumed (unpaused)'])
    s('snapshot-revert', 'one')
    s.expect(['Stopped Snapshot', 'Started Snapshot', 'Resumed Snapshot', 'Defined Snapshot'],
             ['Stopped (from-snapshot)', 'Started (from-snapshot)[paused]', 'Resumed (from-snapshot)[running]',
              'Defined (from-snapshot)'])


@scenario
def revert_inactive_and_run(s):
    s.define(disk=_snapshot_disk(s))
    s('snapshot-create-as', 'one')
    s('start')
    s.expect(['Defined Added'] + STARTED, ['Added', 'Defined (added)', BOOT[1]])
    s('snapshot-revert', 'one', '--running')
    s.expect(['Stopped Snapshot', 'Resumed Unpaused', 'Started Snapshot', 'Defined Snapshot'],
             ['Stopped (from-snapshot)', 'Started (from-snapshot)[running]', 'Defined (from-snapshot)'])


@scenario
def revert_inactive(s):
    s.define(disk=_snapshot_disk(s))
    s('snapshot-create-as', 'one')
    s('start')
    s.expect(['Defined Added'] + STARTED, ['Added', 'Defined (added)', BOOT[1]])
    s('snapshot-revert', 'one')
    s.expect(['Stopped Snapshot', 'Defined Snapshot'], ['Stopped (from-snapshot)', 'Defined (from-snapshot)'])


@scenario
def revert_transient(s):
    s.virsh.create(s.xml(_snapshot_disk(s)))
    s.expect(STARTED, BOOT)
    s('snapshot-create-as', 'one')
    s.expect(['Suspended Paused', 'Resumed Unpaused'], ['Suspended (paused)', 'Resumed (unpaused)'])
    s('snapshot-revert', 'one')
    s.expect(['Stopped Snapshot', 'Started Snapshot', 'Resumed Snapshot'],
             ['Stopped (from-snapshot)', 'Removed', 'Added', 'Started (from-snapshot)[paused]',
              'Resumed (from-snapshot)[running]'])


# Disks

@scenario
def io_error(s):
    small = s.libvirtd.shrink(f'small-{s.name}', '256k')
    image = s.disk(guests.WRITE, wait=1, size=8 << 20)
    s.libvirtd.run(f'cp --sparse=always {image} {small}/disk.img')
    s.virsh.create(s.xml(small / 'disk.img', error_policy='stop'))
    s.expect(STARTED + ['Suspended I/O Error'], [*BOOT, 'IOError', 'Suspended (ioerror)[paused]'])
    s('resume')
    s.expect(['Resumed Unpaused', 'Suspended I/O Error'],
             ['Resumed (unpaused)', 'IOError', 'Suspended (ioerror)[paused]'])


# Definitions

@scenario
def rename(s):
    s.define()
    s.expect(['Defined Added'], ['Added', 'Defined (added)'])
    old = s.name
    s('domrename', f'{old}-new')
    s.name = f'{old}-new'
    # by name: libvirt reports the first of these under the old one
    wait_for(lambda: s.events.of(s.name) == ['Defined Renamed'], 30, lambda: f'{s.events.of(s.name)}')
    s._libvirt = ['Defined Renamed']
    s.expect([], ['Defined (renamed)'])
    s('undefine')
    s.expect(['Undefined Removed'], ['Undefined (removed)', 'Removed'])


@scenario
def undefine_and_define_while_running(s):
    disk = s.disk()
    s.define(disk=disk)
    s('start')
    s.expect(['Defined Added'] + STARTED, ['Added', 'Defined (added)', BOOT[1]])
    s('undefine')
    s.expect(['Undefined Removed'], ['Undefined (removed)[running]'])
    s.define(disk=disk)
    s.expect(['Defined Updated'], ['Defined (added)[running]'])
    s.define(disk=disk, title='another')
    s.expect(['Defined Updated'], ['Defined (updated)[running]'])
    s('undefine')
    s('destroy')
    s.expect(['Undefined Removed'] + DESTROYED, ['Undefined (removed)'] + DESTROY + ['Removed'])


@scenario
def transient_becomes_persistent(s):
    disk = s.disk()
    xml = s.xml(disk)
    s.virsh.create(xml)
    s.expect(STARTED, BOOT)
    s.virsh.define(xml)
    s.expect(['Defined Added'], ['Defined (added)[running]'])
    s('destroy')
    s.expect(DESTROYED, DESTROY)
    s('undefine')
    s.expect(['Undefined Removed'], ['Undefined (removed)', 'Removed'])


@scenario
def uuid_comes_back(s):
    for _ in range(2):
        s.define()
        s('undefine')
        s.expect(['Defined Added', 'Undefined Removed'], ['Added', 'Defined (added)', 'Undefined (removed)', 'Removed'])
