/*
 * attend of a CPU family: included by the family's file after simd.h.
 *
 * All heads that share a KV head are computed together, so that a key or value is loaded and
 * widened once for up to HEADS of them. A score is the sum over head_dim in sixteen lanes and one
 * tree; an output value is a sum over the keys of a chunk in order: neither depends on how many
 * heads or keys were done at once.
 */

#define HEADS 8 /* of one KV head, at a time */

struct partials { /* of one chunk or merged chunks, for every head */
    float max[HEADS], sum[HEADS];
    float *v; /* [HEADS][dim], in scratch */
};

struct attending {
    const struct mu_attend_args *a;
    uint32_t n_heads, head[HEADS];
    const float *q[HEADS];
    uint32_t dim; /* head_dim rounded up to whole vectors */
    uint32_t n;   /* keys of the chunk */
    const char *key[MU_ATTEND_CHUNK], *value[MU_ATTEND_CHUNK];
    float weight[HEADS][MU_ATTEND_CHUNK];
};

SIMD vf cache_load(enum mu_dtype type, const char *p, uint32_t i, uint32_t dim)
{
    size_t size = type == MU_DTYPE_F32 ? 4 : 2;
    if (MU_LIKELY(i + MU_LANES <= dim)) return vf_load_cache(p + i * size, type);
    char last[64] = {0};
    memcpy(last, p + i * size, (dim - i) * size);
    return vf_load_cache(last, type);
}

/* The scores of NH heads for 16 / NH keys, from key `first` on; past the end the last is repeated.
 */
SIMD void scores_tile(struct attending *t, enum mu_dtype type, const unsigned NH, uint32_t head,
                      uint32_t first)
{
    const unsigned NK = MU_LANES / NH;
    uint32_t dim = t->a->head_dim;
    vf sum[MU_LANES];
    float out[MU_LANES];
    UNROLL for (unsigned i = 0; i < MU_LANES; i++) sum[i] = vf_set1(0);
    for (uint32_t i = 0; i < dim; i += MU_LANES) {
        vf q[4];
        UNROLL for (unsigned h = 0; h < NH; h++) q[h] =
            cache_load(MU_DTYPE_F32, (const char *)t->q[head + h], i, dim);
        UNROLL for (unsigned k = 0; k < NK; k++)
        {
            vf key = cache_load(type, t->key[MU_MIN(first + k, t->n - 1)], i, dim);
            UNROLL for (unsigned h = 0; h < NH; h++) sum[h * NK + k] =
                vf_fma(q[h], key, sum[h * NK + k]);
        }
    }
    vf_store(out, vf_sum_16(sum));
    for (unsigned h = 0; h < NH; h++)
        memcpy(&t->weight[head + h][first], out + h * NK, MU_MIN(NK, t->n - first) * sizeof(float));
}

/* NV vectors of the output of NH heads, from value i on. */
SIMD void values_tile(const struct attending *t, enum mu_dtype type, const unsigned NH,
                      const unsigned NV, uint32_t head, uint32_t i, float *v)
{
    vf sum[4][4];
    UNROLL for (unsigned h = 0; h < NH; h++) UNROLL for (unsigned j = 0; j < NV; j++) sum[h][j] =
        vf_set1(0);
    for (uint32_t k = 0; k < t->n; k++) {
        vf value[4];
        UNROLL for (unsigned j = 0; j < NV; j++) value[j] =
            cache_load(type, t->value[k], i + MU_LANES * j, t->a->head_dim);
        UNROLL for (unsigned h = 0; h < NH; h++)
        {
            vf w = vf_set1(t->weight[head + h][k]);
            UNROLL for (unsigned j = 0; j < NV; j++) sum[h][j] = vf_fma(w, value[j], sum[h][j]);
        }
    }
    UNROLL for (unsigned h = 0; h < NH; h++) UNROLL for (unsigned j = 0; j < NV; j++)
        vf_store(v + (size_t)(head + h) * t->dim + i + MU_LANES * j, sum[h][j]);
}

