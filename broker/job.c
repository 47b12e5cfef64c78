/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

/*
 * Operations that may last, as objects.
 *
 *   running ──► completed | failed | cancelled     once, told as Finished; Removed after a while
 *
 * The object that a job runs on names it in its property Jobs, which takes a version at its beginning and one at its end.
 * Most jobs are over in a few milliseconds, and then nobody needs that: it is named once it has lasted for a moment.
 */
#define NAMED_AFTER (100 * USEC_PER_MSEC)

const char *object_title(const struct object *o)
{
	return o->kind == KIND_CONNECTION ? o->path : o->props->v[0].s;
}

/* Index of the Jobs property; -1 for kinds without. */
static int jobs_index(enum kind kind)
{
	static const int index[KIND_MAX] = {[KIND_CONNECTION] = -1, [KIND_DOMAIN] = DOMAIN_JOBS, [KIND_POOL] = POOL_JOBS,
					    [KIND_NETWORK] = NETWORK_JOBS, [KIND_JOB] = -1};

	return index[kind];
}

char **jobs_of(struct broker *b, const char *path)
{
	struct connection *c;
	struct job *j;
	size_t n = 0;
	char **paths;

	DL_FOREACH(b->connections, c)
	DL_FOREACH(c->jobs, j)
	n += j->named && strcmp(j->target, path) == 0;
	paths = calloc(n + 1, sizeof(*paths));
	n = 0;
	DL_FOREACH(b->connections, c)
	DL_FOREACH(c->jobs, j)
	if (paths && j->named && strcmp(j->target, path) == 0)
		paths[n++] = j->object->path; /* borrowed: for props_set_as() at once */
	return paths;
}

/* The object's Jobs, as they are now. */
static void update_jobs_property(struct broker *b, const char *path)
{
	struct object *o = broker_find(b, path);
	_cleanup_(freep) char **paths = NULL;
	struct props *p;

	if (!o || jobs_index(o->kind) < 0)
		return;
	paths = jobs_of(b, path);
	p = paths ? props_copy(o->props) : NULL;
	if (!p)
		return;
	if (props_set_as(p, (unsigned)jobs_index(o->kind), (const char *const *)paths) < 0 || props_equal(p, o->props)) {
		props_unref(p);
		return;
	}
	broker_emit(b, o, "Updated", "job", false, p, NULL);
}

static void on_named(struct timer *t, void *userdata)
{
	struct job *j = userdata;

	j->named = true;
	update_jobs_property(j->broker, j->target);
	broker_flush(j->broker);
}

const char *job_subject_key(enum operation operation)
{
	switch (operation) {
	case OP_DOMAIN_BLOCK_PULL:
	case OP_DOMAIN_BLOCK_COMMIT:
	case OP_DOMAIN_BLOCK_COPY:
	case OP_FOREIGN_BACKUP:
		return "disk";
	case OP_POOL_CLONE_VOLUME:
	case OP_POOL_RESIZE_VOLUME:
	case OP_POOL_WIPE_VOLUME:
	case OP_POOL_DELETE_VOLUME:
	case OP_POOL_UPLOAD_VOLUME:
	case OP_POOL_DOWNLOAD_VOLUME:
		return "volume";
	default:
		return NULL;
	}
}

/* What each event of the job says besides. Owned by the caller. */
static struct vdict *job_details(const struct job *j)
{
	const char *key = job_subject_key(j->operation);
	struct vdict *d = vdict_new();

	/* A disk may be named by its path, which is not for everybody; a target ("vda") and a volume's name are. */
	if (d && key && j->subject && !strchr(j->subject, '/'))
		(void)vdict_set_s(d, key, j->subject);
	return d;
}

/* ---- the beginning of a job ---------------------------------------------------------------------------------------- */

