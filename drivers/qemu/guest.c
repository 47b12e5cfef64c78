/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "guest.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "jobs.h"
#include "util/log.h"
#include "util/utf8.h"

/* A cause is posted without a look after so long. */
#define LOOK_PATIENCE (200 * USEC_PER_MSEC)
/* A QEMU that does not answer for so long hangs. */
#define PROBE_PATIENCE (3 * USEC_PER_SEC)

struct cause_item {
	enum cause cause;
	const char *reason; /* static */
	const char *event;  /* static */
	struct vdict *details;
	struct cause_item *prev, *next;
};

struct waiter {
	guest_look_fn fn;
	void *userdata;
	struct waiter *prev, *next;
};

/* One look under way. */
struct probe {
	struct guest *guest;
	unsigned outstanding;
	bool status_seen;
	struct facts facts;
	struct waiter *waiters;
};

static void begin_probe(struct guest *g);

static void facts_clear(struct facts *f)
{
	json_object_put(f->block);
	json_object_put(f->vnc);
	json_object_put(f->spice);
	json_object_put(f->chardev);
	*f = (struct facts){0};
}

static void free_causes(struct guest *g)
{
	struct cause_item *k, *tmp;

	DL_FOREACH_SAFE(g->causes, k, tmp)
	{
		vdict_free(k->details);
		free(k);
	}
	g->causes = NULL;
	timer_clear(&g->timer);
}

static void free_probe(struct guest *g)
{
	struct probe *p = TAKE(g->probe);

	if (!p)
		return;
	facts_clear(&p->facts);
	/* Whoever waited for this one waits for the next. */
	DL_CONCAT(p->waiters, g->waiters);
	g->waiters = p->waiters;
	free(p);
}

struct guest *guest_new(const struct guest_env *env, const struct guest_ops *ops, void *owner)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->env = env;
	g->ops = ops;
	g->owner = owner;
	g->running_word = "unknown";
	g->end_reason = "failed";
	return g;
}

void guest_disconnect(struct guest *g)
{
	/* Replies are not called any more, so nothing would end the probe. */
	qmp_free(TAKE(g->qmp));
	free_probe(g);
	free_causes(g);
}

void guest_free(struct guest *g)
{
	if (!g)
		return;
	guest_disconnect(g);
	guest_answer(g, WAITED_DOWN, NULL);
	guest_jobs_free(g);
	guest_tasks_free(g);
	facts_clear(&g->facts);
	free(g->name);
	free(g);
}

bool guest_is_up(const struct guest *g)
{
	return g->qmp && g->announced;
}

bool guest_is_active_paused(const struct guest *g)
{
	const char *word;

	return guest_state(g->status, g->running_word, &word) == DOMAIN_PAUSED;
}

/* ---- posting ------------------------------------------------------------------------------------------------ */

static struct seen *make_seen(struct guest *g)
{
	struct seen *s = seen_new();
	const char *word;

	if (!s)
		return NULL;
	s->name = utf8_dup(g->name);
	s->active = true;
	s->id = g->run;
	s->state = guest_state(g->status, g->running_word, &word);
	if (g->rebooting && (s->state == DOMAIN_SHUTDOWN || s->state == DOMAIN_PAUSED)) {
		/* For a moment, and by our own doing. */
		s->state = DOMAIN_RUNNING;
		word = g->running_word;
	}
	s->state_reason = strdup(word);
	s->max_memory = g->facts.max_memory;
	s->memory = g->facts.memory;
	s->vcpus = g->facts.vcpus;
	if (!g->facts.valid)
		s->unknown |= SEEN_MEMORY;
	g->ops->seen(g, s);
	if (!s->name || !s->state_reason) {
		seen_free(s);
		return NULL;
	}
	return s;
}

/* The reason of a STOP, by what was found right behind it. */
static const char *reason_of_stop(const struct guest *g)
{
	if (strcmp(g->status, "io-error") == 0)
		return "ioerror";
	if (strcmp(g->status, "watchdog") == 0)
		return "watchdog";
	if (strcmp(g->status, "postmigrate") == 0 || strcmp(g->status, "finish-migrate") == 0)
		return "migrated";
	return "paused";
}

