/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "follow.h"
#include "progress.h"
#include "term.h"

/*
 * Waiting for a job. One loop listens to the bus (the end by Job.Wait, progress by PropertiesChanged), to Ctrl-C and,
 * while a question stands, to the keyboard.
 */

#define WAIT_LIMIT (20 * USEC_PER_SEC)
#define REDRAW 250 /* ms: what moves by itself, and the running time */

struct following {
	struct ctl *c;
	const char *path, *name, *what;
	json_object *properties;
	struct progress progress;
	bool over, waiting, lost, gone, stop_ready;
	bool asking, cancelling, leave;
	sd_bus_slot *wait_slot, *match_slot, *cancel_slot;
	char *failure;	    /* name of the error of Wait, when it is none of ours */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	interrupted = 1;
}

/* ---- the bus ------------------------------------------------------------------------------------------------------- */

static void take_properties(struct following *j, json_object *changed)
{
	json_object_object_foreach(changed, key, value)
		json_object_object_add(j->properties, key, json_object_get(value));
	progress_update(&j->progress, j->properties);
	if (strcmp(json_text(j->properties, "State"), "running") != 0 ||
	    (j->stop_ready && json_true(j->properties, "Ready")))
		j->over = true;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(json_putp) json_object *changed = NULL;
	struct following *j = userdata;
	const char *interface;

	if (sd_bus_message_read(m, "s", &interface) < 0 || strcmp(interface, VIREO_JOB) != 0)
		return 0;
	if (message_read_json(m, &changed) > 0)
		take_properties(j, changed);
	return 0;
}

static int on_waited(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct following *j = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(m);
	const char *state;

	j->waiting = false;
	if (e) {
		j->gone = exit_status_of(e->name) == EXIT_NOT_FOUND;
		j->lost = !j->gone && (error_is_loss(e, 0) || sd_bus_error_has_name(e, "org.freedesktop.DBus.Error.Disconnected"));
		if (!j->gone && !j->lost && !j->failure)
			j->failure = strdup(e->message ? e->message : e->name);
	} else if (sd_bus_message_read(m, "s", &state) >= 0 && strcmp(state, "running") != 0)
		j->over = true;
	return 0;
}

static int start_waiting(struct following *j)
{
	int r;

	j->wait_slot = sd_bus_slot_unref(j->wait_slot);
	r = sd_bus_call_method_async(j->c->bus, &j->wait_slot, VIREO_NAME, j->path, VIREO_JOB, "Wait", on_waited, j, "t",
				     (uint64_t)WAIT_LIMIT);
	j->waiting = r >= 0;
	return r;
}

/* *ret stays NULL when there is nobody to ask: the broker has just gone. */
static int ask_for_all(struct following *j, json_object **ret)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	int r = client_new_call(j->c, &m, j->path, PROPERTIES, "GetAll");

	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "s", VIREO_JOB);
	if (r >= 0)
		r = sd_bus_call(j->c->bus, m, 0, &e, &reply);
	/* One that does not know the job is there, and says so. */
	if (r < 0 && error_is_loss(&e, r) && !sd_bus_error_has_name(&e, SD_BUS_ERROR_UNKNOWN_OBJECT)) {
		j->lost = true;
		return EXIT_OK;
	}
	if (r < 0)
		return client_failed(j->c, j->path, &e, r);
	r = message_read_json(reply, ret);
	return r <= 0 ? client_failed(j->c, j->path, NULL, r ? r : -EBADMSG) : EXIT_OK;
}

static int begin_following(struct following *j)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	_cleanup_(json_putp) json_object *now = NULL;
	int r;

	j->match_slot = sd_bus_slot_unref(j->match_slot);
	r = sd_bus_match_signal(j->c->bus, &j->match_slot, VIREO_NAME, j->path, PROPERTIES, "PropertiesChanged", on_changed, j);
	/* Where signals go only to those who asked. No answer is needed: without signals there is only no progress. */
	if (r >= 0)
		r = sd_bus_message_new_method_call(j->c->bus, &m, VIREO_NAME, VIREO_ROOT, VIREO_MANAGER, "Subscribe");
	if (r >= 0)
		r = sd_bus_message_append(m, "a{sv}", 1, "objects", "ao", 1, j->path);
	if (r >= 0)
		r = sd_bus_message_set_expect_reply(m, false);
	if (r >= 0)
		r = sd_bus_send(j->c->bus, m, NULL);
	if (r < 0)
		return client_failed(j->c, j->name, NULL, r);
	r = ask_for_all(j, &now);
	if (r != EXIT_OK || j->lost)
		return r;
	take_properties(j, now);
	r = j->over ? 0 : start_waiting(j);
	return r < 0 ? client_failed(j->c, j->name, NULL, r) : EXIT_OK;
}

/* ---- cancelling ---------------------------------------------------------------------------------------------------- */

