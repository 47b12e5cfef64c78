/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "history-private.h"
#include "util/log.h"

#define DEFAULT_EVENTS UINT64_C(1000000)
#define DEFAULT_AGE (UINT64_C(30) * 24 * 3600 * USEC_PER_SEC)
#define DEFAULT_BYTES (UINT64_C(1) << 30)

/* Writing again after it failed: how long to wait, how many events in one transaction, how long at a stretch. */
#define RETRY_FIRST (100 * USEC_PER_MSEC)
#define RETRY_LAST (10 * USEC_PER_SEC)
#define RETRY_EVENTS 256
#define RETRY_TIME (10 * USEC_PER_MSEC)
/* A store that is damaged this often in one life is not worth another try. */
#define DAMAGES_MAX 5

/* ---- reserving versions ----------------------------------------------------------------------------------- */

struct reservation {
	struct state_file *state;
	uint64_t upto;
	pthread_mutex_t lock;
	pthread_cond_t ready;
	bool done;
	int result;
};

static void reserve(void *data)
{
	struct reservation *r = data;
	int result = state_reserve(r->state, r->upto);

	pthread_mutex_lock(&r->lock);
	r->result = result;
	r->done = true;
	pthread_cond_signal(&r->ready);
	pthread_mutex_unlock(&r->lock);
}

/* @wait: until it is done. Afterwards h->reserved is what counts. */
static void reservation_collect(struct history *h, bool wait)
{
	struct reservation *r = h->reserving;
	bool done;

	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	while (wait && !r->done)
		pthread_cond_wait(&r->ready, &r->lock);
	done = r->done;
	pthread_mutex_unlock(&r->lock);
	if (!done)
		return;
	if (r->result == 0)
		h->reserved = r->upto;
	else
		log_warning("Cannot reserve versions in %s/vireo.state: %s", h->directory, strerror(-r->result));
	pthread_cond_destroy(&r->ready);
	pthread_mutex_destroy(&r->lock);
	free(r);
	h->reserving = NULL;
}

static void reservation_begin(struct history *h)
{
	struct reservation *r = calloc(1, sizeof(*r));

	if (!r)
		return;
	r->state = h->state;
	r->upto = h->reserved + HISTORY_RESERVE;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->ready, NULL);
	if (workers_submit(h->state_workers, reserve, r) < 0) {
		pthread_cond_destroy(&r->ready);
		pthread_mutex_destroy(&r->lock);
		free(r);
		return;
	}
	h->reserving = r;
}

uint64_t history_next(struct history *h)
{
	uint64_t version = h->version + 1;
	int r;

	if (h->state && !h->detached) {
		reservation_collect(h, false);
		if (version > h->reserved) {
			/* The disk took longer than half a range lasted: nothing else is safe than to wait for it. */
			reservation_collect(h, true);
			if (version > h->reserved) {
				r = state_reserve(h->state, h->reserved + HISTORY_RESERVE);
				if (r == 0)
					h->reserved += HISTORY_RESERVE;
				else
					history_detach(h, strerror(-r));
			}
		} else if (!h->reserving && h->reserved - version < HISTORY_RESERVE / 2) {
			reservation_begin(h);
		}
	}
	h->version = version;
	return version;
}

/* ---- writing, and failing to ------------------------------------------------------------------------------- */

void history_detach(struct history *h, const char *why)
{
	if (h->detached)
		return;
	upkeep_stop(h);
	timer_clear(&h->retry);
	if (history_new_epoch(h) < 0) {
		log_error("No random numbers for a new epoch");
		abort();
	}
	h->detached = true;
	h->failing = false;
	h->ring_unwritten = 0;
	store_close(&h->store);
	history_settle(h);
	history_raise_oldest(h, h->ring_floor + 1);
	log_id(LOG_CRIT, LOG_ID_HISTORY_LOST,
	       "The history in %s is given up until the next start (%s): from now on it is kept in memory only, under a new "
	       "epoch. Clients have to list anew.",
	       h->directory, why);
}

static void retry(struct timer *t, void *userdata);

static void begin_failing(struct history *h)
{
	int r;

	if (h->failing)
		return;
	h->failing = true;
	h->lost = false;
	h->retry_delay = RETRY_FIRST;
	if (!h->state)
		return;
	/* Should this be the end of us, then the next life must know that events are missing. */
	r = state_flags(h->state, STATE_LOST, 0);
	if (r < 0)
		history_detach(h, strerror(-r));
}

/* Write what is unwritten, in pieces. True when nothing is left; *ret_rc says why not. */
static bool catch_up(struct history *h, int *ret_rc)
{
	uint64_t until = clock_monotonic(h->clock) + RETRY_TIME;

	*ret_rc = SQLITE_OK;
	do {
		struct event *events[RETRY_EVENTS];
		size_t n = h->ring_unwritten < RETRY_EVENTS ? h->ring_unwritten : RETRY_EVENTS;
		bool last = n == h->ring_unwritten;
		int rc;

		for (size_t i = 0; i < n; i++)
			events[i] = ring_at(h, h->ring_n - h->ring_unwritten + i);
		rc = store_write(h, events, n, last);
		if (rc != SQLITE_OK) {
			*ret_rc = rc;
			return false;
		}
		h->ring_unwritten -= n;
		if (last) {
			history_settle(h);
			return true;
		}
	} while (clock_monotonic(h->clock) < until);
	return false;
}

