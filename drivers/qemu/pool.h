/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "guest.h"

/* Directories as storage pools. */
struct pools;

int pools_new(const struct guest_env *env, const char *directory, struct pools **ret);
void pools_free(struct pools *p);
void pools_autostart(struct pools *p);
void pools_list(struct pools *p, uint64_t serial);
/* false: there is no such pool; nothing was posted. */
bool pools_look(struct pools *p, sd_id128_t uuid, uint64_t serial);
bool pools_cancel(struct pools *p, uint64_t token);
/* Takes @r. */
void pools_operate(struct pools *p, struct request *r);
