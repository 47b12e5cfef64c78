/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drivers/driver.h"
#include "drivers/sim/world.h"

/*
 * A connection of the sim driver without a broker: its reports are written down, one word each, and kept.
 *
 * The trace: "Started(booted)[running]!" is a cause, its reason, the state that was seen ("gone", "failed", "-" for no
 * look, "active" "inactive" of pools and networks) and ! for a settled look. Without a cause it is "look[…]". An answer to
 * an operation is "ok" or "error:InvalidState"; a progress "progress".
 */
struct sim_kit;

struct sim_kit *kit_open(const char *uri);
/* A scenario's text, from a file of its own. */
struct sim_kit *kit_open_scenario(const char *json);
void kit_close(struct sim_kit *k);
/* The same world again, after a goodbye. */
void kit_reconnect(struct sim_kit *k);

struct driver_connection *kit_connection(struct sim_kit *k);
struct sim_world *kit_world(struct sim_kit *k);

/* Runs the loop until it says so; fails the test after a generous while. */
void kit_until(struct sim_kit *k, bool (*fn)(struct sim_kit *k, void *data), void *data);
void kit_until_hello(struct sim_kit *k);
void kit_until_goodbye(struct sim_kit *k);
/* Runs the loop for a moment, and fails if a report comes. */
void kit_expect_silence(struct sim_kit *k);

/* Steps as JSON ("[{…}]", or one "{…}"), run to their end while the loop goes on. Returns the error's name, "" if none. */
const char *kit_steps(struct sim_kit *k, const char *steps);
/* Likewise, but doesn't wait. */
void kit_steps_begin(struct sim_kit *k, const char *steps);
/* Until all that was caused has been delivered. */
void kit_settle(struct sim_kit *k);

/* Since the last kit_clear(). Borrowed. */
const char *kit_trace(struct sim_kit *k);
void kit_clear(struct sim_kit *k);
/* Observations are only counted from now on, or kept again. */
void kit_discard(struct sim_kit *k, bool discard);
size_t kit_discarded(struct sim_kit *k);
size_t kit_count(struct sim_kit *k);
const struct report *kit_report(struct sim_kit *k, size_t i); /* of those since the last kit_clear() */
const struct hello *kit_hello(struct sim_kit *k);
const char *kit_goodbye(struct sim_kit *k); /* NULL: it has not come */

/* Lists, and waits for the end: the trace has only the listing then. Returns its LISTED. */
const struct listed *kit_list(struct sim_kit *k);
/* Carries out; waits for the answer. */
const struct result *kit_operate(struct sim_kit *k, enum operation op, const char *name, const char *text);
const struct result *kit_operate_request(struct sim_kit *k, struct request *r);
/* Fills a request for the object of this name, as the truth has it. */
struct request *kit_request(struct sim_kit *k, enum operation op, const char *name, const char *text);
uint64_t kit_begin(struct sim_kit *k, struct request *r); /* its token */
const struct result *kit_result(struct sim_kit *k, uint64_t token); /* waits */
const struct observation *kit_look(struct sim_kit *k, enum kind kind, sd_id128_t uuid); /* waits */

sd_id128_t kit_uuid(struct sim_kit *k, enum kind kind, const char *name);
/* What the driver last said of each object equals the truth, and nothing else is known; fails the test when not. */
void kit_assert_listed_truth(struct sim_kit *k);
