/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "drivers/driver.h"

/*
 * The property set of an object as it was at one version: immutable, counted, cheap to hold. What is in a set,
 * in which order and with which D-Bus type, is one table a kind; bus, history and streams all read that table.
 * Main loop's thread only.
 */

/* Indices into props.v, by kind; order is that of the tables in props.c and of doc/contract.md. */
enum connection_prop { CONNECTION_URI, CONNECTION_DRIVER, CONNECTION_STATE, CONNECTION_HOSTNAME,
	CONNECTION_HYPERVISOR_VERSION, CONNECTION_SUPPORTED_EVENTS, CONNECTION_SUPPORTED_OPERATIONS,
	CONNECTION_SAME_AS, CONNECTION_ERROR, CONNECTION_VERSION, CONNECTION_PROP_MAX };
enum domain_prop { DOMAIN_NAME, DOMAIN_UUID, DOMAIN_TITLE, DOMAIN_DESCRIPTION, DOMAIN_OS_TYPE, DOMAIN_ID,
	DOMAIN_CONNECTION, DOMAIN_STATE, DOMAIN_REASON, DOMAIN_ACTIVE, DOMAIN_PERSISTENT, DOMAIN_AUTOSTART,
	DOMAIN_HAS_MANAGED_SAVE, DOMAIN_MAX_MEMORY, DOMAIN_MEMORY, DOMAIN_VCPUS, DOMAIN_JOBS, DOMAIN_INCARNATION,
	DOMAIN_VERSION, DOMAIN_PROP_MAX };
enum pool_prop { POOL_NAME, POOL_UUID, POOL_TYPE, POOL_CONNECTION, POOL_STATE, POOL_ACTIVE, POOL_PERSISTENT,
	POOL_AUTOSTART, POOL_CAPACITY, POOL_ALLOCATION, POOL_AVAILABLE, POOL_JOBS, POOL_INCARNATION, POOL_VERSION,
	POOL_PROP_MAX };
enum network_prop { NETWORK_NAME, NETWORK_UUID, NETWORK_TYPE, NETWORK_CONNECTION, NETWORK_STATE, NETWORK_ACTIVE,
	NETWORK_PERSISTENT, NETWORK_AUTOSTART, NETWORK_BRIDGE, NETWORK_JOBS, NETWORK_INCARNATION,
	NETWORK_VERSION, NETWORK_PROP_MAX };
enum job_prop { JOB_OBJECT, JOB_OPERATION, JOB_TYPE, JOB_STATE, JOB_RUNNING_TIME, JOB_REMAINING_TIME, JOB_PERCENT,
	JOB_BYTES_TOTAL, JOB_BYTES_DONE, JOB_READY, JOB_CANCELLABLE, JOB_CANCEL_REQUESTED, JOB_STARTED_BY, JOB_ERROR,
	JOB_VERSION, JOB_PROP_MAX };

struct value {
	union {
		char *s;      /* "s" "o": the set's, never NULL */
		char **as;    /* "as" "ao" "(ss)": the set's, NULL-terminated, never NULL; "(ss)" has two */
		bool b;
		int32_t i;
		uint32_t u;
		uint64_t t;
		double d;
	};
};

struct prop_def {
	const char *name;
	const char *type;     /* D-Bus signature: s o b i u t d as ao (ss) */
	bool progress;	      /* of a job: not versioned, may be coalesced */
	bool unknown_null;    /* 18446744073709551615 is "unknown": null in JSON */
};

struct props {
	unsigned refs;
	enum kind kind;
	size_t size; /* of the block, with what lies behind the values */
	struct value v[];
};

const struct prop_def *props_schema(enum kind kind, size_t *ret_n);
/* Short interface name of a kind: "Domain". With "org.vireo1." in front it is the interface. */
const char *kind_interface(enum kind kind);

/* Empty strings, false, 0. Mutable until it is shown to anybody. */
struct props *props_new(enum kind kind);
struct props *props_copy(const struct props *p); /* deep; mutable */
struct props *props_ref(struct props *p);
void props_unref(struct props *p);
DEFINE_CLEANUP(struct props *, props_unref)
/* Small again, once a mutable set is complete: taken, and given back or replaced. Never fails. */
struct props *props_pack(struct props *p);

/* On a mutable set. Strings are made valid UTF-8. 0, or -ENOMEM. */
int props_set_s(struct props *p, unsigned i, const char *s);
int props_set_as(struct props *p, unsigned i, const char *const *as);

bool props_value_equal(const struct props *a, const struct props *b, unsigned i);
/* Equal but for Version. */
bool props_equal(const struct props *a, const struct props *b);

struct writer;
/* A JSON object with the properties by name, in the table's order. */
void props_write(struct writer *w, const struct props *p);
/*
 * props_read() - a set from JSON text
 *
 * Fast where it is what props_write() writes, and right all the same where it is not: -EINVAL when it is no JSON, else as
 * props_from_json().
 */
int props_read(enum kind kind, const char *text, size_t size, struct props **ret);
/* -EINVAL when a member is missing or of another type. Unknown members are left out. */
int props_from_json(enum kind kind, struct json_object *o, struct props **ret);
