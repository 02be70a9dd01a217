/*
 * attend of a CPU family: included by the family's file after simd.h.
 *
 * Keys and values are read a block of the cache at a time, and widened once for all queries of the
 * tile: keys turned so that a lane is a key, values as they lie. Blocks lie apart and are hardly
 * longer than a page, which the processor's own prefetching does not leave: so what is wanted next
 * is fetched by hand, a line for every line that is read. A score is a sum over head_dim in
 * order in one lane, an output value a sum over the keys of a chunk in order in one lane: neither
 * depends on which queries and keys were done at once.
 */

#define BLOCK_KEYS MU_KV_BLOCK_TOKENS /* widened at once: two vectors of scores */

/* Queries, and vectors of their output, that have their sums in registers together. */
#ifdef __AVX512F__
#define QUERIES 6
#define VECTORS 4
#else
#define QUERIES 2
#define VECTORS 2
#endif

/* What a row sees of the chunk at hand, keys [begin, end) of it, and what it had before: its number
 * of chunks, of which `depth` partials are left. */
struct attending_row {
    uint32_t begin, end, chunks, depth;
};

struct attending {
    const struct mu_attend_args *a;
    const struct mu_attend_tile *tile;
    uint32_t n_queries; /* row by row */
    uint32_t dim;       /* value_dim rounded up to whole vectors */
    const float *q[MU_ATTEND_QUERIES];
    struct attending_row rows[MU_ATTEND_QUERIES];
    float *score;     /* [query][MU_ATTEND_CHUNK]: scores, then weights */
    float *key;       /* [head_dim in whole vectors][BLOCK_KEYS] */
    float *value;     /* [BLOCK_KEYS][dim] */
    float *max, *sum; /* [level][query]: partials */
    float *v;         /* [level][query][dim] */
};

static size_t attend_scratch(uint32_t queries, uint32_t head_dim, uint32_t value_dim,
                             uint32_t context)
{
    size_t dim = MU_ROUND_UP(value_dim, (uint32_t)MU_LANES);
    return (size_t)queries * MU_ATTEND_CHUNK +
           (MU_ROUND_UP(head_dim, (uint32_t)MU_LANES) + dim) * BLOCK_KEYS +
           (size_t)mu_attend_levels(context) * queries * (dim + 2);
}

/* The whole vector from value i on, zeros past the end. */
SIMD vf cache_load(enum mu_dtype type, const char *p, uint32_t i, uint32_t n)
{
    size_t size = type == MU_DTYPE_F32 ? 4 : 2;
    if (MU_LIKELY(i + MU_LANES <= n)) return vf_load_cache(p + i * size, type);
    char last[64] = {0};
    memcpy(last, p + i * size, (n - i) * size);
    return vf_load_cache(last, type);
}

/* Where the first token of a block lies; position is a multiple of BLOCK_KEYS. */
static const char *block_at(const struct attending *t, const void *cache, size_t stride,
                            uint32_t position)
{
    const struct mu_attend_args *a = t->a;
    const uint32_t *table = a->tables + a->sequences[t->tile->row] * a->table_stride;
    size_t block = (size_t)table[position / BLOCK_KEYS] * a->n_kv_heads + t->tile->kv;
    return (const char *)cache +
           block * BLOCK_KEYS * stride * (size_t)mu_dtype(a->cache_type)->block_bytes;
}

/* Where what is multiplied lies: widened in the scratch, or in the cache itself when only one tile
 * of queries is going to read it. */
struct numbers {
    enum mu_dtype type;
    const char *at;
    size_t stride;     /* bytes from a token's values to the next one's */
    const char *ahead; /* as long a block of the cache that is wanted next, or the same again */
};

SIMD void fetch(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch(p + i, _MM_HINT_T0);
}

/* After the keys of a block the values of its tokens will be wanted; after those the keys of the
 * chunk that follows. Latent attention has read the values when it has the keys. */
static const char *after_keys(const struct attending *t, const char *block, uint32_t position)
{
    return t->a->keys_turned ? block_at(t, t->a->values, t->a->value_stride, position) : block;
}

