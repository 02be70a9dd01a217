/*
 * What the files that execute a step share: the run, where its rows lie, and the operations that
 * have files of their own. Only they may include this. See execute.c.
 */
#ifndef MU_ENGINE_EXECUTE_INT_H
#define MU_ENGINE_EXECUTE_INT_H

#include "engine/rank.h"

struct run {
    struct mu_rank *rank;
    const struct mu_program *p;
    const struct mu_kernels *k;
    struct mu_step step;
    uint32_t serial;
    uint32_t n_rows, n_out;
};

static inline float *row_f32(const struct run *run, enum mu_buffer b, uint32_t row)
{
    return (float *)run->rank->buffers[b] + (size_t)row * run->p->width[b];
}

static inline void *row_formed(const struct run *run, enum mu_buffer b, uint32_t row)
{
    return (char *)run->rank->buffers[b] + (size_t)row * run->rank->row_bytes[b];
}

static inline const float *vector(const struct run *run, uint32_t tensor)
{
    return tensor == MU_NO_TENSOR ? NULL : run->rank->weights[tensor].data;
}

static inline float *scratch_of(const struct run *run, unsigned member)
{
    return run->rank->scratch + member * run->rank->scratch_floats;
}

/* How many outputs of `rows` a piece of a linear takes. */
uint32_t mu_run_linear_step(const struct run *run, uint32_t rows);
/* execute_attention.c */
void mu_run_rope_kv(const struct run *run, const struct mu_op *op, uint32_t row);
/* Whether the pieces of attention rotate their heads themselves, so that ROPE_KV is left out. */
bool mu_run_attend_rotates(const struct run *run);
uint32_t mu_run_attend_pieces(const struct run *run, const struct mu_op *op);
void mu_run_attend(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t piece,
                   unsigned member);
/* Where a layer's key (value: 1) of a token in a block of the cache lies. */
void *mu_run_cache_at(const struct run *run, uint32_t layer, unsigned value, uint32_t block,
                      uint32_t kv, uint32_t token);

/* A gated linear unit over some rows. */
struct glu {
    const struct mu_weight *gate, *up;
    const float *gate_bias, *up_bias; /* or NULL */
    uint32_t row, n_rows;             /* of op->in and op->out alike */
};
/* How many of `columns` a piece of it takes. */
uint32_t mu_run_glu_step(const struct run *run, uint32_t columns);
/* Columns [first, end) of the operation's output; first is a multiple of 32. */
void mu_run_glu_columns(const struct run *run, const struct mu_op *op, uint32_t i,
                        const struct glu *glu, uint32_t first, uint32_t end, float *scratch);

/* execute_experts.c */
void mu_run_route(const struct run *run, const struct mu_op *op, uint32_t row, unsigned member);
void mu_run_group(const struct run *run);
void mu_run_dispatch(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t row);
uint32_t mu_run_experts_pieces(const struct run *run, const struct mu_op *op);
void mu_run_experts(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t piece,
                    unsigned member);
void mu_run_experts_cut(const struct run *run, const struct mu_op *op, uint32_t piece,
                        unsigned member);
/* Adds the biases of the row's experts, by their weights, to the row's sum. */
void mu_run_expert_biases(const struct run *run, const struct mu_op *op, uint32_t row, float *sum);
/* How much of the shared expert a row takes. */
float mu_run_shared_share(const struct run *run, uint32_t row);

/* execute_latent.c */
void mu_run_latent_kv(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t row,
                      unsigned member);
void mu_run_q_latent(const struct run *run, const struct mu_op *op, uint32_t head);
void mu_run_v_latent(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t head,
                     unsigned member);

#endif
