/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <sqlite3.h>
#include <uthash.h>

#include "history.h"
#include "util/workers.h"
#include "util/writer.h"

/*
 * Inside of history. Which file does what:
 *
 *   history.c            the public face: versions, a batch and its commit, going on when that fails
 *   history-memory.c     every object as last put, and the newest events
 *   history-state.c      vireo.state: the lock, the versions reserved, how the last life ended
 *   history-open.c       which of the many ways the last life may have ended it was, and what follows from it
 *   history-store.c      vireo.db: schema, opening, closing
 *   history-write.c      writing a batch
 *   history-read.c       reading events
 *   history-upkeep.c     retention in slices; checkpoints on a thread of their own
 */

#define HISTORY_SCHEMA 1

/* Versions reserved with one fsync. A crash skips at most twice as many. */
#define HISTORY_RESERVE UINT64_C(100000)
/* Versions stay below 2^53; one that comes near this has been made up by a damaged store. */
#define HISTORY_VERSION_LIMIT (UINT64_C(1) << 52)

/* Newest events kept in memory: so many, and so many bytes of XML that they alone hold. */
#define RING_EVENTS 4096u
#define RING_BYTES (UINT64_C(8) << 20)

/* ---- vireo.state ------------------------------------------------------------------------------------------ */

#define STATE_CREATING (1u << 0) /* the database has not been written yet */
#define STATE_CLEAN (1u << 1)	 /* closed, with @version as the last */
#define STATE_LOST (1u << 2)	 /* events were told that the database does not have */

struct state_values {
	uint64_t reserved; /* no version above this was ever used */
	uint64_t version;  /* the last that was committed: on the same boot, the database must have it */
	uint64_t opened;   /* how often the store was opened; the database has the same number */
	uint32_t flags;
	char epoch[33];
	char boot[40];
};

struct state_file;

enum state_found { STATE_NONE, STATE_VALID, STATE_INVALID };

/*
 * state_open() - lock the directory and read what is known of the last life
 * Return: 0; VIREO_BUSY: another process has it; VIREO_OPERATION_FAILED with what to do.
 */
int state_open(const char *directory, enum state_found *ret_found, struct state_values *ret_values,
	       struct state_file **ret, struct failure *f);
void state_close(struct state_file *s);
DEFINE_CLEANUP(struct state_file *, state_close)
/*
 * state_write() - replace the values
 * @durable: only return when a power cut can't undo it
 * Return: 0 or -errno.
 */
int state_write(struct state_file *s, const struct state_values *v, bool durable);
void state_get(struct state_file *s, struct state_values *ret);
/* The same for one of them; any thread. */
int state_reserve(struct state_file *s, uint64_t upto);
int state_flags(struct state_file *s, uint32_t set, uint32_t clear);
int state_commit(struct state_file *s, uint64_t version);

/* ---- objects as last put ---------------------------------------------------------------------------------- */

/* A text and its row in the table xml. */
struct stored_text {
	struct text *text;
	int64_t id;
};

struct kept {
	enum kind kind;
	char *path, *connection, *extra;
	uint64_t version, incarnation;
	struct props *props;
	struct text *xml, *xml_inactive;
	int64_t id;			  /* rowid */
	struct stored_text live, inactive; /* what its row refers to, as last committed */
	int64_t new_live, new_inactive;	  /* what it refers to in the transaction under way */
	bool gone, dirty, written;
	struct kept *next_dirty;
	UT_hash_handle hh;
};

/* ---- the database ----------------------------------------------------------------------------------------- */

enum statement {
	ST_BEGIN,
	ST_COMMIT,
	ST_ROLLBACK,
	ST_META,
	ST_EVENT,
	ST_OBJECT,
	ST_OBJECT_DELETE,
	ST_XML_FIND,
	ST_XML_ADD,
	ST_XML_DATA,
	ST_XML_UNTIL,
	ST_READ,
	ST_READ_XML,
	ST_OLDEST,
	ST_PRUNE,
	ST_XML_UNUSED,
	ST_XML_DELETE,
	ST_XML_DATA_DELETE,
	ST_PAGES,
	ST_FREE_PAGES,
	ST_VACUUM,
	ST_MAX
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *st[ST_MAX];
	uint64_t events;    /* rows of the table */
	int64_t next_id;    /* of an object */
	uint64_t follows;   /* version of the newest event that was ever written */
	uint64_t opened;
	char epoch[33];
	int wal_pages;
	char *path; /* NULL: in memory */
	struct stored_text memo[8]; /* texts of the transaction under way, borrowed */
	unsigned memo_next;
	struct writer words;	     /* JSON of the row being written */
	struct stored_text cache[16]; /* texts lately read */
	unsigned cache_next;
};

/* The checkpointing thread's side; outlives a store that was set aside. */
struct keeper;

