/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "drivers/driver.h"

/*
 * The grammar: (what is known, what was reported and seen) -> legal events, in legal order. Pure: no I/O, no clock,
 * no allocation. Promises P8 to P12 of doc/contract.md live here and nowhere else.
 *
 * The cause drives, the look fills in. A look runs ahead of the event it came with (libvirt's Resumed finds `paused`,
 * its Stopped finds the next run), so a look makes a transition only when it is settled: nothing else was on its way.
 * Whatever does not fit (a look that disagrees with what the cause left behind) is no event but a question:
 * verdict.settle asks for a settled look, which then repairs what reports lost, as inferred events.
 *
 * Runs. The number of a run (libvirt's domain ID) says which run a report speaks of: a report of a run that has ended
 * is late and absorbed. Numbers grow during one life of the hypervisor's daemon only, so lifecycle_reconnected() must be
 * called for every object when a connection is made anew. Where numbers are used again all the same (a process id
 * that wrapped around), Started is taken for late, and told as inferred by the settled look that its own look asks for.
 */

/* What the grammar knows of an object. Zero-initialised: it does not exist. */
struct life {
	bool exists;
	bool active, persistent;
	int id; /* of the run; -1 inactive; 0 when the hypervisor has no numbers */
	enum domain_state state; /* domains only */
	char reason[32];	 /* domains: word of `virsh domstate --reason` */
	/* Memory of the grammar, not shown to anybody. */
	int early_run;	   /* Resumed of this run was absorbed, its Started is still to come; 0: none. -1: of a run without number */
	bool fresh_paused; /* started paused, and nothing since: the Suspended right behind belongs to it */
	int last_run;	   /* highest run that has ended: a report of it is late */
};

/* The grammar's events, in the contract's names. EVENT_OTHER carries the hypervisor's own name. */
enum life_event {
	EVENT_ADDED,
	EVENT_DEFINED,
	EVENT_STARTED,
	EVENT_SUSPENDED,
	EVENT_RESUMED,
	EVENT_PMSUSPENDED,
	EVENT_CRASHED,
	EVENT_SHUTDOWN,
	EVENT_STOPPED,
	EVENT_UNDEFINED,
	EVENT_REMOVED,
	EVENT_UPDATED,
	EVENT_OTHER,
	LIFE_EVENT_MAX
};
const char *life_event_to_string(enum life_event e); /* "Added" …; "" for OTHER */

struct step {
	enum life_event event;
	char reason[32];
	bool inferred;
	struct life after; /* what is known once this event is out */
};

#define STEPS_MAX 8

struct verdict {
	/*
	 * Legal only together and in this order. One verdict can end a life and begin the next (… Removed, Added …).
	 * Whenever there is an Added among them, the observation has a look (SEEN), so there is a name.
	 */
	struct step steps[STEPS_MAX];
	unsigned n;
	/*
	 * The look's other properties (memory, title, XML …) may be taken over: with the first step (with Added, when
	 * there is one), or, when there is none and something differs, as Updated. False when the look is of another
	 * run, or of something that does not exist yet or any more; and when a report was absorbed (any but a Defined):
	 * what its look saw belongs to the reports behind it.
	 */
	bool fill;
	/*
	 * What is known afterwards. Always valid; equal to that of the last step if there are any. Hidden memory can
	 * change without a step: keep @after. When @after does not exist but has early_run, remember it
	 * beside the records and hand it in as @known the next time; otherwise forget whatever was remembered.
	 */
	struct life after;
	/*
	 * Ask the driver for a settled look (one at a time is enough for an object). A settled look never asks for another;
	 * when it FAILED it is for the broker to repeat it, not at once.
	 */
	bool settle;
	/*
	 * An OTHER of an object that is unknown: judge it again, with LOOK_NONE in place of its own, old look, behind the
	 * settled look asked for; when the object is unknown even then, drop it.
	 */
	bool hold;
};

/*
 * lifecycle_judge() - what does a report make of what is known?
 * @kind:  DOMAIN, POOL or NETWORK
 * @known: the object as last told to clients
 * @o:     the report; only read
 * @ret:   filled completely
 */
void lifecycle_judge(enum kind kind, const struct life *known, const struct observation *o, struct verdict *ret);

/* The connection is closed: Removed (closed), in any state. */
void lifecycle_close(const struct life *known, struct verdict *ret);

/* The connection was made anew: nothing of before is on its way any more, and runs may be numbered anew. */
void lifecycle_reconnected(struct life *known);
