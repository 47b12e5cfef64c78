/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <utlist.h>

#include "attach.h"
#include "jobs.h"
#include "qemu-driver.h"
#include "util/log.h"
#include "util/utf8.h"

/*
 * The driver "qmp": QEMUs that somebody else started, by their monitor sockets. They are transient: what ends is gone.
 *
 * A place is one socket file. What is done with it:
 *
 *   found ──connect──► greeted ──identify──► look ──► announced: a domain ──end of file──► Stopped, Removed; found again?
 *     │ refused: nobody listens (yet): a few tries, then until the file changes
 *     │ silent:  somebody else has the monitor, or QEMU hangs: let go, until the next listing
 */

/* A busy monitor is let go after so long: whoever has it may leave, and would leave it to us. */
#define GREETING_PATIENCE (1 * USEC_PER_SEC)
#define RETRY_FIRST (5 * USEC_PER_MSEC)
#define RETRIES 10
/* How long QEMU may take to quit before it is killed. */
#define QUIT_PATIENCE (5 * USEC_PER_SEC)

enum place_state {
	PLACE_FOUND,	/* to be connected to, now or by its timer */
	PLACE_CONNECTED, /* greeting, identifying, first look */
	PLACE_DOMAIN,	/* announced */
	PLACE_DEAD,	/* nobody listens */
	PLACE_BUSY,	/* no greeting: not ours to have */
	PLACE_REFUSED,	/* not what it should be: said so, left alone */
};

struct place {
	struct driver_connection *c;
	char *file; /* name in the directory */
	enum place_state state;
	unsigned tries;
	struct timer timer;
	struct guest *guest;
	bool fresh;	      /* appeared while we looked: Started is told; else the listing tells */
	pid_t pid;
	int pidfd; /* -1: unknown */
	struct request *destroy;
	struct timer kill_timer;
	struct place *prev, *next;
};

struct listing {
	uint64_t serial;
	unsigned looks; /* outstanding; UINT_MAX: not begun */
	bool single;	/* one look, of what may be behind a monitor that is still being asked */
	sd_id128_t uuid;
	struct listing *prev, *next;
};

struct asked {
	struct place *place;
	uint64_t serial;
	struct listing *listing; /* NULL: one look of its own */
};

struct driver_connection {
	struct guest_env env;
	char *directory;
	char *only; /* one socket's name; NULL: all *.qmp */
	struct attach_watch *watch;
	struct place *places;
	struct listing *listings;
	bool helloed;
	bool failed;
	bool scanning, closing;
	bool progressing, again; /* a look that is answered at once must not begin another round inside this one */
	char version[128];	 /* told last */
};

static void place_connect(struct place *p);
static void listings_progress(struct driver_connection *c);

/* ---- places ------------------------------------------------------------------------------------------------- */

static void place_free(struct place *p)
{
	timer_clear(&p->timer);
	timer_clear(&p->kill_timer);
	guest_free(p->guest);
	request_free(p->destroy);
	if (p->pidfd >= 0)
		close(p->pidfd);
	DL_DELETE(p->c->places, p);
	free(p->file);
	free(p);
}

/* Without a guest; what comes next depends on the file. */
static void place_settle(struct place *p, enum place_state state)
{
	timer_clear(&p->timer);
	timer_clear(&p->kill_timer);
	guest_free(TAKE(p->guest));
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -1;
	p->pid = 0;
	p->state = state;
}

static void on_retry(struct timer *t, void *userdata)
{
	struct place *p = userdata;
	struct driver_connection *c = p->c;

	place_connect(p);
	listings_progress(c);
}

static struct place *find_file(struct driver_connection *c, const char *file)
{
	struct place *p;

	DL_FOREACH(c->places, p)
	if (strcmp(p->file, file) == 0)
		return p;
	return NULL;
}

static struct place *find_uuid(struct driver_connection *c, sd_id128_t uuid)
{
	struct place *p;

	DL_FOREACH(c->places, p)
	if (p->state == PLACE_DOMAIN && sd_id128_equal(p->guest->uuid, uuid))
		return p;
	return NULL;
}

/* ---- versions ----------------------------------------------------------------------------------------------- */

#define VERSIONS_MAX 8

