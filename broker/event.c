/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "event.h"
#include "util/utf8.h"
#include "util/vdict.h"

struct event *event_new(enum kind kind, const char *path, const char *connection, const char *name,
		const char *reason)
{
	_cleanup_(freep) char *valid_name = NULL, *valid_reason = NULL;
	struct event *e;
	char *s;

	if (!connection)
		connection = "/";
	if (!reason)
		reason = "";
	if (!utf8_is_valid(name)) {
		name = valid_name = utf8_dup(name);
		if (!name)
			return NULL;
	}
	if (!utf8_is_valid(reason)) {
		reason = valid_reason = utf8_dup(reason);
		if (!reason)
			return NULL;
	}
	/* Thousands of events are kept: one block each, the strings behind the struct. */
	e = malloc(sizeof(*e) + strlen(path) + strlen(connection) + strlen(name) + strlen(reason) + 4);
	if (!e)
		return NULL;
	memset(e, 0, sizeof(*e));
	e->refs = 1;
	e->kind = kind;
	s = (char *)(e + 1);
	e->path = s;
	s = stpcpy(s, path) + 1;
	e->connection = s;
	s = stpcpy(s, connection) + 1;
	e->name = s;
	s = stpcpy(s, name) + 1;
	e->reason = s;
	strcpy(s, reason);
	return e;
}

struct event *event_ref(struct event *e)
{
	if (e)
		e->refs++;
	return e;
}

void event_unref(struct event *e)
{
	if (!e || --e->refs > 0)
		return;
	props_unref(e->props);
	props_unref(e->before);
	vdict_free(e->details);
	text_unref(e->xml);
	text_unref(e->xml_inactive);
	free(e);
}
