/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "follow.h"
#include "pager.h"
#include "show.h"

/*
 * watch and events. Both read history by GetEvents, which is exact: from a version on, each event once, or a refusal.
 * watch outlives the broker and the bus; whatever it could not follow without a gap, it lists again and says so.
 */

#define POLL_LIMIT (20 * USEC_PER_SEC)
#define RETRY_FIRST 100
#define RETRY_MAX 3000

struct watch {
	struct follower f;
	char **names;
	int n;
	uint64_t left; /* events to print; UINT64_MAX: no limit */
	bool found;    /* an event that was wanted */
};

static bool is_wanted(struct watch *w, json_object *event)
{
	return event_concerns(&w->f, event, w->names, w->n);
}

/* Something that is no event but belongs into the story. @key: a word for programs. */
static void notice(struct watch *w, const char *key, const char *reason, const char *format, ...)
	_printf_(4, 5);
static void notice(struct watch *w, const char *key, const char *reason, const char *format, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	if (w->f.c->json != JSON_OFF) {
		_cleanup_(json_putp) json_object *o = json_object_new_object();

		json_object_object_add(o, "notice", json_object_new_string(key));
		if (reason)
			json_object_object_add(o, "reason", json_object_new_string(reason));
		json_object_object_add(o, "epoch", json_object_new_string(w->f.epoch));
		json_object_object_add(o, "version", json_object_new_uint64(w->f.after));
		json_object_object_add(o, "text", json_object_new_string(text ? text : ""));
		(void)json_print(w->f.c, o);
	} else
		printf("%s-- %s --%s\n", colour_on(w->f.c, DIM), text ? text : "", colour_off(w->f.c));
	fflush(stdout);
}

/* ---- listing again ------------------------------------------------------------------------------------------------- */

static void print_difference(struct watch *w, const char *path, json_object *now, const char *what)
{
	struct follower *f = &w->f;
	char label[256], buffer[256];
	const char *name = *json_text(now, "Name") ? json_text(now, "Name") : label_of(path, label, sizeof(label));

	if (f->c->json != JSON_OFF) {
		_cleanup_(json_putp) json_object *o = json_object_new_object();

		json_object_object_add(o, "notice", json_object_new_string(what));
		json_object_object_add(o, "object", json_object_new_string(path));
		json_object_object_add(o, "properties", json_object_get(now));
		(void)json_print(f->c, o);
		return;
	}
	{
		_cleanup_(freep) char *safe = text_safe(*name ? name : object_name(now, buffer, sizeof(buffer)));

		printf("   %s%s%s  %s  %s%s%s\n", colour_on(f->c, BOLD), safe ? safe : "", colour_off(f->c), what,
			colour_on(f->c, state_colour(json_text(now, "State"))), json_text(now, "State"), colour_off(f->c));
	}
}

/* Versions of another epoch say nothing: what can be seen decides. */
static bool differs(json_object *a, json_object *b)
{
	static const char *const keys[] = {"Name", "State", "Active", "Persistent", "Autostart", "UUID"};

	for (size_t i = 0; i < ELEMENTS(keys); i++) {
		json_object *x = NULL, *y = NULL;

		(void)json_object_object_get_ex(a, keys[i], &x);
		(void)json_object_object_get_ex(b, keys[i], &y);
		if (!json_object_equal(x, y))
			return true;
	}
	return false;
}

static void print_differences(struct watch *w, json_object *before)
{
	json_object_object_foreach(w->f.view, path, now) {
		json_object *was;
		bool known = json_object_object_get_ex(before, path, &was);

		if (kind_from_path(path) != KIND_JOB && (!known || differs(was, now)))
			print_difference(w, path, now, known ? "changed" : "new");
	}
	json_object_object_foreach(before, old_path, was) {
		if (kind_from_path(old_path) != KIND_JOB && !json_object_object_get_ex(w->f.view, old_path, NULL))
			print_difference(w, old_path, was, "gone");
	}
}

