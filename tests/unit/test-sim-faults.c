/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated hypervisor at its worst: each fault does what it says, and what it says of a look stays honest. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <uthash.h>

#include "drivers/sim/sim-driver.h"
#include "sim-kit.h"
#include "util/log.h"

static struct sim_kit *open_domain(const char *faults)
{
	struct sim_kit *k;
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"guest-delay\": 0, \"domains\": [{\"name\": \"d\", \"state\": \"running\"}], \"faults\": {%s}}", faults);
	k = kit_open_scenario(text);
	kit_until_hello(k);
	kit_clear(k);
	return k;
}

#define SUSPEND "{\"do\": \"suspend\", \"domain\": \"d\"}"
#define RESUME "{\"do\": \"resume\", \"domain\": \"d\"}"

/* ---- events ------------------------------------------------------------------------------------------------------- */

static void test_drop(void **state)
{
	struct sim_kit *k = open_domain("\"drop\": 1");

	kit_steps(k, SUSPEND);
	kit_settle(k);
	assert_string_equal(kit_trace(k), "");
	/* nothing is on its way: what a look shows is settled, and true */
	kit_look(k, KIND_DOMAIN, kit_uuid(k, KIND_DOMAIN, "d"));
	assert_string_equal(kit_trace(k), "look[paused]!");
	kit_operate(k, OP_DOMAIN_RESUME, "d", NULL);
	assert_string_equal(kit_trace(k), "look[running]! ok");
	kit_close(k);
}

static void test_repeat(void **state)
{
	struct sim_kit *k = open_domain("\"repeat\": 1");

	kit_steps(k, SUSPEND);
	kit_settle(k);
	/* the second one is as good as the first: only behind it is anything settled */
	assert_string_equal(kit_trace(k), "Suspended(paused)[paused] Suspended(paused)[paused]!");
	kit_close(k);
}

static void test_reorder(void **state)
{
	struct sim_kit *k = open_domain("\"reorder\": 10");
	unsigned suspended = 0, resumed = 0, turned = 0;
	bool last = true;

	/* behind a stop, so that all fall into one span */
	kit_steps(k, "{\"do\": \"loop\", \"count\": 100, \"steps\": [" SUSPEND ", " RESUME "]}");
	kit_settle(k);
	assert_int_equal(kit_count(k), 200);
	for (size_t i = 0; i < 200; i++) {
		const struct observation *o = &kit_report(k, i)->observation;
		bool is_resumed = o->cause == CAUSE_RESUMED;

		suspended += !is_resumed;
		resumed += is_resumed;
		turned += is_resumed == last;
		last = is_resumed;
		/* the world stood still when the last was delivered, whichever that was */
		if (i == 199)
			assert_true(o->settled && o->seen->state == DOMAIN_RUNNING);
	}
	/* all of them, each once, and many of them in the wrong place */
	assert_int_equal(suspended, 100);
	assert_int_equal(resumed, 100);
	assert_true(turned > 20);
	kit_close(k);
}

static void test_event_delay(void **state)
{
	struct sim_kit *k = open_domain("\"event-delay\": 100");
	uint64_t began = sim_now();

	kit_steps(k, SUSPEND);
	/* a look is asked for while the event is on its way: it waits, so that it can be settled */
	kit_look(k, KIND_DOMAIN, kit_uuid(k, KIND_DOMAIN, "d"));
	assert_string_equal(kit_trace(k), "Suspended(paused)[paused]! look[paused]!");
	assert_true(sim_now() - began >= 100 * USEC_PER_MSEC);
	/* likewise a listing and an answer */
	kit_clear(k);
	kit_steps(k, RESUME);
	kit_list(k);
	assert_string_equal(kit_trace(k), "Resumed(unpaused)[running]! look[running]! listed");
	kit_operate(k, OP_DOMAIN_SUSPEND, "d", NULL);
	assert_string_equal(kit_trace(k), "Suspended(paused)[paused]! look[paused]! ok");
	kit_close(k);
}

static void test_ahead(void **state)
{
	struct sim_kit *k = open_domain("\"ahead\": 1");

	kit_steps(k, "[" SUSPEND ", " RESUME "]");
	kit_settle(k);
	/* the first one's look saw what the second one did */
	assert_string_equal(kit_trace(k), "Suspended(paused)[running] Resumed(unpaused)[running]!");
	kit_close(k);
}

