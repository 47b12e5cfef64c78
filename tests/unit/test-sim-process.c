/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vireo-sim: the simulated hypervisor as a process, its control socket, and the driver at the other end. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "drivers/sim/json.h"
#include "drivers/sim/sim-driver.h"
#include "drivers/sim/wire.h"
#include "sim-kit.h"
#include "util/log.h"

static char directory[] = "/tmp/vireo-test-XXXXXX", socket_path[64], uri[80], truth_path[64];
static const char *program;

/* ---- the process --------------------------------------------------------------------------------------------------- */

static pid_t start(const char *what, bool with_truth)
{
	char socket_option[80], truth_option[80], line[16] = "";
	int out[2];
	pid_t pid;

	snprintf(socket_option, sizeof(socket_option), "--socket=%s", socket_path);
	snprintf(truth_option, sizeof(truth_option), "--truth=%s", truth_path);
	assert_int_equal(pipe(out), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char *args[] = {program, socket_option, "--die-with-parent", NULL, NULL, NULL};
		int n = 3;

		if (with_truth)
			args[n++] = truth_option;
		if (what)
			args[n++] = what;
		dup2(out[1], 1);
		close(out[0]);
		close(out[1]);
		execv(program, (char *const *)args);
		_exit(127);
	}
	close(out[1]);
	/* it says so, or is gone */
	for (size_t n = 0; n < sizeof(line) - 1 && !strchr(line, '\n');) {
		ssize_t got = read(out[0], line + n, sizeof(line) - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	close(out[0]);
	if (strcmp(line, "ready\n") != 0) {
		waitpid(pid, NULL, 0);
		return -1;
	}
	return pid;
}

static int stop(pid_t pid, int signal_number)
{
	int status = 0;

	kill(pid, signal_number);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* ---- a tester ------------------------------------------------------------------------------------------------------ */

struct tester {
	int fd;
	struct sim_lines in;
};

static void tester_open(struct tester *t)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	*t = (struct tester){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	strcpy(sa.sun_path, socket_path);
	assert_int_equal(connect(t->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
}

static void tester_close(struct tester *t)
{
	close(t->fd);
	sim_lines_done(&t->in);
}

static void tester_say(struct tester *t, const char *text)
{
	assert_int_equal(send(t->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* The next answer; NULL when the other end has closed. */
static char *tester_hear(struct tester *t)
{
	char *line;
	size_t n = 0;

	while (!(line = sim_lines_next(&t->in, &n))) {
		struct pollfd p = {.fd = t->fd, .events = POLLIN};

		assert_true(poll(&p, 1, 60000) > 0);
		if (sim_lines_read(&t->in, t->fd) <= 0)
			return NULL;
	}
	return line;
}

static const char *ask(struct tester *t, const char *text)
{
	tester_say(t, text);
	tester_say(t, "\n");
	return tester_hear(t);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void test_control(void **state)
{
	pid_t pid = start("sim:///3?seed=1&running=0", false);
	struct tester t, u;

	assert_true(pid > 0);
	tester_open(&t);
	assert_string_equal(ask(&t, "{\"do\": \"start\", \"domain\": \"vm-0\"}"), "{\"ok\":true}");
	assert_string_equal(ask(&t, "{\"do\": \"start\", \"domain\": \"vm-0\", \"id\": [7]}"),
			    "{\"id\":[7],\"error\":\"InvalidState\",\"message\":\"Domain 'vm-0' is active already.\"}");
	assert_string_equal(ask(&t, "{\"do\": \"start\", \"domain\": \"nobody\", \"id\": null}"),
			    "{\"error\":\"NotFound\",\"message\":\"There is no domain 'nobody'.\"}");
	/* what is wrong is said, and the connection goes on */
	assert_non_null(strstr(ask(&t, "{\"do\": \"jump\"}"), "request[0].do is 'jump'"));
	assert_non_null(strstr(ask(&t, "{\"do\": \"wait\", \"ms\": -1}"), "request[0].ms is -1"));
	assert_non_null(strstr(ask(&t, "{\"do\": "), "request, line 1, column"));
	assert_non_null(strstr(ask(&t, "[1]"), "expected an object"));
	assert_non_null(strstr(ask(&t, "{}"), "lacks the key 'do'"));
	assert_non_null(strstr(ask(&t, "{\"run\": [{\"do\": \"wait\"}, {\"do\": \"destroy\", \"domain\": \"vm-0\"}]}"), "\"ok\""));
	assert_non_null(strstr(ask(&t, "{\"do\": \"status\"}"), "\"connections\":0,\"idle\":true,\"events\":4,"));
	assert_non_null(strstr(ask(&t, "{\"do\": \"truth\"}"), "\"name\":\"vm-2\""));

	/* several lines at once are answered in order, each when it is done */
	tester_say(&t, "{\"do\": \"wait\", \"ms\": 50, \"id\": 1}\n{\"do\": \"wait\", \"id\": 2}\n");
	tester_say(&t, "{\"do\": \"status\", \"id\": 3}\n");
	assert_string_equal(tester_hear(&t), "{\"id\":1,\"ok\":true}");
	assert_string_equal(tester_hear(&t), "{\"id\":2,\"ok\":true}");
	assert_non_null(strstr(tester_hear(&t), "{\"id\":3,\"ok\":true"));

	/* one who waits for ever is in nobody's way */
	tester_open(&u);
	tester_say(&u, "{\"do\": \"loop\", \"steps\": [{\"do\": \"wait\", \"ms\": 5}]}\n{\"do\": \"status\"}\n");
	assert_string_equal(ask(&t, "{\"do\": \"wait\"}"), "{\"ok\":true}");
	assert_string_equal(ask(&t, "{\"do\": \"stop-scripts\"}"), "{\"ok\":true}");
	assert_string_equal(tester_hear(&u), "{\"ok\":true}");
	assert_non_null(tester_hear(&u));
	tester_close(&u);

	/* all said, and no more to come: the answers still go out */
	tester_say(&t, "{\"do\": \"wait\", \"ms\": 30}\n{\"do\": \"wait\", \"id\": 9}\n");
	shutdown(t.fd, SHUT_WR);
	assert_string_equal(tester_hear(&t), "{\"ok\":true}");
	assert_string_equal(tester_hear(&t), "{\"id\":9,\"ok\":true}");
	assert_null(tester_hear(&t));
	tester_close(&t);

	/* taken, while it lives */
	assert_int_equal(start("sim:///empty", false), -1);
	assert_int_equal(stop(pid, SIGTERM), 0);
	assert_int_equal(access(socket_path, F_OK), -1);
}

static bool has_seen(struct sim_kit *k, void *data)
{
	return strstr(kit_trace(k), data);
}

static void test_driver(void **state)
{
	pid_t pid = start("sim:///200?seed=1&pools=2&networks=1&running=0", false);
	struct sim_kit *k;
	struct tester t;
	struct request *r;
	const struct observation *o;
	const struct result *result;
	sd_id128_t uuid, nobody = SD_ID128_MAKE(12, 34, 56, 78, 9a, bc, de, f0, 12, 34, 56, 78, 9a, bc, de, f0);
	char text[128], id[37];

	assert_true(pid > 0);
	k = kit_open(uri);
	tester_open(&t);
	kit_until_hello(k);
	assert_string_equal(kit_hello(k)->hostname, "sim");
	assert_non_null(kit_hello(k)->events[0]);
	assert_int_equal(kit_list(k)->complete[KIND_POOL], true);
	assert_int_equal(kit_count(k), 204);
	uuid = kit_report(k, 0)->observation.uuid;
	assert_string_equal(kit_report(k, 0)->observation.seen->name, "vm-0");
	assert_int_equal(kit_report(k, 0)->observation.seen->id, -1);
	assert_non_null(kit_report(k, 0)->observation.seen->xml);

	/* from outside */
	kit_clear(k);
	ask(&t, "{\"do\": \"start\", \"domain\": \"vm-0\", \"paused\": true}");
	kit_until(k, has_seen, (char[]){"Suspended(paused)[paused]!"});
	assert_string_equal(kit_trace(k), "Started(booted)[paused] Suspended(paused)[paused]!");
	assert_int_equal(kit_report(k, 0)->observation.run, 1);
	kit_clear(k);
	ask(&t, "{\"do\": \"event\", \"domain\": \"vm-0\", \"name\": \"BlockThreshold\", \"details\": {\"device\": \"vda\", "
		"\"threshold\": 5}}");
	kit_until(k, has_seen, (char[]){"BlockThreshold[paused]!"});
	assert_string_equal(vdict_s(kit_report(k, 0)->observation.details, "device", ""), "vda");
	assert_int_equal(vdict_t(kit_report(k, 0)->observation.details, "threshold", 0), 5);

	/* operations */
	kit_clear(k);
	r = kit_request(k, OP_DOMAIN_DESTROY, NULL, NULL);
	r->uuid = uuid;
	kit_operate_request(k, r);
	assert_string_equal(kit_trace(k), "Shutdown(host)[shutoff] Stopped(destroyed)[shutoff]! look[shutoff]! ok");
	kit_clear(k);
	r = kit_request(k, OP_DOMAIN_START, NULL, NULL);
	r->uuid = uuid;
	r->options = vdict_new();
	vdict_set_b(r->options, "paused", true);
	kit_operate_request(k, r);
	assert_non_null(strstr(kit_trace(k), "look[paused]! ok"));
	kit_clear(k);
	r = kit_request(k, OP_DOMAIN_START, NULL, NULL);
	r->uuid = nobody;
	result = kit_operate_request(k, r);
	assert_string_equal(kit_trace(k), "look[gone]! error:NotFound");
	assert_non_null(strstr(result->failure.message, "12345678-9abc"));
	result = kit_operate(k, OP_DEFINE_DOMAIN, NULL, "<domain><name>\xc3\xa4</name><memory>4096</memory></domain>");
	assert_int_equal(result->kind, KIND_DOMAIN);
	assert_false(sd_id128_is_null(result->uuid));
	assert_string_equal(kit_report(k, 0)->observation.seen->name, "\xc3\xa4");

	/* looks; bytes that are no UTF-8 */
	kit_clear(k);
	o = kit_look(k, KIND_DOMAIN, nobody);
	assert_int_equal(o->look, LOOK_GONE);
	snprintf(text, sizeof(text), "{\"do\": \"destroy\", \"domain\": \"%s\"}", sd_id128_to_uuid_string(uuid, id));
	ask(&t, text);
	snprintf(text, sizeof(text), "{\"do\": \"rename\", \"domain\": \"%s\", \"to-hex\": \"80ff\"}", id);
	assert_string_equal(ask(&t, text), "{\"ok\":true}");
	kit_clear(k);
	o = kit_look(k, KIND_DOMAIN, uuid);
	assert_string_equal(o->seen->name, "\x80\xff");

	/* a volume's way back */
	ask(&t, "{\"do\": \"add\", \"pool\": {\"name\": \"p\", \"active\": true, \"uuid\": "
		"\"12345678-9abc-def0-1234-56789abcdef0\", \"volumes\": [{\"name\": \"v\", \"capacity\": 9}]}}");
	r = kit_request(k, OP_POOL_LIST_VOLUMES, NULL, NULL);
	r->uuid = nobody;
	result = kit_operate_request(k, r);
	assert_int_equal(result->n_volumes, 1);
	assert_string_equal(result->volumes[0].name, "v");
	assert_int_equal(result->volumes[0].capacity, 9);

	/* an operation that lasts, and its cancelling */
	ask(&t, "{\"do\": \"operations\", \"operations\": {\"Domain.Start\": {\"duration\": 3600000, \"total\": 5}}}");
	kit_clear(k);
	r = kit_request(k, OP_DOMAIN_START, NULL, NULL);
	r->uuid = uuid;

	uint64_t token = kit_begin(k, r);

	kit_until(k, has_seen, (char[]){"progress"});
	assert_int_equal(kit_report(k, 0)->progress.total, 5);
	sim_driver.cancel(kit_connection(k), token);
	kit_result(k, token);
	assert_non_null(strstr(kit_trace(k), "look[shutoff]! cancelled"));

	tester_close(&t);
	kit_close(k);
	assert_int_equal(stop(pid, SIGTERM), 0);
}

/* What is moved through a descriptor goes along with the line that speaks of it. */
static void test_transfers(void **state)
{
	pid_t pid = start(NULL, false);
	struct sim_kit *k;
	struct tester t;
	sd_id128_t pool = SD_ID128_MAKE(12, 34, 56, 78, 9a, bc, de, f0, 12, 34, 56, 78, 9a, bc, de, f0);
	char data[4096], got[4097];
	uint64_t tokens[40];
	int files[40];

	assert_true(pid > 0);
	k = kit_open(uri);
	tester_open(&t);
	kit_until_hello(k);
	ask(&t, "{\"do\": \"add\", \"pool\": {\"name\": \"p\", \"active\": true, \"uuid\": "
		"\"12345678-9abc-def0-1234-56789abcdef0\"}}");
	/* more at once than go with one message: each has its own */
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 40; i++) {
			static const enum operation operations[] = {OP_POOL_CREATE_VOLUME, OP_POOL_UPLOAD_VOLUME, OP_POOL_DOWNLOAD_VOLUME};
			char text[128];
			struct request *r;

			snprintf(text, sizeof(text), round ? "v%d" : "<volume><name>v%d</name><capacity>4096</capacity></volume>", i);
			r = kit_request(k, operations[round], NULL, text);
			r->uuid = pool;
			if (round > 0) {
				files[i] = memfd_create("test", MFD_CLOEXEC);
				memset(data, i + 1, sizeof(data));
				if (round == 1)
					assert_int_equal(pwrite(files[i], data, sizeof(data), 0), sizeof(data));
				r->fd = dup(files[i]);
			}
			tokens[i] = kit_begin(k, r);
		}
		for (int i = 0; i < 40; i++) {
			assert_int_equal(kit_result(k, tokens[i])->failure.error, VIREO_OK);
			if (round == 2) {
				memset(data, i + 1, sizeof(data));
				assert_int_equal(pread(files[i], got, sizeof(got), 0), sizeof(data));
				assert_memory_equal(got, data, sizeof(data));
			}
			if (round > 0)
				close(files[i]);
		}
	}
	/* one that is not there is missed */
	struct request *r = kit_request(k, OP_POOL_UPLOAD_VOLUME, NULL, "v0");

	r->uuid = pool;
	assert_int_equal(kit_operate_request(k, r)->failure.error, VIREO_INVALID_ARGS);
	tester_close(&t);
	kit_close(k);
	assert_int_equal(stop(pid, SIGTERM), 0);
}

/* From a hypervisor in this process to one in another, and somebody else's jobs there. */
static void test_migrate(void **state)
{
	pid_t pid = start(NULL, false);
	struct sim_kit *here, *there;
	const struct result *r;
	struct tester t;
	sd_id128_t uuid;

	assert_true(pid > 0);
	here = kit_open("sim:///1?running=1&seed=3");
	there = kit_open(uri);
	tester_open(&t);
	kit_until_hello(here);
	kit_until_hello(there);
	uuid = kit_uuid(here, KIND_DOMAIN, "vm-0");
	kit_clear(there);
	r = kit_operate(here, OP_DOMAIN_MIGRATE, "vm-0", uri);
	if (r->failure.error != VIREO_OK)
		fail_msg("%s", r->failure.message);
	kit_until(there, has_seen, (char[]){"Resumed(migrated)[running]!"});
	assert_non_null(strstr(kit_trace(there), "Started(migrated)["));
	/* it is there already */
	kit_operate(here, OP_DOMAIN_START, "vm-0", NULL);
	r = kit_operate(here, OP_DOMAIN_MIGRATE, "vm-0", uri);
	assert_int_equal(r->failure.error, VIREO_ALREADY_EXISTS);
	assert_non_null(strstr(kit_trace(here), "look[running]! error"));

	/* a copy that somebody else began, seen from here and completed */
	kit_clear(there);
	ask(&t, "{\"do\": \"begin\", \"domain\": \"vm-0\", \"operation\": \"Domain.BlockCopy\", \"text\": \"vda\", "
		"\"text2\": \"<disk><source file='/x'/></disk>\", \"duration\": 1}");
	kit_until(there, has_seen, (char[]){"BlockJob(ready)[running]!"});
	for (size_t i = 0; i < kit_count(there); i++)
		if (kit_report(there, i)->type == REPORT_FOREIGN) {
			assert_string_equal(kit_report(there, i)->foreign.subject, "vda");
			assert_true(sd_id128_equal(kit_report(there, i)->foreign.uuid, uuid));
			sim_driver.complete(kit_connection(there), kit_report(there, i)->foreign.token);
		}
	kit_until(there, has_seen, (char[]){"BlockJob(completed)[running]!"});
	ask(&t, "{\"do\": \"wait-jobs\"}");

	/* and its end is told when that hypervisor has gone */
	assert_int_equal(stop(pid, SIGTERM), 0);
	r = kit_operate(here, OP_DOMAIN_MIGRATE, "vm-0", uri);
	assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
	assert_non_null(strstr(kit_trace(here), "look[running]! error"));
	tester_close(&t);
	kit_close(there);
	kit_close(here);
}

static void test_death(void **state)
{
	struct sim_kit *k = kit_open(uri);
	struct tester t;
	pid_t pid;

	/* nobody there */
	kit_until_goodbye(k);
	assert_non_null(strstr(kit_goodbye(k), "No such file or directory"));
	pid = start(NULL, false);
	kit_reconnect(k);
	kit_until_hello(k);
	stop(pid, SIGKILL);
	kit_until_goodbye(k);
	assert_non_null(strstr(kit_goodbye(k), "the connection to the simulated hypervisor was lost"));
	/* only its socket is left */
	kit_reconnect(k);
	kit_until_goodbye(k);
	assert_non_null(strstr(kit_goodbye(k), "Connection refused"));
	/* another one takes its place */
	pid = start(NULL, false);
	kit_reconnect(k);
	kit_until_hello(k);
	/* stopped: it hangs, and closing doesn't */
	kill(pid, SIGSTOP);
	/* not before it has stopped indeed */
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	sim_driver.list(kit_connection(k), 77);
	kit_expect_silence(k);
	kit_reconnect(k);
	kit_expect_silence(k);
	kill(pid, SIGCONT);
	kit_until_hello(k);
	/* it says farewell when it ends in order */
	tester_open(&t);
	assert_int_equal(stop(pid, SIGTERM), 0);
	kit_until_goodbye(k);
	assert_string_equal(kit_goodbye(k), "simulated: the hypervisor has ended");
	tester_close(&t);
	kit_close(k);
}

/* What there is outlives the process, in its own words. */
static void test_truth(void **state)
{
	pid_t pid;
	struct tester t;
	char *before;

	pid = start("sim:///empty", true);
	/* a URI has no file */
	assert_int_equal(pid, -1);
	pid = start(NULL, true);
	assert_true(pid > 0);
	tester_open(&t);
	ask(&t, "{\"do\": \"add\", \"domain\": {\"name-hex\": \"ff\", \"state\": \"running\", \"memory\": 4194304}}");
	ask(&t, "{\"do\": \"add\", \"pool\": {\"name\": \"p\", \"volumes\": [{\"name\": \"v\"}]}}");
	before = strdup(ask(&t, "{\"do\": \"truth\"}"));
	tester_close(&t);
	assert_int_equal(stop(pid, SIGTERM), 0);
	pid = start(NULL, true);
	assert_true(pid > 0);
	tester_open(&t);
	assert_string_equal(ask(&t, "{\"do\": \"truth\"}"), before);
	tester_close(&t);
	free(before);
	stop(pid, SIGTERM);
}

/* Through the socket as well, a reader that stands still holds the storm, and loses nothing. */
static void test_storm(void **state)
{
	pid_t pid = start("sim:///100?seed=1&guest-delay=0", false);
	struct sim_kit *k = kit_open(uri);
	struct tester t;
	uint64_t began;

	kit_until_hello(k);
	kit_list(k);
	kit_discard(k, true);
	tester_open(&t);
	began = sim_now();
	tester_say(&t, "{\"run\": [{\"do\": \"flood\", \"count\": 30000}, {\"do\": \"wait-idle\"}]}\n");
	/* As long as nobody takes what is reported, the flood waits. */
	do
		kit_list(k);
	while (poll(&(struct pollfd){.fd = t.fd, .events = POLLIN}, 1, 0) == 0 && sim_now() - began < 300 * USEC_PER_SEC);
	assert_string_equal(tester_hear(&t), "{\"ok\":true}");
	kit_list(k);
	print_message("through a socket: %.0f reports a second\n", 1e6 * (double)kit_discarded(k) / (double)(sim_now() - began));
	assert_true(kit_discarded(k) >= 30000);
	tester_close(&t);
	kit_close(k);
	stop(pid, SIGTERM);
}

/* Whatever a peer sends: it is dropped, or answered; the process lives. */
static void test_nonsense(void **state)
{
	static const char *const lines[] = {
		"{\"driver\": 1}\n{\"look\": 3}\n",
		"{\"driver\": 1}\n{\"look\": {\"kind\": 9}}\n",
		"{\"driver\": 1}\n{\"operate\": {\"operation\": \"fly\"}}\n",
		"{\"driver\": 1}\n{\"operate\": 1}\n",
		"{\"driver\": 1}\nnonsense\n",
		"{\"driver\": 1}\n{}\n",
	};
	pid_t pid = start("sim:///1", false);
	struct tester t;

	for (size_t i = 0; i < ELEMENTS(lines); i++) {
		tester_open(&t);
		tester_say(&t, lines[i]);
		while (tester_hear(&t))
			;
		tester_close(&t);
	}
	tester_open(&t);
	assert_non_null(strstr(ask(&t, "{\"do\": \"status\"}"), "\"ok\""));
	tester_close(&t);
	assert_int_equal(stop(pid, SIGTERM), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_driver),
		cmocka_unit_test(test_transfers),
		cmocka_unit_test(test_migrate),
		cmocka_unit_test(test_death),
		cmocka_unit_test(test_truth),
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_nonsense),
	};
	int r;

	if (argc != 2) {
		fprintf(stderr, "Usage: test-sim-process PATH-OF-VIREO-SIM\n");
		return 2;
	}
	program = argv[1];
	if (!mkdtemp(directory))
		return 1;
	snprintf(socket_path, sizeof(socket_path), "%s/sim", directory);
	snprintf(truth_path, sizeof(truth_path), "%s/truth", directory);
	snprintf(uri, sizeof(uri), "sim:%s", socket_path);
	log_set_target_name("null");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(socket_path);
	unlink(truth_path);
	rmdir(directory);
	return r;
}
