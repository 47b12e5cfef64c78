/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libxml/tree.h>
#include <limits.h>
#include <sha256.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <utlist.h>

#include "run.h"
#include "util/log.h"
#include "util/utf8.h"
#include "vm.h"

/* So many changes at once are one. */
#define QUIET (100 * USEC_PER_MSEC)

static int watch(struct pool *p);

/* ---- descriptions ------------------------------------------------------------------------------------------- */

static int parse_target(struct failure *f, xmlNode *target, char **ret_path)
{
	int r = xml_check_attributes(f, target, "");

	for (xmlNode *n = xml_first(target); n && r == 0; n = xml_next(n)) {
		if (!xml_is(n, "path"))
			return xml_refuse(f, n, "this element is not understood within <target>");
		free(*ret_path);
		*ret_path = xml_content(n);
		if (!*ret_path || (*ret_path)[0] != '/')
			return xml_refuse(f, n, "'%s' is not an absolute path", *ret_path ? *ret_path : "");
	}
	return r;
}

static int parse_root(struct failure *f, xmlNode *root, sd_id128_t *uuid, char **name, char **path)
{
	_cleanup_(freep) char *type = xml_attribute(root, "type");
	int r = xml_check_attributes(f, root, "type");

	if (r == 0 && (!type || strcmp(type, "dir") != 0))
		r = xml_refuse(f, root, "its type '%s' is not supported; it can be: dir", type ? type : "");
	for (xmlNode *n = xml_first(root); n && r == 0; n = xml_next(n)) {
		_cleanup_(freep) char *text = xml_content(n);

		if (xml_is(n, "name")) {
			if (!text || !*text || strlen(text) > 255 || strpbrk(text, "/\n\r\t"))
				return xml_refuse(f, n, "that is no name of a pool");
			free(*name);
			*name = utf8_dup(text);
		} else if (xml_is(n, "uuid")) {
			if (!text || sd_id128_from_string(text, uuid) < 0 || sd_id128_is_null(*uuid))
				return xml_refuse(f, n, "'%s' is not a UUID", text ? text : "");
		} else if (xml_is(n, "target"))
			r = parse_target(f, n, path);
		/* what describes a pool that is there */
		else if (!xml_is(n, "capacity") && !xml_is(n, "allocation") && !xml_is(n, "available") &&
			 !(xml_is(n, "source") && !xml_first(n)))
			r = xml_refuse(f, n, "this element is not understood within <pool>");
	}
	if (r == 0 && !*name)
		r = xml_refuse(f, root, "it has no <name>");
	if (r == 0 && !*path)
		r = xml_refuse(f, root, "it has no <target> with a <path>");
	return r;
}

/* Canonical, so that what is kept holds no numbers of a moment. */
static char *write_description(sd_id128_t uuid, const char *name, const char *path)
{
	xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");
	xmlNode *root = xmlNewNode(NULL, BAD_CAST "pool"), *target;
	char text[SD_ID128_UUID_STRING_MAX], *dump;

	xmlDocSetRootElement(doc, root);
	xmlNewProp(root, BAD_CAST "type", BAD_CAST "dir");
	xmlNewTextChild(root, NULL, BAD_CAST "name", BAD_CAST name);
	xmlNewTextChild(root, NULL, BAD_CAST "uuid", BAD_CAST sd_id128_to_uuid_string(uuid, text));
	target = xmlNewChild(root, NULL, BAD_CAST "target", NULL);
	xmlNewTextChild(target, NULL, BAD_CAST "path", BAD_CAST path);
	dump = xml_dump(doc);
	xmlFreeDoc(doc);
	return dump;
}

static int parse(const char *xml, sd_id128_t *uuid, char **name, char **path, char **text, struct failure *f)
{
	xmlDoc *doc = NULL;
	int r = xml_parse(xml ? xml : "", "pool", &doc, f);

	*uuid = SD_ID128_NULL;
	if (r == 0)
		r = parse_root(f, xmlDocGetRootElement(doc), uuid, name, path);
	xmlFreeDoc(doc);
	if (r == 0 && sd_id128_is_null(*uuid))
		r = sd_id128_randomize(uuid);
	if (r == 0 && !(*text = write_description(*uuid, *name, *path)))
		r = -ENOMEM;
	return r;
}

/* ---- telling ------------------------------------------------------------------------------------------------ */

const struct guest_env *pool_env(const struct pool *p)
{
	return p->all->env;
}

static struct seen *pool_seen(const struct pool *p)
{
	struct seen *s = seen_new();