static int relist(struct watch *w, const char *error_name)
{
	static const struct {
		const char *error, *reason, *text;
	} texts[] = {{"Gone", "gone", "history does not reach back so far"},
		     {"EpochChanged", "epoch-changed", "the broker has lost its history and begun a new epoch"},
		     {"FutureVersion", "future-version", "the broker has not come so far yet"},
		     {"AccessChanged", "access-changed", "what this user may see has changed"}};
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(json_putp) json_object *before = json_object_get(w->f.view);
	const char *dot = strrchr(error_name, '.'), *text = error_name, *reason = "error";
	int r;

	for (size_t i = 0; i < ELEMENTS(texts); i++)
		if (dot && strcmp(dot + 1, texts[i].error) == 0) {
			text = texts[i].text;
			reason = texts[i].reason;
		}
	r = follower_try_list(&w->f, &e);
	if (r < 0) {
		if (error_is_loss(&e, r))
			return EXIT_OK; /* the next fetch meets it again */
		return client_failed(w->f.c, "cannot list again", &e, r);
	}
	notice(w, "relisted", reason, "%s: listed again at version %lu; what happened in between is not known", text,
		(unsigned long)w->f.after);
	if (before)
		print_differences(w, before);
	fflush(stdout);
	return EXIT_OK;
}

/* ---- loss ---------------------------------------------------------------------------------------------------------- */

static int reconnect(struct watch *w)
{
	struct ctl *c = w->f.c;
	int delay = RETRY_FIRST, r = 0;

	for (;;) {
		if (c->bus && r >= 0) {
			r = client_wait_owner(c, USEC_UNKNOWN);
			if (r > 0)
				break;
		}
		/* the bus itself: nobody tells when it is back */
		client_close(c);
		(void)poll(NULL, 0, delay);
		delay = delay * 2 > RETRY_MAX ? RETRY_MAX : delay * 2;
		r = client_try_open(c);
	}
	notice(w, "back", NULL, "the broker is back; going on behind version %lu", (unsigned long)w->f.after);
	return EXIT_OK;
}

static int handle_error(struct watch *w, sd_bus_error *e, int r)
{
	static const char *const listing[] = {"Gone", "EpochChanged", "FutureVersion", "AccessChanged"};
	const char *dot = e->name ? strrchr(e->name, '.') : NULL;

	for (size_t i = 0; i < ELEMENTS(listing); i++)
		if (dot && strcmp(dot + 1, listing[i]) == 0)
			return relist(w, e->name);
	if (!error_is_loss(e, r))
		return client_failed(w->f.c, "cannot follow events", e, r);
	notice(w, "lost", NULL, "the broker is gone; waiting for it");
	return reconnect(w);
}

/* ---- watch --------------------------------------------------------------------------------------------------------- */

static int print_events(struct watch *w, json_object *events)
{
	for (size_t i = 0; i < json_object_array_length(events) && w->left > 0; i++) {
		json_object *event = json_object_array_get_idx(events, i);
		int r = EXIT_OK;

		if (is_wanted(w, event)) {
			r = event_print(&w->f, event);
			w->left -= w->left != UINT64_MAX;
		}
		if (r != EXIT_OK)
			return r;
		follower_apply(&w->f, event);
	}
	/* whoever reads along has it now */
	if (fflush(stdout) == EOF)
		return errno == EPIPE ? -1 : (complain("cannot write: %s", strerror(errno)), EXIT_FAILED);
	return EXIT_OK;
}

/* Is there anything of this name, or is it a pattern? */
static bool is_known(struct watch *w, char **name)
{
	if (strpbrk(*name, "*?["))
		return true;
	json_object_object_foreach(w->f.view, path, properties) {
		_cleanup_(json_putp) json_object *event = json_object_new_object();

		json_object_object_add(event, "object", json_object_new_string(path));
		json_object_object_add(event, "properties", json_object_get(properties));
		if (event_concerns(&w->f, event, name, 1))
			return true;
	}
	return false;
}

static int prepare(struct ctl *c, struct watch *w, char **names, int n)
{
	const char *lines = given_value(c, "lines");
	int r;

	w->f.c = c;
	w->names = names;
	w->n = n;
	w->left = UINT64_MAX;
	if (lines && !parse_number(lines, UINT64_MAX - 1, &w->left))
		return usage_error("--lines=%s is no number", lines);
	r = follower_filter(&w->f);
	return r == EXIT_OK ? follower_list(&w->f) : r;
}

