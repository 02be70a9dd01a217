/*
 * Byte-pair encoding of one piece of text: its characters (or bytes), merged pair by pair in the
 * order of rank. Short pieces are scanned, long ones use a heap, so that time stays n log n
 * whatever the text; pieces seen before come from a small cache. Read-only but for the scratch.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <stdlib.h>

/* A pair table's slot: 21 bits each for the two ids, 22 for the merge's number. */
#define ID_BITS    21
#define MERGE_BITS 22
#define MERGE_NONE ((1u << MERGE_BITS) - 1)
#define EMPTY      UINT64_MAX

#define SCAN_MAX 24 /* symbols; beyond, the heap is faster */

#define CACHE_BITS 15
#define CACHE_KEY  31 /* bytes of a piece that can be remembered */
#define CACHE_IDS  7

struct cached {
    uint64_t key[4]; /* the piece, zero-padded; its length is the last byte */
    uint32_t n;
    uint32_t ids[CACHE_IDS];
};

struct mu_bpe {
    const struct mu_vocabulary *vocabulary;
    uint64_t *pairs;
    unsigned pair_shift;
    uint32_t pair_mask;
    uint32_t *merged;    /* by number of the merge: what it gives */
    uint32_t *ranks;     /* the same: when it is done; NULL: in the order of numbers */
    uint32_t bytes[256]; /* byte-level: their tokens; else: the <0xHH> tokens, if all are there */
    uint32_t ascii[128]; /* not byte-level: tokens of single characters */
    const uint8_t *plain;
    uint8_t *plain_copy;
    uint32_t n_tokens, unknown;
    bool byte_level, byte_fallback, fuse_unknown, ignore_merges, cuts_at_space;
};

struct entry {
    uint64_t order; /* rank, then place */
    uint32_t left, right, merge;
};

struct mu_bpe_scratch {
    struct cached *cache;
    uint32_t *ids, *next, *prev; /* symbols as a list; `next` of a merged one is itself */
    size_t size;
    struct entry *heap;
    size_t n_heap, heap_size;
    struct mu_text text; /* a piece in the vocabulary's spelling */
};

/* ---- Merges -------------------------------------------------------------------------------- */

static uint64_t pair_key(uint32_t left, uint32_t right)
{
    return (uint64_t)left << ID_BITS | right;
}

static uint32_t pair_slot(const struct mu_bpe *bpe, uint64_t key)
{
    return (uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> bpe->pair_shift);
}

/* The number of the merge of two neighbours. */
static inline uint32_t pair_find(const struct mu_bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t key = pair_key(left, right);
    for (uint32_t i = pair_slot(bpe, key);; i = (i + 1) & bpe->pair_mask) {
        uint64_t slot = bpe->pairs[i];
        if (slot == EMPTY) return MERGE_NONE;
        if (slot >> MERGE_BITS == key) return (uint32_t)slot & MERGE_NONE;
    }
}

