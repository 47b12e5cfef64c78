/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "job.h"
#include "json.h"
#include "migrate.h"
#include "step.h"
#include "sim-driver.h"

/*
 * The vocabulary of steps, doc/sim.md. Two tables: what happens to one object, and what happens to the world. A step is
 * checked against them before anything runs, and then run from its JSON.
 */

/* ---- of one object ---------------------------------------------------------------------------------------------- */

/* Every verb takes these besides its own. */
#define COMMON "!do=s domain=s pool=s network=s silent=b may-fail=b run=i"

static const struct {
	const char *word, *keys;
} object_keys[] = {
	{"start", "paused=b force=b"},
	{"destroy", "force=b"},
	{"crash", "then=s"},
	{"pmsuspend", "to=s"},
	{"resume", "still-failing=b"},
	{"undefine", "managed-save=b snapshots-metadata=b checkpoints-metadata=b nvram=b keep-nvram=b"},
	{"save", "file=s running=b paused=b"},
	{"managed-save", "running=b paused=b"},
	{"dump", "file=s memory-only=b crash=b reset=b"},
	{"attach", "!xml=s live=b config=b"},
	{"detach", "!xml=s live=b config=b"},
	{"update", "!xml=s live=b config=b"},
	{"unplug", "!alias=s"},
	{"overlay", "!disk=s !file=s"},
	{"rename", "to=s to-hex=x"},
	{"autostart", "!on=b"},
	{"set-memory", "!bytes=n live=b config=b maximum=b"},
	{"set-vcpus", "!count=n live=b config=b maximum=b"},
	{"retitle", "title=s title-hex=x"},
	{"refresh", "fail=b"},
	{"allocate", "!bytes=n"},
	{"migrate-out", "undefine=b"},
	{"event", "!name=s reason=s details=o"},
	{"report", "!cause=s reason=s"},
};

static const enum kind kinds[] = {KIND_DOMAIN, KIND_POOL, KIND_NETWORK};

static enum cause cause_from_string(const char *s)
{
	for (unsigned c = CAUSE_NONE + 1; c < CAUSE_OTHER; c++)
		if (strcmp(cause_to_string(c), s) == 0)
			return c;
	return CAUSE_NONE;
}

static bool is_event(enum kind kind, const char *name)
{
	for (const struct event_def *e = sim_driver.events; e->name; e++)
		if (e->kind == kind && strcmp(e->name, name) == 0)
			return true;
	return false;
}

/* Which kind a step speaks of: by its key. KIND_MAX: none, or several. */
static enum kind step_kind(struct json_object *step)
{
	enum kind found = KIND_MAX;

	for (size_t i = 0; i < ELEMENTS(kinds); i++)
		if (sim_json_get(step, kind_to_string(kinds[i]))) {
			if (found != KIND_MAX)
				return KIND_MAX;
			found = kinds[i];
		}
	return found;
}

static int one_of(struct json_object *step, const char *where, const char *key, const char *const *words,
		  struct failure *f)
{
	const char *s = sim_json_string(step, key, NULL);

	if (!s)
		return 0;
	for (const char *const *w = words; *w; w++)
		if (strcmp(*w, s) == 0)
			return 0;
	return failure_set(f, VIREO_INVALID_ARGS, "%s.%s is '%s'; expected one of: %s %s %s %s.", where, key, s, words[0],
			   words[1], words[2] ? words[2] : "", words[2] && words[3] ? words[3] : "");
}

