/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drivers/driver.h"

/*
 * Is a story legal? An independent reading of promises P8 to P12 of doc/contract.md: it shares no code and no table
 * with broker/lifecycle.c, and looks only at what a client sees. One struct grammar follows one object.
 */
struct grammar {
	bool alive;
	bool active, persistent;
	int id;
	char state[16], word[32];
	unsigned since_added; /* events in this life */
};

/* The properties after an event, as clients have them. */
struct grammar_view {
	bool active, persistent;
	int id;		   /* domains */
	const char *state; /* domains: State; NULL else */
	const char *word;  /* domains: Reason; NULL: not compared */
};

/*
 * grammar_event() - may this come next?
 * @g:     zero-initialised before the first event; as it stands afterwards, also when the event was illegal
 * @after: NULL for Removed
 *
 * Return: NULL when it is legal, else what is wrong (constant).
 */
const char *grammar_event(struct grammar *g, enum kind kind, const char *event, const char *reason,
			  const struct grammar_view *after);

/* To be asked at the end, and whenever everything that one report caused has been told. */
const char *grammar_rest(const struct grammar *g);
