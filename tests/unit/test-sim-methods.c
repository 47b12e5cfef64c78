/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "drivers/sim/job.h"
#include "drivers/sim/sim-driver.h"
#include "sim-house.h"
#include "util/log.h"

/* Every method that changes something, on the simulated hypervisor: what is reported, what has become of it, what is refused. */

/* ---- the table ------------------------------------------------------------------------------------------------------- */

#define RUNNING "{'domains': [{'name': 'd', 'uuid': '5f2a3c1e-0000-4000-8000-000000000001', 'state': 'running', 'max-vcpus': 4}]}"
#define PAUSED "{'domains': [{'name': 'd', 'state': 'paused'}]}"
#define OFF "{'domains': [{'name': 'd', 'max-vcpus': 4, 'snapshots': 1}]}"
#define TRANSIENT "{'domains': [{'name': 'd', 'state': 'running', 'persistent': false}]}"
#define POOL                                                                                                      \
	"{'pools': [{'name': 'd', 'active': true, 'capacity': 1000000, 'volumes': "                               \
	"[{'name': 'v', 'capacity': 4096, 'allocation': 4096}, {'name': 'q', 'format': 'qcow2', 'capacity': 4096}]}]}"
#define DISK(file, target) "<disk type='file'><source file='" file "'/><target dev='" target "' bus='virtio'/></disk>"
#define KEYS "'do': 'overlay', 'domain': 'd', 'disk': 'vda', 'file': "
#define NO_SPACE "{'do': 'faults', 'space': false}"
#define MISSING "{'do': 'missing', 'path': '/gone'}"

