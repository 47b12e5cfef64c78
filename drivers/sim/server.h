/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/*
 * A socket that gives a world to other processes: to whoever plays the outside world (a step a line, an answer a
 * line), and to drivers (remote.h). One thread. doc/sim.md has the protocol.
 */
struct sim_server;

/* Listens on @path; an old socket there that nobody listens on is replaced. @w starts later, and outlives it. */
int sim_server_new(struct sim_world *w, const char *path, struct sim_server **ret, struct failure *f);
/* Closes everything and waits for the thread. */
void sim_server_free(struct sim_server *s);
