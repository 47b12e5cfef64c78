/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <limits.h>
#include <string.h>

#include "jobs.h"
#include "util/log.h"

/*
 * Following: causes come in on libvirt's loop, wait in their object's queue, and are posted by a looker together
 * with a look, or by the keeper without one.
 */

/* How long a cause waits: for a look under way; for a looker to be free; when nothing is known of the object yet. */
#define LATE_LOOKING (50 * USEC_PER_MSEC)
#define LATE_WAITING (1 * USEC_PER_SEC)
#define LATE_UNKNOWN (5 * USEC_PER_SEC)

/* Causes unposted at which libvirt's loop waits, so that a flood slows the hypervisor instead of filling memory. */
#define UNPOSTED_MAX 20000

#define NEVER UINT64_MAX

/* ---- objects ---------------------------------------------------------------------------------------------- */

struct lv_object *lv_object_get(struct driver_connection *c, enum kind kind, sd_id128_t uuid)
{
	struct lv_key key = {uuid, kind};
	struct lv_object *o;

	HASH_FIND(hh, c->objects, &key, sizeof(key), o);
	if (o)
		return o;
	o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	o->key = key;
	o->causes_tail = &o->causes;
	pthread_mutex_init(&o->post, NULL);
	HASH_ADD(hh, c->objects, key, sizeof(o->key), o);
	return o;
}

void lv_object_ref(struct lv_object *o)
{
	o->refs++;
}

static void free_object(struct driver_connection *c, struct lv_object *o)
{
	HASH_DEL(c->objects, o);
	if (o->handle)
		lv_handle_free(o->key.kind, o->handle);
	pthread_mutex_destroy(&o->post);
	free(o);
}

/* Nobody holds it, nothing waits, and it is not there: then it need not be remembered. */
static void forget_if_idle(struct driver_connection *c, struct lv_object *o)
{
	if (o->refs == 0 && !o->known && !o->causes && !o->wanted && !o->queued && !o->busy && !o->relook)
		free_object(c, o);
}

void lv_object_unref(struct driver_connection *c, struct lv_object *o)
{
	o->refs--;
	forget_if_idle(c, o);
}

void lv_object_set_handle(struct lv_object *o, void *handle)
{
	void *old = o->handle;

	o->handle = lv_handle_ref(o->key.kind, handle);
	if (old)
		lv_handle_free(o->key.kind, old);
}

void lv_release_handles(struct driver_connection *c)
{
	pthread_mutex_lock(&c->lock);
	for (struct lv_object *o = c->objects; o; o = o->hh.next) {
		if (o->handle)
			lv_handle_free(o->key.kind, o->handle);
		o->handle = NULL;
	}
	pthread_mutex_unlock(&c->lock);
}

void lv_objects_free(struct driver_connection *c)
{
	struct lv_object *o, *next;

	HASH_ITER(hh, c->objects, o, next)
		free_object(c, o);
}

/* ---- the line of objects that wait ------------------------------------------------------------------------- */

static void line_append(struct lv_line *line, struct lv_object *o)
{
	o->next = NULL;
	o->prev = line->tail;
	*(line->tail ? &line->tail->next : &line->head) = o;
	line->tail = o;
}

static void line_remove(struct lv_line *line, struct lv_object *o)
{
	*(o->prev ? &o->prev->next : &line->head) = o->next;
	*(o->next ? &o->next->prev : &line->tail) = o->prev;
	o->prev = o->next = NULL;
}

static void look_work(struct driver_connection *c, void *data);

void lv_object_want(struct driver_connection *c, struct lv_object *o)
{
	bool urgent = o->causes != NULL || o->relook;

	if (c->closing || c->ended || o->busy || (!urgent && (!o->wanted || o->operating > 0)))
		return;
	if (o->queued) {
		if (urgent && !o->urgent) {
			line_remove(&c->patient, o);
			line_append(&c->urgent, o);
			o->urgent = true;
		}
		return;
	}
	o->queued = true;
	o->urgent = urgent;
	line_append(urgent ? &c->urgent : &c->patient, o);
	/* One piece of work for each object in line; which one takes which doesn't matter. */
	if (!lv_submit(c, c->lookers, look_work, NULL, NULL))
		log_error("libvirt: no memory for a look; it waits for the next.");
}

/* ---- causes ----------------------------------------------------------------------------------------------- */

