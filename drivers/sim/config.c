/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <libxml/parser.h>
#include <libxml/tree.h>

#include "truth.h"
#include "util/utf8.h"

struct sim_config *sim_config_new(enum kind kind)
{
	struct sim_config *c = sim_new(struct sim_config);

	c->refs = 1;
	c->title = sim_strdup("");
	c->description = sim_strdup("");
	c->os_type = sim_strdup("hvm");
	c->max_memory = c->memory = UINT64_C(512) << 20;
	c->vcpus = 1;
	c->type = sim_strdup(kind == KIND_POOL ? "dir" : kind == KIND_NETWORK ? "nat" : "sim");
	c->bridge = sim_strdup("");
	return c;
}

struct sim_config *sim_config_ref(struct sim_config *c)
{
	if (c)
		c->refs++;
	return c;
}

void sim_config_unref(struct sim_config *c)
{
	if (!c || --c->refs > 0)
		return;
	free(c->title);
	free(c->description);
	free(c->os_type);
	free(c->type);
	free(c->bridge);
	free(c->path);
	free(c->xml);
	free(c->xml_plain);
	free(c);
}

struct sim_config *sim_config_copy(const struct sim_config *c)
{
	struct sim_config *copy = sim_new(struct sim_config);

	*copy = *c;
	copy->refs = 1;
	copy->title = sim_strdup(c->title);
	copy->description = sim_strdup(c->description);
	copy->os_type = sim_strdup(c->os_type);
	copy->type = sim_strdup(c->type);
	copy->bridge = sim_strdup(c->bridge);
	copy->path = c->path ? sim_strdup(c->path) : NULL;
	copy->xml = c->xml ? sim_strdup(c->xml) : NULL;
	copy->xml_plain = c->xml_plain ? sim_strdup(c->xml_plain) : NULL;
	return copy;
}

/* ---- making XML --------------------------------------------------------------------------------------------- */

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
	put(b, "  <vcpu placement='static'>");
	put_number(b, c->vcpus);
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

/* ---- reading XML -------------------------------------------------------------------------------------------- */

static void xml_doc_freep(xmlDoc **doc)
{
	if (*doc)
		xmlFreeDoc(*doc);
}

static void xml_string_freep(xmlChar **s)
{
	if (*s)
		xmlFree(*s);
}