static void test_behind(void **state)
{
	struct sim_kit *k = open_domain("\"behind\": 1");

	kit_steps(k, SUSPEND);
	kit_settle(k);
	/* from before: not settled, although nothing else was on its way */
	assert_string_equal(kit_trace(k), "Suspended(paused)[running]");
	kit_clear(k);
	kit_steps(k, "{\"do\": \"add\", \"domain\": {\"name\": \"new\"}}");
	kit_settle(k);
	assert_string_equal(kit_trace(k), "Defined(added)[gone]");
	kit_look(k, KIND_DOMAIN, kit_uuid(k, KIND_DOMAIN, "new"));
	assert_string_equal(kit_trace(k), "Defined(added)[gone] look[shutoff]!");
	kit_close(k);
}

static void test_looks(void **state)
{
	struct sim_kit *k = open_domain("\"look-none\": 1");
	const struct observation *o;

	kit_steps(k, SUSPEND);
	kit_settle(k);
	assert_string_equal(kit_trace(k), "Suspended(paused)[-]");
	kit_steps(k, "{\"do\": \"faults\", \"look-none\": 0, \"look-fail\": 1}");
	kit_clear(k);
	kit_steps(k, RESUME);
	kit_settle(k);
	assert_string_equal(kit_trace(k), "Resumed(unpaused)[failed]");
	kit_clear(k);
	o = kit_look(k, KIND_DOMAIN, kit_uuid(k, KIND_DOMAIN, "d"));
	assert_string_equal(kit_trace(k), "look[failed]");
	assert_string_equal(o->error, "simulated: the look failed");
	/* in a listing too: it is there, nobody knows more */
	kit_list(k);
	assert_string_equal(kit_trace(k), "look[failed] listed");
	kit_close(k);
}

static void test_look_gives_up(void **state)
{
	struct sim_kit *k = open_domain("\"event-delay\": 5");

	/* reports about it keep coming: there is never a moment without one on its way */
	kit_steps_begin(k, "{\"do\": \"loop\", \"steps\": [" SUSPEND ", {\"do\": \"wait\", \"us\": 500}, " RESUME
			   ", {\"do\": \"wait\", \"us\": 500}]}");
	while (kit_count(k) < 10)
		kit_look(k, KIND_DOMAIN, kit_uuid(k, KIND_DOMAIN, "d"));

	const struct observation *o = kit_look(k, KIND_DOMAIN, kit_uuid(k, KIND_DOMAIN, "d"));

	/* it is answered, once; as a failure, unless a gap was met */
	assert_true(o->look == LOOK_FAILED || o->settled);
	kit_steps(k, "{\"do\": \"stop-scripts\"}");
	kit_settle(k);
	kit_clear(k);
	o = kit_look(k, KIND_DOMAIN, kit_uuid(k, KIND_DOMAIN, "d"));
	assert_true(o->look == LOOK_SEEN && o->settled);
	kit_close(k);
}

static void test_no_events(void **state)
{
	struct sim_kit *k = open_domain("\"events\": false");

	assert_true(kit_hello(k)->polled);
	assert_null(kit_hello(k)->events[0]);
	kit_steps(k, SUSPEND);
	kit_settle(k);
	assert_string_equal(kit_trace(k), "");
	kit_list(k);
	assert_string_equal(kit_trace(k), "look[paused]! listed");
	kit_close(k);
}

static void test_no_quirks_no_runs(void **state)
{
	struct sim_kit *k = open_domain("\"quirks\": false, \"run-ids\": false");

	kit_steps(k, "[{\"do\": \"destroy\", \"domain\": \"d\"}, {\"do\": \"start\", \"domain\": \"d\"}, {\"do\": \"wait-idle\"}]");
	kit_settle(k);
	assert_non_null(strstr(kit_trace(k), "Stopped(destroyed)"));
	assert_string_equal(strrchr(kit_trace(k), ' '), " Started(booted)[running]!");
	assert_int_equal(kit_count(k), 2);
	assert_int_equal(kit_report(k, 1)->observation.run, 0);
	assert_int_equal(kit_report(k, 1)->observation.seen->id, 0);
	kit_close(k);
}

/* ---- listings ----------------------------------------------------------------------------------------------------- */

