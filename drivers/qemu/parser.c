/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>

#include "qmp.h"

#define KEPT_MAX (64u << 10)

/*
 * json-c alone decides what JSON is. But how it takes a broken number depends on where its input is cut ("0-" in two parts is
 * 0), so it is given whole objects; where one ends is found here.
 */
struct qmp_parser {
	struct json_tokener *tokener;
	size_t max;
	char *object; /* what has come of the one that has begun */
	size_t pending, allocated;
	int depth;
	bool in_string, escaped;
};

int qmp_parser_new(size_t max, struct qmp_parser **ret)
{
	struct qmp_parser *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->tokener = json_tokener_new_ex(QMP_DEPTH_MAX);
	if (!p->tokener) {
		free(p);
		return -ENOMEM;
	}
	json_tokener_set_flags(p->tokener, JSON_TOKENER_STRICT);
	p->max = max;
	*ret = p;
	return 0;
}

void qmp_parser_free(struct qmp_parser *p)
{
	if (!p)
		return;
	json_tokener_free(p->tokener);
	free(p->object);
	free(p);
}

bool qmp_parser_pending(const struct qmp_parser *p)
{
	return p->pending > 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/*
 * How many of these bytes belong to the object that has begun. @ret_end: it ends with them.
 * Return: 0, or -EBADMSG (a zero byte, or too deep: however it goes on, it will not become an object).
 */
static int scan(struct qmp_parser *p, const char *data, size_t n, size_t *ret_used, bool *ret_end, const char **ret_why)
{
	*ret_end = false;
	for (size_t i = 0; i < n; i++) {
		char c = data[i];

		if (c == 0) {
			*ret_why = "a zero byte";
			return -EBADMSG;
		}
		if (p->escaped)
			p->escaped = false;
		else if (p->in_string && c == '\\')
			p->escaped = true;
		else if (c == '"')
			p->in_string = !p->in_string;
		else if (p->in_string)
			;
		else if (c == '{' || c == '[') {
			if (++p->depth > QMP_DEPTH_MAX) {
				*ret_why = "something nested too deeply";
				return -EBADMSG;
			}
		} else if (c == '}' || c == ']') {
			if (--p->depth == 0) {
				*ret_used = i + 1;
				*ret_end = true;
				return 0;
			}
		}
	}
	*ret_used = n;
	return 0;
}

/* Return: 0, -ENOMEM. */
static int keep(struct qmp_parser *p, const char *data, size_t n)
{
	if (p->pending + n > p->allocated) {
		size_t want = 2 * p->allocated;
		char *object;

		if (want < p->pending + n)
			want = p->pending + n;
		if (want > p->max)
			want = p->max;
		object = realloc(p->object, want);
		if (!object)
			return -ENOMEM;
		p->object = object;
		p->allocated = want;
	}
	memcpy(p->object + p->pending, data, n);
	p->pending += n;
	return 0;
}

/* The object has ended. What a rare big one took is given back. */
static void forget(struct qmp_parser *p)
{
	p->pending = 0;
	if (p->allocated > KEPT_MAX) {
		free(p->object);
		p->object = NULL;
		p->allocated = 0;
	}
}

static int parse(struct qmp_parser *p, const char *s, size_t n, struct json_object **ret, const char **ret_why)
{
	enum json_tokener_error e;

	json_tokener_reset(p->tokener);
	*ret = json_tokener_parse_ex(p->tokener, s, (int)n);
	e = json_tokener_get_error(p->tokener);
	if (e == json_tokener_success && json_tokener_get_parse_end(p->tokener) == n)
		return 0;
	json_object_put(*ret);
	*ret = NULL;
	*ret_why = e == json_tokener_error_depth ? "something nested too deeply" : "broken JSON";
	return -EBADMSG;
}

int qmp_parser_feed(struct qmp_parser *p, const char *data, size_t n, qmp_object_fn fn, void *userdata,
		    const char **ret_why)
{
	static const char *why;

	if (!ret_why)
		ret_why = &why;
	while (n > 0) {
		struct json_object *o;
		size_t used;
		bool end;
		int r;

		if (p->depth == 0) {
			if (is_space(*data)) {
				data++;
				n--;
				continue;
			}
			if (*data != '{') {
				*ret_why = "something that is no JSON object";
				return -EBADMSG;
			}
		}
		size_t part = n;

		if (part > p->max - p->pending)
			part = p->max - p->pending;
		if (part == 0)
			return -EMSGSIZE;
		r = scan(p, data, part, &used, &end, ret_why);
		if (r < 0)
			return r;
		if (end && p->pending == 0) {
			/* As it usually comes: whole, so there is nothing to keep. */
			r = parse(p, data, used, &o, ret_why);
		} else {
			r = keep(p, data, used);
			if (r == 0 && end)
				r = parse(p, p->object, p->pending, &o, ret_why);
		}
		if (r < 0)
			return r;
		data += used;
		n -= used;
		if (!end)
			continue;
		forget(p);
		r = fn(o, userdata);
		json_object_put(o);
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- reading what came -------------------------------------------------------------------------------------- */

struct json_object *json_member(struct json_object *o, const char *name)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, name, &v))
		return NULL;
	return v;
}

const char *json_s(struct json_object *o, const char *name)
{
	struct json_object *v = json_member(o, name);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

bool json_b(struct json_object *o, const char *name)
{
	struct json_object *v = json_member(o, name);

	return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

uint64_t json_u(struct json_object *o, const char *name, uint64_t missing)
{
	struct json_object *v = json_member(o, name);

	/* json-c makes 0 of a negative number. */
	if (!json_object_is_type(v, json_type_int) || json_object_get_int64(v) < 0)
		return missing;
	return json_object_get_uint64(v);
}

int64_t json_i(struct json_object *o, const char *name, int64_t missing)
{
	struct json_object *v = json_member(o, name);

	return json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : missing;
}

struct json_object *json_strings(const char *name, ...)
{
	struct json_object *o = json_object_new_object();
	va_list ap;

	va_start(ap, name);
	while (o && name) {
		const char *value = va_arg(ap, const char *);
		struct json_object *v = json_object_new_string(value);

		if (!v || json_object_object_add(o, name, v) < 0) {
			json_object_put(v);
			json_object_put(o);
			o = NULL;
			break;
		}
		name = va_arg(ap, const char *);
	}
	va_end(ap);
	return o;
}