int verb_watch(struct ctl *c, const struct verb *v, char **args, int n)
{
	struct watch w = {0};
	struct moment since = {0};
	int r = EXIT_OK;

	if (is_given(c, "since"))
		r = moment_parse("since", given_value(c, "since"), &since);
	if (r == EXIT_OK)
		r = prepare(c, &w, args, n);
	if (r == EXIT_OK && is_given(c, "since"))
		r = follower_seek(&w.f, &since);
	for (int i = 0; r == EXIT_OK && i < n; i++)
		if (!is_known(&w, args + i))
			complain("there is no “%s” now; waiting for it", args[i]);
	/* what was printed comes before what is waited for */
	fflush(stdout);
	while (r == EXIT_OK && w.left > 0) {
		_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
		_cleanup_(json_putp) json_object *events = NULL;
		bool more = false;
		int q = follower_fetch(&w.f, POLL_LIMIT, 0, false, &events, &more, &e);

		r = q < 0 ? handle_error(&w, &e, q) : print_events(&w, events);
	}
	follower_clear(&w.f);
	return r < 0 ? EXIT_OK : r;
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

/* The last so many. */
struct tail {
	json_object **ring;
	size_t size, n;
};

static int tail_init(struct tail *t, uint64_t size)
{
	if (size == 0 || size > 1000000)
		return usage_error("--lines: from 1 to 1000000");
	t->size = size;
	t->ring = calloc(size, sizeof(*t->ring));
	return t->ring ? EXIT_OK : out_of_memory();
}

static int tail_add(struct tail *t, json_object *event)
{
	json_object **slot = &t->ring[t->n++ % t->size];

	json_putp(slot);
	*slot = json_object_get(event);
	return EXIT_OK;
}

static int tail_print(struct tail *t, struct follower *f)
{
	size_t first = t->n > t->size ? t->n - t->size : 0;
	int r = EXIT_OK;

	for (size_t i = first; i < t->n && r == EXIT_OK; i++) {
		r = event_print(f, t->ring[i % t->size]);
		follower_apply(f, t->ring[i % t->size]);
	}
	for (size_t i = 0; i < t->size; i++)
		json_putp(&t->ring[i]);
	free(t->ring);
	return r;
}

static int read_history(struct watch *w, uint64_t until, uint64_t until_time, struct tail *tail)
{
	bool more = true;
	int r = EXIT_OK;

	/* once in any case: what cannot be followed is to be refused */
	do {
		_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
		_cleanup_(json_putp) json_object *events = NULL;
		int q = follower_fetch(&w->f, 0, 0, true, &events, &more, &e);

		if (q < 0)
			return client_failed(w->f.c, "cannot read history", &e, q);
		for (size_t i = 0; i < json_object_array_length(events) && r == EXIT_OK; i++) {
			json_object *event = json_object_array_get_idx(events, i);

			if (json_number(event, "version") > until || json_number(event, "timestamp") > until_time)
				return EXIT_OK;
			if (is_wanted(w, event)) {
				w->found = true;
				r = tail ? tail_add(tail, event) : event_print(&w->f, event);
			}
			if (!tail)
				follower_apply(&w->f, event);
		}
	} while (more && w->f.after < until && r == EXIT_OK && !ferror(stdout));
	return r;
}

int verb_events(struct ctl *c, const struct verb *v, char **args, int n)
{
	struct watch w = {0};
	struct moment since = {.what = MOMENT_OLDEST}, until = {0};
	struct tail tail = {0};
	uint64_t end, end_time = UINT64_MAX;
	char **unknown = NULL;
	int r = EXIT_OK;

	if (is_given(c, "since"))
		r = moment_parse("since", given_value(c, "since"), &since);
	if (r == EXIT_OK && is_given(c, "until"))
		r = moment_parse("until", given_value(c, "until"), &until);
	if (r == EXIT_OK)
		r = prepare(c, &w, args, n);
	if (r == EXIT_OK && is_given(c, "lines"))
		r = tail_init(&tail, w.left);
	for (int i = 0; r == EXIT_OK && i < n && !unknown; i++)
		unknown = is_known(&w, args + i) ? NULL : args + i;
	end = w.f.after;
	if (until.what == MOMENT_VERSION && until.version < end)
		end = until.version;
	else if (until.what == MOMENT_TIME)
		end_time = until.time;
	if (r == EXIT_OK && until.epoch[0] && strcmp(until.epoch, w.f.epoch) != 0) {
		complain("--until: that is not the present epoch, which is %s", w.f.epoch);
		r = EXIT_HISTORY;
	}
	if (r == EXIT_OK)
		r = follower_seek(&w.f, &since);
	if (r == EXIT_OK) {
		pager_open(c);
		r = read_history(&w, end, end_time, tail.ring ? &tail : NULL);
	}
	if (tail.ring) {
		int q = tail_print(&tail, &w.f);

		r = r == EXIT_OK ? q : r;
	}
	/* It may have been there in the past. */
	if (r == EXIT_OK && unknown && !w.found) {
		complain("there is no “%s”, and there was none in that time", *unknown);
		r = EXIT_NOT_FOUND;
	}
	follower_clear(&w.f);
	return r;
}
