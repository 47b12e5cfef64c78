/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "props.h"
#include "util/utf8.h"
#include "util/writer.h"

/* ---- what is in a set ------------------------------------------------------------------------------------- */

static const struct prop_def connection_schema[] = {
	[CONNECTION_URI] = {"URI", "s"},
	[CONNECTION_DRIVER] = {"Driver", "s"},
	[CONNECTION_STATE] = {"State", "s"},
	[CONNECTION_HOSTNAME] = {"Hostname", "s"},
	[CONNECTION_HYPERVISOR_VERSION] = {"HypervisorVersion", "s"},
	[CONNECTION_SUPPORTED_EVENTS] = {"SupportedEvents", "as"},
	[CONNECTION_SUPPORTED_OPERATIONS] = {"SupportedOperations", "as"},
	[CONNECTION_SAME_AS] = {"SameAs", "ao"},
	[CONNECTION_ERROR] = {"Error", "s"},
	[CONNECTION_VERSION] = {"Version", "t"},
};
static_assert(ELEMENTS(connection_schema) == CONNECTION_PROP_MAX, "every property of a connection has its line");

static const struct prop_def domain_schema[] = {
	[DOMAIN_NAME] = {"Name", "s"},
	[DOMAIN_UUID] = {"UUID", "s"},
	[DOMAIN_TITLE] = {"Title", "s"},
	[DOMAIN_DESCRIPTION] = {"Description", "s"},
	[DOMAIN_OS_TYPE] = {"OSType", "s"},
	[DOMAIN_ID] = {"ID", "i"},
	[DOMAIN_CONNECTION] = {"Connection", "o"},
	[DOMAIN_STATE] = {"State", "s"},
	[DOMAIN_REASON] = {"Reason", "s"},
	[DOMAIN_ACTIVE] = {"Active", "b"},
	[DOMAIN_PERSISTENT] = {"Persistent", "b"},
	[DOMAIN_AUTOSTART] = {"Autostart", "b"},
	[DOMAIN_HAS_MANAGED_SAVE] = {"HasManagedSave", "b"},
	[DOMAIN_MAX_MEMORY] = {"MaxMemory", "t"},
	[DOMAIN_MEMORY] = {"Memory", "t"},
	[DOMAIN_VCPUS] = {"VCPUs", "u"},
	[DOMAIN_JOBS] = {"Jobs", "ao"},
	[DOMAIN_INCARNATION] = {"Incarnation", "t"},
	[DOMAIN_VERSION] = {"Version", "t"},
};
static_assert(ELEMENTS(domain_schema) == DOMAIN_PROP_MAX, "every property of a domain has its line");

static const struct prop_def pool_schema[] = {
	[POOL_NAME] = {"Name", "s"},
	[POOL_UUID] = {"UUID", "s"},
	[POOL_TYPE] = {"Type", "s"},
	[POOL_CONNECTION] = {"Connection", "o"},
	[POOL_STATE] = {"State", "s"},
	[POOL_ACTIVE] = {"Active", "b"},
	[POOL_PERSISTENT] = {"Persistent", "b"},
	[POOL_AUTOSTART] = {"Autostart", "b"},
	[POOL_CAPACITY] = {"Capacity", "t"},
	[POOL_ALLOCATION] = {"Allocation", "t"},
	[POOL_AVAILABLE] = {"Available", "t"},
	[POOL_JOBS] = {"Jobs", "ao"},
	[POOL_INCARNATION] = {"Incarnation", "t"},
	[POOL_VERSION] = {"Version", "t"},
};
static_assert(ELEMENTS(pool_schema) == POOL_PROP_MAX, "every property of a pool has its line");

static const struct prop_def network_schema[] = {
	[NETWORK_NAME] = {"Name", "s"},
	[NETWORK_UUID] = {"UUID", "s"},
	[NETWORK_TYPE] = {"Type", "s"},
	[NETWORK_CONNECTION] = {"Connection", "o"},
	[NETWORK_STATE] = {"State", "s"},
	[NETWORK_ACTIVE] = {"Active", "b"},
	[NETWORK_PERSISTENT] = {"Persistent", "b"},
	[NETWORK_AUTOSTART] = {"Autostart", "b"},
	[NETWORK_BRIDGE] = {"Bridge", "s"},
	[NETWORK_JOBS] = {"Jobs", "ao"},
	[NETWORK_INCARNATION] = {"Incarnation", "t"},
	[NETWORK_VERSION] = {"Version", "t"},
};
static_assert(ELEMENTS(network_schema) == NETWORK_PROP_MAX, "every property of a network has its line");

