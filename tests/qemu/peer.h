/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct json_object;

/*
 * The other end of a monitor, on the same loop: says what a test tells it to, byte by byte if asked to, and keeps what
 * it was told.
 */
struct peer {
	sd_event *event;
	int fd, ours; /* @ours: for the client, which takes it */
	char *in;     /* what it read and nobody took, as text */
	size_t in_size;
	int received_fd; /* -1: none */
};

void peer_open(struct peer *p, sd_event *event);
void peer_close(struct peer *p);
void peer_free(struct peer *p);
/* Write all of it, in parts of @part bytes (0: at once), turning the loop between the parts. */
void peer_send(struct peer *p, const char *text, size_t part);
void peer_send_n(struct peer *p, const char *data, size_t n, size_t part);
/* The next command, whole; turns the loop until it is there. Owned by the caller. */
struct json_object *peer_take(struct peer *p);
/* Is there a command that nobody took? */
bool peer_has(struct peer *p);
/* The next command must be this one; its id. */
uint64_t peer_expect(struct peer *p, const char *command);
void peer_reply(struct peer *p, uint64_t id, const char *value, size_t part);
/* The greeting, and the negotiation. @capabilities: JSON array. */
void peer_greet(struct peer *p, const char *capabilities);
/* Turn the loop until nothing happens any more. */
void peer_turn(struct peer *p);

/*
 * Play QEMU's part of a recorded conversation: lines "> COMMAND" and "< ANSWER". Commands must come in that order and
 * with those arguments; ids are whatever the client chose.
 */
void peer_replay(struct peer *p, const char *file, size_t part);
