/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Every name on the bus, once. Names of members are in the interface files and the vtables; a test compares those.
 * Names of errors are with the errors themselves: vireo_error_name().
 */
#include "util/error.h"

#define VIREO_BUS_NAME "org.vireo1"

/* Interfaces; "Domain" and so on are what kind_interface() answers. */
#define VIREO_INTERFACE_PREFIX "org.vireo1."
#define VIREO_INTERFACE_MANAGER "org.vireo1.Manager"
#define VIREO_INTERFACE_CONNECTION "org.vireo1.Connection"
#define VIREO_INTERFACE_DOMAIN "org.vireo1.Domain"
#define VIREO_INTERFACE_STORAGE_POOL "org.vireo1.StoragePool"
#define VIREO_INTERFACE_NETWORK "org.vireo1.Network"
#define VIREO_INTERFACE_JOB "org.vireo1.Job"

/*
 * Paths. What stands in front of a label is VIREO_PATH_CONNECTIONS "/", of a job's number VIREO_PATH_JOBS "/_";
 * below a connection come its label and one of the VIREO_PATH_PART_…, then "/_" and the UUID with '_' for '-'.
 */
#define VIREO_PATH_ROOT "/org/vireo1"
#define VIREO_PATH_CONNECTIONS "/org/vireo1/connection"
#define VIREO_PATH_JOBS "/org/vireo1/job"
#define VIREO_PATH_PART_DOMAIN "domain"
#define VIREO_PATH_PART_POOL "pool"
#define VIREO_PATH_PART_NETWORK "network"

/* Others' */
#define DBUS_BUS_NAME "org.freedesktop.DBus"
#define DBUS_PATH "/org/freedesktop/DBus"
#define DBUS_INTERFACE "org.freedesktop.DBus"
#define DBUS_INTERFACE_PROPERTIES "org.freedesktop.DBus.Properties"
#define DBUS_INTERFACE_INTROSPECTABLE "org.freedesktop.DBus.Introspectable"
#define DBUS_INTERFACE_PEER "org.freedesktop.DBus.Peer"
#define DBUS_INTERFACE_OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"
/* LogControl1 is at the root, as the contract has it; this is where `systemctl service-log-level` looks for it. */
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"
#define LOG_CONTROL_INTERFACE "org.freedesktop.LogControl1"