static const struct prop_def job_schema[] = {
	[JOB_OBJECT] = {"Object", "o"},
	[JOB_OPERATION] = {"Operation", "s"},
	[JOB_TYPE] = {"Type", "s"},
	[JOB_STATE] = {"State", "s"},
	[JOB_RUNNING_TIME] = {"RunningTime", "t", .progress = true, .unknown_null = true},
	[JOB_REMAINING_TIME] = {"RemainingTime", "t", .progress = true, .unknown_null = true},
	[JOB_PERCENT] = {"Percent", "d", .progress = true},
	[JOB_BYTES_TOTAL] = {"BytesTotal", "t", .progress = true},
	[JOB_BYTES_DONE] = {"BytesDone", "t", .progress = true},
	[JOB_READY] = {"Ready", "b"},
	[JOB_CANCELLABLE] = {"Cancellable", "b"},
	[JOB_CANCEL_REQUESTED] = {"CancelRequested", "b"},
	[JOB_STARTED_BY] = {"StartedBy", "u"},
	[JOB_ERROR] = {"Error", "(ss)"},
	[JOB_VERSION] = {"Version", "t"},
};
static_assert(ELEMENTS(job_schema) == JOB_PROP_MAX, "every property of a job has its line");

static const struct {
	const char *interface;
	const struct prop_def *schema;
	size_t n;
} kinds[] = {
	[KIND_CONNECTION] = {"Connection", connection_schema, ELEMENTS(connection_schema)},
	[KIND_DOMAIN] = {"Domain", domain_schema, ELEMENTS(domain_schema)},
	[KIND_POOL] = {"StoragePool", pool_schema, ELEMENTS(pool_schema)},
	[KIND_NETWORK] = {"Network", network_schema, ELEMENTS(network_schema)},
	[KIND_JOB] = {"Job", job_schema, ELEMENTS(job_schema)},
};
static_assert(ELEMENTS(kinds) == KIND_MAX, "every kind has its schema");

/**
 * props_schema() - what a set of this kind consists of
 * @kind:  below KIND_MAX
 * @ret_n: how many; may be NULL
 *
 * Return: the table, in the order of props.v; static.
 */
const struct prop_def *props_schema(enum kind kind, size_t *ret_n)
{
	if (ret_n)
		*ret_n = kinds[kind].n;
	return kinds[kind].schema;
}

const char *kind_interface(enum kind kind)
{
	return kinds[kind].interface;
}

/* How a value is held; the D-Bus signature says more than memory needs to know. */
enum form { FORM_STRING, FORM_LIST, FORM_PAIR, FORM_BOOL, FORM_I32, FORM_U32, FORM_U64, FORM_DOUBLE };

static enum form form_of(const struct prop_def *d)
{
	switch (d->type[0]) {
	case 's':
	case 'o':
		return FORM_STRING;
	case 'a':
		return FORM_LIST;
	case '(':
		return FORM_PAIR;
	case 'b':
		return FORM_BOOL;
	case 'i':
		return FORM_I32;
	case 'u':
		return FORM_U32;
	case 't':
		return FORM_U64;
	default:
		assert(d->type[0] == 'd');
		return FORM_DOUBLE;
	}
}

/* ---- life ------------------------------------------------------------------------------------------------- */

static void strv_free(char **l)
{
	if (!l)
		return;
	for (char **s = l; *s; s++)
		free(*s);
	free(l);
}
DEFINE_CLEANUP(char **, strv_free)

static size_t strv_length(const char *const *l)
{
	size_t n = 0;

	while (l && l[n])
		n++;
	return n;
}

/* Always room for @min strings, so that a pair can be read without counting. */
static char **strv_dup(const char *const *l, size_t min)
{
	size_t n = strv_length(l);
	_cleanup_(strv_freep) char **copy = calloc((n > min ? n : min) + 1, sizeof(char *));

	if (!copy)
		return NULL;
	for (size_t i = 0; i < n || i < min; i++) {
		const char *s = i < n ? l[i] : "";

		copy[i] = utf8_dup(s);
		if (!copy[i])
			return NULL;
	}
	return TAKE(copy);
}

