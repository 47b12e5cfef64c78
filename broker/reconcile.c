/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

/*
 * Observations, through the grammar, into the records. Whatever the source (an event, a listing, a poll, a look of its
 * own), this is the one path from a driver's report to an event.
 */

/* A look that failed is tried again, ever more slowly; after so many nobody waits for it any more. */
#define LOOK_TRIES 3
#define LOOK_DELAY (100 * USEC_PER_MSEC)
#define LOOK_DELAY_MAX (10 * USEC_PER_SEC)

/* ---- looks -------------------------------------------------------------------------------------------------------- */

static struct look_request *find_look(struct connection *c, enum kind kind, sd_id128_t uuid)
{
	struct look_request *l;
	struct object_key key;

	memset(&key, 0, sizeof(key));
	key.kind = kind;
	key.uuid = uuid;
	HASH_FIND(hh, c->looks, &key, sizeof(key), l);
	return l;
}

static void set_listed(struct look_request *l, bool listed)
{
	if (listed && !l->listed)
		l->connection->looks_listed++;
	if (!listed && l->listed)
		l->connection->looks_listed--;
	l->listed = listed;
}

static void send_look(struct look_request *l)
{
	struct connection *c = l->connection;

	l->serial = c->broker->next_serial++;
	l->again = false;
	l->tries++;
	c->driver->look(c->dc, l->key.kind, l->key.uuid, l->serial);
}

static void on_look_timer(struct timer *t, void *userdata)
{
	struct look_request *l = userdata;
	struct broker *b = l->connection->broker;

	send_look(l);
	broker_flush(b);
}

/* @delay: before it is sent, µs. */
static void ask_look(struct connection *c, enum kind kind, sd_id128_t uuid, bool listed, uint64_t delay)
{
	struct look_request *l;

	if (c->link != LINK_UP)
		return;
	l = find_look(c, kind, uuid);
	if (l) {
		set_listed(l, l->listed || listed);
		l->again |= delay == 0;
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		log_error("out of memory; %s waits for the next resync", c->object->path);
		return;
	}
	l->key.kind = kind;
	l->key.uuid = uuid;
	l->connection = c;
	set_listed(l, listed);
	HASH_ADD(hh, c->looks, key, sizeof(l->key), l);
	if (delay > 0)
		timer_in(c->broker->clock, &l->timer, delay, on_look_timer, l);
	else
		send_look(l);
}

void reconcile_look(struct connection *c, enum kind kind, sd_id128_t uuid, bool listed)
{
	ask_look(c, kind, uuid, listed, 0);
}

static void free_look(struct look_request *l)
{
	timer_clear(&l->timer);
	set_listed(l, false);
	HASH_DELETE(hh, l->connection->looks, l);
	free(l);
}

/* @failed: nobody knows what it looks like; to be tried again, not at once. */
static void look_answered(struct look_request *l, bool failed)
{
	uint64_t delay;

	/* The listing has its answer, such as it is: what could not be looked at stays as it was known. */
	set_listed(l, false);
	l->serial = 0;
	if (!failed && !l->again) {
		free_look(l);
		return;
	}
	if (!failed) {
		l->tries = 0;
		send_look(l);
		return;
	}
	delay = LOOK_DELAY << (l->tries < 7 ? l->tries : 7);
	timer_in(l->connection->broker->clock, &l->timer, delay < LOOK_DELAY_MAX ? delay : LOOK_DELAY_MAX, on_look_timer, l);
}

bool reconcile_looking(struct connection *c, bool listed_only)
{
	struct look_request *l, *tmp;

	if (listed_only)
		return c->looks_listed > 0;
	/* One that has been tried in vain a few times is left to its timer: nobody shall wait for it for ever. */
	HASH_ITER(hh, c->looks, l, tmp)
	if (l->tries <= LOOK_TRIES)
		return true;
	return false;
}

/* ---- memory of unknown objects ------------------------------------------------------------------------------------- */

static struct early *find_early(struct connection *c, enum kind kind, sd_id128_t uuid)
{
	struct early *e;

	DL_FOREACH(c->early, e)
	if (e->kind == kind && sd_id128_equal(e->uuid, uuid))
		return e;
	return NULL;
}

static void drop_early(struct connection *c, struct early *e)
{
	DL_DELETE(c->early, e);
	c->early_n--;
	free(e);
}

static void remember_early(struct connection *c, enum kind kind, sd_id128_t uuid, const struct life *life)
{
	struct early *e = find_early(c, kind, uuid);

	if (life->early_run == 0) {
		if (e)
			drop_early(c, e);
		return;
	}
	if (!e) {
		if (c->early_n >= EARLY_MAX)
			drop_early(c, c->early);
		e = calloc(1, sizeof(*e));
		if (!e)
			return;
		e->kind = kind;
		e->uuid = uuid;
		DL_APPEND(c->early, e);
		c->early_n++;
	}
	e->life = *life;
}

/* ---- observations -------------------------------------------------------------------------------------------------- */

static struct object *find(struct connection *c, enum kind kind, sd_id128_t uuid)
{
	struct object *o = NULL;

