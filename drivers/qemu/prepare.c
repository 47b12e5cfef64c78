/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "service.h"

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void prepared_free(struct prepared *p)
{
	failure_clear(&p->f);
	close_fd(&p->lock);
	close_fd(&p->listener);
	close_fd(&p->connected);
	close_fd(&p->pidfd);
	close_fd(&p->tpm_listener);
	vm_command_free(p->argv);
	vm_command_free(p->tpm_argv);
	free(p->tpm_environment);
	free(p->directory);
	free(p->home);
	free(p->text);
	free(p);
}

/* Nobody wants it any more: the broker ends. Nobody was told of it either. */
static void drop(void *data)
{
	struct prepared *p = data;

	if (p->pidfd >= 0)
		(void)pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0);
	prepared_free(p);
}

/* Variables of firmware begin as the template. */
static int make_nvram(const struct vm *vm, const struct vm_run *run, bool reset, struct failure *f)
{
	_cleanup_(freep) char *code = NULL, *vars = NULL, *template = NULL, *part = NULL;
	char buffer[65536];
	int from, to, error = 0, r = vm_firmware(vm, run, &code, &vars, &template, f);
	ssize_t n = 0;

	if (r != 0 || !vars || !template)
		return r;
	if (!reset && access(vars, F_OK) == 0)
		return 0;
	/* Whole, or not at all: half of it would be taken for firmware's own doing. */
	if (asprintf(&part, "%s.new", vars) < 0) {
		part = NULL;
		return -ENOMEM;
	}
	from = open(template, O_RDONLY | O_CLOEXEC);
	to = from >= 0 ? open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;
	while (to >= 0 && (n = read(from, buffer, sizeof(buffer))) > 0) {
		/* A full disk takes less, without a word. */
		errno = ENOSPC;
		if (write(to, buffer, (size_t)n) != n) {
			n = -1;
			break;
		}
	}
	if (to < 0 || n < 0 || fsync(to) < 0 || rename(part, vars) < 0)
		error = errno;
	if (error) {
		r = failure_set(f, VIREO_OPERATION_FAILED, "The firmware's variables %s cannot be made from %s: %s", vars, template,
			strerror(error));
		if (to >= 0)
			(void)unlink(part);
	}
	close_fd(&from);
	close_fd(&to);
	return r;
}

/* ---- an emulated TPM ---------------------------------------------------------------------------------------- */

static int prepare_tpm(struct prepared *p, const struct vm *vm)
{
	int r;

	p->tpm_argv = vm_tpm_command(vm, p->service ? SERVICE_TPM_SOCKET_FD : PROCESS_MONITOR_FD);
	/* Not an option, because options are lists with commas. */
	if (!p->tpm_argv || asprintf(&p->tpm_environment, "TPM_PATH=%s", p->directory) < 0) {
		p->tpm_environment = NULL;
		return -ENOMEM;
	}
	if (access(p->tpm_argv[0], X_OK) < 0)
		return failure_set(&p->f, VIREO_NOT_SUPPORTED, "There is no emulator of TPMs on this machine (package swtpm): %s: %s",
			p->tpm_argv[0], strerror(errno));
	r = process_listen(p->directory, "tpm", &p->tpm_listener);
	if (r == 0 && !p->service) {
		struct process tpm = {.argv = p->tpm_argv, .directory = p->directory, .log = "tpm-log", .environment = p->tpm_environment,
			.socket = p->tpm_listener, .lock = p->lock, .lock_fd = PROCESS_TPM_LOCK_FD};
		pid_t pid;

		r = process_spawn(&tpm, &pid);
		/* Where it ends at once, its socket has nobody, and QEMU says so. */
		close_fd(&p->tpm_listener);
	}
	return r;
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

static int prepare_files(struct prepared *p, const struct vm *vm, const struct vm_run *run)
{
	int r = make_nvram(vm, run, p->reset_nvram, &p->f);

	if (r == 0)
		r = vm_command(vm, run, &p->argv, &p->f);
	if (r == 0)
		r = files_write(p->directory, "live.xml", p->text, false);
	if (r == 0)
		r = files_next_run(p->home, &p->run);
	/* Before there is a process: what is found in this phase later is a start that came to nothing. */
	if (r == 0)
		r = files_write_state(p->directory, p->run, "starting", p->word, 0);
	if (r == 0)
		r = process_monitor(p->directory, "monitor", &p->listener, &p->connected);
	return r;
}

static int spawn(struct prepared *p)
{
	struct process qemu = {.argv = p->argv, .directory = p->directory, .log = "log", .socket = p->listener, .lock = p->lock,
		.lock_fd = PROCESS_LOCK_FD};
	int r = process_spawn(&qemu, &p->pid);

	if (r < 0)
		return r;
	/* Only who holds the lock is surely the one; whoever has ended by now tells it by the monitor. */
	(void)files_lock_holder(p->directory, p->pid, &p->pid, &p->pidfd);
	/* From now on it is the process alone that holds it. */
	close_fd(&p->listener);
	close_fd(&p->lock);
	return files_write_state(p->directory, p->run, "starting", p->word, p->pid);
}

static void work(void *data)
{
	struct prepared *p = data;
	_cleanup_(vm_freep) struct vm *vm = NULL;
	struct vm_run run = {
		.directory = p->directory,
		.monitor_fd = p->service ? SERVICE_MONITOR_FD : PROCESS_MONITOR_FD,
		.incoming = p->incoming,
	};
	int r = files_make_directory(p->directory);

	if (r == 0)
		r = files_lock(p->directory, "lock", &p->lock);
	if (r == -EAGAIN && p->kill_tpm) {
		int pidfd;

		/* QEMU has ended long ago, and its TPM ought to have ended with it. */
		if (files_tpm_holder(p->directory, &pidfd) == 0) {
			(void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
			close(pidfd);
		}
	}
	/* Its own, understood once more: the domain's belongs to the loop. */
	if (r == 0)
		r = vm_parse(p->text, &vm, NULL, &p->f);
	if (r == 0)
		r = prepare_files(p, vm, &run);
	if (r == 0 && vm->tpm_emulator)
		r = prepare_tpm(p, vm);
	if (r == 0 && !p->service)
		r = spawn(p);
	p->error = r;
}

static void done(void *data)
{
	struct prepared *p = data;

	domain_prepared(p->d, p);
}

int prepare(struct domain *d, bool service, bool kill_tpm)
{
	struct prepared *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (!p)
		return -ENOMEM;
	p->d = d;
	p->lock = p->listener = p->connected = p->pidfd = p->tpm_listener = -1;
	p->directory = strdup(d->directory);
	p->home = strdup(d->c->directory);
	p->text = strdup(d->live_text);
	snprintf(p->word, sizeof(p->word), "%s", d->word);
	p->incoming = d->incoming >= 0;
	p->reset_nvram = d->reset_nvram;
	p->service = service;
	p->kill_tpm = kill_tpm;
	if (p->directory && p->home && p->text)
		r = chores_run(d->c->env.chores, work, done, drop, p);
	if (r < 0) {
		prepared_free(p);
		return r;
	}
	d->preparing = true;
	return 0;
}
