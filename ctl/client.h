/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

#define VIREO_NAME "org.vireo1"
#define VIREO_ROOT "/org/vireo1"
#define VIREO_CONNECTIONS VIREO_ROOT "/connection/"
#define VIREO_JOBS VIREO_ROOT "/job/_"
#define VIREO_MANAGER "org.vireo1.Manager"
#define VIREO_JOB "org.vireo1.Job"
#define PROPERTIES "org.freedesktop.DBus.Properties"

/* How long a call may take that the broker answers after 20 s at the latest. */
#define CALL_LIMIT (40 * USEC_PER_SEC)

extern const char *const kind_words[KIND_MAX];	    /* "domain": an option's value, and the last part but one of a path */
extern const char *const kind_nouns[KIND_MAX];	    /* "storage pool" */
extern const char *const kind_interfaces[KIND_MAX]; /* "org.vireo1.StoragePool" */
int kind_from_interface(const char *interface);	    /* -1: none of ours */
int kind_from_path(const char *path);

/* Connect to the bus, once. */
int client_open(struct ctl *c);
/* Like that, but silent and for once: a negative errno when the bus is not there. */
int client_try_open(struct ctl *c);
void client_close(struct ctl *c);

/*
 * client_failed() - say what a failed call means
 * @what: what was to be done, "cannot start “web”"; NULL: nothing is put in front
 *
 * Return: the exit status that belongs to it.
 */
int client_failed(struct ctl *c, const char *what, const sd_bus_error *e, int r);
int exit_status_of(const char *error_name);
/* The broker went away in the middle of it, or the bus did. */
bool error_is_loss(const sd_bus_error *e, int r);

/* A method call to the broker, to be filled in. Polkit may ask the user. */
int client_new_call(struct ctl *c, sd_bus_message **ret, const char *path, const char *interface, const char *member);
int client_send(struct ctl *c, sd_bus_message *m, const char *what, sd_bus_message **ret);
/* The same in one; arguments as sd_bus_message_append(). */
int client_call(struct ctl *c, const char *what, sd_bus_message **ret, const char *path, const char *interface,
		const char *member, const char *types, ...);
int client_get_all(struct ctl *c, const char *path, const char *interface, json_object **ret);
/* Wait until somebody owns the broker's name again, for @limit µs at most. Return: >0 yes, 0 no, <0 the bus is gone. */
int client_wait_owner(struct ctl *c, uint64_t limit);

/*
 * message_read_json() - the next complete value of a message as JSON
 *
 * Dictionaries become objects, variants what they contain; a `t` of 2^64-1 is null. Return: >0 read, 0 no more,
 * negative errno.
 */
int message_read_json(sd_bus_message *m, json_object **ret);

/* What a JSON object says; absent or of another type: "", 0, false. */
const char *json_text(json_object *o, const char *key);
uint64_t json_number(json_object *o, const char *key);
bool json_true(json_object *o, const char *key);
bool json_is_null(json_object *o, const char *key); /* there, and null */
int json_print(struct ctl *c, json_object *o);
