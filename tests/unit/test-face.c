/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of the face can be shown without a bus: options, filters, URIs, what is private, how large things are. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "introspection/face.h"

/* ---- a bus that leads nowhere: messages need one to be made ---------------------------------------------------- */

static sd_bus *bus;
static int far_end = -1;

static int setup(void **state)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	far_end = fds[1];
	assert_true(sd_bus_new(&bus) >= 0);
	assert_true(sd_bus_set_fd(bus, fds[0], fds[0]) >= 0);
	assert_true(sd_bus_start(bus) >= 0);
	return 0;
}

static int teardown(void **state)
{
	sd_bus_close_unref(bus);
	close(far_end);
	return 0;
}

static sd_bus_message *new_message(void)
{
	sd_bus_message *m;

	assert_true(sd_bus_message_new_signal(bus, &m, "/a", "a.b", "C") >= 0);
	return m;
}

static void seal(sd_bus_message *m)
{
	assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
	assert_true(sd_bus_message_rewind(m, true) >= 0);
}

/* ---- options -------------------------------------------------------------------------------------------------- */

static const struct option_def defs[] = {
	{"flag", "b"},
	{"other", "b", .not_with = "flag word"},
	{"number", "t", .min = 5, .max = 10},
	{"count", "u"},
	{"word", "s", .words = "one two"},
	{"words", "as", .words = "one two"},
	{"path", "o"},
	{"paths", "ao"},
	{"rate", "d"},
	{"signed", "x"},
	{"int", "i"},
	{NULL},
};
static const struct option_def more[] = {{"async", "b"}, {NULL}};

/* Reads what was appended to @m; says what came of it. */
static int read_options(sd_bus_message *m, struct vdict **ret, struct failure *f)
{
	int r;

	seal(m);
	r = options_read(m, defs, more, ret, f);
	sd_bus_message_unref(m);
	return r;
}

static void assert_refused(sd_bus_message *m, const char *key)
{
	struct vdict *v = NULL;
	struct failure f = {0};

	assert_int_equal(read_options(m, &v, &f), VIREO_INVALID_OPTION);
	assert_null(v);
	assert_non_null(strstr(f.message, key));
	failure_clear(&f);
}

#define MESSAGE(...)                                                                                         \
	({                                                                                                   \
		sd_bus_message *_m = new_message();                                                          \
		assert_true(sd_bus_message_append(_m, "a{sv}", __VA_ARGS__) >= 0);                           \
		_m;                                                                                          \
	})

static void options_of_every_type(void **state)
{
	sd_bus_message *m = MESSAGE(10, "flag", "b", 1, "number", "t", UINT64_C(7), "count", "u", 3u, "word", "s", "two",
				    "words", "as", 2, "one", "two", "path", "o", "/x", "paths", "ao", 1, "/y/z", "rate", "d",
				    2.5, "signed", "x", INT64_C(-4), "async", "b", 0);
	struct vdict *v = NULL;
	struct failure f = {0};

	assert_int_equal(read_options(m, &v, &f), 0);
	assert_int_equal(v->n, 10);
	assert_true(vdict_b(v, "flag", false));
	assert_false(vdict_b(v, "async", true));
	assert_int_equal(vdict_t(v, "number", 0), 7);
	assert_int_equal(vdict_u(v, "count", 0), 3);
	assert_string_equal(vdict_s(v, "word", ""), "two");
	assert_string_equal(vdict_s(v, "path", ""), "/x");
	assert_string_equal(vdict_get(v, "paths")->a[0], "/y/z");
	assert_string_equal(vdict_get(v, "words")->a[1], "two");
	assert_true(vdict_get(v, "rate")->d == 2.5);
	assert_int_equal(vdict_get(v, "signed")->x, -4);
	vdict_free(v);
}