static const char *after_values(const struct attending *t, const char *block, uint32_t position)
{
    uint32_t last = t->a->positions[t->tile->row + t->tile->n_rows - 1];
    position += MU_ATTEND_CHUNK;
    if (!t->a->keys_turned || position > last) return block;
    return block_at(t, t->a->keys, t->a->key_stride, position);
}

/* The first n keys of a block that lie turned, in whole vectors. */
SIMD void turned_widen(const struct attending *t, enum mu_dtype type, const char *block,
                       const char *ahead, uint32_t n)
{
    size_t size = type == MU_DTYPE_F32 ? 4 : 2;
    for (uint32_t i = 0; i < t->a->head_dim; i++) {
        fetch(ahead + i * BLOCK_KEYS * size, BLOCK_KEYS * size);
        for (uint32_t k = 0; k < n; k += MU_LANES) {
            size_t at = (size_t)i * BLOCK_KEYS + k;
            vf_store(t->key + at, vf_load_cache(block + at * size, type));
        }
    }
}

/* The first n keys of a block, in whole vectors. */
SIMD void keys_widen(const struct attending *t, enum mu_dtype type, const char *block,
                     const char *ahead, uint32_t n)
{
    uint32_t dim = t->a->head_dim;
    size_t token = t->a->key_stride * (type == MU_DTYPE_F32 ? 4 : 2);
    if (t->a->keys_turned) {
        turned_widen(t, type, block, ahead, n);
        return;
    }
    for (uint32_t k = 0; k < n; k += MU_LANES)
        for (uint32_t i = 0; i < dim; i += MU_LANES) {
            vf v[MU_LANES];
            UNROLL for (unsigned j = 0; j < MU_LANES; j++) v[j] =
                cache_load(type, block + (k + j) * token, i, dim);
            vf_transpose_16(v);
            UNROLL for (unsigned j = 0; j < MU_LANES; j++)
                vf_store(t->key + (size_t)(i + j) * BLOCK_KEYS + k, v[j]);
        }
}

SIMD void values_widen(const struct attending *t, enum mu_dtype type, const char *block,
                       const char *ahead, uint32_t first, uint32_t end)
{
    size_t token = t->a->value_stride * (type == MU_DTYPE_F32 ? 4 : 2);
    for (uint32_t k = first; k < end; k++) {
        fetch(ahead + k * token, token);
        for (uint32_t i = 0; i < t->dim; i += MU_LANES)
            vf_store(t->value + (size_t)k * t->dim + i,
                     cache_load(type, block + k * token, i, t->a->value_dim));
    }
}

/* The first n keys of a block for so many queries, a number of all of them after the other. */
static struct numbers block_keys(const struct attending *t, uint32_t position, uint32_t n,
                                 uint32_t queries)
{
    const char *block = block_at(t, t->a->keys, t->a->key_stride, position);
    const char *ahead = after_keys(t, block, position);
    if (t->a->keys_turned && queries <= QUERIES)
        return (struct numbers){t->a->cache_type, block, 0, ahead};
    if (t->a->cache_type == MU_DTYPE_F16)
        keys_widen(t, MU_DTYPE_F16, block, ahead, n);
    else if (t->a->cache_type == MU_DTYPE_BF16)
        keys_widen(t, MU_DTYPE_BF16, block, ahead, n);
    else
        keys_widen(t, MU_DTYPE_F32, block, ahead, n);
    return (struct numbers){MU_DTYPE_F32, (const char *)t->key, 0, (const char *)t->key};
}

/* Values [first, end) of a block for so many queries. */
static struct numbers block_values(const struct attending *t, uint32_t position, uint32_t first,
                                   uint32_t end, uint32_t queries)
{
    const char *block = block_at(t, t->a->values, t->a->value_stride, position);
    const char *ahead = after_values(t, block, position);
    size_t size = mu_dtype(t->a->cache_type)->block_bytes;
    if (t->a->value_dim == t->dim && queries <= QUERIES)
        return (struct numbers){t->a->cache_type, block, t->a->value_stride * size, ahead};
    if (t->a->cache_type == MU_DTYPE_F16)
        values_widen(t, MU_DTYPE_F16, block, ahead, first, end);
    else if (t->a->cache_type == MU_DTYPE_BF16)
        values_widen(t, MU_DTYPE_BF16, block, ahead, first, end);
    else
        values_widen(t, MU_DTYPE_F32, block, ahead, first, end);
    const char *widened = (const char *)t->value;
    return (struct numbers){MU_DTYPE_F32, widened, t->dim * sizeof(float), widened};
}

