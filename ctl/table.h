/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "term.h"

/* A table for people: columns as wide as they must be, cut to the terminal where that may be. */

struct column {
	const char *title;
	bool right; /* numbers */
	bool cut;   /* may be shortened when the terminal is too narrow */
	bool hide_empty; /* leave it out when all its cells are empty */
	unsigned char drop; /* on a narrow terminal the lowest goes first; 0: it stays */
};

struct table;

struct table *table_new(const struct column *columns, size_t n);
void table_free(struct table *t);
DEFINE_CLEANUP(struct table *, table_free)

/* The next cell, from left to right, line by line. NULL is empty. Control characters are made visible. */
void table_add(struct table *t, enum colour colour, const char *text);
void table_addf(struct table *t, enum colour colour, const char *format, ...) _printf_(3, 4);
size_t table_rows(const struct table *t);

/* Print it, with titles unless they are not wanted, and below it how many there are: "3 domains". NULL: not said. */
int table_print(struct ctl *c, struct table *t, const char *one, const char *many);
