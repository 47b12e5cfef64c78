/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "macros.h"

/*
 * Text that grows, and JSON put into it word by word: each event is put into words for history and for streams, and a tree of
 * JSON objects made for that alone costs several times as much. Out of memory is noticed at the end: @failed.
 * Zero-initialised is an empty one.
 */
struct writer {
	char *data; /* not terminated */
	size_t size, room;
	bool failed; /* something is missing */
};

/* Frees what it holds; it is an empty one again. */
void writer_clear(struct writer *w);
/* Empty again, the memory kept; unless that is more than @keep bytes. */
void writer_reset(struct writer *w, size_t keep);

void write_bytes(struct writer *w, const char *data, size_t n);
#define write_literal(w, s) write_bytes(w, "" s, sizeof(s) - 1)
void write_number(struct writer *w, uint64_t n);
void write_signed(struct writer *w, int64_t n);
/* The shortest number that gives the same value back; 0 for what JSON has no word for. LC_NUMERIC is to be "C". */
void write_double(struct writer *w, double d);
void write_bool(struct writer *w, bool b);
/* A JSON string of valid UTF-8, in quotation marks. */
void write_string(struct writer *w, const char *s);
void write_stringn(struct writer *w, const char *s, size_t n);
/* A JSON array of strings. @l: NULL-terminated. */
void write_strings(struct writer *w, char *const *l);
/* "key": with a comma in front unless something opens right before it. A key that needs no escaping. */
void write_key(struct writer *w, const char *key);
