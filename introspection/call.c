/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "face.h"

/*
 * The common way of every method that changes something: arguments and options, policy, a job of the broker's, and
 * the answer when it has ended, or after 20 s, or at once.
 */
struct change {
	struct held held;
	enum operation operation;
	struct vdict *options;
	const char *text, *text2; /* the message's */
	uint64_t number, if_version;
	bool flag, has_if_version, async;
	int fd; /* -1: none */
	char *job; /* path; NULL: not begun, or nobody is waited for any more */
};

static const struct option_def common_options[] = {{"if-version", "t"}, {"async", "b"}, {NULL}};

static enum operation find_operation(enum kind kind, const char *method)
{
	for (enum operation i = OP_NONE + 1; i < OP_MAX; i++)
		if (operation_table[i].kind == kind && strcmp(operation_table[i].method, method) == 0)
			return i;
	return OP_NONE;
}

static struct object *find_job(struct change *c)
{
	return c->job ? broker_find(c->held.face->broker, c->job) : NULL;
}

static void change_free(struct held *h)
{
	struct change *c = (struct change *)h;
	struct object *job = find_job(c);

	if (job)
		broker_release(job, c);
	free(c->job);
	vdict_free(c->options);
	if (c->fd >= 0)
		close(c->fd);
}

/* Path of what was defined or created; "/" while nobody knows. */
static int append_created(struct change *c, sd_bus_message *reply, const struct result *r)
{
	static const enum kind kinds[] = {
		[OP_DEFINE_DOMAIN] = KIND_DOMAIN, [OP_CREATE_DOMAIN] = KIND_DOMAIN, [OP_RESTORE_DOMAIN] = KIND_DOMAIN,
		[OP_DEFINE_POOL] = KIND_POOL, [OP_CREATE_POOL] = KIND_POOL,
		[OP_DEFINE_NETWORK] = KIND_NETWORK, [OP_CREATE_NETWORK] = KIND_NETWORK,
	};
	_cleanup_(freep) char *path = NULL;

	if (!r || sd_id128_is_null(r->uuid))
		return sd_bus_message_append(reply, "o", "/");
	path = object_path(kinds[c->operation], c->held.path, r->uuid);
	return path ? sd_bus_message_append(reply, "o", path) : -ENOMEM;
}

static int append_answer(struct change *c, sd_bus_message *reply, uint64_t version, const struct result *r)
{
	int k = 0;

	switch (c->operation) {
	case OP_DEFINE_DOMAIN:
	case OP_DEFINE_POOL:
	case OP_DEFINE_NETWORK:
		k = append_created(c, reply, r);
		return k < 0 ? k : sd_bus_message_append(reply, "t", version);
	case OP_CREATE_DOMAIN:
	case OP_RESTORE_DOMAIN:
	case OP_CREATE_POOL:
	case OP_CREATE_NETWORK:
		k = append_created(c, reply, r);
		break;
	case OP_POOL_CREATE_VOLUME:
		k = sd_bus_message_append(reply, "s", r && r->text ? r->text : "");
		break;
	default:
		break;
	}
	return k < 0 ? k : sd_bus_message_append(reply, "ot", c->job, version);
}

static void answer(struct change *c, uint64_t version, const struct result *result)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r = held_begin(&c->held, &reply);

	if (r >= 0)
		r = append_answer(c, reply, version, result);
	if (r < 0)
		held_errno(&c->held, r);
	else
		held_reply(&c->held, TAKE(reply));
}

static void on_done(const struct failure *f, uint64_t version, const struct result *r, void *userdata)
{
	struct change *c = userdata;

	assert(c->job);
	if (f->error != VIREO_OK) {
		/* The broker has called us back: there is nothing to release. */
		free(TAKE(c->job));
		held_fail(&c->held, f);
		return;
	}
	answer(c, version, r);
}

/* The job goes on without us. */
static void on_waited(struct timer *t, void *userdata)
{
	answer(userdata, 0, NULL);
}

static unsigned jobs_of(struct broker *b, uint32_t uid)
{
	unsigned n = 0;

	for (struct object *o = broker_first(b, KIND_JOB); o; o = o->next)
		n += o->props->v[JOB_STARTED_BY].u == uid && strcmp(o->props->v[JOB_STATE].s, "running") == 0;
	return n;
}

static void change_go(struct held *h)
{
	struct change *c = (struct change *)h;
	_cleanup_(failure_clear) struct failure f = {0};
	struct broker *b = h->face->broker;
	struct object *o = broker_find(b, h->path), *job;
	struct call call;
	unsigned running;
	int r;

	if (!o) {
		held_failf(h, VIREO_NOT_FOUND, "%s has gone", h->path);
		return;
	}
	if (h->viewer && (running = jobs_of(b, h->viewer->uid)) >= h->face->config.limits.jobs) {
		held_failf(h, VIREO_LIMITS_EXCEEDED, "jobs: %u that this user began are running already", running);
		return;
	}
	call = (struct call){
		.operation = c->operation,
		.object = o,
		.text = c->text,
		.text2 = c->text2,
		.number = c->number,
		.flag = c->flag,
		.fd = c->fd,
		.options = c->options,
		.has_if_version = c->has_if_version,
		.if_version = c->if_version,
		.uid = h->peer ? h->peer->uid : UINT32_MAX,
	};
	r = broker_submit(b, &call, c->async ? NULL : on_done, c, &job, &f);
	if (r != 0) {
		held_refuse(h, r, &f);
		return;
	}
	c->fd = -1;
	c->job = strdup(job->path);
	if (!c->job) {
		broker_release(job, c);
		held_errno(h, -ENOMEM);
		return;
	}
	if (c->async)
		answer(c, 0, NULL);
	else
		timer_in(h->face->clock, &h->timer, CALL_WAIT_MAX, on_waited, c);
}