static const struct {
	const char *scenario, *before;
	enum operation operation;
	const char *text, *text2;
	uint64_t number;
	const char *options, *story, *says;
} rows[] = {
	/* save */
	{RUNNING, NULL, OP_DOMAIN_SAVE, "/s", .story = "Suspended(paused) Stopped(saved) look[shutoff]! ok"},
	{PAUSED, NULL, OP_DOMAIN_SAVE, "/s", .story = "Stopped(saved) look[shutoff]! ok"},
	{TRANSIENT, NULL, OP_DOMAIN_SAVE, "/s", .story = "Suspended(paused) Stopped(saved) look[gone]! ok"},
	{RUNNING, "{'do': 'pmsuspend', 'domain': 'd'}", OP_DOMAIN_SAVE, "/s", .story = "Started(wakeup) Stopped(saved) look[shutoff]! ok"},
	{OFF, NULL, OP_DOMAIN_SAVE, "/s", .story = "look[shutoff]! error:InvalidState"},
	{RUNNING, NULL, OP_DOMAIN_SAVE, "s", .story = "look[running]! error:InvalidArgs", .says = "absolute"},
	{RUNNING, MISSING, OP_DOMAIN_SAVE, "/gone/s",
	 .story = "Suspended(paused) Resumed(unpaused) look[running]! error:OperationFailed", .says = "/gone/s"},
	{RUNNING, NULL, OP_DOMAIN_SAVE, "/s", .options = "{'xml': '<domain>\\n<name>d</nam>'}",
	 .story = "look[running]! error:InvalidXML", .says = "line 2, column "},
	{RUNNING, NULL, OP_DOMAIN_SAVE, "/s", .options = "{'xml': '<domain><name>e</name><memory>1024</memory></domain>'}",
	 .story = "look[running]! error:InvalidXML", .says = "another domain"},
	{RUNNING, NO_SPACE, OP_DOMAIN_SAVE, "/s", .story = "Suspended(paused) Resumed(unpaused) look[running]! error:OperationFailed",
	 .says = "No space left"},
	{RUNNING, NO_SPACE, OP_DOMAIN_MANAGED_SAVE, .story = "Suspended(paused) Resumed(unpaused) look[running]! error:OperationFailed"},
	/* restore */
	{OFF, NULL, OP_RESTORE_DOMAIN, "/nowhere", .story = "error:NotFound", .says = "/nowhere"},
	{OFF, NULL, OP_RESTORE_DOMAIN, "file", .story = "error:InvalidArgs"},
	/* dump */
	{RUNNING, NULL, OP_DOMAIN_DUMP, "/c", .story = "Suspended(paused) Resumed(unpaused) look[running]! ok"},
	{RUNNING, NULL, OP_DOMAIN_DUMP, "/c", .options = "{'live': true}", .story = "Suspended(paused) Resumed(unpaused) look[running]! ok"},
	{PAUSED, NULL, OP_DOMAIN_DUMP, "/c", .story = "look[paused]! ok"},
	{RUNNING, NULL, OP_DOMAIN_DUMP, "/c", .options = "{'crash': true}", .story = "Suspended(paused) Stopped(crashed) look[shutoff]! ok"},
	{RUNNING, NULL, OP_DOMAIN_DUMP, "/c", .options = "{'reset': true}",
	 .story = "Suspended(paused) Rebooted Resumed(unpaused) look[running]! ok"},
	{RUNNING, NULL, OP_DOMAIN_DUMP, "/c", .options = "{'format': 'win-dmp'}", .story = "look[running]! error:InvalidArgs"},
	{RUNNING, MISSING, OP_DOMAIN_DUMP, "/gone/c", .story = "look[running]! error:OperationFailed"},
	{OFF, NULL, OP_DOMAIN_DUMP, "/c", .story = "look[shutoff]! error:InvalidState"},
	/* undefine: what it must not lose silently */
	{OFF, NULL, OP_DOMAIN_UNDEFINE, .story = "look[shutoff]! error:InvalidState", .says = "snapshots"},
	{OFF, NULL, OP_DOMAIN_UNDEFINE, .options = "{'snapshots-metadata': true}", .story = "Undefined(removed) look[gone]! ok"},
	{"{'domains': [{'name': 'd', 'nvram': true}]}", NULL, OP_DOMAIN_UNDEFINE, .story = "look[shutoff]! error:InvalidState",
	 .says = "nvram"},
	{"{'domains': [{'name': 'd', 'nvram': true}]}", NULL, OP_DOMAIN_UNDEFINE, .options = "{'keep-nvram': true}",
	 .story = "Undefined(removed) look[gone]! ok"},
	{"{'domains': [{'name': 'd', 'checkpoints': 2}]}", NULL, OP_DOMAIN_UNDEFINE, .story = "look[shutoff]! error:InvalidState",
	 .says = "checkpoints"},
	/* memory and vCPUs */
	{OFF, NULL, OP_DOMAIN_SET_MEMORY, .number = 1000, .story = "look[shutoff]! error:InvalidArgs", .says = "1000"},
	{OFF, NULL, OP_DOMAIN_SET_MEMORY, .number = UINT64_C(1) << 40, .story = "look[shutoff]! error:InvalidArgs"},
	{OFF, NULL, OP_DOMAIN_SET_MEMORY, .number = UINT64_C(1) << 40, .options = "{'maximum': true}", .story = "look[shutoff]! ok"},
	{OFF, NULL, OP_DOMAIN_SET_MEMORY, .number = 1 << 20, .options = "{'live': true}", .story = "look[shutoff]! error:InvalidState"},
	{RUNNING, NULL, OP_DOMAIN_SET_MEMORY, .number = 1 << 20, .story = "BalloonChanged look[running]! ok"},
	{RUNNING, NULL, OP_DOMAIN_SET_MEMORY, .number = 1 << 20, .options = "{'config': true}", .story = "look[running]! ok"},
	{TRANSIENT, NULL, OP_DOMAIN_SET_MEMORY, .number = 1 << 20, .options = "{'config': true}",
	 .story = "look[running]! error:InvalidState"},
	{RUNNING, NULL, OP_DOMAIN_SET_MEMORY, .number = 1 << 30, .options = "{'live': true, 'maximum': true}",
	 .story = "look[running]! error:InvalidState"},
	{OFF, NULL, OP_DOMAIN_SET_VCPUS, .number = 4, .story = "look[shutoff]! ok"},
	{OFF, NULL, OP_DOMAIN_SET_VCPUS, .number = 5, .story = "look[shutoff]! error:InvalidArgs"},
	{OFF, NULL, OP_DOMAIN_SET_VCPUS, .number = 0, .story = "look[shutoff]! error:InvalidArgs"},
	{OFF, NULL, OP_DOMAIN_SET_VCPUS, .number = 5, .options = "{'maximum': true}", .story = "look[shutoff]! ok"},
	{RUNNING, NULL, OP_DOMAIN_SET_VCPUS, .number = 2, .options = "{'guest': true}", .story = "look[running]! error:NotSupported"},
	/* devices */
	{RUNNING, NULL, OP_DOMAIN_ATTACH_DEVICE, DISK("/x", "vdb"), .story = "DeviceAdded look[running]! ok"},
	{RUNNING, NULL, OP_DOMAIN_ATTACH_DEVICE, DISK("/x", "vda"), .story = "look[running]! error:AlreadyExists", .says = "vda"},
	{RUNNING, NULL, OP_DOMAIN_ATTACH_DEVICE, "<disk>\n<x></disk>", .story = "look[running]! error:InvalidXML", .says = "line 2, column "},
	{RUNNING, NULL, OP_DOMAIN_ATTACH_DEVICE, "<nonsense/>", .story = "look[running]! error:NotSupported", .says = "nonsense"},
	{RUNNING, MISSING, OP_DOMAIN_ATTACH_DEVICE, DISK("/gone/x", "vdb"), .story = "look[running]! error:OperationFailed",
	 .says = "/gone/x"},
	{OFF, NULL, OP_DOMAIN_ATTACH_DEVICE, DISK("/x", "vdb"), .story = "look[shutoff]! ok"},
	{OFF, NULL, OP_DOMAIN_ATTACH_DEVICE, DISK("/x", "vdb"), .options = "{'live': true}", .story = "look[shutoff]! error:InvalidState"},
	{TRANSIENT, NULL, OP_DOMAIN_ATTACH_DEVICE, DISK("/x", "vdb"), .options = "{'config': true}",
	 .story = "look[running]! error:InvalidState"},
	{OFF, NULL, OP_DOMAIN_DETACH_DEVICE, DISK("/x", "vdb"), .story = "look[shutoff]! error:NotFound"},
	{OFF, NULL, OP_DOMAIN_DETACH_DEVICE, DISK("/x", "vda"), .story = "look[shutoff]! ok"},
	{OFF, NULL, OP_DOMAIN_UPDATE_DEVICE, DISK("/x", "vdb"), .story = "look[shutoff]! error:NotFound"},
	{OFF, NULL, OP_DOMAIN_UPDATE_DEVICE, DISK("/x", "vda"), .story = "look[shutoff]! ok"},
	/* ways to ask */
	{RUNNING, NULL, OP_DOMAIN_REBOOT, .story = "Rebooted look[running]! ok"},
	/* block jobs */
	{OFF, NULL, OP_DOMAIN_BLOCK_PULL, "vda", .story = "look[shutoff]! error:InvalidState"},
	{RUNNING, NULL, OP_DOMAIN_BLOCK_PULL, "vdz", .story = "look[running]! error:NotFound", .says = "vdz"},
	{RUNNING, NULL, OP_DOMAIN_BLOCK_PULL, "vda", .story = "look[running]! ok"},
	{RUNNING, "{" KEYS "'/2'}", OP_DOMAIN_BLOCK_PULL, "vda", .options = "{'base': '/none'}", .story = "look[running]! error:InvalidArgs"},
	{RUNNING, NULL, OP_DOMAIN_BLOCK_COMMIT, "vda", .story = "look[running]! error:InvalidArgs", .says = "nothing below"},
	{RUNNING, "{" KEYS "'/2'}", OP_DOMAIN_BLOCK_COMMIT, "vda", .options = "{'pivot': true}", .story = "look[running]! ok"},
	{RUNNING, "[{" KEYS "'/2'}, {" KEYS "'/3'}]", OP_DOMAIN_BLOCK_COMMIT, "vda", .options = "{'top': 'vda[1]'}",
	 .story = "look[running]! ok"},
	{OFF, NULL, OP_DOMAIN_BLOCK_COMMIT, "vda", .story = "look[shutoff]! error:InvalidState"},
	{RUNNING, NULL, OP_DOMAIN_BLOCK_COPY, "vda", "<disk>\n</dis>", .story = "look[running]! error:InvalidXML", .says = "line 2, column "},
	{RUNNING, NULL, OP_DOMAIN_BLOCK_COPY, "vda", "<disk/>", .story = "look[running]! error:InvalidXML", .says = "source"},
	{RUNNING, MISSING, OP_DOMAIN_BLOCK_COPY, "vda", DISK("/gone/x", "vda"), .story = "look[running]! error:OperationFailed"},
	{RUNNING, NO_SPACE, OP_DOMAIN_BLOCK_COPY, "vda", DISK("/x", "vda"), .story = "look[running]! error:OperationFailed",
	 .says = "No space left"},
	{OFF, NULL, OP_DOMAIN_BLOCK_COPY, "vda", DISK("/x", "vda"), .story = "look[shutoff]! error:InvalidState"},
	{RUNNING, NULL, OP_DOMAIN_BLOCK_COPY, "vda", DISK("/x", "vda"), .options = "{'pivot': true}", .story = "look[running]! ok"},
	/* migration, before it has begun */
	{RUNNING, NULL, OP_DOMAIN_MIGRATE, "qemu:///system", .story = "look[running]! error:InvalidURI"},
	{RUNNING, NULL, OP_DOMAIN_MIGRATE, "sim:///no-such", .story = "look[running]! error:InvalidURI", .says = "no-such"},
	{RUNNING, NULL, OP_DOMAIN_MIGRATE, "sim:/nowhere/socket", .story = "look[running]! error:OperationFailed", .says = "/nowhere/socket"},
	{RUNNING, NULL, OP_DOMAIN_MIGRATE, "sim:///empty?world=there", .options = "{'tunnelled': true}",
	 .story = "look[running]! error:InvalidOption"},
	{RUNNING, NULL, OP_DOMAIN_MIGRATE, "sim:///empty?world=there", .options = "{'xml': '<domain>'}", .story = "look[running]! error:InvalidXML"},
	{OFF, NULL, OP_DOMAIN_MIGRATE, "sim:///empty?world=there", .story = "look[shutoff]! error:InvalidState"},
	{RUNNING, NULL, OP_DOMAIN_MIGRATE, "sim:///empty?world=there", .options = "{'offline': true}", .story = "look[running]! error:InvalidState"},
	/* volumes */
	{POOL, NULL, OP_POOL_CREATE_VOLUME, "<volume>\n<name>x</nam>", .story = "look[active]! error:InvalidXML", .says = "line 2, column "},
	{POOL, NULL, OP_POOL_CREATE_VOLUME, "<volume><name>v</name><capacity>1</capacity></volume>", .story = "look[active]! error:AlreadyExists"},
	{POOL, NULL, OP_POOL_CREATE_VOLUME,
	 "<volume><name>x</name><capacity>9</capacity><allocation unit='MB'>9</allocation></volume>",
	 .story = "look[active]! error:OperationFailed", .says = "No space left"},
	{POOL, NULL, OP_POOL_CLONE_VOLUME, "none", "x", .story = "look[active]! error:NotFound", .says = "none"},
	{POOL, NULL, OP_POOL_CLONE_VOLUME, "v", "q", .story = "look[active]! error:AlreadyExists"},
	{POOL, NULL, OP_POOL_CLONE_VOLUME, "v", "x", .story = "look[active]! ok"},
	{POOL, NULL, OP_POOL_CLONE_VOLUME, "v", "x", .options = "{'xml': '<volume><name>y</name><capacity>1</capacity></volume>'}",
	 .story = "look[active]! error:InvalidXML"},
	{POOL, NULL, OP_POOL_CLONE_VOLUME, "v", "x", .options = "{'pool': '/no/pool'}", .story = "look[active]! error:InvalidOption"},
	{POOL, NO_SPACE, OP_POOL_CLONE_VOLUME, "v", "x", .story = "look[active]! error:OperationFailed"},
	{POOL, NULL, OP_POOL_RESIZE_VOLUME, "v", .number = 1, .story = "look[active]! error:InvalidArgs", .says = "shrink"},
	{POOL, NULL, OP_POOL_RESIZE_VOLUME, "v", .number = 1, .options = "{'shrink': true}", .story = "look[active]! ok"},
	{POOL, NULL, OP_POOL_RESIZE_VOLUME, "none", .number = 1, .story = "look[active]! error:NotFound"},
	{POOL, NULL, OP_POOL_RESIZE_VOLUME, "v", .number = 1 << 30, .options = "{'allocate': true}",
	 .story = "look[active]! error:OperationFailed"},
	{POOL, NULL, OP_POOL_WIPE_VOLUME, "v", .story = "look[active]! ok"},
	{POOL, NULL, OP_POOL_WIPE_VOLUME, "none", .story = "look[active]! error:NotFound"},
	{POOL, NULL, OP_POOL_DELETE_VOLUME, "v", .story = "look[active]! ok"},
	{POOL, NULL, OP_POOL_DELETE_VOLUME, "none", .story = "look[active]! error:NotFound"},
	{POOL, NULL, OP_POOL_UPLOAD_VOLUME, "v", .story = "look[active]! error:InvalidArgs", .says = "descriptor"},
	{POOL, NULL, OP_POOL_UPLOAD_VOLUME, "none", .story = "look[active]! error:NotFound"},
	{POOL, NULL, OP_POOL_DOWNLOAD_VOLUME, "v", .story = "look[active]! error:InvalidArgs"},
	{POOL, "{'do': 'stop', 'pool': 'd'}", OP_POOL_CLONE_VOLUME, "v", "x", .story = "look[inactive]! error:InvalidState"},
	{POOL, "{'do': 'stop', 'pool': 'd'}", OP_POOL_UPLOAD_VOLUME, "v", .story = "look[inactive]! error:InvalidState"},
	/* pools: a folder that is not there, and is made */
	{"{'pools': [{'name': 'd', 'path': '/gone/p'}], 'missing': ['/gone/p']}", NULL, OP_POOL_START,
	 .story = "look[inactive]! error:OperationFailed", .says = "/gone/p"},
	{"{'pools': [{'name': 'd', 'path': '/gone/p'}], 'missing': ['/gone/p']}", "{'do': 'build', 'pool': 'd'}", OP_POOL_START,
	 .story = "Started look[active]! ok"},
	{"{'pools': [{'name': 'd', 'path': '/gone/p'}], 'missing': ['/gone/p']}", NULL, OP_POOL_START, .options = "{'build': true}",
	 .story = "Started look[active]! ok"},
	/* a disk that is not there */
	{"{'domains': [{'name': 'd', 'xml': '<domain><name>d</name><memory>1024</memory><devices><disk><source file=\\'/gone\\'/>"
	 "</disk></devices></domain>'}], 'missing': ['/gone']}",
	 NULL, OP_DOMAIN_START, .story = "look[shutoff]! error:OperationFailed", .says = "/gone"},
};

