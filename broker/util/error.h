/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macros.h"

/*
 * Errors that a client can meet. A function that can fail for a reason a client would want to know returns
 * 0 or a positive enum vireo_error and fills a struct failure; a negative errno is for what only the
 * operator of the service can mend (no memory, no descriptor).
 */
enum vireo_error {
	VIREO_OK = 0,
	VIREO_NOT_FOUND,
	VIREO_AMBIGUOUS,
	VIREO_ALREADY_EXISTS,
	VIREO_INVALID_STATE,
	VIREO_BUSY,
	VIREO_NOT_SUPPORTED,
	VIREO_INVALID_XML,
	VIREO_INVALID_URI,
	VIREO_INVALID_OPTION,
	VIREO_VERSION_MISMATCH,
	VIREO_GONE,
	VIREO_EPOCH_CHANGED,
	VIREO_FUTURE_VERSION,
	VIREO_ACCESS_CHANGED,
	VIREO_DISCONNECTED,
	VIREO_TIMEOUT,
	VIREO_OPERATION_FAILED,
	VIREO_NOT_CANCELLABLE,
	VIREO_OUTCOME_UNKNOWN,
	VIREO_LIMITS_EXCEEDED,
	VIREO_ACCESS_DENIED,		    /* org.freedesktop.DBus.Error.AccessDenied */
	VIREO_INTERACTIVE_AUTH_REQUIRED,    /* org.freedesktop.DBus.Error.InteractiveAuthorizationRequired */
	VIREO_INVALID_ARGS,		    /* org.freedesktop.DBus.Error.InvalidArgs */
	VIREO_NO_MEMORY,		    /* org.freedesktop.DBus.Error.NoMemory */
	VIREO_CANCELLED,		    /* only inside: how a cancelled operation ends */
	VIREO_ERROR_MAX
};

/* Full D-Bus error name of @error, static. VIREO_OK and VIREO_CANCELLED have none: OperationFailed's. */
const char *vireo_error_name(enum vireo_error error);

/* The reverse; VIREO_OPERATION_FAILED for a name that is not ours. */
enum vireo_error vireo_error_from_name(const char *name);

/* One failure: its name and a sentence for a human being, valid UTF-8. Zero-initialised: no failure. */
struct failure {
	enum vireo_error error;
	char *message; /* owned */
};

void failure_clear(struct failure *f);

/*
 * failure_set() - say what went wrong
 * @f: where to; NULL is allowed and then only @error is returned. An earlier content is replaced.
 *
 * The text is made valid UTF-8. Return: @error, so that one can write "return failure_set(...)".
 */
int failure_set(struct failure *f, enum vireo_error error, const char *format, ...) _printf_(3, 4);
