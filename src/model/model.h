/*
 * model: what a model is, as data, and the program: the flat list of operations that one shard of
 * it executes. The engine runs that list, the planner prices it; there is no second description of
 * a forward pass. Pure: no I/O, no clock, no devices. Any thread.
 */
#ifndef MU_MODEL_MODEL_H
#define MU_MODEL_MODEL_H

#include "base/alloc.h"
#include "base/segment.h"
#include "format/format.h"

/* What makes one architecture differ from another; a row of the table in arch.c. */
struct mu_arch {
    const char *name;      /* transformers' model_type */
    bool qkv_bias;         /* q, k, v always have one (qwen2), whatever the config says */
    bool o_bias;           /* attention_bias covers o too (llama) */
    bool qk_norm;          /* RMSNorm over each head of q and k before rope */
    bool qk_norm_wide;     /* the same over all heads at once (olmo2) */
    bool pre_norm;         /* norms before attention and MLP */
    bool post_norm;        /* norms on their outputs, before they join the residual */
    bool norm_plus_one;    /* norms multiply by 1 + w in files of transformers (gemma) */
    bool embed_sqrt;       /* embeddings times sqrt(hidden), rounded to the weights' type */
    bool fused_qkv;        /* one stored matrix for q, k, v and one for gate and up (phi3) */
    bool gguf_swaps_pairs; /* GGUF files hold q and k with rope pairs side by side (llama) */
};

/* NULL and an error that names what is supported. */
const struct mu_arch *mu_arch_find(const char *name, struct mu_err *err);

/* Which part of the model one rank executes. */
struct mu_shard {
    uint32_t layer_first, layer_end; /* of config.n_layers */
    uint32_t tp_rank, tp_size;
};

enum mu_tensor_role {
    MU_ROLE_EMBED,
    MU_ROLE_HEAD,
    MU_ROLE_FINAL_NORM,
    MU_ROLE_ATTN_NORM,
    MU_ROLE_Q,
    MU_ROLE_K,
    MU_ROLE_V,
    MU_ROLE_O,
    MU_ROLE_Q_BIAS,
    MU_ROLE_K_BIAS,
    MU_ROLE_V_BIAS,
    MU_ROLE_O_BIAS,
    MU_ROLE_Q_NORM,
    MU_ROLE_K_NORM,
    MU_ROLE_POST_ATTN_NORM,
    MU_ROLE_FFN_NORM,
    MU_ROLE_GATE,
    MU_ROLE_UP,
    MU_ROLE_DOWN,
    MU_ROLE_GATE_BIAS,
    MU_ROLE_UP_BIAS,
    MU_ROLE_DOWN_BIAS,
    MU_ROLE_POST_FFN_NORM,
    MU_ROLE_COUNT
};

#define MU_TENSOR_NAME_MAX 80

/* One tensor of the file, or the slice of it that the shard owns. */
struct mu_tensor_use {
    enum mu_tensor_role role;
    uint32_t layer;
    char name[MU_TENSOR_NAME_MAX]; /* in the file */
    bool vector;                   /* one row, kept as fp32 */
    bool optional;                 /* absent means zero (a bias) */
    uint32_t file_rows, file_cols; /* the whole tensor's shape, to be checked; vectors: 1, n */
    uint32_t row_first, rows;      /* rows [row_first, row_first + rows) of the tensor */
    uint32_t col_first, cols;
    uint32_t swap_heads; /* > 0: rows come in this many heads whose rope pairs lie side by side */
    bool row_parallel;   /* multiplied by cut sums: column borders follow the program's cut */
};

enum mu_op_kind {
    MU_OP_EMBED,      /* out = rows of the embedding table for the step's tokens; + next norm */
    MU_OP_LINEAR,     /* out = in W^T + bias, for up to 3 matrices side by side */
    MU_OP_ROPE_KV,    /* norm and rotate q and k in place, write k and v to the cache */
    MU_OP_ATTEND,     /* out = attention of q over the cache */
    MU_OP_GLU,        /* out = act(gate) * up */
    MU_OP_LINEAR_CUT, /* out = this shard's subtrees of in W^T */
    MU_OP_EXCHANGE,   /* out = all ranks' subtrees, from in */
    MU_OP_COMBINE,    /* finish the tree; + bias, post norm; residual += ; + next norm */
    MU_OP_OUT_ROWS,   /* out = final norm of the rows whose logits are wanted */
    MU_OP_LOGITS,     /* out = in W^T, scaled and capped, for this shard's vocabulary */
    MU_OP_GATHER,     /* all ranks' logits side by side, on every rank */
    MU_OP_SEND,
    MU_OP_RECEIVE, /* the residual, to and from the neighbouring pipeline stage */
};

