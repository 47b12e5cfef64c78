/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "run.h"

/*
 * A change of a domain's files, and what is made of it when it is on the disk. One at a time for each domain: what else
 * would change it waits (domain_wait()).
 */
struct change {
	struct domain *d; /* borrowed; stays until the change has ended */
	struct request *r;
	/* On the loop, with 0 or a negative errno. Takes r; may use everything else of the change. */
	void (*done)(struct change *k, int error);
	/* What becomes the description. Owned. */
	struct vm *vm;
	char *text;
	const char *reason; /* static */
	bool make_directory, remove_directory;
	char *unless; /* a file; where it is, nothing is done: -EEXIST. Owned */
	/* Not before all that is above them is on the disk; what goes wrong with them is only logged. Owned. */
	char *path; /* to be removed, anywhere */
	bool flag;

	char *directory; /* change_run() fills it */
	struct change_step {
		const char *file; /* static; within the directory */
		const char *text; /* NULL: remove it; borrowed from the change, or static */
	} steps[4];
	size_t n_steps;
	int error;
};

/* Takes @r. NULL: no memory, and the request has been ended. */
struct change *change_new(struct domain *d, struct request *r, void (*done)(struct change *k, int error));
void change_step(struct change *k, const char *file, const char *text);
/* Takes @k. Nothing of the domain may be used behind this. */
void change_run(struct change *k);
