/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "drivers/qemu/qmp.h"
#include "peer.h"
#include "util/log.h"
#include "util/utf8.h"

/* A client, its peer, and everything that the client was told, in order, as one line of text. */
struct bench {
	sd_event *event;
	struct clock *clock;
	struct peer peer;
	struct qmp *qmp;
	char told[8192];
	char message[512];
	struct json_object *value; /* of the last reply */
	const char *free_at;	   /* free the client when this is told */
	const char *names;	   /* directory of recordings */
};

static const char *recordings;

static void tell(struct bench *b, const char *format, ...) _printf_(2, 3);

static void tell(struct bench *b, const char *format, ...)
{
	size_t n = strlen(b->told);
	va_list ap;

	va_start(ap, format);
	vsnprintf(b->told + n, sizeof(b->told) - n, format, ap);
	va_end(ap);
	if (b->free_at && strcmp(b->told + n, b->free_at) == 0) {
		qmp_free(TAKE(b->qmp));
		tell(b, "freed ");
	}
}

static void on_ready(struct qmp *q, void *userdata)
{
	tell(userdata, "ready ");
}

static void on_event(struct qmp *q, const char *name, struct json_object *data, uint64_t usec, void *userdata)
{
	tell(userdata, "%s ", name);
}

static void on_alive(struct qmp *q, void *userdata)
{
	tell(userdata, "alive ");
}

static void on_closed(struct qmp *q, enum qmp_end why, const char *message, void *userdata)
{
	static const char *const words[] = {"eof", "no-greeting", "protocol", "error"};
	struct bench *b = userdata;

	assert_true(utf8_is_valid(message));
	snprintf(b->message, sizeof(b->message), "%s", message);
	tell(b, "closed:%s ", words[why]);
}

static const struct qmp_ops ops = {.ready = on_ready, .event = on_event, .alive = on_alive, .closed = on_closed};

static void on_reply(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	static const char *const words[] = {"ok", "refused", "timeout", "closed"};
	struct bench *b = userdata;

	assert_true(utf8_is_valid(reply->message));
	if (reply->status == QMP_OK) {
		json_object_put(b->value);
		b->value = json_object_get(reply->value);
	} else
		snprintf(b->message, sizeof(b->message), "%s", reply->message);
	tell(b, "%s ", words[reply->status]);
}