static int compare_words(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "QEMU 7.2.22"; where they differ, all of them. What was known last stays when nobody is there to ask. */
static void tell_versions(struct driver_connection *c)
{
	const char *words[VERSIONS_MAX];
	char text[sizeof(c->version)] = "";
	struct report *r;
	struct place *p;
	size_t n = 0;

	DL_FOREACH(c->places, p)
	{
		const char *word = p->state == PLACE_DOMAIN && p->guest->qmp ? qmp_version(p->guest->qmp) : "";

		for (size_t i = 0; *word && i < n; i++)
			if (strcmp(words[i], word) == 0)
				word = "";
		if (*word && n < VERSIONS_MAX)
			words[n++] = word;
	}
	qsort(words, n, sizeof(*words), compare_words);
	for (size_t i = 0; i < n; i++) {
		size_t at = strlen(text);

		snprintf(text + at, sizeof(text) - at, "%sQEMU %s", i ? ", " : "", words[i]);
	}
	if (n == 0 || strcmp(text, c->version) == 0)
		return;
	snprintf(c->version, sizeof(c->version), "%s", text);
	r = report_new(REPORT_HELLO);
	if (r)
		r->hello.version = utf8_dup(text);
	env_post(&c->env, r);
}

/* ---- a guest's life ----------------------------------------------------------------------------------------- */

static void on_first_look(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct place *p = userdata;

	if (how != WAITED_SEEN) {
		if (how == WAITED_TIMEOUT) {
			log_warning("%s/%s: QEMU greeted, but does not answer; it is let go.", p->c->directory, p->file);
			/* Not freed here: this is called from within the guest. */
			p->state = PLACE_BUSY;
			guest_disconnect(g);
		}
		listings_progress(p->c);
		return;
	}
	p->state = PLACE_DOMAIN;
	log_info("%s/%s: domain '%s'", p->c->directory, p->file, g->name);
	/* Nobody saw the start of what was there before us. */
	p->tries = 0;
	guest_announce(g, p->fresh ? "booted" : NULL, s);
	if (!p->fresh)
		env_post_look(&p->c->env, KIND_DOMAIN, g->uuid, g->name, LOOK_SEEN, s, NULL, 0);
	guest_foreign_scan(g);
	tell_versions(p->c);
	listings_progress(p->c);
}

static void on_identified(struct guest *g)
{
	struct place *p = g->owner, *other;

	if (sd_id128_is_null(g->uuid))
		g->uuid = attach_derive_uuid(p->c->directory, p->file);
	other = find_uuid(p->c, g->uuid);
	if (other && other != p) {
		/* One path for each object: the later one gets a UUID of its own. */
		log_warning("%s/%s: has the UUID of %s already; it is shown under one made from its path.", p->c->directory,
			p->file, other->file);
		g->uuid = attach_derive_uuid(p->c->directory, p->file);
	}
	if (!g->name || !*g->name) {
		const char *suffix = strrchr(p->file, '.');
		size_t n = suffix && suffix > p->file && strcmp(suffix, ".qmp") == 0 ? (size_t)(suffix - p->file)
										      : strlen(p->file);

		free(g->name);
		g->name = utf8_dupn(p->file, n);
	}
	g->more = true;
	guest_look(g, on_first_look, p);
}

static void guest_up(struct guest *g)
{
	/* QEMU tells of a migration only when it was asked to. */
	guest_want_migration_events(g);
	guest_identify(g, on_identified);
}

static void end_destroy(struct place *p, enum vireo_error error, const char *message)
{
	struct request *r = TAKE(p->destroy);

	timer_clear(&p->kill_timer);
	if (r)
		env_post_result(&p->c->env, r, error, "%s", message);
}

static void post_stopped(struct guest *g)
{
	struct report *r;
	struct observation *o = observation_new(&r, KIND_DOMAIN, g->uuid, g->name);

	if (o) {
		o->cause = CAUSE_STOPPED;
		o->reason = utf8_dup(g->end_reason);
		o->run = g->run;
		o->look = LOOK_GONE;
	}
	env_post(g->env, r);
	env_post_look(g->env, KIND_DOMAIN, g->uuid, g->name, LOOK_GONE, NULL, NULL, 0);
}

static void guest_down(struct guest *g, enum qmp_end why, const char *message)
{
	struct place *p = g->owner;
	struct driver_connection *c = p->c;
	bool was_domain = p->state == PLACE_DOMAIN;

	if (was_domain) {
		if (why == QMP_END_EOF)
			log_info("%s/%s: domain '%s' has ended (%s)", c->directory, p->file, g->name, g->end_reason);
		else
			log_error("%s/%s: domain '%s' is lost: %s", c->directory, p->file, g->name, message);
		post_stopped(g);
		g->announced = false;
	} else if (why == QMP_END_NO_GREETING) {
		log_warning("%s/%s: %s; it is let go.", c->directory, p->file, message);
	} else {
		log_warning("%s/%s: %s", c->directory, p->file, message);
	}
	guest_jobs_fail(g, VIREO_OUTCOME_UNKNOWN, message);
	guest_answer(g, WAITED_DOWN, NULL);
	end_destroy(p, VIREO_OK, "");
	switch (why) {
	case QMP_END_EOF:
		/*
		 * QEMU removes its file when it ends in order, and another may be there by now. One that hangs up before it
		 * says who it is gets a few tries.
		 */
		place_settle(p, PLACE_FOUND);
		if (was_domain)
			place_connect(p);
		else if (p->tries < RETRIES)
			timer_in(c->env.clock, &p->timer, RETRY_FIRST << p->tries++, on_retry, p);
		else
			p->state = PLACE_REFUSED;
		break;
	case QMP_END_NO_GREETING:
		place_settle(p, PLACE_BUSY);
		break;
	default:
		place_settle(p, PLACE_REFUSED);
	}
	/* Whatever comes next, its start is seen. */
	p->fresh = true;
	listings_progress(c);
}

static void guest_seen(struct guest *g, struct seen *s)
{
	s->persistent = false;
	s->title = strdup("");
	s->description = strdup("");
	s->os_type = strdup("hvm");
	s->xml = guest_describe(g);
}

static char *guest_xml(struct guest *g)
{
	return guest_describe(g);
}

static const struct guest_ops place_ops = {
	.xml = guest_xml,
	.up = guest_up,
	.down = guest_down,
	.seen = guest_seen,
};

/* Now, or, while nobody listens yet, a little later. */
static void place_connect(struct place *p)
{
	struct driver_connection *c = p->c;
	const char *why = NULL;
	int fd, r;

	if (p->state == PLACE_CONNECTED || p->state == PLACE_DOMAIN)
		return;
	timer_clear(&p->timer);
	guest_free(TAKE(p->guest));
	r = attach_connect(c->directory, p->file, &fd, &p->pid, &why);
	if (r == -ECONNREFUSED || r == -EAGAIN) {
		/* bind() shows the file, listen() comes behind it. */
		if (p->tries < RETRIES) {
			p->state = PLACE_FOUND;
			timer_in(c->env.clock, &p->timer, RETRY_FIRST << p->tries++, on_retry, p);
		} else
			p->state = PLACE_DEAD;
		return;
	}
	if (r == -ENOENT) {
		p->state = PLACE_DEAD;
		return;
	}
	if (r < 0) {
		if (p->state != PLACE_REFUSED)
			log_warning("%s/%s: left alone: %s", c->directory, p->file, why ? why : strerror(-r));
		p->state = PLACE_REFUSED;
		return;
	}
	p->guest = guest_new(&c->env, &place_ops, p);
	if (!p->guest) {
		close(fd);
		p->state = PLACE_DEAD;
		return;
	}
	p->guest->run = p->pid;
	if (p->pid > 0 && p->pid != getpid())
		p->pidfd = pidfd_open(p->pid, 0);
	r = guest_connect(p->guest, fd, GREETING_PATIENCE);
	if (r < 0) {
		log_error("%s/%s: %s", c->directory, p->file, strerror(-r));
		place_settle(p, PLACE_DEAD);
		return;
	}
	p->state = PLACE_CONNECTED;
}

/* ---- the directory ------------------------------------------------------------------------------------------ */

static bool is_wanted(struct driver_connection *c, const char *file)
{
	size_t n = strlen(file);

	if (c->only)
		return strcmp(file, c->only) == 0;
	return n > 4 && file[0] != '.' && strcmp(file + n - 4, ".qmp") == 0;
}

static void on_file(const char *file, enum attach_file what, void *userdata)
{
	struct driver_connection *c = userdata;
	struct place *p;

	if (!is_wanted(c, file))
		return;
	p = find_file(c, file);
	if (what == ATTACH_FILE_GONE) {
		/* A running QEMU whose file was removed keeps its connection. */
		if (p && p->state != PLACE_DOMAIN && p->state != PLACE_CONNECTED)
			place_free(p);
		listings_progress(c);
		return;
	}
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p || !(p->file = strdup(file))) {
			free(p);
			return;
		}
		p->c = c;
		p->pidfd = -1;
		p->fresh = c->helloed;
		DL_APPEND(c->places, p);
	}
	if (p->state == PLACE_DOMAIN || p->state == PLACE_CONNECTED)
		return;
	/* What turned out to be none of ours is not touched again unless it changes. */
	if (p->state == PLACE_REFUSED && what == ATTACH_FILE_THERE)
		return;
	p->tries = 0;
	place_connect(p);
	listings_progress(c);
}

