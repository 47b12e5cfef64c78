/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "guest.h"
#include "vm.h"

/*
 * The driver "qemu": domains that Vireo itself defines, keeps and starts.
 *
 * Everything is in one directory, that of the URI:
 *
 *	.lock			held by the broker that follows it
 *	next-run		the number that the next run gets
 *	boot-id			of the machine's boot in which autostart was last done
 *	pools/			(pool.h)
 *	UUID/domain.xml		the persistent description
 *	UUID/live.xml		the description of the run, while there is one
 *	UUID/state		JSON: run, phase, word, pid
 *	UUID/autostart		it is there, or not
 *	UUID/monitor		QEMU's socket; made by us, before QEMU: it cannot be missed, and it tells of an early death
 *	UUID/lock		locked by QEMU itself, which inherits the descriptor: who holds it runs, who doesn't is dead,
 *				whatever became of the broker and of the files beside it
 *	UUID/pid, log, save	QEMU's pid file, its words, a managed save
 *	UUID/nvram.fd		variables of its firmware
 *	UUID/tpm, tpm-log	socket and words of its emulated TPM, which holds the lock too, and ends with QEMU
 *	UUID/tpm2-00.permall	… and what that keeps
 *
 * Files are written aside, synced and renamed. What a crash leaves half done is a start that nobody was told of; it
 * is undone when the directory is opened again.
 */

enum run_phase {
	RUN_OFF,
	RUN_STARTING, /* there is a process, or is about to be; clients know of nothing */
	RUN_UP,
	RUN_ENDING, /* the monitor has gone: until the process has, nobody knows whether it comes back */
};

/* Where swtpm keeps the state of a TPM 2.0, and of a 1.2. */
#define TPM_STATE "tpm2-00.permall"
#define TPM_STATE_OLD "tpm-00.permall"

struct domain {
	struct driver_connection *c;
	sd_id128_t uuid;
	char *directory;
	struct vm *config; /* persistent; NULL: transient */
	char *config_text;
	struct vm *live; /* not OFF */
	char *live_text;
	bool autostart, managed_save;
	bool changing;	  /* its files are being changed (change.h) */
	bool forgotten;	  /* it is no more, as soon as its files have gone */
	bool removed;	  /* they have */
	char *pending;	  /* name that it is about to have; NULL: none */
	struct request **queued; /* what waits until its files have been changed */
	size_t n_queued;
	char word[24]; /* how the last run ended: of `virsh domstate --reason` */

	enum run_phase phase;
	int run; /* its number */
	pid_t pid;
	int pidfd; /* -1: unknown; then the lock is asked */
	sd_event_source *exit;
	char *unit; /* systemd's name of it; NULL: a process of ours */
	sd_bus_slot *service_call;
	int service_fds[3]; /* kept until systemd has answered; 0: none */
	struct timer timer;
	unsigned tries;
	bool preparing; /* STARTING: a worker is at it (prepare.h) */
	struct guest *guest; /* not OFF */
	const char *saved_word; /* what of the guest's words is in the file; static */
	bool adopted;		/* found running, not answered yet */
	bool rebooting;		/* reset by us, and not running again yet */

	struct request *start; /* STARTING: what asked for it; may be NULL (autostart) */
	bool paused;	       /* leave it so */
	int incoming;	       /* descriptor of a saved state; -1: none */
	bool from_managed;     /* … and it is the managed save */
	bool reset_nvram;      /* begin with firmware variables as they were */
	struct failure why;    /* the start fails for */
	struct request **destroys;
	size_t n_destroys;
	struct timer kill_timer;

	struct domain *prev, *next;
};

struct pools;
struct runner;
struct loading;

struct driver_connection {
	struct guest_env env;
	char *directory;
	int lock;
	bool closing;
	bool progressing, again; /* a look that is answered at once must not begin another round inside this one */
	struct domain *domains;
	struct run_listing *listings;
	struct pools *pools;
	struct loading *loaded; /* until there is also a version */
	struct runner *asking;
	struct timer asking_timer;
	char version[64];
	sd_bus *systemd; /* NULL: not asked yet, or cannot be */
	bool no_services;
};

/* ---- run.c -------------------------------------------------------------------------------------------------- */

struct domain *run_find(struct driver_connection *c, sd_id128_t uuid);
struct domain *run_find_name(struct driver_connection *c, const char *name);
const char *domain_name(const struct domain *d);
/* What it looks like without asking QEMU. NULL: no memory. */
struct seen *domain_seen(struct domain *d);
/* Report that, or that it has gone. */
void domain_post_settled(struct domain *d);
/*
 * Tell of something that was done to the domain, with a settled look, and then end the request (@r may be NULL).
 * @result: borrowed; NULL: it worked.
 */
void domain_tell(struct domain *d, enum cause cause, const char *reason, struct request *r, const struct result *result);
/* One less to wait for: listings that wait for adopted domains go on. */
void run_progress(struct driver_connection *c);
/* It has neither run nor description any more: forget it, and its directory. May free it. */
void domain_forget(struct domain *d);
/* Its files have been changed: what has waited goes on. May free it. */
void domain_settled(struct domain *d);
/* Let a request wait for that. Takes @r. */
void domain_wait(struct domain *d, struct request *r);
/* Not in the list yet. */
struct domain *domain_new(struct driver_connection *c, sd_id128_t uuid);
void domain_free(struct domain *d);
/* Complete a look of the guest's. */
void domain_complete(struct domain *d, struct seen *s);

