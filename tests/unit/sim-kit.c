/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "drivers/host.h"
#include "drivers/sim/json.h"
#include "drivers/sim/sim-driver.h"
#include "drivers/sim/uri.h"
#include "sim-kit.h"
#include "util/clock.h"

/* Nothing takes as long, unless it never comes. */
#define PATIENCE (60 * USEC_PER_SEC)

struct sim_kit {
	char *uri, *file;
	sd_event *event;
	struct clock *clock;
	struct queue *queue;
	struct driver_host *host;
	struct driver_connection *connection;
	struct sim_world *world; /* a hold */

	struct report **reports;
	size_t n, size, cleared;
	char *trace;
	struct report *hello, *goodbye;
	uint64_t serial, token;
	bool discard;
	size_t discarded;
};

static unsigned kits; /* that are open */

/* ---- reports ------------------------------------------------------------------------------------------------------ */

static void on_item(struct queue_item *item, void *userdata)
{
	struct sim_kit *k = userdata;
	struct report *r = (struct report *)item;

	if (driver_host_owner(r->host) != k) {
		report_free(r);
		return;
	}
	/* nothing comes before the greeting, and nothing after the farewell */
	if (r->type == REPORT_HELLO) {
		assert_null(k->hello);
		k->hello = r;
	} else if (r->type == REPORT_GOODBYE)
		k->goodbye = r;
	else
		assert_non_null(k->hello);
	if (r->type != REPORT_GOODBYE)
		assert_null(k->goodbye);
	if (k->discard && r->type == REPORT_OBSERVATION) {
		k->discarded++;
		report_free(r);
		return;
	}
	if (k->n == k->size) {
		k->size = k->size ? 2 * k->size : 64;
		k->reports = reallocarray(k->reports, k->size, sizeof(*k->reports));
	}
	k->reports[k->n++] = r;
}

static void on_drop(struct queue_item *item)
{
	report_free((struct report *)item);
}

static const struct queue_ops ops = {.item = on_item, .drop = on_drop};

static void print_observation(FILE *f, const struct observation *o)
{
	fputs(o->cause == CAUSE_OTHER ? o->event : o->cause ? cause_to_string(o->cause) : "look", f);
	if (o->reason)
		fprintf(f, "(%s)", o->reason);
	switch (o->look) {
	case LOOK_NONE:
		fputs("[-]", f);
		break;
	case LOOK_GONE:
		fputs("[gone]", f);
		break;
	case LOOK_FAILED:
		fputs("[failed]", f);
		break;
	case LOOK_SEEN:
		fprintf(f, "[%s]",
			o->kind == KIND_DOMAIN ? domain_state_to_string(o->seen->state)
			: o->seen->active      ? "active"
					       : "inactive");
		break;
	}
	if (o->settled)
		fputc('!', f);
}

const char *kit_trace(struct sim_kit *k)
{
	size_t size = 0;
	FILE *f;

	free(k->trace);
	k->trace = NULL;
	f = open_memstream(&k->trace, &size);
	for (size_t i = k->cleared; i < k->n; i++) {
		const struct report *r = k->reports[i];

		if (i > k->cleared)
			fputc(' ', f);
		switch (r->type) {
		case REPORT_HELLO:
			fputs("hello", f);
			break;
		case REPORT_GOODBYE:
			fputs("goodbye", f);
			break;
		case REPORT_OBSERVATION:
			print_observation(f, &r->observation);
			break;
		case REPORT_LISTED:
			fputs("listed", f);
			break;
		case REPORT_PROGRESS:
			fputs("progress", f);
			break;
		case REPORT_RESULT:
			if (r->result.failure.error == VIREO_OK)
				fputs("ok", f);
			else if (r->result.failure.error == VIREO_CANCELLED)
				fputs("cancelled", f);
			else
				fprintf(f, "error:%s", strrchr(vireo_error_name(r->result.failure.error), '.') + 1);
			break;
		case REPORT_FOREIGN:
			fputs("foreign", f);
			break;
		}
	}
	fclose(f);
	return k->trace;
}

void kit_clear(struct sim_kit *k)
{
	k->cleared = k->n;
}