static void scan(struct driver_connection *c)
{
	/* No listing begins before every file was seen. */
	c->scanning = true;
	attach_watch_scan(c->watch);
	c->scanning = false;
}

static void on_directory_lost(const char *why, void *userdata)
{
	struct driver_connection *c = userdata;

	if (c->failed)
		return;
	c->failed = true;
	env_post_goodbye(&c->env, "%s: %s", c->directory, why);
}

static const struct attach_watch_ops watch_ops = {.file = on_file, .lost = on_directory_lost};

/* ---- listing and looking ------------------------------------------------------------------------------------ */

static void on_listed(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct asked *l = userdata;
	struct guest_env *env = &l->place->c->env;
	struct driver_connection *c = l->place->c;

	switch (how) {
	case WAITED_SEEN:
		env_post_look(env, KIND_DOMAIN, g->uuid, g->name, LOOK_SEEN, s, NULL, l->serial);
		break;
	case WAITED_TIMEOUT:
		env_post_look(env, KIND_DOMAIN, g->uuid, g->name, LOOK_FAILED, NULL, "QEMU does not answer", l->serial);
		break;
	case WAITED_DOWN:
		/* Stopped has been posted; a look of its own must be answered all the same. */
		if (!l->listing)
			env_post_look(env, KIND_DOMAIN, g->uuid, g->name, LOOK_GONE, NULL, NULL, l->serial);
		break;
	}
	if (l->listing) {
		l->listing->looks--;
		listings_progress(c);
	}
	free(l);
}

