/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "play.h"
#include "util/macros.h"

/*
 * The grammar, by table: what each report means wherever an object stands, what a settled look makes of every difference,
 * and what a verdict says besides. Recorded sequences are in test-lifecycle-recorded.c.
 */

/* ---- what each report means where the object stands ------------------------------------------------------------- */

static const struct truth standings[] = {
	GONE,
	OFF("shutdown"),
	ON(5, RUNNING, "booted"),
	ON(5, PAUSED, "user"),
	ON(5, SHUTDOWN, "unknown"),
	ON(5, CRASHED, "panicked"),
	ON(5, PMSUSPENDED, "unknown"),
	TRANSIENT(5, RUNNING, "booted"),
};

/* Reports without any look, so that nothing but the cause speaks. Of run 5 unless said otherwise. */
static const struct {
	enum cause cause;
	const char *detail;
	const char *story[ELEMENTS(standings)]; /* GONE, off, running, paused, shutdown, crashed, asleep, transient */
} meanings[] = {
	{CAUSE_DEFINED, "added", {"", "", "", "", "", "", "", "Defined(added)"}},
	{CAUSE_DEFINED, "updated",
		{"", "Defined(updated)", "Defined(updated)", "Defined(updated)", "Defined(updated)", "Defined(updated)",
			"Defined(updated)", "Defined(added)"}},
	{CAUSE_DEFINED, "renamed",
		{"", "Defined(renamed)", "Defined(renamed)", "Defined(renamed)", "Defined(renamed)", "Defined(renamed)",
			"Defined(renamed)", "Defined(added)"}},
	{CAUSE_DEFINED, "from-snapshot",
		{"", "Defined(from-snapshot)", "Defined(from-snapshot)", "Defined(from-snapshot)", "Defined(from-snapshot)",
			"Defined(from-snapshot)", "Defined(from-snapshot)", "Defined(added)"}},
	{CAUSE_UNDEFINED, "removed",
		{"", "Undefined(removed) Removed", "Undefined(removed)", "Undefined(removed)", "Undefined(removed)",
			"Undefined(removed)", "Undefined(removed)", ""}},
	{CAUSE_UNDEFINED, "renamed", {"", "", "", "", "", "", "", ""}},
	{CAUSE_STARTED, "booted", {"", "Started(booted)", "", "", "", "", "", ""}},
	{CAUSE_STARTED, "restored", {"", "Started(restored)[paused]", "", "", "", "", "", ""}},
	{CAUSE_STARTED, "wakeup",
		{"", "", "", "Resumed(wakeup)", "Resumed(wakeup)", "Resumed(wakeup)", "Resumed(wakeup)", ""}},
	{CAUSE_SUSPENDED, "paused",
		{"", "", "Suspended(paused)", "", "Suspended(paused)", "Suspended(paused)", "Suspended(paused)",
			"Suspended(paused)"}},
	{CAUSE_SUSPENDED, "ioerror",
		{"", "", "Suspended(ioerror)", "Updated(ioerror)[I/O error]", "Suspended(ioerror)", "Suspended(ioerror)",
			"Suspended(ioerror)", "Suspended(ioerror)"}},
	{CAUSE_RESUMED, "unpaused",
		{"", "", "", "Resumed(unpaused)", "Resumed(unpaused)", "Resumed(unpaused)", "Resumed(unpaused)", ""}},
	{CAUSE_RESUMED, "migrated",
		{"", "", "Updated(migrated)[migrated]", "Resumed(migrated)", "Resumed(migrated)", "Resumed(migrated)",
			"Resumed(migrated)", "Updated(migrated)[migrated]"}},
	{CAUSE_PMSUSPENDED, "memory",
		{"", "", "PMSuspended(memory)", "PMSuspended(memory)", "PMSuspended(memory)", "PMSuspended(memory)", "",
			"PMSuspended(memory)"}},
	{CAUSE_CRASHED, "panicked",
		{"", "", "Crashed(panicked)", "Crashed(panicked)", "Crashed(panicked)", "", "Crashed(panicked)",
			"Crashed(panicked)"}},
	{CAUSE_SHUTDOWN, "guest",
		{"", "", "Shutdown(guest)", "Shutdown(guest)", "", "Shutdown(guest)", "Shutdown(guest)", "Shutdown(guest)"}},
	{CAUSE_STOPPED, "failed",
		{"", "", "Stopped(failed)", "Stopped(failed)", "Stopped(failed)", "Stopped(failed)", "Stopped(failed)",
			"Stopped(failed) Removed"}},
	{CAUSE_OTHER, NULL, {"", "Event", "Event", "Event", "Event", "Event", "Event", "Event"}},
	{CAUSE_NONE, NULL, {"", "", "", "", "", "", "", ""}},
};

