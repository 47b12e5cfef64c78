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
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "config-build.h"
#include "daemon.h"
#include "introspection/names.h"
#include "util/log.h"
#include "util/workers.h"

/*
 * vireod. It puts the parts together, and run() is its table of contents. Tests link neither this nor serve.c.
 */

#define LAST_WORDS (1 * USEC_PER_SEC)
/* A vireod that ends because it was idle holds the state directory for a moment when the bus starts the next already. */
#define LOCK_WAIT (3 * USEC_PER_SEC)

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

/* ---- hypervisors --------------------------------------------------------------------------------------------------- */

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
	await_ready(d);
	return 0;
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
	for (uint64_t began = clock_monotonic(d->clock);
	     r == VIREO_BUSY && getenv("DBUS_STARTER_BUS_TYPE") && clock_monotonic(d->clock) - began < LOCK_WAIT;) {
		failure_clear(&f);
		usleep(20 * USEC_PER_MSEC);
		r = broker_new(&d->config.broker, d->event, d->clock, &d->broker, &f);
	}
	if (r != 0) {
		fail(&f, r, d->config.state_directory);
		failure_clear(&f);
		return EXIT_FAILURE;
	}
	/* A bus that isn't there at the start is a mistake to be told; one that goes later is waited for. */
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
		watch_idle(d);
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
	/* What is kept and told is the same everywhere: half is 0.5, not 0,5. */
	setlocale(LC_NUMERIC, "C");
	argp_parse(&argp, argc, argv, 0, NULL, &d);
	if (d.bus_kind == BUS_UNSET)
		d.bus_kind = geteuid() == 0 ? BUS_SYSTEM : BUS_SESSION;
	registry_add_builtin();
	r = run(&d);
	/* Threads that still hang in a hypervisor's library must not run into our destructors. */
	if (workers_wait_all(2 * USEC_PER_SEC) < 0)
		_exit(r);
	return r;
}
