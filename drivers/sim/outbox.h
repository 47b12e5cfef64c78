/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/*
 * What a session has still to do or to deliver, in the order in which it is due; and, for each object, how many
 * events are still on their way.
 */
enum entry_type {
	ENTRY_HELLO,
	ENTRY_GOODBYE,
	ENTRY_EVENT,
	ENTRY_LIST,
	ENTRY_LOOK,
	ENTRY_OPERATION,
	ENTRY_REPORT, /* as it is */
	ENTRY_END,    /* likewise, behind every event of its object and a look at it */
	ENTRY_CANCEL, /* only in the inbox */
	ENTRY_COMPLETE,
};

struct sim_entry {
	uint64_t due, key, seq;
	enum entry_type type;
	struct sim_entry *next; /* in the inbox */

	/* EVENT, LOOK, END */
	enum kind kind;
	sd_id128_t uuid;
	unsigned tries;
	uint64_t serial; /* LIST, LOOK; CANCEL, COMPLETE: the token */

	/* EVENT */
	char *name, *reason, *event;
	enum cause cause;
	int run;
	struct vdict *details;
	bool has_before;
	struct seen *before;

	/* LIST under way */
	struct sim_target {
		enum kind kind;
		sd_id128_t uuid;
	} *targets;
	size_t n_targets, at;
	bool partial, listing;

	/* OPERATION */
	struct request *request;
	bool cancelled;

	struct report *report; /* REPORT, END, GOODBYE */
};

struct sim_pending; /* outbox.c */

struct sim_outbox {
	struct sim_entry **heap;
	size_t n, size;
	uint64_t seq;
	struct sim_pending *pending;
	unsigned n_events;
};

void sim_entry_free(struct sim_entry *e);
/* @due and @key are set; takes the entry. An EVENT becomes due no earlier than those of its object before it. */
void sim_outbox_push(struct sim_outbox *b, struct sim_entry *e);
struct sim_entry *sim_outbox_top(struct sim_outbox *b);
/* An EVENT that is taken off is no longer on its way. */
struct sim_entry *sim_outbox_pop(struct sim_outbox *b);
void sim_outbox_clear(struct sim_outbox *b);
/* How many events of the object are on their way; *@ret_due: when the last of them is due. */
unsigned sim_outbox_pending(struct sim_outbox *b, enum kind kind, sd_id128_t uuid, uint64_t *ret_due);
/* When the last event of all is due; 0: there is none. */
uint64_t sim_outbox_last_event(struct sim_outbox *b);
/* Whatever is due never (USEC_UNKNOWN) is due at @now. */
void sim_outbox_release(struct sim_outbox *b, uint64_t now);
/* The operation of @token that has not begun; NULL. After a change of its due time: sim_outbox_sort(). */
struct sim_entry *sim_outbox_find(struct sim_outbox *b, uint64_t token);
void sim_outbox_sort(struct sim_outbox *b);
