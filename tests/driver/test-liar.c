/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <dlfcn.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"
#include "util/clock.h"
#include "util/utf8.h"

/*
 * The libvirt driver when libvirt doesn't do what it should: descriptions that are broken, empty or not there, names that
 * are not UTF-8, listings and looks that fail or take for ever. This program has some of libvirt's functions in its own words,
 * which the driver then calls instead.
 */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static enum { TRUTH, XML_BROKEN, XML_EMPTY, XML_NONE, XML_BYTES, STATE_FAILS } lie; /* of the domain "liar" */
static bool pools_fail;
static bool hold; /* looks at the domain "liar" */
static unsigned held;

static bool is_liar(virDomainPtr dom)
{
	return strncmp(virDomainGetName(dom), "liar", 4) == 0;
}

/* A failure as libvirt would leave it on this thread: of a call that can't succeed. */
static void leave_error(virConnectPtr conn)
{
	virStoragePoolPtr none = virStoragePoolLookupByName(conn, "there is no pool of this name");

	assert(!none);
}

char *virDomainGetXMLDesc(virDomainPtr dom, unsigned int flags)
{
	static char *(*real)(virDomainPtr, unsigned int);
	char *xml, *name, *spoilt;
	int what;

	if (!real)
		real = (char *(*)(virDomainPtr, unsigned int))dlsym(RTLD_NEXT, "virDomainGetXMLDesc");
	pthread_mutex_lock(&lock);
	if (hold && is_liar(dom)) {
		held++;
		pthread_cond_broadcast(&changed);
		while (hold)
			pthread_cond_wait(&changed, &lock);
	}
	what = is_liar(dom) ? (int)lie : TRUTH;
	pthread_mutex_unlock(&lock);
	switch (what) {
	case XML_BROKEN:
		return strdup("<domain><name>liar</name><memory>1</domain>");
	case XML_EMPTY:
		return strdup("");
	case XML_NONE:
		leave_error(virDomainGetConnect(dom));
		return NULL;
	}
	xml = real(dom, flags);
	if (!xml || what != XML_BYTES)
		return xml;
	name = strstr(xml, "liar");
	assert(name);
	assert(asprintf(&spoilt, "%.*s\xff\xfe bad \xed\xa0\x80%s", (int)(name + 4 - xml), xml, name + 4) > 0);
	free(xml);
	return spoilt;
}

int virDomainGetState(virDomainPtr dom, int *state, int *reason, unsigned int flags)
{
	static int (*real)(virDomainPtr, int *, int *, unsigned int);
	bool fails;

	if (!real)
		real = (int (*)(virDomainPtr, int *, int *, unsigned int))dlsym(RTLD_NEXT, "virDomainGetState");
	pthread_mutex_lock(&lock);
	fails = lie == STATE_FAILS && is_liar(dom);
	pthread_mutex_unlock(&lock);
	if (!fails)
		return real(dom, state, reason, flags);
	leave_error(virDomainGetConnect(dom));
	return -1;
}

int virConnectListAllStoragePools(virConnectPtr conn, virStoragePoolPtr **pools, unsigned int flags)
{
	static int (*real)(virConnectPtr, virStoragePoolPtr **, unsigned int);
	bool fails;

	if (!real)
		real = (int (*)(virConnectPtr, virStoragePoolPtr **, unsigned int))dlsym(RTLD_NEXT, "virConnectListAllStoragePools");
	pthread_mutex_lock(&lock);
	fails = pools_fail;
	pthread_mutex_unlock(&lock);
	if (!fails)
		return real(conn, pools, flags);
	leave_error(conn);
	return -1;
}

static void set_lie(int what)
{
	pthread_mutex_lock(&lock);
	lie = what;
	pthread_mutex_unlock(&lock);
}