static void try_again(struct history *h)
{
	int rc, r;

	if (catch_up(h, &rc)) {
		h->failing = false;
		timer_clear(&h->retry);
		r = h->state ? state_flags(h->state, 0, STATE_LOST) : 0;
		if (r < 0)
			log_warning("Cannot write %s/vireo.state: %s", h->directory, strerror(-r));
		log_notice("The history in %s is written again; the oldest version is %" PRIu64 ".",
			   h->directory ? h->directory : "memory", h->oldest);
		upkeep_after_commit(h, RETRY_EVENTS);
		return;
	}
	if (store_is_damage(rc)) {
		history_damaged(h, sqlite3_errstr(rc));
		return;
	}
	if (rc == SQLITE_OK)
		h->retry_delay = 0; /* only out of breath */
	else
		h->retry_delay = h->retry_delay * 2 < RETRY_FIRST ? RETRY_FIRST :
				 h->retry_delay * 2 > RETRY_LAST  ? RETRY_LAST :
								    h->retry_delay * 2;
	timer_in(h->clock, &h->retry, h->retry_delay, retry, h);
}

static void retry(struct timer *t, void *userdata)
{
	try_again(userdata);
}

void history_damaged(struct history *h, const char *how)
{
	_cleanup_(freep) char *aside = NULL, *path = NULL;
	struct store_meta meta = {.oldest = h->ring_floor + 1, .version = h->ring_floor, .opened = h->store.opened};
	struct kept *k, *next;
	int r, rc;

	if (!h->directory || ++h->damages > DAMAGES_MAX) {
		history_detach(h, how);
		return;
	}
	begin_failing(h);
	if (h->detached)
		return;
	upkeep_let_go(h);
	path = h->store.path ? strdup(h->store.path) : NULL;
	store_close(&h->store);
	r = path ? history_set_aside(h, &aside) : -ENOMEM;
	if (r < 0) {
		history_detach(h, strerror(-r));
		return;
	}
	log_id(LOG_CRIT, LOG_ID_STORE_DAMAGED,
	       "The history in %s turned out to be damaged (%s). It was set aside as %s, and is begun anew from memory: "
	       "events up to version %" PRIu64 " are gone.",
	       h->directory, how, aside ? aside : "nothing, for it is gone", h->ring_floor);

	memcpy(meta.epoch, h->epoch, sizeof(meta.epoch));
	rc = store_open(&h->store, path, true, &meta);
	if (rc != SQLITE_OK) {
		history_detach(h, sqlite3_errstr(rc));
		return;
	}
	history_raise_oldest(h, h->ring_floor + 1);
	h->ring_below = h->ring_floor;
	h->ring_unwritten = h->ring_n;
	HASH_ITER(hh, h->kept, k, next) {
		history_link_text(&k->live, NULL, 0);
		history_link_text(&k->inactive, NULL, 0);
		k->id = h->store.next_id++;
		history_mark_dirty(h, k);
	}
	if (upkeep_start(h) < 0)
		log_warning("No thread for the upkeep of the history in %s", h->directory);
	/* From the loop, not here: whoever reads or commits now must not be called back into. */
	h->retry_delay = 0;
	timer_in(h->clock, &h->retry, 0, retry, h);
}

void history_commit(struct history *h)
{
	size_t n = h->n_batch;
	int rc;

	if (n == 0 && !h->dirty) {
		h->committed = h->version;
		return;
	}
	if (h->detached) {
		history_batch_to_ring(h, false);
		history_settle(h);
		return;
	}
	if (h->failing) {
		history_batch_to_ring(h, true);
		return;
	}

	rc = store_write(h, h->batch, n, true);
	if (rc == SQLITE_OK) {
		/* Only a note, not on the disk yet: good against all but a power cut, which shows otherwise. */
		if (h->state)
			(void)state_commit(h->state, h->version);
		history_batch_to_ring(h, false);
		history_settle(h);
		upkeep_after_commit(h, n);
		return;
	}
	if (store_is_damage(rc)) {
		history_damaged(h, sqlite3_errstr(rc));
	} else {
		log_id(LOG_CRIT, LOG_ID_HISTORY_LOST,
		       "The history in %s cannot be written: %s. The newest events are kept in memory, and it is tried again; "
		       "free some space there.",
		       h->directory ? h->directory : "memory", sqlite3_errstr(rc));
		begin_failing(h);
		if (!h->detached)
			timer_in(h->clock, &h->retry, h->retry_delay, retry, h);
	}
	history_batch_to_ring(h, !h->detached);
	if (h->detached)
		history_settle(h);
}

