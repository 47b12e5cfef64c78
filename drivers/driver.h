/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <systemd/sd-id128.h>

#include "util/error.h"
#include "util/macros.h"
#include "util/queue.h"
#include "util/vdict.h"

/*
 * The contract of a backend ("driver"): what it is asked, what it answers, on which thread, and who owns what.
 *
 * A driver turns one hypervisor, reached by a URI, into reports. It knows no versions, no clients, no D-Bus, and
 * it doesn't put anything in order: it says what was reported to it (a cause), what it saw when it looked (a look),
 * and whether anything was still on its way (settled). Making a legal story of that is the broker's part
 * (broker/lifecycle.h).
 *
 * Threads. Every callback of struct driver is called on the main loop's thread and must not block: a driver whose
 * hypervisor's library blocks runs it on workers (util/workers.h). driver_host_post() may be called from any thread.
 *
 * Life of a connection:
 *
 *     open() ──► (in the background) ──► post HELLO ──► events, list(), look(), operate() … ──► post GOODBYE
 *        │                                                                                         │
 *        └─ error: the URI is wrong                                            close() by the broker, always
 *
 * A driver connection lives once: after GOODBYE (it could not be opened, or was lost) the broker closes it and
 * opens another when it is time. After close() nothing that the driver posts is seen any more.
 */

#define DRIVER_API 1

struct driver_connection; /* the driver's own */
struct driver_host;

/* ---- words ------------------------------------------------------------------------------------------------ */

enum kind { KIND_CONNECTION, KIND_DOMAIN, KIND_POOL, KIND_NETWORK, KIND_JOB, KIND_MAX };

/* "connection" "domain" "pool" "network" "job"; as in the options of GetSnapshot. */
const char *kind_to_string(enum kind kind);
int kind_from_string(const char *s); /* -EINVAL */

/* Contract's words, in the order of virDomainState. */
enum domain_state {
	DOMAIN_NOSTATE,
	DOMAIN_RUNNING,
	DOMAIN_BLOCKED,
	DOMAIN_PAUSED,
	DOMAIN_SHUTDOWN,
	DOMAIN_SHUTOFF,
	DOMAIN_CRASHED,
	DOMAIN_PMSUSPENDED,
	DOMAIN_STATE_MAX
};
const char *domain_state_to_string(enum domain_state state);
int domain_state_from_string(const char *s);

/* What a report speaks of. Pools and networks use DEFINED, UNDEFINED, STARTED, STOPPED and OTHER. */
enum cause {
	CAUSE_NONE, /* nothing was reported: a look only */
	CAUSE_DEFINED,
	CAUSE_UNDEFINED,
	CAUSE_STARTED,
	CAUSE_SUSPENDED,
	CAUSE_RESUMED,
	CAUSE_PMSUSPENDED,
	CAUSE_CRASHED,
	CAUSE_SHUTDOWN,
	CAUSE_STOPPED,
	CAUSE_OTHER, /* an event of its own, named in observation.event */
	CAUSE_MAX
};
const char *cause_to_string(enum cause cause); /* "Defined" … as the events are called; "" for NONE and OTHER */

enum look {
	LOOK_NONE,   /* not looked (another observation behind this one has the look) */
	LOOK_SEEN,   /* observation.seen says what it looked like */
	LOOK_GONE,   /* the hypervisor says that there is no such object */
	LOOK_FAILED, /* nobody knows: any other failure, or it took too long. Never reason to remove anything */
};

/*
 * What an object looked like. Owned strings. Strings that could not be read are NULL and numbers have their bit
 * in @unknown: the broker then keeps what it knew.
 */
#define SEEN_AUTOSTART (1u << 0)
#define SEEN_MANAGED_SAVE (1u << 1)
#define SEEN_MEMORY (1u << 2) /* max_memory, memory, vcpus */
#define SEEN_SIZES (1u << 3)  /* capacity, allocation, available */
#define SEEN_XML (1u << 4)    /* xml and xml_inactive */

