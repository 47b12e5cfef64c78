/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs.h"

struct guest_job {
	struct request *request;
	struct guest_job *prev, *next;
};

void guest_job_event(struct guest *g, const char *name, struct json_object *data)
{
}
void guest_jobs_fail(struct guest *g, enum vireo_error error, const char *why)
{
}
void guest_jobs_free(struct guest *g)
{
}
bool guest_job_cancel(struct guest *g, uint64_t token)
{
	return false;
}
bool guest_job_complete(struct guest *g, uint64_t token)
{
	return false;
}
const char *guest_job_disk(struct guest *g, const char *id, const char **ret_type)
{
	return NULL;
}
void guest_job_begin(struct guest *g, struct request *r)
{
	env_post_result(g->env, r, VIREO_NOT_SUPPORTED, "%s", "not yet");
}
