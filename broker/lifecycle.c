/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "lifecycle-words.h"
#include "lifecycle.h"

/* ---- the table ---------------------------------------------------------------------------------------------- */

/* Where an object stands towards a report: its state, or that the report is of another run than the known one. */
enum standing {
	UNKNOWN,  /* does not exist, as far as clients were told */
	INACTIVE, /* and so persistent */
	RUNNING,  /* running, blocked, nostate; an active pool or network */
	PAUSED,
	DOWN, /* the guest has shut down, the hypervisor still runs */
	CRASHED,
	ASLEEP, /* pmsuspended */
	PAST,	/* the report is of a run that has ended */
	NEXT,	/* active, and the report is of a later run: this one's Stopped was lost, or overtaken */
	STANDING_MAX
};

enum action {
	ABSORB = 1, /* changes nothing */
	LOOK,	    /* nothing was reported */
	DEFINE,	    /* [Added,] Defined */
	UNDEFINE,   /* Undefined, and Removed when inactive */
	START,	    /* [Added,] Started */
	RESTART,    /* Stopped (inferred) [, Removed, Added], Started */
	EARLY,	    /* of a run whose Started was not told: absorbed; a Resumed is remembered */
	ENDED,	    /* Stopped of a run whose Started was not told: a start that failed leaves no trace */
	MOVE,	    /* the cause's own event, and its state */
	AGAIN,	    /* in that state already: Updated when the reason changes */
	STOP,	    /* Stopped, and Removed when it is not persistent */
	TELL,	    /* an event of its own; state stays */
	HOLD,	    /* the same, behind a settled look that says what the object is */
};

/*
 * What each report means where the object stands. By row, what a legal story allows next:
 *
 *  UNKNOWN   Added, together with the Defined or Started that makes it exist
 *  INACTIVE  Defined, Undefined (and with it Removed), Started
 *  RUNNING   Defined, Undefined, Suspended, PMSuspended, Crashed, Shutdown, Stopped
 *  PAUSED    Defined, Undefined, Resumed, PMSuspended, Crashed, Shutdown, Stopped
 *  DOWN      Defined, Undefined, Suspended, Resumed, PMSuspended, Crashed, Stopped
 *  CRASHED   Defined, Undefined, Suspended, Resumed, PMSuspended, Shutdown, Stopped
 *  ASLEEP    Defined, Undefined, Suspended, Resumed, Crashed, Shutdown, Stopped
 *  all       Updated, the hypervisor's own events, Removed (closed)
 *
 * PAST and NEXT are no states: they are chosen for reports of one run only (from Started to Stopped).
 */
/* clang-format off */
static const enum action table[][CAUSE_MAX] = {
/*               NONE   DEFINED  UNDEFINED  STARTED   SUSPENDED  RESUMED  PMSUSPENDED  CRASHED  SHUTDOWN  STOPPED  OTHER */
[UNKNOWN]  = {   LOOK,  DEFINE,  ABSORB,    START,    EARLY,     EARLY,   EARLY,       EARLY,   EARLY,    ENDED,   HOLD },
[INACTIVE] = {   LOOK,  DEFINE,  UNDEFINE,  START,    EARLY,     EARLY,   EARLY,       EARLY,   EARLY,    ENDED,   TELL },
[RUNNING]  = {   LOOK,  DEFINE,  UNDEFINE,  ABSORB,   MOVE,      AGAIN,   MOVE,        MOVE,    MOVE,     STOP,    TELL },
[PAUSED]   = {   LOOK,  DEFINE,  UNDEFINE,  ABSORB,   AGAIN,     MOVE,    MOVE,        MOVE,    MOVE,     STOP,    TELL },
[DOWN]     = {   LOOK,  DEFINE,  UNDEFINE,  ABSORB,   MOVE,      MOVE,    MOVE,        MOVE,    AGAIN,    STOP,    TELL },
[CRASHED]  = {   LOOK,  DEFINE,  UNDEFINE,  ABSORB,   MOVE,      MOVE,    MOVE,        AGAIN,   MOVE,     STOP,    TELL },
[ASLEEP]   = {   LOOK,  DEFINE,  UNDEFINE,  ABSORB,   MOVE,      MOVE,    AGAIN,       MOVE,    MOVE,     STOP,    TELL },
[PAST]     = {   0,     0,       0,         ABSORB,   ABSORB,    ABSORB,  ABSORB,      ABSORB,  ABSORB,   ABSORB,  0    },
[NEXT]     = {   0,     0,       0,         RESTART,  EARLY,     EARLY,   EARLY,       EARLY,   EARLY,    ENDED,   0    },
};
/* clang-format on */
static_assert(ELEMENTS(table) == STANDING_MAX, "a row for each standing");
static_assert(CAUSE_NONE == 0 && CAUSE_DEFINED == 1 && CAUSE_UNDEFINED == 2 && CAUSE_STARTED == 3 &&
		      CAUSE_SUSPENDED == 4 && CAUSE_RESUMED == 5 && CAUSE_PMSUSPENDED == 6 && CAUSE_CRASHED == 7 &&
		      CAUSE_SHUTDOWN == 8 && CAUSE_STOPPED == 9 && CAUSE_OTHER == 10 && CAUSE_MAX == 11,
	"the table's columns are in the order of enum cause; a new one needs its place in causes_of and details too");

