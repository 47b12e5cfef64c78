/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "drivers/host.h"
#include "rig.h"
#include "util/clock.h"
#include "util/utf8.h"
#include "util/workers.h"

#define PATIENCE (60 * USEC_PER_SEC)

/* ---- judging ---------------------------------------------------------------------------------------------- */

/* A report in words. */
static char *describe(const struct observation *o)
{
	static const char *const looks[] = {"not looked", "seen", "gone", "failed"};
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	fprintf(f, "%s %s '%s' %s%s%s%s%s run %d: %s%s", kind_to_string(o->kind), SD_ID128_TO_STRING(o->uuid),
		o->seen ? o->seen->name : o->name ? o->name : "?", cause_to_string(o->cause), o->event ? o->event : "",
		o->reason ? " (" : "", o->reason ? o->reason : "", o->reason ? ")" : "", o->run,
		o->settled ? "settled, " : "", looks[o->look]);
	if (o->look == LOOK_SEEN)
		fprintf(f, " %s%s id %d %s (%s)", o->seen->active ? "active " : "", o->seen->persistent ? "persistent" : "",
			o->seen->id, domain_state_to_string(o->seen->state), o->seen->state_reason);
	if (o->error)
		fprintf(f, ": %s", o->error);
	fclose(f);
	return text;
}

static void tell(struct rig_object *k, const struct observation *o)
{
	char **slot = &k->story[k->n_story++ % RIG_STORY];

	free(*slot);
	*slot = describe(o);
}

static void breach(struct rig *r, const struct observation *o, const char *rule)
{
	struct rig_object *k = rig_find(r, o->kind, o->uuid);
	_cleanup_(freep) char *text = describe(o);

	for (unsigned i = RIG_STORY; k && i > 0; i--)
		if (k->story[(k->n_story - i) % RIG_STORY])
			print_error("before:  %s\n", k->story[(k->n_story - i) % RIG_STORY]);
	print_error("report:  %s\n", text);
	if (k)
		print_error("by causes: %s%s%s%s\n", k->known ? "known " : "", k->active ? "active " : "",
			    k->persistent ? "persistent " : "", k->paused ? "paused" : "");
	fail_msg("not so: %s", rule);
}

