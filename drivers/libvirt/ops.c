/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ops.h"

#include <libvirt/libvirt.h>
#include <stdio.h>
#include <string.h>

#include "errors.h"
#include "jobs.h"
#include "util/log.h"
#include "util/utf8.h"
#include "words.h"
#include "xml.h"

/* Operations in general: their life, from the request to the result. */

/* Until a worker should have taken it up. */
#define QUEUED_AFTER (100 * USEC_PER_MSEC)

const enum operation lv_operations[] = {
	OP_DEFINE_DOMAIN, OP_CREATE_DOMAIN, OP_RESTORE_DOMAIN, OP_DEFINE_POOL, OP_CREATE_POOL, OP_DEFINE_NETWORK,
	OP_CREATE_NETWORK, OP_DOMAIN_START, OP_DOMAIN_SHUTDOWN, OP_DOMAIN_REBOOT, OP_DOMAIN_RESET, OP_DOMAIN_DESTROY,
	OP_DOMAIN_SUSPEND, OP_DOMAIN_RESUME, OP_DOMAIN_PMWAKEUP, OP_DOMAIN_SAVE, OP_DOMAIN_MANAGED_SAVE,
	OP_DOMAIN_MANAGED_SAVE_REMOVE, OP_DOMAIN_DUMP, OP_DOMAIN_UNDEFINE, OP_DOMAIN_MIGRATE, OP_DOMAIN_BLOCK_PULL,
	OP_DOMAIN_BLOCK_COMMIT, OP_DOMAIN_BLOCK_COPY, OP_DOMAIN_SET_MEMORY, OP_DOMAIN_SET_VCPUS,
	OP_DOMAIN_SET_AUTOSTART, OP_DOMAIN_RENAME, OP_DOMAIN_ATTACH_DEVICE, OP_DOMAIN_DETACH_DEVICE,
	OP_DOMAIN_UPDATE_DEVICE, OP_DOMAIN_GET_XML, OP_POOL_START, OP_POOL_STOP, OP_POOL_BUILD, OP_POOL_REFRESH,
	OP_POOL_DELETE, OP_POOL_UNDEFINE, OP_POOL_SET_AUTOSTART, OP_POOL_GET_XML, OP_POOL_LIST_VOLUMES,
	OP_POOL_CREATE_VOLUME, OP_POOL_CLONE_VOLUME, OP_POOL_RESIZE_VOLUME, OP_POOL_WIPE_VOLUME, OP_POOL_DELETE_VOLUME,
	OP_POOL_UPLOAD_VOLUME, OP_POOL_DOWNLOAD_VOLUME, OP_NETWORK_START, OP_NETWORK_STOP, OP_NETWORK_UNDEFINE,
	OP_NETWORK_SET_AUTOSTART, OP_NETWORK_GET_XML, OP_NONE,
};

static const struct lv_handler *find_handler(enum operation operation)
{
	if ((unsigned)operation >= OP_MAX)
		return NULL;
	if (lv_domain_handlers[operation].run)
		return &lv_domain_handlers[operation];
	if (lv_pool_handlers[operation].run)
		return &lv_pool_handlers[operation];
	if (lv_volume_handlers[operation].run)
		return &lv_volume_handlers[operation];
	return lv_job_handlers[operation].run ? &lv_job_handlers[operation] : NULL;
}

/* ---- what a connection has --------------------------------------------------------------------------------- */

/* libvirt's test driver answers "not supported" to these. */
static const enum operation missing_in_test[] = {
	OP_DOMAIN_RESET, OP_DOMAIN_PMWAKEUP, OP_DOMAIN_MIGRATE, OP_DOMAIN_BLOCK_PULL, OP_DOMAIN_BLOCK_COMMIT,
	OP_DOMAIN_BLOCK_COPY, OP_DOMAIN_ATTACH_DEVICE, OP_DOMAIN_DETACH_DEVICE, OP_DOMAIN_UPDATE_DEVICE,
	OP_POOL_RESIZE_VOLUME, OP_POOL_WIPE_VOLUME, OP_POOL_UPLOAD_VOLUME, OP_POOL_DOWNLOAD_VOLUME,
};

