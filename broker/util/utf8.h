/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include "macros.h"

/*
 * utf8_is_valid() - would sd-bus accept this string?
 *
 * sd-bus is stricter than RFC 3629: it also refuses the noncharacters U+FDD0…U+FDEF and U+xxFFFE, U+xxFFFF.
 * One refused string makes a whole message fail, so nothing unchecked may come near a message.
 */
bool utf8_is_valid(const char *s);

/*
 * utf8_dup() - a copy of @s in which whatever sd-bus would refuse is U+FFFD, one for each maximal bad run
 *
 * NULL gives NULL. Return: owned by the caller; NULL also when out of memory.
 */
char *utf8_dup(const char *s);
char *utf8_dupn(const char *s, size_t n);
