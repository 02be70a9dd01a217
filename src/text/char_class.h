/*
 * What kind of character a code point is, for the scanners: one byte of flags from a two-stage
 * table that is made once, at first use. Any thread.
 */
#ifndef MU_TEXT_CHAR_CLASS_H
#define MU_TEXT_CHAR_CLASS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    MU_CHAR_LETTER = 1,
    MU_CHAR_NUMBER = 2,
    MU_CHAR_SPACE = 4,  /* White_Space */
    MU_CHAR_LOWER = 8,  /* letters that are not upper or title case, and marks */
    MU_CHAR_UPPER = 16, /* letters that are not lower case, and marks */
    MU_CHAR_MARK = 32,
    MU_CHAR_WORD = 64,     /* letters, marks, decimal and letter numbers, connectors */
    MU_CHAR_UNSTABLE = 128 /* NFC may change it, or what stands before it */
};

#define MU_CHAR_BLOCK 128

struct mu_char_table {
    uint8_t ascii[256]; /* 0 from 128 on, so that a byte of a longer character ends an ASCII run */
    uint16_t block[0x110000 / MU_CHAR_BLOCK];
    uint8_t (*flags)[MU_CHAR_BLOCK];
};

/* NULL when memory was out at the first call. */
const struct mu_char_table *mu_char_table(void);

static inline uint8_t mu_char_flags(const struct mu_char_table *table, uint32_t cp)
{
    return table->flags[table->block[cp / MU_CHAR_BLOCK]][cp % MU_CHAR_BLOCK];
}

/* The character at p, in text that is known to be UTF-8. */
static inline uint32_t mu_char_next(const uint8_t *p, unsigned *len)
{
    if (p[0] < 0x80) {
        *len = 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *len = 2;
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    }
    if (p[0] < 0xf0) {
        *len = 3;
        return (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *len = 4;
    return (p[0] & 7u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

#endif
