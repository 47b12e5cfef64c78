/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <json-c/json.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "errors.h"
#include "jobs.h"
#include "util/log.h"
#include "util/utf8.h"
#include "xml.h"

/*
 * Jobs that others began. libvirt announces none of them; but QEMU says when a block job or a migration (which is also
 * how it saves and dumps) changes its state, and that can be heard. A hint from there, or a look that finds a domain paused for
 * such a reason, makes a worker ask libvirt what runs. What was found is an operation like one of our own, except that no call
 * of ours ends it: it is polled, cancelled and completed in the same way (jobs.c).
 */

#define HINTS "^(JOB_STATUS_CHANGE|MIGRATION|DUMP_COMPLETED)$"

struct suspect {
	sd_id128_t uuid;
	char *disk; /* NULL: the domain as a whole */
};

static void free_suspect(struct suspect *s)
{
	free(s->disk);
	free(s);
}

static void drop_suspect(struct driver_connection *c, void *data)
{
	free_suspect(data);
}

/* ---- beginning -------------------------------------------------------------------------------------------- */

static void post_begin(struct driver_connection *c, const struct lv_op *op)
{
	struct report *r = report_new(REPORT_FOREIGN);

	if (!r)
		return;
	r->foreign.token = op->r->token;
	r->foreign.kind = KIND_DOMAIN;
	r->foreign.uuid = op->r->uuid;
	r->foreign.operation = op->r->operation;
	r->foreign.subject = op->r->text ? strdup(op->r->text) : NULL;
	r->foreign.cancellable = op->cancellable;
	driver_host_post(c->host, r);
}

/* libvirt says that it runs. */
static void begin(struct driver_connection *c, const struct suspect *s, enum operation operation, bool cancellable)
{
	struct request *q = calloc(1, sizeof(*q));
	struct lv_op *op;
	bool fresh;

	if (!q)
		return;
	q->operation = operation;
	q->uuid = s->uuid;
	q->text = s->disk ? strdup(s->disk) : NULL;
	q->fd = -1;
	q->options = vdict_new();
	pthread_mutex_lock(&c->lock);
	q->token = FOREIGN_TOKEN | ++c->foreign_token;
	pthread_mutex_unlock(&c->lock);
	op = lv_op_new(c, q, REPORT_FOREIGN);
	if (!op)
		return;
	/* Nothing is told of it before its beginning. */
	pthread_mutex_lock(&op->telling);
	pthread_mutex_lock(&c->lock);
	fresh = !c->closing && !c->ended && !lv_job_is_followed(c, s->uuid, s->disk);
	if (fresh) {
		op->begun = op->goes_on = true;
		op->follow = s->disk ? LV_FOLLOW_BLOCK : LV_FOLLOW_JOB;
		op->cancellable = cancellable;
		op->poll_at = lv_now();
		lv_op_link(c, op);
		lv_wake_keeper(c, op->poll_at);
	}
	pthread_mutex_unlock(&c->lock);
	if (fresh)
		post_begin(c, op);
	pthread_mutex_unlock(&op->telling);
	pthread_mutex_lock(&c->lock);
	lv_op_unref(c, op);
	pthread_mutex_unlock(&c->lock);
}

/* ---- asking ----------------------------------------------------------------------------------------------- */

/* The event that says so may be long over. */
static void ask_ready(struct driver_connection *c, virDomainPtr dom, const struct suspect *s)
{
	_cleanup_(freep) char *raw = virDomainGetXMLDesc(dom, 0), *xml = utf8_dup(raw);

	if (raw && xml && lv_xml_disk_is_ready(xml, s->disk))
		lv_job_is_ready(c, s->uuid, s->disk);
}

