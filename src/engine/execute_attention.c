/*
 * A step's attention: heads rotated, keys and values written to the cache, queries answered over
 * it. Called by execute.c; latent attention's own operations are in execute_latent.c.
 */
#include "engine/execute_int.h"

void *mu_run_cache_at(const struct run *run, uint32_t layer, unsigned value, uint32_t block,
                      uint32_t kv, uint32_t token)
{
    const struct mu_rank *rank = run->rank;
    uint64_t part = (uint64_t)run->p->cache_layer[layer] * (run->p->latent ? 1 : 2) + value;
    uint64_t row = ((uint64_t)block * run->p->n_kv_heads + kv) * MU_KV_BLOCK_TOKENS + token;
    uint64_t bytes = mu_dtype(rank->common->kv_type)->block_bytes;
    return (char *)rank->cache + part * rank->cache_part_bytes + row * run->p->key_dim * bytes;
}

static float *head_at(float *heads, uint32_t head, uint32_t head_dim)
{
    return heads + (size_t)head * head_dim;
}

static void norm_heads(const struct run *run, uint32_t tensor, float *x, uint32_t heads)
{
    const float *w = vector(run, tensor);
    uint32_t hd = run->p->config->head_dim;
    float eps = (float)run->p->config->norm_eps, offset = run->p->norm_offset;
    if (w && run->p->arch->qk_norm_wide)
        run->k->norm(x, x, w, heads * hd, eps, offset);
    else if (w)
        for (uint32_t h = 0; h < heads; h++)
            run->k->norm(head_at(x, h, hd), head_at(x, h, hd), w, hd, eps, offset);
}

static void rotate_heads(const struct run *run, const struct mu_op *op, uint32_t row, float *x,
                         uint32_t heads)
{
    const struct mu_rank *rank = run->rank;
    const struct mu_config *c = run->p->config;
    uint32_t width = mu_rope_width(c);
    if (c->layer_no_rope[op->layer]) return;
    bool local = c->layer_sliding[op->layer] && rank->cos_local;
    size_t at = (size_t)run->step.positions[row] * (width / 2);
    const float *cosines = (local ? rank->cos_local : rank->cos) + at;
    const float *sines = (local ? rank->sin_local : rank->sin) + at;
    for (uint32_t h = 0; h < heads; h++)
        run->k->rope(head_at(x, h, c->head_dim), cosines, sines, width);
}

/* Norms and rotates some heads of a row's queries. */
static void rope_queries(const struct run *run, const struct mu_op *op, uint32_t row, float *q,
                         uint32_t heads)
{
    norm_heads(run, op->norm, q, heads);
    rotate_heads(run, op, row, q, heads);
}

/* The same with some of its keys, which go to the cache with the values. */
static void rope_keys(const struct run *run, const struct mu_op *op, uint32_t row,
                      struct mu_run kvs)
{
    const struct mu_program *p = run->p;
    uint32_t hd = p->config->head_dim, position = run->step.positions[row];
    float *k = head_at(row_f32(run, op->in, row), p->n_heads + kvs.first, hd);
    norm_heads(run, op->norm2, k, kvs.end - kvs.first);
    rotate_heads(run, op, row, k, kvs.end - kvs.first);
    const uint32_t *table =
        run->step.tables + (size_t)run->step.sequences[row] * run->rank->common->layout.max_blocks;
    uint32_t block = table[position / MU_KV_BLOCK_TOKENS], token = position % MU_KV_BLOCK_TOKENS;
    enum mu_dtype type = run->rank->common->kv_type;
    for (uint32_t kv = kvs.first; kv < kvs.end; kv++, k = head_at(k, 1, hd)) {
        mu_key_store(run->k, mu_run_cache_at(run, op->layer, 0, block, kv, 0), type, k, hd, token);
        run->k->kv_store(mu_run_cache_at(run, op->layer, 1, block, kv, token), type,
                         head_at(k, p->n_kv_heads, hd), hd);
    }
}

void mu_run_rope_kv(const struct run *run, const struct mu_op *op, uint32_t row)
{
    rope_queries(run, op, row, row_f32(run, op->in, row), run->p->n_heads);
    rope_keys(run, op, row, (struct mu_run){0, run->p->n_kv_heads});
}

/* A piece of attention is some rows for the heads of one KV head, or for a part of them when they
 * are many. Where rows decode and are too few for the team, it is a run of one row's keys; the last
 * of a row's runs to be done joins what all have left. How a step is cut shows in no bit. */
#define ATTEND_HEADS 32 /* in a part, at most */

/* The most heads that share a KV head. */
static uint32_t attend_group(const struct mu_program *p)
{
    uint32_t most = 1, n = 0;
    for (uint32_t h = 0; h < p->n_heads; h++) {
        n = h > 0 && p->kv_head[h] == p->kv_head[h - 1] ? n + 1 : 1;
        most = MU_MAX(most, n);
    }
    return most;
}

