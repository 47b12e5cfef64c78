/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "guest.h"
#include "util/utf8.h"

/* Who is at the other end of a monitor: what does not change while it runs. */

#define IDENTIFY_PATIENCE (3 * USEC_PER_SEC)

static void identified(struct guest *g)
{
	if (--g->identifying == 0)
		g->on_identified(g);
}

static void on_uuid(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest *g = userdata;
	const char *uuid = reply->status == QMP_OK ? json_s(reply->value, "UUID") : NULL;

	if (reply->status == QMP_CLOSED)
		return;
	if (!uuid || sd_id128_from_string(uuid, &g->uuid) < 0)
		g->uuid = SD_ID128_NULL;
	identified(g);
}

static void on_name(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest *g = userdata;

	if (reply->status == QMP_CLOSED)
		return;
	if (reply->status == QMP_OK) {
		free(g->name);
		g->name = utf8_dup(json_s(reply->value, "name"));
	}
	identified(g);
}

static void on_target(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest *g = userdata;
	const char *arch = reply->status == QMP_OK ? json_s(reply->value, "arch") : NULL;

	if (reply->status == QMP_CLOSED)
		return;
	snprintf(g->arch, sizeof(g->arch), "%s", arch ? arch : "");
	identified(g);
}

static void on_kvm(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest *g = userdata;

	if (reply->status == QMP_CLOSED)
		return;
	g->kvm = reply->status == QMP_OK && json_b(reply->value, "enabled");
	identified(g);
}

static void on_machine(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	static const char suffix[] = "-machine";
	struct guest *g = userdata;
	size_t n;

	if (reply->status == QMP_CLOSED)
		return;
	if (reply->status == QMP_OK && json_object_is_type(reply->value, json_type_string)) {
		/* "pc-i440fx-7.2-machine" */
		snprintf(g->machine, sizeof(g->machine), "%s", json_object_get_string(reply->value));
		n = strlen(g->machine);
		if (n >= sizeof(suffix) && strcmp(g->machine + n - sizeof(suffix) + 1, suffix) == 0)
			g->machine[n - sizeof(suffix) + 1] = 0;
	}
	identified(g);
}

void guest_identify(struct guest *g, void (*fn)(struct guest *g))
{
	static const struct {
		const char *command;
		qmp_reply_fn fn;
	} questions[] = {
		{"query-uuid", on_uuid}, {"query-name", on_name}, {"query-target", on_target},
		{"query-kvm", on_kvm},	 {"qom-get", on_machine},
	};

	g->on_identified = fn;
	/* One more, so that @fn is called here when nothing could be asked. */
	g->identifying = 1;
	for (size_t i = 0; i < ELEMENTS(questions); i++) {
		struct json_object *a = questions[i].fn == on_machine
						? json_strings("path", "/machine", "property", "type", NULL)
						: NULL;

		if (qmp_execute(g->qmp, questions[i].command, a, IDENTIFY_PATIENCE, questions[i].fn, g) >= 0)
			g->identifying++;
	}
	identified(g);
}
