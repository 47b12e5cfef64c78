/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "script.h"

/* ---- storm: anything, at random -------------------------------------------------------------------------------- */

static bool may_choose(const struct sim_storm *storm, const struct sim_verb *v, enum kind kind)
{
	if (v->kind != kind)
		return false;
	if (!storm->verbs)
		return v->storm;
	for (size_t i = 0; i < json_object_array_length(storm->verbs); i++)
		if (strcmp(json_object_get_string(json_object_array_get_idx(storm->verbs, i)), v->word) == 0)
			return true;
	return false;
}

static const struct sim_verb *choose_verb(struct sim_storm *storm, enum kind kind)
{
	const struct sim_verb *tables[] = {sim_domain_verbs, sim_other_verbs}, *chosen = NULL;
	uint64_t n = 0;

	for (size_t i = 0; i < ELEMENTS(tables); i++)
		for (const struct sim_verb *v = tables[i]; v->word; v++)
			/* each one that may be chosen with the same probability, in one pass */
			if (may_choose(storm, v, kind) && sim_random(&storm->random) % ++n == 0)
				chosen = v;
	return chosen;
}

/* Objects come, go and change their names. */
static void churn(struct sim_world *w, struct sim_storm *storm)
{
	uint64_t choice = sim_random(&storm->random) % 4;
	struct sim_object *o = sim_object_pick(&w->truth, KIND_DOMAIN, &storm->random);
	struct sim_config *config;
	uint64_t id[2] = {sim_random(&storm->random), sim_random(&storm->random)};
	_cleanup_(freep) char *name = sim_printf("storm-%llx", (unsigned long long)id[0]);
	sd_id128_t uuid;

	memcpy(&uuid, id, sizeof(uuid));
	switch (choice) {
	case 0:
	case 1:
		/* a storm with the seed of the world draws the very UUIDs that are there */
		if (sim_object_named(&w->truth, KIND_DOMAIN, name) || sim_object_find(&w->truth, KIND_DOMAIN, uuid))
			break;
		config = sim_config_new(KIND_DOMAIN);
		if (choice == 0)
			sim_act_add(w, KIND_DOMAIN, uuid, name, config, true);
		else {
			/* a transient one */
			sim_domain_begin(w, sim_object_add(&w->truth, KIND_DOMAIN, uuid, name), config, id[1] & 1);
			sim_config_unref(config);
		}
		break;
	case 2:
		if (o && o->persistent)
			sim_act(w, sim_undefine, o, &(struct sim_args){.flag = true}, NULL);
		break;
	default:
		if (o && o->persistent && !o->active)
			sim_act(w, sim_rename, o, &(struct sim_args){.text = name}, NULL);
	}
}

static void storm_action(struct sim_world *w, struct sim_storm *storm)
{
	if (sim_chance(&storm->random, storm->churn)) {
		churn(w, storm);
		return;
	}
	/* what doesn't fit the state is no action: try others */
	for (int tries = 0; tries < 20; tries++) {
		uint64_t choice = sim_random(&storm->random) % 10;
		enum kind kind = choice == 0 ? KIND_POOL : choice == 1 ? KIND_NETWORK : KIND_DOMAIN;
		struct sim_object *o = sim_object_pick(&w->truth, kind, &storm->random);
		const struct sim_verb *v = o ? choose_verb(storm, kind) : NULL;
		uint64_t bits = sim_random(&storm->random);
		static const char *const thens[] = {"destroy", "preserve", "restart", "load"};
		struct sim_args a = {
			.flag = bits & 1,
			.paused = (bits & 6) == 6,
			.force = (bits & 24) == 24,
			.text = v && strcmp(v->word, "crash") == 0 ? thens[bits >> 8 & 3] : NULL,
		};

		if (v && sim_act(w, v->act, o, &a, NULL) == 0)
			return;
	}
}

/* ---- flood: one after the other, as many events as there can be --------------------------------------------------- */

static void flood_action(struct sim_world *w, struct sim_storm *storm)
{
	struct sim_object *o = sim_object_find(&w->truth, KIND_DOMAIN, storm->cursor);
	const struct sim_verb *v;

	o = o && o->next ? o->next : w->truth.first[KIND_DOMAIN];
	if (!o)
		return;
	storm->cursor = o->uuid;
	v = sim_verb_find(KIND_DOMAIN, !o->active			 ? "start"
				       : o->state == DOMAIN_RUNNING	 ? "suspend"
				       : o->state == DOMAIN_PMSUSPENDED ? "pmwakeup"
				       : o->state == DOMAIN_PAUSED	 ? "resume"
									 : "destroy");
	sim_act(w, v->act, o, NULL, NULL);
}

/* ---- both ------------------------------------------------------------------------------------------------------ */

uint64_t sim_storm_run(struct sim_world *w, struct sim_script *s)
{
	struct sim_storm *storm = &s->storm;
	uint64_t now;

	if (!storm->endless && storm->remaining == 0) {
		s->storming = false;
		return 0;
	}
	if (storm->interval > 0) {
		now = sim_now();
		if (storm->next > now)
			return storm->next;
		storm->next += storm->interval;
		/* a pause (the backlog was full) is not made up for */
		if (storm->next + USEC_PER_SEC < now)
			storm->next = now;
	}
	if (!storm->endless)
		storm->remaining--;
	if (storm->flood)
		flood_action(w, storm);
	else
		storm_action(w, storm);
	return 0;
}
