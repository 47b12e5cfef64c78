/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <assert.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>

#include "errors.h"
#include "jobs.h"
#include "util/log.h"
#include "util/utf8.h"
#include "words.h"

/*
 * What libvirt reports: one callback an event id, each of which only makes a cause of it. All run on libvirt's loop.
 *
 * Left out on purpose: BLOCK_JOB and IO_ERROR (BLOCK_JOB_2 and IO_ERROR_REASON bring the same and more), PMWAKEUP,
 * PMSUSPEND and PMSUSPEND_DISK (lifecycle events say the same). Host paths and addresses of console clients are
 * never taken over: events are broadcast.
 */

const struct event_def lv_events[] = {
	{KIND_DOMAIN, "Rebooted", "", "VIR_DOMAIN_EVENT_ID_REBOOT"},
	{KIND_DOMAIN, "RTCChanged", "offset:x", "VIR_DOMAIN_EVENT_ID_RTC_CHANGE"},
	{KIND_DOMAIN, "Watchdog", "", "VIR_DOMAIN_EVENT_ID_WATCHDOG"},
	{KIND_DOMAIN, "IOError", "alias:s action:s", "VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON"},
	{KIND_DOMAIN, "Graphics", "auth-scheme:s", "VIR_DOMAIN_EVENT_ID_GRAPHICS"},
	{KIND_DOMAIN, "ControlError", "", "VIR_DOMAIN_EVENT_ID_CONTROL_ERROR"},
	{KIND_DOMAIN, "BlockJob", "disk:s type:s", "VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2"},
	{KIND_DOMAIN, "DiskChanged", "alias:s", "VIR_DOMAIN_EVENT_ID_DISK_CHANGE"},
	{KIND_DOMAIN, "TrayChanged", "alias:s", "VIR_DOMAIN_EVENT_ID_TRAY_CHANGE"},
	{KIND_DOMAIN, "BalloonChanged", "memory:t", "VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE"},
	{KIND_DOMAIN, "DeviceAdded", "alias:s", "VIR_DOMAIN_EVENT_ID_DEVICE_ADDED"},
	{KIND_DOMAIN, "DeviceRemoved", "alias:s", "VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED"},
	{KIND_DOMAIN, "DeviceRemovalFailed", "alias:s", "VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED"},
	{KIND_DOMAIN, "TunableChanged", "cputune.*:t|x|s blkdeviotune.*:t|s iothreads.*:u", "VIR_DOMAIN_EVENT_ID_TUNABLE"},
	{KIND_DOMAIN, "AgentChanged", "state:s", "VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE"},
	{KIND_DOMAIN, "MigrationIteration", "iteration:i", "VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION"},
	{KIND_DOMAIN, "JobCompleted",
	 "operation:s success:b time-elapsed:t downtime:t bytes-total:t bytes-done:t iterations:t",
	 "VIR_DOMAIN_EVENT_ID_JOB_COMPLETED"},
	{KIND_DOMAIN, "MetadataChanged", "uri:s", "VIR_DOMAIN_EVENT_ID_METADATA_CHANGE"},
	{KIND_DOMAIN, "BlockThreshold", "device:s threshold:t excess:t", "VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD"},
	{KIND_DOMAIN, "MemoryFailure", "recipient:s action-required:b recursive:b", "VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE"},
	{KIND_DOMAIN, "MemoryDeviceSizeChanged", "alias:s size:t", "VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE"},
	{KIND_POOL, "Refreshed", "", "VIR_STORAGE_POOL_EVENT_ID_REFRESH"},
	{KIND_POOL, "Built", "", "VIR_STORAGE_POOL_EVENT_CREATED"},
	{KIND_POOL, "Deleted", "", "VIR_STORAGE_POOL_EVENT_DELETED"},
	{0},
};

static const unsigned causes[KIND_MAX] = {
	[KIND_DOMAIN] = LV_DOMAIN_CAUSES,
	[KIND_POOL] = LV_POOL_CAUSES,
	[KIND_NETWORK] = LV_NETWORK_CAUSES,
};

