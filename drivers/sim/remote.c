/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "json.h"
#include "remote.h"
#include "wire.h"

struct sim_remote {
	char *path;
	sim_post_fn post;
	void (*release)(void *);
	void *userdata;
	int fd, wake_fd;

	pthread_mutex_t lock;
	bool closed;
	struct sim_lines out;

	struct sim_lines in; /* the thread's own */
};

static void remote_free(struct sim_remote *m)
{
	m->release(m->userdata);
	if (m->fd >= 0)
		close(m->fd);
	if (m->wake_fd >= 0)
		close(m->wake_fd);
	sim_lines_done(&m->in);
	sim_lines_done(&m->out);
	pthread_mutex_destroy(&m->lock);
	free(m->path);
	free(m);
}

static int connect_to(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static void goodbye(struct sim_remote *m, char *why)
{
	struct report *r = sim_must(report_new(REPORT_GOODBYE));

	r->goodbye.error = why;
	m->post(m->userdata, r);
}

/* What has come in. Return: false when the other end has said goodbye, or talks nonsense. */
static bool read_reports(struct sim_remote *m)
{
	size_t n = 0;
	char *line;

	while ((line = sim_lines_next(&m->in, &n))) {
		struct json_object *j = NULL;
		struct failure f = {};
		struct report *r = NULL;
		bool last;
		int e = sim_json_parse(line, n, "report", &j, &f);

		if (e == 0)
			e = sim_wire_to_report(j, &r);
		json_object_put(j);
		if (e != 0) {
			goodbye(m, sim_printf("%s: it speaks another language: %s", m->path,
					      f.message ? f.message : "that was no report"));
			failure_clear(&f);
			return false;
		}
		last = r->type == REPORT_GOODBYE;
		m->post(m->userdata, r);
		if (last)
			return false;
	}
	return true;
}

/* Until the end of the connection, or until it is closed. */
static void serve(struct sim_remote *m)
{
	for (;;) {
		struct pollfd fds[2] = {{.fd = m->fd, .events = POLLIN}, {.fd = m->wake_fd, .events = POLLIN}};
		eventfd_t value;
		ssize_t n;
		bool closed;
		int r;

		pthread_mutex_lock(&m->lock);
		closed = m->closed;
		r = sim_lines_write(&m->out, m->fd);
		pthread_mutex_unlock(&m->lock);
		if (closed)
			return;
		if (r == -EAGAIN)
			fds[0].events |= POLLOUT;
		/* what fails here is seen below as the end */
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			(void)eventfd_read(m->wake_fd, &value);
		if (!(fds[0].revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		n = sim_lines_read(&m->in, m->fd);
		if (n > 0 && !read_reports(m))
			return;
		if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) {
			goodbye(m, sim_printf("%s: the connection to the simulated hypervisor was lost%s%s", m->path,
					      n < 0 ? ": " : "", n < 0 ? strerrordesc_np((int)-n) : ""));
			return;
		}
	}
}

static void wait_for_close(struct sim_remote *m)
{
	bool closed = false;

	while (!closed) {
		struct pollfd p = {.fd = m->wake_fd, .events = POLLIN};
		eventfd_t value;

		pthread_mutex_lock(&m->lock);
		closed = m->closed;
		pthread_mutex_unlock(&m->lock);
		if (!closed && poll(&p, 1, -1) > 0)
			(void)eventfd_read(m->wake_fd, &value);
	}
}

static void *remote_thread(void *data)
{
	struct sim_remote *m = data;

	m->fd = connect_to(m->path);
	if (m->fd < 0)
		goodbye(m, sim_printf("%s: no simulated hypervisor: %s", m->path, strerrordesc_np(-m->fd)));
	else
		serve(m);
	wait_for_close(m);
	remote_free(m);
	sim_thread_ended();
	return NULL;
}

/* @w: one JSON object, taken. @fd: goes with it, taken; -1: none */
static void say(struct sim_remote *m, struct writer *w, int fd)
{
	write_literal(w, "\n");
	sim_must(w->failed ? NULL : w->data);
	pthread_mutex_lock(&m->lock);
	if (fd >= 0)
		sim_lines_append_fd(&m->out, fd);
	sim_lines_append(&m->out, w->data, w->size);
	(void)eventfd_write(m->wake_fd, 1);
	pthread_mutex_unlock(&m->lock);
	writer_clear(w);
}

static void say_number(struct sim_remote *m, const char *what, uint64_t n)
{
	struct writer w = {0};

	write_literal(&w, "{");
	write_key(&w, what);
	write_number(&w, n);
	write_literal(&w, "}");
	say(m, &w, -1);
}

int sim_remote_new(const char *path, sim_post_fn post, void (*release)(void *), void *userdata, struct sim_remote **ret)
{
	static const char hello[] = "{\"driver\":1}\n";
	struct sim_remote *m = sim_new(struct sim_remote);
	int r;

	m->path = sim_strdup(path);
	m->post = post;
	m->release = release;
	m->userdata = userdata;
	m->fd = -1;
	pthread_mutex_init(&m->lock, NULL);
	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = m->wake_fd < 0 ? -errno : 0;
	sim_lines_append(&m->out, hello, sizeof(hello) - 1);
	*ret = m;
	if (r == 0)
		r = sim_thread(remote_thread, m);
	if (r < 0) {
		*ret = NULL;
		remote_free(m);
	}
	return r;
}

void sim_remote_list(struct sim_remote *m, uint64_t serial)
{
	say_number(m, "list", serial);
}

void sim_remote_look(struct sim_remote *m, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
	struct writer w = {0};

	write_literal(&w, "{\"look\":{\"kind\":");
	write_number(&w, kind);
	sim_wire_write_uuid(&w, "uuid", uuid);
	write_key(&w, "serial");
	write_number(&w, serial);
	write_literal(&w, "}}");
	say(m, &w, -1);
}

void sim_remote_operate(struct sim_remote *m, struct request *r)
{
	struct writer w = {0};
	int fd = r->fd;

	write_literal(&w, "{\"operate\":");
	sim_wire_write_request(&w, r);
	write_literal(&w, "}");
	/* it goes along with the line */
	r->fd = -1;
	request_free(r);
	say(m, &w, fd);
}

void sim_remote_cancel(struct sim_remote *m, uint64_t token)
{
	say_number(m, "cancel", token);
}

void sim_remote_complete(struct sim_remote *m, uint64_t token)
{
	say_number(m, "complete", token);
}

void sim_remote_close(struct sim_remote *m)
{
	pthread_mutex_lock(&m->lock);
	m->closed = true;
	(void)eventfd_write(m->wake_fd, 1);
	pthread_mutex_unlock(&m->lock);
}
