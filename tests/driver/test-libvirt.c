/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <systemd/sd-event.h>

#include "drivers/host.h"
#include "drivers/libvirt/errors.h"
#include "drivers/libvirt/jobs.h"
#include "drivers/libvirt/libvirt-driver.h"
#include "drivers/libvirt/words.h"
#include "drivers/libvirt/xml.h"
#include "util/clock.h"
#include "util/queue.h"
#include "util/workers.h"

/* The parts of the libvirt driver that need no hypervisor. What it does with one is in conformance.c. */

static void test_claim(void **state)
{
	static const struct {
		const char *uri;
		enum claim claim;
		const char *why;
	} cases[] = {
		{"qemu:///system", CLAIM_MINE},
		{"qemu:///session", CLAIM_MINE},
		{"qemu+ssh://root@host:22/system?keyfile=/k", CLAIM_MINE},
		{"qemu:///system?socket=/run/other/libvirt-sock", CLAIM_MINE},
		{"test:///default", CLAIM_MINE},
		{"test:///a/file.xml", CLAIM_MINE},
		{"test+unix:///default", CLAIM_MINE},
		{"esx://host/?no_verify=1", CLAIM_MINE},
		{"xen:///system", CLAIM_MINE},
		{"lxc:///", CLAIM_MINE},
		{"qemu:///", CLAIM_BROKEN, "/system"},
		{"qemu:///sistem", CLAIM_BROKEN, "/system"},
		{"qemu:/system", CLAIM_BROKEN, "://"},
		{"qemu:///system with spaces", CLAIM_BROKEN, "well-formed"},
		{"qemu+telepathy://host/system", CLAIM_BROKEN, "transport"},
		{"test://", CLAIM_BROKEN, "/default"},
		{"sim:///demo", CLAIM_NOT_MINE},
		{"qmp:///run", CLAIM_NOT_MINE},
		{"qemux:///system", CLAIM_NOT_MINE},
		{"qemu", CLAIM_NOT_MINE},
		{"", CLAIM_NOT_MINE},
		{":", CLAIM_NOT_MINE},
		{"+:", CLAIM_NOT_MINE},
		{"/qemu:///system", CLAIM_NOT_MINE},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_(freep) char *why = NULL;
		enum claim claim = libvirt_driver.claim(cases[i].uri, &why);

		if (claim != cases[i].claim)
			fail_msg("%s: %d instead of %d", cases[i].uri, claim, cases[i].claim);
		if (cases[i].why) {
			assert_non_null(why);
			assert_non_null(strstr(why, cases[i].why));
		}
	}
}

static void test_domain_xml(void **state)
{
	_cleanup_(seen_freep) struct seen *s = seen_new();

	assert_int_equal(lv_xml_read(KIND_DOMAIN,
				     "<domain type='kvm' id='42'><name>a &amp; b / \"c\" \xf0\x9f\x90\xa6</name>"
				     "<title>T</title><description>one\ntwo</description>"
				     "<memory unit='KiB'>2097152</memory><currentMemory unit='MiB'>1024</currentMemory>"
				     "<vcpu placement='static' current='2'>4</vcpu><os><type arch='x86_64'>hvm</type></os>"
				     "<devices><memory><target><size>1</size></target></memory></devices></domain>",
				     s),
			 0);
	assert_string_equal(s->name, "a & b / \"c\" \xf0\x9f\x90\xa6");
	assert_int_equal(s->id, 42);
	assert_string_equal(s->title, "T");
	assert_string_equal(s->description, "one\ntwo");
	assert_string_equal(s->os_type, "hvm");
	assert_true(s->max_memory == UINT64_C(2147483648));
	assert_true(s->memory == UINT64_C(1073741824));
	assert_int_equal(s->vcpus, 2);
	assert_int_equal(s->unknown, 0);
}

static void test_sparse_domain_xml(void **state)
{
	_cleanup_(seen_freep) struct seen *s = seen_new();

	assert_int_equal(lv_xml_read(KIND_DOMAIN, "<domain><name>x</name></domain>", s), 0);
	assert_int_equal(s->id, -1);
	assert_string_equal(s->title, "");
	assert_string_equal(s->os_type, "");
	assert_int_equal(s->vcpus, 1);
	/* memory that isn't told is unknown, not 0 */
	assert_int_equal(s->unknown, SEEN_MEMORY);
}

