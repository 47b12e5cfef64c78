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
 * The grammar, by table. What libvirt and QEMU were recorded to do comes with the story that clients shall hear of it;
 * each row is played with every timing of looks that is possible, and then with all that can go wrong.
 */

/* ---- what was recorded ------------------------------------------------------------------------------------------ */

#define GONE                                                                                                 \
	{                                                                                                    \
		0                                                                                            \
	}
#define OFF(w)                                                                                               \
	{                                                                                                    \
		.persistent = true, .word = w                                                                \
	}
#define ON(i, s, w)                                                                                          \
	{                                                                                                    \
		.active = true, .persistent = true, .id = i, .state = DOMAIN_##s, .word = w                  \
	}
#define TRANSIENT(i, s, w)                                                                                   \
	{                                                                                                    \
		.active = true, .id = i, .state = DOMAIN_##s, .word = w                                      \
	}
#define STARTING(i)                                                                                          \
	{                                                                                                    \
		.active = true, .persistent = true, .starting = true, .id = i, .state = DOMAIN_PAUSED,       \
		.word = "starting up"                                                                        \
	}
#define STARTING_TRANSIENT(i)                                                                                \
	{                                                                                                    \
		.active = true, .starting = true, .id = i, .state = DOMAIN_PAUSED, .word = "starting up"     \
	}

struct moment {
	enum cause cause; /* NONE: nothing is reported */
	const char *detail;
	int run;
	struct truth now; /* what the report tells of has happened, and nothing behind it */
	const char *event;
};

#define MOMENTS 6

struct row {
	const char *name;
	enum kind kind;
	struct truth before;
	struct moment moments[MOMENTS]; /* ends with a NULL now.word of … see row_length() */
	unsigned n;
	const char *story;
	/* Other stories that are as good when a look ran ahead: who was gone when it was looked for was never there. */
	const char *also[3];
	/* When no look succeeds; NULL: the same. Inferred corrections of a reason are not counted. */
	const char *blind;
	bool retold; /* has reports that are told each time they come */
};

#define D KIND_DOMAIN

