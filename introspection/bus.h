/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "broker/broker.h"

/*
 * The face: a broker shown on a bus. It parses, asks policy, calls the broker, answers; it decides nothing.
 * Main loop's thread only.
 */
struct face;

/* Who decides what a caller may do. Root and this process's own user may do everything in any case. */
enum face_policy {
	FACE_POLICY_OWNER,  /* nobody else may do anything: a session bus, a private address */
	FACE_POLICY_POLKIT, /* polkit: the system bus */
};

/* What members of a group may see though polkit does not show them the whole connection. */
struct face_view {
	uint32_t gid;
	const char *const *patterns[KIND_JOB]; /* of the names of each kind; of a connection its label. NULL: none */
};

/* How much one caller may keep us busy with. 0: the default. */
struct face_limits {
	unsigned streams;   /* open at once */
	unsigned polls;	    /* calls of GetEvents that wait */
	unsigned questions; /* to polkit that wait */
	unsigned jobs;	    /* running, of one user */
	uint64_t bytes;	    /* of arguments that wait, of one user */
};

struct face_config {
	/* Broadcast=no: signals go only to those who called Subscribe, and reads are checked. */
	bool private_signals;
	enum face_policy policy;
	const struct face_view *views; /* borrowed, as long as the face lives */
	size_t n_views;
	struct face_limits limits;
};

/**
 * face_new() - show @b on @bus
 * @b:      broker, borrowed; outlives the face
 * @bus:    a started connection, attached to the loop (sd_bus_attach_event()); a reference is taken. Its name is not
 *          requested here: the caller does that once broker_ready()
 * @config: copied; NULL: the defaults
 *
 * When the bus is lost: face_free(), and a new face on a new connection. The broker goes on meanwhile.
 * Return: 0, or a negative errno.
 */
int face_new(struct broker *b, sd_bus *bus, const struct face_config *config, struct face **ret);
/* Calls that still wait are dropped without an answer. NULL is fine. */
void face_free(struct face *f);
DEFINE_CLEANUP(struct face *, face_free)

/* Somebody is served: a call waits, a stream is open, somebody has subscribed. For the idle exit. */
bool face_is_busy(struct face *f);
/* When the last call came, monotonic µs; at first when the face was made. */
uint64_t face_called(const struct face *f);
