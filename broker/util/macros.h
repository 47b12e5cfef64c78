/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Runs f(&variable) when the variable goes out of scope, as sd-bus's own helpers do. */
#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_ __attribute__((unused))
#define _warn_unused_ __attribute__((warn_unused_result))

#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)
/* "unknown" for a time, "never" for a timer; the same value that systemd's services use on the bus. */
#define USEC_UNKNOWN UINT64_MAX

/* Makes cleanup function name##p for a function that takes one pointer and accepts NULL. */
#define DEFINE_CLEANUP(type, function)                                                                       \
	static inline void function##p(type *p)                                                              \
	{                                                                                                    \
		if (*p)                                                                                      \
			function(*p);                                                                        \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

/* Gives a pointer away: the caller's variable is NULL afterwards. */
#define TAKE(p)                                                                                              \
	({                                                                                                   \
		__typeof__(p) *_pp = &(p);                                                                   \
		__typeof__(p) _v = *_pp;                                                                     \
		*_pp = NULL;                                                                                 \
		_v;                                                                                          \
	})
