/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libvirt/libvirt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "drivers/driver.h"
#include "util/workers.h"

/*
 * One connection of the libvirt driver.
 *
 * Threads
 *   main loop    driver.h's callbacks. Only takes the lock, for moments
 *   libvirt-loop libvirt's event loop (loop.h), one for the process: callbacks put causes into their object's queue
 *   keeper       one a connection (keeper.c): opens it, which may hang for ever; then posts late causes without a
 *                look, and ends everything when the connection is lost; closes it
 *   lookers      up to 4 a connection (follow.c): look at objects and post. One object is with one looker at a time
 *   settler      at most one a connection (settle.c): makes barriers
 *   operators    up to 4 a connection (ops.c), on the connection for operations
 *   lasting      the same for operations that last (save, migrate, upload), on another one: they don't hold others up
 *   control      cancels, completes and asks how far operations are (jobs.c), on a third: gets through when all others hang
 *
 * The way of a cause: callback -> object's queue -> looker: a look -> post. All that waits for one object goes
 * out together, the look with the last. When a look takes long, the keeper posts the causes without it.
 *
 * The way of a settled look (listing, driver.look(), the end of an operation): a batch of items, one an object.
 * A looker looks when the object's queue is empty; once the whole batch was looked at, the settler makes a barrier;
 * an object about which nothing came since its look began is settled, any other is looked at again.
 *
 * What is on its way where nobody can see it: libvirt changes an object first, and queues the event when it has let go of
 * the object's lock. A look between the two, and a barrier too, can be quick enough to come before the event, above all in the
 * test driver, which runs in this process. So while an operation of our own runs on an object, a look that has to be
 * settled waits (but not for long: an operation may last).
 *
 * Order. @lv_object.post is held while reports about an object are posted, so they go out in the order in which they were
 * decided on. Locks are taken in this order: lv_object.post, driver_connection.lock. No call of libvirt's that
 * asks the hypervisor, and no post, is made under driver_connection.lock.
 */

struct lv_batch;
struct lv_op;

/* Something that libvirt reported. */
struct lv_cause {
	struct lv_cause *next;		/* of its object, in order of arrival */
	struct lv_cause *older, *newer; /* of the connection, until it is posted */
	struct lv_object *object;
	uint64_t at; /* monotonic µs of its arrival */
	uint64_t serial;
	enum cause cause;
	char *name;
	char *reason;
	const char *event; /* OTHER; static */
	int run;
	struct vdict *details;
};

/* What a look found. Zero-initialised: not looked. */
struct lv_view {
	enum look look;
	struct seen *seen;
	char *error;
};

/* What a listing told of a domain besides its XML. */
struct lv_facts {
	enum { FACTS_NONE, FACTS_AWAITED, FACTS_THERE } phase;
	unsigned long events; /* of the object, before they were gathered */
	int state, reason;
	bool persistent, autostart, managed_save;
};

/* One object of a batch. */
struct lv_item {
	struct lv_item *next;	     /* of its object's wanted list */
	struct lv_item *batch_next;
	struct lv_batch *batch;
	struct lv_object *object;    /* a reference */
	unsigned long events;	     /* of the object, when the look began */
	unsigned long creations;     /* of the connection, then */
	unsigned tries;
	bool listed;		     /* the listing's facts will do for it */
	bool done;		     /* answered */
	struct lv_view view;
};

/* Without padding: it is hashed as bytes. */
struct lv_key {
	sd_id128_t uuid;
	uint64_t kind;
};

struct lv_object {
	UT_hash_handle hh;
	struct lv_key key;
	unsigned refs; /* under driver_connection.lock, as all below but @post */
	pthread_mutex_t post;
	void *handle; /* virDomainPtr, virStoragePoolPtr, virNetworkPtr; NULL: must be looked up */
	unsigned long events; /* changes: when this is as it was before a look, nothing came since */
	unsigned operating;   /* operations of our own that run on it: it is about to change */
	struct lv_cause *causes, **causes_tail;
	struct lv_facts facts; /* for the next look; gone when something comes, or an operation of our own begins */
	struct lv_item *wanted;
	struct lv_object *prev, *next; /* in the line of objects that wait for a looker */
	bool queued, urgent;	       /* it is in that line; which */
	bool busy;		       /* with a looker */
	bool known;		       /* a look of it was posted */
	bool relook;		       /* causes were posted without a look: one more is owed */
	/* The look under way. */
	bool looking;
	bool late;		       /* it takes long: the keeper posts causes as they come */
	unsigned flushed;	       /* causes that the keeper posted since the look began */
	uint64_t began;
};

/* Objects that wait for a looker. */
struct lv_line {
	struct lv_object *head, *tail;
};

#define LV_LOOKERS 4
#define LV_OPERATORS 4

