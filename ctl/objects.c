/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "objects.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "term.h"

/* Listing, and finding the object that somebody means. */

void snapshot_clear(struct snapshot *s)
{
	json_putp(&s->objects);
	*s = (struct snapshot){0};
}

char *label_of(const char *path, char *buffer, size_t n)
{
	const char *p = path + strlen(VIREO_CONNECTIONS);

	buffer[0] = 0;
	if (strncmp(path, VIREO_CONNECTIONS, strlen(VIREO_CONNECTIONS)) == 0)
		(void)snprintf(buffer, n, "%.*s", (int)strcspn(p, "/"), p);
	return buffer;
}

const char *object_name(json_object *o, char *buffer, size_t n)
{
	const char *path = json_text(o, "object"), *name = json_text(o, "Name");

	switch (kind_from_path(path)) {
	case KIND_CONNECTION:
		return label_of(path, buffer, n);
	case KIND_JOB:
		(void)snprintf(buffer, n, "%s", path + strlen(VIREO_JOBS));
		return buffer;
	default:
		/* a name may be empty: the UUID then, so that there is something to see and to say */
		return *name ? name : json_text(o, "UUID");
	}
}

static int compare_objects(const void *a, const void *b)
{
	json_object *x = *(json_object *const *)a, *y = *(json_object *const *)b;
	const char *p = json_text(x, "object"), *q = json_text(y, "object");
	int k = kind_from_path(p), l = kind_from_path(q), r;
	char one[256], two[256];

	if (k == KIND_JOB || l == KIND_JOB) {
		uint64_t i = k == KIND_JOB ? strtoull(p + strlen(VIREO_JOBS), NULL, 10) : 0;
		uint64_t j = l == KIND_JOB ? strtoull(q + strlen(VIREO_JOBS), NULL, 10) : 0;

		return i < j ? -1 : i > j;
	}
	r = strcmp(label_of(p, one, sizeof(one)), label_of(q, two, sizeof(two)));
	if (r == 0)
		r = k - l;
	/* web-9 before web-10 */
	if (r == 0)
		r = strverscmp(json_text(x, "Name"), json_text(y, "Name"));
	return r ? r : strcmp(p, q);
}

int snapshot_read(sd_bus_message *reply, struct snapshot *ret)
{
	struct snapshot s = {0};
	const char *epoch;
	int r;

	r = sd_bus_message_read(reply, "st", &epoch, &s.version);
	if (r < 0)
		return r;
	(void)snprintf(s.epoch, sizeof(s.epoch), "%s", epoch);
	s.objects = json_object_new_array();
	if (!s.objects)
		return -ENOMEM;
	r = sd_bus_message_enter_container(reply, 'a', "(osa{sv})");
	while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'r', "osa{sv}")) > 0) {
		const char *path, *interface;
		json_object *properties = NULL, *o;
		int kind;

		r = sd_bus_message_read(reply, "os", &path, &interface);
		if (r >= 0)
			r = message_read_json(reply, &properties);
		if (r >= 0)
			r = sd_bus_message_exit_container(reply);
		if (r < 0) {
			json_putp(&properties);
			break;
		}
		kind = kind_from_interface(interface);
		o = kind < 0 ? NULL : json_object_new_object();
		if (o) {
			json_object_object_add(o, "object", json_object_new_string(path));
			json_object_object_add(o, "kind", json_object_new_string(kind_words[kind]));
			json_object_object_foreach(properties, key, value)
				json_object_object_add(o, key, json_object_get(value));
			json_object_array_add(s.objects, o);
		}
		json_putp(&properties);
	}
	if (r < 0) {
		snapshot_clear(&s);
		return r;
	}
	json_object_array_sort(s.objects, compare_objects);
	*ret = s;
	return 0;
}

int append_strings(sd_bus_message *m, const char *key, char type, const char *const *strings, size_t n)
{
	char array[3] = {'a', type, 0};
	int r = sd_bus_message_open_container(m, 'e', "sv");

	if (r >= 0)
		r = sd_bus_message_append(m, "s", key);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', array);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', array + 1);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = sd_bus_message_append_basic(m, type, strings[i]);
	for (int i = 0; i < 3 && r >= 0; i++)
		r = sd_bus_message_close_container(m);
	return r;
}

int append_filter(struct ctl *c, sd_bus_message *m, unsigned kinds)
{
	const char *words[KIND_MAX], *path;
	char buffer[512];
	size_t n = 0;
	int r = 0;

	for (int k = 0; k < KIND_MAX; k++)
		if (kinds & KINDS(k))
			words[n++] = kind_words[k];
	if (n < KIND_MAX)
		r = append_strings(m, "kinds", 's', words, n);
	if (r >= 0 && c->connection) {
		(void)snprintf(buffer, sizeof(buffer), VIREO_CONNECTIONS "%s", c->connection);
		path = buffer;
		r = append_strings(m, "connections", 'o', &path, 1);
	}
	return r;
}