struct job *job_begin(struct connection *c, const struct job_spec *spec)
{
	struct broker *b = c->broker;
	struct object *o = object_new(KIND_JOB, "", c); /* its path comes with its version */
	struct job *j = calloc(1, sizeof(*j));
	struct props *p = o ? props_copy(o->props) : NULL;
	_cleanup_(vdict_freep) struct vdict *details = NULL;

	if (!o || !j || !p)
		goto fail;
	*j = (struct job){.broker = b, .object = o, .connection = c, .token = spec->token, .operation = spec->operation,
			  .foreign = spec->foreign, .awaited = spec->awaited, .wanted = spec->wanted,
			  .began = clock_monotonic(b->clock)};
	j->target = strdup(spec->target->path);
	j->subject = spec->subject ? strdup(spec->subject) : NULL;
	o->stored_connection = strdup(c->object->path);
	if (!j->target || (spec->subject && !j->subject) || !o->stored_connection ||
	    props_set_s(p, JOB_OBJECT, spec->target->path) < 0 ||
	    props_set_s(p, JOB_OPERATION, operation_table[spec->operation].name) < 0 ||
	    props_set_s(p, JOB_TYPE, "unbounded") < 0 || props_set_s(p, JOB_STATE, "running") < 0)
		goto fail;
	p->v[JOB_REMAINING_TIME].t = USEC_UNKNOWN;
	p->v[JOB_STARTED_BY].u = spec->uid;
	p->v[JOB_CANCELLABLE].b = spec->cancellable && c->driver->cancel;
	details = job_details(j);

	j->running = true;
	o->job = j;
	DL_APPEND(c->jobs, j);
	broker_emit(b, o, "Added", operation_table[spec->operation].name, false, p, details);
	timer_in(b->clock, &j->timer, NAMED_AFTER, on_named, j);
	return j;
fail:
	props_unref(p);
	if (j) {
		free(j->target);
		free(j->subject);
	}
	free(j);
	object_free(o);
	return NULL;
}

/* ---- the end of a job ---------------------------------------------------------------------------------------------- */

static void on_keep(struct timer *t, void *userdata);

static void arm_keep(struct broker *b)
{
	uint64_t now = clock_monotonic(b->clock), at = UINT64_MAX;
	struct object *o;

	/* In order of appearance, not of ending; there are few. */
	DL_FOREACH(b->first[KIND_JOB], o)
	if (o->job && !o->job->running && o->job->ended + b->config.job_keep < at)
		at = o->job->ended + b->config.job_keep;
	if (at != UINT64_MAX)
		timer_in(b->clock, &b->keep_timer, at > now ? at - now : 0, on_keep, b);
}

static void on_keep(struct timer *t, void *userdata)
{
	struct broker *b = userdata;
	uint64_t now = clock_monotonic(b->clock);
	struct object *o, *tmp;

	DL_FOREACH_SAFE(b->first[KIND_JOB], o, tmp)
	if (o->job && !o->job->running && o->job->ended + b->config.job_keep <= now)
		broker_emit(b, o, "Removed", "", false, NULL, NULL);
	arm_keep(b);
	broker_flush(b);
}

