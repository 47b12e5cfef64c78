/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connection.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "errors.h"
#include "util/log.h"
#include "util/utf8.h"
#include "words.h"
#include "xml.h"

/*
 * Looking at one object. Every call costs a round trip, so the XML is the first source: name, run, title, memory and
 * more are in it. A domain costs 3 calls (transient), 5 (inactive) or 6; in a listing, which has the facts already, 1 or 2.
 */

/* A look is made of several calls; when they disagree about whether it is active, something happened between. */
#define LOOK_TRIES 3

/* ---- handles ---------------------------------------------------------------------------------------------- */

void *lv_handle_ref(enum kind kind, void *handle)
{
	switch (kind) {
	case KIND_DOMAIN:
		virDomainRef(handle);
		break;
	case KIND_POOL:
		virStoragePoolRef(handle);
		break;
	default:
		virNetworkRef(handle);
	}
	return handle;
}

void lv_handle_free(enum kind kind, void *handle)
{
	switch (kind) {
	case KIND_DOMAIN:
		virDomainFree(handle);
		break;
	case KIND_POOL:
		virStoragePoolFree(handle);
		break;
	default:
		virNetworkFree(handle);
	}
}

void *lv_handle_lookup(virConnectPtr conn, enum kind kind, sd_id128_t uuid)
{
	switch (kind) {
	case KIND_DOMAIN:
		return virDomainLookupByUUID(conn, uuid.bytes);
	case KIND_POOL:
		return virStoragePoolLookupByUUID(conn, uuid.bytes);
	default:
		return virNetworkLookupByUUID(conn, uuid.bytes);
	}
}

static const char *handle_name(enum kind kind, void *handle)
{
	switch (kind) {
	case KIND_DOMAIN:
		return virDomainGetName(handle);
	case KIND_POOL:
		return virStoragePoolGetName(handle);
	default:
		return virNetworkGetName(handle);
	}
}

void lv_view_clear(struct lv_view *v)
{
	seen_free(v->seen);
	free(v->error);
	*v = (struct lv_view){0};
}

/* ---- XML -------------------------------------------------------------------------------------------------- */

static char *get_xml(enum kind kind, void *handle, bool inactive)
{
	_cleanup_(freep) char *raw = NULL;

	switch (kind) {
	case KIND_DOMAIN:
		raw = virDomainGetXMLDesc(handle, inactive ? VIR_DOMAIN_XML_INACTIVE : 0);
		break;
	case KIND_POOL:
		raw = virStoragePoolGetXMLDesc(handle, inactive ? VIR_STORAGE_XML_INACTIVE : 0);
		break;
	default:
		raw = virNetworkGetXMLDesc(handle, inactive ? VIR_NETWORK_XML_INACTIVE : 0);
	}
	if (!raw)
		return NULL;
	return utf8_is_valid(raw) ? TAKE(raw) : utf8_dup(raw);
}

/*
 * Take over what the XML says. When it cannot be read the object is still reported, by its name and what other calls
 * tell; but "not found" is an answer.
 */
static int look_at_xml(struct driver_connection *c, enum kind kind, void *handle, struct seen *s)
{
	char *xml = get_xml(kind, handle, false);
	int r = 0;

	if (!xml && lv_error_is_gone(kind))
		return -1;
	if (xml)
		r = lv_xml_read(kind, xml, s);
	if (xml && r == 0) {
		s->xml = xml;
		return 0;
	}
	if (xml)
		log_warning("libvirt: the XML of %s '%s' cannot be understood; it is left out.", kind_to_string(kind),
			    handle_name(kind, handle));
	else
		log_debug("libvirt: no XML of %s '%s': %s", kind_to_string(kind), handle_name(kind, handle),
			  virGetLastErrorMessage());
	free(xml);
	s->unknown |= SEEN_XML;
	free(s->name);
	s->name = utf8_dup(handle_name(kind, handle));
	return s->name ? 0 : -1;
}

