/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libxml/uri.h>
#include <stdbool.h>

#include "drivers/driver.h"

/*
 * lv_xml_read() - take from a description what an object's properties need
 * @xml: as libvirt gave it, made valid UTF-8; hostile
 * @s:   filled: name, and for a domain id, title, description, os_type, memory, max_memory, vcpus; for a pool type;
 *       for a network type and bridge. Untouched on failure.
 *
 * Return: 0; -EBADMSG when it is not well-formed, not of this kind, or lacks a name; -ENOMEM.
 */
int lv_xml_read(enum kind kind, const char *xml, struct seen *s);

/*
 * lv_xml_check() - is what a client handed in well-formed, and of the right element?
 * @root: name of the outermost element; NULL: any
 *
 * Return: 0, or VIREO_INVALID_XML with line and column.
 */
int lv_xml_check(const char *xml, const char *root, struct failure *f);

/* The same for a volume: every member. */
int lv_xml_read_volume(const char *xml, struct volume *v);

/* The UUID that a description names. -ENOENT when it names none. */
int lv_xml_read_uuid(const char *xml, sd_id128_t *ret);

/* Target names of a domain's disks: owned, NULL-terminated. NULL: no memory, or not understood. */
char **lv_xml_read_disks(const char *xml);

/* The target name, owned, of the disk of that name, or that has that file or device behind it. NULL: there is none. */
char *lv_xml_find_disk(const char *xml, const char *word);

/* Is there a copy of this disk, or a commit of its active layer, that waits for being completed? */
bool lv_xml_disk_is_ready(const char *xml, const char *target);

static inline void lv_uri_free(xmlURIPtr *uri)
{
	if (*uri)
		xmlFreeURI(*uri);
}
