/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "face.h"

/* Cancel, Complete and Wait: calls about a job. */
struct job_call {
	struct held held;
	enum { JOB_CANCEL, JOB_COMPLETE, JOB_WAIT } what;
	bool wait;	  /* for the end, after Cancel or Complete */
	uint64_t timeout; /* of Wait */
	bool waiting;
};

static struct object *job_of(struct job_call *c)
{
	return broker_find(c->held.face->broker, c->held.path);
}

static void job_call_free(struct held *h)
{
	struct job_call *c = (struct job_call *)h;
	struct object *job = c->waiting ? job_of(c) : NULL;

	if (job)
		broker_release(job, c);
}

static void answer(struct job_call *c)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct object *job = job_of(c);
	int r;

	if (!job) {
		held_failf(&c->held, VIREO_NOT_FOUND, "%s has gone", c->held.path);
		return;
	}
	r = held_begin(&c->held, &reply);
	if (r >= 0 && c->what == JOB_WAIT)
		r = sd_bus_message_append(reply, "s", job->props->v[JOB_STATE].s);
	if (r < 0)
		held_errno(&c->held, r);
	else
		held_reply(&c->held, TAKE(reply));
}

/* However it ended: that is in the properties. */
static void on_ended(const struct failure *f, uint64_t version, const struct result *r, void *userdata)
{
	struct job_call *c = userdata;

	c->waiting = false;
	answer(c);
}

static void on_waited(struct timer *t, void *userdata)
{
	struct job_call *c = userdata;

	if (c->what == JOB_WAIT)
		answer(c);
	else
		held_failf(&c->held, VIREO_TIMEOUT, "%s has not ended in 20 s; it was asked to", c->held.path);
}

static void job_call_go(struct held *h)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct job_call *c = (struct job_call *)h;
	struct broker *b = h->face->broker;
	struct object *job = job_of(c);
	int r = 0;

	if (!job) {
		held_failf(h, VIREO_NOT_FOUND, "%s has gone", h->path);
		return;
	}
	if (c->what == JOB_CANCEL) {
		r = broker_cancel(b, job, &f);
		if (r == VIREO_INVALID_STATE) /* has ended: one name for whatever can't be cancelled */
			r = f.error = VIREO_NOT_CANCELLABLE;
	} else if (c->what == JOB_COMPLETE)
		r = broker_complete(b, job, &f);
	if (r != 0) {
		held_refuse(h, r, &f);
		return;
	}
	if ((c->what == JOB_WAIT && c->timeout == 0) || (c->what != JOB_WAIT && !c->wait)) {
		answer(c);
		return;
	}
	job = job_of(c);
	if (!job || strcmp(job->props->v[JOB_STATE].s, "running") != 0) {
		answer(c);
		return;
	}
	r = broker_wait(job, on_ended, c);
	if (r < 0) {
		held_errno(h, r);
		return;
	}
	c->waiting = true;
	timer_in(h->face->clock, &h->timer, c->what == JOB_WAIT ? c->timeout : CALL_WAIT_MAX, on_waited, c);
}

static const struct held_ops job_call_ops = {.go = job_call_go, .free = job_call_free};

static int begin(sd_bus_message *m, struct face *face, int what, sd_bus_error *error)
{
	static const struct option_def wait_options[] = {{"wait", "b"}, {NULL}};
	_cleanup_(vdict_freep) struct vdict *options = NULL;
	_cleanup_(failure_clear) struct failure f = {0};
	struct job_call *c = held_new(face, m, &job_call_ops, sizeof(*c));
	int r;

	if (!c)
		return face_error(error, -ENOMEM, NULL);
	c->what = what;
	if (what == JOB_WAIT) {
		r = sd_bus_message_read(m, "t", &c->timeout);
		if (r >= 0)
			r = c->timeout > CALL_WAIT_MAX ? failure_set(&f, VIREO_INVALID_ARGS,
							     "a timeout of %" PRIu64 " µs is too long: 20000000 at most",
							     c->timeout)
						       : 0;
	} else {
		r = options_read(m, wait_options, NULL, &options, &f);
		if (r == 0)
			c->wait = vdict_b(options, "wait", false);
	}
	if (r != 0)
		return held_refuse(&c->held, r, &f);
	return face_authorize(&c->held,
			      &(struct question){.action = what == JOB_WAIT ? ACTION_VIEW : ACTION_JOBS_CANCEL,
				      .object = broker_find(face->broker, c->held.path), .change = true});
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin(m, userdata, JOB_CANCEL, error);
}

static int method_complete(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin(m, userdata, JOB_COMPLETE, error);
}

static int method_wait(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	return begin(m, userdata, JOB_WAIT, error);
}

const sd_bus_vtable job_vtable[] = {
	SD_BUS_VTABLE_START(0),
	PROPERTY_CONST("Object", "o"),
	PROPERTY_CONST("Operation", "s"),
	PROPERTY("Type", "s"),
	PROPERTY("State", "s"),
	PROPERTY("RunningTime", "t"),
	PROPERTY("RemainingTime", "t"),
	PROPERTY("Percent", "d"),
	PROPERTY("BytesTotal", "t"),
	PROPERTY("BytesDone", "t"),
	PROPERTY("Ready", "b"),
	PROPERTY("Cancellable", "b"),
	PROPERTY("CancelRequested", "b"),
	PROPERTY_CONST("StartedBy", "u"),
	PROPERTY("Error", "(ss)"),
	PROPERTY("Version", "t"),

	SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_cancel,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Complete", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_complete,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Wait", SD_BUS_ARGS("t", timeout), SD_BUS_RESULT("s", state), method_wait,
		SD_BUS_VTABLE_UNPRIVILEGED),

	EVENT_SIGNAL("Added"),
	EVENT_SIGNAL("Updated"),
	EVENT_SIGNAL("Finished"),
	EVENT_SIGNAL("Removed"),
	SD_BUS_VTABLE_END,
};
