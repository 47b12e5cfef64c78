#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The service under a real systemd: installed into a container that is booted. The unit, with all that it forbids, is started
by the bus, follows hypervisors of all kinds (a local libvirtd by its group, others by ssh and by TLS), asks polkit, and is
stopped, killed and started again.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests' / 'live'))

from container import CannotBoot, Container, missing  # noqa: E402
from kit.loop import wait_for  # noqa: E402
from kit.recorder import Recorder  # noqa: E402
from kit.scope import Scope  # noqa: E402
from kit.vireod import Client  # noqa: E402

BUILD = pathlib.Path(os.environ.get('VIREO_BUILD', ROOT / 'build'))
NAME, MANAGER = 'org.vireo1', '/org/vireo1'
ALICE, NOBODY = 64081, 65534
SSH_PORT = 2222
CONNECTIONS = {'sim': 'sim:///3', 'test': 'test:///default', 'local': 'qemu:///system',
               'ssh': f'qemu+ssh://virtops@localhost:{SSH_PORT}/system', 'tls': 'qemu+tls://localhost/system'}
# One that serves its sockets itself, whatever units this machine has
LIBVIRTD_UNIT = '''[Service]
Type=notify
ExecStart=/usr/sbin/libvirtd --listen
'''
LIBVIRTD_CONF = '''unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
auth_unix_rw = "none"
listen_tls = 1
listen_tcp = 0
listen_addr = "127.0.0.1"
'''
SSHD_UNIT = f'''[Service]
ExecStart=/usr/sbin/dropbear -F -E -s -w -r /etc/vireo-test/host -p 127.0.0.1:{SSH_PORT}
'''
USERS = f'''u virtops - "may use libvirt" /var/lib/virtops /bin/sh
m virtops libvirt
u alice {ALICE} "sits somewhere" / /bin/sh
'''
RULES = '''polkit.addRule(function(action, subject) {
    if (subject.user == "alice" && (action.id == "org.vireo1.view" ||
            (action.id == "org.vireo1.control" && action.lookup("name") == "test")))
        return polkit.Result.YES;
});
'''


def openssl(*arguments, cwd):
    subprocess.run(['openssl', *arguments], cwd=cwd, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                   stderr=subprocess.STDOUT)


def certificates(directory):
    """Make an authority and certificates of a server and a client, as libvirt wants them; for an hour or so."""
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=test CA',
            '-addext', 'keyUsage=critical,keyCertSign', '-keyout', 'cakey.pem', '-out', 'cacert.pem', cwd=directory)
    for name, use in (('server', 'serverAuth'), ('client', 'clientAuth')):
        (directory / 'extensions').write_text(
            f'subjectAltName=DNS:localhost,IP:127.0.0.1\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage={use}\n'
            'basicConstraints=CA:false\n')
        openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=localhost', '-keyout',
                f'{name}key.pem', '-out', f'{name}.csr', cwd=directory)
        openssl('x509', '-req', '-in', f'{name}.csr', '-days', '2', '-CA', 'cacert.pem', '-CAkey', 'cakey.pem', '-CAcreateserial',
                '-extfile', 'extensions', '-out', f'{name}cert.pem', cwd=directory)


def prefix():
    options = json.loads(subprocess.run(['meson', 'introspect', '--buildoptions', BUILD], check=True, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE).stdout)
    return next(o['value'] for o in options if o['name'] == 'prefix')


def ssh_missing():
    return next((f'{tool} is not installed' for tool in ('dropbear', 'dropbearkey', 'ssh', 'ssh-keygen', 'virt-ssh-helper')
                 if not shutil.which(tool)), None)


def libvirt_missing():
    return next((f'{tool} is not installed' for tool in ('libvirtd', 'virsh') if not shutil.which(tool)), None)


