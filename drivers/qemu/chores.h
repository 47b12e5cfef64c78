/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "util/macros.h"

/*
 * File work that may wait for a disk: it is done by a worker, and its end is told on the loop. A disk that hangs holds up
 * what is done on it, and nothing else.
 */
struct chores;

typedef void (*chore_fn)(void *data);

int chores_new(sd_event *event, struct chores **ret);
/* Nothing is told any more. What has begun goes on; its data are dropped behind it. */
void chores_close(struct chores *c);
DEFINE_CLEANUP(struct chores *, chores_close)

/*
 * chores_run() - work(data) on a worker, then done(data) on the loop
 * @done: takes @data; NULL: drop() does
 * @drop: frees @data, and what came of the work, when nobody is told: on any thread
 *
 * Return: 0, and @data is taken; or a negative errno, and nothing was done.
 */
int chores_run(struct chores *c, chore_fn work, chore_fn done, chore_fn drop, void *data);
/* The same for what has to be done in any case: by the caller, when there is no memory for more. */
void chores_run_last(struct chores *c, chore_fn work, chore_fn drop, void *data);
/* Close a descriptor whose file may be big, and have no name any more: then it is freed only now. */
void chores_close_fd(struct chores *c, int fd);
