/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "operations.h"
#include "jobs.h"
#include "pool.h"
#include "run.h"
#include "saved.h"
#include "util/log.h"

/* What can be asked of the driver "qemu", and what each does to files and processes. */

const enum operation run_operations[] = {
	OP_DEFINE_DOMAIN,     OP_CREATE_DOMAIN,	     OP_DOMAIN_START,	    OP_DOMAIN_SHUTDOWN,
	OP_DOMAIN_REBOOT,     OP_DOMAIN_RESET,      OP_DOMAIN_DESTROY,     OP_DOMAIN_SUSPEND,	    OP_DOMAIN_RESUME,
	OP_DOMAIN_PMWAKEUP,   OP_DOMAIN_UNDEFINE,    OP_DOMAIN_SET_MEMORY,  OP_DOMAIN_SET_VCPUS,
	OP_DOMAIN_SET_AUTOSTART, OP_DOMAIN_RENAME,   OP_DOMAIN_GET_XML,	    OP_RESTORE_DOMAIN,
	OP_DOMAIN_SAVE,	      OP_DOMAIN_MANAGED_SAVE, OP_DOMAIN_MANAGED_SAVE_REMOVE, OP_DOMAIN_DUMP,
	OP_DOMAIN_BLOCK_PULL, OP_DOMAIN_BLOCK_COMMIT, OP_DOMAIN_BLOCK_COPY,
	OP_DEFINE_POOL,	      OP_CREATE_POOL,	     OP_POOL_START,	    OP_POOL_STOP,
	OP_POOL_BUILD,	      OP_POOL_REFRESH,	     OP_POOL_DELETE,	    OP_POOL_UNDEFINE,
	OP_POOL_SET_AUTOSTART, OP_POOL_GET_XML,	     OP_POOL_LIST_VOLUMES,  OP_POOL_CREATE_VOLUME,
	OP_POOL_CLONE_VOLUME, OP_POOL_RESIZE_VOLUME, OP_POOL_WIPE_VOLUME,   OP_POOL_DELETE_VOLUME,
	OP_POOL_UPLOAD_VOLUME, OP_POOL_DOWNLOAD_VOLUME,
	OP_NONE,
};

void run_refuse(struct driver_connection *c, struct request *r, enum vireo_error error, const char *message)
{
	env_post_result(&c->env, r, error, "%s", message);
}

/* The failure of a function that gave a negative errno or filled @f; ends the request. */
void run_refuse_failure(struct driver_connection *c, struct request *r, int error, struct failure *f)
{
	struct result result = {0};

	if (error < 0)
		failure_set(&result.failure, error == -ENOMEM ? VIREO_NO_MEMORY : VIREO_OPERATION_FAILED, "%s", strerror(-error));
	else {
		result.failure = *f;
		*f = (struct failure){0};
	}
	env_post_result_full(&c->env, r, &result);
}

/*
 * Who is meant by a description: a domain that is there (*ret), nobody yet (NULL), or one cannot tell. true: go on. What is
 * being changed just now can be anything in a moment: then the request waits for that.
 */
bool run_find_meant(struct driver_connection *c, struct request *r, const struct vm *vm, struct domain **ret)
{
	struct domain *by_uuid = run_find(c, vm->uuid), *by_name = run_find_name(c, vm->name);
	char uuid[SD_ID128_UUID_STRING_MAX];

	*ret = by_uuid;
	if (by_uuid && by_uuid->changing) {
		domain_wait(by_uuid, r);
		return false;
	}
	if (by_name && by_name != by_uuid) {
		env_post_result(&c->env, r, VIREO_ALREADY_EXISTS, "A domain called '%s' is there already, with the UUID %s.", vm->name,
			sd_id128_to_uuid_string(by_name->uuid, uuid));
		return false;
	}
	if (by_uuid && !by_name) {
		env_post_result(&c->env, r, VIREO_ALREADY_EXISTS, "The UUID %s is that of the domain '%s' already.",
			sd_id128_to_uuid_string(vm->uuid, uuid), domain_name(by_uuid));
		return false;
	}
	return true;
}

/* ---- descriptions ------------------------------------------------------------------------------------------- */

/* k->vm is the description now. */
static void take_config(struct change *k)
{
	struct domain *d = k->d;

	vm_free(d->config);
	free(d->config_text);
	free(TAKE(d->pending));
	d->config = TAKE(k->vm);
	d->config_text = TAKE(k->text);
}