static void test_rows(void **state)
{
	for (size_t i = 0; i < ELEMENTS(rows); i++) {
		_cleanup_(freep) char *what = NULL, *scenario = strdup(rows[i].scenario);
		struct sim_kit *k;
		const struct result *r;
		bool made = operation_table[rows[i].operation].kind == KIND_CONNECTION;

		/* a quote within a quoted string */
		for (char *p; (p = strstr(scenario, "\\'"));)
			memmove(p, p + 1, strlen(p)), *p = '\x01';
		for (char *p = scenario; *p; p++)
			*p = *p == '\'' ? '"' : *p == '\x01' ? '\'' : *p;
		k = kit_open_scenario(scenario);
		kit_until_hello(k);
		pthread_mutex_lock(&kit_world(k)->lock);
		kit_world(k)->guest_delay = 3600 * USEC_PER_SEC;
		pthread_mutex_unlock(&kit_world(k)->lock);
		if (rows[i].before)
			house_steps(k, rows[i].before);
		kit_settle(k);
		kit_clear(k);
		assert_true(asprintf(&what, "row %zu: %s %s %s with %s", i, operation_table[rows[i].operation].method,
				     rows[i].text ? rows[i].text : "", rows[i].options ? rows[i].options : "", rows[i].scenario) > 0);
		r = kit_operate_request(k, house_request(k, rows[i].operation, made ? NULL : "d", rows[i].text, rows[i].text2,
						   rows[i].number, rows[i].options));
		house_expect(k, what, rows[i].story, true);
		if (rows[i].says && (!r->failure.message || !strstr(r->failure.message, rows[i].says)))
			fail_msg("%s: '%s' should say '%s'", what, r->failure.message, rows[i].says);
		/* whatever was refused has left nothing that listing would not find */
		house_steps(k, "{'do': 'wait-jobs'}");
		kit_assert_listed_truth(k);
		kit_close(k);
	}
}