/* A pair that comes twice belongs to its last merge. */
static void pair_put(struct mu_bpe *bpe, uint32_t left, uint32_t right, uint32_t merge)
{
    uint64_t key = pair_key(left, right);
    uint32_t i = pair_slot(bpe, key);
    while (bpe->pairs[i] != EMPTY && bpe->pairs[i] >> MERGE_BITS != key)
        i = (i + 1) & bpe->pair_mask;
    bpe->pairs[i] = key << MERGE_BITS | merge;
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
#define BATCH     16
#define JOIN_SIZE 2048

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
        __builtin_prefetch(&bpe->pairs[pair_slot(bpe, pair_key(l->ids[0], l->ids[1]))], 1);
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
    char joined[BATCH * JOIN_SIZE];
    if (spec->n_merges >= MERGE_NONE)
        return merge_fault(spec, MERGE_NONE - 1, "there are too many merges", err);
    MU_TRY(pairs_init(bpe, spec->n_merges, err));
    for (uint32_t i = 0; i < spec->n_merges; i += BATCH) {
        uint32_t n = MU_MIN(spec->n_merges - i, (uint32_t)BATCH);
        char *end = joined;
        for (uint32_t k = 0; k < n; k++) {
            const struct mu_merge *m = &spec->merges[i + k];
            if (m->left.len > JOIN_SIZE || m->right.len > JOIN_SIZE - m->left.len)
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
    if (status == MU_OK && n_list >= MERGE_NONE)
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
        if (spec->tokens[i].len > 1 && spec->tokens[i].len <= JOIN_SIZE &&
            (!spec->plain || spec->plain[i]))
            tokens[n++] = (struct scored){spec->scores[i], i};
    qsort(tokens, n, sizeof *tokens, by_score);
    mu_status status = merges_from_sorted(bpe, tokens, n, err);
    mu_free(tokens);
    return status;
}

/* ---- Characters ---------------------------------------------------------------------------- */

static uint32_t find_plain(const struct mu_bpe *bpe, struct mu_str s)
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
        bpe->ascii[i] = find_plain(bpe, (struct mu_str){&c, 1});
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

/* ---- Scratch ------------------------------------------------------------------------------- */

struct mu_bpe_scratch *mu_bpe_scratch_create(void)
{
    struct mu_bpe_scratch *s = mu_calloc(1, sizeof *s);
    if (!s) return NULL;
    s->cache = mu_calloc((size_t)1 << CACHE_BITS, sizeof *s->cache);
    if (!s->cache) {
        mu_free(s);
        return NULL;
    }
    mu_text_init(&s->text, MU_SCRATCH_MAX);
    return s;
}

void mu_bpe_scratch_destroy(struct mu_bpe_scratch *s)
{
    if (!s) return;
    mu_free(s->cache);
    mu_free(s->ids);
    mu_free(s->next);
    mu_free(s->prev);
    mu_free(s->heap);
    mu_text_fini(&s->text);
    mu_free(s);
}

static bool grow_u32(uint32_t **p, size_t n)
{
    uint32_t *grown = mu_realloc(*p, n * sizeof *grown);
    if (grown) *p = grown;
    return grown != NULL;
}

/* Room for n symbols. The lists are only there when a piece was long enough for them. */
static bool scratch_reserve(struct mu_bpe_scratch *s, size_t n)
{
    if (n <= s->size) return true;
    size_t size = MU_MAX(n, s->size * 2 + 256);
    if (!grow_u32(&s->ids, size) || !grow_u32(&s->next, size) || !grow_u32(&s->prev, size))
        return false;
    s->size = size;
    return true;
}

/* ---- Merging ------------------------------------------------------------------------------- */

static inline uint32_t rank_of(const struct mu_bpe *bpe, uint32_t merge)
{
    return bpe->ranks && merge != MERGE_NONE ? bpe->ranks[merge] : merge;
}

/* n <= SCAN_MAX symbols in place; returns how many are left. */
static size_t merge_short(const struct mu_bpe *bpe, uint32_t *ids, size_t n)
{
    uint32_t merges[SCAN_MAX], ranks[SCAN_MAX];
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = rank_of(bpe, merges[i] = pair_find(bpe, ids[i], ids[i + 1]));
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (merges[best] == MERGE_NONE) break;
        ids[best] = bpe->merged[merges[best]];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            merges[i - 1] = merges[i];
            ranks[i - 1] = ranks[i];
        }
        if (best + 1 < n)
            ranks[best] = rank_of(bpe, merges[best] = pair_find(bpe, ids[best], ids[best + 1]));
        if (best > 0)
            ranks[best - 1] =
                rank_of(bpe, merges[best - 1] = pair_find(bpe, ids[best - 1], ids[best]));
    }
    return n;
}

static void heap_sink(struct entry *heap, size_t n, size_t i, struct entry e)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1].order < heap[child].order) child++;
        if (heap[child].order >= e.order) break;
        heap[i] = heap[child];
    }
    heap[i] = e;
}

