/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "face.h"

/*
 * How far jobs are: PropertiesChanged without a version, at most four a second for each job. The first change after a
 * quiet while goes out at once; what comes within the quarter of a second behind it goes out together at its end.
 */
#define PROGRESS_INTERVAL (250 * USEC_PER_MSEC)

struct progress_entry {
	char *path;
	struct face *face;
	unsigned changed;   /* not sent yet */
	struct timer timer; /* set: nothing may be sent before it */
	UT_hash_handle hh;
};

static void entry_free(struct progress_entry *p)
{
	HASH_DEL(p->face->signals.progress, p);
	timer_clear(&p->timer);
	free(p->path);
	free(p);
}

static void on_interval(struct timer *t, void *userdata);

static void send(struct progress_entry *p)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	struct face *f = p->face;
	struct object *job = broker_find(f->broker, p->path);
	int r;

	/* While signals are held back, and while what the bus was told last is older than the job, this would be news from the future. */
	if (job && !f->signals.held && job->version <= f->signals.told) {
		r = sd_bus_message_new_signal(f->bus, &m, p->path, DBUS_INTERFACE_PROPERTIES, "PropertiesChanged");
		if (r >= 0)
			r = sd_bus_message_append(m, "s", VIREO_INTERFACE_JOB);
		if (r >= 0)
			r = append_props_masked(m, job->props, p->changed);
		if (r >= 0)
			r = sd_bus_message_append(m, "as", 0);
		if (r >= 0)
			r = signals_send(f, m, NULL, job);
		if (r < 0)
			log_debug("progress of %s could not be sent: %s", p->path, strerror(-r));
	}
	p->changed = 0;
	timer_in(f->clock, &p->timer, PROGRESS_INTERVAL, on_interval, p);
}

static void on_interval(struct timer *t, void *userdata)
{
	struct progress_entry *p = userdata;

	if (p->changed)
		send(p);
	else
		entry_free(p);
}

void progress_changed(struct face *f, struct object *job, unsigned changed)
{
	struct progress_entry *p;

	if (!f->signals.open)
		return;
	HASH_FIND_STR(f->signals.progress, job->path, p);
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p || !(p->path = strdup(job->path))) {
			free(p);
			return; /* progress may be lost; the next one comes */
		}
		p->face = f;
		HASH_ADD_KEYPTR(hh, f->signals.progress, p->path, strlen(p->path), p);
	}
	p->changed |= changed;
	if (!p->timer.set)
		send(p);
}

void progress_forget(struct face *f, const char *path, bool gone)
{
	struct progress_entry *p;

	HASH_FIND_STR(f->signals.progress, path, p);
	if (!p)
		return;
	/* The event has told it all. */
	p->changed = 0;
	if (gone)
		entry_free(p);
}

void progress_free(struct face *f)
{
	struct progress_entry *p, *tmp;

	HASH_ITER(hh, f->signals.progress, p, tmp)
		entry_free(p);
}
