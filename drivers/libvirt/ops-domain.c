/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ops.h"

#include <limits.h>
#include <string.h>

#include "errors.h"

/* What is done with domains in one call. */

static int define(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {{"validate", VIR_DOMAIN_DEFINE_VALIDATE}, {0}};

	return lv_result_object(op, KIND_DOMAIN, virDomainDefineXMLFlags(op->c->ops, op->r->text, lv_flags(op, flags)), f);
}

static int create(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"paused", VIR_DOMAIN_START_PAUSED},
		{"validate", VIR_DOMAIN_START_VALIDATE},
		{"reset-nvram", VIR_DOMAIN_START_RESET_NVRAM},
		{0},
	};

	return lv_result_object(op, KIND_DOMAIN, virDomainCreateXML(op->c->ops, op->r->text, lv_flags(op, flags)), f);
}

static int start(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"paused", VIR_DOMAIN_START_PAUSED},
		{"bypass-cache", VIR_DOMAIN_START_BYPASS_CACHE},
		{"force-boot", VIR_DOMAIN_START_FORCE_BOOT},
		{"reset-nvram", VIR_DOMAIN_START_RESET_NVRAM},
		{0},
	};
	unsigned flags = lv_flags(op, table);

	/* Without flags by the older call, which more hypervisors have. */
	return lv_result(flags ? virDomainCreateWithFlags(op->handle, flags) : virDomainCreate(op->handle), f);
}

/* Option mode: words to flags. */
static int read_mode(const struct lv_op *op, const struct lv_flag *table, unsigned *ret, struct failure *f)
{
	const struct vdict_item *mode = vdict_get(op->r->options, "mode");

	*ret = 0;
	for (char **word = mode && mode->type == 'a' ? mode->a : (char *[]){NULL}; *word; word++) {
		const struct lv_flag *t = table;

		while (t->option && strcmp(t->option, *word) != 0)
			t++;
		if (!t->option)
			return failure_set(f, VIREO_INVALID_OPTION,
					   "Option mode: there is no '%s'; there are acpi, agent, initctl, signal and paravirt.",
					   *word);
		*ret |= t->flag;
	}
	return 0;
}

static int shut_down(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"acpi", VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN}, {"agent", VIR_DOMAIN_SHUTDOWN_GUEST_AGENT},
		{"initctl", VIR_DOMAIN_SHUTDOWN_INITCTL},     {"signal", VIR_DOMAIN_SHUTDOWN_SIGNAL},
		{"paravirt", VIR_DOMAIN_SHUTDOWN_PARAVIRT},   {0},
	};
	unsigned flags;
	int r = read_mode(op, table, &flags, f);

	if (r != 0)
		return r;
	return lv_result(flags ? virDomainShutdownFlags(op->handle, flags) : virDomainShutdown(op->handle), f);
}

static int reboot(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"acpi", VIR_DOMAIN_REBOOT_ACPI_POWER_BTN}, {"agent", VIR_DOMAIN_REBOOT_GUEST_AGENT},
		{"initctl", VIR_DOMAIN_REBOOT_INITCTL},     {"signal", VIR_DOMAIN_REBOOT_SIGNAL},
		{"paravirt", VIR_DOMAIN_REBOOT_PARAVIRT},   {0},
	};
	unsigned flags;
	int r = read_mode(op, table, &flags, f);

	return r != 0 ? r : lv_result(virDomainReboot(op->handle, flags), f);
}

static int reset(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainReset(op->handle, 0), f);
}

static int destroy(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"graceful", VIR_DOMAIN_DESTROY_GRACEFUL},
		{"remove-logs", VIR_DOMAIN_DESTROY_REMOVE_LOGS},
		{0},
	};
	unsigned flags = lv_flags(op, table);

	return lv_result(flags ? virDomainDestroyFlags(op->handle, flags) : virDomainDestroy(op->handle), f);
}

static int suspend(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainSuspend(op->handle), f);
}

static int resume(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainResume(op->handle), f);
}

static int pm_wakeup(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainPMWakeup(op->handle, 0), f);
}

static int managed_save_remove(struct lv_op *op, struct failure *f)
{
	/* Some say nothing when there is none, some that a file of theirs is missing. */
	if (virDomainHasManagedSaveImage(op->handle, 0) == 0)
		return failure_set(f, VIREO_INVALID_STATE, "Domain '%s' has no managed save.", op->r->name);
	return lv_result(virDomainManagedSaveRemove(op->handle, 0), f);
}

