/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "history-private.h"
#include "util/log.h"

/* vireo.db: the schema, opening, and writing. */

#define APPLICATION_ID 0x56697265 /* "Vire", for file(1) and for whoever opens somebody else's file */
#define MEMORY_KIB 2048		  /* of SQLite's page cache */
#define WAL_KEEP (16 << 20)	  /* bytes of the log that are kept when it begins anew */

/*
 * events.follows is the version of the event written before: a reader that goes from row to row sees that none is
 * missing between them. xml.until is the last version known to refer to a text that no object refers to any more.
 */
static const char *const schema[] = {
	"CREATE TABLE meta (one INTEGER PRIMARY KEY, epoch TEXT NOT NULL, opened INTEGER NOT NULL, "
	"oldest INTEGER NOT NULL, version INTEGER NOT NULL, newest INTEGER NOT NULL, events INTEGER NOT NULL, "
	"sum INTEGER NOT NULL)",
	"CREATE TABLE events (version INTEGER PRIMARY KEY, follows INTEGER NOT NULL, previous INTEGER NOT NULL, "
	"kind INTEGER NOT NULL, path TEXT NOT NULL, connection TEXT NOT NULL, name TEXT NOT NULL, "
	"reason TEXT NOT NULL, timestamp INTEGER NOT NULL, inferred INTEGER NOT NULL, props TEXT NOT NULL, "
	"details TEXT, types TEXT, xml INTEGER, xml_inactive INTEGER, sum INTEGER NOT NULL)",
	"CREATE TABLE objects (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, path TEXT NOT NULL, "
	"connection TEXT NOT NULL, version INTEGER NOT NULL, incarnation INTEGER NOT NULL, props TEXT NOT NULL, "
	"xml INTEGER, xml_inactive INTEGER, extra TEXT, sum INTEGER NOT NULL)",
	"CREATE TABLE xml (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, until INTEGER NOT NULL)",
	"CREATE TABLE xml_data (id INTEGER PRIMARY KEY, data TEXT NOT NULL)",
	"CREATE INDEX xml_until ON xml (until)",
};

static const char *const statements[] = {
	[ST_BEGIN] = "BEGIN IMMEDIATE",
	[ST_COMMIT] = "COMMIT",
	[ST_ROLLBACK] = "ROLLBACK",
	[ST_META] = "REPLACE INTO meta VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
	[ST_EVENT] = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[ST_OBJECT] = "REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
	[ST_OBJECT_DELETE] = "DELETE FROM objects WHERE id = ?",
	[ST_XML_FIND] = "SELECT id FROM xml WHERE hash = ?",
	[ST_XML_ADD] = "INSERT INTO xml (hash, until) VALUES (?, ?)",
	[ST_XML_DATA] = "INSERT INTO xml_data VALUES (?, ?)",
	[ST_XML_UNTIL] = "UPDATE xml SET until = max(until, ?) WHERE id = ?",
	[ST_READ] = "SELECT * FROM events WHERE version > ? ORDER BY version",
	[ST_READ_XML] = "SELECT hash, data FROM xml JOIN xml_data USING (id) WHERE id = ?",
	[ST_OLDEST] = "SELECT version, timestamp FROM events ORDER BY version LIMIT ?",
	[ST_PRUNE] = "DELETE FROM events WHERE version <= ?",
	[ST_XML_UNUSED] = "SELECT id FROM xml WHERE until < ? ORDER BY until LIMIT ?",
	[ST_XML_DELETE] = "DELETE FROM xml WHERE id = ?",
	[ST_XML_DATA_DELETE] = "DELETE FROM xml_data WHERE id = ?",
	[ST_PAGES] = "PRAGMA page_count",
	[ST_FREE_PAGES] = "PRAGMA freelist_count",
	[ST_VACUUM] = "PRAGMA incremental_vacuum(64)",
};
static_assert(ELEMENTS(statements) == ST_MAX, "every statement has its text");

