/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include <libxml/parser.h>

#include "disks.h"

/* Devices come and go. */

static const char *const device_words[] = {
	"audio",   "channel", "console",   "controller", "crypto",    "disk",   "filesystem", "graphics", "hostdev", "hub",
	"input",   "interface", "iommu",   "lease",	 "memballoon", "memory", "nvram",      "panic",	  "parallel", "redirdev",
	"rng",	   "serial",  "shmem",	   "smartcard",	 "sound",     "tpm",	"video",      "vsock",	  "watchdog",
};

static int parse_device(const char *xml, xmlDoc **ret, struct failure *f)
{
	const char *word;
	xmlNode *top;
	int r = sim_xml_parse(xml, NULL, ret, f);

	if (r != 0)
		return r;
	top = xmlDocGetRootElement(*ret);
	word = (const char *)top->name;
	for (size_t i = 0; i < ELEMENTS(device_words); i++)
		if (strcmp(device_words[i], word) == 0)
			return 0;
	return failure_set(f, VIREO_NOT_SUPPORTED, "XML, line %ld: there is no device <%s>.", xmlGetLineNo(top), word);
}

/* What tells a device from the others of its sort. Owned; NULL: nothing. */
static char *key_of(xmlNode *device)
{
	const char *word = (const char *)device->name;

	if (strcmp(word, "disk") == 0)
		return sim_xml_attribute(sim_xml_child(device, "target"), "dev");
	if (strcmp(word, "interface") == 0)
		return sim_xml_attribute(sim_xml_child(device, "mac"), "address");
	return sim_xml_attribute(sim_xml_child(device, "alias"), "name");
}

static bool is_same(xmlNode *a, xmlNode *b)
{
	_cleanup_(freep) char *key_a = NULL, *key_b = NULL;

	if (strcmp((const char *)a->name, (const char *)b->name) != 0)
		return false;
	key_a = key_of(a);
	key_b = key_of(b);
	/* of those that cannot be told apart (a watchdog, a balloon) any one is meant */
	return !key_a || (key_b && strcmp(key_a, key_b) == 0);
}

static xmlNode *find_same(xmlDoc *doc, xmlNode *device)
{
	xmlNode *devices = doc ? sim_xml_child(xmlDocGetRootElement(doc), "devices") : NULL;

	for (xmlNode *n = devices ? devices->children : NULL; n; n = n->next)
		if (n->type == XML_ELEMENT_NODE && is_same(device, n))
			return n;
	return NULL;
}

/* virtio-disk1 for vdb, net2 … Owned. */
static char *make_alias(xmlDoc *doc, xmlNode *device)
{
	_cleanup_(freep) char *target = NULL, *bus = NULL;
	const char *word = (const char *)device->name;
	unsigned n = 0;

	if (strcmp(word, "disk") == 0) {
		target = sim_xml_attribute(sim_xml_child(device, "target"), "dev");
		bus = sim_xml_attribute(sim_xml_child(device, "target"), "bus");
		return sim_printf("%s-disk%d", bus ? bus : "virtio",
				  target && strlen(target) == 3 && target[2] >= 'a' ? target[2] - 'a' : 0);
	}
	for (xmlNode *s = sim_xml_child(xmlDocGetRootElement(doc), "devices")->children; s; s = s->next)
		n += s->type == XML_ELEMENT_NODE && strcmp((const char *)s->name, word) == 0;
	return sim_printf("%s%u", strcmp(word, "interface") == 0 ? "net" : word, n);
}

static char *alias_of(xmlNode *device)
{
	return sim_xml_attribute(sim_xml_child(device, "alias"), "name");
}

static void set_alias(xmlNode *device, const char *alias)
{
	xmlNode *n = sim_must(xmlNewChild(device, NULL, (const xmlChar *)"alias", NULL));

	xmlSetProp(n, (const xmlChar *)"name", (const xmlChar *)alias);
}

static void say(struct sim_world *w, const struct sim_object *o, const char *event, const char *alias)
{
	_cleanup_(vdict_freep) struct vdict *details = sim_must(vdict_new());

	vdict_set_s(details, "alias", alias ? alias : "");
	sim_emit_event(w, o, event, NULL, details);
}

/* ---- the three ----------------------------------------------------------------------------------------------- */

enum change { ATTACH, DETACH, UPDATE };

static int check_attach(struct sim_world *w, const struct sim_object *o, xmlNode *device, bool live, struct failure *f)
{
	_cleanup_(freep) char *key = key_of(device), *file = sim_disk_file(device);
	bool is_disk = strcmp((const char *)device->name, "disk") == 0;

	if (is_disk && !key)
		return failure_set(f, VIREO_INVALID_XML, "XML, line %ld: <disk> lacks a <target dev='…'/>.",
				   xmlGetLineNo(device));
	/* only the run opens it */
	if (live && file && sim_file_missing(&w->truth, file))
		return failure_set(f, VIREO_OPERATION_FAILED, "%s: it cannot be opened: No such file or directory", file);
	return 0;
}