/* ---- making a cause --------------------------------------------------------------------------------------- */

static struct lv_cause *cause_new(enum cause cause, const char *event, const char *reason)
{
	struct lv_cause *k = calloc(1, sizeof(*k));

	if (!k || (reason && !(k->reason = strdup(reason)))) {
		lv_cause_free(k);
		log_error("No memory for an event of libvirt's: it is lost.");
		return NULL;
	}
	k->cause = cause;
	k->event = event;
	return k;
}

static struct lv_cause *other_new(const char *event, const char *reason)
{
	struct lv_cause *k = cause_new(CAUSE_OTHER, event, reason);

	if (k && !(k->details = vdict_new())) {
		lv_cause_free(k);
		return NULL;
	}
	return k;
}

static sd_id128_t id_from(const unsigned char raw[VIR_UUID_BUFLEN])
{
	sd_id128_t uuid;

	static_assert(sizeof(uuid.bytes) == VIR_UUID_BUFLEN, "both are the 16 bytes");
	memcpy(uuid.bytes, raw, sizeof(uuid.bytes));
	return uuid;
}

static void domain_reported(struct driver_connection *c, virDomainPtr dom, struct lv_cause *k)
{
	unsigned char raw[VIR_UUID_BUFLEN];
	unsigned id;

	if (!k)
		return;
	if (virDomainGetUUID(dom, raw) < 0) {
		lv_cause_free(k);
		return;
	}
	id = virDomainGetID(dom);
	k->run = id == (unsigned)-1 ? 0 : (int)id;
	k->name = utf8_dup(virDomainGetName(dom));
	lv_cause_received(c, KIND_DOMAIN, id_from(raw), dom, k);
}

static void detail_s(struct lv_cause *k, const char *key, const char *value)
{
	if (k && value)
		vdict_set_s(k->details, key, value);
}

static void detail_t(struct lv_cause *k, const char *key, uint64_t value)
{
	if (k)
		vdict_set_t(k->details, key, value);
}

/* ---- domains ---------------------------------------------------------------------------------------------- */

static int on_lifecycle(virConnectPtr conn, virDomainPtr dom, int event, int detail, void *userdata)
{
	const struct lv_lifecycle *l = lv_lifecycle(KIND_DOMAIN, event);
	const char *reason = lv_word(&l->details, detail);
	enum cause cause = l->cause;

	/* libvirt calls waking up a start; but the run goes on. */
	if (cause == CAUSE_STARTED && detail == VIR_DOMAIN_EVENT_STARTED_WAKEUP)
		cause = CAUSE_RESUMED;
	domain_reported(userdata, dom, cause_new(cause, NULL, reason));
	if (cause == CAUSE_STOPPED)
		lv_job_domain_stopped(userdata, dom, detail);
	return 0;
}

static void on_reboot(virConnectPtr conn, virDomainPtr dom, void *userdata)
{
	domain_reported(userdata, dom, other_new("Rebooted", NULL));
}

static void on_control_error(virConnectPtr conn, virDomainPtr dom, void *userdata)
{
	domain_reported(userdata, dom, other_new("ControlError", NULL));
}

static void on_rtc_change(virConnectPtr conn, virDomainPtr dom, long long offset, void *userdata)
{
	struct lv_cause *k = other_new("RTCChanged", NULL);

	if (k)
		vdict_set_x(k->details, "offset", offset);
	domain_reported(userdata, dom, k);
}

static void on_watchdog(virConnectPtr conn, virDomainPtr dom, int action, void *userdata)
{
	domain_reported(userdata, dom, other_new("Watchdog", lv_word(&lv_watchdog_actions, action)));
}

