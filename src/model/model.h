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

struct mu_role_name; /* arch.c */

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
    bool sinks;            /* each head has one more logit, without a value (gpt_oss) */
    bool swiglu_oai;       /* gate and up clamped, gate by sigmoid(1.702 gate), up + 1 (gpt_oss) */
    /* Experts. */
    bool router_bias;         /* the router's linear has one, and so has each expert's */
    bool router_sigmoid;      /* scores by sigmoid, chosen with a correction added (deepseek_v3) */
    bool router_normed;       /* the chosen weights add up to 1, whatever the config says */
    bool stacked_experts;     /* transformers' files hold all experts of a layer in one tensor */
    bool interleaved_experts; /* ... whose rows are gate and up by turns */
    bool shared_mixed;        /* the shared expert's output is scaled by a sigmoid (qwen2_moe) */
    const struct mu_role_name *names; /* where they differ from the common ones, or NULL */
};

/* NULL and an error that names what is supported. */
const struct mu_arch *mu_arch_find(const char *name, struct mu_err *err);

/*
 * The parts of a model that may be placed apart: the embedding is part 0, then come those of each
 * layer, then the last norm and the head. Norms on what a part gives belong to that part.
 */
enum mu_part { MU_PART_ATTN_NORM, MU_PART_ATTN, MU_PART_FFN_NORM, MU_PART_FFN, MU_PARTS_A_LAYER };

#define MU_PART_EMBED 0u
static inline uint32_t mu_part_of_layer(uint32_t layer, enum mu_part part)
{
    return 1 + layer * MU_PARTS_A_LAYER + (uint32_t)part;
}
static inline uint32_t mu_part_norm(const struct mu_config *config)
{
    return mu_part_of_layer(config->n_layers, MU_PART_ATTN_NORM);
}
static inline uint32_t mu_part_head(const struct mu_config *config)
{
    return mu_part_norm(config) + 1;
}
static inline uint32_t mu_part_count(const struct mu_config *config)
{
    return mu_part_head(config) + 1;
}

/* Where the matrices of a part lie between steps. */
enum mu_home {
    MU_HOME_DEVICE,
    MU_HOME_HOST, /* packed, in the host's memory */
    MU_HOME_FILE, /* packed, on the disk */
    MU_HOME_COUNT
};

#define MU_STAGES_MAX 64

/* Which stage executes a part, and where its matrices lie. A stage may have any parts: its run of
 * the model's operations has gaps then. */
struct mu_part_place {
    uint8_t stage, home;
};

/* What one rank executes: the parts of its stage, and of these its share of heads and columns. */
struct mu_shard {
    uint32_t stage;
    const struct mu_part_place *places; /* [mu_part_count]; NULL: all in stage 0, on its device */
    uint32_t tp_rank, tp_size;
};

/* The places of `stages` runs of layers, as even as can be; the first has the embedding, the last
 * what comes after the layers. */
void mu_places_even(const struct mu_config *config, uint32_t stages, struct mu_part_place *out);

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
    MU_ROLE_SINKS,
    MU_ROLE_Q_A, /* latent attention: q and k, v go through a narrow layer */
    MU_ROLE_Q_A_NORM,
    MU_ROLE_Q_B,
    MU_ROLE_KV_A, /* the latent, then the key's rotated part */
    MU_ROLE_KV_A_NORM,
    MU_ROLE_KV_B, /* from the latent to each head's key and value */
    MU_ROLE_K_B,  /* the same as two tensors */
    MU_ROLE_V_B,
    MU_ROLE_ROUTER,
    MU_ROLE_ROUTER_BIAS,
    MU_ROLE_ROUTER_CORRECTION, /* added to the scores that choose, not to those that weigh */
    MU_ROLE_EXPERT_GATE,
    MU_ROLE_EXPERT_UP,
    MU_ROLE_EXPERT_DOWN,
    MU_ROLE_EXPERT_GATE_BIAS,
    MU_ROLE_EXPERT_UP_BIAS,
    MU_ROLE_EXPERT_DOWN_BIAS,
    MU_ROLE_SHARED_GATE,
    MU_ROLE_SHARED_UP,
    MU_ROLE_SHARED_DOWN,
    MU_ROLE_SHARED_MIX, /* one row: how much of the shared expert a token takes */
    MU_ROLE_COUNT
};

/* Whether only the rows that chose its expert read a tensor. */
static inline bool mu_role_of_expert(enum mu_tensor_role role)
{
    return role >= MU_ROLE_EXPERT_GATE && role <= MU_ROLE_EXPERT_DOWN_BIAS;
}

#define MU_TENSOR_NAME_MAX 80

/* The sums over K that tensor-parallel ranks share: what their columns are. */
enum mu_cut_name {
    MU_CUT_NONE,
    MU_CUT_O,    /* heads */
    MU_CUT_DOWN, /* the MLP's intermediate values, in blocks of 32; so the others */
    MU_CUT_EXPERT,
    MU_CUT_SHARED, /* of the shared expert */
    MU_CUT_COUNT
};

