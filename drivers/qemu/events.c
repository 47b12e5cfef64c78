/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "jobs.h"

/*
 * What QEMU's events mean. The ones that move a guest become causes; those that libvirt knows under another name become
 * that; all others are MonitorEvent, so that nothing QEMU says is lost.
 */

/* ---- states ------------------------------------------------------------------------------------------------- */

static const struct {
	const char *status;
	enum domain_state state;
	const char *word; /* of `virsh domstate --reason`; NULL: how it came to run */
} states[] = {
	{"running", DOMAIN_RUNNING, NULL},
	{"colo", DOMAIN_RUNNING, NULL},
	{"paused", DOMAIN_PAUSED, "user"},
	{"prelaunch", DOMAIN_PAUSED, "user"},
	{"debug", DOMAIN_PAUSED, "unknown"},
	{"inmigrate", DOMAIN_PAUSED, "migrating"},
	{"finish-migrate", DOMAIN_PAUSED, "migrating"},
	{"postmigrate", DOMAIN_PAUSED, "migrating"},
	{"restore-vm", DOMAIN_PAUSED, "from snapshot"},
	{"save-vm", DOMAIN_PAUSED, "saving"},
	{"io-error", DOMAIN_PAUSED, "I/O error"},
	{"watchdog", DOMAIN_PAUSED, "watchdog"},
	{"internal-error", DOMAIN_PAUSED, "unknown"},
	{"suspended", DOMAIN_PMSUSPENDED, "unknown"},
	{"shutdown", DOMAIN_SHUTDOWN, "user"},
	{"guest-panicked", DOMAIN_CRASHED, "panicked"},
};

enum domain_state guest_state(const char *status, const char *running_word, const char **ret_word)
{
	for (size_t i = 0; i < ELEMENTS(states); i++)
		if (strcmp(states[i].status, status) == 0) {
			*ret_word = states[i].word ? states[i].word : running_word;
			return states[i].state;
		}
	*ret_word = "unknown";
	return DOMAIN_NOSTATE;
}

/* ---- what there is, for the tables of the drivers ----------------------------------------------------------- */

const unsigned guest_causes = 1u << CAUSE_STARTED | 1u << CAUSE_SUSPENDED | 1u << CAUSE_RESUMED | 1u << CAUSE_PMSUSPENDED |
			      1u << CAUSE_CRASHED | 1u << CAUSE_SHUTDOWN | 1u << CAUSE_STOPPED;

/* clang-format off */
#define OF_GUESTS \
	{KIND_DOMAIN, "Rebooted", "", "RESET"}, \
	{KIND_DOMAIN, "RTCChanged", "offset:x", "RTC_CHANGE"}, \
	{KIND_DOMAIN, "Watchdog", "", "WATCHDOG"}, \
	{KIND_DOMAIN, "IOError", "alias:s action:s", "BLOCK_IO_ERROR"}, \
	{KIND_DOMAIN, "Graphics", "auth-scheme:s", "VNC_CONNECTED VNC_INITIALIZED VNC_DISCONNECTED SPICE_…"}, \
	{KIND_DOMAIN, "ControlError", "", "a query without an answer"}, \
	{KIND_DOMAIN, "BlockJob", "disk:s type:s", "BLOCK_JOB_COMPLETED BLOCK_JOB_CANCELLED BLOCK_JOB_READY"}, \
	{KIND_DOMAIN, "TrayChanged", "alias:s", "DEVICE_TRAY_MOVED"}, \
	{KIND_DOMAIN, "BalloonChanged", "memory:t", "BALLOON_CHANGE"}, \
	{KIND_DOMAIN, "DeviceRemoved", "alias:s", "DEVICE_DELETED"}, \
	{KIND_DOMAIN, "DeviceRemovalFailed", "alias:s", "DEVICE_UNPLUG_GUEST_ERROR MEM_UNPLUG_ERROR"}, \
	{KIND_DOMAIN, "MigrationIteration", "iteration:i", "MIGRATION_PASS"}, \
	{KIND_DOMAIN, "BlockThreshold", "device:s threshold:t excess:t", "BLOCK_WRITE_THRESHOLD"}, \
	{KIND_DOMAIN, "MemoryFailure", "recipient:s action-required:b recursive:b", "MEMORY_FAILURE"}, \
	{KIND_DOMAIN, "MemoryDeviceSizeChanged", "alias:s size:t", "MEMORY_DEVICE_SIZE_CHANGE"}, \
	{KIND_DOMAIN, "MonitorEvent", "name:s data:s", "every other"},