static void on_io_error(virConnectPtr conn, virDomainPtr dom, const char *path, const char *alias, int action,
			const char *reason, void *userdata)
{
	struct lv_cause *k = other_new("IOError", reason && reason[0] ? reason : NULL);

	detail_s(k, "alias", alias);
	detail_s(k, "action", lv_word(&lv_io_error_actions, action));
	domain_reported(userdata, dom, k);
}

static void on_graphics(virConnectPtr conn, virDomainPtr dom, int phase, const virDomainEventGraphicsAddress *local,
			const virDomainEventGraphicsAddress *remote, const char *auth_scheme,
			const virDomainEventGraphicsSubject *subject, void *userdata)
{
	struct lv_cause *k = other_new("Graphics", lv_word(&lv_graphics_phases, phase));

	detail_s(k, "auth-scheme", auth_scheme);
	domain_reported(userdata, dom, k);
}

static void on_block_job(virConnectPtr conn, virDomainPtr dom, const char *disk, int type, int status, void *userdata)
{
	struct lv_cause *k = other_new("BlockJob", lv_word(&lv_block_job_statuses, status));

	detail_s(k, "disk", disk);
	detail_s(k, "type", lv_word(&lv_block_job_types, type));
	/* Behind the cause: a job that ends by this must post its result after the event. */
	domain_reported(userdata, dom, k);
	lv_job_block_event(userdata, dom, disk, type, status);
}

static void on_disk_change(virConnectPtr conn, virDomainPtr dom, const char *old_path, const char *new_path,
			   const char *alias, int reason, void *userdata)
{
	struct lv_cause *k = other_new("DiskChanged", lv_word(&lv_disk_change_reasons, reason));

	detail_s(k, "alias", alias);
	domain_reported(userdata, dom, k);
}

static void on_tray_change(virConnectPtr conn, virDomainPtr dom, const char *alias, int reason, void *userdata)
{
	struct lv_cause *k = other_new("TrayChanged", lv_word(&lv_tray_change_reasons, reason));

	detail_s(k, "alias", alias);
	domain_reported(userdata, dom, k);
}

static void on_balloon_change(virConnectPtr conn, virDomainPtr dom, unsigned long long actual, void *userdata)
{
	struct lv_cause *k = other_new("BalloonChanged", NULL);

	detail_t(k, "memory", actual * 1024);
	domain_reported(userdata, dom, k);
}

static void on_device(struct driver_connection *c, virDomainPtr dom, const char *event, const char *alias)
{
	struct lv_cause *k = other_new(event, NULL);

	detail_s(k, "alias", alias);
	domain_reported(c, dom, k);
}

static void on_device_added(virConnectPtr conn, virDomainPtr dom, const char *alias, void *userdata)
{
	on_device(userdata, dom, "DeviceAdded", alias);
}

static void on_device_removed(virConnectPtr conn, virDomainPtr dom, const char *alias, void *userdata)
{
	on_device(userdata, dom, "DeviceRemoved", alias);
}

static void on_device_removal_failed(virConnectPtr conn, virDomainPtr dom, const char *alias, void *userdata)
{
	on_device(userdata, dom, "DeviceRemovalFailed", alias);
}

static void on_tunable(virConnectPtr conn, virDomainPtr dom, virTypedParameterPtr params, int n, void *userdata)
{
	struct lv_cause *k = other_new("TunableChanged", NULL);

	for (int i = 0; k && i < n; i++) {
		_cleanup_(freep) char *key = utf8_dupn(params[i].field, strnlen(params[i].field, VIR_TYPED_PARAM_FIELD_LENGTH));

		if (!key)
			continue;
		switch (params[i].type) {
		case VIR_TYPED_PARAM_INT:
			vdict_set_i(k->details, key, params[i].value.i);
			break;
		case VIR_TYPED_PARAM_UINT:
			vdict_set_u(k->details, key, params[i].value.ui);
			break;
		case VIR_TYPED_PARAM_LLONG:
			vdict_set_x(k->details, key, params[i].value.l);
			break;
		case VIR_TYPED_PARAM_ULLONG:
			vdict_set_t(k->details, key, params[i].value.ul);
			break;
		case VIR_TYPED_PARAM_DOUBLE:
			vdict_set_d(k->details, key, params[i].value.d);
			break;
		case VIR_TYPED_PARAM_BOOLEAN:
			vdict_set_b(k->details, key, params[i].value.b);
			break;
		case VIR_TYPED_PARAM_STRING:
			detail_s(k, key, params[i].value.s);
			break;
		}
	}
	domain_reported(userdata, dom, k);
}

