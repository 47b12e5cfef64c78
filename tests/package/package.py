#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The Debian package: built from debian/, looked at by lintian, installed, used, removed and purged, in a copy of this
machine's file system that nobody else sees.
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
# In mount, process, network, IPC and host name spaces of its own, which go with it
UNSHARE = ['unshare', '-m', '-p', '-n', '-i', '-u', '--fork', '--kill-child', 'bash', '-c']
OVERLAY = r'''
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$TOP"
mkdir "$TOP/upper" "$TOP/work" "$TOP/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$TOP/upper,workdir=$TOP/work" "$TOP/root"
'''
INSIDE = r'''
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
# images of containers leave documentation out
dpkg -i --path-include='/*' /vireo.deb
dpkg --verify vireo
# where those look who are meant to find it
for file in bin/vireod bin/vireoctl share/dbus-1/system.d/org.vireo1.conf share/dbus-1/system-services/org.vireo1.service \
    share/dbus-1/services/org.vireo1.service share/polkit-1/actions/org.vireo1.policy share/polkit-1/rules.d/org.vireo1.rules \
    share/dbus-1/interfaces/org.vireo1.Domain.xml lib/systemd/user/vireod.service lib/sysusers.d/vireo.conf \
    lib/tmpfiles.d/vireo.conf share/man/man8/vireod.8.gz share/man/man1/vireoctl.1.gz share/doc/vireo/permissions.md.gz \
    share/bash-completion/completions/vireoctl; do
    dpkg -L vireo | grep -qx "/usr/$file" || { echo "not packaged: $file"; dpkg -L vireo; exit 1; }
done
# nothing that an administrator would be asked about at an upgrade, nothing that is anybody's but root's or may become root
test -z "$(dpkg-query -W -f='${Conffiles}' vireo)"
test -z "$(dpkg -L vireo | xargs -d '\n' -I{} find {} -maxdepth 0 \( ! -user root -o -perm /6022 \) -type f -print)"
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
sum=$(md5sum /etc/vireo/vireo.conf)
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
test -s /var/lib/vireo/vireo.db
echo "== remove"
dpkg -r vireo
test ! -e /usr/bin/vireod
test -s /var/lib/vireo/vireo.db
echo "== purge"
dpkg -P vireo
test ! -e /var/lib/vireo
dpkg -s vireo 2>/dev/null && exit 1
# what the administrator wrote is his; the user stays, so that nobody else gets its number, but can't be anybody
test "$(md5sum /etc/vireo/vireo.conf)" = "$sum"
getent passwd vireo | grep -q ':/usr/sbin/nologin$'
getent shadow vireo | cut -d: -f2 | grep -q '^!'
rm -r /etc/vireo
rm /vireo.deb /steps
echo "== left"
END
chroot "$TOP/root" bash /steps
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


def skip(reason):
    print(f'SKIP: {reason}')
    sys.exit(77)


def copy_source(to):
    """Copy what is there, committed or not, without what is built."""
    if (ROOT / '.git').exists():
        names = subprocess.run(['git', '-C', ROOT, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
        for name in map(os.fsdecode, filter(None, names.split(b'\0'))):
            if (ROOT / name).exists():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, to / name)
    else:
        shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns('build*'))


def main():
    for tool in ('dpkg-buildpackage', 'dh', 'lintian', 'unshare'):
        if not shutil.which(tool):
            skip(f'{tool} is not installed')
    if os.geteuid() != 0:
        skip('mounts need root')
    with tempfile.TemporaryDirectory(prefix='vireo-package-') as directory:
        source, top = pathlib.Path(directory, 'source'), pathlib.Path(directory, 'top')
        top.mkdir()
        probe = subprocess.run([*UNSHARE, OVERLAY], env=dict(os.environ, TOP=str(top)), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if probe.returncode != 0:
            skip(f'no overlay in namespaces here: {probe.stdout.strip()}')
        copy_source(source)
        # the tests are what else runs here; one process, beside others
        run('dpkg-buildpackage', '-b', '-us', '-uc', cwd=source,
            env=dict(os.environ, DEB_BUILD_OPTIONS='nocheck noautodbgsym parallel=1', DEB_BUILD_PROFILES='nocheck'))
        run('lintian', *LINTIAN, *source.parent.glob('*.changes'))
        deb, = source.parent.glob('vireo_*.deb')
        said = run(*UNSHARE, OVERLAY + INSIDE, env=dict(os.environ, TOP=str(top), DEB=str(deb)))
        left = said.partition('== left\n')[2].partition('== done')[0].split()
        if left:
            sys.exit(f'purging left {left}')
        if '== done' not in said:
            sys.exit('it did not come to its end')


if __name__ == '__main__':
    main()
