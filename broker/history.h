/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "event.h"
#include "util/clock.h"

/*
 * Epoch, versions, events, and the objects as last known; on SQLite (WAL), or in memory only.
 *
 * One transaction a turn of the loop: history_append() and history_put() collect, history_commit() writes; only then
 * may anybody be told. A range of versions is reserved durably (fsync) ahead of use, so a version is never given twice,
 * without an fsync an event. Main loop's thread only.
 */
struct history;

struct history_config {
	const char *directory; /* NULL: in memory, a new epoch each time */
	uint64_t max_events;   /* retention; 0: the default (1,000,000) */
	uint64_t max_age;      /* µs; 0: the default (30 days) */
	uint64_t max_bytes;    /* of the database file; 0: the default (1 GiB) */
	const char *boot_id;   /* NULL: /proc's. Handed in so that a test can cut the power */
};

/* What the store held of an object. */
struct history_object {
	enum kind kind;
	const char *path;
	const char *connection;	 /* path of its connection */
	uint64_t version, incarnation;
	struct props *props;	 /* a reference of the callee's to take with props_ref() */
	struct text *xml, *xml_inactive;
	const char *extra; /* JSON of what the record keeps besides (uri of a connection); may be NULL */
};
typedef int (*history_object_fn)(const struct history_object *o, void *userdata);
/* Negative ends the reading and is returned; 1: enough, ends with 0; 0: go on. */
typedef int (*history_event_fn)(struct event *e, void *userdata);

/*
 * history_open() - open the store, or make one
 *
 * A damaged store is set aside (renamed, never deleted), logged loudly, and a new epoch begins. After an unclean boot
 * the oldest version rises past what the power cut may have taken. Fails with VIREO_OPERATION_FAILED and what to do
 * when the directory cannot be used, VIREO_BUSY when another process has the store.
 */
int history_open(const struct history_config *config, struct clock *clock, struct history **ret, struct failure *f);
/* Marks a clean end. NULL is fine. */
void history_close(struct history *h);
DEFINE_CLEANUP(struct history *, history_close)

const char *history_epoch(struct history *h);	/* 32 hex digits */
uint64_t history_version(struct history *h);	/* the last one given; everything up to it is committed once commit returned */
uint64_t history_oldest(struct history *h);	/* cursors >= this - 1 can be followed: the oldest event still kept */

/* Every object that the store has, connections first. Once, before the first event. */
int history_load(struct history *h, history_object_fn fn, void *userdata);

/* The next version, > every one before, in this epoch. UINT64_MAX never happens: it stays below 2^53. */
uint64_t history_next(struct history *h);
/* @e has its version. Kept until commit: the caller's reference is not taken. */
int history_append(struct history *h, struct event *e);
/* The object as it is now; in the same transaction. @extra: see history_object. */
int history_put(struct history *h, enum kind kind, const char *path, const char *connection, uint64_t version,
		uint64_t incarnation, const struct props *props, struct text *xml, struct text *xml_inactive,
		const char *extra);
int history_forget(struct history *h, const char *path);
/*
 * history_commit() - write all that was appended since the last time
 *
 * When the disk is full or fails: the events are lost to history (not to those who are told now), history_oldest()
 * rises past them, that is logged loudly once, and it is tried anew with every later commit.
 */
void history_commit(struct history *h);

/*
 * history_read() - events with version > @after, in order
 * Return: 0 at the end or when fn had enough; VIREO_GONE when @after + 1 < oldest.
 */
int history_read(struct history *h, uint64_t after, history_event_fn fn, void *userdata, struct failure *f);
