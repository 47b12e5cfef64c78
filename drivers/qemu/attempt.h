/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "pool.h"

/* What volumes have to do with the disk, before and behind the processes that work on them; and their descriptions. */

/* What a worker finds out, or does, before it is known what becomes of a request. */
struct attempt {
	struct pool *p; /* borrowed; stays */
	struct request *r;
	void (*next)(struct attempt *a); /* on the loop; takes r, unless it is NULL */

	char *directory;
	const char *name;  /* it must be there; of the request */
	char *wanted;	   /* it must not; owned */
	bool list, unlink; /* of all that is there; of @name */
	int flags;	   /* @name is opened with these; 0: it is not */
	char *part, *path; /* one becomes the other */

	int error;    /* of @name, @part or the directory */
	bool taken;   /* @wanted is there */
	bool looked;
	struct volume v;
	int fd;
	uint64_t size;
	struct result result;
	struct pool_look look;
};

/* Takes @r. NULL: no memory; the request has been ended. */
struct attempt *attempt_new(struct pool *p, struct request *r, void (*next)(struct attempt *a));
/* Takes @a. */
void attempt_run(struct attempt *a);

/* What a volume is to be. */
struct wanted {
	char *name, *format, *backing, *backing_format;
	uint64_t capacity, allocation;
	bool has_allocation;
};

/* 0, VIREO_INVALID_XML, -ENOMEM. To be cleared in any case. */
int wanted_parse(const char *xml, struct wanted *w, struct failure *f);
void wanted_clear(struct wanted *w);
