/*
 * Executes a shard's program for one step: every member of the rank's team walks the list of
 * operations, claims pieces of each, and meets the others before the next. No allocation, lock,
 * system call or log line in here. See rank.h.
 */
#include "engine/execute_int.h"

#include "base/checked.h"
#include "base/fault.h"

static uint32_t op_rows(const struct run *run, const struct mu_op *op)
{
    return op->out_rows ? run->n_out : run->n_rows;
}

/* out = norm(x) (or x, without a norm), in the form its reader wants. */
static void store_normed(const struct run *run, uint32_t tensor, enum mu_buffer out, uint32_t row,
                         enum mu_form form, const float *x, float *tmp)
{
    uint32_t n = run->p->config->hidden;
    const float *w = vector(run, tensor);
    if (w) {
        run->k->norm(tmp, x, w, n, (float)run->p->config->norm_eps, run->p->norm_offset);
        x = tmp;
    }
    run->k->form_store(form, row_formed(run, out, row), n, 0, n, x);
}

static uint32_t vocabulary_owner(const struct run *run, uint32_t id)
{
    const struct mu_program *p = run->p;
    for (uint32_t rank = 0; rank + 1 < p->shard.tp_size; rank++) {
        struct mu_run r = mu_segment_run(p->vocab_n, rank, p->shard.tp_size);
        if (id < mu_vocab_border(p->config->vocab, r.end)) return rank;
    }
    return p->shard.tp_size - 1;
}

/* With several ranks the first of two such operations puts the rows this rank owns into its part,
 * the second picks every row from the part of its owner. */
static void run_embed(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t row,
                      unsigned member)
{
    const struct mu_program *p = run->p;
    uint32_t n = p->config->hidden, id = run->step.ids[row];
    float *out = (float *)run->rank->buffers[op->out] + (size_t)row * n;
    if (op->n_weights > 0) {
        if (id - p->vocab_first >= p->vocab) return;
        run->k->weight_row(&run->rank->weights[op->weights[0]], id - p->vocab_first, out);
        for (uint32_t j = 0; p->embed_scale != 1 && j < n; j++)
            out[j] *= p->embed_scale;
    } else {
        size_t part = (size_t)vocabulary_owner(run, id) * run->n_rows + row;
        memcpy(out, (const float *)run->rank->buffers[op->in] + part * n, n * sizeof *out);
    }
    if (op->normed)
        store_normed(run, op->norm, MU_BUFFER_X, row, run->rank->forms[i].out, out,
                     scratch_of(run, member));
}

/* How many outputs of a linear one piece takes. */
uint32_t mu_run_linear_step(const struct run *run, uint32_t rows)
{
    uint32_t pieces = mu_team_size(run->rank->team) * PIECES_A_THREAD;
    uint32_t tile = run->k->row_tile;
    return MU_ROUND_UP(MU_MAX(MU_CEIL_DIV(rows, pieces), 1u), tile);
}

static uint32_t linear_pieces(const struct run *run, const struct mu_op *op)
{
    uint32_t n = 0, all = 0;
    for (uint32_t j = 0; j < op->n_weights; j++)
        all += run->rank->weights[op->weights[j]].rows;
    for (uint32_t j = 0; j < op->n_weights; j++)
        n += MU_CEIL_DIV(run->rank->weights[op->weights[j]].rows, mu_run_linear_step(run, all));
    return n;
}

static float softcap(float cap, float x)
{
    return cap * mu_tanhf(x / cap);
}

static void finish_logits(const struct run *run, float *y, size_t stride, uint32_t first,
                          uint32_t end)
{
    float scale = run->p->logit_scale, cap = (float)run->p->config->final_softcap;
    if (scale == 1 && cap == 0) return;
    for (uint32_t r = 0; r < run->n_out; r++)
        for (uint32_t o = first; o < end; o++) {
            float v = y[r * stride + o] * scale;
            y[r * stride + o] = cap > 0 ? softcap(cap, v) : v;
        }
}

