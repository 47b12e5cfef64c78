/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "broker/event.h"
#include "util/utf8.h"
#include "util/vdict.h"
#include "util/writer.h"

static struct props *parse(enum kind kind, const char *text, int *ret)
{
	struct json_object *o = json_tokener_parse(text);
	struct props *p = NULL;

	*ret = props_from_json(kind, o, &p);
	json_object_put(o);
	return p;
}

static char *print(const struct props *p)
{
	struct writer w = {0};
	char *s;

	props_write(&w, p);
	assert_false(w.failed);
	s = strndup(w.data, w.size);
	writer_clear(&w);
	return s;
}

/* The tables, one line a kind, copied by hand from doc/contract.md. */
static void test_schema(void **state)
{
	static const char *const expected[] = {
		[KIND_CONNECTION] = "Connection URI:s Driver:s State:s Hostname:s HypervisorVersion:s SupportedEvents:as "
				    "SupportedOperations:as SameAs:ao Error:s Version:t",
		[KIND_DOMAIN] = "Domain Name:s UUID:s Title:s Description:s OSType:s ID:i Connection:o State:s Reason:s "
				"Active:b Persistent:b Autostart:b HasManagedSave:b MaxMemory:t Memory:t VCPUs:u Jobs:ao "
				"Incarnation:t Version:t",
		[KIND_POOL] = "StoragePool Name:s UUID:s Type:s Connection:o State:s Active:b Persistent:b Autostart:b "
			      "Capacity:t Allocation:t Available:t Jobs:ao Incarnation:t Version:t",
		[KIND_NETWORK] = "Network Name:s UUID:s Type:s Connection:o State:s Active:b Persistent:b "
				 "Autostart:b Bridge:s Jobs:ao Incarnation:t Version:t",
		[KIND_JOB] = "Job Object:o Operation:s Type:s State:s RunningTime:t RemainingTime:t Percent:d BytesTotal:t "
			     "BytesDone:t Ready:b Cancellable:b CancelRequested:b StartedBy:u Error:(ss) Version:t",
	};

	for (int kind = 0; kind < KIND_MAX; kind++) {
		char is[1024];
		size_t n;
		const struct prop_def *d = props_schema((enum kind)kind, &n);

		strcpy(is, kind_interface((enum kind)kind));
		for (size_t i = 0; i < n; i++)
			sprintf(is + strlen(is), " %s:%s", d[i].name, d[i].type);
		assert_string_equal(is, expected[kind]);
	}
}

static void test_empty(void **state)
{
	for (int kind = 0; kind < KIND_MAX; kind++) {
		struct props *p = props_new((enum kind)kind), *q;
		char *text = print(p), *again;
		int r;

		q = parse((enum kind)kind, text, &r);
		assert_int_equal(r, 0);
		assert_true(props_equal(p, q));
		again = print(q);
		assert_string_equal(text, again);
		free(text);
		free(again);
		props_unref(p);
		props_unref(q);
	}
}

static void test_values(void **state)
{
	static const char *const jobs[] = {"/org/vireo1/job/_7", "/org/vireo1/job/_9", NULL};
	struct props *p = props_new(KIND_DOMAIN), *copy, *q;
	char *text;
	int r;

	assert_int_equal(props_set_s(p, DOMAIN_NAME, "a \"b\"/c\\d \n\x01 \xff é 🐦"), 0);
	assert_true(utf8_is_valid(p->v[DOMAIN_NAME].s));
	assert_int_equal(props_set_as(p, DOMAIN_JOBS, jobs), 0);
	p->v[DOMAIN_ID].i = -1;
	p->v[DOMAIN_ACTIVE].b = true;
	p->v[DOMAIN_MAX_MEMORY].t = UINT64_MAX;
	p->v[DOMAIN_MEMORY].t = (UINT64_C(1) << 63) + 1;
	p->v[DOMAIN_VCPUS].u = UINT32_MAX;
	p->v[DOMAIN_VERSION].t = (UINT64_C(1) << 53) - 1;

	text = print(p);
	/* A size is a number, however large; only times are unknown. */
	assert_non_null(strstr(text, "\"MaxMemory\":18446744073709551615,"));
	assert_non_null(strstr(text, "\"Memory\":9223372036854775809,"));
	q = parse(KIND_DOMAIN, text, &r);
	assert_int_equal(r, 0);
	for (unsigned i = 0; i < DOMAIN_PROP_MAX; i++)
		assert_true(props_value_equal(p, q, i));

	copy = props_copy(p);
	assert_true(props_equal(p, copy));
	copy->v[DOMAIN_VERSION].t++;
	assert_true(props_equal(p, copy));
	assert_false(props_value_equal(p, copy, DOMAIN_VERSION));
	assert_int_equal(props_set_as(copy, DOMAIN_JOBS, NULL), 0);
	assert_false(props_equal(p, copy));
	assert_int_equal(props_set_as(copy, DOMAIN_JOBS, jobs), 0);
	assert_true(props_equal(p, copy));
	assert_int_equal(props_set_s(copy, DOMAIN_TITLE, "x"), 0);
	assert_false(props_equal(p, copy));
	free(text);
	props_unref(p);
	props_unref(q);
	props_unref(copy);
}

