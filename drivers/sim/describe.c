/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "truth.h"

/* The XML of an object, made from its fields. */

/* A flood makes a hundred thousand of these a second: no stdio. */
struct buffer {
	char *data;
	size_t n, size;
};

static void put_n(struct buffer *b, const char *s, size_t n)
{
	if (b->n + n + 1 > b->size) {
		b->size = (b->n + n + 1) * 2;
		b->data = sim_must(realloc(b->data, b->size));
	}
	memcpy(b->data + b->n, s, n);
	b->n += n;
	b->data[b->n] = '\0';
}

static void put(struct buffer *b, const char *s)
{
	put_n(b, s, strlen(s));
}

static void put_number(struct buffer *b, uint64_t value)
{
	char text[24], *p = text + sizeof(text);

	do
		*--p = (char)('0' + value % 10);
	while (value /= 10);
	put_n(b, p, (size_t)(text + sizeof(text) - p));
}

static void put_escaped(struct buffer *b, const char *s)
{
	while (*s) {
		size_t n = strcspn(s, "&<>'\"");

		/* anything else as it is, even what no XML may hold: a hypervisor can be as broken */
		put_n(b, s, n);
		s += n;
		switch (*s) {
		case '&':
			put(b, "&amp;");
			break;
		case '<':
			put(b, "&lt;");
			break;
		case '>':
			put(b, "&gt;");
			break;
		case '\'':
			put(b, "&apos;");
			break;
		case '"':
			put(b, "&quot;");
			break;
		default:
			return;
		}
		s++;
	}
}

static void put_element(struct buffer *b, const char *tag, const char *value)
{
	put(b, "  <");
	put(b, tag);
	put(b, ">");
	put_escaped(b, value);
	put(b, "</");
	put(b, tag);
	put(b, ">\n");
}

static void put_size(struct buffer *b, const char *tag, const char *unit, uint64_t value)
{
	put(b, "  <");
	put(b, tag);
	put(b, " unit='");
	put(b, unit);
	put(b, "'>");
	put_number(b, value);
	put(b, "</");
	put(b, tag);
	put(b, ">\n");
}

static void put_domain(struct buffer *b, const struct sim_object *o, const struct sim_config *c, const char *uuid,
		       bool secure)
{
	static const char hex[] = "0123456789abcdef";
	char mac[] = "52:54:00:00:00:00";

	for (int i = 0; i < 3; i++) {
		mac[9 + 3 * i] = hex[o->uuid.bytes[i] >> 4];
		mac[10 + 3 * i] = hex[o->uuid.bytes[i] & 15];
	}
	put(b, "<domain type='");
	put_escaped(b, c->type);
	put(b, "'>\n");
	put_element(b, "name", o->name);
	put_element(b, "uuid", uuid);
	if (c->title[0])
		put_element(b, "title", c->title);
	if (c->description[0])
		put_element(b, "description", c->description);
	put_size(b, "memory", "KiB", c->max_memory >> 10);
	put_size(b, "currentMemory", "KiB", c->memory >> 10);
	put(b, "  <vcpu placement='static'");
	if (c->vcpus < c->max_vcpus) {
		put(b, " current='");
		put_number(b, c->vcpus);
		put(b, "'");
	}
	put(b, ">");
	put_number(b, c->max_vcpus);
	put(b, "</vcpu>\n  <os>\n    <type arch='x86_64' machine='sim'>");
	put_escaped(b, c->os_type);
	put(b, "</type>\n    <boot dev='hd'/>\n  </os>\n"
	       "  <features>\n    <acpi/>\n    <apic/>\n  </features>\n"
	       "  <clock offset='utc'/>\n"
	       "  <on_poweroff>destroy</on_poweroff>\n"
	       "  <on_reboot>restart</on_reboot>\n"
	       "  <on_crash>destroy</on_crash>\n"
	       "  <devices>\n"
	       "    <disk type='file' device='disk'>\n"
	       "      <driver name='sim' type='qcow2'/>\n"
	       "      <source file='/var/lib/sim/images/");
	put(b, uuid);
	put(b, ".qcow2'/>\n"
	       "      <target dev='vda' bus='virtio'/>\n"
	       "      <alias name='virtio-disk0'/>\n"
	       "    </disk>\n"
	       "    <interface type='network'>\n"
	       "      <mac address='");
	put(b, mac);
	put(b, "'/>\n"
	       "      <source network='default'/>\n"
	       "      <model type='virtio'/>\n"
	       "      <alias name='net0'/>\n"
	       "    </interface>\n"
	       "    <graphics type='vnc' port='-1' autoport='yes'");
	put(b, secure ? " passwd='sim-secret'/>\n  </devices>\n" : "/>\n  </devices>\n");
	if (c->padding > 0) {
		static const char end[] = "  <!---->\n</domain>\n";

		put(b, "  <!--");
		while (b->n + sizeof(end) - 7 < c->padding)
			put_n(b, "                                ", c->padding - (b->n + sizeof(end) - 7) < 32
									? c->padding - (b->n + sizeof(end) - 7)
									: 32);
		put(b, "-->\n");
	}
	put(b, "</domain>\n");
}

static void put_pool(struct buffer *b, const struct sim_object *o, const struct sim_config *c, const char *uuid)
{
	put(b, "<pool type='");
	put_escaped(b, c->type);
	put(b, "'>\n");
	put_element(b, "name", o->name);
	put_element(b, "uuid", uuid);
	put_size(b, "capacity", "bytes", o->capacity);
	put_size(b, "allocation", "bytes", o->allocation);
	put_size(b, "available", "bytes", o->capacity > o->allocation ? o->capacity - o->allocation : 0);
	put(b, "  <target>\n  ");
	put_element(b, "path", c->path ? c->path : "/var/lib/sim/images");
	put(b, "  </target>\n</pool>\n");
}

static void put_network(struct buffer *b, const struct sim_object *o, const struct sim_config *c, const char *uuid)
{
	put(b, "<network>\n");
	put_element(b, "name", o->name);
	put_element(b, "uuid", uuid);
	if (strcmp(c->type, "isolated") != 0) {
		put(b, "  <forward mode='");
		put_escaped(b, c->type);
		put(b, "'/>\n");
	}
	put(b, "  <bridge name='");
	put_escaped(b, c->bridge);
	put(b, "' stp='on' delay='0'/>\n</network>\n");
}

char *sim_object_xml(const struct sim_object *o, const struct sim_config *c, bool secure)
{
	struct buffer b = {};
	char uuid[37];

	if (c->xml)
		return sim_strdup(!secure && c->xml_plain ? c->xml_plain : c->xml);
	b.size = 1600 + c->padding;
	b.data = sim_must(malloc(b.size));
	sd_id128_to_uuid_string(o->uuid, uuid);
	if (o->kind == KIND_DOMAIN)
		put_domain(&b, o, c, uuid, secure);
	else if (o->kind == KIND_POOL)
		put_pool(&b, o, c, uuid);
	else
		put_network(&b, o, c, uuid);
	return sim_must(realloc(b.data, b.n + 1));
}
