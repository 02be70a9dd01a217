/*
 * Rows of random weights, a function of (seed, row) alone: any order, any thread, any machine gives
 * the same bytes. Random bits fill whole blocks; then each type's scales are set so that the
 * values have a standard deviation near 0.02, whatever the codes are.
 */
#include "format/format_int.h"

#include "format/synth.h"

#include <pthread.h>

/* Counter -> 64 random bits: two multiplications and shifts, enough that no pattern shows. */
static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

/* Rows start far apart on the counter, so that neighbouring rows share nothing. */
static uint64_t row_counter(uint64_t seed, uint64_t row)
{
    return mix(seed ^ mix(row + UINT64_C(0x9e3779b97f4a7c15)));
}

static void fill_bytes(uint64_t counter, uint8_t *out, uint64_t n)
{
    uint64_t i = 0, x;
    for (; i + 8 <= n; i += 8) {
        x = mix(counter + i);
        memcpy(out + i, &x, 8);
    }
    x = mix(counter + i);
    memcpy(out + i, &x, n - i);
}

/* ---- Plain types --------------------------------------------------------------------------- */

/* The sum of four random bytes is normal enough: 0..1020, mean 510, deviation 147.8. */
#define SUMS      1021
#define SUM_MEAN  510
#define SUM_SCALE (0.02f / 147.8f)

static float f32_of[SUMS];
static uint16_t f16_of[SUMS], bf16_of[SUMS];

static void make_tables(void)
{
    for (int i = 0; i < SUMS; i++) {
        f32_of[i] = (float)(i - SUM_MEAN) * SUM_SCALE;
        f16_of[i] = mu_f32_to_f16(f32_of[i]);
        bf16_of[i] = mu_f32_to_bf16(f32_of[i]);
    }
}

/* Four sums, one in each 16 bits: of two bytes of `x` and two of a scrambled `x`. */
static inline uint64_t sums_of(uint64_t x)
{
    const uint64_t bytes = UINT64_C(0x00ff00ff00ff00ff);
    uint64_t y = x * UINT64_C(0x9fb21c651e98df25);
    return (x & bytes) + (x >> 8 & bytes) + (y & bytes) + (y >> 8 & bytes);
}

static void fill_f32(uint64_t counter, float *out, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += 4) {
        uint64_t sums = sums_of(mix(counter + i));
        float four[4];
        for (int j = 0; j < 4; j++)
            four[j] = f32_of[sums >> 16 * j & 0xffff];
        memcpy(out + i, four, MU_MIN(n - i, UINT64_C(4)) * sizeof *out);
    }
}

static void fill_16(uint64_t counter, const uint16_t table[SUMS], uint16_t *out, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += 4) {
        uint64_t sums = sums_of(mix(counter + i)), four = 0;
        for (int j = 0; j < 4; j++)
            four |= (uint64_t)table[sums >> 16 * j & 0xffff] << 16 * j;
        memcpy(out + i, &four, MU_MIN(n - i, UINT64_C(4)) * sizeof *out);
    }
}

static void fill_plain(enum mu_dtype type, uint64_t counter, void *out, uint64_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_tables);
    if (type == MU_DTYPE_F32)
        fill_f32(counter, out, n);
    else
        fill_16(counter, type == MU_DTYPE_F16 ? f16_of : bf16_of, out, n);
}

static void fill_ones(enum mu_dtype type, void *out, uint64_t n)
{
    const uint16_t one = type == MU_DTYPE_F16 ? 0x3c00 : 0x3f80;
    for (uint64_t i = 0; i < n; i++)
        if (type == MU_DTYPE_F32)
            ((float *)out)[i] = 1;
        else
            ((uint16_t *)out)[i] = one;
}

/* ---- Quantised types ----------------------------------------------------------------------- */

/* The half-precision fields of a block and what they must hold: 0.02 over the deviation that the
 * type's formula gives random codes and scales; an offset is minus the mean. */
struct block_scales {
    enum mu_dtype type;
    struct {
        uint16_t offset;
        float value;
    } fields[2];
};

#define ONE(type, at, value)                                                                       \
    {                                                                                              \
        MU_DTYPE_##type,                                                                           \
        {                                                                                          \
            {at, value},                                                                           \
            {                                                                                      \
                at, value                                                                          \
            }                                                                                      \
        }                                                                                          \
    }
#define TWO(type, at, value, at2, value2)                                                          \
    {                                                                                              \
        MU_DTYPE_##type,                                                                           \
        {                                                                                          \
            {at, value},                                                                           \
            {                                                                                      \
                at2, value2                                                                        \
            }                                                                                      \
        }                                                                                          \
    }

