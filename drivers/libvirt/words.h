/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "drivers/driver.h"

/*
 * libvirt's numbers and the contract's words. Each takes any number: one of a newer libvirt gives "unknown" (lv_word)
 * or NULL.
 */

/* The word of `virsh domstate --reason`. */
const char *lv_state_reason(int state, int reason);

struct lv_words {
	const char *const *words;
	size_t n;
};
#define LV_WORDS(...)                                                                                        \
	{                                                                                                    \
		.words = (const char *const[]){__VA_ARGS__}, .n = ELEMENTS(((const char *const[]){__VA_ARGS__})) \
	}
const char *lv_word(const struct lv_words *words, int value);

/* qsort() of an array of strings. */
int lv_compare_names(const void *a, const void *b);

/* A lifecycle event: which cause, and the word of its detail. */
struct lv_lifecycle {
	enum cause cause; /* NONE: a number that a newer libvirt brought */
	const char *event; /* OTHER */
	struct lv_words details;
};
const struct lv_lifecycle *lv_lifecycle(enum kind kind, int event);

extern const struct lv_words lv_watchdog_actions, lv_io_error_actions, lv_graphics_phases, lv_block_job_types,
	lv_block_job_statuses, lv_disk_change_reasons, lv_tray_change_reasons, lv_agent_states, lv_agent_reasons,
	lv_metadata_types, lv_memory_failure_recipients, lv_memory_failure_actions, lv_job_operations, lv_pool_states,
	lv_volume_types;
