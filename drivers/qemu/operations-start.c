/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "jobs.h"
#include "operations.h"
#include "saved.h"

/* What begins a run, and what is kept of one. */

static void on_save_discarded(struct change *k, int error)
{
	struct domain *d = k->d;

	if (error < 0) {
		run_refuse_failure(d->c, k->r, error, NULL);
		return;
	}
	d->managed_save = false;
	domain_start_kept(d, k->r, vdict_b(k->r->options, "paused", false));
}

void run_op_start(struct driver_connection *c, struct domain *d, struct request *r)
{
	if (d->phase != RUN_OFF) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is active already, or about to be");
		return;
	}
	if (d->managed_save && vdict_b(r->options, "force-boot", false)) {
		struct change *k = change_new(d, r, on_save_discarded);

		if (!k)
			return;
		change_step(k, "save", NULL);
		change_run(k);
		return;
	}
	domain_start_kept(d, r, vdict_b(r->options, "paused", false));
}

void run_op_create(struct driver_connection *c, struct request *r)
{
	_cleanup_(vm_freep) struct vm *vm = NULL;
	_cleanup_(freep) char *text = NULL;
	struct failure f = {0};
	struct domain *d;
	int e = vm_parse(r->text ? r->text : "", &vm, &text, &f);

	if (e != 0) {
		run_refuse_failure(c, r, e, &f);
		return;
	}
	if (!run_find_meant(c, r, vm, &d))
		return;
	if (d && d->phase != RUN_OFF) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is active already, or about to be");
		return;
	}
	if (!d) {
		d = domain_new(c, vm->uuid);
		if (!d) {
			run_refuse_failure(c, r, -ENOMEM, &f);
			return;
		}
		DL_APPEND(c->domains, d);
	}
	d->live = TAKE(vm);
	d->live_text = TAKE(text);
	domain_start(d, r, vdict_b(r->options, "paused", false), -1, false);
}

/* Of the two, the caller's word counts, then the file's. */
static bool stays_paused(const struct request *r, bool was_running)
{
	return vdict_b(r->options, "paused", false) || (!was_running && !vdict_b(r->options, "running", false));
}

struct restoring {
	struct saved_opening o; /* first */
	struct driver_connection *c;
	struct request *r;
};

static void restoring_drop(void *data)
{
	struct restoring *k = data;

	request_free(k->r);
	saved_opening_clear(&k->o);
	free(k);
}

static void restore(struct restoring *k)
{
	_cleanup_(vm_freep) struct vm *vm = NULL, *own = NULL;
	_cleanup_(freep) char *text = NULL;
	struct driver_connection *c = k->c;
	struct request *r = TAKE(k->r);
	const char *other = vdict_s(r->options, "xml", NULL);
	struct failure f = k->o.f;
	struct domain *d;
	int e = k->o.error;

	k->o.f = (struct failure){0};
	if (e == 0)
		e = vm_parse(other ? other : k->o.xml, &vm, &text, &f);
	if (e == 0 && other) {
		e = vm_parse(k->o.xml, &own, NULL, &f);
		if (e == 0 && !sd_id128_equal(own->uuid, vm->uuid))
			e = failure_set(&f, VIREO_INVALID_XML, "The description is of another domain than the file.");
	}
	if (e != 0) {
		run_refuse_failure(c, r, e, &f);
		return;
	}
	if (!run_find_meant(c, r, vm, &d))
		return;
	if (d && d->phase != RUN_OFF) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is active already, or about to be");
		return;
	}
	if (!d) {
		d = domain_new(c, vm->uuid);
		if (!d) {
			run_refuse_failure(c, r, -ENOMEM, NULL);
			return;
		}
		DL_APPEND(c->domains, d);
	}
	d->live = TAKE(vm);
	d->live_text = TAKE(text);
	e = k->o.fd;
	k->o.fd = -1;
	domain_start(d, r, stays_paused(r, k->o.running), e, false);
}

static void on_opened(void *data)
{
	restore(data);
	restoring_drop(data);
}

void run_op_restore(struct driver_connection *c, struct request *r)
{
	struct restoring *k;

	if (!r->text || r->text[0] != '/') {
		run_refuse(c, r, VIREO_INVALID_ARGS, "the file is not an absolute path");
		return;
	}
	k = calloc(1, sizeof(*k));
	if (k)
		*k = (struct restoring){.o = {.path = strdup(r->text), .fd = -1}, .c = c, .r = r};
	if (!k || !k->o.path || chores_run(c->env.chores, saved_opening_work, on_opened, restoring_drop, k) < 0) {
		run_refuse(c, r, VIREO_NO_MEMORY, "out of memory");
		if (k) {
			k->r = NULL;
			restoring_drop(k);
		}
	}
}

void run_op_managed_save(struct driver_connection *c, struct domain *d, struct request *r)
{
	if (!d->config) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is not persistent");
		return;
	}
	free(r->text);
	if (asprintf(&r->text, "%s/save", d->directory) < 0) {
		r->text = NULL;
		run_refuse(c, r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	if (d->phase != RUN_UP)
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain is not running");
	else
		guest_job_begin(d->guest, r);
}

static void on_save_removed(struct change *k, int error)
{
	if (error < 0) {
		run_refuse_failure(k->d->c, k->r, error, NULL);
		return;
	}
	k->d->managed_save = false;
	domain_tell(k->d, CAUSE_NONE, NULL, k->r, NULL);
}

void run_op_managed_save_remove(struct driver_connection *c, struct domain *d, struct request *r)
{
	struct change *k;

	if (!d->managed_save) {
		run_refuse(c, r, VIREO_INVALID_STATE, "the domain has no managed save");
		return;
	}
	k = change_new(d, r, on_save_removed);
	if (!k)
		return;
	change_step(k, "save", NULL);
	change_run(k);
}
