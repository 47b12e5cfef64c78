/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scenarios: what is wrong is refused by name and place; what is right is there, whatever bytes it is made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/sim/json.h"
#include "drivers/sim/sim-driver.h"
#include "sim-kit.h"
#include "util/log.h"

/* Single quotes for double ones. */
static char *quoted(const char *s)
{
	char *copy = strdup(s);

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	return copy;
}

static int apply(struct sim_world *w, const char *text, struct failure *f)
{
	_cleanup_(freep) char *json = quoted(text);
	struct json_object *j = NULL;
	int r = sim_json_parse(json, strlen(json), "FILE", &j, f);

	if (r == 0)
		r = sim_scenario_apply(w, j, "FILE", f);
	json_object_put(j);
	return r;
}

static const struct {
	const char *text, *message;
} bad[] = {
	{"", "FILE, line 1, column 1: it ends too early"},
	{"{", "FILE, line 1, column 2: it ends too early"},
	{"{\n  'domains': [}\n}", "FILE, line 2, column 15"},
	{"{}\n\n{}", "FILE, line 3, column 1"},
	{"null", "no scenario"},
	{"[]", "FILE: $ is an array; expected an object"},
	{"{'domain': []}", "FILE: $ has the unknown key 'domain'"},
	{"{'domains': {}}", "$.domains is { }; expected an array"},
	{"{'hostname': 3}", "$.hostname is 3; expected a string"},
	{"{'hostname': 'a\\u0000b'}", "without \\u0000"},
	{"{'seed': -1}", "$.seed is -1; expected a whole number, 0 or more"},
	{"{'seed': 1.5}", "whole number"},
	{"{'domains': [3]}", "FILE: $.domains[0] is a number; expected an object"},
	{"{'domains': [{'name': 'a'}, {}]}", "FILE: $.domains[1] lacks the key 'name'"},
	{"{'domains': [{'name': ''}]}", "$.domains[0].name is empty"},
	{"{'domains': [{'name': 'a', 'colour': 'red'}]}", "$.domains[0] has the unknown key 'colour'; there are: name, "},
	{"{'domains': [{'name': 'a', 'bridge': 'x'}]}", "unknown key 'bridge'"},
	{"{'domains': [{'name-hex': 'f'}]}", "hex digits"},
	{"{'domains': [{'name-hex': '6100'}]}", "none of them 00"},
	{"{'domains': [{'name': 'a', 'uuid': 'x'}]}", "$.domains[0].uuid is \"x\"; expected a UUID"},
	{"{'domains': [{'name': 'a', 'uuid': '00000000000000000000000000000000'}]}", "expected a UUID"},
	{"{'domains': [{'name': 'a', 'state': 'asleep'}]}", "$.domains[0].state is 'asleep'"},
	{"{'domains': [{'name': 'a', 'state': 'running', 'active': false}]}", "does not go with its state"},
	{"{'domains': [{'name': 'a', 'persistent': false}]}", "it would not exist"},
	{"{'domains': [{'name': 'a', 'vcpus': 0}]}", "vcpus is not 1 to 4096"},
	{"{'domains': [{'name': 'a', 'xml': '<domain>'}]}", "$.domains[0].xml: XML, line 1"},
	{"{'domains': [{'name': 'a', 'count': 1000001}]}", "count is more than"},
	{"{'domains': [{'count': 2, 'xml': '<domain/>'}]}", "so it needs a name"},
	{"{'domains': [{'name': 'a'}, {'name': 'a'}]}", "$.domains[1]: there is another domain 'a'"},
	{"{'pools': [{'name': 'a', 'volumes': [{'size': 1}]}]}", "$.pools[0].volumes[0] has the unknown key 'size'"},
	{"{'networks': [{'name': 'a', 'bridge': null}]}", "$.networks[0].bridge is null"},
	{"{'faults': {'drop': 2}}", "FILE: $.faults: 'drop' is 2; expected a number from 0 to 1"},
	{"{'faults': {'drip': 1}}", "FILE: $.faults has the unknown fault 'drip'; there are: reorder "},
	{"{'faults': {'do': 1}}", "unknown fault 'do'"},
	{"{'faults': {'events': 'no'}}", "expected true or false"},
	{"{'faults': {'drop': null}}", "has no value"},
	{"{'faults': {'hang': 3}}", "a word or an array of words"},
	{"{'faults': {'hang': ['list', 'all day']}}", "'all day'"},
	{"{'operations': {'Domain.Explode': {}}}", "$.operations['Domain.Explode'] is no operation"},
	{"{'operations': {'Domain.Start': {'speed': 1}}}", "unknown key 'speed'"},
	{"{'operations': {'Domain.Start': {'error': 'Sad'}}}", "'Sad', which is no error"},
	{"{'steps': {}}", "$.steps is { }; expected an array"},
	{"{'steps': ['start']}", "FILE: $.steps[0] is \"start\"; expected an object"},
	{"{'steps': [{'domain': 'a'}]}", "$.steps[0] lacks the key 'do'"},
	{"{'steps': [{'do': 'dance'}]}", "$.steps[0].do is 'dance', which is no step"},
	{"{'steps': [{'do': 'start'}]}", "$.steps[0] names no object"},
	{"{'steps': [{'do': 'start', 'domain': 'a', 'pool': 'b'}]}", "names no object"},
	{"{'steps': [{'do': 'suspend', 'pool': 'a'}]}", "no pool can do 'suspend'"},
	{"{'steps': [{'do': 'start', 'domain': 3}]}", "$.steps[0].domain is 3"},
	{"{'steps': [{'do': 'start', 'domain': 'a', 'fast': true}]}", "unknown key 'fast'"},
	{"{'steps': [{'do': 'suspend', 'domain': 'a', 'paused': true}]}", "unknown key 'paused'"},
	{"{'steps': [{'do': 'crash', 'domain': 'a', 'then': 'weep'}]}", "$.steps[0].then is 'weep'; expected one of: destroy"},
	{"{'steps': [{'do': 'rename', 'domain': 'a'}]}", "lacks the key 'to'"},
	{"{'steps': [{'do': 'autostart', 'domain': 'a'}]}", "lacks the key 'on'"},
	{"{'steps': [{'do': 'event', 'domain': 'a', 'name': 'Refreshed'}]}", "is no event of a domain"},
	{"{'steps': [{'do': 'report', 'domain': 'a', 'cause': 'Added'}]}", "cause is 'Added'"},
	{"{'steps': [{'do': 'wait', 'ms': '5'}]}", "$.steps[0].ms is \"5\""},
	{"{'steps': [{'do': 'loop', 'steps': [{'do': 'wait'}, {'do': 'x'}]}]}", "FILE: $.steps[0].steps[1].do is 'x'"},
	{"{'steps': [{'do': 'storm', 'verbs': ['start', 'x']}]}", "$.steps[0].verbs[1] is 'x'"},
	{"{'steps': [{'do': 'add', 'domain': 'a'}]}", "$.steps[0].domain is \"a\"; expected an object"},
	{"{'steps': [{'do': 'add', 'domain': {'nome': 'a'}}]}", "$.steps[0].domain has the unknown key 'nome'"},
	{"{'steps': [{'do': 'faults', 'drip': 1}]}", "$.steps[0] has the unknown fault 'drip'"},
	{"{'steps': [{'do': 'operations', 'operations': {'X.Y': {}}}]}", "$.steps[0].operations['X.Y']"},
	{"{'steps': [{'do': 'define', 'kind': 'job', 'xml': ''}]}", "$.steps[0].kind is 'job'"},
	{"{'domains': [{'name': 'a', 'max-vcpus': 0}]}", "max-vcpus is not 1 to 4096"},
	{"{'saved': [{'path': '/x'}]}", "$.saved[0] lacks the key 'xml'"},
	{"{'saved': [{'path': '/x', 'xml': '<domain>'}]}", "FILE: $.saved[0].xml: XML, line 1"},
	{"{'missing': ['/a', 'b']}", "FILE: $.missing[1] is \"b\"; expected an absolute path"},
	{"{'missing': [7]}", "$.missing[0] is 7"},
	{"{'operations': {'Domain.Save': {'fail-at': 2}}}", "fail-at is 2"},
	{"{'faults': {'space': 1}}", "'space' is 1; expected true or false"},
	{"{'steps': [{'do': 'begin', 'domain': 'a', 'operation': 'Domain.Start'}]}", "$.steps[0].operation is 'Domain.Start'; expected"},
	{"{'steps': [{'do': 'begin', 'domain': 'a', 'operation': 'Domain.Explode'}]}", "operation is 'Domain.Explode'"},
	{"{'steps': [{'do': 'begin', 'domain': 'a'}]}", "lacks the key 'operation'"},
	{"{'steps': [{'do': 'begin', 'domain': 'a', 'operation': 'Domain.Save', 'error': 'Sad'}]}", "'Sad', which is no error"},
	{"{'steps': [{'do': 'begin', 'domain': 'a', 'operation': 'Domain.Save', 'missing': true, 'speed': 1}]}", "unknown key 'speed'"},
	{"{'steps': [{'do': 'end', 'domain': 'a', 'how': 'well'}]}", "$.steps[0].how is 'well'; expected done"},
	{"{'steps': [{'do': 'end', 'domain': 'a', 'operation': 'Domain.Stop'}]}", "operation is 'Domain.Stop'"},
	{"{'steps': [{'do': 'missing'}]}", "lacks the key 'path'"},
	{"{'steps': [{'do': 'overlay', 'domain': 'a', 'disk': 'vda'}]}", "lacks the key 'file'"},
	{"{'steps': [{'do': 'unplug', 'domain': 'a'}]}", "lacks the key 'alias'"},
	{"{'steps': [{'do': 'migrate-in', 'phase': 'fly', 'uuid': '5f2a3c1e-0000-4000-8000-000000000001'}]}", "phase is 'fly'"},
	{"{'steps': [{'do': 'migrate-in', 'phase': 'prepare', 'uuid': '5f2a3c1e-0000-4000-8000-000000000001'}]}", "lacks the key 'xml'"},
};

