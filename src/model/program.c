/* Turns an architecture and a shard into the flat list of operations; see model.h. */
#include "model/program_int.h"

#include <math.h>

#define OPS_A_LAYER     36
#define SLICES_MAX      64 /* of a table */
#define TENSORS_A_LAYER 32 /* without those of experts and of latent heads */

/* In what units the columns of each cut come, and how many columns there are; 0: none. */
static uint32_t cut_columns(const struct mu_config *c, enum mu_cut_name cut, uint32_t *unit)
{
    uint32_t head = c->kv_lora_rank ? c->v_head_dim : c->head_dim;
    *unit = cut == MU_CUT_O ? head : 32;
    switch (cut) {
    case MU_CUT_O:
        return c->n_heads * head;
    case MU_CUT_DOWN:
        return c->ffn;
    case MU_CUT_EXPERT:
        return c->n_experts ? c->expert_ffn : 0;
    case MU_CUT_SHARED:
        return mu_shared_ffn(c);
    case MU_CUT_NONE:
    case MU_CUT_COUNT:
        break;
    }
    return 0;
}

static bool has_dense_layer(const struct mu_config *c)
{
    for (uint32_t layer = 0; layer < c->n_layers; layer++)
        if (!mu_layer_has_experts(c, layer)) return true;
    return false;
}

uint32_t mu_model_tp_max(const struct mu_config *config)
{
    const struct mu_arch *arch = mu_arch_find(config->architecture, NULL);
    uint32_t most = mu_segment_count(config->vocab), unit;
    if (arch && arch->qk_norm_wide) return 1; /* ranks do not share the norm over all heads */
    for (int i = 0; i < MU_CUT_COUNT; i++) {
        uint32_t columns = cut_columns(config, (enum mu_cut_name)i, &unit);
        bool used = columns > 0 && (i != MU_CUT_DOWN || has_dense_layer(config));
        if (used) most = MU_MIN(most, mu_segment_count(MU_CEIL_DIV(columns, unit)));
    }
    return most;
}

uint32_t mu_tensor_use_row(const struct mu_tensor_use *use, uint32_t i)
{
    if (use->swap_heads > 0) {
        uint32_t n = use->vector ? use->cols : use->rows, head_rows = n / use->swap_heads;
        uint32_t head = i / head_rows, at = i % head_rows, from = use->swap_from;
        uint32_t half = (head_rows - from) / 2;
        if (at >= from)
            at = from + (at - from < half ? 2 * (at - from) : 2 * (at - from - half) + 1);
        i = head * head_rows + at;
    }
    uint32_t first = use->vector ? use->col_first : use->row_first;
    return first + i * MU_MAX(use->step, 1u);
}

/* Fills the cut of a sum over `cols` columns in units of `unit`. */
static void plan_cut(struct mu_cut_plan *cut, uint32_t cols, uint32_t unit,
                     const struct mu_shard *shard)
{
    uint32_t units = MU_CEIL_DIV(cols, unit);
    cut->n = mu_segment_count(units);
    cut->run = mu_segment_run(cut->n, shard->tp_rank, shard->tp_size);
    for (uint32_t i = 0; i <= cut->n; i++)
        cut->border[i] = MU_MIN((uint32_t)mu_segment_start(units, cut->n, i) * unit, cols);
    cut->n_subtrees = mu_segment_subtrees(cut->n, cut->run, cut->subtrees);
    for (uint32_t rank = 0; rank < shard->tp_size; rank++)
        cut->n_all += mu_segment_subtrees(cut->n, mu_segment_run(cut->n, rank, shard->tp_size),
                                          cut->all + cut->n_all);
}

/* ---- What all parts add ---- */

struct mu_op *mu_builder_op(struct mu_builder *b, struct mu_op op)
{
    for (uint32_t i = op.n_weights; i < 3; i++)
        op.weights[i] = MU_NO_TENSOR;
    struct mu_op *o = b->mine ? &b->p->ops[b->p->n_ops++] : &b->elsewhere;
    *o = op;
    return o;
}

