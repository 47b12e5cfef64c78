/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authority.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "util/log.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_USER_INTERACTION UINT32_C(1)

/*
 * The bus allows a connection 128 calls that wait for an answer, for all our callers together: a few each go to polkit at
 * once, further ones wait here.
 */
#define ASKED_PER_SENDER 4u
#define ASKED_ALL 64u
#define WAITING_PER_SENDER 64u
/* Without a person to be asked, polkit answers at once or it hangs. A person may take a while. */
#define PATIENCE (10 * USEC_PER_SEC)
#define PATIENCE_INTERACTIVE (300 * USEC_PER_SEC)

enum stage { WAITING, ASKED, ANSWERED };

struct authority_request {
	struct authority *authority;
	struct sender *sender;
	enum stage stage;
	char *action, *remember, *cancellation;
	struct authority_detail *details;
	size_t n_details;
	bool interactive;
	authority_fn fn; /* NULL: cancelled; polkit's answer is still on its way */
	void *userdata;
	sd_bus_slot *slot;
	struct timer timer; /* to answer from the loop */
	enum authority_answer answer;
	uint64_t era; /* when it was asked */
	struct authority_request *leader;     /* the same remembered question, asked already */
	struct authority_request *prev, *next; /* of the sender, in order of asking */
};

struct memory {
	char *key; /* action, newline, key */
	enum authority_answer answer;
	UT_hash_handle hh;
};

struct sender {
	char *name;
	struct authority_request *requests;
	unsigned asked, waiting;
	struct memory *memories;
	UT_hash_handle hh;
};

struct authority {
	sd_bus *bus;
	struct clock *clock;
	void (*changed)(void *userdata);
	void *userdata;
	struct sender *senders;
	unsigned asked;
	uint64_t serial; /* for cancellation ids */
	uint64_t era;	 /* how often polkit has changed */
	sd_bus_slot *slots[2];
};

static void ask_waiting(struct authority *a);

/* ---- what is remembered ---------------------------------------------------------------------------------------- */

static char *memory_key(const char *action, const char *key)
{
	char *s;

	return asprintf(&s, "%s\n%s", action, key) < 0 ? NULL : s;
}

static void forget_all(struct sender *s)
{
	struct memory *m, *tmp;

	HASH_ITER(hh, s->memories, m, tmp)
	{
		HASH_DEL(s->memories, m);
		free(m->key);
		free(m);
	}
}

static void remember(struct sender *s, const char *action, const char *key, enum authority_answer answer)
{
	_cleanup_(freep) char *k = memory_key(action, key);
	struct memory *m = NULL;

	if (!k)
		return;
	HASH_FIND_STR(s->memories, k, m);
	if (!m) {
		m = calloc(1, sizeof(*m));
		if (!m)
			return;
		m->key = TAKE(k);
		HASH_ADD_KEYPTR(hh, s->memories, m->key, strlen(m->key), m);
	}
	m->answer = answer;
}

/* ---- senders --------------------------------------------------------------------------------------------------- */

static struct sender *sender_find(struct authority *a, const char *name)
{
	struct sender *s = NULL;

	HASH_FIND_STR(a->senders, name, s);
	return s;
}

static struct sender *sender_get(struct authority *a, const char *name)
{
	struct sender *s = sender_find(a, name);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->name = strdup(name);
	if (!s->name) {
		free(s);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, a->senders, s->name, strlen(s->name), s);
	return s;
}

static void sender_drop_if_empty(struct authority *a, struct sender *s)
{
	if (s->requests || s->memories)
		return;
	HASH_DEL(a->senders, s);
	free(s->name);
	free(s);
}

enum authority_answer authority_recall(struct authority *a, const char *sender, const char *action, const char *key)
{
	_cleanup_(freep) char *k = memory_key(action, key);
	struct sender *s = sender_find(a, sender);
	struct memory *m = NULL;

