/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

#include "history-private.h"
#include "util/log.h"
#include "util/vdict.h"

/* vireo.db: from rows to objects and events. All result codes are SQLite's; what makes no sense is SQLITE_CORRUPT. */

/* The columns of events, in the order of the schema. */
enum { EV_VERSION, EV_FOLLOWS, EV_PREVIOUS, EV_KIND, EV_PATH, EV_CONNECTION, EV_NAME, EV_REASON, EV_TIMESTAMP,
       EV_INFERRED, EV_PROPS, EV_DETAILS, EV_TYPES, EV_XML, EV_XML_INACTIVE };
enum { OBJ_ID, OBJ_KIND, OBJ_PATH, OBJ_CONNECTION, OBJ_VERSION, OBJ_INCARNATION, OBJ_PROPS, OBJ_XML,
       OBJ_XML_INACTIVE, OBJ_EXTRA };

static const char *column(sqlite3_stmt *st, int i)
{
	return (const char *)sqlite3_column_text(st, i);
}

static int parse_json(const char *s, int size, struct json_object **ret)
{
	struct json_tokener *tokener = json_tokener_new();

	if (!tokener)
		return SQLITE_NOMEM;
	*ret = s ? json_tokener_parse_ex(tokener, s, size) : NULL;
	json_tokener_free(tokener);
	return *ret ? SQLITE_OK : SQLITE_CORRUPT;
}

static int read_props(sqlite3_stmt *st, int i, enum kind kind, struct props **ret)
{
	const char *text = column(st, i);
	int r = text ? props_read(kind, text, (size_t)sqlite3_column_bytes(st, i), ret) : -EINVAL;

	return r == 0 ? SQLITE_OK : r == -ENOMEM ? SQLITE_NOMEM : SQLITE_CORRUPT;
}

static int read_details(sqlite3_stmt *st, struct vdict **ret)
{
	struct json_object *json;
	int rc, r;

	if (sqlite3_column_type(st, EV_DETAILS) == SQLITE_NULL)
		return SQLITE_OK;
	rc = parse_json(column(st, EV_DETAILS), sqlite3_column_bytes(st, EV_DETAILS), &json);
	if (rc != SQLITE_OK)
		return rc;
	r = column(st, EV_TYPES) ? vdict_from_json(json, column(st, EV_TYPES), ret) : -EINVAL;
	json_object_put(json);
	return r == 0 ? SQLITE_OK : r == -ENOMEM ? SQLITE_NOMEM : SQLITE_CORRUPT;
}

/* A new reference; events mostly share a few texts, and those with their objects. */
static int read_text(struct store *s, const struct kept *k, int64_t id, struct text **ret)
{
	sqlite3_stmt *st = s->st[ST_READ_XML];
	struct stored_text *slot;
	struct text *t = NULL;
	int rc;

	if (id == 0)
		return SQLITE_OK;
	if (k && (k->live.id == id || k->inactive.id == id)) {
		*ret = text_ref(k->live.id == id ? k->live.text : k->inactive.text);
		return SQLITE_OK;
	}
	for (size_t i = 0; i < ELEMENTS(s->cache); i++)
		if (s->cache[i].text && s->cache[i].id == id) {
			*ret = text_ref(s->cache[i].text);
			return SQLITE_OK;
		}

	sqlite3_bind_int64(st, 1, id);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const char *data = column(st, 1);

		t = data ? text_new(data) : NULL;
		if (data && !t)
			rc = SQLITE_NOMEM;
		else if (!data || sqlite3_column_bytes(st, 0) != (int)sizeof(t->hash) ||
			 memcmp(sqlite3_column_blob(st, 0), t->hash, sizeof(t->hash)) != 0)
			rc = SQLITE_CORRUPT;
		else
			rc = SQLITE_OK;
	} else if (rc == SQLITE_DONE) {
		rc = SQLITE_CORRUPT;
	}
	sqlite3_reset(st);
	if (rc != SQLITE_OK) {
		text_unref(t);
		return rc;
	}
	slot = &s->cache[s->cache_next++ % ELEMENTS(s->cache)];
	text_unref(slot->text);
	*slot = (struct stored_text){.text = text_ref(t), .id = id};
	*ret = t;
	return SQLITE_OK;
}

static bool read_kind(sqlite3_stmt *st, int i, enum kind *ret)
{
	int64_t kind = sqlite3_column_int64(st, i);

	*ret = (enum kind)kind;
	return kind >= 0 && kind < KIND_MAX;
}

/* ---- objects ---------------------------------------------------------------------------------------------- */