/* ---- start.c ------------------------------------------------------------------------------------------------ */

/*
 * Begin a run of d->live. @r is taken; it ends when the domain is up, or with what went wrong. May free a transient @d.
 */
void domain_start(struct domain *d, struct request *r, bool paused, int incoming, bool from_managed);
/* The same of what is kept: the managed save if there is one, else the description. */
void domain_start_kept(struct domain *d, struct request *r, bool paused);
/* A run that was going on when the directory was opened. */
void domain_adopt(struct domain *d);
void domain_destroy(struct domain *d, struct request *r);
/* The service was refused: as a process, then. */
void domain_spawn_again(struct domain *d);
/* It came to nothing; the first reason counts. May free it. */
void domain_start_fail(struct domain *d, enum vireo_error error, const char *format, ...) _printf_(3, 4);
/* Nobody knows whether there will be a service. */
void domain_start_lost(struct domain *d, const char *why);
/* Let it go on without us. */
void domain_leave(struct domain *d);

/* ---- end.c -------------------------------------------------------------------------------------------------- */

void domain_watch_process(struct domain *d);
void domain_kill_process(struct domain *d);
/* The process has gone, and so has its monitor. May free it. */
void domain_ended(struct domain *d);
/* It will end, or its monitor can be had again. */
void domain_wait_for_end(struct domain *d);
int domain_connect_again(struct domain *d);
void domain_down(struct guest *g, enum qmp_end why, const char *message);

/* ---- operations.c ------------------------------------------------------------------------------------------- */

void run_operate(struct driver_connection *c, struct request *r);
extern const enum operation run_operations[];

/* ---- files.c ------------------------------------------------------------------------------------------------ */

/* Any thread. All: 0, or a negative errno. */
int files_write(const char *directory, const char *file, const char *text, bool sync);
/* Owned by the caller. -EFBIG for more than 16 MiB. */
int files_read(const char *directory, const char *file, char **ret);
/* It stays removed, whatever happens. */
int files_remove(const char *directory, const char *file);
/* It has gone for now: quick, and good for what a run leaves behind. */
void files_unlink(const char *directory, const char *file);
/* The directory with all that is in it (one level). */
int files_remove_directory(const char *directory);
bool files_has(const char *directory, const char *file);
int files_make_directory(const char *path);
/* An advisory lock. -EAGAIN: somebody else has it. */
int files_lock(const char *directory, const char *file, int *ret);
int files_next_run(const char *directory, int *ret);
int files_save_state(struct domain *d, const char *phase);
int files_write_state(const char *directory, int run, const char *phase, const char *word, pid_t pid);
/* "" phase when there is none. @word, @phase: at least 24 bytes. */
void files_load_state(const char *directory, int *run, char *phase, char *word, pid_t *pid);
/* Who holds UUID/lock: a descriptor of the process, and its number; -ESRCH when nobody. @hint: look there first. */
int files_lock_holder(const char *directory, pid_t hint, pid_t *ret_pid, int *ret_pidfd);
/* The same of its TPM. */
int files_tpm_holder(const char *directory, int *ret_pidfd);

/* ---- process.c ---------------------------------------------------------------------------------------------- */

/* What they have open. By the number of the lock QEMU is told from its TPM. */
#define PROCESS_MONITOR_FD 3
#define PROCESS_LOCK_FD 4
#define PROCESS_TPM_LOCK_FD 5
#define PROCESS_REPORT_FD 6

struct process {
	char *const *argv;
	const char *directory;
	const char *log;   /* file in it that gets its words */
	char *environment; /* one more variable; NULL: none */
	int socket, lock;  /* become descriptors PROCESS_MONITOR_FD and lock_fd; borrowed */
	int lock_fd;
};

/* Any thread. A process that outlives us, in a session of its own. 0, or a negative errno: also that of execve(). */
int process_spawn(const struct process *p, pid_t *ret_pid);
/*
 * Of a child that goes on without execve(): these it keeps, at other numbers; of everything else of ours it has nothing, or it
 * would hold our name on the bus, our locks, and other children's pipes, for as long as it lasts. At most 13; those below 0
 * stay so. Async-signal-safe.
 */
bool process_keep_only(int *fds, size_t n);
int process_log(const char *directory, const char *file);
/* A listening socket @directory/@file. */
int process_listen(const char *directory, const char *file, int *ret);
/* The same, and one connected to it. */
int process_monitor(const char *directory, const char *file, int *ret_listener, int *ret_connected);
int process_connect(const char *directory, const char *file, int *ret);
/* A TPM whose QEMU never came is told to end. */
void process_end_tpm(const char *directory);
/* The last words of the log, one line; owned, valid UTF-8, NULL when there are none. */
char *process_last_words(const char *directory);
