/* The operations of a layer's attention; see program_int.h. */
#include "model/program_int.h"

static void add_qkv(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    uint32_t hd = c->head_dim, q_all = c->n_heads * hd, kv_all = c->n_kv_heads * hd;
    bool fused = p->arch->fused_qkv;
    bool swap = c->names == MU_NAMES_GGUF && p->arch->gguf_swaps_pairs;
    uint32_t q_rows = p->n_heads * hd, kv_rows = p->n_kv_heads * hd;
    uint32_t q_first = p->head_first * hd, kv_first = p->kv_first * hd;
    uint32_t all = q_all + 2 * kv_all;
    struct mu_rows q = {.whole = fused ? all : q_all,
                        .first = q_first,
                        .n = q_rows,
                        .swap_heads = swap ? p->n_heads : 0};
    struct mu_rows k = {.whole = fused ? all : kv_all,
                        .first = (fused ? q_all : 0) + kv_first,
                        .n = kv_rows,
                        .swap_heads = swap ? p->n_kv_heads : 0};
    struct mu_rows v = {
        .whole = k.whole, .first = (fused ? q_all + kv_all : 0) + kv_first, .n = kv_rows};
    struct mu_op op = MU_OP(.kind = MU_OP_LINEAR, .layer = layer, .in = MU_BUFFER_X,
                            .out = MU_BUFFER_QKV, .n_weights = 3);
    op.weights[0] = mu_builder_rows(b, MU_ROLE_Q, layer, c->hidden, q);
    op.weights[1] = mu_builder_rows(b, MU_ROLE_K, layer, c->hidden, k);
    op.weights[2] = mu_builder_rows(b, MU_ROLE_V, layer, c->hidden, v);
    if (p->arch->qkv_bias || c->attention_bias) {
        struct mu_tensor_use bias = {.vector = true, .file_rows = 1, .rows = 1};
        struct mu_tensor_use uses[3] = {bias, bias, bias};
        uses[0].file_cols = q_all;
        uses[1].file_cols = uses[2].file_cols = kv_all;
        uses[0].col_first = q_first;
        uses[1].col_first = uses[2].col_first = kv_first;
        uses[0].cols = q_rows;
        uses[1].cols = uses[2].cols = kv_rows;
        uses[0].swap_heads = q.swap_heads;
        uses[1].swap_heads = k.swap_heads;
        for (unsigned i = 0; i < 3; i++)
            op.biases[i] = mu_builder_tensor(b, MU_ROLE_Q_BIAS + i, layer, uses[i]);
    }
    (void)mu_builder_op(b, op);
}

static void add_rope(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    uint32_t hd = p->config->head_dim;
    uint32_t q = p->config->n_heads * hd, k = p->config->n_kv_heads * hd;
    struct mu_op op =
        MU_OP(.kind = MU_OP_ROPE_KV, .layer = layer, .in = MU_BUFFER_QKV, .out = MU_BUFFER_QKV);
    if (p->arch->qk_norm) q = k = hd;
    if (p->arch->qk_norm || p->arch->qk_norm_wide) {
        op.norm = mu_builder_vector(b, MU_ROLE_Q_NORM, layer, q, 0, q);
        op.norm2 = mu_builder_vector(b, MU_ROLE_K_NORM, layer, k, 0, k);
    }
    (void)mu_builder_op(b, op);
}

/* Attention of every head over the cache, out of `in`, to `out`. */
static void add_attend(struct mu_builder *b, uint32_t layer, enum mu_buffer in, enum mu_buffer out)
{
    struct mu_op op = MU_OP(.kind = MU_OP_ATTEND, .layer = layer, .in = in, .out = out);
    if (b->p->arch->sinks)
        op.biases[0] = mu_builder_vector(b, MU_ROLE_SINKS, layer, b->p->config->n_heads,
                                         b->p->head_first, b->p->n_heads);
    (void)mu_builder_op(b, op);
}

/* Q and the latent that holds k and v: the names are those of DeepSeek's papers. The rotated part
 * of each head of q, and of the key, is stored with its pairs side by side. */
