/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "rig.h"
#include "util/clock.h"
#include "util/log.h"

/*
 * conformance URI [TYPE] - does the driver of this URI keep to drivers/driver.h?
 *
 * Every report is judged by rig.c as it comes; the tests below make things happen. What the hypervisor cannot do (by
 * what HELLO says) is not asked of it. TYPE: of the domains that it makes; "test" when absent. The hypervisor
 * may have objects already; those are left alone.
 */

static const char *uri, *type = "test";
static unsigned seed;

/* The smallest domain that libvirt's drivers and the simulated one take. */
static char *domain_xml(const char *name)
{
	char *xml;

	assert_true(asprintf(&xml,
			     "<domain type='%s'><name>%s</name><memory unit='KiB'>16384</memory><vcpu>1</vcpu>"
			     "<os><type%s>hvm</type></os></domain>",
			     type, name, strcmp(type, "kvm") == 0 || strcmp(type, "qemu") == 0 ? " machine='pc'" : "") > 0);
	return xml;
}

static sd_id128_t define(struct rig *r, const char *name)
{
	_cleanup_(freep) char *xml = domain_xml(name);
	struct rig_result *k = rig_do(r, OP_DEFINE_DOMAIN, KIND_CONNECTION, SD_ID128_NULL, xml, VIREO_OK);

	assert_false(sd_id128_is_null(k->uuid));
	assert_int_equal(k->kind, KIND_DOMAIN);
	return k->uuid;
}

/* A driver may only follow what others start. */
static bool cannot_define(struct rig *r)
{
	if (rig_supports(r, "Connection.DefineDomain"))
		return false;
	rig_free(r);
	print_message("nothing can be defined here\n");
	return true;
}

static struct rig_object *domain(struct rig *r, sd_id128_t uuid)
{
	struct rig_object *o = rig_find(r, KIND_DOMAIN, uuid);

	assert_non_null(o);
	return o;
}

/* ---- tests ------------------------------------------------------------------------------------------------ */

static void test_hello(void **state)
{
	static struct rig r;

	rig_open(&r, uri);
	rig_until_hello(&r);
	assert_non_null(r.operations);
	assert_true(r.polled || (r.events && r.events[0]));
	rig_free(&r);
}

static void test_close_at_once(void **state)
{
	static struct rig r;

	for (int i = 0; i < 20; i++) {
		rig_open(&r, uri);
		for (int turn = 0; turn < i % 4; turn++)
			sd_event_run(r.event, 1000);
		rig_free(&r);
	}
}

static void test_list(void **state)
{
	static struct rig r;

	rig_open(&r, uri);
	rig_until_hello(&r);
	for (unsigned i = 0; i < 3; i++) {
		unsigned n = 0, there = HASH_COUNT(r.objects);

		rig_list(&r);
		assert_true(r.complete[KIND_DOMAIN] && r.complete[KIND_POOL] && r.complete[KIND_NETWORK]);
		for (struct rig_object *o = r.objects; o; o = o->hh.next)
			n += o->look == LOOK_SEEN;
		assert_int_equal(r.seen_in_listing, n);
		/* nothing happens here: the second time must be like the first */
		if (i > 0)
			assert_int_equal(there, HASH_COUNT(r.objects));
	}
	for (struct rig_object *o = r.objects; o; o = o->hh.next) {
		assert_int_equal(rig_look(&r, o->key.kind, o->key.uuid), LOOK_SEEN);
		assert_true(r.look_settled);
	}
	rig_free(&r);
}

static void test_overlapping_lists(void **state)
{
	static struct rig r;
	unsigned objects;

	rig_open(&r, uri);
	rig_until_hello(&r);
	rig_list(&r);
	objects = r.seen_in_listing;
	for (int i = 0; i < 10; i++)
		r.driver->list(r.connection, ++r.last_serial);
	rig_list(&r);
	assert_int_equal(r.seen_in_listing, objects);
	rig_free(&r);
}

