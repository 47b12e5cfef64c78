/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history-kit.h"
#include "util/log.h"

/*
 * A disk that is full, or that fails: a small tmpfs in a mount namespace of our own. Skipped where neither root nor a
 * user namespace can make one.
 */

#define DISK_KIB 6144

static bool have_mounts;
static FILE *log_file;

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done;
}

/* Before there is any thread. */
static bool own_mounts(void)
{
	char map[64];
	uid_t uid = getuid();

	if (unshare(CLONE_NEWNS) < 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			return false;
		snprintf(map, sizeof(map), "0 %u 1", uid);
		if (!write_text("/proc/self/uid_map", map))
			return false;
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static int setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	kit_make_directory(k);
	if (have_mounts) {
		char options[32];

		snprintf(options, sizeof(options), "size=%uk,mode=0700", DISK_KIB);
		have_mounts = mount("tmpfs", k->directory, "tmpfs", 0, options) == 0;
	}
	assert_int_equal(ftruncate(fileno(log_file), 0), 0);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	struct kit *k = *state;

	if (k->history)
		kit_close(k);
	if (have_mounts)
		assert_int_equal(umount2(k->directory, MNT_DETACH), 0);
	kit_remove_directory(k->directory);
	free(k);
	return 0;
}

/* How often something was logged. */
static unsigned logged(const char *what)
{
	static char text[1 << 20];
	ssize_t n = pread(fileno(log_file), text, sizeof(text) - 1, 0);
	unsigned times = 0;

	assert_true(n >= 0);
	text[n] = '\0';
	for (const char *s = text; (s = strstr(s, what)); s++)
		times++;
	return times;
}

static void fill(const struct kit *k)
{
	char *path = kit_path(k, "filler"), block[4096];
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	memset(block, 'x', sizeof(block));
	while (write(fd, block, sizeof(block)) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	close(fd);
	free(path);
}

static void free_room(const struct kit *k)
{
	char *path = kit_path(k, "filler");

	assert_int_equal(unlink(path), 0);
	free(path);
}

/* Events until the disk has no room for them, which is soon. */
static void write_until_full(struct kit *k)
{
	fill(k);
	for (unsigned i = 0; i < 10000 && !history_degraded(k->history); i++)
		kit_events(k, 10, 10);
	assert_true(history_degraded(k->history));
}

static void test_full(void **state)
{
	struct kit *k = *state;
	char epoch[33];
	uint64_t full, oldest;

	if (!have_mounts)
		skip();
	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 100, 10);
	assert_int_equal(logged("cannot be written"), 0);
	write_until_full(k);
	full = history_version(k->history);
	assert_int_equal(logged("cannot be written"), 1);

	/* For a while nothing is missing at all. */
	assert_int_equal(kit_count(k, 0), full);
	kit_events(k, 1000, 10);
	assert_int_equal(kit_count(k, 0), full + 1000);
	assert_int_equal(history_oldest(k->history), 1);

	/* Longer than memory lasts: the old is gone and says so, the new is there. */
	kit_events(k, 20000, 100);
	clock_advance(k->clock, 60 * USEC_PER_SEC);
	assert_true(history_degraded(k->history));
	assert_int_equal(history_version(k->history), full + 21000);
	oldest = history_oldest(k->history);
	assert_true(oldest > full && oldest <= full + 21000 - 4000);
	assert_int_equal(kit_count(k, full), -1);
	assert_int_equal(kit_count(k, oldest - 1), full + 21000 + 1 - oldest);
	/* Loudly, and once. */
	assert_int_equal(logged("cannot be written"), 1);
	assert_int_equal(logged("events are lost"), 1);

	/* Room: it goes on by itself, with what memory still has. */
	free_room(k);
	clock_advance(k->clock, 60 * USEC_PER_SEC);
	assert_false(history_degraded(k->history));
	assert_int_equal(logged("is written again"), 1);
	assert_int_equal(history_oldest(k->history), oldest);
	kit_events(k, 100, 10);
	assert_int_equal(kit_count(k, oldest - 1), full + 21100 + 1 - oldest);
	kit_close(k);

	kit_open(k);
	assert_string_equal(history_epoch(k->history), epoch);
	assert_int_equal(history_version(k->history), full + 21100);
	assert_int_equal(history_oldest(k->history), oldest);
	assert_int_equal(kit_count(k, oldest - 1), full + 21100 + 1 - oldest);
	kit_load(k);
	for (unsigned i = 0; i < 16; i++)
		assert_true(k->last[i] > full + 21000);

	/* Again, but this time it is over before memory is full: nothing is lost. */
	full = history_version(k->history);
	write_until_full(k);
	kit_events(k, 500, 10);
	kit_removed(k, 3);
	history_commit(k->history);
	free_room(k);
	kit_events(k, 10, 10);
	clock_advance(k->clock, 60 * USEC_PER_SEC);
	assert_false(history_degraded(k->history));
	assert_int_equal(history_oldest(k->history), oldest);
	assert_int_equal(kit_count(k, full), history_version(k->history) - full);
	full = history_version(k->history);
	kit_close(k);
	kit_open(k);
	assert_int_equal(history_version(k->history), full);
	assert_int_equal(kit_count(k, oldest - 1), full + 1 - oldest);
}

/* Told while the disk was full, then killed: neither is a version repeated nor is the gap passed over. */
static void test_full_and_killed(void **state)
{
	struct kit *k = *state;
	char epoch[33];
	uint64_t told = 0;
	int fds[2];
	pid_t pid;

	if (!have_mounts)
		skip();
	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 100, 10);
	kit_close(k);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		kit_open(k);
		write_until_full(k);
		/* More than one range of versions, so that reserving has to work on the full disk. */
		for (unsigned i = 0; i < 250000; i++)
			(void)history_next(k->history);
		kit_events(k, 1000, 10);
		told = history_version(k->history);
		if (write(fds[1], &told, sizeof(told)) != sizeof(told))
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &told, sizeof(told)), sizeof(told));
	close(fds[0]);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	free_room(k);

	kit_open(k);
	assert_string_equal(history_epoch(k->history), epoch);
	assert_true(history_version(k->history) >= told);
	assert_true(history_next(k->history) > told);
	assert_int_equal(kit_count(k, 100), -1);
	assert_int_equal(kit_count(k, told - 1), -1);
	assert_true(history_oldest(k->history) > told);
	kit_events(k, 10, 10);
	kit_close(k);
	kit_open(k);
	assert_false(history_degraded(k->history));
	assert_int_equal(kit_count(k, history_oldest(k->history) - 1), 10);
}

