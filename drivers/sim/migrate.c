/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include <libxml/parser.h>

#include "job.h"
#include "json.h"
#include "migrate.h"
#include "uri.h"

/*
 * Migration, as libvirt does it: the other side is asked to take the domain in, where it waits paused; then the memory
 * moves; then it stops here and goes on there. A thread talks with the other side, the job (job.c) has the time and the domain.
 *
 *   here:   PREPARING ──► MOVING ──► SWITCHING ──► over
 *               │            └──(postcopy)──┘
 *               └──────────────────► ABORTING ──► over
 */
enum wish { WISH_NOTHING, WISH_POSTCOPY, WISH_FINISH, WISH_ABORT };

struct migration {
	struct sim_world *world; /* which waits for the thread */
	char *uri, *xml;	 /* of it there */
	char *persistent_xml;	 /* NULL: as that */
	sd_id128_t uuid;
	bool persistent, paused, offline, undefine;
	struct sim_far far; /* the thread's */

	/* the world's lock */
	struct sim_job *job; /* NULL: it is over */
	unsigned refs;
	pthread_cond_t wake;
	enum wish wish;
	bool was_running, postcopy; /* postcopy: it runs there already */
};

static void migration_unref(struct migration *m)
{
	if (--m->refs > 0)
		return;
	pthread_cond_destroy(&m->wake);
	free(m->uri);
	free(m->xml);
	free(m->persistent_xml);
	free(m);
}

/* Locked. */
static void want(struct migration *m, enum wish wish)
{
	m->wish = wish;
	pthread_cond_signal(&m->wake);
}

/* Locked; the job is over. */
static void forget(void *data)
{
	struct migration *m = data;

	m->job = NULL;
	if (m->wish != WISH_FINISH)
		want(m, WISH_ABORT);
	migration_unref(m);
}

/* ---- the other side ------------------------------------------------------------------------------------------ */

static struct json_object *new_step(const struct migration *m, const char *phase)
{
	struct json_object *j = json_object_new_object();
	char uuid[37];

	json_object_object_add(j, "do", json_object_new_string("migrate-in"));
	json_object_object_add(j, "phase", json_object_new_string(phase));
	json_object_object_add(j, "uuid", json_object_new_string(sd_id128_to_uuid_string(m->uuid, uuid)));
	return j;
}

static int ask(const struct migration *m, const char *phase, bool paused, struct failure *f)
{
	struct json_object *j = new_step(m, phase);
	int r;

	if (strcmp(phase, "prepare") == 0 || m->offline)
		json_object_object_add(j, "xml", json_object_new_string(m->xml));
	if (m->persistent || m->offline)
		json_object_object_add(j, "persistent", json_object_new_boolean(true));
	if (m->persistent_xml)
		json_object_object_add(j, "persistent-xml", json_object_new_string(m->persistent_xml));
	if (paused)
		json_object_object_add(j, "paused", json_object_new_boolean(true));
	r = sim_far_run(&m->far, j, f);
	json_object_put(j);
	return r;
}

int sim_migrate_in_check(struct json_object *step, const char *where, struct failure *f)
{
	static const char *const phases[] = {"prepare", "offline", "postcopy", "finish", "abort"};
	const char *phase = sim_json_string(step, "phase", "");
	size_t i = 0;

	while (i < ELEMENTS(phases) && strcmp(phases[i], phase) != 0)
		i++;
	if (i == ELEMENTS(phases))
		return failure_set(f, VIREO_INVALID_ARGS, "%s.phase is '%s'; expected prepare, offline, postcopy, finish or abort.",
				   where, phase);
	if (i < 2 && !sim_json_get(step, "xml"))
		return failure_set(f, VIREO_INVALID_ARGS, "%s lacks the key 'xml'.", where);
	return 0;
}

static int take_in(struct sim_world *w, struct json_object *step, struct failure *f)
{
	_cleanup_(freep) char *name = NULL;
	const char *xml = sim_json_string(step, "xml", ""), *missing = sim_xml_missing(&w->truth, xml);
	struct sim_config *config = NULL;
	struct sim_object *o, *named;
	sd_id128_t uuid;
	int r = sim_config_parse(KIND_DOMAIN, xml, &config, &name, &uuid, f);

	if (r != 0)
		return r;
	o = sim_object_find(&w->truth, KIND_DOMAIN, uuid);
	named = sim_object_named(&w->truth, KIND_DOMAIN, name);
	if (named && named != o)
		r = failure_set(f, VIREO_ALREADY_EXISTS, "There is another domain '%s'.", name);
	else if (o && (o->active || strcmp(o->name, name) != 0))
		r = failure_set(f, VIREO_ALREADY_EXISTS, "There is a domain with this UUID already: '%s'.", o->name);
	else if (missing)
		r = failure_set(f, VIREO_OPERATION_FAILED, "%s: it cannot be opened: No such file or directory", missing);
	if (r != 0) {
		sim_config_unref(config);
		return r;
	}
	if (!o)
		o = sim_object_add(&w->truth, KIND_DOMAIN, uuid, name);
	o->active = o->incoming = true;
	o->id = ++w->truth.last_id;
	o->live = config;
	sim_object_set_state(o, DOMAIN_PAUSED, "migrating");
	sim_emit(w, o, CAUSE_STARTED, "migrated");
	return 0;
}

