/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "props.h"

/* What props.c and props-json.c share. */

/* How a value is held; the D-Bus signature says more than memory needs to know. */
enum form { FORM_STRING, FORM_LIST, FORM_PAIR, FORM_BOOL, FORM_I32, FORM_U32, FORM_U64, FORM_DOUBLE };
enum form props_form(const struct prop_def *d);

void props_strv_free(char **l);
DEFINE_CLEANUP(char **, props_strv_free)

/* With room for @more bytes behind the values; these are not cleared. Strings and lists are NULL. */
struct props *props_alloc(enum kind kind, size_t more);
/* Where that room begins; it is aligned for pointers. */
char *props_tail(struct props *p);
