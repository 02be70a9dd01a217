/*
 * Making a BPE model from a spec: the table of pairs, from a list of merges or from the scores of a
 * SentencePiece vocabulary, and the tokens of single characters.
 */
#include "text/bpe_int.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <stdlib.h>

/* ---- Merges that are listed ---------------------------------------------------------------- */

/* A pair that comes twice belongs to its last merge. */
static void pair_put(struct mu_bpe *bpe, uint32_t left, uint32_t right, uint32_t merge)
{
    uint64_t key = mu_bpe_pair_key(left, right);
    uint32_t i = mu_bpe_pair_slot(bpe, key);
    while (bpe->pairs[i] != MU_BPE_EMPTY && bpe->pairs[i] >> MU_BPE_MERGE_BITS != key)
        i = (i + 1) & bpe->pair_mask;
    bpe->pairs[i] = key << MU_BPE_MERGE_BITS | merge;
}

static mu_status pairs_init(struct mu_bpe *bpe, uint32_t n, struct mu_err *err)
{
    unsigned bits = 6;
    while ((UINT64_C(1) << bits) * 3 < (uint64_t)n * 5)
        bits++;
    size_t size = (size_t)1 << bits;
    bpe->pairs = mu_alloc(size * sizeof *bpe->pairs);
    bpe->merged = mu_alloc(n * sizeof *bpe->merged);
    if (!bpe->pairs || !bpe->merged) return mu_fail_memory(err, size * sizeof *bpe->pairs);
    memset(bpe->pairs, 0xff, size * sizeof *bpe->pairs);
    bpe->pair_shift = 64 - bits;
    bpe->pair_mask = (uint32_t)(size - 1);
    return MU_OK;
}

static bool begins_with_space(struct mu_str s)
{
    return s.len >= 3 && memcmp(s.p, "\xe2\x96\x81", 3) == 0;
}

static bool ends_with_space(struct mu_str s)
{
    return s.len >= 3 && memcmp(s.p + s.len - 3, "\xe2\x96\x81", 3) == 0;
}

static mu_status merge_fault(const struct mu_tokenizer_spec *spec, uint32_t i, const char *what,
                             struct mu_err *err)
{
    const struct mu_merge *m = &spec->merges[i];
    mu_status status = mu_fail(err, MU_E_INPUT, "%s", what);
    mu_err_where(err, "%s, merge %u '%.*s %.*s'", spec->source, i, (int)MU_MIN(m->left.len, 40),
                 m->left.p, (int)MU_MIN(m->right.len, 40), m->right.p);
    return status;
}

/* Some merges are looked up together, in steps, so that the memory each step needs has arrived when
 * it comes: a vocabulary is larger than the caches. */
#define BATCH 16

struct lookup {
    struct mu_str parts[3]; /* left, right, both */
    uint64_t hashes[3];
    uint32_t ids[3];
};

/* `joined` takes both texts together; returns the place behind them. */
static char *lookup_hash(struct lookup *l, const struct mu_merge *m, const struct mu_vocabulary *v,
                         char *joined)
{
    l->parts[0] = m->left;
    l->parts[1] = m->right;
    memcpy(joined, m->left.p, m->left.len);
    memcpy(joined + m->left.len, m->right.p, m->right.len);
    l->parts[2] = (struct mu_str){joined, m->left.len + m->right.len};
    for (unsigned k = 0; k < 3; k++) {
        l->hashes[k] = mu_vocabulary_hash(l->parts[k]);
        __builtin_prefetch(&v->slots[(uint32_t)l->hashes[k] & v->mask]);
    }
    return joined + l->parts[2].len;
}

/* The token that is most likely meant: where it lies. */
static const struct mu_str *likely(const struct lookup *l, unsigned k,
                                   const struct mu_vocabulary *v)
{
    uint32_t id = (uint32_t)v->slots[(uint32_t)l->hashes[k] & v->mask];
    return &v->tokens[id ? id - 1 : 0];
}

static void lookup_batch(struct lookup *batch, uint32_t n, const struct mu_bpe *bpe)
{
    const struct mu_vocabulary *v = bpe->vocabulary;
    for (uint32_t i = 0; i < n; i++)
        for (unsigned k = 0; k < 3; k++)
            __builtin_prefetch(likely(&batch[i], k, v));
    for (uint32_t i = 0; i < n; i++)
        for (unsigned k = 0; k < 3; k++)
            __builtin_prefetch(likely(&batch[i], k, v)->p);
    for (uint32_t i = 0; i < n; i++) {
        struct lookup *l = &batch[i];
        for (unsigned k = 0; k < 3; k++)
            l->ids[k] = mu_vocabulary_find_hashed(v, l->parts[k], l->hashes[k]);
        __builtin_prefetch(
            &bpe->pairs[mu_bpe_pair_slot(bpe, mu_bpe_pair_key(l->ids[0], l->ids[1]))], 1);
    }
}