static const struct row rows[] = {
	{"start", D, OFF("shutdown"),
		{{CAUSE_NONE, NULL, 0, STARTING(5)},
			{CAUSE_RESUMED, "unpaused", 5, STARTING(5)},
			{CAUSE_STARTED, "booted", 5, ON(5, RUNNING, "booted")}},
		3, "Started(booted)"},
	{"start of a domain, transient", D, GONE,
		{{CAUSE_NONE, NULL, 0, STARTING_TRANSIENT(5)},
			{CAUSE_RESUMED, "unpaused", 5, STARTING_TRANSIENT(5)},
			{CAUSE_STARTED, "booted", 5, TRANSIENT(5, RUNNING, "booted")}},
		3, "Added Started(booted)"},
	{"start without an early Resumed (LXC, test)", D, OFF("unknown"),
		{{CAUSE_STARTED, "booted", 5, ON(5, RUNNING, "booted")}}, 1, "Started(booted)"},
	{"start of a hypervisor without run numbers", D, OFF("unknown"),
		{{CAUSE_RESUMED, "unpaused", 0, OFF("unknown")}, {CAUSE_STARTED, "booted", 0, ON(0, RUNNING, "booted")}}, 2,
		"Started(booted)"},
	{"start --paused", D, OFF("shutdown"),
		{{CAUSE_STARTED, "booted", 5, ON(5, PAUSED, "user")}, {CAUSE_SUSPENDED, "paused", 5, ON(5, PAUSED, "user")}}, 2,
		"Started(booted)[paused]", .blind = "Started(booted) Suspended(paused)"},
	{"create --paused", D, GONE,
		{{CAUSE_STARTED, "booted", 5, TRANSIENT(5, PAUSED, "user")},
			{CAUSE_SUSPENDED, "paused", 5, TRANSIENT(5, PAUSED, "user")}},
		2, "Added Started(booted)[paused]"},
	{"create --paused, then resume", D, GONE,
		{{CAUSE_STARTED, "booted", 5, TRANSIENT(5, PAUSED, "user")},
			{CAUSE_SUSPENDED, "paused", 5, TRANSIENT(5, PAUSED, "user")},
			{CAUSE_RESUMED, "unpaused", 5, TRANSIENT(5, RUNNING, "unpaused")}},
		3, "Added Started(booted)[paused] Resumed(unpaused)",
		/* A look that finds it running cannot tell it from an ordinary boot of a hypervisor without early Resumed. */
		{"Added Started(booted) Suspended(paused) Resumed(unpaused)"}},
	{"destroy", D, ON(5, RUNNING, "booted"),
		{{CAUSE_SHUTDOWN, "host", 5, ON(5, SHUTDOWN, "unknown")}, {CAUSE_STOPPED, "destroyed", -1, OFF("destroyed")}}, 2,
		"Shutdown(host) Stopped(destroyed)"},
	{"destroy, by SIGKILL", D, ON(5, RUNNING, "booted"), {{CAUSE_STOPPED, "destroyed", -1, OFF("destroyed")}}, 1,
		"Stopped(destroyed)"},
	{"destroy, transient", D, TRANSIENT(5, RUNNING, "booted"),
		{{CAUSE_SHUTDOWN, "host", 5, TRANSIENT(5, SHUTDOWN, "unknown")}, {CAUSE_STOPPED, "destroyed", -1, GONE}}, 2,
		"Shutdown(host) Stopped(destroyed) Removed"},
	{"autodestroy", D, OFF("shutdown"),
		{{CAUSE_RESUMED, "unpaused", 5, STARTING(5)}, {CAUSE_STARTED, "booted", 5, ON(5, RUNNING, "booted")},
			{CAUSE_SHUTDOWN, "host", 5, ON(5, SHUTDOWN, "unknown")},
			{CAUSE_STOPPED, "destroyed", -1, OFF("destroyed")}},
		4, "Started(booted) Shutdown(host) Stopped(destroyed)"},
	{"autodestroy, transient", D, GONE,
		{{CAUSE_RESUMED, "unpaused", 5, STARTING_TRANSIENT(5)},
			{CAUSE_STARTED, "booted", 5, TRANSIENT(5, RUNNING, "booted")},
			{CAUSE_SHUTDOWN, "host", 5, TRANSIENT(5, SHUTDOWN, "unknown")}, {CAUSE_STOPPED, "destroyed", -1, GONE}},
		4, "Added Started(booted) Shutdown(host) Stopped(destroyed) Removed", {""}},
	{"guest powers off", D, ON(5, RUNNING, "booted"),
		{{CAUSE_SHUTDOWN, "guest", 5, ON(5, SHUTDOWN, "unknown")}, {CAUSE_STOPPED, "shutdown", -1, OFF("shutdown")}}, 2,
		"Shutdown(guest) Stopped(shutdown)"},
	{"ACPI reboot", D, ON(5, RUNNING, "booted"),
		{{CAUSE_OTHER, NULL, 5, ON(5, RUNNING, "booted"), "Rebooted"},
			{CAUSE_OTHER, NULL, 5, ON(5, RUNNING, "booted"), "Rebooted"}},
		2, "Rebooted Rebooted", .retold = true},
	{"QEMU killed", D, ON(5, RUNNING, "booted"), {{CAUSE_STOPPED, "failed", -1, OFF("failed")}}, 1, "Stopped(failed)"},
	{"panic, destroy", D, ON(5, RUNNING, "booted"),
		{{CAUSE_CRASHED, "panicked", 5, ON(5, CRASHED, "panicked")}, {CAUSE_STOPPED, "crashed", -1, OFF("crashed")}}, 2,
		"Crashed(panicked) Stopped(crashed)"},
	{"panic, preserve", D, ON(5, RUNNING, "booted"), {{CAUSE_CRASHED, "panicked", 5, ON(5, CRASHED, "panicked")}}, 1,
		"Crashed(panicked)"},
	{"panic, restart", D, ON(5, RUNNING, "booted"),
		{{CAUSE_CRASHED, "panicked", 5, ON(5, CRASHED, "panicked")},
			{CAUSE_OTHER, NULL, 5, ON(5, CRASHED, "panicked"), "Rebooted"},
			{CAUSE_RESUMED, "unpaused", 5, ON(5, RUNNING, "unpaused")},
			{CAUSE_OTHER, NULL, 5, ON(5, RUNNING, "unpaused"), "Rebooted"}},
		4, "Crashed(panicked) Rebooted Resumed(unpaused) Rebooted", .retold = true},
	{"panic, crashloaded", D, ON(5, RUNNING, "booted"),
		{{CAUSE_CRASHED, "crashloaded", 5, ON(5, RUNNING, "booted")}}, 1, "Crashed(crashloaded)[running]", .retold = true},
	{"suspend to memory, wake up", D, ON(5, RUNNING, "booted"),
		{{CAUSE_PMSUSPENDED, "memory", 5, ON(5, PMSUSPENDED, "unknown")},
			{CAUSE_STARTED, "wakeup", 5, ON(5, RUNNING, "event wakeup")},
			{CAUSE_OTHER, NULL, 5, ON(5, RUNNING, "event wakeup"), "Rebooted"}},
		3, "PMSuspended(memory) Resumed(wakeup) Rebooted", .retold = true},
	{"save while pm-suspended", D, ON(5, PMSUSPENDED, "unknown"),
		{{CAUSE_STARTED, "wakeup", 5, ON(5, RUNNING, "event wakeup")},
			{CAUSE_OTHER, NULL, 5, ON(5, RUNNING, "event wakeup"), "JobCompleted"},
			{CAUSE_STOPPED, "saved", -1, OFF("saved")}},
		3, "Resumed(wakeup) JobCompleted Stopped(saved)", .retold = true},
	{"suspend to disk", D, ON(5, RUNNING, "booted"),
		{{CAUSE_PMSUSPENDED, "disk", 5, ON(5, PMSUSPENDED, "unknown")},
			{CAUSE_SHUTDOWN, "guest", 5, ON(5, SHUTDOWN, "unknown")},
			{CAUSE_STOPPED, "shutdown", -1, OFF("shutdown")}},
		3, "PMSuspended(disk) Shutdown(guest) Stopped(shutdown)"},
	{"save", D, ON(5, RUNNING, "booted"),
		{{CAUSE_SUSPENDED, "paused", 5, ON(5, PAUSED, "saving")},
			{CAUSE_OTHER, NULL, 5, ON(5, PAUSED, "saving"), "JobCompleted"},
			{CAUSE_STOPPED, "saved", -1, OFF("saved")}},
		3, "Suspended(paused) JobCompleted Stopped(saved)", .retold = true},
	{"restore", D, OFF("saved"),
		{{CAUSE_STARTED, "restored", 5, ON(5, PAUSED, "migrating")},
			{CAUSE_RESUMED, "from-snapshot", 5, ON(5, RUNNING, "restored")}},
		2, "Started(restored)[paused] Resumed(from-snapshot)"},
	{"restore --paused", D, OFF("saved"),
		{{CAUSE_STARTED, "restored", 5, ON(5, PAUSED, "migrating")},
			{CAUSE_SUSPENDED, "restored", 5, ON(5, PAUSED, "migrating")}},
		2, "Started(restored)[paused]"},
	{"restore --paused, as `paused`", D, OFF("saved"),
		{{CAUSE_STARTED, "restored", 5, ON(5, PAUSED, "migrating")},
			{CAUSE_SUSPENDED, "paused", 5, ON(5, PAUSED, "migrating")}},
		2, "Started(restored)[paused]"},
	{"dump, even --live", D, ON(5, RUNNING, "booted"),
		{{CAUSE_SUSPENDED, "paused", 5, ON(5, PAUSED, "dumping")},
			{CAUSE_RESUMED, "unpaused", 5, ON(5, RUNNING, "unpaused")}},
		2, "Suspended(paused) Resumed(unpaused)"},
	{"revert to a running snapshot", D, ON(5, RUNNING, "booted"),
		{{CAUSE_STOPPED, "from-snapshot", -1, OFF("from snapshot")},
			{CAUSE_STARTED, "from-snapshot", 6, ON(6, PAUSED, "from snapshot")},
			{CAUSE_RESUMED, "from-snapshot", 6, ON(6, RUNNING, "from snapshot")},
			{CAUSE_DEFINED, "from-snapshot", 6, ON(6, RUNNING, "from snapshot")}},
		4, "Stopped(from-snapshot) Started(from-snapshot)[paused] Resumed(from-snapshot) Defined(from-snapshot)",
		.retold = true},
	{"revert to an inactive one, --running", D, ON(5, RUNNING, "booted"),
		{{CAUSE_STOPPED, "from-snapshot", -1, OFF("from snapshot")},
			{CAUSE_RESUMED, "unpaused", 6, STARTING(6)},
			{CAUSE_STARTED, "from-snapshot", 6, ON(6, RUNNING, "booted")},
			{CAUSE_DEFINED, "from-snapshot", 6, ON(6, RUNNING, "booted")}},
		4, "Stopped(from-snapshot) Started(from-snapshot) Defined(from-snapshot)", .retold = true},
	{"revert, transient", D, TRANSIENT(5, RUNNING, "booted"),
		{{CAUSE_STOPPED, "from-snapshot", -1, STARTING_TRANSIENT(6)},
			{CAUSE_STARTED, "from-snapshot", 6, TRANSIENT(6, PAUSED, "from snapshot")},
			{CAUSE_RESUMED, "from-snapshot", 6, TRANSIENT(6, RUNNING, "from snapshot")}},
		3, "Stopped(from-snapshot) Removed Added Started(from-snapshot)[paused] Resumed(from-snapshot)",
		/* When no look was to be had, there was nothing to add; the settled look found it running. */
		.blind = "Stopped(from-snapshot) Removed Added! Started(from-snapshot)!"},
	{"I/O error, resume while the disk is full", D, ON(5, RUNNING, "booted"),
		{{CAUSE_SUSPENDED, "ioerror", 5, ON(5, PAUSED, "I/O error")},
			{CAUSE_RESUMED, "unpaused", 5, ON(5, RUNNING, "unpaused")},
			{CAUSE_SUSPENDED, "ioerror", 5, ON(5, PAUSED, "I/O error")}},
		3, "Suspended(ioerror) Resumed(unpaused) Suspended(ioerror)"},
	{"migrate out", D, ON(5, RUNNING, "booted"),
		{{CAUSE_SUSPENDED, "migrated", 5, ON(5, PAUSED, "migrating")},
			{CAUSE_STOPPED, "migrated", -1, OFF("migrated")},
			{CAUSE_OTHER, NULL, -1, OFF("migrated"), "JobCompleted"}},
		3, "Suspended(migrated) Stopped(migrated) JobCompleted", .retold = true},
	{"migrate out --undefinesource", D, ON(5, RUNNING, "booted"),
		{{CAUSE_SUSPENDED, "migrated", 5, ON(5, PAUSED, "migrating")}, {CAUSE_STOPPED, "migrated", -1, GONE}}, 2,
		"Suspended(migrated) Stopped(migrated) Undefined! Removed!"},
	{"migrate out, transient", D, TRANSIENT(5, RUNNING, "booted"),
		{{CAUSE_SUSPENDED, "migrated", 5, TRANSIENT(5, PAUSED, "migrating")}, {CAUSE_STOPPED, "migrated", -1, GONE},
			{CAUSE_OTHER, NULL, -1, GONE, "JobCompleted"}},
		3, "Suspended(migrated) Stopped(migrated) Removed", .retold = true},
	{"migrate in", D, GONE,
		{{CAUSE_STARTED, "migrated", 5, TRANSIENT(5, PAUSED, "migrating")},
			{CAUSE_RESUMED, "migrated", 5, TRANSIENT(5, RUNNING, "migrated")}},
		2, "Added Started(migrated)[paused] Resumed(migrated)"},
	{"migrate in --persistent", D, GONE,
		{{CAUSE_STARTED, "migrated", 5, TRANSIENT(5, PAUSED, "migrating")},
			{CAUSE_DEFINED, "added", 5, ON(5, PAUSED, "migrating")},
			{CAUSE_RESUMED, "migrated", 5, ON(5, RUNNING, "migrated")}},
		3, "Added Started(migrated)[paused] Defined(added) Resumed(migrated)"},
	{"migrate in, fails", D, OFF("unknown"),
		{{CAUSE_STARTED, "migrated", 5, ON(5, PAUSED, "migrating")}, {CAUSE_STOPPED, "failed", -1, OFF("failed")}}, 2,
		"Started(migrated)[paused] Stopped(failed)"},
	{"migrate in, fails, transient", D, GONE,
		{{CAUSE_STARTED, "migrated", 5, TRANSIENT(5, PAUSED, "migrating")}, {CAUSE_STOPPED, "failed", -1, GONE}}, 2,
		"Added Started(migrated)[paused] Stopped(failed) Removed", {""}},
	{"postcopy, source", D, ON(5, RUNNING, "booted"),
		{{CAUSE_SUSPENDED, "migrated", 5, ON(5, PAUSED, "migrating")},
			{CAUSE_SUSPENDED, "postcopy", 5, ON(5, PAUSED, "post-copy")}},
		2, "Suspended(migrated) Updated(postcopy)[post-copy]"},
	{"postcopy, destination", D, TRANSIENT(5, PAUSED, "migrating"),
		{{CAUSE_RESUMED, "postcopy", 5, TRANSIENT(5, RUNNING, "post-copy")},
			{CAUSE_RESUMED, "migrated", 5, TRANSIENT(5, RUNNING, "migrated")}},
		2, "Resumed(postcopy) Updated(migrated)[migrated]"},
	{"create that fails", D, GONE,
		{{CAUSE_NONE, NULL, 0, STARTING_TRANSIENT(5)},
			{CAUSE_OTHER, NULL, 5, STARTING_TRANSIENT(5), "ControlError"}, {CAUSE_NONE, NULL, 0, GONE}},
		3, "", .retold = true},
	{"create that fails after it ran", D, GONE,
		{{CAUSE_RESUMED, "unpaused", 5, STARTING_TRANSIENT(5)}, {CAUSE_NONE, NULL, 0, GONE}}, 2, ""},
	{"start that fails after it ran, and one that works", D, OFF("shutdown"),
		{{CAUSE_RESUMED, "unpaused", 5, STARTING(5)}, {CAUSE_SHUTDOWN, "host", 5, STARTING(5)},
			{CAUSE_STOPPED, "failed", 5, OFF("shutdown")},
			{CAUSE_STARTED, "booted", 6, ON(6, PAUSED, "user")},
			{CAUSE_SUSPENDED, "paused", 6, ON(6, PAUSED, "user")}},
		5, "Started(booted)[paused]", .blind = "Started(booted) Suspended(paused)"},
	{"I/O error while it starts", D, OFF("shutdown"),
		{{CAUSE_RESUMED, "unpaused", 5, STARTING(5)}, {CAUSE_SUSPENDED, "ioerror", 5, STARTING(5)},
			{CAUSE_STARTED, "booted", 5, ON(5, PAUSED, "I/O error")}},
		3, "Started(booted)[paused]", .blind = "Started(booted) Suspended(ioerror)!"},
	{"rename", D, OFF("shutdown"),
		{{CAUSE_UNDEFINED, "renamed", -1, OFF("shutdown")}, {CAUSE_DEFINED, "renamed", -1, OFF("shutdown")}}, 2,
		"Defined(renamed)", .retold = true},
	{"undefine a running one, define it again", D, ON(5, RUNNING, "booted"),
		{{CAUSE_UNDEFINED, "removed", 5, TRANSIENT(5, RUNNING, "booted")},
			{CAUSE_DEFINED, "updated", 5, ON(5, RUNNING, "booted")}},
		2, "Undefined(removed) Defined(added)", .retold = true},
	{"guest paused by QMP while libvirtd was dead", D, ON(5, RUNNING, "booted"),
		{{CAUSE_NONE, NULL, 0, ON(5, PAUSED, "user")}}, 1, "Suspended(paused)!"},
	{"define", D, GONE, {{CAUSE_DEFINED, "added", -1, OFF("unknown")}}, 1, "Added Defined(added)"},
	{"define, as updated", D, GONE, {{CAUSE_DEFINED, "updated", -1, OFF("unknown")}}, 1, "Added Defined(added)",
		.retold = true},
	{"define again", D, OFF("unknown"), {{CAUSE_DEFINED, "updated", -1, OFF("unknown")}}, 1, "Defined(updated)",
		.retold = true},
	{"define and undefine", D, GONE,
		{{CAUSE_DEFINED, "added", -1, OFF("unknown")}, {CAUSE_UNDEFINED, "removed", -1, GONE}}, 2,
		"Added Defined(added) Undefined(removed) Removed", {""}},
	{"undefine and define", D, OFF("shutdown"),
		{{CAUSE_UNDEFINED, "removed", -1, GONE}, {CAUSE_DEFINED, "added", -1, OFF("unknown")}}, 2,
		"Undefined(removed) Removed Added Defined(added)", .blind = "Undefined(removed) Removed Added! Defined(added)!"},
	{"undefine while running, stop", D, ON(5, RUNNING, "booted"),
		{{CAUSE_UNDEFINED, "removed", 5, TRANSIENT(5, RUNNING, "booted")}, {CAUSE_STOPPED, "destroyed", -1, GONE}}, 2,
		"Undefined(removed) Stopped(destroyed) Removed"},
	{"restart, quickly", D, ON(5, RUNNING, "booted"),
		{{CAUSE_STOPPED, "destroyed", -1, OFF("destroyed")}, {CAUSE_RESUMED, "unpaused", 6, STARTING(6)},
			{CAUSE_STARTED, "booted", 6, ON(6, RUNNING, "booted")},
			{CAUSE_SUSPENDED, "paused", 6, ON(6, PAUSED, "user")},
			{CAUSE_RESUMED, "unpaused", 6, ON(6, RUNNING, "unpaused")}},
		5, "Stopped(destroyed) Started(booted) Suspended(paused) Resumed(unpaused)"},
	{"transient, stopped and created again", D, TRANSIENT(5, RUNNING, "booted"),
		{{CAUSE_STOPPED, "destroyed", -1, GONE}, {CAUSE_RESUMED, "unpaused", 6, STARTING_TRANSIENT(6)},
			{CAUSE_STARTED, "booted", 6, TRANSIENT(6, RUNNING, "booted")}},
		3, "Stopped(destroyed) Removed Added Started(booted)",
		.blind = "Stopped(destroyed) Removed Added! Started(booted)!"},
	{"pool, defined and started", KIND_POOL, GONE,
		{{CAUSE_DEFINED, NULL, 0, {.persistent = true}}, {CAUSE_STARTED, NULL, 0, {.active = true, .persistent = true}}}, 2,
		"Added Defined(added) Started", .retold = true},
	{"pool, refresh that fails", KIND_POOL, {.active = true, .persistent = true},
		{{CAUSE_OTHER, NULL, 0, {.active = true, .persistent = true}, "Refreshed"},
			{CAUSE_STOPPED, NULL, 0, {.persistent = true}}},
		2, "Refreshed Stopped", .retold = true},
	{"pool, stopped and undefined", KIND_POOL, {.active = true, .persistent = true},
		{{CAUSE_STOPPED, NULL, 0, {.persistent = true}}, {CAUSE_UNDEFINED, NULL, 0, GONE}}, 2,
		"Stopped Undefined Removed"},
	{"network, transient", KIND_NETWORK, GONE,
		{{CAUSE_STARTED, NULL, 0, {.active = true}}, {CAUSE_STOPPED, NULL, 0, GONE}}, 2, "Added Started Stopped Removed",
		{""}},
	{"network, defined again and undefined while it runs", KIND_NETWORK, {.active = true, .persistent = true},
		{{CAUSE_DEFINED, NULL, 0, {.active = true, .persistent = true}},
			{CAUSE_UNDEFINED, NULL, 0, {.active = true}}, {CAUSE_STOPPED, NULL, 0, GONE}},
		3, "Defined(updated) Undefined Stopped Removed", .retold = true},
};

