/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <string.h>

/* What a look at an object makes of its properties, and of its XML. */

static int fill_domain(struct props *p, const struct life *life, const struct seen *s)
{
	int r = 0;

	p->v[DOMAIN_ID].i = life->active ? life->id : -1;
	p->v[DOMAIN_ACTIVE].b = life->active;
	p->v[DOMAIN_PERSISTENT].b = life->persistent;
	r |= props_set_s(p, DOMAIN_STATE, domain_state_to_string(life->active ? life->state : DOMAIN_SHUTOFF));
	r |= props_set_s(p, DOMAIN_REASON, life->reason);
	if (!s)
		return r;
	r |= props_set_s(p, DOMAIN_NAME, s->name);
	if (s->title)
		r |= props_set_s(p, DOMAIN_TITLE, s->title);
	if (s->description)
		r |= props_set_s(p, DOMAIN_DESCRIPTION, s->description);
	if (s->os_type)
		r |= props_set_s(p, DOMAIN_OS_TYPE, s->os_type);
	if (!(s->unknown & SEEN_AUTOSTART))
		p->v[DOMAIN_AUTOSTART].b = s->autostart;
	if (!(s->unknown & SEEN_MANAGED_SAVE))
		p->v[DOMAIN_HAS_MANAGED_SAVE].b = s->managed_save;
	if (!(s->unknown & SEEN_MEMORY)) {
		p->v[DOMAIN_MAX_MEMORY].t = s->max_memory;
		p->v[DOMAIN_MEMORY].t = s->memory;
		p->v[DOMAIN_VCPUS].u = s->vcpus;
	}
	return r;
}

/* The look's own word when it agrees with what clients are told, else the plain one. */
static const char *state_word(const struct life *life, const struct seen *s, const char *before)
{
	if (s && s->active == life->active)
		return s->state_name ? s->state_name : life->active ? "running" : "inactive";
	if (!s && (strcmp(before, "inactive") != 0) == life->active && *before)
		return before;
	return life->active ? "running" : "inactive";
}

static int fill_pool(struct props *p, const struct life *life, const struct seen *s)
{
	int r = 0;

	p->v[POOL_ACTIVE].b = life->active;
	p->v[POOL_PERSISTENT].b = life->persistent;
	_cleanup_(freep) char *before = strdup(p->v[POOL_STATE].s);

	r |= props_set_s(p, POOL_STATE, state_word(life, s, before ? before : ""));
	if (!s)
		return r;
	r |= props_set_s(p, POOL_NAME, s->name);
	if (s->type)
		r |= props_set_s(p, POOL_TYPE, s->type);
	if (!(s->unknown & SEEN_AUTOSTART))
		p->v[POOL_AUTOSTART].b = s->autostart;
	if (!(s->unknown & SEEN_SIZES)) {
		p->v[POOL_CAPACITY].t = s->capacity;
		p->v[POOL_ALLOCATION].t = s->allocation;
		p->v[POOL_AVAILABLE].t = s->available;
	}
	return r;
}

static int fill_network(struct props *p, const struct life *life, const struct seen *s)
{
	int r = 0;

	p->v[NETWORK_ACTIVE].b = life->active;
	p->v[NETWORK_PERSISTENT].b = life->persistent;
	_cleanup_(freep) char *before = strdup(p->v[NETWORK_STATE].s);

	r |= props_set_s(p, NETWORK_STATE, state_word(life, s, before ? before : ""));
	if (!s)
		return r;
	r |= props_set_s(p, NETWORK_NAME, s->name);
	if (s->type)
		r |= props_set_s(p, NETWORK_TYPE, s->type);
	if (s->bridge)
		r |= props_set_s(p, NETWORK_BRIDGE, s->bridge);
	if (!(s->unknown & SEEN_AUTOSTART))
		p->v[NETWORK_AUTOSTART].b = s->autostart;
	return r;
}

struct props *look_fill(const struct object *o, const struct life *life, const struct seen *s)
{
	struct props *p = props_copy(o->props);
	int r = -1;

	if (!p)
		return NULL;
	switch (o->kind) {
	case KIND_DOMAIN:
		r = fill_domain(p, life, s);
		break;
	case KIND_POOL:
		r = fill_pool(p, life, s);
		break;
	case KIND_NETWORK:
		r = fill_network(p, life, s);
		break;
	default:
		break;
	}
	if (r < 0) {
		props_unref(p);
		return NULL;
	}
	return p;
}

struct props *look_fill_autostart(const struct object *o, const struct seen *s)
{
	struct props *p = props_copy(o->props);

	if (p && o->kind == KIND_DOMAIN && !(s->unknown & SEEN_AUTOSTART))
		p->v[DOMAIN_AUTOSTART].b = s->autostart;
	return p;
}

/* Replace *where when the content differs. Return: did it? */
static bool take_xml(struct text **where, const char *xml)
{
	struct text *t;

	if (!xml) {
		bool had = *where != NULL;

		text_unref(TAKE(*where));
		return had;
	}
	/* Nearly always it is the same, and comparing is cheaper than hashing. */
	if (*where && strcmp((*where)->data, xml) == 0)
		return false;
	t = text_new(xml);
	if (!t)
		return false;
	if (text_equal(t, *where)) {
		text_unref(t);
		return false;
	}
	text_unref(*where);
	*where = t;
	return true;
}

bool look_take_xml(struct object *o, const struct seen *s)
{
	bool changed = false;

	if (s->unknown & SEEN_XML)
		return false;
	if (s->xml)
		changed = take_xml(&o->xml, s->xml);
	return take_xml(&o->xml_inactive, s->xml_inactive) || changed;
}

void look_life(struct object *o)
{
	const struct value *v = o->props->v;
	struct life *life = &o->life;

	*life = (struct life){.exists = true, .id = -1};
	switch (o->kind) {
	case KIND_DOMAIN:
		life->active = v[DOMAIN_ACTIVE].b;
		life->persistent = v[DOMAIN_PERSISTENT].b;
		life->id = v[DOMAIN_ID].i;
		life->state = (enum domain_state)(domain_state_from_string(v[DOMAIN_STATE].s) >= 0
							  ? domain_state_from_string(v[DOMAIN_STATE].s)
							  : DOMAIN_NOSTATE);
		strncpy(life->reason, v[DOMAIN_REASON].s, sizeof(life->reason) - 1);
		break;
	case KIND_POOL:
		life->active = v[POOL_ACTIVE].b;
		life->persistent = v[POOL_PERSISTENT].b;
		break;
	case KIND_NETWORK:
		life->active = v[NETWORK_ACTIVE].b;
		life->persistent = v[NETWORK_PERSISTENT].b;
		break;
	default:
		break;
	}
}
