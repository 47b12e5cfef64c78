/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "job.h"

/* Save, restore and dump: a domain as a whole, to a file and back. */

static int check_path(const char *path, struct failure *f)
{
	if (!path || path[0] != '/')
		return failure_set(f, VIREO_INVALID_ARGS, "'%s' is not an absolute path on the host of the hypervisor.",
				   path ? path : "");
	return 0;
}

/* Another description of the same domain, for a file. */
static int read_description(struct sim_job *j, const char *xml, sd_id128_t uuid, const char *name, struct failure *f)
{
	_cleanup_(freep) char *its_name = NULL;
	sd_id128_t its_uuid = {};
	int r = sim_config_parse(KIND_DOMAIN, xml, &j->config, &its_name, &its_uuid, f);

	if (r != 0)
		return r;
	if (!sd_id128_equal(uuid, its_uuid) || strcmp(its_name, name) != 0)
		return failure_set(f, VIREO_INVALID_XML, "The description is that of another domain: '%s'.", its_name);
	return 0;
}

void sim_emit_job_completed(struct sim_world *w, const struct sim_object *o, const struct sim_job *j)
{
	_cleanup_(vdict_freep) struct vdict *details = sim_must(vdict_new());

	vdict_set_s(details, "operation", operation_table[j->request->operation].name);
	vdict_set_b(details, "success", true);
	vdict_set_t(details, "time-elapsed", sim_now() - j->started);
	vdict_set_t(details, "bytes-total", j->total);
	vdict_set_t(details, "bytes-done", j->total);
	sim_emit_event(w, o, "JobCompleted", NULL, details);
}

/* ---- standing still meanwhile -------------------------------------------------------------------------------- */

static int need_active(const struct sim_object *o, struct failure *f)
{
	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	return o->starting ? sim_refuse_state(o, "is still starting up", f) : 0;
}

static void stand_still(struct sim_world *w, struct sim_job *j, struct sim_object *o, const char *reason)
{
	j->total = o->live->memory;
	if (o->state == DOMAIN_PMSUSPENDED) {
		/* woken up for that */
		sim_object_set_state(o, DOMAIN_RUNNING, "event wakeup");
		sim_emit(w, o, CAUSE_STARTED, "wakeup");
		return;
	}
	if (o->state != DOMAIN_RUNNING && o->state != DOMAIN_BLOCKED)
		return;
	j->was_running = true;
	sim_object_set_state(o, DOMAIN_PAUSED, reason);
	sim_emit(w, o, CAUSE_SUSPENDED, "paused");
}

static void go_on(struct sim_world *w, struct sim_job *j, struct sim_object *o, const char *reason)
{
	/* somebody else may have let it run, or it may have crashed */
	if (!o || !j->was_running || o->state != DOMAIN_PAUSED)
		return;
	sim_object_set_state(o, DOMAIN_RUNNING, reason);
	sim_emit(w, o, CAUSE_RESUMED, "unpaused");
}

static void undo_save(struct sim_world *w, struct sim_job *j, struct sim_object *o)
{
	go_on(w, j, o, "save canceled");
}

/* As libvirt: it has stopped the domain before it makes the file. */
static int make_file(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	if (!sim_file_missing(&w->truth, j->request->text))
		return 0;
	undo_save(w, j, o);
	return failure_set(f, VIREO_OPERATION_FAILED, "%s: it cannot be made: No such file or directory", j->request->text);
}

/* Is it to be left paused when it is restored? As it was, unless the options say so. */
static bool left_paused(const struct sim_job *j, bool was_paused)
{
	if (vdict_b(j->request->options, "paused", false))
		return true;
	return was_paused && !vdict_b(j->request->options, "running", false);
}

/* ---- save ---------------------------------------------------------------------------------------------------- */

static int begin_save(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	const char *xml = sim_job_option(j, "xml");
	int r = need_active(o, f);

	if (r == 0)
		r = check_path(j->request->text, f);
	if (r == 0 && xml)
		r = read_description(j, xml, o->uuid, o->name, f);
	if (r != 0)
		return r;
	stand_still(w, j, o, "saving");
	return make_file(w, j, o, f);
}

static int end_save(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	bool paused = o->state == DOMAIN_PAUSED && !j->was_running;

	sim_image_write(&w->truth, j->request->text, o, j->config ? j->config : o->live, left_paused(j, paused));
	sim_emit_job_completed(w, o, j);
	sim_domain_end(w, o, "saved", "saved");
	return 0;
}

const struct sim_course sim_save_course = {
	.begin = begin_save,
	.end = end_save,
	.undo = undo_save,
	.cancellable = true,
	.visible = true,
	.of_run = true,
	.writes = true,
};

static int begin_managed_save(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	int r = need_active(o, f);

	if (r != 0)
		return r;
	if (!o->persistent)
		return sim_refuse_state(o, "is transient, and has no place for a managed save", f);
	stand_still(w, j, o, "saving");
	return 0;
}

static int end_managed_save(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	if (!o->persistent)
		return sim_refuse_state(o, "was undefined meanwhile", f);
	o->managed_paused = left_paused(j, o->state == DOMAIN_PAUSED && !j->was_running);
	o->managed_save = true;
	sim_emit_job_completed(w, o, j);
	sim_domain_end(w, o, "saved", "saved");
	return 0;
}

