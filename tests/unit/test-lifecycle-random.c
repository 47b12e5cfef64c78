/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hypervisor.h"
#include "util/macros.h"

/*
 * The grammar, by random sequences: a hypervisor (hypervisor.h) does what it likes, its reports arrive as badly as the
 * mode allows, and every story must be legal (grammar.h) and end with the truth. Undisturbed, it must be the very story.
 *
 * VIREO_SEED=N plays the sequences from seed N on; VIREO_SEQUENCES=N so many of each mode. A failure prints the
 * shortest beginning of its sequence that fails.
 */

enum mode {
	UNDISTURBED, /* in order; looks come behind their reports, as late as they like */
	BLIND,	     /* the same, but any look may fail, or be left to the next report */
	DISTURBED,   /* any order, repeated, lost; looks too early, too late, of something else; daemon restarts */
	NONSENSE,    /* a driver that lies: any report with any detail, run and look, and any look may claim to be settled */
	MODE_MAX
};

static const char *const mode_names[] = {"undisturbed", "blind", "disturbed", "nonsense"};
static_assert(ELEMENTS(mode_names) == MODE_MAX, "a name for each mode");

#define GUESTS 3
#define STEPS 80
#define PAST 8

struct game {
	enum mode mode;
	struct hypervisor h;
	struct guest guests[GUESTS];
	struct play plays[GUESTS];
	struct truth past[GUESTS][PAST]; /* what a look that came too late could still find */
	bool vague[GUESTS];		 /* the reports and looks that arrived allow for more than one story */
	char *trace;			 /* NULL: nobody reads it */
	size_t trace_length;
	char wrong[17000];
};

#define TRACE_SIZE 65536

_printf_(2, 3) static void note(struct game *g, const char *format, ...)
{
	va_list ap;

	if (!g->trace || g->trace_length >= TRACE_SIZE)
		return;
	va_start(ap, format);
	g->trace_length += (size_t)vsnprintf(g->trace + g->trace_length, TRACE_SIZE - g->trace_length, format, ap);
	va_end(ap);
}

static const char *describe(const struct truth *t)
{
	static char text[128];

	if (!t->active && !t->persistent)
		return "gone";
	snprintf(text, sizeof(text), "%s%s%s %d (%s)", t->persistent ? "persistent " : "transient ", t->starting ? "starting " : "",
		t->active ? domain_state_to_string(t->state) : "shutoff", t->active ? t->id : -1, t->word ? t->word : "");
	return text;
}

static void told(struct game *g, unsigned i, size_t before)
{
	note(g, "    told:%s%s%s\n", before ? "" : " ", g->plays[i].story + before, g->plays[i].settle ? "  ?" : "");
}

static void settle(struct game *g, unsigned i)
{
	size_t before = g->plays[i].length;

	note(g, "%u: settled look: %s\n", i, describe(&g->guests[i].now));
	play_settled(&g->plays[i], &g->guests[i].now);
	g->guests[i].quiet = false;
	told(g, i, before);
}

/* Could an undisturbed report and its look be told in another way as well? */
static bool is_vague(const struct game *g, unsigned i, const struct report_in_flight *f)
{
	const struct truth *t = &g->guests[i].now;
	bool alive = t->active && !t->starting;

	/* Gone again before anybody saw it. */
	if (f->begins && !t->active && !t->persistent)
		return true;
	/* The look that would tell a paused start from an ordinary one found something else. */
	if (f->paused_start && !(alive && t->state == DOMAIN_PAUSED && t->id == f->report.run))
		return true;
	/* Where boots have no early Resumed, one that was paused at once looks like a paused start. */
	if (f->report.cause == CAUSE_STARTED && !g->h.early && alive && t->state == DOMAIN_PAUSED)
		return true;
	return false;
}

static void deliver(struct game *g, unsigned i, unsigned at)
{
	struct guest *u = &g->guests[i];
	struct report_in_flight f = u->flight[at];
	struct random *r = &g->h.random;
	const struct truth *t = &u->now;
	enum look look = LOOK_SEEN;
	size_t before = g->plays[i].length;
	bool keep = g->mode == DISTURBED && random_chance(r, 10);

	if (!keep) {
		memmove(&u->flight[at], &u->flight[at + 1], (u->n_flight - at - 1) * sizeof(u->flight[0]));
		u->n_flight--;
	}
	if (g->mode == DISTURBED && random_chance(r, 10)) {
		note(g, "%u: lost: %s\n", i, cause_to_string(f.report.cause));
		return;
	}
	if (g->mode != UNDISTURBED && random_chance(r, 30))
		look = random_chance(r, 60) ? LOOK_FAILED : LOOK_NONE;
	if (g->mode == DISTURBED && random_chance(r, 30))
		t = &g->past[i][random_below(r, PAST)];
	if (g->mode == UNDISTURBED && is_vague(g, i, &f))
		g->vague[i] = true;

	note(g, "%u: %s(%s) run %d%s, look: %s\n", i, f.report.event ? f.report.event : cause_to_string(f.report.cause),
		f.report.detail ? f.report.detail : "", f.report.run, keep ? ", will be repeated" : "",
		look == LOOK_FAILED ? "failed" : look == LOOK_NONE ? "none" : describe(t));
	play(&g->plays[i], &f.report, look, false, t);
	told(g, i, before);
}

