/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated hypervisor without faults: what happens, in which words, and what it answers. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/sim/sim-driver.h"
#include "sim-kit.h"
#include "util/log.h"

#define UUID "11111111-2222-4333-8444-555555555555"

static struct sim_kit *open_with(const char *domain)
{
	struct sim_kit *k;
	char text[512];

	snprintf(text, sizeof(text), "{\"guest-delay\": 0, \"domains\": [{\"name\": \"d\"%s%s}]}", *domain ? ", " : "", domain);
	k = kit_open_scenario(text);
	kit_until_hello(k);
	kit_clear(k);
	return k;
}

/* ---- opening and listing ---------------------------------------------------------------------------------------- */

static bool has_word(char **words, const char *word)
{
	for (; *words; words++)
		if (strcmp(*words, word) == 0)
			return true;
	return false;
}

static void test_hello(void **state)
{
	struct sim_kit *k = kit_open("sim:///demo");
	const struct hello *h;

	kit_until_hello(k);
	h = kit_hello(k);
	assert_string_equal(h->hostname, "demo.example");
	assert_string_equal(h->version, "1.0.0");
	assert_string_equal(h->same_key, "sim:sim:///demo");
	assert_false(h->polled);
	assert_true(has_word(h->events, "Domain.Started"));
	assert_true(has_word(h->events, "Domain.Rebooted"));
	assert_true(has_word(h->events, "StoragePool.Refreshed"));
	assert_false(has_word(h->events, "Network.Suspended"));
	assert_true(has_word(h->operations, "Domain.Start"));
	assert_true(has_word(h->operations, "StoragePool.ListVolumes"));
	assert_true(has_word(h->operations, "Domain.Migrate"));
	kit_assert_listed_truth(k);
	kit_close(k);
}

static void test_shared_world(void **state)
{
	struct sim_kit *a = kit_open("sim:///1?world=same"), *b = kit_open("sim:///demo?world=same");

	kit_until_hello(a);
	kit_until_hello(b);
	/* the first one has decided what there is */
	assert_string_equal(kit_hello(a)->same_key, kit_hello(b)->same_key);
	kit_list(b);
	assert_string_equal(strstr(kit_trace(b), "listed"), "listed");
	assert_int_equal(kit_count(b), 2);
	/* threads are shared as well: the first close must not end them */
	kit_list(a);
	kit_close(a);
	kit_list(b);
	assert_int_equal(kit_count(b), 2);
	kit_close(b);
}

static void test_crowd(void **state)
{
	struct sim_kit *k = kit_open("sim:///empty?domains=10000&pools=5&networks=2&seed=7&running=0.25");
	unsigned active = 0;
	uint64_t began;

	kit_until_hello(k);
	began = sim_now();
	kit_list(k);
	began = sim_now() - began;
	assert_int_equal(kit_count(k), 10008);
	for (size_t i = 0; i < 10000; i++) {
		const struct observation *o = &kit_report(k, i)->observation;

		assert_true(o->settled);
		assert_int_equal(o->kind, KIND_DOMAIN);
		active += o->seen->active;
	}
	assert_in_range(active, 2000, 3000);
	print_message("listing 10,000 domains took %.1f ms\n", (double)began / 1000);
	kit_assert_listed_truth(k);
	kit_close(k);
}

