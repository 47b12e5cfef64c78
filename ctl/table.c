/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "table.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

struct cell {
	char *text;
	enum colour colour;
};

struct table {
	const struct column *columns;
	size_t n_columns;
	struct cell *cells;
	size_t n, room;
	bool failed; /* out of memory: told once, when it is printed */
};

struct table *table_new(const struct column *columns, size_t n)
{
	struct table *t = calloc(1, sizeof(*t));

	if (t) {
		t->columns = columns;
		t->n_columns = n;
	}
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t);
}

void table_add(struct table *t, enum colour colour, const char *text)
{
	if (t->n == t->room) {
		size_t room = t->room ? t->room * 2 : 256;
		struct cell *more = reallocarray(t->cells, room, sizeof(*more));

		if (!more) {
			t->failed = true;
			return;
		}
		t->cells = more;
		t->room = room;
	}
	t->cells[t->n] = (struct cell){.text = text_safe(text ? text : ""), .colour = colour};
	if (t->cells[t->n].text)
		t->n++;
	else
		t->failed = true;
}

void table_addf(struct table *t, enum colour colour, const char *format, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list ap;
	int r;

	va_start(ap, format);
	r = vasprintf(&text, format, ap);
	va_end(ap);
	if (r < 0) {
		text = NULL;
		t->failed = true;
		return;
	}
	table_add(t, colour, text);
}

size_t table_rows(const struct table *t)
{
	return t->n / t->n_columns;
}

/* Columns of a line, when what may be cut is no wider than that. */
static unsigned line_width(const struct table *t, const unsigned *widths, unsigned cut)
{
	unsigned sum = 0;

	for (size_t i = 0; i < t->n_columns; i++)
		if (widths[i] > 0)
			sum += (sum ? 2 : 0) + (t->columns[i].cut && widths[i] > cut ? cut : widths[i]);
	return sum;
}

/* Leave out what matters least, until the rest would fit with a little cutting. */
static void drop_columns(const struct table *t, unsigned *widths, unsigned limit)
{
	while (line_width(t, widths, 16) > limit) {
		size_t least = t->n_columns;

		for (size_t i = 0; i < t->n_columns; i++)
			if (widths[i] > 0 && t->columns[i].drop &&
			    (least == t->n_columns || t->columns[i].drop < t->columns[least].drop))
				least = i;
		if (least == t->n_columns)
			return;
		widths[least] = 0;
	}
}

/* Take from the widest column that may be cut, a column at a time, until the line fits. */
static void shrink(const struct table *t, unsigned *widths, unsigned limit)
{
	while (line_width(t, widths, UINT32_MAX) > limit) {
		size_t widest = t->n_columns;

		for (size_t i = 0; i < t->n_columns; i++)
			if (t->columns[i].cut && widths[i] > 6 && (widest == t->n_columns || widths[i] > widths[widest]))
				widest = i;
		if (widest == t->n_columns)
			return;
		widths[widest]--;
	}
}

static void measure(const struct ctl *c, const struct table *t, unsigned *widths)
{
	for (size_t i = 0; i < t->n_columns; i++) {
		bool empty = true;

		widths[i] = c->no_legend ? 0 : text_width(t->columns[i].title);
		for (size_t k = i; k < t->n; k += t->n_columns) {
			unsigned w = text_width(t->cells[k].text);

			empty = empty && w == 0;
			widths[i] = w > widths[i] ? w : widths[i];
		}
		if (empty && t->columns[i].hide_empty)
			widths[i] = 0;
		else if (widths[i] == 0)
			widths[i] = 1;
	}
	/* Only a terminal has an end; a pager scrolls sideways, but nobody likes to. */
	if (!c->full && (isatty(STDOUT_FILENO) || c->pager > 0 || getenv("COLUMNS"))) {
		drop_columns(t, widths, c->columns);
		shrink(t, widths, c->columns);
	}
}

static void print_line(const struct ctl *c, const struct table *t, const unsigned *widths, size_t row, bool titles)
{
	size_t last = t->n_columns;
	bool first = true;

	/* no spaces at the end of a line */
	while (last > 0 && (widths[last - 1] == 0 || (!titles && !*t->cells[row * t->n_columns + last - 1].text)))
		last--;
	for (size_t i = 0; i < last; i++) {
		const struct cell *cell = titles ? NULL : &t->cells[row * t->n_columns + i];
		_cleanup_(freep) char *text = NULL;
		enum colour colour = titles ? UNDERLINE : cell->colour;

		if (widths[i] == 0)
			continue;
		text = text_fit(c, titles ? t->columns[i].title : cell->text, widths[i]);
		if (!first)
			fputs("  ", stdout);
		first = false;
		fputs(colour == PLAIN ? "" : colour_on(c, colour), stdout);
		print_padded(stdout, text ? text : "", i + 1 < last || t->columns[i].right ? widths[i] : 0,
			t->columns[i].right);
		fputs(colour == PLAIN ? "" : colour_off(c), stdout);
	}
	putchar('\n');
}

int table_print(struct ctl *c, struct table *t, const char *one, const char *many)
{
	_cleanup_(freep) unsigned *widths = calloc(t->n_columns, sizeof(*widths));
	size_t rows = table_rows(t);

	if (t->failed || !widths)
		return out_of_memory();
	measure(c, t, widths);
	if (!c->no_legend && rows > 0)
		print_line(c, t, widths, 0, true);
	for (size_t i = 0; i < rows; i++)
		print_line(c, t, widths, i, false);
	if (!c->no_legend && one) {
		if (rows == 0)
			printf("No %s.\n", many);
		else
			printf("\n%zu %s\n", rows, rows == 1 ? one : many);
	}
	return EXIT_OK;
}
