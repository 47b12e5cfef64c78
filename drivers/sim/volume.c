/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job.h"
#include "volume.h"
#include "xml.h"

/* Volumes of a pool: their descriptions, and what is done with them at once. */

void sim_volume_done(struct sim_volume *v)
{
	free(v->name);
	free(v->path);
	free(v->type);
	free(v->format);
	sim_content_unref(v->content);
	*v = (struct sim_volume){};
}

int sim_volume_parse(const char *xml, struct sim_volume *ret, struct failure *f)
{
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
	struct sim_volume v = {};
	xmlNode *top, *n;
	int r;

	r = sim_xml_parse(xml, "volume", &doc, f);
	if (r != 0)
		return r;
	top = xmlDocGetRootElement(doc);
	v.name = sim_xml_child_text(top, "name");
	if (!v.name || !v.name[0]) {
		sim_volume_done(&v);
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <volume> lacks a <name>.", xmlGetLineNo(top));
	}
	n = sim_xml_child(top, "capacity");
	r = n ? sim_xml_bytes(n, 1, &v.capacity, f)
	      : failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <volume> lacks <capacity>.", xmlGetLineNo(top));
	n = sim_xml_child(top, "allocation");
	if (r == 0 && n)
		r = sim_xml_bytes(n, 1, &v.allocation, f);
	if (r != 0) {
		sim_volume_done(&v);
		return r;
	}
	v.type = sim_strdup("file");
	v.format = sim_xml_attribute(sim_xml_child(sim_xml_child(top, "target"), "format"), "type");
	if (!v.format)
		v.format = sim_strdup("raw");
	*ret = v;
	return 0;
}

/* ---- finding ------------------------------------------------------------------------------------------------- */

int sim_volume_find(struct sim_object *pool, const char *name, struct sim_volume **ret, struct failure *f)
{
	if (!pool->active)
		return sim_refuse_state(pool, "is not active", f);
	*ret = name ? sim_object_volume(pool, name) : NULL;
	if (!*ret)
		return failure_set(f, VIREO_NOT_FOUND, "Pool '%s' has no volume '%s'.", pool->name, name ? name : "");
	return 0;
}

int sim_volume_check_new(struct sim_world *w, struct sim_object *pool, const char *name, uint64_t allocation, struct failure *f)
{
	if (!pool->active)
		return sim_refuse_state(pool, "is not active", f);
	if (sim_object_volume(pool, name))
		return failure_set(f, VIREO_ALREADY_EXISTS, "Pool '%s' has a volume '%s' already.", pool->name, name);
	return sim_volume_check_space(w, pool, allocation, f);
}

int sim_volume_check_space(struct sim_world *w, const struct sim_object *pool, uint64_t bytes, struct failure *f)
{
	uint64_t available = pool->capacity > pool->allocation ? pool->capacity - pool->allocation : 0;

	if (bytes > available || (bytes > 0 && w->faults.no_space))
		return failure_set(f, VIREO_OPERATION_FAILED, "Pool '%s' has no room for %llu bytes: No space left on device",
				   pool->name, (unsigned long long)bytes);
	return 0;
}

uint64_t sim_volumes_room(struct sim_world *w)
{
	uint64_t stored = 0;

	for (struct sim_object *o = w->truth.first[KIND_POOL]; o; o = o->next)
		for (size_t i = 0; i < o->n_volumes; i++) {
			const struct sim_content *c = o->volumes[i].content;
			struct stat st;

			if (c && fstat(c->fd, &st) == 0)
				stored += (uint64_t)st.st_blocks * 512;
		}
	return w->storage > stored ? w->storage - stored : 0;
}

void sim_volume_enter(struct sim_object *pool, struct sim_volume *v)
{
	const char *path = sim_object_config(pool)->path;

	free(v->path);
	v->path = sim_printf("%s/%s", path ? path : "/var/lib/sim/images", v->name);
	sim_object_add_volume(pool, v);
}

