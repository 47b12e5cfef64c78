/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- values ---------------------------------------------------------------------------------------------------- */

static bool parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < ELEMENTS(yes); i++) {
		if (strcasecmp(s, yes[i]) == 0)
			return *ret = true, true;
		if (strcasecmp(s, no[i]) == 0)
			return *ret = false, true;
	}
	return false;
}

struct unit {
	const char *name;
	uint64_t factor;
};

/* A number with a unit; several are added up ("1h 30min"). @fallback: factor of a bare number. */
static bool parse_units(const char *s, const struct unit *units, size_t n, uint64_t fallback, uint64_t *ret)
{
	uint64_t sum = 0;

	s += strspn(s, " \t");
	if (!*s)
		return false;
	while (*s) {
		uint64_t factor = 0;
		double value;
		char *end;
		size_t length;

		if (*s < '0' || *s > '9')
			return false;
		value = strtod(s, &end);
		s = end + strspn(end, " \t");
		length = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
		if (length == 0)
			factor = fallback;
		for (size_t i = 0; i < n && length > 0; i++)
			if (strlen(units[i].name) == length && strncmp(units[i].name, s, length) == 0)
				factor = units[i].factor;
		if (factor == 0 || !isfinite(value) || value * (double)factor >= 9e18)
			return false;
		if (__builtin_add_overflow(sum, (uint64_t)(value * (double)factor), &sum))
			return false;
		s += length;
		s += strspn(s, " \t");
	}
	*ret = sum;
	return true;
}

static bool parse_time(const char *s, uint64_t *ret)
{
	static const struct unit units[] = {{"us", 1},
					    {"ms", USEC_PER_MSEC},
					    {"s", USEC_PER_SEC},
					    {"sec", USEC_PER_SEC},
					    {"m", 60 * USEC_PER_SEC},
					    {"min", 60 * USEC_PER_SEC},
					    {"h", 3600 * USEC_PER_SEC},
					    {"d", 86400 * USEC_PER_SEC},
					    {"day", 86400 * USEC_PER_SEC},
					    {"days", 86400 * USEC_PER_SEC},
					    {"week", 7 * 86400 * USEC_PER_SEC},
					    {"weeks", 7 * 86400 * USEC_PER_SEC}};

	if (strcmp(s, "infinity") == 0 || strcmp(s, "never") == 0)
		return *ret = USEC_UNKNOWN, true;
	return parse_units(s, units, ELEMENTS(units), USEC_PER_SEC, ret);
}

static bool parse_size(const char *s, uint64_t *ret)
{
	static const struct unit units[] = {{"B", 1},
					    {"K", UINT64_C(1) << 10},
					    {"M", UINT64_C(1) << 20},
					    {"G", UINT64_C(1) << 30},
					    {"T", UINT64_C(1) << 40}};

	return parse_units(s, units, ELEMENTS(units), 1, ret);
}

static bool parse_count(const char *s, uint64_t *ret)
{
	static const struct unit none = {"", 1};

	return parse_units(s, &none, 1, 1, ret);
}

/* ---- the file -------------------------------------------------------------------------------------------------- */

struct reader {
	struct config *config;
	const char *path;
	struct failure *failure;
	FILE *file;
	int line; /* the one inih was given last */
};

static struct config_connection *connection_of_section(struct config *c, const char *label)
{
	struct config_connection *more;

	for (size_t i = 0; i < c->n_connections; i++)
		if (c->connections[i].label && strcmp(c->connections[i].label, label) == 0)
			return &c->connections[i];
	more = *label ? reallocarray(c->connections, c->n_connections + 1, sizeof(*more)) : NULL;
	if (!more)
		return NULL;
	c->connections = more;
	more[c->n_connections] = (struct config_connection){.label = strdup(label)};
	return more[c->n_connections].label ? &more[c->n_connections++] : NULL;
}

/* The part of "[view GROUP]" or "[connection LABEL]" behind the word; NULL: it is another section. */
static const char *section_name(const char *section, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(section, word, n) != 0 || (section[n] != 0 && section[n] != ' ' && section[n] != '\t'))
		return NULL;
	return section + n + strspn(section + n, " \t");
}

static struct config_view *view_of_section(struct config *c, const char *group)
{
	struct config_view *more;

	for (size_t i = 0; i < c->n_views; i++)
		if (strcmp(c->views[i].group, group) == 0)
			return &c->views[i];
	more = *group ? reallocarray(c->views, c->n_views + 1, sizeof(*more)) : NULL;
	if (!more)
		return NULL;
	c->views = more;
	more[c->n_views] = (struct config_view){.group = strdup(group)};
	return more[c->n_views].group ? &more[c->n_views++] : NULL;
}

static void strings_free(char **l)
{
	for (char **s = l; s && *s; s++)
		free(*s);
	free(l);
}

/* Words, added to those that are there. */
static bool add_patterns(char ***list, const char *value)
{
	size_t n = 0;

	while (*list && (*list)[n])
		n++;
	while (*(value += strspn(value, " \t"))) {
		size_t length = strcspn(value, " \t");
		char **more = reallocarray(*list, n + 2, sizeof(*more));

		if (!more)
			return false;
		*list = more;
		more[n] = strndup(value, length);
		more[n + 1] = NULL;
		if (!more[n++])
			return false;
		value += length;
	}
	return true;
}