static void test_listings(void **state)
{
	struct sim_kit *k = kit_open("sim:///200?seed=3");
	const struct listed *l;

	kit_until_hello(k);
	kit_steps(k, "{\"do\": \"faults\", \"list-partial\": 0.5}");
	l = kit_list(k);
	assert_false(l->complete[KIND_DOMAIN] || l->complete[KIND_POOL] || l->complete[KIND_NETWORK]);
	assert_non_null(l->error);
	assert_in_range(kit_count(k), 50, 150);

	/* says that it is whole, and isn't: whoever believes it looks at what is missing, and finds it */
	kit_steps(k, "{\"do\": \"faults\", \"reset\": true, \"list-omit\": 0.5}");
	l = kit_list(k);
	assert_true(l->complete[KIND_DOMAIN]);
	assert_null(l->error);
	assert_in_range(kit_count(k), 50, 150);

	kit_steps(k, "{\"do\": \"faults\", \"reset\": true, \"list-fail\": 1}");
	l = kit_list(k);
	assert_string_equal(kit_trace(k), "listed");
	assert_false(l->complete[KIND_DOMAIN]);
	assert_string_equal(l->error, "simulated: the listing failed");

	kit_steps(k, "{\"do\": \"faults\", \"reset\": true}");
	kit_assert_listed_truth(k);
	kit_close(k);
}

/* ---- operations --------------------------------------------------------------------------------------------------- */

static void test_operations_fail(void **state)
{
	struct sim_kit *k = open_domain("\"operation-fail\": 1");
	const struct result *r;

	r = kit_operate(k, OP_DOMAIN_SUSPEND, "d", NULL);
	assert_string_equal(kit_trace(k), "look[running]! error:OperationFailed");
	assert_string_equal(r->failure.message, "simulated: the operation failed");

	kit_steps(k, "[{\"do\": \"faults\", \"reset\": true}, {\"do\": \"operations\", \"operations\": "
		     "{\"Domain.Suspend\": {\"error\": \"Timeout\", \"message\": \"too slow\"}, "
		     "\"Domain.Reset\": {\"missing\": true}}}]");
	r = kit_operate(k, OP_DOMAIN_SUSPEND, "d", NULL);
	assert_string_equal(kit_trace(k), "look[running]! error:Timeout");
	assert_string_equal(r->failure.message, "too slow");
	kit_operate(k, OP_DOMAIN_RESET, "d", NULL);
	assert_string_equal(kit_trace(k), "look[running]! error:NotSupported");
	kit_operate(k, OP_DOMAIN_REBOOT, "d", NULL);
	assert_non_null(strstr(kit_trace(k), " ok"));
	/* what is missing is not announced */
	kit_reconnect(k);
	kit_until_hello(k);
	for (char **o = kit_hello(k)->operations; *o; o++)
		assert_string_not_equal(*o, "Domain.Reset");
	kit_close(k);
}

static bool has_report(struct sim_kit *k, void *data)
{
	return kit_count(k) > 0;
}

static void test_operation_that_lasts(void **state)
{
	struct sim_kit *k = kit_open_scenario("{\"domains\": [{\"name\": \"d\", \"state\": \"running\"}], \"operations\": {"
					      "\"Domain.Suspend\": {\"duration\": 60, \"progress\": 10, \"total\": 1000}, "
					      "\"Domain.Resume\": {\"duration\": 3600000, \"progress\": 0}, "
					      "\"Domain.Dump\": {\"duration\": 80, \"cancellable\": false}}}");
	uint64_t token, done = 0;
	size_t n;

	kit_until_hello(k);
	kit_operate(k, OP_DOMAIN_SUSPEND, "d", NULL);
	n = kit_count(k);
	assert_true(n >= 5);
	assert_string_equal(strstr(kit_trace(k), "Suspended"), "Suspended(paused)[paused]! look[paused]! ok");
	for (size_t i = 0; i < n - 3; i++) {
		const struct report *r = kit_report(k, i);

		assert_int_equal(r->type, REPORT_PROGRESS);
		assert_int_equal(r->progress.total, 1000);
		assert_true(r->progress.done >= done && r->progress.done <= 1000);
		assert_true(r->progress.cancellable);
		assert_true(r->progress.remaining <= 60 * USEC_PER_MSEC);
		done = r->progress.done;
	}

	/* an hour, unbounded; cancelled in the middle */
	kit_clear(k);
	token = kit_begin(k, kit_request(k, OP_DOMAIN_RESUME, "d", NULL));
	kit_until(k, has_report, NULL);
	kit_expect_silence(k);
	assert_string_equal(kit_trace(k), "progress");
	assert_int_equal(kit_report(k, 0)->progress.total, 0);
	assert_true(kit_report(k, 0)->progress.remaining == USEC_UNKNOWN);
	sim_driver.cancel(kit_connection(k), token);
	kit_result(k, token);
	assert_string_equal(kit_trace(k), "progress look[paused]! cancelled");
	/* what can't be cancelled isn't; and a token that isn't known is nobody's */
	kit_clear(k);
	token = kit_begin(k, kit_request(k, OP_DOMAIN_DUMP, "d", "/tmp/core"));
	sim_driver.cancel(kit_connection(k), token);
	sim_driver.cancel(kit_connection(k), 4711);
	assert_int_equal(kit_result(k, token)->failure.error, VIREO_OK);
	kit_close(k);
}

