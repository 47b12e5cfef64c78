/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <stdio.h>
#include <string.h>

#include "errors.h"
#include "loop.h"
#include "ops.h"
#include "util/log.h"

/*
 * Settled looks: of all objects (a listing), of one, and of one behind an operation. Each is a batch that goes round
 *
 *     wanted ──► looked at (lookers) ──► barrier (settler) ──► nothing came since: posted
 *       ▲                                                            │ something came
 *       └────────────────────────────────────────────────────────────┘
 *
 * The barrier: libvirtd queues an event before it answers the call that caused it, but sends from its own loop, so the answer
 * to a second round trip on the event connection can't overtake it; and what arrived is dispatched by a timer
 * of libvirt's loop here, which has fired when the loop has gone round once more.
 */

#define ROUND_TRIPS 2
#define LOOP_TURNS 2
#define TRIES_MAX 8

enum batch_type { BATCH_LIST, BATCH_LOOK, BATCH_OPERATION };

/* Everything under driver_connection.lock, but what the thread that has the batch in hand alone uses. */
struct lv_batch {
	enum batch_type type;
	struct lv_batch *prev, *next; /* in driver_connection.batches */
	struct lv_batch *queue_next;  /* in settling or fenced */
	unsigned refs;		      /* of that list, of whoever has it in hand, of each item that waits for a look */
	bool dead;		      /* was answered otherwise, or nobody listens any more */
	uint64_t serial;
	bool complete[KIND_MAX];
	char *error;
	struct lv_op *op; /* owned */
	struct lv_item *items;
	unsigned to_look;
	uint64_t fence; /* the newest cause when it was done */
};

/* ---- batches ---------------------------------------------------------------------------------------------- */

/* Under the lock, as everything here. */
static void batch_unref(struct driver_connection *c, struct lv_batch *b)
{
	if (--b->refs > 0)
		return;
	while (b->items) {
		struct lv_item *i = b->items;

		b->items = i->batch_next;
		lv_view_clear(&i->view);
		lv_object_unref(c, i->object);
		free(i);
	}
	if (b->op)
		lv_op_unref(c, b->op);
	free(b->error);
	free(b);
}

static void batch_unlink(struct driver_connection *c, struct lv_batch *b)
{
	*(b->prev ? &b->prev->next : &c->batches) = b->next;
	if (b->next)
		b->next->prev = b->prev;
	b->prev = b->next = NULL;
	batch_unref(c, b);
}

static struct lv_batch *batch_new(struct driver_connection *c, enum batch_type type, uint64_t serial)
{
	struct lv_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->type = type;
	b->serial = serial;
	b->refs = 1;
	b->next = c->batches;
	if (c->batches)
		c->batches->prev = b;
	c->batches = b;
	return b;
}

static struct lv_item *batch_add(struct lv_batch *b, struct lv_object *o)
{
	struct lv_item *i = o ? calloc(1, sizeof(*i)) : NULL;

	if (!i)
		return NULL;
	lv_object_ref(o);
	i->object = o;
	i->batch = b;
	i->batch_next = b->items;
	b->items = i;
	return i;
}

static void settle_work(struct driver_connection *c, void *data);

/* Every item was looked at. */
static void batch_looked(struct driver_connection *c, struct lv_batch *b)
{
	bool alone = !c->settling;

	b->refs++;
	b->queue_next = c->settling;
	c->settling = b;
	/* The settler takes all that are there: one barrier serves many. */
	if (alone && !lv_submit(c, c->settler, settle_work, NULL, NULL))
		log_error("libvirt: no memory to settle a look.");
}

/* Have looked at what isn't answered yet. */
static void batch_round(struct driver_connection *c, struct lv_batch *b)
{
	b->to_look = 1; /* so that it doesn't end while it is begun */
	for (struct lv_item *i = b->items; i; i = i->batch_next) {
		if (i->done)
			continue;
		b->to_look++;
		b->refs++;
		i->next = i->object->wanted;
		i->object->wanted = i;
		lv_object_want(c, i->object);
	}
	if (--b->to_look == 0)
		batch_looked(c, b);
}