/* clang-format on */

const struct event_def guest_events[] = {OF_GUESTS {0}};

const struct event_def run_events[] = {
	OF_GUESTS
	{KIND_POOL, "Refreshed", "", "inotify"},
	{KIND_POOL, "Built", "", "mkdir"},
	{KIND_POOL, "Deleted", "", "rmdir"},
	{0},
};

/* ---- translation -------------------------------------------------------------------------------------------- */

/* Reasons are static: what is not among the known words becomes the last. */
static const char *word_of(const char *s, const char *const *words)
{
	for (; *words; words++)
		if (s && strcmp(s, *words) == 0)
			return *words;
	return "";
}

static void other(struct guest *g, const char *event, const char *reason, struct vdict *d)
{
	guest_cause(g, CAUSE_OTHER, reason, event, d, false);
}

static void take_stop(struct guest *g, struct json_object *data, const char *arg)
{
	const char *reason = g->stop_reason;
	bool absorbed = g->stop_absorbed;

	g->stop_reason = NULL;
	g->stop_absorbed = false;
	/* What stopped it has been told: Crashed, Shutdown. */
	if (!absorbed)
		guest_cause(g, CAUSE_SUSPENDED, reason, NULL, NULL, true);
}

static void take_resume(struct guest *g, struct json_object *data, const char *arg)
{
	bool migrated = strcmp(g->status, "inmigrate") == 0;

	g->stop_reason = NULL;
	g->stop_absorbed = false;
	if (g->rebooting) {
		g->rebooting = false;
		if (g->ops->rebooting)
			g->ops->rebooting(g, false);
		return;
	}
	/* What runs for the first time is being started, whatever the event is called. */
	if (g->announced)
		g->running_word = migrated ? "migrated" : "unpaused";
	guest_cause(g, CAUSE_RESUMED, migrated ? "migrated" : "unpaused", NULL, NULL, true);
}

static void take_shutdown(struct guest *g, struct json_object *data, const char *arg)
{
	const char *reason = json_s(data, "reason");
	bool guest = json_b(data, "guest");

	/* Where QEMU was told to stay (-no-shutdown), a STOP follows. */
	g->stop_absorbed = true;
	if (g->reboot_asked && guest && reason && strcmp(reason, "guest-shutdown") == 0) {
		g->reboot_asked = false;
		(void)qmp_execute(g->qmp, "set-action",
			json_strings("shutdown", g->shutdown_action ? g->shutdown_action : "poweroff", NULL), USEC_UNKNOWN, NULL, NULL);
		guest_reboot_now(g);
	}
	if (g->rebooting)
		return;
	if (reason && strcmp(reason, "guest-panic") == 0) {
		/* Crashed has been told, and says more. */
		g->end_reason = "crashed";
		return;
	}
	/* A job that ends with QEMU's end has said what it is. */
	if (strcmp(g->end_reason, "saved") == 0 || strcmp(g->end_reason, "crashed") == 0)
		return;
	if (strcmp(g->end_reason, "migrated") != 0)
		g->end_reason = guest ? "shutdown" : "destroyed";
	guest_cause(g, CAUSE_SHUTDOWN, guest ? "guest" : "host", NULL, NULL, true);
}

void guest_reboot_now(struct guest *g)
{
	/* Until it runs again nothing but the Rebooted is told, as of a guest that restarts by itself. */
	g->rebooting = true;
	if (g->ops->rebooting)
		g->ops->rebooting(g, true);
	(void)qmp_execute(g->qmp, "system_reset", NULL, USEC_UNKNOWN, NULL, NULL);
	(void)qmp_execute(g->qmp, "cont", NULL, USEC_UNKNOWN, NULL, NULL);
}

