/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <utlist.h>

#include "jobs.h"
#include "load.h"
#include "pool.h"
#include "qemu-driver.h"
#include "util/log.h"
#include "util/utf8.h"

#define SCHEME "vireo:"

struct run_listing {
	uint64_t serial;
	unsigned looks; /* outstanding; UINT_MAX: not begun */
	struct run_listing *prev, *next;
};

struct run_look {
	struct driver_connection *c;
	sd_id128_t uuid;
	uint64_t serial;
	struct run_listing *listing;
};

/* ---- listing and looking ------------------------------------------------------------------------------------ */

static void post_look(struct driver_connection *c, sd_id128_t uuid, enum waited how, const struct seen *s, uint64_t serial,
		      bool listing)
{
	struct domain *d = run_find(c, uuid);
	_cleanup_(seen_freep) struct seen *own = NULL;

	if (how == WAITED_SEEN)
		env_post_look(&c->env, KIND_DOMAIN, uuid, s->name, LOOK_SEEN, s, NULL, serial);
	else if (how == WAITED_TIMEOUT)
		env_post_look(&c->env, KIND_DOMAIN, uuid, NULL, LOOK_FAILED, NULL, "QEMU does not answer", serial);
	else if (d && (d->config || d->phase != RUN_OFF) && (own = domain_seen(d)))
		env_post_look(&c->env, KIND_DOMAIN, uuid, own->name, LOOK_SEEN, own, NULL, serial);
	else if (!listing)
		env_post_look(&c->env, KIND_DOMAIN, uuid, NULL, LOOK_GONE, NULL, NULL, serial);
}

static void on_looked(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct run_look *l = userdata;

	post_look(l->c, l->uuid, how, s, l->serial, l->listing != NULL);
	if (l->listing) {
		l->listing->looks--;
		run_progress(l->c);
	}
	free(l);
}

static void look_at(struct domain *d, uint64_t serial, struct run_listing *listing)
{
	struct run_look *l;

	if (d->phase == RUN_OFF || d->phase == RUN_STARTING) {
		post_look(d->c, d->uuid, WAITED_DOWN, NULL, serial, listing != NULL);
		return;
	}
	l = calloc(1, sizeof(*l));
	/* A process whose monitor is lost, or silent: it will end, or answer; nobody waits for that. */
	if (!l || (!d->guest->qmp && d->pidfd >= 0 && d->timer.set && d->adopted)) {
		free(l);
		post_look(d->c, d->uuid, WAITED_TIMEOUT, NULL, serial, listing != NULL);
		return;
	}
	*l = (struct run_look){.c = d->c, .uuid = d->uuid, .serial = serial, .listing = listing};
	if (listing)
		listing->looks++;
	guest_look(d->guest, on_looked, l);
}

static void listings_round(struct driver_connection *c)
{
	struct run_listing *l, *tmp;
	struct domain *d, *next;

	DL_FOREACH(c->domains, d)
	if (d->adopted)
		return;
	DL_FOREACH_SAFE(c->listings, l, tmp)
	{
		uint64_t serial = l->serial;

		if (l->looks == UINT_MAX) {
			l->looks = 1; /* held by this loop */
			DL_FOREACH_SAFE(c->domains, d, next)
			look_at(d, serial, l);
			pools_list(c->pools, serial);
			l->looks--;
		}
		if (l->looks > 0)
			continue;
		DL_DELETE(c->listings, l);
		free(l);
		env_post_listed(&c->env, serial, true, true, NULL);
	}
}

void run_progress(struct driver_connection *c)
{
	c->again = true;
	if (c->closing || c->progressing)
		return;
	c->progressing = true;
	while (c->again) {
		c->again = false;
		listings_round(c);
	}
	c->progressing = false;
}

static void run_list(struct driver_connection *c, uint64_t serial)
{
	struct run_listing *l = calloc(1, sizeof(*l));

	if (!l) {
		env_post_listed(&c->env, serial, false, false, "out of memory");
		return;
	}
	l->serial = serial;
	l->looks = UINT_MAX;
	DL_APPEND(c->listings, l);
	run_progress(c);
}

static void run_look(struct driver_connection *c, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
	struct domain *d = kind == KIND_DOMAIN ? run_find(c, uuid) : NULL;

	if (kind == KIND_POOL && pools_look(c->pools, uuid, serial))
		return;
	if (!d)
		env_post_look(&c->env, kind, uuid, NULL, LOOK_GONE, NULL, NULL, serial);
	else
		look_at(d, serial, NULL);
}

