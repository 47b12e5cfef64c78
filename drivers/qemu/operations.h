/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "change.h"

/* What the two files of operations share. All take @r. */

void run_refuse(struct driver_connection *c, struct request *r, enum vireo_error error, const char *message);
/* The failure of a function that gave a negative errno or filled @f; ends the request. */
void run_refuse_failure(struct driver_connection *c, struct request *r, int error, struct failure *f);
/* See there; false: @r is taken. */
bool run_find_meant(struct driver_connection *c, struct request *r, const struct vm *vm, struct domain **ret);

/* operations-start.c */
void run_op_start(struct driver_connection *c, struct domain *d, struct request *r);
void run_op_create(struct driver_connection *c, struct request *r);
void run_op_restore(struct driver_connection *c, struct request *r);
void run_op_managed_save(struct driver_connection *c, struct domain *d, struct request *r);
void run_op_managed_save_remove(struct driver_connection *c, struct domain *d, struct request *r);
