/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "writer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROOM_FIRST 512u

void writer_clear(struct writer *w)
{
	free(w->data);
	*w = (struct writer){0};
}

void writer_reset(struct writer *w, size_t keep)
{
	if (w->room > keep)
		writer_clear(w);
	w->size = 0;
	w->failed = false;
}

/* Room for so many more bytes; NULL: there is none. */
static char *make_room(struct writer *w, size_t n)
{
	size_t room = w->room ? w->room : ROOM_FIRST;
	char *bigger;

	if (n <= w->room - w->size)
		return w->data + w->size;
	if (w->failed)
		return NULL;
	while (room - w->size < n) {
		if (room > SIZE_MAX / 2) {
			w->failed = true;
			return NULL;
		}
		room *= 2;
	}
	bigger = realloc(w->data, room);
	if (!bigger) {
		w->failed = true;
		return NULL;
	}
	w->data = bigger;
	w->room = room;
	return w->data + w->size;
}

void write_bytes(struct writer *w, const char *data, size_t n)
{
	char *to = make_room(w, n);

	if (!to)
		return;
	memcpy(to, data, n);
	w->size += n;
}

void write_number(struct writer *w, uint64_t n)
{
	char digits[20], *p = digits + sizeof(digits);

	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	write_bytes(w, p, (size_t)(digits + sizeof(digits) - p));
}

void write_signed(struct writer *w, int64_t n)
{
	if (n < 0)
		write_literal(w, "-");
	/* INT64_MIN has no positive twin. */
	write_number(w, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
}

void write_double(struct writer *w, double d)
{
	char text[32];

	if (!isfinite(d))
		d = 0;
	/* 33.3 stays 33.3. */
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, d);
		if (strtod(text, NULL) == d)
			break;
	}
	write_bytes(w, text, strlen(text));
}

void write_bool(struct writer *w, bool b)
{
	if (b)
		write_literal(w, "true");
	else
		write_literal(w, "false");
}

/* What JSON does not let a string hold as it is. */
static bool is_special(unsigned char c)
{
	return c < ' ' || c == '"' || c == '\\';
}

static char *escape(char *to, unsigned char c)
{
	static const char short_of[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r', ['"'] = '"', ['\\'] = '\\'};
	static const char hex[] = "0123456789abcdef";

	*to++ = '\\';
	if (short_of[c]) {
		*to++ = short_of[c];
		return to;
	}
	to = stpcpy(to, "u00");
	*to++ = hex[c >> 4];
	*to++ = hex[c & 15];
	return to;
}

void write_stringn(struct writer *w, const char *s, size_t n)
{
	size_t plain = 0, special = 0;
	char *to;

	/* Nearly all of them have nothing that is special. */
	while (plain < n && !is_special((unsigned char)s[plain]))
		plain++;
	for (size_t i = plain; i < n; i++)
		special += is_special((unsigned char)s[i]);
	/* \u0001 is the longest. */
	to = make_room(w, n + 5 * special + 2);
	if (!to)
		return;
	*to++ = '"';
	memcpy(to, s, plain);
	to += plain;
	for (size_t i = plain; i < n; i++) {
		if (is_special((unsigned char)s[i]))
			to = escape(to, (unsigned char)s[i]);
		else
			*to++ = s[i];
	}
	*to++ = '"';
	w->size = (size_t)(to - w->data);
}

void write_string(struct writer *w, const char *s)
{
	write_stringn(w, s, strlen(s));
}

void write_strings(struct writer *w, char *const *l)
{
	write_literal(w, "[");
	for (size_t i = 0; l[i]; i++) {
		if (i > 0)
			write_literal(w, ",");
		write_string(w, l[i]);
	}
	write_literal(w, "]");
}

void write_key(struct writer *w, const char *key)
{
	size_t n = strlen(key);
	char *to = make_room(w, n + 4);

	if (!to)
		return;
	if (w->size > 0 && to[-1] != '{' && to[-1] != '[')
		*to++ = ',';
	*to++ = '"';
	memcpy(to, key, n);
	to += n;
	*to++ = '"';
	*to++ = ':';
	w->size = (size_t)(to - w->data);
}