static void finish(struct job *j, struct result *r, const struct failure *f)
{
	struct broker *b = j->broker;
	_cleanup_(freep) char *target = j->target ? strdup(j->target) : NULL;
	_cleanup_(vdict_freep) struct vdict *details = NULL;
	struct props *p = props_copy(j->object->props);
	const char *state = f->error == VIREO_OK ? "completed" : f->error == VIREO_CANCELLED ? "cancelled" : "failed";
	_cleanup_(freep) char *sentence = NULL;
	struct job_waiter *w;

	if (!j->running || !p) {
		props_unref(p);
		return;
	}
	j->running = false;
	timer_clear(&j->timer);
	j->ended = clock_monotonic(b->clock);
	if (j->connection)
		DL_DELETE(j->connection->jobs, j);
	j->connection = NULL;
	if (f->error)
		failure_set(&j->failure, f->error, "%s", f->message ? f->message : "");
	if (r) {
		j->result.uuid = r->uuid;
		j->result.kind = r->kind;
		j->result.text = TAKE(r->text);
	}

	(void)props_set_s(p, JOB_STATE, state);
	p->v[JOB_RUNNING_TIME].t = j->ended - j->began;
	p->v[JOB_REMAINING_TIME].t = f->error == VIREO_OK ? 0 : USEC_UNKNOWN;
	if (f->error == VIREO_OK) {
		/* What was polled last is behind. */
		p->v[JOB_PERCENT].d = 100;
		if (p->v[JOB_BYTES_TOTAL].t > 0)
			p->v[JOB_BYTES_DONE].t = p->v[JOB_BYTES_TOTAL].t;
	}
	p->v[JOB_READY].b = p->v[JOB_CANCELLABLE].b = false;
	details = job_details(j);
	if (f->error && f->error != VIREO_CANCELLED) {
		const char *pair[] = {vireo_error_name(f->error), NULL, NULL};

		/* The broker's own sentence is for everybody; the hypervisor's words are not. */
		if (asprintf(&sentence, "The operation “%s” failed", operation_table[j->operation].name) < 0)
			sentence = NULL;
		pair[1] = sentence ? sentence : "";
		(void)props_set_as(p, JOB_ERROR, pair);
		if (details && f->message)
			(void)vdict_set_s(details, "message", f->message);
	}
	broker_emit(b, j->object, "Finished", state, false, p, details);
	if (target)
		update_jobs_property(b, target);
	while ((w = j->waiters)) {
		struct result copy = {.uuid = j->result.uuid, .kind = j->result.kind,
				      .text = j->result.text ? strdup(j->result.text) : NULL};

		LL_DELETE(j->waiters, w);
		broker_answer(b, w->done, w->userdata, &j->failure, &copy);
		free(w);
	}
	arm_keep(b);
}

static void fail(struct job *j, enum vireo_error error, const char *why)
{
	struct failure f = {0};

	failure_set(&f, error, "%s", why);
	finish(j, NULL, &f);
	failure_clear(&f);
}

void job_end(struct job *j, const struct failure *f)
{
	finish(j, NULL, f);
}

void jobs_lost(struct connection *c, enum vireo_error error, const char *why)
{
	while (c->jobs)
		fail(c->jobs, error, why);
}

void jobs_free(struct job *j)
{
	if (!j)
		return;
	for (struct job_waiter *w = j->waiters, *next; w; w = next) {
		next = w->next;
		free(w);
	}
	if (j->running && j->connection)
		DL_DELETE(j->connection->jobs, j);
	timer_clear(&j->timer);
	failure_clear(&j->failure);
	failure_clear(&j->early);
	free(j->result.text);
	free(j->target);
	free(j->subject);
	free(j);
}

/* ---- from the driver ----------------------------------------------------------------------------------------------- */

static struct job *find_job(struct connection *c, uint64_t token)
{
	struct job *j;

	DL_FOREACH(c->jobs, j)
	if (j->token == token)
		return j;
	return NULL;
}

void jobs_on_result(struct connection *c, struct result *r)
{
	struct job *j = find_job(c, r->token);

	if (!j)
		return;
	/* Accepted is not done, when the caller wants to wait for what the guest makes of it. */
	if (r->failure.error == VIREO_OK && guest_has_to_act(j))
		return;
	finish(j, r, r->failure.error == VIREO_OK ? &j->early : &r->failure);
}