void lv_items_looked(struct driver_connection *c, struct lv_object *o, struct lv_item *items, unsigned long events,
		     unsigned long creations, struct lv_view *v)
{
	while (items) {
		struct lv_item *i = items;
		struct lv_batch *b = i->batch;

		items = i->next;
		if (!b->dead) {
			i->events = events;
			i->creations = creations;
			i->view.look = v->look;
			if (v->seen)
				i->view.seen = items ? seen_copy(v->seen) : TAKE(v->seen);
			if (v->error)
				i->view.error = strdup(v->error);
			if (i->view.look == LOOK_SEEN && !i->view.seen)
				i->view.look = LOOK_FAILED;
			if (--b->to_look == 0)
				batch_looked(c, b);
		}
		batch_unref(c, b);
	}
}

/* ---- settling --------------------------------------------------------------------------------------------- */

static bool make_barrier(struct driver_connection *c)
{
	unsigned long version;

	for (unsigned i = 0; i < ROUND_TRIPS; i++)
		/* libvirtd answers this itself, at once; and unlike most cheap questions, it is really asked. */
		if (virConnectGetLibVersion(c->events, &version) < 0)
			return false;
	return lv_loop_turns(LOOP_TURNS) == 0;
}

static void post_listed(struct driver_connection *c, struct lv_batch *b, const char *error)
{
	struct report *r = report_new(REPORT_LISTED);

	if (!r)
		return;
	r->listed.serial = b->serial;
	if (!error)
		memcpy(r->listed.complete, b->complete, sizeof(b->complete));
	r->listed.error = error ? strdup(error) : TAKE(b->error);
	driver_host_post(c->host, r);
}

void lv_post_listed(struct driver_connection *c)
{
	struct lv_batch *ready = NULL, **b;

	pthread_mutex_lock(&c->lock);
	for (b = &c->fenced; *b;) {
		struct lv_batch *f = *b;

		if (c->oldest && c->oldest->serial <= f->fence) {
			b = &f->queue_next;
			continue;
		}
		*b = f->queue_next;
		f->queue_next = ready;
		ready = f;
	}
	pthread_mutex_unlock(&c->lock);
	while (ready) {
		struct lv_batch *f = ready;

		ready = f->queue_next;
		pthread_mutex_lock(&c->lock);
		if (f->dead) {
			batch_unref(c, f);
			pthread_mutex_unlock(&c->lock);
			continue;
		}
		f->dead = true;
		batch_unlink(c, f);
		pthread_mutex_unlock(&c->lock);
		post_listed(c, f, NULL);
		pthread_mutex_lock(&c->lock);
		batch_unref(c, f);
		pthread_mutex_unlock(&c->lock);
	}
}

/* Every item is answered. Not under the lock; the caller holds a reference. */
static void batch_done(struct driver_connection *c, struct lv_batch *b)
{
	struct lv_op *op = NULL;

	pthread_mutex_lock(&c->lock);
	if (!b->dead) {
		switch (b->type) {
		case BATCH_LIST:
			/* What was reported before is told before: also what belongs to objects that are not listed. */
			b->refs++;
			b->fence = c->cause_serial;
			b->queue_next = c->fenced;
			c->fenced = b;
			break;
		case BATCH_OPERATION:
			op = TAKE(b->op);
			/* fall through */
		case BATCH_LOOK:
			b->dead = true;
			batch_unlink(c, b);
			break;
		}
	}
	pthread_mutex_unlock(&c->lock);
	if (op)
		lv_op_finish(c, op);
	lv_post_listed(c);
}

