/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "outbox.h"
#include "session-list.h"
#include "sim-driver.h"
#include "util/log.h"

/* Later than whatever a reordering may have put behind it. */
#define BEHIND_ALL 2000
/* A look that finds events still on their way is taken again, so often. */
#define TRIES_MAX 20
#define BATCH 64
/* Reordered events change places within such a span. */
#define REORDER_SPAN (5 * USEC_PER_MSEC)

static void session_poke(struct sim_session *s)
{
	pthread_mutex_lock(&s->lock);
	if (!s->poked) {
		s->poked = true;
		pthread_cond_signal(&s->wake);
	}
	pthread_mutex_unlock(&s->lock);
}

static uint64_t due_in(const struct sim_session *s, enum sim_hang what, uint64_t delay_ms)
{
	const struct sim_faults *f = &s->world->faults;

	if (f->hang & what)
		return f->hang_time ? sim_now() + f->hang_time * USEC_PER_MSEC : USEC_UNKNOWN;
	return sim_now() + delay_ms * USEC_PER_MSEC;
}

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
	for (const enum operation *op = sim_operations; *op != OP_NONE; op++)
		if (!w->rules[*op].missing)
			add_string(&h->operations, &n,
				   sim_printf("%s.%s", operation_table[*op].interface, operation_table[*op].method));
	qsort(h->operations, n, sizeof(*h->operations), compare_strings);
	return r;
}

/* ---- what is due ---------------------------------------------------------------------------------------------- */

/* A batch of reports, posted when the lock is free again. */
struct batch {
	struct report *reports[BATCH + 4];
	size_t n;
	bool goodbye;
};

static void again(struct sim_session *s, struct sim_entry *e, uint64_t due)
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
	again(s, e, due > e->due ? due : e->due);
	return true;
}

static void do_look(struct sim_session *s, struct sim_entry *e, struct batch *b)
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

static void do_result(struct sim_session *s, struct sim_entry *e, struct batch *b)
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