static void on_defined(struct change *k, int error)
{
	struct domain *d = k->d;
	struct result result = {.kind = KIND_DOMAIN, .uuid = d->uuid};
	bool was = d->config != NULL;

	if (error < 0) {
		run_refuse_failure(d->c, k->r, error, NULL);
		free(TAKE(d->pending));
		if (!was && d->phase == RUN_OFF)
			domain_forget(d);
		return;
	}
	take_config(k);
	/* Its run may have ended meanwhile, and with it a transient domain. */
	d->forgotten = false;
	domain_tell(d, CAUSE_DEFINED, was ? "updated" : "added", k->r, &result);
}

static void op_define(struct driver_connection *c, struct request *r)
{
	_cleanup_(vm_freep) struct vm *vm = NULL;
	_cleanup_(freep) char *text = NULL;
	struct failure f = {0};
	struct change *k;
	struct domain *d;
	int e = vm_parse(r->text ? r->text : "", &vm, &text, &f);

	if (e != 0) {
		run_refuse_failure(c, r, e, &f);
		return;
	}
	if (!run_find_meant(c, r, vm, &d))
		return;
	if (!d) {
		d = domain_new(c, vm->uuid);
		if (!d || !(d->pending = strdup(vm->name))) {
			if (d)
				domain_free(d);
			run_refuse_failure(c, r, -ENOMEM, &f);
			return;
		}
		DL_APPEND(c->domains, d);
	}
	k = change_new(d, r, on_defined);
	if (!k) {
		if (!d->config && d->phase == RUN_OFF)
			domain_forget(d);
		return;
	}
	k->make_directory = true;
	k->vm = TAKE(vm);
	k->text = TAKE(text);
	change_step(k, "domain.xml", k->text);
	change_run(k);
}

static void on_undefined(struct change *k, int error)
{
	struct domain *d = k->d;

	if (error == -EEXIST) {
		run_refuse(d->c, k->r, VIREO_INVALID_STATE, "the domain has firmware variables; option nvram deletes them, keep-nvram keeps them");
		return;
	}
	if (error < 0) {
		run_refuse_failure(d->c, k->r, error, NULL);
		return;
	}
	d->autostart = d->managed_save = false;
	if (d->phase == RUN_OFF) {
		/* The report has its name. */
		d->live = TAKE(d->config);
		free(TAKE(d->config_text));
		domain_tell(d, CAUSE_UNDEFINED, "removed", k->r, NULL);
		d->removed = k->remove_directory;
		domain_forget(d);
		return;
	}
	vm_free(TAKE(d->config));
	free(TAKE(d->config_text));
	domain_tell(d, CAUSE_UNDEFINED, "removed", k->r, NULL);
}

static void op_undefine(struct driver_connection *c, struct domain *d, struct request *r)
{
	bool elsewhere = d->config && d->config->nvram;
	struct change *k;

	if (!d->config) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is not persistent");
		return;
	}
	if (d->managed_save && !vdict_b(r->options, "managed-save", false)) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain has a managed save; option managed-save discards it");
		return;
	}
	if (files_has(d->directory, "nvram.fd") && !vdict_b(r->options, "nvram", false)) {
		/* To be kept they would have to be somewhere else. */
		run_refuse(c, r, vdict_b(r->options, "keep-nvram", false) ? VIREO_NOT_SUPPORTED : VIREO_INVALID_STATE,
			"the domain has firmware variables of its own in its directory; option nvram deletes them");
		return;
	}
	if ((files_has(d->directory, TPM_STATE) || files_has(d->directory, TPM_STATE_OLD)) && !vdict_b(r->options, "tpm", false)) {
		run_refuse(c, r, vdict_b(r->options, "keep-tpm", false) ? VIREO_NOT_SUPPORTED : VIREO_INVALID_STATE,
			"the domain has the state of its TPM in its directory; option tpm deletes it");
		return;
	}
	k = change_new(d, r, on_undefined);
	if (!k)
		return;
	/* This one file is what makes it persistent. */
	change_step(k, "domain.xml", NULL);
	change_step(k, "autostart", NULL);
	change_step(k, "save", NULL);
	if (elsewhere && vdict_b(r->options, "nvram", false))
		k->path = strdup(d->config->nvram);
	else if (elsewhere && !vdict_b(r->options, "keep-nvram", false))
		k->unless = strdup(d->config->nvram);
	k->remove_directory = d->phase == RUN_OFF;
	change_run(k);
}

static void on_config_changed(struct change *k, int error)
{
	struct domain *d = k->d;

	if (error < 0) {
		free(TAKE(d->pending));
		run_refuse_failure(d->c, k->r, error, NULL);
		return;
	}
	take_config(k);
	domain_tell(d, CAUSE_DEFINED, k->reason, k->r, NULL);
}

