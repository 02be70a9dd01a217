/*
 * Libraries that are looked for when they are wanted, so that a machine without one loses only what
 * it gives. Any thread.
 */
#ifndef MU_BASE_LIBRARY_H
#define MU_BASE_LIBRARY_H

#include "base/status.h"

#include <stddef.h>

/* A function and where its pointer goes in the caller's struct of pointers. */
struct mu_symbol {
    const char *name;
    size_t offset;
};

/* Loads the first of `names` (NULL at the end) that is here, never to be unloaded, and fills
 * `functions`; a missing library or function is MU_E_MISSING. */
mu_status mu_library_load(const char *const *names, const struct mu_symbol *symbols, size_t n,
                          void *functions, struct mu_err *err);

#endif
