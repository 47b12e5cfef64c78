/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon.h"

#include <malloc.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "introspection/names.h"
#include "util/log.h"

/* vireod on its bus: how it takes its name, what it does when the bus goes, and when it ends because nobody needs it. */

/* The name is taken when every hypervisor was listed, or after this, whichever is earlier. */
#define READY_LIMIT (5 * USEC_PER_SEC)
#define BUS_RETRY_FIRST (200 * USEC_PER_MSEC)
#define BUS_RETRY_MAX (10 * USEC_PER_SEC)
/* A session bus that stays away for so long was that of a session which is over. */
#define SESSION_OVER (10 * USEC_PER_SEC)

static void try_bus(struct daemon *d);

static void tell_ready(struct daemon *d)
{
	if (d->told)
		return;
	d->told = true;
	(void)sd_notifyf(false, "READY=1\nSTATUS=Following %zu hypervisors, %zu domains",
			 broker_count(d->broker, KIND_CONNECTION), broker_count(d->broker, KIND_DOMAIN));
}

static int on_name(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct daemon *d = userdata;
	uint32_t code;

	if (sd_bus_message_is_method_error(m, NULL)) {
		const sd_bus_error *e = sd_bus_message_get_error(m);

		log_error("cannot get the name %s on the bus: %s", VIREO_BUS_NAME, e->message);
		if (sd_bus_error_has_name(e, SD_BUS_ERROR_ACCESS_DENIED))
			log_error("the bus allows it only to the user that its policy names; "
				  "is the policy file org.vireo1.conf installed, and does this run as that user?");
		return sd_event_exit(d->event, EXIT_FAILURE);
	}
	if (sd_bus_message_read(m, "u", &code) < 0 || (code != 1 && code != 4)) {
		log_error("another vireod serves %s on this bus already; stop that one first, or serve on another bus "
			  "with --address", VIREO_BUS_NAME);
		return sd_event_exit(d->event, EXIT_FAILURE);
	}
	d->named = true;
	tell_ready(d);
	return 0;
}

static void take_name(struct daemon *d)
{
	int r;

	if (!d->ready || !d->bus)
		return;
	/* DO_NOT_QUEUE: two brokers at work on one bus would tell two stories. */
	r = sd_bus_request_name_async(d->bus, NULL, VIREO_BUS_NAME, 0, on_name, d);
	if (r < 0) {
		log_error("cannot ask for the name %s: %s", VIREO_BUS_NAME, strerror(-r));
		(void)sd_event_exit(d->event, EXIT_FAILURE);
	}
}

void drop_bus(struct daemon *d)
{
	face_free(TAKE(d->face));
	if (d->bus) {
		(void)sd_bus_detach_event(d->bus);
		d->bus = sd_bus_close_unref(d->bus);
	}
	d->named = false;
}

static void on_bus_timer(struct timer *t, void *userdata)
{
	try_bus(userdata);
}

/*
 * One that outlives its session would keep the state directory from the next. A bus that starts vireod when it is called
 * needs nobody to wait for it.
 */
static bool session_is_over(const struct daemon *d)
{
	return d->bus_kind == BUS_SESSION &&
	       (getenv("DBUS_STARTER_BUS_TYPE") || clock_monotonic(d->clock) - d->bus_lost >= SESSION_OVER);
}

static void retry_bus(struct daemon *d)
{
	drop_bus(d);
	if (d->bus_delay == 0)
		d->bus_delay = BUS_RETRY_FIRST;
	if (session_is_over(d)) {
		log_notice("the session bus is gone, and with it the session");
		(void)sd_event_exit(d->event, EXIT_SUCCESS);
		return;
	}
	timer_in(d->clock, &d->bus_timer, d->bus_delay, on_bus_timer, d);
	d->bus_delay = d->bus_delay * 2 < BUS_RETRY_MAX ? d->bus_delay * 2 : BUS_RETRY_MAX;
}

static void on_bus_lost_later(struct timer *t, void *userdata)
{
	retry_bus(userdata);
}

static int on_bus_lost(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct daemon *d = userdata;

	log_notice("the bus is gone; hypervisors are followed on, and the name is taken again when it comes back");
	d->bus_lost = clock_monotonic(d->clock);
	/* Not from inside its own callback. */
	timer_in(d->clock, &d->bus_timer, 0, on_bus_lost_later, d);
	return 0;
}

