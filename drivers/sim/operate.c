/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "job.h"
#include "volume.h"

/* What the broker asks for, turned into actions, the same that scripts use, and into jobs. */

static int get_xml(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret)
{
	const struct sim_config *c = sim_object_config(o);

	if (vdict_b(r->options, "inactive", false)) {
		if (!o->config)
			return sim_refuse_state(o, "is not persistent, and has no inactive description", &ret->failure);
		c = o->config;
	}
	ret->text = sim_object_xml(o, c, vdict_b(r->options, "secure", false));
	return 0;
}

static const enum kind made_kinds[OP_MAX] = {
	[OP_DEFINE_DOMAIN] = KIND_DOMAIN,   [OP_CREATE_DOMAIN] = KIND_DOMAIN,	[OP_DEFINE_POOL] = KIND_POOL,
	[OP_CREATE_POOL] = KIND_POOL,	    [OP_DEFINE_NETWORK] = KIND_NETWORK, [OP_CREATE_NETWORK] = KIND_NETWORK,
};

static int define(struct sim_world *w, struct sim_object *nothing, const struct request *r, struct result *ret)
{
	ret->kind = made_kinds[r->operation];
	return sim_act_define(w, ret->kind, r->text, &ret->uuid, &ret->failure);
}

static int create(struct sim_world *w, struct sim_object *nothing, const struct request *r, struct result *ret)
{
	ret->kind = made_kinds[r->operation];
	return sim_act_create(w, ret->kind, r->text, r->options, &ret->uuid, &ret->failure);
}

/* One of three: an action, a function of its own, or a course that lasts. */
static const struct handler {
	sim_action act;
	int (*run)(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret);
	const struct sim_course *course;
} handlers[OP_MAX] = {
	[OP_DEFINE_DOMAIN] = {.run = define},
	[OP_CREATE_DOMAIN] = {.run = create},
	[OP_RESTORE_DOMAIN] = {.course = &sim_restore_course},
	[OP_DEFINE_POOL] = {.run = define},
	[OP_CREATE_POOL] = {.run = create},
	[OP_DEFINE_NETWORK] = {.run = define},
	[OP_CREATE_NETWORK] = {.run = create},
	[OP_DOMAIN_START] = {.act = sim_start},
	[OP_DOMAIN_SHUTDOWN] = {.act = sim_ask_shutdown},
	[OP_DOMAIN_REBOOT] = {.act = sim_ask_reboot},
	[OP_DOMAIN_RESET] = {.act = sim_reset},
	[OP_DOMAIN_DESTROY] = {.act = sim_destroy},
	[OP_DOMAIN_SUSPEND] = {.act = sim_suspend},
	[OP_DOMAIN_RESUME] = {.act = sim_resume},
	[OP_DOMAIN_PMWAKEUP] = {.act = sim_pmwakeup},
	[OP_DOMAIN_SAVE] = {.course = &sim_save_course},
	[OP_DOMAIN_MANAGED_SAVE] = {.course = &sim_managed_save_course},
	[OP_DOMAIN_MANAGED_SAVE_REMOVE] = {.act = sim_managed_save_remove},
	[OP_DOMAIN_DUMP] = {.course = &sim_dump_course},
	[OP_DOMAIN_UNDEFINE] = {.act = sim_undefine},
	[OP_DOMAIN_MIGRATE] = {.course = &sim_migrate_course},
	[OP_DOMAIN_BLOCK_PULL] = {.course = &sim_pull_course},
	[OP_DOMAIN_BLOCK_COMMIT] = {.course = &sim_commit_course},
	[OP_DOMAIN_BLOCK_COPY] = {.course = &sim_copy_course},
	[OP_DOMAIN_SET_MEMORY] = {.act = sim_set_memory},
	[OP_DOMAIN_SET_VCPUS] = {.act = sim_set_vcpus},
	[OP_DOMAIN_SET_AUTOSTART] = {.act = sim_autostart},
	[OP_DOMAIN_RENAME] = {.act = sim_rename},
	[OP_DOMAIN_ATTACH_DEVICE] = {.act = sim_attach},
	[OP_DOMAIN_DETACH_DEVICE] = {.act = sim_detach},
	[OP_DOMAIN_UPDATE_DEVICE] = {.act = sim_update},
	[OP_DOMAIN_GET_XML] = {.run = get_xml},
	[OP_POOL_START] = {.act = sim_start},
	[OP_POOL_STOP] = {.act = sim_destroy},
	[OP_POOL_BUILD] = {.act = sim_build},
	[OP_POOL_REFRESH] = {.act = sim_refresh},
	[OP_POOL_DELETE] = {.act = sim_delete},
	[OP_POOL_UNDEFINE] = {.act = sim_undefine},
	[OP_POOL_SET_AUTOSTART] = {.act = sim_autostart},
	[OP_POOL_GET_XML] = {.run = get_xml},
	[OP_POOL_LIST_VOLUMES] = {.run = sim_list_volumes},
	[OP_POOL_CREATE_VOLUME] = {.run = sim_create_volume},
	[OP_POOL_CLONE_VOLUME] = {.course = &sim_clone_course},
	[OP_POOL_RESIZE_VOLUME] = {.run = sim_resize_volume},
	[OP_POOL_WIPE_VOLUME] = {.run = sim_wipe_volume},
	[OP_POOL_DELETE_VOLUME] = {.run = sim_delete_volume},
	[OP_POOL_UPLOAD_VOLUME] = {.course = &sim_upload_course},
	[OP_POOL_DOWNLOAD_VOLUME] = {.course = &sim_download_course},
	[OP_NETWORK_START] = {.act = sim_start},
	[OP_NETWORK_STOP] = {.act = sim_destroy},
	[OP_NETWORK_UNDEFINE] = {.act = sim_undefine},
	[OP_NETWORK_SET_AUTOSTART] = {.act = sim_autostart},
	[OP_NETWORK_GET_XML] = {.run = get_xml},
};

bool sim_can(enum operation operation)
{
	const struct handler *h = &handlers[operation];

	return h->act || h->run || h->course;
}

const struct sim_course *sim_course_of(enum operation operation)
{
	return handlers[operation].course;
}

void sim_operate(struct sim_world *w, const struct request *r, struct result *ret)
{
	const struct handler *h = &handlers[r->operation];
	struct sim_object *o = sim_object_find(&w->truth, r->kind, r->uuid);
	struct sim_args a = {
		.text = r->text,
		.number = r->number,
		.on = r->flag,
		.paused = vdict_b(r->options, "paused", false),
		.force = vdict_b(r->options, "force-boot", false),
		.options = r->options,
	};

	/* it may have gone since the operation began */
	if (!o && r->kind != KIND_CONNECTION)
		failure_set(&ret->failure, VIREO_NOT_FOUND, "The %s is gone.", kind_to_string(r->kind));
	else if (h->run)
		h->run(w, o, r, ret);
	else
		sim_act(w, h->act, o, &a, &ret->failure);
}
