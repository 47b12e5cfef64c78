/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "drivers/sim/job.h"
#include "drivers/sim/sim-driver.h"
#include "sim-house.h"
#include "util/log.h"

/*
 * Operations that last, on the simulated hypervisor: how far they are, how they are cancelled, how they fail half-way, what others
 * see of them, and what becomes of them when whoever began them has gone.
 */

#define HOUR "'duration': 3600000, 'progress': 5"
#define ONE_DOMAIN "'domains': [{'name': 'd', 'state': 'running', 'memory': 1048576000}]"

static uint64_t begin(struct sim_kit *k, enum operation op, const char *text, const char *text2, const char *options)
{
	return kit_begin(k, house_request(k, op, "d", text, text2, 0, options));
}

/* Everything but progress. */
static void expect_story(struct sim_kit *k, const char *what, const char *expected)
{
	house_expect(k, what, expected, false);
}

/* One domain, and a rule for one operation. */
static struct sim_kit *open_ruled(const char *operation, const char *rule)
{
	_cleanup_(freep) char *scenario = NULL;

	assert_true(asprintf(&scenario, "{" ONE_DOMAIN ", 'operations': {'%s': {%s}}}", operation, rule) > 0);
	return house_open(scenario);
}

static bool has_progress(struct sim_kit *k, void *data)
{
	return house_progress(k, *(uint64_t *)data);
}

static bool is_ready(struct sim_kit *k, void *data)
{
	const struct progress *p = house_progress(k, *(uint64_t *)data);

	return p && p->ready;
}

static const struct foreign *last_foreign(struct sim_kit *k, bool ended)
{
	for (size_t i = kit_count(k); i-- > 0;)
		if (kit_report(k, i)->type == REPORT_FOREIGN && kit_report(k, i)->foreign.ended == ended)
			return &kit_report(k, i)->foreign;
	return NULL;
}

static bool has_foreign(struct sim_kit *k, void *data)
{
	return last_foreign(k, *(bool *)data);
}

static const struct foreign *until_foreign(struct sim_kit *k, bool ended)
{
	kit_until(k, has_foreign, &ended);
	return last_foreign(k, ended);
}

/* ---- half-way -------------------------------------------------------------------------------------------------------- */

static const struct {
	enum operation operation;
	const char *name, *text, *text2, *options;
	const char *cancelled, *failed;
} lasting[] = {
	{OP_DOMAIN_SAVE, "Domain.Save", "/s", .cancelled = "Suspended(paused) Resumed(unpaused) look[running]! cancelled",
	 .failed = "Suspended(paused) Resumed(unpaused) look[running]! error:OperationFailed"},
	{OP_DOMAIN_MANAGED_SAVE, "Domain.ManagedSave", .cancelled = "Suspended(paused) Resumed(unpaused) look[running]! cancelled",
	 .failed = "Suspended(paused) Resumed(unpaused) look[running]! error:OperationFailed"},
	{OP_DOMAIN_DUMP, "Domain.Dump", "/c", .cancelled = "Suspended(paused) Resumed(unpaused) look[running]! cancelled",
	 .failed = "Suspended(paused) Resumed(unpaused) look[running]! error:OperationFailed"},
	{OP_DOMAIN_BLOCK_PULL, "Domain.BlockPull", "vda", .cancelled = "BlockJob(canceled) look[running]! cancelled",
	 .failed = "BlockJob(failed) look[running]! error:OperationFailed"},
	{OP_DOMAIN_BLOCK_COPY, "Domain.BlockCopy", "vda", "<disk><source file='/x'/></disk>",
	 .cancelled = "BlockJob(canceled) look[running]! cancelled", .failed = "BlockJob(failed) look[running]! error:OperationFailed"},
	{OP_DOMAIN_MIGRATE, "Domain.Migrate", "sim:///empty?world=halfway", .cancelled = "MigrationIteration look[running]! cancelled",
	 .failed = "MigrationIteration MigrationIteration look[running]! error:OperationFailed"},
};

