/* A rank's sizes and memory; see rank.h. Weights are loaded in load.c, steps run in execute.c. */
#include "engine/rank.h"

#include "base/checked.h"
#include "base/file.h"
#include "engine/profile.h"

#include <math.h>
#include <stdio.h>

#define ARENA_MAX_BYTES (256u << 20)

static bool borders_fit_blocks(const struct mu_cut_plan *cut)
{
    for (uint32_t i = 0; i <= cut->n; i++)
        if (cut->border[i] % 32 != 0) return false;
    return true;
}

/* Whether a block of 32 activations never straddles a segment, nor a piece of work. Decided by the
 * model alone, so that all degrees of parallelism decide alike. */
static bool blocks_allowed(const struct mu_program *p, const struct mu_tensor_use *use)
{
    if (!use->row_parallel) return use->cols % 32 == 0;
    uint32_t head = p->latent ? p->config->v_head_dim : p->config->head_dim;
    if (use->cut == MU_CUT_O && head % 32 != 0) return false;
    return borders_fit_blocks(&p->cuts[use->cut]);
}

static mu_status size_weight(struct mu_rank *rank, uint32_t i, struct mu_err *err)
{
    const struct mu_tensor_use *use = &rank->program->tensors[i];
    const struct mu_kernels *k = rank->common->kernels;
    const struct mu_tensor *t;
    MU_TRY(mu_rank_find_tensor(rank, use, &t, err));
    struct mu_weight *w = &rank->weights[i];
    *w = (struct mu_weight){
        .rows = use->rows, .cols = use->cols, .col_first = use->transposed ? 0 : use->col_first};
    if (use->vector) {
        w->type = MU_DTYPE_F32;
        w->bytes = (uint64_t)use->cols * sizeof(float);
        return MU_OK;
    }
    w->type = mu_rank_held_type(rank, use, t);
    if (t->columns && w->type == t->packed_type) w->columns = t->columns;
    w->form = k->form(w->type, rank->common->compute);
    if (w->form != MU_FORM_F32 && !blocks_allowed(rank->program, use)) w->form = MU_FORM_F32;
    return MU_OK;
}

/* The form that all matrices of an operation can read. */
static enum mu_form form_of(const struct mu_rank *rank, const struct mu_op *op)
{
    enum mu_form form = rank->weights[op->weights[0]].form;
    if (op->exact) return MU_FORM_F32;
    for (uint32_t j = 0; j < op->n_weights; j++)
        for (uint32_t g = 0; g < MU_MAX(op->n_groups, 1u); g++)
            if (rank->weights[op->weights[j] + g].form != form) form = MU_FORM_F32;
    return form;
}

/* Matrices that read the same activations in one operation agree on a form; then sizes follow. */
static void agree_on_forms(struct mu_rank *rank)
{
    const struct mu_program *p = rank->program;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct mu_op *op = &p->ops[i];
        if (op->n_weights == 0 || op->kind == MU_OP_EMBED) continue;
        enum mu_form form = form_of(rank, op);
        for (uint32_t j = 0; j < op->n_weights; j++)
            for (uint32_t g = 0; g < MU_MAX(op->n_groups, 1u); g++)
                rank->weights[op->weights[j] + g].form = form;
        rank->forms[i].in = form;
        size_t bytes = rank->common->kernels->form_bytes(form, p->width[op->in]);
        /* An odd number of cache lines: rows then spread over the sets of a cache. */
        rank->row_bytes[op->in] = MU_MAX(rank->row_bytes[op->in], MU_ROUND_UP(bytes, 64) | 64);
    }
    for (uint32_t i = 0; i < p->n_tensors; i++)
        if (!p->tensors[i].vector) {
            struct mu_weight *w = &rank->weights[i];
            w->bytes = rank->common->kernels->weight_bytes(w->type, w->form, w->rows, w->col_first,
                                                           w->cols) +
                       mu_weight_table_bytes(w->columns, w->rows);
        }
}

/* An operation that stores activations stores them in the form of the next linear that reads. */
static void find_out_forms(struct mu_rank *rank)
{
    const struct mu_program *p = rank->program;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        enum mu_buffer b = p->ops[i].normed ? MU_BUFFER_X : p->ops[i].out;
        rank->forms[i].out = MU_FORM_F32;
        for (uint32_t j = i + 1; j < p->n_ops; j++)
            if (p->ops[j].n_weights > 0 && p->ops[j].in == b && p->ops[j].kind != MU_OP_EMBED) {
                rank->forms[i].out = rank->forms[j].in;
                break;
            }
    }
}

