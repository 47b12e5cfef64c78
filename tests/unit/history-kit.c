/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "history-kit.h"
#include "util/vdict.h"

#define CONNECTION "/org/vireo1/connection/test"

void kit_make_directory(struct kit *k)
{
	const char *tmp = getenv("TMPDIR");

	/* No power is really cut here, so there is no need to wait for a disk. */
	if (!tmp)
		tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(k->directory, sizeof(k->directory), "%s/vireo-history-XXXXXX", tmp);
	assert_non_null(mkdtemp(k->directory));
	k->config.directory = k->directory;
	if (!k->config.boot_id)
		k->config.boot_id = BOOT_ONE;
}

static void each_name(const char *directory, void (*fn)(const char *name, void *userdata), void *userdata)
{
	DIR *d = opendir(directory);
	struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			fn(e->d_name, userdata);
	closedir(d);
}

static void remove_one(const char *name, void *userdata)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/%s", (const char *)userdata, name);
	assert_int_equal(unlink(path), 0);
}

void kit_remove_directory(const char *directory)
{
	each_name(directory, remove_one, (void *)directory);
	assert_int_equal(rmdir(directory), 0);
}

void kit_open(struct kit *k)
{
	struct failure f = {0};
	int r;

	if (!k->clock)
		assert_int_equal(clock_new_virtual(1, &k->clock), 0);
	r = history_open(&k->config, k->clock, &k->history, &f);
	if (r != 0)
		fail_msg("history_open: %d, %s", r, f.message ? f.message : "");
}

static int on_object(const struct history_object *o, void *userdata)
{
	struct kit *k = userdata;
	unsigned i;

	if (o->kind == KIND_DOMAIN && sscanf(o->path, CONNECTION "/domain/_%u", &i) == 1 && i < ELEMENTS(k->last))
		k->last[i] = o->version;
	return 0;
}

void kit_load(struct kit *k)
{
	memset(k->last, 0, sizeof(k->last));
	assert_int_equal(history_load(k->history, on_object, k), 0);
}

void kit_close(struct kit *k)
{
	history_close(k->history);
	k->history = NULL;
	clock_free(k->clock);
	k->clock = NULL;
}

/* What a version looks like; nothing here is random, so a reader needs no copy. */
static struct event *make(uint64_t version, uint64_t previous, unsigned i, uint64_t now, const char *name, size_t xml)
{
	char path[100], text[64];
	struct event *e;

	snprintf(path, sizeof(path), CONNECTION "/domain/_%u", i);
	e = event_new(KIND_DOMAIN, path, CONNECTION, name ? name : previous ? "Updated" : "Added",
			version % 3 ? "" : "from-snapshot");
	assert_non_null(e);
	e->version = version;
	e->previous = previous;
	e->timestamp = now;
	e->inferred = version % 2;
	e->props = props_new(KIND_DOMAIN);
	assert_non_null(e->props);
	snprintf(text, sizeof(text), "domain %u / \"é\"", i);
	assert_int_equal(props_set_s(e->props, DOMAIN_NAME, text), 0);
	snprintf(text, sizeof(text), "as at %" PRIu64, version);
	assert_int_equal(props_set_s(e->props, DOMAIN_TITLE, text), 0);
	assert_int_equal(props_set_s(e->props, DOMAIN_UUID, "11111111-2222-3333-4444-555555555555"), 0);
	assert_int_equal(props_set_s(e->props, DOMAIN_CONNECTION, CONNECTION), 0);
	assert_int_equal(props_set_s(e->props, DOMAIN_OS_TYPE, "hvm"), 0);
	assert_int_equal(props_set_s(e->props, DOMAIN_STATE, version % 5 ? "running" : "shutoff"), 0);
	assert_int_equal(props_set_s(e->props, DOMAIN_REASON, "booted"), 0);
	e->props->v[DOMAIN_MAX_MEMORY].t = UINT64_MAX - version;
	e->props->v[DOMAIN_ACTIVE].b = version % 5 != 0;
	e->props->v[DOMAIN_ID].i = version % 5 ? (int)(version % 1000) : -1;
	e->props->v[DOMAIN_VERSION].t = version;
	if (version % 4 == 0) {
		e->details = vdict_new();
		assert_int_equal(vdict_set_t(e->details, "number", version), 0);
		assert_int_equal(vdict_set_s(e->details, "word", "ä"), 0);
	}
	if (xml > 0) {
		char *s = malloc(xml + 100);
		int n;

		assert_non_null(s);
		n = sprintf(s, "<domain id='%" PRIu64 "'>", version);
		memset(s + n, 'x', xml);
		strcpy(s + n + xml, "</domain>");
		e->xml = text_new(s);
		free(s);
		snprintf(text, sizeof(text), "<domain name='%u'/>", i);
		e->xml_inactive = text_new(text);
		assert_true(e->xml && e->xml_inactive);
	}
	return e;
}