static void test_cancel_halfway(void **state)
{
	for (size_t i = 0; i < ELEMENTS(lasting); i++) {
		const struct progress *p;
		struct sim_kit *k;
		uint64_t token;

		k = open_ruled(lasting[i].name, HOUR);
		token = begin(k, lasting[i].operation, lasting[i].text, lasting[i].text2, lasting[i].options);
		house_until_moved(k, token);
		p = house_progress(k, token);
		/* there is a total, and so much time is left */
		assert_true(p->total >= 1000 << 20 || p->total == 1 << 30 || p->total == 1048576000);
		assert_true(p->done < p->total && p->remaining > 3500 * USEC_PER_SEC && p->remaining <= 3600 * USEC_PER_SEC);
		assert_true(p->cancellable && !p->ready);
		sim_driver.cancel(kit_connection(k), token);
		kit_result(k, token);
		expect_story(k, lasting[i].name, lasting[i].cancelled);
		house_steps(k, "{'do': 'wait-jobs'}");
		/* and it is still right */
		kit_assert_listed_truth(k);
		kit_clear(k);
		kit_operate(k, OP_DOMAIN_SUSPEND, "d", NULL);
		expect_story(k, "suspend afterwards", "Suspended(paused) look[paused]! ok");
		kit_close(k);
	}
}

static void test_fail_halfway(void **state)
{
	for (size_t i = 0; i < ELEMENTS(lasting); i++) {
		struct sim_kit *k;
		uint64_t token;

		k = open_ruled(lasting[i].name,
			       "'duration': 100, 'progress': 10, 'fail': 1, 'fail-at': 0.6, 'message': 'half-way'");
		token = begin(k, lasting[i].operation, lasting[i].text, lasting[i].text2, lasting[i].options);
		assert_string_equal(kit_result(k, token)->failure.message, "half-way");
		expect_story(k, lasting[i].name, lasting[i].failed);
		assert_non_null(house_progress(k, token));
		house_steps(k, "{'do': 'wait-jobs'}");
		kit_assert_listed_truth(k);
		kit_close(k);
	}
}

/* What runs on it ends with the domain. */
static void test_stopped(void **state)
{
	for (size_t i = 0; i < ELEMENTS(lasting); i++) {
		const struct result *r;
		struct sim_kit *k;
		uint64_t token;

		k = open_ruled(lasting[i].name, HOUR);
		token = begin(k, lasting[i].operation, lasting[i].text, lasting[i].text2, lasting[i].options);
		house_until_moved(k, token);
		kit_begin(k, kit_request(k, OP_DOMAIN_DESTROY, "d", NULL));
		r = kit_result(k, token);
		assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
		assert_non_null(strstr(r->failure.message, "The domain stopped"));
		house_steps(k, "{'do': 'wait-jobs'}");
		kit_assert_listed_truth(k);
		kit_close(k);
		sim_shutdown(20 * USEC_PER_SEC);
	}
}

/* ---- copies ---------------------------------------------------------------------------------------------------------- */

#define COPY "<disk type='file'><source file='/x'/></disk>"

static void test_ready(void **state)
{
	struct sim_kit *k = house_open("{" ONE_DOMAIN ", 'operations': {'Domain.BlockCopy': {" HOUR "}}}");
	const struct progress *p;
	uint64_t token;

	/* not before it is ready */
	token = begin(k, OP_DOMAIN_BLOCK_COPY, "vda", COPY, NULL);
	house_until_moved(k, token);
	sim_driver.complete(kit_connection(k), token);
	sim_driver.cancel(kit_connection(k), token);
	assert_int_equal(kit_result(k, token)->failure.error, VIREO_CANCELLED);
	kit_clear(k);
	house_steps(k, "{'do': 'operations', 'operations': {'Domain.BlockCopy': {'duration': 20, 'progress': 5}}}");
	token = begin(k, OP_DOMAIN_BLOCK_COPY, "vda", COPY, NULL);
	kit_until(k, is_ready, &token);
	p = house_progress(k, token);
	assert_true(p->done == p->total && p->remaining == 0 && p->cancellable);
	/* it waits, as long as one likes; the domain goes on being changed meanwhile, except its disk */
	kit_expect_silence(k);
	kit_operate(k, OP_DOMAIN_SUSPEND, "d", NULL);
	expect_story(k, "suspend beside a copy", "Suspended(paused) look[paused]! ok");
	kit_clear(k);
	kit_result(k, begin(k, OP_DOMAIN_BLOCK_PULL, "vda", NULL, NULL));
	expect_story(k, "pull beside a copy", "look[paused]! error:Busy");
	kit_clear(k);
	kit_result(k, begin(k, OP_DOMAIN_SAVE, "/s", NULL, NULL));
	expect_story(k, "save beside a copy", "look[paused]! error:Busy");
	kit_clear(k);
	sim_driver.complete(kit_connection(k), token);
	kit_result(k, token);
	expect_story(k, "complete", "BlockJob(completed) look[paused]! ok");
	/* cancelled although it is ready */
	token = begin(k, OP_DOMAIN_BLOCK_COPY, "vda", COPY, NULL);
	kit_until(k, is_ready, &token);
	kit_clear(k);
	sim_driver.cancel(kit_connection(k), token);
	kit_result(k, token);
	expect_story(k, "cancel", "BlockJob(canceled) look[paused]! cancelled");
	/* without being asked */
	kit_clear(k);
	kit_result(k, begin(k, OP_DOMAIN_BLOCK_COPY, "vda", COPY, "{'pivot': true}"));
	expect_story(k, "pivot", "BlockJob(ready) BlockJob(completed) look[paused]! ok");
	kit_close(k);
}

