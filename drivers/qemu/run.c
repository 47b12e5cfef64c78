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

/* ---- domains ------------------------------------------------------------------------------------------------ */

struct domain *run_find(struct driver_connection *c, sd_id128_t uuid)
{
	struct domain *d;

	DL_FOREACH(c->domains, d)
	if (sd_id128_equal(d->uuid, uuid))
		return d;
	return NULL;
}

const char *domain_name(const struct domain *d)
{
	/* A description that was given another name takes effect at once: names are for people. */
	return d->config ? d->config->name : d->live ? d->live->name : d->pending ? d->pending : "?";
}

struct domain *run_find_name(struct driver_connection *c, const char *name)
{
	struct domain *d;

	DL_FOREACH(c->domains, d)
	if (strcmp(domain_name(d), name) == 0 || (d->pending && strcmp(d->pending, name) == 0))
		return d;
	return NULL;
}

void domain_free(struct domain *d)
{
	domain_leave(d);
	vm_free(d->config);
	vm_free(d->live);
	free(d->config_text);
	free(d->live_text);
	for (size_t i = 0; i < d->n_queued; i++)
		request_free(d->queued[i]);
	free(d->queued);
	free(d->pending);
	free(d->directory);
	free(d);
}

struct domain *domain_new(struct driver_connection *c, sd_id128_t uuid)
{
	struct domain *d = calloc(1, sizeof(*d));
	char text[SD_ID128_UUID_STRING_MAX];

	if (!d || asprintf(&d->directory, "%s/%s", c->directory, sd_id128_to_uuid_string(uuid, text)) < 0) {
		free(d);
		return NULL;
	}
	d->c = c;
	d->uuid = uuid;
	d->pidfd = d->incoming = -1;
	return d;
}