/* Under the lock: may this item be answered now, and how? */
static bool item_judge(struct driver_connection *c, struct lv_batch *b, struct lv_item *i, bool barrier, bool *ret_settled)
{
	/* It may be what an operation is making just now; but the one that this is the end of has made it. */
	bool fresh = b->type != BATCH_OPERATION && !i->object->known && (c->creating > 0 || c->creations != i->creations);

	*ret_settled = false;
	if (i->view.look == LOOK_FAILED)
		return true;
	if (!barrier) {
		lv_view_clear(&i->view);
		i->view = (struct lv_view){LOOK_FAILED, NULL, strdup("the event connection does not answer")};
		return true;
	}
	if (i->object->events == i->events && !fresh) {
		*ret_settled = true;
		return true;
	}
	if (++i->tries < TRIES_MAX) {
		lv_view_clear(&i->view);
		return false;
	}
	/* It doesn't come to rest. A listing and an operation say what was seen last; a question has no answer. */
	if (b->type == BATCH_LOOK) {
		lv_view_clear(&i->view);
		i->view = (struct lv_view){LOOK_FAILED, NULL, strdup("events keep coming")};
	}
	return true;
}

/* The caller holds a reference. */
static void batch_settle(struct driver_connection *c, struct lv_batch *b, bool barrier)
{
	bool again = false;

	for (struct lv_item *i = b->items; i; i = i->batch_next) {
		struct lv_object *o = i->object;
		bool settled;

		pthread_mutex_lock(&o->post);
		pthread_mutex_lock(&c->lock);
		if (i->done || b->dead || c->closing) {
			pthread_mutex_unlock(&c->lock);
			pthread_mutex_unlock(&o->post);
			continue;
		}
		i->done = item_judge(c, b, i, barrier, &settled);
		again = again || !i->done;
		if (settled)
			o->known = i->view.look == LOOK_SEEN;
		pthread_mutex_unlock(&c->lock);
		if (i->done)
			lv_post_view(c, o, NULL, &i->view, settled, b->serial);
		pthread_mutex_unlock(&o->post);
	}
	if (!again) {
		batch_done(c, b);
		return;
	}
	pthread_mutex_lock(&c->lock);
	if (!b->dead && !c->closing)
		batch_round(c, b);
	pthread_mutex_unlock(&c->lock);
}

static void settle_work(struct driver_connection *c, void *data)
{
	struct lv_batch *list;
	bool barrier;

	pthread_mutex_lock(&c->lock);
	list = TAKE(c->settling);
	pthread_mutex_unlock(&c->lock);
	if (!list)
		return;
	barrier = make_barrier(c);
	while (list) {
		struct lv_batch *b = list;

		list = b->queue_next;
		if (!barrier)
			memset(b->complete, 0, sizeof(b->complete));
		batch_settle(c, b, barrier);
		pthread_mutex_lock(&c->lock);
		batch_unref(c, b);
		pthread_mutex_unlock(&c->lock);
	}
}

/* ---- the three kinds -------------------------------------------------------------------------------------- */

void lv_look_settled(struct driver_connection *c, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
	struct lv_view failed = {LOOK_FAILED};
	struct lv_object *o;
	struct lv_batch *b = NULL;
	bool begun = false;

	pthread_mutex_lock(&c->lock);
	o = c->closing ? NULL : lv_object_get(c, kind, uuid);
	if (!o) {
		pthread_mutex_unlock(&c->lock);
		return;
	}
	lv_object_ref(o);
	if (!c->ended)
		b = batch_new(c, BATCH_LOOK, serial);
	if (b && batch_add(b, o)) {
		begun = true;
		batch_round(c, b);
	} else if (b)
		batch_unlink(c, b);
	failed.error = begun ? NULL : strdup(c->ended ? "not connected" : "no memory");
	pthread_mutex_unlock(&c->lock);
	if (!begun)
		lv_post_view(c, o, NULL, &failed, false, serial);
	lv_view_clear(&failed);
	pthread_mutex_lock(&c->lock);
	lv_object_unref(c, o);
	pthread_mutex_unlock(&c->lock);
}