static int check_object_step(struct json_object *step, const char *where, const char *word, struct failure *f)
{
	static const char *const thens[] = {"destroy", "preserve", "restart", "load", NULL};
	static const char *const tos[] = {"memory", "disk", NULL};
	_cleanup_(freep) char *spec = NULL;
	const char *own = "", *s;
	enum kind kind;
	int r;

	for (size_t i = 0; i < ELEMENTS(object_keys); i++)
		if (strcmp(object_keys[i].word, word) == 0)
			own = object_keys[i].keys;
	spec = sim_printf("%s%s%s", COMMON, *own ? " " : "", own);
	r = sim_json_check(step, where, spec, f);
	if (r != 0)
		return r;
	kind = step_kind(step);
	if (kind == KIND_MAX)
		return failure_set(f, VIREO_INVALID_ARGS, "%s names no object; expected one of the keys domain, pool, network.",
				   where);
	if (!sim_verb_find(kind, word))
		return failure_set(f, VIREO_INVALID_ARGS, "%s: no %s can do '%s'.", where, kind_to_string(kind), word);
	if (strcmp(word, "crash") == 0 && (r = one_of(step, where, "then", thens, f)) != 0)
		return r;
	if (strcmp(word, "pmsuspend") == 0 && (r = one_of(step, where, "to", tos, f)) != 0)
		return r;
	if (strcmp(word, "rename") == 0 && !sim_json_get(step, "to") && !sim_json_get(step, "to-hex"))
		return failure_set(f, VIREO_INVALID_ARGS, "%s lacks the key 'to' (or 'to-hex').", where);
	s = sim_json_string(step, "cause", NULL);
	if (s && cause_from_string(s) == CAUSE_NONE)
		return failure_set(f, VIREO_INVALID_ARGS, "%s.cause is '%s'; expected Started, Stopped or the like.", where, s);
	if (strcmp(word, "event") == 0 && !is_event(kind, sim_json_string(step, "name", "")))
		return failure_set(f, VIREO_INVALID_ARGS, "%s.name is '%s', which is no event of a %s.", where,
				   sim_json_string(step, "name", ""), kind_to_string(kind));
	return 0;
}

struct vdict *sim_step_details(struct json_object *j)
{
	struct vdict *d = sim_must(vdict_new());

	json_object_object_foreach(j, key, value)
	{
		switch (json_object_get_type(value)) {
		case json_type_boolean:
			vdict_set_b(d, key, json_object_get_boolean(value));
			break;
		case json_type_int:
			if (json_object_get_int64(value) < 0)
				vdict_set_x(d, key, json_object_get_int64(value));
			else
				vdict_set_t(d, key, json_object_get_uint64(value));
			break;
		case json_type_double:
			vdict_set_d(d, key, json_object_get_double(value));
			break;
		default:
			vdict_set_s(d, key, json_object_get_string(value));
		}
	}
	return d;
}

/* By UUID, by name, or "*": any. */
static int find_object(struct sim_world *w, enum kind kind, const char *ref, struct sim_object **ret, struct failure *f)
{
	struct sim_object *o;
	sd_id128_t uuid;

	if (strcmp(ref, "*") == 0)
		o = sim_object_pick(&w->truth, kind, &w->random);
	else {
		o = sim_object_named(&w->truth, kind, ref);
		if (!o && sd_id128_from_string(ref, &uuid) >= 0)
			o = sim_object_find(&w->truth, kind, uuid);
	}
	if (!o)
		return failure_set(f, VIREO_NOT_FOUND, "There is no %s '%s'.", kind_to_string(kind), ref);
	*ret = o;
	return 0;
}

int sim_step_object(struct sim_world *w, struct json_object *step, struct sim_object **ret, struct failure *f)
{
	enum kind kind = step_kind(step);

	return find_object(w, kind, sim_json_string(step, kind_to_string(kind), ""), ret, f);
}

static int run_object_step(struct sim_world *w, struct json_object *step, const char *word, struct failure *f)
{
	enum kind kind = step_kind(step);
	const struct sim_verb *verb = sim_verb_find(kind, word);
	_cleanup_(vdict_freep) struct vdict *details = NULL, *options = NULL;
	_cleanup_(freep) char *to = sim_json_bytes(step, "to"), *title = sim_json_bytes(step, "title");
	const char *xml = sim_json_string(step, "xml", NULL), *file = sim_json_string(step, "file", NULL);
	struct sim_args a = {};
	struct sim_object *o = NULL;
	int r;

	r = find_object(w, kind, sim_json_string(step, kind_to_string(kind), ""), &o, f);
	if (r != 0)
		return r;
	if (sim_json_get(step, "run") && o->id != json_object_get_int(sim_json_get(step, "run")))
		return failure_set(f, VIREO_INVALID_STATE, "It is another run.");
	a.paused = sim_json_bool(step, "paused", false);
	a.force = sim_json_bool(step, "force", false);
	a.on = sim_json_bool(step, "on", false);
	a.flag = sim_json_bool(step, "fail", false) || sim_json_bool(step, "undefine", false) ||
		 sim_json_bool(step, "still-failing", false);
	/* the words of the bus are the keys of the step */
	a.options = options = sim_step_details(step);
	a.number = sim_json_number(step, "bytes", sim_json_number(step, "count", 0));
	a.text = to ? to : title ? title : xml ? xml : file ? file : sim_json_string(step, "then", sim_json_string(step, "reason", NULL));
	a.event = sim_json_string(step, "name", NULL);
	a.cause = cause_from_string(sim_json_string(step, "cause", ""));
	if (sim_json_get(step, "details"))
		a.details = details = sim_step_details(sim_json_get(step, "details"));
	w->silent = sim_json_bool(step, "silent", false);
	r = sim_act(w, verb->act, o, &a, f);
	w->silent = false;
	return r;
}

