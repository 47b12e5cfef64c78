/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "drivers/driver.h"
#include "util/writer.h"

/*
 * Reports and requests as JSON, for the socket between a driver and a vireo-sim. Strings are bytes as they are: both
 * ends are ours, and what is no UTF-8 has to arrive as that.
 */
void sim_wire_write_report(struct writer *w, const struct report *r); /* a line, with its end */
/* -EBADMSG: it is none. */
int sim_wire_to_report(struct json_object *j, struct report **ret);

void sim_wire_write_request(struct writer *w, const struct request *r);
/* One that needs a descriptor takes the next of @l. */
struct sim_lines;
int sim_wire_to_request(struct json_object *j, struct sim_lines *l, struct request **ret);

void sim_wire_write_uuid(struct writer *w, const char *key, sd_id128_t uuid);
sd_id128_t sim_wire_to_uuid(struct json_object *j, const char *key);

/* Bytes that come and go line by line. */
struct sim_lines {
	char *data;
	size_t n, size, at;
	int *fds; /* owned: that go along with what is to be sent, or have come and were not taken yet */
	size_t n_fds;
};
/* Taken; arrives no later than what is appended after it. */
void sim_lines_append_fd(struct sim_lines *l, int fd);
/* The next that has come, owned by the caller; -1: there is none. */
int sim_lines_take_fd(struct sim_lines *l);
void sim_lines_append(struct sim_lines *l, const char *data, size_t n);
void sim_lines_append_json(struct sim_lines *l, struct json_object *j);
/* The next whole line, ended by NUL, borrowed until the next call; NULL: there is none yet. */
char *sim_lines_next(struct sim_lines *l, size_t *ret_n);
/* Reads what there is. 0: the end; -EAGAIN: nothing now; -errno. */
ssize_t sim_lines_read(struct sim_lines *l, int fd);
/* Writes what it can. -EAGAIN: the rest must wait; 0: all gone; -errno. */
int sim_lines_write(struct sim_lines *l, int fd);
void sim_lines_done(struct sim_lines *l);
