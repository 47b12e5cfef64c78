/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "truth.h"
#include "util/log.h"
#include "util/utf8.h"

void *sim_must(void *p)
{
	if (!p) {
		log_error("The simulated hypervisor is out of memory.");
		abort();
	}
	return p;
}

char *sim_printf(const char *format, ...)
{
	va_list ap;
	char *s = NULL;

	va_start(ap, format);
	if (vasprintf(&s, format, ap) < 0)
		s = NULL;
	va_end(ap);
	return sim_must(s);
}

uint64_t sim_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * UINT64_C(0x2545F4914F6CDD1D);
}

bool sim_chance(uint64_t *state, double probability)
{
	return probability > 0 && (double)(sim_random(state) >> 11) * 0x1.0p-53 < probability;
}

/* ---- objects ----------------------------------------------------------------------------------------------- */

struct sim_object *sim_object_add(struct sim_truth *t, enum kind kind, sd_id128_t uuid, const char *name)
{
	struct sim_object *o = sim_new(struct sim_object);
	struct sim_object *first = t->first[kind];

	o->kind = kind;
	o->uuid = uuid;
	o->name = sim_strdup(name);
	o->id = -1;
	sim_object_set_state(o, DOMAIN_SHUTOFF, "unknown");
	HASH_ADD(by_uuid, t->by_uuid[kind], uuid, sizeof(o->uuid), o);
	HASH_ADD_KEYPTR(by_name, t->by_name[kind], o->name, strlen(o->name), o);
	if (first) {
		o->prev = first->prev;
		first->prev->next = o;
		first->prev = o;
	} else {
		/* as in utlist: the first one's prev is the last */
		o->prev = o;
		t->first[kind] = o;
	}
	if (t->count[kind] == t->size[kind]) {
		t->size[kind] = t->size[kind] ? 2 * t->size[kind] : 16;
		t->array[kind] = sim_must(reallocarray(t->array[kind], t->size[kind], sizeof(o)));
	}
	o->index = t->count[kind]++;
	t->array[kind][o->index] = o;
	return o;
}

static void object_free(struct sim_object *o)
{
	for (size_t i = 0; i < o->n_volumes; i++)
		sim_volume_done(&o->volumes[i]);
	free(o->volumes);
	sim_config_unref(o->config);
	sim_config_unref(o->live);
	free(o->name);
	free(o);
}

void sim_object_remove(struct sim_truth *t, struct sim_object *o)
{
	struct sim_object *first = t->first[o->kind];

	HASH_DELETE(by_uuid, t->by_uuid[o->kind], o);
	HASH_DELETE(by_name, t->by_name[o->kind], o);
	if (o == first) {
		t->first[o->kind] = o->next;
		if (o->next)
			o->next->prev = o->prev;
	} else {
		o->prev->next = o->next;
		if (o->next)
			o->next->prev = o->prev;
		else
			first->prev = o->prev;
	}
	t->array[o->kind][o->index] = t->array[o->kind][--t->count[o->kind]];
	t->array[o->kind][o->index]->index = o->index;
	object_free(o);
}

void sim_object_rename(struct sim_truth *t, struct sim_object *o, const char *name)
{
	HASH_DELETE(by_name, t->by_name[o->kind], o);
	free(o->name);
	o->name = sim_strdup(name);
	HASH_ADD_KEYPTR(by_name, t->by_name[o->kind], o->name, strlen(o->name), o);
}

struct sim_object *sim_object_find(struct sim_truth *t, enum kind kind, sd_id128_t uuid)
{
	struct sim_object *o = NULL;

	HASH_FIND(by_uuid, t->by_uuid[kind], &uuid, sizeof(uuid), o);
	return o;
}

struct sim_object *sim_object_named(struct sim_truth *t, enum kind kind, const char *name)
{
	struct sim_object *o = NULL;

	HASH_FIND(by_name, t->by_name[kind], name, strlen(name), o);
	return o;
}

struct sim_object *sim_object_pick(struct sim_truth *t, enum kind kind, uint64_t *random)
{
	return t->count[kind] ? t->array[kind][sim_random(random) % t->count[kind]] : NULL;
}

void sim_object_set_state(struct sim_object *o, enum domain_state state, const char *reason)
{
	o->state = state;
	snprintf(o->reason, sizeof(o->reason), "%s", reason);
}

const struct sim_config *sim_object_config(const struct sim_object *o)
{
	return o->live ? o->live : o->config;
}

