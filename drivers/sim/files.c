/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "truth.h"

/*
 * Files of the simulated host. It has every file and folder that anybody names, except those that are said to be missing;
 * what is in them it knows of saved domains and of volumes.
 */

/* ---- saved domains ------------------------------------------------------------------------------------------- */

struct sim_image *sim_image_find(struct sim_truth *t, const char *path)
{
	struct sim_image *i = t->images;

	while (i && strcmp(i->path, path) != 0)
		i = i->next;
	return i;
}

void sim_image_write(struct sim_truth *t, const char *path, const struct sim_object *o, struct sim_config *config, bool paused)
{
	struct sim_image *i = sim_image_find(t, path);

	if (!i) {
		i = sim_new(struct sim_image);
		i->path = sim_strdup(path);
		i->next = t->images;
		t->images = i;
	}
	free(i->name);
	i->name = sim_strdup(o->name);
	i->uuid = o->uuid;
	i->paused = paused;
	sim_config_ref(config);
	sim_config_unref(i->config);
	i->config = config;
}

void sim_files_clear(struct sim_truth *t)
{
	while (t->images) {
		struct sim_image *i = t->images;

		t->images = i->next;
		sim_config_unref(i->config);
		free(i->path);
		free(i->name);
		free(i);
	}
	for (size_t i = 0; i < t->n_missing; i++)
		free(t->missing[i]);
	free(t->missing);
	t->missing = NULL;
	t->n_missing = 0;
}

/* ---- what is missing ----------------------------------------------------------------------------------------- */

bool sim_file_missing(const struct sim_truth *t, const char *path)
{
	for (size_t i = 0; i < t->n_missing; i++) {
		size_t n = strlen(t->missing[i]);

		if (strncmp(t->missing[i], path, n) == 0 && (path[n] == '\0' || path[n] == '/'))
			return true;
	}
	return false;
}

const char *sim_xml_missing(const struct sim_truth *t, const char *xml)
{
	for (size_t i = 0; i < t->n_missing; i++)
		if (strstr(xml, t->missing[i]))
			return t->missing[i];
	return NULL;
}

void sim_file_set_missing(struct sim_truth *t, const char *path, bool missing)
{
	for (size_t i = 0; i < t->n_missing; i++)
		if (strcmp(t->missing[i], path) == 0) {
			if (missing)
				return;
			free(t->missing[i]);
			t->missing[i] = t->missing[--t->n_missing];
			return;
		}
	if (!missing)
		return;
	t->missing = sim_must(reallocarray(t->missing, t->n_missing + 1, sizeof(*t->missing)));
	t->missing[t->n_missing++] = sim_strdup(path);
}

/* ---- what is in a volume ------------------------------------------------------------------------------------- */

struct sim_content *sim_content_ref(struct sim_content *c)
{
	if (c)
		atomic_fetch_add(&c->refs, 1);
	return c;
}

void sim_content_unref(struct sim_content *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	close(c->fd);
	free(c);
}

int sim_volume_open(struct sim_volume *v, struct sim_content **ret)
{
	if (!v->content) {
		int fd = memfd_create("sim-volume", MFD_CLOEXEC);

		if (fd < 0)
			return -errno;
		v->content = sim_new(struct sim_content);
		atomic_init(&v->content->refs, 1);
		v->content->fd = fd;
	}
	*ret = sim_content_ref(v->content);
	return 0;
}
