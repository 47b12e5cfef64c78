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
#include "util/log.h"

/*
 * stories URI TYPE DIRECTORY [FAR [MIGRATE-URI]] - the story of every method, as libvirt with QEMU tells it
 *
 * One table, for every hypervisor that claims to behave like that: the real one (tests/live/driver.py), and the simulated one. Each
 * row is done on the object of the rows before it. DIRECTORY is one that the hypervisor may write to; there the disks of the
 * domain have to be: disk.qcow2, on base.qcow2, and more.qcow2. FAR is another hypervisor, which sees the same directory.
 */

static const char *uri, *type, *directory, *far, *migrate_uri;

struct row {
	enum operation operation;
	const char *text, *text2; /* %D: the directory; %X: the description of the domain */
	const char *options;	  /* "paused live name=other" */
	enum vireo_error error;
	const char *story;
	const char *says; /* what the error has to mention */
	uint64_t number;
};

#define DISK(file, target) \
	"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%D/" file "'/>" \
	"<target dev='" target "' bus='virtio'/></disk>"
#define NO(op, ...) {op, .error = VIREO_INVALID_STATE, ##__VA_ARGS__}

static const struct row domain_rows[] = {
	{OP_DEFINE_DOMAIN, "<domain>\n<name>x</nam>", .error = VIREO_INVALID_XML, .says = "line 2, column "},
	{OP_DEFINE_DOMAIN, "<network/>", .error = VIREO_INVALID_XML},
	{OP_DEFINE_DOMAIN, "%X", .story = "Defined(added)"},
	{OP_DEFINE_DOMAIN, "%X", .story = "Defined(updated)"},
	NO(OP_DOMAIN_SHUTDOWN), NO(OP_DOMAIN_REBOOT), NO(OP_DOMAIN_RESET), NO(OP_DOMAIN_DESTROY), NO(OP_DOMAIN_SUSPEND),
	NO(OP_DOMAIN_RESUME), NO(OP_DOMAIN_PMWAKEUP), NO(OP_DOMAIN_MANAGED_SAVE), NO(OP_DOMAIN_SAVE, .text = "%D/save"),
	NO(OP_DOMAIN_DUMP, .text = "%D/core"), NO(OP_DOMAIN_BLOCK_PULL, .text = "vda"),
	NO(OP_DOMAIN_BLOCK_COPY, .text = "vda", .text2 = DISK("copy.qcow2", "vda"), .options = "transient"),
	NO(OP_DOMAIN_ATTACH_DEVICE, .text = DISK("more.qcow2", "vdb"), .options = "live"),
	{OP_RESTORE_DOMAIN, "%D/none", .error = VIREO_NOT_FOUND, .says = "none"},
	{OP_RESTORE_DOMAIN, "none", .error = VIREO_INVALID_ARGS},

	{OP_DOMAIN_START, .story = "Resumed(unpaused) Started(booted)"},
	NO(OP_DOMAIN_START), NO(OP_DOMAIN_RESUME), NO(OP_DOMAIN_RENAME, .text = "other"), NO(OP_CREATE_DOMAIN, .text = "%X"),
	{OP_DOMAIN_SUSPEND, .story = "Suspended(paused)"},
	{OP_DOMAIN_RESUME, .story = "Resumed(unpaused)"},
	{OP_DOMAIN_RESET, .story = "Rebooted"},
	{OP_DOMAIN_DUMP, "%D/core", .story = "Suspended(paused) Resumed(unpaused)"},
	{OP_DOMAIN_DUMP, "%D/core", .options = "live", .story = "Suspended(paused) Resumed(unpaused)"},
	{OP_DOMAIN_DUMP, "%D/core", .options = "memory-only", .story = "Suspended(paused) Resumed(unpaused)"},
	{OP_DOMAIN_DUMP, "core", .error = VIREO_INVALID_ARGS},
	{OP_DOMAIN_DUMP, "/no/such/folder/core", .error = VIREO_OPERATION_FAILED, .story = "*"},
	{OP_DOMAIN_SAVE, "save", .error = VIREO_INVALID_ARGS},
	{OP_DOMAIN_SAVE, "/no/such/folder/save", .error = VIREO_OPERATION_FAILED, .story = "Suspended(paused) Resumed(unpaused)"},

	{OP_DOMAIN_SAVE, "%D/save", .story = "Suspended(paused) Stopped(saved)"},
	{OP_RESTORE_DOMAIN, "%D/save", .story = "Started(restored) Resumed(from-snapshot)"},
	NO(OP_RESTORE_DOMAIN, .text = "%D/save"),
	{OP_DOMAIN_DESTROY, .story = "Stopped(destroyed)"},
	{OP_RESTORE_DOMAIN, "%D/save", .options = "paused", .story = "Started(restored) Suspended(restored)"},
	{OP_DOMAIN_SAVE, "%D/save", .story = "Stopped(saved)"},
	{OP_RESTORE_DOMAIN, "%D/save", .story = "Started(restored) Suspended(restored)"},
	{OP_DOMAIN_RESUME, .story = "Resumed(unpaused)"},
	{OP_DOMAIN_MANAGED_SAVE, .story = "Suspended(paused) Stopped(saved)"},
	NO(OP_DOMAIN_UNDEFINE),
	{OP_DOMAIN_START, .story = "Started(restored) Resumed(from-snapshot)"},
	{OP_DOMAIN_MANAGED_SAVE, .options = "paused", .story = "Suspended(paused) Stopped(saved)"},
	{OP_DOMAIN_START, .story = "Started(restored) Suspended(restored)"},
	{OP_DOMAIN_RESUME, .story = "Resumed(unpaused)"},
	{OP_DOMAIN_MANAGED_SAVE, .story = "Suspended(paused) Stopped(saved)"},
	{OP_DOMAIN_MANAGED_SAVE_REMOVE, .story = ""},
	{OP_DOMAIN_START, .options = "paused", .story = "Started(booted) Suspended(paused)"},
	{OP_DOMAIN_RESUME, .story = "Resumed(unpaused)"},

	{OP_DOMAIN_ATTACH_DEVICE, "<disk>\n</dis>", .error = VIREO_INVALID_XML, .says = "line 2, column "},
	{OP_DOMAIN_ATTACH_DEVICE, "<nonsense/>", .error = VIREO_NOT_SUPPORTED},
	{OP_DOMAIN_ATTACH_DEVICE, DISK("more.qcow2", "vdb"), .story = "DeviceAdded"},
	{OP_DOMAIN_SET_VCPUS, .number = 0, .error = VIREO_INVALID_ARGS},
	{OP_DOMAIN_SET_VCPUS, .number = 99, .error = VIREO_INVALID_ARGS},
	{OP_DOMAIN_SET_MEMORY, .number = 1000, .error = VIREO_INVALID_ARGS},
	{OP_DOMAIN_SET_MEMORY, .number = 8 << 20, .options = "config", .story = ""},

	{OP_DOMAIN_BLOCK_COPY, "vda", "<disk>\n</dis>", .error = VIREO_INVALID_XML, .says = "line 2, column "},
	{OP_DOMAIN_BLOCK_COPY, "vda", DISK("copy.qcow2", "vda"), "transient pivot", .story = ""},
	{OP_DOMAIN_BLOCK_PULL, "vda", .story = ""},
	{OP_DOMAIN_BLOCK_PULL, "vdz", .error = VIREO_NOT_FOUND, .says = "vdz"},

	{OP_DOMAIN_UNDEFINE, .story = "Undefined(removed)"},
	NO(OP_DOMAIN_MANAGED_SAVE), NO(OP_DOMAIN_UNDEFINE),
	{OP_DOMAIN_DESTROY, .story = "Stopped(destroyed)"},
	{OP_DOMAIN_START, .error = VIREO_NOT_FOUND},
	{OP_CREATE_DOMAIN, "%X", .options = "paused", .story = "Started(booted) Suspended(paused)"},
	{OP_DOMAIN_DESTROY, .story = "Stopped(destroyed)"},
	{OP_CREATE_DOMAIN, "%X", .story = "Resumed(unpaused) Started(booted)"},
	{OP_DOMAIN_SAVE, "%D/save", .story = "Suspended(paused) Stopped(saved)"},
	{OP_RESTORE_DOMAIN, "%D/save", .story = "Started(restored) Resumed(from-snapshot)"},
	{OP_DOMAIN_DUMP, "%D/core", .options = "crash", .story = "Suspended(paused) Stopped(crashed)"},
	{OP_DEFINE_DOMAIN, "%X", .story = "Defined(added)"},
	{OP_DOMAIN_RENAME, "told", .story = "Undefined(renamed) Defined(renamed)"},
	{OP_DOMAIN_UNDEFINE, .story = "Undefined(removed)"},
};

