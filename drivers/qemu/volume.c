/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libxml/tree.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "attempt.h"
#include "util/utf8.h"
#include "vm.h"

/*
 * Volumes: files of a directory. What lasts is done by a process; what is made is made under another name, which
 * begins with a dot and is no volume, and gets its own when it is whole.
 */

#define QEMU_IMG "/usr/bin/qemu-img"

struct volume_job {
	struct pool *pool;
	struct request *request;
	struct runner *runner;
	char *name;	/* of the volume that is worked on, or made */
	char *part;	/* path that becomes it; NULL: it is there */
	uint64_t began, size;
	struct volume_job *prev, *next;
};

static void on_listed(struct attempt *a)
{
	if (a->error < 0)
		pool_refuse(a->p, a->r, VIREO_OPERATION_FAILED, "%s: %s", a->directory, strerror(-a->error));
	else
		env_post_result_full(pool_env(a->p), a->r, &a->result);
	if (a->error == 0)
		a->result = (struct result){0}; /* taken */
}

static void op_list(struct pool *p, struct request *r)
{
	struct attempt *a = attempt_new(p, r, on_listed);

	if (!a)
		return;
	a->list = true;
	attempt_run(a);
}

/* ---- jobs --------------------------------------------------------------------------------------------------- */

static void job_drop(struct volume_job *j)
{
	runner_free(j->runner);
	/* Only where the connection is closed: else it has been seen to. */
	if (j->part)
		(void)unlink(j->part);
	request_free(j->request);
	free(j->name);
	free(j->part);
	DL_DELETE(j->pool->jobs, j);
	free(j);
}

void volume_jobs_free(struct pool *p)
{
	while (p->jobs)
		job_drop(p->jobs);
}

bool volume_cancel(struct pool *p, uint64_t token)
{
	struct volume_job *j;

	DL_FOREACH(p->jobs, j)
	if (j->request->token == token) {
		if (j->runner)
			runner_cancel(j->runner);
		return true;
	}
	return false;
}

static struct volume_job *job_of(struct pool *p, const char *name)
{
	struct volume_job *j;

	DL_FOREACH(p->jobs, j)
	if (strcmp(j->name, name) == 0)
		return j;
	return NULL;
}

static char *path_of(const struct pool *p, const char *prefix, const char *name, const char *suffix)
{
	char *path;

	return asprintf(&path, "%s/%s%s%s", p->path, prefix, name, suffix) < 0 ? NULL : path;
}

static void on_progress(double part, void *userdata)
{
	struct volume_job *j = userdata;
	const struct guest_env *env = pool_env(j->pool);
	uint64_t elapsed = clock_monotonic(env->clock) - j->began;
	struct report *r = report_new(REPORT_PROGRESS);

	if (part > 1)
		part = 1;
	if (r) {
		r->progress.token = j->request->token;
		r->progress.total = j->size;
		r->progress.done = (uint64_t)(part * (double)j->size);
		r->progress.percent = part * 100;
		r->progress.remaining = part > 0 && elapsed > USEC_PER_SEC ? (uint64_t)((double)elapsed / part * (1 - part))
									   : USEC_UNKNOWN;
		r->progress.cancellable = true;
	}
	env_post(env, r);
}

static void on_named(struct attempt *a)
{
	struct request *r = a->r;
	const char *name = a->result.text;
	struct result result = {.failure = a->result.failure};

	a->result.failure = (struct failure){0};
	if (result.failure.error == VIREO_OK && a->error == -EEXIST)
		failure_set(&result.failure, VIREO_ALREADY_EXISTS, "there is a volume '%s' already", name);
	else if (result.failure.error == VIREO_OK && a->error < 0)
		failure_set(&result.failure, VIREO_OPERATION_FAILED, "%s", strerror(-a->error));
	else if (result.failure.error == VIREO_OK && r->operation == OP_POOL_CREATE_VOLUME)
		result.text = utf8_dup(name);
	pool_take_look(a->p, &a->look, false);
	pool_end(a->p, r, &result);
}

/* Name what was made, or remove it, and tell. */
static void on_ended(int error, const char *words, void *userdata)
{
	struct volume_job *j = userdata;
	struct attempt *a = attempt_new(j->pool, TAKE(j->request), on_named);

	/* It frees itself behind this. */
	j->runner = NULL;
	if (!a) {
		job_drop(j);
		return;
	}
	if (error == -ECANCELED)
		failure_set(&a->result.failure, VIREO_CANCELLED, "it was cancelled");
	else if (error < 0)
		failure_set(&a->result.failure, VIREO_OPERATION_FAILED, "%s", words ? words : strerror(-error));
	a->result.text = strdup(j->name);
	a->part = TAKE(j->part);
	if (error == 0 && a->part)
		a->path = path_of(j->pool, "", j->name, "");
	if (error == 0 && a->r->operation == OP_POOL_DELETE_VOLUME) {
		a->name = a->r->text;
		a->unlink = true;
	}
	a->looked = true;
	job_drop(j);
	attempt_run(a);
}

