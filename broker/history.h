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
 * without an fsync an event. Checkpoints (which do fsync) and reservations run on threads of their own; retention
 * deletes in small slices. Main loop's thread only.
 *
 * The newest few thousand events are kept in memory too. Whoever follows closely is served from there, and a disk that
 * is full for a while loses nothing as long as they suffice.
 */
struct history;

struct history_config {
	const char *directory; /* NULL: in memory, a new epoch each time */
	uint64_t max_events;   /* retention; 0: the default (1,000,000) */
	uint64_t max_age;      /* µs; 0: the default (30 days) */
	uint64_t max_bytes;    /* of the database file; 0: the default (1 GiB). A few hundred events stay in any case */
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
/*
 * @e is borrowed. Negative ends the reading and is returned; HISTORY_MORE: go on; HISTORY_ENOUGH: @e was taken, end with
 * 0; HISTORY_NOT_THIS: @e was not taken, end with 0. It must not call into the same history.
 */
typedef int (*history_event_fn)(struct event *e, void *userdata);
enum { HISTORY_MORE, HISTORY_ENOUGH, HISTORY_NOT_THIS };

/*
 * history_open() - open the store, or make one
 * @clock: borrowed; outlives the history
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

/* Every object that the store has, connections first. Once, before the first event; the callee may put and forget. */
int history_load(struct history *h, history_object_fn fn, void *userdata);

/* The next version, > every one before, in this epoch. UINT64_MAX never happens: it stays below 2^53. */
uint64_t history_next(struct history *h);
/* @e has its version. Kept until commit: the caller's reference is not taken. */
int history_append(struct history *h, struct event *e);
/* The object as it is now; in the same transaction. @extra: see history_object. */
int history_put(struct history *h, enum kind kind, const char *path, const char *connection, uint64_t version,
		uint64_t incarnation, struct props *props, struct text *xml, struct text *xml_inactive,
		const char *extra);
int history_forget(struct history *h, const char *path);
/*
 * history_commit() - write all that was appended since the last time
 *
 * When the disk is full or fails, that is logged loudly once, and tried anew by a timer until it works. Meanwhile events
 * are kept in memory; once there are too many, the oldest are lost to history (not to those who are told now) and
 * history_oldest() rises past them.
 *
 * When the store turns out to be damaged, here or in reading, it is set aside and a new one is written from memory. The
 * epoch stays: this process knows every version that it gave. history_oldest() rises past what the old store had alone.
 */
void history_commit(struct history *h);
/* Whether what is committed is only in memory for now, because it can't be written. */
bool history_degraded(struct history *h);

/*
 * history_read() - events with version > @after, in order, with XML
 *
 * @fn says when to stop; between two calls nothing is held, so a slow reader costs nothing. Only what is committed.
 * Return: 0 at the end or when fn had enough; VIREO_GONE when @after + 1 < oldest; VIREO_FUTURE_VERSION.
 */
int history_read(struct history *h, uint64_t after, history_event_fn fn, void *userdata, struct failure *f);

/* What somebody wants of history, who must not take long. */
struct history_query {
	uint64_t after;
	size_t scan; /* look at no more than so many events, wanted or not; at least 1 */
	bool xml;    /* read it too; without it reading is cheaper, and events may come with or without */
	bool words;  /* JSON will do: events that only the store has come with event.words, and without props and details */
	/* Asked before the event is put together; NULL: all are wanted. */
	bool (*wants)(enum kind kind, const char *path, const char *connection, const char *name, void *userdata);
	history_event_fn fn;
	void *userdata; /* of both */
};

/*
 * history_read_some() - the same as history_read(), chosen and bounded
 * @ret: everything up to this version was looked at: the next query's @after. At the end it is the last version
 */
int history_read_some(struct history *h, const struct history_query *q, uint64_t *ret, struct failure *f);
