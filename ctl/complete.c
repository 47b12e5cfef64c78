/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "objects.h"
#include "term.h"

/*
 * vireoctl _complete [WORD…] LAST: what can stand in place of the last word, for the completions of the shells. One
 * candidate a line, then a tab and what it is; or the line "@files" where files are meant. It never complains, and
 * never starts a broker.
 */

struct completion {
	struct ctl *c;
	const char *last, *group;
	const struct verb *verb;
	char **arguments; /* of the verb, so far */
	size_t n_arguments;
	const struct verb_option *value_of;	  /* the last word is the value of this one */
	const struct option_info *global_value_of;
	const char *prefix; /* stands in front of a value: "--json=" */
};

static void offer(const struct completion *p, const char *word, const char *what)
{
	const char *typed = p->last;
	_cleanup_(freep) char *safe = text_safe(word);

	/* what shows otherwise than it is could not be typed */
	if (!safe || strcmp(safe, word) != 0 || strncmp(word, typed, strlen(typed)) != 0)
		return;
	printf("%s%s%s%s\n", p->prefix ? p->prefix : "", word, what ? "\t" : "", what ? what : "");
}

static void offer_words(const struct completion *p, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		offer(p, words[i], NULL);
}

/* ---- objects ------------------------------------------------------------------------------------------------------- */

static int quiet_snapshot(struct ctl *c, unsigned kinds, struct snapshot *ret)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	int r = client_try_open(c);

	if (r >= 0)
		r = sd_bus_message_new_method_call(c->bus, &m, VIREO_NAME, VIREO_ROOT, VIREO_MANAGER, "GetSnapshot");
	if (r >= 0)
		r = sd_bus_message_set_auto_start(m, false);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = append_filter(c, m, kinds);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_call(c->bus, m, 3 * USEC_PER_SEC, NULL, &reply);
	return r >= 0 ? snapshot_read(reply, ret) : r;
}

static void offer_objects(const struct completion *p, unsigned kinds)
{
	struct snapshot s = {0};
	char buffer[256], label[256], what[512];

	if (quiet_snapshot(p->c, kinds, &s) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(s.objects); i++) {
		json_object *o = json_object_array_get_idx(s.objects, i);
		const char *name = object_name(o, buffer, sizeof(buffer)), *path = json_text(o, "object");
		int kind = kind_from_path(path);

		if (kind == KIND_JOB && strcmp(json_text(o, "State"), "running") != 0)
			continue;
		(void)snprintf(what, sizeof(what), "%s%s%s", kind_nouns[kind], *json_text(o, "State") ? ", " : "",
			kind == KIND_JOB ? json_text(o, "Operation") : json_text(o, "State"));
		offer(p, name, what);
		/* with its connection once somebody began to type one */
		if (kind != KIND_JOB && kind != KIND_CONNECTION && strchr(p->last, '/')) {
			_cleanup_(freep) char *full = NULL;

			if (asprintf(&full, "%s/%s", label_of(path, label, sizeof(label)), name) >= 0)
				offer(p, full, what);
		}
	}
	snapshot_clear(&s);
}

static void offer_volumes(const struct completion *p, const char *pool)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(json_putp) json_object *volumes = NULL;
	const char *path = NULL;
	struct snapshot s = {0};

	if (quiet_snapshot(p->c, KINDS(KIND_POOL), &s) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(s.objects); i++) {
		json_object *o = json_object_array_get_idx(s.objects, i);

		if (strcmp(json_text(o, "Name"), pool) == 0)
			path = json_text(o, "object");
	}
	if (path && sd_bus_call_method(p->c->bus, VIREO_NAME, path, kind_interfaces[KIND_POOL], "ListVolumes", NULL, &reply,
			    "a{sv}", 0) >= 0 &&
	    message_read_json(reply, &volumes) > 0)
		for (size_t i = 0; i < json_object_array_length(volumes); i++)
			offer(p, json_object_get_string(json_object_array_get_idx(json_object_array_get_idx(volumes, i), 0)),
				"volume");
	snapshot_clear(&s);
}

/* ---- options ------------------------------------------------------------------------------------------------------- */

static void offer_option(const struct completion *p, const char *name, bool value, const char *help)
{
	_cleanup_(freep) char *word = NULL;

	if (asprintf(&word, "--%s%s", name, value ? "=" : "") >= 0)
		offer(p, word, help);
}