static struct mu_cut local_cut(const struct mu_cut_plan *plan)
{
    struct mu_cut cut = {.n = plan->n, .run = plan->run};
    for (uint32_t s = plan->run.first; s <= plan->run.end; s++)
        cut.border[s - plan->run.first] = plan->border[s] - plan->border[plan->run.first];
    return cut;
}

static bool formed(enum mu_buffer b)
{
    return b == MU_BUFFER_X || b == MU_BUFFER_ATT || b == MU_BUFFER_ACT || b == MU_BUFFER_OUT ||
           b == MU_BUFFER_Q_A || b == MU_BUFFER_SLOT_X || b == MU_BUFFER_SLOT_ACT;
}

/* What one thread needs beside the buffers, in floats. */
static size_t scratch_floats(const struct mu_rank *rank)
{
    const struct mu_program *p = rank->program;
    const struct mu_rank_common *c = rank->common;
    size_t most =
        c->kernels->attend_scratch(MU_ATTEND_QUERIES, p->key_dim, p->value_dim, c->context) +
        (size_t)MU_ATTEND_QUERIES * (p->value_dim + p->key_dim); /* and its results, and queries */
    most = MU_MAX(most, (size_t)c->config->hidden * 2);
    most = MU_MAX(most, (size_t)MU_GLU_VALUES * 2);
    if (p->latent) {
        most = MU_MAX(most, (size_t)MU_UNFOLD_ROWS * c->config->v_head_dim);
        most = MU_MAX(most, (size_t)MU_MAX(p->key_dim, c->config->q_lora_rank));
    }
    if (p->width[MU_BUFFER_ROUTES] > 0) {
        struct mu_run run = p->cuts[MU_CUT_EXPERT].run;
        size_t sums = (size_t)(run.end - run.first) * c->layout.max_rows * c->kernels->row_tile;
        most = MU_MAX(most, MU_MAX(sums, (size_t)c->config->n_experts * 3));
    }
    return MU_ROUND_UP(most, 16);
}

static void size_buffers(struct mu_rank *rank)
{
    const struct mu_program *p = rank->program;
    const struct mu_rank_common *c = rank->common;
    for (int b = 0; b < MU_BUFFER_COUNT; b++) {
        bool out = b == MU_BUFFER_OUT || b == MU_BUFFER_LOGITS || b == MU_BUFFER_LOGIT_PART;
        uint64_t rows = out ? c->layout.max_out : c->layout.max_rows;
        if (!formed((enum mu_buffer)b)) rank->row_bytes[b] = (size_t)p->width[b] * sizeof(float);
        if (b == MU_BUFFER_LOGITS) rows *= c->n_slots;
        if (mu_buffer_has_slots((enum mu_buffer)b)) rows *= c->config->n_experts_used;
        rank->buffer_bytes[b] = rows * rank->row_bytes[b];
    }
    rank->scratch_floats = scratch_floats(rank);
    rank->scratch_bytes = rank->scratch_floats * sizeof(float) * rank->spec->n_threads;
    /* A run is of one KV head at least, and no more are made than a team may have pieces. */
    uint64_t pieces = (uint64_t)rank->spec->n_threads * MU_PIECES_A_THREAD;
    rank->partials_bytes = MU_CEIL_DIV(pieces, p->n_kv_heads) * p->n_heads *
                           ((uint64_t)p->value_dim + 2) * sizeof(float);
    rank->runs_bytes = rank->partials_bytes + pieces * sizeof(uint32_t);
    uint64_t slots = (uint64_t)c->layout.max_rows * c->config->n_experts_used;
    if (p->width[MU_BUFFER_ROUTES] > 0)
        rank->groups_bytes =
            (2 + 2 * (uint64_t)c->config->n_experts + 2 * slots) * sizeof(uint32_t);
}

