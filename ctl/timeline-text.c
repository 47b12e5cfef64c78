/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "timeline.h"

/*
 * In the terminal: a line for each domain. Below it what jobs it had, where they are worth it; above all a scale. A cell
 * shows what the domain was for most of the cell's time, but nothing short is lost: what differs from both neighbours
 * has a cell of its own.
 */

#define CELL_RESTART (LIFE_MAX + MARK_MAX)

struct canvas {
	struct timeline *t;
	unsigned names, width; /* columns */
	const char *glyphs[LIFE_MAX];
	enum colour colours[LIFE_MAX];
};

static void choose_glyphs(struct canvas *v)
{
	static const char *const blocks[LIFE_MAX] = {" ", "▁", "▅", "▅", "▅", "░"};
	static const char *const shades[LIFE_MAX] = {" ", "▁", "█", "▒", "X", "?"};
	static const char *const ascii[LIFE_MAX] = {" ", "_", "#", "=", "X", "?"};
	static const enum colour colours[LIFE_MAX] = {PLAIN, DIM, GREEN, YELLOW, RED, DIM};
	/* without colours the shape has to say it */
	const char *const *chosen = !v->t->c->utf8 ? ascii : v->t->c->colour ? blocks : shades;

	memcpy(v->glyphs, chosen, sizeof(v->glyphs));
	memcpy(v->colours, colours, sizeof(v->colours));
}

static double position(const struct canvas *v, uint64_t time)
{
	const struct timeline *t = v->t;

	if (time <= t->from)
		return 0;
	if (time >= t->to)
		return v->width;
	return (double)(time - t->from) * v->width / (double)(t->to - t->from);
}

static void spaces(unsigned n)
{
	printf("%*s", (int)n, "");
}

/* ---- the scale ----------------------------------------------------------------------------------------------------- */

static void print_scale(const struct canvas *v)
{
	const struct timeline *t = v->t;
	uint64_t step = axis_step(t->to - t->from, v->width / 12), tick;
	_cleanup_(freep) char *ruler = malloc(v->width + 1);
	unsigned at = 0;

	if (!ruler)
		return;
	memset(ruler, '-', v->width);
	ruler[v->width] = 0;
	spaces(v->names + 2);
	fputs(colour_on(t->c, DIM), stdout);
	for (tick = axis_first(t->from, step); tick <= t->to; tick += step) {
		unsigned x = (unsigned)position(v, tick);
		char label[32];

		axis_label(label, sizeof(label), tick, step);
		if (x >= v->width)
			break;
		ruler[x] = '+';
		/* the label begins at its tick */
		if (x >= at && x + strlen(label) <= v->width) {
			spaces(x - at);
			fputs(label, stdout);
			at = x + (unsigned)strlen(label) + 1;
			if (at <= v->width)
				putchar(' ');
		}
	}
	fputs("\n", stdout);
	spaces(v->names + 2);
	for (unsigned i = 0; i < v->width; i++)
		fputs(!t->c->utf8 ? (ruler[i] == '+' ? "+" : "-") : ruler[i] == '+' ? "┬" : "─", stdout);
	printf("%s\n", colour_off(t->c));
}

/* ---- lanes --------------------------------------------------------------------------------------------------------- */

