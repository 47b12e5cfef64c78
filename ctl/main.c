/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "client.h"
#include "config-build.h"
#include "pager.h"
#include "term.h"

/* The command line. Which verbs there are is in verbs.c and operations.c. */

void complain(const char *format, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("vireoctl: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int usage_error(const char *format, ...)
{
	va_list ap;

	fputs("vireoctl: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_USAGE;
}

int out_of_memory(void)
{
	complain("out of memory");
	return EXIT_FAILED;
}

/* ---- options of all verbs ------------------------------------------------------------------------------------------ */

const struct option_info global_option_names[] = {
	{"system", false}, {"session", false},	 {"address", true},    {"json", true}, {"no-pager", false},
	{"no-legend", false}, {"full", false}, {"connection", true}, {"quiet", false}, {"utc", false},
	{"help", false}, {"version", false}, {NULL, false}};

static int set_json(struct ctl *c, const char *value)
{
	if (!value || strcmp(value, "short") == 0)
		c->json = JSON_SHORT;
	else if (strcmp(value, "pretty") == 0)
		c->json = JSON_PRETTY;
	else if (strcmp(value, "off") == 0)
		c->json = JSON_OFF;
	else
		return usage_error("--json=%s: there are short, pretty and off", value);
	return EXIT_OK;
}

static int set_bus(struct ctl *c, enum bus_choice choice, const char *address)
{
	if (c->bus_choice != BUS_UNSET && (c->bus_choice != choice || choice == BUS_ADDRESS))
		return usage_error("only one of --system, --session and --address can be given");
	c->bus_choice = choice;
	c->address = address;
	return EXIT_OK;
}

/* Return: -1 when it is none of these. */
static int global_option(struct ctl *c, const char *name, const char *value, bool *help)
{
	if (strcmp(name, "system") == 0)
		return set_bus(c, BUS_SYSTEM, NULL);
	if (strcmp(name, "session") == 0)
		return set_bus(c, BUS_SESSION, NULL);
	if (strcmp(name, "address") == 0)
		return set_bus(c, BUS_ADDRESS, value);
	if (strcmp(name, "json") == 0)
		return set_json(c, value);
	if (strcmp(name, "no-pager") == 0)
		c->no_pager = true;
	else if (strcmp(name, "no-legend") == 0)
		c->no_legend = true;
	else if (strcmp(name, "full") == 0)
		c->full = true;
	else if (strcmp(name, "quiet") == 0)
		c->quiet = true;
	else if (strcmp(name, "utc") == 0)
		setenv("TZ", "UTC", 1);
	else if (strcmp(name, "connection") == 0)
		c->connection = value;
	else if (strcmp(name, "help") == 0)
		*help = true;
	else if (strcmp(name, "version") == 0) {
		puts("vireoctl " VIREO_VERSION);
		exit(EXIT_OK);
	} else
		return -1;
	return EXIT_OK;
}

const char *given_value(const struct ctl *c, const char *option)
{
	for (size_t i = c->n_given; i > 0; i--)
		if (strcmp(c->given[i - 1].option->name, option) == 0)
			return c->given[i - 1].value;
	return NULL;
}

static const struct verb_option *find_option(const struct verb *v, const char *name, size_t n, bool *unclear)
{
	const struct verb_option *const lists[] = {v->options, v->operation ? common_options : NULL};
	const struct verb_option *found = NULL;

	for (size_t l = 0; l < ELEMENTS(lists); l++)
		for (const struct verb_option *o = lists[l]; o && o->name; o++) {
			if (strncmp(o->name, name, n) != 0)
				continue;
			if (strlen(o->name) == n) {
				*unclear = false;
				return o;
			}
			*unclear = *unclear || found;
			found = o;
		}
	return found;
}

static const struct option_info *find_global(const char *name, size_t n, bool *unclear)
{
	const struct option_info *found = NULL;

	for (const struct option_info *o = global_option_names; o->name; o++) {
		if (strncmp(o->name, name, n) != 0)
			continue;
		if (strlen(o->name) == n) {
			*unclear = false;
			return o;
		}
		*unclear = *unclear || found;
		found = o;
	}
	return found;
}

static int verb_option(struct ctl *c, const struct verb_option *o, const char *value)
{
	if (c->n_given == ELEMENTS(c->given))
		return usage_error("too many options");
	c->given[c->n_given++] = (struct given){.option = o, .value = value ? value : ""};
	return EXIT_OK;
}

static int unknown_option(const struct verb *v, const char *name, size_t n)
{
	const char *group = v && v->group ? v->group : "", *space = v && v->group ? " " : "";

	if (!v)
		return usage_error("there is no option --%.*s in front of a verb; “vireoctl --help” lists those there are",
				   (int)n, name);
	return usage_error("%s%s%s has no option --%.*s; “vireoctl %s%s%s --help” lists those it has", group, space,
			   v->name, (int)n, name, group, space, v->name);
}

/*
 * One option. Every verb has options of its own, so getopt_long() would not be much of a help; this takes what it
 * takes: "--name=value", "--name value", unambiguous beginnings.
 */
static int long_option(struct ctl *c, const struct verb *v, char **argv, int *i, bool *help)
{
	const char *name = argv[*i] + 2, *value = strchr(name, '=');
	size_t n = value ? (size_t)(value - name) : strlen(name);
	bool unclear = false, unclear_global = false;
	const struct verb_option *own = v ? find_option(v, name, n, &unclear) : NULL;
	const struct option_info *global = find_global(name, n, &unclear_global);
	bool own_exact = own && strlen(own->name) == n, global_exact = global && strlen(global->name) == n;
	/* a lone --json is --json=short, as with systemctl -o: its value is never the next argument */
	bool wants, optional;

	value = value ? value + 1 : NULL;
	if (own && global && !own_exact && !global_exact)
		unclear = true;
	else if (own_exact || (own && !global))
		global = NULL;
	else if (global_exact || (global && !own)) {
		own = NULL;
		unclear = unclear_global;
	}
	if (unclear)
		return usage_error("--%.*s can be the beginning of several options", (int)n, name);
	if (!own && !global)
		return unknown_option(v, name, n);
	wants = own ? own->type != 'b' : global->value;
	optional = global && strcmp(global->name, "json") == 0;
	if (!wants && value)
		return usage_error("--%s takes no value", own ? own->name : global->name);
	if (wants && !optional && !value) {
		if (!argv[*i + 1])
			return usage_error("--%s needs a value", own ? own->name : global->name);
		value = argv[++*i];
	}
	return own ? verb_option(c, own, value) : global_option(c, global->name, value, help);
}

static int short_options(struct ctl *c, const struct verb *v, char **argv, int *i, bool *help)
{
	for (const char *p = argv[*i] + 1; *p; p++) {
		const char *name = *p == 'h' ? "help" : *p == 'l' ? "full" : *p == 'q' ? "quiet" : *p == 'j' ? "json" : NULL;
		bool unclear = false;
		const struct verb_option *o;

		if (name) {
			int r = global_option(c, name, NULL, help);

			if (r != EXIT_OK)
				return r;
			continue;
		}
		/* the others are short for options that only some verbs have */
		name = *p == 'n' ? "lines" : *p == 'a' ? "async" : *p == 'p' ? "property" : NULL;
		o = name && v ? find_option(v, name, strlen(name), &unclear) : NULL;
		if (!o)
			return usage_error("there is no option -%c here", *p);
		if (o->type != 'b') {
			const char *value = p[1] ? p + 1 : argv[*i + 1] ? argv[++*i] : NULL;

			return value ? verb_option(c, o, value) : usage_error("-%c needs a value", *p);
		}
		(void)verb_option(c, o, NULL);
	}
	return EXIT_OK;
}

/* ---- arguments ----------------------------------------------------------------------------------------------------- */

static void count_arguments(const char *spec, int *min, int *max)
{
	*min = *max = 0;
	for (; *spec; spec++) {
		switch (*spec) {
		case '?':
			--*min;
			break;
		case '+':
			*max = -1;
			return;
		case '*':
			--*min;
			*max = -1;
			return;
		default:
			++*min;
			++*max;
		}
	}
}

static int check_arguments(const struct verb *v, int n)
{
	const char *group = v->group ? v->group : "", *space = v->group ? " " : "";
	int min, max;

	count_arguments(v->spec, &min, &max);
	if (n < min)
		return usage_error("too few arguments. Usage: vireoctl %s%s%s %s", group, space, v->name, v->arguments);
	if (max >= 0 && n > max)
		return usage_error("too many arguments. Usage: vireoctl %s%s%s %s", group, space, v->name, v->arguments);
	return EXIT_OK;
}

static int unknown_verb(const char *group, const char *name)
{
	return usage_error("there is no verb “%s%s%s”; “vireoctl --help” lists them all", group ? group : "", group ? " " : "", name);
}

/* Sorts the words of the command line: verb, options, arguments (which are moved to the front of argv). */
static int parse(struct ctl *c, char **argv, const struct verb **verb, int *n_arguments)
{
	const char *group = NULL;
	bool options = true, help = false;
	int n = 0, r;

	*verb = NULL;
	for (int i = 1; argv[i]; i++) {
		char *word = argv[i];

		if (*verb && (*verb)->run == verb_complete) {
			argv[n++] = word;
		} else if (options && strcmp(word, "--") == 0) {
			options = false;
		} else if (options && word[0] == '-' && word[1]) {
			r = word[1] == '-' ? long_option(c, *verb, argv, &i, &help) : short_options(c, *verb, argv, &i, &help);
			if (r != EXIT_OK)
				return r;
		} else if (*verb) {
			argv[n++] = word;
		} else if (!group && verb_is_group(word)) {
			group = word;
		} else {
			*verb = verb_find(group, word);
			if (!*verb)
				return unknown_verb(group, word);
		}
	}
	argv[n] = NULL;
	if (help) {
		if (*verb)
			verb_usage(*verb);
		else
			(void)verb_help(c, NULL, NULL, 0);
		exit(EXIT_OK);
	}
	/* "vireoctl" and "vireoctl pool" alone list */
	if (!*verb)
		*verb = verb_find(group, "list");
	if (!*verb)
		return usage_error("%s what? “vireoctl --help” lists the verbs", group);
	*n_arguments = n;
	return check_arguments(*verb, n);
}

/* As vireod chooses. */
static int default_bus(struct ctl *c)
{
	const char *s = getenv("VIREO_BUS");

	if (c->bus_choice != BUS_UNSET)
		return EXIT_OK;
	if (!s || !*s)
		c->bus_choice = geteuid() == 0 ? BUS_SYSTEM : BUS_SESSION;
	else if (strcmp(s, "system") == 0)
		c->bus_choice = BUS_SYSTEM;
	else if (strcmp(s, "session") == 0)
		c->bus_choice = BUS_SESSION;
	else {
		c->bus_choice = BUS_ADDRESS;
		c->address = s;
	}
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	static struct ctl c;
	const struct verb *v;
	int n = 0, r;

	term_init(&c);
	r = parse(&c, argv, &v, &n);
	if (r == EXIT_OK)
		r = default_bus(&c);
	if (r == EXIT_OK)
		r = v->run(&c, v, argv, n);
	client_close(&c);
	agent_close();
	if (fflush(stdout) == EOF && errno != EPIPE && r == EXIT_OK) {
		complain("cannot write: %s", strerror(errno));
		r = EXIT_FAILED;
	}
	pager_close(&c);
	return r;
}