mu_status mu_rank_init(struct mu_rank *rank, struct mu_rank_common *common,
                       const struct mu_device_spec *spec, const struct mu_shard *shard,
                       struct mu_err *err)
{
    *rank = (struct mu_rank){.common = common, .spec = spec};
    rank->arena = mu_arena_create(ARENA_MAX_BYTES);
    if (!rank->arena) return mu_fail_memory(err, ARENA_MAX_BYTES);
    MU_TRY(mu_program_build(common->config, shard, rank->arena, &rank->program, err));
    const struct mu_program *p = rank->program;
    rank->weights = mu_arena_alloc(rank->arena, p->n_tensors, sizeof *rank->weights);
    rank->forms = mu_arena_alloc(rank->arena, p->n_ops, sizeof *rank->forms);
    rank->away = mu_arena_alloc(rank->arena, p->n_tensors, sizeof *rank->away);
    if (!rank->weights || !rank->forms || !rank->away)
        return mu_fail_memory(err, p->n_tensors * sizeof *rank->weights);
    if (common->profile && !(rank->profile = mu_profile_create(rank->arena, p)))
        return mu_fail_memory(err, p->n_ops * sizeof(uint64_t));
    for (uint32_t i = 0; i < p->n_tensors; i++)
        MU_TRY(size_weight(rank, i, err));
    agree_on_forms(rank);
    find_out_forms(rank);
    MU_TRY(mu_staging_init(rank, err));
    for (int i = 0; i < MU_CUT_COUNT; i++)
        rank->cuts[i] = local_cut(&p->cuts[i]);
    size_buffers(rank);
    uint64_t width = mu_dtype(common->kv_type)->block_bytes;
    rank->cache_part_bytes =
        (uint64_t)common->n_blocks * p->n_kv_heads * MU_KV_BLOCK_TOKENS * p->key_dim * width;
    rank->cache_bytes = rank->cache_part_bytes * (p->latent ? 1 : 2) * p->n_cached;
    rank->rope_bytes =
        (uint64_t)common->context * (mu_rope_width(common->config) / 2) * sizeof(float);
    return MU_OK;
}

uint64_t mu_rank_block_bytes(const struct mu_rank *rank)
{
    return rank->common->n_blocks ? rank->cache_bytes / rank->common->n_blocks : 0;
}

uint64_t mu_rank_weight_bytes(const struct mu_rank *rank, enum mu_home home)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < rank->program->n_tensors; i++)
        if (rank->program->tensors[i].home == home) bytes += rank->weights[i].bytes;
    return bytes;
}

void mu_rank_need(const struct mu_rank *rank, uint64_t bytes[MU_PURPOSE_COUNT])
{
    memset(bytes, 0, MU_PURPOSE_COUNT * sizeof *bytes);
    bytes[MU_PURPOSE_WEIGHTS] = mu_rank_weight_bytes(rank, MU_HOME_DEVICE);
    bytes[MU_PURPOSE_STAGING] = mu_staging_bytes(rank);
    bytes[MU_PURPOSE_KV] = rank->cache_bytes;
    for (int b = 0; b < MU_BUFFER_COUNT; b++)
        bytes[MU_PURPOSE_ACTIVATIONS] += rank->buffer_bytes[b];
    bytes[MU_PURPOSE_ACTIVATIONS] += rank->scratch_bytes + rank->groups_bytes + rank->runs_bytes;
    bytes[MU_PURPOSE_TABLES] =
        rank->rope_bytes * (rank->common->config->rope_local_theta > 0 ? 4 : 2);
}

/* cos and sin of every position, rounded to fp32 where transformers rounds. */
static mu_status make_rope(struct mu_rank *rank, bool local, float **cosines, float **sines,
                           struct mu_err *err)
{
    const struct mu_rank_common *c = rank->common;
    uint32_t half = mu_rope_width(c->config) / 2;
    MU_TRY(mu_device_alloc(rank->device, MU_PURPOSE_TABLES, rank->rope_bytes, "the rope table",
                           (void **)cosines, err));
    MU_TRY(mu_device_alloc(rank->device, MU_PURPOSE_TABLES, rank->rope_bytes, "the rope table",
                           (void **)sines, err));
    float *inverse = mu_alloc(half * sizeof *inverse + 1), scale;
    if (!inverse) return mu_fail_memory(err, half * sizeof *inverse);
    mu_rope_frequencies(c->config, c->rope_context, local, inverse, &scale);
    for (uint32_t position = 0; position < c->context; position++)
        for (uint32_t j = 0; j < half; j++) {
            double angle = (double)((float)position * inverse[j]);
            (*cosines)[(size_t)position * half + j] = (float)cos(angle) * scale;
            (*sines)[(size_t)position * half + j] = (float)sin(angle) * scale;
        }
    mu_free(inverse);
    return MU_OK;
}

