/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <utlist.h>

#include "util/log.h"
#include "util/utf8.h"

/* One turn of the loop reads so much: a QEMU that floods must not starve the others. */
#define READ_MAX (16u << 10)

struct pending {
	uint64_t id;
	struct qmp *qmp;
	qmp_reply_fn fn; /* NULL: given up, or nobody wants it */
	void *userdata;
	bool given_up;
	struct timer timer;
	struct pending *prev, *next;
};

struct chunk {
	int fd; /* goes with the first byte; -1: none */
	size_t size, done;
	struct chunk *prev, *next;
	char data[];
};

enum phase { GREETING, NEGOTIATING, READY, CLOSED };

struct qmp {
	enum phase phase;
	const struct qmp_ops *ops;
	void *userdata;
	struct clock *clock;
	sd_event_source *source;
	int fd;
	uint64_t patience; /* for the greeting */
	struct timer timer;
	struct qmp_parser *parser;
	char *buffer;
	struct pending *pending;
	uint64_t next_id;
	struct chunk *out;
	size_t out_size;
	bool oob;
	char version[32];
	unsigned busy; /* callbacks under way: it is freed behind the last */
	bool freed;
};

static const char *const end_words[] = {
	[QMP_END_EOF] = "QEMU closed the monitor",
	[QMP_END_NO_GREETING] = "no greeting came: another client has the monitor, or QEMU hangs",
	[QMP_END_PROTOCOL] = "this is not QMP",
	[QMP_END_ERROR] = "the monitor's socket failed",
};
_Static_assert(ELEMENTS(end_words) == QMP_END_MAX, "a sentence for each end");

static void free_pending(struct pending *p)
{
	timer_clear(&p->timer);
	DL_DELETE(p->qmp->pending, p);
	free(p);
}