static void add_latents(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    uint32_t head = c->qk_nope_head_dim + c->qk_rope_head_dim;
    uint32_t latent = c->kv_lora_rank + c->qk_rope_head_dim;
    struct mu_rows q = {.whole = c->n_heads * head,
                        .first = p->head_first * head,
                        .n = p->n_heads * head,
                        .swap_heads = c->rope_interleaved ? p->n_heads : 0,
                        .swap_from = c->qk_nope_head_dim};
    struct mu_rows q_a = {.whole = c->q_lora_rank, .n = c->q_lora_rank};
    struct mu_rows kv_a = {.whole = latent,
                           .n = latent,
                           .swap_heads = c->rope_interleaved,
                           .swap_from = c->kv_lora_rank};
    bool narrow = c->q_lora_rank > 0;
    struct mu_op op = MU_OP(.kind = MU_OP_LINEAR, .layer = layer, .in = MU_BUFFER_X,
                            .out = MU_BUFFER_LATENT, .n_weights = 2);
    op.weights[0] =
        mu_builder_rows(b, narrow ? MU_ROLE_Q_A : MU_ROLE_Q, layer, c->hidden, narrow ? q_a : q);
    op.weights[1] = mu_builder_rows(b, MU_ROLE_KV_A, layer, c->hidden, kv_a);
    (void)mu_builder_op(b, op);
    op = MU_OP(.kind = MU_OP_LATENT_KV, .layer = layer, .in = MU_BUFFER_LATENT,
               .out = MU_BUFFER_Q_A, .width = c->q_lora_rank);
    if (narrow)
        op.norm = mu_builder_vector(b, MU_ROLE_Q_A_NORM, layer, c->q_lora_rank, 0, c->q_lora_rank);
    op.norm2 = mu_builder_vector(b, MU_ROLE_KV_A_NORM, layer, c->kv_lora_rank, 0, c->kv_lora_rank);
    (void)mu_builder_op(b, op);
    if (!narrow) return;
    op = MU_OP(.kind = MU_OP_LINEAR, .layer = layer, .in = MU_BUFFER_Q_A, .out = MU_BUFFER_QKV,
               .n_weights = 1);
    op.weights[0] = mu_builder_rows(b, MU_ROLE_Q_B, layer, c->q_lora_rank, q);
    (void)mu_builder_op(b, op);
}

/* From the latent to the keys (or values) of each of this shard's heads, one matrix a head. The
 * keys' is used the other way round, on queries. */
static uint32_t add_unfold(struct mu_builder *b, uint32_t layer, bool keys)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    bool joined = c->names == MU_NAMES_HF || c->kv_b_joined;
    uint32_t own = keys ? c->qk_nope_head_dim : c->v_head_dim;
    uint32_t head = joined ? c->qk_nope_head_dim + c->v_head_dim : own;
    uint32_t first = p->n_tensors;
    for (uint32_t h = 0; h < p->n_heads; h++) {
        uint32_t at = (p->head_first + h) * head + (joined && !keys ? c->qk_nope_head_dim : 0);
        struct mu_tensor_use use = {.file_rows = c->n_heads * head,
                                    .file_cols = c->kv_lora_rank,
                                    .row_first = at,
                                    .rows = own,
                                    .cols = c->kv_lora_rank};
        if (keys && joined) {
            use = (struct mu_tensor_use){.file_rows = c->n_heads * head,
                                         .file_cols = c->kv_lora_rank,
                                         .rows = c->kv_lora_rank,
                                         .col_first = at,
                                         .cols = own,
                                         .transposed = true};
        } else if (keys) { /* GGUF has turned it round already */
            use.file_rows = c->n_heads * c->kv_lora_rank;
            use.file_cols = use.cols = own;
            use.row_first = (p->head_first + h) * c->kv_lora_rank;
            use.rows = c->kv_lora_rank;
        }
        (void)mu_builder_tensor(b,
                                c->kv_b_joined ? MU_ROLE_KV_B
                                : keys         ? MU_ROLE_K_B
                                               : MU_ROLE_V_B,
                                layer, use);
    }
    return first;
}

static void add_latent_attention(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    add_latents(b, layer);
    struct mu_op op = MU_OP(.kind = MU_OP_Q_LATENT, .layer = layer, .n_weights = 1, .exact = true,
                            .n_groups = p->n_heads, .out = MU_BUFFER_Q_LATENT);
    op.in = p->config->q_lora_rank > 0 ? MU_BUFFER_QKV : MU_BUFFER_LATENT;
    op.weights[0] = add_unfold(b, layer, true);
    (void)mu_builder_op(b, op);
    add_attend(b, layer, MU_BUFFER_Q_LATENT, MU_BUFFER_ATT_LATENT);
    op = MU_OP(.kind = MU_OP_V_LATENT, .layer = layer, .n_weights = 1, .exact = true,
               .n_groups = p->n_heads, .in = MU_BUFFER_ATT_LATENT, .out = MU_BUFFER_ATT);
    op.weights[0] = add_unfold(b, layer, false);
    (void)mu_builder_op(b, op);
}

struct mu_op *mu_builder_attention(struct mu_builder *b, uint32_t layer)
{
    const struct mu_program *p = b->p;
    const struct mu_config *c = p->config;
    uint32_t bias = MU_NO_TENSOR;
    if (p->latent) {
        add_latent_attention(b, layer);
    } else {
        add_qkv(b, layer);
        add_rope(b, layer);
        add_attend(b, layer, MU_BUFFER_QKV, MU_BUFFER_ATT);
    }
    struct mu_op op = MU_OP(.kind = MU_OP_LINEAR_CUT, .layer = layer, .in = MU_BUFFER_ATT,
                            .out = MU_BUFFER_PART, .n_weights = 1, .cut = MU_CUT_O);
    uint32_t head = p->latent ? c->v_head_dim : c->head_dim;
    op.weights[0] = mu_builder_columns(b, MU_ROLE_O, layer, c->n_heads * head, MU_CUT_O);
    (void)mu_builder_op(b, op);
    if (p->arch->o_bias && c->attention_bias)
        bias = mu_builder_vector(b, MU_ROLE_O_BIAS, layer, c->hidden, 0, c->hidden);
    return mu_builder_combine(b, layer, MU_CUT_O, bias, MU_ROLE_POST_ATTN_NORM);
}