void kit_check(const struct event *e)
{
	unsigned i;
	struct event *should;

	assert_int_equal(sscanf(e->path, CONNECTION "/domain/_%u", &i), 1);
	should = make(e->version, e->previous, i, e->timestamp, e->name, e->xml ? e->xml->size : 0);
	assert_int_equal(e->kind, KIND_DOMAIN);
	assert_string_equal(e->connection, should->connection);
	assert_string_equal(e->reason, should->reason);
	assert_int_equal(e->inferred, should->inferred);
	for (unsigned p = 0; p < DOMAIN_PROP_MAX; p++)
		assert_true(props_value_equal(e->props, should->props, p));
	assert_int_equal(e->details ? e->details->n : 0, should->details ? should->details->n : 0);
	if (e->details) {
		assert_true(vdict_t(e->details, "number", 0) == e->version);
		assert_string_equal(vdict_s(e->details, "word", ""), "ä");
	}
	if (e->xml) {
		char begin[64];

		sprintf(begin, "<domain id='%" PRIu64 "'>", e->version);
		assert_memory_equal(e->xml->data, begin, strlen(begin));
		assert_true(text_equal(e->xml_inactive, should->xml_inactive));
	}
	event_unref(should);
}

uint64_t kit_event_xml(struct kit *k, unsigned i, size_t xml)
{
	uint64_t version = history_next(k->history);
	struct event *e = make(version, k->last[i], i, clock_realtime(k->clock), NULL, xml);

	assert_int_equal(history_append(k->history, e), 0);
	assert_int_equal(history_put(k->history, KIND_DOMAIN, e->path, CONNECTION, version, 1, e->props, e->xml,
				     e->xml_inactive, NULL),
			 0);
	k->last[i] = version;
	event_unref(e);
	return version;
}

uint64_t kit_event(struct kit *k, unsigned i)
{
	return kit_event_xml(k, i, 0);
}

void kit_removed(struct kit *k, unsigned i)
{
	uint64_t version = history_next(k->history);
	struct event *e = make(version, k->last[i], i, clock_realtime(k->clock), "Removed", 0);

	assert_int_equal(history_append(k->history, e), 0);
	assert_int_equal(history_forget(k->history, e->path), 0);
	k->last[i] = 0;
	event_unref(e);
}

void kit_events(struct kit *k, unsigned n, unsigned batch)
{
	for (unsigned i = 0; i < n; i++) {
		kit_event(k, i % ELEMENTS(k->last));
		if ((i + 1) % batch == 0)
			history_commit(k->history);
	}
	history_commit(k->history);
}

struct counting {
	uint64_t last;
	size_t n, size;
	uint64_t *versions;
};

static int count(struct event *e, void *userdata)
{
	struct counting *c = userdata;

	assert_true(e->version > c->last);
	c->last = e->version;
	kit_check(e);
	if (c->n == c->size) {
		c->size = c->size ? 2 * c->size : 1024;
		c->versions = reallocarray(c->versions, c->size, sizeof(uint64_t));
		assert_non_null(c->versions);
	}
	c->versions[c->n++] = e->version;
	return HISTORY_MORE;
}

uint64_t *kit_versions(struct kit *k, uint64_t after, size_t *ret_n)
{
	struct counting c = {.last = after};
	struct failure f = {0};
	int r = history_read(k->history, after, count, &c, &f);

	if (r == VIREO_GONE) {
		assert_non_null(f.message);
		failure_clear(&f);
		assert_true(after + 1 < history_oldest(k->history));
		*ret_n = SIZE_MAX;
		return c.versions;
	}
	if (r != 0)
		fail_msg("history_read: %d, %s", r, f.message ? f.message : "");
	assert_true(after + 1 >= history_oldest(k->history));
	*ret_n = c.n;
	return c.versions;
}

long kit_count(struct kit *k, uint64_t after)
{
	size_t n;

	free(kit_versions(k, after, &n));
	return n == SIZE_MAX ? -1 : (long)n;
}

char *kit_path(const struct kit *k, const char *name)
{
	char *path;

	assert_true(asprintf(&path, "%s/%s", k->directory, name) > 0);
	return path;
}

void kit_copy(const char *from, const char *to)
{
	char buffer[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	ssize_t n;

	assert_true(in >= 0);
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(out >= 0);
	while ((n = read(in, buffer, sizeof(buffer))) > 0)
		assert_int_equal(write(out, buffer, (size_t)n), n);
	assert_int_equal(n, 0);
	close(in);
	close(out);
}

bool kit_exists(const struct kit *k, const char *name)
{
	char *path = kit_path(k, name);
	bool there = access(path, F_OK) == 0;

	free(path);
	return there;
}

struct prefix {
	const char *prefix;
	unsigned n;
};

static void match(const char *name, void *userdata)
{
	struct prefix *p = userdata;

	p->n += strncmp(name, p->prefix, strlen(p->prefix)) == 0;
}

unsigned kit_begin_with(const struct kit *k, const char *prefix)
{
	struct prefix p = {.prefix = prefix};

	each_name(k->directory, match, &p);
	return p.n;
}