static void test_meanings(void **state)
{
	unsigned seen = 0;

	for (size_t m = 0; m < ELEMENTS(meanings); m++) {
		seen |= 1u << meanings[m].cause;
		for (size_t s = 0; s < ELEMENTS(standings); s++) {
			struct play_report r = {meanings[m].cause, meanings[m].detail, 5, "Event"};
			struct play p;

			if (truth_exists(&standings[s]))
				play_begin_with(&p, KIND_DOMAIN, &standings[s]);
			else
				play_begin(&p, KIND_DOMAIN);
			play(&p, &r, LOOK_NONE, false, NULL);
			if (p.wrong[0] || strcmp(p.story, meanings[m].story[s]) != 0)
				fail_msg("%s (%s) in standing %zu: '%s', should be '%s' (%s)", cause_to_string(r.cause),
					r.detail ? r.detail : "", s, p.story, meanings[m].story[s], p.wrong);
		}
	}
	assert_int_equal(seen, (1u << CAUSE_MAX) - 1);
}

/* ---- settled looks ---------------------------------------------------------------------------------------------- */

static const struct truth places[] = {
	GONE,
	OFF("shutdown"),
	OFF("crashed"),
	STARTING(7),
	STARTING_TRANSIENT(7),
	ON(5, RUNNING, "booted"),
	ON(5, BLOCKED, "unknown"),
	ON(5, PAUSED, "I/O error"),
	ON(5, PAUSED, "user"),
	ON(5, CRASHED, "panicked"),
	ON(6, RUNNING, "unpaused"),
	ON(3, PMSUSPENDED, "unknown"),
	TRANSIENT(5, SHUTDOWN, "unknown"),
	TRANSIENT(5, RUNNING, "booted"),
	TRANSIENT(6, PAUSED, "migrating"),
	ON(0, RUNNING, "unknown"),
};

static bool starts_nothing(const struct truth *t)
{
	return t->active && t->starting;
}

/* The fewest events that the grammar allows, counted independently of how they are found. */
static unsigned distance(const struct truth *a, const struct truth *b)
{
	bool a_on = a->active && !a->starting, b_on = b->active && !b->starting;
	bool a_is = truth_exists(a), b_is = truth_exists(b);
	bool same_run = a_on && b_on && (a->id == b->id || a->id == 0 || b->id == 0);
	unsigned n = 0;

	if (!a_is && !b_is)
		return 0;
	if (!a_is || !b_is) /* Added or Removed, persistence, activity */
		return 1 + (a_is ? a->persistent : b->persistent) + (a_is ? a_on : b_on);
	n += a->persistent != b->persistent;
	if (same_run)
		return n + (a->state != b->state || (a->id == 0 && b->id > 0) || strcmp(a->word, b->word) != 0);
	if (a_on && b_on)
		/* Without persistence before and after there is no life between the runs. */
		return n + (!a->persistent && !b->persistent ? 4 : 2);
	if (a_on != b_on)
		return n + 1;
	/* Both inactive, so persistent: the reason, unless hidden. */
	return n + (!starts_nothing(b) && strcmp(starts_nothing(a) ? "unknown" : a->word, b->word) != 0);
}

static void test_settled(void **state)
{
	for (size_t a = 0; a < ELEMENTS(places); a++)
		for (size_t b = 0; b < ELEMENTS(places); b++) {
			struct play p;

			if (truth_exists(&places[a]))
				play_begin_with(&p, KIND_DOMAIN, &places[a]);
			else
				play_begin(&p, KIND_DOMAIN);
			play_settled(&p, &places[b]);
			if (p.wrong[0] || !play_agrees(&p, &places[b]))
				fail_msg("from place %zu to %zu: %s %s", a, b, p.story, p.wrong);
			if (p.uninferred)
				fail_msg("from place %zu to %zu: %s: not all inferred", a, b, p.story);
			if (p.n != distance(&places[a], &places[b]))
				fail_msg("from place %zu to %zu: %s: %u events would do", a, b, p.story,
					distance(&places[a], &places[b]));

			/* The same look, but something may still be on its way: nothing happens, but it is asked. */
			if (truth_exists(&places[a]))
				play_begin_with(&p, KIND_DOMAIN, &places[a]);
			else
				play_begin(&p, KIND_DOMAIN);
			play(&p, &(struct play_report){.cause = CAUSE_NONE}, LOOK_SEEN, false, &places[b]);
			assert_int_equal(p.n, 0);
			assert_string_equal(p.wrong, "");
			assert_int_equal(p.settle, distance(&places[a], &places[b]) > 0);

			/* P19: nothing comes of a look that failed, settled or not. */
			play(&p, &(struct play_report){.cause = CAUSE_NONE}, LOOK_FAILED, true, NULL);
			assert_int_equal(p.n, 0);
			assert_false(p.verdict.settle);
		}
}

