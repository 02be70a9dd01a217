/*
 * The codes a fallible function returns, and the error that travels beside them.
 *
 * One table gives every code its name, the program's exit status and the HTTP status it turns into.
 * The first function to detect a fault fills `struct mu_err`; callers pass the code up untouched.
 * Any thread; a `struct mu_err` belongs to one thread at a time.
 */
#ifndef MU_BASE_STATUS_H
#define MU_BASE_STATUS_H

#include "base/compiler.h"

#include <stdbool.h>

/* X(name, exit status, HTTP status, text) */
#define MU_STATUS_TABLE(X)                                                                         \
    X(OK, 0, 200, "good")                                                                          \
    X(ANSWER, 1, 200, "the work was done and the answer is bad")                                   \
    X(USAGE, 2, 400, "wrong usage")                                                                \
    X(INPUT, 3, 400, "bad input")                                                                  \
    X(UNSUPPORTED, 3, 400, "known but not supported")                                              \
    X(MISSING, 3, 404, "not found")                                                                \
    X(IO, 3, 500, "reading or writing failed")                                                     \
    X(SPACE, 4, 507, "the disk is full")                                                           \
    X(FIT, 4, 507, "does not fit")                                                                 \
    X(MEMORY, 4, 503, "out of memory")                                                             \
    X(RESOURCE, 4, 503, "out of a resource")                                                       \
    X(PEER, 5, 502, "a peer is unreachable or broke")                                              \
    X(INTERNAL, 70, 500, "a fault in muster itself")                                               \
    X(INTERRUPTED, 130, 499, "interrupted")                                                        \
    X(CLOSED, 0, 499, "the reader went away")

#define MU_STATUS_ENUM_(name, exit_status, http, text) MU_STATUS_NUMBER_##name,
enum { MU_STATUS_TABLE(MU_STATUS_ENUM_) MU_STATUS_COUNT };
#undef MU_STATUS_ENUM_

#define MU_STATUS_ENUM_(name, exit_status, http, text) MU_E_##name = -(MU_STATUS_NUMBER_##name),
typedef enum mu_status { MU_STATUS_TABLE(MU_STATUS_ENUM_) } mu_status;
#undef MU_STATUS_ENUM_

#define MU_OK MU_E_OK

const char *mu_status_text(mu_status status);
int mu_status_exit(mu_status status);
int mu_status_http(mu_status status);

/* One fault: what is wrong, where, and what the user can do. Fixed size, so that reporting
 * exhaustion of memory needs none. */
struct mu_err {
    mu_status code;
    char where[160]; /* file and place, "" when there is none */
    char what[288];
    char cure[192]; /* "" when nothing sensible can be said */
};

#define MU_ERR_INIT ((struct mu_err){.code = MU_OK})

/* mu_fail(err, code, what, ...) fills `err` unless it is NULL or already filled; its value is
 * `code`, so that it ends a function: return mu_fail(err, MU_E_INPUT, "what is %s", x);
 * An assignment rather than a call, so that compilers and analysers of the caller see that the
 * caller does not go on as if all were good. */
#define mu_fail(err, code, ...) (*mu_err_fill((err), __VA_ARGS__) = (code))

/* Fills all but the code; returns where that goes, which is nowhere when `err` stays as it is. */
mu_status *mu_err_fill(struct mu_err *err, const char *what, ...) MU_PRINTF(2, 3);

/* The same for a failed system call: appends the text of `errno_value`; a full disk becomes
 * MU_E_SPACE, no memory MU_E_MEMORY, an absent file MU_E_MISSING, all else `code`. */
mu_status mu_fail_errno(struct mu_err *err, mu_status code, int errno_value, const char *what, ...)
    MU_PRINTF(4, 5);

/* Say where, or what to do, once the fault is filled; the first word stays. */
void mu_err_where(struct mu_err *err, const char *where, ...) MU_PRINTF(2, 3);
void mu_err_cure(struct mu_err *err, const char *cure, ...) MU_PRINTF(2, 3);

/* "where: what; cure" in one line, control characters made harmless. Returns `line`. */
const char *mu_err_line(const struct mu_err *err, char *line, unsigned size);

/* Propagates a failure without cleanup. */
#define MU_TRY(call)                                                                               \
    do {                                                                                           \
        mu_status mu_try_status_ = (call);                                                         \
        if (MU_UNLIKELY(mu_try_status_ != MU_OK)) return mu_try_status_;                           \
    } while (0)

/* The same where a cleanup label stands: sets `status` and jumps. */
#define MU_TRY_GOTO(status, call, label)                                                           \
    do {                                                                                           \
        (status) = (call);                                                                         \
        if (MU_UNLIKELY((status) != MU_OK)) goto label;                                            \
    } while (0)

/* Internal invariants: checked in test builds, free in release builds, never for input. */
#ifdef MU_CHECKS
void mu_assert_failed(const char *expression, const char *file, int line) __attribute__((noreturn));
#define MU_ASSERT(x) ((x) ? (void)0 : mu_assert_failed(#x, __FILE__, __LINE__))
#else
#define MU_ASSERT(x) ((void)sizeof(!(x)))
#endif

#endif
