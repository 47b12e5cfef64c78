/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/* What the other hypervisor of a migration is asked for, as a step: checked, and run under its lock. */
int sim_migrate_in_check(struct json_object *step, const char *where, struct failure *f);
int sim_migrate_in(struct sim_world *w, struct json_object *step, struct failure *f);

/* Another simulated hypervisor: in this process, or at the socket of a vireo-sim. Any thread, no lock; they may wait. */
struct sim_far {
	struct sim_world *world; /* a hold; or */
	char *path;
};
int sim_far_open(const char *uri, struct sim_far *ret, struct failure *f);
void sim_far_close(struct sim_far *far);
/* Has it do a step. Return: 0, or what failed. */
int sim_far_run(const struct sim_far *far, struct json_object *step, struct failure *f);
