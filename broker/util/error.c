/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

#define OURS "org.vireo1.Error."
#define BUS "org.freedesktop.DBus.Error."

static const char *const names[] = {
	[VIREO_OK] = OURS "OperationFailed",
	[VIREO_NOT_FOUND] = OURS "NotFound",
	[VIREO_AMBIGUOUS] = OURS "Ambiguous",
	[VIREO_ALREADY_EXISTS] = OURS "AlreadyExists",
	[VIREO_INVALID_STATE] = OURS "InvalidState",
	[VIREO_BUSY] = OURS "Busy",
	[VIREO_NOT_SUPPORTED] = OURS "NotSupported",
	[VIREO_INVALID_XML] = OURS "InvalidXML",
	[VIREO_INVALID_URI] = OURS "InvalidURI",
	[VIREO_INVALID_OPTION] = OURS "InvalidOption",
	[VIREO_VERSION_MISMATCH] = OURS "VersionMismatch",
	[VIREO_GONE] = OURS "Gone",
	[VIREO_EPOCH_CHANGED] = OURS "EpochChanged",
	[VIREO_FUTURE_VERSION] = OURS "FutureVersion",
	[VIREO_ACCESS_CHANGED] = OURS "AccessChanged",
	[VIREO_DISCONNECTED] = OURS "Disconnected",
	[VIREO_TIMEOUT] = OURS "Timeout",
	[VIREO_OPERATION_FAILED] = OURS "OperationFailed",
	[VIREO_NOT_CANCELLABLE] = OURS "NotCancellable",
	[VIREO_OUTCOME_UNKNOWN] = OURS "OutcomeUnknown",
	[VIREO_LIMITS_EXCEEDED] = OURS "LimitsExceeded",
	[VIREO_ACCESS_DENIED] = BUS "AccessDenied",
	[VIREO_INTERACTIVE_AUTH_REQUIRED] = BUS "InteractiveAuthorizationRequired",
	[VIREO_INVALID_ARGS] = BUS "InvalidArgs",
	[VIREO_NO_MEMORY] = BUS "NoMemory",
	[VIREO_CANCELLED] = OURS "OperationFailed",
};
static_assert(ELEMENTS(names) == VIREO_ERROR_MAX, "an error without a name");

const char *vireo_error_name(enum vireo_error error)
{
	return (unsigned)error < VIREO_ERROR_MAX ? names[error] : names[VIREO_OPERATION_FAILED];
}

enum vireo_error vireo_error_from_name(const char *name)
{
	for (unsigned i = VIREO_OK + 1; name && i < VIREO_ERROR_MAX; i++)
		if (strcmp(names[i], name) == 0)
			return (enum vireo_error)i;
	return VIREO_OPERATION_FAILED;
}

void failure_clear(struct failure *f)
{
	free(f->message);
	*f = (struct failure){0};
}

int failure_set(struct failure *f, enum vireo_error error, const char *format, ...)
{
	va_list ap;
	char *raw = NULL;

	if (!f)
		return (int)error;
	va_start(ap, format);
	if (vasprintf(&raw, format, ap) < 0)
		raw = NULL;
	va_end(ap);
	/* The old message may be among the arguments, so it goes only now. */
	failure_clear(f);
	f->error = error;
	f->message = raw ? utf8_dup(raw) : NULL;
	free(raw);
	return (int)error;
}
