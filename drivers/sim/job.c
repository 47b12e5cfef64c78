/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "job.h"

/* ---- what others hear of it ---------------------------------------------------------------------------------- */

static bool is_shown_to(const struct sim_job *j, const struct sim_session *s)
{
	return j->shown && s != j->owner && sim_session_listens(s);
}

static struct report *new_foreign(const struct sim_job *j)
{
	struct report *r = sim_must(report_new(REPORT_FOREIGN));
	struct foreign *f = &r->foreign;

	f->token = FOREIGN_TOKEN | j->number;
	f->kind = j->request->kind;
	f->uuid = j->request->uuid;
	f->operation = j->request->operation;
	f->subject = j->type && j->request->text ? sim_strdup(j->request->text) : NULL;
	f->cancellable = j->cancellable;
	return r;
}

static double share(const struct sim_job *j, uint64_t now)
{
	if (j->ready)
		return 1;
	if (j->duration == USEC_UNKNOWN || j->held || now <= j->started)
		return 0;
	return now >= j->ends ? 1 : (double)(now - j->started) / (double)(j->ends - j->started);
}

static struct report *new_progress(const struct sim_job *j, uint64_t token)
{
	struct report *r = sim_must(report_new(REPORT_PROGRESS));
	struct progress *p = &r->progress;
	uint64_t now = sim_now();

	p->token = token;
	p->total = j->total;
	p->done = j->counts ? j->done : (uint64_t)(share(j, now) * (double)j->total);
	p->remaining = USEC_UNKNOWN;
	/* what is counted has the rate that it has: the broker measures it */
	if (j->ready)
		p->remaining = 0;
	else if (j->total > 0 && !j->counts && !j->held && j->duration != USEC_UNKNOWN)
		p->remaining = j->ends > now ? j->ends - now : 0;
	p->percent = -1;
	p->ready = j->ready;
	p->cancellable = j->cancellable;
	return r;
}

static void tell(struct sim_world *w, const struct sim_job *j)
{
	if (j->owner)
		sim_session_report(j->owner, new_progress(j, j->request->token));
	for (struct sim_session *s = w->sessions; s; s = sim_session_next(s))
		if (is_shown_to(j, s))
			sim_session_report(s, new_progress(j, FOREIGN_TOKEN | j->number));
}

void sim_jobs_show(struct sim_world *w, struct sim_session *s)
{
	for (struct sim_job *j = w->jobs; j; j = j->next)
		if (is_shown_to(j, s) && !w->faults.no_events) {
			sim_session_report(s, new_foreign(j));
			sim_session_report(s, new_progress(j, FOREIGN_TOKEN | j->number));
		}
}

/* ---- its end ------------------------------------------------------------------------------------------------- */

static void job_free(struct sim_job *j)
{
	request_free(j->request);
	report_free(j->report);
	failure_clear(&j->why);
	sim_config_unref(j->config);
	if (j->free_data)
		j->free_data(j->data);
	free(j);
}

static void unlink_job(struct sim_world *w, struct sim_job *j)
{
	for (struct sim_job **p = &w->jobs; *p; p = &(*p)->next)
		if (*p == j) {
			*p = j->next;
			return;
		}
}

void sim_job_over(struct sim_world *w, struct sim_job *j, struct failure *f)
{
	const struct operation_def *def = &operation_table[j->request->operation];
	struct result *result = &j->report->result;
	enum kind kind = def->kind == KIND_CONNECTION ? result->kind : j->request->kind;
	sd_id128_t uuid = def->kind == KIND_CONNECTION ? result->uuid : j->request->uuid;

	unlink_job(w, j);
	for (struct sim_session *s = w->sessions; s; s = sim_session_next(s)) {
		struct report *r;

		if (!is_shown_to(j, s))
			continue;
		r = new_foreign(j);
		r->foreign.ended = true;
		if (f->error != VIREO_OK)
			failure_set(&r->foreign.failure, f->error, "%s", f->message);
		sim_session_end(s, kind, uuid, r);
	}
	result->failure = *f;
	*f = (struct failure){};
	if (j->owner)
		sim_session_end(j->owner, kind, def->read ? SD_ID128_NULL : uuid, TAKE(j->report));
	job_free(j);
	/* somebody may wait for that */
	sim_world_poke(w);
}