static void test_settled_stories(void **state)
{
	static const struct {
		struct truth from, to;
		const char *story;
	} stories[] = {
		{GONE, ON(5, RUNNING, "booted"), "Added! Defined(added)! Started(booted)!"},
		{GONE, TRANSIENT(5, PAUSED, "from snapshot"), "Added! Started(from-snapshot)[paused]!"},
		{GONE, STARTING(5), "Added! Defined(added)!"},
		{ON(5, RUNNING, "booted"), GONE, "Stopped! Undefined! Removed!"},
		{TRANSIENT(5, RUNNING, "booted"), GONE, "Stopped! Removed!"},
		{ON(5, RUNNING, "booted"), OFF("saved"), "Stopped(saved)!"},
		{ON(5, RUNNING, "booted"), ON(6, RUNNING, "booted"), "Stopped! Started(booted)!"},
		{TRANSIENT(5, RUNNING, "booted"), TRANSIENT(6, RUNNING, "booted"), "Stopped! Removed! Added! Started(booted)!"},
		{TRANSIENT(5, RUNNING, "booted"), OFF("crashed"), "Defined(added)! Stopped(crashed)!"},
		{OFF("shutdown"), TRANSIENT(5, RUNNING, "booted"), "Started(booted)! Undefined!"},
		{ON(5, RUNNING, "booted"), ON(5, PAUSED, "I/O error"), "Suspended(ioerror)!"},
		{ON(5, RUNNING, "booted"), ON(5, PAUSED, "migrating"), "Suspended(migrated)!"},
		{ON(5, PAUSED, "user"), ON(5, RUNNING, "event wakeup"), "Resumed(wakeup)!"},
		{ON(5, PMSUSPENDED, "unknown"), ON(5, RUNNING, "event wakeup"), "Resumed(wakeup)!"},
		{ON(5, RUNNING, "booted"), ON(5, PMSUSPENDED, "unknown"), "PMSuspended!"},
		{ON(5, RUNNING, "booted"), ON(5, CRASHED, "panicked"), "Crashed(panicked)!"},
		{ON(5, RUNNING, "booted"), ON(5, SHUTDOWN, "unknown"), "Shutdown!"},
		{ON(5, RUNNING, "booted"), ON(5, RUNNING, "migration canceled"), "Updated[migration canceled]!"},
		{ON(5, RUNNING, "booted"), ON(5, BLOCKED, "unknown"), "Updated[unknown]!"},
		{ON(0, RUNNING, "booted"), ON(5, RUNNING, "booted"), "Updated[booted]!"},
		{OFF("unknown"), OFF("failed"), "Updated[failed]!"},
	};

	for (size_t i = 0; i < ELEMENTS(stories); i++) {
		struct play p;

		if (truth_exists(&stories[i].from))
			play_begin_with(&p, KIND_DOMAIN, &stories[i].from);
		else
			play_begin(&p, KIND_DOMAIN);
		play_settled(&p, &stories[i].to);
		assert_string_equal(p.story, stories[i].story);
		assert_string_equal(p.wrong, "");
	}
}

/* A report that came with a settled look: the report first, then what it leaves unexplained. */
static void test_cause_with_settled_look(void **state)
{
	static const struct truth running = ON(5, RUNNING, "booted"), gone = GONE, again = ON(6, RUNNING, "booted"),
				  transient = TRANSIENT(6, RUNNING, "booted"), other = TRANSIENT(7, PAUSED, "user"),
				  off = OFF("shutdown");
	struct play p;

	play_begin_with(&p, KIND_DOMAIN, &running);
	play(&p, &(struct play_report){CAUSE_STOPPED, "migrated", -1, NULL}, LOOK_SEEN, true, &gone);
	assert_string_equal(p.story, "Stopped(migrated) Undefined! Removed!");

	play_begin_with(&p, KIND_DOMAIN, &running);
	play(&p, &(struct play_report){CAUSE_STOPPED, "destroyed", -1, NULL}, LOOK_SEEN, true, &again);
	assert_string_equal(p.story, "Stopped(destroyed) Started(booted)!");

	play_begin(&p, KIND_DOMAIN);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 5, NULL}, LOOK_SEEN, true, &running);
	assert_string_equal(p.story, "Added Started(booted) Defined(added)!");

	play_begin(&p, KIND_DOMAIN);
	play(&p, &(struct play_report){CAUSE_OTHER, NULL, 5, "Rebooted"}, LOOK_SEEN, true, &running);
	assert_string_equal(p.story, "Added! Defined(added)! Started(booted)! Rebooted");

	play_begin(&p, KIND_DOMAIN);
	play(&p, &(struct play_report){CAUSE_OTHER, NULL, 5, "Rebooted"}, LOOK_SEEN, true, &gone);
	assert_string_equal(p.story, "");

	/* The longest verdict. */
	play_begin_with(&p, KIND_DOMAIN, &(struct truth)TRANSIENT(5, RUNNING, "booted"));
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 6, NULL}, LOOK_SEEN, true, &other);
	assert_string_equal(p.story, "Stopped! Removed! Added Started(booted) Stopped! Removed! Added! Started[paused]!");
	assert_int_equal(p.verdict.n, STEPS_MAX);

	/* Of a run that was not told: nothing to add to. */
	play_begin_with(&p, KIND_DOMAIN, &off);
	play(&p, &(struct play_report){CAUSE_SUSPENDED, "paused", 6, NULL}, LOOK_SEEN, true, &transient);
	assert_string_equal(p.story, "Started(booted)! Undefined!");
	assert_string_equal(p.wrong, "");
}

/* ---- runs, late and early ---------------------------------------------------------------------------------------- */

static void say(struct play *p, enum cause cause, const char *detail, int run)
{
	play(p, &(struct play_report){cause, detail, run, "Event"}, LOOK_NONE, false, NULL);
}

