/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vm-parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/utf8.h"

/* ---- helpers ------------------------------------------------------------------------------------------------ */

const char *vm_keep(struct vm_parser *p, char *s)
{
	char **strings;

	if (!s)
		return NULL;
	strings = reallocarray(p->vm->strings, p->vm->n_strings + 1, sizeof(*strings));
	if (!strings) {
		free(s);
		return NULL;
	}
	p->vm->strings = strings;
	strings[p->vm->n_strings++] = s;
	return s;
}

const char *vm_attribute(struct vm_parser *p, xmlNode *node, const char *name)
{
	return vm_keep(p, xml_attribute(node, name));
}

const char *vm_content(struct vm_parser *p, xmlNode *node)
{
	return vm_keep(p, xml_content(node));
}

int vm_choice(struct vm_parser *p, xmlNode *node, const char *attribute, const char *words, int missing, int *ret)
{
	_cleanup_(freep) char *value = xml_attribute(node, attribute);
	const char *w = words;

	if (!value && missing >= 0) {
		*ret = missing;
		return 0;
	}
	for (int i = 0; value && *w; i++) {
		size_t n = strcspn(w, " ");

		if (strlen(value) == n && strncmp(w, value, n) == 0) {
			*ret = i;
			return 0;
		}
		w += n;
		w += strspn(w, " ");
	}
	if (!value)
		return xml_refuse(p->f, node, "it needs the attribute '%s', one of: %s", attribute, words);
	return xml_refuse(p->f, node, "its %s '%s' is not supported; it can be one of: %s", attribute, value, words);
}

int vm_path(struct vm_parser *p, xmlNode *node, const char *path)
{
	if (!path || path[0] != '/')
		return xml_refuse(p->f, node, "'%s' is not an absolute path", path ? path : "");
	return 0;
}

int vm_parse_children(struct vm_parser *p, xmlNode *node, const struct vm_element *table)
{
	uint64_t seen = 0;

	for (xmlNode *n = xml_first(node); n; n = xml_next(n)) {
		const struct vm_element *e;
		int r;

		for (e = table; e->name && !xml_is(n, e->name); e++)
			;
		if (!e->name)
			return xml_refuse(p->f, n, "this element is not understood within <%s>", (const char *)node->name);
		if (!e->many && (seen & UINT64_C(1) << (e - table)))
			return xml_refuse(p->f, n, "it may stand only once within <%s>", (const char *)node->name);
		seen |= UINT64_C(1) << (e - table);
		/* NULL: whatever it holds is somebody else's. */
		if (!e->attributes)
			continue;
		r = xml_check_attributes(p->f, n, e->attributes);
		if (r == 0 && !e->children && xml_first(n))
			r = xml_refuse(p->f, xml_first(n), "this element is not understood within <%s>", e->name);
		if (r == 0 && e->parse)
			r = e->parse(p, n);
		if (r != 0)
			return r;
	}
	return 0;
}

/* ---- the parts ---------------------------------------------------------------------------------------------- */

static int parse_name(struct vm_parser *p, xmlNode *n)
{
	_cleanup_(freep) char *name = xml_content(n);

	if (!name || !*name)
		return xml_refuse(p->f, n, "the name is empty");
	/* QEMU and logs take one line. */
	for (const unsigned char *s = (const unsigned char *)name; *s; s++)
		if (*s < ' ' || *s == 0x7f)
			return xml_refuse(p->f, n, "the name holds a control character");
	if (strlen(name) > 255)
		return xml_refuse(p->f, n, "the name is longer than 255 bytes");
	free(p->vm->name);
	p->vm->name = utf8_dup(name);
	return p->vm->name ? 0 : -ENOMEM;
}

static int parse_uuid(struct vm_parser *p, xmlNode *n)
{
	_cleanup_(freep) char *text = xml_content(n);

	if (!text || sd_id128_from_string(text, &p->vm->uuid) < 0 || sd_id128_is_null(p->vm->uuid))
		return xml_refuse(p->f, n, "'%s' is not a UUID", text ? text : "");
	return 0;
}

