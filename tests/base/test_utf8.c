/* UTF-8 against the definition: table 3-7 of the Unicode Standard, written down once more here. */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The nine rows of the table: the ranges of up to four bytes. */
static const struct row {
    unsigned n;
    unsigned char low[4], high[4];
} table[] = {
    {1, {0x00}, {0x7f}},
    {2, {0xc2, 0x80}, {0xdf, 0xbf}},
    {3, {0xe0, 0xa0, 0x80}, {0xe0, 0xbf, 0xbf}},
    {3, {0xe1, 0x80, 0x80}, {0xec, 0xbf, 0xbf}},
    {3, {0xed, 0x80, 0x80}, {0xed, 0x9f, 0xbf}},
    {3, {0xee, 0x80, 0x80}, {0xef, 0xbf, 0xbf}},
    {4, {0xf0, 0x90, 0x80, 0x80}, {0xf0, 0xbf, 0xbf, 0xbf}},
    {4, {0xf1, 0x80, 0x80, 0x80}, {0xf3, 0xbf, 0xbf, 0xbf}},
    {4, {0xf4, 0x80, 0x80, 0x80}, {0xf4, 0x8f, 0xbf, 0xbf}},
};

/* The longest beginning of `p` that begins some row, and whether it fills the row. */
static unsigned longest(const unsigned char *p, unsigned len, bool *whole)
{
    unsigned best = 0;
    *whole = false;
    for (size_t r = 0; r < MU_ARRAY_LEN(table); r++) {
        unsigned n = 0;
        while (n < table[r].n && n < len && p[n] >= table[r].low[n] && p[n] <= table[r].high[n])
            n++;
        if (n > best) best = n;
        if (n == table[r].n) *whole = true;
    }
    return best;
}

static void check(const unsigned char *p, unsigned len)
{
    struct mu_str s = {(const char *)p, len};
    bool whole;
    unsigned n = longest(p, len, &whole), got;
    uint32_t cp = mu_utf8_decode(s, &got);
    assert_int_equal(got, n ? n : 1);
    assert_int_equal(cp != MU_UTF8_BAD, whole);
    if (whole) {
        char back[4];
        assert_int_equal(mu_utf8_encode(cp, back), n);
        assert_memory_equal(back, p, n);
    }
    bool valid = true;
    for (unsigned at = 0; at < len && valid; at += longest(p + at, len - at, &whole) + !whole)
        (void)longest(p + at, len - at, &valid);
    assert_int_equal(mu_utf8_valid(s), valid);
}

/* Every byte that begins or ends a range, and its neighbours. */
static const unsigned char edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                      0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
                                      0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};

static void all_short_sequences(void **state)
{
    (void)state;
    unsigned char p[4];
    for (unsigned a = 0; a < 256; a++) {
        p[0] = (unsigned char)a;
        check(p, 1);
        for (unsigned b = 0; b < 256; b++) {
            p[1] = (unsigned char)b;
            check(p, 2);
            bool edge = memchr(edges, (int)b, sizeof edges) != NULL;
            for (size_t c = 0; c < sizeof edges; c++) {
                p[2] = edges[c];
                check(p, 3);
                for (size_t d = 0; edge && d < sizeof edges; d++) {
                    p[3] = edges[d];
                    check(p, 4);
                }
            }
        }
    }
}

static void all_code_points(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        if (cp >= 0xd800 && cp <= 0xdfff) continue;
        char p[4];
        unsigned n = mu_utf8_encode(cp, p), len;
        assert_int_equal(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        assert_true(mu_utf8_decode((struct mu_str){p, n}, &len) == cp && len == n);
    }
}

static void repairs_each_maximal_piece(void **state)
{
    (void)state;
#define FFFD "\xef\xbf\xbd"
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"plain \xc3\xa9", "plain \xc3\xa9"},
        /* The examples of the standard's tables 3-8 to 3-11. */
        {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A"},
        {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A"},
        {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", FFFD FFFD FFFD FFFD FFFD "A" FFFD FFFD "B"},
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", FFFD FFFD FFFD FFFD "A"},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(rows); i++) {
        struct mu_text out;
        mu_text_init(&out, 100);
        mu_utf8_add_repaired(&out, mu_str(rows[i].in));
        assert_string_equal(mu_text_get(&out), rows[i].want);
        assert_true(mu_utf8_valid((struct mu_str){out.p, out.len}));
        mu_text_fini(&out);
    }
}

/* Whatever is cut off a valid text, exactly the started code point is unfinished. */
static void knows_what_may_still_come(void **state)
{
    (void)state;
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
    static const unsigned want[] = {0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 0};
    for (unsigned n = 0; n < sizeof text; n++)
        assert_int_equal(mu_utf8_unfinished((struct mu_str){text, n}), want[n]);
    /* What can never become valid is finished. */
    static const char *const hopeless[] = {"\x80",     "\xc0",         "\xe0\x80",
                                           "\xed\xa0", "\xf0\x80",     "\xf4\x90",
                                           "\xf5",     "\x80\x80\x80", "\xe0\xa0\x80\x80"};
    for (size_t i = 0; i < MU_ARRAY_LEN(hopeless); i++)
        assert_int_equal(mu_utf8_unfinished(mu_str(hopeless[i])), 0);
}

static void foreign_text_is_made_harmless(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want;
        size_t size;
        char kept;
    } rows[] = {
        {"caf\xc3\xa9 \xe2\x82\xac", "caf\xc3\xa9 \xe2\x82\xac", 64, '\0'},
        {"\x1b[31mred\x7f\xc2\x9b", "?[31mred??", 64, '\0'},
        {"a\tb\nc\xff", "a b?c?", 64, '\0'},
        {"a\nb\x1b\n", "a\nb?\n", 64, '\n'},
        {"\xe2\x80\xaeturned", "?turned", 64, '\0'},
        {"ab\xe2\x82\xac", "ab", 5, '\0'},
        {"ab\xe2\x82\xac", "ab\xe2\x82\xac", 6, '\0'},
        {"abc", "", 1, '\0'},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(rows); i++) {
        char out[64];
        assert_int_equal(mu_utf8_copy_harmless(out, rows[i].size, mu_str(rows[i].in), rows[i].kept),
                         strlen(rows[i].want));
        assert_string_equal(out, rows[i].want);
    }
    char same[] = "\xe2\x80\xae\x1b\xc3\xa9";
    (void)mu_utf8_copy_harmless(same, sizeof same, mu_str(same), '\0');
    assert_string_equal(same, "??\xc3\xa9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_short_sequences),
        cmocka_unit_test(all_code_points),
        cmocka_unit_test(repairs_each_maximal_piece),
        cmocka_unit_test(knows_what_may_still_come),
        cmocka_unit_test(foreign_text_is_made_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
