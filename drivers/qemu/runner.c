/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "pool.h"
#include "run.h"
#include "util/thread.h"
#include "util/utf8.h"

#define WORDS_MAX 4096

struct runner {
	const struct runner_ops *ops;
	void *userdata;
	int pidfd, out;
	sd_event_source *source, *exit;
	char words[WORDS_MAX]; /* the last of what it said */
	size_t n;
	bool cancelled, eof, exited, copier;
	uint64_t total;
	int status; /* of waitid: 0, or a negative errno */
};

static struct thread_group reapers = THREAD_GROUP_INIT;

static void *reap(void *data)
{
	int pidfd = (int)(intptr_t)data;
	siginfo_t si;

	(void)waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED);
	close(pidfd);
	thread_ended(&reapers);
	return NULL;
}

/* It is dead as soon as the kernel lets it: its disk may hang. The loop does not wait for that. Takes @pidfd. */
static void kill_it(int pidfd)
{
	(void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	if (thread_start(&reapers, reap, (void *)(intptr_t)pidfd) < 0)
		close(pidfd);
}

void runner_free(struct runner *r)
{
	if (!r)
		return;
	sd_event_source_disable_unref(r->source);
	sd_event_source_disable_unref(r->exit);
	if (r->pidfd >= 0 && !r->exited)
		kill_it(r->pidfd);
	else if (r->pidfd >= 0)
		close(r->pidfd);
	if (r->out >= 0)
		close(r->out);
	free(r);
}

void runner_cancel(struct runner *r)
{
	r->cancelled = true;
	(void)pidfd_send_signal(r->pidfd, SIGTERM, NULL, 0);
}

static void check_end(struct runner *r)
{
	_cleanup_(freep) char *words = NULL;
	int error;

	if (!r->eof || !r->exited)
		return;
	error = r->cancelled && r->status < 0 ? -ECANCELED : r->status;
	if (r->copier) {
		/* A report of how it failed stands behind the last of progress. */
		if (error == -EIO && r->n >= sizeof(int))
			memcpy(&error, r->words, sizeof(int));
	} else {
		while (r->n > 0 && (r->words[r->n - 1] == '\n' || r->words[r->n - 1] == '\r'))
			r->n--;
		r->words[r->n] = 0;
		char *line = r->ops->whole ? NULL : strrchr(r->words, '\n');

		words = utf8_dup(line ? line + 1 : r->words);
	}
	r->ops->ended(error, words && *words ? words : NULL, r->userdata);
	runner_free(r);
}

static void read_progress(struct runner *r)
{
	const char *open = NULL;
	double percent;

	/* "    (12.50/100%)\r" */
	for (const char *s = r->words; (s = strchr(s, '(')); s++)
		if (strchr(s, '%'))
			open = s;
	if (open && r->ops->progress && sscanf(open, "(%lf/100%%)", &percent) == 1 && percent >= 0 && percent <= 100)
		r->ops->progress(percent / 100, r->userdata);
}

static int on_output(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct runner *r = userdata;
	char buffer[1024];
	/* A multiple of 8: a copier's numbers are not cut. */
	ssize_t n = read(fd, buffer, sizeof(buffer) - 8);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		r->eof = true;
		(void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
		check_end(r);
		return 0;
	}
	if (r->copier) {
		uint64_t done;

		/* Numbers of 8 bytes, written whole; of 4: an error. */
		for (ssize_t i = 0; i + 8 <= n; i += 8) {
			memcpy(&done, buffer + i, 8);
			if (r->total)
				r->ops->progress((double)done / (double)r->total, r->userdata);
		}
		if (n % 8 == 4) {
			memcpy(r->words, buffer + n - 4, 4);
			r->n = 4;
		}
		return 0;
	}
	if (r->n + (size_t)n >= sizeof(r->words)) {
		size_t keep = sizeof(r->words) / 2;

		if (keep > r->n)
			keep = r->n;
		memmove(r->words, r->words + r->n - keep, keep);
		r->n = keep;
	}
	for (ssize_t i = 0; i < n; i++)
		r->words[r->n++] = buffer[i] ? buffer[i] : '?';
	r->words[r->n] = 0;
	read_progress(r);
	return 0;
}

static int on_exit_io(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct runner *r = userdata;
	siginfo_t si = {0};

	(void)sd_event_source_set_enabled(s, SD_EVENT_OFF);
	if (waitid(P_PIDFD, (id_t)fd, &si, WEXITED | WNOHANG) < 0)
		r->status = -errno;
	else if (si.si_code != CLD_EXITED)
		r->status = -EINTR;
	else
		r->status = si.si_status ? -EIO : 0;
	r->exited = true;
	check_end(r);
	return 0;
}

/* The parent's half, behind fork(). @out: read end; taken. */
static int follow(sd_event *event, pid_t pid, int out, const struct runner_ops *ops, void *userdata, struct runner **ret)
{
	struct runner *r = calloc(1, sizeof(*r));
	int e;

	if (!r) {
		close(out);
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return -ENOMEM;
	}
	r->ops = ops;
	r->userdata = userdata;
	r->out = out;
	r->pidfd = pidfd_open(pid, 0);
	e = r->pidfd < 0 ? -errno : sd_event_add_io(event, &r->source, out, EPOLLIN, on_output, r);
	if (e >= 0)
		e = sd_event_add_io(event, &r->exit, r->pidfd, EPOLLIN, on_exit_io, r);
	if (e < 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		r->exited = true;
		runner_free(r);
		return e;
	}
	*ret = r;
	return 0;
}

static void child_signals(void)
{
	struct sigaction act = {.sa_handler = SIG_DFL};
	sigset_t none;

	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, &act, NULL);
}

