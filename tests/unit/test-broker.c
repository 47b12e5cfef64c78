/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "broker/broker.h"
#include "fake-driver.h"
#include "util/log.h"

#define A "11111111-1111-1111-1111-111111111111"
#define B "22222222-2222-2222-2222-222222222222"
#define A_PATH "/org/vireo1/connection/fake_one/domain/_11111111_1111_1111_1111_111111111111"

/* ---- the story as a listener hears it ------------------------------------------------------------------------------ */

struct told {
	char *path;
	uint64_t version;
	UT_hash_handle hh;
};

struct world {
	sd_event *event;
	struct clock *clock;
	struct broker *broker;
	struct broker_listener listener;
	char story[8192]; /* "Domain.Added Domain.Started…", since story() was called last */
	uint64_t last;
	struct told *told;
	struct object *connection;
	bool ready;
};

static void on_events(struct event *const *events, size_t n, void *userdata)
{
	struct world *w = userdata;

	for (size_t i = 0; i < n; i++) {
		const struct event *e = events[i];
		struct told *t;
		size_t props_n;
		char word[200];

		/* P1, P4: versions rise; `previous` is what this client knew; the set is as at this version. */
		assert_true(e->version > w->last);
		w->last = e->version;
		HASH_FIND_STR(w->told, e->path, t);
		if (strcmp(e->name, "Added") == 0) {
			assert_null(t);
			assert_true(e->previous == 0);
			t = calloc(1, sizeof(*t));
			t->path = strdup(e->path);
			HASH_ADD_KEYPTR(hh, w->told, t->path, strlen(t->path), t);
		} else {
			assert_non_null(t);
			assert_true(e->previous == t->version);
		}
		t->version = e->version;
		(void)props_schema(e->kind, &props_n);
		assert_true(e->props->v[props_n - 1].t == e->version);
		if (strcmp(e->name, "Removed") == 0) {
			/* What is left behind is not told as stopped. */
			for (unsigned p = 0; e->kind == KIND_DOMAIN && p < props_n - 1; p++)
				assert_true(props_value_equal(e->props, e->before, p));
			HASH_DEL(w->told, t);
			free(t->path);
			free(t);
			assert_null(broker_find(w->broker, e->path));
		}
		snprintf(word, sizeof(word), "%s%s%s%s%s%s", w->story[0] ? " " : "", kind_to_string(e->kind), ".", e->name,
			 e->reason[0] ? "/" : "", e->reason);
		if (e->inferred)
			strcat(word, "*");
		assert_true(strlen(w->story) + strlen(word) < sizeof(w->story));
		strcat(w->story, word);
		/* In history before anybody sees it. */
		assert_true(history_version(broker_history(w->broker)) >= e->version);
	}
}

/* Run the loop until nothing waits any more. */
static void settle(struct world *w)
{
	while (sd_event_run(w->event, 0) > 0)
		;
	clock_advance(w->clock, 0);
	while (sd_event_run(w->event, 0) > 0)
		;
}

static void assert_story(struct world *w, const char *expected)
{
	settle(w);
	assert_string_equal(w->story, expected);
	w->story[0] = 0;
}

static void on_ready(void *userdata)
{
	((struct world *)userdata)->ready = true;
}

static void begin(struct world *w, const char *directory)
{
	struct broker_config config = {.history.directory = directory};
	struct failure f = {0};

	assert_true(sd_event_new(&w->event) >= 0);
	assert_int_equal(clock_new_virtual(5, &w->clock), 0);
	assert_int_equal(broker_new(&config, w->event, w->clock, &w->broker, &f), 0);
	w->listener = (struct broker_listener){.events = on_events, .userdata = w};
	broker_add_listener(w->broker, &w->listener);
}

static void end(struct world *w)
{
	struct told *t, *tmp;

	broker_free(w->broker);
	clock_free(w->clock);
	sd_event_unref(w->event);
	HASH_ITER(hh, w->told, t, tmp)
	{
		HASH_DEL(w->told, t);
		free(t->path);
		free(t);
	}
	memset(w, 0, sizeof(*w));
}

/* Open fake:///one, with A (inactive, persistent) and B (running run 7, transient) on it. */
static void open_one(struct world *w)
{
	struct failure f = {0};

	assert_int_equal(broker_open(w->broker, NULL, "fake:///one?secret=x", &w->connection, &f), 0);
	broker_on_ready(w->broker, on_ready, w);
	settle(w);
	assert_false(w->ready);
	fake_hello();
	settle(w);
	assert_int_equal(fake->lists, 1);
	fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("a", true, -1));
	fake_report(B, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("b", false, 7));
	fake_listed(true);
}

