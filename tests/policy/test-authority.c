/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The client of polkit, on a bus with a polkit that says what the test wants, when it wants. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "policy/authority.h"
#include "util/log.h"

#define POLKIT "org.freedesktop.PolicyKit1"
#define PATH "/org/freedesktop/PolicyKit1/Authority"
#define INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define MAX 6 /* questions of a sender that may wait */
#define NONE UINT32_MAX
#define UNTIL_LATE (10 * USEC_PER_SEC)
#define UNTIL_VERY_LATE (300 * USEC_PER_SEC)

/* ---- a bus ------------------------------------------------------------------------------------------------------ */

static const char config[] = "<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen>"
			     "<policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>"
			     "<allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>";
static char address[256], config_path[] = "/tmp/vireo-bus-XXXXXX";
static pid_t daemon_pid;

static int start_bus(void **state)
{
	int fds[2], fd = mkstemp(config_path);
	ssize_t n;

	assert_true(fd >= 0 && write(fd, config, sizeof(config) - 1) == sizeof(config) - 1);
	close(fd);
	assert_int_equal(pipe(fds), 0);
	daemon_pid = fork();
	if (daemon_pid == 0) {
		char option[300], out[32];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(option, sizeof(option), "--config-file=%s", config_path);
		snprintf(out, sizeof(out), "--print-address=%d", fds[1]);
		execlp("dbus-daemon", "dbus-daemon", option, out, "--nofork", "--nosyslog", NULL);
		_exit(127);
	}
	close(fds[1]);
	n = read(fds[0], address, sizeof(address) - 1);
	close(fds[0]);
	if (n <= 0)
		return -1;
	address[strcspn(address, "\n")] = 0;
	return 0;
}

static int stop_bus(void **state)
{
	kill(daemon_pid, SIGTERM);
	waitpid(daemon_pid, NULL, 0);
	unlink(config_path);
	return 0;
}

/* ---- a world ---------------------------------------------------------------------------------------------------- */

#define QUESTIONS_MAX 512

struct question_heard {
	sd_bus_message *m;
	const char *sender, *action, *cancellation;
	char *operation;
	uint32_t flags;
	bool answered;
};

struct world {
	sd_event *event;
	sd_bus *ours, *polkit, *other;
	struct clock *clock;
	struct authority *authority;
	struct question_heard heard[QUESTIONS_MAX];
	unsigned n_heard, n_cancelled, changed;
	char cancelled[QUESTIONS_MAX][32];
};

/* What became of a question. */
struct asked {
	struct world *w;
	struct authority_request *request;
	enum authority_answer answer; /* AUTHORITY_ANSWER_MAX: none yet */
	unsigned times;
	void (*then)(struct asked *a);
	void *more;
};

static sd_bus *connect_bus(struct world *w)
{
	sd_bus *bus;

	assert_true(sd_bus_new(&bus) >= 0);
	assert_true(sd_bus_set_address(bus, address) >= 0);
	assert_true(sd_bus_set_bus_client(bus, 1) >= 0);
	assert_true(sd_bus_start(bus) >= 0);
	assert_true(sd_bus_attach_event(bus, w->event, SD_EVENT_PRIORITY_NORMAL) >= 0);
	return bus;
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

#define RUN_UNTIL(condition)                                                                                  \
	do {                                                                                                  \
		uint64_t begun = now();                                                                       \
		while (!(condition)) {                                                                        \
			assert_true(now() - begun < 60 * USEC_PER_SEC);                                       \
			assert_true(sd_event_run(w->event, 100 * USEC_PER_MSEC) >= 0);                        \
			clock_advance(w->clock, 0);                                                           \
		}                                                                                             \
	} while (0)

static int on_check(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct world *w = userdata;
	struct question_heard *q = &w->heard[w->n_heard++];
	const char *kind, *key, *value;

	assert_true(w->n_heard < QUESTIONS_MAX);
	*q = (struct question_heard){.m = sd_bus_message_ref(m)};
	assert_true(sd_bus_message_has_signature(m, "(sa{sv})sa{ss}us"));
	assert_true(sd_bus_message_read(m, "(sa{sv})s", &kind, 1, &key, "s", &q->sender, &q->action) > 0);
	assert_string_equal(kind, "system-bus-name");
	assert_string_equal(key, "name");
	assert_true(sd_bus_message_enter_container(m, 'a', "{ss}") > 0);
	while (sd_bus_message_read(m, "{ss}", &key, &value) > 0)
		if (strcmp(key, "operation") == 0)
			assert_non_null(q->operation = strdup(value));
	assert_true(sd_bus_message_exit_container(m) >= 0);
	assert_true(sd_bus_message_read(m, "us", &q->flags, &q->cancellation) > 0);
	return 1;
}

static int on_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct world *w = userdata;
	const char *id;

	assert_true(sd_bus_message_read(m, "s", &id) > 0);
	snprintf(w->cancelled[w->n_cancelled++], sizeof(w->cancelled[0]), "%s", id);
	return sd_bus_reply_method_return(m, "");
}

