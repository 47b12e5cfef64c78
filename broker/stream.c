/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <utlist.h>

#include "util/log.h"

/* Lines are made until the buffer holds so much; one line may be larger. */
#define BUFFER_TARGET ((size_t)64 << 10)
/* Of history, looked at in one turn: a narrow filter on a long history must not keep the loop. */
#define SCAN_EVENTS 256u
/* Of objects, looked at in one turn. */
#define SCAN_OBJECTS 4096u
/* µs that all streams may take of one turn: the story goes on, and calls are answered, however many read it. */
#define TURN_TIME (5 * USEC_PER_MSEC)
/* A single reader may fill so many buffers in one turn, if that is no longer than TURN_TIME. */
#define TURN_BUFFERS 16u
/* Lines lately made are kept for the other readers; not those that take more memory than this. */
#define LINES_KEPT 64u
#define LINE_KEPT_MAX BUFFER_TARGET
/* Lines of events in one buffer. */
#define BUFFER_LINES 256u
/* Of memory for lines, kept from one turn to the next. */
#define OUT_KEPT (4 * BUFFER_TARGET)

enum phase {
	SNAPSHOT, /* lines of objects */
	REPLAY,	  /* events since the snapshot began, up to a bookmark */
	FOLLOW,	  /* events */
	ENDING,	  /* the last line is in the buffer */
};

struct stream {
	struct streams *all;
	struct stream_config config;
	enum phase phase;
	uint64_t cursor;    /* every event up to it was written or not wanted */
	uint64_t told;	    /* the version that the reader was last told: by an event or a bookmark */
	uint64_t sequence;  /* of the next line */
	uint64_t id;	    /* for ids of lines that are no event */
	uint64_t began;	    /* SNAPSHOT, REPLAY: version of the beginning / of the bookmark to come */
	enum kind kind;	    /* SNAPSHOT: where we are */
	uint64_t incarnation;
	int fd;
	sd_event_source *source;
	bool armed; /* waits for the socket to take more */
	char *rest; /* what the socket did not take; mostly NULL */
	size_t size, done; /* bytes in it, bytes of them written since */
	bool failed;	   /* no memory for a line: ends without a word, rather than leave one out */
	uint64_t spoke; /* monotonic µs: when the last line was made */
	struct timer heartbeat;
	bool ready; /* in the list of those that have something to do */
	struct stream *prev, *next;
	struct stream *ready_prev, *ready_next;
};

/* A line of an event in the buffer, in case that the socket doesn't take it. */
struct made {
	size_t end;
	uint64_t version, sequence;
};

struct streams {
	struct broker *broker;
	sd_event *event;
	char *source;
	struct broker_listener listener;
	struct stream *first;
	size_t n;
	struct stream *ready;
	/*
	 * Readable while there are ready ones. No deferred source: those count as pending since for ever, and would go
	 * before everything else for as long as there is work.
	 */
	int work_fd;
	sd_event_source *work;
	struct stream_line lines[LINES_KEPT];
	struct writer out; /* lines of the stream whose turn it is */
	struct made made[BUFFER_LINES]; /* in @out: events, while it has nothing else */
	size_t n_made;
	bool marked; /* it has something else */
};

/* Its turn comes. */
static void get_ready(struct stream *s)
{
	if (s->ready)
		return;
	s->ready = true;
	if (!s->all->ready && eventfd_write(s->all->work_fd, 1) < 0)
		log_error("cannot wake the main loop: %m");
	DL_APPEND2(s->all->ready, s, ready_prev, ready_next);
}

static void not_ready(struct stream *s)
{
	if (!s->ready)
		return;
	s->ready = false;
	DL_DELETE2(s->all->ready, s, ready_prev, ready_next);
}

/* ---- lines -------------------------------------------------------------------------------------------------------- */

static bool has_room(const struct stream *s)
{
	return s->all->out.size < BUFFER_TARGET && s->all->n_made < BUFFER_LINES && !s->failed;
}

static void line_made(struct stream *s)
{
	if (s->all->out.failed)
		s->failed = true;
	s->sequence++;
	if (s->config.heartbeat)
		s->spoke = clock_monotonic(broker_clock(s->all->broker));
}

static const char *line_id(const struct stream *s, char *buf, size_t size)
{
	snprintf(buf, size, "%016" PRIx64 ".%" PRIu64, s->id, s->sequence);
	return buf;
}

