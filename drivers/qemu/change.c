/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "change.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"

static void change_free(struct change *k)
{
	request_free(k->r);
	vm_free(k->vm);
	free(k->text);
	free(k->path);
	free(k->unless);
	free(k->directory);
	free(k);
}

struct change *change_new(struct domain *d, struct request *r, void (*done)(struct change *k, int error))
{
	struct change *k = calloc(1, sizeof(*k));

	if (!k || !(k->directory = strdup(d->directory))) {
		free(k);
		env_post_result(&d->c->env, r, VIREO_NO_MEMORY, "out of memory");
		return NULL;
	}
	k->d = d;
	k->r = r;
	k->done = done;
	return k;
}

void change_step(struct change *k, const char *file, const char *text)
{
	k->steps[k->n_steps++] = (struct change_step){.file = file, .text = text};
}

/* On a worker: only what is the change's own. */
static void work(void *data)
{
	struct change *k = data;

	if (k->unless && access(k->unless, F_OK) == 0)
		k->error = -EEXIST;
	if (k->error == 0 && k->make_directory)
		k->error = files_make_directory(k->directory);
	for (size_t i = 0; i < k->n_steps && k->error == 0; i++)
		k->error = k->steps[i].text ? files_write(k->directory, k->steps[i].file, k->steps[i].text, true)
					    : files_remove(k->directory, k->steps[i].file);
	if (k->error < 0)
		return;
	if (k->path && unlink(k->path) < 0 && errno != ENOENT)
		log_warning("%s cannot be removed: %s", k->path, strerror(errno));
	if (k->remove_directory) {
		int r = files_remove_directory(k->directory);

		if (r < 0)
			log_warning("%s cannot be removed: %s", k->directory, strerror(-r));
	}
}

static void finish(struct change *k)
{
	struct domain *d = k->d;

	k->done(k, k->error);
	k->r = NULL;
	change_free(k);
	domain_settled(d);
}

static void done(void *data)
{
	finish(data);
}

static void drop(void *data)
{
	change_free(data);
}

void change_run(struct change *k)
{
	int r;

	k->d->changing = true;
	r = chores_run(k->d->c->env.chores, work, done, drop, k);
	if (r == 0)
		return;
	k->error = r;
	finish(k);
}
