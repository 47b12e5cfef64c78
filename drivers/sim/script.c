/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "script.h"
#include "util/log.h"
#include "world.h"

/* Events that wait for delivery before the scripts wait for them. */
#define BACKLOG_MAX 1024
/* Steps of one script before the lock is given away for once. */
#define TURN 64

/* ---- scripts -------------------------------------------------------------------------------------------------- */

static struct sim_script *add(struct sim_world *w, struct json_object *steps, sim_script_done done, void *userdata)
{
	struct sim_script *s = sim_new(struct sim_script), **end = &w->scripts;

	s->root = json_object_get(steps);
	s->frames[0].steps = steps;
	s->depth = 1;
	s->done = done;
	s->userdata = userdata;
	while (*end)
		end = &(*end)->next;
	*end = s;
	sim_world_poke(w);
	return s;
}

void sim_script_add(struct sim_world *w, struct json_object *steps, sim_script_done done, void *userdata)
{
	add(w, steps, done, userdata);
}

static void script_free(struct sim_script *s)
{
	json_object_put(s->root);
	json_object_put(s->answer);
	free(s);
}

void sim_scripts_free(struct sim_world *w)
{
	struct failure f = {};

	failure_set(&f, VIREO_DISCONNECTED, "The simulated hypervisor has ended.");
	while (w->scripts) {
		struct sim_script *s = w->scripts;

		w->scripts = s->next;
		if (s->done)
			s->done(s->userdata, &f, NULL);
		script_free(s);
	}
	failure_clear(&f);
}

void sim_script_later(struct sim_world *w, const struct sim_object *o, const char *verb, const char *alias)
{
	struct json_object *steps = json_object_new_array(), *wait = json_object_new_object();
	struct json_object *act = json_object_new_object();
	char uuid[37];

	json_object_object_add(wait, "do", json_object_new_string("wait"));
	json_object_object_add(wait, "us", json_object_new_uint64(w->guest_delay));
	json_object_array_add(steps, wait);
	json_object_object_add(act, "do", json_object_new_string(verb));
	json_object_object_add(act, kind_to_string(o->kind),
			       json_object_new_string(sd_id128_to_uuid_string(o->uuid, uuid)));
	json_object_object_add(act, "run", json_object_new_int(o->id));
	if (alias)
		json_object_object_add(act, "alias", json_object_new_string(alias));
	json_object_object_add(act, "may-fail", json_object_new_boolean(true));
	if (w->silent)
		json_object_object_add(act, "silent", json_object_new_boolean(true));
	json_object_array_add(steps, act);
	add(w, steps, NULL, NULL)->guest = true;
	json_object_put(steps);
}

/* ---- running --------------------------------------------------------------------------------------------------- */

/* One step. Return: 0 or what failed; *@ret_wait: until when it waits, 0: not at all. */
static int run_step(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		    struct failure *f)
{
	bool may_fail = sim_json_bool(step, "may-fail", false);
	int r = sim_step_run(w, s, step, ret_wait, f);

	if (r != 0 && may_fail) {
		failure_clear(f);
		return 0;
	}
	return r;
}

/* Return: when it goes on; 0: it has ended (or failed, as @f says). */
static uint64_t run_script(struct sim_world *w, struct sim_script *s, struct failure *f)
{
	for (unsigned n = 0; s->depth > 0; n++) {
		struct sim_frame *frame = &s->frames[s->depth - 1];
		struct json_object *step;
		uint64_t wait = 0;

		if (n == TURN)
			return sim_now();
		if (sim_sessions_backlog(w) > BACKLOG_MAX)
			return USEC_UNKNOWN;
		if (s->storming) {
			wait = sim_storm_run(w, s);
			if (wait)
				return wait;
			continue;
		}
		if (frame->next == json_object_array_length(frame->steps)) {
			frame->next = 0;
			if (frame->remaining-- == 0)
				s->depth--;
			continue;
		}
		step = json_object_array_get_idx(frame->steps, frame->next);
		frame->next++;
		if (run_step(w, s, step, &wait, f) != 0)
			return 0;
		if (wait == USEC_UNKNOWN)
			/* a condition that does not hold yet: the same step again */
			frame->next--;
		if (wait)
			return wait;
	}
	return 0;
}

uint64_t sim_scripts_run(struct sim_world *w)
{
	uint64_t until = USEC_UNKNOWN;

	for (struct sim_script **p = &w->scripts; *p;) {
		struct sim_script *s = *p;
		struct failure f = {};

		/* one that waits for a condition looks at it whenever the world was poked */
		if (s->due == USEC_UNKNOWN || s->due <= sim_now())
			s->due = run_script(w, s, &f);
		if (s->due != 0) {
			if (s->due < until)
				until = s->due;
			p = &s->next;
			continue;
		}
		*p = s->next;
		if (f.error != VIREO_OK && !s->done)
			log_warning("The simulated hypervisor %s: a script ends: %s", w->key, f.message);
		if (s->done)
			s->done(s->userdata, &f, TAKE(s->answer));
		failure_clear(&f);
		if (s->guest)
			/* somebody may wait for that */
			sim_world_poke(w);
		script_free(s);
	}
	return until;
}
