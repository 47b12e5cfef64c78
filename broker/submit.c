/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "internal.h"

#include <errno.h>
#include <inttypes.h>
#include <libxml/parser.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

/*
 * Calls that ask something of a hypervisor: what they have to pass, and how a job begins. Queries, which only read, make none.
 */

/* ---- what a call has to pass --------------------------------------------------------------------------------------- */

static void ignore_xml_error(void *userdata, const char *format, ...)
{
}

/* The UUID that the XML gives to what it describes; SD_ID128_NULL: none. */
static sd_id128_t uuid_in(xmlDocPtr doc)
{
	sd_id128_t uuid = SD_ID128_NULL;

	for (xmlNodePtr n = xmlFirstElementChild(xmlDocGetRootElement(doc)); n; n = xmlNextElementSibling(n)) {
		xmlChar *text;
		char word[40];

		if (!xmlStrEqual(n->name, BAD_CAST "uuid"))
			continue;
		text = xmlNodeGetContent(n);
		if (text && sscanf((const char *)text, " %39s", word) == 1 && sd_id128_from_string(word, &uuid) < 0)
			uuid = SD_ID128_NULL;
		xmlFree(text);
		break;
	}
	return uuid;
}

/* Is it XML at all? Where it isn't, libxml2 knows the line and the column. Whether it says anything sensible, the driver knows. */
static int check_xml(const char *xml, sd_id128_t *ret_uuid, struct failure *f)
{
	_cleanup_(freep) char *message = NULL;
	xmlParserCtxtPtr ctx = xmlNewParserCtxt();
	const xmlError *e;
	xmlDocPtr doc;
	int r = 0;

	if (!ctx)
		return -ENOMEM;
	xmlSetGenericErrorFunc(NULL, ignore_xml_error);
	doc = xmlCtxtReadMemory(ctx, xml, (int)strlen(xml), NULL, NULL,
				XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (!doc) {
		e = xmlCtxtGetLastError(ctx);
		message = e && e->message ? strdup(e->message) : NULL;
		if (message)
			message[strcspn(message, "\n")] = 0;
		r = failure_set(f, VIREO_INVALID_XML, "line %d, column %d: %s", e ? e->line : 0, e ? e->int2 : 0,
				message ? message : "not well-formed");
	} else if (doc->intSubset)
		r = failure_set(f, VIREO_INVALID_XML, "A document type declaration is not allowed");
	else
		*ret_uuid = uuid_in(doc);
	xmlFreeDoc(doc);
	xmlFreeParserCtxt(ctx);
	return r;
}

static bool takes_xml(enum operation op)
{
	switch (op) {
	case OP_DEFINE_DOMAIN:
	case OP_CREATE_DOMAIN:
	case OP_DEFINE_POOL:
	case OP_CREATE_POOL:
	case OP_DEFINE_NETWORK:
	case OP_CREATE_NETWORK:
	case OP_DOMAIN_ATTACH_DEVICE:
	case OP_DOMAIN_DETACH_DEVICE:
	case OP_DOMAIN_UPDATE_DEVICE:
	case OP_POOL_CREATE_VOLUME:
		return true;
	default:
		return false;
	}
}

static const char *xml_of(const struct call *call)
{
	if (call->operation == OP_RESTORE_DOMAIN)
		return vdict_s(call->options, "xml", NULL);
	return takes_xml(call->operation) ? call->text ? call->text : "" : NULL;
}

/* What a call to a connection brings into being. */
static enum kind kind_made(enum operation op)
{
	switch (op) {
	case OP_DEFINE_POOL:
	case OP_CREATE_POOL:
		return KIND_POOL;
	case OP_DEFINE_NETWORK:
	case OP_CREATE_NETWORK:
		return KIND_NETWORK;
	default:
		return KIND_DOMAIN;
	}
}

/* "if-version" is about the object that is changed: of a connection's methods the one that bears the UUID already, if any. */
static int check_version(const struct call *call, sd_id128_t uuid, struct failure *f)
{
	const struct object *o = call->object;

	if (!call->has_if_version)
		return 0;
	if (o->kind == KIND_CONNECTION) {
		enum kind kind = kind_made(call->operation);
		struct object *found = NULL;

		if (call->operation == OP_RESTORE_DOMAIN && !xml_of(call))
			return failure_set(f, VIREO_INVALID_OPTION,
					   "“if-version” needs “xml” here: which domain is in the file only the hypervisor reads");
		HASH_FIND(by_uuid, o->connection->by_uuid[kind], &uuid, sizeof(uuid), found);
		if (!found && call->if_version != 0)
			return failure_set(f, VIREO_VERSION_MISMATCH, "there is no %s yet with the UUID that the XML gives",
					   kind_to_string(kind));
		if (!found)
			return 0;
		o = found;
	}
	if (call->if_version == o->version)
		return 0;
	return failure_set(f, VIREO_VERSION_MISMATCH, "%s is at version %" PRIu64 ", not at %" PRIu64, object_title(o), o->version,
			   call->if_version);
}

/* The connection names what it supports; "Domain.Start". */
static bool supported(const struct connection *c, const struct operation_def *def)
{
	_cleanup_(freep) char *name = NULL;

	if (!c->driver->operate || asprintf(&name, "%s.%s", def->interface, def->method) < 0)
		return false;
	for (char **s = c->object->props->v[CONNECTION_SUPPORTED_OPERATIONS].as; *s; s++)
		if (strcmp(*s, name) == 0)
			return true;
	return false;
}

/* What every operation has to pass. */
static int check(const struct call *call, struct failure *f)
{
	const struct operation_def *def = &operation_table[call->operation];
	const struct object *o = call->object;
	const struct connection *c = o->connection;

	if (!c || c->link != LINK_UP)
		return failure_set(f, VIREO_DISCONNECTED, "%s is not connected: its hypervisor cannot be asked now",
				   c ? c->object->path : o->path);
	if (!supported(c, def))
		return failure_set(f, VIREO_NOT_SUPPORTED, "%s of %s is not supported by %s", def->method, def->interface,
				   c->object->props->v[CONNECTION_URI].s);
	return 0;
}

static struct request *make_request(struct broker *b, const struct call *call)
{
	_cleanup_(request_freep) struct request *r = calloc(1, sizeof(*r));
	const struct object *o = call->object;

	if (!r)
		return NULL;
	r->fd = -1;
	r->token = b->next_token++;
	r->operation = call->operation;
	r->kind = o->kind;
	r->uuid = o->kind == KIND_CONNECTION ? SD_ID128_NULL : o->uuid;
	r->name = strdup(object_title(o));
	r->text = call->text ? strdup(call->text) : NULL;
	r->text2 = call->text2 ? strdup(call->text2) : NULL;
	r->number = call->number;
	r->flag = call->flag;
	r->options = call->options ? vdict_copy(call->options) : vdict_new();
	if (!r->name || (call->text && !r->text) || (call->text2 && !r->text2) || !r->options)
		return NULL;
	return TAKE(r);
}

static bool is_block_job(enum operation op)
{
	return op == OP_DOMAIN_BLOCK_PULL || op == OP_DOMAIN_BLOCK_COMMIT || op == OP_DOMAIN_BLOCK_COPY;
}

static bool is_volume_job(enum operation op)
{
	switch (op) {
	case OP_POOL_CREATE_VOLUME:
	case OP_POOL_CLONE_VOLUME:
	case OP_POOL_RESIZE_VOLUME:
	case OP_POOL_WIPE_VOLUME:
	case OP_POOL_DELETE_VOLUME:
	case OP_POOL_UPLOAD_VOLUME:
	case OP_POOL_DOWNLOAD_VOLUME:
		return true;
	default:
		return false;
	}
}

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/*
 * Does the running job keep this call out? No stricter than the hypervisor is: beside a block job libvirt refuses what moves
 * the whole domain or its disks elsewhere, beside a migration it allows suspending, beside a save or dump only destroying.
 * What runs on one volume leaves the others alone, but the pool must stay.
 */
static bool excludes(const struct job *j, const struct call *call)
{
	enum operation wanted = call->operation;

	/* What somebody else began is the hypervisor's to refuse; what waits for the guest keeps nobody out. */
	if (j->foreign || j->accepted)
		return false;
	if (is_block_job(j->operation)) {
		if (is_block_job(wanted))
			return same(j->subject, call->text);
		return wanted == OP_DOMAIN_SAVE || wanted == OP_DOMAIN_MANAGED_SAVE || wanted == OP_DOMAIN_MIGRATE ||
		       wanted == OP_DOMAIN_RENAME;
	}
	if (j->operation == OP_DOMAIN_MIGRATE)
		return wanted != OP_DOMAIN_SUSPEND;
	if (is_volume_job(j->operation) && is_volume_job(wanted))
		return same(j->subject, call->text) || same(j->subject, call->text2);
	return true;
}

/* P21: who would change an object on which a job begun here runs is not kept waiting, but refused. */
static int check_busy(struct connection *c, const struct call *call, struct failure *f)
{
	struct job *j;

	if (operation_table[call->operation].overrides || call->object->kind == KIND_CONNECTION)
		return 0;
	DL_FOREACH(c->jobs, j)
	if (strcmp(j->target, call->object->path) == 0 && excludes(j, call))
		return failure_set(f, VIREO_BUSY, "%s is busy: the operation “%s” is running, as %s",
				   object_title(call->object), operation_table[j->operation].name, j->object->path);
	return 0;
}

int broker_submit(struct broker *b, const struct call *call, call_done_fn done, void *userdata,
		  struct object **ret_job, struct failure *f)
{
	struct connection *c = call->object->connection;
	_cleanup_(request_freep) struct request *request = NULL;
	struct job_spec spec = {.operation = call->operation, .target = call->object, .uid = call->uid};
	const char *xml = xml_of(call);
	sd_id128_t uuid = SD_ID128_NULL;
	struct job *j;
	int r;

	r = check(call, f);
	if (r == 0 && xml)
		r = check_xml(xml, &uuid, f);
	if (r == 0)
		r = check_version(call, uuid, f);
	if (r == 0)
		r = check_busy(c, call, f);
	if (r != 0)
		return r;

	request = make_request(b, call);
	if (!request)
		return -ENOMEM;
	spec.token = request->token;
	spec.subject = job_subject_key(call->operation) ? call->text : NULL;
	spec.awaited = guest_is_awaited(call);
	spec.wanted = call->number;
	j = job_begin(c, &spec);
	if (!j)
		return -ENOMEM;
	*ret_job = j->object;
	if (done && broker_wait(j->object, done, userdata) < 0) {
		struct failure none = {0};

		/* Begun but for its first step: told as what it is. */
		failure_set(&none, VIREO_NO_MEMORY, "out of memory");
		job_end(j, &none);
		failure_clear(&none);
		broker_flush(b);
		return -ENOMEM;
	}
	request->fd = call->fd;
	c->driver->operate(c->dc, TAKE(request));
	broker_flush(b);
	return 0;
}

/* ---- queries ------------------------------------------------------------------------------------------------------- */

struct broker_query {
	struct broker *broker;
	struct connection *connection;
	uint64_t token;
	call_done_fn done; /* NULL: nobody waits any more */
	void *userdata;
	struct broker_query *prev, *next;
};

static void end_query(struct broker_query *q, const struct failure *f, struct result *r)
{
	if (q->done)
		broker_answer(q->broker, q->done, q->userdata, f, r);
	DL_DELETE(q->broker->queries, q);
	free(q);
}

bool queries_on_result(struct connection *c, struct result *r)
{
	struct broker_query *q;

	DL_FOREACH(c->broker->queries, q)
	if (q->connection == c && q->token == r->token) {
		struct failure f = r->failure;

		r->failure = (struct failure){0};
		end_query(q, &f, r);
		failure_clear(&f);
		return true;
	}
	return false;
}

void queries_lost(struct connection *c, const char *why)
{
	struct failure f = {0};
	struct broker_query *q, *tmp;

	failure_set(&f, VIREO_DISCONNECTED, "%s", why);
	DL_FOREACH_SAFE(c->broker->queries, q, tmp)
	if (q->connection == c)
		end_query(q, &f, NULL);
	failure_clear(&f);
}

int broker_query(struct broker *b, const struct call *call, call_done_fn done, void *userdata,
		 struct broker_query **ret, struct failure *f)
{
	struct request *request;
	struct broker_query *q;
	int r;

	r = check(call, f);
	if (r != 0)
		return r;
	request = make_request(b, call);
	q = calloc(1, sizeof(*q));
	if (!request || !q) {
		request_free(request);
		free(q);
		return -ENOMEM;
	}
	q->broker = b;
	q->connection = call->object->connection;
	q->token = request->token;
	q->done = done;
	q->userdata = userdata;
	DL_APPEND(b->queries, q);
	*ret = q;
	q->connection->driver->operate(q->connection->dc, request);
	return 0;
}

void broker_query_cancel(struct broker_query *q)
{
	/* The hypervisor's answer will come all the same, and find nobody. */
	q->done = NULL;
}
