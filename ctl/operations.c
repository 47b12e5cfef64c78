/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operate.h"

/*
 * The verbs that change something, as tables: what each calls, with which arguments and options. The names of options
 * are those on the bus.
 */

#define FLAG(name, help) {name, 'b', name, NULL, help}
#define TEXT(name, argument, help) {name, 's', name, argument, help}
#define SIZE(name, argument, help) {name, 't', name, argument, help}

const struct verb_option common_options[] = {
	{"if-version", 'k', "if-version", "VERSION", "Only if it is at this version"},
	{"async", 'b', NULL, NULL, "Do not wait for the end; print the number of the job (-a)"},
	{"no-wait", 'b', NULL, NULL, "Do not wait for the end; print nothing"},
	{0},
};

/* ---- options ------------------------------------------------------------------------------------------------------- */

static const struct verb_option start_options[] = {
	FLAG("paused", "Leave it paused"),
	FLAG("bypass-cache", "Keep the file of a managed save out of the page cache"),
	FLAG("force-boot", "Discard a managed save and boot"),
	FLAG("reset-nvram", "Start with fresh firmware variables"),
	{0},
};
static const struct verb_option shutdown_options[] = {
	{"mode", 'l', "mode", "WAY[,WAY]", "How to ask: acpi, agent, initctl, signal, paravirt"},
	FLAG("wait", "Wait until it has done so, rather than until it was asked"),
	{0},
};
static const struct verb_option destroy_options[] = {
	FLAG("graceful", "Fail rather than kill the process of the hypervisor"),
	FLAG("remove-logs", "Delete the log file of the run"),
	{0},
};
static const struct verb_option save_options[] = {
	{"xml", 'x', "xml", "FILE", "Keep this description within the file"},
	FLAG("running", "Let it run when it is restored"),
	FLAG("paused", "Leave it paused when it is restored"),
	FLAG("bypass-cache", "Keep the file out of the page cache"),
	{0},
};
static const struct verb_option restore_options[] = {
	{"xml", 'x', "xml", "FILE", "Use this description instead of the one within the file"},
	FLAG("running", "Let it run, whatever the file says"),
	FLAG("paused", "Leave it paused, whatever the file says"),
	FLAG("bypass-cache", "Keep the file out of the page cache"),
	FLAG("reset-nvram", "Start with fresh firmware variables"),
	{0},
};
static const struct verb_option dump_options[] = {
	TEXT("format", "FORMAT", "raw, kdump-zlib, kdump-lzo, kdump-snappy, win-dmp"),
	FLAG("memory-only", "In a format that debuggers read"),
	FLAG("live", "Do not pause it meanwhile"),
	FLAG("crash", "Leave it crashed"),
	FLAG("reset", "Reset it after"),
	FLAG("bypass-cache", "Keep the file out of the page cache"),
	{0},
};
static const struct verb_option undefine_options[] = {
	FLAG("managed-save", "Discard its managed save"),
	FLAG("snapshots-metadata", "Forget its snapshots"),
	FLAG("checkpoints-metadata", "Forget its checkpoints"),
	FLAG("nvram", "Delete its firmware variables"),
	FLAG("keep-nvram", "Keep its firmware variables"),
	FLAG("tpm", "Delete the state of its TPM"),
	FLAG("keep-tpm", "Keep the state of its TPM"),
	{0},
};
static const struct verb_option validate_options[] = {
	FLAG("validate", "Check the XML against the schema first"),
	{0},
};
static const struct verb_option create_options[] = {
	FLAG("paused", "Leave it paused"),
	FLAG("validate", "Check the XML against the schema first"),
	FLAG("reset-nvram", "Start with fresh firmware variables"),
	{0},
};
static const struct verb_option migrate_options[] = {
	FLAG("live", "Keep it running meanwhile"),
	FLAG("p2p", "The two hypervisors talk to each other"),
	FLAG("tunnelled", "With --p2p: send data through the management connection"),
	FLAG("persistent", "Define it there"),
	FLAG("undefine-source", "Undefine it here"),
	FLAG("paused", "Leave it paused there"),
	FLAG("offline", "Move only the description of an inactive one"),
	TEXT("copy-storage", "HOW", "Copy its disks too: none, all, inc"),
	{"disks", 'l', "disks", "DISK[,DISK]", "With --copy-storage: only these"},
	FLAG("unsafe", "Even though it may lose data"),
	FLAG("compressed", "Compress memory"),
	FLAG("abort-on-error", "Give up on a disk error"),
	FLAG("auto-converge", "Slow the guest down until it can be moved"),
	FLAG("postcopy", "Use post-copy after the first pass"),
	{"parallel", 'u', "parallel", "N", "So many connections"},
	FLAG("tls", "Encrypt"),
	SIZE("bandwidth", "SIZE", "Limit, bytes a second"),
	TEXT("migrate-uri", "URI", "Where the data goes to"),
	TEXT("disks-uri", "URI", "Where disks go to"),
	TEXT("graphics-uri", "URI", "Where graphical consoles reconnect to"),
	TEXT("listen-address", "ADDRESS", "Where the other side listens"),
	TEXT("name", "NAME", "New name there"),
	{"xml", 'x', "xml", "FILE", "Description there"},
	{"persistent-xml", 'x', "persistent-xml", "FILE", "Persistent description there"},
	{0},
};
static const struct verb_option blockpull_options[] = {
	TEXT("base", "FILE", "Stop above this file"),
	SIZE("bandwidth", "SIZE", "Limit, bytes a second"),
	{0},
};
static const struct verb_option blockcommit_options[] = {
	TEXT("base", "FILE", "Commit into this file"),
	TEXT("top", "FILE", "Commit from this file"),
	SIZE("bandwidth", "SIZE", "Limit, bytes a second"),
	FLAG("shallow", "Into the very next file"),
	FLAG("active", "Allow the active layer to be committed"),
	FLAG("delete", "Delete files that are no longer needed"),
	FLAG("relative", "Keep backing names relative"),
	FLAG("pivot", "Complete by itself when ready"),
	{0},
};
static const struct verb_option blockcopy_options[] = {
	{"format", 's', NULL, "FORMAT", "Format of the target: raw, qcow2, …; otherwise raw"},
	{"blockdev", 'b', NULL, NULL, "The target is a device"},
	{"disk-xml", 's', NULL, "FILE", "Description of the target, instead of TARGET"},
	SIZE("bandwidth", "SIZE", "Limit, bytes a second"),
	{"granularity", 'u', "granularity", "SIZE", "Unit of copying"},
	SIZE("buffer-size", "SIZE", "Data in flight at most"),
	FLAG("shallow", "Copy only the active layer"),
	FLAG("reuse-external", "The target exists already"),
	FLAG("transient", "Although the job would not survive a restart"),
	FLAG("synchronous-writes", "Write to both when the guest writes"),
	FLAG("pivot", "Go over to the copy when it is ready"),
	{0},
};
static const struct verb_option setmem_options[] = {
	FLAG("live", "The present run"),
	FLAG("config", "The persistent description"),
	FLAG("maximum", "The largest possible size instead"),
	FLAG("wait", "Wait until it has so much, rather than until it was asked"),
	{0},
};
static const struct verb_option setvcpus_options[] = {
	FLAG("live", "The present run"),
	FLAG("config", "The persistent description"),
	FLAG("maximum", "The largest possible number instead; with --config"),
	FLAG("guest", "Through the agent in the guest"),
	FLAG("hotpluggable", "Make the added ones removable"),
	{0},
};
static const struct verb_option autostart_options[] = {
	{"disable", 'b', NULL, NULL, "Do not start it with the hypervisor any more"},
	{0},
};
static const struct verb_option attach_options[] = {
	FLAG("live", "The present run"),
	FLAG("config", "The persistent description"),
	{0},
};
static const struct verb_option detach_options[] = {
	FLAG("live", "The present run"),
	FLAG("config", "The persistent description"),
	FLAG("wait", "Wait until the guest has let it go, rather than until it was asked"),
	{0},
};
static const struct verb_option update_options[] = {
	FLAG("live", "The present run"),
	FLAG("config", "The persistent description"),
	FLAG("force", "Even though the guest has locked the medium"),
	{0},
};
static const struct verb_option wait_options[] = {
	{"wait", 'b', NULL, NULL, "Wait until it has ended, rather than until it was asked"},
	{0},
};
static const struct verb_option open_options[] = {
	{"label", 's', NULL, "LABEL", "What to call it; otherwise made from the URI"},
	{"async", 'b', NULL, NULL, "Do not wait until it is listed (-a)"},
	{"no-wait", 'b', NULL, NULL, "The same"},
	{0},
};
static const struct verb_option pool_build_options[] = {
	FLAG("repair", "Repair what is there"),
	FLAG("resize", "Extend what is there"),
	FLAG("overwrite", "Replace what is there"),
	FLAG("no-overwrite", "Fail if something is there"),
	{0},
};
static const struct verb_option pool_start_options[] = {
	FLAG("build", "Build what lies below it first"),
	FLAG("overwrite", "With --build: replace what is there"),
	FLAG("no-overwrite", "With --build: fail if something is there"),
	{0},
};
static const struct verb_option zeroed_options[] = {
	FLAG("zeroed", "Write zeroes over the data first"),
	{0},
};
static const struct verb_option vol_create_options[] = {
	{"format", 's', NULL, "FORMAT", "raw, qcow2, …"},
	{"allocation", 's', NULL, "SIZE", "Space to take at once; otherwise none"},
	FLAG("prealloc-metadata", "Allocate the metadata of the format beforehand"),
	FLAG("reflink", "Share the blocks"),
	FLAG("validate", "Check the XML against the schema first"),
	{0},
};
static const struct verb_option vol_clone_options[] = {
	{"from-pool", 'p', "pool", "POOL", "Where the source is; otherwise the same pool"},
	{"xml", 'x', "xml", "FILE", "Description of the new volume"},
	FLAG("prealloc-metadata", "Allocate the metadata of the format beforehand"),
	FLAG("reflink", "Share the blocks"),
	{0},
};
static const struct verb_option vol_resize_options[] = {
	FLAG("allocate", "Allocate the new space at once"),
	FLAG("shrink", "Allow it to become smaller; data beyond is lost"),
	{0},
};
static const struct verb_option vol_wipe_options[] = {
	TEXT("algorithm", "WAY", "zero, nnsa, dod, bsi, gutmann, schneier, random, trim, …"),
	{0},
};
static const struct verb_option vol_delete_options[] = {
	FLAG("zeroed", "Write zeroes over the data first"),
	FLAG("with-snapshots", "With the snapshots within it"),
	{0},
};
static const struct verb_option vol_transfer_options[] = {
	SIZE("offset", "SIZE", "Begin at this byte of the volume"),
	SIZE("length", "SIZE", "So many bytes; otherwise until the end"),
	FLAG("sparse", "Keep holes"),
	{0},
};