static void test_odd_numbers(void **state)
{
	static const char *const odd[] = {
		"-1", "1e9", "", "18446744073709551615", "99999999999999999999999", "0x10", "1 2", "none",
	};

	for (size_t i = 0; i < ELEMENTS(odd); i++) {
		_cleanup_(seen_freep) struct seen *s = seen_new();
		_cleanup_(freep) char *xml = NULL;

		assert_true(asprintf(&xml, "<domain id='%s'><name>x</name><memory unit='KiB'>%s</memory><vcpu>%s</vcpu></domain>",
				     odd[i], odd[i], odd[i]) > 0);
		assert_int_equal(lv_xml_read(KIND_DOMAIN, xml, s), 0);
		assert_int_equal(s->id, -1);
		assert_true(s->unknown & SEEN_MEMORY);
	}
}

static void test_hostile_xml(void **state)
{
	static const char *const bad[] = {
		"", " ", "<", "<domain", "<domain>", "<domain/>", "<domain><name/></domain>", "<pool><name>x</name></pool>",
		"<domain><name>x</name>", "not xml at all", "<domain><name>x\x01</name></domain>",
		"<domain><name>\xff\xfe</name></domain>",
		"<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>",
		"<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><domain><name>&b;</name></domain>",
		"<domain><name>&undefined;</name></domain>",
	};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		_cleanup_(seen_freep) struct seen *s = seen_new();

		if (lv_xml_read(KIND_DOMAIN, bad[i], s) == 0)
			fail_msg("taken: %s", bad[i]);
	}
}

static void test_other_xml(void **state)
{
	_cleanup_(seen_freep) struct seen *pool = seen_new(), *net = seen_new(), *nat = seen_new();
	struct volume v = {0};

	assert_int_equal(lv_xml_read(KIND_POOL, "<pool type='logical'><name>p</name></pool>", pool), 0);
	assert_string_equal(pool->type, "logical");
	assert_int_equal(lv_xml_read(KIND_NETWORK, "<network><name>n</name><bridge name='virbr7'/></network>", net), 0);
	assert_string_equal(net->type, "isolated");
	assert_string_equal(net->bridge, "virbr7");
	assert_int_equal(lv_xml_read(KIND_NETWORK, "<network><name>n</name><forward/></network>", nat), 0);
	assert_string_equal(nat->type, "nat");
	assert_string_equal(nat->bridge, "");
	assert_int_equal(lv_xml_read_volume("<volume type='file'><name>v.qcow2</name><capacity unit='bytes'>1073741824</capacity>"
					    "<allocation unit='bytes'>200704</allocation><target><path>/p/v.qcow2</path>"
					    "<format type='qcow2'/></target></volume>",
					    &v),
			 0);
	assert_string_equal(v.name, "v.qcow2");
	assert_string_equal(v.path, "/p/v.qcow2");
	assert_string_equal(v.type, "file");
	assert_string_equal(v.format, "qcow2");
	assert_true(v.capacity == 1073741824 && v.allocation == 200704);
	free(v.name);
	free(v.path);
	free(v.type);
	free(v.format);
}

static void test_disks(void **state)
{
	static const char xml[] = "<domain><name>n</name><devices>"
				  "<disk type='file'><source file='vdb'/><target dev='vda'/></disk>"
				  "<disk type='file'><source file='/images/a'/><target dev='vdb'/>"
				  "<mirror type='file' ready='yes'><source file='/images/b'/></mirror></disk>"
				  "<disk type='block'><source dev='/dev/sda'/><target dev='vdc'/><mirror ready='abort'/></disk>"
				  "<disk device='cdrom'/></devices></domain>";
	static const struct {
		const char *word, *target;
	} cases[] = {
		{"vda", "vda"},	      {"vdb", "vdb"},	{"/images/a", "vdb"}, {"/dev/sda", "vdc"},
		{"/images/b", NULL}, {"", NULL}, {"vdd", NULL},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_(freep) char *target = lv_xml_find_disk(xml, cases[i].word);

		if (cases[i].target)
			assert_string_equal(target, cases[i].target);
		else
			assert_null(target);
	}
	assert_null(lv_xml_find_disk("<domain><name>n</name></domain>", "vda"));
	assert_null(lv_xml_find_disk("<domain", "vda"));
	assert_false(lv_xml_disk_is_ready(xml, "vda"));
	assert_true(lv_xml_disk_is_ready(xml, "vdb"));
	assert_false(lv_xml_disk_is_ready(xml, "vdc"));
	assert_false(lv_xml_disk_is_ready(xml, "vdd"));
	assert_false(lv_xml_disk_is_ready("<domain", "vdb"));
}