/* Reports of one run; the others are of the object. */
#define OF_A_RUN                                                                                             \
	(1u << CAUSE_STARTED | 1u << CAUSE_SUSPENDED | 1u << CAUSE_RESUMED | 1u << CAUSE_PMSUSPENDED |           \
		1u << CAUSE_CRASHED | 1u << CAUSE_SHUTDOWN | 1u << CAUSE_STOPPED)

#define OF_AN_OBJECT (1u << CAUSE_NONE | 1u << CAUSE_DEFINED | 1u << CAUSE_UNDEFINED | 1u << CAUSE_OTHER)

/* What can be reported at all; anything else is taken for a look. */
static const unsigned causes_of[] = {
	[KIND_CONNECTION] = 0,
	[KIND_DOMAIN] = OF_AN_OBJECT | OF_A_RUN,
	[KIND_POOL] = OF_AN_OBJECT | 1u << CAUSE_STARTED | 1u << CAUSE_STOPPED,
	[KIND_NETWORK] = OF_AN_OBJECT | 1u << CAUSE_STARTED | 1u << CAUSE_STOPPED,
	[KIND_JOB] = 0,
};
static_assert(ELEMENTS(causes_of) == KIND_MAX, "a mask for each kind");

/* What a state means for a report that comes next, and the event of whatever moved a domain there. */
static const struct {
	enum standing standing;
	enum life_event event;
} state_table[] = {
	[DOMAIN_NOSTATE] = {RUNNING, EVENT_RESUMED},
	[DOMAIN_RUNNING] = {RUNNING, EVENT_RESUMED},
	[DOMAIN_BLOCKED] = {RUNNING, EVENT_RESUMED},
	[DOMAIN_PAUSED] = {PAUSED, EVENT_SUSPENDED},
	[DOMAIN_SHUTDOWN] = {DOWN, EVENT_SHUTDOWN},
	[DOMAIN_SHUTOFF] = {INACTIVE, EVENT_STOPPED},
	[DOMAIN_CRASHED] = {CRASHED, EVENT_CRASHED},
	[DOMAIN_PMSUSPENDED] = {ASLEEP, EVENT_PMSUSPENDED},
};
static_assert(ELEMENTS(state_table) == DOMAIN_STATE_MAX, "a row for each state");

static const char *const event_names[] = {
	[EVENT_ADDED] = "Added",
	[EVENT_DEFINED] = "Defined",
	[EVENT_STARTED] = "Started",
	[EVENT_SUSPENDED] = "Suspended",
	[EVENT_RESUMED] = "Resumed",
	[EVENT_PMSUSPENDED] = "PMSuspended",
	[EVENT_CRASHED] = "Crashed",
	[EVENT_SHUTDOWN] = "Shutdown",
	[EVENT_STOPPED] = "Stopped",
	[EVENT_UNDEFINED] = "Undefined",
	[EVENT_REMOVED] = "Removed",
	[EVENT_UPDATED] = "Updated",
	[EVENT_OTHER] = "",
};
static_assert(ELEMENTS(event_names) == LIFE_EVENT_MAX, "a name for each event");

