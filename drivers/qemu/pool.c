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
	for (size_t i = 0; i < p->n_queued; i++)
		request_free(p->queued[i]);
	free(p->queued);
	DL_DELETE(p->all->pools, p);
	free(p->directory);
	free(p->name);
	free(p->path);
	free(p->config_text);
	free(p->active_text);
	free(p);
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

/* ---- work --------------------------------------------------------------------------------------------------- */

void pool_look(const char *path, struct pool_look *ret)
{
	DIR *d = opendir(path);
	struct statvfs fs;
	struct dirent *e;

	*ret = (struct pool_look){0};
	if (!d) {
		ret->error = -errno;
		return;
	}
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
		for (size_t i = 0; i < sizeof(ret->contents); i++)
			ret->contents[i] ^= one[i];
	}
	if (fstatvfs(dirfd(d), &fs) == 0) {
		ret->capacity = (uint64_t)fs.f_blocks * fs.f_frsize;
		ret->available = (uint64_t)fs.f_bavail * fs.f_frsize;
		ret->allocation = ret->capacity - (uint64_t)fs.f_bfree * fs.f_frsize;
	}
	closedir(d);
}

static void take_sizes(struct pool *p, const struct pool_look *look)
{
	p->capacity = look->capacity;
	p->allocation = look->allocation;
	p->available = look->available;
	memcpy(p->contents, look->contents, sizeof(p->contents));
}

/* What a worker does for a pool: what is asked for, in this order, until something goes wrong. */
struct pool_work {
	struct pool *p; /* borrowed; stays */
	struct request *r;
	void (*done)(struct pool_work *w); /* on the loop; takes r */

	char *directory, *path;	    /* its own; the pool's */
	bool make_path, new_path;   /* new: it must not be there */
	bool remove_path;	    /* only an empty one goes: nobody's files are removed by this */
	bool make_directory;
	const char *write, *remove; /* static: files of its own */
	char *text;		    /* to be written */
	bool open, look;
	bool remove_directory;

	int error;
	bool target; /* it was the pool's path that could not be had */
	int fd;
	struct pool_look found;
	/* What it is to be. Owned. */
	char *name, *new_text;
};

