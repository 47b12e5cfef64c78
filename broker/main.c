/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <argp.h>
#include <errno.h>
#include <grp.h>
#include <libxml/parser.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "broker.h"
#include "config.h"
#include "config-build.h"
#include "introspection/bus.h"
#include "introspection/names.h"
#include "util/log.h"
#include "util/workers.h"

/*
 * vireod. The one file that tests don't link: it puts the parts together, and run() is its table of contents.
 */

/* The name is taken when every hypervisor was listed, or after this, whichever is earlier. */
#define READY_LIMIT (5 * USEC_PER_SEC)
#define LAST_WORDS (1 * USEC_PER_SEC)
#define BUS_RETRY_FIRST (200 * USEC_PER_MSEC)
#define BUS_RETRY_MAX (10 * USEC_PER_SEC)
/* A session bus that stays away for so long was that of a session which is over. */
#define SESSION_OVER (10 * USEC_PER_SEC)

enum bus_kind { BUS_UNSET, BUS_SYSTEM, BUS_SESSION, BUS_ADDRESS };

struct daemon {
	/* the command line */
	enum bus_kind bus_kind;
	const char *address, *state_directory, *config_file;
	const char *connect[256];
	size_t n_connect;
	bool list_drivers;

	struct config config;
	struct face_view *views; /* of the configuration */
	size_t n_views;
	sd_event *event;
	struct clock *clock;
	struct broker *broker;
	sd_bus *bus;
	struct face *face;
	bool ready, named, told;
	struct timer ready_timer, bus_timer, idle_timer;
	uint64_t bus_delay, bus_lost; /* monotonic µs */
};

/* ---- command line -------------------------------------------------------------------------------------------------- */

const char *argp_program_version = "vireod " VIREO_VERSION;
const char *argp_program_bug_address = NULL;

enum { OPTION_SYSTEM = 256, OPTION_SESSION, OPTION_ADDRESS, OPTION_CONNECT, OPTION_STATE, OPTION_CONFIG, OPTION_DRIVERS,
       OPTION_LOG_LEVEL, OPTION_LOG_TARGET };

static const struct argp_option options[] = {
	{"system", OPTION_SYSTEM, NULL, 0, "Serve on the system bus (the default for root)", 0},
	{"session", OPTION_SESSION, NULL, 0, "Serve on the session bus (the default for everybody else)", 0},
	{"address", OPTION_ADDRESS, "ADDRESS", 0, "Serve on the bus at this D-Bus address", 0},
	{"connect", OPTION_CONNECT, "[LABEL=]URI", 0,
	 "Follow this hypervisor; may be given more than once. Without it: what the configuration names", 1},
	{"state-directory", OPTION_STATE, "DIR", 0, "Keep history in DIR", 2},
	{"config", OPTION_CONFIG, "FILE", 0, "Read FILE instead of " VIREO_CONFIG_FILE, 2},
	{"log-level", OPTION_LOG_LEVEL, "LEVEL", 0, "debug, info, notice, warning, err, crit, alert or emerg", 3},
	{"log-target", OPTION_LOG_TARGET, "TARGET", 0, "auto, console, journal, syslog or null", 3},
	{"list-drivers", OPTION_DRIVERS, NULL, 0, "Say which hypervisors can be followed, and what each can report and do", 4},
	{0},
};

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct daemon *d = state->input;

	switch (key) {
	case OPTION_SYSTEM:
	case OPTION_SESSION:
	case OPTION_ADDRESS:
		if (d->bus_kind != BUS_UNSET)
			argp_error(state, "only one of --system, --session and --address can be given");
		d->bus_kind = key == OPTION_SYSTEM ? BUS_SYSTEM : key == OPTION_SESSION ? BUS_SESSION : BUS_ADDRESS;
		d->address = arg;
		return 0;
	case OPTION_CONNECT:
		if (d->n_connect == ELEMENTS(d->connect))
			argp_error(state, "at most %zu connections can be given", ELEMENTS(d->connect));
		d->connect[d->n_connect++] = arg;
		return 0;
	case OPTION_STATE:
		d->state_directory = arg;
		return 0;
	case OPTION_CONFIG:
		d->config_file = arg;
		return 0;
	case OPTION_DRIVERS:
		d->list_drivers = true;
		return 0;
	case OPTION_LOG_LEVEL:
		if (log_set_level_name(arg) < 0)
			argp_error(state, "“%s” is no log level: debug, info, notice, warning, err, crit, alert, emerg", arg);
		return 0;
	case OPTION_LOG_TARGET:
		if (log_set_target_name(arg) < 0)
			argp_error(state, "“%s” is no log target: auto, console, journal, syslog, null", arg);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "“%s” is not understood: vireod takes options only", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = on_option,
	.doc = "Event broker between hypervisors and D-Bus: serves " VIREO_BUS_NAME ".\v"
	       "Without --connect and without connections in the configuration it follows qemu:///system on the system bus, "
	       "qemu:///session elsewhere. test:///default and sim:///demo need nothing installed.",
};

