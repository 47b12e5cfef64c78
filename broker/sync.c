/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <utlist.h>

/*
 * "Tell me when everything that had happened before now has been told": each connection makes a listing that begins
 * after the call (a listing is posted behind the reports of what it covers), and settles what the listing left open.
 */
struct broker_sync {
	struct broker *broker;
	struct broker_sync_part *parts;
	struct timer timer;
	bool over; /* the answer is on its way */
	struct failure failure;
	broker_sync_fn done;
	void *userdata;
};

static void free_parts(struct broker_sync *s)
{
	for (struct broker_sync_part *p = s->parts, *next; p; p = next) {
		next = p->sibling;
		DL_DELETE(p->connection->syncs, p);
		free(p);
	}
	s->parts = NULL;
}

/* From the loop, so never from inside broker_sync(), and behind what was told. */
static void on_over(struct timer *t, void *userdata)
{
	struct broker_sync *s = userdata;
	struct broker *b = s->broker;

	broker_flush(b);
	s->done(&s->failure, history_version(b->history), s->userdata);
	failure_clear(&s->failure);
	free(s);
}

static void end(struct broker_sync *s)
{
	free_parts(s);
	s->over = true;
	timer_in(s->broker->clock, &s->timer, 0, on_over, s);
}

static void on_timeout(struct timer *t, void *userdata)
{
	struct broker_sync *s = userdata;

	failure_set(&s->failure, VIREO_TIMEOUT, "%s has not answered in time", s->parts->connection->object->path);
	end(s);
}

static void part_done(struct broker_sync_part *part)
{
	struct broker_sync *s = part->sync;

	DL_DELETE(part->connection->syncs, part);
	LL_DELETE2(s->parts, part, sibling);
	free(part);
	if (!s->parts)
		end(s);
}

void sync_progressed(struct connection *c)
{
	struct broker_sync_part *part, *tmp;

	if (!c->syncs || reconcile_looking(c, false))
		return;
	DL_FOREACH_SAFE(c->syncs, part, tmp)
	if (c->listing.done >= part->serial) {
		if (c->listing.failed) {
			failure_set(&part->sync->failure, VIREO_OPERATION_FAILED, "%s could be listed only in part",
				    c->object->path);
		}
		part_done(part);
	}
}

void sync_lost(struct connection *c, const char *why)
{
	while (c->syncs) {
		struct broker_sync *s = c->syncs->sync;

		failure_set(&s->failure, VIREO_DISCONNECTED, "%s is not connected: %s", c->object->path, why);
		end(s);
	}
}

static struct broker_sync *begin(struct broker *b, struct object *const *connections, size_t n, bool reconnect,
				 uint64_t timeout, broker_sync_fn done, void *userdata)
{
	struct broker_sync *s = calloc(1, sizeof(*s));
	struct connection *c;

	if (!s)
		return NULL;
	s->broker = b;
	s->done = done;
	s->userdata = userdata;
	timer_in(b->clock, &s->timer, timeout, on_timeout, s);
	DL_FOREACH(b->connections, c)
	{
		struct broker_sync_part *part;
		bool wanted = n == 0;

		for (size_t i = 0; i < n; i++)
			wanted |= connections[i] == c->object;
		if (!wanted)
			continue;
		if (c->link != LINK_UP && !reconnect) {
			/* Named, it was to be covered, and is not; unnamed, only what is connected was asked for. */
			if (n == 0)
				continue;
			failure_set(&s->failure, VIREO_DISCONNECTED, "%s is not connected", c->object->path);
			end(s);
			return s;
		}
		part = calloc(1, sizeof(*part));
		if (!part) {
			broker_sync_cancel(s);
			return NULL;
		}
		part->sync = s;
		part->connection = c;
		/* The listing behind the hello has a later serial; and when it isn't reached, sync_lost() ends this. */
		part->serial = c->link == LINK_UP ? connection_list(c) : b->next_serial++;
		DL_APPEND(c->syncs, part);
		LL_PREPEND2(s->parts, part, sibling);
		if (c->link == LINK_DOWN)
			connection_retry(c);
	}
	if (!s->parts)
		end(s);
	return s;
}

struct broker_sync *broker_sync(struct broker *b, struct object *const *connections, size_t n, uint64_t timeout,
				broker_sync_fn done, void *userdata)
{
	return begin(b, connections, n, false, timeout, done, userdata);
}

struct broker_sync *broker_resync(struct broker *b, struct object *connection, uint64_t timeout, broker_sync_fn done,
				  void *userdata)
{
	struct broker_sync *s = begin(b, &connection, 1, true, timeout, done, userdata);

	broker_flush(b);
	return s;
}

void broker_sync_cancel(struct broker_sync *s)
{
	free_parts(s);
	timer_clear(&s->timer);
	failure_clear(&s->failure);
	free(s);
}