/* Few queries take their scores of several blocks together, so that as many sums are under way as
 * an addition's latency wants. */
#define BLOCKS_AT_ONCE(queries) ((queries)*4 <= QUERIES ? 4 : (queries)*2 <= QUERIES ? 2 : 1)
#define BLOCKS_MOST             4

/* The scores of N queries for all keys of B blocks, whose first is key `at` of the chunk. */
SIMD void scores_tile(const struct attending *t, const unsigned N, const unsigned B,
                      enum mu_dtype type, const struct numbers *keys, uint32_t query, uint32_t at)
{
    const size_t size = type == MU_DTYPE_F32 ? 4 : 2;
    vf sum[QUERIES * 2];
    UNROLL for (unsigned j = 0; j < N * B * 2; j++) sum[j] = vf_set1(0);
    for (uint32_t i = 0; i < t->a->head_dim; i++) {
        const size_t step = (size_t)i * BLOCK_KEYS * size;
        UNROLL for (unsigned b = 0; b < B; b++)
        {
            vf low = vf_load_cache(keys[b].at + step, type);
            vf high = vf_load_cache(keys[b].at + step + MU_LANES * size, type);
            fetch(keys[b].ahead + step, BLOCK_KEYS * size);
            UNROLL for (unsigned n = 0; n < N; n++)
            {
                vf q = vf_set1(t->q[query + n][i]), *to = &sum[(n * B + b) * 2];
                to[0] = vf_fma(q, low, to[0]);
                to[1] = vf_fma(q, high, to[1]);
            }
        }
    }
    UNROLL for (unsigned n = 0; n < N; n++) UNROLL for (unsigned j = 0; j < B * 2; j++) vf_store(
        t->score + (size_t)(query + n) * MU_ATTEND_CHUNK + at + MU_LANES * j, sum[n * B * 2 + j]);
}

/* Adds keys [first, end) of the block to NV vectors, from the i-th number on, of the values of N
 * queries, which follow each other at v; weight is that of the block's first key. */
SIMD void values_tile(const struct attending *t, const unsigned N, const unsigned NV,
                      enum mu_dtype type, const struct numbers *values, const float *weight,
                      uint32_t i, uint32_t first, uint32_t end, float *v)
{
    const size_t size = type == MU_DTYPE_F32 ? 4 : 2;
    const char *value = values->at + i * size, *ahead = values->ahead + i * size;
    const size_t stride = values->stride;
    vf sum[QUERIES][VECTORS];
    UNROLL for (unsigned n = 0; n < N; n++) UNROLL for (unsigned j = 0; j < NV; j++) sum[n][j] =
        vf_load(v + n * (size_t)t->dim + i + MU_LANES * j);
    for (uint32_t k = first; k < end; k++) {
        vf x[VECTORS];
        fetch(ahead + k * stride, NV * MU_LANES * size);
        UNROLL for (unsigned j = 0; j < NV; j++) x[j] =
            vf_load_cache(value + k * stride + MU_LANES * j * size, type);
        UNROLL for (unsigned n = 0; n < N; n++)
        {
            vf w = vf_set1(weight[n * MU_ATTEND_CHUNK + k]);
            UNROLL for (unsigned j = 0; j < NV; j++) sum[n][j] = vf_fma(w, x[j], sum[n][j]);
        }
    }
    UNROLL for (unsigned n = 0; n < N; n++) UNROLL for (unsigned j = 0; j < NV; j++)
        vf_store(v + n * (size_t)t->dim + i + MU_LANES * j, sum[n][j]);
}

/* Calls X(n) for each number of queries a tile may have. */
#if QUERIES > 2
#define TILE_SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define TILE_SIZES(X) X(1) X(2)
#endif

SIMD void scores_some(const struct attending *t, const unsigned N, enum mu_dtype type,
                      const struct numbers *keys, unsigned blocks, uint32_t query, uint32_t at)
{
    if (BLOCKS_AT_ONCE(N) > 1 && blocks > 1)
        scores_tile(t, N, BLOCKS_AT_ONCE(N), type, keys, query, at);
    else
        scores_tile(t, N, 1, type, keys, query, at);
}

