/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm.h"

/*
 * From a description to QEMU's command line. What can be JSON is JSON; in what cannot, a comma is doubled. A string of
 * a user's never begins an argument.
 */

struct args {
	char **v;
	size_t n;
	bool failed;
};

static void push(struct args *a, char *s)
{
	char **v = s ? reallocarray(a->v, a->n + 2, sizeof(*v)) : NULL;

	if (!v) {
		free(s);
		a->failed = true;
		return;
	}
	a->v = v;
	v[a->n++] = s;
	v[a->n] = NULL;
}

static void add(struct args *a, const char *s)
{
	push(a, strdup(s));
}

static void addf(struct args *a, const char *format, ...) _printf_(2, 3);

static void addf(struct args *a, const char *format, ...)
{
	va_list ap;
	char *s;

	va_start(ap, format);
	if (vasprintf(&s, format, ap) < 0)
		s = NULL;
	va_end(ap);
	push(a, s);
}

/* For QEMU's key=value lists. Owned. */
static char *quote(const char *s)
{
	char *quoted = malloc(2 * strlen(s) + 1), *out = quoted;

	for (; quoted && *s; s++) {
		if (*s == ',')
			*out++ = ',';
		*out++ = *s;
	}
	if (quoted)
		*out = 0;
	return quoted;
}

static void set_s(struct json_object *o, const char *key, const char *value)
{
	if (value)
		json_object_object_add(o, key, json_object_new_string(value));
}

static void set_b(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

static void set_i(struct json_object *o, const char *key, int value)
{
	json_object_object_add(o, key, json_object_new_int(value));
}

/* Takes @o. */
static void add_json(struct args *a, const char *option, struct json_object *o)
{
	add(a, option);
	push(a, o ? strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)) : NULL);
	json_object_put(o);
}

static struct json_object *device(const char *driver, const char *id)
{
	struct json_object *o = json_object_new_object();

	set_s(o, "driver", driver);
	set_s(o, "id", id);
	return o;
}

/* ---- firmware ----------------------------------------------------------------------------------------------- */

static void add_flash(struct args *a, const char *node, const char *path, bool readonly)
{
	struct json_object *o = json_object_new_object();

	set_s(o, "driver", "file");
	set_s(o, "filename", path);
	set_s(o, "node-name", node);
	set_b(o, "read-only", readonly);
	set_b(o, "auto-read-only", false);
	add_json(a, "-blockdev", o);
}

/* ---- disks -------------------------------------------------------------------------------------------------- */

static bool is_q35(const struct vm *vm)
{
	return strncmp(vm->machine, "q35", 3) == 0 || strncmp(vm->machine, "pc-q35", 6) == 0;
}

/* "vda" 0, "vdb" 1 … */
static int target_index(const struct vm_disk *d)
{
	int n = 0;

	for (const char *s = d->target + 2; *s; s++)
		n = n * 26 + (*s - 'a' + 1);
	return n - 1;
}

static void add_blockdev(struct args *a, const struct vm_disk *d)
{
	struct json_object *file = json_object_new_object(), *o = json_object_new_object(), *cache;
	bool direct = d->cache && (strcmp(d->cache, "none") == 0 || strcmp(d->cache, "directsync") == 0);
	char name[32];

	snprintf(name, sizeof(name), "%s-file", d->target);
	set_s(file, "driver", d->block ? "host_device" : "file");
	set_s(file, "filename", d->source);
	set_s(file, "node-name", name);
	set_s(file, "aio", d->io);
	/* Native needs direct access; QEMU says so itself, and better. */
	if (d->cache) {
		cache = json_object_new_object();
		set_b(cache, "direct", direct);
		set_b(cache, "no-flush", strcmp(d->cache, "unsafe") == 0);
		json_object_object_add(file, "cache", cache);
		cache = json_object_new_object();
		set_b(cache, "direct", direct);
		set_b(cache, "no-flush", strcmp(d->cache, "unsafe") == 0);
		json_object_object_add(o, "cache", cache);
	}
	set_s(file, "discard", d->discard);
	if (d->readonly)
		set_b(file, "read-only", true);
	set_s(o, "driver", d->format);
	set_s(o, "node-name", d->target);
	set_s(o, "discard", d->discard);
	set_b(o, "read-only", d->readonly);
	json_object_object_add(o, "file", file);
	add_json(a, "-blockdev", o);
}

