/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libvirt/libvirt.h>

#include "connection.h"

/* libvirt's loop: a block job came to an end, or is ready. Behind the cause that says so. */
void lv_job_block_event(struct driver_connection *c, virDomainPtr dom, const char *disk, int type, int status);
