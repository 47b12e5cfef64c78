/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

/*
 * Reports that may wait for the loop before threads that post more have to wait, and how many make one turn: so few that
 * calls are answered in between, and so many that the transaction that they share costs little.
 */
#define QUEUE_LIMIT 8192
#define QUEUE_BATCH 128

/* An answer that waits for the flush. */
struct ended {
	call_done_fn done;
	void *userdata;
	struct failure failure;
	struct report *report; /* holds the result, if any */
	struct ended *next;
};

/* ---- index ------------------------------------------------------------------------------------------------- */

static void index_add(struct broker *b, struct object *o)
{
	HASH_ADD_KEYPTR(by_path, b->by_path, o->path, strlen(o->path), o);
	if (o->connection && o->kind != KIND_CONNECTION && o->kind != KIND_JOB)
		HASH_ADD(by_uuid, o->connection->by_uuid[o->kind], uuid, sizeof(o->uuid), o);
	DL_APPEND(b->first[o->kind], o);
	b->count[o->kind]++;
}

static void index_remove(struct broker *b, struct object *o)
{
	HASH_DELETE(by_path, b->by_path, o);
	if (o->connection && o->kind != KIND_CONNECTION && o->kind != KIND_JOB)
		HASH_DELETE(by_uuid, o->connection->by_uuid[o->kind], o);
	DL_DELETE(b->first[o->kind], o);
	b->count[o->kind]--;
}

struct object *broker_find(struct broker *b, const char *path)
{
	struct object *o = NULL;

	HASH_FIND(by_path, b->by_path, path, strlen(path), o);
	return o;
}

struct object *broker_first(struct broker *b, enum kind kind)
{
	return b->first[kind];
}

size_t broker_count(struct broker *b, enum kind kind)
{
	return b->count[kind];
}

/* Name and UUID are the first two properties of every kind that has them. */
static_assert(DOMAIN_NAME == 0 && POOL_NAME == 0 && NETWORK_NAME == 0, "a name comes first");
static_assert(DOMAIN_UUID == 1 && POOL_UUID == 1 && NETWORK_UUID == 1, "a UUID comes second");

#define CANDIDATES_NAMED 10

int broker_lookup(struct broker *b, enum kind kind, const char *name_or_uuid,
		  bool (*sees)(const struct object *o, void *userdata), void *userdata, struct object **ret, struct failure *f)
{
	struct object *o, *found = NULL;
	sd_id128_t uuid;
	bool is_uuid;
	size_t n = 0;

	is_uuid = strlen(name_or_uuid) == 36 && sd_id128_from_string(name_or_uuid, &uuid) >= 0;
	/* A name may look like a UUID; a UUID is the stronger claim. */
	for (int by_uuid = is_uuid; by_uuid >= 0 && n == 0; by_uuid--)
		DL_FOREACH(b->first[kind], o)
		{
			if (by_uuid ? !sd_id128_equal(o->uuid, uuid) : strcmp(o->props->v[0].s, name_or_uuid) != 0)
				continue;
			if (sees && !sees(o, userdata))
				continue;
			found = o;
			n++;
		}
	if (n == 0)
		return failure_set(f, VIREO_NOT_FOUND, "No %s is called “%s”, and none has that UUID", kind_to_string(kind),
				   name_or_uuid);
	if (n == 1) {
		*ret = found;
		return 0;
	}

	_cleanup_(freep) char *names = strdup("");
	size_t named = 0;

	DL_FOREACH(b->first[kind], o)
	{
		char *more;

		if (!(is_uuid && sd_id128_equal(o->uuid, uuid)) && strcmp(o->props->v[0].s, name_or_uuid) != 0)
			continue;
		if (sees && !sees(o, userdata))
			continue;
		if (named++ == CANDIDATES_NAMED)
			break;
		if (asprintf(&more, "%s%s%s", names ? names : "", named > 1 ? ", " : "", o->path) < 0)
			break;
		free(names);
		names = more;
	}
	return failure_set(f, VIREO_AMBIGUOUS, "%zu %ss are called “%s”: %s%s", n, kind_to_string(kind), name_or_uuid,
			   names ? names : "", n > CANDIDATES_NAMED ? ", …" : "");
}

/* ---- events ------------------------------------------------------------------------------------------------ */

static bool grow(void *array, size_t n, size_t *size, size_t item)
{
	void **p = array, *bigger;
	size_t want = *size ? *size * 2 : 64;

	if (n < *size)
		return true;
	bigger = reallocarray(*p, want, item);
	if (!bigger)
		return false;
	*p = bigger;
	*size = want;
	return true;
}

/*
 * Out of memory in the middle of a change leaves records and history apart, with no honest way on: better to end, and
 * let the next start reconcile from what was committed.
 */
static void *must(void *p)
{
	if (!p) {
		log_error("out of memory in the middle of a change; ending, so that the next start finds the truth");
		_exit(EXIT_FAILURE);
	}
	return p;
}

