/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operate.h"

#include <errno.h>
#include <fcntl.h>
#include <libxml/parser.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "job.h"
#include "term.h"

/*
 * Calling a changing method. Everything is begun with "async", which answers the job at once; so there is something
 * to show and to cancel while it lasts. Several objects are begun one after the other and then waited for together.
 */

bool wants_no_wait(const struct ctl *c)
{
	return is_given(c, "async") || is_given(c, "no-wait");
}

/* ---- arguments ----------------------------------------------------------------------------------------------------- */

int read_text_file(const char *path, char **ret)
{
	bool standard_input = strcmp(path, "-") == 0;
	FILE *f = standard_input ? stdin : fopen(path, "re");
	char *text = NULL;
	size_t size = 0;
	ssize_t n;

	if (!f) {
		complain("cannot read %s: %s", path, strerror(errno));
		return EXIT_USAGE;
	}
	n = getdelim(&text, &size, 0, f);
	if (n < 0 && ferror(f)) {
		complain("cannot read %s: %s", standard_input ? "standard input" : path, strerror(errno));
		free(text);
		if (!standard_input)
			fclose(f);
		return EXIT_USAGE;
	}
	if (n > 0 && text[n - 1] == 0) {
		free(text);
		if (!standard_input)
			fclose(f);
		return usage_error("%s is not a text file", path);
	}
	if (!standard_input)
		fclose(f);
	if (n <= 0) {
		free(text);
		return usage_error("%s is empty", standard_input ? "standard input" : path);
	}
	*ret = text;
	return EXIT_OK;
}

int absolute_path(const char *path, char **ret)
{
	char directory[PATH_MAX];

	if (path[0] == '/') {
		*ret = strdup(path);
		return *ret ? EXIT_OK : out_of_memory();
	}
	/* virsh does so too; right as long as the hypervisor is this machine */
	if (!getcwd(directory, sizeof(directory)))
		return usage_error("%s: say an absolute path", path);
	return asprintf(ret, "%s%s%s", directory, strcmp(directory, "/") == 0 ? "" : "/", path) < 0 ? out_of_memory() : EXIT_OK;
}

static int append_one(sd_bus_message *m, const char *key, char type, const void *value)
{
	char types[2] = {type, 0};
	int r = sd_bus_message_open_container(m, 'e', "sv");

	if (r >= 0)
		r = sd_bus_message_append(m, "s", key);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', types);
	if (r >= 0)
		r = sd_bus_message_append_basic(m, type, value);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

/* An exit status; what the bus says to it is in *error. */
static int append_given(struct ctl *c, sd_bus_message *m, const struct given *g, int *error)
{
	const struct verb_option *o = g->option;
	_cleanup_(freep) char *text = NULL;
	uint64_t number;
	uint32_t small;
	int r = EXIT_OK, yes = 1;

	*error = 0;
	switch (o->type) {
	case 'b':
		*error = append_one(m, o->key, 'b', &yes);
		break;
	case 's':
		*error = append_one(m, o->key, 's', g->value);
		break;
	case 'x':
		r = read_text_file(g->value, &text);
		if (r == EXIT_OK)
			*error = append_one(m, o->key, 's', text);
		break;
	case 'p':
		r = resolve(c, KINDS(KIND_POOL), g->value, &text);
		if (r == EXIT_OK)
			*error = append_one(m, o->key, 'o', text);
		break;
	case 't':
		if (!parse_size(g->value, 1, &number))
			return usage_error("--%s=%s is no size; for example 512, 64K, 1.5G, 2GB", o->name, g->value);
		*error = append_one(m, o->key, 't', &number);
		break;
	case 'k':
		if (!parse_number(g->value, UINT64_MAX, &number))
			return usage_error("--%s=%s is no number", o->name, g->value);
		*error = append_one(m, o->key, 't', &number);
		break;
	case 'u':
		if (!parse_size(g->value, 1, &number) || number > UINT32_MAX)
			return usage_error("--%s=%s is no number, or too large a one", o->name, g->value);
		small = (uint32_t)number;
		*error = append_one(m, o->key, 'u', &small);
		break;
	}
	return r;
}

/* All values of an option that can be given repeatedly or with commas. */
static int append_list(struct ctl *c, sd_bus_message *m, const struct verb_option *o)
{
	_cleanup_(freep) char *joined = NULL;
	const char *words[64];
	size_t n = 0, size;
	FILE *f = open_memstream(&joined, &size);

	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_given; i++)
		if (c->given[i].option == o)
			fprintf(f, "%s,", c->given[i].value);
	if (fclose(f) == EOF)
		return -ENOMEM;
	for (char *word = strtok(joined, ","); word && n < ELEMENTS(words); word = strtok(NULL, ","))
		words[n++] = word;
	return append_strings(m, o->key, 's', words, n);
}

