/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "chores.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/queue.h"
#include "util/workers.h"

/* So many disks may hang before work waits for other work. */
#define THREADS 8

struct chores {
	unsigned refs;
	bool closed; /* loop's thread only */
	struct workers *workers;
	struct queue *queue;
};

struct chore {
	struct queue_item item; /* first */
	struct chores *all;
	struct queue *queue;
	chore_fn work, done, drop;
	void *data;
};

static void chores_unref(struct chores *c)
{
	if (__atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(c);
}

static void chore_free(struct chore *k)
{
	queue_unref(k->queue);
	chores_unref(k->all);
	free(k);
}

static void drop(struct queue_item *item)
{
	struct chore *k = (struct chore *)item;

	k->drop(k->data);
	chore_free(k);
}

static void deliver(struct queue_item *item, void *userdata)
{
	struct chore *k = (struct chore *)item;

	/* One of before in the same batch may have closed it. */
	if (k->all->closed || !k->done)
		k->drop(k->data);
	else
		k->done(k->data);
	chore_free(k);
}

static void run(void *data)
{
	struct chore *k = data;
	struct queue *q = queue_ref(k->queue);

	k->work(k->data);
	queue_push(q, &k->item);
	queue_unref(q);
}

static void abandon(void *data)
{
	drop(data);
}

int chores_new(sd_event *event, struct chores **ret)
{
	static const struct queue_ops ops = {.item = deliver, .drop = drop};
	struct chores *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->refs = 1;
	r = workers_new("vireo-files", THREADS, &c->workers);
	if (r == 0)
		r = queue_new(event, &ops, c, SIZE_MAX, 64, &c->queue);
	if (r < 0) {
		workers_close(c->workers, NULL);
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void chores_close(struct chores *c)
{
	if (!c)
		return;
	c->closed = true;
	queue_close(c->queue);
	workers_close(c->workers, abandon);
	queue_unref(c->queue);
	chores_unref(c);
}

int chores_run(struct chores *c, chore_fn work, chore_fn done, chore_fn fn, void *data)
{
	struct chore *k = malloc(sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	*k = (struct chore){.all = c, .queue = queue_ref(c->queue), .work = work, .done = done, .drop = fn, .data = data};
	r = workers_submit(c->workers, run, k);
	if (r < 0)
		chore_free(k);
	return r;
}

void chores_run_last(struct chores *c, chore_fn work, chore_fn fn, void *data)
{
	if (c && chores_run(c, work, NULL, fn, data) == 0)
		return;
	work(data);
	fn(data);
}

static void close_work(void *data)
{
	close(*(int *)data);
}

void chores_close_fd(struct chores *c, int fd)
{
	int *data = fd >= 0 ? malloc(sizeof(*data)) : NULL;

	if (data) {
		*data = fd;
		chores_run_last(c, close_work, free, data);
	} else if (fd >= 0)
		close(fd);
}
