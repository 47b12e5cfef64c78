/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "face.h"

/* ---- values -------------------------------------------------------------------------------------------------- */

/* Every string in a set, an event or a text was made valid when it entered; sd-bus need not look at each letter again. */
static int append_valid(sd_bus_message *m, const char *s, size_t n)
{
	char *space;
	int r = sd_bus_message_append_string_space(m, n, &space);

	if (r >= 0)
		memcpy(space, s, n);
	return r;
}

static int append_string(sd_bus_message *m, char type, const char *s)
{
	/* What an object path is made of, sd-bus shall see to. */
	return type == 's' ? append_valid(m, s, strlen(s)) : sd_bus_message_append_basic(m, type, s);
}

static int append_strings(sd_bus_message *m, const char *type, char *const *l)
{
	int r = sd_bus_message_open_container(m, 'a', type + 1);

	for (; r >= 0 && *l; l++)
		r = append_string(m, type[1], *l);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

int append_value(sd_bus_message *m, const struct prop_def *d, const struct value *v)
{
	switch (d->type[0]) {
	case 's':
	case 'o':
		return append_string(m, d->type[0], v->s);
	case 'b': {
		int b = v->b; /* sd-bus reads an int */

		return sd_bus_message_append_basic(m, 'b', &b);
	}
	case 'a':
		return append_strings(m, d->type, v->as);
	case '(':
		return sd_bus_message_append(m, "(ss)", v->as[0], v->as[1]);
	default:
		/* i u t d: one union, one address */
		return sd_bus_message_append_basic(m, d->type[0], v);
	}
}

int append_variant(sd_bus_message *m, const struct prop_def *d, const struct value *v)
{
	int r = sd_bus_message_open_container(m, 'v', d->type);

	if (r >= 0)
		r = append_value(m, d, v);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

/* ---- property sets ------------------------------------------------------------------------------------------- */

static int append_entry(sd_bus_message *m, const struct prop_def *d, const struct value *v)
{
	int r = sd_bus_message_open_container(m, 'e', "sv");

	if (r >= 0)
		r = append_string(m, 's', d->name);
	if (r >= 0)
		r = append_variant(m, d, v);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_text(sd_bus_message *m, const char *key, const struct text *t)
{
	int r = sd_bus_message_open_container(m, 'e', "sv");

	if (r >= 0)
		r = append_string(m, 's', key);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "s");
	if (r >= 0)
		r = append_valid(m, t->data, t->size);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_set(sd_bus_message *m, const struct props *p, uint64_t mask, const struct text *xml,
		      const struct text *xml_inactive)
{
	size_t n;
	const struct prop_def *schema = props_schema(p->kind, &n);
	int r = sd_bus_message_open_container(m, 'a', "{sv}");

	for (size_t i = 0; r >= 0 && i < n; i++)
		if (mask & UINT64_C(1) << i)
			r = append_entry(m, &schema[i], &p->v[i]);
	if (r >= 0 && xml)
		r = append_text(m, "XML", xml);
	if (r >= 0 && xml_inactive)
		r = append_text(m, "XMLInactive", xml_inactive);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

int append_props(sd_bus_message *m, const struct props *p, const struct text *xml, const struct text *xml_inactive)
{
	return append_set(m, p, UINT64_MAX, xml, xml_inactive);
}

int append_interfaces(sd_bus_message *m, const char *path, const char *interface, const struct props *p)
{
	int r = sd_bus_message_append(m, "o", path);

	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sa{sv}}");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'e', "sa{sv}");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", interface);
	if (r >= 0)
		r = append_props(m, p, NULL, NULL);
	for (int i = 0; r >= 0 && i < 2; i++)
		r = sd_bus_message_close_container(m);
	return r;
}

int append_props_masked(sd_bus_message *m, const struct props *p, uint64_t mask)
{
	return append_set(m, p, mask, NULL, NULL);
}

/* ---- details ------------------------------------------------------------------------------------------------- */

/*
 * P24. A number says nothing about the host; a word may, so only the documented ones are for everybody's ears: what
 * the interface files list as "Detail", not as "Private detail". A new key is private until it is put here.
 */
static const char *const public_words[] = {
	"action", "alias", "auth-scheme", "device", "disk", "old-name", "operation", "recipient", "state", "type",
	"uri", "volume",
};
static const char *const public_prefixes[] = {"cputune.", "blkdeviotune."};

bool detail_is_public(const char *key, char type)
{
	if (type != 's' && type != 'a')
		return true;
	for (size_t i = 0; i < ELEMENTS(public_words); i++)
		if (strcmp(key, public_words[i]) == 0)
			return true;
	for (size_t i = 0; i < ELEMENTS(public_prefixes); i++)
		if (strncmp(key, public_prefixes[i], strlen(public_prefixes[i])) == 0)
			return true;
	return false;
}

static int append_item(sd_bus_message *m, const struct vdict_item *i)
{
	char type[] = {i->type, 0};
	int b, r = sd_bus_message_open_container(m, 'e', "sv");

	if (r >= 0)
		r = sd_bus_message_append_basic(m, 's', i->key);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', i->type == 'a' ? "as" : type);
	if (r < 0)
		return r;
	switch (i->type) {
	case 's':
		r = sd_bus_message_append_basic(m, 's', i->s);
		break;
	case 'b':
		b = i->b;
		r = sd_bus_message_append_basic(m, 'b', &b);
		break;
	case 'a':
		r = append_strings(m, "as", i->a);
		break;
	default:
		r = sd_bus_message_append_basic(m, i->type, &i->t);
	}
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

int append_details(sd_bus_message *m, const struct event *e, bool broadcast)
{
	int r = sd_bus_message_open_container(m, 'a', "{sv}");

	/* In GetEvents it has a place of its own. */
	if (r >= 0 && broadcast)
		r = sd_bus_message_append(m, "{sv}", "timestamp", "t", e->timestamp);
	if (r >= 0 && e->inferred)
		r = sd_bus_message_append(m, "{sv}", "inferred", "b", 1);
	for (size_t i = 0; r >= 0 && e->details && i < e->details->n; i++)
		if (!broadcast || detail_is_public(e->details->items[i].key, e->details->items[i].type))
			r = append_item(m, &e->details->items[i]);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

/* ---- sizes --------------------------------------------------------------------------------------------------- */

/* Length, NUL, and what alignment may cost. */
static size_t string_bytes(const char *s)
{
	return strlen(s) + 4 + 1 + 7;
}

static size_t strings_bytes(char *const *l)
{
	size_t n = 4 + 7;

	for (; *l; l++)
		n += string_bytes(*l);
	return n;
}

/* Of an entry besides its value: alignment, key, signature. */
#define ENTRY_BYTES 24u

static size_t text_bytes(const struct text *t)
{
	return t ? t->size + 2 * ENTRY_BYTES + 16 : 0;
}

size_t props_bytes(const struct props *p, const struct text *xml, const struct text *xml_inactive)
{
	size_t n, bytes = 16;
	const struct prop_def *schema = props_schema(p->kind, &n);

	for (size_t i = 0; i < n; i++) {
		bytes += ENTRY_BYTES + strlen(schema[i].name);
		switch (schema[i].type[0]) {
		case 's':
		case 'o':
			bytes += string_bytes(p->v[i].s);
			break;
		case 'a':
			bytes += strings_bytes(p->v[i].as);
			break;
		case '(':
			bytes += 8 + string_bytes(p->v[i].as[0]) + string_bytes(p->v[i].as[1]);
			break;
		default:
			bytes += 16;
		}
	}
	return bytes + text_bytes(xml) + text_bytes(xml_inactive);
}

size_t event_bytes(const struct event *e, bool xml)
{
	size_t bytes = 128 + string_bytes(e->path) + string_bytes(e->name) + string_bytes(e->reason) +
		       props_bytes(e->props, xml ? e->xml : NULL, xml ? e->xml_inactive : NULL);

	for (size_t i = 0; e->details && i < e->details->n; i++) {
		const struct vdict_item *d = &e->details->items[i];

		bytes += ENTRY_BYTES + strlen(d->key) + 16;
		if (d->type == 's')
			bytes += string_bytes(d->s);
		else if (d->type == 'a')
			bytes += strings_bytes(d->a);
	}
	return bytes;
}
