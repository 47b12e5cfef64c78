/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <libxml/parser.h>

#include "json.h"
#include "server.h"
#include "sim-driver.h"
#include "uri.h"

/*
 * vireo-sim - a simulated hypervisor as a process of its own, which goes on existing when the broker does not.
 */

static void usage(FILE *f)
{
	fputs("Usage: vireo-sim --socket=PATH [--truth=FILE] [--die-with-parent] [SCENARIO.json | sim:URI]\n"
	      "\n"
	      "A simulated hypervisor that drivers (sim:PATH) and testers (a line of JSON a request) reach by a socket.\n"
	      "\n"
	      "  --socket=PATH      listen there\n"
	      "  --truth=FILE       begin with what FILE holds, if it is there, and write what there is to it at the end\n"
	      "  --die-with-parent  end when the process that started this one ends\n"
	      "  --help             this text\n"
	      "\n"
	      "Says \"ready\" on standard output once it can be reached. Ends on SIGTERM or SIGINT. See doc/sim.md.\n",
	      f);
}

static int load(struct sim_world *w, const char *what, const char *truth, struct failure *f)
{
	int r;

	if (truth && access(truth, F_OK) == 0) {
		r = sim_scenario_load(w, truth, f);
		if (r != 0)
			return r;
	}
	return what ? sim_scenario_load(w, what, f) : 0;
}

/* Written beside and moved, so that a kill leaves the old one whole. */
static int save(struct sim_world *w, const char *path)
{
	_cleanup_(freep) char *beside = sim_printf("%s.new", path);
	struct json_object *j;
	int r;

	pthread_mutex_lock(&w->lock);
	j = sim_truth_to_json(&w->truth);
	pthread_mutex_unlock(&w->lock);
	r = json_object_to_file_ext(beside, j, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	json_object_put(j);
	if (r < 0 || rename(beside, path) < 0) {
		fprintf(stderr, "vireo-sim: %s: it cannot be written: %m\n", path);
		return -EIO;
	}
	return 0;
}

static int new_world(const char *what, const char *truth, const char *socket_path, struct sim_world **ret,
		     struct failure *f)
{
	_cleanup_(freep) char *key = NULL;
	struct sim_world *w;
	sd_id128_t id;
	int r;

	if (what && strncmp(what, "sim:", 4) == 0) {
		struct sim_uri u = {};

		r = sim_uri_parse(what, &u, f);
		if (r != 0)
			return r;
		if (truth || u.control || sim_uri_is_socket(&u)) {
			sim_uri_done(&u);
			return failure_set(f, VIREO_INVALID_URI,
					   "%s: with --socket, neither --truth nor control= nor another socket has a meaning.",
					   what);
		}
		u.control = sim_strdup(socket_path);
		r = sim_uri_world(what, &u, ret, f);
		sim_uri_done(&u);
		return r;
	}
	/* each process is a hypervisor of its own, also with the same scenario */
	if (sd_id128_randomize(&id) < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "There is no random number.");
	key = sim_printf("%s:%016llx", socket_path, (unsigned long long)id.qwords[0]);
	w = sim_world_new(key);
	r = load(w, what, truth, f);
	if (r == 0)
		r = sim_server_new(w, socket_path, &w->server, f);
	if (r != 0) {
		sim_world_free(w);
		return r;
	}
	r = sim_world_start(w);
	if (r < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "No thread: %s.", strerrordesc_np(-r));
	*ret = w;
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"truth", required_argument, NULL, 't'},
		{"die-with-parent", no_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{},
	};
	const char *socket_path = NULL, *truth = NULL;
	struct sim_world *w = NULL;
	struct failure f = {};
	sigset_t signals;
	int c, r, signal_number;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			socket_path = optarg;
			break;
		case 't':
			truth = optarg;
			break;
		case 'd':
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (!socket_path || argc - optind > 1) {
		usage(stderr);
		return 2;
	}
	xmlInitParser();
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	/* before the first thread, which inherits it */
	sigprocmask(SIG_BLOCK, &signals, NULL);

	r = new_world(argv[optind], truth, socket_path, &w, &f);
	if (r != 0) {
		fprintf(stderr, "vireo-sim: %s\n", f.message ? f.message : strerrordesc_np(-r));
		failure_clear(&f);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	sigwait(&signals, &signal_number);
	r = truth ? save(w, truth) : 0;
	pthread_mutex_lock(&w->lock);
	sim_sessions_disconnect(w, "simulated: the hypervisor has ended");
	pthread_mutex_unlock(&w->lock);
	sim_world_release(w);
	unlink(socket_path);
	sim_shutdown(USEC_PER_SEC);
	return r == 0 ? 0 : 1;
}
