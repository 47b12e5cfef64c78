/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <libxml/tree.h>
#include <string.h>

#include "pool.h"
#include "util/utf8.h"
#include "vm.h"

/* Descriptions of pools. */

static int parse_target(struct failure *f, xmlNode *target, char **ret_path)
{
	int r = xml_check_attributes(f, target, "");

	for (xmlNode *n = xml_first(target); n && r == 0; n = xml_next(n)) {
		if (!xml_is(n, "path"))
			return xml_refuse(f, n, "this element is not understood within <target>");
		free(*ret_path);
		*ret_path = xml_content(n);
		if (!*ret_path || (*ret_path)[0] != '/')
			return xml_refuse(f, n, "'%s' is not an absolute path", *ret_path ? *ret_path : "");
	}
	return r;
}

static int parse_root(struct failure *f, xmlNode *root, sd_id128_t *uuid, char **name, char **path)
{
	_cleanup_(freep) char *type = xml_attribute(root, "type");
	int r = xml_check_attributes(f, root, "type");

	if (r == 0 && (!type || strcmp(type, "dir") != 0))
		r = xml_refuse(f, root, "its type '%s' is not supported; it can be: dir", type ? type : "");
	for (xmlNode *n = xml_first(root); n && r == 0; n = xml_next(n)) {
		_cleanup_(freep) char *text = xml_content(n);

		if (xml_is(n, "name")) {
			if (!text || !*text || strlen(text) > 255 || strpbrk(text, "/\n\r\t"))
				return xml_refuse(f, n, "that is no name of a pool");
			free(*name);
			*name = utf8_dup(text);
		} else if (xml_is(n, "uuid")) {
			if (!text || sd_id128_from_string(text, uuid) < 0 || sd_id128_is_null(*uuid))
				return xml_refuse(f, n, "'%s' is not a UUID", text ? text : "");
		} else if (xml_is(n, "target"))
			r = parse_target(f, n, path);
		/* what describes a pool that is there */
		else if (!xml_is(n, "capacity") && !xml_is(n, "allocation") && !xml_is(n, "available") &&
			 !(xml_is(n, "source") && !xml_first(n)))
			r = xml_refuse(f, n, "this element is not understood within <pool>");
	}
	if (r == 0 && !*name)
		r = xml_refuse(f, root, "it has no <name>");
	if (r == 0 && !*path)
		r = xml_refuse(f, root, "it has no <target> with a <path>");
	return r;
}

/* Canonical, so that what is kept holds no numbers of a moment. */
static char *write_description(sd_id128_t uuid, const char *name, const char *path)
{
	xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");
	xmlNode *root = xmlNewNode(NULL, BAD_CAST "pool"), *target;
	char text[SD_ID128_UUID_STRING_MAX], *dump;

	xmlDocSetRootElement(doc, root);
	xmlNewProp(root, BAD_CAST "type", BAD_CAST "dir");
	xmlNewTextChild(root, NULL, BAD_CAST "name", BAD_CAST name);
	xmlNewTextChild(root, NULL, BAD_CAST "uuid", BAD_CAST sd_id128_to_uuid_string(uuid, text));
	target = xmlNewChild(root, NULL, BAD_CAST "target", NULL);
	xmlNewTextChild(target, NULL, BAD_CAST "path", BAD_CAST path);
	dump = xml_dump(doc);
	xmlFreeDoc(doc);
	return dump;
}

int pool_parse(const char *xml, sd_id128_t *uuid, char **name, char **path, char **text, struct failure *f)
{
	xmlDoc *doc = NULL;
	int r = xml_parse(xml ? xml : "", "pool", &doc, f);

	*uuid = SD_ID128_NULL;
	if (r == 0)
		r = parse_root(f, xmlDocGetRootElement(doc), uuid, name, path);
	xmlFreeDoc(doc);
	if (r == 0 && sd_id128_is_null(*uuid))
		r = sd_id128_randomize(uuid);
	if (r == 0 && !(*text = write_description(*uuid, *name, *path)))
		r = -ENOMEM;
	return r;
}