struct seen {
	unsigned unknown; /* SEEN_… */
	char *name;	  /* never NULL */
	bool active, persistent, autostart;
	char *state_reason; /* domain: the word of `virsh domstate --reason`, "unknown" if there is none */

	/* domain */
	int id;	       /* the run's number, > 0 while active (0 where the hypervisor has none); -1 inactive */
	bool starting; /* active on its way to be started: does not exist yet, as far as clients are told */
	enum domain_state state;
	char *title, *description, *os_type; /* "" when there is none */
	bool managed_save;
	uint64_t max_memory, memory; /* bytes */
	unsigned vcpus;

	/* pool: "inactive" "building" "running" "degraded" "inaccessible"; network: "inactive" "running". NULL: by active */
	char *state_name;
	char *type; /* pool; network: its forward mode, "isolated" where it has none */
	uint64_t capacity, allocation, available; /* pool, bytes */
	char *bridge; /* network; "" if none */

	char *xml;	    /* as it is now, without secrets */
	char *xml_inactive; /* the persistent configuration when it differs from xml; else NULL */
};

/*
 * A report about one object. For one object reports are posted in the order in which the driver received their
 * causes; different objects are independent of each other.
 */
struct observation {
	enum kind kind; /* DOMAIN, POOL, NETWORK */
	sd_id128_t uuid;
	char *name;   /* as the report had it; NULL when unknown */
	enum cause cause;
	char *reason; /* detail of the cause as libvirt names it ("booted", "from-snapshot"); NULL: none */
	int run;      /* domain ID that the report itself carried; <= 0 when it carried none */

	char *event;		/* CAUSE_OTHER: name of the event, of driver.events */
	struct vdict *details;	/* what the event brings; NULL: nothing */

	enum look look;
	/*
	 * No report about this object was on its way any more when the look was taken: every cause that explains
	 * what was seen has been posted before. Only a settled look may make a transition of its own.
	 */
	bool settled;
	struct seen *seen; /* SEEN only */
	char *error;	   /* FAILED: why; for the log */
	uint64_t listing;  /* serial of the list() that this answers; 0: none */
};

/* ---- operations ------------------------------------------------------------------------------------------- */

/*
 * What can be asked of a hypervisor. Name on the bus (Job.Operation, and what Connection.SupportedOperations says
 * as "Domain.Start") comes from operation_table[].
 */
enum operation {
	OP_NONE,
	/* of a connection; text: XML (or file) */
	OP_DEFINE_DOMAIN,
	OP_CREATE_DOMAIN,
	OP_RESTORE_DOMAIN,
	OP_DEFINE_POOL,
	OP_CREATE_POOL,
	OP_DEFINE_NETWORK,
	OP_CREATE_NETWORK,
	/* of a domain */
	OP_DOMAIN_START,
	OP_DOMAIN_SHUTDOWN,
	OP_DOMAIN_REBOOT,
	OP_DOMAIN_RESET,
	OP_DOMAIN_DESTROY,
	OP_DOMAIN_SUSPEND,
	OP_DOMAIN_RESUME,
	OP_DOMAIN_PMWAKEUP,
	OP_DOMAIN_SAVE,
	OP_DOMAIN_MANAGED_SAVE,
	OP_DOMAIN_MANAGED_SAVE_REMOVE,
	OP_DOMAIN_DUMP,
	OP_DOMAIN_UNDEFINE,
	OP_DOMAIN_MIGRATE,
	OP_DOMAIN_BLOCK_PULL,
	OP_DOMAIN_BLOCK_COMMIT,
	OP_DOMAIN_BLOCK_COPY,
	OP_DOMAIN_SET_MEMORY,
	OP_DOMAIN_SET_VCPUS,
	OP_DOMAIN_SET_AUTOSTART,
	OP_DOMAIN_RENAME,
	OP_DOMAIN_ATTACH_DEVICE,
	OP_DOMAIN_DETACH_DEVICE,
	OP_DOMAIN_UPDATE_DEVICE,
	OP_DOMAIN_GET_XML, /* a read that must ask: with secrets. result.text */
	/* of a pool */
	OP_POOL_START,
	OP_POOL_STOP,
	OP_POOL_BUILD,
	OP_POOL_REFRESH,
	OP_POOL_DELETE,
	OP_POOL_UNDEFINE,
	OP_POOL_SET_AUTOSTART,
	OP_POOL_GET_XML,
	OP_POOL_LIST_VOLUMES, /* result.volumes */
	OP_POOL_CREATE_VOLUME,
	OP_POOL_CLONE_VOLUME,
	OP_POOL_RESIZE_VOLUME,
	OP_POOL_WIPE_VOLUME,
	OP_POOL_DELETE_VOLUME,
	OP_POOL_UPLOAD_VOLUME,
	OP_POOL_DOWNLOAD_VOLUME,
	/* of a network */
	OP_NETWORK_START,
	OP_NETWORK_STOP,
	OP_NETWORK_UNDEFINE,
	OP_NETWORK_SET_AUTOSTART,
	OP_NETWORK_GET_XML,
	OP_MAX,
	/* What only others can begin: for their jobs' names. */
	OP_FOREIGN_BACKUP = OP_MAX,
	OP_ALL
};