static int parse_title(struct vm_parser *p, xmlNode *n)
{
	p->vm->title = vm_content(p, n);
	return 0;
}

static int parse_description(struct vm_parser *p, xmlNode *n)
{
	p->vm->description = vm_content(p, n);
	return 0;
}

static int parse_memory(struct vm_parser *p, xmlNode *n)
{
	int r = xml_size(p->f, n, "KiB", &p->vm->memory);

	if (r == 0 && p->vm->memory < 1 << 20)
		return xml_refuse(p->f, n, "a domain needs 1 MiB at least");
	return r;
}

static int parse_current_memory(struct vm_parser *p, xmlNode *n)
{
	return xml_size(p->f, n, "KiB", &p->vm->current_memory);
}

static int parse_vcpu(struct vm_parser *p, xmlNode *n)
{
	_cleanup_(freep) char *text = xml_content(n);
	uint64_t count;
	int placement, r = vm_choice(p, n, "placement", "static", 0, &placement);

	if (r == 0)
		r = xml_number(p->f, n, "its number", text, 1024, &count);
	if (r == 0 && count == 0)
		r = xml_refuse(p->f, n, "a domain needs one at least");
	if (r == 0)
		p->vm->vcpus = (unsigned)count;
	return r;
}

static int parse_action(struct vm_parser *p, xmlNode *n, enum vm_action *ret)
{
	static const char *const words[] = {"destroy", "restart", "preserve"};
	_cleanup_(freep) char *text = xml_content(n);

	for (size_t i = 0; i < ELEMENTS(words); i++)
		if (text && strcmp(text, words[i]) == 0) {
			*ret = (enum vm_action)i;
			return 0;
		}
	return xml_refuse(p->f, n, "'%s' is not supported; it can be one of: destroy restart preserve", text ? text : "");
}

static int parse_on_poweroff(struct vm_parser *p, xmlNode *n)
{
	return parse_action(p, n, &p->vm->on_poweroff);
}

static int parse_on_reboot(struct vm_parser *p, xmlNode *n)
{
	int r = parse_action(p, n, &p->vm->on_reboot);

	if (r == 0 && p->vm->on_reboot == VM_PRESERVE)
		r = xml_refuse(p->f, n, "a reboot cannot be preserved");
	return r;
}

static int parse_on_crash(struct vm_parser *p, xmlNode *n)
{
	return parse_action(p, n, &p->vm->on_crash);
}

/* ---- <os> --------------------------------------------------------------------------------------------------- */