struct sim_volume *sim_object_volume(struct sim_object *o, const char *name)
{
	for (size_t i = 0; i < o->n_volumes; i++)
		if (strcmp(o->volumes[i].name, name) == 0)
			return &o->volumes[i];
	return NULL;
}

void sim_object_add_volume(struct sim_object *o, const struct sim_volume *v)
{
	o->volumes = sim_must(reallocarray(o->volumes, o->n_volumes + 1, sizeof(*v)));
	o->volumes[o->n_volumes++] = *v;
	o->allocation += v->allocation;
}

void sim_object_remove_volume(struct sim_object *o, struct sim_volume *v)
{
	o->allocation -= o->allocation < v->allocation ? o->allocation : v->allocation;
	sim_volume_done(v);
	*v = o->volumes[--o->n_volumes];
}

void sim_truth_clear(struct sim_truth *t)
{
	for (int k = 0; k < KIND_MAX; k++) {
		while (t->first[k])
			sim_object_remove(t, t->first[k]);
		free(t->array[k]);
		t->array[k] = NULL;
		t->size[k] = 0;
	}
	sim_files_clear(t);
}

/* ---- looking ------------------------------------------------------------------------------------------------ */

struct seen *sim_object_look(const struct sim_object *o)
{
	const struct sim_config *c = sim_object_config(o);
	struct seen *s = sim_must(seen_new());

	s->name = sim_strdup(o->name);
	s->active = o->active;
	s->persistent = o->persistent;
	s->autostart = o->autostart;
	s->xml = sim_object_xml(o, c, false);
	/* one configuration for both is the usual case, and costs nothing here */
	if (o->active && o->persistent && o->config != o->live) {
		s->xml_inactive = sim_object_xml(o, o->config, false);
		if (strcmp(s->xml, s->xml_inactive) == 0) {
			free(s->xml_inactive);
			s->xml_inactive = NULL;
		}
	}
	switch (o->kind) {
	case KIND_DOMAIN:
		s->id = o->id;
		s->starting = o->starting;
		s->state = o->state;
		s->state_reason = sim_strdup(o->reason);
		s->managed_save = o->managed_save;
		s->title = sim_strdup(c->title);
		s->description = sim_strdup(c->description);
		s->os_type = sim_strdup(c->os_type);
		s->max_memory = c->max_memory;
		s->memory = c->memory;
		s->vcpus = c->vcpus;
		break;
	case KIND_POOL:
		if (o->state_name[0])
			s->state_name = sim_strdup(o->state_name);
		s->type = sim_strdup(c->type);
		s->capacity = o->capacity;
		s->allocation = o->allocation;
		s->available = o->capacity > o->allocation ? o->capacity - o->allocation : 0;
		break;
	default:
		s->type = sim_strdup(c->type);
		s->bridge = sim_strdup(c->bridge);
		break;
	}
	return s;
}

/* ---- as JSON ------------------------------------------------------------------------------------------------ */

static void json_add_bytes(struct json_object *o, const char *key, const char *value)
{
	_cleanup_(freep) char *hex_key = NULL, *hex = NULL;

	if (utf8_is_valid(value)) {
		json_object_object_add(o, key, json_object_new_string(value));
		return;
	}
	hex_key = sim_printf("%s-hex", key);
	hex = sim_must(calloc(2 * strlen(value) + 1, 1));
	for (size_t i = 0; value[i]; i++)
		sprintf(hex + 2 * i, "%02x", (unsigned char)value[i]);
	json_object_object_add(o, hex_key, json_object_new_string(hex));
}

static void json_add_config(struct json_object *j, const struct sim_object *o, const struct sim_config *c)
{
	switch (o->kind) {
	case KIND_DOMAIN:
		json_add_bytes(j, "title", c->title);
		json_add_bytes(j, "description", c->description);
		json_add_bytes(j, "os-type", c->os_type);
		json_object_object_add(j, "max-memory", json_object_new_uint64(c->max_memory));
		json_object_object_add(j, "memory", json_object_new_uint64(c->memory));
		json_object_object_add(j, "vcpus", json_object_new_int64(c->vcpus));
		if (c->max_vcpus != c->vcpus)
			json_object_object_add(j, "max-vcpus", json_object_new_int64(c->max_vcpus));
		break;
	case KIND_NETWORK:
		json_add_bytes(j, "type", c->type);
		json_add_bytes(j, "bridge", c->bridge);
		break;
	default:
		json_add_bytes(j, "type", c->type);
		if (c->path)
			json_add_bytes(j, "path", c->path);
		break;
	}
}

