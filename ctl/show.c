/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "show.h"

#include <errno.h>
#include <string.h>

#include "objects.h"
#include "pager.h"

/* One object: its properties, its XML; and the broker itself. */

static bool is_one_of(const char *key, const char *const *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(key, keys[i]) == 0)
			return true;
	return false;
}

char *value_text(const char *key, json_object *value)
{
	static const char *const sizes[] = {"Memory", "MaxMemory", "Capacity", "Allocation", "Available", "BytesTotal",
					    "BytesDone"};
	static const char *const spans[] = {"RunningTime", "RemainingTime"};
	char buffer[64], *text = NULL;
	size_t size;
	FILE *f;

	if (!value)
		return strdup("unknown");
	switch (json_object_get_type(value)) {
	case json_type_boolean:
		return strdup(json_object_get_boolean(value) ? "yes" : "no");
	case json_type_int:
		if (is_one_of(key, sizes, ELEMENTS(sizes)))
			return strdup(format_size(buffer, sizeof(buffer), json_object_get_uint64(value)));
		if (is_one_of(key, spans, ELEMENTS(spans)))
			return strdup(format_span(buffer, sizeof(buffer), json_object_get_uint64(value)));
		return strdup(json_object_get_string(value));
	case json_type_double:
		return asprintf(&text, "%.1f", json_object_get_double(value)) < 0 ? NULL : text;
	case json_type_array:
		f = open_memstream(&text, &size);
		if (!f)
			return NULL;
		for (size_t i = 0; i < json_object_array_length(value); i++) {
			json_object *item = json_object_array_get_idx(value, i);

			fprintf(f, "%s%s", i && *json_object_get_string(item) ? " " : "", json_object_get_string(item));
		}
		return fclose(f) == EOF ? NULL : text;
	case json_type_object:
		return strdup(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	default:
		return strdup(json_object_get_string(value));
	}
}

/* --property=A,B: only these, and an unknown one is an error. */
static bool is_asked_for(const struct ctl *c, const char *key, unsigned *seen)
{
	bool any = false, hit = false;

	for (size_t i = 0; i < c->n_given; i++) {
		const char *p = c->given[i].value;

		if (strcmp(c->given[i].option->name, "property") != 0)
			continue;
		for (unsigned bit = 0; *p; bit++) {
			size_t n = strcspn(p, ",");

			any = true;
			if (strlen(key) == n && strncasecmp(p, key, n) == 0) {
				hit = true;
				seen[i] |= 1u << (bit & 31);
			}
			p += n;
			p += *p == ',';
		}
	}
	return hit || !any;
}

static int check_asked_for(const struct ctl *c, const unsigned *seen)
{
	for (size_t i = 0; i < c->n_given; i++) {
		const char *p = c->given[i].value;

		if (strcmp(c->given[i].option->name, "property") != 0)
			continue;
		for (unsigned bit = 0; *p; bit++) {
			size_t n = strcspn(p, ",");

			if (!(seen[i] & (1u << (bit & 31)))) {
				complain("it has no property “%.*s”; without --property all are shown", (int)n, p);
				return EXIT_NOT_FOUND;
			}
			p += n;
			p += *p == ',';
		}
	}
	return EXIT_OK;
}

static int print_properties(struct ctl *c, json_object *o)
{
	unsigned seen[ELEMENTS(c->given)] = {0}, width = 0;
	bool only_values = is_given(c, "value");

	json_object_object_foreach(o, measured, unused) {
		(void)unused;
		if (is_asked_for(c, measured, seen) && text_width(measured) > width)
			width = text_width(measured);
	}
	json_object_object_foreach(o, key, value) {
		_cleanup_(freep) char *text = NULL, *safe = NULL;
		enum colour colour = PLAIN;

		if (!is_asked_for(c, key, seen))
			continue;
		text = value_text(key, value);
		safe = text ? text_safe(text) : NULL;
		if (!safe)
			return out_of_memory();
		if (only_values) {
			/* for scripts: sizes and times as they are on the bus */
			bool number = value && (json_object_is_type(value, json_type_int) ||
						json_object_is_type(value, json_type_double));

			puts(number ? json_object_get_string(value) : safe);
			continue;
		}
		if (strcmp(key, "State") == 0)
			colour = state_colour(text);
		/* a list that is long goes on below itself */
		if (value && json_object_is_type(value, json_type_array) && json_object_array_length(value) > 1) {
			for (size_t i = 0; i < json_object_array_length(value); i++) {
				_cleanup_(freep) char *item =
					text_safe(json_object_get_string(json_object_array_get_idx(value, i)));

				printf("%*s%s %s\n", (int)width, i ? "" : key, i ? " " : ":", item ? item : "");
			}
			continue;
		}
		printf("%*s:%s%s%s%s\n", (int)width, key, *safe ? " " : "", colour == PLAIN ? "" : colour_on(c, colour), safe,
			colour == PLAIN ? "" : colour_off(c));
	}
	return check_asked_for(c, seen);
}

/* show, pool show, net show: of which kind is in the letter of the argument. */
static unsigned kinds_of(const struct verb *v)
{
	switch (v->spec[0]) {
	case 'N':
		return KINDS(KIND_DOMAIN);
	case 'P':
		return KINDS(KIND_POOL);
	case 'W':
		return KINDS(KIND_NETWORK);
	default:
		return KINDS_ALL;
	}
}

/* A bare name is a domain first: a pool "web" does not make a domain "web" ambiguous. */
static int resolve_any(struct ctl *c, const struct verb *v, const char *name, char **ret)
{
	struct snapshot s = {0};
	unsigned kinds = kinds_of(v);
	int r = client_open(c);

	if (r == EXIT_OK && kinds == KINDS_ALL && lookup(c, KINDS(KIND_DOMAIN), name, ret))
		return EXIT_OK;
	if (r == EXIT_OK && kinds == KINDS_ALL) {
		r = objects_snapshot(c, KINDS(KIND_DOMAIN), &s);
		for (size_t i = 0; r == EXIT_OK && i < json_object_array_length(s.objects); i++)
			if (strcmp(json_text(json_object_array_get_idx(s.objects, i), "Name"), name) == 0) {
				kinds = KINDS(KIND_DOMAIN);
				break;
			}
		snapshot_clear(&s);
	}
	return r == EXIT_OK ? resolve(c, kinds, name, ret) : r;
}

int verb_show(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(json_putp) json_object *all = json_object_new_array();
	int r = EXIT_OK;

	if (!all)
		return out_of_memory();
	for (int i = 0; i < n && r == EXIT_OK; i++) {
		_cleanup_(freep) char *path = NULL;
		_cleanup_(json_putp) json_object *properties = NULL;
		json_object *o;
		int kind;

		r = resolve_any(c, v, args[i], &path);
		if (r != EXIT_OK)
			return r;
		kind = kind_from_path(path);
		if (kind < 0)
			return usage_error("%s is not an object of " VIREO_NAME, path);
		r = client_get_all(c, path, kind_interfaces[kind], &properties);
		if (r != EXIT_OK)
			return r;
		if (c->json == JSON_OFF) {
			if (i == 0)
				pager_open(c);
			else
				putchar('\n');
			r = print_properties(c, properties);
			continue;
		}
		o = json_object_new_object();
		if (!o)
			return out_of_memory();
		json_object_object_add(o, "object", json_object_new_string(path));
		json_object_object_add(o, "kind", json_object_new_string(kind_words[kind]));
		json_object_object_foreach(properties, key, value)
			json_object_object_add(o, key, json_object_get(value));
		json_object_array_add(all, o);
	}
	if (r != EXIT_OK || c->json == JSON_OFF)
		return r;
	return json_print(c, n == 1 ? json_object_array_get_idx(all, 0) : all);
}

int verb_xml(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	_cleanup_(freep) char *path = NULL, *what = NULL;
	const char *xml;
	uint64_t version;
	int kind, r;

	r = resolve_any(c, v, args[0], &path);
	if (r != EXIT_OK)
		return r;
	kind = kind_from_path(path);
	if (kind != KIND_DOMAIN && kind != KIND_POOL && kind != KIND_NETWORK)
		return usage_error("“%s” has no XML: it is a %s", args[0], kind_nouns[kind]);
	if (asprintf(&what, "cannot get the XML of “%s”", args[0]) < 0)
		return out_of_memory();
	r = client_new_call(c, &m, path, kind_interfaces[kind], "GetXML");
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0 && is_given(c, "inactive"))
		r = sd_bus_message_append(m, "{sv}", "inactive", "b", 1);
	if (r >= 0 && is_given(c, "secure"))
		r = sd_bus_message_append(m, "{sv}", "secure", "b", 1);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_failed(c, what, NULL, r);
	r = client_send(c, m, what, &reply);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_read(reply, "ts", &version, &xml);
	if (r < 0)
		return client_failed(c, what, NULL, r);
	if (c->json != JSON_OFF) {
		_cleanup_(json_putp) json_object *o = json_object_new_object();

		if (!o)
			return out_of_memory();
		json_object_object_add(o, "object", json_object_new_string(path));
		json_object_object_add(o, "Version", json_object_new_uint64(version));
		json_object_object_add(o, "xml", json_object_new_string(xml));
		return json_print(c, o);
	}
	pager_open(c);
	printf("%s%s", xml, *xml && xml[strlen(xml) - 1] == '\n' ? "" : "\n");
	return EXIT_OK;
}