/* ---- playing a row ---------------------------------------------------------------------------------------------- */

static struct play_report report_of(const struct moment *m)
{
	return (struct play_report){.cause = m->cause, .detail = m->detail, .run = m->run, .event = m->event};
}

static void begin(struct play *p, const struct row *row)
{
	if (truth_exists(&row->before))
		play_begin_with(p, row->kind, &row->before);
	else
		play_begin(p, row->kind);
}

static void check_legal(const struct row *row, const struct play *p, const char *how)
{
	if (p->wrong[0])
		fail_msg("%s, %s: %s\n  %s", row->name, how, p->wrong, p->story);
}

static void check_end(const struct row *row, struct play *p, const char *how)
{
	const struct truth *end = &row->moments[row->n - 1].now;
	unsigned n;

	if (p->settle)
		play_settled(p, end);
	check_legal(row, p, how);
	/* Whatever was not asked for comes with the next resync. */
	play_settled(p, end);
	check_legal(row, p, how);
	if (!play_agrees(p, end))
		fail_msg("%s, %s: does not end with the truth\n  %s", row->name, how, p->story);
	n = p->n;
	play_settled(p, end);
	if (p->n != n)
		fail_msg("%s, %s: a settled look of the same tells something new\n  %s", row->name, how, p->story);
}

