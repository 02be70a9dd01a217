/* The operations of a layer's MLP, or of its experts; see program_int.h. */
#include "model/program_int.h"

static uint32_t cut_first(const struct mu_cut_plan *cut)
{
    return cut->border[cut->run.first];
}

static uint32_t cut_width(const struct mu_cut_plan *cut)
{
    return cut->border[cut->run.end] - cut_first(cut);
}

static void add_down(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer, uint32_t ffn,
                     enum mu_cut_name cut)
{
    struct mu_op op = MU_OP(.kind = MU_OP_LINEAR_CUT, .layer = layer, .in = MU_BUFFER_ACT,
                            .out = MU_BUFFER_PART, .n_weights = 1, .cut = cut);
    op.weights[0] = mu_builder_columns(b, role, layer, ffn, cut);
    (void)mu_builder_op(b, op);
}

static struct mu_op *add_dense(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    const struct mu_cut_plan *cut = &p->cuts[MU_CUT_DOWN];
    uint32_t first = cut_first(cut), n = cut_width(cut), bias = MU_NO_TENSOR;
    bool fused = p->arch->fused_qkv;
    struct mu_rows gate = {.whole = fused ? 2 * c->ffn : c->ffn, .first = first, .n = n};
    struct mu_rows up = gate;
    if (fused) up.first += c->ffn;
    struct mu_op op = MU_OP(.kind = MU_OP_GLU, .layer = layer, .in = MU_BUFFER_X,
                            .out = MU_BUFFER_ACT, .n_weights = 2, .width = n);
    op.weights[0] = mu_builder_rows(b, MU_ROLE_GATE, layer, c->hidden, gate);
    op.weights[1] = mu_builder_rows(b, MU_ROLE_UP, layer, c->hidden, up);
    if (c->mlp_bias) {
        op.biases[0] = mu_builder_vector(b, MU_ROLE_GATE_BIAS, layer, c->ffn, first, n);
        op.biases[1] = mu_builder_vector(b, MU_ROLE_UP_BIAS, layer, c->ffn, first, n);
    }
    (void)mu_builder_op(b, op);
    add_down(b, MU_ROLE_DOWN, layer, c->ffn, MU_CUT_DOWN);
    if (c->mlp_bias) bias = mu_builder_vector(b, MU_ROLE_DOWN_BIAS, layer, c->hidden, 0, c->hidden);
    return mu_builder_combine(b, layer, MU_CUT_DOWN, bias, MU_ROLE_POST_FFN_NORM);
}

/* The expert that every token takes; its share joins the residual first. */
static void add_shared(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    const struct mu_cut_plan *cut = &p->cuts[MU_CUT_SHARED];
    struct mu_rows rows = {.whole = mu_shared_ffn(c), .first = cut_first(cut), .n = cut_width(cut)};
    struct mu_op op =
        MU_OP(.kind = MU_OP_GLU, .layer = layer, .in = MU_BUFFER_X, .out = MU_BUFFER_ACT,
              .n_weights = 2, .width = rows.n, .mixed = p->arch->shared_mixed);
    op.weights[0] = mu_builder_rows(b, MU_ROLE_SHARED_GATE, layer, c->hidden, rows);
    op.weights[1] = mu_builder_rows(b, MU_ROLE_SHARED_UP, layer, c->hidden, rows);
    (void)mu_builder_op(b, op);
    add_down(b, MU_ROLE_SHARED_DOWN, layer, mu_shared_ffn(c), MU_CUT_SHARED);
    (void)mu_builder_combine(b, layer, MU_CUT_SHARED, MU_NO_TENSOR, MU_ROLE_COUNT);
}

/* Rows of an expert's gate (or up) matrix. Files hold a matrix an expert; or all of them in one
 * tensor, gate and up apart (GGUF) or by turns, then perhaps turned on its side (gpt_oss). */
