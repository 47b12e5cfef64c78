/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"

/* A progress bar on standard error: what a job says of itself, and the rate measured here. */
struct progress {
	struct ctl *c;
	const char *name;
	json_object *job; /* borrowed */
	bool wanted, visible, clean;
	uint64_t begun;	   /* when it was first looked at: short jobs show no bar */
	uint64_t measured; /* when bytes were measured last */
	uint64_t bytes;
	unsigned room;	   /* for the figures: so much they once took; the bar does not jump */
	char *drawn;	   /* what stands there */
	double rate;	   /* bytes a second, smoothed; 0: not known yet */
};

void progress_init(struct progress *p, struct ctl *c, const char *name);
void progress_update(struct progress *p, json_object *job);
void progress_draw(struct progress *p, bool cancelling);
void progress_clear_line(struct progress *p);
