/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "drivers/driver.h"

/* What the simulated hypervisor does wrong; doc/sim.md has the words, sim_fault_table[] too. All zero: nothing. */
enum sim_hang { HANG_OPEN = 1, HANG_LIST = 2, HANG_LOOK = 4, HANG_OPERATION = 8, HANG_EVENTS = 16 };

struct sim_faults {
	uint64_t reorder; /* events that may change places */
	double repeat, drop, ahead, behind, look_none, look_fail, list_fail, list_partial, list_omit, operation_fail;
	uint64_t event_delay, look_delay, list_delay, operation_delay; /* ms */
	bool no_events, no_quirks, no_run, no_space;
	unsigned hang;	    /* enum sim_hang */
	uint64_t hang_time; /* ms; 0: until released */
};

/*
 * sim_fault_set() - one fault, by its word
 * @value: of the type that the word wants; @text (when @value is NULL): the same as a string, from a URI
 * Return: 0; VIREO_INVALID_OPTION and what was expected; -ENOENT: there is no such word.
 */
int sim_fault_set(struct sim_faults *faults, const char *word, struct json_object *value, const char *text,
		  struct failure *f);
/* All words, for messages. Owned. */
char *sim_fault_words(void);
struct json_object *sim_faults_to_json(const struct sim_faults *faults);