const char *life_event_to_string(enum life_event e)
{
	return (unsigned)e < LIFE_EVENT_MAX ? event_names[e] : "";
}

/* ---- one judgement ------------------------------------------------------------------------------------------ */

/* The look, as the grammar takes it: what starts, or is nothing any more, does not exist. */
struct view {
	bool usable; /* SEEN or GONE */
	bool exists, active, persistent, starting;
	int id;
	enum domain_state state;
	char reason[32];
};

struct judgement {
	enum kind kind;
	const struct observation *o;
	struct view view;
	struct life now; /* as it stands after the steps so far */
	struct verdict *verdict;
	bool added;    /* the name comes from the look, of whichever run it is */
	bool absorbed; /* the look belongs to reports that come behind */
	bool ask;      /* for a settled look, even if this one agrees */
};

/* A word is short ASCII, whatever came: it goes into properties and events. */
static void word_set(char dst[static 32], const char *src)
{
	size_t i = 0;

	for (; src && src[i] && i < 31; i++)
		dst[i] = src[i] >= ' ' && src[i] <= '~' ? src[i] : '?';
	memset(dst + i, 0, 32 - i);
}

static void view_make(struct view *v, enum kind kind, const struct observation *o)
{
	const struct seen *s = o->seen;

	*v = (struct view){.id = -1};
	if (o->look == LOOK_GONE) {
		v->usable = true;
		return;
	}
	if (o->look != LOOK_SEEN || !s)
		return;

	v->usable = true;
	v->starting = s->active && s->starting;
	v->active = s->active && !s->starting;
	v->persistent = s->persistent;
	v->exists = v->active || v->persistent;
	if (v->active)
		v->id = s->id > 0 ? s->id : 0;
	if (kind != KIND_DOMAIN)
		return;

	v->state = (unsigned)s->state < DOMAIN_STATE_MAX ? s->state : DOMAIN_NOSTATE;
	word_set(v->reason, s->state_reason && s->state_reason[0] ? s->state_reason : "unknown");
	if (v->active) {
		/* libvirt's id and state are two calls: shut off between them */
		if (v->state == DOMAIN_SHUTOFF)
			v->state = DOMAIN_NOSTATE;
	} else {
		v->state = DOMAIN_SHUTOFF;
	}
}

static bool same_run(int a, int b)
{
	return a <= 0 || b <= 0 || a == b;
}

/* Does the look show @run (<= 0: any) alive? */
static bool view_of_run(const struct view *v, int run)
{
	return v->usable && v->active && same_run(v->id, run);
}

/* Is it a look at what stands now, so that what else was seen belongs to it? */
static bool view_of_now(const struct judgement *j)
{
	const struct view *v = &j->view;

	return v->usable && !v->starting && v->exists && j->now.exists && v->active == j->now.active &&
	       v->persistent == j->now.persistent && (!v->active || same_run(v->id, j->now.id));
}

static bool state_agrees(const struct judgement *j)
{
	const struct view *v = &j->view;

	if (j->kind != KIND_DOMAIN)
		return true;
	/* A number can become known, but never unknown again. */
	if (v->id != j->now.id && v->id != 0)
		return false;
	/* What starts says nothing of how the last run ended. */
	return v->starting || (v->state == j->now.state && strcmp(v->reason, j->now.reason) == 0);
}

static bool view_agrees(const struct judgement *j)
{
	const struct view *v = &j->view;

	if (!v->exists || !j->now.exists)
		return v->exists == j->now.exists;
	return v->active == j->now.active && v->persistent == j->now.persistent && state_agrees(j);
}

static enum standing standing_of_state(const struct judgement *j, enum domain_state state)
{
	return j->kind == KIND_DOMAIN ? state_table[state].standing : RUNNING;
}

static enum standing standing(const struct judgement *j, enum cause cause)
{
	int run = j->o->run;

	if (j->kind == KIND_DOMAIN && run > 0 && (OF_A_RUN & 1u << cause)) {
		if (j->now.active && j->now.id > 0 && run != j->now.id)
			return run < j->now.id || run <= j->now.last_run ? PAST : NEXT;
		if (!j->now.active && run <= j->now.last_run)
			return PAST;
	}
	if (!j->now.exists)
		return UNKNOWN;
	if (!j->now.active)
		return INACTIVE;
	return standing_of_state(j, j->now.state);
}

