/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "operate.h"
#include "pager.h"
#include "show.h"

/* The verbs that only look, and finding and explaining all of them. */

static const struct verb_option list_options[] = {
	{"all", 'b', NULL, NULL, "Active and inactive ones: as without it"},
	{"active", 'b', NULL, NULL, "Only active ones"},
	{"inactive", 'b', NULL, NULL, "Only inactive ones"},
	{"state", 's', NULL, "STATE", "Only those in this state"},
	{"names", 'b', NULL, NULL, "Only names, one a line"},
	{0},
};
static const struct verb_option connections_options[] = {
	{"state", 's', NULL, "STATE", "Only those in this state: connected, connecting, disconnected"},
	{"names", 'b', NULL, NULL, "Only labels, one a line"},
	{0},
};
static const struct verb_option volumes_options[] = {
	{"names", 'b', NULL, NULL, "Only names, one a line"},
	{0},
};
static const struct verb_option jobs_options[] = {
	{"running", 'b', NULL, NULL, "Only those that have not ended"},
	{0},
};
static const struct verb_option show_options[] = {
	{"property", 's', NULL, "NAME[,NAME]", "Only these properties (-p)"},
	{"value", 'b', NULL, NULL, "Only values, one a line; numbers as on the bus"},
	{0},
};
static const struct verb_option xml_options[] = {
	{"inactive", 'b', NULL, NULL, "The persistent description, which the next start uses"},
	{"secure", 'b', NULL, NULL, "With secrets, such as passwords of consoles"},
	{0},
};
static const struct verb_option watch_options[] = {
	{"since", 's', NULL, "WHEN", "Begin there: EPOCH:VERSION, VERSION, or a time"},
	{"kind", 's', NULL, "KIND[,KIND]", "Only connection, domain, pool, network or job"},
	{"event", 's', NULL, "EVENT[,EVENT]", "Only these events, as Started or Domain.Started"},
	{"lines", 'n', NULL, "N", "End after so many events (-n)"},
	{"all", 'b', NULL, NULL, "Also those that only repeat what a line of a job says"},
	{0},
};
static const struct verb_option events_options[] = {
	{"since", 's', NULL, "WHEN", "Begin there: EPOCH:VERSION, VERSION, or a time"},
	{"until", 's', NULL, "WHEN", "End there"},
	{"kind", 's', NULL, "KIND[,KIND]", "Only connection, domain, pool, network or job"},
	{"event", 's', NULL, "EVENT[,EVENT]", "Only these events, as Started or Domain.Started"},
	{"lines", 'n', NULL, "N", "Only the last N (-n)"},
	{"all", 'b', NULL, NULL, "Also those that only repeat what a line of a job says"},
	{0},
};
static const struct verb_option timeline_options[] = {
	{"since", 's', NULL, "WHEN", "Begin there; otherwise an hour ago, or where history begins"},
	{"until", 's', NULL, "WHEN", "End there; otherwise now"},
	{"svg", 's', NULL, "FILE", "Write a picture; - is standard output"},
	{"width", 'n', NULL, "N", "Columns of the terminal, or pixels of the picture"},
	{0},
};
static const struct verb_option digest_options[] = {
	{"verify", 'b', NULL, NULL, "Compute it here too, from a listing and its events, and compare"},
	{"kind", 's', NULL, "KIND[,KIND]", "Only connection, domain, pool, network or job"},
	{0},
};

const struct verb verbs_read[] = {
	{NULL, "list", "N*", "[PATTERN…]", "List domains", list_options, verb_list, NULL},
	{NULL, "show", "O+", "NAME…", "Show the properties of an object of any kind", show_options, verb_show, NULL},
	{NULL, "xml", "O", "NAME", "Print the XML of a domain, pool or network", xml_options, verb_xml, NULL},
	{NULL, "watch", "O*", "[NAME…]", "Follow events as they happen", watch_options, verb_watch, NULL},
	{NULL, "events", "O*", "[NAME…]", "Print events of the past", events_options, verb_events, NULL},
	{NULL, "timeline", "N*", "[NAME…]", "Draw the lives of domains", timeline_options, verb_timeline, NULL},
	{NULL, "pools", "P*", "[PATTERN…]", "List storage pools", list_options, verb_pools, NULL},
	{NULL, "networks", "W*", "[PATTERN…]", "List networks", list_options, verb_networks, NULL},
	{NULL, "volumes", "P", "POOL", "List the volumes of a pool", volumes_options, verb_volumes, NULL},
	{NULL, "connections", "C*", "[PATTERN…]", "List connections to hypervisors", connections_options, verb_connections, NULL},
	{NULL, "jobs", "", "", "List jobs", jobs_options, verb_jobs, NULL},
	{NULL, "status", "", "", "Show the broker: epoch, version, history, connections", NULL, verb_status, NULL},
	{NULL, "digest", "", "", "Print the hash of all that can be seen", digest_options, verb_digest, NULL},
	{NULL, "help", "g?g?", "[VERB]", "Explain a verb", NULL, verb_help, NULL},
	{NULL, "_complete", "g*", "", NULL, NULL, verb_complete, NULL},
	{"pool", "list", "P*", "[PATTERN…]", "List storage pools", list_options, verb_pools, NULL},
	{"pool", "show", "P+", "POOL…", "Show the properties of a pool", show_options, verb_show, NULL},
	{"pool", "xml", "P", "POOL", "Print the XML of a pool", xml_options, verb_xml, NULL},
	{"vol", "list", "P", "POOL", "List the volumes of a pool", volumes_options, verb_volumes, NULL},
	{"net", "list", "W*", "[PATTERN…]", "List networks", list_options, verb_networks, NULL},
	{"net", "show", "W+", "NETWORK…", "Show the properties of a network", show_options, verb_show, NULL},
	{"net", "xml", "W", "NETWORK", "Print the XML of a network", xml_options, verb_xml, NULL},
	{0},
};

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

