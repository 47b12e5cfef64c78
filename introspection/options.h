/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "util/error.h"
#include "util/vdict.h"

/*
 * Options of a method, a{sv}, read strictly by a table: whatever is not in the table is refused by name.
 */
struct option_def {
	const char *key;	/* NULL ends a table */
	const char *type;	/* D-Bus signature: b i u x t d s o as ao */
	const char *words;	/* s as: only these, separated by spaces; NULL: any */
	const char *not_with;	/* keys that may not be true or given beside it, separated by spaces */
	uint64_t min, max;	/* t u: inclusive; max 0: no bounds */
};

/**
 * options_read() - read an a{sv} at the message's present place
 * @defs, @more: tables of what is allowed; @more may be NULL
 * @ret:         owned by the caller; o is kept as 's', ao as 'a'
 *
 * Return: 0; VIREO_INVALID_OPTION with the key in the message; or a negative errno.
 */
int options_read(sd_bus_message *m, const struct option_def *defs, const struct option_def *more, struct vdict **ret,
		 struct failure *f);
