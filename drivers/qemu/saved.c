/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "run.h"
#include "saved.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/utf8.h"

#define PAGE 4096u
#define XML_MAX (4u << 20)

static const char whole[16] = "Vireo-saved-1\r\n";
static const char partial[16] = "Vireo-part-1\r\n\0";

/* Little endian, as everything that x86 guests leave behind. */
struct head {
	char mark[16];
	uint32_t running;
	uint32_t xml_size;
	uint64_t stream; /* offset */
};

static bool part_of(const char *path, char part[static PATH_MAX])
{
	return snprintf(part, PATH_MAX, "%s.part", path) < PATH_MAX;
}

int saved_begin(const char *path, const char *xml, bool running, int *ret, struct failure *f)
{
	char part[PATH_MAX];
	struct head h = {.running = running};
	int fd, r = 0;

	if (!part_of(path, part))
		return failure_set(f, VIREO_INVALID_ARGS, "The path is too long.");
	if (unlink(part) < 0 && errno != ENOENT)
		r = -errno;
	fd = r < 0 ? -1 : open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "%s cannot be made: %s", part, strerror(r < 0 ? -r : errno));
	if (xml) {
		memcpy(h.mark, partial, sizeof(h.mark));
		h.xml_size = (uint32_t)strlen(xml);
		h.stream = (sizeof(h) + h.xml_size + PAGE - 1) / PAGE * PAGE;
		if (pwrite(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) ||
			pwrite(fd, xml, h.xml_size, sizeof(h)) != (ssize_t)h.xml_size || ftruncate(fd, (off_t)h.stream) < 0 ||
			lseek(fd, (off_t)h.stream, SEEK_SET) < 0) {
			r = failure_set(f, VIREO_OPERATION_FAILED, "%s cannot be written: %s", part, strerror(errno));
			close(fd);
			(void)unlink(part);
			return r;
		}
	}
	*ret = fd;
	return 0;
}

int saved_finish(const char *path, int fd, bool head, int *ret_pidfd)
{
	char part[PATH_MAX], directory[PATH_MAX];
	char *slash;
	int dir, r = 0;
	pid_t pid;

	if (!part_of(path, part))
		return -ENAMETOOLONG;
	snprintf(directory, sizeof(directory), "%s", path);
	slash = strrchr(directory, '/');
	if (!slash)
		return -EINVAL;
	slash[slash == directory] = 0;
	dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		int fds[] = {fd, dir};

		/* Async-signal-safe calls only: the parent has threads. */
		if (!process_keep_only(fds, 2))
			_exit(EIO);
		fd = fds[0];
		dir = fds[1];
		if (fsync(fd) < 0 || (head && (pwrite(fd, whole, sizeof(whole), 0) != (ssize_t)sizeof(whole) || fsync(fd) < 0)) ||
			rename(part, path) < 0 || fsync(dir) < 0)
			_exit(errno > 0 && errno < 256 ? errno : EIO);
		_exit(0);
	}
	if (pid < 0)
		r = -errno;
	close(dir);
	if (r < 0)
		return r;
	*ret_pidfd = pidfd_open(pid, 0);
	if (*ret_pidfd < 0) {
		r = -errno;
		(void)waitpid(pid, NULL, 0);
	}
	return r;
}

int saved_result(int pidfd)
{
	siginfo_t si = {0};
	int r = waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED) < 0 ? -errno : 0;

	close(pidfd);
	if (r < 0)
		return r;
	return si.si_code == CLD_EXITED ? -si.si_status : -EINTR;
}

void saved_abandon(const char *path)
{
	char part[PATH_MAX];

	if (part_of(path, part))
		(void)unlink(part);
}

int saved_open(const char *path, int *ret, char **ret_xml, bool *ret_running, struct failure *f)
{
	_cleanup_(freep) char *xml = NULL;
	struct head h;
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;

	if (fd < 0)
		return failure_set(f, errno == ENOENT ? VIREO_NOT_FOUND : VIREO_OPERATION_FAILED, "%s cannot be read: %s", path,
			strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) ||
		(memcmp(h.mark, whole, sizeof(whole)) != 0 && memcmp(h.mark, partial, sizeof(partial)) != 0))
		r = failure_set(f, VIREO_OPERATION_FAILED, "%s is not a domain that this driver saved", path);
	else if (memcmp(h.mark, partial, sizeof(partial)) == 0)
		r = failure_set(f, VIREO_OPERATION_FAILED, "%s is a save that did not come to its end", path);
	else if (h.xml_size > XML_MAX || h.stream < sizeof(h) + h.xml_size || h.stream % PAGE || (off_t)h.stream > st.st_size)
		r = failure_set(f, VIREO_OPERATION_FAILED, "%s is damaged: its head does not fit it", path);
	else {
		xml = malloc(h.xml_size + 1);
		if (!xml)
			r = -ENOMEM;
		else if (pread(fd, xml, h.xml_size, sizeof(h)) != (ssize_t)h.xml_size || lseek(fd, (off_t)h.stream, SEEK_SET) < 0)
			r = failure_set(f, VIREO_OPERATION_FAILED, "%s cannot be read: %s", path, strerror(errno));
		else {
			xml[h.xml_size] = 0;
			*ret = fd;
			*ret_xml = TAKE(xml);
			*ret_running = h.running;
			return 0;
		}
	}
	close(fd);
	return r;
}

void saved_opening_work(void *data)
{
	struct saved_opening *o = data;

	o->error = saved_open(o->path, &o->fd, &o->xml, &o->running, &o->f);
}

void saved_opening_clear(struct saved_opening *o)
{
	failure_clear(&o->f);
	if (o->fd >= 0)
		close(o->fd);
	free(o->xml);
	free(o->path);
}