static void ask_block(struct driver_connection *c, virDomainPtr dom, const struct suspect *s)
{
	static const enum operation operations[] = {
		[VIR_DOMAIN_BLOCK_JOB_TYPE_UNKNOWN] = OP_NONE,
		[VIR_DOMAIN_BLOCK_JOB_TYPE_PULL] = OP_DOMAIN_BLOCK_PULL,
		[VIR_DOMAIN_BLOCK_JOB_TYPE_COPY] = OP_DOMAIN_BLOCK_COPY,
		[VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT] = OP_DOMAIN_BLOCK_COMMIT,
		[VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT] = OP_DOMAIN_BLOCK_COMMIT,
		[VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP] = OP_NONE,
	};
	virDomainBlockJobInfo info;

	if (virDomainGetBlockJobInfo(dom, s->disk, &info, 0) != 1)
		return;
	if (info.type < 0 || (size_t)info.type >= ELEMENTS(operations) || operations[info.type] == OP_NONE)
		return;
	begin(c, s, operations[info.type], true);
	if (info.end > 0 && info.cur == info.end)
		ask_ready(c, dom, s);
}

static void ask_domain(struct driver_connection *c, virDomainPtr dom, const struct suspect *s)
{
	virTypedParameterPtr params = NULL;
	int type, n = 0, operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;
	unsigned long long memory_total, data_total;
	bool memory_only;

	if (virDomainGetJobStats(dom, &type, &params, &n, 0) < 0)
		return;
	virTypedParamsGetInt(params, n, VIR_DOMAIN_JOB_OPERATION, &operation);
	/* of a dump of memory alone libvirt tells these only */
	memory_only = virTypedParamsGetULLong(params, n, VIR_DOMAIN_JOB_MEMORY_TOTAL, &memory_total) == 1 &&
		      virTypedParamsGetULLong(params, n, VIR_DOMAIN_JOB_DATA_TOTAL, &data_total) != 1;
	virTypedParamsFree(params, n);
	if (type != VIR_DOMAIN_JOB_BOUNDED && type != VIR_DOMAIN_JOB_UNBOUNDED)
		return;
	if (operation == VIR_DOMAIN_JOB_OPERATION_SAVE)
		begin(c, s, OP_DOMAIN_SAVE, true);
	else if (operation == VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT)
		begin(c, s, OP_DOMAIN_MIGRATE, true);
	else if (operation == VIR_DOMAIN_JOB_OPERATION_DUMP)
		begin(c, s, OP_DOMAIN_DUMP, !memory_only);
}

static void ask_work(struct driver_connection *c, void *data)
{
	struct suspect *s = data;
	virConnectPtr conn = lv_extra(c, &c->control);
	virDomainPtr dom = conn ? virDomainLookupByUUID(conn, s->uuid.bytes) : NULL;

	if (dom) {
		if (s->disk)
			ask_block(c, dom, s);
		else
			ask_domain(c, dom, s);
		virDomainFree(dom);
	}
	free_suspect(s);
}

/* Under the lock. */
static void suspect(struct driver_connection *c, sd_id128_t uuid, const char *disk)
{
	struct suspect *s;

	if (c->closing || c->ended || lv_job_is_followed(c, uuid, disk))
		return;
	s = calloc(1, sizeof(*s));
	if (!s || (disk && !(s->disk = strdup(disk)))) {
		free(s);
		return;
	}
	s->uuid = uuid;
	if (!lv_submit(c, c->controllers, ask_work, s, drop_suspect))
		free_suspect(s);
}

void lv_foreign_suspect(struct driver_connection *c, sd_id128_t uuid)
{
	if (c->monitor_id >= 0)
		suspect(c, uuid, NULL);
}

/* ---- what runs already ------------------------------------------------------------------------------------- */

static void scan_domain(struct driver_connection *c, virDomainPtr dom)
{
	_cleanup_(freep) char *raw = virDomainGetXMLDesc(dom, 0), *xml = utf8_dup(raw);
	char **disks = xml ? lv_xml_read_disks(xml) : NULL;
	struct suspect s = {0};

	if (virDomainGetUUID(dom, s.uuid.bytes) < 0)
		return;
	ask_domain(c, dom, &s);
	for (char **d = disks; d && *d; d++) {
		s.disk = *d;
		ask_block(c, dom, &s);
		free(*d);
	}
	free(disks);
}

static bool is_over(struct driver_connection *c)
{
	bool over;

	pthread_mutex_lock(&c->lock);
	over = c->closing || c->ended;
	pthread_mutex_unlock(&c->lock);
	return over;
}