/* The daemon died and is back: what was on its way is lost, everything is listed. */
static void reconnect(struct game *g)
{
	bool reboot = random_chance(&g->h.random, 50);

	note(g, "reconnect%s\n", reboot ? " after a reboot" : "");
	if (reboot)
		g->h.last_id = 0;
	for (unsigned i = 0; i < GUESTS; i++) {
		guest_lose(&g->guests[i], reboot);
		lifecycle_reconnected(&g->plays[i].known);
		settle(g, i);
	}
}

static void begin(struct game *g, enum mode mode, uint64_t seed, char *trace)
{
	struct random *r = &g->h.random;

	memset(g, 0, offsetof(struct game, wrong));
	g->wrong[0] = '\0';
	g->mode = mode;
	g->trace = trace;
	r->state = seed;
	g->h.numbers = random_chance(r, 60) ? NUMBERS_GROWING : (enum numbers)random_below(r, NUMBERS_MAX);
	g->h.early = random_chance(r, 80);
	g->h.stopped_has_number = random_chance(r, 50);
	g->h.silent = mode == DISTURBED && random_chance(r, 30);
	for (unsigned i = 0; i < GUESTS; i++) {
		g->guests[i].kind = random_chance(r, 80) ? KIND_DOMAIN : random_chance(r, 50) ? KIND_POOL : KIND_NETWORK;
		play_begin(&g->plays[i], g->guests[i].kind);
	}
}

static void lie(struct game *g, unsigned i)
{
	static const char *const words[] = {NULL, "", "booted", "restored", "wakeup", "added", "updated", "renamed", "paused",
		"ioerror", "postcopy", "unpaused", "migrated", "from-snapshot", "panicked", "crashloaded", "failed", "unknown",
		"user", "I/O error", "post-copy", "starting up"};
	struct random *r = &g->h.random;
	struct play_report report = {.cause = (enum cause)random_below(r, CAUSE_MAX),
		.detail = words[random_below(r, ELEMENTS(words))], .run = (int)random_below(r, 6) - 1, .event = "Event"};
	struct truth t = {.active = random_chance(r, 60), .persistent = random_chance(r, 50), .starting = random_chance(r, 10),
		.id = (int)random_below(r, 6) - 1, .state = (enum domain_state)random_below(r, DOMAIN_STATE_MAX),
		.word = words[random_below(r, ELEMENTS(words))]};
	enum look look = (enum look)random_below(r, LOOK_FAILED + 1);
	bool settled = random_chance(r, 20);
	size_t before = g->plays[i].length;

	note(g, "%u: %s(%s) run %d, %slook %d: %s\n", i, cause_to_string(report.cause), report.detail ? report.detail : "",
		report.run, settled ? "settled " : "", look, describe(&t));
	play(&g->plays[i], &report, look, settled, &t);
	told(g, i, before);
}

static void step(struct game *g)
{
	struct random *r = &g->h.random;
	unsigned i = random_below(r, GUESTS);
	struct guest *u = &g->guests[i];
	uint32_t what = random_below(r, 100);

	if (g->mode == NONSENSE) {
		lie(g, i);
	} else if (what < 45) {
		/* Nothing more may happen to it before a settled look when that has something to say that no report says. */
		if (u->quiet && g->mode != DISTURBED) {
			if (u->n_flight == 0)
				settle(g, i);
			return;
		}
		if (u->next_phase == u->n_phases)
			guest_begin_operation(&g->h, u);
		if (u->n_flight == FLIGHT_MAX)
			return;
		g->past[i][random_below(r, PAST)] = u->now;
		guest_advance(u);
		note(g, "%u: is now %s\n", i, describe(&u->now));
	} else if (what < 90) {
		if (u->n_flight > 0)
			deliver(g, i, g->mode == DISTURBED ? random_below(r, u->n_flight) : 0);
	} else if (what < 99 || g->mode != DISTURBED) {
		/* Settled: nothing is on its way. A driver that repeats old reports afterwards is one that lies. */
		if (u->n_flight == 0 && (g->plays[i].settle || random_chance(r, 20)))
			settle(g, i);
	} else if (random_chance(r, 20)) {
		reconnect(g);
	}
}