static struct mu_rows expert_rows(const struct mu_program *p, uint32_t expert, bool up)
{
    const struct mu_config *c = p->config;
    const struct mu_cut_plan *cut = &p->cuts[MU_CUT_EXPERT];
    struct mu_rows rows = {
        .whole = c->expert_ffn, .first = cut_first(cut), .n = cut_width(cut), .expert = expert};
    if (c->names == MU_NAMES_GGUF) {
        rows.whole *= c->n_experts;
        rows.first += expert * c->expert_ffn;
    } else if (p->arch->stacked_experts) {
        rows.whole *= 2;
        rows.step = 2;
        rows.first = 2 * rows.first + up;
        rows.transposed = !c->quant_method[0];
        if (!rows.transposed) {
            rows.first += expert * rows.whole;
            rows.whole *= c->n_experts;
        }
    }
    return rows;
}

static uint32_t add_expert_down(struct mu_builder *b, uint32_t layer, uint32_t expert)
{
    const struct mu_config *c = b->p->config;
    const struct mu_cut_plan *cut = &b->p->cuts[MU_CUT_EXPERT];
    struct mu_tensor_use use = {.expert = expert,
                                .file_rows = c->hidden,
                                .file_cols = c->expert_ffn,
                                .rows = c->hidden,
                                .col_first = cut_first(cut),
                                .cols = cut_width(cut),
                                .row_parallel = true,
                                .cut = MU_CUT_EXPERT};
    bool stacked = c->names == MU_NAMES_GGUF || b->p->arch->stacked_experts;
    if (stacked && c->names == MU_NAMES_HF && !c->quant_method[0]) {
        use.transposed = true;
        use.file_rows = c->n_experts * c->expert_ffn;
        use.file_cols = c->hidden;
        use.col_first += expert * c->expert_ffn;
    } else if (stacked) {
        use.file_rows *= c->n_experts;
        use.row_first = expert * c->hidden;
    }
    return mu_builder_tensor(b, MU_ROLE_EXPERT_DOWN, layer, use);
}

/* A bias of an expert: one row of a stacked matrix. */
static uint32_t add_expert_bias(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                                uint32_t expert)
{
    const struct mu_config *c = b->p->config;
    const struct mu_cut_plan *cut = &b->p->cuts[MU_CUT_EXPERT];
    struct mu_tensor_use use = {.expert = expert,
                                .vector = true,
                                .file_rows = c->n_experts,
                                .row_first = expert,
                                .rows = 1,
                                .file_cols = c->hidden,
                                .cols = c->hidden};
    if (role != MU_ROLE_EXPERT_DOWN_BIAS) {
        bool turns = c->names == MU_NAMES_HF && b->p->arch->interleaved_experts;
        use.step = turns ? 2 : 1;
        use.file_cols = c->expert_ffn * use.step;
        use.col_first = cut_first(cut) * use.step;
        if (turns && role == MU_ROLE_EXPERT_UP_BIAS) use.col_first++;
        use.cols = cut_width(cut);
    }
    return mu_builder_tensor(b, role, layer, use);
}

static uint32_t add_expert_biases(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer)
{
    if (!b->p->arch->router_bias) return MU_NO_TENSOR;
    uint32_t first = b->p->n_tensors;
    for (uint32_t e = 0; e < b->p->config->n_experts; e++)
        (void)add_expert_bias(b, role, layer, e);
    return first;
}