static void put_mark(struct stream *s, const char *type, const char *key, uint64_t number)
{
	char id[64];

	stream_line_mark(&s->all->out, s->all->source, line_id(s, id, sizeof(id)),
			 clock_realtime(broker_clock(s->all->broker)), type, key, number, s->sequence);
	s->all->marked = true;
	line_made(s);
}

static void put_bookmark(struct stream *s)
{
	put_mark(s, "Bookmark", "version", s->cursor);
	s->told = s->cursor;
}

/* Keep so much for when the socket takes more, behind what is kept already. */
static void keep(struct stream *s, const char *data, size_t n)
{
	size_t left = s->size - s->done;
	char *rest;

	if (n == 0)
		return;
	/* It may take long until then: hold no more than that. */
	rest = malloc(left + n);
	if (!rest) {
		s->failed = true;
		return;
	}
	if (left > 0)
		memcpy(rest, s->rest + s->done, left);
	memcpy(rest + left, data, n);
	free(s->rest);
	s->rest = rest;
	s->size = left + n;
	s->done = 0;
}

/* ---- what comes next ----------------------------------------------------------------------------------------------- */

/*
 * The next object that was there when the stream began: in order of kind, then of incarnation, which is the order of the
 * broker's lists. An object that has come since is told by its Added.
 */
static struct object *next_object(struct stream *s)
{
	struct object *o;

	for (; s->kind < KIND_MAX; s->kind++, s->incarnation = 0) {
		for (o = broker_first(s->all->broker, s->kind); o; o = o->next)
			if (o->incarnation > s->incarnation && o->incarnation <= s->began)
				return o;
	}
	return NULL;
}

/* Return: is there more to do at once? */
static bool make_snapshot(struct stream *s)
{
	unsigned looked = 0;
	struct object *o = next_object(s), *following;

	while (o && has_room(s) && looked++ < SCAN_OBJECTS) {
		s->incarnation = o->incarnation;
		if (s->config.wants(o->kind, o->path, object_connection_path(o), NULL, s->config.userdata)) {
			char id[64];

			if (o->kind == KIND_JOB)
				broker_job_refresh(o);
			stream_line_snapshot(&s->all->out, s->all->source, line_id(s, id, sizeof(id)),
					     clock_realtime(broker_clock(s->all->broker)), o, s->config.xml, s->sequence);
			line_made(s);
		}
		/* Mostly the next in the list is the next in order. */
		following = o->next;
		o = following && following->incarnation > s->incarnation && following->incarnation <= s->began ? following
													       : next_object(s);
	}
	if (o)
		return true;
	s->phase = REPLAY;
	s->cursor = s->began;
	s->began = broker_version(s->all->broker);
	return true;
}

static bool wants(enum kind kind, const char *path, const char *connection, const char *name, void *userdata)
{
	struct stream *s = userdata;

	return s->config.wants(kind, path, connection, name, s->config.userdata);
}

static int on_event(struct event *e, void *userdata)
{
	struct stream *s = userdata;
	struct stream_line *line = &s->all->lines[e->version % LINES_KEPT];

	if (!has_room(s))
		return HISTORY_NOT_THIS;
	if (s->config.sees && !s->config.sees(e, s->config.userdata))
		return HISTORY_MORE;
	if ((line->version != e->version || line->xml != s->config.xml) &&
	    stream_line_event(s->all->source, e, s->config.xml, line) < 0) {
		s->failed = true;
		return -ENOMEM;
	}
	stream_line_put(&s->all->out, line, s->sequence);
	if (line->text.room > LINE_KEPT_MAX)
		stream_line_clear(line);
	s->all->made[s->all->n_made++] =
		(struct made){.end = s->all->out.size, .version = e->version, .sequence = s->sequence};
	line_made(s);
	if (s->failed)
		return -ENOMEM;
	s->told = e->version;
	return 0;
}

static void make_gone(struct stream *s)
{
	uint64_t oldest = broker_oldest(s->all->broker);

	put_mark(s, "Gone", "oldest", oldest > 0 ? oldest - 1 : 0);
	s->phase = ENDING;
}