static void test_xml_size(void **state)
{
	struct sim_kit *k = kit_open("sim:///empty?domains=3&xml-size=20000");

	kit_until_hello(k);
	kit_list(k);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(strlen(kit_report(k, i)->observation.seen->xml), 20000);
	kit_close(k);
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

/* libvirt-facts, left column and middle: what is done, what is reported. */
static const struct {
	const char *domain, *steps, *trace;
} sequences[] = {
	{"", "{'do': 'start', 'domain': 'd'}", "Resumed(unpaused)[running] Started(booted)[running]!"},
	{"", "{'do': 'start', 'domain': 'd', 'paused': true}", "Started(booted)[paused] Suspended(paused)[paused]!"},
	{"'state': 'running'", "{'do': 'destroy', 'domain': 'd'}", "Shutdown(host)[shutoff] Stopped(destroyed)[shutoff]!"},
	{"'state': 'running'", "{'do': 'destroy', 'domain': 'd', 'force': true}", "Stopped(destroyed)[shutoff]!"},
	{"'state': 'running', 'persistent': false", "{'do': 'destroy', 'domain': 'd'}",
	 "Shutdown(host)[gone] Stopped(destroyed)[gone]!"},
	{"'state': 'running'", "{'do': 'poweroff', 'domain': 'd'}", "Shutdown(guest)[shutdown]! Stopped(shutdown)[shutoff]!"},
	{"'state': 'running'", "{'do': 'shutdown', 'domain': 'd'}", "Shutdown(guest)[shutdown]! Stopped(shutdown)[shutoff]!"},
	{"'state': 'running'", "{'do': 'kill', 'domain': 'd'}", "Stopped(failed)[shutoff]!"},
	{"'state': 'running'", "{'do': 'reboot', 'domain': 'd'}", "Rebooted[running]!"},
	{"'state': 'paused'", "{'do': 'reset', 'domain': 'd'}", "Rebooted[paused]!"},
	{"'state': 'running'", "{'do': 'crash', 'domain': 'd'}", "Crashed(panicked)[shutoff] Stopped(crashed)[shutoff]!"},
	{"'state': 'running'", "{'do': 'crash', 'domain': 'd', 'then': 'preserve'}", "Crashed(panicked)[crashed]!"},
	{"'state': 'running'", "{'do': 'crash', 'domain': 'd', 'then': 'restart'}",
	 "Crashed(panicked)[running] Rebooted[running] Resumed(unpaused)[running] Rebooted[running]!"},
	{"'state': 'running'", "{'do': 'crash', 'domain': 'd', 'then': 'load'}", "Crashed(crashloaded)[running]!"},
	{"'state': 'running'", "{'do': 'suspend', 'domain': 'd'}", "Suspended(paused)[paused]!"},
	{"'state': 'paused'", "{'do': 'resume', 'domain': 'd'}", "Resumed(unpaused)[running]!"},
	{"'state': 'paused'", "{'do': 'resume', 'domain': 'd', 'still-failing': true}",
	 "Resumed(unpaused)[paused] Suspended(ioerror)[paused]!"},
	{"'state': 'running'", "{'do': 'pmsuspend', 'domain': 'd'}", "PMSuspended(memory)[pmsuspended]!"},
	{"'state': 'running'", "{'do': 'pmsuspend', 'domain': 'd', 'to': 'disk'}",
	 "PMSuspended(disk)[shutoff] Shutdown(guest)[shutoff] Stopped(shutdown)[shutoff]!"},
	{"'state': 'pmsuspended'", "{'do': 'pmwakeup', 'domain': 'd'}", "Started(wakeup)[running] Rebooted[running]!"},
	{"'state': 'running'", "{'do': 'io-error', 'domain': 'd'}", "IOError(enospc)[paused] Suspended(ioerror)[paused]!"},
	{"'state': 'running'", "{'do': 'save', 'domain': 'd'}", "Suspended(paused)[shutoff] JobCompleted[shutoff] Stopped(saved)[shutoff]!"},
	{"'state': 'running'", "[{'do': 'managed-save', 'domain': 'd'}, {'do': 'start', 'domain': 'd'}]",
	 "Suspended(paused)[running] JobCompleted[running] Stopped(saved)[running] Started(restored)[running] "
	 "Resumed(from-snapshot)[running]!"},
	{"'state': 'running'", "{'do': 'dump', 'domain': 'd'}", "Suspended(paused)[running] JobCompleted[running] Resumed(unpaused)[running]!"},
	{"'state': 'running'", "{'do': 'revert', 'domain': 'd'}",
	 "Stopped(from-snapshot)[running] Started(from-snapshot)[running] Resumed(from-snapshot)[running] "
	 "Defined(from-snapshot)[running]!"},
	{"'state': 'running'", "{'do': 'migrate-out', 'domain': 'd'}", "Suspended(migrated)[shutoff] Stopped(migrated)[shutoff]!"},
	/* undefined at the source: no word about it */
	{"'state': 'running'", "{'do': 'migrate-out', 'domain': 'd', 'undefine': true}",
	 "Suspended(migrated)[gone] Stopped(migrated)[gone]!"},
	{"", "{'do': 'rename', 'domain': 'd', 'to': 'e'}", "Undefined(renamed)[shutoff] Defined(renamed)[shutoff]!"},
	{"", "{'do': 'undefine', 'domain': 'd'}", "Undefined(removed)[gone]!"},
	{"'state': 'running'", "{'do': 'undefine', 'domain': 'd'}", "Undefined(removed)[running]!"},
	/* nothing announces these */
	{"'state': 'running'", "{'do': 'autostart', 'domain': 'd', 'on': true}", ""},
	{"", "{'do': 'set-memory', 'domain': 'd', 'bytes': 1048576}", ""},
	{"", "{'do': 'fail-start', 'domain': 'd'}", ""},
	{"'state': 'running'", "{'do': 'destroy', 'domain': 'd', 'silent': true}", ""},
	{"'state': 'running'", "{'do': 'set-memory', 'domain': 'd', 'bytes': 1048576}", "BalloonChanged[running]!"},
	{"'state': 'running'", "{'do': 'event', 'domain': 'd', 'name': 'TrayChanged', 'reason': 'open'}",
	 "TrayChanged(open)[running]!"},
	/* a lie */
	{"'state': 'running'", "{'do': 'report', 'domain': 'd', 'cause': 'Stopped', 'reason': 'failed'}",
	 "Stopped(failed)[running]!"},
	{"", "{'do': 'add', 'domain': {'name': 'new'}}", "Defined(added)[shutoff]!"},
	{"", "{'do': 'add', 'domain': {'name': 'new', 'state': 'running', 'persistent': false}}",
	 "Resumed(unpaused)[running] Started(booted)[running]!"},
	{"", "{'do': 'add', 'domain': {'name': 'new'}, 'silent': true}", ""},
	{"", "{'do': 'add', 'pool': {'name': 'p', 'active': true}}", "Defined[active] Started[active]!"},
	{"", "[{'do': 'add', 'pool': {'name': 'p', 'active': true}, 'silent': true}, {'do': 'refresh', 'pool': 'p'}]",
	 "Refreshed[active]!"},
	{"", "[{'do': 'add', 'network': {'name': 'n'}}, {'do': 'start', 'network': 'n'}, {'do': 'stop', 'network': 'n'}]",
	 "Defined[inactive] Started[inactive] Stopped[inactive]!"},
	{"", "{'do': 'loop', 'count': 3, 'steps': [{'do': 'start', 'domain': 'd', 'paused': true}, "
	     "{'do': 'kill', 'domain': 'd'}]}",
	 "Started(booted)[shutoff] Suspended(paused)[shutoff] Stopped(failed)[shutoff] "
	 "Started(booted)[shutoff] Suspended(paused)[shutoff] Stopped(failed)[shutoff] "
	 "Started(booted)[shutoff] Suspended(paused)[shutoff] Stopped(failed)[shutoff]!"},
};

/* JSON is easier to read here with single quotes. */
static char *quoted(const char *s)
{
	char *copy = strdup(s);

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	return copy;
}

/* The causes without what was seen: that depends on how far delivery was when the next thing happened. */
static char *causes_of(const char *trace)
{
	char *copy = strdup(trace), *to = copy;

	for (const char *p = trace; *p; p++) {
		if (*p == '[')
			p += strcspn(p, "]");
		else if (*p != '!')
			*to++ = *p;
	}
	*to = '\0';
	return copy;
}

static void test_sequences(void **state)
{
	for (size_t i = 0; i < ELEMENTS(sequences); i++) {
		_cleanup_(freep) char *domain = quoted(sequences[i].domain), *steps = quoted(sequences[i].steps);
		_cleanup_(freep) char *held = NULL, *got = NULL, *expected = causes_of(sequences[i].trace);
		struct sim_kit *k = open_with(domain);
		const char *error;

		error = kit_steps(k, steps);
		if (*error)
			fail_msg("%s: %s", steps, error);
		/* a guest that was asked follows a moment later */
		kit_steps(k, "{\"do\": \"wait-guests\"}");
		kit_settle(k);
		got = causes_of(kit_trace(k));
		if (strcmp(got, expected) != 0)
			fail_msg("%s\nexpected: %s\ngot:      %s", steps, expected, kit_trace(k));
		/* the last look, when there is one, is settled, and is what the table says */
		if (*expected) {
			const char *last = strrchr(sequences[i].trace, '[');
			const char *seen = strrchr(kit_trace(k), '[');

			if (strcmp(last, seen) != 0)
				fail_msg("%s\nexpected at the end: %s, got: %s", steps, last, kit_trace(k));
		}
		kit_assert_listed_truth(k);
		kit_close(k);
	}
}

/* Delivered in one go, a sequence's looks run ahead of it, and only the last one is settled. */
static void test_looks_run_ahead(void **state)
{
	for (size_t i = 0; i < ELEMENTS(sequences); i++) {
		_cleanup_(freep) char *domain = quoted(sequences[i].domain), *steps = quoted(sequences[i].steps);
		struct sim_kit *k = open_with(domain);
		bool several = strstr(steps, "'pool'") || strstr(sequences[i].trace, "Shutdown(guest)[shutdown]!");

		kit_steps(k, "{\"do\": \"faults\", \"hang\": \"events\"}");
		assert_string_equal(kit_steps(k, steps), "");
		kit_expect_silence(k);
		kit_steps(k, "{\"do\": \"release\"}");
		kit_settle(k);
		if (!several && strcmp(kit_trace(k), sequences[i].trace) != 0)
			fail_msg("%s\nexpected: %s\ngot:      %s", steps, sequences[i].trace, kit_trace(k));
		kit_close(k);
	}
}

static void test_runs(void **state)
{
	struct sim_kit *k = open_with("\"state\": \"running\"");
	const struct observation *o;

	kit_steps(k, "[{\"do\": \"destroy\", \"domain\": \"d\"}, {\"do\": \"start\", \"domain\": \"d\"}]");
	kit_settle(k);
	assert_int_equal(kit_count(k), 4);
	/* each report says of which run it speaks */
	for (size_t i = 0; i < 4; i++) {
		o = &kit_report(k, i)->observation;
		assert_int_equal(o->run, i < 2 ? 1 : 2);
		assert_string_equal(o->name, "d");
	}
	assert_int_equal(o->seen->id, 2);
	kit_close(k);
}

static void test_failed_start_leaves_no_trace(void **state)
{
	struct sim_kit *k = kit_open_scenario("{\"guest-delay\": 100, \"domains\": [{\"name\": \"d\"}]}");

	kit_until_hello(k);
	kit_steps(k, "{\"do\": \"fail-start\", \"domain\": \"d\"}");
	kit_list(k);
	/* listed meanwhile, as libvirt does */
	assert_true(kit_report(k, 0)->observation.seen->active);
	assert_true(kit_report(k, 0)->observation.seen->starting);
	assert_int_equal(kit_report(k, 0)->observation.seen->state, DOMAIN_PAUSED);
	assert_string_equal(kit_report(k, 0)->observation.seen->state_reason, "starting up");
	assert_string_equal(kit_steps(k, "{\"do\": \"suspend\", \"domain\": \"d\"}"), "InvalidState");
	kit_steps(k, "{\"do\": \"wait\", \"ms\": 150}");
	kit_list(k);
	assert_false(kit_report(k, 0)->observation.seen->active);
	kit_close(k);
}

/* ---- operations --------------------------------------------------------------------------------------------------- */

static const char domain_xml[] =
	"<domain type='sim'>\n"
	"  <name>made</name>\n"
	"  <uuid>" UUID "</uuid>\n"
	"  <title>A title</title>\n"
	"  <memory unit='MiB'>64</memory>\n"
	"  <currentMemory>32768</currentMemory>\n"
	"  <vcpu>3</vcpu>\n"
	"  <os><type>hvm</type></os>\n"
	"  <devices><graphics type='vnc' passwd='hidden'/></devices>\n"
	"</domain>\n";

static void test_define(void **state)
{
	struct sim_kit *k = open_with("");
	const struct observation *o;
	const struct result *r;
	sd_id128_t uuid;

	assert_int_equal(sd_id128_from_string(UUID, &uuid), 0);
	r = kit_operate(k, OP_DEFINE_DOMAIN, NULL, domain_xml);
	assert_string_equal(kit_trace(k), "Defined(added)[shutoff]! look[shutoff]! ok");
	assert_int_equal(r->kind, KIND_DOMAIN);
	assert_true(sd_id128_equal(r->uuid, uuid));
	o = &kit_report(k, 1)->observation;
	assert_string_equal(o->seen->name, "made");
	assert_string_equal(o->seen->title, "A title");
	assert_int_equal(o->seen->max_memory, 64 << 20);
	assert_int_equal(o->seen->memory, 32 << 20);
	assert_int_equal(o->seen->vcpus, 3);
	assert_null(strstr(o->seen->xml, "hidden"));
	assert_null(o->seen->xml_inactive);

	/* with secrets only when asked for */
	r = kit_operate(k, OP_DOMAIN_GET_XML, "made", NULL);
	assert_null(strstr(r->text, "hidden"));
	struct request *q = kit_request(k, OP_DOMAIN_GET_XML, "made", NULL);

	q->options = vdict_new();
	vdict_set_b(q->options, "secure", true);
	r = kit_operate_request(k, q);
	assert_non_null(strstr(r->text, "hidden"));
	assert_string_equal(kit_trace(k), "ok ok");

	/* once more, while it runs: the run keeps what it began with */
	kit_operate(k, OP_DOMAIN_START, "made", NULL);
	char *other = strdup(domain_xml);

	memcpy(strstr(other, "64<"), "96", 2);
	r = kit_operate(k, OP_DEFINE_DOMAIN, NULL, other);
	free(other);
	assert_string_equal(kit_trace(k), "Defined(updated)[running]! look[running]! ok");
	o = &kit_report(k, 1)->observation;
	assert_int_equal(o->seen->max_memory, 64 << 20);
	assert_non_null(strstr(o->seen->xml_inactive, "96</memory>"));
	q = kit_request(k, OP_DOMAIN_GET_XML, "made", NULL);
	q->options = vdict_new();
	vdict_set_b(q->options, "inactive", true);
	assert_non_null(strstr(kit_operate_request(k, q)->text, "96</memory>"));

	/* and the next one takes the new one */
	kit_operate(k, OP_DOMAIN_DESTROY, "made", NULL);
	kit_operate(k, OP_DOMAIN_START, "made", NULL);
	o = &kit_report(k, 1)->observation;
	assert_int_equal(o->seen->max_memory, 96 << 20);
	assert_null(o->seen->xml_inactive);
	kit_close(k);
}

static void test_rename_patches_xml(void **state)
{
	struct sim_kit *k = open_with("");

	kit_operate(k, OP_DEFINE_DOMAIN, NULL, domain_xml);
	kit_operate(k, OP_DOMAIN_RENAME, "made", "a <new> & \"odd\" name");
	assert_string_equal(kit_trace(k), "Undefined(renamed)[shutoff] Defined(renamed)[shutoff]! look[shutoff]! ok");
	assert_string_equal(kit_report(k, 0)->observation.name, "made");
	assert_string_equal(kit_report(k, 1)->observation.name, "a <new> & \"odd\" name");
	assert_non_null(strstr(kit_report(k, 2)->observation.seen->xml, "<name>a &lt;new&gt; &amp; \"odd\" name</name>"));
	assert_null(strstr(kit_report(k, 2)->observation.seen->xml, "made"));
	kit_operate(k, OP_DOMAIN_RENAME, "d", "a <new> & \"odd\" name");
	assert_string_equal(kit_trace(k), "look[shutoff]! error:AlreadyExists");
	kit_operate(k, OP_DOMAIN_RENAME, "d", "");
	assert_string_equal(kit_trace(k), "look[shutoff]! error:InvalidArgs");
	kit_close(k);
}

static const struct {
	const char *domain;
	enum operation operation;
	const char *trace;
} operations[] = {
	{"", OP_DOMAIN_START, "Resumed(unpaused) Started(booted) look[running]! ok"},
	{"'state': 'running'", OP_DOMAIN_START, "look[running]! error:InvalidState"},
	{"'state': 'running'", OP_DOMAIN_SHUTDOWN, "look[running]! ok"},
	{"", OP_DOMAIN_SHUTDOWN, "look[shutoff]! error:InvalidState"},
	{"'state': 'paused'", OP_DOMAIN_SHUTDOWN, "look[paused]! error:InvalidState"},
	{"'state': 'running'", OP_DOMAIN_REBOOT, "Rebooted look[running]! ok"},
	{"", OP_DOMAIN_REBOOT, "look[shutoff]! error:InvalidState"},
	{"'state': 'paused'", OP_DOMAIN_RESET, "Rebooted look[paused]! ok"},
	{"", OP_DOMAIN_RESET, "look[shutoff]! error:InvalidState"},
	{"'state': 'running'", OP_DOMAIN_DESTROY, "Shutdown(host) Stopped(destroyed) look[shutoff]! ok"},
	{"'state': 'running', 'persistent': false", OP_DOMAIN_DESTROY, "Shutdown(host) Stopped(destroyed) look[gone]! ok"},
	{"", OP_DOMAIN_DESTROY, "look[shutoff]! error:InvalidState"},
	{"'state': 'running'", OP_DOMAIN_SUSPEND, "Suspended(paused) look[paused]! ok"},
	{"'state': 'paused'", OP_DOMAIN_SUSPEND, "look[paused]! error:InvalidState"},
	{"", OP_DOMAIN_SUSPEND, "look[shutoff]! error:InvalidState"},
	{"'state': 'paused'", OP_DOMAIN_RESUME, "Resumed(unpaused) look[running]! ok"},
	{"'state': 'running'", OP_DOMAIN_RESUME, "look[running]! error:InvalidState"},
	{"'state': 'pmsuspended'", OP_DOMAIN_PMWAKEUP, "Started(wakeup) Rebooted look[running]! ok"},
	{"'state': 'running'", OP_DOMAIN_PMWAKEUP, "look[running]! error:InvalidState"},
	{"'state': 'running'", OP_DOMAIN_MANAGED_SAVE, "Suspended(paused) JobCompleted Stopped(saved) look[shutoff]! ok"},
	{"'state': 'running', 'persistent': false", OP_DOMAIN_MANAGED_SAVE, "look[running]! error:InvalidState"},
	{"'managed-save': true", OP_DOMAIN_MANAGED_SAVE_REMOVE, "look[shutoff]! ok"},
	{"", OP_DOMAIN_MANAGED_SAVE_REMOVE, "look[shutoff]! error:InvalidState"},
	{"'state': 'running'", OP_DOMAIN_DUMP, "look[running]! error:InvalidArgs"},
	{"", OP_DOMAIN_DUMP, "look[shutoff]! error:InvalidState"},
	{"", OP_DOMAIN_UNDEFINE, "Undefined(removed) look[gone]! ok"},
	{"'state': 'running'", OP_DOMAIN_UNDEFINE, "Undefined(removed) look[running]! ok"},
	{"'state': 'running', 'persistent': false", OP_DOMAIN_UNDEFINE, "look[running]! error:InvalidState"},
	{"'managed-save': true", OP_DOMAIN_UNDEFINE, "look[shutoff]! error:InvalidState"},
	{"", OP_DOMAIN_SET_AUTOSTART, "look[shutoff]! ok"},
	{"'state': 'running', 'persistent': false", OP_DOMAIN_SET_AUTOSTART, "look[running]! error:InvalidState"},
	{"", OP_DOMAIN_MIGRATE, "look[shutoff]! error:InvalidURI"},
};

/* Like causes_of(), but the last look, which came with the answer, stays. */
static char *answer_of(const char *trace)
{
	const char *last = strstr(trace, "look[");
	_cleanup_(freep) char *head = strndup(trace, (size_t)((last ? last : trace) - trace)), *causes = causes_of(head);
	char *answer = NULL;

	assert_true(asprintf(&answer, "%s%s", causes, last ? last : trace) > 0);
	return answer;
}

static void test_operations(void **state)
{
	for (size_t i = 0; i < ELEMENTS(operations); i++) {
		_cleanup_(freep) char *domain = quoted(operations[i].domain), *answer = NULL;
		struct sim_kit *k;

		k = open_with(domain);
		/* the guest must not follow before the trace is looked at */
		pthread_mutex_lock(&kit_world(k)->lock);
		kit_world(k)->guest_delay = 60 * USEC_PER_SEC;
		pthread_mutex_unlock(&kit_world(k)->lock);
		kit_operate(k, operations[i].operation, "d", NULL);
		answer = answer_of(kit_trace(k));
		if (strcmp(answer, operations[i].trace) != 0)
			fail_msg("%s with {%s}\nexpected: %s\ngot:      %s", operation_table[operations[i].operation].method,
				 domain, operations[i].trace, kit_trace(k));
		kit_close(k);
	}
}

static void test_operation_options(void **state)
{
	struct sim_kit *k = open_with("");
	struct request *r;
	const struct result *result;

	r = kit_request(k, OP_DOMAIN_START, "d", NULL);
	r->options = vdict_new();
	vdict_set_b(r->options, "paused", true);
	kit_operate_request(k, r);
	assert_non_null(strstr(kit_trace(k), "look[paused]! ok"));

	kit_operate(k, OP_DOMAIN_RESUME, "d", NULL);
	kit_operate(k, OP_DOMAIN_MANAGED_SAVE, "d", NULL);
	kit_clear(k);
	r = kit_request(k, OP_DOMAIN_UNDEFINE, "d", NULL);
	r->options = vdict_new();
	vdict_set_b(r->options, "managed-save", true);
	kit_operate_request(k, r);
	assert_non_null(strstr(kit_trace(k), "look[gone]! ok"));

	/* an object that is not there */
	r = kit_request(k, OP_DOMAIN_START, NULL, NULL);
	r->uuid = SD_ID128_MAKE(11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11);
	kit_clear(k);
	result = kit_operate_request(k, r);
	assert_string_equal(kit_trace(k), "look[gone]! error:NotFound");
	assert_non_null(strstr(result->failure.message, "11111111-1111"));
	kit_close(k);
}

/* Asked is done, whatever the guest makes of it: who wants to wait for that waits for its event. */
static void test_shutdown_wait(void **state)
{
	struct sim_kit *k = open_with("\"state\": \"running\"");
	struct request *r = kit_request(k, OP_DOMAIN_SHUTDOWN, "d", NULL);

	pthread_mutex_lock(&kit_world(k)->lock);
	kit_world(k)->guest_delay = 3600 * USEC_PER_SEC;
	pthread_mutex_unlock(&kit_world(k)->lock);
	r->options = vdict_new();
	vdict_set_b(r->options, "wait", true);
	kit_operate_request(k, r);
	assert_string_equal(kit_trace(k), "look[running]! ok");
	kit_close(k);
}

static void test_pools_and_networks(void **state)
{
	struct sim_kit *k = kit_open_scenario("{}");
	const struct result *r;
	const char *pool = "<pool type='dir'><name>p</name><target><path>/srv/p</path></target></pool>";
	const char *volume = "<volume><name>v</name><capacity unit='GiB'>1</capacity><allocation>4096</allocation></volume>";

	kit_until_hello(k);
	kit_operate(k, OP_DEFINE_POOL, NULL, pool);
	assert_string_equal(kit_trace(k), "Defined[inactive]! look[inactive]! ok");
	kit_operate(k, OP_POOL_LIST_VOLUMES, "p", NULL);
	assert_string_equal(kit_trace(k), "error:InvalidState");
	kit_operate(k, OP_POOL_BUILD, "p", NULL);
	assert_string_equal(kit_trace(k), "Built[inactive]! look[inactive]! ok");
	kit_operate(k, OP_POOL_START, "p", NULL);
	assert_string_equal(kit_trace(k), "Started[active]! look[active]! ok");
	kit_operate(k, OP_POOL_REFRESH, "p", NULL);
	assert_string_equal(kit_trace(k), "Refreshed[active]! look[active]! ok");
	/* a running pool can't be undefined */
	kit_operate(k, OP_POOL_UNDEFINE, "p", NULL);
	assert_string_equal(kit_trace(k), "look[active]! error:InvalidState");

	r = kit_operate(k, OP_POOL_CREATE_VOLUME, "p", volume);
	assert_string_equal(kit_trace(k), "look[active]! ok");
	assert_string_equal(r->text, "v");
	assert_int_equal(kit_report(k, 0)->observation.seen->allocation, 4096);
	kit_operate(k, OP_POOL_CREATE_VOLUME, "p", volume);
	assert_string_equal(kit_trace(k), "look[active]! error:AlreadyExists");
	r = kit_operate(k, OP_POOL_LIST_VOLUMES, "p", NULL);
	assert_string_equal(kit_trace(k), "ok");
	assert_int_equal(r->n_volumes, 1);
	assert_string_equal(r->volumes[0].path, "/srv/p/v");
	assert_int_equal(r->volumes[0].capacity, 1 << 30);
	kit_operate(k, OP_POOL_DELETE_VOLUME, "p", "w");
	assert_string_equal(kit_trace(k), "look[active]! error:NotFound");
	kit_operate(k, OP_POOL_DELETE_VOLUME, "p", "v");
	assert_string_equal(kit_trace(k), "look[active]! ok");
	assert_int_equal(kit_report(k, 0)->observation.seen->allocation, 0);

	/* a refresh that fails stops it */
	assert_string_equal(kit_steps(k, "{\"do\": \"refresh\", \"pool\": \"p\", \"fail\": true}"), "OperationFailed");
	kit_settle(k);
	kit_operate(k, OP_POOL_UNDEFINE, "p", NULL);
	assert_string_equal(kit_trace(k), "Undefined[gone]! look[gone]! ok");

	r = kit_operate(k, OP_CREATE_NETWORK, NULL, "<network><name>n</name><forward/><bridge name='br7'/></network>");
	assert_string_equal(kit_trace(k), "Started[active]! look[active]! ok");
	assert_int_equal(r->kind, KIND_NETWORK);
	assert_string_equal(kit_report(k, 1)->observation.seen->bridge, "br7");
	assert_string_equal(kit_report(k, 1)->observation.seen->type, "nat");
	assert_false(kit_report(k, 1)->observation.seen->persistent);
	kit_operate(k, OP_NETWORK_STOP, "n", NULL);
	assert_string_equal(kit_trace(k), "Stopped[gone]! look[gone]! ok");
	kit_close(k);
}

static const struct {
	enum operation operation;
	const char *xml, *message;
} bad_xml[] = {
	{OP_DEFINE_DOMAIN, "", "empty"},
	{OP_DEFINE_DOMAIN, "<domain>\n  <name>x</nome>\n</domain>", "line 2, column 1"},
	{OP_DEFINE_DOMAIN, "<domain><name>\xff</name></domain>", "line 1"},
	{OP_DEFINE_DOMAIN, "<pool><name>x</name></pool>", "expected <domain>"},
	{OP_DEFINE_POOL, "<domain><name>x</name></domain>", "expected <pool>"},
	{OP_DEFINE_DOMAIN, "<domain>\n<memory>1</memory></domain>", "lacks a <name>"},
	{OP_DEFINE_DOMAIN, "<domain><name>x</name></domain>", "lacks <memory>"},
	{OP_DEFINE_DOMAIN, "<domain><name>x</name>\n\n<memory>much</memory></domain>", "line 3: <memory> is 'much'"},
	{OP_DEFINE_DOMAIN, "<domain><name>x</name><memory>-1</memory></domain>", "'-1'"},
	{OP_DEFINE_DOMAIN, "<domain><name>x</name><memory unit='acre'>1</memory></domain>", "'acre'"},
	{OP_DEFINE_DOMAIN, "<domain><name>x</name><memory unit='T'>99999999</memory></domain>", "too large"},
	{OP_DEFINE_DOMAIN, "<domain><name>x</name><memory>1</memory><vcpu>0</vcpu></domain>", "1 to 4096"},
	{OP_DEFINE_DOMAIN, "<domain><name>x</name><uuid>1234</uuid><memory>1</memory></domain>", "32 hex digits"},
	{OP_DEFINE_DOMAIN, "<domain><name>x</name><uuid>00000000-0000-0000-0000-000000000000</uuid></domain>", "all zeros"},
	{OP_DEFINE_DOMAIN, "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain><name>&a;</name></domain>",
	 "document type"},
	{OP_CREATE_NETWORK, "<network/>", "lacks a <name>"},
};

static void test_bad_xml(void **state)
{
	struct sim_kit *k = open_with("");

	for (size_t i = 0; i < ELEMENTS(bad_xml); i++) {
		const struct result *r = kit_operate(k, bad_xml[i].operation, NULL, bad_xml[i].xml);

		if (r->failure.error != VIREO_INVALID_XML || !strstr(r->failure.message, bad_xml[i].message))
			fail_msg("%s\nexpected: %s\ngot:      %d %s", bad_xml[i].xml, bad_xml[i].message, r->failure.error,
				 r->failure.message);
		/* nothing was done */
		assert_string_equal(kit_trace(k), "error:InvalidXML");
	}
	/* names and UUIDs that are taken */
	kit_operate(k, OP_DEFINE_DOMAIN, NULL, "<domain><name>d</name><memory>1</memory></domain>");
	assert_string_equal(kit_trace(k), "error:AlreadyExists");
	kit_operate(k, OP_CREATE_DOMAIN, NULL, "<domain><name>t</name><uuid>" UUID "</uuid><memory>1</memory></domain>");
	assert_non_null(strstr(kit_trace(k), "look[running]! ok"));
	kit_operate(k, OP_CREATE_DOMAIN, NULL, "<domain><name>t</name><uuid>" UUID "</uuid><memory>1</memory></domain>");
	assert_string_equal(kit_trace(k), "error:InvalidState");
	kit_operate(k, OP_DEFINE_DOMAIN, NULL, "<domain><name>u</name><uuid>" UUID "</uuid><memory>1</memory></domain>");
	assert_string_equal(kit_trace(k), "error:AlreadyExists");
	kit_list(k);
	assert_int_equal(kit_count(k), 3);
	kit_close(k);
}

static void test_look(void **state)
{
	struct sim_kit *k = open_with("\"state\": \"running\"");
	const struct observation *o;

	o = kit_look(k, KIND_DOMAIN, kit_uuid(k, KIND_DOMAIN, "d"));
	assert_string_equal(kit_trace(k), "look[running]!");
	assert_int_equal(o->cause, CAUSE_NONE);
	kit_clear(k);
	o = kit_look(k, KIND_POOL, kit_uuid(k, KIND_DOMAIN, "d"));
	assert_string_equal(kit_trace(k), "look[gone]!");
	kit_close(k);
}

/* ---- claims -------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *uri, *why; /* NULL: it is right */
} uris[] = {
	{"sim:///demo", NULL},
	{"sim:///empty", NULL},
	{"sim:///10000", NULL},
	{"sim:/some/path.json", NULL},
	{"sim:///some/path.json?drop=0.5&seed=3&hang=list,look", NULL},
	{"sim:/run/so%20cket?world=x", NULL},
	{"sim:", "expected sim:///demo"},
	{"sim:demo", "expected sim:///demo"},
	{"sim:/", "expected sim:///demo"},
	{"sim:///", "not built in"},
	{"sim:///other", "'other' is not built in"},
	{"sim:///12x", "not built in"},
	{"sim:///99999999999", "not built in"},
	{"sim://host/demo", "names a host"},
	{"sim:/%zz", "%-code"},
	{"sim:/a%2", "%-code"},
	{"sim:/a%00b", "%-code"},
	{"sim:///demo#x", "'#'"},
	{"sim:///demo?x", "'x' is no option"},
	{"sim:///demo?=1", "is no option"},
	{"sim:///demo?x=1", "no option 'x'"},
	{"sim:///demo?drop=1&drop=1", "twice"},
	{"sim:///demo?drop=1.5", "from 0 to 1"},
	{"sim:///demo?drop=nan", "from 0 to 1"},
	{"sim:///demo?drop=", "from 0 to 1"},
	{"sim:///demo?reorder=1.5", "whole number"},
	{"sim:///demo?reorder=-1", "from 0 to 1000"},
	{"sim:///demo?domains=many", "whole number"},
	{"sim:///demo?domains=1000001", "0 to 1000000"},
	{"sim:///demo?events=maybe", "yes or no"},
	{"sim:///demo?hang=dinner", "'dinner'"},
	{"sim:///demo?storm=1&flood=1", "do not go together"},
	{"sim:///demo?world=", "empty"},
	{"sim:///demo?running=2", "from 0 to 1"},
};

