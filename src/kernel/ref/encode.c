/*
 * Floats to stored blocks: for each type the codes and scales that lose little, found by trying a
 * few scales and keeping the one with the least weighted error. The same bits for the same values
 * wherever it runs. Pure; any thread.
 */
#include "kernel/kernel_int.h"

#include <math.h>

/* The scale that makes the value of largest magnitude the code -2^(bits-1): its sign has one code
 * more than the other. */
static float extreme_scale(const float *x, unsigned n, float codes)
{
    float extreme = 0;
    for (unsigned i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    return extreme / -codes;
}

/* To the nearest whole number in [low, high], |bounds| < 2^22: adding 1.5 * 2^23 leaves no room for
 * a fraction, which compilers can do to many values at once. NaN becomes `low`. */
static float nearest(float q, float low, float high)
{
    q = q > low ? q : low;
    q = q < high ? q : high;
    return (q + 0x1.8p23f) - 0x1.8p23f;
}

static unsigned code_clamped(float q, unsigned top)
{
    return q > 0 ? (unsigned)MU_MIN(q, (float)top) : 0; /* NaN becomes 0 */
}

/* Q4_0 and Q5_0 (symmetric), Q4_1 and Q5_1 (with a minimum): 32 values into `bits`-bit codes. */
static void encode_legacy(const float *x, uint8_t *b, unsigned bits, bool with_min)
{
    unsigned top = (1u << bits) - 1;
    float low = x[0], high = x[0], d, shift;
    for (unsigned i = 1; i < 32; i++) {
        low = MU_MIN(low, x[i]);
        high = MU_MAX(high, x[i]);
    }
    if (with_min) {
        d = (high - low) / (float)top;
        shift = 0.5f;
    } else {
        d = extreme_scale(x, 32, (float)(1u << (bits - 1)));
        shift = (float)(1u << (bits - 1)) + 0.5f;
        low = 0;
    }
    float inverse = d != 0 ? 1 / d : 0;
    uint16_t head[2] = {mu_f32_to_f16(d), mu_f32_to_f16(low)};
    size_t n_head = with_min ? 4 : 2;
    memcpy(b, head, n_head);
    uint8_t *q = b + n_head + (bits == 5 ? 4 : 0);
    uint32_t fifth = 0;
    memset(q, 0, 16);
    for (unsigned i = 0; i < 32; i++) {
        unsigned code = code_clamped((x[i] - low) * inverse + shift, top);
        q[i % 16] = (uint8_t)(q[i % 16] | (code & 15) << (i / 16 * 4));
        fifth |= (uint32_t)(code >> 4) << i;
    }
    if (bits == 5) memcpy(b + n_head, &fifth, 4);
}

static void encode_q4_0(const float *x, uint8_t *b)
{
    encode_legacy(x, b, 4, false);
}

static void encode_q4_1(const float *x, uint8_t *b)
{
    encode_legacy(x, b, 4, true);
}

static void encode_q5_0(const float *x, uint8_t *b)
{
    encode_legacy(x, b, 5, false);
}

static void encode_q5_1(const float *x, uint8_t *b)
{
    encode_legacy(x, b, 5, true);
}

static void encode_q8_0(const float *x, uint8_t *b)
{
    float largest = 0;
    for (unsigned i = 0; i < 32; i++)
        largest = MU_MAX(largest, fabsf(x[i]));
    float d = largest / 127, inverse = d != 0 ? 1 / d : 0;
    uint16_t half = mu_f32_to_f16(d);
    memcpy(b, &half, 2);
    for (unsigned i = 0; i < 32; i++)
        b[2 + i] = (uint8_t)(int)nearest(roundf(x[i] * inverse), -127, 127);
}

/* ---- Codes on both sides of zero: Q3_K, Q6_K ----------------------------------------------- */

/*
 * The scale of 16 values for codes -codes..codes-1 with the least squared error, large values
 * weighing more (weight x^2). Candidates put the extreme value at a code near -codes; each is
 * followed by its best least-squares scale.
 */
static float signed_scale(const float *x, float codes)
{
    float extreme = extreme_scale(x, 16, codes), best = 0, best_gain = 0;
    if (extreme == 0) return 0;
    for (int step = -9; step <= 9; step++) {
        float inverse = (codes + 0.1f * (float)step) / (codes * extreme), dot = 0, norm = 0;
        for (unsigned i = 0; i < 16; i++) {
            float q = nearest(x[i] * inverse, -codes, codes - 1), w = x[i] * x[i];
            dot += w * x[i] * q;
            norm += w * q * q;
        }
        if (norm > 0 && dot * dot > best_gain * norm) {
            best = dot / norm;
            best_gain = dot * dot / norm;
        }
    }
    return best;
}

/* Sixteen signed scales as multiples -most..most-1 of one half precision number, which is given. */
static float scale_scales(const float *scale, unsigned n, float most, uint16_t *half, int8_t *sc)
{
    *half = mu_f32_to_f16(extreme_scale(scale, n, most));
    float d = mu_f16_to_f32(*half), inverse = d != 0 ? 1 / d : 0;
    for (unsigned g = 0; g < n; g++)
        sc[g] = (int8_t)nearest(scale[g] * inverse, -most, most - 1);
    return d;
}

static void encode_q6_k(const float *x, uint8_t *b)
{
    float scale[16];
    int8_t sc[16];
    uint16_t half;
    for (size_t g = 0; g < 16; g++)
        scale[g] = signed_scale(x + 16 * g, 32);
    float d = scale_scales(scale, 16, 128, &half, sc);
    memset(b, 0, 192);
    for (size_t i = 0; i < 256; i++) {
        size_t g = i / 16;
        float step = d * (float)sc[g];
        unsigned code = (unsigned)(nearest(step != 0 ? x[i] / step : 0, -32, 31) + 32);
        uint8_t *low = b + i / 128 * 64 + i % 64, *high = b + 128 + i / 128 * 32 + i % 32;
        *low = (uint8_t)(*low | (code & 15) << (i / 64 % 2 * 4));
        *high = (uint8_t)(*high | (code >> 4) << (i / 32 % 4 * 2));
    }
    memcpy(b + 192, sc, 16);
    memcpy(b + 208, &half, 2);
}

/* Two of the bits of value i, as Q2_K and Q3_K lay them: 32 bytes hold 4 runs of 32 values. */
static void put_2bit(uint8_t *q, size_t i, unsigned code)
{
    uint8_t *at = q + i / 128 * 32 + i % 32;
    *at = (uint8_t)(*at | (code & 3) << (i / 32 % 4 * 2));
}

static void encode_q3_k(const float *x, uint8_t *b)
{
    float scale[16];
    int8_t sc[16];
    uint16_t half;
    for (size_t g = 0; g < 16; g++)
        scale[g] = signed_scale(x + 16 * g, 4);
    float d = scale_scales(scale, 16, 32, &half, sc);
    memset(b, 0, 108);
    for (size_t i = 0; i < 256; i++) {
        size_t g = i / 16;
        float step = d * (float)sc[g];
        unsigned code = (unsigned)(nearest(step != 0 ? x[i] / step : 0, -4, 3) + 4);
        put_2bit(b + 32, i, code);
        b[i % 32] = (uint8_t)(b[i % 32] | (code >> 2) << (i / 32));
    }
    for (size_t g = 0; g < 16; g++) {
        unsigned u = (unsigned)(sc[g] + 32);
        uint8_t *low = b + 96 + g % 8, *top = b + 104 + g % 4;
        *low = (uint8_t)(*low | (u & 15) << (g / 8 * 4));
        *top = (uint8_t)(*top | (u >> 4) << (g / 4 * 2));
    }
    memcpy(b + 108, &half, 2);
}

/* ---- Codes with a minimum: Q2_K, Q4_K, Q5_K ------------------------------------------------ */

struct line {
    float scale, min; /* value = scale * code - min, both >= 0 */
};

/* The least-squares line through (code, value) with these weights, and its error. */
static struct line line_through(const float *x, const float *w, const float *code, unsigned n,
                                float *error)
{
    float sw = 0, sx = 0, sq = 0, sqq = 0, sqx = 0;
    for (unsigned i = 0; i < n; i++) {
        sw += w[i];
        sx += w[i] * x[i];
        sq += w[i] * code[i];
        sqq += w[i] * code[i] * code[i];
        sqx += w[i] * code[i] * x[i];
    }
    float det = sw * sqq - sq * sq;
    struct line l = {0};
    if (det > 0) l = (struct line){(sw * sqx - sq * sx) / det, (sq * sqx - sqq * sx) / det};
    if (!(l.min > 0)) l = (struct line){sqq > 0 ? MU_MAX(sqx / sqq, 0.0f) : 0, 0};
    *error = 0;
    for (unsigned i = 0; i < n; i++) {
        float d = l.scale * code[i] - l.min - x[i];
        *error += w[i] * d * d;
    }
    return l;
}

/* The line for codes 0..top with the least weighted error; candidates shrink or stretch the range
 * of the values. Large values weigh more, but small ones are not given up: the weight is |x| and
 * the root mean square. `n` is at most 32. */
static struct line best_line(const float *x, unsigned n, float top)
{
    struct line best = {0};
    float w[32], low = 0, high = 0, sum = 0, least = INFINITY;
    for (unsigned i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (unsigned i = 0; i < n; i++) {
        w[i] = sqrtf(sum / (float)n) + fabsf(x[i]);
        low = MU_MIN(low, x[i]);
        high = MU_MAX(high, x[i]);
    }
    if (!(high > low)) return best;
    for (int step = -5; step <= 10; step++) {
        float code[32], error, inverse = (top + 0.1f * (float)step) / (high - low);
        for (unsigned i = 0; i < n; i++)
            code[i] = nearest((x[i] - low) * inverse, 0, top);
        struct line l = line_through(x, w, code, n, &error);
        if (error < least) {
            least = error;
            best = l;
        }
    }
    return best;
}

/* Scales and minima as multiples 0..most of one half precision number each. */
struct lines {
    uint16_t half[2];
    float d, dmin;
    uint8_t sc[16], m[16];
};

static void quantise_lines(const struct line *line, unsigned n, float most, struct lines *out)
{
    float scale = 0, min = 0;
    for (unsigned g = 0; g < n; g++) {
        scale = MU_MAX(scale, line[g].scale);
        min = MU_MAX(min, line[g].min);
    }
    out->half[0] = mu_f32_to_f16(scale / most);
    out->half[1] = mu_f32_to_f16(min / most);
    out->d = mu_f16_to_f32(out->half[0]);
    out->dmin = mu_f16_to_f32(out->half[1]);
    for (unsigned g = 0; g < n; g++) {
        out->sc[g] = (uint8_t)nearest(out->d > 0 ? line[g].scale / out->d : 0, 0, most);
        out->m[g] = (uint8_t)nearest(out->dmin > 0 ? line[g].min / out->dmin : 0, 0, most);
    }
}

static unsigned line_code(const struct lines *l, unsigned g, float x, float top)
{
    float step = l->d * (float)l->sc[g];
    return (unsigned)nearest(step > 0 ? (x + l->dmin * (float)l->m[g]) / step : 0, 0, top);
}

static void encode_q2_k(const float *x, uint8_t *b)
{
    struct line line[16];
    struct lines l;
    for (size_t g = 0; g < 16; g++)
        line[g] = best_line(x + 16 * g, 16, 3);
    quantise_lines(line, 16, 15, &l);
    for (size_t g = 0; g < 16; g++)
        b[g] = (uint8_t)(l.sc[g] | l.m[g] << 4);
    memset(b + 16, 0, 64);
    for (size_t i = 0; i < 256; i++)
        put_2bit(b + 16, i, line_code(&l, (unsigned)i / 16, x[i], 3));
    memcpy(b + 80, l.half, 4);
}

/* Eight scales and minima of 6 bits in 12 bytes. */
static void put_6bit(uint8_t *s, const struct lines *l)
{
    for (size_t i = 0; i < 4; i++) {
        s[i] = (uint8_t)(l->sc[i] | (l->sc[i + 4] >> 4) << 6);
        s[i + 4] = (uint8_t)(l->m[i] | (l->m[i + 4] >> 4) << 6);
        s[i + 8] = (uint8_t)((l->sc[i + 4] & 15) | (l->m[i + 4] & 15) << 4);
    }
}

/* Q4_K, and Q5_K, whose fifth bits lie in 32 bytes before the others. */
static void encode_lines_32(const float *x, uint8_t *b, bool five)
{
    float top = five ? 31 : 15;
    uint8_t *fifth = b + 16, *q = b + (five ? 48 : 16);
    struct line line[8];
    struct lines l;
    for (size_t g = 0; g < 8; g++)
        line[g] = best_line(x + 32 * g, 32, top);
    quantise_lines(line, 8, 63, &l);
    memcpy(b, l.half, 4);
    put_6bit(b + 4, &l);
    memset(fifth, 0, five ? 160 : 128);
    for (size_t i = 0; i < 256; i++) {
        unsigned code = line_code(&l, (unsigned)i / 32, x[i], top);
        uint8_t *at = q + i / 64 * 32 + i % 32;
        *at = (uint8_t)(*at | (code & 15) << (i / 32 % 2 * 4));
        if (five) fifth[i % 32] = (uint8_t)(fifth[i % 32] | (code >> 4) << (i / 32));
    }
}

static void encode_q4_k(const float *x, uint8_t *b)
{
    encode_lines_32(x, b, false);
}

static void encode_q5_k(const float *x, uint8_t *b)
{
    encode_lines_32(x, b, true);
}

/* ---- Codes looked up in a table: IQ4_NL, IQ4_XS, MXFP4 ------------------------------------- */

/* How many of the n ascending `middles` lie below x: the place of the code nearest to it. */
static unsigned place_among(const float *middles, unsigned n, float x)
{
    unsigned place = 0;
    for (unsigned i = 0; i < n; i++)
        place += x > middles[i];
    return place;
}

static unsigned iq4_index(float x)
{
    static const float middles[15] = {-115.5f, -93.5f, -74,   -57,   -42, -28.5f, -16, -4.5f,
                                      7,       19,     31.5f, 45.5f, 61,  79,     101};
    return place_among(middles, 15, x);
}

/* The scale of 32 values: candidates put the extreme value near one or the other end of the
 * table. */
static float iq4_scale(const float *x)
{
    float extreme = extreme_scale(x, 32, -1), best = 0, best_gain = 0;
    if (extreme == 0) return 0;
    for (int step = 0; step < 14; step++) {
        float end = step < 7 ? -127 : 113;
        float inverse = (end + 2.5f * (float)(step % 7 - 3)) / extreme, dot = 0, norm = 0;
        for (unsigned i = 0; i < 32; i++) {
            float q = (float)mu_codes_iq4[iq4_index(x[i] * inverse)], w = x[i] * x[i];
            dot += w * x[i] * q;
            norm += w * q * q;
        }
        if (norm > 0 && dot * dot > best_gain * norm) {
            best = dot / norm;
            best_gain = dot * dot / norm;
        }
    }
    return best;
}

static void put_iq4(const float *x, float d, uint8_t *q)
{
    float inverse = d != 0 ? 1 / d : 0;
    for (unsigned i = 0; i < 16; i++)
        q[i] = (uint8_t)(iq4_index(x[i] * inverse) | iq4_index(x[i + 16] * inverse) << 4);
}

static void encode_iq4_nl(const float *x, uint8_t *b)
{
    uint16_t half = mu_f32_to_f16(iq4_scale(x));
    memcpy(b, &half, 2);
    put_iq4(x, mu_f16_to_f32(half), b + 2);
}

static void encode_iq4_xs(const float *x, uint8_t *b)
{
    float scale[8];
    int8_t sc[8];
    uint16_t half;
    unsigned high = 0;
    for (size_t g = 0; g < 8; g++)
        scale[g] = iq4_scale(x + 32 * g);
    float d = scale_scales(scale, 8, 32, &half, sc);
    memset(b + 4, 0, 4);
    for (size_t g = 0; g < 8; g++) {
        unsigned u = (unsigned)(sc[g] + 32);
        b[4 + g / 2] = (uint8_t)(b[4 + g / 2] | (u & 15) << (g % 2 * 4));
        high |= (u >> 4) << (2 * g);
        put_iq4(x + 32 * g, d * (float)sc[g], b + 8 + 16 * g);
    }
    memcpy(b, &half, 2);
    memcpy(b + 2, &(uint16_t){(uint16_t)high}, 2);
}

static unsigned fp4_index(float x)
{
    static const float middles[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    unsigned place = place_among(middles, 7, fabsf(x));
    return x < 0 && place > 0 ? place + 8 : place;
}

/* Scales are powers of two: the largest value lies within the table's range, or a little beyond,
 * whichever loses less. Codes are doubled values, so a scale is 2^(e - 128). */
static void encode_mxfp4(const float *x, uint8_t *b)
{
    float largest = fabsf(extreme_scale(x, 32, 1)), least = INFINITY;
    int top = 0, best = 0;
    if (largest > 0 && largest < INFINITY) (void)frexpf(largest, &top);
    for (int e = top + 123; largest > 0 && e <= top + 125; e++) {
        float scale = ldexpf(1, e - 128), error = 0;
        for (unsigned i = 0; i < 32; i++) {
            float d = (float)mu_codes_fp4[fp4_index(x[i] / scale)] * scale - x[i];
            error += d * d;
        }
        if (e >= 0 && e < 255 && error < least) {
            least = error;
            best = e;
        }
    }
    float inverse = 1 / ldexpf(1, best - 128);
    b[0] = (uint8_t)best;
    for (unsigned i = 0; i < 16; i++)
        b[1 + i] = (uint8_t)(fp4_index(x[i] * inverse) | fp4_index(x[i + 16] * inverse) << 4);
}

/* ---- The table ----------------------------------------------------------------------------- */

static void encode_f16(const float *x, uint8_t *b)
{
    uint16_t half = mu_f32_to_f16(*x);
    memcpy(b, &half, 2);
}

static void encode_bf16(const float *x, uint8_t *b)
{
    uint16_t half = mu_f32_to_bf16(*x);
    memcpy(b, &half, 2);
}

static void encode_f32(const float *x, uint8_t *b)
{
    memcpy(b, x, 4);
}

/* One block each. */
static void (*const encoders[MU_DTYPE_COUNT])(const float *x, uint8_t *block) = {
    [MU_DTYPE_F32] = encode_f32,       [MU_DTYPE_F16] = encode_f16,
    [MU_DTYPE_BF16] = encode_bf16,     [MU_DTYPE_Q4_0] = encode_q4_0,
    [MU_DTYPE_Q4_1] = encode_q4_1,     [MU_DTYPE_Q5_0] = encode_q5_0,
    [MU_DTYPE_Q5_1] = encode_q5_1,     [MU_DTYPE_Q8_0] = encode_q8_0,
    [MU_DTYPE_Q2_K] = encode_q2_k,     [MU_DTYPE_Q3_K] = encode_q3_k,
    [MU_DTYPE_Q4_K] = encode_q4_k,     [MU_DTYPE_Q5_K] = encode_q5_k,
    [MU_DTYPE_Q6_K] = encode_q6_k,     [MU_DTYPE_IQ4_NL] = encode_iq4_nl,
    [MU_DTYPE_IQ4_XS] = encode_iq4_xs, [MU_DTYPE_MXFP4] = encode_mxfp4,
};

bool mu_codec_can_encode(enum mu_dtype type)
{
    return encoders[type];
}

void mu_codec_encode(enum mu_dtype type, const float *x, void *stored, uint64_t n)
{
    const struct mu_dtype_info *info = mu_dtype(type);
    uint8_t *b = stored;
    for (uint64_t i = 0; i < n; i += info->block_values, b += info->block_bytes)
        encoders[type](x + i, b);
}

enum mu_dtype mu_codec_fit(enum mu_dtype type, uint64_t cols)
{
    static const enum mu_dtype by_32[MU_DTYPE_COUNT] = {
        [MU_DTYPE_Q2_K] = MU_DTYPE_Q4_0, [MU_DTYPE_Q3_K] = MU_DTYPE_Q4_0,
        [MU_DTYPE_Q4_K] = MU_DTYPE_Q5_0, [MU_DTYPE_Q5_K] = MU_DTYPE_Q5_1,
        [MU_DTYPE_Q6_K] = MU_DTYPE_Q8_0, [MU_DTYPE_IQ4_XS] = MU_DTYPE_IQ4_NL,
    };
    if (cols % mu_dtype(type)->block_values == 0) return type;
    return by_32[type] && cols % 32 == 0 ? by_32[type] : MU_DTYPE_F16;
}
