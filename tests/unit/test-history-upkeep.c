/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "history-kit.h"
#include "util/log.h"
#include "util/workers.h"

/* Retention by count, age and size; what goes with the events, and what readers see meanwhile. */

#define HOUR (UINT64_C(3600) * USEC_PER_SEC)

static int setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	kit_make_directory(k);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	struct kit *k = *state;

	if (k->history)
		kit_close(k);
	if (k->directory[0])
		kit_remove_directory(k->directory);
	free(k);
	return 0;
}

/* A second connection, as sqlite3(1) would be. */
static int64_t number(const struct kit *k, const char *sql)
{
	char *path = kit_path(k, "vireo.db");
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;
	int64_t n;

	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	free(path);
	return n;
}

static uint64_t file_size(const struct kit *k, const char *name)
{
	char *path = kit_path(k, name);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	free(path);
	return (uint64_t)st.st_size;
}

/* At every moment: oldest can be followed whole, what is below is Gone. */
static void check_oldest(struct kit *k)
{
	uint64_t oldest = history_oldest(k->history), version = history_version(k->history);

	assert_int_equal(kit_count(k, oldest - 1), version + 1 - oldest);
	if (oldest > 1)
		assert_int_equal(kit_count(k, oldest - 2), -1);
	assert_int_equal(kit_count(k, oldest), version > oldest ? version - oldest : 0);
	assert_int_equal(kit_count(k, version), 0);
}

static void test_count(void **state)
{
	struct kit *k = *state;

	k->config.max_events = 1000;
	kit_open(k);
	for (unsigned i = 0; i < 200; i++) {
		kit_events(k, 50, 25);
		assert_true(history_version(k->history) + 1 - history_oldest(k->history) <= 1000 + 512);
		if (i % 20 == 0)
			check_oldest(k);
	}
	/* A few more than that may stay until somebody looks again. */
	clock_advance(k->clock, HOUR);
	assert_int_equal(history_oldest(k->history), 10000 - 1000 + 1);
	check_oldest(k);
	kit_close(k);
	assert_int_equal(number(k, "SELECT count(*) FROM events"), 1000);
	assert_int_equal(number(k, "SELECT min(version) FROM events"), 9001);

	/* Less is wanted now; objects and versions are not history. */
	k->config.max_events = 10;
	kit_open(k);
	assert_int_equal(history_oldest(k->history), 9001);
	clock_advance(k->clock, USEC_PER_SEC);
	assert_int_equal(history_oldest(k->history), 9991);
	check_oldest(k);
	kit_load(k);
	for (unsigned i = 0; i < 16; i++)
		assert_true(k->last[i] > 9900);
	kit_close(k);
	kit_open(k);
	assert_int_equal(history_oldest(k->history), 9991);
	assert_int_equal(history_version(k->history), 10000);
}

/* A flood in one piece is as much as the loop is given at once. */
static void test_flood(void **state)
{
	struct kit *k = *state;

	k->config.max_events = 500;
	kit_open(k);
	kit_events(k, 20000, 5000);
	check_oldest(k);
	clock_advance(k->clock, HOUR);
	assert_int_equal(history_oldest(k->history), 19501);
	check_oldest(k);
}

static void test_age(void **state)
{
	struct kit *k = *state;

	k->config.max_age = 10 * HOUR;
	kit_open(k);
	kit_events(k, 1000, 100);
	clock_advance(k->clock, 6 * HOUR);
	kit_events(k, 500, 100);
	assert_int_equal(history_oldest(k->history), 1);
	/* Nobody does anything: it goes all the same, soon after its time. */
	clock_advance(k->clock, 4 * HOUR - 61 * USEC_PER_SEC);
	assert_int_equal(history_oldest(k->history), 1);
	clock_advance(k->clock, 122 * USEC_PER_SEC);
	assert_int_equal(history_oldest(k->history), 1001);
	check_oldest(k);
	clock_advance(k->clock, 100 * HOUR);
	assert_int_equal(history_oldest(k->history), 1501);
	assert_int_equal(kit_count(k, 1500), 0);
	assert_int_equal(kit_count(k, 1499), -1);
	kit_close(k);
	kit_open(k);
	assert_int_equal(history_oldest(k->history), 1501);
	assert_int_equal(history_version(k->history), 1500);
	kit_events(k, 1, 1);
	check_oldest(k);

	/* The clock goes back a year: nothing is too old for that, and nothing breaks. */
	clock_step_realtime(k->clock, -(int64_t)(365 * 24 * HOUR));
	kit_events(k, 1000, 100);
	check_oldest(k);
	assert_int_equal(history_oldest(k->history), 1501);
}

static void test_bytes(void **state)
{
	struct kit *k = *state;

	k->config.max_bytes = 2 << 20;
	kit_open(k);
	for (unsigned i = 0; i < 10000; i++) {
		kit_event_xml(k, i % 16, 1000);
		if (i % 20 == 19)
			history_commit(k->history);
		if (i % 1000 == 999)
			clock_advance(k->clock, USEC_PER_SEC);
	}
	clock_advance(k->clock, USEC_PER_SEC);
	check_oldest(k);
	assert_true(history_version(k->history) - history_oldest(k->history) > 300);
	kit_close(k);
	/* The file, too, not only what is in it; a slice or two more is no sin. */
	assert_true(file_size(k, "vireo.db") < 3 << 20);

	/* Too little for anything: a few stay. */
	k->config.max_bytes = 1;
	kit_open(k);
	clock_advance(k->clock, USEC_PER_SEC);
	assert_int_equal(history_version(k->history) - history_oldest(k->history), 255);
	check_oldest(k);
}