static void offer_options(const struct completion *p)
{
	for (const struct verb_option *o = p->verb ? p->verb->options : NULL; o && o->name; o++)
		offer_option(p, o->name, o->type != 'b', o->help);
	for (const struct verb_option *o = p->verb && p->verb->operation ? common_options : NULL; o && o->name; o++)
		offer_option(p, o->name, o->type != 'b', o->help);
	for (const struct option_info *o = global_option_names; o->name; o++)
		offer_option(p, o->name, o->value, NULL);
}

/* The last word of a list with commas. */
static void after_comma(struct completion *p, char *front, size_t n)
{
	const char *comma = strrchr(p->last, ',');

	if (!comma)
		return;
	(void)snprintf(front, n, "%s%.*s", p->prefix ? p->prefix : "", (int)(comma + 1 - p->last), p->last);
	p->prefix = front;
	p->last = comma + 1;
}

static void offer_values(struct completion *p)
{
	static const struct {
		const char *option;
		const char *words[20];
	} lists[] = {
		{"json", {"short", "pretty", "off"}},
		{"kind", {"connection", "domain", "pool", "network", "job"}},
		{"state", {"running", "paused", "shutoff", "crashed", "pmsuspended", "blocked", "inactive", "degraded", "connected",
				"disconnected", "connecting"}},
		{"event", {"Added", "Defined", "Started", "Suspended", "Resumed", "PMSuspended", "Crashed", "Shutdown", "Stopped",
				"Undefined", "Removed", "Updated", "Rebooted", "IOError", "Finished", "Connected", "Disconnected",
				"Synced", "Refreshed"}},
		{"mode", {"acpi", "agent", "initctl", "signal", "paravirt"}},
		{"format", {"raw", "qcow2"}},
		{"algorithm", {"zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim"}},
		{"copy-storage", {"none", "all", "inc"}},
		{"since", {"oldest", "today", "yesterday"}},
		{"until", {"now", "today", "yesterday"}},
	};
	const char *name = p->value_of ? p->value_of->name : p->global_value_of->name;
	char front[1024];

	after_comma(p, front, sizeof(front));
	if (strcmp(name, "connection") == 0)
		offer_objects(p, KINDS(KIND_CONNECTION));
	else if (p->value_of && p->value_of->type == 'p')
		offer_objects(p, KINDS(KIND_POOL));
	else if ((p->value_of && p->value_of->type == 'x') || strcmp(name, "svg") == 0 || strcmp(name, "disk-xml") == 0)
		puts("@files");
	for (size_t i = 0; i < ELEMENTS(lists); i++)
		if (strcmp(lists[i].option, name) == 0)
			for (size_t k = 0; k < ELEMENTS(lists[i].words) && lists[i].words[k]; k++)
				offer(p, lists[i].words[k], NULL);
}

static const struct verb_option *own_option(const struct verb *v, const char *name, size_t n)
{
	const struct verb_option *const lists[] = {v ? v->options : NULL, v && v->operation ? common_options : NULL};

	for (size_t l = 0; l < ELEMENTS(lists); l++)
		for (const struct verb_option *o = lists[l]; o && o->name; o++)
			if (strlen(o->name) == n && strncmp(o->name, name, n) == 0)
				return o;
	return NULL;
}

static const struct option_info *global_option(const char *name, size_t n)
{
	for (const struct option_info *o = global_option_names; o->name; o++)
		if (strlen(o->name) == n && strncmp(o->name, name, n) == 0)
			return o;
	return NULL;
}

/* "--name" or "--name=…": which option; a global one that says which broker is to be asked is obeyed. */
static void take_option(struct completion *p, const char *word, const char *next)
{
	const char *equals = strchr(word, '=');
	size_t n = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
	const struct verb_option *own = own_option(p->verb, word + 2, n);
	const struct option_info *global = own ? NULL : global_option(word + 2, n);
	const char *value = equals ? equals + 1 : next;

	p->value_of = own && own->type != 'b' ? own : NULL;
	p->global_value_of = global && global->value ? global : NULL;
	if (!global)
		return;
	if (strcmp(global->name, "system") == 0)
		p->c->bus_choice = BUS_SYSTEM;
	else if (strcmp(global->name, "session") == 0)
		p->c->bus_choice = BUS_SESSION;
	else if (strcmp(global->name, "address") == 0 && value && *value) {
		p->c->bus_choice = BUS_ADDRESS;
		p->c->address = value;
	} else if (strcmp(global->name, "connection") == 0 && value && *value)
		p->c->connection = value;
}

/* ---- words --------------------------------------------------------------------------------------------------------- */

