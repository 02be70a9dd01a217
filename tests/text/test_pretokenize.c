/* Cutting and normalising: the scanners against PCRE2, the rewriting of patterns, NFC where the
 * table says nothing changes. */
#include "small.h"

#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <utf8proc.h>

#include <cmocka.h>

#define TEXTS    3000
#define TEXT_LEN 24 /* characters */
#define CP_LIMIT 0x20000

static bool is_assigned(uint32_t cp)
{
    char text[4];
    if (cp >= 0xd800 && cp <= 0xdfff) return false;
    return small_is_known((struct mu_str){text, mu_utf8_encode(cp, text)});
}

/* Characters where the patterns' alternatives meet, and any others. */
static uint32_t random_character(uint64_t r)
{
    static const uint32_t sharp[] = {' ',    ' ',     '\n',   '\r',  '\t',  '\'',   's',    'T',
                                     'l',    'E',     'v',    '/',   '1',   '9',    'a',    'Z',
                                     0x17f,  0x301,   0x5d0,  0x6e5, 0x2b0, 0x1c5,  0x3042, 0x4e2d,
                                     0x660,  0xb2,    0x2163, 0x85,  0xa0,  0x180e, 0x200b, 0x2028,
                                     0x3000, 0x1f600, '!',    '_',   '.',   0x903,  0x20dd, '-'};
    if (r % 4) return sharp[(r >> 8) % MU_ARRAY_LEN(sharp)];
    uint32_t cp = (uint32_t)(r >> 16) % CP_LIMIT;
    return is_assigned(cp) ? cp : 'x';
}

static size_t random_text(uint64_t seed, char *out)
{
    size_t n = 0, wanted = small_random(seed) % TEXT_LEN;
    for (size_t i = 0; i < wanted; i++)
        n += mu_utf8_encode(random_character(small_random(seed * 64 + i)), out + n);
    return n;
}

static void scanners_cut_as_the_patterns_do(void **state)
{
    (void)state;
    char text[TEXT_LEN * 4];
    for (unsigned which = 0; which < MU_ARRAY_LEN(small_patterns); which++) {
        for (uint64_t seed = 0; seed < TEXTS; seed++) {
            size_t n = random_text(seed * MU_ARRAY_LEN(small_patterns) + which, text);
            if (!small_same_cuts(which, (struct mu_str){text, n}))
                fail_msg("pattern %u, text %llu: %.*s", which, (unsigned long long)seed, (int)n,
                         text);
        }
    }
}

static void every_character_is_of_the_same_kind(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < CP_LIMIT; cp++) {
        char text[16] = "a";
        if (!is_assigned(cp)) continue;
        size_t n = 1 + mu_utf8_encode(cp, text + 1);
        text[n++] = 'b';
        for (unsigned which = 1; which < 7; which++)
            if (!small_same_cuts(which, (struct mu_str){text, n}))
                fail_msg("pattern %u, U+%04X", which, cp);
    }
}

/* ---- Patterns ------------------------------------------------------------------------------ */

static mu_status compile(const char *pattern, struct mu_err *err)
{
    struct mu_regex *regex = NULL;
    *err = MU_ERR_INIT;
    mu_status status = mu_regex_create(mu_str(pattern), &regex, err);
    mu_regex_destroy(regex);
    return status;
}

static void foreign_syntax_is_refused(void **state)
{
    (void)state;
    struct mu_err err;
    assert_int_equal(compile("[\\p{L}&&[^a]]", &err), MU_E_UNSUPPORTED);
    assert_int_equal(compile("[a&&b]", &err), MU_E_UNSUPPORTED);
    assert_int_equal(compile("a{2,3}+", &err), MU_E_UNSUPPORTED);
    assert_int_equal(compile("\\h", &err), MU_E_UNSUPPORTED);
    assert_int_equal(compile("([a-z", &err), MU_E_INPUT);
    assert_int_equal(compile("\\C", &err), MU_E_INPUT);
    assert_int_equal(compile("\\p{L}++[^\\s\\p{N}]?[]a]", &err), MU_OK);
}

