/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/qemu/vm.h"
#include "fuzz.h"
#include "util/utf8.h"

/*
 * A description of anybody's to QEMU's command line: it is refused with a reason that says where, or it gives a vector in
 * which nothing of the description's can become an option of its own.
 */

#define ENSURE(what)                                                                                         \
	do {                                                                                                 \
		if (!(what))                                                                                 \
			abort();                                                                             \
	} while (0)

/* Every option that the driver may ever give, and whether a value follows. */
static const struct option {
	const char *name;
	bool value, json;
} options[] = {
	{"-name", true},	 {"-uuid", true},	{"-no-user-config", false}, {"-nodefaults", false},
	{"-display", true},	 {"-S", false},		{"-msg", true},		    {"-sandbox", true},
	{"-chardev", true},	 {"-mon", true},	{"-pidfile", true},	    {"-incoming", true},
	{"-bios", true},	 {"-machine", true},	{"-accel", true},	    {"-cpu", true},
	{"-m", true},		 {"-smp", true},	{"-rtc", true},		    {"-global", true},
	{"-action", true},	 {"-boot", true},	{"-kernel", true},	    {"-initrd", true},
	{"-append", true},	 {"-vnc", true},	{"-spice", true},	    {"-tpmdev", true},
	{"-blockdev", true, true}, {"-device", true, true}, {"-netdev", true, true}, {"-object", true, true},
};

/* The value of the first key, as QEMU takes it apart: a doubled comma is one. Owned. */
static char *first_value(const char *list, const char *key)
{
	size_t n = strlen(key), out = 0;
	char *value;

	ENSURE(strncmp(list, key, n) == 0);
	list += n;
	value = malloc(strlen(list) + 1);
	ENSURE(value);
	for (; *list; list++) {
		if (*list == ',' && *++list != ',')
			break;
		value[out++] = *list;
	}
	value[out] = 0;
	return value;
}

static void judge(const struct vm *vm, char **argv)
{
	ENSURE(argv[0][0] == '/');
	for (size_t i = 1; argv[i]; i++) {
		const struct option *o = NULL;

		for (size_t k = 0; k < ELEMENTS(options); k++)
			if (strcmp(argv[i], options[k].name) == 0)
				o = &options[k];
		/* Whatever stands where an option stands is one of ours. */
		ENSURE(o);
		if (!o->value)
			continue;
		ENSURE(argv[++i]);
		if (o->json) {
			struct json_object *j = json_tokener_parse(argv[i]);

			ENSURE(json_object_is_type(j, json_type_object));
			json_object_put(j);
		}
		if (strcmp(o->name, "-name") == 0) {
			char *name = first_value(argv[i], "guest=");

			ENSURE(strcmp(name, vm->name) == 0);
			free(name);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *xml = malloc(size + 1), *text = NULL, *again = NULL, **argv = NULL;
	struct vm *vm = NULL, *same = NULL;
	struct failure f = {0};
	struct vm_run run = {.directory = "/run/a, b=c", .monitor_fd = 3, .incoming = size % 2};
	int r;

	ENSURE(xml);
	memcpy(xml, data, size);
	xml[size] = 0;
	r = vm_parse(xml, &vm, &text, &f);
	if (r != 0) {
		ENSURE(r == VIREO_INVALID_XML && f.error == VIREO_INVALID_XML);
		ENSURE(f.message && f.message[0] && utf8_is_valid(f.message));
		failure_clear(&f);
		free(xml);
		return 0;
	}
	/* What was understood, and written down, is understood again, as the same. */
	ENSURE(vm_parse(text, &same, &again, &f) == 0);
	ENSURE(strcmp(text, again) == 0 && sd_id128_equal(vm->uuid, same->uuid) && strcmp(vm->name, same->name) == 0);
	ENSURE(vm->memory == same->memory && vm->n_disks == same->n_disks && vm->vcpus == same->vcpus);
	/* The emulator need not be there; it is not started. */
	vm->emulator = "/bin/sh";
	vm->kvm = false;
	if (vm->cpu && strcmp(vm->cpu, "host") == 0)
		vm->cpu = NULL;
	r = vm_command(vm, &run, &argv, &f);
	if (r == 0)
		judge(vm, argv);
	else
		ENSURE(r == VIREO_NOT_SUPPORTED && f.message && utf8_is_valid(f.message));
	failure_clear(&f);
	vm_command_free(argv);
	vm_free(vm);
	vm_free(same);
	free(xml);
	free(text);
	free(again);
	return 0;
}
