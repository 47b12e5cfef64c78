/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * libvirt's event loop, one for the process, on a thread of its own: libvirt calls its timers and handles from any
 * thread, which sd-event couldn't bear. It must run before the first connection is opened, and stops at exit.
 */

/* Start it, unless it runs. Main loop's thread. 0, or a negative errno. */
int lv_loop_start(void);

/*
 * lv_loop_turns() - wait until the loop has gone round @n times
 *
 * A callback that was due when this was called has then been called. Any thread but the loop's own.
 * Return: 0, or -EIO when libvirt refuses a timer.
 */
int lv_loop_turns(unsigned n);