static void on_agent(virConnectPtr conn, virDomainPtr dom, int state, int reason, void *userdata)
{
	struct lv_cause *k = other_new("AgentChanged", lv_word(&lv_agent_reasons, reason));

	detail_s(k, "state", lv_word(&lv_agent_states, state));
	domain_reported(userdata, dom, k);
}

static void on_migration_iteration(virConnectPtr conn, virDomainPtr dom, int iteration, void *userdata)
{
	struct lv_cause *k = other_new("MigrationIteration", NULL);

	if (k)
		vdict_set_i(k->details, "iteration", iteration);
	domain_reported(userdata, dom, k);
	lv_job_iteration(userdata, dom, iteration);
}

static void on_job_completed(virConnectPtr conn, virDomainPtr dom, virTypedParameterPtr params, int n, void *userdata)
{
	static const struct {
		const char *from, *key;
		unsigned factor;
	} numbers[] = {
		{VIR_DOMAIN_JOB_TIME_ELAPSED, "time-elapsed", 1000},
		{VIR_DOMAIN_JOB_DOWNTIME, "downtime", 1000},
		{VIR_DOMAIN_JOB_DATA_TOTAL, "bytes-total", 1},
		{VIR_DOMAIN_JOB_DATA_PROCESSED, "bytes-done", 1},
		{VIR_DOMAIN_JOB_MEMORY_ITERATION, "iterations", 1},
	};
	struct lv_cause *k = other_new("JobCompleted", NULL);
	unsigned long long v;
	bool success = true; /* as long as libvirt reports those only */
	int i;

	if (!k)
		return;
	if (virTypedParamsGetInt(params, n, VIR_DOMAIN_JOB_OPERATION, &i) == 1)
		detail_s(k, "operation", lv_word(&lv_job_operations, i));
	if (virTypedParamsGetBoolean(params, n, VIR_DOMAIN_JOB_SUCCESS, &i) == 1) {
		success = i != 0;
		vdict_set_b(k->details, "success", success);
	}
	for (size_t j = 0; j < ELEMENTS(numbers); j++)
		if (virTypedParamsGetULLong(params, n, numbers[j].from, &v) == 1)
			detail_t(k, numbers[j].key, v * numbers[j].factor);
	domain_reported(userdata, dom, k);
	lv_job_completed(userdata, dom, success);
}

static void on_metadata(virConnectPtr conn, virDomainPtr dom, int type, const char *uri, void *userdata)
{
	struct lv_cause *k = other_new("MetadataChanged", lv_word(&lv_metadata_types, type));

	if (type == VIR_DOMAIN_METADATA_ELEMENT)
		detail_s(k, "uri", uri);
	domain_reported(userdata, dom, k);
}

static void on_block_threshold(virConnectPtr conn, virDomainPtr dom, const char *device, const char *path,
			       unsigned long long threshold, unsigned long long excess, void *userdata)
{
	struct lv_cause *k = other_new("BlockThreshold", NULL);

	detail_s(k, "device", device);
	detail_t(k, "threshold", threshold);
	detail_t(k, "excess", excess);
	domain_reported(userdata, dom, k);
}

static void on_memory_failure(virConnectPtr conn, virDomainPtr dom, int recipient, int action, unsigned flags,
			      void *userdata)
{
	struct lv_cause *k = other_new("MemoryFailure", lv_word(&lv_memory_failure_actions, action));

	detail_s(k, "recipient", lv_word(&lv_memory_failure_recipients, recipient));
	if (k) {
		vdict_set_b(k->details, "action-required", flags & VIR_DOMAIN_MEMORY_FAILURE_ACTION_REQUIRED);
		vdict_set_b(k->details, "recursive", flags & VIR_DOMAIN_MEMORY_FAILURE_RECURSIVE);
	}
	domain_reported(userdata, dom, k);
}

