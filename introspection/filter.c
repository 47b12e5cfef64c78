/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "face.h"

static void strings_free(char **l)
{
	for (char **s = l; l && *s; s++)
		free(*s);
	free(l);
}

static char **strings_dup(char *const *l)
{
	size_t n = 0;
	char **copy;

	while (l[n])
		n++;
	copy = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = strdup(l[i]);
		if (!copy[i]) {
			strings_free(copy);
			return NULL;
		}
	}
	return copy;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sort a list, each once: it is looked into for each object and event, however long somebody made it. */
static size_t tidy(char **l)
{
	size_t n = 0, kept = 0;

	while (l && l[n])
		n++;
	if (n == 0)
		return 0;
	qsort(l, n, sizeof(*l), compare);
	for (size_t i = 1; i < n; i++)
		if (strcmp(l[kept], l[i]) == 0)
			free(l[i]);
		else
			l[++kept] = l[i];
	l[++kept] = NULL;
	return kept;
}

/* Whether the first @length bytes of @s are in a sorted list. */
static bool contains(char *const *l, size_t n, const char *s, size_t length)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int c = strncmp(l[middle], s, length);

		if (c == 0 && l[middle][length] == 0)
			return true;
		if (c < 0)
			low = middle + 1;
		else
			high = middle; /* what it begins like comes before it */
	}
	return false;
}

void filter_free(struct filter *f)
{
	if (!f)
		return;
	strings_free(f->connections);
	strings_free(f->objects);
	strings_free(f->events);
	free(f);
}

static bool in_tree(const char *path)
{
	size_t n = strlen(VIREO_PATH_ROOT);

	return strncmp(path, VIREO_PATH_ROOT, n) == 0 && (path[n] == 0 || path[n] == '/');
}

/* A list that is there, checked: not empty, and paths of our tree. */
static int take_list(const struct vdict *options, const char *key, bool paths, char ***ret, struct failure *f)
{
	const struct vdict_item *i = vdict_get(options, key);

	if (!i)
		return 0;
	if (!i->a[0])
		return failure_set(f, VIREO_INVALID_OPTION,
				   "option “%s” is an empty list, which nothing matches; leave it out to have all", key);
	for (char **s = i->a; paths && *s; s++)
		if (!in_tree(*s))
			return failure_set(f, VIREO_INVALID_OPTION, "option “%s”: %s is not below " VIREO_PATH_ROOT, key,
					   *s);
	*ret = strings_dup(i->a);
	return *ret ? 0 : -ENOMEM;
}

static bool has_event(enum kind kind, const char *name)
{
	static const sd_bus_vtable *const vtables[] = {
		[KIND_CONNECTION] = connection_vtable, [KIND_DOMAIN] = domain_vtable, [KIND_POOL] = pool_vtable,
		[KIND_NETWORK] = network_vtable,       [KIND_JOB] = job_vtable,
	};

	static_assert(ELEMENTS(vtables) == KIND_MAX, "events of each kind");
	for (const sd_bus_vtable *v = vtables[kind]; v->type != _SD_BUS_VTABLE_END; v++)
		if (v->type == _SD_BUS_VTABLE_SIGNAL && strcmp(v->x.signal.member, name) == 0)
			return true;
	return false;
}

/* "Started", "Domain.Started", and as in the type of a stream's line "org.vireo1.Domain.Started". */
static bool is_event(const char *s)
{
	const char *dot = strrchr(s, '.');

	for (unsigned k = 0; k < KIND_MAX; k++) {
		const char *interface = kind_interface((enum kind)k);

		if (dot && ((size_t)(dot - s) != strlen(interface) || strncmp(s, interface, (size_t)(dot - s)) != 0))
			continue;
		if (has_event((enum kind)k, dot ? dot + 1 : s))
			return true;
	}
	return false;
}

/* One that no object can have is a mistake: it would be waited for without an end. */
static int check_events(char **events, struct failure *f)
{
	static const char prefix[] = VIREO_BUS_NAME ".";

	for (char **s = events; s && *s; s++) {
		size_t n = strlen(prefix);

		if (strncmp(*s, prefix, n) == 0 && strchr(*s + n, '.'))
			memmove(*s, *s + n, strlen(*s + n) + 1);
		if (!is_event(*s))
			return failure_set(f, VIREO_INVALID_OPTION, "option “events”: there is no event “%s”", *s);
	}
	return 0;
}