#define demand(r, o, condition)                                                                              \
	do {                                                                                                 \
		if (!(condition))                                                                            \
			breach(r, o, #condition);                                                            \
	} while (0)

static void demand_utf8(struct rig *r, const struct observation *o, const char *s)
{
	if (s)
		demand(r, o, utf8_is_valid(s));
}

static void judge_seen(struct rig *r, const struct observation *o)
{
	const struct seen *s = o->seen;

	demand(r, o, s->name && s->name[0]);
	demand_utf8(r, o, s->name);
	demand_utf8(r, o, s->title);
	demand_utf8(r, o, s->description);
	demand_utf8(r, o, s->xml);
	demand_utf8(r, o, s->xml_inactive);
	demand(r, o, (s->unknown & SEEN_XML) || s->xml);
	demand(r, o, !s->xml_inactive || strcmp(s->xml, s->xml_inactive) != 0);
	if (o->kind != KIND_DOMAIN)
		return;
	demand(r, o, s->state_reason);
	demand(r, o, s->active ? s->id >= 0 : s->id == -1);
	demand(r, o, s->active ? s->state != DOMAIN_SHUTOFF : s->state == DOMAIN_SHUTOFF || s->state == DOMAIN_CRASHED);
	demand(r, o, (s->unknown & SEEN_MEMORY) || (s->max_memory > 0 && s->memory <= s->max_memory && s->vcpus > 0));
}

/* What the causes make of it, by the simplest reading. */
static void apply_cause(struct rig_object *k, const struct observation *o)
{
	switch (o->cause) {
	case CAUSE_DEFINED:
		k->persistent = true;
		break;
	case CAUSE_UNDEFINED:
		/* the first half of renaming */
		k->persistent = o->reason && strcmp(o->reason, "renamed") == 0;
		break;
	case CAUSE_STARTED:
		k->active = true;
		k->moved = false;
		k->arriving = o->reason && strcmp(o->reason, "booted") != 0;
		break;
	case CAUSE_STOPPED:
		k->active = k->paused = k->arriving = false;
		k->moved = o->reason && strcmp(o->reason, "migrated") == 0;
		break;
	case CAUSE_SUSPENDED:
		k->paused = true;
		k->arriving = false;
		break;
	case CAUSE_RESUMED:
		k->paused = k->arriving = false;
		break;
	default:
		break;
	}
}

/*
 * The heart of it: a settled look must be what the causes posted before explain, because what isn't would be told as
 * something that nobody reported.
 */
static void judge_settled(struct rig *r, struct rig_object *k, const struct observation *o)
{
	const struct seen *s = o->seen;

	r->settled++;
	if (o->look == LOOK_GONE) {
		if (k->known && !r->polled) {
			demand(r, o, !k->persistent || k->moved);
			demand(r, o, !k->active);
		}
		k->known = false;
		k->active = k->persistent = k->paused = false;
		return;
	}
	/* a domain on its way up has not been reported yet, and need not ever be */
	if (s->starting)
		return;
	if (k->known && !r->polled) {
		demand(r, o, k->active == s->active);
		demand(r, o, k->persistent == s->persistent);
		if (o->kind == KIND_DOMAIN && !k->arriving)
			demand(r, o, k->paused == (s->state == DOMAIN_PAUSED));
	}
	k->known = true;
	k->active = s->active;
	k->persistent = s->persistent;
	k->paused = o->kind == KIND_DOMAIN && s->state == DOMAIN_PAUSED;
}

/* These come when they like: by themselves, for a job, or when the guest pleases; and QEMU may say that it was told to end. */
static bool comes_anytime(const struct observation *o)
{
	static const char *const events[] = {"BlockJob", "JobCompleted", "MigrationIteration", "BalloonChanged", "RTCChanged",
					     "AgentChanged", "MonitorEvent", "TrayChanged"};

	if (o->cause == CAUSE_SHUTDOWN && o->reason && strcmp(o->reason, "host") == 0)
		return true;
	for (size_t i = 0; o->cause == CAUSE_OTHER && i < ELEMENTS(events); i++)
		if (strcmp(o->event, events[i]) == 0)
			return true;
	return false;
}

static void remember(struct rig_object *k, const struct observation *o)
{
	char *longer = NULL;

	if (comes_anytime(o))
		return;
	assert_true(asprintf(&longer, "%s%s%s%s%s%s", k->told ? k->told : "", k->told ? " " : "",
			     o->cause == CAUSE_OTHER ? o->event : cause_to_string(o->cause), o->reason ? "(" : "",
			     o->reason ? o->reason : "", o->reason ? ")" : "") > 0);
	free(k->told);
	k->told = longer;
}

char *rig_told(struct rig *r, enum kind kind, sd_id128_t uuid)
{
	struct rig_object *k = rig_find(r, kind, uuid);
	char *told = k ? TAKE(k->told) : NULL;

	return told ? told : strdup("");
}

static void judge_observation(struct rig *r, const struct observation *o)
{
	struct rig_object *k = rig_find(r, o->kind, o->uuid);
	bool listed = o->listing != 0 && o->listing == r->listing;

	r->observations++;
	demand(r, o, r->hellos == 1 && r->goodbyes == 0);
	demand(r, o, o->kind == KIND_DOMAIN || o->kind == KIND_POOL || o->kind == KIND_NETWORK);
	demand(r, o, !sd_id128_is_null(o->uuid));
	demand(r, o, o->cause != CAUSE_NONE || o->look != LOOK_NONE);
	demand(r, o, (o->look == LOOK_SEEN) == (o->seen != NULL));
	demand(r, o, !o->settled || o->look == LOOK_SEEN || o->look == LOOK_GONE);
	demand(r, o, o->listing == 0 || o->cause == CAUSE_NONE);
	demand(r, o, (o->cause == CAUSE_OTHER) == (o->event != NULL));
	if (o->cause != CAUSE_NONE && o->cause != CAUSE_OTHER)
		demand(r, o, r->driver->causes[o->kind] & (1u << o->cause));
	demand_utf8(r, o, o->name);
	demand_utf8(r, o, o->error);
	if (o->seen)
		judge_seen(r, o);
	if (!k) {
		k = calloc(1, sizeof(*k));
		assert_non_null(k);
		k->key.uuid = o->uuid;
		k->key.kind = o->kind;
		HASH_ADD(hh, r->objects, key, sizeof(k->key), k);
	}
	tell(k, o);
	if (o->cause != CAUSE_NONE) {
		/* one that was never looked at begins with its first report */
		k->known = true;
		k->causes++;
		remember(k, o);
		apply_cause(k, o);
	}
	if (o->settled)
		judge_settled(r, k, o);
	if (o->look == LOOK_SEEN || o->look == LOOK_GONE) {
		k->look = o->look;
		seen_free(k->seen);
		k->seen = o->seen ? seen_copy(o->seen) : NULL;
	}
	if (listed)
		r->seen_in_listing++;
	if (o->listing != 0 && o->listing == r->look_serial) {
		r->looked++;
		r->look = o->look;
		r->look_settled = o->settled;
	}
}

static void keep_result(struct rig *r, struct result *o)
{
	struct rig_result *k;

	HASH_FIND(hh, r->results, &o->token, sizeof(o->token), k);
	if (!k) {
		k = calloc(1, sizeof(*k));
		assert_non_null(k);
		k->token = o->token;
		HASH_ADD(hh, r->results, token, sizeof(k->token), k);
	}
	k->times++;
	if (k->times > 1)
		fail_msg("operation %llu has two results", (unsigned long long)o->token);
	assert_true(o->token > 0 && o->token <= r->last_token);
	assert_true((o->failure.error == VIREO_OK) == (o->failure.message == NULL));
	assert_true(!o->failure.message || utf8_is_valid(o->failure.message));
	k->failure.error = o->failure.error;
	k->failure.message = TAKE(o->failure.message);
	k->uuid = o->uuid;
	k->kind = o->kind;
	k->text = TAKE(o->text);
	k->n_volumes = o->n_volumes;
}

/* Only of what runs: asked for and not answered yet; begun by others and not ended. */
static void judge_progress(struct rig *r, const struct progress *p)
{
	struct rig_foreign *f = NULL;
	struct rig_result *k = NULL;

	assert_true(p->percent <= 100);
	assert_true(p->total == 0 || p->done <= p->total);
	if (p->token & FOREIGN_TOKEN) {
		HASH_FIND(hh, r->foreign, &p->token, sizeof(p->token), f);
		assert_true(f && !f->ended);
		return;
	}
	assert_true(p->token > 0 && p->token <= r->last_token);
	HASH_FIND(hh, r->results, &p->token, sizeof(p->token), k);
	if (k)
		fail_msg("progress of operation %llu after its result", (unsigned long long)p->token);
}

static void judge_foreign(struct rig *r, const struct foreign *o)
{
	struct rig_foreign *f = NULL;

	assert_true(o->token & FOREIGN_TOKEN);
	HASH_FIND(hh, r->foreign, &o->token, sizeof(o->token), f);
	if (o->ended) {
		assert_true(f && !f->ended);
		assert_true((o->failure.error == VIREO_OK) == (o->failure.message == NULL));
		f->ended = true;
		return;
	}
	assert_null(f);
	assert_true(o->operation > OP_NONE && o->operation < OP_MAX && operation_table[o->operation].kind == o->kind);
	assert_false(sd_id128_is_null(o->uuid));
	f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->token = o->token;
	HASH_ADD(hh, r->foreign, token, sizeof(f->token), f);
}

static void judge_names(char **names)
{
	for (char **n = names; n && *n; n++) {
		assert_non_null(strchr(*n, '.'));
		for (char **m = names; m < n; m++)
			assert_string_not_equal(*m, *n);
	}
}

static void on_item(struct queue_item *item, void *userdata)
{
	_cleanup_(report_freep) struct report *p = (struct report *)item;
	struct rig *r = userdata;

	if (!driver_host_owner(p->host))
		return;
	switch (p->type) {
	case REPORT_HELLO:
		assert_int_equal(r->goodbyes, 0);
		if (r->hellos > 0) {
			/* Again: it knows its version by now, and that is all it says. */
			assert_non_null(p->hello.version);
			assert_null(p->hello.events);
			assert_null(p->hello.operations);
			break;
		}
		r->hellos++;
		judge_names(p->hello.events);
		judge_names(p->hello.operations);
		r->events = TAKE(p->hello.events);
		r->operations = TAKE(p->hello.operations);
		r->polled = p->hello.polled;
		break;
	case REPORT_GOODBYE:
		assert_int_equal(r->goodbyes, 0);
		r->goodbyes++;
		r->goodbye = TAKE(p->goodbye.error);
		break;
	case REPORT_OBSERVATION:
		judge_observation(r, &p->observation);
		break;
	case REPORT_LISTED:
		if (p->listed.serial == r->listing) {
			assert_int_equal(r->listed, 0);
			r->listed++;
			memcpy(r->complete, p->listed.complete, sizeof(r->complete));
		}
		break;
	case REPORT_PROGRESS:
		judge_progress(r, &p->progress);
		break;
	case REPORT_RESULT:
		keep_result(r, &p->result);
		break;
	case REPORT_FOREIGN:
		judge_foreign(r, &p->foreign);
		break;
	}
}

static void on_drained(void *userdata)
{
}

static void on_drop(struct queue_item *item)
{
	report_free((struct report *)item);
}

/* ---- the bench -------------------------------------------------------------------------------------------- */

/* The one that is open. */
static struct rig *current;

int rig_teardown(void **state)
{
	if (!current)
		return 0;
	current->driver->close(current->connection);
	driver_host_close(current->host);
	queue_close(current->queue);
	current = NULL; /* and the memory is left: the test has failed */
	return 0;
}

void rig_open(struct rig *r, const char *uri)
{
	static const struct queue_ops ops = {on_item, on_drained, on_drop};
	struct failure f = {0};

	*r = (struct rig){0};
	assert_int_equal(registry_choose(uri, &r->driver, &f), 0);
	assert_int_equal(sd_event_new(&r->event), 0);
	assert_int_equal(clock_new(r->event, &r->clock), 0);
	assert_int_equal(queue_new(r->event, &ops, r, 1000, 64, &r->queue), 0);
	assert_int_equal(driver_host_new(r->queue, r->event, r->clock, NULL, r, &r->host), 0);
	assert_int_equal(r->driver->open(uri, r->host, &r->connection, &f), 0);
	assert_non_null(r->connection);
	current = r;
}

void rig_close(struct rig *r)
{
	uint64_t began = clock_monotonic(r->clock);

	if (!r->connection)
		return;
	r->driver->close(r->connection);
	current = NULL;
	r->connection = NULL;
	driver_host_close(r->host);
	/* generous: this machine may be busy; but a call to a hypervisor that hangs would take for ever */
	assert_true(clock_monotonic(r->clock) - began < 2 * USEC_PER_SEC);
}

static void free_names(char **names)
{
	for (char **n = names; n && *n; n++)
		free(*n);
	free(names);
}

void rig_free(struct rig *r)
{
	struct rig_object *o, *next_o;
	struct rig_result *k, *next_k;
	struct rig_foreign *f, *next_f;

	rig_close(r);
	queue_drain(r->queue);
	queue_close(r->queue);
	driver_host_unref(r->host);
	queue_unref(r->queue);
	assert_int_equal(workers_wait_all(PATIENCE), 0);
	HASH_ITER(hh, r->objects, o, next_o) {
		HASH_DEL(r->objects, o);
		seen_free(o->seen);
		free(o->told);
		for (size_t i = 0; i < RIG_STORY; i++)
			free(o->story[i]);
		free(o);
	}
	HASH_ITER(hh, r->results, k, next_k) {
		HASH_DEL(r->results, k);
		failure_clear(&k->failure);
		free(k->text);
		free(k);
	}
	HASH_ITER(hh, r->foreign, f, next_f) {
		HASH_DEL(r->foreign, f);
		free(f);
	}
	free_names(r->events);
	free_names(r->operations);
	free(r->goodbye);
	clock_free(r->clock);
	sd_event_unref(r->event);
	*r = (struct rig){0};
}

void rig_until(struct rig *r, rig_condition condition, const void *what, const char *name)
{
	uint64_t end = clock_monotonic(r->clock) + PATIENCE;

	while (!condition(r, what)) {
		if (clock_monotonic(r->clock) > end)
			fail_msg("waited in vain for: %s", name);
		assert_true(sd_event_run(r->event, USEC_PER_SEC) >= 0);
	}
}

static bool has_hello(struct rig *r, const void *what)
{
	if (r->goodbyes > 0)
		fail_msg("it cannot be opened: %s", r->goodbye);
	return r->hellos > 0;
}

void rig_until_hello(struct rig *r)
{
	rig_until(r, has_hello, NULL, "HELLO");
}

static bool is_listed(struct rig *r, const void *what)
{
	return r->listed > 0;
}

void rig_list(struct rig *r)
{
	r->listing = ++r->last_serial;
	r->listed = r->seen_in_listing = 0;
	r->driver->list(r->connection, r->listing);
	rig_until(r, is_listed, NULL, "LISTED");
}

static bool is_looked(struct rig *r, const void *what)
{
	return r->looked > 0;
}

enum look rig_look(struct rig *r, enum kind kind, sd_id128_t uuid)
{
	r->look_serial = ++r->last_serial;
	r->looked = 0;
	r->driver->look(r->connection, kind, uuid, r->look_serial);
	rig_until(r, is_looked, NULL, "an answer to look()");
	return r->look;
}

uint64_t rig_ask_all(struct rig *r, enum operation operation, enum kind kind, sd_id128_t uuid, const char *text,
		     const char *text2, uint64_t number, struct vdict *options)
{
	struct request *q = calloc(1, sizeof(*q));

	assert_non_null(q);
	q->token = ++r->last_token;
	q->operation = operation;
	q->kind = kind;
	q->uuid = uuid;
	q->text = text ? strdup(text) : NULL;
	q->text2 = text2 ? strdup(text2) : NULL;
	q->number = number;
	q->fd = -1;
	q->options = options;
	r->driver->operate(r->connection, q);
	return r->last_token;
}

uint64_t rig_ask(struct rig *r, enum operation operation, enum kind kind, sd_id128_t uuid, const char *text, bool flag,
		 struct vdict *options)
{
	struct request *q = calloc(1, sizeof(*q));

	assert_non_null(q);
	q->token = ++r->last_token;
	q->operation = operation;
	q->kind = kind;
	q->uuid = uuid;
	q->text = text ? strdup(text) : NULL;
	q->flag = flag;
	q->fd = -1;
	q->options = options;
	r->driver->operate(r->connection, q);
	return r->last_token;
}

static bool has_result(struct rig *r, const void *what)
{
	struct rig_result *k;

	HASH_FIND(hh, r->results, what, sizeof(uint64_t), k);
	return k != NULL;
}

struct rig_result *rig_wait(struct rig *r, uint64_t token)
{
	struct rig_result *k;

	rig_until(r, has_result, &token, "RESULT");
	HASH_FIND(hh, r->results, &token, sizeof(token), k);
	return k;
}

struct rig_result *rig_do(struct rig *r, enum operation operation, enum kind kind, sd_id128_t uuid, const char *text,
			  enum vireo_error expect)
{
	struct rig_result *k = rig_wait(r, rig_ask(r, operation, kind, uuid, text, false, NULL));

	if (k->failure.error != expect)
		fail_msg("%s: error %d (%s) instead of %d", operation_table[operation].name, k->failure.error,
			 k->failure.message ? k->failure.message : "none", expect);
	return k;
}

struct rig_object *rig_find(struct rig *r, enum kind kind, sd_id128_t uuid)
{
	struct rig_object key = {.key = {uuid, kind}}, *o;

	HASH_FIND(hh, r->objects, &key.key, sizeof(key.key), o);
	return o;
}

bool rig_supports(const struct rig *r, const char *operation)
{
	for (char **o = r->operations; o && *o; o++)
		if (strcmp(*o, operation) == 0)
			return true;
	return false;
}
