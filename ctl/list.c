/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "objects.h"
#include "pager.h"
#include "show.h"

/* The verbs that list: a table, or JSON. */

enum colour state_colour(const char *state)
{
	static const struct {
		const char *state;
		enum colour colour;
	} colours[] = {{"running", GREEN}, {"blocked", GREEN}, {"connected", GREEN}, {"completed", GREEN},
		       {"paused", YELLOW}, {"pmsuspended", YELLOW}, {"connecting", YELLOW}, {"building", YELLOW},
		       {"degraded", YELLOW}, {"cancelled", YELLOW}, {"shutdown", YELLOW}, {"crashed", RED},
		       {"disconnected", RED}, {"failed", RED}, {"inaccessible", RED}, {"shutoff", DIM}, {"inactive", DIM}};

	for (size_t i = 0; i < ELEMENTS(colours); i++)
		if (strcmp(colours[i].state, state) == 0)
			return colours[i].colour;
	return PLAIN;
}

static const char *yes_no(bool b)
{
	return b ? "yes" : "no";
}

/* ---- what is listed ------------------------------------------------------------------------------------------------ */

static bool name_matches(json_object *o, char **patterns, int n)
{
	char buffer[256], label[256];
	const char *name = object_name(o, buffer, sizeof(buffer));

	for (int i = 0; i < n; i++) {
		_cleanup_(freep) char *full = NULL;

		if (asprintf(&full, "%s/%s", label_of(json_text(o, "object"), label, sizeof(label)), name) < 0)
			full = NULL;
		if (fnmatch(patterns[i], name, 0) == 0 || (full && fnmatch(patterns[i], full, 0) == 0) ||
		    strcasecmp(patterns[i], json_text(o, "UUID")) == 0)
			return true;
	}
	return n == 0;
}

static bool is_wanted(struct ctl *c, json_object *o, char **patterns, int n)
{
	const char *state = given_value(c, "state");
	bool active = json_true(o, "Active");

	if (is_given(c, "active") && !is_given(c, "inactive") && !active)
		return false;
	if (is_given(c, "inactive") && !is_given(c, "active") && active)
		return false;
	if (state && strcmp(state, json_text(o, "State")) != 0)
		return false;
	return name_matches(o, patterns, n);
}

/* One kind of object, filtered; and all jobs, where they are wanted. Both are arrays. */
static int listing(struct ctl *c, int kind, char **patterns, int n, json_object **ret, json_object **ret_jobs)
{
	struct snapshot s = {0};
	json_object *kept;
	int r;

	r = objects_snapshot(c, KINDS(kind) | (ret_jobs ? KINDS(KIND_JOB) : 0), &s);
	if (r != EXIT_OK)
		return r;
	kept = json_object_new_array();
	if (ret_jobs)
		*ret_jobs = json_object_new_array();
	for (size_t i = 0; kept && i < json_object_array_length(s.objects); i++) {
		json_object *o = json_object_array_get_idx(s.objects, i);

		if (kind_from_path(json_text(o, "object")) != kind) {
			if (ret_jobs && *ret_jobs)
				json_object_array_add(*ret_jobs, json_object_get(o));
			continue;
		}
		if (is_wanted(c, o, patterns, n))
			json_object_array_add(kept, json_object_get(o));
	}
	snapshot_clear(&s);
	*ret = kept;
	if (!kept || (ret_jobs && !*ret_jobs))
		return out_of_memory();
	/* a name that was asked for and is not there is an error; a pattern that matches nothing is not */
	for (int i = 0; i < n && json_object_array_length(kept) == 0; i++)
		if (!strpbrk(patterns[i], "*?[")) {
			complain("there is no %s “%s”", kind_nouns[kind], patterns[i]);
			return EXIT_NOT_FOUND;
		}
	return EXIT_OK;
}

static bool several_connections(json_object *objects)
{
	char first[256] = "", label[256];

	for (size_t i = 0; i < json_object_array_length(objects); i++) {
		label_of(json_text(json_object_array_get_idx(objects, i), "object"), label, sizeof(label));
		if (i == 0)
			strcpy(first, label);
		else if (strcmp(first, label) != 0)
			return true;
	}
	return false;
}