/* Its object; NULL when that is gone, or another run. */
static struct sim_object *object_of(struct sim_world *w, const struct sim_job *j)
{
	struct sim_object *o = sim_object_find(&w->truth, j->request->kind, j->request->uuid);

	return o && j->of_run && (!o->active || o->id != j->run) ? NULL : o;
}

static void undo(struct sim_world *w, struct sim_job *j)
{
	struct sim_object *o = object_of(w, j);

	j->ending = true;
	if (!j->course || !j->course->undo)
		return;
	if (o)
		sim_before(w, o);
	j->course->undo(w, j, o);
	sim_before_over(w);
}

void sim_job_fail(struct sim_world *w, struct sim_job *j, enum vireo_error error, const char *why)
{
	struct failure f = {};

	failure_set(&f, error, "%s", why);
	undo(w, j);
	sim_job_over(w, j, &f);
}

/* It is to end for @j->why. */
static void end_early(struct sim_world *w, struct sim_job *j)
{
	struct failure f = j->why;

	if (j->course && j->course->stop && j->course->stop(w, j) == SIM_GOES_ON) {
		j->held = true;
		return;
	}
	j->why = (struct failure){};
	undo(w, j);
	sim_job_over(w, j, &f);
}

void sim_job_cancel(struct sim_world *w, struct sim_job *j)
{
	if (!j->cancellable || j->cancelled || j->ending)
		return;
	sim_job_stop(w, j, VIREO_CANCELLED, "The operation was cancelled.");
}

void sim_job_stop(struct sim_world *w, struct sim_job *j, enum vireo_error error, const char *why)
{
	if (j->ending)
		return;
	j->cancelled = error == VIREO_CANCELLED;
	failure_set(&j->why, error, "%s", why);
	end_early(w, j);
}

static void end(struct sim_world *w, struct sim_job *j)
{
	struct sim_object *o = object_of(w, j);
	struct failure f = {};
	int r;

	j->ending = true;
	if (!j->course || !j->course->begin) {
		sim_operate(w, j->request, &j->report->result);
		f = j->report->result.failure;
		j->report->result.failure = (struct failure){};
		sim_job_over(w, j, &f);
		return;
	}
	if (!o && j->request->kind != KIND_CONNECTION) {
		sim_job_fail(w, j, VIREO_OPERATION_FAILED, "What it was done to is gone.");
		return;
	}
	if (o)
		sim_before(w, o);
	r = j->course->end(w, j, o, &f);
	sim_before_over(w);
	if (r == SIM_GOES_ON) {
		j->held = true;
		return;
	}
	if (r != 0)
		undo(w, j);
	sim_job_over(w, j, &f);
}

void sim_job_finish(struct sim_world *w, struct sim_job *j)
{
	if (!j->ending && (!j->held || j->counts))
		end(w, j);
}

int sim_job_complete(struct sim_world *w, struct sim_job *j, struct failure *f)
{
	if (!j->ready)
		return failure_set(f, VIREO_INVALID_STATE, "The job is not ready to be completed.");
	end(w, j);
	return 0;
}

/* ---- its beginning ------------------------------------------------------------------------------------------- */

const char *sim_job_option(const struct sim_job *j, const char *name)
{
	return vdict_s(j->request->options, name, NULL);
}

static void begin_time(struct sim_world *w, struct sim_job *j)
{
	j->started = sim_now();
	j->ends = j->duration == USEC_UNKNOWN ? USEC_UNKNOWN : j->started + j->duration;
	j->half = j->course && j->course->half && j->duration > 0 && j->duration != USEC_UNKNOWN ? j->started + j->duration / 2
												  : USEC_UNKNOWN;
	j->tells = j->interval > 0 ? j->started + j->interval : USEC_UNKNOWN;
	j->fails = j->fails_after == USEC_UNKNOWN ? USEC_UNKNOWN : j->started + j->fails_after;
	sim_world_poke(w);
}

