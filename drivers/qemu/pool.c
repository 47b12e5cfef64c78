/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

#include "pool-work.h"
#include "util/log.h"
#include "util/utf8.h"

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

void pool_post_look(const struct pool *p, uint64_t serial)
{
	_cleanup_(seen_freep) struct seen *s = p->active_text || p->config_text ? pool_seen(p) : NULL;

	env_post_look(pool_env(p), KIND_POOL, p->uuid, p->name, s ? LOOK_SEEN : LOOK_GONE, s, NULL, serial);
}

void pool_tell(const struct pool *p, enum cause cause, const char *reason, const char *event)
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
	pool_post_look(p, 0);
}

void pool_end(struct pool *p, struct request *r, struct result *result)
{
	struct result none = {0};

	pool_post_look(p, 0);
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

struct pool *pools_get(struct pools *all, sd_id128_t uuid)
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

void pool_free(struct pool *p)
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

struct pool *pools_add(struct pools *all, sd_id128_t uuid)
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

/* ---- what is in it ------------------------------------------------------------------------------------------ */

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

void pool_set_inactive(struct pool *p)
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
		pool_set_inactive(p);
		pool_tell(p, CAUSE_STOPPED, "refresh-failed", NULL);
		if (!p->config_text)
			pool_forget(p);
		else if ((w = pool_work_new(p, NULL, on_lost))) {
			w->remove = "active";
			pool_work_run(w, true);
		}
		return;
	}
	if (!always && memcmp(look->contents, p->contents, sizeof(p->contents)) == 0)
		return;
	take_sizes(p, look);
	pool_tell(p, CAUSE_OTHER, "", "Refreshed");
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
	w = p->active_text ? pool_work_new(p, NULL, on_looked) : NULL;
	if (!w)
		return;
	w->look = true;
	p->looking = true;
	pool_work_run(w, false);
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

char *pool_boot(void)
{
	sd_id128_t id;
	char text[SD_ID128_STRING_MAX];

	return sd_id128_get_boot(&id) < 0 ? strdup("?") : strdup(sd_id128_to_string(id, text));
}

/* To make it active by @text, which is taken: that is remembered until the machine is booted anew. */
bool pool_want_active(struct pool_work *w, char *text)
{
	_cleanup_(freep) char *id = pool_boot();

	w->new_text = text;
	w->open = w->look = w->make_directory = true;
	w->write = "active";
	if (!text || asprintf(&w->text, "%s\n%s", id ? id : "?", text) < 0)
		w->text = NULL;
	return w->text != NULL;
}

int pool_set_active(struct pool *p, int fd, const struct pool_look *look, char *text)
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

/* ---- for the driver ----------------------------------------------------------------------------------------- */

void pools_free(struct pools *all)
{
	if (!all)
		return;
	while (all->pools)
		pool_free(all->pools);
	free(all->directory);
	free(all);
}

void pools_list(struct pools *all, uint64_t serial)
{
	struct pool *p;

	DL_FOREACH(all->pools, p)
	if (p->config_text || p->active_text)
		pool_post_look(p, serial);
}

bool pools_look(struct pools *all, sd_id128_t uuid, uint64_t serial)
{
	struct pool *p = pools_get(all, uuid);

	if (p)
		pool_post_look(p, serial);
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
