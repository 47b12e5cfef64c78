/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "run.h"

/*
 * What a run needs before there is a process, and the process itself where it is one of ours: directory, lock, firmware
 * variables, command line, sockets. A worker does it; domain_prepared() gets what came of it.
 */
struct prepared {
	struct domain *d; /* borrowed; stays while it is being prepared */
	struct failure f;
	int error;	     /* 0; -EAGAIN: somebody else has the lock; a negative errno; positive: f */
	int run;	     /* its number; 0: it did not come to that */
	int lock, listener;  /* -1: the process has them */
	int connected;	     /* to the monitor; -1: it did not come to that */
	pid_t pid;	     /* of a process of ours; 0: none */
	int pidfd;	     /* -1: it has ended already */
	char **argv;	     /* a service is to be started by that */
	char **tpm_argv;     /* and one beside it */
	char *tpm_environment;
	int tpm_listener;

	/* What it was asked for with. */
	char *directory, *home, *text;
	char word[24];
	bool incoming, service, reset_nvram, kill_tpm;
};

/* 0, or a negative errno. */
int prepare(struct domain *d, bool service, bool kill_tpm);
void prepared_free(struct prepared *p);
/* start.c. Takes @p. */
void domain_prepared(struct domain *d, struct prepared *p);