int runner_program(sd_event *event, char *const *argv, const struct runner_ops *ops, void *userdata, struct runner **ret)
{
	static char *const environment[] = {(char *)"PATH=/usr/local/bin:/usr/bin:/bin", (char *)"LC_ALL=C", NULL};
	int out[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		int null;

		child_signals();
		null = open("/dev/null", O_RDWR);
		null = fcntl(null, F_DUPFD, 16);
		out[1] = fcntl(out[1], F_DUPFD, 16);
		if (dup2(null, 0) == 0 && dup2(out[1], 1) == 1 && dup2(out[1], 2) == 2) {
			(void)close_range(3, ~0U, 0);
			execve(argv[0], argv, environment);
		}
		_exit(127);
	}
	close(out[1]);
	if (pid < 0) {
		close(out[0]);
		return -errno;
	}
	return follow(event, pid, out[0], ops, userdata, ret);
}

/* In a process of its own: a disk, or the other end of a pipe, may take as long as it likes. Async-signal-safe. */
static _Noreturn void copy(int in, int64_t in_offset, int out, int64_t out_offset, uint64_t length, bool sync, int report)
{
	static char buffer[1 << 20];
	uint64_t done = 0, told = 0;
	int error;

	while (length == 0 || done < length) {
		size_t want = length && length - done < sizeof(buffer) ? (size_t)(length - done) : sizeof(buffer);
		ssize_t n = in < 0 ? (ssize_t)want : in_offset >= 0 ? pread(in, buffer, want, in_offset + (int64_t)done)
								     : read(in, buffer, want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			goto fail;
		if (n == 0)
			break;
		for (ssize_t at = 0; at < n;) {
			ssize_t w = out_offset >= 0 ? pwrite(out, buffer + at, (size_t)(n - at), out_offset + (int64_t)done + at)
						    : write(out, buffer + at, (size_t)(n - at));

			if (w < 0 && errno == EINTR)
				continue;
			if (w < 0)
				goto fail;
			at += w;
		}
		done += (uint64_t)n;
		if (done - told >= 4u << 20) {
			told = done;
			(void)!write(report, &done, sizeof(done));
		}
	}
	if (sync && fsync(out) < 0)
		goto fail;
	_exit(0);
fail:
	error = -errno;
	(void)!write(report, &error, sizeof(error));
	_exit(1);
}

int runner_copy(sd_event *event, int in, int64_t in_offset, int out, int64_t out_offset, uint64_t length, bool sync,
		const struct runner_ops *ops, void *userdata, struct runner **ret)
{
	int report[2], r;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		int fds[] = {in, out, report[1]};

		child_signals();
		(void)signal(SIGPIPE, SIG_IGN);
		if (!process_keep_only(fds, ELEMENTS(fds)))
			_exit(1);
		copy(fds[0], in_offset, fds[1], out_offset, length, sync, fds[2]);
	}
	close(report[1]);
	if (pid < 0) {
		close(report[0]);
		return -errno;
	}
	r = follow(event, pid, report[0], ops, userdata, ret);
	if (r == 0) {
		(*ret)->copier = true;
		(*ret)->total = length;
	}
	return r;
}
