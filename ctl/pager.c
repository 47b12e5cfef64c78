/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pager.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int saved_stdout = -1;

static bool is_true(const char *s)
{
	return strcmp(s, "1") == 0 || strcasecmp(s, "yes") == 0 || strcasecmp(s, "true") == 0 || strcasecmp(s, "on") == 0;
}

/* Under sudo a pager could start a shell, or edit a file, with rights that its user was not given. */
static bool is_restricted(void)
{
	const char *s = getenv("SYSTEMD_PAGERSECURE");

	if (s && *s)
		return is_true(s);
	return getenv("SUDO_UID") || geteuid() != getuid();
}

/* There is no pager at all: what was written still has to come out. */
static void pass_on(void)
{
	char buffer[4096];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0)
		for (ssize_t done = 0, w; done < n; done += w)
			if ((w = write(STDOUT_FILENO, buffer + done, (size_t)(n - done))) < 0)
				return;
}

static void run_pager(const char *command, bool restricted)
{
	const char *options = getenv("SYSTEMD_LESS"), *charset = getenv("SYSTEMD_LESSCHARSET");

	setenv("LESS", options && *options ? options : "FRSXMK", 1);
	if (charset && *charset)
		setenv("LESSCHARSET", charset, 1);
	if (restricted)
		setenv("LESSSECURE", "1", 1);
	/* not left alone behind us with a terminal that nobody feeds */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (command && !restricted)
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	execlp("less", "less", (char *)NULL);
	/* of the others none is known to be safe with escapes */
	if (!restricted)
		execlp("more", "more", (char *)NULL);
	pass_on();
	_exit(EXIT_OK);
}

void pager_open(struct ctl *c)
{
	const char *command = getenv("SYSTEMD_PAGER"), *term = getenv("TERM");
	bool restricted = is_restricted();
	int fds[2];

	if (!command)
		command = getenv("PAGER");
	if (c->no_pager || c->pager > 0 || !isatty(STDOUT_FILENO) || (term && strcmp(term, "dumb") == 0))
		return;
	if (command && (!*command || strcmp(command, "cat") == 0))
		return;
	if (pipe(fds) < 0)
		return;
	fflush(stdout);
	c->pager = fork();
	if (c->pager == 0) {
		dup2(fds[0], STDIN_FILENO);
		close(fds[0]);
		close(fds[1]);
		signal(SIGINT, SIG_DFL);
		run_pager(command && *command ? command : NULL, restricted);
	}
	close(fds[0]);
	if (c->pager < 0) {
		close(fds[1]);
		return;
	}
	saved_stdout = dup(STDOUT_FILENO);
	dup2(fds[1], STDOUT_FILENO);
	close(fds[1]);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	/* Ctrl-C is for the pager; and one that was left early is no error */
	signal(SIGINT, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
}

void pager_close(struct ctl *c)
{
	int status;

	if (c->pager <= 0)
		return;
	fflush(stdout);
	dup2(saved_stdout, STDOUT_FILENO);
	close(saved_stdout);
	saved_stdout = -1;
	while (waitpid(c->pager, &status, 0) < 0 && errno == EINTR)
		;
	c->pager = 0;
	signal(SIGINT, SIG_DFL);
}
