/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <json-c/json.h>
#include <string.h>
#include <utlist.h>

#include "jobs.h"
#include "util/log.h"

/*
 * Jobs that somebody else began: by another monitor of the same QEMU, or a broker of before. QEMU tells of each by
 * events; what runs already when we come is asked for. How far they are is asked for only while there are any.
 */

#define POLL_EVERY (250 * USEC_PER_MSEC)
/* Of one guest: its disks are fewer, and what QEMU says is not to be believed without bounds. */
#define FOREIGN_MAX 64u

struct foreign_job {
	struct guest *g;
	char *id; /* QEMU's; NULL: the migration, of which there is one at most */
	uint64_t token;
	bool ready, listed;
	struct foreign_job *prev, *next;
};

static const struct {
	const char *type;
	enum operation operation;
} types[] = {
	{"backup", OP_FOREIGN_BACKUP},
	{"commit", OP_DOMAIN_BLOCK_COMMIT},
	{"mirror", OP_DOMAIN_BLOCK_COPY},
	{"stream", OP_DOMAIN_BLOCK_PULL},
};

static void on_poll(struct timer *t, void *userdata);
static void ask(struct guest *g);

static bool is_one_of(const char *s, const char *const *words)
{
	for (; s && *words; words++)
		if (strcmp(s, *words) == 0)
			return true;
	return false;
}

/* Of a job, as QEMU says it, before its end. */
static bool job_is_alive(const char *status)
{
	static const char *const words[] = {"created", "running", "paused", "ready", "standby", "waiting", "pending", NULL};

	return is_one_of(status, words);
}

static bool migration_is_alive(const char *status)
{
	static const char *const words[] = {"setup", "active", "postcopy-active", "postcopy-paused", "pre-switchover", "device",
		"wait-unplug", "cancelling", NULL};

	return is_one_of(status, words);
}

static struct foreign_job *find(struct guest *g, const char *id)
{
	struct foreign_job *j;

	DL_FOREACH(g->foreign, j)
	if (id ? j->id && strcmp(j->id, id) == 0 : !j->id)
		return j;
	return NULL;
}

static void drop(struct foreign_job *j)
{
	DL_DELETE(j->g->foreign, j);
	free(j->id);
	free(j);
}

static void end(struct foreign_job *j, enum vireo_error error, const char *why)
{
	struct report *r = report_new(REPORT_FOREIGN);

	if (r) {
		r->foreign.token = j->token;
		r->foreign.ended = true;
		if (error != VIREO_OK)
			failure_set(&r->foreign.failure, error, "%s", why);
	}
	env_post(j->g->env, r);
	drop(j);
}

/* A job's name may be that of the drive it works on; any other is no disk. */
static bool is_drive(const struct guest *g, const char *id)
{
	struct json_object *list = g->facts.block;

	for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
		const char *device = json_s(json_object_array_get_idx(list, i), "device");

		if (device && *device && strcmp(device, id) == 0)
			return true;
	}
	return false;
}

static struct foreign_job *begin(struct guest *g, const char *id, enum operation operation)
{
	static uint64_t last;
	struct foreign_job *j;
	struct report *r;
	unsigned n;

	DL_COUNT(g->foreign, j, n);
	if (n >= FOREIGN_MAX) {
		if (!g->foreign_too_many)
			log_warning("Domain '%s': of its jobs only %u are shown.", g->name, FOREIGN_MAX);
		g->foreign_too_many = true;
		return NULL;
	}
	j = calloc(1, sizeof(*j));
	r = report_new(REPORT_FOREIGN);
	if (!j || !r || (id && !(j->id = strdup(id)))) {
		free(j);
		report_free(r);
		return NULL;
	}
	j->g = g;
	j->token = FOREIGN_TOKEN | ++last;
	DL_APPEND(g->foreign, j);
	r->foreign.token = j->token;
	r->foreign.kind = KIND_DOMAIN;
	r->foreign.uuid = g->uuid;
	r->foreign.operation = operation;
	r->foreign.subject = id && is_drive(g, id) ? strdup(id) : NULL;
	r->foreign.cancellable = true;
	env_post(g->env, r);
	return j;
}

