/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs.h"

#include <libvirt/virterror.h>
#include <string.h>

#include "errors.h"
#include "util/log.h"

/*
 * Operations that last: how far they are, how they are cancelled and completed, and how block jobs end. All calls here
 * go over the control connection, on workers of their own.
 */

/* Between two questions: until there is an answer, and when nothing moves. */
#define POLL_BEGIN (100 * USEC_PER_MSEC)
#define POLL_EVERY (250 * USEC_PER_MSEC)
#define POLL_IDLE (1 * USEC_PER_SEC)
#define POLL_IDLE_AFTER 8

/* Polls in a row that find no block job, and no event said that it ended. */
#define VANISHED_AFTER 4

/* ---- handles on the control connection --------------------------------------------------------------------- */

virDomainPtr lv_control_domain(struct driver_connection *c, const struct lv_op *op)
{
	virConnectPtr conn = lv_extra(c, &c->control);

	return conn ? virDomainLookupByUUID(conn, op->r->uuid.bytes) : NULL;
}

/* ---- progress --------------------------------------------------------------------------------------------- */

void lv_follow(struct lv_op *op, enum lv_follow follow, bool cancellable)
{
	struct driver_connection *c = op->c;

	pthread_mutex_lock(&c->lock);
	op->follow = follow;
	op->cancellable = cancellable;
	/* at once: until then nobody knows whether it can be cancelled */
	op->poll_at = lv_now();
	lv_wake_keeper(c, op->poll_at);
	pthread_mutex_unlock(&c->lock);
}

bool lv_must_end(struct lv_op *op)
{
	bool end;

	pthread_mutex_lock(&op->c->lock);
	end = op->cancelled || op->answered || op->c->closing;
	pthread_mutex_unlock(&op->c->lock);
	return end;
}

static int operation_of(const struct lv_op *op)
{
	return op->r->operation == OP_DOMAIN_DUMP    ? VIR_DOMAIN_JOB_OPERATION_DUMP :
	       op->r->operation == OP_DOMAIN_MIGRATE ? VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT :
						       VIR_DOMAIN_JOB_OPERATION_SAVE;
}

/* false: nothing can be said. */
static bool ask_job(struct lv_op *op, struct progress *p, bool *ret_vanished, bool *ret_other)
{
	virTypedParameterPtr params = NULL;
	unsigned long long total = 0, remaining = 0, ms;
	int type, n = 0, operation;
	bool known = false;

	if (!op->watch || virDomainGetJobStats(op->watch, &type, &params, &n, 0) < 0)
		return false;
	*ret_vanished = type == VIR_DOMAIN_JOB_NONE;
	/* Somebody else's may be over, and the next one running already. */
	if (op->foreign && virTypedParamsGetInt(params, n, VIR_DOMAIN_JOB_OPERATION, &operation) == 1 &&
	    operation != operation_of(op)) {
		virTypedParamsFree(params, n);
		*ret_vanished = *ret_other = true;
		return false;
	}
	/* libvirt calls saves and migrations unbounded, while it tells totals: what counts is the total. */
	if (type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED) {
		/*
		 * Not DATA_PROCESSED: pages of zeroes are never sent, and pages that change are sent again; what remains
		 * is what matters. A dump of memory alone tells MEMORY_ only.
		 */
		if (virTypedParamsGetULLong(params, n, VIR_DOMAIN_JOB_DATA_TOTAL, &total) != 1 || total == 0) {
			virTypedParamsGetULLong(params, n, VIR_DOMAIN_JOB_MEMORY_TOTAL, &total);
			virTypedParamsGetULLong(params, n, VIR_DOMAIN_JOB_MEMORY_REMAINING, &remaining);
		} else
			virTypedParamsGetULLong(params, n, VIR_DOMAIN_JOB_DATA_REMAINING, &remaining);
		known = total > 0 && remaining <= total;
		if (known) {
			p->total = total;
			p->done = total - remaining;
		}
		if (virTypedParamsGetULLong(params, n, VIR_DOMAIN_JOB_TIME_REMAINING, &ms) == 1 && ms > 0)
			p->remaining = ms * 1000;
	}
	virTypedParamsFree(params, n);
	return known;
}