static bool story_is(const struct row *row, const char *story, bool alternatives)
{
	if (strcmp(row->story, story) == 0)
		return true;
	for (unsigned i = 0; alternatives && i < ELEMENTS(row->also) && row->also[i]; i++)
		if (strcmp(row->also[i], story) == 0)
			return true;
	return false;
}

struct timing {
	unsigned looks[MOMENTS]; /* which moment each report's look saw */
	bool settled[MOMENTS];
};

static const char *describe(const struct row *row, const struct timing *t)
{
	static char text[128];
	int n = snprintf(text, sizeof(text), "looks at moments");

	for (unsigned i = 0; i < row->n; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, " %u%s", t->looks[i], t->settled[i] ? "+settled" : "");
	return text;
}

/*
 * Every timing that an undisturbed hypervisor allows: reports come in order; a look comes behind its report, so it sees
 * that moment or a later one; and a settled look is possible where nothing has been seen that is not reported yet.
 */
static unsigned play_timings(const struct row *row, const struct play *before, struct timing *t, unsigned i, unsigned clock)
{
	unsigned played = 0;

	if (i == row->n) {
		struct play p = *before;
		bool ahead = false;

		for (unsigned k = 0; k < row->n; k++)
			ahead = ahead || t->looks[k] > k;
		check_end(row, &p, describe(row, t));
		if (!story_is(row, p.story, ahead))
			fail_msg("%s, %s:\n  %s\n  should be\n  %s", row->name, describe(row, t), p.story, row->story);
		return 1;
	}
	for (unsigned at = clock > i ? clock : i; at < row->n; at++) {
		struct play p = *before;
		struct play_report r = report_of(&row->moments[i]);

		t->looks[i] = at;
		t->settled[i] = false;
		if (r.cause != CAUSE_NONE)
			play(&p, &r, LOOK_SEEN, false, &row->moments[at].now);
		played += play_timings(row, &p, t, i + 1, at);
		if (at == i) {
			t->settled[i] = true;
			play_settled(&p, &row->moments[i].now);
			played += play_timings(row, &p, t, i + 1, at);
		}
		if (r.cause == CAUSE_NONE)
			break; /* nobody looks at what nobody heard of */
	}
	return played;
}