static void test_late(void **state)
{
	static const enum cause of_a_run[] = {CAUSE_STARTED, CAUSE_SUSPENDED, CAUSE_RESUMED, CAUSE_PMSUSPENDED,
		CAUSE_CRASHED, CAUSE_SHUTDOWN, CAUSE_STOPPED};
	static const struct truth running = ON(5, RUNNING, "booted"), paused = ON(5, PAUSED, "user");
	struct play p;

	/* Of the run before, while the next one is on. */
	for (size_t i = 0; i < ELEMENTS(of_a_run); i++) {
		play_begin_with(&p, KIND_DOMAIN, i % 2 ? &running : &paused);
		say(&p, of_a_run[i], "failed", 4);
		assert_string_equal(p.story, "");
	}
	/* Of a run that has been told to its end. */
	for (size_t i = 0; i < ELEMENTS(of_a_run); i++) {
		play_begin_with(&p, KIND_DOMAIN, &running);
		say(&p, CAUSE_STOPPED, "destroyed", -1);
		say(&p, of_a_run[i], "booted", 5);
		say(&p, of_a_run[i], "booted", 2);
		assert_string_equal(p.story, "Stopped(destroyed)");
		assert_int_equal(p.known.early_run, 0);
		/* The next one is not. */
		say(&p, CAUSE_STARTED, "booted", 6);
		assert_string_equal(p.story, "Stopped(destroyed) Started(booted)");
		/* A late Resumed does not make a paused start an ordinary one. */
		say(&p, CAUSE_STOPPED, "destroyed", 6);
		say(&p, CAUSE_RESUMED, "unpaused", 6);
		say(&p, CAUSE_STARTED, "restored", 7);
		assert_string_equal(p.story,
			"Stopped(destroyed) Started(booted) Stopped(destroyed) Started(restored)[paused]");
	}
	/* Numbers begin anew with the hypervisor's daemon. */
	play_begin_with(&p, KIND_DOMAIN, &running);
	say(&p, CAUSE_STOPPED, "destroyed", -1);
	say(&p, CAUSE_RESUMED, "unpaused", 6);
	lifecycle_reconnected(&p.known);
	assert_int_equal(p.known.early_run, 0);
	say(&p, CAUSE_STARTED, "restored", 1);
	assert_string_equal(p.story, "Stopped(destroyed) Started(restored)[paused]");
	/* And if nobody said so: the settled look that the report asks for knows. */
	play_begin_with(&p, KIND_DOMAIN, &running);
	say(&p, CAUSE_STOPPED, "destroyed", -1);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 1, NULL}, LOOK_SEEN, false,
		&(struct truth)ON(1, RUNNING, "booted"));
	assert_true(p.settle);
	play_settled(&p, &(struct truth)ON(1, RUNNING, "booted"));
	assert_string_equal(p.story, "Stopped(destroyed) Started(booted)!");
	say(&p, CAUSE_STOPPED, "destroyed", 1);
	say(&p, CAUSE_STARTED, "booted", 2);
	assert_string_equal(p.story, "Stopped(destroyed) Started(booted)! Stopped(destroyed) Started(booted)");
}

static void test_next_run(void **state)
{
	static const enum cause of_a_run[] = {CAUSE_SUSPENDED, CAUSE_RESUMED, CAUSE_PMSUSPENDED, CAUSE_CRASHED,
		CAUSE_SHUTDOWN, CAUSE_STOPPED};
	static const struct truth running = ON(5, RUNNING, "booted"), transient = TRANSIENT(5, RUNNING, "booted"),
				  next = TRANSIENT(6, RUNNING, "booted");
	struct play p;

	/* The Stopped of this run was lost, or comes later. */
	play_begin_with(&p, KIND_DOMAIN, &running);
	say(&p, CAUSE_STARTED, "booted", 6);
	assert_string_equal(p.story, "Stopped! Started(booted)");
	say(&p, CAUSE_STOPPED, "destroyed", 5);
	assert_string_equal(p.story, "Stopped! Started(booted)");
	assert_int_equal(p.known.id, 6);

	play_begin_with(&p, KIND_DOMAIN, &transient);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 6, NULL}, LOOK_SEEN, false, &next);
	assert_string_equal(p.story, "Stopped! Removed! Added Started(booted)");
	/* Nobody has seen the next one: it has no name yet. */
	play_begin_with(&p, KIND_DOMAIN, &transient);
	say(&p, CAUSE_STARTED, "booted", 6);
	assert_string_equal(p.story, "Stopped! Removed!");
	assert_true(p.settle);

	/* Anything else of a run that was not told waits, and asks. */
	for (size_t i = 0; i < ELEMENTS(of_a_run); i++) {
		play_begin_with(&p, KIND_DOMAIN, &running);
		say(&p, of_a_run[i], "failed", 6);
		assert_string_equal(p.story, "");
		assert_true(p.settle);
		/* The lost one may come all the same. */
		say(&p, CAUSE_STOPPED, "crashed", 5);
		assert_string_equal(p.story, "Stopped(crashed)");
	}
	/* Its Resumed came early, even if in front of the Stopped of this run. */
	play_begin_with(&p, KIND_DOMAIN, &running);
	say(&p, CAUSE_RESUMED, "unpaused", 6);
	say(&p, CAUSE_STOPPED, "from-snapshot", -1);
	say(&p, CAUSE_STARTED, "from-snapshot", 6);
	assert_string_equal(p.story, "Stopped(from-snapshot) Started(from-snapshot)");
	assert_int_equal(p.known.state, DOMAIN_RUNNING);
	/* So does that of the next life, when this one ends with its run. */
	play_begin_with(&p, KIND_DOMAIN, &transient);
	say(&p, CAUSE_RESUMED, "unpaused", 6);
	say(&p, CAUSE_STOPPED, "from-snapshot", -1);
	assert_int_equal(p.known.early_run, 6);
	play(&p, &(struct play_report){CAUSE_STARTED, "from-snapshot", 6, NULL}, LOOK_SEEN, false, &next);
	assert_string_equal(p.story, "Stopped(from-snapshot) Removed Added Started(from-snapshot)");
	/* The next run began and ended, and only then its beginning is heard of: this one still goes on, for all we know. */
	play_begin_with(&p, KIND_DOMAIN, &running);
	say(&p, CAUSE_STOPPED, "destroyed", 6);
	say(&p, CAUSE_STARTED, "booted", 6);
	assert_string_equal(p.story, "");
	/* A run whose end came before its beginning leaves no trace. */
	play_begin_with(&p, KIND_DOMAIN, &(struct truth)OFF("shutdown"));
	say(&p, CAUSE_STOPPED, "failed", 5);
	say(&p, CAUSE_STARTED, "booted", 5);
	assert_string_equal(p.story, "");
}

