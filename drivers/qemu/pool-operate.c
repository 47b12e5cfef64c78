/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "pool-work.h"

/* What can be asked of pools. */

static void fail(struct pool_work *w, int error)
{
	struct pool *p = w->p;

	if (w->target)
		pool_refuse(p, w->r, error == -EEXIST ? VIREO_ALREADY_EXISTS : VIREO_OPERATION_FAILED, "%s: %s", w->path, strerror(-error));
	else
		pool_refuse(p, w->r, VIREO_OPERATION_FAILED, "the pool's directory: %s", strerror(-error));
	if (!p->config_text && !p->active_text)
		pool_forget(p);
}

/* By that name and path from now on. */
static void take_names(struct pool_work *w)
{
	struct pool *p = w->p;

	free(p->name);
	free(p->path);
	p->name = TAKE(w->name);
	p->path = TAKE(w->path);
}

static void on_defined(struct pool_work *w)
{
	struct pool *p = w->p;
	struct result result = {.kind = KIND_POOL, .uuid = p->uuid};
	bool was = p->config_text;

	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	if (!p->active_text)
		take_names(w);
	free(p->config_text);
	p->config_text = TAKE(w->new_text);
	pool_tell(p, CAUSE_DEFINED, was ? "updated" : "added", NULL);
	env_post_result_full(pool_env(p), w->r, &result);
}

static void on_created(struct pool_work *w)
{
	struct pool *p = w->p;
	struct result result = {.kind = KIND_POOL, .uuid = p->uuid};
	int r = w->error;

	if (r == 0)
		r = pool_set_active(p, w->fd, &w->found, TAKE(w->new_text));
	if (r < 0) {
		fail(w, r);
		return;
	}
	take_names(w);
	pool_tell(p, CAUSE_STARTED, "", NULL);
	env_post_result_full(pool_env(p), w->r, &result);
}

static void refuse_all(struct pools *all, struct request *r, int error, struct failure *f)
{
	struct result result = {0};

	if (error < 0)
		failure_set(&result.failure, VIREO_OPERATION_FAILED, "%s", strerror(-error));
	else {
		result.failure = *f;
		*f = (struct failure){0};
	}
	env_post_result_full(all->env, r, &result);
}

static void op_define(struct pools *all, struct request *r, bool create)
{
	_cleanup_(freep) char *name = NULL, *path = NULL, *text = NULL;
	struct failure f = {0};
	struct pool *p, *other;
	struct pool_work *w;
	sd_id128_t uuid;
	int e = pool_parse(r->text, &uuid, &name, &path, &text, &f);

	if (e != 0) {
		refuse_all(all, r, e, &f);
		return;
	}
	p = pools_get(all, uuid);
	if (p && p->changing) {
		pool_wait(p, r);
		return;
	}
	DL_FOREACH(all->pools, other)
	if ((other != p && strcmp(other->name, name) == 0) || (other == p && strcmp(other->name, name) != 0)) {
		env_post_result(all->env, r, VIREO_ALREADY_EXISTS, "There is a pool '%s' already, with that name or UUID.", other->name);
		return;
	}
	if (create && p && p->active_text) {
		env_post_result(all->env, r, VIREO_INVALID_STATE, "the pool is active already");
		return;
	}
	if (!p) {
		p = pools_add(all, uuid);
		/* Taken from now on; it is shown when it has a description. */
		if (p)
			p->name = strdup(name);
		if (!p || !p->name) {
			if (p)
				pool_free(p);
			env_post_result(all->env, r, VIREO_NO_MEMORY, "out of memory");
			return;
		}
	}
	w = pool_work_new(p, r, create ? on_created : on_defined);
	if (!w) {
		if (!p->config_text && !p->active_text)
			pool_forget(p);
		return;
	}
	free(w->path);
	w->path = TAKE(path);
	w->name = TAKE(name);
	w->make_directory = true;
	if (create) {
		w->make_path = vdict_b(r->options, "build", false);
		/* Without memory it fails when it is written. */
		(void)pool_want_active(w, TAKE(text));
	} else {
		w->write = "pool.xml";
		w->text = strdup(text);
		w->new_text = TAKE(text);
	}
	if (!w->text) {
		w->error = -ENOMEM;
		pool_work_begins(p);
		pool_work_finish(w);
		return;
	}
	pool_work_run(w, true);
}

static void on_started(struct pool_work *w)
{
	struct pool *p = w->p;
	int r = w->error;

	if (r == 0)
		r = pool_set_active(p, w->fd, &w->found, TAKE(w->new_text));
	if (r < 0) {
		fail(w, r);
		return;
	}
	pool_tell(p, CAUSE_STARTED, "", NULL);
	pool_end(p, w->r, NULL);
}