static const struct row pool_rows[] = {
	{OP_DEFINE_POOL, "<pool>\n<name>x</nam>", .error = VIREO_INVALID_XML, .says = "line 2, column "},
	{OP_DEFINE_POOL, "%X", .story = "Defined"},
	NO(OP_POOL_STOP), NO(OP_POOL_REFRESH),
	NO(OP_POOL_CREATE_VOLUME, .text = "<volume><name>v</name><capacity>1048576</capacity></volume>"),
	{OP_POOL_BUILD, .story = "Built"},
	{OP_POOL_START, .story = "Started"},
	NO(OP_POOL_START), NO(OP_POOL_UNDEFINE), NO(OP_POOL_DELETE),
	{OP_POOL_CREATE_VOLUME, "<volume>\n</vol>", .error = VIREO_INVALID_XML, .says = "line 2, column "},
	{OP_POOL_CREATE_VOLUME, "<volume><name>v</name><capacity>1048576</capacity></volume>", .story = ""},
	{OP_POOL_CREATE_VOLUME, "<volume><name>v</name><capacity>1048576</capacity></volume>", .error = VIREO_ALREADY_EXISTS},
	{OP_POOL_CLONE_VOLUME, "v", "w", .story = ""},
	{OP_POOL_CLONE_VOLUME, "v", "w", .error = VIREO_ALREADY_EXISTS},
	{OP_POOL_CLONE_VOLUME, "none", "x", .error = VIREO_NOT_FOUND},
	{OP_POOL_RESIZE_VOLUME, "w", .number = 2 << 20, .story = ""},
	{OP_POOL_RESIZE_VOLUME, "w", .number = 1 << 20, .error = VIREO_INVALID_ARGS},
	{OP_POOL_WIPE_VOLUME, "w", .story = ""},
	{OP_POOL_WIPE_VOLUME, "none", .error = VIREO_NOT_FOUND},
	{OP_POOL_REFRESH, .story = "Refreshed"},
	{OP_POOL_DELETE_VOLUME, "v", .story = ""},
	{OP_POOL_DELETE_VOLUME, "v", .error = VIREO_NOT_FOUND},
	{OP_POOL_DELETE_VOLUME, "w", .story = ""},
	{OP_POOL_STOP, .story = "Stopped"},
	{OP_POOL_DELETE, .story = "Deleted"},
	{OP_POOL_UNDEFINE, .story = "Undefined"},
};

