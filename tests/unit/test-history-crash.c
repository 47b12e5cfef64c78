/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history-kit.h"
#include "util/log.h"

/* How a life may end badly: killed, the power cut, the store damaged. Seeded; a failure prints the seed. */

static uint64_t seed, first_seed;

static uint64_t random_below(uint64_t n)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % n;
}

static int setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	kit_make_directory(k);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	struct kit *k = *state;

	if (k->history)
		kit_close(k);
	kit_remove_directory(k->directory);
	free(k);
	return 0;
}

static const char *const files[] = {"vireo.state", "vireo.db", "vireo.db-wal", "vireo.db-shm"};

/* All files, as a backup or a fork of the world. */
static void copy_store(const struct kit *from, const struct kit *to, bool shm)
{
	for (size_t i = 0; i < ELEMENTS(files) - !shm; i++) {
		char *a = kit_path(from, files[i]), *b = kit_path(to, files[i]);

		if (kit_exists(from, files[i]))
			kit_copy(a, b);
		free(a);
		free(b);
	}
}

static void empty_directory(const struct kit *k)
{
	kit_remove_directory(k->directory);
	assert_int_equal(mkdir(k->directory, 0700), 0);
}

/* ---- kill -9 ------------------------------------------------------------------------------------------------------ */

/* What the child tells its clients, as it were: down a pipe that outlives it. */
struct word {
	enum { OPENED, FOUND, GIVEN, TOLD } what;
	uint64_t version, oldest;
	char epoch[33];
};

static void say(int fd, const struct word *w)
{
	if (write(fd, w, sizeof(*w)) != (ssize_t)sizeof(*w))
		_exit(1);
}

static int say_found(struct event *e, void *userdata)
{
	struct word w = {.what = FOUND, .version = e->version};

	say(*(int *)userdata, &w);
	return HISTORY_MORE;
}

/* Never ends by itself. */
static void storm(struct kit *k, int fd, uint64_t after)
{
	struct word w = {.what = OPENED};
	struct failure f = {0};

	kit_open(k);
	w.oldest = history_oldest(k->history);
	w.version = history_version(k->history);
	strcpy(w.epoch, history_epoch(k->history));
	say(fd, &w);
	if (history_read(k->history, after, say_found, &fd, &f) != 0)
		_exit(2);
	kit_load(k);
	for (;;) {
		uint64_t versions[32];
		unsigned n = 1 + (unsigned)random_below(ELEMENTS(versions));

		/* Far enough to come to the end of what was reserved, now and then. */
		if (random_below(20) == 0)
			for (unsigned i = 0; i < 30000; i++)
				(void)history_next(k->history);
		for (unsigned i = 0; i < n; i++) {
			versions[i] = kit_event_xml(k, (unsigned)random_below(16), random_below(3) ? 0 : 3000);
			w = (struct word){.what = GIVEN, .version = versions[i]};
			say(fd, &w);
		}
		history_commit(k->history);
		for (unsigned i = 0; i < n; i++) {
			w = (struct word){.what = TOLD, .version = versions[i]};
			say(fd, &w);
		}
	}
}

struct set {
	uint64_t *v;
	size_t n, size;
};

static void set_add(struct set *s, uint64_t v)
{
	if (s->n == s->size) {
		s->size = s->size ? 2 * s->size : 1024;
		s->v = reallocarray(s->v, s->size, sizeof(*s->v));
		assert_non_null(s->v);
	}
	s->v[s->n++] = v;
}

