/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <libxml/entities.h>
#include <string.h>
#include <unistd.h>

#include "operate.h"
#include "term.h"

/* Changing verbs that make XML of what the user said, or take a descriptor. */

/* For text, and for attributes in double quotes. Owned by the caller; NULL: no memory. */
static char *escape_xml(const char *s)
{
	return (char *)xmlEncodeSpecialChars(NULL, BAD_CAST s);
}

/* The call of a method of what the first argument names, so far without arguments. */
static int new_operation(struct ctl *c, const struct verb *v, const char *name, sd_bus_message **ret)
{
	_cleanup_(freep) char *path = NULL;
	int r = resolve(c, KINDS(v->operation->kind), name, &path);

	return r == EXIT_OK ? client_new_call(c, ret, path, kind_interfaces[v->operation->kind], v->operation->member) : r;
}

/* blockcopy NAME DISK TARGET: a file or a device; --xml says it all instead. */
int verb_blockcopy(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	_cleanup_(freep) char *xml = NULL, *path = NULL, *safe = NULL, *format = NULL;
	const char *from = given_value(c, "disk-xml");
	bool block = is_given(c, "blockdev");
	int r;

	if (from && n > 2)
		return usage_error("say a TARGET or --disk-xml, not both");
	if (!from && n < 3)
		return usage_error("where to? Say a TARGET, or --disk-xml=FILE");
	if (from)
		r = read_text_file(from, &xml);
	else {
		r = absolute_path(args[2], &path);
		safe = path ? escape_xml(path) : NULL;
		format = escape_xml(is_given(c, "format") ? given_value(c, "format") : "raw");
		if (r == EXIT_OK &&
		    (!safe || !format || asprintf(&xml, "<disk type=\"%s\"><driver type=\"%s\"/><source %s=\"%s\"/></disk>",
						block ? "block" : "file", format, block ? "dev" : "file", safe) < 0))
			r = out_of_memory();
	}
	if (r == EXIT_OK)
		r = new_operation(c, v, args[0], &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "ss", args[1], xml);
	return r < 0 ? client_failed(c, args[0], NULL, r) : operate_message(c, v, m, args[0]);
}

int verb_autostart(struct ctl *c, const struct verb *v, char **args, int n)
{
	struct operation op = *v->operation;
	struct verb unset = *v;
	int first = EXIT_OK;

	if (is_given(c, "disable")) {
		op.done = "autostart unset";
		unset.operation = &op;
		v = &unset;
	}
	for (int i = 0; i < n; i++) {
		_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
		int r = new_operation(c, v, args[i], &m);

		if (r == EXIT_OK) {
			r = sd_bus_message_append(m, "b", !is_given(c, "disable"));
			r = r < 0 ? client_failed(c, args[i], NULL, r) : operate_message(c, v, m, args[i]);
		}
		first = first == EXIT_OK ? r : first;
	}
	return first;
}

/* vol create POOL FILE, or vol create POOL NAME SIZE. */
int verb_vol_create(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	_cleanup_(freep) char *xml = NULL, *name = NULL, *format = NULL, *target = NULL;
	uint64_t capacity, allocation = 0;
	int r = EXIT_OK;

	if (n == 2) {
		if (is_given(c, "format") || is_given(c, "allocation"))
			return usage_error("--format and --allocation go with NAME and SIZE; a file says all that itself");
		r = read_text_file(args[1], &xml);
	} else {
		if (!parse_size(args[2], 1, &capacity))
			return usage_error("“%s” is no size; for example 10G, 512M, 2TB", args[2]);
		if (is_given(c, "allocation") && !parse_size(given_value(c, "allocation"), 1, &allocation))
			return usage_error("--allocation=%s is no size", given_value(c, "allocation"));
		name = escape_xml(args[1]);
		format = is_given(c, "format") ? escape_xml(given_value(c, "format")) : NULL;
		if (!name || (is_given(c, "format") && !format) ||
		    asprintf(&target, "%s%s%s", format ? "<target><format type=\"" : "", format ? format : "",
			    format ? "\"/></target>" : "") < 0 ||
		    asprintf(&xml, "<volume><name>%s</name><allocation unit='bytes'>%lu</allocation>"
				   "<capacity unit='bytes'>%lu</capacity>%s</volume>",
			    name, (unsigned long)allocation, (unsigned long)capacity, target) < 0)
			return out_of_memory();
	}
	if (r == EXIT_OK)
		r = new_operation(c, v, args[0], &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "s", xml);
	return r < 0 ? client_failed(c, args[0], NULL, r) : operate_message(c, v, m, args[1]);
}

/* vol upload and download POOL VOLUME FILE. The broker gets the file itself: it is this user who may read it. */
int verb_vol_transfer(struct ctl *c, const struct verb *v, char **args, int n)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	bool up = strcmp(v->name, "upload") == 0, standard = strcmp(args[2], "-") == 0;
	int fd, r;

	r = new_operation(c, v, args[0], &m);
	if (r != EXIT_OK)
		return r;
	if (standard)
		fd = up ? STDIN_FILENO : STDOUT_FILENO;
	else
		fd = up ? open(args[2], O_RDONLY | O_CLOEXEC) : open(args[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return usage_error("cannot open %s: %s", args[2], strerror(errno));
	/* the words would be among the data */
	c->quiet = c->quiet || (standard && !up);
	r = sd_bus_message_append(m, "sh", args[1], fd);
	if (!standard)
		close(fd);
	return r < 0 ? client_failed(c, args[1], NULL, r) : operate_message(c, v, m, args[1]);
}
