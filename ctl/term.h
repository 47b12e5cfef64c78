/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <time.h>

#include "ctl.h"

/* What things look like: text that is safe to show, colours, sizes and times for human eyes, and reading those back. */

enum colour { PLAIN, DIM, BOLD, RED, GREEN, YELLOW, BLUE, CYAN, MAGENTA, UNDERLINE, COLOUR_MAX };

/* Find out about standard output. */
void term_init(struct ctl *c);
/* The sequence that begins a colour, or ends any; empty where colours are off. */
const char *colour_on(const struct ctl *c, enum colour colour);
const char *colour_off(const struct ctl *c);
unsigned term_columns(int fd);

/*
 * text_safe() - a copy that does nothing to a terminal
 *
 * Control characters, also those above 0x7f, and line separators become "\x1b" and so on. Return: owned by the caller.
 */
char *text_safe(const char *s);
unsigned text_width(const char *s);
/* Cut to so many columns; the last one is then an ellipsis. Owned by the caller. */
char *text_fit(const struct ctl *c, const char *s, unsigned width);
void print_padded(FILE *f, const char *s, unsigned width, bool right);

uint64_t now_usec(clockid_t clock);

/* All into the buffer, which is returned. */
char *format_size(char *buffer, size_t n, uint64_t bytes);    /* 1.5 GiB */
char *format_span(char *buffer, size_t n, uint64_t usec);     /* 1 min 20 s */
char *format_time(char *buffer, size_t n, uint64_t realtime); /* 2026-11-20 09:15:02.123 */

/* Read what a user typed. Return: whether it was understood. */
bool parse_size(const char *s, uint64_t default_unit, uint64_t *ret); /* "2G", "512MiB", "1.5TB" */
bool parse_number(const char *s, uint64_t max, uint64_t *ret);
/* "2026-11-20", "2026-11-20 09:15[:02[.5]]", "09:15[:02]", "now", "today", "yesterday", "-5min", "5min ago", "@1234" */
bool parse_time(const char *s, uint64_t now, uint64_t *ret);
bool parse_span(const char *s, uint64_t *ret); /* "1h 30min" */