static int load_object(struct history *h, sqlite3_stmt *st)
{
	struct store *s = &h->store;
	const char *path = column(st, OBJ_PATH), *connection = column(st, OBJ_CONNECTION);
	struct kept *k;
	enum kind kind;
	int rc;

	if (!row_is_sound(st) || !path || !connection || !read_kind(st, OBJ_KIND, &kind) || history_kept(h, path))
		return SQLITE_CORRUPT;
	k = history_keep(h, path);
	if (!k)
		return SQLITE_NOMEM;
	k->kind = kind;
	k->id = sqlite3_column_int64(st, OBJ_ID);
	k->version = (uint64_t)sqlite3_column_int64(st, OBJ_VERSION);
	k->incarnation = (uint64_t)sqlite3_column_int64(st, OBJ_INCARNATION);
	k->connection = strdup(connection);
	if (column(st, OBJ_EXTRA))
		k->extra = strdup(column(st, OBJ_EXTRA));
	if (!k->connection || (column(st, OBJ_EXTRA) && !k->extra))
		return SQLITE_NOMEM;
	if (k->id >= s->next_id)
		s->next_id = k->id + 1;
	rc = read_props(st, OBJ_PROPS, kind, &k->props);
	if (rc == SQLITE_OK)
		rc = read_text(s, NULL, sqlite3_column_int64(st, OBJ_XML), &k->xml);
	if (rc == SQLITE_OK)
		rc = read_text(s, NULL, sqlite3_column_int64(st, OBJ_XML_INACTIVE), &k->xml_inactive);
	if (rc != SQLITE_OK)
		return rc;
	k->live = (struct stored_text){text_ref(k->xml), sqlite3_column_int64(st, OBJ_XML)};
	k->inactive = (struct stored_text){text_ref(k->xml_inactive), sqlite3_column_int64(st, OBJ_XML_INACTIVE)};
	return SQLITE_OK;
}

int history_load_objects(struct history *h)
{
	sqlite3_stmt *st = NULL;
	int rc;

	rc = sqlite3_prepare_v2(h->store.db, "SELECT * FROM objects ORDER BY kind, id", -1, &st, NULL);
	while (rc == SQLITE_OK) {
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW)
			rc = load_object(h, st);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ---- events ----------------------------------------------------------------------------------------------- */

/* As they were written; the row's sum says that they still are. */
static int read_words(sqlite3_stmt *st, struct event_words *ret)
{
	ret->props = column(st, EV_PROPS);
	ret->props_size = (size_t)sqlite3_column_bytes(st, EV_PROPS);
	ret->details = "{}";
	ret->details_size = 2;
	if (sqlite3_column_type(st, EV_DETAILS) != SQLITE_NULL) {
		ret->details = column(st, EV_DETAILS);
		ret->details_size = (size_t)sqlite3_column_bytes(st, EV_DETAILS);
	}
	return ret->props && ret->details ? SQLITE_OK : SQLITE_CORRUPT;
}

static int read_event(struct history *h, sqlite3_stmt *st, const struct history_query *q, struct event **ret)
{
	_cleanup_(event_unrefp) struct event *e = NULL;
	enum kind kind;
	int rc;

	if (!read_kind(st, EV_KIND, &kind))
		return SQLITE_CORRUPT;
	e = event_new(kind, column(st, EV_PATH), column(st, EV_CONNECTION), column(st, EV_NAME), column(st, EV_REASON));
	if (!e)
		return SQLITE_NOMEM;
	e->version = (uint64_t)sqlite3_column_int64(st, EV_VERSION);
	e->previous = (uint64_t)sqlite3_column_int64(st, EV_PREVIOUS);
	e->timestamp = (uint64_t)sqlite3_column_int64(st, EV_TIMESTAMP);
	e->inferred = sqlite3_column_int(st, EV_INFERRED) != 0;
	if (q->words) {
		rc = read_words(st, &e->words);
	} else {
		rc = read_props(st, EV_PROPS, kind, &e->props);
		if (rc == SQLITE_OK)
			rc = read_details(st, &e->details);
	}
	if (rc == SQLITE_OK && q->xml) {
		const struct kept *k = history_kept(h, e->path);

		rc = read_text(&h->store, k, sqlite3_column_int64(st, EV_XML), &e->xml);
		if (rc == SQLITE_OK)
			rc = read_text(&h->store, k, sqlite3_column_int64(st, EV_XML_INACTIVE), &e->xml_inactive);
	}
	if (rc != SQLITE_OK)
		return rc;
	*ret = TAKE(e);
	return SQLITE_OK;
}

/* A reading on its way. */
struct reading {
	const struct history_query *q;
	uint64_t position; /* everything up to here was looked at */
	size_t scan;	   /* how many more */
	bool enough;
	int result; /* of fn, negative */
};

static bool wants(const struct reading *r, enum kind kind, const char *path, const char *connection, const char *name)
{
	return !r->q->wants || r->q->wants(kind, path, connection, name, r->q->userdata);
}

static void give(struct reading *r, struct event *e)
{
	int taken = r->q->fn(e, r->q->userdata);

	if (taken != HISTORY_NOT_THIS && taken >= 0)
		r->position = e->version;
	r->enough = taken != HISTORY_MORE;
	r->result = taken < 0 ? taken : 0;
}

/* What is only in the database: up to ring_floor. */
static int read_store(struct history *h, struct reading *r)
{
	sqlite3_stmt *st = h->store.st[ST_READ];
	int rc = SQLITE_DONE;

	sqlite3_bind_int64(st, 1, (int64_t)r->position);
	while (!r->enough && r->scan > 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		uint64_t version = (uint64_t)sqlite3_column_int64(st, EV_VERSION);
		_cleanup_(event_unrefp) struct event *e = NULL;
		enum kind kind;

		if (version > h->ring_floor) {
			rc = SQLITE_DONE;
			break;
		}
		/* Is it whole, and is nothing missing before it? */
		if (!row_is_sound(st) || version <= r->position || !read_kind(st, EV_KIND, &kind) ||
		    (uint64_t)sqlite3_column_int64(st, EV_FOLLOWS) > r->position) {
			rc = SQLITE_CORRUPT;
			break;
		}
		r->scan--;
		if (!wants(r, kind, column(st, EV_PATH), column(st, EV_CONNECTION), column(st, EV_NAME))) {
			r->position = version;
			continue;
		}
		rc = read_event(h, st, r->q, &e);
		if (rc != SQLITE_OK)
			break;
		give(r, e);
	}
	/* No read transaction stays open, so the log can begin anew however slowly somebody reads. */
	sqlite3_reset(st);
	if (r->enough || r->scan == 0)
		return SQLITE_OK;
	if (rc != SQLITE_DONE)
		return rc;
	if (r->position < h->ring_below)
		return SQLITE_CORRUPT;
	r->position = h->ring_floor;
	return SQLITE_OK;
}

static void read_ring(struct history *h, struct reading *r)
{
	size_t low = 0, high = h->ring_n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ring_at(h, middle)->version <= r->position)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < h->ring_n; low++) {
		struct event *e = ring_at(h, low);

		if (r->enough || r->scan == 0)
			return;
		r->scan--;
		if (wants(r, e->kind, e->path, e->connection, e->name))
			give(r, e);
		else
			r->position = e->version;
	}
	if (!r->enough && r->position < h->committed)
		r->position = h->committed;
}

