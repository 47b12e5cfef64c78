/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vdict.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <string.h>

#include "utf8.h"
#include "writer.h"

static void item_clear(struct vdict_item *item)
{
	if (item->type == 's')
		free(item->s);
	if (item->type == 'a') {
		for (char **p = item->a; p && *p; p++)
			free(*p);
		free(item->a);
	}
}

struct vdict *vdict_new(void)
{
	return calloc(1, sizeof(struct vdict));
}

void vdict_free(struct vdict *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->n; i++) {
		item_clear(&d->items[i]);
		free(d->items[i].key);
	}
	free(d->items);
	free(d);
}

/* The place for a key, its old value gone. */
static struct vdict_item *place(struct vdict *d, const char *key, char type)
{
	struct vdict_item *items;
	char *k;

	for (size_t i = 0; i < d->n; i++)
		if (strcmp(d->items[i].key, key) == 0) {
			item_clear(&d->items[i]);
			d->items[i].type = type;
			return &d->items[i];
		}
	k = utf8_dup(key);
	items = k ? reallocarray(d->items, d->n + 1, sizeof(*items)) : NULL;
	if (!items) {
		free(k);
		return NULL;
	}
	d->items = items;
	items[d->n] = (struct vdict_item){.key = k, .type = type};
	return &items[d->n++];
}

int vdict_set_s(struct vdict *d, const char *key, const char *value)
{
	char *copy = utf8_dup(value ? value : "");
	struct vdict_item *item = copy ? place(d, key, 's') : NULL;

	if (!item) {
		free(copy);
		return -ENOMEM;
	}
	item->s = copy;
	return 0;
}

#define SETTER(letter, ctype, field)                                                                         \
	int vdict_set_##field(struct vdict *d, const char *key, ctype value)                                 \
	{                                                                                                    \
		struct vdict_item *item = place(d, key, letter);                                             \
		if (!item)                                                                                   \
			return -ENOMEM;                                                                      \
		item->field = value;                                                                         \
		return 0;                                                                                    \
	}
SETTER('b', bool, b)
SETTER('i', int32_t, i)
SETTER('u', uint32_t, u)
SETTER('x', int64_t, x)
SETTER('t', uint64_t, t)
SETTER('d', double, d)

int vdict_set_a(struct vdict *d, const char *key, const char *const *value)
{
	struct vdict_item *item;
	size_t n = 0;
	char **copy;

	while (value && value[n])
		n++;
	copy = calloc(n + 1, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		copy[i] = utf8_dup(value[i]);
		if (!copy[i])
			goto fail;
	}
	item = place(d, key, 'a');
	if (!item)
		goto fail;
	item->a = copy;
	return 0;
fail:
	for (size_t i = 0; i < n; i++)
		free(copy[i]);
	free(copy);
	return -ENOMEM;
}

struct vdict *vdict_copy(const struct vdict *d)
{
	struct vdict *copy = d ? vdict_new() : NULL;
	int r = 0;

	for (size_t i = 0; copy && r >= 0 && i < d->n; i++) {
		const struct vdict_item *item = &d->items[i];

		switch (item->type) {
		case 's':
			r = vdict_set_s(copy, item->key, item->s);
			break;
		case 'b':
			r = vdict_set_b(copy, item->key, item->b);
			break;
		case 'i':
			r = vdict_set_i(copy, item->key, item->i);
			break;
		case 'u':
			r = vdict_set_u(copy, item->key, item->u);
			break;
		case 'x':
			r = vdict_set_x(copy, item->key, item->x);
			break;
		case 't':
			r = vdict_set_t(copy, item->key, item->t);
			break;
		case 'd':
			r = vdict_set_d(copy, item->key, item->d);
			break;
		case 'a':
			r = vdict_set_a(copy, item->key, (const char *const *)item->a);
			break;
		}
	}
	if (r < 0) {
		vdict_free(copy);
		return NULL;
	}
	return copy;
}

const struct vdict_item *vdict_get(const struct vdict *d, const char *key)
{
	for (size_t i = 0; d && i < d->n; i++)
		if (strcmp(d->items[i].key, key) == 0)
			return &d->items[i];
	return NULL;
}

#define GETTER(letter, ctype, field)                                                                         \
	ctype vdict_##field(const struct vdict *d, const char *key, ctype missing)                           \
	{                                                                                                    \
		const struct vdict_item *item = vdict_get(d, key);                                           \
		return item && item->type == letter ? item->field : missing;                                 \
	}
GETTER('s', const char *, s)
GETTER('b', bool, b)
GETTER('u', uint32_t, u)
GETTER('t', uint64_t, t)