static int on_cancelled(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct following *j = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(m);

	if (e) {
		progress_clear_line(&j->progress);
		(void)client_failed(j->c, "cannot cancel it", e, 0);
		j->cancelling = false;
	}
	return 0;
}

static void cancel(struct following *j)
{
	j->cancelling = true;
	j->cancel_slot = sd_bus_slot_unref(j->cancel_slot);
	if (sd_bus_call_method_async(j->c->bus, &j->cancel_slot, VIREO_NAME, j->path, VIREO_JOB, "Cancel", on_cancelled, j,
				     "a{sv}", 0) < 0)
		j->cancelling = false;
}

static void ask(struct following *j)
{
	if (j->asking || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		/* asked twice, or nobody to ask */
		j->leave = true;
		return;
	}
	progress_clear_line(&j->progress);
	fprintf(stderr, "\n%s: %s goes on. Cancel it (c), leave it running (l), or go on waiting (w)? ", j->name,
		json_text(j->properties, "Operation"));
	fflush(stderr);
	j->asking = true;
}

static void take_answer(struct following *j)
{
	char line[64];
	ssize_t n = read(STDIN_FILENO, line, sizeof(line));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0 || line[0] == 'l' || line[0] == 'L')
		j->leave = true;
	else if (line[0] == 'c' || line[0] == 'C')
		cancel(j);
	else if (line[0] != 'w' && line[0] != 'W' && line[0] != '\n') {
		fputs("c, l or w? ", stderr);
		return;
	}
	j->asking = false;
}

/* ---- the loop ------------------------------------------------------------------------------------------------------ */

static int wait_a_moment(struct following *j)
{
	struct pollfd fds[2] = {{.fd = sd_bus_get_fd(j->c->bus), .events = (short)sd_bus_get_events(j->c->bus)},
				{.fd = j->asking ? STDIN_FILENO : -1, .events = POLLIN}};
	uint64_t until, now = now_usec(CLOCK_MONOTONIC), span = USEC_UNKNOWN;
	struct timespec limit;
	sigset_t none;

	if (sd_bus_get_timeout(j->c->bus, &until) >= 0 && until != USEC_UNKNOWN)
		span = until > now ? until - now : 0;
	if (j->progress.visible && span > REDRAW * USEC_PER_MSEC)
		span = REDRAW * USEC_PER_MSEC;
	limit = (struct timespec){.tv_sec = (time_t)(span / USEC_PER_SEC), .tv_nsec = (long)(span % USEC_PER_SEC * 1000)};
	/* Ctrl-C can come only in here: between looking and waiting it can't be missed */
	sigprocmask(SIG_SETMASK, NULL, &none);
	sigdelset(&none, SIGINT);
	if (ppoll(fds, 2, span == USEC_UNKNOWN ? NULL : &limit, &none) < 0 && errno != EINTR)
		return -errno;
	if (interrupted) {
		interrupted = 0;
		ask(j);
	} else if (fds[1].revents)
		take_answer(j);
	return 0;
}

static int turn(struct following *j)
{
	int r = sd_bus_process(j->c->bus, NULL);

	if (r != 0)
		return r < 0 ? r : 0;
	if (j->over || j->lost || j->gone || j->failure)
		return 0;
	if (!j->waiting)
		return start_waiting(j);
	if (!j->asking)
		progress_draw(&j->progress, j->cancelling);
	return wait_a_moment(j);
}

/* The broker went away: it may come back and know the job still. */
static int recover(struct following *j)
{
	int r = 0;

	progress_clear_line(&j->progress);
	complain("%s: the broker is gone; waiting for it to come back", j->name);
	j->wait_slot = sd_bus_slot_unref(j->wait_slot);
	j->match_slot = sd_bus_slot_unref(j->match_slot);
	j->cancel_slot = sd_bus_slot_unref(j->cancel_slot);
	if (sd_bus_is_open(j->c->bus) > 0)
		r = client_wait_owner(j->c, WAIT_LIMIT);
	if (r <= 0) {
		complain("%s: it did not; nobody can tell what became of the job", j->name);
		return EXIT_NO_BROKER;
	}
	j->lost = j->waiting = false;
	return begin_following(j);
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

/* What the hypervisor said is not in a property, which everybody can read, but in history. Owned by the caller. */
static char *hypervisors_words(struct following *j)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(freep) char *epoch = NULL;
	_cleanup_(json_putp) json_object *events = NULL;
	struct follower f = {.c = j->c, .kinds = KINDS(KIND_JOB), .events = {"Finished"}, .n_events = 1, .object = j->path,
			     .after = strtoull(j->path + strlen(VIREO_JOBS), NULL, 10)};
	const char *only = TAKE(j->c->connection);
	json_object *details = NULL;
	bool more;
	int r;

	r = sd_bus_get_property_string(j->c->bus, VIREO_NAME, VIREO_ROOT, VIREO_MANAGER, "Epoch", NULL, &epoch);
	if (r >= 0) {
		(void)snprintf(f.epoch, sizeof(f.epoch), "%s", epoch);
		r = follower_fetch(&f, 0, 1, false, &events, &more, &e);
	}
	j->c->connection = only;
	if (r < 0 || json_object_array_length(events) == 0)
		return NULL;
	(void)json_object_object_get_ex(json_object_array_get_idx(events, 0), "details", &details);
	return *json_text(details, "message") ? strdup(json_text(details, "message")) : NULL;
}

