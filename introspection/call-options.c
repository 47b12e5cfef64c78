/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>

#include "face.h"

/*
 * What each method takes, beside if-version and async, and which action guards it. A test compares the options with
 * those that the interface files describe, both ways.
 */

#define OPTIONS(...) ((const struct option_def[]){__VA_ARGS__, {NULL}})
#define MODES "acpi agent initctl signal paravirt"
#define DUMP_FORMATS "raw kdump-zlib kdump-lzo kdump-snappy win-dmp"
#define WIPE_ALGORITHMS "zero nnsa dod bsi gutmann schneier pfitzner7 pfitzner33 random trim"

static const struct option_def build_options[] = {
	{"build", "b"},
	{"overwrite", "b", .not_with = "no-overwrite"},
	{"no-overwrite", "b"},
	{NULL},
};
static const struct option_def transfer_options[] = {{"offset", "t"}, {"length", "t"}, {"sparse", "b"}, {NULL}};
static const struct option_def device_options[] = {{"live", "b"}, {"config", "b"}, {NULL}};
static const struct option_def define_options[] = {{"validate", "b"}, {NULL}};
static const struct option_def ask_options[] = {{"mode", "as", .words = MODES}, {"wait", "b"}, {NULL}};

const struct change_spec change_specs[OP_MAX] = {
	[OP_DEFINE_DOMAIN] = {ACTION_MANAGE, define_options},
	[OP_CREATE_DOMAIN] = {ACTION_MANAGE, OPTIONS({"paused", "b"}, {"validate", "b"}, {"reset-nvram", "b"})},
	[OP_RESTORE_DOMAIN] = {ACTION_MANAGE,
		OPTIONS({"xml", "s"}, {"paused", "b", .not_with = "running"}, {"running", "b"}, {"bypass-cache", "b"},
			{"reset-nvram", "b"}),
		.path = true},
	[OP_DEFINE_POOL] = {ACTION_STORAGE, define_options},
	[OP_CREATE_POOL] = {ACTION_STORAGE, build_options},
	[OP_DEFINE_NETWORK] = {ACTION_MANAGE, define_options},
	[OP_CREATE_NETWORK] = {ACTION_MANAGE, define_options},

	[OP_DOMAIN_START] = {ACTION_CONTROL,
		OPTIONS({"paused", "b"}, {"bypass-cache", "b"}, {"force-boot", "b"}, {"reset-nvram", "b"})},
	[OP_DOMAIN_SHUTDOWN] = {ACTION_CONTROL, ask_options},
	[OP_DOMAIN_REBOOT] = {ACTION_CONTROL, ask_options},
	[OP_DOMAIN_RESET] = {ACTION_CONTROL},
	[OP_DOMAIN_DESTROY] = {ACTION_CONTROL, OPTIONS({"graceful", "b"}, {"remove-logs", "b"})},
	[OP_DOMAIN_SUSPEND] = {ACTION_CONTROL},
	[OP_DOMAIN_RESUME] = {ACTION_CONTROL},
	[OP_DOMAIN_PMWAKEUP] = {ACTION_CONTROL},
	[OP_DOMAIN_SAVE] = {ACTION_MANAGE,
		OPTIONS({"xml", "s"}, {"running", "b"}, {"paused", "b", .not_with = "running"}, {"bypass-cache", "b"}),
		.path = true},
	[OP_DOMAIN_MANAGED_SAVE] = {ACTION_CONTROL,
		OPTIONS({"running", "b"}, {"paused", "b", .not_with = "running"}, {"bypass-cache", "b"})},
	[OP_DOMAIN_MANAGED_SAVE_REMOVE] = {ACTION_CONTROL},
	[OP_DOMAIN_DUMP] = {ACTION_MANAGE,
		OPTIONS({"format", "s", .words = DUMP_FORMATS}, {"memory-only", "b"},
			{"live", "b", .not_with = "crash reset"}, {"crash", "b", .not_with = "reset"}, {"reset", "b"},
			{"bypass-cache", "b"}),
		.path = true},
	[OP_DOMAIN_UNDEFINE] = {ACTION_MANAGE,
		OPTIONS({"managed-save", "b"}, {"snapshots-metadata", "b"}, {"checkpoints-metadata", "b"},
			{"nvram", "b", .not_with = "keep-nvram"}, {"keep-nvram", "b"}, {"tpm", "b", .not_with = "keep-tpm"},
			{"keep-tpm", "b"})},
	[OP_DOMAIN_MIGRATE] = {ACTION_MANAGE,
		OPTIONS({"live", "b"}, {"p2p", "b"}, {"tunnelled", "b"}, {"persistent", "b"}, {"undefine-source", "b"},
			{"paused", "b"}, {"offline", "b"}, {"copy-storage", "s", .words = "none all inc"}, {"disks", "as"},
			{"unsafe", "b"}, {"compressed", "b"}, {"abort-on-error", "b"}, {"auto-converge", "b"},
			{"postcopy", "b"}, {"parallel", "u"}, {"tls", "b"}, {"bandwidth", "t"}, {"migrate-uri", "s"},
			{"disks-uri", "s"}, {"graphics-uri", "s"}, {"listen-address", "s"}, {"name", "s"}, {"xml", "s"},
			{"persistent-xml", "s"})},
	[OP_DOMAIN_BLOCK_PULL] = {ACTION_MANAGE, OPTIONS({"base", "s"}, {"bandwidth", "t"})},
	[OP_DOMAIN_BLOCK_COMMIT] = {ACTION_MANAGE,
		OPTIONS({"base", "s"}, {"top", "s"}, {"bandwidth", "t"}, {"shallow", "b", .not_with = "base"},
			{"active", "b"}, {"delete", "b"}, {"relative", "b"}, {"pivot", "b"})},
	[OP_DOMAIN_BLOCK_COPY] = {ACTION_MANAGE,
		OPTIONS({"bandwidth", "t"}, {"granularity", "u"}, {"buffer-size", "t"}, {"shallow", "b"},
			{"reuse-external", "b"}, {"transient", "b"}, {"synchronous-writes", "b"}, {"pivot", "b"})},
	[OP_DOMAIN_SET_MEMORY] = {ACTION_MANAGE, OPTIONS({"live", "b"}, {"config", "b"}, {"maximum", "b"}, {"wait", "b"}),
		.size = true},
	[OP_DOMAIN_SET_VCPUS] = {ACTION_MANAGE,
		OPTIONS({"live", "b"}, {"config", "b"}, {"maximum", "b", .not_with = "live"}, {"guest", "b"},
			{"hotpluggable", "b"})},
	[OP_DOMAIN_SET_AUTOSTART] = {ACTION_MANAGE},
	[OP_DOMAIN_RENAME] = {ACTION_MANAGE},
	[OP_DOMAIN_ATTACH_DEVICE] = {ACTION_MANAGE, device_options},
	[OP_DOMAIN_DETACH_DEVICE] = {ACTION_MANAGE, OPTIONS({"live", "b"}, {"config", "b"}, {"wait", "b"})},
	[OP_DOMAIN_UPDATE_DEVICE] = {ACTION_MANAGE, OPTIONS({"live", "b"}, {"config", "b"}, {"force", "b"})},

	[OP_POOL_START] = {ACTION_STORAGE, build_options},
	[OP_POOL_STOP] = {ACTION_STORAGE},
	[OP_POOL_BUILD] = {ACTION_STORAGE,
		OPTIONS({"repair", "b"}, {"resize", "b"}, {"overwrite", "b", .not_with = "no-overwrite"},
			{"no-overwrite", "b"})},
	[OP_POOL_REFRESH] = {ACTION_STORAGE},
	[OP_POOL_DELETE] = {ACTION_STORAGE, OPTIONS({"zeroed", "b"})},
	[OP_POOL_UNDEFINE] = {ACTION_STORAGE},
	[OP_POOL_SET_AUTOSTART] = {ACTION_STORAGE},
	[OP_POOL_CREATE_VOLUME] = {ACTION_STORAGE,
		OPTIONS({"prealloc-metadata", "b"}, {"reflink", "b"}, {"validate", "b"})},
	[OP_POOL_CLONE_VOLUME] = {ACTION_STORAGE,
		OPTIONS({"pool", "o"}, {"xml", "s"}, {"prealloc-metadata", "b"}, {"reflink", "b"})},
	[OP_POOL_RESIZE_VOLUME] = {ACTION_STORAGE, OPTIONS({"allocate", "b"}, {"shrink", "b"})},
	[OP_POOL_WIPE_VOLUME] = {ACTION_STORAGE, OPTIONS({"algorithm", "s", .words = WIPE_ALGORITHMS})},
	[OP_POOL_DELETE_VOLUME] = {ACTION_STORAGE, OPTIONS({"zeroed", "b"}, {"with-snapshots", "b"})},
	[OP_POOL_UPLOAD_VOLUME] = {ACTION_STORAGE, transfer_options},
	[OP_POOL_DOWNLOAD_VOLUME] = {ACTION_STORAGE, transfer_options},

	[OP_NETWORK_START] = {ACTION_CONTROL},
	[OP_NETWORK_STOP] = {ACTION_CONTROL},
	[OP_NETWORK_UNDEFINE] = {ACTION_MANAGE},
	[OP_NETWORK_SET_AUTOSTART] = {ACTION_MANAGE},
};
static_assert(ELEMENTS(change_specs) == OP_MAX, "an entry for each operation");
