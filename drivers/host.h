/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "driver.h"

/*
 * The end of a connection that a driver posts into: a queue, and whose it is. The broker makes one for each
 * connection; a test of a driver makes one with a queue of its own.
 */

/* @queue: a reference is taken; the others are borrowed and outlive driver_host_close(). @directory may be NULL. */
int driver_host_new(struct queue *queue, sd_event *event, struct clock *clock, const char *directory, void *owner,
		    struct driver_host **ret);
/* Main loop's thread. Reports posted from now on, and those that wait in the queue, belong to nobody: owner is NULL. */
void driver_host_close(struct driver_host *h);
/* Main loop's thread: whose report this is; NULL after close. */
void *driver_host_owner(const struct driver_host *h);
