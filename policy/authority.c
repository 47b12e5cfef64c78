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
/* Without a person to be asked, polkit answers at once or it hangs. A person may take a while. */
#define PATIENCE (10 * USEC_PER_SEC)
#define PATIENCE_INTERACTIVE (300 * USEC_PER_SEC)

enum stage { WAITING, ASKED, ANSWERED };

struct authority_request {
	struct authority *authority;
	struct sender *sender;
	enum stage stage;
	char *action, *cancellation;
	struct authority_detail *details;
	size_t n_details;
	bool interactive;
	authority_fn fn; /* NULL: cancelled; polkit's answer is still on its way */
	void *userdata;
	sd_bus_slot *slot;
	struct timer timer; /* to answer from the loop */
	enum authority_answer answer;
	struct authority_request *prev, *next; /* of the sender, in order of asking */
};

struct sender {
	char *name;
	struct authority_request *requests;
	unsigned asked, waiting;
	UT_hash_handle hh;
};

struct authority {
	sd_bus *bus;
	struct clock *clock;
	void (*changed)(void *userdata);
	void *userdata;
	struct sender *senders;
	unsigned max, asked;
	uint64_t serial; /* for cancellation ids */
	sd_bus_slot *slots[2];
};

static void ask_waiting(struct authority *a);

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
	if (s->requests)
		return;
	HASH_DEL(a->senders, s);
	free(s->name);
	free(s);
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
	request_leave_stage(r);
	DL_DELETE(r->sender->requests, r);
	timer_clear(&r->timer);
	sd_bus_slot_unref(r->slot);
	for (size_t i = 0; i < r->n_details; i++) {
		free((char *)r->details[i].key);
		free((char *)r->details[i].value);
	}
	free(r->details);
	free(r->action);
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
	ask_waiting(a);
	fn(answer, fn_userdata);
}

static void answer_later(struct authority_request *r, enum authority_answer answer)
{
	request_leave_stage(r);
	r->answer = answer;
	timer_in(r->authority->clock, &r->timer, 0, on_answer_now, r);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct authority_request *r = userdata;
	int authorized = 0, challenge = 0;

	r->slot = sd_bus_slot_unref(r->slot);
	if (sd_bus_message_is_method_error(m, NULL)) {
		const sd_bus_error *e = sd_bus_message_get_error(m);

		log_warning("polkit did not say whether %s may %s: %s", r->sender->name, r->action,
				    e->message ? e->message : e->name);
		answer_later(r, AUTHORITY_NOBODY);
		return 1;
	}
	if (sd_bus_message_enter_container(m, 'r', "bba{ss}") < 0 || sd_bus_message_read(m, "bb", &authorized, &challenge) < 0) {
		log_warning("polkit's answer is not understood");
		answer_later(r, AUTHORITY_NOBODY);
		return 1;
	}
	answer_later(r, authorized ? AUTHORITY_YES : challenge ? AUTHORITY_CHALLENGE : AUTHORITY_NO);
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
	if (r->stage == WAITING && may_ask(a, s))
		ask(r);
}

static int copy_question(struct authority_request *r, const struct authority_question *q)
{
	r->action = strdup(q->action);
	r->details = calloc(q->n_details ? q->n_details : 1, sizeof(*r->details));
	if (!r->action || !r->details ||
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
	struct sender *s = sender_get(a, q->sender);
	struct authority_request *r;

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
	if (s->waiting > a->max)
		answer_later(r, AUTHORITY_BUSY);
	else if (may_ask(a, s))
		ask(r);
	return 0;
}

/* polkit is told, so that a dialog closes; its answer then finds nobody. */
static void withdraw(struct authority_request *r)
{
	if (r->interactive)
		(void)sd_bus_call_method_async(r->authority->bus, NULL, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
					       "CancelCheckAuthorization", NULL, NULL, "s", r->cancellation);
}

void authority_cancel(struct authority_request *r)
{
	struct authority *a;
	struct sender *s;

	if (!r)
		return;
	a = r->authority;
	s = r->sender;
	if (r->stage == ASKED)
		withdraw(r);
	authority_request_free(r);
	sender_drop_if_empty(a, s);
	ask_waiting(a);
}

/* ---- polkit changes -------------------------------------------------------------------------------------------- */

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct authority *a = userdata;

	a->changed(a->userdata);
	return 0;
}

int authority_new(sd_bus *bus, struct clock *clock, unsigned max, void (*changed)(void *userdata), void *userdata,
		  struct authority **ret)
{
	_cleanup_(authority_freep) struct authority *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->bus = sd_bus_ref(bus);
	a->clock = clock;
	a->max = max;
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
		sender_drop_if_empty(a, s);
	}
	for (size_t i = 0; i < ELEMENTS(a->slots); i++)
		sd_bus_slot_unref(a->slots[i]);
	sd_bus_unref(a->bus);
	free(a);
}