static void test_claims(void **state)
{
	_cleanup_(freep) char *other = NULL;

	for (size_t i = 0; i < ELEMENTS(uris); i++) {
		_cleanup_(freep) char *why = NULL;
		enum claim c = sim_driver.claim(uris[i].uri, &why);

		if (c != (uris[i].why ? CLAIM_BROKEN : CLAIM_MINE))
			fail_msg("%s: claim %d", uris[i].uri, c);
		if (uris[i].why && !strstr(why, uris[i].why))
			fail_msg("%s\nexpected: %s\ngot:      %s", uris[i].uri, uris[i].why, why);
	}
	assert_int_equal(sim_driver.claim("qemu:///system", &other), CLAIM_NOT_MINE);
	assert_int_equal(sim_driver.claim("simple:///", &other), CLAIM_NOT_MINE);
	assert_int_equal(sim_driver.claim("", &other), CLAIM_NOT_MINE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_hello),
		cmocka_unit_test(test_shared_world),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test(test_xml_size),
		cmocka_unit_test(test_sequences),
		cmocka_unit_test(test_looks_run_ahead),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_failed_start_leaves_no_trace),
		cmocka_unit_test(test_define),
		cmocka_unit_test(test_rename_patches_xml),
		cmocka_unit_test(test_operations),
		cmocka_unit_test(test_operation_options),
		cmocka_unit_test(test_shutdown_wait),
		cmocka_unit_test(test_pools_and_networks),
		cmocka_unit_test(test_bad_xml),
		cmocka_unit_test(test_look),
	};

	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