	if (!s)
		return NULL;
	s->name = utf8_dup(p->name);
	s->active = p->active_text != NULL;
	s->persistent = p->config_text != NULL;
	s->autostart = p->autostart;
	s->state_name = strdup(s->active ? "running" : "inactive");
	s->type = strdup("dir");
	s->capacity = p->capacity;
	s->allocation = p->allocation;
	s->available = p->available;
	s->xml = utf8_dup(p->active_text ? p->active_text : p->config_text);
	if (p->active_text && p->config_text && strcmp(p->active_text, p->config_text) != 0)
		s->xml_inactive = utf8_dup(p->config_text);
	return s;
}

static void post_look(const struct pool *p, uint64_t serial)
{
	_cleanup_(seen_freep) struct seen *s = p->active_text || p->config_text ? pool_seen(p) : NULL;

	env_post_look(pool_env(p), KIND_POOL, p->uuid, p->name, s ? LOOK_SEEN : LOOK_GONE, s, NULL, serial);
}

static void tell(const struct pool *p, enum cause cause, const char *reason, const char *event)
{
	struct report *r;
	struct observation *o = observation_new(&r, KIND_POOL, p->uuid, p->name);

	if (o) {
		o->cause = cause;
		o->reason = utf8_dup(reason);
		o->event = utf8_dup(event);
		o->seen = p->active_text || p->config_text ? pool_seen(p) : NULL;
		o->look = o->seen ? LOOK_SEEN : LOOK_GONE;
	}
	env_post(pool_env(p), r);
	post_look(p, 0);
}

void pool_end(struct pool *p, struct request *r, struct result *result)
{
	struct result none = {0};

	post_look(p, 0);
	env_post_result_full(pool_env(p), r, result ? result : &none);
}

void pool_refuse(struct pool *p, struct request *r, enum vireo_error error, const char *format, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	env_post_result(pool_env(p), r, error, "%s", text ? text : "");
}

/* ---- pools -------------------------------------------------------------------------------------------------- */

static struct pool *find(struct pools *all, sd_id128_t uuid)
{
	struct pool *p;

	DL_FOREACH(all->pools, p)
	if (sd_id128_equal(p->uuid, uuid))
		return p;
	return NULL;
}

static void unwatch(struct pool *p)
{
	p->watch = sd_event_source_disable_unref(p->watch);
	timer_clear(&p->timer);
}

static void pool_free(struct pool *p)
{
	unwatch(p);
	volume_jobs_free(p);
	DL_DELETE(p->all->pools, p);
	free(p->directory);
	free(p->name);
	free(p->path);
	free(p->config_text);
	free(p->active_text);
	free(p);
}

/* It has neither description nor life. */
static void forget(struct pool *p)
{
	(void)files_remove_directory(p->directory);
	pool_free(p);
}

static struct pool *add(struct pools *all, sd_id128_t uuid)
{
	struct pool *p = calloc(1, sizeof(*p));
	char text[SD_ID128_UUID_STRING_MAX];

	if (!p || asprintf(&p->directory, "%s/%s", all->directory, sd_id128_to_uuid_string(uuid, text)) < 0) {
		free(p);
		return NULL;
	}
	p->all = all;
	p->uuid = uuid;
	DL_APPEND(all->pools, p);
	return p;
}

static void measure(struct pool *p)
{
	struct statvfs st;

	p->capacity = p->allocation = p->available = 0;
	if (!p->active_text || statvfs(p->path, &st) < 0)
		return;
	p->capacity = (uint64_t)st.f_blocks * st.f_frsize;
	p->available = (uint64_t)st.f_bavail * st.f_frsize;
	p->allocation = p->capacity - (uint64_t)st.f_bfree * st.f_frsize;
}

static int hash_contents(const struct pool *p, uint8_t ret[32])
{
	DIR *d = opendir(p->path);
	struct dirent *e;
	uint8_t sum[32] = {0};

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		struct stat st;
		uint8_t one[32];
		SHA2_CTX ctx;

		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		SHA256Init(&ctx);
		SHA256Update(&ctx, (const uint8_t *)e->d_name, strlen(e->d_name));
		SHA256Update(&ctx, (const uint8_t *)&st.st_ino, sizeof(st.st_ino));
		SHA256Update(&ctx, (const uint8_t *)&st.st_size, sizeof(st.st_size));
		SHA256Final(one, &ctx);
		/* In whatever order they are read. */
		for (size_t i = 0; i < sizeof(sum); i++)
			sum[i] ^= one[i];
	}
	closedir(d);
	memcpy(ret, sum, sizeof(sum));
	return 0;
}

