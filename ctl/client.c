/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "term.h"

/* The bus: connecting, calling, and what an error means to a user. */

const char *const kind_words[KIND_MAX] = {"connection", "domain", "pool", "network", "job"};
const char *const kind_nouns[KIND_MAX] = {"connection", "domain", "storage pool", "network", "job"};
const char *const kind_interfaces[KIND_MAX] = {"org.vireo1.Connection", "org.vireo1.Domain", "org.vireo1.StoragePool",
					       "org.vireo1.Network", "org.vireo1.Job"};

int kind_from_interface(const char *interface)
{
	for (int k = 0; k < KIND_MAX; k++)
		if (strcmp(kind_interfaces[k], interface) == 0)
			return k;
	return -1;
}

int kind_from_path(const char *path)
{
	const char *p;

	if (strncmp(path, VIREO_JOBS, strlen(VIREO_JOBS)) == 0)
		return KIND_JOB;
	if (strncmp(path, VIREO_CONNECTIONS, strlen(VIREO_CONNECTIONS)) != 0)
		return -1;
	p = strchr(path + strlen(VIREO_CONNECTIONS), '/');
	if (!p)
		return KIND_CONNECTION;
	for (int k = KIND_DOMAIN; k <= KIND_NETWORK; k++) {
		size_t n = strlen(kind_words[k]);

		if (strncmp(p + 1, kind_words[k], n) == 0 && p[1 + n] == '/')
			return k;
	}
	return -1;
}

/* ---- connecting ---------------------------------------------------------------------------------------------------- */

static int open_address(const char *address, sd_bus **ret)
{
	_cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
	int r = sd_bus_new(&bus);

	if (r >= 0)
		r = sd_bus_set_address(bus, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(bus, true);
	if (r >= 0)
		r = sd_bus_negotiate_fds(bus, true);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r < 0)
		return r;
	*ret = TAKE(bus);
	return 0;
}

int client_try_open(struct ctl *c)
{
	int r;

	if (c->bus)
		return 0;
	if (c->bus_choice == BUS_SYSTEM)
		r = sd_bus_open_system(&c->bus);
	else if (c->bus_choice == BUS_SESSION)
		r = sd_bus_open_user(&c->bus);
	else
		r = open_address(c->address, &c->bus);
	if (r >= 0)
		r = sd_bus_set_method_call_timeout(c->bus, CALL_LIMIT);
	/* sd_bus_start() returns before the other side has spoken: a dead address is to be known now. */
	if (r >= 0) {
		const char *unique;

		r = sd_bus_get_unique_name(c->bus, &unique);
	}
	if (r < 0)
		client_close(c);
	return r;
}

void client_close(struct ctl *c)
{
	c->bus = sd_bus_flush_close_unref(c->bus);
}

int client_open(struct ctl *c)
{
	int r = client_try_open(c);

	if (r >= 0)
		return 0;
	switch (c->bus_choice) {
	case BUS_SYSTEM:
		complain("cannot connect to the system bus: %s. Is it running? Another bus: --session, --address=ADDRESS",
			 strerror(-r));
		break;
	case BUS_SESSION:
		complain("cannot connect to the session bus: %s. The broker of the system: --system; another bus: "
			 "--address=ADDRESS", strerror(-r));
		break;
	default:
		complain("cannot connect to the bus at %s: %s", c->address, strerror(-r));
	}
	return EXIT_NO_BROKER;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *name, *old, *new;

	if (sd_bus_message_read(m, "sss", &name, &old, &new) >= 0)
		*(bool *)userdata = new[0] != 0;
	return 0;
}

static int has_owner(struct ctl *c)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int answer = 0, r;

	r = sd_bus_call_method(c->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
			       "NameHasOwner", NULL, &reply, "s", VIREO_NAME);
	if (r >= 0)
		r = sd_bus_message_read(reply, "b", &answer);
	return r < 0 ? r : answer;
}