static const char opened[] = "connection.Added connection.Connected domain.Added* domain.Defined/added* domain.Added* "
			     "domain.Started/booted* connection.Synced/connected";

static struct object *domain(struct world *w, const char *name)
{
	struct object *o = NULL;
	struct failure f = {0};

	if (broker_lookup(w->broker, KIND_DOMAIN, name, NULL, NULL, &o, &f) != 0)
		failure_clear(&f);
	return o;
}

static int sync_error = -1;
static uint64_t sync_version;

static void on_sync(const struct failure *f, uint64_t version, void *userdata)
{
	sync_error = (int)f->error;
	sync_version = version;
}

static void a_listing_is_told_and_ready_follows(void **state)
{
	struct world w = {0};
	struct object *a;

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	assert_true(w.ready);
	assert_string_equal(w.connection->path, "/org/vireo1/connection/fake_one");
	assert_string_equal(w.connection->props->v[CONNECTION_URI].s, "fake:///one");
	a = domain(&w, "a");
	assert_string_equal(a->path, A_PATH);
	assert_ptr_equal(domain(&w, A), a);
	assert_ptr_equal(broker_find(w.broker, A_PATH), a);
	assert_null(domain(&w, "c"));
	/* The slow resync: nothing changed, nothing is told. */
	clock_advance(w.clock, 301 * USEC_PER_SEC);
	assert_int_equal(fake->lists, 2);
	fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("a", true, -1));
	fake_report(B, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("b", false, 7));
	fake_listed(true);
	assert_story(&w, "");
	end(&w);
}

static void an_ordinary_boot_is_one_started(void **state)
{
	struct world w = {0};
	uint64_t before;

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	before = domain(&w, "a")->version;
	fake_report(A, CAUSE_RESUMED, "unpaused", 8, LOOK_SEEN, false, 0, fake_seen("a", true, 8));
	fake_report(A, CAUSE_STARTED, "booted", 8, LOOK_SEEN, false, 0, fake_seen("a", true, 8));
	assert_story(&w, "domain.Started/booted");
	assert_int_equal(domain(&w, "a")->props->v[DOMAIN_ID].i, 8);
	assert_true(domain(&w, "a")->version > before);
	end(&w);
}

static void a_start_is_waited_for_between_resumed_and_started(void **state)
{
	struct world w = {0};

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	/* libvirt is slow: its Resumed is here, the guest runs, its Started is not made yet. A listing comes in between. */
	fake_report(A, CAUSE_RESUMED, "unpaused", 8, LOOK_SEEN, false, 0, fake_seen("a", true, 8));
	assert_story(&w, "");
	assert_int_equal(fake->looks, 0);
	sync_error = -1;
	broker_sync(w.broker, NULL, 0, 60 * USEC_PER_SEC, on_sync, NULL);
	fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("a", true, 8));
	fake_report(B, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("b", false, 7));
	fake_listed(true);
	assert_story(&w, "");
	fake_report(A, CAUSE_STARTED, "booted", 8, LOOK_SEEN, false, 0, fake_seen("a", true, 8));
	assert_story(&w, "domain.Started/booted");
	clock_advance(w.clock, 10 * USEC_PER_SEC);
	settle(&w);
	if (fake->looks > 0)
		fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->look.serial, fake_seen("a", true, 8));
	assert_story(&w, "");
	assert_int_equal(sync_error, VIREO_OK);

	/* Its Started is lost: found when it is overdue. */
	fake_report(A, CAUSE_STOPPED, "destroyed", 8, LOOK_SEEN, true, 0, fake_seen("a", true, -1));
	assert_story(&w, "domain.Stopped/destroyed");
	fake->looks = 0;
	fake_report(A, CAUSE_RESUMED, "unpaused", 9, LOOK_SEEN, false, 0, fake_seen("a", true, 9));
	assert_story(&w, "");
	assert_int_equal(fake->looks, 0);
	clock_advance(w.clock, 3 * USEC_PER_SEC);
	assert_int_equal(fake->looks, 1);
	fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->look.serial, fake_seen("a", true, 9));
	assert_story(&w, "domain.Started/booted*");
	end(&w);
}

