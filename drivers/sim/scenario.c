/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "world.h"

/* A scenario of a megabyte a domain would be a mistake as well. */
#define FILE_MAX (64 << 20)
#define CROWD_MAX 1000000

static const char *const domain_keys =
	"name=s name-hex=x uuid=u active=b persistent=b autostart=b state=s reason=s id=i managed-save=b starting=b title=s "
	"title-hex=x description=s description-hex=x os-type=s max-memory=n memory=n vcpus=n max-vcpus=n xml=s "
	"xml-raw=s xml-raw-hex=x xml-inactive=s xml-inactive-hex=x count=n share-active=p xml-size=n snapshots=n checkpoints=n "
	"nvram=b";
static const char *const pool_keys =
	"name=s name-hex=x uuid=u active=b persistent=b autostart=b state=s type=s path=s capacity=n allocation=n volumes=a "
	"xml=s xml-raw=s xml-raw-hex=x xml-inactive=s count=n share-active=p";
static const char *const network_keys =
	"name=s name-hex=x uuid=u active=b persistent=b autostart=b type=s bridge=s xml=s xml-raw=s xml-raw-hex=x "
	"xml-inactive=s count=n share-active=p";
static const char *const volume_keys = "name=s name-hex=x path=s type=s format=s capacity=n allocation=n";

/* ---- one object --------------------------------------------------------------------------------------------------- */

static bool state_is_active(const char *state)
{
	int s = domain_state_from_string(state);

	return s != DOMAIN_SHUTOFF && s != DOMAIN_NOSTATE;
}

/* Whether it begins as active: by "active", or by its state. */
static bool starts_active(enum kind kind, struct json_object *j)
{
	const char *state = sim_json_string(j, "state", NULL);

	if (kind == KIND_DOMAIN && state)
		return state_is_active(state);
	return sim_json_bool(j, "active", false);
}

int sim_scenario_check_object(enum kind kind, struct json_object *j, const char *where, struct failure *f)
{
	const char *state = NULL;
	struct json_object *volumes;
	int r;

	r = sim_json_check(j, where,
			   kind == KIND_DOMAIN ? domain_keys
			   : kind == KIND_POOL ? pool_keys
					       : network_keys,
			   f);
	if (r != 0)
		return r;
	if (sim_json_number(j, "count", 1) > CROWD_MAX)
		return failure_set(f, VIREO_INVALID_ARGS, "%s.count is more than %d.", where, CROWD_MAX);
	if (!sim_json_get(j, "name") && !sim_json_get(j, "name-hex") && !sim_json_get(j, "xml"))
		return failure_set(f, VIREO_INVALID_ARGS, "%s lacks the key 'name' (or 'name-hex', or 'xml').", where);
	if (sim_json_get(j, "name") && sim_json_string(j, "name", "")[0] == '\0')
		return failure_set(f, VIREO_INVALID_ARGS, "%s.name is empty.", where);
	state = sim_json_string(j, "state", NULL);
	if (kind == KIND_DOMAIN && state && domain_state_from_string(state) < 0)
		return failure_set(f, VIREO_INVALID_ARGS,
				   "%s.state is '%s'; expected running, blocked, paused, shutdown, shutoff, crashed or pmsuspended.",
				   where, state);
	if (kind == KIND_DOMAIN && state && sim_json_get(j, "active") &&
	    sim_json_bool(j, "active", false) != state_is_active(state))
		return failure_set(f, VIREO_INVALID_ARGS, "%s.active does not go with its state '%s'.", where, state);
	if (!sim_json_bool(j, "persistent", true) && !starts_active(kind, j))
		return failure_set(f, VIREO_INVALID_ARGS, "%s is neither active nor persistent: it would not exist.", where);
	if (sim_json_number(j, "vcpus", 1) < 1 || sim_json_number(j, "vcpus", 1) > 4096)
		return failure_set(f, VIREO_INVALID_ARGS, "%s.vcpus is not 1 to 4096.", where);
	if (sim_json_number(j, "max-vcpus", 1) < 1 || sim_json_number(j, "max-vcpus", 1) > 4096)
		return failure_set(f, VIREO_INVALID_ARGS, "%s.max-vcpus is not 1 to 4096.", where);
	volumes = sim_json_get(j, "volumes");
	for (size_t i = 0; volumes && i < json_object_array_length(volumes); i++) {
		_cleanup_(freep) char *there = sim_printf("%s.volumes[%zu]", where, i);

		r = sim_json_check(json_object_array_get_idx(volumes, i), there, volume_keys, f);
		if (r != 0)
			return r;
	}
	return 0;
}