int objects_snapshot(struct ctl *c, unsigned kinds, struct snapshot *ret)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	int r;

	r = check_connection(c);
	if (r == EXIT_OK)
		r = client_new_call(c, &m, VIREO_ROOT, VIREO_MANAGER, "GetSnapshot");
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = append_filter(c, m, kinds);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_failed(c, "cannot list", NULL, r);
	r = client_send(c, m, "cannot list", &reply);
	if (r != EXIT_OK)
		return r;
	r = snapshot_read(reply, ret);
	return r < 0 ? client_failed(c, "cannot read the listing", NULL, r) : EXIT_OK;
}

json_object *object_by_path(json_object *objects, const char *path)
{
	for (size_t i = 0; i < json_object_array_length(objects); i++) {
		json_object *o = json_object_array_get_idx(objects, i);

		if (strcmp(json_text(o, "object"), path) == 0)
			return o;
	}
	return NULL;
}

/* ---- connections --------------------------------------------------------------------------------------------------- */

static int list_connections(struct ctl *c, struct snapshot *ret)
{
	const char *only = TAKE(c->connection);
	int r = objects_snapshot(c, KINDS(KIND_CONNECTION), ret);

	c->connection = only;
	return r;
}

static void name_connections(json_object *objects)
{
	char label[256];

	for (size_t i = 0; i < json_object_array_length(objects); i++) {
		json_object *o = json_object_array_get_idx(objects, i);

		fprintf(stderr, "  %-20s %s\n", label_of(json_text(o, "object"), label, sizeof(label)), json_text(o, "URI"));
	}
}

int check_connection(struct ctl *c)
{
	static const char *checked; /* one process, one label: once is enough */
	struct snapshot s = {0};
	bool found = false;
	char label[256];
	int r;

	if (!c->connection || checked == c->connection)
		return EXIT_OK;
	r = list_connections(c, &s);
	if (r != EXIT_OK)
		return r;
	for (size_t i = 0; i < json_object_array_length(s.objects) && !found; i++) {
		json_object *o = json_object_array_get_idx(s.objects, i);

		label_of(json_text(o, "object"), label, sizeof(label));
		found = strcmp(label, c->connection) == 0 || strcmp(json_text(o, "URI"), c->connection) == 0;
	}
	if (found) {
		/* by its URI too: from here on it is a label */
		c->connection = checked = strdup(label);
		r = c->connection ? EXIT_OK : out_of_memory();
	} else {
		complain("there is no connection “%s”. There %s:", c->connection,
			 json_object_array_length(s.objects) == 1 ? "is" : "are");
		name_connections(s.objects);
		r = EXIT_NOT_FOUND;
	}
	snapshot_clear(&s);
	return r;
}

