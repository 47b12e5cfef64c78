/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <systemd/sd-bus.h>

#include "util/macros.h"

/*
 * vireoctl. It knows the bus contract and nothing of the broker's inside.
 *
 * Unless it says otherwise, a function here that returns int returns an exit status: 0, or one of these, and has then
 * said on standard error what was wrong and what can be done.
 */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,	/* the operation failed, or the answer is "no" */
	EXIT_USAGE = 2,		/* not understood: the command line, a file, an argument */
	EXIT_NOT_FOUND = 3,	/* no such object */
	EXIT_AMBIGUOUS = 4,	/* several objects of that name */
	EXIT_DENIED = 5,	/* not allowed */
	EXIT_STATE = 6,		/* its state does not allow it: wrong state, busy, another version, exists already */
	EXIT_NO_BROKER = 7,	/* no bus, or nobody serves org.vireo1 on it */
	EXIT_DISCONNECTED = 8,	/* the hypervisor is not reached, or did not answer in time, or nobody knows how it ended */
	EXIT_HISTORY = 9,	/* what was asked for is not in history, or of another epoch */
	EXIT_NOT_SUPPORTED = 10, /* the hypervisor or its driver cannot do that */
	EXIT_CANCELLED = 11,	/* the job was cancelled */
	EXIT_LEFT_RUNNING = 130, /* interrupted; the job goes on */
};

enum kind { KIND_CONNECTION, KIND_DOMAIN, KIND_POOL, KIND_NETWORK, KIND_JOB, KIND_MAX };
#define KINDS(kind) (1u << (kind))
#define KINDS_ALL ((1u << KIND_MAX) - 1)

enum json_mode { JSON_OFF, JSON_SHORT, JSON_PRETTY };
enum bus_choice { BUS_UNSET, BUS_SYSTEM, BUS_SESSION, BUS_ADDRESS };

struct verb;
struct verb_option;

struct given {
	const struct verb_option *option;
	const char *value;
};

struct ctl {
	enum bus_choice bus_choice;
	const char *address;
	sd_bus *bus;

	enum json_mode json;
	bool no_pager, no_legend, full, quiet;
	bool colour, utf8; /* of standard output */
	unsigned columns;
	const char *connection; /* label; NULL: all */
	pid_t pager;

	struct given given[64];
	size_t n_given;
};

/*
 * An option of a verb. type: 'b' flag, 's' string, 'n' number, 't' size in bytes, 'u' 32-bit number, 'l' list of
 * words, 'x' a file with XML, 'p' a storage pool, 'k' a number that may be 0.
 */
struct verb_option {
	const char *name;
	char type;
	const char *key;      /* of the method's options; NULL: the verb itself looks at it */
	const char *argument; /* what the usage calls its value */
	const char *help;
};

/* What a changing verb calls. See operate.c. */
struct operation {
	enum kind kind;	     /* of the object that has the method; KIND_CONNECTION: the only or the named connection */
	const char *member;
	const char *reply;   /* what it answers: "ot" job, version; "oot" object, job, version; "Ot" object, version; … */
	const char *done;    /* "started": said when it has ended */
	const char *fixed;   /* an option that is always set, NULL */
};

/*
 * A verb. spec: one letter for each argument: N domain, P pool, W network, C connection, J job or what it works on,
 * V volume of the pool before it, O any object, f file here, h file at the hypervisor, x file with XML, s text,
 * t size, m size of memory, n number, e event, g anything that completes to nothing. After it ? optional, + one or more, * any number.
 */
struct verb {
	const char *group; /* NULL, "pool", "vol", "net" */
	const char *name;
	const char *spec;
	const char *arguments;
	const char *summary;
	const struct verb_option *options;
	int (*run)(struct ctl *c, const struct verb *v, char **args, int n);
	const struct operation *operation;
};

extern const struct verb verbs_read[], verbs_change[];
extern const struct verb_option common_options[];

const char *given_value(const struct ctl *c, const char *option); /* the last one; NULL: not given; a flag: "" */
static inline bool is_given(const struct ctl *c, const char *option)
{
	return given_value(c, option) != NULL;
}

/* main.c */
const struct verb *verb_find(const char *group, const char *name);
bool verb_is_group(const char *name);
int usage_error(const char *format, ...) _printf_(1, 2);
int out_of_memory(void);
void complain(const char *format, ...) _printf_(1, 2);
int verb_help(struct ctl *c, const struct verb *v, char **args, int n);
void verb_usage(const struct verb *v);
extern const struct option_info {
	const char *name;
	bool value;
} global_option_names[];

/* complete.c */
int verb_complete(struct ctl *c, const struct verb *v, char **args, int n);

static inline void json_putp(json_object **o)
{
	if (*o)
		json_object_put(*o);
}
