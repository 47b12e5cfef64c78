/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drivers/driver.h"

/* Any hypervisor that libvirt reaches. Its table; see connection.h for how it works. */
extern const struct driver libvirt_driver;
