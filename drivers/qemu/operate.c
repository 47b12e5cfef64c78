/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>
#include <utlist.h>

#include "guest.h"
#include "jobs.h"

/* What QEMU does at once; a save or a big reset may take it a while. */
#define OPERATE_PATIENCE (15 * USEC_PER_SEC)

struct task {
	struct guest *guest;
	struct request *request;
	struct json_object *arguments; /* for the command behind the check */
	struct task *prev, *next;
};

static void task_free(struct task *t)
{
	DL_DELETE(t->guest->tasks, t);
	json_object_put(t->arguments);
	request_free(t->request);
	free(t);
}

void guest_tasks_free(struct guest *g)
{
	while (g->tasks)
		task_free(g->tasks);
}

static void finish(struct task *t, enum vireo_error error, const char *message)
{
	env_post_result(t->guest->env, TAKE(t->request), error, "%s", message);
	task_free(t);
}

/* Everything it caused has been posted by the look that this ends. */
static void on_looked(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	if (how == WAITED_SEEN)
		env_post_look(g->env, KIND_DOMAIN, g->uuid, g->name, LOOK_SEEN, s, NULL, 0);
	/* Done is done, also where nobody can look any more. */
	finish(userdata, VIREO_OK, "");
}

static void on_lost(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	finish(userdata, VIREO_OUTCOME_UNKNOWN, "QEMU ended before it answered");
}

static void on_done(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct task *t = userdata;

	switch (reply->status) {
	case QMP_OK:
		guest_look(t->guest, on_looked, t);
		break;
	case QMP_REFUSED:
		finish(t, VIREO_OPERATION_FAILED, reply->message);
		break;
	case QMP_TIMEOUT:
		finish(t, VIREO_TIMEOUT, reply->message);
		break;
	case QMP_CLOSED:
		/* What became of it is posted first. */
		guest_look(t->guest, on_lost, t);
		break;
	}
}

static void run(struct task *t, const char *command)
{
	int r = qmp_execute(t->guest->qmp, command, TAKE(t->arguments), OPERATE_PATIENCE, on_done, t);

	if (r < 0)
		finish(t, r == -ENOTCONN ? VIREO_INVALID_STATE : VIREO_OPERATION_FAILED,
			r == -ENOTCONN ? "the domain is not running" : strerror(-r));
}

/* NULL: go on. By what the look just found. */
static const char *refusal(const struct request *r, enum domain_state state)
{
	switch (r->operation) {
	case OP_DOMAIN_SUSPEND:
		return state == DOMAIN_PAUSED ? "the domain is paused already" : NULL;
	case OP_DOMAIN_RESUME:
		return state == DOMAIN_RUNNING	     ? "the domain is not paused"
		       : state == DOMAIN_PMSUSPENDED ? "the domain is suspended by its guest: wake it up" : NULL;
	case OP_DOMAIN_PMWAKEUP:
		return state == DOMAIN_PMSUSPENDED ? NULL : "the domain is not suspended by its guest";
	case OP_DOMAIN_SHUTDOWN:
	case OP_DOMAIN_REBOOT:
		return state == DOMAIN_RUNNING ? NULL : "the domain is not running";
	default:
		return NULL;
	}
}

static const char *command_of(enum operation operation)
{
	switch (operation) {
	case OP_DOMAIN_SUSPEND:
		return "stop";
	case OP_DOMAIN_RESUME:
		return "cont";
	case OP_DOMAIN_PMWAKEUP:
		return "system_wakeup";
	case OP_DOMAIN_SHUTDOWN:
	case OP_DOMAIN_REBOOT:
		return "system_powerdown";
	case OP_DOMAIN_RESET:
		return "system_reset";
	case OP_DOMAIN_SET_MEMORY:
		return "balloon";
	default:
		return NULL;
	}
}

