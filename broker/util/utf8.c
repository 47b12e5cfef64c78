/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "utf8.h"

#include <string.h>

/* Length of the character that begins at s (at most n bytes), 0 if sd-bus would refuse it. */
static size_t character(const unsigned char *s, size_t n)
{
	uint32_t c;
	size_t length;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf) {
		length = 2;
		c = s[0] & 0x1fu;
	} else if ((s[0] & 0xf0) == 0xe0) {
		length = 3;
		c = s[0] & 0x0fu;
	} else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		length = 4;
		c = s[0] & 0x07u;
	} else
		return 0;
	if (length > n)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3fu);
	}
	if ((length == 3 && c < 0x800) || (length == 4 && (c < 0x10000 || c > 0x10ffff)))
		return 0;
	if ((c >= 0xd800 && c <= 0xdfff) || (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe)
		return 0;
	return length;
}

bool utf8_is_valid(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	while (*p) {
		/* The final NUL ends a character that is cut off, as it is no continuation byte. */
		size_t length = character(p, 4);

		if (length == 0)
			return false;
		p += length;
	}
	return true;
}

char *utf8_dupn(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	char *copy, *out;
	bool bad = false;

	if (!s)
		return NULL;
	n = strnlen(s, n);
	/* Each replacement stands for one bad byte or more, and is three bytes long. */
	copy = out = malloc(n * 3 + 1);
	if (!copy)
		return NULL;
	while (n > 0) {
		size_t length = character(p, n);

		if (length == 0) {
			if (!bad)
				out = (char *)memcpy(out, "\xef\xbf\xbd", 3) + 3;
			bad = true;
			p++;
			n--;
			continue;
		}
		bad = false;
		out = (char *)memcpy(out, p, length) + length;
		p += length;
		n -= length;
	}
	*out = 0;
	out = realloc(copy, (size_t)(out - copy) + 1);
	return out ? out : copy;
}

char *utf8_dup(const char *s)
{
	if (!s)
		return NULL;
	if (utf8_is_valid(s))
		return strdup(s);
	return utf8_dupn(s, strlen(s));
}