static bool has_operation(const struct driver_connection *c, enum operation operation)
{
	switch (operation) {
	case OP_DEFINE_POOL:
	case OP_CREATE_POOL:
		return c->has_kind[KIND_POOL];
	case OP_DEFINE_NETWORK:
	case OP_CREATE_NETWORK:
		return c->has_kind[KIND_NETWORK];
	case OP_DEFINE_DOMAIN:
	case OP_CREATE_DOMAIN:
	case OP_RESTORE_DOMAIN:
		return c->has_kind[KIND_DOMAIN];
	default:
		break;
	}
	if (!c->has_kind[operation_table[operation].kind])
		return false;
	for (size_t i = 0; c->is_test && i < ELEMENTS(missing_in_test); i++)
		if (missing_in_test[i] == operation)
			return false;
	return true;
}

char **lv_operations_supported(const struct driver_connection *c)
{
	char **names = calloc(OP_MAX, sizeof(*names));
	size_t n = 0;

	for (const enum operation *o = lv_operations; names && *o != OP_NONE; o++) {
		if (!has_operation(c, *o) || !find_handler(*o))
			continue;
		if (asprintf(&names[n], "%s.%s", operation_table[*o].interface, operation_table[*o].method) < 0)
			names[n] = NULL;
		else
			n++;
	}
	if (names)
		qsort(names, n, sizeof(*names), lv_compare_names);
	return names;
}

/* ---- what it changes --------------------------------------------------------------------------------------- */

/* An operation that lasts longer no longer holds looks up. */
#define HOLD_LOOKS (2 * USEC_PER_SEC)

/* Which object an operation changes; the null UUID when that is not known before. */
static sd_id128_t find_target(const struct request *r, enum kind *ret_kind)
{
	sd_id128_t uuid;

	switch (r->operation) {
	case OP_DEFINE_POOL:
	case OP_CREATE_POOL:
		*ret_kind = KIND_POOL;
		break;
	case OP_DEFINE_NETWORK:
	case OP_CREATE_NETWORK:
		*ret_kind = KIND_NETWORK;
		break;
	case OP_DEFINE_DOMAIN:
	case OP_CREATE_DOMAIN:
	case OP_RESTORE_DOMAIN:
		*ret_kind = KIND_DOMAIN;
		break;
	default:
		*ret_kind = operation_table[r->operation].kind;
		return r->uuid;
	}
	return r->text && lv_xml_read_uuid(r->text, &uuid) == 0 ? uuid : SD_ID128_NULL;
}

/* The object of @op is about to change. */
static void hold_object(struct driver_connection *c, struct lv_op *op)
{
	const struct operation_def *def = &operation_table[op->r->operation];
	enum kind kind;
	sd_id128_t uuid;

	if (def->read)
		return;
	uuid = find_target(op->r, &kind);
	pthread_mutex_lock(&c->lock);
	op->began = lv_now();
	if (def->kind == KIND_CONNECTION) {
		op->creating = true;
		c->creating++;
		c->creations++;
	}
	op->object = sd_id128_is_null(uuid) ? NULL : lv_object_get(c, kind, uuid);
	if (op->object) {
		lv_object_ref(op->object);
		op->object->operating++;
		op->object->facts = (struct lv_facts){0};
		op->object->events++;
	}
	lv_wake_keeper(c, op->began + HOLD_LOOKS);
	pthread_mutex_unlock(&c->lock);
}

/* Under the lock: it has changed, or is not waited for any longer. */
static void release_object(struct driver_connection *c, struct lv_op *op)
{
	struct lv_object *o = TAKE(op->object);

	if (op->creating) {
		op->creating = false;
		c->creating--;
		c->creations++;
	}
	if (o) {
		o->operating--;
		o->events++;
		lv_object_want(c, o);
		lv_object_unref(c, o);
	}
}

uint64_t lv_release_objects(struct driver_connection *c)
{
	uint64_t next = UINT64_MAX, now = lv_now();

	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next) {
		if (!op->object && !op->creating)
			continue;
		if (op->began + HOLD_LOOKS <= now)
			release_object(c, op);
		else if (op->began + HOLD_LOOKS < next)
			next = op->began + HOLD_LOOKS;
	}
	pthread_mutex_unlock(&c->lock);
	return next;
}

/* ---- life of an operation --------------------------------------------------------------------------------- */

void lv_op_unref(struct driver_connection *c, struct lv_op *op)
{
	if (--op->refs > 0)
		return;
	release_object(c, op);
	if (op->handle)
		lv_handle_free(op->r->kind, op->handle);
	if (op->watch)
		lv_handle_free(op->r->kind, op->watch);
	free(op->volume);
	pthread_mutex_destroy(&op->telling);
	request_free(op->r);
	report_free(op->report);
	free(op);
}

void lv_op_drop(struct driver_connection *c, void *op)
{
	pthread_mutex_lock(&c->lock);
	lv_op_unref(c, op);
	pthread_mutex_unlock(&c->lock);
}