static void set_hold(bool on)
{
	pthread_mutex_lock(&lock);
	hold = on;
	held = 0;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* ---- tests ------------------------------------------------------------------------------------------------ */

static const char liar_xml[] = "<domain type='test'><name>liar</name><memory unit='KiB'>16384</memory><vcpu>1</vcpu>"
			       "<os><type>hvm</type></os></domain>";

static struct rig r;

static int set_up(void **state)
{
	set_lie(TRUTH);
	pools_fail = false;
	rig_open(&r, "test:///default");
	rig_until_hello(&r);
	rig_list(&r);
	return 0;
}

static int tear_down(void **state)
{
	set_hold(false);
	set_lie(TRUTH);
	return rig_teardown(state);
}

static struct rig_object *make_liar(sd_id128_t *ret)
{
	struct rig_result *k = rig_do(&r, OP_DEFINE_DOMAIN, KIND_CONNECTION, SD_ID128_NULL, liar_xml, VIREO_OK);
	struct rig_object *o = rig_find(&r, KIND_DOMAIN, k->uuid);

	assert_non_null(o);
	*ret = k->uuid;
	return o;
}

static void end_liar(sd_id128_t uuid)
{
	set_lie(TRUTH);
	rig_do(&r, OP_DOMAIN_UNDEFINE, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	rig_free(&r);
}

static void test_bad_xml(void **state)
{
	static const int lies[] = {XML_BROKEN, XML_EMPTY, XML_NONE};
	struct rig_object *o;
	sd_id128_t uuid;
	unsigned listed;

	o = make_liar(&uuid);
	rig_list(&r);
	listed = r.seen_in_listing;
	for (size_t i = 0; i < ELEMENTS(lies); i++) {
		set_lie(lies[i]);
		rig_list(&r);
		/* nothing is lost, of it or of others; what the XML would have told comes from elsewhere or is unknown */
		assert_int_equal(r.seen_in_listing, listed);
		assert_int_equal(o->look, LOOK_SEEN);
		assert_true(o->seen->unknown & SEEN_XML);
		assert_string_equal(o->seen->name, "liar");
		assert_true(o->seen->persistent && !o->seen->active);
		assert_int_equal(o->seen->max_memory, 16384 * 1024);
		assert_null(o->seen->xml);
		rig_do(&r, OP_DOMAIN_START, KIND_DOMAIN, uuid, NULL, VIREO_OK);
		assert_true(o->seen->active && o->seen->id > 0);
		rig_do(&r, OP_DOMAIN_DESTROY, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	}
	set_lie(TRUTH);
	assert_int_equal(rig_look(&r, KIND_DOMAIN, uuid), LOOK_SEEN);
	assert_int_equal(o->seen->unknown, 0);
	assert_non_null(o->seen->xml);
	end_liar(uuid);
}

static void test_bytes(void **state)
{
	struct rig_object *o;
	sd_id128_t uuid;

	o = make_liar(&uuid);
	set_lie(XML_BYTES);
	assert_int_equal(rig_look(&r, KIND_DOMAIN, uuid), LOOK_SEEN);
	/* rig.c has seen to it that every string is valid UTF-8 */
	assert_int_equal(strncmp(o->seen->name, "liar\xef\xbf\xbd", 7), 0);
	assert_non_null(strstr(o->seen->name, " bad "));
	assert_int_equal(o->seen->unknown, 0);
	end_liar(uuid);
}

static void test_failed_look(void **state)
{
	struct rig_object *o;
	sd_id128_t uuid;

	o = make_liar(&uuid);
	set_lie(STATE_FAILS);
	/* any failure but "not found" of this very thing: nobody knows */
	assert_int_equal(rig_look(&r, KIND_DOMAIN, uuid), LOOK_FAILED);
	rig_list(&r);
	assert_true(r.complete[KIND_DOMAIN]);
	assert_int_equal(o->look, LOOK_SEEN); /* the last that was answered */
	end_liar(uuid);
}

static void test_failed_listing(void **state)
{
	pthread_mutex_lock(&lock);
	pools_fail = true;
	pthread_mutex_unlock(&lock);
	rig_list(&r);
	assert_true(r.complete[KIND_DOMAIN] && r.complete[KIND_NETWORK]);
	assert_false(r.complete[KIND_POOL]);
	pthread_mutex_lock(&lock);
	pools_fail = false;
	pthread_mutex_unlock(&lock);
	rig_list(&r);
	assert_true(r.complete[KIND_POOL]);
	rig_free(&r);
}

static bool has_causes(struct rig *rig, const void *what)
{
	const struct { struct rig_object *o; unsigned causes; } *w = what;

	return w->o->causes >= w->causes;
}

static bool has_seen_active(struct rig *rig, const void *what)
{
	const struct rig_object *o = what;

	return o->seen && o->seen->active;
}

/* A look that takes for ever keeps neither the event back, nor those behind it, nor other objects; and is made up for. */
static void test_slow_look(void **state)
{
	struct { struct rig_object *o; unsigned causes; } w;
	struct rig_result *k;
	sd_id128_t uuid;
	uint64_t began;

	w.o = make_liar(&uuid);
	set_hold(true);
	began = clock_monotonic(r.clock);
	w.causes = w.o->causes + 1;
	rig_ask(&r, OP_DOMAIN_START, KIND_DOMAIN, uuid, NULL, false, NULL);
	rig_until(&r, has_causes, &w, "Started, without a look");
	assert_false(w.o->seen->active);
	/* 50 ms; generous for a machine that is busy */
	assert_true(clock_monotonic(r.clock) - began < 5 * USEC_PER_SEC);
	w.causes = w.o->causes + 1;
	rig_ask(&r, OP_DOMAIN_SUSPEND, KIND_DOMAIN, uuid, NULL, false, NULL);
	rig_until(&r, has_causes, &w, "Suspended, while the look still hangs");
	/* another domain meanwhile */
	k = rig_do(&r, OP_CREATE_DOMAIN, KIND_CONNECTION, SD_ID128_NULL,
		   "<domain type='test'><name>other</name><memory>4096</memory><os><type>hvm</type></os></domain>", VIREO_OK);
	assert_true(rig_find(&r, KIND_DOMAIN, k->uuid)->seen->active);
	rig_do(&r, OP_DOMAIN_DESTROY, KIND_DOMAIN, k->uuid, NULL, VIREO_OK);
	set_hold(false);
	rig_until(&r, has_seen_active, w.o, "the look that was owed");
	rig_do(&r, OP_DOMAIN_DESTROY, KIND_DOMAIN, uuid, NULL, VIREO_OK);
	end_liar(uuid);
}

/* Closing never waits; what hangs ends when it ends. */
static void test_close_while_it_hangs(void **state)
{
	sd_id128_t uuid;

	make_liar(&uuid);
	set_hold(true);
	for (int i = 0; i < 20; i++) {
		r.driver->look(r.connection, KIND_DOMAIN, uuid, ++r.last_serial);
		r.driver->list(r.connection, ++r.last_serial);
		rig_ask(&r, OP_DOMAIN_SET_AUTOSTART, KIND_DOMAIN, uuid, NULL, true, NULL);
	}
	pthread_mutex_lock(&lock);
	while (held == 0)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	rig_close(&r);
	set_hold(false);
	/* waits until every thread has ended; the world of test:///default has gone with its last connection */
	rig_free(&r);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bad_xml, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bytes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_failed_look, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_failed_listing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_look, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_close_while_it_hangs, set_up, tear_down),
	};

	registry_add_builtin();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