void lv_settle_operation(struct driver_connection *c, enum kind kind, sd_id128_t uuid, struct lv_op *op)
{
	struct lv_object *o;
	struct lv_batch *b = NULL;
	bool begun = false;

	pthread_mutex_lock(&c->lock);
	o = c->ended || c->closing ? NULL : lv_object_get(c, kind, uuid);
	b = o ? batch_new(c, BATCH_OPERATION, 0) : NULL;
	if (b && batch_add(b, o)) {
		b->op = op;
		begun = true;
		batch_round(c, b);
	} else if (b)
		batch_unlink(c, b);
	pthread_mutex_unlock(&c->lock);
	if (!begun)
		lv_op_finish(c, op);
}

static void list_failed(struct lv_batch *b, enum kind kind)
{
	_cleanup_(freep) char *text = lv_error_text();

	if (!b->error && asprintf(&b->error, "%ss cannot be listed: %s", kind_to_string(kind), text ? text : "no memory") < 0)
		b->error = NULL;
}

/* All objects of a kind: handles, owned, or -1. */
static int list_handles(struct driver_connection *c, enum kind kind, void ***ret)
{
	switch (kind) {
	case KIND_DOMAIN:
		return virConnectListAllDomains(c->events, (virDomainPtr **)ret, 0);
	case KIND_POOL:
		return virConnectListAllStoragePools(c->events, (virStoragePoolPtr **)ret, 0);
	default:
		return virConnectListAllNetworks(c->events, (virNetworkPtr **)ret, 0);
	}
}

static int handle_uuid(enum kind kind, void *handle, sd_id128_t *ret)
{
	switch (kind) {
	case KIND_DOMAIN:
		return virDomainGetUUID(handle, ret->bytes);
	case KIND_POOL:
		return virStoragePoolGetUUID(handle, ret->bytes);
	default:
		return virNetworkGetUUID(handle, ret->bytes);
	}
}

/* For fewer it isn't worth it. */
#define FACTS_MIN 4

/*
 * Under the lock: from here on whatever comes about a domain of @b counts, and an operation of our own makes its facts
 * void. Return: are they worth it?
 */
static bool await_facts(struct lv_batch *b)
{
	unsigned n = 0;

	for (struct lv_item *i = b->items; i; i = i->batch_next) {
		struct lv_object *o = i->object;

		o->facts = (struct lv_facts){.phase = o->operating == 0 ? FACTS_AWAITED : FACTS_NONE, .events = o->events};
		n++;
	}
	return n >= FACTS_MIN;
}

/* Not under the lock; @b has only domains yet. */
static void gather_facts(struct driver_connection *c, struct lv_batch *b)
{
	struct lv_fact_table *t = lv_fact_table_new(c);

	if (!t)
		return;
	pthread_mutex_lock(&c->lock);
	for (struct lv_item *i = b->items; i; i = i->batch_next) {
		const struct lv_facts *f = lv_fact_table_find(t, i->object->key.uuid);
		struct lv_object *o = i->object;

		if (!f || o->facts.phase != FACTS_AWAITED || o->facts.events != o->events)
			continue;
		f = &(struct lv_facts){FACTS_THERE, o->facts.events, f->state, f->reason, f->persistent, f->autostart,
				       f->managed_save};
		o->facts = *f;
		i->listed = true;
	}
	pthread_mutex_unlock(&c->lock);
	lv_fact_table_free(t);
}