void jobs_on_foreign(struct connection *c, const struct foreign *f)
{
	struct job *j = find_job(c, f->token);
	struct object *target = NULL;
	struct job_spec spec = {.operation = f->operation, .subject = f->subject, .token = f->token, .uid = UINT32_MAX,
				.foreign = true, .cancellable = f->cancellable};

	if (f->ended) {
		if (j)
			finish(j, NULL, &f->failure);
		return;
	}
	if (j || !(f->token & FOREIGN_TOKEN))
		return;
	if (f->kind == KIND_DOMAIN || f->kind == KIND_POOL || f->kind == KIND_NETWORK)
		HASH_FIND(by_uuid, c->by_uuid[f->kind], &f->uuid, sizeof(f->uuid), target);
	/* A domain on its way here is not known yet. */
	spec.target = target ? target : c->object;
	if (!job_begin(c, &spec))
		log_error("out of memory: a job of somebody else's at %s is not shown", c->object->path);
}

/* The kinds of change that progress can make to versioned properties. */
static bool versioned_change(const struct props *a, const struct props *b)
{
	return strcmp(a->v[JOB_TYPE].s, b->v[JOB_TYPE].s) != 0 || a->v[JOB_READY].b != b->v[JOB_READY].b ||
	       a->v[JOB_CANCELLABLE].b != b->v[JOB_CANCELLABLE].b;
}

void jobs_on_progress(struct connection *c, const struct progress *g)
{
	struct broker *b = c->broker;
	struct job *j = find_job(c, g->token);
	struct broker_listener *l, *next;
	unsigned changed = 0;
	struct props *p;
	bool bounded;

	p = j ? props_copy(j->object->props) : NULL;
	if (!p)
		return;
	bounded = g->total > 0;
	p->v[JOB_RUNNING_TIME].t = clock_monotonic(b->clock) - j->began;
	p->v[JOB_REMAINING_TIME].t = g->remaining;
	p->v[JOB_BYTES_TOTAL].t = g->total;
	p->v[JOB_BYTES_DONE].t = g->done;
	p->v[JOB_PERCENT].d = !bounded && g->percent <= 0 ? 0
			      : g->percent >= 0		   ? g->percent
			      : g->done >= g->total	   ? 100
						   : 100.0 * (double)g->done / (double)g->total;
	if (p->v[JOB_PERCENT].d > 100)
		p->v[JOB_PERCENT].d = 100;
	/* Unknown to the hypervisor: from the mean rate so far. */
	if (g->remaining == USEC_UNKNOWN && bounded && g->done > 0 && g->done <= g->total)
		p->v[JOB_REMAINING_TIME].t = (uint64_t)((double)p->v[JOB_RUNNING_TIME].t *
							((double)(g->total - g->done) / (double)g->done));
	p->v[JOB_READY].b = g->ready;
	p->v[JOB_CANCELLABLE].b = g->cancellable && c->driver->cancel;
	if (props_set_s(p, JOB_TYPE, bounded || p->v[JOB_PERCENT].d > 0 ? "bounded" : "unbounded") < 0) {
		props_unref(p);
		return;
	}
	if (versioned_change(p, j->object->props)) {
		broker_emit(b, j->object, "Updated", g->ready && !j->object->props->v[JOB_READY].b ? "ready" : "", false, p,
			    NULL);
		return;
	}
	for (unsigned i = 0; i < JOB_PROP_MAX; i++)
		if (!props_value_equal(p, j->object->props, i))
			changed |= 1u << i;
	props_unref(j->object->props);
	j->object->props = p;
	for (l = b->listeners; l && changed; l = next) {
		next = l->next;
		if (l->progress)
			l->progress(j->object, changed, l->userdata);
	}
}

