/* Stored blocks against golden values, bit for bit, and encoders against their own decoders. */
#include "kernel_test.h"

#include "../data.h"

#include <jansson.h>
#include <stdlib.h>

static size_t from_hex(const char *hex, uint8_t **out)
{
    size_t n = strlen(hex) / 2;
    *out = mu_alloc(n);
    assert_non_null(*out);
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        for (int j = 0; j < 2; j++) {
            char c = hex[2 * i + (size_t)j];
            byte = byte * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
        }
        (*out)[i] = (uint8_t)byte;
    }
    return n;
}

static bool same_value(float a, float b)
{
    return mu_f32_bits(a) == mu_f32_bits(b) || (a == 0 && b == 0) || (a != a && b != b);
}

static void check_golden(json_t *entry)
{
    uint8_t *stored, *expected;
    enum mu_dtype type;
    const char *name = json_string_value(json_object_get(entry, "type"));
    assert_true(mu_dtype_by_name(mu_str(name), &type));
    assert_true(mu_codec_can_decode(type));
    size_t bytes = from_hex(json_string_value(json_object_get(entry, "bytes_hex")), &stored);
    size_t n =
        from_hex(json_string_value(json_object_get(entry, "expected_f32_le_hex")), &expected) / 4;
    assert_int_equal(bytes, n / mu_dtype(type)->block_values * mu_dtype(type)->block_bytes);
    float *got = mu_alloc(n * sizeof *got);
    assert_non_null(got);
    mu_codec_decode(type, stored, got, n);
    for (size_t i = 0; i < n; i++) {
        float want;
        memcpy(&want, expected + 4 * i, 4);
        if (!same_value(got[i], want))
            fail_msg("%s, value %zu: %a, not %a", name, i, (double)got[i], (double)want);
    }
    mu_free(got);
    mu_free(stored);
    mu_free(expected);
}

static void golden_blocks(void **state)
{
    char path[512];
    (void)state;
    snprintf(path, sizeof path, "%s/golden/6_quant/gguf/blocks.json", tests_folder());
    json_t *all = json_load_file(path, 0, NULL);
    assert_non_null(all);
    assert_int_equal(json_array_size(all), 91);
    for (size_t i = 0; i < json_array_size(all); i++)
        check_golden(json_array_get(all, i));
    json_decref(all);
}

/* Root mean square error over that of the values, at most `bound` per type. */
static void encoders(void **state)
{
    static const struct {
        enum mu_dtype type;
        double bound;
    } cases[] = {
        {MU_DTYPE_F32, 0},      {MU_DTYPE_F16, 3e-4},    {MU_DTYPE_BF16, 2.5e-3},
        {MU_DTYPE_Q8_0, 0.012}, {MU_DTYPE_Q4_0, 0.18},   {MU_DTYPE_Q4_1, 0.18},
        {MU_DTYPE_Q5_0, 0.09},  {MU_DTYPE_Q5_1, 0.09},   {MU_DTYPE_Q6_K, 0.04},
        {MU_DTYPE_Q2_K, 0.5},   {MU_DTYPE_Q3_K, 0.3},    {MU_DTYPE_Q4_K, 0.12},
        {MU_DTYPE_Q5_K, 0.07},  {MU_DTYPE_IQ4_NL, 0.12}, {MU_DTYPE_IQ4_XS, 0.12},
        {MU_DTYPE_MXFP4, 0.2},
    };
    enum { N = 256 * 64 };
    static float x[N], back[N];
    static uint8_t stored[N * 4];
    (void)state;
    for (size_t c = 0; c < MU_ARRAY_LEN(cases); c++) {
        double error = 0, all = 0;
        for (int i = 0; i < N; i++)
            x[i] = i < 256 ? 0 : random_value();
        assert_true(mu_codec_can_encode(cases[c].type));
        mu_codec_encode(cases[c].type, x, stored, N);
        mu_codec_decode(cases[c].type, stored, back, N);
        for (int i = 0; i < N; i++) {
            double d = (double)x[i] - (double)back[i];
            error += d * d;
            all += (double)x[i] * (double)x[i];
            if (i < 256) assert_true(back[i] == 0);
        }
        double relative = sqrt(error / all);
        print_message("%s: %.5f\n", mu_dtype(cases[c].type)->name, relative);
        if (relative > cases[c].bound) fail_msg("%s loses too much", mu_dtype(cases[c].type)->name);
    }
}

/* Infinities, NaN and numbers near the ends of the range must not be undefined behaviour. */
static void encoders_meet_anything(void **state)
{
    static const float strange[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-45f, 0, -0.0f};
    float x[256];
    uint8_t stored[1024];
    (void)state;
    for (int t = 0; t < MU_DTYPE_COUNT; t++) {
        if (!mu_codec_can_encode((enum mu_dtype)t)) continue;
        for (int round = 0; round < 200; round++) {
            for (int i = 0; i < 256; i++)
                x[i] = strange[random_below(MU_ARRAY_LEN(strange))];
            mu_codec_encode((enum mu_dtype)t, x, stored, 256);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_blocks),
        cmocka_unit_test(encoders),
        cmocka_unit_test(encoders_meet_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
