/*
 * The log: one line a message on standard error, lowercase, "device 3 power 412 w". Any thread; a
 * line is written with one call, so lines never mix.
 */
#ifndef MU_BASE_LOG_H
#define MU_BASE_LOG_H

#include "base/compiler.h"

#include <stdbool.h>

enum mu_log_level { MU_LOG_ERROR, MU_LOG_WARN, MU_LOG_INFO, MU_LOG_DEBUG };

void mu_log_set_level(enum mu_log_level level); /* MU_LOG_WARN at the start */
bool mu_log_wants(enum mu_log_level level);
void mu_log(enum mu_log_level level, const char *format, ...) MU_PRINTF(2, 3);

#endif