static void mark_dirty(struct broker *b, struct object *o)
{
	if (o->dirty)
		return;
	must(grow(&b->dirty, b->dirty_n, &b->dirty_size, sizeof(*b->dirty)) ? b : NULL);
	b->dirty[b->dirty_n++] = o;
	o->dirty = true;
}

const char *object_connection_path(const struct object *o)
{
	return o->connection && o->connection->object ? o->connection->object->path : o->stored_connection;
}

void broker_emit(struct broker *b, struct object *o, const char *name, const char *reason, bool inferred,
		 struct props *props, const struct vdict *details)
{
	bool added = strcmp(name, "Added") == 0, removed = strcmp(name, "Removed") == 0;
	struct event *e;
	uint64_t version;
	size_t n;

	(void)props_schema(o->kind, &n);
	props = props ? props_pack(props) : must(props_copy(o->props));
	version = history_next(b->history);
	if (added && o->kind == KIND_JOB) {
		/* A job is named by the version that it came with. */
		free(o->path);
		must(asprintf(&o->path, OBJECT_PATH_JOBS "/_%" PRIu64, version) < 0 ? NULL : o->path);
	}
	e = must(event_new(o->kind, o->path, object_connection_path(o), name, reason));
	e->version = version;
	e->previous = added ? 0 : o->version;
	e->timestamp = clock_realtime(b->clock);
	e->inferred = inferred;
	e->details = details ? must(vdict_copy(details)) : NULL;
	if (added) {
		o->incarnation = e->version;
		/* Incarnation stands right before Version in the kinds that have one. */
		if (o->kind == KIND_DOMAIN || o->kind == KIND_POOL || o->kind == KIND_NETWORK)
			props->v[n - 2].t = e->version;
	}
	props->v[n - 1].t = e->version;
	e->before = added ? NULL : props_ref(o->props);
	e->props = props_ref(props);
	e->xml = text_ref(o->xml);
	e->xml_inactive = text_ref(o->xml_inactive);
	props_unref(o->props);
	o->props = props;
	o->version = e->version;

	must(grow(&b->batch, b->batch_n, &b->batch_size, sizeof(*b->batch)) ? b : NULL);
	b->batch[b->batch_n++] = e;
	if (history_append(b->history, e) < 0)
		log_debug("event %" PRIu64 " could not be kept", e->version);
	if (added) {
		index_add(b, o);
		mark_dirty(b, o);
	} else if (removed) {
		index_remove(b, o);
		(void)history_forget(b->history, o->path);
		o->gone = true;
		LL_PREPEND(b->graveyard, o);
	} else
		mark_dirty(b, o);
	if (o->connection)
		jobs_on_event(o->connection, o, name);
}

void broker_answer(struct broker *b, call_done_fn done, void *userdata, const struct failure *f, struct result *taken)
{
	struct ended *e = must(calloc(1, sizeof(*e)));

	e->done = done;
	e->userdata = userdata;
	if (f && f->error)
		failure_set(&e->failure, f->error, "%s", f->message ? f->message : "");
	if (taken) {
		e->report = must(report_new(REPORT_RESULT));
		e->report->result = *taken;
		memset(taken, 0, sizeof(*taken));
	}
	LL_APPEND(b->ended, e);
}

static void flush_once(struct broker *b)
{
	struct event **batch = b->batch;
	size_t n = b->batch_n;
	struct object *o, *tmp;
	struct ended *ended = b->ended, *e, *next;

	b->batch = NULL;
	b->batch_n = b->batch_size = 0;
	b->ended = NULL;
	for (size_t i = 0; i < b->dirty_n; i++) {
		o = b->dirty[i];
		o->dirty = false;
		if (o->gone)
			continue;
		if (history_put(b->history, o->kind, o->path, object_connection_path(o), o->version, o->incarnation, o->props,
				o->xml, o->xml_inactive, o->extra) < 0)
			log_debug("%s could not be kept", o->path);
	}
	b->dirty_n = 0;
	LL_FOREACH_SAFE(b->graveyard, o, tmp)
	{
		LL_DELETE(b->graveyard, o);
		object_free(o);
	}
	if (n > 0)
		history_commit(b->history);
	if (n > 0) {
		struct broker_listener *l, *following;

		for (l = b->listeners; l; l = following) {
			following = l->next;
			if (l->events)
				l->events(batch, n, l->userdata);
		}
	}
	for (size_t i = 0; i < n; i++)
		event_unref(batch[i]);
	free(batch);
	for (e = ended; e; e = next) {
		next = e->next;
		e->done(&e->failure, history_version(b->history), e->report ? &e->report->result : NULL, e->userdata);
		failure_clear(&e->failure);
		report_free(e->report);
		free(e);
	}
}