/* One tensor of the file, or the slice of it that the shard owns. */
struct mu_tensor_use {
    enum mu_tensor_role role;
    uint32_t layer, expert;
    char name[MU_TENSOR_NAME_MAX]; /* in the file */
    bool vector;                   /* one row, kept as fp32 */
    bool optional;                 /* absent means zero (a bias) */
    uint32_t file_rows, file_cols; /* the whole tensor's shape, to be checked; vectors: 1, n */
    uint32_t row_first, rows;      /* rows [row_first, row_first + rows) of the tensor */
    uint32_t col_first, cols;
    uint32_t step;       /* stored rows (a vector's values) from one of ours to the next; 0: 1 */
    uint32_t swap_heads; /* > 0: rows come in this many heads whose rope pairs lie side by side */
    uint32_t swap_from;  /* ... from this row of each head on */
    bool transposed;     /* our rows are stored columns: row_first and step count columns of the
                          * file, col_first counts its rows */
    bool row_parallel;   /* multiplied by cut sums: column borders follow the cut */
    enum mu_cut_name cut;
    uint32_t part;
    enum mu_home home; /* of a matrix; vectors are always on the device */
};

enum mu_op_kind {
    MU_OP_EMBED,      /* out = rows of the embedding table for the step's tokens; + next norm */
    MU_OP_LINEAR,     /* out = in W^T + bias, for up to 3 matrices side by side */
    MU_OP_ROPE_KV,    /* norm and rotate q and k in place, write k and v to the cache */
    MU_OP_LATENT_KV,  /* norm the latents; rotate the key's part, write both to the cache */
    MU_OP_Q_LATENT,   /* out = each head's query as the latent's keys want it, rotated */
    MU_OP_ATTEND,     /* out = attention of q over the cache */
    MU_OP_V_LATENT,   /* out = each head's values from its sum of latents */
    MU_OP_GLU,        /* out = act(in Wgate^T) * (in Wup^T), each + bias */
    MU_OP_LINEAR_CUT, /* out = this shard's subtrees of in W^T */
    MU_OP_EXCHANGE,   /* out = all ranks' subtrees, from in */
    MU_OP_COMBINE,    /* finish the tree; + bias, post norm; residual += ; + next norm */
    MU_OP_ROUTE,      /* out = the experts chosen by each row and their weights */
    MU_OP_GROUP,      /* gives every (row, expert) a slot, slots of one expert side by side */
    MU_OP_DISPATCH,   /* out = the row of each slot */
    MU_OP_EXPERTS, /* MU_OP_GLU of each slot with its expert\'s matrices, times the slot\'s weight
                    */
    MU_OP_EXPERTS_CUT, /* out = this shard's subtrees of all chosen experts' sums together */
    MU_OP_OUT_ROWS,    /* out = final norm of the rows whose logits are wanted */
    MU_OP_LOGITS,      /* out = in W^T, scaled and capped, for this shard's vocabulary */
    MU_OP_GATHER,      /* all ranks' logits side by side, on every rank */
    MU_OP_SEND,        /* in to the same rank of another stage */
    MU_OP_RECEIVE,     /* out from there; + next norm */
};

/* Buffers of a step; each holds `width` values a row. */
enum mu_buffer {
    MU_BUFFER_H,     /* the residual stream */
    MU_BUFFER_X,     /* normed residual: read by linears */
    MU_BUFFER_QKV,   /* q, k, v side by side */
    MU_BUFFER_ATT,   /* attention output: read by o */
    MU_BUFFER_ACT,   /* activated: read by down */
    MU_BUFFER_PART,  /* this rank's subtrees, each `width` = hidden */
    MU_BUFFER_PARTS, /* all ranks' subtrees */
    MU_BUFFER_OUT,   /* normed rows whose logits are wanted */
    MU_BUFFER_LOGIT_PART,
    MU_BUFFER_LOGITS,
    /* latent attention */
    MU_BUFFER_LATENT,     /* q's latent (or q), the latent of k and v, the key's rotated part */
    MU_BUFFER_Q_A,        /* q's latent, normed */
    MU_BUFFER_Q_LATENT,   /* queries in the latent space */
    MU_BUFFER_ATT_LATENT, /* sums of latents, one a head */
    /* experts */
    MU_BUFFER_NORMED, /* normed residual, always fp32: read by routers, and by other stages */
    MU_BUFFER_ROUTES, /* the router's logits, then the shared expert's */
    MU_BUFFER_CHOSEN, /* struct mu_choice of each chosen expert, by ascending expert */
    /* One row a slot, that is config.n_experts_used rows a token: */
    MU_BUFFER_SLOT_X,
    MU_BUFFER_SLOT_ACT,
    MU_BUFFER_COUNT
};

static inline bool mu_buffer_has_slots(enum mu_buffer b)
{
    return b >= MU_BUFFER_SLOT_X;
}

struct mu_choice {
    uint32_t expert, slot;
    float weight;
};

