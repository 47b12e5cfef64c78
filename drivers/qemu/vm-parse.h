/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libxml/tree.h>

#include "vm.h"

/* What the two files that understand descriptions share. */

struct vm_parser {
	struct vm *vm;
	struct failure *f;
	unsigned devices;
};

/* One element: what to do with it, and which attributes it may have. */
struct vm_element {
	const char *name;
	const char *attributes;
	int (*parse)(struct vm_parser *p, xmlNode *node);
	bool many;     /* may stand more than once */
	bool children; /* may have element children: parse() sees to them */
};

/* Each child by the table; any other is refused. @table ends with a NULL name. */
int vm_parse_children(struct vm_parser *p, xmlNode *node, const struct vm_element *table);

/* Kept until the vm goes. NULL in, NULL out; a failure of memory gives NULL too, and is told by vm_parser_check(). */
const char *vm_keep(struct vm_parser *p, char *s);
const char *vm_attribute(struct vm_parser *p, xmlNode *node, const char *name);
const char *vm_content(struct vm_parser *p, xmlNode *node);
/* 0 and the index of @value among @words ("a b c"); @missing when it is NULL; else refused. */
int vm_choice(struct vm_parser *p, xmlNode *node, const char *attribute, const char *words, int missing, int *ret);
int vm_path(struct vm_parser *p, xmlNode *node, const char *path);

/* vm-devices.c */
extern const struct vm_element vm_device_elements[];
