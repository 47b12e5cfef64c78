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

#include "pool.h"
#include "util/utf8.h"
#include "vm.h"

/*
 * Volumes: files of a directory. What lasts is done by a process; what is made is made under another name, which
 * begins with a dot and is no volume, and gets its own when it is whole.
 */

#define QEMU_IMG "/usr/bin/qemu-img"
#define VOLUMES_MAX 65536

struct volume_job {
	struct pool *pool;
	struct request *request;
	struct runner *runner;
	char *name;	/* of the volume that is worked on, or made */
	char *part;	/* path that becomes it; NULL: it is there */
	uint64_t began, size;
	struct volume_job *prev, *next;
};

/* ---- looking ------------------------------------------------------------------------------------------------ */

int volume_probe(int dir, const char *name, struct volume *ret)
{
	unsigned char head[32];
	struct stat st;
	ssize_t n;
	int fd;

	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	n = pread(fd, head, sizeof(head), 0);
	close(fd);
	ret->format = strdup("raw");
	ret->capacity = (uint64_t)st.st_size;
	ret->allocation = (uint64_t)st.st_blocks * 512;
	/* Only by what stands there; a guest can write it into a raw image, so nothing but the list believes it. */
	if (n == (ssize_t)sizeof(head) && memcmp(head, "QFI\xfb", 4) == 0) {
		uint32_t version = (uint32_t)head[4] << 24 | (uint32_t)head[5] << 16 | (uint32_t)head[6] << 8 | head[7];
		uint64_t size = 0;

		for (int i = 24; i < 32; i++)
			size = size << 8 | head[i];
		if ((version == 2 || version == 3) && size < UINT64_C(1) << 60) {
			free(ret->format);
			ret->format = strdup("qcow2");
			ret->capacity = size;
		}
	}
	return ret->format ? 0 : -ENOMEM;
}

static void op_list(struct pool *p, struct request *r)
{
	struct result result = {0};
	DIR *d = opendir(p->path);
	struct dirent *e;

	if (!d) {
		pool_refuse(p, r, VIREO_OPERATION_FAILED, "%s: %s", p->path, strerror(errno));
		return;
	}
	while ((e = readdir(d)) && result.n_volumes < VOLUMES_MAX) {
		struct volume v = {0}, *list;

		if (e->d_name[0] == '.' || volume_probe(dirfd(d), e->d_name, &v) < 0)
			continue;
		v.name = utf8_dup(e->d_name);
		v.type = strdup("file");
		if (v.name && asprintf(&v.path, "%s/%s", p->path, v.name) < 0)
			v.path = NULL;
		list = reallocarray(result.volumes, result.n_volumes + 1, sizeof(*list));
		if (!list || !v.name || !v.path || !v.type) {
			free(v.name);
			free(v.type);
			free(v.path);
			free(v.format);
			if (list)
				result.volumes = list;
			continue;
		}
		result.volumes = list;
		list[result.n_volumes++] = v;
	}
	closedir(d);
	env_post_result_full(pool_env(p), r, &result);
}

/* ---- jobs --------------------------------------------------------------------------------------------------- */

