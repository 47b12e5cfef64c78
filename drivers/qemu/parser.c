/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>

#include "qmp.h"

struct qmp_parser {
	struct json_tokener *tokener;
	size_t max;
	size_t pending; /* bytes of the object that has begun */
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
	/* Trailing characters are the next object, not an error. */
	json_tokener_set_flags(p->tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	p->max = max;
	*ret = p;
	return 0;
}

void qmp_parser_free(struct qmp_parser *p)
{
	if (!p)
		return;
	json_tokener_free(p->tokener);
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

int qmp_parser_feed(struct qmp_parser *p, const char *data, size_t n, qmp_object_fn fn, void *userdata,
		    const char **ret_why)
{
	static const char *why;

	if (!ret_why)
		ret_why = &why;
	while (n > 0) {
		struct json_object *o;
		enum json_tokener_error e;
		size_t used;
		int r;

		if (p->pending == 0) {
			/* A tokener that was given white space only would not say that nothing has begun. */
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
		/* json-c takes an int; and an object shall not grow past its limit first. */
		size_t part = n;

		if (part > p->max - p->pending + 1)
			part = p->max - p->pending + 1;
		/* A NUL would end the tokener's work wherever it stands; what is before it is taken as it would be without. */
		const char *zero = memchr(data, 0, part);

		if (zero == data) {
			*ret_why = "a zero byte";
			return -EBADMSG;
		}
		if (zero)
			part = (size_t)(zero - data);
		o = json_tokener_parse_ex(p->tokener, data, (int)part);
		e = json_tokener_get_error(p->tokener);
		if (e == json_tokener_continue) {
			p->pending += part;
			if (p->pending > p->max)
				return -EMSGSIZE;
			data += part;
			n -= part;
			continue;
		}
		if (e != json_tokener_success) {
			*ret_why = e == json_tokener_error_size	    ? "something too big"
				   : e == json_tokener_error_depth ? "something nested too deeply"
								   : "broken JSON";
			json_object_put(o);
			return -EBADMSG;
		}
		used = json_tokener_get_parse_end(p->tokener);
		if (p->pending + used > p->max) {
			json_object_put(o);
			return -EMSGSIZE;
		}
		p->pending = 0;
		json_tokener_reset(p->tokener);
		data += used;
		n -= used;
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
