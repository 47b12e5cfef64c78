/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
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
#define ADOPT_PATIENCE (3 * USEC_PER_SEC)
#define COMMAND_PATIENCE (60 * USEC_PER_SEC)
#define QUIT_PATIENCE (5 * USEC_PER_SEC)
#define LOCK_RETRY (20 * USEC_PER_MSEC)
#define LOCK_RETRIES 250
#define RECONNECT_AFTER (2 * USEC_PER_SEC)

static void spawn(struct domain *d);
static void ended(struct domain *d);

static void fail(struct domain *d, enum vireo_error error, const char *format, ...) _printf_(3, 4);

/* ---- the process -------------------------------------------------------------------------------------------- */

static void forget_process(struct domain *d)
{
	d->exit = sd_event_source_disable_unref(d->exit);
	if (d->pidfd >= 0)
		close(d->pidfd);
	d->pidfd = -1;
	d->pid = 0;
}

static int on_exit_io(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct domain *d = userdata;

	(void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
	/*
	 * What it still said is read first: the end of the monitor comes by itself, as the process has gone. Where it never
	 * had one, this is the end.
	 */
	if (!d->guest || !d->guest->qmp)
		ended(d);
	return 0;
}

static void watch_process(struct domain *d)
{
	if (d->pidfd >= 0 && sd_event_add_io(d->c->env.event, &d->exit, d->pidfd, EPOLLIN, on_exit_io, d) >= 0)
		(void)sd_event_source_set_description(d->exit, "qemu");
}

static bool process_has_ended(struct domain *d)
{
	int fd;

	if (d->phase == RUN_OFF)
		return true;
	/* The lock is the truth: whoever holds it can still write to the disks. */
	if (files_lock(d->directory, "lock", &fd) < 0)
		return false;
	close(fd);
	return true;
}

static void kill_process(struct domain *d)
{
	if (d->pidfd < 0)
		(void)files_lock_holder(d->directory, d->pid, &d->pid, &d->pidfd);
	if (d->pidfd >= 0)
		(void)pidfd_send_signal(d->pidfd, SIGKILL, NULL, 0);
	service_kill(d);
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

static const char *word_of_end(const char *reason)
{
	/* libvirt's details and words are the same here. */
	return reason;
}

static void end_destroys(struct domain *d, enum vireo_error error, const char *message)
{
	struct request **list = TAKE(d->destroys);
	size_t n = d->n_destroys;

	d->n_destroys = 0;
	timer_clear(&d->kill_timer);
	for (size_t i = 0; i < n; i++)
		env_post_result(&d->c->env, list[i], error, "%s", message);
	free(list);
}

static void clean_files(struct domain *d)
{
	files_unlink(d->directory, "live.xml");
	files_unlink(d->directory, "monitor");
	files_unlink(d->directory, "pid");
	process_end_tpm(d->directory);
	files_unlink(d->directory, "tpm");
}

/* The start has failed, or was ended: as if it had never been. */
static void start_failed(struct domain *d)
{
	struct request *r = TAKE(d->start);
	struct result result = {0};
	bool transient = !d->config;

	_cleanup_(freep) char *words = process_last_words(d->directory);

	result.failure = d->why;
	d->why = (struct failure){0};
	if (result.failure.error == VIREO_OK)
		failure_set(&result.failure, VIREO_OPERATION_FAILED, "QEMU did not start: %s",
			words ? words : "it ended without a word");
	log_warning("Domain '%s' did not start: %s", domain_name(d), result.failure.message);
	vm_free(TAKE(d->live));
	free(TAKE(d->live_text));
	if (!transient) {
		(void)files_save_state(d, "off");
		domain_post_settled(d);
	}
	if (r)
		env_post_result_full(&d->c->env, r, &result);
	else
		failure_clear(&result.failure);
}

static void stopped(struct domain *d, const char *reason)
{
	struct report *r;
	struct observation *o = observation_new(&r, KIND_DOMAIN, d->uuid, domain_name(d));

	snprintf(d->word, sizeof(d->word), "%s", word_of_end(reason));
	d->managed_save = files_has(d->directory, "save");
	(void)files_save_state(d, "off");
	log_info("Domain '%s' has ended (%s).", domain_name(d), reason);
	if (o) {
		o->cause = CAUSE_STOPPED;
		o->reason = strdup(reason);
		o->run = d->run;
		o->seen = d->config ? domain_seen(d) : NULL;
		o->look = !d->config ? LOOK_GONE : o->seen ? LOOK_SEEN : LOOK_FAILED;
	}
	env_post(&d->c->env, r);
	domain_post_settled(d);
}

/* The process has gone, and so has its monitor. May free @d. */
static void ended(struct domain *d)
{
	struct driver_connection *c = d->c;
	struct guest *g = TAKE(d->guest);
	bool told = g && g->announced;

	timer_clear(&d->timer);
	chores_close_fd(d->c->env.chores, d->incoming);
	d->incoming = -1;
	clean_files(d);
	forget_process(d);
	service_forget(d);
	free(TAKE(d->unit));
	d->phase = RUN_OFF;
	d->adopted = false;
	if (!told) {
		start_failed(d);
	} else {
		struct vm *live = TAKE(d->live);
		char *live_text = TAKE(d->live_text);

		/* Its name stays good until all is told. */
		if (!d->config)
			d->live = TAKE(live);
		g->announced = false;
		stopped(d, g->end_reason);
		vm_free(live);
		free(live_text);
		guest_jobs_fail(g, VIREO_OUTCOME_UNKNOWN, "QEMU ended");
	}
	if (g)
		guest_answer(g, WAITED_DOWN, NULL);
	end_destroys(d, VIREO_OK, "");
	guest_free(g);
	if (!d->config)
		domain_forget(d);
	run_progress(c);
}

static void on_look_again(struct timer *t, void *userdata);

static void wait_for_end(struct domain *d)
{
	if (process_has_ended(d)) {
		ended(d);
		return;
	}
	if (d->exit) {
		int enabled = SD_EVENT_OFF;

		(void)sd_event_source_get_enabled(d->exit, &enabled);
		/* It has exited, and somebody else holds the lock for a moment more: a child of its own. */
		if (enabled == SD_EVENT_OFF)
			(void)sd_event_source_set_enabled(d->exit, SD_EVENT_ON);
	}
	timer_in(d->c->env.clock, &d->timer, d->exit ? RECONNECT_AFTER : LOCK_RETRY, on_look_again, d);
}

static int connect_again(struct domain *d)
{
	int fd, r = process_connect(d->directory, "monitor", &fd);

	if (r < 0)
		return r;
	return guest_connect(d->guest, fd, ADOPT_PATIENCE);
}

/* The monitor ended, and the process has not: perhaps only the connection was lost. */
static void on_look_again(struct timer *t, void *userdata)
{
	struct domain *d = userdata;

	if (process_has_ended(d))
		ended(d);
	else if (d->guest->qmp || connect_again(d) < 0)
		wait_for_end(d);
}

static void on_down(struct guest *g, enum qmp_end why, const char *message)
{
	struct domain *d = g->owner;

	if (why != QMP_END_EOF)
		log_warning("Domain '%s': %s", domain_name(d), message);
	if (d->phase == RUN_STARTING) {
		/* Not even a start that could be gone on with. */
		if (why != QMP_END_EOF && d->why.error == VIREO_OK)
			failure_set(&d->why, VIREO_OPERATION_FAILED, "QEMU's monitor: %s", message);
		kill_process(d);
	} else
		d->phase = RUN_ENDING;
	if (d->adopted && why != QMP_END_EOF) {
		d->adopted = false;
		run_progress(d->c);
	}
	wait_for_end(d);
}

/* ---- the start ---------------------------------------------------------------------------------------------- */

static void fail(struct domain *d, enum vireo_error error, const char *format, ...)
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
		kill_process(d);
		return;
	}
	ended(d);
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
		fail(d, VIREO_TIMEOUT, "QEMU started, but does not answer");
		return;
	}
	d->phase = RUN_UP;
	if (d->pidfd < 0) {
		/* systemd's child: known by the lock that it holds. */
		(void)files_lock_holder(d->directory, d->pid, &d->pid, &d->pidfd);
		watch_process(d);
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
		fail(d, VIREO_OPERATION_FAILED, "QEMU cannot run the domain: %s", reply->message);
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
		fail(d, VIREO_OPERATION_FAILED, "QEMU's monitor is lost");
}