uint32_t mu_builder_tensor(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                           struct mu_tensor_use use)
{
    struct mu_program *p = b->p;
    if (!b->mine) return MU_NO_TENSOR;
    use.role = role;
    use.layer = layer;
    use.part = b->part;
    use.home = use.vector ? MU_HOME_DEVICE : b->home;
    mu_model_tensor_name(p->arch, p->config->names, role, layer, use.expert, use.name);
    p->tensors[p->n_tensors] = use;
    return p->n_tensors++;
}

uint32_t mu_builder_vector(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                           uint32_t whole, uint32_t first, uint32_t n)
{
    return mu_builder_tensor(b, role, layer,
                             (struct mu_tensor_use){.vector = true,
                                                    .file_rows = 1,
                                                    .file_cols = whole,
                                                    .rows = 1,
                                                    .col_first = first,
                                                    .cols = n});
}

uint32_t mu_builder_norm(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer)
{
    return mu_builder_vector(b, role, layer, b->p->config->hidden, 0, b->p->config->hidden);
}

uint32_t mu_builder_rows(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                         uint32_t cols, struct mu_rows rows)
{
    struct mu_tensor_use use = {.expert = rows.expert,
                                .file_rows = rows.whole,
                                .file_cols = cols,
                                .row_first = rows.first,
                                .rows = rows.n,
                                .cols = cols,
                                .step = rows.step,
                                .swap_heads = rows.swap_heads,
                                .swap_from = rows.swap_from,
                                .transposed = rows.transposed};
    if (rows.transposed) { /* all experts' columns below each other */
        use.file_rows = b->p->config->n_experts * cols;
        use.file_cols = rows.whole;
        use.col_first = rows.expert * cols;
    }
    return mu_builder_tensor(b, role, layer, use);
}

uint32_t mu_builder_columns(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                            uint32_t whole_cols, enum mu_cut_name name)
{
    const struct mu_cut_plan *cut = &b->p->cuts[name];
    uint32_t hidden = b->p->config->hidden, first = cut->border[cut->run.first];
    return mu_builder_tensor(b, role, layer,
                             (struct mu_tensor_use){.file_rows = hidden,
                                                    .file_cols = whole_cols,
                                                    .rows = hidden,
                                                    .col_first = first,
                                                    .cols = cut->border[cut->run.end] - first,
                                                    .row_parallel = true,
                                                    .cut = name});
}

/* ---- From stage to stage ---- */

void mu_places_even(const struct mu_config *config, uint32_t stages, struct mu_part_place *out)
{
    uint32_t n = mu_part_count(config), stage = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t layer = i == MU_PART_EMBED ? 0 : (i - 1) / MU_PARTS_A_LAYER;
        while (stage + 1 < stages && layer >= (stage + 1) * config->n_layers / stages)
            stage++;
        out[i] = (struct mu_part_place){.stage = (uint8_t)stage};
    }
}

static struct mu_part_place place_of(const struct mu_builder *b, uint32_t part)
{
    const struct mu_part_place *places = b->p->shard.places;
    return places ? places[part] : (struct mu_part_place){0};
}

void mu_builder_enter(struct mu_builder *b, uint32_t part)
{
    struct mu_part_place place = place_of(b, part);
    b->part = part;
    b->stage = place.stage;
    b->home = (enum mu_home)place.home;
    b->mine = b->stage == b->p->shard.stage;
}

/* Moves a buffer to the stage that is being added to; returns the operation that receives it. */
static struct mu_op *bring(struct mu_builder *b, enum mu_buffer buffer, uint32_t from)
{
    uint32_t to = b->stage;
    b->mine = from == b->p->shard.stage;
    (void)mu_builder_op(b, MU_OP(.kind = MU_OP_SEND, .in = buffer, .peer = to));
    b->mine = to == b->p->shard.stage;
    return mu_builder_op(b, MU_OP(.kind = MU_OP_RECEIVE, .out = buffer, .peer = from));
}

/* The same of the residual; `last` when it is there, having been made or brought by it. */
static struct mu_op *bring_residual(struct mu_builder *b, struct mu_op *last)
{
    if (b->has_h >> b->stage & 1) return last;
    uint32_t from = (uint32_t)__builtin_ctzll(b->has_h);
    b->has_h |= UINT64_C(1) << b->stage;
    return bring(b, MU_BUFFER_H, from);
}

