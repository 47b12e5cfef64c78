/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <libxml/entities.h>
#include <string.h>

#include "timeline.h"

/*
 * As a picture: written by hand, without scripts or foreign fonts, so that it can be put on any page. What needs words
 * has a title element, which browsers show under the pointer.
 */

#define MARGIN 28
#define ROW 34	/* a domain without jobs */
#define BAR 16
#define JOBS 17 /* a line of jobs */
#define GROUP 30 /* heading of a connection */
#define TOP 116	/* title and upper scale */
#define RIGHT 62

struct drawing {
	struct timeline *t;
	FILE *f;
	double left, width; /* of the span of time */
	double y;
};

static const char *const life_classes[LIFE_MAX] = {NULL, "off", "running", "paused", "crashed", "unknown"};

static double x_of(const struct drawing *d, uint64_t time)
{
	const struct timeline *t = d->t;

	if (time <= t->from)
		return d->left;
	if (time >= t->to)
		return d->left + d->width;
	return d->left + (double)(time - t->from) * d->width / (double)(t->to - t->from);
}

static void escaped(FILE *f, const char *s)
{
	xmlChar *text = xmlEncodeSpecialChars(NULL, BAD_CAST s);

	if (text)
		fputs((const char *)text, f);
	xmlFree(text);
}

/* About as wide as a usual sans-serif makes it. */
static double text_pixels(const char *s, double size)
{
	return text_width(s) * size * 0.58;
}

static bool has_jobs(const struct timeline *t, const struct lane *l)
{
	for (size_t i = 0; i < l->n_jobs; i++)
		if (job_is_notable(t, &l->jobs[i]))
			return true;
	return false;
}

static double lane_height(const struct timeline *t, const struct lane *l)
{
	return ROW + (has_jobs(t, l) ? JOBS : 0);
}

static void title_of_span(FILE *f, const char *what, uint64_t from, uint64_t to)
{
	char one[64], two[64], length[64];

	fputs("<title>", f);
	escaped(f, what);
	fprintf(f, ": %s – %s (%s)</title>", format_time(one, sizeof(one), from), format_time(two, sizeof(two), to),
		format_span(length, sizeof(length), to > from ? to - from : 0));
}

/* ---- frame --------------------------------------------------------------------------------------------------------- */

static void write_style(FILE *f)
{
	fputs("<style>\n"
	      "text{font-family:Inter,'Segoe UI','DejaVu Sans',Helvetica,Arial,sans-serif;font-size:13px;fill:#1d2733}\n"
	      ".title{font-size:21px;font-weight:600}.small{font-size:11.5px;fill:#66717f}.tick{font-size:11px;fill:#66717f}\n"
	      ".group{font-size:11px;font-weight:600;letter-spacing:.08em;fill:#66717f}\n"
	      ".name{font-weight:500}.job-name{font-size:10.5px}.on-bar{stroke:#fff;stroke-width:5;paint-order:stroke;stroke-linejoin:round}\n"
	      ".grid{stroke:#e6eaef;stroke-width:1}.axis{stroke:#c4ccd6;stroke-width:1}.stripe{fill:#f7f9fb}\n"
	      ".running{fill:#2f9e6e}.paused{fill:#efb02e}.crashed{fill:#d64545}.unknown{fill:url(#hatch)}\n"
	      ".off{fill:#c9d0d9}.job-completed,.job-running{fill:#3b78d8}.job-failed{fill:#d64545}.job-cancelled{fill:#a8741a}\n"
	      ".mark-trouble{fill:#d64545;stroke:#fff;stroke-width:1.2}.mark-reboot{fill:#fff;stroke:#1d2733;stroke-width:1.4}\n"
	      ".mark-inferred{fill:#fff;stroke:#66717f;stroke-width:1.4}\n"
	      ".restart{stroke:#66717f;stroke-width:1.2;stroke-dasharray:3 3}\n"
	      "</style>\n",
		f);
	fputs("<defs><pattern id=\"hatch\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" "
	      "patternTransform=\"rotate(45)\"><rect width=\"7\" height=\"7\" fill=\"#eef1f5\"/>"
	      "<rect width=\"2.2\" height=\"7\" fill=\"#bcc5d0\"/></pattern></defs>\n",
		f);
}