/* One description. *@ret_alias: of the device, owned. */
static int change_one(struct sim_world *w, struct sim_object *o, struct sim_config **which, enum change change, xmlNode *device,
		      bool live, bool dry, char **ret_alias, struct failure *f)
{
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = sim_open_config(o, *which);
	_cleanup_(freep) char *key = key_of(device);
	xmlNode *same = find_same(doc, device), *devices, *copy;
	const char *word = (const char *)device->name;
	int r;

	if (!doc)
		return failure_set(f, VIREO_OPERATION_FAILED, "The description of domain '%s' is broken.", o->name);
	if (change == ATTACH) {
		r = check_attach(w, o, device, live, f);
		if (r != 0)
			return r;
		if (same && key)
			return failure_set(f, VIREO_ALREADY_EXISTS, "Domain '%s' has a %s '%s' already.", o->name, word, key);
	} else if (!same)
		return failure_set(f, VIREO_NOT_FOUND, "Domain '%s' has no %s '%s'.", o->name, word, key ? key : "");
	if (dry)
		return 0;
	if (change == DETACH) {
		*ret_alias = alias_of(same);
		if (live) {
			/* the guest has to let it go first; until then it is known by this */
			if (!*ret_alias) {
				*ret_alias = make_alias(doc, same);
				set_alias(same, *ret_alias);
				sim_change_config(which, doc);
			}
			return 0;
		}
		xmlUnlinkNode(same);
		xmlFreeNode(same);
		sim_change_config(which, doc);
		return 0;
	}
	devices = sim_xml_child(xmlDocGetRootElement(doc), "devices");
	if (!devices)
		devices = xmlNewChild(xmlDocGetRootElement(doc), NULL, (const xmlChar *)"devices", NULL);
	copy = sim_must(xmlDocCopyNode(device, doc, 1));
	if (change == UPDATE) {
		_cleanup_(freep) char *alias = alias_of(same);

		if (alias && !sim_xml_child(copy, "alias"))
			set_alias(copy, alias);
		xmlReplaceNode(same, copy);
		xmlFreeNode(same);
	} else {
		xmlAddChild(sim_must(devices), copy);
		*ret_alias = alias_of(copy);
		if (live && !*ret_alias) {
			*ret_alias = make_alias(doc, copy);
			set_alias(copy, *ret_alias);
		}
	}
	sim_change_config(which, doc);
	return 0;
}

static int change(struct sim_world *w, struct sim_object *o, const struct sim_args *a, enum change what, struct failure *f)
{
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
	_cleanup_(freep) char *alias = NULL;
	xmlNode *device;
	bool live, config;
	int r = parse_device(a->text, &doc, f);

	if (r == 0)
		r = sim_affects(o, a, &live, &config, f);
	if (r != 0)
		return r;
	device = xmlDocGetRootElement(doc);
	/* both are checked before one is changed */
	for (int dry = 1; dry >= 0; dry--) {
		if (config && (r = change_one(w, o, &o->config, what, device, false, dry, &alias, f)) != 0)
			return r;
		free(TAKE(alias));
		if (live && (r = change_one(w, o, &o->live, what, device, true, dry, &alias, f)) != 0)
			return r;
	}
	if (live && what == ATTACH)
		say(w, o, "DeviceAdded", alias);
	if (live && what == DETACH)
		sim_script_later(w, o, "unplug", alias ? alias : "");
	return 0;
}

int sim_attach(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	return change(w, o, a, ATTACH, f);
}

int sim_detach(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	return change(w, o, a, DETACH, f);
}

int sim_update(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	return change(w, o, a, UPDATE, f);
}

/* The guest lets a device go. */
int sim_unplug(struct sim_world *w, struct sim_object *o, const struct sim_args *a, struct failure *f)
{
	const char *alias = vdict_s(a->options, "alias", "");
	_cleanup_(sim_xml_doc_freep) xmlDoc *doc = NULL;
	xmlNode *devices;

	if (!o->active)
		return sim_refuse_state(o, "is not active", f);
	doc = sim_open_config(o, o->live);
	devices = doc ? sim_xml_child(xmlDocGetRootElement(doc), "devices") : NULL;
	for (xmlNode *n = devices ? devices->children : NULL; n; n = n->next) {
		_cleanup_(freep) char *its = n->type == XML_ELEMENT_NODE ? alias_of(n) : NULL;

		if (!its || strcmp(its, alias) != 0)
			continue;
		xmlUnlinkNode(n);
		xmlFreeNode(n);
		sim_change_config(&o->live, doc);
		say(w, o, "DeviceRemoved", alias);
		return 0;
	}
	return failure_set(f, VIREO_NOT_FOUND, "Domain '%s' has no device '%s'.", o->name, alias);
}
