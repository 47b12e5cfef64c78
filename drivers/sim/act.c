/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "world.h"

/* ---- reports ------------------------------------------------------------------------------------------------ */

static void emit(struct sim_world *w, const struct sim_object *o, const struct sim_event *what)
{
	struct sim_event e = *what;

	if (w->silent)
		return;
	e.kind = o->kind;
	e.uuid = o->uuid;
	e.name = o->name;
	if (o->kind == KIND_DOMAIN && e.run == 0)
		e.run = o->id;
	if (w->before && w->before_of == o) {
		e.has_before = true;
		e.before = w->before;
	}
	w->events++;
	sim_sessions_emit(w, &e);
}

void sim_emit(struct sim_world *w, const struct sim_object *o, enum cause cause, const char *reason)
{
	/* of pools and networks no detail is ever told */
	emit(w, o, &(struct sim_event){.cause = cause, .reason = o->kind == KIND_DOMAIN ? reason : NULL});
}

void sim_emit_event(struct sim_world *w, const struct sim_object *o, const char *event, const char *reason,
		    const struct vdict *details)
{
	emit(w, o, &(struct sim_event){.cause = CAUSE_OTHER, .event = event, .reason = reason, .details = details});
}

void sim_before(struct sim_world *w, const struct sim_object *o)
{
	if (w->faults.behind <= 0)
		return;
	seen_free(w->before);
	w->before = sim_object_look(o);
	w->before_of = o;
}

void sim_before_over(struct sim_world *w)
{
	seen_free(TAKE(w->before));
	w->before_of = NULL;
}

int sim_act(struct sim_world *w, sim_action act, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	static const struct sim_args none;
	int r;

	sim_before(w, o);
	r = act(w, o, a ? a : &none, f);
	sim_before_over(w);
	return r;
}

int sim_refuse_state(const struct sim_object *o, const char *what, struct failure *f)
{
	return failure_set(f, VIREO_INVALID_STATE, "%s '%s' %s.",
			   o->kind == KIND_DOMAIN ? "Domain"
			   : o->kind == KIND_POOL ? "Pool"
						  : "Network",
			   o->name, what);
}

/* ---- coming and going ---------------------------------------------------------------------------------------- */

struct sim_object *sim_act_add(struct sim_world *w, enum kind kind, sd_id128_t uuid, const char *name,
			       struct sim_config *config, bool persistent)
{
	struct sim_object *o = sim_object_add(&w->truth, kind, uuid, name);

	if (persistent) {
		o->persistent = true;
		o->config = config;
		emit(w, o,
		     &(struct sim_event){
			     .cause = CAUSE_DEFINED,
			     .reason = kind == KIND_DOMAIN ? "added" : NULL,
			     /* a look behind the event would not find it yet */
			     .has_before = w->faults.behind > 0,
		     });
	} else
		o->live = config;
	return o;
}

/* Is there anything against an object of this name and UUID? *@ret: the one that has the UUID, NULL: none. */
static int check_identity(struct sim_world *w, enum kind kind, const char *name, sd_id128_t uuid,
			  struct sim_object **ret, struct failure *f)
{
	struct sim_object *same = sim_object_find(&w->truth, kind, uuid);
	struct sim_object *named = sim_object_named(&w->truth, kind, name);
	char text[37];

	if (named && named != same)
		return failure_set(f, VIREO_ALREADY_EXISTS, "There is another %s '%s', with UUID %s.",
				   kind_to_string(kind), name, sd_id128_to_uuid_string(named->uuid, text));
	if (same && !named)
		return failure_set(f, VIREO_ALREADY_EXISTS, "The %s with UUID %s has another name: '%s'.",
				   kind_to_string(kind), sd_id128_to_uuid_string(uuid, text), same->name);
	*ret = same;
	return 0;
}

static void begin_other(struct sim_world *w, struct sim_object *o, struct sim_config *config)
{
	o->active = true;
	if (o->live != config)
		o->live = sim_config_ref(config);
	sim_emit(w, o, CAUSE_STARTED, NULL);
}

int sim_act_define(struct sim_world *w, enum kind kind, const char *xml, sd_id128_t *ret_uuid, struct failure *f)
{
	_cleanup_(freep) char *name = NULL;
	struct sim_config *config = NULL;
	struct sim_object *o = NULL;
	sd_id128_t uuid;
	int r;

	r = sim_config_parse(kind, xml, &config, &name, &uuid, f);
	if (r != 0)
		return r;
	r = check_identity(w, kind, name, uuid, &o, f);
	if (r != 0) {
		sim_config_unref(config);
		return r;
	}
	*ret_uuid = uuid;
	if (!o) {
		o = sim_act_add(w, kind, uuid, name, config, true);
		if (kind == KIND_POOL)
			o->capacity = UINT64_C(100) << 30;
		return 0;
	}
	sim_config_unref(o->config);
	o->config = config;
	o->persistent = true;
	/* also when it was transient, or undefined while it ran: libvirt says `updated` then */
	sim_emit(w, o, CAUSE_DEFINED, "updated");
	return 0;
}

