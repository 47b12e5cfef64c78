/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <uthash.h>

#include "bus.h"
#include "filter.h"
#include "names.h"
#include "options.h"
#include "util/clock.h"
#include "util/log.h"

/*
 * Inside of introspection/: what its files know of each other.
 */

#define MESSAGE_BYTES_MAX ((size_t)24 << 20)	   /* P25: no message is larger */
#define CALL_WAIT_MAX (20 * USEC_PER_SEC)	   /* no answer waits longer */
#define HELD_PER_PEER_MAX 128u			   /* calls of one caller that wait at once */

struct face;
struct held;
struct peer;

/* ---- held calls (held.c) ------------------------------------------------------------------------------------ */

/*
 * A call that is not answered yet: policy may still be asked, the hypervisor work, history have nothing to tell.
 * Embedded as the first member of each handler's own state. Dropped, without an answer, when its caller leaves the
 * bus or the face goes.
 *
 *     held_new() ──► face_authorize() ──► ops->go() ──► held_reply() or held_fail()
 *                          └── refused, or the caller left: answered and freed without go()
 */
struct held_ops {
	/* Policy agreed. Looks its object up by path again: time has passed. Must answer, now or later. */
	void (*go)(struct held *h);
	/* Let go of what is in the state. The memory itself is held_new()'s. */
	void (*free)(struct held *h);
};

struct held {
	const struct held_ops *ops;
	struct face *face;
	sd_bus_message *m;
	const char *path; /* of @m: the object called */
	struct peer *peer; /* NULL: not tracked */
	struct timer timer; /* the handler's own; cleared with the state */
	bool asked;	    /* waits for the policy's answer */
	struct held *prev, *next;	    /* of the face */
	struct held *peer_prev, *peer_next; /* of the peer */
};

/* Allocates @size bytes, zeroed but for the head. NULL: no memory. */
void *held_new(struct face *f, sd_bus_message *m, const struct held_ops *ops, size_t size);
/* Each answers and frees. */
void held_reply(struct held *h, sd_bus_message *reply); /* takes the reference */
void held_fail(struct held *h, const struct failure *f);
void held_failf(struct held *h, enum vireo_error error, const char *format, ...) _printf_(3, 4);
void held_errno(struct held *h, int r); /* negative errno */
/* Answer with what @r and @f say: a positive vireo_error, or a negative errno. For a handler's beginning. */
int held_refuse(struct held *h, int r, struct failure *f);
void held_free(struct held *h); /* without an answer */
/* A reply to the call of @h, to be filled. */
int held_begin(struct held *h, sd_bus_message **ret);

/* ---- policy (held.c; issue of polkit hooks in here) ---------------------------------------------------------- */

enum action {
	ACTION_VIEW,
	ACTION_READ_XML,
	ACTION_READ_SECURE,
	ACTION_CONTROL,	    /* start, stop … */
	ACTION_MANAGE,	    /* whatever takes XML, a host path or a URI */
	ACTION_STORAGE,
	ACTION_JOBS_CANCEL,
	ACTION_CONNECTIONS,
	ACTION_MAX
};

/* What a caller wants to do, in the words of the policy. */
struct question {
	enum action action;
	const struct object *object; /* on which; NULL: the manager. Looked at before face_authorize() returns */
	bool change;		     /* the broker will want to know who it was */
};

/*
 * face_authorize() - may the caller of @h do this? then ops->go(h), else an answer that says no
 *
 * Today the bus's own policy has decided before the message came here; for a change it is found out, without
 * blocking, who calls. Takes @h in any case. Return: 1, for sd-bus.
 */
int face_authorize(struct held *h, const struct question *q);

/* ---- peers (peer.c) ----------------------------------------------------------------------------------------- */

/* Somebody on the bus whom we must not forget before he leaves it. Found by his unique name. */
struct peer {
	char *name;
	struct face *face;
	bool known; /* uid has been found out */
	uint32_t uid;
	sd_bus_slot *asking;
	struct held *held;
	unsigned n_held;
	unsigned n_watches;
	struct filter *subscription; /* NULL: none */
	UT_hash_handle hh;
};

/* 0 and the peer; it may turn out later to have left already. LIMITS_EXCEEDED when it has too many calls waiting. */
int peer_get(struct face *f, const char *name, struct peer **ret);
/* The peer, if it is known already. */
struct peer *peer_find(struct face *f, const char *name);
void peer_attach(struct peer *p, struct held *h);
void peer_detach(struct held *h);
/* All of them, with what they wait for. */
void peers_free(struct face *f);

/* ---- messages (append.c) ------------------------------------------------------------------------------------ */

/* The value alone, as its type says; and as "v". */
int append_value(sd_bus_message *m, const struct prop_def *d, const struct value *v);
int append_variant(sd_bus_message *m, const struct prop_def *d, const struct value *v);
/* a{sv}; @xml: with XML and XMLInactive, as far as they are there. */
int append_props(sd_bus_message *m, const struct props *p, const struct text *xml, const struct text *xml_inactive);
/* a{sv} of only those whose bit is set. */
int append_props_masked(sd_bus_message *m, const struct props *p, uint64_t mask);
/* a{sv} of an event's details. @broadcast: for everybody's ears: timestamp is in, private ones are out. */
int append_details(sd_bus_message *m, const struct event *e, bool broadcast);
/* Never less than what these add to a message. */
size_t props_bytes(const struct props *p, const struct text *xml, const struct text *xml_inactive);
size_t event_bytes(const struct event *e, bool xml);
/* Whether everybody may hear this detail. */
bool detail_is_public(const char *key, char type);

/* ---- errors (errors.c) -------------------------------------------------------------------------------------- */

