/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "guest.h"

/*
 * Operations of a running guest that last: save, dump, block jobs. Each ends by an event of QEMU's; progress is
 * asked for only while one runs.
 *
 *	JOB_PREPARING ──► JOB_RUNNING ──► JOB_FINISHING ──► RESULT
 *	     │			│  cancel: QEMU is asked, its event ends the job
 *	     └──────────────────┴──► JOB_UNDOING ──► RESULT
 */
enum qjob_stage {
	JOB_PREPARING, /* checks, descriptors, parameters */
	JOB_RUNNING,   /* QEMU works */
	JOB_FINISHING, /* it has done its part: sync, quit */
	JOB_UNDOING,   /* it failed or was cancelled: let the guest go on */
};

struct guest_job;

struct qjob_type {
	/* Begin, in stage PREPARING; the guest was just looked at (@s). */
	void (*begin)(struct guest_job *j, const struct seen *s);
	/* Every event of QEMU's. */
	void (*event)(struct guest_job *j, const char *name, struct json_object *data);
	/* Ask QEMU for progress. */
	void (*poll)(struct guest_job *j);
	/* RUNNING only: ask QEMU to end it. NULL: that cannot be done. */
	void (*cancel)(struct guest_job *j);
	void (*complete)(struct guest_job *j); /* NULL: there is nothing to complete */
	/* The monitor has ended; the job is freed behind. true: that is how it should end. NULL: never. */
	bool (*down)(struct guest_job *j);
};

struct guest_job {
	struct guest *g;
	const struct qjob_type *type;
	struct request *request;
	enum qjob_stage stage;
	struct timer timer;
	uint64_t began;
	bool cancelled, ready, completing;
	bool looking; /* waits for a look, which ends it, or begins it */
	bool was_running;
	struct failure why; /* UNDOING */

	/* save, dump */
	int fd;
	bool head; /* the file has one */
	struct opening *opening; /* a worker makes the file */
	bool memory_only;
	sd_event_source *syncer;
	int syncer_fd;

	/* block jobs */
	char *id;   /* QEMU's */
	char *disk; /* as it was called */
	const char *word; /* type in the words of the event BlockJob */
	char *target;	  /* the file that is the disk's behind a pivot */
	bool pivot;	  /* complete by itself */

	struct guest_job *prev, *next;
};

/* jobs-save.c, jobs-block.c */
extern const struct qjob_type qjob_save, qjob_dump, qjob_block;
/* The job ends: a file that is just being made is not wanted any more. */
void qjob_save_orphan(struct guest_job *j);

/* Every event comes here first. */
void guest_job_event(struct guest *g, const char *name, struct json_object *data);
/* The monitor ended: every job ends. Posts RESULT of each. */
void guest_jobs_fail(struct guest *g, enum vireo_error error, const char *why);
/* Without a word: the connection is closed. */
void guest_jobs_free(struct guest *g);
/* true: there is such a job, and it was asked to end. */
bool guest_job_cancel(struct guest *g, uint64_t token);
bool guest_job_complete(struct guest *g, uint64_t token);
/* Of a block job: the disk, and its type in the words of the event BlockJob; NULL: not ours. */
const char *guest_job_disk(struct guest *g, const char *id, const char **ret_type);
/* Is that the name of a job begun by this process? */
bool guest_job_is_own(const char *id);
/* Is the state being moved by one of ours: a save, a dump? */
bool guest_job_moves_state(const struct guest *g);
/* Begin; r is taken. */
void guest_job_begin(struct guest *g, struct request *r);

/* foreign.c: jobs of others. Every event comes here too. */
void guest_foreign_event(struct guest *g, const char *name, struct json_object *data);
/* What runs already? Once the domain has been announced. */
void guest_foreign_scan(struct guest *g);
/* true: there is such a job, and it was asked. */
bool guest_foreign_cancel(struct guest *g, uint64_t token);
bool guest_foreign_complete(struct guest *g, uint64_t token);
/* QEMU ended: nobody knows what became of them. */
void guest_foreign_end(struct guest *g, const char *why);
void guest_foreign_free(struct guest *g);

/* For the types. */
/* A name for QEMU. Owned; NULL: no memory. */
char *qjob_make_id(const struct guest_job *j);
void qjob_progress(struct guest_job *j, uint64_t done, uint64_t total);
/* Look at the guest, post the result; the job is freed. */
void qjob_end(struct guest_job *j);
/* The same, with a failure; the first one counts. */
void qjob_fail(struct guest_job *j, enum vireo_error error, const char *format, ...) _printf_(3, 4);
/* From a reply: false when it was not OK; the failure is kept then, and nothing is ended. */
bool qjob_reply_is_good(struct guest_job *j, const struct qmp_reply *reply);
/* Send; a failure to do so is kept. */
bool qjob_execute(struct guest_job *j, const char *command, struct json_object *arguments, qmp_reply_fn fn);
