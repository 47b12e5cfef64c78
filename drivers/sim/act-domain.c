/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "job.h"

/*
 * What can happen to a domain, and the reports that libvirt with QEMU makes of it, in its order. Without the quirks
 * (fault `quirks`: false) a start is one Started, and a destroy one Stopped.
 */

void sim_domain_begin(struct sim_world *w, struct sim_object *o, struct sim_config *config, bool paused)
{
	o->active = true;
	o->id = ++w->truth.last_id;
	o->live = sim_config_ref(config);
	if (paused) {
		sim_object_set_state(o, DOMAIN_PAUSED, "user");
		sim_emit(w, o, CAUSE_STARTED, "booted");
		if (!w->faults.no_quirks)
			sim_emit(w, o, CAUSE_SUSPENDED, "paused");
		return;
	}
	sim_object_set_state(o, DOMAIN_RUNNING, "booted");
	/* the early one: the CPUs run before the domain counts as started */
	if (!w->faults.no_quirks)
		sim_emit(w, o, CAUSE_RESUMED, "unpaused");
	sim_emit(w, o, CAUSE_STARTED, "booted");
}

void sim_domain_end(struct sim_world *w, struct sim_object *o, const char *event_reason, const char *state_reason)
{
	int run = o->id;

	o->active = false;
	o->starting = false;
	sim_object_set_state(o, DOMAIN_SHUTOFF, state_reason);
	if (!o->config)
		/* it is about to go; but its last report still tells what it was */
		o->config = sim_config_ref(o->live);
	sim_config_unref(TAKE(o->live));
	/* the report carries the ID of the run that it speaks of */
	o->id = run;
	sim_emit(w, o, CAUSE_STOPPED, event_reason);
	sim_jobs_stopped(w, o);
	o->id = -1;
	o->incoming = false;
	if (!o->persistent)
		sim_object_remove(&w->truth, o);
}

/* A run that never began ends: nobody is told. */
void sim_domain_give_up(struct sim_world *w, struct sim_object *o)
{
	o->active = o->starting = false;
	o->id = -1;
	sim_object_set_state(o, DOMAIN_SHUTOFF, "failed");
	if (!o->persistent) {
		/* undefined meanwhile */
		sim_object_remove(&w->truth, o);
		return;
	}
	sim_config_unref(TAKE(o->live));
}

/* What is still starting up can be stopped, and nothing else. */
static int need_active(const struct sim_object *o, struct failure *f)
{
	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	if (o->starting)
		return sim_refuse_state(o, "is still starting up", f);
	return 0;
}

static int need_running(const struct sim_object *o, struct failure *f)
{
	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	if (o->state != DOMAIN_RUNNING && o->state != DOMAIN_BLOCKED)
		return sim_refuse_state(o, "is not running", f);
	return 0;
}

/* ---- the guest ----------------------------------------------------------------------------------------------- */

/* How to ask it: by its buttons, which it has; it has no agent, and no paths into it. */
static int check_mode(const struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	const struct vdict_item *mode = vdict_get(a->options, "mode");

	for (char **word = mode && mode->type == 'a' ? mode->a : (char *[]){NULL}; *word; word++)
		if (strcmp(*word, "acpi") == 0)
			return 0;
	if (mode && mode->type == 'a' && mode->a[0])
		return failure_set(f, VIREO_NOT_SUPPORTED, "Domain '%s' cannot be asked by: %s.", o->name, mode->a[0]);
	return 0;
}

/* Asked to: it follows in a while. */
int sim_ask_shutdown(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_running(o, f);

	if (r == 0)
		r = check_mode(o, a, f);
	if (r == 0)
		sim_script_later(w, o, "poweroff", NULL);
	return r;
}

static int poweroff(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_running(o, f);

	if (r != 0)
		return r;
	sim_object_set_state(o, DOMAIN_SHUTDOWN, "user");
	sim_emit(w, o, CAUSE_SHUTDOWN, "guest");
	sim_script_later(w, o, "finish", NULL);
	return 0;
}

