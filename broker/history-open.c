/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "history-private.h"
#include "util/log.h"

/*
 * How did the last life end? What follows from it:
 *
 *   vireo.state       vireo.db
 *   none              none                  the first start: a new epoch, versions from 1
 *   valid             damaged, another's    set aside; a new epoch
 *   valid             none                  lost; a new epoch
 *   none, damaged     there                 nobody knows which versions were used: set aside; a new epoch
 *   valid, CLEAN      of the same closing   goes on where it was
 *   same boot         up to its version     killed: versions go on above all that were reserved, history is whole
 *   same boot         not so far            its log was lost or damaged: besides, everything before now is Gone
 *   LOST              there                 told events were never written: the same
 *   another boot      there                 the power may have taken the newest events: the same
 *   valid             of an older opening   restored from a backup: the same
 */

static const char *const suffixes[] = {"", "-wal", "-shm"};

/* A file of the store: itself, its log, its index. */
static char *file_of(const char *path, size_t i)
{
	char *name;

	return asprintf(&name, "%s%s", path, suffixes[i]) < 0 ? NULL : name;
}

static char *store_path(const struct history *h)
{
	char *path;

	return asprintf(&path, "%s/vireo.db", h->directory) < 0 ? NULL : path;
}

int history_new_epoch(struct history *h)
{
	sd_id128_t id;
	int r = sd_id128_randomize(&id);

	if (r < 0)
		return r;
	sd_id128_to_string(id, h->epoch);
	return 0;
}

int history_set_aside(struct history *h, char **ret)
{
	_cleanup_(freep) char *path = store_path(h), *aside = NULL;
	time_t now = (time_t)(clock_realtime(h->clock) / USEC_PER_SEC);
	char stamp[32];
	bool any = false;
	struct stat st;
	struct tm tm;

	if (!path)
		return -ENOMEM;
	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	for (unsigned i = 0;; i++) {
		int r = i == 0 ? asprintf(&aside, "%s.damaged-%s", path, stamp) :
				 asprintf(&aside, "%s.damaged-%s.%u", path, stamp, i);

		if (r < 0) {
			aside = NULL;
			return -ENOMEM;
		}
		if (access(aside, F_OK) < 0)
			break;
		free(TAKE(aside));
	}
	for (size_t i = 0; i < ELEMENTS(suffixes); i++) {
		_cleanup_(freep) char *from = file_of(path, i), *to = file_of(aside, i);

		if (!from || !to)
			return -ENOMEM;
		if (rename(from, to) < 0) {
			if (errno != ENOENT)
				return -errno;
			continue;
		}
		/* The log stays, empty, and the index says nothing by itself. */
		any = any || i == 0 || (i == 1 && stat(to, &st) == 0 && st.st_size > 0);
	}
	if (!any)
		return 0;
	*ret = TAKE(aside);
	return 1;
}

static void sync_directory(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)fsync(fd);
	close(fd);
}