static void tell_progress(struct foreign_job *j, uint64_t done, uint64_t total)
{
	struct report *r = report_new(REPORT_PROGRESS);

	if (r) {
		r->progress.token = j->token;
		r->progress.done = done < total ? done : total;
		r->progress.total = total;
		r->progress.remaining = USEC_UNKNOWN;
		r->progress.percent = -1;
		r->progress.ready = j->ready;
		r->progress.cancellable = true;
	}
	env_post(j->g->env, r);
}

/* ---- asking ------------------------------------------------------------------------------------------------- */

/* As long as there is anything to ask for. */
static void ask_again(struct guest *g)
{
	if (g->foreign && !g->foreign_timer.set)
		timer_in(g->env->clock, &g->foreign_timer, POLL_EVERY, on_poll, g);
}

static void take_job(struct guest *g, struct json_object *o)
{
	const char *id = json_s(o, "id"), *type = json_s(o, "type"), *status = json_s(o, "status");
	struct foreign_job *j = id ? find(g, id) : NULL;

	/* One that is just ending has an end that is about to be told. */
	if (j)
		j->listed = true;
	if (!id || !job_is_alive(status) || guest_job_is_own(id))
		return;
	for (size_t i = 0; !j && type && i < ELEMENTS(types); i++)
		if (strcmp(types[i].type, type) == 0) {
			j = begin(g, id, types[i].operation);
			break;
		}
	if (!j)
		return;
	j->listed = true;
	j->ready = strcmp(status, "ready") == 0;
	tell_progress(j, json_u(o, "current-progress", 0), json_u(o, "total-progress", 0));
}

static void on_jobs(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest *g = userdata;
	struct foreign_job *j, *tmp;

	g->foreign_asked = false;
	if (reply->status != QMP_OK || !g->announced || !json_object_is_type(reply->value, json_type_array))
		return;
	DL_FOREACH(g->foreign, j)
	j->listed = false;
	for (size_t i = 0; i < json_object_array_length(reply->value); i++)
		take_job(g, json_object_array_get_idx(reply->value, i));
	/* Its end would have been told before this answer. */
	DL_FOREACH_SAFE(g->foreign, j, tmp)
	if (j->id && !j->listed)
		end(j, VIREO_OUTCOME_UNKNOWN, "it ended while nobody listened");
	ask_again(g);
}

/* QEMU sets the word before it sends the event. */
static bool migration_ended(struct foreign_job *j, const char *status)
{
	if (status && strcmp(status, "completed") == 0)
		end(j, VIREO_OK, NULL);
	else if (status && strcmp(status, "failed") == 0)
		end(j, VIREO_OPERATION_FAILED, "QEMU could not migrate");
	else if (status && strcmp(status, "cancelled") == 0)
		end(j, VIREO_CANCELLED, "it was cancelled");
	else
		return false;
	return true;
}

static void on_migrate(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct guest *g = userdata;
	struct foreign_job *j = find(g, NULL);
	const char *status = reply->status == QMP_OK ? json_s(reply->value, "status") : NULL;
	struct json_object *ram = reply->status == QMP_OK ? json_member(reply->value, "ram") : NULL;
	uint64_t total = json_u(ram, "total", 0), remaining = json_u(ram, "remaining", 0);

	if (reply->status != QMP_OK || !g->announced)
		return;
	if (migration_is_alive(status)) {
		if (!j && !guest_job_moves_state(g) && strcmp(g->status, "inmigrate") != 0)
			j = begin(g, NULL, OP_DOMAIN_MIGRATE);
		if (j)
			tell_progress(j, total > remaining ? total - remaining : 0, total);
		ask_again(g);
	} else if (j && !migration_ended(j, status))
		end(j, VIREO_OUTCOME_UNKNOWN, "it ended while nobody listened");
}

static void on_poll(struct timer *t, void *userdata)
{
	ask(userdata);
}

static void ask(struct guest *g)
{
	timer_clear(&g->foreign_timer);
	if (!g->qmp)
		return;
	if (!g->foreign_asked && qmp_execute(g->qmp, "query-jobs", NULL, USEC_UNKNOWN, on_jobs, g) >= 0)
		g->foreign_asked = true;
	if (find(g, NULL))
		(void)qmp_execute(g->qmp, "query-migrate", NULL, USEC_UNKNOWN, on_migrate, g);
	ask_again(g);
}