/* One a line. A name that several connections have is of no use without its label. */
static int print_names(json_object *objects)
{
	_cleanup_(json_putp) json_object *counts = several_connections(objects) ? json_object_new_object() : NULL;
	char buffer[256], label[256];

	for (size_t i = 0; counts && i < json_object_array_length(objects); i++) {
		const char *name = json_text(json_object_array_get_idx(objects, i), "Name");

		json_object_object_add(counts, name, json_object_new_int64((int64_t)json_number(counts, name) + 1));
	}
	for (size_t i = 0; i < json_object_array_length(objects); i++) {
		json_object *o = json_object_array_get_idx(objects, i);
		_cleanup_(freep) char *name = text_safe(object_name(o, buffer, sizeof(buffer)));
		bool shared = json_number(counts, json_text(o, "Name")) > 1 && *json_text(o, "Name");

		printf("%s%s%s\n", shared ? label_of(json_text(o, "object"), label, sizeof(label)) : "", shared ? "/" : "",
			name ? name : "");
	}
	return EXIT_OK;
}

/* --names and --json, which are the same for all. Return: -1 when it is neither. */
static int print_plain(struct ctl *c, json_object *objects)
{
	if (c->json != JSON_OFF)
		return json_print(c, objects);
	if (!is_given(c, "names"))
		return -1;
	return print_names(objects);
}

static void add_size(struct table *t, json_object *o, const char *key)
{
	char buffer[64];
	uint64_t bytes = json_number(o, key);

	table_add(t, PLAIN, bytes ? format_size(buffer, sizeof(buffer), bytes) : "-");
}

static void add_label(struct table *t, bool several, json_object *o)
{
	char label[256];

	table_add(t, DIM, several ? label_of(json_text(o, "object"), label, sizeof(label)) : "");
}

/* ---- domains, pools, networks -------------------------------------------------------------------------------------- */

/* What runs on an object: "save 42%", or how many do. */
static void add_job(struct table *t, json_object *all, json_object *o)
{
	json_object *jobs, *job, *percent;
	size_t n = json_object_object_get_ex(o, "Jobs", &jobs) ? json_object_array_length(jobs) : 0;

	job = n == 1 ? object_by_path(all, json_object_get_string(json_object_array_get_idx(jobs, 0))) : NULL;
	if (n == 0)
		table_add(t, PLAIN, "");
	else if (!job)
		table_addf(t, CYAN, "%zu job%s", n, n == 1 ? "" : "s");
	else if (strcmp(json_text(job, "Type"), "bounded") == 0 && json_object_object_get_ex(job, "Percent", &percent))
		table_addf(t, CYAN, "%s %.0f%%", json_text(job, "Operation"), json_object_get_double(percent));
	else
		table_add(t, CYAN, json_text(job, "Operation"));
}

/* What a row is made of. */
struct row {
	struct table *table;
	json_object *object, *jobs;
	bool several; /* connections */
};

static void add_name(struct row *r)
{
	table_add(r->table, json_true(r->object, "Active") ? BOLD : PLAIN, object_name(r->object, (char[256]){0}, 256));
	table_add(r->table, state_colour(json_text(r->object, "State")), json_text(r->object, "State"));
}

static void add_common(struct row *r)
{
	table_add(r->table, PLAIN, yes_no(json_true(r->object, "Persistent")));
	table_add(r->table, PLAIN, yes_no(json_true(r->object, "Autostart")));
	add_job(r->table, r->jobs, r->object);
	add_label(r->table, r->several, r->object);
}

struct listed {
	int kind;
	const struct column *columns;
	size_t n;
	void (*add)(struct row *r);
	const char *one, *many;
};

static int list_objects(struct ctl *c, const struct listed *l, char **args, int n)
{
	_cleanup_(json_putp) json_object *objects = NULL, *jobs = NULL;
	_cleanup_(table_freep) struct table *t = NULL;
	struct row row;
	int r = listing(c, l->kind, args, n, &objects, &jobs);

	if (r != EXIT_OK)
		return r;
	r = print_plain(c, objects);
	if (r >= 0)
		return r;
	t = table_new(l->columns, l->n);
	if (!t)
		return out_of_memory();
	row = (struct row){.table = t, .jobs = jobs, .several = several_connections(objects)};
	for (size_t i = 0; i < json_object_array_length(objects); i++) {
		row.object = json_object_array_get_idx(objects, i);
		add_name(&row);
		l->add(&row);
	}
	pager_open(c);
	return table_print(c, t, l->one, l->many);
}

