/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drivers/driver.h"

/* QEMU by its own protocol: what others started, and what Vireo runs itself. */
extern const struct driver qmp_driver;
extern const struct driver qemu_driver;
