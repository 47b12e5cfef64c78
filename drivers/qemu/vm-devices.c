/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vm-parse.h"

/* <devices>: what stands in each, and what of it this driver can make. */

static int too_many(struct vm_parser *p, xmlNode *n, size_t have, size_t max)
{
	return have < max ? 0 : xml_refuse(p->f, n, "there can be %zu of these at most", max);
}

static int boot_order(struct vm_parser *p, xmlNode *n, unsigned *ret)
{
	_cleanup_(freep) char *text = xml_attribute(n, "order");
	uint64_t order = 0;
	int r = xml_number(p->f, n, "its order", text, 1000, &order);

	*ret = (unsigned)order;
	return r;
}

/* ---- disks -------------------------------------------------------------------------------------------------- */

static struct vm_disk *this_disk(struct vm_parser *p)
{
	return &p->vm->disks[p->vm->n_disks];
}

static int disk_driver(struct vm_parser *p, xmlNode *n)
{
	struct vm_disk *d = this_disk(p);
	int i, r = vm_choice(p, n, "name", "qemu", 0, &i);

	if (r == 0)
		r = vm_choice(p, n, "type", "raw qcow2", 0, &i);
	d->format = i == 1 ? "qcow2" : "raw";
	if (r == 0)
		r = vm_choice(p, n, "cache", "default none writethrough writeback directsync unsafe", 0, &i);
	d->cache = i > 0 ? vm_attribute(p, n, "cache") : NULL;
	if (r == 0)
		r = vm_choice(p, n, "io", "threads native io_uring", 0, &i);
	d->io = vm_attribute(p, n, "io");
	if (r == 0)
		r = vm_choice(p, n, "discard", "ignore unmap", 0, &i);
	d->discard = vm_attribute(p, n, "discard");
	if (r == 0)
		r = vm_choice(p, n, "error_policy", "stop report ignore enospace", 0, &i);
	d->error_policy = vm_attribute(p, n, "error_policy");
	return r;
}

static int disk_source(struct vm_parser *p, xmlNode *n)
{
	struct vm_disk *d = this_disk(p);
	const char *wanted = d->block ? "dev" : "file", *other = d->block ? "file" : "dev";
	_cleanup_(freep) char *wrong = xml_attribute(n, other);
	int r, startup = 0;

	if (wrong)
		return xml_refuse(p->f, n, "a disk of this type has its source in '%s', not in '%s'", wanted, other);
	r = vm_choice(p, n, "startupPolicy", "mandatory", 0, &startup);
	d->source = vm_attribute(p, n, wanted);
	if (d->source && r == 0)
		r = vm_path(p, n, d->source);
	return r;
}

static int disk_target(struct vm_parser *p, xmlNode *n)
{
	static const char *const prefixes[] = {"vd", "hd", "sd", "sd", "sd", "fd"};
	struct vm_disk *d = this_disk(p);
	int i, missing = VM_BUS_VIRTIO, r;

	d->target = vm_attribute(p, n, "dev");
	if (!d->target || strlen(d->target) < 3 || strlen(d->target) > 8 ||
		strspn(d->target, "abcdefghijklmnopqrstuvwxyz") != strlen(d->target))
		return xml_refuse(p->f, n, "it needs a 'dev' such as vda");
	for (size_t b = 0; b < ELEMENTS(prefixes); b++)
		if (strncmp(d->target, prefixes[b], 2) == 0) {
			missing = (int)b;
			break;
		}
	r = vm_choice(p, n, "bus", "virtio ide sata scsi usb fdc", missing, &i);
	d->bus = (enum vm_bus)i;
	return r;
}

static int disk_readonly(struct vm_parser *p, xmlNode *n)
{
	this_disk(p)->readonly = true;
	return 0;
}

static int disk_shareable(struct vm_parser *p, xmlNode *n)
{
	this_disk(p)->shareable = true;
	return 0;
}

