/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "run.h"
#include "util/log.h"
#include "util/utf8.h"

/* A domain of our own: what is known of it, and telling that. */

/* ---- domains ------------------------------------------------------------------------------------------------ */

struct domain *run_find(struct driver_connection *c, sd_id128_t uuid)
{
	struct domain *d;

	DL_FOREACH(c->domains, d)
	if (sd_id128_equal(d->uuid, uuid))
		return d;
	return NULL;
}

const char *domain_name(const struct domain *d)
{
	/* A description that was given another name takes effect at once: names are for people. */
	return d->config ? d->config->name : d->live ? d->live->name : d->pending ? d->pending : "?";
}

struct domain *run_find_name(struct driver_connection *c, const char *name)
{
	struct domain *d;

	DL_FOREACH(c->domains, d)
	if (strcmp(domain_name(d), name) == 0 || (d->pending && strcmp(d->pending, name) == 0))
		return d;
	return NULL;
}

void domain_free(struct domain *d)
{
	domain_leave(d);
	vm_free(d->config);
	vm_free(d->live);
	free(d->config_text);
	free(d->live_text);
	for (size_t i = 0; i < d->n_queued; i++)
		request_free(d->queued[i]);
	free(d->queued);
	free(d->pending);
	free(d->directory);
	free(d);
}

struct domain *domain_new(struct driver_connection *c, sd_id128_t uuid)
{
	struct domain *d = calloc(1, sizeof(*d));
	char text[SD_ID128_UUID_STRING_MAX];

	if (!d || asprintf(&d->directory, "%s/%s", c->directory, sd_id128_to_uuid_string(uuid, text)) < 0) {
		free(d);
		return NULL;
	}
	d->c = c;
	d->uuid = uuid;
	d->pidfd = d->incoming = -1;
	return d;
}

void domain_wait(struct domain *d, struct request *r)
{
	struct request **list = reallocarray(d->queued, d->n_queued + 1, sizeof(*list));

	if (!list) {
		env_post_result(&d->c->env, r, VIREO_NO_MEMORY, "out of memory");
		return;
	}
	d->queued = list;
	list[d->n_queued++] = r;
}

struct removal {
	char *directory;
	struct domain *d;
};

static void remove_now(const char *directory)
{
	int r = files_remove_directory(directory);

	if (r < 0)
		log_warning("%s cannot be removed: %s", directory, strerror(-r));
}

static void removal_run(void *data)
{
	remove_now(((struct removal *)data)->directory);
}

static void removal_drop(void *data)
{
	struct removal *k = data;

	free(k->directory);
	free(k);
}

static void on_removed(void *data)
{
	struct domain *d = ((struct removal *)data)->d;

	removal_drop(data);
	d->removed = true;
	domain_settled(d);
}

/* Until its directory has gone, nobody may make it anew. */
static void remove_files(struct domain *d)
{
	struct removal *k = calloc(1, sizeof(*k));

	d->removed = true;
	if (k && (k->directory = strdup(d->directory))) {
		k->d = d;
		if (chores_run(d->c->env.chores, removal_run, on_removed, removal_drop, k) == 0) {
			d->changing = true;
			return;
		}
	}
	if (k)
		removal_drop(k);
	remove_now(d->directory);
	domain_settled(d);
}

void domain_settled(struct domain *d)
{
	struct driver_connection *c = d->c;
	struct request **list;
	size_t n;

	d->changing = false;
	if (d->forgotten && !d->removed) {
		remove_files(d);
		return;
	}
	list = TAKE(d->queued);
	n = d->n_queued;
	d->n_queued = 0;
	if (d->forgotten) {
		DL_DELETE(c->domains, d);
		domain_free(d);
	}
	/* Each looks up for itself what has become of it. */
	for (size_t i = 0; i < n; i++)
		run_operate(c, list[i]);
	free(list);
}

void domain_forget(struct domain *d)
{
	d->forgotten = true;
	vm_free(TAKE(d->live));
	free(TAKE(d->live_text));
	free(TAKE(d->pending));
	if (!d->changing)
		domain_settled(d);
}

