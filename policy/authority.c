/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authority.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "util/log.h"

#define DBUS_NAME "org.freedesktop.DBus"
#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_USER_INTERACTION UINT32_C(1)

/*
 * The bus allows a connection 128 calls that wait for an answer, for all our callers together: a few each go to polkit at
 * once, further ones wait here. Without a person to be asked, polkit answers at once or it hangs. A person may take a while:
 * such questions have bounds of their own, so that dialogs that nobody answers keep out nothing but further dialogs.
 */
enum class { AT_ONCE, INTERACTIVE, CLASS_MAX };

static const struct {
	unsigned per_sender, per_user, all;
	uint64_t patience;
} bounds[] = {
	[AT_ONCE] = {4, 16, 48, 10 * USEC_PER_SEC},
	[INTERACTIVE] = {4, 8, 64, 300 * USEC_PER_SEC},
};
static_assert(ELEMENTS(bounds) == CLASS_MAX, "bounds for each class");

enum stage { WAITING, ASKED, ANSWERED };

struct authority_request {
	struct authority *authority;
	struct sender *sender;
	enum stage stage;
	char *action, *cancellation;
	struct authority_detail *details;
	size_t n_details;
	enum class class;
	authority_fn fn; /* NULL: nobody waits for it any more; but it counts until polkit has answered */
	void *userdata;
	sd_bus_slot *slot;
	struct timer timer; /* asked: the end of patience; answered: to say so from the loop */
	enum authority_answer answer;
	struct authority_request *prev, *next; /* of the sender, in order of asking */
};

struct user {
	uint32_t uid;
	unsigned senders, asked[CLASS_MAX];
	UT_hash_handle hh;
};

/* In the hash in order of whose turn it is next. */
struct sender {
	char *name;
	struct user *user;
	struct authority_request *requests;
	unsigned asked[CLASS_MAX], waiting;
	UT_hash_handle hh;
};

struct authority {
	sd_bus *bus;
	struct clock *clock;
	void (*changed)(void *userdata);
	void *userdata;
	struct sender *senders;
	struct user *users;
	unsigned max, asked[CLASS_MAX];
	uint64_t serial; /* for cancellation ids */
	char *owner;	 /* unique name of the polkitd that answered last; NULL: none has, or it has gone */
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

static struct user *user_get(struct authority *a, uint32_t uid)
{
	struct user *u = NULL;

