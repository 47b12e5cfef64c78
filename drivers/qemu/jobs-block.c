/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "jobs.h"
#include "vm.h"

/*
 * Jobs of one disk: pull (QEMU's stream), commit, copy (mirror). QEMU tells their end by an event, and when a copy or
 * an active commit is ready for its pivot.
 */

#define CHAIN_MAX 64

struct chain {
	const char *node;	       /* of the top */
	const char *files[CHAIN_MAX];  /* from the top down */
	size_t n;
};

/* "/machine/peripheral/vda/virtio-backend" or "vda" */
static bool names_device(const char *qdev, const char *disk)
{
	static const char prefix[] = "/machine/peripheral/";
	size_t n = strlen(disk);

	if (!qdev)
		return false;
	if (strncmp(qdev, prefix, strlen(prefix)) == 0) {
		qdev += strlen(prefix);
		return strncmp(qdev, disk, n) == 0 && (qdev[n] == 0 || qdev[n] == '/');
	}
	return strcmp(qdev, disk) == 0;
}

static bool find_chain(struct json_object *list, const char *disk, struct chain *ret)
{
	for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
		struct json_object *b = json_object_array_get_idx(list, i), *in = json_member(b, "inserted");
		const char *device = json_s(b, "device"), *node = json_s(in, "node-name");

		if (!in || !node || (!names_device(json_s(b, "qdev"), disk) && (!device || strcmp(device, disk) != 0) &&
					    strcmp(node, disk) != 0))
			continue;
		*ret = (struct chain){.node = node};
		for (struct json_object *image = json_member(in, "image"); image && ret->n < CHAIN_MAX;
			image = json_member(image, "backing-image")) {
			const char *file = json_s(image, "filename");

			ret->files[ret->n++] = file ? file : "";
		}
		return true;
	}
	return false;
}

/* A file of the chain: by its path, or as "vda[2]". NULL: there is none. */
static const char *find_file(const struct guest_job *j, const struct chain *c, const char *name)
{
	size_t n = strlen(j->disk);
	unsigned index;
	char end;

	if (strncmp(name, j->disk, n) == 0 && sscanf(name + n, "[%u%c", &index, &end) == 2 && end == ']')
		return index < c->n ? c->files[index] : NULL;
	for (size_t i = 0; i < c->n; i++)
		if (strcmp(c->files[i], name) == 0)
			return c->files[i];
	return NULL;
}

static void set_s(struct json_object *o, const char *key, const char *value)
{
	if (value)
		json_object_object_add(o, key, json_object_new_string(value));
}

static void set_u(struct json_object *o, const char *key, uint64_t value)
{
	if (value)
		json_object_object_add(o, key, json_object_new_uint64(value));
}

/* ---- beginning ---------------------------------------------------------------------------------------------- */

static void on_begun(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;

	if (reply->status == QMP_CLOSED || j->stage == JOB_FINISHING)
		return;
	if (!qjob_reply_is_good(j, reply)) {
		qjob_end(j);
		return;
	}
	j->stage = JOB_RUNNING;
	if (j->cancelled)
		j->type->cancel(j);
}

static void send(struct guest_job *j, const char *command, struct json_object *a)
{
	if (!qjob_execute(j, command, a, on_begun))
		qjob_end(j);
}

static void begin_pull(struct guest_job *j, const struct chain *c)
{
	const char *base = vdict_s(j->request->options, "base", NULL), *file = base ? find_file(j, c, base) : NULL;
	struct json_object *a;

	if (base && !file) {
		qjob_fail(j, VIREO_INVALID_ARGS, "'%s' is no file below disk '%s'", base, j->disk);
		return;
	}
	a = json_strings("job-id", j->id, "device", c->node, NULL);
	set_s(a, "base", file);
	set_u(a, "speed", vdict_t(j->request->options, "bandwidth", 0));
	j->word = "pull";
	send(j, "block-stream", a);
}

