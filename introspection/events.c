/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <utlist.h>

#include "face.h"

/*
 * GetEvents: read history from a cursor on, in slices so that a long history and a narrow filter don't keep the loop;
 * at its end, wait for what comes, if nothing was found and the caller wants to.
 *
 *     reading ──► limit reached, another match found ──► answer, more
 *        │ ▲
 *        │ └───────── a match came ◄─┐
 *        └─ end: found some, or no timeout ──► answer; else ──► waiting ──► timeout ──► empty answer: a bookmark
 */
#define SLICE_EVENTS 256u	       /* read in one turn of the loop */
#define ANSWER_EVENTS 2500u	       /* "as many as fit": building the answer must not take long either */
#define ANSWER_BYTES ((size_t)8 << 20) /* likewise; a single event may be larger, up to the limit of a message */

struct poll {
	struct held held;
	struct filter *filter;
	uint64_t cursor;   /* everything up to it was looked at */
	uint64_t deadline; /* monotonic µs */
	uint32_t max;	   /* 0: as many as fit */
	uint64_t after;	   /* where it began */
	bool waiting;
	struct event **found; /* references */
	size_t n, size, bytes;
	bool more;
	bool too_large; /* the next one, by itself */
};

static void poll_free(struct held *h)
{
	struct poll *p = (struct poll *)h;

	if (p->waiting && h->peer)
		h->peer->n_polls--;
	for (size_t i = 0; i < p->n; i++)
		event_unref(p->found[i]);
	free(p->found);
	filter_free(p->filter);
}

static int append_event(sd_bus_message *m, const struct event *e, bool xml)
{
	int r = sd_bus_message_open_container(m, 'r', "ttsossta{sv}a{sv}");

	if (r >= 0)
		r = sd_bus_message_append(m, "ttsosst", e->version, e->previous, kind_to_string(e->kind), e->path, e->name,
					  e->reason, e->timestamp);
	if (r >= 0)
		r = append_props(m, e->props, xml ? e->xml : NULL, xml ? e->xml_inactive : NULL);
	if (r >= 0)
		r = append_details(m, e, false);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static void answer(struct poll *p)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r = held_begin(&p->held, &reply);

	if (r >= 0)
		r = sd_bus_message_append(reply, "tb", p->cursor, p->more);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(ttsossta{sv}a{sv})");
	for (size_t i = 0; r >= 0 && i < p->n; i++)
		r = append_event(reply, p->found[i], p->filter->xml);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	if (r < 0)
		held_errno(&p->held, r);
	else
		held_reply(&p->held, TAKE(reply));
}

static int keep(struct poll *p, struct event *e)
{
	if (p->n == p->size) {
		size_t size = p->size ? p->size * 2 : 16;
		struct event **bigger = reallocarray(p->found, size, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		p->found = bigger;
		p->size = size;
	}
	p->found[p->n++] = event_ref(e);
	return 0;
}

static bool wants(enum kind kind, const char *path, const char *connection, const char *name, void *userdata)
{
	return filter_wants_named(((struct poll *)userdata)->filter, kind, path, connection, name);
}

static int take(struct event *e, void *userdata)
{
	struct poll *p = userdata;
	size_t bytes = event_bytes(e, p->filter->xml);
	uint32_t max = p->max > 0 && p->max < ANSWER_EVENTS ? p->max : ANSWER_EVENTS;

	if (!rights_sees_event(p->filter->viewer, e))
		return HISTORY_MORE;
	if (p->n >= max || (p->n > 0 && p->bytes + bytes > ANSWER_BYTES)) {
		p->more = true;
		return HISTORY_NOT_THIS;
	}
	if (bytes > MESSAGE_BYTES_MAX) {
		p->more = p->too_large = true;
		return HISTORY_NOT_THIS;
	}
	p->bytes += bytes;
	return keep(p, e);
}

static void on_timer(struct timer *t, void *userdata);

static void read_on(struct held *h);

static void go_on_later(struct poll *p)
{
	timer_clear(&p->held.timer);
	if (p->held.viewer)
		held_in_turn(&p->held, read_on);
	else
		timer_in(p->held.face->clock, &p->held.timer, 0, on_timer, p);
}

static unsigned count_polls(const struct peer *p)
{
	return p->n_polls;
}

static void wait_for_more(struct poll *p)
{
	struct held *h = &p->held;
	unsigned n;
	uint64_t now = clock_monotonic(h->face->clock);

	if (p->n > 0 || p->deadline <= now) {
		answer(p);
		return;
	}
	if (h->viewer && h->peer->n_polls >= h->face->config.limits.polls) {
		held_failf(h, VIREO_LIMITS_EXCEEDED, "polls: %u calls of GetEvents by this caller wait already",
			   h->peer->n_polls);
		return;
	}
	if (h->viewer && (n = peer_user_sum(h->peer, count_polls)) >= PER_USER * h->face->config.limits.polls) {
		held_failf(h, VIREO_LIMITS_EXCEEDED, "polls: %u calls of GetEvents by this user wait already", n);
		return;
	}
	p->waiting = true;
	if (h->peer)
		h->peer->n_polls++;
	timer_in(h->face->clock, &h->timer, p->deadline - now, on_timer, p);
}

static void read_slice(struct poll *p)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct held *h = &p->held;
	struct broker *b = h->face->broker;
	struct history_query q = {
		.after = p->cursor, .scan = SLICE_EVENTS, .xml = p->filter->xml, .wants = wants, .fn = take, .userdata = p,
	};
	int r = history_read_some(broker_history(b), &q, &p->cursor, &f);

	if (r == VIREO_GONE)
		held_failf(h, VIREO_GONE, "version %" PRIu64 " is older than history: the oldest that can be followed is %"
			   PRIu64, p->cursor, face_oldest(h->face));
	else if (r != 0)
		held_refuse(h, r, &f);
	else if (p->too_large && p->n == 0)
		held_failf(h, VIREO_LIMITS_EXCEEDED, "the event after version %" PRIu64
			   " is by itself larger than a message may be; use Watch", p->cursor);
	else if (p->more)
		answer(p);
	else if (p->cursor >= broker_version(b))
		wait_for_more(p);
	else if (p->deadline + CALL_WAIT_MAX <= clock_monotonic(h->face->clock))
		answer(p); /* of a history that grows faster than it is read: so far, so good */
	else
		go_on_later(p);
}