static uint32_t attend_parts(const struct mu_program *p)
{
    return MU_CEIL_DIV(attend_group(p), ATTEND_HEADS);
}

static bool decoding(const struct run *run)
{
    return run->n_rows == run->step.header[MU_STEP_SEQUENCES];
}

static uint32_t attend_pieces_wanted(const struct run *run)
{
    return mu_team_size(run->rank->team) * MU_PIECES_A_THREAD;
}

/* As many rows as a tile may have, unless threads would stand idle. */
static uint32_t attend_rows(const struct run *run)
{
    uint32_t heads = MU_MIN(attend_group(run->p), (uint32_t)ATTEND_HEADS);
    uint32_t rows = run->n_rows * run->p->n_kv_heads * attend_parts(run->p);
    rows /= attend_pieces_wanted(run);
    return MU_MAX(MU_MIN(rows, MU_ATTEND_QUERIES / heads), 1u);
}

static uint32_t attend_window(const struct run *run, const struct mu_op *op)
{
    const struct mu_config *c = run->p->config;
    return c->layer_sliding[op->layer] ? c->sliding_window : 0;
}

/* How many pieces, in kernel.h's sense, a row's keys have. */
static uint32_t row_chunks(const struct run *run, const struct mu_op *op, uint32_t row)
{
    uint32_t end = run->step.positions[row] + 1, window = attend_window(run, op);
    uint32_t begin = window && end > window ? end - window : 0;
    return MU_CEIL_DIV(end, MU_ATTEND_CHUNK) - begin / MU_ATTEND_CHUNK;
}

/* How the keys of rows that decode are shared out: runs of that many chunks, and the most of them
 * that a row has (one, when threads find enough pieces without); and which run a piece is, of which
 * row and heads. */
struct sharing {
    uint32_t chunks, runs;
    uint32_t number, slot;
};

static struct sharing attend_sharing(const struct run *run, const struct mu_op *op)
{
    uint32_t tiles = run->n_rows * run->p->n_kv_heads * attend_parts(run->p), most = 0;
    uint32_t threads = mu_team_size(run->rank->team);
    struct sharing all = {.chunks = 1u << 25, .runs = 1}; /* of 2^32 positions */
    if (!decoding(run) || tiles > threads * MU_PIECES_A_THREAD) return all;
    for (uint32_t row = 0; row < run->n_rows; row++)
        most = MU_MAX(most, row_chunks(run, op, row));
    uint32_t chunks = mu_attend_run_chunks(tiles, most, threads, MU_PIECES_A_THREAD);
    return (struct sharing){.chunks = chunks, .runs = MU_CEIL_DIV(most, chunks)};
}

uint32_t mu_run_attend_pieces(const struct run *run, const struct mu_op *op)
{
    return MU_CEIL_DIV(run->n_rows, attend_rows(run)) * run->p->n_kv_heads * attend_parts(run->p) *
           attend_sharing(run, op).runs;
}

/* The heads of a piece, as a tile without rows; none when the KV head has no such part. */
static struct mu_attend_tile attend_heads(const struct mu_program *p, uint32_t kv, uint32_t part)
{
    struct mu_attend_tile tile = {.kv = kv};
    uint32_t end;
    while (p->kv_head[tile.head] != kv)
        tile.head++;
    for (end = tile.head; end < p->n_heads && p->kv_head[end] == kv; end++)
        ;
    tile.head = MU_MIN(tile.head + part * ATTEND_HEADS, end);
    tile.n_heads = MU_MIN(end - tile.head, (uint32_t)ATTEND_HEADS);
    return tile;
}

/* When every row is a sequence of its own, as in decoding, the piece that attends with some heads
 * can rotate them itself, and the team meets once less. Not when heads are normed together, or when
 * several pieces share a KV head. */
bool mu_run_attend_rotates(const struct run *run)
{
    const struct mu_program *p = run->p;
    return decoding(run) && !p->latent && !p->arch->qk_norm_wide && attend_parts(p) == 1;
}

/* What the kernel is told. Results come to the scratch, which then has room for a row's queries;
 * the kernel's own part follows. */
static struct mu_attend_args attend_args(const struct run *run, const struct mu_op *op,
                                         uint32_t n_heads, float *scratch)
{
    const struct mu_program *p = run->p;
    const struct mu_rank *rank = run->rank;
    return (struct mu_attend_args){
        .q = rank->buffers[op->in],
        .q_stride = p->width[op->in],
        .out = scratch,
        .out_stride = (size_t)n_heads * p->value_dim,
        .keys = mu_run_cache_at(run, op->layer, 0, 0, 0, 0),
        .values = mu_run_cache_at(run, op->layer, p->latent ? 0 : 1, 0, 0, 0),
        .key_stride = p->key_dim,
        .value_stride = p->key_dim,
        .keys_turned = !p->latent,
        .cache_type = rank->common->kv_type,
        .n_kv_heads = p->n_kv_heads,
        .head_dim = p->key_dim,
        .value_dim = p->value_dim,
        .positions = run->step.positions,
        .sequences = run->step.sequences,
        .tables = run->step.tables,
        .table_stride = rank->common->layout.max_blocks,
        .scale = p->attn_scale,
        .softcap = (float)p->config->attn_softcap,
        .window = attend_window(run, op),
        .sinks = vector(run, op->biases[0]),
        .scratch = scratch + (size_t)MU_ATTEND_QUERIES * (p->value_dim + p->key_dim),
    };
}