/* Replace the persistent description; ends the request. */
static void change_config(struct driver_connection *c, struct domain *d, struct request *r, const char *name,
			  uint64_t memory, uint64_t current_memory, unsigned vcpus, const char *reason)
{
	_cleanup_(freep) char *changed = NULL, *text = NULL;
	_cleanup_(vm_freep) struct vm *vm = NULL;
	struct failure f = {0};
	struct change *k;
	int e = -ENOMEM;

	changed = vm_text_change(d->config_text, name, memory, current_memory, vcpus);
	if (changed)
		e = vm_parse(changed, &vm, &text, &f);
	if (e != 0) {
		if (e > 0)
			f.error = VIREO_INVALID_ARGS;
		run_refuse_failure(c, r, e, &f);
		return;
	}
	k = change_new(d, r, on_config_changed);
	if (!k)
		return;
	/* Taken from now on, so that nobody else gets it meanwhile. */
	if (name)
		d->pending = strdup(name);
	k->vm = TAKE(vm);
	k->text = TAKE(text);
	k->reason = reason;
	change_step(k, "domain.xml", k->text);
	change_run(k);
}

static void op_rename(struct driver_connection *c, struct domain *d, struct request *r)
{
	if (!d->config || d->phase != RUN_OFF) {
		run_refuse(c, r, VIREO_INVALID_STATE, d->config ? "the domain is active" : "the domain is not persistent");
		return;
	}
	if (!r->text || run_find_name(c, r->text)) {
		run_refuse(c, r, VIREO_ALREADY_EXISTS, "there is a domain of that name already");
		return;
	}
	change_config(c, d, r, r->text, 0, 0, 0, "renamed");
}

static void on_autostart(struct change *k, int error)
{
	if (error < 0) {
		run_refuse_failure(k->d->c, k->r, error, NULL);
		return;
	}
	k->d->autostart = k->flag;
	domain_tell(k->d, CAUSE_NONE, NULL, k->r, NULL);
}

static void op_autostart(struct driver_connection *c, struct domain *d, struct request *r)
{
	struct change *k;
	bool on = r->flag;

	if (!d->config) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is not persistent");
		return;
	}
	k = change_new(d, r, on_autostart);
	if (!k)
		return;
	k->flag = on;
	change_step(k, "autostart", on ? "" : NULL);
	change_run(k);
}

/* live and config as the contract has them. true: the running one is meant. */
static bool wants_live(const struct domain *d, const struct request *r)
{
	bool live = vdict_b(r->options, "live", false), config = vdict_b(r->options, "config", false);

	return live || (!config && d->phase != RUN_OFF);
}

static void op_set_memory(struct driver_connection *c, struct domain *d, struct request *r)
{
	bool maximum = vdict_b(r->options, "maximum", false), live = wants_live(d, r);

	if (live && d->phase == RUN_OFF) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is inactive");
		return;
	}
	if (live && maximum) {
		run_refuse(c, r, VIREO_NOT_SUPPORTED, "the maximum of a running domain cannot be changed");
		return;
	}
	if (live && vdict_b(r->options, "config", false)) {
		run_refuse(c, r, VIREO_NOT_SUPPORTED, "either the run or the description can be changed, not both in one call");
		return;
	}
	if (live) {
		if (d->phase != RUN_UP || !guest_operate(d->guest, r))
			run_refuse(c, r, VIREO_INVALID_STATE, "the domain is not running");
		return;
	}
	if (!d->config) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is not persistent");
		return;
	}
	if (r->number == 0 || r->number % 1024 || (!maximum && r->number > d->config->memory)) {
		run_refuse(c, r, VIREO_INVALID_ARGS, "that is not a multiple of 1024, or more than the domain's maximum");
		return;
	}
	change_config(c, d, r, NULL, maximum ? r->number : 0,
		!maximum || d->config->current_memory > r->number ? r->number : 0, 0, "updated");
}

static void op_set_vcpus(struct driver_connection *c, struct domain *d, struct request *r)
{
	if (vdict_b(r->options, "guest", false) || vdict_b(r->options, "hotpluggable", false)) {
		run_refuse(c, r, VIREO_NOT_SUPPORTED, "there is no agent, and CPUs cannot be plugged in");
		return;
	}
	if (wants_live(d, r)) {
		run_refuse(c, r, d->phase == RUN_OFF ? VIREO_INVALID_STATE : VIREO_NOT_SUPPORTED,
			d->phase == RUN_OFF ? "the domain is inactive" : "the CPUs of a running domain cannot be changed");
		return;
	}
	if (!d->config) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is not persistent");
		return;
	}
	if (r->number == 0 || r->number > 1024 || (d->config->sockets && r->number != d->config->vcpus)) {
		run_refuse(c, r, VIREO_INVALID_ARGS, "that number does not fit the domain");
		return;
	}
	change_config(c, d, r, NULL, 0, 0, (unsigned)r->number, "updated");
}

