/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <stdint.h>

/* Threads that nobody joins, counted, so that the process can wait for them when it ends. */
struct thread_group {
	pthread_mutex_t lock;
	pthread_cond_t less;
	unsigned n;
};
#define THREAD_GROUP_INIT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

/*
 * thread_start() - a detached thread with every signal blocked: signals are the main loop's
 * @fn:   says thread_ended() as its last deed
 *
 * Return: 0, or -errno.
 */
int thread_start(struct thread_group *g, void *(*fn)(void *), void *data);
void thread_ended(struct thread_group *g);
unsigned thread_count(struct thread_group *g);
/* Waits until there is none, up to @usec. Return: how many are left. */
unsigned thread_wait(struct thread_group *g, uint64_t usec);
