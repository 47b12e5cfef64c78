/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include <libxml/parser.h>

#include "remote.h"
#include "sim-driver.h"
#include "uri.h"

/* The driver's table, and its callbacks: main loop's thread, none of them waits. */

struct driver_connection {
	struct sim_session *session; /* in this process; or */
	struct sim_remote *remote;   /* at a vireo-sim */
};

static enum claim sim_claim(const char *uri, char **ret_why)
{
	struct failure f = {};
	struct sim_uri u = {};

	if (strncmp(uri, "sim:", 4) != 0)
		return CLAIM_NOT_MINE;
	if (sim_uri_parse(uri, &u, &f) != 0) {
		*ret_why = TAKE(f.message);
		failure_clear(&f);
		return CLAIM_BROKEN;
	}
	sim_uri_done(&u);
	return CLAIM_MINE;
}

static void post(void *userdata, struct report *r)
{
	driver_host_post(userdata, r);
}

static void release(void *userdata)
{
	driver_host_unref(userdata);
}

static int sim_open(const char *uri, struct driver_host *host, struct driver_connection **ret, struct failure *f)
{
	struct driver_connection *c;
	struct sim_uri u = {};
	int r;

	/* once, and before there are threads */
	xmlInitParser();
	r = sim_uri_parse(uri, &u, f);
	if (r != 0)
		return r;
	c = sim_new(struct driver_connection);
	if (sim_uri_is_socket(&u)) {
		r = sim_remote_new(u.path, post, release, driver_host_ref(host), &c->remote);
	} else {
		struct sim_world *w = NULL;

		r = sim_uri_world(uri, &u, &w, f);
		if (r == 0)
			r = sim_session_new(w, post, release, driver_host_ref(host), &c->session);
	}
	sim_uri_done(&u);
	if (r != 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static void sim_close(struct driver_connection *c)
{
	if (c->remote)
		sim_remote_close(c->remote);
	else
		sim_session_close(c->session);
	free(c);
}

static void sim_list(struct driver_connection *c, uint64_t serial)
{
	if (c->remote)
		sim_remote_list(c->remote, serial);
	else
		sim_session_list(c->session, serial);
}

static void sim_look(struct driver_connection *c, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
	if (c->remote)
		sim_remote_look(c->remote, kind, uuid, serial);
	else
		sim_session_look(c->session, kind, uuid, serial);
}

static void sim_operate_request(struct driver_connection *c, struct request *r)
{
	if (c->remote)
		sim_remote_operate(c->remote, r);
	else
		sim_session_operate(c->session, r);
}

static void sim_cancel(struct driver_connection *c, uint64_t token)
{
	if (c->remote)
		sim_remote_cancel(c->remote, token);
	else
		sim_session_cancel(c->session, token);
}

static void sim_complete(struct driver_connection *c, uint64_t token)
{
	if (c->remote)
		sim_remote_complete(c->remote, token);
	else
		sim_session_complete(c->session, token);
}

static const char *const uris[] = {
	"sim:///demo",
	"sim:///empty?domains=10000&pools=5",
	"sim:/path/scenario.json",
	"sim:/path/socket-of-vireo-sim",
	NULL,
};

static const struct event_def events[] = {
	{KIND_DOMAIN, "Rebooted", NULL, "step reboot, reset"},
	{KIND_DOMAIN, "RTCChanged", "offset:x", "step event"},
	{KIND_DOMAIN, "Watchdog", NULL, "step event"},
	{KIND_DOMAIN, "IOError", "alias:s action:s", "step io-error"},
	{KIND_DOMAIN, "Graphics", "auth-scheme:s", "step event"},
	{KIND_DOMAIN, "ControlError", NULL, "step event"},
	{KIND_DOMAIN, "BlockJob", "disk:s type:s", "BlockPull, BlockCommit, BlockCopy"},
	{KIND_DOMAIN, "DiskChanged", "alias:s", "step event"},
	{KIND_DOMAIN, "TrayChanged", "alias:s", "step event"},
	{KIND_DOMAIN, "BalloonChanged", "memory:t", "SetMemory"},
	{KIND_DOMAIN, "DeviceAdded", "alias:s", "AttachDevice"},
	{KIND_DOMAIN, "DeviceRemoved", "alias:s", "DetachDevice, step unplug"},
	{KIND_DOMAIN, "DeviceRemovalFailed", "alias:s", "step event"},
	{KIND_DOMAIN, "MigrationIteration", "iteration:i", "Migrate"},
	{KIND_DOMAIN, "JobCompleted", "operation:s success:b time-elapsed:t bytes-total:t bytes-done:t",
	 "Save, ManagedSave, Dump, Migrate"},
	{KIND_DOMAIN, "AgentChanged", "state:s", "step event"},
	{KIND_DOMAIN, "MetadataChanged", NULL, "step retitle"},
	{KIND_DOMAIN, "BlockThreshold", "device:s threshold:t excess:t", "step event"},
	{KIND_POOL, "Refreshed", NULL, "step refresh"},
	{KIND_POOL, "Built", NULL, "step build"},
	{KIND_POOL, "Deleted", NULL, "step delete"},
	{},
};

#define CAUSE(c) (1u << CAUSE_##c)

const struct driver sim_driver = {
	.api = DRIVER_API,
	.name = "sim",
	.summary = "a simulated hypervisor, for tests and demonstrations",
	.uris = uris,
	.events = events,
	.every_operation = true,
	.causes =
		{
			[KIND_DOMAIN] = CAUSE(DEFINED) | CAUSE(UNDEFINED) | CAUSE(STARTED) | CAUSE(SUSPENDED) |
					CAUSE(RESUMED) | CAUSE(PMSUSPENDED) | CAUSE(CRASHED) | CAUSE(SHUTDOWN) |
					CAUSE(STOPPED) | CAUSE(OTHER),
			[KIND_POOL] = CAUSE(DEFINED) | CAUSE(UNDEFINED) | CAUSE(STARTED) | CAUSE(STOPPED) | CAUSE(OTHER),
			[KIND_NETWORK] = CAUSE(DEFINED) | CAUSE(UNDEFINED) | CAUSE(STARTED) | CAUSE(STOPPED),
		},
	/* As libvirt's, in small: its reports are made in one go. */
	.started_overdue = 20 * USEC_PER_MSEC,
	.claim = sim_claim,
	.open = sim_open,
	.close = sim_close,
	.list = sim_list,
	.look = sim_look,
	.operate = sim_operate_request,
	.cancel = sim_cancel,
	.complete = sim_complete,
};