static void op_start(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is active already");
		return;
	}
	w = pool_work_new(p, r, on_started);
	if (!w)
		return;
	w->make_path = vdict_b(r->options, "build", false);
	if (!pool_want_active(w, strdup(p->config_text))) {
		w->r = NULL;
		pool_work_free(w);
		pool_refuse(p, r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	pool_work_run(w, true);
}

static void on_stopped(struct pool_work *w)
{
	struct pool *p = w->p;
	struct result none = {0};

	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	pool_set_inactive(p);
	pool_tell(p, CAUSE_STOPPED, "", NULL);
	env_post_result_full(pool_env(p), w->r, &none);
	if (!p->config_text)
		pool_forget(p);
}

static void op_stop(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (!p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is inactive");
		return;
	}
	if (p->jobs) {
		pool_refuse(p, r, VIREO_BUSY, "a volume of it is being worked on");
		return;
	}
	w = pool_work_new(p, r, on_stopped);
	if (!w)
		return;
	w->remove = "active";
	pool_work_run(w, true);
}

static void on_undefined(struct pool_work *w)
{
	struct pool *p = w->p;
	struct result none = {0};

	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	free(TAKE(p->config_text));
	pool_tell(p, CAUSE_UNDEFINED, "", NULL);
	p->forgotten = true;
	env_post_result_full(pool_env(p), w->r, &none);
}

static void op_undefine(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (!p->config_text || p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, p->active_text ? "the pool is active" : "the pool is not persistent");
		return;
	}
	w = pool_work_new(p, r, on_undefined);
	if (!w)
		return;
	w->remove = "pool.xml";
	w->remove_directory = true;
	pool_work_run(w, true);
}

static void on_directory(struct pool_work *w)
{
	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	pool_tell(w->p, CAUSE_OTHER, "", w->make_path ? "Built" : "Deleted");
	pool_end(w->p, w->r, NULL);
}

static void op_directory(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is active");
		return;
	}
	if (vdict_b(r->options, "overwrite", false) || vdict_b(r->options, "zeroed", false) ||
		vdict_b(r->options, "repair", false) || vdict_b(r->options, "resize", false)) {
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "a directory can only be made, or removed when it is empty");
		return;
	}
	w = pool_work_new(p, r, on_directory);
	if (!w)
		return;
	w->make_path = r->operation == OP_POOL_BUILD;
	w->new_path = w->make_path && vdict_b(r->options, "no-overwrite", false);
	w->remove_path = !w->make_path;
	pool_work_run(w, true);
}

static void on_autostart(struct pool_work *w)
{
	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	w->p->autostart = w->write != NULL;
	pool_end(w->p, w->r, NULL);
}

static void op_autostart(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (!p->config_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is not persistent");
		return;
	}
	w = pool_work_new(p, r, on_autostart);
	if (!w)
		return;
	if (r->flag) {
		w->write = "autostart";
		w->text = strdup("");
	} else
		w->remove = "autostart";
	pool_work_run(w, true);
}

static void on_refreshed(struct pool_work *w)
{
	struct pool *p = w->p;

	pool_take_look(p, &w->found, true);
	pool_end(p, w->r, NULL);
}

static void op_refresh(struct pool *p, struct request *r)
{
	struct pool_work *w = pool_work_new(p, r, on_refreshed);

	if (!w)
		return;
	w->look = true;
	pool_work_run(w, false);
}

static void op_get_xml(struct pool *p, struct request *r)
{
	bool inactive = vdict_b(r->options, "inactive", false);
	const char *text = inactive || !p->active_text ? p->config_text : p->active_text;
	struct result result = {0};

	if (!text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool has no persistent description");
		return;
	}
	result.text = strdup(text);
	env_post_result_full(pool_env(p), r, &result);
}

void pools_operate(struct pools *all, struct request *r)
{
	struct pool *p;

	if (r->operation == OP_DEFINE_POOL || r->operation == OP_CREATE_POOL) {
		op_define(all, r, r->operation == OP_CREATE_POOL);
		return;
	}
	p = pools_get(all, r->uuid);
	if (p && p->changing && r->operation != OP_POOL_GET_XML) {
		pool_wait(p, r);
		return;
	}
	if (!p || (!p->config_text && !p->active_text)) {
		env_post_result(all->env, r, VIREO_NOT_FOUND, "there is no such pool");
		return;
	}
	switch (r->operation) {
	case OP_POOL_START:
		op_start(p, r);
		return;
	case OP_POOL_STOP:
		op_stop(p, r);
		return;
	case OP_POOL_BUILD:
	case OP_POOL_DELETE:
		op_directory(p, r);
		return;
	case OP_POOL_UNDEFINE:
		op_undefine(p, r);
		return;
	case OP_POOL_SET_AUTOSTART:
		op_autostart(p, r);
		return;
	case OP_POOL_GET_XML:
		op_get_xml(p, r);
		return;
	default:
		break;
	}
	if (!p->active_text)
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is inactive");
	else if (r->operation == OP_POOL_REFRESH)
		op_refresh(p, r);
	else
		volume_operate(p, r);
}