/* ---- of the world ------------------------------------------------------------------------------------------------ */

struct world_step {
	const char *word, *keys;
	/* more than the keys; may be NULL */
	int (*check)(struct json_object *step, const char *where, struct failure *f);
	int (*run)(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		   struct failure *f);
};

static int check_new(struct json_object *step, const char *where, struct failure *f)
{
	enum kind kind = step_kind(step);
	_cleanup_(freep) char *there = NULL;

	if (kind == KIND_MAX)
		return failure_set(f, VIREO_INVALID_ARGS, "%s has no object; expected one of the keys domain, pool, network.",
				   where);
	there = sim_printf("%s.%s", where, kind_to_string(kind));
	return sim_scenario_check_object(kind, sim_json_get(step, kind_to_string(kind)), there, f);
}

static int run_add(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		   struct failure *f)
{
	enum kind kind = step_kind(step);

	return sim_scenario_object(w, kind, sim_json_get(step, kind_to_string(kind)), "step",
				   !sim_json_bool(step, "silent", false), f);
}

static int run_define_xml(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
			  struct failure *f)
{
	enum kind kind = kind_from_string(sim_json_string(step, "kind", ""));
	const char *xml = sim_json_string(step, "xml", "");
	_cleanup_(vdict_freep) struct vdict *options = sim_step_details(step);
	sd_id128_t uuid;
	int r;

	w->silent = sim_json_bool(step, "silent", false);
	r = sim_json_bool(step, "create", false) ? sim_act_create(w, kind, xml, options, &uuid, f)
						 : sim_act_define(w, kind, xml, &uuid, f);
	w->silent = false;
	return r;
}

static int check_xml(struct json_object *step, const char *where, struct failure *f)
{
	int kind = kind_from_string(sim_json_string(step, "kind", ""));

	if (kind != KIND_DOMAIN && kind != KIND_POOL && kind != KIND_NETWORK)
		return failure_set(f, VIREO_INVALID_ARGS, "%s.kind is '%s'; expected domain, pool or network.", where,
				   sim_json_string(step, "kind", ""));
	return 0;
}

static int run_wait(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		    struct failure *f)
{
	uint64_t us = sim_json_number(step, "ms", 0) * USEC_PER_MSEC + sim_json_number(step, "us", 0);

	if (us > 0)
		*ret_wait = sim_now() + us;
	return 0;
}

static int run_wait_idle(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
			 struct failure *f)
{
	if (!sim_sessions_idle(w))
		*ret_wait = USEC_UNKNOWN;
	return 0;
}

static int run_wait_connected(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
			      struct failure *f)
{
	if (sim_sessions_count(w) < sim_json_number(step, "count", 1))
		*ret_wait = USEC_UNKNOWN;
	return 0;
}

/* Until every guest that was asked for something has done it. */
static int run_wait_guests(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
			   struct failure *f)
{
	for (struct sim_script *i = w->scripts; i; i = i->next)
		if (i->guest)
			*ret_wait = USEC_UNKNOWN;
	return 0;
}

static int check_loop(struct json_object *step, const char *where, struct failure *f)
{
	_cleanup_(freep) char *there = sim_printf("%s.steps", where);

	return sim_steps_check(sim_json_get(step, "steps"), there, f);
}

static int run_loop(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		    struct failure *f)
{
	struct json_object *steps = sim_json_get(step, "steps");
	uint64_t count = sim_json_number(step, "count", 0);

	if (s->depth == SIM_DEPTH_MAX)
		return failure_set(f, VIREO_LIMITS_EXCEEDED, "Loops are nested more than %d deep.", SIM_DEPTH_MAX);
	if (json_object_array_length(steps) == 0)
		return 0;
	/* 0: for ever */
	s->frames[s->depth++] = (struct sim_frame){.steps = steps, .remaining = count - 1};
	return 0;
}