static void take_reset(struct guest *g, struct json_object *data, const char *arg)
{
	guest_cause(g, CAUSE_OTHER, "", "Rebooted", NULL, true);
}

static void take_suspend(struct guest *g, struct json_object *data, const char *arg)
{
	guest_cause(g, CAUSE_PMSUSPENDED, arg, NULL, NULL, true);
}

static void take_wakeup(struct guest *g, struct json_object *data, const char *arg)
{
	g->running_word = "event wakeup";
	guest_cause(g, CAUSE_RESUMED, "wakeup", NULL, NULL, true);
}

static void take_panic(struct guest *g, struct json_object *data, const char *arg)
{
	const char *action = json_s(data, "action");

	g->stop_absorbed = action && strcmp(action, "run") != 0;
	if (g->stop_absorbed)
		g->end_reason = "crashed";
	guest_cause(g, CAUSE_CRASHED, arg, NULL, NULL, true);
}

static void take_io_error(struct guest *g, struct json_object *data, const char *arg)
{
	const char *device = json_s(data, "device"), *node = json_s(data, "node-name"), *action = json_s(data, "action");
	struct vdict *d = vdict_new();

	if (d) {
		/* -blockdev has nodes, -drive has devices. */
		(void)vdict_set_s(d, "alias", device && *device ? device : node);
		(void)vdict_set_s(d, "action",
			action && strcmp(action, "stop") == 0	  ? "pause"
			: action && strcmp(action, "report") == 0 ? "report"
								  : "none");
	}
	if (action && strcmp(action, "stop") == 0)
		g->stop_reason = "ioerror";
	other(g, "IOError", json_b(data, "nospace") ? "enospc" : "", d);
}

static void take_watchdog(struct guest *g, struct json_object *data, const char *arg)
{
	static const char *const words[] = {"none", "pause", "reset", "poweroff", "shutdown", "debug", NULL};
	const char *action = json_s(data, "action");
	const char *word = action && strcmp(action, "inject-nmi") == 0 ? "injectnmi" : word_of(action, words);

	if (strcmp(word, "pause") == 0)
		g->stop_reason = "watchdog";
	other(g, "Watchdog", word, NULL);
}

static void take_tray(struct guest *g, struct json_object *data, const char *arg)
{
	const char *id = json_s(data, "id"), *device = json_s(data, "device");
	struct vdict *d = vdict_new();

	if (d)
		(void)vdict_set_s(d, "alias", id && *id ? id : device);
	guest_cause(g, CAUSE_OTHER, json_b(data, "tray-open") ? "open" : "close", "TrayChanged", d, true);
}

static void take_balloon(struct guest *g, struct json_object *data, const char *arg)
{
	struct vdict *d = vdict_new();

	if (d)
		(void)vdict_set_t(d, "memory", json_u(data, "actual", 0));
	guest_cause(g, CAUSE_OTHER, "", "BalloonChanged", d, true);
}

static void take_rtc(struct guest *g, struct json_object *data, const char *arg)
{
	struct vdict *d = vdict_new();

	if (d)
		(void)vdict_set_x(d, "offset", json_i(data, "offset", 0));
	other(g, "RTCChanged", "", d);
}

static void take_graphics(struct guest *g, struct json_object *data, const char *arg)
{
	const char *auth = json_s(json_member(data, "server"), "auth");
	struct vdict *d = vdict_new();

	if (d)
		(void)vdict_set_s(d, "auth-scheme", auth ? auth : "");
	other(g, "Graphics", arg, d);
}

/* @arg: name of the event, and how it ended */
static void take_device(struct guest *g, struct json_object *data, const char *arg)
{
	const char *id = json_s(data, "device");
	struct vdict *d = vdict_new();

	/* One that was made without a name is told by its path within QEMU. */
	if (d)
		(void)vdict_set_s(d, "alias", id ? id : json_s(data, "path"));
	guest_cause(g, CAUSE_OTHER, "", arg, d, true);
}

