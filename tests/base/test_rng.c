/* Philox4x32-10 against the known answers its authors publish with Random123. */
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void known_answers(void **state)
{
    (void)state;
    static const struct {
        uint64_t key;
        uint32_t counter[4], want[4];
    } rows[] = {
        {0, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX,
         {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t out[4];
        mu_philox(rows[i].key, rows[i].counter, out);
        assert_memory_equal(out, rows[i].want, sizeof out);
    }
}

static void out_may_be_the_counter(void **state)
{
    (void)state;
    uint32_t words[4] = {0, 0, 0, 0};
    mu_philox(0, words, words);
    assert_int_equal(words[0], 0x6627e8d5);
    assert_int_equal(words[3], 0x9b00dbd8);
}

static void uniform_covers_the_unit_interval(void **state)
{
    (void)state;
    assert_true(mu_uniform(0, 0) == 0.0);
    assert_true(mu_uniform(0x80000000, 0) == 0.5);
    assert_true(mu_uniform(UINT32_MAX, UINT32_MAX) == 1.0 - 0x1p-53);
    assert_true(mu_uniform(0, 0x7ff) == 0.0); /* the lowest 11 bits are dropped, not rounded up */
    assert_true(mu_uniform(0, 0x800) == 0x1p-53);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(out_may_be_the_counter),
        cmocka_unit_test(uniform_covers_the_unit_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