static const struct runner_ops ops = {.progress = on_progress, .ended = on_ended};

/* A name that can only be a file of this directory. */
static bool check_name(struct pool *p, struct request *r, const char *name)
{
	if (name && *name && name[0] != '.' && strlen(name) <= 200 && !strpbrk(name, "/\n\r"))
		return true;
	pool_refuse(p, r, VIREO_INVALID_ARGS, "'%s' is no name of a volume", name ? name : "");
	return false;
}

/* Nobody at work on it; what is only being made is not there yet. */
static bool is_idle(struct pool *p, struct request *r, const char *name)
{
	struct volume_job *j = job_of(p, name);

	if (!j || j->part)
		return true;
	pool_refuse(p, r, VIREO_BUSY, "the volume '%s' is being worked on", name);
	return false;
}

/* false: refused; a->r has been ended. */
static bool attempt_is_good(struct attempt *a)
{
	struct pool *p = a->p;

	if (a->error < 0) {
		if (a->name)
			pool_refuse(p, a->r, a->error == -ENOENT ? VIREO_NOT_FOUND : VIREO_OPERATION_FAILED, "volume '%s': %s", a->name,
				strerror(-a->error));
		else
			pool_refuse(p, a->r, VIREO_OPERATION_FAILED, "%s: %s", a->directory, strerror(-a->error));
		return false;
	}
	if (a->taken || (a->wanted && job_of(p, a->wanted))) {
		pool_refuse(p, a->r, VIREO_ALREADY_EXISTS, "there is a volume '%s' already", a->wanted);
		return false;
	}
	if (!p->active_text) {
		pool_refuse(p, a->r, VIREO_INVALID_STATE, "the pool is inactive");
		return false;
	}
	return !a->name || is_idle(p, a->r, a->name);
}

/* An attempt at a volume that must be there. NULL: refused. */
static struct attempt *attempt_at(struct pool *p, struct request *r, const char *name, void (*next)(struct attempt *a))
{
	struct attempt *a;

	if (!check_name(p, r, name) || !is_idle(p, r, name))
		return NULL;
	a = attempt_new(p, r, next);
	if (a)
		a->name = r->text;
	return a;
}

/* @argv: NULL: @r is a copy from @in to @out. Both descriptors are the caller's. */
static void begin(struct pool *p, struct request *r, const char *name, uint64_t size, char *part, char *const *argv,
		  int in, int64_t in_offset, int out, int64_t out_offset, uint64_t length)
{
	struct volume_job *j = calloc(1, sizeof(*j));
	int e = -ENOMEM;

	if (j) {
		*j = (struct volume_job){.pool = p, .request = r, .part = part, .size = size};
		j->name = strdup(name);
		j->began = clock_monotonic(pool_env(p)->clock);
		DL_APPEND(p->jobs, j);
		if (argv)
			e = runner_program(pool_env(p)->event, argv, &ops, j, &j->runner);
		else
			e = runner_copy(pool_env(p)->event, in, in_offset, out, out_offset, length,
				r->operation != OP_POOL_DOWNLOAD_VOLUME, &ops, j, &j->runner);
		if (e < 0) {
			j->request = NULL;
			job_drop(j);
		}
	} else
		free(part);
	if (e < 0)
		pool_refuse(p, r, VIREO_OPERATION_FAILED, "%s", strerror(-e));
}

/* ---- making ------------------------------------------------------------------------------------------------- */

