/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdatomic.h>
#include <uthash.h>

#include "drivers/driver.h"

/*
 * The truth: what the simulated hypervisor has. Plain data; the lock of the world (world.h) protects it.
 *
 * A simulated hypervisor without memory is of no use to anybody and could only lie about what it has forgotten, so
 * within drivers/sim allocation failures end the process, with a message.
 */
void *sim_must(void *p);
char *sim_printf(const char *format, ...) _printf_(1, 2);
#define sim_new(type) ((type *)sim_must(calloc(1, sizeof(type))))
#define sim_strdup(s) ((char *)sim_must(strdup(s)))

/* xorshift; @state is never 0 */
uint64_t sim_random(uint64_t *state);
bool sim_chance(uint64_t *state, double probability);

/* ---- configurations ---------------------------------------------------------------------------------------- */

/*
 * What defining gives: the persistent configuration, or that of a run. Immutable and counted, so that ten thousand
 * domains of one shape share one.
 */
struct sim_config {
	unsigned refs;
	char *title, *description, *os_type; /* domain */
	uint64_t max_memory, memory;	     /* bytes */
	unsigned vcpus, max_vcpus;
	char *type;   /* domain: "sim"; pool: "dir"; network: forward mode */
	char *bridge; /* network */
	char *path;   /* pool: target */
	char *xml;	 /* with secrets; NULL: made from the fields, the object's name and UUID */
	char *xml_plain; /* without; NULL when there are none */
	size_t padding;	 /* size a made XML is filled up to, at least */
};

struct sim_config *sim_config_new(enum kind kind);
struct sim_config *sim_config_ref(struct sim_config *c);
void sim_config_unref(struct sim_config *c);
struct sim_config *sim_config_copy(const struct sim_config *c);

/*
 * sim_config_parse() - from a user's XML
 * @ret_name, @ret_uuid: as the XML has them; a random UUID when it has none
 * Return: 0, or VIREO_INVALID_XML with line and column.
 */
int sim_config_parse(enum kind kind, const char *xml, struct sim_config **ret, char **ret_name, sd_id128_t *ret_uuid,
		     struct failure *f);
/* A copy whose XML says so too. */
struct sim_config *sim_config_renamed(const struct sim_config *c, const char *name);
struct sim_size {
	uint64_t max_memory, memory; /* bytes */
	unsigned vcpus, max_vcpus;
};
struct sim_config *sim_config_resized(const struct sim_config *c, const struct sim_size *size);
/* A copy whose XML is this document. */
typedef struct _xmlDoc xmlDoc;
struct sim_config *sim_config_edited(const struct sim_config *c, xmlDoc *doc);

/* What is in a volume: a file without a name. Counted, because who moves it needs no lock. */
struct sim_content {
	atomic_uint refs;
	int fd;
};
struct sim_content *sim_content_ref(struct sim_content *c);
void sim_content_unref(struct sim_content *c);

struct sim_volume {
	char *name, *path, *type, *format;
	uint64_t capacity, allocation;
	struct sim_content *content; /* NULL: nothing was ever written into it */
};
void sim_volume_done(struct sim_volume *v);
int sim_volume_parse(const char *xml, struct sim_volume *ret, struct failure *f);
/* What is in it, to be written into; -errno. */
int sim_volume_open(struct sim_volume *v, struct sim_content **ret);

/* A domain that was saved to a file. */
struct sim_image {
	struct sim_image *next;
	char *path, *name;
	sd_id128_t uuid;
	struct sim_config *config;
	bool paused; /* as it is to be restored */
};

/* ---- objects ----------------------------------------------------------------------------------------------- */

struct sim_object {
	enum kind kind;
	sd_id128_t uuid;
	char *name; /* any bytes */
	bool active, persistent, autostart, managed_save;
	bool starting; /* domain: on its way to be started */
	bool managed_paused;	     /* its managed save is to be left paused */
	bool incoming;		     /* it is on its way here from another hypervisor */
	unsigned snapshots, checkpoints; /* domain: so many it has */
	bool nvram;		     /* domain: it has firmware variables in a file */
	int id;	       /* of the run; -1 inactive */
	enum domain_state state;
	char reason[32];	     /* word of `virsh domstate --reason` */
	char state_name[16];	     /* pool: when it is something else than active tells; "" */
	struct sim_config *config;   /* persistent, else NULL */
	struct sim_config *live;     /* active, else NULL */
	uint64_t capacity, allocation; /* pool */
	struct sim_volume *volumes;
	size_t n_volumes;
	UT_hash_handle by_uuid, by_name;
	struct sim_object *prev, *next;
	size_t index; /* in the array of its kind */
};

struct sim_truth {
	struct sim_object *by_uuid[KIND_MAX], *by_name[KIND_MAX];
	struct sim_object *first[KIND_MAX]; /* in order of appearance; domain, pool, network */
	struct sim_object **array[KIND_MAX]; /* in no order, for picking */
	size_t count[KIND_MAX], size[KIND_MAX];
	int last_id;
	struct sim_image *images; /* files of saved domains */
	char **missing;		  /* files and folders that are not there; everything else is */
	size_t n_missing;
};

/* Enters it; neither UUID nor name may be taken. */
struct sim_object *sim_object_add(struct sim_truth *t, enum kind kind, sd_id128_t uuid, const char *name);
void sim_object_remove(struct sim_truth *t, struct sim_object *o);
void sim_object_rename(struct sim_truth *t, struct sim_object *o, const char *name);
struct sim_object *sim_object_find(struct sim_truth *t, enum kind kind, sd_id128_t uuid);
struct sim_object *sim_object_named(struct sim_truth *t, enum kind kind, const char *name);
struct sim_object *sim_object_pick(struct sim_truth *t, enum kind kind, uint64_t *random); /* NULL: there is none */
void sim_object_set_state(struct sim_object *o, enum domain_state state, const char *reason);
const struct sim_config *sim_object_config(const struct sim_object *o); /* of the run, else the persistent */
struct sim_volume *sim_object_volume(struct sim_object *o, const char *name);
/* Takes the volume's strings. */
void sim_object_add_volume(struct sim_object *o, const struct sim_volume *v);
void sim_object_remove_volume(struct sim_object *o, struct sim_volume *v);
void sim_truth_clear(struct sim_truth *t);

/* ---- files of the host --------------------------------------------------------------------------------------- */

struct sim_image *sim_image_find(struct sim_truth *t, const char *path);
/* Takes nothing; one that is there already is written over. */
void sim_image_write(struct sim_truth *t, const char *path, const struct sim_object *o, struct sim_config *config, bool paused);
/* Is @path, or the folder it is in, missing? */
bool sim_file_missing(const struct sim_truth *t, const char *path);
/* The first missing file that @xml names; NULL: none. Borrowed. */
const char *sim_xml_missing(const struct sim_truth *t, const char *xml);
void sim_file_set_missing(struct sim_truth *t, const char *path, bool missing);
void sim_files_clear(struct sim_truth *t);

/* What it looks like now. */
struct seen *sim_object_look(const struct sim_object *o);
/* Owned. @config: one of the object's. */
char *sim_object_xml(const struct sim_object *o, const struct sim_config *config, bool secure);

/*
 * Everything, in the words of a scenario: it can be read as one. A string that is not UTF-8 is "name-hex" and so on.
 */
struct json_object *sim_truth_to_json(const struct sim_truth *t);
