/*
 * exp, tanh and erf from additions, multiplications, one division and the bits of a float, so that
 * they give the same bits on every compiler and machine. Within 2 units in the last place; see
 * tests/kernel/test_math.c. Coefficients: minimax fits of our own. Any thread.
 */
#include "kernel/kernel.h"

/* Evaluates c[0] + c[1] z + ... by Horner's rule. */
static inline float polynomial(float z, const float *c, unsigned n)
{
    float p = c[n - 1];
    for (unsigned i = n - 1; i-- > 0;)
        p = p * z + c[i];
    return p;
}

static inline float power_of_two(int n)
{
    return mu_f32_from_bits((uint32_t)(n + 127) << 23);
}

/* e^x = 2^n e^r with |r| <= ln(2) / 2, and e^r = 1 + r + r^2 q(r). */
float mu_expf(float x)
{
    static const float q[] = {0x1p-1f, 0x1.555486p-3f, 0x1.555454p-5f, 0x1.124148p-7f,
                              0x1.6dbc68p-10f};
    const float round = 0x1.8p23f; /* adding it leaves the integer in the low bits */
    if (!(x < 89.0f)) return x != x ? x : mu_f32_from_bits(0x7f800000);
    if (x < -104.0f) return 0;
    float n = (x * 0x1.715476p0f + round) - round;
    float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f; /* the first product is exact */
    float e = 1.0f + (r + r * r * polynomial(r, q, MU_ARRAY_LEN(q)));
    int i = (int)n, half = i >> 1; /* in two steps, for results that are subnormal or near 2^128 */
    return e * power_of_two(half) * power_of_two(i - half);
}

float mu_tanhf(float x)
{
    static const float p[] = {-0x1.55552cp-2f, 0x1.1105a2p-3f, -0x1.b806a6p-5f, 0x1.50b828p-6f,
                              -0x1.6f4212p-8f};
    float a = mu_f32_from_bits(mu_f32_bits(x) & 0x7fffffff), z = x * x;
    if (a < 0.625f) return x + x * (z * polynomial(z, p, MU_ARRAY_LEN(p)));
    float t = a < 10.0f ? 1.0f - 2.0f / (mu_expf(2.0f * a) + 1.0f) : a != a ? a : 1.0f;
    return x < 0 ? -t : t;
}

/* x P(x^2) near zero, 1 - e^-Q(|x|) beyond. */
float mu_erff(float x)
{
    static const float p[] = {0x1.06eba8p-3f, -0x1.81273ep-2f,  0x1.ce2d2p-4f, -0x1.b7fbb4p-6f,
                              0x1.5419f6p-8f, -0x1.a485ecp-11f, 0x1.4ae4dp-14f};
    static const float q[] = {-0x1.ac91ecp-13f, 0x1.21317ap0f,   0x1.441dc6p-1f,
                              0x1.bcfc38p-4f,   -0x1.9fb852p-6f, 0x1.18a64ap-8f,
                              -0x1.e6505cp-12f, 0x1.a8b42cp-16f, -0x1.0dd28ep-22f};
    float a = mu_f32_from_bits(mu_f32_bits(x) & 0x7fffffff);
    if (a < 1.0f) return x + x * polynomial(x * x, p, MU_ARRAY_LEN(p));
    float t = a < 4.0f ? 1.0f - mu_expf(-polynomial(a, q, MU_ARRAY_LEN(q))) : a != a ? a : 1.0f;
    return x < 0 ? -t : t;
}