void lv_cause_free(struct lv_cause *k)
{
	if (!k)
		return;
	free(k->name);
	free(k->reason);
	vdict_free(k->details);
	free(k);
}

void lv_cause_received(struct driver_connection *c, enum kind kind, sd_id128_t uuid, void *handle, struct lv_cause *k)
{
	struct lv_object *o;

	pthread_mutex_lock(&c->lock);
	while (c->n_unposted >= UNPOSTED_MAX && !c->closing && !c->ended)
		pthread_cond_wait(&c->room, &c->lock);
	o = c->closing || c->ended ? NULL : lv_object_get(c, kind, uuid);
	if (!o) {
		pthread_mutex_unlock(&c->lock);
		lv_cause_free(k);
		return;
	}
	lv_object_set_handle(o, handle);
	k->object = o;
	k->at = lv_now();
	k->serial = ++c->cause_serial;
	o->events++;
	*o->causes_tail = k;
	o->causes_tail = &k->next;
	k->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = k;
	c->newest = k;
	c->n_unposted++;
	lv_object_want(c, o);
	/* The keeper follows what is looked at; beyond that it need not know of each cause, only come now and then. */
	lv_wake_keeper(c, o->late ? 0 : o->looking ? o->began + LATE_LOOKING : k->at + LATE_WAITING);
	pthread_mutex_unlock(&c->lock);
}

/* Under the lock: the first @n causes of @o, as a list of their own. They stay in the list of those not posted. */
static struct lv_cause *take_causes(struct lv_object *o, unsigned n)
{
	struct lv_cause *head = o->causes, **end = &o->causes;

	for (unsigned i = 0; i < n && *end; i++)
		end = &(*end)->next;
	if (end == &o->causes)
		return NULL;
	o->causes = *end;
	if (!o->causes)
		o->causes_tail = &o->causes;
	*end = NULL;
	return head;
}

static unsigned count_causes(const struct lv_object *o)
{
	unsigned n = 0;

	for (const struct lv_cause *k = o->causes; k; k = k->next)
		n++;
	return n;
}

/* Under the lock: they were posted. Frees them. */
static void causes_posted(struct driver_connection *c, struct lv_cause *list)
{
	while (list) {
		struct lv_cause *k = list;

		list = k->next;
		*(k->older ? &k->older->newer : &c->oldest) = k->newer;
		*(k->newer ? &k->newer->older : &c->newest) = k->older;
		c->n_unposted--;
		lv_cause_free(k);
	}
	pthread_cond_broadcast(&c->room);
}

void lv_drop_causes(struct driver_connection *c)
{
	for (struct lv_object *o = c->objects; o; o = o->hh.next) {
		causes_posted(c, take_causes(o, UINT_MAX));
		o->relook = false;
	}
}

void lv_post_view(struct driver_connection *c, struct lv_object *o, struct lv_cause *k, struct lv_view *v, bool settled,
		  uint64_t listing)
{
	struct report *r = report_new(REPORT_OBSERVATION);
	struct observation *n;

	if (!r) {
		log_error("libvirt: no memory for a report; it is lost.");
		return;
	}
	n = &r->observation;
	n->kind = o->key.kind;
	n->uuid = o->key.uuid;
	n->listing = listing;
	if (k) {
		n->cause = k->cause;
		n->name = TAKE(k->name);
		n->reason = TAKE(k->reason);
		n->run = k->run;
		n->event = k->event ? strdup(k->event) : NULL;
		n->details = TAKE(k->details);
	}
	if (v) {
		n->look = v->look;
		n->settled = settled && v->look != LOOK_FAILED;
		n->seen = TAKE(v->seen);
		n->error = TAKE(v->error);
	}
	driver_host_post(c->host, r);
}

/*
 * With the object's post lock: one look for all, since looks run ahead of their causes anyway. The first cause needs it as
 * much as the last: it alone tells a paused start from an ordinary one, and gives a name to what is new. That
 * something is gone is for the last to say: the others are of when it was there.
 */
static void post_causes(struct driver_connection *c, struct lv_object *o, struct lv_cause *list, struct lv_view *v)
{
	for (struct lv_cause *k = list; k; k = k->next) {
		struct lv_view ahead = {LOOK_NONE, NULL, NULL};

		if (k->next && k->cause == CAUSE_NONE)
			continue;
		if (k->next && v->look == LOOK_SEEN) {
			ahead.seen = seen_copy(v->seen);
			ahead.look = ahead.seen ? LOOK_SEEN : LOOK_NONE;
		}
		lv_post_view(c, o, k, k->next ? &ahead : v, false, 0);
	}
}

