/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>

#include "faults.h"
#include "truth.h"

/*
 * A world: one simulated hypervisor. It goes on existing when nobody is connected, as a real one does, for a while.
 *
 * Threads. The world's own runs the scripts. Each session has one that delivers: it alone posts, in order, so that
 * it knows exactly what is still on its way. One lock protects the truth, the faults and what the sessions have
 * still to deliver. The driver's callbacks on the main loop never take it: they leave a note in the session's inbox.
 */
struct sim_script;
struct sim_job;
struct sim_server;
struct sim_session;

/* How long a world without sessions stays. */
#define SIM_LINGER (60 * USEC_PER_SEC)

/* How an operation behaves, when not plainly at once. */
struct sim_rule {
	bool set;		     /* there is one; else all below is as the operation has it */
	uint64_t duration, interval; /* µs */
	bool has_total;
	uint64_t total; /* bytes; 0: unbounded */
	bool cancellable;
	bool missing; /* not supported */
	double fail;  /* chance */
	double fail_at; /* after this share of the time */
	enum vireo_error error;
	char *message;
};

/* Objects of one shape, made by the world's thread. */
struct sim_crowd {
	enum kind kind;
	size_t count;
	char *pattern;	/* "vm-%": % is the number */
	double active;	/* share */
	size_t padding; /* of the XML */
};

struct sim_world {
	char *key;
	struct sim_world *next; /* registry */
	unsigned users;		/* sessions and other holders; registry's lock */
	uint64_t unused_since;	/* registry's lock */
	bool forget;		/* registry's lock: end as soon as it is unused */

	pthread_mutex_t lock;
	pthread_cond_t wake;  /* the world's thread: something to do, or room */
	bool poked;
	pthread_cond_t ready; /* populated */
	bool is_ready;
	char *hostname, *version;
	struct sim_truth truth;
	struct sim_faults faults;
	struct sim_rule rules[OP_MAX];
	uint64_t random;
	int64_t refuse; /* so many connections are refused; negative: all */
	struct sim_crowd *crowds;
	size_t n_crowds;
	struct sim_script *scripts;
	struct sim_job *jobs;
	uint64_t last_job;
	unsigned threads; /* of jobs: the world has to outlive them */
	bool ending;	  /* with the process: jobs are not waited for */
	struct sim_session *sessions;
	struct sim_server *server; /* control socket; NULL: none */
	uint64_t events;	   /* made so far, for status */
	uint64_t storage;	   /* bytes that all volumes together may really hold: they are in memory */
	uint64_t guest_delay;	   /* µs from a request to the guest until it follows */

	/* the action under way */
	bool silent;
	const struct sim_object *before_of; /* compared only */
	struct seen *before;
};

uint64_t sim_now(void); /* monotonic µs */
/* Waits on @c until @until; USEC_UNKNOWN: for ever. */
void sim_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until);
void sim_cond_init(pthread_cond_t *c);
/* A detached thread with all signals blocked. It must end with sim_thread_ended(). */
int sim_thread(void *(*fn)(void *), void *data);
void sim_thread_ended(void);

/* An empty world, not started. */
struct sim_world *sim_world_new(const char *key);
void sim_world_free(struct sim_world *w); /* never started */
/* Looks in the registry; takes a hold. NULL: no such world. */
struct sim_world *sim_world_find(const char *key);
/* Enters the registry and runs; with a hold. Takes @w, also when it fails. */
int sim_world_start(struct sim_world *w);
void sim_world_release(struct sim_world *w);
/* Locked. Something has changed that the world's thread waits for. */
void sim_world_poke(struct sim_world *w);

/* ---- actions (act.c, act-domain.c); locked --------------------------------------------------------------------- */

struct sim_args {
	const char *text;   /* a name, XML, a reason … */
	const char *event;  /* its name */
	struct vdict *details;
	bool flag, on, paused, force; /* on: autostart; flag: as the action has it */
	uint64_t number;
	enum cause cause;
	const struct vdict *options; /* as on the bus; a step's keys; may be NULL */
};