static void list_work(struct driver_connection *c, void *data)
{
	static const enum kind kinds[] = {KIND_DOMAIN, KIND_POOL, KIND_NETWORK};
	struct lv_batch *b = data;

	for (size_t k = 0; k < ELEMENTS(kinds); k++) {
		void **handles = NULL;
		bool facts;
		int n;

		if (!c->has_kind[kinds[k]]) {
			b->complete[kinds[k]] = true;
			continue;
		}
		n = list_handles(c, kinds[k], &handles);
		if (n < 0) {
			list_failed(b, kinds[k]);
			continue;
		}
		b->complete[kinds[k]] = true;
		pthread_mutex_lock(&c->lock);
		for (int i = 0; i < n; i++) {
			sd_id128_t uuid;
			struct lv_object *o = NULL;

			if (handle_uuid(kinds[k], handles[i], &uuid) == 0)
				o = lv_object_get(c, kinds[k], uuid);
			if (o)
				lv_object_set_handle(o, handles[i]);
			if (!batch_add(b, o))
				b->complete[kinds[k]] = false;
			lv_handle_free(kinds[k], handles[i]);
		}
		facts = kinds[k] == KIND_DOMAIN && await_facts(b);
		pthread_mutex_unlock(&c->lock);
		free(handles);
		if (facts)
			gather_facts(c, b);
	}
	pthread_mutex_lock(&c->lock);
	if (!b->dead && !c->closing)
		batch_round(c, b);
	batch_unref(c, b);
	pthread_mutex_unlock(&c->lock);
}

static void drop_list_work(struct driver_connection *c, void *data)
{
	pthread_mutex_lock(&c->lock);
	batch_unref(c, data);
	pthread_mutex_unlock(&c->lock);
}

void lv_list(struct driver_connection *c, uint64_t serial)
{
	struct lv_batch *b, none = {.serial = serial};
	bool closing;

	pthread_mutex_lock(&c->lock);
	closing = c->closing;
	b = closing || c->ended ? NULL : batch_new(c, BATCH_LIST, serial);
	if (b) {
		b->refs++;
		if (!lv_submit(c, c->lister, list_work, b, drop_list_work)) {
			b->refs--;
			batch_unlink(c, b);
			b = NULL;
		}
	}
	pthread_mutex_unlock(&c->lock);
	if (!b && !closing)
		post_listed(c, &none, "not connected, or no memory");
}

/* ---- the end ---------------------------------------------------------------------------------------------- */

void lv_fail_batches(struct driver_connection *c, const char *why)
{
	struct lv_batch *dead = NULL;

	pthread_mutex_lock(&c->lock);
	for (struct lv_object *o = c->objects, *next; o; o = next) {
		next = o->hh.next;
		lv_object_ref(o);
		while (o->wanted) {
			struct lv_item *i = o->wanted;

			o->wanted = i->next;
			batch_unref(c, i->batch);
		}
		lv_object_unref(c, o);
	}
	for (struct lv_batch *b = TAKE(c->settling), *next; b; b = next) {
		next = b->queue_next;
		batch_unref(c, b);
	}
	for (struct lv_batch *b = TAKE(c->fenced), *next; b; b = next) {
		next = b->queue_next;
		batch_unref(c, b);
	}
	for (struct lv_batch *b = TAKE(c->batches), *next; b; b = next) {
		next = b->next;
		b->prev = NULL;
		b->dead = true;
		/* from here on the list is this function's own */
		b->next = dead;
		dead = b;
	}
	pthread_mutex_unlock(&c->lock);
	while (dead) {
		struct lv_batch *b = dead;

		dead = b->next;
		b->next = NULL;
		if (why && b->type == BATCH_LIST)
			post_listed(c, b, why);
		for (struct lv_item *i = b->items; why && i && b->type == BATCH_LOOK; i = i->batch_next) {
			struct lv_view v = {LOOK_FAILED, NULL, strdup(why)};

			/* done is constant now: nobody answers for a dead batch */
			if (!i->done)
				lv_post_view(c, i->object, NULL, &v, false, b->serial);
			lv_view_clear(&v);
		}
		pthread_mutex_lock(&c->lock);
		batch_unref(c, b);
		pthread_mutex_unlock(&c->lock);
	}
}