/* A tile's results go from the scratch, formed, to the rows of `op->out`. */
static void attend_store(const struct run *run, const struct mu_op *op, enum mu_form form,
                         const struct mu_attend_tile *tile, const struct mu_attend_args *args)
{
    uint32_t vd = run->p->value_dim;
    for (uint32_t i = 0; i < tile->n_rows; i++)
        run->k->form_store(form, row_formed(run, op->out, tile->row + i), run->p->width[op->out],
                           tile->head * vd, tile->n_heads * vd, args->out + i * args->out_stride);
}

/* A run of a row that decodes. Runs share its queries, so each rotates a copy of its own; the one
 * that sees the row's own key stores it. */
static void attend_run(const struct run *run, const struct mu_op *op, enum mu_form form,
                       const struct mu_attend_tile *tile, const struct sharing *share,
                       float *scratch)
{
    const struct mu_program *p = run->p;
    uint32_t n = MU_CEIL_DIV(row_chunks(run, op, tile->row), share->chunks);
    if (share->number >= n) return;
    struct mu_attend_args args = attend_args(run, op, tile->n_heads, scratch);
    if (mu_run_attend_rotates(run)) {
        float *q = scratch + (size_t)MU_ATTEND_QUERIES * p->value_dim;
        const float *heads = args.q + tile->row * args.q_stride + (size_t)tile->head * p->key_dim;
        memcpy(q, heads, (size_t)tile->n_heads * p->key_dim * sizeof *q);
        rope_queries(run, op - 1, tile->row, q, tile->n_heads);
        args.q = q - (size_t)tile->head * p->key_dim;
        args.q_stride = 0;
        if (share->number + 1 == n)
            rope_keys(run, op - 1, tile->row, (struct mu_run){tile->kv, tile->kv + 1});
    }
    if (n == 1) {
        run->k->attend(&args, tile);
        attend_store(run, op, form, tile, &args);
        return;
    }
    size_t stride = (size_t)p->n_heads * (p->value_dim + 2);
    float *partials = run->rank->runs.partials + tile->row * share->runs * stride +
                      (size_t)tile->head * (p->value_dim + 2);
    struct mu_attend_run part = {.first = share->number * share->chunks,
                                 .n = share->chunks,
                                 .partials = partials + share->number * stride};
    run->k->attend_run(&args, tile, &part);
    _Atomic uint32_t *done = &run->rank->runs.done[share->slot];
    /* acq_rel: the last sees what the others left. */
    if (atomic_fetch_add_explicit(done, 1, memory_order_acq_rel) + 1 < n) return;
    atomic_store_explicit(done, 0, memory_order_relaxed);
    run->k->attend_join(&args, tile, partials, stride, n);
    attend_store(run, op, form, tile, &args);
}

/* The last rows, which see the most, are claimed first: so that nobody is left with them. */
void mu_run_attend(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t piece,
                   unsigned member)
{
    struct sharing share = attend_sharing(run, op);
    const enum mu_form form = run->rank->forms[i].out;
    uint32_t rows = attend_rows(run), parts = attend_parts(run->p), kvs = run->p->n_kv_heads;
    const uint32_t *sequence = run->step.sequences;
    float *scratch = scratch_of(run, member);
    piece = mu_run_attend_pieces(run, op) - 1 - piece;
    share.number = piece % share.runs;
    share.slot = piece = piece / share.runs;
    struct mu_attend_tile tile = attend_heads(run->p, piece / parts % kvs, piece % parts);
    if (tile.n_heads == 0) return;
    uint32_t first = piece / parts / kvs * rows, end = MU_MIN(first + rows, run->n_rows);
    for (tile.row = first; tile.row < end; tile.row += tile.n_rows) {
        uint32_t most = MU_MIN(end - tile.row, MU_ATTEND_QUERIES / tile.n_heads);
        tile.n_rows = 1;
        if (decoding(run)) {
            attend_run(run, op, form, &tile, &share, scratch);
            continue;
        }
        while (tile.n_rows < most && sequence[tile.row + tile.n_rows] == sequence[tile.row])
            tile.n_rows++;
        struct mu_attend_args args = attend_args(run, op, tile.n_heads, scratch);
        run->k->attend(&args, &tile);
        attend_store(run, op, form, &tile, &args);
    }
}
