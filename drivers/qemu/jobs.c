/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <utlist.h>

#define POLL_EVERY (250 * USEC_PER_MSEC)
#define COMMAND_PATIENCE (60 * USEC_PER_SEC)

static void qjob_free(struct guest_job *j)
{
	timer_clear(&j->timer);
	qjob_save_orphan(j);
	sd_event_source_disable_unref(j->syncer);
	if (j->syncer_fd >= 0)
		close(j->syncer_fd);
	chores_close_fd(j->g->env->chores, j->fd);
	request_free(j->request);
	failure_clear(&j->why);
	free(j->id);
	free(j->disk);
	free(j->target);
	DL_DELETE(j->g->jobs, j);
	free(j);
}

static void post(struct guest_job *j)
{
	struct result result = {.failure = j->why};

	j->why = (struct failure){0};
	env_post_result_full(j->g->env, TAKE(j->request), &result);
}

static void on_last_look(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct guest_job *j = userdata;

	j->looking = false;
	if (how == WAITED_SEEN)
		env_post_look(g->env, KIND_DOMAIN, g->uuid, g->name, LOOK_SEEN, s, NULL, 0);
	post(j);
	/*
	 * QEMU answers in order: whatever else was asked for the job has been answered. Where it answers nothing any more, the
	 * job stays, without its request, for answers that come late.
	 */
	if (how != WAITED_TIMEOUT)
		qjob_free(j);
}

void qjob_end(struct guest_job *j)
{
	timer_clear(&j->timer);
	if (j->looking || !j->request)
		return;
	j->stage = JOB_FINISHING;
	j->looking = true;
	guest_look(j->g, on_last_look, j);
}

void qjob_fail(struct guest_job *j, enum vireo_error error, const char *format, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	if (j->why.error == VIREO_OK)
		failure_set(&j->why, error, "%s", text ? text : "");
	qjob_end(j);
}

bool qjob_reply_is_good(struct guest_job *j, const struct qmp_reply *reply)
{
	static const enum vireo_error errors[] = {VIREO_OK, VIREO_OPERATION_FAILED, VIREO_TIMEOUT, VIREO_OUTCOME_UNKNOWN};

	if (reply->status == QMP_OK)
		return true;
	if (j->why.error == VIREO_OK)
		failure_set(&j->why, errors[reply->status], "%s", reply->message);
	return false;
}

bool qjob_execute(struct guest_job *j, const char *command, struct json_object *arguments, qmp_reply_fn fn)
{
	int r = qmp_execute(j->g->qmp, command, arguments, COMMAND_PATIENCE, fn, j);

	if (r < 0 && j->why.error == VIREO_OK)
		failure_set(&j->why, VIREO_OPERATION_FAILED, "QEMU cannot be asked: %s", strerror(-r));
	return r >= 0;
}

/* ---- progress ----------------------------------------------------------------------------------------------- */

void qjob_progress(struct guest_job *j, uint64_t done, uint64_t total)
{
	struct report *r = report_new(REPORT_PROGRESS);
	uint64_t elapsed = clock_monotonic(j->g->env->clock) - j->began;

	if (done > total)
		done = total;
	if (r) {
		r->progress.token = j->request->token;
		r->progress.done = done;
		r->progress.total = total;
		/* As fast as until now. A second says too little. */
		r->progress.remaining = done > 0 && elapsed > USEC_PER_SEC
						? (uint64_t)((double)elapsed / (double)done * (double)(total - done))
						: USEC_UNKNOWN;
		r->progress.percent = -1;
		r->progress.ready = j->ready;
		r->progress.cancellable = j->type->cancel != NULL;
	}
	env_post(j->g->env, r);
}

static void on_poll(struct timer *t, void *userdata)
{
	struct guest_job *j = userdata;

	if (j->stage == JOB_RUNNING)
		j->type->poll(j);
	timer_in(j->g->env->clock, &j->timer, POLL_EVERY, on_poll, j);
}

/* ---- life --------------------------------------------------------------------------------------------------- */

