/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/queue.h"
#include "util/text.h"
#include "util/utf8.h"
#include "util/vdict.h"
#include "util/workers.h"
#include "util/writer.h"

static void utf8_refuses_what_sd_bus_refuses(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = {
		{"", ""},
		{"plain", "plain"},
		{"Grün \xe2\x82\xac \xf0\x9f\x90\xa6", "Grün \xe2\x82\xac \xf0\x9f\x90\xa6"},
		{"a\xff" "b", "a\xef\xbf\xbd" "b"},
		{"\xff\xfe\xfd", "\xef\xbf\xbd"},
		{"\xc0\xaf", "\xef\xbf\xbd"},		   /* overlong */
		{"\xed\xa0\x80x", "\xef\xbf\xbdx"},	   /* surrogate */
		{"\xef\xbf\xbe!", "\xef\xbf\xbd!"},	   /* U+FFFE */
		{"\xef\xb7\x90!", "\xef\xbf\xbd!"},	   /* U+FDD0 */
		{"\xf4\x90\x80\x80", "\xef\xbf\xbd"},	   /* past U+10FFFF */
		{"cut \xe2\x82", "cut \xef\xbf\xbd"},
		{"\xef\xbf\xbd", "\xef\xbf\xbd"},
	};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		char *copy = utf8_dup(table[i].in);

		assert_string_equal(copy, table[i].out);
		assert_int_equal(utf8_is_valid(table[i].in), strcmp(table[i].in, table[i].out) == 0);
		assert_true(utf8_is_valid(copy));
		free(copy);
	}
	/* Whatever comes in: what goes out is valid. */
	srand(7);
	for (int i = 0; i < 20000; i++) {
		char noise[24];
		char *copy;

		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (char)(rand() % 3 ? 0x80 + rand() % 0x80 : rand() % 0x100);
		copy = utf8_dupn(noise, sizeof(noise));
		assert_true(utf8_is_valid(copy));
		free(copy);
	}
}

static void errors_have_names(void **state)
{
	struct failure f = {0};

	for (int e = VIREO_OK + 1; e < VIREO_ERROR_MAX; e++)
		if (e != VIREO_CANCELLED)
			assert_int_equal(vireo_error_from_name(vireo_error_name((enum vireo_error)e)), e);
	assert_string_equal(vireo_error_name((enum vireo_error)999), "org.vireo1.Error.OperationFailed");
	assert_int_equal(failure_set(&f, VIREO_BUSY, "bad \xff byte %d", 1), VIREO_BUSY);
	assert_string_equal(f.message, "bad \xef\xbf\xbd byte 1");
	assert_int_equal(failure_set(&f, VIREO_GONE, "was: %s", f.message), VIREO_GONE);
	assert_string_equal(f.message, "was: bad \xef\xbf\xbd byte 1");
	failure_clear(&f);
}

static void vdict_keeps_types_through_json(void **state)
{
	_cleanup_(vdict_freep) struct vdict *d = vdict_new(), *e = NULL, *c = NULL;
	_cleanup_(freep) char *types = NULL;
	const char *const strings[] = {"x", "y\xff", NULL};
	struct json_object *o, *written;
	struct writer w = {0};

	assert_int_equal(vdict_set_s(d, "s", "v\xfe"), 0);
	assert_int_equal(vdict_set_b(d, "b", true), 0);
	assert_int_equal(vdict_set_i(d, "i", -5), 0);
	assert_int_equal(vdict_set_u(d, "u", UINT32_MAX), 0);
	assert_int_equal(vdict_set_x(d, "x", INT64_MIN), 0);
	assert_int_equal(vdict_set_t(d, "t", UINT64_MAX), 0);
	assert_int_equal(vdict_set_d(d, "d", 0.5), 0);
	assert_int_equal(vdict_set_a(d, "a", strings), 0);
	assert_int_equal(vdict_set_s(d, "b", "was a bool"), 0);
	types = vdict_types(d);
	assert_string_equal(types, "ssiuxtda");
	o = vdict_to_json(d);
	vdict_write(&w, d);
	write_bytes(&w, "", 1);
	written = json_tokener_parse(w.data);
	assert_true(json_object_equal(o, written));
	json_object_put(written);
	writer_reset(&w, SIZE_MAX);
	vdict_write(&w, NULL);
	assert_memory_equal(w.data, "{}", w.size);
	writer_clear(&w);
	c = vdict_copy(d);
	assert_int_equal(vdict_from_json(o, types, &e), 0);
	assert_string_equal(vdict_s(e, "s", NULL), "v\xef\xbf\xbd");
	assert_string_equal(vdict_s(e, "b", NULL), "was a bool");
	assert_true(vdict_t(e, "t", 0) == UINT64_MAX);
	assert_true(vdict_get(e, "x")->x == INT64_MIN);
	assert_int_equal(vdict_u(c, "u", 0), UINT32_MAX);
	assert_string_equal(vdict_get(c, "a")->a[1], "y\xef\xbf\xbd");
	assert_null(vdict_get(c, "a")->a[2]);
	assert_int_equal(vdict_u(e, "t", 3), 3); /* of another type */
	json_object_put(o);

	/* What does not fit together is refused. */
	static const struct {
		const char *json, *types;
	} bad[] = {{"{\"a\":1}", "s"}, {"{\"a\":1}", "uu"}, {"{\"a\":1}", ""}, {"[]", ""}, {"{\"a\":-1}", "u"},
		   {"{\"a\":4294967296}", "u"}, {"{\"a\":[1]}", "a"}, {"{\"a\":\"x\"}", "?"}};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		struct vdict *none = NULL;

		o = json_tokener_parse(bad[i].json);
		assert_int_equal(vdict_from_json(o, bad[i].types, &none), -EINVAL);
		assert_null(none);
		json_object_put(o);
	}
}