/*
 * A set is one block of memory: the values, then what strings and lists they point to. What is set afterwards lies
 * beside it, until the set is copied or packed.
 */
static bool inside(const struct props *p, const void *at)
{
	return (const char *)at >= (const char *)p && (const char *)at < (const char *)p + p->size;
}

static void value_clear(const struct props *p, const struct prop_def *d, struct value *v)
{
	switch (form_of(d)) {
	case FORM_STRING:
		if (!inside(p, v->s))
			free(v->s);
		v->s = NULL;
		break;
	case FORM_LIST:
	case FORM_PAIR:
		/* A list and its strings are inside together, or not at all. */
		if (!inside(p, v->as))
			strv_free(v->as);
		v->as = NULL;
		break;
	default:
		break;
	}
}

/* With room for @more bytes; these are not cleared. */
static struct props *props_alloc(enum kind kind, size_t more)
{
	size_t values = sizeof(struct props) + kinds[kind].n * sizeof(struct value);
	struct props *p = malloc(values + more);

	if (!p)
		return NULL;
	memset(p, 0, values);
	p->refs = 1;
	p->kind = kind;
	p->size = values + more;
	return p;
}

/* Where what values point to begins: lists first, which have to be aligned. */
static char *props_tail(struct props *p)
{
	return (char *)&p->v[kinds[p->kind].n];
}

struct props *props_new(enum kind kind)
{
	/* One empty pair, the end of which is an empty list; "", "/" for all. */
	struct props *p = props_alloc(kind, 3 * sizeof(char *) + sizeof("") + sizeof("/"));
	char **pair, *empty, *root;

	if (!p)
		return NULL;
	pair = (char **)props_tail(p);
	empty = (char *)&pair[3];
	root = empty + sizeof("");
	memcpy(empty, "", sizeof(""));
	memcpy(root, "/", sizeof("/"));
	pair[0] = pair[1] = empty;
	pair[2] = NULL;
	for (size_t i = 0; i < kinds[kind].n; i++)
		switch (form_of(&kinds[kind].schema[i])) {
		case FORM_STRING:
			/* An empty object path would be refused by every D-Bus library. */
			p->v[i].s = kinds[kind].schema[i].type[0] == 'o' ? root : empty;
			break;
		case FORM_LIST:
			p->v[i].as = &pair[2];
			break;
		case FORM_PAIR:
			p->v[i].as = pair;
			break;
		default:
			break;
		}
	return p;
}

/* Bytes of lists, and of strings, that the values of a set point to. */
static void measure(const struct props *p, size_t *ret_lists, size_t *ret_strings)
{
	size_t lists = 0, strings = 0;

	for (size_t i = 0; i < kinds[p->kind].n; i++)
		switch (form_of(&kinds[p->kind].schema[i])) {
		case FORM_STRING:
			strings += strlen(p->v[i].s) + 1;
			break;
		case FORM_LIST:
		case FORM_PAIR:
			lists += sizeof(char *);
			for (char **s = p->v[i].as; *s; s++) {
				lists += sizeof(char *);
				strings += strlen(*s) + 1;
			}
			break;
		default:
			break;
		}
	*ret_lists = lists;
	*ret_strings = strings;
}

struct props *props_copy(const struct props *from)
{
	size_t lists, strings;
	struct props *p;
	char **list, *string;

	measure(from, &lists, &strings);
	p = props_alloc(from->kind, lists + strings);
	if (!p)
		return NULL;
	list = (char **)props_tail(p);
	string = (char *)list + lists;
	for (size_t i = 0; i < kinds[from->kind].n; i++)
		switch (form_of(&kinds[from->kind].schema[i])) {
		case FORM_STRING:
			p->v[i].s = string;
			string = stpcpy(string, from->v[i].s) + 1;
			break;
		case FORM_LIST:
		case FORM_PAIR:
			p->v[i].as = list;
			for (char **s = from->v[i].as; *s; s++) {
				*list++ = string;
				string = stpcpy(string, *s) + 1;
			}
			*list++ = NULL;
			break;
		default:
			p->v[i] = from->v[i];
			break;
		}
	return p;
}

/* So many values beside the block cost less than a copy. */
#define BESIDE_MAX 3