static void set_error_policy(struct json_object *o, const struct vm_disk *d)
{
	if (!d->error_policy)
		return;
	if (strcmp(d->error_policy, "enospace") == 0) {
		set_s(o, "werror", "enospc");
		return;
	}
	set_s(o, "werror", d->error_policy);
	set_s(o, "rerror", d->error_policy);
}

static void add_disk(struct args *a, const struct vm *vm, const struct vm_disk *d)
{
	bool cdrom = d->device == VM_CDROM;
	int index = target_index(d);
	struct json_object *o;
	char bus[24];

	if (d->source)
		add_blockdev(a, d);
	switch (d->bus) {
	case VM_BUS_VIRTIO:
		o = device("virtio-blk-pci", d->target);
		if (d->cache)
			set_s(o, "write-cache", strcmp(d->cache, "writethrough") == 0 || strcmp(d->cache, "directsync") == 0 ? "off" : "on");
		break;
	case VM_BUS_SATA:
	case VM_BUS_IDE:
		o = device(cdrom ? "ide-cd" : "ide-hd", d->target);
		if (is_q35(vm))
			snprintf(bus, sizeof(bus), "ide.%d", index);
		else if (d->bus == VM_BUS_SATA)
			snprintf(bus, sizeof(bus), "sata0.%d", index);
		else
			snprintf(bus, sizeof(bus), "ide.%d", index / 2);
		set_s(o, "bus", bus);
		set_i(o, "unit", d->bus == VM_BUS_IDE && !is_q35(vm) ? index % 2 : 0);
		break;
	case VM_BUS_SCSI:
		o = device(cdrom ? "scsi-cd" : "scsi-hd", d->target);
		set_s(o, "bus", "scsi0.0");
		set_i(o, "scsi-id", index);
		break;
	case VM_BUS_USB:
		o = device("usb-storage", d->target);
		break;
	default:
		o = device("floppy", d->target);
		set_i(o, "unit", index);
	}
	if (d->source)
		set_s(o, "drive", d->target);
	if (d->boot)
		set_i(o, "bootindex", (int)d->boot);
	if (d->serial && *d->serial)
		set_s(o, "serial", d->serial);
	if (d->shareable && !cdrom)
		set_b(o, "share-rw", true);
	if (d->bus != VM_BUS_USB && d->bus != VM_BUS_FDC)
		set_error_policy(o, d);
	add_json(a, "-device", o);
}

/* ---- networks ----------------------------------------------------------------------------------------------- */

static void add_interface(struct args *a, const struct vm_interface *i, size_t index)
{
	struct json_object *o = json_object_new_object();
	char host[32], id[24];

	snprintf(host, sizeof(host), "hostnet%zu", index);
	snprintf(id, sizeof(id), "net%zu", index);
	set_s(o, "id", host);
	switch (i->type) {
	case VM_NET_USER:
		set_s(o, "type", "user");
		break;
	case VM_NET_BRIDGE:
		/* QEMU's helper, which is made for this, asks /etc/qemu/bridge.conf. */
		set_s(o, "type", "bridge");
		set_s(o, "br", i->source);
		break;
	case VM_NET_TAP:
		set_s(o, "type", "tap");
		set_s(o, "ifname", i->target);
		set_s(o, "script", "no");
		set_s(o, "downscript", "no");
		break;
	}
	add_json(a, "-netdev", o);
	o = device(i->model, id);
	set_s(o, "netdev", host);
	set_s(o, "mac", i->mac);
	if (i->boot)
		set_i(o, "bootindex", (int)i->boot);
	add_json(a, "-device", o);
}

/* ---- consoles ----------------------------------------------------------------------------------------------- */

