/*
 * A step's operations of latent attention (DeepSeek): the cache holds one latent a token, which is
 * key and value of all heads; queries are brought into its space and values out of it, by one
 * matrix a head. Called by execute.c.
 */
#include "engine/execute_int.h"

static void rotate(const struct run *run, float *x, uint32_t row)
{
    const struct mu_rank *rank = run->rank;
    uint32_t width = mu_rope_width(run->p->config);
    size_t at = (size_t)run->step.positions[row] * (width / 2);
    run->k->rope(x, rank->cos + at, rank->sin + at, width);
}

void mu_run_latent_kv(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t row,
                      unsigned member)
{
    const struct mu_program *p = run->p;
    const struct mu_config *c = p->config;
    const struct mu_rank *rank = run->rank;
    float eps = (float)c->norm_eps, *key = scratch_of(run, member);
    const float *latent = row_f32(run, op->in, row), *q_norm = vector(run, op->norm);
    if (q_norm) {
        run->k->norm(key, latent, q_norm, op->width, eps, 0);
        run->k->form_store(rank->forms[i].out, row_formed(run, op->out, row), op->width, 0,
                           op->width, key);
    }
    latent += p->width[op->in] - p->key_dim;
    run->k->norm(key, latent, vector(run, op->norm2), c->kv_lora_rank, eps, 0);
    memcpy(key + c->kv_lora_rank, latent + c->kv_lora_rank, c->qk_rope_head_dim * sizeof *key);
    rotate(run, key + c->kv_lora_rank, row);
    const uint32_t *table =
        run->step.tables + (size_t)run->step.sequences[row] * rank->common->layout.max_blocks;
    uint32_t position = run->step.positions[row];
    void *cached = mu_run_cache_at(run, op->layer, 0, table[position / MU_KV_BLOCK_TOKENS], 0,
                                   position % MU_KV_BLOCK_TOKENS);
    run->k->kv_store(cached, rank->common->kv_type, key, p->key_dim);
}

void mu_run_q_latent(const struct run *run, const struct mu_op *op, uint32_t head)
{
    const struct mu_program *p = run->p;
    const struct mu_config *c = p->config;
    const struct mu_weight *w = &run->rank->weights[op->weights[0] + head];
    uint32_t own = c->qk_nope_head_dim + c->qk_rope_head_dim;
    const float *q = row_f32(run, op->in, 0) + (size_t)head * own;
    float *out = row_f32(run, op->out, 0) + (size_t)head * p->key_dim;
    struct mu_linear_args args = {.weight = w,
                                  .x = q,
                                  .x_stride = p->width[op->in] * sizeof *q,
                                  .y = out,
                                  .y_stride = p->width[op->out],
                                  .n_rows = run->n_rows};
    run->k->linear(&args, 0, w->rows);
    for (uint32_t row = 0; row < run->n_rows; row++) {
        float *turned = out + (size_t)row * p->width[op->out] + c->kv_lora_rank;
        memcpy(turned, q + (size_t)row * p->width[op->in] + c->qk_nope_head_dim,
               c->qk_rope_head_dim * sizeof *turned);
        rotate(run, turned, row);
    }
}

void mu_run_v_latent(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t head,
                     unsigned member)
{
    const struct mu_program *p = run->p;
    const struct mu_weight *w = &run->rank->weights[op->weights[0] + head];
    float *y = scratch_of(run, member);
    for (uint32_t row = 0, n; row < run->n_rows; row += n) {
        n = MU_MIN(run->n_rows - row, (uint32_t)MU_UNFOLD_ROWS);
        struct mu_linear_args args = {.weight = w,
                                      .x = row_f32(run, op->in, row) + (size_t)head * p->value_dim,
                                      .x_stride = p->width[op->in] * sizeof *y,
                                      .y = y,
                                      .y_stride = w->rows,
                                      .n_rows = n};
        run->k->linear(&args, 0, w->rows);
        for (uint32_t r = 0; r < n; r++)
            run->k->form_store(run->rank->forms[i].out, row_formed(run, op->out, row + r),
                               p->width[op->out], head * w->rows, w->rows, y + r * w->rows);
    }
}