/* One life for each cell. */
static void fill_cells(const struct canvas *v, const struct span *pieces, size_t n, unsigned *cells)
{
	_cleanup_(freep) double *most = calloc(v->width, sizeof(*most));

	for (unsigned i = 0; i < v->width; i++)
		cells[i] = LIFE_NONE;
	for (size_t k = 0; most && k < n; k++) {
		double from = position(v, pieces[k].from), to = position(v, pieces[k].to);

		for (unsigned i = (unsigned)from; i < v->width && i < to; i++) {
			double part = (to < i + 1 ? to : i + 1) - (from > i ? from : i);

			if (part >= most[i]) {
				most[i] = part;
				cells[i] = pieces[k].life;
			}
		}
	}
	/* what was so short that it got no cell gets the one it began in, unless that was one of these already */
	for (size_t k = 0; k < n; k++) {
		unsigned first = (unsigned)position(v, pieces[k].from), last = (unsigned)position(v, pieces[k].to);
		/* what lasts no longer than its own report, as inactive between Added and Started, is nobody's business */
		bool seen = pieces[k].to - pieces[k].from < 20 * USEC_PER_MSEC;

		for (unsigned i = first; i <= last && i < v->width; i++)
			seen = seen || cells[i] == pieces[k].life;
		if (!seen && first < v->width && pieces[k].life != LIFE_NONE)
			cells[first] = pieces[k].life;
	}
}

static void print_sign(const struct ctl *c, unsigned cell)
{
	static const struct {
		unsigned cell;
		const char *text, *ascii;
		enum colour colour;
	} signs[] = {{LIFE_MAX + MARK_REBOOT, "↻", "R", CYAN},
		     {LIFE_MAX + MARK_TROUBLE, "✖", "!", RED},
		     {CELL_RESTART, "┊", "|", DIM}};

	for (size_t i = 0; i < ELEMENTS(signs); i++)
		if (signs[i].cell == cell)
			printf("%s%s%s%s", colour_off(c), colour_on(c, signs[i].colour), c->utf8 ? signs[i].text : signs[i].ascii,
				colour_off(c));
}

static void print_lane(const struct canvas *v, const struct lane *l)
{
	_cleanup_(freep) struct span *pieces = NULL;
	_cleanup_(freep) unsigned *cells = calloc(v->width, sizeof(*cells));
	_cleanup_(freep) char *name = text_fit(v->t->c, l->name, v->names);
	size_t n = lane_pieces(v->t, l, &pieces);
	double share = lane_share(v->t, l);
	const struct followed *w = timeline_followed(v->t, l);
	unsigned last = LIFE_NONE;

	if (!cells || !name)
		return;
	fill_cells(v, pieces, n, cells);
	for (size_t i = 0; i < l->n_marks; i++) {
		unsigned x = (unsigned)position(v, l->marks[i].time);

		/* a cell of their own kind, beyond the states */
		if (l->marks[i].kind != MARK_INFERRED && l->marks[i].time >= v->t->from && x < v->width)
			cells[x] = LIFE_MAX + l->marks[i].kind;
	}
	for (size_t i = 0; w && i < w->n_restarts; i++) {
		unsigned x = (unsigned)position(v, w->restarts[i]);

		if (w->restarts[i] >= v->t->from && x < v->width)
			cells[x] = CELL_RESTART;
	}
	fputs(colour_on(v->t->c, BOLD), stdout);
	print_padded(stdout, name, v->names, true);
	fputs(colour_off(v->t->c), stdout);
	fputs("  ", stdout);
	for (unsigned i = 0; i < v->width; i++) {
		if (cells[i] >= LIFE_MAX) {
			print_sign(v->t->c, cells[i]);
			last = LIFE_NONE;
			continue;
		}
		if (cells[i] != last)
			printf("%s%s", colour_off(v->t->c), colour_on(v->t->c, v->colours[cells[i]]));
		fputs(v->glyphs[cells[i]], stdout);
		last = cells[i];
	}
	fputs(colour_off(v->t->c), stdout);
	if (share >= 0)
		printf(" %s%3.0f%%%s", colour_on(v->t->c, DIM), share * 100, colour_off(v->t->c));
	putchar('\n');
}

