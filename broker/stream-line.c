/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "util/vdict.h"

/* Ours alone, so that nobody learns the machine's id from a stream. */
#define APPLICATION SD_ID128_MAKE(9c, 5e, 41, d2, 7b, 30, 4f, 1a, 8e, 66, 0d, 93, 52, f7, 18, ab)

char *stream_source(const char *epoch)
{
	sd_id128_t machine;
	char *s;

	/* A machine without an id (a container's first boot) is a nameless source, not a failure. */
	if (sd_id128_get_machine_app_specific(APPLICATION, &machine) < 0)
		machine = SD_ID128_NULL;
	return asprintf(&s, "urn:vireo:" SD_ID128_FORMAT_STR ":%s", SD_ID128_FORMAT_VAL(machine), epoch) < 0 ? NULL : s;
}

/* Of memory for a line, kept for the next one. */
#define LINE_KEPT_MAX ((size_t)8 << 10)

static void write_digits(struct writer *w, unsigned n, int digits)
{
	char text[8];

	for (int i = digits; i-- > 0; n /= 10)
		text[i] = (char)('0' + n % 10);
	write_bytes(w, text, (size_t)digits);
}

/* RFC 3339, in UTC, to the microsecond. */
static void write_time(struct writer *w, uint64_t usec)
{
	/* Behind the year 9999 comes what is not a time of any event. */
	time_t t = (time_t)(usec / USEC_PER_SEC);
	struct tm tm = {0};

	if (!gmtime_r(&t, &tm) || tm.tm_year > 9999 - 1900)
		tm = (struct tm){.tm_year = 9999 - 1900, .tm_mon = 11, .tm_mday = 31};
	write_digits(w, (unsigned)tm.tm_year + 1900, 4);
	write_literal(w, "-");
	write_digits(w, (unsigned)tm.tm_mon + 1, 2);
	write_literal(w, "-");
	write_digits(w, (unsigned)tm.tm_mday, 2);
	write_literal(w, "T");
	write_digits(w, (unsigned)tm.tm_hour, 2);
	write_literal(w, ":");
	write_digits(w, (unsigned)tm.tm_min, 2);
	write_literal(w, ":");
	write_digits(w, (unsigned)tm.tm_sec, 2);
	write_literal(w, ".");
	write_digits(w, (unsigned)(usec % USEC_PER_SEC), 6);
	write_literal(w, "Z");
}

/* All of a line up to the value of data.sequence. @interface: NULL: the broker itself. @id: needs no escaping. */
static void begin_line(struct writer *w, const char *source, const char *id, const char *interface, const char *name,
		       const char *subject, uint64_t time)
{
	write_literal(w, "{\"specversion\":\"1.0\",\"id\":\"");
	write_bytes(w, id, strlen(id));
	write_literal(w, "\",\"source\":");
	write_string(w, source);
	write_literal(w, ",\"type\":\"org.vireo1.");
	if (interface) {
		write_bytes(w, interface, strlen(interface));
		write_literal(w, ".");
	}
	write_bytes(w, name, strlen(name));
	write_literal(w, "\"");
	if (subject) {
		write_key(w, "subject");
		write_string(w, subject);
	}
	write_literal(w, ",\"time\":\"");
	write_time(w, time);
	write_literal(w, "\",\"datacontenttype\":\"application/json\",\"data\":{\"sequence\":");
}

static void end_line(struct writer *w)
{
	write_literal(w, "}}\n");
}

static void write_xml(struct writer *w, const struct text *xml, const struct text *xml_inactive)
{
	if (xml) {
		write_key(w, "xml");
		write_stringn(w, xml->data, xml->size);
	}
	if (xml_inactive) {
		write_key(w, "xmlInactive");
		write_stringn(w, xml_inactive->data, xml_inactive->size);
	}
}

static void write_version(struct writer *w, uint64_t version)
{
	write_key(w, "version");
	write_number(w, version);
}

/*
 * {"specversion": …, "data":{"sequence":  |  7  |  ,"version": …}}
 * What is left and right of the number is the same for every reader.
 */
int stream_line_event(const char *source, const struct event *e, bool xml, struct stream_line *line)
{
	struct writer *w = &line->text;
	char id[24];

	writer_reset(w, LINE_KEPT_MAX);
	line->version = e->version;
	line->xml = xml;
	snprintf(id, sizeof(id), "%" PRIu64, e->version);
	begin_line(w, source, id, kind_interface(e->kind), e->name, e->path, e->timestamp);
	line->split = w->size;
	write_version(w, e->version);
	write_key(w, "previous");
	write_number(w, e->previous);
	write_key(w, "reason");
	write_string(w, e->reason);
	write_key(w, "inferred");
	write_bool(w, e->inferred);
	write_key(w, "properties");
	if (e->words.props)
		write_bytes(w, e->words.props, e->words.props_size);
	else
		props_write(w, e->props);
	write_key(w, "details");
	if (e->words.props)
		write_bytes(w, e->words.details, e->words.details_size);
	else
		vdict_write(w, e->details);
	if (xml)
		write_xml(w, e->xml, e->xml_inactive);
	end_line(w);
	if (!w->failed)
		return 0;
	stream_line_clear(line);
	return -ENOMEM;
}

void stream_line_put(struct writer *w, const struct stream_line *line, uint64_t sequence)
{
	write_bytes(w, line->text.data, line->split);
	write_number(w, sequence);
	write_bytes(w, line->text.data + line->split, line->text.size - line->split);
}

void stream_line_clear(struct stream_line *line)
{
	writer_clear(&line->text);
	*line = (struct stream_line){0};
}

void stream_line_snapshot(struct writer *w, const char *source, const char *id, uint64_t now, const struct object *o, bool xml,
			  uint64_t sequence)
{
	begin_line(w, source, id, kind_interface(o->kind), "Snapshot", o->path, now);
	write_number(w, sequence);
	write_version(w, o->version);
	write_key(w, "properties");
	props_write(w, o->props);
	if (xml)
		write_xml(w, o->xml, o->xml_inactive);
	end_line(w);
}

void stream_line_mark(struct writer *w, const char *source, const char *id, uint64_t now, const char *type, const char *key,
		      uint64_t number, uint64_t sequence)
{
	begin_line(w, source, id, NULL, type, NULL, now);
	write_number(w, sequence);
	if (key) {
		write_key(w, key);
		write_number(w, number);
	}
	end_line(w);
}