int client_wait_owner(struct ctl *c, uint64_t limit)
{
	_cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
	uint64_t until = now_usec(CLOCK_MONOTONIC) + limit;
	bool owned = false;
	int r;

	r = sd_bus_add_match(c->bus, &slot,
			     "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
			     "member='NameOwnerChanged',arg0='" VIREO_NAME "'", on_owner, &owned);
	if (r < 0)
		return r;
	r = has_owner(c);
	if (r != 0)
		return r < 0 ? r : 1;
	while (!owned) {
		uint64_t now = now_usec(CLOCK_MONOTONIC);

		if (limit != USEC_UNKNOWN && now >= until)
			return 0;
		r = sd_bus_process(c->bus, NULL);
		if (r == 0)
			r = sd_bus_wait(c->bus, limit == USEC_UNKNOWN ? USEC_UNKNOWN : until - now);
		if (r < 0 && r != -EINTR)
			return r;
	}
	return 1;
}

/* ---- errors -------------------------------------------------------------------------------------------------------- */

static const struct meaning {
	const char *name; /* org.vireo1.Error.…, or complete */
	int status;
	const char *hint;
} meanings[] = {
	{"NotFound", EXIT_NOT_FOUND, NULL},
	{"Ambiguous", EXIT_AMBIGUOUS, "say LABEL/NAME, or the UUID"},
	{"AlreadyExists", EXIT_STATE, NULL},
	{"InvalidState", EXIT_STATE, NULL},
	{"Busy", EXIT_STATE, "“vireoctl jobs” shows what runs; “vireoctl cancel” ends it"},
	{"NotSupported", EXIT_NOT_SUPPORTED, NULL},
	{"InvalidXML", EXIT_USAGE, NULL},
	{"InvalidURI", EXIT_USAGE, NULL},
	{"InvalidOption", EXIT_USAGE, NULL},
	{"VersionMismatch", EXIT_STATE, "it has changed since; look again, then decide again"},
	{"Gone", EXIT_HISTORY, "“vireoctl status” shows how far back history reaches"},
	{"EpochChanged", EXIT_HISTORY, "versions of another epoch can't be compared with present ones; begin anew"},
	{"FutureVersion", EXIT_HISTORY, NULL},
	{"AccessChanged", EXIT_DENIED, NULL},
	{"Disconnected", EXIT_DISCONNECTED, "“vireoctl connections” shows why; the broker connects again by itself"},
	{"Timeout", EXIT_DISCONNECTED, NULL},
	{"OutcomeUnknown", EXIT_DISCONNECTED, "nobody can tell how it ended; look at the object"},
	{"OperationFailed", EXIT_FAILED, NULL},
	{"NotCancellable", EXIT_STATE, NULL},
	{"LimitsExceeded", EXIT_FAILED, NULL},
	{"org.freedesktop.DBus.Error.AccessDenied", EXIT_DENIED,
	 "polkit, or the policy of the bus, does not allow it to this user; an administrator can"},
	{"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", EXIT_DENIED,
	 "it needs authentication; run it where an authentication agent can ask, or as root"},
	{"org.freedesktop.DBus.Error.AuthFailed", EXIT_DENIED, NULL},
	{"org.freedesktop.DBus.Error.InvalidArgs", EXIT_USAGE, NULL},
	{"org.freedesktop.DBus.Error.UnknownMethod", EXIT_NOT_SUPPORTED, "vireod is older than this vireoctl"},
	{"org.freedesktop.DBus.Error.UnknownObject", EXIT_NOT_FOUND, NULL},
	{"org.freedesktop.DBus.Error.UnknownInterface", EXIT_NOT_FOUND, NULL},
	{"org.freedesktop.DBus.Error.UnknownProperty", EXIT_NOT_SUPPORTED, NULL},
	{"org.freedesktop.DBus.Error.PropertyReadOnly", EXIT_NOT_SUPPORTED, NULL},
	{"org.freedesktop.DBus.Error.Timeout", EXIT_DISCONNECTED, NULL},
	{SD_BUS_ERROR_NO_REPLY, EXIT_NO_BROKER, "vireod went away meanwhile; “vireoctl jobs” shows what became of it"},
};

static const struct meaning *meaning_of(const char *name)
{
	const char *prefix = VIREO_NAME ".Error.";

	if (name && strncmp(name, prefix, strlen(prefix)) == 0)
		name += strlen(prefix);
	for (size_t i = 0; name && i < ELEMENTS(meanings); i++)
		if (strcmp(meanings[i].name, name) == 0)
			return &meanings[i];
	return NULL;
}

