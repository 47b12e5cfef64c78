/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"

/*
 * What the broker shows, as JSON: one object each, with "object" (the path) and "kind" (a word) in front, then the
 * properties as they are called on the bus.
 */
struct snapshot {
	char epoch[33];
	uint64_t version;
	json_object *objects; /* an array, in the order of connection, kind and name */
};

void snapshot_clear(struct snapshot *s);
int snapshot_read(sd_bus_message *reply, struct snapshot *ret); /* a negative errno */

/*
 * objects_snapshot() - list, exactly as at one version
 * @kinds: which kinds, as bits; connections that --connection does not name are left out
 */
int objects_snapshot(struct ctl *c, unsigned kinds, struct snapshot *ret);
/* Append the options that filter by kind and by --connection. A negative errno. */
int append_filter(struct ctl *c, sd_bus_message *m, unsigned kinds);
int append_strings(sd_bus_message *m, const char *key, char type, const char *const *strings, size_t n);
/* The connection that --connection names is there. */
int check_connection(struct ctl *c);

/* "qemu_system" of a path below it or of its own; into the buffer; "" of a job's. */
char *label_of(const char *path, char *buffer, size_t n);
json_object *object_by_path(json_object *objects, const char *path);
/* What people call an object: its name, a connection's label, a job's number. */
const char *object_name(json_object *o, char *buffer, size_t n);

/*
 * resolve() - find the object that a user means
 * @kinds: what it may be
 * @name:  a name, a UUID with or without dashes, LABEL/NAME, a path; of a connection its label or its URI; of a job
 *         its number
 * @ret:   its path, owned by the caller
 */
int resolve(struct ctl *c, unsigned kinds, const char *name, char **ret);
/*
 * lookup() - let the broker find one of thousands, without sending all
 *
 * Return: whether there is exactly one of that name or UUID, of one kind, and --connection was not given.
 */
bool lookup(struct ctl *c, unsigned kinds, const char *name, char **ret);
/* The connection to act on: the one of --connection, or the only one there is. */
int resolve_connection(struct ctl *c, char **ret);
/* The job: by number, or the only one that runs on an object of that name. @wanted: "Cancellable" or "Ready", NULL. */
int resolve_job(struct ctl *c, const char *name, const char *wanted, char **ret);
