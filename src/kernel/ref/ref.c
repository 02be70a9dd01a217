/*
 * The family "ref": the readable definition of every kernel, in fp32, for every stored type.
 *
 * Sums over many values run in 16 lanes (lane l takes the values l, l + 16, ... in order) that a
 * fixed tree adds at the end, so that compilers may vectorise without changing a bit. Weights lie
 * as they are stored; a row is widened a tile at a time and used for all activation rows.
 */
#include "kernel/kernel_int.h"

#include <math.h>

#define LANES     16
#define TILE      256 /* values widened at once: a whole number of every type's blocks */
#define ROW_BATCH 16  /* activation rows that share a widened tile */

/* 16 floats that compilers keep in registers, however wide those are. */
typedef float lanes_vector __attribute__((vector_size(LANES * sizeof(float))));

/* Adds x[k] * y[k] into lane (phase + k) mod 16, where phase is a multiple of 8. */
static void lanes_dot(float lanes[LANES], const float *x, const float *y, uint32_t n,
                      uint32_t phase)
{
    uint32_t k = 0;
    for (; k < n && (phase + k) % LANES; k++)
        lanes[(phase + k) % LANES] += x[k] * y[k];
    lanes_vector sum, a, b;
    memcpy(&sum, lanes, sizeof sum);
    for (; k + LANES <= n; k += LANES) {
        memcpy(&a, x + k, sizeof a);
        memcpy(&b, y + k, sizeof b);
        sum += a * b;
    }
    memcpy(lanes, &sum, sizeof sum);
    for (unsigned l = 0; k + l < n; l++)
        lanes[l] += x[k + l] * y[k + l];
}

static float lanes_sum(const float lanes[LANES])
{
    float sum[LANES];
    memcpy(sum, lanes, sizeof sum);
    for (unsigned half = LANES / 2; half > 0; half /= 2)
        for (unsigned l = 0; l < half; l++)
            sum[l] += sum[l + half];
    return sum[0];
}

static float dot(const float *x, const float *y, uint32_t n)
{
    float lanes[LANES] = {0};
    lanes_dot(lanes, x, y, n, 0);
    return lanes_sum(lanes);
}

static enum mu_form form(enum mu_dtype type, enum mu_compute compute)
{
    (void)type;
    (void)compute;
    return MU_FORM_F32;
}

/* A slice keeps the stored blocks that cover it; this is the first block and how many. */
static uint32_t slice_blocks(enum mu_dtype type, uint32_t col_first, uint32_t cols, uint32_t *n)
{
    uint32_t values = mu_dtype(type)->block_values, first = col_first / values;
    *n = MU_CEIL_DIV(col_first + cols, values) - first;
    return first;
}

static uint64_t row_bytes(enum mu_dtype type, uint32_t col_first, uint32_t cols)
{
    uint32_t n;
    slice_blocks(type, col_first, cols, &n);
    return (uint64_t)n * mu_dtype(type)->block_bytes;
}

static uint64_t weight_bytes(enum mu_dtype type, enum mu_form f, uint32_t rows, uint32_t col_first,
                             uint32_t cols)
{
    (void)f;
    return rows * row_bytes(type, col_first, cols);
}

static uint8_t *table_of(const struct mu_weight *w, uint32_t row)
{
    return (uint8_t *)w->data + w->rows * row_bytes(w->type, w->col_first, w->cols) +
           row * 8 * (size_t)w->columns->n_groups;
}

static void weight_pack(struct mu_weight *w, uint32_t first, uint32_t n,
                        const uint8_t *const *stored)
{
    uint32_t n_blocks, skip = slice_blocks(w->type, w->col_first, w->cols, &n_blocks);
    size_t block_bytes = mu_dtype(w->type)->block_bytes, bytes = n_blocks * block_bytes;
    for (uint32_t i = 0; i < n; i++)
        memcpy((uint8_t *)w->data + (first + i) * bytes, stored[i] + skip * block_bytes, bytes);
    uint64_t codes = 0;
    for (uint32_t i = 0; w->columns && i < n && mu_dtype_bytes(w->type, w->columns->n, &codes); i++)
        memcpy(table_of(w, first + i), stored[i] + codes, 8 * (size_t)w->columns->n_groups);
}

