/*
 * See logits.h. The 16 lanes are four of the compilers' own vectors of four floats, which every
 * machine of ours has; wider ones gcc takes apart where the machine lacks them.
 */
#include "engine/logits.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define LANES 16
#define QUADS 4

typedef float quad __attribute__((vector_size(16)));
typedef uint32_t quad_bits __attribute__((vector_size(16)));

struct lanes {
    quad q[QUADS];
};

/* Lanes past the end hold minus infinity, which no maximum takes and whose exponential is 0. */
static inline struct lanes lanes_load(const float *p, uint64_t left)
{
    struct lanes x;
    if (MU_UNLIKELY(left < LANES)) {
        for (unsigned i = 0; i < QUADS; i++)
            x.q[i] = (quad){0} - INFINITY;
        memcpy(&x, p, left * sizeof *p);
        return x;
    }
    memcpy(&x, p, sizeof x);
    return x;
}

/*
 * e^x = 2^n e^r with |r| <= ln(2) / 2, and e^r = 1 + r + r^2 q(r), for x <= 0: the formula of
 * mu_expf on four lanes. Here a result that would be subnormal is 0.
 */
static inline quad quad_exp(quad x)
{
    const float magic = 0x1.8p23f; /* adding it leaves the integer in the low bits */
    quad_bits live = (quad_bits)(x >= -87.0f);
    quad shifted = x * 0x1.715476p0f + magic, n = shifted - magic;
    quad r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f; /* the first product is exact */
    quad q = r * 0x1.6dbc68p-10f + 0x1.124148p-7f;
    q = ((q * r + 0x1.555454p-5f) * r + 0x1.555486p-3f) * r + 0x1p-1f;
    quad e = 1.0f + (r + r * r * q);
    return (quad)(((quad_bits)e + ((quad_bits)shifted << 23)) & live);
}

/* The exponentials of 16 relative logits. */
static inline struct lanes lanes_exp(struct lanes x, float max, float scale)
{
    for (unsigned i = 0; i < QUADS; i++)
        x.q[i] = quad_exp((x.q[i] - max) * scale);
    return x;
}

/* The larger of both; `b` where they are equal. */
static inline quad quad_max(quad a, quad b)
{
    quad_bits greater = (quad_bits)(a > b);
    return (quad)(((quad_bits)a & greater) | ((quad_bits)b & ~greater));
}

static inline float quad_top(quad x)
{
    float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
    return a > b ? a : b;
}

/* The maximum of at most a block; `good` keeps its bits while all values are below +infinity. */
static inline float block_scan(const float *p, uint32_t n, quad_bits *good)
{
    struct lanes top = lanes_load(p, n), x;
    quad_bits ok = *good;
    for (unsigned q = 0; q < QUADS; q++)
        ok &= (quad_bits)(top.q[q] <= FLT_MAX);
    for (uint32_t i = LANES; i < n; i += LANES) {
        x = lanes_load(p + i, n - i);
        for (unsigned q = 0; q < QUADS; q++) {
            ok &= (quad_bits)(x.q[q] <= FLT_MAX);
            top.q[q] = quad_max(x.q[q], top.q[q]);
        }
    }
    *good = ok;
    return quad_top(quad_max(quad_max(top.q[0], top.q[1]), quad_max(top.q[2], top.q[3])));
}

bool mu_logits_scan(const float *logits, uint32_t n, float *block_max, float *max, uint32_t *bad)
{
    quad_bits good = (quad_bits){0} - 1u;
    float top = -INFINITY;
    for (uint32_t at = 0; at < n; at += MU_LOGITS_BLOCK) {
        float block = block_scan(logits + at, MU_MIN(n - at, MU_LOGITS_BLOCK), &good);
        block_max[at / MU_LOGITS_BLOCK] = block;
        if (block > top) top = block;
    }
    *max = top;
    if ((good[0] & good[1] & good[2] & good[3]) == UINT32_MAX) return true;
    for (*bad = 0; logits[*bad] <= FLT_MAX;)
        ++*bad;
    return false;
}

static float segment_sum(const float *logits, uint64_t n, float max, float scale)
{
    struct lanes sum = {0};
    for (uint64_t i = 0; i < n; i += LANES) {
        struct lanes x = lanes_exp(lanes_load(logits + i, n - i), max, scale);
        for (unsigned q = 0; q < QUADS; q++)
            sum.q[q] += x.q[q];
    }
    quad half = (sum.q[0] + sum.q[2]) + (sum.q[1] + sum.q[3]);
    return (half[0] + half[2]) + (half[1] + half[3]);
}

float mu_logits_sum(const float *logits, uint32_t n, float max, float scale,
                    float sums[MU_SEGMENTS_MAX])
{
    struct mu_run runs[MU_SEGMENTS_MAX];
    float pieces[MU_SEGMENTS_MAX], *piece[MU_SEGMENTS_MAX], total;
    uint32_t n_segments = mu_segment_count(n);
    for (uint32_t s = 0; s < n_segments; s++) {
        uint64_t first = mu_segment_start(n, n_segments, s);
        uint64_t end = mu_segment_start(n, n_segments, s + 1);
        pieces[s] = sums[s] = segment_sum(logits + first, end - first, max, scale);
        runs[s] = (struct mu_run){s, s + 1};
        piece[s] = &pieces[s];
    }
    mu_segment_add(0, n_segments, runs, piece, n_segments, 1, &total);
    return total;
}

/* The offset whose share holds `goal` of this segment's sum. Rounding may leave a little of the
 * goal at the end; it belongs to the last id that has a share. */
static uint32_t segment_draw(const float *logits, uint32_t n, float max, float scale, double goal)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < n; i += LANES) {
        float e[LANES];
        struct lanes x = lanes_exp(lanes_load(logits + i, n - i), max, scale);
        memcpy(e, &x, sizeof e);
        for (uint32_t j = 0; j < LANES; j++) {
            if (!(e[j] > 0)) continue;
            last = i + j;
            if (goal < (double)e[j]) return last;
            goal -= (double)e[j];
        }
    }
    return last;
}

uint32_t mu_logits_draw(const float *logits, uint32_t n, float max, float scale,
                        const float sums[MU_SEGMENTS_MAX], double u)
{
    uint32_t n_segments = mu_segment_count(n);
    uint64_t first = 0, end = n;
    double goal = 0, rest = 0;
    for (uint32_t s = 0; s < n_segments; s++)
        goal += (double)sums[s];
    goal *= u;
    for (uint32_t s = 0; s < n_segments; s++) {
        if (!(sums[s] > 0)) continue;
        first = mu_segment_start(n, n_segments, s);
        end = mu_segment_start(n, n_segments, s + 1);
        rest = goal;
        goal -= (double)sums[s];
        if (goal < 0) break;
    }
    return (uint32_t)first +
           segment_draw(logits + first, (uint32_t)(end - first), max, scale, rest);
}

void mu_logits_exp(float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += LANES) {
        struct lanes v = lanes_exp(lanes_load(x + i, n - i), 0, 1);
        memcpy(x + i, &v, MU_MIN(n - i, LANES) * sizeof *x);
    }
}