/* Of one block, or as many as may be taken at once. */
static void scores_add(const struct attending *t, const struct numbers *keys, unsigned blocks,
                       uint32_t n, uint32_t query, uint32_t at)
{
#define CASE_(N)                                                                                   \
    case N:                                                                                        \
        if (keys->type == MU_DTYPE_F16)                                                            \
            scores_some(t, N, MU_DTYPE_F16, keys, blocks, query, at);                              \
        else if (keys->type == MU_DTYPE_BF16)                                                      \
            scores_some(t, N, MU_DTYPE_BF16, keys, blocks, query, at);                             \
        else                                                                                       \
            scores_some(t, N, MU_DTYPE_F32, keys, blocks, query, at);                              \
        break;
    switch (n) {
        TILE_SIZES(CASE_)
    }
#undef CASE_
}

SIMD void values_row(const struct attending *t, const unsigned N, enum mu_dtype type,
                     const struct numbers *values, const float *weight, uint32_t first,
                     uint32_t end, float *v)
{
    uint32_t i = 0;
    for (; i + VECTORS * MU_LANES <= t->dim; i += VECTORS * MU_LANES)
        values_tile(t, N, VECTORS, type, values, weight, i, first, end, v);
    for (; i < t->dim; i += MU_LANES)
        values_tile(t, N, 1, type, values, weight, i, first, end, v);
}

static void values_add(const struct attending *t, const struct numbers *values, uint32_t n,
                       const float *weight, uint32_t first, uint32_t end, float *v)
{
#define CASE_(N)                                                                                   \
    case N:                                                                                        \
        if (values->type == MU_DTYPE_F16)                                                          \
            values_row(t, N, MU_DTYPE_F16, values, weight, first, end, v);                         \
        else if (values->type == MU_DTYPE_BF16)                                                    \
            values_row(t, N, MU_DTYPE_BF16, values, weight, first, end, v);                        \
        else                                                                                       \
            values_row(t, N, MU_DTYPE_F32, values, weight, first, end, v);                         \
        break;
    switch (n) {
        TILE_SIZES(CASE_)
    }
#undef CASE_
}

/* Scores of one query become exp(score - largest), for all keys of a chunk. */
SIMD void weights_whole(float *w, vf scale, float *max, float *sum)
{
    vf v[MU_ATTEND_CHUNK / MU_LANES], largest = vf_set1(-INFINITY), total = vf_set1(0);
    UNROLL for (unsigned i = 0; i < MU_ATTEND_CHUNK / MU_LANES; i++)
    {
        v[i] = vf_mul(vf_load(w + i * MU_LANES), scale);
        largest = vf_max(largest, v[i]);
    }
    *max = vf_largest(largest);
    largest = vf_set1(*max);
    UNROLL for (unsigned i = 0; i < MU_ATTEND_CHUNK / MU_LANES; i++)
    {
        v[i] = vf_exp(vf_sub(v[i], largest));
        vf_store(w + i * MU_LANES, v[i]);
        total = vf_add(total, v[i]);
    }
    *sum = vf_sum(total);
}

/* The same for keys [begin, end); the other lanes of their vectors become 0. */
static void weights(const struct mu_attend_args *a, float *w, uint32_t begin, uint32_t end,
                    float *max, float *sum)
{
    uint32_t first = begin / MU_LANES * MU_LANES, last = MU_ROUND_UP(end, (uint32_t)MU_LANES);
    vf largest = vf_set1(-INFINITY), total = vf_set1(0), scale = vf_set1(a->scale);
    if (last - first == MU_ATTEND_CHUNK && end - begin == last - first && a->softcap == 0) {
        weights_whole(w, scale, max, sum);
        return;
    }
    for (uint32_t k = first; k < last; k += MU_LANES)
        vf_store(w + k, vf_mul(vf_load(w + k), scale));
    for (uint32_t k = begin; a->softcap > 0 && k < end; k++)
        w[k] = a->softcap * mu_tanhf(w[k] / a->softcap);
    for (uint32_t k = first; k < begin; k++)
        w[k] = -INFINITY;
    for (uint32_t k = end; k < last; k++)
        w[k] = -INFINITY;
    for (uint32_t k = first; k < last; k += MU_LANES)
        largest = vf_max(largest, vf_load(w + k));
    *max = vf_largest(largest);
    for (uint32_t k = first; k < last; k += MU_LANES)
        vf_store(w + k, vf_exp(vf_sub(vf_load(w + k), vf_set1(*max))));
    for (uint32_t k = first; k < begin; k++)
        w[k] = 0;
    for (uint32_t k = end; k < last; k++)
        w[k] = 0;
    for (uint32_t k = first; k < last; k += MU_LANES)
        total = vf_add(total, vf_load(w + k));
    *sum = vf_sum(total);
}

