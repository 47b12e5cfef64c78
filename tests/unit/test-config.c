/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/config.h"

static int read_text(const char *text, struct config *c, struct failure *f)
{
	char path[] = "/tmp/vireo-config-XXXXXX";
	int fd = mkstemp(path), r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	r = config_read(c, path, true, f);
	unlink(path);
	return r;
}

static void everything_is_understood(void **state)
{
	struct config c = {.broadcast = true};
	struct failure f = {0};

	assert_int_equal(read_text("# a comment\n"
				   "[broker]\n"
				   "StateDirectory=/srv/vireo\n"
				   "Broadcast = no\n"
				   "PollInterval=1500ms\n"
				   "ResyncInterval=1h 30min\n"
				   "IdleExit=never\n"
				   "[history]\n"
				   "MaxEvents=5000\nMaxAge=2days\nMaxBytes=1.5G\n"
				   "[connection farm]\nURI=qemu+ssh://root@farm/system\n"
				   "[connection test]\nURI=test:///default\n"
				   "[limits]\nStreams=3\nBytes=2M\n"
				   "[view web ops]\nDomains=web-*  www\nDomains=x\nConnections=farm\n",
				   &c, &f),
			 0);
	assert_string_equal(c.state_directory, "/srv/vireo");
	assert_false(c.broadcast);
	assert_int_equal(c.idle_exit, 0);
	assert_int_equal(c.broker.poll_interval, 1500000);
	assert_true(c.broker.resync_interval == 5400 * USEC_PER_SEC);
	assert_int_equal(c.broker.history.max_events, 5000);
	assert_true(c.broker.history.max_age == 2 * 86400 * USEC_PER_SEC);
	assert_int_equal(c.broker.history.max_bytes, 3u << 29);
	assert_int_equal(c.n_connections, 2);
	assert_string_equal(c.connections[0].label, "farm");
	assert_string_equal(c.connections[0].uri, "qemu+ssh://root@farm/system");
	assert_int_equal(c.max_streams, 3);
	assert_int_equal(c.max_polls, 0);
	assert_int_equal(c.max_bytes, 2 << 20);
	assert_int_equal(c.n_views, 1);
	assert_string_equal(c.views[0].group, "web ops");
	assert_string_equal(c.views[0].patterns[KIND_DOMAIN][0], "web-*");
	assert_string_equal(c.views[0].patterns[KIND_DOMAIN][1], "www");
	assert_string_equal(c.views[0].patterns[KIND_DOMAIN][2], "x");
	assert_null(c.views[0].patterns[KIND_DOMAIN][3]);
	assert_string_equal(c.views[0].patterns[KIND_CONNECTION][0], "farm");
	assert_null(c.views[0].patterns[KIND_POOL]);
	config_clear(&c);
}