int filter_new(const struct vdict *options, struct filter **ret, struct failure *f)
{
	_cleanup_(filter_freep) struct filter *n = calloc(1, sizeof(*n));
	const struct vdict_item *kinds = vdict_get(options, "kinds");
	int r;

	if (!n)
		return -ENOMEM;
	n->kinds = (1u << KIND_MAX) - 1;
	if (kinds) {
		n->kinds = 0;
		for (char **s = kinds->a; *s; s++) {
			int k = kind_from_string(*s);

			if (k < 0)
				return failure_set(f, VIREO_INVALID_OPTION,
						   "option “kinds”: there is no kind “%s”; there are: connection, "
						   "domain, pool, network, job",
						   *s);
			n->kinds |= 1u << k;
		}
		if (!n->kinds)
			return failure_set(f, VIREO_INVALID_OPTION,
					   "option “kinds” is an empty list, which nothing matches; leave it out to "
					   "have all");
	}
	r = take_list(options, "connections", true, &n->connections, f);
	if (r == 0)
		r = take_list(options, "objects", true, &n->objects, f);
	if (r == 0)
		r = take_list(options, "events", false, &n->events, f);
	if (r == 0)
		r = check_events(n->events, f);
	if (r != 0)
		return r;
	n->n_connections = tidy(n->connections);
	n->n_objects = tidy(n->objects);
	(void)tidy(n->events);
	n->xml = vdict_b(options, "xml", false);
	*ret = TAKE(n);
	return 0;
}

/* "/org/vireo1/connection/<label>" at the beginning of @path: its length; 0 if it is not below a connection. */
static size_t connection_length(const char *path)
{
	size_t n = strlen(VIREO_PATH_CONNECTIONS "/");

	if (strncmp(path, VIREO_PATH_CONNECTIONS "/", n) != 0)
		return 0;
	while (path[n] && path[n] != '/')
		n++;
	return n;
}

char *connection_in(const char *path)
{
	return strndup(path, connection_length(path));
}

bool filter_wants(const struct filter *f, enum kind kind, const char *path, const char *connection)
{
	if (!(f->kinds & 1u << kind))
		return false;
	if (f->connections) {
		size_t n = connection_length(connection);

		if (n == 0 || !contains(f->connections, f->n_connections, connection, n))
			return false;
	}
	if (f->objects && !contains(f->objects, f->n_objects, path, strlen(path)))
		return false;
	return !f->viewer || rights_sees(f->viewer, kind, path, connection, f->xml);
}

bool filter_covers(const struct filter *f, const char *connection)
{
	size_t n = strlen(connection);

	if (f->connections && !contains(f->connections, f->n_connections, connection, n))
		return false;
	if (!f->objects)
		return true;
	/* A job may be of any of them. */
	for (char **s = f->objects; *s; s++)
		if (connection_length(*s) == 0 || (strncmp(*s, connection, n) == 0 && ((*s)[n] == 0 || (*s)[n] == '/')))
			return true;
	return false;
}

bool filter_wants_named(const struct filter *f, enum kind kind, const char *path, const char *connection,
			const char *event)
{
	if (!filter_wants(f, kind, path, connection))
		return false;
	if (!f->events)
		return true;
	for (char **s = f->events; *s; s++) {
		const char *interface = kind_interface(kind);
		size_t n = strlen(interface);

		if (strcmp(*s, event) == 0 ||
			(strncmp(*s, interface, n) == 0 && (*s)[n] == '.' && strcmp(*s + n + 1, event) == 0))
			return true;
	}
	return false;
}

bool filter_wants_event(const struct filter *f, const struct event *e)
{
	return filter_wants_named(f, e->kind, e->path, e->connection, e->name) && rights_sees_event(f->viewer, e);
}

bool filter_wants_object(const struct filter *f, const struct object *o)
{
	/* A job belongs to the connection of what it works on; everything else says so by its own path. */
	return filter_wants(f, o->kind, o->path, o->kind == KIND_JOB ? o->props->v[JOB_OBJECT].s : o->path);
}
