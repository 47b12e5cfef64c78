/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "history-private.h"
#include "util/vdict.h"

/* vireo.db: from events and objects to rows. */

/* Of memory for words, kept from one row to the next. */
#define WORDS_KEPT ((size_t)64 << 10)

/* A row being bound: column after column, with its sum. */
struct row {
	sqlite3_stmt *st;
	int column, rc;
	uint64_t sum;
};

static void row_int(struct row *r, int64_t v)
{
	if (r->rc == SQLITE_OK)
		r->rc = sqlite3_bind_int64(r->st, ++r->column, v);
	r->sum = sum_int(r->sum, v);
}

static void row_null(struct row *r)
{
	if (r->rc == SQLITE_OK)
		r->rc = sqlite3_bind_null(r->st, ++r->column);
	r->sum = sum_null(r->sum);
}

/* Borrowed until the statement is reset. */
static void row_textn(struct row *r, const char *s, size_t n)
{
	if (r->rc == SQLITE_OK)
		r->rc = sqlite3_bind_text(r->st, ++r->column, s, (int)n, SQLITE_STATIC);
	r->sum = sum_bytes(r->sum, s, n);
}

static void row_text(struct row *r, const char *s)
{
	if (s)
		row_textn(r, s, strlen(s));
	else
		row_null(r);
}

static void row_id(struct row *r, int64_t id)
{
	if (id)
		row_int(r, id);
	else
		row_null(r);
}

static int row_write(struct row *r)
{
	if (r->rc == SQLITE_OK)
		r->rc = sqlite3_bind_int64(r->st, ++r->column, (int64_t)r->sum);
	return r->rc == SQLITE_OK ? store_run(r->st) : r->rc;
}

int store_write_meta(struct store *s, uint64_t oldest, uint64_t version)
{
	struct row r = {.st = s->st[ST_META]};

	row_text(&r, s->epoch);
	row_int(&r, (int64_t)s->opened);
	row_int(&r, (int64_t)oldest);
	row_int(&r, (int64_t)version);
	row_int(&r, (int64_t)s->follows);
	row_int(&r, (int64_t)s->events);
	return row_write(&r);
}

/* ---- a batch ---------------------------------------------------------------------------------------------- */

static int set_until(struct store *s, int64_t id, uint64_t version)
{
	sqlite3_bind_int64(s->st[ST_XML_UNTIL], 1, (int64_t)version);
	sqlite3_bind_int64(s->st[ST_XML_UNTIL], 2, id);
	return store_step(s, ST_XML_UNTIL);
}

/* The row of a text, made if there is none. @version refers to it. */
static int intern(struct store *s, struct text *t, uint64_t version, int64_t *ret)
{
	struct stored_text *memo;
	sqlite3_stmt *st;
	int64_t id = 0;
	int rc;

	for (size_t i = 0; i < ELEMENTS(s->memo); i++)
		if (s->memo[i].text && text_equal(s->memo[i].text, t)) {
			*ret = s->memo[i].id;
			return SQLITE_OK;
		}

	st = s->st[ST_XML_FIND];
	sqlite3_bind_blob(st, 1, t->hash, sizeof(t->hash), SQLITE_STATIC);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		id = sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	if (rc == SQLITE_ROW) {
		rc = set_until(s, id, version);
	} else if (rc == SQLITE_DONE) {
		st = s->st[ST_XML_ADD];
		sqlite3_bind_blob(st, 1, t->hash, sizeof(t->hash), SQLITE_STATIC);
		sqlite3_bind_int64(st, 2, (int64_t)version);
		rc = store_run(st);
		if (rc == SQLITE_OK) {
			id = sqlite3_last_insert_rowid(s->db);
			st = s->st[ST_XML_DATA];
			sqlite3_bind_int64(st, 1, id);
			sqlite3_bind_text64(st, 2, t->data, t->size, SQLITE_STATIC, SQLITE_UTF8);
			rc = store_run(st);
		}
	}
	if (rc != SQLITE_OK)
		return rc;
	memo = &s->memo[s->memo_next++ % ELEMENTS(s->memo)];
	*memo = (struct stored_text){.text = t, .id = id};
	*ret = id;
	return SQLITE_OK;
}

/*
 * The id of a text for a row of @k (may be NULL). One that the object's row has now needs no looking up, nor a new
 * until: it gets one when the object lets go of it, which is no earlier than @version.
 */
static int text_id(struct store *s, struct text *t, const struct kept *k, uint64_t version, int64_t *ret)
{
	*ret = 0;
	if (!t)
		return SQLITE_OK;
	if (k && text_equal(k->live.text, t)) {
		*ret = k->live.id;
		return SQLITE_OK;
	}
	if (k && text_equal(k->inactive.text, t)) {
		*ret = k->inactive.id;
		return SQLITE_OK;
	}
	return intern(s, t, version, ret);
}

