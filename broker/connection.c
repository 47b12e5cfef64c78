/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <errno.h>
#include <json-c/json.h>
#include <libxml/uri.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "util/text.h"

/*
 * One hypervisor: open it, follow it, lose it, try again, list it anew.
 *
 *   DOWN ──open()──► OPENING ──HELLO──► UP: Connected, listing …, Synced
 *    ▲                  │                │
 *    └──── retry ◄──────┴──── GOODBYE ◄──┘   Disconnected; objects stay as last known
 */

#define RETRY_FIRST (250 * USEC_PER_MSEC)
#define RETRY_MAX (30 * USEC_PER_SEC)

static void attempt(struct connection *c);

/* ---- properties ------------------------------------------------------------------------------------------------ */

static struct props *edit(const struct object *o)
{
	return props_copy(o->props);
}

/* Emit, unless nothing but the version would differ. */
static void emit_if_changed(struct connection *c, const char *event, const char *reason, struct props *p,
			    const struct vdict *details)
{
	if (!p)
		return;
	if (props_equal(p, c->object->props)) {
		props_unref(p);
		return;
	}
	broker_emit(c->broker, c->object, event, reason, false, p, details);
}

/* Every connection's SameAs, anew: which others reach the same hypervisor. */
static void update_same_as(struct broker *b)
{
	struct connection *c, *other;

	if (b->config.no_same_as)
		return;
	DL_FOREACH(b->connections, c)
	{
		const char *paths[64];
		size_t n = 0;
		struct props *p;

		DL_FOREACH(b->connections, other)
		if (other != c && c->same_key && other->same_key && strcmp(c->same_key, other->same_key) == 0 &&
		    n < ELEMENTS(paths) - 1)
			paths[n++] = other->object->path;
		paths[n] = NULL;
		p = edit(c->object);
		if (p && props_set_as(p, CONNECTION_SAME_AS, paths) < 0) {
			props_unref(p);
			p = NULL;
		}
		emit_if_changed(c, "Updated", "", p, NULL);
	}
}

/* ---- down and up ----------------------------------------------------------------------------------------------- */

static void on_retry(struct timer *t, void *userdata)
{
	struct connection *c = userdata;
	struct broker *b = c->broker;

	attempt(c);
	broker_flush(b);
}

static void drop_link(struct connection *c)
{
	if (c->host) {
		driver_host_close(c->host);
		driver_host_unref(TAKE(c->host));
	}
	if (c->dc)
		c->driver->close(TAKE(c->dc));
	c->link = LINK_DOWN;
	c->synced = false;
	c->listing.serial = c->listing.again = 0;
	c->listing.ended = false;
	timer_clear(&c->timer);
}

/* The link is lost, or never came up: say so, and try again later. */
static void lost(struct connection *c, const char *why)
{
	struct broker *b = c->broker;
	bool was_up = c->link == LINK_UP;
	const char *state = c->object->props->v[CONNECTION_STATE].s;
	const char *cause = was_up ? strcasestr(why, "keepalive") ? "keepalive" : "eof" : "error";
	_cleanup_(vdict_freep) struct vdict *details = vdict_new();
	uint64_t delay = RETRY_MAX;
	struct props *p;

	drop_link(c);
	reconcile_reset(c);
	if (c->failures < 16 && RETRY_FIRST << c->failures < RETRY_MAX)
		delay = RETRY_FIRST << c->failures;
	c->failures++;
	/* Jitter, so that many brokers don't come back at once: half of it is fixed. */
	delay = delay / 2 + clock_random(b->clock) % (delay / 2);
	timer_in(b->clock, &c->timer, delay, on_retry, c);

	p = edit(c->object);
	if (p && props_set_s(p, CONNECTION_STATE, "disconnected") >= 0 &&
	    props_set_s(p, CONNECTION_ERROR, vireo_error_name(VIREO_DISCONNECTED)) >= 0 &&
	    (!details || vdict_set_s(details, "message", why) >= 0)) {
		if (strcmp(state, "disconnected") != 0) {
			log_id(LOG_NOTICE, LOG_ID_DISCONNECTED, "%s: disconnected: %s", c->object->path, why);
			broker_emit(b, c->object, "Disconnected", cause, false, TAKE(p), details);
		} else {
			log_debug("%s: still disconnected: %s", c->object->path, why);
			emit_if_changed(c, "Updated", "", TAKE(p), NULL);
		}
	}
	props_unref(p);
	jobs_lost(c, VIREO_DISCONNECTED, "The hypervisor was lost while the job ran");
	queries_lost(c, "The hypervisor was lost");
	c->attempted = true;
	sync_lost(c, why);
	connection_progressed(c);
}

