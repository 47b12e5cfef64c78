/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "pool-work.h"
#include "util/log.h"

/* Pools as they are found when the directory is opened. */

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
	_cleanup_(freep) char *active = NULL, *id = pool_boot(), *name = NULL, *path = NULL;
	struct failure f = {0};
	sd_id128_t uuid;
	char *rest;

	if (files_read(directory, "active", &active) != 0 || !(rest = strchr(active, '\n')) || !id ||
		strncmp(active, id, strlen(id)) != 0)
		return;
	if (pool_parse(rest + 1, &uuid, &name, &path, &p->active_text, &f) == 0) {
		pool_look(path, &p->look);
		p->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (p->fd < 0 || p->look.error < 0) {
			log_warning("Pool '%s' is inactive now: %s: %s", name, path,
				strerror(p->look.error < 0 ? -p->look.error : errno));
			free(TAKE(p->active_text));
		} else {
			free(p->name);
			free(p->path);
			p->name = TAKE(name);
			p->path = TAKE(path);
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
		struct pool *p = pools_add(all, f->uuid);
		int r = 0;

		if (!p)
			continue;
		p->autostart = f->autostart;
		p->name = TAKE(f->name);
		p->path = TAKE(f->path);
		p->config_text = TAKE(f->config_text);
		if (f->active_text)
			r = pool_set_active(p, f->fd, &f->look, TAKE(f->active_text));
		if (r < 0)
			log_warning("Pool '%s' is inactive now: %s: %s", p->name, p->path, strerror(-r));
		if (!p->active_text && !p->config_text)
			pool_forget(p);
	}
	pools_found_free(found);
	*ret = all;
	return 0;
}

static void on_autostarted(struct pool_work *w)
{
	struct pool *p = w->p;
	int r = w->error;

	if (r == 0)
		r = pool_set_active(p, w->fd, &w->found, TAKE(w->new_text));
	if (r < 0)
		log_warning("Pool '%s' cannot be started: %s: %s", p->name, p->path, strerror(-r));
	else
		pool_tell(p, CAUSE_STARTED, "", NULL);
}

void pools_autostart(struct pools *all)
{
	struct pool *p;

	DL_FOREACH(all->pools, p)
	if (p->autostart && !p->active_text) {
		struct pool_work *w = pool_work_new(p, NULL, on_autostarted);

		if (!w)
			continue;
		if (pool_want_active(w, strdup(p->config_text)))
			pool_work_run(w, true);
		else
			pool_work_free(w);
	}
}