static void on_timer(struct timer *t, void *userdata)
{
	struct poll *p = userdata;

	if (p->waiting)
		answer(p);
	else
		read_slice(p);
}

static void read_on(struct held *h)
{
	read_slice((struct poll *)h);
}

static void poll_go(struct held *h)
{
	if (!rights_moved(h, ((struct poll *)h)->after))
		held_in_turn(h, read_on);
}

static const struct held_ops poll_ops = {.go = poll_go, .free = poll_free};

void events_wake(struct face *f, struct event *const *events, size_t n)
{
	struct held *h, *tmp;

	DL_FOREACH_SAFE(f->held, h, tmp)
	{
		struct poll *p = (struct poll *)h;
		bool wanted = false;

		if (h->ops != &poll_ops || !p->waiting)
			continue;
		for (size_t i = 0; i < n && !wanted; i++)
			wanted = filter_wants_event(p->filter, events[i]);
		if (wanted) {
			p->waiting = false;
			if (h->peer)
				h->peer->n_polls--;
			go_on_later(p);
		} else if (n > 0) {
			p->cursor = events[n - 1]->version;
		}
	}
}

void events_access_changed(struct peer *p)
{
	struct held *h, *tmp;

	DL_FOREACH_SAFE(p->face->held, h, tmp)
	if (h->peer == p && h->ops == &poll_ops && !h->warrant) {
		p->listed = true; /* he knows */
		held_failf(h, VIREO_ACCESS_CHANGED, "what this caller may see has changed; list again");
	}
}

static bool is_epoch(const char *s)
{
	if (strlen(s) != 32)
		return false;
	for (; *s; s++)
		if (!isxdigit((unsigned char)*s))
			return false;
	return true;
}

int events_check_cursor(struct face *f, const char *epoch, uint64_t after, struct failure *failure)
{
	if (!epoch[0])
		return failure_set(failure, VIREO_INVALID_ARGS,
				   "the epoch is empty; it is that of the snapshot or event that “after” was taken from");
	if (!is_epoch(epoch))
		return failure_set(failure, VIREO_INVALID_ARGS, "“%s” is not an epoch, which has 32 hexadecimal digits",
				   epoch);
	if (strcmp(epoch, broker_epoch(f->broker)) != 0)
		return failure_set(failure, VIREO_EPOCH_CHANGED, "the epoch is %s now; list again",
				   broker_epoch(f->broker));
	if (after > broker_version(f->broker))
		return failure_set(failure, VIREO_FUTURE_VERSION, "version %" PRIu64 " is not there yet: %" PRIu64
				   " is the present one", after, broker_version(f->broker));
	if (after < face_oldest(f))
		return failure_set(failure, VIREO_GONE, "version %" PRIu64
				   " is older than history: the oldest that can be followed is %" PRIu64 "; list again",
				   after, face_oldest(f));
	return 0;
}

static const struct option_def get_events_options[] = {
	{"kinds", "as"}, {"connections", "ao"}, {"objects", "ao"}, {"events", "as"}, {"xml", "b"}, {NULL},
};

int method_get_events(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(vdict_freep) struct vdict *options = NULL;
	_cleanup_(failure_clear) struct failure f = {0};
	struct face *face = userdata;
	struct poll *p = held_new(face, m, &poll_ops, sizeof(*p));
	const char *epoch;
	uint64_t timeout;
	int r;

	if (!p)
		return face_error(error, -ENOMEM, NULL);
	r = sd_bus_message_read(m, "stut", &epoch, &p->cursor, &p->max, &timeout);
	if (r >= 0)
		r = options_read(m, get_events_options, NULL, &options, &f);
	if (r == 0)
		r = filter_new(options, &p->filter, &f);
	if (r == 0 && timeout > CALL_WAIT_MAX)
		r = failure_set(&f, VIREO_INVALID_ARGS, "a timeout of %" PRIu64 " µs is too long: 20000000 at most",
				timeout);
	if (r == 0)
		r = events_check_cursor(face, epoch, p->cursor, &f);
	if (r != 0)
		return held_refuse(&p->held, r, &f);
	p->deadline = clock_monotonic(face->clock) + timeout;
	p->after = p->cursor;
	return face_authorize(&p->held, &(struct question){.action = ACTION_VIEW, .covers = p->filter});
}