static bool is_unsettled(const struct place *p)
{
	/* One that nobody listens on for a while yet is most likely a file that was left behind. */
	return p->state == PLACE_CONNECTED || (p->state == PLACE_FOUND && p->tries < 5);
}

static bool look_at(struct place *p, uint64_t serial, struct listing *listing)
{
	struct asked *l = calloc(1, sizeof(*l));

	if (!l)
		return false;
	*l = (struct asked){.place = p, .serial = serial, .listing = listing};
	if (listing)
		listing->looks++;
	guest_look(p->guest, on_listed, l);
	return true;
}

/* Every monitor says by now who it is, or says nothing. */
static void look_at_single(struct driver_connection *c, sd_id128_t uuid, uint64_t serial)
{
	struct place *p = find_uuid(c, uuid);
	bool busy = false;

	if (p && look_at(p, serial, NULL))
		return;
	/* It may be behind one that says nothing. */
	DL_FOREACH(c->places, p)
	busy |= p->state == PLACE_BUSY;
	env_post_look(&c->env, KIND_DOMAIN, uuid, NULL, busy ? LOOK_FAILED : LOOK_GONE, NULL,
		busy ? "a monitor is busy, or its QEMU hangs" : NULL, serial);
}

/* A listing begins to look once every socket is known to be a domain or not, and ends with the last look. */
static void listings_round(struct driver_connection *c)
{
	struct listing *l, *tmp;
	struct place *p;

	DL_FOREACH(c->places, p)
	if (is_unsettled(p))
		return;
	DL_FOREACH_SAFE(c->listings, l, tmp)
	{
		uint64_t serial = l->serial;

		if (l->single) {
			DL_DELETE(c->listings, l);
			look_at_single(c, l->uuid, serial);
			free(l);
			continue;
		}
		if (l->looks == UINT_MAX) {
			/* One more, held by this loop: looks may be answered at once. */
			l->looks = 1;
			DL_FOREACH(c->places, p)
			if (p->state == PLACE_DOMAIN)
				(void)look_at(p, serial, l);
			l->looks--;
		}
		if (l->looks > 0)
			continue;
		DL_DELETE(c->listings, l);
		free(l);
		env_post_listed(&c->env, serial, true, true, NULL);
	}
}

static void listings_progress(struct driver_connection *c)
{
	c->again = true;
	if (c->scanning || c->closing || c->progressing)
		return;
	c->progressing = true;
	while (c->again) {
		c->again = false;
		listings_round(c);
	}
	c->progressing = false;
}