/* Every operation of the contract is there, and announced. */
static void test_supported(void **state)
{
	struct sim_kit *k = house_open("{}");

	for (enum operation op = OP_NONE + 1; op < OP_MAX; op++) {
		_cleanup_(freep) char *name = NULL;
		bool found = false;

		assert_true(asprintf(&name, "%s.%s", operation_table[op].interface, operation_table[op].method) > 0);
		for (char **o = kit_hello(k)->operations; *o; o++)
			found = found || strcmp(*o, name) == 0;
		if (!found)
			fail_msg("%s is not announced", name);
	}
	kit_close(k);
}

/* ---- effects --------------------------------------------------------------------------------------------------------- */

static const struct result *operate(struct sim_kit *k, enum operation op, const char *name, const char *text, const char *text2,
				    const char *options)
{
	kit_clear(k);
	return kit_operate_request(k, house_request(k, op, name, text, text2, 0, options));
}

static char *xml_of(struct sim_kit *k, const char *name, const char *options)
{
	const struct result *r = operate(k, OP_DOMAIN_GET_XML, name, NULL, NULL, options);

	assert_int_equal(r->failure.error, VIREO_OK);
	return strdup(r->text);
}

static void expect_xml(struct sim_kit *k, const char *options, const char *has, bool wanted)
{
	_cleanup_(freep) char *xml = xml_of(k, "d", options);

	if ((strstr(xml, has) != NULL) != wanted)
		fail_msg("%s should%s be in: %s", has, wanted ? "" : " not", xml);
}

