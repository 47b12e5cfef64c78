/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "util/macros.h"

/*
 * The reader of the benchmarks: one C client that iterates every value of what it asked for, whoever answers. Each mode
 * prints one line of JSON.
 *
 *   client ADDRESS snapshot [xml]          GetSnapshot of vireod
 *   client ADDRESS bare                    the same bytes from a service that does nothing else
 *   client ADDRESS libvirt-dbus OBJECT     the same knowledge through libvirt-dbus, as fast as its bus allows
 *   client ADDRESS signals N               until both signals of N events were heard
 *   client ADDRESS stream N                until a stream has brought N events
 *   client URI loop                        the plain sequential loop over libvirt itself
 */

#define ROUNDS 5
/* The bus allows 128 replies pending; three calls a domain. */
#define WINDOW 40

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static int die(const char *what, int r)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	return EXIT_FAILURE;
}

struct tally {
	unsigned long values, bytes;
};

/* Everything in the message, to the last value. */
static int iterate(sd_bus_message *m, struct tally *t)
{
	const char *contents;
	char type;
	int r;

	while ((r = sd_bus_message_peek_type(m, &type, &contents)) > 0) {
		if (strchr("aver", type)) {
			r = sd_bus_message_enter_container(m, type, contents);
			if (r >= 0)
				r = iterate(m, t);
			if (r >= 0)
				r = sd_bus_message_exit_container(m);
		} else {
			union {
				const char *s;
				uint64_t t;
				double d;
			} v = {0};

			r = sd_bus_message_read_basic(m, type, &v);
			t->values++;
			t->bytes += strchr("sog", type) ? strlen(v.s) + 1 : 8;
		}
		if (r < 0)
			return r;
	}
	return r;
}

static int connect_to(const char *address, sd_bus **ret)
{
	int r = sd_bus_new(ret);

	if (r >= 0)
		r = sd_bus_set_address(*ret, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(*ret, true);
	if (r >= 0)
		r = sd_bus_start(*ret);
	return r;
}

static int one_call(sd_bus *bus, const char *mode, const char *argument, struct tally *t)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r;

	if (strcmp(mode, "bare") == 0)
		r = sd_bus_call_method(bus, "org.vireo1.bench", "/bench", "org.vireo1.bench", "Get", NULL, &reply, "");
	else if (argument)
		r = sd_bus_call_method(bus, "org.vireo1", "/org/vireo1", "org.vireo1.Manager", "GetSnapshot", NULL, &reply,
				       "a{sv}", 2, "kinds", "as", 1, "domain", "xml", "b", 1);
	else
		r = sd_bus_call_method(bus, "org.vireo1", "/org/vireo1", "org.vireo1.Manager", "GetSnapshot", NULL, &reply,
				       "a{sv}", 1, "kinds", "as", 1, "domain");
	return r < 0 ? r : iterate(reply, t);
}

static int calls(sd_bus *bus, const char *mode, const char *argument)
{
	printf("{\"mode\": \"%s\", \"ms\": [", mode);
	struct tally t = {0};

	for (int i = 0; i < ROUNDS; i++) {
		double before = now_ms();
		int r;

		t = (struct tally){0};
		r = one_call(bus, mode, argument, &t);
		if (r < 0)
			return die(mode, r);
		printf("%s%.2f", i ? ", " : "", now_ms() - before);
	}
	printf("], \"values\": %lu, \"bytes\": %lu}\n", t.values, t.bytes);
	return EXIT_SUCCESS;
}

/* ---- libvirt-dbus ---- */

static unsigned pending;
static struct tally total;
static int failure;

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	int r;

	pending--;
	if (sd_bus_message_is_method_error(m, NULL)) {
		fprintf(stderr, "libvirt-dbus: %s\n", sd_bus_message_get_error(m)->message);
		failure = -EIO;
		return 0;
	}
	r = iterate(m, &total);
	if (r < 0)
		failure = r;
	return 0;
}

static int ask_domain(sd_bus *bus, const char *path)
{
	int r = sd_bus_call_method_async(bus, NULL, "org.libvirt", path, "org.freedesktop.DBus.Properties", "GetAll", on_reply,
					 NULL, "s", "org.libvirt.Domain");

	if (r >= 0)
		r = sd_bus_call_method_async(bus, NULL, "org.libvirt", path, "org.libvirt.Domain", "GetXMLDesc", on_reply, NULL,
					     "u", 0);
	if (r >= 0)
		r = sd_bus_call_method_async(bus, NULL, "org.libvirt", path, "org.libvirt.Domain", "GetState", on_reply, NULL,
					     "u", 0);
	if (r >= 0)
		pending += 3;
	return r;
}

static int list_through_libvirt_dbus(sd_bus *bus, const char *object)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *path;
	int r;

	r = sd_bus_call_method(bus, "org.libvirt", object, "org.libvirt.Connect", "ListDomains", NULL, &reply, "u", 0);
	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'a', "o");
	while (r >= 0 && (r = sd_bus_message_read(reply, "o", &path)) > 0) {
		r = ask_domain(bus, path);
		while (r >= 0 && failure == 0 && pending >= WINDOW * 3) {
			r = sd_bus_process(bus, NULL);
			if (r == 0)
				r = sd_bus_wait(bus, UINT64_MAX);
		}
		if (failure)
			return failure;
	}
	while (r >= 0 && failure == 0 && pending > 0) {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, UINT64_MAX);
	}
	return r < 0 ? r : failure;
}

