/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "face.h"

/**
 * face_error() - a failure, as D-Bus has it
 * @e: where to; may be NULL
 * @r: positive vireo_error, then @f says more; or a negative errno
 * @f: may be NULL
 *
 * Return: negative, for a handler to return.
 */
int face_error(sd_bus_error *e, int r, const struct failure *f)
{
	if (r == 0)
		return 0;
	if (r == -ENOMEM)
		return sd_bus_error_set(e, vireo_error_name(VIREO_NO_MEMORY), "out of memory");
	if (r == -EBADMSG || r == -ENXIO)
		return sd_bus_error_set(e, vireo_error_name(VIREO_INVALID_ARGS), "the arguments are not of the method's types");
	if (r < 0)
		return sd_bus_error_set_errno(e, r);
	/* Who returns a name but no words had nothing to add to the name. */
	return sd_bus_error_set(e, vireo_error_name((enum vireo_error)r), f && f->message ? f->message : "");
}
