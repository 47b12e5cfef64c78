/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pool.h"

struct pools {
	const struct guest_env *env;
};

int pools_new(const struct guest_env *env, const char *directory, struct pools **ret)
{
	*ret = calloc(1, sizeof(**ret));
	(*ret)->env = env;
	return 0;
}
void pools_free(struct pools *p)
{
	free(p);
}
void pools_autostart(struct pools *p)
{
}
void pools_list(struct pools *p, uint64_t serial)
{
}
bool pools_look(struct pools *p, sd_id128_t uuid, uint64_t serial)
{
	return false;
}
bool pools_cancel(struct pools *p, uint64_t token)
{
	return false;
}
void pools_operate(struct pools *p, struct request *r)
{
	env_post_result(p->env, r, VIREO_NOT_SUPPORTED, "%s", "this connection has no pools");
}