static int judge(struct following *j, const char **ret_state)
{
	const char *state = json_text(j->properties, "State"), *operation = json_text(j->properties, "Operation");
	_cleanup_(freep) char *words = NULL, *made = NULL;
	const char *what = j->what;
	json_object *error = NULL;

	if (strcmp(state, "completed") == 0) {
		*ret_state = "completed";
		return EXIT_OK;
	}
	if (strcmp(state, "running") == 0) {
		*ret_state = "ready";
		return EXIT_OK;
	}
	if (strcmp(state, "cancelled") == 0) {
		complain("%s of “%s” was cancelled", operation, j->name);
		return EXIT_CANCELLED;
	}
	if (!what && asprintf(&made, "cannot %s “%s”", operation, j->name) < 0)
		return out_of_memory();
	what = what ? what : made;
	words = hypervisors_words(j);
	(void)json_object_object_get_ex(j->properties, "Error", &error);
	if (error && json_object_is_type(error, json_type_array) && json_object_array_length(error) == 2) {
		const char *name = json_object_get_string(json_object_array_get_idx(error, 0));
		const char *text = json_object_get_string(json_object_array_get_idx(error, 1));
		sd_bus_error e = SD_BUS_ERROR_MAKE_CONST(name, words ? words : text);

		return client_failed(j->c, what, &e, 0);
	}
	complain("%s: %s", what, words ? words : "it failed, and nobody says why");
	return EXIT_FAILED;
}

static int follow(struct following *j, const char **ret_state)
{
	int r = begin_following(j);

	while (r == EXIT_OK && !j->over && !j->leave && !j->failure) {
		int q = turn(j);

		if (q < 0 && !error_is_loss(NULL, q))
			return client_failed(j->c, j->name, NULL, q);
		if (j->gone) {
			progress_clear_line(&j->progress);
			complain("%s: the job is not known any more; nobody can tell how it ended", j->name);
			return EXIT_DISCONNECTED;
		}
		if (q < 0 || j->lost)
			r = recover(j);
	}
	if (j->asking)
		fputc('\n', stderr);
	progress_clear_line(&j->progress);
	if (r != EXIT_OK)
		return r;
	if (j->failure) {
		complain("%s: cannot wait for the job: %s", j->name, j->failure);
		return EXIT_FAILED;
	}
	if (!j->over) {
		complain("%s: %s goes on as job %s; “vireoctl wait %s” waits for it, “vireoctl cancel %s” ends it", j->name,
			json_text(j->properties, "Operation"), j->path + strlen(VIREO_JOBS), j->path + strlen(VIREO_JOBS),
			j->path + strlen(VIREO_JOBS));
		return EXIT_LEFT_RUNNING;
	}
	if (strcmp(json_text(j->properties, "State"), "running") == 0 && !json_true(j->properties, "Ready")) {
		/* Wait knew it before PropertiesChanged came */
		_cleanup_(json_putp) json_object *now = NULL;

		r = client_get_all(j->c, j->path, VIREO_JOB, &now);
		if (r != EXIT_OK)
			return r;
		take_properties(j, now);
	}
	return judge(j, ret_state);
}

int job_follow(struct ctl *c, const char *job, const char *name, const char *what, bool stop_ready, const char **ret_state)
{
	_cleanup_(freep) char *safe = text_safe(name);
	struct following j = {.c = c, .path = job, .name = safe ? safe : "", .what = what, .stop_ready = stop_ready,
			      .properties = json_object_new_object()};
	struct sigaction action = {.sa_handler = on_interrupt}, before;
	sigset_t block, mask;
	int r;

	if (!j.properties)
		return out_of_memory();
	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigprocmask(SIG_BLOCK, &block, &mask);
	sigaction(SIGINT, &action, &before);
	progress_init(&j.progress, c, j.name);
	r = follow(&j, ret_state);
	sigaction(SIGINT, &before, NULL);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	sd_bus_slot_unref(j.wait_slot);
	sd_bus_slot_unref(j.match_slot);
	sd_bus_slot_unref(j.cancel_slot);
	progress_clear_line(&j.progress);
	json_object_put(j.properties);
	free(j.failure);
	return r;
}