static void on_incoming(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct domain *d = userdata;

	/* It has begun; how it ends is told by the event MIGRATION. */
	if (reply->status != QMP_OK && reply->status != QMP_CLOSED)
		fail(d, VIREO_OPERATION_FAILED, "the saved state cannot be read: %s", reply->message);
}

static void on_fd(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct domain *d = userdata;

	if (reply->status == QMP_CLOSED)
		return;
	if (reply->status != QMP_OK ||
		qmp_execute(q, "migrate-incoming", json_strings("uri", "fd:saved", NULL), COMMAND_PATIENCE, on_incoming, d) < 0)
		fail(d, VIREO_OPERATION_FAILED, "QEMU does not take the saved state: %s", reply->message);
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
			fail(d, VIREO_OPERATION_FAILED, "the saved state does not fit this domain, or is damaged");
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

static void on_adopted(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct domain *d = userdata;

	if (how != WAITED_SEEN)
		return;
	d->adopted = false;
	/* It waits to be started anew, and whoever wanted that has gone: a broker of before. */
	if (s->state == DOMAIN_SHUTDOWN && d->live && d->live->on_poweroff != VM_PRESERVE)
		guest_reboot_now(g);
	guest_foreign_scan(g);
	run_progress(d->c);
}

static void on_up(struct guest *g)
{
	struct domain *d = g->owner;

	if (d->phase == RUN_STARTING && d->why.error != VIREO_OK) {
		/* Given up before there was a process to kill. */
		(void)qmp_execute(g->qmp, "quit", NULL, USEC_UNKNOWN, NULL, NULL);
		kill_process(d);
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
		fail(d, VIREO_OPERATION_FAILED, "QEMU's monitor is lost");
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
		(void)files_save_state(d, "up");
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
	.down = on_down,
	.seen = on_seen,
	.changed = on_changed,
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
		fail(d, VIREO_OPERATION_FAILED, "%s", strerror(-r));
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
		ended(d);
		return;
	}
	if (r == 0) {
		r = guest_connect(d->guest, p->connected, GREETING_PATIENCE);
		p->connected = -1;
	}
	watch_process(d);
	if (r == 0 && d->pid == 0)
		r = ask_for_service(d, p);
	if (r == -EAGAIN)
		fail(d, VIREO_INVALID_STATE, "a QEMU of this domain is still there");
	else if (r > 0)
		fail(d, p->f.error, "%s", p->f.message ? p->f.message : "");
	else if (r < 0) {
		guest_disconnect(d->guest);
		fail(d, VIREO_OPERATION_FAILED, "%s", strerror(-r));
	} else if (d->why.error != VIREO_OK)
		kill_process(d);
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
		ended(d);
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
	ended(d);
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
	failure_clear(&d->why);
	d->start = r;
	d->paused = paused;
	d->incoming = incoming;
	d->from_managed = from_managed;
	d->reset_nvram = r && vdict_b(r->options, "reset-nvram", false);
	d->tries = 0;
	d->guest = make_guest(d);
	if (!d->guest)
		fail(d, VIREO_NO_MEMORY, "out of memory");
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
	(void)files_lock_holder(d->directory, d->pid, &d->pid, &d->pidfd);
	watch_process(d);
	d->guest->announced = true;
	d->adopted = connect_again(d) >= 0;
	if (!d->adopted)
		wait_for_end(d);
}

void domain_leave(struct domain *d)
{
	d->exit = sd_event_source_disable_unref(d->exit);
	timer_clear(&d->timer);
	timer_clear(&d->kill_timer);
	service_forget(d);
	if (d->phase == RUN_STARTING)
		/* Nobody was told of it. What is left of it is removed when the directory is opened again. */
		kill_process(d);
	if (d->incoming >= 0)
		close(d->incoming);
	free(TAKE(d->unit));
	guest_free(TAKE(d->guest));
	if (d->pidfd >= 0)
		close(d->pidfd);
	request_free(d->start);
	for (size_t i = 0; i < d->n_destroys; i++)
		request_free(d->destroys[i]);
	free(d->destroys);
	failure_clear(&d->why);
}

/* ---- destroying --------------------------------------------------------------------------------------------- */

static void on_kill(struct timer *t, void *userdata)
{
	struct domain *d = userdata;
	bool graceful = d->n_destroys > 0;

	for (size_t i = 0; i < d->n_destroys; i++)
		graceful = graceful && vdict_b(d->destroys[i]->options, "graceful", false);
	if (graceful) {
		end_destroys(d, VIREO_TIMEOUT, "QEMU does not end on being asked");
		return;
	}
	kill_process(d);
	if (d->pidfd < 0)
		end_destroys(d, VIREO_OPERATION_FAILED, "QEMU does not end on being asked, and its process cannot be found");
}

void domain_destroy(struct domain *d, struct request *r)
{
	struct request **list = reallocarray(d->destroys, d->n_destroys + 1, sizeof(*list));

	if (!list) {
		env_post_result(&d->c->env, r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	d->destroys = list;
	list[d->n_destroys++] = r;
	if (d->phase == RUN_STARTING) {
		/* fail() may free the domain, when there is no process yet; the request is ended with it. */
		timer_clear(&d->timer);
		fail(d, VIREO_OPERATION_FAILED, "the domain was destroyed while it started");
		return;
	}
	if (strcmp(d->guest->end_reason, "failed") == 0)
		d->guest->end_reason = "destroyed";
	if (d->n_destroys > 1)
		return;
	if (d->guest->qmp)
		(void)qmp_execute(d->guest->qmp, "quit", NULL, USEC_UNKNOWN, NULL, NULL);
	timer_in(d->c->env.clock, &d->kill_timer, d->guest->qmp && !d->guest->hung ? QUIT_PATIENCE : 0, on_kill, d);
}
