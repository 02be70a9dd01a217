/*
 * attend of every family against double precision, and its bits: they depend on positions alone,
 * not on which blocks hold the keys nor on what lies in the cache beyond them.
 */
#include "kernel_test.h"

enum { MAX_TOKENS = 1100, BLOCKS = 40 };

struct shape {
    enum mu_dtype type;
    uint32_t group, n_kv_heads, head_dim, position, window;
    float softcap;
    bool sinks;
};

/* The keys and values of one sequence, [kv head][token][head_dim], before any rounding. */
struct sequence {
    struct shape s;
    float *keys, *values, *q, sinks[64];
    uint32_t kv_head[64];
};

static float *random_values(size_t n)
{
    float *x = mu_alloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_value() * 0.3f;
    return x;
}

static struct sequence sequence_create(struct shape s)
{
    struct sequence q = {.s = s};
    size_t n = (size_t)s.n_kv_heads * MAX_TOKENS * s.head_dim;
    q.keys = random_values(n);
    q.values = random_values(n);
    q.q = random_values((size_t)s.n_kv_heads * s.group * s.head_dim);
    for (uint32_t h = 0; h < s.n_kv_heads * s.group; h++) {
        q.kv_head[h] = h / s.group;
        q.sinks[h] = random_value();
    }
    return q;
}

static void sequence_destroy(struct sequence *q)
{
    mu_free(q->keys);
    mu_free(q->values);
    mu_free(q->q);
}

static size_t value_bytes(enum mu_dtype type)
{
    return mu_dtype(type)->block_bytes;
}

/* Lays the first `position + 1` tokens into a cache, in the blocks that the table names; the rest
 * of the cache holds NaN. */
static void *cache_fill(const struct mu_kernels *k, const struct sequence *q, const float *x,
                        const uint32_t *table)
{
    const struct shape *s = &q->s;
    size_t n = (size_t)BLOCKS * s->n_kv_heads * MU_KV_BLOCK_TOKENS * s->head_dim;
    uint8_t *cache = mu_alloc_aligned(64, n * value_bytes(s->type));
    assert_non_null(cache);
    memset(cache, 0xff, n * value_bytes(s->type));
    for (uint32_t kv = 0; kv < s->n_kv_heads; kv++) {
        for (uint32_t t = 0; t <= s->position; t++) {
            size_t block = table[t / MU_KV_BLOCK_TOKENS];
            size_t at =
                ((block * s->n_kv_heads + kv) * MU_KV_BLOCK_TOKENS + t % MU_KV_BLOCK_TOKENS) *
                s->head_dim;
            k->kv_store(cache + at * value_bytes(s->type), s->type,
                        x + ((size_t)kv * MAX_TOKENS + t) * s->head_dim, s->head_dim);
        }
    }
    return cache;
}

static void run(const struct mu_kernels *k, const struct sequence *q, const uint32_t *table,
                float *out)
{
    const struct shape *s = &q->s;
    static const uint32_t zero;
    float *scratch = mu_alloc_aligned(64, k->attend_scratch(s->group, s->head_dim) * 4);
    assert_non_null(scratch);
    memset(scratch, 0xff, k->attend_scratch(s->group, s->head_dim) * 4);
    void *keys = cache_fill(k, q, q->keys, table), *values = cache_fill(k, q, q->values, table);
    struct mu_attend_args a = {.q = q->q,
                               .out = out,
                               .keys = keys,
                               .values = values,
                               .cache_type = s->type,
                               .n_heads = s->n_kv_heads * s->group,
                               .n_kv_heads = s->n_kv_heads,
                               .head_dim = s->head_dim,
                               .kv_head = q->kv_head,
                               .positions = &s->position,
                               .sequences = &zero,
                               .tables = table,
                               .scale = 1.0f / sqrtf((float)s->head_dim),
                               .softcap = s->softcap,
                               .window = s->window,
                               .sinks = s->sinks ? q->sinks : NULL,
                               .scratch = scratch};
    for (uint32_t kv = s->n_kv_heads; kv-- > 0;)
        k->attend(&a, 0, kv);
    mu_free(keys);
    mu_free(values);
    mu_free(scratch);
}

static double rounded(enum mu_dtype type, float x)
{
    uint8_t stored[4];
    float back;
    mu_codec_encode(type, &x, stored, 1);
    mu_codec_decode(type, stored, &back, 1);
    return (double)back;
}

