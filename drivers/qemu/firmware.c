/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

/* Which firmware a domain starts with, and where that keeps its variables. */

int vm_firmware(const struct vm *vm, const struct vm_run *run, char **ret_code, char **ret_vars, char **ret_template,
		struct failure *f)
{
	static const struct {
		const char *code, *vars;
	} known[] = {
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
	};
	const char *code = vm->loader, *template = vm->nvram_template;

	*ret_code = *ret_vars = *ret_template = NULL;
	if (!vm->efi) {
		if (code && !(*ret_code = strdup(code)))
			return -ENOMEM;
		return 0;
	}
	for (size_t i = 0; i < ELEMENTS(known); i++)
		if (code ? strcmp(code, known[i].code) == 0 : access(known[i].code, R_OK) == 0) {
			code = known[i].code;
			template = template ? template : known[i].vars;
			break;
		}
	if (!code)
		return failure_set(f, VIREO_NOT_SUPPORTED, "There is no EFI firmware on this machine (package ovmf); %s was tried first.",
			known[0].code);
	*ret_code = strdup(code);
	if (vm->nvram)
		*ret_vars = strdup(vm->nvram);
	else if (asprintf(ret_vars, "%s/nvram.fd", run->directory) < 0)
		*ret_vars = NULL;
	*ret_template = template ? strdup(template) : NULL;
	if (!*ret_code || !*ret_vars || (template && !*ret_template)) {
		free(TAKE(*ret_code));
		free(TAKE(*ret_vars));
		free(TAKE(*ret_template));
		return -ENOMEM;
	}
	return 0;
}