static void test_save_restore(void **state)
{
	struct sim_kit *k = house_open(RUNNING);

	operate(k, OP_DOMAIN_SAVE, "d", "/s", NULL, NULL);
	operate(k, OP_RESTORE_DOMAIN, NULL, "/s", NULL, NULL);
	house_expect(k, "restore", "Started(restored) Resumed(from-snapshot) look[running]! ok", true);
	/* it is there already */
	operate(k, OP_RESTORE_DOMAIN, NULL, "/s", NULL, NULL);
	house_expect(k, "restore what runs", "error:InvalidState", true);
	/* the file stays, and the domain need not */
	operate(k, OP_DOMAIN_DESTROY, "d", NULL, NULL, NULL);
	operate(k, OP_DOMAIN_UNDEFINE, "d", NULL, NULL, NULL);
	operate(k, OP_RESTORE_DOMAIN, NULL, "/s", NULL, "{'paused': true}");
	house_expect(k, "restore paused", "Started(restored) Suspended(restored) look[paused]! ok", true);
	operate(k, OP_DOMAIN_DESTROY, "d", NULL, NULL, NULL);
	/* its name is somebody else's now */
	house_steps(k, "{'do': 'add', 'domain': {'name': 'd'}}");
	kit_settle(k);
	operate(k, OP_RESTORE_DOMAIN, NULL, "/s", NULL, NULL);
	house_expect(k, "restore beside a namesake", "error:AlreadyExists", true);
	house_steps(k, "{'do': 'undefine', 'domain': 'd'}");
	kit_close(k);

	/* saved paused, it is paused again, unless it is to run; managed likewise */
	k = house_open(PAUSED);
	operate(k, OP_DOMAIN_SAVE, "d", "/s", NULL, NULL);
	operate(k, OP_RESTORE_DOMAIN, NULL, "/s", NULL, NULL);
	house_expect(k, "restore what was paused", "Started(restored) Suspended(restored) look[paused]! ok", true);
	operate(k, OP_DOMAIN_MANAGED_SAVE, "d", NULL, NULL, "{'running': true}");
	operate(k, OP_DOMAIN_START, "d", NULL, NULL, NULL);
	house_expect(k, "start from a managed save", "Started(restored) Resumed(from-snapshot) look[running]! ok", true);
	operate(k, OP_DOMAIN_MANAGED_SAVE, "d", NULL, NULL, "{'paused': true}");
	operate(k, OP_DOMAIN_START, "d", NULL, NULL, NULL);
	house_expect(k, "start from a managed save, paused", "Started(restored) Suspended(restored) look[paused]! ok", true);
	kit_close(k);
}

