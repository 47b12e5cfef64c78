/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "history-kit.h"
#include "util/log.h"
#include "util/vdict.h"
#include "util/writer.h"

/* What an honest day brings: append, commit, read, restart. How it ends badly is in test-history-crash.c. */

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

static void test_fresh(void **state)
{
	struct kit *k = *state;
	struct stat st;
	char *path;

	kit_open(k);
	assert_int_equal(strlen(history_epoch(k->history)), 32);
	assert_int_equal(strspn(history_epoch(k->history), "0123456789abcdef"), 32);
	assert_int_equal(history_version(k->history), 0);
	assert_int_equal(history_oldest(k->history), 1);
	assert_int_equal(kit_count(k, 0), 0);
	assert_false(history_degraded(k->history));
	/* XML tells about a host what others shouldn't know. */
	path = kit_path(k, "vireo.db");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	free(path);
}

static void test_read(void **state)
{
	struct kit *k = *state;
	struct failure f = {0};

	kit_open(k);
	for (unsigned i = 0; i < 10; i++)
		kit_event_xml(k, i % 3, 100);
	/* Nothing is to be seen before it is committed. */
	assert_int_equal(kit_count(k, 0), 0);
	history_commit(k->history);
	assert_int_equal(kit_count(k, 0), 10);
	assert_int_equal(kit_count(k, 7), 3);
	assert_int_equal(kit_count(k, 10), 0);
	assert_int_equal(history_read(k->history, 11, NULL, NULL, &f), VIREO_FUTURE_VERSION);
	assert_int_equal(history_read(k->history, UINT64_MAX, NULL, NULL, &f), VIREO_FUTURE_VERSION);
	assert_non_null(f.message);
	failure_clear(&f);
}

struct choosy {
	unsigned asked, given, enough;
	int answer;
	uint64_t last;
};

static bool wants(enum kind kind, const char *path, const char *connection, const char *name, void *userdata)
{
	struct choosy *c = userdata;

	assert_int_equal(kind, KIND_DOMAIN);
	assert_non_null(connection);
	assert_non_null(name);
	c->asked++;
	return strcmp(path, "/org/vireo1/connection/test/domain/_1") == 0;
}

static int choose(struct event *e, void *userdata)
{
	struct choosy *c = userdata;

	kit_check(e);
	if (c->given == c->enough)
		return c->answer;
	c->given++;
	c->last = e->version;
	return HISTORY_MORE;
}

/* The same questions, to the newest events in memory and to those that only the database has. */
static void ask(struct kit *k)
{
	struct choosy c = {.enough = 1000000};
	struct history_query q = {.scan = 50, .wants = wants, .fn = choose, .userdata = &c};
	struct failure f = {0};
	uint64_t reached = 0, version = history_version(k->history);
	unsigned rounds = 0;

	/* Bounded: never more than scan at once, and together everything once. */
	do {
		unsigned before = c.asked;

		assert_int_equal(history_read_some(k->history, &q, &reached, &f), 0);
		assert_true(c.asked - before <= 50);
		assert_true(reached > q.after);
		q.after = reached;
		rounds++;
	} while (reached < version);
	assert_int_equal(c.asked, 160);
	assert_int_equal(c.given, 10);
	assert_true(rounds <= 5);

	/* Whoever can't take one gets it again. */
	c = (struct choosy){.enough = 3, .answer = HISTORY_NOT_THIS};
	q.after = 0;
	q.scan = SIZE_MAX;
	assert_int_equal(history_read_some(k->history, &q, &reached, &f), 0);
	assert_int_equal(c.given, 3);
	assert_true(reached >= c.last);
	q.after = reached;
	c.enough = 4;
	assert_int_equal(history_read_some(k->history, &q, &reached, &f), 0);
	assert_int_equal(c.given, 4);

	c = (struct choosy){.enough = 3, .answer = -ENOBUFS};
	q.after = 0;
	assert_int_equal(history_read_some(k->history, &q, &reached, &f), -ENOBUFS);

	c = (struct choosy){.enough = 3, .answer = HISTORY_ENOUGH};
	assert_int_equal(history_read_some(k->history, &q, &reached, &f), 0);
	q.after = reached;
	c.enough = 1000000;
	assert_int_equal(history_read_some(k->history, &q, &reached, &f), 0);
	assert_int_equal(c.given, 9); /* the fourth was taken, though not counted */
}

/* Properties and details of all events, however they come. */
static int put_into_words(struct event *e, void *userdata)
{
	struct writer *w = userdata;

	assert_true((e->words.props != NULL) == (e->props == NULL));
	if (e->words.props) {
		write_bytes(w, e->words.props, e->words.props_size);
		write_bytes(w, e->words.details, e->words.details_size);
	} else {
		props_write(w, e->props);
		vdict_write(w, e->details);
	}
	return HISTORY_MORE;
}

