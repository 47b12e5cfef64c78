/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <time.h>

#include "history-private.h"
#include "util/log.h"

/*
 * What keeps the store small, without ever keeping the loop.
 *
 * Retention runs on the loop's thread, in slices of a millisecond or two: SQLite lets one writer in at a time, so a
 * thread of its own would only make commits wait. oldest rises first, then the rows go: a reader never meets a hole.
 *
 * Checkpoints (copying the log into the database) fsync, so they run on a thread with a connection of its own. They are
 * passive: they don't lock writers out. But the log begins anew only when a checkpoint has reached its end while nobody
 * wrote on; under a flood it would grow for ever. So once it is long, a commit gives the thread a moment to get there.
 */

#define SLICE_EVENTS 256   /* deleted at once, and written between two looks */
#define SLICE_TEXTS 64
#define SLICES 8		   /* at a stretch, and */
#define SLICES_TIME (2 * USEC_PER_MSEC)
#define KEEP_EVENTS 256	   /* at least, whatever max_bytes says */
#define VACUUM_FREE 1024u  /* pages that may stay free */
#define SLICE_PAUSE (10 * USEC_PER_MSEC)
#define AGE_SOONEST (60 * USEC_PER_SEC)
#define AGE_LATEST (3600 * USEC_PER_SEC)

#define WAL_CHECKPOINT 1000 /* pages: a checkpoint begins */
#define WAL_LONG 32768	    /* pages, 128 MiB: commits make room for it to end */
#define WAL_WAIT_MSEC 25

/* ---- checkpoints ------------------------------------------------------------------------------------------ */

struct keeper {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned refs;
	bool busy, let_go;
	int result;
	char *path;
	sqlite3 *db; /* of whoever is busy */
};

static void keeper_unref(struct keeper *k)
{
	unsigned refs;

	pthread_mutex_lock(&k->lock);
	refs = --k->refs;
	pthread_mutex_unlock(&k->lock);
	if (refs > 0)
		return;
	sqlite3_close(k->db);
	pthread_cond_destroy(&k->idle);
	pthread_mutex_destroy(&k->lock);
	free(k->path);
	free(k);
}

static int keeper_open(struct keeper *k)
{
	sqlite3 *db = NULL;
	int rc;

	rc = sqlite3_open_v2(k->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_extended_result_codes(db, 1);
		sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		rc = sqlite3_exec(db, "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -512", NULL, NULL, NULL);
	}
	if (rc != SQLITE_OK) {
		sqlite3_close(db);
		return rc;
	}
	k->db = db;
	return SQLITE_OK;
}

static bool keeper_let_go(struct keeper *k)
{
	bool let_go;

	pthread_mutex_lock(&k->lock);
	let_go = k->let_go;
	pthread_mutex_unlock(&k->lock);
	return let_go;
}

static void checkpoint(void *data)
{
	struct keeper *k = data;
	int rc = SQLITE_OK, pages = 0, done = 0, before;

	if (!keeper_let_go(k)) {
		if (!k->db)
			rc = keeper_open(k);
		/* Each pass is shorter than the one before, as long as copying is faster than writing. */
		for (unsigned pass = 0; rc == SQLITE_OK && pass < 8; pass++) {
			before = done;
			rc = sqlite3_wal_checkpoint_v2(k->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &done);
			if (done >= pages || (pass > 0 && done <= before) || keeper_let_go(k))
				break;
		}
	}
	pthread_mutex_lock(&k->lock);
	k->result = rc;
	k->busy = false;
	pthread_cond_broadcast(&k->idle);
	pthread_mutex_unlock(&k->lock);
	keeper_unref(k);
}

static void keeper_wait(struct keeper *k)
{
	pthread_mutex_lock(&k->lock);
	while (k->busy)
		pthread_cond_wait(&k->idle, &k->lock);
	pthread_mutex_unlock(&k->lock);
}

static void keeper_wait_msec(struct keeper *k, long msec)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += msec * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&k->lock);
	while (k->busy && pthread_cond_timedwait(&k->idle, &k->lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&k->lock);
}

/* Begin a checkpoint when the log asks for one. Returns what the last one came to. */
static int keep(struct history *h)
{
	struct keeper *k = h->keeper;
	int result;
	bool begin;

	if (!k)
		return SQLITE_OK;
	pthread_mutex_lock(&k->lock);
	begin = !k->busy && h->store.wal_pages >= WAL_CHECKPOINT;
	result = k->busy ? SQLITE_OK : k->result;
	if (!k->busy)
		k->result = SQLITE_OK;
	if (begin) {
		k->busy = true;
		k->refs++;
	}
	pthread_mutex_unlock(&k->lock);
	if (begin && workers_submit(h->store_workers, checkpoint, k) < 0) {
		pthread_mutex_lock(&k->lock);
		k->busy = false;
		pthread_mutex_unlock(&k->lock);
		keeper_unref(k);
	}
	if (h->store.wal_pages >= WAL_LONG)
		keeper_wait_msec(k, h->store.wal_pages < 4 * WAL_LONG ? WAL_WAIT_MSEC : 8 * WAL_WAIT_MSEC);
	return result;
}

