/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "outbox.h"

struct pending_key {
	sd_id128_t uuid;
	uint64_t kind; /* no padding: it is hashed as bytes */
};

struct sim_pending {
	struct pending_key key;
	unsigned n;
	uint64_t last_due;
	UT_hash_handle hh;
};

void sim_entry_free(struct sim_entry *e)
{
	if (!e)
		return;
	free(e->name);
	free(e->reason);
	free(e->event);
	vdict_free(e->details);
	seen_free(e->before);
	free(e->targets);
	request_free(e->request);
	report_free(e->report);
	free(e);
}

/* ---- the heap ----------------------------------------------------------------------------------------------- */

static bool earlier(const struct sim_entry *a, const struct sim_entry *b)
{
	if (a->due != b->due)
		return a->due < b->due;
	if (a->key != b->key)
		return a->key < b->key;
	return a->seq < b->seq;
}

static void sift_up(struct sim_outbox *b, size_t i)
{
	while (i > 0) {
		size_t parent = (i - 1) / 2;
		struct sim_entry *e = b->heap[i];

		if (!earlier(e, b->heap[parent]))
			break;
		b->heap[i] = b->heap[parent];
		b->heap[parent] = e;
		i = parent;
	}
}

static void sift_down(struct sim_outbox *b, size_t i)
{
	for (;;) {
		size_t least = i, left = 2 * i + 1;
		struct sim_entry *e = b->heap[i];

		if (left < b->n && earlier(b->heap[left], b->heap[least]))
			least = left;
		if (left + 1 < b->n && earlier(b->heap[left + 1], b->heap[least]))
			least = left + 1;
		if (least == i)
			break;
		b->heap[i] = b->heap[least];
		b->heap[least] = e;
		i = least;
	}
}

void sim_outbox_sort(struct sim_outbox *b)
{
	for (size_t i = b->n / 2; i-- > 0;)
		sift_down(b, i);
}

static struct sim_pending *find_pending(struct sim_outbox *b, enum kind kind, sd_id128_t uuid)
{
	struct pending_key key = {.uuid = uuid, .kind = kind};
	struct sim_pending *p = NULL;

	HASH_FIND(hh, b->pending, &key, sizeof(key), p);
	return p;
}

void sim_outbox_push(struct sim_outbox *b, struct sim_entry *e)
{
	e->seq = ++b->seq;
	if (e->type == ENTRY_EVENT) {
		struct sim_pending *p = find_pending(b, e->kind, e->uuid);

		if (!p) {
			p = sim_new(struct sim_pending);
			p->key = (struct pending_key){.uuid = e->uuid, .kind = e->kind};
			HASH_ADD(hh, b->pending, key, sizeof(p->key), p);
		}
		if (e->due < p->last_due)
			e->due = p->last_due;
		p->last_due = e->due;
		p->n++;
		b->n_events++;
	}
	if (b->n == b->size) {
		b->size = b->size ? 2 * b->size : 64;
		b->heap = sim_must(reallocarray(b->heap, b->size, sizeof(*b->heap)));
	}
	b->heap[b->n] = e;
	sift_up(b, b->n++);
}

struct sim_entry *sim_outbox_top(struct sim_outbox *b)
{
	return b->n > 0 ? b->heap[0] : NULL;
}

struct sim_entry *sim_outbox_pop(struct sim_outbox *b)
{
	struct sim_entry *e = b->heap[0];

	b->heap[0] = b->heap[--b->n];
	if (b->n > 0)
		sift_down(b, 0);
	if (e->type == ENTRY_EVENT) {
		struct sim_pending *p = find_pending(b, e->kind, e->uuid);

		b->n_events--;
		if (--p->n == 0) {
			HASH_DELETE(hh, b->pending, p);
			free(p);
		}
	}
	return e;
}

void sim_outbox_clear(struct sim_outbox *b)
{
	while (b->n > 0)
		sim_entry_free(sim_outbox_pop(b));
	free(b->heap);
	b->heap = NULL;
	b->size = 0;
}

unsigned sim_outbox_pending(struct sim_outbox *b, enum kind kind, sd_id128_t uuid, uint64_t *ret_due)
{
	struct sim_pending *p = find_pending(b, kind, uuid);

	if (ret_due)
		*ret_due = p ? p->last_due : 0;
	return p ? p->n : 0;
}

uint64_t sim_outbox_last_event(struct sim_outbox *b)
{
	uint64_t last = 0;

	for (struct sim_pending *p = b->pending; p; p = p->hh.next)
		if (p->last_due > last)
			last = p->last_due;
	return last;
}

void sim_outbox_release(struct sim_outbox *b, uint64_t now)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->heap[i]->due == USEC_UNKNOWN)
			b->heap[i]->due = now;
	for (struct sim_pending *p = b->pending; p; p = p->hh.next)
		if (p->last_due == USEC_UNKNOWN)
			p->last_due = now;
	sim_outbox_sort(b);
}

struct sim_entry *sim_outbox_find(struct sim_outbox *b, uint64_t token)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->heap[i]->request && b->heap[i]->request->token == token)
			return b->heap[i];
	return NULL;
}