static int parse_type(struct vm_parser *p, xmlNode *n)
{
	_cleanup_(freep) char *text = xml_content(n);

	if (!text || strcmp(text, "hvm") != 0)
		return xml_refuse(p->f, n, "'%s' is not supported; it can be: hvm", text ? text : "");
	p->vm->arch = vm_attribute(p, n, "arch");
	p->vm->machine = vm_attribute(p, n, "machine");
	/* It becomes a part of a program's name. */
	if (p->vm->arch && strspn(p->vm->arch, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(p->vm->arch))
		return xml_refuse(p->f, n, "'%s' is no architecture", p->vm->arch);
	return 0;
}

static int parse_loader(struct vm_parser *p, xmlNode *n)
{
	int readonly, type, r = vm_choice(p, n, "readonly", "no yes", 0, &readonly);

	if (r == 0)
		r = vm_choice(p, n, "type", "rom pflash", 0, &type);
	if (r == 0) {
		p->vm->loader = vm_content(p, n);
		p->vm->loader_readonly = readonly == 1;
		p->vm->efi = type == 1;
		r = vm_path(p, n, p->vm->loader);
	}
	return r;
}

static int parse_nvram(struct vm_parser *p, xmlNode *n)
{
	const char *path = vm_content(p, n);

	p->vm->nvram_template = vm_attribute(p, n, "template");
	if (p->vm->nvram_template && vm_path(p, n, p->vm->nvram_template) != 0)
		return VIREO_INVALID_XML;
	p->vm->nvram = path && *path ? path : NULL;
	return p->vm->nvram ? vm_path(p, n, path) : 0;
}

static int parse_boot(struct vm_parser *p, xmlNode *n)
{
	int dev, r = vm_choice(p, n, "dev", "hd cdrom network fd", -1, &dev);
	char letters[8] = "";

	if (r != 0)
		return r;
	if (p->vm->boot && strlen(p->vm->boot) >= 4)
		return xml_refuse(p->f, n, "there are too many of these");
	snprintf(letters, sizeof(letters), "%s%c", p->vm->boot ? p->vm->boot : "", "cdna"[dev]);
	p->vm->boot = vm_keep(p, strdup(letters));
	return 0;
}

static int parse_bootmenu(struct vm_parser *p, xmlNode *n)
{
	int enable, r = vm_choice(p, n, "enable", "no yes", -1, &enable);

	if (r == 0)
		p->vm->boot_menu = enable == 1;
	return r;
}

static int parse_kernel(struct vm_parser *p, xmlNode *n)
{
	p->vm->kernel = vm_content(p, n);
	return vm_path(p, n, p->vm->kernel);
}

static int parse_initrd(struct vm_parser *p, xmlNode *n)
{
	p->vm->initrd = vm_content(p, n);
	return vm_path(p, n, p->vm->initrd);
}

static int parse_cmdline(struct vm_parser *p, xmlNode *n)
{
	p->vm->cmdline = vm_content(p, n);
	return 0;
}

static int parse_os(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"type", "arch machine", parse_type},
		{"loader", "readonly type", parse_loader},
		{"nvram", "template", parse_nvram},
		{"boot", "dev", parse_boot, .many = true},
		{"bootmenu", "enable", parse_bootmenu},
		{"kernel", "", parse_kernel},
		{"initrd", "", parse_initrd},
		{"cmdline", "", parse_cmdline},
		{0},
	};
	int firmware, r = vm_choice(p, n, "firmware", "bios efi", 0, &firmware);

	if (r == 0)
		r = vm_parse_children(p, n, table);
	if (r == 0 && firmware == 1)
		p->vm->efi = true;
	if (r == 0 && !p->vm->kernel && (p->vm->initrd || p->vm->cmdline))
		r = xml_refuse(p->f, n, "an initrd or a command line needs a <kernel>");
	return r;
}

/* ---- features, clock, power, CPU ---------------------------------------------------------------------------- */

static int parse_acpi(struct vm_parser *p, xmlNode *n)
{
	p->vm->acpi = true;
	return 0;
}

static int parse_features(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"acpi", "", parse_acpi},
		/* every machine of QEMU's that this driver starts has these */
		{"apic", "", NULL},
		{"pae", "", NULL},
		{0},
	};

	/* With <features> ACPI is there when it is named, without it QEMU decides. */
	p->vm->acpi = false;
	return vm_parse_children(p, n, table);
}

static int parse_timer(struct vm_parser *p, xmlNode *n)
{
	int name, policy, present, r = vm_choice(p, n, "name", "rtc pit hpet", -1, &name);

	if (r == 0)
		r = vm_choice(p, n, "tickpolicy", "delay catchup discard", 0, &policy);
	if (r == 0)
		r = vm_choice(p, n, "present", "no yes", 1, &present);
	if (r != 0)
		return r;
	switch (name) {
	case 0:
		if (policy == 2 || !present)
			return xml_refuse(p->f, n, "the real time clock is always there, and can only delay or catch up");
		p->vm->rtc_drift = policy == 1 ? "slew" : "none";
		break;
	case 1:
		if (policy == 1 || !present)
			return xml_refuse(p->f, n, "the interval timer is always there, and can only delay or discard");
		p->vm->pit_policy = policy == 0 ? "delay" : "discard";
		break;
	default:
		p->vm->no_hpet = !present;
	}
	return 0;
}