static void tell(struct judgement *j, enum life_event event, const char *reason, bool inferred)
{
	struct step *s = &j->verdict->steps[j->verdict->n];

	/* The longest: Stopped, Removed, Added, Started, and a settled look that saw a third run. */
	assert(j->verdict->n < STEPS_MAX);
	*s = (struct step){.event = event, .inferred = inferred, .after = j->now};
	word_set(s->reason, reason);
	j->verdict->n++;
}

/* ---- beginnings and ends ------------------------------------------------------------------------------------ */

static void add(struct judgement *j, bool inferred)
{
	const struct view *v = &j->view;

	j->now = (struct life){.exists = true, .id = -1, .early_run = j->now.early_run};
	if (j->kind == KIND_DOMAIN) {
		bool seen = v->usable && !v->active && !v->starting;

		j->now.state = DOMAIN_SHUTOFF;
		word_set(j->now.reason, seen ? v->reason : "unknown");
	}
	j->added = true;
	tell(j, EVENT_ADDED, "", inferred);
}

static void remove_(struct judgement *j, const char *reason, bool inferred)
{
	/* The next life's Resumed may have come already. */
	struct life gone = {.early_run = j->now.early_run};

	j->now = gone;
	tell(j, EVENT_REMOVED, reason, inferred);
}

/* Nothing can be added that has no name, and nothing that cannot be found. */
static bool can_add(const struct judgement *j)
{
	return j->o->look == LOOK_SEEN && j->o->seen;
}

static void become_active(struct judgement *j, int run, enum domain_state state, const char *word)
{
	j->now.active = true;
	j->now.id = run > 0 ? run : 0;
	if (j->now.id > 0 && j->now.id <= j->now.last_run)
		j->now.last_run = 0; /* numbered anew */
	if (j->now.early_run == -1 || run <= 0 || j->now.early_run <= run)
		j->now.early_run = 0;
	if (j->kind != KIND_DOMAIN)
		return;
	j->now.state = state;
	word_set(j->now.reason, word);
}

static void stop(struct judgement *j, const char *reason, const char *word, bool inferred)
{
	const struct view *v = &j->view;
	int run = j->now.id;

	if (run > j->now.last_run)
		j->now.last_run = run;
	j->now.active = false;
	j->now.id = -1;
	j->now.fresh_paused = false;
	if (j->kind == KIND_DOMAIN) {
		bool seen = v->exists && !v->active && !v->starting && word_fits(v->state, v->reason, reason);

		j->now.state = DOMAIN_SHUTOFF;
		word_set(j->now.reason, seen ? v->reason : word);
	}
	tell(j, EVENT_STOPPED, reason, inferred);
	if (!j->now.persistent)
		remove_(j, "", inferred);
}

static void undefine(struct judgement *j, const char *reason, bool inferred)
{
	j->now.persistent = false;
	tell(j, EVENT_UNDEFINED, reason, inferred);
	if (!j->now.active)
		remove_(j, "", inferred);
}

/* ---- actions ------------------------------------------------------------------------------------------------ */

static void act_define(struct judgement *j, const char *detail)
{
	if (!j->now.exists) {
		if (!can_add(j)) {
			/* Gone again, or the report was faster than what it reports. */
			j->ask = true;
			return;
		}
		add(j, false);
	}
	if (!j->now.persistent) {
		j->now.persistent = true;
		tell(j, EVENT_DEFINED, "added", false);
	} else if (!detail || strcmp(detail, "added") != 0) {
		bool named = detail && (strcmp(detail, "renamed") == 0 || strcmp(detail, "from-snapshot") == 0);

		tell(j, EVENT_DEFINED, named ? detail : "updated", false);
	}
}

static void act_undefine(struct judgement *j, const char *detail)
{
	if (detail && strcmp(detail, "renamed") == 0) {
		/* Its Defined (renamed) follows; if that is lost, the look brings the new name. */
		j->absorbed = j->ask = true;
	} else if (j->now.persistent) {
		undefine(j, detail ? detail : "", false);
	} else {
		j->absorbed = true;
	}
}

