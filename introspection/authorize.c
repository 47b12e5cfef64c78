/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "face.h"

/*
 * May the caller do this?
 *
 *     who is it? ──► root, our own user ──────────────────────────────────────────────────────────► go on
 *         │
 *         ├──► there is no polkit here ──► refused
 *         ├──► a listing: is there an answer for each connection? ──► asked as far as not ──► some may be seen ──► go on
 *         └──► else polkit is asked about this object ──► yes ──► (the other object) ──► are they still the same? ──► go on
 */

/* What polkit is asked about. */
struct subject {
	char *path; /* NULL: the manager */
	uint64_t incarnation;
	struct details details;
};

struct warrant {
	struct question q; /* its pointers are void, but for @covers */
	uint64_t since;	   /* face.pass */
	bool interactive;
	bool counted;	     /* its bytes are within the bound */
	char *connection;    /* path; a listing of one connection; NULL: of those that @covers lets through, or all */
	struct subject subjects[2]; /* each must be allowed, one after the other */
	unsigned n_subjects, current;
	struct authority_request *request;
};

static const char *const action_names[] = {
	[ACTION_VIEW] = "org.vireo1.view",
	[ACTION_READ_XML] = "org.vireo1.read-xml",
	[ACTION_READ_SECURE] = "org.vireo1.read-secure",
	[ACTION_CONTROL] = "org.vireo1.control",
	[ACTION_MANAGE] = "org.vireo1.manage",
	[ACTION_STORAGE] = "org.vireo1.storage",
	[ACTION_JOBS_CANCEL] = "org.vireo1.jobs.cancel",
	[ACTION_CONNECTIONS] = "org.vireo1.connections",
};
static_assert(ELEMENTS(action_names) == ACTION_MAX, "a name for each action");

const char *action_to_string(enum action action)
{
	return action_names[action];
}

/* ---- details ---------------------------------------------------------------------------------------------------- */

static const char *const detail_names[] = {
	[DETAIL_CONNECTION] = "connection", [DETAIL_DRIVER] = "driver", [DETAIL_KIND] = "kind", [DETAIL_UUID] = "uuid",
	[DETAIL_NAME] = "name", [DETAIL_OPERATION] = "operation", [DETAIL_URI] = "uri",
};
static_assert(ELEMENTS(detail_names) == DETAIL_MAX, "a name for each detail");

void details_clear(struct details *d)
{
	for (enum detail i = 0; i < DETAIL_MAX; i++)
		free(d->v[i]);
	*d = (struct details){0};
}

static int details_fill(struct details *d)
{
	for (enum detail i = 0; i < DETAIL_URI; i++)
		if (!d->v[i] && !(d->v[i] = strdup("")))
			return -ENOMEM;
	return 0;
}

static int put(struct details *d, enum detail i, const char *s)
{
	free(d->v[i]);
	d->v[i] = strdup(s);
	return d->v[i] ? 0 : -ENOMEM;
}

static int put_connection(struct details *d, struct face *f, const char *path)
{
	_cleanup_(freep) char *top = connection_in(path);
	const struct object *c;
	int r;

	if (!top)
		return -ENOMEM;
	if (!top[0])
		return 0;
	c = broker_find(f->broker, top);
	r = put(d, DETAIL_CONNECTION, strrchr(top, '/') + 1);
	return r < 0 || !c ? r : put(d, DETAIL_DRIVER, c->props->v[CONNECTION_DRIVER].s);
}

int details_of_connection(struct face *f, const char *path, const char *operation, struct details *d)
{
	int r = put_connection(d, f, path);

	if (r >= 0 && d->v[DETAIL_CONNECTION])
		r = put(d, DETAIL_NAME, d->v[DETAIL_CONNECTION]);
	if (r >= 0)
		r = put(d, DETAIL_KIND, "connection");
	if (r >= 0)
		r = put(d, DETAIL_OPERATION, operation);
	return r < 0 ? r : details_fill(d);
}

/* Of a job: what it works on. */
static const struct object *subject_of(struct face *f, const struct object *o)
{
	const struct object *subject = o->kind == KIND_JOB ? broker_find(f->broker, o->props->v[JOB_OBJECT].s) : NULL;

	return subject ? subject : o;
}