static int undefine(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag table[] = {
		{"managed-save", VIR_DOMAIN_UNDEFINE_MANAGED_SAVE},
		{"snapshots-metadata", VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA},
		{"checkpoints-metadata", VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA},
		{"nvram", VIR_DOMAIN_UNDEFINE_NVRAM},
		{"keep-nvram", VIR_DOMAIN_UNDEFINE_KEEP_NVRAM},
		{"tpm", VIR_DOMAIN_UNDEFINE_TPM},
		{"keep-tpm", VIR_DOMAIN_UNDEFINE_KEEP_TPM},
		{0},
	};
	unsigned flags = lv_flags(op, table);

	return lv_result(flags ? virDomainUndefineFlags(op->handle, flags) : virDomainUndefine(op->handle), f);
}

static int set_autostart(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainSetAutostart(op->handle, op->r->flag), f);
}

static int change_name(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainRename(op->handle, op->r->text, 0), f);
}

static int set_memory(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"live", VIR_DOMAIN_AFFECT_LIVE},
		{"config", VIR_DOMAIN_AFFECT_CONFIG},
		{"maximum", VIR_DOMAIN_MEM_MAXIMUM},
		{0},
	};
	uint64_t bytes = op->r->number;

	if (bytes == 0 || bytes % 1024 != 0 || bytes / 1024 > ULONG_MAX)
		return failure_set(f, VIREO_INVALID_ARGS, "Memory is given in bytes, as a multiple of 1024 greater than 0; it was %llu.",
				   (unsigned long long)bytes);
	return lv_result(virDomainSetMemoryFlags(op->handle, (unsigned long)(bytes / 1024), lv_flags(op, flags)), f);
}

static int set_vcpus(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"live", VIR_DOMAIN_AFFECT_LIVE},
		{"config", VIR_DOMAIN_AFFECT_CONFIG},
		{"maximum", VIR_DOMAIN_VCPU_MAXIMUM},
		{"guest", VIR_DOMAIN_VCPU_GUEST},
		{"hotpluggable", VIR_DOMAIN_VCPU_HOTPLUGGABLE},
		{0},
	};

	if (op->r->number == 0 || op->r->number > UINT_MAX)
		return failure_set(f, VIREO_INVALID_ARGS, "A domain cannot have %llu virtual CPUs.",
				   (unsigned long long)op->r->number);
	return lv_result(virDomainSetVcpusFlags(op->handle, (unsigned)op->r->number, lv_flags(op, flags)), f);
}

static const struct lv_flag device_flags[] = {
	{"live", VIR_DOMAIN_DEVICE_MODIFY_LIVE},
	{"config", VIR_DOMAIN_DEVICE_MODIFY_CONFIG},
	{"force", VIR_DOMAIN_DEVICE_MODIFY_FORCE},
	{0},
};

static int attach(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainAttachDeviceFlags(op->handle, op->r->text, lv_flags(op, device_flags)), f);
}

static int detach(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainDetachDeviceFlags(op->handle, op->r->text, lv_flags(op, device_flags)), f);
}

static int update(struct lv_op *op, struct failure *f)
{
	return lv_result(virDomainUpdateDeviceFlags(op->handle, op->r->text, lv_flags(op, device_flags)), f);
}

static int get_xml(struct lv_op *op, struct failure *f)
{
	static const struct lv_flag flags[] = {
		{"inactive", VIR_DOMAIN_XML_INACTIVE},
		{"secure", VIR_DOMAIN_XML_SECURE},
		{0},
	};

	return lv_result_text(op, virDomainGetXMLDesc(op->handle, lv_flags(op, flags)), f);
}

const struct lv_handler lv_domain_handlers[OP_MAX] = {
	[OP_DEFINE_DOMAIN] = {define, "domain"},
	[OP_CREATE_DOMAIN] = {create, "domain"},
	[OP_DOMAIN_START] = {start},
	[OP_DOMAIN_SHUTDOWN] = {shut_down},
	[OP_DOMAIN_REBOOT] = {reboot},
	[OP_DOMAIN_RESET] = {reset},
	[OP_DOMAIN_DESTROY] = {destroy},
	[OP_DOMAIN_SUSPEND] = {suspend},
	[OP_DOMAIN_RESUME] = {resume},
	[OP_DOMAIN_PMWAKEUP] = {pm_wakeup},
	[OP_DOMAIN_MANAGED_SAVE_REMOVE] = {managed_save_remove},
	[OP_DOMAIN_UNDEFINE] = {undefine},
	[OP_DOMAIN_SET_AUTOSTART] = {set_autostart},
	[OP_DOMAIN_RENAME] = {change_name},
	[OP_DOMAIN_SET_MEMORY] = {set_memory},
	[OP_DOMAIN_SET_VCPUS] = {set_vcpus},
	[OP_DOMAIN_ATTACH_DEVICE] = {attach, ""},
	[OP_DOMAIN_DETACH_DEVICE] = {detach, ""},
	[OP_DOMAIN_UPDATE_DEVICE] = {update, ""},
	[OP_DOMAIN_GET_XML] = {get_xml},
};