static void test_recorded(void **state)
{
	unsigned played = 0;

	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		struct timing t = {0};
		struct play p;

		begin(&p, &rows[i]);
		played += play_timings(&rows[i], &p, &t, 0, 0);
	}
	print_message("%u timings of %zu rows\n", played, ELEMENTS(rows));
}

/* Leaves out what a settled look only put right in State's reason: "Updated[word]!". */
static void drop_corrections(char *story)
{
	char out[sizeof(((struct play *)0)->story)] = "";
	/* Reasons hold spaces; a word of the story ends where the brackets are closed. */
	size_t n = 0, depth = 0, start = 0;

	for (size_t i = 0;; i++) {
		if (story[i] == '[' || story[i] == '(')
			depth++;
		else if (story[i] == ']' || story[i] == ')')
			depth--;
		if (story[i] != '\0' && (story[i] != ' ' || depth > 0))
			continue;
		if (i > start && strncmp(story + start, "Updated[", 8) != 0)
			n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%.*s", n ? " " : "", (int)(i - start), story + start);
		if (story[i] == '\0')
			break;
		start = i + 1;
	}
	memcpy(story, out, n + 1);
}

/* No look succeeds: what is known already goes out, in the same order; the rest follows. */
static void test_blind(void **state)
{
	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		const struct row *row = &rows[i];
		const char *story = row->blind ? row->blind : row->story;
		struct play p;

		begin(&p, row);
		for (unsigned k = 0; k < row->n; k++) {
			struct play_report r = report_of(&row->moments[k]);

			if (r.cause == CAUSE_NONE)
				continue;
			play(&p, &r, LOOK_FAILED, false, NULL);
			if (!p.settle)
				fail_msg("%s: nobody asked for the look that failed", row->name);
		}
		check_end(row, &p, "blind");
		drop_corrections(p.story);
		/* What is unknown has no name, so it appears by the settled look. */
		if (truth_exists(&row->before) && strcmp(p.story, story) != 0)
			fail_msg("%s, blind:\n  %s\n  should be\n  %s", row->name, p.story, story);
	}
}