/* Against json-c, which knows the rules. */
static void writer_writes_json(void **state)
{
	struct writer w = {0};
	struct json_object *o;
	char all[128 + 8], text[40];
	static const double doubles[] = {0, -0.5, 33.3, 1e300, 1.0 / 3, 100, 5e-324};
	static const int64_t numbers[] = {0, 1, -1, 9, 10, INT64_MAX, INT64_MIN};
	static char *const lists[][4] = {{NULL}, {(char *)"", NULL}, {(char *)"a\"", (char *)"b", (char *)"\xc3\xa4", NULL}};

	/* every letter of ASCII, and what comes before and behind it */
	strcpy(all, "x");
	for (int c = 1; c < 128; c++)
		all[c] = (char)c;
	strcpy(all + 128, "\xc3\xa4\xf0\x9f\x98\x80");
	for (size_t from = 0; all[from]; from++) {
		o = json_object_new_string(all + from);
		writer_reset(&w, SIZE_MAX);
		write_string(&w, all + from);
		write_bytes(&w, "", 1);
		assert_string_equal(w.data, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(o);
	}
	for (size_t i = 0; i < ELEMENTS(numbers); i++) {
		snprintf(text, sizeof(text), "%" PRIi64 "%" PRIu64, numbers[i], (uint64_t)numbers[i]);
		writer_reset(&w, 0);
		assert_null(w.data);
		write_signed(&w, numbers[i]);
		write_number(&w, (uint64_t)numbers[i]);
		write_bytes(&w, "", 1);
		assert_string_equal(w.data, text);
	}
	for (size_t i = 0; i < ELEMENTS(doubles); i++) {
		writer_reset(&w, SIZE_MAX);
		write_double(&w, doubles[i]);
		write_bytes(&w, "", 1);
		assert_true(strtod(w.data, NULL) == doubles[i]);
	}
	writer_reset(&w, SIZE_MAX);
	write_double(&w, 33.3);
	write_double(&w, NAN);
	write_double(&w, INFINITY);
	write_bool(&w, true);
	write_bool(&w, false);
	write_bytes(&w, "", 1);
	assert_string_equal(w.data, "33.300truefalse");
	writer_reset(&w, SIZE_MAX);
	write_literal(&w, "{");
	for (size_t i = 0; i < ELEMENTS(lists); i++) {
		write_key(&w, "list");
		write_strings(&w, lists[i]);
	}
	write_literal(&w, "}");
	write_bytes(&w, "", 1);
	assert_string_equal(w.data, "{\"list\":[],\"list\":[\"\"],\"list\":[\"a\\\"\",\"b\",\"\xc3\xa4\"]}");
	writer_clear(&w);
	/* grows to whatever is asked for, and keeps what it has */
	for (unsigned i = 0; i < 100000; i++)
		write_number(&w, i % 10);
	assert_int_equal(w.size, 100000);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(w.data[i], '0' + i % 10);
	writer_reset(&w, 100);
	assert_null(w.data);
	/* what is too much is noticed, once and for all */
	write_literal(&w, "a");
	write_bytes(&w, NULL, SIZE_MAX - 1000);
	assert_true(w.failed);
	writer_reset(&w, SIZE_MAX);
	assert_false(w.failed);
	writer_clear(&w);
}

static char order[32];

static void note(struct timer *t, void *userdata)
{
	strcat(order, userdata);
}

static void again(struct timer *t, void *userdata)
{
	strcat(order, "r");
	timer_in(t->clock, t, 10, again, userdata);
}

static void virtual_clock_runs_timers_in_order(void **state)
{
	_cleanup_(clock_freep) struct clock *c = NULL;
	struct timer a = {0}, b = {0}, d = {0}, r = {0};
	uint64_t start;

	assert_int_equal(clock_new_virtual(1, &c), 0);
	start = clock_monotonic(c);
	timer_in(c, &a, 30, note, (char *)"a");
	timer_in(c, &b, 10, note, (char *)"b");
	timer_in(c, &d, 10, note, (char *)"d");
	timer_in(c, &r, 12, again, NULL);
	clock_advance(c, 9);
	assert_string_equal(order, "");
	timer_clear(&d);
	clock_advance(c, 30);
	assert_string_equal(order, "brrar"); /* 10 b, 12 r, 22 r, 30 a, 32 r */
	assert_true(clock_monotonic(c) == start + 39);
	clock_step_realtime(c, -1000000);
	assert_true(clock_monotonic(c) == start + 39);
	timer_clear(&r);
	assert_false(a.set || b.set || d.set || r.set);
}

static void real_clock_fires(void **state)
{
	_cleanup_(sd_event_unrefp) sd_event *event = NULL;
	_cleanup_(clock_freep) struct clock *c = NULL;
	struct timer a = {0}, b = {0};

	assert_int_equal(sd_event_new(&event), 0);
	assert_int_equal(clock_new(event, &c), 0);
	order[0] = 0;
	timer_in(c, &b, 2000, note, (char *)"b");
	timer_in(c, &a, 1000, note, (char *)"a");
	while (strlen(order) < 2)
		assert_true(sd_event_run(event, 10 * USEC_PER_SEC) > 0);
	assert_string_equal(order, "ab");
}

/* ---- queue ---- */

struct number {
	struct queue_item item;
	unsigned thread, n;
};
static unsigned got[4], total, most, dropped, batches;

static void on_item(struct queue_item *item, void *userdata)
{
	struct number *n = (struct number *)item;

	assert_int_equal(n->n, got[n->thread]); /* in order of pushing */
	got[n->thread]++;
	total++;
	free(n);
}

static void on_drained(void *userdata)
{
	struct queue **q = userdata;
	unsigned length = (unsigned)queue_length(*q);

	batches++;
	if (length > most)
		most = length;
}

static void on_drop(struct queue_item *item)
{
	__atomic_add_fetch(&dropped, 1, __ATOMIC_RELAXED);
	free(item);
}

static struct queue *queue;

static void *pusher(void *userdata)
{
	for (unsigned i = 0; i < 5000; i++) {
		struct number *n = calloc(1, sizeof(*n));

		n->thread = (unsigned)(uintptr_t)userdata;
		n->n = i;
		queue_push(queue, &n->item);
	}
	return NULL;
}

static const struct queue_ops ops = {.item = on_item, .drained = on_drained, .drop = on_drop};

static void queue_keeps_order_and_bounds(void **state)
{
	_cleanup_(sd_event_unrefp) sd_event *event = NULL;
	pthread_t threads[4];

	assert_int_equal(sd_event_new(&event), 0);
	assert_int_equal(queue_new(event, &ops, &queue, 100, 32, &queue), 0);
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, pusher, (void *)i), 0);
	while (total < 20000)
		assert_true(sd_event_run(event, 60 * USEC_PER_SEC) > 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(most <= 100 + 32);
	assert_true(batches >= 20000 / 32);

	/* Closing sets waiting pushers free, and nothing is lost to anybody but the dropper. */
	memset(got, 0, sizeof(got));
	total = dropped = 0;
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, pusher, (void *)i), 0);
	while (queue_length(queue) < 100)
		sched_yield();
	queue_close(queue);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(total, 0);
	assert_int_equal(dropped, 20000);
	queue_unref(queue);
}