SIMD void heads_scores(struct attending *t, enum mu_dtype type, const unsigned NH, uint32_t head)
{
    for (uint32_t k = 0; k < t->n; k += MU_LANES / NH)
        scores_tile(t, type, NH, head, k);
}

SIMD void heads_values(const struct attending *t, enum mu_dtype type, const unsigned NH,
                       uint32_t head, float *v)
{
    uint32_t i = 0;
    for (; i + 4 * MU_LANES <= t->dim; i += 4 * MU_LANES)
        values_tile(t, type, NH, 4, head, i, v);
    for (; i < t->dim; i += MU_LANES)
        values_tile(t, type, NH, 1, head, i, v);
}

/* Scores of one head become exp(score - largest). */
static void weights(struct attending *t, uint32_t h, float *max, float *sum)
{
    const struct mu_attend_args *a = t->a;
    float *w = t->weight[h];
    uint32_t end = MU_ROUND_UP(t->n, (uint32_t)MU_LANES);
    vf largest = vf_set1(-INFINITY), total = vf_set1(0);
    for (uint32_t k = 0; k < t->n; k++) {
        w[k] *= a->scale;
        if (a->softcap > 0) w[k] = a->softcap * mu_tanhf(w[k] / a->softcap);
    }
    for (uint32_t k = t->n; k < end; k++)
        w[k] = -INFINITY;
    for (uint32_t k = 0; k < end; k += MU_LANES)
        largest = vf_max(largest, vf_load(w + k));
    *max = vf_largest(largest);
    for (uint32_t k = 0; k < end; k += MU_LANES)
        vf_store(w + k, vf_exp(vf_sub(vf_load(w + k), vf_set1(*max))));
    for (uint32_t k = t->n; k < end; k++)
        w[k] = 0;
    for (uint32_t k = 0; k < end; k += MU_LANES)
        total = vf_add(total, vf_load(w + k));
    *sum = vf_sum(total);
}

SIMD void chunk_typed(struct attending *t, enum mu_dtype type, struct partials *out)
{
    uint32_t h = 0;
    for (; h + 4 <= t->n_heads; h += 4)
        heads_scores(t, type, 4, h);
    if (t->n_heads & 2) heads_scores(t, type, 2, h);
    if (t->n_heads & 1) heads_scores(t, type, 1, t->n_heads - 1);
    for (h = 0; h < t->n_heads; h++)
        weights(t, h, &out->max[h], &out->sum[h]);
    for (h = 0; h + 4 <= t->n_heads; h += 4)
        heads_values(t, type, 4, h, out->v);
    if (t->n_heads & 2) heads_values(t, type, 2, h, out->v);
    if (t->n_heads & 1) heads_values(t, type, 1, t->n_heads - 1, out->v);
}

static void chunk_f32(struct attending *t, struct partials *out)
{
    chunk_typed(t, MU_DTYPE_F32, out);
}

static void chunk_f16(struct attending *t, struct partials *out)
{
    chunk_typed(t, MU_DTYPE_F16, out);
}

static void chunk_bf16(struct attending *t, struct partials *out)
{
    chunk_typed(t, MU_DTYPE_BF16, out);
}

/* Where keys [first, end) of a row lie. */
static void chunk_find(struct attending *t, uint32_t row, uint32_t kv, uint32_t first, uint32_t end)
{
    const struct mu_attend_args *a = t->a;
    const uint32_t *table = a->tables + a->sequences[row] * a->table_stride;
    size_t token = a->head_dim * (size_t)mu_dtype(a->cache_type)->block_bytes;
    t->n = end - first;
    for (uint32_t p = first; p < end; p++) {
        size_t block = table[p / MU_KV_BLOCK_TOKENS], inside = p % MU_KV_BLOCK_TOKENS;
        size_t at = ((block * a->n_kv_heads + kv) * MU_KV_BLOCK_TOKENS + inside) * token;
        t->key[p - first] = (const char *)a->keys + at;
        t->value[p - first] = (const char *)a->values + at;
    }
}