static mu_status make_groups(struct mu_rank *rank, struct mu_err *err)
{
    uint32_t experts = rank->common->config->n_experts, *words;
    if (rank->groups_bytes == 0) return MU_OK;
    MU_TRY(mu_device_alloc(rank->device, MU_PURPOSE_ACTIVATIONS, rank->groups_bytes,
                           "the table of experts' rows", (void **)&words, err));
    struct mu_groups *g = &rank->groups;
    uint64_t slots = (uint64_t)rank->common->layout.max_rows * rank->common->config->n_experts_used;
    g->n_active = words;
    g->active = words + 1;
    g->first = g->active + experts;
    g->row = g->first + experts + 1;
    g->weight = (float *)(void *)(g->row + slots);
    return MU_OK;
}

static mu_status make_runs(struct mu_rank *rank, struct mu_err *err)
{
    void *runs;
    MU_TRY(mu_device_alloc(rank->device, MU_PURPOSE_ACTIVATIONS, rank->runs_bytes,
                           "what threads leave each other of attention", &runs, err));
    rank->runs.partials = runs;
    rank->runs.done = (_Atomic uint32_t *)(void *)((char *)runs + rank->partials_bytes);
    memset(rank->runs.done, 0, rank->runs_bytes - rank->partials_bytes);
    return MU_OK;
}

mu_status mu_rank_load(struct mu_rank *rank, struct mu_err *err)
{
    const struct mu_device_spec *spec = rank->spec;
    MU_TRY(mu_device_open(spec, &rank->device, err));
    MU_TRY(mu_team_create(spec->n_threads, spec->n_cpus ? spec->cpus : NULL, &rank->team, err));
    MU_TRY(make_rope(rank, false, &rank->cos, &rank->sin, err));
    if (rank->common->config->rope_local_theta > 0)
        MU_TRY(make_rope(rank, true, &rank->cos_local, &rank->sin_local, err));
    MU_TRY(mu_device_alloc(rank->device, MU_PURPOSE_KV, rank->cache_bytes, "the KV cache",
                           &rank->cache, err));
    for (int b = 0; b < MU_BUFFER_COUNT; b++)
        if (rank->buffer_bytes[b] > 0)
            MU_TRY(mu_device_alloc(rank->device, MU_PURPOSE_ACTIVATIONS, rank->buffer_bytes[b],
                                   "a step's buffer", &rank->buffers[b], err));
    MU_TRY(mu_device_alloc(rank->device, MU_PURPOSE_ACTIVATIONS, rank->scratch_bytes,
                           "the threads' scratch", (void **)&rank->scratch, err));
    MU_TRY(make_groups(rank, err));
    MU_TRY(make_runs(rank, err));
    MU_TRY(mu_rank_load_weights(rank, err));
    return mu_staging_load(rank, err);
}

void mu_rank_fini(struct mu_rank *rank)
{
    mu_team_destroy(rank->team);
    mu_staging_fini(rank);
    if (rank->device) {
        for (uint32_t i = 0; i < rank->program->n_tensors; i++) {
            bool here = rank->program->tensors[i].home == MU_HOME_DEVICE;
            if (rank->program->tensors[i].home == MU_HOME_FILE) continue;
            mu_device_free(here ? rank->device : rank->common->host, MU_PURPOSE_WEIGHTS,
                           here ? rank->weights[i].data : rank->away[i], rank->weights[i].bytes);
        }
        float *const tables[] = {rank->cos, rank->sin, rank->cos_local, rank->sin_local};
        for (size_t i = 0; i < MU_ARRAY_LEN(tables); i++)
            mu_device_free(rank->device, MU_PURPOSE_TABLES, tables[i], rank->rope_bytes);
        mu_device_free(rank->device, MU_PURPOSE_KV, rank->cache, rank->cache_bytes);
        for (int b = 0; b < MU_BUFFER_COUNT; b++)
            mu_device_free(rank->device, MU_PURPOSE_ACTIVATIONS, rank->buffers[b],
                           rank->buffer_bytes[b]);
        mu_device_free(rank->device, MU_PURPOSE_ACTIVATIONS, rank->scratch, rank->scratch_bytes);
        mu_device_free(rank->device, MU_PURPOSE_ACTIVATIONS, rank->groups.n_active,
                       rank->groups_bytes);
        mu_device_free(rank->device, MU_PURPOSE_ACTIVATIONS, rank->runs.partials, rank->runs_bytes);
        mu_device_close(rank->device);
    }
    mu_file_scratch_free(rank->disk, rank->disk_bytes);
    mu_arena_destroy(rank->arena);
}
