/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "faults.h"
#include "truth.h"

enum type { NUMBER, CHANCE, BOOLEAN, INVERSE, HANGS };

static const struct {
	const char *word;
	enum type type;
	size_t offset;
	uint64_t max; /* NUMBER */
} table[] = {
#define FIELD(f) offsetof(struct sim_faults, f)
	{"reorder", NUMBER, FIELD(reorder), 1000},
	{"repeat", CHANCE, FIELD(repeat)},
	{"drop", CHANCE, FIELD(drop)},
	{"ahead", CHANCE, FIELD(ahead)},
	{"behind", CHANCE, FIELD(behind)},
	{"look-none", CHANCE, FIELD(look_none)},
	{"look-fail", CHANCE, FIELD(look_fail)},
	{"list-fail", CHANCE, FIELD(list_fail)},
	{"list-partial", CHANCE, FIELD(list_partial)},
	{"list-omit", CHANCE, FIELD(list_omit)},
	{"operation-fail", CHANCE, FIELD(operation_fail)},
	{"event-delay", NUMBER, FIELD(event_delay), 3600000},
	{"look-delay", NUMBER, FIELD(look_delay), 3600000},
	{"list-delay", NUMBER, FIELD(list_delay), 3600000},
	{"operation-delay", NUMBER, FIELD(operation_delay), 3600000},
	{"events", INVERSE, FIELD(no_events)},
	{"quirks", INVERSE, FIELD(no_quirks)},
	{"run-ids", INVERSE, FIELD(no_run)},
	{"space", INVERSE, FIELD(no_space)},
	{"hang", HANGS, FIELD(hang)},
	{"hang-time", NUMBER, FIELD(hang_time), 3600000},
#undef FIELD
};

static const struct {
	const char *word;
	unsigned bits;
} hang_words[] = {
	{"open", HANG_OPEN},
	{"list", HANG_LIST},
	{"look", HANG_LOOK},
	{"operation", HANG_OPERATION},
	{"events", HANG_EVENTS},
	{"all", HANG_OPEN | HANG_LIST | HANG_LOOK | HANG_OPERATION | HANG_EVENTS},
};

char *sim_fault_words(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = sim_must(open_memstream(&text, &size));

	for (size_t i = 0; i < ELEMENTS(table); i++)
		fprintf(f, "%s%s", i ? " " : "", table[i].word);
	if (fclose(f) != 0)
		text = NULL;
	return sim_must(text);
}

static int parse_hang_word(const char *word, size_t n, unsigned *bits, struct failure *f)
{
	for (size_t i = 0; i < ELEMENTS(hang_words); i++)
		if (strlen(hang_words[i].word) == n && strncmp(hang_words[i].word, word, n) == 0) {
			*bits |= hang_words[i].bits;
			return 0;
		}
	return failure_set(f, VIREO_INVALID_OPTION,
			   "'hang' names '%.*s'; expected open, list, look, operation, events or all.", (int)n, word);
}

/* "list,look", or an array of such words */
static int parse_hangs(struct json_object *value, const char *text, unsigned *ret, struct failure *f)
{
	unsigned bits = 0;

	if (value && json_object_is_type(value, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(value); i++) {
			struct json_object *item = json_object_array_get_idx(value, i);
			const char *word = json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";
			int r = parse_hang_word(word, strlen(word), &bits, f);

			if (r != 0)
				return r;
		}
		*ret = bits;
		return 0;
	}
	if (value && !json_object_is_type(value, json_type_string))
		return failure_set(f, VIREO_INVALID_OPTION, "'hang' is %s; expected a word or an array of words.",
				   json_object_to_json_string(value));
	if (value)
		text = json_object_get_string(value);
	while (*text) {
		size_t n = strcspn(text, ",");
		int r = parse_hang_word(text, n, &bits, f);

		if (r != 0)
			return r;
		text += n;
		text += *text == ',';
	}
	*ret = bits;
	return 0;
}

static int parse_boolean(const char *word, struct json_object *value, const char *text, bool *ret, struct failure *f)
{
	if (value && json_object_is_type(value, json_type_boolean)) {
		*ret = json_object_get_boolean(value);
		return 0;
	}
	if (text && (strcmp(text, "yes") == 0 || strcmp(text, "true") == 0)) {
		*ret = true;
		return 0;
	}
	if (text && (strcmp(text, "no") == 0 || strcmp(text, "false") == 0)) {
		*ret = false;
		return 0;
	}
	return failure_set(f, VIREO_INVALID_OPTION, "'%s' is %s; expected %s.", word,
			   value ? json_object_to_json_string(value) : text, value ? "true or false" : "yes or no");
}

static int parse_number(const char *word, struct json_object *value, const char *text, double max, double *ret,
			struct failure *f)
{
	double d = NAN;
	char *end;

	if (value && (json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double)))
		d = json_object_get_double(value);
	else if (text && text[0]) {
		d = strtod(text, &end);
		if (*end)
			d = NAN;
	}
	if (!(d >= 0 && d <= max))
		return failure_set(f, VIREO_INVALID_OPTION, "'%s' is %s; expected a number from 0 to %.0f.", word,
				   value ? json_object_to_json_string(value) : text, max);
	*ret = d;
	return 0;
}

int sim_fault_set(struct sim_faults *faults, const char *word, struct json_object *value, const char *text,
		  struct failure *f)
{
	for (size_t i = 0; i < ELEMENTS(table); i++) {
		void *field = (char *)faults + table[i].offset;
		double d = 0;
		bool b = false;
		int r = 0;

		if (strcmp(table[i].word, word) != 0)
			continue;
		/* null is no value for anything */
		if (!value && !text)
			return failure_set(f, VIREO_INVALID_OPTION, "'%s' has no value.", word);
		switch (table[i].type) {
		case NUMBER:
			r = parse_number(word, value, text, (double)table[i].max, &d, f);
			if (r == 0 && d != floor(d))
				r = failure_set(f, VIREO_INVALID_OPTION, "'%s' is %g; expected a whole number.", word, d);
			if (r == 0)
				*(uint64_t *)field = (uint64_t)d;
			return r;
		case CHANCE:
			r = parse_number(word, value, text, 1, &d, f);
			if (r == 0)
				*(double *)field = d;
			return r;
		case BOOLEAN:
		case INVERSE:
			r = parse_boolean(word, value, text, &b, f);
			if (r == 0)
				*(bool *)field = table[i].type == INVERSE ? !b : b;
			return r;
		case HANGS:
			return parse_hangs(value, text, field, f);
		}
	}
	return -ENOENT;
}

struct json_object *sim_faults_to_json(const struct sim_faults *faults)
{
	struct json_object *j = sim_must(json_object_new_object());

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		const void *field = (const char *)faults + table[i].offset;
		struct json_object *v = NULL;

		switch (table[i].type) {
		case NUMBER:
			v = json_object_new_uint64(*(const uint64_t *)field);
			break;
		case CHANCE:
			v = json_object_new_double(*(const double *)field);
			break;
		case BOOLEAN:
			v = json_object_new_boolean(*(const bool *)field);
			break;
		case INVERSE:
			v = json_object_new_boolean(!*(const bool *)field);
			break;
		case HANGS:
			v = json_object_new_array();
			for (size_t k = 0; k + 1 < ELEMENTS(hang_words); k++)
				if (*(const unsigned *)field & hang_words[k].bits)
					json_object_array_add(v, json_object_new_string(hang_words[k].word));
			break;
		}
		json_object_object_add(j, table[i].word, v);
	}
	return j;
}
