/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "guest.h"

/*
 * Operations of a running guest that last: save, dump, block jobs. Each ends by an event of QEMU's; progress is
 * asked for only while one runs.
 */

/* Every event comes here first. */
void guest_job_event(struct guest *g, const char *name, struct json_object *data);
/* The monitor ended: every job fails. Posts RESULT of each. */
void guest_jobs_fail(struct guest *g, enum vireo_error error, const char *why);
/* Without a word: the connection is closed. */
void guest_jobs_free(struct guest *g);
/* true: there is such a job, and it was asked to end. */
bool guest_job_cancel(struct guest *g, uint64_t token);
bool guest_job_complete(struct guest *g, uint64_t token);
/* Of a block job: the disk, and its type in the words of the event BlockJob; NULL: not ours. */
const char *guest_job_disk(struct guest *g, const char *id, const char **ret_type);
/* Begin; r is taken. */
void guest_job_begin(struct guest *g, struct request *r);
