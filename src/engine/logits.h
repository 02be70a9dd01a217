/*
 * Passes over a whole row of logits, 16 lanes at a time: the scan that finds bad values and the
 * maxima, the sums of exponentials, and the walk that turns a uniform number into an id. Every sum
 * has one fixed order: the vocabulary is cut into the segments of base/segment.h (one unit an id);
 * within a segment, offset j belongs to lane j modulo 16; lanes are added by halves, segments along
 * the tree. Knows nothing of requests. Any thread; nothing is allocated.
 */
#ifndef MU_ENGINE_LOGITS_H
#define MU_ENGINE_LOGITS_H

#include "base/segment.h"

#define MU_LOGITS_BLOCK 64 /* ids that share one entry of the table of maxima */

/* Writes the maximum of every block and returns that of all; false, with the first such id, when a
 * value is NaN or +infinity. */
bool mu_logits_scan(const float *logits, uint32_t n, float *block_max, float *max, uint32_t *bad);

/* The sum of exp((logit - max) * scale), max being the largest finite logit; sums[i] is that of
 * segment i. */
float mu_logits_sum(const float *logits, uint32_t n, float max, float scale,
                    float sums[MU_SEGMENTS_MAX]);

/* The id whose share of [0, 1) holds u, with ids in ascending order; sums as above. */
uint32_t mu_logits_draw(const float *logits, uint32_t n, float max, float scale,
                        const float sums[MU_SEGMENTS_MAX], double u);

/* x[i] = exp(x[i]) for x[i] <= 0, the bits of mu_expf; below e^-87 the result is 0. */
void mu_logits_exp(float *x, uint32_t n);

#endif