/* ---- hanging ------------------------------------------------------------------------------------------------------ */

static void test_hang(void **state)
{
	struct sim_kit *k = open_domain("");
	sd_id128_t uuid = kit_uuid(k, KIND_DOMAIN, "d");
	uint64_t token;

	/* each thing alone: the others go on */
	kit_steps(k, "{\"do\": \"faults\", \"hang\": \"list\"}");
	sim_driver.list(kit_connection(k), 900);
	kit_expect_silence(k);
	kit_look(k, KIND_DOMAIN, uuid);
	assert_string_equal(kit_trace(k), "look[running]!");
	kit_steps(k, "{\"do\": \"release\"}");
	kit_list(k);
	kit_settle(k);

	kit_steps(k, "{\"do\": \"faults\", \"hang\": \"look\"}");
	kit_clear(k);
	sim_driver.look(kit_connection(k), KIND_DOMAIN, uuid, 901);
	kit_expect_silence(k);
	kit_list(k);
	assert_string_equal(kit_trace(k), "look[running]! listed");
	kit_steps(k, "{\"do\": \"release\"}");
	kit_settle(k);
	assert_string_equal(kit_trace(k), "look[running]! listed look[running]!");

	kit_steps(k, "{\"do\": \"faults\", \"hang\": \"operation\"}");
	kit_clear(k);
	token = kit_begin(k, kit_request(k, OP_DOMAIN_SUSPEND, "d", NULL));
	kit_expect_silence(k);
	kit_list(k);
	/* it has not been done yet either */
	assert_string_equal(kit_trace(k), "look[running]! listed");
	kit_clear(k);
	/* another fault that comes instead lets it go on */
	kit_steps(k, "{\"do\": \"faults\", \"hang\": \"list\"}");
	kit_result(k, token);
	assert_string_equal(kit_trace(k), "Suspended(paused)[paused]! look[paused]! ok");

	/* for a while */
	kit_steps(k, "{\"do\": \"faults\", \"hang\": \"all\", \"hang-time\": 80}");
	kit_clear(k);
	token = kit_begin(k, kit_request(k, OP_DOMAIN_RESUME, "d", NULL));
	kit_expect_silence(k);
	kit_result(k, token);
	kit_close(k);
}

static void test_hang_open(void **state)
{
	struct sim_kit *k = kit_open("sim:///1?hang=open");

	kit_expect_silence(k);
	assert_int_equal(kit_count(k), 0);
	kit_steps(k, "{\"do\": \"release\"}");
	kit_until_hello(k);
	kit_close(k);

	/* closing does not wait for it */
	k = kit_open("sim:///1?hang=open");
	kit_close(k);
}

static void test_close_while_everything_hangs(void **state)
{
	struct sim_kit *k = open_domain("");
	uint64_t began;

	kit_steps(k, "{\"do\": \"faults\", \"hang\": \"all\"}");
	for (int i = 0; i < 100; i++) {
		sim_driver.list(kit_connection(k), 100 + i);
		kit_begin(k, kit_request(k, OP_DOMAIN_SUSPEND, "d", NULL));
	}
	kit_expect_silence(k);
	began = sim_now();
	kit_close(k);
	print_message("closing with 200 things that hang took %.1f ms\n", (double)(sim_now() - began) / 1000);
}

