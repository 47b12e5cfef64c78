/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "host.h"

struct driver_host {
	atomic_uint refs;
	/* Written on the main loop's thread; a driver's thread reads it to stop early, the loop to know the owner. */
	atomic_bool closed;
	struct queue *queue;
	sd_event *event;
	struct clock *clock;
	char *directory;
	void *owner;
};

int driver_host_new(struct queue *queue, sd_event *event, struct clock *clock, const char *directory, void *owner,
		    struct driver_host **ret)
{
	struct driver_host *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	if (directory && !(h->directory = strdup(directory))) {
		free(h);
		return -ENOMEM;
	}
	atomic_init(&h->refs, 1);
	atomic_init(&h->closed, false);
	h->queue = queue_ref(queue);
	h->event = event;
	h->clock = clock;
	h->owner = owner;
	*ret = h;
	return 0;
}

struct driver_host *driver_host_ref(struct driver_host *h)
{
	if (h)
		atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
	return h;
}

void driver_host_unref(struct driver_host *h)
{
	/* acquire and release: the last one sees everything that the others did with it */
	if (!h || atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) != 1)
		return;
	queue_unref(h->queue);
	free(h->directory);
	free(h);
}

void driver_host_close(struct driver_host *h)
{
	h->owner = NULL;
	h->event = NULL;
	h->clock = NULL;
	atomic_store(&h->closed, true);
}

void *driver_host_owner(const struct driver_host *h)
{
	return h->owner;
}

void driver_host_post(struct driver_host *h, struct report *r)
{
	if (!r)
		return;
	/* Nobody would see it; and a thread that has to end must not wait for a queue that others keep full. */
	if (atomic_load(&h->closed)) {
		report_free(r);
		return;
	}
	r->host = driver_host_ref(h);
	queue_push(h->queue, &r->item);
}

sd_event *driver_host_event(struct driver_host *h)
{
	return h->event;
}

struct clock *driver_host_clock(struct driver_host *h)
{
	return h->clock;
}

const char *driver_host_state_directory(struct driver_host *h)
{
	return h->directory;
}