static int disk_serial(struct vm_parser *p, xmlNode *n)
{
	this_disk(p)->serial = vm_content(p, n);
	return 0;
}

static int disk_boot(struct vm_parser *p, xmlNode *n)
{
	return boot_order(p, n, &this_disk(p)->boot);
}

static int parse_disk(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"driver", "name type cache io discard error_policy", disk_driver},
		{"source", "file dev startupPolicy", disk_source},
		{"target", "dev bus", disk_target},
		{"readonly", "", disk_readonly},
		{"shareable", "", disk_shareable},
		{"serial", "", disk_serial},
		{"boot", "order", disk_boot},
		{"alias", NULL, NULL},
		{"address", NULL, NULL},
		{0},
	};
	struct vm_disk *d;
	int type, device, r = too_many(p, n, p->vm->n_disks, ELEMENTS(p->vm->disks));

	if (r != 0)
		return r;
	d = this_disk(p);
	*d = (struct vm_disk){.format = "raw"};
	r = vm_choice(p, n, "type", "file block", 0, &type);
	if (r == 0)
		r = vm_choice(p, n, "device", "disk cdrom floppy", 0, &device);
	if (r != 0)
		return r;
	d->block = type == 1;
	d->device = (enum vm_disk_device)device;
	r = vm_parse_children(p, n, table);
	if (r != 0)
		return r;
	if (!d->target)
		return xml_refuse(p->f, n, "it has no <target>");
	if (!d->source && d->device == VM_DISK)
		return xml_refuse(p->f, n, "it has no <source>, and only a drive can be empty");
	if (d->device == VM_CDROM) {
		d->readonly = true;
		if (d->bus == VM_BUS_VIRTIO || d->bus == VM_BUS_FDC)
			return xml_refuse(p->f, n, "a cdrom needs a bus that can eject: ide sata scsi usb");
	}
	if (d->device == VM_DISK && d->readonly && (d->bus == VM_BUS_IDE || d->bus == VM_BUS_SATA))
		return xml_refuse(p->f, n, "a disk on ide or sata cannot be read-only");
	if ((d->device == VM_FLOPPY) != (d->bus == VM_BUS_FDC))
		return xml_refuse(p->f, n, "floppies, and only they, are on bus 'fdc'");
	for (size_t i = 0; i < p->vm->n_disks; i++)
		if (strcmp(p->vm->disks[i].target, d->target) == 0)
			return xml_refuse(p->f, n, "there are two with the target '%s'", d->target);
	if (d->bus == VM_BUS_SCSI)
		p->vm->scsi = true;
	if (d->bus == VM_BUS_USB && !p->vm->usb)
		p->vm->usb = "qemu-xhci";
	p->vm->n_disks++;
	return 0;
}

/* ---- interfaces --------------------------------------------------------------------------------------------- */

static struct vm_interface *this_interface(struct vm_parser *p)
{
	return &p->vm->interfaces[p->vm->n_interfaces];
}

static int interface_mac(struct vm_parser *p, xmlNode *n)
{
	const char *mac = vm_attribute(p, n, "address");
	unsigned b[6];
	char end;

	if (!mac || strlen(mac) != 17 ||
		sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 || (b[0] & 1))
		return xml_refuse(p->f, n, "'%s' is no address of one network card", mac ? mac : "");
	this_interface(p)->mac = mac;
	return 0;
}