/* For handlers: fills @e from a positive vireo_error with @f, or a negative errno. Return: what a handler returns. */
int face_error(sd_bus_error *e, int r, const struct failure *f);

/* ---- signals (signals.c, progress.c) ------------------------------------------------------------------------ */

struct progress_entry;

struct signals {
	bool open;	    /* we have our name: before, nobody can be listening to it */
	uint64_t told;	    /* every event up to this version was sent, or went before us */
	bool held;	    /* back: our write queue is over its bound */
	bool loud;	    /* and that was said */
	uint64_t held_since;
	struct timer drain, bookmark;
	struct progress_entry *progress;
};

/* Our name is on the bus: from now on there may be somebody who listens. */
void signals_open(struct face *f);
void signals_events(struct face *f, struct event *const *events, size_t n);
void signals_free(struct face *f);
void progress_changed(struct face *f, struct object *job, unsigned changed);
/* A versioned event of the job told everything. */
void progress_forget(struct face *f, const char *path, bool gone);
void progress_free(struct face *f);
/* Sends a signal: to all, or, in private mode, to those whose subscription matches @e (NULL: to each of them). */
int signals_send(struct face *f, sd_bus_message *m, const struct event *e);

/* ---- GetEvents (events.c), Open (open.c) --------------------------------------------------------------------- */

/* A batch was told: wake those that wait. */
void events_wake(struct face *f, struct event *const *events, size_t n);
void open_wake(struct face *f, struct event *const *events, size_t n);
int method_get_events(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* May one follow from here? 0, or a positive vireo_error. */
int events_check_cursor(struct face *f, const char *epoch, uint64_t after, struct failure *failure);

/* ---- Watch (watch.c) ----------------------------------------------------------------------------------------- */

struct watch;
int method_watch(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* End the streams of this peer; of all with NULL. */
void watches_free(struct face *f, const struct peer *p);
int method_open(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* VIREO_INVALID_URI for a URI that only the configuration may contain. */
int open_check_uri(const char *uri, struct failure *f);

/* ---- the common way of a changing method (call.c), and reads ------------------------------------------------- */

/* Every method of operation_table[] that makes a job. Here as in all vtables userdata is the face. */
int method_change(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* What it takes besides if-version and async (call-options.c). */
struct change_spec {
	enum action action;
	const struct option_def *options; /* NULL: none */
	bool path;			  /* the first argument is an absolute path */
	bool size;			  /* the number is bytes, a multiple of 1024 */
};
extern const struct change_spec change_specs[OP_MAX];
/* GetXML, ListVolumes. */
int method_get_xml(sd_bus_message *m, void *userdata, sd_bus_error *error);
int method_list_volumes(sd_bus_message *m, void *userdata, sd_bus_error *error);
int method_sync(sd_bus_message *m, void *userdata, sd_bus_error *error);
int method_resync(sd_bus_message *m, void *userdata, sd_bus_error *error);
int method_digest(sd_bus_message *m, void *userdata, sd_bus_error *error);
int method_get_snapshot(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* GetManagedObjects, before sd-bus answers it (snapshot.c). */
int filter_managed_objects(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* ---- vtables ------------------------------------------------------------------------------------------------- */

extern const sd_bus_vtable manager_vtable[], connection_vtable[], domain_vtable[], pool_vtable[], network_vtable[],
	job_vtable[], log_control_vtable[];
/* Any property of an object; its index is found by name. */
int property_of_object(sd_bus *bus, const char *path, const char *interface, const char *property,
		       sd_bus_message *reply, void *userdata, sd_bus_error *error);
/* Cursors at or above this can be followed. */
uint64_t face_oldest(struct face *f);
/* Paths of all connections, in the order of their labels: "ao". */
int append_connections(struct face *f, sd_bus_message *m);

#define PROPERTY(name, type) SD_BUS_PROPERTY(name, type, property_of_object, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
#define PROPERTY_CONST(name, type) SD_BUS_PROPERTY(name, type, property_of_object, 0, SD_BUS_VTABLE_PROPERTY_CONST)
#define EVENT_SIGNAL(name)                                                                                   \
	SD_BUS_SIGNAL_WITH_ARGS(name,                                                                        \
		SD_BUS_ARGS("t", version, "t", previous, "s", reason, "a{sv}", properties, "a{sv}", details), 0)
/* Methods that change something, by what they take besides options. */
#define CHANGE(name)                                                                                         \
	SD_BUS_METHOD_WITH_ARGS(name, SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job, "t", version), \
		method_change, SD_BUS_VTABLE_UNPRIVILEGED)
#define CHANGE_WITH(name, type, arg)                                                                         \
	SD_BUS_METHOD_WITH_ARGS(name, SD_BUS_ARGS(type, arg, "a{sv}", options),                             \
		SD_BUS_RESULT("o", job, "t", version), method_change, SD_BUS_VTABLE_UNPRIVILEGED)
#define CHANGE_WITH2(name, type, arg, type2, arg2)                                                           \
	SD_BUS_METHOD_WITH_ARGS(name, SD_BUS_ARGS(type, arg, type2, arg2, "a{sv}", options),                \
		SD_BUS_RESULT("o", job, "t", version), method_change, SD_BUS_VTABLE_UNPRIVILEGED)

/* ---- the face itself (bus.c) -------------------------------------------------------------------------------- */

struct face {
	struct broker *broker;
	sd_bus *bus;
	struct clock *clock;
	struct face_config config;
	struct broker_listener listener;
	sd_bus_slot *slots[20];
	unsigned n_slots;
	struct held *held;
	struct peer *peers;
	sd_bus_slot *leaving; /* the match that tells who left the bus; while there are peers */
	struct signals signals;
	struct streams *streams;
	struct watch *watches;
};