static bool heap_push(struct mu_bpe_scratch *s, struct entry e)
{
    if (s->n_heap == s->heap_size) {
        size_t size = s->heap_size * 2 + 256;
        struct entry *p = mu_realloc(s->heap, size * sizeof *p);
        if (!p) return false;
        s->heap = p;
        s->heap_size = size;
    }
    size_t i = s->n_heap++;
    for (; i > 0 && s->heap[(i - 1) / 2].order > e.order; i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
    return true;
}

/* Queues the pair of the symbol at `i` and the one behind it, where it merges. */
static bool queue_pair(const struct mu_bpe *bpe, struct mu_bpe_scratch *s, uint32_t i, size_t n)
{
    uint32_t j = s->next[i];
    if (j >= n) return true;
    uint32_t merge = pair_find(bpe, s->ids[i], s->ids[j]);
    if (merge == MERGE_NONE) return true;
    return heap_push(
        s, (struct entry){(uint64_t)rank_of(bpe, merge) << 32 | i, s->ids[i], s->ids[j], merge});
}

/* n symbols in s->ids, with a heap; they end up at the front. False: out of memory. */
static bool merge_long(const struct mu_bpe *bpe, struct mu_bpe_scratch *s, size_t *count)
{
    size_t n = *count;
    s->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->next[i] = i + 1;
        s->prev[i] = i - 1; /* of the first: wraps, and is not below n */
    }
    for (uint32_t i = 0; i < n; i++)
        if (!queue_pair(bpe, s, i, n)) return false;
    while (s->n_heap > 0) {
        struct entry e = s->heap[0];
        struct entry last = s->heap[--s->n_heap];
        if (s->n_heap > 0) heap_sink(s->heap, s->n_heap, 0, last);
        uint32_t i = (uint32_t)e.order, j = s->next[i];
        if (j == i || j >= n || s->ids[i] != e.left || s->ids[j] != e.right) continue;
        s->ids[i] = bpe->merged[e.merge];
        s->next[i] = s->next[j];
        if (s->next[j] < n) s->prev[s->next[j]] = i;
        s->next[j] = j;
        if (!queue_pair(bpe, s, i, n)) return false;
        if (s->prev[i] < n && !queue_pair(bpe, s, s->prev[i], n)) return false;
    }
    size_t left = 0;
    for (uint32_t i = 0; i < n; i = s->next[i])
        s->prev[left++] = s->ids[i];
    memcpy(s->ids, s->prev, left * sizeof *s->ids);
    *count = left;
    return true;
}

/* ---- Symbols of a piece -------------------------------------------------------------------- */

static size_t symbols_of_bytes(const struct mu_bpe *bpe, struct mu_str piece, uint32_t *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < piece.len; i++) {
        uint32_t id = bpe->bytes[(uint8_t)piece.p[i]];
        if (id == MU_TOKEN_NONE) id = bpe->unknown;
        if (id != MU_TOKEN_NONE) ids[n++] = id;
    }
    return n;
}

static bool bytes_exist(const struct mu_bpe *bpe, const char *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (bpe->bytes[(uint8_t)p[i]] == MU_TOKEN_NONE) return false;
    return bpe->byte_fallback;
}

static size_t symbols_of_characters(const struct mu_bpe *bpe, struct mu_str piece, uint32_t *ids)
{
    size_t n = 0;
    bool was_unknown = false;
    unsigned len;
    for (size_t i = 0; i < piece.len; i += len) {
        const char *p = piece.p + i;
        (void)mu_char_next((const uint8_t *)p, &len);
        uint32_t id = len == 1 ? bpe->ascii[(uint8_t)*p] : find_plain(bpe, (struct mu_str){p, len});
        bool unknown = false;
        if (id != MU_TOKEN_NONE) {
            ids[n++] = id;
        } else if (bytes_exist(bpe, p, len)) {
            for (unsigned k = 0; k < len; k++)
                ids[n++] = bpe->bytes[(uint8_t)p[k]];
        } else {
            unknown = bpe->unknown != MU_TOKEN_NONE;
            if (unknown && !(was_unknown && bpe->fuse_unknown)) ids[n++] = bpe->unknown;
        }
        was_unknown = unknown;
    }
    return n;
}