static void options_refused_by_name(void **state)
{
	assert_refused(MESSAGE(1, "flags", "b", 1), "“flags”");
	assert_refused(MESSAGE(1, "", "b", 1), "“”");
	assert_refused(MESSAGE(2, "flag", "b", 1, "flag", "b", 1), "“flag” is given twice");
	assert_refused(MESSAGE(1, "flag", "s", "true"), "“flag”");
	assert_refused(MESSAGE(1, "number", "u", 7u), "“number”");
	assert_refused(MESSAGE(1, "number", "t", UINT64_C(4)), "“number”");
	assert_refused(MESSAGE(1, "number", "t", UINT64_C(11)), "“number”");
	assert_refused(MESSAGE(1, "word", "s", "three"), "“word”");
	assert_refused(MESSAGE(1, "word", "s", "one two"), "“word”");
	assert_refused(MESSAGE(1, "word", "s", ""), "“word”");
	assert_refused(MESSAGE(1, "words", "as", 2, "one", "three"), "“words”");
	assert_refused(MESSAGE(1, "paths", "as", 1, "/x"), "“paths”");
	assert_refused(MESSAGE(2, "flag", "b", 1, "other", "b", 1), "“other”");
	assert_refused(MESSAGE(2, "word", "s", "one", "other", "b", 1), "“other”");
}

static void options_excluded_only_when_set(void **state)
{
	struct vdict *v = NULL;
	struct failure f = {0};

	assert_int_equal(read_options(MESSAGE(2, "flag", "b", 0, "other", "b", 1), &v, &f), 0);
	vdict_free(v);
	assert_int_equal(read_options(MESSAGE(2, "flag", "b", 1, "other", "b", 0), &v, &f), 0);
	vdict_free(v);
}

static void options_of_a_method_without(void **state)
{
	sd_bus_message *m = MESSAGE(1, "x", "b", 1);
	struct vdict *v = NULL;
	struct failure f = {0};

	seal(m);
	assert_int_equal(options_read(m, NULL, NULL, &v, &f), VIREO_INVALID_OPTION);
	assert_non_null(strstr(f.message, "“x”"));
	failure_clear(&f);
	sd_bus_message_unref(m);
}

/* ---- filters --------------------------------------------------------------------------------------------------- */

static const struct option_def filter_defs[] = {
	{"kinds", "as"}, {"connections", "ao"}, {"objects", "ao"}, {"events", "as"}, {"xml", "b"}, {NULL},
};

static int make_filter(sd_bus_message *m, struct filter **ret)
{
	_cleanup_(vdict_freep) struct vdict *v = NULL;
	struct failure f = {0};
	int r;

	seal(m);
	assert_int_equal(options_read(m, filter_defs, NULL, &v, &f), 0);
	r = filter_new(v, ret, &f);
	if (r > 0)
		assert_true(strlen(f.message) > 0);
	failure_clear(&f);
	sd_bus_message_unref(m);
	return r;
}

#define C1 "/org/vireo1/connection/c1"
#define C2 "/org/vireo1/connection/c11"

static void filters_match(void **state)
{
	struct filter *f;

	assert_int_equal(make_filter(MESSAGE(0), &f), 0);
	assert_true(filter_wants(f, KIND_DOMAIN, C1 "/domain/_1", C1));
	assert_true(filter_wants(f, KIND_JOB, "/org/vireo1/job/_1", "/"));
	assert_false(f->xml);
	filter_free(f);

	assert_int_equal(make_filter(MESSAGE(1, "kinds", "as", 2, "domain", "job"), &f), 0);
	assert_true(filter_wants(f, KIND_DOMAIN, C1 "/domain/_1", C1));
	assert_false(filter_wants(f, KIND_POOL, C1 "/pool/_1", C1));
	filter_free(f);

	/* A label that begins with another one; a job is of the connection of what it works on. */
	assert_int_equal(make_filter(MESSAGE(1, "connections", "ao", 1, C1), &f), 0);
	assert_true(filter_wants(f, KIND_CONNECTION, C1, C1));
	assert_true(filter_wants(f, KIND_JOB, "/org/vireo1/job/_1", C1 "/domain/_1"));
	assert_false(filter_wants(f, KIND_DOMAIN, C2 "/domain/_1", C2));
	assert_false(filter_wants(f, KIND_JOB, "/org/vireo1/job/_1", "/"));
	filter_free(f);

	assert_int_equal(make_filter(MESSAGE(2, "objects", "ao", 1, C1 "/domain/_1", "xml", "b", 1), &f), 0);
	assert_true(filter_wants(f, KIND_DOMAIN, C1 "/domain/_1", C1));
	assert_false(filter_wants(f, KIND_DOMAIN, C1 "/domain/_12", C1));
	assert_true(f->xml);
	filter_free(f);
}

