/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "world.h"

/* What the broker asks for, turned into actions: the same that scripts use. */

const enum operation sim_operations[] = {
	OP_DEFINE_DOMAIN,
	OP_CREATE_DOMAIN,
	OP_DEFINE_POOL,
	OP_CREATE_POOL,
	OP_DEFINE_NETWORK,
	OP_CREATE_NETWORK,
	OP_DOMAIN_START,
	OP_DOMAIN_SHUTDOWN,
	OP_DOMAIN_REBOOT,
	OP_DOMAIN_RESET,
	OP_DOMAIN_DESTROY,
	OP_DOMAIN_SUSPEND,
	OP_DOMAIN_RESUME,
	OP_DOMAIN_PMWAKEUP,
	OP_DOMAIN_MANAGED_SAVE,
	OP_DOMAIN_MANAGED_SAVE_REMOVE,
	OP_DOMAIN_DUMP,
	OP_DOMAIN_UNDEFINE,
	OP_DOMAIN_SET_MEMORY,
	OP_DOMAIN_SET_VCPUS,
	OP_DOMAIN_SET_AUTOSTART,
	OP_DOMAIN_RENAME,
	OP_DOMAIN_GET_XML,
	OP_POOL_START,
	OP_POOL_STOP,
	OP_POOL_BUILD,
	OP_POOL_REFRESH,
	OP_POOL_DELETE,
	OP_POOL_UNDEFINE,
	OP_POOL_SET_AUTOSTART,
	OP_POOL_GET_XML,
	OP_POOL_LIST_VOLUMES,
	OP_POOL_CREATE_VOLUME,
	OP_POOL_RESIZE_VOLUME,
	OP_POOL_DELETE_VOLUME,
	OP_NETWORK_START,
	OP_NETWORK_STOP,
	OP_NETWORK_UNDEFINE,
	OP_NETWORK_SET_AUTOSTART,
	OP_NETWORK_GET_XML,
	OP_NONE,
};

/* Operations that are one verb. */
static const char *const verbs[OP_MAX] = {
	[OP_DOMAIN_START] = "start",
	[OP_DOMAIN_SHUTDOWN] = "shutdown",
	[OP_DOMAIN_REBOOT] = "reboot",
	[OP_DOMAIN_RESET] = "reset",
	[OP_DOMAIN_DESTROY] = "destroy",
	[OP_DOMAIN_SUSPEND] = "suspend",
	[OP_DOMAIN_RESUME] = "resume",
	[OP_DOMAIN_PMWAKEUP] = "pmwakeup",
	[OP_DOMAIN_MANAGED_SAVE] = "managed-save",
	[OP_DOMAIN_MANAGED_SAVE_REMOVE] = "managed-save-remove",
	[OP_DOMAIN_DUMP] = "dump",
	[OP_DOMAIN_UNDEFINE] = "undefine",
	[OP_DOMAIN_SET_MEMORY] = "set-memory",
	[OP_DOMAIN_SET_VCPUS] = "set-vcpus",
	[OP_DOMAIN_SET_AUTOSTART] = "autostart",
	[OP_DOMAIN_RENAME] = "rename",
	[OP_POOL_START] = "start",
	[OP_POOL_STOP] = "stop",
	[OP_POOL_BUILD] = "build",
	[OP_POOL_REFRESH] = "refresh",
	[OP_POOL_DELETE] = "delete",
	[OP_POOL_UNDEFINE] = "undefine",
	[OP_POOL_SET_AUTOSTART] = "autostart",
	[OP_NETWORK_START] = "start",
	[OP_NETWORK_STOP] = "stop",
	[OP_NETWORK_UNDEFINE] = "undefine",
	[OP_NETWORK_SET_AUTOSTART] = "autostart",
};

static struct sim_object *find(struct sim_world *w, const struct request *r, struct failure *f)
{
	struct sim_object *o = sim_object_find(&w->truth, r->kind, r->uuid);
	char text[37];

	/* what is still starting up exists for the hypervisor, but nobody else */
	if (!o)
		failure_set(f, VIREO_NOT_FOUND, "There is no %s with UUID %s.", kind_to_string(r->kind),
			    sd_id128_to_uuid_string(r->uuid, text));
	return o;
}

static int get_xml(const struct sim_object *o, const struct request *r, char **ret, struct failure *f)
{
	const struct sim_config *c = sim_object_config(o);

	if (vdict_b(r->options, "inactive", false)) {
		if (!o->config)
			return sim_refuse_state(o, "is not persistent, and has no inactive description", f);
		c = o->config;
	}
	*ret = sim_object_xml(o, c, vdict_b(r->options, "secure", false));
	return 0;
}

