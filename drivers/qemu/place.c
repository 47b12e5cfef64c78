/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "attach.h"

/* ---- URIs --------------------------------------------------------------------------------------------------- */

int attach_parse_uri(const char *uri, char **ret_directory, char **ret_only, struct failure *f)
{
	_cleanup_(freep) char *path = NULL;
	const char *p = uri + 4;
	bool directory = strncmp(p, "//", 2) == 0;
	char *slash;
	size_t n;

	if (directory) {
		p += 2;
		if (*p != '/')
			return failure_set(f, VIREO_INVALID_URI,
				"monitors of other machines are out of reach: qmp:///DIRECTORY has three slashes");
	}
	if (*p != '/')
		return failure_set(f, VIREO_INVALID_URI,
			"it takes an absolute path: qmp:///DIRECTORY, or qmp:/PATH/OF/SOCKET");
	if (strpbrk(p, "?#"))
		return failure_set(f, VIREO_INVALID_URI, "it takes no query and no fragment, and '%c' begins one",
			*strpbrk(p, "?#"));
	if (strstr(p, "/../") || (strlen(p) >= 3 && strcmp(p + strlen(p) - 3, "/..") == 0))
		return failure_set(f, VIREO_INVALID_URI, "its path must not contain '..'");
	path = strdup(p);
	if (!path)
		return -ENOMEM;
	n = strlen(path);
	if (!directory && path[n - 1] == '/')
		return failure_set(f, VIREO_INVALID_URI, "that is a directory: qmp:///DIRECTORY has three slashes");
	for (; n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = 0;
	if (attach_is_libvirts(path))
		return failure_set(f, VIREO_INVALID_URI,
			"the monitors below %s are libvirt's own: ask libvirt for them, by qemu:///system", path);
	if (directory) {
		*ret_directory = TAKE(path);
		*ret_only = NULL;
		return 0;
	}
	slash = strrchr(path, '/');
	char *only = strdup(slash + 1);

	if (!only)
		return -ENOMEM;
	if (slash == path)
		slash++;
	*slash = 0;
	*ret_directory = TAKE(path);
	*ret_only = only;
	return 0;
}

static bool is_below(const char *path, const char *directory)
{
	size_t n = strlen(directory);

	return strncmp(path, directory, n) == 0 && (path[n] == 0 || path[n] == '/');
}

bool attach_is_libvirts(const char *path)
{
	static const char *const system[] = {"/var/lib/libvirt", "/run/libvirt", "/var/run/libvirt", "/var/cache/libvirt"};
	static const char *const user[] = {".config/libvirt", ".cache/libvirt", ".local/share/libvirt"};
	const char *home = getenv("HOME"), *rest;

	for (size_t i = 0; i < ELEMENTS(system); i++)
		if (is_below(path, system[i]))
			return true;
	for (size_t i = 0; home && i < ELEMENTS(user); i++) {
		char full[PATH_MAX];

		if (snprintf(full, sizeof(full), "%s/%s", home, user[i]) < (int)sizeof(full) && is_below(path, full))
			return true;
	}
	/* /run/user/1000/libvirt */
	if (is_below(path, "/run/user") && path[9] == '/') {
		rest = strchr(path + 10, '/');
		if (rest && is_below(rest, "/libvirt"))
			return true;
	}
	return false;
}

sd_id128_t attach_derive_uuid(const char *directory, const char *file)
{
	static const sd_id128_t app = SD_ID128_MAKE(8b, 1f, 0d, 62, 3c, 94, 4e, 57, a1, 70, 5d, 2e, c8, 46, f9, 03);
	sd_id128_t machine, id;
	uint8_t hash[SHA256_DIGEST_LENGTH];
	SHA2_CTX ctx;

	/* A machine without an id has a name at least. */
	if (sd_id128_get_machine_app_specific(app, &machine) < 0) {
		memset(&machine, 0, sizeof(machine));
		(void)gethostname((char *)machine.bytes, sizeof(machine.bytes));
	}
	SHA256Init(&ctx);
	SHA256Update(&ctx, machine.bytes, sizeof(machine.bytes));
	SHA256Update(&ctx, (const uint8_t *)directory, strlen(directory));
	SHA256Update(&ctx, (const uint8_t *)"/", 1);
	SHA256Update(&ctx, (const uint8_t *)file, strlen(file));
	SHA256Final(hash, &ctx);
	memcpy(id.bytes, hash, sizeof(id.bytes));
	/* Version 8 (free for own use) of the usual variant, so that everybody's parser takes it. */
	id.bytes[6] = (id.bytes[6] & 0x0f) | 0x80;
	id.bytes[8] = (id.bytes[8] & 0x3f) | 0x80;
	return id;
}

/* ---- sockets ------------------------------------------------------------------------------------------------ */

int attach_connect(const char *directory, const char *file, int *ret_fd, pid_t *ret_pid, const char **ret_why)
{
	char path[PATH_MAX], proc[64], real[PATH_MAX];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred cred = {0};
	socklen_t size = sizeof(cred);
	struct stat st;
	int at, fd, r;
	ssize_t n;

	if (snprintf(path, sizeof(path), "%s/%s", directory, file) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	/* What was looked at is what is connected to, however long its path. */
	at = open(path, O_PATH | O_CLOEXEC);
	if (at < 0)
		return -errno;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", at);
	n = readlink(proc, real, sizeof(real) - 1);
	if (fstat(at, &st) < 0 || n < 0) {
		r = -errno;
		goto out;
	}
	real[n] = 0;
	r = -EPERM;
	if (!S_ISSOCK(st.st_mode)) {
		*ret_why = "it is no socket";
		goto out;
	}
	if (attach_is_libvirts(real)) {
		*ret_why = "it leads to a monitor of libvirt's own";
		goto out;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	strcpy(address.sun_path, proc);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		close(fd);
		goto out;
	}
	*ret_pid = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0 && cred.pid > 0 ? cred.pid : 0;
	*ret_fd = fd;
	r = 0;
out:
	close(at);
	return r;
}

/* ---- directories -------------------------------------------------------------------------------------------- */

struct attach_watch {
	char *directory;
	const struct attach_watch_ops *ops;
	void *userdata;
	sd_event_source *source, *parent;
	char *base; /* name within its parent */
	bool lost;
};

static void lose(struct attach_watch *w, const char *why)
{
	if (w->lost)
		return;
	w->lost = true;
	(void)sd_event_source_set_enabled(w->source, SD_EVENT_OFF);
	if (w->parent)
		(void)sd_event_source_set_enabled(w->parent, SD_EVENT_OFF);
	w->ops->lost(why, w->userdata);
}

static int on_inotify(sd_event_source *s, const struct inotify_event *e, void *userdata)
{
	struct attach_watch *w = userdata;

	if (w->lost)
		return 0;
	if (e->mask & IN_Q_OVERFLOW)
		attach_watch_scan(w);
	else if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED))
		lose(w, "the directory went away");
	else if (e->len > 0)
		w->ops->file(e->name,
			e->mask & (IN_DELETE | IN_MOVED_FROM) ? ATTACH_FILE_GONE : ATTACH_FILE_CHANGED, w->userdata);
	return 0;
}

