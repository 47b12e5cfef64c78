/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include <libxml/parser.h>

#include "disks.h"
#include "job.h"

/*
 * Jobs of one disk. What they move is not there; what becomes of the layers of the disk is: it stands in the description of the
 * domain, and of its persistent one if that has the disk too.
 */

/* A disk has no size of its own; it is that of the volume it is, or this. */
#define DISK_SIZE (UINT64_C(1) << 30)

static uint64_t size_of(struct sim_world *w, xmlNode *disk)
{
	_cleanup_(freep) char *file = sim_disk_file(disk);

	for (struct sim_object *o = w->truth.first[KIND_POOL]; o && file; o = o->next)
		for (size_t i = 0; i < o->n_volumes; i++)
			if (strcmp(o->volumes[i].path, file) == 0)
				return o->volumes[i].capacity;
	return DISK_SIZE;
}

/* What all of them need. *@ret_doc: owned by the caller. */
static int find_disk(struct sim_world *w, struct sim_job *j, struct sim_object *o, xmlDoc **ret_doc, xmlNode **ret,
		     struct failure *f)
{
	const char *disk = j->request->text ? j->request->text : "";

	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	if (o->starting)
		return sim_refuse_state(o, "is still starting up", f);
	*ret_doc = sim_open_config(o, o->live);
	*ret = sim_disk_find(*ret_doc, disk);
	if (!*ret)
		return failure_set(f, VIREO_NOT_FOUND, "Domain '%s' has no disk '%s'.", o->name, disk);
	j->total = size_of(w, *ret);
	return 0;
}

/* Without a rule the bandwidth says how long it lasts. */
static void take_bandwidth(struct sim_world *w, struct sim_job *j)
{
	uint64_t bandwidth = vdict_t(j->request->options, "bandwidth", 0);

	if (bandwidth > 0 && !w->rules[j->request->operation].set && j->duration == 0)
		j->duration = (uint64_t)((double)j->total / (double)bandwidth * (double)USEC_PER_SEC);
}

/* Below this one, or at the option's: *@ret NULL, when the option is not there. */
static int find_layer(struct sim_job *j, xmlNode *disk, const char *option, xmlNode **ret, struct failure *f)
{
	const char *name = sim_job_option(j, option);

	*ret = name ? sim_disk_layer(disk, j->request->text, name) : NULL;
	if (name && !*ret)
		return failure_set(f, VIREO_INVALID_ARGS, "'%s' is no file below disk '%s'.", name, j->request->text);
	return 0;
}

/* What is below @layer becomes a copy of @below; NULL: nothing. */
static void set_backing(xmlNode *layer, xmlNode *below)
{
	xmlNode *old = sim_xml_child(layer, "backingStore"), *copy = below ? sim_must(xmlCopyNode(below, 1)) : NULL;

	if (old) {
		xmlUnlinkNode(old);
		xmlFreeNode(old);
	}
	if (copy)
		xmlAddChild(layer, copy);
}

typedef int (*edit_fn)(struct sim_job *j, xmlNode *disk, struct failure *f);

/* Changes the description of the run, and the persistent one alike. */
static int edit(struct sim_job *j, struct sim_object *o, edit_fn fn, struct failure *f)
{
	bool shared = o->config == o->live;

	for (int i = 0; i < 2; i++) {
		struct sim_config **which = i == 0 ? &o->live : &o->config;
		_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
		xmlNode *disk;
		int r;

		if (i == 1 && !o->config)
			break;
		if (i == 1 && shared) {
			sim_config_ref(o->live);
			sim_config_unref(o->config);
			o->config = o->live;
			break;
		}
		doc = sim_open_config(o, *which);
		disk = sim_disk_find(doc, j->request->text);
		if (!disk && i == 1)
			break;
		r = disk ? fn(j, disk, f) : failure_set(f, VIREO_NOT_FOUND, "The disk '%s' is gone.", j->request->text);
		if (r != 0)
			/* the persistent one may have other layers */
			return i == 0 ? r : (failure_clear(f), 0);
		sim_change_config(which, doc);
	}
	return 0;
}