struct operation_def {
	enum kind kind;	       /* of the object it is called on */
	const char *interface; /* "Domain" */
	const char *method;    /* "Start" */
	const char *name;      /* "start": Job.Operation */
	bool read;	       /* changes nothing: no job, never Busy */
	bool request;	       /* asks the guest: done when accepted, unless wait */
	bool overrides;	       /* allowed beside a running job (Destroy) */
};
extern const struct operation_def operation_table[OP_ALL];

/*
 * One operation asked for. Filled by the broker, owned by the driver from operate() on; give it back to
 * request_free(). @options are those of the method in doc/contract.md, checked for names and types.
 */
struct request {
	uint64_t token; /* names it in RESULT and PROGRESS, and for cancel() */
	enum operation operation;
	enum kind kind;
	sd_id128_t uuid;  /* of the object; null for an operation of the connection */
	char *name;	  /* the object's name as the broker knows it: for messages only */
	char *text;	  /* XML, new name, file, destination, disk … : the method's first string */
	char *text2;	  /* the second */
	uint64_t number;  /* memory in bytes, vCPUs, size in bytes */
	bool flag;	  /* autostart */
	int fd;		  /* upload, download: owned; -1 if none */
	struct vdict *options;
};
void request_free(struct request *r);
DEFINE_CLEANUP(struct request *, request_free)

struct volume {
	char *name, *path, *type, *format;
	uint64_t capacity, allocation; /* bytes */
};

/* How an operation ended. Everything it caused at the object has been posted before (observations, settled). */
struct result {
	uint64_t token;
	struct failure failure; /* .error VIREO_OK: it worked. VIREO_CANCELLED: it was cancelled */
	sd_id128_t uuid;	/* object that was defined or created; null else */
	enum kind kind;
	char *text;		/* XML, or a volume's name */
	struct volume *volumes; /* n_volumes, owned */
	size_t n_volumes;
};

/* How far an operation is. Unknown: USEC_UNKNOWN for remaining; total 0: unbounded. */
struct progress {
	uint64_t token;
	uint64_t done, total;	    /* bytes */
	uint64_t remaining;	    /* µs, or USEC_UNKNOWN */
	double percent;		    /* 0…100; negative: from done and total */
	bool ready;		    /* a block copy that can be completed */
	bool cancellable;
};

/*
 * A long operation that somebody else began (virsh, virt-manager), or that was found running. Between its beginning and its
 * end PROGRESS tells how far it is, with the same token; cancel() and complete() take that too. What the driver has begun
 * itself is never reported like this.
 */