	HASH_FIND(hh, a->users, &uid, sizeof(uid), u);
	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->uid = uid;
	HASH_ADD(hh, a->users, uid, sizeof(u->uid), u);
	return u;
}

static void user_unref(struct authority *a, struct user *u)
{
	if (--u->senders > 0)
		return;
	HASH_DEL(a->users, u);
	free(u);
}

static struct sender *sender_get(struct authority *a, const char *name, uint32_t uid)
{
	struct sender *s = sender_find(a, name);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->name = strdup(name);
	s->user = s->name ? user_get(a, uid) : NULL;
	if (!s->user) {
		free(s->name);
		free(s);
		return NULL;
	}
	s->user->senders++;
	HASH_ADD_KEYPTR(hh, a->senders, s->name, strlen(s->name), s);
	return s;
}

static void sender_drop_if_empty(struct authority *a, struct sender *s)
{
	if (s->requests)
		return;
	HASH_DEL(a->senders, s);
	user_unref(a, s->user);
	free(s->name);
	free(s);
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

static void request_leave_stage(struct authority_request *r)
{
	if (r->stage == ASKED) {
		r->sender->asked[r->class]--;
		r->sender->user->asked[r->class]--;
		r->authority->asked[r->class]--;
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
	if (fn)
		fn(answer, fn_userdata);
}

static void answer_later(struct authority_request *r, enum authority_answer answer)
{
	request_leave_stage(r);
	r->answer = answer;
	timer_in(r->authority->clock, &r->timer, 0, on_answer_now, r);
}

/* Whose signals are polkit's: of whoever answers what was sent to its name. The bus itself answers if there is nobody. */
static void learn_owner(struct authority *a, sd_bus_message *m)
{
	const char *sender = sd_bus_message_get_sender(m);

	if (!sender || sender[0] != ':' || (a->owner && strcmp(a->owner, sender) == 0))
		return;
	free(a->owner);
	a->owner = strdup(sender);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct authority_request *r = userdata;
	int authorized = 0, challenge = 0;

	r->slot = sd_bus_slot_unref(r->slot);
	learn_owner(r->authority, m);
	if (!r->fn) {
		answer_later(r, AUTHORITY_NOBODY);
		return 1;
	}
	if (sd_bus_message_is_method_error(m, NULL)) {
		const sd_bus_error *e = sd_bus_message_get_error(m);

		log_warning("polkit did not say whether %s may %s: %s", r->sender->name, r->action,
				    e->message ? e->message : e->name);
		answer_later(r, AUTHORITY_NOBODY);
		return 1;
	}
	/* One of other types gives 0 or an error. */
	if (sd_bus_message_enter_container(m, 'r', "bba{ss}") <= 0 || sd_bus_message_read(m, "bb", &authorized, &challenge) <= 0) {
		log_warning("polkit's answer is not understood");
		answer_later(r, AUTHORITY_NOBODY);
		return 1;
	}
	answer_later(r, authorized ? AUTHORITY_YES : challenge ? AUTHORITY_CHALLENGE : AUTHORITY_NO);
	return 1;
}

/* polkit is told, so that a dialog closes. */
static void withdraw(struct authority_request *r)
{
	if (r->class == INTERACTIVE)
		(void)sd_bus_call_method_async(r->authority->bus, NULL, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
					       "CancelCheckAuthorization", NULL, NULL, "s", r->cancellation);
}

static void on_late(struct timer *t, void *userdata)
{
	struct authority_request *r = userdata;

	r->slot = sd_bus_slot_unref(r->slot);
	if (r->fn) {
		log_warning("polkit did not say in time whether %s may %s", r->sender->name, r->action);
		withdraw(r);
	}
	answer_later(r, AUTHORITY_NOBODY);
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
		k = sd_bus_message_append(m, "us", r->class == INTERACTIVE ? ALLOW_USER_INTERACTION : 0, r->cancellation);
	/* How long is the clock's to say. */
	if (k >= 0)
		k = sd_bus_call_async(a->bus, &r->slot, m, on_reply, r, UINT64_MAX);
	if (k >= 0)
		timer_in(a->clock, &r->timer, bounds[r->class].patience, on_late, r);
	return k;
}

static bool may_ask(const struct authority_request *r)
{
	const enum class c = r->class;

	return r->sender->asked[c] < bounds[c].per_sender && r->sender->user->asked[c] < bounds[c].per_user &&
	       r->authority->asked[c] < bounds[c].all;
}

static void ask(struct authority_request *r)
{
	int k;

	request_leave_stage(r);
	r->stage = ASKED;
	r->sender->asked[r->class]++;
	r->sender->user->asked[r->class]++;
	r->authority->asked[r->class]++;
	k = send_question(r);
	if (k < 0) {
		log_warning("cannot ask polkit: %s", strerror(-k));
		answer_later(r, AUTHORITY_NOBODY);
	}
}

static struct authority_request *next_of(const struct sender *s)
{
	struct authority_request *r;

	DL_FOREACH(s->requests, r)
	if (r->stage == WAITING && may_ask(r))
		return r;
	return NULL;
}

/* One of each sender in turn: who has been asked for goes to the end. */
static void ask_waiting(struct authority *a)
{
	unsigned left = HASH_COUNT(a->senders);
	struct sender *s = a->senders;

	while (left-- > 0 && s) {
		struct sender *next = s->hh.next;
		struct authority_request *r = s->waiting > 0 ? next_of(s) : NULL;

		if (r) {
			ask(r);
			HASH_DEL(a->senders, s);
			HASH_ADD_KEYPTR(hh, a->senders, s->name, strlen(s->name), s);
			/* He may have another one, once the others have had theirs. */
			left = HASH_COUNT(a->senders);
			next = next ? next : a->senders;
		}
		s = next;
	}
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
	struct sender *s = sender_get(a, q->sender, q->uid);
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
	r->class = q->interactive ? INTERACTIVE : AT_ONCE;
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
	else
		ask_waiting(a); /* it may be another's turn */
	return 0;
}

void authority_cancel(struct authority_request *r)
{
	struct authority *a;
	struct sender *s;

	if (!r)
		return;
	a = r->authority;
	s = r->sender;
	if (r->stage == ASKED) {
		/*
		 * The bus goes on counting it. Were its place free now, one who asks and goes away, over and over, could use up
		 * what the bus allows us. polkit answers at once to what it is told to drop.
		 */
		withdraw(r);
		r->fn = NULL;
		if (r->class == INTERACTIVE)
			timer_in(a->clock, &r->timer, bounds[AT_ONCE].patience, on_late, r);
		return;
	}
	authority_request_free(r);
	sender_drop_if_empty(a, s);
	ask_waiting(a);
}

/* ---- polkit changes -------------------------------------------------------------------------------------------- */

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct authority *a = userdata;
	const char *sender = sd_bus_message_get_sender(m);

	/* Anybody may send us one that looks the same; nobody shall make us ask everything again. */
	if (a->owner && sender && strcmp(sender, a->owner) == 0)
		a->changed(a->userdata);
	return 0;
}

/* Another polkitd may have other rules. */
static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct authority *a = userdata;
	const char *sender = sd_bus_message_get_sender(m), *owner;

	if (!sender || strcmp(sender, DBUS_NAME) != 0 || sd_bus_message_read(m, "sss", NULL, NULL, &owner) < 0)
		return 0;
	free(a->owner);
	a->owner = owner[0] ? strdup(owner) : NULL;
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
	r = sd_bus_add_match_async(bus, &a->slots[1],
				   "type='signal',sender='" DBUS_NAME "',path='/org/freedesktop/DBus',"
				   "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" POLKIT_NAME "'",
				   on_owner, NULL, a);
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
			if (s->requests->stage == ASKED && s->requests->fn)
				withdraw(s->requests);
			authority_request_free(s->requests);
		}
		sender_drop_if_empty(a, s);
	}
	for (size_t i = 0; i < ELEMENTS(a->slots); i++)
		sd_bus_slot_unref(a->slots[i]);
	free(a->owner);
	sd_bus_unref(a->bus);
	free(a);
}