static void attempt(struct connection *c)
{
	struct broker *b = c->broker;
	struct failure f = {0};
	int r;

	r = driver_host_new(b->queue, b->event, b->clock, b->config.history.directory, c, &c->host);
	if (r == 0) {
		c->link = LINK_OPENING;
		r = c->driver->open(c->uri, c->host, &c->dc, &f);
	}
	if (r != 0)
		lost(c, f.message ? f.message : r < 0 ? strerror(-r) : "cannot be opened");
	failure_clear(&f);
}

void connection_retry(struct connection *c)
{
	timer_clear(&c->timer);
	attempt(c);
}

/* What it did not know before. */
static void on_hello_again(struct connection *c, const struct hello *h, struct props *p)
{
	if (!h->version || strcmp(p->v[CONNECTION_HYPERVISOR_VERSION].s, h->version) == 0)
		return;
	if (props_set_s(p, CONNECTION_HYPERVISOR_VERSION, h->version) == 0)
		broker_emit(c->broker, c->object, "Updated", "", false, props_ref(p), NULL);
}

static void on_hello(struct connection *c, struct hello *h)
{
	struct broker *b = c->broker;
	_cleanup_(props_unrefp) struct props *p = edit(c->object);
	bool was_same;

	if (p && c->link == LINK_UP)
		on_hello_again(c, h, p);
	if (c->link != LINK_OPENING || !p)
		return;
	c->link = LINK_UP;
	c->polled = h->polled;
	if (props_set_s(p, CONNECTION_STATE, "connected") < 0 || props_set_s(p, CONNECTION_ERROR, "") < 0 ||
	    props_set_s(p, CONNECTION_HOSTNAME, h->hostname) < 0 ||
	    props_set_s(p, CONNECTION_HYPERVISOR_VERSION, h->version) < 0 ||
	    props_set_as(p, CONNECTION_SUPPORTED_EVENTS, (const char *const *)h->events) < 0 ||
	    props_set_as(p, CONNECTION_SUPPORTED_OPERATIONS, (const char *const *)h->operations) < 0) {
		lost(c, "out of memory");
		return;
	}
	log_info("%s: connected to %s (driver %s, hypervisor %s)", c->object->path, h->hostname ? h->hostname : "?", c->driver->name,
		 h->version && *h->version ? h->version : "of no known version");
	broker_emit(b, c->object, "Connected", "", false, TAKE(p), NULL);

	was_same = (c->same_key && h->same_key) ? strcmp(c->same_key, h->same_key) == 0 : c->same_key == h->same_key;
	free(c->same_key);
	c->same_key = TAKE(h->same_key);
	if (!was_same)
		update_same_as(b);
	/* Runs may be numbered anew since: what was late before says nothing now. */
	for (unsigned k = 0; k < KIND_MAX; k++)
		for (struct object *o = c->by_uuid[k]; o; o = o->by_uuid.next)
			lifecycle_reconnected(&o->life);
	connection_list(c);
}

/* ---- listing --------------------------------------------------------------------------------------------------- */

static void begin_listing(struct connection *c, uint64_t serial)
{
	c->listing.serial = serial;
	c->listing.again = 0;
	c->listing.ended = c->listing.failed = false;
	timer_clear(&c->timer);
	c->driver->list(c->dc, serial);
}

uint64_t connection_list(struct connection *c)
{
	if (!c->listing.serial) {
		uint64_t serial = c->broker->next_serial++;

		begin_listing(c, serial);
		return serial;
	}
	/* The one under way may have begun before what the caller wants to be covered. */
	if (!c->listing.again)
		c->listing.again = c->broker->next_serial++;
	return c->listing.again;
}

