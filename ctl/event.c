/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "follow.h"
#include "show.h"

/* One event as a line for people, or as one of JSON. */

enum colour event_colour(const char *event)
{
	static const struct {
		const char *event;
		enum colour colour;
	} colours[] = {{"Started", GREEN}, {"Resumed", GREEN}, {"Connected", GREEN}, {"Synced", DIM}, {"Suspended", YELLOW},
		       {"PMSuspended", YELLOW}, {"Shutdown", YELLOW}, {"Rebooted", YELLOW}, {"Stopped", MAGENTA},
		       {"Crashed", RED}, {"IOError", RED}, {"Disconnected", RED}, {"ControlError", RED}, {"Watchdog", RED},
		       {"MemoryFailure", RED}, {"DeviceRemovalFailed", RED}, {"Added", CYAN}, {"Defined", CYAN},
		       {"Undefined", CYAN}, {"Removed", CYAN}};

	for (size_t i = 0; i < ELEMENTS(colours); i++)
		if (strcmp(colours[i].event, event) == 0)
			return colours[i].colour;
	return PLAIN;
}

/* "Memory 512 MiB → 1 GiB": what an Updated changed, as far as it is known how it was before. */
static void print_changes(struct follower *f, json_object *event, FILE *out)
{
	static const char *const unsaid[] = {"Version", "Jobs", "object", "kind", "Incarnation"};
	_cleanup_(json_putp) json_object *before = follower_before(f, event);
	json_object *after;

	if (!before || !json_object_object_get_ex(event, "properties", &after))
		return;
	json_object_object_foreach(after, key, value) {
		_cleanup_(freep) char *from = NULL, *to = NULL;
		json_object *old;
		bool silent = false;

		for (size_t i = 0; i < ELEMENTS(unsaid); i++)
			silent = silent || strcmp(key, unsaid[i]) == 0;
		if (silent || !json_object_object_get_ex(before, key, &old) || json_object_equal(old, value))
			continue;
		from = value_text(key, old);
		to = value_text(key, value);
		fprintf(out, "  %s: %s %s %s", key, from && *from ? from : "-", f->c->utf8 ? "→" : "->", to && *to ? to : "-");
	}
}

static void print_details(json_object *event, FILE *out)
{
	json_object *details;

	if (!json_object_object_get_ex(event, "details", &details))
		return;
	json_object_object_foreach(details, key, value) {
		if (strcmp(key, "timestamp") == 0 || strcmp(key, "inferred") == 0)
			continue;
		fprintf(out, "  %s=%s", key, value ? json_object_get_string(value) : "unknown");
	}
}

static void print_job_event(struct follower *f, json_object *event, FILE *out)
{
	static const struct {
		const char *event, *reason, *words;
	} words[] = {{"Added", NULL, "begun"}, {"Updated", "ready", "ready"}, {"Updated", "cancel-requested", "cancel requested"},
		     {"Updated", NULL, "updated"}, {"Finished", NULL, NULL}, {"Removed", NULL, "forgotten"}};
	const char *name = json_text(event, "event"), *reason = json_text(event, "reason"), *said = name;
	json_object *properties = NULL, *error = NULL;
	char what[64];

	(void)json_object_object_get_ex(event, "properties", &properties);
	for (size_t i = 0; i < ELEMENTS(words); i++)
		if (strcmp(words[i].event, name) == 0 && (!words[i].reason || strcmp(words[i].reason, reason) == 0)) {
			said = words[i].words ? words[i].words : reason;
			break;
		}
	(void)snprintf(what, sizeof(what), "job %s", json_text(properties, "Operation"));
	fputs(colour_on(f->c, DIM), out);
	print_padded(out, what, 14, false);
	fputs(colour_off(f->c), out);
	fprintf(out, "  %s%s%s  #%s", colour_on(f->c, state_colour(said)), said, colour_off(f->c),
		json_text(event, "object") + strlen(VIREO_JOBS));
	if (strcmp(name, "Finished") == 0 && json_object_object_get_ex(properties, "Error", &error) &&
	    json_object_is_type(error, json_type_array)) {
		_cleanup_(freep) char *text = NULL;
		json_object *details = NULL;

		/* those who may read history may read the hypervisor's own words */
		(void)json_object_object_get_ex(event, "details", &details);
		text = text_safe(*json_text(details, "message")
					 ? json_text(details, "message")
					 : json_object_get_string(json_object_array_get_idx(error, 1)));

		if (text && *text)
			fprintf(out, "  %s", text);
	}
}

