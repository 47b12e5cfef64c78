/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "script.h"

/* Steps that have a file of their own (step-job.c), and what they share with the others (step.c). */
int sim_check_begin(struct json_object *step, const char *where, struct failure *f);
int sim_check_end(struct json_object *step, const char *where, struct failure *f);
int sim_run_begin(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait, struct failure *f);
int sim_run_end(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait, struct failure *f);
int sim_run_wait_jobs(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		      struct failure *f);
int sim_run_missing(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait, struct failure *f);
int sim_run_migrate_in(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		       struct failure *f);

/* The object that a step names by its kind. */
int sim_step_object(struct sim_world *w, struct json_object *step, struct sim_object **ret, struct failure *f);
/* Its keys as typed values. Owned. */
struct vdict *sim_step_details(struct json_object *j);