/* ---- retention -------------------------------------------------------------------------------------------- */

/* A transaction around something that deletes. */
static int end(struct history *h, int rc)
{
	if (rc == SQLITE_OK)
		rc = store_meta(h);
	if (rc == SQLITE_OK)
		rc = store_step(&h->store, ST_COMMIT);
	if (rc != SQLITE_OK && !sqlite3_get_autocommit(h->store.db))
		(void)store_step(&h->store, ST_ROLLBACK);
	return rc;
}

static int delete_events(struct history *h, uint64_t last, size_t n)
{
	struct store *s = &h->store;
	uint64_t events = s->events;
	int rc;

	/* First nobody may ask for them any more. */
	if (h->oldest <= last)
		h->oldest = last + 1;
	rc = store_step(s, ST_BEGIN);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(s->st[ST_PRUNE], 1, (int64_t)last);
		rc = store_step(s, ST_PRUNE);
	}
	if (rc == SQLITE_OK)
		s->events = events > n ? events - n : 0;
	rc = end(h, rc);
	if (rc != SQLITE_OK)
		s->events = events;
	return rc;
}

/* Up to a slice of the oldest events, if they may go. *ret_next: when the oldest that stays will be too old. */
static int prune_events(struct history *h, bool too_big, bool *ret_more, uint64_t *ret_next)
{
	struct store *s = &h->store;
	sqlite3_stmt *st = s->st[ST_OLDEST];
	uint64_t now = clock_realtime(h->clock), last = 0;
	uint64_t too_many = s->events > h->config.max_events ? s->events - h->config.max_events : 0;
	size_t n = 0;
	int rc;

	sqlite3_bind_int64(st, 1, SLICE_EVENTS + 1);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		uint64_t version = (uint64_t)sqlite3_column_int64(st, 0);
		uint64_t timestamp = (uint64_t)sqlite3_column_int64(st, 1);
		bool old = now > h->config.max_age && timestamp < now - h->config.max_age;

		if (n == SLICE_EVENTS ||
		    !(version < h->oldest || n < too_many || old || (too_big && s->events - n > KEEP_EVENTS))) {
			/* An age beyond the end of time never comes. */
			*ret_next = timestamp > UINT64_MAX - h->config.max_age ? UINT64_MAX :
										  timestamp + h->config.max_age;
			break;
		}
		last = version;
		n++;
	}
	sqlite3_reset(st);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return rc;
	*ret_more = n > 0;
	return n > 0 ? delete_events(h, last, n) : SQLITE_OK;
}

/* A text that may have nobody left. */
struct candidate {
	int64_t id;
	bool in_use;
};

static int by_id(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static void find_used(struct history *h, struct candidate *c, size_t n)
{
	struct kept *k, *next;

	qsort(c, n, sizeof(*c), by_id);
	HASH_ITER(hh, h->kept, k, next)
	{
		const struct candidate keys[] = {{.id = k->live.id}, {.id = k->inactive.id}};

		for (size_t i = 0; i < ELEMENTS(keys); i++) {
			struct candidate *used = keys[i].id ? bsearch(&keys[i], c, n, sizeof(*c), by_id) : NULL;

			if (used)
				used->in_use = true;
		}
	}
}

/* Texts that neither an event nor an object refers to. */
static int prune_texts(struct history *h, bool *ret_more)
{
	struct store *s = &h->store;
	sqlite3_stmt *st = s->st[ST_XML_UNUSED];
	struct candidate c[SLICE_TEXTS];
	size_t n = 0;
	int rc;

	sqlite3_bind_int64(st, 1, (int64_t)h->oldest);
	sqlite3_bind_int(st, 2, SLICE_TEXTS);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW && n < SLICE_TEXTS)
		c[n++] = (struct candidate){.id = sqlite3_column_int64(st, 0)};
	sqlite3_reset(st);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return rc;
	*ret_more = n > 0;
	if (n == 0)
		return SQLITE_OK;

	find_used(h, c, n);
	rc = store_step(s, ST_BEGIN);
	for (size_t i = 0; rc == SQLITE_OK && i < n; i++) {
		if (c[i].in_use) {
			/* Asked again when everything that there is now has gone. */
			sqlite3_bind_int64(s->st[ST_XML_UNTIL], 1, (int64_t)h->version);
			sqlite3_bind_int64(s->st[ST_XML_UNTIL], 2, c[i].id);
			rc = store_step(s, ST_XML_UNTIL);
			continue;
		}
		sqlite3_bind_int64(s->st[ST_XML_DELETE], 1, c[i].id);
		rc = store_step(s, ST_XML_DELETE);
		if (rc != SQLITE_OK)
			break;
		sqlite3_bind_int64(s->st[ST_XML_DATA_DELETE], 1, c[i].id);
		rc = store_step(s, ST_XML_DATA_DELETE);
		/* SQLite may give the number to another text. */
		for (size_t j = 0; j < ELEMENTS(s->cache); j++)
			if (s->cache[j].id == c[i].id) {
				text_unref(s->cache[j].text);
				s->cache[j] = (struct stored_text){0};
			}
	}
	return end(h, rc);
}

