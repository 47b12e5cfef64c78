/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <uthash.h>

#include "bus.h"
#include "filter.h"
#include "names.h"
#include "options.h"
#include "policy/authority.h"
#include "util/clock.h"
#include "util/log.h"

/*
 * Inside of introspection/: what its files know of each other.
 */

#define MESSAGE_BYTES_MAX ((size_t)24 << 20)	   /* P25: no message is larger */
#define CALL_WAIT_MAX (20 * USEC_PER_SEC)	   /* no answer waits longer */
#define HELD_PER_PEER_MAX 128u			   /* calls of one caller that wait at once */
/* A user may have so many times what one connection to the bus may have: others shall find some left. */
#define PER_USER 8u

struct face;
struct held;
struct peer;
struct right;
struct warrant;
struct name_entry;

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
	bool asked;	    /* waits until it is known who calls */
	struct warrant *warrant; /* is being decided about; NULL: not, or not any more */
	const struct peer *viewer; /* whose rights bound what the answer may show; NULL: all of it */
	size_t bytes;	    /* of its arguments, if they may be large */
	void (*work)(struct held *h); /* to be done in turn; NULL: none */
	uint64_t considered; /* by authorize_peer(), in this pass */
	struct held *prev, *next;	    /* of the face */
	struct held *peer_prev, *peer_next; /* of the peer */
	struct held *turn_prev, *turn_next; /* of face.turns, with @work */
};

/*
 * held_in_turn() - do work that takes long, such as a listing, without keeping the loop from others
 *
 * One piece of work at a time, of each caller in turn, and never more than half of the time: however many are asked for,
 * everything else is answered in between. For root and our own user at once. @work may free @h; it may ask for a turn again.
 */
void held_in_turn(struct held *h, void (*work)(struct held *h));
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

/* ---- policy (authorize.c) ------------------------------------------------------------------------------------ */

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

/* What a caller wants to do, in the words of the policy. What it points to is looked at before face_authorize() returns. */
struct question {
	enum action action;
	const struct object *object; /* on which; NULL: the manager */
	const struct object *other;  /* a second one that the same must be allowed on; NULL: none */
	/*
	 * A listing: ACTION_VIEW of each connection that the filter covers, and ACTION_READ_XML too if it is about XML. It
	 * belongs to the call's state. Once the call goes on, it lets through only what the caller may see.
	 */
	struct filter *covers;
	const char *label, *uri; /* of a connection that is not there yet */
	bool change;		     /* the broker will want to know who it was */
	bool gate;		     /* whatever the answers are, the call goes on once they are there */
};

/*
 * face_authorize() - may the caller of @h do this? then ops->go(h), else an answer that says no
 *
 * polkit is asked where that is who decides, and the call waits; it is refused if what it is about has meanwhile become
 * something else than polkit was asked about. Takes @h in any case. Return: 1, for sd-bus.
 */
int face_authorize(struct held *h, const struct question *q);
/* It is known now who this is, or what he may see: decide about his calls that wait for that. */
void authorize_peer(struct peer *p);
void warrant_free(struct warrant *w);
DEFINE_CLEANUP(struct warrant *, warrant_free)
const char *action_to_string(enum action action);
/* The details of a question to polkit; as policy/org.vireo1.policy describes them. */
enum detail { DETAIL_CONNECTION, DETAIL_DRIVER, DETAIL_KIND, DETAIL_UUID, DETAIL_NAME, DETAIL_OPERATION, DETAIL_URI, DETAIL_MAX };
struct details {
	char *v[DETAIL_MAX]; /* NULL: left out */
};
int details_of_connection(struct face *f, const char *path, const char *operation, struct details *d);
int details_ask(const struct details *d, struct peer *p, enum action action, bool interactive, authority_fn fn,
		void *userdata, struct authority_request **ret);
void details_clear(struct details *d);

/* ---- rights (rights.c) --------------------------------------------------------------------------------------- */

/*
 * What each caller may see, as far as it was asked. A right is to view one connection: asked of polkit once for each
 * caller and connection, good until polkit changes. What is not known is not seen. When a right turns out different from
 * what somebody's streams and polls were begun with, they end with AccessChanged.
 */

/* Root, the service's own user, and whoever there is without a bus. */
bool peer_is_privileged(const struct peer *p);
/* May he see this object, and its XML? @connection: path of the connection, or of something below it that a job works on. */
bool rights_sees(const struct peer *viewer, enum kind kind, const char *path, const char *connection, bool xml);
bool rights_sees_object(const struct peer *viewer, const struct object *o);
/*
 * Of an object that he sees now: this event, too? A list goes by names, and under the name that it had then he may not have
 * seen it. He has missed something then, as the next event's “previous” says.
 */
bool rights_sees_event(const struct peer *viewer, const struct event *e);
/* Does a list of the configuration show him anything? */
bool rights_has_list(const struct peer *viewer);
/*
 * What polkit says of ACTION_VIEW or ACTION_READ_XML on a connection ("": on none in particular): an authority_answer;
 * AUTHORITY_ANSWER_MAX while that is being asked, and authorize_peer() follows; negative errno when it can't be.
 * @since: face.pass when the caller came. Permission to read all XML is good for one call, and for the stream that it began.
 */