static void filters_match_events(void **state)
{
	struct event *e = event_new(KIND_DOMAIN, C1 "/domain/_1", C1, "Started", "booted");
	struct event *p = event_new(KIND_POOL, C1 "/pool/_1", C1, "Started", "");
	struct filter *f;

	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 1, "Started"), &f), 0);
	assert_true(filter_wants_event(f, e));
	assert_true(filter_wants_event(f, p));
	filter_free(f);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 1, "Domain.Started"), &f), 0);
	assert_true(filter_wants_event(f, e));
	assert_false(filter_wants_event(f, p));
	filter_free(f);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 2, "Stopped", "org.vireo1.StoragePool.Started"), &f), 0);
	assert_false(filter_wants_event(f, e));
	filter_free(f);
	event_unref(e);
	event_unref(p);
}

static void filters_that_name_nothing(void **state)
{
	struct filter *f = NULL;

	assert_int_equal(make_filter(MESSAGE(1, "kinds", "as", 1, "domains"), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "kinds", "as", 0), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "objects", "ao", 0), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 0), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 2, "Started", "Nothing"), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 1, "Job.Started"), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 1, "Domain."), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 1, "Domain.Start"), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 1, "org.vireo1.Started"), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "events", "as", 1, ""), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "objects", "ao", 1, "/org/vireo2/x"), &f), VIREO_INVALID_OPTION);
	assert_int_equal(make_filter(MESSAGE(1, "connections", "ao", 1, "/org/vireo12"), &f), VIREO_INVALID_OPTION);
	assert_null(f);
}

/* ---- URIs -------------------------------------------------------------------------------------------------------- */

static void uris_anybody_may_open(void **state)
{
	static const char *const good[] = {
		"qemu:///system", "test:///default", "test:///tmp/file.xml", "sim:///demo", "sim:/path/scenario.json",
		"qmp:///run/vms", "qemu+ssh://root@host/system", "qemu+tls://host.example:16514/system?no_tty=1",
		"qemu+tcp://[::1]:16509/system", "qemu+unix:///system?mode=direct", "QEMU+LIBSSH2://host/system", "lxc:///",
		"sim:///100?flood=0&count=5",
	};

	for (size_t i = 0; i < ELEMENTS(good); i++) {
		struct failure f = {0};

		if (open_check_uri(good[i], &f) != 0)
			fail_msg("%s: %s", good[i], f.message);
	}
}

static void uris_only_for_the_configuration(void **state)
{
	static const char *const bad[] = {
		"qemu+ext:///system", "QEMU+EXT:///system?command=/bin/x", "qemu+ssh://host/system?command=/bin/x",
		"qemu+ssh://host/system?COMMAND=/bin/x", "qemu+ssh://host/system?no_tty=1&netcat=/bin/x",
		"qemu+ssh://host/system?no_tty=1;netcat=/bin/x", "qemu+ssh://host/system?ne%74cat=/bin/x",
		"qemu+ssh://host/system?proxy=native", "qemu+libssh2://host/system?keyfile=/root/.ssh/id",
		"qemu+tls://host/system?pkipath=/tmp", "qemu+tls://host/system?no_verify=1", "qemu+unix:///system?socket=/tmp/s",
		"qemu+ssh://host/system?name=qemu%2Bext:///system", "qemu+ssh://host/system?#?command=x&command=y",
		"qemu+new://host/", "sim:///1?control=/tmp/x", "qemu:///system?flood=1", "qemu+ssh://-oProxyCommand=x/system", "qemu+ssh://-x@host/system",
		"qemu+ssh://u:secret@host/system", "qemu+ssh://ho st/system", "qemu+ssh://%2doProxyCommand/system", "", ":///x",
		"nothing", "/etc/passwd",
	};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		struct failure f = {0};
		int r = open_check_uri(bad[i], &f);

		if (i == 13) { /* what stands behind # is no parameter */
			assert_int_equal(r, 0);
			continue;
		}
		if (r != VIREO_INVALID_URI)
			fail_msg("%s was accepted", bad[i]);
		assert_true(strlen(f.message) > 0);
		failure_clear(&f);
	}
}

