/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "peer.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "drivers/qemu/qmp.h"
#include "util/macros.h"

void peer_open(struct peer *p, sd_event *event)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*p = (struct peer){.event = event, .fd = fds[0], .ours = fds[1], .received_fd = -1};
	p->in = calloc(1, 1);
}

void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void peer_free(struct peer *p)
{
	peer_close(p);
	if (p->received_fd >= 0)
		close(p->received_fd);
	free(p->in);
}

static void turn(struct peer *p)
{
	assert_true(sd_event_run(p->event, 0) >= 0);
}

static bool read_some(struct peer *p)
{
	char buffer[65536];
	struct iovec iov = {buffer, sizeof(buffer)};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(p->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return false;
	if (m.msg_controllen >= CMSG_LEN(sizeof(int)) && CMSG_FIRSTHDR(&m)->cmsg_type == SCM_RIGHTS) {
		assert_int_equal(p->received_fd, -1);
		memcpy(&p->received_fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	}
	p->in = realloc(p->in, p->in_size + (size_t)n + 1);
	assert_non_null(p->in);
	memcpy(p->in + p->in_size, buffer, (size_t)n);
	p->in_size += (size_t)n;
	p->in[p->in_size] = 0;
	return true;
}

void peer_turn(struct peer *p)
{
	/* A turn that found nothing to do says so. */
	while (sd_event_run(p->event, 0) > 0)
		;
}

void peer_send_n(struct peer *p, const char *data, size_t n, size_t part)
{
	while (n > 0) {
		size_t now = part && part < n ? part : n;
		ssize_t written = send(p->fd, data, now, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (written < 0 && errno == EPIPE)
			return; /* the client has hung up */
		if (written < 0) {
			assert_int_equal(errno, EAGAIN);
			turn(p);
			continue;
		}
		data += written;
		n -= (size_t)written;
		if (part)
			turn(p);
	}
}

void peer_send(struct peer *p, const char *text, size_t part)
{
	peer_send_n(p, text, strlen(text), part);
}

bool peer_has(struct peer *p)
{
	peer_turn(p);
	while (read_some(p))
		;
	return strchr(p->in, '\n') != NULL;
}

struct json_object *peer_take(struct peer *p)
{
	struct json_object *o;
	char *end;

	for (int i = 0; i < 1000 && !(end = strchr(p->in, '\n')); i++) {
		turn(p);
		read_some(p);
	}
	end = strchr(p->in, '\n');
	if (!end)
		fail_msg("no command came");
	*end = 0;
	o = json_tokener_parse(p->in);
	if (!o)
		fail_msg("not JSON: %s", p->in);
	p->in_size -= (size_t)(end + 1 - p->in);
	memmove(p->in, end + 1, p->in_size + 1);
	return o;
}

uint64_t peer_expect(struct peer *p, const char *command)
{
	struct json_object *o = peer_take(p);
	const char *name = json_s(o, "execute");
	uint64_t id = json_u(o, "id", 0);

	if (!name)
		name = json_s(o, "exec-oob");
	assert_non_null(name);
	assert_string_equal(name, command);
	assert_int_not_equal(id, 0);
	json_object_put(o);
	return id;
}

void peer_reply(struct peer *p, uint64_t id, const char *value, size_t part)
{
	_cleanup_(freep) char *text = NULL;

	assert_true(asprintf(&text, "{\"return\": %s, \"id\": %" PRIu64 "}\r\n", value, id) > 0);
	peer_send(p, text, part);
}

void peer_greet(struct peer *p, const char *capabilities)
{
	_cleanup_(freep) char *text = NULL;

	assert_true(asprintf(&text,
			    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, "
			    "\"package\": \"test\"}, \"capabilities\": %s}}\r\n",
			    capabilities) > 0);
	peer_send(p, text, 0);
	peer_reply(p, peer_expect(p, "qmp_capabilities"), "{}", 0);
	peer_turn(p);
}

void peer_replay(struct peer *p, const char *file, size_t part)
{
	FILE *f = fopen(file, "re");
	_cleanup_(freep) char *line = NULL;
	size_t size = 0;
	uint64_t id = 0;
	unsigned n = 0;

	if (!f)
		fail_msg("%s: %s", file, strerror(errno));
	while (getline(&line, &size, f) > 0) {
		struct json_object *o;

		n++;
		if (line[0] == '#')
			continue;
		o = json_tokener_parse(line + 2);
		if (!o || (line[0] != '<' && line[0] != '>'))
			fail_msg("%s:%u: not a line of a conversation", file, n);
		if (line[0] == '>') {
			struct json_object *said = peer_take(p), *a = json_member(said, "arguments"),
					   *b = json_member(o, "arguments");

			assert_string_equal(json_s(said, "execute"), json_s(o, "execute"));
			if (!json_object_equal(a, b))
				fail_msg("%s:%u: other arguments: %s", file, n, json_object_to_json_string(said));
			id = json_u(said, "id", 0);
			json_object_put(said);
		} else {
			_cleanup_(freep) char *text = NULL;

			if (json_member(o, "id"))
				json_object_object_add(o, "id", json_object_new_uint64(id));
			assert_true(asprintf(&text, "%s\r\n", json_object_to_json_string(o)) > 0);
			peer_send(p, text, part);
		}
		json_object_put(o);
	}
	fclose(f);
	peer_turn(p);
}