int open_bus(struct daemon *d)
{
	_cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
	const char *address = d->address;
	int r;

	if (d->bus_kind == BUS_SYSTEM)
		r = sd_bus_open_system_with_description(&bus, "vireo");
	else if (d->bus_kind == BUS_SESSION)
		r = sd_bus_open_user_with_description(&bus, "vireo");
	else {
		r = sd_bus_new(&bus);
		if (r >= 0)
			r = sd_bus_set_address(bus, address);
		if (r >= 0)
			r = sd_bus_set_bus_client(bus, true);
		if (r >= 0)
			r = sd_bus_set_description(bus, "vireo");
		if (r >= 0)
			r = sd_bus_negotiate_fds(bus, true);
		if (r >= 0)
			r = sd_bus_negotiate_creds(bus, true, SD_BUS_CREDS_EUID | SD_BUS_CREDS_PID);
		if (r >= 0)
			r = sd_bus_start(bus);
	}
	if (r >= 0)
		r = sd_bus_match_signal_async(bus, NULL, "org.freedesktop.DBus.Local", "/org/freedesktop/DBus/Local",
					      "org.freedesktop.DBus.Local", "Disconnected", on_bus_lost, NULL, d);
	/* At the end of the loop sd-bus would wait for ever until all is sent: stop() does that, within bounds. */
	if (r >= 0)
		r = sd_bus_set_close_on_exit(bus, false);
	if (r >= 0)
		r = sd_bus_attach_event(bus, d->event, SD_EVENT_PRIORITY_NORMAL);
	if (r >= 0) {
		struct face_config config = {
			.private_signals = !d->config.broadcast,
			.policy = d->bus_kind == BUS_SYSTEM ? FACE_POLICY_POLKIT : FACE_POLICY_OWNER,
			.views = d->views,
			.n_views = d->n_views,
			.limits = {
				.streams = (unsigned)d->config.max_streams,
				.polls = (unsigned)d->config.max_polls,
				.questions = (unsigned)d->config.max_questions,
				.jobs = (unsigned)d->config.max_jobs,
				.bytes = d->config.max_bytes,
			},
		};

		r = face_new(d->broker, bus, &config, &d->face);
	}
	if (r < 0)
		return r;
	d->bus = TAKE(bus);
	return 0;
}

const char *bus_hint(const struct daemon *d)
{
	switch (d->bus_kind) {
	case BUS_SYSTEM:
		return "is the system bus running (/run/dbus/system_bus_socket)?";
	case BUS_SESSION:
		return "is there a session bus (DBUS_SESSION_BUS_ADDRESS)? A private one: dbus-run-session -- vireod --session";
	default:
		return "is that the address of a running bus?";
	}
}

static void try_bus(struct daemon *d)
{
	int r = open_bus(d);

	if (r >= 0) {
		d->bus_delay = 0;
		take_name(d);
		return;
	}
	log_debug("the bus cannot be reached: %s", strerror(-r));
	retry_bus(d);
}

/* ---- ready --------------------------------------------------------------------------------------------------------- */

static void become_ready(struct daemon *d)
{
	if (d->ready)
		return;
	d->ready = true;
	/* What the first listing needed for a moment is not needed again soon. */
	malloc_trim(0);
	timer_clear(&d->ready_timer);
	take_name(d);
}

static void on_ready(void *userdata)
{
	become_ready(userdata);
}

static void on_ready_limit(struct timer *t, void *userdata)
{
	struct daemon *d = userdata;

	log_info("not every hypervisor has answered yet; serving what is known");
	become_ready(d);
}

void await_ready(struct daemon *d)
{
	timer_in(d->clock, &d->ready_timer, READY_LIMIT, on_ready_limit, d);
	broker_on_ready(d->broker, on_ready, d);
}

/* ---- idle ---------------------------------------------------------------------------------------------------------- */

/* Something runs that a client began, or somebody listens. */
static bool is_busy(struct daemon *d)
{
	struct object *o;

	if (!d->face || !d->named || face_is_busy(d->face))
		return true;
	for (o = broker_first(d->broker, KIND_JOB); o; o = o->next)
		if (strcmp(o->props->v[JOB_STATE].s, "running") == 0)
			return true;
	return false;
}

static void on_idle(struct timer *t, void *userdata);

/* What came before the bus took the name away has been dispatched when this is called; what comes after starts a new vireod. */
static int on_released(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct daemon *d = userdata;

	if (d->face && (face_is_busy(d->face) || face_called(d->face) >= d->released)) {
		take_name(d);
		timer_in(d->clock, &d->idle_timer, d->config.idle_exit, on_idle, d);
		return 0;
	}
	log_info("idle; the bus starts vireod again when it is needed");
	return sd_event_exit(d->event, EXIT_SUCCESS);
}

static void on_idle(struct timer *t, void *userdata)
{
	struct daemon *d = userdata;
	uint64_t now = clock_monotonic(d->clock), used = is_busy(d) ? now : face_called(d->face);

	if (used + d->config.idle_exit > now) {
		timer_in(d->clock, t, used + d->config.idle_exit - now, on_idle, d);
		return;
	}
	/* First the name: a call that comes just now shall not be lost. */
	d->named = false;
	d->released = now;
	if (sd_bus_release_name_async(d->bus, NULL, VIREO_BUS_NAME, on_released, d) < 0)
		(void)sd_event_exit(d->event, EXIT_SUCCESS);
}

void watch_idle(struct daemon *d)
{
	if (d->config.idle_exit)
		timer_in(d->clock, &d->idle_timer, d->config.idle_exit, on_idle, d);
}
