/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "vm-parse.h"

/* Descriptions that are changed in one place, and stay otherwise as they were written. */

static bool set_element(xmlDoc *doc, const char *name, const char *value, const char *unit)
{
	xmlNode *root = xmlDocGetRootElement(doc), *n = xml_first(root);

	while (n && !xml_is(n, name))
		n = xml_next(n);
	if (!n)
		n = xmlNewChild(root, NULL, BAD_CAST name, NULL);
	if (!n)
		return false;
	xmlNodeSetContent(n, NULL);
	xmlNodeAddContent(n, BAD_CAST value);
	if (unit)
		xmlSetProp(n, BAD_CAST "unit", BAD_CAST unit);
	return true;
}

char *vm_text_change(const char *xml, const char *name, uint64_t memory, uint64_t current_memory, unsigned vcpus)
{
	xmlDoc *doc = NULL;
	char number[32], *text = NULL;
	bool good = xml_parse(xml, "domain", &doc, NULL) == 0;

	if (good && name)
		good = set_element(doc, "name", name, NULL);
	if (good && memory) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)(memory / 1024));
		good = set_element(doc, "memory", number, "KiB");
	}
	if (good && current_memory) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)(current_memory / 1024));
		good = set_element(doc, "currentMemory", number, "KiB");
	}
	if (good && vcpus) {
		snprintf(number, sizeof(number), "%u", vcpus);
		good = set_element(doc, "vcpu", number, NULL);
	}
	if (good)
		text = xml_dump(doc);
	xmlFreeDoc(doc);
	return text;
}

static bool set_source(xmlDoc *doc, const char *target, const char *file)
{
	xmlNode *devices = xml_first(xmlDocGetRootElement(doc));

	while (devices && !xml_is(devices, "devices"))
		devices = xml_next(devices);
	for (xmlNode *disk = devices ? xml_first(devices) : NULL; disk; disk = xml_next(disk)) {
		xmlNode *source = NULL;
		bool this = false;

		for (xmlNode *n = xml_is(disk, "disk") ? xml_first(disk) : NULL; n; n = xml_next(n)) {
			_cleanup_(freep) char *dev = xml_is(n, "target") ? xml_attribute(n, "dev") : NULL;

			if (xml_is(n, "source"))
				source = n;
			this = this || (dev && strcmp(dev, target) == 0);
		}
		if (this && source) {
			xmlUnsetProp(source, BAD_CAST "dev");
			return xmlSetProp(source, BAD_CAST "file", BAD_CAST file) && xmlSetProp(disk, BAD_CAST "type", BAD_CAST "file");
		}
	}
	return false;
}

char *vm_text_set_source(const char *xml, const char *target, const char *file)
{
	xmlDoc *doc = NULL;
	char *text = NULL;

	if (xml_parse(xml, "domain", &doc, NULL) == 0 && set_source(doc, target, file))
		text = xml_dump(doc);
	xmlFreeDoc(doc);
	return text;
}
