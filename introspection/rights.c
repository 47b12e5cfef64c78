/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>
#include <sys/inotify.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "face.h"

/* polkit says that it changed at every log-in, and again for each file of rules: once is enough. */
#define CHANGED_SETTLE (100 * USEC_PER_MSEC)
/* Names of objects that have gone, for those who may see by name. */
#define NAMES_MAX 16384u

/*
 * One answer of polkit's about one connection, for one caller.
 *
 *     unknown ──► asking ──► yes, no … ──► polkit changed: not fresh ──► asked again by the next call, or, if he follows
 *                                                                         what happens, at once
 *
 * Whatever was shown or hidden by it while it was known, or hidden because it was not, is a promise to those who follow:
 * when the answer differs from that, they are told.
 */
struct right {
	struct peer *peer;
	char *key; /* action, space, path of the connection or nothing */
	enum action action;
	const char *connection; /* in @key */
	enum authority_answer answer; /* AUTHORITY_ANSWER_MAX: unknown */
	bool fresh;		      /* polkit has not changed since it was asked */
	bool relied;		      /* unknown, and something was hidden because of it */
	bool interactive;	      /* a password could be asked for */
	bool by_password;	      /* yes, and without one it was not */
	uint64_t asked_at;	      /* face.pass then */
	struct authority_request *request;
	UT_hash_handle hh;
};

struct name_entry {
	char *path, *name;
	enum kind kind;
	UT_hash_handle hh;
};

bool peer_is_privileged(const struct peer *p)
{
	return p->known && (p->uid == 0 || p->uid == geteuid());
}

bool peer_follows(const struct peer *p)
{
	return p->subscription || p->n_polls > 0 || p->n_watches > 0;
}

/* ---- lists of the configuration --------------------------------------------------------------------------------- */

static bool matches(const char *const *patterns, const char *s)
{
	for (; patterns && *patterns; patterns++)
		if (fnmatch(*patterns, s, 0) == 0)
			return true;
	return false;
}

static bool is_member(const struct peer *p, uint32_t gid)
{
	for (size_t i = 0; i < p->n_gids; i++)
		if (p->gids[i] == gid)
			return true;
	return false;
}

/* @name: of a domain, pool or network; NULL: the connection itself is meant. */
static bool list_shows(const struct peer *p, const char *connection, enum kind kind, const char *name)
{
	const struct face_config *c = &p->face->config;
	const char *label = strrchr(connection, '/');

	for (size_t i = 0; label && i < c->n_views; i++) {
		const struct face_view *v = &c->views[i];

		if (!is_member(p, v->gid))
			continue;
		if (v->patterns[KIND_CONNECTION] && !matches(v->patterns[KIND_CONNECTION], label + 1))
			continue;
		if (!name || matches(v->patterns[kind], name))
			return true;
	}
	return false;
}

bool rights_has_list(const struct peer *viewer)
{
	for (size_t i = 0; i < viewer->face->config.n_views; i++)
		if (is_member(viewer, viewer->face->config.views[i].gid))
			return true;
	return false;
}

static void name_free(struct face *f, struct name_entry *n)
{
	HASH_DEL(f->names, n);
	f->n_names--;
	free(n->path);
	free(n->name);
	free(n);
}

void names_free(struct face *f)
{
	while (f->names)
		name_free(f, f->names);
}

static void name_keep(struct face *f, const struct event *e)
{
	struct name_entry *n = NULL;

	HASH_FIND_STR(f->names, e->path, n);
	if (n)
		name_free(f, n);
	if (f->n_names >= NAMES_MAX) {
		names_free(f);
		f->names_from = e->version;
	}
	n = calloc(1, sizeof(*n));
	if (!n || !(n->path = strdup(e->path)) || !(n->name = strdup(e->props->v[0].s))) {
		/* Then he who may see it by its name won't: see names_from. */
		f->names_from = e->version;
		if (n)
			free(n->path);
		free(n);
		return;
	}
	n->kind = e->kind;
	HASH_ADD_KEYPTR(hh, f->names, n->path, strlen(n->path), n);
	f->n_names++;
}

