/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "json.h"
#include "server.h"
#include "util/log.h"
#include "wire.h"

/* A session that is so far ahead of its reader waits. */
#define UNSENT_MAX ((size_t)4 << 20)
/* Of memory for reports, kept from one to the next. */
#define WORDS_KEPT ((size_t)64 << 10)
/* A line longer than this is no request. */
#define LINE_MAX ((size_t)16 << 20)

/* One who has connected. Counted: the server's thread, its session and its request each hold it. */
struct client {
	atomic_uint refs;
	struct sim_server *server; /* valid while !closed */
	int fd;
	struct sim_lines in;	     /* server's thread */
	struct sim_session *session; /* server's thread; of a driver */
	bool eof;		     /* server's thread: nothing more comes, but answers may go */

	pthread_mutex_t lock;
	pthread_cond_t room;
	bool closed;
	bool busy; /* a request is under way: the next one waits */
	bool wants_write;
	struct sim_lines out;
	struct writer words;	/* of the report that comes next */
	struct json_object *id; /* of the request under way */
};

struct sim_server {
	struct sim_world *world;
	char *path;
	int listen_fd, wake_fd;
	pthread_t thread;
	atomic_bool stop;
	struct client **clients;
	size_t n;
};

/* ---- clients ------------------------------------------------------------------------------------------------------ */

