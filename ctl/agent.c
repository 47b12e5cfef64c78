/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t agent;

static void run_agent(int ready)
{
	char fd[16];
	int tty = open("/dev/tty", O_RDWR);

	/* what it asks is for the terminal, wherever our output goes */
	if (tty >= 0) {
		dup2(tty, STDOUT_FILENO);
		dup2(tty, STDERR_FILENO);
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	(void)snprintf(fd, sizeof(fd), "%d", ready);
	execlp("pkttyagent", "pkttyagent", "--notify-fd", fd, "--fallback", (char *)NULL);
	_exit(EXIT_FAILED);
}

void agent_open(struct ctl *c)
{
	int fds[2];
	char byte;

	if (agent > 0 || c->bus_choice != BUS_SYSTEM || geteuid() == 0 || !isatty(STDIN_FILENO))
		return;
	if (pipe(fds) < 0)
		return;
	agent = fork();
	if (agent == 0) {
		close(fds[0]);
		run_agent(fds[1]);
	}
	close(fds[1]);
	/* closed when it is registered, and when it is not there */
	while (agent > 0 && read(fds[0], &byte, 1) < 0 && errno == EINTR)
		;
	close(fds[0]);
}

void agent_close(void)
{
	if (agent <= 0)
		return;
	/* it gives the terminal back as it was */
	kill(agent, SIGTERM);
	kill(agent, SIGCONT);
	while (waitpid(agent, NULL, 0) < 0 && errno == EINTR)
		;
	agent = 0;
}