static void test_configuration(void **state)
{
	struct sim_kit *k = house_open(RUNNING);

	/* the run, the configuration, or both */
	operate(k, OP_DOMAIN_ATTACH_DEVICE, "d", DISK("/x", "vdb"), NULL, NULL);
	expect_xml(k, NULL, "/x", true);
	expect_xml(k, NULL, "virtio-disk1", true);
	expect_xml(k, "{'inactive': true}", "/x", false);
	operate(k, OP_DOMAIN_ATTACH_DEVICE, "d", DISK("/y", "vdc"), NULL, "{'live': true, 'config': true}");
	expect_xml(k, NULL, "/y", true);
	expect_xml(k, "{'inactive': true}", "/y", true);
	operate(k, OP_DOMAIN_UPDATE_DEVICE, "d", DISK("/z", "vdc"), NULL, "{'config': true}");
	expect_xml(k, NULL, "/y", true);
	expect_xml(k, "{'inactive': true}", "/z", true);
	/* the guest lets it go a moment later */
	operate(k, OP_DOMAIN_DETACH_DEVICE, "d", DISK("/x", "vdb"), NULL, NULL);
	house_steps(k, "{'do': 'wait-guests'}");
	kit_settle(k);
	assert_non_null(strstr(kit_trace(k), "DeviceRemoved"));
	expect_xml(k, NULL, "/x", false);
	/* both, or none of them: the run has it, the configuration does not */
	operate(k, OP_DOMAIN_DETACH_DEVICE, "d", DISK("/y", "vdc"), NULL, "{'config': true}");
	operate(k, OP_DOMAIN_DETACH_DEVICE, "d", DISK("/y", "vdc"), NULL, "{'live': true, 'config': true}");
	house_expect(k, "detach from both", "look[running]! error:NotFound", true);
	house_steps(k, "{'do': 'wait-guests'}");
	kit_settle(k);
	expect_xml(k, NULL, "/y", true);

	kit_clear(k);
	kit_operate_request(k, house_request(k, OP_DOMAIN_SET_VCPUS, "d", NULL, NULL, 3, "{'config': true}"));
	expect_xml(k, "{'inactive': true}", "current=\"3\">4</vcpu>", true);
	expect_xml(k, NULL, "current=\"3\"", false);
	kit_clear(k);
	kit_operate_request(k, house_request(k, OP_DOMAIN_SET_MEMORY, "d", NULL, NULL, 64 << 20, "{'config': true}"));
	expect_xml(k, "{'inactive': true}", "65536</currentMemory>", true);
	kit_close(k);
}

static void test_layers(void **state)
{
	struct sim_kit *k = house_open(RUNNING);

	house_steps(k, "[{" KEYS "'/2'}, {" KEYS "'/3'}, {" KEYS "'/4'}]");
	/* 4 on 3 on 2 on the first: the middle is committed into the one below */
	operate(k, OP_DOMAIN_BLOCK_COMMIT, "d", "vda", NULL, "{'top': '/3', 'shallow': true}");
	house_expect(k, "commit", "look[running]! ok", true);
	expect_xml(k, NULL, "/3", false);
	expect_xml(k, NULL, "/2", true);
	/* and pulled up */
	operate(k, OP_DOMAIN_BLOCK_PULL, "d", "vda", NULL, NULL);
	expect_xml(k, NULL, "/2", false);
	expect_xml(k, NULL, "backingStore", false);
	expect_xml(k, "{'inactive': true}", "/4", true);
	operate(k, OP_DOMAIN_BLOCK_COPY, "d", "vda", DISK("/5", "vda"), "{'pivot': true}");
	expect_xml(k, NULL, "/5", true);
	expect_xml(k, "{'inactive': true}", "/5", true);
	/* the top: it has to be switched over */
	house_steps(k, "{" KEYS "'/6'}");
	operate(k, OP_DOMAIN_BLOCK_COMMIT, "d", "vda", NULL, "{'pivot': true}");
	expect_xml(k, NULL, "/6", false);
	expect_xml(k, NULL, "/5", true);
	kit_close(k);
}