static bool ask_block_job(struct lv_op *op, struct progress *p, bool *ret_vanished)
{
	virDomainBlockJobInfo info;
	int r;

	if (!op->watch)
		return false;
	r = virDomainGetBlockJobInfo(op->watch, op->r->text, &info, 0);
	if (r < 0)
		return false;
	*ret_vanished = r == 0;
	if (r == 0)
		return false;
	p->total = info.end;
	p->done = info.cur < info.end ? info.cur : info.end;
	return true;
}

/* The new volume grows while it is written; raw ones are allocated at once, and tell nothing. */
static bool ask_volume(struct lv_op *op, struct progress *p)
{
	virStorageVolInfo info;
	virStorageVolPtr vol;
	uint64_t total = atomic_load(&op->total);
	int r = -1;

	vol = op->watch && total > 0 ? virStorageVolLookupByName(op->watch, op->volume) : NULL;
	if (vol)
		r = virStorageVolGetInfo(vol, &info);
	if (vol)
		virStorageVolFree(vol);
	if (r < 0)
		return false;
	p->total = total;
	p->done = info.allocation < total ? info.allocation : total;
	return true;
}

static void find_watch(struct driver_connection *c, struct lv_op *op, enum lv_follow follow)
{
	virConnectPtr conn;

	if (op->watch || follow == LV_FOLLOW_STREAM || follow == LV_FOLLOW_QUEUE)
		return;
	conn = lv_extra(c, &c->control);
	if (conn)
		op->watch = lv_handle_lookup(conn, op->r->kind, op->r->uuid);
}

/* Under @telling. */
static void post_progress(struct lv_op *op, const struct progress *p)
{
	struct report *r = report_new(REPORT_PROGRESS);

	op->told = *p;
	if (!r)
		return;
	r->progress = *p;
	driver_host_post(op->c->host, r);
}

/* @known: @p says how far it is, else that is as told last. Return: was there anything new to be told? */
static bool tell_progress(struct lv_op *op, enum lv_follow follow, bool known, struct progress *p)
{
	const struct progress *told = &op->told;
	bool changed, late;

	pthread_mutex_lock(&op->telling);
	if (!known) {
		p->done = told->done;
		p->total = told->total;
	}
	changed = told->token == 0 || p->done != told->done || p->total != told->total || p->ready != told->ready ||
		  p->cancellable != told->cancellable || p->remaining != told->remaining;
	pthread_mutex_lock(&op->c->lock);
	late = op->answered || (follow == LV_FOLLOW_QUEUE && op->begun);
	pthread_mutex_unlock(&op->c->lock);
	if (changed && !late)
		post_progress(op, p);
	pthread_mutex_unlock(&op->telling);
	return changed;
}

bool lv_take_up(struct lv_op *op)
{
	struct progress p = {.token = op->r->token, .remaining = USEC_UNKNOWN, .percent = -1};
	bool over;

	pthread_mutex_lock(&op->telling);
	pthread_mutex_lock(&op->c->lock);
	/* cancelled, or answered because the hypervisor was lost */
	over = op->cancelled || op->answered;
	op->begun = true;
	op->follow = LV_FOLLOW_NOT;
	op->cancellable = false;
	pthread_mutex_unlock(&op->c->lock);
	/* from here on it can be cancelled only if its operator says so */
	if (!over && op->told.cancellable)
		post_progress(op, &p);
	pthread_mutex_unlock(&op->telling);
	return !over;
}

void lv_follow_end(struct lv_op *op)
{
	struct progress p = {.token = op->r->token, .remaining = 0, .percent = 100};

	if (op->follow != LV_FOLLOW_STREAM)
		return;
	p.done = p.total = atomic_load(&op->bytes);
	tell_progress(op, LV_FOLLOW_STREAM, true, &p);
}

static void end_work(struct driver_connection *c, void *data);
static void cancel(struct driver_connection *c, struct lv_op *op);

/* Under the lock: an event said that it has ended; its end is carried out on a worker. */
static void job_ends(struct driver_connection *c, struct lv_op *op)
{
	if (!op->goes_on)
		return;
	op->goes_on = false;
	op->follow = LV_FOLLOW_NOT;
	op->refs++;
	if (!lv_submit(c, c->controllers, end_work, op, NULL))
		op->refs--;
}

