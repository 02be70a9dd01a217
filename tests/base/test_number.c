/* Numbers from text and back. */
#include "base/number.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void whole_numbers(void **state)
{
    (void)state;
    uint64_t u = 7;
    assert_true(mu_parse_u64(MU_STR("0"), 0, UINT64_MAX, &u) && u == 0);
    assert_true(mu_parse_u64(MU_STR("18446744073709551615"), 0, UINT64_MAX, &u) && u == UINT64_MAX);
    assert_true(mu_parse_u64(MU_STR("007"), 0, 10, &u) && u == 7);
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "1.0",
                                      "0x1",
                                      "1e3",
                                      "abc",
                                      "1,000",
                                      "18446744073709551616",
                                      "184467440737095516150"};
    for (size_t i = 0; i < MU_ARRAY_LEN(bad); i++)
        assert_false(mu_parse_u64(mu_str(bad[i]), 0, UINT64_MAX, &u));
    assert_false(mu_parse_u64(MU_STR("4"), 5, 9, &u));
    assert_false(mu_parse_u64(MU_STR("10"), 5, 9, &u));
    assert_false(mu_parse_u64((struct mu_str){"1\0", 2}, 0, 9, &u));
    assert_int_equal(u, 7); /* set only on success */
    assert_true(mu_parse_u64((struct mu_str){"123", 2}, 0, 99, &u) && u == 12);
}

static void signed_numbers(void **state)
{
    (void)state;
    int64_t v = 5;
    assert_true(mu_parse_i64(MU_STR("-9223372036854775808"), INT64_MIN, INT64_MAX, &v));
    assert_true(v == INT64_MIN);
    assert_true(mu_parse_i64(MU_STR("9223372036854775807"), INT64_MIN, INT64_MAX, &v));
    assert_true(v == INT64_MAX);
    assert_true(mu_parse_i64(MU_STR("+3"), -5, 5, &v) && v == 3);
    assert_true(mu_parse_i64(MU_STR("-0"), -5, 5, &v) && v == 0);
    static const char *const bad[] = {
        "", "-", "+", "--1", "-+1", "9223372036854775808", "-9223372036854775809", "6", "-6"};
    for (size_t i = 0; i < MU_ARRAY_LEN(bad); i++)
        assert_false(
            mu_parse_i64(mu_str(bad[i]), i < 7 ? INT64_MIN : -5, i < 7 ? INT64_MAX : 5, &v));
    assert_int_equal(v, 0);
}

static void fractions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double want;
    } good[] = {{"0", 0},
                {"-0", -0.0},
                {"1.5", 1.5},
                {".5", 0.5},
                {"5.", 5},
                {"+2e3", 2000},
                {"1E-2", 0.01},
                {"0.1", 0.1},
                {"2.2250738585072011e-308", 2.2250738585072011e-308}, /* next to the subnormals */
                {"4.9406564584124654e-324", 0x1p-1074},
                {"1e-400", 0},
                {"1.7976931348623157e308", DBL_MAX},
                {"9007199254740993", 9007199254740992.0},
                {"6929495644600919.5", 6929495644600920.0}};
    double v = 3;
    for (size_t i = 0; i < MU_ARRAY_LEN(good); i++) {
        assert_true(mu_parse_f64(mu_str(good[i].text), &v));
        assert_memory_equal(&v, &good[i].want, sizeof v);
    }
    static const char *const bad[] = {
        "",     ".",        "-",  "e5", "1e",  "1e+",   "1.2.3",           "0x1p3", "nan", "inf",
        "-inf", "infinity", " 1", "1 ", "1,5", "1e309", "-1e999999999999", "1f",    "--1"};
    v = 3;
    for (size_t i = 0; i < MU_ARRAY_LEN(bad); i++)
        assert_false(mu_parse_f64(mu_str(bad[i]), &v));
    assert_true(v == 3);
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t want;
    } good[] = {{"0", 0},
                {"1048576", 1048576},
                {"512B", 512},
                {"20GiB", 20ull << 30},
                {"512 MB", 512000000},
                {"1.5KiB", 1536},
                {"1.5K", 1536},
                {"0.5 T", 1ull << 39},
                {"2TB", 2000000000000},
                {"1e3MB", 1000000000}};
    uint64_t v = 3;
    for (size_t i = 0; i < MU_ARRAY_LEN(good); i++) {
        assert_true(mu_parse_bytes(mu_str(good[i].text), &v));
        assert_true(v == good[i].want);
    }
    static const char *const bad[] = {"",        "GiB",   "-1GiB", "20Gib", "20 GiB ",
                                      "20 PiBs", "1.2.3", "1 G B", "nan",   "99999999999TiB",
                                      "0x10"};
    v = 3;
    for (size_t i = 0; i < MU_ARRAY_LEN(bad); i++)
        assert_false(mu_parse_bytes(mu_str(bad[i]), &v));
    assert_int_equal(v, 3);
}

static void sizes_for_people(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *want;
    } rows[] = {{0, "0 B"},
                {999, "999 B"},
                {1000, "0.98 KiB"},
                {1024, "1.00 KiB"},
                {10235, "10.0 KiB"},
                {102390, "100 KiB"},
                {1023590, "0.98 MiB"},
                {15247130000, "14.2 GiB"},
                {UINT64_MAX, "16.0 EiB"}};
    char text[MU_BYTES_TEXT];
    for (size_t i = 0; i < MU_ARRAY_LEN(rows); i++)
        assert_string_equal(mu_format_bytes(rows[i].bytes, text), rows[i].want);
}

static void floats_read_back(void **state)
{
    (void)state;
    char text[MU_FLOAT_TEXT];
    assert_string_equal(mu_format_f32(0.1f, text), "0.1");
    assert_string_equal(mu_format_f32(16777216.0f, text), "16777216");
    assert_string_equal(mu_format_f32(-0.0f, text), "-0");
    assert_string_equal(mu_format_f32(0x1p-149f, text), "1e-45");
    assert_string_equal(mu_format_f64(0.1, text), "0.1");
    assert_string_equal(mu_format_f64(0x1p-1074, text), "5e-324");
    assert_string_equal(mu_format_f64(DBL_MAX, text), "1.7976931348623157e+308");
    uint32_t bits = 1;
    for (int i = 0; i < 200000; i++) {
        bits = bits * 1664525 + 1013904223;
        float f;
        memcpy(&f, &bits, sizeof f);
        if (!isfinite(f)) continue;
        float back = strtof(mu_format_f32(f, text), NULL);
        assert_memory_equal(&f, &back, sizeof f);
        double d = (double)f / 3, again = strtod(mu_format_f64(d, text), NULL);
        assert_memory_equal(&d, &again, sizeof d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers),    cmocka_unit_test(signed_numbers),
        cmocka_unit_test(fractions),        cmocka_unit_test(sizes),
        cmocka_unit_test(sizes_for_people), cmocka_unit_test(floats_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
