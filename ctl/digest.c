/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <sha2.h>
#include <string.h>

#include "follow.h"
#include "show.h"

/*
 * digest: what the broker answers, and with --verify the same computed here, from a listing and the events after it.
 * The canonical form is described in doc/digest.md.
 */

static bool is_progress(const char *key)
{
	static const char *const keys[] = {"RunningTime", "RemainingTime", "Percent", "BytesTotal", "BytesDone"};

	for (size_t i = 0; i < ELEMENTS(keys); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return false;
}

static void netstring(FILE *f, const char *bytes, size_t n)
{
	fprintf(f, "%zu:", n);
	fwrite(bytes, 1, n, f);
	fputc(',', f);
}

static int value_string(FILE *f, json_object *value)
{
	_cleanup_(freep) char *inner = NULL;
	size_t size = 0;
	FILE *g;

	if (!value) {
		/* unknown, which is null only here */
		netstring(f, "18446744073709551615", 20);
	} else if (json_object_is_type(value, json_type_array)) {
		g = open_memstream(&inner, &size);
		if (!g)
			return -ENOMEM;
		for (size_t i = 0; i < json_object_array_length(value); i++)
			if (value_string(g, json_object_array_get_idx(value, i)) < 0) {
				fclose(g);
				return -ENOMEM;
			}
		if (fclose(g) == EOF)
			return -ENOMEM;
		netstring(f, inner, size);
	} else if (json_object_is_type(value, json_type_string))
		netstring(f, json_object_get_string(value), (size_t)json_object_get_string_len(value));
	else {
		/* true, false, and numbers as they are written */
		const char *text = json_object_get_string(value);

		netstring(f, text, strlen(text));
	}
	return 0;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The keys of a JSON object, sorted; owned by the caller, the strings by the object. */
static const char **sorted_keys(json_object *o, size_t *ret)
{
	const char **keys = calloc((size_t)json_object_object_length(o) + 1, sizeof(*keys));
	size_t n = 0;

	if (!keys)
		return NULL;
	json_object_object_foreach(o, key, value) {
		(void)value;
		keys[n++] = key;
	}
	qsort(keys, n, sizeof(*keys), compare_keys);
	*ret = n;
	return keys;
}

static int object_string(FILE *f, const char *path, json_object *properties)
{
	int kind = kind_from_path(path), r = 0;
	_cleanup_(freep) const char **keys = NULL;
	size_t n = 0;

	if (kind < 0)
		return -EBADMSG;
	keys = sorted_keys(properties, &n);
	if (!keys)
		return -ENOMEM;
	netstring(f, path, strlen(path));
	netstring(f, kind_interfaces[kind], strlen(kind_interfaces[kind]));
	for (size_t i = 0; i < n && r >= 0; i++) {
		/* what a listing here has in front of the properties */
		if (strcmp(keys[i], "object") == 0 || strcmp(keys[i], "kind") == 0)
			continue;
		if (kind == KIND_JOB && is_progress(keys[i]))
			continue;
		netstring(f, keys[i], strlen(keys[i]));
		r = value_string(f, json_object_object_get(properties, keys[i]));
	}
	return r;
}

static int compute(struct follower *f, char *ret)
{
	_cleanup_(freep) const char **paths = NULL;
	_cleanup_(freep) char *text = NULL;
	size_t n = 0, size;
	FILE *out = open_memstream(&text, &size);
	int r = 0;

	paths = out ? sorted_keys(f->view, &n) : NULL;
	if (!paths)
		return out_of_memory();
	for (size_t i = 0; i < n && r >= 0; i++) {
		int kind = kind_from_path(paths[i]);

		if (kind < 0 || f->kinds & KINDS(kind))
			r = object_string(out, paths[i], json_object_object_get(f->view, paths[i]));
	}
	if (fclose(out) == EOF || r < 0)
		return r < 0 ? client_failed(f->c, "cannot compute the digest", NULL, r) : out_of_memory();
	SHA256Data((const uint8_t *)text, size, ret);
	return EXIT_OK;
}

static int ask(struct ctl *c, unsigned kinds, uint64_t *version, char *hash)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	const char *text;
	int r = client_new_call(c, &m, VIREO_ROOT, VIREO_MANAGER, "Digest");

	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = append_filter(c, m, kinds);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r < 0)
		return client_failed(c, "cannot ask for the digest", NULL, r);
	r = client_send(c, m, "cannot ask for the digest", &reply);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_read(reply, "ts", version, &text);
	if (r < 0)
		return client_failed(c, "cannot read the digest", NULL, r);
	(void)snprintf(hash, 65, "%s", text);
	return EXIT_OK;
}

/* Bring the listing to exactly that version. */
static int catch_up(struct follower *f, uint64_t version)
{
	unsigned kinds = f->kinds;
	bool more = true;
	int r = EXIT_OK;

	f->kinds = KINDS_ALL;
	while (r == EXIT_OK && more && f->after < version) {
		_cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
		_cleanup_(json_putp) json_object *events = NULL;
		int q = follower_fetch(f, 0, 0, true, &events, &more, &e);

		if (q < 0)
			r = client_failed(f->c, "cannot follow", &e, q);
		for (size_t i = 0; q >= 0 && i < json_object_array_length(events); i++) {
			json_object *event = json_object_array_get_idx(events, i);

			if (json_number(event, "version") <= version)
				follower_apply(f, event);
		}
	}
	f->kinds = kinds;
	return r;
}

int verb_digest(struct ctl *c, const struct verb *v, char **args, int n)
{
	struct follower f = {.c = c};
	char theirs[65], ours[65] = "";
	bool verify = is_given(c, "verify"), equal = true;
	uint64_t version;
	int r;

	r = follower_filter(&f);
	if (r == EXIT_OK)
		r = check_connection(c);
	/* the listing first: then it can be no newer than the answer, and events bring it there */
	if (r == EXIT_OK && verify)
		r = follower_list(&f);
	if (r == EXIT_OK)
		r = ask(c, f.kinds, &version, theirs);
	if (r == EXIT_OK && verify)
		r = catch_up(&f, version);
	if (r == EXIT_OK && verify)
		r = compute(&f, ours);
	follower_clear(&f);
	if (r != EXIT_OK)
		return r;
	equal = !verify || strcmp(theirs, ours) == 0;
	if (c->json != JSON_OFF) {
		_cleanup_(json_putp) json_object *o = json_object_new_object();

		if (!o)
			return out_of_memory();
		json_object_object_add(o, "Version", json_object_new_uint64(version));
		json_object_object_add(o, "sha256", json_object_new_string(theirs));
		if (verify)
			json_object_object_add(o, "computed", json_object_new_string(ours));
		r = json_print(c, o);
	} else
		printf("%s  version %lu%s\n", theirs, (unsigned long)version, !verify ? "" : equal ? "  verified" : "");
	if (!equal) {
		complain("computed here from the listing and its events: %s. One of the two is wrong", ours);
		return EXIT_FAILED;
	}
	return r;
}