static struct json_object *object_to_json(const struct sim_object *o)
{
	struct json_object *j = json_object_new_object();
	_cleanup_(freep) char *xml = sim_object_xml(o, sim_object_config(o), false);
	char uuid[37];

	json_add_bytes(j, "name", o->name);
	json_object_object_add(j, "uuid", json_object_new_string(sd_id128_to_uuid_string(o->uuid, uuid)));
	json_object_object_add(j, "active", json_object_new_boolean(o->active));
	json_object_object_add(j, "persistent", json_object_new_boolean(o->persistent));
	json_object_object_add(j, "autostart", json_object_new_boolean(o->autostart));
	if (o->kind == KIND_DOMAIN) {
		json_object_object_add(j, "id", json_object_new_int(o->id));
		json_object_object_add(j, "state", json_object_new_string(domain_state_to_string(o->state)));
		json_object_object_add(j, "reason", json_object_new_string(o->reason));
		json_object_object_add(j, "managed-save", json_object_new_boolean(o->managed_save));
		if (o->starting)
			json_object_object_add(j, "starting", json_object_new_boolean(true));
		if (o->snapshots)
			json_object_object_add(j, "snapshots", json_object_new_int64(o->snapshots));
		if (o->checkpoints)
			json_object_object_add(j, "checkpoints", json_object_new_int64(o->checkpoints));
		if (o->nvram)
			json_object_object_add(j, "nvram", json_object_new_boolean(true));
	}
	json_add_config(j, o, sim_object_config(o));
	if (o->kind == KIND_POOL) {
		struct json_object *volumes = json_object_new_array();

		json_object_object_add(j, "capacity", json_object_new_uint64(o->capacity));
		json_object_object_add(j, "allocation", json_object_new_uint64(o->allocation));
		if (o->state_name[0])
			json_object_object_add(j, "state", json_object_new_string(o->state_name));
		for (size_t i = 0; i < o->n_volumes; i++) {
			const struct sim_volume *v = &o->volumes[i];
			struct json_object *jv = json_object_new_object();

			json_add_bytes(jv, "name", v->name);
			json_add_bytes(jv, "path", v->path);
			json_add_bytes(jv, "type", v->type);
			json_add_bytes(jv, "format", v->format);
			json_object_object_add(jv, "capacity", json_object_new_uint64(v->capacity));
			json_object_object_add(jv, "allocation", json_object_new_uint64(v->allocation));
			json_object_array_add(volumes, jv);
		}
		json_object_object_add(j, "volumes", volumes);
	}
	json_add_bytes(j, "xml-raw", xml);
	if (o->active && o->persistent && o->config != o->live) {
		_cleanup_(freep) char *inactive = sim_object_xml(o, o->config, false);

		if (strcmp(xml, inactive) != 0)
			json_add_bytes(j, "xml-inactive", inactive);
	}
	return j;
}

static struct json_object *images_to_json(const struct sim_truth *t)
{
	struct json_object *list = json_object_new_array();

	for (const struct sim_image *i = t->images; i; i = i->next) {
		struct sim_object o = {.kind = KIND_DOMAIN, .uuid = i->uuid, .name = i->name};
		_cleanup_(freep) char *xml = sim_object_xml(&o, i->config, true);
		struct json_object *j = json_object_new_object();

		json_add_bytes(j, "path", i->path);
		json_add_bytes(j, "xml", xml);
		json_object_object_add(j, "paused", json_object_new_boolean(i->paused));
		json_object_array_add(list, j);
	}
	return list;
}

struct json_object *sim_truth_to_json(const struct sim_truth *t)
{
	static const struct {
		enum kind kind;
		const char *key;
	} lists[] = {{KIND_DOMAIN, "domains"}, {KIND_POOL, "pools"}, {KIND_NETWORK, "networks"}};
	struct json_object *j = sim_must(json_object_new_object());

	for (size_t i = 0; i < ELEMENTS(lists); i++) {
		struct json_object *list = json_object_new_array();

		for (const struct sim_object *o = t->first[lists[i].kind]; o; o = o->next)
			json_object_array_add(list, object_to_json(o));
		json_object_object_add(j, lists[i].key, list);
	}
	if (t->images)
		json_object_object_add(j, "saved", images_to_json(t));
	if (t->n_missing > 0) {
		struct json_object *list = json_object_new_array();

		for (size_t i = 0; i < t->n_missing; i++)
			json_object_array_add(list, json_object_new_string(t->missing[i]));
		json_object_object_add(j, "missing", list);
	}
	return j;
}