static mu_status add_merge(struct mu_bpe *bpe, const struct mu_tokenizer_spec *spec, uint32_t i,
                           const struct lookup *l, struct mu_err *err)
{
    if (l->ids[0] == MU_TOKEN_NONE || l->ids[1] == MU_TOKEN_NONE || l->ids[2] == MU_TOKEN_NONE)
        return merge_fault(spec, i, "a merge names a token that does not exist", err);
    pair_put(bpe, l->ids[0], l->ids[1], i);
    bpe->merged[i] = l->ids[2];
    if (begins_with_space(l->parts[1]) && !ends_with_space(l->parts[0])) bpe->cuts_at_space = false;
    return MU_OK;
}

static mu_status merges_from_list(struct mu_bpe *bpe, const struct mu_tokenizer_spec *spec,
                                  struct mu_err *err)
{
    struct lookup batch[BATCH];
    char joined[BATCH * MU_BPE_TOKEN_MAX];
    if (spec->n_merges >= MU_BPE_NONE)
        return merge_fault(spec, MU_BPE_NONE - 1, "there are too many merges", err);
    MU_TRY(pairs_init(bpe, spec->n_merges, err));
    for (uint32_t i = 0; i < spec->n_merges; i += BATCH) {
        uint32_t n = MU_MIN(spec->n_merges - i, (uint32_t)BATCH);
        char *end = joined;
        for (uint32_t k = 0; k < n; k++) {
            const struct mu_merge *m = &spec->merges[i + k];
            if (m->left.len > MU_BPE_TOKEN_MAX || m->right.len > MU_BPE_TOKEN_MAX - m->left.len)
                return merge_fault(spec, i + k, "a merge gives more than 2,048 bytes", err);
            end = lookup_hash(&batch[k], m, bpe->vocabulary, end);
        }
        lookup_batch(batch, n, bpe);
        for (uint32_t k = 0; k < n; k++)
            MU_TRY(add_merge(bpe, spec, i + k, &batch[k], err));
    }
    return MU_OK;
}

/* ---- Merges that SentencePiece's scores imply ---------------------------------------------- */

