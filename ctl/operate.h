/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "objects.h"

/* The verbs that change something. */

/* What a call has begun. */
struct begun {
	char *object, *job; /* paths; NULL: not known, none */
	const char *name;   /* what the user calls it; borrowed */
	char *own_name;	    /* owned; what it calls itself */
	uint64_t version;   /* at which the effect is visible; 0: not yet */
};

/* What a user can have instead of waiting. */
bool wants_no_wait(const struct ctl *c);

/* Append the method's options: those given, and what every changing method takes. A negative errno, or an exit status. */
int append_options(struct ctl *c, sd_bus_message *m, bool async, const char *fixed);
/* The text of a file with XML, or of standard input for "-"; owned by the caller. */
int read_text_file(const char *path, char **ret);
/* An absolute path for the hypervisor; owned by the caller. */
int absolute_path(const char *path, char **ret);

int operate(struct ctl *c, const struct verb *v, char **args, int n);
/* The same, of a message that is complete but for its options. @v says what it is called. */
int operate_message(struct ctl *c, const struct verb *v, sd_bus_message *m, const char *name);
/* Say what became of it. */
int say_done(struct ctl *c, const char *done, const struct begun *b, const char *state);

int verb_blockcopy(struct ctl *c, const struct verb *v, char **args, int n);
int verb_autostart(struct ctl *c, const struct verb *v, char **args, int n);
int verb_vol_create(struct ctl *c, const struct verb *v, char **args, int n);
int verb_vol_transfer(struct ctl *c, const struct verb *v, char **args, int n);
int verb_cancel(struct ctl *c, const struct verb *v, char **args, int n);
int verb_complete_job(struct ctl *c, const struct verb *v, char **args, int n);
int verb_wait(struct ctl *c, const struct verb *v, char **args, int n);
int verb_open(struct ctl *c, const struct verb *v, char **args, int n);
int verb_close(struct ctl *c, const struct verb *v, char **args, int n);
int verb_sync(struct ctl *c, const struct verb *v, char **args, int n);
int verb_resync(struct ctl *c, const struct verb *v, char **args, int n);
int verb_log_level(struct ctl *c, const struct verb *v, char **args, int n);
