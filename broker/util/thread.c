/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "thread.h"

#include <signal.h>
#include <time.h>

#include "macros.h"

int thread_start(struct thread_group *g, void *(*fn)(void *), void *data)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int r;

	pthread_mutex_lock(&g->lock);
	g->n++;
	pthread_mutex_unlock(&g->lock);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, fn, data);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		thread_ended(g);
		return -r;
	}
	return 0;
}

void thread_ended(struct thread_group *g)
{
	pthread_mutex_lock(&g->lock);
	g->n--;
	pthread_cond_broadcast(&g->less);
	pthread_mutex_unlock(&g->lock);
}

unsigned thread_count(struct thread_group *g)
{
	unsigned n;

	pthread_mutex_lock(&g->lock);
	n = g->n;
	pthread_mutex_unlock(&g->lock);
	return n;
}

unsigned thread_wait(struct thread_group *g, uint64_t usec)
{
	struct timespec until;
	unsigned left;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(usec / USEC_PER_SEC);
	until.tv_nsec += (long)(usec % USEC_PER_SEC) * 1000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&g->lock);
	while (g->n > 0 && r == 0)
		r = pthread_cond_timedwait(&g->less, &g->lock, &until);
	left = g->n;
	pthread_mutex_unlock(&g->lock);
	return left;
}
