/* Tokenizers as a whole: the golden checkpoints' checks, special tokens, options of tokenizer.json,
 * bad files, and texts that come back from their ids. */
#include "small.h"

#include "base/utf8.h"

#include "../data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define TEXT_BYTES 200
#define TEXTS      400

static const char llama3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static struct mu_ids encode(const struct mu_tokenizer *t, const char *text, unsigned flags)
{
    struct mu_ids ids = {0};
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_tokenizer_encode(t, mu_str(text), flags, &ids, &err), MU_OK);
    return ids;
}

static void assert_ids(const struct mu_tokenizer *t, const char *text, unsigned flags,
                       const json_t *expected)
{
    struct mu_ids ids = encode(t, text, flags);
    assert_int_equal(ids.n, json_array_size(expected));
    for (size_t i = 0; i < ids.n; i++)
        assert_int_equal(ids.p[i], json_integer_value(json_array_get(expected, i)));
    mu_ids_fini(&ids);
}

/* The ids of `text` are those listed, as tokens of the vocabulary. */
static void assert_tokens(const struct mu_tokenizer *t, const char *text, unsigned flags,
                          const char *const *expected, size_t n)
{
    struct mu_ids ids = encode(t, text, flags);
    assert_int_equal(ids.n, n);
    for (size_t i = 0; i < n; i++)
        assert_true(mu_str_is(mu_tokenizer_token(t, ids.p[i]), expected[i]));
    mu_ids_fini(&ids);
}

#define ASSERT_TOKENS(t, text, flags, ...)                                                         \
    do {                                                                                           \
        const char *const expected_[] = {__VA_ARGS__};                                             \
        assert_tokens(t, text, flags, expected_, MU_ARRAY_LEN(expected_));                         \
    } while (0)

static void assert_text(const struct mu_tokenizer *t, const struct mu_ids *ids, unsigned flags,
                        struct mu_str expected)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_text out;
    mu_text_init(&out, 1 << 20);
    assert_int_equal(mu_tokenizer_decode(t, ids->p, ids->n, flags, &out, &err), MU_OK);
    assert_int_equal(out.len, expected.len);
    assert_memory_equal(mu_text_get(&out), expected.p, expected.len);
    mu_text_fini(&out);
}

/* ---- Golden checkpoints -------------------------------------------------------------------- */

static void check_golden(const char *name)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_text path;
    struct mu_model_file *file;
    struct mu_tokenizer *t;
    json_t *root, *c;
    size_t i;
    mu_text_init(&path, 4096);
    mu_text_printf(&path, "%s/golden/1_tiny/%s", tests_folder(), name);
    assert_int_equal(mu_model_file_open(mu_text_get(&path), MU_OPEN_TEXT_ONLY, &file, &err), MU_OK);
    assert_int_equal(mu_tokenizer_open(file, &t, &err), MU_OK);
    mu_model_file_close(file);
    mu_text_str(&path, "/expected.json");
    assert_int_equal(mu_json_read(mu_text_get(&path), 1 << 24, &root, &err), MU_OK);
    json_array_foreach(json_object_get(root, "tokenizer_checks"), i, c)
    {
        const char *text = json_string_value(json_object_get(c, "text"));
        assert_ids(t, text, 0, json_object_get(c, "ids"));
        assert_ids(t, text, MU_ENCODE_ADD_SPECIAL, json_object_get(c, "ids_with_special"));
        struct mu_ids ids = encode(t, text, 0);
        assert_text(t, &ids, 0, mu_str(json_string_value(json_object_get(c, "decoded"))));
        mu_ids_fini(&ids);
    }
    assert_true(i > 5);
    json_decref(root);
    mu_tokenizer_destroy(t);
    mu_text_fini(&path);
}

static void golden_checks_hold(void **state)
{
    (void)state;
    check_golden("llama_gqa");
    check_golden("llama_bias_sharded");
    check_golden("llama3_tied");
    check_golden("qwen2");
    check_golden("mixtral");
}

/* ---- Special and other added tokens -------------------------------------------------------- */