/* ---- verbs --------------------------------------------------------------------------------------------------------- */

#define OPERATION(kind, member, reply, done) &(const struct operation){KIND_##kind, member, reply, done, NULL}
#define DOMAIN(member, done) OPERATION(DOMAIN, member, "ot", done)
#define POOL(member, done) OPERATION(POOL, member, "ot", done)
#define NETWORK(member, done) OPERATION(NETWORK, member, "ot", done)

const struct verb verbs_change[] = {
	{NULL, "start", "N+", "NAME…", "Start domains", start_options, operate, DOMAIN("Start", "started")},
	{NULL, "shutdown", "N+", "NAME…", "Ask guests to shut down", shutdown_options, operate, DOMAIN("Shutdown", "shutdown requested")},
	{NULL, "stop", "N+", "NAME…", "The same as shutdown", shutdown_options, operate, DOMAIN("Shutdown", "shutdown requested")},
	{NULL, "destroy", "N+", "NAME…", "Stop domains at once, as by pulling the plug", destroy_options, operate, DOMAIN("Destroy", "destroyed")},
	{NULL, "reboot", "N+", "NAME…", "Ask guests to reboot", shutdown_options, operate, DOMAIN("Reboot", "reboot requested")},
	{NULL, "reset", "N+", "NAME…", "Reset domains, as by the button", NULL, operate, DOMAIN("Reset", "reset")},
	{NULL, "suspend", "N+", "NAME…", "Pause domains", NULL, operate, DOMAIN("Suspend", "suspended")},
	{NULL, "resume", "N+", "NAME…", "Let paused domains run on", NULL, operate, DOMAIN("Resume", "resumed")},
	{NULL, "wakeup", "N+", "NAME…", "Wake guests that have suspended themselves", NULL, operate, DOMAIN("PMWakeup", "woken up")},
	{NULL, "save", "Nh", "NAME FILE", "Save memory and state into a file, and stop", save_options, operate, DOMAIN("Save", "saved")},
	{NULL, "restore", "h", "FILE", "Start a domain from what save has written", restore_options, operate, OPERATION(CONNECTION, "RestoreDomain", "Oot", "restored")},
	{NULL, "managedsave", "N+", "NAME…", "Save; the next start goes on from there", save_options + 1, operate, DOMAIN("ManagedSave", "saved")},
	{NULL, "managedsave-remove", "N+", "NAME…", "Discard managed saves", NULL, operate, DOMAIN("ManagedSaveRemove", "managed save discarded")},
	{NULL, "dump", "Nh", "NAME FILE", "Write the memory into a file", dump_options, operate, DOMAIN("Dump", "dumped")},
	{NULL, "define", "x+", "FILE…", "Define domains by XML (- is standard input)", validate_options, operate, OPERATION(CONNECTION, "DefineDomain", "Ot", "defined")},
	{NULL, "create", "x+", "FILE…", "Start transient domains by XML", create_options, operate, OPERATION(CONNECTION, "CreateDomain", "Oot", "created")},
	{NULL, "undefine", "N+", "NAME…", "Remove the persistent description", undefine_options, operate, DOMAIN("Undefine", "undefined")},
	{NULL, "rename", "Ns", "NAME NEW", "Rename an inactive domain", NULL, operate, DOMAIN("Rename", "renamed")},
	{NULL, "autostart", "N+", "NAME…", "Start domains with the hypervisor", autostart_options, verb_autostart, DOMAIN("SetAutostart", "autostart set")},
	{NULL, "migrate", "Nu", "NAME URI", "Move a domain to another hypervisor", migrate_options, operate, DOMAIN("Migrate", "migrated")},
	{NULL, "setmem", "Nm", "NAME SIZE", "Give a domain so much memory", setmem_options, operate, DOMAIN("SetMemory", "memory set")},
	{NULL, "setvcpus", "Nn", "NAME N", "Give a domain so many virtual CPUs", setvcpus_options, operate, DOMAIN("SetVCPUs", "virtual CPUs set")},
	{NULL, "attach-device", "Nx", "NAME FILE", "Attach a device described by XML", attach_options, operate, DOMAIN("AttachDevice", "device attached")},
	{NULL, "detach-device", "Nx", "NAME FILE", "Detach a device described by XML", detach_options, operate, DOMAIN("DetachDevice", "detaching requested")},
	{NULL, "update-device", "Nx", "NAME FILE", "Change a device described by XML", update_options, operate, DOMAIN("UpdateDevice", "device changed")},
	{NULL, "blockcopy", "Nds?", "NAME DISK [TARGET]", "Copy a disk while it is used", blockcopy_options, verb_blockcopy, DOMAIN("BlockCopy", "copied")},
	{NULL, "blockpull", "Nd", "NAME DISK", "Pull the backing files of a disk into it", blockpull_options, operate, DOMAIN("BlockPull", "pulled")},
	{NULL, "blockcommit", "Nd", "NAME DISK", "Commit a disk into its backing file", blockcommit_options, operate, DOMAIN("BlockCommit", "committed")},
	{NULL, "cancel", "J+", "JOB|NAME…", "Cancel jobs, by number or by what they work on", wait_options, verb_cancel, NULL},
	{NULL, "complete", "J", "JOB|NAME", "Go over to a block copy that is ready", wait_options, verb_complete_job, NULL},
	{NULL, "wait", "J", "JOB|NAME", "Wait for the end of a job", NULL, verb_wait, NULL},
	{NULL, "open", "u", "URI", "Connect to a hypervisor", open_options, verb_open, NULL},
	{NULL, "close", "C", "LABEL", "Close a connection", NULL, verb_close, NULL},
	{NULL, "sync", "", "", "Wait until everything done so far is visible", NULL, verb_sync, NULL},
	{NULL, "resync", "C?", "[LABEL]", "List a hypervisor again", NULL, verb_resync, NULL},
	{NULL, "log-level", "l?", "[LEVEL]", "Show or set how much the broker logs", NULL, verb_log_level, NULL},
	{"pool", "start", "P+", "POOL…", "Start storage pools", pool_start_options, operate, POOL("Start", "started")},
	{"pool", "stop", "P+", "POOL…", "Stop storage pools", NULL, operate, POOL("Stop", "stopped")},
	{"pool", "build", "P+", "POOL…", "Build what lies below storage pools", pool_build_options, operate, POOL("Build", "built")},
	{"pool", "refresh", "P+", "POOL…", "Read volumes and sizes anew", NULL, operate, POOL("Refresh", "refreshed")},
	{"pool", "delete", "P+", "POOL…", "Delete what lies below storage pools", zeroed_options, operate, POOL("Delete", "deleted")},
	{"pool", "define", "x+", "FILE…", "Define storage pools by XML", validate_options, operate, OPERATION(CONNECTION, "DefinePool", "Ot", "defined")},
	{"pool", "create", "x+", "FILE…", "Start transient storage pools by XML", pool_start_options, operate, OPERATION(CONNECTION, "CreatePool", "Oot", "created")},
	{"pool", "undefine", "P+", "POOL…", "Remove the persistent description", NULL, operate, POOL("Undefine", "undefined")},
	{"pool", "autostart", "P+", "POOL…", "Start storage pools with the hypervisor", autostart_options, verb_autostart, POOL("SetAutostart", "autostart set")},
	{"vol", "create", "Pss?", "POOL FILE | POOL NAME SIZE", "Make a volume", vol_create_options, verb_vol_create, OPERATION(POOL, "CreateVolume", "vot", "created")},
	{"vol", "clone", "PVs", "POOL VOLUME NEW", "Copy a volume", vol_clone_options, operate, POOL("CloneVolume", "cloned")},
	{"vol", "resize", "PVt", "POOL VOLUME SIZE", "Change the size of a volume", vol_resize_options, operate, POOL("ResizeVolume", "resized")},
	{"vol", "wipe", "PV", "POOL VOLUME", "Overwrite a volume", vol_wipe_options, operate, POOL("WipeVolume", "wiped")},
	{"vol", "delete", "PV", "POOL VOLUME", "Delete a volume", vol_delete_options, operate, POOL("DeleteVolume", "deleted")},
	{"vol", "upload", "PVf", "POOL VOLUME FILE", "Write a file into a volume (- is standard input)", vol_transfer_options, verb_vol_transfer, POOL("UploadVolume", "uploaded")},
	{"vol", "download", "PVf", "POOL VOLUME FILE", "Write a volume into a file (- is standard output)", vol_transfer_options, verb_vol_transfer, POOL("DownloadVolume", "downloaded")},
	{"net", "start", "W+", "NETWORK…", "Start networks", NULL, operate, NETWORK("Start", "started")},
	{"net", "stop", "W+", "NETWORK…", "Stop networks", NULL, operate, NETWORK("Stop", "stopped")},
	{"net", "define", "x+", "FILE…", "Define networks by XML", validate_options, operate, OPERATION(CONNECTION, "DefineNetwork", "Ot", "defined")},
	{"net", "create", "x+", "FILE…", "Start transient networks by XML", validate_options, operate, OPERATION(CONNECTION, "CreateNetwork", "Oot", "created")},
	{"net", "undefine", "W+", "NETWORK…", "Remove the persistent description", NULL, operate, NETWORK("Undefine", "undefined")},
	{"net", "autostart", "W+", "NETWORK…", "Start networks with the hypervisor", autostart_options, verb_autostart, NETWORK("SetAutostart", "autostart set")},
	{0},
};
