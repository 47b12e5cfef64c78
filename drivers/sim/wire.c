/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "json.h"
#include "truth.h"
#include "wire.h"

/* ---- small things ----------------------------------------------------------------------------------------------- */

static void add_string(struct writer *w, const char *key, const char *s)
{
	if (!s)
		return;
	write_key(w, key);
	write_string(w, s);
}

static void add_number(struct writer *w, const char *key, uint64_t n)
{
	write_key(w, key);
	write_number(w, n);
}

static void add_int(struct writer *w, const char *key, int64_t n)
{
	write_key(w, key);
	write_signed(w, n);
}

static void add_bool(struct writer *w, const char *key, bool b)
{
	if (!b)
		return;
	write_key(w, key);
	write_bool(w, b);
}

void sim_wire_write_uuid(struct writer *w, const char *key, sd_id128_t uuid)
{
	char text[SD_ID128_STRING_MAX];

	add_string(w, key, sd_id128_to_string(uuid, text));
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

sd_id128_t sim_wire_to_uuid(struct json_object *j, const char *key)
{
	struct json_object *v = sim_json_get(j, key);
	sd_id128_t id = {};

	if (json_object_is_type(v, json_type_string))
		(void)sd_id128_from_string(json_object_get_string(v), &id);
	return id;
}

static void add_dict(struct writer *w, const struct vdict *d)
{
	char *types;

	if (!d)
		return;
	types = sim_must(vdict_types(d));
	write_key(w, "values");
	vdict_write(w, d);
	add_string(w, "types", types);
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

static void add_strings(struct writer *w, const char *key, char *const *strings)
{
	static char *const none[] = {NULL};

	write_key(w, key);
	write_strings(w, strings ? strings : none);
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

static void write_seen(struct writer *w, const struct seen *s)
{
	write_literal(w, "{");
	add_int(w, "unknown", s->unknown);
	add_string(w, "name", s->name);
	add_bool(w, "active", s->active);
	add_bool(w, "persistent", s->persistent);
	add_bool(w, "autostart", s->autostart);
	add_string(w, "state-reason", s->state_reason);
	add_int(w, "id", s->id);
	add_bool(w, "starting", s->starting);
	add_int(w, "state", s->state);
	add_string(w, "title", s->title);
	add_string(w, "description", s->description);
	add_string(w, "os-type", s->os_type);
	add_bool(w, "managed-save", s->managed_save);
	add_number(w, "max-memory", s->max_memory);
	add_number(w, "memory", s->memory);
	add_number(w, "vcpus", s->vcpus);
	add_string(w, "state-name", s->state_name);
	add_string(w, "type", s->type);
	add_number(w, "capacity", s->capacity);
	add_number(w, "allocation", s->allocation);
	add_number(w, "available", s->available);
	add_string(w, "bridge", s->bridge);
	add_string(w, "xml", s->xml);
	add_string(w, "xml-inactive", s->xml_inactive);
	write_literal(w, "}");
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

static void write_observation(struct writer *w, const struct observation *o)
{
	add_int(w, "kind", o->kind);
	sim_wire_write_uuid(w, "uuid", o->uuid);
	add_string(w, "name", o->name);
	add_int(w, "cause", o->cause);
	add_string(w, "reason", o->reason);
	add_int(w, "run", o->run);
	add_string(w, "event", o->event);
	add_dict(w, o->details);
	add_int(w, "look", o->look);
	add_bool(w, "settled", o->settled);
	if (o->seen) {
		write_key(w, "seen");
		write_seen(w, o->seen);
	}
	add_string(w, "error", o->error);
	add_number(w, "listing", o->listing);
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

static void write_result(struct writer *w, const struct result *r)
{
	add_number(w, "token", r->token);
	add_int(w, "failure", r->failure.error);
	add_string(w, "message", r->failure.message);
	sim_wire_write_uuid(w, "uuid", r->uuid);
	add_int(w, "kind", r->kind);
	add_string(w, "text", r->text);
	if (r->volumes) {
		write_key(w, "volumes");
		write_literal(w, "[");
		for (size_t i = 0; i < r->n_volumes; i++) {
			if (i > 0)
				write_literal(w, ",");
			write_literal(w, "{");
			add_string(w, "name", r->volumes[i].name);
			add_string(w, "path", r->volumes[i].path);
			add_string(w, "type", r->volumes[i].type);
			add_string(w, "format", r->volumes[i].format);
			add_number(w, "capacity", r->volumes[i].capacity);
			add_number(w, "allocation", r->volumes[i].allocation);
			write_literal(w, "}");
		}
		write_literal(w, "]");
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

void sim_wire_write_report(struct writer *w, const struct report *r)
{
	write_literal(w, "{");
	add_int(w, "report", r->type);
	switch (r->type) {
	case REPORT_HELLO:
		add_string(w, "hostname", r->hello.hostname);
		add_string(w, "version", r->hello.version);
		add_string(w, "same-key", r->hello.same_key);
		add_strings(w, "events", r->hello.events);
		add_strings(w, "operations", r->hello.operations);
		add_bool(w, "polled", r->hello.polled);
		break;
	case REPORT_GOODBYE:
		add_string(w, "error", r->goodbye.error);
		break;
	case REPORT_OBSERVATION:
		write_observation(w, &r->observation);
		break;
	case REPORT_LISTED:
		add_number(w, "serial", r->listed.serial);
		add_bool(w, "domains", r->listed.complete[KIND_DOMAIN]);
		add_bool(w, "pools", r->listed.complete[KIND_POOL]);
		add_bool(w, "networks", r->listed.complete[KIND_NETWORK]);
		add_string(w, "error", r->listed.error);
		break;
	case REPORT_PROGRESS:
		add_number(w, "token", r->progress.token);
		add_number(w, "done", r->progress.done);
		add_number(w, "total", r->progress.total);
		add_number(w, "remaining", r->progress.remaining);
		write_key(w, "percent");
		write_double(w, r->progress.percent);
		add_bool(w, "ready", r->progress.ready);
		add_bool(w, "cancellable", r->progress.cancellable);
		break;
	case REPORT_RESULT:
		write_result(w, &r->result);
		break;
	case REPORT_FOREIGN:
		add_number(w, "token", r->foreign.token);
		add_bool(w, "ended", r->foreign.ended);
		add_int(w, "kind", r->foreign.kind);
		sim_wire_write_uuid(w, "uuid", r->foreign.uuid);
		add_int(w, "operation", r->foreign.operation);
		add_string(w, "subject", r->foreign.subject);
		add_bool(w, "cancellable", r->foreign.cancellable);
		add_int(w, "failure", r->foreign.failure.error);
		add_string(w, "message", r->foreign.failure.message);
		break;
	}
	write_literal(w, "}\n");
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

void sim_wire_write_request(struct writer *w, const struct request *r)
{
	write_literal(w, "{");
	add_number(w, "token", r->token);
	add_string(w, "operation", operation_table[r->operation].name);
	add_int(w, "kind", operation_table[r->operation].kind);
	sim_wire_write_uuid(w, "uuid", r->uuid);
	add_string(w, "name", r->name);
	add_string(w, "text", r->text);
	add_string(w, "text2", r->text2);
	add_number(w, "number", r->number);
	add_bool(w, "flag", r->flag);
	add_bool(w, "descriptor", r->fd >= 0);
	add_dict(w, r->options);
	write_literal(w, "}");
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