static void write_head(struct drawing *d, double width, double height)
{
	const struct timeline *t = d->t;
	char from[64], to[64], length[64];

	fprintf(d->f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" role=\"img\">\n",
		width, height, width, height);
	fprintf(d->f, "<title>The lives of %zu domain%s</title>\n", t->n_lanes, t->n_lanes == 1 ? "" : "s");
	write_style(d->f);
	fprintf(d->f, "<rect width=\"%.0f\" height=\"%.0f\" fill=\"#fff\"/>\n", width, height);
	fprintf(d->f, "<text x=\"%d\" y=\"46\" class=\"title\">The lives of %zu domain%s</text>\n", MARGIN, t->n_lanes,
		t->n_lanes == 1 ? "" : "s");
	/* without milliseconds, which nobody wants to read up there */
	format_time(from, sizeof(from), t->from)[19] = 0;
	format_time(to, sizeof(to), t->to)[19] = 0;
	fprintf(d->f, "<text x=\"%d\" y=\"68\" class=\"small\">%s – %s · %s</text>\n", MARGIN, from, to,
		format_span(length, sizeof(length), t->to - t->from));
}

static void write_scale(struct drawing *d, double top, double bottom)
{
	const struct timeline *t = d->t;
	uint64_t step = axis_step(t->to - t->from, (unsigned)(d->width / 90));

	fprintf(d->f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"axis\"/>\n", d->left, top, d->left + d->width, top);
	for (uint64_t tick = axis_first(t->from, step); tick <= t->to; tick += step) {
		double x = x_of(d, tick);
		char label[32];

		axis_label(label, sizeof(label), tick, step);
		fprintf(d->f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>", x, top, x, bottom);
		fprintf(d->f, "<text x=\"%.1f\" y=\"%.1f\" class=\"tick\" text-anchor=\"middle\">%s</text>\n", x, top - 8, label);
	}
}

/* ---- lanes --------------------------------------------------------------------------------------------------------- */

static void write_pieces(struct drawing *d, const struct lane *l, double middle)
{
	_cleanup_(freep) struct span *pieces = NULL;
	size_t n = lane_pieces(d->t, l, &pieces);

	for (size_t i = 0; i < n; i++) {
		double x = x_of(d, pieces[i].from), w = x_of(d, pieces[i].to) - x;
		bool thin = pieces[i].life == LIFE_OFF;
		double h = thin ? 2.5 : BAR;

		if (pieces[i].life == LIFE_NONE)
			continue;
		/* what is short is still to be seen, and neighbours are told apart */
		w = w < 2 ? (thin ? 4 : 2) : thin ? w : w - 0.8;
		fprintf(d->f, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.1f\" rx=\"%.1f\" class=\"%s\">", x, middle - h / 2, w,
			h, thin ? 1.2 : w < 6 ? 1 : 3, life_classes[pieces[i].life]);
		title_of_span(d->f, life_words[pieces[i].life], pieces[i].from, pieces[i].to);
		fputs("</rect>\n", d->f);
	}
}

static void write_mark(FILE *f, enum mark_kind kind, double x, double y, const char *text)
{
	switch (kind) {
	case MARK_TROUBLE:
		fprintf(f, "<path d=\"M%.1f %.1fl7.5 13h-15z\" class=\"mark-trouble\">", x, y - 8);
		break;
	case MARK_REBOOT:
		fprintf(f, "<path d=\"M%.1f %.1fl5.5 5.5l-5.5 5.5l-5.5 -5.5z\" class=\"mark-reboot\">", x, y - 5.5);
		break;
	default:
		fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\" class=\"mark-inferred\">", x, y);
	}
	fputs("<title>", f);
	escaped(f, text);
	fputs("</title>", f);
	fputs(kind == MARK_INFERRED ? "</circle>\n" : "</path>\n", f);
}

static void write_marks(struct drawing *d, const struct lane *l, double middle)
{
	for (size_t i = 0; i < l->n_marks; i++) {
		const struct mark *m = &l->marks[i];

		if (m->time >= d->t->from && m->time <= d->t->to)
			/* the ring on the edge, so that it hides no other */
			write_mark(d->f, m->kind, x_of(d, m->time), m->kind == MARK_INFERRED ? middle - BAR / 2.0 : middle, m->text);
	}
}

