/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "broker/stream.h"
#include "face.h"

/* ---- which objects there are --------------------------------------------------------------------------------- */

static const struct {
	const char *prefix, *interface;
	const sd_bus_vtable *vtable;
} shown[] = {
	[KIND_CONNECTION] = {VIREO_PATH_CONNECTIONS, VIREO_INTERFACE_CONNECTION, connection_vtable},
	[KIND_DOMAIN] = {VIREO_PATH_CONNECTIONS, VIREO_INTERFACE_DOMAIN, domain_vtable},
	[KIND_POOL] = {VIREO_PATH_CONNECTIONS, VIREO_INTERFACE_STORAGE_POOL, pool_vtable},
	[KIND_NETWORK] = {VIREO_PATH_CONNECTIONS, VIREO_INTERFACE_NETWORK, network_vtable},
	[KIND_JOB] = {VIREO_PATH_JOBS, VIREO_INTERFACE_JOB, job_vtable},
};
static_assert(ELEMENTS(shown) == KIND_MAX, "every kind is shown");

static int find_object(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
		       sd_bus_error *error)
{
	struct face *f = userdata;
	struct object *o = broker_find(f->broker, path);

	if (!o || strcmp(shown[o->kind].interface, interface) != 0 || !rights_sees_object(f->viewer, o))
		return 0;
	*ret = f; /* handlers and getters find the object again by its path */
	return 1;
}

int property_of_object(sd_bus *bus, const char *path, const char *interface, const char *property,
		       sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct face *f = userdata;
	struct object *o = broker_find(f->broker, path);
	const struct prop_def *schema;
	size_t n;

	if (!o)
		return sd_bus_error_setf(error, SD_BUS_ERROR_UNKNOWN_OBJECT, "there is no %s", path);
	schema = props_schema(o->kind, &n);
	for (size_t i = 0; i < n; i++)
		if (strcmp(schema[i].name, property) == 0)
			return append_value(reply, &schema[i], &o->props->v[i]);
	return sd_bus_error_setf(error, SD_BUS_ERROR_UNKNOWN_PROPERTY, "there is no property %s", property);
}

/* ---- walking the tree ---------------------------------------------------------------------------------------- */

struct nodes {
	char **paths;
	size_t n, size;
};

static int nodes_add(struct nodes *l, const char *format, ...) _printf_(2, 3);
static int nodes_add(struct nodes *l, const char *format, ...)
{
	va_list ap;
	int r;

	if (l->n + 1 >= l->size) {
		size_t size = l->size ? l->size * 2 : 16;
		char **bigger = reallocarray(l->paths, size, sizeof(char *));

		if (!bigger)
			return -ENOMEM;
		l->paths = bigger;
		l->size = size;
	}
	va_start(ap, format);
	r = vasprintf(&l->paths[l->n], format, ap);
	va_end(ap);
	if (r < 0) {
		l->paths[l->n] = NULL;
		return -ENOMEM;
	}
	l->paths[++l->n] = NULL;
	return 0;
}

static void nodes_free(struct nodes *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->paths[i]);
	free(l->paths);
}

