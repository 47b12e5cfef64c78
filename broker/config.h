/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "broker.h"

/*
 * What vireod was told: command line over configuration file over defaults. Read once, at the start.
 */
struct config_connection {
	char *label; /* NULL: from the URI */
	char *uri;
};

/* [view GROUP]: what members of a group may see. Lists of glob patterns, NULL-terminated; NULL: none are given. */
struct config_view {
	char *group;
	char **patterns[KIND_JOB]; /* by kind; of connections their labels */
};

struct config {
	struct config_connection *connections;
	size_t n_connections;
	char *state_directory; /* NULL: nothing is kept */
	bool broadcast;	       /* Broadcast=, default yes */
	uint64_t idle_exit;    /* µs; 0: never */
	struct config_view *views;
	size_t n_views;
	/* [limits]; 0: the default */
	uint64_t max_streams, max_polls, max_questions, max_jobs, max_bytes;
	struct broker_config broker;
};

/*
 * config_read() - read a file in INI form, as doc/vireo.conf(5) has it
 * @required: it must exist; else a missing file is as good as an empty one
 *
 * A section, key or value that is not understood is an error that names file, line and what was expected.
 * Return: 0, a positive vireo_error, or -ENOMEM.
 */
int config_read(struct config *c, const char *path, bool required, struct failure *f);

/* "[LABEL=]URI" of --connect. */
int config_add_connection(struct config *c, const char *argument, struct failure *f);
void config_clear(struct config *c);