void sim_volume_allocate(struct sim_object *pool, struct sim_volume *v, uint64_t allocation)
{
	pool->allocation -= pool->allocation < v->allocation ? pool->allocation : v->allocation;
	v->allocation = allocation;
	pool->allocation += allocation;
}

/* ---- at once ------------------------------------------------------------------------------------------------- */

int sim_list_volumes(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret)
{
	if (!o->active)
		return sim_refuse_state(o, "is not active", &ret->failure);
	ret->volumes = sim_must(calloc(o->n_volumes + 1, sizeof(*ret->volumes)));
	ret->n_volumes = o->n_volumes;
	for (size_t i = 0; i < o->n_volumes; i++) {
		const struct sim_volume *v = &o->volumes[i];

		ret->volumes[i] = (struct volume){
			.name = sim_strdup(v->name),
			.path = sim_strdup(v->path),
			.type = sim_strdup(v->type),
			.format = sim_strdup(v->format),
			.capacity = v->capacity,
			.allocation = v->allocation,
		};
	}
	return 0;
}

int sim_create_volume(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret)
{
	struct sim_volume v = {};
	int error = sim_volume_parse(r->text, &v, &ret->failure);

	if (error == 0)
		error = sim_volume_check_new(w, o, v.name, v.allocation, &ret->failure);
	if (error != 0) {
		sim_volume_done(&v);
		return error;
	}
	ret->text = sim_strdup(v.name);
	sim_volume_enter(o, &v);
	return 0;
}

int sim_resize_volume(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret)
{
	bool allocate = vdict_b(r->options, "allocate", false);
	struct failure *f = &ret->failure;
	struct sim_volume *v = NULL;
	int error = sim_volume_find(o, r->text, &v, f);

	if (error != 0)
		return error;
	if (r->number < v->capacity && !vdict_b(r->options, "shrink", false))
		return failure_set(f, VIREO_INVALID_ARGS,
				   "Volume '%s' has %llu bytes already, and without the option 'shrink' it does not become smaller.",
				   v->name, (unsigned long long)v->capacity);
	if (allocate && r->number > v->allocation &&
	    (error = sim_volume_check_space(w, o, r->number - v->allocation, f)) != 0)
		return error;
	/* what is behind the new end is lost */
	if (v->content && ftruncate(v->content->fd, (off_t)r->number) < 0)
		return failure_set(f, VIREO_OPERATION_FAILED, "Volume '%s' cannot be resized: %s", v->name,
				   strerrordesc_np(errno));
	v->capacity = r->number;
	if (allocate || v->allocation > r->number)
		sim_volume_allocate(o, v, r->number);
	return 0;
}

int sim_wipe_volume(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret)
{
	struct sim_volume *v = NULL;
	int error = sim_volume_find(o, r->text, &v, &ret->failure);

	if (error != 0)
		return error;
	/* whoever still moves something into the old one moves it to nowhere */
	sim_content_unref(TAKE(v->content));
	return 0;
}

int sim_delete_volume(struct sim_world *w, struct sim_object *o, const struct request *r, struct result *ret)
{
	struct sim_volume *v = NULL;
	int error = sim_volume_find(o, r->text, &v, &ret->failure);

	if (error == 0)
		sim_object_remove_volume(o, v);
	return error;
}

/* ---- clone --------------------------------------------------------------------------------------------------- */

/* Option pool: a path on the bus, which ends with the UUID. */
static struct sim_object *find_source_pool(struct sim_world *w, const struct sim_job *j, struct sim_object *pool,
					   struct failure *f)
{
	const char *path = sim_job_option(j, "pool");
	char text[SD_ID128_UUID_STRING_MAX];
	struct sim_object *found;
	sd_id128_t uuid;
	size_t n;

	if (!path)
		return pool;
	n = strlen(path);
	memset(text, 0, sizeof(text));
	if (n >= sizeof(text))
		memcpy(text, path + n - (sizeof(text) - 1), sizeof(text) - 1);
	for (char *p = text; *p; p++)
		if (*p == '_')
			*p = '-';
	if (sd_id128_from_string(text, &uuid) < 0) {
		failure_set(f, VIREO_INVALID_OPTION, "Option pool: '%s' is not a pool's path.", path);
		return NULL;
	}
	found = sim_object_find(&w->truth, KIND_POOL, uuid);
	if (!found)
		failure_set(f, VIREO_NOT_FOUND, "There is no pool with UUID %s.", text);
	return found;
}

