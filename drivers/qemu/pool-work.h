/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "pool.h"
#include "run.h"

/* What the files of this driver's pools share with each other. */

/* What a worker does for a pool: what is asked for, in this order, until something goes wrong. */
struct pool_work {
	struct pool *p; /* borrowed; stays */
	struct request *r;
	void (*done)(struct pool_work *w); /* on the loop; takes r */

	char *directory, *path;	    /* its own; the pool's */
	bool make_path, new_path;   /* new: it must not be there */
	bool remove_path;	    /* only an empty one goes: nobody's files are removed by this */
	bool make_directory;
	const char *write, *remove; /* static: files of its own */
	char *text;		    /* to be written */
	bool open, look;
	bool remove_directory;

	int error;
	bool target; /* it was the pool's path that could not be had */
	int fd;
	struct pool_look found;
	/* What it is to be. Owned. */
	char *name, *new_text;
};

/* Takes @r. NULL: no memory; the request has been ended. */
struct pool_work *pool_work_new(struct pool *p, struct request *r, void (*done)(struct pool_work *w));
/* Takes @w. @changing: of the pool itself. */
void pool_work_run(struct pool_work *w, bool changing);
void pool_work_finish(void *data);
void pool_work_free(struct pool_work *w);
/* Let a request wait until the pool has been changed. Takes @r. */
void pool_wait(struct pool *p, struct request *r);
/* It has neither description nor life. Until its files have gone nobody may make it anew. */
void pool_forget(struct pool *p);

/* pool.c */
struct pool *pools_get(struct pools *all, sd_id128_t uuid);
struct pool *pools_add(struct pools *all, sd_id128_t uuid);
void pool_free(struct pool *p);
void pool_post_look(const struct pool *p, uint64_t serial);
void pool_tell(const struct pool *p, enum cause cause, const char *reason, const char *event);
/* To make it active by @text, which is taken: that is remembered until the machine is booted anew. */
bool pool_want_active(struct pool_work *w, char *text);
int pool_set_active(struct pool *p, int fd, const struct pool_look *look, char *text);
void pool_set_inactive(struct pool *p);
char *pool_boot(void); /* owned */