static int finish(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->active || o->state != DOMAIN_SHUTDOWN)
		return sim_refuse_state(o, "is not shutting down", f);
	sim_domain_end(w, o, "shutdown", "shutdown");
	return 0;
}

int sim_ask_reboot(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_running(o, f);

	if (r == 0)
		r = check_mode(o, a, f);
	if (r == 0)
		sim_emit_event(w, o, "Rebooted", NULL, NULL);
	return r;
}

int sim_reset(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_active(o, f);

	if (r != 0)
		return r;
	sim_emit_event(w, o, "Rebooted", NULL, NULL);
	return 0;
}

static int crash(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	const char *then = a->text ? a->text : "destroy";
	int r = need_running(o, f);

	if (r != 0)
		return r;
	if (strcmp(then, "load") == 0) {
		/* a crash kernel takes over: it never stands still */
		sim_emit(w, o, CAUSE_CRASHED, "crashloaded");
		return 0;
	}
	sim_object_set_state(o, DOMAIN_CRASHED, "panicked");
	sim_emit(w, o, CAUSE_CRASHED, "panicked");
	if (strcmp(then, "destroy") == 0) {
		sim_domain_end(w, o, "crashed", "crashed");
	} else if (strcmp(then, "restart") == 0) {
		sim_emit_event(w, o, "Rebooted", NULL, NULL);
		sim_object_set_state(o, DOMAIN_RUNNING, "unpaused");
		sim_emit(w, o, CAUSE_RESUMED, "unpaused");
		sim_emit_event(w, o, "Rebooted", NULL, NULL);
	}
	return 0;
}

static int pmsuspend(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_running(o, f);

	if (r != 0)
		return r;
	if (a->text && strcmp(a->text, "disk") == 0) {
		sim_object_set_state(o, DOMAIN_PMSUSPENDED, "unknown");
		sim_emit(w, o, CAUSE_PMSUSPENDED, "disk");
		sim_object_set_state(o, DOMAIN_SHUTDOWN, "user");
		sim_emit(w, o, CAUSE_SHUTDOWN, "guest");
		sim_domain_end(w, o, "shutdown", "shutdown");
		return 0;
	}
	sim_object_set_state(o, DOMAIN_PMSUSPENDED, "unknown");
	sim_emit(w, o, CAUSE_PMSUSPENDED, "memory");
	return 0;
}

int sim_pmwakeup(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->active || o->state != DOMAIN_PMSUSPENDED)
		return sim_refuse_state(o, "is not suspended by its guest", f);
	sim_object_set_state(o, DOMAIN_RUNNING, "event wakeup");
	sim_emit(w, o, CAUSE_STARTED, "wakeup");
	sim_emit_event(w, o, "Rebooted", NULL, NULL);
	return 0;
}

/* ---- the host ------------------------------------------------------------------------------------------------ */

int sim_suspend(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r;

	if (o->active && o->state == DOMAIN_PAUSED)
		return sim_refuse_state(o, "is paused already", f);
	r = need_running(o, f);
	if (r != 0)
		return r;
	sim_object_set_state(o, DOMAIN_PAUSED, "user");
	sim_emit(w, o, CAUSE_SUSPENDED, "paused");
	return 0;
}

int sim_resume(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->active || o->state != DOMAIN_PAUSED || o->starting)
		return sim_refuse_state(o, "is not paused", f);
	sim_object_set_state(o, DOMAIN_RUNNING, "unpaused");
	sim_emit(w, o, CAUSE_RESUMED, "unpaused");
	if (a->flag) {
		/* what it was paused for is still so */
		sim_object_set_state(o, DOMAIN_PAUSED, "I/O error");
		sim_emit(w, o, CAUSE_SUSPENDED, "ioerror");
	}
	return 0;
}

static int io_error(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	_cleanup_(vdict_freep) struct vdict *details = NULL;
	int r = need_running(o, f);

	if (r != 0)
		return r;
	details = sim_must(vdict_new());
	vdict_set_s(details, "alias", "virtio-disk0");
	vdict_set_s(details, "action", "pause");
	sim_emit_event(w, o, "IOError", "enospc", details);
	sim_object_set_state(o, DOMAIN_PAUSED, "I/O error");
	sim_emit(w, o, CAUSE_SUSPENDED, "ioerror");
	return 0;
}