int resolve_connection(struct ctl *c, char **ret)
{
	struct snapshot s = {0};
	int r = objects_snapshot(c, KINDS(KIND_CONNECTION), &s);

	if (r != EXIT_OK)
		return r;
	if (json_object_array_length(s.objects) == 1) {
		*ret = strdup(json_text(json_object_array_get_idx(s.objects, 0), "object"));
		r = *ret ? EXIT_OK : out_of_memory();
	} else if (json_object_array_length(s.objects) == 0) {
		complain("there is no connection to a hypervisor; “vireoctl open URI” makes one");
		r = EXIT_NOT_FOUND;
	} else {
		complain("there are several connections: say which with --connection=LABEL:");
		name_connections(s.objects);
		r = EXIT_AMBIGUOUS;
	}
	snapshot_clear(&s);
	return r;
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

/* 32 hex digits, dashes wherever; into 36 characters and a NUL. */
static bool normal_uuid(const char *s, char *ret)
{
	size_t n = 0;

	for (; *s; s++) {
		if (*s == '-')
			continue;
		if (!strchr("0123456789abcdefABCDEF", *s) || n == 36)
			return false;
		if (n == 8 || n == 13 || n == 18 || n == 23)
			ret[n++] = '-';
		ret[n++] = *s >= 'A' && *s <= 'F' ? (char)(*s + 32) : *s;
	}
	ret[n] = 0;
	return n == 36;
}

static bool is_called(json_object *o, const char *name)
{
	const char *path = json_text(o, "object");
	char buffer[256];

	switch (kind_from_path(path)) {
	case KIND_CONNECTION:
		return strcmp(label_of(path, buffer, sizeof(buffer)), name) == 0 || strcmp(json_text(o, "URI"), name) == 0;
	case KIND_JOB:
		return strcmp(path + strlen(VIREO_JOBS), name) == 0;
	default:
		return strcmp(json_text(o, "Name"), name) == 0;
	}
}

struct matches {
	json_object *found[64];
	size_t n;
};

static void match_all(json_object *objects, const char *name, struct matches *m)
{
	const char *slash = strchr(name, '/');
	char uuid[37], label[256];
	bool by_uuid = normal_uuid(name, uuid);
	size_t count = json_object_array_length(objects);

	m->n = 0;
	/* as the broker does it: a UUID first, then names; and only then what has a label in front */
	for (int pass = 0; pass < 3 && m->n == 0; pass++)
		for (size_t i = 0; i < count && m->n < ELEMENTS(m->found); i++) {
			json_object *o = json_object_array_get_idx(objects, i);
			const char *path = json_text(o, "object");
			bool hit;

			if (pass == 0)
				hit = strcmp(path, name) == 0 || (by_uuid && strcmp(json_text(o, "UUID"), uuid) == 0);
			else if (pass == 1)
				hit = is_called(o, name);
			else {
				label_of(path, label, sizeof(label));
				hit = slash && strlen(label) == (size_t)(slash - name) &&
				      strncmp(label, name, (size_t)(slash - name)) == 0 &&
				      (is_called(o, slash + 1) ||
				       (normal_uuid(slash + 1, uuid) && strcmp(json_text(o, "UUID"), uuid) == 0));
			}
			if (hit)
				m->found[m->n++] = o;
		}
}

static void kinds_text(unsigned kinds, char *buffer, size_t n)
{
	size_t used = 0;

	buffer[0] = 0;
	if ((kinds & KINDS_ALL) == KINDS_ALL) {
		(void)snprintf(buffer, n, "object");
		return;
	}
	for (int k = 0; k < KIND_MAX && used < n; k++)
		if (kinds & KINDS(k))
			used += (size_t)snprintf(buffer + used, n - used, "%s%s", used ? " or " : "", kind_nouns[k]);
}

/* How many letters one must change to make the one the other; above @limit: any larger number. */
static unsigned distance(const char *a, const char *b, unsigned limit)
{
	unsigned row[65];
	size_t n = strlen(a), m = strlen(b);

	if (n > 64 || m > 64 || (n > m ? n - m : m - n) > limit)
		return limit + 1;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned change = diagonal + (a[i - 1] != b[j - 1]), least = row[j] + 1;

			diagonal = row[j];
			least = row[j - 1] + 1 < least ? row[j - 1] + 1 : least;
			row[j] = change < least ? change : least;
		}
	}
	return row[m];
}

static int not_found(json_object *objects, unsigned kinds, const char *name)
{
	_cleanup_(freep) char *safe = text_safe(name);
	char what[128], buffer[256], near[256] = "";
	unsigned best = strlen(name) < 4 ? 1 : 2;

	kinds_text(kinds, what, sizeof(what));
	for (size_t i = 0; i < json_object_array_length(objects); i++) {
		json_object *o = json_object_array_get_idx(objects, i);
		unsigned d;

		if (kind_from_path(json_text(o, "object")) == KIND_JOB)
			continue;
		d = distance(object_name(o, buffer, sizeof(buffer)), name, best);
		if (d <= best && (!*near || d < best)) {
			best = d;
			(void)snprintf(near, sizeof(near), "%s", object_name(o, buffer, sizeof(buffer)));
		}
	}
	if (*near) {
		_cleanup_(freep) char *safe_near = text_safe(near);

		complain("there is no %s “%s”; did you mean “%s”?", what, safe ? safe : "", safe_near ? safe_near : "");
	} else
		complain("there is no %s “%s”", what, safe ? safe : "");
	return EXIT_NOT_FOUND;
}

static int ambiguous(const struct matches *m, const char *name)
{
	_cleanup_(freep) char *safe = text_safe(name);
	bool same_connection = false;
	char label[256], other[256];

	for (size_t i = 1; i < m->n; i++)
		same_connection = same_connection || strcmp(label_of(json_text(m->found[0], "object"), label, sizeof(label)),
			label_of(json_text(m->found[i], "object"), other, sizeof(other))) == 0;
	complain("“%s” can mean %s%zu objects; say %s:", safe ? safe : "", m->n == ELEMENTS(m->found) ? "at least " : "",
		 m->n, same_connection ? "the UUID" : "which, or name the connection with --connection");
	for (size_t i = 0; i < m->n && i < 20; i++) {
		json_object *o = m->found[i];
		_cleanup_(freep) char *shown = text_safe(json_text(o, "Name"));

		label_of(json_text(o, "object"), label, sizeof(label));
		fprintf(stderr, "  %-10s %s/%s  %s  %s\n", json_text(o, "kind"), label, shown ? shown : "", json_text(o, "UUID"),
			json_text(o, "State"));
	}
	return EXIT_AMBIGUOUS;
}