/* The first match of `pattern` in `text`, as begin and end. */
static void assert_match(const char *pattern, const char *text, size_t begin, size_t end)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_matcher m;
    struct mu_search s;
    size_t b = 0, e = 0;
    assert_int_equal(mu_matcher_init(&m, mu_str(pattern), true, &err), MU_OK);
    mu_search_begin(&s, &m, strlen(text), &err);
    s.text = mu_str(text);
    assert_true(mu_search_next(&s, 0, &b, &e));
    assert_int_equal(b, begin);
    assert_int_equal(e, end);
    mu_search_end(&s);
    mu_matcher_fini(&m);
}

static void patterns_mean_what_their_library_means(void **state)
{
    (void)state;
    assert_match("\\s+", "a\xe1\xa0\x8e\xc2\xa0", 4, 6); /* U+180E is no white space */
    assert_match("[^\\s]+", " \xe1\xa0\x8e", 1, 4);
    assert_match("\\S+", "\xe2\x80\xa8x", 3, 4);
    assert_match("a$", "ba\nc", 1, 2); /* $ is at every line's end */
    assert_match("x*", "aax", 2, 3);   /* empty matches are none */
}

/* ---- Normalising --------------------------------------------------------------------------- */

static void assert_nfc(struct mu_str text)
{
    static struct mu_normalizer_step step = {.step = {.kind = MU_STEP_NFC}};
    const struct mu_normalizer n = {&step, 1};
    struct mu_err err = MU_ERR_INIT;
    struct mu_text buffers[2];
    struct mu_str got;
    utf8proc_uint8_t *expected = NULL;
    mu_text_init(&buffers[0], 1 << 20);
    mu_text_init(&buffers[1], 1 << 20);
    utf8proc_ssize_t len =
        utf8proc_map((const utf8proc_uint8_t *)text.p, (utf8proc_ssize_t)text.len, &expected,
                     UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    assert_true(len >= 0);
    assert_int_equal(mu_normalize(&n, text, buffers, &got, &err), MU_OK);
    assert_int_equal(got.len, len);
    assert_memory_equal(got.p, expected, got.len);
    free(expected);
    mu_text_fini(&buffers[0]);
    mu_text_fini(&buffers[1]);
}

/* Every character alone and between others that may join it; then random rows of marks. */
static void nfc_is_the_library_s(void **state)
{
    (void)state;
    char text[512];
    for (uint32_t cp = 0; cp < CP_LIMIT; cp++) {
        if (!is_assigned(cp)) continue;
        size_t n = 1;
        text[0] = 'a';
        n += mu_utf8_encode(cp, text + n);
        n += mu_utf8_encode(0x323, text + n);
        n += mu_utf8_encode(cp, text + n);
        n += mu_utf8_encode(0x301, text + n);
        assert_nfc((struct mu_str){text, n});
        n = mu_utf8_encode(0x1100 + cp % 19, text);
        n += mu_utf8_encode(cp, text + n);
        n += mu_utf8_encode(0x11a8 + cp % 27, text + n);
        assert_nfc((struct mu_str){text, n});
    }
    for (uint64_t seed = 0; seed < 500; seed++) {
        size_t n = 0;
        for (uint64_t i = 0; i < 100; i++) {
            uint64_t r = small_random(seed * 128 + i);
            uint32_t mark = r % 9 ? 0x300 + (uint32_t)(r >> 8) % 0x70 : 'e';
            n += mu_utf8_encode(mark, text + n);
        }
        assert_nfc((struct mu_str){text, n});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scanners_cut_as_the_patterns_do),
        cmocka_unit_test(every_character_is_of_the_same_kind),
        cmocka_unit_test(foreign_syntax_is_refused),
        cmocka_unit_test(patterns_mean_what_their_library_means),
        cmocka_unit_test(nfc_is_the_library_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
