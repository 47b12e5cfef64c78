/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "face.h"

/*
 * Events as signals. Everything is built from the event, as at its version, and sent in order of version:
 * InterfacesAdded, then Added; PropertiesChanged, then the event; Removed, then InterfacesRemoved.
 *
 * Messages that wait in our own write queue mean that the bus does not take them. Above QUEUE_HIGH nothing more is put
 * there: what comes stays in history alone, and is sent from there once the queue is below QUEUE_LOW. So a bus that is
 * stuck costs bounded memory, slows nobody else, and loses nothing that is still in history.
 */
#define QUEUE_HIGH 256u /* answers wait behind what is there */
#define QUEUE_LOW 128u
#define DRAIN_INTERVAL (20 * USEC_PER_MSEC) /* while the bus takes nothing */
#define DRAIN_SOON (1 * USEC_PER_MSEC)	     /* while it does */
#define DRAIN_EVENTS 128u		     /* of one turn of the loop */
/* A burst holds for a moment and nobody needs to know; a bus that is stuck is another thing, or one that falls far behind. */
#define LOUD_STUCK (1 * USEC_PER_SEC)
#define LOUD_AFTER (10 * USEC_PER_SEC)
#define BOOKMARK_AFTER (100 * USEC_PER_MSEC)

/* ---- sending ------------------------------------------------------------------------------------------------- */

/* One subscriber's own copy. */
static int send_copy(struct face *f, sd_bus_message *m, const char *destination)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *copy = NULL;
	int r = sd_bus_message_new_signal(f->bus, &copy, sd_bus_message_get_path(m), sd_bus_message_get_interface(m),
					  sd_bus_message_get_member(m));

	if (r >= 0)
		r = sd_bus_message_set_destination(copy, destination);
	if (r >= 0)
		r = sd_bus_message_rewind(m, true);
	if (r >= 0)
		r = sd_bus_message_copy(copy, m, true);
	return r < 0 ? r : sd_bus_send(f->bus, copy, NULL);
}

int signals_send(struct face *f, sd_bus_message *m, const struct event *e, const struct object *o)
{
	struct peer *p, *tmp;
	int r;

	if (!f->config.private_signals)
		return sd_bus_send(f->bus, m, NULL);
	r = sd_bus_message_seal(m, 1, 0);
	if (r < 0)
		return r;
	HASH_ITER(hh, f->peers, p, tmp)
	{
		int k;

		if (!p->subscription || (e && !filter_wants_event(p->subscription, e)) ||
			(o && !filter_wants_object(p->subscription, o)))
			continue;
		k = send_copy(f, m, p->name);
		if (k < 0)
			r = k;
	}
	return r;
}

static const char *interface_of(enum kind kind, char *buf, size_t size)
{
	snprintf(buf, size, VIREO_INTERFACE_PREFIX "%s", kind_interface(kind));
	return buf;
}

/* ---- the messages of one event ------------------------------------------------------------------------------- */

static int send_interfaces_added(struct face *f, const struct event *e, const char *interface)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r = sd_bus_message_new_signal(f->bus, &m, VIREO_PATH_ROOT, DBUS_INTERFACE_OBJECT_MANAGER,
					  "InterfacesAdded");

	if (r >= 0)
		r = append_interfaces(m, e->path, interface, e->props);
	return r < 0 ? r : signals_send(f, m, e, NULL);
}

static int send_interfaces_removed(struct face *f, const struct event *e, const char *interface)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r = sd_bus_message_new_signal(f->bus, &m, VIREO_PATH_ROOT, DBUS_INTERFACE_OBJECT_MANAGER,
					  "InterfacesRemoved");

	if (r >= 0)
		r = sd_bus_message_append(m, "oas", e->path, 1, interface);
	return r < 0 ? r : signals_send(f, m, e, NULL);
}

/* Which ones differ; all that can, when the event came from history and what was before is not known. */
static uint64_t changed_properties(const struct event *e)
{
	uint64_t mask = 0;
	size_t n;

	props_schema(e->kind, &n);
	for (size_t i = 0; i < n; i++)
		if (!e->before || !props_value_equal(e->before, e->props, i))
			mask |= UINT64_C(1) << i;
	return mask;
}

