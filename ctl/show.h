/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "table.h"

/* Values of properties as people read them. */

enum colour state_colour(const char *state);
enum colour event_colour(const char *event);
/* "512 MiB", "yes", "3.2 s", a list with spaces; owned by the caller. */
char *value_text(const char *key, json_object *value);

/* The verbs; see verbs.c */
int verb_list(struct ctl *c, const struct verb *v, char **args, int n);
int verb_pools(struct ctl *c, const struct verb *v, char **args, int n);
int verb_networks(struct ctl *c, const struct verb *v, char **args, int n);
int verb_connections(struct ctl *c, const struct verb *v, char **args, int n);
int verb_volumes(struct ctl *c, const struct verb *v, char **args, int n);
int verb_jobs(struct ctl *c, const struct verb *v, char **args, int n);
int verb_show(struct ctl *c, const struct verb *v, char **args, int n);
int verb_xml(struct ctl *c, const struct verb *v, char **args, int n);
int verb_status(struct ctl *c, const struct verb *v, char **args, int n);
int verb_watch(struct ctl *c, const struct verb *v, char **args, int n);
int verb_events(struct ctl *c, const struct verb *v, char **args, int n);
int verb_timeline(struct ctl *c, const struct verb *v, char **args, int n);
int verb_digest(struct ctl *c, const struct verb *v, char **args, int n);
