/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <libxml/tree.h>
#include <string.h>

#include "attempt.h"
#include "vm.h"

/* Descriptions of volumes. */

void wanted_clear(struct wanted *w)
{
	free(w->name);
	free(w->format);
	free(w->backing);
	free(w->backing_format);
}

static int parse_format(struct failure *f, xmlNode *n, char **ret)
{
	int r = xml_check_attributes(f, n, "type");

	free(*ret);
	*ret = xml_attribute(n, "type");
	if (r == 0 && (!*ret || (strcmp(*ret, "raw") != 0 && strcmp(*ret, "qcow2") != 0)))
		r = xml_refuse(f, n, "'%s' is not supported; it can be one of: raw qcow2", *ret ? *ret : "");
	return r;
}

static int parse_part(struct failure *f, xmlNode *part, char **path, char **format)
{
	int r = xml_check_attributes(f, part, "");

	for (xmlNode *n = xml_first(part); n && r == 0; n = xml_next(n)) {
		if (xml_is(n, "format"))
			r = parse_format(f, n, format);
		else if (path && xml_is(n, "path")) {
			free(*path);
			*path = xml_content(n);
			if (!*path || (*path)[0] != '/')
				r = xml_refuse(f, n, "that is no absolute path");
		} else if (!xml_is(n, "path"))
			r = xml_refuse(f, n, "this element is not understood within <%s>", (const char *)part->name);
	}
	return r;
}

int wanted_parse(const char *xml, struct wanted *w, struct failure *f)
{
	xmlDoc *doc = NULL;
	xmlNode *root;
	int r = xml_parse(xml ? xml : "", "volume", &doc, f);

	if (r != 0)
		return r;
	root = xmlDocGetRootElement(doc);
	r = xml_check_attributes(f, root, "type");
	for (xmlNode *n = xml_first(root); n && r == 0; n = xml_next(n)) {
		if (xml_is(n, "name")) {
			free(w->name);
			w->name = xml_content(n);
		} else if (xml_is(n, "capacity"))
			r = xml_size(f, n, "bytes", &w->capacity);
		else if (xml_is(n, "allocation")) {
			r = xml_size(f, n, "bytes", &w->allocation);
			w->has_allocation = true;
		} else if (xml_is(n, "target"))
			r = parse_part(f, n, NULL, &w->format);
		else if (xml_is(n, "backingStore"))
			r = parse_part(f, n, &w->backing, &w->backing_format);
		else if (!xml_is(n, "key") && !(xml_is(n, "source") && !xml_first(n)))
			r = xml_refuse(f, n, "this element is not understood within <volume>");
	}
	if (r == 0 && !w->name)
		r = xml_refuse(f, root, "it has no <name>");
	if (r == 0 && !w->format)
		w->format = strdup("raw");
	if (r == 0 && w->backing && strcmp(w->format, "qcow2") != 0)
		r = xml_refuse(f, root, "only a qcow2 can have a <backingStore>");
	xmlFreeDoc(doc);
	return r;
}
