/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "history.h"
#include "object.h"

/*
 * The broker: owns connections, objects, jobs and history; tells its listeners about events. It knows no bus and
 * no hypervisor. Everything here is for the main loop's thread.
 *
 * Order. All that one batch of the queue causes is applied to the records, then committed to history, then told to the
 * listeners, before control returns to the loop: so whoever reads between two turns sees records, history and signals agree.
 */
struct broker;

struct broker_config {
	struct history_config history;
	uint64_t poll_interval;	   /* µs, of connections without events; 0: 2 s */
	uint64_t resync_interval;  /* µs, the slow resync; 0: 5 min; USEC_UNKNOWN: never */
	uint64_t job_keep;	   /* µs a finished job stays; 0: 60 s */
	bool no_same_as;	   /* connections do not name each other: who sees the one may not know of the other */
};

struct broker_listener {
	/*
	 * A batch of events, in order of version, already in history. @events are borrowed: take references.
	 * Afterwards every object's record is at least as new.
	 */
	void (*events)(struct event *const *events, size_t n, void *userdata);
	/* Progress of a job (not versioned): bits of @changed are 1u << enum job_prop. */
	void (*progress)(struct object *job, unsigned changed, void *userdata);
	void *userdata;
	struct broker_listener *next; /* the broker's */
};

int broker_new(const struct broker_config *config, sd_event *event, struct clock *clock, struct broker **ret,
	       struct failure *f);
/* Closes all connections, history last. NULL is fine. */
void broker_free(struct broker *b);
DEFINE_CLEANUP(struct broker *, broker_free)
void broker_add_listener(struct broker *b, struct broker_listener *l);
void broker_remove_listener(struct broker *b, struct broker_listener *l);

const char *broker_epoch(struct broker *b);
uint64_t broker_version(struct broker *b); /* of the last event told */
uint64_t broker_oldest(struct broker *b);
struct history *broker_history(struct broker *b);
struct clock *broker_clock(struct broker *b);

/* ---- connections ------------------------------------------------------------------------------------------- */

/*
 * broker_open() - follow one more hypervisor
 * @label: NULL: made from the URI
 * @ret:   the connection's object, State "connecting"
 *
 * Records kept from before a restart (same label, same URI) are taken up.
 * Fails with VIREO_INVALID_URI, VIREO_ALREADY_EXISTS (label or URI).
 */
int broker_open(struct broker *b, const char *label, const char *uri, struct object **ret, struct failure *f);
/* Every object of it is Removed (closed), then the connection itself. */
int broker_close(struct broker *b, struct object *connection, struct failure *f);
/* Records of connections that are not configured any more: told as Removed (closed). Once, after the broker_open()s of the start. */
void broker_forget_unopened(struct broker *b);
/* True once each connection was listed, or could not be reached. */
bool broker_ready(struct broker *b);
/* Runs once when broker_ready() becomes true. */
void broker_on_ready(struct broker *b, void (*fn)(void *userdata), void *userdata);

/* ---- reading ------------------------------------------------------------------------------------------------ */

struct object *broker_find(struct broker *b, const char *path); /* NULL: no such object */
/* First of the kind's list; then object->next. */
struct object *broker_first(struct broker *b, enum kind kind);
size_t broker_count(struct broker *b, enum kind kind);

/*
 * broker_lookup() - by name or UUID, in all connections
 * @sees: the others are as good as not there; NULL: all are
 * Return: 0; VIREO_NOT_FOUND; VIREO_AMBIGUOUS with a message that names the candidates' paths.
 */
int broker_lookup(struct broker *b, enum kind kind, const char *name_or_uuid,
		  bool (*sees)(const struct object *o, void *userdata), void *userdata, struct object **ret, struct failure *f);

/*
 * broker_sync() - call back when every change that had completed at the hypervisors before now is told
 * @connection: NULL: all that are connected
 * @timeout:    µs
 *
 * done(0, version) or done(VIREO_TIMEOUT or VIREO_DISCONNECTED, …). Never called from inside broker_sync().
 * Return: a handle for broker_sync_cancel(), NULL when out of memory. It is void once done() was called.
 */
struct broker_sync;
typedef void (*broker_sync_fn)(const struct failure *f, uint64_t version, void *userdata);
struct broker_sync *broker_sync(struct broker *b, struct object *const *connections, size_t n, uint64_t timeout,
				broker_sync_fn done, void *userdata);
void broker_sync_cancel(struct broker_sync *s);
/* The same for one connection; one that is down is tried at once, instead of when its time has come. */
struct broker_sync *broker_resync(struct broker *b, struct object *connection, uint64_t timeout, broker_sync_fn done,
				  void *userdata);

/* ---- operations --------------------------------------------------------------------------------------------- */

struct call {
	enum operation operation;
	struct object *object;	/* domain, pool, network, or the connection */
	const char *text, *text2;
	uint64_t number;
	bool flag;
	int fd;			/* taken when broker_submit() succeeds; -1 */
	const struct vdict *options; /* the method's own; if-version and async are fields: */
	bool has_if_version;
	uint64_t if_version;
	uint32_t uid;		/* of the caller; UINT32_MAX unknown */
};

/* How a call ended; @f->error VIREO_OK when it worked. @r is borrowed, NULL when there was no result. */
typedef void (*call_done_fn)(const struct failure *f, uint64_t version, const struct result *r, void *userdata);

/*
 * broker_submit() - change something: begin a job
 * @ret_job: the job's object, already told to listeners
 * @done:    once, when the job has ended, unless the job is let go first (broker_release()); may be NULL
 *
 * Return: 0; or without any effect VIREO_DISCONNECTED, VIREO_NOT_SUPPORTED, VIREO_BUSY (the message names the job),
 * VIREO_VERSION_MISMATCH, VIREO_INVALID_XML.
 */
int broker_submit(struct broker *b, const struct call *call, call_done_fn done, void *userdata,
		  struct object **ret_job, struct failure *f);
/* A read that must ask the hypervisor (secure XML, volumes): no job. The handle is void once done() was called. */
struct broker_query;
int broker_query(struct broker *b, const struct call *call, call_done_fn done, void *userdata,
		 struct broker_query **ret, struct failure *f);
void broker_query_cancel(struct broker_query *q);

/* ---- jobs --------------------------------------------------------------------------------------------------- */

/* RunningTime of a running job, as it is now: before it is read. */
void broker_job_refresh(struct object *job);
/* Nobody waits any more: done() of this job with this userdata is not called. */
void broker_release(struct object *job, void *userdata);
/* Call done when the job has ended (at once, from the loop, when it has). */
int broker_wait(struct object *job, call_done_fn done, void *userdata);
/* VIREO_NOT_CANCELLABLE, VIREO_INVALID_STATE (has ended). */
int broker_cancel(struct broker *b, struct object *job, struct failure *f);
int broker_complete(struct broker *b, struct object *job, struct failure *f);
