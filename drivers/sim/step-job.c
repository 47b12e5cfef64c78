/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "job.h"
#include "json.h"
#include "migrate.h"
#include "step.h"

/* Steps about operations that last: begun and ended as by somebody else, and what is missing for them. */

static int check_operation(struct json_object *step, const char *where, bool needed, struct failure *f)
{
	const char *name = sim_json_string(step, "operation", NULL);
	enum operation op = name ? sim_operation_from_string(name) : OP_NONE;
	const struct sim_course *c = sim_course_of(op);

	if (!name && !needed)
		return 0;
	if (!c || !c->visible)
		return failure_set(f, VIREO_INVALID_ARGS,
				   "%s.operation is '%s'; expected one that lasts, and that others can see: Domain.Save, "
				   "Domain.BlockCopy or the like.",
				   where, name ? name : "");
	return 0;
}

int sim_check_begin(struct json_object *step, const char *where, struct failure *f)
{
	struct sim_rule rule = {};
	int r = check_operation(step, where, true, f);

	if (r == 0 && sim_json_get(step, "total") && sim_json_number(step, "total", 0) > UINT64_C(1) << 60)
		r = failure_set(f, VIREO_INVALID_ARGS, "%s.total is too large.", where);
	if (r == 0)
		r = sim_scenario_rule_of_step(step, where, &rule, f);
	free(rule.message);
	return r;
}

int sim_run_begin(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait, struct failure *f)
{
	struct json_object *options = sim_json_get(step, "options");
	struct sim_object *o = NULL;
	struct sim_rule rule = {};
	struct request *q;
	int r = sim_step_object(w, step, &o, f);

	if (r == 0)
		r = sim_scenario_rule_of_step(step, "step", &rule, f);
	if (r != 0)
		return r;
	/* until it is ended */
	if (!sim_json_get(step, "duration"))
		rule.duration = USEC_UNKNOWN;
	q = sim_new(struct request);
	q->operation = sim_operation_from_string(sim_json_string(step, "operation", ""));
	q->kind = o->kind;
	q->uuid = o->uuid;
	q->name = sim_strdup(o->name);
	q->text = sim_json_string(step, "text", NULL) ? sim_strdup(sim_json_string(step, "text", "")) : NULL;
	q->text2 = sim_json_string(step, "text2", NULL) ? sim_strdup(sim_json_string(step, "text2", "")) : NULL;
	q->fd = -1;
	q->options = options ? sim_step_details(options) : NULL;
	r = sim_job_start(w, NULL, q, &rule, f);
	free(rule.message);
	return r;
}

int sim_check_end(struct json_object *step, const char *where, struct failure *f)
{
	const char *how = sim_json_string(step, "how", "done");

	if (strcmp(how, "done") != 0 && strcmp(how, "cancel") != 0 && strcmp(how, "fail") != 0 && strcmp(how, "vanish") != 0)
		return failure_set(f, VIREO_INVALID_ARGS, "%s.how is '%s'; expected done, cancel, fail or vanish.", where, how);
	return check_operation(step, where, false, f);
}

int sim_run_end(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait, struct failure *f)
{
	const char *how = sim_json_string(step, "how", "done"), *operation = sim_json_string(step, "operation", NULL);
	struct sim_object *o = NULL;
	struct sim_job *j;
	int r = sim_step_object(w, step, &o, f);

	if (r != 0)
		return r;
	j = sim_job_on(w, o, operation ? sim_operation_from_string(operation) : OP_NONE, sim_json_string(step, "disk", NULL));
	if (!j)
		return failure_set(f, VIREO_NOT_FOUND, "Domain '%s' has no such job.", o->name);
	if (strcmp(how, "done") == 0)
		sim_job_finish(w, j);
	else if (strcmp(how, "cancel") == 0)
		sim_job_stop(w, j, VIREO_CANCELLED, "It was cancelled by somebody else.");
	else if (strcmp(how, "fail") == 0)
		sim_job_stop(w, j, VIREO_OPERATION_FAILED, "simulated: the operation failed");
	else
		sim_job_stop(w, j, VIREO_OUTCOME_UNKNOWN, "It is gone, and nothing said how it ended.");
	return 0;
}

int sim_run_wait_jobs(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		      struct failure *f)
{
	/* threads too: a migration that has failed is still to be forgotten at the other side */
	if (w->jobs || w->threads > 0)
		*ret_wait = USEC_UNKNOWN;
	return 0;
}

int sim_run_missing(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait, struct failure *f)
{
	sim_file_set_missing(&w->truth, sim_json_string(step, "path", ""), !sim_json_bool(step, "found", false));
	return 0;
}

int sim_run_migrate_in(struct sim_world *w, struct sim_script *s, struct json_object *step, uint64_t *ret_wait,
		       struct failure *f)
{
	return sim_migrate_in(w, step, f);
}