static void attach_list(struct driver_connection *c, uint64_t serial)
{
	struct listing *l = calloc(1, sizeof(*l));

	if (!l) {
		env_post_listed(&c->env, serial, false, false, "out of memory");
		return;
	}
	l->serial = serial;
	l->looks = UINT_MAX; /* not begun */
	DL_APPEND(c->listings, l);
	/* What another client had may be free by now, and what was dead may live. */
	scan(c);
	listings_progress(c);
}

static void attach_look(struct driver_connection *c, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
	struct place *p = kind == KIND_DOMAIN ? find_uuid(c, uuid) : NULL;
	struct listing *l;

	if (p) {
		if (!look_at(p, serial, NULL))
			env_post_look(&c->env, kind, uuid, NULL, LOOK_FAILED, NULL, "out of memory", serial);
		return;
	}
	l = kind == KIND_DOMAIN ? calloc(1, sizeof(*l)) : NULL;
	if (!l) {
		env_post_look(&c->env, kind, uuid, NULL, kind == KIND_DOMAIN ? LOOK_FAILED : LOOK_GONE, NULL, "out of memory", serial);
		return;
	}
	*l = (struct listing){.serial = serial, .looks = UINT_MAX, .single = true, .uuid = uuid};
	DL_APPEND(c->listings, l);
	listings_progress(c);
}

/* ---- operations --------------------------------------------------------------------------------------------- */

static void on_quit_patience(struct timer *t, void *userdata)
{
	struct place *p = userdata;

	if (!p->destroy)
		return;
	if (vdict_b(p->destroy->options, "graceful", false)) {
		end_destroy(p, VIREO_TIMEOUT, "QEMU does not end on being asked");
		return;
	}
	/* The end of file follows. A pid is good for nothing here: only the descriptor is sure to be this process. */
	if (p->pidfd < 0 || pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0) < 0)
		end_destroy(p, VIREO_OPERATION_FAILED,
			p->pidfd < 0 ? "QEMU does not end on being asked, and its process is unknown" : strerror(errno));
}

static void destroy(struct place *p, struct request *r)
{
	if (p->destroy) {
		env_post_result(&p->c->env, r, VIREO_BUSY, "the domain is being destroyed already");
		return;
	}
	p->destroy = r;
	(void)qmp_execute(p->guest->qmp, "quit", NULL, USEC_UNKNOWN, NULL, NULL);
	timer_in(p->c->env.clock, &p->kill_timer, p->guest->hung ? 0 : QUIT_PATIENCE, on_quit_patience, p);
}

static void attach_operate(struct driver_connection *c, struct request *r)
{
	struct place *p = r->kind == KIND_DOMAIN ? find_uuid(c, r->uuid) : NULL;
	struct result result = {0};

	if (operation_table[r->operation].kind != KIND_DOMAIN) {
		env_post_result(&c->env, r, VIREO_NOT_SUPPORTED, "this connection follows what others start, and makes nothing");
		return;
	}
	if (!p) {
		env_post_result(&c->env, r, VIREO_NOT_FOUND, "there is no such domain");
		return;
	}
	switch (r->operation) {
	case OP_DOMAIN_DESTROY:
		destroy(p, r);
		return;
	case OP_DOMAIN_GET_XML:
		if (vdict_b(r->options, "inactive", false)) {
			env_post_result(&c->env, r, VIREO_INVALID_STATE, "a domain of this connection has no persistent description");
			return;
		}
		result.text = guest_describe(p->guest);
		if (!result.text)
			failure_set(&result.failure, VIREO_NO_MEMORY, "out of memory");
		env_post_result_full(&c->env, r, &result);
		return;
	case OP_DOMAIN_SAVE:
	case OP_DOMAIN_MANAGED_SAVE:
		/* Nobody here could start it again. */
		env_post_result(&c->env, r, VIREO_NOT_SUPPORTED, "a domain of this connection cannot be restored, so it is not saved");
		return;
	default:
		if (!guest_operate(p->guest, r))
			env_post_result(&c->env, r, VIREO_NOT_SUPPORTED, "a domain of this connection cannot do that");
	}
}

static void attach_cancel(struct driver_connection *c, uint64_t token)
{
	struct place *p;

	DL_FOREACH(c->places, p)
	if (p->guest && guest_job_cancel(p->guest, token))
		return;
}

static void attach_complete(struct driver_connection *c, uint64_t token)
{
	struct place *p;

	DL_FOREACH(c->places, p)
	if (p->guest && guest_job_complete(p->guest, token))
		return;
}

/* ---- open and close ----------------------------------------------------------------------------------------- */