class Machine(Container):
    """One in which Vireo is installed, beside a libvirtd that is reached in three ways."""

    def __init__(self, scope):
        super().__init__(scope, 'vireo-booted')
        self.material = scope.directory('material')
        self.labels = ['sim', 'test']
        self._install(scope.directory('destination'))
        if not libvirt_missing():
            self._libvirtd()
            self.labels += ['local', 'tls']
            if not ssh_missing():
                self._sshd()
                self.labels.append('ssh')
        config = ''.join(f'[connection {label}]\nURI={CONNECTIONS[label]}\n' for label in self.labels)
        for place in ('etc/vireo', f'{prefix().lstrip("/")}/etc/vireo'):
            self.write(f'{place}/vireo.conf', config)

    def write(self, path, text, mode=0o644):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def _install(self, destination):
        subprocess.run(['meson', 'install', '-C', BUILD, '--destdir', destination, '--quiet', '--no-rebuild'], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.write('etc/sysusers.d/vireo-test.conf', USERS)
        self.write('etc/polkit-1/rules.d/10-vireo-test.rules', RULES)
        # the bus, polkit and systemd look for these below /usr only
        places = ' '.join(f'cp -a {destination}{prefix()}/{p}/. $ROOT/usr/{p}/;' for p in (
            'share/dbus-1', 'share/polkit-1/actions', 'share/polkit-1/rules.d', 'lib/sysusers.d', 'lib/tmpfiles.d'))
        self.prepare(f'set -e; cp -a {destination}/. $ROOT/; {places} chmod 755 $ROOT/etc/polkit-1/rules.d; '
                     # what this machine itself has of Vireo, or keeps from its users
                     'rm -rf $ROOT/var/lib/vireo $ROOT/etc/systemd/system/vireod.service* $ROOT/run/nologin $ROOT/etc/nologin; '
                     'chroot $ROOT systemd-sysusers 2>&1')
        self.prepare('mkdir -m 700 $ROOT/var/lib/vireo; chroot $ROOT chown vireo:vireo /var/lib/vireo')

    def _libvirtd(self):
        certificates(self.material)
        self.write('etc/systemd/system/vireo-test-libvirtd.service', LIBVIRTD_UNIT)
        self.write('etc/libvirt/libvirtd.conf', LIBVIRTD_CONF)
        m = self.material
        self.prepare(
            f'set -e; cd $ROOT/etc; mkdir -p pki/CA pki/libvirt/private; cp {m}/cacert.pem pki/CA/; chmod 755 pki pki/CA pki/libvirt; '
            f'cp {m}/servercert.pem {m}/clientcert.pem pki/libvirt/; cp {m}/serverkey.pem {m}/clientkey.pem pki/libvirt/private/; '
            'chmod 644 pki/CA/* pki/libvirt/*.pem; chmod 711 pki/libvirt/private; chmod 600 pki/libvirt/private/*; '
            'chroot $ROOT chown vireo /etc/pki/libvirt/private/clientkey.pem; '
            # of this machine's domains it has none
            'rm -rf $ROOT/etc/libvirt/qemu $ROOT/etc/libvirt/storage; mkdir -p $ROOT/etc/libvirt/qemu')

    def _sshd(self):
        m, host = self.material, f'[localhost]:{SSH_PORT}'
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', m / 'id_ed25519'], check=True, stdin=subprocess.DEVNULL)
        public = subprocess.run(['dropbearkey', '-t', 'ed25519', '-f', m / 'host'], check=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        key = re.search(r'^ssh-ed25519 \S+', public, re.MULTILINE).group(0)
        (m / 'known_hosts').write_text(f'{host} {key}\n')
        self.write('etc/systemd/system/vireo-test-sshd.service', SSHD_UNIT)
        self.prepare(
            f'set -e; mkdir -p $ROOT/etc/vireo-test; cp {m}/host $ROOT/etc/vireo-test/; '
            f'mkdir -p -m 700 $ROOT/var/lib/virtops/.ssh $ROOT/var/lib/vireo/.ssh; chmod 700 $ROOT/var/lib/virtops; '
            f'cp {m}/id_ed25519.pub $ROOT/var/lib/virtops/.ssh/authorized_keys; '
            f'cp {m}/id_ed25519 {m}/known_hosts $ROOT/var/lib/vireo/.ssh/; chmod 600 $ROOT/var/lib/vireo/.ssh/*; '
            'chroot $ROOT chown -R virtops:virtops /var/lib/virtops; chroot $ROOT chown -R vireo:vireo /var/lib/vireo')


class Booted(unittest.TestCase):
    """The tests run in the order of their names, each on what the one before has left."""

    @classmethod
    def setUpClass(cls):
        cls.scope = cls.enterClassContext(Scope())
        try:
            cls.machine = Machine(cls.scope)
            cls.machine.boot()
        except CannotBoot as reason:
            raise unittest.SkipTest(str(reason)) from None
        for service in ('libvirtd', 'sshd'):
            if (cls.machine.root / f'etc/systemd/system/vireo-test-{service}.service').exists():
                said = cls.machine.run('systemctl', 'start', f'vireo-test-{service}', check=False)
                assert not said, said + cls.journal()
        cls.client = Client(cls.machine)

    @classmethod
    def journal(cls):
        return cls.machine.run('journalctl', '--no-pager', '-o', 'cat', '-n', '60', check=False)

    def tearDown(self):
        outcome = self._outcome.result  # pylint: disable=no-member
        if any(test is self for test, _ in outcome.failures + outcome.errors):
            print(self.journal())

    def connection(self, label):
        return f'{MANAGER}/connection/{label}'

    def wait_connected(self, label, limit=60):
        path = self.connection(label)
        wait_for(lambda: self.client.get(path, 'Connection', 'State') == 'connected', limit,
                 lambda: f'{label}: {self.client.get_all(path, "Connection")}', poll=0.2)

    def busctl(self, user, *arguments):
        """Run busctl as somebody, who has no polkit agent; return what it printed."""
        return self.machine.run('busctl', '--no-pager', *arguments, user=user, check=False)

    def main_pid(self):
        return int(self.machine.show('vireod', 'MainPID')['MainPID'])

    # ---- in this order ------------------------------------------------------------------------------------------

    def test_1_the_bus_starts_it(self):
        self.assertEqual(self.machine.show('vireod', 'ActiveState')['ActiveState'], 'inactive')
        self.assertEqual(len(self.client.get(MANAGER, 'Manager', 'Epoch')), 32)
        shown = self.machine.show('vireod', 'ActiveState', 'NRestarts', 'StatusText', 'User')
        self.assertEqual((shown['ActiveState'], shown['NRestarts'], shown['User']), ('active', '0', 'vireo'))
        self.assertIn('polkit', self.client.get(MANAGER, 'Manager', 'Features'))

    def test_2_what_it_may_do(self):
        status = self.machine.run('cat', f'/proc/{self.main_pid()}/status')
        for line in (r'CapPrm:\s0+', r'CapEff:\s0+', r'CapBnd:\s0+', r'CapAmb:\s0+', r'NoNewPrivs:\s1', r'Seccomp:\s2'):
            self.assertRegex(status, f'(?m)^{line}$')
        self.assertNotRegex(status, r'(?m)^Uid:.*\s0\b')
        said = self.machine.run('systemd-analyze', 'security', '--no-pager', 'vireod')
        self.assertLessEqual(float(re.search(r'exposure level for vireod.service: ([\d.]+)', said).group(1)), 1.5)
        limits = self.machine.show('vireod', 'TasksMax', 'MemoryMax', 'LimitNOFILE')
        self.assertEqual(limits, {'TasksMax': '512', 'MemoryMax': str(2 << 30), 'LimitNOFILE': '65536'})
        # as what it forbids looks from inside
        inside = ['nsenter', '-t', self.main_pid(), '-m', '--']
        for place in ('/etc/vireo-test-x', '/usr/vireo-test-x', '/var/lib/libvirt/vireo-test-x'):
            self.assertIn('Read-only', self.machine.run(*inside, 'touch', place, check=False))
        self.assertEqual(self.machine.run(*inside, 'sh', '-c', 'ls -A /home /root', check=False).split(), ['/home:', '/root:'])

    def test_3_its_hypervisors(self):
        for label in self.machine.labels:
            with self.subTest(label):
                self.wait_connected(label)

    def test_4_what_happens_at_a_libvirtd(self):
        if 'local' not in self.machine.labels:
            self.skipTest(libvirt_missing())
        recorder = Recorder(self.machine)
        ways = [label for label in ('local', 'tls', 'ssh') if label in self.machine.labels]
        self.machine.run('sh', '-c', 'echo \'<domain type="qemu"><name>defined</name><memory>8192</memory>'
                         '<os><type arch="x86_64">hvm</type></os></domain>\' > /run/d.xml; virsh -c qemu:///system define /run/d.xml')
        for label in ways:
            with self.subTest(label):
                top = self.connection(label)
                wait_for(lambda top=top: any(e.event == 'Defined' and e.path.startswith(top) for e in recorder.events), 60,
                         lambda: f'Defined: {[(e.path, e.event) for e in recorder.events]}')
        # and the other way
        for label in ways:
            with self.subTest(f'{label}: an operation'):
                path = next(p for p in self.client.snapshot()[2] if p.startswith(self.connection(label) + '/domain/'))
                _job, version = self.client.call(path, f'{NAME}.Domain', 'SetAutostart', '(ba{sv})', True, {}, limit=60)
                self.assertGreater(version, 0)
                self.assertIn('enable', self.machine.run('virsh', '-c', 'qemu:///system', 'dominfo', 'defined'))
                self.client.call(path, f'{NAME}.Domain', 'SetAutostart', '(ba{sv})', False, {}, limit=60)
        self.machine.run('virsh', '-c', 'qemu:///system', 'undefine', 'defined')
        for label in ways:
            top = self.connection(label)
            wait_for(lambda top=top: any(e.event == 'Removed' and e.path.startswith(top) for e in recorder.events), 60,
                     f'Removed at {label}')
        # they all are the same
        if len(ways) > 1:
            self.assertEqual(set(self.client.get(self.connection('local'), 'Connection', 'SameAs')),
                             {self.connection(label) for label in ways[1:]})

    def test_5_ssh_is_there(self):
        if ssh_missing() or libvirt_missing():
            self.skipTest(ssh_missing() or libvirt_missing())
        self.assertIn('ssh', self.machine.labels)

    def test_6_polkit(self):
        path = self.client.lookup('test')
        snapshot = ('call', NAME, MANAGER, f'{NAME}.Manager', 'GetSnapshot', 'a{sv}', '0')

        def suspend(user, method, of=path):
            return self.busctl(user, 'call', NAME, of, f'{NAME}.Domain', method, 'a{sv}', '0')
        # nobody: neither by the defaults nor by a rule
        self.assertIn('needs authentication for org.vireo1.view', self.busctl(NOBODY, *snapshot))
        self.assertIn('needs authentication for org.vireo1.control', suspend(NOBODY, 'Suspend'))
        self.assertEqual(self.client.get(path, 'Domain', 'State'), 'running')
        self.assertEqual(self.machine.show('polkit', 'ActiveState')['ActiveState'], 'active')
        # alice, by a rule, this one alone
        self.assertIn('"Name" s "test"', self.busctl(ALICE, *snapshot))
        self.assertRegex(suspend(ALICE, 'Suspend'), r'^ot "/org/vireo1/job/_\d+" \d+')
        self.assertEqual(self.client.get(path, 'Domain', 'State'), 'paused')
        self.assertRegex(suspend(ALICE, 'Resume'), '^ot ')
        other = next(p for p, (kind, _) in self.client.snapshot()[2].items()
                     if kind == 'Domain' and p.startswith(self.connection('sim')))
        self.assertIn('needs authentication for org.vireo1.control', suspend(ALICE, 'Destroy', other))
        # nobody but its own user becomes it
        said = self.busctl(ALICE, 'call', 'org.freedesktop.DBus', '/org/freedesktop/DBus', 'org.freedesktop.DBus', 'RequestName',
                           'su', NAME, '4')
        self.assertRegex(said, '(?i)denied|not allowed')

    def test_7_stopped_killed_started(self):
        epoch, version = self.client.get(MANAGER, 'Manager', 'Epoch'), self.client.get(MANAGER, 'Manager', 'Version')
        self.machine.run('systemctl', 'restart', 'vireod')
        self.assertEqual(self.machine.show('vireod', 'Result', 'NRestarts'), {'Result': 'success', 'NRestarts': '0'})
        self.assertEqual(self.client.get(MANAGER, 'Manager', 'Epoch'), epoch)
        self.assertGreaterEqual(self.client.get(MANAGER, 'Manager', 'Version'), version)
        # without a word: systemd starts it anew, and it goes on with the same story
        before = self.main_pid()
        self.machine.run('kill', '-KILL', before)
        wait_for(lambda: self.main_pid() not in (0, before) and
                 self.machine.show('vireod', 'ActiveState')['ActiveState'] == 'active', 60, 'it is started anew', poll=0.2)
        self.assertEqual(self.machine.show('vireod', 'NRestarts')['NRestarts'], '1')
        self.assertEqual(self.client.get(MANAGER, 'Manager', 'Epoch'), epoch)
        self.machine.run('systemctl', 'stop', 'vireod')
        self.assertEqual(self.machine.show('vireod', 'ActiveState', 'Result'), {'ActiveState': 'inactive', 'Result': 'success'})
        # and by the bus
        self.assertEqual(self.client.get(MANAGER, 'Manager', 'Epoch'), epoch)
        self.wait_connected('test')
        for label in self.machine.labels:
            self.wait_connected(label)

    def test_8_its_journal(self):
        said = self.machine.run('journalctl', '-u', 'vireod', '--no-pager', '-o', 'cat')
        self.assertIn('connected to', said)
        self.assertNotRegex(said, '(?i)permission denied|not permitted|operation not|sanitizer|seccomp')


if __name__ == '__main__':
    REASON = missing() or next((f'{tool} is not installed' for tool in ('meson', 'busctl', 'openssl')
                                if not shutil.which(tool)), None)
    if REASON:
        print(f'SKIP: {REASON}')
        sys.exit(77)
    RESULT = unittest.main(verbosity=2, exit=False).result
    if RESULT.testsRun == 0 and RESULT.skipped:
        print(f'SKIP: {RESULT.skipped[0][1]}')
        sys.exit(77)
    sys.exit(not RESULT.wasSuccessful())
