/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "history-private.h"
#include "util/log.h"

/*
 * What history keeps in memory: every object as it was last put (the broker has the same property sets and texts, so
 * this costs little), and the newest events. From these two a store that was found damaged is written anew.
 */

/* ---- objects --------------------------------------------------------------------------------------------- */

struct kept *history_kept(struct history *h, const char *path)
{
	struct kept *k;

	HASH_FIND_STR(h->kept, path, k);
	return k;
}

struct kept *history_keep(struct history *h, const char *path)
{
	_cleanup_(freep) struct kept *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->path = strdup(path);
	if (!k->path)
		return NULL;
	HASH_ADD_KEYPTR(hh, h->kept, k->path, strlen(k->path), k);
	return TAKE(k);
}

void history_kept_free(struct history *h, struct kept *k)
{
	HASH_DEL(h->kept, k);
	free(k->path);
	free(k->connection);
	free(k->extra);
	props_unref(k->props);
	text_unref(k->xml);
	text_unref(k->xml_inactive);
	text_unref(k->live.text);
	text_unref(k->inactive.text);
	free(k);
}

void history_mark_dirty(struct history *h, struct kept *k)
{
	if (k->dirty)
		return;
	k->dirty = true;
	k->next_dirty = h->dirty;
	h->dirty = k;
}

void history_link_text(struct stored_text *s, struct text *t, int64_t id)
{
	struct text *old = s->text;

	s->text = text_ref(t);
	s->id = id;
	text_unref(old);
}

/* What was dirty is in the store, or will never be. */
void history_settle(struct history *h)
{
	struct kept *next;

	for (struct kept *k = h->dirty; k; k = next) {
		next = k->next_dirty;
		k->next_dirty = NULL;
		k->dirty = k->written = false;
		if (k->gone) {
			history_kept_free(h, k);
			continue;
		}
		history_link_text(&k->live, k->xml, k->new_live);
		history_link_text(&k->inactive, k->xml_inactive, k->new_inactive);
	}
	h->dirty = NULL;
}

static int replace_string(char **s, const char *by)
{
	char *copy;

	if (*s == by || (*s && by && strcmp(*s, by) == 0))
		return 0;
	copy = by ? strdup(by) : NULL;
	if (by && !copy)
		return -ENOMEM;
	free(*s);
	*s = copy;
	return 0;
}

static void replace_text(struct text **t, struct text *by)
{
	struct text *old = *t;

	*t = text_ref(by);
	text_unref(old);
}

int history_put(struct history *h, enum kind kind, const char *path, const char *connection, uint64_t version,
		uint64_t incarnation, struct props *props, struct text *xml, struct text *xml_inactive,
		const char *extra)
{
	struct kept *k = history_kept(h, path);
	struct props *old;

	if (!k) {
		k = history_keep(h, path);
		if (!k)
			return -ENOMEM;
		k->id = h->store.next_id++;
	}
	if (replace_string(&k->connection, connection ? connection : "/") < 0 || replace_string(&k->extra, extra) < 0)
		return -ENOMEM;
	k->gone = false;
	k->kind = kind;
	k->version = version;
	k->incarnation = incarnation;
	old = k->props;
	k->props = props_ref(props);
	props_unref(old);
	replace_text(&k->xml, xml);
	replace_text(&k->xml_inactive, xml_inactive);
	history_mark_dirty(h, k);
	return 0;
}

int history_forget(struct history *h, const char *path)
{
	struct kept *k = history_kept(h, path);

	if (!k)
		return 0;
	k->gone = true;
	history_mark_dirty(h, k);
	return 0;
}

static int by_kind(const void *a, const void *b)
{
	const struct kept *x = *(struct kept *const *)a, *y = *(struct kept *const *)b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

int history_load(struct history *h, history_object_fn fn, void *userdata)
{
	size_t n = HASH_COUNT(h->kept), i = 0;
	_cleanup_(freep) struct kept **all = calloc(n + 1, sizeof(*all));
	struct kept *k, *next;

	if (!all)
		return -ENOMEM;
	HASH_ITER(hh, h->kept, k, next)
		all[i++] = k;
	/* In order of appearance, connections first; and the callee may put and forget meanwhile. */
	qsort(all, n, sizeof(*all), by_kind);
	for (i = 0; i < n; i++) {
		struct history_object o = {
			.kind = all[i]->kind,
			.path = all[i]->path,
			.connection = all[i]->connection,
			.version = all[i]->version,
			.incarnation = all[i]->incarnation,
			.props = all[i]->props,
			.xml = all[i]->xml,
			.xml_inactive = all[i]->xml_inactive,
			.extra = all[i]->extra,
		};
		int r;

		if (all[i]->gone)
			continue;
		r = fn(&o, userdata);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the newest events ----------------------------------------------------------------------------------- */

void history_raise_oldest(struct history *h, uint64_t oldest)
{
	if (oldest > h->oldest)
		h->oldest = oldest;
}

/* The oldest of the ring goes. */
static void ring_evict(struct history *h)
{
	struct event *e = ring_at(h, 0);
	bool unwritten = h->ring_n == h->ring_unwritten;

	h->ring_bytes -= h->ring_cost[h->ring_first];
	h->ring_first = (h->ring_first + 1) % RING_EVENTS;
	h->ring_n--;
	h->ring_floor = h->ring_below = e->version;
	if (unwritten || h->detached)
		history_raise_oldest(h, e->version + 1);
	if (unwritten) {
		h->ring_unwritten--;
		if (!h->lost) {
			h->lost = true;
			log_id(LOG_CRIT, LOG_ID_HISTORY_LOST,
			       "The history in %s has been unwritable for too long: events are lost to it, from version "
			       "%" PRIu64 " on. Clients that follow live go on.",
			       h->directory, e->version);
		}
	}
	event_unref(e);
}

/* XML that is held by this event alone, or nearly so. */
static uint32_t cost(struct history *h, const struct event *e)
{
	const struct kept *k = history_kept(h, e->path);
	size_t n = 0;

	if (e->xml && !(k && (text_equal(k->xml, e->xml) || text_equal(k->xml_inactive, e->xml))))
		n += e->xml->size;
	if (e->xml_inactive && !(k && text_equal(k->xml_inactive, e->xml_inactive)))
		n += e->xml_inactive->size;
	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* Takes the reference. */
static void ring_add(struct history *h, struct event *e, bool unwritten)
{
	size_t at;
	uint32_t bytes = cost(h, e);

	while (h->ring_n == RING_EVENTS || (h->ring_n > 0 && h->ring_bytes + bytes > RING_BYTES))
		ring_evict(h);
	at = (h->ring_first + h->ring_n) % RING_EVENTS;
	h->ring[at] = e;
	h->ring_cost[at] = bytes;
	h->ring_bytes += bytes;
	h->ring_n++;
	if (unwritten)
		h->ring_unwritten++;
}

void history_batch_to_ring(struct history *h, bool unwritten)
{
	for (size_t i = 0; i < h->n_batch; i++)
		ring_add(h, h->batch[i], unwritten);
	h->n_batch = 0;
	h->committed = h->version;
}
