/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "outbox.h"

/* Of session.c and deliver.c. */
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

/* A batch of reports, posted when the world's lock is free again. */
#define SIM_BATCH 64
struct sim_batch {
	struct report *reports[SIM_BATCH + 4];
	size_t n;
	bool goodbye;
};

/* Does what is due; takes the entry. */
void sim_session_do(struct sim_session *s, struct sim_entry *e, struct sim_batch *b);
/* Into the outbox (again), behind whatever is due then. */
void sim_session_again(struct sim_session *s, struct sim_entry *e, uint64_t due);
