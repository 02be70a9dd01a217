/*
 * All heap memory of the program, so that any allocation can be made to fail by a test, and arenas,
 * which tie many allocations to one lifetime (process, model, request, step).
 *
 * mu_alloc and friends: any thread. An arena: one thread at a time.
 */
#ifndef MU_BASE_ALLOC_H
#define MU_BASE_ALLOC_H

#include "base/status.h"

#include <stddef.h>

/* NULL when memory is out. Sizes are checked products of n and size; 0 bytes gives a valid
 * pointer. Free with mu_free. */
void *mu_alloc(size_t size) MU_NODISCARD;
void *mu_calloc(size_t n, size_t size) MU_NODISCARD;
void *mu_realloc(void *p, size_t size) MU_NODISCARD;
char *mu_strndup(const char *s, size_t len) MU_NODISCARD;
char *mu_strdup(const char *s) MU_NODISCARD;
void mu_free(void *p);

/* `align` is a power of two >= sizeof(void *). Free with mu_free. Not cleared. */
void *mu_alloc_aligned(size_t align, size_t size) MU_NODISCARD;

/* Fills `err` with the size that could not be had; returns MU_E_MEMORY. */
static inline mu_status mu_fail_memory(struct mu_err *err, size_t size)
{
    return mu_fail(err, MU_E_MEMORY, "out of memory: %zu bytes could not be had", size);
}

struct mu_arena;

/* At most `limit_bytes` are handed out: outside bytes cannot make a parser grow without end. */
struct mu_arena *mu_arena_create(size_t limit_bytes) MU_NODISCARD;
void mu_arena_destroy(struct mu_arena *arena);

/* Cleared memory aligned to 16, valid until the arena is destroyed; NULL past the limit. */
void *mu_arena_alloc(struct mu_arena *arena, size_t n, size_t size) MU_NODISCARD;
char *mu_arena_strndup(struct mu_arena *arena, const char *s, size_t len) MU_NODISCARD;
char *mu_arena_printf(struct mu_arena *arena, const char *format, ...) MU_PRINTF(2, 3) MU_NODISCARD;
size_t mu_arena_used_bytes(const struct mu_arena *arena);

#endif