static void mistakes_are_named(void **state)
{
	static const struct {
		const char *text, *says;
	} table[] = {
		{"[broker]\nBroadcast=maybe\n", ":2: Broadcast=maybe is not understood: expected yes or no"},
		{"[broker]\n\nColour=red\n", ":3: section [broker] has no key “Colour”"},
		{"[brocker]\nBroadcast=no\n", ":1: there is no section [brocker]"},
		{"[history]\nMaxAge=soon\n", ":2: MaxAge=soon is not understood: expected a time"},
		{"[history]\nMaxBytes=-5\n", ":2: MaxBytes=-5 is not understood: expected a size"},
		{"[history]\nMaxEvents=1e400\n", ":2: MaxEvents="},
		{"[broker]\nPollInterval=1us\n", "at least 100ms"},
		{"[broker]\nStateDirectory=here\n", "an absolute path"},
		{"[broker]\nwhat\n", ":2: not a line of"},
		{"[connection]\nURI=test:///default\n", "[connection LABEL]"},
		{"[connection a]\nUri=test:///default\n", "has no key “Uri”"},
		{"[broker\nBroadcast=no\n", ":1: a section's name ends with “]”"},
		{"URI=test:///default\n", ":1: “URI” stands before the first section"},
		{"[connection a]\n[broker]\n", "[connection a] lacks URI="},
		{"[connection a]\nURI=test:///default\n[connection b]\nURI=sim:///demo\n[connection  a]\nURI=sim:///empty\n",
		 ":5: [connection a] stands twice"},
		{"[connection a]\nURI=test:///default\nURI=sim:///demo\n", ":3: [connection a] has a second URI"},
		/* would mean the default, not nothing */
		{"[history]\nMaxEvents=0\n", ":2: MaxEvents=0 is not understood: expected a number of at least 1"},
		{"[history]\nMaxAge=0\n", ":2: MaxAge=0 is not understood"},
		{"[history]\nMaxBytes=0\n", ":2: MaxBytes=0 is not understood"},
		{"[brocker]\n", ":1: there is no section [brocker]"},
		{"[view]\n", "[view GROUP]"},
		{"[broker]\nBroadcast=no\nColour=red\nBroadcast=maybe\n", ":3: section [broker] has no key “Colour”"},
	};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		struct config c = {0};
		struct failure f = {0};

		assert_int_equal(read_text(table[i].text, &c, &f), VIREO_INVALID_OPTION);
		if (!strstr(f.message, table[i].says))
			fail_msg("%s: “%s” does not say “%s”", table[i].text, f.message, table[i].says);
		failure_clear(&f);
		config_clear(&c);
	}
}

static void a_missing_file_matters_when_it_was_named(void **state)
{
	struct config c = {0};
	struct failure f = {0};

	assert_int_equal(config_read(&c, "/nonexistent/vireo.conf", false, &f), 0);
	assert_int_equal(config_read(&c, "/nonexistent/vireo.conf", true, &f), VIREO_INVALID_OPTION);
	assert_non_null(strstr(f.message, "/nonexistent/vireo.conf"));
	failure_clear(&f);
	assert_int_equal(config_read(&c, "/tmp", true, &f), VIREO_INVALID_OPTION);
	assert_non_null(strstr(f.message, "cannot read /tmp: Is a directory"));
	failure_clear(&f);
	/* without end */
	assert_int_equal(config_read(&c, "/dev/zero", true, &f), VIREO_INVALID_OPTION);
	assert_non_null(strstr(f.message, "/dev/zero:1: not text"));
	failure_clear(&f);
}

static void arguments_have_an_optional_label(void **state)
{
	static const struct {
		const char *argument, *label, *uri;
	} table[] = {
		{"test:///default", NULL, "test:///default"},
		{"lab=test:///default", "lab", "test:///default"},
		{"qemu:///system?socket=/run/x", NULL, "qemu:///system?socket=/run/x"},
		{"q=qemu:///system?socket=/run/x", "q", "qemu:///system?socket=/run/x"},
		{"sim:/tmp/a=b.json", NULL, "sim:/tmp/a=b.json"},
	};
	struct failure f = {0};
	struct config c = {0};

	for (size_t i = 0; i < ELEMENTS(table); i++) {
		assert_int_equal(config_add_connection(&c, table[i].argument, &f), 0);
		if (table[i].label)
			assert_string_equal(c.connections[i].label, table[i].label);
		else
			assert_null(c.connections[i].label);
		assert_string_equal(c.connections[i].uri, table[i].uri);
	}
	assert_int_equal(config_add_connection(&c, "=test:///default", &f), VIREO_INVALID_OPTION);
	assert_int_equal(config_add_connection(&c, "a=", &f), VIREO_INVALID_OPTION);
	assert_int_equal(config_add_connection(&c, "", &f), VIREO_INVALID_OPTION);
	failure_clear(&f);
	config_clear(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_understood),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(a_missing_file_matters_when_it_was_named),
		cmocka_unit_test(arguments_have_an_optional_label),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