static int parse_xml(const char *xml, const char *root, xmlDoc **ret, struct failure *f)
{
	xmlParserCtxt *ctxt;
	xmlDoc *doc;
	xmlNode *top;
	size_t n = xml ? strlen(xml) : 0;

	if (n == 0)
		return failure_set(f, VIREO_INVALID_XML, "The XML is empty; expected a <%s> element.", root);
	if (n > INT32_MAX / 2)
		return failure_set(f, VIREO_INVALID_XML, "The XML is too long: %zu bytes.", n);
	ctxt = sim_must(xmlNewParserCtxt());
	doc = xmlCtxtReadMemory(ctxt, xml, (int)n, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (!doc) {
		const xmlError *e = xmlCtxtGetLastError(ctxt);
		_cleanup_(freep) char *message = sim_strdup(e && e->message ? e->message : "it cannot be parsed");

		message[strcspn(message, "\n")] = '\0';
		failure_set(f, VIREO_INVALID_XML, "XML, line %d, column %d: %s", e ? e->line : 0, e ? e->int2 : 0,
			    message);
		xmlFreeParserCtxt(ctxt);
		return VIREO_INVALID_XML;
	}
	xmlFreeParserCtxt(ctxt);
	top = xmlDocGetRootElement(doc);
	if (!top || strcmp((const char *)top->name, root) != 0) {
		failure_set(f, VIREO_INVALID_XML, "XML, line %ld: the top element is <%s>; expected <%s>.",
			    top ? xmlGetLineNo(top) : 1L, top ? (const char *)top->name : "", root);
		xmlFreeDoc(doc);
		return VIREO_INVALID_XML;
	}
	*ret = doc;
	return 0;
}

static xmlNode *find_child(xmlNode *parent, const char *name)
{
	for (xmlNode *n = parent ? parent->children : NULL; n; n = n->next)
		if (n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0)
			return n;
	return NULL;
}

/* Text of a child, owned; NULL when there is no such child. */
static char *child_text(xmlNode *parent, const char *name)
{
	xmlNode *n = find_child(parent, name);
	_cleanup_(xml_string_freep) xmlChar *s = n ? xmlNodeGetContent(n) : NULL;

	return s ? sim_strdup((const char *)s) : NULL;
}

static char *attribute(xmlNode *n, const char *name)
{
	_cleanup_(xml_string_freep) xmlChar *s = n ? xmlGetProp(n, (const xmlChar *)name) : NULL;

	return s ? sim_strdup((const char *)s) : NULL;
}

static void take_text(char **where, char *text)
{
	if (!text)
		return;
	free(*where);
	*where = text;
}

static int parse_bytes(xmlNode *n, uint64_t missing_unit, uint64_t *ret, struct failure *f)
{
	static const struct {
		const char *unit;
		uint64_t bytes;
	} units[] = {
		{"b", 1},
		{"bytes", 1},
		{"KB", 1000},
		{"k", UINT64_C(1) << 10},
		{"KiB", UINT64_C(1) << 10},
		{"MB", 1000000},
		{"M", UINT64_C(1) << 20},
		{"MiB", UINT64_C(1) << 20},
		{"GB", 1000000000},
		{"G", UINT64_C(1) << 30},
		{"GiB", UINT64_C(1) << 30},
		{"T", UINT64_C(1) << 40},
		{"TiB", UINT64_C(1) << 40},
	};
	_cleanup_(xml_string_freep) xmlChar *text = xmlNodeGetContent(n);
	_cleanup_(freep) char *unit = attribute(n, "unit");
	const char *s = text ? (const char *)text : "";
	uint64_t factor = missing_unit, value;
	char *end;

	s += strspn(s, " \t\n");
	errno = 0;
	value = strtoull(s, &end, 10);
	if (errno || end == s || *s == '-' || end[strspn(end, " \t\n")] != '\0')
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <%s> is '%s'; expected a number.",
				   xmlGetLineNo(n), (const char *)n->name, s);
	if (unit) {
		factor = 0;
		for (size_t i = 0; i < ELEMENTS(units); i++)
			if (strcmp(units[i].unit, unit) == 0)
				factor = units[i].bytes;
		if (factor == 0)
			return failure_set(f, VIREO_INVALID_XML,
					   "XML, line %ld: <%s> has the unit '%s'; expected KiB, MiB, GiB or the like.",
					   xmlGetLineNo(n), (const char *)n->name, unit);
	}
	/* what has more than 2^62 bytes is a mistake, and must not overflow further on */
	if (value > (UINT64_C(1) << 62) / factor)
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <%s> is too large: %s.", xmlGetLineNo(n),
				   (const char *)n->name, s);
	*ret = value * factor;
	return 0;
}

static int parse_identity(xmlNode *top, char **ret_name, sd_id128_t *ret_uuid, struct failure *f)
{
	_cleanup_(freep) char *name = child_text(top, "name"), *uuid = child_text(top, "uuid");
	sd_id128_t id;

	if (!name || !name[0])
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <%s> lacks a <name>.", xmlGetLineNo(top),
				   (const char *)top->name);
	if (uuid) {
		if (sd_id128_from_string(uuid, &id) < 0)
			return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <uuid> is '%s'; expected 32 hex digits.",
					   xmlGetLineNo(find_child(top, "uuid")), uuid);
		if (sd_id128_is_null(id))
			return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: the <uuid> is all zeros.",
					   xmlGetLineNo(find_child(top, "uuid")));
	} else if (sd_id128_randomize(&id) < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "There is no random number for a UUID.");
	*ret_name = TAKE(name);
	*ret_uuid = id;
	return 0;
}