static void a_lost_hypervisor_comes_back_by_itself(void **state)
{
	struct world w = {0};
	uint64_t version;
	unsigned opens;

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	version = domain(&w, "a")->version;
	opens = fake_opens;
	fake_goodbye("keepalive timed out: /secret/path");
	assert_story(&w, "connection.Disconnected/keepalive");
	assert_null(fake);
	/* P24: the hypervisor's own words are no property. */
	assert_string_equal(w.connection->props->v[CONNECTION_ERROR].s, "org.vireo1.Error.Disconnected");
	assert_non_null(domain(&w, "a"));
	assert_non_null(domain(&w, "b"));

	/* It stays away for a while: silence, and tries that are ever farther apart, 30 s at most. */
	for (int i = 0; i < 12; i++) {
		clock_advance(w.clock, 30 * USEC_PER_SEC);
		if (fake)
			fake_goodbye("refused");
		settle(&w);
	}
	assert_in_range(fake_opens - opens, 12, 60);
	assert_string_equal(w.story, "");
	clock_advance(w.clock, 30 * USEC_PER_SEC);
	fake_hello();
	settle(&w);
	/* A is as before; B is not in the listing, and a look says that it is gone. */
	fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("a", true, -1));
	fake_listed(true);
	assert_story(&w, "connection.Connected");
	assert_int_equal(fake->looks, 1);
	fake_report(B, CAUSE_NONE, NULL, 0, LOOK_GONE, true, fake->look.serial, NULL);
	settle(&w);
	assert_non_null(strstr(w.story, "domain.Stopped"));
	assert_non_null(strstr(w.story, "domain.Removed* connection.Synced/connected"));
	w.story[0] = 0;
	assert_true(domain(&w, "a")->version == version); /* P2 */
	assert_null(domain(&w, "b"));
	end(&w);
}

static void nothing_is_removed_on_a_failed_look_or_a_partial_listing(void **state)
{
	struct world w = {0};
	unsigned looks;

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	clock_advance(w.clock, 301 * USEC_PER_SEC);
	fake_listed(false);
	assert_story(&w, "");
	assert_int_equal(fake->looks, 0);
	/* It is tried again soon, not at the next resync. */
	clock_advance(w.clock, 5 * USEC_PER_SEC);
	assert_int_equal(fake->lists, 3);
	fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("a", true, -1));
	fake_listed(true);
	assert_story(&w, "");
	for (int i = 0; i < 5; i++) {
		assert_true(fake->looks > 0);
		looks = fake->looks;
		fake_report(B, CAUSE_NONE, NULL, 0, LOOK_FAILED, true, fake->look.serial, NULL);
		assert_story(&w, "");
		clock_advance(w.clock, 10 * USEC_PER_SEC);
		assert_int_equal(fake->looks, looks + 1);
	}
	assert_non_null(domain(&w, "b"));
	fake_report(B, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->look.serial, fake_seen("b", false, 7));
	assert_story(&w, "");
	end(&w);
}

static void an_event_of_an_unknown_object_waits_for_a_look(void **state)
{
	static const char c[] = "33333333-3333-3333-3333-333333333333";
	struct world w = {0};

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	fake_other(c, "Rebooted", LOOK_SEEN, fake_seen("c", false, 9));
	assert_story(&w, "");
	assert_int_equal(fake->looks, 1);
	/* Also while the look fails. */
	fake_report(c, CAUSE_NONE, NULL, 0, LOOK_FAILED, true, fake->look.serial, NULL);
	assert_story(&w, "");
	clock_advance(w.clock, 10 * USEC_PER_SEC);
	assert_int_equal(fake->looks, 2);
	fake_report(c, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->look.serial, fake_seen("c", false, 9));
	settle(&w);
	assert_non_null(strstr(w.story, "domain.Added*"));
	assert_non_null(strstr(w.story, "domain.Rebooted"));
	w.story[0] = 0;
	fake_other("44444444-4444-4444-4444-444444444444", "Rebooted", LOOK_GONE, NULL);
	settle(&w);
	fake_report("44444444-4444-4444-4444-444444444444", CAUSE_NONE, NULL, 0, LOOK_GONE, true, fake->look.serial, NULL);
	assert_story(&w, "");
	end(&w);
}

/* ---- sync ---------------------------------------------------------------------------------------------------------- */