/* ---- the connection ----------------------------------------------------------------------------------------------- */

static void test_disconnect(void **state)
{
	struct sim_kit *k = open_domain("\"event-delay\": 3600000");
	uint64_t token;

	kit_steps(k, SUSPEND);
	token = kit_begin(k, kit_request(k, OP_DOMAIN_RESUME, "d", NULL));
	kit_steps(k, "{\"do\": \"disconnect\", \"refuse\": 2, \"error\": \"the wire was cut\"}");
	kit_until_goodbye(k);
	/* what was on its way is lost */
	assert_string_equal(kit_trace(k), "goodbye");
	assert_string_equal(kit_goodbye(k), "the wire was cut");
	/* and whatever is asked now gets no answer */
	sim_driver.list(kit_connection(k), 55);
	sim_driver.cancel(kit_connection(k), token);
	kit_expect_silence(k);
	for (int i = 0; i < 2; i++) {
		kit_reconnect(k);
		kit_until_goodbye(k);
		assert_string_equal(kit_goodbye(k), "simulated: connection refused");
	}
	kit_reconnect(k);
	kit_until_hello(k);
	/* the hypervisor has gone on existing meanwhile */
	kit_list(k);
	kit_assert_listed_truth(k);
	kit_close(k);
}

static void test_refuse_until_told(void **state)
{
	struct sim_kit *k = kit_open_scenario("{\"refuse\": -1}");

	for (int i = 0; i < 5; i++) {
		kit_until_goodbye(k);
		kit_reconnect(k);
	}
	kit_until_goodbye(k);
	kit_steps(k, "{\"do\": \"refuse\", \"count\": 0}");
	kit_reconnect(k);
	kit_until_hello(k);
	kit_close(k);
}

/* ---- storms ------------------------------------------------------------------------------------------------------- */

/* What one knows of a domain who believes every report, and reads them in order. */
struct belief {
	sd_id128_t uuid;
	bool known, active, persistent, paused_or_such;
	int run;
	UT_hash_handle hh;
};

static void believe(struct belief *b, const struct observation *o)
{
	switch (o->cause) {
	case CAUSE_DEFINED:
		b->persistent = true;
		break;
	case CAUSE_UNDEFINED:
		if (!o->reason || strcmp(o->reason, "renamed") != 0)
			b->persistent = false;
		break;
	case CAUSE_STARTED:
	case CAUSE_RESUMED:
		b->active = true;
		b->run = o->run;
		break;
	case CAUSE_STOPPED:
		b->active = false;
		break;
	default:
		break;
	}
}

/*
 * A settled look says: every cause that explains it has been posted. So, with reports in their order and none lost, what
 * the reports told up to then and what it shows must agree. In hundreds of thousands of reports.
 */
static void storm_is_honest(const char *uri, bool lossless)
{
	struct sim_kit *k = kit_open(uri);
	struct belief *beliefs = NULL, *b, *next;
	size_t settled = 0, unsettled = 0;
	uint64_t began = sim_now(), took;

	kit_until_hello(k);
	kit_list(k);
	assert_string_equal(kit_steps(k, "[{\"do\": \"storm\", \"count\": 20000, \"seed\": 5, \"churn\": 0.1}, "
					 "{\"do\": \"wait-guests\"}, {\"do\": \"wait-idle\"}]"),
			    "");
	kit_settle(k);
	took = sim_now() - began;
	for (size_t i = 0; i < kit_count(k); i++) {
		const struct report *r = kit_report(k, i);
		const struct observation *o = &r->observation;

		if (r->type != REPORT_OBSERVATION || o->kind != KIND_DOMAIN)
			continue;
		HASH_FIND(hh, beliefs, &o->uuid, sizeof(o->uuid), b);
		if (!b) {
			b = calloc(1, sizeof(*b));
			b->uuid = o->uuid;
			HASH_ADD(hh, beliefs, uuid, sizeof(b->uuid), b);
		}
		believe(b, o);
		settled += o->settled;
		unsettled += !o->settled;
		if (!o->settled)
			continue;
		if (!b->known || !lossless) {
			/* from the listing: the beginning */
			b->known = true;
			b->active = o->look == LOOK_SEEN && o->seen->active && !o->seen->starting;
			b->persistent = o->look == LOOK_SEEN && o->seen->persistent;
			continue;
		}
		if (o->look == LOOK_GONE) {
			/* gone without a word is only what was migrated away or became neither */
			assert_false(b->active);
			b->known = false;
			b->persistent = false;
			continue;
		}
		assert_int_equal(o->look, LOOK_SEEN);
		if (b->active != (o->seen->active && !o->seen->starting) || b->persistent != o->seen->persistent)
			fail_msg("report %zu: a settled look of '%s' shows %s, %s; the reports up to it said %s, %s", i,
				 o->seen->name, o->seen->active ? "active" : "inactive",
				 o->seen->persistent ? "persistent" : "transient", b->active ? "active" : "inactive",
				 b->persistent ? "persistent" : "transient");
		if (b->active && b->run && b->run != o->seen->id)
			fail_msg("report %zu: run %d was seen, %d was told", i, o->seen->id, b->run);
	}
	assert_true(settled > 100);
	print_message("%s: %zu reports, %zu settled, %.0f a second\n", uri, settled + unsettled, settled,
		      (double)(settled + unsettled) * 1e6 / (double)took);
	HASH_ITER(hh, beliefs, b, next)
	{
		HASH_DELETE(hh, beliefs, b);
		free(b);
	}
	kit_assert_listed_truth(k);
	kit_close(k);
}

