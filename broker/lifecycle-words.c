/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <string.h>

#include "lifecycle-words.h"
#include "util/macros.h"

/*
 * By cause; the first row of a name is what such a report leaves behind, the second (Started only) what it is called
 * when the domain turns out to be in the other state; each cause ends with its row for any other detail.
 */
static const struct detail details[] = {
	{CAUSE_STARTED, "booted", DOMAIN_RUNNING, "booted"},
	{CAUSE_STARTED, "booted", DOMAIN_PAUSED, "user"},
	{CAUSE_STARTED, "migrated", DOMAIN_PAUSED, "migrating"},
	{CAUSE_STARTED, "migrated", DOMAIN_RUNNING, "migrated"},
	{CAUSE_STARTED, "restored", DOMAIN_PAUSED, "migrating"}, /* libvirt restores by an incoming migration */
	{CAUSE_STARTED, "restored", DOMAIN_RUNNING, "restored"},
	{CAUSE_STARTED, "from-snapshot", DOMAIN_PAUSED, "from snapshot"},
	{CAUSE_STARTED, "from-snapshot", DOMAIN_RUNNING, "from snapshot"},
	{CAUSE_STARTED, NULL, DOMAIN_RUNNING, "unknown"},
	{CAUSE_STARTED, NULL, DOMAIN_PAUSED, "unknown"},

	{CAUSE_SUSPENDED, "paused", DOMAIN_PAUSED, "user", .vague = true},
	{CAUSE_SUSPENDED, "migrated", DOMAIN_PAUSED, "migrating"},
	{CAUSE_SUSPENDED, "ioerror", DOMAIN_PAUSED, "I/O error"},
	{CAUSE_SUSPENDED, "watchdog", DOMAIN_PAUSED, "watchdog"},
	{CAUSE_SUSPENDED, "restored", DOMAIN_PAUSED, "migrating", .vague = true},
	{CAUSE_SUSPENDED, "from-snapshot", DOMAIN_PAUSED, "from snapshot", .vague = true},
	{CAUSE_SUSPENDED, "api-error", DOMAIN_PAUSED, "api error"},
	{CAUSE_SUSPENDED, "postcopy", DOMAIN_PAUSED, "post-copy"},
	{CAUSE_SUSPENDED, "postcopy-failed", DOMAIN_PAUSED, "post-copy failed"},
	{CAUSE_SUSPENDED, NULL, DOMAIN_PAUSED, "unknown", .vague = true},

	{CAUSE_RESUMED, "unpaused", DOMAIN_RUNNING, "unpaused", .vague = true},
	{CAUSE_RESUMED, "migrated", DOMAIN_RUNNING, "migrated"},
	{CAUSE_RESUMED, "from-snapshot", DOMAIN_RUNNING, "from snapshot", .vague = true},
	{CAUSE_RESUMED, "postcopy", DOMAIN_RUNNING, "post-copy"},
	{CAUSE_RESUMED, "postcopy-failed", DOMAIN_RUNNING, "post-copy failed"},
	{CAUSE_RESUMED, "wakeup", DOMAIN_RUNNING, "event wakeup", .vague = true},
	{CAUSE_RESUMED, NULL, DOMAIN_RUNNING, "unknown", .vague = true},

	{CAUSE_PMSUSPENDED, NULL, DOMAIN_PMSUSPENDED, "unknown", .vague = true},

	{CAUSE_CRASHED, "panicked", DOMAIN_CRASHED, "panicked", .vague = true},
	{CAUSE_CRASHED, NULL, DOMAIN_CRASHED, "unknown", .vague = true},

	{CAUSE_SHUTDOWN, NULL, DOMAIN_SHUTDOWN, "unknown", .vague = true},

	{CAUSE_STOPPED, "shutdown", DOMAIN_SHUTOFF, "shutdown"},
	{CAUSE_STOPPED, "destroyed", DOMAIN_SHUTOFF, "destroyed"},
	{CAUSE_STOPPED, "crashed", DOMAIN_SHUTOFF, "crashed"},
	{CAUSE_STOPPED, "migrated", DOMAIN_SHUTOFF, "migrated"},
	{CAUSE_STOPPED, "saved", DOMAIN_SHUTOFF, "saved"},
	{CAUSE_STOPPED, "failed", DOMAIN_SHUTOFF, "failed"},
	{CAUSE_STOPPED, "from-snapshot", DOMAIN_SHUTOFF, "from snapshot"},
	{CAUSE_STOPPED, NULL, DOMAIN_SHUTOFF, "unknown"},
};

