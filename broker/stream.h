/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "broker.h"
#include "util/writer.h"

/*
 * A client's place in history, written to its socket at its own pace: CloudEvents, one JSON object a line.
 *
 * There is no queue of events for a client: what it has not read is in history, and the stream reads on when the socket
 * takes more. So a reader that stops costs one buffer, slows nobody, and when it reads on it gets everything, or a line that
 * says that it has fallen out of history. Main loop's thread only.
 *
 *   [initial: a Snapshot line per object, the events since it began, a Bookmark] ──► events ──► waiting, heartbeats
 *        end: Gone | AccessChanged | the reader closes | stream_free()
 */
struct streams; /* all of a broker */
struct stream;

struct stream_config {
	bool initial;	    /* begin with a snapshot; else after version @after */
	uint64_t after;	    /* at most the present version, and not below what history reaches */
	uint64_t heartbeat; /* µs; a bookmark when nothing else came for so long; 0: none */
	bool xml;
	/* What this client wants, and may have. @name NULL: the object itself, for a snapshot line. */
	bool (*wants)(enum kind kind, const char *path, const char *connection, const char *name, void *userdata);
	/* May he have this event of those that he wants, for what it says? NULL: each. */
	bool (*sees)(const struct event *e, void *userdata);
	/* The stream has ended by itself; it is freed behind this. Not called by stream_free(). */
	void (*ended)(struct stream *s, void *userdata);
	void *userdata;
};

/* @source: "urn:vireo:…:<epoch>" of the events. */
int streams_new(struct broker *b, sd_event *event, struct streams **ret);
void streams_free(struct streams *s);
DEFINE_CLEANUP(struct streams *, streams_free)
size_t streams_count(struct streams *s);

/* @ret_fd: the reader's end, owned by the caller. Nothing is written before control returns to the loop. */
int stream_new(struct streams *all, const struct stream_config *config, struct stream **ret, int *ret_fd);
/* The reader's rights have changed: it is told, and the stream ends when it has read that. */
void stream_end_access_changed(struct stream *s);
void stream_free(struct stream *s);

/* ---- lines (stream-line.c) ---------------------------------------------------------------------------------- */

/* "urn:vireo:<machine, specific to this application>:<epoch>". Owned by the caller. */
char *stream_source(const char *epoch);
/* The line of an event, around the number that each reader has of its own. */
struct stream_line {
	uint64_t version; /* 0: none */
	bool xml;
	struct writer text;
	size_t split; /* where the number belongs */
};
/* Replaces what @line was. 0, or -ENOMEM: it is none then. */
int stream_line_event(const char *source, const struct event *e, bool xml, struct stream_line *line);
void stream_line_put(struct writer *w, const struct stream_line *line, uint64_t sequence);
void stream_line_clear(struct stream_line *line);
void stream_line_snapshot(struct writer *w, const char *source, const char *id, uint64_t now, const struct object *o, bool xml,
			  uint64_t sequence);
/* @type: "Bookmark" (number: version), "Gone" (number: oldest version), "AccessChanged". */
void stream_line_mark(struct writer *w, const char *source, const char *id, uint64_t now, const char *type, const char *key,
		      uint64_t number, uint64_t sequence);