static void free_chunk(struct qmp *q, struct chunk *c)
{
	q->out_size -= c->size - c->done;
	DL_DELETE(q->out, c);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

/* No byte in or out any more. */
static void hang_up(struct qmp *q)
{
	timer_clear(&q->timer);
	q->source = sd_event_source_disable_unref(q->source);
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
	while (q->out)
		free_chunk(q, q->out);
	q->phase = CLOSED;
}

static void destroy(struct qmp *q)
{
	hang_up(q);
	while (q->pending)
		free_pending(q->pending);
	qmp_parser_free(q->parser);
	free(q->buffer);
	free(q);
}

void qmp_free(struct qmp *q)
{
	if (!q || q->freed)
		return;
	q->freed = true;
	if (q->busy > 0)
		hang_up(q);
	else
		destroy(q);
}

static void enter(struct qmp *q)
{
	q->busy++;
}

static void leave(struct qmp *q)
{
	if (--q->busy == 0 && q->freed)
		destroy(q);
}

/* Answer one that waits, and forget it. Inside enter() and leave(). */
static void answer(struct pending *p, const struct qmp_reply *reply)
{
	struct qmp *q = p->qmp;
	qmp_reply_fn fn = p->fn;
	void *userdata = p->userdata;

	free_pending(p);
	if (fn)
		fn(q, reply, userdata);
}

static void end(struct qmp *q, enum qmp_end why, const char *format, ...) _printf_(3, 4);

static void end(struct qmp *q, enum qmp_end why, const char *format, ...)
{
	_cleanup_(freep) char *text = NULL, *valid = NULL;
	const char *message = end_words[why];
	struct qmp_reply reply = {.status = QMP_CLOSED};
	va_list ap;

	if (q->phase == CLOSED)
		return;
	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	valid = utf8_dup(text);
	if (valid && *valid)
		message = valid;
	enter(q);
	hang_up(q);
	reply.message = message;
	while (q->pending && !q->freed)
		answer(q->pending, &reply);
	if (!q->freed)
		q->ops->closed(q, why, message, q->userdata);
	leave(q);
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

static void listen_for(struct qmp *q)
{
	if (q->source)
		(void)sd_event_source_set_io_events(q->source, q->out ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Return: 0, or a negative errno that ends the connection. */
static int flush(struct qmp *q)
{
	while (q->out) {
		struct chunk *c = q->out;
		struct iovec iov = {.iov_base = c->data + c->done, .iov_len = c->size - c->done};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
		union {
			struct cmsghdr header;
			char space[CMSG_SPACE(sizeof(int))];
		} control;
		ssize_t n;

		if (c->fd >= 0) {
			memset(&control, 0, sizeof(control));
			m.msg_control = &control;
			m.msg_controllen = sizeof(control.space);
			struct cmsghdr *h = CMSG_FIRSTHDR(&m);

			h->cmsg_level = SOL_SOCKET;
			h->cmsg_type = SCM_RIGHTS;
			h->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(h), &c->fd, sizeof(int));
		}
		n = sendmsg(q->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN)
				break;
			return -errno;
		}
		if (c->fd >= 0) {
			close(c->fd);
			c->fd = -1;
		}
		c->done += (size_t)n;
		q->out_size -= (size_t)n;
		if (c->done == c->size)
			free_chunk(q, c);
	}
	listen_for(q);
	return 0;
}

static void on_timeout(struct timer *t, void *userdata)
{
	struct pending *p = userdata;
	struct qmp *q = p->qmp;
	qmp_reply_fn fn = p->fn;
	const struct qmp_reply reply = {.status = QMP_TIMEOUT, .message = "QEMU did not answer in time"};

	/* Its id stays known, for the answer may still come. */
	p->fn = NULL;
	p->given_up = true;
	enter(q);
	if (fn)
		fn(q, &reply, p->userdata);
	leave(q);
}

static int send_command(struct qmp *q, const char *key, const char *command, struct json_object *arguments, int fd,
			uint64_t timeout, qmp_reply_fn fn, void *userdata)
{
	struct json_object *o = NULL;
	struct pending *p = NULL;
	struct chunk *c = NULL;
	const char *text;
	size_t size;
	int r = -ENOMEM;

	o = json_object_new_object();
	if (!o || json_object_object_add(o, key, json_object_new_string(command)) < 0)
		goto fail;
	if (arguments) {
		if (json_object_object_add(o, "arguments", arguments) < 0)
			goto fail;
		arguments = NULL;
	}
	if (json_object_object_add(o, "id", json_object_new_uint64(q->next_id)) < 0)
		goto fail;
	text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
	if (!text)
		goto fail;
	if (q->out_size + size > QMP_OUTPUT_MAX) {
		r = -ENOBUFS;
		goto fail;
	}
	p = calloc(1, sizeof(*p));
	c = malloc(sizeof(*c) + size + 1);
	if (!p || !c)
		goto fail;
	*c = (struct chunk){.fd = -1, .size = size + 1};
	memcpy(c->data, text, size);
	c->data[size] = '\n';
	if (fd >= 0) {
		c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (c->fd < 0) {
			r = -errno;
			goto fail;
		}
	}
	json_object_put(o);

	*p = (struct pending){.id = q->next_id++, .qmp = q, .fn = fn, .userdata = userdata};
	DL_APPEND(q->pending, p);
	if (timeout != USEC_UNKNOWN)
		timer_in(q->clock, &p->timer, timeout, on_timeout, p);
	DL_APPEND(q->out, c);
	q->out_size += c->size;
	/* What the socket does not take, or refuses, is found by the loop: a callback must not run inside the call. */
	if (flush(q) < 0)
		(void)sd_event_source_set_io_events(q->source, EPOLLIN | EPOLLOUT);
	return 0;
fail:
	json_object_put(arguments);
	json_object_put(o);
	free(p);
	free(c);
	return r;
}

static int execute(struct qmp *q, const char *key, const char *command, struct json_object *arguments, int fd,
		   uint64_t timeout, qmp_reply_fn fn, void *userdata)
{
	if (!q || q->freed || q->phase != READY) {
		json_object_put(arguments);
		return -ENOTCONN;
	}
	return send_command(q, key, command, arguments, fd, timeout, fn, userdata);
}

int qmp_execute(struct qmp *q, const char *command, struct json_object *arguments, uint64_t timeout, qmp_reply_fn fn,
		void *userdata)
{
	return execute(q, "execute", command, arguments, -1, timeout, fn, userdata);
}

int qmp_execute_oob(struct qmp *q, const char *command, struct json_object *arguments, uint64_t timeout, qmp_reply_fn fn,
		    void *userdata)
{
	return execute(q, q && q->oob ? "exec-oob" : "execute", command, arguments, -1, timeout, fn, userdata);
}

int qmp_execute_fd(struct qmp *q, const char *command, struct json_object *arguments, int fd, uint64_t timeout,
		   qmp_reply_fn fn, void *userdata)
{
	return execute(q, "execute", command, arguments, fd, timeout, fn, userdata);
}

bool qmp_has_oob(const struct qmp *q)
{
	return q->oob;
}

const char *qmp_version(const struct qmp *q)
{
	return q->version;
}

size_t qmp_waiting(const struct qmp *q)
{
	struct pending *p;
	size_t n = 0;

	DL_COUNT(q->pending, p, n);
	return n;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

static void on_silence(struct timer *t, void *userdata)
{
	struct qmp *q = userdata;

	end(q, QMP_END_NO_GREETING, "%s", "");
}

static void on_capabilities(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	switch (reply->status) {
	case QMP_OK:
		q->phase = READY;
		q->ops->ready(q, q->userdata);
		break;
	case QMP_REFUSED:
		end(q, QMP_END_PROTOCOL, "QEMU refused the negotiation: %s", reply->message);
		break;
	case QMP_TIMEOUT:
		end(q, QMP_END_NO_GREETING, "QEMU greeted, and then did not answer");
		break;
	case QMP_CLOSED:
		break;
	}
}

static int take_greeting(struct qmp *q, struct json_object *o)
{
	struct json_object *greeting = json_member(o, "QMP"), *version = json_member(json_member(greeting, "version"), "qemu");
	struct json_object *offered = json_member(greeting, "capabilities"), *arguments = NULL;

	if (!json_object_is_type(greeting, json_type_object)) {
		end(q, QMP_END_PROTOCOL, "the first thing that came is no greeting of QEMU");
		return 1;
	}
	timer_clear(&q->timer);
	snprintf(q->version, sizeof(q->version), "%u.%u.%u", (unsigned)json_u(version, "major", 0) % 10000,
		(unsigned)json_u(version, "minor", 0) % 10000, (unsigned)json_u(version, "micro", 0) % 10000);
	for (size_t i = 0; json_object_is_type(offered, json_type_array) && i < json_object_array_length(offered); i++) {
		const char *s = json_object_get_string(json_object_array_get_idx(offered, i));

		if (s && strcmp(s, "oob") == 0)
			q->oob = true;
	}
	if (q->oob) {
		struct json_object *enable = json_object_new_array();

		arguments = json_object_new_object();
		json_object_array_add(enable, json_object_new_string("oob"));
		json_object_object_add(arguments, "enable", enable);
	}
	q->phase = NEGOTIATING;
	int r = send_command(q, "execute", "qmp_capabilities", arguments, -1, q->patience, on_capabilities, NULL);

	if (r < 0) {
		end(q, QMP_END_ERROR, "cannot negotiate: %s", strerror(-r));
		return 1;
	}
	return 0;
}

static int take_reply(struct qmp *q, struct json_object *o, struct json_object *value, struct json_object *error)
{
	struct json_object *id = json_member(o, "id");
	struct pending *p = NULL;

	if (json_object_is_type(id, json_type_int))
		DL_SEARCH_SCALAR(q->pending, p, id, json_object_get_uint64(id));
	if (!p) {
		/* Nothing of what follows could be trusted to answer what it seems to. */
		const char *desc = json_s(error, "desc");

		end(q, QMP_END_PROTOCOL, "QEMU answered something that was not asked%s%s", desc ? ": " : "",
			desc ? desc : "");
		return 1;
	}
	if (p->given_up) {
		free_pending(p);
		if (q->ops->alive)
			q->ops->alive(q, q->userdata);
		return 0;
	}

	_cleanup_(freep) char *class = error ? utf8_dup(json_s(error, "class")) : NULL;
	_cleanup_(freep) char *desc = error ? utf8_dup(json_s(error, "desc")) : NULL;
	const struct qmp_reply reply = {
		.status = error ? QMP_REFUSED : QMP_OK,
		.value = value,
		.class = class ? class : "GenericError",
		.message = desc ? desc : error ? "QEMU gave no reason" : "",
	};
	answer(p, &reply);
	return 0;
}

static int take_event(struct qmp *q, struct json_object *o, const char *name)
{
	struct json_object *stamp = json_member(o, "timestamp"), *data = json_member(o, "data");
	int64_t seconds = json_i(stamp, "seconds", 0), micro = json_i(stamp, "microseconds", 0);
	uint64_t usec = seconds > 0 && seconds < INT64_C(1) << 40 && micro >= 0 && micro < 1000000
				? (uint64_t)seconds * USEC_PER_SEC + (uint64_t)micro
				: 0;

	if (q->phase == READY)
		q->ops->event(q, name, json_object_is_type(data, json_type_object) ? data : NULL, usec, q->userdata);
	return 0;
}

static int on_object(struct json_object *o, void *userdata)
{
	struct qmp *q = userdata;
	struct json_object *value = json_member(o, "return"), *error = json_member(o, "error");
	const char *event = json_s(o, "event");
	int r;

	if (q->phase == GREETING)
		r = take_greeting(q, o);
	else if (event)
		r = take_event(q, o, event);
	else if (value || json_object_is_type(error, json_type_object))
		r = take_reply(q, o, value, value ? NULL : error);
	else {
		end(q, QMP_END_PROTOCOL, "an object came that is neither reply nor event");
		r = 1;
	}
	/* A callback may have ended it. */
	return r != 0 || q->freed || q->phase == CLOSED;
}

static int on_io(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct qmp *q = userdata;
	const char *why = NULL;
	ssize_t n;
	int r;

	enter(q);
	if (q->out) {
		/* A broken pipe is told by what can still be read: QEMU's last words. */
		r = flush(q);
		if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
			end(q, QMP_END_ERROR, "cannot write to the monitor: %s", strerror(-r));
			goto out;
		}
		if (r < 0)
			while (q->out)
				free_chunk(q, q->out);
		listen_for(q);
	}
	n = recv(fd, q->buffer, READ_MAX, MSG_DONTWAIT);
	if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			goto out;
		if (errno == ECONNRESET)
			n = 0;
		else {
			end(q, QMP_END_ERROR, "cannot read from the monitor: %s", strerror(errno));
			goto out;
		}
	}
	if (n == 0) {
		end(q, QMP_END_EOF, "%s",
			qmp_parser_pending(q->parser) ? "QEMU closed the monitor in the middle of a reply" : "");
		goto out;
	}
	r = qmp_parser_feed(q->parser, q->buffer, (size_t)n, on_object, q, &why);
	if (r == -EMSGSIZE)
		end(q, QMP_END_PROTOCOL, "a reply is longer than %u bytes", QMP_LINE_MAX);
	else if (r == -EBADMSG)
		end(q, QMP_END_PROTOCOL, "%s came", why);
	else if (r < 0)
		end(q, QMP_END_ERROR, "%s", strerror(-r));
out:
	leave(q);
	return 0;
}

int qmp_new(sd_event *event, struct clock *clock, int fd, uint64_t greeting, const struct qmp_ops *ops, void *userdata,
	    struct qmp **ret)
{
	_cleanup_(qmp_freep) struct qmp *q = calloc(1, sizeof(*q));
	int flags, r;

	if (!q) {
		close(fd);
		return -ENOMEM;
	}
	q->fd = fd;
	q->ops = ops;
	q->userdata = userdata;
	q->clock = clock;
	q->patience = greeting;
	q->next_id = 1;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	q->buffer = malloc(READ_MAX);
	if (!q->buffer)
		return -ENOMEM;
	r = qmp_parser_new(QMP_LINE_MAX, &q->parser);
	if (r < 0)
		return r;
	r = sd_event_add_io(event, &q->source, fd, EPOLLIN, on_io, q);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(q->source, "qmp");
	timer_in(clock, &q->timer, greeting, on_silence, q);
	*ret = TAKE(q);
	return 0;
}