static int no_section(struct reader *r, const char *section)
{
	failure_set(r->failure, VIREO_INVALID_OPTION,
		    "%s:%d: there is no section [%s]: there are [broker], [history], [limits], [connection LABEL] and "
		    "[view GROUP]",
		    r->path, r->line, section);
	return 0;
}

/* inih tells of values only: a section without any, or one that stands twice, would go unnoticed. */
static void on_section(struct reader *r, const char *section)
{
	const char *label = section_name(section, "connection"), *group = section_name(section, "view");
	struct config *c = r->config;
	size_t n = c->n_connections;

	if (label && !*label)
		failure_set(r->failure, VIREO_INVALID_OPTION,
			    "%s:%d: a connection's section is [connection LABEL], with a label", r->path, r->line);
	else if (label && connection_of_section(c, label) && n == c->n_connections)
		failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: [connection %s] stands twice", r->path, r->line, label);
	else if (group && !*group)
		failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: a section about what a group may see is [view GROUP]",
			    r->path, r->line);
	else if (!label && !group && strcmp(section, "broker") != 0 && strcmp(section, "history") != 0 &&
		 strcmp(section, "limits") != 0)
		(void)no_section(r, section);
}

static int bad(struct reader *r, const char *name, const char *value, const char *expected)
{
	failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: %s=%s is not understood: expected %s", r->path, r->line, name,
		    value, expected);
	return 0;
}

/* inih's convention: 1 goes on, 0 is an error. */
static int on_value(void *userdata, const char *section, const char *name, const char *value)
{
	struct reader *r = userdata;
	struct config *c = r->config;
	static const char time[] = "a time such as 30s, 5min or never", size[] = "a size such as 512M or 2G",
			  positive[] = "a number of at least 1";

	/* The first mistake is told; inih goes on to the end. */
	if (r->failure->error)
		return 0;
	if (strcmp(section, "broker") == 0) {
		if (strcmp(name, "StateDirectory") == 0) {
			if (value[0] != '/')
				return bad(r, name, value, "an absolute path");
			free(c->state_directory);
			c->state_directory = strdup(value);
			return c->state_directory != NULL;
		}
		if (strcmp(name, "Broadcast") == 0)
			return parse_bool(value, &c->broadcast) ? 1 : bad(r, name, value, "yes or no");
		if (strcmp(name, "PollInterval") == 0)
			return parse_time(value, &c->broker.poll_interval) && c->broker.poll_interval >= 100 * USEC_PER_MSEC
				       ? 1
				       : bad(r, name, value, "a time of at least 100ms");
		if (strcmp(name, "ResyncInterval") == 0)
			return parse_time(value, &c->broker.resync_interval) && c->broker.resync_interval >= USEC_PER_SEC
				       ? 1
				       : bad(r, name, value, "a time of at least 1s, or never");
		if (strcmp(name, "IdleExit") == 0) {
			if (!parse_time(value, &c->idle_exit))
				return bad(r, name, value, time);
			if (c->idle_exit == USEC_UNKNOWN)
				c->idle_exit = 0;
			return 1;
		}
	} else if (strcmp(section, "history") == 0) {
		if (strcmp(name, "MaxEvents") == 0)
			return parse_count(value, &c->broker.history.max_events) && c->broker.history.max_events > 0
				       ? 1
				       : bad(r, name, value, positive);
		if (strcmp(name, "MaxAge") == 0)
			return parse_time(value, &c->broker.history.max_age) && c->broker.history.max_age > 0 ? 1 : bad(r, name, value, time);
		if (strcmp(name, "MaxBytes") == 0)
			return parse_size(value, &c->broker.history.max_bytes) && c->broker.history.max_bytes > 0 ? 1 : bad(r, name, value, size);
	} else if (strcmp(section, "limits") == 0) {
		const struct {
			const char *name;
			uint64_t *to;
		} limits[] = {{"Streams", &c->max_streams}, {"Polls", &c->max_polls}, {"Questions", &c->max_questions}, {"Jobs", &c->max_jobs}};

		for (size_t i = 0; i < ELEMENTS(limits); i++)
			if (strcmp(name, limits[i].name) == 0)
				return parse_count(value, limits[i].to) && *limits[i].to > 0 && *limits[i].to <= UINT32_MAX
					       ? 1
					       : bad(r, name, value, positive);
		if (strcmp(name, "Bytes") == 0)
			return parse_size(value, &c->max_bytes) && c->max_bytes > 0 ? 1 : bad(r, name, value, size);
	} else if (section_name(section, "view")) {
		static const char *const keys[] = {[KIND_CONNECTION] = "Connections", [KIND_DOMAIN] = "Domains",
						   [KIND_POOL] = "Pools", [KIND_NETWORK] = "Networks"};
		struct config_view *view = view_of_section(c, section_name(section, "view"));

		if (!view)
			return 0;
		for (size_t i = 0; i < ELEMENTS(keys); i++)
			if (strcmp(name, keys[i]) == 0)
				return add_patterns(&view->patterns[i], value) && view->patterns[i]
					       ? 1
					       : bad(r, name, value, "names or patterns, such as web-*");
	} else if (section_name(section, "connection")) {
		struct config_connection *conn = connection_of_section(c, section_name(section, "connection"));

		if (!conn)
			return 0;
		if (strcmp(name, "URI") == 0) {
			/* Of two, one hypervisor would silently not be followed. */
			if (conn->uri) {
				failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: [%s] has a second URI", r->path, r->line,
					    section);
				return 0;
			}
			conn->uri = strdup(value);
			return conn->uri != NULL;
		}
	} else if (!*section) {
		failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: “%s” stands before the first section", r->path, r->line,
			    name);
		return 0;
	} else
		return no_section(r, section);
	failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: section [%s] has no key “%s”", r->path, r->line,
		    section, name);
	return 0;
}

