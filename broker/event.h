/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "props.h"
#include "util/text.h"

/*
 * One versioned change, as clients are told it: immutable once it has a version. Everything that a signal, a stream
 * line or GetEvents needs is in here; nobody looks at the object again. Main loop's thread only.
 */
struct event {
	unsigned refs;
	uint64_t version;
	uint64_t previous; /* 0 for Added */
	enum kind kind;
	const char *path;	   /* object path */
	const char *connection;  /* path of the connection it belongs to, for filters; of a job: its object's. Never NULL */
	const char *name;	   /* "Started" */
	const char *reason;	   /* "" when there is none */
	uint64_t timestamp; /* realtime µs */
	bool inferred;
	struct props *props;  /* as held at this version */
	struct props *before; /* as held at @previous; NULL for Added, and for most events read from history */
	struct vdict *details; /* what the event itself brings, without timestamp and inferred; NULL: nothing */
	struct text *xml, *xml_inactive; /* NULL: none, or the same as live */
	/* JSON instead of @props and @details, where history_query asks for it. Borrowed, for as long as its fn runs. */
	struct event_words {
		const char *props, *details;
		size_t props_size, details_size;
	} words;
};

/*
 * event_new() - an event without a version yet
 * @connection: NULL: "/", of a job that belongs to none
 * @reason:     NULL: ""
 *
 * Strings are copied, name and reason made valid UTF-8. The other fields are zero and the caller's to fill, until it
 * is shown to anybody; references put into them become the event's. NULL: no memory.
 */
struct event *event_new(enum kind kind, const char *path, const char *connection, const char *name,
			const char *reason);
struct event *event_ref(struct event *e);
void event_unref(struct event *e);
DEFINE_CLEANUP(struct event *, event_unref)