static void poll_work(struct driver_connection *c, void *data)
{
	struct lv_op *op = data;
	struct progress p = {.token = op->r->token, .remaining = USEC_UNKNOWN, .percent = -1};
	enum lv_follow follow;
	bool known = false, vanished = false, other = false, changed = false, left;

	pthread_mutex_lock(&c->lock);
	follow = op->answered ? LV_FOLLOW_NOT : op->follow;
	p.ready = op->ready;
	p.cancellable = op->cancellable;
	pthread_mutex_unlock(&c->lock);

	find_watch(c, op, follow);
	switch (follow) {
	case LV_FOLLOW_NOT:
	case LV_FOLLOW_QUEUE:
		break;
	case LV_FOLLOW_JOB:
		known = ask_job(op, &p, &vanished, &other);
		break;
	case LV_FOLLOW_BLOCK:
		known = ask_block_job(op, &p, &vanished);
		break;
	case LV_FOLLOW_STREAM:
		p.done = atomic_load(&op->bytes);
		p.total = atomic_load(&op->total);
		known = true;
		break;
	case LV_FOLLOW_VOLUME:
		known = ask_volume(op, &p);
		break;
	}
	/* whether it can be cancelled is known in any case */
	if (follow != LV_FOLLOW_NOT)
		changed = tell_progress(op, follow, known, &p);

	pthread_mutex_lock(&c->lock);
	op->polling = false;
	op->unchanged = changed ? 0 : op->unchanged + 1;
	op->poll_at = lv_now() + (op->unchanged >= POLL_IDLE_AFTER ? POLL_IDLE :
				  known || op->goes_on		   ? POLL_EVERY :
								     POLL_BEGIN);
	op->vanished = vanished ? op->vanished + 1 : 0;
	/* What has a call of ours ends with that. */
	if (op->goes_on && op->vanished >= (other || op->known_end >= 0 ? 1 : VANISHED_AFTER)) {
		job_ends(c, op);
		if (other)
			lv_foreign_suspect(c, op->r->uuid);
	} else if (op->cancelled && !op->aborted && (follow == LV_FOLLOW_JOB || follow == LV_FOLLOW_BLOCK))
		cancel(c, op);
	lv_wake_keeper(c, op->poll_at);
	/* It was cancelled while this was being told, and left to us (lv_op_finish_or_leave). */
	left = op->cancelled && !op->begun && !op->answered;
	if (!left)
		lv_op_unref(c, op);
	pthread_mutex_unlock(&c->lock);
	if (left)
		lv_op_finish(c, op);
}

uint64_t lv_poll_operations(struct driver_connection *c)
{
	uint64_t next = UINT64_MAX, now = lv_now();

	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next) {
		if (op->follow == LV_FOLLOW_NOT || op->polling)
			continue;
		if (op->poll_at > now) {
			next = op->poll_at < next ? op->poll_at : next;
			continue;
		}
		op->polling = true;
		op->refs++;
		if (!lv_submit(c, c->controllers, poll_work, op, lv_op_drop)) {
			op->polling = false;
			op->refs--;
			op->poll_at = now + POLL_IDLE;
		}
	}
	pthread_mutex_unlock(&c->lock);
	return next;
}

/* ---- block jobs ------------------------------------------------------------------------------------------- */

/* Under the lock: what its end means. */
static enum vireo_error judge_end(const struct lv_op *op, const char **ret_why)
{
	*ret_why = NULL;
	if (op->known_end == 1)
		return VIREO_OK;
	if (op->known_end == 2 || (op->known_end == 0 && op->cancelled)) {
		*ret_why = "It was cancelled.";
		return VIREO_CANCELLED;
	}
	if (op->known_end == 0) {
		*ret_why = "It failed.";
		return VIREO_OPERATION_FAILED;
	}
	if (op->stopped) {
		*ret_why = "The domain stopped, and with it what ran on it.";
		return VIREO_OPERATION_FAILED;
	}
	switch (op->block_status) {
	case VIR_DOMAIN_BLOCK_JOB_COMPLETED:
		/* Cancelling a copy that is ready ends it well, but without the pivot that was wanted. */
		if (!op->cancelled || op->pivoting)
			return VIREO_OK;
		*ret_why = "It was cancelled.";
		return VIREO_CANCELLED;
	case VIR_DOMAIN_BLOCK_JOB_CANCELED:
		*ret_why = op->cancelled ? "It was cancelled." : "It was cancelled by somebody else.";
		return VIREO_CANCELLED;
	case VIR_DOMAIN_BLOCK_JOB_FAILED:
		*ret_why = "The block job failed.";
		return VIREO_OPERATION_FAILED;
	default:
		*ret_why = "It is gone, and nothing said how it ended.";
		return VIREO_OUTCOME_UNKNOWN;
	}
}