/* It has arrived. */
static int finish_in(struct sim_world *w, struct sim_object *o, struct json_object *step, struct failure *f)
{
	const char *xml = sim_json_string(step, "persistent-xml", NULL);
	bool ran = o->state == DOMAIN_RUNNING;

	if (sim_json_bool(step, "persistent", false)) {
		struct sim_config *config = NULL;
		bool was = o->persistent;

		if (xml) {
			_cleanup_(freep) char *name = NULL;
			sd_id128_t uuid;
			int r = sim_config_parse(KIND_DOMAIN, xml, &config, &name, &uuid, f);

			if (r != 0)
				return r;
		} else
			config = sim_config_ref(o->live);
		sim_config_unref(o->config);
		o->config = config;
		o->persistent = true;
		sim_emit(w, o, CAUSE_DEFINED, was ? "updated" : "added");
	}
	o->incoming = false;
	if (sim_json_bool(step, "paused", false) && !ran) {
		sim_object_set_state(o, DOMAIN_PAUSED, "user");
		sim_emit(w, o, CAUSE_SUSPENDED, "paused");
		return 0;
	}
	sim_object_set_state(o, DOMAIN_RUNNING, "migrated");
	sim_emit(w, o, CAUSE_RESUMED, "migrated");
	return 0;
}

int sim_migrate_in(struct sim_world *w, struct json_object *step, struct failure *f)
{
	const char *phase = sim_json_string(step, "phase", "");
	struct sim_object *o;
	sd_id128_t uuid = {};

	if (strcmp(phase, "prepare") == 0)
		return take_in(w, step, f);
	if (strcmp(phase, "offline") == 0)
		return sim_act_define(w, KIND_DOMAIN, sim_json_string(step, "xml", ""), &uuid, f);
	(void)sd_id128_from_string(sim_json_string(step, "uuid", ""), &uuid);
	o = sim_object_find(&w->truth, KIND_DOMAIN, uuid);
	if (!o || !o->active || !o->incoming)
		return failure_set(f, VIREO_NOT_FOUND, "No such domain is on its way here.");
	if (strcmp(phase, "abort") == 0) {
		sim_domain_end(w, o, "failed", "failed");
		return 0;
	}
	if (strcmp(phase, "postcopy") == 0) {
		sim_object_set_state(o, DOMAIN_RUNNING, "post-copy");
		sim_emit(w, o, CAUSE_RESUMED, "postcopy");
		return 0;
	}
	return finish_in(w, o, step, f);
}

/* ---- this side ----------------------------------------------------------------------------------------------- */

static void say_iteration(struct sim_world *w, const struct sim_object *o, int iteration)
{
	_cleanup_(vdict_freep) struct vdict *details = sim_must(vdict_new());

	vdict_set_i(details, "iteration", iteration);
	sim_emit_event(w, o, "MigrationIteration", NULL, details);
}

/* Locked: it goes on there. */
static void leave(struct sim_world *w, struct migration *m)
{
	struct sim_job *j = m->job;
	struct sim_object *o = sim_object_find(&w->truth, KIND_DOMAIN, m->uuid), gone;
	_cleanup_(freep) char *name = NULL;
	struct failure none = {};

	if (o) {
		name = sim_strdup(o->name);
		gone = (struct sim_object){.kind = KIND_DOMAIN, .uuid = o->uuid, .name = name, .id = o->id};
		/* no word about that */
		if (m->undefine)
			o->persistent = false;
		if (o->active && o->id == j->run)
			sim_domain_end(w, o, "migrated", "migrated");
		else if (!o->persistent && !o->active)
			sim_object_remove(&w->truth, o);
		if (!m->offline)
			sim_emit_job_completed(w, &gone, j);
	}
	sim_job_over(w, j, &none);
}

/* Locked; the answer to a wish that was not granted. */
static void give_up(struct sim_world *w, struct migration *m, const struct failure *f)
{
	struct sim_job *j = m->job;
	const struct failure *why = j->why.error != VIREO_OK ? &j->why : f;
	_cleanup_(freep) char *text = sim_strdup(why->message ? why->message : "");

	sim_job_fail(w, j, why->error, text);
}