static int parse_clock(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {{"timer", "name tickpolicy present", parse_timer, .many = true}, {0}};
	int offset, r = vm_choice(p, n, "offset", "utc localtime", 0, &offset);

	if (r == 0)
		r = vm_parse_children(p, n, table);
	p->vm->rtc = offset == 1 ? "localtime" : "utc";
	return r;
}

static int parse_suspend_to_mem(struct vm_parser *p, xmlNode *n)
{
	return vm_choice(p, n, "enabled", "no yes", -1, &p->vm->suspend_to_mem);
}

static int parse_suspend_to_disk(struct vm_parser *p, xmlNode *n)
{
	return vm_choice(p, n, "enabled", "no yes", -1, &p->vm->suspend_to_disk);
}

static int parse_pm(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"suspend-to-mem", "enabled", parse_suspend_to_mem},
		{"suspend-to-disk", "enabled", parse_suspend_to_disk},
		{0},
	};

	return vm_parse_children(p, n, table);
}

static int parse_model(struct vm_parser *p, xmlNode *n)
{
	int fallback, r = vm_choice(p, n, "fallback", "allow forbid", 0, &fallback);

	p->vm->cpu = vm_content(p, n);
	/* It goes into a list with commas. */
	if (r == 0 && (!p->vm->cpu || !*p->vm->cpu || strpbrk(p->vm->cpu, ",= ")))
		r = xml_refuse(p->f, n, "that is no model of a CPU");
	return r;
}

static int parse_topology(struct vm_parser *p, xmlNode *n)
{
	static const char *const names[] = {"sockets", "cores", "threads"};
	unsigned *const where[] = {&p->vm->sockets, &p->vm->cores, &p->vm->threads};
	int dies, r = vm_choice(p, n, "dies", "1", 0, &dies);

	for (size_t i = 0; r == 0 && i < ELEMENTS(names); i++) {
		_cleanup_(freep) char *text = xml_attribute(n, names[i]);
		uint64_t count = 1;

		r = xml_number(p->f, n, names[i], text, 1024, &count);
		*where[i] = (unsigned)count;
		if (r == 0 && count == 0)
			r = xml_refuse(p->f, n, "%s is 0", names[i]);
	}
	return r;
}

static int parse_cpu(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"model", "fallback", parse_model},
		{"topology", "sockets cores threads dies", parse_topology},
		{0},
	};
	int mode, check, match, migratable, r = vm_choice(p, n, "mode", "custom host-passthrough host-model maximum", 0, &mode);

	if (r == 0)
		r = vm_choice(p, n, "check", "none partial", 0, &check);
	if (r == 0)
		r = vm_choice(p, n, "match", "exact", 0, &match);
	if (r == 0)
		r = vm_choice(p, n, "migratable", "off on", 1, &migratable);
	if (r == 0)
		r = vm_parse_children(p, n, table);
	if (r == 0 && mode != 0) {
		if (p->vm->cpu)
			return xml_refuse(p->f, n, "a model is for mode='custom' only");
		/* QEMU's own nearest thing to host-model is the host's, migratable. */
		p->vm->cpu = mode == 3 ? "max" : "host";
	}
	return r;
}

/* ---- <domain> ----------------------------------------------------------------------------------------------- */

static int parse_devices(struct vm_parser *p, xmlNode *n)
{
	return vm_parse_children(p, n, vm_device_elements);
}