static void test_early(void **state)
{
	static const struct truth off = OFF("shutdown"), paused = ON(5, PAUSED, "user"), starting = STARTING(5),
				  starting_new = STARTING_TRANSIENT(5), new = TRANSIENT(5, PAUSED, "user");
	struct play p;

	/* A paused start and an ordinary one differ by the early Resumed of that very run only. */
	play_begin_with(&p, KIND_DOMAIN, &off);
	say(&p, CAUSE_RESUMED, "unpaused", 5);
	assert_int_equal(p.known.early_run, 5);
	assert_true(p.settle);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 5, NULL}, LOOK_SEEN, false, &paused);
	assert_string_equal(p.story, "Started(booted)");
	assert_int_equal(p.known.early_run, 0);
	/* So the Suspended that the look saw is news. */
	say(&p, CAUSE_SUSPENDED, "paused", 5);
	assert_string_equal(p.story, "Started(booted) Suspended(paused)");

	play_begin_with(&p, KIND_DOMAIN, &off);
	say(&p, CAUSE_RESUMED, "unpaused", 4);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 5, NULL}, LOOK_SEEN, false, &paused);
	assert_string_equal(p.story, "Started(booted)[paused]");
	assert_int_equal(p.known.early_run, 0);
	say(&p, CAUSE_SUSPENDED, "paused", 5);
	assert_string_equal(p.story, "Started(booted)[paused]");
	assert_false(p.known.fresh_paused);

	/* Not even when the next run's is there already. */
	play_begin_with(&p, KIND_DOMAIN, &off);
	say(&p, CAUSE_RESUMED, "unpaused", 6);
	say(&p, CAUSE_STARTED, "restored", 5);
	assert_string_equal(p.story, "Started(restored)[paused]");
	assert_int_equal(p.known.early_run, 6);

	play_begin(&p, KIND_DOMAIN);
	say(&p, CAUSE_RESUMED, "unpaused", 6);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 5, NULL}, LOOK_SEEN, false, &new);
	assert_string_equal(p.story, "Added Started(booted)[paused]");
	assert_int_equal(p.known.early_run, 6);

	/* A settled look ends the waiting, unless it is still starting. */
	play_begin_with(&p, KIND_DOMAIN, &off);
	say(&p, CAUSE_RESUMED, "unpaused", 5);
	play_settled(&p, &starting);
	assert_int_equal(p.known.early_run, 5);
	play_settled(&p, &off);
	assert_int_equal(p.known.early_run, 0);
	assert_string_equal(p.story, "");

	/* The same for one that is not known at all. */
	play_begin(&p, KIND_DOMAIN);
	play(&p, &(struct play_report){CAUSE_RESUMED, "unpaused", 5, NULL}, LOOK_SEEN, false, &starting_new);
	assert_false(p.known.exists);
	assert_int_equal(p.known.early_run, 5);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 5, NULL}, LOOK_SEEN, false, &new);
	assert_string_equal(p.story, "Added Started(booted)");
	play_begin(&p, KIND_DOMAIN);
	play(&p, &(struct play_report){CAUSE_RESUMED, "unpaused", 5, NULL}, LOOK_SEEN, false, NULL);
	assert_int_equal(p.known.early_run, 0);
	assert_false(p.settle);

	/* Waking up is no beginning. */
	play_begin_with(&p, KIND_DOMAIN, &off);
	say(&p, CAUSE_STARTED, "wakeup", 5);
	assert_int_equal(p.known.early_run, 0);
	assert_true(p.settle);

	/* Without numbers the memory is of whatever starts next. */
	play_begin_with(&p, KIND_DOMAIN, &off);
	say(&p, CAUSE_RESUMED, "unpaused", 0);
	assert_int_equal(p.known.early_run, -1);
	say(&p, CAUSE_STARTED, "restored", 0);
	assert_string_equal(p.story, "Started(restored)");
	assert_string_equal(p.known.reason, "restored");
	assert_int_equal(p.known.early_run, 0);
	assert_int_equal(p.known.id, 0);
	/* Unless that failed. */
	play_begin_with(&p, KIND_DOMAIN, &off);
	say(&p, CAUSE_RESUMED, "unpaused", 0);
	say(&p, CAUSE_STOPPED, "failed", 0);
	assert_int_equal(p.known.early_run, 0);
}