/* ""; never NULL */
static char *dump(xmlDoc *doc)
{
	xmlBuffer *b = sim_must(xmlBufferCreate());
	char *s;

	xmlNodeDump(b, doc, xmlDocGetRootElement(doc), 0, 0);
	s = sim_printf("%s\n", (const char *)xmlBufferContent(b));
	xmlBufferFree(b);
	return s;
}

/* Return: whether there was anything secret. */
static bool strip_secrets(xmlNode *n)
{
	bool any = false;

	for (; n; n = n->next) {
		if (n->type != XML_ELEMENT_NODE)
			continue;
		if (xmlUnsetProp(n, (const xmlChar *)"passwd") == 0)
			any = true;
		any = strip_secrets(n->children) || any;
	}
	return any;
}

static void set_child(xmlNode *top, const char *name, const char *text)
{
	xmlNode *n = find_child(top, name);
	xmlNode *at = find_child(top, "name");

	if (n) {
		xmlNodeSetContent(n, NULL);
		xmlNodeAddContent(n, (const xmlChar *)text);
		return;
	}
	n = sim_must(xmlNewDocNode(top->doc, NULL, (const xmlChar *)name, NULL));
	xmlNodeAddContent(n, (const xmlChar *)text);
	if (at)
		xmlAddNextSibling(at, n);
	else
		xmlAddChild(top, n);
}

/* Keeps the document as the configuration's text, with and without secrets. */
static void keep_document(struct sim_config *c, xmlDoc *doc)
{
	free(c->xml);
	free(c->xml_plain);
	c->xml_plain = NULL;
	c->xml = dump(doc);
	if (strip_secrets(xmlDocGetRootElement(doc)))
		c->xml_plain = dump(doc);
}

static int parse_domain(xmlNode *top, struct sim_config *c, struct failure *f)
{
	xmlNode *memory = find_child(top, "memory"), *current = find_child(top, "currentMemory");
	xmlNode *vcpu = find_child(top, "vcpu");
	int r;

	take_text(&c->type, attribute(top, "type"));
	take_text(&c->title, child_text(top, "title"));
	take_text(&c->description, child_text(top, "description"));
	take_text(&c->os_type, child_text(find_child(top, "os"), "type"));
	if (!memory)
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <domain> lacks <memory>.", xmlGetLineNo(top));
	r = parse_bytes(memory, 1024, &c->max_memory, f);
	if (r != 0)
		return r;
	c->memory = c->max_memory;
	if (current && (r = parse_bytes(current, 1024, &c->memory, f)) != 0)
		return r;
	if (vcpu) {
		uint64_t n = 0;

		r = parse_bytes(vcpu, 1, &n, f);
		if (r != 0)
			return r;
		if (n == 0 || n > 4096)
			return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <vcpu> is %" PRIu64 "; expected 1 to 4096.",
					   xmlGetLineNo(vcpu), n);
		c->vcpus = (unsigned)n;
	}
	return 0;
}

int sim_config_parse(enum kind kind, const char *xml, struct sim_config **ret, char **ret_name, sd_id128_t *ret_uuid,
		     struct failure *f)
{
	_cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
	_cleanup_(freep) char *name = NULL;
	char uuid_text[37];
	struct sim_config *c;
	sd_id128_t uuid = {};
	xmlNode *top;
	int r;

