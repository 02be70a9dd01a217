/*
 * Segments and their tree: how a sum that several devices share is cut and put together again, so
 * that its bits do not depend on how many devices there were.
 *
 * A sum over U units is cut into n = min(8, U) segments; segment i holds units [i U / n, (i+1) U /
 * n). Each segment is summed alone; the n sums are combined by one fixed binary tree, in which the
 * node over [a, b) has the children [a, m) and [m, b), m = a + (largest power of two below b - a).
 * An owner of a run of segments can finish the nodes that lie wholly in its run: its maximal
 * subtrees. Everybody who then holds the maximal subtrees of all owners ends with the same bits.
 * Pure; any thread.
 */
#ifndef MU_BASE_SEGMENT_H
#define MU_BASE_SEGMENT_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>

#define MU_SEGMENTS_MAX 8
/* A run of k of 8 leaves has at most 4 maximal subtrees ([1,7) is [1,2) [2,4) [4,6) [6,7)). */
#define MU_SUBTREES_MAX 4

struct mu_run {
    uint32_t first, end;
};

static inline uint32_t mu_segment_count(uint64_t units)
{
    return units < MU_SEGMENTS_MAX ? (uint32_t)units : MU_SEGMENTS_MAX;
}

/* The first unit of segment i (of segment n: the end of the last). */
static inline uint64_t mu_segment_start(uint64_t units, uint32_t n, uint32_t i)
{
    return (uint64_t)i * units / n;
}

/* The segments that owner `rank` of `n_ranks` <= n holds. */
static inline struct mu_run mu_segment_run(uint32_t n, uint32_t rank, uint32_t n_ranks)
{
    return (struct mu_run){rank * n / n_ranks, (rank + 1) * n / n_ranks};
}

/* Where the node over [a, b), b - a > 1, splits. */
static inline uint32_t mu_segment_split(uint32_t a, uint32_t b)
{
    uint32_t half = 1;
    while (half * 2 < b - a)
        half *= 2;
    return a + half;
}

/* The maximal subtrees, left to right, of the tree over [0, n) inside `run`; returns how many. */
unsigned mu_segment_subtrees(uint32_t n, struct mu_run run, struct mu_run out[MU_SUBTREES_MAX]);

/*
 * Adds `leaves` vectors along the tree over the given pieces: `piece[i]` covers `run[i]`, the runs
 * are the maximal subtrees of all owners, in order, and together cover [first, end). The sum of the
 * node is left in `out` (width floats), which may be one of the pieces. Pieces are overwritten.
 */
void mu_segment_add(uint32_t first, uint32_t end, const struct mu_run *runs, float *const *pieces,
                    unsigned n_pieces, uint32_t width, float *out);

#endif
