/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "job.h"
#include "session-list.h"
#include "sim-driver.h"

/* What a session does when an entry of its outbox is due: a report is made, or several. Its thread, under the world's lock. */

/* Later than whatever a reordering may have put behind it. */
#define BEHIND_ALL 2000
/* A look that finds events still on their way is taken again, so often. */
#define TRIES_MAX 20

/* ---- reports ------------------------------------------------------------------------------------------------ */

static struct report *new_observation(enum kind kind, sd_id128_t uuid)
{
	struct report *r = sim_must(report_new(REPORT_OBSERVATION));

	r->observation.kind = kind;
	r->observation.uuid = uuid;
	return r;
}

/* Fills in the look; locked. */
static void look_now(struct sim_session *s, struct observation *o)
{
	struct sim_world *w = s->world;
	struct sim_object *object = sim_object_find(&w->truth, o->kind, o->uuid);

	if (!object) {
		o->look = LOOK_GONE;
	} else {
		o->look = LOOK_SEEN;
		o->seen = sim_object_look(object);
		if (w->faults.no_run && o->seen->id > 0)
			o->seen->id = 0;
	}
	o->settled = sim_outbox_pending(&s->outbox, o->kind, o->uuid, NULL) == 0;
}

static void fail_look(struct observation *o, const char *why)
{
	o->look = LOOK_FAILED;
	o->settled = false;
	o->error = sim_strdup(why);
}

static struct report *make_event(struct sim_session *s, struct sim_entry *e)
{
	struct sim_world *w = s->world;
	struct report *r = new_observation(e->kind, e->uuid);
	struct observation *o = &r->observation;

	o->name = TAKE(e->name);
	o->cause = e->cause;
	o->reason = TAKE(e->reason);
	o->event = TAKE(e->event);
	o->details = TAKE(e->details);
	o->run = w->faults.no_run ? 0 : e->run;
	if (sim_chance(&s->random, w->faults.look_none)) {
		o->look = LOOK_NONE;
	} else if (sim_chance(&s->random, w->faults.look_fail)) {
		fail_look(o, "simulated: the look failed");
	} else if (e->has_before) {
		/* from before it happened: the change itself is still to come, so it is settled in no sense */
		o->look = e->before ? LOOK_SEEN : LOOK_GONE;
		o->seen = TAKE(e->before);
	} else
		look_now(s, o);
	return r;
}

static char **copy_strings(const char *const *from, size_t n)
{
	char **to = sim_must(calloc(n + 1, sizeof(*to)));

	for (size_t i = 0; i < n; i++)
		to[i] = sim_strdup(from[i]);
	return to;
}

