# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The kit: what live tests and the demo are made of.

    scope       what is started is also ended: processes, directories, in reverse order, whatever happens
    loop        waiting for something to become true, woken by events
    guests      boot-sector guests and the XML of the domains that run them
    namespaces  a corner of the machine that nobody else sees
    libvirtd    a libvirtd of one's own, in its own namespaces, to be stopped, frozen and killed at will
    virsh       virsh, and its listening to events
    bus         a private dbus-daemon or dbus-broker
    vireod      the broker under test, and calling it
    operations  methods that change things, the jobs that become of them, guests to do it to
    truth       what virsh says that is, compared with what the broker says
    recorder    everything that the broker said on the bus, in order
    grammar     whether what it said was a legal story (independent of the broker's own code)
    program     what makes a test program: checks, skips, a verdict
"""