static void add_domain(struct row *r)
{
	bool active = json_true(r->object, "Active");
	json_object *id;

	table_add(r->table, DIM, strcmp(json_text(r->object, "Reason"), "unknown") == 0 ? "" : json_text(r->object, "Reason"));
	if (active && json_object_object_get_ex(r->object, "ID", &id))
		table_addf(r->table, PLAIN, "%d", json_object_get_int(id));
	else
		table_add(r->table, PLAIN, "-");
	table_addf(r->table, PLAIN, "%lu", (unsigned long)json_number(r->object, "VCPUs"));
	add_size(r->table, r->object, active ? "Memory" : "MaxMemory");
	add_common(r);
	table_add(r->table, PLAIN, json_text(r->object, "Title"));
}

int verb_list(struct ctl *c, const struct verb *v, char **args, int n)
{
	static const struct column columns[] = {{"NAME", false, true, false},	  {"STATE", false, false, false},
						{"REASON", false, true, false, 4},	  {"ID", true, false, false, 6},
						{"VCPUS", true, false, false, 5},	  {"MEMORY", true, false, false},
						{"PERSISTENT", false, false, false, 3}, {"AUTOSTART", false, false, false, 2},
						{"JOB", false, false, true},	  {"CONNECTION", false, true, true},
						{"TITLE", false, true, true, 1}};
	static const struct listed listed = {KIND_DOMAIN, columns, ELEMENTS(columns), add_domain, "domain", "domains"};

	return list_objects(c, &listed, args, n);
}

static void add_pool(struct row *r)
{
	table_add(r->table, PLAIN, json_text(r->object, "Type"));
	add_size(r->table, r->object, "Capacity");
	add_size(r->table, r->object, "Allocation");
	add_size(r->table, r->object, "Available");
	add_common(r);
}

int verb_pools(struct ctl *c, const struct verb *v, char **args, int n)
{
	static const struct column columns[] = {{"NAME", false, true, false},	{"STATE", false, false, false},
						{"TYPE", false, false, false, 4},	{"CAPACITY", true, false, false},
						{"ALLOCATION", true, false, false}, {"AVAILABLE", true, false, false},
						{"PERSISTENT", false, false, false, 3}, {"AUTOSTART", false, false, false, 2},
						{"JOB", false, false, true},	{"CONNECTION", false, true, true}};
	static const struct listed listed = {KIND_POOL, columns, ELEMENTS(columns), add_pool, "storage pool", "storage pools"};

	return list_objects(c, &listed, args, n);
}

static void add_network(struct row *r)
{
	table_add(r->table, PLAIN, json_text(r->object, "Type"));
	table_add(r->table, PLAIN, json_text(r->object, "Bridge"));
	add_common(r);
}

int verb_networks(struct ctl *c, const struct verb *v, char **args, int n)
{
	static const struct column columns[] = {{"NAME", false, true, false},	{"STATE", false, false, false},
						{"TYPE", false, false, false, 4},	{"BRIDGE", false, false, true, 5},
						{"PERSISTENT", false, false, false, 3}, {"AUTOSTART", false, false, false, 2},
						{"JOB", false, false, true},	{"CONNECTION", false, true, true}};
	static const struct listed listed = {KIND_NETWORK, columns, ELEMENTS(columns), add_network, "network", "networks"};

	return list_objects(c, &listed, args, n);
}

/* ---- connections --------------------------------------------------------------------------------------------------- */

static void add_connection(struct table *t, json_object *o)
{
	const char *error = json_text(o, "Error"), *dot = strrchr(error, '.');
	json_object *events;
	bool polled = json_object_object_get_ex(o, "SupportedEvents", &events) && json_object_array_length(events) == 0;
	bool connected = strcmp(json_text(o, "State"), "connected") == 0;

	table_add(t, BOLD, object_name(o, (char[256]){0}, 256));
	table_add(t, state_colour(json_text(o, "State")), json_text(o, "State"));
	table_add(t, PLAIN, json_text(o, "Driver"));
	table_add(t, PLAIN, json_text(o, "URI"));
	table_add(t, PLAIN, json_text(o, "Hostname"));
	table_add(t, PLAIN, json_text(o, "HypervisorVersion"));
	table_add(t, polled && connected ? YELLOW : PLAIN, !connected ? "" : polled ? "polled" : "reported");
	table_add(t, RED, dot ? dot + 1 : error);
}

