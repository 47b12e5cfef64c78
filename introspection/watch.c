/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "broker/stream.h"
#include "face.h"

/*
 * Watch: a stream's end for the caller. What is written to it, and when, is broker/stream.c's; whose it is, what he wants
 * and when it ends with him, is here.
 */
#define STREAMS_MAX 8192u
#define HEARTBEAT_MIN (100 * USEC_PER_MSEC)

struct watch {
	struct stream *stream;
	struct filter *filter;
	struct peer *peer; /* NULL: without a bus there is but one client */
	struct face *face;
	struct watch *prev, *next; /* of the face */
};

struct watching {
	struct held held;
	struct filter *filter;
	bool has_epoch, has_after, initial;
	char epoch[33];
	uint64_t after, heartbeat;
};

static void watching_free(struct held *h)
{
	filter_free(((struct watching *)h)->filter);
}

static void watch_free(struct watch *w)
{
	if (w->peer)
		w->peer->n_watches--;
	DL_DELETE(w->face->watches, w);
	filter_free(w->filter);
	free(w);
}

static void on_ended(struct stream *s, void *userdata)
{
	watch_free(userdata);
}

static bool wants(enum kind kind, const char *path, const char *connection, const char *name, void *userdata)
{
	const struct filter *f = ((struct watch *)userdata)->filter;

	return name ? filter_wants_named(f, kind, path, connection, name) : filter_wants(f, kind, path, connection);
}

static bool sees(const struct event *e, void *userdata)
{
	return rights_sees_event(((struct watch *)userdata)->filter->viewer, e);
}

void watches_free(struct face *f, const struct peer *p)
{
	struct watch *w, *tmp;

	DL_FOREACH_SAFE(f->watches, w, tmp)
	{
		if (p && w->peer != p)
			continue;
		stream_free(w->stream);
		watch_free(w);
	}
}

void watches_access_changed(struct peer *p)
{
	struct watch *w, *tmp;

	DL_FOREACH_SAFE(p->face->watches, w, tmp)
	if (w->peer == p)
		stream_end_access_changed(w->stream);
}

static unsigned count_streams(const struct peer *p)
{
	return p->n_watches;
}

static int count_allows(struct watching *c, struct failure *f)
{
	struct peer *p = c->held.peer;
	unsigned n;

	if (c->held.viewer && p->n_watches >= p->face->config.limits.streams)
		return failure_set(f, VIREO_LIMITS_EXCEEDED, "streams: this caller has %u already", p->n_watches);
	if (c->held.viewer && (n = peer_user_sum(p, count_streams)) >= PER_USER * p->face->config.limits.streams)
		return failure_set(f, VIREO_LIMITS_EXCEEDED, "streams: this user has %u already", n);
	if (streams_count(c->held.face->streams) >= STREAMS_MAX)
		return failure_set(f, VIREO_LIMITS_EXCEEDED, "streams: there are %u already", STREAMS_MAX);
	return 0;
}

static int no_descriptors(struct failure *f)
{
	return failure_set(f, VIREO_LIMITS_EXCEEDED, "descriptors: no further one can be opened");
}

static int begin(struct watching *c, int *ret_fd, struct failure *f)
{
	struct face *face = c->held.face;
	struct stream_config config = {
		.initial = c->initial, .heartbeat = c->heartbeat, .xml = c->filter->xml, .wants = wants, .ended = on_ended,
	};
	const struct peer *viewer = c->filter->viewer;
	struct watch *w;
	int r = count_allows(c, f);

	if (r != 0)
		return r;
	if (viewer && rights_has_list(viewer))
		config.sees = sees;
	config.after = broker_version(face->broker);
	if (c->has_after) {
		/* History may have moved on while somebody typed a password. */
		r = events_check_cursor(face, c->epoch, c->after, f);
		if (r != 0)
			return r;
		config.after = c->after;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->face = face;
	w->peer = c->held.peer;
	config.userdata = w;
	r = stream_new(face->streams, &config, &w->stream, ret_fd);
	if (r < 0) {
		free(w);
		if (r == -EMFILE || r == -ENFILE)
			return no_descriptors(f);
		return r;
	}
	w->filter = TAKE(c->filter);
	if (w->peer)
		w->peer->n_watches++;
	DL_APPEND(face->watches, w);
	return 0;
}

static void watching_go(struct held *h)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct watching *c = (struct watching *)h;
	struct failure f = {0};
	int fd, r;

	if (c->has_after && rights_moved(h, c->after))
		return;
	rights_listed(h);
	r = begin(c, &fd, &f);
	if (r != 0) {
		held_refuse(h, r, &f);
		return;
	}
	r = held_begin(h, &reply);
	if (r >= 0)
		r = sd_bus_message_append(reply, "h", fd);
	close(fd); /* the message has its own; should it not be sent, the stream sees that nobody reads it */
	if (r == -EMFILE || r == -ENFILE) {
		r = no_descriptors(&f);
		held_refuse(h, r, &f);
	} else if (r < 0) {
		held_errno(h, r);
	} else {
		held_reply(h, TAKE(reply));
	}
}

static const struct held_ops watching_ops = {.go = watching_go, .free = watching_free};

static const struct option_def watch_options[] = {
	{"kinds", "as"}, {"connections", "ao"}, {"objects", "ao"}, {"events", "as"}, {"xml", "b"},
	{"epoch", "s"}, {"after", "t"}, {"initial", "b"}, {"heartbeat", "t"}, {NULL},
};

static int read_options(struct watching *c, const struct vdict *options, struct failure *f)
{
	const char *epoch = vdict_s(options, "epoch", NULL);

	c->has_after = vdict_get(options, "after");
	c->after = vdict_t(options, "after", 0);
	c->initial = vdict_b(options, "initial", false);
	c->heartbeat = vdict_t(options, "heartbeat", 0);
	if (c->has_after != (epoch != NULL))
		return failure_set(f, VIREO_INVALID_OPTION, "“epoch” and “after” go together: there is only “%s”",
				   epoch ? "epoch" : "after");
	if (c->initial && c->has_after)
		return failure_set(f, VIREO_INVALID_OPTION,
				   "“initial” begins with what is there now, “after” with what came behind a version: one of them");
	if (c->heartbeat > 0 && c->heartbeat < HEARTBEAT_MIN)
		return failure_set(f, VIREO_INVALID_OPTION, "a heartbeat of %" PRIu64 " µs is too short: 100000 at least, or 0",
				   c->heartbeat);
	if (!epoch)
		return 0;
	if (strlen(epoch) < sizeof(c->epoch))
		strcpy(c->epoch, epoch);
	return events_check_cursor(c->held.face, epoch, c->after, f);
}

int method_watch(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(vdict_freep) struct vdict *options = NULL;
	_cleanup_(failure_clear) struct failure f = {0};
	struct watching *c = held_new(userdata, m, &watching_ops, sizeof(*c));
	int r;

	if (!c)
		return face_error(error, -ENOMEM, NULL);
	r = options_read(m, watch_options, NULL, &options, &f);
	if (r == 0)
		r = filter_new(options, &c->filter, &f);
	if (r == 0)
		r = read_options(c, options, &f);
	if (r == 0 && sd_bus_can_send(sd_bus_message_get_bus(m), 'h') <= 0)
		r = failure_set(&f, VIREO_NOT_SUPPORTED, "this bus does not pass descriptors; use GetEvents");
	if (r != 0)
		return held_refuse(&c->held, r, &f);
	/* Who leaves takes his streams with him, so he has to be known. */
	return face_authorize(&c->held, &(struct question){.action = ACTION_VIEW, .covers = c->filter, .change = true});
}