static const enum operation attach_operations[] = {
	OP_DOMAIN_REBOOT,   OP_DOMAIN_SHUTDOWN, OP_DOMAIN_RESET,	  OP_DOMAIN_DESTROY,	  OP_DOMAIN_SUSPEND,
	OP_DOMAIN_RESUME,   OP_DOMAIN_PMWAKEUP,	  OP_DOMAIN_SET_MEMORY,	  OP_DOMAIN_GET_XML,
	OP_DOMAIN_DUMP,	    OP_DOMAIN_BLOCK_PULL, OP_DOMAIN_BLOCK_COMMIT, OP_DOMAIN_BLOCK_COPY,
	OP_NONE,
};

static void attach_close(struct driver_connection *c)
{
	struct listing *l, *tmp;

	if (!c)
		return;
	c->closing = true;
	while (c->places)
		place_free(c->places);
	DL_FOREACH_SAFE(c->listings, l, tmp)
	free(l);
	attach_watch_free(c->watch);
	chores_close(c->env.chores);
	driver_host_unref(c->env.host);
	sd_event_unref(c->env.event);
	free(c->directory);
	free(c->only);
	free(c);
}
DEFINE_CLEANUP(struct driver_connection *, attach_close)

static unsigned causes_of_all[KIND_MAX];

static void hello(struct driver_connection *c)
{
	struct report *r = report_new(REPORT_HELLO);
	char host[HOST_NAME_MAX + 1] = "";

	if (r) {
		(void)gethostname(host, sizeof(host) - 1);
		r->hello.hostname = utf8_dup(host);
		/* Each domain has its own: tell_versions(). */
		r->hello.version = strdup("");
		if (asprintf(&r->hello.same_key, "qmp:%s/%s", c->directory, c->only ? c->only : "") < 0)
			r->hello.same_key = NULL;
		causes_of_all[KIND_DOMAIN] = guest_causes;
		r->hello.events = guest_event_names(guest_events, causes_of_all);
		r->hello.operations = guest_operation_names(attach_operations);
	}
	env_post(&c->env, r);
}

static int attach_open(const char *uri, struct driver_host *host, struct driver_connection **ret, struct failure *f)
{
	_cleanup_(attach_closep) struct driver_connection *c = calloc(1, sizeof(*c));
	const char *why = NULL;
	int r;

	if (!c)
		return -ENOMEM;
	c->env.host = driver_host_ref(host);
	c->env.event = sd_event_ref(driver_host_event(host));
	c->env.clock = driver_host_clock(host);
	r = attach_parse_uri(uri, &c->directory, &c->only, f);
	if (r == 0)
		r = chores_new(c->env.event, &c->env.chores);
	if (r != 0)
		return r;
	r = attach_watch_new(c->env.event, c->directory, &watch_ops, c, &c->watch, &why);
	if (r < 0) {
		c->failed = true;
		env_post_goodbye(&c->env, "%s: %s", c->directory, why ? why : strerror(-r));
	} else {
		hello(c);
		scan(c);
		c->helloed = true;
	}
	*ret = TAKE(c);
	return 0;
}

static enum claim attach_claim(const char *uri, char **ret_why)
{
	struct failure f = {0};
	_cleanup_(freep) char *directory = NULL, *only = NULL;

	if (strncmp(uri, "qmp:", 4) != 0)
		return CLAIM_NOT_MINE;
	if (attach_parse_uri(uri, &directory, &only, &f) == 0)
		return CLAIM_MINE;
	if (ret_why)
		*ret_why = TAKE(f.message);
	failure_clear(&f);
	return CLAIM_BROKEN;
}

const struct driver qmp_driver = {
	.api = DRIVER_API,
	.name = "qmp",
	.summary = "QEMUs that others started, by their monitor sockets",
	.uris = (const char *const[]){"qmp:///run/vms", "qmp:/run/vms/web.sock", NULL},
	.events = guest_events,
	.operations = attach_operations,
	.causes = {[KIND_DOMAIN] = 1u << CAUSE_STARTED | 1u << CAUSE_SUSPENDED | 1u << CAUSE_RESUMED |
				   1u << CAUSE_PMSUSPENDED | 1u << CAUSE_CRASHED | 1u << CAUSE_SHUTDOWN | 1u << CAUSE_STOPPED},
	.claim = attach_claim,
	.open = attach_open,
	.close = attach_close,
	.list = attach_list,
	.look = attach_look,
	.operate = attach_operate,
	.cancel = attach_cancel,
	.complete = attach_complete,
};
