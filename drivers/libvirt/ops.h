/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "connection.h"

/*
 * Operations. One is asked for (lv_operate), waits for an operator, is run by its handler, its object is looked at
 * until settled, then RESULT is posted. A handler may return LV_GOES_ON: the operation then ends by an event.
 */

/* How far an operation is, is asked so; and so it is cancelled. */
enum lv_follow {
	LV_FOLLOW_NOT,
	LV_FOLLOW_QUEUE,  /* it waits for a worker: it can be cancelled, whatever it is */
	LV_FOLLOW_JOB,	  /* virDomainGetJobStats, virDomainAbortJob */
	LV_FOLLOW_BLOCK,  /* virDomainGetBlockJobInfo, virDomainBlockJobAbort */
	LV_FOLLOW_STREAM, /* bytes moved */
	LV_FOLLOW_VOLUME, /* growth of a volume; can't be cancelled */
};

struct lv_op {
	struct driver_connection *c;
	struct lv_op *prev, *next; /* in driver_connection.operations, until it is answered */
	pthread_mutex_t telling;   /* held while progress or the result is posted; before the connection's lock */

	/* Under the lock. */
	unsigned refs; /* of that list, and of whoever has it in hand */
	bool answered;
	bool begun;	/* a worker has it */
	bool cancelled; /* was asked to end early */
	bool aborted;	/* … and libvirt has accepted that */
	struct lv_object *object; /* a reference; looks wait for it; NULL: not (any more) */
	bool creating;
	uint64_t began;
	enum lv_follow follow;
	bool cancellable;
	bool polling;
	uint64_t poll_at;
	unsigned unchanged; /* polls that brought nothing new */
	bool goes_on;	    /* its call has returned: an event ends it */
	bool ready, pivoting;
	int block_status;   /* of the event that ended it; -1: none came */
	bool stopped;	    /* the domain did, and took the block job with it */
	unsigned vanished;  /* polls that found no block job */
	bool postcopy;	    /* to be switched after the first pass */
	/* What somebody else has begun: told by FOREIGN instead of RESULT. It has no call of ours: it goes on from the start. */
	bool foreign;	 /* constant */
	int known_end;	 /* of a domain job: 1 well, 0 badly, 2 cancelled; -1: nothing said so yet */

	/* Written by its operator, read by the poller. */
	atomic_uint_fast64_t bytes, total;
	char *volume; /* LV_FOLLOW_VOLUME: its name; set before it is followed */

	struct progress told; /* under @telling */

	/* The poller's alone. */
	void *watch; /* handle on the control connection */

	/* Its operator's alone. */
	struct request *r; /* constant */
	void *handle;	   /* object that it is called on */
	struct report *report; /* RESULT to be */
};

/* Positive enum vireo_error, 0, or LV_GOES_ON. */
#define LV_GOES_ON (-1)
typedef int (*lv_handler_fn)(struct lv_op *op, struct failure *f);

struct lv_handler {
	lv_handler_fn run;
	const char *root; /* text is XML with this element; "": with any */
	bool lasts;	  /* may last: on a connection and workers of its own kind */
};

/* All handlers; where there is none the operation is not supported. */
extern const struct lv_handler lv_domain_handlers[OP_MAX], lv_pool_handlers[OP_MAX], lv_job_handlers[OP_MAX],
	lv_volume_handlers[OP_MAX];

struct lv_flag {
	const char *option;
	unsigned flag;
};
/* The flags of the boolean options that are true. @table ends with a NULL option. */
unsigned lv_flags(const struct lv_op *op, const struct lv_flag *table);

/* What libvirt's call returned: 0, or the failure it left on this thread. */
int lv_result(int r, struct failure *f);
/* The same for an object that was defined or created: takes the handle, keeps its UUID for the result. */
int lv_result_object(struct lv_op *op, enum kind kind, void *handle, struct failure *f);
/* The same for XML, which is taken. */
int lv_result_text(struct lv_op *op, char *text, struct failure *f);

/* Where its failure goes. */
struct failure *lv_op_failure(struct lv_op *op);

/* The operation has ended: look, then post RESULT. Takes the caller's reference. Not under the lock. */
void lv_op_ended(struct driver_connection *c, struct lv_op *op);
struct lv_op *lv_op_new(struct driver_connection *c, struct request *r, enum report_type type); /* takes @r in any case */
void lv_op_link(struct driver_connection *c, struct lv_op *op); /* under the lock: it is under way; a reference of the list's own */
void lv_op_unref(struct driver_connection *c, struct lv_op *op); /* under the lock */
void lv_op_drop(struct driver_connection *c, void *op);	       /* not under it: lv_submit()'s for what was not begun */
