/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs.h"

#include "ops.h"

/* Operations that last: how they are cancelled, and how far they are. */

const struct lv_handler lv_job_handlers[OP_MAX] = {
	{0},
};

void lv_job_block_event(struct driver_connection *c, virDomainPtr dom, const char *disk, int type, int status)
{
}

void lv_cancel(struct driver_connection *c, uint64_t token)
{
	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next)
		if (op->r->token == token && !op->begun)
			op->cancelled = true;
	pthread_mutex_unlock(&c->lock);
}

void lv_complete(struct driver_connection *c, uint64_t token)
{
}
