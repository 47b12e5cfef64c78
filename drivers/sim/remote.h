/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/*
 * A connection to a world in another process, a vireo-sim: the same reports, as lines of JSON over its socket.
 * One thread connects, sends and receives. The callbacks never wait.
 */
struct sim_remote;

/* @release frees @userdata, on any thread, also when this fails. */
int sim_remote_new(const char *path, sim_post_fn post, void (*release)(void *), void *userdata, struct sim_remote **ret);
void sim_remote_list(struct sim_remote *m, uint64_t serial);
void sim_remote_look(struct sim_remote *m, enum kind kind, sd_id128_t uuid, uint64_t serial);
void sim_remote_operate(struct sim_remote *m, struct request *r);
void sim_remote_cancel(struct sim_remote *m, uint64_t token);
void sim_remote_complete(struct sim_remote *m, uint64_t token);
void sim_remote_close(struct sim_remote *m); /* the pointer is void then */
