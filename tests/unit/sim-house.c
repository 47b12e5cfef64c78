/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/sim/json.h"
#include "drivers/sim/step.h"
#include "sim-house.h"

static char *quoted(const char *s)
{
	char *copy = strdup(s);

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	return copy;
}

struct sim_kit *house_open(const char *scenario)
{
	_cleanup_(freep) char *text = quoted(scenario);
	struct sim_kit *k = kit_open_scenario(text);

	kit_until_hello(k);
	kit_clear(k);
	return k;
}

const char *house_try(struct sim_kit *k, const char *steps)
{
	_cleanup_(freep) char *text = quoted(steps);

	return kit_steps(k, text);
}

void house_steps(struct sim_kit *k, const char *steps)
{
	const char *error = house_try(k, steps);

	if (*error)
		fail_msg("%s: %s", steps, error);
}

struct request *house_request(struct sim_kit *k, enum operation op, const char *name, const char *text, const char *text2,
			      uint64_t number, const char *options)
{
	struct request *r = kit_request(k, op, name, text);

	r->text2 = text2 ? strdup(text2) : NULL;
	r->number = number;
	if (options) {
		_cleanup_(freep) char *json = quoted(options);
		struct json_object *j = NULL;

		assert_int_equal(sim_json_parse(json, strlen(json), "options", &j, NULL), 0);
		r->options = sim_step_details(j);
		json_object_put(j);
	}
	return r;
}

static bool is_of_jobs(const char *word)
{
	return strncmp(word, "BlockJob", 8) == 0 || strncmp(word, "JobCompleted", 12) == 0 ||
	       strncmp(word, "MigrationIteration", 18) == 0;
}

void house_expect(struct sim_kit *k, const char *what, const char *expected, bool jobs)
{
	_cleanup_(freep) char *trace = strdup(kit_trace(k)), *got = calloc(strlen(kit_trace(k)) + 2, 1);
	char *save = NULL;

	for (char *word = strtok_r(trace, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		char *at = strncmp(word, "look", 4) == 0 ? NULL : strchr(word, '[');

		if (strcmp(word, "progress") == 0 || (jobs && is_of_jobs(word)))
			continue;
		if (at)
			*at = '\0';
		strcat(got, *got ? " " : "");
		strcat(got, word);
	}
	if (strcmp(got, expected) != 0)
		fail_msg("%s\nexpected: %s\ngot:      %s", what ? what : "", expected, kit_trace(k));
}

const struct progress *house_progress(struct sim_kit *k, uint64_t token)
{
	for (size_t i = kit_count(k); i-- > 0;)
		if (kit_report(k, i)->type == REPORT_PROGRESS && kit_report(k, i)->progress.token == token)
			return &kit_report(k, i)->progress;
	return NULL;
}

static bool has_moved(struct sim_kit *k, void *data)
{
	const struct progress *p = house_progress(k, *(uint64_t *)data);

	return p && p->done > 0;
}

void house_until_moved(struct sim_kit *k, uint64_t token)
{
	kit_until(k, has_moved, &token);
}
