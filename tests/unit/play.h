/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "broker/lifecycle.h"
#include "grammar.h"

/*
 * Plays reports of one object to the grammar as the broker does, and writes down the story that a client hears.
 * Every step is checked: by tests/unit/grammar.h, and for being what the verdict says of itself.
 */

/* How an object really is. Zero-initialised: it is not. */
struct truth {
	bool active, persistent;
	bool starting; /* with active: listed, but not started yet */
	int id;	       /* while active; 0: a hypervisor without numbers */
	enum domain_state state;
	const char *word; /* of `virsh domstate --reason`; never NULL for a domain that exists */
};

/* Truths of domains, as initialisers. */
#define GONE                                                                                                 \
	{                                                                                                    \
		0                                                                                            \
	}
#define OFF(w)                                                                                               \
	{                                                                                                    \
		.persistent = true, .word = w                                                                \
	}
#define ON(i, s, w)                                                                                          \
	{                                                                                                    \
		.active = true, .persistent = true, .id = i, .state = DOMAIN_##s, .word = w                  \
	}
#define TRANSIENT(i, s, w)                                                                                   \
	{                                                                                                    \
		.active = true, .id = i, .state = DOMAIN_##s, .word = w                                      \
	}
#define STARTING(i)                                                                                          \
	{                                                                                                    \
		.active = true, .persistent = true, .starting = true, .id = i, .state = DOMAIN_PAUSED,       \
		.word = "starting up"                                                                        \
	}
#define STARTING_TRANSIENT(i)                                                                                \
	{                                                                                                    \
		.active = true, .starting = true, .id = i, .state = DOMAIN_PAUSED, .word = "starting up"     \
	}

struct play {
	enum kind kind;
	struct life known;
	struct grammar grammar;
	char story[8192]; /* "Added Started(booted)! Suspended(paused) …"; see play.c */
	size_t length;
	unsigned n;		/* steps so far */
	unsigned uninferred;	/* of these, reported ones */
	bool settle;		/* a settled look was asked for, and not given yet */
	struct verdict verdict; /* the last */
	char held[8][32];	/* OTHERs that wait for a settled look */
	unsigned n_held;
	char wrong[160]; /* "" as long as everything was legal */
};

struct play_report {
	enum cause cause;
	const char *detail;
	int run;
	const char *event; /* CAUSE_OTHER */
};

void play_begin(struct play *p, enum kind kind);
/* Begin with an object that has been told: its own story up to here is forgotten. */
void play_begin_with(struct play *p, enum kind kind, const struct truth *t);
/* @t: what was seen; NULL or zero: GONE. Unused for FAILED and NONE. */
void play(struct play *p, const struct play_report *r, enum look look, bool settled, const struct truth *t);
void play_settled(struct play *p, const struct truth *t);
bool truth_exists(const struct truth *t);
/* Does what clients know equal the truth? */
bool play_agrees(const struct play *p, const struct truth *t);