/* Locked. Until it is over, the lock is given away whenever the other side is asked. */
static void run_migration(struct sim_world *w, struct migration *m)
{
	static const char *const phases[] = {
		[WISH_POSTCOPY] = "postcopy",
		[WISH_FINISH] = "finish",
		[WISH_ABORT] = "abort",
	};

	for (;;) {
		struct failure f = {};
		enum wish wish;
		bool paused;

		while (m->wish == WISH_NOTHING)
			sim_wait(&m->wake, &w->lock, USEC_UNKNOWN);
		wish = m->wish;
		paused = m->paused;
		pthread_mutex_unlock(&w->lock);
		(void)ask(m, phases[wish], paused, &f);
		pthread_mutex_lock(&w->lock);
		if (wish == WISH_FINISH && f.error == VIREO_OK && m->job) {
			leave(w, m);
		} else if (wish == WISH_POSTCOPY && f.error == VIREO_OK && m->wish == wish) {
			m->wish = WISH_NOTHING;
			failure_clear(&f);
			continue;
		} else if (wish != WISH_ABORT && f.error != VIREO_OK && m->wish == wish) {
			/* it stays here, and the other side is to forget it */
			if (m->job)
				give_up(w, m, &f);
			m->wish = WISH_ABORT;
			failure_clear(&f);
			continue;
		} else if (wish == WISH_ABORT) {
			if (m->job)
				give_up(w, m, &f);
		} else if (m->wish != wish) {
			failure_clear(&f);
			continue;
		}
		failure_clear(&f);
		return;
	}
}

static void *migrate_thread(void *data)
{
	struct migration *m = data;
	struct sim_world *w = m->world;
	struct failure f = {};
	struct sim_far far;

	if (sim_far_open(m->uri, &m->far, &f) != 0)
		;
	else if (m->far.world == w)
		failure_set(&f, VIREO_OPERATION_FAILED, "%s is this very hypervisor.", m->uri);
	else
		(void)ask(m, m->offline ? "offline" : "prepare", false, &f);
	pthread_mutex_lock(&w->lock);
	if (f.error != VIREO_OK) {
		if (m->job)
			give_up(w, m, &f);
	} else if (m->offline) {
		if (m->job)
			leave(w, m);
	} else {
		if (m->job && m->wish == WISH_NOTHING) {
			struct sim_object *o = sim_object_find(&w->truth, KIND_DOMAIN, m->uuid);

			if (o)
				say_iteration(w, o, 1);
			sim_job_go(w, m->job);
		}
		run_migration(w, m);
	}
	failure_clear(&f);
	far = m->far;
	migration_unref(m);
	/* the registry's lock comes first */
	pthread_mutex_unlock(&w->lock);
	sim_far_close(&far);
	pthread_mutex_lock(&w->lock);
	w->threads--;
	sim_world_poke(w);
	pthread_mutex_unlock(&w->lock);
	sim_thread_ended();
	return NULL;
}

/* ---- the job ------------------------------------------------------------------------------------------------- */

/* What it will be there. Owned. */
static int describe(struct sim_job *j, const struct sim_object *o, const struct sim_config *c, const char *option, char **ret,
		    struct failure *f)
{
	const char *given = sim_job_option(j, option), *name = sim_job_option(j, "name");
	struct sim_config *config = NULL;
	_cleanup_(freep) char *its_name = NULL, *xml = NULL;
	struct sim_object there = {.kind = KIND_DOMAIN, .uuid = o->uuid, .name = o->name};
	sd_id128_t uuid;
	int r;

	xml = given ? sim_strdup(given) : sim_object_xml(o, c, true);
	r = sim_config_parse(KIND_DOMAIN, xml, &config, &its_name, &uuid, f);
	if (r != 0)
		return r;
	if (!sd_id128_equal(uuid, o->uuid))
		r = failure_set(f, VIREO_INVALID_XML, "Option %s: it is the description of another domain.", option);
	else if (name && name[0]) {
		struct sim_config *renamed = sim_config_renamed(config, name);

		_cleanup_(freep) char *copy = sim_strdup(name);

		there.name = copy;
		*ret = sim_object_xml(&there, renamed, true);
		sim_config_unref(renamed);
	} else
		*ret = TAKE(xml);
	sim_config_unref(config);
	return r;
}

static int check_uri(const char *uri, struct failure *f)
{
	struct sim_uri u = {};
	int r;

	if (!uri || strncmp(uri, "sim:", 4) != 0)
		return failure_set(f, VIREO_INVALID_URI, "'%s' is no simulated hypervisor: only to one can this be migrated.",
				   uri ? uri : "");
	r = sim_uri_parse(uri, &u, f);
	sim_uri_done(&u);
	return r;
}

