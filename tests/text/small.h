/* Small tokenizers for tests, written as tokenizer.json: one vocabulary spelled in bytes, one with
 * spaces as letters and tokens for single bytes. */
#ifndef MU_TESTS_TEXT_SMALL_H
#define MU_TESTS_TEXT_SMALL_H

#include "base/alloc.h"
#include "base/json.h"
#include "base/utf8.h"
#include "format/format.h"
#include "text/text.h"
#include "text/tokenizer_int.h"

#include <stdlib.h>

/* A number that looks random, always the same for the same seed. */
static inline uint64_t small_random(uint64_t seed)
{
    uint64_t x = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static inline struct mu_tokenizer *small_create(const char *json)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer_spec *spec = NULL;
    struct mu_tokenizer *t = NULL;
    mu_status status = mu_tokenizer_spec_parse(mu_str(json), "small", &spec, &err);
    if (status == MU_OK) status = mu_tokenizer_create(spec, &t, &err);
    mu_tokenizer_spec_destroy(spec);
    return status == MU_OK ? t : NULL;
}

static inline void small_add_token(struct mu_text *json, struct mu_str token, unsigned id)
{
    mu_text_str(json, id ? "," : "");
    mu_json_add_string(json, token);
    mu_text_printf(json, ":%u", id);
}

/* All bytes, some merges, a special and a plain added token; `pattern` cuts the text. */
static inline struct mu_tokenizer *small_byte_level(const char *pattern, const char *normalizer)
{
    static const char *const merges[][2] = {{"t", "h"},        {"th", "e"},
                                            {"i", "n"},        {"in", "g"},
                                            {"a", "a"},        {"aa", "aa"},
                                            {"1", "2"},        {"\xc4\xa0", "the"},
                                            {"\xc4\xa0", "a"}, {"\xc3\x83", "\xc2\xa9"}};
    struct mu_text json;
    unsigned id = 0;
    mu_text_init(&json, 1 << 16);
    mu_text_printf(
        &json,
        "{\"version\":\"1.0\",\"normalizer\":%s,\"added_tokens\":[{\"id\":300,\"content\":"
        "\"<|end|>\",\"special\":true},{\"id\":301,\"content\":\"<tool>\","
        "\"normalized\":false}],\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":",
        normalizer);
    mu_json_add_string(&json, mu_str(pattern));
    mu_text_str(&json,
                "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
                "\"add_prefix_space\":false,\"use_regex\":false}]},"
                "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (; id < 256; id++) {
        struct mu_text letter;
        char byte = (char)id;
        mu_text_init(&letter, 16);
        mu_add_byte_letters(&letter, (struct mu_str){&byte, 1});
        small_add_token(&json, (struct mu_str){letter.p, letter.len}, id);
        mu_text_fini(&letter);
    }
    for (unsigned i = 0; i < MU_ARRAY_LEN(merges); i++)
        mu_text_printf(&json, ",\"%s%s\":%u", merges[i][0], merges[i][1], id++);
    mu_text_str(&json, "},\"merges\":[");
    for (unsigned i = 0; i < MU_ARRAY_LEN(merges); i++)
        mu_text_printf(&json, "%s[\"%s\",\"%s\"]", i ? "," : "", merges[i][0], merges[i][1]);
    mu_text_str(&json, "]}}");
    struct mu_tokenizer *t = small_create(mu_text_get(&json));
    mu_text_fini(&json);
    return t;
}

/* In the manner of SentencePiece. */
static inline struct mu_tokenizer *small_spaces(void)
{
    static const char *const words[] = {
        "\xe2\x96\x81", "a", "b", "c", "t", "h", "e", "\xe2\x96\x81t", "he", "\xe2\x96\x81the"};
    static const char merges[] = "[\"\xe2\x96\x81 t\",\"h e\",\"\xe2\x96\x81t he\"]";
    struct mu_text json;
    unsigned id = 0;
    mu_text_init(&json, 1 << 16);
    mu_text_str(
        &json, "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
               "{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\","
               "\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]},"
               "\"pre_tokenizer\":null,\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
               "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":\" \"},"
               "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\","
               "\"content\":\" \",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\","
               "\"byte_fallback\":true,\"vocab\":{");
    for (; id < 256; id++)
        mu_text_printf(&json, "%s\"<0x%02X>\":%u", id ? "," : "", id, id);
    for (unsigned i = 0; i < MU_ARRAY_LEN(words); i++)
        mu_text_printf(&json, ",\"%s\":%u", words[i], id++);
    mu_text_printf(&json, "},\"merges\":%s}}", merges);
    struct mu_tokenizer *t = small_create(mu_text_get(&json));
    mu_text_fini(&json);
    return t;
}

