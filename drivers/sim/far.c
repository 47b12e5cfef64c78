/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "json.h"
#include "migrate.h"
#include "uri.h"
#include "wire.h"

/* The other hypervisor: a step for it, and its answer. */

/* So long it may take to answer. */
#define PATIENCE (10 * USEC_PER_SEC)

/* ---- in this process ----------------------------------------------------------------------------------------- */

/* Counted: the answer may come when nobody waits for it any more. */
struct answer {
	pthread_mutex_t lock;
	pthread_cond_t come;
	unsigned refs;
	bool done;
	struct failure failure;
};

static void answer_unref(struct answer *a)
{
	bool last;

	pthread_mutex_lock(&a->lock);
	last = --a->refs == 0;
	pthread_mutex_unlock(&a->lock);
	if (!last)
		return;
	failure_clear(&a->failure);
	pthread_cond_destroy(&a->come);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

/* Its thread. */
static void on_done(void *userdata, const struct failure *f, struct json_object *answer)
{
	struct answer *a = userdata;

	json_object_put(answer);
	pthread_mutex_lock(&a->lock);
	a->done = true;
	if (f->error != VIREO_OK)
		failure_set(&a->failure, f->error, "%s", f->message);
	pthread_cond_signal(&a->come);
	pthread_mutex_unlock(&a->lock);
	answer_unref(a);
}

static int run_here(struct sim_world *w, struct json_object *step, struct failure *f)
{
	struct answer *a = sim_new(struct answer);
	uint64_t until = sim_now() + PATIENCE;
	struct json_object *steps;
	int r = 0;

	pthread_mutex_init(&a->lock, NULL);
	sim_cond_init(&a->come);
	a->refs = 2;
	pthread_mutex_lock(&w->lock);
	steps = json_object_new_array();
	/* a copy of its own: its thread counts it without a lock */
	json_object_array_add(steps, json_tokener_parse(json_object_to_json_string(step)));
	sim_script_add(w, steps, on_done, a);
	json_object_put(steps);
	pthread_mutex_unlock(&w->lock);

	pthread_mutex_lock(&a->lock);
	while (!a->done && sim_now() < until)
		sim_wait(&a->come, &a->lock, until);
	if (!a->done)
		r = failure_set(f, VIREO_TIMEOUT, "The other hypervisor does not answer.");
	else if (a->failure.error != VIREO_OK)
		r = failure_set(f, a->failure.error, "%s", a->failure.message);
	pthread_mutex_unlock(&a->lock);
	answer_unref(a);
	return r;
}

/* ---- at a socket --------------------------------------------------------------------------------------------- */

static int read_answer(const char *path, int fd, struct sim_lines *in, struct failure *f)
{
	_cleanup_(freep) char *full = NULL;
	struct json_object *j = NULL;
	const char *error;
	char *line;
	size_t n = 0;
	ssize_t got;

	while (!(line = sim_lines_next(in, &n))) {
		got = sim_lines_read(in, fd);
		if (got == 0)
			return failure_set(f, VIREO_OPERATION_FAILED, "%s: the other hypervisor has ended.", path);
		if (got < 0 && got != -EINTR)
			return failure_set(f, got == -EAGAIN ? VIREO_TIMEOUT : VIREO_OPERATION_FAILED,
					   "%s: the other hypervisor does not answer: %s", path, strerrordesc_np((int)-got));
	}
	if (sim_json_parse(line, n, "answer", &j, f) != 0)
		return f ? (int)f->error : VIREO_OPERATION_FAILED;
	error = sim_json_string(j, "error", NULL);
	if (error) {
		full = sim_printf(strcmp(error, "InvalidArgs") == 0 ? "org.freedesktop.DBus.Error.%s" : "org.vireo1.Error.%s", error);
		failure_set(f, vireo_error_from_name(full), "%s", sim_json_string(j, "message", ""));
	}
	json_object_put(j);
	return error ? (int)vireo_error_from_name(full) : 0;
}

static int run_at_socket(const char *path, struct json_object *step, struct failure *f)
{
	struct timeval patience = {.tv_sec = (time_t)(PATIENCE / USEC_PER_SEC)};
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct sim_lines out = {}, in = {};
	int fd, r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return failure_set(f, VIREO_INVALID_URI, "%s: the path of a socket has at most %zu bytes.", path,
				   sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		r = failure_set(f, VIREO_OPERATION_FAILED, "%s: the other hypervisor cannot be reached: %m", path);
		if (fd >= 0)
			close(fd);
		return r;
	}
	sim_lines_append_json(&out, step);
	r = sim_lines_write(&out, fd);
	/* a step is short: there is room for it */
	r = r < 0 ? failure_set(f, VIREO_OPERATION_FAILED, "%s: the other hypervisor cannot be asked: %s", path,
				strerrordesc_np(-r))
		  : read_answer(path, fd, &in, f);
	sim_lines_done(&out);
	sim_lines_done(&in);
	close(fd);
	return r;
}

/* ---- either -------------------------------------------------------------------------------------------------- */

int sim_far_open(const char *uri, struct sim_far *ret, struct failure *f)
{
	struct sim_uri u = {};
	int r = sim_uri_parse(uri, &u, f);

	*ret = (struct sim_far){};
	if (r != 0)
		return r;
	if (sim_uri_is_socket(&u))
		ret->path = TAKE(u.path);
	else
		r = sim_uri_world(uri, &u, &ret->world, f);
	if (r < 0)
		r = failure_set(f, VIREO_OPERATION_FAILED, "%s: %s", uri, strerrordesc_np(-r));
	sim_uri_done(&u);
	return r;
}

void sim_far_close(struct sim_far *far)
{
	if (far->world)
		sim_world_release(far->world);
	free(far->path);
	*far = (struct sim_far){};
}

int sim_far_run(const struct sim_far *far, struct json_object *step, struct failure *f)
{
	return far->path ? run_at_socket(far->path, step, f) : run_here(far->world, step, f);
}