const struct verb *verb_find(const char *group, const char *name)
{
	const struct verb *const lists[] = {verbs_read, verbs_change};

	for (size_t l = 0; l < ELEMENTS(lists); l++)
		for (const struct verb *v = lists[l]; v->name; v++)
			if (same(v->group, group) && strcmp(v->name, name) == 0)
				return v;
	return NULL;
}

bool verb_is_group(const char *name)
{
	static const char *const groups[] = {"pool", "vol", "net"};

	for (size_t i = 0; i < ELEMENTS(groups); i++)
		if (strcmp(groups[i], name) == 0)
			return true;
	return false;
}

/* ---- help ---------------------------------------------------------------------------------------------------------- */

static void print_option(const char *name, const char *argument, const char *help)
{
	char left[80];

	(void)snprintf(left, sizeof(left), "--%s%s%s", name, argument ? "=" : "", argument ? argument : "");
	if (text_width(left) > 26)
		printf("  %s\n%30s%s\n", left, "", help);
	else {
		fputs("  ", stdout);
		print_padded(stdout, left, 28, false);
		puts(help);
	}
}

static void print_options(const struct verb_option *o)
{
	for (; o && o->name; o++)
		print_option(o->name, o->argument, o->help);
}

void verb_usage(const struct verb *v)
{
	printf("Usage: vireoctl %s%s%s [OPTION…] %s\n\n%s.\n", v->group ? v->group : "", v->group ? " " : "", v->name,
		v->arguments, v->summary);
	if (v->options) {
		puts("\nOptions:");
		print_options(v->options);
	}
	if (v->operation) {
		puts("\nOptions of every verb that changes something:");
		print_options(common_options);
	}
	puts("\nOptions of every verb: vireoctl --help. More: man vireoctl");
}

static void print_verbs(const struct ctl *c, const char *title, const char *group, bool read, bool change)
{
	const struct verb *const lists[] = {read ? verbs_read : NULL, change ? verbs_change : NULL};

	printf("\n%s%s:%s\n", colour_on(c, BOLD), title, colour_off(c));
	for (size_t l = 0; l < ELEMENTS(lists); l++)
		for (const struct verb *v = lists[l]; v && v->name; v++) {
			char left[120];

			if (!same(v->group, group) || !v->summary)
				continue;
			(void)snprintf(left, sizeof(left), "%s%s%s %s", group ? group : "", group ? " " : "", v->name,
				       v->arguments);
			fputs("  ", stdout);
			print_padded(stdout, left, 36, false);
			printf("%s%s\n", text_width(left) >= 36 ? "  " : "", v->summary);
		}
}

int verb_help(struct ctl *c, const struct verb *v, char **args, int n)
{
	if (n > 0) {
		const struct verb *about = n > 1 ? verb_find(args[0], args[1]) : verb_find(NULL, args[0]);

		if (!about)
			return usage_error("there is no verb “%s%s%s”", args[0], n > 1 ? " " : "", n > 1 ? args[1] : "");
		verb_usage(about);
		return EXIT_OK;
	}
	pager_open(c);
	puts("Usage: vireoctl [OPTION…] VERB [OPTION…] [ARGUMENT…]\n\n"
	     "Look at virtual machines, storage pools and networks through the Vireo broker, follow what\n"
	     "happens to them, and change them. A NAME is a name, a UUID, LABEL/NAME where several\n"
	     "connections have it, or a path on the bus. “vireoctl VERB --help” explains a verb.");
	print_verbs(c, "Look", NULL, true, false);
	print_verbs(c, "Change domains, jobs and connections", NULL, false, true);
	print_verbs(c, "Storage pools", "pool", true, true);
	print_verbs(c, "Volumes", "vol", true, true);
	print_verbs(c, "Networks", "net", true, true);
	printf("\n%sOptions:%s\n", colour_on(c, BOLD), colour_off(c));
	print_option("system", NULL, "The broker on the system bus: the default for root");
	print_option("session", NULL, "The broker on the session bus: the default for everybody else");
	print_option("address", "ADDRESS", "The broker on the bus at this D-Bus address");
	print_option("connection", "LABEL", "Only this connection to a hypervisor");
	print_option("json", "short|pretty|off", "Print JSON (-j: short)");
	print_option("no-pager", NULL, "Do not pipe the output into a pager");
	print_option("no-legend", NULL, "Print neither titles nor totals");
	print_option("full", NULL, "Do not cut what is too wide (-l)");
	print_option("quiet", NULL, "Do not say what was done (-q)");
	print_option("utc", NULL, "Print and read times as UTC");
	print_option("help", NULL, "This text (-h)");
	print_option("version", NULL, "Print the version");
	return EXIT_OK;
}