/* Post all that waits; @s: goes with the last, and behind it, settled; NULL: nobody looked. */
static void post_causes(struct guest *g, const struct seen *s)
{
	struct cause_item *k, *tmp;
	bool any = g->causes != NULL;

	timer_clear(&g->timer);
	DL_FOREACH_SAFE(g->causes, k, tmp)
	{
		struct report *r;
		struct observation *o = observation_new(&r, KIND_DOMAIN, g->uuid, g->name);
		const char *reason = k->reason;

		if (k->cause == CAUSE_SUSPENDED && !reason)
			reason = reason_of_stop(g);
		DL_DELETE(g->causes, k);
		if (o) {
			o->cause = k->cause;
			o->reason = utf8_dup(reason);
			o->run = g->run;
			o->event = utf8_dup(k->event);
			o->details = TAKE(k->details);
			if (s && !g->causes) {
				o->seen = seen_copy(s);
				o->look = o->seen ? LOOK_SEEN : LOOK_NONE;
			}
		}
		env_post(g->env, r);
		vdict_free(k->details);
		free(k);
	}
	if (s && (any || g->owed))
		env_post_look(g->env, KIND_DOMAIN, g->uuid, g->name, LOOK_SEEN, s, NULL, 0);
	g->owed = any && !s;
}

void guest_flush(struct guest *g)
{
	post_causes(g, NULL);
}

static void on_patience(struct timer *t, void *userdata)
{
	struct guest *g = userdata;

	/* The look follows, with whatever comes then. */
	post_causes(g, NULL);
}

void guest_cause(struct guest *g, enum cause cause, const char *reason, const char *event, struct vdict *details, bool look)
{
	struct cause_item *k;

	/* What nobody was told of has no story. */
	if (!g->announced) {
		vdict_free(details);
		return;
	}
	k = calloc(1, sizeof(*k));
	if (!k) {
		log_error("out of memory: an event of a guest is lost");
		vdict_free(details);
		g->want_probe = true;
		return;
	}
	*k = (struct cause_item){.cause = cause, .reason = reason, .event = event, .details = details};
	DL_APPEND(g->causes, k);
	if (look) {
		g->want_probe = true;
		if (!g->timer.set)
			timer_in(g->env->clock, &g->timer, LOOK_PATIENCE, on_patience, g);
		begin_probe(g);
	} else if (g->causes == k)
		/* Nothing is ahead of it, and it says all that there is to say. */
		post_causes(g, NULL);
}

static void post_cause(struct guest *g, enum cause cause, const char *reason, const struct seen *s)
{
	struct report *r;
	struct observation *o = observation_new(&r, KIND_DOMAIN, g->uuid, g->name);

	if (o) {
		o->cause = cause;
		o->reason = utf8_dup(reason);
		o->run = g->run;
		o->seen = seen_copy(s);
		o->look = o->seen ? LOOK_SEEN : LOOK_FAILED;
	}
	env_post(g->env, r);
}

void guest_announce(struct guest *g, const char *reason, const struct seen *s)
{
	g->announced = true;
	if (!reason)
		return;
	post_cause(g, CAUSE_STARTED, reason, s);
	/* What is restored begins where it stood still, and then goes on. */
	if (strcmp(reason, "restored") == 0 && s->state == DOMAIN_RUNNING)
		post_cause(g, CAUSE_RESUMED, "from-snapshot", s);
	env_post_look(g->env, KIND_DOMAIN, g->uuid, g->name, LOOK_SEEN, s, NULL, 0);
}

/* ---- looks -------------------------------------------------------------------------------------------------- */

void guest_answer(struct guest *g, enum waited how, const struct seen *s)
{
	struct waiter *list = TAKE(g->waiters), *w, *tmp;

	/* A function may ask for the next look; that is another list. It must not free the guest. */
	DL_FOREACH_SAFE(list, w, tmp)
	{
		guest_look_fn fn = w->fn;
		void *userdata = w->userdata;

		free(w);
		fn(g, how, s, userdata);
	}
}