static void look_at_inactive_xml(enum kind kind, void *handle, struct seen *s)
{
	if (!s->active || !s->persistent || (s->unknown & SEEN_XML))
		return;
	s->xml_inactive = get_xml(kind, handle, true);
	if (!s->xml_inactive) {
		int code = virGetLastErrorCode();

		/* A hypervisor without that flag makes no difference between the two. */
		if (code == VIR_ERR_INVALID_ARG || code == VIR_ERR_ARGUMENT_UNSUPPORTED)
			return;
		/* both or none: there is one bit for what is known of them */
		s->unknown |= SEEN_XML;
		free(s->xml);
		s->xml = NULL;
	} else if (strcmp(s->xml_inactive, s->xml) == 0) {
		free(s->xml_inactive);
		s->xml_inactive = NULL;
	}
}

/* ---- domains ---------------------------------------------------------------------------------------------- */

/* Without XML: what libvirt tells in numbers. */
static void look_at_info(struct driver_connection *c, void *handle, struct seen *s)
{
	virDomainInfo info;
	virDomainPtr fresh;
	unsigned char raw[VIR_UUID_BUFLEN];

	if (virDomainGetInfo(handle, &info) == 0) {
		s->max_memory = (uint64_t)info.maxMem * 1024;
		s->memory = (uint64_t)info.memory * 1024;
		s->vcpus = info.nrVirtCpu;
	} else
		s->unknown |= SEEN_MEMORY;
	/* A handle keeps the ID that it was made with: only a new one has that of now. */
	s->id = -1;
	fresh = virDomainGetUUID(handle, raw) == 0 ? virDomainLookupByUUID(c->events, raw) : NULL;
	if (fresh) {
		unsigned id = virDomainGetID(fresh);

		s->id = id == (unsigned)-1 ? -1 : (int)id;
		virDomainFree(fresh);
	}
}

/* Could a domain that is, or is not, active be in this state? */
static bool is_possible(int state, bool active)
{
	switch (state) {
	case VIR_DOMAIN_SHUTOFF:
		return !active;
	case VIR_DOMAIN_CRASHED: /* preserved, or ended by it */
	case VIR_DOMAIN_NOSTATE:
		return true;
	default:
		return active;
	}
}

static enum look look_at_domain(struct driver_connection *c, void *handle, const struct lv_facts *facts, struct seen *s)
{
	int state, reason, n;

	if (look_at_xml(c, KIND_DOMAIN, handle, s) < 0)
		return lv_error_is_gone(KIND_DOMAIN) ? LOOK_GONE : LOOK_FAILED;
	if (s->unknown & SEEN_XML)
		look_at_info(c, handle, s);
	if (facts) {
		state = facts->state;
		reason = facts->reason;
	} else if (virDomainGetState(handle, &state, &reason, 0) < 0)
		return lv_error_is_gone(KIND_DOMAIN) ? LOOK_GONE : LOOK_FAILED;
	s->active = s->id >= 0;
	if (!is_possible(state, s->active))
		return LOOK_NONE;
	s->state = state >= 0 && state < (int)DOMAIN_STATE_MAX ? (enum domain_state)state : DOMAIN_NOSTATE;
	s->starting = state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_STARTING_UP;
	s->state_reason = strdup(lv_state_reason(state, reason));
	n = facts ? facts->persistent : virDomainIsPersistent(handle);
	if (n < 0)
		return lv_error_is_gone(KIND_DOMAIN) ? LOOK_GONE : LOOK_FAILED;
	s->persistent = n > 0;
	if (!s->persistent)
		return LOOK_SEEN;
	n = facts && facts->autostart;
	if (!facts && virDomainGetAutostart(handle, &n) < 0)
		s->unknown |= SEEN_AUTOSTART;
	s->autostart = n > 0;
	n = facts ? facts->managed_save : virDomainHasManagedSaveImage(handle, 0);
	if (n < 0)
		s->unknown |= SEEN_MANAGED_SAVE;
	s->managed_save = n > 0;
	look_at_inactive_xml(KIND_DOMAIN, handle, s);
	return LOOK_SEEN;
}