static bool read_word(int fd, struct word *w)
{
	size_t n = 0;

	while (n < sizeof(*w)) {
		ssize_t r = read(fd, (char *)w + n, sizeof(*w) - n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		n += (size_t)r;
	}
	return true;
}

static void test_kill(void **state)
{
	struct kit *k = *state;
	struct set told = {0};
	uint64_t highest = 0, after = 0;
	char epoch[33] = "";
	unsigned opened = 0;

	signal(SIGPIPE, SIG_IGN);
	for (unsigned round = 0; round < 100; round++) {
		uint64_t words = random_below(4) == 0 ? random_below(3) : random_below(3000);
		struct set found = {0};
		size_t told_before = told.n;
		bool whole = false;
		struct word w;
		int fds[2];
		pid_t pid;

		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			close(fds[0]);
			seed += round;
			storm(k, fds[1], after);
		}
		close(fds[1]);
		/* So many words it may say; what it said besides, before it died, counts too. */
		for (uint64_t i = 0;; i++) {
			if (i == words)
				assert_int_equal(kill(pid, SIGKILL), 0);
			if (!read_word(fds[0], &w))
				break;
			switch (w.what) {
			case OPENED:
				if (!epoch[0])
					strcpy(epoch, w.epoch);
				/* P3: the epoch stays; nothing is lost, so nothing is Gone. */
				assert_string_equal(epoch, w.epoch);
				assert_int_equal(w.oldest, 1);
				assert_true(w.version >= highest);
				opened++;
				break;
			case FOUND:
				set_add(&found, w.version);
				break;
			case GIVEN:
				whole = true;
				/* P1: never twice, whoever was told. */
				assert_true(w.version > highest);
				highest = w.version;
				break;
			case TOLD:
				whole = true;
				set_add(&told, w.version);
				break;
			}
		}
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		close(fds[0]);
		/* Once it has begun to tell, it had read everything: everything told before must have been among it. */
		if (whole) {
			size_t at = 0;

			for (size_t i = 0; i < told_before; i++) {
				if (told.v[i] <= after)
					continue;
				while (at < found.n && found.v[at] < told.v[i])
					at++;
				assert_true(at < found.n && found.v[at] == told.v[i]);
			}
			if (found.n > 2000)
				after = found.v[found.n - 1000];
		}
		free(found.v);
	}
	assert_true(opened >= 60);
	assert_true(told.n > 1000);

	/* And all of it in the end. */
	kit_open(k);
	assert_string_equal(history_epoch(k->history), epoch);
	assert_int_equal(history_oldest(k->history), 1);
	{
		size_t n, at = 0;
		uint64_t *all = kit_versions(k, 0, &n);

		assert_true(n != SIZE_MAX);
		for (size_t i = 0; i < told.n; i++) {
			while (at < n && all[at] < told.v[i])
				at++;
			assert_true(at < n && all[at] == told.v[i]);
		}
		free(all);
	}
	assert_true(history_next(k->history) > highest);
	free(told.v);
}

/* ---- the power ---------------------------------------------------------------------------------------------------- */

/*
 * A life that ends in the middle; returns the last version told. @early: where to keep vireo.state as it was when the
 * disk last had to have it; NULL: nowhere.
 */
static uint64_t live_and_die(struct kit *k, unsigned events, const char *early)
{
	int fds[2];
	struct word w, last = {0};
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fds[0]);
		kit_open(k);
		kit_load(k);
		if (early) {
			char *path = kit_path(k, "vireo.state");

			kit_copy(path, early);
			free(path);
		}
		kit_events(k, events, 10);
		w = (struct word){.what = TOLD, .version = history_version(k->history)};
		strcpy(w.epoch, history_epoch(k->history));
		say(fds[1], &w);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_true(read_word(fds[0], &last));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(fds[0]);
	return last.version;
}

