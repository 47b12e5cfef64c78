/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"
#include "xml.h"

/* Devices within a domain's description, and the layers of its disks. All locked. */

/* The description as a document, to be changed; NULL: it is none. Owned. */
xmlDoc *sim_open_config(const struct sim_object *o, const struct sim_config *c);
/* A changed document becomes the description. */
void sim_change_config(struct sim_config **which, xmlDoc *doc);

/* By its target (vda) or its file; NULL: there is no such disk. */
xmlNode *sim_disk_find(xmlDoc *doc, const char *disk);
/* The layer of @disk by its file or as "vda[1]", below the top, which is 0. NULL: there is none. */
xmlNode *sim_disk_layer(xmlNode *disk, const char *target, const char *name);
xmlNode *sim_disk_backing(xmlNode *layer); /* the next layer below; NULL */
char *sim_disk_file(xmlNode *layer);	   /* owned; NULL */
void sim_disk_set_file(xmlNode *layer, const char *file);