static void test_bad(void **state)
{
	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		struct sim_world *w = sim_world_new("bad");
		struct failure f = {};
		int r = apply(w, bad[i].text, &f);

		if (r <= 0 || !strstr(f.message, bad[i].message))
			fail_msg("%s\nexpected: %s\ngot:      %d %s", bad[i].text, bad[i].message, r, f.message ? f.message : "");
		failure_clear(&f);
		sim_world_free(w);
	}
}

/* Cut off anywhere, or with any one byte another: refused or taken, never worse. */
static void test_mutilated(void **state)
{
	static const char text[] =
		"{'hostname': 'h', 'domains': [{'name': 'a', 'uuid': '5f2a3c1e-0000-4000-8000-000000000001', 'state': 'running', "
		"'memory': 1048576}], 'pools': [{'name-hex': 'ff', 'volumes': [{'name': 'v'}]}], 'faults': {'drop': 0.5, 'hang': "
		"['list']}, 'operations': {'Domain.Start': {'duration': 3}}, 'steps': [{'do': 'loop', 'count': 2, 'steps': "
		"[{'do': 'start', 'domain': '*'}]}]}";
	static const char bytes[] = "\"{}[],:0-x\\\x80\n";
	struct failure f = {};
	struct sim_world *w = sim_world_new("whole");

	assert_int_equal(apply(w, text, &f), 0);
	sim_world_free(w);
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		_cleanup_(freep) char *cut = strndup(text, i);

		w = sim_world_new("cut");
		assert_true(apply(w, cut, &f) > 0);
		assert_non_null(f.message);
		sim_world_free(w);
		for (const char *b = bytes; *b; b++) {
			_cleanup_(freep) char *other = strdup(text);

			other[i] = *b;
			w = sim_world_new("other");
			failure_clear(&f);
			if (apply(w, other, &f) != 0)
				assert_non_null(f.message);
			sim_world_free(w);
		}
	}
	failure_clear(&f);
}