int append_options(struct ctl *c, sd_bus_message *m, bool async, const char *fixed)
{
	int r = sd_bus_message_open_container(m, 'a', "{sv}"), error = 0, yes = 1;

	for (size_t i = 0; i < c->n_given && r >= 0; i++) {
		const struct verb_option *o = c->given[i].option;
		bool later = false;

		/* of a single value the last one counts; the broker would refuse a repeated key */
		for (size_t k = i + 1; k < c->n_given; k++)
			later = later || c->given[k].option == o;
		if (!o->key || later)
			continue;
		if (o->type == 'l') {
			r = append_list(c, m, o);
			continue;
		}
		r = append_given(c, m, &c->given[i], &error);
		if (r != EXIT_OK)
			return r;
		r = error;
	}
	if (r >= 0 && async)
		r = append_one(m, "async", 'b', &yes);
	if (r >= 0 && fixed)
		r = append_one(m, fixed, 'b', &yes);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? client_failed(c, NULL, NULL, r) : EXIT_OK;
}

/* What stands between the object and the options, as the letters of the verb say. Letter by letter: an exit status. */
static int append_argument(struct ctl *c, sd_bus_message *m, char letter, const char *text, char **ret_xml)
{
	_cleanup_(freep) char *owned = NULL;
	uint64_t number;
	int r = EXIT_OK, error = 0;

	switch (letter) {
	case 'h':
		r = absolute_path(text, &owned);
		if (r == EXIT_OK)
			error = sd_bus_message_append(m, "s", owned);
		break;
	case 'x':
		r = read_text_file(text, &owned);
		if (r == EXIT_OK)
			error = sd_bus_message_append(m, "s", owned);
		*ret_xml = TAKE(owned);
		break;
	case 'm':
	case 't':
		/* as virsh has it, memory without a unit would be KiB; nobody expects that. Bytes, as on the bus */
		if (!parse_size(text, 1, &number))
			return usage_error("“%s” is no size; for example 536870912, 512M, 1.5G, 2GB", text);
		/* memory comes in KiB: who says 1GB does not mean the last byte */
		if (letter == 'm' && text[strspn(text, "0123456789")] && number <= UINT64_MAX - 1023)
			number = (number + 1023) / 1024 * 1024;
		error = sd_bus_message_append(m, "t", number);
		break;
	case 'n':
		if (!parse_number(text, UINT32_MAX, &number))
			return usage_error("“%s” is no number", text);
		error = sd_bus_message_append(m, "u", (uint32_t)number);
		break;
	default:
		error = sd_bus_message_append(m, "s", text);
	}
	if (r != EXIT_OK)
		return r;
	return error < 0 ? client_failed(c, text, NULL, error) : EXIT_OK;
}

/* ---- the call ------------------------------------------------------------------------------------------------------ */

static char *describe(const struct verb *v, const char *name)
{
	static const char *const nouns[] = {"pool", "storage pool ", "vol", "volume ", "net", "network "};
	_cleanup_(freep) char *safe = text_safe(name);
	const char *noun = "";
	char *what;

	for (size_t i = 0; v->group && i < ELEMENTS(nouns); i += 2)
		if (strcmp(nouns[i], v->group) == 0)
			noun = nouns[i + 1];
	return !safe || asprintf(&what, "cannot %s %s“%s”", v->name, noun, safe) < 0 ? NULL : what;
}

/* reply: O object, v name of a volume, o job, t version. */
static int read_reply(sd_bus_message *reply, const char *types, struct begun *ret)
{
	int r = 0;

	for (const char *p = types; *p && r >= 0; p++) {
		const char *s;

		switch (*p) {
		case 't':
			r = sd_bus_message_read(reply, "t", &ret->version);
			break;
		case 'v':
			r = sd_bus_message_read(reply, "s", &s);
			break;
		default:
			r = sd_bus_message_read(reply, "o", &s);
			if (r >= 0 && strcmp(s, "/") != 0) {
				char **to = *p == 'O' ? &ret->object : &ret->job;

				free(*to);
				*to = strdup(s);
				r = *to ? r : -ENOMEM;
			}
		}
	}
	return r < 0 ? r : 0;
}

static int begin(struct ctl *c, const struct verb *v, sd_bus_message *m, struct begun *b)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(freep) char *what = describe(v, b->name);
	/* what answers no job is short, and has nothing to be followed by */
	bool has_job = strchr(v->operation->reply, 'o') != NULL;
	int r;

	agent_open(c);
	r = append_options(c, m, has_job || wants_no_wait(c), v->operation->fixed);
	if (r == EXIT_OK)
		r = client_send(c, m, what, &reply);
	if (r != EXIT_OK)
		return r;
	r = read_reply(reply, v->operation->reply, b);
	return r < 0 ? client_failed(c, what, NULL, r) : EXIT_OK;
}

