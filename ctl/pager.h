/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* Send standard output through a pager from now on, if it is a terminal and one is wanted. As systemd's tools do. */
void pager_open(struct ctl *c);
/* Wait until the user has seen enough. */
void pager_close(struct ctl *c);
