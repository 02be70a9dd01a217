/*
 * SentencePiece's normaliser: characters replaced by a precompiled table, and what becomes of
 * spaces. The table is a trie of prefixes (a double array) whose values are places in a list of
 * texts; places are checked as they are used. Knows nothing of pieces. Any thread.
 */
#include "text/tokenizer_int.h"

#include "base/cursor.h"
#include "base/utf8.h"

#include <utf8proc.h>

#define SPACE_LETTER         "\xe2\x96\x81"
#define GRAPHEME_REPLACE_MAX 6 /* bytes; longer ones are replaced character by character */

struct charsmap {
    const uint8_t *trie;
    size_t n_units;
    struct mu_str texts; /* each ends with a NUL */
};

/* format/ has seen that the sizes are right. */
static struct charsmap charsmap_of(struct mu_str content)
{
    struct charsmap map = {0};
    struct mu_cursor c = mu_cursor_over(content.p, content.len);
    uint32_t trie_bytes = mu_cursor_u32(&c);
    map.trie = mu_cursor_take(&c, trie_bytes);
    if (!map.trie) return map;
    map.n_units = trie_bytes / 4;
    map.texts = (struct mu_str){content.p + c.pos, mu_cursor_left(&c)};
    return map;
}

static uint32_t unit_at(const struct charsmap *map, size_t i)
{
    uint32_t unit = UINT32_C(1) << 31; /* a label that no byte has */
    if (i < map->n_units) memcpy(&unit, map->trie + 4 * i, sizeof unit);
    return unit;
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The text for the longest (or the shortest) beginning of `s` that the table has, and its length;
 * false when it has none. The table is a file's: one that would cut a character, or put in what is
 * no UTF-8, has none, since all behind it trusts the text. */
static bool charsmap_find(const struct charsmap *map, struct mu_str s, bool longest, size_t *len,
                          struct mu_str *out)
{
    size_t found = SIZE_MAX, at = unit_offset(unit_at(map, 0));
    for (size_t i = 0; i < s.len && (longest || found == SIZE_MAX); i++) {
        uint8_t byte = (uint8_t)s.p[i];
        at ^= byte;
        uint32_t unit = unit_at(map, at);
        if ((unit & ((UINT32_C(1) << 31) | 255)) != byte) break;
        at ^= unit_offset(unit);
        bool inside = i + 1 < s.len && ((uint8_t)s.p[i + 1] & 0xc0) == 0x80;
        if (!(unit >> 8 & 1) || inside) continue;
        found = unit_at(map, at) & ~(UINT32_C(1) << 31);
        *len = i + 1;
    }
    if (found >= map->texts.len) return false;
    struct mu_str rest = {map->texts.p + found, map->texts.len - found};
    const char *end = memchr(rest.p, 0, rest.len);
    *out = (struct mu_str){rest.p, end ? (size_t)(end - rest.p) : rest.len};
    return mu_utf8_valid(*out);
}

/* ---- Precompiled, as Hugging Face's library does it ---------------------------------------- */

/* Behind the grapheme that begins at `at`. */
static size_t grapheme_end(struct mu_str text, size_t at)
{
    unsigned len;
    utf8proc_int32_t state = 0;
    uint32_t before = mu_char_next((const uint8_t *)text.p + at, &len);
    for (at += len; at < text.len; at += len) {
        uint32_t next = mu_char_next((const uint8_t *)text.p + at, &len);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)next,
                                             &state))
            break;
        before = next;
    }
    return at;
}

void mu_add_precompiled(struct mu_str content, struct mu_str text, struct mu_text *out)
{
    struct charsmap map = charsmap_of(content);
    struct mu_str to;
    size_t found;
    unsigned len;
    for (size_t at = 0, end; at < text.len; at = end) {
        end = grapheme_end(text, at);
        struct mu_str whole = {text.p + at, end - at};
        if (whole.len < GRAPHEME_REPLACE_MAX && charsmap_find(&map, whole, false, &found, &to)) {
            mu_text_add(out, to.p, to.len);
            continue;
        }
        for (; at < end; at += len) {
            (void)mu_char_next((const uint8_t *)text.p + at, &len);
            struct mu_str one = {text.p + at, len};
            if (!charsmap_find(&map, one, false, &found, &to)) to = one;
            mu_text_add(out, to.p, to.len);
        }
    }
}

/* ---- tokenizer.model ----------------------------------------------------------------------- */

struct walk {
    const struct mu_normalizer_step *n;
    struct charsmap map;
    struct mu_str text;
    size_t at;
    struct mu_added_match kept; /* the next token that stays as it is */
    bool none_kept;
};

/* What stands at w->at becomes `*out`; the place moves behind it. */
static void next_replaced(struct walk *w, struct mu_str *out)
{
    unsigned one;
    size_t len, from = w->at;
    while (!w->none_kept && w->kept.begin < w->at)
        w->none_kept = !mu_added_next(w->n->verbatim, w->text, &from, w->at, false, &w->kept);
    struct mu_str rest = {w->text.p + w->at, w->text.len - w->at};
    if (!w->none_kept && w->kept.begin == w->at) {
        len = w->kept.end - w->kept.begin;
        *out = (struct mu_str){rest.p, len};
    } else if (!charsmap_find(&w->map, rest, true, &len, out)) {
        (void)mu_char_next((const uint8_t *)rest.p, &one);
        len = one;
        *out = (struct mu_str){rest.p, len};
    }
    w->at += len;
}

static bool ends_with(const struct mu_text *out, size_t begin, const char *s)
{
    size_t n = strlen(s);
    return out->len - begin >= n && memcmp(out->p + out->len - n, s, n) == 0;
}

void mu_add_sentencepiece(const struct mu_normalizer_step *n, struct mu_str text,
                          struct mu_text *out)
{
    const struct mu_tokenizer_step *step = &n->step;
    const char *space = step->escape ? SPACE_LETTER : " ";
    struct walk w = {.n = n, .map = charsmap_of(step->content), .text = text};
    size_t begin = out->len, before = 0;
    struct mu_str piece = {0};
    w.none_kept = !n->verbatim || !mu_added_next(n->verbatim, text, &before, 0, false, &w.kept);
    for (before = 0; step->squeeze && w.at < text.len; before = w.at) {
        next_replaced(&w, &piece);
        if (!mu_str_is(piece, " ")) {
            w.at = before;
            break;
        }
    }
    if (w.at == text.len) return;
    if (step->prepend != MU_PREPEND_NEVER && !step->space_behind) mu_text_str(out, space);
    for (bool after_space = step->squeeze; w.at < text.len;) {
        next_replaced(&w, &piece);
        for (; after_space && piece.len > 0 && piece.p[0] == ' '; piece.p++)
            piece.len--;
        for (size_t i = 0; i < piece.len; i++) {
            if (piece.p[i] == ' ')
                mu_text_str(out, space);
            else
                mu_text_char(out, piece.p[i]);
        }
        if (piece.len > 0) after_space = step->squeeze && piece.p[piece.len - 1] == ' ';
    }
    while (step->squeeze && out->status == MU_OK && ends_with(out, begin, space))
        out->len -= strlen(space);
    if (step->prepend != MU_PREPEND_NEVER && step->space_behind) mu_text_str(out, space);
}
