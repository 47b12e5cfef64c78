/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "face.h"

/* Each costs a copy of each signal. */
#define SUBSCRIBERS_MAX 1024u
#define SUBSCRIBERS_PER_USER 64u

/* ---- properties ---------------------------------------------------------------------------------------------- */

static int get_epoch(sd_bus *bus, const char *path, const char *interface, const char *property,
		     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "s", broker_epoch(((struct face *)userdata)->broker));
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
		       sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "t", broker_version(((struct face *)userdata)->broker));
}

static int get_oldest(sd_bus *bus, const char *path, const char *interface, const char *property,
		      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	return sd_bus_message_append(reply, "t", face_oldest(userdata));
}

static int get_features(sd_bus *bus, const char *path, const char *interface, const char *property,
			sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct face *f = userdata;
	int r = sd_bus_message_open_container(reply, 'a', "s");

	if (r >= 0)
		r = sd_bus_message_append(reply, "ssss", "snapshot", "events", "watch", "digest");
	if (r >= 0 && f->authority)
		r = sd_bus_message_append(reply, "s", "polkit");
	if (r >= 0 && f->config.private_signals)
		r = sd_bus_message_append(reply, "s", "private");
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_connections(sd_bus *bus, const char *path, const char *interface, const char *property,
			   sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct face *f = userdata;

	return append_connections(f, f->viewer, reply);
}

/* ---- LookupDomain, LookupPool, LookupNetwork ------------------------------------------------------------------ */

struct lookup {
	struct held held;
	enum kind kind;
	const char *name;
};

static bool sees(const struct object *o, void *userdata)
{
	return rights_sees_object(userdata, o);
}

static void lookup_go(struct held *h)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(failure_clear) struct failure f = {0};
	struct lookup *l = (struct lookup *)h;
	struct object *o;
	int r = broker_lookup(h->face->broker, l->kind, l->name, sees, (void *)h->viewer, &o, &f);

	if (r != 0) {
		held_refuse(h, r, &f);
		return;
	}
	r = held_begin(h, &reply);
	if (r >= 0)
		r = sd_bus_message_append(reply, "o", o->path);
	if (r < 0)
		held_errno(h, r);
	else
		held_reply(h, TAKE(reply));
}

static const struct held_ops lookup_ops = {.go = lookup_go};

static int begin_lookup(sd_bus_message *m, struct face *face, enum kind kind, sd_bus_error *error)
{
	struct lookup *l = held_new(face, m, &lookup_ops, sizeof(*l));
	int r;

	if (!l)
		return face_error(error, -ENOMEM, NULL);
	l->kind = kind;
	r = sd_bus_message_read(m, "s", &l->name);
	if (r < 0) {
		held_errno(&l->held, r);
		return 1;
	}
	return face_authorize(&l->held, &(struct question){.action = ACTION_VIEW});
}

static int method_lookup_domain(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin_lookup(m, userdata, KIND_DOMAIN, error);
}

static int method_lookup_pool(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin_lookup(m, userdata, KIND_POOL, error);
}

static int method_lookup_network(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin_lookup(m, userdata, KIND_NETWORK, error);
}

/* ---- Subscribe, Unsubscribe ---------------------------------------------------------------------------------- */

struct subscribing {
	struct held held;
	struct filter *filter; /* NULL: Unsubscribe */
};

static void subscribing_free(struct held *h)
{
	filter_free(((struct subscribing *)h)->filter);
}

static unsigned count_subscribers(struct face *f)
{
	struct peer *p, *tmp;
	unsigned n = 0;

	HASH_ITER(hh, f->peers, p, tmp)
		n += p->subscription != NULL;
	return n;
}

static unsigned count_subscription(const struct peer *p)
{
	return p->subscription != NULL;
}

static int subscribers_allow(const struct held *h, struct failure *f)
{
	if (h->peer->subscription)
		return 0;
	if (count_subscribers(h->face) >= SUBSCRIBERS_MAX)
		return failure_set(f, VIREO_LIMITS_EXCEEDED, "subscribers: there are %u already", SUBSCRIBERS_MAX);
	if (h->viewer && peer_user_sum(h->peer, count_subscription) >= SUBSCRIBERS_PER_USER)
		return failure_set(f, VIREO_LIMITS_EXCEEDED, "subscribers: this user has %u already", SUBSCRIBERS_PER_USER);
	return 0;
}

static void answer_empty(struct held *h)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r = held_begin(h, &reply);

	if (r < 0)
		held_errno(h, r);
	else
		held_reply(h, TAKE(reply));
}

static void subscribing_go(struct held *h)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct subscribing *s = (struct subscribing *)h;
	int r;

	/* Without a bus there is but one listener, who gets everything. */
	if (h->peer) {
		r = s->filter ? subscribers_allow(h, &f) : 0;
		if (r != 0) {
			held_refuse(h, r, &f);
			return;
		}
		filter_free(h->peer->subscription);
		h->peer->subscription = TAKE(s->filter);
		signals_subscribed(h->peer);
	}
	answer_empty(h);
}