/* Return: is there more to do at once? */
static bool make_events(struct stream *s)
{
	struct broker *b = s->all->broker;
	struct failure f = {0};
	struct history_query q = {.after = s->cursor, .scan = SCAN_EVENTS, .xml = s->config.xml, .words = !s->config.sees, .wants = wants,
				  .fn = on_event, .userdata = s};
	int r;

	if (s->cursor < broker_version(b)) {
		r = history_read_some(broker_history(b), &q, &s->cursor, &f);
		failure_clear(&f);
		if (r == VIREO_GONE) {
			make_gone(s);
			return true;
		}
		if (r != 0) {
			log_warning("a stream ends: history cannot be read: %s", r < 0 ? strerror(-r) : "failed");
			s->failed = true;
			return true;
		}
	}
	if (s->phase == REPLAY && s->cursor >= s->began) {
		put_bookmark(s);
		s->phase = FOLLOW;
	}
	return s->cursor < broker_version(b);
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static void end_stream(struct stream *s)
{
	void (*ended)(struct stream *, void *) = s->config.ended;
	void *userdata = s->config.userdata;

	if (ended)
		ended(s, userdata);
	stream_free(s);
}

static void arm(struct stream *s, bool on)
{
	if (s->armed == on)
		return;
	s->armed = on;
	/* Hang-ups are always told. */
	(void)sd_event_source_set_io_events(s->source, on ? EPOLLOUT : 0);
}

/* Write what the socket takes of it. Return: how much that was; negative: the reader is gone. */
static ssize_t send_some(struct stream *s, const char *data, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = send(s->fd, data + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* What was left comes first. Return: 1 all is written, 0 the socket takes no more now, negative: the reader is gone. */
static int flush_rest(struct stream *s)
{
	ssize_t n = send_some(s, s->rest + s->done, s->size - s->done);

	if (n < 0)
		return (int)n;
	s->done += (size_t)n;
	if (s->done < s->size)
		return 0;
	free(TAKE(s->rest));
	s->size = s->done = 0;
	return 1;
}

/*
 * Of what the socket did not take: how much to keep. The line that it stopped in, or before; events behind that are in history,
 * and read again when the time has come, which may be never.
 */
static size_t end_of_rest(struct stream *s, size_t sent)
{
	const struct streams *all = s->all;

	if (all->marked || s->phase == SNAPSHOT)
		return all->out.size;
	for (size_t i = 0; i < all->n_made; i++)
		if (all->made[i].end > sent) {
			s->cursor = s->told = all->made[i].version;
			s->sequence = all->made[i].sequence + 1;
			return all->made[i].end;
		}
	return all->out.size;
}

static int flush_out(struct stream *s)
{
	const struct writer *out = &s->all->out;
	ssize_t n = send_some(s, out->data, out->size);

	if (n < 0)
		return (int)n;
	if ((size_t)n == out->size)
		return 1;
	keep(s, out->data + n, end_of_rest(s, (size_t)n) - (size_t)n);
	return s->failed ? -ENOMEM : 0;
}

static void forget_out(struct streams *all)
{
	writer_reset(&all->out, OUT_KEPT);
	all->n_made = 0;
	all->marked = false;
}

/* A line of its own accord, behind whatever waits; it goes when its turn comes. */
static void keep_mark(struct stream *s)
{
	keep(s, s->all->out.data, s->all->out.size);
	forget_out(s->all);
	if (!s->armed)
		get_ready(s);
}

static void on_heartbeat(struct timer *t, void *userdata)
{
	struct stream *s = userdata;
	struct clock *clock = broker_clock(s->all->broker);
	uint64_t wait = s->config.heartbeat, silent = clock_monotonic(clock) - s->spoke;

	/*
	 * Only lines count: a stream that looks at what is not its reader's is silent all the same. One that has more to
	 * write than its reader takes needs no bookmark.
	 */
	if (silent < wait) {
		wait -= silent;
	} else if (s->phase == FOLLOW && !s->rest) {
		put_bookmark(s);
		keep_mark(s);
	}
	timer_in(clock, &s->heartbeat, wait, on_heartbeat, s);
}

/* Make what fits, write what the socket takes; then wait for one of the two. A bufferful at a time: others want theirs. */
static void pump(struct stream *s)
{
	bool more = true;
	int r;

	if (s->rest) {
		r = flush_rest(s);
	} else if (s->phase == ENDING) {
		r = 1;
	} else {
		more = s->phase == SNAPSHOT ? make_snapshot(s) : make_events(s);
		r = s->failed ? -ENOMEM : flush_out(s);
		forget_out(s->all);
	}
	if (r < 0 || s->failed || (r > 0 && s->phase == ENDING)) {
		end_stream(s);
		return;
	}
	arm(s, r == 0);
	if (r > 0 && more)
		get_ready(s);
}

static int on_work(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct streams *all = userdata;
	eventfd_t value;
	struct clock *clock = broker_clock(all->broker);
	uint64_t began = clock_monotonic(clock);
	size_t n = all->n > TURN_BUFFERS ? all->n : TURN_BUFFERS;

	/* So many at most, or time would stand still where it is virtual. */
	while (all->ready && n-- > 0 && clock_monotonic(clock) - began < TURN_TIME) {
		struct stream *s = all->ready;

		not_ready(s);
		pump(s);
	}
	if (!all->ready && eventfd_read(fd, &value) < 0 && errno != EAGAIN)
		return -errno;
	return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct stream *s = userdata;

	/* Whoever shuts down its reading side, or closes, wants no more. */
	if (revents & (EPOLLHUP | EPOLLERR)) {
		end_stream(s);
		return 0;
	}
	arm(s, false);
	get_ready(s);
	return 0;
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static void on_events(struct event *const *events, size_t n, void *userdata)
{
	struct streams *all = userdata;
	struct stream *s;

	/* From the loop: a listener shall be quick. Those that still write come by themselves. */
	DL_FOREACH(all->first, s)
	if (!s->rest)
		get_ready(s);
}

int streams_new(struct broker *b, sd_event *event, struct streams **ret)
{
	_cleanup_(streams_freep) struct streams *all = calloc(1, sizeof(*all));
	int r;

	if (!all)
		return -ENOMEM;
	all->broker = b;
	all->event = event;
	all->work_fd = -1;
	all->source = stream_source(broker_epoch(b));
	all->listener = (struct broker_listener){.events = on_events, .userdata = all};
	broker_add_listener(b, &all->listener);
	if (!all->source)
		return -ENOMEM;
	all->work_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (all->work_fd < 0)
		return -errno;
	r = sd_event_add_io(event, &all->work, all->work_fd, EPOLLIN, on_work, all);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(all->work, "streams");
	*ret = TAKE(all);
	return 0;
}

void streams_free(struct streams *all)
{
	if (!all)
		return;
	while (all->first)
		stream_free(all->first);
	broker_remove_listener(all->broker, &all->listener);
	sd_event_source_disable_unref(all->work);
	if (all->work_fd >= 0)
		close(all->work_fd);
	for (size_t i = 0; i < LINES_KEPT; i++)
		stream_line_clear(&all->lines[i]);
	writer_clear(&all->out);
	free(all->source);
	free(all);
}

size_t streams_count(struct streams *all)
{
	return all->n;
}

int stream_new(struct streams *all, const struct stream_config *config, struct stream **ret, int *ret_fd)
{
	struct stream *s;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	s = calloc(1, sizeof(*s));
	if (!s) {
		close(fds[0]);
		close(fds[1]);
		return -ENOMEM;
	}
	s->all = all;
	s->config = *config;
	s->sequence = 1;
	s->id = clock_random(broker_clock(all->broker));
	s->fd = fds[0];
	s->phase = config->initial ? SNAPSHOT : FOLLOW;
	s->began = broker_version(all->broker);
	s->cursor = s->told = config->initial ? s->began : config->after;
	DL_APPEND(all->first, s);
	all->n++;
	r = sd_event_add_io(all->event, &s->source, s->fd, 0, on_io, s);
	if (r < 0) {
		stream_free(s);
		close(fds[1]);
		return r;
	}
	(void)sd_event_source_set_description(s->source, "stream");
	/* The reader only reads. */
	(void)shutdown(fds[0], SHUT_RD);
	if (config->heartbeat) {
		s->spoke = clock_monotonic(broker_clock(all->broker));
		timer_in(broker_clock(all->broker), &s->heartbeat, config->heartbeat, on_heartbeat, s);
	}
	get_ready(s);
	*ret = s;
	*ret_fd = fds[1];
	return 0;
}

void stream_end_access_changed(struct stream *s)
{
	if (s->phase == ENDING)
		return;
	put_mark(s, "AccessChanged", NULL, 0);
	s->phase = ENDING;
	keep_mark(s);
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	not_ready(s);
	timer_clear(&s->heartbeat);
	sd_event_source_disable_unref(s->source);
	close(s->fd);
	free(s->rest);
	DL_DELETE(s->all->first, s);
	s->all->n--;
	free(s);
}
