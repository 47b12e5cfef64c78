/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "play.h"

/*
 * A hypervisor to judge the grammar by: what objects really do, what is reported of it, and the story that a client
 * should hear if every report came in order. It is written from what libvirt and QEMU were recorded to do, and shares
 * nothing with broker/lifecycle.c.
 */

struct random {
	uint64_t state;
};
uint32_t random_below(struct random *r, uint32_t n);
bool random_chance(struct random *r, unsigned percent);

enum numbers {
	NUMBERS_GROWING, /* libvirt with QEMU */
	NUMBERS_NONE,	 /* QMP */
	NUMBERS_PID,	 /* LXC: any number, used again some day */
	NUMBERS_MAX
};

struct report_in_flight {
	struct play_report report;
	bool paused_start; /* without a look at the pause it cannot be told from an ordinary boot */
	bool begins;	   /* what it reports exists from here on */
};

/* One step of an operation: the world changes, and something may be reported of it. */
struct phase {
	struct truth now;
	struct report_in_flight in_flight;
	char story[64];
	bool quiet; /* nothing is reported that explains this: a settled look must tell it before anything else happens */
};

#define PHASES_MAX 12
#define FLIGHT_MAX 64

struct guest {
	enum kind kind;
	struct truth now;
	struct phase phases[PHASES_MAX];
	unsigned n_phases, next_phase;
	struct report_in_flight flight[FLIGHT_MAX]; /* in the order of happening */
	unsigned n_flight;
	char story[8192]; /* that a client should hear */
	size_t length;
	bool quiet;
};

struct hypervisor {
	struct random random;
	enum numbers numbers;
	bool early;   /* reports Resumed before an ordinary boot's Started */
	bool stopped_has_number;
	bool silent;  /* things happen that are not reported at all */
	int last_id;
};

/* Begin something that can happen now. Only when all phases of what came before are through. */
void guest_begin_operation(struct hypervisor *h, struct guest *g);
/* The next phase happens: its report, if there is one, is on its way. */
void guest_advance(struct guest *g);
/* Daemon or host died: nothing is on its way any more; @reboot: and nothing runs. */
void guest_lose(struct guest *g, bool reboot);