static void special_tokens_are_found_or_plain(void **state)
{
    (void)state;
    struct mu_tokenizer *t = small_byte_level(llama3, "null");
    uint32_t id;
    assert_non_null(t);
    ASSERT_TOKENS(t, "the<|end|><tool>a", 0, "the", "<|end|>", "<tool>", "a");
    ASSERT_TOKENS(t, "<|end|>", MU_ENCODE_PLAIN_SPECIAL, "<", "|", "e", "n", "d", "|", ">");
    ASSERT_TOKENS(t, "<tool>", MU_ENCODE_PLAIN_SPECIAL, "<tool>");
    ASSERT_TOKENS(t, "<|en", 0, "<", "|", "e", "n");
    assert_true(mu_tokenizer_find(t, MU_STR("<|end|>"), &id));
    assert_true(mu_tokenizer_is_special(t, id));
    assert_true(mu_tokenizer_find(t, MU_STR("<tool>"), &id));
    assert_false(mu_tokenizer_is_special(t, id));
    struct mu_ids ids = encode(t, "a<|end|>b", 0);
    assert_text(t, &ids, 0, MU_STR("a<|end|>b"));
    assert_text(t, &ids, MU_DECODE_SKIP_SPECIAL, MU_STR("ab"));
    mu_ids_fini(&ids);
    mu_tokenizer_destroy(t);
}

static struct mu_tokenizer *with_added(const char *added)
{
    struct mu_text json;
    mu_text_init(&json, 4096);
    mu_text_printf(
        &json,
        "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"Lowercase\"},\"added_tokens\":"
        "[{\"id\":9,\"content\":\"XY\",%s}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"x\":0,"
        "\"y\":1,\" \":2,\"a\":3},\"merges\":[]}}",
        added);
    struct mu_tokenizer *t = small_create(mu_text_get(&json));
    assert_non_null(t);
    mu_text_fini(&json);
    return t;
}

static void flags_of_added_tokens_hold(void **state)
{
    (void)state;
    struct mu_tokenizer *t = with_added("\"single_word\":true,\"normalized\":false");
    ASSERT_TOKENS(t, "XY aXY", 0, "XY", " ", "a", "x", "y");
    mu_tokenizer_destroy(t);
    t = with_added("\"lstrip\":true,\"normalized\":false");
    ASSERT_TOKENS(t, "a  XY a", 0, "a", "XY", " ", "a");
    mu_tokenizer_destroy(t);
    t = with_added("\"rstrip\":true,\"normalized\":false");
    ASSERT_TOKENS(t, "a XY  a", 0, "a", " ", "XY", "a");
    mu_tokenizer_destroy(t);
    /* Found in the normalised text, by its normalised content. */
    t = with_added("\"normalized\":true");
    ASSERT_TOKENS(t, "axy XY", 0, "a", "XY", " ", "XY");
    mu_tokenizer_destroy(t);
}

/* ---- Steps --------------------------------------------------------------------------------- */

static void splits_behave(void **state)
{
    (void)state;
    static const struct {
        const char *behavior, *pieces[8];
    } cases[] = {
        {"Removed", {"the", "final", "countdown"}},
        {"Isolated", {"the", "-", "final", "-", "-", "countdown"}},
        {"MergedWithPrevious", {"the-", "final-", "-", "countdown"}},
        {"MergedWithNext", {"the", "-final", "-", "-countdown"}},
        {"Contiguous", {"the", "-", "final", "--", "countdown"}},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(cases); i++) {
        struct mu_text json;
        mu_text_init(&json, 4096);
        /* The model knows every piece as a whole, so that the tokens show them. */
        mu_text_printf(
            &json,
            "{\"version\":\"1.0\",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":"
            "{\"String\":\"-\"},\"behavior\":\"%s\",\"invert\":false},\"model\":{\"type\":"
            "\"BPE\",\"ignore_merges\":true,\"vocab\":{\"-\":0",
            cases[i].behavior);
        size_t n = 0;
        for (; n < 8 && cases[i].pieces[n]; n++)
            if (strcmp(cases[i].pieces[n], "-") != 0 &&
                (n == 0 || strcmp(cases[i].pieces[n], cases[i].pieces[n - 1]) != 0))
                mu_text_printf(&json, ",\"%s\":%zu", cases[i].pieces[n], n + 1);
        mu_text_str(&json, "},\"merges\":[]}}");
        struct mu_tokenizer *t = small_create(mu_text_get(&json));
        assert_non_null(t);
        assert_tokens(t, "the-final--countdown", 0, cases[i].pieces, n);
        mu_tokenizer_destroy(t);
        mu_text_fini(&json);
    }
}

