/*
 * The table of data types: how values are stored in files, what a block of them costs, and where a
 * row of them may be cut. Any thread.
 */
#ifndef MU_BASE_DTYPE_H
#define MU_BASE_DTYPE_H

#include "base/text.h"

/*
 * X(name, text, values in a block, bytes of a block, GGUF number or -1, safetensors name or NULL)
 * `text` is the name people type (lower case). A row of n values is n / block values blocks.
 *
 * Types between Q4Z and E4M3_128 are no file's: format/ repacks the quantised checkpoints of
 * transformers into them (docs/internals/quantised.md). Each block begins with an fp32 scale:
 *   Q4Z   (code - zero) * scale: scale, zero (u8), codes as in Q4_0, 16 bytes for each 32 values
 *   Q8Z   the same: scale, zero (i16, as 256 happens), a byte a code
 *   Q4G   codes as in Q4Z without a head, and Q8G as in Q8Z: see struct mu_columns
 *   NF4   scale, codes as in Q4_0: value[code] * scale; FP4 has other values
 *   E4M3  scale, a byte a value
 */
#define MU_DTYPE_TABLE(X)                                                                          \
    X(F32, "f32", 1, 4, 0, "F32")                                                                  \
    X(F16, "f16", 1, 2, 1, "F16")                                                                  \
    X(BF16, "bf16", 1, 2, 30, "BF16")                                                              \
    X(Q4_0, "q4_0", 32, 18, 2, NULL)                                                               \
    X(Q4_1, "q4_1", 32, 20, 3, NULL)                                                               \
    X(Q5_0, "q5_0", 32, 22, 6, NULL)                                                               \
    X(Q5_1, "q5_1", 32, 24, 7, NULL)                                                               \
    X(Q8_0, "q8_0", 32, 34, 8, NULL)                                                               \
    X(Q2_K, "q2_k", 256, 84, 10, NULL)                                                             \
    X(Q3_K, "q3_k", 256, 110, 11, NULL)                                                            \
    X(Q4_K, "q4_k", 256, 144, 12, NULL)                                                            \
    X(Q5_K, "q5_k", 256, 176, 13, NULL)                                                            \
    X(Q6_K, "q6_k", 256, 210, 14, NULL)                                                            \
    X(IQ2_XXS, "iq2_xxs", 256, 66, 16, NULL)                                                       \
    X(IQ2_XS, "iq2_xs", 256, 74, 17, NULL)                                                         \
    X(IQ3_XXS, "iq3_xxs", 256, 98, 18, NULL)                                                       \
    X(IQ1_S, "iq1_s", 256, 50, 19, NULL)                                                           \
    X(IQ4_NL, "iq4_nl", 32, 18, 20, NULL)                                                          \
    X(IQ3_S, "iq3_s", 256, 110, 21, NULL)                                                          \
    X(IQ2_S, "iq2_s", 256, 82, 22, NULL)                                                           \
    X(IQ4_XS, "iq4_xs", 256, 136, 23, NULL)                                                        \
    X(IQ1_M, "iq1_m", 256, 56, 29, NULL)                                                           \
    X(TQ1_0, "tq1_0", 256, 54, 34, NULL)                                                           \
    X(TQ2_0, "tq2_0", 256, 66, 35, NULL)                                                           \
    X(MXFP4, "mxfp4", 32, 17, 39, NULL)                                                            \
    X(Q4Z, "q4z", 32, 21, -1, NULL)                                                                \
    X(Q4Z_128, "q4z_128", 128, 69, -1, NULL)                                                       \
    X(Q8Z, "q8z", 32, 38, -1, NULL)                                                                \
    X(Q8Z_128, "q8z_128", 128, 134, -1, NULL)                                                      \
    X(Q4G, "q4g", 32, 16, -1, NULL)                                                                \
    X(Q8G, "q8g", 32, 32, -1, NULL)                                                                \
    X(NF4, "nf4", 64, 36, -1, NULL)                                                                \
    X(FP4, "fp4", 64, 36, -1, NULL)                                                                \
    X(E4M3, "e4m3", 32, 36, -1, NULL)                                                              \
    X(E4M3_128, "e4m3_128", 128, 132, -1, NULL)                                                    \
    X(F64, "f64", 1, 8, 28, "F64")                                                                 \
    X(BOOL, "bool", 1, 1, -1, "BOOL")                                                              \
    X(U8, "u8", 1, 1, -1, "U8")                                                                    \
    X(I8, "i8", 1, 1, 24, "I8")                                                                    \
    X(U16, "u16", 1, 2, -1, "U16")                                                                 \
    X(I16, "i16", 1, 2, 25, "I16")                                                                 \
    X(U32, "u32", 1, 4, -1, "U32")                                                                 \
    X(I32, "i32", 1, 4, 26, "I32")                                                                 \
    X(U64, "u64", 1, 8, -1, "U64")                                                                 \
    X(I64, "i64", 1, 8, 27, "I64")                                                                 \
    X(F8_E4M3, "f8_e4m3", 1, 1, -1, "F8_E4M3")                                                     \
    X(F8_E5M2, "f8_e5m2", 1, 1, -1, "F8_E5M2")                                                     \
    X(F8_E8M0, "f8_e8m0", 1, 1, -1, "F8_E8M0")                                                     \
    X(F4, "f4", 2, 1, -1, "F4")

#define MU_DTYPE_ENUM_(name, text, values, bytes, gguf, st) MU_DTYPE_##name,
enum mu_dtype { MU_DTYPE_TABLE(MU_DTYPE_ENUM_) MU_DTYPE_COUNT };
#undef MU_DTYPE_ENUM_

struct mu_dtype_info {
    const char *name;
    uint16_t block_values, block_bytes;
    int16_t gguf;
    const char *safetensors;
};

const struct mu_dtype_info *mu_dtype(enum mu_dtype type);

/* False when nothing of that name or number exists. */
bool mu_dtype_by_name(struct mu_str name, enum mu_dtype *out); /* any case: "q8_0", "BF16" */
bool mu_dtype_by_gguf(uint32_t number, enum mu_dtype *out);
bool mu_dtype_by_safetensors(struct mu_str name, enum mu_dtype *out);

/* Bytes of `n` values stored in a row; false when n is not whole blocks or the product is too big.
 */
bool mu_dtype_bytes(enum mu_dtype type, uint64_t n, uint64_t *out);

/* Whether a value takes more bits in `a` than in `b`. */
bool mu_dtype_wider(enum mu_dtype a, enum mu_dtype b);

/*
 * How the columns of a matrix of Q4G or Q8G share scales when groups do not lie side by side. A row
 * is its blocks, then two floats for every group: value k is code * [group_of[k]][0] -
 * [group_of[k]][1].
 */
struct mu_columns {
    uint32_t n, n_groups;
    const uint32_t *group_of; /* [n] */
};

/* Half and bfloat16, exactly; towards them rounding to nearest even. */
float mu_f16_to_f32(uint16_t h);
uint16_t mu_f32_to_f16(float f);

/* What the codes of NF4 and FP4 stand for, as bitsandbytes stores them. */
extern const float mu_nf4_values[16], mu_fp4_values[16];
/* 8 bits with 4 of exponent and 3 of fraction; no infinities, 0x7f and 0xff are NaN. */
float mu_e4m3_to_f32(uint8_t code);

static inline float mu_f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t mu_f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float mu_bf16_to_f32(uint16_t h)
{
    return mu_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t mu_f32_to_bf16(float f)
{
    uint32_t bits = mu_f32_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); /* keep a NaN a NaN */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
