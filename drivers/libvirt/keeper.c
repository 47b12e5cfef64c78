/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <ctype.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "errors.h"
#include "jobs.h"
#include "loop.h"
#include "util/log.h"
#include "util/utf8.h"
#include "xml.h"

/*
 * The keeper: one thread a connection, which opens it, posts what is late, ends it when it is lost, and closes it.
 * It may hang in libvirt, for ever even; nobody waits for it.
 */

/*
 * Seconds between two questions, and how many may stay unanswered: dead after 16 s, so that a call which waits for its end
 * gets to know (after 20 s it would be answered that its job goes on).
 */
#define KEEPALIVE_INTERVAL 4
#define KEEPALIVE_COUNT 3

/* There is nobody to ask; what libvirt finds in its own files (auth.conf) it takes from there before. */
static int ask_nobody(virConnectCredentialPtr cred, unsigned n, void *userdata)
{
	return -1;
}

virConnectPtr lv_open_one(const char *uri)
{
	virConnectAuth auth = {.cb = ask_nobody};
	virConnectPtr conn = virConnectOpenAuth(uri, &auth, 0);

	/* Fails for a hypervisor in this process: that has no wire to watch. */
	if (conn && virConnectSetKeepAlive(conn, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT) < 0)
		log_debug("libvirt: no keepalive for %s: %s", uri, virGetLastErrorMessage());
	return conn;
}