static int check_storm(struct json_object *step, const char *where, struct failure *f)
{
	struct json_object *verbs = sim_json_get(step, "verbs");

	for (size_t i = 0; verbs && i < json_object_array_length(verbs); i++) {
		const char *word = json_object_get_string(json_object_array_get_idx(verbs, i));

		if (!word || !(sim_verb_find(KIND_DOMAIN, word) || sim_verb_find(KIND_POOL, word)))
			return failure_set(f, VIREO_INVALID_ARGS, "%s.verbs[%zu] is '%s', which nothing can do.", where, i,
					   word ? word : "null");
	}
	return 0;
}

static int run_storm(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		     struct failure *f)
{
	uint64_t rate = sim_json_number(step, "rate", 0), seed = sim_json_number(step, "seed", 0);

	s->storming = true;
	s->storm = (struct sim_storm){
		.flood = strcmp(sim_json_string(step, "do", ""), "flood") == 0,
		.remaining = sim_json_number(step, "count", 0),
		.interval = rate > 0 ? USEC_PER_SEC / rate : 0,
		.next = sim_now(),
		/* a seed of 0 would stand still */
		.random = seed ? seed * UINT64_C(0x9E3779B97F4A7C15) | 1 : sim_random(&w->random) | 1,
		.churn = sim_json_double(step, "churn", 0),
		.verbs = sim_json_get(step, "verbs"),
	};
	s->storm.endless = s->storm.remaining == 0;
	return 0;
}

static int check_faults(struct json_object *step, const char *where, struct failure *f)
{
	struct sim_faults faults = {};

	return sim_scenario_check_faults(step, where, true, &faults, f);
}

static int run_faults(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		      struct failure *f)
{
	struct sim_faults faults = w->faults;
	int r;

	if (sim_json_bool(step, "reset", false))
		faults = (struct sim_faults){};
	r = sim_scenario_check_faults(step, "step", true, &faults, f);
	if (r != 0)
		return r;
	/* what hung for a fault that is no more goes on */
	if (w->faults.hang & ~faults.hang)
		sim_sessions_release(w);
	w->faults = faults;
	return 0;
}

static int run_release(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		       struct failure *f)
{
	w->faults.hang = 0;
	sim_sessions_release(w);
	return 0;
}

static int run_disconnect(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
			  struct failure *f)
{
	struct json_object *refuse = sim_json_get(step, "refuse");

	if (refuse)
		w->refuse = json_object_get_int64(refuse);
	sim_sessions_disconnect(w, sim_json_string(step, "error", "simulated: the connection was lost"));
	return 0;
}

static int run_refuse(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		      struct failure *f)
{
	w->refuse = json_object_get_int64(sim_json_get(step, "count"));
	return 0;
}

static int check_operations(struct json_object *step, const char *where, struct failure *f)
{
	return sim_scenario_rules(NULL, sim_json_get(step, "operations"), where, f);
}

static int run_operations(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
			  struct failure *f)
{
	return sim_scenario_rules(w, sim_json_get(step, "operations"), "step", f);
}

static int run_truth(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		     struct failure *f)
{
	json_object_put(s->answer);
	s->answer = sim_truth_to_json(&w->truth);
	return 0;
}

static int run_status(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		      struct failure *f)
{
	unsigned scripts = 0;

	for (struct sim_script *i = w->scripts; i; i = i->next)
		scripts++;
	json_object_put(s->answer);
	s->answer = json_object_new_object();
	json_object_object_add(s->answer, "connections", json_object_new_uint64(sim_sessions_count(w)));
	json_object_object_add(s->answer, "idle", json_object_new_boolean(sim_sessions_idle(w)));
	json_object_object_add(s->answer, "events", json_object_new_uint64(w->events));
	json_object_object_add(s->answer, "scripts", json_object_new_uint64(scripts));
	json_object_object_add(s->answer, "jobs", json_object_new_uint64(sim_jobs_count(w)));
	json_object_object_add(s->answer, "domains", json_object_new_uint64(w->truth.count[KIND_DOMAIN]));
	json_object_object_add(s->answer, "pools", json_object_new_uint64(w->truth.count[KIND_POOL]));
	json_object_object_add(s->answer, "networks", json_object_new_uint64(w->truth.count[KIND_NETWORK]));
	json_object_object_add(s->answer, "faults", sim_faults_to_json(&w->faults));
	return 0;
}

/* Ends all other scripts: a storm, an endless loop. A guest that is shutting down goes on doing so. */
static int run_stop(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		    struct failure *f)
{
	for (struct sim_script *i = w->scripts; i; i = i->next)
		if (i != s && !i->guest) {
			i->depth = 0;
			i->storming = false;
			i->due = USEC_UNKNOWN;
		}
	sim_world_poke(w);
	return 0;
}

