/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "util/utf8.h"

/* libvirt itself refuses to send more than 16 MiB in one string. */
#define XML_SIZE_MAX (32u << 20)

#define XML_OPTIONS (XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_COMPACT | XML_PARSE_NOCDATA)

static void free_doc(xmlDocPtr *doc)
{
	if (*doc)
		xmlFreeDoc(*doc);
}

static void free_context(xmlParserCtxtPtr *ctxt)
{
	if (*ctxt)
		xmlFreeParserCtxt(*ctxt);
}

/* No description has a document type; with one come entities, and with those everything that can go wrong. */
static bool has_doctype(const char *xml)
{
	return strstr(xml, "<!DOCTYPE") != NULL;
}

static bool is_element(const xmlNode *n, const char *name)
{
	return n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0;
}

/* Owned by the caller; "" when there is no such child; NULL: no memory. */
static char *dup_content(xmlNodePtr n)
{
	xmlChar *content = n ? xmlNodeGetContent(n) : NULL;
	char *copy = utf8_dup(content ? (const char *)content : "");

	xmlFree(content);
	return copy;
}

static char *dup_attribute(xmlNodePtr n, const char *name)
{
	xmlChar *value = n ? xmlGetNoNsProp(n, (const xmlChar *)name) : NULL;
	char *copy = utf8_dup(value ? (const char *)value : "");

	xmlFree(value);
	return copy;
}

static bool parse_number(const char *s, uint64_t *ret)
{
	char *end;
	unsigned long long v;

	while (*s == ' ' || *s == '\n' || *s == '\t')
		s++;
	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno != 0)
		return false;
	while (*end == ' ' || *end == '\n' || *end == '\t')
		end++;
	if (*end)
		return false;
	*ret = v;
	return true;
}

/* Memory elements carry a unit; without one it is KiB. */
static bool read_bytes(xmlNodePtr n, uint64_t *ret)
{
	static const struct {
		const char *name;
		uint64_t factor;
	} units[] = {
		{"", 1024}, {"KiB", 1024}, {"k", 1024}, {"b", 1}, {"bytes", 1}, {"KB", 1000},
		{"MB", 1000000}, {"M", UINT64_C(1) << 20}, {"MiB", UINT64_C(1) << 20},
		{"GB", 1000000000}, {"G", UINT64_C(1) << 30}, {"GiB", UINT64_C(1) << 30},
		{"TB", UINT64_C(1000000000000)}, {"T", UINT64_C(1) << 40}, {"TiB", UINT64_C(1) << 40},
	};
	_cleanup_(freep) char *content = dup_content(n);
	_cleanup_(freep) char *unit = dup_attribute(n, "unit");
	uint64_t v;

	if (!n || !content || !unit || !parse_number(content, &v))
		return false;
	for (size_t i = 0; i < ELEMENTS(units); i++)
		if (strcasecmp(unit, units[i].name) == 0)
			return !__builtin_mul_overflow(v, units[i].factor, ret);
	return false;
}

static xmlNodePtr find_child(xmlNodePtr parent, const char *name)
{
	if (!parent)
		return NULL;
	for (xmlNodePtr n = parent->children; n; n = n->next)
		if (is_element(n, name))
			return n;
	return NULL;
}

static int read_domain(xmlNodePtr root, struct seen *s)
{
	_cleanup_(freep) char *id = dup_attribute(root, "id");
	_cleanup_(freep) char *title = dup_content(find_child(root, "title"));
	_cleanup_(freep) char *description = dup_content(find_child(root, "description"));
	_cleanup_(freep) char *os_type = dup_content(find_child(find_child(root, "os"), "type"));
	xmlNodePtr vcpu = find_child(root, "vcpu");
	_cleanup_(freep) char *current = dup_attribute(vcpu, "current");
	_cleanup_(freep) char *maximum = dup_content(vcpu);
	uint64_t v = 1;

	if (!id || !title || !description || !os_type || !current || !maximum)
		return -ENOMEM;
	s->id = -1;
	if (id[0] && parse_number(id, &v) && v <= INT_MAX)
		s->id = (int)v;
	if (!read_bytes(find_child(root, "memory"), &s->max_memory))
		s->unknown |= SEEN_MEMORY;
	if (!read_bytes(find_child(root, "currentMemory"), &s->memory))
		s->memory = s->max_memory;
	v = 1;
	if (vcpu && !parse_number(current[0] ? current : maximum, &v))
		s->unknown |= SEEN_MEMORY;
	s->vcpus = v <= UINT_MAX ? (unsigned)v : UINT_MAX;
	s->title = TAKE(title);
	s->description = TAKE(description);
	s->os_type = TAKE(os_type);
	return 0;
}