static void set_inactive(struct pool *p)
{
	unwatch(p);
	free(TAKE(p->active_text));
	(void)files_remove(p->directory, "active");
	measure(p);
	if (p->config_text) {
		struct failure f = {0};
		_cleanup_(freep) char *text = NULL;
		sd_id128_t uuid;

		/* What is in force now is the description. */
		free(TAKE(p->name));
		free(TAKE(p->path));
		(void)parse(p->config_text, &uuid, &p->name, &p->path, &text, &f);
		failure_clear(&f);
	}
}

void pool_refresh(struct pool *p, bool always)
{
	uint8_t now[32];
	int r;

	timer_clear(&p->timer);
	if (!p->active_text)
		return;
	r = hash_contents(p, now);
	if (r < 0) {
		log_warning("Pool '%s': %s cannot be read any more: %s", p->name, p->path, strerror(-r));
		set_inactive(p);
		tell(p, CAUSE_STOPPED, "refresh-failed", NULL);
		return;
	}
	if (!always && memcmp(now, p->contents, sizeof(now)) == 0)
		return;
	memcpy(p->contents, now, sizeof(now));
	measure(p);
	tell(p, CAUSE_OTHER, "", "Refreshed");
}

static void on_quiet(struct timer *t, void *userdata)
{
	struct pool *p = userdata;

	pool_refresh(p, false);
	if (!p->active_text && !p->config_text)
		forget(p);
}

static int on_inotify(sd_event_source *s, const struct inotify_event *e, void *userdata)
{
	struct pool *p = userdata;

	if (!p->timer.set)
		timer_in(pool_env(p)->clock, &p->timer, QUIET, on_quiet, p);
	return 0;
}

static int watch(struct pool *p)
{
	int r = sd_event_add_inotify(pool_env(p)->event, &p->watch, p->path,
		IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
		on_inotify, p);

	if (r >= 0)
		(void)sd_event_source_set_description(p->watch, "pool");
	return r < 0 ? r : 0;
}

static char *boot(void)
{
	sd_id128_t id;
	char text[SD_ID128_STRING_MAX];

	return sd_id128_get_boot(&id) < 0 ? strdup("?") : strdup(sd_id128_to_string(id, text));
}

/* Make it active by @text, which is taken. */
static int activate(struct pool *p, char *text)
{
	_cleanup_(freep) char *id = boot(), *line = NULL;
	int r = watch(p);

	if (r == 0 && asprintf(&line, "%s\n%s", id ? id : "?", text) < 0)
		r = -ENOMEM;
	if (r == 0)
		r = files_write(p->directory, "active", line, true);
	if (r < 0) {
		unwatch(p);
		free(text);
		return r;
	}
	free(p->active_text);
	p->active_text = text;
	measure(p);
	(void)hash_contents(p, p->contents);
	return 0;
}

/* ---- operations --------------------------------------------------------------------------------------------- */

static void refuse_all(struct pools *all, struct request *r, int error, struct failure *f)
{
	struct result result = {0};

	if (error < 0)
		failure_set(&result.failure, VIREO_OPERATION_FAILED, "%s", strerror(-error));
	else {
		result.failure = *f;
		*f = (struct failure){0};
	}
	env_post_result_full(all->env, r, &result);
}

static void op_define(struct pools *all, struct request *r, bool create)
{
	_cleanup_(freep) char *name = NULL, *path = NULL, *text = NULL;
	struct result result = {.kind = KIND_POOL};
	struct failure f = {0};
	struct pool *p, *other;
	sd_id128_t uuid;
	bool was;
	int e = parse(r->text, &uuid, &name, &path, &text, &f);

	if (e != 0) {
		refuse_all(all, r, e, &f);
		return;
	}
	p = find(all, uuid);
	DL_FOREACH(all->pools, other)
	if ((other != p && strcmp(other->name, name) == 0) || (other == p && strcmp(other->name, name) != 0)) {
		env_post_result(all->env, r, VIREO_ALREADY_EXISTS, "There is a pool '%s' already, with that name or UUID.", other->name);
		return;
	}
	if (create && p && p->active_text) {
		env_post_result(all->env, r, VIREO_INVALID_STATE, "the pool is active already");
		return;
	}
	was = p && p->config_text;
	if (create && vdict_b(r->options, "build", false))
		e = files_make_directory(path);
	if (!p)
		p = add(all, uuid);
	if (e == 0)
		e = p ? files_make_directory(p->directory) : -ENOMEM;
	if (e == 0 && !create)
		e = files_write(p->directory, "pool.xml", text, true);
	if (e == 0 && (create || !p->active_text)) {
		free(p->name);
		free(p->path);
		p->name = TAKE(name);
		p->path = TAKE(path);
	}
	if (e == 0 && create)
		e = activate(p, TAKE(text));
	if (e < 0) {
		env_post_result(all->env, r, VIREO_OPERATION_FAILED, "the pool's directory: %s", strerror(-e));
		if (p && !p->config_text && !p->active_text)
			forget(p);
		return;
	}
	if (!create) {
		free(p->config_text);
		p->config_text = TAKE(text);
		tell(p, CAUSE_DEFINED, was ? "updated" : "added", NULL);
	} else
		tell(p, CAUSE_STARTED, "", NULL);
	result.uuid = uuid;
	env_post_result_full(all->env, r, &result);
}

