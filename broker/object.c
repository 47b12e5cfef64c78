/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <stdio.h>
#include <string.h>

char *object_path(enum kind kind, const char *connection_path, sd_id128_t uuid)
{
	char hex[SD_ID128_UUID_STRING_MAX], *path;

	sd_id128_to_uuid_string(uuid, hex);
	for (char *p = hex; *p; p++)
		if (*p == '-')
			*p = '_';
	if (asprintf(&path, "%s/%s/_%s", connection_path, kind_to_string(kind), hex) < 0)
		return NULL;
	return path;
}

struct object *object_new(enum kind kind, const char *path, struct connection *c)
{
	struct object *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->kind = kind;
	o->connection = c;
	o->path = strdup(path);
	o->props = props_new(kind);
	if (!o->path || !o->props) {
		object_free(o);
		return NULL;
	}
	o->life.id = -1;
	return o;
}

void object_free(struct object *o)
{
	if (!o)
		return;
	jobs_free(o->job);
	props_unref(o->props);
	text_unref(o->xml);
	text_unref(o->xml_inactive);
	free(o->stored_connection);
	free(o->extra);
	free(o->path);
	free(o);
}