static void on_creatable(struct attempt *a)
{
	struct pool *p = a->p;
	struct request *r = a->r;
	bool metadata = vdict_b(r->options, "prealloc-metadata", false), full;
	char size[24], *part, *argv[16];
	struct wanted w = {0};
	struct failure f = {0};
	size_t n = 0;

	if (!attempt_is_good(a))
		return;
	/* Understood before, so it is again. */
	if (wanted_parse(r->text, &w, &f) != 0 || !(part = path_of(p, ".", w.name, ".part"))) {
		pool_refuse(p, r, VIREO_NO_MEMORY, "out of memory");
		failure_clear(&f);
		wanted_clear(&w);
		return;
	}
	full = w.has_allocation && w.capacity && w.allocation >= w.capacity;
	snprintf(size, sizeof(size), "%" PRIu64, w.capacity);
	argv[n++] = (char *)QEMU_IMG;
	argv[n++] = (char *)"create";
	argv[n++] = (char *)"-q";
	argv[n++] = (char *)"-f";
	argv[n++] = w.format;
	if (full || (metadata && strcmp(w.format, "qcow2") == 0)) {
		argv[n++] = (char *)"-o";
		argv[n++] = (char *)(full ? "preallocation=falloc" : "preallocation=metadata");
	}
	if (w.backing) {
		argv[n++] = (char *)"-b";
		argv[n++] = w.backing;
		argv[n++] = (char *)"-F";
		argv[n++] = w.backing_format ? w.backing_format : (char *)"raw";
	}
	argv[n++] = part;
	if (w.capacity)
		argv[n++] = size;
	argv[n] = NULL;
	begin(p, r, w.name, w.capacity, part, argv, -1, -1, -1, -1, 0);
	wanted_clear(&w);
}

static void op_create(struct pool *p, struct request *r)
{
	struct wanted w = {0};
	struct failure f = {0};
	struct attempt *a;
	int e = wanted_parse(r->text, &w, &f);

	if (e != 0) {
		struct result result = {.failure = f};

		env_post_result_full(pool_env(p), r, &result);
	} else if (!w.capacity && !w.backing)
		pool_refuse(p, r, VIREO_INVALID_XML, "it has no <capacity>");
	else if (vdict_b(r->options, "reflink", false))
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "there is nothing to share blocks with");
	else if (check_name(p, r, w.name) && (a = attempt_new(p, r, on_creatable))) {
		a->wanted = TAKE(w.name);
		attempt_run(a);
	}
	wanted_clear(&w);
}

static void on_clonable(struct attempt *a)
{
	struct pool *p = a->p;
	struct request *r = a->r;
	const char *xml = vdict_s(r->options, "xml", NULL);
	_cleanup_(freep) char *source = NULL;
	struct wanted w = {0};
	struct failure f = {0};
	char *part, *argv[16];
	size_t n = 0;

	if (!attempt_is_good(a))
		return;
	source = path_of(p, "", r->text, "");
	part = path_of(p, ".", r->text2, ".part");
	if (!source || !part || (xml && wanted_parse(xml, &w, &f) != 0)) {
		free(part);
		failure_clear(&f);
		pool_refuse(p, r, VIREO_NO_MEMORY, "out of memory");
		goto out;
	}
	argv[n++] = (char *)QEMU_IMG;
	argv[n++] = (char *)"convert";
	argv[n++] = (char *)"-p";
	argv[n++] = (char *)"-f";
	argv[n++] = a->v.format;
	argv[n++] = (char *)"-O";
	argv[n++] = w.format ? w.format : a->v.format;
	argv[n++] = source;
	argv[n++] = part;
	argv[n] = NULL;
	begin(p, r, r->text2, a->v.capacity, part, argv, -1, -1, -1, -1, 0);
out:
	wanted_clear(&w);
}

static void op_clone(struct pool *p, struct request *r)
{
	const char *xml = vdict_s(r->options, "xml", NULL);
	struct wanted w = {0};
	struct failure f = {0};
	struct attempt *a;

	if (vdict_b(r->options, "reflink", false) || vdict_get(r->options, "pool")) {
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "a volume is cloned within its pool, by copying");
		return;
	}
	if (xml && wanted_parse(xml, &w, &f) != 0) {
		struct result result = {.failure = f};

		env_post_result_full(pool_env(p), r, &result);
	} else if (xml && r->text2 && strcmp(w.name, r->text2) != 0)
		pool_refuse(p, r, VIREO_INVALID_XML, "its name is '%s', not '%s'", w.name, r->text2);
	else if (check_name(p, r, r->text2) && (a = attempt_at(p, r, r->text, on_clonable))) {
		a->wanted = strdup(r->text2);
		attempt_run(a);
	}
	wanted_clear(&w);
}