static void test_bandwidth(void **state)
{
	struct sim_kit *k = house_open("{" ONE_DOMAIN "}");
	const struct progress *p;
	/* a gigabyte, at a megabyte a second */
	uint64_t token = begin(k, OP_DOMAIN_BLOCK_PULL, "vda", NULL, "{'bandwidth': 1048576}");

	kit_until(k, has_progress, &token);
	p = house_progress(k, token);
	assert_true(p->remaining > 1000 * USEC_PER_SEC && p->remaining <= 1024 * USEC_PER_SEC);
	sim_driver.cancel(kit_connection(k), token);
	assert_int_equal(kit_result(k, token)->failure.error, VIREO_CANCELLED);
	kit_close(k);
}

/* A total that is not known is not made up. */
static void test_unbounded(void **state)
{
	struct sim_kit *k = house_open("{'pools': [{'name': 'd', 'active': true, 'volumes': [{'name': 'v'}]}], 'operations': {"
				       "'StoragePool.WipeVolume': {'duration': 50, 'progress': 5, 'cancellable': false}}}");
	uint64_t token = begin(k, OP_POOL_WIPE_VOLUME, "v", NULL, NULL);
	const struct progress *p;

	kit_until(k, has_progress, &token);
	p = house_progress(k, token);
	assert_true(p->total == 0 && p->done == 0 && p->remaining == USEC_UNKNOWN && !p->cancellable);
	sim_driver.cancel(kit_connection(k), token);
	assert_int_equal(kit_result(k, token)->failure.error, VIREO_OK);
	kit_close(k);
}

/* ---- others ---------------------------------------------------------------------------------------------------------- */

/* A second connection to the same hypervisor sees what the first one does; and the first what somebody at the host does. */
static void test_foreign(void **state)
{
	struct sim_kit *k = kit_open("sim:///1?running=1&world=shared"), *other;
	const struct foreign *f;
	uint64_t token, theirs;

	kit_until_hello(k);
	house_steps(k, "{'do': 'operations', 'operations': {'Domain.Save': {" HOUR "}}}");
	token = kit_begin(k, kit_request(k, OP_DOMAIN_SAVE, "vm-0", "/s"));
	kit_until(k, has_progress, &token);
	other = kit_open("sim:///1?running=1&world=shared");
	kit_until_hello(other);
	f = until_foreign(other, false);
	theirs = f->token;
	assert_true(theirs & FOREIGN_TOKEN);
	assert_int_equal(f->operation, OP_DOMAIN_SAVE);
	assert_true(f->cancellable && f->kind == KIND_DOMAIN);
	assert_true(sd_id128_equal(f->uuid, kit_uuid(k, KIND_DOMAIN, "vm-0")));
	kit_until(other, has_progress, &theirs);
	/* nobody is told of his own as somebody else's */
	assert_null(last_foreign(k, false));
	/* the other one cancels it */
	sim_driver.cancel(kit_connection(other), theirs);
	assert_int_equal(kit_result(k, token)->failure.error, VIREO_CANCELLED);
	f = until_foreign(other, true);
	assert_true(f->token == theirs && f->failure.error == VIREO_CANCELLED);
	kit_close(other);
	kit_close(k);
}

