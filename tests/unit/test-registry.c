/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/driver.h"
#include "util/log.h"

static enum claim claim_alpha(const char *uri, char **ret_why)
{
	if (strncmp(uri, "alpha:", 6) != 0)
		return CLAIM_NOT_MINE;
	if (strcmp(uri, "alpha:bad") == 0) {
		*ret_why = strdup("it is bad at character 7.");
		return CLAIM_BROKEN;
	}
	return CLAIM_MINE;
}

/* Takes what alpha refuses as well: a claim beats a complaint. */
static enum claim claim_beta(const char *uri, char **ret_why)
{
	if (strncmp(uri, "beta", 4) == 0 || strcmp(uri, "alpha:both") == 0)
		return CLAIM_MINE;
	return CLAIM_NOT_MINE;
}

static int fake_open(const char *uri, struct driver_host *host, struct driver_connection **ret, struct failure *f)
{
	return -ENOSYS;
}

static void fake_close(struct driver_connection *c)
{
}

static void fake_list(struct driver_connection *c, uint64_t serial)
{
}

static void fake_look(struct driver_connection *c, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
}

static void fake_operate(struct driver_connection *c, struct request *r)
{
	request_free(r);
}

static const char *const alpha_uris[] = {"alpha:one", "alpha:two", NULL};
static const char *const beta_uris[] = {"beta:///x", "beta+ssh://host/x", NULL};
static const struct event_def alpha_events[] = {
	{KIND_DOMAIN, "Rebooted", NULL, "ALPHA_REBOOT"},
	{KIND_DOMAIN, "TrayChanged", "alias:s", "ALPHA_TRAY"},
	{},
};
static const struct event_def no_events[] = {{}};
static const enum operation alpha_operations[] = {OP_DOMAIN_START, OP_POOL_REFRESH, OP_NONE};
static const enum operation no_operations[] = {OP_NONE};

#define ALPHA                                                                                                \
	.api = DRIVER_API, .name = "alpha", .summary = "the first", .uris = alpha_uris, .events = alpha_events,  \
	.operations = alpha_operations,                                                                          \
	.causes = {[KIND_DOMAIN] = 1u << CAUSE_STARTED | 1u << CAUSE_PMSUSPENDED}, .claim = claim_alpha,         \
	.open = fake_open, .close = fake_close, .list = fake_list, .look = fake_look, .operate = fake_operate

static const struct driver alpha = {ALPHA};
static const struct driver beta = {
	.api = DRIVER_API,
	.name = "beta",
	.summary = "the second",
	.uris = beta_uris,
	.events = no_events,
	.operations = no_operations,
	.causes = {[KIND_NETWORK] = 1u << CAUSE_STOPPED},
	.claim = claim_beta,
	.open = fake_open,
	.close = fake_close,
	.list = fake_list,
	.look = fake_look,
};

static void test_refused(void **state)
{
	static const struct event_def bad_events[] = {{KIND_JOB, "Odd", NULL, NULL}, {}};
	static const enum operation bad_operations[] = {OP_MAX, OP_NONE};
	static const char *const no_uris[] = {NULL};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
	static const struct driver bad[] = {
		{ALPHA, .api = DRIVER_API + 1},
		{ALPHA, .name = NULL},
		{ALPHA, .name = ""},
		{ALPHA, .summary = NULL},
		{ALPHA, .uris = NULL},
		{ALPHA, .uris = no_uris},
		{ALPHA, .events = NULL},
		{ALPHA, .events = bad_events},
		{ALPHA, .operations = NULL},
		{ALPHA, .operations = bad_operations},
		{ALPHA, .claim = NULL},
		{ALPHA, .open = NULL},
		{ALPHA, .close = NULL},
		{ALPHA, .list = NULL},
		{ALPHA, .look = NULL},
		{ALPHA, .operate = NULL},
	};
#pragma GCC diagnostic pop
	size_t before = registry_count();

	assert_int_equal(registry_add(NULL), -EINVAL);
	for (size_t i = 0; i < ELEMENTS(bad); i++)
		if (registry_add(&bad[i]) != -EINVAL)
			fail_msg("bad driver %zu was taken", i);
	assert_int_equal(registry_count(), before);
}