static void on_looked(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct guest_job *j = userdata;

	j->looking = false;
	if (how != WAITED_SEEN) {
		failure_set(&j->why, how == WAITED_DOWN ? VIREO_INVALID_STATE : VIREO_TIMEOUT, "%s",
			how == WAITED_DOWN ? "the domain is not active" : "QEMU does not answer");
		post(j);
		qjob_free(j);
		return;
	}
	j->was_running = s->state == DOMAIN_RUNNING;
	j->began = clock_monotonic(g->env->clock);
	timer_in(g->env->clock, &j->timer, POLL_EVERY, on_poll, j);
	j->type->begin(j, s);
}

void guest_job_begin(struct guest *g, struct request *r)
{
	struct guest_job *j = calloc(1, sizeof(*j));

	if (!j) {
		env_post_result(g->env, r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	j->g = g;
	j->request = r;
	j->fd = j->syncer_fd = -1;
	switch (r->operation) {
	case OP_DOMAIN_SAVE:
	case OP_DOMAIN_MANAGED_SAVE:
		j->type = &qjob_save;
		break;
	case OP_DOMAIN_DUMP:
		j->type = &qjob_dump;
		break;
	default:
		j->type = &qjob_block;
	}
	DL_APPEND(g->jobs, j);
	j->looking = true;
	guest_look(g, on_looked, j);
}

void guest_job_event(struct guest *g, const char *name, struct json_object *data)
{
	struct guest_job *j, *tmp;

	DL_FOREACH_SAFE(g->jobs, j, tmp)
	if (j->request && (j->stage != JOB_PREPARING || j->type == &qjob_block))
		j->type->event(j, name, data);
}

void guest_jobs_fail(struct guest *g, enum vireo_error error, const char *why)
{
	struct guest_job *j, *tmp;

	guest_foreign_end(g, why);
	DL_FOREACH_SAFE(g->jobs, j, tmp)
	{
		bool good = j->type->down && j->type->down(j);

		/* The look that is waited for tells that there is nobody to look at. */
		if (j->looking)
			continue;
		if (!good && j->why.error == VIREO_OK)
			failure_set(&j->why, error, "%s", why);
		if (j->request)
			post(j);
		qjob_free(j);
	}
}

void guest_jobs_free(struct guest *g)
{
	guest_foreign_free(g);
	while (g->jobs) {
		struct guest_job *j = g->jobs;

		if (j->type->down)
			(void)j->type->down(j);
		qjob_free(j);
	}
}

static struct guest_job *find(struct guest *g, uint64_t token)
{
	struct guest_job *j;

	DL_FOREACH(g->jobs, j)
	if (j->request && j->request->token == token)
		return j;
	return NULL;
}

bool guest_job_cancel(struct guest *g, uint64_t token)
{
	struct guest_job *j = find(g, token);

	if (!j)
		return guest_foreign_cancel(g, token);
	j->cancelled = true;
	if (j->type->cancel && j->stage == JOB_RUNNING)
		j->type->cancel(j);
	return true;
}

bool guest_job_complete(struct guest *g, uint64_t token)
{
	struct guest_job *j = find(g, token);

	if (!j)
		return guest_foreign_complete(g, token);
	if (j->type->complete && j->ready && !j->completing)
		j->type->complete(j);
	return true;
}

bool guest_job_moves_state(const struct guest *g)
{
	struct guest_job *j;

	DL_FOREACH(g->jobs, j)
	if (j->type != &qjob_block)
		return true;
	return false;
}

/* A broker of before may have left jobs behind, with tokens that are given anew: each process has names of its own. */
static const char *prefix(void)
{
	static char text[40];

	if (!*text) {
		sd_id128_t id = SD_ID128_NULL;

		(void)sd_id128_randomize(&id);
		snprintf(text, sizeof(text), "vireo-%016" PRIx64 "-", id.qwords[0]);
	}
	return text;
}

bool guest_job_is_own(const char *id)
{
	return strncmp(id, prefix(), strlen(prefix())) == 0;
}

char *qjob_make_id(const struct guest_job *j)
{
	char *id;

	return asprintf(&id, "%s%" PRIu64, prefix(), j->request->token) < 0 ? NULL : id;
}

const char *guest_job_disk(struct guest *g, const char *id, const char **ret_type)
{
	struct guest_job *j;

	DL_FOREACH(g->jobs, j)
	if (j->id && id && strcmp(j->id, id) == 0) {
		*ret_type = j->word;
		return j->disk;
	}
	return NULL;
}
