/* Text given out piece by piece: whole characters only, and stop strings held back. */
#include "small.h"

#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void characters_come_whole(void **state)
{
    (void)state;
    static const char text[] =
        "the \xf0\x9f\x94\xac caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 <|end|> a";
    struct mu_tokenizer *ts[] = {small_byte_level(small_patterns[1], "null"), small_spaces()};
    for (unsigned k = 0; k < MU_ARRAY_LEN(ts); k++) {
        struct mu_err err = MU_ERR_INIT;
        struct mu_ids ids = {0};
        struct mu_detokenizer d;
        struct mu_text out;
        mu_text_init(&out, 4096);
        assert_int_equal(mu_tokenizer_encode(ts[k], mu_str(text), 0, &ids, &err), MU_OK);
        mu_detokenizer_init(&d, ts[k], 0);
        /* Twice: after its end a detokeniser begins anew. */
        for (unsigned round = 0; round < 2; round++) {
            mu_text_clear(&out);
            for (size_t i = 0; i < ids.n; i++) {
                mu_detokenizer_push(&d, ids.p[i], &out);
                assert_true(mu_utf8_valid((struct mu_str){mu_text_get(&out), out.len}));
            }
            mu_detokenizer_end(&d, &out);
            assert_string_equal(mu_text_get(&out), text);
        }
        mu_detokenizer_fini(&d);
        mu_text_fini(&out);
        mu_ids_fini(&ids);
        mu_tokenizer_destroy(ts[k]);
    }
}

static void half_a_character_at_the_end(void **state)
{
    (void)state;
    struct mu_tokenizer *t = small_byte_level(small_patterns[1], "null");
    struct mu_detokenizer d;
    struct mu_text out;
    mu_text_init(&out, 4096);
    mu_detokenizer_init(&d, t, 0);
    mu_detokenizer_push(&d, 0xf0, &out);
    mu_detokenizer_push(&d, 0x9f, &out);
    assert_int_equal(out.len, 0);
    mu_detokenizer_push(&d, 'a', &out);
    assert_string_equal(mu_text_get(&out), "\xef\xbf\xbd"
                                           "a");
    mu_detokenizer_push(&d, 0xc3, &out);
    mu_detokenizer_end(&d, &out);
    assert_string_equal(mu_text_get(&out), "\xef\xbf\xbd"
                                           "a\xef\xbf\xbd");
    mu_detokenizer_fini(&d);
    mu_text_fini(&out);
    mu_tokenizer_destroy(t);
}

/* ---- Stop strings -------------------------------------------------------------------------- */

/* Feeds `text` in pieces of `step` bytes; returns which stop string ended it. */
static int run_stop(const struct mu_str *strings, unsigned n, const char *text, size_t step,
                    bool keep, const char *expected)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_stop stop;
    struct mu_text out;
    mu_text_init(&out, 4096);
    assert_int_equal(mu_stop_init(&stop, strings, n, &err), MU_OK);
    bool ended = false;
    for (size_t at = 0; at < strlen(text) && !ended; at += step) {
        struct mu_str piece = {text + at, MU_MIN(step, strlen(text) - at)};
        ended = mu_stop_push(&stop, piece, keep, &out);
    }
    if (!ended) mu_stop_end(&stop, &out);
    assert_string_equal(mu_text_get(&out), expected);
    int found = stop.found;
    assert_int_equal(ended, found >= 0);
    mu_stop_fini(&stop);
    mu_text_fini(&out);
    return found;
}

static void stop_strings_end_the_text(void **state)
{
    (void)state;
    const struct mu_str strings[] = {MU_STR("abcd"), MU_STR("bc"), MU_STR(""), MU_STR("\n\n")};
    for (size_t step = 1; step < 9; step++) {
        assert_int_equal(run_stop(strings, 4, "xxabcdyy", step, false, "xxa"), 1);
        assert_int_equal(run_stop(strings, 4, "xxabcdyy", step, true, "xxabc"), 1);
        assert_int_equal(run_stop(strings, 1, "xxabcdyy", step, false, "xx"), 0);
        assert_int_equal(run_stop(strings, 1, "ababababcd", step, false, "ababab"), 0);
        assert_int_equal(run_stop(strings, 4, "line\nline\n", step, false, "line\nline\n"), -1);
        assert_int_equal(run_stop(strings, 0, "abc", step, false, "abc"), -1);
    }
}

/* Text that cannot become a stop string is not held back. */
static void only_possible_beginnings_wait(void **state)
{
    (void)state;
    const struct mu_str strings[] = {MU_STR("</s>")};
    struct mu_err err = MU_ERR_INIT;
    struct mu_stop stop;
    struct mu_text out;
    mu_text_init(&out, 4096);
    assert_int_equal(mu_stop_init(&stop, strings, 1, &err), MU_OK);
    assert_false(mu_stop_push(&stop, MU_STR("a </"), false, &out));
    assert_string_equal(mu_text_get(&out), "a ");
    assert_false(mu_stop_push(&stop, MU_STR("p> <"), false, &out));
    assert_string_equal(mu_text_get(&out), "a </p> ");
    mu_stop_end(&stop, &out);
    assert_string_equal(mu_text_get(&out), "a </p> <");
    mu_stop_fini(&stop);
    mu_text_fini(&out);
    const struct mu_str many[MU_STOP_MAX + 1] = {{"", 0}};
    assert_int_equal(mu_stop_init(&stop, many, MU_STOP_MAX + 1, &err), MU_E_INPUT);
    mu_stop_fini(&stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_come_whole),
        cmocka_unit_test(half_a_character_at_the_end),
        cmocka_unit_test(stop_strings_end_the_text),
        cmocka_unit_test(only_possible_beginnings_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