static void run_linear(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t piece)
{
    const struct mu_rank *rank = run->rank;
    uint32_t all = 0, at = 0, j = 0;
    for (uint32_t w = 0; w < op->n_weights; w++)
        all += rank->weights[op->weights[w]].rows;
    uint32_t step = mu_run_linear_step(run, all);
    for (;; j++) { /* the matrix that this piece is of, and where its outputs begin */
        uint32_t rows = rank->weights[op->weights[j]].rows, n = MU_CEIL_DIV(rows, step);
        if (piece < n) break;
        piece -= n;
        at += rows;
    }
    const struct mu_weight *w = &rank->weights[op->weights[j]];
    struct mu_linear_args args = {.weight = w,
                                  .bias = vector(run, op->biases[j]),
                                  .x = rank->buffers[op->in],
                                  .x_stride = rank->row_bytes[op->in],
                                  .y_stride = run->p->width[op->out],
                                  .n_rows = op_rows(run, op)};
    uint32_t first = piece * step, end = MU_MIN(first + step, w->rows);
    MU_ASSERT(rank->forms[i].in == w->form);
    if (op->kind == MU_OP_LINEAR_CUT) {
        args.cut = &rank->cuts[op->cut];
        args.y = rank->buffers[op->out];
        args.y_stride = run->p->config->hidden;
        args.y_subtree = (size_t)run->n_rows * args.y_stride;
    } else if (op->out == MU_BUFFER_LOGITS) {
        args.y = mu_rank_logits(rank, run->serial);
    } else {
        args.y = (float *)rank->buffers[op->out] + at;
    }
    run->k->linear(&args, first, end);
    if (op->kind == MU_OP_LOGITS) finish_logits(run, args.y, args.y_stride, first, end);
}

