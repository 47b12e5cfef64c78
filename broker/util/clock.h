/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "macros.h"

typedef struct sd_event sd_event;

/*
 * Time and randomness, handed in, so that a test can own them: with the virtual clock a wait costs nothing.
 * Main loop's thread only.
 */
struct clock;
struct timer;

typedef void (*timer_fn)(struct timer *t, void *userdata);

/* Embedded in its owner; zero-initialised is a timer that is not set. The owner clears it before it goes. */
struct timer {
	struct clock *clock;
	uint64_t at; /* monotonic µs */
	bool set;
	timer_fn fn;
	void *userdata;
	struct timer *prev, *next;
};

/* The real clock: one time source on @event. */
int clock_new(sd_event *event, struct clock **ret);
/* A clock that stands still until it is advanced; random numbers from @seed. */
int clock_new_virtual(uint64_t seed, struct clock **ret);
void clock_free(struct clock *c);
DEFINE_CLEANUP(struct clock *, clock_free)

uint64_t clock_monotonic(struct clock *c); /* µs */
uint64_t clock_realtime(struct clock *c);  /* µs since 1970 */
uint64_t clock_random(struct clock *c);

/* Virtual clock only: run every timer due within @usec, in order of time, then stand at now + @usec. */
void clock_advance(struct clock *c, uint64_t usec);
/* Virtual clock only: move realtime by @usec, as an administrator or NTP does. */
void clock_step_realtime(struct clock *c, int64_t usec);

/* Set or set anew: fn(t, userdata) runs once, from the loop, @usec from now. */
void timer_in(struct clock *c, struct timer *t, uint64_t usec, timer_fn fn, void *userdata);
void timer_clear(struct timer *t);
