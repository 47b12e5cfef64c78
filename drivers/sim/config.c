/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <libxml/parser.h>

#include "truth.h"
#include "util/utf8.h"
#include "xml.h"

struct sim_config *sim_config_new(enum kind kind)
{
	struct sim_config *c = sim_new(struct sim_config);

	c->refs = 1;
	c->title = sim_strdup("");
	c->description = sim_strdup("");
	c->os_type = sim_strdup("hvm");
	c->max_memory = c->memory = UINT64_C(512) << 20;
	c->vcpus = c->max_vcpus = 1;
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

/* ---- reading XML -------------------------------------------------------------------------------------------- */

static void take_text(char **where, char *text)
{
	if (!text)
		return;
	free(*where);
	*where = text;
}

static int parse_identity(xmlNode *top, char **ret_name, sd_id128_t *ret_uuid, struct failure *f)
{
	_cleanup_(freep) char *name = sim_xml_child_text(top, "name"), *uuid = sim_xml_child_text(top, "uuid");
	sd_id128_t id;

	if (!name || !name[0])
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <%s> lacks a <name>.", xmlGetLineNo(top),
				   (const char *)top->name);
	if (uuid) {
		if (sd_id128_from_string(uuid, &id) < 0)
			return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <uuid> is '%s'; expected 32 hex digits.",
					   xmlGetLineNo(sim_xml_child(top, "uuid")), uuid);
		if (sd_id128_is_null(id))
			return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: the <uuid> is all zeros.",
					   xmlGetLineNo(sim_xml_child(top, "uuid")));
	} else if (sd_id128_randomize(&id) < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "There is no random number for a UUID.");
	*ret_name = TAKE(name);
	*ret_uuid = id;
	return 0;
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

/* Keeps the document as the configuration's text, with and without secrets. */
static void keep_document(struct sim_config *c, xmlDoc *doc)
{
	free(c->xml);
	free(c->xml_plain);
	c->xml_plain = NULL;
	c->xml = sim_xml_text(doc);
	if (strip_secrets(xmlDocGetRootElement(doc)))
		c->xml_plain = sim_xml_text(doc);
}

static int parse_domain(xmlNode *top, struct sim_config *c, struct failure *f)
{
	xmlNode *memory = sim_xml_child(top, "memory"), *current = sim_xml_child(top, "currentMemory");
	xmlNode *vcpu = sim_xml_child(top, "vcpu");
	_cleanup_(freep) char *current_vcpus = sim_xml_attribute(vcpu, "current");
	int r;

	take_text(&c->type, sim_xml_attribute(top, "type"));
	take_text(&c->title, sim_xml_child_text(top, "title"));
	take_text(&c->description, sim_xml_child_text(top, "description"));
	take_text(&c->os_type, sim_xml_child_text(sim_xml_child(top, "os"), "type"));
	if (!memory)
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <domain> lacks <memory>.", xmlGetLineNo(top));
	r = sim_xml_bytes(memory, 1024, &c->max_memory, f);
	if (r != 0)
		return r;
	c->memory = c->max_memory;
	if (current && (r = sim_xml_bytes(current, 1024, &c->memory, f)) != 0)
		return r;
	if (vcpu) {
		uint64_t n = 0;

		r = sim_xml_bytes(vcpu, 1, &n, f);
		if (r != 0)
			return r;
		if (n == 0 || n > 4096)
			return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <vcpu> is %" PRIu64 "; expected 1 to 4096.",
					   xmlGetLineNo(vcpu), n);
		c->vcpus = c->max_vcpus = (unsigned)n;
		n = current_vcpus ? strtoull(current_vcpus, NULL, 10) : n;
		if (n == 0 || n > c->max_vcpus)
			return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <vcpu current='%s'> is not 1 to %u.",
					   xmlGetLineNo(vcpu), current_vcpus, c->max_vcpus);
		c->vcpus = (unsigned)n;
	}
	return 0;
}

int sim_config_parse(enum kind kind, const char *xml, struct sim_config **ret, char **ret_name, sd_id128_t *ret_uuid,
		     struct failure *f)
{
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
	_cleanup_(freep) char *name = NULL;
	char uuid_text[37];
	struct sim_config *c;
	sd_id128_t uuid = {};
	xmlNode *top;
	int r;

	r = sim_xml_parse(xml, kind_to_string(kind), &doc, f);
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
		take_text(&c->type, sim_xml_attribute(top, "type"));
		take_text(&c->path, sim_xml_child_text(sim_xml_child(top, "target"), "path"));
	} else {
		xmlNode *forward = sim_xml_child(top, "forward");

		take_text(&c->bridge, sim_xml_attribute(sim_xml_child(top, "bridge"), "name"));
		/* libvirt: a <forward> without mode is NAT, none at all is isolated */
		free(c->type);
		c->type = forward ? sim_xml_attribute(forward, "mode") : sim_strdup("isolated");
		if (!c->type)
			c->type = sim_strdup("nat");
	}
	if (r != 0) {
		sim_config_unref(c);
		return r;
	}
	sim_xml_set_child(top, "uuid", sd_id128_to_uuid_string(uuid, uuid_text));
	keep_document(c, doc);
	*ret = c;
	*ret_name = TAKE(name);
	*ret_uuid = uuid;
	return 0;
}

/* Of a configuration whose text is XML; a broken one stays as it is. */
static xmlDoc *open_text(const struct sim_config *c)
{
	return c->xml ? xmlReadMemory(c->xml, (int)strlen(c->xml), NULL, NULL,
				      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING)
		      : NULL;
}

struct sim_config *sim_config_renamed(const struct sim_config *c, const char *name)
{
	struct sim_config *copy = sim_config_copy(c);
	_cleanup_(freep) char *clean = sim_must(utf8_dup(name));
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = open_text(c);

	if (doc) {
		sim_xml_set_child(xmlDocGetRootElement(doc), "name", clean);
		keep_document(copy, doc);
	}
	return copy;
}

static void set_kib(xmlNode *top, const char *key, uint64_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, bytes >> 10);
	sim_xml_set_child(top, key, text);
	/* whatever the user's was in */
	xmlSetProp(sim_xml_child(top, key), (const xmlChar *)"unit", (const xmlChar *)"KiB");
}

struct sim_config *sim_config_resized(const struct sim_config *c, const struct sim_size *size)
{
	struct sim_config *copy = sim_config_copy(c);
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = open_text(c);
	xmlNode *top = doc ? xmlDocGetRootElement(doc) : NULL;
	char text[32];

	copy->max_memory = size->max_memory;
	copy->memory = size->memory;
	copy->vcpus = size->vcpus;
	copy->max_vcpus = size->max_vcpus;
	if (!top)
		return copy;
	set_kib(top, "memory", size->max_memory);
	set_kib(top, "currentMemory", size->memory);
	snprintf(text, sizeof(text), "%u", size->max_vcpus);
	sim_xml_set_child(top, "vcpu", text);
	snprintf(text, sizeof(text), "%u", size->vcpus);
	if (size->vcpus < size->max_vcpus)
		xmlSetProp(sim_xml_child(top, "vcpu"), (const xmlChar *)"current", (const xmlChar *)text);
	else
		xmlUnsetProp(sim_xml_child(top, "vcpu"), (const xmlChar *)"current");
	keep_document(copy, doc);
	return copy;
}

struct sim_config *sim_config_edited(const struct sim_config *c, xmlDoc *doc)
{
	struct sim_config *copy = sim_config_copy(c);

	keep_document(copy, doc);
	return copy;
}