static void op_start(struct pool *p, struct request *r)
{
	int e;

	if (p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is active already");
		return;
	}
	e = vdict_b(r->options, "build", false) ? files_make_directory(p->path) : 0;
	if (e == 0)
		e = activate(p, strdup(p->config_text));
	if (e < 0) {
		pool_refuse(p, r, VIREO_OPERATION_FAILED, "%s: %s", p->path, strerror(-e));
		return;
	}
	tell(p, CAUSE_STARTED, "", NULL);
	pool_end(p, r, NULL);
}

static void op_stop(struct pool *p, struct request *r)
{
	struct result none = {0};

	if (!p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is inactive");
		return;
	}
	if (p->jobs) {
		pool_refuse(p, r, VIREO_BUSY, "a volume of it is being worked on");
		return;
	}
	set_inactive(p);
	tell(p, CAUSE_STOPPED, "", NULL);
	env_post_result_full(pool_env(p), r, &none);
	if (!p->config_text)
		forget(p);
}

static void op_undefine(struct pool *p, struct request *r)
{
	const struct guest_env *env = pool_env(p);
	struct result none = {0};
	int e;

	if (!p->config_text || p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, p->active_text ? "the pool is active" : "the pool is not persistent");
		return;
	}
	e = files_remove(p->directory, "pool.xml");
	if (e < 0) {
		pool_refuse(p, r, VIREO_OPERATION_FAILED, "%s", strerror(-e));
		return;
	}
	free(TAKE(p->config_text));
	tell(p, CAUSE_UNDEFINED, "", NULL);
	forget(p);
	env_post_result_full(env, r, &none);
}

static void op_directory(struct pool *p, struct request *r)
{
	bool build = r->operation == OP_POOL_BUILD;
	int e;

	if (p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is active");
		return;
	}
	if (vdict_b(r->options, "overwrite", false) || vdict_b(r->options, "zeroed", false) ||
		vdict_b(r->options, "repair", false) || vdict_b(r->options, "resize", false)) {
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "a directory can only be made, or removed when it is empty");
		return;
	}
	if (build && vdict_b(r->options, "no-overwrite", false) && access(p->path, F_OK) == 0) {
		pool_refuse(p, r, VIREO_ALREADY_EXISTS, "%s is there already", p->path);
		return;
	}
	/* Only an empty directory goes: nobody's files are removed by this. */
	e = build ? files_make_directory(p->path) : rmdir(p->path) < 0 ? -errno : 0;
	if (e < 0) {
		pool_refuse(p, r, VIREO_OPERATION_FAILED, "%s: %s", p->path, strerror(-e));
		return;
	}
	tell(p, CAUSE_OTHER, "", build ? "Built" : "Deleted");
	pool_end(p, r, NULL);
}

static void op_autostart(struct pool *p, struct request *r)
{
	int e;

	if (!p->config_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is not persistent");
		return;
	}
	e = r->flag ? files_write(p->directory, "autostart", "", true) : files_remove(p->directory, "autostart");
	if (e < 0) {
		pool_refuse(p, r, VIREO_OPERATION_FAILED, "%s", strerror(-e));
		return;
	}
	p->autostart = r->flag;
	pool_end(p, r, NULL);
}

static void op_get_xml(struct pool *p, struct request *r)
{
	bool inactive = vdict_b(r->options, "inactive", false);
	const char *text = inactive || !p->active_text ? p->config_text : p->active_text;
	struct result result = {0};

	if (!text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool has no persistent description");
		return;
	}
	result.text = strdup(text);
	env_post_result_full(pool_env(p), r, &result);
}