static int send_properties_changed(struct face *f, const struct event *e, const char *interface)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r = sd_bus_message_new_signal(f->bus, &m, e->path, DBUS_INTERFACE_PROPERTIES, "PropertiesChanged");

	if (r >= 0)
		r = sd_bus_message_append(m, "s", interface);
	if (r >= 0)
		r = append_props_masked(m, e->props, changed_properties(e));
	if (r >= 0)
		r = sd_bus_message_append(m, "as", 0);
	return r < 0 ? r : signals_send(f, m, e, NULL);
}

static int send_event(struct face *f, const struct event *e, const char *interface)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r = sd_bus_message_new_signal(f->bus, &m, e->path, interface, e->name);

	if (r >= 0)
		r = sd_bus_message_append(m, "tts", e->version, e->previous, e->reason);
	if (r >= 0)
		r = append_props(m, e->props, NULL, NULL);
	if (r >= 0)
		r = append_details(m, e, true);
	return r < 0 ? r : signals_send(f, m, e, NULL);
}

static bool anybody_hears(const struct face *f)
{
	if (!f->config.private_signals)
		return true;
	for (const struct peer *p = f->peers; p; p = p->hh.next)
		if (p->subscription)
			return true;
	return false;
}

static int tell(struct face *f, const struct event *e)
{
	bool added = strcmp(e->name, "Added") == 0, removed = strcmp(e->name, "Removed") == 0;
	char buf[64];
	const char *interface = interface_of(e->kind, buf, sizeof(buf));
	int r = 0, k;

	if (!anybody_hears(f)) {
		if (e->kind == KIND_JOB)
			progress_forget(f, e->path, removed);
		return 0;
	}
	/* When one can't be sent the next is tried all the same: whoever gets it sees by its version what is missing. */
	if (added)
		r = send_interfaces_added(f, e, interface);
	else if (!removed)
		r = send_properties_changed(f, e, interface);
	k = send_event(f, e, interface);
	if (k < 0)
		r = k;
	if (removed) {
		k = send_interfaces_removed(f, e, interface);
		if (k < 0)
			r = k;
	}
	if (e->kind == KIND_JOB)
		progress_forget(f, e->path, removed);
	return r;
}

/* Manager.Connections; as it is now, for it has no version of its own. */
static int send_connections_to(struct face *f, const struct peer *p)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r = sd_bus_message_new_signal(f->bus, &m, VIREO_PATH_ROOT, DBUS_INTERFACE_PROPERTIES, "PropertiesChanged");

	if (r >= 0 && p)
		r = sd_bus_message_set_destination(m, p->name);
	if (r >= 0)
		r = sd_bus_message_append(m, "s", VIREO_INTERFACE_MANAGER);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'e', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "Connections");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "ao");
	if (r >= 0)
		r = append_connections(f, p ? p->subscription->viewer : NULL, m);
	for (int i = 0; r >= 0 && i < 3; i++)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_append(m, "as", 0);
	return r < 0 ? r : sd_bus_send(f->bus, m, NULL);
}

/* Those that @p sees, in one string. NULL: no memory. */
static char *connections_of(const struct peer *p)
{
	_cleanup_(freep) char *list = strdup("");

	for (struct object *o = broker_first(p->face->broker, KIND_CONNECTION); o && list; o = o->next) {
		char *longer;

		if (!rights_sees_object(p->subscription->viewer, o))
			continue;
		if (asprintf(&longer, "%s%s ", list, o->path) < 0)
			return NULL;
		free(list);
		list = longer;
	}
	return TAKE(list);
}

void signals_subscribed(struct peer *p)
{
	free(p->connections);
	p->connections = p->subscription ? connections_of(p) : NULL;
}

/* What comes and goes without his seeing it is not even a signal to him. */
static int tell_connections(struct peer *p)
{
	_cleanup_(freep) char *list = connections_of(p);

	if (list && p->connections && strcmp(list, p->connections) == 0)
		return 0;
	free(p->connections);
	p->connections = TAKE(list);
	return send_connections_to(p->face, p);
}

static void send_connections(struct face *f)
{
	struct peer *p, *tmp;

	if (!f->config.private_signals) {
		send_connections_to(f, NULL);
		return;
	}
	HASH_ITER(hh, f->peers, p, tmp)
		if (p->subscription)
			tell_connections(p);
}

