/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "follow.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <strings.h>

#include "term.h"

/* Reading history, from wherever to wherever. */

void follower_clear(struct follower *f)
{
	json_putp(&f->view);
	json_putp(&f->past);
	f->view = f->past = NULL;
}

/* ---- filters ------------------------------------------------------------------------------------------------------- */

static int add_kinds(struct follower *f, const char *list)
{
	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ",");
		int k;

		for (k = 0; k < KIND_MAX; k++)
			if (strlen(kind_words[k]) == n && strncmp(kind_words[k], p, n) == 0)
				break;
		if (k == KIND_MAX)
			return usage_error("--kind=%.*s: there are connection, domain, pool, network and job", (int)n, p);
		f->kinds |= KINDS(k);
		p += n;
		p += *p == ',';
	}
	return EXIT_OK;
}

static int add_events(struct follower *f, const char *list)
{
	static char *kept[4];
	static size_t n_kept;
	char *copy = n_kept < ELEMENTS(kept) ? kept[n_kept++] = strdup(list) : NULL;

	if (!copy)
		return usage_error("--event can be given %zu times", ELEMENTS(kept));
	for (char *word = strtok(copy, ","); word; word = strtok(NULL, ",")) {
		if (f->n_events == ELEMENTS(f->events))
			return usage_error("at most %zu events can be named", ELEMENTS(f->events));
		f->events[f->n_events++] = word;
	}
	return EXIT_OK;
}

int follower_filter(struct follower *f)
{
	int r = EXIT_OK;

	f->kinds = 0;
	for (size_t i = 0; i < f->c->n_given && r == EXIT_OK; i++) {
		if (strcmp(f->c->given[i].option->name, "kind") == 0)
			r = add_kinds(f, f->c->given[i].value);
		else if (strcmp(f->c->given[i].option->name, "event") == 0)
			r = add_events(f, f->c->given[i].value);
	}
	if (f->kinds == 0)
		f->kinds = KINDS_ALL;
	return r;
}

/* ---- listing and fetching ------------------------------------------------------------------------------------------ */

static void build_view(struct follower *f, json_object *objects)
{
	json_object *view = json_object_new_object();
	size_t connections = 0;

	for (size_t i = 0; view && i < json_object_array_length(objects); i++) {
		json_object *o = json_object_array_get_idx(objects, i);

		connections += kind_from_path(json_text(o, "object")) == KIND_CONNECTION;
		json_object_object_add(view, json_text(o, "object"), json_object_get(o));
	}
	json_putp(&f->view);
	f->view = view;
	f->several = connections > 1;
}

int follower_list(struct follower *f)
{
	struct snapshot s = {0};
	int r = objects_snapshot(f->c, KINDS_ALL, &s);

	if (r != EXIT_OK)
		return r;
	memcpy(f->epoch, s.epoch, sizeof(f->epoch));
	f->after = s.version;
	build_view(f, s.objects);
	snapshot_clear(&s);
	return f->view ? EXIT_OK : out_of_memory();
}

int follower_try_list(struct follower *f, sd_bus_error *e)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	struct snapshot s = {0};
	int r;

	r = sd_bus_message_new_method_call(f->c->bus, &m, VIREO_NAME, VIREO_ROOT, VIREO_MANAGER, "GetSnapshot");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = append_filter(f->c, m, KINDS_ALL);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_call(f->c->bus, m, 0, e, &reply);
	if (r >= 0)
		r = snapshot_read(reply, &s);
	if (r < 0)
		return r;
	memcpy(f->epoch, s.epoch, sizeof(f->epoch));
	f->after = s.version;
	build_view(f, s.objects);
	snapshot_clear(&s);
	return f->view ? 0 : -ENOMEM;
}