	r = parse_xml(xml, kind_to_string(kind), &doc, f);
	if (r != 0)
		return r;
	top = xmlDocGetRootElement(doc);
	r = parse_identity(top, &name, &uuid, f);
	if (r != 0)
		return r;
	c = sim_config_new(kind);
	if (kind == KIND_DOMAIN)
		r = parse_domain(top, c, f);
	else if (kind == KIND_POOL) {
		take_text(&c->type, attribute(top, "type"));
		take_text(&c->path, child_text(find_child(top, "target"), "path"));
	} else {
		xmlNode *forward = find_child(top, "forward");

		take_text(&c->bridge, attribute(find_child(top, "bridge"), "name"));
		/* libvirt: a <forward> without mode is NAT, none at all is isolated */
		free(c->type);
		c->type = forward ? attribute(forward, "mode") : sim_strdup("isolated");
		if (!c->type)
			c->type = sim_strdup("nat");
	}
	if (r != 0) {
		sim_config_unref(c);
		return r;
	}
	set_child(top, "uuid", sd_id128_to_uuid_string(uuid, uuid_text));
	keep_document(c, doc);
	*ret = c;
	*ret_name = TAKE(name);
	*ret_uuid = uuid;
	return 0;
}

/* Of a configuration whose text is XML; a broken one stays as it is. */
static void patch(struct sim_config *c, const char *key, const char *value)
{
	_cleanup_(xml_doc_freep) xmlDoc *doc = NULL;

	if (!c->xml)
		return;
	doc = xmlReadMemory(c->xml, (int)strlen(c->xml), NULL, NULL,
			    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (!doc)
		return;
	set_child(xmlDocGetRootElement(doc), key, value);
	/* the number is in KiB, whatever the user's was in */
	if (strcmp(key, "memory") == 0 || strcmp(key, "currentMemory") == 0)
		xmlSetProp(find_child(xmlDocGetRootElement(doc), key), (const xmlChar *)"unit", (const xmlChar *)"KiB");
	keep_document(c, doc);
}

struct sim_config *sim_config_renamed(const struct sim_config *c, const char *name)
{
	struct sim_config *copy = sim_config_copy(c);
	_cleanup_(freep) char *clean = sim_must(utf8_dup(name));

	patch(copy, "name", clean);
	return copy;
}

struct sim_config *sim_config_resized(const struct sim_config *c, uint64_t memory, unsigned vcpus)
{
	struct sim_config *copy = sim_config_copy(c);
	char text[32];

	copy->memory = memory;
	if (copy->max_memory < memory)
		copy->max_memory = memory;
	copy->vcpus = vcpus;
	snprintf(text, sizeof(text), "%" PRIu64, copy->max_memory >> 10);
	patch(copy, "memory", text);
	snprintf(text, sizeof(text), "%" PRIu64, memory >> 10);
	patch(copy, "currentMemory", text);
	snprintf(text, sizeof(text), "%u", vcpus);
	patch(copy, "vcpu", text);
	return copy;
}

/* ---- volumes ------------------------------------------------------------------------------------------------ */

void sim_volume_done(struct sim_volume *v)
{
	free(v->name);
	free(v->path);
	free(v->type);
	free(v->format);
	*v = (struct sim_volume){};
}

int sim_volume_parse(const char *xml, struct sim_volume *ret, struct failure *f)
{
	_cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
	struct sim_volume v = {};
	xmlNode *top, *n;
	int r;

	r = parse_xml(xml, "volume", &doc, f);
	if (r != 0)
		return r;
	top = xmlDocGetRootElement(doc);
	v.name = child_text(top, "name");
	if (!v.name || !v.name[0]) {
		sim_volume_done(&v);
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <volume> lacks a <name>.", xmlGetLineNo(top));
	}
	n = find_child(top, "capacity");
	r = n ? parse_bytes(n, 1, &v.capacity, f)
	      : failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <volume> lacks <capacity>.", xmlGetLineNo(top));
	n = find_child(top, "allocation");
	if (r == 0 && n)
		r = parse_bytes(n, 1, &v.allocation, f);
	if (r != 0) {
		sim_volume_done(&v);
		return r;
	}
	v.type = sim_strdup("file");
	v.format = attribute(find_child(find_child(top, "target"), "format"), "type");
	if (!v.format)
		v.format = sim_strdup("raw");
	*ret = v;
	return 0;
}
