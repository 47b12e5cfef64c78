/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <systemd/sd-id128.h>

#include "util/error.h"

/*
 * A domain's description, understood: the part of libvirt's domain XML that this driver can carry out. What it
 * does not understand is refused by element, attribute and line; nothing is ignored but <metadata>, comments and
 * what says only where libvirt had put things (<address>, <alias>).
 */

#define VM_DEVICES_MAX 64

enum vm_action { VM_DESTROY, VM_RESTART, VM_PRESERVE };

enum vm_bus { VM_BUS_VIRTIO, VM_BUS_IDE, VM_BUS_SATA, VM_BUS_SCSI, VM_BUS_USB, VM_BUS_FDC };

enum vm_disk_device { VM_DISK, VM_CDROM, VM_FLOPPY };

/* Strings are borrowed from the vm. */
struct vm_disk {
	enum vm_disk_device device;
	bool block;	    /* a host device, not a file */
	const char *source; /* NULL: an empty drive */
	const char *format; /* "raw" "qcow2" */
	const char *target; /* "vda" */
	enum vm_bus bus;
	const char *cache, *io, *discard, *error_policy, *serial; /* NULL: QEMU's own choice */
	bool readonly, shareable;
	unsigned boot; /* order; 0: none */
};

enum vm_net { VM_NET_USER, VM_NET_BRIDGE, VM_NET_TAP };

struct vm_interface {
	enum vm_net type;
	const char *mac, *model, *source, *target;
	unsigned boot;
};

enum vm_char_use { VM_SERIAL, VM_CONSOLE, VM_CHANNEL };
enum vm_char_type { VM_CHAR_PTY, VM_CHAR_UNIX, VM_CHAR_FILE, VM_CHAR_NULL };

struct vm_char {
	enum vm_char_use use;
	enum vm_char_type type;
	const char *path;
	const char *name; /* of a channel */
	bool append;
};

struct vm_graphics {
	bool spice;
	const char *socket;
};

struct vm_input {
	const char *type, *bus;
};

struct vm {
	char **strings; /* all that the others borrow */
	size_t n_strings;

	bool kvm;
	char *name; /* own: it can be given anew */
	sd_id128_t uuid;
	const char *title, *description;
	uint64_t memory, current_memory; /* bytes */
	unsigned vcpus, sockets, cores, threads;
	const char *arch, *machine, *emulator;
	bool efi;
	const char *loader, *nvram, *nvram_template;
	bool loader_readonly;
	const char *kernel, *initrd, *cmdline;
	const char *boot; /* QEMU's letters: "cdn"; NULL */
	bool boot_menu;
	bool acpi;
	const char *cpu; /* value of -cpu; NULL: QEMU's own choice */
	const char *rtc; /* "utc" "localtime" */
	const char *rtc_drift, *pit_policy;
	bool no_hpet;
	enum vm_action on_poweroff, on_reboot, on_crash;
	int suspend_to_mem, suspend_to_disk; /* -1: QEMU's own choice */

	struct vm_disk disks[VM_DEVICES_MAX];
	size_t n_disks;
	struct vm_interface interfaces[VM_DEVICES_MAX];
	size_t n_interfaces;
	struct vm_char chars[VM_DEVICES_MAX];
	size_t n_chars;
	struct vm_graphics graphics[4];
	size_t n_graphics;
	struct vm_input inputs[8];
	size_t n_inputs;
	const char *video; /* QEMU's device; NULL: none */
	const char *usb;   /* QEMU's controller; NULL: none */
	bool scsi, virtio_serial, balloon, panic;
	const char *rng;  /* path; NULL: none */
	const char *tpm_path, *tpm_model;
	bool tpm_emulator, tpm_old; /* swtpm; version 1.2 */
	const char *watchdog, *watchdog_action;
};

/*
 * vm_parse() - understand a description
 * @ret_text: the same document, with a UUID in it where there was none; owned. May be NULL
 *
 * Return: 0; VIREO_INVALID_XML, with the line; -ENOMEM.
 */
int vm_parse(const char *xml, struct vm **ret, char **ret_text, struct failure *f);
void vm_free(struct vm *vm);
DEFINE_CLEANUP(struct vm *, vm_free)

/* The same description under another name, or with other memory or vCPUs (0: as it is). Owned; NULL: no memory. */
char *vm_text_change(const char *xml, const char *name, uint64_t memory, uint64_t current_memory, unsigned vcpus);

/* The same with another file behind one disk. */
char *vm_text_set_source(const char *xml, const char *target, const char *file);

/*
 * Where a run keeps its own things. Descriptors are numbers that the process will have.
 */
struct vm_run {
	const char *directory; /* pid file, consoles, firmware variables */
	int monitor_fd;
	bool incoming; /* wait for migrate-incoming */
};

/*
 * vm_firmware() - which firmware a domain starts with
 * @ret_code:	  NULL: QEMU's own
 * @ret_vars:	  where its variables are kept; NULL: it has none
 * @ret_template: what they begin with; NULL with a @ret_vars that must be there
 * All owned. Return: 0; VIREO_NOT_SUPPORTED when there is none; -ENOMEM.
 */
int vm_firmware(const struct vm *vm, const struct vm_run *run, char **ret_code, char **ret_vars, char **ret_template,
		struct failure *f);

/*
 * vm_command() - the command line, as a vector: no shell, and every string quoted as QEMU wants it
 * Return: 0 and a NULL-terminated vector, owned (vm_command_free()); VIREO_NOT_SUPPORTED for what this machine lacks;
 * -ENOMEM.
 */
int vm_command(const struct vm *vm, const struct vm_run *run, char ***ret, struct failure *f);
void vm_command_free(char **argv);
/* The program that is the TPM, with its socket at that descriptor; its state is where the variable TPM_PATH says. */
char **vm_tpm_command(const struct vm *vm, int socket_fd);

/* xml.c: shared by domains, pools and volumes. */
typedef struct _xmlDoc xmlDoc;
typedef struct _xmlNode xmlNode;
/* No network, no entities, no document type. 0; VIREO_INVALID_XML with the line; -ENOMEM. @root: name it must have. */
int xml_parse(const char *xml, const char *root, xmlDoc **ret, struct failure *f);
/* "line 5: <disk>: …"; returns VIREO_INVALID_XML. */
int xml_refuse(struct failure *f, xmlNode *node, const char *format, ...) _printf_(3, 4);
/* Refuses an attribute that is not among the words. @words: "type device" */
int xml_check_attributes(struct failure *f, xmlNode *node, const char *words);
/* Owned; NULL when there is none. */
char *xml_attribute(xmlNode *node, const char *name);
char *xml_content(xmlNode *node); /* without white space around it */
bool xml_is(xmlNode *node, const char *name);
/* Element children: for (n = xml_first(node); n; n = xml_next(n)) */
xmlNode *xml_first(xmlNode *node);
xmlNode *xml_next(xmlNode *node);
/* Bytes by value and unit ("KiB" …). */
int xml_size(struct failure *f, xmlNode *node, const char *default_unit, uint64_t *ret);
int xml_number(struct failure *f, xmlNode *node, const char *what, const char *text, uint64_t max, uint64_t *ret);
char *xml_dump(xmlDoc *doc); /* owned; of the root element */