static void scan_work(struct driver_connection *c, void *data)
{
	virConnectPtr conn = lv_extra(c, &c->control);
	virDomainPtr *domains = NULL;
	int n = conn ? virConnectListAllDomains(conn, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE) : 0;

	for (int i = 0; i < n; i++) {
		if (!is_over(c))
			scan_domain(c, domains[i]);
		virDomainFree(domains[i]);
	}
	free(domains);
}

void lv_foreign_scan(struct driver_connection *c)
{
	if (c->monitor_id >= 0)
		lv_submit(c, c->controllers, scan_work, NULL, NULL);
}

/* ---- hints ------------------------------------------------------------------------------------------------ */

static const char *member(struct json_object *o, const char *key)
{
	struct json_object *v;

	return o && json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, key, &v) &&
			       json_object_is_type(v, json_type_string) ?
		       json_object_get_string(v) :
		       "";
}

/* libvirt names its jobs: kind, disk, node ("copy-vda-libvirt-1-format"). Others' names mean nothing here. */
static char *disk_of_job(const char *id)
{
	static const char *const kinds[] = {"pull-", "copy-", "commit-"};

	for (size_t i = 0; i < ELEMENTS(kinds); i++) {
		size_t n = strlen(kinds[i]);

		if (strncmp(id, kinds[i], n) == 0)
			return strndup(id + n, strcspn(id + n, "-"));
	}
	return NULL;
}

static void on_job_status(struct driver_connection *c, sd_id128_t uuid, struct json_object *o)
{
	_cleanup_(freep) char *disk = disk_of_job(member(o, "id"));
	const char *status = member(o, "status");

	if (!disk || !disk[0] || (strcmp(status, "running") != 0 && strcmp(status, "ready") != 0))
		return;
	pthread_mutex_lock(&c->lock);
	suspect(c, uuid, disk);
	pthread_mutex_unlock(&c->lock);
}

static void on_migration(struct driver_connection *c, virDomainPtr dom, sd_id128_t uuid, const char *status)
{
	if (strcmp(status, "completed") == 0)
		lv_job_known_end(c, dom, 1);
	else if (strcmp(status, "failed") == 0)
		lv_job_known_end(c, dom, 0);
	else if (strcmp(status, "cancelled") == 0)
		lv_job_known_end(c, dom, 2);
	else if (strcmp(status, "active") == 0) {
		pthread_mutex_lock(&c->lock);
		suspect(c, uuid, NULL);
		pthread_mutex_unlock(&c->lock);
	}
}

static void on_monitor(virConnectPtr conn, virDomainPtr dom, const char *event, long long seconds, unsigned micros,
		       const char *details, void *userdata)
{
	struct driver_connection *c = userdata;
	struct json_object *o = details ? json_tokener_parse(details) : NULL;
	sd_id128_t uuid;

	if (o && virDomainGetUUID(dom, uuid.bytes) == 0) {
		if (strcmp(event, "JOB_STATUS_CHANGE") == 0)
			on_job_status(c, uuid, o);
		else if (strcmp(event, "MIGRATION") == 0)
			on_migration(c, dom, uuid, member(o, "status"));
		else if (strcmp(event, "DUMP_COMPLETED") == 0)
			lv_job_known_end(c, dom, member(o, "error")[0] == '\0');
	}
	json_object_put(o);
}

void lv_foreign_register(struct driver_connection *c)
{
	const char *type = virConnectGetType(c->events);

	c->monitor_id = -1;
	if (!type || strcmp(type, "QEMU") != 0)
		return;
	lv_ref(c);
	c->monitor_id = virConnectDomainQemuMonitorEventRegister(c->events, NULL, HINTS, on_monitor, c, lv_release,
								 VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX);
	if (c->monitor_id < 0) {
		lv_unref(c);
		log_info("libvirt: jobs that others begin cannot be seen: %s", virGetLastErrorMessage());
	}
}

void lv_foreign_deregister(struct driver_connection *c)
{
	if (c->monitor_id >= 0)
		virConnectDomainQemuMonitorEventDeregister(c->events, c->monitor_id);
}