static int interface_model(struct vm_parser *p, xmlNode *n)
{
	static const char *const qemu[] = {"virtio-net-pci", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet"};
	int i, r = vm_choice(p, n, "type", "virtio e1000 e1000e rtl8139 ne2k_pci pcnet", -1, &i);

	if (r == 0)
		this_interface(p)->model = qemu[i];
	return r;
}

/* A name that the kernel would take. */
static int check_ifname(struct vm_parser *p, xmlNode *n, const char *name)
{
	if (!name || !*name || strlen(name) > 15 || strpbrk(name, "/ \t\n") || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return xml_refuse(p->f, n, "'%s' is no name of a network interface", name ? name : "");
	return 0;
}

static int interface_source(struct vm_parser *p, xmlNode *n)
{
	if (this_interface(p)->type != VM_NET_BRIDGE)
		return xml_refuse(p->f, n, "only an interface of type 'bridge' has a source");
	this_interface(p)->source = vm_attribute(p, n, "bridge");
	return check_ifname(p, n, this_interface(p)->source);
}

static int interface_target(struct vm_parser *p, xmlNode *n)
{
	int managed, r = vm_choice(p, n, "managed", "no yes", 1, &managed);

	this_interface(p)->target = vm_attribute(p, n, "dev");
	return r == 0 ? check_ifname(p, n, this_interface(p)->target) : r;
}

static int interface_boot(struct vm_parser *p, xmlNode *n)
{
	return boot_order(p, n, &this_interface(p)->boot);
}

static int parse_interface(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"mac", "address", interface_mac},	{"model", "type", interface_model},
		{"source", "bridge", interface_source}, {"target", "dev managed", interface_target},
		{"boot", "order", interface_boot},	{"alias", NULL, NULL},
		{"address", NULL, NULL},		{0},
	};
	int type, r = too_many(p, n, p->vm->n_interfaces, ELEMENTS(p->vm->interfaces));

	if (r == 0)
		r = vm_choice(p, n, "type", "user bridge ethernet", -1, &type);
	if (r != 0)
		return r;
	*this_interface(p) = (struct vm_interface){.type = (enum vm_net)type, .model = "virtio-net-pci"};
	r = vm_parse_children(p, n, table);
	if (r == 0 && type == VM_NET_BRIDGE && !this_interface(p)->source)
		r = xml_refuse(p->f, n, "it has no <source bridge='…'/>");
	if (r == 0)
		p->vm->n_interfaces++;
	return r;
}

/* ---- consoles and channels ---------------------------------------------------------------------------------- */

static struct vm_char *this_char(struct vm_parser *p)
{
	return &p->vm->chars[p->vm->n_chars];
}

static int char_source(struct vm_parser *p, xmlNode *n)
{
	struct vm_char *c = this_char(p);
	int mode, append, r = vm_choice(p, n, "mode", "bind", 0, &mode);

	if (r == 0)
		r = vm_choice(p, n, "append", "off on", 0, &append);
	if (r != 0)
		return r;
	c->append = append == 1;
	c->path = vm_attribute(p, n, "path");
	/* What libvirt says of a run that is over. */
	if (c->type == VM_CHAR_PTY || c->type == VM_CHAR_NULL)
		return 0;
	return vm_path(p, n, c->path);
}

static int char_target(struct vm_parser *p, xmlNode *n)
{
	struct vm_char *c = this_char(p);
	_cleanup_(freep) char *port = xml_attribute(n, "port");
	uint64_t number;
	int type, r = 0;

	if (c->use == VM_CHANNEL) {
		r = vm_choice(p, n, "type", "virtio", -1, &type);
		c->name = vm_attribute(p, n, "name");
		if (r == 0 && (!c->name || !*c->name))
			r = xml_refuse(p->f, n, "it needs a 'name'");
		return r;
	}
	r = vm_choice(p, n, "type", c->use == VM_SERIAL ? "isa-serial" : "serial virtio", 0, &type);
	if (r == 0 && port)
		r = xml_number(p->f, n, "its port", port, 3, &number);
	if (r == 0 && c->use == VM_CONSOLE && type == 0)
		c->use = VM_SERIAL;
	return r;
}

static int char_part(struct vm_parser *p, xmlNode *n)
{
	/* <target> of a serial port: <model name='isa-serial'/> */
	static const struct vm_element table[] = {{"model", "name", NULL}, {0}};
	int r = char_target(p, n);

	return r == 0 ? vm_parse_children(p, n, table) : r;
}