/* "├save──┤", or where there is no room "save"; those that would cover each other are left out. */
static void print_jobs(const struct canvas *v, const struct lane *l)
{
	const struct ctl *c = v->t->c;
	unsigned at = 0;
	bool any = false;

	for (size_t i = 0; i < l->n_jobs; i++) {
		const struct job_span *j = &l->jobs[i];
		unsigned first = (unsigned)position(v, j->from), end = (unsigned)(position(v, j->to) + 0.5), width;
		enum colour colour = j->state == JOB_FAILED ? RED : j->state == JOB_CANCELLED ? YELLOW : CYAN;
		const char *tail = j->state == JOB_FAILED ? (c->utf8 ? "✖" : "!") : j->state == JOB_CANCELLED ? (c->utf8 ? "⊘" : "0") : "";

		if (!job_is_notable(v->t, j))
			continue;
		width = text_width(j->operation) + text_width(tail) + 1;
		if (first + width > v->width)
			first = v->width > width ? v->width - width : 0;
		if ((any && first <= at) || width > v->width)
			continue;
		if (!any)
			spaces(v->names + 2);
		any = true;
		spaces(first - at);
		printf("%s%s%s%s", colour_on(c, colour), c->utf8 ? (end > first + width ? "├" : "╵") : "'", j->operation, tail);
		at = first + width;
		for (; at + 1 < end && at + 1 < v->width; at++)
			fputs(c->utf8 ? "─" : "-", stdout);
		if (end > first + width && at < v->width) {
			fputs(c->utf8 ? "┤" : "'", stdout);
			at++;
		}
		fputs(colour_off(c), stdout);
	}
	if (any)
		putchar('\n');
}

/* Goes on in the next line when the one is full. */
static void legend_entry(const struct canvas *v, unsigned *at, unsigned cell, const char *words)
{
	const struct ctl *c = v->t->c;
	unsigned width = text_width(words) + (cell < LIFE_MAX ? 3 : 2);

	if (*at > 0 && *at + 3 + width > v->width + 6) {
		putchar('\n');
		*at = 0;
	}
	spaces(*at ? 3 : v->names + 2);
	*at += (*at ? 3 : 0) + width;
	if (cell < LIFE_MAX)
		printf("%s%s%s%s", colour_on(c, v->colours[cell]), v->glyphs[cell], v->glyphs[cell], colour_off(c));
	else
		print_sign(c, cell);
	printf(" %s", words);
}

static void print_legend(const struct canvas *v)
{
	unsigned at = 0;

	putchar('\n');
	for (unsigned i = LIFE_OFF; i < LIFE_MAX; i++)
		legend_entry(v, &at, i, life_words[i]);
	legend_entry(v, &at, LIFE_MAX + MARK_REBOOT, "rebooted");
	legend_entry(v, &at, LIFE_MAX + MARK_TROUBLE, "trouble");
	legend_entry(v, &at, CELL_RESTART, "broker restarted");
	putchar('\n');
}

int timeline_print(struct timeline *t, unsigned columns)
{
	struct canvas v = {.t = t, .names = 8};
	const char *label = "";
	char from[64], to[64], length[64];

	for (size_t i = 0; i < t->n_lanes; i++) {
		unsigned w = text_width(t->lanes[i]->name);

		v.names = w > v.names ? w : v.names;
	}
	v.names = v.names > columns / 4 ? columns / 4 : v.names;
	v.width = columns - v.names - 2 - 6;
	choose_glyphs(&v);
	if (!t->c->no_legend)
		printf("%s – %s (%s)\n\n", format_time(from, sizeof(from), t->from), format_time(to, sizeof(to), t->to),
			format_span(length, sizeof(length), t->to - t->from));
	print_scale(&v);
	for (size_t i = 0; i < t->n_lanes; i++) {
		const struct lane *l = t->lanes[i];

		if (t->several && strcmp(label, l->label) != 0) {
			printf("%s%s%s\n", colour_on(t->c, DIM), l->label, colour_off(t->c));
			label = l->label;
		}
		print_lane(&v, l);
		print_jobs(&v, l);
	}
	if (!t->c->no_legend)
		print_legend(&v);
	return EXIT_OK;
}