/* Closed while it is still full. */
static void test_full_and_closed(void **state)
{
	struct kit *k = *state;
	uint64_t told;

	if (!have_mounts)
		skip();
	kit_open(k);
	kit_events(k, 100, 10);
	write_until_full(k);
	kit_events(k, 50, 10);
	told = history_version(k->history);
	kit_close(k);
	free_room(k);
	kit_open(k);
	assert_true(history_version(k->history) >= told);
	assert_true(history_oldest(k->history) > told);
	assert_int_equal(kit_count(k, 100), -1);
}

static void test_full_at_start(void **state)
{
	struct kit *k = *state;
	struct failure f = {0};
	char epoch[33];

	if (!have_mounts)
		skip();
	fill(k);
	if (!k->clock)
		assert_int_equal(clock_new_virtual(1, &k->clock), 0);
	assert_int_equal(history_open(&k->config, k->clock, &k->history, &f), VIREO_OPERATION_FAILED);
	assert_non_null(strstr(f.message, k->directory));
	assert_non_null(strstr(f.message, "space"));
	failure_clear(&f);
	free_room(k);
	kit_open(k);
	strcpy(epoch, history_epoch(k->history));
	kit_events(k, 100, 10);
	kit_close(k);

	/* One that is there already must not be taken for damaged because nothing can be written. */
	fill(k);
	if (!k->clock)
		assert_int_equal(clock_new_virtual(1, &k->clock), 0);
	if (history_open(&k->config, k->clock, &k->history, &f) != 0) {
		assert_int_equal(f.error, VIREO_OPERATION_FAILED);
		assert_non_null(strstr(f.message, "space"));
		failure_clear(&f);
	} else {
		kit_close(k);
	}
	free_room(k);
	kit_open(k);
	assert_string_equal(history_epoch(k->history), epoch);
	assert_int_equal(kit_begin_with(k, "vireo.db.damaged"), 0);
	if (history_version(k->history) == 100)
		assert_int_equal(kit_count(k, 0), 100);
}