static void offer_verbs(const struct completion *p)
{
	const struct verb *const lists[] = {verbs_read, verbs_change};
	static const char *const groups[] = {"pool", "vol", "net"};

	for (size_t l = 0; l < ELEMENTS(lists); l++)
		for (const struct verb *v = lists[l]; v->name; v++)
			if (v->summary && (p->group ? v->group && strcmp(v->group, p->group) == 0 : !v->group))
				offer(p, v->name, v->summary);
	if (!p->group)
		offer_words(p, groups, ELEMENTS(groups));
}

/* The letter of the argument that the last word is; 0: no more can follow. */
static char letter_of(const struct verb *v, size_t n)
{
	const char *s = v->spec;
	char letter = 0;

	for (; *s; n--) {
		letter = *s++;
		if (*s == '?')
			s++;
		if (*s == '+' || *s == '*' || n == 0)
			return letter;
	}
	return 0;
}

static void offer_arguments(struct completion *p)
{
	static const char *const levels[] = {"debug", "info", "notice", "warning", "err", "crit", "alert", "emerg"};
	static const char *const uris[] = {"qemu:///system", "qemu:///session", "test:///default", "sim:///demo"};

	switch (letter_of(p->verb, p->n_arguments)) {
	case 'N':
		offer_objects(p, KINDS(KIND_DOMAIN));
		break;
	case 'P':
		offer_objects(p, KINDS(KIND_POOL));
		break;
	case 'W':
		offer_objects(p, KINDS(KIND_NETWORK));
		break;
	case 'C':
		offer_objects(p, KINDS(KIND_CONNECTION));
		break;
	case 'J':
		offer_objects(p, KINDS(KIND_JOB));
		break;
	case 'O':
		offer_objects(p, KINDS_ALL & ~KINDS(KIND_JOB));
		break;
	case 'V':
		offer_volumes(p, p->arguments[0]);
		break;
	case 'f':
	case 'h':
	case 'x':
		puts("@files");
		break;
	case 'l':
		offer_words(p, levels, ELEMENTS(levels));
		break;
	case 'u':
		offer_words(p, uris, ELEMENTS(uris));
		break;
	case 'g':
		offer_verbs(p);
		break;
	case 's':
		if (p->n_arguments == 1 && p->verb->group && strcmp(p->verb->name, "create") == 0)
			puts("@files");
		break;
	}
}

static void read_words(struct completion *p, char **words, int n)
{
	bool options = true;

	for (int i = 0; i < n; i++) {
		const char *word = words[i];

		if (options && strcmp(word, "--") == 0)
			options = false;
		else if (options && strncmp(word, "--", 2) == 0) {
			take_option(p, word, i + 1 < n ? words[i + 1] : NULL);
			/* its value is the next word, unless it is within; of --json it is never the next */
			if (strchr(word, '=') || (p->global_value_of && strcmp(p->global_value_of->name, "json") == 0))
				p->value_of = NULL, p->global_value_of = NULL;
			if ((p->value_of || p->global_value_of) && i + 1 < n) {
				i++;
				p->value_of = NULL;
				p->global_value_of = NULL;
			}
		} else if (options && word[0] == '-' && word[1])
			continue;
		else if (p->verb)
			p->arguments[p->n_arguments++] = words[i];
		else if (!p->group && verb_is_group(word))
			p->group = word;
		else
			p->verb = verb_find(p->group, word);
	}
}

int verb_complete(struct ctl *c, const struct verb *v, char **args, int n)
{
	struct completion p = {.c = c, .last = n > 0 ? args[n - 1] : ""};
	_cleanup_(freep) char **arguments = calloc((size_t)n + 1, sizeof(*arguments));
	_cleanup_(freep) char *front = NULL;
	const char *equals;

	if (!arguments)
		return EXIT_FAILED;
	p.arguments = arguments;
	read_words(&p, args, n > 0 ? n - 1 : 0);
	equals = strchr(p.last, '=');
	if (!p.value_of && !p.global_value_of && strncmp(p.last, "--", 2) == 0 && equals) {
		take_option(&p, p.last, NULL);
		if (asprintf(&front, "%.*s", (int)(equals + 1 - p.last), p.last) < 0)
			return EXIT_FAILED;
		p.prefix = front;
		p.last = equals + 1;
	}
	if (p.value_of || p.global_value_of)
		offer_values(&p);
	else if (p.prefix)
		return EXIT_OK;
	else if (p.last[0] == '-')
		offer_options(&p);
	else if (p.verb)
		offer_arguments(&p);
	else
		offer_verbs(&p);
	return EXIT_OK;
}