struct driver_connection {
	atomic_uint refs;  /* memory */
	atomic_uint users; /* threads that may call libvirt: the last one closes @events and @ops */
	struct driver_host *host;
	char *uri;
	virConnectPtr events; /* events and looks; set before HELLO, constant until the last user has gone */
	virConnectPtr ops;    /* operations; may be the same */
	pthread_mutex_t opening;	/* these two, opened when they are needed first (lv_extra) */
	virConnectPtr lasting, control; /* operations that last; cancelling and progress */
	bool own_world;			/* every connection to this URI has a world of its own. Written before HELLO */

	pthread_mutex_t lock; /* everything below */
	pthread_cond_t wake;  /* keeper */
	pthread_cond_t room;  /* libvirt's loop waits for causes to be posted */
	bool closing;	      /* close() was called: nobody listens any more */
	bool closed;	      /* … and has returned: the keeper may take it down */
	bool lost;	      /* the close callback was called */
	bool ended;	      /* everything outstanding was answered; GOODBYE is posted or about to be */
	char *lost_why;
	struct workers *keeper, *lookers, *lister, *settler, *operators, *lasters,
		*controllers;

	struct lv_object *objects; /* by key */
	struct lv_line urgent, patient;
	struct lv_object *looking[LV_LOOKERS];
	struct lv_cause *oldest, *newest; /* causes not yet posted, in order of arrival */
	unsigned n_unposted;
	uint64_t cause_serial;
	uint64_t keeper_until; /* when the keeper will wake by itself */

	struct lv_batch *batches;	/* all that are under way */
	struct lv_batch *settling;	/* looked at, waiting for a barrier */
	struct lv_batch *fenced;	/* listings that wait for older causes to be posted */
	struct lv_op *operations;	/* all that are under way */
	uint64_t foreign_token;		/* the last given to a job of somebody else's */
	unsigned creating;		/* operations that run and may bring an object that nobody knows yet */
	unsigned long creations;	/* changes of that */

	int domain_ids[VIR_DOMAIN_EVENT_ID_LAST], pool_ids[VIR_STORAGE_POOL_EVENT_ID_LAST],
		network_ids[VIR_NETWORK_EVENT_ID_LAST], monitor_id; /* callback ids; -1: not registered. The keeper's alone */
	bool has_kind[KIND_MAX];     /* the hypervisor has such objects at all. Written before HELLO */
	bool reports_kind[KIND_MAX]; /* … and events of them */
	bool is_test;		     /* libvirt's own test driver. Written before HELLO */
};

/* driver.c */
void lv_ref(struct driver_connection *c);
void lv_unref(struct driver_connection *c);
void lv_release(void *connection); /* lv_unref(), as libvirt calls it for a callback's userdata */
/* A thread that is to call libvirt. Both counts. */
void lv_use(struct driver_connection *c);
void lv_leave(struct driver_connection *c);
uint64_t lv_now(void); /* monotonic µs */
/*
 * lv_submit() - have fn(c, data) run on a worker of @pool, with the connection in use
 *
 * Under the lock. @drop(c, data), without the lock, if it never comes to that; may be NULL.
 * Return: false: closing, or no memory; nothing was done then.
 */
typedef void (*lv_work_fn)(struct driver_connection *c, void *data);
bool lv_submit(struct driver_connection *c, struct workers *pool, lv_work_fn fn, void *data, lv_work_fn drop);

/* keeper.c */
void lv_keeper(struct driver_connection *c, void *data);
/* One of the connections that are opened on demand: @which is &c->lasting or &c->control. Borrowed; NULL and libvirt's error. */
virConnectPtr lv_extra(struct driver_connection *c, virConnectPtr *which);
virConnectPtr lv_open_one(const char *uri);
/* Under the lock: have the keeper look at its deadlines not later than @at. */
void lv_wake_keeper(struct driver_connection *c, uint64_t at);

/* events.c */
extern const struct event_def lv_events[];
#define LV_BIT(cause) (1u << (cause))
#define LV_POOL_CAUSES \
	(LV_BIT(CAUSE_DEFINED) | LV_BIT(CAUSE_UNDEFINED) | LV_BIT(CAUSE_STARTED) | LV_BIT(CAUSE_STOPPED) | LV_BIT(CAUSE_OTHER))
#define LV_NETWORK_CAUSES (LV_POOL_CAUSES & ~LV_BIT(CAUSE_OTHER))
#define LV_DOMAIN_CAUSES \
	(LV_POOL_CAUSES | LV_BIT(CAUSE_SUSPENDED) | LV_BIT(CAUSE_RESUMED) | LV_BIT(CAUSE_PMSUSPENDED) | \
	 LV_BIT(CAUSE_CRASHED) | LV_BIT(CAUSE_SHUTDOWN))