static void set_text(char **where, char *text)
{
	if (!text)
		return;
	free(*where);
	*where = text;
}

static void read_config(struct sim_config *c, struct json_object *j)
{
	set_text(&c->title, sim_json_bytes(j, "title"));
	set_text(&c->description, sim_json_bytes(j, "description"));
	set_text(&c->os_type, sim_json_bytes(j, "os-type"));
	set_text(&c->type, sim_json_bytes(j, "type"));
	set_text(&c->bridge, sim_json_bytes(j, "bridge"));
	set_text(&c->path, sim_json_bytes(j, "path"));
	c->max_memory = sim_json_number(j, "max-memory", sim_json_number(j, "memory", c->max_memory));
	c->memory = sim_json_number(j, "memory", sim_json_get(j, "max-memory") ? c->max_memory : c->memory);
	c->vcpus = (unsigned)sim_json_number(j, "vcpus", c->vcpus);
	c->max_vcpus = (unsigned)sim_json_number(j, "max-vcpus", c->max_vcpus);
	if (c->max_vcpus < c->vcpus)
		c->max_vcpus = c->vcpus;
	c->padding = sim_json_number(j, "xml-size", c->padding);
	if (sim_json_get(j, "xml-raw") || sim_json_get(j, "xml-raw-hex")) {
		set_text(&c->xml, sim_json_bytes(j, "xml-raw"));
		free(c->xml_plain);
		c->xml_plain = NULL;
	}
}

static void read_volumes(struct sim_object *o, const struct sim_config *c, struct json_object *j)
{
	struct json_object *volumes = sim_json_get(j, "volumes");

	for (size_t i = 0; volumes && i < json_object_array_length(volumes); i++) {
		struct json_object *jv = json_object_array_get_idx(volumes, i);
		struct sim_volume v = {};

		v.name = sim_json_bytes(jv, "name");
		if (!v.name)
			v.name = sim_printf("volume-%zu", i);
		v.path = sim_json_bytes(jv, "path");
		if (!v.path)
			v.path = sim_printf("%s/%s", c->path ? c->path : "/var/lib/sim/images", v.name);
		v.type = sim_strdup(sim_json_string(jv, "type", "file"));
		v.format = sim_strdup(sim_json_string(jv, "format", "raw"));
		v.capacity = sim_json_number(jv, "capacity", UINT64_C(1) << 30);
		v.allocation = sim_json_number(jv, "allocation", 0);
		sim_object_add_volume(o, &v);
	}
	o->capacity = sim_json_number(j, "capacity", UINT64_C(100) << 30);
	o->allocation = sim_json_number(j, "allocation", o->allocation);
}

static int add_crowd(struct sim_world *w, enum kind kind, struct json_object *j)
{
	w->crowds = sim_must(reallocarray(w->crowds, w->n_crowds + 1, sizeof(*w->crowds)));
	w->crowds[w->n_crowds++] = (struct sim_crowd){
		.kind = kind,
		.count = sim_json_number(j, "count", 1),
		.pattern = sim_json_bytes(j, "name"),
		.active = sim_json_double(j, "share-active", starts_active(kind, j) ? 1 : 0),
		.padding = sim_json_number(j, "xml-size", 0),
	};
	return 0;
}