int verb_connections(struct ctl *c, const struct verb *v, char **args, int n)
{
	static const struct column columns[] = {{"LABEL", false, true, false},	 {"STATE", false, false, false},
						{"DRIVER", false, false, false}, {"URI", false, true, false},
						{"HOST", false, true, true, 2},	 {"HYPERVISOR", false, true, true, 1},
						{"EVENTS", false, false, true, 3},	 {"ERROR", false, false, true}};
	_cleanup_(json_putp) json_object *objects = NULL;
	_cleanup_(table_freep) struct table *t = NULL;
	int r = listing(c, KIND_CONNECTION, args, n, &objects, NULL);

	if (r != EXIT_OK)
		return r;
	/* status shows them below its own lines, status --json within its own object */
	if (!v || strcmp(v->name, "status") != 0) {
		r = print_plain(c, objects);
		if (r >= 0)
			return r;
	}
	t = table_new(columns, ELEMENTS(columns));
	if (!t)
		return out_of_memory();
	for (size_t i = 0; i < json_object_array_length(objects); i++)
		add_connection(t, json_object_array_get_idx(objects, i));
	pager_open(c);
	return table_print(c, t, "connection", "connections");
}

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

/* What is gone has no name any more, only a path. */
static const char *uuid_of(const char *path, char *buffer, size_t n)
{
	const char *last = strrchr(path, '/');

	(void)snprintf(buffer, n, "%s", last && last[1] == '_' ? last + 2 : path);
	for (char *p = buffer; last && last[1] == '_' && *p; p++)
		*p = *p == '_' ? '-' : *p;
	return buffer;
}

static const char *short_error(json_object *job)
{
	json_object *error = NULL;
	const char *name, *dot;

	if (!json_object_object_get_ex(job, "Error", &error) || !json_object_is_type(error, json_type_array))
		return "";
	name = json_object_get_string(json_object_array_get_idx(error, 0));
	dot = name ? strrchr(name, '.') : NULL;
	return dot ? dot + 1 : name;
}

static void add_job_line(struct table *t, json_object *objects, json_object *o)
{
	json_object *on = object_by_path(objects, json_text(o, "Object"));
	char buffer[64], name[256];
	const char *state = json_text(o, "State");
	bool running = strcmp(state, "running") == 0;
	uint64_t uid = json_number(o, "StartedBy");

	table_add(t, BOLD, json_text(o, "object") + strlen(VIREO_JOBS));
	table_add(t, PLAIN, json_text(o, "Operation"));
	table_add(t, PLAIN, on ? object_name(on, name, sizeof(name)) : uuid_of(json_text(o, "Object"), name, sizeof(name)));
	if (running && json_true(o, "Ready"))
		table_add(t, CYAN, "ready");
	else
		table_add(t, state_colour(state), running && json_true(o, "CancelRequested") ? "cancelling" : state);
	if (strcmp(json_text(o, "Type"), "bounded") == 0) {
		json_object *percent;

		table_addf(t, PLAIN, "%.1f%%",
			json_object_object_get_ex(o, "Percent", &percent) ? json_object_get_double(percent) : 0);
	} else
		table_add(t, PLAIN, running ? "unknown" : "-");
	if (json_number(o, "BytesTotal") || json_number(o, "BytesDone"))
		table_add(t, PLAIN, format_size(buffer, sizeof(buffer), json_number(o, "BytesDone")));
	else
		table_add(t, PLAIN, "");
	table_add(t, PLAIN, json_is_null(o, "RunningTime") ? "unknown" : format_span(buffer, sizeof(buffer), json_number(o, "RunningTime")));
	if (!running)
		table_add(t, PLAIN, "-");
	else
		table_add(t, PLAIN, json_is_null(o, "RemainingTime") ? "unknown"
					: format_span(buffer, sizeof(buffer), json_number(o, "RemainingTime")));
	if (uid == UINT32_MAX)
		table_add(t, DIM, "others");
	else
		table_addf(t, PLAIN, "uid %lu", (unsigned long)uid);
	table_add(t, RED, short_error(o));
}

