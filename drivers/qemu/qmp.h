/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "util/clock.h"

struct json_object;

/*
 * A client of QEMU's monitor protocol on one connected socket. Never blocks, has no thread: everything happens in
 * callbacks of the sd-event loop it was given.
 *
 * The life of one:
 *
 *   qmp_new() ──► greeting ──► qmp_capabilities ──► ready() ──► replies and events, in the order of the wire
 *                    │                │                              │
 *                    └────────────────┴────────── closed() ◄─────────┘  once; every waiting reply was answered before
 *
 * QEMU answers in order, and an event stands between replies where it happened: whatever a reply says covers every
 * event before it. Out-of-band answers may overtake.
 */
struct qmp;

enum qmp_end {
	QMP_END_EOF,	     /* QEMU closed it, or died; also in the middle of a reply */
	QMP_END_NO_GREETING, /* silence: another client has the monitor, or QEMU hangs */
	QMP_END_PROTOCOL,    /* what came is not QMP */
	QMP_END_ERROR,	     /* the socket failed, or there is no memory */
	QMP_END_MAX
};

enum qmp_status {
	QMP_OK,
	QMP_REFUSED, /* QEMU answered with an error */
	QMP_TIMEOUT, /* no answer in time; a late one is thrown away, and tells alive() */
	QMP_CLOSED,  /* the connection ended first: nobody knows whether it was carried out */
};

struct qmp_reply {
	enum qmp_status status;
	struct json_object *value; /* OK: borrowed, never NULL */
	const char *class;	   /* REFUSED: "GenericError" … */
	const char *message;	   /* valid UTF-8; "" when OK */
};

/* May free @q. */
typedef void (*qmp_reply_fn)(struct qmp *q, const struct qmp_reply *reply, void *userdata);

struct qmp_ops {
	/* All may free @q. */
	void (*ready)(struct qmp *q, void *userdata);
	/* @data: an object, or NULL; borrowed. @usec: QEMU's realtime, 0 when it gave none. */
	void (*event)(struct qmp *q, const char *name, struct json_object *data, uint64_t usec, void *userdata);
	/* It answers again, something that was given up. Optional. */
	void (*alive)(struct qmp *q, void *userdata);
	/* @message: valid UTF-8. */
	void (*closed)(struct qmp *q, enum qmp_end why, const char *message, void *userdata);
};

#define QMP_LINE_MAX (16u << 20)  /* bytes of one reply or event */
#define QMP_DEPTH_MAX 64	  /* nesting */
#define QMP_OUTPUT_MAX (4u << 20) /* bytes waiting to be written */

/*
 * qmp_new() - speak QMP on a connected socket
 * @fd:	      taken, also on failure; made non-blocking
 * @greeting: µs to wait for the greeting and the answer to qmp_capabilities, each
 *
 * Return: 0, or a negative errno.
 */
int qmp_new(sd_event *event, struct clock *clock, int fd, uint64_t greeting, const struct qmp_ops *ops, void *userdata,
	    struct qmp **ret);
/* Nothing is called any more, waiting replies neither. */
void qmp_free(struct qmp *q);
DEFINE_CLEANUP(struct qmp *, qmp_free)

/*
 * qmp_execute() - send a command
 * @arguments: taken in any case; NULL: none
 * @timeout:   µs to wait for the answer; USEC_UNKNOWN: until the end
 * @fn:	       called once, never before this returns; NULL: nobody wants to know
 *
 * Return: 0; -ENOTCONN before ready() and after closed(); -ENOBUFS when too much waits to be written already.
 */
int qmp_execute(struct qmp *q, const char *command, struct json_object *arguments, uint64_t timeout, qmp_reply_fn fn,
		void *userdata);
/* The same, out of band where QEMU offers that, else in band. Only for commands that QEMU allows so. */
int qmp_execute_oob(struct qmp *q, const char *command, struct json_object *arguments, uint64_t timeout, qmp_reply_fn fn,
		    void *userdata);
/* The same with a descriptor beside it (getfd, add-fd); @fd is duplicated. */
int qmp_execute_fd(struct qmp *q, const char *command, struct json_object *arguments, int fd, uint64_t timeout,
		   qmp_reply_fn fn, void *userdata);

bool qmp_has_oob(const struct qmp *q);
/* "7.2.22"; "" before the greeting. */
const char *qmp_version(const struct qmp *q);
size_t qmp_waiting(const struct qmp *q); /* commands not answered yet */

/* Of any object: NULL, 0, false or @missing where there is nothing of that name and type. Borrowed. */
struct json_object *json_member(struct json_object *o, const char *name);
const char *json_s(struct json_object *o, const char *name);
bool json_b(struct json_object *o, const char *name);
uint64_t json_u(struct json_object *o, const char *name, uint64_t missing);
int64_t json_i(struct json_object *o, const char *name, int64_t missing);
/* An object of string members: json_strings("a", "1", "b", "2", NULL). NULL: no memory. */
struct json_object *json_strings(const char *name, ...) __attribute__((sentinel));

/*
 * The parser alone: bytes in, whole JSON objects out; into which parts they are cut changes nothing. What the client, the
 * fuzzer and the tests share. It holds no more than one object, of at most @max bytes (which json-c wants below INT_MAX).
 */
struct qmp_parser;
/* Return: 0 to go on; anything else ends qmp_parser_feed(), which returns it. @o is borrowed. */
typedef int (*qmp_object_fn)(struct json_object *o, void *userdata);
int qmp_parser_new(size_t max, struct qmp_parser **ret);
void qmp_parser_free(struct qmp_parser *p);
DEFINE_CLEANUP(struct qmp_parser *, qmp_parser_free)
/*
 * Return: 0; what fn() returned; -EBADMSG when it is not JSON, or not an object; -EMSGSIZE when one is too big;
 * -ENOMEM. After a failure it is to be freed. @ret_why: static text, on EBADMSG.
 */
int qmp_parser_feed(struct qmp_parser *p, const char *data, size_t n, qmp_object_fn fn, void *userdata,
		    const char **ret_why);
/* Is there the beginning of an object? */
bool qmp_parser_pending(const struct qmp_parser *p);
