/* The bounded reader, and checked arithmetic. */
#include "base/cursor.h"

#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void reads_little_endian(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct mu_cursor c = mu_cursor_over(bytes, sizeof bytes);
    assert_int_equal(mu_cursor_u8(&c), 1);
    assert_int_equal(mu_cursor_u16(&c), 0x0302);
    assert_int_equal(mu_cursor_u32(&c), 0x07060504);
    assert_true(mu_cursor_u64(&c) == 0x0f0e0d0c0b0a0908);
    assert_int_equal(mu_cursor_left(&c), 0);
    assert_non_null(mu_cursor_take(&c, 0));
    assert_false(c.failed);
}

static void a_failure_sticks(void **state)
{
    (void)state;
    static const uint8_t bytes[3] = {0xff, 0xff, 0xff};
    struct mu_cursor c = mu_cursor_over(bytes, sizeof bytes);
    assert_int_equal(mu_cursor_u8(&c), 0xff);
    assert_int_equal(mu_cursor_u32(&c), 0);
    assert_true(c.failed);
    assert_int_equal(c.pos, 1);
    assert_int_equal(mu_cursor_u8(&c), 0); /* though two bytes are left */
    assert_int_equal(mu_cursor_left(&c), 0);
    c = mu_cursor_over(bytes, sizeof bytes);
    assert_null(mu_cursor_take(&c, UINT64_MAX));
    c = mu_cursor_over(NULL, 0);
    assert_int_equal(mu_cursor_u8(&c), 0);
    assert_true(c.failed);
}

static void sums_and_products_are_checked(void **state)
{
    (void)state;
    uint64_t v = 9;
    assert_true(mu_add(UINT64_MAX - 1, 1, &v) && v == UINT64_MAX);
    assert_true(mu_mul(UINT32_MAX, UINT32_MAX, &v) && v == 0xfffffffe00000001);
    v = 9;
    assert_false(mu_add(UINT64_MAX, 1, &v));
    assert_false(mu_mul(1ull << 32, 1ull << 32, &v));
    assert_int_equal(v, 9);
    assert_true(mu_range_ok(0, 0, 0));
    assert_true(mu_range_ok(10, 0, 10));
    assert_true(mu_range_ok(3, 7, 10));
    assert_false(mu_range_ok(3, 8, 10));
    assert_false(mu_range_ok(11, 0, 10));
    assert_false(mu_range_ok(1, UINT64_MAX, 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_little_endian),
        cmocka_unit_test(a_failure_sticks),
        cmocka_unit_test(sums_and_products_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
