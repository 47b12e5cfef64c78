/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "text.h"

#include <sha256.h>
#include <string.h>

#include "utf8.h"

struct text *text_new(const char *s)
{
	_cleanup_(freep) char *valid = NULL;
	struct text *t;
	SHA2_CTX ctx;

	if (!s)
		return NULL;
	if (!utf8_is_valid(s)) {
		s = valid = utf8_dup(s);
		if (!s)
			return NULL;
	}
	size_t size = strlen(s);
	t = malloc(sizeof(*t) + size + 1);
	if (!t)
		return NULL;
	t->refs = 1;
	t->size = size;
	memcpy(t->data, s, size + 1);
	SHA256Init(&ctx);
	SHA256Update(&ctx, (const uint8_t *)s, size);
	SHA256Final(t->hash, &ctx);
	return t;
}

struct text *text_ref(struct text *t)
{
	if (t)
		__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
	return t;
}

void text_unref(struct text *t)
{
	if (t && __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(t);
}

bool text_equal(const struct text *a, const struct text *b)
{
	if (a == b)
		return true;
	return a && b && a->size == b->size && memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}