/* ---- privacy and sizes ------------------------------------------------------------------------------------------- */

static struct event *rich_event(void)
{
	struct event *e = event_new(KIND_DOMAIN, C1 "/domain/_1", C1, "IOError", "enospc");

	e->version = 7;
	e->previous = 5;
	e->timestamp = 1234567;
	e->inferred = true;
	e->props = props_new(KIND_DOMAIN);
	e->details = vdict_new();
	vdict_set_s(e->details, "alias", "virtio-disk0");
	vdict_set_s(e->details, "path", "/srv/secret.img");
	vdict_set_s(e->details, "message", "internal error");
	vdict_set_s(e->details, "remote-address", "10.0.0.1");
	vdict_set_s(e->details, "cputune.vcpupin0", "1");
	vdict_set_t(e->details, "size", 99);
	vdict_set_b(e->details, "recursive", true);
	vdict_set_a(e->details, "list", (const char *const[]){"/etc", NULL});
	return e;
}

/* Keys of the a{sv} at hand, separated by spaces. */
static void read_keys(sd_bus_message *m, char *buf, size_t size)
{
	size_t n = 0;
	const char *key;

	buf[0] = 0;
	assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
	while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
		assert_true(sd_bus_message_read(m, "s", &key) > 0);
		n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? " " : "", key);
		assert_true(sd_bus_message_skip(m, "v") > 0);
		assert_true(sd_bus_message_exit_container(m) >= 0);
	}
}

static void secrets_are_not_broadcast(void **state)
{
	struct event *e = rich_event();
	sd_bus_message *m = new_message();
	char keys[400];

	assert_true(append_details(m, e, true) >= 0);
	seal(m);
	read_keys(m, keys, sizeof(keys));
	assert_string_equal(keys, "timestamp inferred alias cputune.vcpupin0 size recursive");
	sd_bus_message_unref(m);

	/* Who is authorised gets it all; the timestamp has a place of its own there. */
	m = new_message();
	assert_true(append_details(m, e, false) >= 0);
	seal(m);
	read_keys(m, keys, sizeof(keys));
	assert_string_equal(keys, "inferred alias path message remote-address cputune.vcpupin0 size recursive list");
	sd_bus_message_unref(m);
	event_unref(e);
}

static int rewind_and_measure(sd_bus_message *m, size_t *ret)
{
	/* sd-bus tells nobody how large a message is; copying it out as bytes of the wire's rules does. */
	size_t bytes = 0;
	char type;
	const char *contents;
	int r;

	while ((r = sd_bus_message_peek_type(m, &type, &contents)) > 0) {
		if (type == 'a' || type == 'v' || type == 'r' || type == 'e') {
			bytes = (bytes + 3) & ~(size_t)3;
			bytes += type == 'a' ? 4 : type == 'v' ? strlen(contents) + 2 : 0;
			if (type == 'r' || type == 'e' || (type == 'a' && contents[0] == '{'))
				bytes = (bytes + 7) & ~(size_t)7;
			assert_true(sd_bus_message_enter_container(m, type, contents) > 0);
			size_t inner = 0;
			assert_true(rewind_and_measure(m, &inner) >= 0);
			bytes += inner;
			assert_true(sd_bus_message_exit_container(m) >= 0);
		} else if (type == 's' || type == 'o') {
			const char *s;

			assert_true(sd_bus_message_read_basic(m, type, &s) > 0);
			bytes = ((bytes + 3) & ~(size_t)3) + 4 + strlen(s) + 1;
		} else {
			uint64_t v;

			assert_true(sd_bus_message_read_basic(m, type, &v) > 0);
			bytes = ((bytes + 7) & ~(size_t)7) + 8;
		}
	}
	*ret = bytes;
	return r;
}