	if (s && k)
		HASH_FIND_STR(s->memories, k, m);
	return m ? m->answer : AUTHORITY_ANSWER_MAX;
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

static void request_leave_stage(struct authority_request *r)
{
	if (r->stage == ASKED) {
		r->sender->asked--;
		r->authority->asked--;
	} else if (r->stage == WAITING)
		r->sender->waiting--;
	r->stage = ANSWERED;
}

static void authority_request_free(struct authority_request *r)
{
	struct authority_request *other;

	request_leave_stage(r);
	DL_FOREACH(r->sender->requests, other)
	if (other->leader == r)
		other->leader = NULL;
	DL_DELETE(r->sender->requests, r);
	timer_clear(&r->timer);
	sd_bus_slot_unref(r->slot);
	for (size_t i = 0; i < r->n_details; i++) {
		free((char *)r->details[i].key);
		free((char *)r->details[i].value);
	}
	free(r->details);
	free(r->action);
	free(r->remember);
	free(r->cancellation);
	free(r);
}

static void on_answer_now(struct timer *t, void *userdata)
{
	struct authority_request *r = userdata;
	struct authority *a = r->authority;
	struct sender *s = r->sender;
	authority_fn fn = r->fn;
	void *fn_userdata = r->userdata;
	enum authority_answer answer = r->answer;

	authority_request_free(r);
	sender_drop_if_empty(a, s);
	if (fn)
		fn(answer, fn_userdata);
}

static void answer_later(struct authority_request *r, enum authority_answer answer)
{
	request_leave_stage(r);
	r->answer = answer;
	timer_in(r->authority->clock, &r->timer, 0, on_answer_now, r);
}

static void answered(struct authority_request *r, enum authority_answer answer)
{
	struct authority *a = r->authority;
	struct authority_request *other;

	/* What was asked before polkit changed may have been answered by the old rules. */
	if (r->remember && r->era == a->era && (answer == AUTHORITY_YES || answer == AUTHORITY_NO))
		remember(r->sender, r->action, r->remember, answer);
	DL_FOREACH(r->sender->requests, other)
	if (other->leader == r) {
		other->leader = NULL;
		answer_later(other, answer);
	}
	answer_later(r, answer);
	ask_waiting(a);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct authority_request *r = userdata;
	int authorized = 0, challenge = 0;

	r->slot = sd_bus_slot_unref(r->slot);
	if (sd_bus_message_is_method_error(m, NULL)) {
		const sd_bus_error *e = sd_bus_message_get_error(m);

		if (r->fn)
			log_warning("polkit did not say whether %s may %s: %s", r->sender->name, r->action,
				    e->message ? e->message : e->name);
		answered(r, AUTHORITY_NOBODY);
		return 1;
	}
	if (sd_bus_message_enter_container(m, 'r', "bba{ss}") < 0 || sd_bus_message_read(m, "bb", &authorized, &challenge) < 0) {
		log_warning("polkit's answer is not understood");
		answered(r, AUTHORITY_NOBODY);
		return 1;
	}
	answered(r, authorized ? AUTHORITY_YES : challenge ? AUTHORITY_CHALLENGE : AUTHORITY_NO);
	return 1;
}

static int send_question(struct authority_request *r)
{
	struct authority *a = r->authority;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int k;

	k = sd_bus_message_new_method_call(a->bus, &m, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE, "CheckAuthorization");
	if (k >= 0)
		k = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s", r->sender->name, r->action);
	if (k >= 0)
		k = sd_bus_message_open_container(m, 'a', "{ss}");
	for (size_t i = 0; k >= 0 && i < r->n_details; i++)
		k = sd_bus_message_append(m, "{ss}", r->details[i].key, r->details[i].value);
	if (k >= 0)
		k = sd_bus_message_close_container(m);
	if (k >= 0)
		k = sd_bus_message_append(m, "us", r->interactive ? ALLOW_USER_INTERACTION : 0, r->cancellation);
	if (k >= 0)
		k = sd_bus_call_async(a->bus, &r->slot, m, on_reply, r, r->interactive ? PATIENCE_INTERACTIVE : PATIENCE);
	return k;
}

static bool may_ask(const struct authority *a, const struct sender *s)
{
	return s->asked < ASKED_PER_SENDER && a->asked < ASKED_ALL;
}

static void ask(struct authority_request *r)
{
	int k;

	request_leave_stage(r);
	r->stage = ASKED;
	r->era = r->authority->era;
	r->sender->asked++;
	r->authority->asked++;
	k = send_question(r);
	if (k < 0) {
		log_warning("cannot ask polkit: %s", strerror(-k));
		answer_later(r, AUTHORITY_NOBODY);
	}
}

/* One of each sender in turn would be fairer still; each has a bound of its own, so nobody is kept out for long. */
static void ask_waiting(struct authority *a)
{
	struct authority_request *r;
	struct sender *s, *tmp;

	HASH_ITER(hh, a->senders, s, tmp)
	DL_FOREACH(s->requests, r)
	if (r->stage == WAITING && !r->leader && may_ask(a, s))
		ask(r);
}

static int copy_question(struct authority_request *r, const struct authority_question *q)
{
	r->action = strdup(q->action);
	r->remember = q->remember ? strdup(q->remember) : NULL;
	r->details = calloc(q->n_details ? q->n_details : 1, sizeof(*r->details));
	if (!r->action || (q->remember && !r->remember) || !r->details ||
	    asprintf(&r->cancellation, "vireo-%" PRIu64, r->authority->serial++) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < q->n_details; i++) {
		r->details[i].key = strdup(q->details[i].key);
		r->details[i].value = strdup(q->details[i].value);
		r->n_details++;
		if (!r->details[i].key || !r->details[i].value)
			return -ENOMEM;
	}
	return 0;
}

int authority_ask(struct authority *a, const struct authority_question *q, authority_fn fn, void *userdata,
		  struct authority_request **ret)
{
	enum authority_answer known = q->remember ? authority_recall(a, q->sender, q->action, q->remember) : AUTHORITY_ANSWER_MAX;
	struct sender *s = sender_get(a, q->sender);
	struct authority_request *r, *other;

