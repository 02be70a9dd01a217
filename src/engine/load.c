/*
 * Loads a rank's weights: finds each tensor of its program in the file, checks it, and has the
 * kernels pack the rows and columns that the rank owns. Called by rank.c, on the rank's thread.
 */
#include "engine/rank.h"

#include "base/file.h"

#include <math.h>

static mu_status check_tensor(const struct mu_tensor_use *use, const struct mu_tensor *t,
                              struct mu_err *err)
{
    uint64_t cols = t->n_dims ? t->dims[t->n_dims - 1] : 0;
    uint64_t rows = cols ? t->n_values / cols : 0;
    if (rows != use->file_rows || cols != use->file_cols)
        return mu_fail(err, MU_E_INPUT, "tensor %s is %llu x %llu, the configuration says %u x %u",
                       t->name, (unsigned long long)rows, (unsigned long long)cols, use->file_rows,
                       use->file_cols);
    if (!mu_codec_can_decode(t->type))
        return mu_fail(err, MU_E_UNSUPPORTED, "tensor %s has the type %s, which cannot be read",
                       t->name, mu_dtype(t->type)->name);
    return MU_OK;
}

mu_status mu_rank_find_tensor(const struct mu_rank *rank, const struct mu_tensor_use *use,
                              const struct mu_tensor **out, struct mu_err *err)
{
    const struct mu_model_file *file = rank->common->file;
    const struct mu_tensor *t = mu_model_file_find(file, use->name);
    mu_status status = t ? check_tensor(use, t, err)
                         : mu_fail(err, MU_E_INPUT, "tensor %s is not there", use->name);
    mu_err_where(err, "%s", mu_model_file_name(file));
    if (status == MU_OK) *out = t;
    return status;
}

/* ---- Vectors ---- */

static mu_status load_vector(struct mu_rank *rank, uint32_t i, const struct mu_tensor *t,
                             struct mu_err *err)
{
    const struct mu_tensor_use *use = &rank->program->tensors[i];
    uint64_t row_bytes = mu_tensor_row_bytes(t);
    uint8_t *stored = mu_alloc(row_bytes);
    float *whole = mu_alloc((size_t)use->file_cols * sizeof *whole);
    mu_status status = stored && whole ? MU_OK : mu_fail_memory(err, row_bytes);
    if (status == MU_OK) {
        float *data = rank->weights[i].data;
        mu_use_vector(use, t, mu_codec_decode, stored, whole, data);
        for (uint32_t j = 0; status == MU_OK && j < use->cols; j++)
            if (!isfinite(data[j]))
                status = mu_fail(err, MU_E_INPUT, "tensor %s holds a value that is not finite",
                                 use->name);
        mu_err_where(err, "%s", mu_model_file_name(rank->common->file));
    }
    mu_free(stored);
    mu_free(whole);
    return status;
}

/* ---- Matrices ---- */

enum mu_dtype mu_rank_held_type(const struct mu_rank *rank, const struct mu_tensor_use *use,
                                const struct mu_tensor *t)
{
    enum mu_dtype own = t->columns && !use->transposed ? t->packed_type : mu_use_rows_type(use, t);
    enum mu_dtype wanted = mu_codec_fit(rank->common->weights, mu_use_rows_values(use));
    return mu_dtype_wider(own, wanted) ? wanted : own;
}

/* Packing shared out over the team: pieces of MU_USE_ROWS rows of one matrix. */
struct pack_job {
    struct mu_rank *rank;
    struct mu_weight *weight;
    struct mu_use_rows rows;
    uint64_t held_bytes; /* of a requantised row; 0: none is */
    /* What a member works in: the rows' own room, requantised rows, and the values of one. */
    uint8_t *rooms;
    size_t held, room;
};

static void requantise(const struct pack_job *job, uint32_t n, uint8_t *room, const uint8_t **rows)
{
    uint64_t values = mu_use_rows_values(job->rows.use);
    float *wide = (float *)(void *)(room + job->rows.room_bytes + job->held);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *held = room + job->rows.room_bytes + i * job->held_bytes;
        mu_codec_decode(job->rows.type, rows[i], wide, values);
        mu_codec_encode(job->weight->type, wide, held, values);
        rows[i] = held;
    }
}

static void pack_member(void *arg, unsigned member)
{
    struct pack_job *job = arg;
    uint32_t n_pieces = MU_CEIL_DIV(job->weight->rows, MU_USE_ROWS);
    uint32_t piece;
    while ((piece = mu_team_claim(job->rank->team, member, n_pieces)) < n_pieces) {
        const uint8_t *rows[MU_USE_ROWS];
        uint32_t first = piece * MU_USE_ROWS, n = MU_MIN(MU_USE_ROWS, job->weight->rows - first);
        uint8_t *room = job->rooms + member * job->room;
        mu_use_rows_get(&job->rows, first, n, room, rows);
        if (job->held_bytes) requantise(job, n, room, rows);
        job->rank->common->kernels->weight_pack(job->weight, first, n, rows);
        atomic_fetch_add_explicit(&job->rank->common->loaded_bytes,
                                  job->weight->bytes * n / job->weight->rows, memory_order_relaxed);
    }
}

static mu_status load_matrix(struct mu_rank *rank, uint32_t i, const struct mu_tensor *t,
                             struct mu_err *err)
{
    const struct mu_tensor_use *use = &rank->program->tensors[i];
    struct pack_job job = {.rank = rank, .weight = &rank->weights[i]};
    uint64_t values = mu_use_rows_values(use);
    mu_use_rows_init(&job.rows, use, t, job.weight->columns != NULL, mu_codec_decode);
    job.room = job.rows.room_bytes;
    if (job.weight->type != job.rows.type) {
        (void)mu_dtype_bytes(job.weight->type, values, &job.held_bytes);
        job.held = MU_ROUND_UP(MU_USE_ROWS * job.held_bytes, 64);
        job.room += job.held + MU_ROUND_UP(values * sizeof(float), 64);
    }
    size_t size = job.room * mu_team_size(rank->team);
    job.rooms = mu_alloc_aligned(64, size + 64);
    if (!job.rooms) return mu_fail_memory(err, size);
    mu_team_run(rank->team, pack_member, &job);
    mu_free(job.rooms);
    return MU_OK;
}

/* What was read stays in the page cache, but no longer counts as this process's memory. */
static void release(const struct mu_tensor *t)
{
    if (t && t->data) mu_file_release(t->data, t->n_bytes);
}

mu_status mu_rank_load_weights(struct mu_rank *rank, struct mu_err *err)
{
    const struct mu_program *p = rank->program;
    const struct mu_tensor *t = NULL;
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct mu_tensor_use *use = &p->tensors[i];
        struct mu_weight *w = &rank->weights[i];
        const struct mu_tensor *before = t;
        MU_TRY(mu_rank_find_tensor(rank, use, &t, err));
        if (before != t) release(before);
        MU_TRY(
            mu_device_alloc(rank->device, MU_PURPOSE_WEIGHTS, w->bytes, use->name, &w->data, err));
        MU_TRY(use->vector ? load_vector(rank, i, t, err) : load_matrix(rank, i, t, err));
    }
    release(t);
    return MU_OK;
}
