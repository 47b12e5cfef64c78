/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ops.h"

/* driver.h's */
void lv_cancel(struct driver_connection *c, uint64_t token);
void lv_complete(struct driver_connection *c, uint64_t token);

/* Its operator: from now on @op tells how far it is, until its call returns. */
void lv_follow(struct lv_op *op, enum lv_follow follow, bool cancellable);
/* Its worker, which takes it up now. false: it has ended before that. */
bool lv_take_up(struct lv_op *op);
/* Its operator: was it asked to end, or is there nobody to hear the end? */
bool lv_must_end(struct lv_op *op);
/* Its operator, when its call has returned well: the last word about what was moved. */
void lv_follow_end(struct lv_op *op);
/* Keeper, not under the lock: ask how far operations are. Return: when to come again. */
uint64_t lv_poll_operations(struct driver_connection *c);

/* The domain, on the connection for what must get through. NULL: libvirt's error. */
virDomainPtr lv_control_domain(struct driver_connection *c, const struct lv_op *op);

/* A block job was begun: LV_GOES_ON, or its end when that has come already. */
int lv_block_begun(struct lv_op *op, struct failure *f);

/* libvirt's loop, behind the cause that says the same. */
void lv_job_block_event(struct driver_connection *c, virDomainPtr dom, const char *disk, int type, int status);
void lv_job_domain_stopped(struct driver_connection *c, virDomainPtr dom, int detail);
void lv_job_completed(struct driver_connection *c, virDomainPtr dom, bool success);
/* QEMU said how a migration, and by that a save or a dump, ended. @end: as lv_op.known_end. */
void lv_job_known_end(struct driver_connection *c, virDomainPtr dom, int end);
bool lv_job_is_of(const struct lv_op *op, virDomainPtr dom);
/* Under the lock: does an operation follow this block job, or, @disk NULL, a job of this domain as a whole? */
bool lv_job_is_followed(struct driver_connection *c, sd_id128_t uuid, const char *disk);
/* Not under the lock: this block job is known to be ready, by more than its event. */
void lv_job_is_ready(struct driver_connection *c, sd_id128_t uuid, const char *disk);
/* … and has come to this pass over a domain's memory. */
void lv_job_iteration(struct driver_connection *c, virDomainPtr dom, int iteration);

/* foreign.c: jobs that others began */
void lv_foreign_register(struct driver_connection *c); /* keeper, before HELLO */
void lv_foreign_deregister(struct driver_connection *c);
/* Under the lock: look for what runs already. */
void lv_foreign_scan(struct driver_connection *c);
/* Under the lock: a look found a domain paused as by a job. */
void lv_foreign_suspect(struct driver_connection *c, sd_id128_t uuid);