static void begin_commit(struct guest_job *j, const struct chain *c)
{
	const struct vdict *o = j->request->options;
	const char *base = vdict_s(o, "base", NULL), *top = vdict_s(o, "top", NULL);
	const char *base_file = base ? find_file(j, c, base) : NULL, *top_file = top ? find_file(j, c, top) : NULL;
	struct json_object *a;
	size_t level = 0;

	if ((base && !base_file) || (top && !top_file)) {
		qjob_fail(j, VIREO_INVALID_ARGS, "'%s' is no file below disk '%s'", base && !base_file ? base : top, j->disk);
		return;
	}
	if (c->n < 2) {
		qjob_fail(j, VIREO_INVALID_ARGS, "disk '%s' has no file below it to commit into", j->disk);
		return;
	}
	if (vdict_b(o, "delete", false) || vdict_b(o, "relative", false)) {
		qjob_fail(j, VIREO_NOT_SUPPORTED, "files are neither deleted nor renamed here");
		return;
	}
	while (top_file && level < c->n && c->files[level] != top_file)
		level++;
	if (vdict_b(o, "shallow", false)) {
		if (base || level + 1 >= c->n) {
			qjob_fail(j, VIREO_INVALID_ARGS, base ? "shallow and base exclude each other" : "there is nothing below that");
			return;
		}
		base_file = c->files[level + 1];
	}
	if (!base_file)
		base_file = c->files[c->n - 1];
	a = json_strings("job-id", j->id, "device", c->node, "base", base_file, NULL);
	if (top_file && level > 0)
		set_s(a, "top", top_file);
	set_u(a, "speed", vdict_t(o, "bandwidth", 0));
	if (!top_file || level == 0) {
		j->word = "active-commit";
		j->target = strdup(base_file);
		j->pivot = vdict_b(o, "pivot", false);
	} else
		j->word = "commit";
	send(j, "block-commit", a);
}

/* <disk type='file'><source file='/x'/><driver type='qcow2'/></disk> */
static int parse_target(struct guest_job *j, char **ret_format)
{
	struct failure *f = &j->why;
	xmlDoc *doc = NULL;
	int r = xml_parse(j->request->text2 ? j->request->text2 : "", "disk", &doc, f);
	xmlNode *root = r == 0 ? xmlDocGetRootElement(doc) : NULL;

	if (r == 0)
		r = xml_check_attributes(f, root, "type device");
	for (xmlNode *n = root && r == 0 ? xml_first(root) : NULL; n && r == 0; n = xml_next(n)) {
		if (xml_is(n, "source")) {
			r = xml_check_attributes(f, n, "file");
			free(j->target);
			j->target = xml_attribute(n, "file");
		} else if (xml_is(n, "driver")) {
			r = xml_check_attributes(f, n, "name type");
			free(*ret_format);
			*ret_format = xml_attribute(n, "type");
		} else
			r = xml_refuse(f, n, "this element is not understood within <disk>");
	}
	if (r == 0 && (!j->target || j->target[0] != '/'))
		r = xml_refuse(f, root, "it has no <source file='…'/> with an absolute path");
	if (r == 0 && *ret_format && strcmp(*ret_format, "raw") != 0 && strcmp(*ret_format, "qcow2") != 0)
		r = xml_refuse(f, root, "its format '%s' is not supported; it can be one of: raw qcow2", *ret_format);
	if (r == 0 && !*ret_format)
		*ret_format = strdup("raw");
	xmlFreeDoc(doc);
	return r;
}

static void begin_copy(struct guest_job *j, const struct chain *c)
{
	const struct vdict *o = j->request->options;
	_cleanup_(freep) char *format = NULL;
	struct json_object *a;
	int r = parse_target(j, &format);
	bool reuse = vdict_b(o, "reuse-external", false);

	if (r != 0) {
		if (r < 0)
			failure_set(&j->why, VIREO_NO_MEMORY, "out of memory");
		qjob_end(j);
		return;
	}
	/* QEMU would write over whatever is there. */
	if (!reuse && access(j->target, F_OK) == 0) {
		qjob_fail(j, VIREO_ALREADY_EXISTS, "%s is there already; reuse-external takes it as it is", j->target);
		return;
	}
	a = json_strings("job-id", j->id, "device", c->node, "target", j->target, "format", format, "sync",
		vdict_b(o, "shallow", false) ? "top" : "full", "mode", reuse ? "existing" : "absolute-paths", NULL);
	set_u(a, "speed", vdict_t(o, "bandwidth", 0));
	set_u(a, "granularity", vdict_u(o, "granularity", 0));
	set_u(a, "buf-size", vdict_t(o, "buffer-size", 0));
	if (vdict_b(o, "synchronous-writes", false))
		set_s(a, "copy-mode", "write-blocking");
	j->word = "copy";
	j->pivot = vdict_b(o, "pivot", false);
	send(j, "drive-mirror", a);
}