static int write_object(struct history *h, struct kept *k, const char *props, size_t size)
{
	struct store *s = &h->store;
	struct row r = {.st = s->st[ST_OBJECT]};
	int rc;

	rc = text_id(s, k->xml, k, h->version, &k->new_live);
	if (rc == SQLITE_OK)
		rc = text_id(s, k->xml_inactive, k, h->version, &k->new_inactive);
	if (rc != SQLITE_OK)
		return rc;
	row_int(&r, k->id);
	row_int(&r, k->kind);
	row_text(&r, k->path);
	row_text(&r, k->connection);
	row_int(&r, (int64_t)k->version);
	row_int(&r, (int64_t)k->incarnation);
	row_textn(&r, props, size);
	row_id(&r, k->new_live);
	row_id(&r, k->new_inactive);
	row_text(&r, k->extra);
	rc = row_write(&r);
	k->written = true;
	return rc;
}

/* What the object's row let go of. */
static int release_texts(struct history *h, const struct kept *k)
{
	const int64_t old[] = {k->live.id, k->inactive.id};
	int rc = SQLITE_OK;

	for (size_t i = 0; rc == SQLITE_OK && i < ELEMENTS(old); i++)
		if (old[i] && (k->gone || (old[i] != k->new_live && old[i] != k->new_inactive)))
			rc = set_until(&h->store, old[i], h->version);
	return rc;
}

static int write_dirty(struct history *h)
{
	int rc = SQLITE_OK;

	for (struct kept *k = h->dirty; k && rc == SQLITE_OK; k = k->next_dirty) {
		if (k->gone) {
			sqlite3_bind_int64(h->store.st[ST_OBJECT_DELETE], 1, k->id);
			rc = store_step(&h->store, ST_OBJECT_DELETE);
		} else if (!k->written) {
			struct writer *w = &h->store.words;

			writer_reset(w, WORDS_KEPT);
			props_write(w, k->props);
			rc = w->failed ? SQLITE_NOMEM : write_object(h, k, w->data, w->size);
		}
		if (rc == SQLITE_OK)
			rc = release_texts(h, k);
	}
	return rc;
}

static int write_event(struct history *h, const struct event *e, bool objects)
{
	struct store *s = &h->store;
	struct row r = {.st = s->st[ST_EVENT]};
	struct kept *k = history_kept(h, e->path);
	struct writer *w = &s->words;
	bool details = e->details && e->details->n > 0;
	_cleanup_(freep) char *types = details ? vdict_types(e->details) : NULL;
	int64_t xml, xml_inactive;
	size_t size;
	int rc;

	rc = text_id(s, e->xml, k, e->version, &xml);
	if (rc == SQLITE_OK)
		rc = text_id(s, e->xml_inactive, k, e->version, &xml_inactive);
	if (rc != SQLITE_OK)
		return rc;

	/* One behind the other. */
	writer_reset(w, WORDS_KEPT);
	props_write(w, e->props);
	size = w->size;
	if (details)
		vdict_write(w, e->details);
	if (w->failed || (details && !types))
		return SQLITE_NOMEM;
	row_int(&r, (int64_t)e->version);
	row_int(&r, (int64_t)s->follows);
	row_int(&r, (int64_t)e->previous);
	row_int(&r, e->kind);
	row_text(&r, e->path);
	row_text(&r, e->connection);
	row_text(&r, e->name);
	row_text(&r, e->reason);
	row_int(&r, (int64_t)e->timestamp);
	row_int(&r, e->inferred);
	row_textn(&r, w->data, size);
	if (details)
		row_textn(&r, w->data + size, w->size - size);
	else
		row_null(&r);
	row_text(&r, types);
	row_id(&r, xml);
	row_id(&r, xml_inactive);
	rc = row_write(&r);
	/* Mostly the object's row is to say the same: no need to put it into words twice. */
	if (rc == SQLITE_OK && objects && k && k->dirty && !k->gone && !k->written && k->props == e->props)
		rc = write_object(h, k, w->data, size);
	if (rc == SQLITE_OK) {
		s->follows = e->version;
		s->events++;
	}
	return rc;
}

int store_meta(struct history *h)
{
	return store_write_meta(&h->store, h->oldest, h->version);
}

int store_write(struct history *h, struct event *const *events, size_t n, bool objects)
{
	struct store *s = &h->store;
	uint64_t follows = s->follows, count = s->events;
	int rc;

	memset(s->memo, 0, sizeof(s->memo));
	rc = store_step(s, ST_BEGIN);
	for (size_t i = 0; rc == SQLITE_OK && i < n; i++)
		rc = write_event(h, events[i], objects);
	if (rc == SQLITE_OK && objects)
		rc = write_dirty(h);
	if (rc == SQLITE_OK)
		rc = store_meta(h);
	if (rc == SQLITE_OK)
		rc = store_step(s, ST_COMMIT);
	memset(s->memo, 0, sizeof(s->memo));
	if (rc != SQLITE_OK) {
		/* After some errors SQLite has rolled back by itself. */
		if (!sqlite3_get_autocommit(s->db))
			(void)store_step(s, ST_ROLLBACK);
		s->follows = follows;
		s->events = count;
		for (struct kept *k = h->dirty; k; k = k->next_dirty)
			k->written = false;
	}
	/* A row where there should be none, a column that isn't there: no accident of the disk's fullness does that. */
	return store_is_circumstance(rc) ? rc : SQLITE_CORRUPT;
}