struct scored {
    double score;
    uint32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

struct implied {
    uint32_t left, right, merged, rank;
};

/* All ways to cut one token into two that exist. */
static bool cut_token(const struct mu_bpe *bpe, uint32_t id, uint32_t rank, struct implied **list,
                      size_t *n, size_t *size)
{
    struct mu_str s = bpe->vocabulary->tokens[id];
    for (size_t at = 1; at < s.len; at++) {
        if (((uint8_t)s.p[at] & 0xc0) == 0x80) continue;
        uint32_t left = mu_vocabulary_find(bpe->vocabulary, (struct mu_str){s.p, at});
        if (left == MU_TOKEN_NONE || (bpe->plain && !bpe->plain[left])) continue;
        struct mu_str rest = {s.p + at, s.len - at};
        uint32_t right = mu_vocabulary_find(bpe->vocabulary, rest);
        if (right == MU_TOKEN_NONE || (bpe->plain && !bpe->plain[right])) continue;
        if (*n == *size) {
            size_t grown = *size * 2 + 4096;
            struct implied *p = mu_realloc(*list, grown * sizeof *p);
            if (!p) return false;
            *list = p;
            *size = grown;
        }
        (*list)[(*n)++] = (struct implied){left, right, id, rank};
    }
    return true;
}

static mu_status merges_from_sorted(struct mu_bpe *bpe, const struct scored *tokens, uint32_t n,
                                    struct mu_err *err)
{
    struct implied *list = NULL;
    size_t n_list = 0, size = 0;
    uint32_t rank = 0;
    bool good = true;
    for (uint32_t i = 0; i < n && good; i++) {
        rank += i > 0 && tokens[i].score != tokens[i - 1].score;
        good = cut_token(bpe, tokens[i].id, rank, &list, &n_list, &size);
    }
    mu_status status = good ? MU_OK : mu_fail_memory(err, size * sizeof *list);
    if (status == MU_OK && n_list >= MU_BPE_NONE)
        status = mu_fail(err, MU_E_INPUT, "the vocabulary implies too many merges");
    if (status == MU_OK) status = pairs_init(bpe, (uint32_t)n_list, err);
    if (status == MU_OK && !(bpe->ranks = mu_alloc(n_list * sizeof *bpe->ranks)))
        status = mu_fail_memory(err, n_list * sizeof *bpe->ranks);
    for (uint32_t i = 0; i < n_list && status == MU_OK; i++) {
        const struct mu_str *texts = bpe->vocabulary->tokens;
        pair_put(bpe, list[i].left, list[i].right, i);
        bpe->merged[i] = list[i].merged;
        bpe->ranks[i] = list[i].rank;
        if (begins_with_space(texts[list[i].right]) && !ends_with_space(texts[list[i].left]))
            bpe->cuts_at_space = false;
    }
    mu_free(list);
    return status;
}

static mu_status merges_from_scores(struct mu_bpe *bpe, const struct mu_tokenizer_spec *spec,
                                    struct mu_err *err)
{
    struct scored *tokens = mu_alloc(spec->n_tokens * sizeof *tokens);
    if (!tokens) return mu_fail_memory(err, spec->n_tokens * sizeof *tokens);
    uint32_t n = 0;
    for (uint32_t i = 0; i < spec->n_tokens; i++)
        if (spec->tokens[i].len > 1 && spec->tokens[i].len <= MU_BPE_TOKEN_MAX &&
            (!spec->plain || spec->plain[i]))
            tokens[n++] = (struct scored){spec->scores[i], i};
    qsort(tokens, n, sizeof *tokens, by_score);
    mu_status status = merges_from_sorted(bpe, tokens, n, err);
    mu_free(tokens);
    return status;
}

/* ---- The whole ----------------------------------------------------------------------------- */

uint32_t mu_bpe_find_plain(const struct mu_bpe *bpe, struct mu_str s)
{
    uint32_t id = mu_vocabulary_find(bpe->vocabulary, s);
    /* Added tokens come into the vocabulary later; the model does not know them. */
    if (id >= bpe->n_tokens) return MU_TOKEN_NONE;
    return bpe->plain && !bpe->plain[id] ? MU_TOKEN_NONE : id;
}

static void find_characters(struct mu_bpe *bpe)
{
    static const char hex[] = "0123456789ABCDEF";
    for (unsigned i = 0; i < 256; i++) {
        char text[8] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'};
        if (bpe->byte_level) {
            struct mu_str s = {text, mu_utf8_encode(mu_byte_letter((uint8_t)i), text)};
            bpe->bytes[i] = mu_vocabulary_find(bpe->vocabulary, s);
        } else {
            bpe->bytes[i] = mu_vocabulary_find(bpe->vocabulary, (struct mu_str){text, 6});
        }
    }
    for (unsigned i = 0; i < 128; i++) {
        char c = (char)i;
        bpe->ascii[i] = mu_bpe_find_plain(bpe, (struct mu_str){&c, 1});
    }
}

mu_status mu_bpe_create(const struct mu_tokenizer_spec *spec, const struct mu_vocabulary *v,
                        bool byte_level, uint32_t unknown, struct mu_bpe **out, struct mu_err *err)
{
    struct mu_bpe *bpe = mu_calloc(1, sizeof *bpe);
    if (!bpe) return mu_fail_memory(err, sizeof *bpe);
    bpe->vocabulary = v;
    bpe->byte_level = byte_level;
    bpe->n_tokens = spec->n_tokens;
    bpe->unknown = unknown;
    bpe->byte_fallback = spec->byte_fallback;
    bpe->fuse_unknown = spec->fuse_unknown;
    bpe->ignore_merges = spec->ignore_merges;
    mu_status status = MU_OK;
    if (spec->plain) {
        bpe->plain = bpe->plain_copy = mu_alloc(spec->n_tokens);
        if (bpe->plain_copy)
            memcpy(bpe->plain_copy, spec->plain, spec->n_tokens);
        else
            status = mu_fail_memory(err, spec->n_tokens);
    }
    bpe->cuts_at_space = !byte_level && !spec->ignore_merges &&
                         mu_vocabulary_find(v, MU_STR("\xe2\x96\x81")) != MU_TOKEN_NONE;
    if (status == MU_OK)
        status = spec->kind == MU_TOKENIZER_SPM ? merges_from_scores(bpe, spec, err)
                                                : merges_from_list(bpe, spec, err);
    if (status == MU_OK) {
        find_characters(bpe);
        *out = bpe;
    } else {
        mu_bpe_destroy(bpe);
    }
    return status;
}

void mu_bpe_destroy(struct mu_bpe *bpe)
{
    if (!bpe) return;
    mu_free(bpe->pairs);
    mu_free(bpe->merged);
    mu_free(bpe->ranks);
    mu_free(bpe->plain_copy);
    mu_free(bpe);
}

bool mu_bpe_cuts_at_space(const struct mu_bpe *bpe)
{
    return bpe->cuts_at_space;
}
