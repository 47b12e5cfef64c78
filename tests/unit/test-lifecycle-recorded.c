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
 * What libvirt and QEMU were recorded to do, and the story that clients shall hear of it: each row is played with every
 * timing of looks that is possible, and then with all that can go wrong.
 */

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
	struct moment moments[MOMENTS]; /* the first @n */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded),
		cmocka_unit_test(test_blind),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_disorder),
	};

	return cmocka_run_group_tests_name("lifecycle-recorded", tests, NULL, NULL);
}