static void print_other_event(struct follower *f, json_object *event, FILE *out)
{
	_cleanup_(freep) char *raw = NULL;
	_cleanup_(freep) char *tail = NULL;
	const char *name = json_text(event, "event"), *state;
	json_object *properties = NULL;
	size_t size;
	FILE *rest;

	(void)json_object_object_get_ex(event, "properties", &properties);
	state = json_text(properties, "State");
	fputs(colour_on(f->c, event_colour(name)), out);
	print_padded(out, name, 14, false);
	fputs(colour_off(f->c), out);
	fputs("  ", out);
	print_padded(out, *json_text(event, "reason") ? json_text(event, "reason") : "-", 13, false);
	fputs("  ", out);
	fprintf(out, "%s%s%s", colour_on(f->c, state_colour(state)), state, colour_off(f->c));
	rest = open_memstream(&raw, &size);
	if (!rest)
		return;
	if (strcmp(name, "Updated") == 0)
		print_changes(f, event, rest);
	print_details(event, rest);
	if (fclose(rest) == EOF)
		return;
	tail = text_safe(raw);
	fprintf(out, "%s%s%s", colour_on(f->c, DIM), tail ? tail : "", colour_off(f->c));
}

static int print_json(struct follower *f, json_object *event)
{
	json_object *details;
	bool inferred = json_object_object_get_ex(event, "details", &details) && json_true(details, "inferred");

	json_object_object_add(event, "inferred", json_object_new_boolean(inferred));
	json_object_object_add(event, "epoch", json_object_new_string(f->epoch));
	return json_print(f->c, event);
}

/* That an object names a job, or that a job has become one with an end: the lines of the job itself say it. */
static bool is_echo(struct follower *f, json_object *event)
{
	bool job = strcmp(json_text(event, "kind"), "job") == 0;

	return strcmp(json_text(event, "event"), "Updated") == 0 && !is_given(f->c, "all") && f->n_events == 0 &&
	       strcmp(json_text(event, "reason"), job ? "" : "job") == 0;
}

int event_print(struct follower *f, json_object *event)
{
	/* grows with the names that were seen, so that lines stay below each other */
	static unsigned width = 12;
	_cleanup_(freep) char *line = NULL, *name = NULL;
	char time[64], buffer[1024];
	json_object *details = NULL;
	const char *kind = json_text(event, "kind");
	unsigned w;
	size_t size;
	FILE *out;

	if (f->c->json != JSON_OFF)
		return print_json(f, event);
	if (is_echo(f, event))
		return EXIT_OK;
	out = open_memstream(&line, &size);
	name = text_safe(event_name(f, event, buffer, sizeof(buffer)));
	if (!out || !name)
		return out_of_memory();
	w = text_width(name);
	width = w > width ? (w > 40 ? 40 : w) : width;
	fprintf(out, "%s%s%s  ", colour_on(f->c, DIM), format_time(time, sizeof(time), json_number(event, "timestamp")),
		colour_off(f->c));
	fputs(colour_on(f->c, BOLD), out);
	print_padded(out, name, width, false);
	fprintf(out, "%s  ", colour_off(f->c));
	if (strcmp(kind, "job") == 0)
		print_job_event(f, event, out);
	else
		print_other_event(f, event, out);
	(void)json_object_object_get_ex(event, "details", &details);
	if (json_true(details, "inferred"))
		fprintf(out, "  %s(inferred)%s", colour_on(f->c, DIM), colour_off(f->c));
	if (strcmp(kind, "domain") != 0 && strcmp(kind, "job") != 0)
		fprintf(out, "  %s[%s]%s", colour_on(f->c, DIM), kind, colour_off(f->c));
	if (fclose(out) == EOF)
		return out_of_memory();
	puts(line);
	return EXIT_OK;
}