int sim_act_create(struct sim_world *w, enum kind kind, const char *xml, const struct vdict *options, sd_id128_t *ret_uuid,
		   struct failure *f)
{
	_cleanup_(freep) char *name = NULL;
	struct sim_config *config = NULL;
	struct sim_object *o = NULL;
	sd_id128_t uuid;
	int r;

	r = sim_config_parse(kind, xml, &config, &name, &uuid, f);
	if (r != 0)
		return r;
	r = check_identity(w, kind, name, uuid, &o, f);
	if (r == 0 && o && o->active)
		r = sim_refuse_state(o, "is active already", f);
	if (r == 0 && vdict_b(options, "build", false) && config->path)
		sim_file_set_missing(&w->truth, config->path, false);
	if (r == 0 && w->truth.n_missing > 0 && sim_xml_missing(&w->truth, config->xml))
		r = failure_set(f, VIREO_OPERATION_FAILED, "%s: it cannot be opened: No such file or directory",
				sim_xml_missing(&w->truth, config->xml));
	if (r != 0) {
		sim_config_unref(config);
		return r;
	}
	*ret_uuid = uuid;
	if (!o) {
		o = sim_object_add(&w->truth, kind, uuid, name);
		if (kind == KIND_POOL)
			o->capacity = UINT64_C(100) << 30;
	}
	if (kind == KIND_DOMAIN)
		sim_domain_begin(w, o, config, vdict_b(options, "paused", false));
	else
		begin_other(w, o, config);
	sim_config_unref(config);
	return 0;
}

/* ---- of all kinds -------------------------------------------------------------------------------------------- */

/* Is a file there that it needs? */
static int check_files(struct sim_world *w, const struct sim_object *o, struct failure *f)
{
	_cleanup_(freep) char *xml = NULL;
	const char *missing;

	if (w->truth.n_missing == 0)
		return 0;
	xml = sim_object_xml(o, o->config ? o->config : o->live, false);
	missing = sim_xml_missing(&w->truth, xml);
	return missing ? failure_set(f, VIREO_OPERATION_FAILED, "%s: it cannot be opened: No such file or directory", missing)
		       : 0;
}

int sim_start(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	int r;

	if (o->active)
		return sim_refuse_state(o, "is active already", f);
	if (vdict_b(a->options, "build", false) && o->config->path)
		sim_file_set_missing(&w->truth, o->config->path, false);
	r = check_files(w, o, f);
	if (r != 0)
		return r;
	if (o->kind == KIND_DOMAIN && o->managed_save && !a->force) {
		/* continued, not booted */
		o->managed_save = false;
		sim_domain_continue(w, o, o->config, a->paused || o->managed_paused);
		return 0;
	}
	o->managed_save = false;
	if (o->kind == KIND_DOMAIN)
		sim_domain_begin(w, o, o->config, a->paused);
	else
		begin_other(w, o, o->config);
	return 0;
}

static void end_other(struct sim_world *w, struct sim_object *o)
{
	o->active = false;
	o->state_name[0] = '\0';
	if (!o->config)
		/* it is about to go; but its last report still tells what it was */
		o->config = sim_config_ref(o->live);
	sim_config_unref(TAKE(o->live));
	sim_emit(w, o, CAUSE_STOPPED, NULL);
	if (!o->persistent)
		sim_object_remove(&w->truth, o);
}

int sim_destroy(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	if (o->kind != KIND_DOMAIN) {
		end_other(w, o);
		return 0;
	}
	if (o->starting) {
		sim_domain_give_up(w, o);
		return 0;
	}
	/* force: killed, without a word before */
	if (!w->faults.no_quirks && !a->force) {
		sim_object_set_state(o, DOMAIN_SHUTOFF, "destroyed");
		sim_emit(w, o, CAUSE_SHUTDOWN, "host");
	}
	sim_domain_end(w, o, "destroyed", "destroyed");
	return 0;
}

/* A storm discards whatever there is. */
static bool discards(const struct sim_args *a, const char *what)
{
	return a->flag || vdict_b(a->options, what, false);
}

