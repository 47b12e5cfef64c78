/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "options.h"

/* Of entries in one list: reading it must not keep the loop, and a stream keeps it for as long as it lasts. */
#define LIST_MAX 10000u

static void strings_free(char **l)
{
	for (char **s = l; l && *s; s++)
		free(*s);
	free(l);
}
DEFINE_CLEANUP(char **, strings_free)

/* Is @word, of @n bytes, one of @words? */
static bool among(const char *words, const char *word, size_t n)
{
	for (const char *p = words; p && *p;) {
		size_t k = strcspn(p, " ");

		if (k == n && memcmp(p, word, n) == 0)
			return true;
		p += k;
		p += strspn(p, " ");
	}
	return false;
}

static const struct option_def *find(const struct option_def *defs, const char *key)
{
	for (; defs && defs->key; defs++)
		if (strcmp(defs->key, key) == 0)
			return defs;
	return NULL;
}

/* "a, b, c" of both tables, for a message. */
static void list_keys(const struct option_def *defs, const struct option_def *more, char *buf, size_t size)
{
	const struct option_def *tables[] = {defs, more};
	size_t n = 0;

	buf[0] = 0;
	for (size_t i = 0; i < ELEMENTS(tables); i++)
		for (const struct option_def *d = tables[i]; d && d->key; d++) {
			int r = snprintf(buf + n, size - n, "%s%s", n ? ", " : "", d->key);

			if (r < 0 || (size_t)r >= size - n) {
				buf[n] = 0;
				return;
			}
			n += (size_t)r;
		}
}

static int unknown_key(const char *key, const struct option_def *defs, const struct option_def *more,
		       struct failure *f)
{
	char known[800];

	list_keys(defs, more, known, sizeof(known));
	if (!known[0])
		return failure_set(f, VIREO_INVALID_OPTION, "there is no option “%s”: this method has none", key);
	return failure_set(f, VIREO_INVALID_OPTION, "there is no option “%s”; there are: %s", key, known);
}

static int check_word(const struct option_def *d, const char *s, struct failure *f)
{
	if (!d->words || among(d->words, s, strlen(s)))
		return 0;
	return failure_set(f, VIREO_INVALID_OPTION, "option “%s” can't be “%s”; it can be: %s", d->key, s, d->words);
}

static int check_range(const struct option_def *d, uint64_t v, struct failure *f)
{
	if (d->max == 0 || (v >= d->min && v <= d->max))
		return 0;
	return failure_set(f, VIREO_INVALID_OPTION, "option “%s” is %" PRIu64 "; it can be %" PRIu64 " to %" PRIu64,
			   d->key, v, d->min, d->max);
}

/* as, ao */
static int read_strings(sd_bus_message *m, const struct option_def *d, struct vdict *v, struct failure *f)
{
	_cleanup_(strings_freep) char **l = NULL;
	size_t n = 0;
	int r;

	l = calloc(1, sizeof(char *));
	if (!l)
		return -ENOMEM;
	r = sd_bus_message_enter_container(m, 'a', d->type + 1);
	if (r < 0)
		return r;
	for (;;) {
		const char *s;
		char **bigger;

		r = sd_bus_message_read_basic(m, d->type[1], &s);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		r = check_word(d, s, f);
		if (r != 0)
			return r;
		if (n == LIST_MAX)
			return failure_set(f, VIREO_INVALID_OPTION, "option “%s” is too long a list; it can have %u entries",
					   d->key, LIST_MAX);
		bigger = reallocarray(l, n + 2, sizeof(char *));
		if (!bigger)
			return -ENOMEM;
		l = bigger;
		l[n] = strdup(s);
		if (!l[n])
			return -ENOMEM;
		l[++n] = NULL;
	}
	r = sd_bus_message_exit_container(m);
	if (r < 0)
		return r;
	return vdict_set_a(v, d->key, (const char *const *)l);
}

static int read_value(sd_bus_message *m, const struct option_def *d, struct vdict *v, struct failure *f)
{
	union {
		const char *s;
		int b;
		int32_t i;
		uint32_t u;
		int64_t x;
		uint64_t t;
		double d;
	} x;
	int r;

	if (d->type[0] == 'a')
		return read_strings(m, d, v, f);
	r = sd_bus_message_read_basic(m, d->type[0], &x);
	if (r < 0)
		return r;
	switch (d->type[0]) {
	case 's':
	case 'o':
		r = check_word(d, x.s, f);
		return r != 0 ? r : vdict_set_s(v, d->key, x.s);
	case 'b':
		return vdict_set_b(v, d->key, x.b);
	case 'i':
		return vdict_set_i(v, d->key, x.i);
	case 'u':
		r = check_range(d, x.u, f);
		return r != 0 ? r : vdict_set_u(v, d->key, x.u);
	case 'x':
		return vdict_set_x(v, d->key, x.x);
	case 't':
		r = check_range(d, x.t, f);
		return r != 0 ? r : vdict_set_t(v, d->key, x.t);
	case 'd':
		return vdict_set_d(v, d->key, x.d);
	default:
		return -EINVAL;
	}
}

/* A flag that is false is as good as absent. */
static bool is_set(const struct vdict_item *i)
{
	return i && (i->type != 'b' || i->b);
}

static int check_exclusive(const struct option_def *defs, const struct vdict *v, struct failure *f)
{
	for (const struct option_def *d = defs; d && d->key; d++) {
		if (!d->not_with || !is_set(vdict_get(v, d->key)))
			continue;
		for (size_t i = 0; i < v->n; i++)
			if (is_set(&v->items[i]) && among(d->not_with, v->items[i].key, strlen(v->items[i].key)))
				return failure_set(f, VIREO_INVALID_OPTION,
						   "option “%s” can't be given together with “%s”", d->key,
						   v->items[i].key);
	}
	return 0;
}

int options_read(sd_bus_message *m, const struct option_def *defs, const struct option_def *more, struct vdict **ret,
		 struct failure *f)
{
	_cleanup_(vdict_freep) struct vdict *v = vdict_new();
	int r;

	if (!v)
		return -ENOMEM;
	r = sd_bus_message_enter_container(m, 'a', "{sv}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		const struct option_def *d;
		const char *key, *type;
		char container;

		r = sd_bus_message_read_basic(m, 's', &key);
		if (r < 0)
			return r;
		d = find(defs, key);
		if (!d)
			d = find(more, key);
		if (!d)
			return unknown_key(key, defs, more, f);
		if (vdict_get(v, key))
			return failure_set(f, VIREO_INVALID_OPTION, "option “%s” is given twice", key);
		r = sd_bus_message_peek_type(m, &container, &type);
		if (r < 0)
			return r;
		if (strcmp(type, d->type) != 0)
			return failure_set(f, VIREO_INVALID_OPTION, "option “%s” has the type “%s”; it must be “%s”",
					   key, type, d->type);
		r = sd_bus_message_enter_container(m, 'v', d->type);
		if (r < 0)
			return r;
		r = read_value(m, d, v, f);
		if (r != 0)
			return r;
		r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
		r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	r = sd_bus_message_exit_container(m);
	if (r < 0)
		return r;
	r = check_exclusive(defs, v, f);
	if (r != 0)
		return r;
	*ret = TAKE(v);
	return 0;
}
