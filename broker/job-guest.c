/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <string.h>
#include <utlist.h>

/*
 * Requests to a guest. For the hypervisor they have ended once they were passed on; a caller who gave "wait" wants to know
 * what the guest made of them, which only its domain's events tell:
 *
 *   shutdown       done: Stopped
 *   reboot         done: Rebooted                                  failed: Stopped
 *   set-memory     done: Memory is what was asked for, to the page failed: Stopped
 *   detach-device  done: DeviceRemoved                             failed: DeviceRemovalFailed, Stopped
 *
 * The guest may be faster than the hypervisor's answer.
 */
/* A guest gives memory back, and takes it, in whole pages of its own: of 64 KiB at most. */
#define PAGE_MAX (64u << 10)

enum outcome { OUTCOME_WAIT, OUTCOME_DONE, OUTCOME_FAILED };

bool guest_is_awaited(const struct call *call)
{
	if (!operation_table[call->operation].request || !vdict_b(call->options, "wait", false))
		return false;
	/* A description is changed, or a limit: the guest is not asked. */
	if (vdict_b(call->options, "config", false) && !vdict_b(call->options, "live", false))
		return false;
	return !vdict_b(call->options, "maximum", false);
}

static bool has_wanted(const struct job *j, const struct object *o)
{
	uint64_t has = o->props->v[DOMAIN_MEMORY].t;

	return (has > j->wanted ? has - j->wanted : j->wanted - has) < PAGE_MAX;
}

static enum outcome judge(const struct job *j, const struct object *o, const char *event, struct failure *f)
{
	bool over = strcmp(event, "Stopped") == 0 || strcmp(event, "Removed") == 0;

	switch (j->operation) {
	case OP_DOMAIN_SHUTDOWN:
		return over ? OUTCOME_DONE : OUTCOME_WAIT;
	case OP_DOMAIN_REBOOT:
		if (strcmp(event, "Rebooted") == 0)
			return OUTCOME_DONE;
		break;
	case OP_DOMAIN_SET_MEMORY:
		if (!over && has_wanted(j, o))
			return OUTCOME_DONE;
		break;
	case OP_DOMAIN_DETACH_DEVICE:
		if (strcmp(event, "DeviceRemoved") == 0)
			return OUTCOME_DONE;
		if (strcmp(event, "DeviceRemovalFailed") == 0) {
			failure_set(f, VIREO_OPERATION_FAILED, "the guest did not let the device go");
			return OUTCOME_FAILED;
		}
		break;
	default:
		break;
	}
	if (!over)
		return OUTCOME_WAIT;
	failure_set(f, VIREO_INVALID_STATE, "%s stopped before its guest had done what was asked", object_title(o));
	return OUTCOME_FAILED;
}

bool guest_has_to_act(struct job *j)
{
	const struct object *target;

	if (!j->awaited)
		return false;
	target = broker_find(j->broker, j->target);
	if (!target || !target->life.active)
		return false;
	/* It may have that much already; then no event follows. */
	if (j->operation == OP_DOMAIN_SET_MEMORY && has_wanted(j, target))
		return false;
	j->accepted = true;
	return true;
}

void jobs_on_event(struct connection *c, const struct object *o, const char *event)
{
	struct job *j, *tmp;

	DL_FOREACH_SAFE(c->jobs, j, tmp)
	{
		struct failure f = {0};

		if (!j->awaited || strcmp(j->target, o->path) != 0 || judge(j, o, event, &f) == OUTCOME_WAIT)
			continue;
		j->awaited = false;
		if (j->accepted) {
			job_end(j, &f);
			failure_clear(&f);
		} else {
			failure_clear(&j->early);
			j->early = f;
		}
	}
}