/* Is @path right below @parent? */
static bool is_child(const char *path, const char *parent)
{
	size_t n = strlen(parent);

	return strncmp(path, parent, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

static bool is_below(const char *path, const char *parent)
{
	size_t n = strlen(parent);

	return strncmp(path, parent, n) == 0 && path[n] == '/';
}

/*
 * One level at a time: all of connections; of a connection, the kinds that it has any of; of a kind, its objects. So
 * Introspect of the root costs nothing, and a client that walks the tree sees each name once.
 */
static int list_nodes(struct face *f, const char *parent, struct nodes *l)
{
	static const enum kind parts[] = {KIND_DOMAIN, KIND_POOL, KIND_NETWORK};
	struct object *connection = broker_find(f->broker, parent), *o;
	bool is_connection = connection && connection->kind == KIND_CONNECTION && rights_sees_object(f->viewer, connection);
	int r = 0;

	for (enum kind k = 0; k < KIND_MAX && !is_connection; k++)
		for (o = broker_first(f->broker, k); o && r >= 0; o = o->next)
			if (is_child(o->path, parent) && rights_sees_object(f->viewer, o))
				r = nodes_add(l, "%s", o->path);
	for (size_t i = 0; i < ELEMENTS(parts) && is_connection; i++)
		for (o = broker_first(f->broker, parts[i]); o && r >= 0; o = o->next)
			if (is_below(o->path, parent) && rights_sees_object(f->viewer, o)) {
				r = nodes_add(l, "%s/%s", parent, kind_to_string(parts[i]));
				break;
			}
	return r;
}

static int enumerate(sd_bus *bus, const char *parent, void *userdata, char ***ret, sd_bus_error *error)
{
	struct nodes l = {0};
	int r = list_nodes(userdata, parent, &l);

	if (r < 0) {
		nodes_free(&l);
		return r;
	}
	*ret = l.paths; /* NULL: none */
	return 0;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int append_connections(struct face *f, const struct peer *viewer, sd_bus_message *m)
{
	size_t n = broker_count(f->broker, KIND_CONNECTION), k = 0;
	_cleanup_(freep) const char **paths = calloc(n + 1, sizeof(*paths));
	int r = paths ? sd_bus_message_open_container(m, 'a', "o") : -ENOMEM;

	if (r < 0)
		return r;
	for (struct object *o = broker_first(f->broker, KIND_CONNECTION); o && k < n; o = o->next)
		if (rights_sees_object(viewer, o))
			paths[k++] = o->path;
	qsort(paths, k, sizeof(*paths), compare_paths);
	for (size_t i = 0; r >= 0 && i < k; i++)
		r = sd_bus_message_append_basic(m, 'o', paths[i]);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

uint64_t face_oldest(struct face *f)
{
	uint64_t oldest = broker_oldest(f->broker);

	/* History names the oldest event that it keeps; who has seen the version before that has missed nothing. */
	return oldest > 0 ? oldest - 1 : 0;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */

static void on_events(struct event *const *events, size_t n, void *userdata)
{
	struct face *f = userdata;

	rights_events(f, events, n);
	signals_events(f, events, n);
	events_wake(f, events, n);
	open_wake(f, events, n);
}

static void on_progress(struct object *job, unsigned changed, void *userdata)
{
	progress_changed(userdata, job, changed);
}

/* The bus tells whoever gets a name before it passes on anybody's call to that name. */
static int on_name_acquired(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct face *f = userdata;
	const char *name;

	if (!sd_bus_message_is_signal(m, DBUS_INTERFACE, "NameAcquired") || !is_from_bus(m))
		return 0;
	if (sd_bus_message_read(m, "s", &name) >= 0 && strcmp(name, VIREO_BUS_NAME) == 0)
		signals_open(f);
	(void)sd_bus_message_rewind(m, true);
	return 0;
}

static sd_bus_slot **next_slot(struct face *f)
{
	assert(f->n_slots < ELEMENTS(f->slots));
	return &f->slots[f->n_slots++];
}

static int show(struct face *f)
{
	static const char *const log_paths[] = {VIREO_PATH_ROOT, LOG_CONTROL_PATH};
	static const char *const parents[] = {VIREO_PATH_CONNECTIONS, VIREO_PATH_JOBS};
	int r = sd_bus_add_filter(f->bus, next_slot(f), filter_managed_objects, f);

	if (r >= 0)
		r = sd_bus_add_filter(f->bus, next_slot(f), on_name_acquired, f);
	/* The last one is asked first. */
	if (r >= 0)
		r = sd_bus_add_filter(f->bus, next_slot(f), filter_gate, f);
	if (r >= 0)
		r = sd_bus_add_object_manager(f->bus, next_slot(f), VIREO_PATH_ROOT);
	if (r >= 0)
		r = sd_bus_add_object_vtable(f->bus, next_slot(f), VIREO_PATH_ROOT, VIREO_INTERFACE_MANAGER,
					     manager_vtable, f);
	for (size_t i = 0; r >= 0 && i < ELEMENTS(log_paths); i++)
		r = sd_bus_add_object_vtable(f->bus, next_slot(f), log_paths[i], LOG_CONTROL_INTERFACE,
					     log_control_vtable, f);
	for (enum kind k = 0; r >= 0 && k < KIND_MAX; k++)
		r = sd_bus_add_fallback_vtable(f->bus, next_slot(f), shown[k].prefix, shown[k].interface,
					       shown[k].vtable, find_object, f);
	for (size_t i = 0; r >= 0 && i < ELEMENTS(parents); i++)
		r = sd_bus_add_node_enumerator(f->bus, next_slot(f), parents[i], enumerate, f);
	return r;
}

static void limits_default(struct face_limits *l)
{
	l->streams = l->streams ? l->streams : 128;
	l->polls = l->polls ? l->polls : 32;
	l->questions = l->questions ? l->questions : 64;
	l->jobs = l->jobs ? l->jobs : 256;
	l->bytes = l->bytes ? l->bytes : UINT64_C(64) << 20;
}

int face_new(struct broker *b, sd_bus *bus, const struct face_config *config, struct face **ret)
{
	_cleanup_(face_freep) struct face *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->broker = b;
	f->bus = sd_bus_ref(bus);
	f->clock = broker_clock(b);
	f->called = clock_monotonic(f->clock);
	if (config)
		f->config = *config;
	f->signals.told = f->names_from = broker_version(b);
	limits_default(&f->config.limits);
	r = f->config.policy == FACE_POLICY_POLKIT
		    ? authority_new(bus, f->clock, f->config.limits.questions, rights_changed, f, &f->authority)
		    : 0;
	if (r < 0)
		return r;
	r = streams_new(b, sd_bus_get_event(bus), &f->streams);
	if (r >= 0)
		r = show(f);
	if (r < 0)
		return r;
	if (f->authority)
		rights_watch_groups(f);
	f->listener = (struct broker_listener){.events = on_events, .progress = on_progress, .userdata = f};
	broker_add_listener(b, &f->listener);
	*ret = TAKE(f);
	return 0;
}

void face_free(struct face *f)
{
	if (!f)
		return;
	if (f->listener.events)
		broker_remove_listener(f->broker, &f->listener);
	while (f->held)
		held_free(f->held);
	peers_free(f);
	watches_free(f, NULL);
	streams_free(f->streams);
	authority_free(f->authority);
	timer_clear(&f->turns_timer);
	timer_clear(&f->rights_timer);
	timer_clear(&f->groups_timer);
	sd_event_source_disable_unref(f->groups);
	names_free(f);
	signals_free(f);
	for (unsigned i = 0; i < f->n_slots; i++)
		sd_bus_slot_unref(f->slots[i]);
	sd_bus_slot_unref(f->leaving);
	sd_bus_unref(f->bus);
	free(f);
}

uint64_t face_called(const struct face *f)
{
	return f->called;
}

bool face_is_busy(struct face *f)
{
	struct peer *p, *tmp;

	if (f->held || f->watches)
		return true;
	HASH_ITER(hh, f->peers, p, tmp)
		if (p->subscription)
			return true;
	return false;
}
