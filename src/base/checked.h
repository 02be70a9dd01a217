/* Arithmetic on sizes that outside bytes had a say in: every sum and product is checked. */
#ifndef MU_BASE_CHECKED_H
#define MU_BASE_CHECKED_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>

/* False when the result does not fit; `*out` is set only on success. */
static inline bool mu_add(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return false;
    *out = sum;
    return true;
}

static inline bool mu_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t product;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *out = product;
    return true;
}

/* True when [offset, offset + n) lies inside `size` bytes. */
static inline bool mu_range_ok(uint64_t offset, uint64_t n, uint64_t size)
{
    return offset <= size && n <= size - offset;
}

#endif
