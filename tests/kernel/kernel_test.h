/*
 * What the tests of kernel/ share: random numbers by counter, random stored blocks of every type
 * with sane scales, and a weight packed from them.
 */
#ifndef MU_TESTS_KERNEL_TEST_H
#define MU_TESTS_KERNEL_TEST_H

#include "base/base.h"
#include "kernel/kernel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint64_t random_state;

static inline uint32_t random_u32(void)
{
    uint32_t counter[4] = {(uint32_t)random_state, (uint32_t)(random_state >> 32), 0, 0}, out[4];
    random_state++;
    mu_philox(0x6d7573746572, counter, out);
    return out[0];
}

static inline uint32_t random_below(uint32_t n)
{
    return random_u32() % n;
}

/* Roughly normal: enough like activations, with now and then a large value. */
static inline float random_value(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)random_u32() * 0x1p-32f - 0.5f;
    return random_below(50) ? sum * 1.7f : sum * 17.0f;
}

/* Where the half precision scales of a type's block lie; -1 ends the list. */
static inline const int *scale_offsets(enum mu_dtype type)
{
    static const int at[MU_DTYPE_COUNT][3] = {
        [MU_DTYPE_Q4_0] = {0, -1},    [MU_DTYPE_Q4_1] = {0, 2, -1}, [MU_DTYPE_Q5_0] = {0, -1},
        [MU_DTYPE_Q5_1] = {0, 2, -1}, [MU_DTYPE_Q8_0] = {0, -1},    [MU_DTYPE_Q2_K] = {80, 82, -1},
        [MU_DTYPE_Q3_K] = {108, -1},  [MU_DTYPE_Q4_K] = {0, 2, -1}, [MU_DTYPE_Q5_K] = {0, 2, -1},
        [MU_DTYPE_Q6_K] = {208, -1},  [MU_DTYPE_IQ2_XXS] = {0, -1}, [MU_DTYPE_IQ2_XS] = {0, -1},
        [MU_DTYPE_IQ2_S] = {0, -1},   [MU_DTYPE_IQ3_XXS] = {0, -1}, [MU_DTYPE_IQ3_S] = {0, -1},
        [MU_DTYPE_IQ1_S] = {0, -1},   [MU_DTYPE_IQ1_M] = {-1},      [MU_DTYPE_IQ4_NL] = {0, -1},
        [MU_DTYPE_IQ4_XS] = {0, -1},  [MU_DTYPE_MXFP4] = {-1},      [MU_DTYPE_TQ1_0] = {52, -1},
        [MU_DTYPE_TQ2_0] = {64, -1},
    };
    return at[type];
}

/* The fp32 scale and the zero of the types that have them; a byte that is no number of e4m3 goes.
 */
static inline void random_head(enum mu_dtype type, uint8_t *block)
{
    const struct mu_dtype_info *info = mu_dtype(type);
    float scale = random_value() * 0.01f;
    int16_t zero = (int16_t)random_below(257);
    memcpy(block, &scale, 4);
    if (type == MU_DTYPE_Q4Z || type == MU_DTYPE_Q4Z_128) block[4] = (uint8_t)random_below(17);
    if (type == MU_DTYPE_Q8Z || type == MU_DTYPE_Q8Z_128) memcpy(block + 4, &zero, 2);
    for (unsigned i = 4; type >= MU_DTYPE_E4M3 && i < info->block_bytes; i++)
        if ((block[i] & 0x7f) == 0x7f) block[i] ^= 1;
}

static inline void random_block(enum mu_dtype type, uint8_t *block)
{
    const struct mu_dtype_info *info = mu_dtype(type);
    if (info->block_values == 1) {
        float x = random_value() * 0.1f;
        mu_codec_encode(type, &x, block, 1);
        return;
    }
    for (unsigned i = 0; i < info->block_bytes; i++)
        block[i] = (uint8_t)random_u32();
    const int *at = scale_offsets(type);
    for (unsigned i = 0; i < 3 && at[i] >= 0; i++) {
        uint16_t half = mu_f32_to_f16(random_value() * 0.01f);
        memcpy(block + at[i], &half, 2);
    }
    if (type >= MU_DTYPE_Q4Z && type <= MU_DTYPE_E4M3_128) random_head(type, block);
    if (type == MU_DTYPE_MXFP4) block[0] = (uint8_t)(118 + random_below(8));
    if (type == MU_DTYPE_IQ1_M) { /* the exponent's bits: 2^-9 or so */
        block[55] = (uint8_t)((block[55] & 15) | 0x10);
        block[53] = (uint8_t)((block[53] & 15) | (block[53] & 0x30));
    }
}

/* `rows` stored rows of `cols` values. */
static inline uint8_t *random_stored(enum mu_dtype type, uint32_t rows, uint32_t cols)
{
    const struct mu_dtype_info *info = mu_dtype(type);
    uint64_t n = (uint64_t)rows * (cols / info->block_values);
    uint8_t *stored = mu_alloc(n * info->block_bytes);
    assert_non_null(stored);
    for (uint64_t i = 0; i < n; i++)
        random_block(type, stored + i * info->block_bytes);
    return stored;
}

/* Packs columns [col_first, col_first + cols) of all rows, in pieces of some row tiles. */
static inline struct mu_weight pack(const struct mu_kernels *k, enum mu_dtype type,
                                    enum mu_compute compute, const uint8_t *stored, uint32_t rows,
                                    uint32_t stored_cols, uint32_t col_first, uint32_t cols)
{
    struct mu_weight w = {.type = type,
                          .form = k->form(type, compute),
                          .rows = rows,
                          .cols = cols,
                          .col_first = col_first};
    uint64_t row_bytes;
    assert_true(mu_dtype_bytes(type, stored_cols, &row_bytes));
    w.bytes = k->weight_bytes(type, w.form, rows, col_first, cols);
    w.data = mu_alloc_aligned(64, w.bytes);
    assert_non_null(w.data);
    const uint8_t **at = mu_alloc(rows * sizeof *at);
    assert_non_null(at);
    for (uint32_t r = 0; r < rows; r++)
        at[r] = stored + r * row_bytes;
    for (uint32_t first = 0; first < rows; first += 2 * k->row_tile)
        k->weight_pack(&w, first, MU_MIN(rows - first, 2 * k->row_tile), at + first);
    mu_free(at);
    return w;
}

/* Activations in the weight's form, a row every *stride bytes. */
static inline void *store_forms(const struct mu_kernels *k, enum mu_form form, const float *x,
                                uint32_t n_rows, uint32_t cols, size_t *stride)
{
    *stride = MU_ROUND_UP(k->form_bytes(form, cols), (size_t)64);
    char *out = mu_alloc_aligned(64, n_rows * *stride);
    assert_non_null(out);
    for (uint32_t r = 0; r < n_rows; r++)
        for (uint32_t first = 0; first < cols; first += 64) /* any 32 may be written alone */
            k->form_store(form, out + r * *stride, cols, first, MU_MIN(cols - first, 64u),
                          x + (size_t)r * cols + first);
    return out;
}

#endif
