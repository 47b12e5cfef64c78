/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drivers/driver.h"

/* The simulated hypervisor, doc/sim.md. */
extern const struct driver sim_driver;

/*
 * End every simulated hypervisor of this process that no connection uses, and wait for the threads, up to @usec: for
 * a clean exit, and between tests. Runs by itself at exit. Return: how many threads are left.
 */
unsigned sim_shutdown(uint64_t usec);