static uint64_t nanoseconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Longer than a turn may take. */
static void on_slow_item(struct queue_item *item, void *userdata)
{
	uint64_t until = nanoseconds() + 10000000;

	while (nanoseconds() < until)
		;
	on_item(item, userdata);
}

/* A batch that takes long ends early, and what is left of it comes first the next time. */
static void queue_lets_go_of_the_loop(void **state)
{
	static const struct queue_ops slow = {.item = on_slow_item, .drained = on_drained, .drop = on_drop};
	_cleanup_(sd_event_unrefp) sd_event *event = NULL;

	memset(got, 0, sizeof(got));
	total = batches = dropped = 0;
	assert_int_equal(sd_event_new(&event), 0);
	assert_int_equal(queue_new(event, &slow, &queue, 100, 32, &queue), 0);
	for (unsigned i = 0; i < 10; i++) {
		struct number *n = calloc(1, sizeof(*n));

		n->n = i;
		queue_push(queue, &n->item);
		/* some of them while others were given back */
		if (i >= 5)
			assert_int_equal(sd_event_run(event, 0), 1);
	}
	assert_int_equal(batches, 5);
	assert_int_equal(total, 5);
	assert_int_equal(queue_length(queue), 5);
	queue_drain(queue);
	assert_int_equal(total, 10);
	assert_int_equal(batches, 10);
	assert_int_equal(sd_event_run(event, 0), 1); /* woken for nothing, once */
	assert_int_equal(sd_event_run(event, 0), 0);
	queue_close(queue);
	assert_int_equal(dropped, 0);
	queue_unref(queue);
}

