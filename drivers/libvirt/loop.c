/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "loop.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/log.h"

static pthread_t thread;
static bool running; /* main loop's thread only */
static atomic_bool stop;

/* libvirt prints errors to stderr unless told otherwise; ours are logged where they matter. */
static void be_silent(void *userdata, virErrorPtr error)
{
}

static void *run(void *userdata)
{
	pthread_setname_np(pthread_self(), "libvirt-loop");
	while (!atomic_load(&stop)) {
		if (virEventRunDefaultImpl() < 0) {
			/* poll() failed: there is nothing to be done but to go on, without spinning */
			struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};

			log_error("libvirt's event loop failed: %s", virGetLastErrorMessage());
			nanosleep(&pause, NULL);
		}
	}
	return NULL;
}

static void on_wake(int timer, void *userdata)
{
	virEventRemoveTimeout(timer);
}

/* So that nothing of libvirt runs any more when libraries are taken down. */
static void stop_at_exit(void)
{
	struct timespec until;

	atomic_store(&stop, true);
	if (virEventAddTimeout(0, on_wake, NULL, NULL) < 0)
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	/* Bounded: a callback may be stuck. */
	(void)pthread_timedjoin_np(thread, NULL, &until);
}

int lv_loop_start(void)
{
	sigset_t all, old;
	int r;

	if (running)
		return 0;
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0) {
		log_error("libvirt cannot be initialised: %s", virGetLastErrorMessage());
		return -EIO;
	}
	virSetErrorFunc(NULL, be_silent);
	/* Signals are the main loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, NULL, run, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	running = true;
	atexit(stop_at_exit);
	return 0;
}

/* One lock for all who wait: what is handed to libvirt is then handed over by a lock of ours too. */
static pthread_mutex_t turns_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;

static void on_turn(int timer, void *userdata)
{
	unsigned *left = userdata;

	pthread_mutex_lock(&turns_lock);
	/* A timer without delay fires in every turn until it is removed. */
	if (--*left == 0) {
		virEventRemoveTimeout(timer);
		pthread_cond_broadcast(&turned);
	}
	pthread_mutex_unlock(&turns_lock);
}

int lv_loop_turns(unsigned n)
{
	unsigned left;

	pthread_mutex_lock(&turns_lock);
	left = n;
	pthread_mutex_unlock(&turns_lock);
	if (virEventAddTimeout(0, on_turn, &left, NULL) < 0)
		return -EIO;
	pthread_mutex_lock(&turns_lock);
	while (left > 0)
		pthread_cond_wait(&turned, &turns_lock);
	pthread_mutex_unlock(&turns_lock);
	return 0;
}