void mu_builder_hand_on(struct mu_builder *b, struct mu_op *last, struct mu_reader to)
{
    bool norm = b->p->arch->pre_norm || to.norm == MU_ROLE_FINAL_NORM;
    uint32_t norm_part = norm ? to.norm_part : to.part, at = place_of(b, norm_part).stage;
    bool apart = at != place_of(b, to.part).stage;
    mu_builder_enter(b, norm_part);
    struct mu_op *op = bring_residual(b, last);
    if (norm) op->norm = mu_builder_norm(b, to.norm, to.layer);
    op->normed = to.x && !apart;
    op->normed_f32 = to.normed || apart;
    mu_builder_enter(b, to.part);
    if (apart) bring(b, MU_BUFFER_NORMED, at)->normed = to.x;
}

void mu_builder_to_attention(struct mu_builder *b, struct mu_op *last, uint32_t layer)
{
    mu_builder_hand_on(b, last,
                       (struct mu_reader){.norm_part = mu_part_of_layer(layer, MU_PART_ATTN_NORM),
                                          .part = mu_part_of_layer(layer, MU_PART_ATTN),
                                          .norm = MU_ROLE_ATTN_NORM,
                                          .layer = layer,
                                          .x = true});
}

struct mu_op *mu_builder_combine(struct mu_builder *b, uint32_t layer, enum mu_cut_name cut,
                                 uint32_t bias, enum mu_tensor_role post_norm)
{
    if (b->exchange)
        (void)mu_builder_op(b, MU_OP(.kind = MU_OP_EXCHANGE, .layer = layer, .in = MU_BUFFER_PART,
                                     .out = MU_BUFFER_PARTS, .cut = cut));
    enum mu_buffer in = b->exchange ? MU_BUFFER_PARTS : MU_BUFFER_PART;
    (void)bring_residual(b, NULL);
    b->has_h = UINT64_C(1) << b->stage;
    struct mu_op op =
        MU_OP(.kind = MU_OP_COMBINE, .layer = layer, .in = in, .out = MU_BUFFER_H, .cut = cut);
    op.biases[0] = bias;
    if (b->p->arch->post_norm && post_norm != MU_ROLE_COUNT)
        op.post_norm = mu_builder_norm(b, post_norm, layer);
    return mu_builder_op(b, op);
}

/* ---- Embedding, head, and the whole ---- */

/* A table of one row a token: the first of the tensors that it is held as. */
struct table {
    uint32_t first, n;
};

/* One that comes through a staging buffer does so in slices, none larger than what comes of a
 * layer at once. */
static struct table add_table(struct mu_builder *b, enum mu_tensor_role role)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    struct table table = {.first = p->n_tensors};
    uint32_t rows = MU_MAX(2 * MU_MAX(c->ffn, c->expert_ffn), MU_CEIL_DIV(p->vocab, SLICES_MAX));
    if (b->home == MU_HOME_DEVICE) rows = p->vocab;
    if (!b->mine) return (struct table){MU_NO_TENSOR, 0};
    for (uint32_t at = 0; at < p->vocab; at += rows, table.n++)
        (void)mu_builder_tensor(b, role, 0,
                                (struct mu_tensor_use){.file_rows = c->vocab,
                                                       .file_cols = c->hidden,
                                                       .row_first = p->vocab_first + at,
                                                       .rows = MU_MIN(rows, p->vocab - at),
                                                       .cols = c->hidden});
    return table;
}

static struct mu_op *add_embedding(struct mu_builder *b, struct table table)
{
    struct mu_op op = MU_OP(.kind = MU_OP_EMBED, .out = b->exchange ? MU_BUFFER_PART : MU_BUFFER_H,
                            .n_weights = 1, .n_groups = table.n);
    op.weights[0] = table.first;
    b->has_h = UINT64_C(1) << b->stage;
    struct mu_op *last = mu_builder_op(b, op);
    if (!b->exchange) return last;
    (void)mu_builder_op(
        b, MU_OP(.kind = MU_OP_EXCHANGE, .in = MU_BUFFER_PART, .out = MU_BUFFER_PARTS));
    return mu_builder_op(b, MU_OP(.kind = MU_OP_EMBED, .in = MU_BUFFER_PARTS, .out = MU_BUFFER_H));
}