typedef int (*sim_action)(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);

struct sim_verb {
	const char *word;
	enum kind kind;
	sim_action act;
	bool storm; /* a storm may choose it */
};
extern const struct sim_verb sim_domain_verbs[], sim_other_verbs[]; /* end with a NULL word */
const struct sim_verb *sim_verb_find(enum kind kind, const char *word);

/* What is done to @o in between comes, by the fault `behind`, with the look from before it. */
void sim_before(struct sim_world *w, const struct sim_object *o);
void sim_before_over(struct sim_world *w);
/* Runs an action: with the look from before it, for the fault `behind`. @o may be gone afterwards. */
int sim_act(struct sim_world *w, sim_action act, struct sim_object *o, const struct sim_args *a, struct failure *f);

/*
 * Define (persistent) or create (active) from XML; @ret_uuid is what it became. With @persistent and an object of that
 * UUID, this changes it.
 */
int sim_act_define(struct sim_world *w, enum kind kind, const char *xml, sd_id128_t *ret_uuid, struct failure *f);
int sim_act_create(struct sim_world *w, enum kind kind, const char *xml, const struct vdict *options, sd_id128_t *ret_uuid,
		   struct failure *f);
/* Enters a new object with what it was given, and tells. @config: taken. */
struct sim_object *sim_act_add(struct sim_world *w, enum kind kind, sd_id128_t uuid, const char *name,
			       struct sim_config *config, bool persistent);

/* Reports to every session. */
void sim_emit(struct sim_world *w, const struct sim_object *o, enum cause cause, const char *reason);
void sim_emit_event(struct sim_world *w, const struct sim_object *o, const char *event, const char *reason,
		    const struct vdict *details);
void sim_domain_give_up(struct sim_world *w, struct sim_object *o);
int sim_refuse_state(const struct sim_object *o, const char *what, struct failure *f);