static void sizes_are_never_too_small(void **state)
{
	struct event *e = rich_event();

	for (int pass = 0; pass < 3; pass++) {
		sd_bus_message *m = new_message();
		size_t real;

		if (pass == 1)
			props_set_s(e->props, DOMAIN_DESCRIPTION,
				    "a longer one, of more than a hundred bytes, so that it counts against what is put on for alignment; "
				    "and still a little longer");
		if (pass == 2) {
			e->xml = text_new("<domain>…</domain>");
			e->xml_inactive = text_new("<domain/>");
		}
		assert_true(append_props(m, e->props, e->xml, e->xml_inactive) >= 0);
		assert_true(append_details(m, e, false) >= 0);
		seal(m);
		assert_true(rewind_and_measure(m, &real) >= 0);
		assert_true(event_bytes(e, true) >= real);
		assert_true(props_bytes(e->props, e->xml, e->xml_inactive) + 600 < 3 * real + 600);
		sd_bus_message_unref(m);
	}
	event_unref(e);
}

static void properties_have_their_types(void **state)
{
	for (enum kind k = 0; k < KIND_MAX; k++) {
		struct props *p = props_new(k);
		sd_bus_message *m = new_message();
		size_t n;
		const struct prop_def *schema = props_schema(k, &n);

		/* An empty string is no object path. */
		for (size_t i = 0; i < n; i++)
			if (strcmp(schema[i].type, "o") == 0)
				assert_int_equal(props_set_s(p, i, "/"), 0);
		assert_true(append_props(m, p, NULL, NULL) >= 0);
		seal(m);
		assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
		for (size_t i = 0; i < n; i++) {
			const char *key, *contents;
			char type;

			assert_true(sd_bus_message_enter_container(m, 'e', "sv") > 0);
			assert_true(sd_bus_message_read(m, "s", &key) > 0);
			assert_string_equal(key, schema[i].name);
			assert_true(sd_bus_message_peek_type(m, &type, &contents) > 0);
			assert_string_equal(contents, schema[i].type);
			assert_true(sd_bus_message_skip(m, "v") > 0);
			assert_true(sd_bus_message_exit_container(m) >= 0);
		}
		sd_bus_message_unref(m);
		props_unref(p);
	}
}

static void errors_keep_name_and_words(void **state)
{
	struct failure f = {0};
	sd_bus_error e = SD_BUS_ERROR_NULL;

	failure_set(&f, VIREO_BUSY, "a job runs");
	assert_true(face_error(&e, VIREO_BUSY, &f) < 0);
	assert_string_equal(e.name, "org.vireo1.Error.Busy");
	assert_string_equal(e.message, "a job runs");
	sd_bus_error_free(&e);
	failure_clear(&f);
	assert_true(face_error(&e, -ENOMEM, NULL) < 0);
	assert_string_equal(e.name, "org.freedesktop.DBus.Error.NoMemory");
	sd_bus_error_free(&e);
	assert_true(face_error(&e, VIREO_INVALID_ARGS, NULL) < 0);
	assert_string_equal(e.name, "org.freedesktop.DBus.Error.InvalidArgs");
	sd_bus_error_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_of_every_type),
		cmocka_unit_test(options_refused_by_name),
		cmocka_unit_test(options_excluded_only_when_set),
		cmocka_unit_test(options_of_a_method_without),
		cmocka_unit_test(filters_match),
		cmocka_unit_test(filters_match_events),
		cmocka_unit_test(filters_that_name_nothing),
		cmocka_unit_test(uris_anybody_may_open),
		cmocka_unit_test(uris_only_for_the_configuration),
		cmocka_unit_test(secrets_are_not_broadcast),
		cmocka_unit_test(sizes_are_never_too_small),
		cmocka_unit_test(properties_have_their_types),
		cmocka_unit_test(errors_keep_name_and_words),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