/* Name, UUID and configuration of an object to be. */
static int read_identity(enum kind kind, struct json_object *j, const char *where, char **ret_name, sd_id128_t *ret_uuid,
			 struct sim_config **ret_config, struct failure *f)
{
	const char *xml = sim_json_string(j, "xml", NULL), *uuid_text = sim_json_string(j, "uuid", NULL);
	_cleanup_(freep) char *name = NULL;
	struct sim_config *config = NULL;
	sd_id128_t uuid = {};

	if (xml) {
		struct failure why = {};

		if (sim_config_parse(kind, xml, &config, &name, &uuid, &why) != 0) {
			failure_set(f, VIREO_INVALID_ARGS, "%s.xml: %s", where, why.message);
			failure_clear(&why);
			return VIREO_INVALID_ARGS;
		}
	} else
		config = sim_config_new(kind);
	if (sim_json_get(j, "name") || sim_json_get(j, "name-hex")) {
		free(name);
		name = sim_json_bytes(j, "name");
	}
	if (uuid_text)
		sd_id128_from_string(uuid_text, &uuid);
	else if (sd_id128_is_null(uuid) && sd_id128_randomize(&uuid) < 0) {
		sim_config_unref(config);
		return failure_set(f, VIREO_OPERATION_FAILED, "There is no random number for a UUID.");
	}
	read_config(config, j);
	*ret_name = TAKE(name);
	*ret_uuid = uuid;
	*ret_config = config;
	return 0;
}

static void read_run(struct sim_world *w, struct sim_object *o, struct json_object *j, struct sim_config *config)
{
	_cleanup_(freep) char *inactive = sim_json_bytes(j, "xml-inactive");
	const char *state = sim_json_string(j, "state", NULL);

	o->autostart = sim_json_bool(j, "autostart", false);
	o->managed_save = sim_json_bool(j, "managed-save", false);
	o->active = starts_active(o->kind, j);
	if (o->active)
		o->live = sim_config_ref(config);
	if (o->persistent && inactive) {
		struct sim_config *other = sim_config_copy(config);

		set_text(&other->xml, TAKE(inactive));
		sim_config_unref(o->config);
		o->config = other;
	}
	if (o->kind == KIND_POOL && state)
		snprintf(o->state_name, sizeof(o->state_name), "%s", state);
	if (o->kind != KIND_DOMAIN)
		return;
	o->snapshots = (unsigned)sim_json_number(j, "snapshots", 0);
	o->checkpoints = (unsigned)sim_json_number(j, "checkpoints", 0);
	o->nvram = sim_json_bool(j, "nvram", false);
	if (o->active) {
		o->id = json_object_get_int(sim_json_get(j, "id"));
		if (o->id <= w->truth.last_id)
			o->id = o->id > 0 ? o->id : w->truth.last_id + 1;
		if (o->id > w->truth.last_id)
			w->truth.last_id = o->id;
		o->starting = sim_json_bool(j, "starting", false);
	}
	sim_object_set_state(o, state ? (enum domain_state)domain_state_from_string(state)
				      : o->active ? DOMAIN_RUNNING : DOMAIN_SHUTOFF,
			     sim_json_string(j, "reason", o->active ? "booted" : "unknown"));
}

int sim_scenario_object(struct sim_world *w, enum kind kind, struct json_object *j, const char *where, bool tell,
			struct failure *f)
{
	_cleanup_(freep) char *name = NULL;
	struct sim_config *config = NULL;
	struct sim_object *o;
	sd_id128_t uuid;
	bool persistent = sim_json_bool(j, "persistent", true);
	int r;