/* ---- playing them ----------------------------------------------------------------------------------------- */

static char *replace(const char *text, const char *what, const char *with)
{
	char *copy = strdup(text);

	for (char *at; (at = strstr(copy, what));) {
		char *longer = NULL;

		assert_true(asprintf(&longer, "%.*s%s%s", (int)(at - copy), copy, with, at + strlen(what)) > 0);
		free(copy);
		copy = longer;
	}
	return copy;
}

static char *expand(const char *text, const char *xml)
{
	_cleanup_(freep) char *once = text ? replace(text, "%X", xml) : NULL;

	return once ? replace(once, "%D", directory) : NULL;
}

static struct vdict *flags(const char *words)
{
	_cleanup_(freep) char *copy = strdup(words ? words : "");
	struct vdict *d = vdict_new();
	char *save = NULL;

	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		char *value = strchr(w, '=');

		if (!value)
			vdict_set_b(d, w, true);
		else {
			*value = '\0';
			vdict_set_s(d, w, value + 1);
		}
	}
	return d;
}

static void play_row(struct rig *r, const struct row *row, size_t i, enum kind kind, sd_id128_t uuid, const char *xml)
{
	const struct operation_def *def = &operation_table[row->operation];
	_cleanup_(freep) char *text = expand(row->text, xml), *text2 = expand(row->text2, xml), *told = NULL, *name = NULL;
	sd_id128_t none = SD_ID128_NULL;
	struct rig_result *k;

	assert_true(asprintf(&name, "row %zu: %s(%.60s) %s", i, def->method, text ? text : "", row->options ? row->options : "") > 0);
	k = rig_wait(r, rig_ask_all(r, row->operation, def->kind, def->kind == KIND_CONNECTION ? none : uuid, text, text2,
				    row->number, flags(row->options)));
	told = rig_told(r, kind, uuid);
	if (k->failure.error != row->error)
		fail_msg("%s: error %d (%s) instead of %d", name, k->failure.error,
			 k->failure.message ? k->failure.message : "none", row->error);
	if (row->says && !strstr(k->failure.message, row->says))
		fail_msg("%s: '%s' does not mention '%s'", name, k->failure.message, row->says);
	/* "*": as the hypervisor likes */
	if ((!row->story || strcmp(row->story, "*") != 0) && strcmp(told, row->story ? row->story : "") != 0)
		fail_msg("%s: the story is '%s' instead of '%s'", name, told, row->story ? row->story : "");
}