/* The token that is the whole piece, for vocabularies that want it so. */
static uint32_t whole_piece(const struct mu_bpe *bpe, struct mu_bpe_scratch *s, struct mu_str piece)
{
    if (!bpe->byte_level) return find_plain(bpe, piece);
    if (piece.len > JOIN_SIZE) return MU_TOKEN_NONE;
    mu_text_clear(&s->text);
    mu_add_byte_letters(&s->text, piece);
    if (s->text.status != MU_OK) return MU_TOKEN_NONE;
    return find_plain(bpe, (struct mu_str){s->text.p, s->text.len});
}

static bool encode_piece(const struct mu_bpe *bpe, struct mu_bpe_scratch *s, struct mu_str piece,
                         struct mu_ids *out)
{
    uint32_t whole = bpe->ignore_merges ? whole_piece(bpe, s, piece) : MU_TOKEN_NONE;
    if (whole != MU_TOKEN_NONE) {
        if (!mu_ids_reserve(out, 1)) return false;
        out->p[out->n++] = whole;
        return true;
    }
    if (!scratch_reserve(s, piece.len)) return false;
    size_t n = bpe->byte_level ? symbols_of_bytes(bpe, piece, s->ids)
                               : symbols_of_characters(bpe, piece, s->ids);
    if (n <= SCAN_MAX)
        n = merge_short(bpe, s->ids, n);
    else if (!merge_long(bpe, s, &n))
        return false;
    if (n == 0) return true;
    if (!mu_ids_reserve(out, n)) return false;
    memcpy(out->p + out->n, s->ids, n * sizeof *s->ids);
    out->n += n;
    return true;
}

/* ---- Cache --------------------------------------------------------------------------------- */

/* The piece's bytes as four words, its length in the last byte. */
static void cache_key(struct mu_str piece, size_t readable, uint64_t key[4])
{
    size_t len = piece.len;
    if (MU_LIKELY(readable >= 32)) {
        memcpy(key, piece.p, 32);
        for (unsigned i = 0; i < 4; i++) {
            size_t have = len > 8 * i ? MU_MIN(len - 8 * i, (size_t)8) : 0;
            key[i] &= have == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * have)) - 1;
        }
    } else {
        memset(key, 0, 32);
        memcpy(key, piece.p, len);
    }
    key[3] |= (uint64_t)len << 56;
}

static struct cached *cache_slot(struct mu_bpe_scratch *s, const uint64_t key[4])
{
    uint64_t h = key[0] * UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ h >> 32 ^ key[1]) * UINT64_C(0xc2b2ae3d27d4eb4f);
    h = (h ^ h >> 29 ^ key[2] ^ key[3] << 1 ^ key[3] >> 56) * UINT64_C(0x9e3779b97f4a7c15);
    return &s->cache[h >> (64 - CACHE_BITS)];
}

bool mu_bpe_encode(const struct mu_bpe *bpe, struct mu_bpe_scratch *s, struct mu_str piece,
                   size_t readable, struct mu_ids *out)
{
    if (piece.len > CACHE_KEY) return encode_piece(bpe, s, piece, out);
    uint64_t key[4];
    cache_key(piece, readable, key);
    struct cached *c = cache_slot(s, key);
    if (!mu_ids_reserve(out, CACHE_IDS)) return false;
    if (MU_LIKELY(((c->key[0] ^ key[0]) | (c->key[1] ^ key[1]) | (c->key[2] ^ key[2]) |
                   (c->key[3] ^ key[3])) == 0)) {
        memcpy(out->p + out->n, c->ids, sizeof c->ids);
        out->n += c->n;
        return true;
    }
    size_t before = out->n;
    if (!encode_piece(bpe, s, piece, out)) return false;
    if (out->n - before <= CACHE_IDS) {
        memcpy(c->key, key, sizeof c->key);
        c->n = (uint32_t)(out->n - before);
        memcpy(c->ids, out->p + before, c->n * sizeof *c->ids);
    }
    return true;
}
