/*
 * Stored blocks to floats; encode.c goes the other way. Every quantised type is first taken apart
 * into codes and scales (struct mu_parts), so that one formula decodes them all and packers need no
 * knowledge of bit layouts. Pure; any thread.
 */
#include "kernel/kernel_int.h"

const int8_t mu_codes_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};
const int8_t mu_codes_fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const int8_t iq2_magnitudes[4] = {8, 25, 43, 0};
static const int8_t iq3_xxs_magnitudes[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const int8_t iq3_s_magnitudes[8] = {1, 3, 5, 7, 9, 11, 13, 15};

/* One scale for the whole block. */
static void scale_single(struct mu_parts *p, float d, float dmin)
{
    p->d = d;
    p->dmin = dmin;
    memset(p->sc, 1, sizeof p->sc);
    memset(p->m, 1, sizeof p->m);
}

/* Scale and minimum of 32 values: they cover two groups of 16. */
static void scale_pair(struct mu_parts *p, size_t i, int sc, unsigned m)
{
    p->sc[2 * i] = p->sc[2 * i + 1] = (int8_t)sc;
    p->m[2 * i] = p->m[2 * i + 1] = (uint8_t)m;
}

/* 32 codes of 4 bits, low nibbles first, `high` their fifth bits. */
static void codes_32(int8_t *code, const uint8_t *q, uint32_t high, int offset)
{
    for (unsigned i = 0; i < 16; i++) {
        code[i] = (int8_t)((q[i] & 15) - offset);
        code[i + 16] = (int8_t)((q[i] >> 4) - offset);
    }
    for (unsigned i = 0; high && i < 32; i++)
        code[i] = (int8_t)(code[i] + (int)(high >> i & 1) * 16);
}

static void split_q4_0(const uint8_t *b, struct mu_parts *p)
{
    scale_single(p, mu_get_f16(b), 0);
    codes_32(p->code, b + 2, 0, 8);
}

static void split_q4_1(const uint8_t *b, struct mu_parts *p)
{
    scale_single(p, mu_get_f16(b), -mu_get_f16(b + 2));
    codes_32(p->code, b + 4, 0, 0);
}

static void split_q5_0(const uint8_t *b, struct mu_parts *p)
{
    scale_single(p, mu_get_f16(b), 0);
    codes_32(p->code, b + 6, mu_get32(b + 2), 16);
}

static void split_q5_1(const uint8_t *b, struct mu_parts *p)
{
    scale_single(p, mu_get_f16(b), -mu_get_f16(b + 2));
    codes_32(p->code, b + 8, mu_get32(b + 4), 0);
}

static void split_q8_0(const uint8_t *b, struct mu_parts *p)
{
    scale_single(p, mu_get_f16(b), 0);
    memcpy(p->code, b + 2, 32);
}

static void codes_looked_up(int8_t *code, const uint8_t *q, const int8_t table[16])
{
    for (unsigned i = 0; i < 16; i++) {
        code[i] = table[q[i] & 15];
        code[i + 16] = table[q[i] >> 4];
    }
}

static void split_iq4_nl(const uint8_t *b, struct mu_parts *p)
{
    scale_single(p, mu_get_f16(b), 0);
    codes_looked_up(p->code, b + 2, mu_codes_iq4);
}

/* The codes are doubled values, so the scale is 2^(e - 128); below 2 that is subnormal. */
static void split_mxfp4(const uint8_t *b, struct mu_parts *p)
{
    uint32_t e = b[0];
    scale_single(p, mu_f32_from_bits(e < 2 ? 0x00200000u << e : (e - 1) << 23), 0);
    codes_looked_up(p->code, b + 1, mu_codes_fp4);
}

/* 256 codes of 2 bits: 32 bytes hold 4 runs of 32 values. */
static void codes_2bit(int8_t *code, const uint8_t *q, int offset)
{
    for (unsigned run = 0; run < 8; run++)
        for (unsigned i = 0; i < 32; i++)
            code[32 * run + i] = (int8_t)((q[run / 4 * 32 + i] >> (run % 4 * 2) & 3) - offset);
}

static void split_q2_k(const uint8_t *b, struct mu_parts *p)
{
    p->d = mu_get_f16(b + 80);
    p->dmin = mu_get_f16(b + 82);
    for (unsigned i = 0; i < 16; i++) {
        p->sc[i] = (int8_t)(b[i] & 15);
        p->m[i] = b[i] >> 4;
    }
    codes_2bit(p->code, b + 16, 0);
}

static void split_q3_k(const uint8_t *b, struct mu_parts *p)
{
    const uint8_t *high = b, *scales = b + 96;
    p->d = mu_get_f16(b + 108);
    p->dmin = 0;
    codes_2bit(p->code, b + 32, 4);
    for (unsigned run = 0; run < 8; run++)
        for (unsigned i = 0; i < 32; i++)
            p->code[32 * run + i] = (int8_t)(p->code[32 * run + i] + (high[i] >> run & 1) * 4);
    for (unsigned i = 0; i < 16; i++) {
        int low = scales[i % 8] >> (i / 8 * 4) & 15, top = scales[8 + i % 4] >> (i / 4 * 2) & 3;
        p->sc[i] = (int8_t)((low | top << 4) - 32);
        p->m[i] = 0;
    }
}

/* Eight scales and minima of 6 bits in 12 bytes, as Q4_K and Q5_K have them. */
static void scales_6bit(struct mu_parts *p, const uint8_t *b, const uint8_t *s)
{
    p->d = mu_get_f16(b);
    p->dmin = mu_get_f16(b + 2);
    for (size_t i = 0; i < 4; i++) {
        scale_pair(p, i, s[i] & 63, s[i + 4] & 63);
        scale_pair(p, i + 4, (s[i + 8] & 15) | (s[i] >> 6) << 4,
                   (unsigned)(s[i + 8] >> 4 | (s[i + 4] >> 6) << 4));
    }
}

/* 256 codes of 4 bits: 32 bytes hold 32 values in their low and 32 in their high nibbles. */
static void codes_4bit(int8_t *code, const uint8_t *q)
{
    for (unsigned run = 0; run < 8; run++)
        for (unsigned i = 0; i < 32; i++)
            code[32 * run + i] = (int8_t)(q[run / 2 * 32 + i] >> (run % 2 * 4) & 15);
}

static void split_q4_k(const uint8_t *b, struct mu_parts *p)
{
    scales_6bit(p, b, b + 4);
    codes_4bit(p->code, b + 16);
}

static void split_q5_k(const uint8_t *b, struct mu_parts *p)
{
    scales_6bit(p, b, b + 4);
    codes_4bit(p->code, b + 48);
    for (unsigned run = 0; run < 8; run++)
        for (unsigned i = 0; i < 32; i++)
            p->code[32 * run + i] = (int8_t)(p->code[32 * run + i] | (b[16 + i] >> run & 1) << 4);
}

static void split_q6_k(const uint8_t *b, struct mu_parts *p)
{
    const uint8_t *low = b, *high = b + 128;
    p->d = mu_get_f16(b + 208);
    p->dmin = 0;
    memcpy(p->sc, b + 192, 16);
    memset(p->m, 0, sizeof p->m);
    for (unsigned run = 0; run < 8; run++)
        for (unsigned i = 0; i < 32; i++) {
            int l = low[run / 4 * 64 + run % 2 * 32 + i] >> (run / 2 % 2 * 4) & 15;
            int h = high[run / 4 * 32 + i] >> (run % 4 * 2) & 3;
            p->code[32 * run + i] = (int8_t)((l | h << 4) - 32);
        }
}

static void split_iq4_xs(const uint8_t *b, struct mu_parts *p)
{
    unsigned high = mu_get16(b + 2);
    p->d = mu_get_f16(b);
    p->dmin = 0;
    for (size_t i = 0; i < 8; i++) {
        int low = b[4 + i / 2] >> (i % 2 * 4) & 15;
        scale_pair(p, i, (low | (int)(high >> 2 * i & 3) << 4) - 32, 0);
        codes_looked_up(p->code + 32 * i, b + 8 + 16 * i, mu_codes_iq4);
    }
}

/* n magnitudes of `bits` bits from a code book's entry, negated where a bit of `signs` is set. */
static void codes_from_grid(int8_t *code, unsigned entry, unsigned n, unsigned bits,
                            const int8_t *magnitudes, unsigned signs)
{
    for (unsigned i = 0; i < n; i++) {
        int8_t x = magnitudes[entry >> (bits * i) & ((1u << bits) - 1)];
        code[i] = (int8_t)(signs >> i & 1 ? -x : x);
    }
}

/* Seven stored sign bits; the eighth makes the number of minus signs even. */
static unsigned signs_even(unsigned seven)
{
    return seven | ((unsigned)__builtin_popcount(seven) & 1) << 7;
}

/* Scales of the IQ2 and IQ3 types are d * (1/2 + s) * 1/4 or 1/2: odd multiples of a part of d. */
static void scale_odd(struct mu_parts *p, size_t group, unsigned s)
{
    p->sc[group] = (int8_t)(2 * s + 1);
    p->m[group] = 0;
}

static void split_iq2_xxs(const uint8_t *b, struct mu_parts *p)
{
    p->d = mu_get_f16(b) * 0.125f;
    p->dmin = 0;
    for (size_t i = 0; i < 32; i++) {
        const uint8_t *q = b + 2 + i / 4 * 8;
        uint32_t rest = mu_get32(q + 4);
        scale_odd(p, i / 2, rest >> 28);
        codes_from_grid(p->code + 8 * i, mu_grid_iq2_xxs[q[i % 4]], 8, 2, iq2_magnitudes,
                        signs_even(rest >> (i % 4 * 7) & 127));
    }
}

static void split_iq2_xs(const uint8_t *b, struct mu_parts *p)
{
    p->d = mu_get_f16(b) * 0.125f;
    p->dmin = 0;
    for (size_t i = 0; i < 32; i++) {
        unsigned q = mu_get16(b + 2 + 2 * i);
        scale_odd(p, i / 2, b[66 + i / 4] >> (i / 2 % 2 * 4) & 15);
        codes_from_grid(p->code + 8 * i, mu_grid_iq2_xs[q & 511], 8, 2, iq2_magnitudes,
                        signs_even(q >> 9));
    }
}

static void split_iq2_s(const uint8_t *b, struct mu_parts *p)
{
    p->d = mu_get_f16(b) * 0.125f;
    p->dmin = 0;
    for (size_t i = 0; i < 32; i++) {
        unsigned entry = b[2 + i] + 256u * (b[66 + i / 4] >> (i % 4 * 2) & 3);
        scale_odd(p, i / 2, b[74 + i / 4] >> (i / 2 % 2 * 4) & 15);
        codes_from_grid(p->code + 8 * i, mu_grid_iq2_s[entry], 8, 2, iq2_magnitudes, b[34 + i]);
    }
}

static void split_iq3_xxs(const uint8_t *b, struct mu_parts *p)
{
    p->d = mu_get_f16(b) * 0.25f;
    p->dmin = 0;
    for (size_t i = 0; i < 64; i++) {
        uint32_t rest = mu_get32(b + 66 + i / 8 * 4);
        unsigned signs = signs_even(rest >> (i / 2 % 4 * 7) & 127);
        scale_odd(p, i / 4, rest >> 28);
        codes_from_grid(p->code + 4 * i, mu_grid_iq3_xxs[b[2 + i]], 4, 3, iq3_xxs_magnitudes,
                        signs >> (i % 2 * 4));
    }
}

static void split_iq3_s(const uint8_t *b, struct mu_parts *p)
{
    p->d = mu_get_f16(b);
    p->dmin = 0;
    for (size_t i = 0; i < 64; i++) {
        unsigned entry = b[2 + i] + 256u * (b[66 + i / 8] >> (i % 8) & 1);
        scale_odd(p, i / 4, b[106 + i / 16] >> (i / 8 % 2 * 4) & 15);
        codes_from_grid(p->code + 4 * i, mu_grid_iq3_s[entry], 4, 3, iq3_s_magnitudes,
                        b[74 + i / 2] >> (i % 2 * 4) & 15);
    }
}

/* The IQ1 types shift the grid's -1, 0, 1 by 1/8 up or down: codes are eighths. */
static void codes_eighths(int8_t *code, unsigned entry, bool down)
{
    static const int8_t up_by_one[4] = {-7, 1, 9, 0}, down_by_one[4] = {-9, -1, 7, 0};
    codes_from_grid(code, mu_grid_iq1[entry], 8, 2, down ? down_by_one : up_by_one, 0);
}

static void split_iq1_s(const uint8_t *b, struct mu_parts *p)
{
    p->d = mu_get_f16(b) * 0.125f;
    p->dmin = 0;
    for (size_t i = 0; i < 32; i++) {
        unsigned high = mu_get16(b + 34 + i / 4 * 2);
        scale_odd(p, i / 2, high >> 12 & 7);
        codes_eighths(p->code + 8 * i, b[2 + i] | (high >> (i % 4 * 3) & 7) << 8, high >> 15);
    }
}

/* The half precision scale lies in the top nibbles of the four words of scales. */
static void split_iq1_m(const uint8_t *b, struct mu_parts *p)
{
    const uint8_t *scales = b + 48;
    unsigned d = 0;
    for (size_t i = 0; i < 4; i++)
        d |= (unsigned)(mu_get16(scales + 2 * i) >> 12) << (4 * i);
    p->d = mu_f16_to_f32((uint16_t)d) * 0.125f;
    p->dmin = 0;
    for (size_t i = 0; i < 32; i++) {
        unsigned high = b[32 + i / 2] >> (i % 2 * 4) & 15;
        scale_odd(p, i / 2, mu_get16(scales + i / 8 * 2) >> (i / 2 % 4 * 3) & 7);
        codes_eighths(p->code + 8 * i, b[i] | (high & 7) << 8, high & 8);
    }
}

/* Five base-3 digits a byte, stored as a fraction: times 3^k, the digit is the carry into bit 8. */
static int8_t ternary_digit(uint8_t byte, unsigned k)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    return (int8_t)(((uint8_t)(byte * powers[k]) * 3 >> 8) - 1);
}