static void say(struct sim_world *w, struct sim_job *j, struct sim_object *o, const char *status)
{
	_cleanup_(vdict_freep) struct vdict *details = sim_must(vdict_new());

	vdict_set_s(details, "disk", j->request->text);
	vdict_set_s(details, "type", j->type);
	sim_emit_event(w, o, "BlockJob", status, details);
}

static int end_block(struct sim_world *w, struct sim_job *j, struct sim_object *o, edit_fn fn, struct failure *f)
{
	int r = edit(j, o, fn, f);

	if (r == 0)
		say(w, j, o, "completed");
	return r;
}

static void undo_block(struct sim_world *w, struct sim_job *j, struct sim_object *o)
{
	/* of a domain that is destroyed nothing is said */
	if (o)
		say(w, j, o, j->cancelled ? "canceled" : "failed");
}

/* ---- pull ---------------------------------------------------------------------------------------------------- */

static int begin_pull(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
	xmlNode *disk = NULL, *base;
	int r = find_disk(w, j, o, &doc, &disk, f);

	if (r == 0)
		r = find_layer(j, disk, "base", &base, f);
	if (r == 0 && base == disk)
		r = failure_set(f, VIREO_INVALID_ARGS, "The base '%s' is the top of disk '%s'.", sim_job_option(j, "base"),
				j->request->text);
	if (r != 0)
		return r;
	j->type = "pull";
	take_bandwidth(w, j);
	return 0;
}

static int pull(struct sim_job *j, xmlNode *disk, struct failure *f)
{
	xmlNode *base = NULL;
	int r = find_layer(j, disk, "base", &base, f);

	if (r == 0)
		set_backing(disk, base);
	return r;
}

static int end_pull(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	return end_block(w, j, o, pull, f);
}

const struct sim_course sim_pull_course = {
	.begin = begin_pull,
	.end = end_pull,
	.undo = undo_block,
	.cancellable = true,
	.visible = true,
	.of_run = true,
	.writes = true,
};

/* ---- commit -------------------------------------------------------------------------------------------------- */

/* From where to where. */
static int find_commit(struct sim_job *j, xmlNode *disk, xmlNode **ret_top, xmlNode **ret_base, struct failure *f)
{
	xmlNode *top, *base, *layer;
	int r = find_layer(j, disk, "top", &top, f);

	if (r == 0)
		r = find_layer(j, disk, "base", &base, f);
	if (r != 0)
		return r;
	if (!top)
		top = disk;
	if (!sim_disk_backing(top))
		return failure_set(f, VIREO_INVALID_ARGS, "Disk '%s' has nothing below that it could be committed into.",
				   j->request->text);
	if (!base)
		for (base = sim_disk_backing(top);
		     !vdict_b(j->request->options, "shallow", false) && sim_disk_backing(base); base = sim_disk_backing(base))
			;
	for (layer = sim_disk_backing(top); layer && layer != base; layer = sim_disk_backing(layer))
		;
	if (!layer)
		return failure_set(f, VIREO_INVALID_ARGS, "The base of disk '%s' is not below the top.", j->request->text);
	*ret_top = top;
	*ret_base = base;
	return 0;
}

static int begin_commit(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
	xmlNode *disk = NULL, *top = NULL, *base = NULL;
	int r = find_disk(w, j, o, &doc, &disk, f);

	if (r == 0)
		r = find_commit(j, disk, &top, &base, f);
	if (r != 0)
		return r;
	/* what the guest writes to goes on being written to: it has to be switched over when all is copied */
	j->copies = top == disk;
	j->pivot = vdict_b(j->request->options, "pivot", false);
	j->type = j->copies ? "active-commit" : "commit";
	take_bandwidth(w, j);
	return 0;
}

static int commit(struct sim_job *j, xmlNode *disk, struct failure *f)
{
	xmlNode *top = NULL, *base = NULL;
	int r = find_commit(j, disk, &top, &base, f);

	if (r != 0)
		return r;
	if (top == disk) {
		_cleanup_(freep) char *file = sim_disk_file(base);

		sim_disk_set_file(disk, file);
		set_backing(disk, sim_disk_backing(base));
		return 0;
	}
	for (xmlNode *above = disk; above; above = sim_disk_backing(above))
		if (sim_disk_backing(above) == top) {
			set_backing(above, base);
			break;
		}
	return 0;
}