static void test_job(void **state)
{
	static const char *const error[] = {"org.vireo1.Error.Busy", "it is busy", NULL};
	const double percents[] = {0, 33.3, 100, 0.1 + 0.2, 1e-9};
	struct props *p = props_new(KIND_JOB), *q;
	char *text;
	int r;

	assert_int_equal(props_set_as(p, JOB_ERROR, error), 0);
	p->v[JOB_RUNNING_TIME].t = 5;
	p->v[JOB_REMAINING_TIME].t = USEC_UNKNOWN;
	for (size_t i = 0; i < ELEMENTS(percents); i++) {
		p->v[JOB_PERCENT].d = percents[i];
		text = print(p);
		assert_non_null(strstr(text, "\"RemainingTime\":null,"));
		if (i == 1)
			assert_non_null(strstr(text, "\"Percent\":33.3,"));
		q = parse(KIND_JOB, text, &r);
		assert_int_equal(r, 0);
		assert_true(q->v[JOB_REMAINING_TIME].t == USEC_UNKNOWN);
		for (unsigned k = 0; k < JOB_PROP_MAX; k++)
			assert_true(props_value_equal(p, q, k));
		free(text);
		props_unref(q);
	}
	/* JSON has no word for these. */
	p->v[JOB_PERCENT].d = NAN;
	text = print(p);
	q = parse(KIND_JOB, text, &r);
	assert_int_equal(r, 0);
	assert_true(q->v[JOB_PERCENT].d == 0);
	free(text);
	props_unref(q);
	props_unref(p);
}

#define NETWORK                                                                                                        \
	"\"Name\":\"n\",\"UUID\":\"u\",\"Type\":\"t\",\"Bridge\":\"b\",\"Connection\":\"/c\",\"State\":\"s\","          \
	"\"Active\":true,\"Persistent\":true,\"Autostart\":false,\"Jobs\":[],\"Incarnation\":1"

static void test_bad(void **state)
{
	static const char *const bad[] = {
		"[]",
		"{}",
		"{" NETWORK "}",		       /* a member is missing */
		"{" NETWORK ",\"Version\":\"1\"}",    /* of another type */
		"{" NETWORK ",\"Version\":-1}",
		"{" NETWORK ",\"Version\":null}",     /* not a time */
		"{" NETWORK ",\"Version\":1.5}",
		"{" NETWORK ",\"Version\":1,\"Name\":null}",
		"{" NETWORK ",\"Version\":1,\"Name\":\"a\\u0000b\"}",
		"{" NETWORK ",\"Version\":1,\"Jobs\":[1]}",
		"{" NETWORK ",\"Version\":1,\"Jobs\":\"/a\"}",
		"{" NETWORK ",\"Version\":1,\"Active\":1}",
	};
	struct props *p;
	int r;

	p = parse(KIND_NETWORK, "{" NETWORK ",\"Version\":1,\"Tomorrow\":{}}", &r);
	assert_int_equal(r, 0);
	props_unref(p);
	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		p = parse(KIND_NETWORK, bad[i], &r);
		assert_int_equal(r, -EINVAL);
		assert_null(p);
	}
	assert_int_equal(props_from_json(KIND_NETWORK, NULL, &p), -EINVAL);
}

/* What props_read() makes of a text is what json-c and props_from_json() make of it. */
static void read_both_ways(enum kind kind, const char *text, size_t size)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *o = json_tokener_parse_ex(tokener, text, (int)size);
	struct props *slow = NULL, *fast = NULL;
	int r = o ? props_from_json(kind, o, &slow) : -EINVAL;

	json_tokener_free(tokener);
	json_object_put(o);
	assert_int_equal(props_read(kind, text, size, &fast), r);
	if (r == 0) {
		_cleanup_(freep) char *a = print(slow), *b = print(fast);

		assert_true(props_equal(slow, fast));
		assert_string_equal(a, b);
	}
	props_unref(slow);
	props_unref(fast);
}