/* n values of a row from the block-th kept block on. */
static void row_decode(const struct mu_weight *w, uint32_t row, uint32_t block, uint32_t n,
                       float *out)
{
    const struct mu_dtype_info *info = mu_dtype(w->type);
    uint32_t kept, skip = slice_blocks(w->type, w->col_first, w->cols, &kept);
    const uint8_t *at = (const uint8_t *)w->data + row * row_bytes(w->type, w->col_first, w->cols) +
                        (size_t)block * info->block_bytes;
    if (w->columns)
        mu_columns_values(w->type, w->columns, (skip + block) * info->block_values, at,
                          table_of(w, row), n, out);
    else
        mu_codec_decode(w->type, at, out, n);
}

static void weight_row(const struct mu_weight *w, uint32_t row, float *out)
{
    row_decode(w, row, 0, w->cols, out);
}

static size_t form_bytes(enum mu_form f, uint32_t cols)
{
    (void)f;
    return cols * sizeof(float);
}

static void form_store(enum mu_form f, void *out, uint32_t cols, uint32_t first, uint32_t n,
                       const float *x)
{
    (void)f;
    (void)cols;
    memcpy((float *)out + first, x, n * sizeof *x);
}

/* The part of output o that columns [first, end) of the slice give, for n rows of x. */
static void segment_dot(const struct mu_linear_args *a, uint32_t o, uint32_t first, uint32_t end,
                        const float *const *x, uint32_t n, float *out)
{
    const struct mu_weight *w = a->weight;
    uint32_t values = mu_dtype(w->type)->block_values, skip = w->col_first % values;
    float lanes[ROW_BATCH][LANES] = {{0}}, tile[TILE];
    for (uint32_t k = first; k < end;) {
        uint32_t at = k + skip, start = at - at % values; /* of the first block of the tile */
        uint32_t stop = MU_MIN(start + TILE, end + skip);
        uint32_t whole = MU_ROUND_UP(stop - start, values);
        row_decode(w, o, start / values, whole, tile);
        for (uint32_t r = 0; r < n; r++)
            lanes_dot(lanes[r], tile + (at - start), x[r] + k, stop - at, k - first);
        k += stop - at;
    }
    for (uint32_t r = 0; r < n; r++)
        out[r] = lanes_sum(lanes[r]);
}

static const struct mu_cut *cut_or_whole(const struct mu_linear_args *a, struct mu_cut *whole)
{
    if (a->cut) return a->cut;
    *whole = (struct mu_cut){.n = 1, .run = {0, 1}, .border = {0, a->weight->cols}};
    return whole;
}

/* Output o for up to ROW_BATCH rows: every owned segment alone, then the maximal subtrees. */
static void output_batch(const struct mu_linear_args *a, const struct mu_cut *cut, uint32_t o,
                         uint32_t row, uint32_t n)
{
    const float *x[ROW_BATCH];
    float part[MU_SEGMENTS_MAX][ROW_BATCH], *pieces[MU_SEGMENTS_MAX];
    struct mu_run leaves[MU_SEGMENTS_MAX], trees[MU_SUBTREES_MAX];
    for (uint32_t r = 0; r < n; r++)
        x[r] = (const float *)(const void *)((const char *)a->x + (row + r) * a->x_stride);
    for (uint32_t s = cut->run.first; s < cut->run.end; s++) {
        uint32_t i = s - cut->run.first;
        leaves[i] = (struct mu_run){s, s + 1};
        pieces[i] = part[i];
        segment_dot(a, o, cut->border[i], cut->border[i + 1], x, n, part[i]);
        for (uint32_t r = 0; a->y_rows && r < n; r++)
            a->y[a->y_rows[row + r] * a->y_stride + i * a->y_subtree + o] += part[i][r];
    }
    if (a->y_rows) return;
    unsigned n_trees = mu_segment_subtrees(cut->n, cut->run, trees);
    for (unsigned t = 0; t < n_trees; t++) {
        uint32_t i = trees[t].first - cut->run.first, leaf_count = trees[t].end - trees[t].first;
        mu_segment_add(trees[t].first, trees[t].end, leaves + i, pieces + i, leaf_count, n,
                       part[i]);
        for (uint32_t r = 0; r < n; r++)
            a->y[(row + r) * a->y_stride + t * a->y_subtree + o] =
                a->bias ? part[i][r] + a->bias[o] : part[i][r];
    }
}

