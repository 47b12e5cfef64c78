/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "world.h"

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
	o->id = -1;
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

/* Asked to: it follows in a while. */
static int shutdown(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_running(o, f);

	if (r == 0)
		sim_script_later(w, o, "poweroff");
	return r;
}

static int poweroff(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_running(o, f);

	if (r != 0)
		return r;
	sim_object_set_state(o, DOMAIN_SHUTDOWN, "user");
	sim_emit(w, o, CAUSE_SHUTDOWN, "guest");
	sim_script_later(w, o, "finish");
	return 0;
}

static int finish(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->active || o->state != DOMAIN_SHUTDOWN)
		return sim_refuse_state(o, "is not shutting down", f);
	sim_domain_end(w, o, "shutdown", "shutdown");
	return 0;
}

static int reboot(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_running(o, f);

	if (r == 0)
		sim_emit_event(w, o, "Rebooted", NULL, NULL);
	return r;
}

static int reset(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
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

static int pmwakeup(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->active || o->state != DOMAIN_PMSUSPENDED)
		return sim_refuse_state(o, "is not suspended by its guest", f);
	sim_object_set_state(o, DOMAIN_RUNNING, "event wakeup");
	sim_emit(w, o, CAUSE_STARTED, "wakeup");
	sim_emit_event(w, o, "Rebooted", NULL, NULL);
	return 0;
}

/* ---- the host ------------------------------------------------------------------------------------------------ */

static int suspend(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
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

static int resume(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
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

/* flag: a managed save */
static int save(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_active(o, f);

	if (r != 0)
		return r;
	if (a->flag && !o->persistent)
		return sim_refuse_state(o, "is transient, and has no place for a managed save", f);
	if (o->state == DOMAIN_RUNNING) {
		sim_object_set_state(o, DOMAIN_PAUSED, "saving");
		sim_emit(w, o, CAUSE_SUSPENDED, "paused");
	}
	if (a->flag)
		o->managed_save = true;
	sim_domain_end(w, o, "saved", "saved");
	return 0;
}

static int managed_save(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	return save(w, o, &(struct sim_args){.flag = true}, f);
}

/* Silent. */
static int managed_save_remove(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->managed_save)
		return sim_refuse_state(o, "has no managed save", f);
	o->managed_save = false;
	return 0;
}

static int dump(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r = need_active(o, f);

	if (r != 0)
		return r;
	if (o->state == DOMAIN_RUNNING) {
		sim_object_set_state(o, DOMAIN_PAUSED, "dumping");
		sim_emit(w, o, CAUSE_SUSPENDED, "paused");
		sim_object_set_state(o, DOMAIN_RUNNING, "unpaused");
		sim_emit(w, o, CAUSE_RESUMED, "unpaused");
	}
	return 0;
}

/* Back to a snapshot of a running machine: the run ends and the next has begun before anybody is told. */
static int revert(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (o->starting)
		return sim_refuse_state(o, "is still starting up", f);
	if (o->active) {
		int run = o->id, next = ++w->truth.last_id;

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
	sim_script_later(w, o, "give-up");
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

static void resize(struct sim_object *o, uint64_t memory, unsigned vcpus)
{
	struct sim_config **which = o->live ? &o->live : &o->config;
	struct sim_config *config = sim_config_resized(*which, memory, vcpus);

	sim_config_unref(*which);
	*which = config;
}

static int set_memory(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	const struct sim_config *config = sim_object_config(o);
	_cleanup_(vdict_freep) struct vdict *details = NULL;

	if (a->number < 1024 || a->number > UINT64_C(1) << 60)
		return failure_set(f, VIREO_INVALID_ARGS, "Memory of %llu bytes is none that a domain can have.",
				   (unsigned long long)a->number);
	if (o->active && a->number > config->max_memory)
		return failure_set(f, VIREO_INVALID_ARGS, "Domain '%s' cannot have more memory than %llu bytes.", o->name,
				   (unsigned long long)config->max_memory);
	resize(o, a->number, config->vcpus);
	if (o->active) {
		details = sim_must(vdict_new());
		vdict_set_t(details, "memory", a->number);
		sim_emit_event(w, o, "BalloonChanged", NULL, details);
	}
	return 0;
}

/* Silent. */
static int set_vcpus(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (a->number < 1 || a->number > 4096)
		return failure_set(f, VIREO_INVALID_ARGS, "%llu vCPUs are none that a domain can have; 1 to 4096.",
				   (unsigned long long)a->number);
	resize(o, sim_object_config(o)->memory, (unsigned)a->number);
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
	{"shutdown", KIND_DOMAIN, shutdown, true},
	{"poweroff", KIND_DOMAIN, poweroff, true},
	{"finish", KIND_DOMAIN, finish, false},
	{"reboot", KIND_DOMAIN, reboot, true},
	{"reset", KIND_DOMAIN, reset, true},
	{"crash", KIND_DOMAIN, crash, true},
	{"kill", KIND_DOMAIN, kill_run, true},
	{"suspend", KIND_DOMAIN, suspend, true},
	{"resume", KIND_DOMAIN, resume, true},
	{"pmsuspend", KIND_DOMAIN, pmsuspend, true},
	{"pmwakeup", KIND_DOMAIN, pmwakeup, true},
	{"io-error", KIND_DOMAIN, io_error, true},
	{"save", KIND_DOMAIN, save, true},
	{"managed-save", KIND_DOMAIN, managed_save, true},
	{"managed-save-remove", KIND_DOMAIN, managed_save_remove, true},
	{"dump", KIND_DOMAIN, dump, true},
	{"revert", KIND_DOMAIN, revert, true},
	{"migrate-out", KIND_DOMAIN, migrate_out, false},
	{"fail-start", KIND_DOMAIN, fail_start, true},
	{"give-up", KIND_DOMAIN, give_up, false},
	{"undefine", KIND_DOMAIN, sim_undefine, false},
	{"rename", KIND_DOMAIN, sim_rename, false},
	{"autostart", KIND_DOMAIN, sim_autostart, true},
	{"set-memory", KIND_DOMAIN, set_memory, false},
	{"set-vcpus", KIND_DOMAIN, set_vcpus, false},
	{"retitle", KIND_DOMAIN, retitle, false},
	{},
};