bool lookup(struct ctl *c, unsigned kinds, const char *name, char **ret)
{
	static const char *const methods[KIND_MAX] = {[KIND_DOMAIN] = "LookupDomain",
						      [KIND_POOL] = "LookupPool",
						      [KIND_NETWORK] = "LookupNetwork"};

	for (int k = KIND_DOMAIN; k <= KIND_NETWORK; k++) {
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
		const char *path;

		if (kinds != KINDS(k) || c->connection || !c->bus || name[0] == '/')
			continue;
		if (sd_bus_call_method(c->bus, VIREO_NAME, VIREO_ROOT, VIREO_MANAGER, methods[k], NULL, &reply, "s", name) < 0)
			return false;
		if (sd_bus_message_read(reply, "o", &path) < 0)
			return false;
		*ret = strdup(path);
		return *ret != NULL;
	}
	return false;
}

int resolve(struct ctl *c, unsigned kinds, const char *name, char **ret)
{
	struct snapshot s = {0};
	struct matches m;
	int r;

	r = client_open(c);
	if (r != EXIT_OK)
		return r;
	if (!*name)
		return usage_error("an empty name names nothing");
	if (lookup(c, kinds, name, ret))
		return EXIT_OK;
	r = objects_snapshot(c, kinds, &s);
	if (r != EXIT_OK)
		return r;
	match_all(s.objects, name, &m);
	if (m.n == 1) {
		*ret = strdup(json_text(m.found[0], "object"));
		r = *ret ? EXIT_OK : out_of_memory();
	} else
		r = m.n == 0 ? not_found(s.objects, kinds, name) : ambiguous(&m, name);
	snapshot_clear(&s);
	return r;
}

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

static int pick_job(struct ctl *c, json_object *objects, const char *object, const char *name, const char *wanted, char **ret)
{
	size_t found = 0, running = 0;

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < json_object_array_length(objects); i++) {
			json_object *o = json_object_array_get_idx(objects, i);

			if (strcmp(json_text(o, "kind"), "job") != 0 || strcmp(json_text(o, "Object"), object) != 0 ||
			    strcmp(json_text(o, "State"), "running") != 0)
				continue;
			running += pass == 0;
			if (wanted && !json_true(o, wanted))
				continue;
			if (pass == 0) {
				found++;
				free(*ret);
				*ret = strdup(json_text(o, "object"));
			} else if (found > 1)
				fprintf(stderr, "  %-10s %s\n", json_text(o, "object") + strlen(VIREO_JOBS), json_text(o, "Operation"));
		}
		if (pass == 0 && found == 1)
			return *ret ? EXIT_OK : out_of_memory();
		if (pass == 0 && found > 1)
			complain("%zu jobs run on “%s”; say the number of one:", found, name);
	}
	free(TAKE(*ret));
	if (found > 1)
		return EXIT_AMBIGUOUS;
	if (running > 0) {
		complain("no job of “%s” is %s", name, strcmp(wanted, "Ready") == 0 ? "ready to be completed" : "cancellable");
		return EXIT_STATE;
	}
	complain("no job runs on “%s”", name);
	return EXIT_NOT_FOUND;
}

int resolve_job(struct ctl *c, const char *name, const char *wanted, char **ret)
{
	struct snapshot s = {0};
	struct matches m;
	int r;

	r = client_open(c);
	if (r == EXIT_OK)
		r = objects_snapshot(c, KINDS_ALL & ~KINDS(KIND_CONNECTION), &s);
	if (r != EXIT_OK)
		return r;
	match_all(s.objects, name, &m);
	if (m.n == 1 && kind_from_path(json_text(m.found[0], "object")) == KIND_JOB) {
		*ret = strdup(json_text(m.found[0], "object"));
		r = *ret ? EXIT_OK : out_of_memory();
	} else if (m.n == 1)
		r = pick_job(c, s.objects, json_text(m.found[0], "object"), name, wanted, ret);
	else if (m.n > 1)
		r = ambiguous(&m, name);
	else if (name[strspn(name, "0123456789")] == 0) {
		complain("there is no job %s; jobs are forgotten a while after their end", name);
		r = EXIT_NOT_FOUND;
	} else
		r = not_found(s.objects, KINDS(KIND_DOMAIN) | KINDS(KIND_POOL) | KINDS(KIND_NETWORK) | KINDS(KIND_JOB), name);
	snapshot_clear(&s);
	return r;
}
