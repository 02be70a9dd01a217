/*
 * attend of every family against double precision, and its bits: they depend on positions alone,
 * not on the company in a tile, on who computed which of a row's keys, on which blocks hold them,
 * nor on what lies in the cache beyond them.
 */
#include "kernel_test.h"

enum { MAX_TOKENS = 1100, BLOCKS = 40, MAX_ROWS = 64 };

struct shape {
    enum mu_dtype type;
    uint32_t group, n_kv_heads, head_dim, value_dim;
    bool shared; /* the values are the keys' first value_dim numbers */
    uint32_t position, n_rows, window;
    float softcap;
    bool sinks;
};

/* The keys and values of one sequence, [kv head][token][head_dim], before any rounding. */
struct sequence {
    struct shape s;
    float *keys, *values, *q, sinks[64];
    uint32_t positions[MAX_ROWS];
};

static float *random_values(size_t n)
{
    float *x = mu_alloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = random_value() * 0.3f;
    return x;
}

static uint32_t n_heads(const struct shape *s)
{
    return s->n_kv_heads * s->group;
}

static size_t out_values(const struct shape *s)
{
    return (size_t)s->n_rows * n_heads(s) * s->value_dim;
}

static struct sequence sequence_create(struct shape s)
{
    struct sequence q = {.s = s};
    size_t n = (size_t)s.n_kv_heads * MAX_TOKENS;
    q.keys = random_values(n * s.head_dim);
    q.values = random_values(n * s.head_dim);
    q.q = random_values((size_t)s.n_rows * n_heads(&s) * s.head_dim);
    for (uint32_t h = 0; h < n_heads(&s); h++)
        q.sinks[h] = random_value();
    for (uint32_t r = 0; r < s.n_rows; r++)
        q.positions[r] = s.position + r;
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

/* Lays the keys that the rows see into a cache, turned; the rest of the cache holds NaN. */
static void *cache_turned(const struct mu_kernels *k, const struct sequence *q,
                          const uint32_t *table)
{
    const struct shape *s = &q->s;
    size_t n = (size_t)BLOCKS * s->n_kv_heads * MU_KV_BLOCK_TOKENS * s->head_dim;
    uint8_t *cache = mu_alloc_aligned(64, n * value_bytes(s->type));
    assert_non_null(cache);
    memset(cache, 0xff, n * value_bytes(s->type));
    for (uint32_t kv = 0; kv < s->n_kv_heads; kv++)
        for (uint32_t t = 0; t < s->position + s->n_rows; t++) {
            size_t block = (size_t)table[t / MU_KV_BLOCK_TOKENS] * s->n_kv_heads + kv;
            size_t at = block * MU_KV_BLOCK_TOKENS * s->head_dim;
            mu_key_store(k, cache + at * value_bytes(s->type), s->type,
                         q->keys + ((size_t)kv * MAX_TOKENS + t) * s->head_dim, s->head_dim,
                         t % MU_KV_BLOCK_TOKENS);
        }
    return cache;
}

/* Lays the tokens that the rows see into a cache, in the blocks that the table names, with two
 * numbers of padding after each; the rest of the cache holds NaN. */
static void *cache_fill(const struct mu_kernels *k, const struct sequence *q, const float *x,
                        const uint32_t *table)
{
    const struct shape *s = &q->s;
    size_t stride = s->head_dim + 2;
    size_t n = (size_t)BLOCKS * s->n_kv_heads * MU_KV_BLOCK_TOKENS * stride;
    uint8_t *cache = mu_alloc_aligned(64, n * value_bytes(s->type));
    assert_non_null(cache);
    memset(cache, 0xff, n * value_bytes(s->type));
    for (uint32_t kv = 0; kv < s->n_kv_heads; kv++) {
        for (uint32_t t = 0; t < s->position + s->n_rows; t++) {
            size_t block = table[t / MU_KV_BLOCK_TOKENS], inside = t % MU_KV_BLOCK_TOKENS;
            size_t at = ((block * s->n_kv_heads + kv) * MU_KV_BLOCK_TOKENS + inside) * stride;
            k->kv_store(cache + at * value_bytes(s->type), s->type,
                        x + ((size_t)kv * MAX_TOKENS + t) * s->head_dim, s->head_dim);
        }
    }
    return cache;
}

/* One row's keys, in runs of so many chunks, the last run first. */
static void attend_runs(const struct mu_kernels *k, const struct mu_attend_args *a,
                        const struct mu_attend_tile *tile, uint32_t chunks)
{
    uint32_t end = a->positions[tile->row] + 1;
    uint32_t begin = a->window && end > a->window ? end - a->window : 0;
    uint32_t n = MU_CEIL_DIV(end, MU_ATTEND_CHUNK) - begin / MU_ATTEND_CHUNK;
    uint32_t runs = MU_CEIL_DIV(n, chunks);
    size_t stride = tile->n_heads * (size_t)(a->value_dim + 2) + 5;
    float *partials = random_values(runs * stride);
    for (uint32_t r = runs; r-- > 0;) {
        struct mu_attend_run one = {
            .first = r * chunks, .n = chunks, .partials = partials + r * stride};
        k->attend_run(a, tile, &one);
    }
    k->attend_join(a, tile, partials, stride, runs);
    mu_free(partials);
}

/* All queries, in tiles of up to that many rows and heads: out[row][head][value_dim]. When `chunks`
 * is not 0, rows are taken alone and their keys in runs. */
static void run(const struct mu_kernels *k, const struct sequence *q, const uint32_t *table,
                uint32_t rows, uint32_t heads, bool turned, uint32_t chunks, float *out)
{
    const struct shape *s = &q->s;
    static const uint32_t sequences[MAX_ROWS];
    size_t scratch_bytes =
        k->attend_scratch(rows * heads, s->head_dim, s->value_dim, s->position + s->n_rows) *
        sizeof(float);
    float *scratch = mu_alloc_aligned(64, MU_ROUND_UP(scratch_bytes, 64));
    assert_non_null(scratch);
    memset(scratch, 0xff, scratch_bytes);
    void *keys = turned ? cache_turned(k, q, table) : cache_fill(k, q, q->keys, table);
    void *values = s->shared ? keys : cache_fill(k, q, q->values, table);
    struct mu_attend_args a = {.q = q->q,
                               .q_stride = (size_t)n_heads(s) * s->head_dim,
                               .out_stride = (size_t)n_heads(s) * s->value_dim,
                               .keys = keys,
                               .values = values,
                               .key_stride = s->head_dim + (turned ? 0 : 2),
                               .keys_turned = turned,
                               .value_stride = s->head_dim + 2,
                               .cache_type = s->type,
                               .n_kv_heads = s->n_kv_heads,
                               .head_dim = s->head_dim,
                               .value_dim = s->value_dim,
                               .positions = q->positions,
                               .sequences = sequences,
                               .tables = table,
                               .scale = 1.0f / sqrtf((float)s->head_dim),
                               .softcap = s->softcap,
                               .window = s->window,
                               .sinks = s->sinks ? q->sinks : NULL,
                               .scratch = scratch};
    for (uint32_t row = 0; row < s->n_rows; row += rows)
        for (uint32_t kv = s->n_kv_heads; kv-- > 0;)
            for (uint32_t h = 0; h < s->group; h += heads) {
                struct mu_attend_tile tile = {.row = row,
                                              .n_rows = MU_MIN(rows, s->n_rows - row),
                                              .head = kv * s->group + h,
                                              .n_heads = MU_MIN(heads, s->group - h),
                                              .kv = kv};
                a.out = out + row * a.out_stride + (size_t)tile.head * s->value_dim;
                if (chunks > 0)
                    attend_runs(k, &a, &tile, chunks);
                else
                    k->attend(&a, &tile);
            }
    if (!s->shared) mu_free(values);
    mu_free(keys);
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

static void check_head(const struct mu_kernels *k, const struct sequence *q, uint32_t row,
                       uint32_t h, const float *got)
{
    static double score[MAX_TOKENS];
    const struct shape *s = &q->s;
    uint32_t n = q->positions[row] + 1, begin = s->window && n > s->window ? n - s->window : 0;
    size_t at = (size_t)(h / s->group) * MAX_TOKENS * s->head_dim;
    const float *query = q->q + ((size_t)row * n_heads(s) + h) * s->head_dim;
    const float *values = s->shared ? q->keys : q->values;
    double max = s->sinks ? (double)q->sinks[h] : (double)-INFINITY, sum = 0;
    for (size_t t = begin; t < n; t++) {
        double dot = 0;
        for (uint32_t i = 0; i < s->head_dim; i++)
            dot += (double)query[i] * rounded(s->type, q->keys[at + t * s->head_dim + i]);
        dot /= sqrt(s->head_dim);
        score[t] = s->softcap > 0 ? (double)s->softcap * tanh(dot / (double)s->softcap) : dot;
        max = fmax(max, score[t]);
    }
    for (size_t t = begin; t < n; t++)
        sum += exp(score[t] - max);
    if (s->sinks) sum += exp((double)q->sinks[h] - max);
    for (uint32_t i = 0; i < s->value_dim; i++) {
        double want = 0;
        for (size_t t = begin; t < n; t++)
            want += exp(score[t] - max) / sum * rounded(s->type, values[at + t * s->head_dim + i]);
        if (!(fabs((double)got[i] - want) <= 2e-5))
            fail_msg("%s %s dim %u position %u window %u head %u: %g, not %g", k->family,
                     mu_dtype(s->type)->name, s->head_dim, n - 1, s->window, h, (double)got[i],
                     want);
    }
}

/* One query at a time is right, and tiles of any size give its bits, and runs of its keys. */
static void check_shape(const struct mu_kernels *k, struct shape s)
{
    if (s.value_dim == 0) s.value_dim = s.head_dim;
    if (s.n_rows == 0) s.n_rows = 1;
    struct sequence q = sequence_create(s);
    uint32_t table[BLOCKS], other[BLOCKS];
    float *one = random_values(out_values(&s)), *two = random_values(out_values(&s));
    for (uint32_t i = 0; i < BLOCKS; i++) {
        table[i] = i;
        other[i] = BLOCKS - 1 - i;
    }
    run(k, &q, table, 1, 1, false, 0, one);
    for (uint32_t row = 0; row < s.n_rows; row += MU_MAX(s.n_rows - 1, 1u))
        for (uint32_t h = 0; h<n_heads(&s); h += s.head_dim> 256 ? 7 : 1)
            check_head(k, &q, row, h, one + ((size_t)row * n_heads(&s) + h) * s.value_dim);
    uint32_t chunks = 1u << s.position % 3;
    run(k, &q, other, 1, s.group, !s.shared, 0, two);
    assert_memory_equal(one, two, out_values(&s) * sizeof *one);
    run(k, &q, other, 1, s.group, !s.shared, chunks, two);
    assert_memory_equal(one, two, out_values(&s) * sizeof *one);
    for (uint32_t rows = MU_MIN(s.n_rows, MU_ATTEND_QUERIES / s.group); rows > 1;
         rows = rows * 2 / 3) {
        run(k, &q, table, rows, s.group, !s.shared && rows % 2, 0, two);
        assert_memory_equal(one, two, out_values(&s) * sizeof *one);
    }
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

/* Prompts: many rows, that begin and end inside chunks and blocks, with and without a window whose
 * begin moves through them. */
static void rows(void **state)
{
    static const uint32_t positions[] = {0, 100, 250, 384, 900};
    static const uint32_t windows[] = {0, 5, 130, 200};
    const struct mu_kernels *k;
    (void)state;
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++)
        for (size_t i = 0; i < MU_ARRAY_LEN(positions); i++)
            for (size_t w = 0; w < MU_ARRAY_LEN(windows); w++)
                check_shape(k, (struct shape){.type = w % 2 ? MU_DTYPE_F16 : MU_DTYPE_F32,
                                              .group = 1 + (uint32_t)(i + w) % 4,
                                              .n_kv_heads = 1,
                                              .head_dim = 64 + 8 * (uint32_t)w,
                                              .position = positions[i],
                                              .n_rows = 40,
                                              .window = windows[w],
                                              .sinks = w == 2});
}

/* Values narrower than keys, apart from them or inside them, as latent attention has them. */
static void latent(void **state)
{
    const struct mu_kernels *k;
    (void)state;
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++) {
        struct shape s = {.type = MU_DTYPE_BF16,
                          .group = 20,
                          .n_kv_heads = 1,
                          .head_dim = 576,
                          .value_dim = 512,
                          .shared = true,
                          .position = 270,
                          .n_rows = 3};
        check_shape(k, s);
        s = (struct shape){.type = MU_DTYPE_F16,
                           .group = 3,
                           .n_kv_heads = 2,
                           .head_dim = 192,
                           .value_dim = 128,
                           .position = 140,
                           .n_rows = 9};
        check_shape(k, s);
        s.value_dim = 24;
        s.shared = true;
        check_shape(k, s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes), cmocka_unit_test(rows),
                                       cmocka_unit_test(latent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
