/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "guest.h"

/*
 * Directories as storage pools. What is in one is seen by inotify: nobody needs to ask for a refresh. Volumes are made
 * and changed by qemu-img, under another name until they are whole.
 *
 *	pools/UUID/pool.xml	the persistent description
 *	pools/UUID/autostart	it is there, or not
 *	pools/UUID/active	the description of the active pool, after a line with the machine's boot
 */
struct pools;

/* What is kept in the directory. Any thread: it may wait for disks. */
struct pools_found;
int pools_find(const char *directory, struct pools_found **ret);
void pools_found_free(struct pools_found *f);

/* Takes @found. */
int pools_new(const struct guest_env *env, const char *directory, struct pools_found *found, struct pools **ret);
void pools_free(struct pools *p);
void pools_autostart(struct pools *p);
void pools_list(struct pools *p, uint64_t serial);
/* false: there is no such pool; nothing was posted. */
bool pools_look(struct pools *p, sd_id128_t uuid, uint64_t serial);
bool pools_cancel(struct pools *p, uint64_t token);
/* Takes @r. */
void pools_operate(struct pools *p, struct request *r);

/* ---- within pool.c and volume.c ----------------------------------------------------------------------------- */

struct pool {
	struct pools *all;
	sd_id128_t uuid;
	char *directory;   /* its own files */
	char *name, *path; /* of what is in force: active, else config */
	char *config_text; /* NULL: transient */
	char *active_text; /* NULL: inactive */
	bool autostart;
	uint64_t capacity, allocation, available;
	uint8_t contents[32]; /* what was told of: names, sizes */
	sd_event_source *watch;
	struct timer timer;
	unsigned works;	 /* that workers have, or that wait for them */
	bool changing;	 /* one of them is of the pool itself: everything else waits for it */
	bool looking, look_again;
	bool forgotten;	 /* it is no more, once nobody works on it */
	struct request **queued;
	size_t n_queued;
	struct volume_job *jobs;
	struct pool *prev, *next;
};

struct pools {
	const struct guest_env *env;
	char *directory;
	struct pool *pools;
};

const struct guest_env *pool_env(const struct pool *p);
/* What a worker found out about the directory. */
struct pool_look {
	int error;
	uint8_t contents[32];
	uint64_t capacity, allocation, available;
};
/* Any thread. */
void pool_look(const char *path, struct pool_look *ret);
/* Refreshed, when something is other than it was told, or @always. Stopped, when it cannot be read. */
void pool_take_look(struct pool *p, const struct pool_look *look, bool always);
/* Look into the directory, soon. */
void pool_refresh(struct pool *p);
/* Post a settled look, then the result. */
void pool_end(struct pool *p, struct request *r, struct result *result);
/* Something of it is being worked on; behind the end it may have gone, and what has waited goes on. */
void pool_work_begins(struct pool *p);
void pool_work_ends(struct pool *p);
void pool_refuse(struct pool *p, struct request *r, enum vireo_error error, const char *format, ...) _printf_(4, 5);

/* pool-xml.c: 0; VIREO_INVALID_XML; -ENOMEM. All are owned by the caller, @text is canonical. */
int pool_parse(const char *xml, sd_id128_t *uuid, char **name, char **path, char **text, struct failure *f);

/* volume.c. Take @r. */
void volume_operate(struct pool *p, struct request *r);
bool volume_cancel(struct pool *p, uint64_t token);
void volume_jobs_free(struct pool *p);
/* What a file is: "qcow2" or "raw", and its capacity as a guest sees it. 0, or a negative errno; -EINVAL: no volume. */
int volume_probe(int dir, const char *name, struct volume *ret);

/* runner.c: one process with a job to do, and what it says. */
struct runner;
struct runner_ops {
	/* 0 to 1. */
	void (*progress)(double part, void *userdata);
	/* @error: 0; -ECANCELED; or a negative errno, with the last words (may be NULL). Once; frees the runner behind. */
	void (*ended)(int error, const char *words, void *userdata);
	bool whole; /* all its words, not only the last line */
};
/* A program; its progress is read from "(12.50/100%)". */
int runner_program(sd_event *event, char *const *argv, const struct runner_ops *ops, void *userdata, struct runner **ret);
/*
 * Copy @length bytes from @in (-1: zeroes) to @out, each at its offset (-1: where it stands); @length 0: until the end.
 * Both are duplicated. @sync: until it is on the disk.
 */
int runner_copy(sd_event *event, int in, int64_t in_offset, int out, int64_t out_offset, uint64_t length, bool sync,
		const struct runner_ops *ops, void *userdata, struct runner **ret);
void runner_cancel(struct runner *r);
/* Ends the process, without a word. */
void runner_free(struct runner *r);
