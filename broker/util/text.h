/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "macros.h"

/*
 * A string that many hold: XML, above all. Immutable, counted atomically, named by its content (SHA-256), made
 * valid UTF-8 when it is built.
 */
struct text {
	unsigned refs;
	uint8_t hash[32];
	size_t size; /* bytes without the final NUL */
	char data[];
};

struct text *text_new(const char *s); /* NULL when out of memory or s is NULL */
struct text *text_ref(struct text *t);
void text_unref(struct text *t);
DEFINE_CLEANUP(struct text *, text_unref)
bool text_equal(const struct text *a, const struct text *b); /* NULLs are equal to each other */