static void test_look_at_nothing(void **state)
{
	static struct rig r;
	sd_id128_t nobody = SD_ID128_MAKE(0b, ad, c0, de, 0b, ad, 4c, 0d, 8b, ad, c0, de, 0b, ad, c0, de);

	rig_open(&r, uri);
	rig_until_hello(&r);
	assert_int_equal(rig_look(&r, KIND_DOMAIN, nobody), LOOK_GONE);
	assert_true(r.look_settled);
	assert_int_equal(rig_look(&r, KIND_POOL, nobody), LOOK_GONE);
	assert_int_equal(rig_look(&r, KIND_NETWORK, nobody), LOOK_GONE);
	/* looked at first, alive later: a driver must not remember that it is gone */
	assert_int_equal(r.looked, 1);
	rig_free(&r);
}

static void test_domain(void **state)
{
	static struct rig r;
	sd_id128_t uuid;
	struct rig_object *o;
	unsigned causes;

	rig_open(&r, uri);
	rig_until_hello(&r);
	if (cannot_define(&r))
		return;
	rig_list(&r);
	uuid = define(&r, "conformance");
	o = domain(&r, uuid);
	/* what an operation caused is posted before its result */
	assert_true(o->look == LOOK_SEEN && o->seen->persistent && !o->seen->active);
	assert_string_equal(o->seen->name, "conformance");
	assert_int_equal(o->seen->max_memory, 16384 * 1024);
	assert_int_equal(o->seen->vcpus, 1);

	causes = o->causes;
	rig_do(&r, OP_DOMAIN_START, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	assert_true(o->look == LOOK_SEEN && o->seen->active && o->seen->state == DOMAIN_RUNNING);
	assert_true(r.polled || o->causes > causes);
	rig_do(&r, OP_DOMAIN_START, KIND_DOMAIN, uuid, NULL, VIREO_INVALID_STATE);
	rig_do(&r, OP_DOMAIN_SUSPEND, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	assert_int_equal(o->seen->state, DOMAIN_PAUSED);
	rig_do(&r, OP_DOMAIN_RESUME, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	assert_int_equal(o->seen->state, DOMAIN_RUNNING);
	rig_wait(&r, rig_ask(&r, OP_DOMAIN_SET_AUTOSTART, KIND_DOMAIN, uuid, NULL, true, NULL));
	/* not reported by anybody: only the look behind the operation tells */
	assert_true(o->seen->autostart);
	if (rig_supports(&r, "Domain.GetXML")) {
		struct rig_result *k = rig_do(&r, OP_DOMAIN_GET_XML, KIND_DOMAIN, uuid, NULL, VIREO_OK);

		assert_non_null(k->text);
		assert_non_null(strstr(k->text, "<name>conformance</name>"));
	}
	rig_do(&r, OP_DOMAIN_UNDEFINE, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	assert_true(o->look == LOOK_SEEN && o->seen->active && !o->seen->persistent);
	rig_do(&r, OP_DOMAIN_DESTROY, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	assert_int_equal(o->look, LOOK_GONE);
	rig_do(&r, OP_DOMAIN_START, KIND_DOMAIN, uuid, NULL, VIREO_NOT_FOUND);
	assert_int_equal(rig_look(&r, KIND_DOMAIN, uuid), LOOK_GONE);
	rig_free(&r);
}

static void test_rename(void **state)
{
	static struct rig r;
	sd_id128_t uuid;

	rig_open(&r, uri);
	rig_until_hello(&r);
	if (rig_supports(&r, "Domain.Rename")) {
		uuid = define(&r, "before");
		rig_do(&r, OP_DOMAIN_RENAME, KIND_DOMAIN, uuid, "behind \"it\" & <all>", VIREO_OK);
		assert_string_equal(domain(&r, uuid)->seen->name, "behind \"it\" & <all>");
		rig_do(&r, OP_DOMAIN_UNDEFINE, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	}
	rig_free(&r);
}

/* To a file and back, where it can be done. What nobody asked for is cancelled and completed without a word. */
static void test_save(void **state)
{
	char folder[] = "/tmp/vireo-conformance-XXXXXX", path[64];
	static struct rig r;
	struct rig_result *k;
	struct rig_object *o;
	sd_id128_t uuid;

	rig_open(&r, uri);
	rig_until_hello(&r);
	if (!rig_supports(&r, "Domain.Save") || !rig_supports(&r, "Connection.RestoreDomain") ||
	    !rig_supports(&r, "Connection.DefineDomain")) {
		print_message("nothing can be saved here\n");
		rig_free(&r);
		return;
	}
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/saved", folder);
	rig_list(&r);
	uuid = define(&r, "keepsake");
	o = domain(&r, uuid);
	rig_do(&r, OP_DOMAIN_SAVE, KIND_DOMAIN, uuid, path, VIREO_INVALID_STATE);
	rig_do(&r, OP_DOMAIN_START, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	rig_do(&r, OP_DOMAIN_SAVE, KIND_DOMAIN, uuid, "keepsake", VIREO_INVALID_ARGS);
	rig_do(&r, OP_RESTORE_DOMAIN, KIND_CONNECTION, SD_ID128_NULL, "keepsake", VIREO_INVALID_ARGS);
	assert_true(o->seen->active);
	rig_do(&r, OP_DOMAIN_SAVE, KIND_DOMAIN, uuid, path, VIREO_OK);
	assert_true(o->look == LOOK_SEEN && !o->seen->active && o->seen->persistent);
	/* answered already, or never asked */
	if (r.driver->cancel) {
		r.driver->cancel(r.connection, r.last_token);
		r.driver->cancel(r.connection, UINT64_C(1) << 40);
		r.driver->cancel(r.connection, FOREIGN_TOKEN | 4711);
	}
	if (r.driver->complete) {
		r.driver->complete(r.connection, r.last_token);
		r.driver->complete(r.connection, FOREIGN_TOKEN | 4711);
	}
	k = rig_do(&r, OP_RESTORE_DOMAIN, KIND_CONNECTION, SD_ID128_NULL, path, VIREO_OK);
	assert_int_equal(k->kind, KIND_DOMAIN);
	assert_true(sd_id128_equal(k->uuid, uuid));
	assert_true(o->seen->active && o->seen->state == DOMAIN_RUNNING);
	rig_do(&r, OP_DOMAIN_DESTROY, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	rig_do(&r, OP_DOMAIN_UNDEFINE, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	assert_int_equal(o->look, LOOK_GONE);
	unlink(path);
	rmdir(folder);
	rig_free(&r);
}

static void test_bad_input(void **state)
{
	static const char *const bad[] = {
		"", "<", "<domain>", "<domain/>", "<pool/>", "no xml", "<domain type='test'><name>x</name>",
		"<!DOCTYPE d [<!ENTITY a 'b'>]><domain type='test'><name>&a;</name></domain>",
	};
	static struct rig r;
	unsigned objects;
	struct rig_result *k;

	rig_open(&r, uri);
	rig_until_hello(&r);
	if (cannot_define(&r))
		return;
	rig_list(&r);
	objects = HASH_COUNT(r.objects);
	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		k = rig_do(&r, OP_DEFINE_DOMAIN, KIND_CONNECTION, SD_ID128_NULL, bad[i], VIREO_INVALID_XML);
		assert_true(strlen(k->failure.message) > 5);
	}
	k = rig_do(&r, OP_DEFINE_DOMAIN, KIND_CONNECTION, SD_ID128_NULL, "<domain>\n  <name>x</nam>\n</domain>",
		   VIREO_INVALID_XML);
	assert_non_null(strstr(k->failure.message, "line 2"));
	rig_list(&r);
	assert_int_equal(HASH_COUNT(r.objects), objects);
	rig_free(&r);
}

/* A pool and a network through their lives. */
static void test_others(void **state)
{
	static const struct {
		enum kind kind;
		const char *interface;
		enum operation define, start, stop, undefine;
		const char *xml;
	} kinds[] = {
		{KIND_POOL, "StoragePool", OP_DEFINE_POOL, OP_POOL_START, OP_POOL_STOP, OP_POOL_UNDEFINE,
		 "<pool type='dir'><name>conformance</name><target><path>/tmp</path></target></pool>"},
		{KIND_NETWORK, "Network", OP_DEFINE_NETWORK, OP_NETWORK_START, OP_NETWORK_STOP, OP_NETWORK_UNDEFINE,
		 "<network><name>conformance</name><forward mode='bridge'/><bridge name='lo'/></network>"},
	};
	static struct rig r;

	rig_open(&r, uri);
	rig_until_hello(&r);
	for (size_t i = 0; i < ELEMENTS(kinds); i++) {
		struct rig_result *k;
		struct rig_object *o;
		char name[64];

		snprintf(name, sizeof(name), "%s.Start", kinds[i].interface);
		if (!rig_supports(&r, name))
			continue;
		k = rig_do(&r, kinds[i].define, KIND_CONNECTION, SD_ID128_NULL, kinds[i].xml, VIREO_OK);
		o = rig_find(&r, kinds[i].kind, k->uuid);
		assert_non_null(o);
		assert_true(o->seen->persistent && !o->seen->active);
		rig_do(&r, kinds[i].start, kinds[i].kind, k->uuid, NULL, VIREO_OK);
		assert_true(o->seen->active);
		rig_do(&r, kinds[i].start, kinds[i].kind, k->uuid, NULL, VIREO_INVALID_STATE);
		if (kinds[i].kind == KIND_POOL && rig_supports(&r, "StoragePool.ListVolumes"))
			rig_do(&r, OP_POOL_LIST_VOLUMES, KIND_POOL, k->uuid, NULL, VIREO_OK);
		rig_do(&r, kinds[i].stop, kinds[i].kind, k->uuid, NULL, VIREO_OK);
		assert_true(!o->seen->active);
		rig_do(&r, kinds[i].undefine, kinds[i].kind, k->uuid, NULL, VIREO_OK);
		assert_int_equal(o->look, LOOK_GONE);
	}
	rig_free(&r);
}

/* ---- the storm -------------------------------------------------------------------------------------------- */

#define STORM_DOMAINS 12


static bool has_ended(struct rig *r, const void *token)
{
	struct rig_result *k;

	HASH_FIND(hh, r->results, token, sizeof(uint64_t), k);
	return *(const uint64_t *)token == 0 || k;
}

static bool none_in_flight(struct rig *r, const void *what)
{
	return r->last_token == HASH_COUNT(r->results);
}

/*
 * Operations on all domains at once, and looks and listings in between. What is claimed is judged on the way. On each domain
 * one operation at a time, as the broker has it: libvirt's test driver reports two that overlap in any order.
 */
static void test_storm(void **state)
{
	static const enum operation operations[] = {
		OP_DOMAIN_START, OP_DOMAIN_START, OP_DOMAIN_DESTROY, OP_DOMAIN_SUSPEND, OP_DOMAIN_RESUME,
		OP_DOMAIN_UNDEFINE, OP_DEFINE_DOMAIN, OP_DEFINE_DOMAIN, OP_CREATE_DOMAIN,
	};
	const char *steps = getenv("CONFORMANCE_STEPS");
	unsigned n = steps ? (unsigned)atoi(steps) : strcmp(type, "test") == 0 ? 3000 : 150;
	char *all[STORM_DOMAINS];
	sd_id128_t uuids[STORM_DOMAINS];
	uint64_t tokens[STORM_DOMAINS] = {0};
	static struct rig r;

	print_message("storm of %u steps, seed %u\n", n, seed);
	srand(seed);
	rig_open(&r, uri);
	rig_until_hello(&r);
	if (cannot_define(&r))
		return;
	rig_list(&r);
	for (unsigned i = 0; i < STORM_DOMAINS; i++) {
		char name[32], id[SD_ID128_UUID_STRING_MAX];
		_cleanup_(freep) char *plain = NULL;

		snprintf(name, sizeof(name), "storm-%u", i);
		plain = domain_xml(name);
		for (int b = 0; b < 16; b++)
			uuids[i].bytes[b] = (uint8_t)rand();
		uuids[i].bytes[6] = (uuids[i].bytes[6] & 0x0f) | 0x40;
		uuids[i].bytes[8] = (uuids[i].bytes[8] & 0x3f) | 0x80;
		assert_true(asprintf(&all[i], "%.*s<uuid>%s</uuid>%s", (int)(strstr(plain, "<memory") - plain), plain,
				     sd_id128_to_uuid_string(uuids[i], id), strstr(plain, "<memory")) > 0);
	}
	for (unsigned i = 0; i < n; i++) {
		unsigned which = (unsigned)rand() % STORM_DOMAINS;
		enum operation op = operations[(unsigned)rand() % ELEMENTS(operations)];
		bool made = operation_table[op].kind == KIND_CONNECTION;

		rig_until(&r, has_ended, &tokens[which], "an operation to end");
		tokens[which] = rig_ask(&r, op, operation_table[op].kind, made ? SD_ID128_NULL : uuids[which], made ? all[which] : NULL, false,
			NULL);
		if (rand() % 8 == 0)
			r.driver->look(r.connection, KIND_DOMAIN, uuids[which], ++r.last_serial);
		if (rand() % 64 == 0)
			r.driver->list(r.connection, ++r.last_serial);
	}
	rig_until(&r, none_in_flight, NULL, "all operations to end");
	rig_list(&r);
	for (unsigned i = 0; i < STORM_DOMAINS; i++) {
		struct rig_object *o = rig_find(&r, KIND_DOMAIN, uuids[i]);
		enum look was;

		if (!o)
			continue;
		/* behind a listing everything is told: a question brings nothing new */
		was = o->look;
		assert_int_equal(rig_look(&r, KIND_DOMAIN, uuids[i]), was);
		assert_true(r.look_settled);
		if (was == LOOK_SEEN && o->seen->active)
			rig_do(&r, OP_DOMAIN_DESTROY, KIND_DOMAIN, uuids[i], NULL, VIREO_OK);
		if (o->look == LOOK_SEEN)
			rig_do(&r, OP_DOMAIN_UNDEFINE, KIND_DOMAIN, uuids[i], NULL, VIREO_OK);
		assert_int_equal(o->look, LOOK_GONE);
	}
	print_message("%u observations, %u of them settled\n", r.observations, r.settled);
	assert_true(r.settled > n / 2);
	for (unsigned i = 0; i < STORM_DOMAINS; i++)
		free(all[i]);
	rig_free(&r);
}

/* Closed in the middle of everything: nothing hangs, nothing is left behind (the sanitizers see). */
static void test_close_in_storm(void **state)
{
	static struct rig r;

	for (int i = 0; i < 5; i++) {
		_cleanup_(freep) char *xml = domain_xml("short-lived");

		rig_open(&r, uri);
		rig_until_hello(&r);
		if (cannot_define(&r))
			return;
		for (int j = 0; j < 30; j++) {
			rig_ask(&r, OP_CREATE_DOMAIN, KIND_CONNECTION, SD_ID128_NULL, xml, false, NULL);
			r.driver->list(r.connection, ++r.last_serial);
			if (j == 10 * i)
				sd_event_run(r.event, 0);
		}
		rig_free(&r);
	}
	/* what the last one may have left */
	rig_open(&r, uri);
	rig_until_hello(&r);
	rig_list(&r);
	for (struct rig_object *o = r.objects; o; o = o->hh.next)
		if (o->key.kind == KIND_DOMAIN && o->look == LOOK_SEEN && strcmp(o->seen->name, "short-lived") == 0)
			rig_do(&r, OP_DOMAIN_DESTROY, KIND_DOMAIN, o->key.uuid, NULL, VIREO_OK);
	rig_free(&r);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_hello, rig_teardown),		cmocka_unit_test_teardown(test_close_at_once, rig_teardown),
		cmocka_unit_test_teardown(test_list, rig_teardown),		cmocka_unit_test_teardown(test_overlapping_lists, rig_teardown),
		cmocka_unit_test_teardown(test_look_at_nothing, rig_teardown), cmocka_unit_test_teardown(test_domain, rig_teardown),
		cmocka_unit_test_teardown(test_rename, rig_teardown),		cmocka_unit_test_teardown(test_bad_input, rig_teardown),
		cmocka_unit_test_teardown(test_save, rig_teardown),
		cmocka_unit_test_teardown(test_others, rig_teardown),		cmocka_unit_test_teardown(test_storm, rig_teardown),
		cmocka_unit_test_teardown(test_close_in_storm, rig_teardown),
	};
	const char *given = getenv("CONFORMANCE_SEED");

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "Usage: conformance URI [TYPE]\n");
		return 2;
	}
	uri = argv[1];
	if (argc > 2)
		type = argv[2];
	seed = given ? (unsigned)atoi(given) : (unsigned)getpid();
	log_set_level_name("warning");
	registry_add_builtin();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