static void test_files(void **state)
{
	static const struct {
		const char *uri, *message;
	} files[] = {
		{"sim:/nowhere/x.json", "/nowhere/x.json: it cannot be opened: No such file"},
		{"sim:/tmp", "no regular file"},
		{"sim:/dev/null", "no regular file"},
		{"sim:///demo?control=/nowhere/socket", "/nowhere/socket: it cannot be listened on: No such file"},
	};

	for (size_t i = 0; i < ELEMENTS(files); i++) {
		struct driver_connection *c = NULL;
		struct failure f = {};

		/* the host is not reached */
		assert_int_equal(sim_driver.open(files[i].uri, NULL, &c, &f), VIREO_INVALID_URI);
		if (!strstr(f.message, files[i].message))
			fail_msg("%s\nexpected: %s\ngot:      %s", files[i].uri, files[i].message, f.message);
		assert_null(c);
		failure_clear(&f);
	}
}

/* ---- odd names ----------------------------------------------------------------------------------------------------- */

static void test_odd_names(void **state)
{
	_cleanup_(freep) char *text =
		quoted("{'domains': [{'name': 'a/b \\\"c\\\" \\u00e4 \\ud83d\\ude00'}, {'name-hex': '66ff6f80'}, {'name': '\\u0001'},"
		       "{'name': 'x', 'xml-raw': ''}, {'name': 'y', 'xml-raw': '<broken'}, {'name': 'z', 'title-hex': 'c3'},"
		       "{'name': '<&>', 'state': 'running'}],"
		       "'steps': []}");
	struct sim_kit *k = kit_open_scenario(text);
	const struct seen *s;

	kit_until_hello(k);
	kit_list(k);
	s = kit_report(k, 0)->observation.seen;
	assert_string_equal(s->name, "a/b \"c\" \xc3\xa4 \xf0\x9f\x98\x80");
	/* bytes that are no UTF-8 come as they are: making them valid is the broker's work */
	s = kit_report(k, 1)->observation.seen;
	assert_string_equal(s->name, "f\xffo\x80");
	assert_non_null(strstr(s->xml, "<name>f\xffo\x80</name>"));
	assert_string_equal(kit_report(k, 2)->observation.seen->name, "\x01");
	assert_string_equal(kit_report(k, 3)->observation.seen->xml, "");
	assert_string_equal(kit_report(k, 4)->observation.seen->xml, "<broken");
	assert_string_equal(kit_report(k, 5)->observation.seen->title, "\xc3");
	assert_non_null(strstr(kit_report(k, 6)->observation.seen->xml, "<name>&lt;&amp;&gt;</name>"));

	/* they can be acted on, by their names, and renamed to such */
	assert_string_equal(kit_steps(k, "{\"do\": \"rename\", \"domain\": \"\\u0001\", \"to-hex\": \"fe\"}"), "");
	kit_operate(k, OP_DOMAIN_START, "f\xffo\x80", NULL);
	assert_non_null(strstr(kit_trace(k), "look[running]! ok"));
	kit_operate(k, OP_DOMAIN_RENAME, "y", "\xff\xfe");
	assert_non_null(strstr(kit_trace(k), " ok"));
	/* an error that quotes one is valid all the same */
	const struct result *r = kit_operate(k, OP_DOMAIN_START, "f\xffo\x80", NULL);

	assert_int_equal(r->failure.error, VIREO_INVALID_STATE);
	assert_non_null(strstr(r->failure.message, "f\xef\xbf\xbdo\xef\xbf\xbd"));
	kit_assert_listed_truth(k);
	kit_close(k);
}

