/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "log.h"

struct clock {
	bool virtual;
	uint64_t now, real, seed; /* virtual */
	sd_event_source *source;  /* real */
	struct timer *first;	  /* by time */
	bool running;
};

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_monotonic(struct clock *c)
{
	return c->virtual ? c->now : read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_realtime(struct clock *c)
{
	return c->virtual ? c->real : read_clock(CLOCK_REALTIME);
}

uint64_t clock_random(struct clock *c)
{
	uint64_t z;

	if (!c->virtual && getrandom(&z, sizeof(z), GRND_NONBLOCK) == (ssize_t)sizeof(z))
		return z;
	/* splitmix64 */
	z = c->seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void arm(struct clock *c)
{
	if (c->virtual || c->running)
		return;
	if (!c->first) {
		(void)sd_event_source_set_enabled(c->source, SD_EVENT_OFF);
		return;
	}
	(void)sd_event_source_set_time(c->source, c->first->at);
	(void)sd_event_source_set_enabled(c->source, SD_EVENT_ONESHOT);
}

static void unlink_timer(struct timer *t)
{
	if (t->prev)
		t->prev->next = t->next;
	else
		t->clock->first = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->prev = t->next = NULL;
	t->set = false;
}

void timer_clear(struct timer *t)
{
	if (!t->set)
		return;
	unlink_timer(t);
	arm(t->clock);
}

void timer_in(struct clock *c, struct timer *t, uint64_t usec, timer_fn fn, void *userdata)
{
	struct timer *before = NULL, *after;

	if (t->set)
		unlink_timer(t);
	t->clock = c;
	t->at = clock_monotonic(c);
	t->at = usec > UINT64_MAX - t->at ? UINT64_MAX : t->at + usec;
	t->fn = fn;
	t->userdata = userdata;
	/* Equal times run in the order in which they were set. */
	for (after = c->first; after && after->at <= t->at; after = after->next)
		before = after;
	t->prev = before;
	t->next = after;
	if (before)
		before->next = t;
	else
		c->first = t;
	if (after)
		after->prev = t;
	t->set = true;
	arm(c);
}

static void run_due(struct clock *c, uint64_t now)
{
	c->running = true;
	while (c->first && c->first->at <= now) {
		struct timer *t = c->first;

		if (c->virtual && t->at > c->now) {
			c->real += t->at - c->now;
			c->now = t->at;
		}
		unlink_timer(t);
		t->fn(t, t->userdata);
	}
	c->running = false;
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct clock *c = userdata;

	run_due(c, clock_monotonic(c));
	arm(c);
	return 0;
}

int clock_new(sd_event *event, struct clock **ret)
{
	_cleanup_(clock_freep) struct clock *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->seed = read_clock(CLOCK_REALTIME);
	/* 1 ms is as exact as anything here needs, and lets the kernel wake less often. */
	r = sd_event_add_time(event, &c->source, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_time, c);
	if (r < 0)
		return r;
	(void)sd_event_source_set_description(c->source, "clock");
	(void)sd_event_source_set_enabled(c->source, SD_EVENT_OFF);
	*ret = TAKE(c);
	return 0;
}

int clock_new_virtual(uint64_t seed, struct clock **ret)
{
	struct clock *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->virtual = true;
	c->seed = seed;
	c->now = USEC_PER_SEC;
	c->real = UINT64_C(1700000000) * USEC_PER_SEC;
	*ret = c;
	return 0;
}

void clock_free(struct clock *c)
{
	if (!c)
		return;
	while (c->first)
		unlink_timer(c->first);
	sd_event_source_disable_unref(c->source);
	free(c);
}

void clock_advance(struct clock *c, uint64_t usec)
{
	uint64_t until = c->now + usec;

	run_due(c, until);
	c->real += until - c->now;
	c->now = until;
}

void clock_step_realtime(struct clock *c, int64_t usec)
{
	c->real += (uint64_t)usec;
}
