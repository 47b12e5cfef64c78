/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <string.h>

#include "props-private.h"
#include "util/utf8.h"
#include "util/writer.h"

/* Property sets as JSON: how history keeps them, and streams tell them. */

/* ---- writing ------------------------------------------------------------------------------------------------ */

static void write_value(struct writer *w, const struct prop_def *d, const struct value *v)
{
	switch (props_form(d)) {
	case FORM_STRING:
		write_string(w, v->s);
		break;
	case FORM_LIST:
	case FORM_PAIR:
		write_strings(w, v->as);
		break;
	case FORM_BOOL:
		write_bool(w, v->b);
		break;
	case FORM_I32:
		write_signed(w, v->i);
		break;
	case FORM_U32:
		write_number(w, v->u);
		break;
	case FORM_U64:
		if (d->unknown_null && v->t == USEC_UNKNOWN)
			write_literal(w, "null");
		else
			write_number(w, v->t);
		break;
	case FORM_DOUBLE:
		write_double(w, v->d);
		break;
	}
}

void props_write(struct writer *w, const struct props *p)
{
	size_t n;
	const struct prop_def *schema = props_schema(p->kind, &n);

	write_literal(w, "{");
	for (size_t i = 0; i < n; i++) {
		write_key(w, schema[i].name);
		write_value(w, &schema[i], &p->v[i]);
	}
	write_literal(w, "}");
}

/* ---- reading, whatever it is ---------------------------------------------------------------------------------- */

static int string_from_json(struct json_object *o, char **ret)
{
	const char *s;

	if (!json_object_is_type(o, json_type_string))
		return -EINVAL;
	s = json_object_get_string(o);
	/* A NUL inside would make it another string than was written. */
	if (strlen(s) != (size_t)json_object_get_string_len(o))
		return -EINVAL;
	*ret = utf8_dup(s);
	return *ret ? 0 : -ENOMEM;
}

static int list_from_json(struct json_object *o, bool pair, char ***ret)
{
	_cleanup_(props_strv_freep) char **l = NULL;
	size_t n;

	if (!json_object_is_type(o, json_type_array))
		return -EINVAL;
	n = json_object_array_length(o);
	if (pair && n != 2)
		return -EINVAL;
	l = calloc(n + 1, sizeof(char *));
	if (!l)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int r = string_from_json(json_object_array_get_idx(o, i), &l[i]);

		if (r < 0)
			return r;
	}
	*ret = TAKE(l);
	return 0;
}

/* An integer between @min and @max; json-c would clip instead of complaining. */
static int integer_from_json(struct json_object *o, int64_t min, uint64_t max, uint64_t *ret)
{
	int64_t signed_value;

	if (!json_object_is_type(o, json_type_int))
		return -EINVAL;
	signed_value = json_object_get_int64(o);
	if (signed_value < 0) {
		if (signed_value < min)
			return -EINVAL;
		*ret = (uint64_t)signed_value;
		return 0;
	}
	*ret = json_object_get_uint64(o);
	return *ret > max ? -EINVAL : 0;
}

static int value_from_json(const struct prop_def *d, struct json_object *o, struct value *ret)
{
	uint64_t n;
	int r;

	switch (props_form(d)) {
	case FORM_STRING:
		return string_from_json(o, &ret->s);
	case FORM_LIST:
	case FORM_PAIR:
		return list_from_json(o, props_form(d) == FORM_PAIR, &ret->as);
	case FORM_BOOL:
		if (!json_object_is_type(o, json_type_boolean))
			return -EINVAL;
		ret->b = json_object_get_boolean(o);
		return 0;
	case FORM_I32:
		r = integer_from_json(o, INT32_MIN, INT32_MAX, &n);
		if (r < 0)
			return r;
		ret->i = (int32_t)(int64_t)n;
		return 0;
	case FORM_U32:
		r = integer_from_json(o, 0, UINT32_MAX, &n);
		if (r < 0)
			return r;
		ret->u = (uint32_t)n;
		return 0;
	case FORM_U64:
		if (!o && d->unknown_null) {
			ret->t = USEC_UNKNOWN;
			return 0;
		}
		return integer_from_json(o, 0, UINT64_MAX, &ret->t);
	case FORM_DOUBLE:
		if (!json_object_is_type(o, json_type_double) && !json_object_is_type(o, json_type_int))
			return -EINVAL;
		ret->d = json_object_get_double(o);
		return isfinite(ret->d) ? 0 : -EINVAL;
	}
	return -EINVAL;
}

int props_from_json(enum kind kind, struct json_object *o, struct props **ret)
{
	_cleanup_(props_unrefp) struct props *p = NULL;
	size_t n;
	const struct prop_def *schema = props_schema(kind, &n);

	if (!json_object_is_type(o, json_type_object))
		return -EINVAL;
	p = props_alloc(kind, 0);
	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *v;
		int r;

		if (!json_object_object_get_ex(o, schema[i].name, &v))
			return -EINVAL;
		r = value_from_json(&schema[i], v, &p->v[i]);
		if (r < 0)
			return r;
	}
	*ret = props_pack(TAKE(p));
	return 0;
}

/* ---- reading what props_write() wrote ------------------------------------------------------------------------- */

