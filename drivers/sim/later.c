/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "remote.h"
#include "server.h"

/* The process form is still to come; until then it is refused by name. */

int sim_server_new(struct sim_world *w, const char *path, struct sim_server **ret, struct failure *f)
{
	return failure_set(f, VIREO_NOT_SUPPORTED, "control sockets are not in this build.");
}

void sim_server_free(struct sim_server *s)
{
}

int sim_remote_new(const char *path, sim_post_fn post, void (*release)(void *), void *userdata, struct sim_remote **ret)
{
	release(userdata);
	return VIREO_NOT_SUPPORTED;
}

void sim_remote_list(struct sim_remote *m, uint64_t serial)
{
}

void sim_remote_look(struct sim_remote *m, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
}

void sim_remote_operate(struct sim_remote *m, struct request *r)
{
	request_free(r);
}

void sim_remote_cancel(struct sim_remote *m, uint64_t token)
{
}

void sim_remote_close(struct sim_remote *m)
{
}