/* ---- volumes --------------------------------------------------------------------------------------------------------- */

#define MIB ((size_t)1 << 20)

static int temporary_file(void)
{
	char path[] = "/tmp/vireo-test-volume-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd > 2);
	unlink(path);
	return fd;
}

static char *pattern(size_t n, unsigned seed)
{
	char *data = malloc(n);

	for (size_t i = 0; i < n; i++)
		data[i] = (char)((i * 2654435761u + seed) >> 13);
	return data;
}

static const struct result *transfer(struct sim_kit *k, enum operation op, const char *volume, int fd, const char *options)
{
	struct request *r = house_request(k, op, "p", volume, NULL, 0, options);

	r->fd = dup(fd);
	kit_clear(k);
	return kit_operate_request(k, r);
}

static void expect_file(int fd, const char *data, size_t n)
{
	_cleanup_(freep) char *got = malloc(n + 1);

	assert_int_equal(pread(fd, got, n + 1, 0), n);
	assert_memory_equal(got, data, n);
}

static void test_transfers(void **state)
{
	struct sim_kit *k = house_open("{'pools': [{'name': 'p', 'active': true, 'volumes': [{'name': 'v', 'capacity': 4194304}]}]}");
	_cleanup_(freep) char *data = pattern(4 * MIB, 1);
	int in = temporary_file(), out = temporary_file();
	const struct result *r;

	assert_int_equal(pwrite(in, data, 4 * MIB, 0), 4 * MIB);
	r = transfer(k, OP_POOL_UPLOAD_VOLUME, "v", in, NULL);
	assert_int_equal(r->failure.error, VIREO_OK);
	r = operate(k, OP_POOL_LIST_VOLUMES, "p", NULL, NULL, NULL);
	assert_int_equal(r->volumes[0].allocation, 4 * MIB);
	/* what was uploaded is what comes back */
	r = transfer(k, OP_POOL_DOWNLOAD_VOLUME, "v", out, NULL);
	assert_int_equal(r->failure.error, VIREO_OK);
	expect_file(out, data, 4 * MIB);
	/* a part of it */
	assert_int_equal(ftruncate(out, 0), 0);
	lseek(out, 0, SEEK_SET);
	r = transfer(k, OP_POOL_DOWNLOAD_VOLUME, "v", out, "{'offset': 1048576, 'length': 1000}");
	assert_int_equal(r->failure.error, VIREO_OK);
	expect_file(out, data + MIB, 1000);
	/* a clone has it too; once wiped there is nothing but zeroes */
	r = operate(k, OP_POOL_CLONE_VOLUME, "p", "v", "w", NULL);
	assert_int_equal(r->failure.error, VIREO_OK);
	r = operate(k, OP_POOL_WIPE_VOLUME, "p", "v", NULL, NULL);
	assert_int_equal(r->failure.error, VIREO_OK);
	assert_int_equal(ftruncate(out, 0), 0);
	lseek(out, 0, SEEK_SET);
	transfer(k, OP_POOL_DOWNLOAD_VOLUME, "w", out, NULL);
	expect_file(out, data, 4 * MIB);
	lseek(out, 0, SEEK_SET);
	transfer(k, OP_POOL_DOWNLOAD_VOLUME, "v", out, NULL);
	memset(data, 0, 4 * MIB);
	expect_file(out, data, 4 * MIB);

	/* more than there is room for; less than was said; no room at all */
	lseek(in, 0, SEEK_SET);
	r = transfer(k, OP_POOL_UPLOAD_VOLUME, "v", in, "{'offset': 1}");
	assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
	lseek(in, 0, SEEK_SET);
	r = transfer(k, OP_POOL_UPLOAD_VOLUME, "v", in, "{'length': 4194305}");
	assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
	house_steps(k, NO_SPACE);
	lseek(in, 0, SEEK_SET);
	r = transfer(k, OP_POOL_UPLOAD_VOLUME, "v", in, NULL);
	assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
	assert_non_null(strstr(r->failure.message, "No space left"));
	close(in);
	close(out);
	kit_close(k);
}

