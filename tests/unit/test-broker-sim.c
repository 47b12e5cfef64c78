/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The whole way, from a simulated hypervisor at its worst to what a listener is told: the story of each object is legal,
 * versions rise and are linked, and when the storm is over and a Sync has come back, what is known is the truth.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "broker/broker.h"
#include "drivers/sim/json.h"
#include "drivers/sim/sim-driver.h"
#include "drivers/sim/world.h"
#include "grammar.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/utf8.h"

#define PATIENCE (120 * USEC_PER_SEC)

struct follower {
	char *path;
	uint64_t version;
	struct grammar grammar;
	char story[512]; /* its end */
	unsigned finished; /* a job */
	UT_hash_handle hh;
};

struct house {
	sd_event *event;
	struct clock *clock;
	struct broker *broker;
	struct broker_listener listener;
	struct object *connection;
	struct sim_world *sim;
	struct follower *followers;
	uint64_t last, events, inferred;
	unsigned connected, disconnected;
	unsigned jobs, foreign, states[3], waits, called;
};

/* ---- listening ----------------------------------------------------------------------------------------------------- */

static struct follower *follow(struct house *h, const struct event *e)
{
	struct follower *f = NULL;

	HASH_FIND_STR(h->followers, e->path, f);
	if (!f) {
		f = calloc(1, sizeof(*f));
		f->path = strdup(e->path);
		HASH_ADD_KEYPTR(hh, h->followers, f->path, strlen(f->path), f);
	}
	return f;
}

static void remember(struct follower *f, const struct event *e)
{
	char word[96];
	size_t n = strlen(f->story);

	snprintf(word, sizeof(word), " %s(%s)%s", e->name, e->reason, e->inferred ? "*" : "");
	if (n + strlen(word) >= sizeof(f->story)) {
		/* the end is what matters */
		memmove(f->story, f->story + 256, n - 256 + 1);
	}
	strcat(f->story, word);
}

static void judge(struct follower *f, const struct event *e)
{
	const struct value *v = e->props->v;
	struct grammar_view view = {};
	const char *illegal;

	switch (e->kind) {
	case KIND_DOMAIN:
		view = (struct grammar_view){.active = v[DOMAIN_ACTIVE].b, .persistent = v[DOMAIN_PERSISTENT].b,
					     .id = v[DOMAIN_ID].i, .state = v[DOMAIN_STATE].s, .word = v[DOMAIN_REASON].s};
		break;
	case KIND_POOL:
		view = (struct grammar_view){.active = v[POOL_ACTIVE].b, .persistent = v[POOL_PERSISTENT].b};
		break;
	default:
		view = (struct grammar_view){.active = v[NETWORK_ACTIVE].b, .persistent = v[NETWORK_PERSISTENT].b};
	}
	illegal = grammar_event(&f->grammar, e->kind, e->name, e->reason, strcmp(e->name, "Removed") == 0 ? NULL : &view);
	if (illegal)
		fail_msg("%s: %s\n%s", f->path, illegal, f->story);
}

/* A job has one beginning and one end. */
static void judge_job(struct house *h, struct follower *f, const struct event *e)
{
	static const char *const states[] = {"completed", "failed", "cancelled"};
	const char *state = e->props->v[JOB_STATE].s;

	remember(f, e);
	if (strcmp(e->name, "Removed") == 0)
		return;
	if (f->finished > 0)
		fail_msg("%s goes on after its end:%s", f->path, f->story);
	if (strcmp(e->name, "Added") == 0) {
		h->jobs++;
		h->foreign += e->props->v[JOB_STARTED_BY].u == UINT32_MAX;
	}
	if (strcmp(e->name, "Finished") != 0) {
		assert_string_equal(state, "running");
		return;
	}
	f->finished++;
	assert_string_equal(e->reason, state);
	for (unsigned i = 0; i < 3; i++)
		h->states[i] += strcmp(state, states[i]) == 0;
}

