/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"
#include "service.h"

#define FILE_MAX (16u << 20)

static int open_directory(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int write_all(int fd, const char *text)
{
	size_t n = strlen(text);

	while (n > 0) {
		ssize_t w = write(fd, text, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w < 0 ? -errno : -EIO;
		text += w;
		n -= (size_t)w;
	}
	return 0;
}

int files_write(const char *directory, const char *file, const char *text, bool sync)
{
	int dir = open_directory(directory), fd, r;
	char aside[NAME_MAX + 1];

	if (dir < 0)
		return dir;
	snprintf(aside, sizeof(aside), ".%s.new", file);
	fd = openat(dir, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = -errno;
		close(dir);
		return r;
	}
	r = write_all(fd, text);
	if (r == 0 && sync && fsync(fd) < 0)
		r = -errno;
	close(fd);
	if (r == 0 && renameat(dir, aside, dir, file) < 0)
		r = -errno;
	if (r == 0 && sync && fsync(dir) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir, aside, 0);
	close(dir);
	return r;
}

int files_read(const char *directory, const char *file, char **ret)
{
	int dir = open_directory(directory), fd, r = 0;
	_cleanup_(freep) char *text = NULL;
	struct stat st;
	size_t n = 0;

	if (dir < 0)
		return dir;
	fd = openat(dir, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	close(dir);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = -EINVAL;
	else if (st.st_size > FILE_MAX)
		r = -EFBIG;
	else if (!(text = malloc((size_t)st.st_size + 1)))
		r = -ENOMEM;
	while (r == 0 && n < (size_t)st.st_size) {
		ssize_t got = read(fd, text + n, (size_t)st.st_size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			r = -errno;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	close(fd);
	if (r < 0)
		return r;
	text[n] = 0;
	*ret = TAKE(text);
	return 0;
}

int files_remove(const char *directory, const char *file)
{
	int dir = open_directory(directory), r = 0;

	if (dir < 0)
		return dir;
	if (unlinkat(dir, file, 0) < 0)
		r = errno == ENOENT ? 0 : -errno;
	else if (fsync(dir) < 0)
		r = -errno;
	close(dir);
	return r;
}

int files_remove_directory(const char *directory)
{
	DIR *d = opendir(directory);
	struct dirent *e;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlinkat(dirfd(d), e->d_name, 0) < 0)
			r = -errno;
	closedir(d);
	if (rmdir(directory) < 0)
		r = -errno;
	return r;
}

void files_unlink(const char *directory, const char *file)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", directory, file) < (int)sizeof(path))
		(void)unlink(path);
}

bool files_has(const char *directory, const char *file)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", directory, file) < (int)sizeof(path) && access(path, F_OK) == 0;
}

int files_make_directory(const char *path)
{
	char copy[PATH_MAX];

	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return -ENAMETOOLONG;
	for (char *s = copy + 1; *s; s++)
		if (*s == '/') {
			*s = 0;
			if (mkdir(copy, 0755) < 0 && errno != EEXIST)
				return -errno;
			*s = '/';
		}
	/* What is in there is the guests': nobody else's business. */
	if (mkdir(copy, 0700) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

int files_lock(const char *directory, const char *file, int *ret)
{
	int dir = open_directory(directory), fd, r;

	if (dir < 0)
		return dir;
	fd = openat(dir, file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : 0;
	close(dir);
	if (r < 0)
		return r;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK ? -EAGAIN : -errno;
		close(fd);
		return r;
	}
	*ret = fd;
	return 0;
}

int files_next_run(const char *directory, int *ret)
{
	static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
	_cleanup_(freep) char *text = NULL;
	char next[24];
	long n = 1;
	int r;

	/* Each number once, whichever worker comes first. */
	pthread_mutex_lock(&counting);
	r = files_read(directory, "next-run", &text);
	if (r == -ENOENT)
		r = 0;
	if (text)
		n = strtol(text, NULL, 10);
	if (n < 1 || n >= INT_MAX)
		n = 1;
	snprintf(next, sizeof(next), "%ld\n", n + 1);
	if (r == 0)
		r = files_write(directory, "next-run", next, false);
	pthread_mutex_unlock(&counting);
	if (r == 0)
		*ret = (int)n;
	return r;
}

int files_write_state(const char *directory, int run, const char *phase, const char *word, pid_t pid)
{
	struct json_object *o = json_object_new_object();
	int r;

	json_object_object_add(o, "run", json_object_new_int(run));
	json_object_object_add(o, "phase", json_object_new_string(phase));
	json_object_object_add(o, "word", json_object_new_string(word));
	json_object_object_add(o, "pid", json_object_new_int(pid));
	/* Not synced, as all that is of a run: no run survives a power cut. */
	r = files_write(directory, "state", json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), false);
	json_object_put(o);
	return r;
}

int files_save_state(struct domain *d, const char *phase)
{
	return files_write_state(d->directory, d->run, phase, d->phase == RUN_UP && d->guest ? d->guest->running_word : d->word,
		d->pid);
}

void files_load_state(const char *directory, int *run, char *phase, char *word, pid_t *pid)
{
	_cleanup_(freep) char *text = NULL;
	struct json_object *o = files_read(directory, "state", &text) == 0 ? json_tokener_parse(text) : NULL;
	const char *s;

	*run = (int)json_i(o, "run", 0);
	*pid = (pid_t)json_i(o, "pid", 0);
	s = json_s(o, "phase");
	snprintf(phase, 24, "%s", s ? s : "");
	s = json_s(o, "word");
	snprintf(word, 24, "%s", s ? s : "unknown");
	json_object_put(o);
}

/* Does that process have the lock's file open where we put it? */
static bool holds(pid_t pid, const struct stat *lock, const int numbers[2])
{
	char path[64];
	struct stat st;

	for (size_t i = 0; i < 2 && pid > 0; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, numbers[i]);
		if (stat(path, &st) == 0 && st.st_dev == lock->st_dev && st.st_ino == lock->st_ino)
			return true;
	}
	return false;
}

static const int qemu_numbers[2] = {PROCESS_LOCK_FD, SERVICE_LOCK_FD};
static const int tpm_numbers[2] = {PROCESS_TPM_LOCK_FD, SERVICE_TPM_LOCK_FD};

static int take_holder(pid_t pid, const struct stat *lock, const int numbers[2], pid_t *ret_pid, int *ret_pidfd)
{
	int fd;

	if (!holds(pid, lock, numbers))
		return -ESRCH;
	fd = pidfd_open(pid, 0);
	if (fd < 0)
		return -errno;
	/* Only now is it sure that the descriptor is of the process that holds it. */
	if (!holds(pid, lock, numbers)) {
		close(fd);
		return -ESRCH;
	}
	*ret_pid = pid;
	*ret_pidfd = fd;
	return 0;
}

static int stat_lock(const char *directory, struct stat *ret)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/lock", directory) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	return stat(path, ret) < 0 ? -errno : 0;
}

static int find_holder(const struct stat *lock, const int numbers[2], pid_t *ret_pid, int *ret_pidfd)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	int r = -ESRCH;

	if (!d)
		return -errno;
	while (r < 0 && (e = readdir(d)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
			r = take_holder((pid_t)strtol(e->d_name, NULL, 10), lock, numbers, ret_pid, ret_pidfd);
	closedir(d);
	return r;
}

int files_lock_holder(const char *directory, pid_t hint, pid_t *ret_pid, int *ret_pidfd)
{
	_cleanup_(freep) char *text = NULL;
	struct stat lock;
	int r = stat_lock(directory, &lock);

	if (r < 0)
		return r;
	if (take_holder(hint, &lock, qemu_numbers, ret_pid, ret_pidfd) == 0)
		return 0;
	if (files_read(directory, "pid", &text) == 0 &&
		take_holder((pid_t)strtol(text, NULL, 10), &lock, qemu_numbers, ret_pid, ret_pidfd) == 0)
		return 0;
	return find_holder(&lock, qemu_numbers, ret_pid, ret_pidfd);
}

int files_tpm_holder(const char *directory, int *ret_pidfd)
{
	struct stat lock;
	pid_t pid;
	int r = stat_lock(directory, &lock);

	return r < 0 ? r : find_holder(&lock, tpm_numbers, &pid, ret_pidfd);
}