#define FOREIGN_TOKEN (UINT64_C(1) << 63) /* or'ed to a number of the driver's own: never one of the broker's */

struct foreign {
	uint64_t token;
	bool ended;
	/* at the beginning */
	enum kind kind;
	sd_id128_t uuid; /* of the object it runs on */
	enum operation operation;
	char *subject; /* disk or volume; NULL: none */
	bool cancellable;
	/* at the end: VIREO_OK, VIREO_CANCELLED, VIREO_OUTCOME_UNKNOWN when it vanished without a word … */
	struct failure failure;
};

/* ---- reports ---------------------------------------------------------------------------------------------- */

/*
 * The connection is open, events are registered; listing may begin. Once; a second one only tells the version, where that is
 * learnt later.
 */
struct hello {
	char *hostname;
	char *version;	 /* of the hypervisor, "QEMU 7.2.0" */
	char *same_key;  /* equal for two connections that reach the same hypervisor ("qemu:" + host UUID); NULL: unknown */
	char **events;	   /* "Domain.Started" …, NULL-terminated; empty: it must be polled */
	char **operations; /* "Domain.Start" … */
	bool polled;	   /* list() is the only way to learn of some or all changes */
};

struct goodbye {
	char *error; /* why it could not be opened, or was lost: the hypervisor's own words */
};

/* A listing has ended; all its observations have been posted. */
struct listed {
	uint64_t serial;
	bool complete[KIND_MAX]; /* this kind was listed whole: what was not among it may be looked at, and if gone, removed */
	char *error;		 /* when something failed; NULL else */
};

enum report_type { REPORT_HELLO, REPORT_GOODBYE, REPORT_OBSERVATION, REPORT_LISTED, REPORT_PROGRESS, REPORT_RESULT,
	REPORT_FOREIGN };

struct report {
	struct queue_item item; /* first */
	struct driver_host *host; /* set by driver_host_post(): a reference */
	enum report_type type;
	union {
		struct hello hello;
		struct goodbye goodbye;
		struct observation observation;
		struct listed listed;
		struct progress progress;
		struct result result;
		struct foreign foreign;
	};
};

struct report *report_new(enum report_type type); /* zeroed; NULL: no memory */
void report_free(struct report *r);
DEFINE_CLEANUP(struct report *, report_free)
struct seen *seen_new(void);
void seen_free(struct seen *s);
DEFINE_CLEANUP(struct seen *, seen_free)
struct seen *seen_copy(const struct seen *s);

/* ---- the host, for drivers -------------------------------------------------------------------------------- */

/*
 * The broker's end of a connection. Counted: a driver's thread that may outlive close() holds a reference.
 */
struct driver_host *driver_host_ref(struct driver_host *h);
void driver_host_unref(struct driver_host *h);
DEFINE_CLEANUP(struct driver_host *, driver_host_unref)

/*
 * driver_host_post() - tell the broker something
 * @r: from report_new(); taken in any case
 *
 * Any thread. May wait while the queue is over its limit, except on the main loop's thread; never after close().
 */
void driver_host_post(struct driver_host *h, struct report *r);

struct clock;
typedef struct sd_event sd_event;
sd_event *driver_host_event(struct driver_host *h);	/* main loop's thread only; borrowed */
struct clock *driver_host_clock(struct driver_host *h); /* main loop's thread only; borrowed */
/* Where the connection may keep files: NULL when the broker has none. Borrowed, constant. */
const char *driver_host_state_directory(struct driver_host *h);

/* ---- the table -------------------------------------------------------------------------------------------- */

enum claim {
	CLAIM_NOT_MINE,
	CLAIM_MINE,
	CLAIM_BROKEN, /* mine by its scheme, but it cannot be right; *ret_why says what */
};