static void add_logits(struct mu_builder *b, struct table table)
{
    struct mu_op op =
        MU_OP(.kind = MU_OP_LOGITS, .out_rows = true, .in = MU_BUFFER_OUT, .n_weights = 1,
              .out = b->exchange ? MU_BUFFER_LOGIT_PART : MU_BUFFER_LOGITS);
    for (uint32_t i = 0; i < table.n; i++) {
        op.weights[0] = table.first + i;
        (void)mu_builder_op(b, op);
        op.first += b->p->tensors[op.weights[0]].rows;
    }
    if (b->exchange)
        (void)mu_builder_op(b, MU_OP(.kind = MU_OP_GATHER, .out_rows = true,
                                     .in = MU_BUFFER_LOGIT_PART, .out = MU_BUFFER_LOGITS));
}

/* The last norm works on the rows whose logits are wanted alone, unless another stage does it. */
static void add_head(struct mu_builder *b, struct mu_op *last, struct table table)
{
    uint32_t norm_part = mu_part_norm(b->p->config), part = norm_part + 1;
    bool apart = place_of(b, norm_part).stage != place_of(b, part).stage;
    struct mu_op op = MU_OP(.kind = MU_OP_OUT_ROWS, .out_rows = true, .out = MU_BUFFER_OUT,
                            .in = apart ? MU_BUFFER_NORMED : MU_BUFFER_H);
    if (apart) {
        mu_builder_hand_on(
            b, last,
            (struct mu_reader){.norm_part = norm_part, .part = part, .norm = MU_ROLE_FINAL_NORM});
    } else {
        mu_builder_enter(b, part);
        (void)bring_residual(b, last);
        op.norm = mu_builder_norm(b, MU_ROLE_FINAL_NORM, 0);
    }
    (void)mu_builder_op(b, op);
    add_logits(b, table.n ? table : add_table(b, MU_ROLE_HEAD));
}

/* Where the head is the embedding's table, a stage that has both holds it once, as near as one of
 * them has to be; each of two stages holds its own. */
static enum mu_home home_of_table(const struct mu_builder *b)
{
    struct mu_part_place embed = place_of(b, MU_PART_EMBED);
    struct mu_part_place head = place_of(b, mu_part_head(b->p->config));
    bool shared = b->p->config->tied_head && embed.stage == head.stage;
    return (enum mu_home)(shared ? MU_MIN(embed.home, head.home) : embed.home);
}

static void add_ops(struct mu_builder *b)
{
    struct mu_program *p = b->p;
    uint32_t n_layers = p->config->n_layers;
    struct table head = {0};
    mu_builder_enter(b, MU_PART_EMBED);
    b->home = home_of_table(b);
    struct table table = add_table(b, MU_ROLE_EMBED);
    if (p->config->tied_head) {
        head = table;
        mu_builder_enter(b, mu_part_head(p->config));
        if (head.n == 0) head = add_table(b, MU_ROLE_EMBED);
        mu_builder_enter(b, MU_PART_EMBED);
    }
    struct mu_op *last = add_embedding(b, table);
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        mu_builder_to_attention(b, last, layer);
        last = mu_builder_attention(b, layer);
        last = mu_builder_mlp(b, last, layer);
    }
    add_head(b, last, head);
}

