/* Status codes and errors; see status.h. */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct status_row {
    const char *text;
    int exit_status;
    int http;
};

#define ROW_(name, exit_status, http, text) {text, exit_status, http},
static const struct status_row rows[MU_STATUS_COUNT] = {MU_STATUS_TABLE(ROW_)};
#undef ROW_

static const struct status_row *row_of(mu_status status)
{
    int i = -(int)status;
    return i >= 0 && i < MU_STATUS_COUNT ? &rows[i] : &rows[MU_STATUS_NUMBER_INTERNAL];
}

const char *mu_status_text(mu_status status)
{
    return row_of(status)->text;
}
int mu_status_exit(mu_status status)
{
    return row_of(status)->exit_status;
}
int mu_status_http(mu_status status)
{
    return row_of(status)->http;
}

mu_status *mu_err_fill(struct mu_err *err, const char *what, ...)
{
    static _Thread_local mu_status nowhere;
    if (!err || err->code != MU_OK) return &nowhere;
    va_list args;
    va_start(args, what);
    (void)vsnprintf(err->what, sizeof err->what, what, args);
    va_end(args);
    err->where[0] = err->cure[0] = '\0';
    return &err->code;
}

mu_status mu_fail_errno(struct mu_err *err, mu_status code, int errno_value, const char *what, ...)
{
    if (errno_value == ENOSPC || errno_value == EDQUOT)
        code = MU_E_SPACE;
    else if (errno_value == ENOMEM)
        code = MU_E_MEMORY;
    else if (errno_value == ENOENT || errno_value == ENOTDIR)
        code = MU_E_MISSING;
    else if (errno_value == EPIPE)
        code = MU_E_CLOSED;
    if (err && err->code == MU_OK) {
        char text[96];
        va_list args;
        va_start(args, what);
        int n = vsnprintf(err->what, sizeof err->what, what, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof err->what)
            (void)snprintf(err->what + n, sizeof err->what - (size_t)n, ": %s",
                           strerror_r(errno_value, text, sizeof text));
        err->where[0] = err->cure[0] = '\0';
        err->code = code;
    }
    return code;
}

void mu_err_where(struct mu_err *err, const char *where, ...)
{
    if (!err || err->code == MU_OK || err->where[0]) return;
    va_list args;
    va_start(args, where);
    (void)vsnprintf(err->where, sizeof err->where, where, args);
    va_end(args);
}

void mu_err_cure(struct mu_err *err, const char *cure, ...)
{
    if (!err || err->code == MU_OK || err->cure[0]) return;
    va_list args;
    va_start(args, cure);
    (void)vsnprintf(err->cure, sizeof err->cure, cure, args);
    va_end(args);
}

const char *mu_err_line(const struct mu_err *err, char *line, unsigned size)
{
    const char *what = err->what[0] ? err->what : mu_status_text(err->code);
    (void)snprintf(line, size, "%s%s%s%s%s", err->where, err->where[0] ? ": " : "", what,
                   err->cure[0] ? "; " : "", err->cure);
    /* Names come from files that nobody vouches for: keep them from steering the terminal. */
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    return line;
}

#ifdef MU_CHECKS
void mu_assert_failed(const char *expression, const char *file, int line)
{
    (void)fprintf(stderr, "muster: %s:%d: not true: %s\n", file, line, expression);
    abort();
}
#endif
