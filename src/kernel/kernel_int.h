/*
 * What the files of kernel/ share and nobody else may see: blocks taken apart, code books, the list
 * of families.
 */
#ifndef MU_KERNEL_INT_H
#define MU_KERNEL_INT_H

#include "kernel/kernel.h"

#define MU_PARTS_MAX 256 /* values of the largest stored block */

/*
 * A stored block taken apart. Value i is d * sc[i / 16] * code[i] - dmin * m[i / 16], products
 * taken in that order, each rounded to float: exactly what the format defines for every type,
 * because sc is 1 where a type has one scale and dmin is 0 where it has no minimum.
 */
struct mu_parts {
    float d, dmin;
    int8_t sc[MU_PARTS_MAX / 16];
    uint8_t m[MU_PARTS_MAX / 16];
    int8_t code[MU_PARTS_MAX];
};

/*
 * What a type's values are made of: the numbers themselves; codes that are integers, so that sums
 * of products can be; or codes that stand for numbers (value i is d * number(code[i])), which only
 * fp32 can add; or integers whose scales lie apart (struct mu_columns), for which this is true too.
 */
enum mu_coding { MU_CODING_PLAIN, MU_CODING_INTEGERS, MU_CODING_NUMBERS, MU_CODING_COLUMNS };

enum mu_coding mu_coding(enum mu_dtype type);
/* Takes one block apart, of any type that is not plain. */
void mu_parts_split(enum mu_dtype type, const uint8_t *block, struct mu_parts *parts);
/* The first n values, whole groups of 16. */
void mu_parts_values(enum mu_dtype type, const struct mu_parts *p, unsigned n, float *out);

/* Values [first, first + n) of a row with columns, of which `codes` are those of value first. */
void mu_columns_values(enum mu_dtype type, const struct mu_columns *columns, uint32_t first,
                       const uint8_t *codes, const uint8_t *table, uint32_t n, float *out);

void mu_split_q4g(const uint8_t *b, struct mu_parts *p);
void mu_split_q8g(const uint8_t *b, struct mu_parts *p);
void mu_split_q4z(const uint8_t *b, struct mu_parts *p);
void mu_split_q4z_128(const uint8_t *b, struct mu_parts *p);
void mu_split_q8z(const uint8_t *b, struct mu_parts *p);
void mu_split_q8z_128(const uint8_t *b, struct mu_parts *p);
void mu_split_fp4(const uint8_t *b, struct mu_parts *p);
void mu_split_e4m3(const uint8_t *b, struct mu_parts *p);
void mu_split_e4m3_128(const uint8_t *b, struct mu_parts *p);
float mu_number_nf4(uint8_t code);
float mu_number_fp4(uint8_t code);

/* How many partial results of attention wait at once, for positions below `context`. */
static inline uint32_t mu_attend_levels(uint32_t context)
{
    uint32_t levels = 1;
    for (uint32_t chunks = MU_CEIL_DIV(context, MU_ATTEND_CHUNK); chunks > 0; chunks >>= 1)
        levels++;
    return levels;
}

static inline uint16_t mu_get16(const uint8_t *p)
{
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline uint32_t mu_get32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline float mu_get_f16(const uint8_t *p)
{
    return mu_f16_to_f32(mu_get16(p));
}

extern const uint16_t mu_grid_iq2_xxs[256], mu_grid_iq2_xs[512], mu_grid_iq2_s[1024];
extern const uint16_t mu_grid_iq3_xxs[256], mu_grid_iq3_s[512], mu_grid_iq1[2048];
extern const int8_t mu_codes_iq4[16], mu_codes_fp4[16];

#endif