void *mu_run_cache_at(const struct run *run, uint32_t layer, unsigned value, uint32_t block,
                      uint32_t kv, uint32_t token)
{
    const struct mu_rank *rank = run->rank;
    uint64_t part =
        (uint64_t)(layer - run->p->shard.layer_first) * (run->p->latent ? 1 : 2) + value;
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

/* Norms and rotates some heads of a row's q, and some of its k, which go to the cache with v. */
static void rope_heads(const struct run *run, const struct mu_op *op, uint32_t row,
                       struct mu_run heads, struct mu_run kvs)
{
    const struct mu_program *p = run->p;
    uint32_t hd = p->config->head_dim, position = run->step.positions[row];
    float *q = head_at(row_f32(run, op->in, row), heads.first, hd);
    float *k = head_at(row_f32(run, op->in, row), p->n_heads + kvs.first, hd);
    norm_heads(run, op->norm, q, heads.end - heads.first);
    norm_heads(run, op->norm2, k, kvs.end - kvs.first);
    rotate_heads(run, op, row, q, heads.end - heads.first);
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

static void run_rope_kv(const struct run *run, const struct mu_op *op, uint32_t row)
{
    rope_heads(run, op, row, (struct mu_run){0, run->p->n_heads},
               (struct mu_run){0, run->p->n_kv_heads});
}

/* A piece of attention is a run of rows for the heads of one KV head, or for a part of them when
 * they are many. How a step is cut into pieces and tiles shows in no bit. */
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

/* As many rows as a tile may have, unless threads would stand idle. */
static uint32_t attend_rows(const struct run *run)
{
    uint32_t heads = MU_MIN(attend_group(run->p), (uint32_t)ATTEND_HEADS);
    uint32_t pieces = mu_team_size(run->rank->team) * PIECES_A_THREAD;
    uint32_t rows = run->n_rows * run->p->n_kv_heads * attend_parts(run->p) / pieces;
    return MU_MAX(MU_MIN(rows, MU_ATTEND_QUERIES / heads), 1u);
}

static uint32_t attend_pieces(const struct run *run)
{
    return MU_CEIL_DIV(run->n_rows, attend_rows(run)) * run->p->n_kv_heads * attend_parts(run->p);
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
static bool attend_rotates(const struct run *run)
{
    const struct mu_program *p = run->p;
    return run->n_rows == run->step.header[MU_STEP_SEQUENCES] && !p->latent &&
           !p->arch->qk_norm_wide && attend_parts(p) == 1;
}

/* One tile: its results come to the scratch, and from there, formed, to the rows of `op->out`. */
static void attend_tile(const struct run *run, const struct mu_op *op, enum mu_form form,
                        const struct mu_attend_tile *tile, float *scratch)
{
    const struct mu_program *p = run->p;
    const struct mu_rank *rank = run->rank;
    const struct mu_config *c = p->config;
    uint32_t vd = p->value_dim, width = tile->n_heads * vd;
    struct mu_attend_args args = {
        .q = rank->buffers[op->in],
        .q_stride = p->width[op->in],
        .out = scratch,
        .out_stride = width,
        .keys = mu_run_cache_at(run, op->layer, 0, 0, 0, 0),
        .values = mu_run_cache_at(run, op->layer, p->latent ? 0 : 1, 0, 0, 0),
        .key_stride = p->key_dim,
        .value_stride = p->key_dim,
        .keys_turned = !p->latent,
        .cache_type = rank->common->kv_type,
        .n_kv_heads = p->n_kv_heads,
        .head_dim = p->key_dim,
        .value_dim = vd,
        .positions = run->step.positions,
        .sequences = run->step.sequences,
        .tables = run->step.tables,
        .table_stride = rank->common->layout.max_blocks,
        .scale = p->attn_scale,
        .softcap = (float)c->attn_softcap,
        .window = c->layer_sliding[op->layer] ? c->sliding_window : 0,
        .sinks = vector(run, op->biases[0]),
        .scratch = scratch + (size_t)MU_ATTEND_QUERIES * vd,
    };
    run->k->attend(&args, tile);
    for (uint32_t i = 0; i < tile->n_rows; i++)
        run->k->form_store(form, row_formed(run, op->out, tile->row + i), p->width[op->out],
                           tile->head * vd, width, scratch + (size_t)i * width);
}

/* The last rows, which see the most, are claimed first: so that nobody is left with them. */
static void run_attend(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t piece,
                       unsigned member)
{
    uint32_t rows = attend_rows(run), parts = attend_parts(run->p), kvs = run->p->n_kv_heads;
    const uint32_t *sequence = run->step.sequences;
    piece = attend_pieces(run) - 1 - piece;
    struct mu_attend_tile tile = attend_heads(run->p, piece / parts % kvs, piece % parts);
    if (tile.n_heads == 0) return;
    uint32_t first = piece / parts / kvs * rows, end = MU_MIN(first + rows, run->n_rows);
    for (tile.row = first; tile.row < end; tile.row += tile.n_rows) {
        uint32_t most = MU_MIN(end - tile.row, MU_ATTEND_QUERIES / tile.n_heads);
        tile.n_rows = 1;
        while (tile.n_rows < most && sequence[tile.row + tile.n_rows] == sequence[tile.row])
            tile.n_rows++;
        if (attend_rotates(run))
            rope_heads(run, op - 1, tile.row, (struct mu_run){tile.head, tile.head + tile.n_heads},
                       (struct mu_run){tile.kv, tile.kv + 1});
        attend_tile(run, op, run->rank->forms[i].out, &tile, scratch_of(run, member));
    }
}

static enum mu_activation activation(const struct mu_program *p)
{
    const struct mu_config *c = p->config;
    return p->arch->swiglu_oai                  ? MU_ACT_SWIGLU_OAI
           : c->activation[0] == 's'            ? MU_ACT_SILU
           : strcmp(c->activation, "gelu") == 0 ? MU_ACT_GELU
                                                : MU_ACT_GELU_TANH;
}

uint32_t mu_run_glu_step(const struct run *run, uint32_t columns)
{
    /* Each piece reads two matrices: runs of memory as long as those of a plain linear. */
    return MU_ROUND_UP(mu_run_linear_step(run, 2 * columns), 32u);
}

/* How much of a row's expert the row takes: the choice's weight, or the shared expert's share. */
static float share_of(const struct run *run, const struct mu_op *op, uint32_t row)
{
    if (mu_buffer_has_slots(op->in)) return run->rank->groups.weight[row];
    return op->mixed ? mu_run_shared_share(run, row) : 1;
}

/* Gates and ups of a few rows and columns, side by side in the scratch, then what becomes of them.
 */
static void glu_tile(const struct run *run, const struct mu_op *op, uint32_t i,
                     const struct glu *glu, uint32_t first, uint32_t n, float *scratch)
{
    float *up = scratch + n;
    struct mu_linear_args args = {.weight = glu->gate,
                                  .bias = glu->gate_bias,
                                  .x = row_formed(run, op->in, glu->row),
                                  .x_stride = run->rank->row_bytes[op->in],
                                  .y = scratch - first,
                                  .y_stride = 2 * (size_t)n,
                                  .n_rows = glu->n_rows};
    run->k->linear(&args, first, first + n);
    args.weight = glu->up;
    args.bias = glu->up_bias;
    args.y = up - first;
    run->k->linear(&args, first, first + n);
    for (uint32_t r = 0; r < glu->n_rows; r++) {
        float *y = scratch + (size_t)r * args.y_stride, share = share_of(run, op, glu->row + r);
        run->k->glu(y, y, y + n, n, activation(run->p));
        for (uint32_t j = 0; share != 1 && j < n; j++)
            y[j] *= share;
        run->k->form_store(run->rank->forms[i].out, row_formed(run, op->out, glu->row + r),
                           op->width, first, n, y);
    }
}

void mu_run_glu_columns(const struct run *run, const struct mu_op *op, uint32_t i,
                        const struct glu *glu, uint32_t first, uint32_t end, float *scratch)
{
    struct glu some = *glu;
    for (uint32_t row = 0; row < glu->n_rows; row += MU_GLU_ROWS) {
        some.row = glu->row + row;
        some.n_rows = MU_MIN(glu->n_rows - row, (uint32_t)MU_GLU_ROWS);
        /* Few rows read weights at memory's speed, and want long runs of them. */
        uint32_t most = MU_GLU_VALUES / some.n_rows / 32 * 32;
        for (uint32_t column = first, n; column < end; column += n) {
            n = MU_MIN(end - column, most);
            glu_tile(run, op, i, &some, column, n, scratch);
        }
    }
}

static void run_glu(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t piece,
                    unsigned member)
{
    const struct mu_weight *weights = run->rank->weights;
    struct glu glu = {.gate = &weights[op->weights[0]],
                      .up = &weights[op->weights[1]],
                      .gate_bias = vector(run, op->biases[0]),
                      .up_bias = vector(run, op->biases[1]),
                      .n_rows = run->n_rows};
    uint32_t step = mu_run_glu_step(run, op->width), first = piece * step;
    mu_run_glu_columns(run, op, i, &glu, first, MU_MIN(first + step, op->width),
                       scratch_of(run, member));
}

static void run_combine(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t row,
                        unsigned member)
{
    const struct mu_program *p = run->p;
    uint32_t n = p->config->hidden;
    const struct mu_cut_plan *cut = &p->cuts[op->cut];
    float *pieces[MU_SEGMENTS_MAX], *tmp = scratch_of(run, member), *h = row_f32(run, op->out, row);
    float *sum = (float *)run->rank->buffers[op->in] + (size_t)row * n;
    for (unsigned t = 0; t < cut->n_all; t++)
        pieces[t] = sum + (size_t)t * run->n_rows * n;
    mu_segment_add(0, cut->n, cut->all, pieces, cut->n_all, n, sum);
    const float *bias = op->n_groups ? NULL : vector(run, op->biases[0]);
    const float *post = vector(run, op->post_norm);
    for (uint32_t j = 0; bias && j < n; j++)
        sum[j] += bias[j];
    if (op->n_groups && op->biases[0] != MU_NO_TENSOR) mu_run_expert_biases(run, op, row, sum);
    if (post) run->k->norm(sum, sum, post, n, (float)p->config->norm_eps, p->norm_offset);
    if (p->residual_scale != 1)
        for (uint32_t j = 0; j < n; j++)
            sum[j] *= p->residual_scale;
    for (uint32_t j = 0; j < n; j++)
        h[j] += sum[j];
    if (op->normed_f32) {
        float *normed = row_f32(run, MU_BUFFER_NORMED, row);
        run->k->norm(normed, h, vector(run, op->norm), n, (float)p->config->norm_eps,
                     p->norm_offset);
        if (op->normed)
            run->k->form_store(run->rank->forms[i].out, row_formed(run, MU_BUFFER_X, row), n, 0, n,
                               normed);
    } else if (op->normed) {
        store_normed(run, op->norm, MU_BUFFER_X, row, run->rank->forms[i].out, h, tmp);
    }
}

/* The subtrees (or embedding rows) of all ranks, in order. */
static mu_status run_exchange(const struct run *run, const struct mu_op *op)
{
    const struct mu_program *p = run->p;
    size_t bytes[MU_SEGMENTS_MAX], one = (size_t)run->n_rows * p->config->hidden * sizeof(float);
    const struct mu_cut_plan *cut = &p->cuts[op->cut];
    for (uint32_t r = 0; r < p->shard.tp_size; r++) {
        struct mu_run subtrees[MU_SUBTREES_MAX];
        struct mu_run run_of_r = mu_segment_run(cut->n, r, p->shard.tp_size);
        bool embed = op->cut == MU_CUT_NONE;
        bytes[r] = one * (embed ? 1 : mu_segment_subtrees(cut->n, run_of_r, subtrees));
    }
    return mu_comm_exchange(run->rank->tp, run->rank->buffers[op->in], bytes,
                            run->rank->buffers[op->out]);
}

static mu_status run_gather(const struct run *run, const struct mu_op *op)
{
    const struct mu_program *p = run->p;
    size_t bytes[MU_SEGMENTS_MAX];
    for (uint32_t r = 0; r < p->shard.tp_size; r++) {
        struct mu_run s = mu_segment_run(p->vocab_n, r, p->shard.tp_size);
        bytes[r] = (mu_vocab_border(p->config->vocab, s.end) -
                    mu_vocab_border(p->config->vocab, s.first)) *
                   sizeof(float);
    }
    for (uint32_t row = 0; row < run->n_out; row++)
        MU_TRY(mu_comm_exchange(run->rank->tp, row_f32(run, op->in, row), bytes,
                                mu_rank_logits(run->rank, run->serial) +
                                    (size_t)row * p->config->vocab));
    return MU_OK;
}

static mu_status run_communication(const struct run *run, const struct mu_op *op)
{
    size_t h_bytes = (size_t)run->n_rows * run->p->config->hidden * sizeof(float);
    if (op->kind == MU_OP_EXCHANGE) return run_exchange(run, op);
    if (op->kind == MU_OP_GATHER) return run_gather(run, op);
    if (op->kind == MU_OP_SEND)
        return mu_comm_send(run->rank->pp, run->rank->buffers[MU_BUFFER_H], h_bytes);
    return mu_comm_receive(run->rank->pp, run->rank->buffers[MU_BUFFER_H], h_bytes);
}

static uint32_t op_pieces(const struct run *run, const struct mu_op *op)
{
    switch (op->kind) {
    case MU_OP_LINEAR:
    case MU_OP_LINEAR_CUT:
    case MU_OP_LOGITS:
        return op_rows(run, op) ? linear_pieces(run, op) : 0;
    case MU_OP_ATTEND:
        return attend_pieces(run);
    case MU_OP_GLU:
        return MU_CEIL_DIV(op->width, mu_run_glu_step(run, op->width));
    case MU_OP_EMBED:
    case MU_OP_ROPE_KV:
    case MU_OP_LATENT_KV:
    case MU_OP_COMBINE:
    case MU_OP_OUT_ROWS:
    case MU_OP_ROUTE:
    case MU_OP_DISPATCH:
        return op_rows(run, op);
    case MU_OP_Q_LATENT:
    case MU_OP_V_LATENT:
        return run->p->n_heads;
    case MU_OP_EXPERTS:
        return mu_run_experts_pieces(run, op);
    case MU_OP_EXPERTS_CUT:
        return MU_CEIL_DIV(run->p->config->hidden, run->k->row_tile);
    case MU_OP_GROUP:
    case MU_OP_EXCHANGE:
    case MU_OP_GATHER:
    case MU_OP_SEND:
    case MU_OP_RECEIVE:
        return 1;
    }
    return 0;
}

static mu_status run_piece(const struct run *run, uint32_t i, uint32_t piece, unsigned member)
{
    const struct mu_op *op = &run->p->ops[i];
    switch (op->kind) {
    case MU_OP_EMBED:
        run_embed(run, op, i, piece, member);
        break;
    case MU_OP_LINEAR:
    case MU_OP_LINEAR_CUT:
    case MU_OP_LOGITS:
        run_linear(run, op, i, piece);
        break;
    case MU_OP_ROPE_KV:
        run_rope_kv(run, op, piece);
        break;
    case MU_OP_LATENT_KV:
        mu_run_latent_kv(run, op, i, piece, member);
        break;
    case MU_OP_Q_LATENT:
        mu_run_q_latent(run, op, piece);
        break;
    case MU_OP_ATTEND:
        run_attend(run, op, i, piece, member);
        break;
    case MU_OP_V_LATENT:
        mu_run_v_latent(run, op, i, piece, member);
        break;
    case MU_OP_ROUTE:
        mu_run_route(run, op, piece, member);
        break;
    case MU_OP_GROUP:
        mu_run_group(run);
        break;
    case MU_OP_DISPATCH:
        mu_run_dispatch(run, op, i, piece);
        break;
    case MU_OP_EXPERTS:
        mu_run_experts(run, op, i, piece, member);
        break;
    case MU_OP_EXPERTS_CUT:
        mu_run_experts_cut(run, op, piece, member);
        break;
    case MU_OP_GLU:
        run_glu(run, op, i, piece, member);
        break;
    case MU_OP_COMBINE:
        run_combine(run, op, i, piece, member);
        break;
    case MU_OP_OUT_ROWS:
        store_normed(run, op->norm, op->out, piece, run->rank->forms[i].out,
                     row_f32(run, op->in, run->step.out_rows[piece]), scratch_of(run, member));
        break;
    case MU_OP_EXCHANGE:
    case MU_OP_GATHER:
    case MU_OP_SEND:
    case MU_OP_RECEIVE:
        return run_communication(run, op);
    }
    return MU_OK;
}

/* The normed copy of what a stage received is made by its members after the copy has come. */
static void run_received(const struct run *run, uint32_t i, unsigned member)
{
    const struct mu_op *op = &run->p->ops[i];
    uint32_t row;
    while ((row = mu_team_claim(run->rank->team)) < run->n_rows)
        store_normed(run, op->norm, MU_BUFFER_X, row, run->rank->forms[i].out,
                     row_f32(run, MU_BUFFER_H, row), scratch_of(run, member));
    mu_team_barrier(run->rank->team);
}

static void run_operations(const struct run *run, unsigned member)
{
    struct mu_rank *rank = run->rank;
    for (uint32_t i = 0; i < run->p->n_ops; i++) {
        if (run->p->ops[i].kind == MU_OP_ROPE_KV && attend_rotates(run)) continue;
        uint32_t n = op_pieces(run, &run->p->ops[i]), piece;
        while ((piece = mu_team_claim(rank->team)) < n) {
            mu_status status = run_piece(run, i, piece, member);
            if (status != MU_OK) rank->status = status; /* only operations of one piece fail */
        }
        mu_team_barrier(rank->team);
        if (rank->status != MU_OK) return; /* all members see it: the barrier stands between */
        if (run->p->ops[i].kind == MU_OP_RECEIVE) run_received(run, i, member);
    }
}

static void run_member(void *arg, unsigned member)
{
    mu_fault_forbid(true); /* nothing in a step allocates, reads, writes or starts a thread */
    run_operations(arg, member);
    mu_fault_forbid(false);
}

mu_status mu_rank_execute(struct mu_rank *rank, uint32_t serial)
{
    const struct mu_rank_common *c = rank->common;
    struct run run = {.rank = rank,
                      .p = rank->program,
                      .k = c->kernels,
                      .step = mu_step_view(&c->layout, c->slots[serial % c->n_slots]),
                      .serial = serial};
    run.n_rows = run.step.header[MU_STEP_ROWS];
    run.n_out = run.step.header[MU_STEP_OUT];
    mu_team_run(rank->team, run_member, &run);
    return rank->status;
}