static void on_events(struct event *const *events, size_t n, void *userdata)
{
	struct house *h = userdata;

	for (size_t i = 0; i < n; i++) {
		const struct event *e = events[i];
		struct follower *f = follow(h, e);

		assert_true(e->version > h->last);
		h->last = e->version;
		if (e->kind == KIND_CONNECTION) {
			h->connected += strcmp(e->name, "Connected") == 0;
			h->disconnected += strcmp(e->name, "Disconnected") == 0;
		}
		/* who knows it at `previous` has missed nothing */
		if (strcmp(e->name, "Added") == 0)
			assert_true(e->previous == 0);
		else if (e->previous != f->version)
			fail_msg("%s: previous is %" PRIu64 ", but it was told at %" PRIu64, e->path, e->previous, f->version);
		f->version = e->version;
		if (e->kind == KIND_JOB)
			judge_job(h, f, e);
		if (e->kind != KIND_DOMAIN && e->kind != KIND_POOL && e->kind != KIND_NETWORK)
			continue;
		h->events++;
		h->inferred += e->inferred;
		remember(f, e);
		judge(f, e);
		for (size_t p = 0; p < 2; p++)
			assert_true(utf8_is_valid(e->props->v[p].s));
	}
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

static void until(struct house *h, bool (*fn)(struct house *, void *), void *data, const char *what)
{
	uint64_t end = sim_now() + PATIENCE;

	while (!fn(h, data)) {
		if (sim_now() > end)
			fail_msg("never: %s", what);
		assert_true(sd_event_run(h->event, 10 * USEC_PER_MSEC) >= 0);
	}
}

static bool is_connected(struct house *h, void *data)
{
	return strcmp(h->connection->props->v[CONNECTION_STATE].s, "connected") == 0;
}

static void open_house(struct house *h, const char *uri)
{
	struct broker_config config = {.poll_interval = 20 * USEC_PER_MSEC};
	struct failure f = {};

	memset(h, 0, sizeof(*h));
	registry_add_builtin();
	assert_int_equal(sd_event_new(&h->event), 0);
	assert_int_equal(clock_new(h->event, &h->clock), 0);
	if (broker_new(&config, h->event, h->clock, &h->broker, &f) != 0)
		fail_msg("%s", f.message);
	h->listener = (struct broker_listener){.events = on_events, .userdata = h};
	broker_add_listener(h->broker, &h->listener);
	if (broker_open(h->broker, "sim", uri, &h->connection, &f) != 0)
		fail_msg("%s", f.message);
	/* a first listing that is never whole is no reason to wait */
	until(h, is_connected, NULL, "connected");
	h->sim = sim_world_find(uri);
	assert_non_null(h->sim);
}

static void close_house(struct house *h)
{
	struct follower *f, *next;

	broker_free(h->broker);
	sim_world_release(h->sim);
	clock_free(h->clock);
	sd_event_unref(h->event);
	HASH_ITER(hh, h->followers, f, next)
	{
		HASH_DELETE(hh, h->followers, f);
		free(f->path);
		free(f);
	}
	assert_int_equal(sim_shutdown(PATIENCE), 0);
}

struct ended {
	atomic_bool done;
	char message[256];
};

static void on_done(void *userdata, const struct failure *f, struct json_object *answer)
{
	struct ended *e = userdata;

	snprintf(e->message, sizeof(e->message), "%s", f->message ? f->message : "");
	json_object_put(answer);
	atomic_store(&e->done, true);
}

static bool has_ended(struct house *h, void *data)
{
	return atomic_load(&((struct ended *)data)->done);
}

static void run_steps(struct house *h, const char *text)
{
	struct json_object *steps = NULL;
	struct failure f = {};
	struct ended e = {};

	if (sim_json_parse(text, strlen(text), "test", &steps, &f) != 0 || sim_steps_check(steps, "test", &f) != 0)
		fail_msg("%s", f.message);
	pthread_mutex_lock(&h->sim->lock);
	sim_script_add(h->sim, steps, on_done, &e);
	json_object_put(steps);
	pthread_mutex_unlock(&h->sim->lock);
	until(h, has_ended, &e, text);
	if (e.message[0])
		fail_msg("%s: %s", text, e.message);
}

static void on_synced(const struct failure *f, uint64_t version, void *userdata)
{
	if (f->error != VIREO_OK)
		fail_msg("sync: %s", f->message);
	*(uint64_t *)userdata = version;
}

static bool is_synced(struct house *h, void *data)
{
	return *(uint64_t *)data != 0;
}

static void sync_house(struct house *h)
{
	uint64_t version = 0;

	until(h, is_connected, NULL, "connected");
	assert_non_null(broker_sync(h->broker, &h->connection, 1, PATIENCE, on_synced, &version));
	until(h, is_synced, &version, "synced");
}

/* ---- truth --------------------------------------------------------------------------------------------------------- */

static void compare(struct house *h, const struct sim_object *o)
{
	_cleanup_(freep) char *path = object_path(o->kind, h->connection->path, o->uuid), *name = utf8_dup(o->name);
	const struct sim_config *c = sim_object_config(o);
	struct object *known = broker_find(h->broker, path);
	struct follower *f = NULL;
	const struct value *v;

	HASH_FIND_STR(h->followers, path, f);
	if (!known)
		fail_msg("%s '%s' is not known; told:%s", path, name, f ? f->story : "");
	v = known->props->v;
	assert_int_equal(known->version, f->version);
	assert_string_equal(v[0].s, name);
	switch (o->kind) {
	case KIND_DOMAIN:
		if (v[DOMAIN_ACTIVE].b != o->active || v[DOMAIN_PERSISTENT].b != o->persistent || v[DOMAIN_ID].i != o->id ||
		    strcmp(v[DOMAIN_STATE].s, domain_state_to_string(o->state)) != 0 ||
		    strcmp(v[DOMAIN_REASON].s, o->reason) != 0)
			fail_msg("%s is known as %d %d %d %s (%s), and is %d %d %d %s (%s); told:%s", path,
				 v[DOMAIN_ACTIVE].b, v[DOMAIN_PERSISTENT].b, v[DOMAIN_ID].i, v[DOMAIN_STATE].s,
				 v[DOMAIN_REASON].s, o->active, o->persistent, o->id, domain_state_to_string(o->state),
				 o->reason, f->story);
		assert_int_equal(v[DOMAIN_AUTOSTART].b, o->autostart);
		assert_int_equal(v[DOMAIN_HAS_MANAGED_SAVE].b, o->managed_save);
		assert_int_equal(v[DOMAIN_MEMORY].t, c->memory);
		break;
	case KIND_POOL:
		assert_int_equal(v[POOL_ACTIVE].b, o->active);
		assert_int_equal(v[POOL_PERSISTENT].b, o->persistent);
		assert_int_equal(v[POOL_AUTOSTART].b, o->autostart);
		assert_int_equal(v[POOL_ALLOCATION].t, o->allocation);
		break;
	default:
		assert_int_equal(v[NETWORK_ACTIVE].b, o->active);
		assert_int_equal(v[NETWORK_PERSISTENT].b, o->persistent);
		assert_int_equal(v[NETWORK_AUTOSTART].b, o->autostart);
	}
}

/* The world stands still. */
static void assert_truth(struct house *h)
{
	pthread_mutex_lock(&h->sim->lock);
	for (int k = KIND_DOMAIN; k <= KIND_NETWORK; k++) {
		size_t n = 0;

		for (const struct sim_object *o = h->sim->truth.first[k]; o; o = o->next) {
			/* what still starts up does not exist yet */
			assert_false(o->starting);
			compare(h, o);
			n++;
		}
		/* and nothing else */
		for (struct object *known = broker_first(h->broker, k); known; known = known->next) {
			struct follower *f = NULL;

			if (sim_object_find(&h->sim->truth, k, known->uuid))
				continue;
			HASH_FIND_STR(h->followers, known->path, f);
			fail_msg("%s is known, and is not there; told:%s", known->path, f ? f->story : "");
		}
		assert_int_equal(broker_count(h->broker, k), n);
	}
	pthread_mutex_unlock(&h->sim->lock);
	for (struct follower *f = h->followers; f; f = f->hh.next)
		if (f->grammar.alive && grammar_rest(&f->grammar))
			fail_msg("%s: %s\n%s", f->path, grammar_rest(&f->grammar), f->story);
}

/* ---- tests --------------------------------------------------------------------------------------------------------- */

/* Ends the storm: no faults, every guest done with what it was about to do, all delivered. */
#define CALM "{\"do\": \"faults\", \"reset\": true}, {\"do\": \"wait-guests\"}, {\"do\": \"wait-connected\"}, " \
	     "{\"do\": \"wait-idle\"}"

static const char *const storms[] = {
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&reorder=8",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&repeat=0.3",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&drop=0.2",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&drop=1",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&ahead=0.3&event-delay=1",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&behind=0.3",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&look-none=0.3&look-fail=0.2",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&list-fail=0.4&list-partial=0.2&look-delay=2&list-delay=3",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&list-omit=0.3&drop=0.3",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&events=no",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&quirks=no&run-ids=no&reorder=4",
	"sim:///60?seed=%u&pools=3&networks=2&guest-delay=1&reorder=20&repeat=0.2&drop=0.1&ahead=0.1&behind=0.1&look-none=0.1&"
	"look-fail=0.1&list-partial=0.1&list-omit=0.1&event-delay=1&look-delay=1",
};

static unsigned base;

/* @steps: with one %u for a seed. */
static void run_storm(const char *pattern, unsigned seed, const char *steps)
{
	char uri[512], seeded[1024];
	struct house h;
	uint64_t began = sim_now();

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-truncation" /* of the null that the sanitizer looks out for */
	snprintf(uri, sizeof(uri), pattern, base + seed);
	snprintf(seeded, sizeof(seeded), steps, base + seed);
#pragma GCC diagnostic pop
	open_house(&h, uri);
	print_message("%s\n", uri);
	run_steps(&h, seeded);
	sync_house(&h);
	assert_truth(&h);
	print_message("    %" PRIu64 " events, %" PRIu64 " inferred, %.1f s\n", h.events, h.inferred,
		      (double)(sim_now() - began) / 1e6);
	close_house(&h);
}

static void test_storms(void **state)
{
	for (size_t i = 0; i < ELEMENTS(storms); i++)
		run_storm(storms[i], (unsigned)i + 1,
			  "[{\"do\": \"storm\", \"count\": 4000, \"seed\": %u, \"churn\": 0.15}, " CALM "]");
}

/* Slowly, so that questions are asked and answered in between. */
static void test_slow_storms(void **state)
{
	for (size_t i = 0; i < ELEMENTS(storms); i++)
		run_storm(storms[i], 100 + (unsigned)i,
			  "[{\"do\": \"storm\", \"count\": 600, \"rate\": 1500, \"seed\": %u, \"churn\": 0.15}, " CALM "]");
}

/* The connection is lost in the middle, again and again. */
static void test_disconnects(void **state)
{
	struct house h;

	open_house(&h, "sim:///60?seed=5&pools=3&networks=2&guest-delay=1");
	run_steps(&h, "[{\"do\": \"background\", \"steps\": [{\"do\": \"storm\", \"count\": 3000, \"rate\": 1000, \"churn\": 0.1}]}, "
		      "{\"do\": \"loop\", \"count\": 5, \"steps\": [{\"do\": \"wait\", \"ms\": 200}, {\"do\": \"disconnect\"}, "
		      "{\"do\": \"wait-connected\"}]}]");
	/* whatever is left of the storm */
	run_steps(&h, "[{\"do\": \"stop-scripts\"}, " CALM "]");
	sync_house(&h);
	assert_truth(&h);
	assert_int_equal(h.disconnected, 5);
	assert_int_equal(h.connected, 6);
	close_house(&h);
}

/* Nothing is told when nothing happens: also not by polling, or by looking again and again. */
static void test_silence(void **state)
{
	static const char *const uris[] = {"sim:///50?pools=2&networks=1&seed=1", "sim:///50?pools=2&networks=1&seed=2&events=no"};

	for (size_t i = 0; i < ELEMENTS(uris); i++) {
		struct house h;
		uint64_t last;

		open_house(&h, uris[i]);
		sync_house(&h);
		last = h.last;
		run_steps(&h, "[{\"do\": \"wait\", \"ms\": 200}]");
		sync_house(&h);
		sync_house(&h);
		assert_int_equal(h.last, last);
		assert_truth(&h);
		close_house(&h);
	}
}

/* What nobody reports is found by a sync, and told as inferred. */
static void test_silent_changes(void **state)
{
	struct house h;
	uint64_t before;

	open_house(&h, "sim:///4?seed=1&running=0&pools=1");
	sync_house(&h);
	before = h.inferred;
	run_steps(&h, "[{\"do\": \"autostart\", \"domain\": \"vm-0\", \"on\": true}, "
		      "{\"do\": \"set-memory\", \"domain\": \"vm-1\", \"bytes\": 1048576}, "
		      "{\"do\": \"allocate\", \"pool\": \"pool-0\", \"bytes\": 77}, "
		      "{\"do\": \"start\", \"domain\": \"vm-2\", \"silent\": true}, "
		      "{\"do\": \"undefine\", \"domain\": \"vm-3\", \"silent\": true}, "
		      "{\"do\": \"add\", \"domain\": {\"name-hex\": \"41ff\"}, \"silent\": true}]");
	sync_house(&h);
	assert_truth(&h);
	/* Updated thrice; Started; Undefined, Removed; Added, Defined */
	assert_int_equal(h.inferred - before, 8);
	close_house(&h);
}

/* A libvirtd that was killed in the middle of a start leaves it there for good. */
static void test_starting_for_good(void **state)
{
	struct object *o;
	struct house h;
	uint64_t before;

	open_house(&h, "sim:///empty");
	run_steps(&h, "[{\"do\": \"add\", \"domain\": {\"name\": \"d\", \"state\": \"paused\", \"starting\": true}, \"silent\": true}]");
	sync_house(&h);
	o = broker_first(h.broker, KIND_DOMAIN);
	assert_non_null(o);
	assert_false(o->props->v[DOMAIN_ACTIVE].b || o->props->v[DOMAIN_AUTOSTART].b);
	before = h.inferred;
	run_steps(&h, "[{\"do\": \"autostart\", \"domain\": \"d\", \"on\": true}]");
	sync_house(&h);
	sync_house(&h);
	assert_true(o->props->v[DOMAIN_AUTOSTART].b);
	assert_false(o->props->v[DOMAIN_ACTIVE].b);
	assert_int_equal(h.inferred - before, 1);
	close_house(&h);
}

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

static const char jobs_rules[] =
	"[{\"do\": \"operations\", \"operations\": {"
	"\"Domain.Save\": {\"duration\": 6, \"progress\": 1}, \"Domain.ManagedSave\": {\"duration\": 3, \"progress\": 1},"
	"\"Domain.Dump\": {\"duration\": 4, \"progress\": 1, \"fail\": 0.3, \"fail-at\": 0.5},"
	"\"Domain.BlockCopy\": {\"duration\": 5, \"progress\": 1}, \"Domain.BlockPull\": {\"duration\": 9, \"progress\": 2},"
	"\"Domain.Migrate\": {\"duration\": 7, \"progress\": 1}, \"Domain.Suspend\": {\"duration\": 1}}}]";

static void on_job_done(const struct failure *f, uint64_t version, const struct result *r, void *userdata)
{
	((struct house *)userdata)->called++;
}

static unsigned draw(unsigned n)
{
	return (unsigned)rand() % n;
}

static void begin_some_job(struct house *h, const char *far)
{
	static const enum operation operations[] = {
		OP_DOMAIN_SAVE, OP_DOMAIN_DUMP, OP_DOMAIN_BLOCK_COPY, OP_DOMAIN_BLOCK_PULL, OP_DOMAIN_MANAGED_SAVE, OP_DOMAIN_START,
		OP_DOMAIN_DESTROY, OP_DOMAIN_SUSPEND, OP_DOMAIN_RESUME, OP_DOMAIN_MIGRATE, OP_DOMAIN_START, OP_DOMAIN_RESUME,
	};
	struct call call = {.operation = operations[draw(ELEMENTS(operations))], .fd = -1, .text = "vda", .uid = 1000,
			    .text2 = "<disk type='file'><source file='/copy'/></disk>"};
	size_t n = broker_count(h->broker, KIND_DOMAIN), at = n ? draw((unsigned)n) : 0;
	struct object *job = NULL, *o = broker_first(h->broker, KIND_DOMAIN);

	while (o && at-- > 0)
		o = o->next;
	if (!o)
		return;
	if (call.operation == OP_DOMAIN_SAVE || call.operation == OP_DOMAIN_DUMP)
		call.text = "/file";
	else if (call.operation == OP_DOMAIN_MIGRATE)
		call.text = far;
	call.object = o;
	h->waits += broker_submit(h->broker, &call, on_job_done, h, &job, NULL) == 0;
}

static void meddle(struct house *h)
{
	struct object *job = broker_first(h->broker, KIND_JOB);
	size_t n = broker_count(h->broker, KIND_JOB);

	if (n == 0)
		return;
	/* of the younger ones: the others are over */
	for (size_t at = n > 40 ? n - 1 - draw(40) : draw((unsigned)n); at > 0; at--)
		job = job->next;
	if (draw(2))
		(void)broker_cancel(h->broker, job, NULL);
	else
		(void)broker_complete(h->broker, job, NULL);
}

/* What somebody at the host does. */
static const char *const host_steps[] = {
	"[{\"do\": \"begin\", \"domain\": \"*\", \"operation\": \"Domain.Dump\", \"text\": \"/x\", \"duration\": 8, \"may-fail\": true}]",
	"[{\"do\": \"begin\", \"domain\": \"*\", \"operation\": \"Domain.Save\", \"text\": \"/x\", \"may-fail\": true}]",
	"[{\"do\": \"begin\", \"domain\": \"*\", \"operation\": \"Domain.BlockPull\", \"text\": \"vda\", \"may-fail\": true}]",
	"[{\"do\": \"end\", \"domain\": \"*\", \"may-fail\": true}]",
	"[{\"do\": \"end\", \"domain\": \"*\", \"how\": \"vanish\", \"may-fail\": true}]",
	"[{\"do\": \"end\", \"domain\": \"*\", \"how\": \"fail\", \"may-fail\": true}]",
	"[{\"do\": \"kill\", \"domain\": \"*\", \"may-fail\": true}]",
	"[{\"do\": \"start\", \"domain\": \"*\", \"may-fail\": true}]",
	"[{\"do\": \"resume\", \"domain\": \"*\", \"may-fail\": true}]",
};

static bool none_runs(struct house *h, void *data)
{
	for (struct object *o = broker_first(h->broker, KIND_JOB); o; o = o->next)
		if (strcmp(o->props->v[JOB_STATE].s, "running") == 0) {
			/* a copy that is ready waits for ever, and so does what somebody else began */
			(void)broker_cancel(h->broker, o, NULL);
			return false;
		}
	return true;
}

/*
 * Jobs of ours and of others, cancelled, completed, failing, killed and cut off at random: each ends once, is told once, who
 * waits is called once, and when all is over the truth is known.
 */
static void test_jobs(void **state)
{
	for (unsigned round = 0; round < 3; round++) {
		_cleanup_(freep) char *uri = NULL, *far = NULL;
		struct house h;

		assert_true(asprintf(&uri, "sim:///12?seed=%u&running=1&guest-delay=1%s", base + round,
				     round == 1 ? "&reorder=4&event-delay=1" : round == 2 ? "&look-delay=2&repeat=0.1" : "") > 0);
		assert_true(asprintf(&far, "sim:///empty?world=far-%u", round) > 0);
		srand(base + round);
		open_house(&h, uri);
		sync_house(&h);
		run_steps(&h, jobs_rules);
		for (unsigned i = 0; i < 1200; i++) {
			begin_some_job(&h, far);
			if (draw(3) == 0)
				meddle(&h);
			if (draw(6) == 0)
				run_steps(&h, host_steps[draw(ELEMENTS(host_steps))]);
			if (i % 400 == 200)
				run_steps(&h, "[{\"do\": \"disconnect\"}]");
			while (sd_event_run(h.event, draw(4) ? 0 : 500) > 0)
				;
		}
		sync_house(&h);
		until(&h, none_runs, NULL, "the end of all jobs");
		run_steps(&h, "[{\"do\": \"end\", \"domain\": \"*\", \"may-fail\": true}, {\"do\": \"wait-jobs\"}, " CALM "]");
		sync_house(&h);
		until(&h, none_runs, NULL, "the end of all jobs");
		assert_truth(&h);
		for (struct follower *f = h.followers; f; f = f->hh.next)
			if (strstr(f->path, "/job/") && f->finished != 1)
				fail_msg("%s has %u ends:%s", f->path, f->finished, f->story);
		assert_int_equal(h.waits, h.called);
		print_message("%s: %u jobs, %u of somebody else's; %u completed, %u failed, %u cancelled\n", uri, h.jobs, h.foreign,
			      h.states[0], h.states[1], h.states[2]);
		assert_true(h.jobs > 200 && h.foreign > 0 && h.states[0] > 0 && h.states[1] > 0 && h.states[2] > 0);
		close_house(&h);
	}
}

/* test-broker-sim [SEED]: without one, another each time; it is printed with each URI. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_silent_changes),
		cmocka_unit_test(test_starting_for_good),
		cmocka_unit_test(test_storms),
		cmocka_unit_test(test_slow_storms),
		cmocka_unit_test(test_disconnects),
		cmocka_unit_test(test_jobs),
	};

	base = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : (unsigned)(sim_now() % 1000000);
	print_message("seed %u\n", base);
	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
