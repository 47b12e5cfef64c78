/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "timeline.h"

/* What both drawings need: the scale, and lives in pieces. */

const char *const life_words[LIFE_MAX] = {"not there", "off", "running", "paused", "crashed", "unknown"};

/* ---- the axis ------------------------------------------------------------------------------------------------------ */

uint64_t axis_step(uint64_t span, unsigned most)
{
	static const uint64_t steps[] = {
		1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, /* fractions of a second */
		1000000, 2000000, 5000000, 10000000, 15000000, 30000000, 60000000, 120000000, 300000000, 600000000, 900000000,
		1800000000, 3600000000, 7200000000, 10800000000, 21600000000, 43200000000, 86400000000, 172800000000,
		604800000000, 1209600000000, 2592000000000, 7776000000000, 31536000000000};

	for (size_t i = 0; i < ELEMENTS(steps); i++)
		if (span / steps[i] <= (most ? most : 1))
			return steps[i];
	return steps[ELEMENTS(steps) - 1];
}

uint64_t axis_first(uint64_t from, uint64_t step)
{
	time_t t = (time_t)(from / USEC_PER_SEC);
	int64_t shift = 0;
	struct tm tm;

	/* hours and days begin where they do here */
	if (step >= 60 * USEC_PER_SEC && localtime_r(&t, &tm))
		shift = (int64_t)tm.tm_gmtoff * (int64_t)USEC_PER_SEC;
	return (uint64_t)(((int64_t)from + shift + (int64_t)step - 1) / (int64_t)step * (int64_t)step - shift);
}

void axis_label(char *buffer, size_t n, uint64_t time, uint64_t step)
{
	time_t t = (time_t)(time / USEC_PER_SEC);
	struct tm tm;
	size_t used;

	if (!localtime_r(&t, &tm)) {
		(void)snprintf(buffer, n, "?");
		return;
	}
	if (step >= 86400 * USEC_PER_SEC || (step >= 60 * USEC_PER_SEC && tm.tm_hour == 0 && tm.tm_min == 0))
		(void)strftime(buffer, n, "%b %e", &tm);
	else if (step >= 60 * USEC_PER_SEC)
		(void)strftime(buffer, n, "%H:%M", &tm);
	else {
		used = strftime(buffer, n, "%H:%M:%S", &tm);
		if (step < USEC_PER_SEC)
			(void)snprintf(buffer + used, n - used, step >= 100000 ? ".%lu" : step >= 10000 ? ".%02lu" : ".%03lu",
				(unsigned long)(time % USEC_PER_SEC / (step >= 100000 ? 100000 : step >= 10000 ? 10000 : 1000)));
	}
}

/* ---- pieces -------------------------------------------------------------------------------------------------------- */

const struct followed *timeline_followed(const struct timeline *t, const struct lane *l)
{
	for (size_t i = 0; i < t->n_followed; i++)
		if (strcmp(t->followed[i].label, l->label) == 0)
			return &t->followed[i];
	return NULL;
}

static size_t add_piece(struct span *pieces, size_t n, uint64_t from, uint64_t to, enum life life)
{
	if (from >= to)
		return n;
	if (n && pieces[n - 1].life == life && pieces[n - 1].to == from)
		pieces[n - 1].to = to;
	else
		pieces[n++] = (struct span){.from = from, .to = to, .life = life};
	return n;
}

size_t lane_pieces(const struct timeline *t, const struct lane *l, struct span **ret)
{
	const struct followed *w = timeline_followed(t, l);
	size_t n_gaps = w ? w->n_gaps : 0, n = 0;
	struct span *pieces = calloc(l->n_spans * 2 + n_gaps * 2 + 4, sizeof(*pieces));

	if (!pieces)
		return 0;
	for (size_t i = 0; i < l->n_spans; i++) {
		uint64_t from = l->spans[i].from > t->from ? l->spans[i].from : t->from;
		uint64_t to = l->spans[i].to < t->to ? l->spans[i].to : t->to;

		/* before history */
		if (from < t->begin) {
			n = add_piece(pieces, n, from, to < t->begin ? to : t->begin, LIFE_UNKNOWN);
			from = t->begin;
		}
		for (size_t g = 0; g <= n_gaps && from < to; g++) {
			uint64_t gap = g < n_gaps ? w->gaps[g].from : w && w->lost ? w->lost : UINT64_MAX;
			uint64_t end = g < n_gaps ? w->gaps[g].to : UINT64_MAX;

			if (end <= from || gap >= to)
				continue;
			n = add_piece(pieces, n, from, gap, l->spans[i].life);
			n = add_piece(pieces, n, gap > from ? gap : from, end < to ? end : to,
				l->spans[i].life == LIFE_NONE ? LIFE_NONE : LIFE_UNKNOWN);
			from = end < to ? end : to;
		}
		n = add_piece(pieces, n, from, to, l->spans[i].life);
	}
	*ret = pieces;
	return n;
}

double lane_share(const struct timeline *t, const struct lane *l)
{
	_cleanup_(freep) struct span *pieces = NULL;
	size_t n = lane_pieces(t, l, &pieces);
	double active = 0, all = 0;

	for (size_t i = 0; i < n; i++) {
		double length = (double)(pieces[i].to - pieces[i].from);

		if (pieces[i].life == LIFE_NONE || pieces[i].life == LIFE_UNKNOWN)
			continue;
		all += length;
		active += pieces[i].life == LIFE_RUNNING ? length : 0;
	}
	return all > 0 ? active / all : -1;
}

bool job_is_notable(const struct timeline *t, const struct job_span *j)
{
	static const char *const plain[] = {"start", "shutdown", "destroy", "suspend", "resume", "reset", "reboot", "undefine",
					    "pm-wakeup", "set-autostart", "rename"};
	uint64_t to = j->to < t->to ? j->to : t->to, from = j->from > t->from ? j->from : t->from;

	if (from > t->to || j->to < t->from)
		return false;
	if (j->state == JOB_FAILED || j->state == JOB_CANCELLED)
		return true;
	for (size_t i = 0; i < ELEMENTS(plain); i++)
		if (strcmp(plain[i], j->operation) == 0)
			return to > from && to - from > (t->to - t->from) / 50;
	return true;
}