/* Where the next one that is drawn begins. */
static double next_job(const struct drawing *d, const struct lane *l, size_t i)
{
	for (; i < l->n_jobs; i++)
		if (job_is_notable(d->t, &l->jobs[i]))
			return x_of(d, l->jobs[i].from);
	return d->left + d->width + RIGHT;
}

static void write_jobs(struct drawing *d, const struct lane *l, double y)
{
	static const char *const states[] = {"running", "completed", "failed", "cancelled"};
	double at = 0;

	for (size_t i = 0; i < l->n_jobs; i++) {
		const struct job_span *j = &l->jobs[i];
		_cleanup_(freep) char *what = NULL;
		double x = x_of(d, j->from), w = x_of(d, j->to) - x, text, next;

		if (!job_is_notable(d->t, j) || asprintf(&what, "job %s, %s", j->operation, states[j->state]) < 0)
			continue;
		w = w < 4 ? 4 : w;
		fprintf(d->f, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"5\" rx=\"2.5\" class=\"job-%s\">", x, y, w, states[j->state]);
		title_of_span(d->f, what, j->from, j->to < d->t->to ? j->to : d->t->to);
		fputs("</rect>\n", d->f);
		text = text_pixels(j->operation, 10.5) + (j->state == JOB_COMPLETED ? 0 : 50);
		next = i + 1 < l->n_jobs ? next_job(d, l, i + 1) : d->left + d->width + RIGHT;
		/* its name behind it; where there is no room, on it, or in front; or none rather than one above another */
		if (x + w + 10 + text < (next < d->left + d->width ? next : d->left + d->width) && x + w + 6 > at) {
			fprintf(d->f, "<text x=\"%.1f\" y=\"%.1f\" class=\"job-name job-%s\">", x + w + 5, y + 6, states[j->state]);
			at = x + w + 8 + text;
		} else if (w > text + 14) {
			fprintf(d->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" class=\"job-name on-bar job-%s\">", x + w / 2,
				y + 6, states[j->state]);
			at = x + w;
		} else if (x - 6 - text > at) {
			fprintf(d->f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" class=\"job-name job-%s\">", x - 5, y + 6, states[j->state]);
			at = x + w;
		} else
			continue;
		escaped(d->f, j->operation);
		fprintf(d->f, "%s</text>\n", j->state == JOB_FAILED ? " failed" : j->state == JOB_CANCELLED ? " cancelled" : "");
	}
}

static void write_lane(struct drawing *d, const struct lane *l)
{
	double height = lane_height(d->t, l), middle = d->y + ROW / 2.0, share = lane_share(d->t, l);
	_cleanup_(freep) char *name = text_fit(d->t->c, l->name, (unsigned)((d->left - MARGIN - 16) / 13 / 0.58 + 0.5));

	fprintf(d->f, "<text x=\"%.1f\" y=\"%.1f\" class=\"name\" text-anchor=\"end\">", d->left - 14, middle + 4.5);
	escaped(d->f, name ? name : "");
	fputs("</text>\n", d->f);
	if (share >= 0)
		fprintf(d->f, "<text x=\"%.1f\" y=\"%.1f\" class=\"small\" text-anchor=\"end\"><title>running so much of the time that is "
			      "known</title>%.0f %%</text>\n",
			d->left + d->width + RIGHT - 10, middle + 4, share * 100);
	write_pieces(d, l, middle);
	write_marks(d, l, middle);
	if (has_jobs(d->t, l))
		write_jobs(d, l, d->y + ROW);
	d->y += height;
}

static void write_restarts(struct drawing *d, const char *label, double top, double bottom)
{
	for (size_t i = 0; i < d->t->n_followed; i++) {
		const struct followed *w = &d->t->followed[i];

		for (size_t k = 0; strcmp(w->label, label) == 0 && k < w->n_restarts; k++)
			if (w->restarts[k] >= d->t->from && w->restarts[k] <= d->t->to)
				fprintf(d->f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"restart\">"
					      "<title>the broker was restarted</title></line>\n",
					x_of(d, w->restarts[k]), top, x_of(d, w->restarts[k]), bottom);
	}
}

/* ---- legend -------------------------------------------------------------------------------------------------------- */

static double legend_text(struct drawing *d, double x, double y, const char *text)
{
	fprintf(d->f, "<text x=\"%.1f\" y=\"%.1f\" class=\"small\">%s</text>\n", x, y + 4, text);
	return x + text_pixels(text, 11.5) + 20;
}

