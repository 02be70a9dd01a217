/* Turns an architecture and a shard into the flat list of operations; see model.h. */
#include "model/model.h"

#include <math.h>

#define OPS_A_LAYER     12
#define TENSORS_A_LAYER 20

struct builder {
    struct mu_arena *arena;
    struct mu_program *p;
    uint32_t *kv_head;
    bool exchange; /* more than one tensor-parallel rank */
};

uint32_t mu_model_tp_max(const struct mu_config *config)
{
    uint32_t o = mu_segment_count(config->n_heads);
    uint32_t down = mu_segment_count(MU_CEIL_DIV(config->ffn, 32));
    return MU_MIN(o, MU_MIN(down, mu_segment_count(config->vocab)));
}

uint32_t mu_model_swapped_row(uint32_t swap_heads, uint32_t n, uint32_t i)
{
    if (swap_heads == 0) return i;
    uint32_t head_rows = n / swap_heads, head = i / head_rows, at = i % head_rows;
    uint32_t half = head_rows / 2;
    return head * head_rows + (at < half ? 2 * at : 2 * (at - half) + 1);
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

static uint32_t add_tensor(struct builder *b, enum mu_tensor_role role, uint32_t layer,
                           struct mu_tensor_use use)
{
    struct mu_program *p = b->p;
    use.role = role;
    use.layer = layer;
    mu_model_tensor_name(p->arch, p->config->names, role, layer, use.name);
    p->tensors[p->n_tensors] = use;
    return p->n_tensors++;
}

static uint32_t add_vector(struct builder *b, enum mu_tensor_role role, uint32_t layer,
                           uint32_t whole, uint32_t first, uint32_t n, uint32_t swap_heads)
{
    return add_tensor(b, role, layer,
                      (struct mu_tensor_use){.vector = true,
                                             .file_rows = 1,
                                             .file_cols = whole,
                                             .rows = 1,
                                             .col_first = first,
                                             .cols = n,
                                             .swap_heads = swap_heads});
}

static struct mu_op *add_op(struct builder *b, struct mu_op op)
{
    for (uint32_t i = op.n_weights; i < 3; i++)
        op.weights[i] = MU_NO_TENSOR;
    struct mu_op *o = &b->p->ops[b->p->n_ops++];
    *o = op;
    return o;
}

#define OP(...)                                                                                    \
    ((struct mu_op){.biases = {MU_NO_TENSOR, MU_NO_TENSOR, MU_NO_TENSOR},                          \
                    .norm = MU_NO_TENSOR,                                                          \
                    .norm2 = MU_NO_TENSOR,                                                         \
                    .post_norm = MU_NO_TENSOR,                                                     \
                    __VA_ARGS__})

static uint32_t add_norm(struct builder *b, enum mu_tensor_role role, uint32_t layer)
{
    return add_vector(b, role, layer, b->p->config->hidden, 0, b->p->config->hidden, 0);
}

/* The norm in front of attention (or of the MLP) of a layer, if the architecture has one. */
static void add_pre_norm(struct builder *b, struct mu_op *op, enum mu_tensor_role role,
                         uint32_t layer)
{
    op->normed = true;
    if (b->p->arch->pre_norm) op->norm = add_norm(b, role, layer);
}

/* Finishes the tree of a row-parallel sum and adds it to the residual. */
static struct mu_op *add_combine(struct builder *b, uint32_t layer, uint32_t bias,
                                 enum mu_tensor_role post_norm)
{
    if (b->exchange)
        (void)add_op(b, OP(.kind = MU_OP_EXCHANGE, .layer = layer, .in = MU_BUFFER_PART,
                           .out = MU_BUFFER_PARTS));
    enum mu_buffer in = b->exchange ? MU_BUFFER_PARTS : MU_BUFFER_PART;
    struct mu_op op = OP(.kind = MU_OP_COMBINE, .layer = layer, .in = in, .out = MU_BUFFER_H);
    op.biases[0] = bias;
    if (b->p->arch->post_norm) op.post_norm = add_norm(b, post_norm, layer);
    return add_op(b, op);
}

struct slice {
    uint32_t whole_rows, row_first, rows; /* in the stored tensor */
    uint32_t swap_heads;                  /* of this slice */
};

static uint32_t add_columns(struct builder *b, enum mu_tensor_role role, uint32_t layer,
                            struct slice s)
{
    uint32_t hidden = b->p->config->hidden;
    return add_tensor(b, role, layer,
                      (struct mu_tensor_use){.file_rows = s.whole_rows,
                                             .file_cols = hidden,
                                             .row_first = s.row_first,
                                             .rows = s.rows,
                                             .cols = hidden,
                                             .swap_heads = s.swap_heads});
}

static uint32_t add_row_parallel(struct builder *b, enum mu_tensor_role role, uint32_t layer,
                                 uint32_t whole_cols, const struct mu_cut_plan *cut)
{
    uint32_t hidden = b->p->config->hidden, first = cut->border[cut->run.first];
    return add_tensor(b, role, layer,
                      (struct mu_tensor_use){.file_rows = hidden,
                                             .file_cols = whole_cols,
                                             .rows = hidden,
                                             .col_first = first,
                                             .cols = cut->border[cut->run.end] - first,
                                             .row_parallel = true});
}

static void add_qkv(struct builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    uint32_t hd = c->head_dim, q_all = c->n_heads * hd, kv_all = c->n_kv_heads * hd;
    bool fused = p->arch->fused_qkv;
    bool swap = c->names == MU_NAMES_GGUF && p->arch->gguf_swaps_pairs;
    uint32_t q_rows = p->n_heads * hd, kv_rows = p->n_kv_heads * hd;
    uint32_t q_first = p->head_first * hd, kv_first = p->kv_first * hd;
    uint32_t all = q_all + 2 * kv_all;
    struct slice q = {fused ? all : q_all, q_first, q_rows, swap ? p->n_heads : 0};
    struct slice k = {fused ? all : kv_all, (fused ? q_all : 0) + kv_first, kv_rows,
                      swap ? p->n_kv_heads : 0};
    struct slice v = {fused ? all : kv_all, (fused ? q_all + kv_all : 0) + kv_first, kv_rows, 0};
    struct mu_op op = OP(.kind = MU_OP_LINEAR, .layer = layer, .in = MU_BUFFER_X,
                         .out = MU_BUFFER_QKV, .n_weights = 3);
    op.weights[0] = add_columns(b, MU_ROLE_Q, layer, q);
    op.weights[1] = add_columns(b, MU_ROLE_K, layer, k);
    op.weights[2] = add_columns(b, MU_ROLE_V, layer, v);
    if (p->arch->qkv_bias || c->attention_bias) {
        op.biases[0] = add_vector(b, MU_ROLE_Q_BIAS, layer, q_all, q_first, q_rows, q.swap_heads);
        op.biases[1] =
            add_vector(b, MU_ROLE_K_BIAS, layer, kv_all, kv_first, kv_rows, k.swap_heads);
        op.biases[2] = add_vector(b, MU_ROLE_V_BIAS, layer, kv_all, kv_first, kv_rows, 0);
    }
    (void)add_op(b, op);
}

static void add_attention(struct builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    uint32_t hd = c->head_dim;
    add_qkv(b, layer);
    struct mu_op op =
        OP(.kind = MU_OP_ROPE_KV, .layer = layer, .in = MU_BUFFER_QKV, .out = MU_BUFFER_QKV);
    if (p->arch->qk_norm) {
        op.norm = add_vector(b, MU_ROLE_Q_NORM, layer, hd, 0, hd, 0);
        op.norm2 = add_vector(b, MU_ROLE_K_NORM, layer, hd, 0, hd, 0);
    } else if (p->arch->qk_norm_wide) {
        op.norm = add_vector(b, MU_ROLE_Q_NORM, layer, c->n_heads * hd, 0, c->n_heads * hd, 0);
        op.norm2 =
            add_vector(b, MU_ROLE_K_NORM, layer, c->n_kv_heads * hd, 0, c->n_kv_heads * hd, 0);
    }
    (void)add_op(b, op);
    (void)add_op(
        b, OP(.kind = MU_OP_ATTEND, .layer = layer, .in = MU_BUFFER_QKV, .out = MU_BUFFER_ATT));
    op = OP(.kind = MU_OP_LINEAR_CUT, .layer = layer, .in = MU_BUFFER_ATT, .out = MU_BUFFER_PART,
            .n_weights = 1);
    op.weights[0] = add_row_parallel(b, MU_ROLE_O, layer, c->n_heads * hd, &p->o_cut);
    (void)add_op(b, op);
    uint32_t bias = p->arch->o_bias && c->attention_bias
                        ? add_vector(b, MU_ROLE_O_BIAS, layer, c->hidden, 0, c->hidden, 0)
                        : MU_NO_TENSOR;
    struct mu_op *combine = add_combine(b, layer, bias, MU_ROLE_POST_ATTN_NORM);
    add_pre_norm(b, combine, MU_ROLE_FFN_NORM, layer);
}

static struct mu_op *add_mlp(struct builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    bool fused = p->arch->fused_qkv;
    struct slice gate = {fused ? 2 * c->ffn : c->ffn, p->ffn_first, p->ffn, 0};
    struct slice up = {gate.whole_rows, (fused ? c->ffn : 0) + p->ffn_first, p->ffn, 0};
    struct mu_op op = OP(.kind = MU_OP_LINEAR, .layer = layer, .in = MU_BUFFER_X,
                         .out = MU_BUFFER_GATE_UP, .n_weights = 2);
    op.weights[0] = add_columns(b, MU_ROLE_GATE, layer, gate);
    op.weights[1] = add_columns(b, MU_ROLE_UP, layer, up);
    if (c->mlp_bias) {
        op.biases[0] = add_vector(b, MU_ROLE_GATE_BIAS, layer, c->ffn, p->ffn_first, p->ffn, 0);
        op.biases[1] = add_vector(b, MU_ROLE_UP_BIAS, layer, c->ffn, p->ffn_first, p->ffn, 0);
    }
    (void)add_op(b, op);
    (void)add_op(
        b, OP(.kind = MU_OP_GLU, .layer = layer, .in = MU_BUFFER_GATE_UP, .out = MU_BUFFER_ACT));
    op = OP(.kind = MU_OP_LINEAR_CUT, .layer = layer, .in = MU_BUFFER_ACT, .out = MU_BUFFER_PART,
            .n_weights = 1);
    op.weights[0] = add_row_parallel(b, MU_ROLE_DOWN, layer, c->ffn, &p->down_cut);
    (void)add_op(b, op);
    uint32_t bias = c->mlp_bias
                        ? add_vector(b, MU_ROLE_DOWN_BIAS, layer, c->hidden, 0, c->hidden, 0)
                        : MU_NO_TENSOR;
    return add_combine(b, layer, bias, MU_ROLE_POST_FFN_NORM);
}

static uint32_t add_vocabulary(struct builder *b, enum mu_tensor_role role)
{
    const struct mu_program *p = b->p;
    return add_tensor(b, role, 0,
                      (struct mu_tensor_use){.file_rows = p->config->vocab,
                                             .file_cols = p->config->hidden,
                                             .row_first = p->vocab_first,
                                             .rows = p->vocab,
                                             .cols = p->config->hidden});
}

static void add_embedding(struct builder *b, uint32_t table)
{
    struct mu_op op =
        OP(.kind = MU_OP_EMBED, .out = b->exchange ? MU_BUFFER_PART : MU_BUFFER_H, .n_weights = 1);
    op.weights[0] = table;
    struct mu_op *last = add_op(b, op);
    if (b->exchange) {
        (void)add_op(b, OP(.kind = MU_OP_EXCHANGE, .in = MU_BUFFER_PART, .out = MU_BUFFER_PARTS));
        last = add_op(b, OP(.kind = MU_OP_EMBED, .in = MU_BUFFER_PARTS, .out = MU_BUFFER_H));
    }
    add_pre_norm(b, last, MU_ROLE_ATTN_NORM, b->p->shard.layer_first);
}

static void add_head(struct builder *b, uint32_t table)
{
    struct mu_op op =
        OP(.kind = MU_OP_OUT_ROWS, .out_rows = true, .in = MU_BUFFER_H, .out = MU_BUFFER_OUT);
    op.norm = add_norm(b, MU_ROLE_FINAL_NORM, 0);
    (void)add_op(b, op);
    op = OP(.kind = MU_OP_LOGITS, .out_rows = true, .in = MU_BUFFER_OUT, .n_weights = 1,
            .out = b->exchange ? MU_BUFFER_LOGIT_PART : MU_BUFFER_LOGITS);
    op.weights[0] = b->p->config->tied_head ? table : add_vocabulary(b, MU_ROLE_HEAD);
    (void)add_op(b, op);
    if (b->exchange)
        (void)add_op(b, OP(.kind = MU_OP_GATHER, .out_rows = true, .in = MU_BUFFER_LOGIT_PART,
                           .out = MU_BUFFER_LOGITS));
}

static void add_ops(struct builder *b)
{
    struct mu_program *p = b->p;
    uint32_t end = p->shard.layer_end;
    uint32_t table = MU_NO_TENSOR;
    if (p->first_stage || (p->last_stage && p->config->tied_head))
        table = add_vocabulary(b, MU_ROLE_EMBED);
    if (p->first_stage) {
        add_embedding(b, table);
    } else {
        struct mu_op *op = add_op(b, OP(.kind = MU_OP_RECEIVE, .out = MU_BUFFER_H));
        add_pre_norm(b, op, MU_ROLE_ATTN_NORM, p->shard.layer_first);
    }
    for (uint32_t layer = p->shard.layer_first; layer < end; layer++) {
        add_attention(b, layer);
        struct mu_op *combine = add_mlp(b, layer);
        if (layer + 1 < end) add_pre_norm(b, combine, MU_ROLE_ATTN_NORM, layer + 1);
    }
    if (p->last_stage)
        add_head(b, table);
    else
        (void)add_op(b, OP(.kind = MU_OP_SEND, .in = MU_BUFFER_H));
}

/* This shard's heads, the KV heads they read, its columns of the MLP and rows of the vocabulary. */
static void share_out(struct builder *b)
{
    struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    plan_cut(&p->o_cut, c->n_heads * c->head_dim, c->head_dim, &p->shard);
    plan_cut(&p->down_cut, c->ffn, 32, &p->shard);
    p->head_first = p->o_cut.border[p->o_cut.run.first] / c->head_dim;
    p->n_heads = p->o_cut.border[p->o_cut.run.end] / c->head_dim - p->head_first;
    uint32_t group = c->n_heads / c->n_kv_heads;
    p->kv_first = p->head_first / group;
    p->n_kv_heads = (p->head_first + p->n_heads - 1) / group + 1 - p->kv_first;
    for (uint32_t h = 0; h < p->n_heads; h++)
        b->kv_head[h] = (p->head_first + h) / group - p->kv_first;
    p->kv_head = b->kv_head;
    p->ffn_first = p->down_cut.border[p->down_cut.run.first];
    p->ffn = p->down_cut.border[p->down_cut.run.end] - p->ffn_first;
    p->vocab_n = mu_segment_count(c->vocab);
    struct mu_run run = mu_segment_run(p->vocab_n, p->shard.tp_rank, p->shard.tp_size);
    p->vocab_first = mu_vocab_border(c->vocab, run.first);
    p->vocab = mu_vocab_border(c->vocab, run.end) - p->vocab_first;
}

static void set_widths(struct mu_program *p, bool exchange)
{
    const struct mu_config *c = p->config;
    uint32_t *w = p->width;
    unsigned own = MU_MAX(p->o_cut.n_subtrees, p->down_cut.n_subtrees);
    unsigned all = MU_MAX(MU_MAX(p->o_cut.n_all, p->down_cut.n_all), p->shard.tp_size);
    w[MU_BUFFER_H] = w[MU_BUFFER_X] = c->hidden;
    w[MU_BUFFER_QKV] = (p->n_heads + 2 * p->n_kv_heads) * c->head_dim;
    w[MU_BUFFER_ATT] = p->n_heads * c->head_dim;
    w[MU_BUFFER_GATE_UP] = 2 * p->ffn;
    w[MU_BUFFER_ACT] = p->ffn;
    w[MU_BUFFER_PART] = own * c->hidden;
    w[MU_BUFFER_PARTS] = exchange ? all * c->hidden : 0;
    if (p->last_stage) {
        w[MU_BUFFER_OUT] = c->hidden;
        w[MU_BUFFER_LOGITS] = c->vocab;
        w[MU_BUFFER_LOGIT_PART] = exchange ? p->vocab : 0;
    }
}

static void set_scales(struct mu_program *p)
{
    const struct mu_config *c = p->config;
    double scalar = c->query_pre_attn_scalar > 0 ? c->query_pre_attn_scalar : c->head_dim;
    p->attn_scale =
        (float)(c->attention_multiplier > 0 ? c->attention_multiplier : 1 / sqrt(scalar));
    p->embed_scale = c->embedding_multiplier > 0 ? (float)c->embedding_multiplier : 1;
    if (p->arch->embed_sqrt) p->embed_scale = sqrtf((float)c->hidden);
    p->residual_scale = c->residual_multiplier > 0 ? (float)c->residual_multiplier : 1;
    p->logit_scale = c->logits_scaling > 0 ? (float)(1 / c->logits_scaling) : 1;
    /* GGUF files of these models hold 1 + w already. */
    p->norm_offset = p->arch->norm_plus_one && c->names == MU_NAMES_HF ? 1 : 0;
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
    if (shard->layer_first >= shard->layer_end || shard->layer_end > c->n_layers)
        return mu_fail(err, MU_E_USAGE, "layers %u to %u are not a stage of a model of %u layers",
                       shard->layer_first, shard->layer_end, c->n_layers);
    if (strcmp(c->activation, "silu") != 0 && strcmp(c->activation, "gelu_pytorch_tanh") != 0 &&
        strcmp(c->activation, "gelu") != 0)
        return mu_fail(err, MU_E_UNSUPPORTED, "activation '%s' is not supported", c->activation);
    if (c->quant_method[0] && c->names == MU_NAMES_HF) {
        mu_status status = mu_fail(err, MU_E_UNSUPPORTED,
                                   "weights quantised by '%s' are not supported", c->quant_method);
        mu_err_cure(err, "use the unquantised model, or a GGUF of it");
        return status;
    }
    if (c->n_experts > 0)
        return mu_fail(err, MU_E_UNSUPPORTED, "mixture of experts is not supported");
    if (mu_rope_width(c) % 2 != 0 || mu_rope_width(c) > c->head_dim)
        return mu_fail(err, MU_E_INPUT, "rope turns %u of %u values of a head", mu_rope_width(c),
                       c->head_dim);
    return MU_OK;
}

mu_status mu_program_build(const struct mu_config *config, const struct mu_shard *shard,
                           struct mu_arena *arena, struct mu_program **out, struct mu_err *err)
{
    const struct mu_arch *arch = mu_arch_find(config->architecture, err);
    if (!arch) return err ? err->code : MU_E_UNSUPPORTED;
    MU_TRY(check_shard(config, arch, shard, err));
    uint32_t layers = shard->layer_end - shard->layer_first;
    struct mu_program *p = mu_arena_alloc(arena, 1, sizeof *p);
    struct builder b = {.arena = arena, .p = p, .exchange = shard->tp_size > 1};
    b.kv_head = mu_arena_alloc(arena, config->n_heads, sizeof *b.kv_head);
    if (!p || !b.kv_head) return mu_fail_memory(err, sizeof *p);
    *p = (struct mu_program){.arch = arch, .config = config, .shard = *shard};
    p->ops = mu_arena_alloc(arena, layers * OPS_A_LAYER + 8, sizeof *p->ops);
    p->tensors = mu_arena_alloc(arena, layers * TENSORS_A_LAYER + 8, sizeof *p->tensors);
    if (!p->ops || !p->tensors)
        return mu_fail_memory(err, (size_t)layers * TENSORS_A_LAYER * sizeof *p->tensors);
    p->first_stage = shard->layer_first == 0;
    p->last_stage = shard->layer_end == config->n_layers;
    share_out(&b);
    set_scales(p);
    set_widths(p, b.exchange);
    add_ops(&b);
    *out = p;
    return MU_OK;
}