static const struct block_scales block_scales[] = {
    ONE(Q4_0, 0, 0.02f / 4.61f),
    TWO(Q4_1, 0, 0.02f / 4.61f, 2, -7.5f * 0.02f / 4.61f),
    ONE(Q5_0, 0, 0.02f / 9.23f),
    TWO(Q5_1, 0, 0.02f / 9.23f, 2, -15.5f * 0.02f / 9.23f),
    ONE(Q8_0, 0, 0.02f / 73.9f),
    TWO(Q2_K, 80, 0.02f / 13.9f, 82, 1.5f * 0.02f / 13.9f),
    ONE(Q3_K, 108, 0.02f / 43.3f),
    TWO(Q4_K, 0, 0.02f / 258.0f, 2, 7.5f * 0.02f / 258.0f),
    TWO(Q5_K, 0, 0.02f / 527.0f, 2, 15.5f * 0.02f / 527.0f),
    ONE(Q6_K, 208, 0.02f / 1366.0f),
    ONE(IQ2_XXS, 0, 0.02f / 62.0f),
    ONE(IQ2_XS, 0, 0.02f / 62.0f),
    ONE(IQ2_S, 0, 0.02f / 62.0f),
    ONE(IQ3_XXS, 0, 0.02f / 148.0f),
    ONE(IQ3_S, 0, 0.02f / 166.0f),
    ONE(IQ1_S, 0, 0.02f / 7.4f),
    ONE(IQ4_NL, 0, 0.02f / 67.4f),
    ONE(IQ4_XS, 0, 0.02f / 1246.0f),
};

#define IQ1_M_SCALE  (0.02f / 7.4f)
#define IQ1_M_AT     48
#define E8M0_DEFAULT 120 /* 2^-7 times codes whose root mean square is 2.9 */

static const struct block_scales *scales_find(enum mu_dtype type)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(block_scales); i++)
        if (block_scales[i].type == type) return &block_scales[i];
    return NULL;
}

bool mu_synth_can(enum mu_dtype type)
{
    return type == MU_DTYPE_F32 || type == MU_DTYPE_F16 || type == MU_DTYPE_BF16 ||
           type == MU_DTYPE_MXFP4 || type == MU_DTYPE_IQ1_M || scales_find(type) != NULL;
}

/* IQ1_M spreads the bits of its scale over the high nibbles of four words. */
static void set_iq1_m(uint8_t *block)
{
    uint16_t scale = mu_f32_to_f16(IQ1_M_SCALE);
    for (size_t i = 0; i < 4; i++) {
        uint8_t *high = block + IQ1_M_AT + 2 * i + 1;
        *high = (uint8_t)((*high & 0x0f) | (scale >> (4 * i) & 0x0f) << 4);
    }
}

static void fill_blocks(enum mu_dtype type, uint64_t counter, uint8_t *out, uint64_t n_bytes)
{
    const struct block_scales *scales = scales_find(type);
    const uint64_t step = mu_dtype(type)->block_bytes;
    uint16_t half[2] = {0};
    for (int i = 0; i < 2 && scales; i++)
        half[i] = mu_f32_to_f16(scales->fields[i].value);
    fill_bytes(counter, out, n_bytes);
    for (uint8_t *block = out; block < out + n_bytes; block += step) {
        if (scales) {
            memcpy(block + scales->fields[0].offset, &half[0], 2);
            memcpy(block + scales->fields[1].offset, &half[1], 2);
        } else if (type == MU_DTYPE_MXFP4) {
            block[0] = E8M0_DEFAULT;
        } else {
            set_iq1_m(block);
        }
    }
}

/* ---- Rows ---------------------------------------------------------------------------------- */

void mu_synth_rows(const struct mu_tensor *tensor, uint64_t first, uint64_t n, uint8_t *out)
{
    const enum mu_synth_kind kind = (enum mu_synth_kind)(tensor->seed & 7);
    const uint64_t row_bytes = mu_tensor_row_bytes(tensor);
    const uint64_t values = tensor->n_dims ? tensor->dims[tensor->n_dims - 1] : 1;
    for (uint64_t row = first; row < first + n; row++, out += row_bytes) {
        uint64_t counter = row_counter(tensor->seed, row);
        if (kind == MU_SYNTH_ONES)
            fill_ones(tensor->type, out, values);
        else if (mu_dtype(tensor->type)->block_values == 1)
            fill_plain(tensor->type, counter, out, values);
        else
            fill_blocks(tensor->type, counter, out, row_bytes);
    }
}