static void fill(struct props *p, unsigned *seed)
{
	static const char *const words[] = {"", "/", "web", "a \"b\" \\ c", "\n\t\b\f\r", "\x01\x1f\x7f", "\xc3\xa4\xf0\x9f\x98\x80", "{}[],:"};
	static const uint64_t numbers[] = {0, 1, 10, INT32_MAX, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX};
	size_t n;
	const struct prop_def *schema = props_schema(p->kind, &n);

	for (unsigned i = 0; i < n; i++) {
		const char *list[] = {words[rand_r(seed) % ELEMENTS(words)], "x", NULL};

		switch (schema[i].type[0]) {
		case 's':
		case 'o':
			assert_int_equal(props_set_s(p, i, list[0]), 0);
			break;
		case 'a':
			if (rand_r(seed) % 4 == 0)
				assert_int_equal(props_set_as(p, i, list), 0);
			break;
		case '(':
			assert_int_equal(props_set_as(p, i, list), 0);
			break;
		case 'b':
			p->v[i].b = rand_r(seed) % 2;
			break;
		case 'i':
			p->v[i].i = (int32_t)numbers[rand_r(seed) % ELEMENTS(numbers)];
			break;
		case 'u':
			p->v[i].u = (uint32_t)numbers[rand_r(seed) % ELEMENTS(numbers)];
			break;
		case 't':
			p->v[i].t = numbers[rand_r(seed) % ELEMENTS(numbers)];
			break;
		case 'd':
			p->v[i].d = rand_r(seed) % 1000 / 8.0;
			break;
		}
	}
}

static void test_reading(void **state)
{
	static const char letters[] = "{}[],:\"\\0123456789-+.eE \n\x01\x80nulltruefalse/u";
	unsigned seed = 7;

	for (int kind = 0; kind < KIND_MAX; kind++)
		for (unsigned round = 0; round < 300; round++) {
			struct props *p = props_new((enum kind)kind), *q = NULL;
			char *text;
			size_t size;

			fill(p, &seed);
			text = print(p);
			size = strlen(text);
			assert_int_equal(props_read((enum kind)kind, text, size, &q), 0);
			assert_true(props_equal(p, q));
			props_unref(q);
			read_both_ways((enum kind)kind, text, size);
			/* and what a few wrong letters make of it */
			for (unsigned wrong = 0; wrong < 20; wrong++) {
				size_t at = (size_t)rand_r(&seed) % size;
				char was = text[at];

				text[at] = letters[(size_t)rand_r(&seed) % (sizeof(letters) - 1)];
				read_both_ways((enum kind)kind, text, size);
				text[at] = was;
				read_both_ways((enum kind)kind, text, at);
			}
			free(text);
			props_unref(p);
		}
}

static void test_ranges(void **state)
{
	static const struct {
		const char *name, *value;
		bool good;
	} cases[] = {
		{"ID", "-2147483648", true},	{"ID", "2147483647", true}, {"ID", "2147483648", false},
		{"ID", "-2147483649", false},	{"VCPUs", "4294967295", true}, {"VCPUs", "4294967296", false},
		{"VCPUs", "-1", false},		{"Memory", "18446744073709551615", true}, {"Memory", "-5", false},
	};
	struct props *p = props_new(KIND_DOMAIN), *q = NULL;

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_(freep) char *text = print(p);
		struct json_object *o = json_tokener_parse(text);

		json_object_object_add(o, cases[i].name, json_tokener_parse(cases[i].value));
		assert_int_equal(props_from_json(KIND_DOMAIN, o, &q), cases[i].good ? 0 : -EINVAL);
		json_object_put(o);
		props_unref(q);
		q = NULL;
	}
	props_unref(p);
}

static void test_event(void **state)
{
	struct event *e = event_new(KIND_JOB, "/p", NULL, "A\xff", NULL);

	assert_string_equal(e->connection, "/");
	assert_string_equal(e->reason, "");
	assert_true(utf8_is_valid(e->name));
	e->props = props_new(KIND_JOB);
	e->before = props_ref(e->props);
	e->details = vdict_new();
	e->xml = text_new("<domain/>");
	event_ref(e);
	event_unref(e);
	assert_int_equal(e->refs, 1);
	event_unref(e);
	event_unref(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_schema), cmocka_unit_test(test_empty), cmocka_unit_test(test_values),
		cmocka_unit_test(test_job),    cmocka_unit_test(test_bad),   cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_event),  cmocka_unit_test(test_reading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
