/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "props-private.h"
#include "util/utf8.h"

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

enum form props_form(const struct prop_def *d)
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

void props_strv_free(char **l)
{
	if (!l)
		return;
	for (char **s = l; *s; s++)
		free(*s);
	free(l);
}

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
	_cleanup_(props_strv_freep) char **copy = calloc((n > min ? n : min) + 1, sizeof(char *));

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
	switch (props_form(d)) {
	case FORM_STRING:
		if (!inside(p, v->s))
			free(v->s);
		v->s = NULL;
		break;
	case FORM_LIST:
	case FORM_PAIR:
		/* A list and its strings are inside together, or not at all. */
		if (!inside(p, v->as))
			props_strv_free(v->as);
		v->as = NULL;
		break;
	default:
		break;
	}
}

struct props *props_alloc(enum kind kind, size_t more)
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

char *props_tail(struct props *p)
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
		switch (props_form(&kinds[kind].schema[i])) {
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
		switch (props_form(&kinds[p->kind].schema[i])) {
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
		switch (props_form(&kinds[from->kind].schema[i])) {
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
		switch (props_form(&kinds[p->kind].schema[i])) {
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

	assert(p->refs == 1 && i < kinds[p->kind].n && props_form(&kinds[p->kind].schema[i]) == FORM_STRING);
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
	enum form form = props_form(&kinds[p->kind].schema[i]);
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
	switch (props_form(&kinds[a->kind].schema[i])) {
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
