/*
 * What the files that build a program share: adding operations and tensors to it. Only they may
 * include this.
 */
#ifndef MU_MODEL_PROGRAM_INT_H
#define MU_MODEL_PROGRAM_INT_H

#include "model/model.h"

/*
 * Every shard's builder walks the whole model, so that all agree on who hands what to whom; what is
 * executed elsewhere goes nowhere.
 */
struct mu_builder {
    struct mu_program *p;
    bool exchange;          /* more than one tensor-parallel rank */
    uint32_t part;          /* what is being added, */
    uint32_t stage;         /* that executes it, */
    bool mine;              /* and whether it is this shard's */
    enum mu_home home;      /* of matrices being added */
    uint64_t has_h;         /* stages that have the residual as it is now, one bit each */
    struct mu_op elsewhere; /* the last operation of another stage */
};

/* Columns of a layer's matrices that read the residual, and how their rows are stored. */
struct mu_rows {
    uint32_t whole, first, n; /* in the stored tensor; step counts there too */
    uint32_t step, swap_heads, swap_from, expert;
    bool transposed;
};

#define MU_OP(...)                                                                                 \
    ((struct mu_op){.biases = {MU_NO_TENSOR, MU_NO_TENSOR, MU_NO_TENSOR},                          \
                    .norm = MU_NO_TENSOR,                                                          \
                    .norm2 = MU_NO_TENSOR,                                                         \
                    .post_norm = MU_NO_TENSOR,                                                     \
                    __VA_ARGS__})

struct mu_op *mu_builder_op(struct mu_builder *b, struct mu_op op);

uint32_t mu_builder_tensor(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                           struct mu_tensor_use use);
/* Values [first, first + n) of a stored vector of `whole`. */
uint32_t mu_builder_vector(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                           uint32_t whole, uint32_t first, uint32_t n);
/* A norm over the residual. */
uint32_t mu_builder_norm(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer);
/* Rows of a matrix that reads `cols` values. */
uint32_t mu_builder_rows(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                         uint32_t cols, struct mu_rows rows);
/* This shard's columns of a matrix whose sums are cut. */
uint32_t mu_builder_columns(struct mu_builder *b, enum mu_tensor_role role, uint32_t layer,
                            uint32_t whole_cols, enum mu_cut_name name);

/* Goes on with this part. */
void mu_builder_enter(struct mu_builder *b, uint32_t part);
/* Has the residual that `last` made brought to the part that reads it, through the norm of another
 * part, if the architecture has one. The reader wants it in X, in NORMED (fp32), or in both. */
struct mu_reader {
    uint32_t norm_part, part;
    enum mu_tensor_role norm;
    uint32_t layer;
    bool x, normed;
};
void mu_builder_hand_on(struct mu_builder *b, struct mu_op *last, struct mu_reader to);
/* The same to a layer's attention. */
void mu_builder_to_attention(struct mu_builder *b, struct mu_op *last, uint32_t layer);
/* Finishes the tree of a cut sum and adds it to the residual, through the norm `post_norm` where
 * the architecture has one (MU_ROLE_COUNT: none). */
struct mu_op *mu_builder_combine(struct mu_builder *b, uint32_t layer, enum mu_cut_name cut,
                                 uint32_t bias, enum mu_tensor_role post_norm);

/* One layer's attention, whose input is there; and its MLP or experts, to which `last` hands on.
 * What they return is the operation that made the residual anew. */
struct mu_op *mu_builder_attention(struct mu_builder *b, uint32_t layer);
struct mu_op *mu_builder_mlp(struct mu_builder *b, struct mu_op *last, uint32_t layer);

/* Whether a layer has experts. */
static inline bool mu_layer_has_experts(const struct mu_config *c, uint32_t layer)
{
    return c->n_experts > 0 && !c->layer_dense[layer];
}

/* The intermediate values of the experts that every token takes. */
static inline uint32_t mu_shared_ffn(const struct mu_config *c)
{
    if (c->n_experts == 0) return 0;
    return c->shared_expert_ffn ? c->shared_expert_ffn : c->n_shared_experts * c->expert_ffn;
}

#endif