int rights_ask(struct peer *p, enum action action, const char *connection, bool interactive, uint64_t since);
/* Events are about to be told: a name that changes may change who sees what. */
void rights_events(struct face *f, struct event *const *events, size_t n);
/* Does what he may see differ from what it was at this version? Then @h is answered by AccessChanged. */
bool rights_moved(struct held *h, uint64_t after);
/* He has listed: from here on he is told when his rights change. */
void rights_listed(struct held *h);
/* polkit has changed. */
void rights_changed(void *userdata);
void rights_free(struct peer *p);
/* Follow who belongs to which group: rules ask for that, and polkit does not notice. */
void rights_watch_groups(struct face *f);
void names_free(struct face *f);
/* Is something of his to be told when his rights change? */
bool peer_follows(const struct peer *p);
/* Waiting calls of GetEvents, and streams, end with AccessChanged. */
void events_access_changed(struct peer *p);
void watches_access_changed(struct peer *p);
/* A subscriber sees more, or less, of this connection (or object below it): InterfacesAdded or InterfacesRemoved. */
void signals_sight_changed(struct peer *p, const char *path, bool seen);

/* ---- the gate (gate.c) --------------------------------------------------------------------------------------- */

/* Before sd-bus answers anything: who calls, and what may he see? */
int filter_gate(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* ---- peers (peer.c) ----------------------------------------------------------------------------------------- */

/* Somebody on the bus whom we must not forget before he leaves it. Found by his unique name. */
struct peer {
	char *name;
	struct face *face;
	bool known; /* uid has been found out */
	uint32_t uid;
	sd_bus_slot *asking;
	struct held *held;
	uint32_t *gids;
	size_t n_gids;
	unsigned n_held;
	unsigned n_watches;
	unsigned n_polls;	     /* of those */
	uint64_t turn;		     /* face.turn when it was his last */
	struct filter *subscription; /* NULL: none */
	char *connections;	     /* paths that a subscriber was told of last (signals.c); NULL: none yet */
	struct right *rights;
	uint64_t changed;	     /* the version at which his rights changed last; 0: never */
	bool listed;		     /* since then */
	UT_hash_handle hh;
};

/* 0 and the peer; it may turn out later to have left already. LIMITS_EXCEEDED when it has too many calls waiting. */
int peer_get(struct face *f, const char *name, struct peer **ret);
/* The peer, if it is known already. */
struct peer *peer_find(struct face *f, const char *name);
/* What all connections to the bus that this user has count together. */
unsigned peer_user_sum(const struct peer *of, unsigned (*count)(const struct peer *p));
void peer_attach(struct peer *p, struct held *h);
void peer_detach(struct held *h);
/* The bus itself says it. Matches do not suffice: anybody may send us a signal that looks the same. */
bool is_from_bus(sd_bus_message *m);
/* All of them, with what they wait for. */
void peers_free(struct face *f);

/* ---- messages (append.c) ------------------------------------------------------------------------------------ */

/* The value alone, as its type says; and as "v". */
int append_value(sd_bus_message *m, const struct prop_def *d, const struct value *v);
int append_variant(sd_bus_message *m, const struct prop_def *d, const struct value *v);
/* a{sv}; @xml: with XML and XMLInactive, as far as they are there. */
int append_props(sd_bus_message *m, const struct props *p, const struct text *xml, const struct text *xml_inactive);
/* "oa{sa{sv}}": the path, and what stands there as ObjectManager says it: the one interface with all properties. */
int append_interfaces(sd_bus_message *m, const char *path, const char *interface, const struct props *p);
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
	uint64_t held_since; /* monotonic µs */
	uint64_t moved_at;   /* monotonic µs: when the queue was last seen to change */
	uint64_t queued;     /* while held: messages in our queue when looked at last */
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
/* A subscription has begun: what he sees now needs no telling. */
void signals_subscribed(struct peer *p);
/* Sends a signal: to all, or, in private mode, to those whose subscription matches @e, or @o, or to each of them. */
int signals_send(struct face *f, sd_bus_message *m, const struct event *e, const struct object *o);

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
/* Paths of all connections that @viewer sees, in the order of their labels: "ao". */
int append_connections(struct face *f, const struct peer *viewer, sd_bus_message *m);

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
	struct authority *authority; /* NULL: polkit is not asked */
	uint64_t called;	     /* when the last call came */
	const struct peer *viewer;   /* of the message that is being dispatched (gate.c) */
	struct name_entry *names;    /* of objects that have gone (rights.c) */
	uint64_t names_from;	     /* the version from which on they are complete */
	size_t n_names;
	struct timer rights_timer, groups_timer;
	struct held *turns; /* held.c */
	struct timer turns_timer;
	uint64_t turn, rest_until; /* monotonic µs */
	sd_event_source *groups; /* tells that /etc/group was changed */
	uint64_t pass;		     /* of authorize_peer() */
	sd_bus_slot *leaving; /* the match that tells who left the bus; while there are peers */
	struct signals signals;
	struct streams *streams;
	struct watch *watches;
};