struct reader {
	const char *at, *end;
	char *to, *limit; /* where strings go */
};

static bool read_literal(struct reader *r, const char *s, size_t n)
{
	if ((size_t)(r->end - r->at) < n || memcmp(r->at, s, n) != 0)
		return false;
	r->at += n;
	return true;
}

static bool read_letter(struct reader *r, char c)
{
	return read_literal(r, &c, 1);
}

static bool read_key(struct reader *r, const char *key)
{
	return read_letter(r, '"') && read_literal(r, key, strlen(key)) && read_literal(r, "\":", 2);
}

/* Digits of what fits; JSON has no leading zeros, and a fraction or an exponent is for others to read. */
static bool read_number(struct reader *r, uint64_t max, uint64_t *ret)
{
	const char *begin = r->at;
	uint64_t n = 0;

	for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
		unsigned digit = (unsigned)(*r->at - '0');

		if (n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	if (r->at == begin || (*begin == '0' && r->at - begin > 1) || n > max)
		return false;
	*ret = n;
	return true;
}

static bool read_signed(struct reader *r, int32_t *ret)
{
	bool negative = read_letter(r, '-');
	uint64_t n;

	if (!read_number(r, negative ? UINT64_C(1) << 31 : INT32_MAX, &n))
		return false;
	*ret = negative ? (int32_t)-(int64_t)n : (int32_t)n;
	return true;
}

/* The letters behind a backslash; 0: for others to read. */
static char read_escape(struct reader *r)
{
	static const char from[] = "\"\\bfnrt", to[] = "\"\\\b\f\n\r\t";
	const char *p;

	if (r->at == r->end || !*r->at)
		return 0;
	p = strchr(from, *r->at++);
	return p ? to[p - from] : 0;
}

/* Not what has to be escaped by its number. */
static bool read_string(struct reader *r, char **ret)
{
	char *p = r->to;

	if (!read_letter(r, '"'))
		return false;
	for (;;) {
		char c;

		/* Only a broken one swallows more than there is room for. */
		if (r->at == r->end || p == r->limit)
			return false;
		c = *r->at++;
		if (c == '"')
			break;
		if ((unsigned char)c < ' ')
			return false;
		if (c == '\\') {
			c = read_escape(r);
			if (!c)
				return false;
		}
		*p++ = c;
	}
	*p++ = 0;
	*ret = r->to;
	r->to = p;
	return utf8_is_valid(*ret);
}

static bool read_value(struct reader *r, const struct prop_def *d, char **none, struct value *v)
{
	uint64_t n;

	switch (props_form(d)) {
	case FORM_STRING:
		return read_string(r, &v->s);
	case FORM_LIST:
		v->as = none;
		return read_literal(r, "[]", 2);
	case FORM_PAIR:
	case FORM_DOUBLE:
		return false;
	case FORM_BOOL:
		v->b = read_literal(r, "true", 4);
		return v->b || read_literal(r, "false", 5);
	case FORM_I32:
		return read_signed(r, &v->i);
	case FORM_U32:
		if (!read_number(r, UINT32_MAX, &n))
			return false;
		v->u = (uint32_t)n;
		return true;
	case FORM_U64:
		if (d->unknown_null && read_literal(r, "null", 4)) {
			v->t = USEC_UNKNOWN;
			return true;
		}
		return read_number(r, UINT64_MAX, &v->t);
	}
	return false;
}

/* False: it has something that is rare, is something else, or there is no memory. */
static bool read_plain(enum kind kind, const char *text, size_t size, struct props **ret)
{
	_cleanup_(props_unrefp) struct props *p = NULL;
	struct reader r = {text, text + size};
	char **none;
	size_t n, keys = 0;
	const struct prop_def *schema = props_schema(kind, &n);

	for (size_t i = 0; i < n; i++)
		keys += strlen(schema[i].name) + sizeof("\"\":") - 1;
	if (size < keys)
		return false;
	/* A string without its quotation marks, with its end, is shorter than its text. */
	p = props_alloc(kind, sizeof(char *) + size - keys);
	if (!p)
		return false;
	none = (char **)props_tail(p);
	*none = NULL;
	r.to = (char *)(none + 1);
	r.limit = r.to + size - keys;
	for (size_t i = 0; i < n; i++)
		if (!read_letter(&r, i == 0 ? '{' : ',') || !read_key(&r, schema[i].name) ||
		    !read_value(&r, &schema[i], none, &p->v[i]))
			return false;
	if (!read_letter(&r, '}') || r.at != r.end)
		return false;
	*ret = TAKE(p);
	return true;
}

int props_read(enum kind kind, const char *text, size_t size, struct props **ret)
{
	struct json_tokener *tokener;
	struct json_object *o;
	int r = -EINVAL;

	if (read_plain(kind, text, size, ret))
		return 0;
	tokener = json_tokener_new();
	if (!tokener)
		return -ENOMEM;
	o = size <= INT32_MAX ? json_tokener_parse_ex(tokener, text, (int)size) : NULL;
	json_tokener_free(tokener);
	if (o)
		r = props_from_json(kind, o, ret);
	json_object_put(o);
	return r;
}