/* Each report comes twice, at once. */
static void test_twice(void **state)
{
	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		const struct row *row = &rows[i];
		struct play p;

		begin(&p, row);
		for (unsigned k = 0; k < row->n; k++) {
			struct play_report r = report_of(&row->moments[k]);

			if (r.cause == CAUSE_NONE)
				continue;
			play(&p, &r, LOOK_SEEN, false, &row->moments[k].now);
			play(&p, &r, LOOK_SEEN, false, &row->moments[k].now);
		}
		check_end(row, &p, "twice");
		if (!row->retold && !story_is(row, p.story, false))
			fail_msg("%s, twice:\n  %s\n  should be\n  %s", row->name, p.story, row->story);
	}
}

/*
 * All that can go wrong with a short row: any subset of its reports in any order, with looks of any moment, before or
 * behind. The story is legal, whatever it is, and ends with the truth.
 */
static unsigned play_chaos(const struct row *row, const struct play *before, unsigned left, unsigned budget)
{
	unsigned played = 1;
	struct play end = *before;

	check_end(row, &end, "in disorder");
	if (budget == 0)
		return played;
	for (unsigned i = 0; i < row->n; i++) {
		struct play_report r = report_of(&row->moments[i]);

		if (!(left & 1u << i) || r.cause == CAUSE_NONE)
			continue;
		for (int at = -1; at < (int)row->n + 2; at++) {
			struct play p = *before;

			if (at < 0)
				play(&p, &r, LOOK_SEEN, false, &row->before);
			else if (at < (int)row->n)
				play(&p, &r, LOOK_SEEN, false, &row->moments[at].now);
			else
				play(&p, &r, at == (int)row->n ? LOOK_FAILED : LOOK_NONE, false, NULL);
			played += play_chaos(row, &p, left & ~(1u << i), budget - 1);
		}
	}
	return played;
}

static void test_disorder(void **state)
{
	unsigned played = 0;

	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		struct play p;

		begin(&p, &rows[i]);
		played += play_chaos(&rows[i], &p, ~0u, rows[i].n < 3 ? rows[i].n : 3);
	}
	print_message("%u disordered stories\n", played);
}

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
	assert_int_equal(p.known.early_run, 0);
	assert_int_equal(p.known.id, 0);
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
		cmocka_unit_test(test_recorded),
		cmocka_unit_test(test_blind),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_disorder),
		cmocka_unit_test(test_meanings),
		cmocka_unit_test(test_settled),
		cmocka_unit_test(test_settled_stories),
		cmocka_unit_test(test_cause_with_settled_look),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_next_run),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_fill),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_close),
	};

	return cmocka_run_group_tests_name("lifecycle", tests, NULL, NULL);
}
