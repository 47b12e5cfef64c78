/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macros.h"

/*
 * Threads for calls that block. A pool starts threads as work comes, up to its limit; idle ones end after a
 * while. Work is taken in order of submission. For a lane of its own (cancelling) make a pool of its own.
 */
struct workers;

typedef void (*work_fn)(void *data);

/* @name: at most 11 bytes, the threads' name. @max: threads at once. */
int workers_new(const char *name, unsigned max, struct workers **ret);
/* Any thread. fn(data) runs on a worker, once. 0, -ENOMEM, or -ESHUTDOWN after workers_close(). */
int workers_submit(struct workers *w, work_fn fn, void *data);
/*
 * workers_close() - take no more work; never blocks
 *
 * Work not begun yet is given to @abandon (may be NULL), on the calling thread. Work under way goes on; the pool
 * frees itself when its last thread has ended. The caller's pointer is void afterwards.
 */
void workers_close(struct workers *w, work_fn abandon);

/* How many worker threads there are in the process now, and a bounded wait until none is left, for a clean exit. */
unsigned workers_alive(void);
int workers_wait_all(uint64_t usec);
