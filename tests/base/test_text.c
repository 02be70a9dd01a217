/* Growing text, borrowed pieces, edit distance. */
#include "base/text.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void grows_from_nothing(void **state)
{
    (void)state;
    struct mu_text text;
    mu_text_init(&text, 1000);
    assert_string_equal(mu_text_get(&text), "");
    mu_text_add(&text, NULL, 0);
    mu_text_str(&text, "one ");
    mu_text_char(&text, '2');
    mu_text_printf(&text, " %s %d", "three", 4);
    assert_string_equal(mu_text_get(&text), "one 2 three 4");
    assert_int_equal(text.len, 13);
    assert_int_equal(mu_text_status(&text, NULL), MU_OK);
    mu_text_clear(&text);
    assert_string_equal(mu_text_get(&text), "");
    mu_text_add(&text, "a\0b", 3);
    assert_memory_equal(text.p, "a\0b", 4);
    mu_text_fini(&text);
    assert_null(text.p);
}

static void stops_at_its_maximum(void **state)
{
    (void)state;
    struct mu_text text;
    mu_text_init(&text, 5);
    mu_text_str(&text, "12345");
    assert_int_equal(mu_text_status(&text, NULL), MU_OK);
    mu_text_char(&text, '6');
    mu_text_add(&text, "", 0); /* the failure sticks, and nothing more is appended */
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_text_status(&text, &err), MU_E_RESOURCE);
    assert_non_null(strstr(err.what, "5 bytes"));
    assert_string_equal(mu_text_get(&text), "12345");
    mu_text_clear(&text);
    mu_text_printf(&text, "%s", "abcde");
    assert_int_equal(mu_text_status(&text, NULL), MU_OK);
    mu_text_printf(&text, "%d", 1);
    assert_int_equal(text.status, MU_E_RESOURCE);
    mu_text_fini(&text);
}

static void grows_to_any_length(void **state)
{
    (void)state;
    struct mu_text text;
    mu_text_init(&text, 100000);
    for (int i = 0; i < 100000; i++)
        mu_text_char(&text, (char)('a' + i % 26));
    assert_int_equal(mu_text_status(&text, NULL), MU_OK);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(text.p[i], 'a' + i % 26);
    mu_text_fini(&text);
}

static void hands_over(void **state)
{
    (void)state;
    struct mu_text text;
    mu_text_init(&text, 3);
    char *p = mu_text_take(&text);
    assert_string_equal(p, "");
    mu_free(p);
    mu_text_str(&text, "abc");
    p = mu_text_take(&text);
    assert_string_equal(p, "abc");
    assert_int_equal(text.len, 0);
    mu_free(p);
    mu_text_str(&text, "abcd");
    assert_null(mu_text_take(&text));
    assert_int_equal(text.status, MU_OK);
}

static void compares_pieces(void **state)
{
    (void)state;
    assert_true(mu_str_equal(MU_STR("ab"), mu_str("ab")));
    assert_false(mu_str_equal(MU_STR("ab"), MU_STR("abc")));
    assert_false(mu_str_equal(MU_STR("ab"), MU_STR("ac")));
    assert_true(mu_str_equal((struct mu_str){NULL, 0}, MU_STR("")));
    assert_true(mu_str_is((struct mu_str){"abc", 2}, "ab"));
}

static void measures_distance(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        unsigned want;
    } rows[] = {{"", "", 0},         {"", "abc", 3},           {"plan", "plan", 0},
                {"plan", "plam", 1}, {"plan", "pln", 1},       {"plan", "lpan", 1},
                {"ab", "ba", 1},     {"kitten", "sitting", 3}, {"ca", "abc", 3}};
    for (size_t i = 0; i < MU_ARRAY_LEN(rows); i++) {
        assert_int_equal(mu_text_distance(rows[i].a, rows[i].b), rows[i].want);
        assert_int_equal(mu_text_distance(rows[i].b, rows[i].a), rows[i].want);
    }
    char name[65];
    memset(name, 'x', sizeof name);
    name[64] = '\0';
    assert_int_equal(mu_text_distance(name, name), 63); /* too long to be compared: far */
    name[63] = '\0';
    assert_int_equal(mu_text_distance(name, name), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_from_nothing),  cmocka_unit_test(stops_at_its_maximum),
        cmocka_unit_test(grows_to_any_length), cmocka_unit_test(hands_over),
        cmocka_unit_test(compares_pieces),     cmocka_unit_test(measures_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