static void partials_merge(const struct attending *t, struct partials *left,
                           const struct partials *right)
{
    for (uint32_t h = 0; h < t->n_heads; h++) {
        float max = MU_MAX(left->max[h], right->max[h]);
        float a = mu_expf(left->max[h] - max), b = mu_expf(right->max[h] - max);
        float *x = left->v + h * t->dim;
        const float *y = right->v + h * t->dim;
        left->max[h] = max;
        left->sum[h] = left->sum[h] * a + right->sum[h] * b;
        for (uint32_t i = 0; i < t->dim; i++)
            x[i] = x[i] * a + y[i] * b;
    }
}

static void heads_finish(const struct attending *t, uint32_t row, const struct partials *p)
{
    const struct mu_attend_args *a = t->a;
    for (uint32_t h = 0; h < t->n_heads; h++) {
        float scale = 1.0f, sum = p->sum[h];
        if (a->sinks) {
            float sink = a->sinks[t->head[h]], max = MU_MAX(p->max[h], sink);
            scale = mu_expf(p->max[h] - max);
            sum = sum * scale + mu_expf(sink - max);
        }
        float factor = scale / sum, *out = a->out + row * a->out_stride;
        out += (size_t)t->head[h] * a->head_dim;
        for (uint32_t i = 0; i < a->head_dim; i++)
            out[i] = p->v[h * t->dim + i] * factor;
    }
}

/* Up to HEADS heads of one row; kernel.h says how the chunks combine. */
static void heads_attend(struct attending *t, uint32_t row, uint32_t kv)
{
    const struct mu_attend_args *a = t->a;
    struct partials stack[MU_ATTEND_LEVELS];
    uint32_t end = a->positions[row] + 1;
    uint32_t begin = a->window && end > a->window ? end - a->window : 0;
    unsigned depth = 0;
    for (uint32_t h = 0; h < t->n_heads; h++)
        t->q[h] = a->q + row * a->q_stride + (size_t)t->head[h] * a->head_dim;
    for (uint32_t i = 0, first = begin, stop; first < end; i++, first = stop) {
        stop = MU_MIN(first - first % MU_ATTEND_CHUNK + MU_ATTEND_CHUNK, end);
        chunk_find(t, row, kv, first, stop);
        stack[depth].v = a->scratch + (size_t)depth * t->n_heads * t->dim;
        if (a->cache_type == MU_DTYPE_F16)
            chunk_f16(t, &stack[depth++]);
        else if (a->cache_type == MU_DTYPE_BF16)
            chunk_bf16(t, &stack[depth++]);
        else
            chunk_f32(t, &stack[depth++]);
        for (uint32_t carry = i; carry & 1; carry >>= 1, depth--)
            partials_merge(t, &stack[depth - 2], &stack[depth - 1]);
    }
    for (; depth > 1; depth--)
        partials_merge(t, &stack[depth - 2], &stack[depth - 1]);
    heads_finish(t, row, &stack[0]);
}

static void attend(const struct mu_attend_args *a, uint32_t row, uint32_t kv)
{
    struct attending t = {.a = a, .dim = MU_ROUND_UP(a->head_dim, (uint32_t)MU_LANES)};
    for (uint32_t h = 0; h < a->n_heads; h++) {
        if (a->kv_head[h] == kv) t.head[t.n_heads++] = h;
        if (t.n_heads && (t.n_heads == HEADS || h + 1 == a->n_heads)) {
            heads_attend(&t, row, kv);
            t.n_heads = 0;
        }
    }
}

static size_t attend_scratch(uint32_t group, uint32_t head_dim)
{
    return (size_t)MU_MIN(group, (uint32_t)HEADS) * MU_ROUND_UP(head_dim, (uint32_t)MU_LANES) *
           MU_ATTEND_LEVELS;
}
