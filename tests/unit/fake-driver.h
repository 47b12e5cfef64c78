/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drivers/host.h"

/*
 * A driver that does nothing by itself: the test says what it reports, and sees what it was asked. Its URIs are
 * "fake:///NAME".
 */
struct driver_connection {
	struct driver_host *host;
	char *uri;
	bool closed;
	uint64_t list_serial;	     /* of the last list(); 0: none since the test cleared it */
	unsigned lists;
	struct {
		enum kind kind;
		sd_id128_t uuid;
		uint64_t serial;
	} look;			     /* the last */
	unsigned looks;
	struct request *request;     /* the last operate() */
	uint64_t cancelled;	     /* token of the last cancel() */
	uint64_t completed;	     /* likewise, complete() */
};

extern struct driver fake_driver;
/* The connection opened last; NULL after close. */
extern struct driver_connection *fake;
extern unsigned fake_opens;

void fake_hello(void);
void fake_goodbye(const char *why);
/* A report about a domain; what it looks like is made with fake_seen(), and taken. */
void fake_report(const char *uuid, enum cause cause, const char *reason, int run, enum look look, bool settled,
		 uint64_t listing, struct seen *seen);
struct seen *fake_seen(const char *name, bool persistent, int id); /* id > 0: running */
void fake_other(const char *uuid, const char *event, enum look look, struct seen *seen);
void fake_listed(bool complete);
void fake_foreign(uint64_t number, const char *uuid, enum operation op, const char *subject, bool ended,
		  enum vireo_error error);
void fake_progress(uint64_t token, uint64_t done, uint64_t total, bool ready);
void fake_result(uint64_t token, enum vireo_error error, const char *message);
