/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "util/utf8.h"

/* The address of a file that may have a long path: through a descriptor of its directory. */
static int address_of(const char *directory, const char *file, struct sockaddr_un *ret, int *ret_dir)
{
	int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dir, file) >= (int)sizeof(ret->sun_path)) {
		close(dir);
		return -ENAMETOOLONG;
	}
	*ret_dir = dir;
	return 0;
}

int process_connect(const char *directory, const char *file, int *ret)
{
	struct sockaddr_un address;
	int dir, fd, r = address_of(directory, file, &address, &dir);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		if (fd >= 0)
			close(fd);
	} else
		*ret = fd;
	close(dir);
	return r;
}

int process_listen(const char *directory, const char *file, int *ret)
{
	struct sockaddr_un address;
	int dir, fd, r = address_of(directory, file, &address, &dir);

	if (r < 0)
		return r;
	(void)unlinkat(dir, file, 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* The file gets the socket's mode; the process's umask is not this thread's to change. */
	if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
		r = -errno;
	close(dir);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return r;
	}
	*ret = fd;
	return 0;
}

void process_end_tpm(const char *directory)
{
	/* swtpm's CMD_SHUTDOWN. One that serves a QEMU does not hear it, and ends with that. */
	static const char command[4] = {0, 0, 0, 3};
	int fd;

	if (process_connect(directory, "tpm", &fd) < 0)
		return;
	(void)send(fd, command, sizeof(command), MSG_NOSIGNAL);
	close(fd);
}

int process_monitor(const char *directory, const char *file, int *ret_listener, int *ret_connected)
{
	int r = process_listen(directory, file, ret_listener);

	if (r < 0)
		return r;
	/* In the queue before QEMU is there: nobody else can be first. */
	r = process_connect(directory, file, ret_connected);
	if (r < 0)
		close(*ret_listener);
	return r;
}

bool process_keep_only(int *fds, size_t n)
{
	/* Above those that are about to be filled, so that none is overwritten before it was moved. */
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0 && (fds[i] = fcntl(fds[i], F_DUPFD, 16)) < 0)
			return false;
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0 && (fds[i] = dup2(fds[i], 3 + (int)i)) < 0)
			return false;
		else if (fds[i] < 0)
			(void)close(3 + (int)i);
	return close_range(3 + (unsigned)n, ~0U, 0) == 0;
}

/* Between fork() and execve() of a process with threads: async-signal-safe calls only. */
static _Noreturn void child(const struct process *p, char *const *environment, int log, int report)
{
	int socket = p->socket, lock = p->lock;
	struct sigaction act = {.sa_handler = SIG_DFL};
	sigset_t none;
	int error, null;
	pid_t pid;

	/* Twice, so that it is nobody's child who would have to wait for it: it outlives us anyway. */
	(void)setsid();
	pid = _Fork();
	if (pid != 0) {
		(void)!write(report, &pid, sizeof(pid));
		_exit(pid < 0);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, &act, NULL);
	(void)chdir("/");
	(void)umask(0077);
	null = open("/dev/null", O_RDWR);
	/* Above those that are about to be filled, so that none is overwritten before it was moved. */
	socket = fcntl(socket, F_DUPFD, 16);
	lock = fcntl(lock, F_DUPFD, 16);
	log = fcntl(log, F_DUPFD, 16);
	report = fcntl(report, F_DUPFD, 16);
	null = fcntl(null, F_DUPFD, 16);
	if (dup2(null, 0) == 0 && dup2(log, 1) == 1 && dup2(log, 2) == 2 &&
		dup2(socket, PROCESS_MONITOR_FD) == PROCESS_MONITOR_FD && dup2(lock, p->lock_fd) == p->lock_fd &&
		dup2(report, PROCESS_REPORT_FD) == PROCESS_REPORT_FD) {
		(void)close_range(PROCESS_REPORT_FD + 1, ~0U, 0);
		(void)fcntl(PROCESS_REPORT_FD, F_SETFD, FD_CLOEXEC);
		/* Nothing else of ours goes along. */
		(void)close(p->lock_fd == PROCESS_LOCK_FD ? PROCESS_TPM_LOCK_FD : PROCESS_LOCK_FD);
		report = PROCESS_REPORT_FD;
		execve(p->argv[0], p->argv, environment);
	}
	error = errno;
	(void)!write(report, &error, sizeof(error));
	_exit(127);
}

int process_log(const char *directory, const char *file)
{
	char path[PATH_MAX];
	int log;

	if (snprintf(path, sizeof(path), "%s/%s", directory, file) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log < 0)
		return -errno;
	/* Only the words of this run. */
	(void)!ftruncate(log, 0);
	return log;
}

int process_spawn(const struct process *p, pid_t *ret_pid)
{
	char home[PATH_MAX + 8];
	char *const environment[] = {(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C",
		home, p->environment, NULL};
	int log, report[2], error = 0, r = 0;
	pid_t pid;

	snprintf(home, sizeof(home), "HOME=%s", p->directory);
	log = process_log(p->directory, p->log);
	if (log < 0)
		return log;
	if (pipe2(report, O_CLOEXEC) < 0) {
		r = -errno;
		close(log);
		return r;
	}
	pid = fork();
	if (pid == 0)
		child(p, environment, log, report[1]);
	if (pid < 0)
		r = -errno;
	close(log);
	close(report[1]);
	if (r == 0) {
		(void)waitpid(pid, NULL, 0);
		if (read(report[0], &pid, sizeof(pid)) != (ssize_t)sizeof(pid) || pid <= 0)
			r = -EAGAIN;
		/* Ends with execve(): a moment, and no way to hang. */
		else if (read(report[0], &error, sizeof(error)) == (ssize_t)sizeof(error))
			r = -error;
	}
	if (r == 0)
		*ret_pid = pid;
	close(report[0]);
	return r;
}

char *process_last_words(const char *directory)
{
	_cleanup_(freep) char *text = NULL;
	char *line, *words = NULL, *save = NULL;

	if (files_read(directory, "log", &text) < 0)
		return NULL;
	/* The last line that is no warning; they come with a time and the program's name before them. */
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *said = strstr(line, "qemu-system-");

		if (!*line || strstr(line, "warning:"))
			continue;
		if (said && strstr(said, ": "))
			line = strstr((char *)said, ": ") + 2;
		free(words);
		words = utf8_dup(line);
	}
	return words;
}
