/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drivers/driver.h"

/*
 * What the details of reports and the reasons of states have to do with each other; for lifecycle.c only. The
 * details are libvirt's (VIR_DOMAIN_EVENT_SUSPENDED_IOERROR: "ioerror"), the words are virsh's ("I/O error").
 */

/* What a report leaves behind when the look cannot tell. */
struct detail {
	enum cause cause;
	const char *name; /* NULL: any other detail, or none */
	enum domain_state state;
	const char *word;
	/*
	 * The detail says little (every suspend of a save, a dump, a user is "paused"): of a domain that is in that state
	 * already it is no news, unless a look says so.
	 */
	bool vague;
};

/* Never NULL for a cause that leaves a state behind. */
const struct detail *detail_find(enum cause cause, const char *name);
/* The same, for a Started that is known to have left @state (running or paused) behind. */
const struct detail *detail_find_started(const char *name, enum domain_state state);

/*
 * Can @word of @state be what a report with this detail left behind? A look runs ahead: the `I/O error` that it found
 * with Suspended (paused) is the next report's, and that one shall have something to tell.
 */
bool word_fits(enum domain_state state, const char *word, const char *detail);

/* The detail that a report would have had, judging by where it ended; "" when several could. */
const char *word_to_detail(enum domain_state state, const char *word, bool started);
