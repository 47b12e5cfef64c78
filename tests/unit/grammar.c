/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "grammar.h"
#include "util/macros.h"

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static bool runs(const char *state)
{
	return is(state, "running") || is(state, "blocked") || is(state, "nostate");
}

/* P10, each event's own: what may be before, what must be behind. */
static const char *check_domain(const struct grammar *g, const char *event, const char *reason,
				const struct grammar_view *after)
{
	static const char *const only_active[] = {"Suspended", "Resumed", "PMSuspended", "Crashed", "Shutdown"};
	bool listed = false;

	for (size_t i = 0; i < ELEMENTS(only_active); i++)
		listed = listed || is(event, only_active[i]);
	if (listed && !g->active)
		return "only an active domain can be suspended, resumed, crash or shut down";
	if (listed && !after->active)
		return "only Stopped makes a domain inactive";

	if (after->active == is(after->state, "shutoff"))
		return "State is shutoff when the domain is inactive, and only then";
	if (!after->active && after->id != -1)
		return "an inactive domain has an ID";
	if (after->active && after->id < 0)
		return "an active domain has the ID -1";

	if (is(event, "Started"))
		return NULL;
	if (is(event, "Suspended")) {
		if (is(g->state, "paused"))
			return "Suspended, but it was paused already";
		return is(after->state, "paused") ? NULL : "Suspended, but State is not paused";
	}
	if (is(event, "Resumed")) {
		if (runs(g->state))
			return "Resumed, but it was running";
		return runs(after->state) ? NULL : "Resumed, but State is not running";
	}
	if (is(event, "PMSuspended")) {
		if (is(g->state, "pmsuspended"))
			return "PMSuspended twice";
		return is(after->state, "pmsuspended") ? NULL : "PMSuspended, but State is not pmsuspended";
	}
	if (is(event, "Crashed")) {
		if (is(g->state, "crashed"))
			return "Crashed twice";
		if (is(reason, "crashloaded"))
			return is(after->state, g->state) ? NULL : "Crashed (crashloaded) changed the State";
		return is(after->state, "crashed") ? NULL : "Crashed, but State is not crashed";
	}
	if (is(event, "Shutdown")) {
		if (is(g->state, "shutdown"))
			return "Shutdown twice";
		return is(after->state, "shutdown") ? NULL : "Shutdown, but State is not shutdown";
	}
	if (is(event, "Stopped"))
		return NULL;
	if (!is(after->state, g->state) && !(is(event, "Updated") && runs(after->state) && runs(g->state)))
		return "an event that is none of a change of state changed State";
	if (!is(event, "Updated") && after->word && !is(after->word, g->word))
		return "an event that is none of a change of state changed Reason";
	return NULL;
}

static const char *check(const struct grammar *g, enum kind kind, const char *event, const char *reason,
			 const struct grammar_view *after)
{
	const char *wrong;

	if (is(event, "Added")) {
		if (g->alive)
			return "Added twice";
		if (after->active || after->persistent)
			return "Added is inactive and not persistent yet";
		return NULL;
	}
	if (!g->alive)
		return "an event of an object that does not exist";
	if (is(event, "Removed")) {
		if (is(reason, "closed"))
			return NULL;
		if (g->active || g->persistent)
			return "Removed, but it was active or persistent";
		return g->since_added > 1 ? NULL : "Removed right behind Added";
	}

	if (!g->active && !g->persistent) {
		if (g->since_added > 1)
			return "neither active nor persistent, but not Removed";
		if (!is(event, "Defined") && !is(event, "Started"))
			return "Added is followed by Defined or Started";
	}

	if (is(event, "Defined")) {
		if (!after->persistent)
			return "Defined, but not persistent";
		if (!g->persistent && !is(reason, "added"))
			return "it becomes persistent, but the reason is not added";
		if (g->persistent && !is(reason, "updated") && !is(reason, "renamed") && !is(reason, "from-snapshot"))
			return "Defined while persistent is updated, renamed or from-snapshot";
	} else if (is(event, "Undefined")) {
		if (!g->persistent)
			return "Undefined, but it was not persistent";
		if (after->persistent)
			return "Undefined, but still persistent";
	} else if (after->persistent != g->persistent) {
		return "only Defined and Undefined change persistence";
	}

	if (is(event, "Started")) {
		if (g->active)
			return "Started, but it was active";
		if (!after->active)
			return "Started, but not active";
	} else if (is(event, "Stopped")) {
		if (!g->active)
			return "Stopped, but it was not active";
		if (after->active)
			return "Stopped, but still active";
	} else if (after->active != g->active) {
		return "only Started and Stopped change whether it is active";
	}

	if (kind != KIND_DOMAIN) {
		static const char *const of_domains[] = {"Suspended", "Resumed", "PMSuspended", "Crashed", "Shutdown"};

		for (size_t i = 0; i < ELEMENTS(of_domains); i++)
			if (is(event, of_domains[i]))
				return "an event that only domains have";
		return NULL;
	}
	wrong = check_domain(g, event, reason, after);
	if (wrong)
		return wrong;
	/* A run keeps its number; one that was not known may become known. */
	if (g->active && after->active && after->id != g->id && g->id != 0)
		return "the ID changed, but it was not Stopped and Started";
	return NULL;
}

const char *grammar_event(struct grammar *g, enum kind kind, const char *event, const char *reason,
			  const struct grammar_view *after)
{
	static const struct grammar_view none = {.id = -1, .state = "", .word = ""};
	const char *wrong = check(g, kind, event, reason, after ? after : &none);

	if (is(event, "Removed") || !after) {
		memset(g, 0, sizeof(*g));
		return wrong;
	}
	g->since_added = is(event, "Added") ? 1 : g->since_added + 1;
	g->alive = true;
	g->active = after->active;
	g->persistent = after->persistent;
	g->id = after->id;
	snprintf(g->state, sizeof(g->state), "%s", after->state ? after->state : "");
	snprintf(g->word, sizeof(g->word), "%s", after->word ? after->word : "");
	return wrong;
}

const char *grammar_rest(const struct grammar *g)
{
	return g->alive && !g->active && !g->persistent ? "neither active nor persistent, but it exists" : NULL;
}
