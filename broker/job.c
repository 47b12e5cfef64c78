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

static const char *text_property(const struct object *o)
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
	if (f->error == VIREO_OK)
		p->v[JOB_PERCENT].d = 100;
	p->v[JOB_READY].b = p->v[JOB_CANCELLABLE].b = false;
	if (f->error && f->error != VIREO_CANCELLED) {
		const char *pair[] = {vireo_error_name(f->error), NULL, NULL};

		/* The broker's own sentence is for everybody; the hypervisor's words are not. */
		if (asprintf(&sentence, "The operation “%s” failed", operation_table[j->operation].name) < 0)
			sentence = NULL;
		pair[1] = sentence ? sentence : "";
		(void)props_set_as(p, JOB_ERROR, pair);
		details = vdict_new();
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
	free(j->result.text);
	free(j->target);
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
	if (r->failure.error == VIREO_OK && j->until) {
		struct object *target = broker_find(c->broker, j->target);

		if (target && target->life.active) {
			j->accepted = true;
			return;
		}
	}
	finish(j, r, &r->failure);
}

void jobs_on_event(struct connection *c, const struct object *o, const char *event)
{
	struct job *j, *tmp;
	const struct failure none = {0};

	DL_FOREACH_SAFE(c->jobs, j, tmp)
	{
		if (!j->until || strcmp(j->target, o->path) != 0)
			continue;
		if (strcmp(event, j->until) == 0 || strcmp(event, "Stopped") == 0 || strcmp(event, "Removed") == 0) {
			/* It may come before the driver says that the guest has accepted. */
			if (j->accepted)
				finish(j, NULL, &none);
			else
				j->until = NULL;
		}
	}
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
		for (unsigned op = 0; op < OP_MAX; op++)
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

static void ignore_xml_error(void *userdata, const char *format, ...)
{
}

/* Is it XML at all? Where it isn't, libxml2 knows the line and the column. Whether it says anything sensible, the driver knows. */
static int check_xml(const char *xml, struct failure *f)
{
	_cleanup_(freep) char *message = NULL;
	xmlParserCtxtPtr ctx = xmlNewParserCtxt();
	const xmlError *e;
	xmlDocPtr doc;
	int r = 0;

	if (!ctx)
		return -ENOMEM;
	xmlSetGenericErrorFunc(NULL, ignore_xml_error);
	doc = xmlCtxtReadMemory(ctx, xml, (int)strlen(xml), NULL, NULL,
				XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (!doc) {
		e = xmlCtxtGetLastError(ctx);
		message = e && e->message ? strdup(e->message) : NULL;
		if (message)
			message[strcspn(message, "\n")] = 0;
		r = failure_set(f, VIREO_INVALID_XML, "line %d, column %d: %s", e ? e->line : 0, e ? e->int2 : 0,
				message ? message : "not well-formed");
	} else if (doc->intSubset)
		r = failure_set(f, VIREO_INVALID_XML, "A document type declaration is not allowed");
	xmlFreeDoc(doc);
	xmlFreeParserCtxt(ctx);
	return r;
}

static bool takes_xml(enum operation op)
{
	switch (op) {
	case OP_DEFINE_DOMAIN:
	case OP_CREATE_DOMAIN:
	case OP_DEFINE_POOL:
	case OP_CREATE_POOL:
	case OP_DEFINE_NETWORK:
	case OP_CREATE_NETWORK:
	case OP_DOMAIN_ATTACH_DEVICE:
	case OP_DOMAIN_DETACH_DEVICE:
	case OP_DOMAIN_UPDATE_DEVICE:
	case OP_POOL_CREATE_VOLUME:
		return true;
	default:
		return false;
	}
}

/* The connection names what it supports; "Domain.Start". */
static bool supported(const struct connection *c, const struct operation_def *def)
{
	_cleanup_(freep) char *name = NULL;

	if (!c->driver->operate || asprintf(&name, "%s.%s", def->interface, def->method) < 0)
		return false;
	for (char **s = c->object->props->v[CONNECTION_SUPPORTED_OPERATIONS].as; *s; s++)
		if (strcmp(*s, name) == 0)
			return true;
	return false;
}

/* What every operation has to pass. */
static int check(const struct call *call, struct failure *f)
{
	const struct operation_def *def = &operation_table[call->operation];
	const struct object *o = call->object;
	const struct connection *c = o->connection;

	if (!c || c->link != LINK_UP)
		return failure_set(f, VIREO_DISCONNECTED, "%s is not connected: its hypervisor cannot be asked now",
				   c ? c->object->path : o->path);
	if (!supported(c, def))
		return failure_set(f, VIREO_NOT_SUPPORTED, "%s of %s is not supported by %s", def->method, def->interface,
				   c->object->props->v[CONNECTION_URI].s);
	return 0;
}

static struct request *make_request(struct broker *b, const struct call *call)
{
	_cleanup_(request_freep) struct request *r = calloc(1, sizeof(*r));
	const struct object *o = call->object;

	if (!r)
		return NULL;
	r->fd = -1;
	r->token = b->next_token++;
	r->operation = call->operation;
	r->kind = o->kind;
	r->uuid = o->kind == KIND_CONNECTION ? SD_ID128_NULL : o->uuid;
	r->name = strdup(text_property(o));
	r->text = call->text ? strdup(call->text) : NULL;
	r->text2 = call->text2 ? strdup(call->text2) : NULL;
	r->number = call->number;
	r->flag = call->flag;
	r->options = call->options ? vdict_copy(call->options) : vdict_new();
	if (!r->name || (call->text && !r->text) || (call->text2 && !r->text2) || !r->options)
		return NULL;
	return TAKE(r);
}

/* P21: what changes an object waits for nobody, it is refused while a job begun here runs on it. */
static int check_busy(struct connection *c, const struct call *call, struct failure *f)
{
	struct job *j;

	if (operation_table[call->operation].overrides || call->object->kind == KIND_CONNECTION)
		return 0;
	DL_FOREACH(c->jobs, j)
	if (!j->foreign && strcmp(j->target, call->object->path) == 0)
		return failure_set(f, VIREO_BUSY, "%s is busy: the operation “%s” is running, as %s",
				   text_property(call->object), operation_table[j->operation].name, j->object->path);
	return 0;
}

int broker_submit(struct broker *b, const struct call *call, call_done_fn done, void *userdata,
		  struct object **ret_job, struct failure *f)
{
	const struct operation_def *def = &operation_table[call->operation];
	struct connection *c = call->object->connection;
	_cleanup_(request_freep) struct request *request = NULL;
	struct object *o = NULL;
	struct job_waiter *w = NULL;
	struct job *j = NULL;
	struct props *p;
	int r;

	r = check(call, f);
	if (r == 0 && call->has_if_version && call->if_version != call->object->version)
		r = failure_set(f, VIREO_VERSION_MISMATCH, "%s is at version %" PRIu64 ", not at %" PRIu64,
				text_property(call->object), call->object->version, call->if_version);
	if (r == 0)
		r = check_busy(c, call, f);
	if (r == 0 && takes_xml(call->operation))
		r = check_xml(call->text ? call->text : "", f);
	if (r != 0)
		return r;

	request = make_request(b, call);
	/* Its path comes with its version. */
	o = object_new(KIND_JOB, "", c);
	j = calloc(1, sizeof(*j));
	w = calloc(1, sizeof(*w));
	if (!request || !o || !j || !w)
		goto no_memory;
	j->broker = b;
	j->object = o;
	j->connection = c;
	j->token = request->token;
	j->operation = call->operation;
	j->target = strdup(call->object->path);
	j->began = clock_monotonic(b->clock);
	if (def->request && vdict_b(call->options, "wait", false))
		j->until = call->operation == OP_DOMAIN_SHUTDOWN       ? "Stopped"
			   : call->operation == OP_DOMAIN_REBOOT       ? "Rebooted"
			   : call->operation == OP_DOMAIN_SET_MEMORY   ? "BalloonChanged"
			   : call->operation == OP_DOMAIN_DETACH_DEVICE ? "DeviceRemoved"
								       : NULL;
	p = props_copy(o->props);
	if (!p || !j->target || props_set_s(p, JOB_OBJECT, call->object->path) < 0 ||
	    props_set_s(p, JOB_OPERATION, def->name) < 0 || props_set_s(p, JOB_TYPE, "unbounded") < 0 ||
	    props_set_s(p, JOB_STATE, "running") < 0) {
		props_unref(p);
		goto no_memory;
	}
	p->v[JOB_REMAINING_TIME].t = USEC_UNKNOWN;
	p->v[JOB_STARTED_BY].u = call->uid;
	request->fd = call->fd;

	j->running = true;
	o->job = j;
	o->stored_connection = strdup(c->object->path);
	DL_APPEND(c->jobs, j);
	if (done) {
		w->done = done;
		w->userdata = userdata;
		LL_APPEND(j->waiters, w);
	} else
		free(w);
	broker_emit(b, o, "Added", def->name, false, p, NULL);
	timer_in(b->clock, &j->timer, NAMED_AFTER, on_named, j);
	c->driver->operate(c->dc, TAKE(request));
	*ret_job = o;
	broker_flush(b);
	return 0;

no_memory:
	if (j)
		free(j->target);
	free(j);
	free(w);
	object_free(o);
	return -ENOMEM;
}

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

/* ---- queries ------------------------------------------------------------------------------------------------------- */

struct broker_query {
	struct broker *broker;
	struct connection *connection;
	uint64_t token;
	call_done_fn done; /* NULL: nobody waits any more */
	void *userdata;
	struct broker_query *prev, *next;
};

static void end_query(struct broker_query *q, const struct failure *f, struct result *r)
{
	if (q->done)
		broker_answer(q->broker, q->done, q->userdata, f, r);
	DL_DELETE(q->broker->queries, q);
	free(q);
}

bool queries_on_result(struct connection *c, struct result *r)
{
	struct broker_query *q;

	DL_FOREACH(c->broker->queries, q)
	if (q->connection == c && q->token == r->token) {
		struct failure f = r->failure;

		r->failure = (struct failure){0};
		end_query(q, &f, r);
		failure_clear(&f);
		return true;
	}
	return false;
}

void queries_lost(struct connection *c, const char *why)
{
	struct failure f = {0};
	struct broker_query *q, *tmp;

	failure_set(&f, VIREO_DISCONNECTED, "%s", why);
	DL_FOREACH_SAFE(c->broker->queries, q, tmp)
	if (q->connection == c)
		end_query(q, &f, NULL);
	failure_clear(&f);
}

int broker_query(struct broker *b, const struct call *call, call_done_fn done, void *userdata,
		 struct broker_query **ret, struct failure *f)
{
	struct request *request;
	struct broker_query *q;
	int r;

	r = check(call, f);
	if (r != 0)
		return r;
	request = make_request(b, call);
	q = calloc(1, sizeof(*q));
	if (!request || !q) {
		request_free(request);
		free(q);
		return -ENOMEM;
	}
	q->broker = b;
	q->connection = call->object->connection;
	q->token = request->token;
	q->done = done;
	q->userdata = userdata;
	DL_APPEND(b->queries, q);
	*ret = q;
	q->connection->driver->operate(q->connection->dc, request);
	return 0;
}

void broker_query_cancel(struct broker_query *q)
{
	/* The hypervisor's answer will come all the same, and find nobody. */
	q->done = NULL;
}
