/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "json.h"
#include "server.h"
#include "uri.h"

#define MANY 1000000

enum option_type { TEXT, NUMBER, SHARE, RATE };

static const struct {
	const char *key;
	enum option_type type;
	size_t offset;
	uint64_t max;
} options[] = {
#define FIELD(f) offsetof(struct sim_uri, f)
	{"world", TEXT, FIELD(world)},
	{"control", TEXT, FIELD(control)},
	{"domains", NUMBER, FIELD(domains), MANY},
	{"pools", NUMBER, FIELD(pools), MANY},
	{"networks", NUMBER, FIELD(networks), MANY},
	{"xml-size", NUMBER, FIELD(xml_size), 1 << 24},
	{"seed", NUMBER, FIELD(seed), UINT64_MAX},
	{"running", SHARE, FIELD(running)},
	{"storm", RATE, FIELD(storm)},
	{"flood", RATE, FIELD(flood)},
	{"count", NUMBER, FIELD(count), UINT64_MAX},
	{"churn", SHARE, FIELD(churn)},
	{"guest-delay", NUMBER, FIELD(guest_delay), 3600000},
#undef FIELD
};

void sim_uri_done(struct sim_uri *u)
{
	free(u->name);
	free(u->path);
	free(u->world);
	free(u->control);
	*u = (struct sim_uri){};
}

/* Percent-decoded. NULL: it is broken. */
static char *decode(const char *s, size_t n)
{
	char *out = sim_must(malloc(n + 1)), *p = out;

	for (size_t i = 0; i < n; i++) {
		unsigned value;

		if (s[i] != '%') {
			*p++ = s[i];
			continue;
		}
		if (i + 2 >= n || !isxdigit((unsigned char)s[i + 1]) || !isxdigit((unsigned char)s[i + 2]) ||
		    sscanf(s + i + 1, "%2x", &value) != 1 || value == 0) {
			free(out);
			return NULL;
		}
		*p++ = (char)value;
		i += 2;
	}
	*p = '\0';
	return out;
}

static int parse_count(const char *key, const char *text, uint64_t max, uint64_t *ret, struct failure *f)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || !isdigit((unsigned char)text[0]) || *end || value > max)
		return failure_set(f, VIREO_INVALID_URI, "option '%s' is '%s'; expected a whole number from 0 to %llu.", key,
				   text, (unsigned long long)max);
	*ret = value;
	return 0;
}

static int parse_option(struct sim_uri *u, const char *key, const char *value, struct failure *f)
{
	struct failure why = {};
	int r;

	for (size_t i = 0; i < ELEMENTS(options); i++) {
		void *field = (char *)u + options[i].offset;
		char *end;
		double d;

		if (strcmp(options[i].key, key) != 0)
			continue;
		switch (options[i].type) {
		case TEXT:
			if (!value[0])
				return failure_set(f, VIREO_INVALID_URI, "option '%s' is empty.", key);
			*(char **)field = sim_strdup(value);
			return 0;
		case NUMBER:
			return parse_count(key, value, options[i].max, field, f);
		case SHARE:
			d = strtod(value, &end);
			if (end == value || *end || !(d >= 0 && d <= 1))
				return failure_set(f, VIREO_INVALID_URI,
						   "option '%s' is '%s'; expected a number from 0 to 1.", key, value);
			*(double *)field = d;
			return 0;
		case RATE:
			*(bool *)field = true;
			return parse_count(key, value, 10000000, &u->rate, f);
		}
	}
	r = sim_fault_set(&u->faults, key, NULL, value, &why);
	if (r == -ENOENT) {
		_cleanup_(freep) char *words = sim_fault_words();

		return failure_set(f, VIREO_INVALID_URI,
				   "there is no option '%s'; there are: world control domains pools networks xml-size seed "
				   "running storm flood count churn guest-delay %s.",
				   key, words);
	}
	if (r != 0) {
		failure_set(f, VIREO_INVALID_URI, "option %s", why.message);
		failure_clear(&why);
		return VIREO_INVALID_URI;
	}
	return 0;
}