const struct sim_course sim_managed_save_course = {
	.begin = begin_managed_save,
	.end = end_managed_save,
	.undo = undo_save,
	.cancellable = true,
	.visible = true,
	.of_run = true,
	.writes = true,
};

/* ---- restore ------------------------------------------------------------------------------------------------- */

/* Is there anything against its coming back? */
static int check_restore(struct sim_world *w, const struct sim_image *i, struct failure *f)
{
	struct sim_object *o = sim_object_find(&w->truth, KIND_DOMAIN, i->uuid);
	struct sim_object *named = sim_object_named(&w->truth, KIND_DOMAIN, i->name);

	if (o && o->active)
		return sim_refuse_state(o, "is active already", f);
	if (named && named != o)
		return failure_set(f, VIREO_ALREADY_EXISTS, "There is another domain '%s'.", i->name);
	return 0;
}

static int find_image(struct sim_world *w, const struct sim_job *j, struct sim_image **ret, struct failure *f)
{
	const char *path = j->request->text;
	struct sim_image *i;

	if (!path || path[0] != '/')
		return failure_set(f, VIREO_INVALID_ARGS, "'%s' is not an absolute path on the host of the hypervisor.",
				   path ? path : "");
	i = sim_image_find(&w->truth, path);
	if (!i)
		return failure_set(f, VIREO_NOT_FOUND, "%s: it cannot be restored: No such file or directory", path);
	*ret = i;
	return check_restore(w, i, f);
}

static int begin_restore(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	const char *xml = sim_job_option(j, "xml");
	struct sim_image *i = NULL;
	int r = find_image(w, j, &i, f);

	if (r == 0 && xml)
		r = read_description(j, xml, i->uuid, i->name, f);
	if (r == 0)
		j->total = i->config->memory;
	return r;
}

/* A run that goes on where another one had stopped. */
void sim_domain_continue(struct sim_world *w, struct sim_object *o, struct sim_config *config, bool paused)
{
	o->active = true;
	o->id = ++w->truth.last_id;
	o->live = sim_config_ref(config);
	sim_object_set_state(o, DOMAIN_PAUSED, "from snapshot");
	sim_emit(w, o, CAUSE_STARTED, "restored");
	if (paused) {
		sim_emit(w, o, CAUSE_SUSPENDED, "restored");
		return;
	}
	sim_object_set_state(o, DOMAIN_RUNNING, "from snapshot");
	sim_emit(w, o, CAUSE_RESUMED, "from-snapshot");
}

static int end_restore(struct sim_world *w, struct sim_job *j, struct sim_object *nothing, struct failure *f)
{
	struct result *result = &j->report->result;
	struct sim_image *i = NULL;
	struct sim_object *o;
	int r = find_image(w, j, &i, f);

	if (r != 0)
		return r;
	o = sim_object_find(&w->truth, KIND_DOMAIN, i->uuid);
	if (!o)
		o = sim_object_add(&w->truth, KIND_DOMAIN, i->uuid, i->name);
	sim_domain_continue(w, o, j->config ? j->config : i->config, left_paused(j, i->paused));
	result->uuid = o->uuid;
	result->kind = KIND_DOMAIN;
	return 0;
}

const struct sim_course sim_restore_course = {
	.begin = begin_restore,
	.end = end_restore,
};

/* ---- dump ---------------------------------------------------------------------------------------------------- */

static int begin_dump(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	const char *format = sim_job_option(j, "format");
	bool memory_only = vdict_b(j->request->options, "memory-only", false);
	int r = need_active(o, f);

	if (r == 0)
		r = check_path(j->request->text, f);
	if (r != 0)
		return r;
	if (format && strcmp(format, "raw") != 0 && !memory_only)
		return failure_set(f, VIREO_INVALID_ARGS, "The format %s is only possible together with memory-only.", format);
	/* QEMU has no way to end it */
	if (memory_only)
		j->cancellable = false;
	if (sim_file_missing(&w->truth, j->request->text))
		return failure_set(f, VIREO_OPERATION_FAILED, "%s: it cannot be made: No such file or directory", j->request->text);
	/* even with `live`: at its end it writes what has changed meanwhile, and needs it to stand still */
	stand_still(w, j, o, "dumping");
	return 0;
}

static int end_dump(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	sim_emit_job_completed(w, o, j);
	if (vdict_b(j->request->options, "crash", false)) {
		sim_domain_end(w, o, "crashed", "crashed");
		return 0;
	}
	if (vdict_b(j->request->options, "reset", false))
		sim_emit_event(w, o, "Rebooted", NULL, NULL);
	go_on(w, j, o, "unpaused");
	return 0;
}

static void undo_dump(struct sim_world *w, struct sim_job *j, struct sim_object *o)
{
	go_on(w, j, o, "unpaused");
}

const struct sim_course sim_dump_course = {
	.begin = begin_dump,
	.end = end_dump,
	.undo = undo_dump,
	.cancellable = true,
	.visible = true,
	.of_run = true,
	.writes = true,
};