static void on_block(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;
	struct chain chain;

	if (reply->status == QMP_CLOSED)
		return;
	if (!qjob_reply_is_good(j, reply)) {
		qjob_end(j);
		return;
	}
	if (!find_chain(reply->value, j->disk, &chain)) {
		qjob_fail(j, VIREO_NOT_FOUND, "the domain has no disk '%s'", j->disk);
		return;
	}
	switch (j->request->operation) {
	case OP_DOMAIN_BLOCK_PULL:
		begin_pull(j, &chain);
		break;
	case OP_DOMAIN_BLOCK_COMMIT:
		begin_commit(j, &chain);
		break;
	default:
		begin_copy(j, &chain);
	}
}

static void begin(struct guest_job *j, const struct seen *s)
{
	j->disk = strdup(j->request->text ? j->request->text : "");
	j->id = qjob_make_id(j);
	if (!j->disk || !j->id) {
		qjob_fail(j, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	if (!qjob_execute(j, "query-block", NULL, on_block))
		qjob_end(j);
}

/* ---- going on ----------------------------------------------------------------------------------------------- */

static void on_completing(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;

	/* Not yet; it stays ready, and can be asked again. */
	if (reply->status == QMP_REFUSED)
		j->completing = false;
}

static void complete(struct guest_job *j)
{
	j->completing = true;
	(void)qjob_execute(j, "job-complete", json_strings("id", j->id, NULL), on_completing);
}

static void cancel(struct guest_job *j)
{
	struct json_object *a = json_strings("device", j->id, NULL);

	/* Not the gentle way, which for a copy that is ready would be a success without a pivot. */
	json_object_object_add(a, "force", json_object_new_boolean(true));
	(void)qmp_execute(j->g->qmp, "block-job-cancel", a, USEC_UNKNOWN, NULL, NULL);
}

static void event(struct guest_job *j, const char *name, struct json_object *data)
{
	const char *id = json_s(data, "device"), *error = json_s(data, "error");

	if (!id || !j->id || strcmp(id, j->id) != 0 || j->looking)
		return;
	if (strcmp(name, "BLOCK_JOB_READY") == 0) {
		j->ready = true;
		qjob_progress(j, json_u(data, "offset", 0), json_u(data, "len", 0));
		if (j->pivot && !j->cancelled)
			complete(j);
	} else if (strcmp(name, "BLOCK_JOB_CANCELLED") == 0) {
		qjob_fail(j, j->cancelled ? VIREO_CANCELLED : VIREO_OPERATION_FAILED, "it was cancelled");
	} else if (strcmp(name, "BLOCK_JOB_COMPLETED") == 0) {
		if (error)
			qjob_fail(j, VIREO_OPERATION_FAILED, "QEMU: %s", error);
		else {
			qjob_progress(j, json_u(data, "len", 0), json_u(data, "len", 0));
			if (j->completing && j->target && j->g->ops->pivoted)
				j->g->ops->pivoted(j->g, j->disk, j->target);
			qjob_end(j);
		}
	}
}

static void on_polled(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;

	if (reply->status != QMP_OK || j->stage != JOB_RUNNING || !json_object_is_type(reply->value, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(reply->value); i++) {
		struct json_object *o = json_object_array_get_idx(reply->value, i);
		const char *id = json_s(o, "device");

		if (id && strcmp(id, j->id) == 0)
			qjob_progress(j, json_u(o, "offset", 0), json_u(o, "len", 0));
	}
}

static void poll_job(struct guest_job *j)
{
	(void)qmp_execute(j->g->qmp, "query-block-jobs", NULL, USEC_UNKNOWN, on_polled, j);
}

const struct qjob_type qjob_block = {
	.begin = begin,
	.event = event,
	.poll = poll_job,
	.cancel = cancel,
	.complete = complete,
};