int verb_jobs(struct ctl *c, const struct verb *v, char **args, int n)
{
	static const struct column columns[] = {{"JOB", true, false, false},	 {"OPERATION", false, false, false},
						{"OBJECT", false, true, false},	 {"STATE", false, false, false},
						{"PROGRESS", true, false, false}, {"DONE", true, false, true, 2},
						{"RUNNING", true, false, false, 3}, {"REMAINING", true, false, false},
						{"STARTED BY", false, false, false, 1}, {"ERROR", false, false, true}};
	_cleanup_(json_putp) json_object *jobs = json_object_new_array();
	_cleanup_(table_freep) struct table *t = table_new(columns, ELEMENTS(columns));
	struct snapshot s = {0};
	int r;

	if (!jobs || !t)
		return out_of_memory();
	r = objects_snapshot(c, KINDS_ALL, &s);
	if (r != EXIT_OK)
		return r;
	for (size_t i = 0; i < json_object_array_length(s.objects); i++) {
		json_object *o = json_object_array_get_idx(s.objects, i);

		if (strcmp(json_text(o, "kind"), "job") != 0)
			continue;
		if (is_given(c, "running") && strcmp(json_text(o, "State"), "running") != 0)
			continue;
		add_job_line(t, s.objects, o);
		json_object_array_add(jobs, json_object_get(o));
	}
	if (c->json != JSON_OFF)
		r = json_print(c, jobs);
	else {
		pager_open(c);
		r = table_print(c, t, "job", "jobs");
	}
	snapshot_clear(&s);
	return r;
}

/* ---- volumes ------------------------------------------------------------------------------------------------------- */

static int print_volumes(struct ctl *c, json_object *volumes)
{
	static const struct column columns[] = {{"NAME", false, true, false},	  {"TYPE", false, false, false, 4},
						{"FORMAT", false, false, true},	  {"CAPACITY", true, false, false},
						{"ALLOCATION", true, false, false}, {"PATH", false, true, true, 1}};
	_cleanup_(table_freep) struct table *t = table_new(columns, ELEMENTS(columns));

	if (!t)
		return out_of_memory();
	for (size_t i = 0; i < json_object_array_length(volumes); i++) {
		json_object *o = json_object_array_get_idx(volumes, i);
		char buffer[64];

		if (is_given(c, "names")) {
			_cleanup_(freep) char *name = text_safe(json_text(o, "name"));

			puts(name ? name : "");
			continue;
		}
		table_add(t, BOLD, json_text(o, "name"));
		table_add(t, PLAIN, json_text(o, "type"));
		table_add(t, PLAIN, json_text(o, "format"));
		table_add(t, PLAIN, format_size(buffer, sizeof(buffer), json_number(o, "capacity")));
		table_add(t, PLAIN, format_size(buffer, sizeof(buffer), json_number(o, "allocation")));
		table_add(t, DIM, json_text(o, "path"));
	}
	if (is_given(c, "names"))
		return EXIT_OK;
	pager_open(c);
	return table_print(c, t, "volume", "volumes");
}

int verb_volumes(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(json_putp) json_object *raw = NULL, *volumes = json_object_new_array();
	_cleanup_(freep) char *path = NULL, *what = NULL;
	int r;

	r = resolve(c, KINDS(KIND_POOL), args[0], &path);
	if (r != EXIT_OK)
		return r;
	if (asprintf(&what, "cannot list the volumes of “%s”", args[0]) < 0 || !volumes)
		return out_of_memory();
	r = client_call(c, what, &reply, path, kind_interfaces[KIND_POOL], "ListVolumes", "a{sv}", 0);
	if (r != EXIT_OK)
		return r;
	r = message_read_json(reply, &raw);
	if (r < 0)
		return client_failed(c, what, NULL, r);
	/* [name, {…}] becomes one object */
	for (size_t i = 0; i < json_object_array_length(raw); i++) {
		json_object *pair = json_object_array_get_idx(raw, i), *o = json_object_new_object();

		if (!o)
			return out_of_memory();
		json_object_object_add(o, "name", json_object_get(json_object_array_get_idx(pair, 0)));
		json_object_object_foreach(json_object_array_get_idx(pair, 1), key, value)
			json_object_object_add(o, key, json_object_get(value));
		json_object_array_add(volumes, o);
	}
	return c->json != JSON_OFF ? json_print(c, volumes) : print_volumes(c, volumes);
}
