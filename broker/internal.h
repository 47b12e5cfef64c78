/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the broker's own files share; nobody outside broker/ includes this. Main loop's thread only. */

#include <uthash.h>

#include "broker.h"
#include "drivers/host.h"
#include "util/log.h"
#include "util/queue.h"

struct broker {
	struct broker_config config;
	sd_event *event; /* borrowed */
	struct clock *clock;
	struct history *history;
	struct queue *queue;
	struct broker_listener *listeners;

	struct object *by_path;
	struct object *first[KIND_MAX]; /* utlist: doubly linked, in order of appearance */
	size_t count[KIND_MAX];

	/* This turn's events, told by broker_flush(). */
	struct event **batch;
	size_t batch_n, batch_size;
	struct object **dirty; /* changed, to be stored with the batch */
	size_t dirty_n, dirty_size;
	struct object *graveyard; /* removed in this turn; freed by broker_flush() */
	bool flushing;

	struct connection *connections;
	uint64_t next_token;
	uint64_t next_serial;
	struct ended *ended; /* calls to answer once the batch was told */
	struct broker_query *queries;

	struct timer ready_timer;
	void (*on_ready)(void *userdata);
	void *on_ready_userdata;
	struct timer keep_timer; /* removal of finished jobs */
};

/* ---- events (broker.c) ---------------------------------------------------------------------------------------- */

/*
 * broker_emit() - one versioned change of an object
 * @props:   the new set, taken, Version is filled in; NULL: as before
 * @details: borrowed, may be NULL
 *
 * Applied to the record at once, told with the next broker_flush(). "Added" makes it known (the object must not be in
 * the index yet), "Removed" unknown: the object is then freed by the flush.
 */
void broker_emit(struct broker *b, struct object *o, const char *name, const char *reason, bool inferred,
		 struct props *props, const struct vdict *details);

/* Commit what was emitted, tell it, then answer calls that have ended. Called at the end of everything that may emit. */
void broker_flush(struct broker *b);

/* The object has to be stored again without an event (progress never is; life's hidden part never is). */
struct object *object_new(enum kind kind, const char *path, struct connection *c);
void object_free(struct object *o);

/* Answer done() after the next flush, with the version of then at the earliest. */
void broker_answer(struct broker *b, call_done_fn done, void *userdata, const struct failure *f, struct result *taken);

/* ---- connections (connection.c, reconcile.c) -------------------------------------------------------------------- */

#define HELD_MAX 1024	/* reports of unknown objects that wait for a look */
#define EARLY_MAX 1024	/* grammar's memory of unknown objects */

/* Which object of a connection; hashed whole, so zero it before filling. */
struct object_key {
	enum kind kind;
	sd_id128_t uuid;
};

/* A settled look that is on its way, or that waits to be tried again. */
struct look_request {
	struct object_key key;
	uint64_t serial; /* of the look in flight; 0: waits for its timer */
	unsigned tries;
	bool again;	 /* wanted anew while in flight */
	bool listed;	 /* missing from a listing: Synced waits for it */
	struct timer timer;
	struct connection *connection;
	UT_hash_handle hh;
};

struct held_report {
	struct report *report;
	struct held_report *prev, *next;
};

/* Hidden grammar memory of an object that is unknown. */
struct early {
	enum kind kind;
	sd_id128_t uuid;
	struct life life;
	struct early *prev, *next;
};

struct broker_sync_part {
	struct broker_sync *sync;
	struct connection *connection;
	uint64_t serial; /* the listing that will do */
	struct broker_sync_part *prev, *next; /* of the connection */
	struct broker_sync_part *sibling;     /* of the sync */
};

enum link { LINK_DOWN, LINK_OPENING, LINK_UP };

struct connection {
	struct broker *broker;
	struct object *object;
	char *uri;   /* whole, with its query: never told to anybody */
	char *same_key;
	const struct driver *driver;
	struct driver_connection *dc;
	struct driver_host *host;
	enum link link;
	bool attempted; /* the first attempt has ended, one way or the other: counts as ready */
	bool synced;	/* Synced was told since the link is up */
	bool polled;
	unsigned failures;
	struct timer timer; /* retry while down; poll or slow resync while up */
	struct object *by_uuid[KIND_MAX];

	struct {
		uint64_t serial;  /* in flight; 0: none */
		uint64_t again;	  /* serial of the one to begin behind it; 0: none */
		uint64_t done;	  /* the last that ended */
		bool ended;	  /* LISTED came; looks at what was missing may be on their way */
		bool failed;
	} listing;
	struct look_request *looks;
	unsigned looks_listed; /* of them: missing from a listing, not answered yet */
	struct held_report *held;
	unsigned held_n;
	struct early *early;
	unsigned early_n;
	struct broker_sync_part *syncs;
	struct job *jobs; /* not finished */
	struct connection *prev, *next;
};