/* What it is to be like. @ret: owned. */
static int describe_clone(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct sim_volume *ret,
			  struct sim_volume **ret_source, struct failure *f)
{
	const char *name = j->request->text2, *xml = sim_job_option(j, "xml");
	struct sim_object *from = find_source_pool(w, j, o, f);
	struct sim_volume *source = NULL, v = {};
	int r = from ? sim_volume_find(from, j->request->text, &source, f) : (int)f->error;

	if (r == 0 && (!name || !name[0]))
		r = failure_set(f, VIREO_INVALID_ARGS, "The new volume has no name.");
	if (r == 0 && xml) {
		r = sim_volume_parse(xml, &v, f);
		if (r == 0 && strcmp(v.name, name) != 0)
			r = failure_set(f, VIREO_INVALID_XML, "Option xml: its name is not '%s'.", name);
	} else if (r == 0)
		v = (struct sim_volume){.name = sim_strdup(name),
					.type = sim_strdup(source->type),
					.format = sim_strdup(source->format),
					.capacity = source->capacity};
	if (r == 0 && v.capacity < source->capacity)
		v.capacity = source->capacity;
	if (r == 0) {
		v.allocation = source->allocation;
		r = sim_volume_check_new(w, o, v.name, v.allocation, f);
	}
	if (r != 0) {
		sim_volume_done(&v);
		return r;
	}
	*ret = v;
	*ret_source = source;
	return 0;
}

static int begin_clone(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	struct sim_volume v = {}, *source = NULL;
	int r = describe_clone(w, j, o, &v, &source, f);

	/* a raw one is allocated at once: nothing shows how far it is */
	if (r == 0 && strcmp(source->format, "raw") != 0)
		j->total = source->allocation;
	sim_volume_done(&v);
	return r;
}

static int copy_content(struct sim_world *w, struct sim_volume *from, struct sim_volume *to)
{
	struct sim_content *in = from->content, *out = NULL;
	off_t data = 0, hole, end;
	struct stat st;
	int r;

	if (!in)
		return 0;
	if (fstat(in->fd, &st) < 0 || (uint64_t)st.st_blocks * 512 > sim_volumes_room(w))
		return -ENOSPC;
	r = sim_volume_open(to, &out);
	if (r < 0)
		return r;
	/* the first hole of all is as good as the end of a file without data */
	end = lseek(in->fd, 0, SEEK_END);
	if (ftruncate(out->fd, end) < 0)
		r = -errno;
	while (r == 0 && (data = lseek(in->fd, data, SEEK_DATA)) >= 0) {
		hole = lseek(in->fd, data, SEEK_HOLE);
		while (r == 0 && data < hole) {
			char buffer[65536];
			size_t most = (size_t)(hole - data) < sizeof(buffer) ? (size_t)(hole - data) : sizeof(buffer);
			ssize_t n = pread(in->fd, buffer, most, data);

			if (n <= 0 || pwrite(out->fd, buffer, (size_t)n, data) != n)
				r = -EIO;
			data += n > 0 ? n : 0;
		}
	}
	sim_content_unref(out);
	return r;
}

static int end_clone(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	struct sim_volume v = {}, *source = NULL;
	int r = describe_clone(w, j, o, &v, &source, f);

	if (r != 0)
		return r;
	r = copy_content(w, source, &v);
	if (r < 0) {
		sim_volume_done(&v);
		return failure_set(f, VIREO_OPERATION_FAILED, "What is in volume '%s' cannot be copied: %s", j->request->text,
				   strerrordesc_np(-r));
	}
	sim_volume_enter(o, &v);
	return 0;
}

const struct sim_course sim_clone_course = {
	.begin = begin_clone,
	.end = end_clone,
	.writes = true,
};