	HASH_FIND(by_uuid, c->by_uuid[kind], &uuid, sizeof(uuid), o);
	return o;
}

static struct object *make(struct connection *c, const struct observation *ob)
{
	_cleanup_(freep) char *path = object_path(ob->kind, c->object->path, ob->uuid);
	struct object *o = path ? object_new(ob->kind, path, c) : NULL;
	char hex[SD_ID128_UUID_STRING_MAX];
	/* The same three of each kind. */
	static const unsigned connection_of[] = {[KIND_DOMAIN] = DOMAIN_CONNECTION, [KIND_POOL] = POOL_CONNECTION,
						 [KIND_NETWORK] = NETWORK_CONNECTION};

	if (!o)
		return NULL;
	o->uuid = ob->uuid;
	if (props_set_s(o->props, DOMAIN_UUID, sd_id128_to_uuid_string(ob->uuid, hex)) < 0 ||
	    props_set_s(o->props, connection_of[ob->kind], c->object->path) < 0) {
		object_free(o);
		return NULL;
	}
	return o;
}

/* Some reports mean another name on the bus, or carry what the event shall say. */
static struct vdict *details_of(const struct object *o, const struct observation *ob, const struct step *step,
				const struct seen *s)
{
	struct vdict *d;

	if (step->event == EVENT_OTHER)
		return vdict_copy(ob->details);
	if (step->event == EVENT_DEFINED && strcmp(step->reason, "renamed") == 0 && s) {
		d = vdict_new();
		if (d)
			(void)vdict_set_s(d, "old-name", o->props->v[DOMAIN_NAME].s);
		return d;
	}
	return NULL;
}

/* Owns @p, which may be NULL. */
static void update(struct connection *c, struct object *o, const struct observation *ob, bool xml, struct props *p)
{
	if (p && (xml || !props_equal(p, o->props)))
		broker_emit(c->broker, o, "Updated", "", ob->cause == CAUSE_NONE, TAKE(p), NULL);
	props_unref(p);
}

/*
 * Carry out a verdict. Return: 0; -EAGAIN when the object would appear, but nobody has seen what it looks like.
 */
static int apply(struct connection *c, struct object **po, const struct observation *ob, const struct verdict *v)
{
	struct broker *b = c->broker;
	const struct seen *s = ob->look == LOOK_SEEN ? ob->seen : NULL;
	struct object *o = *po;
	unsigned first = 0; /* the step that the look goes with */

	for (unsigned i = 0; i < v->n; i++)
		if (v->steps[i].event == EVENT_ADDED) {
			if (!s)
				return -EAGAIN;
			first = i;
		}
	for (unsigned i = 0; i < v->n; i++) {
		const struct step *step = &v->steps[i];
		_cleanup_(vdict_freep) struct vdict *details = NULL;
		const struct seen *with = NULL;
		struct props *p;

		if (!o) {
			o = make(c, ob);
			if (!o)
				return -ENOMEM;
		}
		if (i == first && (v->fill || step->event == EVENT_ADDED))
			with = s;
		details = details_of(o, ob, step, with);
		if (with)
			look_take_xml(o, s);
		o->life = step->after;
		/* Removed changes nothing. */
		p = step->event == EVENT_REMOVED ? NULL : look_fill(o, &step->after, with);
		if (!p && step->event != EVENT_REMOVED)
			return -ENOMEM;
		broker_emit(b, o, step->event == EVENT_OTHER ? ob->event : life_event_to_string(step->event), step->reason,
			    step->inferred, p, details);
		if (step->event == EVENT_REMOVED)
			o = NULL;
	}
	if (o) {
		o->life = v->after;
		/* What only a look shows, when it is of the very life that clients know. */
		if (s && v->fill && v->n == 0 && s->active == v->after.active) {
			bool xml = look_take_xml(o, s);

			update(c, o, ob, xml, look_fill(o, &v->after, s));
		} else if (s && ob->settled && v->n == 0 && s->starting && s->persistent && v->after.persistent && !v->after.active) {
			/* It can be left like that for good, by a libvirtd that was killed just then. */
			update(c, o, ob, false, look_fill_autostart(o, s));
		}
	}
	*po = o;
	return 0;
}

static void drop_held(struct connection *c, struct held_report *h)
{
	DL_DELETE(c->held, h);
	c->held_n--;
	report_free(h->report);
	free(h);
}

static void hold(struct connection *c, struct report *r)
{
	struct held_report *h = calloc(1, sizeof(*h));

	if (!h) {
		report_free(r);
		return;
	}
	if (c->held_n >= HELD_MAX)
		drop_held(c, c->held);
	h->report = r;
	DL_APPEND(c->held, h);
	c->held_n++;
}