static void test_words(void **state)
{
	struct kit *k = *state;
	struct writer made = {0}, parsed = {0}, words = {0};
	struct history_query q = {.scan = SIZE_MAX, .fn = put_into_words};
	struct failure f = {0};
	uint64_t reached;

	kit_open(k);
	kit_events(k, 100, 7);
	q.userdata = &made;
	assert_int_equal(history_read_some(k->history, &q, &reached, &f), 0);
	kit_close(k);
	kit_open(k);
	q.userdata = &parsed;
	assert_int_equal(history_read_some(k->history, &q, &reached, &f), 0);
	q.userdata = &words;
	q.words = true;
	assert_int_equal(history_read_some(k->history, &q, &reached, &f), 0);
	assert_true(made.size > 100 * 100);
	assert_int_equal(made.size, words.size);
	assert_memory_equal(made.data, words.data, words.size);
	assert_int_equal(parsed.size, words.size);
	assert_memory_equal(parsed.data, words.data, words.size);
	writer_clear(&made);
	writer_clear(&parsed);
	writer_clear(&words);
	kit_close(k);
}

static void test_read_some(void **state)
{
	struct kit *k = *state;

	kit_open(k);
	kit_events(k, 160, 7);
	ask(k);
	kit_close(k);
	kit_open(k); /* memory is empty now */
	ask(k);
}

static void test_restart(void **state)
{
	struct kit *k = *state;
	char epoch[33];

	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 100, 10);
	kit_close(k);
	for (unsigned i = 1; i <= 3; i++) {
		kit_open(k);
		assert_string_equal(history_epoch(k->history), epoch);
		assert_int_equal(history_version(k->history), 99 + i);
		assert_int_equal(history_oldest(k->history), 1);
		assert_int_equal(kit_count(k, 0), 99 + i);
		kit_load(k);
		assert_int_equal(k->last[15], 96);
		assert_int_equal(kit_event(k, 0), 100 + i);
		history_commit(k->history);
		assert_int_equal(kit_count(k, 95), 5 + i);
		kit_close(k);
	}
	/* A version that was given for nothing is not given again. */
	kit_open(k);
	assert_int_equal(history_next(k->history), 104);
	kit_close(k);
	kit_open(k);
	assert_int_equal(history_next(k->history), 105);
	/* On another boot too: it was closed. */
	kit_close(k);
	k->config.boot_id = BOOT_TWO;
	kit_open(k);
	assert_int_equal(history_next(k->history), 106);
	assert_int_equal(history_oldest(k->history), 1);
	assert_int_equal(kit_count(k, 0), 103);
}

/* ---- objects ------------------------------------------------------------------------------------------------------ */

struct found {
	unsigned n;
	struct history_object objects[8];
	char *strings[8];
};

static int find(const struct history_object *o, void *userdata)
{
	struct found *found = userdata;

	assert_true(found->n < 8);
	found->objects[found->n] = *o;
	assert_true(asprintf(&found->strings[found->n], "%s %s %s", o->path, o->connection, o->extra ? o->extra : "-") > 0);
	props_ref(o->props);
	text_ref(o->xml);
	text_ref(o->xml_inactive);
	found->n++;
	return 0;
}

static void found_clear(struct found *found)
{
	for (unsigned i = 0; i < found->n; i++) {
		free(found->strings[i]);
		props_unref(found->objects[i].props);
		text_unref(found->objects[i].xml);
		text_unref(found->objects[i].xml_inactive);
	}
	found->n = 0;
}

