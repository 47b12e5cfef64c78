/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config-build.h"
#include "driver.h"
#include "qemu/qemu-driver.h"
#include "sim/sim-driver.h"
#include "util/log.h"

#if HAVE_LIBVIRT
#include "drivers/libvirt/libvirt-driver.h"
#endif

/* Main loop's thread only. Filled once at the start, and never more than a handful. */
#define DRIVERS_MAX 16

static const struct driver *drivers[DRIVERS_MAX];
static size_t n_drivers;

/* NULL: it is fine. */
static const char *find_fault(const struct driver *d)
{
	static const enum operation none = OP_NONE;

	if (d->api != DRIVER_API)
		return "it was written for another version of drivers/driver.h";
	if (!d->summary || !d->uris || !d->uris[0] || !d->events || (!d->operations && !d->every_operation))
		return "its table lacks the summary, example URIs, events or operations";
	if (!d->claim)
		return "it has no claim()";
	if (!d->open)
		return "it has no open()";
	if (!d->close)
		return "it has no close()";
	if (!d->list)
		return "it has no list()";
	if (!d->look)
		return "it has no look()";
	if ((d->every_operation || d->operations[0] != OP_NONE) && !d->operate)
		return "it lists operations, but has no operate()";
	for (const enum operation *op = d->every_operation ? &none : d->operations; *op != OP_NONE; op++)
		if (*op < OP_NONE || *op >= OP_MAX)
			return "it lists an operation that there isn't";
	for (const struct event_def *e = d->events; e->name; e++)
		if (e->kind != KIND_DOMAIN && e->kind != KIND_POOL && e->kind != KIND_NETWORK)
			return "it lists an event of something that is neither domain, pool nor network";
	return NULL;
}

int registry_add(const struct driver *d)
{
	const char *fault;

	if (!d || !d->name || !d->name[0]) {
		log_error("A driver without a name is refused.");
		return -EINVAL;
	}
	fault = find_fault(d);
	if (!fault) {
		for (size_t i = 0; i < n_drivers; i++) {
			if (drivers[i] == d)
				return 0;
			if (strcmp(drivers[i]->name, d->name) == 0)
				fault = "there is another one of this name";
		}
	}
	if (!fault && n_drivers == DRIVERS_MAX)
		fault = "there are too many drivers";
	if (fault) {
		log_error("Driver '%s' is refused: %s.", d->name, fault);
		return -EINVAL;
	}
	drivers[n_drivers++] = d;
	return 0;
}

void registry_add_builtin(void)
{
	registry_add(&sim_driver);
	registry_add(&qmp_driver);
	registry_add(&qemu_driver);
#if HAVE_LIBVIRT
	registry_add(&libvirt_driver);
#endif
}

bool driver_can(const struct driver *d, enum operation operation)
{
	if (d->every_operation)
		return operation > OP_NONE && operation < OP_MAX;
	for (const enum operation *op = d->operations; *op != OP_NONE; op++)
		if (*op == operation)
			return true;
	return false;
}

size_t registry_count(void)
{
	return n_drivers;
}

const struct driver *registry_get(size_t i)
{
	return i < n_drivers ? drivers[i] : NULL;
}

/* ---- choosing --------------------------------------------------------------------------------------------- */