static void test_somebody_else(void **state)
{
	static const struct {
		const char *how;
		enum vireo_error error;
	} ends[] = {
		{"done", VIREO_OK},
		{"cancel", VIREO_CANCELLED},
		{"fail", VIREO_OPERATION_FAILED},
		{"vanish", VIREO_OUTCOME_UNKNOWN},
	};
	struct sim_kit *k = house_open("{" ONE_DOMAIN "}");
	const struct foreign *f;
	uint64_t token;

	for (size_t i = 0; i < ELEMENTS(ends); i++) {
		_cleanup_(freep) char *end = NULL;

		kit_clear(k);
		house_steps(k, "{'do': 'begin', 'domain': 'd', 'operation': 'Domain.Dump', 'text': '/c'}");
		f = until_foreign(k, false);
		token = f->token;
		assert_int_equal(f->operation, OP_DOMAIN_DUMP);
		assert_true(asprintf(&end, "{'do': 'end', 'domain': 'd', 'operation': 'Domain.Dump', 'how': '%s'}", ends[i].how) > 0);
		house_steps(k, end);
		f = until_foreign(k, true);
		assert_true(f->token == token);
		assert_int_equal(f->failure.error, ends[i].error);
		house_steps(k, "{'do': 'wait-idle'}");
		kit_assert_listed_truth(k);
	}
	/* a copy, completed by us */
	kit_clear(k);
	{
		_cleanup_(freep) char *text = strdup("{\"do\": \"begin\", \"domain\": \"d\", \"operation\": \"Domain.BlockCopy\", "
						     "\"text\": \"vda\", \"text2\": \"<disk><source file='/x'/></disk>\", \"duration\": 5}");

		assert_string_equal(kit_steps(k, text), "");
	}
	f = until_foreign(k, false);
	token = f->token;
	assert_string_equal(f->subject, "vda");
	kit_until(k, is_ready, &token);
	sim_driver.complete(kit_connection(k), token);
	assert_int_equal(until_foreign(k, true)->failure.error, VIREO_OK);
	/* what cannot be cancelled goes on; what is not known is nobody's */
	kit_clear(k);
	house_steps(k, "{'do': 'begin', 'domain': 'd', 'operation': 'Domain.Save', 'text': '/s', 'cancellable': false}");
	token = until_foreign(k, false)->token;
	sim_driver.cancel(kit_connection(k), token);
	sim_driver.cancel(kit_connection(k), FOREIGN_TOKEN | 4711);
	sim_driver.complete(kit_connection(k), token);
	house_steps(k, "{'do': 'end', 'domain': 'd'}");
	assert_int_equal(until_foreign(k, true)->failure.error, VIREO_OK);
	assert_string_equal(house_try(k, "{'do': 'end', 'domain': 'd'}"), "NotFound");
	kit_close(k);
}

/* Who began it loses the connection: it goes on, and is found again. */
static void test_found_again(void **state)
{
	struct sim_kit *k = house_open("{" ONE_DOMAIN ", 'operations': {'Domain.Save': {" HOUR "}}}");
	const struct foreign *f;
	uint64_t token = begin(k, OP_DOMAIN_SAVE, "/s", NULL, NULL);

	kit_until(k, has_progress, &token);
	house_steps(k, "{'do': 'disconnect'}");
	kit_until_goodbye(k);
	kit_reconnect(k);
	kit_until_hello(k);
	f = until_foreign(k, false);
	assert_int_equal(f->operation, OP_DOMAIN_SAVE);
	token = f->token;
	kit_until(k, has_progress, &token);
	house_steps(k, "{'do': 'end', 'domain': 'd'}");
	assert_int_equal(until_foreign(k, true)->failure.error, VIREO_OK);
	kit_assert_listed_truth(k);
	kit_close(k);
}

/* ---- closing --------------------------------------------------------------------------------------------------------- */

/* Closed in the middle of all of them: nothing hangs, and nothing is left behind (the sanitizers see). */
static void test_close_in_the_middle(void **state)
{
	for (size_t i = 0; i < ELEMENTS(lasting); i++) {
		struct sim_kit *k;

		k = open_ruled(lasting[i].name, HOUR);
		begin(k, lasting[i].operation, lasting[i].text, lasting[i].text2, lasting[i].options);
		house_steps(k, "{'do': 'wait', 'ms': 5}");
		kit_close(k);
		assert_int_equal(sim_shutdown(20 * USEC_PER_SEC), 0);
	}
}

/* ---- a storm of them ------------------------------------------------------------------------------------------------- */

struct count {
	uint64_t last;
	size_t results;
};

static bool all_ended(struct sim_kit *k, void *data)
{
	struct count *c = data;
	size_t n = 0;

	for (size_t i = 0; i < kit_count(k); i++)
		n += kit_report(k, i)->type == REPORT_RESULT;
	c->results = n;
	return n == c->last;
}

/*
 * Many at once, cancelled, completed and destroyed at random, with others of somebody else's between them: each has exactly
 * one result, and progress only before that.
 */
