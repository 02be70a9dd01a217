/* Heap and arenas; see alloc.h. */
#include "base/alloc.h"

#include "base/checked.h"
#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *mu_alloc(size_t size)
{
    if (mu_fault_hit(MU_FAULT_ALLOC)) return NULL;
    return malloc(size ? size : 1);
}

void *mu_calloc(size_t n, size_t size)
{
    if (mu_fault_hit(MU_FAULT_ALLOC)) return NULL;
    return calloc(n ? n : 1, size ? size : 1);
}

void *mu_realloc(void *p, size_t size)
{
    if (mu_fault_hit(MU_FAULT_ALLOC)) return NULL;
    return realloc(p, size ? size : 1);
}

void *mu_alloc_aligned(size_t align, size_t size)
{
    void *p = NULL;
    if (mu_fault_hit(MU_FAULT_ALLOC) || posix_memalign(&p, align, size ? size : 1) != 0)
        return NULL;
    return p;
}

char *mu_strndup(const char *s, size_t len)
{
    char *copy = mu_alloc(len + 1);
    if (copy) {
        memcpy(copy, s, len);
        copy[len] = '\0';
    }
    return copy;
}

char *mu_strdup(const char *s)
{
    return mu_strndup(s, strlen(s));
}

void mu_free(void *p)
{
    free(p);
}

/*
 * An arena is a list of chunks that grow with use. In test builds every allocation is a chunk of
 * its own, so that the address sanitizer sees each border.
 */
#define ARENA_ALIGN       16
#define ARENA_CHUNK_BYTES 4096
#define ARENA_CHUNK_MAX   (1u << 20)

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(ARENA_ALIGN) char bytes[];
};

struct mu_arena {
    struct arena_chunk *chunks; /* newest first; only it has room */
    size_t used, limit, next_size;
};

struct mu_arena *mu_arena_create(size_t limit_bytes)
{
    struct mu_arena *arena = mu_calloc(1, sizeof *arena);
    if (arena) {
        arena->limit = limit_bytes;
        arena->next_size = ARENA_CHUNK_BYTES;
    }
    return arena;
}

void mu_arena_destroy(struct mu_arena *arena)
{
    if (!arena) return;
    for (struct arena_chunk *c = arena->chunks, *next; c; c = next) {
        next = c->next;
        mu_free(c);
    }
    mu_free(arena);
}

static struct arena_chunk *arena_grow(struct mu_arena *arena, size_t need)
{
#ifdef MU_CHECKS
    size_t size = need;
#else
    size_t size = MU_MAX(need, arena->next_size);
    arena->next_size = MU_MIN(arena->next_size * 2, (size_t)ARENA_CHUNK_MAX);
#endif
    struct arena_chunk *c = mu_alloc(sizeof *c + size);
    if (!c) return NULL;
    *c = (struct arena_chunk){.next = arena->chunks, .size = size};
    arena->chunks = c;
    return c;
}

void *mu_arena_alloc(struct mu_arena *arena, size_t n, size_t size)
{
    uint64_t bytes;
    if (!mu_mul(n, size, &bytes) || bytes > arena->limit - arena->used) return NULL;
    if (bytes > SIZE_MAX / 2)
        return NULL; /* no limit was meant: keep the sums below from wrapping */
#ifndef MU_CHECKS
    bytes = MU_ROUND_UP(bytes, ARENA_ALIGN);
#endif
    struct arena_chunk *c = arena->chunks;
    if (!c || bytes > c->size - c->used) c = arena_grow(arena, bytes);
    if (!c) return NULL;
    void *p = c->bytes + c->used;
    c->used += bytes;
    arena->used += MU_MIN(bytes, arena->limit - arena->used);
    return memset(p, 0, bytes);
}

char *mu_arena_strndup(struct mu_arena *arena, const char *s, size_t len)
{
    char *copy = mu_arena_alloc(arena, len + 1, 1);
    if (copy) memcpy(copy, s, len);
    return copy;
}

char *mu_arena_printf(struct mu_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n < 0 ? NULL : mu_arena_alloc(arena, (size_t)n + 1, 1);
    if (text) {
        va_start(args, format);
        (void)vsnprintf(text, (size_t)n + 1, format, args);
        va_end(args);
    }
    return text;
}

size_t mu_arena_used_bytes(const struct mu_arena *arena)
{
    return arena->used;
}