/* After a restart nobody can tell how a job of the last run ended. */
void jobs_restored(struct broker *b)
{
	struct object *o, *tmp;
	enum kind k;

	DL_FOREACH_SAFE(b->first[KIND_JOB], o, tmp)
	{
		struct job *j = calloc(1, sizeof(*j));

		if (!j)
			return;
		j->broker = b;
		j->object = o;
		j->target = strdup(o->props->v[JOB_OBJECT].s);
		for (unsigned op = 0; op < OP_ALL; op++)
			if (operation_table[op].name && strcmp(operation_table[op].name, o->props->v[JOB_OPERATION].s) == 0)
				j->operation = (enum operation)op;
		j->ended = j->began = clock_monotonic(b->clock);
		o->job = j;
		if (strcmp(o->props->v[JOB_STATE].s, "running") == 0) {
			j->running = true;
			fail(j, VIREO_OUTCOME_UNKNOWN, "The broker was restarted while the job ran");
		}
	}
	/* None runs any more, so no object has any. */
	for (k = KIND_DOMAIN; k <= KIND_NETWORK; k++)
		DL_FOREACH_SAFE(b->first[k], o, tmp)
		if (o->props->v[jobs_index(k)].as[0])
			update_jobs_property(b, o->path);
	arm_keep(b);
}

/* ---- from clients -------------------------------------------------------------------------------------------------- */

int broker_wait(struct object *job, call_done_fn done, void *userdata)
{
	struct job *j = job->job;
	struct job_waiter *w;

	if (!j->running) {
		broker_answer(j->broker, done, userdata, &j->failure, NULL);
		return 0;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->done = done;
	w->userdata = userdata;
	LL_APPEND(j->waiters, w);
	return 0;
}

void broker_release(struct object *job, void *userdata)
{
	struct job_waiter *w, *tmp;

	LL_FOREACH_SAFE(job->job->waiters, w, tmp)
	if (w->userdata == userdata) {
		LL_DELETE(job->job->waiters, w);
		free(w);
	}
}

void broker_job_refresh(struct object *job)
{
	struct job *j = job->job;
	struct props *p;

	if (!j || !j->running)
		return;
	p = props_copy(job->props);
	if (!p)
		return;
	p->v[JOB_RUNNING_TIME].t = clock_monotonic(j->broker->clock) - j->began;
	props_unref(job->props);
	job->props = p;
}

static int check_running(const struct object *job, struct failure *f)
{
	if (!job->job->running)
		return failure_set(f, VIREO_INVALID_STATE, "The job has ended already: it is %s", job->props->v[JOB_STATE].s);
	return 0;
}

int broker_cancel(struct broker *b, struct object *job, struct failure *f)
{
	struct job *j = job->job;
	struct props *p;
	int r;

	r = check_running(job, f);
	if (r != 0)
		return r;
	/* What the guest was only asked for can be waited for no longer; the request itself cannot be taken back. */
	if (j->accepted) {
		fail(j, VIREO_CANCELLED, "No longer waited for");
		broker_flush(b);
		return 0;
	}
	if (!j->connection || !j->connection->driver->cancel || !job->props->v[JOB_CANCELLABLE].b)
		return failure_set(f, VIREO_NOT_CANCELLABLE, "The operation “%s” cannot be cancelled",
				   operation_table[j->operation].name);
	p = props_copy(job->props);
	if (!p)
		return -ENOMEM;
	p->v[JOB_CANCEL_REQUESTED].b = true;
	if (!job->props->v[JOB_CANCEL_REQUESTED].b)
		broker_emit(b, job, "Updated", "cancel-requested", false, TAKE(p), NULL);
	props_unref(p);
	j->connection->driver->cancel(j->connection->dc, j->token);
	broker_flush(b);
	return 0;
}

int broker_complete(struct broker *b, struct object *job, struct failure *f)
{
	struct job *j = job->job;
	int r;

	r = check_running(job, f);
	if (r != 0)
		return r;
	if (!j->connection || !j->connection->driver->complete)
		return failure_set(f, VIREO_NOT_SUPPORTED, "The operation “%s” completes by itself",
				   operation_table[j->operation].name);
	if (!job->props->v[JOB_READY].b)
		return failure_set(f, VIREO_INVALID_STATE, "The job is not ready to be completed yet");
	j->connection->driver->complete(j->connection->dc, j->token);
	return 0;
}
