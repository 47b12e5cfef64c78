/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "jobs.h"
#include "prepare.h"
#include "run.h"
#include "saved.h"
#include "service.h"
#include "util/log.h"

/*
 * A run, from its start to its end:
 *
 *	 start: lock, socket, process ──greeting──► [balloon] ──► [incoming state] ──► cont ──► look: Started
 *	   │			│								  │
 *	   └────────────────────┴── it ends: nothing was told ──► the request fails		  │
 *												  ▼
 *	 OFF ◄── Stopped ◄── the process has ended ◄── ENDING ◄── the monitor has ended ◄──────── UP
 *							  └── it has not: connect again ──────────►┘
 */

/* A loaded machine may take its time to start a process; whether it still lives is known without a clock. */
#define GREETING_PATIENCE (60 * USEC_PER_SEC)
#define COMMAND_PATIENCE (60 * USEC_PER_SEC)
#define LOCK_RETRY (20 * USEC_PER_MSEC)
#define LOCK_RETRIES 250

static void spawn(struct domain *d);

/* ---- the start ---------------------------------------------------------------------------------------------- */

void domain_start_fail(struct domain *d, enum vireo_error error, const char *format, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	if (d->why.error == VIREO_OK)
		failure_set(&d->why, error, "%s", text ? text : "");
	if (d->preparing)
		return;
	if (d->pid > 0 || d->unit) {
		/* The rest happens when it has gone. */
		domain_kill_process(d);
		return;
	}
	domain_ended(d);
}

static void sync_work(void *data)
{
	int fd = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)fsync(fd);
	close(fd);
}

/* What was removed stays so. */
static void sync_directory(struct domain *d)
{
	char *path = strdup(d->directory);

	if (path)
		chores_run_last(d->c->env.chores, sync_work, free, path);
}

static void on_first_look(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct domain *d = userdata;
	struct request *r;
	struct result result = {.uuid = d->uuid, .kind = KIND_DOMAIN};

	if (how == WAITED_DOWN)
		return;
	if (how == WAITED_TIMEOUT) {
		domain_start_fail(d, VIREO_TIMEOUT, "QEMU started, but does not answer");
		return;
	}
	d->phase = RUN_UP;
	if (d->pidfd < 0) {
		/* systemd's child: known by the lock that it holds. */
		(void)files_lock_holder(d->directory, d->pid, &d->pid, &d->pidfd);
		domain_watch_process(d);
	}
	if (d->from_managed) {
		/* It runs again, so what was kept is of the past. The descriptor keeps this quick. */
		files_unlink(d->directory, "save");
		sync_directory(d);
		d->managed_save = false;
	}
	(void)files_save_state(d, "up");
	d->saved_word = g->running_word;

	_cleanup_(seen_freep) struct seen *now = seen_copy(s);

	if (now) {
		now->starting = false;
		now->managed_save = d->managed_save;
	}
	guest_announce(g, d->incoming >= 0 ? "restored" : "booted", now ? now : s);
	chores_close_fd(d->c->env.chores, d->incoming);
	d->incoming = -1;
	r = TAKE(d->start);
	if (r)
		env_post_result_full(&d->c->env, r, &result);
	if (d->n_destroys > 0)
		(void)qmp_execute(g->qmp, "quit", NULL, USEC_UNKNOWN, NULL, NULL);
}

static void on_cont(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct domain *d = userdata;

	if (reply->status == QMP_CLOSED)
		return;
	if (reply->status != QMP_OK)
		domain_start_fail(d, VIREO_OPERATION_FAILED, "QEMU cannot run the domain: %s", reply->message);
	else
		guest_look(d->guest, on_first_look, d);
}

static void let_run(struct domain *d)
{
	struct guest *g = d->guest;

	g->running_word = d->incoming >= 0 ? "restored" : "booted";
	if (d->paused)
		guest_look(g, on_first_look, d);
	else if (qmp_execute(g->qmp, "cont", NULL, COMMAND_PATIENCE, on_cont, d) < 0)
		domain_start_fail(d, VIREO_OPERATION_FAILED, "QEMU's monitor is lost");
}

static void on_incoming(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct domain *d = userdata;

	/* It has begun; how it ends is told by the event MIGRATION. */
	if (reply->status != QMP_OK && reply->status != QMP_CLOSED)
		domain_start_fail(d, VIREO_OPERATION_FAILED, "the saved state cannot be read: %s", reply->message);
}