void kit_discard(struct sim_kit *k, bool discard)
{
	k->discard = discard;
	k->discarded = 0;
}

size_t kit_discarded(struct sim_kit *k)
{
	return k->discarded;
}

size_t kit_count(struct sim_kit *k)
{
	return k->n - k->cleared;
}

const struct report *kit_report(struct sim_kit *k, size_t i)
{
	assert_true(k->cleared + i < k->n);
	return k->reports[k->cleared + i];
}

const struct hello *kit_hello(struct sim_kit *k)
{
	return &k->hello->hello;
}

const char *kit_goodbye(struct sim_kit *k)
{
	return k->goodbye ? k->goodbye->goodbye.error : NULL;
}

/* ---- the connection -------------------------------------------------------------------------------------------------- */

/* NULL: it is in another process. */
static struct sim_world *find_world(const char *uri)
{
	struct sim_world *w = NULL;
	struct sim_uri u = {};

	assert_int_equal(sim_uri_parse(uri, &u, NULL), 0);
	if (!sim_uri_is_socket(&u))
		assert_int_equal(sim_uri_world(uri, &u, &w, NULL), 0);
	sim_uri_done(&u);
	return w;
}

static void connect_kit(struct sim_kit *k)
{
	struct failure f = {};
	int r;

	assert_int_equal(driver_host_new(k->queue, k->event, k->clock, NULL, k, &k->host), 0);
	r = sim_driver.open(k->uri, k->host, &k->connection, &f);
	if (r != 0)
		fail_msg("%s: %s", k->uri, f.message ? f.message : strerror(-r));
	/* a hold of our own: its lock and truth stay valid whatever the connection does */
	if (!k->world)
		k->world = find_world(k->uri);
}

struct sim_kit *kit_open(const char *uri)
{
	struct sim_kit *k = calloc(1, sizeof(*k));

	kits++;
	k->uri = strdup(uri);
	assert_int_equal(sd_event_new(&k->event), 0);
	assert_int_equal(clock_new_virtual(1, &k->clock), 0);
	assert_int_equal(queue_new(k->event, &ops, k, 256, 64, &k->queue), 0);
	connect_kit(k);
	return k;
}

struct sim_kit *kit_open_scenario(const char *json)
{
	char path[] = "/tmp/vireo-test-sim-XXXXXX.json", uri[64];
	int fd = mkstemps(path, 5);
	struct sim_kit *k;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, json, strlen(json)), (ssize_t)strlen(json));
	close(fd);
	snprintf(uri, sizeof(uri), "sim:%s", path);
	k = kit_open(uri);
	k->file = strdup(path);
	unlink(path);
	return k;
}

static void disconnect_kit(struct sim_kit *k)
{
	sim_driver.close(k->connection);
	driver_host_close(k->host);
	driver_host_unref(k->host);
}

static void forget_reports(struct sim_kit *k)
{
	for (size_t i = 0; i < k->n; i++)
		report_free(k->reports[i]);
	k->n = k->cleared = 0;
	k->hello = k->goodbye = NULL;
}

void kit_reconnect(struct sim_kit *k)
{
	disconnect_kit(k);
	forget_reports(k);
	connect_kit(k);
}

void kit_close(struct sim_kit *k)
{
	disconnect_kit(k);
	queue_close(k->queue);
	queue_unref(k->queue);
	forget_reports(k);
	free(k->reports);
	free(k->trace);
	if (k->world)
		sim_world_release(k->world);
	clock_free(k->clock);
	sd_event_unref(k->event);
	free(k->uri);
	free(k->file);
	free(k);
	/* with the last one every thread ends, whatever hung */
	if (--kits == 0)
		assert_int_equal(sim_shutdown(PATIENCE), 0);
}

struct driver_connection *kit_connection(struct sim_kit *k)
{
	return k->connection;
}

struct sim_world *kit_world(struct sim_kit *k)
{
	return k->world;
}

/* ---- waiting --------------------------------------------------------------------------------------------------------- */

