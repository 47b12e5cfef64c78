#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The Debian package: built from debian/, looked at by lintian, installed, used, removed and purged, in a copy of this
machine's file system that nobody else sees. Takes minutes, so it runs only when asked for: VIREO_TEST_PACKAGE=1.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The addresses in debian/ are those of nobody yet
LINTIAN = ['--allow-root', '--fail-on', 'error,warning', '--suppress-tags',
           'bogus-mail-host,bogus-mail-host-in-debian-changelog']
INSIDE = r'''
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$TOP"
mkdir "$TOP/upper" "$TOP/work" "$TOP/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$TOP/upper,workdir=$TOP/work" "$TOP/root"
mount -t proc proc "$TOP/root/proc"
mount -t tmpfs tmpfs "$TOP/root/run"
mount --bind /dev "$TOP/root/dev"
cp "$DEB" "$TOP/root/vireo.deb"
cat > "$TOP/root/steps" <<'END'
set -eu
export DEBIAN_FRONTEND=noninteractive
# nothing is started here
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
echo "== install"
dpkg -i /vireo.deb
getent passwd vireo
getent group vireo
id -nG vireo | tr ' ' '\n' | grep -x libvirt
stat -c '%U %a' /var/lib/vireo | grep -x 'vireo 700'
test -f /lib/systemd/system/vireod.service
vireod --version
vireoctl --version
systemd-analyze verify --man=no /lib/systemd/system/vireod.service 2>&1 | grep vireod && exit 1
systemd-analyze security --offline=true --threshold=15 /lib/systemd/system/vireod.service | tail -1
xmllint --nonet --noout --dtdvalid /usr/share/polkit-1/policyconfig-1.dtd /usr/share/polkit-1/actions/org.vireo1.policy
busctl --version > /dev/null
echo "== use"
mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile --print-pid > /run/dbus/pid
mkdir -p /etc/vireo
printf '[connection sim]\nURI=sim:///3\n' > /etc/vireo/vireo.conf
# started by the bus, as its own user
busctl call org.vireo1 /org/vireo1 org.vireo1.Manager LookupDomain s "$(busctl --json=short call org.vireo1 /org/vireo1 \
    org.vireo1.Manager GetSnapshot 'a{sv}' 0 | grep -o '"Name":{"type":"s","data":"[^"]*"' | head -1 | cut -d'"' -f10)"
pid=$(busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus GetConnectionUnixProcessID s org.vireo1 | cut -d' ' -f2)
stat -c %U "/proc/$pid" | grep -x vireo
test -s /var/lib/vireo/vireo.db
kill "$pid" "$(cat /run/dbus/pid)"
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
echo "== again"
dpkg -i /vireo.deb
rm -r /etc/vireo
echo "== remove"
dpkg -r vireo
test ! -e /usr/bin/vireod
test -d /var/lib/vireo
echo "== purge"
dpkg -P vireo
test ! -e /var/lib/vireo
dpkg -s vireo 2>/dev/null && exit 1
rm /vireo.deb /steps
echo "== left"
END
chroot "$TOP/root" sh /steps
# of all that was written, what is still there by that name
cd "$TOP/upper"
find . ! -type c -iname '*vireo*' -print
echo "== done"
'''


def run(*argv, **options):
    done = subprocess.run([os.fspath(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)
    print(done.stdout[-6000:])
    if done.returncode != 0:
        sys.exit(f'{argv[0]} ended with {done.returncode}')
    return done.stdout


def main():
    if os.environ.get('VIREO_TEST_PACKAGE') != '1':
        print('SKIP: set VIREO_TEST_PACKAGE=1')
        sys.exit(77)
    for tool in ('dpkg-buildpackage', 'dh', 'lintian', 'unshare'):
        if not shutil.which(tool):
            print(f'SKIP: {tool} is not installed')
            sys.exit(77)
    if os.geteuid() != 0:
        print('SKIP: mounts need root')
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix='vireo-package-') as directory:
        source = pathlib.Path(directory, 'source')
        run('git', 'clone', '-q', ROOT, source)
        run('dpkg-buildpackage', '-b', '-us', '-uc', cwd=source,
            env=dict(os.environ, DEB_BUILD_OPTIONS=os.environ.get('DEB_BUILD_OPTIONS', 'nocheck parallel=2')))
        run('lintian', *LINTIAN, *source.parent.glob('*.changes'))
        deb, = source.parent.glob('vireo_*.deb')
        top = pathlib.Path(directory, 'top')
        top.mkdir()
        said = run('unshare', '-m', '-p', '--fork', '--kill-child', 'sh', '-c', INSIDE, env=dict(os.environ, TOP=str(top), DEB=str(deb)))
        left = said.partition('== left\n')[2].partition('== done')[0].split()
        if left:
            sys.exit(f'purging left {left}')


if __name__ == '__main__':
    main()
