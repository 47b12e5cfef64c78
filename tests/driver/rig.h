/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>
#include <uthash.h>

#include "drivers/driver.h"

/*
 * A driver on a bench: it is opened as the broker would, on a queue and a loop of its own, and every report is
 * kept and judged by what drivers/driver.h demands. A breach fails the running test, with the report.
 */

#define RIG_STORY 16

/* What the reports so far say about one object. */
struct rig_object {
	struct {
		sd_id128_t uuid;
		uint64_t kind;
	} key;
	UT_hash_handle hh;
	/* By causes alone, beginning with the first settled look. */
	bool known;
	bool active, persistent, paused;
	bool arriving; /* started elsewhere, or long ago: whether it is paused, the look tells */
	bool moved;    /* it may be undefined here without a word */
	/* By the last look of any sort. */
	enum look look;
	struct seen *seen;
	unsigned causes; /* how many so far */
	char *story[RIG_STORY]; /* the last reports, in words, at n_story % RIG_STORY */
	unsigned n_story;
	char *told; /* the causes since rig_told(), in order: "Suspended(paused) Rebooted" */
};

struct rig_result {
	uint64_t token;
	struct failure failure;
	sd_id128_t uuid;
	enum kind kind;
	char *text;
	size_t n_volumes;
	unsigned times;
	UT_hash_handle hh;
};

/* A job of somebody else's. */
struct rig_foreign {
	uint64_t token;
	bool ended;
	UT_hash_handle hh;
};

struct rig {
	const struct driver *driver;
	sd_event *event;
	struct clock *clock;
	struct queue *queue;
	struct driver_host *host;
	struct driver_connection *connection;
	uint64_t last_serial, last_token;

	unsigned hellos, goodbyes;
	char **events, **operations;
	bool polled;
	char *goodbye;
	struct rig_object *objects;
	struct rig_result *results;
	struct rig_foreign *foreign;
	/* The last listing and look asked for. */
	uint64_t listing;
	unsigned listed, seen_in_listing;
	bool complete[KIND_MAX];
	uint64_t look_serial;
	unsigned looked;
	enum look look;
	bool look_settled;
	unsigned observations, settled;
};

void rig_open(struct rig *r, const char *uri);
/* Closes the driver's connection, which must take no time. */
void rig_close(struct rig *r);
/* close(), and take the bench down. Waits until the driver's threads have ended. */
void rig_free(struct rig *r);

/* cmocka teardown: takes down what a failed test has left, so that the next one can run. */
int rig_teardown(void **state);

/* Turn the loop until the condition holds; fails the test after a minute. */
typedef bool (*rig_condition)(struct rig *r, const void *what);
void rig_until(struct rig *r, rig_condition condition, const void *what, const char *name);
void rig_until_hello(struct rig *r);
/* Lists, and waits for LISTED. */
void rig_list(struct rig *r);
/* Looks, and waits for the one answer. */
enum look rig_look(struct rig *r, enum kind kind, sd_id128_t uuid);

/* Ask for an operation; its token. */
uint64_t rig_ask(struct rig *r, enum operation operation, enum kind kind, sd_id128_t uuid, const char *text, bool flag,
		 struct vdict *options);
/* Wait for its result; borrowed. */
struct rig_result *rig_wait(struct rig *r, uint64_t token);
/* Both, and fail unless it ends with @expect. */
struct rig_result *rig_do(struct rig *r, enum operation operation, enum kind kind, sd_id128_t uuid, const char *text,
			  enum vireo_error expect);

/* What was reported of an object since the last time, in words; owned. Not what comes whenever it likes (jobs, the guest). */
char *rig_told(struct rig *r, enum kind kind, sd_id128_t uuid);
struct rig_object *rig_find(struct rig *r, enum kind kind, sd_id128_t uuid); /* NULL: never heard of */
/* As operate() takes it; @text2 may be NULL, @options are taken. */
uint64_t rig_ask_all(struct rig *r, enum operation operation, enum kind kind, sd_id128_t uuid, const char *text,
		     const char *text2, uint64_t number, struct vdict *options);
bool rig_supports(const struct rig *r, const char *operation);