/* The Suspended right behind a paused start belongs to it; a later one is one of its own. */
static void test_fresh(void **state)
{
	static const struct truth off = OFF("shutdown"), paused = ON(5, PAUSED, "user"), saving = ON(5, PAUSED, "saving"),
				  running = ON(5, RUNNING, "unpaused");
	struct play p;

	play_begin_with(&p, KIND_DOMAIN, &off);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 5, NULL}, LOOK_SEEN, false, &paused);
	/* The look ran ahead. */
	play(&p, &(struct play_report){CAUSE_SUSPENDED, "paused", 5, NULL}, LOOK_SEEN, false, &saving);
	assert_string_equal(p.story, "Started(booted)[paused]");
	assert_true(p.settle);
	play(&p, &(struct play_report){CAUSE_SUSPENDED, "paused", 5, NULL}, LOOK_SEEN, false, &saving);
	assert_string_equal(p.story, "Started(booted)[paused] Updated(paused)[saving]");

	play_begin_with(&p, KIND_DOMAIN, &off);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 5, NULL}, LOOK_SEEN, false, &paused);
	say(&p, CAUSE_RESUMED, "unpaused", 5);
	say(&p, CAUSE_SUSPENDED, "paused", 5);
	play(&p, &(struct play_report){CAUSE_SUSPENDED, "paused", 5, NULL}, LOOK_SEEN, false, &saving);
	assert_string_equal(p.story, "Started(booted)[paused] Resumed(unpaused) Suspended(paused) Updated(paused)[saving]");

	play_begin_with(&p, KIND_DOMAIN, &off);
	play(&p, &(struct play_report){CAUSE_STARTED, "booted", 5, NULL}, LOOK_SEEN, false, &paused);
	play_settled(&p, &running);
	play_settled(&p, &paused);
	play(&p, &(struct play_report){CAUSE_SUSPENDED, "paused", 5, NULL}, LOOK_SEEN, false, &saving);
	assert_string_equal(p.story, "Started(booted)[paused] Resumed(unpaused)! Suspended(paused)! Updated(paused)[saving]");
}

/* ---- what else a verdict says ------------------------------------------------------------------------------------ */

static void test_unknown(void **state)
{
	static const struct truth off = OFF("shutdown"), running = ON(5, RUNNING, "booted");
	struct play p;

	/* P10: what cannot be found is dropped; but a report may be faster than what it reports, so it is asked. */
	play_begin(&p, KIND_DOMAIN);
	play(&p, &(struct play_report){CAUSE_DEFINED, "added", -1, NULL}, LOOK_SEEN, false, NULL);
	assert_string_equal(p.story, "");
	assert_true(p.settle);
	play_settled(&p, &off);
	assert_string_equal(p.story, "Added! Defined(added)!");

	/* What is found is asked about, whatever it was that was reported. */
	for (enum cause c = CAUSE_NONE; c < CAUSE_MAX; c++) {
		if (c == CAUSE_DEFINED)
			continue;
		play_begin(&p, KIND_DOMAIN);
		play(&p, &(struct play_report){c, "x", 5, "Event"}, LOOK_SEEN, false, &running);
		assert_true(p.settle);
		assert_string_equal(p.story, c == CAUSE_STARTED ? "Added Started(x)" : "");
		assert_int_equal(p.verdict.fill, c == CAUSE_STARTED);
	}
	/* What is gone is not, but for what made it exist. */
	for (enum cause c = CAUSE_NONE; c < CAUSE_MAX; c++) {
		play_begin(&p, KIND_DOMAIN);
		play(&p, &(struct play_report){c, "x", 5, "Event"}, LOOK_SEEN, false, NULL);
		assert_int_equal(p.settle, c == CAUSE_DEFINED || c == CAUSE_STARTED);
		assert_false(p.verdict.hold);
		assert_string_equal(p.story, "");
	}

	/* Half of a rename; the other half may be lost, and with it the name. */
	play_begin_with(&p, KIND_DOMAIN, &off);
	play(&p, &(struct play_report){CAUSE_UNDEFINED, "renamed", -1, NULL}, LOOK_SEEN, false, &off);
	assert_true(p.settle);

	/* Its own events wait for the look that says what it is. */
	play_begin(&p, KIND_DOMAIN);
	play(&p, &(struct play_report){CAUSE_OTHER, NULL, 5, "Watchdog"}, LOOK_SEEN, false, &running);
	assert_true(p.verdict.hold);
	play_settled(&p, &running);
	assert_string_equal(p.story, "Added! Defined(added)! Started(booted)! Watchdog");
	play_begin(&p, KIND_DOMAIN);
	play(&p, &(struct play_report){CAUSE_OTHER, NULL, 5, "Watchdog"}, LOOK_FAILED, false, NULL);
	assert_true(p.verdict.hold);
	play_settled(&p, NULL);
	assert_string_equal(p.story, "");
}