void sim_job_go(struct sim_world *w, struct sim_job *j)
{
	j->held = false;
	begin_time(w, j);
}

static bool chance(struct sim_world *w, struct sim_session *owner, double probability)
{
	return owner ? sim_session_chance(owner, probability) : sim_chance(&w->random, probability);
}

/* Will it fail? Then @why says so. */
static void draw_failure(struct sim_world *w, struct sim_job *j, const struct sim_rule *rule)
{
	double at = 1;

	j->fails = j->fails_after = USEC_UNKNOWN;
	if (chance(w, j->owner, rule->fail)) {
		failure_set(&j->why, rule->error, "%s", rule->message ? rule->message : "simulated: the operation failed");
		at = rule->fail_at;
	} else if (chance(w, j->owner, w->faults.operation_fail))
		failure_set(&j->why, VIREO_OPERATION_FAILED, "simulated: the operation failed");
	else if (w->faults.no_space && j->course && j->course->writes) {
		failure_set(&j->why, VIREO_OPERATION_FAILED, "simulated: No space left on device");
		at = 0.5;
	} else
		return;
	j->fails_after = j->duration == USEC_UNKNOWN ? USEC_UNKNOWN : (uint64_t)(at * (double)j->duration);
}

static struct sim_job *job_new(struct sim_world *w, struct sim_session *owner, struct request *q, const struct sim_rule *rule)
{
	struct sim_job *j = sim_new(struct sim_job);
	struct sim_object *o = sim_object_find(&w->truth, q->kind, q->uuid);

	j->number = ++w->last_job;
	j->owner = owner;
	j->request = q;
	j->course = sim_course_of(q->operation);
	j->report = sim_must(report_new(REPORT_RESULT));
	j->report->result.token = q->token;
	j->run = o ? o->id : -1;
	j->of_run = j->course && j->course->of_run;
	j->duration = rule->duration;
	j->interval = rule->set ? rule->interval : 100 * USEC_PER_MSEC;
	j->total = rule->total;
	j->cancellable = rule->set ? rule->cancellable : j->course && j->course->cancellable;
	return j;
}

static void link_job(struct sim_world *w, struct sim_job *j)
{
	struct sim_job **end_of_list = &w->jobs;

	while (*end_of_list)
		end_of_list = &(*end_of_list)->next;
	*end_of_list = j;
}

/* It goes on for a while, and others may see it. */
static void show(struct sim_world *w, struct sim_job *j)
{
	j->shown = j->course && j->course->visible;
	for (struct sim_session *s = w->sessions; s; s = sim_session_next(s))
		if (is_shown_to(j, s) && !w->faults.no_events)
			sim_session_report(s, new_foreign(j));
	tell(w, j);
}

/* Why it cannot even begin. */
static int check(struct sim_world *w, const struct sim_job *j, const struct sim_rule *rule, struct failure *f)
{
	const struct request *q = j->request;
	const struct operation_def *def = &operation_table[q->operation];
	char text[37];

	if (rule->missing || !sim_can(q->operation))
		return failure_set(f, VIREO_NOT_SUPPORTED, "The hypervisor has no %s.%s.", def->interface, def->method);
	if (q->kind != KIND_CONNECTION && !sim_object_find(&w->truth, q->kind, q->uuid))
		return failure_set(f, VIREO_NOT_FOUND, "There is no %s with UUID %s.", kind_to_string(q->kind),
				   sd_id128_to_uuid_string(q->uuid, text));
	return sim_jobs_check_busy(w, q, f);
}

int sim_job_start(struct sim_world *w, struct sim_session *owner, struct request *q, const struct sim_rule *rule,
		  struct failure *ret_f)
{
	struct sim_job *j = job_new(w, owner, q, rule);
	const struct sim_course *c = j->course;
	struct failure f = {};
	int r = check(w, j, rule, &f);

