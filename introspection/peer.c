/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "face.h"

/*
 * Who leaves the bus, by one match for all, there only while somebody has to be watched: a client that comes and goes
 * must not cost us a wake-up for every other client that comes and goes, nor a rule each of the few that a bus allows.
 */
#define LEAVING_MATCH                                                                                        \
	"type='signal',sender='" DBUS_BUS_NAME "',path='" DBUS_PATH "',interface='" DBUS_INTERFACE              \
	"',member='NameOwnerChanged',arg2=''"

static void peer_free(struct peer *p)
{
	struct face *f = p->face;

	while (p->held)
		held_free(p->held);
	watches_free(f, p);
	if (f->viewer == p)
		f->viewer = NULL;
	rights_free(p);
	HASH_DEL(f->peers, p);
	sd_bus_slot_unref(p->asking);
	filter_free(p->subscription);
	free(p->connections);
	free(p->gids);
	free(p->name);
	free(p);
	if (!f->peers) {
		sd_bus_slot_unref(f->leaving);
		f->leaving = NULL;
	}
}

void peers_free(struct face *f)
{
	while (f->peers)
		peer_free(f->peers);
}

struct peer *peer_find(struct face *f, const char *name)
{
	struct peer *p = NULL;

	HASH_FIND_STR(f->peers, name, p);
	return p;
}

bool is_from_bus(sd_bus_message *m)
{
	const char *sender = sd_bus_message_get_sender(m);

	return sender && strcmp(sender, DBUS_BUS_NAME) == 0;
}

static int on_leaving(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct face *f = userdata;
	struct peer *p;
	const char *name;

	if (!is_from_bus(m) || sd_bus_message_read(m, "s", &name) < 0)
		return 0;
	p = peer_find(f, name);
	if (p)
		peer_free(p);
	return 0;
}

static int on_leaving_installed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const sd_bus_error *e = sd_bus_message_get_error(m);

	/* Callers that left are then found out only when their operation has ended; nothing else is lost. */
	if (e)
		log_warning("the bus does not tell us who leaves it: %s", e->message);
	return 0;
}

static int read_groups(sd_bus_message *m, struct peer *p)
{
	const void *gids;
	size_t bytes;
	int r = sd_bus_message_enter_container(m, 'v', "au");

	if (r >= 0)
		r = sd_bus_message_read_array(m, 'u', &gids, &bytes);
	if (r < 0)
		return r;
	free(p->gids);
	p->gids = malloc(bytes ? bytes : 1);
	p->n_gids = p->gids ? bytes / sizeof(uint32_t) : 0;
	if (p->gids && bytes)
		memcpy(p->gids, gids, bytes);
	return sd_bus_message_exit_container(m);
}

/* UnixUserID, UnixGroupIDs; the bus may have more to say. */
static int read_credentials(sd_bus_message *m, struct peer *p)
{
	int r = sd_bus_message_enter_container(m, 'a', "{sv}");

	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		const char *key;

		r = sd_bus_message_read(m, "s", &key);
		if (r >= 0 && strcmp(key, "UnixUserID") == 0)
			r = sd_bus_message_read(m, "v", "u", &p->uid);
		else if (r >= 0 && strcmp(key, "UnixGroupIDs") == 0)
			r = read_groups(m, p);
		else if (r >= 0)
			r = sd_bus_message_skip(m, "v");
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	return r;
}

static int on_credentials(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *p = userdata;

	p->asking = sd_bus_slot_unref(p->asking);
	if (sd_bus_message_is_method_error(m, "org.freedesktop.DBus.Error.NameHasNoOwner")) {
		peer_free(p);
		return 1;
	}
	/* Of whom nothing is known polkit may still know something: it asks for itself. */
	if (sd_bus_message_is_method_error(m, NULL) || read_credentials(m, p) < 0)
		p->uid = UINT32_MAX;
	p->known = true;
	authorize_peer(p);
	return 1;
}

int peer_get(struct face *f, const char *name, struct peer **ret)
{
	struct peer *p = peer_find(f, name);
	int r;

	if (p) {
		*ret = p;
		return 0;
	}
	if (!f->leaving) {
		r = sd_bus_add_match_async(f->bus, &f->leaving, LEAVING_MATCH, on_leaving, on_leaving_installed, f);
		if (r < 0)
			return r;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->face = f;
	p->uid = UINT32_MAX;
	p->name = strdup(name);
	if (!p->name) {
		free(p);
		return -ENOMEM;
	}
	HASH_ADD_KEYPTR(hh, f->peers, p->name, strlen(p->name), p);
	/* Behind the match on its way to the bus: who left before it was there is told by the answer. */
	r = sd_bus_call_method_async(f->bus, &p->asking, DBUS_BUS_NAME, DBUS_PATH, DBUS_INTERFACE,
				     "GetConnectionCredentials", on_credentials, p, "s", name);
	if (r < 0) {
		peer_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

unsigned peer_user_sum(const struct peer *of, unsigned (*count)(const struct peer *p))
{
	struct peer *p, *tmp;
	unsigned n = 0;

	HASH_ITER(hh, of->face->peers, p, tmp)
	if (p->uid == of->uid)
		n += count(p);
	return n;
}

void peer_attach(struct peer *p, struct held *h)
{
	h->peer = p;
	p->n_held++;
	DL_APPEND2(p->held, h, peer_prev, peer_next);
}

void peer_detach(struct held *h)
{
	h->peer->n_held--;
	DL_DELETE2(h->peer->held, h, peer_prev, peer_next);
	h->peer = NULL;
}