/* ---- pools and networks ----------------------------------------------------------------------------------- */

static enum look look_at_pool(struct driver_connection *c, void *handle, struct seen *s)
{
	virStoragePoolInfo info;
	int n;

	if (look_at_xml(c, KIND_POOL, handle, s) < 0 || virStoragePoolGetInfo(handle, &info) < 0)
		return lv_error_is_gone(KIND_POOL) ? LOOK_GONE : LOOK_FAILED;
	s->active = info.state != VIR_STORAGE_POOL_INACTIVE && info.state != VIR_STORAGE_POOL_BUILDING;
	s->state_name = strdup(lv_word(&lv_pool_states, info.state));
	s->capacity = info.capacity;
	s->allocation = info.allocation;
	s->available = info.available;
	n = virStoragePoolIsPersistent(handle);
	if (n < 0)
		return lv_error_is_gone(KIND_POOL) ? LOOK_GONE : LOOK_FAILED;
	s->persistent = n > 0;
	n = 0;
	if (s->persistent && virStoragePoolGetAutostart(handle, &n) < 0)
		s->unknown |= SEEN_AUTOSTART;
	s->autostart = n > 0;
	look_at_inactive_xml(KIND_POOL, handle, s);
	return LOOK_SEEN;
}

static enum look look_at_network(struct driver_connection *c, void *handle, struct seen *s)
{
	int n;

	if (look_at_xml(c, KIND_NETWORK, handle, s) < 0 || (n = virNetworkIsActive(handle)) < 0)
		return lv_error_is_gone(KIND_NETWORK) ? LOOK_GONE : LOOK_FAILED;
	s->active = n > 0;
	n = virNetworkIsPersistent(handle);
	if (n < 0)
		return lv_error_is_gone(KIND_NETWORK) ? LOOK_GONE : LOOK_FAILED;
	s->persistent = n > 0;
	n = 0;
	if (s->persistent && virNetworkGetAutostart(handle, &n) < 0)
		s->unknown |= SEEN_AUTOSTART;
	s->autostart = n > 0;
	look_at_inactive_xml(KIND_NETWORK, handle, s);
	return LOOK_SEEN;
}

/* ---- any -------------------------------------------------------------------------------------------------- */

static enum look look_once(struct driver_connection *c, enum kind kind, void *handle, const struct lv_facts *facts,
			   struct seen *s)
{
	s->id = -1;
	switch (kind) {
	case KIND_DOMAIN:
		return look_at_domain(c, handle, facts, s);
	case KIND_POOL:
		return look_at_pool(c, handle, s);
	default:
		return look_at_network(c, handle, s);
	}
}

void lv_look(struct driver_connection *c, enum kind kind, sd_id128_t uuid, void *handle, const struct lv_facts *facts,
	     struct lv_view *v)
{
	void *found = NULL;

	*v = (struct lv_view){0};
	virResetLastError();
	if (!handle) {
		handle = found = lv_handle_lookup(c->events, kind, uuid);
		if (!found) {
			v->look = lv_error_is_gone(kind) ? LOOK_GONE : LOOK_FAILED;
			v->error = v->look == LOOK_FAILED ? lv_error_text() : NULL;
			return;
		}
	}
	for (unsigned i = 0; i < LOOK_TRIES && v->look == LOOK_NONE; i++) {
		struct seen *s = seen_new();

		/* Facts that do not fit the XML are of another moment. */
		v->look = s ? look_once(c, kind, handle, i == 0 ? facts : NULL, s) : LOOK_FAILED;
		if (v->look == LOOK_SEEN)
			v->seen = TAKE(s);
		seen_free(s);
	}
	if (v->look == LOOK_NONE) {
		v->look = LOOK_FAILED;
		v->error = strdup("it doesn't hold still");
	} else if (v->look == LOOK_FAILED)
		v->error = lv_error_text();
	if (found)
		lv_handle_free(kind, found);
}
