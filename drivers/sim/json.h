/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "drivers/driver.h"

/*
 * Strict reading of JSON: every mistake says where it is and what was expected.
 *
 * @spec: the keys that an object may have, "!name=s active=b": a leading ! for one that it must have, then its type:
 *        s string, x string of hex digits (bytes), b boolean, n whole number from 0, i whole number, p number 0 to 1,
 *        u UUID, a array, o object, * anything.
 * @where: "FILE: $.domains[3]"
 */
int sim_json_check(struct json_object *j, const char *where, const char *spec, struct failure *f);
/* After the check; @missing when there is no such key. */
const char *sim_json_string(struct json_object *j, const char *key, const char *missing);
bool sim_json_bool(struct json_object *j, const char *key, bool missing);
uint64_t sim_json_number(struct json_object *j, const char *key, uint64_t missing);
double sim_json_double(struct json_object *j, const char *key, double missing);
struct json_object *sim_json_get(struct json_object *j, const char *key); /* borrowed; NULL */
/* "key", or the bytes of "key-hex". Owned; NULL: there is neither. */
char *sim_json_bytes(struct json_object *j, const char *key);

/* A whole text, with a NUL behind its @n bytes; VIREO_INVALID_ARGS with line and column. @ret: owned. */
int sim_json_parse(const char *text, size_t n, const char *file, struct json_object **ret, struct failure *f);
