/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <sha2.h>
#include <stdio.h>
#include <string.h>

#include "face.h"

/*
 * Digest: SHA-256 of what the caller can see, in the canonical form of doc/digest.md, which a client in any language
 * can make from what it holds: netstrings, in order of path and of property name, without the progress of jobs.
 */
struct digest {
	struct held held;
	struct filter *filter;
};

static void digest_free(struct held *h)
{
	filter_free(((struct digest *)h)->filter);
}

/* "5:hello," */
static void put(SHA2_CTX *sha, const char *s, size_t n)
{
	char head[32];
	int k = snprintf(head, sizeof(head), "%zu:", n);

	SHA256Update(sha, (const uint8_t *)head, (size_t)k);
	SHA256Update(sha, (const uint8_t *)s, n);
	SHA256Update(sha, (const uint8_t *)",", 1);
}

static void put_string(SHA2_CTX *sha, const char *s)
{
	put(sha, s, strlen(s));
}

static size_t netstring_length(const char *s)
{
	size_t n = strlen(s);

	return n + (size_t)snprintf(NULL, 0, "%zu:,", n);
}

/* A netstring of netstrings. */
static void put_strings(SHA2_CTX *sha, char *const *l)
{
	char head[32];
	size_t n = 0;

	for (char *const *s = l; *s; s++)
		n += netstring_length(*s);
	SHA256Update(sha, (const uint8_t *)head, (size_t)snprintf(head, sizeof(head), "%zu:", n));
	for (; *l; l++)
		put_string(sha, *l);
	SHA256Update(sha, (const uint8_t *)",", 1);
}

static void put_value(SHA2_CTX *sha, const struct prop_def *d, const struct value *v)
{
	char number[32];
	int n;

	switch (d->type[0]) {
	case 's':
	case 'o':
		put_string(sha, v->s);
		return;
	case 'a':
	case '(':
		put_strings(sha, v->as);
		return;
	case 'b':
		put_string(sha, v->b ? "true" : "false");
		return;
	case 'i':
		n = snprintf(number, sizeof(number), "%" PRIi32, v->i);
		break;
	case 'u':
		n = snprintf(number, sizeof(number), "%" PRIu32, v->u);
		break;
	default:
		n = snprintf(number, sizeof(number), "%" PRIu64, v->t);
		break;
	}
	put(sha, number, (size_t)n);
}

#define PROPS_MAX 32

static const struct prop_def *sorting; /* qsort() has no userdata; one thread */

static int compare_names(const void *a, const void *b)
{
	return strcmp(sorting[*(const unsigned char *)a].name, sorting[*(const unsigned char *)b].name);
}

static int compare_objects(const void *a, const void *b)
{
	const struct object *const *x = a, *const *y = b;

	return strcmp((*x)->path, (*y)->path);
}

static void put_object(SHA2_CTX *sha, const struct object *o, const unsigned char *order)
{
	char interface[64];
	size_t n;
	const struct prop_def *schema = props_schema(o->kind, &n);

	snprintf(interface, sizeof(interface), VIREO_INTERFACE_PREFIX "%s", kind_interface(o->kind));
	put_string(sha, o->path);
	put_string(sha, interface);
	for (size_t i = 0; i < n; i++) {
		const struct prop_def *d = &schema[order[i]];

		if (d->progress)
			continue;
		put_string(sha, d->name);
		put_value(sha, d, &o->props->v[order[i]]);
	}
}

static int compute(struct broker *b, const struct filter *filter, char *hex)
{
	unsigned char order[KIND_MAX][PROPS_MAX];
	_cleanup_(freep) struct object **objects = NULL;
	uint8_t hash[SHA256_DIGEST_LENGTH];
	size_t max = 1, n = 0;
	SHA2_CTX sha;

	for (enum kind k = 0; k < KIND_MAX; k++) {
		size_t n_props;

		max += broker_count(b, k);
		sorting = props_schema(k, &n_props);
		for (size_t i = 0; i < n_props; i++)
			order[k][i] = (unsigned char)i;
		qsort(order[k], n_props, 1, compare_names);
	}
	objects = calloc(max, sizeof(*objects));
	if (!objects)
		return -ENOMEM;
	for (enum kind k = 0; k < KIND_MAX; k++)
		for (struct object *o = broker_first(b, k); o && n < max; o = o->next)
			if (filter_wants_object(filter, o))
				objects[n++] = o;
	qsort(objects, n, sizeof(*objects), compare_objects);
	SHA256Init(&sha);
	for (size_t i = 0; i < n; i++)
		put_object(&sha, objects[i], order[objects[i]->kind]);
	SHA256Final(hash, &sha);
	for (size_t i = 0; i < sizeof(hash); i++)
		sprintf(hex + 2 * i, "%02x", hash[i]);
	return 0;
}

static void digest_make(struct held *h)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct broker *b = h->face->broker;
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	int r = compute(b, ((struct digest *)h)->filter, hex);

	if (r >= 0)
		r = held_begin(h, &reply);
	if (r >= 0)
		r = sd_bus_message_append(reply, "ts", broker_version(b), hex);
	if (r < 0)
		held_errno(h, r);
	else
		held_reply(h, TAKE(reply));
}

static void digest_go(struct held *h)
{
	held_in_turn(h, digest_make);
}

static const struct held_ops digest_ops = {.go = digest_go, .free = digest_free};

static const struct option_def digest_options[] = {{"kinds", "as"}, {"connections", "ao"}, {"objects", "ao"}, {NULL}};

int method_digest(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(vdict_freep) struct vdict *options = NULL;
	_cleanup_(failure_clear) struct failure f = {0};
	struct face *face = userdata;
	struct digest *d = held_new(face, m, &digest_ops, sizeof(*d));
	int r;

	if (!d)
		return face_error(error, -ENOMEM, NULL);
	r = options_read(m, digest_options, NULL, &options, &f);
	if (r == 0)
		r = filter_new(options, &d->filter, &f);
	if (r != 0)
		return held_refuse(&d->held, r, &f);
	return face_authorize(&d->held, &(struct question){.action = ACTION_VIEW, .covers = d->filter});
}