/* The look's properties are taken when they are of what clients are told, and of nothing else. */
static void test_fill(void **state)
{
	static const struct truth off = OFF("shutdown"), running = ON(5, RUNNING, "booted"), next = ON(6, RUNNING, "booted"),
				  paused = ON(5, PAUSED, "user"), starting = STARTING(6),
				  transient = TRANSIENT(5, RUNNING, "booted");
	static const struct {
		struct truth known;
		enum cause cause;
		const char *detail;
		const struct truth *seen; /* NULL: gone */
		bool settled, fill;
	} cases[] = {
		{OFF("shutdown"), CAUSE_NONE, NULL, &off, false, true},
		{OFF("shutdown"), CAUSE_NONE, NULL, &off, true, true},
		{OFF("shutdown"), CAUSE_NONE, NULL, &running, false, false},
		{OFF("shutdown"), CAUSE_NONE, NULL, &running, true, true},
		{OFF("shutdown"), CAUSE_NONE, NULL, &starting, false, false},
		{OFF("shutdown"), CAUSE_NONE, NULL, &starting, true, false},
		{OFF("shutdown"), CAUSE_NONE, NULL, NULL, false, false},
		{OFF("shutdown"), CAUSE_NONE, NULL, NULL, true, false},
		{ON(5, RUNNING, "booted"), CAUSE_NONE, NULL, &paused, false, true},
		{ON(5, RUNNING, "booted"), CAUSE_NONE, NULL, &transient, false, false},
		{ON(5, RUNNING, "booted"), CAUSE_NONE, NULL, &next, false, false},
		/* The name after a rename belongs to its Defined. */
		{OFF("shutdown"), CAUSE_UNDEFINED, "renamed", &off, false, false},
		{OFF("shutdown"), CAUSE_DEFINED, "renamed", &off, false, true},
		/* Absorbed: the look belongs to the reports behind. But a definition may have changed. */
		{ON(5, RUNNING, "booted"), CAUSE_STARTED, "booted", &running, false, false},
		{ON(5, RUNNING, "booted"), CAUSE_STARTED, "booted", &running, true, true},
		{ON(5, PAUSED, "user"), CAUSE_SUSPENDED, "paused", &paused, false, false},
		{ON(5, RUNNING, "booted"), CAUSE_DEFINED, "added", &running, false, true},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "paused", &running, false, true},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "destroyed", &next, false, false},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "destroyed", &off, false, true},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "destroyed", NULL, false, false},
		{ON(5, RUNNING, "booted"), CAUSE_UNDEFINED, "removed", &transient, false, true},
		{ON(5, RUNNING, "booted"), CAUSE_UNDEFINED, "removed", &running, false, false},
		{ON(5, RUNNING, "booted"), CAUSE_OTHER, NULL, &running, false, true},
		/* The first look at something is taken even when it ran ahead: it has the name. */
		{GONE, CAUSE_STARTED, "booted", &off, false, true},
		{GONE, CAUSE_NONE, NULL, &starting, true, true},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		struct play p;

		if (truth_exists(&cases[i].known))
			play_begin_with(&p, KIND_DOMAIN, &cases[i].known);
		else
			play_begin(&p, KIND_DOMAIN);
		play(&p, &(struct play_report){cases[i].cause, cases[i].detail, 5, "Event"}, LOOK_SEEN, cases[i].settled,
			cases[i].seen);
		if (p.verdict.fill != cases[i].fill)
			fail_msg("case %zu: fill is %d", i, p.verdict.fill);
		assert_string_equal(p.wrong, "");
	}
}

