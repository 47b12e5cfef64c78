/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "util/log.h"

#define SYSTEMD "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
#define ANSWER_PATIENCE (25 * USEC_PER_SEC)

bool service_is_possible(struct driver_connection *c)
{
	int r;

	if (c->no_services)
		return false;
	if (c->systemd && sd_bus_is_open(c->systemd) > 0)
		return true;
	c->systemd = sd_bus_close_unref(c->systemd);
	if (sd_booted() <= 0) {
		c->no_services = true;
		return false;
	}
	r = geteuid() == 0 ? sd_bus_open_system(&c->systemd) : sd_bus_open_user(&c->systemd);
	if (r >= 0)
		r = sd_bus_attach_event(c->systemd, c->env.event, 0);
	if (r < 0) {
		log_warning("systemd cannot be asked to run domains (%s): they are processes of this service.", strerror(-r));
		c->systemd = sd_bus_close_unref(c->systemd);
		c->no_services = true;
		return false;
	}
	return true;
}

void service_forget(struct domain *d)
{
	d->service_call = sd_bus_slot_unref(d->service_call);
	for (size_t i = 0; i < ELEMENTS(d->service_fds); i++)
		if (d->service_fds[i] > 0) {
			close(d->service_fds[i]);
			d->service_fds[i] = 0;
		}
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *ret)
{
	struct domain *d = userdata;
	const sd_bus_error *e = sd_bus_message_get_error(m);

	service_forget(d);
	if (!e) {
		/* Whether it then starts is told by its monitor: it ends when nobody has the descriptor any more. */
		if (d->why.error != VIREO_OK)
			service_kill(d);
		return 0;
	}
	if (sd_bus_message_get_errno(m) == ETIMEDOUT) {
		/* It may be started yet, so nothing else is. What comes of it ends with its monitor's connection. */
		domain_start_lost(d, "systemd does not answer");
		return 0;
	}
	log_warning("systemd does not run domain '%s' (%s): it becomes a process of this service.", domain_name(d),
		e->message ? e->message : e->name);
	/* The connection stays: others wait for their answers. */
	d->c->no_services = true;
	free(TAKE(d->unit));
	domain_spawn_again(d);
	return 0;
}

struct service {
	const char *unit, *description;
	char *const *argv;
	const char *environment; /* one more; NULL: none */
	int in, out, error;
};

static int append(sd_bus_message *m, const struct service *s)
{
	int r = sd_bus_message_append(m, "ss", s->unit, "fail");

	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s", s->description, "Type", "s",
			"exec", "CollectMode", "s", "inactive-or-failed", "Slice", "s", "machine.slice", "UMask", "u", 0077,
			"StandardInputFileDescriptor", "h", s->in, "StandardOutputFileDescriptor", "h", s->out,
			"StandardErrorFileDescriptor", "h", s->error, "Environment", "as",
			/* systemd refuses a variable that stands there twice */
			s->environment ? 2 : 1, "LC_ALL=C", s->environment);
	/* ExecStart would replace what looks like a variable in our arguments. */
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'r', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "ExecStartEx");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "a(sasas)");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(sasas)");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'r', "sasas");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", s->argv[0]);
	if (r >= 0)
		r = sd_bus_message_append_strv(m, (char **)s->argv);
	if (r >= 0)
		r = sd_bus_message_append(m, "as", 1, "no-env-expand");
	for (int i = 0; i < 4 && r >= 0; i++)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_append(m, "a(sa(sv))", 0);
	return r;
}

/* @slot: NULL: nobody waits for the answer. */
static int ask(struct domain *d, const struct service *s, sd_bus_slot **slot, sd_bus_message_handler_t fn)
{
	sd_bus_message *m = NULL;
	int r = sd_bus_message_new_method_call(d->c->systemd, &m, SYSTEMD, "StartTransientUnit");

	if (r >= 0)
		r = append(m, s);
	if (r >= 0)
		r = sd_bus_call_async(d->c->systemd, slot, m, fn, d, ANSWER_PATIENCE);
	sd_bus_message_unref(m);
	return r < 0 ? r : 0;
}

/* "vireo-UUID-RUN.service"; of its TPM "vireo-UUID-RUN-tpm.service". Owned; NULL: no memory. */
static char *unit_name(const struct domain *d, const char *suffix)
{
	char uuid[SD_ID128_UUID_STRING_MAX], *name;

	return asprintf(&name, "vireo-%s-%d%s.service", sd_id128_to_uuid_string(d->uuid, uuid), d->run, suffix) < 0 ? NULL : name;
}

int service_start(struct domain *d, char *const *argv, int listener, int lock, int log)
{
	struct service s = {.description = domain_name(d), .argv = argv, .in = lock, .out = listener, .error = log};
	int r;

	free(TAKE(d->unit));
	s.unit = d->unit = unit_name(d, "");
	r = d->unit ? ask(d, &s, &d->service_call, on_answer) : -ENOMEM;
	if (r < 0) {
		free(TAKE(d->unit));
		return r;
	}
	/* Ours stay open until systemd has its own: their end would be taken for QEMU's. */
	d->service_fds[0] = listener;
	d->service_fds[1] = lock;
	d->service_fds[2] = log;
	return 0;
}

int service_start_tpm(struct domain *d, char *const *argv, char *environment, int listener, int lock, int log)
{
	_cleanup_(freep) char *unit = unit_name(d, "-tpm"), *description = NULL;
	struct service s = {.argv = argv, .environment = environment, .in = listener, .out = lock, .error = log};

	if (!unit || asprintf(&description, "TPM of %s", domain_name(d)) < 0) {
		description = NULL;
		return -ENOMEM;
	}
	s.unit = unit;
	s.description = description;
	/* Where systemd refuses, it refuses QEMU too; where the TPM ends at once, QEMU finds nobody at its socket. */
	return ask(d, &s, NULL, NULL);
}

static void kill_unit(struct domain *d, const char *unit)
{
	(void)sd_bus_call_method_async(d->c->systemd, NULL, SYSTEMD, "KillUnit", NULL, NULL, "ssi", unit, "all", SIGKILL);
	(void)sd_bus_call_method_async(d->c->systemd, NULL, SYSTEMD, "StopUnit", NULL, NULL, "ss", unit, "fail");
}

void service_kill(struct domain *d)
{
	if (d->unit && d->c->systemd)
		kill_unit(d, d->unit);
}