/* No vtable: that would not let wrong answers out. */
static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	if (sd_bus_message_is_method_call(m, INTERFACE, "CheckAuthorization"))
		return on_check(m, userdata, error);
	if (sd_bus_message_is_method_call(m, INTERFACE, "CancelCheckAuthorization"))
		return on_cancel(m, userdata, error);
	return 0;
}

static void on_changed(void *userdata)
{
	((struct world *)userdata)->changed++;
}

/* Everything that was sent before has been dealt with at the other end. */
static int on_pong(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	*(bool *)userdata = true;
	return 1;
}

static void settle(struct world *w, sd_bus *from, sd_bus *to)
{
	const char *name;
	bool done = false;

	assert_true(sd_bus_get_unique_name(to, &name) >= 0);
	assert_true(sd_bus_call_method_async(from, NULL, name, "/", "org.freedesktop.DBus.Peer", "Ping", on_pong, &done, "") >= 0);
	RUN_UNTIL(done);
}

static void polkit_appears(struct world *w)
{
	w->polkit = connect_bus(w);
	assert_true(sd_bus_add_object(w->polkit, NULL, PATH, on_call, w) >= 0);
	assert_true(sd_bus_request_name(w->polkit, POLKIT, 0) >= 0);
}

static void polkit_vanishes(struct world *w)
{
	for (unsigned i = 0; i < w->n_heard; i++) {
		sd_bus_message_unref(w->heard[i].m);
		free(w->heard[i].operation);
	}
	w->n_heard = 0;
	w->polkit = sd_bus_close_unref(w->polkit);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_true(sd_event_new(&w->event) >= 0);
	assert_int_equal(clock_new_virtual(1, &w->clock), 0);
	w->ours = connect_bus(w);
	w->other = connect_bus(w);
	polkit_appears(w);
	assert_int_equal(authority_new(w->ours, w->clock, MAX, on_changed, w, &w->authority), 0);
	settle(w, w->polkit, w->ours);
	settle(w, w->ours, w->polkit);
	w->changed = 0;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	authority_free(w->authority);
	polkit_vanishes(w);
	sd_bus_close_unref(w->ours);
	sd_bus_close_unref(w->other);
	clock_free(w->clock);
	sd_event_unref(w->event);
	free(w);
	return 0;
}

static void on_answer(enum authority_answer answer, void *userdata)
{
	struct asked *a = userdata;

	a->answer = answer;
	a->times++;
	a->request = NULL;
	if (a->then)
		a->then(a);
}

static void ask_as(struct world *w, struct asked *a, const char *sender, uint32_t uid, bool interactive, const char *operation)
{
	struct authority_detail details[] = {{"name", "web-1"}, {"operation", operation}};

	a->w = w;
	a->answer = AUTHORITY_ANSWER_MAX;
	a->times = 0;
	assert_int_equal(authority_ask(w->authority,
				       &(struct authority_question){.sender = sender, .uid = uid, .action = "org.vireo1.control",
					       .details = details, .n_details = 2, .interactive = interactive},
				       on_answer, a, &a->request), 0);
	/* never from inside */
	assert_int_equal(a->times, 0);
}

static void ask(struct world *w, struct asked *a, bool interactive)
{
	ask_as(w, a, ":1.77", 1000, interactive, "Start");
}

/* polkit's word on a question. */
static void say(struct world *w, unsigned i, bool yes, bool challenge)
{
	assert_true(i < w->n_heard && !w->heard[i].answered);
	w->heard[i].answered = true;
	assert_true(sd_bus_reply_method_return(w->heard[i].m, "(bba{ss})", yes, challenge, 1, "polkit.retains_x", "1") >= 0);
}