static void act_start(struct judgement *j, const char *reason)
{
	const struct view *v = &j->view;
	int run = j->o->run > 0 ? j->o->run : v->active ? v->id : 0;
	bool early = j->now.early_run && (j->now.early_run == -1 || run <= 0 || j->now.early_run == run);
	bool alive = view_of_run(v, run);
	const struct detail *d = detail_find(CAUSE_STARTED, reason);
	enum domain_state state = d->state;

	if (!j->now.exists) {
		if (!can_add(j)) {
			j->ask = true;
			return;
		}
		add(j, false);
	}

	/* Without a Resumed before it, an ordinary boot and a paused start report the same: the look decides. */
	if (early)
		state = DOMAIN_RUNNING;
	else if (alive && standing_of_state(j, v->state) == PAUSED)
		state = DOMAIN_PAUSED;

	if (alive && standing_of_state(j, v->state) == standing_of_state(j, state))
		become_active(j, run, v->state, v->reason);
	else
		become_active(j, run, state, detail_find_started(reason, state)->word);
	j->now.fresh_paused = j->kind == KIND_DOMAIN && j->now.state == DOMAIN_PAUSED;
	tell(j, EVENT_STARTED, reason ? reason : "", false);
}

static void act_early(struct judgement *j, enum cause cause)
{
	int run = j->o->run > 0 ? j->o->run : -1;

	j->absorbed = true;
	if (!j->now.exists && j->o->look == LOOK_GONE)
		return;
	j->ask = true;
	if (cause != CAUSE_RESUMED) {
		/* It does not run any more: its Started is to look again. */
		if (same_run(j->now.early_run, run))
			j->now.early_run = 0;
	} else if (j->o->cause == CAUSE_RESUMED) { /* and not a wakeup */
		j->now.early_run = run;
	}
}

static void act_ended(struct judgement *j)
{
	int run = j->o->run;

	j->absorbed = true;
	/* Of a later run than the active one: that one must have ended too. */
	j->ask = j->now.active;
	if (same_run(j->now.early_run, run))
		j->now.early_run = 0;
	if (j->now.exists && run > j->now.last_run)
		j->now.last_run = run;
}

static void act_move(struct judgement *j, enum cause cause, const char *reason)
{
	const struct detail *d = detail_find(cause, reason);
	const struct view *v = &j->view;

	j->now.fresh_paused = false;
	if (cause == CAUSE_CRASHED && reason && strcmp(reason, "crashloaded") == 0) {
		/* The guest goes on, in its crash kernel. */
	} else if (view_of_run(v, j->now.id) && standing_of_state(j, v->state) == standing_of_state(j, d->state) &&
		   word_fits(v->state, v->reason, reason)) {
		j->now.state = v->state;
		word_set(j->now.reason, v->reason);
	} else {
		j->now.state = d->state;
		word_set(j->now.reason, d->word);
	}
	tell(j, state_table[d->state].event, reason ? reason : "", false);
}

static void act_again(struct judgement *j, enum cause cause, const char *reason)
{
	const struct detail *d = detail_find(cause, reason);
	const struct view *v = &j->view;
	const char *word = d->vague ? j->now.reason : d->word;

	if (j->now.fresh_paused && d->vague) {
		j->now.fresh_paused = false;
		j->absorbed = true;
		return;
	}
	j->now.fresh_paused = false;
	if (view_of_run(v, j->now.id) && v->state == j->now.state && word_fits(v->state, v->reason, reason))
		word = v->reason;
	if (strcmp(word, j->now.reason) == 0) {
		j->absorbed = true;
		return;
	}
	word_set(j->now.reason, word);
	tell(j, EVENT_UPDATED, reason ? reason : "", false);
}

/* ---- settled looks ------------------------------------------------------------------------------------------ */

/* The same run, in another state. */
static void reconcile_state(struct judgement *j)
{
	const struct view *v = &j->view;
	enum domain_state old = j->now.state;

	if (state_agrees(j))
		return;
	if (v->id != 0)
		j->now.id = v->id;
	j->now.state = v->state;
	word_set(j->now.reason, v->reason);
	j->now.fresh_paused = false;
	if (!v->active || standing_of_state(j, v->state) == standing_of_state(j, old))
		tell(j, EVENT_UPDATED, "", true);
	else
		tell(j, state_table[v->state].event, word_to_detail(v->state, v->reason, false), true);
}