static int libvirt_dbus(sd_bus *bus, const char *object)
{
	printf("{\"mode\": \"libvirt-dbus\", \"ms\": [");
	for (int i = 0; i < 3; i++) {
		double before = now_ms();
		int r;

		total = (struct tally){0};
		r = list_through_libvirt_dbus(bus, object);
		if (r < 0)
			return die("libvirt-dbus", r);
		printf("%s%.2f", i ? ", " : "", now_ms() - before);
	}
	printf("], \"values\": %lu, \"bytes\": %lu}\n", total.values, total.bytes);
	return EXIT_SUCCESS;
}

/* ---- events ---- */

static unsigned long heard, wanted;
static double first;

static void ready(void)
{
	/* Whoever started this may begin now. */
	printf("ready\n");
	fflush(stdout);
}

static void one_more(void)
{
	if (heard++ == 0)
		first = now_ms();
}

static int told(const char *mode)
{
	printf("{\"mode\": \"%s\", \"ms\": [%.2f], \"heard\": %lu, \"bytes\": %lu}\n", mode, now_ms() - first, heard,
	       total.bytes);
	return EXIT_SUCCESS;
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	one_more();
	return iterate(m, &total) < 0 ? -EBADMSG : 0;
}

/* Both signals of each event. */
static int signals(sd_bus *bus, unsigned long n)
{
	int r;

	wanted = 2 * n;
	r = sd_bus_add_match(bus, NULL, "type='signal',path_namespace='/org/vireo1/connection'", on_signal, NULL);
	if (r < 0)
		return die("match", r);
	ready();
	while (heard < wanted) {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, UINT64_MAX);
		if (r < 0)
			return die("signals", r);
	}
	return told("signals");
}

/* Parse one line to its last value; count it when it is an event. */
static int take_line(json_tokener *parser, const char *line, size_t size)
{
	struct json_object *o, *data, *previous;

	json_tokener_reset(parser);
	o = json_tokener_parse_ex(parser, line, (int)size);
	if (!o)
		return -EBADMSG;
	if (json_object_object_get_ex(o, "data", &data) && json_object_object_get_ex(data, "previous", &previous))
		one_more();
	total.bytes += size;
	json_object_put(o);
	return 0;
}

static int read_lines(int fd)
{
	static char buffer[1 << 20];
	json_tokener *parser = json_tokener_new();
	size_t have = 0;
	int r = parser ? 0 : -ENOMEM;

	while (r >= 0 && heard < wanted) {
		char *line = buffer, *end;
		ssize_t n = read(fd, buffer + have, sizeof(buffer) - have);

		if (n <= 0) {
			r = n < 0 ? -errno : -EPIPE;
			break;
		}
		have += (size_t)n;
		while (r >= 0 && (end = memchr(line, '\n', (size_t)(buffer + have - line)))) {
			r = take_line(parser, line, (size_t)(end - line));
			line = end + 1;
		}
		have = (size_t)(buffer + have - line);
		memmove(buffer, line, have);
	}
	if (parser)
		json_tokener_free(parser);
	return r;
}

static int stream(sd_bus *bus, unsigned long n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int fd, r;

	wanted = n;
	r = sd_bus_call_method(bus, "org.vireo1", "/org/vireo1", "org.vireo1.Manager", "Watch", NULL, &reply, "a{sv}", 0);
	if (r >= 0)
		r = sd_bus_message_read(reply, "h", &fd);
	if (r >= 0)
		r = fcntl(fd, F_SETFL, 0);
	if (r < 0)
		return die("Watch", r);
	ready();
	r = read_lines(fd);
	return r < 0 ? die("stream", r) : told("stream");
}

/* ---- libvirt ---- */

static void no_errors(void *userdata, virErrorPtr error)
{
}

static int loop(const char *uri)
{
	virConnectPtr c;
	virDomainPtr *domains;
	int n = 0;

	virSetErrorFunc(NULL, no_errors);
	c = virConnectOpen(uri);
	if (!c) {
		fprintf(stderr, "%s: %s\n", uri, virGetLastErrorMessage());
		return EXIT_FAILURE;
	}
	printf("{\"mode\": \"loop\", \"ms\": [");
	for (int i = 0; i < 3; i++) {
		double before = now_ms();

		total = (struct tally){0};
		n = virConnectListAllDomains(c, &domains, 0);
		for (int k = 0; k < n; k++) {
			virDomainInfo info;
			int state, reason, autostart;
			char *xml = virDomainGetXMLDesc(domains[k], 0);

			total.bytes += xml ? strlen(xml) : 0;
			free(xml);
			(void)virDomainGetState(domains[k], &state, &reason, 0);
			(void)virDomainGetInfo(domains[k], &info);
			(void)virDomainGetAutostart(domains[k], &autostart);
			(void)virDomainIsPersistent(domains[k]);
			(void)virDomainHasManagedSaveImage(domains[k], 0);
			virDomainFree(domains[k]);
		}
		free(domains);
		printf("%s%.2f", i ? ", " : "", now_ms() - before);
	}
	printf("], \"domains\": %d, \"bytes\": %lu}\n", n, total.bytes);
	virConnectClose(c);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	_cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
	int r;

	if (argc == 3 && strcmp(argv[2], "loop") == 0)
		return loop(argv[1]);
	if (argc < 3) {
		fprintf(stderr, "usage: client ADDRESS snapshot|bare|libvirt-dbus|signals|stream …, client URI loop\n");
		return 2;
	}
	r = connect_to(argv[1], &bus);
	if (r < 0)
		return die(argv[1], r);
	if (strcmp(argv[2], "libvirt-dbus") == 0)
		return libvirt_dbus(bus, argv[3]);
	if (strcmp(argv[2], "signals") == 0)
		return signals(bus, strtoul(argv[3], NULL, 10));
	if (strcmp(argv[2], "stream") == 0)
		return stream(bus, strtoul(argv[3], NULL, 10));
	return calls(bus, argv[2], argc > 3 ? argv[3] : NULL);
}
