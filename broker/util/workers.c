/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "thread.h"

/* Idle threads end after so long. */
#define IDLE_SECONDS 10

struct work {
	struct work *next;
	work_fn fn;
	void *data;
};

struct workers {
	char name[16];
	unsigned max, threads, idle;
	unsigned waiting; /* length of the list */
	bool closed;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct work *head, **tail;
};

static struct thread_group alive = THREAD_GROUP_INIT;

static void free_pool(struct workers *w)
{
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static void *worker(void *userdata)
{
	struct workers *w = userdata;
	bool last;

	pthread_setname_np(pthread_self(), w->name);
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct work *work = w->head;
		struct timespec until;
		int r = 0;

		if (work) {
			w->head = work->next;
			if (!w->head)
				w->tail = &w->head;
			w->waiting--;
			pthread_mutex_unlock(&w->lock);
			work->fn(work->data);
			free(work);
			pthread_mutex_lock(&w->lock);
			continue;
		}
		if (w->closed)
			break;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += IDLE_SECONDS;
		w->idle++;
		while (!w->head && !w->closed && r == 0)
			r = pthread_cond_timedwait(&w->more, &w->lock, &until);
		w->idle--;
		if (!w->head && (w->closed || r != 0))
			break;
	}
	last = --w->threads == 0 && w->closed;
	pthread_mutex_unlock(&w->lock);
	if (last)
		free_pool(w);
	thread_ended(&alive);
	return NULL;
}

int workers_new(const char *name, unsigned max, struct workers **ret)
{
	struct workers *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;

	if (!w)
		return -ENOMEM;
	snprintf(w->name, sizeof(w->name), "%s", name);
	w->max = max;
	w->tail = &w->head;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->more, &attr);
	pthread_condattr_destroy(&attr);
	*ret = w;
	return 0;
}

/* Locked. */
static int start_thread(struct workers *w)
{
	int r = thread_start(&alive, worker, w);

	if (r == 0)
		w->threads++;
	return r;
}

int workers_submit(struct workers *w, work_fn fn, void *data)
{
	struct work *work = malloc(sizeof(*work));
	int r = 0;

	if (!work)
		return -ENOMEM;
	*work = (struct work){.fn = fn, .data = data};
	pthread_mutex_lock(&w->lock);
	if (w->closed) {
		r = -ESHUTDOWN;
		goto out;
	}
	/* Idle threads may have been promised to work that waits already. */
	if (w->idle <= w->waiting && w->threads < w->max)
		r = start_thread(w);
	if (r < 0 && w->threads > 0) {
		log_debug("no further worker: %s", strerrordesc_np(-r));
		r = 0;
	}
	if (r < 0)
		goto out;
	*w->tail = work;
	w->tail = &work->next;
	w->waiting++;
	work = NULL;
	pthread_cond_signal(&w->more);
out:
	pthread_mutex_unlock(&w->lock);
	free(work);
	return r;
}

void workers_close(struct workers *w, work_fn abandon)
{
	struct work *work;
	bool last;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->closed = true;
	work = w->head;
	w->head = NULL;
	w->tail = &w->head;
	w->waiting = 0;
	last = w->threads == 0;
	pthread_cond_broadcast(&w->more);
	pthread_mutex_unlock(&w->lock);
	if (last)
		free_pool(w);
	for (struct work *next; work; work = next) {
		next = work->next;
		if (abandon)
			abandon(work->data);
		free(work);
	}
}

unsigned workers_alive(void)
{
	return thread_count(&alive);
}

int workers_wait_all(uint64_t usec)
{
	return thread_wait(&alive, usec) > 0 ? -ETIMEDOUT : 0;
}