/* XML goes with the last that refers to it, and not before. */
static void test_texts(void **state)
{
	struct kit *k = *state;
	int64_t n;

	k->config.max_events = 100;
	kit_open(k);
	/* 16 that stay as they are, while others change. */
	for (unsigned i = 0; i < 16; i++)
		kit_event_xml(k, i, 500);
	history_commit(k->history);
	for (unsigned i = 0; i < 5000; i++) {
		kit_event_xml(k, i % 4, 300);
		if (i % 10 == 9)
			history_commit(k->history);
	}
	clock_advance(k->clock, HOUR);
	check_oldest(k);
	kit_close(k);
	assert_int_equal(number(k, "SELECT count(*) FROM events"), 100);
	/*
	 * 100 of the events (of which 4 are the objects' too), 12 of objects alone, 16 inactive ones. Those that were
	 * replaced in the batch that the oldest event is of stay a little longer.
	 */
	n = number(k, "SELECT count(*) FROM xml");
	assert_in_range(n, 100 + 12 + 16, 100 + 12 + 16 + 10);
	assert_int_equal(number(k, "SELECT count(*) FROM xml_data"), n);
	assert_int_equal(number(k, "SELECT count(*) FROM objects WHERE xml NOT IN (SELECT id FROM xml_data)"), 0);
	assert_int_equal(number(k, "SELECT count(*) FROM events WHERE xml NOT IN (SELECT id FROM xml_data)"), 0);

	/* What comes back is found again, and what an object had is freed when it is gone. */
	kit_open(k);
	kit_load(k);
	for (unsigned i = 0; i < 16; i++)
		kit_removed(k, i);
	history_commit(k->history);
	kit_events(k, 300, 10);
	for (unsigned i = 0; i < 16; i++)
		kit_removed(k, i);
	kit_events(k, 300, 10);
	clock_advance(k->clock, HOUR);
	check_oldest(k);
	kit_close(k);
	assert_int_equal(number(k, "SELECT count(*) FROM xml"), 0);
	assert_int_equal(number(k, "SELECT count(*) FROM xml_data"), 0);
}

/* The file gives room back, in slices. */
static void test_vacuum(void **state)
{
	struct kit *k = *state;
	uint64_t before;

	kit_open(k);
	kit_events(k, 30000, 100);
	kit_close(k);
	before = file_size(k, "vireo.db");
	assert_true(before > 10 << 20);
	k->config.max_events = 100;
	kit_open(k);
	clock_advance(k->clock, 60 * USEC_PER_SEC);
	check_oldest(k);
	kit_close(k);
	assert_true(file_size(k, "vireo.db") < 5 << 20);
}

/* ---- readers ------------------------------------------------------------------------------------------------------ */

struct reader {
	uint64_t position, seen, gone;
	unsigned pace;
	bool slow;
};

static int see(struct event *e, void *userdata)
{
	struct reader *r = userdata;

	kit_check(e);
	/* Versions are contiguous here: one that is missing was skipped in silence. */
	assert_int_equal(e->version, r->position + 1);
	r->position = e->version;
	r->seen++;
	return HISTORY_MORE;
}

static void test_slow_readers(void **state)
{
	struct kit *k = *state;
	struct reader readers[] = {{.pace = 1}, {.pace = 7}, {.pace = 100}, {.pace = 0}};

	k->config.max_events = 6000;
	kit_open(k);
	for (unsigned turn = 0; turn < 1500; turn++) {
		kit_events(k, 20, 20);
		for (size_t i = 0; i < ELEMENTS(readers); i++) {
			struct reader *r = &readers[i];
			struct history_query q = {.after = r->position, .scan = r->pace, .xml = true, .fn = see, .userdata = r};
			struct failure f = {0};
			uint64_t reached;
			int rc;

			if (r->pace == 0)
				continue; /* stopped */
			rc = history_read_some(k->history, &q, &reached, &f);
			if (rc == VIREO_GONE) {
				assert_true(r->position + 1 < history_oldest(k->history));
				r->position = history_oldest(k->history) - 1;
				r->gone++;
				failure_clear(&f);
			} else {
				assert_int_equal(rc, 0);
				assert_int_equal(reached, r->position);
			}
		}
	}
	/* One that keeps up loses nothing; one that doesn't is told so; nobody holds anything. */
	assert_int_equal(readers[2].seen, 30000);
	assert_int_equal(readers[2].gone, 0);
	assert_true(readers[0].gone > 0 && readers[0].seen > 1000);
	assert_int_equal(kit_count(k, readers[3].position), -1);
	/* However the threads were scheduled, the log has begun anew meanwhile: 30,000 events alone are over 20 MB. */
	kit_close(k);
	assert_true(workers_wait_all(10 * USEC_PER_SEC) == 0);
	assert_int_equal(file_size(k, "vireo.db-wal"), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(count), T(flood), T(age), T(bytes), T(texts), T(vacuum), T(slow_readers),
	};

	(void)log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