static const struct held_ops subscribing_ops = {.go = subscribing_go, .free = subscribing_free};

static const struct option_def subscribe_options[] = {
	{"kinds", "as"}, {"connections", "ao"}, {"objects", "ao"}, {"events", "as"}, {NULL},
};

static int method_subscribe(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(vdict_freep) struct vdict *options = NULL;
	_cleanup_(failure_clear) struct failure f = {0};
	struct subscribing *s = held_new(userdata, m, &subscribing_ops, sizeof(*s));
	int r;

	if (!s)
		return face_error(error, -ENOMEM, NULL);
	r = options_read(m, subscribe_options, NULL, &options, &f);
	if (r == 0)
		r = filter_new(options, &s->filter, &f);
	if (r != 0)
		return held_refuse(&s->held, r, &f);
	return face_authorize(&s->held, &(struct question){.action = ACTION_VIEW, .covers = s->filter, .change = true});
}

static int method_unsubscribe(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct subscribing *s = held_new(userdata, m, &subscribing_ops, sizeof(*s));

	if (!s)
		return face_error(error, -ENOMEM, NULL);
	return face_authorize(&s->held, &(struct question){.action = ACTION_VIEW, .change = true});
}

/* ---- Close --------------------------------------------------------------------------------------------------- */

struct closing {
	struct held held;
	const char *connection;
	bool there; /* when polkit was asked, which was about that one */
};

/* What the caller may not see is not there to be closed, where it is not broadcast anyway. */
static struct object *find_connection(struct face *f, const char *path, const struct peer *viewer)
{
	struct object *o = broker_find(f->broker, path);

	return o && o->kind == KIND_CONNECTION && rights_sees_object(f->config.private_signals ? viewer : NULL, o) ? o : NULL;
}

static void closing_go(struct held *h)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct closing *c = (struct closing *)h;
	struct broker *b = h->face->broker;
	struct object *o = c->there ? find_connection(h->face, c->connection, h->viewer) : NULL;
	int r;

	if (!o) {
		held_failf(h, VIREO_NOT_FOUND, "there is no connection %s", c->connection);
		return;
	}
	r = broker_close(b, o, &f);
	if (r != 0)
		held_refuse(h, r, &f);
	else
		answer_empty(h);
}

static const struct held_ops closing_ops = {.go = closing_go};

static int method_close(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct face *face = userdata;
	struct closing *c = held_new(face, m, &closing_ops, sizeof(*c));
	const struct object *o;
	int r;

	if (!c)
		return face_error(error, -ENOMEM, NULL);
	r = sd_bus_message_read(m, "o", &c->connection);
	if (r < 0) {
		held_errno(&c->held, r);
		return 1;
	}
	o = find_connection(face, c->connection, face->viewer);
	c->there = o;
	return face_authorize(&c->held, &(struct question){.action = ACTION_CONNECTIONS, .change = true, .object = o});
}

const sd_bus_vtable manager_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Epoch", "s", get_epoch, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Version", "t", get_version, 0, 0),
	SD_BUS_PROPERTY("OldestVersion", "t", get_oldest, 0, 0),
	SD_BUS_PROPERTY("Features", "as", get_features, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Connections", "ao", get_connections, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),

	SD_BUS_METHOD_WITH_ARGS("GetSnapshot", SD_BUS_ARGS("a{sv}", options),
		SD_BUS_RESULT("s", epoch, "t", version, "a(osa{sv})", objects), method_get_snapshot,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("GetEvents",
		SD_BUS_ARGS("s", epoch, "t", after, "u", max, "t", timeout, "a{sv}", options),
		SD_BUS_RESULT("t", version, "b", more, "a(ttsossta{sv}a{sv})", events), method_get_events,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Watch", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("h", stream), method_watch,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Sync", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("t", version), method_sync,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Digest", SD_BUS_ARGS("a{sv}", options),
		SD_BUS_RESULT("t", version, "s", sha256), method_digest, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Subscribe", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_subscribe,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Unsubscribe", NULL, NULL, method_unsubscribe, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("LookupDomain", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", domain),
		method_lookup_domain, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("LookupPool", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", pool), method_lookup_pool,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("LookupNetwork", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", network),
		method_lookup_network, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Open", SD_BUS_ARGS("s", uri, "a{sv}", options), SD_BUS_RESULT("o", connection),
		method_open, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Close", SD_BUS_ARGS("o", connection), SD_BUS_NO_RESULT, method_close,
		SD_BUS_VTABLE_UNPRIVILEGED),

	SD_BUS_SIGNAL_WITH_ARGS("Bookmark", SD_BUS_ARGS("t", version), 0),
	SD_BUS_VTABLE_END,
};