static void split_tq1_0(const uint8_t *b, struct mu_parts *p)
{
    scale_single(p, mu_get_f16(b + 52), 0);
    for (unsigned i = 0; i < 160; i++)
        p->code[i] = ternary_digit(b[i % 32], i / 32);
    for (unsigned i = 0; i < 80; i++)
        p->code[160 + i] = ternary_digit(b[32 + i % 16], i / 16);
    for (unsigned i = 0; i < 16; i++)
        p->code[240 + i] = ternary_digit(b[48 + i % 4], i / 4);
}

static void split_tq2_0(const uint8_t *b, struct mu_parts *p)
{
    scale_single(p, mu_get_f16(b + 64), 0);
    codes_2bit(p->code, b, 1);
}

static void (*const splits[MU_DTYPE_COUNT])(const uint8_t *block, struct mu_parts *parts) = {
    [MU_DTYPE_Q4_0] = split_q4_0,       [MU_DTYPE_Q4_1] = split_q4_1,
    [MU_DTYPE_Q5_0] = split_q5_0,       [MU_DTYPE_Q5_1] = split_q5_1,
    [MU_DTYPE_Q8_0] = split_q8_0,       [MU_DTYPE_Q2_K] = split_q2_k,
    [MU_DTYPE_Q3_K] = split_q3_k,       [MU_DTYPE_Q4_K] = split_q4_k,
    [MU_DTYPE_Q5_K] = split_q5_k,       [MU_DTYPE_Q6_K] = split_q6_k,
    [MU_DTYPE_IQ2_XXS] = split_iq2_xxs, [MU_DTYPE_IQ2_XS] = split_iq2_xs,
    [MU_DTYPE_IQ2_S] = split_iq2_s,     [MU_DTYPE_IQ3_XXS] = split_iq3_xxs,
    [MU_DTYPE_IQ3_S] = split_iq3_s,     [MU_DTYPE_IQ1_S] = split_iq1_s,
    [MU_DTYPE_IQ1_M] = split_iq1_m,     [MU_DTYPE_IQ4_NL] = split_iq4_nl,
    [MU_DTYPE_IQ4_XS] = split_iq4_xs,   [MU_DTYPE_MXFP4] = split_mxfp4,
    [MU_DTYPE_TQ1_0] = split_tq1_0,     [MU_DTYPE_TQ2_0] = split_tq2_0,
    [MU_DTYPE_Q4Z] = mu_split_q4z,      [MU_DTYPE_Q4Z_128] = mu_split_q4z_128,
    [MU_DTYPE_Q8Z] = mu_split_q8z,      [MU_DTYPE_Q8Z_128] = mu_split_q8z_128,
    [MU_DTYPE_Q4G] = mu_split_q4g,      [MU_DTYPE_Q8G] = mu_split_q8g,
    [MU_DTYPE_NF4] = mu_split_fp4,      [MU_DTYPE_FP4] = mu_split_fp4,
    [MU_DTYPE_E4M3] = mu_split_e4m3,    [MU_DTYPE_E4M3_128] = mu_split_e4m3_128,
};