/* Writing fails, not for want of room. SQLite calls it an I/O error. */
static void test_error(void **state)
{
	struct kit *k = *state;
	struct rlimit unlimited, limit;
	uint64_t version;

	kit_open(k);
	kit_events(k, 100, 10);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
	limit = unlimited;
	limit.rlim_cur = 300000;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (unsigned i = 0; i < 10000 && !history_degraded(k->history); i++)
		kit_events(k, 10, 10);
	assert_true(history_degraded(k->history));
	kit_events(k, 100, 10);
	version = history_version(k->history);
	clock_advance(k->clock, 60 * USEC_PER_SEC);
	assert_true(history_degraded(k->history));
	assert_int_equal(kit_count(k, 0), version);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
	clock_advance(k->clock, 60 * USEC_PER_SEC);
	assert_false(history_degraded(k->history));
	kit_events(k, 100, 10);
	kit_close(k);
	kit_open(k);
	assert_int_equal(kit_count(k, 0), version + 100);
	assert_int_equal(history_oldest(k->history), 1);
}

/* An administrator's program holds the write lock: a commit doesn't wait for it, and nothing is lost. */
static void test_locked(void **state)
{
	struct kit *k = *state;
	char *path = kit_path(k, "vireo.db");
	int to_child[2], from_child[2], status;
	char byte;
	pid_t pid;

	kit_open(k);
	kit_events(k, 100, 10);
	assert_int_equal(pipe(to_child), 0);
	assert_int_equal(pipe(from_child), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* Not through SQLite's own state, which a fork must not touch: another program. */
		char command[512];

		close(to_child[1]);
		close(from_child[0]);
		dup2(to_child[0], 0);
		dup2(from_child[1], 1);
		snprintf(command, sizeof(command),
			 "import sqlite3,sys\n"
			 "c=sqlite3.connect('%s',isolation_level=None)\n"
			 "c.execute('BEGIN IMMEDIATE')\n"
			 "print('x',end='',flush=True)\n"
			 "sys.stdin.read(1)\n"
			 "c.execute('ROLLBACK')\n",
			 path);
		execlp("python3", "python3", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(to_child[0]);
	close(from_child[1]);
	if (read(from_child[0], &byte, 1) == 1) {
		kit_events(k, 100, 10);
		assert_true(history_degraded(k->history));
		assert_int_equal(kit_count(k, 0), 200);
		assert_int_equal(write(to_child[1], "x", 1), 1);
	}
	close(to_child[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(from_child[0]);
	free(path);
	if (WEXITSTATUS(status) == 127)
		skip();
	assert_int_equal(status, 0);
	clock_advance(k->clock, 60 * USEC_PER_SEC);
	assert_false(history_degraded(k->history));
	kit_close(k);
	kit_open(k);
	assert_int_equal(kit_count(k, 0), 200);
}

/* What the administrator reads is what happened: nothing that is newer is called damaged, nothing that is lost set aside. */
static void test_words(void **state)
{
	struct kit *k = *state;
	char *path = kit_path(k, "vireo.db");
	sqlite3 *db = NULL;

	kit_open(k);
	kit_events(k, 10, 10);
	kit_close(k);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 1000", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	kit_open(k);
	assert_int_equal(logged("has the schema 1000, and this version of Vireo knows"), 1);
	assert_int_equal(logged("cannot be used: another version of Vireo wrote it. What there is was set aside as"), 1);
	assert_int_equal(logged("it is damaged"), 0);
	kit_close(k);

	assert_int_equal(unlink(path), 0);
	kit_open(k);
	assert_int_equal(logged("cannot be used: it is lost. There is nothing to be set aside, and a new epoch begins"), 1);
	assert_int_equal(logged("set aside as"), 1);
	free(path);
}

static void note(void **state)
{
	if (!have_mounts)
		print_message("no mount namespace of our own (%s): the tests with a full disk are skipped\n", strerror(errno));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(note), T(full), T(full_and_killed), T(full_and_closed), T(full_at_start), T(error), T(locked),
		T(words),
	};
	int out;

	have_mounts = own_mounts();
	/* The log goes to a file that is looked into; cmocka's own words stay where they were. */
	log_file = tmpfile();
	out = dup(STDERR_FILENO);
	if (!log_file || out < 0 || fcntl(fileno(log_file), F_SETFL, O_APPEND) < 0 ||
	    dup2(fileno(log_file), STDERR_FILENO) < 0)
		return 99;
	(void)log_set_target_name("console");
	cmocka_set_message_output(CM_OUTPUT_TAP);
	out = cmocka_run_group_tests(tests, NULL, NULL);
	fclose(log_file);
	return out;
}
