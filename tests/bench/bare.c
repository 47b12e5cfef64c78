/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "util/macros.h"

/*
 * The measure: a service that does nothing but send. Get() answers N entries (path, name, XML) of SIZE bytes of XML each;
 * Flood(n) sends the two messages of n events (PropertiesChanged and the event, with a domain's properties).
 *
 *   bare ADDRESS N SIZE
 */
static unsigned long entries, size;
static char *xml;

static int get(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	char path[100], name[40];
	int r;

	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(oss)");
	for (unsigned long i = 0; r >= 0 && i < entries; i++) {
		snprintf(path, sizeof(path), "/org/vireo1/connection/x/domain/_%032lx", i);
		snprintf(name, sizeof(name), "domain-%lu", i);
		r = sd_bus_message_append(reply, "(oss)", path, name, xml);
	}
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int append_properties(sd_bus_message *m)
{
	return sd_bus_message_append(m, "a{sv}", 19, "Name", "s", "domain-1", "UUID", "s", "12345678-1234-1234-1234-123456789012",
				     "Title", "s", "", "Description", "s", "", "OSType", "s", "hvm", "ID", "i", 17, "Connection", "o",
				     "/org/vireo1/connection/x", "State", "s", "running", "Reason", "s", "booted", "Active", "b", 1,
				     "Persistent", "b", 1, "Autostart", "b", 0, "HasManagedSave", "b", 0, "MaxMemory", "t",
				     (uint64_t)1 << 30, "Memory", "t", (uint64_t)1 << 30, "VCPUs", "u", 2, "Jobs", "ao", 0,
				     "Incarnation", "t", (uint64_t)5, "Version", "t", (uint64_t)77);
}

static const char object[] = "/org/vireo1/connection/x/domain/_12345678_1234_1234_1234_123456789012";

static int one_event(sd_bus *bus, unsigned long i)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *changed = NULL, *event = NULL;
	int r;

	r = sd_bus_message_new_signal(bus, &changed, object, "org.freedesktop.DBus.Properties", "PropertiesChanged");
	if (r >= 0)
		r = sd_bus_message_append(changed, "sa{sv}as", "org.vireo1.Domain", 5, "ID", "i", 17, "State", "s", "running",
					  "Reason", "s", "booted", "Active", "b", 1, "Version", "t", (uint64_t)i, 0);
	if (r >= 0)
		r = sd_bus_send(bus, changed, NULL);
	if (r >= 0)
		r = sd_bus_message_new_signal(bus, &event, object, "org.vireo1.bench", "Started");
	if (r >= 0)
		r = sd_bus_message_append(event, "tts", (uint64_t)i, (uint64_t)i - 1, "booted");
	if (r >= 0)
		r = append_properties(event);
	if (r >= 0)
		r = sd_bus_message_append(event, "a{sv}", 1, "timestamp", "t", (uint64_t)1);
	return r < 0 ? r : sd_bus_send(bus, event, NULL);
}

static int flood(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	sd_bus *bus = sd_bus_message_get_bus(m);
	uint32_t n;
	int r = sd_bus_message_read(m, "u", &n);

	for (uint32_t i = 0; r >= 0 && i < n; i++) {
		uint64_t queued;

		r = one_event(bus, i + 1);
		if (r >= 0 && sd_bus_get_n_queued_write(bus, &queued) >= 0 && queued > 1000)
			r = sd_bus_flush(bus);
	}
	return r < 0 ? r : sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Get", "", "a(oss)", get, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Flood", "u", "", flood, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

int main(int argc, char **argv)
{
	_cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
	int r;

	if (argc != 4) {
		fprintf(stderr, "usage: bare ADDRESS N SIZE\n");
		return 2;
	}
	entries = strtoul(argv[2], NULL, 10);
	size = strtoul(argv[3], NULL, 10);
	xml = malloc(size + 1);
	if (!xml)
		return EXIT_FAILURE;
	memset(xml, 'x', size);
	xml[size] = 0;
	r = sd_bus_new(&bus);
	if (r >= 0)
		r = sd_bus_set_address(bus, argv[1]);
	if (r >= 0)
		r = sd_bus_set_bus_client(bus, true);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, "/bench", "org.vireo1.bench", vtable, NULL);
	if (r >= 0)
		r = sd_bus_request_name(bus, "org.vireo1.bench", 0);
	if (r >= 0)
		printf("ready\n"), fflush(stdout);
	while (r >= 0) {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, UINT64_MAX);
	}
	free(xml);
	return r == -ENOTCONN || r == -ECONNRESET ? EXIT_SUCCESS : EXIT_FAILURE;
}