/* What is in volumes is in memory, and that has an end. */
static void test_storage(void **state)
{
	struct sim_kit *k = house_open("{'storage': 3145728, 'pools': [{'name': 'p', 'active': true, 'volumes': "
				       "[{'name': 'v', 'capacity': 2097152}, {'name': 'u', 'capacity': 2097152}]}]}");
	_cleanup_(freep) char *data = pattern(2 * MIB, 3);
	int in = temporary_file();
	const struct result *r;

	assert_int_equal(pwrite(in, data, 2 * MIB, 0), 2 * MIB);
	assert_int_equal(transfer(k, OP_POOL_UPLOAD_VOLUME, "v", in, NULL)->failure.error, VIREO_OK);
	lseek(in, 0, SEEK_SET);
	r = transfer(k, OP_POOL_UPLOAD_VOLUME, "u", in, NULL);
	assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
	assert_non_null(strstr(r->failure.message, "No space left"));
	operate(k, OP_POOL_WIPE_VOLUME, "p", "u", NULL, NULL);
	r = operate(k, OP_POOL_CLONE_VOLUME, "p", "v", "w", NULL);
	assert_int_equal(r->failure.error, VIREO_OPERATION_FAILED);
	assert_non_null(strstr(r->failure.message, "No space left"));
	/* a clone that failed is not there; and what is wiped makes room */
	assert_int_equal(operate(k, OP_POOL_LIST_VOLUMES, "p", NULL, NULL, NULL)->n_volumes, 2);
	operate(k, OP_POOL_WIPE_VOLUME, "p", "v", NULL, NULL);
	lseek(in, 0, SEEK_SET);
	assert_int_equal(transfer(k, OP_POOL_UPLOAD_VOLUME, "u", in, NULL)->failure.error, VIREO_OK);
	close(in);
	kit_close(k);
}

static void test_holes(void **state)
{
	struct sim_kit *k = house_open("{'pools': [{'name': 'p', 'active': true, 'volumes': [{'name': 'v', 'capacity': 1099511627776}]}]}");
	int in = temporary_file(), out = temporary_file();
	_cleanup_(freep) char *data = pattern(MIB, 7), *got = malloc(MIB);
	const struct result *r;

	/* a terabyte, of which two megabytes are there: without holes this would take for ever */
	assert_int_equal(ftruncate(in, (off_t)1 << 40), 0);
	assert_int_equal(pwrite(in, data, MIB, (off_t)1 << 30), MIB);
	assert_int_equal(pwrite(in, data, MIB, ((off_t)1 << 40) - (off_t)MIB), MIB);
	r = transfer(k, OP_POOL_UPLOAD_VOLUME, "v", in, "{'sparse': true}");
	assert_int_equal(r->failure.error, VIREO_OK);
	r = transfer(k, OP_POOL_DOWNLOAD_VOLUME, "v", out, "{'sparse': true}");
	assert_int_equal(r->failure.error, VIREO_OK);
	assert_true(lseek(out, 0, SEEK_END) == (off_t)1 << 40);
	assert_int_equal(pread(out, got, MIB, (off_t)1 << 30), MIB);
	assert_memory_equal(got, data, MIB);
	assert_int_equal(pread(out, got, MIB, ((off_t)1 << 40) - (off_t)MIB), MIB);
	assert_memory_equal(got, data, MIB);
	assert_true(lseek(out, 0, SEEK_DATA) == (off_t)1 << 30);
	close(in);
	close(out);
	kit_close(k);
}

static bool has_progress(struct sim_kit *k, void *data)
{
	return strstr(kit_trace(k), "progress");
}

/* A client that never reads, and one that never writes. */
static void test_cancelled_transfers(void **state)
{
	struct sim_kit *k = house_open("{'pools': [{'name': 'p', 'active': true, 'volumes': [{'name': 'v', 'capacity': 4194304}]}]}");

	for (int i = 0; i < 2; i++) {
		struct request *r = house_request(k, i ? OP_POOL_UPLOAD_VOLUME : OP_POOL_DOWNLOAD_VOLUME, "p", "v", NULL, 0, NULL);
		int ends[2];
		uint64_t token;

		assert_int_equal(pipe(ends), 0);
		r->fd = dup(ends[i ? 0 : 1]);
		kit_clear(k);
		token = kit_begin(k, r);
		kit_until(k, has_progress, NULL);
		sim_driver.cancel(kit_connection(k), token);
		assert_int_equal(kit_result(k, token)->failure.error, VIREO_CANCELLED);
		close(ends[0]);
		close(ends[1]);
	}
	/* the other end has gone */
	struct request *r = house_request(k, OP_POOL_DOWNLOAD_VOLUME, "p", "v", NULL, 0, NULL);
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	r->fd = ends[1];
	close(ends[0]);
	assert_int_equal(kit_operate_request(k, r)->failure.error, VIREO_OPERATION_FAILED);
	kit_close(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),	      cmocka_unit_test(test_supported), cmocka_unit_test(test_save_restore),
		cmocka_unit_test(test_configuration), cmocka_unit_test(test_layers),	cmocka_unit_test(test_transfers),
		cmocka_unit_test(test_storage),	      cmocka_unit_test(test_holes),	      cmocka_unit_test(test_cancelled_transfers),
	};

	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