static int run_background(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
			  struct failure *f)
{
	sim_script_add(w, sim_json_get(step, "steps"), NULL, NULL);
	return 0;
}

static const struct world_step world_steps[] = {
	{"add", "!do=s domain=o pool=o network=o silent=b may-fail=b", check_new, run_add},
	{"define", "!do=s !kind=s !xml=s create=b paused=b silent=b may-fail=b", check_xml, run_define_xml},
	{"wait", "!do=s ms=n us=n", NULL, run_wait},
	{"wait-idle", "!do=s", NULL, run_wait_idle},
	{"begin", "!do=s !domain=s !operation=s text=s text2=s options=o may-fail=b " SIM_RULE_KEYS, sim_check_begin, sim_run_begin},
	{"end", "!do=s !domain=s operation=s disk=s how=s may-fail=b", sim_check_end, sim_run_end},
	{"wait-jobs", "!do=s", NULL, sim_run_wait_jobs},
	{"missing", "!do=s !path=s found=b", NULL, sim_run_missing},
	{"migrate-in", "!do=s !phase=s !uuid=u xml=s persistent=b persistent-xml=s paused=b may-fail=b", sim_migrate_in_check,
	 sim_run_migrate_in},
	{"wait-guests", "!do=s", NULL, run_wait_guests},
	{"wait-connected", "!do=s count=n", NULL, run_wait_connected},
	{"loop", "!do=s !steps=a count=n", check_loop, run_loop},
	{"background", "!do=s !steps=a", check_loop, run_background},
	{"storm", "!do=s count=n rate=n seed=n churn=p verbs=a", check_storm, run_storm},
	{"flood", "!do=s count=n rate=n", NULL, run_storm},
	{"stop-scripts", "!do=s", NULL, run_stop},
	{"faults", NULL, check_faults, run_faults},
	{"release", "!do=s", NULL, run_release},
	{"disconnect", "!do=s refuse=i error=s", NULL, run_disconnect},
	{"refuse", "!do=s !count=i", NULL, run_refuse},
	{"operations", "!do=s !operations=o", check_operations, run_operations},
	{"truth", "!do=s", NULL, run_truth},
	{"status", "!do=s", NULL, run_status},
};

static const struct world_step *find_world_step(const char *word)
{
	for (size_t i = 0; i < ELEMENTS(world_steps); i++)
		if (strcmp(world_steps[i].word, word) == 0)
			return &world_steps[i];
	return NULL;
}

/* A word may be in both tables ("define" isn't, but who knows): the world's is looked at first. */
static int check_step(struct json_object *step, const char *where, struct failure *f)
{
	const struct world_step *t;
	const char *word;
	int r;

	if (!json_object_is_type(step, json_type_object))
		return failure_set(f, VIREO_INVALID_ARGS, "%s is %s; expected an object.", where,
				   json_object_to_json_string(step));
	if (!json_object_is_type(sim_json_get(step, "do"), json_type_string))
		return failure_set(f, VIREO_INVALID_ARGS, "%s lacks the key 'do', a string.", where);
	word = sim_json_string(step, "do", "");
	t = find_world_step(word);
	if (t) {
		r = t->keys ? sim_json_check(step, where, t->keys, f) : 0;
		if (r == 0 && t->check)
			r = t->check(step, where, f);
		return r;
	}
	for (size_t i = 0; i < ELEMENTS(kinds); i++)
		if (sim_verb_find(kinds[i], word))
			return check_object_step(step, where, word, f);
	return failure_set(f, VIREO_INVALID_ARGS, "%s.do is '%s', which is no step.", where, word);
}

int sim_steps_check(struct json_object *steps, const char *where, struct failure *f)
{
	if (!json_object_is_type(steps, json_type_array))
		return failure_set(f, VIREO_INVALID_ARGS, "%s is %s; expected an array.", where,
				   json_object_to_json_string(steps));
	for (size_t i = 0; i < json_object_array_length(steps); i++) {
		_cleanup_(freep) char *there = sim_printf("%s[%zu]", where, i);
		int r = check_step(json_object_array_get_idx(steps, i), there, f);

		if (r != 0)
			return r;
	}
	return 0;
}

int sim_step_run(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		 struct failure *f)
{
	const char *word = sim_json_string(step, "do", "");
	const struct world_step *t = find_world_step(word);

	return t ? t->run(w, s, step, ret_wait, f) : run_object_step(w, step, word, f);
}
