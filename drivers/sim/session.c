/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "job.h"
#include "session-list.h"
#include "util/log.h"

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

static void leave_wish(struct sim_session *s, enum entry_type type, uint64_t token)
{
	struct sim_entry *e = new_note(type);

	e->serial = token;
	leave_note(s, e);
}

void sim_session_cancel(struct sim_session *s, uint64_t token)
{
	leave_wish(s, ENTRY_CANCEL, token);
}

void sim_session_complete(struct sim_session *s, uint64_t token)
{
	leave_wish(s, ENTRY_COMPLETE, token);
}

static void cancel(struct sim_session *s, uint64_t token)
{
	struct sim_job *j = sim_job_find(s->world, s, token);
	struct sim_entry *e = j ? NULL : sim_outbox_find(&s->outbox, token);

	if (j)
		sim_job_cancel(s->world, j);
	/* what has not begun can be forgotten; unless the rules say that nothing ends it */
	if (!e || (s->world->rules[e->request->operation].set && !s->world->rules[e->request->operation].cancellable))
		return;
	e->cancelled = true;
	e->due = sim_now();
	sim_outbox_sort(&s->outbox);
}

static void complete(struct sim_session *s, uint64_t token)
{
	struct sim_job *j = sim_job_find(s->world, s, token);

	if (j)
		(void)sim_job_complete(s->world, j, NULL);
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
		sim_session_again(s, e, due > last ? due : last);
		break;
	case ENTRY_LOOK:
		sim_session_again(s, e, due_in(s, HANG_LOOK, f->look_delay));
		break;
	case ENTRY_OPERATION:
		sim_session_again(s, e, due_in(s, HANG_OPERATION, f->operation_delay));
		break;
	case ENTRY_CANCEL:
		cancel(s, e->serial);
		sim_entry_free(e);
		break;
	default:
		complete(s, e->serial);
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
	s->gone = true;
	sim_jobs_disown(w, s);
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
		struct sim_batch b = {};
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

		while (b.n < SIM_BATCH && (top = sim_outbox_top(&s->outbox)) && top->due <= now)
			sim_session_do(s, sim_outbox_pop(&s->outbox), &b);
		if (b.goodbye) {
			/* nothing comes after it */
			gone = true;
			s->gone = true;
			sim_jobs_disown(w, s);
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
	r = sim_thread(session_thread, s);
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

void sim_session_report(struct sim_session *s, struct report *r)
{
	struct sim_entry *e;

	if (s->gone || !s->greeted) {
		report_free(r);
		return;
	}
	e = new_note(ENTRY_REPORT);
	e->report = r;
	sim_session_again(s, e, sim_now());
	session_poke(s);
}

void sim_session_end(struct sim_session *s, enum kind kind, sd_id128_t uuid, struct report *r)
{
	struct sim_entry *e;

	if (s->gone || !s->greeted) {
		report_free(r);
		return;
	}
	e = new_note(ENTRY_END);
	e->kind = kind;
	e->uuid = uuid;
	e->report = r;
	sim_session_again(s, e, sim_now());
	session_poke(s);
}

bool sim_session_listens(const struct sim_session *s)
{
	return s->greeted && !s->gone;
}

struct sim_session *sim_session_next(const struct sim_session *s)
{
	return s->next;
}

bool sim_session_chance(struct sim_session *s, double probability)
{
	return sim_chance(&s->random, probability);
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
		sim_jobs_disown(w, s);
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