static void on_fd(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct domain *d = userdata;

	if (reply->status == QMP_CLOSED)
		return;
	if (reply->status != QMP_OK ||
		qmp_execute(q, "migrate-incoming", json_strings("uri", "fd:saved", NULL), COMMAND_PATIENCE, on_incoming, d) < 0)
		domain_start_fail(d, VIREO_OPERATION_FAILED, "QEMU does not take the saved state: %s", reply->message);
}

static void on_event(struct guest *g, const char *name, struct json_object *data)
{
	struct domain *d = g->owner;
	const char *status = json_s(data, "status"), *reason = json_s(data, "reason");
	const struct vm *vm = d->live;

	if (d->phase == RUN_STARTING && d->incoming >= 0 && strcmp(name, "MIGRATION") == 0 && status) {
		if (strcmp(status, "completed") == 0)
			let_run(d);
		else if (strcmp(status, "failed") == 0)
			domain_start_fail(d, VIREO_OPERATION_FAILED, "the saved state does not fit this domain, or is damaged");
		return;
	}
	if (d->phase != RUN_UP || !vm)
		return;
	/* QEMU pauses what is to go on; and knows no way of its own to end on one and restart on the other. */
	if (strcmp(name, "SHUTDOWN") == 0 && json_b(data, "guest") && vm->on_poweroff != VM_DESTROY && !g->reboot_asked) {
		bool reset = reason && strcmp(reason, "guest-reset") == 0;

		if (reason && strcmp(reason, "guest-panic") == 0)
			return;
		if (reset)
			(void)qmp_execute(g->qmp, "quit", NULL, USEC_UNKNOWN, NULL, NULL);
		else if (vm->on_poweroff == VM_RESTART)
			guest_reboot_now(g);
	} else if (strcmp(name, "GUEST_PANICKED") == 0 && vm->on_crash == VM_RESTART) {
		(void)qmp_execute(g->qmp, "system_reset", NULL, USEC_UNKNOWN, NULL, NULL);
		(void)qmp_execute(g->qmp, "cont", NULL, USEC_UNKNOWN, NULL, NULL);
	}
}

/* A broker that is killed in between leaves a domain that is paused, and nobody who paused it. */
static void on_rebooting(struct guest *g, bool on)
{
	struct domain *d = g->owner;

	d->rebooting = on;
	(void)files_save_state(d, on ? "rebooting" : "up");
}

static void on_adopted(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct domain *d = userdata;

	if (how != WAITED_SEEN)
		return;
	d->adopted = false;
	/* It waits to be started anew, and whoever wanted that has gone: a broker of before. */
	if ((s->state == DOMAIN_SHUTDOWN && d->live && d->live->on_poweroff != VM_PRESERVE) ||
		(s->state == DOMAIN_PAUSED && d->rebooting))
		guest_reboot_now(g);
	else if (d->rebooting)
		on_rebooting(g, false);
	guest_foreign_scan(g);
	run_progress(d->c);
}

static void on_up(struct guest *g)
{
	struct domain *d = g->owner;

	if (d->phase == RUN_STARTING && d->why.error != VIREO_OK) {
		/* Given up before there was a process to kill. */
		(void)qmp_execute(g->qmp, "quit", NULL, USEC_UNKNOWN, NULL, NULL);
		domain_kill_process(d);
		return;
	}
	guest_want_migration_events(g);
	if (d->phase != RUN_STARTING) {
		/* Found again, or connected to again. What was missed is told by the look. */
		d->phase = RUN_UP;
		timer_clear(&d->timer);
		g->announced = true;
		g->want_probe = true;
		(void)qmp_execute(g->qmp, "set-action", json_strings("shutdown", g->shutdown_action, NULL), COMMAND_PATIENCE, NULL, NULL);
		guest_look(g, on_adopted, d);
		return;
	}
	if (d->live->balloon && d->live->current_memory < d->live->memory) {
		struct json_object *a = json_object_new_object();

		json_object_object_add(a, "value", json_object_new_uint64(d->live->current_memory));
		(void)qmp_execute(g->qmp, "balloon", a, COMMAND_PATIENCE, NULL, NULL);
	}
	if (d->incoming < 0)
		let_run(d);
	else if (qmp_execute_fd(g->qmp, "getfd", json_strings("fdname", "saved", NULL), d->incoming, COMMAND_PATIENCE, on_fd, d) < 0)
		domain_start_fail(d, VIREO_OPERATION_FAILED, "QEMU's monitor is lost");
}

static void on_seen(struct guest *g, struct seen *s)
{
	domain_complete(g->owner, s);
}