void domain_wait(struct domain *d, struct request *r)
{
	struct request **list = reallocarray(d->queued, d->n_queued + 1, sizeof(*list));

	if (!list) {
		env_post_result(&d->c->env, r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	d->queued = list;
	list[d->n_queued++] = r;
}

struct removal {
	char *directory;
	struct domain *d;
};

static void remove_now(const char *directory)
{
	int r = files_remove_directory(directory);

	if (r < 0)
		log_warning("%s cannot be removed: %s", directory, strerror(-r));
}

static void removal_run(void *data)
{
	remove_now(((struct removal *)data)->directory);
}

static void removal_drop(void *data)
{
	struct removal *k = data;

	free(k->directory);
	free(k);
}

static void on_removed(void *data)
{
	struct domain *d = ((struct removal *)data)->d;

	removal_drop(data);
	d->removed = true;
	domain_settled(d);
}

/* Until its directory has gone, nobody may make it anew. */
static void remove_files(struct domain *d)
{
	struct removal *k = calloc(1, sizeof(*k));

	d->removed = true;
	if (k && (k->directory = strdup(d->directory))) {
		k->d = d;
		if (chores_run(d->c->env.chores, removal_run, on_removed, removal_drop, k) == 0) {
			d->changing = true;
			return;
		}
	}
	if (k)
		removal_drop(k);
	remove_now(d->directory);
	domain_settled(d);
}

void domain_settled(struct domain *d)
{
	struct driver_connection *c = d->c;
	struct request **list;
	size_t n;

	d->changing = false;
	if (d->forgotten && !d->removed) {
		remove_files(d);
		return;
	}
	list = TAKE(d->queued);
	n = d->n_queued;
	d->n_queued = 0;
	if (d->forgotten) {
		DL_DELETE(c->domains, d);
		domain_free(d);
	}
	/* Each looks up for itself what has become of it. */
	for (size_t i = 0; i < n; i++)
		run_operate(c, list[i]);
	free(list);
}

void domain_forget(struct domain *d)
{
	d->forgotten = true;
	vm_free(TAKE(d->live));
	free(TAKE(d->live_text));
	free(TAKE(d->pending));
	if (!d->changing)
		domain_settled(d);
}

void domain_complete(struct domain *d, struct seen *s)
{
	const struct vm *vm = s->active && d->live ? d->live : d->config;

	s->persistent = d->config != NULL;
	s->autostart = d->autostart;
	s->managed_save = d->managed_save;
	free(s->name);
	s->name = utf8_dup(domain_name(d));
	s->title = utf8_dup(vm && vm->title ? vm->title : "");
	s->description = utf8_dup(vm && vm->description ? vm->description : "");
	s->os_type = strdup("hvm");
	if (s->active && d->live_text) {
		s->xml = utf8_dup(d->live_text);
		if (d->config_text && strcmp(d->config_text, d->live_text) != 0)
			s->xml_inactive = utf8_dup(d->config_text);
	} else if (d->config_text)
		s->xml = utf8_dup(d->config_text);
}

struct seen *domain_seen(struct domain *d)
{
	struct seen *s = seen_new();
	const struct vm *vm = d->phase != RUN_OFF && d->live ? d->live : d->config;

	if (!s || !vm) {
		seen_free(s);
		return NULL;
	}
	s->active = d->phase != RUN_OFF;
	s->starting = d->phase == RUN_STARTING;
	s->id = s->active ? d->run : -1;
	s->state = s->active ? DOMAIN_PAUSED : DOMAIN_SHUTOFF;
	s->state_reason = strdup(s->active ? "starting up" : *d->word ? d->word : "unknown");
	s->max_memory = vm->memory;
	s->memory = vm->current_memory;
	s->vcpus = vm->vcpus;
	domain_complete(d, s);
	if (!s->name || !s->state_reason) {
		seen_free(s);
		return NULL;
	}
	return s;
}

/* ---- telling ------------------------------------------------------------------------------------------------ */

/* A request that ends with the look behind what it did. */
struct telling {
	struct guest_env *env;
	struct request *request;
	struct result result;
};

static void on_told(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct telling *t = userdata;

	if (how == WAITED_SEEN)
		env_post_look(t->env, KIND_DOMAIN, g->uuid, s->name, LOOK_SEEN, s, NULL, 0);
	env_post_result_full(t->env, t->request, &t->result);
	free(t);
}

void domain_post_settled(struct domain *d)
{
	bool exists = d->config || d->phase != RUN_OFF;
	_cleanup_(seen_freep) struct seen *s = exists ? domain_seen(d) : NULL;

	env_post_look(&d->c->env, KIND_DOMAIN, d->uuid, domain_name(d), s ? LOOK_SEEN : exists ? LOOK_FAILED : LOOK_GONE, s,
		exists ? "out of memory" : NULL, 0);
}

static void post_now(struct domain *d, enum cause cause, const char *reason)
{
	struct report *r;
	struct observation *o = observation_new(&r, KIND_DOMAIN, d->uuid, domain_name(d));

	if (o) {
		o->cause = cause;
		o->reason = utf8_dup(reason);
		o->seen = d->config || d->phase != RUN_OFF ? domain_seen(d) : NULL;
		o->look = o->seen ? LOOK_SEEN : d->config ? LOOK_FAILED : LOOK_GONE;
	}
	env_post(&d->c->env, r);
	domain_post_settled(d);
}

void domain_tell(struct domain *d, enum cause cause, const char *reason, struct request *r, const struct result *result)
{
	struct result done = result ? *result : (struct result){0};
	struct telling *t;

	if (d->phase != RUN_UP && d->phase != RUN_ENDING) {
		if (cause != CAUSE_NONE)
			post_now(d, cause, reason);
		else
			domain_post_settled(d);
		if (r)
			env_post_result_full(&d->c->env, r, &done);
		return;
	}
	if (cause != CAUSE_NONE)
		guest_cause(d->guest, cause, reason, NULL, NULL, true);
	t = r ? calloc(1, sizeof(*t)) : NULL;
	if (!t) {
		if (r)
			env_post_result_full(&d->c->env, r, &done);
		return;
	}
	*t = (struct telling){.env = &d->c->env, .request = r, .result = done};
	guest_look(d->guest, on_told, t);
}

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

/* ---- loading ------------------------------------------------------------------------------------------------ */

/* What a worker finds in the directory. */
struct loading {
	struct driver_connection *c; /* borrowed */
	char *directory;
	int lock; /* -1: not ours */
	int error;
	struct domain *domains;
	struct pools_found *pools;
	bool first; /* since the machine was booted */
};

/* One directory of a domain. What cannot be understood is left alone, and said. On a worker, before anybody knows of it. */
static void load(struct loading *l, const char *name, sd_id128_t uuid)
{
	struct domain *d = calloc(1, sizeof(*d));
	_cleanup_(freep) char *text = NULL;
	struct failure f = {0};
	char phase[24];
	int lock, r;
	bool running;

	if (!d || asprintf(&d->directory, "%s/%s", l->directory, name) < 0) {
		free(d);
		return;
	}
	d->c = l->c;
	d->uuid = uuid;
	d->pidfd = d->incoming = -1;
	files_load_state(d->directory, &d->run, phase, d->word, &d->pid);
	d->autostart = files_has(d->directory, "autostart");
	d->managed_save = files_has(d->directory, "save");
	r = files_read(d->directory, "domain.xml", &text);
	if (r == 0) {
		r = vm_parse(text, &d->config, &d->config_text, &f);
		if (r == 0 && !sd_id128_equal(d->config->uuid, uuid))
			r = failure_set(&f, VIREO_INVALID_XML, "its UUID is another than that of its directory");
	} else if (r == -ENOENT)
		r = 0;
	if (r != 0) {
		log_error("%s/domain.xml: %s; the domain is left alone.", d->directory, f.message ? f.message : strerror(-r));
		goto out;
	}
	r = files_lock(d->directory, "lock", &lock);
	running = r == -EAGAIN;
	if (r == 0)
		close(lock);
	/* Its TPM is just about to end. */
	if (strcmp(phase, "off") == 0)
		running = false;
	if (running && strcmp(phase, "starting") == 0) {
		/* A start that nobody was told of. Where the domain is started anew, it waits until that one has gone. */
		(void)files_lock_holder(d->directory, d->pid, &d->pid, &d->pidfd);
		log_notice("Domain '%s' was being started when the broker ended: that start is undone.", domain_name(d));
		if (d->pidfd >= 0) {
			(void)pidfd_send_signal(d->pidfd, SIGKILL, NULL, 0);
			close(d->pidfd);
			d->pidfd = -1;
		}
		running = false;
	}
	if (running) {
		free(TAKE(text));
		r = files_read(d->directory, "live.xml", &text);
		if (r == 0)
			r = vm_parse(text, &d->live, &d->live_text, &f);
		if (r != 0) {
			log_error("%s/live.xml: %s; the domain is left alone, and runs on.", d->directory,
				f.message ? f.message : strerror(-r));
			goto out;
		}
	} else {
		files_unlink(d->directory, "live.xml");
		files_unlink(d->directory, "monitor");
		process_end_tpm(d->directory);
		files_unlink(d->directory, "tpm");
		d->pid = 0;
		/* It ended while nobody looked. */
		if (strcmp(phase, "off") != 0)
			snprintf(d->word, sizeof(d->word), "unknown");
		if (!d->config) {
			(void)files_remove_directory(d->directory);
			goto out;
		}
	}
	DL_APPEND(l->domains, d);
	failure_clear(&f);
	return;
out:
	failure_clear(&f);
	domain_free(d);
}

static int load_all(struct loading *l)
{
	DIR *dir = opendir(l->directory);
	struct dirent *e;

	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		sd_id128_t uuid;
		char text[SD_ID128_UUID_STRING_MAX];

		/* In the one form that we write, so that no two directories mean the same. */
		if (sd_id128_from_string(e->d_name, &uuid) >= 0 &&
			strcmp(sd_id128_to_uuid_string(uuid, text), e->d_name) == 0)
			load(l, e->d_name, uuid);
	}
	closedir(dir);
	return 0;
}

/* Is this the first time that somebody looks since the machine was booted? */
static bool is_first(const char *directory)
{
	_cleanup_(freep) char *before = NULL;
	char now[SD_ID128_STRING_MAX];
	sd_id128_t boot;

	if (sd_id128_get_boot(&boot) < 0)
		return false;
	sd_id128_to_string(boot, now);
	if (files_read(directory, "boot-id", &before) == 0 && strcmp(before, now) == 0)
		return false;
	return files_write(directory, "boot-id", now, true) == 0;
}

static void loading_work(void *data)
{
	struct loading *l = data;

	l->error = files_make_directory(l->directory);
	if (l->error == 0)
		l->error = files_lock(l->directory, ".lock", &l->lock);
	if (l->error == 0)
		l->error = pools_find(l->directory, &l->pools);
	if (l->error == 0)
		l->error = load_all(l);
	if (l->error == 0)
		l->first = is_first(l->directory);
}

static void loading_drop(void *data)
{
	struct loading *l = data;

	while (l->domains) {
		struct domain *d = l->domains;

		DL_DELETE(l->domains, d);
		domain_free(d);
	}
	if (l->lock >= 0)
		close(l->lock);
	pools_found_free(l->pools);
	free(l->directory);
	free(l);
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
