/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "util/clock.h"
#include "util/macros.h"

/*
 * May this caller do that? Asked of polkit, over the bus, without ever waiting. Knows callers and actions; knows no domain.
 *
 * The subject is always the caller's unique bus name, so that nobody can speak for another process that has the same number.
 * Whatever is not a clear yes is no: polkit absent, slow, or in error. Nothing is remembered. Nobody keeps others from being
 * asked about: neither one user by all the dialogs that he leaves open, nor one connection by asking faster than polkit answers.
 * Main loop's thread only.
 */
struct authority;
struct authority_request;

enum authority_answer {
	AUTHORITY_YES,
	AUTHORITY_NO,
	AUTHORITY_CHALLENGE, /* yes, had somebody been allowed to be asked for a password */
	AUTHORITY_NOBODY,    /* polkit did not say */
	AUTHORITY_BUSY,	     /* this caller has too many questions waiting */
	AUTHORITY_ANSWER_MAX
};

struct authority_detail {
	const char *key, *value;
};

struct authority_question {
	const char *sender; /* unique name */
	uint32_t uid;	    /* whose connection that is */
	const char *action; /* "org.vireo1.control" */
	const struct authority_detail *details;
	size_t n_details;
	bool interactive; /* the message allows it */
};

/* Called once, never from inside authority_ask(). */
typedef void (*authority_fn)(enum authority_answer answer, void *userdata);

/*
 * @max:     questions of one sender that may wait; more are answered AUTHORITY_BUSY
 * @changed: answers given so far may no longer be right
 * @bus:     a reference is taken
 */
int authority_new(sd_bus *bus, struct clock *clock, unsigned max, void (*changed)(void *userdata), void *userdata,
		  struct authority **ret);
/* Nobody is answered any more. NULL is fine. */
void authority_free(struct authority *a);
DEFINE_CLEANUP(struct authority *, authority_free)

/* Strings are copied. Return: 0, or a negative errno and no call of @fn. The handle is void once @fn was called. */
int authority_ask(struct authority *a, const struct authority_question *q, authority_fn fn, void *userdata,
		  struct authority_request **ret);
/* The one who asked is gone: polkit is told, so that its agent closes the dialog. NULL is fine. */
void authority_cancel(struct authority_request *r);