static void end_work(struct driver_connection *c, void *data)
{
	struct lv_op *op = data;
	enum vireo_error error;
	const char *why;

	pthread_mutex_lock(&c->lock);
	error = judge_end(op, &why);
	pthread_mutex_unlock(&c->lock);
	if (error != VIREO_OK)
		failure_set(lv_op_failure(op), error, "%s", why);
	lv_op_ended(c, op);
}

int lv_block_begun(struct lv_op *op, struct failure *f)
{
	struct driver_connection *c = op->c;
	enum vireo_error error = VIREO_OK;
	const char *why = NULL;
	bool ended;

	pthread_mutex_lock(&c->lock);
	/* The end may have been reported before the call that began it returned. */
	ended = op->stopped || (op->block_status >= 0 && op->block_status != VIR_DOMAIN_BLOCK_JOB_READY);
	if (ended)
		error = judge_end(op, &why);
	else {
		op->goes_on = true;
		op->vanished = 0; /* that it was not there before says nothing */
	}
	pthread_mutex_unlock(&c->lock);
	if (!ended)
		return LV_GOES_ON;
	return error == VIREO_OK ? 0 : failure_set(f, error, "%s", why);
}

bool lv_job_is_of(const struct lv_op *op, virDomainPtr dom)
{
	unsigned char raw[VIR_UUID_BUFLEN];

	return virDomainGetUUID(dom, raw) == 0 && memcmp(raw, op->r->uuid.bytes, sizeof(raw)) == 0;
}

static void pivot_work(struct driver_connection *c, void *data)
{
	struct lv_op *op = data;
	virDomainPtr dom = lv_control_domain(c, op);

	if (!dom || virDomainBlockJobAbort(dom, op->r->text, VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) < 0) {
		log_warning("libvirt: the block job on %s of '%s' cannot be completed: %s", op->r->text,
			    op->r->name ? op->r->name : "?", virGetLastErrorMessage());
		pthread_mutex_lock(&c->lock);
		op->pivoting = false;
		pthread_mutex_unlock(&c->lock);
	}
	if (dom)
		virDomainFree(dom);
	lv_op_drop(c, op);
}

/* Under the lock. */
static void pivot(struct driver_connection *c, struct lv_op *op)
{
	if (op->pivoting)
		return;
	op->pivoting = true;
	op->refs++;
	if (!lv_submit(c, c->controllers, pivot_work, op, lv_op_drop)) {
		op->pivoting = false;
		op->refs--;
	}
}

void lv_job_block_event(struct driver_connection *c, virDomainPtr dom, const char *disk, int type, int status)
{
	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next) {
		if (op->follow != LV_FOLLOW_BLOCK || !disk || strcmp(op->r->text, disk) != 0 || !lv_job_is_of(op, dom))
			continue;
		op->block_status = status;
		if (status != VIR_DOMAIN_BLOCK_JOB_READY) {
			job_ends(c, op);
			break;
		}
		op->ready = true;
		op->poll_at = 0;
		lv_wake_keeper(c, 0);
		if (vdict_b(op->r->options, "pivot", false) && !op->cancelled)
			pivot(c, op);
		break;
	}
	pthread_mutex_unlock(&c->lock);
}

void lv_job_is_ready(struct driver_connection *c, sd_id128_t uuid, const char *disk)
{
	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next)
		if (op->follow == LV_FOLLOW_BLOCK && sd_id128_equal(op->r->uuid, uuid) && strcmp(op->r->text, disk) == 0) {
			op->ready = true;
			op->poll_at = 0;
			lv_wake_keeper(c, 0);
		}
	pthread_mutex_unlock(&c->lock);
}

void lv_job_domain_stopped(struct driver_connection *c, virDomainPtr dom, int detail)
{
	bool moved = detail == VIR_DOMAIN_EVENT_STOPPED_SAVED || detail == VIR_DOMAIN_EVENT_STOPPED_MIGRATED;

	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next) {
		if (!lv_job_is_of(op, dom))
			continue;
		if (op->follow == LV_FOLLOW_JOB && moved)
			op->known_end = 1;
		if (op->follow == LV_FOLLOW_BLOCK || op->follow == LV_FOLLOW_JOB) {
			op->stopped = true;
			job_ends(c, op);
		}
	}
	pthread_mutex_unlock(&c->lock);
}