char *vdict_types(const struct vdict *d)
{
	char *types = malloc((d ? d->n : 0) + 1);

	if (!types)
		return NULL;
	for (size_t i = 0; d && i < d->n; i++)
		types[i] = d->items[i].type;
	types[d ? d->n : 0] = 0;
	return types;
}

static struct json_object *item_to_json(const struct vdict_item *item)
{
	struct json_object *a;

	switch (item->type) {
	case 's':
		return json_object_new_string(item->s);
	case 'b':
		return json_object_new_boolean(item->b);
	case 'i':
		return json_object_new_int(item->i);
	case 'u':
		return json_object_new_int64(item->u);
	case 'x':
		return json_object_new_int64(item->x);
	case 't':
		return json_object_new_uint64(item->t);
	case 'd':
		/* JSON has no infinity and no NaN. */
		return json_object_new_double(isfinite(item->d) ? item->d : 0);
	case 'a':
		a = json_object_new_array();
		for (char **p = item->a; a && *p; p++)
			json_object_array_add(a, json_object_new_string(*p));
		return a;
	}
	return NULL;
}

struct json_object *vdict_to_json(const struct vdict *d)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; o && d && i < d->n; i++)
		if (json_object_object_add(o, d->items[i].key, item_to_json(&d->items[i])) < 0) {
			json_object_put(o);
			return NULL;
		}
	return o;
}

static void write_item(struct writer *w, const struct vdict_item *item)
{
	switch (item->type) {
	case 's':
		write_string(w, item->s);
		break;
	case 'b':
		write_bool(w, item->b);
		break;
	case 'i':
		write_signed(w, item->i);
		break;
	case 'u':
		write_number(w, item->u);
		break;
	case 'x':
		write_signed(w, item->x);
		break;
	case 't':
		write_number(w, item->t);
		break;
	case 'd':
		write_double(w, item->d);
		break;
	case 'a':
		write_strings(w, item->a);
		break;
	}
}

void vdict_write(struct writer *w, const struct vdict *d)
{
	write_literal(w, "{");
	for (size_t i = 0; d && i < d->n; i++) {
		if (i > 0)
			write_literal(w, ",");
		/* Some keys are a hypervisor's words. */
		write_string(w, d->items[i].key);
		write_literal(w, ":");
		write_item(w, &d->items[i]);
	}
	write_literal(w, "}");
}

static int item_from_json(struct vdict *d, const char *key, char type, struct json_object *v)
{
	enum json_type j = json_object_get_type(v);
	int64_t x = json_object_get_int64(v);

	switch (type) {
	case 's':
		return j == json_type_string ? vdict_set_s(d, key, json_object_get_string(v)) : -EINVAL;
	case 'b':
		return j == json_type_boolean ? vdict_set_b(d, key, json_object_get_boolean(v)) : -EINVAL;
	case 'i':
		return j == json_type_int && x >= INT32_MIN && x <= INT32_MAX ? vdict_set_i(d, key, (int32_t)x) : -EINVAL;
	case 'u':
		return j == json_type_int && x >= 0 && x <= UINT32_MAX ? vdict_set_u(d, key, (uint32_t)x) : -EINVAL;
	case 'x':
		return j == json_type_int ? vdict_set_x(d, key, x) : -EINVAL;
	case 't':
		return j == json_type_int ? vdict_set_t(d, key, json_object_get_uint64(v)) : -EINVAL;
	case 'd':
		return j == json_type_double || j == json_type_int ? vdict_set_d(d, key, json_object_get_double(v)) : -EINVAL;
	case 'a': {
		size_t n = j == json_type_array ? json_object_array_length(v) : 0;
		_cleanup_(freep) const char **strings = calloc(n + 1, sizeof(*strings));

		if (j != json_type_array)
			return -EINVAL;
		if (!strings)
			return -ENOMEM;
		for (size_t i = 0; i < n; i++) {
			struct json_object *s = json_object_array_get_idx(v, i);

			if (!json_object_is_type(s, json_type_string))
				return -EINVAL;
			strings[i] = json_object_get_string(s);
		}
		return vdict_set_a(d, key, strings);
	}
	}
	return -EINVAL;
}

int vdict_from_json(struct json_object *o, const char *types, struct vdict **ret)
{
	_cleanup_(vdict_freep) struct vdict *d = vdict_new();

	if (!d)
		return -ENOMEM;
	if (!json_object_is_type(o, json_type_object) || !types ||
	    (size_t)json_object_object_length(o) != strlen(types))
		return -EINVAL;
	/* json-c keeps members in the order they had. */
	json_object_object_foreach(o, key, v)
	{
		int r = item_from_json(d, key, *types++, v);

		if (r < 0)
			return r;
	}
	*ret = TAKE(d);
	return 0;
}