int history_read_some(struct history *h, const struct history_query *q, uint64_t *ret, struct failure *f)
{
	struct reading r = {.q = q, .position = q->after, .scan = q->scan > 0 ? q->scan : 1};
	const uint64_t after = q->after;
	int rc = SQLITE_OK;

	assert(!h->reading);
	if (after > h->version)
		return failure_set(f, VIREO_FUTURE_VERSION, "version %" PRIu64 " has not been given yet; the last is %" PRIu64,
				   after, h->version);
	if (after + 1 < h->oldest)
		return failure_set(f, VIREO_GONE,
				   "events after version %" PRIu64 " are not kept any more; the oldest version is %" PRIu64,
				   after, h->oldest);

	h->reading = true;
	if (r.position < h->ring_floor && h->store.db)
		rc = read_store(h, &r);
	if (rc == SQLITE_OK && r.position >= h->ring_floor && !r.enough)
		read_ring(h, &r);
	h->reading = false;

	if (store_is_damage(rc)) {
		history_damaged(h, "an event cannot be read, or is missing");
		if (r.position + 1 < h->oldest)
			return failure_set(f, VIREO_GONE,
					   "the history was damaged, and events after version %" PRIu64
					   " are lost; the oldest version is %" PRIu64,
					   r.position, h->oldest);
		/* What is left is in memory. */
		struct history_query rest = *q;

		rest.after = r.position;
		return history_read_some(h, &rest, ret, f);
	}
	if (rc != SQLITE_OK)
		return failure_set(f, VIREO_OPERATION_FAILED, "the history cannot be read: %s", sqlite3_errstr(rc));
	*ret = r.position;
	return r.result;
}

int history_read(struct history *h, uint64_t after, history_event_fn fn, void *userdata, struct failure *f)
{
	const struct history_query q = {.after = after, .scan = SIZE_MAX, .xml = true, .fn = fn, .userdata = userdata};
	uint64_t reached;

	return history_read_some(h, &q, &reached, f);
}