static void add_char(struct args *a, const struct vm_run *run, const struct vm_char *c, unsigned *n)
{
	static const char *const names[] = {"serial", "console", "channel"};
	_cleanup_(freep) char *path = NULL, *quoted = NULL;
	struct json_object *o;
	char id[32], backend[40];

	snprintf(id, sizeof(id), "%s%u", names[c->use], n[c->use]++);
	snprintf(backend, sizeof(backend), "char%s", id);
	if (c->path)
		path = strdup(c->path);
	else if (asprintf(&path, "%s/%s.sock", run->directory, id) < 0)
		path = NULL;
	quoted = path ? quote(path) : NULL;
	if (!quoted) {
		a->failed = true;
		return;
	}
	add(a, "-chardev");
	switch (c->type) {
	case VM_CHAR_PTY:
		addf(a, "pty,id=%s", backend);
		break;
	case VM_CHAR_UNIX:
		addf(a, "socket,id=%s,server=on,wait=off,path=%s", backend, quoted);
		break;
	case VM_CHAR_FILE:
		addf(a, "file,id=%s,append=%s,path=%s", backend, c->append ? "on" : "off", quoted);
		break;
	case VM_CHAR_NULL:
		addf(a, "null,id=%s", backend);
		break;
	}
	o = device(c->use == VM_SERIAL ? "isa-serial" : c->use == VM_CONSOLE ? "virtconsole" : "virtserialport", id);
	set_s(o, "chardev", backend);
	if (c->use == VM_CHANNEL)
		set_s(o, "name", c->name);
	add_json(a, "-device", o);
}

static void add_graphics(struct args *a, const struct vm_run *run, const struct vm_graphics *g)
{
	_cleanup_(freep) char *path = NULL, *quoted = NULL;

	if (g->socket)
		path = strdup(g->socket);
	else if (asprintf(&path, "%s/%s.sock", run->directory, g->spice ? "spice" : "vnc") < 0)
		path = NULL;
	quoted = path ? quote(path) : NULL;
	if (!quoted) {
		a->failed = true;
		return;
	}
	add(a, g->spice ? "-spice" : "-vnc");
	if (g->spice)
		addf(a, "unix=on,disable-ticketing=on,addr=%s", quoted);
	else
		addf(a, "unix:%s", quoted);
}

/* ---- the rest ----------------------------------------------------------------------------------------------- */

static void add_small_devices(struct args *a, const struct vm *vm, const struct vm_run *run)
{
	struct json_object *o;
	char id[32];

	for (size_t i = 0; i < vm->n_inputs; i++) {
		const struct vm_input *in = &vm->inputs[i];
		char driver[40];

		snprintf(id, sizeof(id), "input%zu", i);
		/* usb-tablet, usb-kbd, virtio-keyboard-pci … */
		if (strcmp(in->bus, "usb") == 0)
			snprintf(driver, sizeof(driver), "usb-%s", strcmp(in->type, "keyboard") == 0 ? "kbd" : in->type);
		else
			snprintf(driver, sizeof(driver), "virtio-%s-pci", in->type);
		add_json(a, "-device", device(driver, id));
	}
	if (vm->rng) {
		o = json_object_new_object();
		set_s(o, "qom-type", "rng-random");
		set_s(o, "id", "objrng0");
		set_s(o, "filename", vm->rng);
		add_json(a, "-object", o);
		o = device("virtio-rng-pci", "rng0");
		set_s(o, "rng", "objrng0");
		add_json(a, "-device", o);
	}
	if (vm->tpm_path || vm->tpm_emulator) {
		_cleanup_(freep) char *quoted = quote(vm->tpm_emulator ? run->directory : vm->tpm_path);

		if (vm->tpm_emulator) {
			add(a, "-chardev");
			addf(a, "socket,id=chrtpm,path=%s/tpm", quoted ? quoted : "");
		}
		add(a, "-tpmdev");
		if (vm->tpm_emulator)
			add(a, "emulator,id=tpm-tpm0,chardev=chrtpm");
		else
			addf(a, "passthrough,id=tpm-tpm0,path=%s", quoted ? quoted : "");
		o = device(vm->tpm_model, "tpm0");
		set_s(o, "tpmdev", "tpm-tpm0");
		add_json(a, "-device", o);
	}
	if (vm->balloon)
		add_json(a, "-device", device("virtio-balloon-pci", "balloon0"));
	if (vm->panic)
		add_json(a, "-device", device("pvpanic", "panic0"));
	if (vm->watchdog) {
		add_json(a, "-device", device(vm->watchdog, "watchdog0"));
		if (vm->watchdog_action) {
			add(a, "-action");
			addf(a, "watchdog=%s", vm->watchdog_action);
		}
	}
}