void kit_until(struct sim_kit *k, bool (*fn)(struct sim_kit *, void *), void *data)
{
	uint64_t until = sim_now() + PATIENCE;

	while (!fn(k, data)) {
		if (sim_now() > until)
			fail_msg("what was waited for never came; so far: %s", kit_trace(k));
		assert_true(sd_event_run(k->event, 10 * USEC_PER_MSEC) >= 0);
	}
}

static bool has_hello(struct sim_kit *k, void *data)
{
	return k->hello;
}

static bool has_goodbye(struct sim_kit *k, void *data)
{
	return k->goodbye;
}

void kit_until_hello(struct sim_kit *k)
{
	kit_until(k, has_hello, NULL);
}

void kit_until_goodbye(struct sim_kit *k)
{
	kit_until(k, has_goodbye, NULL);
}

void kit_expect_silence(struct sim_kit *k)
{
	uint64_t until = sim_now() + 60 * USEC_PER_MSEC;
	size_t n = k->n;

	while (sim_now() < until)
		assert_true(sd_event_run(k->event, 10 * USEC_PER_MSEC) >= 0);
	if (k->n != n)
		fail_msg("expected silence, but: %s", kit_trace(k));
}

/* ---- steps ----------------------------------------------------------------------------------------------------------- */

struct ended {
	atomic_bool done;
	char error[64];
};

static void on_done(void *userdata, const struct failure *f, struct json_object *answer)
{
	struct ended *e = userdata;

	if (f->error != VIREO_OK)
		snprintf(e->error, sizeof(e->error), "%s", strrchr(vireo_error_name(f->error), '.') + 1);
	json_object_put(answer);
	atomic_store(&e->done, true);
}

static bool has_ended(struct sim_kit *k, void *data)
{
	struct ended *e = data;

	return atomic_load(&e->done);
}

static void add_steps(struct sim_kit *k, const char *text, struct ended *e)
{
	struct json_object *steps = NULL;
	struct failure f = {};
	char *list = text[0] == '[' ? strdup(text) : NULL;

	if (!list)
		assert_true(asprintf(&list, "[%s]", text) > 0);
	if (sim_json_parse(list, strlen(list), "test", &steps, &f) != 0 || sim_steps_check(steps, "test", &f) != 0)
		fail_msg("%s: %s", text, f.message);
	pthread_mutex_lock(&k->world->lock);
	sim_script_add(k->world, steps, e ? on_done : NULL, e);
	json_object_put(steps);
	pthread_mutex_unlock(&k->world->lock);
	free(list);
}

void kit_steps_begin(struct sim_kit *k, const char *steps)
{
	add_steps(k, steps, NULL);
}

const char *kit_steps(struct sim_kit *k, const char *steps)
{
	static struct ended e;

	memset(e.error, 0, sizeof(e.error));
	atomic_store(&e.done, false);
	add_steps(k, steps, &e);
	kit_until(k, has_ended, &e);
	return e.error;
}