/* ---- workers ---- */

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate = PTHREAD_COND_INITIALIZER;
static bool open_gate;
static unsigned inside, done, abandoned;

static void blocked(void *data)
{
	pthread_mutex_lock(&gate_lock);
	inside++;
	pthread_cond_broadcast(&gate);
	while (!open_gate)
		pthread_cond_wait(&gate, &gate_lock);
	done++;
	pthread_cond_broadcast(&gate);
	pthread_mutex_unlock(&gate_lock);
}

static void abandon(void *data)
{
	abandoned++;
}

static void workers_run_at_once_and_close_without_blocking(void **state)
{
	struct workers *w = NULL;

	assert_int_equal(workers_new("test", 3, &w), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(workers_submit(w, blocked, NULL), 0);
	pthread_mutex_lock(&gate_lock);
	while (inside < 3)
		pthread_cond_wait(&gate, &gate_lock);
	pthread_mutex_unlock(&gate_lock);
	assert_int_equal(workers_alive(), 3);
	/* All three hang; closing returns all the same, and gives back what never began. */
	workers_close(w, abandon);
	assert_int_equal(abandoned, 2);
	assert_int_equal(workers_wait_all(1000), -ETIMEDOUT);
	pthread_mutex_lock(&gate_lock);
	open_gate = true;
	pthread_cond_broadcast(&gate);
	pthread_mutex_unlock(&gate_lock);
	assert_int_equal(workers_wait_all(60 * USEC_PER_SEC), 0);
	assert_int_equal(done, 3);
}

static void texts_are_equal_by_content(void **state)
{
	_cleanup_(text_unrefp) struct text *a = text_new("<domain/>"), *b = text_new("<domain/>"),
					   *c = text_new("<domain>\xff</domain>");

	assert_true(text_equal(a, b));
	assert_false(text_equal(a, c));
	assert_false(text_equal(a, NULL));
	assert_true(text_equal(NULL, NULL));
	assert_null(text_new(NULL));
	assert_string_equal(c->data, "<domain>\xef\xbf\xbd</domain>");
	assert_int_equal(c->size, strlen(c->data));
	text_unref(text_ref(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(utf8_refuses_what_sd_bus_refuses),
		cmocka_unit_test(errors_have_names),
		cmocka_unit_test(vdict_keeps_types_through_json),
		cmocka_unit_test(writer_writes_json),
		cmocka_unit_test(virtual_clock_runs_timers_in_order),
		cmocka_unit_test(real_clock_fires),
		cmocka_unit_test(queue_keeps_order_and_bounds),
		cmocka_unit_test(queue_lets_go_of_the_loop),
		cmocka_unit_test(workers_run_at_once_and_close_without_blocking),
		cmocka_unit_test(texts_are_equal_by_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
