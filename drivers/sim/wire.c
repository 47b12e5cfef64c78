/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "json.h"
#include "truth.h"
#include "wire.h"

/* ---- small things ----------------------------------------------------------------------------------------------- */

static void add_string(struct json_object *j, const char *key, const char *s)
{
	if (s)
		json_object_object_add(j, key, json_object_new_string(s));
}

static void add_number(struct json_object *j, const char *key, uint64_t n)
{
	json_object_object_add(j, key, json_object_new_uint64(n));
}

static void add_int(struct json_object *j, const char *key, int64_t n)
{
	json_object_object_add(j, key, json_object_new_int64(n));
}

static void add_bool(struct json_object *j, const char *key, bool b)
{
	if (b)
		json_object_object_add(j, key, json_object_new_boolean(true));
}

/* What comes from the other end is of its type, or not there: nothing here trusts it. */
static char *take_string(struct json_object *j, const char *key)
{
	struct json_object *v = sim_json_get(j, key);

	return json_object_is_type(v, json_type_string) ? sim_strdup(json_object_get_string(v)) : NULL;
}

static char *take_text(struct json_object *j, const char *key)
{
	char *s = take_string(j, key);

	return s ? s : sim_strdup("");
}

static uint64_t take_number(struct json_object *j, const char *key)
{
	struct json_object *v = sim_json_get(j, key);

	return json_object_is_type(v, json_type_int) ? json_object_get_uint64(v) : 0;
}

static int64_t take_int(struct json_object *j, const char *key)
{
	struct json_object *v = sim_json_get(j, key);

	return json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;
}

