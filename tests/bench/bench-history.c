/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker/history.h"
#include "util/log.h"
#include "util/vdict.h"

/*
 * How fast history is, and how much room it takes: printed, not judged. Events of 1,000 domains, in batches of 100, on
 * the disk under the directory given (default: a new one in /var/tmp).
 */

#define DOMAINS 1000
#define CONNECTION "/org/vireo1/connection/qemu_system"

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static struct text *xml[DOMAINS];
static uint64_t last[DOMAINS];
static struct props *props[DOMAINS];

static struct event *make(struct clock *clock, uint64_t version, unsigned i)
{
	static const char *const names[] = {"Started", "Suspended", "Resumed", "Stopped"};
	static const char *const states[] = {"running", "paused", "running", "shutoff"};
	char path[128], uuid[40];
	struct event *e;

	snprintf(uuid, sizeof(uuid), "6a0d65f3-2c1b-4a57-9f00-%012u", i);
	snprintf(path, sizeof(path), CONNECTION "/domain/_6a0d65f3_2c1b_4a57_9f00_%012u", i);
	e = event_new(KIND_DOMAIN, path, CONNECTION, last[i] ? names[version % 4] : "Added", "booted");
	if (!e)
		abort();
	e->version = version;
	e->previous = last[i];
	e->timestamp = clock_realtime(clock);
	e->before = props_ref(props[i]);
	e->props = props[i] ? props_copy(props[i]) : props_new(KIND_DOMAIN);
	if (!e->props)
		abort();
	if (!props[i]) {
		char name[32];

		snprintf(name, sizeof(name), "web-server-%u", i);
		props_set_s(e->props, DOMAIN_NAME, name);
		props_set_s(e->props, DOMAIN_UUID, uuid);
		props_set_s(e->props, DOMAIN_OS_TYPE, "hvm");
		props_set_s(e->props, DOMAIN_CONNECTION, CONNECTION);
		props_set_s(e->props, DOMAIN_REASON, "booted");
		e->props->v[DOMAIN_MAX_MEMORY].t = e->props->v[DOMAIN_MEMORY].t = UINT64_C(4) << 30;
		e->props->v[DOMAIN_VCPUS].u = 4;
		e->props->v[DOMAIN_INCARNATION].t = version;
	}
	props_set_s(e->props, DOMAIN_STATE, states[version % 4]);
	e->props->v[DOMAIN_ACTIVE].b = version % 4 != 3;
	e->props->v[DOMAIN_VERSION].t = version;
	e->xml = text_ref(xml[i]);
	return e;
}

static void append(struct history *h, struct clock *clock, unsigned i)
{
	struct event *e = make(clock, history_next(h), i);

	if (history_append(h, e) < 0 ||
	    history_put(h, KIND_DOMAIN, e->path, e->connection, e->version, 1, e->props, e->xml, e->xml_inactive, NULL) < 0)
		abort();
	last[i] = e->version;
	props_unref(props[i]);
	props[i] = props_ref(e->props);
	event_unref(e);
}

static uint64_t size_of(const char *directory, const char *name)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static int count(struct event *e, void *userdata)
{
	++*(uint64_t *)userdata;
	return HISTORY_MORE;
}

static bool none(enum kind kind, const char *path, const char *connection, const char *name, void *userdata)
{
	return false;
}

static void read_all(struct history *h, const char *what, bool with_xml, bool wanted)
{
	uint64_t n = 0, from = history_oldest(h) - 1, begin = now(), worst = 0;
	struct history_query q = {.after = from, .scan = 200, .xml = with_xml, .fn = count, .userdata = &n};
	struct failure f = {0};

	if (!wanted)
		q.wants = none;
	while (q.after < history_version(h)) {
		uint64_t t = now();

		if (history_read_some(h, &q, &q.after, &f) != 0)
			abort();
		t = now() - t;
		if (t > worst)
			worst = t;
	}
	printf("read %-24s %8.0f events/s   slowest slice of 200: %.1f ms\n", what,
	       (double)(history_version(h) - from) * 1e6 / (double)(now() - begin), (double)worst / 1000);
}

int main(int argc, char **argv)
{
	char temporary[] = "/var/tmp/vireo-bench-XXXXXX";
	const char *directory = argc > 1 ? argv[1] : mkdtemp(temporary);
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 300000;
	struct history_config config = {.directory = directory, .max_events = 200000};
	static uint64_t slowest, begin, total, commit;
	struct history *h = NULL;
	struct clock *clock = NULL;
	struct failure f = {0};
	char *text = malloc(7000);

	log_set_level(LOG_ERR);
	if (!directory || !text || clock_new_virtual(1, &clock) < 0)
		return 1;
	for (unsigned i = 0; i < DOMAINS; i++) {
		int at = sprintf(text, "<domain><name>web-server-%u</name>", i);

		memset(text + at, 'x', 6000);
		strcpy(text + at + 6000, "</domain>");
		xml[i] = text_new(text);
	}
	if (history_open(&config, clock, &h, &f) != 0) {
		fprintf(stderr, "%s\n", f.message);
		return 1;
	}
	for (unsigned i = 0; i < DOMAINS; i++)
		append(h, clock, i);
	history_commit(h);

	begin = now();
	for (unsigned i = 0; i < n; i++) {
		append(h, clock, i % DOMAINS);
		if (i % 100 == 99) {
			uint64_t t = now();

			history_commit(h);
			t = now() - t;
			commit += t;
			if (t > slowest)
				slowest = t;
		}
	}
	total = now() - begin;
	printf("append, batches of 100:       %8.0f events/s   commit alone %8.0f events/s, slowest %.1f ms\n",
	       n * 1e6 / (double)total, n * 1e6 / (double)commit, (double)slowest / 1000);
	printf("log %.1f MiB\n", (double)size_of(directory, "vireo.db-wal") / 1048576);
	read_all(h, "without XML:", false, true);
	read_all(h, "with XML:", true, true);
	read_all(h, "none wanted:", true, false);
	begin = now();
	history_close(h);
	printf("close %.1f ms; %.0f bytes/event with the XML of %u domains (6 kB each)\n", (double)(now() - begin) / 1000,
	       (double)size_of(directory, "vireo.db") / (n < 200000 ? n + DOMAINS : 200000), DOMAINS);
	begin = now();
	if (history_open(&config, clock, &h, &f) != 0)
		return 1;
	printf("open %.1f ms\n", (double)(now() - begin) / 1000);
	history_close(h);

	if (directory == temporary) {
		static const char *const names[] = {"vireo.db", "vireo.db-wal", "vireo.db-shm", "vireo.state"};
		char path[64];

		for (size_t i = 0; i < ELEMENTS(names); i++) {
			snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
			(void)unlink(path);
		}
		(void)rmdir(directory);
	}
	for (unsigned i = 0; i < DOMAINS; i++) {
		text_unref(xml[i]);
		props_unref(props[i]);
	}
	free(text);
	clock_free(clock);
	return 0;
}