void guest_foreign_scan(struct guest *g)
{
	g->foreign_asked = false;
	ask(g);
	if (g->qmp && !find(g, NULL))
		(void)qmp_execute(g->qmp, "query-migrate", NULL, USEC_UNKNOWN, on_migrate, g);
}

/* ---- what QEMU tells ---------------------------------------------------------------------------------------- */

static void take_migration(struct guest *g, const char *status)
{
	struct foreign_job *j = find(g, NULL);

	if (migration_is_alive(status)) {
		if (!j && !guest_job_moves_state(g) && strcmp(g->status, "inmigrate") != 0 && begin(g, NULL, OP_DOMAIN_MIGRATE))
			ask(g);
	} else if (j)
		(void)migration_ended(j, status);
}

void guest_foreign_event(struct guest *g, const char *name, struct json_object *data)
{
	const char *status = json_s(data, "status"), *id, *error;
	struct foreign_job *j;

	if (!g->announced)
		return;
	if (strcmp(name, "MIGRATION") == 0) {
		if (status)
			take_migration(g, status);
		return;
	}
	if (strcmp(name, "JOB_STATUS_CHANGE") == 0) {
		id = json_s(data, "id");
		j = id ? find(g, id) : NULL;
		if (id && !j && job_is_alive(status) && !guest_job_is_own(id))
			ask(g);
		else if (j && status && strcmp(status, "null") == 0)
			end(j, VIREO_OUTCOME_UNKNOWN, "QEMU does not say how it ended");
		return;
	}
	if (strncmp(name, "BLOCK_JOB_", 10) != 0)
		return;
	id = json_s(data, "device");
	j = id ? find(g, id) : NULL;
	error = json_s(data, "error");
	if (!j)
		return;
	if (strcmp(name, "BLOCK_JOB_READY") == 0) {
		j->ready = true;
		tell_progress(j, json_u(data, "offset", 0), json_u(data, "len", 0));
	} else if (strcmp(name, "BLOCK_JOB_CANCELLED") == 0)
		end(j, VIREO_CANCELLED, "it was cancelled");
	else if (strcmp(name, "BLOCK_JOB_COMPLETED") == 0 && error)
		end(j, VIREO_OPERATION_FAILED, error);
	else if (strcmp(name, "BLOCK_JOB_COMPLETED") == 0) {
		tell_progress(j, json_u(data, "len", 0), json_u(data, "len", 0));
		end(j, VIREO_OK, NULL);
	}
}

/* ---- for the guest ------------------------------------------------------------------------------------------ */

static struct foreign_job *find_token(struct guest *g, uint64_t token)
{
	struct foreign_job *j;

	DL_FOREACH(g->foreign, j)
	if (j->token == token)
		return j;
	return NULL;
}

bool guest_foreign_cancel(struct guest *g, uint64_t token)
{
	struct foreign_job *j = find_token(g, token);

	if (!j)
		return false;
	if (g->qmp && !j->id)
		(void)qmp_execute(g->qmp, "migrate_cancel", NULL, USEC_UNKNOWN, NULL, NULL);
	else if (g->qmp)
		(void)qmp_execute(g->qmp, "job-cancel", json_strings("id", j->id, NULL), USEC_UNKNOWN, NULL, NULL);
	return true;
}

bool guest_foreign_complete(struct guest *g, uint64_t token)
{
	struct foreign_job *j = find_token(g, token);

	if (!j)
		return false;
	if (g->qmp && j->id && j->ready)
		(void)qmp_execute(g->qmp, "job-complete", json_strings("id", j->id, NULL), USEC_UNKNOWN, NULL, NULL);
	return true;
}

void guest_foreign_end(struct guest *g, const char *why)
{
	timer_clear(&g->foreign_timer);
	while (g->foreign)
		end(g->foreign, VIREO_OUTCOME_UNKNOWN, why);
}

void guest_foreign_free(struct guest *g)
{
	timer_clear(&g->foreign_timer);
	while (g->foreign)
		drop(g->foreign);
}
