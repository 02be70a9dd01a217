/*
 * Normalising a text before it is cut: Unicode forms, letter case, and replacements. Text that a
 * step would not change is passed on without a copy. Knows nothing of ids. Any thread.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <utf8proc.h>

/* ---- Unicode forms ------------------------------------------------------------------------- */

/* The next stretch that NFC may change: from a stable character that may take marks, to the next
 * stable one. False when there is none. */
static bool unstable_stretch(struct mu_str text, size_t from, size_t *begin, size_t *end)
{
    const struct mu_char_table *table = mu_char_table();
    const uint8_t *p = (const uint8_t *)text.p;
    size_t stable = from;
    unsigned len;
    for (size_t i = from; i < text.len; i += len) {
        /* Below U+0300, whose first byte is 0xcc, every character is stable. */
        len = 1;
        if (p[i] < 0x80) {
            stable = i;
            continue;
        }
        if (!(mu_char_flags(table, mu_char_next(p + i, &len)) & MU_CHAR_UNSTABLE)) {
            stable = i;
            continue;
        }
        *begin = stable;
        while (i < text.len && (mu_char_flags(table, mu_char_next(p + i, &len)) & MU_CHAR_UNSTABLE))
            i += len;
        *end = i;
        return true;
    }
    return false;
}

static mu_status add_nfc(struct mu_str text, struct mu_text *out, struct mu_err *err)
{
    size_t at = 0, begin, end;
    while (unstable_stretch(text, at, &begin, &end)) {
        mu_text_add(out, text.p + at, begin - at);
        MU_TRY(mu_add_form((struct mu_str){text.p + begin, end - begin}, true, false, out, err));
        at = end;
    }
    mu_text_add(out, text.p + at, text.len - at);
    return MU_OK;
}

/* ---- Letters ------------------------------------------------------------------------------- */

static void add_lower(struct mu_str text, struct mu_text *out)
{
    char c[4];
    unsigned len;
    for (size_t i = 0; i < text.len; i += len) {
        uint32_t cp = mu_char_next((const uint8_t *)text.p + i, &len);
        /* The one letter whose lower case is two characters. */
        if (cp == 0x130)
            mu_text_str(out, "i\xcc\x87");
        else
            mu_text_add(out, c,
                        mu_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)cp), c));
    }
}

static void add_without_marks(struct mu_str text, struct mu_text *out)
{
    unsigned len;
    for (size_t i = 0; i < text.len; i += len) {
        uint32_t cp = mu_char_next((const uint8_t *)text.p + i, &len);
        if (utf8proc_category((utf8proc_int32_t)cp) != UTF8PROC_CATEGORY_MN)
            mu_text_add(out, text.p + i, len);
    }
}

static void add_stripped(struct mu_str text, bool left, bool right, struct mu_text *out)
{
    const struct mu_char_table *table = mu_char_table();
    const uint8_t *p = (const uint8_t *)text.p;
    size_t begin = text.len, end = 0;
    unsigned len;
    for (size_t i = 0; i < text.len; i += len) {
        if (mu_char_flags(table, mu_char_next(p + i, &len)) & MU_CHAR_SPACE) continue;
        begin = MU_MIN(begin, i);
        end = i + len;
    }
    if (!left) begin = 0;
    if (!right) end = text.len;
    if (begin < end) mu_text_add(out, text.p + begin, end - begin);
}

mu_status mu_replace(const struct mu_matcher *m, struct mu_str content, struct mu_str text,
                     struct mu_text *out, struct mu_err *err)
{
    struct mu_search s;
    size_t at = 0, begin, end;
    mu_search_begin(&s, m, text.len, err);
    s.text = text;
    while (mu_search_next(&s, at, &begin, &end)) {
        mu_text_add(out, text.p + at, begin - at);
        mu_text_add(out, content.p, content.len);
        at = end;
    }
    mu_text_add(out, text.p + at, text.len - at);
    mu_search_end(&s);
    return s.status;
}

static mu_status run_step(const struct mu_normalizer_step *n, struct mu_str text,
                          struct mu_text *out, struct mu_err *err)
{
    const struct mu_tokenizer_step *step = &n->step;
    switch (step->kind) {
    case MU_STEP_NFC:
        return add_nfc(text, out, err);
    case MU_STEP_NFD:
        return mu_add_form(text, false, false, out, err);
    case MU_STEP_NFKC:
        return mu_add_form(text, true, true, out, err);
    case MU_STEP_NFKD:
        return mu_add_form(text, false, true, out, err);
    case MU_STEP_LOWERCASE:
        add_lower(text, out);
        return MU_OK;
    case MU_STEP_STRIP_ACCENTS:
        add_without_marks(text, out);
        return MU_OK;
    case MU_STEP_STRIP:
        add_stripped(text, step->start, step->stop, out);
        return MU_OK;
    case MU_STEP_PREPEND:
        mu_text_add(out, step->content.p, step->content.len);
        mu_text_add(out, text.p, text.len);
        return MU_OK;
    case MU_STEP_REPLACE:
        return mu_replace(&n->matcher, step->content, text, out, err);
    case MU_STEP_PRECOMPILED:
        mu_add_precompiled(step->content, text, out);
        return MU_OK;
    case MU_STEP_SENTENCEPIECE:
        mu_add_sentencepiece(n, text, out);
        return MU_OK;
    case MU_STEP_PREFIX_SPACE:
    case MU_STEP_SPLIT:
    case MU_STEP_BYTE_MAP:
    case MU_STEP_METASPACE:
    case MU_STEP_BYTE_FALLBACK:
    case MU_STEP_FUSE:
        break;
    }
    return mu_fail(err, MU_E_INTERNAL, "not a step of a normalizer");
}

/* Most texts are in NFC already. */
static bool changes_nothing(const struct mu_tokenizer_step *step, struct mu_str text)
{
    size_t begin, end;
    return step->kind == MU_STEP_NFC && !unstable_stretch(text, 0, &begin, &end);
}

mu_status mu_normalize(const struct mu_normalizer *n, struct mu_str text, struct mu_text buffers[2],
                       struct mu_str *out, struct mu_err *err)
{
    unsigned which = 0;
    for (unsigned i = 0; i < n->n && text.len > 0; i++) {
        struct mu_text *buffer = &buffers[which];
        if (changes_nothing(&n->steps[i].step, text)) continue;
        mu_text_clear(buffer);
        MU_TRY(run_step(&n->steps[i], text, buffer, err));
        MU_TRY(mu_text_status(buffer, err));
        text = (struct mu_str){mu_text_get(buffer), buffer->len};
        which = !which;
    }
    *out = text;
    return MU_OK;
}