/* ---- the broker ---------------------------------------------------------------------------------------------------- */

int verb_status(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(json_putp) json_object *manager = NULL;
	struct snapshot s = {0};
	size_t count[KIND_MAX] = {0}, active[KIND_MAX] = {0};
	uint64_t version, oldest;
	int r;

	r = client_get_all(c, VIREO_ROOT, VIREO_MANAGER, &manager);
	if (r == EXIT_OK)
		r = objects_snapshot(c, KINDS_ALL, &s);
	if (r != EXIT_OK)
		return r;
	if (c->json != JSON_OFF) {
		json_object *connections = json_object_new_array();

		for (size_t i = 0; connections && i < json_object_array_length(s.objects); i++) {
			json_object *o = json_object_array_get_idx(s.objects, i);

			if (strcmp(json_text(o, "kind"), "connection") == 0)
				json_object_array_add(connections, json_object_get(o));
		}
		json_object_object_add(manager, "Connections", connections);
		r = json_print(c, manager);
		snapshot_clear(&s);
		return r;
	}
	for (size_t i = 0; i < json_object_array_length(s.objects); i++) {
		json_object *o = json_object_array_get_idx(s.objects, i);
		int kind = kind_from_path(json_text(o, "object"));

		count[kind]++;
		active[kind] += json_true(o, "Active") || strcmp(json_text(o, "State"), "running") == 0;
	}
	snapshot_clear(&s);
	version = json_number(manager, "Version");
	oldest = json_number(manager, "OldestVersion");
	pager_open(c);
	printf("   Epoch: %s\n", json_text(manager, "Epoch"));
	printf(" Version: %lu\n", (unsigned long)version);
	printf(" History: since version %lu, %lu back\n", (unsigned long)oldest, (unsigned long)(version - oldest));
	{
		json_object *features = NULL;
		_cleanup_(freep) char *text = NULL;

		(void)json_object_object_get_ex(manager, "Features", &features);
		text = value_text("Features", features);
		printf("Features: %s\n", text ? text : "");
	}
	printf(" Domains: %zu, %zu active\n", count[KIND_DOMAIN], active[KIND_DOMAIN]);
	printf("   Pools: %zu, %zu active\n", count[KIND_POOL], active[KIND_POOL]);
	printf("Networks: %zu, %zu active\n", count[KIND_NETWORK], active[KIND_NETWORK]);
	printf("    Jobs: %zu, %zu running\n\n", count[KIND_JOB], active[KIND_JOB]);
	return verb_connections(c, v, args, n);
}
