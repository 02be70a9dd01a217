/*
 * Ids to text, one token at a time or all at once. Tokens go through the decoder's steps; bytes
 * wait until they are whole characters. One thread at a time for each detokeniser.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"
#include "base/utf8.h"

#define HELD_BYTES_MAX (UINT64_C(1) << 31)
#define REPLACEMENT    "\xef\xbf\xbd"

static const struct mu_tokenizer_step *find_step(const struct mu_tokenizer *t,
                                                 enum mu_tokenizer_step_kind kind, bool fused)
{
    bool after = false;
    for (unsigned i = 0; i < t->decoder.n; i++) {
        if (t->decoder.items[i].kind == kind && after == fused) return &t->decoder.items[i];
        after |= t->decoder.items[i].kind == MU_STEP_FUSE;
    }
    return NULL;
}

/* ---- One token ----------------------------------------------------------------------------- */

/* A token of the byte alphabet; any other letter in it makes it a text as it stands. */
static void add_letters_as_bytes(struct mu_str s, struct mu_text *out)
{
    size_t begin = out->len;
    unsigned len;
    for (size_t i = 0; i < s.len; i += len) {
        uint32_t letter = mu_utf8_decode((struct mu_str){s.p + i, s.len - i}, &len);
        int byte = letter == MU_UTF8_BAD ? -1 : mu_letter_byte(letter);
        if (byte < 0) {
            if (out->status == MU_OK) out->len = begin;
            mu_text_add(out, s.p, s.len);
            return;
        }
        mu_text_char(out, (char)byte);
    }
}

static void add_replaced(struct mu_str s, struct mu_str from, struct mu_str to, struct mu_text *out)
{
    while (s.len > 0) {
        const char *p = memmem(s.p, s.len, from.p, from.len);
        size_t n = p ? (size_t)(p - s.p) : s.len;
        mu_text_add(out, s.p, n);
        if (!p) return;
        mu_text_add(out, to.p, to.len);
        s.p += n + from.len;
        s.len -= n + from.len;
    }
}

static struct mu_str stripped(struct mu_str s, const struct mu_tokenizer_step *step)
{
    struct mu_str c = step->content;
    for (uint32_t i = 0; i < step->start && s.len >= c.len && memcmp(s.p, c.p, c.len) == 0; i++) {
        s.p += c.len;
        s.len -= c.len;
    }
    for (uint32_t i = 0;
         i < step->stop && s.len >= c.len && memcmp(s.p + s.len - c.len, c.p, c.len) == 0; i++)
        s.len -= c.len;
    return s;
}