static void post_goodbye(struct driver_connection *c, const char *why)
{
	struct report *r = report_new(REPORT_GOODBYE);

	if (!r)
		return;
	r->goodbye.error = utf8_dup(why);
	driver_host_post(c->host, r);
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

static void on_close(virConnectPtr conn, int reason, void *userdata)
{
	static const char *const words[] = {
		[VIR_CONNECT_CLOSE_REASON_ERROR] = "I/O error",
		[VIR_CONNECT_CLOSE_REASON_EOF] = "closed by the other side",
		[VIR_CONNECT_CLOSE_REASON_KEEPALIVE] = "no answer for too long",
	};
	struct driver_connection *c = userdata;

	if (reason == VIR_CONNECT_CLOSE_REASON_CLIENT)
		return;
	pthread_mutex_lock(&c->lock);
	if (!c->lost) {
		c->lost = true;
		c->lost_why = strdup(reason >= 0 && (size_t)reason < ELEMENTS(words) ? words[reason] : "closed");
		pthread_cond_signal(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
}

/*
 * Without a reference of its own: a hypervisor that knows no closing accepts the callback and forgets its userdata.
 * take_down() takes it off before the keeper gives up its reference, and that waits for a call under way.
 */
static void watch_closing(struct driver_connection *c, virConnectPtr conn)
{
	if (virConnectRegisterCloseCallback(conn, on_close, c, NULL) < 0)
		log_debug("libvirt: no close callback for %s: %s", c->uri, virGetLastErrorMessage());
}

/* Does each connection to this URI have a world of its own? Then events would not tell of another's operations. */
static bool is_own_world(const struct driver_connection *c)
{
	_cleanup_(lv_uri_free) xmlURIPtr uri = xmlParseURI(c->uri);

	return c->is_test && (!uri || !uri->path || strcmp(uri->path, "/default") != 0);
}

static bool open_all(struct driver_connection *c)
{
	const char *type;

	c->events = lv_open_one(c->uri);
	if (!c->events)
		return false;
	type = virConnectGetType(c->events);
	c->is_test = type && strcasecmp(type, "test") == 0;
	watch_closing(c, c->events);
	lv_events_register(c);
	lv_foreign_register(c);
	c->own_world = is_own_world(c);
	if (c->own_world) {
		virConnectRef(c->events);
		c->ops = c->events;
		return true;
	}
	c->ops = lv_open_one(c->uri);
	if (c->ops)
		watch_closing(c, c->ops);
	return c->ops != NULL;
}

virConnectPtr lv_extra(struct driver_connection *c, virConnectPtr *which)
{
	virConnectPtr conn;

	pthread_mutex_lock(&c->opening);
	if (*which && virConnectIsAlive(*which) == 0) {
		virConnectClose(*which); /* whoever works on it has references */
		*which = NULL;
	}
	if (!*which && c->own_world) {
		virConnectRef(c->events);
		*which = c->events;
	} else if (!*which)
		*which = lv_open_one(c->uri);
	conn = *which;
	pthread_mutex_unlock(&c->opening);
	return conn;
}

/* The value of @name in the URI's query; "" when there is none. Owned by the caller. */
static char *query_value(const char *query, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = query; p && *p; p += strcspn(p, "&;"), p += *p != '\0')
		if (strncmp(p, name, n) == 0 && p[n] == '=')
			return strndup(p + n + 1, strcspn(p + n + 1, "&;"));
	return strdup("");
}

/*
 * What makes two connections the same: kind of hypervisor, host, and which of its instances. A socket of its own
 * means an instance of its own; session instances are one a user.
 */
static char *make_same_key(struct driver_connection *c)
{
	_cleanup_(lv_uri_free) xmlURIPtr uri = xmlParseURI(c->uri);
	_cleanup_(freep) char *caps = NULL, *id = NULL, *socket = NULL, *user = NULL;
	const char *type = virConnectGetType(c->events), *start, *path;
	char *key = NULL;

	if (!uri || !type || c->own_world)
		return NULL;
	path = uri->path ? uri->path : "";
	socket = query_value(uri->query_raw, "socket");
	if (strcmp(path, "/session") == 0) {
		if (uri->server) /* of whom, over there? */
			return NULL;
		if (asprintf(&user, "%u", (unsigned)getuid()) < 0)
			return user = NULL;
	}
	if (c->is_test && !strchr(uri->scheme ? uri->scheme : "", '+') && !uri->server)
		return strdup("test:in-process"); /* has no host UUID; shared within this process */
	caps = virConnectGetCapabilities(c->events);
	start = caps ? strstr(caps, "<uuid>") : NULL;
	if (!start)
		return NULL;
	start += strlen("<uuid>");
	id = strndup(start, strcspn(start, "<"));
	if (!id || asprintf(&key, "%s:%s:%s:%s:%s", type, id, path, socket ? socket : "", user ? user : "") < 0)
		return NULL;
	for (char *p = key; *p && *p != ':'; p++)
		*p = (char)tolower((unsigned char)*p);
	return key;
}

static void post_hello(struct driver_connection *c)
{
	struct report *r = report_new(REPORT_HELLO);
	_cleanup_(freep) char *hostname = virConnectGetHostname(c->events);
	_cleanup_(freep) char *key = make_same_key(c);
	unsigned long version = 0;

	if (!r)
		return;
	r->hello.hostname = utf8_dup(hostname ? hostname : "");
	if (virConnectGetVersion(c->events, &version) < 0 ||
	    asprintf(&r->hello.version, "%lu.%lu.%lu", version / 1000000, version / 1000 % 1000, version % 1000) < 0)
		r->hello.version = strdup("");
	r->hello.same_key = utf8_dup(key);
	r->hello.events = lv_events_supported(c);
	r->hello.operations = lv_operations_supported(c);
	for (enum kind kind = 0; kind < KIND_MAX; kind++)
		if (c->has_kind[kind] && !c->reports_kind[kind])
			r->hello.polled = true;
	driver_host_post(c->host, r);
}

/* ---- following -------------------------------------------------------------------------------------------- */

void lv_wake_keeper(struct driver_connection *c, uint64_t at)
{
	if (at < c->keeper_until) {
		c->keeper_until = at;
		pthread_cond_signal(&c->wake);
	}
}

static void wait_until(struct driver_connection *c, uint64_t at)
{
	struct timespec t = {.tv_sec = (time_t)(at / USEC_PER_SEC), .tv_nsec = (long)(at % USEC_PER_SEC * 1000)};

	if (at == UINT64_MAX)
		pthread_cond_wait(&c->wake, &c->lock);
	else
		pthread_cond_timedwait(&c->wake, &c->lock, &t);
}

/* Answer all that is outstanding, then say goodbye. */
static void end(struct driver_connection *c)
{
	_cleanup_(freep) char *why = NULL;

	lv_post_all(c);
	pthread_mutex_lock(&c->lock);
	c->ended = true;
	why = TAKE(c->lost_why);
	lv_drop_causes(c);
	pthread_mutex_unlock(&c->lock);
	lv_fail_batches(c, why ? why : "lost");
	lv_fail_operations(c, why ? why : "lost");
	post_goodbye(c, why ? why : "lost");
}

/* Until close() was called. */
static void follow(struct driver_connection *c)
{
	uint64_t at, other;

	pthread_mutex_lock(&c->lock);
	while (!c->closed) {
		if (c->lost && !c->ended) {
			pthread_mutex_unlock(&c->lock);
			end(c);
			pthread_mutex_lock(&c->lock);
			continue;
		}
		/* Whatever happens while deadlines are looked at sets this lower; then they are looked at again. */
		c->keeper_until = UINT64_MAX;
		pthread_mutex_unlock(&c->lock);
		at = lv_post_late(c);
		other = lv_release_objects(c);
		at = other < at ? other : at;
		other = lv_poll_operations(c);
		at = other < at ? other : at;
		pthread_mutex_lock(&c->lock);
		if (at < c->keeper_until)
			c->keeper_until = at;
		while (!c->closed && (!c->lost || c->ended) && lv_now() < c->keeper_until)
			wait_until(c, c->keeper_until);
	}
	pthread_mutex_unlock(&c->lock);
}

static void wait_for_close(struct driver_connection *c)
{
	pthread_mutex_lock(&c->lock);
	while (!c->closed)
		pthread_cond_wait(&c->wake, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

static void take_down(struct driver_connection *c)
{
	lv_fail_batches(c, NULL);
	lv_fail_operations(c, NULL);
	if (!c->events)
		return;
	lv_foreign_deregister(c);
	lv_events_deregister(c);
	virConnectUnregisterCloseCallback(c->events, on_close);
	if (c->ops && c->ops != c->events)
		virConnectUnregisterCloseCallback(c->ops, on_close);
	/* A callback that was being called when it was taken off is let go by the loop. */
	lv_loop_turns(1);
}

void lv_keeper(struct driver_connection *c, void *data)
{
	if (open_all(c)) {
		post_hello(c);
		pthread_mutex_lock(&c->lock);
		lv_foreign_scan(c);
		pthread_mutex_unlock(&c->lock);
		follow(c);
	} else {
		_cleanup_(freep) char *why = lv_error_text();

		pthread_mutex_lock(&c->lock);
		c->ended = true;
		pthread_mutex_unlock(&c->lock);
		post_goodbye(c, why ? why : "no memory");
		wait_for_close(c);
	}
	take_down(c);
}