void lv_job_known_end(struct driver_connection *c, virDomainPtr dom, int end)
{
	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next)
		if (op->foreign && op->follow == LV_FOLLOW_JOB && lv_job_is_of(op, dom)) {
			op->known_end = end;
			/* a save goes on until the domain has stopped, a migration until the other side has taken over */
			if (op->r->operation == OP_DOMAIN_DUMP)
				job_ends(c, op);
		}
	pthread_mutex_unlock(&c->lock);
}

void lv_job_completed(struct driver_connection *c, virDomainPtr dom, bool success)
{
	pthread_mutex_lock(&c->lock);
	for (struct lv_op *op = c->operations; op; op = op->next)
		if (op->foreign && op->follow == LV_FOLLOW_JOB && lv_job_is_of(op, dom)) {
			op->known_end = success;
			/* a save and a migration are done when the domain has stopped; a dump is done */
			if (op->r->operation == OP_DOMAIN_DUMP || !success)
				job_ends(c, op);
		}
	pthread_mutex_unlock(&c->lock);
}

bool lv_job_is_followed(struct driver_connection *c, sd_id128_t uuid, const char *disk)
{
	for (struct lv_op *op = c->operations; op; op = op->next) {
		if (!sd_id128_equal(op->r->uuid, uuid))
			continue;
		if (disk ? op->follow == LV_FOLLOW_BLOCK && strcmp(op->r->text, disk) == 0 : op->follow == LV_FOLLOW_JOB)
			return true;
	}
	return false;
}

/* ---- cancelling and completing ----------------------------------------------------------------------------- */

static void cancel_work(struct driver_connection *c, void *data)
{
	struct lv_op *op = data;
	enum lv_follow follow;
	virDomainPtr dom = NULL;
	int r = 0;

	pthread_mutex_lock(&c->lock);
	follow = op->answered ? LV_FOLLOW_NOT : op->follow;
	pthread_mutex_unlock(&c->lock);
	if (follow == LV_FOLLOW_JOB || follow == LV_FOLLOW_BLOCK)
		dom = lv_control_domain(c, op);
	if (dom && follow == LV_FOLLOW_JOB)
		r = virDomainAbortJob(dom);
	else if (dom && follow == LV_FOLLOW_BLOCK)
		r = virDomainBlockJobAbort(dom, op->r->text, VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC);
	/* It may just have ended; or libvirt has not begun it yet, and then this is tried again (poll_work). */
	if (r < 0)
		log_info("libvirt: %s of '%s' cannot be cancelled now: %s", operation_table[op->r->operation].name,
			 op->r->name ? op->r->name : "?", virGetLastErrorMessage());
	if (dom)
		virDomainFree(dom);
	pthread_mutex_lock(&c->lock);
	op->aborted = op->aborted || (dom && r == 0);
	lv_op_unref(c, op);
	pthread_mutex_unlock(&c->lock);
}

/* Under the lock. */
static void cancel(struct driver_connection *c, struct lv_op *op)
{
	op->refs++;
	if (!lv_submit(c, c->controllers, cancel_work, op, lv_op_drop))
		op->refs--;
}

/* Under the lock. */
static struct lv_op *find_op(struct driver_connection *c, uint64_t token)
{
	struct lv_op *op = c->operations;

	while (op && op->r->token != token)
		op = op->next;
	return op;
}

void lv_cancel(struct driver_connection *c, uint64_t token)
{
	struct lv_op *op, *waiting = NULL;

	pthread_mutex_lock(&c->lock);
	op = find_op(c, token);
	if (op && !op->begun) {
		op->cancelled = true;
		failure_set(lv_op_failure(op), VIREO_CANCELLED, "It was cancelled before it began.");
		op->refs++;
		waiting = op;
	} else if (op && op->cancellable) { /* one that can't be cancelled goes on as if nobody had asked */
		op->cancelled = true;
		cancel(c, op);
	}
	pthread_mutex_unlock(&c->lock);
	/* The worker that it waits for may never come; when it does, it leaves this alone (lv_take_up). */
	if (waiting)
		lv_op_finish_or_leave(c, waiting);
}

void lv_complete(struct driver_connection *c, uint64_t token)
{
	struct lv_op *op;

	pthread_mutex_lock(&c->lock);
	op = find_op(c, token);
	if (op && op->follow == LV_FOLLOW_BLOCK && op->ready)
		pivot(c, op);
	pthread_mutex_unlock(&c->lock);
}