bool guest_is_waited_for(const struct guest *g)
{
	return g->waiters || (g->probe && g->probe->waiters);
}

static void answer_probe(struct guest *g, struct waiter *list, enum waited how, const struct seen *s)
{
	struct waiter *later = TAKE(g->waiters);

	g->waiters = list;
	guest_answer(g, how, s);
	/* Those who asked meanwhile stand behind those who had asked before. */
	DL_CONCAT(later, g->waiters);
	g->waiters = later;
}

static void end_probe(struct guest *g, enum qmp_status status)
{
	struct probe *p = g->probe;
	_cleanup_(seen_freep) struct seen *s = NULL;
	struct waiter *list;

	if (status == QMP_CLOSED) {
		/* down() decides what it means. */
		free_probe(g);
		return;
	}
	list = TAKE(p->waiters);
	if (status == QMP_OK) {
		facts_clear(&g->facts);
		g->facts = p->facts;
		g->facts.valid = true;
		p->facts = (struct facts){0};
		s = make_seen(g);
	}
	free_probe(g);
	if (s) {
		post_causes(g, s);
		answer_probe(g, list, WAITED_SEEN, s);
		if (g->ops->changed)
			g->ops->changed(g);
	} else {
		post_causes(g, NULL);
		if (!g->hung && g->announced) {
			g->hung = true;
			log_warning("The monitor of domain '%s' does not answer; what is known of it is kept.", g->name);
			guest_cause(g, CAUSE_OTHER, "", "ControlError", NULL, false);
		}
		answer_probe(g, list, WAITED_TIMEOUT, NULL);
	}
	if (g->want_probe || g->waiters)
		begin_probe(g);
}

static void probe_answered(struct probe *p, const struct qmp_reply *reply, bool last)
{
	struct guest *g = p->guest;

	p->outstanding--;
	if (!last)
		return;
	if (reply->status == QMP_OK) {
		const char *status = json_s(reply->value, "status");

		snprintf(g->status, sizeof(g->status), "%s", status ? status : "");
	}
	end_probe(g, reply->status == QMP_REFUSED ? QMP_TIMEOUT : reply->status);
}

static void on_cpus(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct probe *p = ((struct guest *)userdata)->probe;

	if (!p)
		return;
	if (reply->status == QMP_OK && json_object_is_type(reply->value, json_type_array))
		p->facts.vcpus = (unsigned)json_object_array_length(reply->value);
	probe_answered(p, reply, false);
}

static void on_memory(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct probe *p = ((struct guest *)userdata)->probe;

	if (!p)
		return;
	if (reply->status == QMP_OK)
		p->facts.max_memory = p->facts.memory =
			json_u(reply->value, "base-memory", 0) + json_u(reply->value, "plugged-memory", 0);
	probe_answered(p, reply, false);
}

static void on_balloon(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct probe *p = ((struct guest *)userdata)->probe;

	if (!p)
		return;
	/* Refused where there is no balloon: then the guest has all its memory. */
	if (reply->status == QMP_OK)
		p->facts.memory = json_u(reply->value, "actual", p->facts.memory);
	probe_answered(p, reply, false);
}

#define KEEP_REPLY(name)                                                                                     \
	static void on_##name(struct qmp *q, const struct qmp_reply *reply, void *userdata)                  \
	{                                                                                                    \
		struct probe *p = ((struct guest *)userdata)->probe;                                         \
                                                                                                             \
		if (!p)                                                                                      \
			return;                                                                              \
		if (reply->status == QMP_OK && !p->facts.name)                                               \
			p->facts.name = json_object_get(reply->value);                                       \
		probe_answered(p, reply, false);                                                             \
	}
KEEP_REPLY(block)
KEEP_REPLY(vnc)
KEEP_REPLY(spice)
KEEP_REPLY(chardev)

static void on_status(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest *g = userdata;

	if (g->probe)
		probe_answered(g->probe, reply, true);
}