static void on_numbered(struct qmp *q, const struct qmp_reply *reply, void *userdata)
{
	struct bench *b = userdata;

	tell(b, "%s%" PRIi64 " ", reply->status == QMP_OK ? "" : "!", json_object_get_int64(reply->value));
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_true(sd_event_new(&b->event) >= 0);
	assert_int_equal(clock_new_virtual(1, &b->clock), 0);
	peer_open(&b->peer, b->event);
	assert_int_equal(qmp_new(b->event, b->clock, b->peer.ours, USEC_PER_SEC, &ops, b, &b->qmp), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	qmp_free(b->qmp);
	peer_free(&b->peer);
	json_object_put(b->value);
	clock_free(b->clock);
	sd_event_unref(b->event);
	free(b);
	return 0;
}

static void told(struct bench *b, const char *expected)
{
	peer_turn(&b->peer);
	assert_string_equal(b->told, expected);
	b->told[0] = 0;
}

static void greet(struct bench *b)
{
	peer_greet(&b->peer, "[\"oob\"]");
	told(b, "ready ");
}

static void execute(struct bench *b, const char *command)
{
	assert_int_equal(qmp_execute(b->qmp, command, NULL, 5 * USEC_PER_SEC, on_reply, b), 0);
}

static void test_greeting(void **state)
{
	struct bench *b = *state;

	assert_int_equal(qmp_execute(b->qmp, "stop", NULL, 1, NULL, NULL), -ENOTCONN);
	greet(b);
	assert_string_equal(qmp_version(b->qmp), "7.2.22");
	assert_true(qmp_has_oob(b->qmp));
}

static void test_without_oob(void **state)
{
	struct bench *b = *state;

	peer_send(&b->peer, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n", 0);
	struct json_object *o = peer_take(&b->peer);

	/* nothing is asked for that was not offered */
	assert_null(json_member(o, "arguments"));
	peer_reply(&b->peer, json_u(o, "id", 0), "{}", 0);
	json_object_put(o);
	told(b, "ready ");
	assert_false(qmp_has_oob(b->qmp));
	/* what should have gone out of band goes in band */
	assert_int_equal(qmp_execute_oob(b->qmp, "yank", NULL, 1, NULL, NULL), 0);
	o = peer_take(&b->peer);
	assert_string_equal(json_s(o, "execute"), "yank");
	json_object_put(o);
}

static void test_silence(void **state)
{
	struct bench *b = *state;

	clock_advance(b->clock, 999999);
	told(b, "");
	clock_advance(b->clock, 1);
	told(b, "closed:no-greeting ");
	assert_true(peer_has(&b->peer) == false);
}

static void test_silence_after_greeting(void **state)
{
	struct bench *b = *state;

	peer_send(&b->peer, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n", 0);
	peer_expect(&b->peer, "qmp_capabilities");
	clock_advance(b->clock, USEC_PER_SEC);
	told(b, "closed:no-greeting ");
}

/* A real QEMU's words, in every possible cut. */
static void test_recorded(void **state)
{
	static const size_t parts[] = {0, 1, 2, 3, 7, 64, 1000, 4095};
	struct bench *b = *state;
	char file[512];
	_cleanup_(freep) char *first = NULL;

	snprintf(file, sizeof(file), "%s/pc-7.2.qmp", recordings);
	for (size_t i = 0; i < ELEMENTS(parts); i++) {
		if (i > 0) {
			teardown(state);
			setup(state);
			b = *state;
		}
		/* the commands of the recording are asked for as it goes */
		peer_send(&b->peer, "", 0);
		FILE *f = fopen(file, "re");
		_cleanup_(freep) char *line = NULL;
		size_t size = 0;

		assert_non_null(f);
		/* greeting and negotiation are the client's own; the others are sent at once: pipelined */
		b->free_at = NULL;
		char greeting[2048] = "";

		while (getline(&line, &size, f) > 0)
			if (line[0] == '<') {
				snprintf(greeting, sizeof(greeting), "%s", line + 2);
				break;
			}
		peer_send(&b->peer, greeting, parts[i]);
		peer_reply(&b->peer, peer_expect(&b->peer, "qmp_capabilities"), "{}", parts[i]);
		told(b, "ready ");
		while (getline(&line, &size, f) > 0) {
			struct json_object *o = json_tokener_parse(line + 2);

			if (line[0] == '>') {
				const char *command = json_s(o, "execute");
				struct json_object *arguments = json_member(o, "arguments");

				if (strcmp(command, "qmp_capabilities") != 0)
					assert_int_equal(qmp_execute(b->qmp, command, json_object_get(arguments),
								 USEC_UNKNOWN, on_reply, b),
						0);
			}
			json_object_put(o);
		}
		fclose(f);
		/* its part from behind the negotiation on */
		char rest[600];

		snprintf(rest, sizeof(rest), "%s/pc-7.2.rest", recordings);
		peer_replay(&b->peer, rest, parts[i]);
		assert_int_equal(qmp_waiting(b->qmp), 0);
		assert_non_null(strstr(b->told, "STOP ok RESUME ok "));
		assert_non_null(strstr(b->told, "refused "));
		if (!first)
			first = strdup(b->told);
		else
			assert_string_equal(b->told, first);
	}
}

static void test_order(void **state)
{
	struct bench *b = *state;
	uint64_t ids[50];
	char expected[2048] = "", number[16];

	greet(b);
	for (int i = 0; i < 50; i++)
		assert_int_equal(qmp_execute(b->qmp, "query-status", NULL, USEC_PER_SEC, on_numbered, b), 0);
	assert_int_equal(qmp_waiting(b->qmp), 50);
	/* all are out before the first is answered */
	for (int i = 0; i < 50; i++)
		ids[i] = peer_expect(&b->peer, "query-status");
	for (int i = 0; i < 50; i++) {
		snprintf(number, sizeof(number), "%d", i);
		peer_send(&b->peer, "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"E\"}\r\n", 5);
		peer_reply(&b->peer, ids[i], number, 5);
		strcat(expected, "E ");
		strcat(expected, number);
		strcat(expected, " ");
	}
	told(b, expected);
}

static void test_out_of_band(void **state)
{
	struct bench *b = *state;
	uint64_t in, out;

	greet(b);
	execute(b, "query-block");
	assert_int_equal(qmp_execute_oob(b->qmp, "migrate-pause", NULL, USEC_PER_SEC, on_numbered, b), 0);
	in = peer_expect(&b->peer, "query-block");
	struct json_object *o = peer_take(&b->peer);

	assert_string_equal(json_s(o, "exec-oob"), "migrate-pause");
	out = json_u(o, "id", 0);
	json_object_put(o);
	peer_reply(&b->peer, out, "7", 0);
	peer_reply(&b->peer, in, "[]", 0);
	told(b, "7 ok ");
}

static void test_big_numbers(void **state)
{
	struct bench *b = *state;

	greet(b);
	execute(b, "query-x");
	peer_reply(&b->peer, peer_expect(&b->peer, "query-x"),
		"{\"a\": 18446744073709551615, \"b\": 9223372036854775808, \"c\": -9223372036854775808, \"d\": -1, \"e\": 1.5}", 3);
	told(b, "ok ");
	assert_true(json_u(b->value, "a", 0) == UINT64_MAX);
	assert_true(json_u(b->value, "b", 0) == UINT64_C(9223372036854775808));
	assert_true(json_i(b->value, "c", 0) == INT64_MIN);
	assert_true(json_u(b->value, "d", 5) == 5);
	assert_true(json_u(b->value, "e", 5) == 5);
	assert_true(json_u(b->value, "f", 5) == 5);
	/* and out again */
	struct json_object *a = json_object_new_object();

	json_object_object_add(a, "value", json_object_new_uint64(UINT64_MAX));
	assert_int_equal(qmp_execute(b->qmp, "balloon", a, 1, NULL, NULL), 0);
	peer_turn(&b->peer);
	assert_true(peer_has(&b->peer));
	assert_non_null(strstr(b->peer.in, ":18446744073709551615"));
}

static void test_refused(void **state)
{
	struct bench *b = *state;
	char text[256];

	greet(b);
	execute(b, "frobnicate");
	snprintf(text, sizeof(text),
		"{\"id\": %" PRIu64 ", \"error\": {\"class\": \"CommandNotFound\", \"desc\": \"bad \xff byte\"}}\n",
		peer_expect(&b->peer, "frobnicate"));
	peer_send(&b->peer, text, 0);
	told(b, "refused ");
	assert_string_equal(b->message, "bad \xef\xbf\xbd byte");
}

static void test_timeout(void **state)
{
	struct bench *b = *state;
	uint64_t first, second;

	greet(b);
	execute(b, "stop");
	assert_int_equal(qmp_execute(b->qmp, "cont", NULL, USEC_UNKNOWN, on_reply, b), 0);
	first = peer_expect(&b->peer, "stop");
	second = peer_expect(&b->peer, "cont");
	clock_advance(b->clock, 5 * USEC_PER_SEC);
	told(b, "timeout ");
	clock_advance(b->clock, 500 * USEC_PER_SEC);
	told(b, "");
	/* the late answer is nobody's, and tells that it lives; the other is still in time */
	peer_reply(&b->peer, first, "{}", 0);
	peer_reply(&b->peer, second, "{}", 0);
	told(b, "alive ok ");
	assert_int_equal(qmp_waiting(b->qmp), 0);
}

static void ends(struct bench *b, const char *bytes, size_t n, const char *expected, const char *message)
{
	peer_send_n(&b->peer, bytes, n, 0);
	told(b, expected);
	if (!strstr(b->message, message))
		fail_msg("expected '%s' in '%s'", message, b->message);
	assert_int_equal(qmp_execute(b->qmp, "stop", NULL, 1, NULL, NULL), -ENOTCONN);
}

static void test_nonsense(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *message;
	} cases[] = {
#define CASE(bytes, message) {bytes, sizeof(bytes) - 1, message}
		CASE("garbage\r\n", "no JSON object"),
		CASE("[1]\r\n", "no JSON object"),
		CASE("\"x\"\r\n", "no JSON object"),
		CASE("{\"return\": }\r\n", "broken JSON"),
		CASE("{\"return\": 'x', \"id\": 2}\r\n", "broken JSON"),
		CASE("{\"return\"\0: {}}\r\n", "zero byte"),
		CASE("\0", "no JSON object"),
		CASE("{\"something\": 1}\r\n", "neither reply nor event"),
		CASE("{\"error\": 5}\r\n", "neither reply nor event"),
		CASE("{\"event\": {}}\r\n", "neither reply nor event"),
		CASE("{\"return\": {}}\r\n", "not asked"),
		CASE("{\"return\": {}, \"id\": 4711}\r\n", "not asked"),
		CASE("{\"return\": {}, \"id\": \"2\"}\r\n", "not asked"),
		CASE("{\"return\": {}, \"id\": -2}\r\n", "not asked"),
		CASE("{\"return\": {}, \"id\": {\"a\": 2}}\r\n", "not asked"),
		CASE("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n", "JSON parse error"),
#undef CASE
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		struct bench *b = *state;

		greet(b);
		execute(b, "query-status");
		peer_expect(&b->peer, "query-status");
		ends(b, cases[i].bytes, cases[i].n, "closed closed:protocol ", cases[i].message);
		teardown(state);
		setup(state);
	}
	/* something that greets otherwise */
	struct bench *b = *state;

	ends(b, "{\"hello\": 1}\n", 13, "closed:protocol ", "no greeting");
}

static void test_deep(void **state)
{
	struct bench *b = *state;
	char deep[256] = "{\"return\": ";

	for (int i = 0; i < 100; i++)
		strcat(deep, "[");
	greet(b);
	ends(b, deep, strlen(deep), "closed:protocol ", "nested");
}

/* @n bytes of string within an answer to @id. */
static void send_huge(struct bench *b, uint64_t id, size_t n)
{
	char head[64];
	_cleanup_(freep) char *body = malloc(n);

	memset(body, 'x', n);
	snprintf(head, sizeof(head), "{\"id\": %" PRIu64 ", \"return\": \"", id);
	peer_send(&b->peer, head, 0);
	/* the client reads in the same thread: in parts that the socket takes */
	peer_send_n(&b->peer, body, n, 32768);
	peer_send(&b->peer, "\"}\r\n", 0);
	peer_turn(&b->peer);
}

static void test_huge(void **state)
{
	struct bench *b = *state;

	greet(b);
	execute(b, "one");
	send_huge(b, peer_expect(&b->peer, "one"), QMP_LINE_MAX - 100);
	told(b, "ok ");
	assert_int_equal(json_object_get_string_len(b->value), QMP_LINE_MAX - 100);
	execute(b, "two");
	send_huge(b, peer_expect(&b->peer, "two"), QMP_LINE_MAX + 10);
	told(b, "closed closed:protocol ");
	assert_non_null(strstr(b->message, "longer than"));
}

static void test_many_lines_in_one(void **state)
{
	struct bench *b = *state;
	_cleanup_(freep) char *text = calloc(1, 100 * 32);

	greet(b);
	for (int i = 0; i < 100; i++)
		strcat(text, i % 2 ? "{\"event\": \"A\"}" : "\r\n \t{\n\"event\":\n\"B\"\n}\n");
	peer_send(&b->peer, text, 0);
	peer_turn(&b->peer);
	assert_int_equal(strlen(b->told), 200);
	assert_memory_equal(b->told, "B A B A ", 8);
}

static void test_death(void **state)
{
	struct bench *b = *state;

	peer_close(&b->peer);
	told(b, "closed:eof ");

	teardown(state);
	setup(state);
	b = *state;
	greet(b);
	execute(b, "stop");
	execute(b, "cont");
	peer_expect(&b->peer, "stop");
	peer_send(&b->peer, "{\"event\": \"SHUTDOWN\"}\n{\"return\": {\"half", 0);
	peer_close(&b->peer);
	/* what was said before is heard; each waiting one is answered, once */
	told(b, "SHUTDOWN closed closed closed:eof ");
	assert_non_null(strstr(b->message, "middle of a reply"));
}

static void test_descriptor(void **state)
{
	struct bench *b = *state;
	struct stat a, c;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	greet(b);
	execute(b, "before");
	assert_int_equal(
		qmp_execute_fd(b->qmp, "getfd", json_strings("fdname", "x", NULL), fd, USEC_PER_SEC, on_reply, b), 0);
	assert_int_equal(fstat(fd, &a), 0);
	close(fd);
	peer_expect(&b->peer, "before");
	peer_expect(&b->peer, "getfd");
	assert_true(b->peer.received_fd >= 0);
	assert_int_equal(fstat(b->peer.received_fd, &c), 0);
	assert_true(a.st_rdev == c.st_rdev);
}

/* A QEMU that reads nothing costs bounded memory, and never blocks. */
static void test_output_bounded(void **state)
{
	struct bench *b = *state;
	unsigned n = 0;
	int r;

	greet(b);
	do {
		_cleanup_(freep) char *big = malloc(100001);

		memset(big, 'y', 100000);
		big[100000] = 0;
		r = qmp_execute(b->qmp, "big", json_strings("a", big, NULL), USEC_UNKNOWN, on_reply, b);
	} while (r == 0 && ++n < 1000);
	assert_int_equal(r, -ENOBUFS);
	assert_true(n > 10 && n < 100);
	/* once it reads again, everything arrives, whole */
	for (unsigned i = 0; i < n; i++) {
		struct json_object *o = peer_take(&b->peer);

		assert_int_equal(strlen(json_s(json_member(o, "arguments"), "a")), 100000);
		json_object_put(o);
	}
	assert_false(peer_has(&b->peer));
}

static void test_freed_anywhere(void **state)
{
	static const char *const where[] = {"ready ", "E ", "ok ", "timeout ", "closed ", "closed:eof "};

	for (size_t i = 0; i < ELEMENTS(where); i++) {
		struct bench *b = *state;

		b->free_at = where[i];
		peer_greet(&b->peer, "[]");
		if (b->qmp) {
			execute(b, "one");
			execute(b, "two");
			uint64_t one = peer_expect(&b->peer, "one");

			peer_expect(&b->peer, "two");
			peer_send(&b->peer, "{\"event\": \"E\"}{\"event\": \"E\"}", 0);
			peer_reply(&b->peer, one, "{}", 0);
			peer_turn(&b->peer);
			if (strcmp(where[i], "timeout ") == 0)
				clock_advance(b->clock, 10 * USEC_PER_SEC);
			peer_close(&b->peer);
			peer_turn(&b->peer);
		}
		assert_null(b->qmp);
		/* nothing was told behind it */
		size_t n = strlen(b->told);

		assert_string_equal(b->told + n - 6, "freed ");
		teardown(state);
		setup(state);
	}
}

static int feed(struct qmp_parser *p, const char *s, unsigned *n)
{
	return qmp_parser_feed(p, s, strlen(s), NULL, n, NULL);
}

static void test_parser(void **state)
{
	struct qmp_parser *p;
	unsigned n = 0;

	assert_int_equal(qmp_parser_new(100, &p), 0);
	assert_int_equal(feed(p, " \r\n\t ", &n), 0);
	assert_false(qmp_parser_pending(p));
	assert_int_equal(feed(p, "{\"a\"", &n), 0);
	assert_true(qmp_parser_pending(p));
	assert_int_equal(feed(p, ": tru", &n), 0);
	assert_int_equal(feed(p, "x}", &n), -EBADMSG);
	qmp_parser_free(p);
	qmp_parser_free(NULL);

	/* json-c by itself takes this, when it is cut behind the 0. */
	assert_int_equal(qmp_parser_new(100, &p), 0);
	assert_int_equal(feed(p, "{\"id\": 0", &n), 0);
	assert_int_equal(feed(p, "-}", &n), -EBADMSG);
	qmp_parser_free(p);

	/* The limit is exact, and what closes within strings closes nothing. */
	assert_int_equal(qmp_parser_new(12, &p), 0);
	assert_int_equal(feed(p, "{\"a\":\"}\\\"]", &n), 0);
	assert_true(qmp_parser_pending(p));
	assert_int_equal(feed(p, "}\"1", &n), -EMSGSIZE);
	qmp_parser_free(p);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_greeting),
		TEST(test_without_oob),
		TEST(test_silence),
		TEST(test_silence_after_greeting),
		TEST(test_recorded),
		TEST(test_order),
		TEST(test_out_of_band),
		TEST(test_big_numbers),
		TEST(test_refused),
		TEST(test_timeout),
		TEST(test_nonsense),
		TEST(test_deep),
		TEST(test_huge),
		TEST(test_many_lines_in_one),
		TEST(test_death),
		TEST(test_descriptor),
		TEST(test_output_bounded),
		TEST(test_freed_anywhere),
		cmocka_unit_test(test_parser),
	};

	if (argc != 2) {
		fprintf(stderr, "Usage: test-qmp DIRECTORY-OF-RECORDINGS\n");
		return 2;
	}
	recordings = argv[1];
	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
