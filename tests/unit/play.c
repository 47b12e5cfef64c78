/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "play.h"

_printf_(2, 3) static void append(struct play *p, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(p->story + p->length, sizeof(p->story) - p->length, format, ap);
	va_end(ap);
	p->length += (size_t)n;
	if (p->length >= sizeof(p->story))
		p->length = sizeof(p->story) - 1;
}

_printf_(2, 3) static void wrong(struct play *p, const char *format, ...)
{
	va_list ap;

	if (p->wrong[0])
		return;
	va_start(ap, format);
	vsnprintf(p->wrong, sizeof(p->wrong), format, ap);
	va_end(ap);
}

bool truth_exists(const struct truth *t)
{
	return t && ((t->active && !t->starting) || t->persistent);
}

/* One event as a word: Event(reason)[state or reason, where it is not what the event says]! when inferred. */
static void write_step(struct play *p, const char *event, const struct step *s)
{
	const char *state = s->after.exists ? domain_state_to_string(s->after.state) : "";

	append(p, "%s%s", p->length ? " " : "", event);
	if (s->reason[0])
		append(p, "(%s)", s->reason);
	if (p->kind == KIND_DOMAIN) {
		if (s->event == EVENT_STARTED && s->after.state != DOMAIN_RUNNING)
			append(p, "[%s]", state);
		if (s->event == EVENT_CRASHED && s->after.state != DOMAIN_CRASHED)
			append(p, "[%s]", state);
		if (s->event == EVENT_UPDATED)
			append(p, "[%s]", s->after.reason);
	}
	if (s->inferred)
		append(p, "!");
}

static void take(struct play *p, const struct observation *o)
{
	struct verdict *v = &p->verdict;
	bool existed = p->known.exists, added = false;

	lifecycle_judge(p->kind, &p->known, o, v);

	for (unsigned i = 0; i < v->n; i++) {
		const struct step *s = &v->steps[i];
		const char *event = s->event == EVENT_OTHER ? o->event : life_event_to_string(s->event);
		struct grammar_view view = {.active = s->after.active, .persistent = s->after.persistent, .id = s->after.id,
			.state = domain_state_to_string(s->after.state), .word = s->after.reason};
		const char *illegal = grammar_event(&p->grammar, p->kind, event, s->reason, s->after.exists ? &view : NULL);

		write_step(p, event, s);
		if (illegal)
			wrong(p, "%s: %s", event, illegal);
		if (s->after.exists == (s->event == EVENT_REMOVED))
			wrong(p, "%s: exists is %d afterwards", event, s->after.exists);
		if (s->event == EVENT_ADDED)
			added = true;
		p->n++;
		p->uninferred += !s->inferred;
	}
	if (grammar_rest(&p->grammar))
		wrong(p, "%s", grammar_rest(&p->grammar));
	if (v->after.exists != (v->n ? v->steps[v->n - 1].event != EVENT_REMOVED : existed))
		wrong(p, "what is known afterwards does not follow from the steps");
	if (v->n && memcmp(&v->after, &v->steps[v->n - 1].after, sizeof(v->after)) != 0)
		wrong(p, "after is not what the last step left");
	if (!v->n && v->after.exists &&
		(v->after.active != p->known.active || v->after.persistent != p->known.persistent ||
			v->after.id != p->known.id || v->after.state != p->known.state ||
			strcmp(v->after.reason, p->known.reason) != 0))
		wrong(p, "something changed without an event");
	if (added && (o->look != LOOK_SEEN || !v->fill))
		wrong(p, "Added, but nobody has seen a name");
	if (v->fill && o->look != LOOK_SEEN)
		wrong(p, "fill, but there is no look");
	if (v->fill && !v->after.exists && !added)
		wrong(p, "fill, but it does not exist");
	if (o->settled && (o->look == LOOK_SEEN || o->look == LOOK_GONE) && (v->settle || v->hold))
		wrong(p, "a settled look asks for another");
	if (v->hold && !v->settle)
		wrong(p, "held, but no look was asked for");

	/* The broker remembers an unknown object only for its early Resumed. */
	p->known = v->after.exists || v->after.early_run ? v->after : (struct life){0};
	p->settle = p->settle || v->settle;
	if (v->hold && p->n_held < 8)
		snprintf(p->held[p->n_held++], sizeof(p->held[0]), "%s", o->event);
}

void play(struct play *p, const struct play_report *r, enum look look, bool settled, const struct truth *t)
{
	struct seen seen = {.name = (char *)"x", .id = -1, .state = DOMAIN_SHUTOFF, .state_reason = (char *)"unknown"};
	struct observation o = {.kind = p->kind, .cause = r->cause, .reason = (char *)r->detail, .run = r->run,
		.event = (char *)r->event, .look = look, .settled = settled};

	if (look == LOOK_SEEN && t && (t->active || t->persistent)) {
		seen.active = t->active;
		seen.persistent = t->persistent;
		seen.starting = t->starting;
		seen.state_reason = (char *)t->word;
		if (t->active) {
			seen.id = t->id;
			seen.state = t->state;
		}
		o.seen = &seen;
	} else if (look == LOOK_SEEN) {
		o.look = LOOK_GONE;
	}
	take(p, &o);

	if (settled && (o.look == LOOK_SEEN || o.look == LOOK_GONE)) {
		unsigned n = p->n_held;

		p->settle = false;
		p->n_held = 0;
		for (unsigned i = 0; i < n; i++) {
			char event[32];
			struct observation held = {.kind = p->kind, .cause = CAUSE_OTHER, .event = event, .look = LOOK_NONE};

			snprintf(event, sizeof(event), "%s", p->held[i]);
			if (p->known.exists)
				take(p, &held);
		}
	}
}

void play_settled(struct play *p, const struct truth *t)
{
	static const struct play_report none = {.cause = CAUSE_NONE};

	play(p, &none, LOOK_SEEN, true, t);
}

void play_begin(struct play *p, enum kind kind)
{
	memset(p, 0, sizeof(*p));
	p->kind = kind;
}

void play_begin_with(struct play *p, enum kind kind, const struct truth *t)
{
	play_begin(p, kind);
	play_settled(p, t);
	p->story[0] = '\0';
	p->length = 0;
	p->n = p->uninferred = 0;
}

bool play_agrees(const struct play *p, const struct truth *t)
{
	const struct life *l = &p->known;
	bool active = t && t->active && !t->starting;

	if (l->exists != truth_exists(t))
		return false;
	if (!l->exists)
		return true;
	if (l->active != active || l->persistent != t->persistent)
		return false;
	if (p->kind != KIND_DOMAIN)
		return true;
	/* What starts hides how it ended. */
	if (t->active && t->starting)
		return l->id == -1 && l->state == DOMAIN_SHUTOFF;
	if (active ? l->id != t->id && t->id > 0 : l->id != -1)
		return false;
	return l->state == (active ? t->state : DOMAIN_SHUTOFF) &&
	       strcmp(l->reason, t->word) == 0;
}