static bool take_bool(struct json_object *j, const char *key)
{
	struct json_object *v = sim_json_get(j, key);

	return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

struct json_object *sim_wire_from_uuid(sd_id128_t uuid)
{
	char text[SD_ID128_STRING_MAX];

	return json_object_new_string(sd_id128_to_string(uuid, text));
}

sd_id128_t sim_wire_to_uuid(struct json_object *j, const char *key)
{
	struct json_object *v = sim_json_get(j, key);
	sd_id128_t id = {};

	if (json_object_is_type(v, json_type_string))
		(void)sd_id128_from_string(json_object_get_string(v), &id);
	return id;
}

static void add_dict(struct json_object *j, const struct vdict *d)
{
	char *types;

	if (!d)
		return;
	types = sim_must(vdict_types(d));
	json_object_object_add(j, "values", vdict_to_json(d));
	add_string(j, "types", types);
	free(types);
}

static struct vdict *take_dict(struct json_object *j)
{
	struct json_object *values = sim_json_get(j, "values"), *types = sim_json_get(j, "types");
	struct vdict *d = NULL;

	if (!json_object_is_type(values, json_type_object) || !json_object_is_type(types, json_type_string))
		return NULL;
	return vdict_from_json(values, json_object_get_string(types), &d) == 0 ? d : NULL;
}

static void add_strings(struct json_object *j, const char *key, char *const *strings)
{
	struct json_object *a = json_object_new_array();

	for (; strings && *strings; strings++)
		json_object_array_add(a, json_object_new_string(*strings));
	json_object_object_add(j, key, a);
}

static char **take_strings(struct json_object *j, const char *key)
{
	struct json_object *a = sim_json_get(j, key);
	size_t n = json_object_is_type(a, json_type_array) ? json_object_array_length(a) : 0;
	char **strings = sim_must(calloc(n + 1, sizeof(*strings)));

	for (size_t i = 0; i < n; i++) {
		const char *s = json_object_get_string(json_object_array_get_idx(a, i));

		strings[i] = sim_strdup(s ? s : "");
	}
	return strings;
}

/* ---- reports ------------------------------------------------------------------------------------------------------ */

static struct json_object *from_seen(const struct seen *s)
{
	struct json_object *j = json_object_new_object();

	add_int(j, "unknown", s->unknown);
	add_string(j, "name", s->name);
	add_bool(j, "active", s->active);
	add_bool(j, "persistent", s->persistent);
	add_bool(j, "autostart", s->autostart);
	add_string(j, "state-reason", s->state_reason);
	add_int(j, "id", s->id);
	add_bool(j, "starting", s->starting);
	add_int(j, "state", s->state);
	add_string(j, "title", s->title);
	add_string(j, "description", s->description);
	add_string(j, "os-type", s->os_type);
	add_bool(j, "managed-save", s->managed_save);
	add_number(j, "max-memory", s->max_memory);
	add_number(j, "memory", s->memory);
	add_number(j, "vcpus", s->vcpus);
	add_string(j, "state-name", s->state_name);
	add_string(j, "type", s->type);
	add_number(j, "capacity", s->capacity);
	add_number(j, "allocation", s->allocation);
	add_number(j, "available", s->available);
	add_string(j, "bridge", s->bridge);
	add_string(j, "xml", s->xml);
	add_string(j, "xml-inactive", s->xml_inactive);
	return j;
}

static struct seen *to_seen(struct json_object *j)
{
	struct seen *s = sim_must(seen_new());

	s->unknown = (unsigned)take_int(j, "unknown");
	s->name = take_text(j, "name");
	s->active = take_bool(j, "active");
	s->persistent = take_bool(j, "persistent");
	s->autostart = take_bool(j, "autostart");
	s->state_reason = take_string(j, "state-reason");
	s->id = (int)take_int(j, "id");
	s->starting = take_bool(j, "starting");
	s->state = (enum domain_state)(take_number(j, "state") % DOMAIN_STATE_MAX);
	s->title = take_string(j, "title");
	s->description = take_string(j, "description");
	s->os_type = take_string(j, "os-type");
	s->managed_save = take_bool(j, "managed-save");
	s->max_memory = take_number(j, "max-memory");
	s->memory = take_number(j, "memory");
	s->vcpus = (unsigned)take_number(j, "vcpus");
	s->state_name = take_string(j, "state-name");
	s->type = take_string(j, "type");
	s->capacity = take_number(j, "capacity");
	s->allocation = take_number(j, "allocation");
	s->available = take_number(j, "available");
	s->bridge = take_string(j, "bridge");
	s->xml = take_string(j, "xml");
	s->xml_inactive = take_string(j, "xml-inactive");
	return s;
}

static void from_observation(struct json_object *j, const struct observation *o)
{
	add_int(j, "kind", o->kind);
	json_object_object_add(j, "uuid", sim_wire_from_uuid(o->uuid));
	add_string(j, "name", o->name);
	add_int(j, "cause", o->cause);
	add_string(j, "reason", o->reason);
	add_int(j, "run", o->run);
	add_string(j, "event", o->event);
	add_dict(j, o->details);
	add_int(j, "look", o->look);
	add_bool(j, "settled", o->settled);
	if (o->seen)
		json_object_object_add(j, "seen", from_seen(o->seen));
	add_string(j, "error", o->error);
	add_number(j, "listing", o->listing);
}

static int to_observation(struct json_object *j, struct observation *o)
{
	int64_t kind = take_int(j, "kind"), cause = take_int(j, "cause"), look = take_int(j, "look");
	struct json_object *seen = sim_json_get(j, "seen");

	if (kind < KIND_DOMAIN || kind > KIND_NETWORK || cause < 0 || cause >= CAUSE_MAX || look < 0 || look > LOOK_FAILED)
		return -EBADMSG;
	if ((look == LOOK_SEEN) != json_object_is_type(seen, json_type_object))
		return -EBADMSG;
	o->kind = (enum kind)kind;
	o->uuid = sim_wire_to_uuid(j, "uuid");
	o->name = take_string(j, "name");
	o->cause = (enum cause)cause;
	o->reason = take_string(j, "reason");
	o->run = (int)take_int(j, "run");
	o->event = take_string(j, "event");
	o->details = take_dict(j);
	o->look = (enum look)look;
	o->settled = take_bool(j, "settled");
	o->seen = look == LOOK_SEEN ? to_seen(seen) : NULL;
	o->error = take_string(j, "error");
	o->listing = take_number(j, "listing");
	return o->cause == CAUSE_OTHER && !o->event ? -EBADMSG : 0;
}

static void from_result(struct json_object *j, const struct result *r)
{
	add_number(j, "token", r->token);
	add_int(j, "failure", r->failure.error);
	add_string(j, "message", r->failure.message);
	json_object_object_add(j, "uuid", sim_wire_from_uuid(r->uuid));
	add_int(j, "kind", r->kind);
	add_string(j, "text", r->text);
	if (r->volumes) {
		struct json_object *a = json_object_new_array();

		for (size_t i = 0; i < r->n_volumes; i++) {
			struct json_object *v = json_object_new_object();

			add_string(v, "name", r->volumes[i].name);
			add_string(v, "path", r->volumes[i].path);
			add_string(v, "type", r->volumes[i].type);
			add_string(v, "format", r->volumes[i].format);
			add_number(v, "capacity", r->volumes[i].capacity);
			add_number(v, "allocation", r->volumes[i].allocation);
			json_object_array_add(a, v);
		}
		json_object_object_add(j, "volumes", a);
	}
}

static int to_result(struct json_object *j, struct result *r)
{
	int64_t error = take_int(j, "failure"), kind = take_int(j, "kind");
	struct json_object *volumes = sim_json_get(j, "volumes");

	if (error < 0 || error >= VIREO_ERROR_MAX || kind < 0 || kind >= KIND_MAX)
		return -EBADMSG;
	r->token = take_number(j, "token");
	r->failure.error = (enum vireo_error)error;
	r->failure.message = take_string(j, "message");
	r->uuid = sim_wire_to_uuid(j, "uuid");
	r->kind = (enum kind)kind;
	r->text = take_string(j, "text");
	if (!json_object_is_type(volumes, json_type_array))
		return 0;
	r->n_volumes = json_object_array_length(volumes);
	r->volumes = sim_must(calloc(r->n_volumes + 1, sizeof(*r->volumes)));
	for (size_t i = 0; i < r->n_volumes; i++) {
		struct json_object *v = json_object_array_get_idx(volumes, i);

		r->volumes[i] = (struct volume){
			.name = take_text(v, "name"),
			.path = take_text(v, "path"),
			.type = take_text(v, "type"),
			.format = take_text(v, "format"),
			.capacity = take_number(v, "capacity"),
			.allocation = take_number(v, "allocation"),
		};
	}
	return 0;
}

static int to_foreign(struct json_object *j, struct foreign *f)
{
	int64_t error = take_int(j, "failure"), kind = take_int(j, "kind"), operation = take_int(j, "operation");

	if (error < 0 || error >= VIREO_ERROR_MAX || kind < 0 || kind >= KIND_MAX || operation <= OP_NONE || operation >= OP_MAX)
		return -EBADMSG;
	f->token = take_number(j, "token");
	f->ended = take_bool(j, "ended");
	f->kind = (enum kind)kind;
	f->uuid = sim_wire_to_uuid(j, "uuid");
	f->operation = (enum operation)operation;
	f->subject = take_string(j, "subject");
	f->cancellable = take_bool(j, "cancellable");
	f->failure.error = (enum vireo_error)error;
	f->failure.message = take_string(j, "message");
	return 0;
}

struct json_object *sim_wire_from_report(const struct report *r)
{
	struct json_object *j = sim_must(json_object_new_object());

	add_int(j, "report", r->type);
	switch (r->type) {
	case REPORT_HELLO:
		add_string(j, "hostname", r->hello.hostname);
		add_string(j, "version", r->hello.version);
		add_string(j, "same-key", r->hello.same_key);
		add_strings(j, "events", r->hello.events);
		add_strings(j, "operations", r->hello.operations);
		add_bool(j, "polled", r->hello.polled);
		break;
	case REPORT_GOODBYE:
		add_string(j, "error", r->goodbye.error);
		break;
	case REPORT_OBSERVATION:
		from_observation(j, &r->observation);
		break;
	case REPORT_LISTED:
		add_number(j, "serial", r->listed.serial);
		add_bool(j, "domains", r->listed.complete[KIND_DOMAIN]);
		add_bool(j, "pools", r->listed.complete[KIND_POOL]);
		add_bool(j, "networks", r->listed.complete[KIND_NETWORK]);
		add_string(j, "error", r->listed.error);
		break;
	case REPORT_PROGRESS:
		add_number(j, "token", r->progress.token);
		add_number(j, "done", r->progress.done);
		add_number(j, "total", r->progress.total);
		add_number(j, "remaining", r->progress.remaining);
		json_object_object_add(j, "percent", json_object_new_double(r->progress.percent));
		add_bool(j, "ready", r->progress.ready);
		add_bool(j, "cancellable", r->progress.cancellable);
		break;
	case REPORT_RESULT:
		from_result(j, &r->result);
		break;
	case REPORT_FOREIGN:
		add_number(j, "token", r->foreign.token);
		add_bool(j, "ended", r->foreign.ended);
		add_int(j, "kind", r->foreign.kind);
		json_object_object_add(j, "uuid", sim_wire_from_uuid(r->foreign.uuid));
		add_int(j, "operation", r->foreign.operation);
		add_string(j, "subject", r->foreign.subject);
		add_bool(j, "cancellable", r->foreign.cancellable);
		add_int(j, "failure", r->foreign.failure.error);
		add_string(j, "message", r->foreign.failure.message);
		break;
	}
	return j;
}

int sim_wire_to_report(struct json_object *j, struct report **ret)
{
	_cleanup_(report_freep) struct report *r = NULL;
	int64_t type = take_int(j, "report");
	int e = 0;

	if (!json_object_is_type(j, json_type_object) || !sim_json_get(j, "report") || type < 0 || type > REPORT_FOREIGN)
		return -EBADMSG;
	r = sim_must(report_new((enum report_type)type));
	switch (r->type) {
	case REPORT_HELLO:
		r->hello.hostname = take_text(j, "hostname");
		r->hello.version = take_text(j, "version");
		r->hello.same_key = take_string(j, "same-key");
		r->hello.events = take_strings(j, "events");
		r->hello.operations = take_strings(j, "operations");
		r->hello.polled = take_bool(j, "polled");
		break;
	case REPORT_GOODBYE:
		r->goodbye.error = take_text(j, "error");
		break;
	case REPORT_OBSERVATION:
		e = to_observation(j, &r->observation);
		break;
	case REPORT_LISTED:
		r->listed.serial = take_number(j, "serial");
		r->listed.complete[KIND_DOMAIN] = take_bool(j, "domains");
		r->listed.complete[KIND_POOL] = take_bool(j, "pools");
		r->listed.complete[KIND_NETWORK] = take_bool(j, "networks");
		r->listed.error = take_string(j, "error");
		break;
	case REPORT_PROGRESS:
		r->progress.token = take_number(j, "token");
		r->progress.done = take_number(j, "done");
		r->progress.total = take_number(j, "total");
		r->progress.remaining = take_number(j, "remaining");
		r->progress.percent = sim_json_double(j, "percent", -1);
		r->progress.ready = take_bool(j, "ready");
		r->progress.cancellable = take_bool(j, "cancellable");
		break;
	case REPORT_RESULT:
		e = to_result(j, &r->result);
		break;
	case REPORT_FOREIGN:
		e = to_foreign(j, &r->foreign);
		break;
	}
	if (e < 0)
		return e;
	*ret = TAKE(r);
	return 0;
}

/* ---- requests ----------------------------------------------------------------------------------------------------- */

struct json_object *sim_wire_from_request(const struct request *r)
{
	struct json_object *j = sim_must(json_object_new_object());

	add_number(j, "token", r->token);
	add_string(j, "operation", operation_table[r->operation].name);
	add_int(j, "kind", operation_table[r->operation].kind);
	json_object_object_add(j, "uuid", sim_wire_from_uuid(r->uuid));
	add_string(j, "name", r->name);
	add_string(j, "text", r->text);
	add_string(j, "text2", r->text2);
	add_number(j, "number", r->number);
	add_bool(j, "flag", r->flag);
	add_bool(j, "descriptor", r->fd >= 0);
	add_dict(j, r->options);
	return j;
}

int sim_wire_to_request(struct json_object *j, struct sim_lines *l, struct request **ret)
{
	_cleanup_(freep) char *name = take_text(j, "operation");
	int64_t kind = take_int(j, "kind");
	struct request *r;
	int op;

	for (op = OP_NONE + 1; op < OP_MAX; op++)
		if ((int64_t)operation_table[op].kind == kind && strcmp(operation_table[op].name, name) == 0)
			break;
	if (op == OP_MAX)
		return -EBADMSG;
	r = sim_new(struct request);
	r->fd = -1;
	r->token = take_number(j, "token");
	r->operation = (enum operation)op;
	r->kind = (enum kind)kind;
	r->uuid = sim_wire_to_uuid(j, "uuid");
	r->name = take_string(j, "name");
	r->text = take_string(j, "text");
	r->text2 = take_string(j, "text2");
	r->number = take_number(j, "number");
	r->flag = take_bool(j, "flag");
	r->options = take_dict(j);
	if (take_bool(j, "descriptor"))
		r->fd = sim_lines_take_fd(l);
	*ret = r;
	return 0;
}

/* ---- lines -------------------------------------------------------------------------------------------------------- */

void sim_lines_append(struct sim_lines *l, const char *data, size_t n)
{
	if (l->at > 0 && l->at == l->n)
		l->at = l->n = 0;
	/* what was taken leaves room */
	if (l->at > (1 << 16)) {
		memmove(l->data, l->data + l->at, l->n - l->at);
		l->n -= l->at;
		l->at = 0;
	}
	if (l->n + n + 1 > l->size) {
		l->size = (l->n + n + 1) * 2;
		l->data = sim_must(realloc(l->data, l->size));
	}
	memcpy(l->data + l->n, data, n);
	l->n += n;
}

void sim_lines_append_json(struct sim_lines *l, struct json_object *j)
{
	size_t n = 0;
	const char *s = json_object_to_json_string_length(j, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);

	sim_lines_append(l, sim_must((void *)(uintptr_t)s), n);
	sim_lines_append(l, "\n", 1);
}

char *sim_lines_next(struct sim_lines *l, size_t *ret_n)
{
	char *line = l->data + l->at, *end;

	if (l->at == l->n || !(end = memchr(line, '\n', l->n - l->at)))
		return NULL;
	*end = '\0';
	l->at += (size_t)(end - line) + 1;
	*ret_n = (size_t)(end - line);
	return line;
}

void sim_lines_append_fd(struct sim_lines *l, int fd)
{
	l->fds = sim_must(reallocarray(l->fds, l->n_fds + 1, sizeof(*l->fds)));
	l->fds[l->n_fds++] = fd;
}

int sim_lines_take_fd(struct sim_lines *l)
{
	int fd;

	if (l->n_fds == 0)
		return -1;
	fd = l->fds[0];
	memmove(l->fds, l->fds + 1, --l->n_fds * sizeof(*l->fds));
	return fd;
}

/* As many as go with one message. */
#define FDS_MAX 16

ssize_t sim_lines_read(struct sim_lines *l, int fd)
{
	char buffer[65536], control[CMSG_SPACE(FDS_MAX * sizeof(int))] __attribute__((aligned(sizeof(size_t))));
	struct iovec iov = {.iov_base = buffer, .iov_len = sizeof(buffer)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		size_t count = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

		for (size_t i = 0; i < count; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(got), sizeof(got));
			sim_lines_append_fd(l, got);
		}
	}
	sim_lines_append(l, buffer, (size_t)n);
	return n;
}

/* Descriptors first, with whatever bytes are next: so they are there before the line that speaks of them is whole. */
static ssize_t send_some(struct sim_lines *l, int fd)
{
	char control[CMSG_SPACE(FDS_MAX * sizeof(int))] __attribute__((aligned(sizeof(size_t)))) = {0};
	size_t count = l->n_fds < FDS_MAX ? l->n_fds : FDS_MAX;
	struct iovec iov = {.iov_base = l->data + l->at, .iov_len = l->n - l->at};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	/* what is left must not overtake its descriptors */
	if (l->n_fds > count)
		iov.iov_len = 1;
	if (count > 0) {
		struct cmsghdr *c;

		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), l->fds, count * sizeof(int));
	}
	n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	while (count-- > 0)
		close(sim_lines_take_fd(l));
	return n;
}

int sim_lines_write(struct sim_lines *l, int fd)
{
	while (l->at < l->n) {
		ssize_t n = send_some(l, fd);

		if (n < 0)
			return (int)n;
		l->at += (size_t)n;
	}
	return 0;
}

void sim_lines_done(struct sim_lines *l)
{
	while (l->n_fds > 0)
		close(sim_lines_take_fd(l));
	free(l->fds);
	free(l->data);
	*l = (struct sim_lines){};
}
