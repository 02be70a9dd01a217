/*
 * Executes a shard's program for one step: every member of the rank's team walks the list of
 * operations, claims pieces of each, and meets the others before the next. No allocation, lock,
 * system call or log line in here. See rank.h.
 */
#include "engine/execute_int.h"

#include "base/checked.h"
#include "base/fault.h"
#include "engine/profile.h"

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

/* What the next part reads of a row of the residual. */
static void hand_on(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t row,
                    const float *h, float *tmp)
{
    const struct mu_config *c = run->p->config;
    uint32_t norm = op->norm;
    if (op->normed_f32) {
        float *normed = row_f32(run, MU_BUFFER_NORMED, row);
        const float *w = vector(run, norm);
        if (w)
            run->k->norm(normed, h, w, c->hidden, (float)c->norm_eps, run->p->norm_offset);
        else
            memcpy(normed, h, c->hidden * sizeof *h);
        h = normed;
        norm = MU_NO_TENSOR;
    }
    if (op->normed) store_normed(run, norm, MU_BUFFER_X, row, run->rank->forms[i].out, h, tmp);
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
        uint32_t table = op->weights[0], entry = id - p->vocab_first;
        if (entry >= p->vocab) return;
        uint32_t slice = p->tensors[table].rows;
        table += entry / slice;
        entry %= slice;
        if (p->tensors[table].home == MU_HOME_DEVICE)
            run->k->weight_row(&run->rank->weights[table], entry, out);
        else
            mu_staging_row(run->rank, table, entry, out);
        for (uint32_t j = 0; p->embed_scale != 1 && j < n; j++)
            out[j] *= p->embed_scale;
    } else {
        size_t part = (size_t)vocabulary_owner(run, id) * run->n_rows + row;
        memcpy(out, (const float *)run->rank->buffers[op->in] + part * n, n * sizeof *out);
    }
    hand_on(run, op, i, row, out, scratch_of(run, member));
}

/* How many outputs of a linear one piece takes. */
uint32_t mu_run_linear_step(const struct run *run, uint32_t rows)
{
    uint32_t pieces = mu_team_size(run->rank->team) * MU_PIECES_A_THREAD;
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
        args.y = mu_rank_logits(rank, run->serial) + op->first;
    } else {
        args.y = (float *)rank->buffers[op->out] + op->first + at;
    }
    run->k->linear(&args, first, end);
    if (op->kind == MU_OP_LOGITS) finish_logits(run, args.y, args.y_stride, first, end);
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
    hand_on(run, op, i, row, h, tmp);
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
        return mu_comm_send(run->rank->pp, op->peer, run->rank->buffers[op->in], h_bytes);
    return mu_comm_receive(run->rank->pp, op->peer, run->rank->buffers[op->out], h_bytes);
}

static bool is_communication(const struct mu_op *op)
{
    return op->kind == MU_OP_EXCHANGE || op->kind == MU_OP_GATHER || op->kind == MU_OP_SEND ||
           op->kind == MU_OP_RECEIVE;
}

static uint32_t op_pieces(const struct run *run, const struct mu_op *op)
{
    switch (op->kind) {
    case MU_OP_LINEAR:
    case MU_OP_LINEAR_CUT:
    case MU_OP_LOGITS:
        return op_rows(run, op) ? linear_pieces(run, op) : 0;
    case MU_OP_ATTEND:
        return mu_run_attend_pieces(run, op);
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
        mu_run_rope_kv(run, op, piece);
        break;
    case MU_OP_LATENT_KV:
        mu_run_latent_kv(run, op, i, piece, member);
        break;
    case MU_OP_Q_LATENT:
        mu_run_q_latent(run, op, piece);
        break;
    case MU_OP_ATTEND:
        mu_run_attend(run, op, i, piece, member);
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
    if (!op->normed && !op->normed_f32) return;
    while ((row = mu_team_claim(run->rank->team, member, run->n_rows)) < run->n_rows)
        hand_on(run, op, i, row, row_f32(run, op->out, row), scratch_of(run, member));
    mu_team_barrier(run->rank->team, member);
}

/* Decoding is when every sequence goes on by one token behind others, and wants the next one. */
static enum mu_profile_phase phase_of(const struct run *run)
{
    const struct mu_step *step = &run->step;
    bool decoding = run->n_rows == step->header[MU_STEP_SEQUENCES] && run->n_out == run->n_rows;
    for (uint32_t row = 0; decoding && row < run->n_rows; row++)
        decoding = step->positions[row] > 0;
    return decoding ? MU_PROFILE_DECODE : MU_PROFILE_PREFILL;
}

/* The members meet first, so that who comes late is not booked to the first operation. */
static uint64_t begin_profile(const struct run *run, struct mu_profile *profile,
                              enum mu_profile_phase phase, unsigned member)
{
    uint64_t then = profile ? mu_clock_ns() : 0;
    mu_team_barrier(run->rank->team, member);
    return profile ? mu_profile_begin(profile, phase, then) : 0;
}

static void run_operations(const struct run *run, unsigned member)
{
    struct mu_rank *rank = run->rank;
    struct mu_profile *profile = member == 0 ? rank->profile : NULL;
    enum mu_profile_phase phase = profile ? phase_of(run) : MU_PROFILE_PREFILL;
    uint64_t then = rank->profile ? begin_profile(run, profile, phase, member) : 0;
    for (uint32_t i = 0; i < run->p->n_ops; i++) {
        if (run->p->ops[i].kind == MU_OP_ROPE_KV && mu_run_attend_rotates(run)) continue;
        uint32_t n = op_pieces(run, &run->p->ops[i]), piece;
        if (rank->staging) mu_staging_await(rank, run->serial, i);
        while ((piece = mu_team_claim(rank->team, member, n)) < n) {
            mu_status status = run_piece(run, i, piece, member);
            if (status != MU_OK) rank->status = status; /* only operations of one piece fail */
        }
        bool last = is_communication(&run->p->ops[i]) ? mu_team_barrier_excused(rank->team)
                                                      : mu_team_barrier(rank->team, member);
        if (rank->status != MU_OK) return; /* all members see it: the barrier stands between */
        if (rank->staging && last) mu_staging_done(rank, run->serial, i);
        if (run->p->ops[i].kind == MU_OP_RECEIVE) run_received(run, i, member);
        if (profile) then = mu_profile_note(profile, phase, i, then);
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
    if (mu_fault_hit(MU_FAULT_STEP))
        return rank->status = mu_fail(&rank->err, MU_E_PEER, "it was made to fail (MUSTER_FAULT)");
    mu_team_run(rank->team, run_member, &run);
    return rank->status;
}