static void on_staying(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct task *t = userdata;

	if (reply->status != QMP_OK) {
		on_done(q, reply, t);
		return;
	}
	t->guest->reboot_asked = true;
	run(t, "system_powerdown");
}

static void on_checked(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct task *t = userdata;
	const char *why;

	if (how != WAITED_SEEN) {
		finish(t, how == WAITED_DOWN ? VIREO_INVALID_STATE : VIREO_TIMEOUT,
			how == WAITED_DOWN ? "the domain is not active" : "QEMU does not answer");
		return;
	}
	why = refusal(t->request, s->state);
	if (why) {
		finish(t, VIREO_INVALID_STATE, why);
		return;
	}
	if (t->request->operation == OP_DOMAIN_SET_MEMORY) {
		t->arguments = json_object_new_object();
		json_object_object_add(t->arguments, "value", json_object_new_uint64(t->request->number));
	}
	if (t->request->operation == OP_DOMAIN_SHUTDOWN && g->reboot_asked) {
		/* The later word counts. */
		g->reboot_asked = false;
		(void)qmp_execute(g->qmp, "set-action",
			json_strings("shutdown", g->shutdown_action ? g->shutdown_action : "poweroff", NULL), USEC_UNKNOWN, NULL, NULL);
	}
	if (t->request->operation == OP_DOMAIN_REBOOT) {
		/* By the power button too; but then QEMU stays, to be started anew. */
		if (qmp_execute(g->qmp, "set-action", json_strings("shutdown", "pause", NULL), OPERATE_PATIENCE, on_staying, t) < 0)
			finish(t, VIREO_INVALID_STATE, "the domain is not running");
		return;
	}
	run(t, command_of(t->request->operation));
}

/* Only ways that QEMU has itself: there is no agent. */
static bool mode_fits(const struct request *r)
{
	const struct vdict_item *mode = vdict_get(r->options, "mode");

	if (!mode || mode->type != 'a' || !mode->a[0])
		return true;
	for (char **m = mode->a; *m; m++)
		if (strcmp(*m, "acpi") == 0)
			return true;
	return false;
}

bool guest_operate(struct guest *g, struct request *r)
{
	struct task *t;

	switch (r->operation) {
	case OP_DOMAIN_SHUTDOWN:
	case OP_DOMAIN_REBOOT:
		if (!mode_fits(r)) {
			env_post_result(g->env, r, VIREO_NOT_SUPPORTED,
				"the only way to ask this guest is acpi, by its power button");
			return true;
		}
		break;
	case OP_DOMAIN_SET_MEMORY:
		if (vdict_b(r->options, "maximum", false) || vdict_b(r->options, "config", false))
			return false;
		if (r->number > g->facts.max_memory && g->facts.valid) {
			env_post_result(g->env, r, VIREO_INVALID_ARGS, "the domain has %llu bytes at most",
				(unsigned long long)g->facts.max_memory);
			return true;
		}
		break;
	case OP_DOMAIN_SUSPEND:
	case OP_DOMAIN_RESUME:
	case OP_DOMAIN_PMWAKEUP:
	case OP_DOMAIN_RESET:
		break;
	case OP_DOMAIN_SAVE:
	case OP_DOMAIN_MANAGED_SAVE:
	case OP_DOMAIN_DUMP:
	case OP_DOMAIN_BLOCK_PULL:
	case OP_DOMAIN_BLOCK_COMMIT:
	case OP_DOMAIN_BLOCK_COPY:
		guest_job_begin(g, r);
		return true;
	default:
		return false;
	}
	t = calloc(1, sizeof(*t));
	if (!t) {
		env_post_result(g->env, r, VIREO_NO_MEMORY, "out of memory");
		return true;
	}
	t->guest = g;
	t->request = r;
	DL_APPEND(g->tasks, t);
	/* What is known may be a moment old, and QEMU itself takes "stop" while stopped for nothing. */
	guest_look(g, on_checked, t);
	return true;
}