/* One slice of what there is to do. False: nothing more for now. */
static bool slice(struct history *h, uint64_t *ret_next)
{
	struct store *s = &h->store;
	uint64_t pages = 0, unused = 0;
	bool more = false, too_big;
	int rc;

	rc = store_pages(s, &pages, &unused);
	too_big = pages - unused > h->config.max_bytes / 4096;
	/* Events are small; what went with those that are gone already may be room enough. */
	if (rc == SQLITE_OK && too_big)
		rc = prune_texts(h, &more);
	if (rc == SQLITE_OK && !more)
		rc = prune_events(h, too_big, &more, ret_next);
	if (rc == SQLITE_OK && !more && !too_big)
		rc = prune_texts(h, &more);
	if (rc == SQLITE_OK && !more && h->directory && unused > VACUUM_FREE && unused > pages / 4) {
		rc = store_step(s, ST_VACUUM);
		more = true;
	}
	if (rc == SQLITE_OK)
		return more;
	if (store_is_damage(rc)) {
		history_damaged(h, sqlite3_errstr(rc));
		return false;
	}
	/* Deleting needs room too. Nothing is lost; the next time may be better. */
	log_warning("Cannot remove old events from the history: %s", sqlite3_errstr(rc));
	return false;
}

static void upkeep(struct timer *t, void *userdata)
{
	struct history *h = userdata;
	uint64_t next = UINT64_MAX, now, in = AGE_LATEST, until = clock_monotonic(h->clock) + SLICES_TIME;
	bool more = true;

	h->since_upkeep = 0;
	for (unsigned i = 0; more && i < SLICES && clock_monotonic(h->clock) < until; i++) {
		if (h->failing || h->detached || h->reading)
			return;
		more = slice(h, &next);
	}
	if (h->failing || h->detached)
		return;
	now = clock_realtime(h->clock);
	if (more)
		in = SLICE_PAUSE;
	else if (next <= now + AGE_SOONEST)
		in = AGE_SOONEST;
	else if (next - now < AGE_LATEST)
		in = next - now;
	timer_in(h->clock, &h->upkeep, in, upkeep, h);
}

void upkeep_after_commit(struct history *h, size_t n)
{
	int rc = keep(h);

	if (store_is_damage(rc)) {
		history_damaged(h, "a checkpoint found that it is");
		return;
	}
	h->since_upkeep += n < UINT32_MAX / 2 ? (unsigned)n : UINT32_MAX / 2;
	if (h->since_upkeep >= SLICE_EVENTS)
		upkeep(&h->upkeep, h);
}

/* ---- life ------------------------------------------------------------------------------------------------- */

int upkeep_start(struct history *h)
{
	if (h->store.path && !h->keeper) {
		struct keeper *k = calloc(1, sizeof(*k));
		pthread_condattr_t monotonic;
		int r = 0;

		if (!k)
			return -ENOMEM;
		pthread_mutex_init(&k->lock, NULL);
		pthread_condattr_init(&monotonic);
		pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
		pthread_cond_init(&k->idle, &monotonic);
		pthread_condattr_destroy(&monotonic);
		k->refs = 1;
		k->path = strdup(h->store.path);
		if (!k->path)
			r = -ENOMEM;
		else if (!h->store_workers)
			r = workers_new("history", 1, &h->store_workers);
		if (r < 0) {
			keeper_unref(k);
			return r;
		}
		h->keeper = k;
	}
	/* What grew too old while nobody ran goes soon, but not before the first clients are served. */
	timer_in(h->clock, &h->upkeep, SLICE_PAUSE, upkeep, h);
	return 0;
}

void upkeep_let_go(struct history *h)
{
	if (!h->keeper)
		return;
	pthread_mutex_lock(&h->keeper->lock);
	h->keeper->let_go = true;
	pthread_mutex_unlock(&h->keeper->lock);
	keeper_unref(h->keeper);
	h->keeper = NULL;
	timer_clear(&h->upkeep);
}

void upkeep_stop(struct history *h)
{
	if (h->keeper)
		keeper_wait(h->keeper);
	upkeep_let_go(h);
	if (h->store_workers)
		workers_close(h->store_workers, NULL);
	h->store_workers = NULL;
	timer_clear(&h->upkeep);
}