/* ---- sums ------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum ^ sum >> 29;
}

uint64_t sum_int(uint64_t sum, int64_t v)
{
	return mix(mix(sum, SQLITE_INTEGER), (uint64_t)v);
}

uint64_t sum_bytes(uint64_t sum, const void *data, size_t n)
{
	const uint8_t *p = data;

	sum = mix(mix(sum, SQLITE_TEXT), n);
	for (; n >= sizeof(uint64_t); p += sizeof(uint64_t), n -= sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, p, sizeof(word));
		sum = mix(sum, word);
	}
	if (n > 0) {
		uint64_t word = 0;

		memcpy(&word, p, n);
		sum = mix(sum, word);
	}
	return sum;
}

uint64_t sum_null(uint64_t sum)
{
	return mix(sum, SQLITE_NULL);
}

bool row_is_sound(sqlite3_stmt *st)
{
	int n = sqlite3_column_count(st) - 1;
	uint64_t sum = 0;

	for (int i = 0; i < n; i++)
		switch (sqlite3_column_type(st, i)) {
		case SQLITE_INTEGER:
			sum = sum_int(sum, sqlite3_column_int64(st, i));
			break;
		case SQLITE_TEXT:
			sum = sum_bytes(sum, sqlite3_column_text(st, i), (size_t)sqlite3_column_bytes(st, i));
			break;
		case SQLITE_NULL:
			sum = sum_null(sum);
			break;
		default:
			return false;
		}
	return sqlite3_column_type(st, n) == SQLITE_INTEGER && (uint64_t)sqlite3_column_int64(st, n) == sum;
}

int store_run(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st), rc2;

	while (rc == SQLITE_ROW)
		rc = sqlite3_step(st);
	rc2 = sqlite3_reset(st);
	return rc == SQLITE_DONE ? rc2 : rc;
}

int store_step(struct store *s, enum statement st)
{
	return store_run(s->st[st]);
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

static int on_wal(void *userdata, sqlite3 *db, const char *name, int pages)
{
	struct store *s = userdata;

	s->wal_pages = pages;
	return SQLITE_OK;
}

/* One number from a PRAGMA or SELECT. */
static int number(sqlite3 *db, const char *sql, int64_t *ret)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW) {
			*ret = sqlite3_column_int64(st, 0);
			rc = SQLITE_OK;
		} else if (rc == SQLITE_DONE) {
			rc = SQLITE_CORRUPT;
		}
	}
	sqlite3_finalize(st);
	return rc;
}

static int create_schema(struct store *s)
{
	char *sql;
	int rc = SQLITE_OK;

	for (size_t i = 0; rc == SQLITE_OK && i < ELEMENTS(schema); i++)
		rc = sqlite3_exec(s->db, schema[i], NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return rc;
	sql = sqlite3_mprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID, HISTORY_SCHEMA);
	rc = sql ? sqlite3_exec(s->db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;
	sqlite3_free(sql);
	return rc;
}

/* Is the schema ours to the letter? A column whose name has lost a bit would be found only by whoever asks for it. */
static int check_schema(struct store *s)
{
	int64_t application = 0, version = 0;
	sqlite3_stmt *st = NULL;
	size_t n = 0;
	int rc;

	rc = number(s->db, "PRAGMA application_id", &application);
	if (rc == SQLITE_OK)
		rc = number(s->db, "PRAGMA user_version", &version);
	if (rc != SQLITE_OK)
		return rc;
	if (application != APPLICATION_ID)
		return SQLITE_NOTADB;
	if (version != HISTORY_SCHEMA) {
		log_warning("%s: has the schema %" PRId64 ", and this version of Vireo knows %d", s->path, version, HISTORY_SCHEMA);
		return SQLITE_FORMAT;
	}
	rc = sqlite3_prepare_v2(s->db, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid", -1, &st,
				NULL);
	while (rc == SQLITE_OK) {
		const char *sql;

		rc = sqlite3_step(st);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		sql = (const char *)sqlite3_column_text(st, 0);
		if (n >= ELEMENTS(schema) || !sql || strcmp(sql, schema[n]) != 0)
			rc = SQLITE_CORRUPT;
		n++;
	}
	sqlite3_finalize(st);
	if (rc == SQLITE_DONE)
		rc = n == ELEMENTS(schema) ? SQLITE_OK : SQLITE_CORRUPT;
	return rc;
}

static int prepare(struct store *s)
{
	for (int i = 0; i < ST_MAX; i++) {
		int rc = sqlite3_prepare_v3(s->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &s->st[i], NULL);

		if (rc != SQLITE_OK)
			return rc;
	}
	return SQLITE_OK;
}

static int read_meta(struct store *s, struct store_meta *ret)
{
	sqlite3_stmt *st = NULL;
	int64_t newest = 0, events = 0;
	int rc;

	rc = sqlite3_prepare_v2(s->db, "SELECT epoch, opened, oldest, version, newest, events, sum FROM meta", -1, &st,
				NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW && row_is_sound(st) && sqlite3_column_bytes(st, 0) == 32) {
		memcpy(ret->epoch, sqlite3_column_text(st, 0), 33);
		memcpy(s->epoch, ret->epoch, 33);
		s->opened = ret->opened = (uint64_t)sqlite3_column_int64(st, 1);
		ret->oldest = (uint64_t)sqlite3_column_int64(st, 2);
		ret->version = (uint64_t)sqlite3_column_int64(st, 3);
		s->follows = (uint64_t)sqlite3_column_int64(st, 4);
		s->events = (uint64_t)sqlite3_column_int64(st, 5);
		rc = SQLITE_OK;
	} else if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
		rc = SQLITE_CORRUPT;
	}
	sqlite3_finalize(st);
	if (rc == SQLITE_OK)
		rc = number(s->db, "SELECT coalesce(max(version), 0) FROM events", &newest);
	if (rc == SQLITE_OK)
		rc = number(s->db, "SELECT EXISTS (SELECT 1 FROM events)", &events);
	if (rc == SQLITE_OK && ((events != 0) != (s->events != 0) || (events && (uint64_t)newest != s->follows)))
		rc = SQLITE_CORRUPT;
	return rc;
}