/* The byte that "<0xHH>" stands for, or -1. */
static int single_byte(struct mu_str s)
{
    int value = 0;
    if (s.len != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    for (unsigned i = 3; i < 5; i++) {
        char c = s.p[i];
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (c >= 'A' && c <= 'F')
            value = value * 16 + (c - 'A' + 10);
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (c - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* The token's text after one step; `a` is given back, or `b` with the result in it. */
static struct mu_str run_step(const struct mu_tokenizer_step *step, struct mu_str s, bool first,
                              struct mu_text *b)
{
    if (step->kind == MU_STEP_STRIP) return stripped(s, step);
    if (step->kind != MU_STEP_REPLACE && step->kind != MU_STEP_METASPACE) return s;
    bool vanish = first && step->prepend != MU_PREPEND_NEVER;
    mu_text_clear(b);
    if (step->kind == MU_STEP_REPLACE)
        add_replaced(s, step->pattern, step->content, b);
    else
        add_replaced(s, step->content, vanish ? MU_STR("") : MU_STR(" "), b);
    return (struct mu_str){mu_text_get(b), b->len};
}

/* What a token adds to a text, bytes or text; `*byte`: it is one byte of a run. */
static void add_token(const struct mu_tokenizer *t, uint32_t id, bool first, bool *byte,
                      struct mu_text *out)
{
    struct mu_str s = mu_tokenizer_token(t, id);
    struct mu_text buffers[2];
    *byte = false;
    if (find_step(t, MU_STEP_BYTE_MAP, false)) {
        add_letters_as_bytes(s, out);
        return;
    }
    if (t->decoder.n == 0 && !first) mu_text_char(out, ' ');
    mu_text_init(&buffers[0], HELD_BYTES_MAX);
    mu_text_init(&buffers[1], HELD_BYTES_MAX);
    for (unsigned i = 0; i < t->decoder.n && t->decoder.items[i].kind != MU_STEP_FUSE; i++) {
        int value = single_byte(s);
        if (t->decoder.items[i].kind == MU_STEP_BYTE_FALLBACK && value >= 0) {
            mu_text_char(out, (char)value);
            *byte = true;
            s.len = 0;
            break;
        }
        s = run_step(&t->decoder.items[i], s, first, &buffers[i % 2]);
    }
    mu_text_add(out, s.p, s.len);
    mu_text_fini(&buffers[0]);
    mu_text_fini(&buffers[1]);
}

void mu_tokenizer_add_bytes(const struct mu_tokenizer *t, uint32_t id, struct mu_text *out)
{
    bool byte;
    add_token(t, id, false, &byte, out);
}

/* ---- A stream of tokens -------------------------------------------------------------------- */

static void reset(struct mu_detokenizer *d)
{
    const struct mu_tokenizer_step *strip = find_step(d->t, MU_STEP_STRIP, true);
    d->strip_left = strip ? strip->start : 0;
    d->begun = d->in_run = false;
    mu_text_clear(&d->bytes);
}

void mu_detokenizer_init(struct mu_detokenizer *d, const struct mu_tokenizer *t, unsigned flags)
{
    *d = (struct mu_detokenizer){.t = t, .flags = flags};
    mu_text_init(&d->bytes, HELD_BYTES_MAX);
    reset(d);
}

void mu_detokenizer_fini(struct mu_detokenizer *d)
{
    mu_text_fini(&d->bytes);
}

/* Gives text out, less what the decoder strips off the front of the whole. */
static void give(struct mu_detokenizer *d, struct mu_str s, struct mu_text *out)
{
    size_t begin = out->len;
    mu_utf8_add_repaired(out, s);
    while (d->strip_left > 0 && out->status == MU_OK && out->len > begin) {
        struct mu_str c = find_step(d->t, MU_STEP_STRIP, true)->content;
        if (out->len - begin < c.len || memcmp(out->p + begin, c.p, c.len) != 0) {
            d->strip_left = 0;
            break;
        }
        out->len -= c.len;
        memmove(out->p + begin, out->p + begin + c.len, out->len - begin + 1);
        d->strip_left--;
    }
}

/* Gives out the first `n` waiting bytes. */
static void give_waiting(struct mu_detokenizer *d, size_t n, struct mu_text *out)
{
    if (n == 0) return;
    give(d, (struct mu_str){d->bytes.p, n}, out);
    d->bytes.len -= n;
    memmove(d->bytes.p, d->bytes.p + n, d->bytes.len + 1);
}

/* Bytes that came one to a token are text when all of them together are, else one U+FFFD each. */
static void end_run(struct mu_detokenizer *d, struct mu_text *out)
{
    size_t n = d->bytes.len;
    d->in_run = false;
    if (n == 0) return;
    if (mu_utf8_valid((struct mu_str){d->bytes.p, n})) {
        give_waiting(d, n, out);
        return;
    }
    mu_text_clear(&d->bytes);
    for (size_t i = 0; i < n; i++)
        give(d, MU_STR(REPLACEMENT), out);
}

/* Whether the waiting run may be given out before it ends. */
static bool run_is_settled(const struct mu_detokenizer *d)
{
    struct mu_str s = {d->bytes.p, d->bytes.len};
    return !d->whole_runs && mu_utf8_unfinished(s) != s.len;
}

void mu_detokenizer_push(struct mu_detokenizer *d, uint32_t id, struct mu_text *out)
{
    bool byte;
    if (mu_tokenizer_token(d->t, id).len == 0) return;
    if ((d->flags & MU_DECODE_SKIP_SPECIAL) && mu_tokenizer_is_special(d->t, id)) return;
    size_t begin = d->bytes.len;
    add_token(d->t, id, !d->begun, &byte, &d->bytes);
    d->begun = true;
    if (d->in_run && !byte && d->bytes.status == MU_OK) {
        /* The run ended with this token: put its text behind what the run becomes. */
        struct mu_text text = d->bytes;
        mu_text_init(&d->bytes, HELD_BYTES_MAX);
        mu_text_add(&d->bytes, text.p, begin);
        end_run(d, out);
        mu_text_add(&d->bytes, text.p + begin, text.len - begin);
        mu_text_fini(&text);
    }
    d->in_run = byte;
    if (byte) {
        if (run_is_settled(d)) {
            end_run(d, out);
        }
        return;
    }
    struct mu_str waiting = {d->bytes.p, d->bytes.len};
    give_waiting(d, waiting.len - mu_utf8_unfinished(waiting), out);
}

void mu_detokenizer_end(struct mu_detokenizer *d, struct mu_text *out)
{
    if (d->in_run)
        end_run(d, out);
    else
        give_waiting(d, d->bytes.len, out);
    reset(d);
}

mu_status mu_tokenizer_decode(const struct mu_tokenizer *t, const uint32_t *ids, size_t n,
                              unsigned flags, struct mu_text *out, struct mu_err *err)
{
    struct mu_detokenizer d;
    mu_detokenizer_init(&d, t, flags);
    d.whole_runs = true;
    for (size_t i = 0; i < n; i++)
        mu_detokenizer_push(&d, ids[i], out);
    mu_status status = mu_text_status(&d.bytes, err);
    mu_detokenizer_end(&d, out);
    mu_detokenizer_fini(&d);
    return status == MU_OK ? mu_text_status(out, err) : status;
}