static void sync_covers_what_happened_before_it(void **state)
{
	struct world w = {0};

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	clock_advance(w.clock, 301 * USEC_PER_SEC); /* a listing is under way, which began before */
	assert_int_equal(fake->lists, 2);
	sync_error = -1;
	broker_sync(w.broker, NULL, 0, 60 * USEC_PER_SEC, on_sync, NULL);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(sync_error, -1);
		fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("a", true, round ? 9 : -1));
		fake_report(B, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("b", false, 7));
		fake_listed(true);
		settle(&w);
	}
	assert_int_equal(fake->lists, 3);
	assert_int_equal(sync_error, VIREO_OK);
	assert_true(sync_version == domain(&w, "a")->version);
	assert_int_equal(domain(&w, "a")->props->v[DOMAIN_ID].i, 9);

	sync_error = -1;
	broker_sync(w.broker, &w.connection, 1, USEC_PER_SEC, on_sync, NULL);
	clock_advance(w.clock, USEC_PER_SEC);
	settle(&w);
	assert_int_equal(sync_error, VIREO_TIMEOUT);

	sync_error = -1;
	broker_sync(w.broker, &w.connection, 1, 60 * USEC_PER_SEC, on_sync, NULL);
	fake_goodbye("gone");
	settle(&w);
	assert_int_equal(sync_error, VIREO_DISCONNECTED);

	sync_error = -1;
	broker_sync(w.broker, &w.connection, 1, 60 * USEC_PER_SEC, on_sync, NULL);
	assert_int_equal(sync_error, -1); /* never from inside */
	settle(&w);
	assert_int_equal(sync_error, VIREO_DISCONNECTED);
	end(&w);
}

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

static int done_error = -1;
static uint64_t done_version;

static void on_done(const struct failure *f, uint64_t version, const struct result *r, void *userdata)
{
	done_error = (int)f->error;
	done_version = version;
}

static int submit(struct world *w, enum operation op, const char *name, struct object **job, struct failure *f)
{
	struct call call = {.operation = op, .object = domain(w, name), .fd = -1, .uid = 1000};

	failure_clear(f);
	return broker_submit(w->broker, &call, on_done, NULL, job, f);
}

static void a_call_is_a_job_from_beginning_to_end(void **state)
{
	struct world w = {0};
	struct object *job, *other;
	struct failure f = {0};
	struct call call;
	char path[100];

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	done_error = -1;
	assert_int_equal(submit(&w, OP_DOMAIN_START, "a", &job, &f), 0);
	assert_story(&w, "job.Added/start");
	snprintf(path, sizeof(path), "/org/vireo1/job/_%" PRIu64, w.last);
	assert_string_equal(job->path, path);
	/* What is over at once needs not be named by its object. */
	assert_null(domain(&w, "a")->props->v[DOMAIN_JOBS].as[0]);
	clock_advance(w.clock, 100 * USEC_PER_MSEC);
	assert_story(&w, "domain.Updated/job");
	assert_string_equal(domain(&w, "a")->props->v[DOMAIN_JOBS].as[0], path);
	assert_int_equal(job->props->v[JOB_STARTED_BY].u, 1000);
	assert_int_equal(fake->request->operation, OP_DOMAIN_START);

	/* P21 */
	assert_int_equal(submit(&w, OP_DOMAIN_START, "a", &other, &f), VIREO_BUSY);
	assert_non_null(strstr(f.message, path));
	assert_int_equal(broker_cancel(w.broker, job, &f), VIREO_NOT_CANCELLABLE);

	/* What it caused comes first, then its end. */
	fake_report(A, CAUSE_STARTED, "booted", 8, LOOK_SEEN, true, 0, fake_seen("a", true, 8));
	fake_result(fake->request->token, VIREO_OK, NULL);
	assert_story(&w, "domain.Started/booted job.Finished/completed domain.Updated/job");
	assert_int_equal(done_error, VIREO_OK);
	assert_true(done_version >= domain(&w, "a")->version);
	assert_string_equal(job->props->v[JOB_STATE].s, "completed");
	assert_null(domain(&w, "a")->props->v[DOMAIN_JOBS].as[0]);
	/* A second result is of nobody. */
	fake_result(fake->request->token, VIREO_OPERATION_FAILED, "late");
	assert_story(&w, "");

	/* Stays readable for 60 s. */
	clock_advance(w.clock, 59 * USEC_PER_SEC);
	assert_ptr_equal(broker_find(w.broker, path), job);
	clock_advance(w.clock, 2 * USEC_PER_SEC);
	assert_story(&w, "job.Removed");

	call = (struct call){.operation = OP_DOMAIN_START, .object = domain(&w, "a"), .fd = -1, .has_if_version = true,
			     .if_version = domain(&w, "a")->version - 1};
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &job, &f), VIREO_VERSION_MISMATCH);
	assert_int_equal(submit(&w, OP_DOMAIN_RESET, "a", &job, &f), VIREO_NOT_SUPPORTED);
	call = (struct call){.operation = OP_DEFINE_DOMAIN, .object = w.connection, .fd = -1, .text = "<domain>\n <name>"};
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &job, &f), VIREO_INVALID_XML);
	assert_non_null(strstr(f.message, "line 2"));
	call.text = "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domain>&e;</domain>";
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &job, &f), VIREO_INVALID_XML);
	assert_story(&w, "");
	failure_clear(&f);
	end(&w);
}

