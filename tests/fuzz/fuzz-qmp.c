/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "drivers/qemu/qmp.h"
#include "fuzz.h"
#include "util/log.h"
#include "util/utf8.h"

/*
 * What a QEMU says, to the parser and to a whole client. The first byte says into how big parts it is cut: the result
 * must not depend on that.
 */

#define ENSURE(what)                                                                                         \
	do {                                                                                                 \
		if (!(what))                                                                                 \
			abort();                                                                             \
	} while (0)

struct count {
	size_t objects, bytes;
};

static int on_object(struct json_object *o, void *userdata)
{
	struct count *c = userdata;

	ENSURE(json_object_is_type(o, json_type_object));
	c->objects++;
	c->bytes += strlen(json_object_to_json_string(o));
	return 0;
}

static int parse(const char *data, size_t size, size_t part, struct count *c)
{
	struct qmp_parser *p;
	int r = 0;

	/* A small limit, so that it is met. */
	ENSURE(qmp_parser_new(4096, &p) == 0);
	*c = (struct count){0};
	while (size > 0 && r == 0) {
		size_t n = part < size ? part : size;

		r = qmp_parser_feed(p, data, n, on_object, c, NULL);
		data += n;
		size -= n;
	}
	qmp_parser_free(p);
	return r;
}

/* ---- the client --------------------------------------------------------------------------------------------- */

struct told {
	struct qmp *qmp;
	unsigned ready, closed, replies, asked;
};

static void on_reply(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct told *t = userdata;

	ENSURE(t->closed == 0);
	ENSURE((reply->status == QMP_OK) == (reply->value != NULL));
	ENSURE(utf8_is_valid(reply->message));
	t->replies++;
}

static void on_ready(struct qmp *q, void *userdata)
{
	struct told *t = userdata;

	ENSURE(t->ready++ == 0);
	for (int i = 0; i < 4; i++)
		t->asked += qmp_execute(q, "query-status", NULL, USEC_UNKNOWN, on_reply, t) == 0;
}

static void on_event(struct qmp *q, const char *name, struct json_object *data, uint64_t usec, void *userdata)
{
	ENSURE(((struct told *)userdata)->ready == 1);
}

static void on_closed(struct qmp *q, enum qmp_end why, const char *message, void *userdata)
{
	struct told *t = userdata;

	ENSURE(utf8_is_valid(message) && message[0]);
	/* Whatever was asked has been answered, once. */
	ENSURE(t->replies == t->asked);
	ENSURE(t->closed++ == 0);
}

static void talk(const char *data, size_t size)
{
	static const struct qmp_ops ops = {.ready = on_ready, .event = on_event, .closed = on_closed};
	struct told t = {0};
	struct clock *clock;
	sd_event *event;
	int fds[2];

	ENSURE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	ENSURE(sd_event_new(&event) >= 0);
	ENSURE(clock_new_virtual(1, &clock) == 0);
	ENSURE(qmp_new(event, clock, fds[1], USEC_PER_SEC, &ops, &t, &t.qmp) == 0);
	if (size > 100000)
		size = 100000;
	(void)!send(fds[0], data, size, MSG_NOSIGNAL);
	(void)shutdown(fds[0], SHUT_WR);
	while (!t.closed && sd_event_run(event, 0) > 0)
		;
	/* The end always comes: by itself, or by the clock. */
	clock_advance(clock, 10 * USEC_PER_SEC);
	while (!t.closed && sd_event_run(event, 0) > 0)
		;
	ENSURE(t.closed == 1);
	qmp_free(t.qmp);
	clock_free(clock);
	sd_event_unref(event);
	close(fds[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct count whole, parts;
	int r;

	log_set_target_name("null");
	if (size < 1)
		return 0;
	r = parse((const char *)data + 1, size - 1, size, &whole);
	ENSURE(parse((const char *)data + 1, size - 1, 1 + data[0] % 64, &parts) == r);
	ENSURE(whole.objects == parts.objects && whole.bytes == parts.bytes);
	talk((const char *)data + 1, size - 1);
	return 0;
}