static void add_router(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    struct mu_rows rows = {.whole = c->n_experts, .n = c->n_experts};
    struct mu_op op = MU_OP(.kind = MU_OP_LINEAR, .layer = layer, .in = MU_BUFFER_NORMED,
                            .out = MU_BUFFER_ROUTES, .n_weights = 1, .exact = true);
    op.weights[0] = mu_builder_rows(b, MU_ROLE_ROUTER, layer, c->hidden, rows);
    if (p->arch->router_bias)
        op.biases[0] =
            mu_builder_vector(b, MU_ROLE_ROUTER_BIAS, layer, c->n_experts, 0, c->n_experts);
    if (p->arch->shared_mixed) {
        rows = (struct mu_rows){.whole = 1, .n = 1};
        op.weights[op.n_weights++] = mu_builder_rows(b, MU_ROLE_SHARED_MIX, layer, c->hidden, rows);
    }
    (void)mu_builder_op(b, op);
    op =
        MU_OP(.kind = MU_OP_ROUTE, .layer = layer, .in = MU_BUFFER_ROUTES, .out = MU_BUFFER_CHOSEN);
    if (p->arch->router_sigmoid)
        op.biases[0] =
            mu_builder_vector(b, MU_ROLE_ROUTER_CORRECTION, layer, c->n_experts, 0, c->n_experts);
    (void)mu_builder_op(b, op);
    (void)mu_builder_op(b, MU_OP(.kind = MU_OP_GROUP, .layer = layer, .in = MU_BUFFER_CHOSEN,
                                 .out = MU_BUFFER_CHOSEN));
    (void)mu_builder_op(b, MU_OP(.kind = MU_OP_DISPATCH, .layer = layer, .in = MU_BUFFER_NORMED,
                                 .out = MU_BUFFER_SLOT_X));
}

static struct mu_op *add_experts(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    add_router(b, layer);
    if (mu_shared_ffn(c) > 0) add_shared(b, layer);
    struct mu_op op = MU_OP(.kind = MU_OP_EXPERTS, .layer = layer, .in = MU_BUFFER_SLOT_X,
                            .out = MU_BUFFER_SLOT_ACT, .n_weights = 2, .n_groups = c->n_experts,
                            .width = cut_width(&p->cuts[MU_CUT_EXPERT]));
    op.weights[0] = p->n_tensors;
    for (uint32_t e = 0; e < c->n_experts; e++)
        (void)mu_builder_rows(b, MU_ROLE_EXPERT_GATE, layer, c->hidden, expert_rows(p, e, false));
    op.weights[1] = p->n_tensors;
    for (uint32_t e = 0; e < c->n_experts; e++)
        (void)mu_builder_rows(b, MU_ROLE_EXPERT_UP, layer, c->hidden, expert_rows(p, e, true));
    op.biases[0] = add_expert_biases(b, MU_ROLE_EXPERT_GATE_BIAS, layer);
    op.biases[1] = add_expert_biases(b, MU_ROLE_EXPERT_UP_BIAS, layer);
    (void)mu_builder_op(b, op);
    op = MU_OP(.kind = MU_OP_EXPERTS_CUT, .layer = layer, .in = MU_BUFFER_SLOT_ACT,
               .out = MU_BUFFER_PART, .n_weights = 1, .n_groups = c->n_experts,
               .cut = MU_CUT_EXPERT);
    op.weights[0] = p->n_tensors;
    for (uint32_t e = 0; e < c->n_experts; e++)
        (void)add_expert_down(b, layer, e);
    (void)mu_builder_op(b, op);
    uint32_t biases = add_expert_biases(b, MU_ROLE_EXPERT_DOWN_BIAS, layer);
    struct mu_op *combine =
        mu_builder_combine(b, layer, MU_CUT_EXPERT, biases, MU_ROLE_POST_FFN_NORM);
    combine->n_groups = c->n_experts;
    return combine;
}

struct mu_op *mu_builder_mlp(struct mu_builder *b, struct mu_op *last, uint32_t layer)
{
    const struct mu_config *c = b->p->config;
    bool experts = mu_layer_has_experts(c, layer);
    mu_builder_hand_on(b, last,
                       (struct mu_reader){.norm_part = mu_part_of_layer(layer, MU_PART_FFN_NORM),
                                          .part = mu_part_of_layer(layer, MU_PART_FFN),
                                          .norm = MU_ROLE_FFN_NORM,
                                          .layer = layer,
                                          .x = !experts || mu_shared_ffn(c) > 0,
                                          .normed = experts});
    return experts ? add_experts(b, layer) : add_dense(b, layer);
}
