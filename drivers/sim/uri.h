/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/* A URI of this driver, doc/sim.md, taken apart. */
struct sim_uri {
	char *name;  /* built-in: "demo" "empty"; NULL: there is a path */
	char *path;  /* a scenario, or the socket of a vireo-sim */
	char *world; /* name that several URIs may share; NULL: each URI is its own */
	char *control;
	uint64_t domains, pools, networks, xml_size, seed;
	double running; /* share of them */
	bool storm, flood;
	uint64_t rate, count;
	double churn;
	uint64_t guest_delay; /* ms; UINT64_MAX: as it is */
	struct sim_faults faults;
};

/* Text only. Return: 0, or VIREO_INVALID_URI with what was expected where. */
int sim_uri_parse(const char *uri, struct sim_uri *ret, struct failure *f);
void sim_uri_done(struct sim_uri *u);
/* Does it mean a vireo-sim's socket, rather than a scenario? Looks at the file. */
bool sim_uri_is_socket(const struct sim_uri *u);
/* The world that it means: found, or made and begun; with a hold. */
int sim_uri_world(const char *uri, const struct sim_uri *u, struct sim_world **ret, struct failure *f);

extern const char sim_demo[]; /* the scenario of sim:///demo */
