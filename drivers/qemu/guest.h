/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drivers/driver.h"
#include "chores.h"
#include "qmp.h"
#include "util/clock.h"

struct guest;
struct guest_job;
struct foreign_job;

/*
 * One running QEMU, followed through its monitor: events become causes, causes get a look, looks are exact.
 *
 * A look is a handful of queries, sent together, query-status last. QMP is ordered: when that last answer comes,
 * every event of before it has come too, so the look is settled by nature, and no barrier is needed.
 *
 * A cause waits for the look that it asked for, at most LOOK_PATIENCE; then it is posted without one.
 */

/* What both drivers give to everything below them. */
struct guest_env {
	struct driver_host *host; /* a reference */
	sd_event *event;	  /* a reference */
	struct clock *clock;	  /* borrowed */
	struct chores *chores;	  /* owned by whoever has the environment */
};

enum waited { WAITED_SEEN, WAITED_TIMEOUT, WAITED_DOWN };

/* @s: SEEN only; borrowed. */
typedef void (*guest_look_fn)(struct guest *g, enum waited how, const struct seen *s, void *userdata);

struct guest_ops {
	/* The monitor speaks. Nothing is posted before guest_announce(). */
	void (*up)(struct guest *g);
	/*
	 * The monitor has ended. Causes were posted, whoever waits for a look waits still: guest_answer() them when it
	 * is known what became of the guest. May free @g.
	 */
	void (*down)(struct guest *g, enum qmp_end why, const char *message);
	/* Complete a look: persistent, autostart, XML … */
	void (*seen)(struct guest *g, struct seen *s);
	/* It is about to be reset, or runs again behind that: in between it stands still by our doing. Optional. */
	void (*rebooting)(struct guest *g, bool on);
	/* The state or its word changed. Optional. */
	void (*changed)(struct guest *g);
	/* Its description, to be kept in a saved state. Owned by the caller. Optional. */
	char *(*xml)(struct guest *g);
	/* A disk is another file now. Optional. */
	void (*pivoted)(struct guest *g, const char *disk, const char *file);
	/* Every event, before anything is made of it. Optional. */
	void (*event)(struct guest *g, const char *name, struct json_object *data);
};

/* What the last look found, beyond struct seen: for the description. Owned. */
struct facts {
	bool valid;
	uint64_t max_memory, memory;
	unsigned vcpus;
	struct json_object *block; /* query-block */
	struct json_object *vnc, *spice, *chardev;
};

struct guest {
	const struct guest_env *env;
	const struct guest_ops *ops;
	void *owner;

	sd_id128_t uuid;
	char *name;
	int run; /* number of the run; 0: none */
	struct qmp *qmp;
	bool announced; /* reports are posted */
	bool hung;	/* did not answer in time, and has not since */
	bool more;	/* ask for what only a description needs */

	char status[32];	     /* query-status, "" before the first */
	const char *running_word;    /* static: word of `domstate --reason` while running */
	const char *end_reason;	     /* static: how a Stopped that came now would be called */
	const char *stop_reason;     /* static: of the STOP that is about to come; NULL: ask */
	bool reboot_asked;  /* when the guest switches itself off, it is started anew */
	const char *shutdown_action; /* static: what QEMU does by itself then; "poweroff" when NULL */
	bool rebooting;	    /* it has, and is being started anew: one Rebooted is all that is told */
	bool stop_absorbed;	     /* the STOP that is about to come belongs to another event */
	struct facts facts;

	/* By guest_identify(). */
	char machine[64], arch[32];
	bool kvm;
	unsigned identifying; /* answers outstanding */
	void (*on_identified)(struct guest *g);

	struct cause_item *causes;
	bool owed; /* causes went out without a look */
	struct probe *probe;	  /* under way */
	struct waiter *waiters;	  /* for the next one */
	bool want_probe;
	struct timer timer; /* causes are posted without a look then */
	struct guest_job *jobs;
	struct foreign_job *foreign; /* begun by others */
	struct timer foreign_timer;
	bool foreign_asked;
	bool foreign_too_many; /* and that was said */
	struct task *tasks; /* operations that wait for an answer */
};

struct guest *guest_new(const struct guest_env *env, const struct guest_ops *ops, void *owner);
void guest_free(struct guest *g);
/* Take a connected socket. 0, or a negative errno; @fd is taken in any case. */
int guest_connect(struct guest *g, int fd, uint64_t greeting);
/* Let the monitor go at once, without down(). */
void guest_disconnect(struct guest *g);
bool guest_is_up(const struct guest *g);
bool guest_is_active_paused(const struct guest *g);

/*
 * The first report: Started (@reason), or, when @reason is NULL, nothing: a listing tells it. Call it from a look's
 * function, with that look.
 */
void guest_announce(struct guest *g, const char *reason, const struct seen *s);

/* A look that begins after this call; @fn is called once. */
void guest_look(struct guest *g, guest_look_fn fn, void *userdata);
/* Answer everybody who waits. */
void guest_answer(struct guest *g, enum waited how, const struct seen *s);
/* Hand those who wait to another life of the same domain. */
bool guest_is_waited_for(const struct guest *g);

/* Something happened: to be posted in order. @details is taken. @reason and @event are static; @reason NULL with
 * SUSPENDED: by what the look finds. */
void guest_cause(struct guest *g, enum cause cause, const char *reason, const char *event, struct vdict *details,
		 bool look);
/* Post what waits, without a look. */
void guest_flush(struct guest *g);

/* events.c */
extern const struct event_def guest_events[], run_events[];
extern const unsigned guest_causes;
void guest_take_event(struct guest *g, const char *name, struct json_object *data);
enum domain_state guest_state(const char *status, const char *running_word, const char **ret_word);
/* "Domain.Started" …; owned, NULL-terminated. */
char **guest_event_names(const struct event_def *more, const unsigned causes[KIND_MAX]);
char **guest_operation_names(const enum operation *operations);

/* describe.c: a readable domain XML of what queries found. Owned; NULL: no memory. */
char *guest_describe(const struct guest *g);

/* identify.c: ask for uuid, name, machine, arch, kvm; null and "" where QEMU does not know. From up() on, once. */
void guest_identify(struct guest *g, void (*fn)(struct guest *g));

/* post.c */
struct observation *observation_new(struct report **ret, enum kind kind, sd_id128_t uuid, const char *name);
/* Takes the report; NULL (no memory) is logged. */
void env_post(const struct guest_env *env, struct report *r);
void env_post_look(const struct guest_env *env, enum kind kind, sd_id128_t uuid, const char *name, enum look look,
		   const struct seen *seen, const char *error, uint64_t listing);
void env_post_listed(const struct guest_env *env, uint64_t serial, bool domains, bool pools, const char *error);
void env_post_goodbye(const struct guest_env *env, const char *format, ...) _printf_(2, 3);
/* Ends the request: posts RESULT, frees @r. */
void env_post_result(const struct guest_env *env, struct request *r, enum vireo_error error, const char *format, ...)
	_printf_(4, 5);
/* With text, volumes, or the object that was made; @result's failure, strings and volumes are taken. */
void env_post_result_full(const struct guest_env *env, struct request *r, struct result *result);

/* Ask QEMU for the event MIGRATION: by itself it does not tell. */
void guest_want_migration_events(struct guest *g);

/* The guest has switched itself off, and QEMU waits: reset it and let it run. */
void guest_reboot_now(struct guest *g);

/* operate.c: what can be asked of any running guest. true: @r was taken. */
bool guest_operate(struct guest *g, struct request *r);
/* Without a word. */
void guest_tasks_free(struct guest *g);
