/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <syslog.h>

#include "macros.h"

/*
 * One log for the whole process; every function here may be called from any thread.
 * Target "auto": the journal when stderr is connected to it, else plain lines on stderr.
 */
enum log_target { LOG_TARGET_AUTO, LOG_TARGET_CONSOLE, LOG_TARGET_JOURNAL, LOG_TARGET_SYSLOG, LOG_TARGET_NULL, LOG_TARGET_MAX };

void log_set_level(int level);
int log_get_level(void);
/* Names as in org.freedesktop.LogControl1: "debug" … "emerg", "console" "journal" "syslog" "null" "auto". -EINVAL if unknown. */
int log_set_level_name(const char *name);
const char *log_get_level_name(void);
int log_set_target_name(const char *name);
const char *log_get_target_name(void);

void log_write(int level, const char *message_id, const char *file, int line, const char *function,
	       const char *format, ...) _printf_(6, 7);

#define log_at(level, id, ...)                                                                               \
	do {                                                                                                 \
		if ((level) <= log_get_level())                                                              \
			log_write((level), (id), __FILE__, __LINE__, __func__, __VA_ARGS__);                 \
	} while (0)

#define log_error(...) log_at(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, NULL, __VA_ARGS__)
/* With a message id of data/vireo.catalog, for what an administrator must see. */
#define log_id(level, id, ...) log_at(level, id, __VA_ARGS__)

/* Message ids, explained in the catalog. */
#define LOG_ID_STORE_DAMAGED "3f2c1f6d9b0a4b3c8d5e9f0a1b2c3d41"
#define LOG_ID_HISTORY_LOST "3f2c1f6d9b0a4b3c8d5e9f0a1b2c3d42"
#define LOG_ID_DISCONNECTED "3f2c1f6d9b0a4b3c8d5e9f0a1b2c3d43"
#define LOG_ID_SIGNALS_HELD "3f2c1f6d9b0a4b3c8d5e9f0a1b2c3d44"
#define LOG_ID_UNCLEAN_BOOT "3f2c1f6d9b0a4b3c8d5e9f0a1b2c3d45"