static int parse_query(struct sim_uri *u, const char *query, struct failure *f)
{
	const char *all = query;

	while (*query) {
		size_t n = strcspn(query, "&"), k = strcspn(query, "=&");
		_cleanup_(freep) char *key = decode(query, k), *value = NULL;
		int r;

		if (k == n || k == 0)
			return failure_set(f, VIREO_INVALID_URI, "'%.*s' is no option; expected KEY=VALUE.", (int)n, query);
		value = decode(query + k + 1, n - k - 1);
		if (!key || !value)
			return failure_set(f, VIREO_INVALID_URI, "'%.*s' has a broken %%-code.", (int)n, query);
		/* the same key before? */
		for (const char *p = all; p < query; p += strcspn(p, "&") + 1)
			if (strcspn(p, "=") == k && strncmp(p, query, k) == 0)
				return failure_set(f, VIREO_INVALID_URI, "option '%s' is there twice.", key);
		r = parse_option(u, key, value, f);
		if (r != 0)
			return r;
		query += n;
		query += *query == '&';
	}
	if (u->storm && u->flood)
		return failure_set(f, VIREO_INVALID_URI, "options 'storm' and 'flood' do not go together.");
	return 0;
}

int sim_uri_parse(const char *uri, struct sim_uri *ret, struct failure *f)
{
	struct sim_uri u = {.running = 0.5, .guest_delay = UINT64_MAX};
	const char *p = uri + strlen("sim:");
	size_t n = strcspn(p, "?#");
	const char *query = p[n] == '?' ? p + n + 1 : "";
	char *path;
	int r;

	if (strchr(p, '#'))
		return failure_set(f, VIREO_INVALID_URI, "a '#' has no meaning here.");
	if (strncmp(p, "//", 2) == 0 && p[2] != '/')
		return failure_set(f, VIREO_INVALID_URI,
				   "it names a host; expected sim:///demo, sim:/path/scenario.json or sim:/path/socket.");
	path = decode(p, n);
	if (!path)
		return failure_set(f, VIREO_INVALID_URI, "its path has a broken %%-code.");
	if (strncmp(p, "///", 3) == 0 && strchr(path + 3, '/') == NULL) {
		uint64_t count;
		char *name = path + 3;

		if (strcmp(name, "demo") == 0 || strcmp(name, "empty") == 0)
			u.name = sim_strdup(name);
		else if (isdigit((unsigned char)name[0]) && parse_count("domains", name, MANY, &count, NULL) == 0) {
			/* sim:///10000 */
			u.name = sim_strdup("empty");
			u.domains = count;
		} else {
			r = failure_set(f, VIREO_INVALID_URI,
					"'%s' is not built in; expected demo, empty, a number of domains, or a path "
					"(sim:/path/scenario.json).",
					name);
			free(path);
			return r;
		}
	} else if (path[0] == '/' && path[1]) {
		u.path = sim_strdup(path[1] == '/' ? path + 2 : path);
	} else {
		free(path);
		return failure_set(f, VIREO_INVALID_URI,
				   "expected sim:///demo, sim:///empty, sim:/path/scenario.json or sim:/path/socket.");
	}
	free(path);
	r = parse_query(&u, query, f);
	if (r != 0) {
		sim_uri_done(&u);
		return r;
	}
	*ret = u;
	return 0;
}

bool sim_uri_is_socket(const struct sim_uri *u)
{
	struct stat st;
	size_t n;

	if (!u->path)
		return false;
	if (stat(u->path, &st) == 0)
		return S_ISSOCK(st.st_mode);
	/* not there: by its name. A scenario that isn't there is a mistake; a hypervisor may come. */
	n = strlen(u->path);
	return n < 5 || strcmp(u->path + n - 5, ".json") != 0;
}

