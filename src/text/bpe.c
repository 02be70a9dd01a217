/*
 * Byte-pair encoding of one piece of text: its characters (or bytes), merged pair by pair in the
 * order of rank. Short pieces are scanned, long ones use a heap, so that time stays n log n
 * whatever the text; pieces seen before come from a small cache. Read-only but for the scratch.
 */
#include "text/bpe_int.h"

#include "base/alloc.h"

#define SCAN_MAX 24 /* symbols; beyond, the heap is faster */

#define CACHE_BITS 15
#define CACHE_KEY  31 /* bytes of a piece that can be remembered */
#define CACHE_IDS  7

struct cached {
    uint64_t key[4]; /* the piece, zero-padded; its length is the last byte */
    uint32_t n;
    uint32_t ids[CACHE_IDS];
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
    return bpe->ranks && merge != MU_BPE_NONE ? bpe->ranks[merge] : merge;
}

/* n <= SCAN_MAX symbols in place; returns how many are left. */
static size_t merge_short(const struct mu_bpe *bpe, uint32_t *ids, size_t n)
{
    uint32_t merges[SCAN_MAX], ranks[SCAN_MAX];
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = rank_of(bpe, merges[i] = mu_bpe_pair_find(bpe, ids[i], ids[i + 1]));
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (merges[best] == MU_BPE_NONE) break;
        ids[best] = bpe->merged[merges[best]];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            merges[i - 1] = merges[i];
            ranks[i - 1] = ranks[i];
        }
        if (best + 1 < n)
            ranks[best] =
                rank_of(bpe, merges[best] = mu_bpe_pair_find(bpe, ids[best], ids[best + 1]));
        if (best > 0)
            ranks[best - 1] =
                rank_of(bpe, merges[best - 1] = mu_bpe_pair_find(bpe, ids[best - 1], ids[best]));
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
    uint32_t merge = mu_bpe_pair_find(bpe, s->ids[i], s->ids[j]);
    if (merge == MU_BPE_NONE) return true;
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
        uint32_t id =
            len == 1 ? bpe->ascii[(uint8_t)*p] : mu_bpe_find_plain(bpe, (struct mu_str){p, len});
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
    if (!bpe->byte_level) return mu_bpe_find_plain(bpe, piece);
    if (piece.len > MU_BPE_TOKEN_MAX) return MU_TOKEN_NONE;
    mu_text_clear(&s->text);
    mu_add_byte_letters(&s->text, piece);
    if (s->text.status != MU_OK) return MU_TOKEN_NONE;
    return mu_bpe_find_plain(bpe, (struct mu_str){s->text.p, s->text.len});
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
        for (size_t i = 0; i < 4; i++) {
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