static int parse_char(struct vm_parser *p, xmlNode *n, enum vm_char_use use)
{
	static const struct vm_element table[] = {
		{"source", "path mode append", char_source},
		{"target", "type name port state", char_part, .children = true},
		{"alias", NULL, NULL},
		{"address", NULL, NULL},
		{0},
	};
	struct vm_char *c;
	int type, r = too_many(p, n, p->vm->n_chars, ELEMENTS(p->vm->chars));

	if (r == 0)
		r = vm_choice(p, n, "type", "pty unix file null", -1, &type);
	if (r != 0)
		return r;
	c = this_char(p);
	*c = (struct vm_char){.use = use, .type = (enum vm_char_type)type};
	r = vm_parse_children(p, n, table);
	if (r != 0)
		return r;
	if ((c->type == VM_CHAR_UNIX && use != VM_CHANNEL && !c->path) || (c->type == VM_CHAR_FILE && !c->path))
		return xml_refuse(p->f, n, "it has no <source path='…'/>");
	if (use == VM_CHANNEL && !c->name)
		return xml_refuse(p->f, n, "it has no <target>");
	/* libvirt writes the first serial port twice: as itself, and as the console. */
	if (use == VM_CONSOLE && c->use == VM_SERIAL)
		for (size_t i = 0; i < p->vm->n_chars; i++)
			if (p->vm->chars[i].use == VM_SERIAL && p->vm->chars[i].type == c->type)
				return 0;
	if (c->use != VM_SERIAL)
		p->vm->virtio_serial = true;
	p->vm->n_chars++;
	return 0;
}

static int parse_serial(struct vm_parser *p, xmlNode *n)
{
	return parse_char(p, n, VM_SERIAL);
}

static int parse_console(struct vm_parser *p, xmlNode *n)
{
	return parse_char(p, n, VM_CONSOLE);
}

static int parse_channel(struct vm_parser *p, xmlNode *n)
{
	return parse_char(p, n, VM_CHANNEL);
}

/* ---- graphics, video, input --------------------------------------------------------------------------------- */

static int graphics_listen(struct vm_parser *p, xmlNode *n)
{
	struct vm_graphics *g = &p->vm->graphics[p->vm->n_graphics];
	int type, r = vm_choice(p, n, "type", "socket", -1, &type);

	g->socket = vm_attribute(p, n, "socket");
	/* Without a path it gets one in the domain's own directory. */
	return r == 0 && g->socket ? vm_path(p, n, g->socket) : r;
}

static int parse_graphics(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {{"listen", "type socket", graphics_listen}, {0}};
	struct vm_graphics *g;
	int type, r = too_many(p, n, p->vm->n_graphics, ELEMENTS(p->vm->graphics));

	if (r == 0)
		r = vm_choice(p, n, "type", "vnc spice", -1, &type);
	if (r != 0)
		return r;
	g = &p->vm->graphics[p->vm->n_graphics];
	*g = (struct vm_graphics){.spice = type == 1};
	g->socket = vm_attribute(p, n, "socket");
	if (g->socket)
		r = vm_path(p, n, g->socket);
	else if (!xml_first(n))
		r = xml_refuse(p->f, n, "consoles are on a socket here: it needs <listen type='socket'/>");
	if (r == 0)
		r = vm_parse_children(p, n, table);
	for (size_t i = 0; r == 0 && i < p->vm->n_graphics; i++)
		if (p->vm->graphics[i].spice == g->spice)
			r = xml_refuse(p->f, n, "there can be one of each type");
	if (r == 0)
		p->vm->n_graphics++;
	return r;
}

static int video_model(struct vm_parser *p, xmlNode *n)
{
	static const char *const qemu[] = {"VGA", "cirrus-vga", "qxl-vga", "virtio-vga", "bochs-display", NULL};
	int i, primary, r = vm_choice(p, n, "type", "vga cirrus qxl virtio bochs none", -1, &i);

	if (r == 0)
		r = vm_choice(p, n, "primary", "yes", 0, &primary);
	if (r == 0)
		p->vm->video = qemu[i];
	return r;
}