/* ---- the world of a URI ---------------------------------------------------------------------------------------- */

static void add_crowd(struct sim_world *w, enum kind kind, const char *pattern, uint64_t count, const struct sim_uri *u)
{
	if (count == 0)
		return;
	w->crowds = sim_must(reallocarray(w->crowds, w->n_crowds + 1, sizeof(*w->crowds)));
	w->crowds[w->n_crowds++] = (struct sim_crowd){
		.kind = kind,
		.count = count,
		.pattern = sim_strdup(pattern),
		.active = u->running,
		.padding = u->xml_size,
	};
}

static void add_storm(struct sim_world *w, const struct sim_uri *u)
{
	struct json_object *steps = json_object_new_array(), *wait = json_object_new_object();
	struct json_object *storm = json_object_new_object();

	/* not before somebody is there to see it */
	json_object_object_add(wait, "do", json_object_new_string("wait-connected"));
	json_object_array_add(steps, wait);
	json_object_object_add(storm, "do", json_object_new_string(u->flood ? "flood" : "storm"));
	json_object_object_add(storm, "rate", json_object_new_uint64(u->rate));
	json_object_object_add(storm, "count", json_object_new_uint64(u->count));
	json_object_object_add(storm, "seed", json_object_new_uint64(u->seed));
	json_object_object_add(storm, "churn", json_object_new_double(u->churn));
	json_object_array_add(steps, storm);
	sim_script_add(w, steps, NULL, NULL);
	json_object_put(steps);
}

/* Faults of the URI are laid over the scenario's: those that were given. */
static void apply_faults(struct sim_world *w, const char *uri)
{
	const char *query = strchr(uri, '?');

	for (const char *p = query ? query + 1 : ""; *p;) {
		size_t n = strcspn(p, "&"), k = strcspn(p, "=&");
		_cleanup_(freep) char *key = decode(p, k), *value = k < n ? decode(p + k + 1, n - k - 1) : NULL;

		if (key && value)
			(void)sim_fault_set(&w->faults, key, NULL, value, NULL);
		p += n;
		p += *p == '&';
	}
}

int sim_uri_world(const char *uri, const struct sim_uri *u, struct sim_world **ret, struct failure *f)
{
	_cleanup_(freep) char *key = u->world ? sim_printf("world:%s", u->world) : sim_strdup(uri);
	struct sim_world *w = sim_world_find(key);
	struct json_object *j = NULL;
	struct failure why = {};
	int r = 0;

	if (w) {
		*ret = w;
		return 0;
	}
	w = sim_world_new(key);
	if (u->seed)
		w->random = u->seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
	if (u->path)
		r = sim_scenario_load(w, u->path, &why);
	else if (strcmp(u->name, "demo") == 0) {
		r = sim_json_parse(sim_demo, strlen(sim_demo), "demo", &j, &why);
		if (r == 0)
			r = sim_scenario_apply(w, j, "demo", &why);
		json_object_put(j);
	}
	if (r == 0) {
		if (u->guest_delay != UINT64_MAX)
			w->guest_delay = u->guest_delay * USEC_PER_MSEC;
		apply_faults(w, uri);
		add_crowd(w, KIND_DOMAIN, "vm-%", u->domains, u);
		add_crowd(w, KIND_POOL, "pool-%", u->pools, u);
		add_crowd(w, KIND_NETWORK, "network-%", u->networks, u);
		if (u->storm || u->flood)
			add_storm(w, u);
		if (u->control)
			r = sim_server_new(w, u->control, &w->server, &why);
	}
	if (r != 0) {
		sim_world_free(w);
		failure_set(f, VIREO_INVALID_URI, "%s", why.message);
		failure_clear(&why);
		return VIREO_INVALID_URI;
	}
	r = sim_world_start(w);
	if (r < 0)
		return r;
	*ret = w;
	return 0;
}