static void unigram_finds_the_best_cut(void **state)
{
    (void)state;
    struct mu_tokenizer *t = small_create(
        "{\"version\":\"1.0\",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
        "\"\xe2\x96\x81\","
        "\"prepend_scheme\":\"first\",\"split\":true},\"decoder\":{\"type\":\"Metaspace\","
        "\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"first\",\"split\":true},"
        "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"\xe2\x96\x81\",-"
        "2],"
        "[\"a\",-3],[\"b\",-3],[\"ab\",-5],[\"aba\",-20],[\"\xe2\x96\x81"
        "ab\",-4]]}}");
    assert_non_null(t);
    ASSERT_TOKENS(t, "ab ab", 0,
                  "\xe2\x96\x81"
                  "ab",
                  "\xe2\x96\x81"
                  "ab");
    ASSERT_TOKENS(t, "xyab", 0, "\xe2\x96\x81", "<unk>", "ab");
    struct mu_ids ids = encode(t, "ab ab", 0);
    assert_text(t, &ids, 0, MU_STR("ab ab"));
    mu_ids_fini(&ids);
    mu_tokenizer_destroy(t);
}

static void spaces_as_letters(void **state)
{
    (void)state;
    struct mu_tokenizer *t = small_spaces();
    assert_non_null(t);
    ASSERT_TOKENS(t, "the  a", 0, "\xe2\x96\x81the", "\xe2\x96\x81", "\xe2\x96\x81", "a");
    ASSERT_TOKENS(t, "\xc3\xa9", 0, "\xe2\x96\x81", "<0xC3>", "<0xA9>");
    struct mu_ids ids = encode(t, " the \xc3\xa9", 0);
    assert_text(t, &ids, 0, MU_STR(" the \xc3\xa9"));
    /* A row of bytes that is not UTF-8 is one U+FFFD a byte. */
    ids.n = 0;
    ids.p[ids.n++] = 0xe4;
    ids.p[ids.n++] = 0xb8;
    assert_text(t, &ids, 0, MU_STR("\xef\xbf\xbd\xef\xbf\xbd"));
    mu_ids_fini(&ids);
    mu_tokenizer_destroy(t);
}

/* ---- Bad files ----------------------------------------------------------------------------- */

static void bad_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        mu_status status;
        const char *json, *what;
    } cases[] = {
        {MU_E_INPUT, "", "not valid JSON"},
        {MU_E_INPUT, "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0",
         "not valid"},
        {MU_E_INPUT, "{\"version\":\"1.0\",\"version\":\"1.0\"}", "same key twice"},
        {MU_E_UNSUPPORTED, "[]", "version"},
        {MU_E_UNSUPPORTED, "{\"version\":\"2.0\"}", "version"},
        {MU_E_UNSUPPORTED, "{\"version\":\"1.0\",\"model\":{\"type\":\"WordPiece\"}}", "WordPiece"},
        {MU_E_INPUT, "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\"}}", "no vocabulary"},
        {MU_E_INPUT, "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1}}}",
         "out of range"},
        {MU_E_INPUT, "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5}}}",
         "out of range"},
        {MU_E_INPUT, "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":3000000}}}",
         "out of range"},
        {MU_E_INPUT,
         "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]"
         "}}",
         "lacks a part"},
        {MU_E_INPUT,
         "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}"
         "}",
         "not two tokens"},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(cases); i++) {
        struct mu_err err = MU_ERR_INIT;
        struct mu_tokenizer_spec *spec = NULL;
        assert_int_equal(mu_tokenizer_spec_parse(mu_str(cases[i].json), "file", &spec, &err),
                         cases[i].status);
        assert_non_null(strstr(err.what, cases[i].what));
        assert_non_null(strstr(err.where, "file"));
        assert_null(spec);
    }
}

static void missing_parts_are_named(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer_spec *spec = NULL;
    struct mu_tokenizer *t = NULL;
    assert_int_equal(
        mu_tokenizer_spec_parse(MU_STR("{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":"
                                       "{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}"),
                                "file", &spec, &err),
        MU_OK);
    assert_int_equal(mu_tokenizer_create(spec, &t, &err), MU_E_INPUT);
    assert_non_null(strstr(err.where, "'a b'"));
    mu_tokenizer_spec_destroy(spec);
}