static int parse_video(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"model", "type primary", video_model}, {"alias", NULL, NULL}, {"address", NULL, NULL}, {0}};

	return vm_parse_children(p, n, table);
}

static int parse_input(struct vm_parser *p, xmlNode *n)
{
	static const char *const types[] = {"mouse", "tablet", "keyboard"}, *const buses[] = {"ps2", "usb", "virtio"};
	static const struct vm_element table[] = {{"alias", NULL, NULL}, {"address", NULL, NULL}, {0}};
	int type, bus, r = too_many(p, n, p->vm->n_inputs, ELEMENTS(p->vm->inputs));

	if (r == 0)
		r = vm_choice(p, n, "type", "mouse tablet keyboard", -1, &type);
	if (r == 0)
		r = vm_choice(p, n, "bus", "ps2 usb virtio", type == 1 ? 1 : 0, &bus);
	if (r == 0)
		r = vm_parse_children(p, n, table);
	if (r != 0)
		return r;
	if (bus == 0 && type == 1)
		return xml_refuse(p->f, n, "a tablet is on usb or virtio");
	/* A PC has its own on ps2. */
	if (bus == 0)
		return 0;
	if (bus == 1 && !p->vm->usb)
		p->vm->usb = "qemu-xhci";
	p->vm->inputs[p->vm->n_inputs++] = (struct vm_input){.type = types[type], .bus = buses[bus]};
	return 0;
}

/* ---- the small ones ----------------------------------------------------------------------------------------- */

static int parse_emulator(struct vm_parser *p, xmlNode *n)
{
	p->vm->emulator = vm_content(p, n);
	return vm_path(p, n, p->vm->emulator);
}

static int parse_controller(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {{"alias", NULL, NULL}, {"address", NULL, NULL}, {0}};
	static const char *const usb[] = {NULL, "qemu-xhci", "nec-usb-xhci", "piix3-usb-uhci"};
	int type, model, index, r = vm_choice(p, n, "type", "usb scsi virtio-serial pci ide sata fdc", -1, &type);

	/* One of each, the first: the ones that QEMU's machines have, or that are made when something needs them. */
	if (r == 0)
		r = vm_choice(p, n, "index", "0", 0, &index);
	if (r == 0)
		r = vm_parse_children(p, n, table);
	if (r != 0)
		return r;
	switch (type) {
	case 0:
		r = vm_choice(p, n, "model", "none qemu-xhci nec-xhci piix3-uhci", 1, &model);
		if (r == 0)
			p->vm->usb = usb[model];
		return r;
	case 1:
		p->vm->scsi = true;
		return vm_choice(p, n, "model", "virtio-scsi auto", 0, &model);
	case 2:
		p->vm->virtio_serial = true;
		return vm_choice(p, n, "model", "virtio", 0, &model);
	case 3:
		return vm_choice(p, n, "model", "pci-root pcie-root", 0, &model);
	default:
		return vm_choice(p, n, "model", "piix3 ich9-ahci", 0, &model);
	}
}

static int parse_memballoon(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {{"alias", NULL, NULL}, {"address", NULL, NULL}, {0}};
	int model, r = vm_choice(p, n, "model", "none virtio", -1, &model);

	p->vm->balloon = model == 1;
	return r == 0 ? vm_parse_children(p, n, table) : r;
}

static int rng_backend(struct vm_parser *p, xmlNode *n)
{
	int model, r = vm_choice(p, n, "model", "random", -1, &model);

	p->vm->rng = vm_content(p, n);
	if (p->vm->rng && !*p->vm->rng)
		p->vm->rng = "/dev/urandom";
	return r == 0 ? vm_path(p, n, p->vm->rng) : r;
}

