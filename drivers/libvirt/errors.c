/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "errors.h"

#include <errno.h>
#include <string.h>

#include "util/utf8.h"

static bool says(const virError *e, const char *words)
{
	return e->message && strstr(e->message, words);
}

enum vireo_error lv_error_map(const virError *e)
{
	if (!e)
		return VIREO_OPERATION_FAILED;
	switch ((virErrorNumber)e->code) {
	case VIR_ERR_OK:
		return VIREO_OPERATION_FAILED;
	case VIR_ERR_NO_MEMORY:
		return VIREO_NO_MEMORY;
	case VIR_ERR_NO_SUPPORT:
	case VIR_ERR_OPERATION_UNSUPPORTED:
	case VIR_ERR_ARGUMENT_UNSUPPORTED:
	case VIR_ERR_CONFIG_UNSUPPORTED:
		return VIREO_NOT_SUPPORTED;
	case VIR_ERR_NO_CONNECT:
	case VIR_ERR_INVALID_CONN:
	case VIR_ERR_RPC:
	case VIR_ERR_LIBSSH:
	case VIR_ERR_SSH:
		return VIREO_DISCONNECTED;
	case VIR_ERR_SYSTEM_ERROR:
	case VIR_ERR_INTERNAL_ERROR:
		/* The wire's own failures; a system error of the hypervisor's has another domain. */
		if (e->domain == VIR_FROM_RPC || e->domain == VIR_FROM_REMOTE)
			return VIREO_DISCONNECTED;
		/* the test driver has no code for it: "is already running", "domain 'x' not running", "… not paused" */
		if (e->domain == VIR_FROM_TEST && (says(e, "running") || says(e, "not paused")))
			return VIREO_INVALID_STATE;
		/* nor has cloning for the name of a volume */
		return e->domain == VIR_FROM_STORAGE && says(e, "already in use") ? VIREO_ALREADY_EXISTS : VIREO_OPERATION_FAILED;
	case VIR_ERR_NO_DOMAIN:
	case VIR_ERR_NO_NETWORK:
	case VIR_ERR_NO_STORAGE_POOL:
	case VIR_ERR_NO_STORAGE_VOL:
	case VIR_ERR_NO_DOMAIN_SNAPSHOT:
	case VIR_ERR_NO_DOMAIN_METADATA:
	case VIR_ERR_NO_DOMAIN_CHECKPOINT:
	case VIR_ERR_DEVICE_MISSING:
		return VIREO_NOT_FOUND;
	case VIR_ERR_DOM_EXIST:
	case VIR_ERR_NETWORK_EXIST:
	case VIR_ERR_STORAGE_VOL_EXIST:
		return VIREO_ALREADY_EXISTS;
	case VIR_ERR_OPERATION_INVALID:
		/* so it answers a new name that is taken */
		return says(e, "already exists") ? VIREO_ALREADY_EXISTS : VIREO_INVALID_STATE;
	case VIR_ERR_NO_NAME:
	case VIR_ERR_NO_OS:
	case VIR_ERR_NO_ROOT:
	case VIR_ERR_NO_SOURCE:
	case VIR_ERR_NO_TARGET:
	case VIR_ERR_XML_ERROR:
	case VIR_ERR_XML_DETAIL:
	case VIR_ERR_XML_INVALID_SCHEMA:
		return VIREO_INVALID_XML;
	case VIR_ERR_INVALID_ARG:
		/* "disk 'x' not found in domain" */
		return says(e, "not found in domain") ? VIREO_NOT_FOUND : VIREO_INVALID_ARGS;
	case VIR_ERR_OPERATION_TIMEOUT:
	case VIR_ERR_AGENT_UNRESPONSIVE:
		return VIREO_TIMEOUT;
	case VIR_ERR_OPERATION_ABORTED:
		return VIREO_CANCELLED;
	case VIR_ERR_RESOURCE_BUSY:
	case VIR_ERR_BLOCK_COPY_ACTIVE:
		return VIREO_INVALID_STATE;
	case VIR_ERR_OPERATION_FAILED:
		/* There is no code for a name or UUID that is taken when it is defined, nor has the test driver one for a volume's. */
		return says(e, "already exists with uuid") || says(e, "is already defined with uuid") ||
				       says(e, "storage vol already exists") ?
			       VIREO_ALREADY_EXISTS :
			       VIREO_OPERATION_FAILED;
	default:
		return VIREO_OPERATION_FAILED;
	}
}

char *lv_error_text(void)
{
	char *text = utf8_dup(virGetLastErrorMessage());
	size_t n;

	if (!text)
		return NULL;
	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	n = strlen(text);
	while (n > 0 && text[n - 1] == ' ')
		text[--n] = '\0';
	return text;
}

int lv_failure(struct failure *f)
{
	virErrorPtr e = virGetLastError();
	_cleanup_(freep) char *text = lv_error_text();
	enum vireo_error error = lv_error_map(e);

	return failure_set(f, error, "%s (libvirt domain %d code %d)", text ? text : "no memory", e ? e->domain : 0,
			   e ? e->code : 0);
}

bool lv_error_is_gone(enum kind kind)
{
	int code = virGetLastErrorCode();

	switch (kind) {
	case KIND_DOMAIN:
		return code == VIR_ERR_NO_DOMAIN;
	case KIND_POOL:
		return code == VIR_ERR_NO_STORAGE_POOL;
	case KIND_NETWORK:
		return code == VIR_ERR_NO_NETWORK;
	default:
		return false;
	}
}

bool lv_error_is_no_file(void)
{
	const virError *e = virGetLastError();

	/* libvirt puts errno there, on the wire too */
	return e && e->code == VIR_ERR_SYSTEM_ERROR && e->int1 == ENOENT;
}

bool lv_error_is_unsupported(void)
{
	return virGetLastErrorCode() == VIR_ERR_NO_SUPPORT;
}