int sim_undefine(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->persistent)
		return sim_refuse_state(o, "is not persistent", f);
	if (o->kind == KIND_POOL && o->active)
		return sim_refuse_state(o, "is active, and an active pool cannot be undefined", f);
	if (o->managed_save && !discards(a, "managed-save"))
		return sim_refuse_state(o, "has a managed save, which the option 'managed-save' would discard", f);
	if (o->snapshots > 0 && !discards(a, "snapshots-metadata"))
		return sim_refuse_state(o, "has snapshots, which the option 'snapshots-metadata' would forget", f);
	if (o->checkpoints > 0 && !discards(a, "checkpoints-metadata"))
		return sim_refuse_state(o, "has checkpoints, which the option 'checkpoints-metadata' would forget", f);
	if (o->nvram && !discards(a, "nvram") && !discards(a, "keep-nvram"))
		return sim_refuse_state(o, "has firmware variables: one of the options 'nvram' and 'keep-nvram' has to say "
					   "what becomes of them", f);
	o->managed_save = o->managed_paused = false;
	o->snapshots = o->checkpoints = 0;
	o->persistent = false;
	o->autostart = false;
	if (o->live)
		sim_config_unref(TAKE(o->config));
	sim_emit(w, o, CAUSE_UNDEFINED, "removed");
	if (!o->active)
		sim_object_remove(&w->truth, o);
	return 0;
}

/* Silent: nothing announces it. */
int sim_autostart(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->persistent)
		return sim_refuse_state(o, "is not persistent", f);
	o->autostart = a->on;
	return 0;
}

/* An event that changes nothing. */
static int raise_event(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	sim_emit_event(w, o, a->event, a->text, a->details);
	return 0;
}

/* A report of what did not happen. */
static int raise_report(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	sim_emit(w, o, a->cause, a->text);
	return 0;
}

/* ---- pools --------------------------------------------------------------------------------------------------- */

int sim_refresh(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	if (a->flag) {
		/* it fails, and that stops the pool */
		end_other(w, o);
		return failure_set(f, VIREO_OPERATION_FAILED, "simulated: the pool could not be refreshed and was stopped.");
	}
	sim_emit_event(w, o, "Refreshed", NULL, NULL);
	return 0;
}

int sim_build(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (o->active)
		return sim_refuse_state(o, "is active", f);
	if (sim_object_config(o)->path)
		sim_file_set_missing(&w->truth, sim_object_config(o)->path, false);
	sim_emit_event(w, o, "Built", NULL, NULL);
	return 0;
}

int sim_delete(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	if (o->active)
		return sim_refuse_state(o, "is active", f);
	while (o->n_volumes > 0)
		sim_object_remove_volume(o, &o->volumes[0]);
	if (sim_object_config(o)->path)
		sim_file_set_missing(&w->truth, sim_object_config(o)->path, true);
	sim_emit_event(w, o, "Deleted", NULL, NULL);
	return 0;
}

/* Silent, as when files are written into it from outside. */
static int allocate(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	o->allocation = a->number;
	return 0;
}

const struct sim_verb sim_other_verbs[] = {
	{"start", KIND_POOL, sim_start, true},
	{"stop", KIND_POOL, sim_destroy, true},
	{"undefine", KIND_POOL, sim_undefine, false},
	{"autostart", KIND_POOL, sim_autostart, true},
	{"refresh", KIND_POOL, sim_refresh, true},
	{"build", KIND_POOL, sim_build, false},
	{"delete", KIND_POOL, sim_delete, false},
	{"allocate", KIND_POOL, allocate, false},
	{"event", KIND_POOL, raise_event, false},
	{"report", KIND_POOL, raise_report, false},
	{"start", KIND_NETWORK, sim_start, true},
	{"stop", KIND_NETWORK, sim_destroy, true},
	{"undefine", KIND_NETWORK, sim_undefine, false},
	{"autostart", KIND_NETWORK, sim_autostart, true},
	{"event", KIND_NETWORK, raise_event, false},
	{"report", KIND_NETWORK, raise_report, false},
	/* of domains too */
	{"event", KIND_DOMAIN, raise_event, false},
	{"report", KIND_DOMAIN, raise_report, false},
	{},
};

const struct sim_verb *sim_verb_find(enum kind kind, const char *word)
{
	for (const struct sim_verb *v = sim_domain_verbs; v->word; v++)
		if (v->kind == kind && strcmp(v->word, word) == 0)
			return v;
	for (const struct sim_verb *v = sim_other_verbs; v->word; v++)
		if (v->kind == kind && strcmp(v->word, word) == 0)
			return v;
	return NULL;
}