static void on_changed(struct guest *g)
{
	struct domain *d = g->owner;

	/* So that a restart of the broker changes nothing that clients see. */
	if (d->phase == RUN_UP && g->running_word != d->saved_word) {
		d->saved_word = g->running_word;
		(void)files_save_state(d, d->rebooting ? "rebooting" : "up");
	}
}

static char *on_xml(struct guest *g)
{
	struct domain *d = g->owner;

	return d->live_text ? strdup(d->live_text) : NULL;
}

/* The run has another disk than it began with; the description that is kept is the administrator's to change. */
static void on_pivoted(struct guest *g, const char *disk, const char *file)
{
	struct domain *d = g->owner;
	_cleanup_(freep) char *changed = vm_text_set_source(d->live_text, disk, file);

	if (!changed)
		return;
	free(d->live_text);
	d->live_text = TAKE(changed);
	(void)files_write(d->directory, "live.xml", d->live_text, false);
}

static const struct guest_ops ops = {
	.xml = on_xml,
	.pivoted = on_pivoted,
	.up = on_up,
	.down = domain_down,
	.seen = on_seen,
	.changed = on_changed,
	.rebooting = on_rebooting,
	.event = on_event,
};

static void on_lock_retry(struct timer *t, void *userdata)
{
	spawn(userdata);
}

static void spawn(struct domain *d)
{
	int r = prepare(d, service_is_possible(d->c), d->tries >= LOCK_RETRIES / 4);

	if (r < 0)
		domain_start_fail(d, VIREO_OPERATION_FAILED, "%s", strerror(-r));
}

/* Ask systemd for what is prepared. Takes the descriptors of @p. */
static int ask_for_service(struct domain *d, struct prepared *p)
{
	int log, r = 0;

	if (p->tpm_argv) {
		log = process_log(d->directory, "tpm-log");
		r = log < 0 ? log : service_start_tpm(d, p->tpm_argv, p->tpm_environment, p->tpm_listener, p->lock, log);
		if (log >= 0)
			close(log);
	}
	log = r == 0 ? process_log(d->directory, "log") : -1;
	if (r == 0)
		r = log < 0 ? log : service_start(d, p->argv, p->listener, p->lock, log);
	if (r < 0) {
		if (log >= 0)
			close(log);
		return r;
	}
	p->listener = p->lock = -1;
	return 0;
}

void domain_prepared(struct domain *d, struct prepared *p)
{
	int r = p->error;

	d->preparing = false;
	if (p->run)
		d->run = d->guest->run = p->run;
	d->pid = p->pid;
	d->pidfd = p->pidfd;
	p->pidfd = -1;
	if (r == -EAGAIN && d->why.error == VIREO_OK && d->tries++ < LOCK_RETRIES) {
		/* A process of before is just about to end. */
		timer_in(d->c->env.clock, &d->timer, LOCK_RETRY, on_lock_retry, d);
		prepared_free(p);
		return;
	}
	if (d->why.error != VIREO_OK && d->pid == 0) {
		/* Destroyed meanwhile, and there is nothing yet. */
		prepared_free(p);
		domain_ended(d);
		return;
	}
	if (r == 0) {
		r = guest_connect(d->guest, p->connected, GREETING_PATIENCE);
		p->connected = -1;
	}
	domain_watch_process(d);
	if (r == 0 && d->pid == 0)
		r = ask_for_service(d, p);
	if (r == -EAGAIN)
		domain_start_fail(d, VIREO_INVALID_STATE, "a QEMU of this domain is still there");
	else if (r > 0)
		domain_start_fail(d, p->f.error, "%s", p->f.message ? p->f.message : "");
	else if (r < 0) {
		guest_disconnect(d->guest);
		domain_start_fail(d, VIREO_OPERATION_FAILED, "%s", strerror(-r));
	} else if (d->why.error != VIREO_OK)
		domain_kill_process(d);
	prepared_free(p);
}

void domain_spawn_again(struct domain *d)
{
	if (d->phase != RUN_STARTING)
		return;
	guest_disconnect(d->guest);
	/* It may have come to be where QEMU was refused. */
	process_end_tpm(d->directory);
	if (d->why.error != VIREO_OK)
		/* It was destroyed meanwhile. */
		domain_ended(d);
	else
		spawn(d);
}

void domain_start_lost(struct domain *d, const char *why)
{
	if (d->why.error == VIREO_OK)
		failure_set(&d->why, VIREO_TIMEOUT, "%s", why);
	service_kill(d);
	guest_disconnect(d->guest);
	/* Whoever has the lock then is removed before the next start, or waited for. */
	domain_ended(d);
}

