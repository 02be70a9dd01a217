/* The log; see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static atomic_int log_level = MU_LOG_WARN;

void mu_log_set_level(enum mu_log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

bool mu_log_wants(enum mu_log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void mu_log(enum mu_log_level level, const char *format, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char line[1024];
    if (!mu_log_wants(level)) return;
    int n = snprintf(line, sizeof line, "muster: %s: ", names[level]);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    if (m < 0) return;
    size_t len = (size_t)n + MU_MIN((size_t)m, sizeof line - (size_t)n - 2);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) line[i] = '?';
    line[len++] = '\n';
    /* Nobody is left to tell when standard error itself is gone. */
    ssize_t written MU_UNUSED = write(STDERR_FILENO, line, len);
}