static const struct held_ops change_ops = {.go = change_go, .free = change_free};

/* What stands before the options; the types were checked by the vtable. */
static int read_arguments(struct change *c, sd_bus_message *m)
{
	const char *signature = sd_bus_message_get_signature(m, true);
	uint32_t u;
	int b, fd, r = 0;

	for (; r >= 0 && *signature && *signature != 'a'; signature++)
		switch (*signature) {
		case 's':
			r = sd_bus_message_read_basic(m, 's', c->text ? &c->text2 : &c->text);
			break;
		case 't':
			r = sd_bus_message_read_basic(m, 't', &c->number);
			break;
		case 'u':
			r = sd_bus_message_read_basic(m, 'u', &u);
			if (r >= 0)
				c->number = u;
			break;
		case 'b':
			r = sd_bus_message_read_basic(m, 'b', &b);
			if (r >= 0)
				c->flag = b;
			break;
		case 'h':
			r = sd_bus_message_read_basic(m, 'h', &fd);
			if (r < 0)
				break;
			/* The message keeps its own. */
			c->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
			if (c->fd < 0)
				return -errno;
			break;
		default:
			return -EINVAL;
		}
	return r < 0 ? r : 0;
}

static int check_arguments(const struct change *c, struct failure *f)
{
	const struct change_spec *s = &change_specs[c->operation];

	if (s->path && c->text[0] != '/')
		return failure_set(f, VIREO_INVALID_ARGS, "“%s” is not an absolute path", c->text);
	if (s->size && (c->number == 0 || c->number % 1024 != 0))
		return failure_set(f, VIREO_INVALID_ARGS, "%llu bytes: it must be a multiple of 1024, and not 0",
				   (unsigned long long)c->number);
	if (c->fd >= 0) {
		bool writes = c->operation == OP_POOL_DOWNLOAD_VOLUME;
		int flags = fcntl(c->fd, F_GETFL);

		if (flags < 0 || flags & O_PATH || (flags & O_ACCMODE) == (writes ? O_RDONLY : O_WRONLY))
			return failure_set(f, VIREO_INVALID_ARGS, "the descriptor is not open for %s", writes ? "writing" : "reading");
	}
	if (c->operation == OP_DOMAIN_SET_VCPUS && c->number == 0)
		return failure_set(f, VIREO_INVALID_ARGS, "a domain can't have 0 vCPUs");
	if (c->operation == OP_DOMAIN_RENAME && !c->text[0])
		return failure_set(f, VIREO_INVALID_ARGS, "the new name is empty");
	return 0;
}

/* The two that are not the driver's business leave the dictionary. */
static void take_common(struct change *c)
{
	size_t n = 0;

	c->has_if_version = vdict_get(c->options, "if-version");
	c->if_version = vdict_t(c->options, "if-version", 0);
	c->async = vdict_b(c->options, "async", false);
	for (size_t i = 0; i < c->options->n; i++) {
		struct vdict_item *item = &c->options->items[i];

		if (strcmp(item->key, "if-version") == 0 || strcmp(item->key, "async") == 0)
			free(item->key); /* their values own nothing */
		else
			c->options->items[n++] = *item;
	}
	c->options->n = n;
}

/* The pool that a clone is made from: what is in there is not for everybody either. */
static int find_other(const struct change *c, const struct object **ret, struct failure *f)
{
	struct face *face = c->held.face;
	const char *path = c->operation == OP_POOL_CLONE_VOLUME ? vdict_s(c->options, "pool", NULL) : NULL;
	const struct object *o = path ? broker_find(face->broker, path) : NULL;

	if (path && (!o || o->kind != KIND_POOL || !rights_sees_object(face->viewer, o)))
		return failure_set(f, VIREO_NOT_FOUND, "option “pool”: there is no pool %s", path);
	*ret = o;
	return 0;
}

static size_t bytes_of(const struct change *c)
{
	size_t n = (c->text ? strlen(c->text) : 0) + (c->text2 ? strlen(c->text2) : 0);

	for (size_t i = 0; i < c->options->n; i++) {
		const struct vdict_item *item = &c->options->items[i];

		n += strlen(item->key) + (item->type == 's' ? strlen(item->s) : 0);
		for (char **s = item->type == 'a' ? item->a : NULL; s && *s; s++)
			n += strlen(*s);
	}
	return n;
}

int method_change(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct face *face = userdata;
	struct object *o = broker_find(face->broker, sd_bus_message_get_path(m));
	enum operation operation = find_operation(o->kind, sd_bus_message_get_member(m));
	const struct object *other = NULL;
	struct change *c;
	int r;

	assert(operation != OP_NONE);
	c = held_new(face, m, &change_ops, sizeof(*c));
	if (!c)
		return face_error(error, -ENOMEM, NULL);
	c->operation = operation;
	c->fd = -1;
	r = read_arguments(c, m);
	if (r == 0)
		r = options_read(m, change_specs[operation].options, common_options, &c->options, &f);
	if (r == 0) {
		take_common(c);
		r = check_arguments(c, &f);
	}
	if (r == 0)
		r = find_other(c, &other, &f);
	if (r != 0)
		return held_refuse(&c->held, r, &f);
	c->held.bytes = bytes_of(c);
	return face_authorize(&c->held, &(struct question){.action = change_specs[operation].action, .object = o,
						.other = other, .change = true});
}