static void progress_is_told_and_a_job_is_cancelled(void **state)
{
	struct world w = {0};
	struct object *job, *other;
	struct failure f = {0};
	uint64_t token;

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	done_error = -1;
	assert_int_equal(submit(&w, OP_DOMAIN_SAVE, "b", &job, &f), 0);
	assert_story(&w, "job.Added/save");
	token = fake->request->token;
	clock_advance(w.clock, 50 * USEC_PER_MSEC);
	/* libvirt may call it unbounded: with a total it is not; and that it can be cancelled is told. */
	fake_progress(token, 25, 100, false);
	assert_story(&w, "job.Updated");
	assert_string_equal(job->props->v[JOB_TYPE].s, "bounded");
	assert_true(job->props->v[JOB_CANCELLABLE].b);
	assert_true(job->props->v[JOB_PERCENT].d == 25);
	assert_true(job->props->v[JOB_REMAINING_TIME].t == 150 * USEC_PER_MSEC);
	/* Progress alone takes no version. */
	fake_progress(token, 50, 100, false);
	assert_story(&w, "");
	assert_true(job->props->v[JOB_BYTES_DONE].t == 50);
	/* Beside a save nothing but destroying. */
	assert_int_equal(submit(&w, OP_DOMAIN_SUSPEND, "b", &other, &f), VIREO_BUSY);
	assert_int_equal(submit(&w, OP_DOMAIN_BLOCK_COPY, "b", &other, &f), VIREO_BUSY);

	assert_int_equal(broker_cancel(w.broker, job, &f), 0);
	assert_true(fake->cancelled == token);
	assert_story(&w, "job.Updated/cancel-requested");
	fake_result(token, VIREO_CANCELLED, "cancelled");
	assert_story(&w, "job.Finished/cancelled");
	assert_int_equal(done_error, VIREO_CANCELLED);
	assert_string_equal(job->props->v[JOB_ERROR].as[0], "");
	assert_int_equal(broker_cancel(w.broker, job, &f), VIREO_INVALID_STATE);
	failure_clear(&f);
	end(&w);
}

static void what_others_began_is_shown(void **state)
{
	struct world w = {0};
	struct object *job, *own;
	struct failure f = {0};

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	fake_foreign(5, B, OP_DOMAIN_BLOCK_COPY, "vda", false, VIREO_OK);
	assert_story(&w, "job.Added/block-copy");
	job = broker_first(w.broker, KIND_JOB);
	assert_int_equal(job->props->v[JOB_STARTED_BY].u, UINT32_MAX);
	assert_string_equal(job->props->v[JOB_OBJECT].s, domain(&w, "b")->path);
	/* Told twice, it is there once. */
	fake_foreign(5, B, OP_DOMAIN_BLOCK_COPY, "vda", false, VIREO_OK);
	assert_story(&w, "");
	/* It keeps nobody out. */
	assert_int_equal(submit(&w, OP_DOMAIN_SAVE, "b", &own, &f), 0);
	assert_story(&w, "job.Added/save");
	fake_result(fake->request->token, VIREO_OPERATION_FAILED, "domain has active block job");
	assert_story(&w, "job.Finished/failed");
	fake_progress(5 | FOREIGN_TOKEN, 100, 100, true);
	assert_story(&w, "job.Updated/ready");
	assert_int_equal(broker_cancel(w.broker, job, &f), 0);
	assert_true(fake->cancelled == (5 | FOREIGN_TOKEN));
	fake_foreign(5, B, OP_DOMAIN_BLOCK_COPY, NULL, true, VIREO_OUTCOME_UNKNOWN);
	assert_story(&w, "job.Updated/cancel-requested job.Finished/failed");
	assert_string_equal(job->props->v[JOB_ERROR].as[0], "org.vireo1.Error.OutcomeUnknown");

	/* Its own disk's copy is excluded beside one begun here; another disk's is not, nor is a pause. */
	struct call call = {.operation = OP_DOMAIN_BLOCK_COPY, .object = domain(&w, "b"), .text = "vda", .text2 = "<disk/>", .fd = -1};

	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &own, &f), 0);
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &own, &f), VIREO_BUSY);
	call.text = "vdb";
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &own, &f), 0);
	call.operation = OP_DOMAIN_SUSPEND;
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &own, &f), 0);
	failure_clear(&f);
	end(&w);
}