/* A look in the same state gives the reason, unless it is the reason of a report that is still to come. */
static void test_words(void **state)
{
	static const struct {
		struct truth known;
		enum cause cause;
		const char *detail;
		struct truth seen;
		const char *word;
	} cases[] = {
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "paused", ON(5, PAUSED, "saving"), "saving"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "paused", ON(5, PAUSED, "I/O error"), "user"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "paused", ON(5, PAUSED, "migrating"), "user"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "paused", ON(5, RUNNING, "unpaused"), "user"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "paused", ON(6, PAUSED, "saving"), "user"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "ioerror", ON(5, PAUSED, "user"), "I/O error"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "ioerror", ON(5, PAUSED, "unknown"), "unknown"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "of its own", ON(5, PAUSED, "user"), "user"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "watchdog", ON(5, PAUSED, "odd"), "odd"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "api-error", GONE, "api error"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, "postcopy-failed", GONE, "post-copy failed"},
		{ON(5, RUNNING, "booted"), CAUSE_SUSPENDED, NULL, GONE, "unknown"},
		{ON(5, PAUSED, "user"), CAUSE_RESUMED, "unpaused", ON(5, RUNNING, "save canceled"), "save canceled"},
		{ON(5, PAUSED, "user"), CAUSE_RESUMED, "unpaused", ON(5, RUNNING, "migrated"), "unpaused"},
		{ON(5, PAUSED, "user"), CAUSE_RESUMED, "postcopy-failed", GONE, "post-copy failed"},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "crashed", OFF("crashed"), "crashed"},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "failed", OFF("daemon"), "daemon"},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "failed", OFF("destroyed"), "failed"},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "from-snapshot", GONE, "from snapshot"},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "shutdown", GONE, "shutdown"},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, "saved", STARTING(6), "saved"},
		{ON(5, RUNNING, "booted"), CAUSE_STOPPED, NULL, GONE, "unknown"},
		{ON(5, RUNNING, "booted"), CAUSE_CRASHED, "panicked", GONE, "panicked"},
		{OFF("saved"), CAUSE_STARTED, "booted", GONE, "booted"},
		{OFF("saved"), CAUSE_STARTED, "migrated", GONE, "migrating"},
		{OFF("saved"), CAUSE_STARTED, "from-snapshot", GONE, "from snapshot"},
		{OFF("saved"), CAUSE_STARTED, NULL, GONE, "unknown"},
		{OFF("saved"), CAUSE_STARTED, "booted", ON(5, PAUSED, "user"), "user"},
		{OFF("saved"), CAUSE_STARTED, "booted", ON(5, BLOCKED, "unknown"), "unknown"},
		{OFF("saved"), CAUSE_STARTED, "booted", ON(5, CRASHED, "panicked"), "booted"},
		{OFF("saved"), CAUSE_STARTED, "restored", ON(5, RUNNING, "restored"), "migrating"},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		struct play p;

		play_begin_with(&p, KIND_DOMAIN, &cases[i].known);
		play(&p, &(struct play_report){cases[i].cause, cases[i].detail, 5, NULL}, LOOK_SEEN, false, &cases[i].seen);
		if (strcmp(p.verdict.steps[0].after.reason, cases[i].word) != 0)
			fail_msg("case %zu: '%s', should be '%s'", i, p.verdict.steps[0].after.reason, cases[i].word);
		assert_string_equal(p.wrong, "");
	}
}

/* P26: what a hypervisor calls things goes into properties and events. */
static void test_hostile(void **state)
{
	static const struct truth off = OFF("shutdown"),
				  odd = ON(5, RUNNING, "caf\xc3\xa9 \xff\n a very long word that never ends, or so it seems");
	struct play p;

	play_begin_with(&p, KIND_DOMAIN, &off);
	play(&p, &(struct play_report){CAUSE_STARTED, "\x80\x01 0123456789012345678901234567890123456789", 5, NULL}, LOOK_SEEN,
		false, &odd);
	assert_string_equal(p.wrong, "");
	assert_string_equal(p.verdict.steps[0].reason, "?? 0123456789012345678901234567");
	assert_string_equal(p.known.reason, "caf?? ?? a very long word that ");
	/* Cut short, it is still the same word. */
	play_settled(&p, &odd);
	assert_int_equal(p.n, 1);
	/* A state out of range, an active one that is shut off. */
	for (int s = -1; s <= DOMAIN_STATE_MAX; s++) {
		struct truth t = ON(5, RUNNING, NULL);

		t.state = (enum domain_state)s;
		play_begin(&p, KIND_DOMAIN);
		play_settled(&p, &t);
		assert_string_equal(p.wrong, "");
		assert_string_equal(p.known.reason, "unknown");
		assert_true(p.known.active);
	}
	/* Causes that a kind does not have are looks. */
	play_begin_with(&p, KIND_POOL, &(struct truth){.active = true});
	for (enum cause c = CAUSE_SUSPENDED; c < CAUSE_STOPPED; c++)
		play(&p, &(struct play_report){c, "paused", 5, NULL}, LOOK_SEEN, false, &(struct truth){.active = true});
	assert_string_equal(p.story, "");
	assert_false(p.settle);
	assert_string_equal(life_event_to_string(LIFE_EVENT_MAX), "");
	for (enum life_event e = 0; e < LIFE_EVENT_MAX; e++)
		assert_non_null(life_event_to_string(e));
}

/* P8: closing may end a life in any state. */
static void test_close(void **state)
{
	for (size_t i = 0; i < ELEMENTS(places); i++) {
		struct verdict v;
		struct play p;

		play_begin(&p, KIND_DOMAIN);
		play_settled(&p, &places[i]);
		lifecycle_close(&p.known, &v);
		assert_int_equal(v.n, truth_exists(&places[i]));
		assert_false(v.after.exists);
		assert_false(v.fill || v.settle || v.hold);
		if (v.n == 0)
			continue;
		assert_int_equal(v.steps[0].event, EVENT_REMOVED);
		assert_string_equal(v.steps[0].reason, "closed");
		assert_false(v.steps[0].inferred || v.steps[0].after.exists);
		assert_null(grammar_event(&p.grammar, KIND_DOMAIN, "Removed", "closed", NULL));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_meanings),
		cmocka_unit_test(test_settled),
		cmocka_unit_test(test_settled_stories),
		cmocka_unit_test(test_cause_with_settled_look),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_next_run),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_fresh),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_fill),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_close),
	};

	return cmocka_run_group_tests_name("lifecycle", tests, NULL, NULL);
}