static unsigned unanswered(const struct world *w)
{
	for (unsigned i = 0; i < w->n_heard; i++)
		if (!w->heard[i].answered)
			return i;
	return NONE;
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

static void test_answers(void **state)
{
	static const struct {
		bool yes, challenge;
		enum authority_answer answer;
	} cases[] = {{true, false, AUTHORITY_YES}, {false, false, AUTHORITY_NO}, {false, true, AUTHORITY_CHALLENGE},
		{true, true, AUTHORITY_YES}};
	struct world *w = *state;
	struct asked a = {0};

	for (unsigned i = 0; i < ELEMENTS(cases); i++) {
		ask(w, &a, i % 2);
		RUN_UNTIL(w->n_heard > i);
		assert_string_equal(w->heard[i].sender, ":1.77");
		assert_string_equal(w->heard[i].action, "org.vireo1.control");
		assert_string_equal(w->heard[i].operation, "Start");
		assert_int_equal(w->heard[i].flags, i % 2);
		say(w, i, cases[i].yes, cases[i].challenge);
		RUN_UNTIL(a.times);
		assert_int_equal(a.answer, cases[i].answer);
	}
	/* each was asked, though they were the same: nothing is remembered; and each can be cancelled by itself */
	assert_int_equal(w->n_heard, ELEMENTS(cases));
	for (unsigned i = 1; i < w->n_heard; i++)
		assert_string_not_equal(w->heard[i].cancellation, w->heard[i - 1].cancellation);
	assert_int_equal(w->n_cancelled, 0);
}

static void test_nonsense(void **state)
{
	struct world *w = *state;
	struct asked a = {0};

	for (unsigned i = 0; i < 7; i++) {
		sd_bus_message *m;

		ask(w, &a, false);
		RUN_UNTIL(w->n_heard > i);
		w->heard[i].answered = true;
		assert_true(sd_bus_message_new_method_return(w->heard[i].m, &m) >= 0);
		if (i == 0)
			assert_true(sd_bus_message_append(m, "s", "yes") >= 0);
		else if (i == 2)
			assert_true(sd_bus_message_append(m, "(bb)", 1, 1) >= 0);
		else if (i == 3)
			assert_true(sd_bus_message_append(m, "bba{ss}", 1, 1, 0) >= 0);
		else if (i == 4)
			assert_true(sd_bus_message_append(m, "(uba{ss})", 1, 1, 0) >= 0);
		else if (i == 5)
			assert_true(sd_bus_message_append(m, "((bba{ss}))", 1, 1, 0) >= 0);
		else if (i == 6)
			assert_true(sd_bus_message_append(m, "v", "(bba{ss})", 1, 1, 0) >= 0);
		assert_true(sd_bus_send(w->polkit, m, NULL) >= 0); /* 1: nothing at all */
		sd_bus_message_unref(m);
		RUN_UNTIL(a.times);
		assert_int_equal(a.answer, AUTHORITY_NOBODY);
	}
}

static void test_errors(void **state)
{
	struct world *w = *state;
	struct asked a = {0};

	ask(w, &a, false);
	RUN_UNTIL(w->n_heard > 0);
	assert_true(sd_bus_reply_method_errorf(w->heard[0].m, POLKIT ".Error.NotAuthorized", "not for you") >= 0);
	RUN_UNTIL(a.times);
	assert_int_equal(a.answer, AUTHORITY_NOBODY);
	/* there is none */
	polkit_vanishes(w);
	settle(w, w->other, w->ours);
	ask(w, &a, true);
	RUN_UNTIL(a.times);
	assert_int_equal(a.answer, AUTHORITY_NOBODY);
	/* there is no bus */
	sd_bus_close(w->ours);
	ask(w, &a, true);
	RUN_UNTIL(a.times);
	assert_int_equal(a.answer, AUTHORITY_NOBODY);
}

static void test_late(void **state)
{
	struct world *w = *state;
	struct asked a = {0}, b = {0};

	ask(w, &a, false);
	ask(w, &b, true);
	RUN_UNTIL(w->n_heard == 2);
	clock_advance(w->clock, UNTIL_LATE - 1);
	assert_int_equal(a.times, 0);
	clock_advance(w->clock, 1);
	assert_int_equal(a.times, 1);
	assert_int_equal(a.answer, AUTHORITY_NOBODY);
	/* a person may take a while; then the dialog is closed */
	clock_advance(w->clock, UNTIL_VERY_LATE - UNTIL_LATE - 1);
	assert_int_equal(b.times, 0);
	clock_advance(w->clock, 1);
	assert_int_equal(b.answer, AUTHORITY_NOBODY);
	RUN_UNTIL(w->n_cancelled == 1);
	assert_string_equal(w->cancelled[0], w->heard[1].cancellation);
	/* too late is never */
	say(w, 0, true, false);
	say(w, 1, true, false);
	settle(w, w->polkit, w->ours);
	assert_int_equal(a.times, 1);
	assert_int_equal(b.times, 1);
	assert_int_equal(a.answer, AUTHORITY_NOBODY);
	/* and the places are free again */
	ask(w, &a, false);
	RUN_UNTIL(w->n_heard == 3);
	say(w, 2, true, false);
	RUN_UNTIL(a.times);
	assert_int_equal(a.answer, AUTHORITY_YES);
}

/* ---- polkit comes, goes, changes -------------------------------------------------------------------------------- */

static void test_vanishes_half_way(void **state)
{
	struct world *w = *state;
	struct asked a = {0}, b = {0};

	ask(w, &a, false);
	ask(w, &b, true);
	RUN_UNTIL(w->n_heard == 2);
	polkit_vanishes(w);
	RUN_UNTIL(a.times && b.times && w->changed == 1);
	assert_int_equal(a.answer, AUTHORITY_NOBODY);
	assert_int_equal(b.answer, AUTHORITY_NOBODY);
	/* another one may have other rules */
	polkit_appears(w);
	RUN_UNTIL(w->changed == 2);
	ask(w, &a, false);
	RUN_UNTIL(w->n_heard == 1);
	say(w, 0, true, false);
	RUN_UNTIL(a.times);
	assert_int_equal(a.answer, AUTHORITY_YES);
}

static void say_changed(sd_bus *from, const char *to)
{
	sd_bus_message *m;

	assert_true(sd_bus_message_new_signal(from, &m, PATH, INTERFACE, "Changed") >= 0);
	assert_true(!to || sd_bus_message_set_destination(m, to) >= 0);
	assert_true(sd_bus_send(from, m, NULL) >= 0);
	sd_bus_message_unref(m);
}

static void test_changed_meanwhile(void **state)
{
	struct world *w = *state;
	struct asked a = {0};

	ask(w, &a, false);
	RUN_UNTIL(w->n_heard == 1);
	say(w, 0, false, false);
	RUN_UNTIL(a.times);
	ask(w, &a, false);
	RUN_UNTIL(w->n_heard == 2);
	say_changed(w->polkit, NULL);
	RUN_UNTIL(w->changed == 1);
	/* goes on waiting, and is answered as polkit then says */
	assert_int_equal(a.times, 0);
	say_changed(w->polkit, NULL);
	say(w, 1, true, false);
	RUN_UNTIL(a.times && w->changed == 2);
	assert_int_equal(a.answer, AUTHORITY_YES);
	assert_int_equal(a.times, 1);
}

/* Else anybody could make us ask everything again, all the time. */
static void test_changed_by_somebody_else(void **state)
{
	struct world *w = *state;
	struct asked a = {0};
	sd_bus_message *m;
	const char *name;

	ask(w, &a, false);
	RUN_UNTIL(w->n_heard == 1);
	say(w, 0, true, false);
	RUN_UNTIL(a.times);
	assert_true(sd_bus_get_unique_name(w->ours, &name) >= 0);
	say_changed(w->other, NULL);
	say_changed(w->other, name);
	assert_true(sd_bus_message_new_signal(w->other, &m, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged") >= 0);
	assert_true(sd_bus_message_set_destination(m, name) >= 0);
	assert_true(sd_bus_message_append(m, "sss", POLKIT, ":1.1", "") >= 0);
	assert_true(sd_bus_send(w->other, m, NULL) >= 0);
	sd_bus_message_unref(m);
	settle(w, w->other, w->ours);
	assert_int_equal(w->changed, 0);
	say_changed(w->polkit, name);
	RUN_UNTIL(w->changed == 1);
}

/* ---- how many --------------------------------------------------------------------------------------------------- */

static void test_of_one_caller(void **state)
{
	struct world *w = *state;
	struct asked a[4 + MAX + 2] = {{0}}, b = {0};

	for (unsigned i = 0; i < ELEMENTS(a); i++)
		ask(w, &a[i], false);
	RUN_UNTIL(a[4 + MAX].times && a[4 + MAX + 1].times);
	assert_int_equal(a[4 + MAX].answer, AUTHORITY_BUSY);
	assert_int_equal(a[4 + MAX + 1].answer, AUTHORITY_BUSY);
	settle(w, w->ours, w->polkit);
	assert_int_equal(w->n_heard, 4);
	/* others are not concerned */
	ask_as(w, &b, ":1.78", 1001, false, "Start");
	RUN_UNTIL(w->n_heard == 5);
	assert_string_equal(w->heard[4].sender, ":1.78");
	say(w, 4, true, false);
	RUN_UNTIL(b.times);
	/* one after the other, each once */
	for (unsigned i = 0; i < 4 + MAX; i++) {
		RUN_UNTIL(unanswered(w) != NONE);
		say(w, unanswered(w), true, false);
		RUN_UNTIL(a[i].times);
		assert_int_equal(a[i].answer, AUTHORITY_YES);
	}
	assert_int_equal(w->n_heard, 4 + MAX + 1);
	for (unsigned i = 0; i < ELEMENTS(a); i++)
		assert_int_equal(a[i].times, 1);
}

/* Who lets his dialogs stand keeps nobody else out, and not even himself from what needs none. */
static void test_dialogs_left_open(void **state)
{
	struct world *w = *state;
	struct asked many[60] = {{0}}, bob = {0}, mine = {0};
	char sender[16];

	for (unsigned i = 0; i < ELEMENTS(many); i++) {
		snprintf(sender, sizeof(sender), ":1.%u", 100 + i / 5);
		ask_as(w, &many[i], sender, 1000, true, "Start");
	}
	settle(w, w->ours, w->polkit);
	assert_int_equal(w->n_heard, 8);
	ask_as(w, &bob, ":1.200", 1001, true, "Start");
	ask_as(w, &mine, ":1.100", 1000, false, "GetSnapshot");
	RUN_UNTIL(w->n_heard == 10);
	say(w, 8, true, false);
	say(w, 9, true, false);
	RUN_UNTIL(bob.times && mine.times);
	assert_int_equal(bob.answer, AUTHORITY_YES);
	for (unsigned i = 0; i < ELEMENTS(many); i++)
		authority_cancel(many[i].request);
	RUN_UNTIL(w->n_cancelled >= 8);
}

/* However many ask, however fast: one of each in turn. */
static void test_everybody_has_his_turn(void **state)
{
	enum { USERS = 3, SENDERS = 4, EACH = 9 };
	struct world *w = *state;
	static struct asked many[USERS][SENDERS][EACH];
	struct asked last = {0};
	char sender[16];
	unsigned before;

	for (unsigned k = 0; k < EACH; k++)
		for (unsigned u = 0; u < USERS; u++)
			for (unsigned s = 0; s < SENDERS; s++) {
				snprintf(sender, sizeof(sender), ":1.%u%u", 1 + u, s);
				ask_as(w, &many[u][s][k], sender, 1000 + u, false, "Start");
			}
	settle(w, w->ours, w->polkit);
	assert_int_equal(w->n_heard, USERS * SENDERS * 4);
	ask_as(w, &last, ":1.999", 2000, false, "Start");
	settle(w, w->ours, w->polkit);
	before = w->n_heard;
	while (!last.times) {
		RUN_UNTIL(unanswered(w) != NONE);
		if (strcmp(w->heard[w->n_heard - 1].sender, ":1.999") == 0 && before) {
			assert_true(w->n_heard - before <= USERS * SENDERS + 1);
			before = 0;
		}
		say(w, unanswered(w), true, false);
		settle(w, w->polkit, w->ours);
		settle(w, w->ours, w->polkit);
	}
	assert_int_equal(before, 0);
	for (unsigned u = 0; u < USERS; u++)
		for (unsigned s = 0; s < SENDERS; s++)
			for (unsigned k = 0; k < EACH; k++)
				authority_cancel(many[u][s][k].request);
}

/* ---- cancelling ------------------------------------------------------------------------------------------------- */

static void test_cancel(void **state)
{
	struct world *w = *state;
	struct asked a[7] = {{0}};

	for (unsigned i = 0; i < ELEMENTS(a); i++)
		ask_as(w, &a[i], ":1.77", 1000, true, i == 4 ? "Fifth" : i == 5 ? "Sixth" : "Start");
	RUN_UNTIL(w->n_heard == 4);
	/* one that waits is never asked; one that is asked makes room once polkit has dropped it */
	authority_cancel(a[4].request);
	authority_cancel(a[1].request);
	RUN_UNTIL(w->n_cancelled == 1);
	assert_string_equal(w->cancelled[0], w->heard[1].cancellation);
	settle(w, w->ours, w->polkit);
	assert_int_equal(w->n_heard, 4);
	/* polkit answers a cancelled one with an error, or had answered already */
	say(w, 1, true, false);
	RUN_UNTIL(w->n_heard == 5);
	assert_string_equal(w->heard[4].operation, "Sixth");
	say(w, 0, true, false);
	RUN_UNTIL(a[0].times && w->n_heard == 6);
	assert_int_equal(a[1].times, 0);
	assert_int_equal(a[4].times, 0);
	/* answered, but not told yet */
	say(w, 2, true, false);
	settle(w, w->polkit, w->other);
	while (sd_bus_process(w->ours, NULL) > 0)
		;
	if (!a[2].times)
		authority_cancel(a[2].request);
	clock_advance(w->clock, 0);
	assert_int_equal(w->n_cancelled, 1);
	authority_cancel(NULL);
	/* the rest goes with the authority, without a word but to polkit */
	authority_free(TAKE(w->authority));
	RUN_UNTIL(w->n_cancelled == 4);
	clock_advance(w->clock, UNTIL_VERY_LATE);
	assert_int_equal(a[3].times + a[5].times + a[6].times, 0);
}

/* The bus counts what polkit has not answered, and refuses us more at 128: nobody shall use that up for all the others. */
static void test_ask_and_go(void **state)
{
	struct world *w = *state;
	struct asked bob = {0};
	char sender[16];

	for (unsigned i = 0; i < 200; i++) {
		struct asked a = {0};

		snprintf(sender, sizeof(sender), ":1.%u", 100 + i);
		ask_as(w, &a, sender, 1000, i % 2, "Start");
		settle(w, w->ours, w->polkit);
		authority_cancel(a.request);
	}
	ask_as(w, &bob, ":1.999", 1001, false, "Start");
	settle(w, w->ours, w->polkit);
	assert_string_equal(w->heard[w->n_heard - 1].sender, ":1.999");
	say(w, w->n_heard - 1, true, false);
	RUN_UNTIL(bob.times);
	assert_int_equal(bob.answer, AUTHORITY_YES);
	/* a polkit that never answers is not waited for */
	clock_advance(w->clock, UNTIL_LATE);
	bob.times = 0;
	ask_as(w, &bob, ":1.999", 1000, false, "Start");
	settle(w, w->ours, w->polkit);
	assert_string_equal(w->heard[w->n_heard - 1].sender, ":1.999");
}

static void ask_again(struct asked *a)
{
	struct asked *b = a->more;

	ask(b->w, b, false);
}

static void cancel_other(struct asked *a)
{
	struct asked *b = a->more;

	authority_cancel(b->request);
	b->request = NULL;
}

static void test_from_within(void **state)
{
	struct world *w = *state;
	struct asked a = {0}, b = {.w = w}, c = {0}, d = {0};

	a.then = ask_again;
	a.more = &b;
	ask(w, &a, false);
	RUN_UNTIL(w->n_heard == 1);
	say(w, 0, true, false);
	RUN_UNTIL(w->n_heard == 2);
	say(w, 1, false, true);
	RUN_UNTIL(b.times);
	assert_int_equal(b.answer, AUTHORITY_CHALLENGE);
	c.then = cancel_other;
	c.more = &d;
	ask(w, &c, false);
	ask(w, &d, false);
	RUN_UNTIL(w->n_heard == 4);
	say(w, 2, true, false);
	say(w, 3, true, false);
	RUN_UNTIL(c.times);
	settle(w, w->polkit, w->ours);
	assert_int_equal(d.times, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vanishes_half_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_by_somebody_else, setup, teardown),
		cmocka_unit_test_setup_teardown(test_of_one_caller, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dialogs_left_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_everybody_has_his_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ask_and_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_from_within, setup, teardown),
	};

	if (system("command -v dbus-daemon >/dev/null") != 0) {
		printf("SKIP: dbus-daemon is not installed\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, start_bus, stop_bus);
}