static void a_job_fails_with_its_hypervisor(void **state)
{
	struct world w = {0};
	struct object *job;
	struct failure f = {0};

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	assert_int_equal(submit(&w, OP_DOMAIN_DESTROY, "b", &job, &f), 0);
	fake_goodbye("gone");
	assert_story(&w, "job.Added/destroy connection.Disconnected/eof job.Finished/failed");
	assert_int_equal(done_error, VIREO_DISCONNECTED);
	assert_string_equal(job->props->v[JOB_ERROR].as[0], "org.vireo1.Error.Disconnected");
	assert_int_equal(submit(&w, OP_DOMAIN_DESTROY, "b", &job, &f), VIREO_DISCONNECTED);
	failure_clear(&f);
	end(&w);
}

/* "if-version" of a connection's methods is about the object that the XML describes. */
static void a_definition_can_depend_on_a_version(void **state)
{
	static const char known[] = "<domain>\n <uuid>\n  " A " </uuid></domain>";
	static const char unknown[] = "<domain><name>a</name><metadata><uuid>" A "</uuid></metadata></domain>";
	struct world w = {0};
	struct failure f = {0};
	struct object *job;
	struct call call;

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	call = (struct call){.operation = OP_DEFINE_DOMAIN, .object = w.connection, .fd = -1, .has_if_version = true, .text = known};
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &job, &f), VIREO_VERSION_MISMATCH);
	assert_non_null(strstr(f.message, "a is at version 4, not at 0"));
	failure_clear(&f);
	call.if_version = w.connection->version;
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &job, &f), VIREO_VERSION_MISMATCH);
	failure_clear(&f);
	call.text = unknown;
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &job, &f), VIREO_VERSION_MISMATCH);
	failure_clear(&f);
	assert_story(&w, "");
	call.if_version = 0;
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &job, &f), 0);
	fake_result(fake->request->token, VIREO_OK, NULL);
	call.text = known;
	call.if_version = domain(&w, "a")->version;
	assert_int_equal(broker_submit(w.broker, &call, NULL, NULL, &job, &f), 0);
	fake_result(fake->request->token, VIREO_OK, NULL);
	assert_story(&w, "job.Added/define-domain job.Added/define-domain job.Finished/completed job.Finished/completed");
	end(&w);
}

/* A request to guest "b" that is waited for; its token. */
static uint64_t ask(struct world *w, enum operation op, uint64_t number, const char *other_option)
{
	_cleanup_(vdict_freep) struct vdict *options = vdict_new();
	struct call call = {.operation = op, .object = domain(w, "b"), .fd = -1, .options = options, .number = number,
			    .text = op == OP_DOMAIN_DETACH_DEVICE ? "<disk/>" : NULL};
	struct failure f = {0};
	struct object *job;

	assert_int_equal(vdict_set_b(options, "wait", true), 0);
	if (other_option)
		assert_int_equal(vdict_set_b(options, other_option, true), 0);
	done_error = -1;
	assert_int_equal(broker_submit(w->broker, &call, on_done, NULL, &job, &f), 0);
	return fake->request->token;
}

static void a_request_can_be_waited_for(void **state)
{
	struct world w = {0};

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	fake_result(ask(&w, OP_DOMAIN_SHUTDOWN, 0, NULL), VIREO_OK, NULL);
	settle(&w);
	assert_int_equal(done_error, -1); /* the guest has only been asked */
	w.story[0] = 0;
	fake_report(B, CAUSE_STOPPED, "shutdown", 7, LOOK_GONE, true, 0, NULL);
	assert_story(&w, "domain.Stopped/shutdown job.Finished/completed domain.Removed");
	assert_int_equal(done_error, VIREO_OK);
	end(&w);
}

