/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <json-c/json.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <string.h>

#include "guest.h"
#include "util/utf8.h"

/*
 * What queries found, in the words of a domain's XML: for reading, and for tools that look for disks and consoles.
 * Not a configuration: much of a QEMU cannot be asked for.
 */

static xmlNode *add(xmlNode *parent, const char *name, const char *text)
{
	_cleanup_(freep) char *valid = utf8_dup(text);

	/* xmlNewTextChild escapes, xmlNewChild does not */
	return xmlNewTextChild(parent, NULL, BAD_CAST name, valid && *valid ? BAD_CAST valid : NULL);
}

static void set(xmlNode *node, const char *name, const char *value)
{
	_cleanup_(freep) char *valid = utf8_dup(value);

	if (value && valid)
		xmlNewProp(node, BAD_CAST name, BAD_CAST valid);
}

static void add_number(xmlNode *parent, const char *name, uint64_t n, const char *unit)
{
	char text[24];
	xmlNode *node;

	snprintf(text, sizeof(text), "%" PRIu64, n);
	node = add(parent, name, text);
	if (unit)
		set(node, "unit", unit);
}

static bool is_array(struct json_object *o)
{
	return json_object_is_type(o, json_type_array);
}

static void describe_block(xmlNode *devices, struct json_object *list)
{
	for (size_t i = 0; is_array(list) && i < json_object_array_length(list); i++) {
		struct json_object *b = json_object_array_get_idx(list, i), *in = json_member(b, "inserted");
		const char *qdev = json_s(b, "qdev"), *name = json_s(b, "device");
		const char *tray = json_member(b, "tray_open") ? "cdrom" : "disk";
		const char *file = json_s(in, "file"), *driver = json_s(in, "drv"), *node_name = json_s(in, "node-name");
		xmlNode *disk, *node;

		/* QEMU lists drives of its board that nothing is attached to. */
		if (!in && !qdev && !json_b(b, "removable"))
			continue;
		disk = xmlNewChild(devices, NULL, BAD_CAST "disk", NULL);
		set(disk, "type", "file");
		set(disk, "device", tray);
		if (in) {
			node = add(disk, "driver", NULL);
			set(node, "name", "qemu");
			set(node, "type", driver);
			node = add(disk, "source", NULL);
			set(node, "file", file);
			if (json_b(in, "ro"))
				add(disk, "readonly", NULL);
		}
		node = add(disk, "target", NULL);
		set(node, "dev", name && *name ? name : qdev && *qdev ? qdev : node_name);
		if (qdev && *qdev) {
			node = add(disk, "alias", NULL);
			set(node, "name", qdev);
		}
	}
}

static void describe_chardevs(xmlNode *devices, struct json_object *list)
{
	for (size_t i = 0; is_array(list) && i < json_object_array_length(list); i++) {
		struct json_object *c = json_object_array_get_idx(list, i);
		const char *label = json_s(c, "label"), *file = json_s(c, "filename");
		xmlNode *serial, *node;

		if (!label || strncmp(label, "serial", 6) != 0)
			continue;
		serial = add(devices, "serial", NULL);
		/* "pty:/dev/pts/3", "disconnected:unix:/run/x,server=on" */
		if (file && strncmp(file, "pty:", 4) == 0) {
			set(serial, "type", "pty");
			node = add(serial, "source", NULL);
			set(node, "path", file + 4);
		} else {
			const char *u = file ? strstr(file, "unix:") : NULL;

			set(serial, "type", u ? "unix" : "null");
			if (u) {
				_cleanup_(freep) char *path = strndup(u + 5, strcspn(u + 5, ","));

				node = add(serial, "source", NULL);
				set(node, "path", path);
			}
		}
		node = add(serial, "alias", NULL);
		set(node, "name", label);
	}
}

static void describe_consoles(xmlNode *devices, const struct facts *f)
{
	xmlNode *node;

	if (json_b(f->vnc, "enabled")) {
		const char *family = json_s(f->vnc, "family");

		node = add(devices, "graphics", NULL);
		set(node, "type", "vnc");
		if (family && strcmp(family, "unix") == 0)
			set(node, "socket", json_s(f->vnc, "service"));
		else {
			set(node, "port", json_s(f->vnc, "service"));
			set(node, "listen", json_s(f->vnc, "host"));
		}
	}
	if (json_b(f->spice, "enabled")) {
		char port[24];

		node = add(devices, "graphics", NULL);
		set(node, "type", "spice");
		snprintf(port, sizeof(port), "%" PRIu64, json_u(f->spice, "port", 0));
		if (json_u(f->spice, "port", 0))
			set(node, "port", port);
		set(node, "listen", json_s(f->spice, "host"));
	}
}

char *guest_describe(const struct guest *g)
{
	xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");
	char uuid[SD_ID128_UUID_STRING_MAX], id[24];
	xmlNode *root, *os, *node, *devices;
	xmlBuffer *buffer = NULL;
	char *text = NULL;

	root = doc ? xmlNewNode(NULL, BAD_CAST "domain") : NULL;
	if (!root)
		goto out;
	xmlDocSetRootElement(doc, root);
	set(root, "type", g->kvm ? "kvm" : "qemu");
	if (g->run > 0) {
		snprintf(id, sizeof(id), "%d", g->run);
		set(root, "id", id);
	}
	add(root, "name", g->name);
	add(root, "uuid", sd_id128_to_uuid_string(g->uuid, uuid));
	if (g->facts.valid) {
		add_number(root, "memory", g->facts.max_memory / 1024, "KiB");
		add_number(root, "currentMemory", g->facts.memory / 1024, "KiB");
		add_number(root, "vcpu", g->facts.vcpus, NULL);
	}
	os = add(root, "os", NULL);
	node = add(os, "type", "hvm");
	set(node, "arch", g->arch);
	set(node, "machine", g->machine);
	devices = add(root, "devices", NULL);
	describe_block(devices, g->facts.block);
	describe_chardevs(devices, g->facts.chardev);
	describe_consoles(devices, &g->facts);
	buffer = xmlBufferCreate();
	if (buffer && xmlNodeDump(buffer, doc, root, 0, 1) >= 0)
		text = strdup((const char *)xmlBufferContent(buffer));
out:
	xmlBufferFree(buffer);
	xmlFreeDoc(doc);
	return text;
}