struct props *props_pack(struct props *p)
{
	struct props *packed;
	unsigned beside = 0;

	/* Somebody has it already. */
	if (p->refs > 1)
		return p;
	for (size_t i = 0; i < kinds[p->kind].n; i++)
		switch (form_of(&kinds[p->kind].schema[i])) {
		case FORM_STRING:
			beside += !inside(p, p->v[i].s);
			break;
		case FORM_LIST:
		case FORM_PAIR:
			beside += !inside(p, p->v[i].as);
			break;
		default:
			break;
		}
	packed = beside > BESIDE_MAX ? props_copy(p) : NULL;
	if (!packed)
		return p;
	props_unref(p);
	return packed;
}

struct props *props_ref(struct props *p)
{
	if (p)
		p->refs++;
	return p;
}

void props_unref(struct props *p)
{
	if (!p || --p->refs > 0)
		return;
	for (size_t i = 0; i < kinds[p->kind].n; i++)
		value_clear(p, &kinds[p->kind].schema[i], &p->v[i]);
	free(p);
}

int props_set_s(struct props *p, unsigned i, const char *s)
{
	char *copy;

	assert(p->refs == 1 && i < kinds[p->kind].n && form_of(&kinds[p->kind].schema[i]) == FORM_STRING);
	if (!s)
		s = "";
	if (strcmp(p->v[i].s, s) == 0)
		return 0;
	copy = utf8_dup(s);
	if (!copy)
		return -ENOMEM;
	value_clear(p, &kinds[p->kind].schema[i], &p->v[i]);
	p->v[i].s = copy;
	return 0;
}

int props_set_as(struct props *p, unsigned i, const char *const *as)
{
	enum form form = form_of(&kinds[p->kind].schema[i]);
	char **copy;

	assert(p->refs == 1 && i < kinds[p->kind].n && (form == FORM_LIST || form == FORM_PAIR));
	assert(form != FORM_PAIR || strv_length(as) <= 2);
	copy = strv_dup(as, form == FORM_PAIR ? 2 : 0);
	if (!copy)
		return -ENOMEM;
	value_clear(p, &kinds[p->kind].schema[i], &p->v[i]);
	p->v[i].as = copy;
	return 0;
}

/* ---- comparing -------------------------------------------------------------------------------------------- */

bool props_value_equal(const struct props *a, const struct props *b, unsigned i)
{
	const struct value *x = &a->v[i], *y = &b->v[i];

	assert(a->kind == b->kind && i < kinds[a->kind].n);
	switch (form_of(&kinds[a->kind].schema[i])) {
	case FORM_STRING:
		return strcmp(x->s, y->s) == 0;
	case FORM_LIST:
	case FORM_PAIR:
		for (size_t n = 0;; n++) {
			if (!x->as[n] || !y->as[n])
				return x->as[n] == y->as[n];
			if (strcmp(x->as[n], y->as[n]) != 0)
				return false;
		}
	case FORM_BOOL:
		return x->b == y->b;
	case FORM_I32:
		return x->i == y->i;
	case FORM_U32:
		return x->u == y->u;
	case FORM_U64:
		return x->t == y->t;
	case FORM_DOUBLE:
		/* Bits, not numbers: a NaN that somebody put in must not look like a change for ever. */
		return memcmp(&x->d, &y->d, sizeof(x->d)) == 0;
	}
	return false;
}

bool props_equal(const struct props *a, const struct props *b)
{
	if (a == b)
		return true;
	if (!a || !b || a->kind != b->kind)
		return false;
	/* Version is the last of every table. */
	for (unsigned i = 0; i + 1 < kinds[a->kind].n; i++)
		if (!props_value_equal(a, b, i))
			return false;
	return true;
}

/* ---- JSON ------------------------------------------------------------------------------------------------- */

static void write_value(struct writer *w, const struct prop_def *d, const struct value *v)
{
	switch (form_of(d)) {
	case FORM_STRING:
		write_string(w, v->s);
		break;
	case FORM_LIST:
	case FORM_PAIR:
		write_strings(w, v->as);
		break;
	case FORM_BOOL:
		write_bool(w, v->b);
		break;
	case FORM_I32:
		write_signed(w, v->i);
		break;
	case FORM_U32:
		write_number(w, v->u);
		break;
	case FORM_U64:
		if (d->unknown_null && v->t == USEC_UNKNOWN)
			write_literal(w, "null");
		else
			write_number(w, v->t);
		break;
	case FORM_DOUBLE:
		write_double(w, v->d);
		break;
	}
}