/* Buffers of a step; each holds `width` values a row. */
enum mu_buffer {
    MU_BUFFER_H,       /* the residual stream */
    MU_BUFFER_X,       /* normed residual: read by linears */
    MU_BUFFER_QKV,     /* q, k, v side by side */
    MU_BUFFER_ATT,     /* attention output: read by o */
    MU_BUFFER_GATE_UP, /* gate and up side by side */
    MU_BUFFER_ACT,     /* activated: read by down */
    MU_BUFFER_PART,    /* this rank's subtrees, each `width` = hidden */
    MU_BUFFER_PARTS,   /* all ranks' subtrees */
    MU_BUFFER_OUT,     /* normed rows whose logits are wanted */
    MU_BUFFER_LOGIT_PART,
    MU_BUFFER_LOGITS,
    MU_BUFFER_COUNT
};

#define MU_NO_TENSOR UINT32_MAX

struct mu_op {
    enum mu_op_kind kind;
    uint32_t layer;
    bool out_rows; /* works on the rows whose logits are wanted, not on all */
    enum mu_buffer in, out;
    uint32_t n_weights, weights[3]; /* into tensors; outputs side by side in `out` */
    uint32_t biases[3];             /* MU_NO_TENSOR: none */
    uint32_t norm, norm2;           /* next norm (into MU_BUFFER_X); q and k norm for ROPE_KV */
    uint32_t post_norm;
    bool normed; /* writes MU_BUFFER_X: through `norm`, or plainly without one */
};

/* The segments of a row-parallel sum and this shard's run of them. */
struct mu_cut_plan {
    uint32_t n;                           /* segments of the whole sum */
    struct mu_run run;                    /* this shard's */
    uint32_t border[MU_SEGMENTS_MAX + 1]; /* columns of the whole matrix, [0..n] */
    unsigned n_subtrees;
    struct mu_run subtrees[MU_SUBTREES_MAX]; /* this shard's maximal subtrees */
    /* all ranks' subtrees in order, as they stand after the exchange */
    unsigned n_all;
    struct mu_run all[MU_SEGMENTS_MAX];
};

struct mu_program {
    const struct mu_arch *arch;
    const struct mu_config *config;
    struct mu_shard shard;
    struct mu_op *ops;
    uint32_t n_ops;
    struct mu_tensor_use *tensors;
    uint32_t n_tensors;
    uint32_t width[MU_BUFFER_COUNT]; /* 0: not used by this shard */
    struct mu_cut_plan o_cut, down_cut;
    /* this shard's heads */
    uint32_t head_first, n_heads;
    uint32_t kv_first, n_kv_heads;
    uint32_t *kv_head;           /* [n_heads] -> this shard's KV head */
    uint32_t ffn_first, ffn;     /* of the intermediate values */
    uint32_t vocab_n;            /* segments of the vocabulary */
    uint32_t vocab_first, vocab; /* this shard's rows of embedding and head */
    bool first_stage, last_stage;
    float embed_scale, attn_scale, residual_scale, logit_scale, norm_offset;
};

/* What a tensor is called in a file of that naming. */
void mu_model_tensor_name(const struct mu_arch *arch, enum mu_names names, enum mu_tensor_role role,
                          uint32_t layer, char out[MU_TENSOR_NAME_MAX]);

/* How many tensor-parallel ranks the contract allows for this model at most. */
uint32_t mu_model_tp_max(const struct mu_config *config);

/* Builds the program of a shard in `arena`; the config must outlive it. */
mu_status mu_program_build(const struct mu_config *config, const struct mu_shard *shard,
                           struct mu_arena *arena, struct mu_program **out, struct mu_err *err);

/* Heads whose rope pairs lie side by side: where row `i` of `n` stands in such a file, when in
 * memory all first halves come before all second halves. With no such heads it is i. */
uint32_t mu_model_swapped_row(uint32_t swap_heads, uint32_t n, uint32_t i);

/* First vocabulary row of vocabulary segment i. */
static inline uint32_t mu_vocab_border(uint32_t vocab, uint32_t i)
{
    return (uint32_t)mu_segment_start(vocab, mu_segment_count(vocab), i);
}

/*
 * Rope: the n / 2 inverse frequencies of a head whose first n = mu_rope_width values are rotated,
 * for an engine (or a prompt, to follow transformers) of `context` positions, and the factor that
 * cosines and sines are multiplied with.
 */
uint32_t mu_rope_width(const struct mu_config *config);
void mu_rope_frequencies(const struct mu_config *config, uint64_t context, bool local,
                         float *inverse, float *scale);

#endif