static void linear(const struct mu_linear_args *a, uint32_t first, uint32_t end)
{
    struct mu_cut whole;
    const struct mu_cut *cut = cut_or_whole(a, &whole);
    for (uint32_t row = 0; row < a->n_rows; row += ROW_BATCH)
        for (uint32_t o = first; o < end; o++)
            output_batch(a, cut, o, row, MU_MIN(a->n_rows - row, (uint32_t)ROW_BATCH));
}

static void norm(float *y, const float *x, const float *w, uint32_t n, float eps, float offset)
{
    float r = 1.0f / sqrtf(dot(x, x, n) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * r * (offset + w[i]);
}

static void rope(float *x, const float *cos, const float *sin, uint32_t n)
{
    float *low = x, *high = x + n / 2;
    for (uint32_t i = 0; i < n / 2; i++) {
        float a = low[i], b = high[i];
        low[i] = a * cos[i] - b * sin[i];
        high[i] = b * cos[i] + a * sin[i];
    }
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + mu_expf(-x));
}

static float activate(float gate, float up, enum mu_activation act)
{
    switch (act) {
    case MU_ACT_SILU:
        return gate * sigmoid(gate) * up;
    case MU_ACT_GELU_TANH:
        gate *=
            0.5f * (1.0f + mu_tanhf(0x1.988454p-1f * (gate + 0x1.6e4e26p-5f * gate * gate * gate)));
        return gate * up;
    case MU_ACT_GELU:
        return gate * (0.5f * (1.0f + mu_erff(gate * 0x1.6a09e6p-1f))) * up;
    case MU_ACT_SWIGLU_OAI:
        gate = MU_MIN(gate, 7.0f);
        return gate * sigmoid(1.702f * gate) * (MU_MAX(MU_MIN(up, 7.0f), -7.0f) + 1.0f);
    }
    return 0;
}

static void glu(float *y, const float *gate, const float *up, uint32_t n, enum mu_activation act)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = activate(gate[i], up[i], act);
}

static void kv_store(void *out, enum mu_dtype type, const float *x, uint32_t n)
{
    mu_codec_encode(type, x, out, n);
}

/* One partial result of attention: the values are out of `v`, head_dim of them. */
struct partial {
    float max, sum;
    float *v;
};

/* left and right become one, in `left`. */
static void partial_merge(struct partial *left, const struct partial *right, uint32_t n)
{
    float max = MU_MAX(left->max, right->max);
    float a = mu_expf(left->max - max), b = mu_expf(right->max - max);
    left->max = max;
    left->sum = left->sum * a + right->sum * b;
    for (uint32_t i = 0; i < n; i++)
        left->v[i] = left->v[i] * a + right->v[i] * b;
}

/* The first n numbers of a position's key or value, widened. */
static void kv_load(const struct mu_attend_args *a, const struct mu_attend_tile *t,
                    const void *cache, size_t stride, uint32_t n, uint32_t position, float *out)
{
    const uint32_t *table = a->tables + a->sequences[t->row] * a->table_stride;
    size_t block = table[position / MU_KV_BLOCK_TOKENS], inside = position % MU_KV_BLOCK_TOKENS;
    size_t at = ((block * a->n_kv_heads + t->kv) * MU_KV_BLOCK_TOKENS + inside) * stride;
    mu_codec_decode(a->cache_type, (const char *)cache + at * mu_dtype(a->cache_type)->block_bytes,
                    out, n);
}