static void test_power_cut(void **state)
{
	struct kit *k = *state, cut = {0};
	char epoch[33], *wal, *db, *early, *state_path;
	uint64_t told;
	struct stat st;

	early = kit_path(k, "early");
	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 500, 10);
	kit_close(k);
	told = live_and_die(k, 1000, early);
	assert_int_equal(told, 1500);
	wal = kit_path(k, "vireo.db-wal");
	assert_int_equal(stat(wal, &st), 0);
	assert_true(st.st_size > 100000);

	kit_make_directory(&cut);
	db = kit_path(&cut, "vireo.db-wal");
	state_path = kit_path(&cut, "vireo.state");
	for (unsigned round = 0; round < 60; round++) {
		uint64_t version;

		/* The disk has got so much of the log, perhaps with the sectors in between missing. */
		copy_store(k, &cut, false);
		if (random_below(2))
			kit_copy(early, state_path);
		assert_int_equal(truncate(db, (off_t)random_below((uint64_t)st.st_size + 1)), 0);
		if (random_below(2)) {
			char zeros[4096] = {0};
			struct stat now;
			int fd = open(db, O_RDWR | O_CLOEXEC);

			assert_true(fd >= 0 && fstat(fd, &now) == 0);
			if (now.st_size > 8192)
				assert_int_equal(pwrite(fd, zeros, sizeof(zeros),
							(off_t)random_below((uint64_t)now.st_size - 4096)),
						 sizeof(zeros));
			close(fd);
		}
		cut.config.boot_id = BOOT_TWO;
		kit_open(&cut);
		/* P1, P3: the same epoch; nobody who was told anything may follow on in silence. */
		assert_string_equal(history_epoch(cut.history), epoch);
		version = history_version(cut.history);
		assert_true(version > told);
		assert_int_equal(history_oldest(cut.history), version + 1);
		assert_int_equal(kit_count(&cut, told), -1);
		assert_int_equal(kit_count(&cut, version - 1), -1);
		assert_int_equal(kit_count(&cut, version), 0);
		/* Life goes on from there. */
		kit_load(&cut);
		kit_events(&cut, 20, 5);
		assert_int_equal(kit_count(&cut, version), 20);
		kit_close(&cut);
		kit_open(&cut);
		assert_int_equal(history_oldest(cut.history), version + 1);
		assert_int_equal(kit_count(&cut, version), 20);
		kit_close(&cut);
		empty_directory(&cut);
	}
	kit_remove_directory(cut.directory);

	/* The same end on the same boot was only a kill: all is there. */
	kit_open(k);
	assert_int_equal(history_oldest(k->history), 1);
	assert_int_equal(kit_count(k, 0), 1500);
	free(wal);
	free(db);
	free(early);
	free(state_path);
}

static void test_boot_unknown(void **state)
{
	struct kit *k = *state;

	/* Whoever doesn't know its boot must take every unclean end for a power cut. */
	k->config.boot_id = "";
	assert_int_equal(live_and_die(k, 100, NULL), 100);
	kit_open(k);
	assert_true(history_oldest(k->history) > 100);
	assert_int_equal(history_oldest(k->history), history_version(k->history) + 1);
}

static void test_restored_backup(void **state)
{
	struct kit *k = *state, old = {0};
	char epoch[33], *from, *to;

	kit_make_directory(&old);
	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 100, 10);
	kit_close(k);
	copy_store(k, &old, false);
	kit_open(k);
	kit_events(k, 100, 10);
	kit_close(k);

	/* The database of yesterday under the state of today: what was between is missing, and nobody may overlook it. */
	from = kit_path(&old, "vireo.db");
	to = kit_path(k, "vireo.db");
	kit_copy(from, to);
	kit_open(k);
	assert_string_equal(history_epoch(k->history), epoch);
	assert_true(history_version(k->history) >= 200);
	assert_int_equal(kit_count(k, 100), -1);
	assert_int_equal(kit_count(k, 150), -1);
	kit_close(k);
	kit_remove_directory(old.directory);
	free(from);
	free(to);
}

/* ---- loss and damage ---------------------------------------------------------------------------------------------- */

static void remove_file(const struct kit *k, const char *name)
{
	char *path = kit_path(k, name);

	assert_int_equal(unlink(path), 0);
	free(path);
}

