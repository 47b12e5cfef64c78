/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <uthash.h>

#include "event.h"
#include "lifecycle.h"

struct connection;
struct job;

/*
 * What is known of one connection, domain, pool, network or job: its record. Owned by the broker's index; borrowed
 * pointers to it are valid until control returns to the loop. Main loop's thread only.
 */
struct object {
	enum kind kind;
	char *path;
	sd_id128_t uuid;	       /* domain, pool, network */
	struct connection *connection; /* it belongs to (its own for KIND_CONNECTION); NULL for a job without one */
	uint64_t version, incarnation;
	struct props *props; /* as held at @version (plus progress, for a job) */
	struct text *xml, *xml_inactive;
	struct life life;     /* domain, pool, network */
	struct job *job;      /* KIND_JOB */
	uint64_t seen_in;     /* serial of the last listing it was part of */
	char *stored_connection; /* path of its connection, while that is not opened (after a restart), or of a job's object's */
	char *extra;	      /* JSON kept with it in the store: the URI of a connection */
	bool dirty, gone;     /* the broker's: to be stored; removed in this turn */
	UT_hash_handle by_path;
	UT_hash_handle by_uuid; /* in its connection's table of its kind */
	struct object *prev, *next; /* in the broker's list of its kind, in order of incarnation */
};

/* Objects are named by their path on the bus everywhere, in history too; the broker knows no more of the bus than that. */
#define OBJECT_PATH_CONNECTIONS "/org/vireo1/connection"
#define OBJECT_PATH_JOBS "/org/vireo1/job"

/* "/org/vireo1/connection/<label>/domain/_<uuid>". Owned by the caller; NULL: no memory. */
char *object_path(enum kind kind, const char *connection_path, sd_id128_t uuid);
/* Path of the connection it belongs to; of a job, that of its object. Borrowed; NULL when it never had one. */
const char *object_connection_path(const struct object *o);