static void add_string(char ***strings, size_t *n, char *s)
{
	*strings = sim_must(reallocarray(*strings, *n + 2, sizeof(**strings)));
	(*strings)[(*n)++] = s;
	(*strings)[*n] = NULL;
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct report *make_hello(struct sim_session *s)
{
	struct sim_world *w = s->world;
	struct report *r = sim_must(report_new(REPORT_HELLO));
	struct hello *h = &r->hello;
	size_t n = 0;

	h->hostname = sim_strdup(w->hostname);
	h->version = sim_strdup(w->version);
	h->same_key = sim_printf("sim:%s", w->key);
	h->polled = w->faults.no_events;
	h->events = copy_strings(NULL, 0);
	if (!h->polled) {
		static const char *const interfaces[KIND_MAX] = {
			[KIND_DOMAIN] = "Domain",
			[KIND_POOL] = "StoragePool",
			[KIND_NETWORK] = "Network",
		};

		for (int k = KIND_DOMAIN; k <= KIND_NETWORK; k++)
			for (unsigned c = CAUSE_NONE + 1; c < CAUSE_OTHER; c++)
				if (sim_driver.causes[k] & (1u << c))
					add_string(&h->events, &n,
						   sim_printf("%s.%s", interfaces[k], cause_to_string(c)));
		for (const struct event_def *e = sim_driver.events; e->name; e++)
			add_string(&h->events, &n, sim_printf("%s.%s", interfaces[e->kind], e->name));
		qsort(h->events, n, sizeof(*h->events), compare_strings);
	}
	h->operations = copy_strings(NULL, 0);
	n = 0;
	for (enum operation op = OP_NONE + 1; op < OP_MAX; op++)
		if (sim_can(op) && !w->rules[op].missing)
			add_string(&h->operations, &n,
				   sim_printf("%s.%s", operation_table[op].interface, operation_table[op].method));
	qsort(h->operations, n, sizeof(*h->operations), compare_strings);
	return r;
}

/* ---- what is due ---------------------------------------------------------------------------------------------- */

void sim_session_again(struct sim_session *s, struct sim_entry *e, uint64_t due)
{
	e->due = due;
	e->key = s->outbox.seq + 1 + BEHIND_ALL;
	sim_outbox_push(&s->outbox, e);
}

/*
 * A settled look has to wait for the events of its object. Return: true when it does; @e is then back in the outbox.
 */
static bool wait_for_events(struct sim_session *s, struct sim_entry *e)
{
	uint64_t due;

	if (sim_outbox_pending(&s->outbox, e->kind, e->uuid, &due) == 0 || e->tries++ >= TRIES_MAX)
		return false;
	sim_session_again(s, e, due > e->due ? due : e->due);
	return true;
}

static void do_look(struct sim_session *s, struct sim_entry *e, struct sim_batch *b)
{
	struct report *r;

	if (wait_for_events(s, e))
		return;
	r = new_observation(e->kind, e->uuid);
	r->observation.listing = e->serial;
	if (sim_chance(&s->random, s->world->faults.look_fail))
		fail_look(&r->observation, "simulated: the look failed");
	else {
		look_now(s, &r->observation);
		if (!r->observation.settled) {
			seen_free(TAKE(r->observation.seen));
			fail_look(&r->observation, "reports about it keep coming");
		}
	}
	b->reports[b->n++] = r;
	sim_entry_free(e);
}

static void do_end(struct sim_session *s, struct sim_entry *e, struct sim_batch *b)
{
	if (!sd_id128_is_null(e->uuid)) {
		struct report *r;

		if (wait_for_events(s, e))
			return;
		r = new_observation(e->kind, e->uuid);
		look_now(s, &r->observation);
		b->reports[b->n++] = r;
	}
	b->reports[b->n++] = TAKE(e->report);
	sim_entry_free(e);
}

static void begin_listing(struct sim_session *s, struct sim_entry *e)
{
	struct sim_world *w = s->world;
	size_t n = 0;

	e->listing = true;
	for (int k = KIND_DOMAIN; k <= KIND_NETWORK; k++)
		n += w->truth.count[k];
	e->targets = sim_must(calloc(n + 1, sizeof(*e->targets)));
	e->partial = w->faults.list_partial > 0;
	for (int k = KIND_DOMAIN; k <= KIND_NETWORK; k++)
		for (struct sim_object *o = w->truth.first[k]; o; o = o->next) {
			if (sim_chance(&s->random, w->faults.list_partial) || sim_chance(&s->random, w->faults.list_omit))
				continue;
			e->targets[e->n_targets++] = (struct sim_target){.kind = k, .uuid = o->uuid};
		}
}

static void do_list(struct sim_session *s, struct sim_entry *e, struct sim_batch *b)
{
	struct sim_world *w = s->world;
	struct report *r;

	if (!e->listing && sim_chance(&s->random, w->faults.list_fail)) {
		r = sim_must(report_new(REPORT_LISTED));
		r->listed.serial = e->serial;
		r->listed.error = sim_strdup("simulated: the listing failed");
		b->reports[b->n++] = r;
		sim_entry_free(e);
		return;
	}
	if (!e->listing)
		begin_listing(s, e);
	for (; e->at < e->n_targets; e->at++) {
		struct sim_target *t = &e->targets[e->at];

		if (b->n >= SIM_BATCH) {
			/* the rest behind these, before anything else: it keeps its place */
			sim_outbox_push(&s->outbox, e);
			return;
		}
		r = new_observation(t->kind, t->uuid);
		r->observation.listing = e->serial;
		if (sim_chance(&s->random, w->faults.look_fail))
			fail_look(&r->observation, "simulated: the look failed");
		else
			look_now(s, &r->observation);
		if (r->observation.look == LOOK_GONE) {
			/* gone since the listing began: it is not in it */
			report_free(r);
			continue;
		}
		b->reports[b->n++] = r;
	}
	r = sim_must(report_new(REPORT_LISTED));
	r->listed.serial = e->serial;
	for (int k = KIND_DOMAIN; k <= KIND_NETWORK; k++)
		r->listed.complete[k] = !e->partial;
	if (e->partial)
		r->listed.error = sim_strdup("simulated: the listing is not whole");
	b->reports[b->n++] = r;
	sim_entry_free(e);
}

/* Begun: from here on it is the hypervisor's, and no longer this connection's. */
static void do_operation(struct sim_session *s, struct sim_entry *e)
{
	struct sim_world *w = s->world;
	struct request *q = TAKE(e->request);
	bool cancelled = e->cancelled;

	sim_entry_free(e);
	if (cancelled) {
		struct report *r = sim_must(report_new(REPORT_RESULT));

		r->result.token = q->token;
		failure_set(&r->result.failure, VIREO_CANCELLED, "The operation was cancelled before it began.");
		sim_session_end(s, q->kind, q->kind == KIND_CONNECTION ? SD_ID128_NULL : q->uuid, r);
		request_free(q);
		return;
	}
	sim_job_start(w, s, q, &w->rules[q->operation], NULL);
}

void sim_session_do(struct sim_session *s, struct sim_entry *e, struct sim_batch *b)
{
	switch (e->type) {
	case ENTRY_HELLO:
		s->greeted = true;
		b->reports[b->n++] = make_hello(s);
		sim_entry_free(e);
		sim_jobs_show(s->world, s);
		break;
	case ENTRY_GOODBYE:
		b->reports[b->n++] = TAKE(e->report);
		b->goodbye = true;
		sim_entry_free(e);
		break;
	case ENTRY_EVENT:
		b->reports[b->n++] = make_event(s, e);
		sim_entry_free(e);
		break;
	case ENTRY_LIST:
		do_list(s, e, b);
		break;
	case ENTRY_LOOK:
		do_look(s, e, b);
		break;
	case ENTRY_OPERATION:
		do_operation(s, e);
		break;
	case ENTRY_REPORT:
		b->reports[b->n++] = TAKE(e->report);
		sim_entry_free(e);
		break;
	case ENTRY_END:
		do_end(s, e, b);
		break;
	case ENTRY_CANCEL:
	case ENTRY_COMPLETE:
		/* notes, of the inbox only */
		sim_entry_free(e);
		break;
	}
}