static void test_storm(void **state)
{
	static const enum operation operations[] = {
		OP_DOMAIN_SAVE, OP_DOMAIN_DUMP, OP_DOMAIN_BLOCK_COPY, OP_DOMAIN_BLOCK_PULL, OP_DOMAIN_MANAGED_SAVE, OP_DOMAIN_START,
		OP_DOMAIN_DESTROY, OP_DOMAIN_SUSPEND, OP_DOMAIN_RESUME, OP_DOMAIN_MIGRATE, OP_DOMAIN_BLOCK_COMMIT,
	};
	const char *given = getenv("SIM_SEED");
	unsigned seed = given ? (unsigned)atoi(given) : (unsigned)getpid();
	struct sim_kit *k = house_open(
		"{'domains': [{'name': 'd-%', 'count': 8, 'share-active': 1}], 'operations': {"
		"'Domain.Save': {'duration': 5, 'progress': 1}, 'Domain.Dump': {'duration': 3, 'progress': 1, 'fail': 0.3, 'fail-at': 0.5},"
		"'Domain.BlockCopy': {'duration': 4, 'progress': 1}, 'Domain.BlockPull': {'duration': 8, 'progress': 2},"
		"'Domain.Migrate': {'duration': 6, 'progress': 1}, 'Domain.Suspend': {'duration': 1}}}");
	uint64_t first = 1, last = 0, foreign[64] = {0};
	size_t n_foreign = 0, ended = 0;
	struct count count;

	print_message("a storm of jobs, seed %u\n", seed);
	srand(seed);
	for (int i = 0; i < 2000; i++) {
		char name[16];
		struct request *r;

		snprintf(name, sizeof(name), "d-%d", rand() % 8);
		r = kit_request(k, operations[(unsigned)rand() % ELEMENTS(operations)], name, NULL);
		if (r->operation == OP_DOMAIN_SAVE || r->operation == OP_DOMAIN_DUMP)
			r->text = strdup("/file");
		else if (r->operation == OP_DOMAIN_MIGRATE)
			r->text = strdup("sim:///empty?world=storm");
		else
			r->text = strdup("vda");
		if (r->operation == OP_DOMAIN_BLOCK_COPY)
			r->text2 = strdup(COPY);
		last = kit_begin(k, r);
		if (rand() % 3 == 0)
			sim_driver.cancel(kit_connection(k), first + (uint64_t)rand() % last);
		if (rand() % 3 == 0)
			sim_driver.complete(kit_connection(k), first + (uint64_t)rand() % last);
		if (rand() % 10 == 0) {
			char step[256];

			snprintf(step, sizeof(step),
				 "{\"do\": \"begin\", \"domain\": \"%s\", \"operation\": \"%s\", \"text\": \"%s\", \"duration\": %d, "
				 "\"may-fail\": true}",
				 name, rand() % 2 ? "Domain.Dump" : "Domain.BlockPull", rand() % 2 ? "/x" : "vda", rand() % 20);
			kit_steps_begin(k, step);
		}
		if (rand() % 16 == 0)
			kit_steps(k, "{\"do\": \"wait\", \"us\": 300}");
	}
	/* what is ready waits for ever */
	count.last = last;
	for (uint64_t token = 1; token <= last; token++)
		sim_driver.cancel(kit_connection(k), token);
	kit_until(k, all_ended, &count);
	for (size_t i = 0; i < kit_count(k); i++) {
		const struct report *r = kit_report(k, i);

		/* kit_result() fails when there are two */
		if (r->type == REPORT_RESULT)
			assert_true(r->result.token >= 1 && r->result.token <= last);
		if (r->type != REPORT_FOREIGN)
			continue;
		if (!r->foreign.ended && n_foreign < ELEMENTS(foreign))
			foreign[n_foreign++] = r->foreign.token;
		ended += r->foreign.ended;
	}
	for (uint64_t token = 1; token <= last; token++)
		kit_result(k, token);
	/* nothing is told of what is over */
	for (size_t i = 0; i < kit_count(k); i++)
		if (kit_report(k, i)->type == REPORT_RESULT)
			for (size_t j = i + 1; j < kit_count(k); j++)
				if (kit_report(k, j)->type == REPORT_PROGRESS &&
				    kit_report(k, j)->progress.token == kit_report(k, i)->result.token)
					fail_msg("progress of %llu after its end", (unsigned long long)kit_report(k, i)->result.token);
	for (size_t i = 0; i < n_foreign; i++)
		sim_driver.cancel(kit_connection(k), foreign[i]);
	house_steps(k, "[{'do': 'wait-jobs'}, {'do': 'wait-guests'}, {'do': 'wait-idle'}]");
	kit_assert_listed_truth(k);
	kit_close(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cancel_halfway), cmocka_unit_test(test_fail_halfway), cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_ready),	       cmocka_unit_test(test_bandwidth),    cmocka_unit_test(test_unbounded),
		cmocka_unit_test(test_foreign),	       cmocka_unit_test(test_somebody_else), cmocka_unit_test(test_found_again),
		cmocka_unit_test(test_close_in_the_middle), cmocka_unit_test(test_storm),
	};

	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
