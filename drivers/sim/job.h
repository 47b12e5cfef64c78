/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/*
 * Operations that last. They are the hypervisor's own, not of the connection that began them: when that is lost they go
 * on, and the others, and whoever comes later, see them as somebody else's. The world's thread drives them.
 *
 *   begin() ──► moving ──► end()                  completed
 *      │           ├─────► [ready] ──► end()      completed, by complete(); a copy of a disk
 *      │           └─────► undo()                 cancelled, failed, or its domain stopped
 *      └─ an error: nothing has happened
 *
 * All of this is under the world's lock.
 */

#define SIM_GOES_ON 1000 /* greater than any error: it ends later, by sim_job_over() */

struct sim_job;

struct sim_course {
	/* What is against it, and what is seen of it at once. NULL: it is all done at its end, by sim_operate(). */
	int (*begin)(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f);
	/* All is moved. 0, an error, or SIM_GOES_ON. */
	int (*end)(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f);
	/* As if it had never been. @o is NULL when its run has ended, or it is gone. May be NULL. */
	void (*undo)(struct sim_world *w, struct sim_job *j, struct sim_object *o);
	/* It is to end, as cancelled or failed. 0: at once; SIM_GOES_ON. NULL: at once. */
	int (*stop)(struct sim_world *w, struct sim_job *j);
	bool cancellable;
	bool visible; /* to those who did not begin it */
	bool of_run;   /* ends with the run of its domain */
	bool of_owner; /* ends with the connection that began it */
	bool writes;   /* needs space */
	/* Half of the time is over. May be NULL. */
	void (*half)(struct sim_world *w, struct sim_job *j, struct sim_object *o);
};
extern const struct sim_course sim_save_course, sim_managed_save_course, sim_restore_course, sim_dump_course,
	sim_migrate_course, sim_pull_course, sim_commit_course, sim_copy_course, sim_clone_course,
	sim_upload_course, sim_download_course;
/* NULL: it is done at once. */
const struct sim_course *sim_course_of(enum operation operation);

struct sim_job {
	struct sim_job *next;
	uint64_t number;	   /* with FOREIGN_TOKEN it is what others call it */
	struct sim_session *owner; /* who hears its result; NULL: nobody */
	struct request *request;
	const struct sim_course *course; /* NULL: as the rules have it, nothing more */
	struct report *report;		 /* RESULT, in the making */
	int run;			 /* of its domain */

	uint64_t duration, interval; /* µs; duration USEC_UNKNOWN: until it is ended */
	uint64_t fails_after; /* µs of its time; USEC_UNKNOWN: it does not */
	uint64_t started, half, ends, fails, tells;
	uint64_t total, done; /* bytes; done counts when @counts */
	bool cancellable, shown, of_run;
	bool held;   /* time does not end it: a thread does, or sim_job_go() */
	bool counts; /* its progress is @done, not the time */
	bool copies, ready; /* it waits to be completed when all is copied */
	bool cancelled, ending;
	struct failure why; /* that it will fail for */

	/* of its course */
	bool was_running, pivot;
	const char *type; /* of a block job */
	struct sim_config *config;
	void *data;
	void (*free_data)(void *data);
};

/* What the request says of @q->options; never NULL. */
const char *sim_job_option(const struct sim_job *j, const char *name);
/*
 * sim_job_start() - carry out a request, at once or for as long as it lasts
 * @owner: hears of it; NULL: nobody, it is as somebody else's
 * @q:     taken
 * @rule:  how it behaves
 * @f:     NULL, or where to say why it did not begin
 */
int sim_job_start(struct sim_world *w, struct sim_session *owner, struct request *q, const struct sim_rule *rule,
		  struct failure *f);
/* It has ended: @f is taken over, VIREO_OK means that it was done. The pointer is void then. */
void sim_job_over(struct sim_world *w, struct sim_job *j, struct failure *f);
/* Undone, and over with this error. */
void sim_job_fail(struct sim_world *w, struct sim_job *j, enum vireo_error error, const char *why);
/* It ends early, for this reason. */
void sim_job_stop(struct sim_world *w, struct sim_job *j, enum vireo_error error, const char *why);
/* It is done, however long it was to last. */
void sim_job_finish(struct sim_world *w, struct sim_job *j);
/* What was held moves, from now on for as long as it is to last. */
void sim_job_go(struct sim_world *w, struct sim_job *j);
struct sim_job *sim_job_find(struct sim_world *w, const struct sim_session *owner, uint64_t token);
/* The job of that operation on that object, and disk; OP_NONE: any. */
struct sim_job *sim_job_on(struct sim_world *w, const struct sim_object *o, enum operation operation, const char *subject);
void sim_job_cancel(struct sim_world *w, struct sim_job *j);
int sim_job_complete(struct sim_world *w, struct sim_job *j, struct failure *f);

/* Is there a running job that keeps this one out? */
int sim_jobs_check_busy(struct sim_world *w, const struct request *q, struct failure *f);
/* World's thread: what is due. Return: when to come again. */
uint64_t sim_jobs_run(struct sim_world *w);
/* The run of @o has ended. */
void sim_jobs_stopped(struct sim_world *w, const struct sim_object *o);
/* A session goes. */
void sim_jobs_disown(struct sim_world *w, const struct sim_session *s);
/* A session has come: it is told what runs. */
void sim_jobs_show(struct sim_world *w, struct sim_session *s);
/* Ends all of them, as far as that can be. */
void sim_jobs_stop(struct sim_world *w);
/* Forgets them; none has a thread any more. */
void sim_jobs_free(struct sim_world *w);
size_t sim_jobs_count(const struct sim_world *w);

/* operate.c: what it does when it takes no time. */
void sim_operate(struct sim_world *w, const struct request *r, struct result *ret);
/* job-domain.c: libvirt's event for the end of a job of a domain as a whole. */
void sim_emit_job_completed(struct sim_world *w, const struct sim_object *o, const struct sim_job *j);
