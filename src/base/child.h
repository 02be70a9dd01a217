/*
 * A function in a process of its own, for calls that may hang or crash: of drivers, above all.
 * What it finds out it writes into memory that both processes see. The caller's thread.
 */
#ifndef MU_BASE_CHILD_H
#define MU_BASE_CHILD_H

#include "base/status.h"

#include <stddef.h>

/* Cleared memory that children made later share with this process; NULL when memory is out. */
void *mu_shared_alloc(size_t size) MU_NODISCARD;
void mu_shared_free(void *p, size_t size);

struct mu_child {
    int pid; /* 0: none, or over */
};

/* Runs fn(arg) in a copy of this process, which ends with it, or with its parent. Of the threads
 * only the caller's is copied: a lock that another one holds stays shut there. */
mu_status mu_child_start(struct mu_child *child, void (*fn)(void *arg), void *arg,
                         struct mu_err *err);
/* True once it is over; `*signal` is what killed it, or 0. Does not wait. */
bool mu_child_is_over(struct mu_child *child, int *signal);
/* Ends it. One that is held inside a driver may stay for a while yet: it is not waited for. */
void mu_child_kill(struct mu_child *child);

#endif