struct history {
	struct history_config config; /* without pointers */
	char *directory;	      /* NULL: in memory */
	char boot[40];
	struct clock *clock;
	char epoch[33];
	uint64_t version;   /* last given */
	uint64_t committed; /* last that readers may see */
	uint64_t oldest;

	struct state_file *state;
	uint64_t reserved; /* durably */
	struct reservation *reserving; /* under way on a thread */
	struct workers *state_workers, *store_workers;

	struct store store;
	struct keeper *keeper;
	struct kept *kept; /* by path */
	struct kept *dirty;

	struct event **batch; /* appended, not committed */
	size_t n_batch, size_batch;

	/* Committed events, newest last: everything above floor. From @unwritten on the store doesn't have them yet. */
	struct event **ring;
	uint32_t *ring_cost;
	size_t ring_first, ring_n, ring_unwritten; /* unwritten: how many of the last */
	uint64_t ring_floor, ring_bytes;
	uint64_t ring_below; /* newest event that there is at or below floor */

	bool failing;	   /* to write: what is unwritten waits for the timer */
	bool lost;	   /* events, since it fails; logged */
	unsigned damages;  /* since the start */
	bool detached;	       /* from the disk for good: in memory under an epoch of its own */
	bool reading;
	uint64_t retry_delay;
	struct timer retry;
	struct timer upkeep;
	unsigned since_upkeep; /* events */
};

/* history-memory.c */
struct kept *history_kept(struct history *h, const char *path);
struct kept *history_keep(struct history *h, const char *path); /* new, not linked to any row; NULL: no memory */
void history_kept_free(struct history *h, struct kept *k);
void history_mark_dirty(struct history *h, struct kept *k);
/* What was dirty is in the store, or will never be. */
void history_settle(struct history *h);
void history_link_text(struct stored_text *s, struct text *t, int64_t id);
void history_raise_oldest(struct history *h, uint64_t oldest);
/* The batch is committed: readers may see it. @unwritten: but the store has yet to get it. */
void history_batch_to_ring(struct history *h, bool unwritten);
static inline struct event *ring_at(const struct history *h, size_t i)
{
	return h->ring[(h->ring_first + i) % RING_EVENTS];
}

/* history.c */
/* Continuity can't be proved any more while running: a new epoch, in memory only. */
void history_detach(struct history *h, const char *why);
/* Set the damaged store aside and write another from memory. @how: what was found. */
void history_damaged(struct history *h, const char *how);

/* history-open.c */
int history_open_directory(struct history *h, const char *boot_id, struct failure *f);
int history_new_epoch(struct history *h);
/* Rename the closed store and what belongs to it. @ret: its new name, owned by the caller. 1; 0: there is none; or -errno. */
int history_set_aside(struct history *h, char **ret);

/* history-read.c */
/* Read the objects into h->kept. An SQLite result code. */
int history_load_objects(struct history *h);

/* history-store.c and history-write.c. All return an SQLite result code; damage is SQLITE_CORRUPT, however it showed, and another
 * version's schema SQLITE_FORMAT. */
static inline bool store_is_damage(int rc)
{
	return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB || (rc & 0xff) == SQLITE_FORMAT;
}
/* What meta held. */
struct store_meta {
	char epoch[33];
	uint64_t opened, oldest, version;
};
/* @path: NULL: in memory. @create: there is none yet; @meta is what goes into it, else what was found. */
int store_open(struct store *s, const char *path, bool create, struct store_meta *meta);
void store_close(struct store *s);
/* @events and, if asked, the objects that changed, in one transaction. Nothing of it when it fails. */
int store_write(struct history *h, struct event *const *events, size_t n, bool objects);
int store_step(struct store *s, enum statement st);
int store_run(sqlite3_stmt *st); /* to the end, and ready for the next time */
int store_write_meta(struct store *s, uint64_t oldest, uint64_t version);
/* Is it the surroundings' failure and not the file's? */
bool store_is_circumstance(int rc);
int store_meta(struct history *h); /* in the transaction under way */
/* The file's length, and how much of it is free, in pages. */
int store_pages(struct store *s, uint64_t *ret_pages, uint64_t *ret_free);

/*
 * SQLite notices a page that makes no sense, but not a number or a letter that became another: each row has a sum
 * of its columns as the last one.
 */
uint64_t sum_int(uint64_t sum, int64_t v);
uint64_t sum_bytes(uint64_t sum, const void *data, size_t n);
uint64_t sum_null(uint64_t sum);
bool row_is_sound(sqlite3_stmt *st);

/* history-upkeep.c */
int upkeep_start(struct history *h);
/* Waits for the threads, so that nobody writes any more. */
void upkeep_stop(struct history *h);
/* @n events were written. */
void upkeep_after_commit(struct history *h, size_t n);
/* Another store takes this one's place: the checkpointing thread shall not touch either. */
void upkeep_let_go(struct history *h);