static void on_memory_device_size(virConnectPtr conn, virDomainPtr dom, const char *alias, unsigned long long size,
				  void *userdata)
{
	struct lv_cause *k = other_new("MemoryDeviceSizeChanged", NULL);

	detail_s(k, "alias", alias);
	detail_t(k, "size", size * 1024);
	domain_reported(userdata, dom, k);
}

/* Its name is that of its own event; the lifecycle has many. */
static const struct {
	virConnectDomainEventGenericCallback callback;
	const char *name;
} domain_table[VIR_DOMAIN_EVENT_ID_LAST] = {
	[VIR_DOMAIN_EVENT_ID_LIFECYCLE] = {VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), NULL},
	[VIR_DOMAIN_EVENT_ID_REBOOT] = {on_reboot, "Rebooted"},
	[VIR_DOMAIN_EVENT_ID_RTC_CHANGE] = {VIR_DOMAIN_EVENT_CALLBACK(on_rtc_change), "RTCChanged"},
	[VIR_DOMAIN_EVENT_ID_WATCHDOG] = {VIR_DOMAIN_EVENT_CALLBACK(on_watchdog), "Watchdog"},
	[VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON] = {VIR_DOMAIN_EVENT_CALLBACK(on_io_error), "IOError"},
	[VIR_DOMAIN_EVENT_ID_GRAPHICS] = {VIR_DOMAIN_EVENT_CALLBACK(on_graphics), "Graphics"},
	[VIR_DOMAIN_EVENT_ID_CONTROL_ERROR] = {on_control_error, "ControlError"},
	[VIR_DOMAIN_EVENT_ID_DISK_CHANGE] = {VIR_DOMAIN_EVENT_CALLBACK(on_disk_change), "DiskChanged"},
	[VIR_DOMAIN_EVENT_ID_TRAY_CHANGE] = {VIR_DOMAIN_EVENT_CALLBACK(on_tray_change), "TrayChanged"},
	[VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE] = {VIR_DOMAIN_EVENT_CALLBACK(on_balloon_change), "BalloonChanged"},
	[VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED] = {VIR_DOMAIN_EVENT_CALLBACK(on_device_removed), "DeviceRemoved"},
	[VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2] = {VIR_DOMAIN_EVENT_CALLBACK(on_block_job), "BlockJob"},
	[VIR_DOMAIN_EVENT_ID_TUNABLE] = {VIR_DOMAIN_EVENT_CALLBACK(on_tunable), "TunableChanged"},
	[VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE] = {VIR_DOMAIN_EVENT_CALLBACK(on_agent), "AgentChanged"},
	[VIR_DOMAIN_EVENT_ID_DEVICE_ADDED] = {VIR_DOMAIN_EVENT_CALLBACK(on_device_added), "DeviceAdded"},
	[VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION] = {VIR_DOMAIN_EVENT_CALLBACK(on_migration_iteration),
		"MigrationIteration"},
	[VIR_DOMAIN_EVENT_ID_JOB_COMPLETED] = {VIR_DOMAIN_EVENT_CALLBACK(on_job_completed), "JobCompleted"},
	[VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED] = {VIR_DOMAIN_EVENT_CALLBACK(on_device_removal_failed),
		"DeviceRemovalFailed"},
	[VIR_DOMAIN_EVENT_ID_METADATA_CHANGE] = {VIR_DOMAIN_EVENT_CALLBACK(on_metadata), "MetadataChanged"},
	[VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD] = {VIR_DOMAIN_EVENT_CALLBACK(on_block_threshold), "BlockThreshold"},
	[VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE] = {VIR_DOMAIN_EVENT_CALLBACK(on_memory_failure), "MemoryFailure"},
	[VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE] = {VIR_DOMAIN_EVENT_CALLBACK(on_memory_device_size),
		"MemoryDeviceSizeChanged"},
};