int sim_start(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_destroy(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_undefine(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_rename(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_ask_shutdown(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_ask_reboot(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_reset(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_suspend(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_resume(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_pmwakeup(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_managed_save_remove(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_set_memory(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_set_vcpus(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_build(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_refresh(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_delete(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
/* devices.c */
int sim_attach(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_detach(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_update(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_unplug(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
int sim_overlay(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
/* Options live and config: what is to change, of what there is. */
int sim_affects(struct sim_object *o, const struct sim_args *a, bool *ret_live, bool *ret_config, struct failure *f);
int sim_autostart(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f);
/* A run begins: events, state, ID. @config: of the run, borrowed. */
void sim_domain_begin(struct sim_world *w, struct sim_object *o, struct sim_config *config, bool paused);
/* Likewise, where another one had stopped. */
void sim_domain_continue(struct sim_world *w, struct sim_object *o, struct sim_config *config, bool paused);
void sim_domain_end(struct sim_world *w, struct sim_object *o, const char *event_reason, const char *state_reason);

/* ---- operations (operate.c); locked ---------------------------------------------------------------------------- */

bool sim_can(enum operation operation);

/* ---- sessions (session.c) --------------------------------------------------------------------------------------- */

/* One report. Runs on the session's thread, may wait. */
typedef void (*sim_post_fn)(void *userdata, struct report *r);

/* A connection to @w, whose hold it takes over, also when it fails. @release frees @userdata, on any thread. */
int sim_session_new(struct sim_world *w, sim_post_fn post, void (*release)(void *), void *userdata,
		    struct sim_session **ret);
/* These never wait for anything. */
void sim_session_list(struct sim_session *s, uint64_t serial);
void sim_session_look(struct sim_session *s, enum kind kind, sd_id128_t uuid, uint64_t serial);
void sim_session_operate(struct sim_session *s, struct request *r);
void sim_session_cancel(struct sim_session *s, uint64_t token);
void sim_session_complete(struct sim_session *s, uint64_t token);
void sim_session_close(struct sim_session *s); /* the pointer is void then */

/* Of the world; locked. */
struct sim_event {
	enum kind kind;
	sd_id128_t uuid;
	const char *name, *reason, *event;
	enum cause cause;
	int run;
	const struct vdict *details;
	const struct seen *before; /* NULL with @has_before: it was not there */
	bool has_before;
};
void sim_sessions_emit(struct sim_world *w, const struct sim_event *e);
/* A report, taken; behind what was posted before. */
void sim_session_report(struct sim_session *s, struct report *r);
/* The end of something, taken: behind every event of the object, and a look at it. @uuid null: no look. */
void sim_session_end(struct sim_session *s, enum kind kind, sd_id128_t uuid, struct report *r);
/* Who hears of what others do: greeted, and not gone. */
bool sim_session_listens(const struct sim_session *s);
struct sim_session *sim_session_next(const struct sim_session *s);
bool sim_session_chance(struct sim_session *s, double probability);
void sim_sessions_disconnect(struct sim_world *w, const char *why);
void sim_sessions_release(struct sim_world *w); /* whatever hangs goes on */
size_t sim_sessions_backlog(struct sim_world *w); /* of the one that has most to deliver and could */
bool sim_sessions_idle(struct sim_world *w);	  /* all have said hello and delivered everything */
size_t sim_sessions_count(struct sim_world *w);

/* ---- scripts (script.c) ----------------------------------------------------------------------------------------- */

/* Checks steps before anything runs. @where: for messages ("FILE: $.steps"). */
int sim_steps_check(struct json_object *steps, const char *where, struct failure *f);
/* How a script ended; @answer: a query's, owned by the callee. World's thread, locked. */
typedef void (*sim_script_done)(void *userdata, const struct failure *f, struct json_object *answer);
/* Locked. Takes a reference to @steps, which were checked. @done may be NULL. */
void sim_script_add(struct sim_world *w, struct json_object *steps, sim_script_done done, void *userdata);
/* Locked, world's thread. Runs what is due. Return: when to come again; USEC_UNKNOWN: when poked. */
uint64_t sim_scripts_run(struct sim_world *w);
void sim_scripts_free(struct sim_world *w);
/* The guest of @o does as it was told in a while, if it is still that run. */
void sim_script_later(struct sim_world *w, const struct sim_object *o, const char *verb, const char *alias);

/* ---- operations' rules (scenario.c) ------------------------------------------------------------------------------ */

#define SIM_RULE_KEYS "duration=n progress=n total=n cancellable=b missing=b fail=p fail-at=p error=s message=s"
int sim_scenario_rule(struct json_object *j, const char *where, struct sim_rule *ret, struct failure *f);
/* Among other keys, which were checked. */
int sim_scenario_rule_of_step(struct json_object *j, const char *where, struct sim_rule *ret, struct failure *f);
/* "Domain.Start"; OP_NONE: there is no such. */
enum operation sim_operation_from_string(const char *name);

/* ---- scenario (scenario.c) -------------------------------------------------------------------------------------- */

/* Fills a new world from a parsed file, or fails with the place. @file: for messages. */
int sim_scenario_apply(struct sim_world *w, struct json_object *j, const char *file, struct failure *f);
int sim_scenario_load(struct sim_world *w, const char *path, struct failure *f);
/* One object of a scenario ("domains"[i], or of a step): added, silently unless @tell. */
int sim_scenario_object(struct sim_world *w, enum kind kind, struct json_object *j, const char *where, bool tell,
			struct failure *f);
/* Only checks. */
int sim_scenario_check_object(enum kind kind, struct json_object *j, const char *where, struct failure *f);
/* @is_step: then it has the keys of a step too. */
int sim_scenario_check_faults(struct json_object *j, const char *where, bool is_step, struct sim_faults *faults,
			      struct failure *f);
int sim_scenario_rules(struct sim_world *w, struct json_object *j, const char *where, struct failure *f);
