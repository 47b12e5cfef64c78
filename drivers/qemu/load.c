/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "load.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>
#include <utlist.h>

#include "util/log.h"

/* What the directory holds when it is opened. */

/* One directory of a domain. What cannot be understood is left alone, and said. On a worker, before anybody knows of it. */
static void load(struct loading *l, const char *name, sd_id128_t uuid)
{
	struct domain *d = calloc(1, sizeof(*d));
	_cleanup_(freep) char *text = NULL;
	struct failure f = {0};
	char phase[24];
	int lock, r;
	bool running;

	if (!d || asprintf(&d->directory, "%s/%s", l->directory, name) < 0) {
		free(d);
		return;
	}
	d->c = l->c;
	d->uuid = uuid;
	d->pidfd = d->incoming = -1;
	files_load_state(d->directory, &d->run, phase, d->word, &d->pid);
	d->rebooting = strcmp(phase, "rebooting") == 0;
	d->autostart = files_has(d->directory, "autostart");
	d->managed_save = files_has(d->directory, "save");
	r = files_read(d->directory, "domain.xml", &text);
	if (r == 0) {
		r = vm_parse(text, &d->config, &d->config_text, &f);
		if (r == 0 && !sd_id128_equal(d->config->uuid, uuid))
			r = failure_set(&f, VIREO_INVALID_XML, "its UUID is another than that of its directory");
	} else if (r == -ENOENT)
		r = 0;
	if (r != 0) {
		log_error("%s/domain.xml: %s; the domain is left alone.", d->directory, f.message ? f.message : strerror(-r));
		goto out;
	}
	r = files_lock(d->directory, "lock", &lock);
	running = r == -EAGAIN;
	if (r == 0)
		close(lock);
	/* Its TPM is just about to end. */
	if (strcmp(phase, "off") == 0)
		running = false;
	if (running && strcmp(phase, "starting") == 0) {
		/* A start that nobody was told of. Where the domain is started anew, it waits until that one has gone. */
		(void)files_lock_holder(d->directory, d->pid, &d->pid, &d->pidfd);
		log_notice("Domain '%s' was being started when the broker ended: that start is undone.", domain_name(d));
		if (d->pidfd >= 0) {
			(void)pidfd_send_signal(d->pidfd, SIGKILL, NULL, 0);
			close(d->pidfd);
			d->pidfd = -1;
		}
		running = false;
	}
	if (running) {
		free(TAKE(text));
		r = files_read(d->directory, "live.xml", &text);
		if (r == 0)
			r = vm_parse(text, &d->live, &d->live_text, &f);
		if (r != 0) {
			log_error("%s/live.xml: %s; the domain is left alone, and runs on.", d->directory,
				f.message ? f.message : strerror(-r));
			goto out;
		}
	} else {
		files_unlink(d->directory, "live.xml");
		files_unlink(d->directory, "monitor");
		process_end_tpm(d->directory);
		files_unlink(d->directory, "tpm");
		d->pid = 0;
		/* It ended while nobody looked. */
		if (strcmp(phase, "off") != 0)
			snprintf(d->word, sizeof(d->word), "unknown");
		if (!d->config) {
			(void)files_remove_directory(d->directory);
			goto out;
		}
	}
	DL_APPEND(l->domains, d);
	failure_clear(&f);
	return;
out:
	failure_clear(&f);
	domain_free(d);
}

static int load_all(struct loading *l)
{
	DIR *dir = opendir(l->directory);
	struct dirent *e;

	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		sd_id128_t uuid;
		char text[SD_ID128_UUID_STRING_MAX];

		/* In the one form that we write, so that no two directories mean the same. */
		if (sd_id128_from_string(e->d_name, &uuid) >= 0 &&
			strcmp(sd_id128_to_uuid_string(uuid, text), e->d_name) == 0)
			load(l, e->d_name, uuid);
	}
	closedir(dir);
	return 0;
}

/* Is this the first time that somebody looks since the machine was booted? */
static bool is_first(const char *directory)
{
	_cleanup_(freep) char *before = NULL;
	char now[SD_ID128_STRING_MAX];
	sd_id128_t boot;

	if (sd_id128_get_boot(&boot) < 0)
		return false;
	sd_id128_to_string(boot, now);
	if (files_read(directory, "boot-id", &before) == 0 && strcmp(before, now) == 0)
		return false;
	return files_write(directory, "boot-id", now, true) == 0;
}

void loading_work(void *data)
{
	struct loading *l = data;

	l->error = files_make_directory(l->directory);
	if (l->error == 0)
		l->error = files_lock(l->directory, ".lock", &l->lock);
	if (l->error == 0)
		l->error = pools_find(l->directory, &l->pools);
	if (l->error == 0)
		l->error = load_all(l);
	if (l->error == 0)
		l->first = is_first(l->directory);
}

void loading_drop(void *data)
{
	struct loading *l = data;

	while (l->domains) {
		struct domain *d = l->domains;

		DL_DELETE(l->domains, d);
		domain_free(d);
	}
	if (l->lock >= 0)
		close(l->lock);
	pools_found_free(l->pools);
	free(l->directory);
	free(l);
}
