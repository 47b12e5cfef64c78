/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "run.h"

/*
 * A QEMU as a transient service of systemd's, where there is one: as a child of ours, in our own service, it would end with
 * us, and live in our sandbox. A scope would keep the sandbox; a service has only what is asked for.
 *
 * systemd gives a service three descriptors that we have: the lock is its standard input, the monitor its standard
 * output, the log its standard error.
 */
#define SERVICE_LOCK_FD 0
#define SERVICE_MONITOR_FD 1
/* Its TPM, another service, has its socket as standard input, and the lock as standard output. */
#define SERVICE_TPM_SOCKET_FD 0
#define SERVICE_TPM_LOCK_FD 1

/* Does systemd run this machine, and may we ask it? Opens the connection, once. */
bool service_is_possible(struct driver_connection *c);
/*
 * Ask for it; @listener, @lock and @log are taken when this succeeds. When systemd refuses, or does not answer,
 * domain_spawn_again() is called, and services are not possible any more.
 */
int service_start(struct domain *d, char *const *argv, int listener, int lock, int log);
/* The TPM of the run that is about to begin. 0, or a negative errno. */
int service_start_tpm(struct domain *d, char *const *argv, char *environment, int listener, int lock, int log);
/* Whatever of it is there, or is about to be. */
void service_kill(struct domain *d);
/* Forget what was asked for. */
void service_forget(struct domain *d);
