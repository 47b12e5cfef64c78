/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "job.h"
#include "term.h"

/* Verbs that are not simply one method of one object: about jobs, connections, the broker. */

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

static int call_job(struct ctl *c, const struct verb *v, const char *name, const char *wanted, const char *member,
	const char *done)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	_cleanup_(freep) char *job = NULL, *what = NULL, *text = NULL;
	struct begun b = {0};
	int r;

	r = resolve_job(c, name, wanted, &job);
	if (r != EXIT_OK)
		return r;
	if (asprintf(&what, "cannot %s job %s", v->name, job + strlen(VIREO_JOBS)) < 0 ||
	    asprintf(&text, "job %s", job + strlen(VIREO_JOBS)) < 0)
		return out_of_memory();
	agent_open(c);
	r = client_new_call(c, &m, job, VIREO_JOB, member);
	if (r != EXIT_OK)
		return r;
	r = is_given(c, "wait") ? sd_bus_message_append(m, "a{sv}", 1, "wait", "b", 1) : sd_bus_message_append(m, "a{sv}", 0);
	if (r < 0)
		return client_failed(c, what, NULL, r);
	r = client_send(c, m, what, &reply);
	if (r != EXIT_OK)
		return r;
	b.job = job;
	b.name = text;
	return say_done(c, done, &b, "requested");
}

int verb_cancel(struct ctl *c, const struct verb *v, char **args, int n)
{
	int first = EXIT_OK;

	for (int i = 0; i < n; i++) {
		int r = call_job(c, v, args[i], "Cancellable", "Cancel", is_given(c, "wait") ? "ended" : "cancel requested");

		first = first == EXIT_OK ? r : first;
	}
	return first;
}

int verb_complete_job(struct ctl *c, const struct verb *v, char **args, int n)
{
	return call_job(c, v, args[0], "Ready", "Complete", is_given(c, "wait") ? "ended" : "completion requested");
}

int verb_wait(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(freep) char *job = NULL;
	const char *state = "completed";
	int r = resolve_job(c, args[0], NULL, &job);

	if (r == EXIT_OK)
		r = job_follow(c, job, args[0], NULL, false, &state);
	if (r == EXIT_OK) {
		struct begun b = {.job = job, .name = args[0]};

		r = say_done(c, state, &b, state);
	}
	return r;
}

/* ---- connections --------------------------------------------------------------------------------------------------- */

int verb_open(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	_cleanup_(freep) char *what = NULL, *state = NULL;
	const char *path;
	int r;

	if (asprintf(&what, "cannot open %s", args[0]) < 0)
		return out_of_memory();
	agent_open(c);
	r = client_new_call(c, &m, VIREO_ROOT, VIREO_MANAGER, "Open");
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "s", args[0]);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0 && is_given(c, "label"))
		r = sd_bus_message_append(m, "{sv}", "label", "s", given_value(c, "label"));
	if (r >= 0 && wants_no_wait(c))
		r = sd_bus_message_append(m, "{sv}", "async", "b", 1);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_failed(c, what, NULL, r);
	r = client_send(c, m, what, &reply);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_read(reply, "o", &path);
	if (r < 0)
		return client_failed(c, what, NULL, r);
	(void)sd_bus_get_property_string(c->bus, VIREO_NAME, path, kind_interfaces[KIND_CONNECTION], "State", NULL, &state);
	if (c->json != JSON_OFF) {
		_cleanup_(json_putp) json_object *o = json_object_new_object();

		json_object_object_add(o, "object", json_object_new_string(path));
		json_object_object_add(o, "State", json_object_new_string(state ? state : ""));
		(void)json_print(c, o);
	} else if (!c->quiet)
		printf("%s: %s\n", path + strlen(VIREO_CONNECTIONS), state ? state : "opened");
	if (state && strcmp(state, "disconnected") == 0) {
		complain("%s is not reached yet; the broker goes on trying. “vireoctl events %s” says why", args[0],
			path + strlen(VIREO_CONNECTIONS));
		return EXIT_DISCONNECTED;
	}
	return EXIT_OK;
}

int verb_close(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(freep) char *path = NULL, *what = NULL;
	int r = resolve(c, KINDS(KIND_CONNECTION), args[0], &path);

	if (r != EXIT_OK)
		return r;
	if (asprintf(&what, "cannot close “%s”", args[0]) < 0)
		return out_of_memory();
	agent_open(c);
	r = client_call(c, what, NULL, VIREO_ROOT, VIREO_MANAGER, "Close", "o", path);
	if (r == EXIT_OK && !c->quiet && c->json == JSON_OFF)
		printf("%s: closed\n", path + strlen(VIREO_CONNECTIONS));
	return r;
}

static int print_version(struct ctl *c, sd_bus_message *reply)
{
	uint64_t version;
	int r = sd_bus_message_read(reply, "t", &version);

	if (r < 0)
		return client_failed(c, NULL, NULL, r);
	if (c->json != JSON_OFF)
		printf("{\"Version\":%lu}\n", (unsigned long)version);
	else if (!c->quiet)
		printf("%lu\n", (unsigned long)version);
	return EXIT_OK;
}

int verb_sync(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	int r = check_connection(c);

	if (r == EXIT_OK)
		r = client_new_call(c, &m, VIREO_ROOT, VIREO_MANAGER, "Sync");
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = append_filter(c, m, KINDS_ALL);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_failed(c, "cannot sync", NULL, r);
	r = client_send(c, m, "cannot sync", &reply);
	return r == EXIT_OK ? print_version(c, reply) : r;
}

int verb_resync(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(freep) char *path = NULL;
	int r = n > 0 ? resolve(c, KINDS(KIND_CONNECTION), args[0], &path) : resolve_connection(c, &path);

	if (r == EXIT_OK)
		r = client_call(c, "cannot resync", &reply, path, kind_interfaces[KIND_CONNECTION], "Resync", "a{sv}", 0);
	return r == EXIT_OK ? print_version(c, reply) : r;
}

int verb_log_level(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	_cleanup_(freep) char *level = NULL;
	int r = client_open(c);

	if (r != EXIT_OK)
		return r;
	if (n > 0) {
		r = sd_bus_set_property(c->bus, VIREO_NAME, VIREO_ROOT, "org.freedesktop.LogControl1", "LogLevel", &e, "s", args[0]);
		return r < 0 ? client_failed(c, "cannot set the log level", &e, r) : EXIT_OK;
	}
	r = sd_bus_get_property_string(c->bus, VIREO_NAME, VIREO_ROOT, "org.freedesktop.LogControl1", "LogLevel", &e, &level);
	if (r < 0)
		return client_failed(c, "cannot read the log level", &e, r);
	puts(level);
	return EXIT_OK;
}