static void job_drop(struct volume_job *j)
{
	runner_free(j->runner);
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

/* Name what was made, and tell. */
static void on_ended(int error, const char *words, void *userdata)
{
	struct volume_job *j = userdata;
	struct pool *p = j->pool;
	struct request *r = TAKE(j->request);
	struct result result = {0};
	_cleanup_(freep) char *path = path_of(p, "", j->name, "");

	/* It frees itself behind this. */
	j->runner = NULL;
	if (error == 0 && j->part) {
		if (!path || renameat2(AT_FDCWD, j->part, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
			error = path ? -errno : -ENOMEM;
		else
			free(TAKE(j->part));
	}
	if (error == 0 && r->operation == OP_POOL_DELETE_VOLUME && path && unlink(path) < 0)
		error = -errno;
	if (error == -ECANCELED)
		failure_set(&result.failure, VIREO_CANCELLED, "it was cancelled");
	else if (error == -EEXIST)
		failure_set(&result.failure, VIREO_ALREADY_EXISTS, "there is a volume '%s' already", j->name);
	else if (error < 0)
		failure_set(&result.failure, VIREO_OPERATION_FAILED, "%s", words ? words : strerror(-error));
	else if (r->operation == OP_POOL_CREATE_VOLUME)
		result.text = utf8_dup(j->name);
	job_drop(j);
	pool_refresh(p, false);
	pool_end(p, r, &result);
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

/* The volume must be there, and nobody at work on it. */
static bool find_volume(struct pool *p, struct request *r, const char *name, struct volume *ret)
{
	int dir, e;

	if (!check_name(p, r, name))
		return false;
	dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	e = dir < 0 ? -errno : volume_probe(dir, name, ret);
	if (dir >= 0)
		close(dir);
	if (e < 0) {
		pool_refuse(p, r, e == -ENOENT ? VIREO_NOT_FOUND : VIREO_OPERATION_FAILED, "volume '%s': %s", name, strerror(-e));
		return false;
	}
	if (job_of(p, name)) {
		free(TAKE(ret->format));
		pool_refuse(p, r, VIREO_BUSY, "the volume '%s' is being worked on", name);
		return false;
	}
	return true;
}

static bool is_free(struct pool *p, struct request *r, const char *name)
{
	_cleanup_(freep) char *path = path_of(p, "", name, "");

	if (path && access(path, F_OK) < 0 && errno == ENOENT && !job_of(p, name))
		return true;
	pool_refuse(p, r, VIREO_ALREADY_EXISTS, "there is a volume '%s' already", name);
	return false;
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

struct wanted {
	char *name, *format, *backing, *backing_format;
	uint64_t capacity, allocation;
	bool has_allocation;
};

static void wanted_clear(struct wanted *w)
{
	free(w->name);
	free(w->format);
	free(w->backing);
	free(w->backing_format);
}

static int parse_format(struct failure *f, xmlNode *n, char **ret)
{
	int r = xml_check_attributes(f, n, "type");

	free(*ret);
	*ret = xml_attribute(n, "type");
	if (r == 0 && (!*ret || (strcmp(*ret, "raw") != 0 && strcmp(*ret, "qcow2") != 0)))
		r = xml_refuse(f, n, "'%s' is not supported; it can be one of: raw qcow2", *ret ? *ret : "");
	return r;
}

static int parse_part(struct failure *f, xmlNode *part, char **path, char **format)
{
	int r = xml_check_attributes(f, part, "");

	for (xmlNode *n = xml_first(part); n && r == 0; n = xml_next(n)) {
		if (xml_is(n, "format"))
			r = parse_format(f, n, format);
		else if (path && xml_is(n, "path")) {
			free(*path);
			*path = xml_content(n);
			if (!*path || (*path)[0] != '/')
				r = xml_refuse(f, n, "that is no absolute path");
		} else if (!xml_is(n, "path"))
			r = xml_refuse(f, n, "this element is not understood within <%s>", (const char *)part->name);
	}
	return r;
}

static int parse_wanted(const char *xml, struct wanted *w, struct failure *f)
{
	xmlDoc *doc = NULL;
	xmlNode *root;
	int r = xml_parse(xml ? xml : "", "volume", &doc, f);

	if (r != 0)
		return r;
	root = xmlDocGetRootElement(doc);
	r = xml_check_attributes(f, root, "type");
	for (xmlNode *n = xml_first(root); n && r == 0; n = xml_next(n)) {
		if (xml_is(n, "name")) {
			free(w->name);
			w->name = xml_content(n);
		} else if (xml_is(n, "capacity"))
			r = xml_size(f, n, "bytes", &w->capacity);
		else if (xml_is(n, "allocation")) {
			r = xml_size(f, n, "bytes", &w->allocation);
			w->has_allocation = true;
		} else if (xml_is(n, "target"))
			r = parse_part(f, n, NULL, &w->format);
		else if (xml_is(n, "backingStore"))
			r = parse_part(f, n, &w->backing, &w->backing_format);
		else if (!xml_is(n, "key") && !(xml_is(n, "source") && !xml_first(n)))
			r = xml_refuse(f, n, "this element is not understood within <volume>");
	}
	if (r == 0 && !w->name)
		r = xml_refuse(f, root, "it has no <name>");
	if (r == 0 && !w->format)
		w->format = strdup("raw");
	if (r == 0 && w->backing && strcmp(w->format, "qcow2") != 0)
		r = xml_refuse(f, root, "only a qcow2 can have a <backingStore>");
	xmlFreeDoc(doc);
	return r;
}

static void op_create(struct pool *p, struct request *r)
{
	struct wanted w = {0};
	struct failure f = {0};
	char size[24], *part, *argv[16];
	bool metadata = vdict_b(r->options, "prealloc-metadata", false), full;
	size_t n = 0;
	int e = parse_wanted(r->text, &w, &f);

	if (e != 0) {
		struct result result = {.failure = f};

		env_post_result_full(pool_env(p), r, &result);
		goto out;
	}
	if (!w.capacity && !w.backing) {
		pool_refuse(p, r, VIREO_INVALID_XML, "it has no <capacity>");
		goto out;
	}
	if (vdict_b(r->options, "reflink", false)) {
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "there is nothing to share blocks with");
		goto out;
	}
	if (!check_name(p, r, w.name) || !is_free(p, r, w.name))
		goto out;
	part = path_of(p, ".", w.name, ".part");
	(void)unlink(part ? part : "");
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
	if (part)
		begin(p, r, w.name, w.capacity, part, argv, -1, -1, -1, -1, 0);
	else
		pool_refuse(p, r, VIREO_NO_MEMORY, "out of memory");
out:
	wanted_clear(&w);
}

static void op_clone(struct pool *p, struct request *r)
{
	const char *xml = vdict_s(r->options, "xml", NULL);
	struct wanted w = {0};
	struct volume v = {0};
	struct failure f = {0};
	_cleanup_(freep) char *source = NULL;
	char *part, *argv[16];
	size_t n = 0;

	if (vdict_b(r->options, "reflink", false) || vdict_get(r->options, "pool")) {
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "a volume is cloned within its pool, by copying");
		return;
	}
	if (xml && parse_wanted(xml, &w, &f) != 0) {
		struct result result = {.failure = f};

		env_post_result_full(pool_env(p), r, &result);
		goto out;
	}
	if (xml && r->text2 && strcmp(w.name, r->text2) != 0) {
		pool_refuse(p, r, VIREO_INVALID_XML, "its name is '%s', not '%s'", w.name, r->text2);
		goto out;
	}
	if (!check_name(p, r, r->text2) || !find_volume(p, r, r->text, &v))
		goto out;
	if (!is_free(p, r, r->text2))
		goto out;
	source = path_of(p, "", r->text, "");
	part = path_of(p, ".", r->text2, ".part");
	if (!source || !part) {
		free(part);
		pool_refuse(p, r, VIREO_NO_MEMORY, "out of memory");
		goto out;
	}
	(void)unlink(part);
	argv[n++] = (char *)QEMU_IMG;
	argv[n++] = (char *)"convert";
	argv[n++] = (char *)"-p";
	argv[n++] = (char *)"-f";
	argv[n++] = v.format;
	argv[n++] = (char *)"-O";
	argv[n++] = w.format ? w.format : v.format;
	argv[n++] = source;
	argv[n++] = part;
	argv[n] = NULL;
	begin(p, r, r->text2, v.capacity, part, argv, -1, -1, -1, -1, 0);
out:
	free(v.format);
	wanted_clear(&w);
}

static void op_resize(struct pool *p, struct request *r)
{
	struct volume v = {0};
	_cleanup_(freep) char *path = NULL;
	char size[24], *argv[16];
	size_t n = 0;

	if (!find_volume(p, r, r->text, &v))
		return;
	path = path_of(p, "", r->text, "");
	if (r->number < v.capacity && !vdict_b(r->options, "shrink", false)) {
		pool_refuse(p, r, VIREO_INVALID_ARGS, "that is less than its %" PRIu64 " bytes; option shrink allows that", v.capacity);
		free(v.format);
		return;
	}
	snprintf(size, sizeof(size), "%" PRIu64, r->number);
	argv[n++] = (char *)QEMU_IMG;
	argv[n++] = (char *)"resize";
	argv[n++] = (char *)"-q";
	argv[n++] = (char *)"-f";
	argv[n++] = v.format;
	if (r->number < v.capacity)
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
	free(v.format);
}

/* ---- contents ----------------------------------------------------------------------------------------------- */

/* Wipe, upload, download, and a delete that wipes first. */
static void op_contents(struct pool *p, struct request *r)
{
	bool download = r->operation == OP_POOL_DOWNLOAD_VOLUME, upload = r->operation == OP_POOL_UPLOAD_VOLUME;
	const char *algorithm = vdict_s(r->options, "algorithm", "zero");
	uint64_t offset = vdict_t(r->options, "offset", 0), length = vdict_t(r->options, "length", 0);
	_cleanup_(freep) char *path = NULL;
	struct volume v = {0};
	struct stat st;
	int fd;

	if (strcmp(algorithm, "zero") != 0 || vdict_b(r->options, "sparse", false)) {
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "only zeroes are written, and all of them");
		return;
	}
	if (!find_volume(p, r, r->text, &v))
		return;
	free(v.format);
	path = path_of(p, "", r->text, "");
	fd = path ? open(path, (download ? O_RDONLY : O_WRONLY) | O_CLOEXEC | O_NOFOLLOW) : -1;
	if (fd < 0 || fstat(fd, &st) < 0) {
		pool_refuse(p, r, VIREO_OPERATION_FAILED, "volume '%s': %s", r->text, strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	if (offset > (uint64_t)st.st_size || length > (uint64_t)st.st_size - offset) {
		pool_refuse(p, r, VIREO_INVALID_ARGS, "the volume has %" PRIu64 " bytes", (uint64_t)st.st_size);
		close(fd);
		return;
	}
	if (download)
		begin(p, r, r->text, length ? length : (uint64_t)st.st_size - offset, NULL, NULL, fd, (int64_t)offset, r->fd, -1,
			length ? length : (uint64_t)st.st_size - offset);
	else if (upload)
		/* Not past its end, which would make another volume of it. */
		begin(p, r, r->text, length ? length : (uint64_t)st.st_size - offset, NULL, NULL, r->fd, -1, fd, (int64_t)offset,
			length ? length : (uint64_t)st.st_size - offset);
	else if (st.st_size > 0)
		begin(p, r, r->text, (uint64_t)st.st_size, NULL, NULL, -1, -1, fd, 0, (uint64_t)st.st_size);
	else {
		struct result none = {0};

		if (r->operation == OP_POOL_DELETE_VOLUME)
			(void)unlink(path);
		pool_end(p, r, &none);
	}
	close(fd);
}

static void op_delete(struct pool *p, struct request *r)
{
	_cleanup_(freep) char *path = NULL;
	struct volume v = {0};
	struct result none = {0};

	if (vdict_b(r->options, "zeroed", false)) {
		op_contents(p, r);
		return;
	}
	if (!find_volume(p, r, r->text, &v))
		return;
	free(v.format);
	path = path_of(p, "", r->text, "");
	if (!path || unlink(path) < 0) {
		pool_refuse(p, r, VIREO_OPERATION_FAILED, "volume '%s': %s", r->text, strerror(errno));
		return;
	}
	pool_refresh(p, false);
	pool_end(p, r, &none);
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