int say_done(struct ctl *c, const char *done, const struct begun *b, const char *state)
{
	_cleanup_(freep) char *safe = NULL;

	if (c->json != JSON_OFF) {
		_cleanup_(json_putp) json_object *o = json_object_new_object();

		if (!o)
			return out_of_memory();
		if (b->object)
			json_object_object_add(o, "object", json_object_new_string(b->object));
		if (b->job)
			json_object_object_add(o, "job", json_object_new_string(b->job));
		json_object_object_add(o, "State", json_object_new_string(state));
		if (b->version)
			json_object_object_add(o, "Version", json_object_new_uint64(b->version));
		return json_print(c, o);
	}
	if (is_given(c, "async") && b->job && strcmp(state, "running") == 0) {
		puts(b->job + strlen(VIREO_JOBS));
		return EXIT_OK;
	}
	if (c->quiet || strcmp(state, "running") == 0)
		return EXIT_OK;
	safe = text_safe(b->name);
	if (strcmp(state, "ready") == 0)
		printf("%s: ready. “vireoctl complete %s” goes over to the copy, “vireoctl cancel %s” drops it\n", safe ? safe : "",
			b->job + strlen(VIREO_JOBS), b->job + strlen(VIREO_JOBS));
	else
		printf("%s: %s\n", safe ? safe : "", done);
	return EXIT_OK;
}

static int finish(struct ctl *c, const struct verb *v, struct begun *b)
{
	const char *state = b->job ? "running" : "completed";
	int r = EXIT_OK;

	if (b->job && !wants_no_wait(c)) {
		/* without "pivot" a copy never ends by itself */
		bool stop_ready = strncmp(v->operation->member, "Block", 5) == 0 && !is_given(c, "pivot");

		_cleanup_(freep) char *what = describe(v, b->name);

		r = job_follow(c, b->job, b->name, what, stop_ready, &state);
		/* the version that the call answered, if any, was of the beginning */
		b->version = 0;
		if (r == EXIT_OK && c->json != JSON_OFF) {
			_cleanup_(json_putp) json_object *job = NULL;

			if (client_get_all(c, b->job, VIREO_JOB, &job) == EXIT_OK)
				b->version = json_number(job, "Version");
		}
	}
	fflush(stderr);
	return r == EXIT_OK ? say_done(c, v->operation->done, b, state) : r;
}

static void begun_clear(struct begun *b)
{
	free(b->object);
	free(b->job);
	free(b->own_name);
}

int operate_message(struct ctl *c, const struct verb *v, sd_bus_message *m, const char *name)
{
	struct begun b = {.name = name};
	int r = begin(c, v, m, &b);

	if (r == EXIT_OK)
		r = finish(c, v, &b);
	begun_clear(&b);
	return r;
}

/* What a description calls its object; owned by the caller. NULL: it does not, or is broken, which others will say. */
static char *name_in(const char *xml)
{
	xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
	char *name = NULL;

	for (xmlNode *n = root ? root->children : NULL; n && !name; n = n->next)
		if (n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, "name") == 0) {
			xmlChar *content = xmlNodeGetContent(n);

			name = content ? strdup((const char *)content) : NULL;
			xmlFree(content);
		}
	xmlFreeDoc(doc);
	return name;
}

static int begin_one(struct ctl *c, const struct verb *v, const char *target, char **args, int n, struct begun *b)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const struct operation *op = v->operation;
	const char *spec = v->spec;
	int r;

	if (op->kind == KIND_CONNECTION) {
		/* all arguments are the method's own */
		r = resolve_connection(c, &b->object);
		b->name = target;
	} else {
		r = resolve(c, KINDS(op->kind), target, &b->object);
		/* of a volume's verb the pool is only where it is */
		b->name = strchr(spec, 'V') && n > 0 ? args[0] : target;
		spec++;
	}
	if (r == EXIT_OK)
		r = client_new_call(c, &m, b->object, kind_interfaces[op->kind], op->member);
	for (int i = 0; i < n && r == EXIT_OK; i++) {
		_cleanup_(freep) char *xml = NULL;

		r = append_argument(c, m, *spec, args[i], &xml);
		/* what is made of a file is called by its own name */
		if (xml && op->kind == KIND_CONNECTION && (b->own_name = name_in(xml)))
			b->name = b->own_name;
		if (spec[1] && spec[1] != '+')
			spec++;
	}
	return r == EXIT_OK ? begin(c, v, m, b) : r;
}

/* "N+": the same for each; otherwise the first is the object, unless it is a connection's, and the rest arguments. */
int operate(struct ctl *c, const struct verb *v, char **args, int n)
{
	bool each = v->spec[1] == '+', own = v->operation->kind == KIND_CONNECTION;
	size_t count = each ? (size_t)n : 1;
	struct begun *all = calloc(count, sizeof(*all));
	bool *failed = calloc(count, sizeof(*failed));
	int first = EXIT_OK;

	if (!all || !failed) {
		free(all);
		free(failed);
		return out_of_memory();
	}
	for (size_t i = 0; i < count; i++) {
		int r;

		if (each)
			r = begin_one(c, v, args[i], own ? args + i : NULL, own, &all[i]);
		else
			r = begin_one(c, v, args[0], own ? args : args + 1, own ? n : n - 1, &all[i]);
		failed[i] = r != EXIT_OK;
		first = first == EXIT_OK ? r : first;
		/* nothing else would go any better */
		if (r == EXIT_NO_BROKER || r == EXIT_USAGE)
			break;
	}
	for (size_t i = 0; i < count; i++) {
		int r = failed[i] || !all[i].name ? EXIT_OK : finish(c, v, &all[i]);

		first = first == EXIT_OK ? r : first;
		begun_clear(&all[i]);
	}
	free(all);
	free(failed);
	return first;
}
