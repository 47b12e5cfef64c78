/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/* Steps within steps within steps … */
#define SIM_DEPTH_MAX 16

/* A script: a list of steps, interpreted one by one by the world's thread (script.c, step.c, storm.c). */
struct sim_script {
	struct sim_script *next;
	struct json_object *root; /* owned: the steps */
	struct sim_frame {
		struct json_object *steps; /* borrowed: an array */
		size_t next;
		uint64_t remaining; /* rounds after this one; UINT64_MAX: for ever */
	} frames[SIM_DEPTH_MAX];
	unsigned depth;
	uint64_t due; /* USEC_UNKNOWN: when a condition holds */
	bool guest;   /* a guest that follows a request: no script of a user */

	bool storming;
	struct sim_storm {
		bool flood;
		bool endless;
		uint64_t remaining, interval, next; /* interval: µs an action, 0: as fast as possible */
		uint64_t random;
		double churn;
		struct json_object *verbs; /* borrowed; NULL: all that a storm may choose */
		sd_id128_t cursor;
		uint64_t serial;
	} storm;

	sim_script_done done;
	void *userdata;
	struct json_object *answer;
};

/* step.c: *@ret_wait: 0 go on; a time; USEC_UNKNOWN: the same step again when something has changed. */
int sim_step_run(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		 struct failure *f);
/* storm.c: one action. Return: when the next is due; 0: the storm is over, or goes on at once. */
uint64_t sim_storm_run(struct sim_world *w, struct sim_script *s);