static void add_machine(struct args *a, const struct vm *vm, bool flash, bool vars)
{
	_cleanup_(freep) char *machine = quote(vm->machine);

	add(a, "-machine");
	addf(a, "%s,usb=off,dump-guest-core=off%s%s%s%s", machine ? machine : "", vm->acpi ? "" : ",acpi=off",
		vm->no_hpet ? ",hpet=off" : "", flash ? ",pflash0=flash0" : "", vars ? ",pflash1=flash1" : "");
	add(a, "-accel");
	add(a, vm->kvm ? "kvm" : "tcg");
	if (vm->cpu) {
		_cleanup_(freep) char *cpu = quote(vm->cpu);

		add(a, "-cpu");
		add(a, cpu ? cpu : "");
	}
	add(a, "-m");
	addf(a, "size=%lluk", (unsigned long long)((vm->memory + 1023) / 1024));
	add(a, "-smp");
	if (vm->sockets)
		addf(a, "%u,sockets=%u,cores=%u,threads=%u", vm->vcpus, vm->sockets, vm->cores, vm->threads);
	else
		addf(a, "%u", vm->vcpus);
}

static void add_behaviour(struct args *a, const struct vm *vm)
{
	const char *pm = is_q35(vm) ? "ICH9-LPC" : "PIIX4_PM";

	add(a, "-rtc");
	addf(a, "base=%s%s%s", vm->rtc, vm->rtc_drift ? ",driftfix=" : "", vm->rtc_drift ? vm->rtc_drift : "");
	if (vm->pit_policy) {
		add(a, "-global");
		addf(a, "kvm-pit.lost_tick_policy=%s", vm->pit_policy);
	}
	if (vm->suspend_to_mem >= 0) {
		add(a, "-global");
		addf(a, "%s.disable_s3=%d", pm, !vm->suspend_to_mem);
	}
	if (vm->suspend_to_disk >= 0) {
		add(a, "-global");
		addf(a, "%s.disable_s4=%d", pm, !vm->suspend_to_disk);
	}
	/* What restarts is paused first, and then reset by us: QEMU has no such action of its own. */
	add(a, "-action");
	addf(a, "shutdown=%s,reboot=%s,panic=%s", vm->on_poweroff == VM_DESTROY ? "poweroff" : "pause",
		vm->on_reboot == VM_RESTART ? "reset" : "shutdown", vm->on_crash == VM_DESTROY ? "shutdown" : "pause");
	add(a, "-boot");
	addf(a, "menu=%s%s%s", vm->boot_menu ? "on" : "off", vm->boot ? ",order=" : "", vm->boot ? vm->boot : "");
	if (vm->kernel) {
		add(a, "-kernel");
		add(a, vm->kernel);
	}
	if (vm->initrd) {
		add(a, "-initrd");
		add(a, vm->initrd);
	}
	if (vm->cmdline) {
		add(a, "-append");
		add(a, vm->cmdline);
	}
}

static int emulator_of(const struct vm *vm, char **ret, struct failure *f)
{
	if (vm->emulator)
		*ret = strdup(vm->emulator);
	else if (asprintf(ret, "/usr/bin/qemu-system-%s", strcmp(vm->arch, "i686") == 0 ? "i386" : vm->arch) < 0)
		*ret = NULL;
	if (!*ret)
		return -ENOMEM;
	if (access(*ret, X_OK) < 0) {
		int r = failure_set(f, VIREO_NOT_SUPPORTED, "The emulator %s cannot be run: %s", *ret, strerror(errno));

		free(TAKE(*ret));
		return r;
	}
	if (vm->kvm && access("/dev/kvm", R_OK | W_OK) < 0) {
		int r = failure_set(f, VIREO_NOT_SUPPORTED,
			"The domain is of type 'kvm', and /dev/kvm cannot be used: %s. Type 'qemu' needs no KVM.", strerror(errno));

		free(TAKE(*ret));
		return r;
	}
	return 0;
}

void vm_command_free(char **argv)
{
	for (char **s = argv; s && *s; s++)
		free(*s);
	free(argv);
}

