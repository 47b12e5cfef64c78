/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "outbox.h"

/* Of session.c. */
struct sim_session {
	struct sim_world *world; /* a hold */
	sim_post_fn post;
	void (*release)(void *);
	void *userdata;

	/* Its own lock, taken behind the world's: what the main loop leaves. */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool poked, closed;
	struct sim_entry *inbox, **inbox_tail;

	/* The world's lock. */
	struct sim_session *next;
	struct sim_outbox outbox;
	uint64_t random;
	bool greeted, gone, posting;

	uint64_t next_due; /* the thread's own */
};
