/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "broker.h"
#include "config.h"
#include "introspection/bus.h"

/* What vireod is made of. Linked by nothing but vireod. */

enum bus_kind { BUS_UNSET, BUS_SYSTEM, BUS_SESSION, BUS_ADDRESS };

struct daemon {
	/* the command line */
	enum bus_kind bus_kind;
	const char *address, *state_directory, *config_file;
	const char *connect[256];
	size_t n_connect;
	bool list_drivers;

	struct config config;
	struct face_view *views; /* of the configuration */
	size_t n_views;
	sd_event *event;
	struct clock *clock;
	struct broker *broker;
	sd_bus *bus;
	struct face *face;
	bool ready, named, told;
	struct timer ready_timer, bus_timer, idle_timer;
	uint64_t bus_delay, bus_lost, released; /* the latter two monotonic µs */
};

/* ---- serving on the bus (serve.c) -------------------------------------------------------------------------------- */

/* Connect and show the broker there; the name is taken later. 0 or -errno. */
int open_bus(struct daemon *d);
/* What an administrator may look after when open_bus() has failed. */
const char *bus_hint(const struct daemon *d);
void drop_bus(struct daemon *d);
/* Take the name once every hypervisor was listed, or could have been. */
void await_ready(struct daemon *d);
/* End when nobody called, listened or waited for config.idle_exit. */
void watch_idle(struct daemon *d);