/* This shard's heads, the KV heads they read, its columns of the MLP and rows of the vocabulary. */
static void share_out(struct mu_program *p)
{
    const struct mu_config *c = p->config;
    for (int i = 0; i < MU_CUT_COUNT; i++) {
        uint32_t unit, columns = cut_columns(c, (enum mu_cut_name)i, &unit);
        if (columns > 0) plan_cut(&p->cuts[i], columns, unit, &p->shard);
    }
    const struct mu_cut_plan *o = &p->cuts[MU_CUT_O];
    p->latent = c->kv_lora_rank > 0;
    p->key_dim = p->latent ? c->kv_lora_rank + c->qk_rope_head_dim : c->head_dim;
    p->value_dim = p->latent ? c->kv_lora_rank : c->head_dim;
    uint32_t head = p->latent ? c->v_head_dim : c->head_dim;
    p->head_first = o->border[o->run.first] / head;
    p->n_heads = o->border[o->run.end] / head - p->head_first;
    /* All heads read the one latent. */
    uint32_t group = p->latent ? c->n_heads : c->n_heads / c->n_kv_heads;
    p->kv_first = p->head_first / group;
    p->n_kv_heads = (p->head_first + p->n_heads - 1) / group + 1 - p->kv_first;
    for (uint32_t h = 0; h < p->n_heads; h++)
        p->kv_head[h] = (p->head_first + h) / group - p->kv_first;
    p->vocab_n = mu_segment_count(c->vocab);
    struct mu_run run = mu_segment_run(p->vocab_n, p->shard.tp_rank, p->shard.tp_size);
    p->vocab_first = mu_vocab_border(c->vocab, run.first);
    p->vocab = mu_vocab_border(c->vocab, run.end) - p->vocab_first;
}

static bool holds(const struct mu_program *p, uint32_t part)
{
    return !p->shard.places || p->shard.places[part].stage == p->shard.stage;
}

static uint32_t cut_width(const struct mu_cut_plan *cut)
{
    return cut->n ? cut->border[cut->run.end] - cut->border[cut->run.first] : 0;
}

static void set_mlp_widths(struct mu_program *p)
{
    const struct mu_config *c = p->config;
    uint32_t *w = p->width;
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        if (!holds(p, mu_part_of_layer(layer, MU_PART_FFN))) continue;
        bool experts = mu_layer_has_experts(c, layer);
        uint32_t ffn = cut_width(&p->cuts[experts ? MU_CUT_SHARED : MU_CUT_DOWN]);
        w[MU_BUFFER_ACT] = MU_MAX(w[MU_BUFFER_ACT], ffn);
        if (!experts) continue;
        w[MU_BUFFER_SLOT_X] = c->hidden;
        w[MU_BUFFER_ROUTES] = c->n_experts + p->arch->shared_mixed;
        w[MU_BUFFER_CHOSEN] =
            c->n_experts_used * (uint32_t)(sizeof(struct mu_choice) / sizeof(float));
        w[MU_BUFFER_SLOT_ACT] = cut_width(&p->cuts[MU_CUT_EXPERT]);
    }
}

static void set_attention_widths(struct mu_program *p)
{
    const struct mu_config *c = p->config;
    uint32_t *w = p->width;
    if (!p->latent) {
        w[MU_BUFFER_QKV] = (p->n_heads + 2 * p->n_kv_heads) * c->head_dim;
        w[MU_BUFFER_ATT] = p->n_heads * c->head_dim;
        return;
    }
    uint32_t q = p->n_heads * (c->qk_nope_head_dim + c->qk_rope_head_dim);
    w[MU_BUFFER_LATENT] = (c->q_lora_rank ? c->q_lora_rank : q) + p->key_dim;
    w[MU_BUFFER_Q_A] = c->q_lora_rank;
    w[MU_BUFFER_QKV] = c->q_lora_rank ? q : 0;
    w[MU_BUFFER_Q_LATENT] = p->n_heads * p->key_dim;
    w[MU_BUFFER_ATT_LATENT] = p->n_heads * p->value_dim;
    w[MU_BUFFER_ATT] = p->n_heads * c->v_head_dim;
}

static void set_widths(struct mu_program *p, bool exchange)
{
    const struct mu_config *c = p->config;
    uint32_t *w = p->width;
    unsigned own = 0, all = p->shard.tp_size;
    for (int i = 0; i < MU_CUT_COUNT; i++) {
        own = MU_MAX(own, p->cuts[i].n_subtrees);
        all = MU_MAX(all, p->cuts[i].n_all);
    }
    w[MU_BUFFER_H] = w[MU_BUFFER_X] = w[MU_BUFFER_NORMED] = c->hidden;
    set_attention_widths(p);
    set_mlp_widths(p);
    w[MU_BUFFER_PART] = own * c->hidden;
    w[MU_BUFFER_PARTS] = exchange ? all * c->hidden : 0;
    w[MU_BUFFER_OUT] = c->hidden;
    w[MU_BUFFER_LOGITS] = c->vocab;
    w[MU_BUFFER_LOGIT_PART] = exchange ? p->vocab : 0;
}

