/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <utlist.h>

#include "face.h"

void *held_new(struct face *f, sd_bus_message *m, const struct held_ops *ops, size_t size)
{
	struct held *h = calloc(1, size);

	if (!h)
		return NULL;
	h->ops = ops;
	h->face = f;
	h->m = sd_bus_message_ref(m);
	h->path = sd_bus_message_get_path(m);
	DL_APPEND(f->held, h);
	return h;
}

void held_free(struct held *h)
{
	timer_clear(&h->timer);
	if (h->work)
		DL_DELETE2(h->face->turns, h, turn_prev, turn_next);
	warrant_free(h->warrant);
	if (h->peer)
		peer_detach(h);
	DL_DELETE(h->face->held, h);
	if (h->ops->free)
		h->ops->free(h);
	sd_bus_message_unref(h->m);
	free(h);
}

/* ---- in turn ---------------------------------------------------------------------------------------------------- */

static void on_turn(struct timer *t, void *userdata);

static void turn_later(struct face *f)
{
	uint64_t now = clock_monotonic(f->clock);

	if (f->turns && !f->turns_timer.set)
		timer_in(f->clock, &f->turns_timer, f->rest_until > now ? f->rest_until - now : 0, on_turn, f);
}

static uint64_t last_turn(const struct held *h)
{
	return h->peer ? h->peer->turn : 0;
}

static void on_turn(struct timer *t, void *userdata)
{
	struct face *f = userdata;
	struct held *h, *next = f->turns;
	uint64_t began = clock_monotonic(f->clock), now;
	void (*work)(struct held *h);

	DL_FOREACH2(f->turns, h, turn_next)
	if (last_turn(h) < last_turn(next))
		next = h;
	if (!next)
		return;
	if (next->peer)
		next->peer->turn = ++f->turn;
	work = TAKE(next->work);
	DL_DELETE2(f->turns, next, turn_prev, turn_next);
	work(next);
	/* As long as that took, others have the loop. */
	now = clock_monotonic(f->clock);
	f->rest_until = now + (now - began);
	turn_later(f);
}

void held_in_turn(struct held *h, void (*work)(struct held *h))
{
	struct face *f = h->face;

	if (!h->peer || peer_is_privileged(h->peer)) {
		work(h);
		return;
	}
	h->work = work;
	DL_APPEND2(f->turns, h, turn_prev, turn_next);
	turn_later(f);
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

int held_begin(struct held *h, sd_bus_message **ret)
{
	return sd_bus_message_new_method_return(h->m, ret);
}

void held_reply(struct held *h, sd_bus_message *reply)
{
	int r = sd_bus_send(h->face->bus, reply, NULL);

	if (r < 0)
		log_warning("answer to %s of %s could not be sent: %s", sd_bus_message_get_member(h->m), h->path,
			    strerror(-r));
	sd_bus_message_unref(reply);
	held_free(h);
}

static void fail(struct held *h, int r, const struct failure *f)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;

	face_error(&e, r, f);
	r = sd_bus_reply_method_error(h->m, &e);
	if (r < 0)
		log_warning("error to %s of %s could not be sent: %s", sd_bus_message_get_member(h->m), h->path,
			    strerror(-r));
	held_free(h);
}

void held_fail(struct held *h, const struct failure *f)
{
	fail(h, f->error != VIREO_OK ? (int)f->error : (int)VIREO_OPERATION_FAILED, f);
}

void held_failf(struct held *h, enum vireo_error error, const char *format, ...)
{
	_cleanup_(failure_clear) struct failure f = {0};
	_cleanup_(freep) char *message = NULL;
	va_list ap;
	int r;

	va_start(ap, format);
	r = vasprintf(&message, format, ap);
	va_end(ap);
	if (r < 0)
		message = NULL;
	failure_set(&f, error, "%s", message ? message : "");
	held_fail(h, &f);
}

void held_errno(struct held *h, int r)
{
	fail(h, r, NULL);
}

int held_refuse(struct held *h, int r, struct failure *f)
{
	fail(h, r, f);
	failure_clear(f);
	return 1;
}
