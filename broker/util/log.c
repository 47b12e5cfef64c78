/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log.h"

#include <stdbool.h>

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

static _Atomic int log_level = LOG_INFO;
static _Atomic int log_target = LOG_TARGET_AUTO;

static const char *const level_names[] = {"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"};
static const char *const target_names[] = {"auto", "console", "journal", "syslog", "null"};
static_assert(ELEMENTS(target_names) == LOG_TARGET_MAX, "a log target without a name");

void log_set_level(int level)
{
	log_level = level;
}

int log_get_level(void)
{
	return log_level;
}

int log_set_level_name(const char *name)
{
	for (unsigned i = 0; i < ELEMENTS(level_names); i++)
		if (strcmp(level_names[i], name) == 0) {
			log_level = (int)i;
			return 0;
		}
	return -EINVAL;
}

const char *log_get_level_name(void)
{
	return level_names[log_level];
}

/* Is stderr the stream that systemd says is connected to the journal? */
static bool stderr_is_journal(void)
{
	static _Atomic int known = -1;
	const char *e = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (known < 0)
		known = e && sscanf(e, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
			(unsigned long long)st.st_dev == device && (unsigned long long)st.st_ino == inode;
	return known;
}

int log_set_target_name(const char *name)
{
	for (unsigned i = 0; i < ELEMENTS(target_names); i++)
		if (strcmp(target_names[i], name) == 0) {
			log_target = (int)i;
			return 0;
		}
	return -EINVAL;
}

const char *log_get_target_name(void)
{
	return target_names[log_target];
}

void log_write(int level, const char *message_id, const char *file, int line, const char *function,
	       const char *format, ...)
{
	char text[2048], prefixed[2100];
	int target = log_target;
	struct iovec iov;
	va_list ap;
	int n;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);

	if (target == LOG_TARGET_AUTO)
		target = stderr_is_journal() ? LOG_TARGET_JOURNAL : LOG_TARGET_CONSOLE;
	switch (target) {
	case LOG_TARGET_NULL:
		return;
	case LOG_TARGET_SYSLOG:
		syslog(level, "%s", text);
		return;
	case LOG_TARGET_JOURNAL:
		if (message_id)
			n = sd_journal_send("PRIORITY=%i", level, "MESSAGE=%s", text, "CODE_FILE=%s", file, "CODE_LINE=%i",
					    line, "CODE_FUNC=%s", function, "MESSAGE_ID=%s", message_id, NULL);
		else
			n = sd_journal_send("PRIORITY=%i", level, "MESSAGE=%s", text, "CODE_FILE=%s", file, "CODE_LINE=%i",
					    line, "CODE_FUNC=%s", function, NULL);
		if (n >= 0)
			return;
		break;
	}
	/* One write a line, so that lines of several threads don't mix. */
	n = snprintf(prefixed, sizeof(prefixed), "vireod: %s%s\n",
		     level <= LOG_ERR ? "error: " : level == LOG_WARNING ? "warning: " : level == LOG_DEBUG ? "debug: " : "", text);
	iov = (struct iovec){prefixed, (size_t)(n < (int)sizeof(prefixed) ? n : (int)sizeof(prefixed) - 1)};
	/* When stderr is gone there is nobody left to tell. */
	if (writev(STDERR_FILENO, &iov, 1) < 0)
		return;
}
