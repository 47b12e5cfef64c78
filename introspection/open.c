/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "face.h"

/* Open: a connection more, at run time. */

/* ---- which URIs a client may open ----------------------------------------------------------------------------- */

/*
 * A URI is a small program to libvirt: transports and parameters of it run commands, name sockets and key files, or
 * switch checks off, all as the service's user. So only what is known to be harmless passes, and the rest is for the
 * configuration alone; a transport or parameter that libvirt learns tomorrow is refused until it is put here.
 */
static const char *const transports[] = {"unix", "ssh", "libssh", "libssh2", "tls", "tcp"};
static const char *const parameters[] = {"mode", "no_tty", "sshauth", "tls_priority"};
/* The simulated hypervisor touches nothing outside of this process, except by the socket of "control". */
static const char *const sim_parameters[] = {
	"world", "domains", "pools", "networks", "xml-size", "seed", "running", "storm", "flood", "count", "churn",
	"guest-delay",
};

static bool is_listed(const char *const *list, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(list[i], s) == 0)
			return true;
	return false;
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* What it will be once it is unescaped. @s is changed. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++)
		if (s[0] == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2])) {
			*to++ = (char)(hex_digit(s[1]) * 16 + hex_digit(s[2]));
			s += 2;
		} else
			*to++ = *s;
	*to = 0;
}

static int check_scheme(const char *uri, struct failure *f)
{
	size_t n = strcspn(uri, ":/?#");
	_cleanup_(freep) char *scheme = strndup(uri, n);
	char *transport;

	if (!scheme)
		return -ENOMEM;
	if (n == 0 || uri[n] != ':')
		return failure_set(f, VIREO_INVALID_URI, "“%s” does not begin with a scheme such as qemu:", uri);
	transport = strchr(scheme, '+');
	if (transport && !is_listed(transports, ELEMENTS(transports), transport + 1))
		return failure_set(f, VIREO_INVALID_URI,
				   "the transport “%s” is accepted only from the configuration", transport + 1);
	return 0;
}

/* user:password@-host */
static int check_authority(const char *uri, struct failure *f)
{
	const char *p = strchr(uri, ':') + 1, *end, *at, *host;

	if (strncmp(p, "//", 2) != 0)
		return 0;
	p += 2;
	end = p + strcspn(p, "/?#");
	at = memchr(p, '@', (size_t)(end - p));
	if (at && memchr(p, ':', (size_t)(at - p)))
		return failure_set(f, VIREO_INVALID_URI, "a URI must not hold a password");
	host = at ? at + 1 : p;
	/* What is handed to a command as its host or user must not look like an option. */
	if (*host == '-' || *p == '-')
		return failure_set(f, VIREO_INVALID_URI, "a host or user must not begin with “-”");
	for (; p < end; p++)
		if (iscntrl((unsigned char)*p) || isspace((unsigned char)*p) || *p == '%')
			return failure_set(f, VIREO_INVALID_URI, "there is an odd character in the host or user");
	return 0;
}

static int check_query(const char *uri, struct failure *f)
{
	const char *query = strchr(uri, '?');
	bool sim = strncasecmp(uri, "sim:", 4) == 0;
	_cleanup_(freep) char *copy = NULL;
	char *save = NULL;

	if (!query)
		return 0;
	copy = strdup(query + 1);
	if (!copy)
		return -ENOMEM;
	copy[strcspn(copy, "#")] = 0;
	/* libvirt takes both as separators, and any case. */
	for (char *p = strtok_r(copy, "&;", &save); p; p = strtok_r(NULL, "&;", &save)) {
		p[strcspn(p, "=")] = 0;
		unescape(p);
		if (!is_listed(parameters, ELEMENTS(parameters), p) &&
			!(sim && is_listed(sim_parameters, ELEMENTS(sim_parameters), p)))
			return failure_set(f, VIREO_INVALID_URI,
					   "the parameter “%s” is accepted only from the configuration", p);
	}
	return 0;
}

int open_check_uri(const char *uri, struct failure *f)
{
	int r = check_scheme(uri, f);

	if (r == 0)
		r = check_authority(uri, f);
	return r != 0 ? r : check_query(uri, f);
}

/* ---- the call ------------------------------------------------------------------------------------------------ */

struct opening {
	struct held held;
	struct vdict *options;
	const char *uri;
	char *connection; /* path, once it is there */
};

static void opening_free(struct held *h)
{
	struct opening *o = (struct opening *)h;

	vdict_free(o->options);
	free(o->connection);
}

static void answer(struct opening *o)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r = held_begin(&o->held, &reply);

	if (r >= 0)
		r = sd_bus_message_append(reply, "o", o->connection);
	if (r < 0)
		held_errno(&o->held, r);
	else
		held_reply(&o->held, TAKE(reply));
}

static void on_waited(struct timer *t, void *userdata)
{
	answer(userdata);
}

/* Is there nothing to wait for? */
static bool is_settled(const struct object *connection)
{
	return strcmp(connection->props->v[CONNECTION_STATE].s, "disconnected") == 0;
}

static void opening_go(struct held *h)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct opening *o = (struct opening *)h;
	const char *label = vdict_s(o->options, "label", NULL);
	struct object *c = NULL;
	int r = broker_open(h->face->broker, label, o->uri, &c, &f);
	/* The same URI again, and no other label for it: what was asked for is there. */
	bool there = r == VIREO_ALREADY_EXISTS && c && (!label || strcmp(strrchr(c->path, '/') + 1, label) == 0);

	if (r != 0 && !there) {
		held_refuse(h, r, &f);
		return;
	}
	o->connection = strdup(c->path);
	if (!o->connection)
		held_errno(h, -ENOMEM);
	else if (vdict_b(o->options, "async", false) || is_settled(c) ||
		 (there && strcmp(c->props->v[CONNECTION_STATE].s, "connected") == 0))
		answer(o);
	else
		timer_in(h->face->clock, &h->timer, CALL_WAIT_MAX, on_waited, o);
}

static const struct held_ops opening_ops = {.go = opening_go, .free = opening_free};

void open_wake(struct face *f, struct event *const *events, size_t n)
{
	struct held *h, *tmp;

	DL_FOREACH_SAFE(f->held, h, tmp)
	{
		struct opening *o = (struct opening *)h;
		bool over = false;

		if (h->ops != &opening_ops || !o->connection)
			continue;
		for (size_t i = 0; i < n && !over; i++)
			over = events[i]->kind == KIND_CONNECTION && strcmp(events[i]->path, o->connection) == 0 &&
			       (strcmp(events[i]->name, "Synced") == 0 || strcmp(events[i]->name, "Removed") == 0 ||
				       strcmp(events[i]->props->v[CONNECTION_STATE].s, "disconnected") == 0);
		if (over)
			answer(o);
	}
}

static const struct option_def open_options[] = {{"label", "s"}, {"async", "b"}, {NULL}};

int method_open(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(failure_clear) struct failure f = {0};
	struct face *face = userdata;
	struct opening *o = held_new(face, m, &opening_ops, sizeof(*o));
	int r;

	if (!o)
		return face_error(error, -ENOMEM, NULL);
	r = sd_bus_message_read(m, "s", &o->uri);
	if (r >= 0)
		r = options_read(m, open_options, NULL, &o->options, &f);
	if (r == 0)
		r = open_check_uri(o->uri, &f);
	if (r != 0)
		return held_refuse(&o->held, r, &f);
	return face_authorize(&o->held, &(struct question){.action = ACTION_CONNECTIONS, .change = true, .uri = o->uri,
						 .label = vdict_s(o->options, "label", NULL)});
}
