/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "sim-kit.h"

/* A sim-kit for tests that write scenarios, steps and options with ' for ". */

/* Greeted; what came so far is forgotten. */
struct sim_kit *house_open(const char *scenario);
/* Runs them; fails the test when they fail. */
void house_steps(struct sim_kit *k, const char *steps);
/* Likewise, but returns the error's name. */
const char *house_try(struct sim_kit *k, const char *steps);
/* @options: JSON, or NULL. */
struct request *house_request(struct sim_kit *k, enum operation op, const char *name, const char *text, const char *text2,
			      uint64_t number, const char *options);
/*
 * The trace without progress and without what the causes' looks saw has to be this. @jobs: also without the events that jobs
 * bring of themselves.
 */
void house_expect(struct sim_kit *k, const char *what, const char *expected, bool jobs);
/* What was told last of how far it is; NULL: nothing. Borrowed. */
const struct progress *house_progress(struct sim_kit *k, uint64_t token);
/* Until something of it is done. */
void house_until_moved(struct sim_kit *k, uint64_t token);