static bool is_named(enum kind k)
{
	return k == KIND_DOMAIN || k == KIND_POOL || k == KIND_NETWORK;
}

/* What it is called, or was when it went. */
static const char *name_of(struct face *f, const char *path, enum kind *ret_kind)
{
	struct object *o = broker_find(f->broker, path);
	struct name_entry *n = NULL;

	if (o) {
		*ret_kind = o->kind;
		return is_named(o->kind) ? o->props->v[0].s : NULL;
	}
	HASH_FIND_STR(f->names, path, n);
	if (n)
		*ret_kind = n->kind;
	return n ? n->name : NULL;
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

static struct right *right_get(struct peer *p, enum action action, const char *connection)
{
	_cleanup_(freep) char *key = NULL;
	struct right *r = NULL;

	if (asprintf(&key, "%d %s", (int)action, connection) < 0) {
		key = NULL;
		return NULL;
	}
	HASH_FIND_STR(p->rights, key, r);
	if (r)
		return r;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->peer = p;
	r->action = action;
	r->answer = AUTHORITY_ANSWER_MAX;
	r->key = TAKE(key);
	r->connection = strchr(r->key, ' ') + 1;
	HASH_ADD_KEYPTR(hh, p->rights, r->key, strlen(r->key), r);
	return r;
}

void rights_free(struct peer *p)
{
	struct right *r, *tmp;

	HASH_ITER(hh, p->rights, r, tmp)
	{
		HASH_DEL(p->rights, r);
		authority_cancel(r->request);
		free(r->key);
		free(r);
	}
}

static void access_changed(struct peer *p)
{
	p->changed = broker_version(p->face->broker);
	p->listed = false;
	events_access_changed(p);
	watches_access_changed(p);
}

static void on_answer(enum authority_answer answer, void *userdata)
{
	struct right *r = userdata;
	struct peer *p = r->peer;
	bool was = r->answer == AUTHORITY_YES, known = r->answer != AUTHORITY_ANSWER_MAX || r->relied, is;

	r->request = NULL;
	/* He has given a password for it; that he would be asked for one again changes nothing. */
	if (was && r->by_password && answer == AUTHORITY_CHALLENGE)
		answer = AUTHORITY_YES;
	else if (!was || answer != AUTHORITY_YES)
		r->by_password = answer == AUTHORITY_YES && r->interactive;
	is = answer == AUTHORITY_YES;
	r->answer = answer;
	r->relied = false;
	if (known && was != is && (peer_follows(p) || p->listed)) {
		log_debug("%s may %s %s to %s", p->name, is ? "now" : "no longer", action_to_string(r->action), r->connection);
		access_changed(p);
		if (r->action == ACTION_VIEW)
			signals_sight_changed(p, r->connection, is);
	}
	authorize_peer(p);
}

static int ask(struct right *r, bool interactive)
{
	_cleanup_(details_clear) struct details d = {0};
	struct face *f = r->peer->face;
	int k = details_of_connection(f, r->connection, action_to_string(r->action), &d);

	if (k < 0)
		return k;
	r->fresh = true;
	r->interactive = interactive;
	r->asked_at = ++f->pass;
	return details_ask(&d, r->peer, r->action, interactive, on_answer, r, &r->request);
}

int rights_ask(struct peer *p, enum action action, const char *connection, bool interactive, uint64_t since)
{
	struct right *r = right_get(p, action, connection);
	bool known, mine;
	int k;

	if (!r)
		return -ENOMEM;
	if (r->request)
		return AUTHORITY_ANSWER_MAX;
	known = r->answer != AUTHORITY_ANSWER_MAX;
	/* Asked since he came: that is the answer, whatever it is. Of earlier ones only those that last are good. */
	mine = known && r->asked_at > since;
	if (mine && (r->interactive || !interactive || r->answer != AUTHORITY_CHALLENGE))
		return r->answer;
	if (!mine && known && r->fresh && action == ACTION_VIEW &&
		(r->answer == AUTHORITY_YES || (r->answer == AUTHORITY_NO && !r->interactive) ||
			(r->answer == AUTHORITY_CHALLENGE && !interactive)))
		return r->answer;
	/* A dialog only for what a dialog can give. */
	k = ask(r, mine && interactive && r->answer == AUTHORITY_CHALLENGE);
	return k < 0 ? k : AUTHORITY_ANSWER_MAX;
}

/* ---- seeing ----------------------------------------------------------------------------------------------------- */

/* Is it allowed? What is not known is asked, and not allowed until then. */
static bool may(const struct peer *viewer, enum action action, const char *connection)
{
	struct right *r = right_get((struct peer *)viewer, action, connection);
	int k;

	if (!r)
		return false;
	if (r->answer == AUTHORITY_ANSWER_MAX && !r->relied) {
		r->relied = true;
		k = r->request ? 0 : ask(r, false);
		if (k < 0)
			log_warning("cannot ask what %s may see: %s", viewer->name, strerror(-k));
	}
	return r->answer == AUTHORITY_YES;
}

bool rights_sees(const struct peer *viewer, enum kind kind, const char *path, const char *connection, bool xml)
{
	_cleanup_(freep) char *top = connection_in(connection);
	const char *name = NULL;
	enum kind of = kind;

	if (!top)
		return false;
	if (xml && !may(viewer, ACTION_READ_XML, top))
		return false;
	if (may(viewer, ACTION_VIEW, top))
		return true;
	if (!rights_has_list(viewer) || !top[0])
		return false;
	if (kind == KIND_CONNECTION)
		return list_shows(viewer, top, kind, NULL);
	/* A job is seen by whoever sees what it works on. */
	name = name_of(viewer->face, kind == KIND_JOB ? connection : path, &of);
	return name && list_shows(viewer, top, of, name);
}

bool rights_sees_event(const struct peer *viewer, const struct event *e)
{
	_cleanup_(freep) char *top = NULL;
	const char *old = e->details ? vdict_s(e->details, "old-name", NULL) : NULL;

	if (!viewer || !rights_has_list(viewer) || !is_named(e->kind))
		return true;
	top = connection_in(e->connection);
	if (!top)
		return false;
	return may(viewer, ACTION_VIEW, top) ||
	       (list_shows(viewer, top, e->kind, e->props->v[0].s) && (!old || list_shows(viewer, top, e->kind, old)));
}

bool rights_sees_object(const struct peer *viewer, const struct object *o)
{
	return !viewer || rights_sees(viewer, o->kind, o->path, o->kind == KIND_JOB ? o->props->v[JOB_OBJECT].s : o->path, false);
}

/* ---- changes ---------------------------------------------------------------------------------------------------- */

static void ask_again(struct peer *p)
{
	struct right *r, *tmp;
	int k;

	HASH_ITER(hh, p->rights, r, tmp)
	if (!r->fresh && !r->request && r->answer != AUTHORITY_ANSWER_MAX) {
		k = ask(r, false);
		if (k < 0) {
			log_warning("cannot ask again what %s may see: %s", p->name, strerror(-k));
			on_answer(AUTHORITY_NOBODY, r);
		}
	}
}

static void on_settled(struct timer *t, void *userdata)
{
	struct face *f = userdata;
	struct peer *p, *tmp;

	HASH_ITER(hh, f->peers, p, tmp)
	if (peer_follows(p))
		ask_again(p);
}

void rights_changed(void *userdata)
{
	struct face *f = userdata;
	struct peer *p, *tmp;
	struct right *r, *rtmp;

	HASH_ITER(hh, f->peers, p, tmp)
	HASH_ITER(hh, p->rights, r, rtmp)
	r->fresh = false;
	if (!f->rights_timer.set)
		timer_in(f->clock, &f->rights_timer, CHANGED_SETTLE, on_settled, f);
}

/*
 * The file itself is watched, wherever it is mounted from; whoever changes it puts another in its place, mostly, so it is
 * looked for again each time. Groups that come from elsewhere are noticed when polkit changes or the caller comes again.
 */
static void on_groups_settled(struct timer *t, void *userdata)
{
	struct face *f = userdata;

	f->groups = sd_event_source_disable_unref(f->groups);
	rights_watch_groups(f);
	rights_changed(f);
}

static int on_groups(sd_event_source *s, const struct inotify_event *e, void *userdata)
{
	struct face *f = userdata;

	if (!f->groups_timer.set)
		timer_in(f->clock, &f->groups_timer, CHANGED_SETTLE, on_groups_settled, f);
	return 0;
}

void rights_watch_groups(struct face *f)
{
	int r = sd_event_add_inotify(sd_bus_get_event(f->bus), &f->groups, "/etc/group",
				     IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF, on_groups, f);

	if (r < 0)
		log_debug("/etc/group is not followed: %s", strerror(-r));
}

/* A name that changes takes an object into a list, or out of it. */
static void renamed(struct face *f, const struct event *e)
{
	const char *before = e->before->v[0].s, *now = e->props->v[0].s;
	struct peer *p, *tmp;

	HASH_ITER(hh, f->peers, p, tmp)
	{
		struct right *r = right_get(p, ACTION_VIEW, e->connection);
		bool is;

		if (!r || r->answer == AUTHORITY_YES || peer_is_privileged(p))
			continue;
		is = list_shows(p, e->connection, e->kind, now);
		if (is == list_shows(p, e->connection, e->kind, before))
			continue;
		access_changed(p);
		signals_sight_changed(p, e->path, is);
	}
}

/* The same label, but another hypervisor perhaps, of another driver: what was answered about the former is void. */
static void forget(struct face *f, const char *connection)
{
	struct peer *p, *tmp;
	struct right *r, *rtmp;

	HASH_ITER(hh, f->peers, p, tmp)
	HASH_ITER(hh, p->rights, r, rtmp)
	{
		if (strcmp(r->connection, connection) != 0)
			continue;
		if (r->request) {
			/* Calls wait for that. */
			authority_cancel(TAKE(r->request));
			r->relied = r->relied || r->answer != AUTHORITY_ANSWER_MAX;
			r->answer = AUTHORITY_ANSWER_MAX;
			r->by_password = false;
			if (ask(r, r->interactive) < 0)
				on_answer(AUTHORITY_NOBODY, r);
			continue;
		}
		HASH_DEL(p->rights, r);
		free(r->key);
		free(r);
	}
}

void rights_events(struct face *f, struct event *const *events, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct event *e = events[i];

		if (e->kind == KIND_CONNECTION && strcmp(e->name, "Added") == 0)
			forget(f, e->path);
		if (f->config.n_views == 0 || !is_named(e->kind))
			continue;
		if (strcmp(e->name, "Removed") == 0)
			name_keep(f, e);
		else if (e->before && strcmp(e->before->v[0].s, e->props->v[0].s) != 0)
			renamed(f, e);
	}
}

void rights_listed(struct held *h)
{
	if (h->viewer)
		((struct peer *)h->viewer)->listed = true;
}

bool rights_moved(struct held *h, uint64_t after)
{
	struct peer *p = (struct peer *)h->viewer;
	bool moved;

	if (!p)
		return false;
	moved = after < p->changed || (after == p->changed && p->changed > 0 && !p->listed) ||
		(rights_has_list(p) && after < h->face->names_from);
	p->listed = true;
	if (moved)
		held_failf(h, VIREO_ACCESS_CHANGED, "what this caller may see has changed since version %" PRIu64 "; list again",
			   after);
	return moved;
}
