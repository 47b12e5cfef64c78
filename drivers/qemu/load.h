/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "pool.h"
#include "run.h"

/* What a worker finds in the directory. */
struct loading {
	struct driver_connection *c; /* borrowed */
	char *directory;
	int lock; /* -1: not ours */
	int error;
	struct domain *domains;
	struct pools_found *pools;
	bool first; /* since the machine was booted */
};

/* A chore: reads all of it. */
void loading_work(void *data);
void loading_drop(void *data);