static int read_pool(xmlNodePtr root, struct seen *s)
{
	s->type = dup_attribute(root, "type");
	return s->type ? 0 : -ENOMEM;
}

static int read_network(xmlNodePtr root, struct seen *s)
{
	xmlNodePtr forward = find_child(root, "forward");
	char *bridge = dup_attribute(find_child(root, "bridge"), "name");
	char *type = dup_attribute(forward, "mode");

	if (!bridge || !type) {
		free(bridge);
		free(type);
		return -ENOMEM;
	}
	if (!type[0]) {
		free(type);
		/* a forward element without a mode is NAT */
		type = strdup(forward ? "nat" : "isolated");
	}
	s->bridge = bridge;
	s->type = type;
	return type ? 0 : -ENOMEM;
}

/* A document whose outermost element is @root and has a name. */
static int read_named(const char *xml, const char *root, xmlDocPtr *ret, char **ret_name)
{
	_cleanup_(free_doc) xmlDocPtr doc = NULL;
	size_t size = strlen(xml);
	xmlNodePtr element;
	char *name;

	if (size == 0 || size > XML_SIZE_MAX || has_doctype(xml))
		return -EBADMSG;
	doc = xmlReadMemory(xml, (int)size, NULL, "UTF-8", XML_OPTIONS);
	element = doc ? xmlDocGetRootElement(doc) : NULL;
	if (!element || !is_element(element, root))
		return -EBADMSG;
	name = dup_content(find_child(element, "name"));
	if (!name)
		return -ENOMEM;
	if (!name[0]) {
		free(name);
		return -EBADMSG;
	}
	*ret_name = name;
	*ret = TAKE(doc);
	return 0;
}

int lv_xml_read(enum kind kind, const char *xml, struct seen *s)
{
	_cleanup_(free_doc) xmlDocPtr doc = NULL;
	_cleanup_(freep) char *name = NULL;
	xmlNodePtr root;
	int r;

	r = read_named(xml, kind_to_string(kind), &doc, &name);
	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	switch (kind) {
	case KIND_DOMAIN:
		r = read_domain(root, s);
		break;
	case KIND_POOL:
		r = read_pool(root, s);
		break;
	case KIND_NETWORK:
		r = read_network(root, s);
		break;
	default:
		r = -EBADMSG;
	}
	if (r < 0)
		return r;
	free(s->name);
	s->name = TAKE(name);
	return 0;
}

int lv_xml_read_volume(const char *xml, struct volume *v)
{
	_cleanup_(free_doc) xmlDocPtr doc = NULL;
	_cleanup_(freep) char *name = NULL, *path = NULL, *type = NULL, *format = NULL;
	xmlNodePtr root, target;
	int r;

	r = read_named(xml, "volume", &doc, &name);
	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	target = find_child(root, "target");
	path = dup_content(find_child(target, "path"));
	type = dup_attribute(root, "type");
	format = dup_attribute(find_child(target, "format"), "type");
	if (!path || !type || !format)
		return -ENOMEM;
	if (!read_bytes(find_child(root, "capacity"), &v->capacity))
		v->capacity = 0;
	if (!read_bytes(find_child(root, "allocation"), &v->allocation))
		v->allocation = 0;
	v->name = TAKE(name);
	v->path = TAKE(path);
	v->type = TAKE(type);
	v->format = TAKE(format);
	return 0;
}

char **lv_xml_read_disks(const char *xml)
{
	_cleanup_(free_doc) xmlDocPtr doc = NULL;
	_cleanup_(freep) char *name = NULL;
	xmlNodePtr devices;
	char **list;
	size_t n = 0;

	if (read_named(xml, "domain", &doc, &name) < 0)
		return NULL;
	devices = find_child(xmlDocGetRootElement(doc), "devices");
	for (xmlNodePtr d = devices ? devices->children : NULL; d; d = d->next)
		n += is_element(d, "disk");
	list = calloc(n + 1, sizeof(*list));
	n = 0;
	for (xmlNodePtr d = devices ? devices->children : NULL; list && d; d = d->next) {
		char *target = is_element(d, "disk") ? dup_attribute(find_child(d, "target"), "dev") : NULL;

		if (target && target[0])
			list[n++] = target;
		else
			free(target);
	}
	return list;
}