/* Not a change of the object, so it has no event: for him it appears or disappears. */
static int send_sight(struct peer *p, const struct object *o, bool seen)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	struct face *f = p->face;
	char interface[64];
	int r = sd_bus_message_new_signal(f->bus, &m, VIREO_PATH_ROOT, DBUS_INTERFACE_OBJECT_MANAGER,
					  seen ? "InterfacesAdded" : "InterfacesRemoved");

	interface_of(o->kind, interface, sizeof(interface));
	if (r >= 0)
		r = sd_bus_message_set_destination(m, p->name);
	if (r >= 0 && !seen)
		r = sd_bus_message_append(m, "oas", o->path, 1, interface);
	else if (r >= 0)
		r = append_interfaces(m, o->path, interface, o->props);
	return r < 0 ? r : sd_bus_send(f->bus, m, NULL);
}

void signals_sight_changed(struct peer *p, const char *path, bool seen)
{
	struct face *f = p->face;
	const struct peer *viewer;
	size_t n = strlen(path);

	if (!f->config.private_signals || !p->subscription || !f->signals.open || !path[0])
		return;
	viewer = p->subscription->viewer;
	p->subscription->viewer = NULL; /* what he was told of, whatever he may see now */
	for (enum kind k = 0; k < KIND_MAX; k++)
		for (struct object *o = broker_first(f->broker, k); o; o = o->next) {
			const char *of = o->kind == KIND_JOB ? o->props->v[JOB_OBJECT].s : o->path;

			if (strncmp(of, path, n) != 0 || (of[n] != 0 && of[n] != '/'))
				continue;
			if (filter_wants_object(p->subscription, o) && rights_sees_object(viewer, o) == seen &&
				send_sight(p, o, seen) < 0)
				log_warning("%s could not be told what it sees of %s", p->name, o->path);
		}
	p->subscription->viewer = viewer;
	tell_connections(p);
}

/* ---- bookmarks ----------------------------------------------------------------------------------------------- */

static void on_bookmark(struct timer *t, void *userdata)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	struct face *f = userdata;
	int r;

	if (f->signals.held)
		return; /* comes when all is sent */
	r = sd_bus_message_new_signal(f->bus, &m, VIREO_PATH_ROOT, VIREO_INTERFACE_MANAGER, "Bookmark");
	if (r >= 0)
		r = sd_bus_message_append(m, "t", f->signals.told);
	if (r >= 0)
		r = signals_send(f, m, NULL, NULL);
	if (r < 0)
		log_warning("Bookmark of version %" PRIu64 " could not be sent: %s", f->signals.told, strerror(-r));
}

static void bookmark_later(struct face *f)
{
	timer_in(f->clock, &f->signals.bookmark, BOOKMARK_AFTER, on_bookmark, f);
}

/* ---- holding back -------------------------------------------------------------------------------------------- */

static uint64_t queued(struct face *f)
{
	uint64_t n;

	return sd_bus_get_n_queued_write(f->bus, &n) < 0 ? 0 : n;
}

static void on_drain(struct timer *t, void *userdata);

static void hold(struct face *f)
{
	struct signals *s = &f->signals;

	s->held = true;
	s->loud = false;
	s->held_since = s->moved_at = clock_monotonic(f->clock);
	s->queued = queued(f);
	timer_in(f->clock, &s->drain, DRAIN_SOON, on_drain, f);
}

static void let_go(struct face *f)
{
	struct signals *s = &f->signals;

	if (s->loud)
		log_id(LOG_NOTICE, LOG_ID_SIGNALS_HELD,
		       "the bus takes signals again; everything up to version %" PRIu64 " has been sent after %" PRIu64
		       " ms",
		       s->told, (clock_monotonic(f->clock) - s->held_since) / USEC_PER_MSEC);
	s->held = s->loud = false;
	bookmark_later(f);
}

static void tell_one(struct face *f, const struct event *e)
{
	int r = tell(f, e);

	if (r < 0)
		log_warning("signal of version %" PRIu64 " (%s of %s) could not be sent: %s", e->version, e->name,
			    e->path, strerror(-r));
	f->signals.told = e->version;
}

struct draining {
	struct event *events[DRAIN_EVENTS]; /* references */
	unsigned n;
};

static int drain_one(struct event *e, void *userdata)
{
	struct draining *d = userdata;

	d->events[d->n++] = event_ref(e);
	return d->n < DRAIN_EVENTS ? HISTORY_MORE : HISTORY_ENOUGH;
}