/* A directory that a socket within it still holds says nothing when it is removed; its parent does. */
static int on_parent(sd_event_source *s, const struct inotify_event *e, void *userdata)
{
	struct attach_watch *w = userdata;

	if (!w->lost && e->len > 0 && strcmp(e->name, w->base) == 0)
		lose(w, "the directory went away");
	return 0;
}

int attach_watch_new(sd_event *event, const char *directory, const struct attach_watch_ops *ops, void *userdata,
		     struct attach_watch **ret, const char **ret_why)
{
	struct attach_watch *w;
	char real[PATH_MAX];
	struct stat st;
	int r;

	if (!realpath(directory, real) || stat(real, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode)) {
		*ret_why = "it is no directory";
		return -ENOTDIR;
	}
	if (attach_is_libvirts(real)) {
		*ret_why = "it leads to libvirt's own directories";
		return -EPERM;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->directory = strdup(directory);
	w->ops = ops;
	w->userdata = userdata;
	r = w->directory ? sd_event_add_inotify(event, &w->source, real,
				   IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF |
					   IN_MOVE_SELF | IN_ONLYDIR,
				   on_inotify, w)
			 : -ENOMEM;
	if (r < 0) {
		attach_watch_free(w);
		return r;
	}
	(void)sd_event_source_set_description(w->source, "monitors");
	char *slash = strrchr(real, '/');

	if (slash[1]) {
		w->base = strdup(slash + 1);
		slash[slash == real] = 0;
		/* Where that cannot be watched, the next listing finds out. */
		if (w->base)
			(void)sd_event_add_inotify(event, &w->parent, real, IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR, on_parent, w);
	}
	*ret = w;
	return 0;
}

void attach_watch_free(struct attach_watch *w)
{
	if (!w)
		return;
	sd_event_source_disable_unref(w->source);
	sd_event_source_disable_unref(w->parent);
	free(w->base);
	free(w->directory);
	free(w);
}

void attach_watch_scan(struct attach_watch *w)
{
	DIR *d;
	struct dirent *e;

	if (!w || w->lost)
		return;
	d = opendir(w->directory);
	if (!d) {
		lose(w, strerror(errno));
		return;
	}
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			w->ops->file(e->d_name, ATTACH_FILE_THERE, w->userdata);
	closedir(d);
}