static void test_check(void **state)
{
	struct failure f = {0};

	assert_int_equal(lv_xml_check("<domain/>", "domain", &f), 0);
	assert_int_equal(lv_xml_check("<disk/>", NULL, &f), 0);
	assert_int_equal(lv_xml_check("<domain>\n  <name>x</nome>\n</domain>", "domain", &f), VIREO_INVALID_XML);
	assert_non_null(strstr(f.message, "line 2, column 17"));
	assert_int_equal(lv_xml_check("<pool/>", "domain", &f), VIREO_INVALID_XML);
	assert_non_null(strstr(f.message, "<pool>"));
	assert_int_equal(lv_xml_check(NULL, "domain", &f), VIREO_INVALID_XML);
	assert_int_equal(lv_xml_check("<!DOCTYPE domain><domain/>", "domain", &f), VIREO_INVALID_XML);
	failure_clear(&f);
}

static void test_words(void **state)
{
	assert_string_equal(lv_state_reason(VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_STARTING_UP), "starting up");
	assert_string_equal(lv_state_reason(VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY_FAILED), "post-copy failed");
	assert_string_equal(lv_state_reason(VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_POSTCOPY_FAILED), "post-copy failed");
	assert_string_equal(lv_state_reason(VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_DAEMON), "daemon");
	/* what a newer libvirt may say */
	assert_string_equal(lv_state_reason(VIR_DOMAIN_PAUSED, 99), "unknown");
	assert_string_equal(lv_state_reason(99, 0), "unknown");
	assert_string_equal(lv_state_reason(-1, -1), "unknown");
	assert_int_equal(lv_lifecycle(KIND_DOMAIN, 99)->cause, CAUSE_NONE);
	assert_int_equal(lv_lifecycle(KIND_DOMAIN, -1)->cause, CAUSE_NONE);
	assert_int_equal(lv_lifecycle(KIND_DOMAIN, VIR_DOMAIN_EVENT_CRASHED)->cause, CAUSE_CRASHED);
	assert_string_equal(lv_word(&lv_lifecycle(KIND_DOMAIN, VIR_DOMAIN_EVENT_SUSPENDED)->details,
				    VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED),
			    "postcopy-failed");
	assert_string_equal(lv_lifecycle(KIND_POOL, VIR_STORAGE_POOL_EVENT_CREATED)->event, "Built");
	assert_int_equal(lv_lifecycle(KIND_NETWORK, VIR_NETWORK_EVENT_STOPPED)->cause, CAUSE_STOPPED);
}

static void test_errors(void **state)
{
	static const struct {
		virError e;
		enum vireo_error error;
	} cases[] = {
		{{.code = VIR_ERR_NO_DOMAIN}, VIREO_NOT_FOUND},
		{{.code = VIR_ERR_NO_STORAGE_VOL}, VIREO_NOT_FOUND},
		{{.code = VIR_ERR_OPERATION_INVALID}, VIREO_INVALID_STATE},
		{{.code = VIR_ERR_OPERATION_INVALID, .message = (char *)"domain with name 'b' already exists"}, VIREO_ALREADY_EXISTS},
		{{.code = VIR_ERR_OPERATION_ABORTED}, VIREO_CANCELLED},
		{{.code = VIR_ERR_NO_SUPPORT}, VIREO_NOT_SUPPORTED},
		{{.code = VIR_ERR_XML_DETAIL}, VIREO_INVALID_XML},
		{{.code = VIR_ERR_INTERNAL_ERROR, .domain = VIR_FROM_RPC}, VIREO_DISCONNECTED},
		{{.code = VIR_ERR_INTERNAL_ERROR, .domain = VIR_FROM_QEMU}, VIREO_OPERATION_FAILED},
		{{.code = VIR_ERR_SYSTEM_ERROR, .domain = VIR_FROM_STORAGE}, VIREO_OPERATION_FAILED},
		{{.code = VIR_ERR_OPERATION_FAILED, .message = (char *)"operation failed: domain 'x' already exists with uuid 0"},
		 VIREO_ALREADY_EXISTS},
		{{.code = VIR_ERR_OPERATION_FAILED, .message = (char *)"operation failed: storage vol already exists"}, VIREO_ALREADY_EXISTS},
		{{.code = VIR_ERR_OPERATION_FAILED, .message = (char *)"operation failed: else"}, VIREO_OPERATION_FAILED},
		{{.code = VIR_ERR_INTERNAL_ERROR, .domain = VIR_FROM_TEST, .message = (char *)"internal error: domain 'test' not running"},
		 VIREO_INVALID_STATE},
		{{.code = VIR_ERR_INTERNAL_ERROR, .domain = VIR_FROM_TEST, .message = (char *)"internal error: domain 'test' not paused"},
		 VIREO_INVALID_STATE},
		{{.code = VIR_ERR_INTERNAL_ERROR, .domain = VIR_FROM_QEMU, .message = (char *)"internal error: process exited: not running"},
		 VIREO_OPERATION_FAILED},
		{{.code = VIR_ERR_INVALID_ARG, .domain = VIR_FROM_QEMU, .message = (char *)"invalid argument: disk 'vdz' not found in domain"},
		 VIREO_NOT_FOUND},
		{{.code = VIR_ERR_INVALID_ARG}, VIREO_INVALID_ARGS},
		{{.code = 9999}, VIREO_OPERATION_FAILED},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++)
		assert_int_equal(lv_error_map(&cases[i].e), cases[i].error);
	assert_int_equal(lv_error_map(NULL), VIREO_OPERATION_FAILED);
}

