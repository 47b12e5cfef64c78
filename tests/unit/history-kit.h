/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "broker/history.h"

/*
 * A little world for the tests of history: a directory, a virtual clock, and a broker in miniature that makes events
 * of domains whose content follows from their version, so that a reader can tell whether it is right.
 */

#define BOOT_ONE "11111111111111111111111111111111"
#define BOOT_TWO "22222222222222222222222222222222"

struct kit {
	char directory[256];
	struct history_config config;
	struct clock *clock;
	struct history *history;
	uint64_t last[16]; /* version of domain i; 0: it does not exist */
};

void kit_make_directory(struct kit *k);
void kit_remove_directory(const char *directory);
/* Fails the test if it doesn't open. */
void kit_open(struct kit *k);
/* Takes the objects' versions from the store. */
void kit_load(struct kit *k);
void kit_close(struct kit *k);

/* Domain @i (below 16) changes: appended and put, not committed. Returns the version. */
uint64_t kit_event(struct kit *k, unsigned i);
/* The same, with XML of its own of about so many bytes. */
uint64_t kit_event_xml(struct kit *k, unsigned i, size_t xml);
void kit_removed(struct kit *k, unsigned i);
/* @n events over all domains, in batches. */
void kit_events(struct kit *k, unsigned n, unsigned batch);

/* Whether an event read is what was made for its version. */
void kit_check(const struct event *e);

/* Read everything after @after; each event is checked. Returns how many, -1 when they are gone. */
long kit_count(struct kit *k, uint64_t after);
/* The same, and the versions; the caller frees. */
uint64_t *kit_versions(struct kit *k, uint64_t after, size_t *ret_n);

char *kit_path(const struct kit *k, const char *name);
void kit_copy(const char *from, const char *to);
bool kit_exists(const struct kit *k, const char *name);
/* How many names of the directory begin so. */
unsigned kit_begin_with(const struct kit *k, const char *prefix);