/* Its process is killed: not a word before. */
static int kill_run(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	if (o->starting)
		sim_domain_give_up(w, o);
	else
		sim_domain_end(w, o, "failed", "failed");
	return 0;
}

/* Silent. */
int sim_managed_save_remove(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->managed_save)
		return sim_refuse_state(o, "has no managed save", f);
	o->managed_save = o->managed_paused = false;
	return 0;
}

/* What lasts, done by somebody at the host, takes no time when a step does it. */
static int at_once(struct sim_world *w, struct sim_object *o, enum operation operation, const struct sim_args *a, struct failure *f)
{
	struct request *q = sim_new(struct request);

	q->operation = operation;
	q->kind = o->kind;
	q->uuid = o->uuid;
	q->text = sim_strdup(a->text ? a->text : "/var/lib/sim/file");
	q->fd = -1;
	q->options = a->options ? sim_must(vdict_copy(a->options)) : NULL;
	return sim_job_start(w, NULL, q, &(struct sim_rule){}, f);
}

static int save(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	return at_once(w, o, OP_DOMAIN_SAVE, a, f);
}

static int managed_save(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	return at_once(w, o, OP_DOMAIN_MANAGED_SAVE, a, f);
}

static int dump(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	return at_once(w, o, OP_DOMAIN_DUMP, a, f);
}

/* Back to a snapshot of a running machine: the run ends and the next has begun before anybody is told. */
static int revert(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (o->starting)
		return sim_refuse_state(o, "is still starting up", f);
	if (o->active) {
		int run = o->id, next = ++w->truth.last_id;

		sim_jobs_stopped(w, o);
		o->id = run;
		sim_object_set_state(o, DOMAIN_PAUSED, "from snapshot");
		sim_emit(w, o, CAUSE_STOPPED, "from-snapshot");
		o->id = next;
	} else {
		if (!o->config)
			return sim_refuse_state(o, "is not persistent", f);
		o->active = true;
		o->id = ++w->truth.last_id;
		o->live = sim_config_ref(o->config);
		sim_object_set_state(o, DOMAIN_PAUSED, "from snapshot");
	}
	sim_emit(w, o, CAUSE_STARTED, "from-snapshot");
	sim_object_set_state(o, DOMAIN_RUNNING, "from snapshot");
	sim_emit(w, o, CAUSE_RESUMED, "from-snapshot");
	if (o->persistent)
		sim_emit(w, o, CAUSE_DEFINED, "from-snapshot");
	return 0;
}

/* flag: undefined here; no word about that. */
static int migrate_out(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_running(o, f);

	if (r != 0)
		return r;
	sim_object_set_state(o, DOMAIN_PAUSED, "migrating");
	sim_emit(w, o, CAUSE_SUSPENDED, "migrated");
	if (a->flag)
		o->persistent = false;
	sim_domain_end(w, o, "migrated", "migrated");
	return 0;
}

/* Begins, and fails before it has started: nobody is ever told. */
static int fail_start(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (o->active)
		return sim_refuse_state(o, "is active already", f);
	o->active = true;
	o->starting = true;
	o->id = ++w->truth.last_id;
	o->live = sim_config_ref(o->config);
	sim_object_set_state(o, DOMAIN_PAUSED, "starting up");
	sim_script_later(w, o, "give-up", NULL);
	return 0;
}

static int give_up(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->starting)
		return sim_refuse_state(o, "is not starting up", f);
	sim_domain_give_up(w, o);
	return 0;
}

/* ---- what it is ---------------------------------------------------------------------------------------------- */

