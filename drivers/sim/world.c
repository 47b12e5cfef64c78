/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "job.h"
#include "server.h"
#include "sim-driver.h"
#include "util/log.h"
#include "util/thread.h"
#include "world.h"

/* ---- threads ------------------------------------------------------------------------------------------------ */

static struct thread_group alive = THREAD_GROUP_INIT;

uint64_t sim_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

void sim_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

void sim_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until)
{
	struct timespec t = {
		.tv_sec = (time_t)(until / USEC_PER_SEC),
		.tv_nsec = (long)(until % USEC_PER_SEC) * 1000,
	};

	if (until == USEC_UNKNOWN)
		pthread_cond_wait(c, lock);
	else
		pthread_cond_timedwait(c, lock, &t);
}

int sim_thread(void *(*fn)(void *), void *data)
{
	return thread_start(&alive, fn, data);
}

void sim_thread_ended(void)
{
	thread_ended(&alive);
}

/* ---- registry ----------------------------------------------------------------------------------------------- */

/* Comes before any world's lock. */
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_world *worlds;

struct sim_world *sim_world_find(const char *key)
{
	struct sim_world *w;

	pthread_mutex_lock(&registry_lock);
	for (w = worlds; w; w = w->next)
		if (strcmp(w->key, key) == 0 && !w->forget) {
			w->users++;
			break;
		}
	pthread_mutex_unlock(&registry_lock);
	return w;
}

void sim_world_release(struct sim_world *w)
{
	pthread_mutex_lock(&registry_lock);
	if (--w->users == 0) {
		w->unused_since = sim_now();
		pthread_mutex_lock(&w->lock);
		sim_world_poke(w);
		pthread_mutex_unlock(&w->lock);
	}
	pthread_mutex_unlock(&registry_lock);
}

/* Return: true when the world was taken out, for good. *@ret_check: when to ask again. */
static bool leave_registry(struct sim_world *w, bool busy, uint64_t *ret_check)
{
	bool leave = false;

	*ret_check = USEC_UNKNOWN;
	pthread_mutex_lock(&registry_lock);
	if (w->users == 0 && !busy) {
		if (w->forget || sim_now() >= w->unused_since + SIM_LINGER)
			leave = true;
		else
			*ret_check = w->unused_since + SIM_LINGER;
	}
	if (leave)
		for (struct sim_world **p = &worlds; *p; p = &(*p)->next)
			if (*p == w) {
				*p = w->next;
				break;
			}
	pthread_mutex_unlock(&registry_lock);
	return leave;
}

unsigned sim_shutdown(uint64_t usec)
{
	pthread_mutex_lock(&registry_lock);
	for (struct sim_world *w = worlds; w; w = w->next) {
		w->forget = true;
		pthread_mutex_lock(&w->lock);
		w->ending = true;
		sim_world_poke(w);
		pthread_mutex_unlock(&w->lock);
	}
	pthread_mutex_unlock(&registry_lock);
	return thread_wait(&alive, usec);
}

__attribute__((destructor)) static void shutdown_at_exit(void)
{
	/* whoever did not close its connections gets no second of grace for them */
	sim_shutdown(200 * USEC_PER_MSEC);
}

/* ---- a world ------------------------------------------------------------------------------------------------ */

struct sim_world *sim_world_new(const char *key)
{
	struct sim_world *w = sim_new(struct sim_world);

	w->key = sim_strdup(key);
	pthread_mutex_init(&w->lock, NULL);
	sim_cond_init(&w->wake);
	sim_cond_init(&w->ready);
	w->hostname = sim_strdup("sim");
	w->version = sim_strdup("1.0.0");
	w->random = UINT64_C(0x9E3779B97F4A7C15);
	w->storage = UINT64_C(4) << 30;
	w->guest_delay = 20 * USEC_PER_MSEC;
	return w;
}