	r = sim_scenario_check_object(kind, j, where, f);
	if (r != 0)
		return r;
	if (sim_json_get(j, "count"))
		return failure_set(f, VIREO_INVALID_ARGS, "%s.count: only the objects of the beginning can be many.", where);
	r = read_identity(kind, j, where, &name, &uuid, &config, f);
	if (r != 0)
		return r;
	if (sim_object_named(&w->truth, kind, name) || sim_object_find(&w->truth, kind, uuid)) {
		char text[37];

		sim_config_unref(config);
		return failure_set(f, VIREO_ALREADY_EXISTS, "%s: there is another %s '%s', or one with the UUID %s.", where,
				   kind_to_string(kind), name, sd_id128_to_uuid_string(uuid, text));
	}
	w->silent = !tell;
	if (persistent)
		o = sim_act_add(w, kind, uuid, name, sim_config_ref(config), true);
	else
		o = sim_object_add(&w->truth, kind, uuid, name);
	if (tell && starts_active(kind, j)) {
		/* it begins its run before the eyes of all */
		const char *state = sim_json_string(j, "state", "running");

		if (kind == KIND_POOL)
			read_volumes(o, config, j);
		if (kind == KIND_DOMAIN)
			sim_domain_begin(w, o, config, strcmp(state, "paused") == 0);
		else {
			o->active = true;
			o->live = sim_config_ref(config);
			sim_emit(w, o, CAUSE_STARTED, NULL);
		}
		o->autostart = sim_json_bool(j, "autostart", false);
	} else {
		if (kind == KIND_POOL)
			read_volumes(o, config, j);
		read_run(w, o, j, config);
	}
	w->silent = false;
	sim_config_unref(config);
	return 0;
}

/* ---- faults and operations ---------------------------------------------------------------------------------------- */

int sim_scenario_check_faults(struct json_object *j, const char *where, bool is_step, struct sim_faults *faults,
			      struct failure *f)
{
	if (!json_object_is_type(j, json_type_object))
		return failure_set(f, VIREO_INVALID_ARGS, "%s is %s; expected an object.", where,
				   json_object_to_json_string(j));
	json_object_object_foreach(j, key, value)
	{
		struct failure why = {};
		int r;

		if (is_step && (strcmp(key, "do") == 0 || (strcmp(key, "reset") == 0 &&
							   json_object_is_type(value, json_type_boolean))))
			continue;
		r = sim_fault_set(faults, key, value, NULL, &why);
		if (r == -ENOENT) {
			_cleanup_(freep) char *words = sim_fault_words();

			return failure_set(f, VIREO_INVALID_ARGS, "%s has the unknown fault '%s'; there are: %s.", where, key,
					   words);
		}
		if (r != 0) {
			failure_set(f, VIREO_INVALID_ARGS, "%s: %s", where, why.message);
			failure_clear(&why);
			return VIREO_INVALID_ARGS;
		}
	}
	return 0;
}

enum operation sim_operation_from_string(const char *name)
{
	for (enum operation op = OP_NONE + 1; op < OP_MAX; op++) {
		const struct operation_def *d = &operation_table[op];
		size_t n = strlen(d->interface);

		if (sim_can(op) && strncmp(name, d->interface, n) == 0 && name[n] == '.' && strcmp(name + n + 1, d->method) == 0)
			return op;
	}
	return OP_NONE;
}

int sim_scenario_rule_of_step(struct json_object *j, const char *where, struct sim_rule *ret, struct failure *f)
{
	struct sim_rule rule = {.set = true, .error = VIREO_OPERATION_FAILED};
	const char *error;

	rule.duration = sim_json_number(j, "duration", 0) * USEC_PER_MSEC;
	rule.interval = sim_json_number(j, "progress", 100) * USEC_PER_MSEC;
	if (rule.interval == 0)
		rule.interval = rule.duration;
	rule.has_total = sim_json_get(j, "total");
	rule.total = sim_json_number(j, "total", 0);
	rule.fail_at = sim_json_double(j, "fail-at", 1);
	rule.cancellable = sim_json_bool(j, "cancellable", true);
	rule.missing = sim_json_bool(j, "missing", false);
	error = sim_json_string(j, "error", NULL);
	rule.fail = sim_json_double(j, "fail", error ? 1 : 0);
	if (error) {
		_cleanup_(freep) char *full = sim_printf("org.vireo1.Error.%s", error);

		rule.error = vireo_error_from_name(full);
		if (strcmp(vireo_error_name(rule.error), full) != 0)
			return failure_set(f, VIREO_INVALID_ARGS, "%s.error is '%s', which is no error of org.vireo1.Error.",
					   where, error);
	}
	rule.message = sim_json_string(j, "message", NULL) ? sim_strdup(sim_json_string(j, "message", "")) : NULL;
	*ret = rule;
	return 0;
}

