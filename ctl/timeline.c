/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "timeline.h"

#include <errno.h>
#include <string.h>

#include "pager.h"
#include "show.h"

/*
 * Reading. An event tells the state after it; the state before the first one is read from the event that it names as
 * its previous, or else follows from what the grammar of events allows.
 */

static void *grow(void *list, size_t n, size_t size)
{
	/* by powers of two: n is how many there are */
	return n & (n - 1) ? list : reallocarray(list, n ? n * 2 : 1, size);
}

/* ---- lanes --------------------------------------------------------------------------------------------------------- */

static struct lane *find_lane(struct timeline *t, const char *path)
{
	json_object *number;

	return t->index && json_object_object_get_ex(t->index, path, &number) ? t->lanes[json_object_get_int64(number)] : NULL;
}

static struct lane *lane_of(struct timeline *t, const char *path, const char *name)
{
	struct lane *l = find_lane(t, path), **more;
	char label[256];

	if (l) {
		/* renamed: by its last name */
		if (*name && strcmp(name, l->name) != 0) {
			free(l->name);
			l->name = text_safe(name);
		}
		return l->name ? l : NULL;
	}
	more = grow(t->lanes, t->n_lanes, sizeof(*more));
	l = calloc(1, sizeof(*l));
	if (!more || !l) {
		t->lanes = more ? more : t->lanes;
		free(l);
		return NULL;
	}
	t->lanes = more;
	l->path = strdup(path);
	l->label = strdup(label_of(path, label, sizeof(label)));
	l->name = text_safe(name);
	if (!t->index)
		t->index = json_object_new_object();
	if (!l->path || !l->label || !l->name || !t->index)
		return NULL;
	json_object_object_add(t->index, path, json_object_new_int64((int64_t)t->n_lanes));
	t->lanes[t->n_lanes++] = l;
	return l;
}

static struct followed *followed_of(struct timeline *t, const char *label)
{
	struct followed *more;

	for (size_t i = 0; i < t->n_followed; i++)
		if (strcmp(t->followed[i].label, label) == 0)
			return &t->followed[i];
	more = grow(t->followed, t->n_followed, sizeof(*more));
	if (!more)
		return NULL;
	t->followed = more;
	more[t->n_followed] = (struct followed){.label = strdup(label)};
	return more[t->n_followed].label ? &more[t->n_followed++] : NULL;
}

static int add_span(struct lane *l, uint64_t from, enum life life)
{
	struct span *last = l->n_spans ? &l->spans[l->n_spans - 1] : NULL, *more;

	if (last && last->life == life)
		return EXIT_OK;
	if (last)
		last->to = from;
	more = grow(l->spans, l->n_spans, sizeof(*more));
	if (!more)
		return out_of_memory();
	l->spans = more;
	more[l->n_spans++] = (struct span){.from = from, .to = UINT64_MAX, .life = life};
	return EXIT_OK;
}

static int add_mark(struct lane *l, uint64_t time, enum mark_kind kind, const char *text, const char *reason)
{
	struct mark *more = grow(l->marks, l->n_marks, sizeof(*more));

	if (!more)
		return out_of_memory();
	l->marks = more;
	more[l->n_marks] = (struct mark){.time = time, .kind = kind};
	(void)snprintf(more[l->n_marks].text, sizeof(more->text), "%s%s%s%s", text, *reason ? " (" : "", reason, *reason ? ")" : "");
	l->n_marks++;
	return EXIT_OK;
}

static enum life life_of(json_object *properties)
{
	const char *state = json_text(properties, "State");

	if (!json_true(properties, "Active"))
		return LIFE_OFF;
	if (strcmp(state, "paused") == 0 || strcmp(state, "pmsuspended") == 0)
		return LIFE_PAUSED;
	if (strcmp(state, "crashed") == 0)
		return LIFE_CRASHED;
	return LIFE_RUNNING;
}

/* ---- before the first event ---------------------------------------------------------------------------------------- */

/* What must have been, for this event to be legal. */
static enum life life_before(const char *event, enum life after)
{
	static const struct {
		const char *event;
		enum life before;
	} table[] = {{"Added", LIFE_NONE}, {"Started", LIFE_OFF}, {"Removed", LIFE_OFF}, {"Resumed", LIFE_PAUSED},
		     {"Suspended", LIFE_RUNNING}, {"PMSuspended", LIFE_RUNNING}, {"Crashed", LIFE_RUNNING},
		     {"Shutdown", LIFE_RUNNING}, {"Stopped", LIFE_RUNNING}};

