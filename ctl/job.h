/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "operate.h"

/*
 * job_follow() - wait for the end of a job, with a progress bar on a terminal
 * @name:       what it works on, for the user
 * @what:       "cannot save “web”", for when it fails; NULL: made from what the job says
 * @stop_ready: a job that is ready to be completed has done what was asked for
 * @ret_state:  "completed", or "ready"
 *
 * Ctrl-C asks whether to cancel it or to leave it running. A broker that goes away meanwhile is waited for.
 */
int job_follow(struct ctl *c, const char *job, const char *name, const char *what, bool stop_ready, const char **ret_state);