/* ---- pools and networks ----------------------------------------------------------------------------------- */

static void pool_reported(struct driver_connection *c, virStoragePoolPtr pool, struct lv_cause *k)
{
	unsigned char raw[VIR_UUID_BUFLEN];

	if (!k)
		return;
	if (virStoragePoolGetUUID(pool, raw) < 0) {
		lv_cause_free(k);
		return;
	}
	k->name = utf8_dup(virStoragePoolGetName(pool));
	lv_cause_received(c, KIND_POOL, id_from(raw), pool, k);
}

static void on_pool_lifecycle(virConnectPtr conn, virStoragePoolPtr pool, int event, int detail, void *userdata)
{
	const struct lv_lifecycle *l = lv_lifecycle(KIND_POOL, event);

	pool_reported(userdata, pool, cause_new(l->cause, l->event, NULL));
}

static void on_pool_refresh(virConnectPtr conn, virStoragePoolPtr pool, void *userdata)
{
	pool_reported(userdata, pool, cause_new(CAUSE_OTHER, "Refreshed", NULL));
}

static void on_network_lifecycle(virConnectPtr conn, virNetworkPtr network, int event, int detail, void *userdata)
{
	unsigned char raw[VIR_UUID_BUFLEN];
	struct lv_cause *k = cause_new(lv_lifecycle(KIND_NETWORK, event)->cause, NULL, NULL);

	if (!k)
		return;
	if (virNetworkGetUUID(network, raw) < 0) {
		lv_cause_free(k);
		return;
	}
	k->name = utf8_dup(virNetworkGetName(network));
	lv_cause_received(userdata, KIND_NETWORK, id_from(raw), network, k);
}

/* ---- registering ------------------------------------------------------------------------------------------ */

/* A callback that libvirt accepted holds a reference; one that it refused holds none. */
static int accepted(struct driver_connection *c, int id)
{
	if (id < 0)
		lv_unref(c);
	return id;
}

static int register_domain(struct driver_connection *c, int id)
{
	lv_ref(c);
	return accepted(c, virConnectDomainEventRegisterAny(c->events, NULL, id, domain_table[id].callback, c, lv_release));
}

static int register_pool(struct driver_connection *c, int id, virConnectStoragePoolEventGenericCallback callback)
{
	lv_ref(c);
	return accepted(c, virConnectStoragePoolEventRegisterAny(c->events, NULL, id, callback, c, lv_release));
}

static int register_network(struct driver_connection *c, int id, virConnectNetworkEventGenericCallback callback)
{
	lv_ref(c);
	return accepted(c, virConnectNetworkEventRegisterAny(c->events, NULL, id, callback, c, lv_release));
}

static void forget_ids(int *ids, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = -1;
}