static void test_empty(void **state)
{
	struct failure f = {};
	const struct driver *d = NULL;

	assert_int_equal(registry_choose("alpha:one", &d, &f), VIREO_INVALID_URI);
	assert_null(d);
	assert_non_null(strstr(f.message, "none"));
	failure_clear(&f);
}

static void test_choose(void **state)
{
	static const struct driver twin = {ALPHA};
	struct failure f = {};
	const struct driver *d = NULL;

	assert_int_equal(registry_add(&alpha), 0);
	assert_int_equal(registry_add(&beta), 0);
	assert_int_equal(registry_add(&alpha), 0); /* the same once more is no mistake */
	assert_int_equal(registry_add(&twin), -EINVAL);
	assert_int_equal(registry_count(), 2);
	assert_ptr_equal(registry_get(0), &alpha);
	assert_ptr_equal(registry_get(1), &beta);
	assert_null(registry_get(2));

	assert_int_equal(registry_choose("alpha:one", &d, &f), 0);
	assert_ptr_equal(d, &alpha);
	assert_int_equal(registry_choose("beta:///", &d, &f), 0);
	assert_ptr_equal(d, &beta);
	assert_int_equal(f.error, VIREO_OK);

	d = NULL;
	assert_int_equal(registry_choose("alpha:bad", &d, &f), VIREO_INVALID_URI);
	assert_null(d);
	assert_int_equal(f.error, VIREO_INVALID_URI);
	assert_non_null(strstr(f.message, "alpha"));
	assert_non_null(strstr(f.message, "character 7"));

	assert_int_equal(registry_choose("gamma:///x", &d, &f), VIREO_INVALID_URI);
	assert_non_null(strstr(f.message, "gamma:///x"));
	assert_non_null(strstr(f.message, "alpha:, beta:, beta+ssh:"));
	assert_null(strstr(f.message, "alpha:, alpha:"));

	assert_int_equal(registry_choose("", &d, &f), VIREO_INVALID_URI);
	assert_int_equal(registry_choose(NULL, &d, &f), VIREO_INVALID_URI);
	assert_null(d);
	failure_clear(&f);
}

static void assert_line(const char *text, const char *member, const char *expected)
{
	const char *line = strstr(text, member);

	if (!line)
		fail_msg("'%s' is nowhere in:\n%s", member, text);

	_cleanup_(freep) char *copy = strndup(line, strcspn(line, "\n"));

	if (!strstr(copy, expected))
		fail_msg("expected '%s' in: %s", expected, copy);
}

static void test_describe(void **state)
{
	_cleanup_(freep) char *text = registry_describe();

	assert_non_null(text);
	assert_line(text, "alpha: ", "the first");
	assert_non_null(strstr(text, "alpha:two"));
	assert_non_null(strstr(text, "beta+ssh://host/x"));
	assert_line(text, "Domain events ", "Started PMSuspended");
	assert_line(text, "TrayChanged ", "alias:s");
	assert_line(text, "TrayChanged ", "ALPHA_TRAY");
	assert_line(text, "StoragePool operations ", "Refresh");
	/* the matrix has every operation, and each driver's column */
	assert_line(text, "Domain.Start ", "yes      -");
	assert_line(text, "Domain.Started ", "yes      -");
	assert_line(text, "Network.Stopped ", "-        yes");
	for (int i = OP_NONE + 1; i < OP_MAX; i++) {
		char member[96];

		snprintf(member, sizeof(member), "%s.%s ", operation_table[i].interface, operation_table[i].method);
		assert_line(text, member, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_describe),
	};

	log_set_target_name("null");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