void sim_world_free(struct sim_world *w)
{
	if (!w)
		return;
	sim_scripts_free(w);
	sim_jobs_free(w);
	sim_truth_clear(&w->truth);
	for (size_t i = 0; i < w->n_crowds; i++)
		free(w->crowds[i].pattern);
	free(w->crowds);
	for (size_t i = 0; i < OP_MAX; i++)
		free(w->rules[i].message);
	seen_free(w->before);
	pthread_cond_destroy(&w->wake);
	pthread_cond_destroy(&w->ready);
	pthread_mutex_destroy(&w->lock);
	free(w->hostname);
	free(w->version);
	free(w->key);
	free(w);
}

void sim_world_poke(struct sim_world *w)
{
	w->poked = true;
	pthread_cond_broadcast(&w->wake);
}

static char *crowd_name(const char *pattern, size_t number)
{
	const char *at = strchr(pattern, '%');

	return at ? sim_printf("%.*s%zu%s", (int)(at - pattern), pattern, number, at + 1)
		  : sim_printf("%s%zu", pattern, number);
}

static void populate_crowd(struct sim_world *w, const struct sim_crowd *crowd)
{
	struct sim_config *config = sim_config_new(crowd->kind);

	config->padding = crowd->padding;
	for (size_t i = 0; i < crowd->count; i++) {
		_cleanup_(freep) char *name = crowd_name(crowd->pattern, i);
		uint64_t id[2] = {sim_random(&w->random), sim_random(&w->random)};
		struct sim_object *o;
		sd_id128_t uuid;

		memcpy(&uuid, id, sizeof(uuid));
		if (sim_object_named(&w->truth, crowd->kind, name) || sim_object_find(&w->truth, crowd->kind, uuid))
			continue;
		o = sim_object_add(&w->truth, crowd->kind, uuid, name);
		o->persistent = true;
		o->config = sim_config_ref(config);
		if (crowd->kind == KIND_POOL) {
			o->capacity = UINT64_C(100) << 30;
			o->allocation = UINT64_C(25) << 30;
		}
		if (sim_chance(&w->random, crowd->active)) {
			o->active = true;
			o->live = sim_config_ref(config);
			if (crowd->kind == KIND_DOMAIN) {
				o->id = ++w->truth.last_id;
				sim_object_set_state(o, DOMAIN_RUNNING, "booted");
			}
		}
	}
	sim_config_unref(config);
}

static void *world_thread(void *data)
{
	struct sim_world *w = data;
	uint64_t check = 0;

	pthread_mutex_lock(&w->lock);
	for (size_t i = 0; i < w->n_crowds; i++)
		populate_crowd(w, &w->crowds[i]);
	w->is_ready = true;
	pthread_cond_broadcast(&w->ready);
	for (;;) {
		uint64_t until = sim_scripts_run(w), jobs;
		bool leave, busy;

		if (w->ending)
			sim_jobs_stop(w);
		jobs = sim_jobs_run(w);
		if (jobs < until)
			until = jobs;
		/* their threads have to go first, and poke when they have; none begins while nobody uses the world */
		busy = w->threads > 0;
		/* the registry's lock comes first */
		pthread_mutex_unlock(&w->lock);
		leave = leave_registry(w, busy, &check);
		pthread_mutex_lock(&w->lock);
		if (leave)
			break;
		if (until > check)
			until = check;
		while (!w->poked && sim_now() < until)
			sim_wait(&w->wake, &w->lock, until);
		w->poked = false;
	}
	pthread_mutex_unlock(&w->lock);
	if (w->server)
		sim_server_free(w->server);
	sim_world_free(w);
	sim_thread_ended();
	return NULL;
}

int sim_world_start(struct sim_world *w)
{
	int r;

	w->users = 1;
	pthread_mutex_lock(&registry_lock);
	r = sim_thread(world_thread, w);
	if (r == 0) {
		w->next = worlds;
		worlds = w;
	}
	pthread_mutex_unlock(&registry_lock);
	if (r < 0) {
		log_error("The simulated hypervisor cannot start a thread: %s.", strerrordesc_np(-r));
		if (w->server)
			sim_server_free(w->server);
		sim_world_free(w);
	}
	return r;
}