static int append_events_call(struct follower *f, sd_bus_message *m, uint64_t timeout, uint32_t max)
{
	int r = sd_bus_message_append(m, "stut", f->epoch, f->after, max, timeout);

	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = append_filter(f->c, m, f->kinds);
	if (r >= 0 && f->n_events > 0)
		r = append_strings(m, "events", 's', f->events, f->n_events);
	if (r >= 0 && f->object)
		r = append_strings(m, "objects", 'o', &f->object, 1);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int read_event(sd_bus_message *m, json_object **ret)
{
	static const char *const keys[] = {"version", "previous", "kind", "object", "event", "reason", "timestamp",
					   "properties", "details"};
	_cleanup_(json_putp) json_object *o = json_object_new_object();
	json_object *properties = NULL;

	if (!o)
		return -ENOMEM;
	for (size_t i = 0; i < ELEMENTS(keys); i++) {
		json_object *value = NULL;
		int r = message_read_json(m, &value);

		if (r <= 0)
			return r < 0 ? r : -EBADMSG;
		json_object_object_add(o, keys[i], value);
		if (i == 5 || i == 6)
			continue;
		if (i == 3)
			json_object_object_add(o, "name", NULL);
	}
	(void)json_object_object_get_ex(o, "properties", &properties);
	if (properties && *json_text(properties, "Name"))
		json_object_object_add(o, "name", json_object_new_string(json_text(properties, "Name")));
	else
		json_object_object_del(o, "name");
	*ret = TAKE(o);
	return 1;
}

int follower_fetch(struct follower *f, uint64_t timeout, uint32_t max, bool start, json_object **ret, bool *more,
		   sd_bus_error *e)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	_cleanup_(json_putp) json_object *events = json_object_new_array();
	uint64_t version;
	int r, b;

	if (!events)
		return -ENOMEM;
	r = sd_bus_message_new_method_call(f->c->bus, &m, VIREO_NAME, VIREO_ROOT, VIREO_MANAGER, "GetEvents");
	if (r >= 0)
		r = sd_bus_message_set_auto_start(m, start);
	if (r >= 0)
		r = sd_bus_message_set_allow_interactive_authorization(m, true);
	if (r >= 0)
		r = append_events_call(f, m, timeout, max);
	if (r >= 0)
		r = sd_bus_call(f->c->bus, m, timeout + CALL_LIMIT, e, &reply);
	if (r >= 0)
		r = sd_bus_message_read(reply, "tb", &version, &b);
	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'a', "(ttsossta{sv}a{sv})");
	while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'r', "ttsossta{sv}a{sv}")) > 0) {
		json_object *event = NULL;

		r = read_event(reply, &event);
		if (r >= 0)
			r = sd_bus_message_exit_container(reply);
		if (event)
			json_object_array_add(events, event);
	}
	if (r < 0)
		return r;
	f->after = version;
	*more = b;
	*ret = TAKE(events);
	return 0;
}

void follower_apply(struct follower *f, json_object *event)
{
	const char *path = json_text(event, "object");
	json_object *properties;

	if (!f->view)
		return;
	if (!json_object_object_get_ex(event, "properties", &properties))
		return;
	if (strcmp(json_text(event, "event"), "Removed") != 0) {
		json_object_object_add(f->view, path, json_object_get(properties));
		return;
	}
	json_object_object_del(f->view, path);
	if (kind_from_path(path) == KIND_JOB)
		return;
	/* events of its jobs may still come; but not for ever */
	if (f->past && json_object_object_length(f->past) > 10000) {
		json_putp(&f->past);
		f->past = NULL;
	}
	if (!f->past)
		f->past = json_object_new_object();
	if (f->past)
		json_object_object_add(f->past, path, json_object_get(properties));
}

json_object *follower_before(struct follower *f, json_object *event)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(json_putp) json_object *events = NULL;
	const char *path = json_text(event, "object");
	uint64_t previous = json_number(event, "previous");
	struct follower one = {.c = f->c, .kinds = KINDS_ALL, .object = path, .after = previous - 1};
	json_object *o;
	bool more;

	if (previous == 0)
		return NULL;
	if (f->view && json_object_object_get_ex(f->view, path, &o) && json_number(o, "Version") == previous)
		return json_object_get(o);
	memcpy(one.epoch, f->epoch, sizeof(one.epoch));
	if (follower_fetch(&one, 0, 1, false, &events, &more, &e) < 0 || json_object_array_length(events) == 0)
		return NULL;
	o = json_object_array_get_idx(events, 0);
	return json_number(o, "version") == previous ? json_object_get(json_object_object_get(o, "properties")) : NULL;
}

/* ---- moments ------------------------------------------------------------------------------------------------------- */

int moment_parse(const char *option, const char *text, struct moment *ret)
{
	const char *colon = strchr(text, ':');

	*ret = (struct moment){0};
	if (strcmp(text, "oldest") == 0) {
		ret->what = MOMENT_OLDEST;
		return EXIT_OK;
	}
	if (colon && colon - text == 32 && strspn(text, "0123456789abcdefABCDEF") == 32) {
		memcpy(ret->epoch, text, 32);
		text = colon + 1;
		if (!parse_number(text, UINT64_C(1) << 53, &ret->version))
			return usage_error("--%s: “%s” is no version: what follows the epoch is a number", option, text);
		ret->what = MOMENT_VERSION;
		return EXIT_OK;
	}
	if (parse_number(text, UINT64_C(1) << 53, &ret->version)) {
		ret->what = MOMENT_VERSION;
		return EXIT_OK;
	}
	if (parse_time(text, now_usec(CLOCK_REALTIME), &ret->time)) {
		ret->what = MOMENT_TIME;
		return EXIT_OK;
	}
	return usage_error("--%s=%s is not understood. It can be EPOCH:VERSION, VERSION, oldest, or a time: "
			   "“2026-01-31 12:00”, 12:00, today, yesterday, “10min ago”, @1790000000",
		option, text);
}

