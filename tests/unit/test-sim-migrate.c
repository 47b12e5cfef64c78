/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/sim/sim-driver.h"
#include "sim-house.h"
#include "util/log.h"

/* Migration from one simulated hypervisor to another of the same process: what each of them tells, and how it fails. */

#define HOUR "'duration': 3600000, 'progress': 5"

struct pair {
	struct sim_kit *here, *there;
	const char *uri;
};

static void open_pair(struct pair *p, const char *options)
{
	_cleanup_(freep) char *rules = NULL;

	p->here = house_open("{'domains': [{'name': 'd', 'state': 'running', 'memory': 1048576000}]}");
	p->uri = "sim:///empty?world=far";
	p->there = kit_open(p->uri);
	kit_until_hello(p->there);
	kit_clear(p->there);
	if (options) {
		assert_true(asprintf(&rules, "{'do': 'operations', 'operations': {'Domain.Migrate': {%s}}}", options) > 0);
		house_steps(p->here, rules);
	}
}

static void close_pair(struct pair *p)
{
	kit_close(p->there);
	kit_close(p->here);
	sim_shutdown(10 * USEC_PER_SEC);
}

static uint64_t begin(struct pair *p, const char *options)
{
	return kit_begin(p->here, house_request(p->here, OP_DOMAIN_MIGRATE, "d", p->uri, NULL, 0, options));
}

static const struct result *migrate(struct pair *p, const char *options)
{
	kit_clear(p->here);
	kit_clear(p->there);

	const struct result *r = kit_result(p->here, begin(p, options));

	house_steps(p->here, "{'do': 'wait-jobs'}");
	kit_settle(p->here);
	kit_settle(p->there);
	return r;
}

static void test_migrate(void **state)
{
	static const struct {
		const char *options, *here, *there;
	} ways[] = {
		{NULL, "MigrationIteration Suspended(migrated) Stopped(migrated) JobCompleted look[shutoff]! ok",
		 "Started(migrated) Resumed(migrated)"},
		{"{'live': true, 'persistent': true}",
		 "MigrationIteration Suspended(migrated) Stopped(migrated) JobCompleted look[shutoff]! ok",
		 "Started(migrated) Defined(added) Resumed(migrated)"},
		{"{'undefine-source': true, 'persistent': true}",
		 "MigrationIteration Suspended(migrated) Stopped(migrated) JobCompleted look[gone]! ok",
		 "Started(migrated) Defined(added) Resumed(migrated)"},
		{"{'paused': true}", "MigrationIteration Suspended(migrated) Stopped(migrated) JobCompleted look[shutoff]! ok",
		 "Started(migrated) Suspended(paused)"},
		{"{'name': 'other'}", "MigrationIteration Suspended(migrated) Stopped(migrated) JobCompleted look[shutoff]! ok",
		 "Started(migrated) Resumed(migrated)"},
	};

	for (size_t i = 0; i < ELEMENTS(ways); i++) {
		struct pair p;

		open_pair(&p, NULL);
		migrate(&p, ways[i].options);
		house_expect(p.here, ways[i].options, ways[i].here, false);
		house_expect(p.there, ways[i].options, ways[i].there, false);
		kit_assert_listed_truth(p.here);
		kit_assert_listed_truth(p.there);
		assert_false(sd_id128_is_null(kit_uuid(p.there, KIND_DOMAIN, i == 4 ? "other" : "d")));
		close_pair(&p);
	}
}

static void test_postcopy(void **state)
{
	struct pair p;

	open_pair(&p, "'duration': 60, 'progress': 10");
	migrate(&p, "{'postcopy': true}");
	house_expect(p.here, "here", "MigrationIteration MigrationIteration Suspended(migrated) Suspended(postcopy) "
				     "Stopped(migrated) JobCompleted look[shutoff]! ok", false);
	house_expect(p.there, "there", "Started(migrated) Resumed(postcopy) Resumed(migrated)", false);
	close_pair(&p);
}

static void test_offline(void **state)
{
	struct pair p;

	open_pair(&p, NULL);
	house_steps(p.here, "{'do': 'destroy', 'domain': 'd'}");
	kit_settle(p.here);
	migrate(&p, "{'offline': true, 'undefine-source': true}");
	/* gone without a word */
	house_expect(p.here, "here", "look[gone]! ok", false);
	house_expect(p.there, "there", "Defined(added)", false);
	kit_assert_listed_truth(p.here);
	close_pair(&p);
}

static void test_migrate_fails(void **state)
{
	const struct result *r;
	struct pair p;

	/* the name is taken there */
	open_pair(&p, NULL);
	house_steps(p.there, "{'do': 'add', 'domain': {'name': 'd'}, 'silent': true}");
	r = migrate(&p, NULL);
	assert_int_equal(r->failure.error, VIREO_ALREADY_EXISTS);
	house_expect(p.here, "here", "look[running]! error:AlreadyExists", false);
	house_expect(p.there, "there", "", false);
	close_pair(&p);
	/* its disk is missing there */
	open_pair(&p, NULL);
	house_steps(p.there, "{'do': 'missing', 'path': '/var/lib/sim/images'}");
	r = migrate(&p, NULL);
	assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
	assert_non_null(strstr(r->failure.message, "/var/lib/sim/images"));
	close_pair(&p);
	/* it has arrived, and then the other side forgets it: it goes on here */
	open_pair(&p, "'duration': 300, 'progress': 10");
	kit_clear(p.here);
	kit_clear(p.there);
	uint64_t token = begin(&p, NULL);

	house_until_moved(p.here, token);
	house_steps(p.there, "{'do': 'kill', 'domain': 'd'}");
	r = kit_result(p.here, token);
	assert_int_equal(r->failure.error, VIREO_NOT_FOUND);
	house_expect(p.here, "here",
		     "MigrationIteration MigrationIteration Suspended(migrated) Resumed(migrated) look[running]! error:NotFound", false);
	close_pair(&p);
	/* cancelled: it is gone there */
	open_pair(&p, HOUR);
	kit_clear(p.there);
	token = begin(&p, NULL);
	house_until_moved(p.here, token);
	/* it may be paused meanwhile, and nothing else */
	kit_operate(p.here, OP_DOMAIN_SUSPEND, "d", NULL);
	house_expect(p.here, "suspend", "Suspended(paused) look[paused]! ok", false);
	kit_operate(p.here, OP_DOMAIN_RESUME, "d", NULL);
	house_expect(p.here, "resume", "look[paused]! error:Busy", false);
	sim_driver.cancel(kit_connection(p.here), token);
	assert_int_equal(kit_result(p.here, token)->failure.error, VIREO_CANCELLED);
	kit_settle(p.there);
	house_expect(p.there, "there", "Started(migrated) Stopped(failed)", false);
	assert_true(sd_id128_is_null(kit_uuid(p.there, KIND_DOMAIN, "d")));
	close_pair(&p);
}

static void test_migrate_to_itself(void **state)
{
	struct sim_kit *k = kit_open("sim:///1?running=1&world=alone");
	const struct result *r;

	kit_until_hello(k);
	r = kit_operate(k, OP_DOMAIN_MIGRATE, "vm-0", "sim:///1?running=1&world=alone");
	assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
	assert_non_null(strstr(r->failure.message, "this very hypervisor"));
	kit_close(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_migrate),	      cmocka_unit_test(test_postcopy),
		cmocka_unit_test(test_offline),	      cmocka_unit_test(test_migrate_fails),
		cmocka_unit_test(test_migrate_to_itself),
	};

	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