/* The shortest legal way to what a settled look saw. Persistence comes first and goes last: it carries an inactive life. */
static void reconcile(struct judgement *j)
{
	const struct view *v = &j->view;
	bool same = j->now.active && v->active && same_run(j->now.id, v->id);

	if (v->exists && !j->now.exists)
		add(j, true);
	if (v->persistent && !j->now.persistent) {
		j->now.persistent = true;
		tell(j, EVENT_DEFINED, "added", true);
	}
	if (j->now.active && !same) {
		bool seen = v->exists && !v->active && !v->starting;

		stop(j, seen ? word_to_detail(DOMAIN_SHUTOFF, v->reason, false) : "", "unknown", true);
		if (v->exists && !j->now.exists)
			add(j, true);
	}
	if (v->active && !same) {
		become_active(j, v->id, v->state, v->reason);
		tell(j, EVENT_STARTED, word_to_detail(v->state, v->reason, true), true);
	} else if (j->now.exists && v->exists) {
		reconcile_state(j);
	}
	if (j->now.persistent && !v->persistent)
		undefine(j, "", true);

	/* Nothing is on its way, so what a Resumed announced has failed, unless it still starts. */
	if (!v->starting)
		j->now.early_run = 0;
}

/* ---- judging ------------------------------------------------------------------------------------------------ */

static void act(struct judgement *j, enum cause cause, const char *reason)
{
	switch (table[standing(j, cause)][cause]) {
	case LOOK:
		break;
	case ABSORB:
		j->absorbed = true;
		break;
	case DEFINE:
		act_define(j, reason);
		break;
	case UNDEFINE:
		act_undefine(j, reason);
		break;
	case RESTART:
		stop(j, "", "unknown", true);
		act_start(j, reason);
		break;
	case START:
		act_start(j, reason);
		break;
	case EARLY:
		act_early(j, cause);
		break;
	case ENDED:
		act_ended(j);
		break;
	case MOVE:
		act_move(j, cause, reason);
		break;
	case AGAIN:
		act_again(j, cause, reason);
		break;
	case STOP:
		stop(j, reason ? reason : "", detail_find(CAUSE_STOPPED, reason)->word, false);
		break;
	case TELL:
		tell(j, EVENT_OTHER, reason, false);
		break;
	case HOLD:
		/* Of something that is gone there is nothing to tell. */
		j->verdict->hold = j->ask = j->o->look != LOOK_GONE;
		break;
	}
}

void lifecycle_judge(enum kind kind, const struct life *known, const struct observation *o, struct verdict *ret)
{
	struct judgement j = {.kind = kind, .o = o, .now = *known, .verdict = ret};
	enum cause cause = causes_of[kind] & 1u << o->cause ? o->cause : CAUSE_NONE;
	bool settled;

	memset(ret, 0, sizeof(*ret));
	view_make(&j.view, kind, o);
	settled = o->settled && j.view.usable;

	/* Of an object that is unknown, an event is told once the settled look has added it. */
	if (settled && cause == CAUSE_OTHER && !j.now.exists) {
		reconcile(&j);
		if (j.now.exists)
			act(&j, cause, o->reason);
	} else if (cause == CAUSE_STARTED && o->reason && strcmp(o->reason, "wakeup") == 0) {
		act(&j, CAUSE_RESUMED, o->reason);
	} else {
		act(&j, cause, o->reason);
	}
	if (settled)
		reconcile(&j);

	ret->fill = j.added || ((settled || !j.absorbed) && view_of_now(&j));

	if (settled)
		ret->settle = false;
	else if (j.view.usable)
		ret->settle = j.ask || !view_agrees(&j);
	else
		ret->settle = j.ask || (o->look == LOOK_FAILED && cause != CAUSE_NONE);

	ret->after = j.now;
	if (ret->n > 0)
		ret->steps[ret->n - 1].after = j.now;
}

void lifecycle_close(const struct life *known, struct verdict *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (!known->exists)
		return;
	ret->steps[0] = (struct step){.event = EVENT_REMOVED, .reason = "closed"};
	ret->n = 1;
}

void lifecycle_reconnected(struct life *known)
{
	known->early_run = known->last_run = 0;
	known->fresh_paused = false;
}