	if (r == 0) {
		/* what takes no time fails before it has done anything, if so it must */
		draw_failure(w, j, rule);
		if (j->why.error != VIREO_OK && j->duration == 0 && !(c && c->begin && c->writes && w->faults.no_space)) {
			f = j->why;
			j->why = (struct failure){};
			r = (int)f.error;
		}
	}
	if (r == 0 && c && c->begin) {
		struct sim_object *o = sim_object_find(&w->truth, q->kind, q->uuid);

		if (o)
			sim_before(w, o);
		r = c->begin(w, j, o, &f);
		sim_before_over(w);
		/* the course may know how much there is, when the rules do not */
		if (rule->has_total)
			j->total = rule->total;
	}
	if (r != 0) {
		if (ret_f)
			failure_set(ret_f, f.error, "%s", f.message);
		sim_job_over(w, j, &f);
		return r;
	}
	link_job(w, j);
	begin_time(w, j);
	if (j->held || j->duration > 0) {
		show(w, j);
		return 0;
	}
	if (j->why.error != VIREO_OK)
		end_early(w, j);
	else if (!j->copies)
		end(w, j);
	else
		/* all there is to copy is copied: the world's thread says that it is ready */
		show(w, j);
	return 0;
}

/* ---- all of them --------------------------------------------------------------------------------------------- */

struct sim_job *sim_job_find(struct sim_world *w, const struct sim_session *owner, uint64_t token)
{
	for (struct sim_job *j = w->jobs; j; j = j->next)
		if (token & FOREIGN_TOKEN ? j->shown && j->owner != owner && (FOREIGN_TOKEN | j->number) == token
					  : j->owner == owner && j->request->token == token)
			return j;
	return NULL;
}

struct sim_job *sim_job_on(struct sim_world *w, const struct sim_object *o, enum operation operation, const char *subject)
{
	for (struct sim_job *j = w->jobs; j; j = j->next) {
		const struct request *q = j->request;

		if (q->kind == o->kind && sd_id128_equal(q->uuid, o->uuid) &&
		    (operation == OP_NONE || q->operation == operation) &&
		    (!subject || (q->text && strcmp(q->text, subject) == 0)))
			return j;
	}
	return NULL;
}

static bool is_block_job(enum operation op)
{
	return op == OP_DOMAIN_BLOCK_PULL || op == OP_DOMAIN_BLOCK_COMMIT || op == OP_DOMAIN_BLOCK_COPY;
}

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* As QEMU and libvirt have it: what moves the domain as a whole keeps out what would change it meanwhile. */
static bool keeps_out(const struct sim_job *j, const struct request *q)
{
	enum operation running = j->request->operation, wanted = q->operation;

	if (!j->course)
		return false;
	if (is_block_job(running)) {
		if (is_block_job(wanted))
			return same(j->request->text, q->text);
		return wanted == OP_DOMAIN_SAVE || wanted == OP_DOMAIN_MANAGED_SAVE || wanted == OP_DOMAIN_MIGRATE;
	}
	if (running == OP_DOMAIN_MIGRATE)
		return wanted != OP_DOMAIN_SUSPEND;
	if (operation_table[running].kind == KIND_POOL)
		return q->operation == OP_POOL_STOP || same(j->request->text, q->text) || same(j->request->text2, q->text);
	return true;
}

int sim_jobs_check_busy(struct sim_world *w, const struct request *q, struct failure *f)
{
	const struct operation_def *def = &operation_table[q->operation];

	if (def->read || def->overrides || q->kind == KIND_CONNECTION)
		return 0;
	for (struct sim_job *j = w->jobs; j; j = j->next)
		if (j->request->kind == q->kind && sd_id128_equal(j->request->uuid, q->uuid) && keeps_out(j, q))
			return failure_set(f, VIREO_BUSY, "It is busy: the operation %s is under way.",
					   operation_table[j->request->operation].name);
	return 0;
}