/* The same for a turned key. */
static void key_load_turned(const struct mu_attend_args *a, const struct mu_attend_tile *t,
                            uint32_t position, float *out)
{
    const uint32_t *table = a->tables + a->sequences[t->row] * a->table_stride;
    size_t block = table[position / MU_KV_BLOCK_TOKENS], inside = position % MU_KV_BLOCK_TOKENS;
    size_t at = (block * a->n_kv_heads + t->kv) * MU_KV_BLOCK_TOKENS * a->head_dim + inside;
    size_t size = mu_dtype(a->cache_type)->block_bytes;
    for (uint32_t i = 0; i < a->head_dim; i++, at += MU_KV_BLOCK_TOKENS)
        mu_codec_decode(a->cache_type, (const char *)a->keys + at * size, out + i, 1);
}

/* Keys [first, end), all of one chunk. The scratch begins with room for one key or value. */
static void chunk_attend(const struct mu_attend_args *a, const struct mu_attend_tile *t,
                         const float *q, uint32_t first, uint32_t end, struct partial *out)
{
    float score[MU_ATTEND_CHUNK], *widened = a->scratch;
    out->max = -INFINITY;
    for (uint32_t j = first; j < end; j++) {
        if (a->keys_turned)
            key_load_turned(a, t, j, widened);
        else
            kv_load(a, t, a->keys, a->key_stride, a->head_dim, j, widened);
        float s = dot(q, widened, a->head_dim) * a->scale;
        if (a->softcap > 0) s = a->softcap * mu_tanhf(s / a->softcap);
        score[j - first] = s;
        out->max = MU_MAX(out->max, s);
    }
    out->sum = 0;
    memset(out->v, 0, a->value_dim * sizeof *out->v);
    for (uint32_t j = first; j < end; j++) {
        float weight = mu_expf(score[j - first] - out->max);
        kv_load(a, t, a->values, a->value_stride, a->value_dim, j, widened);
        out->sum += weight;
        for (uint32_t i = 0; i < a->value_dim; i++)
            out->v[i] += weight * widened[i];
    }
}

/* Partials that wait to be merged; kernel.h says how they combine. */
struct waiting {
    struct partial partials[MU_ATTEND_LEVELS];
    uint32_t depth, pushed;
    float *v; /* [level][value_dim] */
    uint32_t n;
};

static struct waiting waiting_none(const struct mu_attend_args *a)
{
    return (struct waiting){.v = a->scratch + MU_MAX(a->head_dim, a->value_dim), .n = a->value_dim};
}

/* Where the next partial goes. */
static struct partial *waiting_top(struct waiting *w)
{
    struct partial *top = &w->partials[w->depth];
    top->v = w->v + (size_t)w->depth * w->n;
    return top;
}

static void top_merge(struct waiting *w)
{
    w->depth--;
    partial_merge(&w->partials[w->depth - 1], &w->partials[w->depth], w->n);
}

static void top_push(struct waiting *w)
{
    w->depth++;
    for (uint32_t carry = w->pushed++; carry & 1; carry >>= 1)
        top_merge(w);
}

static struct partial *waiting_merge(struct waiting *w)
{
    while (w->depth > 1)
        top_merge(w);
    return &w->partials[0];
}