static void play(const struct row *rows, size_t n, enum kind kind, const char *shape)
{
	static struct rig r;
	sd_id128_t uuid = SD_ID128_MAKE(70, 1d, 5f, 2a, 3c, 1e, 40, 00, 80, 00, 00, 00, 00, 00, 00, 01);
	_cleanup_(freep) char *typed = replace(shape, "%T", type), *xml = replace(typed, "%D", directory);

	rig_open(&r, uri);
	rig_until_hello(&r);
	rig_list(&r);
	for (size_t i = 0; i < n; i++)
		play_row(&r, &rows[i], i, kind, uuid, xml);
	assert_int_equal(rig_look(&r, kind, uuid), LOOK_GONE);
	rig_free(&r);
}

#define DOMAIN \
	"<domain type='%T'><name>teller</name><uuid>701d5f2a-3c1e-4000-8000-000000000001</uuid>" \
	"<memory unit='KiB'>16384</memory><vcpu>1</vcpu><os><type machine='pc'>hvm</type></os><features><acpi/></features>" \
	"<devices>" DISK("disk.qcow2", "vda") "</devices></domain>"

static void test_domain(void **state)
{
	play(domain_rows, ELEMENTS(domain_rows), KIND_DOMAIN, DOMAIN);
}

/* ---- from one to another ---------------------------------------------------------------------------------- */

/* What is done here or there, and what each of them tells. */
static const struct move {
	bool there; /* it is done there: from there to here, if it is a migration */
	enum operation operation;
	const char *options;
	enum vireo_error error;
	const char *here, *far;
} moves[] = {
	{false, OP_DEFINE_DOMAIN, .here = "Defined(added)"},
	{false, OP_DOMAIN_MIGRATE, "live", VIREO_INVALID_STATE},
	{false, OP_DOMAIN_START, .here = "Resumed(unpaused) Started(booted)"},
	{false, OP_DOMAIN_MIGRATE, "live unsafe persistent", .here = "Suspended(migrated) Stopped(migrated)",
	 .far = "Started(migrated) Defined(added) Resumed(migrated)"},
	/* back, where it is known already; there it is gone without a word */
	{true, OP_DOMAIN_MIGRATE, "live unsafe undefine-source", .here = "Started(migrated) Resumed(migrated)",
	 .far = "Suspended(migrated) Stopped(migrated)"},
	/* not running meanwhile; and not afterwards */
	{false, OP_DOMAIN_MIGRATE, "unsafe paused", .here = "Suspended(migrated) Stopped(migrated)",
	 .far = "Started(migrated) Suspended(paused)"},
	{true, OP_DOMAIN_RESUME, .far = "Resumed(unpaused)"},
	{true, OP_DOMAIN_MIGRATE, "live unsafe", .here = "Started(migrated) Resumed(migrated)",
	 .far = "Suspended(migrated) Stopped(migrated)"},
	/* it is there already, as another one */
	{true, OP_DEFINE_DOMAIN, "namesake", .far = ""},
	{false, OP_DOMAIN_MIGRATE, "live unsafe", VIREO_ALREADY_EXISTS},
	{true, OP_DOMAIN_UNDEFINE, "namesake", .far = ""},
	{false, OP_DOMAIN_DESTROY, .here = "Stopped(destroyed)"},
	{false, OP_DOMAIN_UNDEFINE, .here = "Undefined(removed)"},
};

