/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/* Volumes of a pool; locked. */
int sim_volume_find(struct sim_object *pool, const char *name, struct sim_volume **ret, struct failure *f);
/* Can there be a new one? */
int sim_volume_check_new(struct sim_world *w, struct sim_object *pool, const char *name, uint64_t allocation, struct failure *f);
int sim_volume_check_space(struct sim_world *w, const struct sim_object *pool, uint64_t bytes, struct failure *f);
/* How much more data there may be in volumes, in bytes. */
uint64_t sim_volumes_room(struct sim_world *w);
/* Takes what @v has. */
void sim_volume_enter(struct sim_object *pool, struct sim_volume *v);
void sim_volume_allocate(struct sim_object *pool, struct sim_volume *v, uint64_t allocation);

/* What takes no time; for operate.c. */
int sim_list_volumes(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret);
int sim_create_volume(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret);
int sim_resize_volume(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret);
int sim_wipe_volume(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret);
int sim_delete_volume(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret);