static void test_lost(void **state)
{
	struct kit *k = *state;
	char epoch[33];

	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 100, 10);
	kit_close(k);
	remove_file(k, "vireo.db");
	kit_open(k);
	assert_string_not_equal(history_epoch(k->history), epoch);
	assert_int_equal(history_version(k->history), 0);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 100, 10);
	kit_close(k);

	/* Without the state nobody knows which versions were used: set aside, not deleted. */
	remove_file(k, "vireo.state");
	kit_open(k);
	assert_string_not_equal(history_epoch(k->history), epoch);
	assert_true(kit_begin_with(k, "vireo.db.damaged-") >= 1);
	kit_close(k);
}

static void scribble(const struct kit *k, const char *name, const void *data, size_t n, off_t at)
{
	char *path = kit_path(k, name);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, n, at), n);
	close(fd);
	free(path);
}

static void test_rubbish(void **state)
{
	struct kit *k = *state;
	static const char text[] = "This is no database at all; it is a letter to my aunt.";
	char epoch[33], *path;

	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 100, 10);
	kit_close(k);
	scribble(k, "vireo.db", text, sizeof(text), 0);
	kit_open(k);
	assert_string_not_equal(history_epoch(k->history), epoch);
	assert_int_equal(kit_begin_with(k, "vireo.db.damaged-"), kit_begin_with(k, "vireo.db.damaged-"));
	assert_true(kit_begin_with(k, "vireo.db.damaged-") >= 1);
	kit_events(k, 10, 10);
	kit_close(k);
	/* The second within the same second: the first is not overwritten. */
	scribble(k, "vireo.db", text, sizeof(text), 0);
	kit_open(k);
	kit_close(k);
	path = kit_path(k, "vireo.db");
	assert_int_equal(truncate(path, 0), 0);
	kit_open(k);
	kit_close(k);
	assert_true(kit_begin_with(k, "vireo.db.damaged-") >= 3);
	free(path);
}

/* Rows that are missing make no page look wrong. */
static void test_missing(void **state)
{
	struct kit *k = *state;
	static const struct {
		const char *sql;
		bool at_once; /* noticed in opening, not in reading */
	} cases[] = {
		{"DELETE FROM events WHERE version = 50", false},
		{"DELETE FROM events WHERE version BETWEEN 20 AND 90", false},
		{"DELETE FROM events WHERE version = 1", false},
		{"DELETE FROM events WHERE version = 100", true},
		{"DELETE FROM events", true},
		{"DELETE FROM meta", true},
		{"DELETE FROM xml_data WHERE id = 9", false},
		{"UPDATE xml_data SET data = '<domain/>' WHERE id = 9", false},
		{"DELETE FROM xml_data WHERE id = 10", true}, /* an object's */
		{"UPDATE events SET previous = 7 WHERE version = 30", false},
		{"UPDATE objects SET path = 'nowhere' WHERE id = 3", true},
		{"DROP TABLE xml", true},
		{"PRAGMA user_version = 7", true},
		{"CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END", true},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		char *path = kit_path(k, "vireo.db"), epoch[33];
		sqlite3 *db = NULL;

		kit_open(k);
		strcpy(epoch, history_epoch(k->history));
		memset(k->last, 0, sizeof(k->last));
		for (unsigned n = 0; n < 100; n++)
			kit_event_xml(k, n % 16, 100);
		history_commit(k->history);
		kit_close(k);
		assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
		assert_int_equal(sqlite3_exec(db, cases[i].sql, NULL, NULL, NULL), SQLITE_OK);
		assert_int_equal(sqlite3_close(db), SQLITE_OK);
		kit_open(k);
		if (cases[i].at_once) {
			assert_string_not_equal(history_epoch(k->history), epoch);
		} else {
			assert_string_equal(history_epoch(k->history), epoch);
			assert_int_equal(kit_count(k, 0), -1);
			assert_int_equal(history_oldest(k->history), 101);
		}
		assert_true(kit_begin_with(k, "vireo.db.damaged-") >= 1);
		kit_close(k);
		free(path);
		empty_directory(k);
	}
}