	if (!s)
		return -ENOMEM;
	r = calloc(1, sizeof(*r));
	if (!r) {
		sender_drop_if_empty(a, s);
		return -ENOMEM;
	}
	r->authority = a;
	r->sender = s;
	r->fn = fn;
	r->userdata = userdata;
	r->interactive = q->interactive;
	r->stage = WAITING;
	s->waiting++;
	DL_APPEND(s->requests, r);
	if (copy_question(r, q) < 0) {
		authority_request_free(r);
		sender_drop_if_empty(a, s);
		return -ENOMEM;
	}
	*ret = r;
	if (known != AUTHORITY_ANSWER_MAX) {
		answer_later(r, known);
		return 0;
	}
	if (s->waiting > WAITING_PER_SENDER) {
		answer_later(r, AUTHORITY_BUSY);
		return 0;
	}
	if (q->remember)
		DL_FOREACH(s->requests, other)
		if (other != r && other->stage != ANSWERED && !other->leader && other->remember && other->fn &&
		    other->interactive == r->interactive && strcmp(other->action, r->action) == 0 &&
		    strcmp(other->remember, r->remember) == 0) {
			r->leader = other;
			return 0;
		}
	if (may_ask(a, s))
		ask(r);
	return 0;
}

/* polkit is told; its answer is then an error that says so, which frees the request. */
static void withdraw(struct authority_request *r)
{
	if (r->interactive)
		(void)sd_bus_call_method_async(r->authority->bus, NULL, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
					       "CancelCheckAuthorization", NULL, NULL, "s", r->cancellation);
}

void authority_cancel(struct authority_request *r)
{
	struct authority_request *other;
	struct authority *a;
	struct sender *s;

	if (!r)
		return;
	a = r->authority;
	s = r->sender;
	r->fn = NULL;
	/* Others may wait for the same answer. */
	DL_FOREACH(s->requests, other)
	if (other->leader == r && other->fn)
		return;
	if (r->stage == ASKED)
		withdraw(r);
	authority_request_free(r);
	sender_drop_if_empty(a, s);
	ask_waiting(a);
}

void authority_forget(struct authority *a, const char *sender)
{
	struct sender *s = sender_find(a, sender);

	if (!s)
		return;
	forget_all(s);
	sender_drop_if_empty(a, s);
}

/* ---- polkit changes -------------------------------------------------------------------------------------------- */

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct authority *a = userdata;
	struct sender *s, *tmp;

	a->era++;
	HASH_ITER(hh, a->senders, s, tmp)
	{
		forget_all(s);
		sender_drop_if_empty(a, s);
	}
	if (a->changed)
		a->changed(a->userdata);
	return 0;
}

int authority_new(sd_bus *bus, struct clock *clock, void (*changed)(void *userdata), void *userdata, struct authority **ret)
{
	_cleanup_(authority_freep) struct authority *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->bus = sd_bus_ref(bus);
	a->clock = clock;
	a->changed = changed;
	a->userdata = userdata;
	r = sd_bus_match_signal_async(bus, &a->slots[0], POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE, "Changed", on_changed, NULL,
				      a);
	if (r < 0)
		return r;
	/* Another polkitd may have other rules. */
	r = sd_bus_add_match_async(bus, &a->slots[1],
				   "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
				   "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" POLKIT_NAME "'",
				   on_changed, NULL, a);
	if (r < 0)
		return r;
	*ret = TAKE(a);
	return 0;
}

void authority_free(struct authority *a)
{
	struct sender *s, *tmp;

	if (!a)
		return;
	HASH_ITER(hh, a->senders, s, tmp)
	{
		while (s->requests) {
			if (s->requests->stage == ASKED)
				withdraw(s->requests);
			authority_request_free(s->requests);
		}
		forget_all(s);
		sender_drop_if_empty(a, s);
	}
	for (size_t i = 0; i < ELEMENTS(a->slots); i++)
		sd_bus_slot_unref(a->slots[i]);
	sd_bus_unref(a->bus);
	free(a);
}