static void check_head(const struct mu_kernels *k, const struct sequence *q, uint32_t h,
                       const float *got)
{
    static double score[MAX_TOKENS];
    const struct shape *s = &q->s;
    uint32_t n = s->position + 1, begin = s->window && n > s->window ? n - s->window : 0;
    size_t at = (size_t)q->kv_head[h] * MAX_TOKENS * s->head_dim;
    double max = s->sinks ? (double)q->sinks[h] : (double)-INFINITY, sum = 0;
    for (size_t t = begin; t < n; t++) {
        double dot = 0;
        for (uint32_t i = 0; i < s->head_dim; i++)
            dot += (double)q->q[(size_t)h * s->head_dim + i] *
                   rounded(s->type, q->keys[at + t * s->head_dim + i]);
        dot /= sqrt(s->head_dim);
        score[t] = s->softcap > 0 ? (double)s->softcap * tanh(dot / (double)s->softcap) : dot;
        max = fmax(max, score[t]);
    }
    for (size_t t = begin; t < n; t++)
        sum += exp(score[t] - max);
    if (s->sinks) sum += exp((double)q->sinks[h] - max);
    for (uint32_t i = 0; i < s->head_dim; i++) {
        double want = 0;
        for (size_t t = begin; t < n; t++)
            want +=
                exp(score[t] - max) / sum * rounded(s->type, q->values[at + t * s->head_dim + i]);
        if (!(fabs((double)got[i] - want) <= 2e-5))
            fail_msg("%s %s dim %u position %u window %u head %u: %g, not %g", k->family,
                     mu_dtype(s->type)->name, s->head_dim, s->position, s->window, h,
                     (double)got[i], want);
    }
}

static void check_shape(const struct mu_kernels *k, struct shape s)
{
    struct sequence q = sequence_create(s);
    uint32_t heads = s.n_kv_heads * s.group, table[BLOCKS], other[BLOCKS];
    float *one = random_values((size_t)heads * s.head_dim),
          *two = random_values((size_t)heads * s.head_dim);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        table[i] = i;
        other[i] = BLOCKS - 1 - i;
    }
    run(k, &q, table, one);
    run(k, &q, other, two);
    for (uint32_t h = 0; h < heads; h++)
        check_head(k, &q, h, one + (size_t)h * s.head_dim);
    assert_memory_equal(one, two, (size_t)heads * s.head_dim * sizeof *one);
    mu_free(one);
    mu_free(two);
    sequence_destroy(&q);
}

static void shapes(void **state)
{
    static const uint32_t positions[] = {0, 1, 31, 32, 127, 128, 300, 511, 512, 700, 1023, 1098};
    static const uint32_t dims[] = {64, 128, 80, 8, 72, 256}, groups[] = {4, 1, 7, 3, 2, 8};
    static const enum mu_dtype types[] = {MU_DTYPE_F16, MU_DTYPE_BF16, MU_DTYPE_F32};
    const struct mu_kernels *k;
    (void)state;
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++) {
        for (size_t i = 0; i < MU_ARRAY_LEN(positions); i++) {
            for (size_t t = 0; t < MU_ARRAY_LEN(types); t++) {
                struct shape s = {.type = types[t],
                                  .group = groups[i % 6],
                                  .n_kv_heads = 1 + (uint32_t)i % 2,
                                  .head_dim = dims[(i + t) % 6],
                                  .position = positions[i]};
                check_shape(k, s);
                s.window = 1 + random_below(400);
                s.sinks = true;
                check_shape(k, s);
                s.softcap = 3.0f;
                check_shape(k, s);
            }
        }
    }
}

/* A row's heads need not lie side by side, and a head computed alone gives the bits it has in
 * company: so a device may own any of them. */
static void heads_alone(void **state)
{
    const struct mu_kernels *k;
    (void)state;
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++) {
        struct sequence q = sequence_create((struct shape){
            .type = MU_DTYPE_F16, .group = 5, .n_kv_heads = 1, .head_dim = 96, .position = 613});
        uint32_t table[BLOCKS];
        float all[5 * 96], one[96];
        for (uint32_t i = 0; i < BLOCKS; i++)
            table[i] = i;
        run(k, &q, table, all);
        q.s.group = 1;
        for (size_t h = 0; h < 5; h++) {
            struct sequence alone = q;
            alone.q += h * 96;
            run(k, &alone, table, one);
            assert_memory_equal(one, all + h * 96, sizeof one);
        }
        sequence_destroy(&q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(heads_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
