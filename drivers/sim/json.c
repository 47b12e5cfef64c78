/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "truth.h"

static const char *type_name(struct json_object *v)
{
	switch (json_object_get_type(v)) {
	case json_type_null:
		return "null";
	case json_type_boolean:
		return "a boolean";
	case json_type_double:
	case json_type_int:
		return "a number";
	case json_type_object:
		return "an object";
	case json_type_array:
		return "an array";
	case json_type_string:
		return "a string";
	}
	return "something else";
}

static bool is_hex(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n % 2 != 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isxdigit((unsigned char)s[i]))
			return false;
	/* a name can't hold a NUL, whatever else */
	for (size_t i = 0; i < n; i += 2)
		if (s[i] == '0' && s[i + 1] == '0')
			return false;
	return true;
}

/* What was expected, when @v isn't it; else NULL. */
static const char *mismatch(struct json_object *v, char type)
{
	sd_id128_t id;

	switch (type) {
	case 's':
		if (!json_object_is_type(v, json_type_string))
			return "a string";
		return strlen(json_object_get_string(v)) == (size_t)json_object_get_string_len(v)
			       ? NULL
			       : "a string without \\u0000";
	case 'x':
		return json_object_is_type(v, json_type_string) && is_hex(json_object_get_string(v))
			       ? NULL
			       : "a string of hex digits, two a byte, none of them 00";
	case 'u':
		return json_object_is_type(v, json_type_string) &&
				       sd_id128_from_string(json_object_get_string(v), &id) >= 0 && !sd_id128_is_null(id)
			       ? NULL
			       : "a UUID";
	case 'b':
		return json_object_is_type(v, json_type_boolean) ? NULL : "true or false";
	case 'n':
		return json_object_is_type(v, json_type_int) && json_object_get_int64(v) >= 0 ? NULL
											       : "a whole number, 0 or more";
	case 'i':
		return json_object_is_type(v, json_type_int) ? NULL : "a whole number";
	case 'p':
		return (json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double)) &&
				       json_object_get_double(v) >= 0 && json_object_get_double(v) <= 1
			       ? NULL
			       : "a number from 0 to 1";
	case 'a':
		return json_object_is_type(v, json_type_array) ? NULL : "an array";
	case 'o':
		return json_object_is_type(v, json_type_object) ? NULL : "an object";
	default:
		return NULL;
	}
}

/* The type of a key in a spec; 0: it isn't there. */
static char spec_type(const char *spec, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = spec; *p;) {
		const char *word = *p == '!' ? p + 1 : p;
		size_t length = strcspn(word, " ");

		if (length == n + 2 && strncmp(word, key, n) == 0 && word[n] == '=')
			return word[n + 1];
		p = word + length;
		p += strspn(p, " ");
	}
	return 0;
}

/* "name, uuid, active" */
static char *spec_keys(const char *spec)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = sim_must(open_memstream(&text, &size));

	for (const char *p = spec; *p;) {
		const char *word = *p == '!' ? p + 1 : p;

		fprintf(f, "%s%.*s", p == spec ? "" : ", ", (int)strcspn(word, "="), word);
		p = word + strcspn(word, " ");
		p += strspn(p, " ");
	}
	if (fclose(f) != 0)
		text = NULL;
	return sim_must(text);
}

int sim_json_check(struct json_object *j, const char *where, const char *spec, struct failure *f)
{
	if (!json_object_is_type(j, json_type_object))
		return failure_set(f, VIREO_INVALID_ARGS, "%s is %s; expected an object.", where, type_name(j));
	json_object_object_foreach(j, key, value)
	{
		char type = spec_type(spec, key);
		const char *expected;

		if (!type) {
			_cleanup_(freep) char *keys = spec_keys(spec);

			return failure_set(f, VIREO_INVALID_ARGS, "%s has the unknown key '%s'; there are: %s.", where, key,
					   keys);
		}
		expected = mismatch(value, type);
		if (expected)
			return failure_set(f, VIREO_INVALID_ARGS, "%s.%s is %s; expected %s.", where, key,
					   json_object_to_json_string(value), expected);
	}
	for (const char *p = spec; *p;) {
		const char *word = *p == '!' ? p + 1 : p;
		_cleanup_(freep) char *needed = sim_must(strndup(word, strcspn(word, "=")));

		if (*p == '!' && !json_object_object_get_ex(j, needed, NULL))
			return failure_set(f, VIREO_INVALID_ARGS, "%s lacks the key '%s'.", where, needed);
		p = word + strcspn(word, " ");
		p += strspn(p, " ");
	}
	return 0;
}

struct json_object *sim_json_get(struct json_object *j, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(j, key, &v);
	return v;
}

const char *sim_json_string(struct json_object *j, const char *key, const char *missing)
{
	struct json_object *v = sim_json_get(j, key);

	return v ? json_object_get_string(v) : missing;
}

bool sim_json_bool(struct json_object *j, const char *key, bool missing)
{
	struct json_object *v = sim_json_get(j, key);

	return v ? json_object_get_boolean(v) : missing;
}

uint64_t sim_json_number(struct json_object *j, const char *key, uint64_t missing)
{
	struct json_object *v = sim_json_get(j, key);

	return v ? json_object_get_uint64(v) : missing;
}

double sim_json_double(struct json_object *j, const char *key, double missing)
{
	struct json_object *v = sim_json_get(j, key);

	return v ? json_object_get_double(v) : missing;
}

char *sim_json_bytes(struct json_object *j, const char *key)
{
	const char *s = sim_json_string(j, key, NULL);
	_cleanup_(freep) char *hex_key = NULL;
	char *bytes;
	size_t n;

	if (s)
		return sim_strdup(s);
	hex_key = sim_printf("%s-hex", key);
	s = sim_json_string(j, hex_key, NULL);
	if (!s)
		return NULL;
	n = strlen(s) / 2;
	bytes = sim_must(calloc(n + 1, 1));
	for (size_t i = 0; i < n; i++) {
		unsigned value = 0;

		sscanf(s + 2 * i, "%2x", &value);
		bytes[i] = (char)value;
	}
	return bytes;
}

int sim_json_parse(const char *text, size_t n, const char *file, struct json_object **ret, struct failure *f)
{
	struct json_tokener *t = sim_must(json_tokener_new_ex(64));
	struct json_object *j;
	enum json_tokener_error error;
	size_t at, line = 1, column = 1;

	json_tokener_set_flags(t, JSON_TOKENER_STRICT);
	/* with the NUL behind it, which ends a number or a word */
	j = n < INT32_MAX - 1 ? json_tokener_parse_ex(t, text, (int)n + 1) : NULL;
	error = json_tokener_get_error(t);
	at = json_tokener_get_parse_end(t);
	if (j && error == json_tokener_success && text[at + strspn(text + at, " \t\r\n")] != '\0') {
		/* one value, and then nothing */
		at += strspn(text + at, " \t\r\n");
		error = json_tokener_error_parse_unexpected;
		json_object_put(j);
		j = NULL;
	}
	json_tokener_free(t);
	if (j) {
		*ret = j;
		return 0;
	}
	for (size_t i = 0; i < at && i < n; i++) {
		column++;
		if (text[i] == '\n') {
			line++;
			column = 1;
		}
	}
	return failure_set(f, VIREO_INVALID_ARGS, "%s, line %zu, column %zu: %s.", file, line, column,
			   error == json_tokener_success ? "null is no scenario"
			   : at >= n			 ? "it ends too early"
							 : json_tokener_error_desc(error));
}