/* ---- truth ---------------------------------------------------------------------------------------------------------- */

static char *truth_text(struct sim_world *w)
{
	struct json_object *j;
	char *text;

	pthread_mutex_lock(&w->lock);
	j = sim_truth_to_json(&w->truth);
	pthread_mutex_unlock(&w->lock);
	text = strdup(json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(j);
	return text;
}

static void assert_same_truth(const char *a, const char *b)
{
	size_t i = 0;

	while (a[i] && a[i] == b[i])
		i++;
	if (a[i] != b[i])
		fail_msg("different at %zu:\n%.200s\n%.200s", i, a + (i > 100 ? i - 100 : 0), b + (i > 100 ? i - 100 : 0));
}

/* The truth is a scenario: read back it is the same truth. After a storm, with odd names. */
static void test_truth_is_a_scenario(void **state)
{
	_cleanup_(freep) char *text =
		quoted("{'domains': [{'name': 'vm-%', 'count': 30, 'share-active': 0.5}, {'name': 'z'}], "
		       "'pools': [{'name': 'p', 'active': true, 'path': '/p', 'volumes': [{'name': 'v', 'capacity': 5}]}], "
		       "'networks': [{'name': 'n', 'type': 'isolated', 'bridge': 'b'}]}");
	_cleanup_(freep) char *first = NULL, *second = NULL;
	struct sim_kit *k;

	k = kit_open_scenario(text);
	kit_until_hello(k);
	kit_steps(k, "{\"do\": \"storm\", \"count\": 3000, \"seed\": 9, \"churn\": 0.1}");
	/* one that no text can name, and one whose run differs from its configuration */
	kit_steps(k, "{\"do\": \"add\", \"domain\": {\"name-hex\": \"ff01aa\", \"title-hex\": \"80\"}}");
	kit_steps(k, "{\"do\": \"add\", \"domain\": {\"name\": \"two\", \"state\": \"running\", \"xml-inactive\": \"<other/>\"}, "
		     "\"silent\": true}");
	kit_steps(k, "[{\"do\": \"wait-guests\"}]");
	first = truth_text(kit_world(k));
	kit_close(k);

	k = kit_open_scenario(first);
	kit_until_hello(k);
	second = truth_text(kit_world(k));
	assert_same_truth(first, second);
	assert_non_null(strstr(first, "<other/>"));
	assert_non_null(strstr(first, "\"name-hex\":\"ff01aa\""));
	kit_assert_listed_truth(k);
	kit_close(k);
}

/* The same seed is the same story. */
static void test_seed(void **state)
{
	_cleanup_(freep) char *first = NULL, *second = NULL;

	for (int i = 0; i < 2; i++) {
		struct sim_kit *k = kit_open("sim:///50?seed=77&guest-delay=3600000");

		kit_until_hello(k);
		kit_steps(k, "{\"do\": \"storm\", \"count\": 2000, \"seed\": 3, \"churn\": 0.05}");
		*(i ? &second : &first) = truth_text(kit_world(k));
		kit_close(k);
	}
	assert_same_truth(first, second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_mutilated),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_odd_names),
		cmocka_unit_test(test_truth_is_a_scenario),
		cmocka_unit_test(test_seed),
	};

	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