/* The look at an object has been answered: what was held for it is judged now, or dropped if there is no such object. */
static void release_held(struct connection *c, enum kind kind, sd_id128_t uuid)
{
	struct held_report *h, *tmp;

	DL_FOREACH_SAFE(c->held, h, tmp)
	{
		struct observation *ob = &h->report->observation;
		struct object *o;
		struct verdict v;

		if (ob->kind != kind || !sd_id128_equal(ob->uuid, uuid))
			continue;
		o = find(c, kind, uuid);
		if (o) {
			/* Its own look is old by now. */
			ob->look = LOOK_NONE;
			lifecycle_judge(kind, &o->life, ob, &v);
			if (!v.hold)
				(void)apply(c, &o, ob, &v);
		}
		drop_held(c, h);
	}
}

/* Everything agrees: a look that only waited for an overdue report is needed no more. */
static void drop_overdue_look(struct connection *c, enum kind kind, sd_id128_t uuid)
{
	struct look_request *l = find_look(c, kind, uuid);

	if (!l || l->serial != 0 || l->tries > 0 || l->again || l->listed)
		return;
	free_look(l);
	connection_progressed(c);
}

void reconcile_observation(struct connection *c, struct report *r)
{
	struct observation *ob = &r->observation;
	struct look_request *l = NULL;
	struct object *o;
	struct early *e;
	struct life known = {.id = -1};
	struct verdict v;
	int result;

	if (ob->kind != KIND_DOMAIN && ob->kind != KIND_POOL && ob->kind != KIND_NETWORK) {
		log_warning("%s: the driver reported an object of kind %d", c->object->path, ob->kind);
		report_free(r);
		return;
	}
	if (ob->look == LOOK_SEEN && (!ob->seen || !ob->seen->name))
		ob->look = LOOK_FAILED;
	if (ob->cause == CAUSE_NONE && ob->listing != 0) {
		l = find_look(c, ob->kind, ob->uuid);
		if (l && l->serial != ob->listing)
			l = NULL;
	}
	o = find(c, ob->kind, ob->uuid);
	e = o ? NULL : find_early(c, ob->kind, ob->uuid);
	if (o)
		known = o->life;
	else if (e)
		known = e->life;
	/* Somebody else's look (a listing's) in the middle of a start says nothing yet; our own comes when it is overdue. */
	if (ob->cause == CAUSE_NONE && !l && known.early_run != 0 && c->driver->started_overdue > 0)
		ob->settled = false;
	lifecycle_judge(ob->kind, &known, ob, &v);
	if (v.hold) {
		reconcile_look(c, ob->kind, ob->uuid, false);
		hold(c, r);
		return;
	}
	result = apply(c, &o, ob, &v);
	if (result == -ENOMEM)
		log_error("out of memory; %s waits for the next resync", c->object->path);
	if (o && ob->listing != 0)
		o->seen_in = ob->listing;
	if (!o)
		remember_early(c, ob->kind, ob->uuid, &v.after);
	else if (find_early(c, ob->kind, ob->uuid))
		drop_early(c, find_early(c, ob->kind, ob->uuid));

	if (l) {
		if (ob->look == LOOK_FAILED)
			log_debug("%s: a look failed: %s", o ? o->path : c->object->path, ob->error ? ob->error : "");
		/* While nobody knows what it is, what is held for it waits on. */
		if (ob->look == LOOK_SEEN || ob->look == LOOK_GONE)
			release_held(c, ob->kind, ob->uuid);
		look_answered(l, ob->look != LOOK_SEEN && ob->look != LOOK_GONE);
		connection_progressed(c);
	} else if (v.settle || result < 0)
		/* No barrier shows that a Started is still to come: the look waits until it is overdue. */
		ask_look(c, ob->kind, ob->uuid, false, v.after.early_run != 0 ? c->driver->started_overdue : 0);
	else
		drop_overdue_look(c, ob->kind, ob->uuid);
	report_free(r);
}

void reconcile_listed(struct connection *c, const struct listed *listed)
{
	if (listed->serial != c->listing.serial || c->listing.ended)
		return;
	c->listing.ended = true;
	for (enum kind k = KIND_DOMAIN; k <= KIND_NETWORK; k++) {
		if (!listed->complete[k]) {
			c->listing.failed = true;
			continue;
		}
		/* What was not in it: look, before believing that it is gone. Added since it began, its end may have been lost as well. */
		for (struct object *o = c->by_uuid[k]; o; o = o->by_uuid.next)
			if (o->seen_in != listed->serial)
				reconcile_look(c, k, o->uuid, true);
	}
	if (c->listing.failed)
		log_warning("%s: listed only in part: %s", c->object->path, listed->error ? listed->error : "no reason given");
	connection_progressed(c);
}

void reconcile_close(struct broker *b, struct object *o)
{
	struct verdict v;

	lifecycle_close(&o->life, &v);
	/* It goes on, unseen: as it was known last. */
	for (unsigned i = 0; i < v.n; i++)
		broker_emit(b, o, life_event_to_string(v.steps[i].event), v.steps[i].reason, v.steps[i].inferred, NULL, NULL);
}

void reconcile_reset(struct connection *c)
{
	while (c->looks)
		free_look(c->looks);
	while (c->held)
		drop_held(c, c->held);
	while (c->early)
		drop_early(c, c->early);
}
