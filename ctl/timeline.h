/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "follow.h"
#include "term.h"

/* The lives of domains over a span of time, as read from history; and two ways to draw them. */

enum life { LIFE_NONE, LIFE_OFF, LIFE_RUNNING, LIFE_PAUSED, LIFE_CRASHED, LIFE_UNKNOWN, LIFE_MAX };

struct span {
	uint64_t from, to; /* µs since 1970 */
	enum life life;
};

/* Something that happened at one moment and did not change the state, or that a state does not show. */
enum mark_kind { MARK_REBOOT, MARK_TROUBLE, MARK_INFERRED, MARK_MAX };
struct mark {
	uint64_t time;
	enum mark_kind kind;
	char text[64];
};

struct job_span {
	char *path, *operation;
	uint64_t from, to;
	enum { JOB_RUNNING, JOB_COMPLETED, JOB_FAILED, JOB_CANCELLED } state;
};

struct lane {
	char *path, *label, *name;
	enum life life; /* as of the last event that was read */
	bool started;	/* the first event was read: life means something */
	uint64_t added; /* when its last incarnation began; 0: before */
	struct span *spans;
	struct mark *marks;
	struct job_span *jobs;
	size_t n_spans, n_marks, n_jobs;
};

/* A connection: when it was not followed. */
struct followed {
	char *label;
	struct span *gaps;
	uint64_t *restarts; /* of the broker */
	size_t n_gaps, n_restarts;
	uint64_t lost; /* since then; 0: it is followed */
};

struct timeline {
	struct ctl *c;
	struct follower f;
	uint64_t from, to, begin; /* begin: of what history tells */
	char **names;
	int n_names;
	struct lane **lanes;
	json_object *index; /* path → which lane; while reading */
	struct followed *followed;
	size_t n_lanes, n_followed;
	bool several; /* connections */
};

/* The connection of a lane; NULL: nothing happened to it. */
const struct followed *timeline_followed(const struct timeline *t, const struct lane *l);
/* What is drawn of a lane, gaps included: pieces without holes from the beginning to the end. */
size_t lane_pieces(const struct timeline *t, const struct lane *l, struct span **ret);
/* How much of its time it was active, 0 to 1; negative: it was never seen. */
double lane_share(const struct timeline *t, const struct lane *l);
/* Jobs worth a line: long, failed, or such that the state does not tell of. */
bool job_is_notable(const struct timeline *t, const struct job_span *j);

extern const char *const life_words[LIFE_MAX];

/* Distance of two ticks, so that no more than so many fit. */
uint64_t axis_step(uint64_t span, unsigned most);
/* The first tick at or after a time. */
uint64_t axis_first(uint64_t from, uint64_t step);
void axis_label(char *buffer, size_t n, uint64_t time, uint64_t step);

int timeline_print(struct timeline *t, unsigned columns);
int timeline_svg(struct timeline *t, FILE *f, unsigned width);