int history_append(struct history *h, struct event *e)
{
	assert(e->version <= h->version && e->version > h->committed);
	assert(h->n_batch == 0 || h->batch[h->n_batch - 1]->version < e->version);
	if (h->n_batch == h->size_batch) {
		size_t size = h->size_batch ? h->size_batch * 2 : 64;
		struct event **batch = reallocarray(h->batch, size, sizeof(*batch));

		if (!batch)
			return -ENOMEM;
		h->batch = batch;
		h->size_batch = size;
	}
	h->batch[h->n_batch++] = event_ref(e);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------------------- */

static void history_free(struct history *h)
{
	struct kept *k, *next;

	upkeep_stop(h);
	timer_clear(&h->retry);
	reservation_collect(h, true);
	if (h->state_workers)
		workers_close(h->state_workers, NULL);
	for (size_t i = 0; i < h->n_batch; i++)
		event_unref(h->batch[i]);
	free(h->batch);
	for (size_t i = 0; i < h->ring_n; i++)
		event_unref(ring_at(h, i));
	free(h->ring);
	free(h->ring_cost);
	HASH_ITER(hh, h->kept, k, next)
		history_kept_free(h, k);
	store_close(&h->store);
	state_close(h->state);
	free(h->directory);
	free(h);
}
DEFINE_CLEANUP(struct history *, history_free)

static int open_memory(struct history *h, struct failure *f)
{
	struct store_meta meta = {.oldest = 1, .opened = 1};
	int r, rc;

	r = history_new_epoch(h);
	if (r < 0)
		return r;
	memcpy(meta.epoch, h->epoch, sizeof(meta.epoch));
	rc = store_open(&h->store, NULL, true, &meta);
	if (rc != SQLITE_OK)
		return failure_set(f, VIREO_OPERATION_FAILED, "cannot keep a history in memory: %s", sqlite3_errstr(rc));
	h->oldest = 1;
	return 0;
}

int history_open(const struct history_config *config, struct clock *clock, struct history **ret, struct failure *f)
{
	_cleanup_(history_freep) struct history *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->clock = clock;
	h->config = *config;
	h->config.directory = h->config.boot_id = NULL;
	if (!h->config.max_events)
		h->config.max_events = DEFAULT_EVENTS;
	if (!h->config.max_age)
		h->config.max_age = DEFAULT_AGE;
	if (!h->config.max_bytes)
		h->config.max_bytes = DEFAULT_BYTES;
	h->ring = calloc(RING_EVENTS, sizeof(*h->ring));
	h->ring_cost = calloc(RING_EVENTS, sizeof(*h->ring_cost));
	if (!h->ring || !h->ring_cost)
		return -ENOMEM;
	if (config->directory) {
		h->directory = strdup(config->directory);
		if (!h->directory)
			return -ENOMEM;
		r = workers_new("state", 1, &h->state_workers);
		if (r < 0)
			return r;
		r = history_open_directory(h, config->boot_id, f);
	} else {
		r = open_memory(h, f);
	}
	if (r != 0)
		return r;
	h->ring_floor = h->committed;
	h->ring_below = h->store.follows;
	r = upkeep_start(h);
	if (r < 0)
		return r;
	*ret = TAKE(h);
	return 0;
}

/* Everything is written and on the disk: then the next life may go on exactly here. */
static void close_cleanly(struct history *h)
{
	struct state_values v;
	int rc, r;

	history_commit(h);
	h->retry_delay = 0;
	while (h->failing && h->retry_delay == 0)
		try_again(h);
	upkeep_stop(h);
	reservation_collect(h, true);
	if (!h->state || h->detached)
		return;
	if (h->failing) {
		log_warning("The history in %s ends incomplete: it still cannot be written.", h->directory);
		return;
	}
	/* For the last version: the newest may have been given without an event. */
	rc = store_write(h, NULL, 0, true);
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(h->store.db, 2000);
		rc = sqlite3_wal_checkpoint_v2(h->store.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	}
	if (rc != SQLITE_OK) {
		log_warning("The history in %s could not be closed cleanly: %s", h->directory, sqlite3_errstr(rc));
		return;
	}
	state_get(h->state, &v);
	v.version = h->version;
	v.flags = STATE_CLEAN;
	r = state_write(h->state, &v, true);
	if (r < 0)
		log_warning("Cannot write %s/vireo.state: %s", h->directory, strerror(-r));
}

void history_close(struct history *h)
{
	if (!h)
		return;
	close_cleanly(h);
	history_free(h);
}

const char *history_epoch(struct history *h)
{
	return h->epoch;
}

uint64_t history_version(struct history *h)
{
	return h->version;
}

uint64_t history_oldest(struct history *h)
{
	return h->oldest;
}

bool history_degraded(struct history *h)
{
	return h->failing || h->detached;
}