static void write_legend(struct drawing *d, double y, double limit)
{
	static const struct {
		enum mark_kind kind;
		const char *text;
	} marks[] = {{MARK_REBOOT, "rebooted"}, {MARK_TROUBLE, "trouble"}, {MARK_INFERRED, "inferred"}};
	double x = MARGIN;

	for (int i = LIFE_RUNNING; i <= LIFE_MAX; i++) {
		int life = i == LIFE_MAX ? LIFE_OFF : i;
		double h = life == LIFE_OFF ? 2.5 : 12;

		fprintf(d->f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"22\" height=\"%.1f\" rx=\"%.1f\" class=\"%s\"/>\n", x, y - h / 2, h,
			life == LIFE_OFF ? 1.2 : 2.5, life_classes[life]);
		x = legend_text(d, x + 28, y, life_words[life]);
	}
	fprintf(d->f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"22\" height=\"5\" rx=\"2.5\" class=\"job-completed\"/>\n", x, y - 2.5);
	x = legend_text(d, x + 28, y, "job");
	for (size_t i = 0; i < ELEMENTS(marks); i++) {
		write_mark(d->f, marks[i].kind, x + 6, y, marks[i].text);
		x = legend_text(d, x + 18, y, marks[i].text);
	}
	if (x + 150 > limit)
		return;
	fprintf(d->f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"restart\"/>\n", x + 4, y - 8, x + 4, y + 8);
	(void)legend_text(d, x + 14, y, "broker restarted");
}

/* ---- all ----------------------------------------------------------------------------------------------------------- */

static double height_of(const struct timeline *t)
{
	const char *label = "";
	double h = TOP + 58;

	for (size_t i = 0; i < t->n_lanes; i++) {
		if (t->several && strcmp(label, t->lanes[i]->label) != 0) {
			h += GROUP;
			label = t->lanes[i]->label;
		}
		h += lane_height(t, t->lanes[i]);
	}
	return h;
}

/* Behind everything: every second domain. */
static void write_stripes(struct drawing *d)
{
	const char *label = "";
	double y = d->y;

	for (size_t i = 0; i < d->t->n_lanes; i++) {
		const struct lane *l = d->t->lanes[i];
		double height = lane_height(d->t, l);

		if (d->t->several && strcmp(label, l->label) != 0)
			y += GROUP;
		label = l->label;
		if (i % 2)
			fprintf(d->f, "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"stripe\" rx=\"4\"/>\n", MARGIN / 2,
				y, d->left + d->width + RIGHT - MARGIN / 2.0, height);
		y += height;
	}
}

int timeline_svg(struct timeline *t, FILE *f, unsigned width)
{
	struct drawing d = {.t = t, .f = f, .y = TOP};
	double height = height_of(t), bottom = height - 52, names = 60, group = TOP;
	const char *label = "";

	for (size_t i = 0; i < t->n_lanes; i++) {
		double w = text_pixels(t->lanes[i]->name, 13);

		names = w > names ? w : names;
	}
	names = names > width / 4.0 ? width / 4.0 : names;
	d.left = MARGIN + names + 16;
	d.width = width - d.left - RIGHT - 8;
	write_head(&d, width, height);
	fprintf(f, "<text x=\"%.1f\" y=\"%d\" class=\"tick\" text-anchor=\"end\">running</text>\n", d.left + d.width + RIGHT - 10, TOP - 14);
	write_stripes(&d);
	write_scale(&d, TOP - 6, bottom);
	for (size_t i = 0; i < t->n_lanes; i++) {
		if (t->several && strcmp(label, t->lanes[i]->label) != 0) {
			write_restarts(&d, label, group, d.y);
			label = t->lanes[i]->label;
			fprintf(f, "<text x=\"%d\" y=\"%.1f\" class=\"group\">", MARGIN, d.y + 20);
			escaped(f, label);
			fputs("</text>\n", f);
			d.y += GROUP;
			group = d.y;
		}
		label = t->lanes[i]->label;
		write_lane(&d, t->lanes[i]);
	}
	write_restarts(&d, label, group, d.y);
	write_legend(&d, height - 26, width);
	fputs("</svg>\n", f);
	return ferror(f) ? (complain("cannot write the picture"), EXIT_FAILED) : EXIT_OK;
}