static void take_block_job(struct guest *g, struct json_object *data, const char *arg)
{
	static const struct {
		const char *qemu, *word;
	} types[] = {{"stream", "pull"}, {"mirror", "copy"}, {"commit", "commit"}, {"backup", "backup"}};
	const char *id = json_s(data, "device"), *type = json_s(data, "type"), *word = "unknown", *own_type = NULL;
	const char *disk = guest_job_disk(g, id, &own_type);
	struct vdict *d = vdict_new();

	for (size_t i = 0; i < ELEMENTS(types); i++)
		if (type && strcmp(type, types[i].qemu) == 0)
			word = types[i].word;
	if (json_s(data, "error"))
		arg = "failed";
	if (d) {
		(void)vdict_set_s(d, "disk", disk ? disk : id);
		(void)vdict_set_s(d, "type", own_type ? own_type : word);
	}
	guest_cause(g, CAUSE_OTHER, arg, "BlockJob", d, true);
}

static void take_pass(struct guest *g, struct json_object *data, const char *arg)
{
	struct vdict *d = vdict_new();

	if (d)
		(void)vdict_set_i(d, "iteration", (int32_t)json_i(data, "pass", 0));
	other(g, "MigrationIteration", "", d);
}

static void take_threshold(struct guest *g, struct json_object *data, const char *arg)
{
	struct vdict *d = vdict_new();

	if (d) {
		(void)vdict_set_s(d, "device", json_s(data, "node-name"));
		(void)vdict_set_t(d, "threshold", json_u(data, "write-threshold", 0));
		(void)vdict_set_t(d, "excess", json_u(data, "amount-exceeded", 0));
	}
	other(g, "BlockThreshold", "", d);
}

static void take_memory_failure(struct guest *g, struct json_object *data, const char *arg)
{
	static const char *const words[] = {"ignore", "inject", "fatal", "reset", NULL};
	struct json_object *flags = json_member(data, "flags");
	struct vdict *d = vdict_new();

	if (d) {
		(void)vdict_set_s(d, "recipient", json_s(data, "recipient"));
		(void)vdict_set_b(d, "action-required", json_b(flags, "action-required"));
		(void)vdict_set_b(d, "recursive", json_b(flags, "recursive"));
	}
	other(g, "MemoryFailure", word_of(json_s(data, "action"), words), d);
}

static void take_memory_size(struct guest *g, struct json_object *data, const char *arg)
{
	struct vdict *d = vdict_new();

	if (d) {
		(void)vdict_set_s(d, "alias", json_s(data, "id"));
		(void)vdict_set_t(d, "size", json_u(data, "size", 0));
	}
	guest_cause(g, CAUSE_OTHER, "", "MemoryDeviceSizeChanged", d, true);
}

static const struct {
	const char *name;
	void (*take)(struct guest *g, struct json_object *data, const char *arg);
	const char *arg;
} table[] = {
	{"STOP", take_stop, NULL},
	{"RESUME", take_resume, NULL},
	{"SHUTDOWN", take_shutdown, NULL},
	{"RESET", take_reset, NULL},
	{"SUSPEND", take_suspend, "memory"},
	{"SUSPEND_DISK", take_suspend, "disk"},
	{"WAKEUP", take_wakeup, NULL},
	{"GUEST_PANICKED", take_panic, "panicked"},
	{"GUEST_CRASHLOADED", take_panic, "crashloaded"},
	{"BLOCK_IO_ERROR", take_io_error, NULL},
	{"WATCHDOG", take_watchdog, NULL},
	{"DEVICE_TRAY_MOVED", take_tray, NULL},
	{"BALLOON_CHANGE", take_balloon, NULL},
	{"RTC_CHANGE", take_rtc, NULL},
	{"VNC_CONNECTED", take_graphics, "connect"},
	{"VNC_INITIALIZED", take_graphics, "initialize"},
	{"VNC_DISCONNECTED", take_graphics, "disconnect"},
	{"SPICE_CONNECTED", take_graphics, "connect"},
	{"SPICE_INITIALIZED", take_graphics, "initialize"},
	{"SPICE_DISCONNECTED", take_graphics, "disconnect"},
	{"DEVICE_DELETED", take_device, "DeviceRemoved"},
	{"DEVICE_UNPLUG_GUEST_ERROR", take_device, "DeviceRemovalFailed"},
	{"MEM_UNPLUG_ERROR", take_device, "DeviceRemovalFailed"},
	{"BLOCK_JOB_COMPLETED", take_block_job, "completed"},
	{"BLOCK_JOB_CANCELLED", take_block_job, "canceled"},
	{"BLOCK_JOB_READY", take_block_job, "ready"},
	{"MIGRATION_PASS", take_pass, NULL},
	{"BLOCK_WRITE_THRESHOLD", take_threshold, NULL},
	{"MEMORY_FAILURE", take_memory_failure, NULL},
	{"MEMORY_DEVICE_SIZE_CHANGE", take_memory_size, NULL},
};