static const struct {
	const char *command;
	qmp_reply_fn fn;
	bool more; /* for the description only */
} queries[] = {
	{"query-cpus-fast", on_cpus},	{"query-memory-size-summary", on_memory},
	{"query-balloon", on_balloon},	{"query-block", on_block, true},
	{"query-vnc", on_vnc, true},	{"query-spice", on_spice, true},
	{"query-chardev", on_chardev, true},
	/* last: what it says is true when all events of before have come */
	{"query-status", on_status},
};

static void begin_probe(struct guest *g)
{
	int r = 0;

	/* A QEMU that hangs owes answers already; on_alive() goes on. */
	if (g->probe || !g->qmp || g->hung)
		return;
	g->probe = calloc(1, sizeof(*g->probe));
	if (!g->probe)
		return;
	g->probe->guest = g;
	g->probe->waiters = TAKE(g->waiters);
	g->want_probe = false;
	for (size_t i = 0; i < ELEMENTS(queries) && r >= 0; i++) {
		if (queries[i].more && !g->more)
			continue;
		/*
		 * Only the last has a limit of its own: the others are answered before it, or not at all. What had
		 * been given up is answered late, and finds another probe, or none: see given_up in qmp.c.
		 */
		r = qmp_execute(g->qmp, queries[i].command, NULL, PROBE_PATIENCE, queries[i].fn, g);
		if (r >= 0)
			g->probe->outstanding++;
	}
	if (r < 0) {
		log_debug("cannot look at domain '%s': %s", g->name ? g->name : "?", strerror(-r));
		end_probe(g, r == -ENOTCONN ? QMP_CLOSED : QMP_TIMEOUT);
	}
}

void guest_look(struct guest *g, guest_look_fn fn, void *userdata)
{
	struct waiter *w = g->hung ? NULL : calloc(1, sizeof(*w));

	if (!w) {
		fn(g, WAITED_TIMEOUT, NULL, userdata);
		return;
	}
	w->fn = fn;
	w->userdata = userdata;
	DL_APPEND(g->waiters, w);
	begin_probe(g);
}

/* ---- the monitor -------------------------------------------------------------------------------------------- */

static void on_ready(struct qmp *q, void *userdata)
{
	struct guest *g = userdata;

	g->ops->up(g);
	if (g->qmp && g->waiters)
		begin_probe(g);
}

static void on_event(struct qmp *q, const char *name, struct json_object *data, uint64_t usec, void *userdata)
{
	struct guest *g = userdata;

	guest_job_event(g, name, data);
	guest_foreign_event(g, name, data);
	if (g->ops->event)
		g->ops->event(g, name, data);
	if (g->qmp)
		guest_take_event(g, name, data);
}

static void on_alive(struct qmp *q, void *userdata)
{
	struct guest *g = userdata;

	if (g->hung)
		log_notice("The monitor of domain '%s' answers again.", g->name);
	g->hung = false;
	g->want_probe = true;
	begin_probe(g);
}

static void on_closed(struct qmp *q, enum qmp_end why, const char *message, void *userdata)
{
	struct guest *g = userdata;

	qmp_free(TAKE(g->qmp));
	free_probe(g);
	post_causes(g, NULL);
	g->foreign_asked = false;
	g->hung = g->rebooting = g->reboot_asked = false;
	g->ops->down(g, why, message);
}

static const struct qmp_ops monitor_ops = {
	.ready = on_ready,
	.event = on_event,
	.alive = on_alive,
	.closed = on_closed,
};

int guest_connect(struct guest *g, int fd, uint64_t greeting)
{
	return qmp_new(g->env->event, g->env->clock, fd, greeting, &monitor_ops, g, &g->qmp);
}

void guest_want_migration_events(struct guest *g)
{
	struct json_object *a = json_object_new_object(), *list = json_object_new_array(), *c = json_object_new_object();

	json_object_object_add(c, "capability", json_object_new_string("events"));
	json_object_object_add(c, "state", json_object_new_boolean(true));
	json_object_array_add(list, c);
	json_object_object_add(a, "capabilities", list);
	(void)qmp_execute(g->qmp, "migrate-set-capabilities", a, USEC_UNKNOWN, NULL, NULL);
}
