/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pool-work.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

/* What workers do for pools: one change at a time for each, and everything else waits for it. */

void pool_work_free(struct pool_work *w)
{
	request_free(w->r);
	free(w->directory);
	free(w->path);
	free(w->text);
	free(w->name);
	free(w->new_text);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

static int work_on_path(struct pool_work *w)
{
	int r = 0;

	if (w->new_path && access(w->path, F_OK) == 0)
		r = -EEXIST;
	if (r == 0 && w->make_path)
		r = files_make_directory(w->path);
	if (r == 0 && w->remove_path && rmdir(w->path) < 0)
		r = -errno;
	if (r == 0 && w->open) {
		w->fd = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = w->fd < 0 ? -errno : 0;
	}
	if (r == 0 && w->look) {
		pool_look(w->path, &w->found);
		r = w->found.error;
	}
	w->target = r < 0;
	return r;
}

static void work_work(void *data)
{
	struct pool_work *w = data;
	int r = work_on_path(w);

	if (r == 0 && w->make_directory)
		r = files_make_directory(w->directory);
	if (r == 0 && w->write)
		r = files_write(w->directory, w->write, w->text, true);
	if (r == 0 && w->remove)
		r = files_remove(w->directory, w->remove);
	if (r == 0 && w->remove_directory)
		(void)files_remove_directory(w->directory);
	w->error = r;
}

static void work_drop(void *data)
{
	pool_work_free(data);
}

void pool_work_finish(void *data)
{
	struct pool_work *w = data;
	struct pool *p = w->p;

	p->changing = false;
	w->done(w);
	w->r = NULL;
	pool_work_free(w);
	pool_work_ends(p);
}

/* Takes @r. NULL: no memory; the request has been ended. */
struct pool_work *pool_work_new(struct pool *p, struct request *r, void (*done)(struct pool_work *w))
{
	struct pool_work *w = calloc(1, sizeof(*w));

	if (w) {
		*w = (struct pool_work){.p = p, .r = r, .done = done, .fd = -1};
		w->directory = strdup(p->directory);
		w->path = strdup(p->path ? p->path : "");
		if (w->directory && w->path)
			return w;
		w->r = NULL;
		pool_work_free(w);
	}
	if (r)
		env_post_result(pool_env(p), r, VIREO_NO_MEMORY, "out of memory");
	return NULL;
}

void pool_work_run(struct pool_work *w, bool changing)
{
	struct pool *p = w->p;
	int r;

	pool_work_begins(p);
	p->changing = p->changing || changing;
	r = chores_run(pool_env(p)->chores, work_work, pool_work_finish, work_drop, w);
	if (r < 0) {
		w->error = r;
		pool_work_finish(w);
	}
}

void pool_work_begins(struct pool *p)
{
	p->works++;
}

void pool_work_ends(struct pool *p)
{
	struct pools *all = p->all;
	struct request **list;
	size_t n;

	p->works--;
	if (p->changing || (p->forgotten && p->works > 0))
		return;
	list = TAKE(p->queued);
	n = p->n_queued;
	p->n_queued = 0;
	if (p->forgotten)
		pool_free(p);
	for (size_t i = 0; i < n; i++)
		pools_operate(all, list[i]);
	free(list);
}

void pool_wait(struct pool *p, struct request *r)
{
	struct request **list = reallocarray(p->queued, p->n_queued + 1, sizeof(*list));

	if (!list) {
		env_post_result(pool_env(p), r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	p->queued = list;
	list[p->n_queued++] = r;
}

static void on_removed(struct pool_work *w)
{
	w->p->forgotten = true;
}

/* It has neither description nor life. Until its files have gone nobody may make it anew. */
void pool_forget(struct pool *p)
{
	struct pool_work *w = pool_work_new(p, NULL, on_removed);

	if (!w) {
		p->forgotten = true;
		return;
	}
	w->remove_directory = true;
	pool_work_run(w, true);
}