static int configure(struct store *s, bool create)
{
	static const char pragmas[] = "PRAGMA synchronous = NORMAL;"
				      "PRAGMA secure_delete = OFF;"
				      "PRAGMA temp_store = MEMORY;"
				      "PRAGMA trusted_schema = OFF;"
				      "PRAGMA cell_size_check = ON;";
	sqlite3_stmt *st = NULL;
	char *sql;
	int rc;

	sqlite3_extended_result_codes(s->db, 1);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
	/* Closing must never touch files that have been set aside; a clean end does its own checkpoint. */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	/* Somebody may be looking at the file; worth a moment now, but never again once the loop runs. */
	sqlite3_busy_timeout(s->db, 2000);
	if (create) {
		rc = sqlite3_exec(s->db, "PRAGMA auto_vacuum = INCREMENTAL", NULL, NULL, NULL);
		if (rc != SQLITE_OK)
			return rc;
	}
	if (s->path) {
		rc = sqlite3_prepare_v2(s->db, "PRAGMA journal_mode = WAL", -1, &st, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_step(st);
		if (rc == SQLITE_ROW)
			rc = strcmp((const char *)sqlite3_column_text(st, 0), "wal") == 0 ? SQLITE_OK : SQLITE_CANTOPEN;
		sqlite3_finalize(st);
		if (rc != SQLITE_OK)
			return rc == SQLITE_DONE ? SQLITE_CANTOPEN : rc;
	}
	rc = sqlite3_exec(s->db, pragmas, NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return rc;
	sql = sqlite3_mprintf("PRAGMA cache_size = -%d; PRAGMA journal_size_limit = %d", MEMORY_KIB, WAL_KEEP);
	rc = sql ? sqlite3_exec(s->db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;
	sqlite3_free(sql);
	if (rc == SQLITE_OK && s->path)
		rc = sqlite3_wal_autocheckpoint(s->db, 0);
	sqlite3_wal_hook(s->db, on_wal, s);
	return rc;
}

/* All other failures are damage: the statements are ours, so it is the file that does not fit them. */
bool store_is_circumstance(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_NOMEM:
	case SQLITE_READONLY:
	case SQLITE_IOERR:
	case SQLITE_FULL:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return true;
	default:
		return false;
	}
}

int store_open(struct store *s, const char *path, bool create, struct store_meta *meta)
{
	int rc;

	*s = (struct store){.next_id = 1};
	if (path) {
		int fd;

		s->path = strdup(path);
		if (!s->path)
			return SQLITE_NOMEM;
		/* SQLite gives its other files the mode of this one. */
		fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
		if (fd < 0) {
			rc = errno == ENOSPC ? SQLITE_FULL : SQLITE_CANTOPEN;
			store_close(s);
			return rc;
		}
		close(fd);
	}
	rc = sqlite3_open_v2(path ? path : ":memory:", &s->db,
			     SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	if (rc == SQLITE_OK)
		rc = configure(s, create);
	if (rc == SQLITE_OK && create) {
		s->opened = meta->opened;
		s->follows = meta->version;
		memcpy(s->epoch, meta->epoch, sizeof(s->epoch));
		rc = sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = create_schema(s);
		if (rc == SQLITE_OK)
			rc = prepare(s);
		if (rc == SQLITE_OK)
			rc = store_write_meta(s, meta->oldest, meta->version);
		if (rc == SQLITE_OK)
			rc = store_step(s, ST_COMMIT);
		/* A power cut may take events, but not leave half a schema. */
		if (rc == SQLITE_OK && path)
			rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	} else if (rc == SQLITE_OK) {
		rc = check_schema(s);
		if (rc == SQLITE_OK)
			rc = prepare(s);
		if (rc == SQLITE_OK)
			rc = read_meta(s, meta);
	}
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(s->db, 0);
		return SQLITE_OK;
	}
	store_close(s);
	return store_is_circumstance(rc) || rc == SQLITE_FORMAT ? rc : SQLITE_CORRUPT;
}

void store_close(struct store *s)
{
	for (int i = 0; i < ST_MAX; i++)
		sqlite3_finalize(s->st[i]);
	sqlite3_close(s->db);
	for (size_t i = 0; i < ELEMENTS(s->cache); i++)
		text_unref(s->cache[i].text);
	writer_clear(&s->words);
	free(s->path);
	*s = (struct store){0};
}

int store_pages(struct store *s, uint64_t *ret_pages, uint64_t *ret_free)
{
	const enum statement st[] = {ST_PAGES, ST_FREE_PAGES};
	uint64_t *const to[] = {ret_pages, ret_free};

	for (size_t i = 0; i < ELEMENTS(st); i++) {
		int rc = sqlite3_step(s->st[st[i]]);

		if (rc == SQLITE_ROW)
			*to[i] = (uint64_t)sqlite3_column_int64(s->st[st[i]], 0);
		sqlite3_reset(s->st[st[i]]);
		if (rc != SQLITE_ROW)
			return rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
	}
	return SQLITE_OK;
}