/* ---- lookers ---------------------------------------------------------------------------------------------- */

/* Under the lock. */
static void look_begins(struct driver_connection *c, struct lv_object *o)
{
	o->looking = true;
	o->late = false;
	o->flushed = 0;
	o->began = lv_now();
	for (size_t i = 0; i < ELEMENTS(c->looking); i++)
		if (!c->looking[i]) {
			c->looking[i] = o;
			break;
		}
}

static void look_ends(struct driver_connection *c, struct lv_object *o)
{
	o->looking = o->late = false;
	for (size_t i = 0; i < ELEMENTS(c->looking); i++)
		if (c->looking[i] == o)
			c->looking[i] = NULL;
}

/* Under the lock; leaves it to look. The handle is the caller's. */
static void look_now(struct driver_connection *c, struct lv_object *o, const struct lv_facts *facts, struct lv_view *v)
{
	void *handle = o->handle ? lv_handle_ref(o->key.kind, o->handle) : NULL;

	look_begins(c, o);
	if (o->causes)
		lv_wake_keeper(c, o->began + LATE_LOOKING);
	pthread_mutex_unlock(&c->lock);
	lv_look(c, o->key.kind, o->key.uuid, handle, facts, v);
	if (handle)
		lv_handle_free(o->key.kind, handle);
}

/* Paused as by a job: nothing else announces a dump of memory. */
static bool is_job_reason(const char *reason)
{
	return strcmp(reason, "saving") == 0 || strcmp(reason, "dumping") == 0 || strcmp(reason, "migrating") == 0;
}

/* Under the lock, which is left meanwhile; the object is busy. */
static void look_for_causes(struct driver_connection *c, struct lv_object *o)
{
	unsigned n = count_causes(o);
	struct lv_cause *list = NULL;
	struct lv_view v = {0};
	bool late, useful, there;

	o->relook = false;
	look_now(c, o, NULL, &v);

	pthread_mutex_lock(&o->post);
	pthread_mutex_lock(&c->lock);
	late = o->late;
	/* What came after the look began is newer than it: a look of its own. */
	useful = !late || o->flushed <= n;
	look_ends(c, o);
	there = v.look == LOOK_SEEN;
	if (there && o->key.kind == KIND_DOMAIN && v.seen->state == DOMAIN_PAUSED && !c->closing && !c->ended &&
	    is_job_reason(v.seen->state_reason))
		lv_foreign_suspect(c, o->key.uuid);
	if (c->closing || c->ended) {
		pthread_mutex_unlock(&c->lock);
		pthread_mutex_unlock(&o->post);
		lv_view_clear(&v);
		pthread_mutex_lock(&c->lock);
		return;
	}
	if (late)
		o->relook = !useful;
	else
		list = take_causes(o, n);
	pthread_mutex_unlock(&c->lock);

	if (list)
		post_causes(c, o, list, &v);
	else if (useful)
		lv_post_view(c, o, NULL, &v, false, 0);

	pthread_mutex_lock(&c->lock);
	if (useful && v.look != LOOK_FAILED)
		o->known = there;
	causes_posted(c, list);
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_unlock(&o->post);
	lv_view_clear(&v);
	lv_post_listed(c);
	pthread_mutex_lock(&c->lock);
}

/* Under the lock, which is left meanwhile; the object is busy, no cause waits. */
static void look_for_items(struct driver_connection *c, struct lv_object *o)
{
	struct lv_item *items = TAKE(o->wanted);
	unsigned long events = o->events, creations = c->creations;
	struct lv_facts facts = o->facts;
	struct lv_view v = {0};
	bool good = facts.phase == FACTS_THERE && facts.events == events;

	/* Who asked later wants to know what is now. */
	for (struct lv_item *i = items; i; i = i->next)
		good = good && i->listed;
	o->facts = (struct lv_facts){0};
	look_now(c, o, good ? &facts : NULL, &v);
	pthread_mutex_lock(&c->lock);
	if (o->flushed > 0)
		o->relook = true;
	look_ends(c, o);
	lv_items_looked(c, o, items, events, creations, &v);
	pthread_mutex_unlock(&c->lock);
	lv_view_clear(&v);
	pthread_mutex_lock(&c->lock);
}