/* Under the lock: it is answered now, by the caller. */
static void answered(struct driver_connection *c, struct lv_op *op)
{
	op->answered = true;
	*(op->prev ? &op->prev->next : &c->operations) = op->next;
	if (op->next)
		op->next->prev = op->prev;
	op->prev = op->next = NULL;
	lv_op_unref(c, op);
}

/* Under @telling, which is given up. */
static void finish(struct driver_connection *c, struct lv_op *op)
{
	struct report *report = NULL;

	pthread_mutex_lock(&c->lock);
	if (!op->answered) {
		report = TAKE(op->report);
		answered(c, op);
	}
	pthread_mutex_unlock(&c->lock);
	if (report)
		driver_host_post(c->host, report);
	pthread_mutex_unlock(&op->telling);
	pthread_mutex_lock(&c->lock);
	lv_op_unref(c, op);
	pthread_mutex_unlock(&c->lock);
}

void lv_op_finish(struct driver_connection *c, struct lv_op *op)
{
	/* behind whatever progress is being posted */
	pthread_mutex_lock(&op->telling);
	finish(c, op);
}

void lv_op_finish_or_leave(struct driver_connection *c, struct lv_op *op)
{
	if (pthread_mutex_trylock(&op->telling) == 0)
		finish(c, op);
	else
		lv_op_drop(c, op);
}

void lv_op_ended(struct driver_connection *c, struct lv_op *op)
{
	const struct operation_def *def = &operation_table[op->r->operation];
	const struct result *r = &op->report->result;

	if (def->read)
		lv_op_finish(c, op);
	else if (op->foreign)
		lv_settle_operation(c, def->kind, op->r->uuid, op);
	else if (!sd_id128_is_null(r->uuid))
		lv_settle_operation(c, r->kind, r->uuid, op);
	else if (def->kind != KIND_CONNECTION)
		lv_settle_operation(c, def->kind, op->r->uuid, op);
	else
		lv_op_finish(c, op);
}

/* The object that it is called on; nothing for an operation of the connection. */
static int find_object(struct lv_op *op, bool lasts, struct failure *f)
{
	enum kind kind = operation_table[op->r->operation].kind;
	virConnectPtr conn = lasts ? lv_extra(op->c, &op->c->lasting) : op->c->ops;

	if (!conn)
		return lv_failure(f);
	if (kind == KIND_CONNECTION)
		return 0;
	op->handle = lv_handle_lookup(conn, kind, op->r->uuid);
	return op->handle ? 0 : lv_failure(f);
}

static int run(struct lv_op *op, struct failure *f)
{
	const struct lv_handler *h = find_handler(op->r->operation);
	int r;

	if (!h || !has_operation(op->c, op->r->operation))
		return failure_set(f, VIREO_NOT_SUPPORTED, "%s is not supported here.",
				   h ? operation_table[op->r->operation].method : "This operation");
	if (h->root) {
		r = lv_xml_check(op->r->text, h->root[0] ? h->root : NULL, f);
		if (r != 0)
			return r;
	}
	r = find_object(op, h->lasts, f);
	return r != 0 ? r : h->run(op, f);
}

static void operate_work(struct driver_connection *c, void *data)
{
	struct lv_op *op = data;
	struct failure *f;
	int r;

	if (!lv_take_up(op)) {
		lv_op_finish(c, op);
		return;
	}
	f = &op->report->result.failure;
	hold_object(c, op);
	r = run(op, f);
	if (r == 0)
		lv_follow_end(op);
	pthread_mutex_lock(&c->lock);
	release_object(c, op);
	if (r == LV_GOES_ON)
		lv_op_unref(c, op);
	else
		op->follow = LV_FOLLOW_NOT;
	if (r > 0 && op->cancelled)
		f->error = VIREO_CANCELLED; /* whatever libvirt calls it */
	pthread_mutex_unlock(&c->lock);
	if (r != LV_GOES_ON)
		lv_op_ended(c, op);
}

static void post_end(struct driver_connection *c, enum report_type type, uint64_t token, enum vireo_error error,
		     const char *why)
{
	struct report *r = report_new(type);

	if (!r)
		return;
	if (type == REPORT_FOREIGN) {
		r->foreign.token = token;
		r->foreign.ended = true;
	} else
		r->result.token = token;
	failure_set(type == REPORT_FOREIGN ? &r->foreign.failure : &r->result.failure, error, "%s", why);
	driver_host_post(c->host, r);
}