/* Sets what each row sees of the 128 keys from `first` on; returns how many rows see any, with the
 * first of them in *from. They are adjacent, and what they see begins and ends no earlier from row
 * to row. */
static uint32_t chunk_rows(struct attending *t, uint32_t first, uint32_t *from)
{
    uint32_t n = 0, window = t->a->window;
    for (uint32_t r = 0; r < t->tile->n_rows; r++) {
        uint32_t end = t->a->positions[t->tile->row + r] + 1;
        uint32_t begin = MU_MAX(window && end > window ? end - window : 0, first);
        end = MU_MIN(end, first + MU_ATTEND_CHUNK);
        if (begin >= end) continue;
        t->rows[r].begin = begin - first;
        t->rows[r].end = end - first;
        if (n++ == 0) *from = r;
    }
    return n;
}

static void chunk_scores(const struct attending *t, uint32_t first, uint32_t row, uint32_t n)
{
    uint32_t heads = t->tile->n_heads, last = t->rows[row + n - 1].end;
    uint32_t end = MU_ROUND_UP(last, (uint32_t)BLOCK_KEYS), step;
    for (uint32_t at = t->rows[row].begin / BLOCK_KEYS * BLOCK_KEYS; at < end; at += step) {
        struct numbers keys[BLOCKS_MOST];
        while (t->rows[row].end <= at) { /* it sees no later block either */
            row++;
            n--;
        }
        /* Widened keys have room for one block. */
        uint32_t blocks = t->a->keys_turned ? BLOCKS_AT_ONCE(n * heads) : 1;
        if (at + blocks * BLOCK_KEYS > end) blocks = 1;
        step = blocks * BLOCK_KEYS;
        for (uint32_t b = 0; b < blocks; b++) {
            uint32_t position = at + b * BLOCK_KEYS;
            keys[b] = block_keys(t, first + position, MU_MIN(last - position, (uint32_t)BLOCK_KEYS),
                                 n * heads);
        }
        for (uint32_t q = row * heads, left = n * heads, some; left > 0; q += some, left -= some) {
            some = MU_MIN(left, (uint32_t)QUERIES);
            scores_add(t, keys, blocks, some, q, at);
        }
    }
}

/* How many rows from `row` on see the same keys of the block at `at`, and add to the same level. */
static uint32_t rows_alike(const struct attending *t, uint32_t row, uint32_t end, uint32_t at)
{
    const struct attending_row *one = &t->rows[row], *r = one + 1;
    for (; r < t->rows + end; r++) {
        bool begin = r->begin == one->begin || MU_MAX(r->begin, one->begin) <= at;
        bool stop = r->end == one->end || MU_MIN(r->end, one->end) >= at + BLOCK_KEYS;
        if (!begin || !stop || r->depth != one->depth) break;
    }
    return (uint32_t)(r - one);
}