static int end_commit(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	return end_block(w, j, o, commit, f);
}

const struct sim_course sim_commit_course = {
	.begin = begin_commit,
	.end = end_commit,
	.undo = undo_block,
	.cancellable = true,
	.visible = true,
	.of_run = true,
	.writes = true,
};

/* ---- copy ---------------------------------------------------------------------------------------------------- */

/* Where the copy goes to. Owned. */
static int read_target(const struct sim_job *j, char **ret, struct failure *f)
{
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
	int r = sim_xml_parse(j->request->text2, "disk", &doc, f);
	xmlNode *top = r == 0 ? xmlDocGetRootElement(doc) : NULL;

	if (r != 0)
		return r;
	*ret = sim_disk_file(top);
	if (!*ret)
		*ret = sim_xml_attribute(sim_xml_child(top, "source"), "dev");
	if (!*ret || (*ret)[0] != '/') {
		free(TAKE(*ret));
		return failure_set(f, VIREO_INVALID_XML,
				   "XML, line %ld: <disk> lacks a <source file='…'/> with an absolute path.", xmlGetLineNo(top));
	}
	return 0;
}

static int begin_copy(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
	_cleanup_(freep) char *target = NULL;
	xmlNode *disk = NULL;
	int r = find_disk(w, j, o, &doc, &disk, f);

	if (r == 0)
		r = read_target(j, &target, f);
	if (r != 0)
		return r;
	if (sim_file_missing(&w->truth, target))
		return failure_set(f, VIREO_OPERATION_FAILED, "%s: it cannot be made: No such file or directory", target);
	j->copies = true;
	j->pivot = vdict_b(j->request->options, "pivot", false);
	j->type = "copy";
	take_bandwidth(w, j);
	return 0;
}

static int copy(struct sim_job *j, xmlNode *disk, struct failure *f)
{
	_cleanup_(freep) char *target = NULL;
	int r = read_target(j, &target, f);

	if (r != 0)
		return r;
	sim_disk_set_file(disk, target);
	if (!vdict_b(j->request->options, "shallow", false))
		set_backing(disk, NULL);
	return 0;
}

static int end_copy(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	return end_block(w, j, o, copy, f);
}

const struct sim_course sim_copy_course = {
	.begin = begin_copy,
	.end = end_copy,
	.undo = undo_block,
	.cancellable = true,
	.visible = true,
	.of_run = true,
	.writes = true,
};

/* ---- another layer ------------------------------------------------------------------------------------------- */

/* An external snapshot of a disk: what is on top goes below. Nothing announces it. */
int sim_overlay(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	const char *target = vdict_s(a->options, "disk", ""), *file = vdict_s(a->options, "file", "");

	for (int i = 0; i < 2; i++) {
		struct sim_config **which = i == 0 ? &o->live : &o->config;
		_cleanup_(sim_xml_doc_freep) xmlDoc *doc = *which ? sim_open_config(o, *which) : NULL;
		xmlNode *disk = sim_disk_find(doc, target), *below;
		_cleanup_(freep) char *old = disk ? sim_disk_file(disk) : NULL;

		if (!*which || (i == 1 && !disk))
			continue;
		if (!disk || !old)
			return failure_set(f, VIREO_NOT_FOUND, "Domain '%s' has no disk '%s' with a file.", o->name, target);
		below = sim_must(xmlNewDocNode(doc, NULL, (const xmlChar *)"backingStore", NULL));
		xmlSetProp(below, (const xmlChar *)"type", (const xmlChar *)"file");
		sim_disk_set_file(below, old);
		if (sim_disk_backing(disk))
			xmlAddChild(below, sim_must(xmlCopyNode(sim_disk_backing(disk), 1)));
		set_backing(disk, below);
		xmlFreeNode(below);
		sim_disk_set_file(disk, file);
		sim_change_config(which, doc);
	}
	return 0;
}