void lv_events_register(struct driver_connection *c)
{
	forget_ids(c->domain_ids, ELEMENTS(c->domain_ids));
	forget_ids(c->pool_ids, ELEMENTS(c->pool_ids));
	forget_ids(c->network_ids, ELEMENTS(c->network_ids));
	c->has_kind[KIND_DOMAIN] = virConnectNumOfDomains(c->events) >= 0 || !lv_error_is_unsupported();
	c->has_kind[KIND_POOL] = virConnectNumOfStoragePools(c->events) >= 0 || !lv_error_is_unsupported();
	c->has_kind[KIND_NETWORK] = virConnectNumOfNetworks(c->events) >= 0 || !lv_error_is_unsupported();
	for (int id = 0; id < VIR_DOMAIN_EVENT_ID_LAST && c->has_kind[KIND_DOMAIN]; id++) {
		if (!domain_table[id].callback)
			continue;
		c->domain_ids[id] = register_domain(c, id);
		if (c->domain_ids[id] < 0)
			log_debug("libvirt connection has no domain event %d: %s", id, virGetLastErrorMessage());
	}
	if (c->has_kind[KIND_POOL]) {
		c->pool_ids[VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE] = register_pool(
			c, VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, VIR_STORAGE_POOL_EVENT_CALLBACK(on_pool_lifecycle));
		c->pool_ids[VIR_STORAGE_POOL_EVENT_ID_REFRESH] =
			register_pool(c, VIR_STORAGE_POOL_EVENT_ID_REFRESH, on_pool_refresh);
	}
	if (c->has_kind[KIND_NETWORK])
		c->network_ids[VIR_NETWORK_EVENT_ID_LIFECYCLE] = register_network(
			c, VIR_NETWORK_EVENT_ID_LIFECYCLE, VIR_NETWORK_EVENT_CALLBACK(on_network_lifecycle));
	c->reports_kind[KIND_DOMAIN] = c->domain_ids[VIR_DOMAIN_EVENT_ID_LIFECYCLE] >= 0;
	c->reports_kind[KIND_POOL] = c->pool_ids[VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE] >= 0;
	c->reports_kind[KIND_NETWORK] = c->network_ids[VIR_NETWORK_EVENT_ID_LIFECYCLE] >= 0;
}

void lv_events_deregister(struct driver_connection *c)
{
	for (int id = 0; id < VIR_DOMAIN_EVENT_ID_LAST; id++)
		if (c->domain_ids[id] >= 0)
			virConnectDomainEventDeregisterAny(c->events, c->domain_ids[id]);
	for (int id = 0; id < VIR_STORAGE_POOL_EVENT_ID_LAST; id++)
		if (c->pool_ids[id] >= 0)
			virConnectStoragePoolEventDeregisterAny(c->events, c->pool_ids[id]);
	for (int id = 0; id < VIR_NETWORK_EVENT_ID_LAST; id++)
		if (c->network_ids[id] >= 0)
			virConnectNetworkEventDeregisterAny(c->events, c->network_ids[id]);
}

static const char *const interfaces[KIND_MAX] = {
	[KIND_DOMAIN] = "Domain",
	[KIND_POOL] = "StoragePool",
	[KIND_NETWORK] = "Network",
};

static bool is_reported(const struct driver_connection *c, const struct event_def *e)
{
	if (e->kind == KIND_POOL)
		return strcmp(e->name, "Refreshed") == 0 ? c->pool_ids[VIR_STORAGE_POOL_EVENT_ID_REFRESH] >= 0 :
							   c->reports_kind[KIND_POOL];
	for (int id = 0; id < VIR_DOMAIN_EVENT_ID_LAST; id++)
		if (domain_table[id].name && strcmp(domain_table[id].name, e->name) == 0)
			return c->domain_ids[id] >= 0;
	return false;
}

char **lv_events_supported(const struct driver_connection *c)
{
	size_t n = 0;
	char **names = calloc(KIND_MAX * CAUSE_MAX + ELEMENTS(lv_events) + 1, sizeof(*names));

	if (!names)
		return NULL;
	for (enum kind kind = 0; kind < KIND_MAX; kind++)
		for (enum cause cause = CAUSE_NONE + 1; cause < CAUSE_OTHER; cause++) {
			if (!c->reports_kind[kind] || !(causes[kind] & LV_BIT(cause)))
				continue;
			if (asprintf(&names[n++], "%s.%s", interfaces[kind], cause_to_string(cause)) < 0)
				goto fail;
		}
	for (const struct event_def *e = lv_events; e->name; e++)
		if (is_reported(c, e) && asprintf(&names[n++], "%s.%s", interfaces[e->kind], e->name) < 0)
			goto fail;
	qsort(names, n, sizeof(*names), lv_compare_names);
	return names;

fail:
	names[n - 1] = NULL;
	while (n > 0)
		free(names[--n]);
	free(names);
	return NULL;
}
