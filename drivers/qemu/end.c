/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "jobs.h"
#include "run.h"
#include "service.h"
#include "util/log.h"

/* How a run ends: by itself, by being destroyed, or because it never came to be. Its life is drawn in start.c. */

#define ADOPT_PATIENCE (3 * USEC_PER_SEC)
#define QUIT_PATIENCE (5 * USEC_PER_SEC)
#define LOCK_RETRY (20 * USEC_PER_MSEC)
#define RECONNECT_AFTER (2 * USEC_PER_SEC)

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
		domain_ended(d);
	return 0;
}

void domain_watch_process(struct domain *d)
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

void domain_kill_process(struct domain *d)
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
void domain_ended(struct domain *d)
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

void domain_wait_for_end(struct domain *d)
{
	if (process_has_ended(d)) {
		domain_ended(d);
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

int domain_connect_again(struct domain *d)
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
		domain_ended(d);
	else if (d->guest->qmp || domain_connect_again(d) < 0)
		domain_wait_for_end(d);
}

void domain_down(struct guest *g, enum qmp_end why, const char *message)
{
	struct domain *d = g->owner;

	if (why != QMP_END_EOF)
		log_warning("Domain '%s': %s", domain_name(d), message);
	if (d->phase == RUN_STARTING) {
		/* Not even a start that could be gone on with. */
		if (why != QMP_END_EOF && d->why.error == VIREO_OK)
			failure_set(&d->why, VIREO_OPERATION_FAILED, "QEMU's monitor: %s", message);
		domain_kill_process(d);
	} else
		d->phase = RUN_ENDING;
	if (d->adopted && why != QMP_END_EOF) {
		d->adopted = false;
		run_progress(d->c);
	}
	domain_wait_for_end(d);
}

void domain_leave(struct domain *d)
{
	d->exit = sd_event_source_disable_unref(d->exit);
	timer_clear(&d->timer);
	timer_clear(&d->kill_timer);
	service_forget(d);
	if (d->phase == RUN_STARTING)
		/* Nobody was told of it. What is left of it is removed when the directory is opened again. */
		domain_kill_process(d);
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
	domain_kill_process(d);
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
		/* domain_start_fail() may free the domain, when there is no process yet; the request is ended with it. */
		timer_clear(&d->timer);
		domain_start_fail(d, VIREO_OPERATION_FAILED, "the domain was destroyed while it started");
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