static void chunk_values(const struct attending *t, uint32_t first, uint32_t row, uint32_t n)
{
    uint32_t heads = t->tile->n_heads, last = t->rows[row + n - 1].end;
    uint32_t begin = t->rows[row].begin;
    for (uint32_t at = begin / BLOCK_KEYS * BLOCK_KEYS; at < last; at += BLOCK_KEYS) {
        struct numbers values = block_values(t, first + at, begin > at ? begin - at : 0,
                                             MU_MIN(last - at, (uint32_t)BLOCK_KEYS), n * heads);
        for (uint32_t r = row, alike; r < row + n; r += alike) {
            const struct attending_row *one = &t->rows[r];
            uint32_t low = one->begin > at ? one->begin - at : 0;
            uint32_t high = MU_MIN(one->end - MU_MIN(one->end, at), (uint32_t)BLOCK_KEYS);
            alike = rows_alike(t, r, row + n, at);
            uint32_t q = r * heads, left = low < high ? alike * heads : 0;
            for (uint32_t some; left > 0; q += some, left -= some) {
                some = MU_MIN(left, (uint32_t)QUERIES);
                values_add(t, &values, some, t->score + (size_t)q * MU_ATTEND_CHUNK + at, low, high,
                           t->v + ((size_t)one->depth * t->n_queries + q) * t->dim);
            }
        }
    }
}

/* Merges the partial of level + 1 into that of level. */
static void partials_merge(const struct attending *t, uint32_t row, uint32_t level)
{
    for (uint32_t h = 0; h < t->tile->n_heads; h++) {
        size_t left = (size_t)level * t->n_queries + row * t->tile->n_heads + h;
        size_t right = left + t->n_queries;
        bool larger = t->max[left] >= t->max[right]; /* one factor is e^0 */
        float e = mu_expf(-fabsf(t->max[left] - t->max[right]));
        float a = larger ? 1.0f : e, b = larger ? e : 1.0f;
        float *x = t->v + left * t->dim;
        const float *y = t->v + right * t->dim;
        t->max[left] = larger ? t->max[left] : t->max[right];
        t->sum[left] = t->sum[left] * a + t->sum[right] * b;
        for (uint32_t i = 0; i < t->dim; i++)
            x[i] = x[i] * a + y[i] * b;
    }
}

/* A row's newest partial is in its place; kernel.h says how they combine. */
static void partial_push(struct attending *t, uint32_t row)
{
    struct attending_row *r = &t->rows[row];
    r->depth++;
    for (uint32_t carry = r->chunks++; carry & 1; carry >>= 1, r->depth--)
        partials_merge(t, row, r->depth - 2);
}

/* All that wait become the partial of level 0. */
static void row_merge(const struct attending *t, uint32_t row)
{
    for (uint32_t depth = t->rows[row].depth; depth > 1; depth--)
        partials_merge(t, row, depth - 2);
}

/* The partial results of the chunk that begins with key `first`. */
static void chunk_attend(struct attending *t, uint32_t first)
{
    uint32_t heads = t->tile->n_heads, row = 0, n = chunk_rows(t, first, &row);
    if (n == 0) return;
    chunk_scores(t, first, row, n);
    for (uint32_t q = row * heads; q < (row + n) * heads; q++) {
        const struct attending_row *r = &t->rows[q / heads];
        size_t at = (size_t)r->depth * t->n_queries + q;
        weights(t->a, t->score + (size_t)q * MU_ATTEND_CHUNK, r->begin, r->end, &t->max[at],
                &t->sum[at]);
        memset(t->v + at * t->dim, 0, t->dim * sizeof *t->v);
    }
    chunk_values(t, first, row, n);
    for (uint32_t i = row; i < row + n; i++)
        partial_push(t, i);
}

static void row_finish(struct attending *t, uint32_t row)
{
    const struct mu_attend_args *a = t->a;
    row_merge(t, row);
    for (uint32_t h = 0; h < t->tile->n_heads; h++) {
        size_t at = row * t->tile->n_heads + h;
        float scale = 1.0f, sum = t->sum[at];
        if (a->sinks) {
            float sink = a->sinks[t->tile->head + h], max = MU_MAX(t->max[at], sink);
            scale = mu_expf(t->max[at] - max);
            sum = sum * scale + mu_expf(sink - max);
        }
        float factor = scale / sum;
        float *out = a->out + row * a->out_stride + (size_t)h * a->value_dim;
        for (uint32_t i = 0; i < a->value_dim; i++)
            out[i] = t->v[at * t->dim + i] * factor;
    }
}

/* The keys of the first chunk, all at once: there is nothing before them to be read meanwhile. */
static void first_fetch(const struct attending *t, uint32_t first, uint32_t end)
{
    const struct mu_attend_args *a = t->a;
    size_t bytes = a->key_stride * BLOCK_KEYS * mu_dtype(a->cache_type)->block_bytes;
    end = MU_MIN(end, first + MU_ATTEND_CHUNK);
    for (uint32_t at = first; a->keys_turned && at < end; at += BLOCK_KEYS)
        fetch(block_at(t, a->keys, a->key_stride, at), bytes);
}