static void a_guest_may_do_something_else(void **state)
{
	struct world w = {0};
	struct seen *seen;

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);

	fake_result(ask(&w, OP_DOMAIN_REBOOT, 0, NULL), VIREO_OK, NULL);
	fake_other(B, "Rebooted", LOOK_SEEN, fake_seen("b", false, 7));
	assert_story(&w, "job.Added/reboot domain.Rebooted job.Finished/completed");
	assert_int_equal(done_error, VIREO_OK);

	/* before the hypervisor's own answer */
	uint64_t token = ask(&w, OP_DOMAIN_DETACH_DEVICE, 0, NULL);
	fake_other(B, "DeviceRemovalFailed", LOOK_SEEN, fake_seen("b", false, 7));
	settle(&w);
	assert_int_equal(done_error, -1);
	fake_result(token, VIREO_OK, NULL);
	assert_story(&w, "job.Added/detach-device domain.DeviceRemovalFailed job.Finished/failed");
	assert_int_equal(done_error, VIREO_OPERATION_FAILED);

	/* and after it */
	fake_result(ask(&w, OP_DOMAIN_DETACH_DEVICE, 0, NULL), VIREO_OK, NULL);
	fake_other(B, "DeviceRemovalFailed", LOOK_SEEN, fake_seen("b", false, 7));
	assert_story(&w, "job.Added/detach-device domain.DeviceRemovalFailed job.Finished/failed");
	assert_int_equal(done_error, VIREO_OPERATION_FAILED);

	/* only a description: no guest has to do with it */
	fake_result(ask(&w, OP_DOMAIN_DETACH_DEVICE, 0, "config"), VIREO_OK, NULL);
	assert_story(&w, "job.Added/detach-device job.Finished/completed");

	/* half way is not there */
	fake_result(ask(&w, OP_DOMAIN_SET_MEMORY, 3 << 20, NULL), VIREO_OK, NULL);
	seen = fake_seen("b", false, 7);
	seen->memory = 5 << 20;
	fake_other(B, "BalloonChanged", LOOK_SEEN, seen);
	assert_story(&w, "job.Added/set-memory domain.BalloonChanged");
	assert_int_equal(done_error, -1);
	seen = fake_seen("b", false, 7);
	seen->memory = 3 << 20;
	fake_other(B, "BalloonChanged", LOOK_SEEN, seen);
	assert_story(&w, "domain.BalloonChanged job.Finished/completed");
	/* it has that much already */
	fake_result(ask(&w, OP_DOMAIN_SET_MEMORY, 3 << 20, NULL), VIREO_OK, NULL);
	assert_story(&w, "job.Added/set-memory job.Finished/completed");

	/* a guest has pages: no balloon makes it 3 KiB less */
	fake_result(ask(&w, OP_DOMAIN_SET_MEMORY, (2 << 20) - (3 << 10), NULL), VIREO_OK, NULL);
	seen = fake_seen("b", false, 7);
	seen->memory = 2 << 20;
	fake_other(B, "BalloonChanged", LOOK_SEEN, seen);
	assert_story(&w, "job.Added/set-memory domain.BalloonChanged job.Finished/completed");
	assert_int_equal(done_error, VIREO_OK);

	/* It stops instead: that is no reboot. */
	fake_result(ask(&w, OP_DOMAIN_REBOOT, 0, NULL), VIREO_OK, NULL);
	fake_report(B, CAUSE_STOPPED, "shutdown", 7, LOOK_GONE, true, 0, NULL);
	assert_story(&w, "job.Added/reboot domain.Stopped/shutdown job.Finished/failed domain.Removed");
	assert_int_equal(done_error, VIREO_INVALID_STATE);
	end(&w);
}

/* ---- restart ------------------------------------------------------------------------------------------------------- */