static void work_free(struct pool_work *w)
{
	request_free(w->r);
	free(w->directory);
	free(w->path);
	free(w->text);
	free(w->name);
	free(w->new_text);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

static int work_on_path(struct pool_work *w)
{
	int r = 0;

	if (w->new_path && access(w->path, F_OK) == 0)
		r = -EEXIST;
	if (r == 0 && w->make_path)
		r = files_make_directory(w->path);
	if (r == 0 && w->remove_path && rmdir(w->path) < 0)
		r = -errno;
	if (r == 0 && w->open) {
		w->fd = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = w->fd < 0 ? -errno : 0;
	}
	if (r == 0 && w->look) {
		pool_look(w->path, &w->found);
		r = w->found.error;
	}
	w->target = r < 0;
	return r;
}

static void work_work(void *data)
{
	struct pool_work *w = data;
	int r = work_on_path(w);

	if (r == 0 && w->make_directory)
		r = files_make_directory(w->directory);
	if (r == 0 && w->write)
		r = files_write(w->directory, w->write, w->text, true);
	if (r == 0 && w->remove)
		r = files_remove(w->directory, w->remove);
	if (r == 0 && w->remove_directory)
		(void)files_remove_directory(w->directory);
	w->error = r;
}

static void work_drop(void *data)
{
	work_free(data);
}

static void work_done(void *data)
{
	struct pool_work *w = data;
	struct pool *p = w->p;

	p->changing = false;
	w->done(w);
	w->r = NULL;
	work_free(w);
	pool_work_ends(p);
}

/* Takes @r. NULL: no memory; the request has been ended. */
static struct pool_work *work_new(struct pool *p, struct request *r, void (*done)(struct pool_work *w))
{
	struct pool_work *w = calloc(1, sizeof(*w));

	if (w) {
		*w = (struct pool_work){.p = p, .r = r, .done = done, .fd = -1};
		w->directory = strdup(p->directory);
		w->path = strdup(p->path ? p->path : "");
		if (w->directory && w->path)
			return w;
		w->r = NULL;
		work_free(w);
	}
	if (r)
		env_post_result(pool_env(p), r, VIREO_NO_MEMORY, "out of memory");
	return NULL;
}

static void work_run(struct pool_work *w, bool changing)
{
	struct pool *p = w->p;
	int r;

	pool_work_begins(p);
	p->changing = p->changing || changing;
	r = chores_run(pool_env(p)->chores, work_work, work_done, work_drop, w);
	if (r < 0) {
		w->error = r;
		work_done(w);
	}
}

void pool_work_begins(struct pool *p)
{
	p->works++;
}

void pool_work_ends(struct pool *p)
{
	struct pools *all = p->all;
	struct request **list;
	size_t n;

	p->works--;
	if (p->changing || (p->forgotten && p->works > 0))
		return;
	list = TAKE(p->queued);
	n = p->n_queued;
	p->n_queued = 0;
	if (p->forgotten)
		pool_free(p);
	for (size_t i = 0; i < n; i++)
		pools_operate(all, list[i]);
	free(list);
}

static void wait_for(struct pool *p, struct request *r)
{
	struct request **list = reallocarray(p->queued, p->n_queued + 1, sizeof(*list));

	if (!list) {
		env_post_result(pool_env(p), r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	p->queued = list;
	list[p->n_queued++] = r;
}

static void on_removed(struct pool_work *w)
{
	w->p->forgotten = true;
}

/* It has neither description nor life. Until its files have gone nobody may make it anew. */
static void forget(struct pool *p)
{
	struct pool_work *w = work_new(p, NULL, on_removed);

	if (!w) {
		p->forgotten = true;
		return;
	}
	w->remove_directory = true;
	work_run(w, true);
}

/* ---- what is in it ------------------------------------------------------------------------------------------ */

static void set_inactive(struct pool *p)
{
	unwatch(p);
	free(TAKE(p->active_text));
	p->capacity = p->allocation = p->available = 0;
	if (p->config_text) {
		struct failure f = {0};
		_cleanup_(freep) char *text = NULL;
		sd_id128_t uuid;

		/* What is in force now is the description. */
		free(TAKE(p->name));
		free(TAKE(p->path));
		(void)pool_parse(p->config_text, &uuid, &p->name, &p->path, &text, &f);
		failure_clear(&f);
	}
}

static void on_lost(struct pool_work *w)
{
}

void pool_take_look(struct pool *p, const struct pool_look *look, bool always)
{
	struct pool_work *w;

	if (!p->active_text)
		return;
	if (look->error < 0) {
		log_warning("Pool '%s': %s cannot be read any more: %s", p->name, p->path, strerror(-look->error));
		set_inactive(p);
		tell(p, CAUSE_STOPPED, "refresh-failed", NULL);
		if (!p->config_text)
			forget(p);
		else if ((w = work_new(p, NULL, on_lost))) {
			w->remove = "active";
			work_run(w, true);
		}
		return;
	}
	if (!always && memcmp(look->contents, p->contents, sizeof(p->contents)) == 0)
		return;
	take_sizes(p, look);
	tell(p, CAUSE_OTHER, "", "Refreshed");
}

static void on_looked(struct pool_work *w)
{
	struct pool *p = w->p;
	bool again = p->look_again;

	p->looking = p->look_again = false;
	pool_take_look(p, &w->found, false);
	if (again && p->active_text)
		pool_refresh(p);
}

void pool_refresh(struct pool *p)
{
	struct pool_work *w;

	timer_clear(&p->timer);
	if (p->looking) {
		p->look_again = true;
		return;
	}
	w = p->active_text ? work_new(p, NULL, on_looked) : NULL;
	if (!w)
		return;
	w->look = true;
	p->looking = true;
	work_run(w, false);
}

static void on_quiet(struct timer *t, void *userdata)
{
	pool_refresh(userdata);
}

static void refresh_soon(struct pool *p)
{
	if (!p->timer.set)
		timer_in(pool_env(p)->clock, &p->timer, QUIET, on_quiet, p);
}

static int on_inotify(sd_event_source *s, const struct inotify_event *e, void *userdata)
{
	refresh_soon(userdata);
	return 0;
}

/* @fd: the directory, open. */
static int watch(struct pool *p, int fd)
{
	int r = sd_event_add_inotify_fd(pool_env(p)->event, &p->watch, fd,
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

/* To make it active by @text, which is taken: that is remembered until the machine is booted anew. */
static bool want_active(struct pool_work *w, char *text)
{
	_cleanup_(freep) char *id = boot();

	w->new_text = text;
	w->open = w->look = w->make_directory = true;
	w->write = "active";
	if (!text || asprintf(&w->text, "%s\n%s", id ? id : "?", text) < 0)
		w->text = NULL;
	return w->text != NULL;
}

static int set_active(struct pool *p, int fd, const struct pool_look *look, char *text)
{
	int r = watch(p, fd);

	if (r < 0) {
		unwatch(p);
		free(text);
		return r;
	}
	free(p->active_text);
	p->active_text = text;
	take_sizes(p, look);
	/* What came between the look and the watch. */
	refresh_soon(p);
	return 0;
}

/* ---- operations --------------------------------------------------------------------------------------------- */

static void fail(struct pool_work *w, int error)
{
	struct pool *p = w->p;

	if (w->target)
		pool_refuse(p, w->r, error == -EEXIST ? VIREO_ALREADY_EXISTS : VIREO_OPERATION_FAILED, "%s: %s", w->path, strerror(-error));
	else
		pool_refuse(p, w->r, VIREO_OPERATION_FAILED, "the pool's directory: %s", strerror(-error));
	if (!p->config_text && !p->active_text)
		forget(p);
}

/* By that name and path from now on. */
static void take_names(struct pool_work *w)
{
	struct pool *p = w->p;

	free(p->name);
	free(p->path);
	p->name = TAKE(w->name);
	p->path = TAKE(w->path);
}

static void on_defined(struct pool_work *w)
{
	struct pool *p = w->p;
	struct result result = {.kind = KIND_POOL, .uuid = p->uuid};
	bool was = p->config_text;

	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	if (!p->active_text)
		take_names(w);
	free(p->config_text);
	p->config_text = TAKE(w->new_text);
	tell(p, CAUSE_DEFINED, was ? "updated" : "added", NULL);
	env_post_result_full(pool_env(p), w->r, &result);
}

static void on_created(struct pool_work *w)
{
	struct pool *p = w->p;
	struct result result = {.kind = KIND_POOL, .uuid = p->uuid};
	int r = w->error;

	if (r == 0)
		r = set_active(p, w->fd, &w->found, TAKE(w->new_text));
	if (r < 0) {
		fail(w, r);
		return;
	}
	take_names(w);
	tell(p, CAUSE_STARTED, "", NULL);
	env_post_result_full(pool_env(p), w->r, &result);
}

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
	struct failure f = {0};
	struct pool *p, *other;
	struct pool_work *w;
	sd_id128_t uuid;
	int e = pool_parse(r->text, &uuid, &name, &path, &text, &f);

	if (e != 0) {
		refuse_all(all, r, e, &f);
		return;
	}
	p = find(all, uuid);
	if (p && p->changing) {
		wait_for(p, r);
		return;
	}
	DL_FOREACH(all->pools, other)
	if ((other != p && strcmp(other->name, name) == 0) || (other == p && strcmp(other->name, name) != 0)) {
		env_post_result(all->env, r, VIREO_ALREADY_EXISTS, "There is a pool '%s' already, with that name or UUID.", other->name);
		return;
	}
	if (create && p && p->active_text) {
		env_post_result(all->env, r, VIREO_INVALID_STATE, "the pool is active already");
		return;
	}
	if (!p) {
		p = add(all, uuid);
		/* Taken from now on; it is shown when it has a description. */
		if (p)
			p->name = strdup(name);
		if (!p || !p->name) {
			if (p)
				pool_free(p);
			env_post_result(all->env, r, VIREO_NO_MEMORY, "out of memory");
			return;
		}
	}
	w = work_new(p, r, create ? on_created : on_defined);
	if (!w) {
		if (!p->config_text && !p->active_text)
			forget(p);
		return;
	}
	free(w->path);
	w->path = TAKE(path);
	w->name = TAKE(name);
	w->make_directory = true;
	if (create) {
		w->make_path = vdict_b(r->options, "build", false);
		/* Without memory it fails when it is written. */
		(void)want_active(w, TAKE(text));
	} else {
		w->write = "pool.xml";
		w->text = strdup(text);
		w->new_text = TAKE(text);
	}
	if (!w->text) {
		w->error = -ENOMEM;
		pool_work_begins(p);
		work_done(w);
		return;
	}
	work_run(w, true);
}

static void on_started(struct pool_work *w)
{
	struct pool *p = w->p;
	int r = w->error;

	if (r == 0)
		r = set_active(p, w->fd, &w->found, TAKE(w->new_text));
	if (r < 0) {
		fail(w, r);
		return;
	}
	tell(p, CAUSE_STARTED, "", NULL);
	pool_end(p, w->r, NULL);
}

static void op_start(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is active already");
		return;
	}
	w = work_new(p, r, on_started);
	if (!w)
		return;
	w->make_path = vdict_b(r->options, "build", false);
	if (!want_active(w, strdup(p->config_text))) {
		w->r = NULL;
		work_free(w);
		pool_refuse(p, r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	work_run(w, true);
}

static void on_stopped(struct pool_work *w)
{
	struct pool *p = w->p;
	struct result none = {0};

	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	set_inactive(p);
	tell(p, CAUSE_STOPPED, "", NULL);
	env_post_result_full(pool_env(p), w->r, &none);
	if (!p->config_text)
		forget(p);
}

static void op_stop(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (!p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is inactive");
		return;
	}
	if (p->jobs) {
		pool_refuse(p, r, VIREO_BUSY, "a volume of it is being worked on");
		return;
	}
	w = work_new(p, r, on_stopped);
	if (!w)
		return;
	w->remove = "active";
	work_run(w, true);
}

static void on_undefined(struct pool_work *w)
{
	struct pool *p = w->p;
	struct result none = {0};

	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	free(TAKE(p->config_text));
	tell(p, CAUSE_UNDEFINED, "", NULL);
	p->forgotten = true;
	env_post_result_full(pool_env(p), w->r, &none);
}

static void op_undefine(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (!p->config_text || p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, p->active_text ? "the pool is active" : "the pool is not persistent");
		return;
	}
	w = work_new(p, r, on_undefined);
	if (!w)
		return;
	w->remove = "pool.xml";
	w->remove_directory = true;
	work_run(w, true);
}

static void on_directory(struct pool_work *w)
{
	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	tell(w->p, CAUSE_OTHER, "", w->make_path ? "Built" : "Deleted");
	pool_end(w->p, w->r, NULL);
}

static void op_directory(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (p->active_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is active");
		return;
	}
	if (vdict_b(r->options, "overwrite", false) || vdict_b(r->options, "zeroed", false) ||
		vdict_b(r->options, "repair", false) || vdict_b(r->options, "resize", false)) {
		pool_refuse(p, r, VIREO_NOT_SUPPORTED, "a directory can only be made, or removed when it is empty");
		return;
	}
	w = work_new(p, r, on_directory);
	if (!w)
		return;
	w->make_path = r->operation == OP_POOL_BUILD;
	w->new_path = w->make_path && vdict_b(r->options, "no-overwrite", false);
	w->remove_path = !w->make_path;
	work_run(w, true);
}

static void on_autostart(struct pool_work *w)
{
	if (w->error < 0) {
		fail(w, w->error);
		return;
	}
	w->p->autostart = w->write != NULL;
	pool_end(w->p, w->r, NULL);
}

static void op_autostart(struct pool *p, struct request *r)
{
	struct pool_work *w;

	if (!p->config_text) {
		pool_refuse(p, r, VIREO_INVALID_STATE, "the pool is not persistent");
		return;
	}
	w = work_new(p, r, on_autostart);
	if (!w)
		return;
	if (r->flag) {
		w->write = "autostart";
		w->text = strdup("");
	} else
		w->remove = "autostart";
	work_run(w, true);
}

static void on_refreshed(struct pool_work *w)
{
	struct pool *p = w->p;

	pool_take_look(p, &w->found, true);
	pool_end(p, w->r, NULL);
}

static void op_refresh(struct pool *p, struct request *r)
{
	struct pool_work *w = work_new(p, r, on_refreshed);

	if (!w)
		return;
	w->look = true;
	work_run(w, false);
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
	if (p && p->changing && r->operation != OP_POOL_GET_XML) {
		wait_for(p, r);
		return;
	}
	if (!p || (!p->config_text && !p->active_text)) {
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
	else if (r->operation == OP_POOL_REFRESH)
		op_refresh(p, r);
	else
		volume_operate(p, r);
}

/* ---- for the driver ----------------------------------------------------------------------------------------- */

/* What is kept of one, and found where it is active. */
struct found {
	sd_id128_t uuid;
	char *name, *path, *config_text, *active_text;
	bool autostart;
	int fd;
	struct pool_look look;
	struct found *prev, *next;
};

struct pools_found {
	struct found *list;
};

static void found_free(struct found *f)
{
	if (f->fd >= 0)
		close(f->fd);
	free(f->name);
	free(f->path);
	free(f->config_text);
	free(f->active_text);
	free(f);
}

void pools_found_free(struct pools_found *all)
{
	struct found *f, *tmp;

	if (!all)
		return;
	DL_FOREACH_SAFE(all->list, f, tmp)
	found_free(f);
	free(all);
}

/* Active until it is stopped, or the machine. */
static void find_active(struct found *p, const char *directory)
{
	_cleanup_(freep) char *active = NULL, *id = boot(), *name = NULL, *path = NULL;
	struct failure f = {0};
	sd_id128_t uuid;
	char *rest;

	if (files_read(directory, "active", &active) != 0 || !(rest = strchr(active, '\n')) || !id ||
		strncmp(active, id, strlen(id)) != 0)
		return;
	if (pool_parse(rest + 1, &uuid, &name, &path, &p->active_text, &f) == 0) {
		free(p->name);
		free(p->path);
		p->name = TAKE(name);
		p->path = TAKE(path);
		pool_look(p->path, &p->look);
		p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (p->fd < 0 || p->look.error < 0) {
			log_warning("Pool '%s' is inactive now: %s: %s", p->name, p->path,
				strerror(p->look.error < 0 ? -p->look.error : errno));
			free(TAKE(p->active_text));
		}
	}
	failure_clear(&f);
}

static void find_one(struct pools_found *all, const char *home, sd_id128_t uuid)
{
	_cleanup_(freep) char *directory = NULL, *text = NULL;
	char id[SD_ID128_UUID_STRING_MAX];
	struct found *p = calloc(1, sizeof(*p));
	struct failure f = {0};
	sd_id128_t same;
	int r;

	if (!p || asprintf(&directory, "%s/%s", home, sd_id128_to_uuid_string(uuid, id)) < 0) {
		directory = NULL;
		free(p);
		return;
	}
	p->fd = -1;
	p->uuid = uuid;
	p->autostart = files_has(directory, "autostart");
	r = files_read(directory, "pool.xml", &text);
	if (r == 0)
		r = pool_parse(text, &same, &p->name, &p->path, &p->config_text, &f);
	if (r != 0 && r != -ENOENT)
		log_error("%s/pool.xml: %s; the pool is left alone.", directory, f.message ? f.message : strerror(-r));
	failure_clear(&f);
	if (r != 0 && r != -ENOENT) {
		found_free(p);
		return;
	}
	find_active(p, directory);
	if (!p->active_text && !p->config_text) {
		(void)files_remove_directory(directory);
		found_free(p);
		return;
	}
	DL_APPEND(all->list, p);
}

int pools_find(const char *directory, struct pools_found **ret)
{
	struct pools_found *all = calloc(1, sizeof(*all));
	_cleanup_(freep) char *home = NULL;
	struct dirent *e;
	DIR *d;
	int r;

	if (!all || asprintf(&home, "%s/pools", directory) < 0) {
		home = NULL;
		free(all);
		return -ENOMEM;
	}
	r = files_make_directory(home);
	d = r == 0 ? opendir(home) : NULL;
	if (!d) {
		r = r < 0 ? r : -errno;
		free(all);
		return r;
	}
	while ((e = readdir(d))) {
		sd_id128_t uuid;

		if (e->d_name[0] != '.' && sd_id128_from_string(e->d_name, &uuid) >= 0)
			find_one(all, home, uuid);
	}
	closedir(d);
	*ret = all;
	return 0;
}

int pools_new(const struct guest_env *env, const char *directory, struct pools_found *found, struct pools **ret)
{
	struct pools *all = calloc(1, sizeof(*all));
	struct found *f;

	if (!all || asprintf(&all->directory, "%s/pools", directory) < 0) {
		free(all);
		pools_found_free(found);
		return -ENOMEM;
	}
	all->env = env;
	DL_FOREACH(found->list, f)
	{
		struct pool *p = add(all, f->uuid);
		int r = 0;

		if (!p)
			continue;
		p->autostart = f->autostart;
		p->name = TAKE(f->name);
		p->path = TAKE(f->path);
		p->config_text = TAKE(f->config_text);
		if (f->active_text)
			r = set_active(p, f->fd, &f->look, TAKE(f->active_text));
		if (r < 0)
			log_warning("Pool '%s' is inactive now: %s: %s", p->name, p->path, strerror(-r));
		if (!p->active_text && !p->config_text)
			forget(p);
	}
	pools_found_free(found);
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

static void on_autostarted(struct pool_work *w)
{
	struct pool *p = w->p;
	int r = w->error;

	if (r == 0)
		r = set_active(p, w->fd, &w->found, TAKE(w->new_text));
	if (r < 0)
		log_warning("Pool '%s' cannot be started: %s: %s", p->name, p->path, strerror(-r));
	else
		tell(p, CAUSE_STARTED, "", NULL);
}

void pools_autostart(struct pools *all)
{
	struct pool *p;

	DL_FOREACH(all->pools, p)
	if (p->autostart && !p->active_text) {
		struct pool_work *w = work_new(p, NULL, on_autostarted);

		if (!w)
			continue;
		if (want_active(w, strdup(p->config_text)))
			work_run(w, true);
		else
			work_free(w);
	}
}

void pools_list(struct pools *all, uint64_t serial)
{
	struct pool *p;

	DL_FOREACH(all->pools, p)
	if (p->config_text || p->active_text)
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