static int take_props(struct event *e, void *userdata)
{
	*(struct props **)userdata = props_ref(e->props);
	return HISTORY_ENOUGH;
}

/* What was before, which a stored event does not say: PropertiesChanged tells of nothing that has not changed. */
static void find_before(struct face *f, struct draining *d, unsigned i)
{
	_cleanup_(failure_clear) struct failure failure = {0};
	struct event *e = d->events[i];
	struct history_query q = {.after = e->previous - 1, .scan = 1, .fn = take_props, .userdata = &e->before};
	uint64_t end;

	if (e->before || e->previous == 0)
		return;
	for (unsigned k = i; k > 0; k--)
		if (d->events[k - 1]->version == e->previous) {
			e->before = props_ref(d->events[k - 1]->props);
			return;
		}
	(void)history_read_some(broker_history(f->broker), &q, &end, &failure);
}

/* Send from history what was held back, as fast as the bus takes it. */
static void on_drain(struct timer *t, void *userdata)
{
	struct face *f = userdata;
	struct signals *s = &f->signals;
	struct draining d = {.n = 0};
	_cleanup_(failure_clear) struct failure failure = {0};
	uint64_t n = queued(f), now = clock_monotonic(f->clock);
	bool moves = n != s->queued;
	int r;

	if (moves)
		s->moved_at = now;
	if (!s->loud && now - s->moved_at >= LOUD_STUCK) {
		s->loud = true;
		log_id(LOG_WARNING, LOG_ID_SIGNALS_HELD,
		       "the bus has not taken %" PRIu64 " messages for a second: signals after version %" PRIu64
		       " are held back until it does; some client does not read its signals. GetEvents and streams go on",
		       n, s->told);
	} else if (!s->loud && now - s->held_since >= LOUD_AFTER) {
		s->loud = true;
		log_id(LOG_WARNING, LOG_ID_SIGNALS_HELD,
		       "the bus takes signals more slowly than events happen: those after version %" PRIu64 " of %" PRIu64
		       " are held back until it does. GetEvents and streams go on",
		       s->told, broker_version(f->broker));
	}
	if (n < QUEUE_LOW) {
		struct history_query q = {.after = s->told, .scan = DRAIN_EVENTS, .fn = drain_one, .userdata = &d};
		uint64_t end;

		r = history_read_some(broker_history(f->broker), &q, &end, &failure);
		for (unsigned i = 0; i < d.n; i++) {
			find_before(f, &d, i);
			tell_one(f, d.events[i]);
		}
		for (unsigned i = 0; i < d.n; i++)
			event_unref(d.events[i]);
		if (r != 0) {
			log_id(LOG_ERR, LOG_ID_SIGNALS_HELD,
			       "signals after version %" PRIu64 " were held back until history had lost them (%s): listeners "
			       "can tell by “previous”, and must list anew",
			       s->told, failure.message ? failure.message : strerror(-r));
			s->told = broker_version(f->broker);
		}
		if (r != 0 || s->told >= broker_version(f->broker)) {
			send_connections(f);
			let_go(f);
			return;
		}
	}
	s->queued = queued(f);
	timer_in(f->clock, &s->drain, s->queued < QUEUE_LOW ? 0 : d.n > 0 || moves ? DRAIN_SOON : DRAIN_INTERVAL, on_drain, f);
}

/* ---- from the broker ----------------------------------------------------------------------------------------- */

void signals_open(struct face *f)
{
	/* Who lists after he saw the name appear lists at this version or later, and hears all that follows. */
	f->signals.open = true;
	f->signals.told = broker_version(f->broker);
}

void signals_events(struct face *f, struct event *const *events, size_t n)
{
	struct signals *s = &f->signals;
	bool connections = false;

	if (!s->open)
		return;
	for (size_t i = 0; i < n && !s->held; i++) {
		if (queued(f) >= QUEUE_HIGH) {
			hold(f);
			return;
		}
		tell_one(f, events[i]);
		if (events[i]->kind == KIND_CONNECTION && !events[i]->before)
			connections = true;
		else if (events[i]->kind == KIND_CONNECTION && strcmp(events[i]->name, "Removed") == 0)
			connections = true;
	}
	if (s->held)
		return;
	if (connections)
		send_connections(f);
	bookmark_later(f);
}

void signals_free(struct face *f)
{
	timer_clear(&f->signals.drain);
	timer_clear(&f->signals.bookmark);
	progress_free(f);
}