/* Pieces [first, first + n) of what head h of a row sees, or those of them that are. */
static void pieces_attend(const struct mu_attend_args *a, const struct mu_attend_tile *t,
                          uint32_t row, uint32_t h, uint32_t first, uint32_t n, struct waiting *w)
{
    const float *q = a->q + row * a->q_stride + (size_t)h * a->head_dim;
    uint32_t end = a->positions[row] + 1;
    uint32_t begin = a->window && end > a->window ? end - a->window : 0;
    uint32_t chunk = begin / MU_ATTEND_CHUNK + first, chunks = MU_CEIL_DIV(end, MU_ATTEND_CHUNK);
    uint32_t last = chunk + MU_MIN(n, chunks - chunk);
    do { /* at least once: no run is empty */
        uint32_t at = chunk * MU_ATTEND_CHUNK;
        chunk_attend(a, t, q, MU_MAX(at, begin), MU_MIN(at + MU_ATTEND_CHUNK, end), waiting_top(w));
        top_push(w);
    } while (++chunk < last);
}

/* The sink joins, and all is divided by the sum. */
static void head_finish(const struct mu_attend_args *a, uint32_t h, struct partial *p, float *out)
{
    float max = p->max, scale = 1.0f;
    if (a->sinks) {
        max = MU_MAX(max, a->sinks[h]);
        scale = mu_expf(p->max - max);
        p->sum = p->sum * scale + mu_expf(a->sinks[h] - max);
    }
    float factor = scale / p->sum;
    for (uint32_t i = 0; i < a->value_dim; i++)
        out[i] = p->v[i] * factor;
}

static void attend(const struct mu_attend_args *a, const struct mu_attend_tile *t)
{
    for (uint32_t i = 0; i < t->n_rows; i++)
        for (uint32_t j = 0; j < t->n_heads; j++) {
            struct waiting w = waiting_none(a);
            pieces_attend(a, t, t->row + i, t->head + j, 0, UINT32_MAX, &w);
            head_finish(a, t->head + j, waiting_merge(&w),
                        a->out + i * a->out_stride + (size_t)j * a->value_dim);
        }
}

static void attend_run(const struct mu_attend_args *a, const struct mu_attend_tile *t,
                       const struct mu_attend_run *run)
{
    for (uint32_t j = 0; j < t->n_heads; j++) {
        struct waiting w = waiting_none(a);
        float *out = run->partials + j * (size_t)(a->value_dim + 2);
        pieces_attend(a, t, t->row, t->head + j, run->first, run->n, &w);
        const struct partial *p = waiting_merge(&w);
        out[0] = p->max;
        out[1] = p->sum;
        memcpy(out + 2, p->v, a->value_dim * sizeof *out);
    }
}

static void attend_join(const struct mu_attend_args *a, const struct mu_attend_tile *t,
                        const float *partials, size_t stride, uint32_t n_runs)
{
    for (uint32_t j = 0; j < t->n_heads; j++) {
        struct waiting w = waiting_none(a);
        const float *in = partials + j * (size_t)(a->value_dim + 2);
        uint32_t r = 0;
        do {
            struct partial *p = waiting_top(&w);
            p->max = in[0];
            p->sum = in[1];
            memcpy(p->v, in + 2, a->value_dim * sizeof *in);
            top_push(&w);
            in += stride;
        } while (++r < n_runs);
        head_finish(a, t->head + j, waiting_merge(&w), a->out + (size_t)j * a->value_dim);
    }
}

static size_t attend_scratch(uint32_t queries, uint32_t head_dim, uint32_t value_dim,
                             uint32_t context)
{
    (void)queries; /* they come one after the other */
    return MU_MAX(head_dim, value_dim) + (size_t)mu_attend_levels(context) * value_dim;
}

const struct mu_kernels mu_kernels_ref = {
    .family = "ref",
    .form = form,
    .weight_bytes = weight_bytes,
    .weight_pack = weight_pack,
    .row_tile = 1,
    .weight_row = weight_row,
    .form_bytes = form_bytes,
    .form_store = form_store,
    .linear = linear,
    .norm = norm,
    .rope = rope,
    .glu = glu,
    .kv_store = kv_store,
    .attend = attend,
    .attend_run = attend_run,
    .attend_join = attend_join,
    .attend_scratch = attend_scratch,
};
