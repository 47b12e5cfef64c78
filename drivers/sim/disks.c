/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include <libxml/parser.h>

#include "disks.h"

xmlDoc *sim_open_config(const struct sim_object *o, const struct sim_config *c)
{
	_cleanup_(freep) char *xml = sim_object_xml(o, c, true);

	return xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
}

void sim_change_config(struct sim_config **which, xmlDoc *doc)
{
	struct sim_config *config = sim_config_edited(*which, doc);

	sim_config_unref(*which);
	*which = config;
}

char *sim_disk_file(xmlNode *layer)
{
	return sim_xml_attribute(sim_xml_child(layer, "source"), "file");
}

void sim_disk_set_file(xmlNode *layer, const char *file)
{
	xmlNode *source = sim_xml_child(layer, "source");

	if (!source)
		source = xmlNewChild(layer, NULL, (const xmlChar *)"source", NULL);
	xmlSetProp(sim_must(source), (const xmlChar *)"file", (const xmlChar *)file);
}

xmlNode *sim_disk_backing(xmlNode *layer)
{
	xmlNode *below = sim_xml_child(layer, "backingStore");

	/* libvirt ends a chain with an empty one */
	return below && sim_xml_child(below, "source") ? below : NULL;
}

xmlNode *sim_disk_find(xmlDoc *doc, const char *disk)
{
	xmlNode *devices = doc ? sim_xml_child(xmlDocGetRootElement(doc), "devices") : NULL;

	for (xmlNode *n = devices ? devices->children : NULL; n; n = n->next) {
		_cleanup_(freep) char *target = NULL, *file = NULL;

		if (n->type != XML_ELEMENT_NODE || strcmp((const char *)n->name, "disk") != 0)
			continue;
		target = sim_xml_attribute(sim_xml_child(n, "target"), "dev");
		file = sim_disk_file(n);
		if ((target && strcmp(target, disk) == 0) || (file && strcmp(file, disk) == 0))
			return n;
	}
	return NULL;
}

xmlNode *sim_disk_layer(xmlNode *disk, const char *target, const char *name)
{
	size_t n = strlen(target);
	unsigned index = 0, wanted = 0;
	char end = 0;
	bool numbered = strncmp(name, target, n) == 0 && sscanf(name + n, "[%u%c", &wanted, &end) == 2 && end == ']';

	for (xmlNode *layer = disk; layer; layer = sim_disk_backing(layer), index++) {
		_cleanup_(freep) char *file = sim_disk_file(layer);

		if (numbered ? index == wanted : file && strcmp(file, name) == 0)
			return layer;
	}
	return NULL;
}