static void op_get_xml(struct driver_connection *c, struct domain *d, struct request *r)
{
	bool inactive = vdict_b(r->options, "inactive", false);
	const char *text = inactive || !d->live_text ? d->config_text : d->live_text;
	struct result result = {0};

	if (!text) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain has no persistent description");
		return;
	}
	result.text = strdup(text);
	env_post_result_full(&c->env, r, &result);
}

/* ---- the rest ----------------------------------------------------------------------------------------------- */

/* What its files have to do with. */
static bool touches_files(enum operation operation)
{
	switch (operation) {
	case OP_DOMAIN_START:
	case OP_DOMAIN_UNDEFINE:
	case OP_DOMAIN_RENAME:
	case OP_DOMAIN_SET_AUTOSTART:
	case OP_DOMAIN_SET_MEMORY:
	case OP_DOMAIN_SET_VCPUS:
	case OP_DOMAIN_MANAGED_SAVE:
	case OP_DOMAIN_MANAGED_SAVE_REMOVE:
		return true;
	default:
		return false;
	}
}

static void operate_domain(struct driver_connection *c, struct domain *d, struct request *r)
{
	if (d->changing && touches_files(r->operation)) {
		domain_wait(d, r);
		return;
	}
	switch (r->operation) {
	case OP_DOMAIN_START:
		run_op_start(c, d, r);
		return;
	case OP_DOMAIN_DESTROY:
		if (d->phase == RUN_OFF)
			run_refuse(c, r, VIREO_INVALID_STATE, "the domain is inactive");
		else
			domain_destroy(d, r);
		return;
	case OP_DOMAIN_UNDEFINE:
		op_undefine(c, d, r);
		return;
	case OP_DOMAIN_RENAME:
		op_rename(c, d, r);
		return;
	case OP_DOMAIN_SET_AUTOSTART:
		op_autostart(c, d, r);
		return;
	case OP_DOMAIN_SET_MEMORY:
		op_set_memory(c, d, r);
		return;
	case OP_DOMAIN_SET_VCPUS:
		op_set_vcpus(c, d, r);
		return;
	case OP_DOMAIN_GET_XML:
		op_get_xml(c, d, r);
		return;
	case OP_DOMAIN_MANAGED_SAVE:
		run_op_managed_save(c, d, r);
		return;
	case OP_DOMAIN_MANAGED_SAVE_REMOVE:
		run_op_managed_save_remove(c, d, r);
		return;
	default:
		break;
	}
	for (const enum operation *op = run_operations; *op != r->operation; op++)
		if (*op == OP_NONE) {
			run_refuse(c, r, VIREO_NOT_SUPPORTED, "a domain of this connection cannot do that");
			return;
		}
	if (d->phase != RUN_UP) {
		run_refuse(c, r, VIREO_INVALID_STATE, d->phase == RUN_OFF ? "the domain is inactive" : "the domain is not running");
		return;
	}
	if (!guest_operate(d->guest, r))
		run_refuse(c, r, VIREO_NOT_SUPPORTED, "a domain of this connection cannot do that");
}

void run_operate(struct driver_connection *c, struct request *r)
{
	struct domain *d;

	switch (r->operation) {
	case OP_DEFINE_DOMAIN:
		op_define(c, r);
		return;
	case OP_CREATE_DOMAIN:
		run_op_create(c, r);
		return;
	case OP_RESTORE_DOMAIN:
		run_op_restore(c, r);
		return;
	case OP_DEFINE_POOL:
	case OP_CREATE_POOL:
		pools_operate(c->pools, r);
		return;
	default:
		break;
	}
	if (r->kind == KIND_POOL) {
		pools_operate(c->pools, r);
		return;
	}
	d = r->kind == KIND_DOMAIN ? run_find(c, r->uuid) : NULL;
	if (r->kind == KIND_CONNECTION || r->kind == KIND_NETWORK)
		run_refuse(c, r, VIREO_NOT_SUPPORTED, "this connection cannot do that");
	else if (!d || (!d->config && (d->phase == RUN_OFF || (d->phase == RUN_STARTING && r->operation != OP_DOMAIN_DESTROY))))
		/* One that is only being created or defined does not exist yet. */
		run_refuse(c, r, VIREO_NOT_FOUND, "there is no such domain");
	else
		operate_domain(c, d, r);
}