static void do_list(struct sim_session *s, struct sim_entry *e, struct batch *b)
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

		if (b->n >= BATCH) {
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

static void push_result(struct sim_session *s, const struct request *q, struct report *r)
{
	const struct operation_def *def = &operation_table[q->operation];
	struct sim_entry *e = sim_new(struct sim_entry);

	e->type = ENTRY_RESULT;
	e->report = r;
	if (!def->read) {
		e->kind = def->kind == KIND_CONNECTION ? r->result.kind : q->kind;
		e->uuid = def->kind == KIND_CONNECTION ? r->result.uuid : q->uuid;
	}
	again(s, e, sim_now());
}

static struct report *new_result(const struct request *q)
{
	struct report *r = sim_must(report_new(REPORT_RESULT));

	r->result.token = q->token;
	return r;
}

static void finish(struct sim_session *s, struct sim_entry *e)
{
	struct sim_world *w = s->world;
	struct request *q = e->request;
	const struct sim_rule *rule = &w->rules[q->operation];
	struct report *r = new_result(q);

	if (e->cancelled)
		failure_set(&r->result.failure, VIREO_CANCELLED, "The operation was cancelled.");
	else if (rule->missing)
		failure_set(&r->result.failure, VIREO_NOT_SUPPORTED, "The hypervisor has no %s.%s.",
			    operation_table[q->operation].interface, operation_table[q->operation].method);
	else if (sim_chance(&s->random, rule->fail))
		failure_set(&r->result.failure, rule->error, "%s",
			    rule->message ? rule->message : "simulated: the operation failed");
	else if (sim_chance(&s->random, w->faults.operation_fail))
		failure_set(&r->result.failure, VIREO_OPERATION_FAILED, "simulated: the operation failed");
	else {
		int run = 0;
		struct sim_object *o = sim_object_find(&w->truth, q->kind, q->uuid);

		if (o)
			run = o->id;
		sim_operate(w, q, &r->result);
		/* `wait`: the answer comes when the guest has done it, which the loop below looks for */
		if (r->result.failure.error == VIREO_OK && q->operation == OP_DOMAIN_SHUTDOWN &&
		    vdict_b(q->options, "wait", false)) {
			report_free(r);
			e->type = ENTRY_JOB;
			e->waits = true;
			e->waits_run = run;
			again(s, e, sim_now() + 10 * USEC_PER_MSEC);
			return;
		}
	}
	push_result(s, q, r);
	sim_entry_free(e);
}

static void post_progress(struct sim_session *s, struct sim_entry *e, struct batch *b)
{
	const struct sim_rule *rule = &s->world->rules[e->request->operation];
	struct report *r = sim_must(report_new(REPORT_PROGRESS));
	uint64_t now = sim_now();
	double part = e->ends > e->started ? (double)(now - e->started) / (double)(e->ends - e->started) : 0;

	if (part > 1)
		part = 1;
	r->progress.token = e->request->token;
	r->progress.total = rule->total;
	r->progress.done = (uint64_t)(part * (double)rule->total);
	r->progress.remaining = rule->total > 0 && e->ends > now ? e->ends - now : USEC_UNKNOWN;
	r->progress.percent = -1;
	r->progress.cancellable = rule->cancellable;
	b->reports[b->n++] = r;
}

static void do_operation(struct sim_session *s, struct sim_entry *e, struct batch *b)
{
	const struct sim_rule *rule = &s->world->rules[e->request->operation];

	if (rule->duration == 0 || e->cancelled) {
		finish(s, e);
		return;
	}
	e->type = ENTRY_JOB;
	e->started = sim_now();
	e->ends = e->started + rule->duration;
	post_progress(s, e, b);
	again(s, e, e->started + (rule->interval < rule->duration ? rule->interval : rule->duration));
}

static void do_job(struct sim_session *s, struct sim_entry *e, struct batch *b)
{
	const struct sim_rule *rule = &s->world->rules[e->request->operation];
	uint64_t now = sim_now();

	if (e->waits) {
		struct sim_object *o = sim_object_find(&s->world->truth, e->request->kind, e->request->uuid);

		if (o && o->active && o->id == e->waits_run && !e->cancelled) {
			again(s, e, now + 10 * USEC_PER_MSEC);
			return;
		}
		struct report *r = new_result(e->request);

		if (e->cancelled)
			failure_set(&r->result.failure, VIREO_CANCELLED, "The operation was cancelled.");
		push_result(s, e->request, r);
		sim_entry_free(e);
		return;
	}
	if (e->cancelled || now >= e->ends) {
		finish(s, e);
		return;
	}
	post_progress(s, e, b);
	again(s, e, now + rule->interval < e->ends ? now + rule->interval : e->ends);
}

static void do_entry(struct sim_session *s, struct sim_entry *e, struct batch *b)
{
	switch (e->type) {
	case ENTRY_HELLO:
		s->greeted = true;
		b->reports[b->n++] = make_hello(s);
		sim_entry_free(e);
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
		do_operation(s, e, b);
		break;
	case ENTRY_JOB:
		do_job(s, e, b);
		break;
	case ENTRY_RESULT:
		do_result(s, e, b);
		break;
	}
}

/* ---- the inbox ------------------------------------------------------------------------------------------------ */

static void leave_note(struct sim_session *s, struct sim_entry *e)
{
	pthread_mutex_lock(&s->lock);
	*s->inbox_tail = e;
	s->inbox_tail = &e->next;
	s->poked = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

static struct sim_entry *new_note(enum entry_type type)
{
	struct sim_entry *e = sim_new(struct sim_entry);

	e->type = type;
	return e;
}

void sim_session_list(struct sim_session *s, uint64_t serial)
{
	struct sim_entry *e = new_note(ENTRY_LIST);

	e->serial = serial;
	leave_note(s, e);
}

void sim_session_look(struct sim_session *s, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
	struct sim_entry *e = new_note(ENTRY_LOOK);

	e->kind = kind;
	e->uuid = uuid;
	e->serial = serial;
	leave_note(s, e);
}

void sim_session_operate(struct sim_session *s, struct request *r)
{
	struct sim_entry *e = new_note(ENTRY_OPERATION);

	e->request = r;
	leave_note(s, e);
}

void sim_session_cancel(struct sim_session *s, uint64_t token)
{
	struct sim_entry *e = new_note(ENTRY_JOB);

	/* a JOB without request: a wish to cancel */
	e->serial = token;
	leave_note(s, e);
}

static void cancel(struct sim_session *s, uint64_t token)
{
	struct sim_entry *e = sim_outbox_find(&s->outbox, token);

	if (!e || !(e->waits || s->world->rules[e->request->operation].cancellable))
		return;
	e->cancelled = true;
	e->due = sim_now();
	sim_outbox_sort(&s->outbox);
}

/* Locked; a note becomes an entry, due when the faults let it be. */
static void take_note(struct sim_session *s, struct sim_entry *e)
{
	const struct sim_faults *f = &s->world->faults;
	uint64_t last, due;

	e->next = NULL;
	switch (e->type) {
	case ENTRY_LIST:
		/* behind every event there is now */
		last = sim_outbox_last_event(&s->outbox);
		due = due_in(s, HANG_LIST, f->list_delay);
		again(s, e, due > last ? due : last);
		break;
	case ENTRY_LOOK:
		again(s, e, due_in(s, HANG_LOOK, f->look_delay));
		break;
	case ENTRY_OPERATION:
		again(s, e, due_in(s, HANG_OPERATION, f->operation_delay));
		break;
	default:
		cancel(s, e->serial);
		sim_entry_free(e);
	}
}

/* ---- the thread ------------------------------------------------------------------------------------------------ */

/* Locked. */
static void join_world(struct sim_session *s)
{
	struct sim_world *w = s->world;
	struct sim_entry *e;

	while (!w->is_ready)
		pthread_cond_wait(&w->ready, &w->lock);
	s->random = sim_random(&w->random) | 1;
	s->next = w->sessions;
	w->sessions = s;
	if (w->refuse != 0) {
		if (w->refuse > 0)
			w->refuse--;
		e = new_note(ENTRY_GOODBYE);
		e->report = sim_must(report_new(REPORT_GOODBYE));
		e->report->goodbye.error = sim_strdup("simulated: connection refused");
	} else {
		e = new_note(ENTRY_HELLO);
		e->due = due_in(s, HANG_OPEN, 0);
	}
	sim_outbox_push(&s->outbox, e);
}

static void leave_world(struct sim_session *s)
{
	struct sim_world *w = s->world;

	pthread_mutex_lock(&w->lock);
	for (struct sim_session **p = &w->sessions; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			break;
		}
	sim_world_poke(w);
	pthread_mutex_unlock(&w->lock);
	sim_outbox_clear(&s->outbox);
	for (struct sim_entry *e = s->inbox, *next; e; e = next) {
		next = e->next;
		sim_entry_free(e);
	}
	s->release(s->userdata);
	sim_world_release(w);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void *session_thread(void *data)
{
	struct sim_session *s = data;
	struct sim_world *w = s->world;
	bool gone = false;

	pthread_mutex_lock(&w->lock);
	join_world(s);
	pthread_mutex_unlock(&w->lock);
	for (;;) {
		struct sim_entry *notes, *top;
		struct batch b = {};
		bool closed;

		pthread_mutex_lock(&s->lock);
		while (!s->poked && (s->next_due == USEC_UNKNOWN || sim_now() < s->next_due))
			sim_wait(&s->wake, &s->lock, s->next_due);
		s->poked = false;
		closed = s->closed;
		notes = s->inbox;
		s->inbox = NULL;
		s->inbox_tail = &s->inbox;
		pthread_mutex_unlock(&s->lock);

		pthread_mutex_lock(&w->lock);
		for (struct sim_entry *e = notes, *next; e; e = next) {
			next = e->next;
			if (gone || closed)
				sim_entry_free(e);
			else
				take_note(s, e);
		}
		if (closed) {
			pthread_mutex_unlock(&w->lock);
			break;
		}
		uint64_t now = sim_now();

		while (b.n < BATCH && (top = sim_outbox_top(&s->outbox)) && top->due <= now)
			do_entry(s, sim_outbox_pop(&s->outbox), &b);
		if (b.goodbye) {
			/* nothing comes after it */
			gone = true;
			s->gone = true;
			sim_outbox_clear(&s->outbox);
		}
		top = sim_outbox_top(&s->outbox);
		s->next_due = top ? top->due : USEC_UNKNOWN;
		s->posting = b.n > 0;
		pthread_mutex_unlock(&w->lock);

		for (size_t i = 0; i < b.n; i++)
			s->post(s->userdata, b.reports[i]);

		if (b.n > 0) {
			pthread_mutex_lock(&w->lock);
			s->posting = false;
			/* room for a script that has run ahead, or all delivered, which one may wait for */
			sim_world_poke(w);
			pthread_mutex_unlock(&w->lock);
		}
	}
	leave_world(s);
	sim_thread_ended();
	return NULL;
}

int sim_session_new(struct sim_world *w, sim_post_fn post, void (*release)(void *), void *userdata,
		    struct sim_session **ret)
{
	struct sim_session *s = sim_new(struct sim_session);
	int r;

	s->world = w;
	s->post = post;
	s->release = release;
	s->userdata = userdata;
	s->inbox_tail = &s->inbox;
	pthread_mutex_init(&s->lock, NULL);
	sim_cond_init(&s->wake);
	*ret = s;
	r = sim_thread("sim-session", session_thread, s);
	if (r < 0) {
		*ret = NULL;
		release(userdata);
		sim_world_release(w);
		pthread_cond_destroy(&s->wake);
		pthread_mutex_destroy(&s->lock);
		free(s);
	}
	return r;
}

void sim_session_close(struct sim_session *s)
{
	pthread_mutex_lock(&s->lock);
	s->closed = true;
	s->poked = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
}

/* ---- of the world, locked ------------------------------------------------------------------------------------ */

static struct sim_entry *event_entry(const struct sim_event *event)
{
	struct sim_entry *e = new_note(ENTRY_EVENT);

	e->kind = event->kind;
	e->uuid = event->uuid;
	e->name = event->name ? sim_strdup(event->name) : NULL;
	e->cause = event->cause;
	e->reason = event->reason ? sim_strdup(event->reason) : NULL;
	e->event = event->event ? sim_strdup(event->event) : NULL;
	e->details = event->details ? sim_must(vdict_copy(event->details)) : NULL;
	e->run = event->run;
	return e;
}

static void session_emit(struct sim_session *s, const struct sim_event *event)
{
	const struct sim_faults *f = &s->world->faults;
	unsigned copies = 1;

	if (!s->greeted || s->gone || f->no_events || sim_chance(&s->random, f->drop))
		return;
	if (sim_chance(&s->random, f->repeat))
		copies = 2;
	for (; copies > 0; copies--) {
		struct sim_entry *e = event_entry(event);

		e->due = due_in(s, HANG_EVENTS, f->event_delay);
		if (sim_chance(&s->random, f->ahead) && e->due != USEC_UNKNOWN)
			e->due += 10 * USEC_PER_MSEC;
		e->key = s->outbox.seq + 1;
		if (f->reorder > 0 && e->due != USEC_UNKNOWN) {
			e->due = (e->due / REORDER_SPAN + 1) * REORDER_SPAN;
			e->key += sim_random(&s->random) % (f->reorder + 1);
		}
		if (event->has_before && sim_chance(&s->random, f->behind)) {
			e->has_before = true;
			e->before = event->before ? sim_must(seen_copy(event->before)) : NULL;
		}
		sim_outbox_push(&s->outbox, e);
	}
	session_poke(s);
}

void sim_sessions_emit(struct sim_world *w, const struct sim_event *e)
{
	for (struct sim_session *s = w->sessions; s; s = s->next)
		session_emit(s, e);
}

void sim_sessions_disconnect(struct sim_world *w, const char *why)
{
	for (struct sim_session *s = w->sessions; s; s = s->next) {
		struct sim_entry *e;

		if (s->gone)
			continue;
		/* what was on its way is lost with the connection */
		sim_outbox_clear(&s->outbox);
		s->gone = true;
		e = new_note(ENTRY_GOODBYE);
		e->report = sim_must(report_new(REPORT_GOODBYE));
		e->report->goodbye.error = sim_strdup(why);
		sim_outbox_push(&s->outbox, e);
		session_poke(s);
	}
}

void sim_sessions_release(struct sim_world *w)
{
	for (struct sim_session *s = w->sessions; s; s = s->next) {
		sim_outbox_release(&s->outbox, sim_now());
		session_poke(s);
	}
}

size_t sim_sessions_backlog(struct sim_world *w)
{
	size_t most = 0;

	if (w->faults.hang & HANG_EVENTS)
		return 0;
	for (struct sim_session *s = w->sessions; s; s = s->next)
		if (s->outbox.n_events > most)
			most = s->outbox.n_events;
	return most;
}

bool sim_sessions_idle(struct sim_world *w)
{
	for (struct sim_session *s = w->sessions; s; s = s->next)
		if (!s->gone && (!s->greeted || s->posting || s->outbox.n > 0))
			return false;
	return true;
}

size_t sim_sessions_count(struct sim_world *w)
{
	size_t n = 0;

	for (struct sim_session *s = w->sessions; s; s = s->next)
		n += !s->gone && s->greeted;
	return n;
}
