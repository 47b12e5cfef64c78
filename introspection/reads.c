/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "face.h"

/* Reads of one object that may have to ask the hypervisor, and Sync. */

/* ---- GetXML, ListVolumes ------------------------------------------------------------------------------------- */

struct query {
	struct held held;
	enum operation operation;
	struct vdict *options;
	struct broker_query *broker_query; /* on its way; NULL: none */
};

static void query_free(struct held *h)
{
	struct query *q = (struct query *)h;

	if (q->broker_query)
		broker_query_cancel(q->broker_query);
	vdict_free(q->options);
}

static void answer_xml(struct query *q, uint64_t version, const char *xml)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r;

	if (strlen(xml) > MESSAGE_BYTES_MAX - 64) {
		held_failf(&q->held, VIREO_LIMITS_EXCEEDED, "the XML is larger than a message may be: %zu bytes",
			   strlen(xml));
		return;
	}
	r = held_begin(&q->held, &reply);
	if (r >= 0)
		r = sd_bus_message_append(reply, "ts", version, xml);
	if (r < 0)
		held_errno(&q->held, r);
	else
		held_reply(&q->held, TAKE(reply));
}

static int append_volume(sd_bus_message *m, const struct volume *v, size_t *bytes)
{
	int r = sd_bus_message_open_container(m, 'r', "sa{sv}");

	if (r >= 0)
		r = sd_bus_message_append(m, "s", v->name);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0 && v->path && v->path[0])
		r = sd_bus_message_append(m, "{sv}", "path", "s", v->path);
	if (r >= 0 && v->type && v->type[0])
		r = sd_bus_message_append(m, "{sv}", "type", "s", v->type);
	if (r >= 0)
		r = sd_bus_message_append(m, "{sv}{sv}", "capacity", "t", v->capacity, "allocation", "t", v->allocation);
	if (r >= 0 && v->format && v->format[0])
		r = sd_bus_message_append(m, "{sv}", "format", "s", v->format);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	*bytes += 256 + strlen(v->name) + (v->path ? strlen(v->path) : 0);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int compare_volumes(const void *a, const void *b)
{
	const struct volume *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static void answer_volumes(struct query *q, const struct result *result)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	size_t n = result ? result->n_volumes : 0, bytes = 0;
	_cleanup_(freep) const struct volume **sorted = calloc(n + 1, sizeof(*sorted));
	int r = sorted ? held_begin(&q->held, &reply) : -ENOMEM;

	for (size_t i = 0; sorted && i < n; i++)
		sorted[i] = &result->volumes[i];
	if (r >= 0)
		qsort(sorted, n, sizeof(*sorted), compare_volumes);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(sa{sv})");
	for (size_t i = 0; r >= 0 && i < n && bytes <= MESSAGE_BYTES_MAX; i++)
		r = append_volume(reply, sorted[i], &bytes);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	if (r < 0)
		held_errno(&q->held, r);
	else if (bytes > MESSAGE_BYTES_MAX)
		held_failf(&q->held, VIREO_LIMITS_EXCEEDED, "the list of %zu volumes is larger than 24 MiB", n);
	else
		held_reply(&q->held, TAKE(reply));
}

static void on_query(const struct failure *f, uint64_t version, const struct result *result, void *userdata)
{
	struct query *q = userdata;
	struct object *o = broker_find(q->held.face->broker, q->held.path);

	q->broker_query = NULL; /* void once it has called back */
	if (f->error != VIREO_OK)
		held_fail(&q->held, f);
	else if (q->operation == OP_POOL_LIST_VOLUMES)
		answer_volumes(q, result);
	else if (!result || !result->text)
		held_failf(&q->held, VIREO_OPERATION_FAILED, "the hypervisor gave no XML of %s", q->held.path);
	else
		answer_xml(q, o ? o->version : version, result->text);
}

static void ask(struct query *q, struct object *o)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct call call = {.operation = q->operation, .object = o, .options = q->options, .fd = -1, .uid = UINT32_MAX};
	int r = broker_query(q->held.face->broker, &call, on_query, q, &q->broker_query, &f);

	if (r != 0)
		held_refuse(&q->held, r, &f);
}

static void query_go(struct held *h)
{
	struct query *q = (struct query *)h;
	struct object *o = broker_find(h->face->broker, h->path);
	bool inactive = vdict_b(q->options, "inactive", false);
	const struct text *xml;

	if (!o)
		held_failf(h, VIREO_NOT_FOUND, "%s has gone", h->path);
	else if (inactive && !o->life.persistent)
		held_failf(h, VIREO_INVALID_STATE, "%s is not persistent: it has no persistent description", h->path);
	else if (q->operation == OP_POOL_LIST_VOLUMES || vdict_b(q->options, "secure", false))
		ask(q, o);
	else if ((xml = inactive && o->life.active && o->xml_inactive ? o->xml_inactive : o->xml))
		answer_xml(q, o->version, xml->data);
	else
		held_failf(h, VIREO_OPERATION_FAILED,
			   "the hypervisor has not let the XML of %s be read; it is tried again with the next resync", h->path);
}

static const struct held_ops query_ops = {.go = query_go, .free = query_free};

static int begin_query(sd_bus_message *m, struct face *face, enum operation operation, enum action action,
		       const struct option_def *defs, sd_bus_error *error)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct query *q = held_new(face, m, &query_ops, sizeof(*q));
	int r;

	if (!q)
		return face_error(error, -ENOMEM, NULL);
	q->operation = operation;
	r = options_read(m, defs, NULL, &q->options, &f);
	if (r != 0)
		return held_refuse(&q->held, r, &f);
	if (vdict_b(q->options, "secure", false))
		action = ACTION_READ_SECURE;
	return face_authorize(&q->held,
			      &(struct question){.action = action, .object = broker_find(face->broker, q->held.path)});
}