/* An event beyond the lifecycle: the name of the signal, on which interface, and what its details hold. */
struct event_def {
	enum kind kind;
	const char *name;    /* "Rebooted" */
	const char *details; /* "path:s alias:s": for --list-drivers and the documentation */
	const char *source;  /* "VIR_DOMAIN_EVENT_ID_REBOOT": where it comes from */
};

struct driver {
	unsigned api; /* DRIVER_API it was written for */
	const char *name;
	const char *summary;
	const char *const *uris;	     /* examples, NULL-terminated */
	const struct event_def *events;	     /* ends with a NULL name */
	const enum operation *operations;    /* ends with OP_NONE: what it can ever do */
	bool every_operation;		     /* instead: it can do all there are */
	unsigned causes[KIND_MAX];	     /* bits 1u << CAUSE_…: what it can report */
	/*
	 * µs. Between an early Resumed (libvirt's, of an ordinary boot) and its Started a guest is seen to run although no report
	 * is on its way: it has not been made yet. So late may it come; what a look finds before is no proof. 0: none is early.
	 */
	uint64_t started_overdue;

	/* Required. */

	/* Is the URI this driver's? Looks at the text only: no I/O. @ret_why: owned by the caller, on BROKEN. */
	enum claim (*claim)(const char *uri, char **ret_why);

	/*
	 * Begin to connect. @host stays valid until close(); take a reference to keep it longer.
	 * Fails (a positive vireo_error or negative errno) only for what is wrong with the URI or this process;
	 * a hypervisor that cannot be reached is a GOODBYE.
	 */
	int (*open)(const char *uri, struct driver_host *host, struct driver_connection **ret, struct failure *f);

	/* Never blocks, whatever hangs. The connection is the driver's own to free, now or when its threads return. */
	void (*close)(struct driver_connection *c);

	/*
	 * Report every domain, pool and network (observations with @listing = @serial, CAUSE_NONE), then LISTED.
	 * A listing covers every change that had completed at the hypervisor before the call, and posts it behind
	 * the reports that those changes caused. Only after HELLO. Calls may overlap.
	 */
	void (*list)(struct driver_connection *c, uint64_t serial);

	/*
	 * Look at one object and report it, settled: SEEN, GONE or FAILED, always exactly one answer with
	 * CAUSE_NONE and @listing = @serial. When reports keep coming, look again (they are posted first);
	 * after a few tries, FAILED.
	 */
	void (*look)(struct driver_connection *c, enum kind kind, sd_id128_t uuid, uint64_t serial);

	/* Optional. NULL: every operation is NotSupported. */

	/*
	 * Carry out @r and post RESULT, once. Before RESULT, everything the operation caused at its object is posted:
	 * the reports, and a settled look.
	 */
	void (*operate)(struct driver_connection *c, struct request *r);

	/* Ask the operation of @token to end early; its RESULT tells how it ended. Must get through while others hang. */
	void (*cancel)(struct driver_connection *c, uint64_t token);

	/* A block copy that is ready: pivot to it. Its RESULT tells how it ended. */
	void (*complete)(struct driver_connection *c, uint64_t token);
};

/* ---- registry (drivers/registry.c) ------------------------------------------------------------------------- */

/* Can it ever do this? */
bool driver_can(const struct driver *d, enum operation operation);
/* -EINVAL and a log line when a required callback or the api is missing: the driver is then refused. */
int registry_add(const struct driver *d);
/* All drivers that were built in. */
void registry_add_builtin(void);
size_t registry_count(void);
const struct driver *registry_get(size_t i);
/*
 * registry_choose() - which driver takes this URI?
 * Return: 0 and the driver; VIREO_INVALID_URI with a message that says why: nobody's (naming the schemes
 * that there are), or somebody's but broken.
 */
int registry_choose(const char *uri, const struct driver **ret, struct failure *f);
/* What `vireod --list-drivers` prints. Owned by the caller. */
char *registry_describe(void);
