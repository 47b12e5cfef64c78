/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "objects.h"

/*
 * A place in the broker's history. Events are JSON: version, previous, kind, object, name, event, reason, timestamp
 * (µs since 1970), inferred, properties, details.
 */
struct follower {
	struct ctl *c;
	char epoch[33];
	uint64_t after;
	unsigned kinds;
	const char *events[32]; /* filter; borrowed */
	size_t n_events;
	const char *object; /* only of this one; NULL: of all */
	json_object *view;  /* path → properties, as of the last listing and the events since */
	json_object *past;  /* the same of some that were removed since */
	bool several;	    /* connections: names get their label in front */
};

/* Where to begin or to end, as a user said it. */
struct moment {
	enum { MOMENT_NONE, MOMENT_VERSION, MOMENT_TIME, MOMENT_OLDEST } what;
	char epoch[33]; /* "": the present one */
	uint64_t version, time;
};

void follower_clear(struct follower *f);
/* Read --kind and --event. */
int follower_filter(struct follower *f);
/* List: fills view, epoch and after. */
int follower_list(struct follower *f);
/* The same without a word: a negative errno and an error. */
int follower_try_list(struct follower *f, sd_bus_error *e);

/*
 * follower_fetch() - the events behind the present place, which moves on
 * @timeout: how long the broker may wait for the first one
 * @max:     at most so many, 0: as many as fit
 * @start:   whether the bus may start a broker that is not running
 *
 * Return: 0, or a negative errno with @e set as far as the bus said something.
 */
int follower_fetch(struct follower *f, uint64_t timeout, uint32_t max, bool start, json_object **ret, bool *more,
		   sd_bus_error *e);
/* Take an event into the view. */
void follower_apply(struct follower *f, json_object *event);

/*
 * follower_before() - what an object was before an event: its properties as of the version that the event names
 *
 * From the view, or else from history. Return: a reference; NULL: it was not there, or nobody knows any more.
 */
json_object *follower_before(struct follower *f, json_object *event);

int moment_parse(const char *option, const char *text, struct moment *ret);
/*
 * Go to a moment: to just before the first event that is not older. Times are looked for by halving, versions are
 * ordered by them as far as the clock was never set back. What lies before the beginning of history becomes that,
 * and is said.
 */
int follower_seek(struct follower *f, const struct moment *m);

/* Does an event concern one of these names or patterns? Those of a job concern what it works on. */
bool event_concerns(struct follower *f, json_object *event, char **names, int n);
/* "web", "qemu_system/web"; of a job that of its object. Into the buffer. */
const char *event_name(struct follower *f, json_object *event, char *buffer, size_t n);
int event_print(struct follower *f, json_object *event);