char **vm_tpm_command(const struct vm *vm, int socket_fd)
{
	struct args a = {0};

	add(&a, "/usr/bin/swtpm");
	add(&a, "socket");
	add(&a, "--ctrl");
	addf(&a, "type=unixio,fd=%d", socket_fd);
	/* It ends when QEMU hangs up, however QEMU ends. */
	add(&a, "--terminate");
	if (!vm->tpm_old)
		add(&a, "--tpm2");
	if (a.failed) {
		vm_command_free(a.v);
		return NULL;
	}
	return a.v;
}

int vm_command(const struct vm *vm, const struct vm_run *run, char ***ret, struct failure *f)
{
	_cleanup_(freep) char *emulator = NULL, *code = NULL, *vars = NULL, *template = NULL, *name = quote(vm->name);
	char uuid[SD_ID128_UUID_STRING_MAX];
	unsigned n[3] = {0};
	struct args a = {0};
	bool flash;
	int r;

	r = emulator_of(vm, &emulator, f);
	if (r != 0)
		return r;
	r = vm_firmware(vm, run, &code, &vars, &template, f);
	if (r != 0)
		return r;
	flash = code && vm->efi;
	add(&a, emulator);
	add(&a, "-name");
	addf(&a, "guest=%s,debug-threads=on", name ? name : "");
	add(&a, "-uuid");
	add(&a, sd_id128_to_uuid_string(vm->uuid, uuid));
	/* Nothing of the machine's configuration, nothing by default: only what stands in the description. */
	add(&a, "-no-user-config");
	add(&a, "-nodefaults");
	add(&a, "-display");
	add(&a, "none");
	add(&a, "-S");
	add(&a, "-msg");
	add(&a, "timestamp=on");
	if (vm->n_interfaces == 0) {
		/* The helper of a bridge is the only program that a QEMU of ours ever has to start. */
		add(&a, "-sandbox");
		add(&a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	}
	add(&a, "-chardev");
	addf(&a, "socket,id=charmonitor,fd=%d,server=on,wait=off", run->monitor_fd);
	add(&a, "-mon");
	add(&a, "chardev=charmonitor,id=monitor,mode=control");
	add(&a, "-pidfile");
	addf(&a, "%s/pid", run->directory);
	if (run->incoming) {
		add(&a, "-incoming");
		add(&a, "defer");
	}
	if (flash)
		add_flash(&a, "flash0", code, true);
	else if (code) {
		add(&a, "-bios");
		add(&a, code);
	}
	if (vars)
		add_flash(&a, "flash1", vars, false);
	add_machine(&a, vm, flash, vars != NULL);
	add_behaviour(&a, vm);
	if (vm->usb)
		add_json(&a, "-device", device(vm->usb, "usb"));
	if (vm->scsi)
		add_json(&a, "-device", device("virtio-scsi-pci", "scsi0"));
	if (vm->virtio_serial)
		add_json(&a, "-device", device("virtio-serial-pci", "virtio-serial0"));
	if (!is_q35(vm))
		for (size_t i = 0; i < vm->n_disks; i++)
			if (vm->disks[i].bus == VM_BUS_SATA) {
				add_json(&a, "-device", device("ich9-ahci", "sata0"));
				break;
			}
	/* A PC of the older kind has one by itself. */
	if (is_q35(vm))
		for (size_t i = 0; i < vm->n_disks; i++)
			if (vm->disks[i].bus == VM_BUS_FDC) {
				add_json(&a, "-device", device("isa-fdc", "fdc0"));
				break;
			}
	for (size_t i = 0; i < vm->n_disks; i++)
		add_disk(&a, vm, &vm->disks[i]);
	for (size_t i = 0; i < vm->n_interfaces; i++)
		add_interface(&a, &vm->interfaces[i], i);
	for (size_t i = 0; i < vm->n_chars; i++)
		add_char(&a, run, &vm->chars[i], n);
	for (size_t i = 0; i < vm->n_graphics; i++)
		add_graphics(&a, run, &vm->graphics[i]);
	if (vm->video)
		add_json(&a, "-device", device(vm->video, "video0"));
	add_small_devices(&a, vm, run);
	if (a.failed || !name) {
		vm_command_free(a.v);
		return -ENOMEM;
	}
	*ret = a.v;
	return 0;
}