static struct guest *make_guest(struct domain *d)
{
	struct guest *g = guest_new(&d->c->env, &ops, d);

	if (!g)
		return NULL;
	g->uuid = d->uuid;
	g->shutdown_action = d->live->on_poweroff == VM_DESTROY ? "poweroff" : "pause";
	g->name = strdup(d->live->name);
	g->run = d->run;
	return g;
}

void domain_start(struct domain *d, struct request *r, bool paused, int incoming, bool from_managed)
{
	d->phase = RUN_STARTING;
	d->rebooting = false;
	failure_clear(&d->why);
	d->start = r;
	d->paused = paused;
	d->incoming = incoming;
	d->from_managed = from_managed;
	d->reset_nvram = r && vdict_b(r->options, "reset-nvram", false);
	d->tries = 0;
	d->guest = make_guest(d);
	if (!d->guest)
		domain_start_fail(d, VIREO_NO_MEMORY, "out of memory");
	else
		spawn(d);
}

/* @o: the managed save, looked into; NULL: there is none. Takes @r. */
static void start_kept(struct domain *d, struct request *r, bool paused, struct saved_opening *o)
{
	struct failure f = {0};
	int e = o ? o->error : 0, fd = o ? o->fd : -1;

	if (e > 0) {
		f = o->f;
		o->f = (struct failure){0};
	}
	if (e == 0)
		e = vm_parse(o ? o->xml : d->config_text, &d->live, &d->live_text, &f);
	if (e != 0) {
		struct result result = {.failure = f};

		if (e < 0)
			failure_set(&result.failure, VIREO_OPERATION_FAILED, "%s", strerror(-e));
		log_warning("Domain '%s' cannot be started: %s", domain_name(d), result.failure.message);
		if (r)
			env_post_result_full(&d->c->env, r, &result);
		else
			failure_clear(&result.failure);
		return;
	}
	if (o)
		o->fd = -1;
	domain_start(d, r, paused || (o && !o->running), fd, o != NULL);
}

struct keeping {
	struct saved_opening o; /* first */
	struct domain *d;	/* borrowed; it is changing meanwhile */
	struct request *r;
	bool paused;
};

static void keeping_drop(void *data)
{
	struct keeping *k = data;

	request_free(k->r);
	saved_opening_clear(&k->o);
	free(k);
}

static void on_opened(void *data)
{
	struct keeping *k = data;
	struct domain *d = k->d;

	start_kept(d, TAKE(k->r), k->paused, &k->o);
	keeping_drop(k);
	domain_settled(d);
}

void domain_start_kept(struct domain *d, struct request *r, bool paused)
{
	struct keeping *k;

	if (!d->managed_save) {
		start_kept(d, r, paused, NULL);
		return;
	}
	k = calloc(1, sizeof(*k));
	if (k) {
		*k = (struct keeping){.o = {.fd = -1}, .d = d, .r = r, .paused = paused};
		if (asprintf(&k->o.path, "%s/save", d->directory) < 0)
			k->o.path = NULL;
	}
	if (!k || !k->o.path || chores_run(d->c->env.chores, saved_opening_work, on_opened, keeping_drop, k) < 0) {
		if (r)
			env_post_result(&d->c->env, r, VIREO_NO_MEMORY, "out of memory");
		if (k) {
			k->r = NULL;
			keeping_drop(k);
		}
		return;
	}
	d->changing = true;
}

void domain_adopt(struct domain *d)
{
	static const char *const words[] = {"booted", "restored", "unpaused", "migrated", "event wakeup"};

	d->phase = RUN_ENDING;
	d->guest = make_guest(d);
	if (!d->guest)
		return;
	for (size_t i = 0; i < ELEMENTS(words); i++)
		if (strcmp(d->word, words[i]) == 0)
			d->guest->running_word = d->saved_word = words[i];
	if (files_lock_holder(d->directory, d->pid, &d->pid, &d->pidfd) == -ESRCH) {
		int tpm;

		/* QEMU has ended; a TPM that has not with it would be waited for in vain. */
		if (files_tpm_holder(d->directory, &tpm) == 0) {
			(void)pidfd_send_signal(tpm, SIGKILL, NULL, 0);
			close(tpm);
		}
	}
	domain_watch_process(d);
	d->guest->announced = true;
	d->adopted = domain_connect_again(d) >= 0;
	if (!d->adopted)
		domain_wait_for_end(d);
}