/* Timestamp of the first event of all above a version; 0: there is none. */
static int probe(struct follower *f, uint64_t after, uint64_t *ret)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(json_putp) json_object *events = NULL;
	struct follower all = {.c = f->c, .after = after, .kinds = KINDS_ALL};
	const char *only = TAKE(f->c->connection);
	bool more;
	int r;

	memcpy(all.epoch, f->epoch, sizeof(all.epoch));
	r = follower_fetch(&all, 0, 1, true, &events, &more, &e);
	f->c->connection = only;
	if (r < 0)
		return client_failed(f->c, "cannot read history", &e, r);
	*ret = json_object_array_length(events) ? json_number(json_object_array_get_idx(events, 0), "timestamp") : 0;
	return EXIT_OK;
}

static int seek_time(struct follower *f, uint64_t oldest, uint64_t time)
{
	/* the event above low is older, or low is where history begins; none above high is */
	uint64_t low = oldest, high = f->after, at;
	int r = probe(f, low, &at);

	if (r != EXIT_OK)
		return r;
	if (at == 0 || at >= time)
		high = low;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;

		r = probe(f, middle, &at);
		if (r != EXIT_OK)
			return r;
		if (at == 0 || at >= time)
			high = middle;
		else
			low = middle;
	}
	f->after = high;
	return EXIT_OK;
}

int follower_seek(struct follower *f, const struct moment *m)
{
	_cleanup_(json_putp) json_object *manager = NULL;
	uint64_t oldest;
	int r;

	if (m->what == MOMENT_NONE)
		return EXIT_OK;
	if (m->what == MOMENT_VERSION) {
		f->after = m->version;
		if (m->epoch[0])
			memcpy(f->epoch, m->epoch, sizeof(f->epoch));
		return EXIT_OK;
	}
	r = client_get_all(f->c, VIREO_ROOT, VIREO_MANAGER, &manager);
	if (r != EXIT_OK)
		return r;
	oldest = json_number(manager, "OldestVersion");
	if (m->what == MOMENT_TIME)
		return seek_time(f, oldest, m->time);
	f->after = oldest;
	return EXIT_OK;
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

static json_object *view_get(struct follower *f, const char *path)
{
	json_object *o;

	if (f->view && json_object_object_get_ex(f->view, path, &o))
		return o;
	return f->past && json_object_object_get_ex(f->past, path, &o) ? o : NULL;
}

/* Path, name and UUID of what an event is about; of a job's, what the job works on. */
static void event_subject(struct follower *f, json_object *event, const char **path, const char **name, const char **uuid)
{
	json_object *properties = NULL;

	(void)json_object_object_get_ex(event, "properties", &properties);
	*path = json_text(event, "object");
	if (kind_from_path(*path) == KIND_JOB) {
		*path = json_text(properties, "Object");
		properties = view_get(f, *path);
	}
	*name = json_text(properties, "Name");
	*uuid = json_text(properties, "UUID");
}

const char *event_name(struct follower *f, json_object *event, char *buffer, size_t n)
{
	const char *path, *name, *uuid;
	char label[256];

	event_subject(f, event, &path, &name, &uuid);
	label_of(path, label, sizeof(label));
	if (kind_from_path(path) == KIND_CONNECTION || !*name)
		(void)snprintf(buffer, n, "%s", *name ? name : *uuid ? uuid : *label ? label : path);
	else
		(void)snprintf(buffer, n, "%s%s%s", f->several ? label : "", f->several ? "/" : "", name);
	return buffer;
}

bool event_concerns(struct follower *f, json_object *event, char **names, int n)
{
	const char *path, *name, *uuid;
	char label[256], full[1024];

	event_subject(f, event, &path, &name, &uuid);
	label_of(path, label, sizeof(label));
	if (kind_from_path(path) == KIND_CONNECTION)
		name = label;
	(void)snprintf(full, sizeof(full), "%s/%s", label, name);
	for (int i = 0; i < n; i++)
		if (fnmatch(names[i], name, 0) == 0 || fnmatch(names[i], full, 0) == 0 || strcmp(names[i], name) == 0 ||
		    strcasecmp(names[i], uuid) == 0 || strcmp(names[i], path) == 0)
			return true;
	return n == 0;
}
