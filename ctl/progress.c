/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "progress.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "term.h"

/* What ends sooner needs no bar. */
#define PATIENCE (400 * USEC_PER_MSEC)

void progress_init(struct progress *p, struct ctl *c, const char *name)
{
	const char *term = getenv("TERM");

	*p = (struct progress){.c = c, .name = name, .clean = true};
	p->begun = now_usec(CLOCK_MONOTONIC);
	p->wanted = !c->quiet && isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
	/* so that it is looked at again once the patience is over */
	p->visible = p->wanted;
}

void progress_update(struct progress *p, json_object *job)
{
	uint64_t now = now_usec(CLOCK_MONOTONIC), bytes = json_number(job, "BytesDone");

	p->job = job;
	if (p->measured == 0 || bytes < p->bytes) {
		p->measured = now;
		p->bytes = bytes;
	} else if (bytes > p->bytes && now > p->measured + 100 * USEC_PER_MSEC) {
		double rate = (double)(bytes - p->bytes) * (double)USEC_PER_SEC / (double)(now - p->measured);

		p->rate = p->rate > 0 ? p->rate * 0.7 + rate * 0.3 : rate;
		p->measured = now;
		p->bytes = bytes;
	}
}

void progress_clear_line(struct progress *p)
{
	if (!p->clean)
		fputs("\r\033[K", stderr);
	fflush(stderr);
	p->clean = true;
	free(TAKE(p->drawn));
}


static void bar_bounded(const struct ctl *c, double percent, unsigned width, FILE *f)
{
	static const char *const parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
	unsigned eighths = (unsigned)(percent * width * 8 / 100 + 0.5), full = eighths / 8, used = 0;

	full = full > width ? width : full;
	for (; used < full; used++)
		fputs(c->utf8 ? "█" : "#", f);
	if (c->utf8 && used < width && eighths % 8) {
		fputs(parts[eighths % 8], f);
		used++;
	}
	for (; used < width; used++)
		fputc(c->utf8 ? ' ' : '.', f);
}

static void bar_unbounded(const struct ctl *c, uint64_t time, unsigned width, FILE *f)
{
	unsigned span = width > 6 ? width - 4 : 1, step = (unsigned)(time / (100 * USEC_PER_MSEC)) % (2 * span);
	unsigned at = step < span ? step : 2 * span - step;

	for (unsigned i = 0; i < width; i++)
		fputs(i >= at && i < at + 4 ? (c->utf8 ? "█" : "#") : (c->utf8 ? " " : "."), f);
}

/* "62.3%  1.2 GiB of 2 GiB  312 MiB/s  3 s left" */
static char *figures(struct progress *p, bool bounded, bool cancelling)
{
	_cleanup_(freep) char *text = NULL;
	uint64_t done = json_number(p->job, "BytesDone"), total = json_number(p->job, "BytesTotal");
	char one[64], two[64];
	json_object *percent = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	if (bounded && json_object_object_get_ex(p->job, "Percent", &percent))
		fprintf(f, " %5.1f%%", json_object_get_double(percent));
	if (total > 0)
		fprintf(f, "  %s of %s", format_size(one, sizeof(one), done), format_size(two, sizeof(two), total));
	else if (done > 0)
		fprintf(f, "  %s", format_size(one, sizeof(one), done));
	if (p->rate > 0)
		fprintf(f, "  %s/s", format_size(one, sizeof(one), (uint64_t)p->rate));
	if (cancelling || json_true(p->job, "CancelRequested"))
		fputs("  cancelling", f);
	else if (json_true(p->job, "Ready"))
		fputs("  ready", f);
	else if (json_is_null(p->job, "RemainingTime"))
		fprintf(f, "  %s, remaining time unknown",
			format_span(one, sizeof(one), now_usec(CLOCK_MONOTONIC) - p->begun));
	else if (json_number(p->job, "RemainingTime") > 0)
		fprintf(f, "  %s left", format_span(one, sizeof(one), json_number(p->job, "RemainingTime")));
	return fclose(f) == EOF ? NULL : TAKE(text);
}

void progress_draw(struct progress *p, bool cancelling)
{
	_cleanup_(freep) char *right = NULL, *left = NULL, *line = NULL, *cut = NULL;
	bool bounded = strcmp(json_text(p->job, "Type"), "bounded") == 0;
	unsigned columns = term_columns(STDERR_FILENO), used, width;
	uint64_t now = now_usec(CLOCK_MONOTONIC);
	json_object *percent = NULL;
	size_t size;
	FILE *f;

	if (!p->wanted || !p->job || now - p->begun < PATIENCE)
		return;
	right = figures(p, bounded, cancelling);
	if (!right || asprintf(&left, "%s: %s  ", p->name, json_text(p->job, "Operation")) < 0) {
		left = NULL;
		return;
	}
	used = text_width(right);
	p->room = used > p->room ? used : p->room;
	used = text_width(left) + p->room + 3;
	width = columns > used + 10 ? columns - used : 0;
	width = width > 40 ? 40 : width;
	f = open_memstream(&line, &size);
	if (!f)
		return;
	fputs(left, f);
	if (width > 0) {
		fputs(p->c->utf8 ? "▕" : "[", f);
		(void)json_object_object_get_ex(p->job, "Percent", &percent);
		if (bounded)
			bar_bounded(p->c, percent ? json_object_get_double(percent) : 0, width, f);
		else
			bar_unbounded(p->c, now - p->begun, width, f);
		fputs(p->c->utf8 ? "▏" : "]", f);
	}
	fputs(right, f);
	if (fclose(f) == EOF)
		return;
	cut = text_fit(p->c, line, columns - 1);
	if (!cut || (p->drawn && strcmp(cut, p->drawn) == 0))
		return;
	fprintf(stderr, "\r%s\033[K", cut);
	fflush(stderr);
	p->clean = false;
	free(p->drawn);
	p->drawn = TAKE(cut);
}
