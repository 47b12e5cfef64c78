/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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

static char *memdup(const void *p, size_t n)
{
	void *copy = malloc(n);

	return copy ? memcpy(copy, p, n) : NULL;
}

/* RFC 3339, in UTC, to the microsecond. */
static void format_time(char *buf, size_t size, uint64_t usec)
{
	time_t t = (time_t)(usec / USEC_PER_SEC);
	struct tm tm;

	gmtime_r(&t, &tm);
	snprintf(buf, size, "%04d-%02d-%02dT%02d:%02d:%02d.%06uZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		 tm.tm_min, tm.tm_sec, (unsigned)(usec % USEC_PER_SEC));
}

static struct json_object *envelope(const char *source, const char *id, const char *type, const char *subject, uint64_t time)
{
	struct json_object *o = json_object_new_object();
	char when[80];

	format_time(when, sizeof(when), time);
	json_object_object_add(o, "specversion", json_object_new_string("1.0"));
	json_object_object_add(o, "id", json_object_new_string(id));
	json_object_object_add(o, "source", json_object_new_string(source));
	json_object_object_add(o, "type", json_object_new_string(type));
	if (subject)
		json_object_object_add(o, "subject", json_object_new_string(subject));
	json_object_object_add(o, "time", json_object_new_string(when));
	json_object_object_add(o, "datacontenttype", json_object_new_string("application/json"));
	return o;
}

/* Takes both. */
static char *finish(struct json_object *o, struct json_object *data, size_t *ret_size)
{
	const char *text;
	size_t size;
	char *line;

	json_object_object_add(o, "data", data);
	text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
	line = text ? malloc(size + 2) : NULL;
	if (line) {
		memcpy(line, text, size);
		line[size] = '\n';
		line[size + 1] = 0;
		*ret_size = size + 1;
	}
	json_object_put(o);
	return line;
}

static void add_xml(struct json_object *data, const struct text *xml, const struct text *xml_inactive)
{
	if (xml)
		json_object_object_add(data, "xml", json_object_new_string_len(xml->data, (int)xml->size));
	if (xml_inactive)
		json_object_object_add(data, "xmlInactive",
				       json_object_new_string_len(xml_inactive->data, (int)xml_inactive->size));
}

/* Text of an object that is built here; NULL: no memory. Takes it. */
static char *text_of(struct json_object *o, size_t *ret_size)
{
	const char *text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, ret_size);
	char *copy = text ? memdup(text, *ret_size + 1) : NULL;

	json_object_put(o);
	return copy;
}

/*
 * {"specversion": …, "data":{"sequence":  |  7  |  ,"version": …}}
 * What is left and right of the number is the same for every reader.
 */
int stream_line_event(const char *source, const struct event *e, bool xml, struct stream_line *ret)
{
	static const char begin[] = ",\"data\":{\"sequence\":";
	struct json_object *data = json_object_new_object();
	struct stream_line line = {.version = e->version, .xml = xml};
	char id[24], type[100];

	json_object_object_add(data, "version", json_object_new_uint64(e->version));
	json_object_object_add(data, "previous", json_object_new_uint64(e->previous));
	json_object_object_add(data, "reason", json_object_new_string(e->reason));
	json_object_object_add(data, "inferred", json_object_new_boolean(e->inferred));
	json_object_object_add(data, "properties", props_to_json(e->props));
	json_object_object_add(data, "details", e->details ? vdict_to_json(e->details) : json_object_new_object());
	if (xml)
		add_xml(data, e->xml, e->xml_inactive);
	line.tail = text_of(data, &line.tail_size);

	snprintf(id, sizeof(id), "%" PRIu64, e->version);
	snprintf(type, sizeof(type), "org.vireo1.%s.%s", kind_interface(e->kind), e->name);
	line.head = text_of(envelope(source, id, type, e->path, e->timestamp), &line.head_size);
	if (line.head && line.tail) {
		char *head = realloc(line.head, line.head_size + sizeof(begin) + 2);
		char *tail = realloc(line.tail, line.tail_size + 3);

		line.head = head ? head : line.head;
		line.tail = tail ? tail : line.tail;
		if (head && tail) {
			/* The brace that closes the envelope comes behind the data. */
			memcpy(head + line.head_size - 1, begin, sizeof(begin));
			line.head_size += sizeof(begin) - 2;
			tail[0] = ',';
			memcpy(tail + line.tail_size, "}\n", 3);
			line.tail_size += 2;
			*ret = line;
			return 0;
		}
	}
	stream_line_clear(&line);
	return -ENOMEM;
}

void stream_line_clear(struct stream_line *line)
{
	free(line->head);
	free(line->tail);
	*line = (struct stream_line){0};
}

char *stream_line_snapshot(const char *source, const char *id, uint64_t now, const struct object *o, bool xml,
			   uint64_t sequence, size_t *ret_size)
{
	struct json_object *data = json_object_new_object();
	char type[100];

	snprintf(type, sizeof(type), "org.vireo1.%s.Snapshot", kind_interface(o->kind));
	json_object_object_add(data, "sequence", json_object_new_uint64(sequence));
	json_object_object_add(data, "version", json_object_new_uint64(o->version));
	json_object_object_add(data, "properties", props_to_json(o->props));
	if (xml)
		add_xml(data, o->xml, o->xml_inactive);
	return finish(envelope(source, id, type, o->path, now), data, ret_size);
}

char *stream_line_mark(const char *source, const char *id, uint64_t now, const char *type, const char *key, uint64_t number,
		       uint64_t sequence, size_t *ret_size)
{
	struct json_object *data = json_object_new_object();
	char full[100];

	snprintf(full, sizeof(full), "org.vireo1.%s", type);
	json_object_object_add(data, "sequence", json_object_new_uint64(sequence));
	if (key)
		json_object_object_add(data, key, json_object_new_uint64(number));
	return finish(envelope(source, id, full, NULL, now), data, ret_size);
}