static void on_interval(struct timer *t, void *userdata)
{
	struct connection *c = userdata;

	connection_list(c);
	broker_flush(c->broker);
}

void connection_progressed(struct connection *c)
{
	struct broker *b = c->broker;

	if (c->link == LINK_UP && c->listing.serial && c->listing.ended && !reconcile_looking(c, true)) {
		uint64_t again = c->listing.again, interval;

		c->listing.done = c->listing.serial;
		c->listing.serial = 0;
		if (!c->listing.failed) {
			c->failures = 0;
			c->attempted = true;
			if (!c->synced) {
				c->synced = true;
				broker_emit(b, c->object, "Synced", "connected", false, NULL, NULL);
			}
		}
		/* What was not listed whole is tried again soon, but not at once for ever. */
		interval = c->listing.failed ? RETRY_FIRST << (c->failures < 6 ? c->failures++ : 6)
			   : c->polled	     ? b->config.poll_interval
					     : b->config.resync_interval;
		if (again)
			begin_listing(c, again);
		else if (interval != USEC_UNKNOWN)
			timer_in(b->clock, &c->timer, interval, on_interval, c);
	}
	sync_progressed(c);
	connection_check_ready(b);
}

/* ---- reports --------------------------------------------------------------------------------------------------- */

void connection_on_report(struct connection *c, struct report *r)
{
	switch (r->type) {
	case REPORT_HELLO:
		on_hello(c, &r->hello);
		break;
	case REPORT_GOODBYE:
		lost(c, r->goodbye.error ? r->goodbye.error : "connection closed");
		break;
	case REPORT_OBSERVATION:
		if (c->link == LINK_UP) {
			reconcile_observation(c, r);
			return;
		}
		break;
	case REPORT_LISTED:
		if (c->link == LINK_UP)
			reconcile_listed(c, &r->listed);
		break;
	case REPORT_PROGRESS:
		jobs_on_progress(c, &r->progress);
		break;
	case REPORT_RESULT:
		if (!queries_on_result(c, &r->result))
			jobs_on_result(c, &r->result);
		break;
	case REPORT_FOREIGN:
		jobs_on_foreign(c, &r->foreign);
		break;
	}
	report_free(r);
}

/* ---- labels ---------------------------------------------------------------------------------------------------- */

/* The URI without what may be secret: query, fragment, user and password. */
static char *public_uri(const char *uri)
{
	size_t n = strcspn(uri, "?#");
	const char *authority = strstr(uri, "://"), *at, *end;
	char *s;

	if (authority && (size_t)(authority - uri) < n) {
		authority += 3;
		end = authority + strcspn(authority, "/?#");
		at = memrchr(authority, '@', (size_t)(end - authority));
		/* A user's name is shown, as libvirt shows it; a password never. */
		const char *colon = at ? memchr(authority, ':', (size_t)(at - authority)) : NULL;

		if (colon) {
			if (asprintf(&s, "%.*s%.*s", (int)(colon - uri), uri, (int)(uri + n - at), at) < 0)
				return NULL;
			return s;
		}
	}
	return strndup(uri, n);
}

/* "qemu:///system" -> "qemu_system". Owned by the caller. */
static char *label_from_uri(const char *uri)
{
	_cleanup_(freep) char *shown = public_uri(uri);
	char *label, *out;
	bool gap = false;

	if (!shown)
		return NULL;
	label = out = malloc(strlen(shown) + 2);
	if (!label)
		return NULL;
	for (const char *p = shown; *p; p++) {
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')) {
			if (gap && out > label)
				*out++ = '_';
			gap = false;
			*out++ = *p;
		} else
			gap = true;
	}
	*out = 0;
	if (out == label)
		strcpy(label, "c");
	return label;
}

