/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "guest.h"

/* Where monitors are: URIs, directories, sockets. Nothing here speaks QMP. */

/*
 * attach_parse_uri() - "qmp:///run/vms" is a directory, "qmp:/run/vms/web.sock" one socket
 * @ret_only: NULL for a directory
 * Return: 0, VIREO_INVALID_URI, or -ENOMEM
 */
int attach_parse_uri(const char *uri, char **ret_directory, char **ret_only, struct failure *f);

/* libvirt's own directories, and whatever lies below them: its monitors are its alone. @path: absolute. */
bool attach_is_libvirts(const char *path);

/*
 * attach_connect() - connect to a socket of the directory, if it is one that may be touched
 * @ret_pid: who listens; 0 when nobody can tell
 * @ret_why: static text when it must not be touched (-EPERM), else untouched
 *
 * Never blocks: a queue that is full is -EAGAIN. Return: 0; a negative errno.
 */
int attach_connect(const char *directory, const char *file, int *ret_fd, pid_t *ret_pid, const char **ret_why);

/* The same for this machine and path for ever, and another for any other. */
sd_id128_t attach_derive_uuid(const char *directory, const char *file);

/* A directory, watched. */
struct attach_watch;
enum attach_file {
	ATTACH_FILE_THERE,   /* found by a scan */
	ATTACH_FILE_CHANGED, /* appeared, was renamed to that name, or changed */
	ATTACH_FILE_GONE,
};
struct attach_watch_ops {
	void (*file)(const char *file, enum attach_file what, void *userdata);
	/* The directory itself went away, or cannot be watched any more. Once. */
	void (*lost)(const char *why, void *userdata);
};
int attach_watch_new(sd_event *event, const char *directory, const struct attach_watch_ops *ops, void *userdata,
		     struct attach_watch **ret, const char **ret_why);
void attach_watch_free(struct attach_watch *w);
/* file() for everything that is there now. */
void attach_watch_scan(struct attach_watch *w);
