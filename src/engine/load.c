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
        mu_codec_decode(t->type, mu_tensor_rows(t, use->row_first, 1, stored), whole,
                        use->file_cols);
        for (uint32_t j = 0; j < use->cols; j++)
            data[j] = whole[mu_tensor_use_row(use, j)];
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

/* The type in which rows come whose values are wanted. Turned round, blocks of a quantised type
 * fall apart. */
static enum mu_dtype row_type(const struct mu_tensor_use *use, const struct mu_tensor *t)
{
    return use->transposed && mu_dtype(t->type)->block_values > 1 ? MU_DTYPE_F32 : t->type;
}

static uint64_t row_values(const struct mu_tensor_use *use)
{
    return use->transposed ? use->cols : use->file_cols;
}

enum mu_dtype mu_rank_held_type(const struct mu_rank *rank, const struct mu_tensor_use *use,
                                const struct mu_tensor *t)
{
    enum mu_dtype own = t->columns && !use->transposed ? t->packed_type : row_type(use, t);
    enum mu_dtype wanted = mu_codec_fit(rank->common->weights, row_values(use));
    return mu_dtype_wider(own, wanted) ? wanted : own;
}

/* Packing shared out over the team: pieces of PACK_ROWS rows of one matrix. */
#define PACK_ROWS 64

struct pack_job {
    struct mu_rank *rank;
    const struct mu_tensor *tensor;
    const struct mu_tensor_use *use;
    struct mu_weight *weight;
    enum mu_dtype row_type;
    uint64_t row_bytes, held_bytes; /* of a row before and after requantising */
    /* What a member works in, 0 bytes for what this matrix does not need: rows that are not mapped
     * as they are wanted, the same requantised, a stored row to turn, and a row's values. */
    uint8_t *rooms;
    size_t made, held, stored, values, room;
};

static size_t room_part(size_t bytes)
{
    return MU_ROUND_UP(bytes, 64);
}

/* Rows [first, first + n) out of the columns of a stored tensor. */
static void turn_rows(const struct pack_job *job, uint32_t first, uint32_t n, uint8_t *room)
{
    const struct mu_tensor_use *use = job->use;
    const struct mu_tensor *t = job->tensor;
    size_t size = mu_dtype(job->row_type)->block_bytes;
    uint8_t *scratch = room + job->made + job->held;
    float *values = (float *)(void *)(scratch + job->stored);
    for (uint32_t c = 0; c < use->cols; c++) {
        const uint8_t *stored = mu_tensor_rows(t, use->col_first + c, 1, scratch);
        if (t->type != job->row_type) {
            mu_codec_decode(t->type, stored, values, use->file_cols);
            stored = (const uint8_t *)values;
        }
        for (uint32_t i = 0; i < n; i++)
            memcpy(room + i * job->row_bytes + c * size,
                   stored + mu_tensor_use_row(use, first + i) * size, size);
    }
}

/* Where rows [first, first + n) lie: in the mapping, or made in the room. */
static void get_rows(const struct pack_job *job, uint32_t first, uint32_t n, uint8_t *room,
                     const uint8_t **rows)
{
    const struct mu_tensor_use *use = job->use;
    const uint8_t *all = room;
    bool adjacent = use->swap_heads == 0 && use->step <= 1;
    if (use->transposed)
        turn_rows(job, first, n, room);
    else if (job->weight->columns)
        mu_tensor_packed_rows(job->tensor, mu_tensor_use_row(use, first), n, room);
    else if (adjacent)
        all = mu_tensor_rows(job->tensor, mu_tensor_use_row(use, first), n, room);
    for (uint32_t i = 0; i < n; i++)
        if (adjacent || use->transposed)
            rows[i] = all + i * job->row_bytes;
        else
            rows[i] = mu_tensor_rows(job->tensor, mu_tensor_use_row(use, first + i), 1,
                                     job->made ? room + i * job->row_bytes : NULL);
}

static void requantise(const struct pack_job *job, uint32_t n, uint8_t *room, const uint8_t **rows)
{
    float *values = (float *)(void *)(room + job->made + job->held + job->stored);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *held = room + job->made + i * job->held_bytes;
        mu_codec_decode(job->row_type, rows[i], values, row_values(job->use));
        mu_codec_encode(job->weight->type, values, held, row_values(job->use));
        rows[i] = held;
    }
}

static void pack_member(void *arg, unsigned member)
{
    struct pack_job *job = arg;
    uint32_t n_pieces = MU_CEIL_DIV(job->weight->rows, PACK_ROWS);
    uint32_t piece;
    while ((piece = mu_team_claim(job->rank->team)) < n_pieces) {
        const uint8_t *rows[PACK_ROWS];
        uint32_t first = piece * PACK_ROWS, n = MU_MIN(PACK_ROWS, job->weight->rows - first);
        uint8_t *room = job->rooms + member * job->room;
        get_rows(job, first, n, room, rows);
        if (job->held) requantise(job, n, room, rows);
        job->rank->common->kernels->weight_pack(job->weight, first, n, rows);
        atomic_fetch_add_explicit(&job->rank->common->loaded_bytes,
                                  job->weight->bytes * n / job->weight->rows, memory_order_relaxed);
    }
}

static mu_status load_matrix(struct mu_rank *rank, uint32_t i, const struct mu_tensor *t,
                             struct mu_err *err)
{
    const struct mu_tensor_use *use = &rank->program->tensors[i];
    struct pack_job job = {.rank = rank,
                           .tensor = t,
                           .use = use,
                           .weight = &rank->weights[i],
                           .row_type = row_type(use, t)};
    if (job.weight->columns) job.row_type = job.weight->type;
    bool requantised = job.weight->type != job.row_type;
    (void)mu_dtype_bytes(job.row_type, row_values(use), &job.row_bytes);
    if (job.weight->columns) job.row_bytes = mu_tensor_packed_row_bytes(t);
    (void)mu_dtype_bytes(job.weight->type, row_values(use), &job.held_bytes);
    if (!t->data || use->transposed) job.made = room_part(PACK_ROWS * job.row_bytes);
    if (requantised) job.held = room_part(PACK_ROWS * job.held_bytes);
    if (use->transposed) job.stored = room_part(mu_tensor_row_bytes(t));
    if (requantised || use->transposed)
        job.values = room_part(MU_MAX(use->file_cols, use->cols) * sizeof(float));
    job.room = job.made + job.held + job.stored + job.values;
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