void props_write(struct writer *w, const struct props *p)
{
	const struct prop_def *schema = kinds[p->kind].schema;

	write_literal(w, "{");
	for (size_t i = 0; i < kinds[p->kind].n; i++) {
		write_key(w, schema[i].name);
		write_value(w, &schema[i], &p->v[i]);
	}
	write_literal(w, "}");
}

static int string_from_json(struct json_object *o, char **ret)
{
	const char *s;

	if (!json_object_is_type(o, json_type_string))
		return -EINVAL;
	s = json_object_get_string(o);
	/* A NUL inside would make it another string than was written. */
	if (strlen(s) != (size_t)json_object_get_string_len(o))
		return -EINVAL;
	*ret = utf8_dup(s);
	return *ret ? 0 : -ENOMEM;
}

static int list_from_json(struct json_object *o, bool pair, char ***ret)
{
	_cleanup_(strv_freep) char **l = NULL;
	size_t n;

	if (!json_object_is_type(o, json_type_array))
		return -EINVAL;
	n = json_object_array_length(o);
	if (pair && n != 2)
		return -EINVAL;
	l = calloc(n + 1, sizeof(char *));
	if (!l)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int r = string_from_json(json_object_array_get_idx(o, i), &l[i]);

		if (r < 0)
			return r;
	}
	*ret = TAKE(l);
	return 0;
}

/* An integer between @min and @max; json-c would clip instead of complaining. */
static int integer_from_json(struct json_object *o, int64_t min, uint64_t max, uint64_t *ret)
{
	int64_t signed_value;

	if (!json_object_is_type(o, json_type_int))
		return -EINVAL;
	signed_value = json_object_get_int64(o);
	if (signed_value < 0) {
		if (signed_value < min)
			return -EINVAL;
		*ret = (uint64_t)signed_value;
		return 0;
	}
	*ret = json_object_get_uint64(o);
	return *ret > max ? -EINVAL : 0;
}

static int value_from_json(const struct prop_def *d, struct json_object *o, struct value *ret)
{
	uint64_t n;
	int r;

	switch (form_of(d)) {
	case FORM_STRING:
		return string_from_json(o, &ret->s);
	case FORM_LIST:
	case FORM_PAIR:
		return list_from_json(o, form_of(d) == FORM_PAIR, &ret->as);
	case FORM_BOOL:
		if (!json_object_is_type(o, json_type_boolean))
			return -EINVAL;
		ret->b = json_object_get_boolean(o);
		return 0;
	case FORM_I32:
		r = integer_from_json(o, INT32_MIN, INT32_MAX, &n);
		if (r < 0)
			return r;
		ret->i = (int32_t)(int64_t)n;
		return 0;
	case FORM_U32:
		r = integer_from_json(o, 0, UINT32_MAX, &n);
		if (r < 0)
			return r;
		ret->u = (uint32_t)n;
		return 0;
	case FORM_U64:
		if (!o && d->unknown_null) {
			ret->t = USEC_UNKNOWN;
			return 0;
		}
		return integer_from_json(o, 0, UINT64_MAX, &ret->t);
	case FORM_DOUBLE:
		if (!json_object_is_type(o, json_type_double) && !json_object_is_type(o, json_type_int))
			return -EINVAL;
		ret->d = json_object_get_double(o);
		return isfinite(ret->d) ? 0 : -EINVAL;
	}
	return -EINVAL;
}

int props_from_json(enum kind kind, struct json_object *o, struct props **ret)
{
	_cleanup_(props_unrefp) struct props *p = NULL;

	if (!json_object_is_type(o, json_type_object))
		return -EINVAL;
	p = props_alloc(kind, 0);
	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < kinds[kind].n; i++) {
		struct json_object *v;
		int r;

		if (!json_object_object_get_ex(o, kinds[kind].schema[i].name, &v))
			return -EINVAL;
		r = value_from_json(&kinds[kind].schema[i], v, &p->v[i]);
		if (r < 0)
			return r;
	}
	*ret = props_pack(TAKE(p));
	return 0;
}