static int details_of(struct face *f, const struct object *object, const char *operation, struct details *d)
{
	const struct object *o = subject_of(f, object);
	char uuid[SD_ID128_UUID_STRING_MAX];
	int r;

	if (o->kind == KIND_CONNECTION)
		return details_of_connection(f, o->path, operation, d);
	r = put_connection(d, f, o->kind == KIND_JOB ? o->props->v[JOB_OBJECT].s : o->path);
	if (r >= 0)
		r = put(d, DETAIL_KIND, kind_to_string(o->kind));
	if (r >= 0)
		r = put(d, DETAIL_OPERATION, operation);
	if (r >= 0 && o->kind != KIND_JOB)
		r = put(d, DETAIL_UUID, sd_id128_to_uuid_string(o->uuid, uuid));
	if (r >= 0 && o->kind != KIND_JOB)
		r = put(d, DETAIL_NAME, o->props->v[0].s);
	return r < 0 ? r : details_fill(d);
}

static bool details_equal(const struct details *a, const struct details *b)
{
	for (enum detail i = 0; i < DETAIL_URI; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	return true;
}

int details_ask(const struct details *d, struct peer *p, enum action action, bool interactive, authority_fn fn,
		void *userdata, struct authority_request **ret)
{
	struct authority_detail details[DETAIL_MAX];
	struct authority_question q = {
		.sender = p->name, .uid = p->uid, .action = action_names[action], .details = details, .interactive = interactive};

	for (enum detail i = 0; i < DETAIL_MAX; i++)
		if (d->v[i])
			details[q.n_details++] = (struct authority_detail){detail_names[i], d->v[i]};
	return authority_ask(p->face->authority, &q, fn, userdata, ret);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

void warrant_free(struct warrant *w)
{
	if (!w)
		return;
	authority_cancel(w->request);
	for (size_t i = 0; i < ELEMENTS(w->subjects); i++) {
		details_clear(&w->subjects[i].details);
		free(w->subjects[i].path);
	}
	free(w->connection);
	free(w);
}

static void grant(struct held *h)
{
	struct warrant *w = TAKE(h->warrant);

	if (w->q.covers)
		w->q.covers->viewer = h->viewer;
	warrant_free(w);
	h->ops->go(h);
}

static void refuse(struct held *h, enum action action, int answer)
{
	const char *member = sd_bus_message_get_member(h->m), *name = action_names[action];

	switch (answer) {
	case AUTHORITY_CHALLENGE:
		held_failf(h, VIREO_INTERACTIVE_AUTH_REQUIRED,
			   "%s needs authentication for %s, which did not take place", member, name);
		break;
	case AUTHORITY_BUSY:
		held_failf(h, VIREO_LIMITS_EXCEEDED, "questions: as many of this caller's questions to polkit wait as may");
		break;
	case AUTHORITY_NOBODY:
		held_failf(h, VIREO_ACCESS_DENIED, "%s needs %s, and polkit did not say whether that is allowed", member, name);
		break;
	default:
		held_failf(h, VIREO_ACCESS_DENIED, "%s needs %s, which is not allowed to this caller", member, name);
		break;
	}
}

/* ---- one object ------------------------------------------------------------------------------------------------- */

static void decide(struct held *h);

static bool is_same(struct held *h, const struct subject *s)
{
	_cleanup_(details_clear) struct details now = {0};
	struct face *f = h->face;
	const struct object *o;

	if (!s->path)
		return true;
	o = broker_find(f->broker, s->path);
	if (!o || o->incarnation != s->incarnation || !rights_sees_object(f->config.private_signals ? h->viewer : NULL, o))
		return false;
	return details_of(f, o, sd_bus_message_get_member(h->m), &now) >= 0 && details_equal(&s->details, &now);
}

/* The question about @o is to be put. */
static int subject_add(struct warrant *w, struct held *h, const struct object *o)
{
	struct subject *s = &w->subjects[w->n_subjects++];

	s->path = strdup(o->path);
	s->incarnation = o->incarnation;
	return s->path ? details_of(h->face, o, sd_bus_message_get_member(h->m), &s->details) : -ENOMEM;
}

static void on_answer(enum authority_answer answer, void *userdata)
{
	struct held *h = userdata;
	struct warrant *w = h->warrant;
	bool same = true;

	w->request = NULL;
	/* The first may have changed while there was an answer about the second. */
	for (unsigned i = 0; i < w->n_subjects; i++)
		same = same && is_same(h, &w->subjects[i]);
	if (answer != AUTHORITY_YES)
		refuse(h, w->q.action, answer);
	else if (!same)
		held_failf(h, VIREO_ACCESS_DENIED,
			   "what %s was called for has gone, or changed its name, since polkit was asked about it; nothing was done",
			   sd_bus_message_get_member(h->m));
	else if (++w->current < w->n_subjects)
		decide(h);
	else
		grant(h);
}

static void decide_object(struct held *h, struct warrant *w)
{
	int r;

	if (w->request)
		return;
	r = details_ask(&w->subjects[w->current].details, h->peer, w->q.action, w->interactive, on_answer, h, &w->request);
	if (r < 0)
		held_errno(h, r);
}

/* ---- listings --------------------------------------------------------------------------------------------------- */

/* The answers to "may he view this one, and its XML, too?" as one. */
static int ask_connection(struct held *h, const struct warrant *w, const char *connection, enum action *ret)
{
	struct peer *p = h->peer;
	int view = rights_ask(p, ACTION_VIEW, connection, w->interactive, w->since), xml;

	*ret = ACTION_VIEW;
	if (!w->q.covers || !w->q.covers->xml || view < 0 || view == AUTHORITY_ANSWER_MAX)
		return view;
	/* A list may show him some of it. */
	if (view != AUTHORITY_YES && !rights_has_list(p))
		return view;
	xml = rights_ask(p, ACTION_READ_XML, connection, w->interactive, w->since);
	if (xml != AUTHORITY_YES) {
		*ret = ACTION_READ_XML;
		return xml;
	}
	return view;
}

/* Of many a no, the one that says most. */
static int worse(int a, int b)
{
	static const int rank[] = {
		[AUTHORITY_YES] = 0, [AUTHORITY_NO] = 1, [AUTHORITY_NOBODY] = 2, [AUTHORITY_BUSY] = 3, [AUTHORITY_CHALLENGE] = 4,
		[AUTHORITY_ANSWER_MAX] = 5,
	};

	return rank[a] > rank[b] ? a : b;
}

static bool names_connection(const struct warrant *w, const char *path)
{
	const struct filter *f = w->q.covers;

	if (w->connection)
		return true;
	for (char **s = f && f->connections ? f->connections : NULL; s && *s; s++)
		if (strcmp(*s, path) == 0)
			return true;
	return false;
}

static void decide_listing(struct held *h, struct warrant *w)
{
	struct face *f = h->face;
	int answer, denied = AUTHORITY_YES;
	enum action lacking = ACTION_VIEW, action;
	bool some = rights_has_list(h->peer), waiting = false;

	for (struct object *o = broker_first(f->broker, KIND_CONNECTION); o; o = o->next) {
		if (w->connection ? strcmp(w->connection, o->path) != 0 : w->q.covers && !filter_covers(w->q.covers, o->path))
			continue;
		answer = ask_connection(h, w, o->path, &action);
		if (answer < 0) {
			held_errno(h, answer);
			return;
		}
		waiting |= answer == AUTHORITY_ANSWER_MAX;
		if (answer == AUTHORITY_YES) {
			some = true;
			continue;
		}
		/* XML that may not be read is refused, not left out. In private mode what may not be seen isn't there. */
		if (action == ACTION_READ_XML || (names_connection(w, o->path) && !f->config.private_signals && !rights_has_list(h->peer))) {
			denied = worse(answer, denied);
			lacking = action;
		}
	}
	if (waiting)
		return;
	if (!w->q.gate && denied != AUTHORITY_YES)
		refuse(h, lacking, denied);
	else if (w->q.gate || some)
		grant(h);
	else {
		/* Nothing may be seen, or there is nothing: whether it is the one or the other is not told. */
		answer = rights_ask(h->peer, ACTION_VIEW, "", w->interactive, w->since);
		if (answer < 0)
			held_errno(h, answer);
		else if (answer == AUTHORITY_YES)
			grant(h);
		else if (answer != AUTHORITY_ANSWER_MAX)
			refuse(h, ACTION_VIEW, answer);
	}
}

/* ---- all -------------------------------------------------------------------------------------------------------- */

/* Arguments that wait, of all connections to the bus that this user has. */
static uint64_t bytes_waiting(const struct peer *of)
{
	struct peer *p, *tmp;
	uint64_t sum = 0;
	struct held *h;

	HASH_ITER(hh, of->face->peers, p, tmp)
	{
		if (p->uid != of->uid)
			continue;
		for (h = p->held; h; h = h->peer_next)
			sum += h->bytes;
	}
	return sum;
}

/* Answers, asks or waits. @h may be gone afterwards. */
static void decide(struct held *h)
{
	struct warrant *w = h->warrant;
	struct peer *p = h->peer;

	if (!p->known) {
		h->asked = true;
		return;
	}
	if (peer_is_privileged(p)) {
		grant(h);
		return;
	}
	h->viewer = p;
	if (!h->face->authority) {
		held_failf(h, VIREO_ACCESS_DENIED, "on this bus only root and the user that runs vireod may use it");
		return;
	}
	if (h->bytes > 0 && !w->counted && bytes_waiting(p) > h->face->config.limits.bytes) {
		held_failf(h, VIREO_LIMITS_EXCEEDED, "bytes: the arguments of this user's calls that wait are larger than %llu together",
			   (unsigned long long)h->face->config.limits.bytes);
		return;
	}
	w->counted = true;
	if (w->q.action == ACTION_VIEW)
		decide_listing(h, w);
	else
		decide_object(h, w);
}

void authorize_peer(struct peer *p)
{
	uint64_t pass = ++p->face->pass;
	struct held *h;

	/* A call that goes on may end at once, and so may any other: begin anew each time. */
	for (;;) {
		for (h = p->held; h && (!h->warrant || h->considered == pass); h = h->peer_next)
			;
		if (!h)
			return;
		h->considered = pass;
		h->asked = false;
		decide(h);
	}
}

static int warrant_new(struct held *h, const struct question *q, struct warrant **ret)
{
	_cleanup_(warrant_freep) struct warrant *w = calloc(1, sizeof(*w));
	const char *query;
	int r = 0;

	if (!w)
		return -ENOMEM;
	w->q = *q;
	w->q.object = w->q.other = NULL;
	w->q.label = w->q.uri = NULL;
	w->since = h->face->pass;
	w->interactive = sd_bus_message_get_allow_interactive_authorization(h->m) > 0;
	if (q->action == ACTION_VIEW && q->object) {
		const struct object *o = q->object;

		w->connection = connection_in(o->kind == KIND_JOB ? o->props->v[JOB_OBJECT].s : o->path);
		r = w->connection ? 0 : -ENOMEM;
	} else if (q->object) {
		r = subject_add(w, h, q->object);
		if (r >= 0 && q->other)
			r = subject_add(w, h, q->other);
	} else if (q->action != ACTION_VIEW) {
		struct details *d = &w->subjects[w->n_subjects++].details;

		r = put(d, DETAIL_CONNECTION, q->label ? q->label : "");
		if (r >= 0)
			r = put(d, DETAIL_NAME, q->label ? q->label : "");
		if (r >= 0)
			r = put(d, DETAIL_KIND, "connection");
		if (r >= 0)
			r = put(d, DETAIL_OPERATION, sd_bus_message_get_member(h->m));
		if (r >= 0 && q->uri) {
			/* Whatever may be secret in it stands in its query. */
			query = strpbrk(q->uri, "?#");
			d->v[DETAIL_URI] = query ? strndup(q->uri, (size_t)(query - q->uri)) : strdup(q->uri);
			r = d->v[DETAIL_URI] ? 0 : -ENOMEM;
		}
		if (r >= 0)
			r = details_fill(d);
	}
	if (r < 0)
		return r;
	*ret = TAKE(w);
	return 0;
}

int face_authorize(struct held *h, const struct question *q)
{
	const char *sender = sd_bus_message_get_sender(h->m);
	struct peer *p;
	int r;

	/* Without a bus between us there is nobody to ask who it is; and nobody but the owner of the socket. */
	if (!sender) {
		h->ops->go(h);
		return 1;
	}
	r = peer_get(h->face, sender, &p);
	if (r == 0)
		r = warrant_new(h, q, &h->warrant);
	if (r < 0) {
		held_errno(h, r);
		return 1;
	}
	if (p->n_held >= HELD_PER_PEER_MAX) {
		held_failf(h, VIREO_LIMITS_EXCEEDED, "calls: %u of this caller are waiting already", p->n_held);
		return 1;
	}
	peer_attach(p, h);
	decide(h);
	return 1;
}