int exit_status_of(const char *error_name)
{
	const struct meaning *m = meaning_of(error_name);

	return m ? m->status : EXIT_FAILED;
}

static bool no_service(const sd_bus_error *e)
{
	return sd_bus_error_has_name(e, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
	       sd_bus_error_has_name(e, SD_BUS_ERROR_NAME_HAS_NO_OWNER) ||
	       sd_bus_error_has_name(e, "org.freedesktop.DBus.Error.Disconnected") ||
	       sd_bus_error_has_name(e, "org.freedesktop.systemd1.NoSuchUnit") ||
	       (e && e->name && strncmp(e->name, "org.freedesktop.DBus.Error.Spawn.", 33) == 0);
}

bool error_is_loss(const sd_bus_error *e, int r)
{
	if (e && e->name)
		return no_service(e) || sd_bus_error_has_name(e, SD_BUS_ERROR_NO_REPLY) ||
		       /* its method was gone with its objects, in the middle of stopping */
		       sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT);
	return r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE || r == -ETIMEDOUT;
}

int client_failed(struct ctl *c, const char *what, const sd_bus_error *e, int r)
{
	const struct meaning *m = e ? meaning_of(e->name) : NULL;
	const char *front = what ? what : "", *colon = what ? ": " : "";

	if (e && no_service(e)) {
		complain("%s%snobody serves " VIREO_NAME " on %s (%s). Start vireod there%s, or name another bus: --system, "
			 "--session, --address=ADDRESS", front, colon,
			 c->bus_choice == BUS_SYSTEM ? "the system bus" : c->bus_choice == BUS_SESSION ? "the session bus" : c->address,
			 e->message ? e->message : e->name, c->bus_choice == BUS_SYSTEM ? " (systemctl start vireod)" : "");
		return EXIT_NO_BROKER;
	}
	if (e && e->name) {
		_cleanup_(freep) char *text = text_safe(e->message ? e->message : e->name);
		const char *hint = m && m->hint ? m->hint : NULL;

		complain("%s%s%s%s%s%s", front, colon, text ? text : e->name, hint ? " (" : "", hint ? hint : "",
			 hint ? ")" : "");
		return m ? m->status : EXIT_FAILED;
	}
	complain("%s%s%s", front, colon, strerror(-r));
	return error_is_loss(NULL, r) ? EXIT_NO_BROKER : EXIT_FAILED;
}

/* ---- calling ------------------------------------------------------------------------------------------------------- */

int client_new_call(struct ctl *c, sd_bus_message **ret, const char *path, const char *interface, const char *member)
{
	int r = client_open(c);

	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_new_method_call(c->bus, ret, VIREO_NAME, path, interface, member);
	if (r >= 0)
		r = sd_bus_message_set_allow_interactive_authorization(*ret, true);
	return r < 0 ? client_failed(c, NULL, NULL, r) : EXIT_OK;
}

int client_send(struct ctl *c, sd_bus_message *m, const char *what, sd_bus_message **ret)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	int r = sd_bus_call(c->bus, m, 0, &e, ret);

	return r < 0 ? client_failed(c, what, &e, r) : EXIT_OK;
}

int client_call(struct ctl *c, const char *what, sd_bus_message **ret, const char *path, const char *interface,
		const char *member, const char *types, ...)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	va_list ap;
	int r;

	r = client_new_call(c, &m, path, interface, member);
	if (r != EXIT_OK)
		return r;
	if (types && *types) {
		va_start(ap, types);
		r = sd_bus_message_appendv(m, types, ap);
		va_end(ap);
		if (r < 0)
			return client_failed(c, what, NULL, r);
	}
	return client_send(c, m, what, ret);
}

int client_get_all(struct ctl *c, const char *path, const char *interface, json_object **ret)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int r = client_call(c, strcmp(path, VIREO_ROOT) == 0 ? NULL : path, &reply, path, PROPERTIES, "GetAll", "s", interface);

	if (r != EXIT_OK)
		return r;
	r = message_read_json(reply, ret);
	return r <= 0 ? client_failed(c, path, NULL, r ? r : -EBADMSG) : EXIT_OK;
}