static void slow_patterns_end(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    struct mu_ids ids = {0};
    struct mu_tokenizer *t = small_byte_level("(a+)+$", "null");
    assert_non_null(t);
    struct mu_str text =
        MU_STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!");
    assert_int_equal(mu_tokenizer_encode(t, text, 0, &ids, &err), MU_E_INPUT);
    assert_int_equal(ids.n, 0);
    mu_tokenizer_destroy(t);
    mu_ids_fini(&ids);
}

/* ---- Any text ------------------------------------------------------------------------------ */

/* Bytes that are mostly text: words, spaces, other scripts, and some that are not UTF-8. */
static size_t random_text(uint64_t seed, char text[TEXT_BYTES])
{
    size_t n = 0, wanted = (size_t)(small_random(seed) % TEXT_BYTES);
    for (uint64_t i = 0; n + 4 < wanted; i++) {
        uint64_t r = small_random(seed * 1000 + i);
        uint32_t cp = (uint32_t)(r >> 8);
        switch (r % 8) {
        case 0:
            text[n++] = ' ';
            break;
        case 1:
            text[n++] = (char)(cp % 256);
            break;
        case 2:
            n += mu_utf8_encode(0x80 + cp % 0xd000, text + n);
            break;
        case 3:
            n += mu_utf8_encode(0x10000 + cp % 0x10000, text + n);
            break;
        default:
            text[n++] = (char)(0x20 + cp % 0x5f);
            break;
        }
    }
    return n;
}

static void texts_come_back(void **state)
{
    (void)state;
    struct mu_tokenizer *tokenizers[MU_ARRAY_LEN(small_patterns)];
    char bytes[TEXT_BYTES];
    for (size_t k = 0; k < MU_ARRAY_LEN(small_patterns); k++)
        assert_non_null(tokenizers[k] = small_byte_level(small_patterns[k], "null"));
    for (uint64_t seed = 1; seed <= TEXTS; seed++) {
        struct mu_str text = {bytes, random_text(seed, bytes)};
        struct mu_text clean;
        mu_text_init(&clean, 4096);
        mu_utf8_add_repaired(&clean, text);
        struct mu_tokenizer *t = tokenizers[seed % MU_ARRAY_LEN(small_patterns)];
        struct mu_err err = MU_ERR_INIT;
        struct mu_ids ids = {0};
        assert_int_equal(mu_tokenizer_encode(t, text, 0, &ids, &err), MU_OK);
        assert_text(t, &ids, 0, (struct mu_str){mu_text_get(&clean), clean.len});
        mu_ids_fini(&ids);
        mu_text_fini(&clean);
    }
    for (size_t k = 0; k < MU_ARRAY_LEN(small_patterns); k++)
        mu_tokenizer_destroy(tokenizers[k]);
}

/* One word of a megabyte: a heap, not the square of its length. */
static void long_words_end(void **state)
{
    (void)state;
    struct mu_tokenizer *t = small_byte_level(llama3, "null");
    size_t len = 1 << 20;
    char *word = mu_alloc(len);
    struct mu_err err = MU_ERR_INIT;
    struct mu_ids ids = {0};
    assert_non_null(word);
    memset(word, 'a', len);
    assert_int_equal(mu_tokenizer_encode(t, (struct mu_str){word, len}, 0, &ids, &err), MU_OK);
    assert_int_equal(ids.n, len / 4);
    assert_text(t, &ids, 0, (struct mu_str){word, len});
    mu_ids_fini(&ids);
    mu_free(word);
    mu_tokenizer_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_checks_hold),
        cmocka_unit_test(special_tokens_are_found_or_plain),
        cmocka_unit_test(flags_of_added_tokens_hold),
        cmocka_unit_test(splits_behave),
        cmocka_unit_test(unigram_finds_the_best_cut),
        cmocka_unit_test(spaces_as_letters),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(missing_parts_are_named),
        cmocka_unit_test(slow_patterns_end),
        cmocka_unit_test(texts_come_back),
        cmocka_unit_test(long_words_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