/* ---- configuration ------------------------------------------------------------------------------------------------- */

static int fail(const struct failure *f, int r, const char *what)
{
	if (f->message)
		log_error("%s: %s", what, f->message);
	else
		log_error("%s: %s", what, r < 0 ? strerror(-r) : "failed");
	return EXIT_FAILURE;
}

/* $XDG_STATE_HOME/vireo, or ~/.local/state/vireo; of an own bus too. Owned by the caller; NULL: there is none. */
static char *user_state_directory(void)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char *path = NULL;

	if (xdg && xdg[0] == '/')
		return asprintf(&path, "%s/vireo", xdg) < 0 ? NULL : path;
	if (home && home[0] == '/')
		return asprintf(&path, "%s/.local/state/vireo", home) < 0 ? NULL : path;
	return NULL;
}

static int make_directories(const char *path)
{
	_cleanup_(freep) char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1;; p++) {
		char c = *p;

		if (c != '/' && c != 0)
			continue;
		*p = 0;
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = c;
		if (!c)
			return 0;
	}
}

/* Once, at the start: asking for a group may take its time. */
static int find_groups(struct daemon *d)
{
	d->views = calloc(d->config.n_views + 1, sizeof(*d->views));
	if (!d->views)
		return -ENOMEM;
	for (size_t i = 0; i < d->config.n_views; i++) {
		const struct config_view *v = &d->config.views[i];
		const struct group *g = getgrnam(v->group);

		if (!g) {
			log_warning("[view %s]: there is no group of that name; nobody sees anything by it", v->group);
			continue;
		}
		d->views[d->n_views].gid = g->gr_gid;
		for (size_t k = 0; k < ELEMENTS(v->patterns); k++)
			d->views[d->n_views].patterns[k] = (const char *const *)v->patterns[k];
		d->n_views++;
	}
	return 0;
}

static int configure(struct daemon *d)
{
	struct failure f = {0};
	int r;

	d->config.broadcast = true;
	r = config_read(&d->config, d->config_file ? d->config_file : VIREO_CONFIG_FILE, d->config_file != NULL, &f);
	if (r != 0)
		goto fail;
	/* The command line replaces what the file names. */
	for (size_t i = 0; i < d->config.n_connections && d->n_connect > 0; i++) {
		free(d->config.connections[i].label);
		free(d->config.connections[i].uri);
	}
	if (d->n_connect > 0)
		d->config.n_connections = 0;
	for (size_t i = 0; i < d->n_connect && r == 0; i++)
		r = config_add_connection(&d->config, d->connect[i], &f);
	if (r == 0 && d->config.n_connections == 0)
		r = config_add_connection(&d->config, d->bus_kind == BUS_SYSTEM ? "qemu:///system" : "qemu:///session", &f);
	if (r != 0)
		goto fail;
	if (d->state_directory) {
		free(d->config.state_directory);
		d->config.state_directory = strdup(d->state_directory);
	}
	if (!d->config.state_directory)
		d->config.state_directory = d->bus_kind == BUS_SYSTEM ? strdup(VIREO_STATE_DIRECTORY) : user_state_directory();
	if (!d->config.state_directory) {
		failure_set(&f, VIREO_INVALID_OPTION,
			    "neither XDG_STATE_HOME nor HOME says where to keep state: give --state-directory=DIR");
		goto fail;
	}
	r = make_directories(d->config.state_directory);
	if (r < 0) {
		failure_set(&f, VIREO_OPERATION_FAILED,
			    "cannot make the state directory %s: %s. Make it writable for this user, or give --state-directory=DIR",
			    d->config.state_directory, strerror(-r));
		goto fail;
	}
	d->config.broker.history.directory = d->config.state_directory;
	d->config.broker.no_same_as = !d->config.broadcast;
	r = find_groups(d);
	if (r < 0)
		goto fail;
	return 0;
fail:
	fail(&f, r, "configuration");
	failure_clear(&f);
	return EXIT_FAILURE;
}

/* ---- the bus ------------------------------------------------------------------------------------------------------- */

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

static void drop_bus(struct daemon *d)
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

static int open_bus(struct daemon *d)
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

static const char *bus_hint(const struct daemon *d)
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
		d->bus_delay = BUS_RETRY_FIRST;
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

static int follow(struct daemon *d)
{
	struct failure f = {0};
	bool any = false;

	for (size_t i = 0; i < d->config.n_connections; i++) {
		const struct config_connection *c = &d->config.connections[i];
		struct object *o;
		int r = broker_open(d->broker, c->label, c->uri, &o, &f);

		if (r != 0) {
			fail(&f, r, c->label ? c->label : "--connect");
			failure_clear(&f);
			return EXIT_FAILURE;
		}
		any = true;
	}
	if (!any)
		log_warning("no hypervisor is named: nothing is followed until somebody calls Open");
	broker_forget_unopened(d->broker);
	timer_in(d->clock, &d->ready_timer, READY_LIMIT, on_ready_limit, d);
	broker_on_ready(d->broker, on_ready, d);
	return 0;
}