/* The tile's account, and where in the scratch its parts lie. */
static void attending_begin(struct attending *t, const struct mu_attend_args *a,
                            const struct mu_attend_tile *tile)
{
    t->a = a;
    t->tile = tile;
    uint32_t levels = mu_attend_levels(a->positions[tile->row + tile->n_rows - 1] + 1);
    t->n_queries = tile->n_rows * tile->n_heads;
    MU_ASSERT(t->n_queries <= MU_ATTEND_QUERIES);
    t->dim = MU_ROUND_UP(a->value_dim, (uint32_t)MU_LANES);
    t->score = a->scratch;
    t->key = t->score + (size_t)t->n_queries * MU_ATTEND_CHUNK;
    t->value = t->key + (size_t)MU_ROUND_UP(a->head_dim, (uint32_t)MU_LANES) * BLOCK_KEYS;
    t->v = t->value + (size_t)t->dim * BLOCK_KEYS;
    t->max = t->v + (size_t)levels * t->n_queries * t->dim;
    t->sum = t->max + (size_t)levels * t->n_queries;
    for (uint32_t i = 0; i < t->n_queries; i++)
        t->q[i] = a->q + (tile->row + i / tile->n_heads) * a->q_stride +
                  (size_t)(tile->head + i % tile->n_heads) * a->head_dim;
    for (uint32_t r = 0; r < tile->n_rows; r++)
        t->rows[r] = (struct attending_row){0};
}

/* Pieces [from, from + n) of what the rows see, or those of them that are. */
static void pieces_attend(struct attending *t, uint32_t from, uint32_t n)
{
    const uint32_t *position = t->a->positions + t->tile->row, window = t->a->window;
    uint32_t begin = window && position[0] + 1 > window ? position[0] + 1 - window : 0;
    uint32_t chunk = begin / MU_ATTEND_CHUNK + from;
    uint32_t chunks = position[t->tile->n_rows - 1] / MU_ATTEND_CHUNK + 1;
    uint32_t last = chunk + MU_MIN(n, chunks - chunk);
    first_fetch(t, chunk * MU_ATTEND_CHUNK, position[t->tile->n_rows - 1] + 1);
    for (; chunk < last; chunk++)
        chunk_attend(t, chunk * MU_ATTEND_CHUNK);
}

static void attend(const struct mu_attend_args *a, const struct mu_attend_tile *tile)
{
    struct attending t;
    attending_begin(&t, a, tile);
    pieces_attend(&t, 0, UINT32_MAX);
    for (uint32_t r = 0; r < tile->n_rows; r++)
        row_finish(&t, r);
}

static void attend_run(const struct mu_attend_args *a, const struct mu_attend_tile *tile,
                       const struct mu_attend_run *run)
{
    struct attending t;
    attending_begin(&t, a, tile);
    pieces_attend(&t, run->first, run->n);
    row_merge(&t, 0);
    float *out = run->partials;
    for (uint32_t h = 0; h < tile->n_heads; h++, out += a->value_dim + 2) {
        out[0] = t.max[h];
        out[1] = t.sum[h];
        memcpy(out + 2, t.v + (size_t)h * t.dim, a->value_dim * sizeof *out);
    }
}

static void attend_join(const struct mu_attend_args *a, const struct mu_attend_tile *tile,
                        const float *partials, size_t stride, uint32_t n_runs)
{
    struct attending t;
    attending_begin(&t, a, tile);
    for (uint32_t r = 0; r < n_runs; r++) {
        const float *in = partials + r * stride;
        for (uint32_t h = 0; h < tile->n_heads; h++, in += a->value_dim + 2) {
            size_t at = (size_t)t.rows[0].depth * t.n_queries + h;
            t.max[at] = in[0];
            t.sum[at] = in[1];
            memcpy(t.v + at * t.dim, in + 2, a->value_dim * sizeof *in);
        }
        partial_push(&t, 0);
    }
    row_finish(&t, 0);
}