static int cannot(struct failure *f, const struct history *h, int rc)
{
	return failure_set(f, VIREO_OPERATION_FAILED, "cannot use the history in %s: %s%s", h->directory,
			   sqlite3_errstr(rc),
			   (rc & 0xff) == SQLITE_FULL || (rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN ?
				   ". Is there space left, and may vireod write there? --state-directory chooses "
				   "another place" :
			   (rc & 0xff) == SQLITE_BUSY ? ". Another program has it open" :
							"");
}

static int write_state(struct history *h, const struct state_values *v, struct failure *f)
{
	int r = state_write(h->state, v, true);

	if (r < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "cannot write %s/vireo.state: %s", h->directory, strerror(-r));
	return 0;
}

/* Of a store that never came to be. */
static void remove_leftovers(const char *path)
{
	for (size_t i = 0; i < ELEMENTS(suffixes); i++) {
		_cleanup_(freep) char *name = file_of(path, i);

		if (name)
			(void)unlink(name);
	}
}

/* An empty store under an epoch of its own, where none is. */
static int begin(struct history *h, struct state_values *v, const char *path, struct failure *f)
{
	struct store_meta meta = {.oldest = 1, .opened = 1};
	int r, rc;

	r = history_new_epoch(h);
	if (r < 0)
		return r;
	memcpy(v->epoch, h->epoch, sizeof(v->epoch));
	memcpy(meta.epoch, h->epoch, sizeof(meta.epoch));
	v->opened = 1;
	v->version = 0;
	v->reserved = HISTORY_RESERVE;
	/* First what makes a half-made store recognisable, then the store. */
	v->flags = STATE_CREATING;
	r = write_state(h, v, f);
	if (r != 0)
		return r;
	rc = store_open(&h->store, path, true, &meta);
	if (rc != SQLITE_OK)
		return cannot(f, h, rc);
	sync_directory(h->directory);
	v->flags = 0;
	r = write_state(h, v, f);
	if (r != 0)
		return r;
	h->version = h->committed = 0;
	h->oldest = 1;
	return 0;
}

/* @why: in words for an administrator. */
static int set_aside_and_begin(struct history *h, struct state_values *v, const char *path, const char *why,
			       struct failure *f)
{
	_cleanup_(freep) char *aside = NULL;
	int r;

	store_close(&h->store);
	r = history_set_aside(h, &aside);
	if (r < 0)
		return failure_set(f, VIREO_OPERATION_FAILED,
				   "the history %s is damaged (%s), and it cannot be set aside: %s", path, why,
				   strerror(-r));
	log_id(LOG_CRIT, LOG_ID_STORE_DAMAGED,
	       "The history in %s cannot be used: %s. %s%s, and a new epoch begins: clients have to list anew.", h->directory,
	       why, aside ? "What there is was set aside as " : "There is nothing to be set aside", aside ? aside : "");
	return begin(h, v, path, f);
}

/* The store is sound and belongs to the state: where do versions go on, and what can still be followed? */
static void resume(struct history *h, struct state_values *v, const struct store_meta *meta)
{
	bool same_opening = meta->opened == v->opened || meta->opened == v->opened + 1;
	bool same_boot = v->boot[0] && strcmp(v->boot, h->boot) == 0;
	const char *missing = NULL;

	memcpy(h->epoch, v->epoch, sizeof(h->epoch));
	h->oldest = meta->oldest;
	if (v->flags & STATE_CLEAN && same_opening && meta->version == v->version) {
		h->version = h->committed = v->version;
		return;
	}
	h->version = h->committed = v->reserved;
	if (v->flags & STATE_LOST)
		missing = "Events could not be written before the last end";
	else if (!same_opening || meta->version < v->version || v->flags & STATE_CLEAN)
		missing = "The database is older than what is known of it";
	else if (!same_boot)
		missing = "The system went down while vireod ran";
	if (!missing) {
		log_notice("vireod ended without closing its history; versions go on at %" PRIu64 ".", v->reserved + 1);
		return;
	}
	h->oldest = v->reserved + 1;
	log_id(LOG_WARNING, v->flags & STATE_LOST || same_boot ? LOG_ID_HISTORY_LOST : LOG_ID_UNCLEAN_BOOT,
	       "%s, so the newest events may be missing in %s: whoever asks for events up to version %" PRIu64
	       " is told that they are gone.",
	       missing, h->directory, v->reserved);
}

/* Take up what is there. *ret_why: it can't be; constant. */
static int take_up(struct history *h, struct state_values *v, const char *path, const char **ret_why, struct failure *f)
{
	struct store_meta meta = {0};
	int rc;

	*ret_why = NULL;
	rc = store_open(&h->store, path, false, &meta);
	if (rc == SQLITE_OK)
		rc = history_load_objects(h);
	if (store_is_damage(rc)) {
		*ret_why = rc == SQLITE_FORMAT ? "another version of Vireo wrote it" : "it is damaged";
		return 0;
	}
	if (rc != SQLITE_OK)
		return cannot(f, h, rc);
	if (strcmp(meta.epoch, v->epoch) != 0) {
		*ret_why = "it is of another epoch than vireo.state";
		return 0;
	}
	if (meta.version > v->reserved || meta.oldest > v->reserved + 1 || h->store.follows > v->reserved ||
	    v->reserved > HISTORY_VERSION_LIMIT || meta.opened > v->opened + 1) {
		*ret_why = "its versions are not those of vireo.state";
		return 0;
	}

	resume(h, v, &meta);
	h->store.opened = v->opened + 1;
	rc = store_step(&h->store, ST_BEGIN);
	if (rc == SQLITE_OK)
		rc = store_meta(h);
	if (rc == SQLITE_OK)
		rc = store_step(&h->store, ST_COMMIT);
	if (store_is_damage(rc)) {
		*ret_why = "it is damaged";
		return 0;
	}
	if (rc != SQLITE_OK)
		return cannot(f, h, rc);

	v->opened++;
	v->flags = 0;
	v->version = h->version;
	if (v->reserved < h->version + HISTORY_RESERVE / 2)
		v->reserved = h->version + HISTORY_RESERVE;
	memcpy(v->boot, h->boot, sizeof(v->boot));
	/* From here on a crash is a crash: no version is given before that is certain. */
	return write_state(h, v, f);
}

static void read_boot_id(struct history *h, const char *boot_id)
{
	sd_id128_t id;

	if (boot_id)
		snprintf(h->boot, sizeof(h->boot), "%s", boot_id);
	else if (sd_id128_get_boot(&id) >= 0)
		sd_id128_to_string(id, h->boot);
	/* Else it stays empty, which equals nothing: an unclean end is then always taken for a power cut. */
}

int history_open_directory(struct history *h, const char *boot_id, struct failure *f)
{
	_cleanup_(freep) char *path = store_path(h);
	struct state_values v;
	enum state_found found;
	const char *why = NULL;
	struct stat st;
	bool there;
	int r;

	if (!path)
		return -ENOMEM;
	read_boot_id(h, boot_id);
	r = state_open(h->directory, &found, &v, &h->state, f);
	if (r != 0)
		return r;
	if (found != STATE_VALID)
		v = (struct state_values){0};
	there = stat(path, &st) == 0;
	if (!there && errno != ENOENT)
		return failure_set(f, VIREO_OPERATION_FAILED, "cannot look at %s: %s", path, strerror(errno));
	if (there && !S_ISREG(st.st_mode))
		return failure_set(f, VIREO_OPERATION_FAILED, "%s is not a file; move it away", path);

	if (found == STATE_VALID && !(v.flags & STATE_CREATING) && there) {
		r = take_up(h, &v, path, &why, f);
		if (r != 0)
			return r;
	}
	memcpy(v.boot, h->boot, sizeof(v.boot));
	if (!why && h->store.db) {
		r = 0;
	} else if (found != STATE_NONE && v.flags & STATE_CREATING) {
		remove_leftovers(path);
		r = begin(h, &v, path, f);
	} else if (why || there || found == STATE_VALID) {
		r = set_aside_and_begin(h, &v, path,
					why			? why :
					!there			? "it is lost" :
					found == STATE_NONE	? "vireo.state is missing" :
								  "vireo.state is damaged",
					f);
	} else {
		r = begin(h, &v, path, f);
	}
	if (r != 0)
		return r;
	h->reserved = v.reserved;
	return 0;
}
