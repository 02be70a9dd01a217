/*
 * A bounded reader of outside bytes with a sticky failure: every read checks what is left, a failed
 * read returns zero and marks the cursor, and the parser asks once in a while whether it still
 * stands. Little-endian, as the files are. One thread at a time.
 */
#ifndef MU_BASE_CURSOR_H
#define MU_BASE_CURSOR_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "file formats are read in place; a big-endian machine needs byte swaps here"
#endif

struct mu_cursor {
    const uint8_t *bytes;
    uint64_t size, pos;
    bool failed; /* something was wanted beyond the end; `pos` stays where that was */
};

static inline struct mu_cursor mu_cursor_over(const void *bytes, uint64_t size)
{
    return (struct mu_cursor){.bytes = bytes, .size = size};
}

static inline uint64_t mu_cursor_left(const struct mu_cursor *c)
{
    return c->failed ? 0 : c->size - c->pos;
}

/* Borrows the next n bytes; NULL when fewer are left. */
static inline const uint8_t *mu_cursor_take(struct mu_cursor *c, uint64_t n)
{
    if (c->failed || n > c->size - c->pos) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->bytes + c->pos;
    c->pos += n;
    return p;
}

static inline uint64_t mu_cursor_uint_(struct mu_cursor *c, unsigned n)
{
    uint64_t v = 0;
    const uint8_t *p = mu_cursor_take(c, n);
    if (p) memcpy(&v, p, n);
    return v;
}

static inline uint8_t mu_cursor_u8(struct mu_cursor *c)
{
    return (uint8_t)mu_cursor_uint_(c, 1);
}
static inline uint16_t mu_cursor_u16(struct mu_cursor *c)
{
    return (uint16_t)mu_cursor_uint_(c, 2);
}
static inline uint32_t mu_cursor_u32(struct mu_cursor *c)
{
    return (uint32_t)mu_cursor_uint_(c, 4);
}
static inline uint64_t mu_cursor_u64(struct mu_cursor *c)
{
    return mu_cursor_uint_(c, 8);
}

#endif