static bool check(struct game *g, unsigned i, bool end)
{
	struct play *p = &g->plays[i];
	struct guest *u = &g->guests[i];

	if (p->wrong[0]) {
		snprintf(g->wrong, sizeof(g->wrong), "guest %u: %s", i, p->wrong);
		return false;
	}
	if (!end)
		return true;
	if (!play_agrees(p, &u->now)) {
		snprintf(g->wrong, sizeof(g->wrong), "guest %u does not end with the truth: %s", i, describe(&u->now));
		return false;
	}
	if (g->mode == UNDISTURBED && g->h.numbers == NUMBERS_GROWING && !g->vague[i] && strcmp(u->story, p->story) != 0) {
		snprintf(g->wrong, sizeof(g->wrong), "guest %u: told\n%s\nshould be\n%s", i, p->story, u->story);
		return false;
	}
	return true;
}

/* Return: true when everything was right. */
static bool run(struct game *g, enum mode mode, uint64_t seed, unsigned steps, char *trace)
{
	begin(g, mode, seed, trace);
	for (unsigned s = 0; s < steps; s++) {
		step(g);
		for (unsigned i = 0; i < GUESTS; i++)
			if (!check(g, i, false))
				return false;
	}
	for (unsigned i = 0; i < GUESTS; i++) {
		unsigned n;

		/* What has begun to happen goes on to its end, and what is on its way arrives, or is lost. */
		while (g->guests[i].next_phase < g->guests[i].n_phases && g->guests[i].n_flight < FLIGHT_MAX)
			guest_advance(&g->guests[i]);
		while (g->guests[i].n_flight > 0)
			deliver(g, i, 0);
		/* One settled look, and clients know the truth; a second one has nothing to add. */
		settle(g, i);
		n = g->plays[i].n;
		settle(g, i);
		if (n != g->plays[i].n && !g->plays[i].wrong[0])
			snprintf(g->plays[i].wrong, sizeof(g->plays[i].wrong), "a second settled look has something to tell");
		if (!check(g, i, true))
			return false;
	}
	return true;
}

static uint64_t number_from(const char *variable, uint64_t missing)
{
	const char *s = getenv(variable);

	return s && *s ? strtoull(s, NULL, 0) : missing;
}

static void play_mode(enum mode mode, uint64_t share)
{
	uint64_t seed = number_from("VIREO_SEED", 1), sequences = number_from("VIREO_SEQUENCES", share);
	struct game *g = malloc(sizeof(*g));
	uint64_t exact = 0, events = 0;

	assert_non_null(g);
	for (uint64_t s = seed; s < seed + sequences; s++) {
		char *trace;
		unsigned steps = 1;

		if (run(g, mode, s, STEPS, NULL)) {
			for (unsigned i = 0; i < GUESTS; i++) {
				events += g->plays[i].n;
				exact += g->h.numbers == NUMBERS_GROWING && !g->vague[i] && g->plays[i].n > 0;
			}
			continue;
		}
		trace = calloc(1, TRACE_SIZE);
		assert_non_null(trace);
		while (steps < STEPS && run(g, mode, s, steps, NULL))
			steps++;
		g->trace = trace;
		(void)run(g, mode, s, steps, trace);
		fprintf(stderr, "VIREO_SEED=%llu VIREO_SEQUENCES=1, %s, %u steps:\n%s%s\n", (unsigned long long)s, mode_names[mode],
			steps, trace, g->wrong);
		free(trace);
		free(g);
		fail();
	}
	print_message("%llu sequences, %llu events", (unsigned long long)sequences, (unsigned long long)events);
	if (mode == UNDISTURBED)
		print_message(", %llu objects with exactly their story", (unsigned long long)exact);
	print_message("\n");
	/* Not by being about nothing. */
	if (sequences > 1000)
		assert_true(events > sequences * 20 && (mode != UNDISTURBED || exact > sequences / 2));
	free(g);
}

static void test_undisturbed(void **state)
{
	play_mode(UNDISTURBED, 30000);
}

static void test_blind(void **state)
{
	play_mode(BLIND, 30000);
}

static void test_disturbed(void **state)
{
	play_mode(DISTURBED, 60000);
}

static void test_nonsense(void **state)
{
	play_mode(NONSENSE, 30000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_undisturbed),
		cmocka_unit_test(test_blind),
		cmocka_unit_test(test_disturbed),
		cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests_name("lifecycle-random", tests, NULL, NULL);
}
