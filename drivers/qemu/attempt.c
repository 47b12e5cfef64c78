/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "attempt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/utf8.h"

#define VOLUMES_MAX 65536

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

static void attempt_free(void *data)
{
	struct attempt *a = data;

	request_free(a->r);
	for (size_t i = 0; i < a->result.n_volumes; i++) {
		free(a->result.volumes[i].name);
		free(a->result.volumes[i].path);
		free(a->result.volumes[i].type);
		free(a->result.volumes[i].format);
	}
	free(a->result.volumes);
	failure_clear(&a->result.failure);
	free(a->result.text);
	free(a->v.format);
	free(a->directory);
	free(a->wanted);
	free(a->part);
	free(a->path);
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

static int list_volumes(struct attempt *a)
{
	DIR *d = opendir(a->directory);
	struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d)) && a->result.n_volumes < VOLUMES_MAX) {
		struct volume v = {0}, *list;

		if (e->d_name[0] == '.' || volume_probe(dirfd(d), e->d_name, &v) < 0)
			continue;
		v.name = utf8_dup(e->d_name);
		v.type = strdup("file");
		if (v.name && asprintf(&v.path, "%s/%s", a->directory, v.name) < 0)
			v.path = NULL;
		list = reallocarray(a->result.volumes, a->result.n_volumes + 1, sizeof(*list));
		if (!list || !v.name || !v.path || !v.type) {
			free(v.name);
			free(v.type);
			free(v.path);
			free(v.format);
			if (list)
				a->result.volumes = list;
			continue;
		}
		a->result.volumes = list;
		list[a->result.n_volumes++] = v;
	}
	closedir(d);
	return 0;
}

static int look_at(struct attempt *a, int dir)
{
	struct stat st;
	int r = volume_probe(dir, a->name, &a->v);

	if (r == 0 && a->flags) {
		a->fd = openat(dir, a->name, a->flags | O_CLOEXEC | O_NOFOLLOW);
		if (a->fd < 0 || fstat(a->fd, &st) < 0)
			r = -errno;
		else
			a->size = (uint64_t)st.st_size;
	}
	if (r == 0 && a->unlink && unlinkat(dir, a->name, 0) < 0)
		r = -errno;
	return r;
}

static void attempt_work(void *data)
{
	struct attempt *a = data;
	int dir = open(a->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	a->error = dir < 0 ? -errno : 0;
	if (a->error == 0 && a->name)
		a->error = look_at(a, dir);
	if (a->error == 0 && a->wanted)
		a->taken = faccessat(dir, a->wanted, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
	if (a->error == 0 && a->list)
		a->error = list_volumes(a);
	if (a->error == 0 && a->path && renameat2(AT_FDCWD, a->part, AT_FDCWD, a->path, RENAME_NOREPLACE) < 0)
		a->error = -errno;
	if (dir >= 0)
		close(dir);
	/* What did not become what it should is of no use. */
	if (a->part && (a->error < 0 || !a->path))
		(void)unlink(a->part);
	if (a->looked)
		pool_look(a->directory, &a->look);
}

static void attempt_done(void *data)
{
	struct attempt *a = data;
	struct pool *p = a->p;

	a->next(a);
	a->r = NULL;
	attempt_free(a);
	pool_work_ends(p);
}

/* Takes @r. NULL: no memory; the request has been ended. */
struct attempt *attempt_new(struct pool *p, struct request *r, void (*next)(struct attempt *a))
{
	struct attempt *a = calloc(1, sizeof(*a));

	if (a && (a->directory = strdup(p->path))) {
		a->p = p;
		a->r = r;
		a->next = next;
		a->fd = -1;
		return a;
	}
	free(a);
	pool_refuse(p, r, VIREO_NO_MEMORY, "out of memory");
	return NULL;
}

void attempt_run(struct attempt *a)
{
	int r;

	pool_work_begins(a->p);
	r = chores_run(pool_env(a->p)->chores, attempt_work, attempt_done, attempt_free, a);
	if (r < 0) {
		a->error = r;
		attempt_done(a);
	}
}