/* fgets(), for inih, that counts lines, sees sections, and says what inih would cut in two. */
static char *next_line(char *buffer, int size, void *userdata)
{
	struct reader *r = userdata;
	char *close = NULL;

	/* The rest of a file that is wrong is not worth reading, and may be endless. */
	if (r->failure->error || !fgets(buffer, size, r->file))
		return NULL;
	r->line++;
	if (!buffer[0])
		failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: not text", r->path, r->line);
	else if (strlen(buffer) + 1 == (size_t)size && buffer[size - 2] != '\n')
		failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: longer than %d bytes", r->path, r->line, size - 2);
	else if (buffer[0] == '[' && !(close = strchr(buffer, ']')))
		failure_set(r->failure, VIREO_INVALID_OPTION, "%s:%d: a section's name ends with “]”", r->path, r->line);
	else if (buffer[0] == '[') {
		*close = 0;
		on_section(r, buffer + 1);
		*close = ']';
	}
	return r->failure->error ? NULL : buffer;
}

int config_read(struct config *c, const char *path, bool required, struct failure *f)
{
	struct failure found = {0};
	struct reader r = {.config = c, .path = path, .failure = &found};
	FILE *file = fopen(path, "re");
	int line;

	if (!file) {
		if (errno == ENOENT && !required)
			return 0;
		return failure_set(f, VIREO_INVALID_OPTION, "cannot read %s: %m", path);
	}
	r.file = file;
	line = ini_parse_stream(next_line, &r, on_value, &r);
	if (ferror(file) && !found.error)
		failure_set(&found, VIREO_INVALID_OPTION, "cannot read %s: %m", path);
	fclose(file);
	if (found.error) {
		failure_set(f, found.error, "%s", found.message);
		failure_clear(&found);
		return (int)f->error;
	}
	if (line < 0)
		return -ENOMEM;
	if (line > 0)
		return failure_set(f, VIREO_INVALID_OPTION, "%s:%d: not a line of “[section]”, “Key=value” or “# comment”", path,
				   line);
	for (size_t i = 0; i < c->n_connections; i++)
		if (!c->connections[i].uri)
			return failure_set(f, VIREO_INVALID_OPTION, "%s: [connection %s] lacks URI=", path,
					   c->connections[i].label);
	if (c->n_views > 0 && c->broadcast)
		return failure_set(f, VIREO_INVALID_OPTION,
				   "%s: [view %s] needs Broadcast=no in [broker]: what is broadcast everybody sees", path,
				   c->views[0].group);
	return 0;
}

int config_add_connection(struct config *c, const char *argument, struct failure *f)
{
	/* A label ends at the first '=', if that stands before anything that only a URI has. */
	size_t n = strcspn(argument, "=:/?");
	const char *uri = argument;
	struct config_connection *more;
	char *label = NULL, *copy;

	if (argument[n] == '=') {
		if (n == 0)
			return failure_set(f, VIREO_INVALID_OPTION, "--connect=%s: the label before “=” is empty", argument);
		label = strndup(argument, n);
		uri = argument + n + 1;
	}
	if (!*uri) {
		free(label);
		return failure_set(f, VIREO_INVALID_OPTION, "--connect wants [LABEL=]URI, for example qemu:///system");
	}
	copy = strdup(uri);
	more = reallocarray(c->connections, c->n_connections + 1, sizeof(*more));
	if (!copy || !more) {
		free(label);
		free(copy);
		return -ENOMEM;
	}
	c->connections = more;
	more[c->n_connections++] = (struct config_connection){.label = label, .uri = copy};
	return 0;
}

void config_clear(struct config *c)
{
	for (size_t i = 0; i < c->n_connections; i++) {
		free(c->connections[i].label);
		free(c->connections[i].uri);
	}
	free(c->connections);
	for (size_t i = 0; i < c->n_views; i++) {
		free(c->views[i].group);
		for (size_t k = 0; k < ELEMENTS(c->views[i].patterns); k++)
			strings_free(c->views[i].patterns[k]);
	}
	free(c->views);
	free(c->state_directory);
	*c = (struct config){0};
}