void broker_flush(struct broker *b)
{
	/* A listener or an answer may call back in; what that emits is told by the round that is already under way. */
	if (b->flushing)
		return;
	b->flushing = true;
	while (b->batch_n > 0 || b->ended || b->graveyard)
		flush_once(b);
	b->flushing = false;
}

void broker_add_listener(struct broker *b, struct broker_listener *l)
{
	LL_APPEND(b->listeners, l);
}

void broker_remove_listener(struct broker *b, struct broker_listener *l)
{
	LL_DELETE(b->listeners, l);
}

/* ---- life of the broker ------------------------------------------------------------------------------------ */

const char *broker_epoch(struct broker *b)
{
	return history_epoch(b->history);
}

uint64_t broker_version(struct broker *b)
{
	return history_version(b->history);
}

uint64_t broker_oldest(struct broker *b)
{
	return history_oldest(b->history);
}

struct history *broker_history(struct broker *b)
{
	return b->history;
}

struct clock *broker_clock(struct broker *b)
{
	return b->clock;
}

static void on_item(struct queue_item *item, void *userdata)
{
	struct report *r = (struct report *)item;
	struct connection *c = driver_host_owner(r->host);

	if (!c) {
		report_free(r);
		return;
	}
	connection_on_report(c, r);
}

static void on_drained(void *userdata)
{
	broker_flush(userdata);
}

static void on_drop(struct queue_item *item)
{
	report_free((struct report *)item);
}

static int on_stored(const struct history_object *s, void *userdata)
{
	struct broker *b = userdata;
	struct object *o;

	o = object_new(s->kind, s->path, NULL);
	if (!o)
		return -ENOMEM;
	o->version = s->version;
	o->incarnation = s->incarnation;
	props_unref(o->props);
	o->props = props_ref(s->props);
	o->xml = text_ref(s->xml);
	o->xml_inactive = text_ref(s->xml_inactive);
	o->stored_connection = strdup(s->connection);
	o->extra = s->extra ? strdup(s->extra) : NULL;
	if (!o->stored_connection || (s->extra && !o->extra)) {
		object_free(o);
		return -ENOMEM;
	}
	if (s->kind == KIND_DOMAIN || s->kind == KIND_POOL || s->kind == KIND_NETWORK) {
		if (sd_id128_from_string(o->props->v[DOMAIN_UUID].s, &o->uuid) < 0) {
			log_warning("%s: stored with a UUID that is none; it is left out", s->path);
			object_free(o);
			return 0;
		}
		look_life(o);
	}
	index_add(b, o);
	return 0;
}

static int by_incarnation(const struct object *a, const struct object *b)
{
	return a->incarnation < b->incarnation ? -1 : a->incarnation > b->incarnation;
}

int broker_new(const struct broker_config *config, sd_event *event, struct clock *clock, struct broker **ret,
	       struct failure *f)
{
	static const struct queue_ops ops = {.item = on_item, .drained = on_drained, .drop = on_drop};
	_cleanup_(broker_freep) struct broker *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->config = *config;
	if (!b->config.poll_interval)
		b->config.poll_interval = 2 * USEC_PER_SEC;
	if (!b->config.resync_interval)
		b->config.resync_interval = 300 * USEC_PER_SEC;
	if (!b->config.job_keep)
		b->config.job_keep = 60 * USEC_PER_SEC;
	b->event = event;
	b->clock = clock;
	b->next_token = b->next_serial = 1;
	r = history_open(&config->history, clock, &b->history, f);
	if (r != 0)
		return r;
	r = queue_new(event, &ops, b, QUEUE_LIMIT, QUEUE_BATCH, &b->queue);
	if (r < 0)
		return r;
	r = history_load(b->history, on_stored, b);
	if (r < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "cannot read the objects of the last run: %s", strerror(-r));
	/* In order of appearance, whatever the order in the store. */
	for (enum kind k = 0; k < KIND_MAX; k++)
		DL_SORT(b->first[k], by_incarnation);
	jobs_restored(b);
	broker_flush(b);
	*ret = TAKE(b);
	return 0;
}

void broker_free(struct broker *b)
{
	struct object *o, *tmp;
	struct connection *c, *ctmp;

	if (!b)
		return;
	DL_FOREACH(b->connections, c)
	jobs_lost(c, VIREO_OUTCOME_UNKNOWN, "The broker ended while the job ran");
	DL_FOREACH_SAFE(b->connections, c, ctmp)
	connection_free(c);
	if (b->queue) {
		queue_close(b->queue);
		queue_unref(b->queue);
	}
	/* Whoever still waits is told, and what the flush would tell is in history already. */
	b->listeners = NULL;
	if (b->history)
		broker_flush(b);
	timer_clear(&b->ready_timer);
	timer_clear(&b->keep_timer);
	HASH_ITER(by_path, b->by_path, o, tmp)
	{
		HASH_DELETE(by_path, b->by_path, o);
		object_free(o);
	}
	history_close(b->history);
	free(b->batch);
	free(b->dirty);
	free(b);
}