/* The schemes of all example URIs, each once: "sim, test, qemu". */
static char *list_schemes(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	for (size_t i = 0; i < n_drivers; i++)
		for (const char *const *u = drivers[i]->uris; *u; u++) {
			size_t n = strcspn(*u, ":");
			bool known = false;

			for (size_t j = 0; j <= i && !known; j++)
				for (const char *const *v = drivers[j]->uris; *v && v != u && !known; v++)
					known = strcspn(*v, ":") == n && strncmp(*u, *v, n) == 0;
			if (!known)
				fprintf(f, "%s%.*s:", ftell(f) ? ", " : "", (int)n, *u);
		}
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

int registry_choose(const char *uri, const struct driver **ret, struct failure *f)
{
	_cleanup_(freep) char *why = NULL;
	_cleanup_(freep) char *schemes = NULL;
	const struct driver *broken = NULL;

	if (!uri || !uri[0])
		return failure_set(f, VIREO_INVALID_URI, "The URI of a hypervisor is empty.");
	for (size_t i = 0; i < n_drivers; i++) {
		_cleanup_(freep) char *its_why = NULL;

		switch (drivers[i]->claim(uri, &its_why)) {
		case CLAIM_MINE:
			*ret = drivers[i];
			return 0;
		case CLAIM_BROKEN:
			if (!broken) {
				broken = drivers[i];
				why = TAKE(its_why);
			}
			break;
		case CLAIM_NOT_MINE:
			break;
		}
	}
	if (broken)
		return failure_set(f, VIREO_INVALID_URI, "The URI '%s' is not right for driver '%s': %s", uri,
				   broken->name, why ? why : "it does not say why.");
	schemes = list_schemes();
	return failure_set(f, VIREO_INVALID_URI, "No driver takes the URI '%s'; the schemes that there are: %s.", uri,
			   schemes && schemes[0] ? schemes : "none");
}

/* ---- describing ------------------------------------------------------------------------------------------- */

#define COLUMNS 100

static const struct {
	enum kind kind;
	const char *interface;
} interfaces[] = {
	{KIND_CONNECTION, "Connection"},
	{KIND_DOMAIN, "Domain"},
	{KIND_POOL, "StoragePool"},
	{KIND_NETWORK, "Network"},
};

/* One word of a list that is broken into lines; @column: where the line stands, 0: nothing printed yet. */
static void print_word(FILE *f, const char *label, const char *word, size_t *column)
{
	size_t n = strlen(word);

	if (*column == 0 || *column + 1 + n > COLUMNS) {
		fprintf(f, "%s    %-24s", *column ? "\n" : "", *column ? "" : label);
		*column = 28;
	}
	fprintf(f, " %s", word);
	*column += 1 + n;
}

static void print_end(FILE *f, size_t *column)
{
	if (*column)
		fputc('\n', f);
	*column = 0;
}

static void describe_driver(FILE *f, const struct driver *d)
{
	size_t column = 0;

	fprintf(f, "%s: %s\n", d->name, d->summary);
	for (const char *const *u = d->uris; *u; u++) {
		/* one a line: they are for copying */
		fprintf(f, "    %-24s %s\n", u == d->uris ? "URIs" : "", *u);
	}
	for (size_t i = 0; i < ELEMENTS(interfaces); i++) {
		char label[64];

		snprintf(label, sizeof(label), "%s events", interfaces[i].interface);
		for (unsigned c = CAUSE_NONE + 1; c < CAUSE_OTHER; c++)
			if (d->causes[interfaces[i].kind] & (1u << c))
				print_word(f, label, cause_to_string(c), &column);
		print_end(f, &column);
		for (const struct event_def *e = d->events; e->name; e++) {
			if (e->kind != interfaces[i].kind)
				continue;
			fprintf(f, "    %-24s %-24s %-40s %s\n", "", e->name, e->details ? e->details : "",
				e->source ? e->source : "");
		}
		snprintf(label, sizeof(label), "%s operations", interfaces[i].interface);
		for (enum operation op = OP_NONE + 1; op < OP_MAX; op++)
			if (operation_table[op].kind == interfaces[i].kind && driver_can(d, op))
				print_word(f, label, operation_table[op].method, &column);
		print_end(f, &column);
	}
	fputc('\n', f);
}

static bool can_report(const struct driver *d, enum kind kind, const char *event)
{
	for (unsigned c = CAUSE_NONE + 1; c < CAUSE_OTHER; c++)
		if ((d->causes[kind] & (1u << c)) && strcmp(cause_to_string(c), event) == 0)
			return true;
	for (const struct event_def *e = d->events; e->name; e++)
		if (e->kind == kind && strcmp(e->name, event) == 0)
			return true;
	return false;
}

static void print_row(FILE *f, const char *interface, const char *member, bool (*can)(const struct driver *, const void *),
		      const void *what)
{
	char name[96];

	snprintf(name, sizeof(name), "%s.%s", interface, member);
	fprintf(f, "    %-40s", name);
	for (size_t i = 0; i < n_drivers; i++)
		fprintf(f, " %-8s", can(drivers[i], what) ? "yes" : "-");
	fputc('\n', f);
}

struct event_name {
	enum kind kind;
	const char *name;
};

static bool row_event(const struct driver *d, const void *what)
{
	const struct event_name *e = what;

	return can_report(d, e->kind, e->name);
}

static bool row_operation(const struct driver *d, const void *what)
{
	return driver_can(d, *(const enum operation *)what);
}

static void print_heading(FILE *f, const char *title)
{
	fprintf(f, "%-44s", title);
	for (size_t i = 0; i < n_drivers; i++)
		fprintf(f, " %-8s", drivers[i]->name);
	fputc('\n', f);
}

static void describe_matrix(FILE *f)
{
	print_heading(f, "Events");
	for (size_t i = 0; i < ELEMENTS(interfaces); i++) {
		enum kind kind = interfaces[i].kind;

		if (kind == KIND_CONNECTION)
			continue;
		for (unsigned c = CAUSE_NONE + 1; c < CAUSE_OTHER; c++) {
			struct event_name e = {kind, cause_to_string(c)};
			bool any = false;

			for (size_t j = 0; j < n_drivers; j++)
				any = any || can_report(drivers[j], kind, e.name);
			if (any)
				print_row(f, interfaces[i].interface, e.name, row_event, &e);
		}
		for (size_t j = 0; j < n_drivers; j++)
			for (const struct event_def *d = drivers[j]->events; d->name; d++) {
				struct event_name e = {kind, d->name};
				bool shown = d->kind != kind;

				for (size_t k = 0; k < j && !shown; k++)
					shown = can_report(drivers[k], kind, d->name);
				if (!shown)
					print_row(f, interfaces[i].interface, d->name, row_event, &e);
			}
	}
	fputc('\n', f);
	print_heading(f, "Operations");
	for (enum operation op = OP_NONE + 1; op < OP_MAX; op++)
		print_row(f, operation_table[op].interface, operation_table[op].method, row_operation, &op);
}

char *registry_describe(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	for (size_t i = 0; i < n_drivers; i++)
		describe_driver(f, drivers[i]);
	describe_matrix(f);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