void kit_settle(struct sim_kit *k)
{
	assert_string_equal(kit_steps(k, "{\"do\": \"wait-idle\"}"), "");
	/* posted is not yet drained */
	queue_drain(k->queue);
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

static bool has_listed(struct sim_kit *k, void *data)
{
	for (size_t i = k->n; i-- > k->cleared;)
		if (k->reports[i]->type == REPORT_LISTED && k->reports[i]->listed.serial == k->serial)
			return true;
	return false;
}

const struct listed *kit_list(struct sim_kit *k)
{
	kit_clear(k);
	sim_driver.list(k->connection, ++k->serial);
	kit_until(k, has_listed, NULL);
	for (size_t i = k->n; i-- > k->cleared;)
		if (k->reports[i]->type == REPORT_LISTED)
			return &k->reports[i]->listed;
	return NULL;
}

sd_id128_t kit_uuid(struct sim_kit *k, enum kind kind, const char *name)
{
	struct sim_object *o;
	sd_id128_t uuid = {};

	pthread_mutex_lock(&k->world->lock);
	o = sim_object_named(&k->world->truth, kind, name);
	if (o)
		uuid = o->uuid;
	pthread_mutex_unlock(&k->world->lock);
	return uuid;
}

struct request *kit_request(struct sim_kit *k, enum operation op, const char *name, const char *text)
{
	struct request *r = calloc(1, sizeof(*r));

	r->token = ++k->token;
	r->operation = op;
	r->kind = operation_table[op].kind;
	r->fd = -1;
	if (name) {
		r->name = strdup(name);
		r->uuid = kit_uuid(k, r->kind, name);
	}
	if (text)
		r->text = strdup(text);
	return r;
}

uint64_t kit_begin(struct sim_kit *k, struct request *r)
{
	uint64_t token = r->token;

	sim_driver.operate(k->connection, r);
	return token;
}

static struct report *find_result(struct sim_kit *k, uint64_t token)
{
	struct report *found = NULL;

	for (size_t i = k->n; i-- > k->cleared;)
		if (k->reports[i]->type == REPORT_RESULT && k->reports[i]->result.token == token) {
			/* once, and no more */
			assert_null(found);
			found = k->reports[i];
		}
	return found;
}

static bool has_result(struct sim_kit *k, void *data)
{
	return find_result(k, *(uint64_t *)data);
}

const struct result *kit_result(struct sim_kit *k, uint64_t token)
{
	kit_until(k, has_result, &token);
	return &find_result(k, token)->result;
}

const struct result *kit_operate_request(struct sim_kit *k, struct request *r)
{
	return kit_result(k, kit_begin(k, r));
}

const struct result *kit_operate(struct sim_kit *k, enum operation op, const char *name, const char *text)
{
	kit_clear(k);
	return kit_operate_request(k, kit_request(k, op, name, text));
}

static struct report *find_look(struct sim_kit *k)
{
	for (size_t i = k->n; i-- > k->cleared;)
		if (k->reports[i]->type == REPORT_OBSERVATION && k->reports[i]->observation.listing == k->serial)
			return k->reports[i];
	return NULL;
}

static bool has_look(struct sim_kit *k, void *data)
{
	return find_look(k);
}

const struct observation *kit_look(struct sim_kit *k, enum kind kind, sd_id128_t uuid)
{
	sim_driver.look(k->connection, kind, uuid, ++k->serial);
	kit_until(k, has_look, NULL);
	return &find_look(k)->observation;
}

/* ---- truth ----------------------------------------------------------------------------------------------------------- */

static void assert_same(const struct sim_object *o, const struct seen *s)
{
	_cleanup_(seen_freep) struct seen *now = sim_object_look(o);

	assert_string_equal(s->name, now->name);
	assert_int_equal(s->active, now->active);
	assert_int_equal(s->persistent, now->persistent);
	assert_int_equal(s->autostart, now->autostart);
	assert_string_equal(s->xml, now->xml);
	if (o->kind != KIND_DOMAIN)
		return;
	assert_int_equal(s->id, now->id);
	assert_int_equal(s->state, now->state);
	assert_string_equal(s->state_reason, now->state_reason);
	assert_int_equal(s->managed_save, now->managed_save);
	assert_int_equal(s->memory, now->memory);
}

void kit_assert_listed_truth(struct sim_kit *k)
{
	const struct listed *l;
	size_t objects = 0;

	l = kit_list(k);
	pthread_mutex_lock(&k->world->lock);
	for (size_t i = k->cleared; i < k->n; i++) {
		const struct report *r = k->reports[i];
		struct sim_object *o;

		if (r->type != REPORT_OBSERVATION || r->observation.listing != k->serial)
			continue;
		assert_int_equal(r->observation.look, LOOK_SEEN);
		assert_true(r->observation.settled);
		o = sim_object_find(&k->world->truth, r->observation.kind, r->observation.uuid);
		assert_non_null(o);
		assert_same(o, r->observation.seen);
		objects++;
	}
	assert_int_equal(objects, k->world->truth.count[KIND_DOMAIN] + k->world->truth.count[KIND_POOL] +
					  k->world->truth.count[KIND_NETWORK]);
	pthread_mutex_unlock(&k->world->lock);
	assert_true(l->complete[KIND_DOMAIN] && l->complete[KIND_POOL] && l->complete[KIND_NETWORK]);
	assert_null(l->error);
}
