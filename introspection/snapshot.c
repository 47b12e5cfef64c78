/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "face.h"

/* Listings: GetSnapshot and the ObjectManager's. Both are put together in one go, so they are exact at one version. */

/* ---- GetSnapshot --------------------------------------------------------------------------------------------- */

struct snapshot {
	struct held held;
	struct filter *filter;
};

static void snapshot_free(struct held *h)
{
	filter_free(((struct snapshot *)h)->filter);
}

static int append_object(sd_bus_message *m, const struct object *o, bool xml)
{
	char interface[64];
	int r;

	snprintf(interface, sizeof(interface), VIREO_INTERFACE_PREFIX "%s", kind_interface(o->kind));
	r = sd_bus_message_open_container(m, 'r', "osa{sv}");
	if (r >= 0)
		r = sd_bus_message_append(m, "os", o->path, interface);
	if (r >= 0)
		r = append_props(m, o->props, xml ? o->xml : NULL, xml ? o->xml_inactive : NULL);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_objects(struct snapshot *s, sd_bus_message *reply)
{
	struct broker *b = s->held.face->broker;
	bool xml = s->filter->xml;
	size_t bytes = 256;
	int r = sd_bus_message_open_container(reply, 'a', "(osa{sv})");

	for (enum kind k = 0; k < KIND_MAX; k++)
		for (struct object *o = broker_first(b, k); o && r >= 0; o = o->next) {
			if (!filter_wants_object(s->filter, o))
				continue;
			bytes += strlen(o->path) + 64 +
				 props_bytes(o->props, xml ? o->xml : NULL, xml ? o->xml_inactive : NULL);
			if (bytes > MESSAGE_BYTES_MAX)
				return VIREO_LIMITS_EXCEEDED;
			r = append_object(reply, o, xml);
		}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void snapshot_make(struct held *h)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct snapshot *s = (struct snapshot *)h;
	struct broker *b = h->face->broker;
	int r = held_begin(h, &reply);

	if (r >= 0)
		r = sd_bus_message_append(reply, "st", broker_epoch(b), broker_version(b));
	if (r >= 0)
		r = append_objects(s, reply);
	if (r == VIREO_LIMITS_EXCEEDED)
		held_failf(h, VIREO_LIMITS_EXCEEDED,
			   "the snapshot would be larger than 24 MiB; Watch with “initial” has no such limit, and filters make "
			   "it smaller");
	else if (r < 0)
		held_errno(h, r);
	else {
		rights_listed(h);
		held_reply(h, TAKE(reply));
	}
}

static void snapshot_go(struct held *h)
{
	held_in_turn(h, snapshot_make);
}

static const struct held_ops snapshot_ops = {.go = snapshot_go, .free = snapshot_free};

static const struct option_def snapshot_options[] = {
	{"kinds", "as"}, {"connections", "ao"}, {"objects", "ao"}, {"xml", "b"}, {NULL},
};

int method_get_snapshot(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(vdict_freep) struct vdict *options = NULL;
	_cleanup_(failure_clear) struct failure f = {0};
	struct face *face = userdata;
	struct snapshot *s = held_new(face, m, &snapshot_ops, sizeof(*s));
	int r;

	if (!s)
		return face_error(error, -ENOMEM, NULL);
	r = options_read(m, snapshot_options, NULL, &options, &f);
	if (r == 0)
		r = filter_new(options, &s->filter, &f);
	if (r != 0)
		return held_refuse(&s->held, r, &f);
	return face_authorize(&s->held, &(struct question){.action = ACTION_VIEW, .covers = s->filter});
}

/* ---- GetManagedObjects --------------------------------------------------------------------------------------- */

static int append_managed(sd_bus_message *m, const struct object *o)
{
	char interface[64];
	int r;

	snprintf(interface, sizeof(interface), VIREO_INTERFACE_PREFIX "%s", kind_interface(o->kind));
	r = sd_bus_message_open_container(m, 'e', "oa{sa{sv}}");
	if (r >= 0)
		r = append_interfaces(m, o->path, interface, o->props);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

/*
 * sd-bus could do it by the getters, several times slower; and it would name Peer, Introspectable and Properties as
 * interfaces of each object, which InterfacesRemoved would then have to name too, or a GDBus client never lets go.
 */
static void managed_make(struct held *h)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct broker *b = h->face->broker;
	size_t bytes = 256;
	int r = held_begin(h, &reply);

	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{oa{sa{sv}}}");
	for (enum kind k = 0; k < KIND_MAX; k++)
		for (struct object *o = broker_first(b, k); o && r >= 0 && bytes <= MESSAGE_BYTES_MAX; o = o->next) {
			if (!rights_sees_object(h->viewer, o))
				continue;
			bytes += strlen(o->path) + 80 + props_bytes(o->props, NULL, NULL);
			r = append_managed(reply, o);
		}
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	if (r < 0)
		held_errno(h, r);
	else if (bytes > MESSAGE_BYTES_MAX)
		held_failf(h, VIREO_LIMITS_EXCEEDED,
			   "the list of all objects would be larger than 24 MiB; use the Manager's Watch with “initial”");
	else
		held_reply(h, TAKE(reply));
}

static const struct held_ops managed_ops = {.go = managed_make};

int filter_managed_objects(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *sender = sd_bus_message_get_sender(m);
	struct face *face = userdata;
	struct peer *p;
	struct held *h;
	int r;

	/* Anything that is not exactly this is sd-bus's to refuse. */
	if (!sd_bus_message_is_method_call(m, DBUS_INTERFACE_OBJECT_MANAGER, "GetManagedObjects") ||
		strcmp(sd_bus_message_get_path(m), VIREO_PATH_ROOT) != 0 || !sd_bus_message_has_signature(m, ""))
		return 0;
	h = held_new(face, m, &managed_ops, sizeof(*h));
	if (!h)
		return face_error(error, -ENOMEM, NULL);
	/* The gate has asked, if need be; who it is matters here only for whose turn it is. */
	h->viewer = face->viewer;
	if (sender && face->authority) {
		r = peer_get(face, sender, &p);
		if (r < 0) {
			held_errno(h, r);
			return 1;
		}
		if (p->n_held >= HELD_PER_PEER_MAX) {
			held_failf(h, VIREO_LIMITS_EXCEEDED, "calls: %u of this caller are waiting already", p->n_held);
			return 1;
		}
		peer_attach(p, h);
	}
	held_in_turn(h, managed_make);
	return 1;
}
