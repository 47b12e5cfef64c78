/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "term.h"

#include <langinfo.h>
#include <locale.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

/* ---- the terminal -------------------------------------------------------------------------------------------------- */

unsigned term_columns(int fd)
{
	struct winsize w;
	const char *s = getenv("COLUMNS");
	unsigned n = s ? (unsigned)strtoul(s, NULL, 10) : 0;

	if (n >= 20 && n < 10000)
		return n;
	if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
		return w.ws_col;
	return 80;
}

static bool wants_colour(void)
{
	const char *s = getenv("SYSTEMD_COLORS"), *term = getenv("TERM");

	/* SYSTEMD_COLORS decides alone when it is set, as in systemd's own tools; also on a pipe */
	if (s && *s)
		return strcmp(s, "0") != 0 && strcasecmp(s, "no") != 0 && strcasecmp(s, "false") != 0 &&
		       strcasecmp(s, "off") != 0;
	s = getenv("NO_COLOR");
	if (s && *s)
		return false;
	return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

void term_init(struct ctl *c)
{
	setlocale(LC_ALL, "");
	c->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	/* Names are UTF-8 whatever the locale; their widths need a locale that says so. */
	if (!c->utf8)
		setlocale(LC_CTYPE, "C.UTF-8");
	/* The decimal point of JSON and of SVG is a point. */
	setlocale(LC_NUMERIC, "C");
	c->colour = wants_colour();
	c->columns = term_columns(STDOUT_FILENO);
}

const char *colour_on(const struct ctl *c, enum colour colour)
{
	static const char *const sequences[] = {"", "\033[2m", "\033[1m", "\033[31m", "\033[32m", "\033[33m",
						"\033[34m", "\033[36m", "\033[35m", "\033[4m"};
	_Static_assert(ELEMENTS(sequences) == COLOUR_MAX, "one for each");

	return c->colour ? sequences[colour] : "";
}

const char *colour_off(const struct ctl *c)
{
	return c->colour ? "\033[0m" : "";
}

/* ---- text ---------------------------------------------------------------------------------------------------------- */

char *text_safe(const char *s)
{
	char *copy = malloc(strlen(s) * 4 + 1), *p = copy;
	mbstate_t state = {0};

	if (!copy)
		return NULL;
	while (*s) {
		wchar_t w;
		size_t n = mbrtowc(&w, s, MB_CUR_MAX, &state);

		if (n == (size_t)-1 || n == (size_t)-2) {
			memset(&state, 0, sizeof(state));
			p += sprintf(p, "\\x%02x", (unsigned char)*s++);
			continue;
		}
		if (w < 0x20 || w == 0x7f)
			p += sprintf(p, "\\x%02x", (unsigned)w);
		else if ((w >= 0x80 && w < 0xa0) || w == 0x2028 || w == 0x2029 || (w >= 0x202a && w <= 0x202e) ||
			 (w >= 0x2066 && w <= 0x2069))
			/* C1 controls, and what would turn the rest of the line around */
			for (size_t i = 0; i < n; i++)
				p += sprintf(p, "\\x%02x", (unsigned char)s[i]);
		else
			p = (char *)memcpy(p, s, n) + n;
		s += n;
	}
	*p = 0;
	return copy;
}

/* Bytes and columns of the character at s. */
static size_t character(const char *s, unsigned *width)
{
	mbstate_t state = {0};
	wchar_t w;
	size_t n = mbrtowc(&w, s, MB_CUR_MAX, &state);
	int columns;

	if (n == 0 || n == (size_t)-1 || n == (size_t)-2) {
		*width = 1;
		return 1;
	}
	columns = wcwidth(w);
	*width = columns < 0 ? 1 : (unsigned)columns;
	return n;
}

unsigned text_width(const char *s)
{
	unsigned sum = 0, width;

	while (*s) {
		s += character(s, &width);
		sum += width;
	}
	return sum;
}

char *text_fit(const struct ctl *c, const char *s, unsigned width)
{
	const char *dots = c->utf8 ? "…" : "~", *p = s;
	unsigned used = 0;
	char *cut;

	if (text_width(s) <= width)
		return strdup(s);
	if (width == 0)
		return strdup("");
	while (*p) {
		unsigned w;
		size_t n = character(p, &w);

		if (used + w > width - 1)
			break;
		used += w;
		p += n;
	}
	return asprintf(&cut, "%.*s%s", (int)(p - s), s, dots) < 0 ? NULL : cut;
}

void print_padded(FILE *f, const char *s, unsigned width, bool right)
{
	unsigned used = text_width(s);
	int pad = used < width ? (int)(width - used) : 0;

	if (right)
		fprintf(f, "%*s%s", pad, "", s);
	else
		fprintf(f, "%s%*s", s, pad, "");
}

/* ---- sizes --------------------------------------------------------------------------------------------------------- */

char *format_size(char *buffer, size_t n, uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	int u = -1;

	while (value >= 1023.95 && u < (int)ELEMENTS(units) - 1) {
		value /= 1024;
		u++;
	}
	if (u < 0)
		(void)snprintf(buffer, n, "%lu B", (unsigned long)bytes);
	else if (value - (double)(uint64_t)value < 0.05)
		(void)snprintf(buffer, n, "%.0f %s", value, units[u]);
	else
		(void)snprintf(buffer, n, "%.1f %s", value, units[u]);
	return buffer;
}

bool parse_number(const char *s, uint64_t max, uint64_t *ret)
{
	char *end;
	unsigned long long v;

	/* strtoull() would take signs and spaces, and would let "-1" be a very large number */
	if (s[0] < '0' || s[0] > '9')
		return false;
	v = strtoull(s, &end, 10);
	if (*end || v > max || (v == UINT64_MAX && strcmp(s, "18446744073709551615") != 0))
		return false;
	*ret = v;
	return true;
}

bool parse_size(const char *s, uint64_t default_unit, uint64_t *ret)
{
	static const char letters[] = "KMGTPE";
	uint64_t factor = 1;
	const char *p;
	char *end;
	double v;

	if (s[0] < '0' || s[0] > '9' || strpbrk(s, "xXnN"))
		return false;
	v = strtod(s, &end);
	end += strspn(end, " ");
	if (!*end)
		factor = default_unit;
	else if ((p = strchr(letters, *end >= 'a' ? *end - 32 : *end)) && *p) {
		uint64_t base = 1024;

		/* K, KiB: 1024; KB: 1000, as virsh and dd take them */
		if (strcasecmp(end + 1, "B") == 0)
			base = 1000;
		else if (end[1] && strcasecmp(end + 1, "iB") != 0)
			return false;
		for (long i = 0; i <= p - letters; i++)
			factor *= base;
	} else if (strcasecmp(end, "B") != 0 && strcasecmp(end, "bytes") != 0)
		return false;
	if (v * (double)factor >= 9.2e18)
		return false;
	*ret = (uint64_t)(v * (double)factor + 0.5);
	return true;
}

/* ---- times --------------------------------------------------------------------------------------------------------- */

uint64_t now_usec(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

char *format_span(char *buffer, size_t n, uint64_t usec)
{
	uint64_t s = usec / USEC_PER_SEC;

	if (usec < USEC_PER_SEC)
		(void)snprintf(buffer, n, "%lu ms", (unsigned long)(usec / USEC_PER_MSEC));
	else if (s < 10)
		(void)snprintf(buffer, n, "%.1f s", (double)usec / (double)USEC_PER_SEC);
	else if (s < 60)
		(void)snprintf(buffer, n, "%lu s", (unsigned long)s);
	else if (s < 3600)
		(void)snprintf(buffer, n, "%lu min %02lu s", (unsigned long)(s / 60), (unsigned long)(s % 60));
	else if (s < 86400)
		(void)snprintf(buffer, n, "%lu h %02lu min", (unsigned long)(s / 3600), (unsigned long)(s / 60 % 60));
	else
		(void)snprintf(buffer, n, "%lu d %lu h", (unsigned long)(s / 86400), (unsigned long)(s / 3600 % 24));
	return buffer;
}

char *format_time(char *buffer, size_t n, uint64_t realtime)
{
	time_t s = (time_t)(realtime / USEC_PER_SEC);
	struct tm tm;
	size_t used;

	if (n == 0)
		return buffer;
	if (!localtime_r(&s, &tm) || !(used = strftime(buffer, n, "%Y-%m-%d %H:%M:%S", &tm)))
		(void)snprintf(buffer, n, "-");
	else
		(void)snprintf(buffer + used, n - used, ".%03u", (unsigned)(realtime / 1000 % 1000));
	return buffer;
}

bool parse_span(const char *s, uint64_t *ret)
{
	static const struct {
		const char *name;
		uint64_t usec;
	} units[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {"sec", 1000000}, {"second", 1000000},
		     {"seconds", 1000000}, {"m", 60000000}, {"min", 60000000}, {"minute", 60000000},
		     {"minutes", 60000000}, {"h", 3600000000}, {"hr", 3600000000}, {"hour", 3600000000},
		     {"hours", 3600000000}, {"d", 86400000000}, {"day", 86400000000}, {"days", 86400000000},
		     {"w", 604800000000}, {"week", 604800000000}, {"weeks", 604800000000}};
	double sum = 0;

	s += strspn(s, " ");
	if (!*s)
		return false;
	while (*s) {
		double v, unit = 0;
		size_t length;
		char *end;

		if (*s < '0' || *s > '9')
			return false;
		v = strtod(s, &end);
		s = end + strspn(end, " ");
		length = strspn(s, "abcdefghijklmnopqrstuvwxyz");
		if (length == 0)
			unit = (double)USEC_PER_SEC;
		for (size_t i = 0; i < ELEMENTS(units); i++)
			if (strlen(units[i].name) == length && strncmp(units[i].name, s, length) == 0)
				unit = (double)units[i].usec;
		if (unit == 0)
			return false;
		sum += v * unit;
		s += length;
		s += strspn(s, " ");
	}
	if (sum >= 9e18)
		return false;
	*ret = (uint64_t)sum;
	return true;
}

static bool parse_relative(const char *s, uint64_t now, uint64_t *ret)
{
	size_t n = strlen(s);
	bool back = false;
	char copy[64];
	uint64_t span;

	if (n >= sizeof(copy))
		return false;
	strcpy(copy, s);
	if (n > 4 && strcmp(copy + n - 4, " ago") == 0) {
		copy[n - 4] = 0;
		back = true;
		s = copy;
	} else if (*s == '-') {
		back = true;
		s++;
	} else if (*s == '+')
		s++;
	else
		return false;
	if (!parse_span(s, &span) || (back && span > now))
		return false;
	*ret = back ? now - span : now + span;
	return true;
}

bool parse_time(const char *s, uint64_t now, uint64_t *ret)
{
	static const char *const formats[] = {"%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M",
					      "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%H:%M:%S", "%H:%M"};
	time_t t = (time_t)(now / USEC_PER_SEC);
	struct tm today;
	uint64_t seconds;

	if (strcmp(s, "now") == 0)
		return *ret = now, true;
	if (*s == '@')
		return parse_number(s + 1, UINT64_MAX / USEC_PER_SEC, &seconds) && (*ret = seconds * USEC_PER_SEC, true);
	if (parse_relative(s, now, ret))
		return true;
	if (!localtime_r(&t, &today))
		return false;
	today.tm_hour = today.tm_min = today.tm_sec = 0;
	today.tm_isdst = -1;
	if (strcmp(s, "today") == 0 || strcmp(s, "yesterday") == 0) {
		today.tm_mday -= *s == 'y';
		t = mktime(&today);
		return t >= 0 && (*ret = (uint64_t)t * USEC_PER_SEC, true);
	}
	for (size_t i = 0; i < ELEMENTS(formats); i++) {
		struct tm tm = today;
		const char *end = strptime(s, formats[i], &tm);
		double fraction = 0;
		bool utc = false;
		char *stop;

		if (!end)
			continue;
		if (*end == '.') {
			fraction = strtod(end, &stop);
			end = stop;
		}
		if (strcmp(end, "Z") == 0 || strcmp(end, " UTC") == 0) {
			utc = true;
			end = "";
		}
		if (*end)
			continue;
		t = utc ? timegm(&tm) : mktime(&tm);
		if (t < 0)
			return false;
		*ret = (uint64_t)t * USEC_PER_SEC + (uint64_t)(fraction * 1e6 + 0.5);
		return true;
	}
	return false;
}
