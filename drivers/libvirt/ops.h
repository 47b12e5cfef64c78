/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "connection.h"

/*
 * Operations. One is asked for (lv_operate), waits for an operator, is run by its handler, its object is looked at
 * until settled, then RESULT is posted. A handler may return LV_GOES_ON: the operation then ends by an event.
 */

enum lv_cancel { LV_CANCEL_NOT, LV_CANCEL_JOB, LV_CANCEL_BLOCK_JOB, LV_CANCEL_STREAM };

struct lv_op {
	struct driver_connection *c;
	struct lv_op *prev, *next; /* in driver_connection.operations, until it is answered */
	unsigned refs;		   /* under the lock, as all of these: of that list, and of whoever has it in hand */
	bool answered;
	bool begun;
	bool cancelled;	 /* was asked to end early */
	bool goes_on;	 /* its call has returned, it ends by an event */
	enum lv_cancel cancel; /* how it can be cancelled now */
	virStreamPtr stream;   /* LV_CANCEL_STREAM */
	bool ready, pivoting;  /* block jobs */
	int block_type, block_status; /* of the event that ended it; -1: none came */
	bool followed;		      /* the progress work polls it */
	struct lv_object *object; /* a reference; that looks wait for it; NULL: not (any more) */
	bool creating;
	uint64_t began;
	uint64_t poll_at;
	uint64_t bytes, total; /* upload, download */
	uint64_t rate_at, rate_done;
	double rate;

	/* Its operator's alone. */
	struct request *r;
	void *handle; /* object that it is called on; set before @begun's handler runs, then constant */
	struct report *report; /* RESULT to be */
};

/* Positive enum vireo_error, 0, or LV_GOES_ON. */
#define LV_GOES_ON (-1)
typedef int (*lv_handler_fn)(struct lv_op *op, struct failure *f);

struct lv_handler {
	lv_handler_fn run;
	const char *root; /* text is XML with this element */
};

/* All handlers; where there is none the operation is not supported. */
extern const struct lv_handler lv_domain_handlers[OP_MAX], lv_pool_handlers[OP_MAX], lv_job_handlers[OP_MAX];

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

/* The operation has ended: look, then post RESULT. Takes the caller's reference. Not under the lock. */
void lv_op_ended(struct driver_connection *c, struct lv_op *op);
void lv_op_unref(struct driver_connection *c, struct lv_op *op); /* under the lock */
