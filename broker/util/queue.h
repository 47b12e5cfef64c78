/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "macros.h"

typedef struct sd_event sd_event;

/*
 * The one way into the main loop: many threads push, the loop drains, in order of pushing. Past this queue
 * there is one thread and no lock.
 *
 * A queue that is fuller than its limit makes a pushing thread wait (the loop's own thread never waits), so
 * that a flood slows the hypervisor's connection instead of filling memory. queue_close() wakes every waiter;
 * whatever is pushed later is freed.
 */
struct queue;

struct queue_item {
	struct queue_item *next;
};

struct queue_ops {
	/* Loop's thread: items come one by one, owned by the callee; drained() after each batch, which ends early when it takes long. */
	void (*item)(struct queue_item *item, void *userdata);
	void (*drained)(void *userdata);
	/* Any thread: an item that will never be delivered. */
	void (*drop)(struct queue_item *item);
};

/* @limit: items waiting, besides those of one batch, before pushers wait. @batch: at most so many items between two drained(). */
int queue_new(sd_event *event, const struct queue_ops *ops, void *userdata, size_t limit, size_t batch,
	      struct queue **ret);
struct queue *queue_ref(struct queue *q);
void queue_unref(struct queue *q);
DEFINE_CLEANUP(struct queue *, queue_unref)
/* Any thread. Takes the item. */
void queue_push(struct queue *q, struct queue_item *item);
/* Loop's thread. Deliver all that waits now, without going through the loop (tests, shutdown). */
void queue_drain(struct queue *q);
/* Loop's thread. No delivery any more. */
void queue_close(struct queue *q);
size_t queue_length(struct queue *q);