int sim_scenario_rule(struct json_object *j, const char *where, struct sim_rule *ret, struct failure *f)
{
	int r = sim_json_check(j, where, SIM_RULE_KEYS, f);

	return r != 0 ? r : sim_scenario_rule_of_step(j, where, ret, f);
}

int sim_scenario_rules(struct sim_world *w, struct json_object *j, const char *where, struct failure *f)
{
	json_object_object_foreach(j, key, value)
	{
		enum operation op = sim_operation_from_string(key);
		_cleanup_(freep) char *there = sim_printf("%s.operations['%s']", where, key);
		struct sim_rule rule = {};
		int r;

		if (op == OP_NONE)
			return failure_set(f, VIREO_INVALID_ARGS,
					   "%s is no operation of the simulated hypervisor; expected Domain.Start or the like.",
					   there);
		r = sim_scenario_rule(value, there, &rule, f);
		if (r != 0)
			return r;
		if (!w) {
			free(rule.message);
			continue;
		}
		free(w->rules[op].message);
		w->rules[op] = rule;
	}
	return 0;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */

static int apply_list(struct sim_world *w, enum kind kind, struct json_object *j, const char *file, const char *key,
		      struct failure *f)
{
	struct json_object *list = sim_json_get(j, key);

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *item = json_object_array_get_idx(list, i);
		_cleanup_(freep) char *where = sim_printf("%s: $.%s[%zu]", file, key, i);
		int r = sim_scenario_check_object(kind, item, where, f);

		if (r == 0 && sim_json_get(item, "count"))
			r = sim_json_get(item, "name") || sim_json_get(item, "name-hex")
				    ? add_crowd(w, kind, item)
				    : failure_set(f, VIREO_INVALID_ARGS, "%s has a count, so it needs a name.", where);
		else if (r == 0)
			r = sim_scenario_object(w, kind, item, where, false, f);
		if (r != 0)
			return r;
	}
	return 0;
}

/* What the host has saved, and what it lacks. */
static int apply_files(struct sim_world *w, struct json_object *j, const char *file, struct failure *f)
{
	struct json_object *saved = sim_json_get(j, "saved"), *missing = sim_json_get(j, "missing");

	for (size_t i = 0; saved && i < json_object_array_length(saved); i++) {
		struct json_object *item = json_object_array_get_idx(saved, i);
		_cleanup_(freep) char *where = sim_printf("%s: $.saved[%zu]", file, i), *name = NULL;
		struct sim_config *config = NULL;
		struct failure why = {};
		sd_id128_t uuid = {};
		int r = sim_json_check(item, where, "!path=s !xml=s paused=b", f);

		if (r != 0)
			return r;
		if (sim_config_parse(KIND_DOMAIN, sim_json_string(item, "xml", ""), &config, &name, &uuid, &why) != 0) {
			failure_set(f, VIREO_INVALID_ARGS, "%s.xml: %s", where, why.message);
			failure_clear(&why);
			return VIREO_INVALID_ARGS;
		}
		/* as it was written, not as it would be written now */
		set_text(&config->xml, sim_strdup(sim_json_string(item, "xml", "")));
		sim_image_write(&w->truth, sim_json_string(item, "path", ""),
				&(struct sim_object){.uuid = uuid, .name = name}, config, sim_json_bool(item, "paused", false));
		sim_config_unref(config);
	}
	for (size_t i = 0; missing && i < json_object_array_length(missing); i++) {
		struct json_object *item = json_object_array_get_idx(missing, i);

		if (!json_object_is_type(item, json_type_string) || json_object_get_string(item)[0] != '/')
			return failure_set(f, VIREO_INVALID_ARGS, "%s: $.missing[%zu] is %s; expected an absolute path.", file, i,
					   json_object_to_json_string(item));
		sim_file_set_missing(&w->truth, json_object_get_string(item), true);
	}
	return 0;
}

