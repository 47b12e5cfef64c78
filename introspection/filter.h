/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "broker/object.h"
#include "util/error.h"
#include "util/vdict.h"

struct peer;

/*
 * Which objects or events a client wants: the options kinds, connections, objects, events and xml. Of different
 * keys all must match; of one key any of its words. Immutable, once it is known who looks through it.
 */
struct filter {
	const struct peer *viewer; /* whose rights bound what is seen (rights.c); NULL: nobody's */
	unsigned kinds;	    /* bits 1u << enum kind */
	char **connections; /* NULL: all. These three are sorted, and have each once */
	char **objects;	    /* NULL: all */
	char **events;	    /* NULL: all; "Started" or "Domain.Started" */
	size_t n_connections, n_objects;
	bool xml;
};

/* From options that options_read() has checked. VIREO_INVALID_OPTION with what is wrong. */
int filter_new(const struct vdict *options, struct filter **ret, struct failure *f);
void filter_free(struct filter *f);
DEFINE_CLEANUP(struct filter *, filter_free)

/* @connection: path of the connection it belongs to. The filter's viewer may see it, too. */
bool filter_wants(const struct filter *f, enum kind kind, const char *path, const char *connection);
bool filter_wants_named(const struct filter *f, enum kind kind, const char *path, const char *connection,
			const char *event);
bool filter_wants_event(const struct filter *f, const struct event *e);
/* The path of the connection that @path lies in, or is; "" when there is none. Owned by the caller; NULL: no memory. */
char *connection_in(const char *path);
/* Anything of this connection, as far as the options go. */
bool filter_covers(const struct filter *f, const char *connection);
bool filter_wants_object(const struct filter *f, const struct object *o);