/* A buffer that none of the shard's operations touches takes no memory. */
static void drop_unused_widths(struct mu_program *p)
{
    bool used[MU_BUFFER_COUNT] = {false};
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct mu_op *op = &p->ops[i];
        used[op->in] = used[op->out] = true;
        used[MU_BUFFER_X] |= op->normed;
        used[MU_BUFFER_NORMED] |= op->normed_f32;
    }
    for (int b = 0; b < MU_BUFFER_COUNT; b++)
        if (!used[b]) p->width[b] = 0;
}

static void set_scales(struct mu_program *p)
{
    const struct mu_config *c = p->config;
    double scalar = c->query_pre_attn_scalar > 0 ? c->query_pre_attn_scalar
                    : p->latent                  ? c->qk_nope_head_dim + c->qk_rope_head_dim
                                                 : c->head_dim;
    double scale = c->attention_multiplier > 0 ? c->attention_multiplier : 1 / sqrt(scalar);
    if (p->latent && c->rope.kind == MU_ROPE_YARN && c->rope.mscale_all_dim > 0) {
        double grown = mu_rope_mscale(c->rope.factor, c->rope.mscale_all_dim);
        scale *= grown * grown;
    }
    p->attn_scale = (float)scale;
    p->embed_scale = c->embedding_multiplier > 0 ? (float)c->embedding_multiplier : 1;
    if (p->arch->embed_sqrt) p->embed_scale = sqrtf((float)c->hidden);
    p->residual_scale = c->residual_multiplier > 0 ? (float)c->residual_multiplier : 1;
    p->logit_scale = c->logits_scaling > 0 ? (float)(1 / c->logits_scaling) : 1;
    /* GGUF files of these models hold 1 + w already. */
    p->norm_offset = p->arch->norm_plus_one && c->names == MU_NAMES_HF ? 1 : 0;
}

static mu_status check_mlp(const struct mu_config *c, const struct mu_arch *arch,
                           struct mu_err *err)
{
    if (has_dense_layer(c) && c->ffn == 0)
        return mu_fail(err, MU_E_INPUT, "the MLP has no width: intermediate_size is 0");
    if (c->n_experts == 0) return MU_OK;
    if (c->expert_ffn == 0) return mu_fail(err, MU_E_INPUT, "an expert has no width");
    if (arch->swiglu_oai && (c->swiglu_limit != 7 || c->swiglu_alpha != 1.702))
        return mu_fail(err, MU_E_UNSUPPORTED,
                       "experts that clamp at %g with alpha %g (7 and 1.702 are supported)",
                       c->swiglu_limit, c->swiglu_alpha);
    if (!arch->swiglu_oai && arch->router_bias)
        return mu_fail(err, MU_E_INTERNAL, "experts with biases and a plain activation");
    return MU_OK;
}

