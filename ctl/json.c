/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "term.h"

/* Between messages and JSON, which everything here works on. */

static int read_key(sd_bus_message *m, char *buffer, size_t size, const char **ret)
{
	char type;
	const char *contents;
	int r = sd_bus_message_peek_type(m, &type, &contents);

	if (r <= 0)
		return r < 0 ? r : -EBADMSG;
	if (type == 's' || type == 'o') {
		r = sd_bus_message_read_basic(m, type, ret);
		return r;
	}
	if (type == 't') {
		uint64_t n;

		r = sd_bus_message_read_basic(m, type, &n);
		(void)snprintf(buffer, size, "%lu", (unsigned long)n);
		*ret = buffer;
		return r;
	}
	return -EOPNOTSUPP;
}

static int read_dictionary(sd_bus_message *m, const char *entry, json_object **ret)
{
	_cleanup_(json_putp) json_object *o = json_object_new_object();
	char inner[256], buffer[32];
	size_t n = strlen(entry);
	int r;

	/* entry: "{sv}" */
	if (!o || n < 4 || n - 2 >= sizeof(inner))
		return -ENOMEM;
	memcpy(inner, entry + 1, n - 2);
	inner[n - 2] = 0;
	while ((r = sd_bus_message_enter_container(m, 'e', inner)) > 0) {
		const char *key;
		json_object *value = NULL;

		r = read_key(m, buffer, sizeof(buffer), &key);
		if (r >= 0)
			r = message_read_json(m, &value);
		if (r >= 0)
			json_object_object_add(o, key, value);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	*ret = TAKE(o);
	return 1;
}

static int read_sequence(sd_bus_message *m, json_object **ret)
{
	_cleanup_(json_putp) json_object *o = json_object_new_array();
	int r;

	if (!o)
		return -ENOMEM;
	for (;;) {
		json_object *value = NULL;

		r = message_read_json(m, &value);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		json_object_array_add(o, value);
	}
	*ret = TAKE(o);
	return 1;
}

static int read_container(sd_bus_message *m, char type, const char *contents, json_object **ret)
{
	int r = sd_bus_message_enter_container(m, type, contents), q;

	if (r < 0)
		return r;
	if (type == 'v')
		r = message_read_json(m, ret);
	else if (type == 'a' && contents[0] == '{')
		r = read_dictionary(m, contents, ret);
	else
		r = read_sequence(m, ret);
	if (r < 0)
		return r;
	q = sd_bus_message_exit_container(m);
	return q < 0 ? q : 1;
}

int message_read_json(sd_bus_message *m, json_object **ret)
{
	union {
		uint8_t y;
		int b;
		int16_t n;
		uint16_t q;
		int32_t i;
		uint32_t u;
		int64_t x;
		uint64_t t;
		double d;
		const char *s;
	} v;
	const char *contents;
	char type;
	int r = sd_bus_message_peek_type(m, &type, &contents);

	if (r <= 0)
		return r;
	if (type == 'a' || type == 'v' || type == 'r')
		return read_container(m, type, contents, ret);
	r = sd_bus_message_read_basic(m, type, &v);
	if (r < 0)
		return r;
	switch (type) {
	case 'y':
		*ret = json_object_new_int(v.y);
		break;
	case 'b':
		*ret = json_object_new_boolean(v.b);
		break;
	case 'n':
		*ret = json_object_new_int(v.n);
		break;
	case 'q':
		*ret = json_object_new_int(v.q);
		break;
	case 'i':
	case 'h':
		*ret = json_object_new_int(v.i);
		break;
	case 'u':
		*ret = json_object_new_int64(v.u);
		break;
	case 'x':
		*ret = json_object_new_int64(v.x);
		break;
	case 't':
		*ret = v.t == USEC_UNKNOWN ? NULL : json_object_new_uint64(v.t);
		return *ret || v.t == USEC_UNKNOWN ? 1 : -ENOMEM;
	case 'd':
		*ret = json_object_new_double(v.d);
		break;
	case 's':
	case 'o':
	case 'g':
		*ret = json_object_new_string(v.s);
		break;
	default:
		return -EOPNOTSUPP;
	}
	return *ret ? 1 : -ENOMEM;
}

/* ---- reading it ---------------------------------------------------------------------------------------------------- */

const char *json_text(json_object *o, const char *key)
{
	json_object *v;

	if (!o || !json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

uint64_t json_number(json_object *o, const char *key)
{
	json_object *v;

	if (!o || !json_object_object_get_ex(o, key, &v))
		return 0;
	return json_object_is_type(v, json_type_double) ? (uint64_t)json_object_get_double(v) : json_object_get_uint64(v);
}

bool json_true(json_object *o, const char *key)
{
	json_object *v;

	return o && json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

bool json_is_null(json_object *o, const char *key)
{
	json_object *v;

	return o && json_object_object_get_ex(o, key, &v) && !v;
}

int json_print(struct ctl *c, json_object *o)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE;
	const char *text;

	flags |= c->json == JSON_PRETTY ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN;
	text = json_object_to_json_string_ext(o, flags);
	if (!text)
		return out_of_memory();
	puts(text);
	return EXIT_OK;
}