static void post_refusal(struct driver_connection *c, uint64_t token, enum vireo_error error, const char *why)
{
	post_end(c, REPORT_RESULT, token, error, why);
}

struct lv_op *lv_op_new(struct driver_connection *c, struct request *r, enum report_type type)
{
	struct lv_op *op = calloc(1, sizeof(*op));

	if (op)
		op->report = report_new(type);
	if (!op || !op->report) {
		free(op);
		request_free(r);
		return NULL;
	}
	pthread_mutex_init(&op->telling, NULL);
	op->refs = 1;
	op->c = c;
	op->r = r;
	op->r->kind = operation_table[r->operation].kind;
	op->block_status = op->known_end = -1;
	op->foreign = type == REPORT_FOREIGN;
	if (op->foreign) {
		op->report->foreign.token = r->token;
		op->report->foreign.ended = true;
	} else
		op->report->result.token = r->token;
	return op;
}

void lv_op_link(struct driver_connection *c, struct lv_op *op)
{
	op->refs++;
	op->next = c->operations;
	if (c->operations)
		c->operations->prev = op;
	c->operations = op;
}

struct failure *lv_op_failure(struct lv_op *op)
{
	return op->foreign ? &op->report->foreign.failure : &op->report->result.failure;
}

void lv_operate(struct driver_connection *c, struct request *r)
{
	const struct lv_handler *h = find_handler(r->operation);
	uint64_t token = r->token;
	struct lv_op *op = lv_op_new(c, r, REPORT_RESULT);
	bool begun = false, closing, ended;

	if (!op) {
		post_refusal(c, token, VIREO_NO_MEMORY, "No memory.");
		return;
	}
	pthread_mutex_lock(&c->lock);
	closing = c->closing;
	ended = c->ended;
	if (!closing && !ended &&
	    lv_submit(c, h && h->lasts ? c->lasters : c->operators, operate_work, op, lv_op_drop)) {
		begun = true;
		lv_op_link(c, op);
		if (!operation_table[op->r->operation].read) {
			op->follow = LV_FOLLOW_QUEUE;
			op->cancellable = true;
			op->poll_at = lv_now() + QUEUED_AFTER;
			lv_wake_keeper(c, op->poll_at);
		}
	} else
		lv_op_unref(c, op);
	pthread_mutex_unlock(&c->lock);
	if (!begun && !closing)
		post_refusal(c, token, ended ? VIREO_DISCONNECTED : VIREO_NO_MEMORY,
			     ended ? "The hypervisor is not connected." : "No memory.");
}

void lv_fail_operations(struct driver_connection *c, const char *why)
{
	pthread_mutex_lock(&c->lock);
	while (c->operations) {
		struct lv_op *op = c->operations;
		enum report_type type = op->foreign ? REPORT_FOREIGN : REPORT_RESULT;
		uint64_t token = op->r->token;

		answered(c, op);
		pthread_mutex_unlock(&c->lock);
		if (why) {
			_cleanup_(freep) char *text = NULL;

			if (asprintf(&text, "The hypervisor was lost meanwhile: %s", why) < 0)
				text = NULL;
			post_end(c, type, token, VIREO_DISCONNECTED, text ? text : "The hypervisor was lost meanwhile.");
		}
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
}

/* ---- for handlers ----------------------------------------------------------------------------------------- */

unsigned lv_flags(const struct lv_op *op, const struct lv_flag *table)
{
	unsigned flags = 0;

	for (; table->option; table++)
		if (vdict_b(op->r->options, table->option, false))
			flags |= table->flag;
	return flags;
}

int lv_result(int r, struct failure *f)
{
	return r < 0 ? lv_failure(f) : 0;
}

int lv_result_object(struct lv_op *op, enum kind kind, void *handle, struct failure *f)
{
	struct result *r = &op->report->result;
	int n;

	if (!handle)
		return lv_failure(f);
	switch (kind) {
	case KIND_DOMAIN:
		n = virDomainGetUUID(handle, r->uuid.bytes);
		break;
	case KIND_POOL:
		n = virStoragePoolGetUUID(handle, r->uuid.bytes);
		break;
	default:
		n = virNetworkGetUUID(handle, r->uuid.bytes);
	}
	r->kind = kind;
	lv_handle_free(kind, handle);
	return lv_result(n, f);
}

int lv_result_text(struct lv_op *op, char *text, struct failure *f)
{
	if (!text)
		return lv_failure(f);
	op->report->result.text = utf8_dup(text);
	free(text);
	return op->report->result.text ? 0 : failure_set(f, VIREO_NO_MEMORY, "No memory.");
}