void domain_complete(struct domain *d, struct seen *s)
{
	const struct vm *vm = s->active && d->live ? d->live : d->config;

	s->persistent = d->config != NULL;
	s->autostart = d->autostart;
	s->managed_save = d->managed_save;
	free(s->name);
	s->name = utf8_dup(domain_name(d));
	s->title = utf8_dup(vm && vm->title ? vm->title : "");
	s->description = utf8_dup(vm && vm->description ? vm->description : "");
	s->os_type = strdup("hvm");
	if (s->active && d->live_text) {
		s->xml = utf8_dup(d->live_text);
		if (d->config_text && strcmp(d->config_text, d->live_text) != 0)
			s->xml_inactive = utf8_dup(d->config_text);
	} else if (d->config_text)
		s->xml = utf8_dup(d->config_text);
}

struct seen *domain_seen(struct domain *d)
{
	struct seen *s = seen_new();
	const struct vm *vm = d->phase != RUN_OFF && d->live ? d->live : d->config;

	if (!s || !vm) {
		seen_free(s);
		return NULL;
	}
	s->active = d->phase != RUN_OFF;
	s->starting = d->phase == RUN_STARTING;
	s->id = s->active ? d->run : -1;
	s->state = s->active ? DOMAIN_PAUSED : DOMAIN_SHUTOFF;
	s->state_reason = strdup(s->active ? "starting up" : *d->word ? d->word : "unknown");
	s->max_memory = vm->memory;
	s->memory = vm->current_memory;
	s->vcpus = vm->vcpus;
	domain_complete(d, s);
	if (!s->name || !s->state_reason) {
		seen_free(s);
		return NULL;
	}
	return s;
}

/* ---- telling ------------------------------------------------------------------------------------------------ */

/* A request that ends with the look behind what it did. */
struct telling {
	struct guest_env *env;
	struct request *request;
	struct result result;
};

static void on_told(struct guest *g, enum waited how, const struct seen *s, void *userdata)
{
	struct telling *t = userdata;

	if (how == WAITED_SEEN)
		env_post_look(t->env, KIND_DOMAIN, g->uuid, s->name, LOOK_SEEN, s, NULL, 0);
	env_post_result_full(t->env, t->request, &t->result);
	free(t);
}

void domain_post_settled(struct domain *d)
{
	bool exists = d->config || d->phase != RUN_OFF;
	_cleanup_(seen_freep) struct seen *s = exists ? domain_seen(d) : NULL;

	env_post_look(&d->c->env, KIND_DOMAIN, d->uuid, domain_name(d), s ? LOOK_SEEN : exists ? LOOK_FAILED : LOOK_GONE, s,
		exists ? "out of memory" : NULL, 0);
}

static void post_now(struct domain *d, enum cause cause, const char *reason)
{
	struct report *r;
	struct observation *o = observation_new(&r, KIND_DOMAIN, d->uuid, domain_name(d));

	if (o) {
		o->cause = cause;
		o->reason = utf8_dup(reason);
		o->seen = d->config || d->phase != RUN_OFF ? domain_seen(d) : NULL;
		o->look = o->seen ? LOOK_SEEN : d->config ? LOOK_FAILED : LOOK_GONE;
	}
	env_post(&d->c->env, r);
	domain_post_settled(d);
}

void domain_tell(struct domain *d, enum cause cause, const char *reason, struct request *r, const struct result *result)
{
	struct result done = result ? *result : (struct result){0};
	struct telling *t;

	if (d->phase != RUN_UP && d->phase != RUN_ENDING) {
		if (cause != CAUSE_NONE)
			post_now(d, cause, reason);
		else
			domain_post_settled(d);
		if (r)
			env_post_result_full(&d->c->env, r, &done);
		return;
	}
	if (cause != CAUSE_NONE)
		guest_cause(d->guest, cause, reason, NULL, NULL, true);
	t = r ? calloc(1, sizeof(*t)) : NULL;
	if (!t) {
		if (r)
			env_post_result_full(&d->c->env, r, &done);
		return;
	}
	*t = (struct telling){.env = &d->c->env, .request = r, .result = done};
	guest_look(d->guest, on_told, t);
}
