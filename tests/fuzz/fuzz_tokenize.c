/* Any text through small tokenizers: what comes back is the text, streamed or whole; and the
 * scanners cut it as the patterns say. The first byte chooses the pattern. */
#include "../text/small.h"

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_PATTERNS MU_ARRAY_LEN(small_patterns)

static struct mu_tokenizer *tokenizers[N_PATTERNS + 1];

static void check_stream(const struct mu_tokenizer *t, const struct mu_ids *ids,
                         struct mu_str whole)
{
    struct mu_detokenizer d;
    struct mu_text out;
    mu_text_init(&out, 1 << 24);
    mu_detokenizer_init(&d, t, 0);
    for (size_t i = 0; i < ids->n; i++) {
        mu_detokenizer_push(&d, ids->p[i], &out);
        if (!mu_utf8_valid((struct mu_str){mu_text_get(&out), out.len})) abort();
    }
    mu_detokenizer_end(&d, &out);
    if (!mu_str_equal(whole, (struct mu_str){mu_text_get(&out), out.len})) abort();
    mu_detokenizer_fini(&d);
    mu_text_fini(&out);
}

static void check_round_trip(const struct mu_tokenizer *t, struct mu_str text,
                             struct mu_str repaired, unsigned flags)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_ids ids = {0};
    struct mu_text out;
    mu_text_init(&out, 1 << 24);
    if (mu_tokenizer_encode(t, text, flags, &ids, &err) != MU_OK) abort();
    if (mu_tokenizer_decode(t, ids.p, ids.n, 0, &out, &err) != MU_OK) abort();
    struct mu_str whole = {mu_text_get(&out), out.len};
    /* The vocabulary with spaces as letters turns those letters into spaces. */
    bool exact = t != tokenizers[N_PATTERNS] || !memmem(text.p, text.len, "\xe2\x96\x81", 3);
    if (exact && !mu_str_equal(whole, repaired)) abort();
    check_stream(t, &ids, whole);
    mu_ids_fini(&ids);
    mu_text_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    unsigned which = data[0] % (N_PATTERNS + 1);
    struct mu_str text = {(const char *)data + 1, size - 1};
    struct mu_text repaired;
    if (!tokenizers[which])
        tokenizers[which] =
            which == N_PATTERNS ? small_spaces() : small_byte_level(small_patterns[which], "null");
    if (!tokenizers[which]) abort();
    mu_text_init(&repaired, 1 << 24);
    mu_utf8_add_repaired(&repaired, text);
    struct mu_str clean = {mu_text_get(&repaired), repaired.len};
    check_round_trip(tokenizers[which], text, clean, data[0] & 0x80 ? MU_ENCODE_PLAIN_SPECIAL : 0);
    if (which < N_PATTERNS && small_is_known(clean) && !small_same_cuts(which, clean)) abort();
    mu_text_fini(&repaired);
    return 0;
}
