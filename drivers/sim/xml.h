/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libxml/tree.h>

#include "drivers/driver.h"

/* Reading and changing XML with libxml2. What fails says VIREO_INVALID_XML and where. */
void sim_xml_doc_freep(xmlDoc **doc);
void sim_xml_string_freep(xmlChar **s);
/* @root: what the top element has to be; NULL: anything */
int sim_xml_parse(const char *xml, const char *root, xmlDoc **ret, struct failure *f);
xmlNode *sim_xml_child(xmlNode *parent, const char *name); /* NULL: there is none */
/* Owned; NULL: there is no such child, no such attribute. */
char *sim_xml_child_text(xmlNode *parent, const char *name);
char *sim_xml_attribute(xmlNode *n, const char *name);
/* A size with its unit. */
int sim_xml_bytes(xmlNode *n, uint64_t missing_unit, uint64_t *ret, struct failure *f);
void sim_xml_set_child(xmlNode *top, const char *name, const char *text);
char *sim_xml_text(xmlDoc *doc); /* owned */