#define MU_NO_TENSOR UINT32_MAX

struct mu_op {
    enum mu_op_kind kind;
    uint32_t layer;
    bool out_rows; /* works on the rows whose logits are wanted, not on all */
    enum mu_buffer in, out;
    uint32_t n_weights, weights[3]; /* into tensors; outputs side by side in `out` */
    uint32_t biases[3];             /* MU_NO_TENSOR: none */
    uint32_t n_groups; /* > 0: weights and biases are the first of so many, one an expert; of EMBED:
                        * slices of the table, all but the last of as many rows */
    uint32_t first;    /* LOGITS: the outputs are those from here on */
    uint32_t width;    /* GLU: values of a row */
    enum mu_cut_name cut;
    uint32_t peer;        /* SEND, RECEIVE: the other stage */
    bool exact;           /* a linear whose activations stay fp32 */
    bool mixed;           /* GLU: scaled by the shared expert's share of the row */
    uint32_t norm, norm2; /* next norm (into MU_BUFFER_X); q and k norm for ROPE_KV */
    uint32_t post_norm;
    bool normed;     /* writes MU_BUFFER_X: through `norm`, or plainly without one */
    bool normed_f32; /* ... and (or) MU_BUFFER_NORMED */
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
    uint32_t width[MU_BUFFER_COUNT];       /* 0: not used by this shard */
    struct mu_cut_plan cuts[MU_CUT_COUNT]; /* n is 0 for what the model does not have */
    /* this shard's heads */
    uint32_t head_first, n_heads;
    uint32_t kv_first, n_kv_heads;
    uint32_t *kv_head;           /* [n_heads] -> this shard's KV head */
    uint32_t key_dim, value_dim; /* of a cached key; of what attention gives for a head */
    bool latent;                 /* the cache holds one latent a token, key and value in one */
    uint32_t vocab_n;            /* segments of the vocabulary */
    uint32_t vocab_first, vocab; /* this shard's rows of embedding and head */
    bool holds_head;
    uint32_t n_cached;     /* layers whose attention this shard does */
    uint32_t *cache_layer; /* [config.n_layers] -> which of these */
    float embed_scale, attn_scale, residual_scale, logit_scale, norm_offset;
};

/* What a tensor is called in a file of that naming. */
void mu_model_tensor_name(const struct mu_arch *arch, enum mu_names names, enum mu_tensor_role role,
                          uint32_t layer, uint32_t expert, char out[MU_TENSOR_NAME_MAX]);

/* How many tensor-parallel ranks the contract allows for this model at most. */
uint32_t mu_model_tp_max(const struct mu_config *config);

/* Builds the program of a shard in `arena`; the config must outlive it. */
mu_status mu_program_build(const struct mu_config *config, const struct mu_shard *shard,
                           struct mu_arena *arena, struct mu_program **out, struct mu_err *err);

/* Which stored row (column, where it is transposed; value, of a vector) the i-th of ours is. Where
 * files hold rope pairs side by side, memory has all first halves before all second halves. */
uint32_t mu_tensor_use_row(const struct mu_tensor_use *use, uint32_t i);

/*
 * The rows of a stored tensor as a shard wants them: where they lie in the file, or made in a room
 * of the caller's (64-byte aligned, room_bytes, one a thread) when they are stored in another
 * order, on their side, or made on demand. How blocks are decoded the caller brings along.
 */
#define MU_USE_ROWS 64 /* at once, at most */
typedef void mu_decode_fn(enum mu_dtype type, const void *stored, float *out, uint64_t n);
struct mu_use_rows {
    const struct mu_tensor_use *use;
    const struct mu_tensor *tensor;
    enum mu_dtype type; /* of the rows; not the tensor's where blocks had to be turned round */
    bool packed;        /* rows of tensor->packed_type: see mu_tensor_packed_rows */
    uint64_t row_bytes;
    size_t room_bytes, made;
    mu_decode_fn *decode;
};
enum mu_dtype mu_use_rows_type(const struct mu_tensor_use *use, const struct mu_tensor *tensor);
uint64_t mu_use_rows_values(const struct mu_tensor_use *use); /* of a row */
void mu_use_rows_init(struct mu_use_rows *rows, const struct mu_tensor_use *use,
                      const struct mu_tensor *tensor, bool packed, mu_decode_fn *decode);
void mu_use_rows_get(const struct mu_use_rows *rows, uint32_t first, uint32_t n, uint8_t *room,
                     const uint8_t **out);
/* The values of a vector; `stored` has room for a stored row, `whole` for its values. */
void mu_use_vector(const struct mu_tensor_use *use, const struct mu_tensor *tensor,
                   mu_decode_fn *decode, uint8_t *stored, float *whole, float *out);

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
/* By how much yarn says that attention grows with the stretch of the context. */
double mu_rope_mscale(double factor, double mscale);
void mu_rope_frequencies(const struct mu_config *config, uint64_t context, bool local,
                         float *inverse, float *scale);

#endif
