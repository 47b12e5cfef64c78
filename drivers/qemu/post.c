/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "guest.h"
#include "util/log.h"
#include "util/utf8.h"

struct observation *observation_new(struct report **ret, enum kind kind, sd_id128_t uuid, const char *name)
{
	struct report *r = report_new(REPORT_OBSERVATION);

	*ret = r;
	if (!r)
		return NULL;
	r->observation.kind = kind;
	r->observation.uuid = uuid;
	r->observation.name = utf8_dup(name);
	return &r->observation;
}

void env_post(const struct guest_env *env, struct report *r)
{
	if (!r) {
		log_error("out of memory: a report is lost; the next listing repairs it");
		return;
	}
	driver_host_post(env->host, r);
}

void env_post_look(const struct guest_env *env, enum kind kind, sd_id128_t uuid, const char *name, enum look look,
		   const struct seen *seen, const char *error, uint64_t listing)
{
	struct report *r;
	struct observation *o = observation_new(&r, kind, uuid, name);

	if (o) {
		o->look = look;
		o->settled = look != LOOK_FAILED;
		o->listing = listing;
		o->error = utf8_dup(error);
		if (look == LOOK_SEEN) {
			o->seen = seen_copy(seen);
			if (!o->seen) {
				o->look = LOOK_FAILED;
				o->settled = false;
			}
		}
	}
	env_post(env, r);
}

void env_post_listed(const struct guest_env *env, uint64_t serial, bool domains, bool pools, const char *error)
{
	struct report *r = report_new(REPORT_LISTED);

	if (r) {
		r->listed.serial = serial;
		r->listed.complete[KIND_DOMAIN] = domains;
		r->listed.complete[KIND_POOL] = pools;
		r->listed.complete[KIND_NETWORK] = true;
		r->listed.error = utf8_dup(error);
	}
	env_post(env, r);
}

void env_post_goodbye(const struct guest_env *env, const char *format, ...)
{
	struct report *r = report_new(REPORT_GOODBYE);
	_cleanup_(freep) char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	if (r)
		r->goodbye.error = utf8_dup(text);
	env_post(env, r);
}

void env_post_result_full(const struct guest_env *env, struct request *request, struct result *result)
{
	struct report *r = report_new(REPORT_RESULT);

	if (r) {
		r->result = *result;
		r->result.token = request->token;
	} else
		failure_clear(&result->failure);
	env_post(env, r);
	request_free(request);
}

void env_post_result(const struct guest_env *env, struct request *request, enum vireo_error error, const char *format, ...)
{
	struct result result = {0};
	_cleanup_(freep) char *text = NULL;
	va_list ap;

	if (error != VIREO_OK) {
		va_start(ap, format);
		if (vasprintf(&text, format, ap) < 0)
			text = NULL;
		va_end(ap);
		failure_set(&result.failure, error, "%s", text ? text : "");
	}
	env_post_result_full(env, request, &result);
}