/*
 * Bits of the files are flipped at random. Whatever comes of it: no crash; what is read is right; nothing is missing in
 * what is said to be complete; versions of the same epoch aren't given twice; and it can be lived with from then on.
 */
static void test_flips(void **state)
{
	struct kit *k = *state, hurt = {0};
	unsigned kept = 0, set_aside = 0, gone = 0;
	char epoch[33];

	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	for (unsigned i = 0; i < 6000; i++) {
		kit_event_xml(k, i % 16, i % 10 ? 0 : 2000);
		if (i % 50 == 0)
			history_commit(k->history);
	}
	kit_close(k);
	assert_int_equal(live_and_die(k, 300, NULL), 6300); /* so that there is a log, too */

	kit_make_directory(&hurt);
	for (unsigned round = 0; round < 200; round++) {
		unsigned flips = 1 + (unsigned)random_below(round % 2 ? 3 : 40);
		bool same;
		uint64_t version;

		copy_store(k, &hurt, false);
		for (unsigned i = 0; i < flips; i++) {
			const char *name = files[random_below(20) == 0 ? 0 : 1 + random_below(2)];
			char *path = kit_path(&hurt, name);
			struct stat st;
			uint8_t byte;
			off_t at;
			int fd;

			assert_int_equal(stat(path, &st), 0);
			fd = open(path, O_RDWR | O_CLOEXEC);
			at = (off_t)random_below((uint64_t)st.st_size);
			if (random_below(8) == 0)
				at %= 4096; /* the header and the schema are few bytes */
			assert_int_equal(pread(fd, &byte, 1, at), 1);
			byte ^= (uint8_t)(1u << random_below(8));
			assert_int_equal(pwrite(fd, &byte, 1, at), 1);
			close(fd);
			free(path);
		}
		kit_open(&hurt);
		same = strcmp(history_epoch(hurt.history), epoch) == 0;
		version = history_version(hurt.history);
		if (same) {
			uint64_t after = history_oldest(hurt.history) - 1;
			long n = kit_count(&hurt, after);

			kept++;
			assert_true(version >= 6300);
			if (n < 0) {
				/* Found in reading: the rest is gone, and says so. */
				gone++;
				assert_true(history_oldest(hurt.history) > after + 1);
				assert_true(kit_begin_with(&hurt, "vireo.db.damaged-") >= 1);
			} else if (after < 6300) {
				assert_int_equal(n, 6300 - after);
			}
		} else {
			set_aside++;
			assert_int_equal(version, 0);
			assert_true(kit_begin_with(&hurt, "vireo.db.damaged-") >= 1);
		}
		kit_load(&hurt);
		kit_events(&hurt, 50, 10);
		clock_advance(hurt.clock, 60 * USEC_PER_SEC);
		kit_events(&hurt, 50, 10);
		assert_int_equal(kit_count(&hurt, version), 100);
		kit_close(&hurt);
		kit_open(&hurt);
		assert_true(history_version(hurt.history) >= version + 100);
		(void)kit_count(&hurt, version);
		kit_close(&hurt);
		empty_directory(&hurt);
	}
	kit_remove_directory(hurt.directory);
	print_message("%u of 200 went on, of which %u lost what had been; %u were set aside\n", kept, gone, set_aside);
	assert_true(kept > 0 && set_aside > 0 && gone > 0);
}

