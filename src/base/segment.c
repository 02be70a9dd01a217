/* Segments and their tree; see segment.h. */
#include "base/segment.h"

#include <string.h>

static unsigned subtrees(uint32_t a, uint32_t b, struct mu_run run, struct mu_run *out, unsigned k)
{
    if (b <= run.first || a >= run.end) return k;
    if (a >= run.first && b <= run.end) {
        out[k] = (struct mu_run){a, b};
        return k + 1;
    }
    uint32_t m = mu_segment_split(a, b);
    k = subtrees(a, m, run, out, k);
    return subtrees(m, b, run, out, k);
}

unsigned mu_segment_subtrees(uint32_t n, struct mu_run run, struct mu_run out[MU_SUBTREES_MAX])
{
    return run.first < run.end ? subtrees(0, n, run, out, 0) : 0;
}

/* Sums the node over [a, b) into the piece that begins at `a` and returns it. */
static float *node_sum(uint32_t a, uint32_t b, const struct mu_run *runs, float *const *pieces,
                       unsigned n, uint32_t width)
{
    for (unsigned i = 0; i < n; i++)
        if (runs[i].first == a && runs[i].end == b) return pieces[i];
    uint32_t m = mu_segment_split(a, b);
    float *left = node_sum(a, m, runs, pieces, n, width);
    const float *right = node_sum(m, b, runs, pieces, n, width);
    for (uint32_t j = 0; j < width; j++)
        left[j] += right[j];
    return left;
}

void mu_segment_add(uint32_t first, uint32_t end, const struct mu_run *runs, float *const *pieces,
                    unsigned n_pieces, uint32_t width, float *out)
{
    float *sum = node_sum(first, end, runs, pieces, n_pieces, width);
    if (sum != out) memcpy(out, sum, width * sizeof *out);
}