void pools_operate(struct pools *all, struct request *r)
{
	struct pool *p;

	if (r->operation == OP_DEFINE_POOL || r->operation == OP_CREATE_POOL) {
		op_define(all, r, r->operation == OP_CREATE_POOL);
		return;
	}
	p = find(all, r->uuid);
	if (!p) {
		env_post_result(all->env, r, VIREO_NOT_FOUND, "there is no such pool");
		return;
	}
	switch (r->operation) {
	case OP_POOL_START:
		op_start(p, r);
		return;
	case OP_POOL_STOP:
		op_stop(p, r);
		return;
	case OP_POOL_BUILD:
	case OP_POOL_DELETE:
		op_directory(p, r);
		return;
	case OP_POOL_UNDEFINE:
		op_undefine(p, r);
		return;
	case OP_POOL_SET_AUTOSTART:
		op_autostart(p, r);
		return;
	case OP_POOL_GET_XML:
		op_get_xml(p, r);
		return;
	default:
		break;
	}
	if (!p->active_text)
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is inactive");
	else if (r->operation == OP_POOL_REFRESH) {
		pool_refresh(p, true);
		pool_end(p, r, NULL);
		if (!p->active_text && !p->config_text)
			forget(p);
	} else
		volume_operate(p, r);
}

/* ---- for the driver ----------------------------------------------------------------------------------------- */

static void load(struct pools *all, sd_id128_t uuid)
{
	struct pool *p = add(all, uuid);
	_cleanup_(freep) char *text = NULL, *active = NULL, *id = boot();
	struct failure f = {0};
	sd_id128_t found;
	char *rest;
	int r;

	if (!p)
		return;
	p->autostart = files_has(p->directory, "autostart");
	r = files_read(p->directory, "pool.xml", &text);
	if (r == 0)
		r = parse(text, &found, &p->name, &p->path, &p->config_text, &f);
	if (r != 0 && r != -ENOENT)
		log_error("%s/pool.xml: %s; the pool is left alone.", p->directory, f.message ? f.message : strerror(-r));
	failure_clear(&f);
	if (r != 0 && r != -ENOENT) {
		pool_free(p);
		return;
	}
	/* Active until it is stopped, or the machine. */
	if (files_read(p->directory, "active", &active) == 0 && (rest = strchr(active, '\n')) && id &&
		strncmp(active, id, strlen(id)) == 0) {
		_cleanup_(freep) char *name = NULL, *path = NULL, *again = NULL;

		if (parse(rest + 1, &found, &name, &path, &again, &f) == 0) {
			free(p->name);
			free(p->path);
			p->name = TAKE(name);
			p->path = TAKE(path);
			r = activate(p, TAKE(again));
			if (r < 0)
				log_warning("Pool '%s' is inactive now: %s: %s", p->name, p->path, strerror(-r));
		}
		failure_clear(&f);
	}
	if (!p->active_text && !p->config_text)
		forget(p);
}

int pools_new(const struct guest_env *env, const char *directory, struct pools **ret)
{
	struct pools *all = calloc(1, sizeof(*all));
	struct dirent *e;
	DIR *d;
	int r;

	if (!all)
		return -ENOMEM;
	all->env = env;
	if (asprintf(&all->directory, "%s/pools", directory) < 0) {
		free(all);
		return -ENOMEM;
	}
	r = files_make_directory(all->directory);
	d = r == 0 ? opendir(all->directory) : NULL;
	if (!d) {
		r = r < 0 ? r : -errno;
		pools_free(all);
		return r;
	}
	while ((e = readdir(d))) {
		sd_id128_t uuid;

		if (e->d_name[0] != '.' && sd_id128_from_string(e->d_name, &uuid) >= 0)
			load(all, uuid);
	}
	closedir(d);
	*ret = all;
	return 0;
}

void pools_free(struct pools *all)
{
	if (!all)
		return;
	while (all->pools)
		pool_free(all->pools);
	free(all->directory);
	free(all);
}

void pools_autostart(struct pools *all)
{
	struct pool *p;

	DL_FOREACH(all->pools, p)
	if (p->autostart && !p->active_text) {
		int r = activate(p, strdup(p->config_text));

		if (r < 0)
			log_warning("Pool '%s' cannot be started: %s: %s", p->name, p->path, strerror(-r));
	}
}

void pools_list(struct pools *all, uint64_t serial)
{
	struct pool *p;

	DL_FOREACH(all->pools, p)
	post_look(p, serial);
}

bool pools_look(struct pools *all, sd_id128_t uuid, uint64_t serial)
{
	struct pool *p = find(all, uuid);

	if (p)
		post_look(p, serial);
	return p != NULL;
}

bool pools_cancel(struct pools *all, uint64_t token)
{
	struct pool *p;

	DL_FOREACH(all->pools, p)
	if (volume_cancel(p, token))
		return true;
	return false;
}
