/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vm.h"

#define XML_SIZE_MAX (4u << 20)

int xml_parse(const char *xml, const char *root, xmlDoc **ret, struct failure *f)
{
	size_t size = strlen(xml ? xml : "");
	xmlParserCtxt *ctxt;
	xmlDoc *doc;
	xmlNode *node;
	int r;

	if (size == 0)
		return failure_set(f, VIREO_INVALID_XML, "The description is empty.");
	if (size > XML_SIZE_MAX)
		return failure_set(f, VIREO_INVALID_XML, "The description is longer than %u bytes.", XML_SIZE_MAX);
	ctxt = xmlNewParserCtxt();
	if (!ctxt)
		return -ENOMEM;
	/* Without NOENT and DTDLOAD nothing is ever read or replaced from outside. */
	doc = xmlCtxtReadMemory(ctxt, xml, (int)size, NULL, NULL,
		XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_BIG_LINES);
	if (!doc) {
		const xmlError *e = xmlCtxtGetLastError(ctxt);
		_cleanup_(freep) char *why = strdup(e && e->message ? e->message : "not XML");

		if (why)
			why[strcspn(why, "\n")] = 0;
		r = failure_set(f, VIREO_INVALID_XML, "line %d: %s", e && e->line > 0 ? e->line : 1, why ? why : "not XML");
		xmlFreeParserCtxt(ctxt);
		return r;
	}
	xmlFreeParserCtxt(ctxt);
	node = xmlDocGetRootElement(doc);
	if (doc->intSubset)
		r = failure_set(f, VIREO_INVALID_XML, "line 1: a document type is not allowed here");
	else if (!node || !xml_is(node, root))
		r = failure_set(f, VIREO_INVALID_XML, "line %ld: this is <%s>, not <%s>", node ? xmlGetLineNo(node) : 1,
			node ? (const char *)node->name : "", root);
	else {
		*ret = doc;
		return 0;
	}
	xmlFreeDoc(doc);
	return r;
}

int xml_refuse(struct failure *f, xmlNode *node, const char *format, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	return failure_set(f, VIREO_INVALID_XML, "line %ld: <%s>: %s", xmlGetLineNo(node), (const char *)node->name,
		text ? text : "");
}

/* Is @word among the words of @list? */
static bool is_among(const char *list, const char *word)
{
	size_t n = strlen(word);

	while (list && *list) {
		size_t m = strcspn(list, " ");

		if (m == n && strncmp(list, word, n) == 0)
			return true;
		list += m;
		list += strspn(list, " ");
	}
	return false;
}

int xml_check_attributes(struct failure *f, xmlNode *node, const char *words)
{
	for (xmlAttr *a = node->properties; a; a = a->next)
		if (a->ns || !is_among(words, (const char *)a->name))
			return xml_refuse(f, node, "its attribute '%s' is not understood here", (const char *)a->name);
	return 0;
}

char *xml_attribute(xmlNode *node, const char *name)
{
	xmlChar *value = xmlGetNoNsProp(node, BAD_CAST name);
	char *copy = value ? strdup((const char *)value) : NULL;

	xmlFree(value);
	return copy;
}

char *xml_content(xmlNode *node)
{
	xmlChar *value = xmlNodeGetContent(node);
	const char *s = value ? (const char *)value : "";
	size_t n;
	char *copy;

	s += strspn(s, " \t\r\n");
	n = strlen(s);
	while (n > 0 && strchr(" \t\r\n", s[n - 1]))
		n--;
	copy = strndup(s, n);
	xmlFree(value);
	return copy;
}

bool xml_is(xmlNode *node, const char *name)
{
	return !node->ns && strcmp((const char *)node->name, name) == 0;
}

static xmlNode *element(xmlNode *node)
{
	while (node && node->type != XML_ELEMENT_NODE)
		node = node->next;
	return node;
}

xmlNode *xml_first(xmlNode *node)
{
	return element(node->children);
}

xmlNode *xml_next(xmlNode *node)
{
	return element(node->next);
}

int xml_number(struct failure *f, xmlNode *node, const char *what, const char *text, uint64_t max, uint64_t *ret)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text ? text : "", &end, 10);
	if (!text || !*text || *end || *text < '0' || *text > '9' || errno || n > max)
		return xml_refuse(f, node, "%s '%s' is not a number up to %llu", what, text ? text : "",
			(unsigned long long)max);
	*ret = n;
	return 0;
}

int xml_size(struct failure *f, xmlNode *node, const char *default_unit, uint64_t *ret)
{
	static const struct {
		const char *names;
		uint64_t factor;
	} units[] = {
		{"b bytes", 1},
		{"KB", 1000},
		{"k KiB", UINT64_C(1) << 10},
		{"MB", 1000000},
		{"M MiB", UINT64_C(1) << 20},
		{"GB", UINT64_C(1000000000)},
		{"G GiB", UINT64_C(1) << 30},
		{"TB", UINT64_C(1000000000000)},
		{"T TiB", UINT64_C(1) << 40},
	};
	_cleanup_(freep) char *text = xml_content(node), *unit = xml_attribute(node, "unit");
	uint64_t n;
	int r = xml_number(f, node, "its size", text, UINT64_MAX, &n);

	if (r != 0)
		return r;
	for (size_t i = 0; i < ELEMENTS(units); i++)
		if (is_among(units[i].names, unit ? unit : default_unit)) {
			if (n > (UINT64_C(1) << 53) / units[i].factor)
				return xml_refuse(f, node, "%s %s is too much", text, unit ? unit : default_unit);
			*ret = n * units[i].factor;
			return 0;
		}
	return xml_refuse(f, node, "its unit '%s' is not known", unit);
}

char *xml_dump(xmlDoc *doc)
{
	xmlBuffer *buffer = xmlBufferCreate();
	char *text = NULL;

	if (buffer && xmlNodeDump(buffer, doc, xmlDocGetRootElement(doc), 0, 0) >= 0)
		text = strdup((const char *)xmlBufferContent(buffer));
	xmlBufferFree(buffer);
	return text;
}