/*
 * The names QEMU has, with dashes: reasons are static, and an event that this list does not have is told as "other",
 * with its own name among the details.
 */
static const char *const plain[] = {
	"powerdown", "pr-manager-status-changed", "block-image-corrupted", "block-job-error", "block-job-pending",
	"quorum-failure", "quorum-report-bad", "job-status-change", "block-export-deleted", "vserport-change",
	"dump-completed", "nic-rx-filter-changed", "failover-negotiated", "netdev-stream-connected",
	"netdev-stream-disconnected", "rdma-gid-status-changed", "spice-migrate-completed", "migration", "colo-exit",
	"unplug-primary", "vfu-client-hangup", "acpi-device-ost", NULL,
};

static void take_plain(struct guest *g, const char *name, struct json_object *data)
{
	char word[64];
	size_t i;
	struct vdict *d = vdict_new();
	const char *known;

	for (i = 0; name[i] && i < sizeof(word) - 1; i++)
		word[i] = name[i] == '_' ? '-' : name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
	word[i] = 0;
	known = word_of(word, plain);
	if (d) {
		(void)vdict_set_s(d, "name", name);
		(void)vdict_set_s(d, "data", data ? json_object_to_json_string_ext(data, JSON_C_TO_STRING_PLAIN) : "{}");
	}
	other(g, "MonitorEvent", *known ? known : "other", d);
}

void guest_take_event(struct guest *g, const char *name, struct json_object *data)
{
	for (size_t i = 0; i < ELEMENTS(table); i++)
		if (strcmp(table[i].name, name) == 0) {
			table[i].take(g, data, table[i].arg);
			return;
		}
	take_plain(g, name, data);
}

/* ---- names for HELLO ---------------------------------------------------------------------------------------- */

struct names {
	char **list;
	size_t n;
	bool failed;
};

static void add_name(struct names *l, const char *interface, const char *member)
{
	char **list = reallocarray(l->list, l->n + 2, sizeof(*list));

	if (!list) {
		l->failed = true;
		return;
	}
	l->list = list;
	if (asprintf(&list[l->n], "%s.%s", interface, member) < 0)
		l->failed = true;
	else
		l->n++;
	list[l->n] = NULL;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **names_done(struct names *l)
{
	if (!l->failed) {
		qsort(l->list, l->n, sizeof(*l->list), compare);
		return l->list;
	}
	for (size_t i = 0; i < l->n; i++)
		free(l->list[i]);
	free(l->list);
	return NULL;
}

static const char *const interfaces[] = {
	[KIND_CONNECTION] = "Connection", [KIND_DOMAIN] = "Domain", [KIND_POOL] = "StoragePool",
	[KIND_NETWORK] = "Network",	  [KIND_JOB] = "Job",
};
static_assert(ELEMENTS(interfaces) == KIND_MAX, "an interface for each kind");

char **guest_event_names(const struct event_def *events, const unsigned causes[KIND_MAX])
{
	struct names l = {0};

	for (unsigned k = 0; k < KIND_MAX; k++)
		for (unsigned c = CAUSE_NONE + 1; c < CAUSE_OTHER; c++)
			if (causes[k] & 1u << c)
				add_name(&l, interfaces[k], cause_to_string(c));
	for (; events->name; events++)
		add_name(&l, interfaces[events->kind], events->name);
	return names_done(&l);
}

char **guest_operation_names(const enum operation *operations)
{
	struct names l = {0};

	for (; *operations != OP_NONE; operations++)
		add_name(&l, operation_table[*operations].interface, operation_table[*operations].method);
	return names_done(&l);
}