/* The patterns that are scanned by hand, as published. */
static const char *const small_patterns[] = {
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
    "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
    "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "\\p{N}",
    "\\p{N}{1,3}",
    "\\p{N}+",
};

/* True when all characters of `text` (UTF-8) are assigned in PCRE2's version of Unicode: utf8proc,
 * which the scanners use, may know a later one. */
static inline bool small_is_known(struct mu_str text)
{
    static struct mu_regex *unassigned;
    struct mu_err err = MU_ERR_INIT;
    struct mu_search s;
    size_t begin, end;
    if (!unassigned && mu_regex_create(MU_STR("\\p{Cn}"), &unassigned, &err) != MU_OK) return false;
    const struct mu_matcher m = {.regex = unassigned};
    mu_search_begin(&s, &m, text.len, &err);
    s.text = text;
    bool found = mu_search_next(&s, 0, &begin, &end);
    mu_search_end(&s);
    return !found;
}

/* True when the scanner and PCRE2 cut `text` (UTF-8) at the same places. Characters that only one
 * of the two libraries' Unicode tables knows are the caller's to avoid. */
static inline bool small_same_cuts(unsigned which, struct mu_str text)
{
    static struct mu_regex *regexes[MU_ARRAY_LEN(small_patterns)];
    struct mu_err err = MU_ERR_INIT;
    struct mu_str pattern = mu_str(small_patterns[which]);
    if (!regexes[which] && mu_regex_create(pattern, &regexes[which], &err) != MU_OK) return false;
    const struct mu_matcher by_hand = {.scan = mu_scan_find(pattern)};
    const struct mu_matcher by_regex = {.regex = regexes[which]};
    struct mu_search a, b;
    bool same = by_hand.scan != NULL;
    mu_search_begin(&a, &by_hand, text.len, &err);
    mu_search_begin(&b, &by_regex, text.len, &err);
    a.text = b.text = text;
    for (size_t at = 0, begin[2], end[2]; same;) {
        bool found = mu_search_next(&a, at, &begin[0], &end[0]);
        same = found == mu_search_next(&b, at, &begin[1], &end[1]);
        if (!found || !same) break;
        same = begin[0] == begin[1] && end[0] == end[1];
        at = end[0];
    }
    mu_search_end(&a);
    mu_search_end(&b);
    return same;
}

/* Encodes and decodes; ends the program when what comes out cannot be. */
static inline void small_use(const struct mu_tokenizer *t)
{
    static const char text[] =
        "Hello the  12345 w\xc3\xb6rld's <|end|> \xe4\xb8\xad a\xcc\x81\r\n \xff";
    struct mu_err err = MU_ERR_INIT;
    struct mu_ids ids = {0};
    struct mu_text out;
    mu_text_init(&out, 1 << 20);
    for (unsigned flags = 0; flags < 4; flags++)
        if (mu_tokenizer_encode(t, mu_str(text), flags, &ids, &err) != MU_OK) break;
    for (size_t i = 0; i < ids.n; i++)
        if (ids.p[i] >= mu_tokenizer_size(t)) abort();
    if (mu_tokenizer_decode(t, ids.p, ids.n, 0, &out, &err) == MU_OK &&
        !mu_utf8_valid((struct mu_str){mu_text_get(&out), out.len}))
        abort();
    mu_ids_fini(&ids);
    mu_text_fini(&out);
}

/* Any bytes as a tokenizer of the kind that `parse` reads: what loads must be usable. */
static inline void small_fuzz(mu_status (*parse)(struct mu_str bytes, const char *name,
                                                 struct mu_tokenizer_spec **out,
                                                 struct mu_err *err),
                              const uint8_t *data, size_t size)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer_spec *spec = NULL;
    struct mu_tokenizer *t = NULL;
    struct mu_str bytes = {(const char *)data, size};
    mu_status status = parse(bytes, "fuzz", &spec, &err);
    if (status == MU_OK) status = mu_tokenizer_create(spec, &t, &err);
    mu_tokenizer_spec_destroy(spec);
    if ((status == MU_OK) != (err.code == MU_OK)) abort();
    if (t) small_use(t);
    mu_tokenizer_destroy(t);
}

#endif
