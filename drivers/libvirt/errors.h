/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "drivers/driver.h"

/* Which of our errors is this one of libvirt's? NULL: OPERATION_FAILED. */
enum vireo_error lv_error_map(const virError *e);

/*
 * lv_failure() - say that a call of libvirt's failed on this thread
 * Return: the error, as failure_set().
 */
int lv_failure(struct failure *f);

/* The last error's own words on this thread, valid UTF-8, on one line. Owned by the caller. */
char *lv_error_text(void);

/* Did the last call on this thread fail because there is no such thing? */
bool lv_error_is_gone(enum kind kind);
/* … because a file that it needed is not there? */
bool lv_error_is_no_file(void);
/* … because this hypervisor has no such function? */
bool lv_error_is_unsupported(void);
