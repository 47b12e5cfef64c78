/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fake-driver.h"

#include <stdio.h>
#include <string.h>

struct driver_connection *fake;
unsigned fake_opens;

static enum claim claim(const char *uri, char **ret_why)
{
	return strncmp(uri, "fake:", 5) == 0 ? CLAIM_MINE : CLAIM_NOT_MINE;
}

static int open_fake(const char *uri, struct driver_host *host, struct driver_connection **ret, struct failure *f)
{
	struct driver_connection *c = calloc(1, sizeof(*c));

	c->host = driver_host_ref(host);
	c->uri = strdup(uri);
	fake = *ret = c;
	fake_opens++;
	return 0;
}

static void close_fake(struct driver_connection *c)
{
	if (fake == c)
		fake = NULL;
	driver_host_unref(c->host);
	request_free(c->request);
	free(c->uri);
	free(c);
}

static void list(struct driver_connection *c, uint64_t serial)
{
	c->list_serial = serial;
	c->lists++;
}

static void look(struct driver_connection *c, enum kind kind, sd_id128_t uuid, uint64_t serial)
{
	c->look.kind = kind;
	c->look.uuid = uuid;
	c->look.serial = serial;
	c->looks++;
}

static void operate(struct driver_connection *c, struct request *r)
{
	request_free(c->request);
	c->request = r;
}

static void cancel(struct driver_connection *c, uint64_t token)
{
	c->cancelled = token;
}

static void complete(struct driver_connection *c, uint64_t token)
{
	c->completed = token;
}

static const char *const uris[] = {"fake:///name", NULL};
static const enum operation operations[] = {OP_DOMAIN_START, OP_DOMAIN_SHUTDOWN, OP_DOMAIN_DESTROY, OP_DEFINE_DOMAIN,
					    OP_DOMAIN_BLOCK_COPY, OP_DOMAIN_MIGRATE, OP_DOMAIN_SUSPEND, OP_DOMAIN_SAVE,
					    OP_DOMAIN_GET_XML, OP_DOMAIN_REBOOT, OP_DOMAIN_SET_MEMORY, OP_DOMAIN_DETACH_DEVICE,
					    OP_NONE};
static const struct event_def events[] = {{KIND_DOMAIN, "Rebooted", "", "test"}, {0}};

struct driver fake_driver = {
	.api = DRIVER_API,
	.name = "fake",
	.summary = "for tests of the broker",
	.uris = uris,
	.events = events,
	.operations = operations,
	.causes = {[KIND_DOMAIN] = 1u << CAUSE_STARTED},
	.started_overdue = 3 * USEC_PER_SEC,
	.claim = claim,
	.open = open_fake,
	.close = close_fake,
	.list = list,
	.look = look,
	.operate = operate,
	.cancel = cancel,
	.complete = complete,
};

static char **strings(const char *const *s)
{
	size_t n = 0;
	char **copy;

	while (s[n])
		n++;
	copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = strdup(s[i]);
	return copy;
}

void fake_hello(void)
{
	struct report *r = report_new(REPORT_HELLO);
	static const char *const supported[] = {"Domain.Started", NULL};
	static const char *const can[] = {"Domain.Start", "Domain.Shutdown", "Domain.Destroy", "Connection.DefineDomain",
					  "Domain.BlockCopy", "Domain.Migrate", "Domain.Suspend", "Domain.Save",
					  "Domain.GetXML", "Domain.Reboot", "Domain.SetMemory", "Domain.DetachDevice", NULL};

	r->hello.hostname = strdup("host");
	r->hello.version = strdup("1.2.3");
	r->hello.events = strings(supported);
	r->hello.operations = strings(can);
	driver_host_post(fake->host, r);
}

void fake_goodbye(const char *why)
{
	struct report *r = report_new(REPORT_GOODBYE);

	r->goodbye.error = strdup(why);
	driver_host_post(fake->host, r);
}

struct seen *fake_seen(const char *name, bool persistent, int id)
{
	struct seen *s = seen_new();
	char xml[200];

	s->name = strdup(name);
	s->persistent = persistent;
	s->active = id > 0;
	s->id = id > 0 ? id : -1;
	s->state = id > 0 ? DOMAIN_RUNNING : DOMAIN_SHUTOFF;
	s->state_reason = strdup(id > 0 ? "booted" : "unknown");
	s->title = strdup("");
	s->description = strdup("");
	s->os_type = strdup("hvm");
	s->max_memory = s->memory = 1 << 25;
	s->vcpus = 1;
	snprintf(xml, sizeof(xml), "<domain><name>%s</name></domain>", name);
	s->xml = strdup(xml);
	return s;
}

void fake_report(const char *uuid, enum cause cause, const char *reason, int run, enum look how, bool settled,
		 uint64_t listing, struct seen *seen)
{
	struct report *r = report_new(REPORT_OBSERVATION);
	struct observation *o = &r->observation;

	o->kind = KIND_DOMAIN;
	sd_id128_from_string(uuid, &o->uuid);
	o->cause = cause;
	o->reason = reason ? strdup(reason) : NULL;
	o->run = run;
	o->look = how;
	o->settled = settled;
	o->listing = listing;
	o->seen = seen;
	driver_host_post(fake->host, r);
}

void fake_other(const char *uuid, const char *event, enum look how, struct seen *seen)
{
	struct report *r = report_new(REPORT_OBSERVATION);
	struct observation *o = &r->observation;

	o->kind = KIND_DOMAIN;
	sd_id128_from_string(uuid, &o->uuid);
	o->cause = CAUSE_OTHER;
	o->event = strdup(event);
	o->look = how;
	o->seen = seen;
	driver_host_post(fake->host, r);
}

void fake_listed(bool complete)
{
	struct report *r = report_new(REPORT_LISTED);

	r->listed.serial = fake->list_serial;
	for (int k = 0; k < KIND_MAX; k++)
		r->listed.complete[k] = complete;
	driver_host_post(fake->host, r);
}

void fake_result(uint64_t token, enum vireo_error error, const char *message)
{
	struct report *r = report_new(REPORT_RESULT);

	r->result.token = token;
	if (error)
		failure_set(&r->result.failure, error, "%s", message);
	driver_host_post(fake->host, r);
}

void fake_foreign(uint64_t number, const char *uuid, enum operation op, const char *subject, bool ended,
		  enum vireo_error error)
{
	struct report *r = report_new(REPORT_FOREIGN);

	r->foreign.token = number | FOREIGN_TOKEN;
	r->foreign.kind = KIND_DOMAIN;
	sd_id128_from_string(uuid, &r->foreign.uuid);
	r->foreign.operation = op;
	r->foreign.subject = subject ? strdup(subject) : NULL;
	r->foreign.cancellable = true;
	r->foreign.ended = ended;
	if (error)
		failure_set(&r->foreign.failure, error, "said so");
	driver_host_post(fake->host, r);
}

void fake_progress(uint64_t token, uint64_t done, uint64_t total, bool ready)
{
	struct report *r = report_new(REPORT_PROGRESS);

	r->progress.token = token;
	r->progress.done = done;
	r->progress.total = total;
	r->progress.remaining = USEC_UNKNOWN;
	r->progress.percent = -1;
	r->progress.ready = ready;
	r->progress.cancellable = true;
	driver_host_post(fake->host, r);
}