static int parse_domain(struct vm_parser *p, xmlNode *root)
{
	static const struct vm_element table[] = {
		{"name", "", parse_name},
		{"uuid", "", parse_uuid},
		{"title", "", parse_title},
		{"description", "", parse_description},
		{"metadata", NULL, NULL},
		{"memory", "unit", parse_memory},
		{"currentMemory", "unit", parse_current_memory},
		{"vcpu", "placement", parse_vcpu},
		{"os", "firmware", parse_os, .children = true},
		{"features", "", parse_features, .children = true},
		{"cpu", "mode check match migratable", parse_cpu, .children = true},
		{"clock", "offset", parse_clock, .children = true},
		{"pm", "", parse_pm, .children = true},
		{"on_poweroff", "", parse_on_poweroff},
		{"on_reboot", "", parse_on_reboot},
		{"on_crash", "", parse_on_crash},
		{"devices", "", parse_devices, .children = true},
		{0},
	};
	struct vm *vm = p->vm;
	int type, r;

	r = xml_check_attributes(p->f, root, "type id");
	if (r == 0)
		r = vm_choice(p, root, "type", "kvm qemu", -1, &type);
	if (r != 0)
		return r;
	vm->kvm = type == 0;
	vm->acpi = true;
	vm->on_reboot = VM_RESTART;
	vm->suspend_to_mem = vm->suspend_to_disk = -1;
	vm->balloon = true;
	vm->vcpus = 1;
	r = vm_parse_children(p, root, table);
	if (r != 0)
		return r;
	if (!vm->name)
		return xml_refuse(p->f, root, "it has no <name>");
	if (!vm->memory)
		return xml_refuse(p->f, root, "it has no <memory>");
	if (!vm->current_memory)
		vm->current_memory = vm->memory;
	if (vm->current_memory > vm->memory)
		return xml_refuse(p->f, root, "its <currentMemory> is more than its <memory>");
	if (vm->sockets && vm->sockets * vm->cores * vm->threads != vm->vcpus)
		return xml_refuse(p->f, root, "its topology makes %u CPUs, and <vcpu> says %u",
			vm->sockets * vm->cores * vm->threads, vm->vcpus);
	if (vm->cpu && strcmp(vm->cpu, "host") == 0 && !vm->kvm)
		return xml_refuse(p->f, root, "the host's CPU can be had by type='kvm' only");
	if (!vm->arch)
		vm->arch = "x86_64";
	if (!vm->machine)
		vm->machine = "pc";
	if (!vm->rtc)
		vm->rtc = "utc";
	if (vm->boot)
		for (size_t i = 0; i < vm->n_disks; i++)
			if (vm->disks[i].boot)
				return xml_refuse(p->f, root, "boot devices of <os> and boot orders of devices exclude each other");
	return 0;
}

int vm_parse(const char *xml, struct vm **ret, char **ret_text, struct failure *f)
{
	_cleanup_(vm_freep) struct vm *vm = calloc(1, sizeof(*vm));
	struct vm_parser p = {.vm = vm, .f = f};
	char uuid[SD_ID128_UUID_STRING_MAX];
	xmlDoc *doc = NULL;
	xmlNode *root;
	int r;

	if (!vm)
		return -ENOMEM;
	r = xml_parse(xml, "domain", &doc, f);
	if (r != 0)
		return r;
	root = xmlDocGetRootElement(doc);
	r = parse_domain(&p, root);
	if (r == 0 && sd_id128_is_null(vm->uuid)) {
		xmlNode *node, *first = xml_first(root);

		r = sd_id128_randomize(&vm->uuid);
		node = xmlNewDocNode(doc, NULL, BAD_CAST "uuid", BAD_CAST sd_id128_to_uuid_string(vm->uuid, uuid));
		/* behind the name, where readers look for it */
		while (first && !xml_is(first, "name"))
			first = xml_next(first);
		if (r < 0 || !node || !xmlAddNextSibling(first, node))
			r = -ENOMEM;
	}
	/* The number of a run is no part of a description. */
	xmlUnsetProp(root, BAD_CAST "id");
	if (r == 0 && ret_text) {
		*ret_text = xml_dump(doc);
		if (!*ret_text)
			r = -ENOMEM;
	}
	xmlFreeDoc(doc);
	if (r == 0)
		*ret = TAKE(vm);
	return r;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	for (size_t i = 0; i < vm->n_strings; i++)
		free(vm->strings[i]);
	free(vm->strings);
	free(vm->name);
	free(vm);
}
