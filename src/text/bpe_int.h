/* What making a BPE model (bpe_build.c) and using it (bpe.c) share. */
#ifndef MU_TEXT_BPE_INT_H
#define MU_TEXT_BPE_INT_H

#include "text/tokenizer_int.h"

/* A pair table's slot: 21 bits each for the two ids, 22 for the merge's number. */
#define MU_BPE_ID_BITS    21
#define MU_BPE_MERGE_BITS 22
#define MU_BPE_NONE       ((1u << MU_BPE_MERGE_BITS) - 1)
#define MU_BPE_EMPTY      UINT64_MAX

/* No merge gives a longer token. */
#define MU_BPE_TOKEN_MAX 2048

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

static inline uint64_t mu_bpe_pair_key(uint32_t left, uint32_t right)
{
    return (uint64_t)left << MU_BPE_ID_BITS | right;
}

static inline uint32_t mu_bpe_pair_slot(const struct mu_bpe *bpe, uint64_t key)
{
    return (uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> bpe->pair_shift);
}

/* The number of the merge of two neighbours. */
static inline uint32_t mu_bpe_pair_find(const struct mu_bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t key = mu_bpe_pair_key(left, right);
    for (uint32_t i = mu_bpe_pair_slot(bpe, key);; i = (i + 1) & bpe->pair_mask) {
        uint64_t slot = bpe->pairs[i];
        if (slot == MU_BPE_EMPTY) return MU_BPE_NONE;
        if (slot >> MU_BPE_MERGE_BITS == key) return (uint32_t)slot & MU_BPE_NONE;
    }
}

/* A token that text may become. */
uint32_t mu_bpe_find_plain(const struct mu_bpe *bpe, struct mu_str s);

#endif