int sim_rename(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	struct sim_config *config;

	if (!o->persistent)
		return sim_refuse_state(o, "is not persistent", f);
	if (o->active)
		return sim_refuse_state(o, "is active, and cannot be renamed", f);
	if (!a->text || !a->text[0])
		return failure_set(f, VIREO_INVALID_ARGS, "The new name is empty.");
	if (sim_object_named(&w->truth, o->kind, a->text))
		return failure_set(f, VIREO_ALREADY_EXISTS, "There is a domain '%s' already.", a->text);
	sim_emit(w, o, CAUSE_UNDEFINED, "renamed");
	config = sim_config_renamed(o->config, a->text);
	sim_config_unref(o->config);
	o->config = config;
	sim_object_rename(&w->truth, o, a->text);
	sim_emit(w, o, CAUSE_DEFINED, "renamed");
	return 0;
}

static struct sim_size size_of(const struct sim_config *c)
{
	return (struct sim_size){.max_memory = c->max_memory, .memory = c->memory, .vcpus = c->vcpus, .max_vcpus = c->max_vcpus};
}

static void resize(struct sim_config **which, const struct sim_size *size)
{
	struct sim_config *config = sim_config_resized(*which, size);

	sim_config_unref(*which);
	*which = config;
}

int sim_affects(struct sim_object *o, const struct sim_args *a, bool *ret_live, bool *ret_config, struct failure *f)
{
	*ret_live = vdict_b(a->options, "live", false);
	*ret_config = vdict_b(a->options, "config", false);
	if (!*ret_live && !*ret_config)
		*(o->active ? ret_live : ret_config) = true;
	if (*ret_live && !o->active)
		return sim_refuse_state(o, "is not active", f);
	if (*ret_config && !o->persistent)
		return sim_refuse_state(o, "is transient, and has no persistent description", f);
	return 0;
}

static int check_memory(const struct sim_object *o, const struct sim_config *c, uint64_t bytes, bool maximum, struct failure *f)
{
	if (bytes == 0 || bytes % 1024 != 0 || bytes > UINT64_C(1) << 60)
		return failure_set(f, VIREO_INVALID_ARGS,
				   "Memory is given in bytes, as a multiple of 1024 greater than 0; it was %llu.",
				   (unsigned long long)bytes);
	if (!maximum && bytes > c->max_memory)
		return failure_set(f, VIREO_INVALID_ARGS, "Domain '%s' cannot have more memory than %llu bytes.", o->name,
				   (unsigned long long)c->max_memory);
	return 0;
}

static void apply_memory(struct sim_size *size, uint64_t bytes, bool maximum)
{
	if (maximum)
		size->max_memory = bytes;
	if (!maximum || size->memory > bytes)
		size->memory = bytes;
}

static int check_vcpus(const struct sim_object *o, const struct sim_config *c, uint64_t n, bool maximum, struct failure *f)
{
	if (n < 1 || n > (maximum ? 4096 : c->max_vcpus))
		return failure_set(f, VIREO_INVALID_ARGS, "Domain '%s' cannot have %llu vCPUs, but 1 to %u.", o->name,
				   (unsigned long long)n, maximum ? 4096 : c->max_vcpus);
	return 0;
}

static void apply_vcpus(struct sim_size *size, uint64_t n, bool maximum)
{
	if (maximum)
		size->max_vcpus = (unsigned)n;
	if (!maximum || size->vcpus > n)
		size->vcpus = (unsigned)n;
}

/* Of the run, the configuration, or both; all is checked before anything is changed. */
static int set_size(struct sim_object *o, const struct sim_args *a,
		    int (*check)(const struct sim_object *o, const struct sim_config *c, uint64_t n, bool maximum, struct failure *f),
		    void (*apply)(struct sim_size *size, uint64_t n, bool maximum), bool *ret_live, struct failure *f)
{
	bool maximum = vdict_b(a->options, "maximum", false), live, config;
	int r = sim_affects(o, a, &live, &config, f);

	if (r != 0)
		return r;
	if (maximum && live)
		return sim_refuse_state(o, "is active, and the most that it can have is fixed", f);
	if ((live && (r = check(o, o->live, a->number, maximum, f)) != 0) ||
	    (config && (r = check(o, o->config, a->number, maximum, f)) != 0))
		return r;
	for (int i = 0; i < 2; i++) {
		struct sim_config **which = i == 0 ? &o->live : &o->config;
		struct sim_size size;

		if (!(i == 0 ? live : config))
			continue;
		size = size_of(*which);
		apply(&size, a->number, maximum);
		resize(which, &size);
	}
	*ret_live = live;
	return 0;
}