/* connection.c */
void connection_on_report(struct connection *c, struct report *r);
/* Ask for a listing that covers everything up to now. Return: its serial. */
uint64_t connection_list(struct connection *c);
/* It is down: try now. */
void connection_retry(struct connection *c);
void connection_free(struct connection *c);
void connection_check_ready(struct broker *b);
/* From reconcile.c, when a look or listing has ended. */
void connection_progressed(struct connection *c);

/* reconcile.c: observations, through the grammar, into the records */
void reconcile_observation(struct connection *c, struct report *r); /* takes the report */
void reconcile_listed(struct connection *c, const struct listed *l);
void reconcile_look(struct connection *c, enum kind kind, sd_id128_t uuid, bool listed);
/* The link is down: no look will be answered, nothing held will be explained. */
void reconcile_reset(struct connection *c);
/* Removed (closed) of one object. */
void reconcile_close(struct broker *b, struct object *o);
bool reconcile_looking(struct connection *c, bool listed_only);

/* ---- looks (look.c) ---------------------------------------------------------------------------------------------- */

/* The set after a step: what the grammar says, and what the look adds (NULL: nothing). NULL: no memory. */
struct props *look_fill(const struct object *o, const struct life *life, const struct seen *s);
/* The set with what a look at a domain that is starting up shows of the one before that: whether it is autostarted. NULL: no memory. */
struct props *look_fill_autostart(const struct object *o, const struct seen *s);
/* The look's XML becomes the object's. Return: is it another one? */
bool look_take_xml(struct object *o, const struct seen *s);
/* What the properties of an object say that comes from history: the life for the grammar to go on from. */
void look_life(struct object *o);

/* ---- sync (sync.c) ----------------------------------------------------------------------------------------------- */
void sync_progressed(struct connection *c);
void sync_lost(struct connection *c, const char *why);

/* ---- jobs (job.c) ------------------------------------------------------------------------------------------------ */

struct job_waiter {
	call_done_fn done;
	void *userdata;
	struct job_waiter *next;
};

struct job {
	struct broker *broker;
	struct object *object;	   /* the job's own */
	struct connection *connection; /* NULL once the connection is gone */
	uint64_t token;
	enum operation operation;
	char *target;		   /* path of the object it runs on */
	char *subject;		   /* the disk or volume of it; NULL: all of it */
	bool foreign;
	bool running;
	bool named;		   /* in the target's Jobs */
	struct timer timer;	   /* until it is */
	bool awaited;		   /* what the guest makes of it; otherwise it ends when the driver says so */
	uint64_t wanted;	   /* bytes of memory */
	bool accepted;		   /* by the hypervisor: the guest's turn */
	struct failure early;	   /* what the guest made of it before the hypervisor said that it was accepted */
	uint64_t began;		   /* monotonic µs */
	uint64_t ended;		   /* monotonic µs, once it has */
	struct failure failure;
	struct result result;	   /* kept for waiters: strings only while kept */
	struct job_waiter *waiters;
	struct job *prev, *next;   /* of the connection, while running */
};

/* What a job is made of. Borrowed. */
struct job_spec {
	enum operation operation;
	const struct object *target;
	const char *subject;
	uint64_t token;
	uint32_t uid;
	bool foreign, cancellable;
	bool awaited;
	uint64_t wanted;
};
/* A running job, its Added emitted. NULL: no memory, and nothing was done. */
struct job *job_begin(struct connection *c, const struct job_spec *spec);
/* It ends: well, if @f is no failure. */
void job_end(struct job *j, const struct failure *f);
/* "disk", "volume": what the subject of this operation is called in details; NULL: it has none. */
const char *job_subject_key(enum operation operation);
/* For messages: the name, or a connection's path. */
const char *object_title(const struct object *o);

void jobs_on_foreign(struct connection *c, const struct foreign *f);
void jobs_on_result(struct connection *c, struct result *r);
void jobs_on_progress(struct connection *c, const struct progress *p);
/* Every running job of the connection fails. */
void jobs_lost(struct connection *c, enum vireo_error error, const char *why);
void jobs_restored(struct broker *b); /* after history_load(): none of them runs any more */
void jobs_free(struct job *j);
/* Paths of the jobs that run on an object, NULL-terminated, owned. */
char **jobs_of(struct broker *b, const char *path);

/* ---- requests to a guest (job-guest.c) --------------------------------------------------------------------------- */

/* Does the caller want to know what the guest makes of it? */
bool guest_is_awaited(const struct call *call);
/* The hypervisor has accepted it: does its end depend on the guest? */
bool guest_has_to_act(struct job *j);
/* An event of a domain may end jobs on it. */
void jobs_on_event(struct connection *c, const struct object *o, const char *event);

void queries_lost(struct connection *c, const char *why);
/* Did the result belong to a query? Then it was answered. */
bool queries_on_result(struct connection *c, struct result *r);