/* Under our feet: clients keep their epoch, the newest events and the objects come through. */
static void test_damage_while_running(void **state)
{
	struct kit *k = *state;
	char epoch[33], junk[4096], *path;
	uint64_t oldest, version;
	struct stat st;

	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 30000, 100);
	kit_close(k);
	kit_open(k);
	kit_load(k);
	kit_events(k, 100, 10);
	memset(junk, 0xa5, sizeof(junk));
	path = kit_path(k, "vireo.db");
	assert_int_equal(stat(path, &st), 0);
	for (off_t at = 100 * 4096; at < st.st_size; at += 4096)
		scribble(k, "vireo.db", junk, sizeof(junk), at);
	free(path);

	assert_int_equal(kit_count(k, 0), -1);
	assert_string_equal(history_epoch(k->history), epoch);
	assert_int_equal(kit_begin_with(k, "vireo.db.damaged-"), 3);
	oldest = history_oldest(k->history);
	assert_int_equal(oldest, 30001);
	assert_int_equal(kit_count(k, 30000), 100);
	kit_events(k, 100, 10);
	assert_int_equal(kit_count(k, 30000), 200);
	clock_advance(k->clock, USEC_PER_SEC);
	assert_false(history_degraded(k->history));
	kit_events(k, 100, 10);
	version = history_version(k->history);
	assert_int_equal(version, 30300);
	kit_close(k);

	kit_open(k);
	assert_string_equal(history_epoch(k->history), epoch);
	assert_int_equal(history_version(k->history), version);
	assert_int_equal(history_oldest(k->history), oldest);
	assert_int_equal(kit_count(k, 30000), 300);
	kit_load(k);
	for (unsigned i = 0; i < 16; i++)
		assert_true(k->last[i] > 30200);
}

static void exec(struct kit *k, const char *sql)
{
	char *path = kit_path(k, "vireo.db");
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	free(path);
}

/* Again and again: then it is given up, under another epoch, until the next start. */
static void test_damage_again_and_again(void **state)
{
	struct kit *k = *state;
	char epoch[33], other[33];
	uint64_t version = 0, before;

	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	for (unsigned i = 1; i <= 6; i++) {
		char sql[80];

		kit_events(k, 6000, 100);
		clock_advance(k->clock, USEC_PER_SEC);
		assert_false(history_degraded(k->history));
		assert_int_equal(kit_count(k, version), 6000);
		snprintf(sql, sizeof(sql), "DELETE FROM events WHERE version = %" PRIu64, version + 500);
		exec(k, sql);
		assert_int_equal(kit_count(k, version), -1);
		version = history_version(k->history);
		/* What was in memory is still there. */
		assert_int_equal(kit_count(k, version - 4096), 4096);
		clock_advance(k->clock, USEC_PER_SEC);
		if (i < 6)
			assert_string_equal(history_epoch(k->history), epoch);
	}
	strcpy(other, history_epoch(k->history));
	assert_string_not_equal(other, epoch);
	assert_true(history_degraded(k->history));
	kit_events(k, 10000, 100);
	clock_advance(k->clock, 3600 * USEC_PER_SEC);
	before = history_version(k->history);
	assert_int_equal(before, 46000);
	assert_int_equal(history_oldest(k->history), 46000 - 4096 + 1);
	assert_int_equal(kit_count(k, 46000 - 4096), 4096);
	assert_int_equal(kit_count(k, 46000 - 4097), -1);
	kit_removed(k, 1);
	history_commit(k->history);
	kit_close(k);

	/* Nothing of the other epoch was ever written; the first goes on, or a third begins. */
	kit_open(k);
	assert_string_not_equal(history_epoch(k->history), other);
	if (strcmp(history_epoch(k->history), epoch) == 0)
		assert_true(history_version(k->history) >= 36000);
	assert_false(history_degraded(k->history));
	version = history_version(k->history);
	kit_load(k);
	kit_events(k, 100, 10);
	assert_int_equal(kit_count(k, version), 100);
}

static void check_message(void **state)
{
	print_message("seed %" PRIu64 "\n", first_seed);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(check_message), T(kill), T(power_cut), T(boot_unknown), T(restored_backup),
		T(lost), T(rubbish), T(missing), T(flips), T(damage_while_running),
		T(damage_again_and_again),
	};
	const char *s = getenv("VIREO_TEST_SEED");

	first_seed = seed = s ? strtoull(s, NULL, 0) : UINT64_C(20240917);
	(void)log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