int sim_set_memory(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	_cleanup_(vdict_freep) struct vdict *details = NULL;
	bool live = false;
	int r = set_size(o, a, check_memory, apply_memory, &live, f);

	if (r != 0 || !live)
		return r;
	details = sim_must(vdict_new());
	vdict_set_t(details, "memory", a->number);
	sim_emit_event(w, o, "BalloonChanged", NULL, details);
	return 0;
}

/* Silent. */
int sim_set_vcpus(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	bool live;

	if (vdict_b(a->options, "guest", false))
		return failure_set(f, VIREO_NOT_SUPPORTED, "Domain '%s' has no agent.", o->name);
	return set_size(o, a, check_vcpus, apply_vcpus, &live, f);
}

/* Others take snapshots; nothing announces it. */
static int snapshot(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	o->snapshots++;
	return 0;
}

static int snapshot_delete(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (o->snapshots == 0)
		return sim_refuse_state(o, "has no snapshot", f);
	o->snapshots--;
	return 0;
}

static int retitle(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	struct sim_config **which = o->live ? &o->live : &o->config;
	struct sim_config *config = sim_config_copy(*which);

	free(config->title);
	config->title = sim_strdup(a->text ? a->text : "");
	sim_config_unref(*which);
	*which = config;
	sim_emit_event(w, o, "MetadataChanged", "title", NULL);
	return 0;
}

const struct sim_verb sim_domain_verbs[] = {
	{"start", KIND_DOMAIN, sim_start, true},
	{"destroy", KIND_DOMAIN, sim_destroy, true},
	{"shutdown", KIND_DOMAIN, sim_ask_shutdown, true},
	{"poweroff", KIND_DOMAIN, poweroff, true},
	{"finish", KIND_DOMAIN, finish, false},
	{"reboot", KIND_DOMAIN, sim_ask_reboot, true},
	{"reset", KIND_DOMAIN, sim_reset, true},
	{"crash", KIND_DOMAIN, crash, true},
	{"kill", KIND_DOMAIN, kill_run, true},
	{"suspend", KIND_DOMAIN, sim_suspend, true},
	{"resume", KIND_DOMAIN, sim_resume, true},
	{"pmsuspend", KIND_DOMAIN, pmsuspend, true},
	{"pmwakeup", KIND_DOMAIN, sim_pmwakeup, true},
	{"io-error", KIND_DOMAIN, io_error, true},
	{"save", KIND_DOMAIN, save, true},
	{"managed-save", KIND_DOMAIN, managed_save, true},
	{"managed-save-remove", KIND_DOMAIN, sim_managed_save_remove, true},
	{"dump", KIND_DOMAIN, dump, true},
	{"revert", KIND_DOMAIN, revert, true},
	{"snapshot", KIND_DOMAIN, snapshot, false},
	{"snapshot-delete", KIND_DOMAIN, snapshot_delete, false},
	{"attach", KIND_DOMAIN, sim_attach, false},
	{"detach", KIND_DOMAIN, sim_detach, false},
	{"update", KIND_DOMAIN, sim_update, false},
	{"unplug", KIND_DOMAIN, sim_unplug, false},
	{"overlay", KIND_DOMAIN, sim_overlay, false},
	{"migrate-out", KIND_DOMAIN, migrate_out, false},
	{"fail-start", KIND_DOMAIN, fail_start, true},
	{"give-up", KIND_DOMAIN, give_up, false},
	{"undefine", KIND_DOMAIN, sim_undefine, false},
	{"rename", KIND_DOMAIN, sim_rename, false},
	{"autostart", KIND_DOMAIN, sim_autostart, true},
	{"set-memory", KIND_DOMAIN, sim_set_memory, false},
	{"set-vcpus", KIND_DOMAIN, sim_set_vcpus, false},
	{"retitle", KIND_DOMAIN, retitle, false},
	{},
};
