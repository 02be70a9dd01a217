/* Random weights: what a tensor's seed means. Shared by synth.c and synth_rows.c. */
#ifndef MU_FORMAT_SYNTH_H
#define MU_FORMAT_SYNTH_H

#include "base/dtype.h"

enum mu_synth_kind {
    MU_SYNTH_WEIGHT, /* standard deviation near 0.02, in any type */
    MU_SYNTH_PLAIN,  /* the same, never quantised: biases, routers */
    MU_SYNTH_ONES,   /* norms */
    MU_SYNTH_MXFP4,  /* a weight that exists in this type only */
};

/* The kind rides in the seed's low bits, since a tensor carries nothing else of its own. */
static inline uint64_t mu_synth_seed(uint64_t hash, enum mu_synth_kind kind)
{
    return (hash & ~UINT64_C(7)) | kind;
}

/* True for types whose rows can be made. */
bool mu_synth_can(enum mu_dtype type);

#endif
