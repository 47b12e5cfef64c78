/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "words.h"

#include <libvirt/libvirt.h>
#include <string.h>

/* The tables are in the order of libvirt's numbers, which never change. */

static const struct lv_words state_reasons[] = {
	[VIR_DOMAIN_NOSTATE] = LV_WORDS("unknown"),
	[VIR_DOMAIN_RUNNING] = LV_WORDS("unknown", "booted", "migrated", "restored", "from snapshot", "unpaused",
					"migration canceled", "save canceled", "event wakeup", "crashed", "post-copy",
					"post-copy failed"),
	[VIR_DOMAIN_BLOCKED] = LV_WORDS("unknown"),
	[VIR_DOMAIN_PAUSED] = LV_WORDS("unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog",
				       "from snapshot", "shutting down", "creating snapshot", "crashed", "starting up",
				       "post-copy", "post-copy failed"),
	[VIR_DOMAIN_SHUTDOWN] = LV_WORDS("unknown", "user"),
	[VIR_DOMAIN_SHUTOFF] = LV_WORDS("unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed",
					"from snapshot", "daemon"),
	[VIR_DOMAIN_CRASHED] = LV_WORDS("unknown", "panicked"),
	[VIR_DOMAIN_PMSUSPENDED] = LV_WORDS("unknown"),
};

const char *lv_word(const struct lv_words *words, int value)
{
	return value >= 0 && (size_t)value < words->n && words->words[value] ? words->words[value] : "unknown";
}

const char *lv_state_reason(int state, int reason)
{
	if (state < 0 || (size_t)state >= ELEMENTS(state_reasons))
		return "unknown";
	return lv_word(&state_reasons[state], reason);
}

int lv_compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static const struct lv_lifecycle domain_lifecycle[] = {
	[VIR_DOMAIN_EVENT_DEFINED] = {CAUSE_DEFINED, NULL, LV_WORDS("added", "updated", "renamed", "from-snapshot")},
	[VIR_DOMAIN_EVENT_UNDEFINED] = {CAUSE_UNDEFINED, NULL, LV_WORDS("removed", "renamed")},
	[VIR_DOMAIN_EVENT_STARTED] = {CAUSE_STARTED, NULL,
				      LV_WORDS("booted", "migrated", "restored", "from-snapshot", "wakeup")},
	[VIR_DOMAIN_EVENT_SUSPENDED] = {CAUSE_SUSPENDED, NULL,
					LV_WORDS("paused", "migrated", "ioerror", "watchdog", "restored", "from-snapshot",
						 "api-error", "postcopy", "postcopy-failed")},
	[VIR_DOMAIN_EVENT_RESUMED] = {CAUSE_RESUMED, NULL,
				      LV_WORDS("unpaused", "migrated", "from-snapshot", "postcopy", "postcopy-failed")},
	[VIR_DOMAIN_EVENT_STOPPED] = {CAUSE_STOPPED, NULL,
				      LV_WORDS("shutdown", "destroyed", "crashed", "migrated", "saved", "failed",
					       "from-snapshot", "recreated")},
	[VIR_DOMAIN_EVENT_SHUTDOWN] = {CAUSE_SHUTDOWN, NULL, LV_WORDS("finished", "guest", "host")},
	[VIR_DOMAIN_EVENT_PMSUSPENDED] = {CAUSE_PMSUSPENDED, NULL, LV_WORDS("memory", "disk")},
	[VIR_DOMAIN_EVENT_CRASHED] = {CAUSE_CRASHED, NULL, LV_WORDS("panicked", "crashloaded")},
};

/* Pools and networks have no details: the words are what the contract says there. */
static const struct lv_lifecycle pool_lifecycle[] = {
	[VIR_STORAGE_POOL_EVENT_DEFINED] = {CAUSE_DEFINED},
	[VIR_STORAGE_POOL_EVENT_UNDEFINED] = {CAUSE_UNDEFINED},
	[VIR_STORAGE_POOL_EVENT_STARTED] = {CAUSE_STARTED},
	[VIR_STORAGE_POOL_EVENT_STOPPED] = {CAUSE_STOPPED},
	[VIR_STORAGE_POOL_EVENT_CREATED] = {CAUSE_OTHER, "Built"},
	[VIR_STORAGE_POOL_EVENT_DELETED] = {CAUSE_OTHER, "Deleted"},
};

static const struct lv_lifecycle network_lifecycle[] = {
	[VIR_NETWORK_EVENT_DEFINED] = {CAUSE_DEFINED},
	[VIR_NETWORK_EVENT_UNDEFINED] = {CAUSE_UNDEFINED},
	[VIR_NETWORK_EVENT_STARTED] = {CAUSE_STARTED},
	[VIR_NETWORK_EVENT_STOPPED] = {CAUSE_STOPPED},
};

const struct lv_lifecycle *lv_lifecycle(enum kind kind, int event)
{
	static const struct lv_lifecycle unknown = {CAUSE_NONE};

	if (event < 0)
		return &unknown;
	if (kind == KIND_DOMAIN && (size_t)event < ELEMENTS(domain_lifecycle))
		return &domain_lifecycle[event];
	if (kind == KIND_POOL && (size_t)event < ELEMENTS(pool_lifecycle))
		return &pool_lifecycle[event];
	if (kind == KIND_NETWORK && (size_t)event < ELEMENTS(network_lifecycle))
		return &network_lifecycle[event];
	return &unknown;
}

const struct lv_words lv_watchdog_actions = LV_WORDS("none", "pause", "reset", "poweroff", "shutdown", "debug", "injectnmi");
const struct lv_words lv_io_error_actions = LV_WORDS("none", "pause", "report");
const struct lv_words lv_graphics_phases = LV_WORDS("connect", "initialize", "disconnect");
const struct lv_words lv_block_job_types = LV_WORDS("unknown", "pull", "copy", "commit", "active-commit", "backup");
const struct lv_words lv_block_job_statuses = LV_WORDS("completed", "failed", "canceled", "ready");
const struct lv_words lv_disk_change_reasons = LV_WORDS("change-missing-on-start", "drop-missing-on-start");
const struct lv_words lv_tray_change_reasons = LV_WORDS("open", "close");
const struct lv_words lv_agent_states = LV_WORDS("unknown", "connected", "disconnected");
const struct lv_words lv_agent_reasons = LV_WORDS("unknown", "domain-started", "channel");
const struct lv_words lv_metadata_types = LV_WORDS("description", "title", "element");
const struct lv_words lv_memory_failure_recipients = LV_WORDS("hypervisor", "guest");
const struct lv_words lv_memory_failure_actions = LV_WORDS("ignore", "inject", "fatal", "reset");
/* As Job.Operation calls them where it has them. */
const struct lv_words lv_job_operations = LV_WORDS("unknown", "start", "save", "restore", "migrate-in", "migrate", "snapshot",
						   "snapshot-revert", "dump", "backup", "snapshot-delete");
const struct lv_words lv_pool_states = LV_WORDS("inactive", "building", "running", "degraded", "inaccessible");
const struct lv_words lv_volume_types = LV_WORDS("file", "block", "dir", "network", "netdir", "ploop");