int sim_scenario_apply(struct sim_world *w, struct json_object *j, const char *file, struct failure *f)
{
	_cleanup_(freep) char *top = sim_printf("%s: $", file), *there = NULL;
	int r;

	r = sim_json_check(j, top,
			   "comment=s hostname=s version=s seed=n guest-delay=n domains=a pools=a networks=a faults=o "
			   "operations=o refuse=i steps=a saved=a missing=a storage=n",
			   f);
	if (r != 0)
		return r;
	if (sim_json_get(j, "seed"))
		w->random = sim_json_number(j, "seed", 0) * UINT64_C(0x9E3779B97F4A7C15) | 1;
	set_text(&w->hostname, sim_json_bytes(j, "hostname"));
	set_text(&w->version, sim_json_bytes(j, "version"));
	w->guest_delay = sim_json_get(j, "guest-delay") ? sim_json_number(j, "guest-delay", 0) * USEC_PER_MSEC
							: w->guest_delay;
	w->storage = sim_json_number(j, "storage", w->storage);
	if (sim_json_get(j, "refuse"))
		w->refuse = json_object_get_int64(sim_json_get(j, "refuse"));
	r = apply_list(w, KIND_DOMAIN, j, file, "domains", f);
	if (r == 0)
		r = apply_list(w, KIND_POOL, j, file, "pools", f);
	if (r == 0)
		r = apply_list(w, KIND_NETWORK, j, file, "networks", f);
	if (r == 0)
		r = apply_files(w, j, file, f);
	if (r == 0 && sim_json_get(j, "faults")) {
		there = sim_printf("%s.faults", top);
		r = sim_scenario_check_faults(sim_json_get(j, "faults"), there, false, &w->faults, f);
	}
	if (r == 0 && sim_json_get(j, "operations"))
		r = sim_scenario_rules(w, sim_json_get(j, "operations"), top, f);
	if (r == 0 && sim_json_get(j, "steps")) {
		free(there);
		there = sim_printf("%s.steps", top);
		r = sim_steps_check(sim_json_get(j, "steps"), there, f);
		if (r == 0)
			sim_script_add(w, sim_json_get(j, "steps"), NULL, NULL);
	}
	return r;
}

int sim_scenario_load(struct sim_world *w, const char *path, struct failure *f)
{
	_cleanup_(freep) char *text = NULL;
	struct json_object *j = NULL;
	struct stat st;
	ssize_t n = -1;
	size_t have = 0;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = failure_set(f, VIREO_INVALID_ARGS, "%s: it cannot be opened: %s.", path, strerrordesc_np(errno));
		if (fd >= 0)
			close(fd);
		return r;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
		close(fd);
		return failure_set(f, VIREO_INVALID_ARGS, "%s: it is no regular file of at most %d bytes.", path, FILE_MAX);
	}
	text = sim_must(malloc((size_t)st.st_size + 1));
	while (have < (size_t)st.st_size && (n = read(fd, text + have, (size_t)st.st_size - have)) > 0)
		have += (size_t)n;
	r = n < 0 && st.st_size > 0 ? -errno : 0;
	close(fd);
	if (r < 0)
		return failure_set(f, VIREO_INVALID_ARGS, "%s: it cannot be read: %s.", path, strerrordesc_np(-r));
	text[have] = '\0';
	r = sim_json_parse(text, have, path, &j, f);
	if (r == 0)
		r = sim_scenario_apply(w, j, path, f);
	json_object_put(j);
	return r;
}