/* ---- idle ---------------------------------------------------------------------------------------------------------- */

/* Something runs that a client began, or somebody listens. */
static bool is_busy(struct daemon *d)
{
	struct object *o;

	if (!d->face || face_is_busy(d->face))
		return true;
	for (o = broker_first(d->broker, KIND_JOB); o; o = o->next)
		if (strcmp(o->props->v[JOB_STATE].s, "running") == 0)
			return true;
	return false;
}

static void on_idle(struct timer *t, void *userdata)
{
	struct daemon *d = userdata;

	if (is_busy(d)) {
		timer_in(d->clock, t, d->config.idle_exit, on_idle, d);
		return;
	}
	log_info("idle; the bus starts vireod again when it is needed");
	(void)sd_event_exit(d->event, EXIT_SUCCESS);
}

/* ---- run ----------------------------------------------------------------------------------------------------------- */

static int prepare_process(struct daemon *d)
{
	sigset_t signals;
	struct rlimit limit;
	int r;

	/* A stream is a descriptor: as many as the hard limit allows. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	umask(0077);
	/* What workers allocate the loop frees: an arena for each thread would keep most of that for nothing. */
	mallopt(M_ARENA_MAX, 2);
	xmlInitParser(); /* before there are threads */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	r = sd_event_default(&d->event);
	if (r >= 0)
		r = sd_event_add_signal(d->event, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(d->event, NULL, SIGINT, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(d->event, NULL, SIGHUP, NULL, NULL);
	if (r >= 0)
		r = sd_event_set_watchdog(d->event, true);
	if (r >= 0)
		r = clock_new(d->event, &d->clock);
	if (r < 0) {
		log_error("cannot set up the event loop: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	return 0;
}

static int start(struct daemon *d)
{
	struct failure f = {0};
	int r;

	r = broker_new(&d->config.broker, d->event, d->clock, &d->broker, &f);
	if (r != 0) {
		fail(&f, r, d->config.state_directory);
		failure_clear(&f);
		return EXIT_FAILURE;
	}
	/* A bus that isn't there at the start is a mistake to be told; one that goes later is waited for. */
	d->bus_delay = BUS_RETRY_FIRST;
	r = open_bus(d);
	if (r < 0) {
		log_error("cannot connect to the bus: %s; %s", strerror(-r), bus_hint(d));
		return EXIT_FAILURE;
	}
	return follow(d);
}

/* What was said last shall be heard; but a bus that takes nothing must not keep us from ending. */
static void say_the_rest(sd_bus *bus, struct clock *clock)
{
	uint64_t n, began, now;

	began = clock_monotonic(clock);
	while (sd_bus_get_n_queued_write(bus, &n) >= 0 && n > 0 && (now = clock_monotonic(clock)) - began < LAST_WORDS)
		if (sd_bus_process(bus, NULL) <= 0 && sd_bus_wait(bus, LAST_WORDS - (now - began)) < 0)
			break;
}

/* A clean end for those who can: a thread in a call that hangs is not waited for longer than a moment. */
static void stop(struct daemon *d)
{
	(void)sd_notify(false, "STOPPING=1");
	timer_clear(&d->ready_timer);
	timer_clear(&d->bus_timer);
	timer_clear(&d->idle_timer);
	if (d->bus)
		say_the_rest(d->bus, d->clock);
	drop_bus(d);
	broker_free(TAKE(d->broker));
	clock_free(TAKE(d->clock));
	d->event = sd_event_unref(d->event);
	free(TAKE(d->views));
	config_clear(&d->config);
}

static int run(struct daemon *d)
{
	int r;

	if (d->list_drivers) {
		_cleanup_(freep) char *text = registry_describe();

		return !text || fputs(text, stdout) == EOF || fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	r = prepare_process(d);
	if (r == 0)
		r = configure(d);
	if (r == 0)
		r = start(d);
	if (r == 0) {
		if (d->config.idle_exit)
			timer_in(d->clock, &d->idle_timer, d->config.idle_exit, on_idle, d);
		r = sd_event_loop(d->event);
		if (r < 0)
			log_error("the event loop failed: %s", strerror(-r));
	}
	stop(d);
	return r < 0 ? EXIT_FAILURE : r;
}

int main(int argc, char **argv)
{
	static struct daemon d;
	int r;

	setlocale(LC_ALL, "");
	argp_parse(&argp, argc, argv, 0, NULL, &d);
	if (d.bus_kind == BUS_UNSET)
		d.bus_kind = geteuid() == 0 ? BUS_SYSTEM : BUS_SESSION;
	registry_add_builtin();
	r = run(&d);
	/* Threads that still hang in a hypervisor's library must not run into our destructors. */
	if (workers_wait_all(2 * USEC_PER_SEC) < 0)
		_exit(r);
	xmlCleanupParser();
	return r;
}