const struct detail *detail_find(enum cause cause, const char *name)
{
	for (size_t i = 0; i < ELEMENTS(details); i++) {
		const struct detail *d = &details[i];

		if (d->cause == cause && (!d->name || (name && strcmp(d->name, name) == 0)))
			return d;
	}
	return NULL;
}

const struct detail *detail_find_started(const char *name, enum domain_state state)
{
	const struct detail *d = detail_find(CAUSE_STARTED, name);

	return d->state == state ? d : d + 1;
}

/*
 * The words of `virsh domstate --reason` (but "unknown", and "starting up", which no report explains), with the detail of the report that moves a domain there (Suspended to paused,
 * Resumed to running, Stopped to shutoff …), and the detail of the Started that begins there. "": several could, or none.
 */
static const struct word {
	enum domain_state state;
	const char *word;
	const char *moved, *started;
} words[] = {
	{DOMAIN_RUNNING, "booted", "", "booted"},
	{DOMAIN_RUNNING, "migrated", "migrated", "migrated"},
	{DOMAIN_RUNNING, "restored", "from-snapshot", "restored"},
	{DOMAIN_RUNNING, "from snapshot", "from-snapshot", "from-snapshot"},
	{DOMAIN_RUNNING, "unpaused", "unpaused", ""},
	{DOMAIN_RUNNING, "migration canceled", "unpaused", ""},
	{DOMAIN_RUNNING, "save canceled", "unpaused", ""},
	{DOMAIN_RUNNING, "event wakeup", "wakeup", ""},
	{DOMAIN_RUNNING, "crashed", "unpaused", ""},
	{DOMAIN_RUNNING, "post-copy", "postcopy", "migrated"},
	{DOMAIN_RUNNING, "post-copy failed", "postcopy-failed", "migrated"},

	{DOMAIN_PAUSED, "user", "paused", ""},
	{DOMAIN_PAUSED, "migrating", "migrated", ""},
	{DOMAIN_PAUSED, "saving", "paused", ""},
	{DOMAIN_PAUSED, "dumping", "paused", ""},
	{DOMAIN_PAUSED, "I/O error", "ioerror", ""},
	{DOMAIN_PAUSED, "watchdog", "watchdog", ""},
	{DOMAIN_PAUSED, "from snapshot", "from-snapshot", "from-snapshot"},
	{DOMAIN_PAUSED, "shutting down", "paused", ""},
	{DOMAIN_PAUSED, "creating snapshot", "paused", ""},
	{DOMAIN_PAUSED, "crashed", "paused", ""},
	{DOMAIN_PAUSED, "post-copy", "postcopy", "migrated"},
	{DOMAIN_PAUSED, "post-copy failed", "postcopy-failed", "migrated"},
	{DOMAIN_PAUSED, "api error", "api-error", ""},

	{DOMAIN_SHUTOFF, "shutdown", "shutdown", ""},
	{DOMAIN_SHUTOFF, "destroyed", "destroyed", ""},
	{DOMAIN_SHUTOFF, "crashed", "crashed", ""},
	{DOMAIN_SHUTOFF, "migrated", "migrated", ""},
	{DOMAIN_SHUTOFF, "saved", "saved", ""},
	{DOMAIN_SHUTOFF, "failed", "failed", ""},
	{DOMAIN_SHUTOFF, "from snapshot", "from-snapshot", ""},
	{DOMAIN_SHUTOFF, "daemon", "failed", ""},

	{DOMAIN_CRASHED, "panicked", "panicked", ""},
};

static const struct word *word_find(enum domain_state state, const char *word)
{
	for (size_t i = 0; i < ELEMENTS(words); i++)
		if (words[i].state == state && strcmp(words[i].word, word) == 0)
			return &words[i];
	return NULL;
}

bool word_fits(enum domain_state state, const char *word, const char *detail)
{
	const struct word *w = word_find(state, word);

	/* A word or a detail that libvirt does not have: its driver knows better. */
	if (!w || !detail)
		return true;
	for (size_t i = 0; i < ELEMENTS(details); i++)
		if (details[i].state == state && details[i].name && strcmp(details[i].name, detail) == 0)
			return strcmp(w->moved, detail) == 0;
	return true;
}

const char *word_to_detail(enum domain_state state, const char *word, bool started)
{
	const struct word *w = word_find(state, word);

	if (!w)
		return "";
	return started ? w->started : w->moved;
}