/* Settled: all that was reported has come. */
static void expect_told(struct rig *r, sd_id128_t uuid, size_t i, const char *where, const char *story)
{
	_cleanup_(freep) char *told = NULL;

	rig_look(r, KIND_DOMAIN, uuid);
	told = rig_told(r, KIND_DOMAIN, uuid);
	if (strcmp(told, story ? story : "") != 0)
		fail_msg("move %zu: the story %s is '%s' instead of '%s'", i, where, told, story ? story : "");
}

static void test_migration(void **state)
{
	static struct rig here, there;
	sd_id128_t uuid = SD_ID128_MAKE(70, 1d, 5f, 2a, 3c, 1e, 40, 00, 80, 00, 00, 00, 00, 00, 00, 01), other = uuid;
	_cleanup_(freep) char *typed = replace(DOMAIN, "%T", type), *xml = replace(typed, "%D", directory);
	_cleanup_(freep) char *namesake = replace(xml, "000000000001<", "000000000002<");

	if (!far)
		skip();
	other.bytes[15] = 2;
	rig_open(&here, uri);
	rig_until_hello(&here);
	rig_open(&there, far);
	rig_until_hello(&there);
	rig_list(&here);
	rig_list(&there);
	for (size_t i = 0; i < ELEMENTS(moves); i++) {
		const struct move *m = &moves[i];
		bool migrates = m->operation == OP_DOMAIN_MIGRATE, defines = m->operation == OP_DEFINE_DOMAIN;
		bool is_other = m->options && strcmp(m->options, "namesake") == 0;
		struct rig *r = m->there ? &there : &here;
		struct vdict *options = flags(is_other ? NULL : m->options);
		struct rig_result *k;

		if (migrates && migrate_uri)
			vdict_set_s(options, "migrate-uri", migrate_uri);
		k = rig_wait(r, rig_ask_all(r, m->operation, operation_table[m->operation].kind,
					    defines ? SD_ID128_NULL : is_other ? other : uuid,
					    migrates ? (m->there ? uri : far) : defines ? (is_other ? namesake : xml) : NULL, NULL, 0,
					    options));
		if (k->failure.error != m->error)
			fail_msg("move %zu: error %d (%s) instead of %d", i, k->failure.error,
				 k->failure.message ? k->failure.message : "none", m->error);
		expect_told(&here, uuid, i, "here", m->here);
		expect_told(&there, uuid, i, "there", m->far);
	}
	assert_int_equal(rig_look(&here, KIND_DOMAIN, uuid), LOOK_GONE);
	rig_close(&there);
	rig_free(&here);
	rig_free(&there);
}


static void test_pool(void **state)
{
	play(pool_rows, ELEMENTS(pool_rows), KIND_POOL,
	     "<pool type='dir'><name>teller</name><uuid>701d5f2a-3c1e-4000-8000-000000000001</uuid>"
	     "<target><path>%D/pool</path></target></pool>");
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_domain, rig_teardown),
		cmocka_unit_test_teardown(test_pool, rig_teardown),
		cmocka_unit_test_teardown(test_migration, rig_teardown),
	};

	if (argc < 4 || argc > 6) {
		fprintf(stderr, "Usage: stories URI TYPE DIRECTORY [FAR [MIGRATE-URI]]\n");
		return 2;
	}
	uri = argv[1];
	type = argv[2];
	directory = argv[3];
	far = argc > 4 ? argv[4] : NULL;
	migrate_uri = argc > 5 ? argv[5] : NULL;
	log_set_level_name("warning");
	registry_add_builtin();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