static void look_work(struct driver_connection *c, void *data)
{
	struct lv_line *line;
	struct lv_object *o;

	pthread_mutex_lock(&c->lock);
	line = c->urgent.head ? &c->urgent : &c->patient;
	o = line->head;
	if (o && !c->closing && !c->ended) {
		line_remove(line, o);
		o->queued = o->urgent = false;
		o->busy = true;
		if (o->causes || o->relook)
			look_for_causes(c, o);
		else if (o->wanted && o->operating == 0)
			look_for_items(c, o);
		o->busy = false;
		lv_object_want(c, o);
		forget_if_idle(c, o);
	}
	pthread_mutex_unlock(&c->lock);
}

/* ---- the keeper's part ------------------------------------------------------------------------------------- */

/* Under the lock: when the causes of @o that wait are late. */
static uint64_t late_at(const struct lv_object *o)
{
	if (!o->causes)
		return NEVER;
	if (!o->known)
		return o->causes->at + LATE_UNKNOWN;
	if (o->late)
		return 0;
	return o->looking ? o->began + LATE_LOOKING : o->causes->at + LATE_WAITING;
}

/* Under the lock: the next object to be posted for at @now, or NULL and when to come again. */
static struct lv_object *find_late(struct driver_connection *c, uint64_t now, uint64_t *ret_at)
{
	uint64_t next = NEVER;

	for (size_t i = 0; i < ELEMENTS(c->looking); i++) {
		uint64_t at = c->looking[i] ? late_at(c->looking[i]) : NEVER;

		if (at <= now)
			return c->looking[i];
		next = at < next ? at : next;
	}
	for (struct lv_cause *k = c->oldest; k; k = k->newer) {
		uint64_t at;

		/* They are in order of arrival: none behind this one has waited so long. */
		if (k->at + LATE_WAITING > now) {
			next = k->at + LATE_WAITING < next ? k->at + LATE_WAITING : next;
			break;
		}
		at = late_at(k->object);
		if (at <= now)
			return k->object;
		next = at < next ? at : next;
	}
	*ret_at = next;
	return NULL;
}

/* @now: UINT64_MAX when everything is late. */
static void post_without_look(struct driver_connection *c, struct lv_object *o, uint64_t now)
{
	struct lv_cause *list = NULL;
	struct lv_view v;

	pthread_mutex_lock(&o->post);
	pthread_mutex_lock(&c->lock);
	/* A looker may have been quicker. */
	if (o->causes && late_at(o) <= now && !c->closing && !c->ended) {
		unsigned n = count_causes(o);

		if (o->looking) {
			o->late = true;
			o->flushed += n;
		} else {
			o->relook = true;
			lv_object_want(c, o);
		}
		list = take_causes(o, n);
	}
	pthread_mutex_unlock(&c->lock);
	for (struct lv_cause *k = list; k; k = k->next) {
		v = (struct lv_view){LOOK_FAILED, NULL, strdup("looking takes long; it follows")};
		lv_post_view(c, o, k, &v, false, 0);
		lv_view_clear(&v);
	}
	pthread_mutex_lock(&c->lock);
	causes_posted(c, list);
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_unlock(&o->post);
	lv_post_listed(c);
}

uint64_t lv_post_late(struct driver_connection *c)
{
	uint64_t at = NEVER;

	for (;;) {
		uint64_t now = lv_now();
		struct lv_object *o;

		pthread_mutex_lock(&c->lock);
		o = c->closing || c->ended ? NULL : find_late(c, now, &at);
		if (o)
			lv_object_ref(o);
		pthread_mutex_unlock(&c->lock);
		if (!o)
			return at;
		post_without_look(c, o, now);
		pthread_mutex_lock(&c->lock);
		lv_object_unref(c, o);
		pthread_mutex_unlock(&c->lock);
	}
}

void lv_post_all(struct driver_connection *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->oldest && !c->closing) {
		struct lv_object *o = NULL;

		for (struct lv_cause *k = c->oldest; k && !o; k = k->newer)
			if (k->object->causes)
				o = k->object;
		if (!o) {
			/* Others are posting the rest just now. */
			pthread_cond_wait(&c->room, &c->lock);
			continue;
		}
		lv_object_ref(o);
		pthread_mutex_unlock(&c->lock);
		post_without_look(c, o, UINT64_MAX);
		pthread_mutex_lock(&c->lock);
		lv_object_unref(c, o);
	}
	pthread_mutex_unlock(&c->lock);
}
