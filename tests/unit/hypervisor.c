/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "hypervisor.h"
#include "util/macros.h"

/* splitmix64 by its published constants */
static uint64_t random_next(struct random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint32_t random_below(struct random *r, uint32_t n)
{
	return (uint32_t)((random_next(r) >> 32) * n >> 32);
}

bool random_chance(struct random *r, unsigned percent)
{
	return random_below(r, 100) < percent;
}

/* ---- writing an operation down -------------------------------------------------------------------------------- */

struct plan {
	struct hypervisor *h;
	struct guest *g;
	struct truth t; /* after the phases so far */
};

static struct phase *phase(struct plan *p, enum cause cause, const char *detail, int run, const char *story)
{
	struct phase *f = &p->g->phases[p->g->n_phases++];

	assert(p->g->n_phases <= PHASES_MAX);
	*f = (struct phase){.now = p->t};
	f->in_flight.report = (struct play_report){.cause = cause, .detail = detail, .run = run};
	snprintf(f->story, sizeof(f->story), "%s", story);
	return f;
}

static void state(struct plan *p, enum domain_state s, const char *word)
{
	p->t.state = s;
	p->t.word = word;
}

/* Reported with the number of the run that it happens to. */
static struct phase *reports(struct plan *p, enum cause cause, const char *detail, const char *story)
{
	return phase(p, cause, detail, p->t.active ? p->t.id : -1, story);
}

static bool listed(const struct truth *t)
{
	return t->active || t->persistent;
}

static void new_run(struct plan *p)
{
	struct hypervisor *h = p->h;

	switch (h->numbers) {
	case NUMBERS_GROWING:
		p->t.id = ++h->last_id;
		break;
	case NUMBERS_PID:
		/* Never the one that was used last. */
		h->last_id = (h->last_id + 1 + (int)random_below(&h->random, 18)) % 20;
		p->t.id = h->last_id + 1;
		break;
	default:
		p->t.id = 0;
		break;
	}
}

static void starting(struct plan *p, enum cause cause, const char *detail)
{
	new_run(p);
	p->t.active = p->t.starting = true;
	state(p, DOMAIN_PAUSED, "starting up");
	phase(p, cause, detail, p->t.id, "");
}

/* Started as @detail; what it reports is whatever state the plan is in. */
static struct phase *started(struct plan *p, bool was_known, const char *detail)
{
	char story[64];
	struct phase *f;

	p->t.starting = false;
	snprintf(story, sizeof(story), "%sStarted%s%s%s%s", was_known ? "" : "Added ", detail ? "(" : "", detail ? detail : "",
		detail ? ")" : "", p->t.state == DOMAIN_PAUSED ? "[paused]" : "");
	f = phase(p, CAUSE_STARTED, detail, p->t.id, story);
	f->in_flight.begins = !was_known;
	return f;
}

static struct phase *stopped(struct plan *p, const char *detail, const char *word)
{
	int run = p->h->stopped_has_number ? p->t.id : -1;
	bool persistent = p->t.persistent;
	char story[64];

	snprintf(story, sizeof(story), "Stopped%s%s%s%s", detail ? "(" : "", detail ? detail : "", detail ? ")" : "",
		persistent ? "" : " Removed");
	p->t = (struct truth){.persistent = persistent, .word = word};
	return phase(p, CAUSE_STOPPED, detail, run, story);
}

/* ---- what can happen ------------------------------------------------------------------------------------------- */

static void op_define(struct plan *p)
{
	bool pool = p->g->kind != KIND_DOMAIN, known = listed(&p->t), persistent = p->t.persistent;
	struct phase *f;

	/* Its detail is wrong when a transient one becomes persistent: recorded so. */
	const char *detail = pool ? NULL : persistent || (known && random_chance(&p->h->random, 50)) ? "updated" : "added";

	p->t.persistent = true;
	if (!known)
		p->t.word = "unknown";
	f = reports(p, CAUSE_DEFINED, detail, !known ? "Added Defined(added)" : persistent ? "Defined(updated)" : "Defined(added)");
	f->in_flight.begins = !known;
}

static void op_undefine(struct plan *p)
{
	p->t.persistent = false;
	if (!p->t.active)
		p->t = (struct truth){0};
	reports(p, CAUSE_UNDEFINED, p->g->kind == KIND_DOMAIN ? "removed" : NULL,
		p->g->kind == KIND_DOMAIN ? p->t.active ? "Undefined(removed)" : "Undefined(removed) Removed"
		: p->t.active		  ? "Undefined"
					  : "Undefined Removed");
}

static void op_rename(struct plan *p)
{
	reports(p, CAUSE_UNDEFINED, "renamed", "");
	reports(p, CAUSE_DEFINED, "renamed", "Defined(renamed)");
}

static void op_pool_start(struct plan *p)
{
	bool known = listed(&p->t);

	p->t.active = true;
	started(p, known, NULL);
}

static void op_pool_stop(struct plan *p)
{
	stopped(p, NULL, NULL);
}

static void op_boot(struct plan *p)
{
	bool known = listed(&p->t);

	starting(p, CAUSE_NONE, NULL);
	if (p->h->early)
		reports(p, CAUSE_RESUMED, "unpaused", "");
	state(p, DOMAIN_RUNNING, "booted");
	started(p, known, "booted");
}

static void op_start_paused(struct plan *p)
{
	bool known = listed(&p->t);

	starting(p, CAUSE_NONE, NULL);
	state(p, DOMAIN_PAUSED, "user");
	started(p, known, "booted")->in_flight.paused_start = true;
	reports(p, CAUSE_SUSPENDED, "paused", "");
}

static void op_start_fails(struct plan *p)
{
	struct truth before = p->t;
	int run;

	starting(p, CAUSE_NONE, NULL);
	run = p->t.id;
	if (random_chance(&p->h->random, 50))
		reports(p, CAUSE_RESUMED, "unpaused", "");
	if (random_chance(&p->h->random, 30))
		reports(p, CAUSE_SUSPENDED, "ioerror", "");
	if (random_chance(&p->h->random, 30))
		reports(p, CAUSE_SHUTDOWN, "host", "");
	p->t = before;
	if (random_chance(&p->h->random, 50))
		phase(p, CAUSE_STOPPED, "failed", p->h->stopped_has_number ? run : -1, "");
	else
		phase(p, CAUSE_NONE, NULL, 0, "");
}

static void op_destroy(struct plan *p)
{
	if (p->t.state != DOMAIN_SHUTDOWN && random_chance(&p->h->random, 50)) {
		state(p, DOMAIN_SHUTDOWN, "unknown");
		reports(p, CAUSE_SHUTDOWN, "host", "Shutdown(host)");
	}
	stopped(p, "destroyed", "destroyed");
}

static void op_power_off(struct plan *p)
{
	state(p, DOMAIN_SHUTDOWN, "unknown");
	reports(p, CAUSE_SHUTDOWN, "guest", "Shutdown(guest)");
	stopped(p, "shutdown", "shutdown");
}

static void op_kill(struct plan *p)
{
	stopped(p, "failed", "failed");
}

static void op_panic(struct plan *p)
{
	if (random_chance(&p->h->random, 25)) {
		reports(p, CAUSE_CRASHED, "crashloaded", "Crashed(crashloaded)[running]");
		return;
	}
	state(p, DOMAIN_CRASHED, "panicked");
	reports(p, CAUSE_CRASHED, "panicked", "Crashed(panicked)");
	switch (random_below(&p->h->random, 3)) {
	case 0:
		stopped(p, "crashed", "crashed");
		break;
	case 1:
		state(p, DOMAIN_RUNNING, "unpaused");
		reports(p, CAUSE_RESUMED, "unpaused", "Resumed(unpaused)");
		break;
	}
}

static void op_sleep(struct plan *p)
{
	state(p, DOMAIN_PMSUSPENDED, "unknown");
	reports(p, CAUSE_PMSUSPENDED, "memory", "PMSuspended(memory)");
}

static void op_wake(struct plan *p)
{
	state(p, DOMAIN_RUNNING, "event wakeup");
	reports(p, CAUSE_STARTED, "wakeup", "Resumed(wakeup)");
	if (random_chance(&p->h->random, 30))
		stopped(p, "saved", "saved");
}

static void op_suspend(struct plan *p)
{
	state(p, DOMAIN_PAUSED, "user");
	reports(p, CAUSE_SUSPENDED, "paused", "Suspended(paused)");
}

static void op_resume(struct plan *p)
{
	state(p, DOMAIN_RUNNING, "unpaused");
	reports(p, CAUSE_RESUMED, "unpaused", "Resumed(unpaused)");
	if (random_chance(&p->h->random, 30)) {
		state(p, DOMAIN_PAUSED, "I/O error");
		reports(p, CAUSE_SUSPENDED, "ioerror", "Suspended(ioerror)");
	}
}

static void op_dump_or_save(struct plan *p)
{
	bool save = random_chance(&p->h->random, 50);

	state(p, DOMAIN_PAUSED, save ? "saving" : "dumping");
	reports(p, CAUSE_SUSPENDED, "paused", "Suspended(paused)");
	if (save) {
		stopped(p, "saved", "saved");
		return;
	}
	state(p, DOMAIN_RUNNING, "unpaused");
	reports(p, CAUSE_RESUMED, "unpaused", "Resumed(unpaused)");
}

static void op_restore(struct plan *p)
{
	bool known = listed(&p->t);

	starting(p, CAUSE_NONE, NULL);
	state(p, DOMAIN_PAUSED, "migrating");
	started(p, known, "restored");
	if (random_chance(&p->h->random, 40)) {
		reports(p, CAUSE_SUSPENDED, random_chance(&p->h->random, 50) ? "restored" : "paused", "");
		return;
	}
	state(p, DOMAIN_RUNNING, "restored");
	reports(p, CAUSE_RESUMED, "from-snapshot", "Resumed(from-snapshot)");
}

static void op_revert(struct plan *p)
{
	bool persistent = p->t.persistent, paused = !persistent || random_chance(&p->h->random, 50);

	stopped(p, "from-snapshot", "from snapshot");
	if (!persistent) {
		/* It never leaves the list. */
		new_run(p);
		p->t.active = p->t.starting = true;
		state(p, DOMAIN_PAUSED, "starting up");
		p->g->phases[p->g->n_phases - 1].now = p->t;
	} else {
		starting(p, paused ? CAUSE_NONE : CAUSE_RESUMED, "unpaused");
	}
	if (paused)
		state(p, DOMAIN_PAUSED, "from snapshot");
	else
		state(p, DOMAIN_RUNNING, "from snapshot");
	started(p, persistent, "from-snapshot");
	if (paused) {
		state(p, DOMAIN_RUNNING, "from snapshot");
		reports(p, CAUSE_RESUMED, "from-snapshot", "Resumed(from-snapshot)");
	}
	if (persistent)
		reports(p, CAUSE_DEFINED, "from-snapshot", "Defined(from-snapshot)");
}

static void op_migrate_out(struct plan *p)
{
	bool undefine = p->t.persistent && random_chance(&p->h->random, 30);
	struct phase *f;

	state(p, DOMAIN_PAUSED, "migrating");
	reports(p, CAUSE_SUSPENDED, "migrated", "Suspended(migrated)");
	if (random_chance(&p->h->random, 30)) {
		state(p, DOMAIN_PAUSED, "post-copy");
		reports(p, CAUSE_SUSPENDED, "postcopy", "Updated(postcopy)[post-copy]");
	}
	f = stopped(p, "migrated", "migrated");
	if (undefine) {
		f->now = p->t = (struct truth){0};
		f->quiet = true;
		snprintf(f->story, sizeof(f->story), "Stopped(migrated) Undefined! Removed!");
	}
}

static void op_migrate_in(struct plan *p)
{
	bool known = listed(&p->t);

	starting(p, CAUSE_NONE, NULL);
	state(p, DOMAIN_PAUSED, "migrating");
	started(p, known, "migrated");
	if (random_chance(&p->h->random, 20)) {
		stopped(p, "failed", "failed");
		return;
	}
	if (!p->t.persistent && random_chance(&p->h->random, 50)) {
		p->t.persistent = true;
		reports(p, CAUSE_DEFINED, "added", "Defined(added)");
	}
	if (random_chance(&p->h->random, 30)) {
		state(p, DOMAIN_RUNNING, "post-copy");
		reports(p, CAUSE_RESUMED, "postcopy", "Resumed(postcopy)");
		state(p, DOMAIN_RUNNING, "migrated");
		reports(p, CAUSE_RESUMED, "migrated", "Updated(migrated)[migrated]");
	} else {
		state(p, DOMAIN_RUNNING, "migrated");
		reports(p, CAUSE_RESUMED, "migrated", "Resumed(migrated)");
	}
}

static void op_own_event(struct plan *p)
{
	reports(p, CAUSE_OTHER, NULL, "Event")->in_flight.report.event = "Event";
}

/* A hypervisor without any say: paused through its monitor, migrated, autostarted, while nobody reported it. */
static void op_silent(struct plan *p)
{
	if (!p->h->silent) {
		op_own_event(p);
	} else if (p->t.active && random_chance(&p->h->random, 50)) {
		if (p->g->kind == KIND_DOMAIN)
			state(p, DOMAIN_PAUSED, "user");
		phase(p, CAUSE_NONE, NULL, 0, "")->quiet = true;
	} else {
		p->t = (struct truth){.persistent = random_chance(&p->h->random, 50), .word = "unknown"};
		phase(p, CAUSE_NONE, NULL, 0, "")->quiet = true;
	}
}

/* When an operation is possible. */
#define WHEN_GONE (1u << 0)
#define WHEN_OFF (1u << 1) /* persistent, inactive */
#define WHEN_RUNNING (1u << 2)
#define WHEN_PAUSED (1u << 3)
#define WHEN_ASLEEP (1u << 4)
#define WHEN_BROKEN (1u << 5) /* crashed, shut down but not stopped */
#define WHEN_ACTIVE (WHEN_RUNNING | WHEN_PAUSED | WHEN_ASLEEP | WHEN_BROKEN)
#define WHEN_INACTIVE (WHEN_GONE | WHEN_OFF)

static const struct {
	void (*begin)(struct plan *p);
	unsigned when;
	bool persistent;     /* only persistent ones */
	bool pools;	     /* and networks */
	bool domains;
} operations[] = {
	{op_define, WHEN_INACTIVE | WHEN_ACTIVE, .pools = true, .domains = true},
	{op_undefine, WHEN_OFF | WHEN_ACTIVE, .persistent = true, .pools = true, .domains = true},
	{op_own_event, WHEN_OFF | WHEN_ACTIVE, .pools = true, .domains = true},
	{op_silent, WHEN_OFF | WHEN_ACTIVE, .pools = true, .domains = true},
	{op_pool_start, WHEN_INACTIVE, .pools = true},
	{op_pool_stop, WHEN_ACTIVE, .pools = true},
	{op_rename, WHEN_OFF, .domains = true},
	{op_boot, WHEN_INACTIVE, .domains = true},
	{op_boot, WHEN_INACTIVE, .domains = true}, /* as often as all its unusual kinds */
	{op_start_paused, WHEN_INACTIVE, .domains = true},
	{op_start_fails, WHEN_INACTIVE, .domains = true},
	{op_restore, WHEN_INACTIVE, .domains = true},
	{op_migrate_in, WHEN_INACTIVE, .domains = true},
	{op_destroy, WHEN_ACTIVE, .domains = true},
	{op_kill, WHEN_ACTIVE, .domains = true},
	{op_power_off, WHEN_RUNNING, .domains = true},
	{op_panic, WHEN_RUNNING, .domains = true},
	{op_sleep, WHEN_RUNNING, .domains = true},
	{op_wake, WHEN_ASLEEP, .domains = true},
	{op_suspend, WHEN_RUNNING, .domains = true},
	{op_resume, WHEN_PAUSED, .domains = true},
	{op_dump_or_save, WHEN_RUNNING, .domains = true},
	{op_revert, WHEN_ACTIVE, .domains = true},
	{op_migrate_out, WHEN_RUNNING, .domains = true},
};

static unsigned when(const struct guest *g)
{
	if (!g->now.active)
		return g->now.persistent ? WHEN_OFF : WHEN_GONE;
	if (g->kind != KIND_DOMAIN)
		return WHEN_RUNNING;
	switch (g->now.state) {
	case DOMAIN_RUNNING:
		return WHEN_RUNNING;
	case DOMAIN_PAUSED:
		return WHEN_PAUSED;
	case DOMAIN_PMSUSPENDED:
		return WHEN_ASLEEP;
	default:
		return WHEN_BROKEN;
	}
}

void guest_begin_operation(struct hypervisor *h, struct guest *g)
{
	struct plan p = {.h = h, .g = g, .t = g->now};

	assert(g->next_phase == g->n_phases);
	g->n_phases = g->next_phase = 0;
	for (;;) {
		unsigned i = random_below(&h->random, ELEMENTS(operations));

		if (!(operations[i].when & when(g)) || (operations[i].persistent && !g->now.persistent))
			continue;
		if (g->kind == KIND_DOMAIN ? !operations[i].domains : !operations[i].pools)
			continue;
		operations[i].begin(&p);
		return;
	}
}

void guest_advance(struct guest *g)
{
	const struct phase *f = &g->phases[g->next_phase++];
	size_t room = sizeof(g->story) - g->length;

	g->now = f->now;
	g->quiet = g->quiet || f->quiet;
	if (f->story[0])
		g->length += (size_t)snprintf(g->story + g->length, room, "%s%s", g->length ? " " : "", f->story);
	assert(g->length < sizeof(g->story));
	if (f->in_flight.report.cause != CAUSE_NONE) {
		assert(g->n_flight < FLIGHT_MAX);
		g->flight[g->n_flight++] = f->in_flight;
	}
}

void guest_lose(struct guest *g, bool reboot)
{
	g->n_flight = g->n_phases = g->next_phase = 0;
	/* What was starting is not started any more. */
	if (reboot || (g->now.active && g->now.starting))
		g->now = (struct truth){.persistent = g->now.persistent, .word = "unknown"};
}