static int parse_rng(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"backend", "model", rng_backend}, {"alias", NULL, NULL}, {"address", NULL, NULL}, {0}};
	int model, r = vm_choice(p, n, "model", "virtio", -1, &model);

	if (r == 0)
		r = vm_parse_children(p, n, table);
	if (r == 0 && !p->vm->rng)
		r = xml_refuse(p->f, n, "it has no <backend>");
	return r;
}

static int tpm_device(struct vm_parser *p, xmlNode *n)
{
	p->vm->tpm_path = vm_attribute(p, n, "path");
	return vm_path(p, n, p->vm->tpm_path);
}

static int tpm_backend(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {{"device", "path", tpm_device}, {0}}, none[] = {{0}};
	_cleanup_(freep) char *version = xml_attribute(n, "version");
	int type, number = 0, r = vm_choice(p, n, "type", "passthrough emulator", -1, &type);

	if (r == 0 && type == 0 && version)
		return xml_refuse(p->f, n, "a TPM of the host has the version that it has");
	if (r == 0)
		r = vm_choice(p, n, "version", "2.0 1.2", 0, &number);
	p->vm->tpm_emulator = type == 1;
	p->vm->tpm_old = number == 1;
	return r == 0 ? vm_parse_children(p, n, type == 0 ? table : none) : r;
}

static int parse_tpm(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {
		{"backend", "type version", tpm_backend, .children = true}, {"alias", NULL, NULL}, {"address", NULL, NULL}, {0}};
	int model, r = vm_choice(p, n, "model", "tpm-tis tpm-crb", 0, &model);

	p->vm->tpm_model = model == 1 ? "tpm-crb" : "tpm-tis";
	if (r == 0)
		r = vm_parse_children(p, n, table);
	if (r == 0 && !p->vm->tpm_path && !p->vm->tpm_emulator)
		r = xml_refuse(p->f, n, "it has no <backend> of type 'emulator', or with a <device path='…'/>");
	if (r == 0 && p->vm->tpm_old && model == 1)
		r = xml_refuse(p->f, n, "version 1.2 has no tpm-crb");
	return r;
}

static int parse_panic(struct vm_parser *p, xmlNode *n)
{
	static const struct vm_element table[] = {{"address", NULL, NULL}, {"alias", NULL, NULL}, {0}};
	int model, r = vm_choice(p, n, "model", "isa", 0, &model);

	p->vm->panic = true;
	return r == 0 ? vm_parse_children(p, n, table) : r;
}

static int parse_watchdog(struct vm_parser *p, xmlNode *n)
{
	static const char *const models[] = {"i6300esb", "ib700"};
	static const struct vm_element table[] = {{"address", NULL, NULL}, {"alias", NULL, NULL}, {0}};
	int model, i, r = vm_choice(p, n, "model", "i6300esb ib700", -1, &model);

	if (r == 0)
		r = vm_choice(p, n, "action", "reset shutdown poweroff pause none inject-nmi", 0, &i);
	if (r != 0)
		return r;
	p->vm->watchdog = models[model];
	p->vm->watchdog_action = vm_attribute(p, n, "action");
	return vm_parse_children(p, n, table);
}

const struct vm_element vm_device_elements[] = {
	{"emulator", "", parse_emulator},
	{"disk", "type device", parse_disk, .many = true, .children = true},
	{"interface", "type", parse_interface, .many = true, .children = true},
	{"serial", "type", parse_serial, .many = true, .children = true},
	{"console", "type", parse_console, .many = true, .children = true},
	{"channel", "type", parse_channel, .many = true, .children = true},
	{"graphics", "type socket", parse_graphics, .many = true, .children = true},
	{"video", "", parse_video, .children = true},
	{"input", "type bus", parse_input, .many = true, .children = true},
	{"controller", "type index model", parse_controller, .many = true, .children = true},
	{"memballoon", "model", parse_memballoon, .children = true},
	{"rng", "model", parse_rng, .children = true},
	{"tpm", "model", parse_tpm, .children = true},
	{"panic", "model", parse_panic, .children = true},
	{"watchdog", "model action", parse_watchdog, .children = true},
	{0},
};