static void test_objects(void **state)
{
	struct kit *k = *state;
	struct props *domain = props_new(KIND_DOMAIN), *job = props_new(KIND_JOB), *connection = props_new(KIND_CONNECTION);
	struct text *xml = text_new("<domain/>"), *same = text_new("<domain/>"), *inactive = text_new("<domain>2</domain>");
	struct found found = {0};

	kit_open(k);
	props_set_s(domain, DOMAIN_NAME, "a");
	job->v[JOB_REMAINING_TIME].t = USEC_UNKNOWN;
	assert_int_equal(history_put(k->history, KIND_JOB, "/j", "/c", 3, 3, job, NULL, NULL, NULL), 0);
	assert_int_equal(history_put(k->history, KIND_DOMAIN, "/c/a", "/c", history_next(k->history), 1, domain, xml,
				     inactive, NULL), 0);
	assert_int_equal(history_put(k->history, KIND_DOMAIN, "/c/b", "/c", history_next(k->history), 2, domain, same, NULL,
				     "{\"x\":1}"), 0);
	assert_int_equal(history_put(k->history, KIND_CONNECTION, "/c", "/c", history_next(k->history), 0, connection, NULL,
				     NULL, "{\"uri\":\"sim:\"}"), 0);
	assert_int_equal(history_put(k->history, KIND_DOMAIN, "/c/never", "/c", 1, 1, domain, NULL, NULL, NULL), 0);
	assert_int_equal(history_forget(k->history, "/c/never"), 0);
	assert_int_equal(history_forget(k->history, "/c/unknown"), 0);
	history_commit(k->history);
	for (unsigned round = 0; round < 2; round++) {
		kit_close(k);
		kit_open(k);
		assert_int_equal(history_load(k->history, find, &found), 0);
		assert_int_equal(found.n, 4);
		/* Connections first, then in order of appearance within a kind. */
		assert_string_equal(found.strings[0], "/c /c {\"uri\":\"sim:\"}");
		assert_string_equal(found.strings[1], "/c/a /c -");
		assert_string_equal(found.strings[2], "/c/b /c {\"x\":1}");
		assert_string_equal(found.strings[3], "/j /c -");
		assert_int_equal(found.objects[2].version, 2);
		assert_int_equal(found.objects[2].incarnation, 2);
		assert_true(props_equal(found.objects[1].props, domain));
		assert_true(props_equal(found.objects[3].props, job));
		assert_true(found.objects[3].props->v[JOB_REMAINING_TIME].t == USEC_UNKNOWN);
		assert_true(text_equal(found.objects[1].xml, xml));
		assert_true(text_equal(found.objects[1].xml_inactive, inactive));
		assert_ptr_equal(found.objects[1].xml, found.objects[2].xml);
		assert_null(found.objects[2].xml_inactive);
		found_clear(&found);
	}
	/* Gone, and back again in one go: it is there. Gone: it is not. */
	assert_int_equal(history_forget(k->history, "/c/a"), 0);
	assert_int_equal(history_put(k->history, KIND_DOMAIN, "/c/a", "/c", 9, 9, domain, NULL, NULL, NULL), 0);
	assert_int_equal(history_forget(k->history, "/c/b"), 0);
	history_commit(k->history);
	kit_close(k);
	kit_open(k);
	assert_int_equal(history_load(k->history, find, &found), 0);
	assert_int_equal(found.n, 3);
	assert_string_equal(found.strings[1], "/c/a /c -");
	assert_null(found.objects[1].xml);
	assert_int_equal(found.objects[1].incarnation, 9);
	found_clear(&found);
	props_unref(domain);
	props_unref(job);
	props_unref(connection);
	text_unref(xml);
	text_unref(same);
	text_unref(inactive);
}

static void test_memory(void **state)
{
	struct kit *k = *state;
	struct failure f = {0};
	char epoch[33];

	k->config.directory = NULL;
	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	/* More than are held as they are. */
	kit_events(k, 10000, 100);
	assert_int_equal(kit_count(k, 0), 10000);
	assert_int_equal(kit_count(k, 9990), 10);
	kit_close(k);
	kit_open(k);
	assert_string_not_equal(history_epoch(k->history), epoch);
	assert_int_equal(history_version(k->history), 0);
	failure_clear(&f);
}

static void test_big_batch(void **state)
{
	struct kit *k = *state;

	kit_open(k);
	kit_events(k, 10000, 10000);
	assert_int_equal(kit_count(k, 0), 10000);
	assert_int_equal(kit_count(k, 5903), 4097);
	assert_int_equal(kit_count(k, 5904), 4096);
}

/* ---- the place ---------------------------------------------------------------------------------------------------- */

static void test_busy(void **state)
{
	struct kit *k = *state;
	struct history *second = NULL;
	struct failure f = {0};

	kit_open(k);
	assert_int_equal(history_open(&k->config, k->clock, &second, &f), VIREO_BUSY);
	assert_null(second);
	assert_non_null(strstr(f.message, k->directory));
	failure_clear(&f);
	kit_events(k, 10, 1);
	kit_close(k);
	kit_open(k);
	assert_int_equal(kit_count(k, 0), 10);
}

static void test_places(void **state)
{
	struct kit *k = *state;
	struct history *h = NULL;
	struct history_config c = k->config;
	struct failure f = {0};
	char *a = kit_path(k, "a"), *b = kit_path(k, "a/b"), *deep = kit_path(k, "a/b//c/"), *file = kit_path(k, "vireo.db/x");

	assert_int_equal(clock_new_virtual(1, &k->clock), 0);
	/* It makes its way. */
	c.directory = deep;
	assert_int_equal(history_open(&c, k->clock, &h, &f), 0);
	history_close(h);
	kit_remove_directory(deep);
	assert_int_equal(rmdir(b), 0);
	assert_int_equal(rmdir(a), 0);
	free(a);
	free(b);

	/* A file in its way. */
	kit_open(k);
	c.directory = file;
	assert_int_equal(history_open(&c, k->clock, &h, &f), VIREO_OPERATION_FAILED);
	assert_non_null(strstr(f.message, "vireo.db/x"));
	failure_clear(&f);
	c.directory = "/proc/1/nowhere";
	assert_int_equal(history_open(&c, k->clock, &h, &f), VIREO_OPERATION_FAILED);
	assert_non_null(strstr(f.message, "--state-directory"));
	failure_clear(&f);
	free(deep);
	free(file);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(fresh), T(read), T(read_some), T(words), T(restart), T(objects), T(memory), T(big_batch), T(busy),
		T(places),
	};

	(void)log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