static mu_status check_shard(const struct mu_config *c, const struct mu_arch *arch,
                             const struct mu_shard *shard, struct mu_err *err)
{
    uint32_t most = mu_model_tp_max(c);
    if (shard->tp_size > most) {
        mu_status status =
            mu_fail(err, MU_E_USAGE,
                    "tensor parallel %u is more than the %u that this model's heads, "
                    "MLP and vocabulary can be cut into",
                    shard->tp_size, most);
        mu_err_cure(err, "use --tp %u or less", most);
        return status;
    }
    if (arch->qk_norm_wide && shard->tp_size > 1)
        return mu_fail(err, MU_E_UNSUPPORTED,
                       "%s norms all heads together, which tensor parallel ranks do not share",
                       arch->name);
    for (uint32_t i = 0; shard->places && i < mu_part_count(c); i++)
        if (shard->places[i].stage >= MU_STAGES_MAX || shard->places[i].home >= MU_HOME_COUNT)
            return mu_fail(err, MU_E_INTERNAL, "part %u of the model has no place", i);
    if (strcmp(c->activation, "silu") != 0 && strcmp(c->activation, "gelu_pytorch_tanh") != 0 &&
        strcmp(c->activation, "gelu") != 0)
        return mu_fail(err, MU_E_UNSUPPORTED, "activation '%s' is not supported", c->activation);
    if (c->quant_method[0] && !c->quant_known && c->names == MU_NAMES_HF) {
        mu_status status = mu_fail(err, MU_E_UNSUPPORTED,
                                   "weights quantised by '%s' in the form '%s' are not read",
                                   c->quant_method, c->quant_format);
        mu_err_cure(err, "awq (gemm), gptq, bitsandbytes, fp8, mxfp4 and compressed-tensors "
                         "(pack-, int- and float-quantized) are; or use a GGUF of the model");
        return status;
    }
    if (c->kv_lora_rank && (c->attention_bias || c->qk_rope_head_dim % 2 != 0))
        return mu_fail(err, MU_E_UNSUPPORTED,
                       "latent attention with biases, or with %u values rotated",
                       c->qk_rope_head_dim);
    if (mu_rope_width(c) % 2 != 0 || (!c->kv_lora_rank && mu_rope_width(c) > c->head_dim))
        return mu_fail(err, MU_E_INPUT, "rope turns %u of %u values of a head", mu_rope_width(c),
                       c->head_dim);
    return MU_OK;
}

/* Numbers the layers whose keys and values this shard keeps; returns how many it does work for. */
static uint32_t number_layers(struct mu_program *p)
{
    uint32_t own = 0;
    for (uint32_t layer = 0; layer < p->config->n_layers; layer++) {
        bool attends = holds(p, mu_part_of_layer(layer, MU_PART_ATTN));
        p->cache_layer[layer] = p->n_cached;
        p->n_cached += attends;
        own += attends || holds(p, mu_part_of_layer(layer, MU_PART_FFN));
    }
    return own;
}

static mu_status make_rooms(struct mu_program *p, struct mu_arena *arena, struct mu_err *err)
{
    const struct mu_config *c = p->config;
    p->cache_layer = mu_arena_alloc(arena, c->n_layers, sizeof *p->cache_layer);
    p->kv_head = mu_arena_alloc(arena, c->n_heads, sizeof *p->kv_head);
    if (!p->cache_layer || !p->kv_head) return mu_fail_memory(err, c->n_heads * sizeof(uint32_t));
    /* Three matrices an expert, with a bias each; two a head where attention is latent. A norm may
     * be here without its layer. */
    uint64_t n_tensors = number_layers(p) * (TENSORS_A_LAYER + 6 * (uint64_t)c->n_experts +
                                             (c->kv_lora_rank ? 2 * (uint64_t)c->n_heads : 0)) +
                         2 * (uint64_t)c->n_layers + 2 * SLICES_MAX + 8;
    p->ops = mu_arena_alloc(arena, c->n_layers * OPS_A_LAYER + SLICES_MAX + 16, sizeof *p->ops);
    p->tensors = mu_arena_alloc(arena, n_tensors, sizeof *p->tensors);
    return p->ops && p->tensors ? MU_OK : mu_fail_memory(err, n_tensors * sizeof *p->tensors);
}

mu_status mu_program_build(const struct mu_config *config, const struct mu_shard *shard,
                           struct mu_arena *arena, struct mu_program **out, struct mu_err *err)
{
    const struct mu_arch *arch = mu_arch_find(config->architecture, err);
    if (!arch) return err ? err->code : MU_E_UNSUPPORTED;
    MU_TRY(check_shard(config, arch, shard, err));
    MU_TRY(check_mlp(config, arch, err));
    struct mu_program *p = mu_arena_alloc(arena, 1, sizeof *p);
    struct mu_builder b = {.p = p, .exchange = shard->tp_size > 1};
    if (!p) return mu_fail_memory(err, sizeof *p);
    *p = (struct mu_program){.arch = arch, .config = config, .shard = *shard};
    MU_TRY(make_rooms(p, arena, err));
    p->holds_head = holds(p, mu_part_head(config));
    share_out(p);
    set_scales(p);
    set_widths(p, b.exchange);
    add_ops(&b);
    drop_unused_widths(p);
    *out = p;
    return MU_OK;
}
