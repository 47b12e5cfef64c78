/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "macros.h"

struct json_object;
struct writer;

/*
 * A small dictionary of typed values: the details of an event, the options of a call. Keys are unique, in the
 * order of their first setting. Types are D-Bus's: 's' 'b' 'i' 'u' 'x' 't' 'd' and 'a' for an array of strings.
 * Strings are made valid UTF-8 when they enter. Not thread-safe: one owner at a time.
 */
struct vdict_item {
	char *key;
	char type;
	union {
		char *s;
		bool b;
		int32_t i;
		uint32_t u;
		int64_t x;
		uint64_t t;
		double d;
		char **a; /* NULL-terminated, never NULL itself */
	};
};

struct vdict {
	size_t n;
	struct vdict_item *items;
};

struct vdict *vdict_new(void);
void vdict_free(struct vdict *d);
DEFINE_CLEANUP(struct vdict *, vdict_free)
struct vdict *vdict_copy(const struct vdict *d);

/* Set or replace. 0, or -ENOMEM. */
int vdict_set_s(struct vdict *d, const char *key, const char *value);
int vdict_set_b(struct vdict *d, const char *key, bool value);
int vdict_set_i(struct vdict *d, const char *key, int32_t value);
int vdict_set_u(struct vdict *d, const char *key, uint32_t value);
int vdict_set_x(struct vdict *d, const char *key, int64_t value);
int vdict_set_t(struct vdict *d, const char *key, uint64_t value);
int vdict_set_d(struct vdict *d, const char *key, double value);
int vdict_set_a(struct vdict *d, const char *key, const char *const *value);

/* NULL when absent (d may be NULL). */
const struct vdict_item *vdict_get(const struct vdict *d, const char *key);
/* The value when present with the very type, else @missing. Borrowed. */
const char *vdict_s(const struct vdict *d, const char *key, const char *missing);
bool vdict_b(const struct vdict *d, const char *key, bool missing);
uint32_t vdict_u(const struct vdict *d, const char *key, uint32_t missing);
uint64_t vdict_t(const struct vdict *d, const char *key, uint64_t missing);

/*
 * JSON: an object with the keys in order, and the types beside it as one letter an item ("sbt"), because JSON
 * alone would not give the same D-Bus types back. A 64-bit "unknown" time stays the number here.
 */
struct json_object *vdict_to_json(const struct vdict *d);
void vdict_write(struct writer *w, const struct vdict *d); /* NULL: an empty one */
char *vdict_types(const struct vdict *d);
/* -EINVAL when they do not fit together. */
int vdict_from_json(struct json_object *o, const char *types, struct vdict **ret);