static void run_cancel(struct driver_connection *c, uint64_t token)
{
	struct domain *d;

	if (pools_cancel(c->pools, token))
		return;
	DL_FOREACH(c->domains, d)
	if (d->guest && guest_job_cancel(d->guest, token))
		return;
}

static void run_complete(struct driver_connection *c, uint64_t token)
{
	struct domain *d;

	DL_FOREACH(c->domains, d)
	if (d->guest && guest_job_complete(d->guest, token))
		return;
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static int parse_uri(const char *uri, char **ret, struct failure *f)
{
	const char *p = uri + strlen(SCHEME);
	size_t n;

	if (strncmp(p, "///", 3) != 0)
		return failure_set(f, VIREO_INVALID_URI, "it takes an absolute directory of this machine: vireo:///DIRECTORY");
	p += 2;
	if (strpbrk(p, "?#"))
		return failure_set(f, VIREO_INVALID_URI, "it takes no query and no fragment, and '%c' begins one", *strpbrk(p, "?#"));
	if (strstr(p, "/../") || (strlen(p) >= 3 && strcmp(p + strlen(p) - 3, "/..") == 0))
		return failure_set(f, VIREO_INVALID_URI, "its path must not contain '..'");
	for (n = strlen(p); n > 1 && p[n - 1] == '/'; n--)
		;
	if (n <= 1)
		return failure_set(f, VIREO_INVALID_URI, "it needs a directory of its own, not the root of all");
	*ret = strndup(p, n);
	return *ret ? 0 : -ENOMEM;
}

static enum claim run_claim(const char *uri, char **ret_why)
{
	_cleanup_(freep) char *directory = NULL;
	struct failure f = {0};

	if (strncmp(uri, SCHEME, strlen(SCHEME)) != 0)
		return CLAIM_NOT_MINE;
	if (parse_uri(uri, &directory, &f) == 0)
		return CLAIM_MINE;
	if (ret_why)
		*ret_why = TAKE(f.message);
	failure_clear(&f);
	return CLAIM_BROKEN;
}

/* Once in each boot of the machine: what was shut off since stays off when only the broker restarts. */
static void autostart(struct driver_connection *c)
{
	struct domain *d, *tmp;

	pools_autostart(c->pools);
	DL_FOREACH_SAFE(c->domains, d, tmp)
	{
		if (!d->autostart || d->phase != RUN_OFF)
			continue;
		log_info("Domain '%s' is started automatically.", domain_name(d));
		domain_start_kept(d, NULL, false);
	}
}

static void run_close(struct driver_connection *c)
{
	struct run_listing *l, *tmp;

	if (!c)
		return;
	c->closing = true;
	while (c->domains) {
		struct domain *d = c->domains;

		DL_DELETE(c->domains, d);
		domain_free(d);
	}
	pools_free(c->pools);
	runner_free(c->asking);
	timer_clear(&c->asking_timer);
	chores_close(c->env.chores);
	if (c->loaded)
		loading_drop(c->loaded);
	sd_bus_flush_close_unref(c->systemd);
	DL_FOREACH_SAFE(c->listings, l, tmp)
	free(l);
	if (c->lock >= 0)
		close(c->lock);
	driver_host_unref(c->env.host);
	sd_event_unref(c->env.event);
	free(c->directory);
	free(c);
}
DEFINE_CLEANUP(struct driver_connection *, run_close)

static void hello(struct driver_connection *c)
{
	struct report *r = report_new(REPORT_HELLO);
	char host[HOST_NAME_MAX + 1] = "";

	if (r) {
		(void)gethostname(host, sizeof(host) - 1);
		r->hello.hostname = utf8_dup(host);
		r->hello.version = utf8_dup(c->version);
		if (asprintf(&r->hello.same_key, "vireo:%s", c->directory) < 0)
			r->hello.same_key = NULL;
		r->hello.events = guest_event_names(qemu_driver.events, qemu_driver.causes);
		r->hello.operations = guest_operation_names(run_operations);
	}
	env_post(&c->env, r);
}

/* Once its files are read, and the program has said what it is. */
static void opened(struct driver_connection *c)
{
	struct loading *l = c->loaded;
	struct domain *d, *tmp;
	int r;

	if (!l || c->asking)
		return;
	c->loaded = NULL;
	timer_clear(&c->asking_timer);
	r = l->error;
	if (r == 0)
		r = pools_new(&c->env, c->directory, TAKE(l->pools), &c->pools);
	if (r < 0) {
		env_post_goodbye(&c->env, "%s: %s", c->directory,
			r == -EAGAIN ? "another broker follows this directory" : strerror(-r));
		loading_drop(l);
		return;
	}
	c->lock = l->lock;
	l->lock = -1;
	hello(c);
	DL_FOREACH_SAFE(l->domains, d, tmp)
	{
		DL_DELETE(l->domains, d);
		DL_APPEND(c->domains, d);
		if (d->live)
			domain_adopt(d);
	}
	if (l->first)
		autostart(c);
	loading_drop(l);
}

static void on_loaded(void *data)
{
	struct loading *l = data;

	l->c->loaded = l;
	opened(l->c);
}

static void on_asked(int error, const char *words, void *userdata)
{
	struct driver_connection *c = userdata;
	const char *number = error == 0 && words ? strstr(words, "version ") : NULL;

	/* It frees itself. */
	c->asking = NULL;
	if (number)
		snprintf(c->version, sizeof(c->version), "QEMU %.*s", (int)strspn(number + 8, "0123456789."), number + 8);
	opened(c);
}

static void on_asking_patience(struct timer *t, void *userdata)
{
	struct driver_connection *c = userdata;

	runner_free(TAKE(c->asking));
	opened(c);
}

/* Each domain may name another program; this is the one that others get. */
static void ask_version(struct driver_connection *c)
{
	static const struct runner_ops ops = {.ended = on_asked, .whole = true};
	static char *const argv[] = {(char *)"/usr/bin/qemu-system-x86_64", (char *)"--version", NULL};

	if (runner_program(c->env.event, argv, &ops, c, &c->asking) < 0)
		c->asking = NULL;
	else
		timer_in(c->env.clock, &c->asking_timer, 2 * USEC_PER_SEC, on_asking_patience, c);
}

static int run_open(const char *uri, struct driver_host *host, struct driver_connection **ret, struct failure *f)
{
	_cleanup_(run_closep) struct driver_connection *c = calloc(1, sizeof(*c));
	struct loading *l;
	int r;

	if (!c)
		return -ENOMEM;
	c->lock = -1;
	c->env.host = driver_host_ref(host);
	c->env.event = sd_event_ref(driver_host_event(host));
	c->env.clock = driver_host_clock(host);
	r = parse_uri(uri, &c->directory, f);
	if (r == 0)
		r = chores_new(c->env.event, &c->env.chores);
	if (r != 0)
		return r;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->c = c;
	l->lock = -1;
	l->directory = strdup(c->directory);
	r = l->directory ? chores_run(c->env.chores, loading_work, on_loaded, loading_drop, l) : -ENOMEM;
	if (r < 0) {
		loading_drop(l);
		return r;
	}
	ask_version(c);
	*ret = TAKE(c);
	return 0;
}

const struct driver qemu_driver = {
	.api = DRIVER_API,
	.name = "qemu",
	.summary = "domains that Vireo itself keeps in a directory and runs by QEMU, without libvirt",
	/*
	 * Not "qemu+vireo": behind a plus stands a transport of libvirt's, and libvirt's driver claims those. The scheme
	 * says whose domains these are.
	 */
	.uris = (const char *const[]){"vireo:///var/lib/vireo/domains", NULL},
	.events = run_events,
	.operations = run_operations,
	.causes = {[KIND_DOMAIN] = 1u << CAUSE_DEFINED | 1u << CAUSE_UNDEFINED | 1u << CAUSE_STARTED | 1u << CAUSE_SUSPENDED |
				   1u << CAUSE_RESUMED | 1u << CAUSE_PMSUSPENDED | 1u << CAUSE_CRASHED | 1u << CAUSE_SHUTDOWN |
				   1u << CAUSE_STOPPED,
		   [KIND_POOL] = 1u << CAUSE_DEFINED | 1u << CAUSE_UNDEFINED | 1u << CAUSE_STARTED | 1u << CAUSE_STOPPED},
	.claim = run_claim,
	.open = run_open,
	.close = run_close,
	.list = run_list,
	.look = run_look,
	.operate = run_operate,
	.cancel = run_cancel,
	.complete = run_complete,
};
