/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/*
 * agent_open() - let polkit ask for a password here
 *
 * Where there is a terminal, and nobody needs to be asked who is root. Without a desktop there is no other agent; with
 * one, ours steps back. Harmless where polkit is not installed.
 */
void agent_open(struct ctl *c);
void agent_close(void);