/* ---- cancelled while the loop is behind --------------------------------------------------------------------- */

struct heard {
	unsigned progress, results, others;
	enum vireo_error error;
};

static void hear(struct queue_item *item, void *userdata)
{
	struct report *r = (struct report *)item;
	struct heard *h = userdata;

	if (r->type == REPORT_PROGRESS) {
		h->progress++;
		assert_int_equal(h->results, 0);
	} else if (r->type == REPORT_RESULT) {
		h->results++;
		h->error = r->result.failure.error;
	} else
		h->others++;
	report_free(r);
}

static void unheard(struct queue_item *item)
{
	report_free((struct report *)item);
}

/* The queue is full, so whoever tells of the operation waits for the loop; the loop cancels it, and must not wait for him. */
static void test_cancel_while_told(void **state)
{
	static const struct queue_ops ops = {.item = hear, .drop = unheard};
	struct driver_connection c = {.refs = 2, .users = 2, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
	struct request *r = calloc(1, sizeof(*r));
	struct heard heard = {0};
	struct clock *clock;
	struct queue *queue;
	sd_event *event;
	struct lv_op *op;

	assert_int_equal(sd_event_new(&event), 0);
	assert_int_equal(clock_new(event, &clock), 0);
	assert_int_equal(queue_new(event, &ops, &heard, 1, 8, &queue), 0);
	assert_int_equal(driver_host_new(queue, event, clock, NULL, &heard, &c.host), 0);
	assert_int_equal(workers_new("test", 1, &c.controllers), 0);
	*r = (struct request){.operation = OP_DOMAIN_SAVE, .token = 7, .fd = -1};
	op = lv_op_new(&c, r, REPORT_RESULT);
	assert_non_null(op);
	op->follow = LV_FOLLOW_QUEUE;
	op->cancellable = true;
	lv_op_link(&c, op);
	driver_host_post(c.host, report_new(REPORT_GOODBYE));
	lv_poll_operations(&c);
	while (pthread_mutex_trylock(&op->telling) == 0) {
		pthread_mutex_unlock(&op->telling);
		sched_yield();
	}
	alarm(60);
	lv_cancel(&c, 7);
	alarm(0);
	while (heard.results == 0)
		assert_true(sd_event_run(event, 20 * USEC_PER_SEC) > 0);
	assert_int_equal(heard.progress, 1);
	assert_int_equal(heard.error, VIREO_CANCELLED);
	/* the worker that comes round to it at last has nothing to do, and nothing is said twice */
	assert_false(lv_take_up(op));
	lv_op_finish(&c, op);
	workers_close(c.controllers, NULL);
	assert_int_equal(workers_wait_all(20 * USEC_PER_SEC), 0);
	queue_drain(queue);
	assert_int_equal(heard.results, 1);
	assert_int_equal(heard.others, 1);
	queue_close(queue);
	driver_host_unref(c.host);
	queue_unref(queue);
	clock_free(clock);
	sd_event_unref(event);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claim),	      cmocka_unit_test(test_domain_xml),
		cmocka_unit_test(test_sparse_domain_xml), cmocka_unit_test(test_odd_numbers),
		cmocka_unit_test(test_hostile_xml),   cmocka_unit_test(test_other_xml),
		cmocka_unit_test(test_disks),	      cmocka_unit_test(test_check),
		cmocka_unit_test(test_words),	      cmocka_unit_test(test_errors),
		cmocka_unit_test(test_cancel_while_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