/* What the codes of a type stand for that are not integers. */
static float (*const numbers[MU_DTYPE_COUNT])(uint8_t code) = {
    [MU_DTYPE_NF4] = mu_number_nf4,
    [MU_DTYPE_FP4] = mu_number_fp4,
    [MU_DTYPE_E4M3] = mu_e4m3_to_f32,
    [MU_DTYPE_E4M3_128] = mu_e4m3_to_f32,
};

enum mu_coding mu_coding(enum mu_dtype type)
{
    if (!splits[type]) return MU_CODING_PLAIN;
    if (type == MU_DTYPE_Q4G || type == MU_DTYPE_Q8G) return MU_CODING_COLUMNS;
    return numbers[type] ? MU_CODING_NUMBERS : MU_CODING_INTEGERS;
}

void mu_parts_split(enum mu_dtype type, const uint8_t *block, struct mu_parts *parts)
{
    splits[type](block, parts);
}

static bool is_plain(enum mu_dtype type)
{
    return type == MU_DTYPE_F32 || type == MU_DTYPE_F16 || type == MU_DTYPE_BF16;
}

bool mu_codec_can_decode(enum mu_dtype type)
{
    return is_plain(type) || (splits[type] && mu_coding(type) != MU_CODING_COLUMNS);
}

void mu_parts_values(enum mu_dtype type, const struct mu_parts *p, unsigned n, float *out)
{
    if (numbers[type]) {
        for (unsigned i = 0; i < n; i++)
            out[i] = p->d * numbers[type]((uint8_t)p->code[i]);
        return;
    }
    for (unsigned g = 0; g < n / 16; g++) {
        float scale = p->d * (float)p->sc[g], min = p->dmin * (float)p->m[g];
        for (unsigned i = 16 * g; i < 16 * g + 16; i++)
            out[i] = scale * (float)p->code[i] - min;
    }
}

static void decode_blocks(enum mu_dtype type, const uint8_t *b, float *out, uint64_t n)
{
    const struct mu_dtype_info *info = mu_dtype(type);
    for (uint64_t i = 0; i < n; i += info->block_values, b += info->block_bytes) {
        struct mu_parts p;
        splits[type](b, &p);
        mu_parts_values(type, &p, info->block_values, out + i);
    }
}

void mu_codec_decode(enum mu_dtype type, const void *stored, float *out, uint64_t n)
{
    const uint8_t *b = stored;
    if (type == MU_DTYPE_F32) {
        memcpy(out, b, n * sizeof *out);
    } else if (type == MU_DTYPE_F16) {
        for (uint64_t i = 0; i < n; i++)
            out[i] = mu_get_f16(b + 2 * i);
    } else if (type == MU_DTYPE_BF16) {
        for (uint64_t i = 0; i < n; i++)
            out[i] = mu_bf16_to_f32(mu_get16(b + 2 * i));
    } else {
        decode_blocks(type, b, out, n);
    }
}
