/* What the compiler offers beyond C17. Any room, any thread. */
#ifndef MU_BASE_COMPILER_H
#define MU_BASE_COMPILER_H

#include <stdint.h>

#define MU_NODISCARD      __attribute__((warn_unused_result))
#define MU_PRINTF(f, a)   __attribute__((format(printf, f, a)))
#define MU_UNUSED         __attribute__((unused))
#define MU_ALIGNED(n)     __attribute__((aligned(n)))
#define MU_LIKELY(x)      __builtin_expect(!!(x), 1)
#define MU_UNLIKELY(x)    __builtin_expect(!!(x), 0)
#define MU_ARRAY_LEN(a)   (sizeof(a) / sizeof((a)[0]))
#define MU_MIN(a, b)      ((a) < (b) ? (a) : (b))
#define MU_MAX(a, b)      ((a) > (b) ? (a) : (b))
#define MU_CEIL_DIV(a, b) (((a) + (b)-1) / (b))
#define MU_ROUND_UP(a, b) (MU_CEIL_DIV(a, b) * (b))

/* The cache line that hot shared words are kept apart by, and the alignment of every tensor. */
#define MU_CACHE_LINE 64

#endif