static int list_volumes(const struct sim_object *o, struct result *ret)
{
	if (!o->active)
		return sim_refuse_state(o, "is not active", &ret->failure);
	ret->volumes = sim_must(calloc(o->n_volumes + 1, sizeof(*ret->volumes)));
	ret->n_volumes = o->n_volumes;
	for (size_t i = 0; i < o->n_volumes; i++) {
		const struct sim_volume *v = &o->volumes[i];

		ret->volumes[i] = (struct volume){
			.name = sim_strdup(v->name),
			.path = sim_strdup(v->path),
			.type = sim_strdup(v->type),
			.format = sim_strdup(v->format),
			.capacity = v->capacity,
			.allocation = v->allocation,
		};
	}
	return 0;
}

static int change_volume(struct sim_object *o, const struct request *r, struct result *ret)
{
	struct failure *f = &ret->failure;
	struct sim_volume v = {}, *old;
	int error;

	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	if (r->operation == OP_POOL_CREATE_VOLUME) {
		error = sim_volume_parse(r->text, &v, f);
		if (error != 0)
			return error;
		if (sim_object_volume(o, v.name)) {
			failure_set(f, VIREO_ALREADY_EXISTS, "Pool '%s' has a volume '%s' already.", o->name, v.name);
			sim_volume_done(&v);
			return VIREO_ALREADY_EXISTS;
		}
		v.path = sim_printf("%s/%s", sim_object_config(o)->path ? sim_object_config(o)->path : "/var/lib/sim/images",
				    v.name);
		ret->text = sim_strdup(v.name);
		sim_object_add_volume(o, &v);
		return 0;
	}
	old = r->text ? sim_object_volume(o, r->text) : NULL;
	if (!old)
		return failure_set(f, VIREO_NOT_FOUND, "Pool '%s' has no volume '%s'.", o->name, r->text ? r->text : "");
	if (r->operation == OP_POOL_RESIZE_VOLUME)
		old->capacity = r->number;
	else
		sim_object_remove_volume(o, old);
	return 0;
}

static int define_or_create(struct sim_world *w, const struct request *r, struct result *ret)
{
	bool paused = vdict_b(r->options, "paused", false);

	switch (r->operation) {
	case OP_DEFINE_DOMAIN:
	case OP_CREATE_DOMAIN:
		ret->kind = KIND_DOMAIN;
		break;
	case OP_DEFINE_POOL:
	case OP_CREATE_POOL:
		ret->kind = KIND_POOL;
		break;
	default:
		ret->kind = KIND_NETWORK;
	}
	if (r->operation == OP_DEFINE_DOMAIN || r->operation == OP_DEFINE_POOL || r->operation == OP_DEFINE_NETWORK)
		return sim_act_define(w, ret->kind, r->text, &ret->uuid, &ret->failure);
	return sim_act_create(w, ret->kind, r->text, paused, &ret->uuid, &ret->failure);
}

void sim_operate(struct sim_world *w, const struct request *r, struct result *ret)
{
	struct failure *f = &ret->failure;
	struct sim_args a = {
		.text = r->text,
		.number = r->number,
		.flag = r->flag || vdict_b(r->options, "managed-save", false),
		.paused = vdict_b(r->options, "paused", false),
		.force = vdict_b(r->options, "force-boot", false),
	};
	struct sim_object *o;

	switch (r->operation) {
	case OP_DEFINE_DOMAIN:
	case OP_CREATE_DOMAIN:
	case OP_DEFINE_POOL:
	case OP_CREATE_POOL:
	case OP_DEFINE_NETWORK:
	case OP_CREATE_NETWORK:
		define_or_create(w, r, ret);
		return;
	default:
		break;
	}
	o = find(w, r, f);
	if (!o)
		return;
	switch (r->operation) {
	case OP_DOMAIN_GET_XML:
	case OP_POOL_GET_XML:
	case OP_NETWORK_GET_XML:
		get_xml(o, r, &ret->text, f);
		return;
	case OP_POOL_LIST_VOLUMES:
		list_volumes(o, ret);
		return;
	case OP_POOL_CREATE_VOLUME:
	case OP_POOL_RESIZE_VOLUME:
	case OP_POOL_DELETE_VOLUME:
		change_volume(o, r, ret);
		return;
	default:
		break;
	}
	if (r->operation < OP_MAX && verbs[r->operation])
		sim_act(w, sim_verb_find(r->kind, verbs[r->operation])->act, o, &a, f);
	else
		failure_set(f, VIREO_NOT_SUPPORTED, "The simulated hypervisor has no such operation.");
}
