/* Data types: the table, and half and bfloat16 against their definitions. */
#include "base/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void names_and_numbers_lead_back(void **state)
{
    (void)state;
    enum mu_dtype got;
    for (int i = 0; i < MU_DTYPE_COUNT; i++) {
        const struct mu_dtype_info *info = mu_dtype((enum mu_dtype)i);
        assert_true(mu_dtype_by_name(mu_str(info->name), &got) && (int)got == i);
        if (info->gguf >= 0)
            assert_true(mu_dtype_by_gguf((uint32_t)info->gguf, &got) && (int)got == i);
        if (info->safetensors)
            assert_true(mu_dtype_by_safetensors(mu_str(info->safetensors), &got) && (int)got == i);
    }
    assert_true(mu_dtype_by_name(MU_STR("Q4_K"), &got) && got == MU_DTYPE_Q4_K);
    assert_false(mu_dtype_by_name(MU_STR("q4"), &got));
    assert_false(mu_dtype_by_name(MU_STR(""), &got));
    assert_false(mu_dtype_by_gguf(4, &got)); /* a type that was taken out of the format */
    assert_false(mu_dtype_by_gguf(UINT32_MAX, &got));
    assert_false(mu_dtype_by_safetensors(MU_STR("f32"), &got));
}

static void rows_cost_whole_blocks(void **state)
{
    (void)state;
    uint64_t n = 1;
    assert_true(mu_dtype_bytes(MU_DTYPE_Q4_0, 64, &n) && n == 36);
    assert_true(mu_dtype_bytes(MU_DTYPE_Q6_K, 256, &n) && n == 210);
    assert_true(mu_dtype_bytes(MU_DTYPE_F4, 4, &n) && n == 2);
    assert_true(mu_dtype_bytes(MU_DTYPE_F32, 0, &n) && n == 0);
    assert_false(mu_dtype_bytes(MU_DTYPE_Q4_0, 65, &n));
    assert_false(mu_dtype_bytes(MU_DTYPE_F4, 3, &n));
    assert_false(mu_dtype_bytes(MU_DTYPE_F32, 1ull << 62, &n));
    assert_int_equal(n, 0);
}

/* IEEE 754's definition of binary16, in double, which holds every half and every sum below. */
static double half_value(uint32_t h)
{
    uint32_t exponent = h >> 10 & 31, fraction = h & 1023;
    double v = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
               : exponent     ? ldexp(1024 + fraction, (int)exponent - 25)
                              : ldexp(fraction, -24);
    return h & 0x8000 ? -v : v;
}

/* Rounds to 11 bits, or to a multiple of 2^-24, ties to even. */
static double rounded_to_half(double x)
{
    int last = x == 0 ? -24 : MU_MAX(ilogb(x) - 10, -24);
    double v = ldexp(rint(ldexp(x, -last)), last);
    return fabs(v) > 65504 ? copysign((double)INFINITY, x) : v;
}

static void every_half_widens(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float got = mu_f16_to_f32((uint16_t)h), want = (float)half_value(h);
        if (isnan(want)) {
            assert_true(isnan(got));
            assert_true(isnan(mu_f16_to_f32(mu_f32_to_f16(got))));
        } else {
            assert_int_equal(mu_f32_bits(got), mu_f32_bits(want));
            assert_int_equal(mu_f32_to_f16(got), h);
        }
    }
}

/* Around every half: the value itself, the middle to its neighbour, and one step to either side of
 * both, so that each rounding decision is taken. */
static void every_rounding_to_half(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        uint32_t at = mu_f32_bits(mu_f16_to_f32((uint16_t)h));
        uint32_t next =
            h == 0x7bff ? mu_f32_bits(65536.0f) : mu_f32_bits(mu_f16_to_f32((uint16_t)(h + 1)));
        float middle = (mu_f32_from_bits(at) + mu_f32_from_bits(next)) / 2;
        uint32_t around[] = {at,
                             at + 1,
                             next - 1,
                             mu_f32_bits(middle) - 1,
                             mu_f32_bits(middle),
                             mu_f32_bits(middle) + 1};
        for (size_t i = 0; i < MU_ARRAY_LEN(around); i++) {
            float f = mu_f32_from_bits(around[i]);
            assert_true(half_value(mu_f32_to_f16(f)) == rounded_to_half((double)f));
            assert_int_equal(mu_f32_to_f16(-f), mu_f32_to_f16(f) | 0x8000);
        }
    }
    assert_int_equal(mu_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(mu_f32_to_f16(-3e38f), 0xfc00);
    assert_int_equal(mu_f32_to_f16(1e-30f), 0);
    assert_int_equal(mu_f32_to_f16(-1e-45f), 0x8000);
}

static void every_bfloat_rounds_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = mu_bf16_to_f32((uint16_t)h);
        assert_int_equal(mu_f32_bits(f), h << 16);
        if (isnan(f)) {
            assert_true(isnan(mu_bf16_to_f32(mu_f32_to_bf16(f))));
            continue;
        }
        assert_int_equal(mu_f32_to_bf16(f), h);
        if (isinf(f)) continue;
        uint32_t base = h << 16, up = h + 1; /* away from zero, to infinity after the largest */
        assert_int_equal(mu_f32_to_bf16(mu_f32_from_bits(base + 0x7fff)), h);
        assert_int_equal(mu_f32_to_bf16(mu_f32_from_bits(base + 0x8000)), h & 1 ? up : h);
        assert_int_equal(mu_f32_to_bf16(mu_f32_from_bits(base + 0x8001)), up);
    }
    /* A NaN whose payload lies in the lost bits stays one. */
    assert_true(isnan(mu_bf16_to_f32(mu_f32_to_bf16(mu_f32_from_bits(0x7f800001)))));
}

/* The definition: 1 sign, 4 bits of exponent less 7, 3 of fraction; all ones is no number. */
static void every_e4m3_widens(void **state)
{
    (void)state;
    for (int code = 0; code < 256; code++) {
        int exponent = code >> 3 & 15, fraction = code & 7;
        float got = mu_e4m3_to_f32((uint8_t)code);
        float want = ldexpf((float)(exponent ? 8 + fraction : fraction), MU_MAX(exponent, 1) - 10);
        if ((code & 127) == 127)
            assert_true(isnan(got));
        else
            assert_int_equal(mu_f32_bits(got), mu_f32_bits(code & 128 ? -want : want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_numbers_lead_back), cmocka_unit_test(rows_cost_whole_blocks),
        cmocka_unit_test(every_half_widens),           cmocka_unit_test(every_rounding_to_half),
        cmocka_unit_test(every_bfloat_rounds_to_even), cmocka_unit_test(every_e4m3_widens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