static bool label_is_valid(const char *label)
{
	if (!*label || strlen(label) > 64)
		return false;
	return strspn(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(label);
}

/* Is the label in use, by something other than the stored record of this very URI? */
static bool label_is_taken(struct broker *b, const char *label)
{
	struct connection *c;

	DL_FOREACH(b->connections, c)
	if (strcmp(strrchr(c->object->path, '/') + 1, label) == 0)
		return true;
	return false;
}

static char *uri_extra(const char *uri)
{
	struct json_object *o = json_object_new_object();
	char *s;

	json_object_object_add(o, "uri", json_object_new_string(uri));
	s = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
	return s;
}

/* ---- open and close -------------------------------------------------------------------------------------------- */

/* What the last run knew under this path: taken up when it was the same URI, else told to be gone. */
static void take_up(struct connection *c, struct object *stored)
{
	struct broker *b = c->broker;

	c->object = stored;
	stored->connection = c;
	for (enum kind k = KIND_DOMAIN; k <= KIND_NETWORK; k++) {
		struct object *o;

		DL_FOREACH(b->first[k], o)
		{
			if (o->connection || strcmp(o->stored_connection, stored->path) != 0)
				continue;
			o->connection = c;
			HASH_ADD(by_uuid, c->by_uuid[k], uuid, sizeof(o->uuid), o);
		}
	}
	/* Nobody looked while the broker was down, so what it says of the link is no longer so. */
	if (strcmp(stored->props->v[CONNECTION_STATE].s, "disconnected") != 0) {
		struct props *p = edit(stored);

		if (p && props_set_s(p, CONNECTION_STATE, "disconnected") >= 0)
			broker_emit(b, stored, "Disconnected", "restarted", true, TAKE(p), NULL);
		props_unref(p);
	}
}

static void forget_stored(struct broker *b, struct object *stored)
{
	for (enum kind k = KIND_DOMAIN; k <= KIND_NETWORK; k++) {
		struct object *o, *tmp;

		DL_FOREACH_SAFE(b->first[k], o, tmp)
		if (!o->connection && strcmp(o->stored_connection, stored->path) == 0)
			reconcile_close(b, o);
	}
	broker_emit(b, stored, "Removed", "closed", true, NULL, NULL);
}

void broker_forget_unopened(struct broker *b)
{
	struct object *o, *tmp;

	DL_FOREACH_SAFE(b->first[KIND_CONNECTION], o, tmp)
	if (!o->connection)
		forget_stored(b, o);
	/* Domains whose connection's record was lost. */
	for (enum kind k = KIND_DOMAIN; k <= KIND_NETWORK; k++)
		DL_FOREACH_SAFE(b->first[k], o, tmp)
		if (!o->connection)
			reconcile_close(b, o);
	broker_flush(b);
}

int broker_open(struct broker *b, const char *label, const char *uri, struct object **ret, struct failure *f)
{
	_cleanup_(freep) char *made = NULL, *path = NULL, *shown = NULL, *extra = NULL;
	const struct driver *driver;
	struct connection *c;
	struct object *stored;
	int r;

	if (label && !label_is_valid(label))
		return failure_set(f, VIREO_INVALID_OPTION,
				   "“%s” cannot be a connection's label: 1 to 64 letters, digits and “_”", label);
	r = registry_choose(uri, &driver, f);
	if (r != 0)
		return r;
	DL_FOREACH(b->connections, c)
	if (strcmp(c->uri, uri) == 0) {
		*ret = c->object;
		return failure_set(f, VIREO_ALREADY_EXISTS, "%s is open already, as %s", c->object->props->v[CONNECTION_URI].s,
				   c->object->path);
	}
	if (label && label_is_taken(b, label))
		return failure_set(f, VIREO_ALREADY_EXISTS, "A connection is labelled “%s” already", label);
	shown = public_uri(uri);
	if (!label) {
		made = label_from_uri(uri);
		if (made && label_is_taken(b, made)) {
			_cleanup_(text_unrefp) struct text *hash = text_new(uri);
			char *longer;

			if (!hash || asprintf(&longer, "%s_%02x%02x%02x%02x", made, hash->hash[0], hash->hash[1], hash->hash[2],
					      hash->hash[3]) < 0)
				return -ENOMEM;
			free(made);
			made = longer;
		}
		label = made;
	}
	extra = uri_extra(uri);
	if (!label || !shown || !extra || asprintf(&path, OBJECT_PATH_CONNECTIONS "/%s", label) < 0)
		return -ENOMEM;

	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->broker = b;
	c->driver = driver;
	c->uri = strdup(uri);
	if (!c->uri) {
		free(c);
		return -ENOMEM;
	}
	DL_APPEND(b->connections, c);
	stored = broker_find(b, path);
	if (stored && stored->extra && strcmp(stored->extra, extra) == 0)
		take_up(c, stored);
	else {
		struct props *p;

		if (stored)
			forget_stored(b, stored);
		c->object = object_new(KIND_CONNECTION, path, c);
		p = c->object ? edit(c->object) : NULL;
		if (!p || props_set_s(p, CONNECTION_URI, shown) < 0 || props_set_s(p, CONNECTION_DRIVER, driver->name) < 0 ||
		    props_set_s(p, CONNECTION_STATE, "connecting") < 0) {
			props_unref(p);
			object_free(c->object);
			DL_DELETE(b->connections, c);
			free(c->uri);
			free(c);
			return -ENOMEM;
		}
		c->object->extra = TAKE(extra);
		broker_emit(b, c->object, "Added", "", false, p, NULL);
	}
	attempt(c);
	*ret = c->object;
	broker_flush(b);
	return 0;
}

void connection_free(struct connection *c)
{
	struct broker *b = c->broker;

	drop_link(c);
	reconcile_reset(c);
	jobs_lost(c, VIREO_DISCONNECTED, "The connection was closed while the job ran");
	queries_lost(c, "The connection was closed");
	sync_lost(c, "the connection was closed");
	DL_DELETE(b->connections, c);
	for (unsigned k = 0; k < KIND_MAX; k++) {
		struct object *o, *tmp;

		HASH_ITER(by_uuid, c->by_uuid[k], o, tmp)
		{
			HASH_DELETE(by_uuid, c->by_uuid[k], o);
			o->connection = NULL;
			if (!o->stored_connection)
				o->stored_connection = strdup(c->object->path);
		}
	}
	/* Finished jobs outlive it. */
	struct object *job;

	DL_FOREACH(b->first[KIND_JOB], job)
	if (job->connection == c)
		job->connection = NULL;
	if (c->object)
		c->object->connection = NULL;
	free(c->same_key);
	free(c->uri);
	free(c);
}

int broker_close(struct broker *b, struct object *connection, struct failure *f)
{
	struct connection *c = connection->connection;

	if (connection->kind != KIND_CONNECTION || !c)
		return failure_set(f, VIREO_NOT_FOUND, "%s is no connection", connection->path);
	drop_link(c);
	reconcile_reset(c);
	jobs_lost(c, VIREO_DISCONNECTED, "The connection was closed while the job ran");
	for (unsigned k = 0; k < KIND_MAX; k++) {
		struct object *o, *tmp;

		HASH_ITER(by_uuid, c->by_uuid[k], o, tmp)
		reconcile_close(b, o);
	}
	broker_emit(b, connection, "Removed", "closed", false, NULL, NULL);
	/* The record lives until the flush; it needs its path for jobs that are left. */
	connection->stored_connection = strdup(connection->path);
	connection_free(c);
	update_same_as(b);
	broker_flush(b);
	return 0;
}

/* ---- ready ----------------------------------------------------------------------------------------------------- */

bool broker_ready(struct broker *b)
{
	struct connection *c;

	DL_FOREACH(b->connections, c)
	if (!c->attempted)
		return false;
	return true;
}

static void on_ready_timer(struct timer *t, void *userdata)
{
	struct broker *b = userdata;
	void (*fn)(void *) = TAKE(b->on_ready);

	if (fn)
		fn(b->on_ready_userdata);
}

void connection_check_ready(struct broker *b)
{
	if (b->on_ready && !b->ready_timer.set && broker_ready(b))
		timer_in(b->clock, &b->ready_timer, 0, on_ready_timer, b);
}

void broker_on_ready(struct broker *b, void (*fn)(void *userdata), void *userdata)
{
	b->on_ready = fn;
	b->on_ready_userdata = userdata;
	connection_check_ready(b);
}