static void client_unref(struct client *c)
{
	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	close(c->fd);
	sim_lines_done(&c->in);
	sim_lines_done(&c->out);
	writer_clear(&c->words);
	json_object_put(c->id);
	pthread_cond_destroy(&c->room);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static struct client *client_ref(struct client *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

static void wake_server(struct sim_server *s)
{
	(void)eventfd_write(s->wake_fd, 1);
}

/* Locked; the connection may be closed by now. */
static void queued(struct client *c)
{
	if (c->wants_write)
		return;
	c->wants_write = true;
	wake_server(c->server);
}

/* Any thread. */
static void client_send(struct client *c, struct json_object *j)
{
	pthread_mutex_lock(&c->lock);
	if (!c->closed) {
		sim_lines_append_json(&c->out, j);
		queued(c);
	}
	pthread_mutex_unlock(&c->lock);
	json_object_put(j);
}

/* Any thread. Waits until there is room. */
static void client_report(struct client *c, const struct report *r)
{
	pthread_mutex_lock(&c->lock);
	while (!c->closed && c->out.n - c->out.at > UNSENT_MAX)
		pthread_cond_wait(&c->room, &c->lock);
	if (!c->closed) {
		writer_reset(&c->words, WORDS_KEPT);
		sim_wire_write_report(&c->words, r);
		sim_must(c->words.failed ? NULL : c->words.data);
		sim_lines_append(&c->out, c->words.data, c->words.size);
		queued(c);
	}
	pthread_mutex_unlock(&c->lock);
}

/* ---- requests ----------------------------------------------------------------------------------------------------- */

static void send_failure(struct client *c, struct json_object *id, const struct failure *f)
{
	struct json_object *j = json_object_new_object();
	const char *name = vireo_error_name(f->error), *dot = strrchr(name, '.');

	if (id)
		json_object_object_add(j, "id", json_object_get(id));
	json_object_object_add(j, "error", json_object_new_string(dot ? dot + 1 : name));
	json_object_object_add(j, "message", json_object_new_string(f->message ? f->message : ""));
	client_send(c, j);
}

/* World's thread; its lock is held. */
static void request_done(void *userdata, const struct failure *f, struct json_object *answer)
{
	struct client *c = userdata;

	if (f->error != VIREO_OK) {
		send_failure(c, c->id, f);
		json_object_put(answer);
	} else {
		struct json_object *j = json_object_new_object();

		if (c->id)
			json_object_object_add(j, "id", json_object_get(c->id));
		json_object_object_add(j, "ok", json_object_new_boolean(true));
		if (answer)
			json_object_object_add(j, "answer", answer);
		client_send(c, j);
	}
	pthread_mutex_lock(&c->lock);
	c->busy = false;
	/* the next line may be here already */
	if (!c->closed)
		wake_server(c->server);
	pthread_mutex_unlock(&c->lock);
	client_unref(c);
}

static void do_control(struct sim_server *s, struct client *c, struct json_object *j)
{
	struct json_object *steps, *id = sim_json_get(j, "id"), *run = sim_json_get(j, "run");
	struct failure f = {};
	int r;

	json_object_put(c->id);
	c->id = json_object_get(id);
	json_object_object_del(j, "id");
	if (run && json_object_object_length(j) == 1)
		/* {"run": [steps]} */
		steps = json_object_get(run);
	else {
		steps = json_object_new_array();
		json_object_array_add(steps, json_object_get(j));
	}
	r = sim_steps_check(steps, "request", &f);
	if (r != 0) {
		send_failure(c, c->id, &f);
		failure_clear(&f);
		json_object_put(steps);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->busy = true;
	pthread_mutex_unlock(&c->lock);
	pthread_mutex_lock(&s->world->lock);
	sim_script_add(s->world, steps, request_done, client_ref(c));
	/* the tree is the world's thread's from here on, and counted without a lock */
	json_object_put(steps);
	pthread_mutex_unlock(&s->world->lock);
}

static void post(void *userdata, struct report *r)
{
	struct client *c = userdata;

	client_report(c, r);
	report_free(r);
}

static void release(void *userdata)
{
	client_unref(userdata);
}

/* Return: false when it talks nonsense. */
static bool do_driver(struct client *c, struct json_object *j)
{
	struct json_object *list = sim_json_get(j, "list"), *look = sim_json_get(j, "look");
	struct json_object *operate = sim_json_get(j, "operate"), *token = sim_json_get(j, "cancel");
	struct json_object *ready = sim_json_get(j, "complete");
	struct request *request = NULL;

	if (list)
		sim_session_list(c->session, json_object_get_uint64(list));
	else if (json_object_is_type(look, json_type_object)) {
		int kind = (int)sim_json_number(look, "kind", 0);

		if (kind < KIND_DOMAIN || kind > KIND_NETWORK)
			return false;
		sim_session_look(c->session, (enum kind)kind, sim_wire_to_uuid(look, "uuid"),
				 sim_json_number(look, "serial", 0));
	} else if (operate) {
		if (sim_wire_to_request(operate, &c->in, &request) < 0)
			return false;
		sim_session_operate(c->session, request);
	} else if (token)
		sim_session_cancel(c->session, json_object_get_uint64(token));
	else if (ready)
		sim_session_complete(c->session, json_object_get_uint64(ready));
	else
		return false;
	return true;
}

/* Return: false when the client has to go. */
static bool do_line(struct sim_server *s, struct client *c, const char *line, size_t n)
{
	struct json_object *j = NULL;
	struct failure f = {};
	bool go_on = true;

	if (sim_json_parse(line, n, "request", &j, &f) != 0) {
		send_failure(c, NULL, &f);
		failure_clear(&f);
		/* a person may try again; a driver that is out of step can't */
		return !c->session;
	}
	if (c->session)
		go_on = do_driver(c, j);
	else if (sim_json_get(j, "driver")) {
		struct sim_world *w = sim_world_find(s->world->key);

		/* it ends just now: so does this */
		go_on = w && sim_session_new(w, post, release, client_ref(c), &c->session) == 0;
	} else if (json_object_is_type(j, json_type_object)) {
		do_control(s, c, j);
		/* the script may still use a part of it, and its thread count it */
		pthread_mutex_lock(&s->world->lock);
		json_object_put(j);
		pthread_mutex_unlock(&s->world->lock);
		return true;
	} else {
		failure_set(&f, VIREO_INVALID_ARGS, "request: expected an object.");
		send_failure(c, NULL, &f);
		failure_clear(&f);
	}
	json_object_put(j);
	return go_on;
}

static bool is_busy(struct client *c)
{
	bool busy;

	pthread_mutex_lock(&c->lock);
	busy = c->busy;
	pthread_mutex_unlock(&c->lock);
	return busy;
}

/* ---- the thread --------------------------------------------------------------------------------------------------- */

static void drop_client(struct sim_server *s, size_t i)
{
	struct client *c = s->clients[i];

	s->clients[i] = s->clients[--s->n];
	if (c->session)
		sim_session_close(c->session);
	pthread_mutex_lock(&c->lock);
	c->closed = true;
	pthread_cond_broadcast(&c->room);
	pthread_mutex_unlock(&c->lock);
	/* others may hold it for a while: the peer should know now */
	shutdown(c->fd, SHUT_RDWR);
	client_unref(c);
}

static void accept_client(struct sim_server *s)
{
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;

	if (fd < 0)
		return;
	c = sim_new(struct client);
	atomic_init(&c->refs, 1);
	c->server = s;
	c->fd = fd;
	pthread_mutex_init(&c->lock, NULL);
	sim_cond_init(&c->room);
	s->clients = sim_must(reallocarray(s->clients, s->n + 1, sizeof(c)));
	s->clients[s->n++] = c;
}

/* Return: false when it is over. */
static bool serve_client(struct sim_server *s, struct client *c, short revents)
{
	size_t n = 0;
	char *line;
	int r = 0;

	if (revents & (POLLIN | POLLHUP | POLLERR)) {
		ssize_t got = sim_lines_read(&c->in, c->fd);

		if ((got < 0 && got != -EAGAIN && got != -EINTR) || c->in.n - c->in.at > LINE_MAX)
			return false;
		if (got == 0 && ((revents & (POLLHUP | POLLERR)) || c->session))
			return false;
		c->eof = got == 0;
	}
	while (!is_busy(c) && (line = sim_lines_next(&c->in, &n)))
		if (n > 0 && !do_line(s, c, line, n))
			return false;
	pthread_mutex_lock(&c->lock);
	if (c->wants_write) {
		r = sim_lines_write(&c->out, c->fd);
		c->wants_write = r == -EAGAIN;
		if (c->out.n - c->out.at <= UNSENT_MAX)
			pthread_cond_broadcast(&c->room);
	}
	/* whoever has sent all its requests and closed its side gets its answers first */
	if (c->eof && !c->busy && c->out.n == c->out.at)
		r = -EPIPE;
	pthread_mutex_unlock(&c->lock);
	return r == 0 || r == -EAGAIN;
}

static void *server_thread(void *data)
{
	struct sim_server *s = data;

	pthread_setname_np(pthread_self(), "sim-server");
	while (!atomic_load(&s->stop)) {
		struct pollfd *fds = sim_must(calloc(s->n + 2, sizeof(*fds)));
		size_t n = s->n;
		eventfd_t value;

		fds[0] = (struct pollfd){.fd = s->listen_fd, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = s->wake_fd, .events = POLLIN};
		for (size_t i = 0; i < n; i++) {
			struct client *c = s->clients[i];

			fds[2 + i].fd = c->fd;
			pthread_mutex_lock(&c->lock);
			/* one that waits for its answer is not read from, so that it cannot fill memory */
			fds[2 + i].events = (c->busy || c->eof ? 0 : POLLIN) | (c->wants_write ? POLLOUT : 0);
			pthread_mutex_unlock(&c->lock);
		}
		if (poll(fds, n + 2, -1) < 0 && errno != EINTR)
			log_error("The simulated hypervisor's socket: %m");
		if (fds[1].revents)
			(void)eventfd_read(s->wake_fd, &value);
		/* backwards: dropping one moves the last into its place */
		for (size_t i = n; i-- > 0;)
			if (!serve_client(s, s->clients[i], fds[2 + i].revents))
				drop_client(s, i);
		if (fds[0].revents & POLLIN)
			accept_client(s);
		free(fds);
	}
	while (s->n > 0)
		drop_client(s, s->n - 1);
	return NULL;
}

/* ---- the socket --------------------------------------------------------------------------------------------------- */

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* Is a socket file left behind by one that is dead? Then it goes. 0, or what is against it (errno). */
static int clear_path(const struct sockaddr_un *sa)
{
	struct stat st;
	int fd, r = 0;

	if (lstat(sa->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return 0;
	fd = new_socket();
	if (fd < 0)
		return -fd;
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN)
		r = EADDRINUSE;
	else if (unlink(sa->sun_path) < 0)
		r = errno;
	close(fd);
	return r;
}

static int listen_on(const char *path, int *ret_fd, struct failure *f)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = -1, e;

	if (strlen(path) >= sizeof(sa.sun_path))
		return failure_set(f, VIREO_INVALID_ARGS, "%s: the path of a socket has at most %zu bytes.", path,
				   sizeof(sa.sun_path) - 1);
	strcpy(sa.sun_path, path);
	e = clear_path(&sa);
	if (e == 0) {
		fd = new_socket();
		e = fd < 0 ? -fd : 0;
	}
	/* nobody can connect before listen(), so the mode is right from the first moment */
	if (e == 0 && (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(path, 0600) < 0 || listen(fd, 64) < 0))
		e = errno;
	if (e != 0) {
		if (fd >= 0)
			close(fd);
		return failure_set(f, VIREO_INVALID_ARGS, "%s: it cannot be listened on: %s.", path, strerrordesc_np(e));
	}
	*ret_fd = fd;
	return 0;
}

int sim_server_new(struct sim_world *w, const char *path, struct sim_server **ret, struct failure *f)
{
	struct sim_server *s;
	int fd = -1, r;

	r = listen_on(path, &fd, f);
	if (r != 0)
		return r;
	s = sim_new(struct sim_server);
	s->world = w;
	s->path = sim_strdup(path);
	s->listen_fd = fd;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_init(&s->stop, false);
	r = s->wake_fd < 0 ? errno : pthread_create(&s->thread, NULL, server_thread, s);
	if (r != 0) {
		failure_set(f, VIREO_OPERATION_FAILED, "%s: %s.", path, strerrordesc_np(r));
		unlink(path);
		close(s->listen_fd);
		if (s->wake_fd >= 0)
			close(s->wake_fd);
		free(s->path);
		free(s);
		return VIREO_OPERATION_FAILED;
	}
	*ret = s;
	return 0;
}

void sim_server_free(struct sim_server *s)
{
	atomic_store(&s->stop, true);
	wake_server(s);
	pthread_join(s->thread, NULL);
	unlink(s->path);
	close(s->listen_fd);
	close(s->wake_fd);
	free(s->clients);
	free(s->path);
	free(s);
}