static bool attribute_is(xmlNodePtr n, const char *name, const char *wanted)
{
	_cleanup_(freep) char *value = dup_attribute(n, name);

	return value && strcmp(value, wanted) == 0;
}

/* By its target name, or else by the file or device that is behind it. */
static xmlNodePtr find_disk(xmlNodePtr root, const char *word)
{
	xmlNodePtr devices = find_child(root, "devices"), behind = NULL;

	for (xmlNodePtr d = devices ? devices->children : NULL; d; d = d->next) {
		xmlNodePtr source;

		if (!is_element(d, "disk"))
			continue;
		if (attribute_is(find_child(d, "target"), "dev", word))
			return d;
		source = find_child(d, "source");
		if (attribute_is(source, "file", word) || attribute_is(source, "dev", word))
			behind = d;
	}
	return behind;
}

char *lv_xml_find_disk(const char *xml, const char *word)
{
	_cleanup_(free_doc) xmlDocPtr doc = NULL;
	_cleanup_(freep) char *name = NULL;
	xmlNodePtr disk;

	if (!word[0] || read_named(xml, "domain", &doc, &name) < 0)
		return NULL;
	disk = find_disk(xmlDocGetRootElement(doc), word);
	return disk ? dup_attribute(find_child(disk, "target"), "dev") : NULL;
}

bool lv_xml_disk_is_ready(const char *xml, const char *target)
{
	_cleanup_(free_doc) xmlDocPtr doc = NULL;
	_cleanup_(freep) char *name = NULL;
	xmlNodePtr disk;

	if (read_named(xml, "domain", &doc, &name) < 0)
		return false;
	disk = find_disk(xmlDocGetRootElement(doc), target);
	return disk && attribute_is(find_child(disk, "mirror"), "ready", "yes");
}

int lv_xml_read_uuid(const char *xml, sd_id128_t *ret)
{
	_cleanup_(free_doc) xmlDocPtr doc = NULL;
	_cleanup_(freep) char *text = NULL;
	size_t size = strlen(xml);
	char *word;

	if (size == 0 || size > XML_SIZE_MAX || has_doctype(xml))
		return -ENOENT;
	doc = xmlReadMemory(xml, (int)size, NULL, "UTF-8", XML_OPTIONS);
	text = dup_content(doc ? find_child(xmlDocGetRootElement(doc), "uuid") : NULL);
	if (!text)
		return -ENOMEM;
	word = text + strspn(text, " \t\r\n");
	word[strcspn(word, " \t\r\n")] = '\0';
	return sd_id128_from_string(word, ret) < 0 ? -ENOENT : 0;
}

int lv_xml_check(const char *xml, const char *root, struct failure *f)
{
	_cleanup_(free_context) xmlParserCtxtPtr ctxt = NULL;
	_cleanup_(free_doc) xmlDocPtr doc = NULL;
	xmlNodePtr element;
	size_t size = xml ? strlen(xml) : 0;

	if (size == 0)
		return failure_set(f, VIREO_INVALID_XML, "The XML is empty.");
	if (size > XML_SIZE_MAX)
		return failure_set(f, VIREO_INVALID_XML, "The XML is longer than %u bytes.", XML_SIZE_MAX);
	if (has_doctype(xml))
		return failure_set(f, VIREO_INVALID_XML, "The XML has a document type declaration, which is not allowed.");
	ctxt = xmlNewParserCtxt();
	if (!ctxt)
		return failure_set(f, VIREO_NO_MEMORY, "No memory to read the XML.");
	doc = xmlCtxtReadMemory(ctxt, xml, (int)size, NULL, "UTF-8", XML_OPTIONS);
	if (!doc) {
		const xmlError *e = xmlCtxtGetLastError(ctxt);
		size_t n = e && e->message ? strcspn(e->message, "\n") : 0;

		return failure_set(f, VIREO_INVALID_XML, "The XML is not well-formed: line %d, column %d: %.*s.",
				   e ? e->line : 0, e ? e->int2 : 0, n ? (int)n : 7, n ? e->message : "unknown");
	}
	element = xmlDocGetRootElement(doc);
	if (root && !is_element(element, root))
		return failure_set(f, VIREO_INVALID_XML, "The XML describes a <%s>, not a <%s> (line %ld).",
				   (const char *)element->name, root, xmlGetLineNo(element));
	return 0;
}
