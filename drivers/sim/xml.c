/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include <libxml/parser.h>

#include "truth.h"
#include "xml.h"

void sim_xml_doc_freep(xmlDoc **doc)
{
	if (*doc)
		xmlFreeDoc(*doc);
}

void sim_xml_string_freep(xmlChar **s)
{
	if (*s)
		xmlFree(*s);
}

int sim_xml_parse(const char *xml, const char *root, xmlDoc **ret, struct failure *f)
{
	xmlParserCtxt *ctxt;
	xmlDoc *doc;
	xmlNode *top;
	size_t n = xml ? strlen(xml) : 0;

	if (n == 0)
		return failure_set(f, VIREO_INVALID_XML, "The XML is empty; expected a <%s> element.", root ? root : "device");
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
	if (doc->intSubset) {
		xmlFreeDoc(doc);
		return failure_set(f, VIREO_INVALID_XML, "XML, line 1: a document type declaration is not allowed.");
	}
	if (!top || (root && strcmp((const char *)top->name, root) != 0)) {
		failure_set(f, VIREO_INVALID_XML, "XML, line %ld: the top element is <%s>; expected <%s>.",
			    top ? xmlGetLineNo(top) : 1L, top ? (const char *)top->name : "", root ? root : "device");
		xmlFreeDoc(doc);
		return VIREO_INVALID_XML;
	}
	*ret = doc;
	return 0;
}

xmlNode *sim_xml_child(xmlNode *parent, const char *name)
{
	for (xmlNode *n = parent ? parent->children : NULL; n; n = n->next)
		if (n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0)
			return n;
	return NULL;
}

char *sim_xml_child_text(xmlNode *parent, const char *name)
{
	xmlNode *n = sim_xml_child(parent, name);
	_cleanup_(sim_xml_string_freep) xmlChar *s = n ? xmlNodeGetContent(n) : NULL;

	return s ? sim_strdup((const char *)s) : NULL;
}

char *sim_xml_attribute(xmlNode *n, const char *name)
{
	_cleanup_(sim_xml_string_freep) xmlChar *s = n ? xmlGetProp(n, (const xmlChar *)name) : NULL;

	return s ? sim_strdup((const char *)s) : NULL;
}

int sim_xml_bytes(xmlNode *n, uint64_t missing_unit, uint64_t *ret, struct failure *f)
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
	_cleanup_(sim_xml_string_freep) xmlChar *text = xmlNodeGetContent(n);
	_cleanup_(freep) char *unit = sim_xml_attribute(n, "unit");
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

void sim_xml_set_child(xmlNode *top, const char *name, const char *text)
{
	xmlNode *n = sim_xml_child(top, name);
	xmlNode *at = sim_xml_child(top, "name");

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

char *sim_xml_text(xmlDoc *doc)
{
	xmlBuffer *b = sim_must(xmlBufferCreate());
	char *s;

	xmlNodeDump(b, doc, xmlDocGetRootElement(doc), 0, 0);
	s = sim_printf("%s\n", (const char *)xmlBufferContent(b));
	xmlBufferFree(b);
	return s;
}