static void test_storm(void **state)
{
	storm_is_honest("sim:///1000?seed=1&pools=3&networks=2&guest-delay=0", true);
	storm_is_honest("sim:///1000?seed=2&pools=3&guest-delay=1&event-delay=2", true);
	storm_is_honest("sim:///20?seed=3&guest-delay=0&ahead=0.3", true);
}

static void test_storm_with_everything(void **state)
{
	storm_is_honest("sim:///1000?seed=4&pools=3&networks=2&guest-delay=0&reorder=20&repeat=0.2&drop=0.1&ahead=0.1&"
			"behind=0.1&look-none=0.1&event-delay=1",
			false);
}

/* As fast as it can, against a loop that does nothing else: the queue's back-pressure holds it. */
static void test_flood(void **state)
{
	struct sim_kit *k = kit_open("sim:///100?seed=1&running=1");
	uint64_t began, took;

	kit_until_hello(k);
	kit_list(k);
	kit_discard(k, true);
	began = sim_now();
	assert_string_equal(kit_steps(k, "[{\"do\": \"flood\", \"count\": 100000}, {\"do\": \"wait-idle\"}]"), "");
	kit_settle(k);
	took = sim_now() - began;
	assert_int_equal(kit_discarded(k), 100000);
	kit_discard(k, false);
	print_message("flood: %.0f reports a second\n", 1e11 / (double)took);
	kit_assert_listed_truth(k);
	kit_close(k);
}

/* Nobody drains: the driver waits, and its close does not. */
static void test_flood_against_a_wall(void **state)
{
	struct sim_kit *k = kit_open("sim:///100?flood=0");
	struct sim_world *w;

	kit_until_hello(k);
	w = kit_world(k);
	for (uint64_t before = 0, now = 1; before != now;) {
		/* until it has come to a stop by itself */
		struct timespec t = {.tv_nsec = 20000000};

		nanosleep(&t, NULL);
		before = now;
		pthread_mutex_lock(&w->lock);
		now = w->events;
		pthread_mutex_unlock(&w->lock);
	}
	kit_close(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_repeat),
		cmocka_unit_test(test_reorder),
		cmocka_unit_test(test_event_delay),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_behind),
		cmocka_unit_test(test_looks),
		cmocka_unit_test(test_look_gives_up),
		cmocka_unit_test(test_no_events),
		cmocka_unit_test(test_no_quirks_no_runs),
		cmocka_unit_test(test_listings),
		cmocka_unit_test(test_operations_fail),
		cmocka_unit_test(test_operation_that_lasts),
		cmocka_unit_test(test_hang),
		cmocka_unit_test(test_hang_open),
		cmocka_unit_test(test_close_while_everything_hangs),
		cmocka_unit_test(test_disconnect),
		cmocka_unit_test(test_refuse_until_told),
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_storm_with_everything),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_flood_against_a_wall),
	};

	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
