/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "event.h"
#include "util/utf8.h"
#include "util/vdict.h"

struct event *event_new(enum kind kind, const char *path, const char *connection, const char *name,
		const char *reason)
{
	_cleanup_(event_unrefp) struct event *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->refs = 1;
	e->kind = kind;
	e->path = strdup(path);
	e->connection = strdup(connection ? connection : "/");
	e->name = utf8_dup(name);
	e->reason = utf8_dup(reason ? reason : "");
	if (!e->path || !e->connection || !e->name || !e->reason)
		return NULL;
	return TAKE(e);
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
	free(e->path);
	free(e->connection);
	free(e->name);
	free(e->reason);
	props_unref(e->props);
	props_unref(e->before);
	vdict_free(e->details);
	text_unref(e->xml);
	text_unref(e->xml_inactive);
	free(e);
}