	for (size_t i = 0; i < ELEMENTS(table); i++)
		if (strcmp(table[i].event, event) == 0)
			return table[i].before;
	return after;
}

static enum life look_before(struct timeline *t, json_object *event, enum life after)
{
	const char *name = json_text(event, "event");
	_cleanup_(json_putp) json_object *properties = NULL;

	if (strcmp(name, "Added") == 0)
		return LIFE_NONE;
	properties = follower_before(&t->f, event);
	if (!properties)
		return life_before(name, after);
	return life_of(properties);
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

static int take_domain(struct timeline *t, json_object *event)
{
	static const struct {
		const char *event;
		enum mark_kind kind;
	} marks[] = {{"Rebooted", MARK_REBOOT}, {"Crashed", MARK_TROUBLE}, {"IOError", MARK_TROUBLE}, {"Watchdog", MARK_TROUBLE},
		     {"ControlError", MARK_TROUBLE}, {"MemoryFailure", MARK_TROUBLE}};
	const char *name = json_text(event, "event"), *reason = json_text(event, "reason");
	uint64_t time = json_number(event, "timestamp");
	json_object *properties = NULL, *details = NULL;
	enum life after;
	struct lane *l;
	int r = EXIT_OK;

	(void)json_object_object_get_ex(event, "properties", &properties);
	(void)json_object_object_get_ex(event, "details", &details);
	after = strcmp(name, "Removed") == 0 ? LIFE_NONE : life_of(properties);
	l = lane_of(t, json_text(event, "object"), json_text(properties, "Name"));
	if (!l)
		return out_of_memory();
	if (!l->started) {
		l->started = true;
		r = add_span(l, 0, l->life = look_before(t, event, after));
	}
	for (size_t i = 0; i < ELEMENTS(marks) && r == EXIT_OK; i++)
		if (strcmp(marks[i].event, name) == 0)
			r = add_mark(l, time, marks[i].kind, name, reason);
	if (strcmp(name, "Added") == 0)
		l->added = time;
	/* that a first listing finds it as it is needs no mark */
	if (r == EXIT_OK && after != l->life && json_true(details, "inferred") && time - l->added > 100 * USEC_PER_MSEC)
		r = add_mark(l, time, MARK_INFERRED, name, "inferred");
	l->life = after;
	return r == EXIT_OK ? add_span(l, time, after) : r;
}

static int take_connection(struct timeline *t, json_object *event)
{
	const char *name = json_text(event, "event");
	uint64_t time = json_number(event, "timestamp");
	char label[256];
	struct followed *w = followed_of(t, label_of(json_text(event, "object"), label, sizeof(label)));

	if (!w)
		return out_of_memory();
	if (strcmp(name, "Disconnected") == 0 && strcmp(json_text(event, "reason"), "restarted") == 0) {
		uint64_t *more = grow(w->restarts, w->n_restarts, sizeof(*more));

		if (!more)
			return out_of_memory();
		w->restarts = more;
		more[w->n_restarts++] = time;
	}
	if (strcmp(name, "Disconnected") == 0 && w->lost == 0)
		w->lost = time;
	/* connected again, but not compared yet: what it is now is known only then */
	else if ((strcmp(name, "Synced") == 0 || strcmp(name, "Removed") == 0) && w->lost) {
		struct span *more = grow(w->gaps, w->n_gaps, sizeof(*more));

		if (!more)
			return out_of_memory();
		w->gaps = more;
		more[w->n_gaps++] = (struct span){.from = w->lost, .to = time, .life = LIFE_UNKNOWN};
		w->lost = 0;
	}
	return EXIT_OK;
}

static int take_job(struct timeline *t, json_object *event)
{
	static const char *const states[] = {"running", "completed", "failed", "cancelled"};
	const char *path = json_text(event, "object"), *name = json_text(event, "event");
	json_object *properties = NULL;
	struct job_span *j = NULL;
	struct lane *l;

	(void)json_object_object_get_ex(event, "properties", &properties);
	l = find_lane(t, json_text(properties, "Object"));
	if (!l && kind_from_path(json_text(properties, "Object")) == KIND_DOMAIN)
		l = lane_of(t, json_text(properties, "Object"), "");
	if (!l || strcmp(name, "Removed") == 0)
		return EXIT_OK;
	for (size_t i = l->n_jobs; i > 0 && !j; i--)
		if (strcmp(l->jobs[i - 1].path, path) == 0)
			j = &l->jobs[i - 1];
	if (!j) {
		struct job_span *more = grow(l->jobs, l->n_jobs, sizeof(*more));
		bool from_here = strcmp(name, "Added") == 0;

		if (!more)
			return out_of_memory();
		l->jobs = more;
		j = &more[l->n_jobs];
		*j = (struct job_span){.path = strdup(path), .operation = text_safe(json_text(properties, "Operation")),
				       .from = from_here ? json_number(event, "timestamp") : 0, .to = UINT64_MAX};
		if (!j->path || !j->operation)
			return out_of_memory();
		l->n_jobs++;
	}
	for (unsigned i = 0; i < ELEMENTS(states); i++)
		if (strcmp(states[i], json_text(properties, "State")) == 0)
			j->state = i;
	if (strcmp(name, "Finished") == 0)
		j->to = json_number(event, "timestamp");
	return EXIT_OK;
}

static int take_event(struct timeline *t, json_object *event)
{
	int kind = kind_from_path(json_text(event, "object")), r = EXIT_OK;
	bool concerns = event_concerns(&t->f, event, t->names, t->n_names);

	if (kind == KIND_CONNECTION)
		r = take_connection(t, event);
	else if (kind == KIND_DOMAIN && concerns)
		r = take_domain(t, event);
	else if (kind == KIND_JOB && concerns)
		r = take_job(t, event);
	/* so that a job's event finds the name of what it works on */
	follower_apply(&t->f, event);
	return r;
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

static int read_all(struct timeline *t, uint64_t end)
{
	bool more = true;
	int r = EXIT_OK;

	while (more && t->f.after < end && r == EXIT_OK) {
		_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
		_cleanup_(json_putp) json_object *events = NULL;
		int q = follower_fetch(&t->f, 0, 0, true, &events, &more, &e);

		if (q < 0)
			return client_failed(t->c, "cannot read history", &e, q);
		for (size_t i = 0; i < json_object_array_length(events) && r == EXIT_OK; i++)
			r = take_event(t, json_object_array_get_idx(events, i));
	}
	return r;
}

/* Those to which nothing happened were all the time what they are now. */
static int add_quiet(struct timeline *t, json_object *view)
{
	json_object_object_foreach(view, path, properties) {
		_cleanup_(json_putp) json_object *event = NULL;
		struct lane *l;

		if (kind_from_path(path) != KIND_DOMAIN)
			continue;
		event = json_object_new_object();
		if (!event)
			return out_of_memory();
		json_object_object_add(event, "object", json_object_new_string(path));
		json_object_object_add(event, "properties", json_object_get(properties));
		if (!event_concerns(&t->f, event, t->names, t->n_names))
			continue;
		l = lane_of(t, path, json_text(properties, "Name"));
		if (!l)
			return out_of_memory();
		if (!l->started && add_span(l, 0, life_of(properties)) != EXIT_OK)
			return EXIT_FAILED;
		l->started = true;
	}
	return EXIT_OK;
}

static int compare_lanes(const void *a, const void *b)
{
	const struct lane *x = *(struct lane *const *)a, *y = *(struct lane *const *)b;
	int r = strcmp(x->label, y->label);

	return r ? r : strverscmp(x->name, y->name);
}

/* Where history begins: nothing is known of what was before. */
static int find_begin(struct timeline *t)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(json_putp) json_object *events = NULL;
	struct follower all = t->f;
	struct moment oldest = {.what = MOMENT_OLDEST};
	const char *only = TAKE(t->c->connection);
	bool more;
	int r;

	all.kinds = KINDS_ALL;
	r = follower_seek(&all, &oldest);
	if (r == EXIT_OK && follower_fetch(&all, 0, 1, true, &events, &more, &e) >= 0 && json_object_array_length(events))
		t->begin = json_number(json_object_array_get_idx(events, 0), "timestamp");
	t->c->connection = only;
	return r;
}

static int read_timeline(struct timeline *t, const struct moment *since, const struct moment *until)
{
	_cleanup_(json_putp) json_object *view = NULL;
	uint64_t now = now_usec(CLOCK_REALTIME), end;
	struct moment from = {.what = MOMENT_TIME};
	int r = follower_list(&t->f);

	if (r != EXIT_OK)
		return r;
	end = t->f.after;
	t->several = t->f.several;
	/* the listing of now, kept aside from the view that history walks through */
	view = t->f.view;
	t->f.view = json_object_new_object();
	if (!t->f.view)
		return out_of_memory();
	json_object_object_foreach(view, path, properties)
		json_object_object_add(t->f.view, path, json_object_get(properties));
	r = find_begin(t);
	if (r != EXIT_OK)
		return r;
	t->to = until->what == MOMENT_TIME ? until->time : now;
	t->from = since->what == MOMENT_TIME ? since->time
		  : since->what == MOMENT_OLDEST ? t->begin
		  : t->to > 3600 * USEC_PER_SEC ? t->to - 3600 * USEC_PER_SEC : 0;
	/* an hour of nothing in front of five minutes of history is no picture */
	if (since->what == MOMENT_NONE && t->begin > t->from && t->begin < t->to)
		t->from = t->begin;
	if (t->from >= t->to)
		return usage_error("--since is not before --until");
	t->f.kinds = KINDS(KIND_DOMAIN) | KINDS(KIND_JOB) | KINDS(KIND_CONNECTION);
	from.time = t->from;
	r = follower_seek(&t->f, &from);
	if (r == EXIT_OK)
		r = read_all(t, end);
	if (r == EXIT_OK)
		r = add_quiet(t, view);
	if (r == EXIT_OK && t->n_lanes > 1)
		qsort(t->lanes, t->n_lanes, sizeof(*t->lanes), compare_lanes);
	return r;
}

/* ---- the verb ------------------------------------------------------------------------------------------------------ */

static void timeline_clear(struct timeline *t)
{
	for (size_t i = 0; i < t->n_lanes; i++) {
		struct lane *l = t->lanes[i];

		for (size_t k = 0; k < l->n_jobs; k++) {
			free(l->jobs[k].path);
			free(l->jobs[k].operation);
		}
		free(l->path);
		free(l->label);
		free(l->name);
		free(l->spans);
		free(l->marks);
		free(l->jobs);
		free(l);
	}
	for (size_t i = 0; i < t->n_followed; i++) {
		free(t->followed[i].label);
		free(t->followed[i].gaps);
		free(t->followed[i].restarts);
	}
	json_putp(&t->index);
	free(t->lanes);
	free(t->followed);
	follower_clear(&t->f);
}

static int write_svg(struct timeline *t, const char *path, unsigned width)
{
	FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	int r;

	if (!f) {
		complain("cannot write %s: %s", path, strerror(errno));
		return EXIT_FAILED;
	}
	r = timeline_svg(t, f, width);
	if ((f == stdout ? fflush(f) : fclose(f)) == EOF && r == EXIT_OK) {
		complain("cannot write %s: %s", path, strerror(errno));
		r = EXIT_FAILED;
	}
	return r;
}

int verb_timeline(struct ctl *c, const struct verb *v, char **args, int n)
{
	struct timeline t = {.c = c, .f = {.c = c}, .names = args, .n_names = n};
	const char *svg = given_value(c, "svg");
	struct moment since = {0}, until = {0};
	uint64_t width = svg ? 1200 : c->columns;
	int r = EXIT_OK;

	if (c->json != JSON_OFF)
		return usage_error("timeline draws; “vireoctl events --json” has the same for programs");
	if (is_given(c, "width") && (!parse_number(given_value(c, "width"), 10000, &width) || width < (svg ? 400 : 40)))
		return usage_error("--width: from %d to 10000", svg ? 400 : 40);
	if (is_given(c, "since"))
		r = moment_parse("since", given_value(c, "since"), &since);
	if (r == EXIT_OK && is_given(c, "until"))
		r = moment_parse("until", given_value(c, "until"), &until);
	if (r == EXIT_OK && (since.what == MOMENT_VERSION || until.what == MOMENT_VERSION || until.what == MOMENT_OLDEST))
		r = usage_error("a timeline has times: say --since and --until as times, or --since=oldest");
	if (r == EXIT_OK)
		r = read_timeline(&t, &since, &until);
	if (r == EXIT_OK && t.n_lanes == 0) {
		complain(n ? "no domain of that name was there in that time" : "no domain was there in that time");
		r = EXIT_NOT_FOUND;
	} else if (r == EXIT_OK && svg)
		r = write_svg(&t, svg, (unsigned)width);
	else if (r == EXIT_OK) {
		pager_open(c);
		r = timeline_print(&t, (unsigned)width);
	}
	timeline_clear(&t);
	return r;
}
