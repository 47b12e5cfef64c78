/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "jobs.h"
#include "saved.h"

/*
 * Save and dump: QEMU writes its state, or the guest's memory, into a descriptor that it is given. The guest is
 * stopped first, unless a live dump was asked for; a save ends with the end of QEMU, everything else with the guest as it
 * was.
 */

#define DESCRIPTOR "vireo-job"

static const char *path_of(const struct guest_job *j)
{
	return j->request ? j->request->text : NULL;
}

static bool is_save(const struct guest_job *j)
{
	return j->type == &qjob_save;
}

static bool option(const struct guest_job *j, const char *name)
{
	return vdict_b(j->request->options, name, false);
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

static void on_going_on(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	if (reply->status != QMP_CLOSED)
		qjob_end(userdata);
}

/* Let the guest go on as it was, and end. */
static void go_on(struct guest_job *j)
{
	if (j->was_running && j->g->qmp && qmp_execute(j->g->qmp, "cont", NULL, USEC_UNKNOWN, on_going_on, j) >= 0)
		return;
	qjob_end(j);
}

static void undo(struct guest_job *j)
{
	if (j->stage == JOB_UNDOING)
		return;
	j->stage = JOB_UNDOING;
	if (j->fd >= 0) {
		/* Quick, as long as it is open. */
		saved_abandon(path_of(j));
		chores_close_fd(j->g->env->chores, j->fd);
		j->fd = -1;
	}
	if (j->cancelled) {
		failure_clear(&j->why);
		failure_set(&j->why, VIREO_CANCELLED, "it was cancelled");
	}
	go_on(j);
}

static void quit(struct guest_job *j, const char *reason)
{
	/* down() ends the job: the domain's end belongs to it. */
	j->g->end_reason = reason;
	if (qmp_execute(j->g->qmp, "quit", NULL, USEC_UNKNOWN, NULL, NULL) < 0)
		qjob_end(j);
}

static void on_reset(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	if (reply->status != QMP_CLOSED)
		go_on(userdata);
}

static int on_synced(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct guest_job *j = userdata;
	int pidfd = j->syncer_fd, r;

	j->syncer = sd_event_source_disable_unref(j->syncer);
	j->syncer_fd = -1;
	r = saved_result(pidfd);
	if (r < 0) {
		failure_set(&j->why, VIREO_OPERATION_FAILED, "%s cannot be put on the disk: %s", path_of(j), strerror(-r));
		undo(j);
		return 0;
	}
	close(j->fd);
	j->fd = -1;
	if (is_save(j))
		quit(j, "saved");
	else if (option(j, "crash"))
		quit(j, "crashed");
	else if (option(j, "reset")) {
		if (!qjob_execute(j, "system_reset", NULL, on_reset))
			go_on(j);
	} else
		go_on(j);
	return 0;
}

/* QEMU has written all. */
static void written(struct guest_job *j)
{
	int r;

	j->stage = JOB_FINISHING;
	r = saved_finish(path_of(j), j->fd, j->head, &j->syncer_fd);
	if (r == 0)
		r = sd_event_add_io(j->g->env->event, &j->syncer, j->syncer_fd, EPOLLIN, on_synced, j);
	if (r < 0) {
		failure_set(&j->why, VIREO_OPERATION_FAILED, "%s cannot be put on the disk: %s", path_of(j), strerror(-r));
		undo(j);
	}
}

static bool save_down(struct guest_job *j)
{
	bool good = j->stage == JOB_FINISHING && j->fd < 0 && !j->syncer && j->why.error == VIREO_OK;

	if (j->fd >= 0 && j->request)
		saved_abandon(path_of(j));
	return good;
}

/* ---- the stream --------------------------------------------------------------------------------------------- */

static void on_begun(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;

	if (reply->status == QMP_CLOSED)
		return;
	if (!qjob_reply_is_good(j, reply)) {
		undo(j);
		return;
	}
	if (j->cancelled && j->type->cancel)
		j->type->cancel(j);
}

static struct json_object *dump_arguments(struct guest_job *j)
{
	const char *format = vdict_s(j->request->options, "format", NULL);
	struct json_object *a = json_strings("protocol", "fd:" DESCRIPTOR, NULL);

	json_object_object_add(a, "paging", json_object_new_boolean(false));
	json_object_object_add(a, "detach", json_object_new_boolean(true));
	if (format && strcmp(format, "raw") != 0)
		json_object_object_add(a, "format", json_object_new_string(format));
	return a;
}

static void on_descriptor(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;
	bool sent;

	if (reply->status == QMP_CLOSED)
		return;
	if (!qjob_reply_is_good(j, reply)) {
		undo(j);
		return;
	}
	/* Events of before were of others. */
	j->stage = JOB_RUNNING;
	if (j->memory_only)
		sent = qjob_execute(j, "dump-guest-memory", dump_arguments(j), on_begun);
	else
		sent = qjob_execute(j, "migrate", json_strings("uri", "fd:" DESCRIPTOR, NULL), on_begun);
	if (!sent)
		undo(j);
}

static struct json_object *parameters(void)
{
	struct json_object *a = json_object_new_object();

	/* A disk is as fast as it is; QEMU's own limit is made for networks. */
	json_object_object_add(a, "max-bandwidth", json_object_new_int64(INT64_C(1) << 40));
	return a;
}

static void on_stopped(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;

	if (reply->status == QMP_CLOSED)
		return;
	if (!qjob_reply_is_good(j, reply)) {
		undo(j);
		return;
	}
	/* QEMU takes one after the other; what goes wrong in the first two goes wrong in the third too, or does not matter. */
	guest_want_migration_events(j->g);
	(void)qmp_execute(q, "migrate-set-parameters", parameters(), USEC_UNKNOWN, NULL, NULL);
	if (qmp_execute_fd(q, "getfd", json_strings("fdname", DESCRIPTOR, NULL), j->fd, USEC_UNKNOWN, on_descriptor, j) < 0) {
		failure_set(&j->why, VIREO_OPERATION_FAILED, "QEMU cannot be given the file");
		undo(j);
	}
}

/* ---- the file ----------------------------------------------------------------------------------------------- */

struct opening {
	struct guest_job *j; /* NULL: it has ended */
	char *path, *xml;
	bool running, stop;
	int error, fd;
	struct failure f;
};

static void opening_work(void *data)
{
	struct opening *o = data;

	o->error = saved_begin(o->path, o->xml, o->running, &o->fd, &o->f);
}

static void opening_drop(void *data)
{
	struct opening *o = data;

	if (o->fd >= 0) {
		saved_abandon(o->path);
		close(o->fd);
	}
	failure_clear(&o->f);
	free(o->path);
	free(o->xml);
	free(o);
}

static void on_opened(void *data)
{
	struct opening *o = data;
	struct guest_job *j = o->j;
	bool stop = o->stop;
	int error = o->error;

	if (j) {
		j->opening = NULL;
		j->fd = o->fd;
		o->fd = -1;
		if (error > 0) {
			j->why = o->f;
			o->f = (struct failure){0};
		}
	}
	opening_drop(o);
	if (!j)
		return;
	if (error != 0)
		qjob_end(j);
	else if (j->cancelled)
		undo(j);
	else if (!j->g->qmp)
		qjob_fail(j, VIREO_INVALID_STATE, "the domain is not running");
	else if (!stop) {
		const struct qmp_reply good = {.status = QMP_OK};

		on_stopped(j->g->qmp, &good, j);
	} else if (!qjob_execute(j, "stop", NULL, on_stopped))
		undo(j);
}

void qjob_save_orphan(struct guest_job *j)
{
	if (j->opening)
		j->opening->j = NULL;
	j->opening = NULL;
}

static void begin(struct guest_job *j, const struct seen *s)
{
	_cleanup_(freep) char *own = NULL;
	const char *xml = vdict_s(j->request->options, "xml", NULL);
	bool running = (j->was_running && !option(j, "paused")) || option(j, "running");
	bool live = !is_save(j) && option(j, "live");
	struct opening *o;

	if (!path_of(j) || path_of(j)[0] != '/') {
		qjob_fail(j, VIREO_INVALID_ARGS, "'%s' is not an absolute path", path_of(j) ? path_of(j) : "");
		return;
	}
	if (s->state != DOMAIN_RUNNING && s->state != DOMAIN_PAUSED && !(s->state == DOMAIN_CRASHED && !is_save(j))) {
		qjob_fail(j, VIREO_INVALID_STATE, "the domain is neither running nor paused");
		return;
	}
	j->memory_only = !is_save(j) && option(j, "memory-only");
	if (!is_save(j) && !j->memory_only && strcmp(vdict_s(j->request->options, "format", "raw"), "raw") != 0) {
		qjob_fail(j, VIREO_INVALID_OPTION, "formats other than raw are for memory-only");
		return;
	}
	j->head = !j->memory_only;
	if (j->head && !xml)
		xml = own = j->g->ops->xml ? j->g->ops->xml(j->g) : NULL;
	o = calloc(1, sizeof(*o));
	if (o) {
		*o = (struct opening){.j = j, .fd = -1, .path = strdup(path_of(j)), .running = running,
			.stop = j->was_running && !live && !j->memory_only};
		/* A dump of memory has no head. */
		o->xml = j->head ? strdup(xml ? xml : "") : NULL;
	}
	if (!o || !o->path || (j->head && !o->xml) ||
		chores_run(j->g->env->chores, opening_work, on_opened, opening_drop, o) < 0) {
		if (o)
			opening_drop(o);
		qjob_fail(j, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	j->opening = o;
}

static void save_event(struct guest_job *j, const char *name, struct json_object *data)
{
	const char *status = json_s(data, "status");

	if (j->stage != JOB_RUNNING || j->memory_only || strcmp(name, "MIGRATION") != 0 || !status)
		return;
	if (strcmp(status, "completed") == 0)
		written(j);
	else if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0) {
		if (!j->cancelled)
			failure_set(&j->why, VIREO_OPERATION_FAILED, "QEMU could not write the state");
		undo(j);
	}
}

static void dump_event(struct guest_job *j, const char *name, struct json_object *data)
{
	const char *error = json_s(data, "error"), *status = json_s(json_member(data, "result"), "status");

	if (!j->memory_only) {
		save_event(j, name, data);
		return;
	}
	if (j->stage != JOB_RUNNING || strcmp(name, "DUMP_COMPLETED") != 0)
		return;
	/* QEMU itself lets the guest go on: it has stopped it. */
	if (!error && status && strcmp(status, "completed") == 0) {
		if (!option(j, "crash"))
			j->was_running = false;
		written(j);
	} else {
		failure_set(&j->why, VIREO_OPERATION_FAILED, "QEMU could not write the memory: %s", error ? error : "it does not say why");
		j->was_running = false;
		undo(j);
	}
}

/* ---- progress and cancelling -------------------------------------------------------------------------------- */

static void on_migrate_queried(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;
	struct json_object *ram = reply->status == QMP_OK ? json_member(reply->value, "ram") : NULL;
	uint64_t total = json_u(ram, "total", 0), remaining = json_u(ram, "remaining", 0);

	if (reply->status != QMP_CLOSED && ram && j->stage == JOB_RUNNING)
		qjob_progress(j, total > remaining ? total - remaining : 0, total);
}

static void on_dump_queried(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest_job *j = userdata;

	if (reply->status == QMP_OK && j->stage == JOB_RUNNING)
		qjob_progress(j, json_u(reply->value, "completed", 0), json_u(reply->value, "total", 0));
}

static void save_poll(struct guest_job *j)
{
	(void)qmp_execute(j->g->qmp, j->memory_only ? "query-dump" : "query-migrate", NULL, USEC_UNKNOWN,
		j->memory_only ? on_dump_queried : on_migrate_queried, j);
}

static void save_cancel(struct guest_job *j)
{
	/* A dump of memory goes on to its end, whatever one says. */
	if (!j->memory_only)
		(void)qmp_execute(j->g->qmp, "migrate_cancel", NULL, USEC_UNKNOWN, NULL, NULL);
}

const struct qjob_type qjob_save = {
	.begin = begin,
	.event = save_event,
	.poll = save_poll,
	.cancel = save_cancel,
	.down = save_down,
};

const struct qjob_type qjob_dump = {
	.begin = begin,
	.event = dump_event,
	.poll = save_poll,
	.cancel = save_cancel,
	.down = save_down,
};