/* Register what the hypervisor has; fills *_ids, has_kind and reports_kind. */
void lv_events_register(struct driver_connection *c);
void lv_events_deregister(struct driver_connection *c);
/* "Domain.Started" …, sorted, NULL-terminated; of what was registered. NULL: no memory. */
char **lv_events_supported(const struct driver_connection *c);

/* follow.c */
struct lv_object *lv_object_get(struct driver_connection *c, enum kind kind, sd_id128_t uuid); /* under the lock; borrowed */
void lv_object_ref(struct lv_object *o);
void lv_object_unref(struct driver_connection *c, struct lv_object *o); /* under the lock */
/* Under the lock. A reference to @handle is taken; the one before it is let go. */
void lv_object_set_handle(struct lv_object *o, void *handle);
void lv_object_want(struct driver_connection *c, struct lv_object *o); /* under the lock: it has work for a looker */
void lv_cause_free(struct lv_cause *k);
/* libvirt's loop: takes @k; @handle is borrowed. May wait while very much is unposted. */
void lv_cause_received(struct driver_connection *c, enum kind kind, sd_id128_t uuid, void *handle, struct lv_cause *k);
/* Keeper, not under the lock: post what is late without a look. Return: when to come again. */
uint64_t lv_post_late(struct driver_connection *c);
/* Keeper, not under the lock: post all that was received, without a look. */
void lv_post_all(struct driver_connection *c);
/* Under the lock, closing or ended: drop whatever waits for lookers. */
void lv_drop_causes(struct driver_connection *c);
/*
 * Post one observation: what @k says and what @v saw (either may be NULL); the strings of both are taken. With the object's
 * post lock.
 */
void lv_post_view(struct driver_connection *c, struct lv_object *o, struct lv_cause *k, struct lv_view *v, bool settled,
		  uint64_t listing);
void lv_objects_free(struct driver_connection *c);
void lv_release_handles(struct driver_connection *c); /* by the last user, not under the lock */

/* look.c */
/* Look at one object through @handle (may be NULL). @facts: what need not be asked; may be NULL. Blocks. Fills @v in any case. */
void lv_look(struct driver_connection *c, enum kind kind, sd_id128_t uuid, void *handle, const struct lv_facts *facts,
	     struct lv_view *v);
void lv_view_clear(struct lv_view *v);
void *lv_handle_ref(enum kind kind, void *handle);
void lv_handle_free(enum kind kind, void *handle);
/* NULL and libvirt's error when it fails. Owned by the caller. */
void *lv_handle_lookup(virConnectPtr conn, enum kind kind, sd_id128_t uuid);

/* facts.c: of all domains, in four calls. NULL: each has to be asked. */
struct lv_fact_table *lv_fact_table_new(struct driver_connection *c);
void lv_fact_table_free(struct lv_fact_table *t);
const struct lv_facts *lv_fact_table_find(const struct lv_fact_table *t, sd_id128_t uuid);

/* settle.c */
void lv_list(struct driver_connection *c, uint64_t serial);
void lv_look_settled(struct driver_connection *c, enum kind kind, sd_id128_t uuid, uint64_t serial);
/* Post a settled look of the object, then the operation's RESULT. Not under the lock. Takes @op. */
void lv_settle_operation(struct driver_connection *c, enum kind kind, sd_id128_t uuid, struct lv_op *op);
/* Under the lock: the wanted items of @o were looked at (one view for all; consumed). */
void lv_items_looked(struct driver_connection *c, struct lv_object *o, struct lv_item *items, unsigned long events,
		     unsigned long creations, struct lv_view *v);
/* Not under the lock: causes were posted; listings may have waited for that. */
void lv_post_listed(struct driver_connection *c);
/* Under no lock, closing or ended: answer every batch with a failure if @why, else just drop them. */
void lv_fail_batches(struct driver_connection *c, const char *why);

/* ops.c */
extern const enum operation lv_operations[];
void lv_operate(struct driver_connection *c, struct request *r);
void lv_op_finish(struct driver_connection *c, struct lv_op *op); /* post RESULT; takes @op */
/*
 * The same for the main loop's thread, of one that was cancelled before it began: whoever just posts of it may be waiting for
 * the loop, and finishes it behind that.
 */
void lv_op_finish_or_leave(struct driver_connection *c, struct lv_op *op);
void lv_fail_operations(struct driver_connection *c, const char *why);
/* Keeper, not under the lock: operations that last no longer hold looks up. Return: when to come again. */
uint64_t lv_release_objects(struct driver_connection *c);
/* "Domain.Start" …, sorted, NULL-terminated. NULL: no memory. */
char **lv_operations_supported(const struct driver_connection *c);
