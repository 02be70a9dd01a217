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

/* NaN becomes `low`. */
static int code_nearest(float q, int low, int high)
{
    return (int)MU_MIN(MU_MAX(rintf(q), (float)low), (float)high);
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
        b[2 + i] = (uint8_t)code_nearest(roundf(x[i] * inverse), -127, 127);
}

/*
 * The scale of 16 values for codes -32..31 with the least squared error, large values weighing
 * more (weight x^2). Candidates put the extreme value at a code near -32; each is followed by its
 * best least-squares scale.
 */
static float q6_scale(const float *x)
{
    float extreme = extreme_scale(x, 16, 32), best = 0, best_gain = 0;
    if (extreme == 0) return 0;
    for (int step = -9; step <= 9; step++) {
        float inverse = (32 + 0.1f * (float)step) / (32 * extreme), dot = 0, norm = 0;
        for (unsigned i = 0; i < 16; i++) {
            float q = (float)code_nearest(x[i] * inverse, -32, 31), w = x[i] * x[i];
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

static void encode_q6_k(const float *x, uint8_t *b)
{
    float scale[16];
    for (size_t g = 0; g < 16; g++)
        scale[g] = q6_scale(x + 16 * g);
    uint16_t half = mu_f32_to_f16(extreme_scale(scale, 16, 128));
    float d = mu_f16_to_f32(half), inverse = d != 0 ? 1 / d : 0;
    memset(b, 0, 192);
    for (size_t i = 0; i < 256; i++) {
        int sc = code_nearest(scale[i / 16] * inverse, -128, 127);
        float step = d * (float)sc;
        unsigned code = (unsigned)(code_nearest(step != 0 ? x[i] / step : 0, -32, 31) + 32);
        uint8_t *low = b + i / 128 * 64 + i % 64, *high = b + 128 + i / 128 * 32 + i % 32;
        *low = (uint8_t)(*low | (code & 15) << (i / 64 % 2 * 4));
        *high = (uint8_t)(*high | (code >> 4) << (i / 32 % 4 * 2));
        b[192 + i / 16] = (uint8_t)sc;
    }
    memcpy(b + 208, &half, 2);
}

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
    [MU_DTYPE_F32] = encode_f32,   [MU_DTYPE_F16] = encode_f16,   [MU_DTYPE_BF16] = encode_bf16,
    [MU_DTYPE_Q4_0] = encode_q4_0, [MU_DTYPE_Q4_1] = encode_q4_1, [MU_DTYPE_Q5_0] = encode_q5_0,
    [MU_DTYPE_Q5_1] = encode_q5_1, [MU_DTYPE_Q8_0] = encode_q8_0, [MU_DTYPE_Q6_K] = encode_q6_k,
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
