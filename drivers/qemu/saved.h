/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "util/error.h"

#include <stdbool.h>

/*
 * Files of saved domains: a head with the description, then QEMU's own stream, from a page's boundary on. While it is
 * being written the file has another name and another mark; it gets both when everything is on the disk.
 */

/*
 * saved_begin() - make PATH.part, with its head; the descriptor stands where QEMU goes on
 * @xml: description; NULL: no head at all, only a file
 */
int saved_begin(const char *path, const char *xml, bool running, int *ret, struct failure *f);

/*
 * saved_finish() - put it on the disk, mark it whole, give it its name. Takes as long as the disk takes, so a process of
 * its own does it; its end is told by @ret_pidfd, and saved_result() says how it was.
 * @fd: borrowed
 */
int saved_finish(const char *path, int fd, bool head, int *ret_pidfd);
/* 0, or a negative errno. Closes @pidfd. */
int saved_result(int pidfd);
/* PATH.part is of no use. */
void saved_abandon(const char *path);

/* Any thread. Return: 0, with the descriptor standing at QEMU's stream; VIREO_NOT_FOUND; VIREO_OPERATION_FAILED. @ret_xml: owned. */
int saved_open(const char *path, int *ret, char **ret_xml, bool *ret_running, struct failure *f);

/* The same, as a chore: work() fills what is below. */
struct saved_opening {
	char *path; /* owned */
	struct failure f;
	int error, fd;
	char *xml;
	bool running;
};
void saved_opening_work(void *data);
void saved_opening_clear(struct saved_opening *o);