static uint64_t due(const struct sim_job *j)
{
	uint64_t first = USEC_UNKNOWN;

	/* copied, and told so: what is ready waits for whoever completes it */
	if ((j->held && !j->counts) || j->cancelled || (j->ready && !j->pivot))
		return USEC_UNKNOWN;
	if (j->ready)
		return 0;
	if (j->fails < first)
		first = j->fails;
	if (j->half < first && !j->held)
		first = j->half;
	if (j->ends < first && !j->held)
		first = j->ends;
	return j->tells < first ? j->tells : first;
}

static void emit_block_job(struct sim_world *w, const struct sim_job *j, const char *status)
{
	_cleanup_(vdict_freep) struct vdict *details = sim_must(vdict_new());
	struct sim_object *o = object_of(w, j);

	if (!o)
		return;
	vdict_set_s(details, "disk", j->request->text);
	vdict_set_s(details, "type", j->type);
	sim_emit_event(w, o, "BlockJob", status, details);
}

static void run_job(struct sim_world *w, struct sim_job *j, uint64_t now)
{
	if (j->fails <= now) {
		j->fails = USEC_UNKNOWN;
		end_early(w, j);
		return;
	}
	if (j->ready || j->held) {
		if (j->ready)
			end(w, j);
		else {
			tell(w, j);
			j->tells = now + j->interval;
		}
		return;
	}
	if (j->half <= now) {
		struct sim_object *o = object_of(w, j);

		j->half = USEC_UNKNOWN;
		if (o)
			j->course->half(w, j, o);
		return;
	}
	if (j->ends <= now && j->copies) {
		j->ready = true;
		emit_block_job(w, j, "ready");
		tell(w, j);
		return;
	}
	if (j->ends <= now) {
		end(w, j);
		return;
	}
	tell(w, j);
	j->tells = now + j->interval;
}

uint64_t sim_jobs_run(struct sim_world *w)
{
	uint64_t now = sim_now(), next;

	for (;;) {
		struct sim_job *found = NULL;

		next = USEC_UNKNOWN;
		for (struct sim_job *j = w->jobs; j && !found; j = j->next) {
			uint64_t when = due(j);

			if (when <= now)
				found = j;
			else if (when < next)
				next = when;
		}
		if (!found)
			return next;
		/* it may end, and others with it: from the beginning again */
		run_job(w, found, now);
	}
}

void sim_jobs_stopped(struct sim_world *w, const struct sim_object *o)
{
	struct sim_job *j;

	do {
		for (j = w->jobs; j; j = j->next)
			if (!j->ending && j->of_run && j->request->kind == o->kind &&
			    sd_id128_equal(j->request->uuid, o->uuid))
				break;
		if (!j)
			return;
		j->ending = true;
		if (j->course->undo)
			j->course->undo(w, j, NULL);

		struct failure f = {};

		failure_set(&f, VIREO_OPERATION_FAILED, "The domain stopped, and with it what ran on it.");
		sim_job_over(w, j, &f);
	} while (j);
}

void sim_jobs_disown(struct sim_world *w, const struct sim_session *s)
{
	for (struct sim_job *j = w->jobs, *next; j; j = next) {
		next = j->next;
		if (j->owner != s)
			continue;
		j->owner = NULL;
		/* the one at the other end of a transfer is gone */
		if (j->course && j->course->of_owner)
			sim_job_cancel(w, j);
	}
}

void sim_jobs_stop(struct sim_world *w)
{
	for (struct sim_job *j = w->jobs, *next; j; j = next) {
		next = j->next;
		sim_job_stop(w, j, VIREO_DISCONNECTED, "The simulated hypervisor has ended.");
	}
}

size_t sim_jobs_count(const struct sim_world *w)
{
	size_t n = 0;

	for (const struct sim_job *j = w->jobs; j; j = j->next)
		n++;
	return n;
}

void sim_jobs_free(struct sim_world *w)
{
	while (w->jobs) {
		struct sim_job *j = w->jobs;

		w->jobs = j->next;
		job_free(j);
	}
}
