/* Random texts through real vocabularies and back: what is decoded is what was encoded. The same on
 * many more texts and vocabularies: tests/oracle/roundtrip.py. */
#include "small.h"

#include "../data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TEXTS 3000

static struct mu_tokenizer *open_golden(const char *name)
{
    char path[512];
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer_spec *spec;
    struct mu_tokenizer *t;
    (void)snprintf(path, sizeof path, "%s/golden/1_tiny/%s/tokenizer.json", tests_folder(), name);
    if (mu_tokenizer_spec_read_file(path, &spec, &err) != MU_OK) fail_msg("%s", err.what);
    if (mu_tokenizer_create(spec, &t, &err) != MU_OK) fail_msg("%s", err.what);
    mu_tokenizer_spec_destroy(spec);
    return t;
}

/* Mostly ASCII, with white space in rows; now and then a character of any plane. U+2581 is left
 * out: it is how spaces are spelled. */
static void add_random_character(uint64_t r, struct mu_text *out)
{
    static const char *const parts[] = {"  ",  "\n\n",     "\r\n",     "\t",
                                        "'s",  "'LL",      "123",      " the",
                                        "ing", "\xc3\xa9", "\xcc\x81", "\xe4\xb8\xad"};
    char bytes[4];
    uint32_t any = (uint32_t)(r >> 16) % 0x110000;
    if (r % 8 < 5) {
        mu_text_char(out, (char)(32 + (r >> 16) % 95));
    } else if (r % 8 < 7) {
        mu_text_str(out, parts[(r >> 16) % MU_ARRAY_LEN(parts)]);
    } else if ((any < 0xd800 || any >= 0xe000) && any != 0x2581) {
        mu_text_add(out, bytes, mu_utf8_encode(any, bytes));
    }
}

static void comes_back(const char *name, unsigned flags)
{
    struct mu_tokenizer *t = open_golden(name);
    struct mu_text text, back;
    struct mu_ids ids = {0};
    mu_text_init(&text, 1 << 16);
    mu_text_init(&back, 1 << 16);
    for (uint64_t i = 0; i < TEXTS; i++) {
        uint64_t n = small_random(i) % 40;
        mu_text_clear(&text);
        mu_text_clear(&back);
        ids.n = 0;
        for (uint64_t k = 0; k < n; k++)
            add_random_character(small_random(i << 8 | (k + 1)), &text);
        struct mu_str s = {mu_text_get(&text), text.len};
        assert_int_equal(mu_tokenizer_encode(t, s, flags, &ids, NULL), MU_OK);
        assert_int_equal(mu_tokenizer_decode(t, ids.p, ids.n, 0, &back, NULL), MU_OK);
        if (back.len != text.len || memcmp(mu_text_get(&back), s.p, s.len) != 0)
            fail_msg("%s: text %d '%s' came back as '%s'", name, (int)i, s.p, mu_text_get(&back));
    }
    mu_ids_fini(&ids);
    mu_text_fini(&text);
    mu_text_fini(&back);
    mu_tokenizer_destroy(t);
}

static void on_vocabularies_of_bytes(void **state)
{
    (void)state;
    comes_back("llama_gqa", 0);
    comes_back("llama3_tied", MU_ENCODE_PLAIN_SPECIAL);
}

static void on_a_vocabulary_of_characters(void **state)
{
    (void)state;
    comes_back("mixtral", MU_ENCODE_PLAIN_SPECIAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_vocabularies_of_bytes),
        cmocka_unit_test(on_a_vocabulary_of_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