static const struct option_def xml_options[] = {{"inactive", "b"}, {"secure", "b"}, {NULL}};
static const struct option_def network_xml_options[] = {{"inactive", "b"}, {NULL}};

int method_get_xml(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct face *face = userdata;
	struct object *o = broker_find(face->broker, sd_bus_message_get_path(m));

	switch (o->kind) {
	case KIND_DOMAIN:
		return begin_query(m, face, OP_DOMAIN_GET_XML, ACTION_READ_XML, xml_options, error);
	case KIND_POOL:
		return begin_query(m, face, OP_POOL_GET_XML, ACTION_READ_XML, xml_options, error);
	default:
		return begin_query(m, face, OP_NETWORK_GET_XML, ACTION_READ_XML, network_xml_options, error);
	}
}

int method_list_volumes(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin_query(m, userdata, OP_POOL_LIST_VOLUMES, ACTION_STORAGE, NULL, error);
}

/* ---- Sync, Resync -------------------------------------------------------------------------------------------- */

struct sync {
	struct held held;
	struct vdict *options;
	struct broker_sync *broker_sync;
	bool one; /* Resync: the object called is the connection */
};

static void sync_free(struct held *h)
{
	struct sync *s = (struct sync *)h;

	if (s->broker_sync)
		broker_sync_cancel(s->broker_sync);
	vdict_free(s->options);
}

static void on_synced(const struct failure *f, uint64_t version, void *userdata)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct sync *s = userdata;
	int r;

	s->broker_sync = NULL;
	if (f && f->error != VIREO_OK) {
		held_fail(&s->held, f);
		return;
	}
	r = held_begin(&s->held, &reply);
	if (r >= 0)
		r = sd_bus_message_append(reply, "t", version);
	if (r < 0)
		held_errno(&s->held, r);
	else
		held_reply(&s->held, TAKE(reply));
}

static void sync_go(struct held *h)
{
	struct sync *s = (struct sync *)h;
	struct broker *b = h->face->broker;
	const struct vdict_item *wanted = vdict_get(s->options, "connections");
	static char *none[] = {NULL};
	char **paths = wanted ? wanted->a : none;
	_cleanup_(freep) struct object **objects = NULL;
	size_t n = 0, max = 1 + broker_count(b, KIND_CONNECTION);
	uint64_t timeout;

	for (char **p = paths; *p; p++)
		max++;
	objects = calloc(max, sizeof(*objects));
	if (!objects) {
		held_errno(h, -ENOMEM);
		return;
	}
	if (s->one)
		objects[n++] = broker_find(b, h->path);
	for (char **p = paths; *p; p++) {
		objects[n] = broker_find(b, *p);
		if (!objects[n] || objects[n]->kind != KIND_CONNECTION || !rights_sees_object(h->viewer, objects[n])) {
			held_failf(h, VIREO_NOT_FOUND, "there is no connection %s", *p);
			return;
		}
		n++;
	}
	if (s->one && !objects[0]) {
		held_failf(h, VIREO_NOT_FOUND, "%s has gone", h->path);
		return;
	}
	/* Not of those that he may not see: an error would name them. */
	for (struct object *o = broker_first(b, KIND_CONNECTION); o && !wanted && !s->one && h->viewer; o = o->next)
		if (rights_sees_object(h->viewer, o) && strcmp(o->props->v[CONNECTION_STATE].s, "connected") == 0)
			objects[n++] = o;
	if (n == 0 && h->viewer) {
		on_synced(NULL, broker_version(b), s);
		return;
	}
	timeout = vdict_t(s->options, "timeout", CALL_WAIT_MAX);
	s->broker_sync = s->one ? broker_resync(b, objects[0], timeout, on_synced, s)
				: broker_sync(b, n > 0 ? objects : NULL, n, timeout, on_synced, s);
	if (!s->broker_sync)
		held_errno(h, -ENOMEM);
}

static const struct held_ops sync_ops = {.go = sync_go, .free = sync_free};

static int begin_sync(sd_bus_message *m, struct face *face, bool one, const struct option_def *defs,
		      sd_bus_error *error)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct sync *s = held_new(face, m, &sync_ops, sizeof(*s));
	const struct vdict_item *wanted;
	int r;

	if (!s)
		return face_error(error, -ENOMEM, NULL);
	s->one = one;
	r = options_read(m, defs, NULL, &s->options, &f);
	wanted = r == 0 ? vdict_get(s->options, "connections") : NULL;
	if (wanted && !wanted->a[0])
		r = failure_set(&f, VIREO_INVALID_OPTION,
				"option “connections” is an empty list; leave it out to have all that are connected");
	if (r != 0)
		return held_refuse(&s->held, r, &f);
	/* It waits, so who asked is watched: somebody who has left must not keep a listing going. */
	return face_authorize(&s->held, &(struct question){.action = ACTION_VIEW, .change = true});
}

#define TIMEOUT_OPTION {"timeout", "t", .min = 1, .max = CALL_WAIT_MAX}
static const struct option_def sync_options[] = {{"connections", "ao"}, TIMEOUT_OPTION, {NULL}};
static const struct option_def resync_options[] = {TIMEOUT_OPTION, {NULL}};

int method_sync(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin_sync(m, userdata, false, sync_options, error);
}

int method_resync(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin_sync(m, userdata, true, resync_options, error);
}