static int check(const struct sim_job *j, const struct sim_object *o, struct failure *f)
{
	const struct vdict *options = j->request->options;

	if (vdict_b(options, "tunnelled", false) && !vdict_b(options, "p2p", false))
		return failure_set(f, VIREO_INVALID_OPTION, "Option tunnelled needs p2p.");
	if (vdict_b(options, "offline", false)) {
		if (o->active)
			return sim_refuse_state(o, "is active, and cannot be migrated offline", f);
		return o->persistent ? 0 : sim_refuse_state(o, "is not persistent", f);
	}
	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	if (o->starting || o->incoming)
		return sim_refuse_state(o, "is still on its way", f);
	if (o->state != DOMAIN_RUNNING && o->state != DOMAIN_BLOCKED && o->state != DOMAIN_PAUSED)
		return sim_refuse_state(o, "is neither running nor paused", f);
	return 0;
}

static int begin_migrate(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	const struct vdict *options = j->request->options;
	struct migration *m;
	int r = check_uri(j->request->text, f);

	if (r == 0)
		r = check(j, o, f);
	if (r != 0)
		return r;
	m = sim_new(struct migration);
	m->refs = 1;
	sim_cond_init(&m->wake);
	m->world = w;
	m->uri = sim_strdup(j->request->text);
	m->uuid = o->uuid;
	m->offline = vdict_b(options, "offline", false);
	m->persistent = vdict_b(options, "persistent", false);
	m->paused = vdict_b(options, "paused", false) || o->state == DOMAIN_PAUSED;
	m->undefine = vdict_b(options, "undefine-source", false);
	r = describe(j, o, m->offline ? o->config : o->live, "xml", &m->xml, f);
	if (r == 0 && sim_job_option(j, "persistent-xml"))
		r = describe(j, o, o->live, "persistent-xml", &m->persistent_xml, f);
	if (r == 0) {
		m->job = j;
		m->refs = 2;
		w->threads++;
		r = sim_thread(migrate_thread, m);
		if (r < 0) {
			w->threads--;
			m->refs = 1;
			r = failure_set(f, VIREO_OPERATION_FAILED, "There is no thread for it: %s", strerrordesc_np(-r));
		}
	}
	if (r != 0) {
		migration_unref(m);
		return r;
	}
	j->data = m;
	j->free_data = forget;
	/* nothing moves before the other side is prepared */
	j->held = true;
	j->of_run = !m->offline;
	if (!m->offline)
		j->total = o->live->memory;
	return 0;
}

static void stand_still(struct sim_world *w, struct migration *m, struct sim_object *o)
{
	if (o->state != DOMAIN_RUNNING && o->state != DOMAIN_BLOCKED)
		return;
	m->was_running = true;
	sim_object_set_state(o, DOMAIN_PAUSED, "migrating");
	sim_emit(w, o, CAUSE_SUSPENDED, "migrated");
}

/* From here on it is in two places, and cannot come back. */
static void half_migrate(struct sim_world *w, struct sim_job *j, struct sim_object *o)
{
	struct migration *m = j->data;

	say_iteration(w, o, 2);
	if (!vdict_b(j->request->options, "postcopy", false) || o->state != DOMAIN_RUNNING)
		return;
	m->postcopy = true;
	j->cancellable = false;
	stand_still(w, m, o);
	sim_object_set_state(o, DOMAIN_PAUSED, "post-copy");
	sim_emit(w, o, CAUSE_SUSPENDED, "postcopy");
	want(m, WISH_POSTCOPY);
}

static int end_migrate(struct sim_world *w, struct sim_job *j, struct sim_object *o, struct failure *f)
{
	struct migration *m = j->data;

	j->cancellable = false;
	if (!m->postcopy) {
		/* somebody may have paused it meanwhile: then it arrives so */
		m->paused = m->paused || o->state == DOMAIN_PAUSED;
		stand_still(w, m, o);
	}
	want(m, WISH_FINISH);
	return SIM_GOES_ON;
}

static int stop_migrate(struct sim_world *w, struct sim_job *j)
{
	struct migration *m = j->data;

	if (m->wish != WISH_FINISH)
		want(m, WISH_ABORT);
	return SIM_GOES_ON;
}

static void undo_migrate(struct sim_world *w, struct sim_job *j, struct sim_object *o)
{
	struct migration *m = j->data;

	if (!o || !m || !m->was_running || o->state != DOMAIN_PAUSED)
		return;
	if (m->postcopy) {
		sim_object_set_state(o, DOMAIN_PAUSED, "post-copy failed");
		sim_emit(w, o, CAUSE_SUSPENDED, "postcopy-failed");
		return;
	}
	sim_object_set_state(o, DOMAIN_RUNNING, "migration canceled");
	sim_emit(w, o, CAUSE_RESUMED, "migrated");
}

const struct sim_course sim_migrate_course = {
	.begin = begin_migrate,
	.end = end_migrate,
	.undo = undo_migrate,
	.stop = stop_migrate,
	.half = half_migrate,
	.cancellable = true,
	.visible = true,
	.of_run = true,
};
