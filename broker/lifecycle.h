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
const char *life_event_to_string(enum life_event e);

struct step {
	enum life_event event;
	char reason[32];
	bool inferred;
	struct life after; /* what is known once this event is out */
};

#define STEPS_MAX 8

struct verdict {
	struct step steps[STEPS_MAX];
	unsigned n;
	/*
	 * The look's other properties (memory, title, XML …) may be taken over: with the first step, or, when there
	 * is none and something differs, as Updated. False when the look is of something that does not exist yet or
	 * any more.
	 */
	bool fill;
	/* Hidden memory (life.early_run …) changed without an event: keep @after. Always valid. */
	struct life after;
	bool settle; /* ask the driver for a settled look */
	bool hold;   /* an OTHER of an object that is unknown: ask for a settled look, judge this again behind it */
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
