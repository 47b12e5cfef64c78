/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* What libFuzzer calls. The same function is run over the corpus by an ordinary test (corpus.c). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
