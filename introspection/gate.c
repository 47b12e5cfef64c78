/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "face.h"

/*
 * What sd-bus answers by itself (Get, GetAll, Introspect, an object that isn't there) is answered from the tables and
 * from find_object(), which cannot wait. So, where not everybody may read everything, each call stops here first until
 * it is known who calls and what he may see; then it is read again, and while it is dispatched face.viewer says whose
 * eyes it is for. To him, what he may not see does not exist, and the words for that are sd-bus's own.
 */
struct stop {
	struct held held;
	bool open; /* the next time it comes it may pass */
};

static void stop_go(struct held *h)
{
	int r = sd_bus_enqueue_for_read(h->face->bus, h->m);

	if (r < 0)
		held_errno(h, r);
	else
		((struct stop *)h)->open = true;
}

static const struct held_ops stop_ops = {.go = stop_go};

static struct stop *find_stop(struct peer *p, sd_bus_message *m)
{
	for (struct held *h = p->held; h; h = h->peer_next)
		if (h->ops == &stop_ops && h->m == m)
			return (struct stop *)h;
	return NULL;
}

int filter_gate(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct face *f = userdata;
	const char *sender = sd_bus_message_get_sender(m), *interface = sd_bus_message_get_interface(m);
	struct stop *s;
	struct peer *p;
	uint8_t type;

	f->viewer = NULL;
	if (sd_bus_message_get_type(m, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL || !sender)
		return 0;
	f->called = clock_monotonic(f->clock);
	/* What is broadcast anyway may be read by all. */
	if (f->authority && !f->config.private_signals)
		return 0;
	/* Ping tells nothing. */
	if (interface && strcmp(interface, "org.freedesktop.DBus.Peer") == 0)
		return 0;
	p = peer_find(f, sender);
	s = p ? find_stop(p, m) : NULL;
	if (s && s->open) {
		f->viewer = s->held.viewer;
		held_free(&s->held);
		return 0;
	}
	if (p && peer_is_privileged(p))
		return 0;
	s = held_new(f, m, &stop_ops, sizeof(*s));
	if (!s)
		return face_error(error, -ENOMEM, NULL);
	return face_authorize(&s->held, &(struct question){.action = ACTION_VIEW, .gate = true});
}