static void a_restart_keeps_versions(void **state)
{
	char directory[] = "/tmp/vireo-broker-XXXXXX", command[100];
	struct world w = {0};
	struct failure f = {0};
	struct object *job;
	uint64_t a, b, version;
	char *epoch;

	assert_non_null(mkdtemp(directory));
	begin(&w, directory);
	open_one(&w);
	assert_story(&w, opened);
	assert_int_equal(submit(&w, OP_DOMAIN_DESTROY, "b", &job, &f), 0);
	clock_advance(w.clock, USEC_PER_SEC);
	settle(&w);
	a = domain(&w, "a")->version;
	version = broker_version(w.broker);
	epoch = strdup(broker_epoch(w.broker));
	/* As kill -9 would: nothing is told any more. The job is still running. */
	end(&w);

	begin(&w, directory);
	assert_string_equal(broker_epoch(w.broker), epoch);
	assert_true(broker_version(w.broker) >= version);
	assert_true(domain(&w, "a")->version == a);
	b = domain(&w, "b")->version;
	assert_string_equal(broker_first(w.broker, KIND_JOB)->props->v[JOB_STATE].s, "failed");
	assert_null(domain(&w, "b")->props->v[DOMAIN_JOBS].as[0]);
	broker_remove_listener(w.broker, &w.listener); /* it knows nothing of before */
	assert_int_equal(broker_open(w.broker, NULL, "fake:///one?secret=x", &w.connection, &f), 0);
	assert_string_equal(w.connection->props->v[CONNECTION_STATE].s, "disconnected");
	broker_forget_unopened(w.broker);
	fake_hello();
	settle(&w);
	fake_report(A, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("a", true, -1));
	fake_report(B, CAUSE_NONE, NULL, 0, LOOK_SEEN, true, fake->list_serial, fake_seen("b", false, 7));
	fake_listed(true);
	settle(&w);
	assert_true(domain(&w, "a")->version == a);
	assert_true(domain(&w, "b")->version == b);
	end(&w);

	/* Another URI under the same label is another hypervisor. */
	begin(&w, directory);
	broker_remove_listener(w.broker, &w.listener);
	assert_int_equal(broker_open(w.broker, "fake_one", "fake:///two", &w.connection, &f), 0);
	assert_int_equal(broker_count(w.broker, KIND_DOMAIN), 0);
	assert_int_equal(broker_count(w.broker, KIND_CONNECTION), 1);
	end(&w);

	/* Not configured any more. */
	begin(&w, directory);
	broker_remove_listener(w.broker, &w.listener);
	broker_forget_unopened(w.broker);
	assert_int_equal(broker_count(w.broker, KIND_CONNECTION), 0);
	end(&w);
	free(epoch);
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	assert_int_equal(system(command), 0);
}

static void opening_and_closing(void **state)
{
	struct world w = {0};
	struct failure f = {0};
	struct object *second;

	begin(&w, NULL);
	open_one(&w);
	assert_story(&w, opened);
	assert_int_equal(broker_open(w.broker, NULL, "fake:///one?secret=x", &second, &f), VIREO_ALREADY_EXISTS);
	assert_null(strstr(f.message, "secret"));
	assert_ptr_equal(second, w.connection);
	assert_int_equal(broker_open(w.broker, NULL, "nonsense:///", &second, &f), VIREO_INVALID_URI);
	assert_int_equal(broker_open(w.broker, "a-b", "fake:///x", &second, &f), VIREO_INVALID_OPTION);
	assert_int_equal(broker_open(w.broker, "fake_one", "fake:///x", &second, &f), VIREO_ALREADY_EXISTS);
	/* The same but for its query: the label gets a hash. */
	assert_int_equal(broker_open(w.broker, NULL, "fake:///one?other", &second, &f), 0);
	assert_int_equal(strncmp(second->path, "/org/vireo1/connection/fake_one_", 32), 0);
	fake_goodbye("unreachable");
	assert_story(&w, "connection.Added connection.Disconnected/error");
	assert_int_equal(broker_close(w.broker, second, &f), 0);
	assert_story(&w, "connection.Removed/closed");
	assert_int_equal(broker_close(w.broker, w.connection, &f), 0);
	assert_story(&w, "domain.Removed/closed domain.Removed/closed connection.Removed/closed");
	assert_int_equal(broker_count(w.broker, KIND_DOMAIN), 0);
	failure_clear(&f);
	end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_listing_is_told_and_ready_follows),
		cmocka_unit_test(an_ordinary_boot_is_one_started),
		cmocka_unit_test(a_start_is_waited_for_between_resumed_and_started),
		cmocka_unit_test(a_lost_hypervisor_comes_back_by_itself),
		cmocka_unit_test(nothing_is_removed_on_a_failed_look_or_a_partial_listing),
		cmocka_unit_test(an_event_of_an_unknown_object_waits_for_a_look),
		cmocka_unit_test(sync_covers_what_happened_before_it),
		cmocka_unit_test(a_call_is_a_job_from_beginning_to_end),
		cmocka_unit_test(progress_is_told_and_a_job_is_cancelled),
		cmocka_unit_test(what_others_began_is_shown),
		cmocka_unit_test(a_job_fails_with_its_hypervisor),
		cmocka_unit_test(a_definition_can_depend_on_a_version),
		cmocka_unit_test(a_request_can_be_waited_for),
		cmocka_unit_test(a_guest_may_do_something_else),
		cmocka_unit_test(a_restart_keeps_versions),
		cmocka_unit_test(opening_and_closing),
	};

	log_set_level(LOG_ERR);
	if (registry_add(&fake_driver) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