static void on_resizable(struct attempt *a)
{
	struct pool *p = a->p;
	struct request *r = a->r;
	_cleanup_(freep) char *path = NULL;
	char size[24], *argv[16];
	size_t n = 0;

	if (!attempt_is_good(a))
		return;
	path = path_of(p, "", r->text, "");
	if (r->number < a->v.capacity && !vdict_b(r->options, "shrink", false)) {
		pool_refuse(p, r, VIREO_INVALID_ARGS, "that is less than its %" PRIu64 " bytes; option shrink allows that", a->v.capacity);
		return;
	}
	snprintf(size, sizeof(size), "%" PRIu64, r->number);
	argv[n++] = (char *)QEMU_IMG;
	argv[n++] = (char *)"resize";
	argv[n++] = (char *)"-q";
	argv[n++] = (char *)"-f";
	argv[n++] = a->v.format;
	if (r->number < a->v.capacity)
		argv[n++] = (char *)"--shrink";
	else if (vdict_b(r->options, "allocate", false))
		argv[n++] = (char *)"--preallocation=falloc";
	argv[n++] = path;
	argv[n++] = size;
	argv[n] = NULL;
	if (path)
		begin(p, r, r->text, r->number, NULL, argv, -1, -1, -1, -1, 0);
	else
		pool_refuse(p, r, VIREO_NO_MEMORY, "out of memory");
}

static void op_resize(struct pool *p, struct request *r)
{
	struct attempt *a = attempt_at(p, r, r->text, on_resizable);

	if (a)
		attempt_run(a);
}

/* ---- contents ----------------------------------------------------------------------------------------------- */

static void on_deleted(struct attempt *a)
{
	struct result none = {0};

	if (!attempt_is_good(a))
		return;
	pool_take_look(a->p, &a->look, false);
	pool_end(a->p, a->r, &none);
}

static void remove_volume(struct pool *p, struct request *r)
{
	struct attempt *a = attempt_at(p, r, r->text, on_deleted);

	if (!a)
		return;
	a->unlink = a->looked = true;
	attempt_run(a);
}

static void on_opened(struct attempt *a)
{
	struct pool *p = a->p;
	struct request *r = a->r;
	bool download = r->operation == OP_POOL_DOWNLOAD_VOLUME, upload = r->operation == OP_POOL_UPLOAD_VOLUME;
	uint64_t offset = vdict_t(r->options, "offset", 0), length = vdict_t(r->options, "length", 0);
	struct result none = {0};

	if (!attempt_is_good(a))
		return;
	if (offset > a->size || length > a->size - offset) {
		pool_refuse(p, r, VIREO_INVALID_ARGS, "the volume has %" PRIu64 " bytes", a->size);
		return;
	}
	if (!length)
		length = a->size - offset;
	/* To the copier nothing means everything. */
	if (length == 0 && r->operation == OP_POOL_DELETE_VOLUME)
		remove_volume(p, r);
	else if (length == 0)
		pool_end(p, r, &none);
	else if (download)
		begin(p, r, r->text, length, NULL, NULL, a->fd, (int64_t)offset, r->fd, -1, length);
	else if (upload)
		/* Not past its end, which would make another volume of it. */
		begin(p, r, r->text, length, NULL, NULL, r->fd, -1, a->fd, (int64_t)offset, length);
	else
		begin(p, r, r->text, a->size, NULL, NULL, -1, -1, a->fd, 0, a->size);
}

/* Wipe, upload, download, and a delete that wipes first. */
static void op_contents(struct pool *p, struct request *r)
{
	const char *algorithm = vdict_s(r->options, "algorithm", "zero");
	struct attempt *a;

	if (strcmp(algorithm, "zero") != 0 || vdict_b(r->options, "sparse", false)) {
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "only zeroes are written, and all of them");
		return;
	}
	a = attempt_at(p, r, r->text, on_opened);
	if (!a)
		return;
	/* O_RDONLY is 0, and 0 opens nothing. */
	a->flags = r->operation == OP_POOL_DOWNLOAD_VOLUME ? O_RDONLY | O_NONBLOCK : O_WRONLY | O_NONBLOCK;
	attempt_run(a);
}

static void op_delete(struct pool *p, struct request *r)
{
	if (vdict_b(r->options, "zeroed", false)) {
		op_contents(p, r);
		return;
	}
	remove_volume(p, r);
}

void volume_operate(struct pool *p, struct request *r)
{
	switch (r->operation) {
	case OP_POOL_LIST_VOLUMES:
		op_list(p, r);
		return;
	case OP_POOL_CREATE_VOLUME:
		op_create(p, r);
		return;
	case OP_POOL_CLONE_VOLUME:
		op_clone(p, r);
		return;
	case OP_POOL_RESIZE_VOLUME:
		op_resize(p, r);
		return;
	case OP_POOL_WIPE_VOLUME:
	case OP_POOL_UPLOAD_VOLUME:
	case OP_POOL_DOWNLOAD_VOLUME:
		op_contents(p, r);
		return;
	case OP_POOL_DELETE_VOLUME:
		op_delete(p, r);
		return;
	default:
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "a pool of this connection cannot do that");
	}
}
